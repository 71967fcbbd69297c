"""GAN and LSC-GAN: the literal losses by hand, who learns from what, and each change to them."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

import lscgan
from lscgan import data, weights
from lscgan.evaluation import FaceJudge, control, fidelity
from lscgan.latent import LatentDesign
from lscgan.models import GAN, LSCGAN, LSCVAE, ConditionalVAE, Recipe
from lscgan.models.augmentation import SHIFT, augment
from lscgan.models.gan import ADVERSARIAL, BETAS
from lscgan.training import TrainingSettings, train

DESIGN = LatentDesign.lsc(["Smiling", "Bangs"], 3, size=8, shift=1.5, coding="signed")
CONDITIONAL = LatentDesign.conditional(["Smiling", "Bangs"], 2, size=8)
unhurried = settings(deadline=None, max_examples=25)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(design: LatentDesign = DESIGN, **fields: Any) -> LSCGAN:
    torch.manual_seed(0)
    return LSCGAN(design, Recipe(**fields), size=16, width=2)


def twin(model: GAN, **fields: Any) -> LSCGAN:
    """A model with the same weights, wherever the recipe leaves it the same layers."""
    other = small(model.design, **fields)
    other.load_state_dict(model.state_dict(), strict=False)
    return other.train(model.training)


def batch(count: int = 6) -> tuple[Tensor, Tensor]:
    images = torch.rand(count, 3, 16, 16, generator=seeded(1))
    return images, torch.randint(2, (count, 2), generator=seeded(2)).float()


def drawn(model: GAN, labels: Tensor) -> Tensor:
    return model.decode(model.design.sample(labels, generator=seeded(3)))


def means(labels: Tensor) -> Tensor:
    """mu(y) of DESIGN by a loop: 1.5 where an attribute is, -1.5 where it is not."""
    prior = torch.zeros(len(labels), 8)
    for row in range(len(labels)):
        for column in range(2):
            side = 1.5 if labels[row, column] == 1 else -1.5
            prior[row, 3 * column : 3 * column + 3] = side
    return prior


def divergence(model: LSCGAN, fakes: Tensor, labels: Tensor) -> Tensor:
    mean, log_variance = model.encoder(fakes)
    posterior = Normal(mean, log_variance.exp().sqrt())
    return kl_divergence(posterior, Normal(means(labels), torch.ones(len(labels), 8))).sum(1).mean()


def kept(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def steps(model: GAN, count: int = 3, rate: float = 1e-2) -> list[dict[str, Tensor]]:
    images, labels = batch()
    optimizers = model.optimizers(rate)
    torch.manual_seed(4)
    return [model.training_step(images, labels, optimizers) for _ in range(count)]


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The noise that every reparametrisation draws in this test, (6, 8)."""
    fixed = torch.randn(6, 8, generator=seeded(5))
    monkeypatch.setattr(torch, "randn_like", lambda like: fixed.to(like))
    return fixed


# --- The literal form -----------------------------------------------------------------------------


def test_the_defaults_are_the_papers_losses() -> None:
    """E[(D(x) - 1)^2] + E[D(G(z))^2], and E[(D(G(z)) - 1)^2] + KL[Q(z|G(z)) || N(mu(y), I)]."""
    model = small().eval()
    images, labels = batch()
    fakes = drawn(model, labels)
    real, fake = model.discriminator(images), model.discriminator(fakes)
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()
    torch.testing.assert_close(model.discriminator_loss(images, fakes, labels), expected)
    terms = model.generator_loss(images, fakes, labels)
    assert terms.keys() == {"generator", "adversarial", "kl"}
    kl = divergence(model, fakes, labels)
    torch.testing.assert_close(terms["adversarial"], ((fake - 1) ** 2).mean())
    torch.testing.assert_close(terms["kl"], kl)
    torch.testing.assert_close(terms["generator"], ((fake - 1) ** 2).mean() + kl)
    assert float(kl.detach()) > 0.1


def test_a_loss_is_the_mean_of_squares_and_not_the_square_of_a_mean() -> None:
    """Scores 0 and 2 miss 1 by 1 each, and on average not at all."""
    model = small(kl_weight=0.0)
    scores = torch.tensor([0.0, 2.0])
    model.discriminator.forward = lambda images, labels=None: scores  # type: ignore[method-assign]
    images, labels = batch(2)
    assert float(model.generator_loss(images, images, labels)["generator"]) == 1.0
    assert float(model.discriminator_loss(images, images, labels)) == 1.0 + 2.0


def test_a_plain_gan_has_no_other_term() -> None:
    torch.manual_seed(0)
    model = GAN(DESIGN, size=16, width=2).eval()
    images, labels = batch()
    fakes = drawn(model, labels)
    terms = model.generator_loss(images, fakes, labels)
    assert terms.keys() == {"generator", "adversarial"}
    expected = ((model.discriminator(fakes) - 1) ** 2).mean()
    torch.testing.assert_close(terms["generator"], expected)


def test_training_steps_equal_a_loop_by_hand() -> None:
    """Two steps of D and of G with Q, by an Adam of our own on the losses written out."""
    model = small()
    hand = copy.deepcopy(model)
    images, labels = batch()
    losses = steps(model, 2, rate=1e-3)

    torch.manual_seed(4)
    ours = [*hand.decoder.parameters(), *hand.encoder.parameters()]
    of_g = torch.optim.Adam(ours, lr=1e-3, betas=(0.5, 0.99))
    of_d = torch.optim.Adam(hand.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.99))
    for step in range(2):
        # A design draws part by part, each from the one source of chance.
        parts = [torch.randn(6, width) for width in (3, 3, 2)]
        fakes = hand.decoder(torch.cat(parts, dim=1) + means(labels))
        of_d.zero_grad()
        loss_d = ((hand.discriminator(images) - 1) ** 2).mean()
        loss_d = loss_d + (hand.discriminator(fakes.detach()) ** 2).mean()
        loss_d.backward()
        of_d.step()
        of_g.zero_grad()
        adversarial = ((hand.discriminator(fakes) - 1) ** 2).mean()
        kl = divergence(hand, fakes, labels)
        (adversarial + kl).backward()
        of_g.step()
        torch.testing.assert_close(losses[step]["discriminator"], loss_d.detach())
        torch.testing.assert_close(losses[step]["generator"], (adversarial + kl).detach())
    for name, tensor in hand.state_dict().items():
        if name != "steps":
            torch.testing.assert_close(model.state_dict()[name], tensor, atol=1e-5, rtol=1e-4)
    assert int(model.steps) == 2
    assert all(not value.requires_grad for value in losses[0].values())
    assert losses[0].keys() == {"generator", "adversarial", "kl", "discriminator"}


@pytest.mark.parametrize("adversarial", ADVERSARIAL)
def test_d_learns_to_tell_and_g_learns_to_be_taken_for_real(adversarial: str) -> None:
    model = small(adversarial=adversarial, kl_weight=0.0)
    labels = batch()[1]
    images = torch.zeros(6, 3, 16, 16)  # black is real, and whatever G draws is not
    optimizers = model.optimizers(1e-2)
    fakes = drawn(model, labels)
    for _ in range(40):
        optimizers["discriminator"].zero_grad()
        model.discriminator_loss(images, fakes, labels).backward()
        optimizers["discriminator"].step()
    before = float((model.discriminator(images) - model.discriminator(fakes)).mean().detach())
    assert before > 0.5
    brightness = float(fakes.mean().detach())
    for _ in range(40):
        fakes = drawn(model, labels)
        optimizers["generator"].zero_grad()
        model.generator_loss(images, fakes, labels)["generator"].backward()
        optimizers["generator"].step()
    fakes = drawn(model, labels)
    after = float((model.discriminator(images) - model.discriminator(fakes)).mean().detach())
    assert after < before / 2
    assert float(fakes.mean().detach()) < brightness


# --- Who learns from what -------------------------------------------------------------------------


def reached(module: nn.Module) -> bool:
    """Whether a gradient arrived at every parameter, rather than at none; fails in between."""
    found = [p.grad is not None and bool(p.grad.abs().max() > 0) for p in module.parameters()]
    assert all(found) or not any(found)
    return found[0]


@pytest.mark.parametrize(
    "fields", [{}, {"r1": 1.0, "r2": 1.0}, {"adversarial": "relativistic", "augmentation": True}]
)
def test_ds_loss_reaches_d_alone(fields: dict[str, Any]) -> None:
    model = small(**fields)
    images, labels = batch()
    fakes = drawn(model, labels)
    loss = model.discriminator_loss(images, fakes, labels)
    (loss + model.penalty(images, fakes, labels)).backward()
    # A relativistic loss is blind to what is added to every score: the head's bias.
    for name, parameter in model.discriminator.named_parameters():
        blind = model.recipe.adversarial == "relativistic" and name == "head.bias"
        assert parameter.grad is not None, name
        assert blind or float(parameter.grad.abs().max()) > 0, name
    assert all(p.grad is None for p in (*model.decoder.parameters(), *model.encoder.parameters()))


@pytest.mark.parametrize(
    ("term", "decoder", "encoder"),
    [
        ("adversarial", True, False),
        ("kl", True, True),
        ("reconstruction", True, True),
        ("generator", True, True),
    ],
)
@pytest.mark.parametrize("frozen", [False, True])
def test_gs_terms_reach_g_and_where_they_should_q(
    term: str, decoder: bool, encoder: bool, frozen: bool
) -> None:
    model = small(reconstruction_weight=0.5, frozen_encoder=frozen)
    images, labels = batch()
    model.generator_loss(images, drawn(model, labels), labels)[term].backward()
    assert reached(model.decoder) == decoder
    assert reached(model.encoder) == (encoder and not frozen)


def test_each_optimiser_holds_its_own_parameters() -> None:
    for model in (small(), small(frozen_encoder=True), GAN(DESIGN, size=16, width=2)):
        optimizers = model.optimizers(0.01)
        held = {
            name: {id(p) for group in o.param_groups for p in group["params"]}
            for name, o in optimizers.items()
        }
        of_g = [*model.decoder.parameters()]
        if isinstance(model, LSCGAN) and not model.recipe.frozen_encoder:
            of_g += model.encoder.parameters()
        assert held["generator"] == {id(p) for p in of_g}
        assert held["discriminator"] == {id(p) for p in model.discriminator.parameters()}
        assert BETAS == (0.5, 0.99)
        assert {group["betas"] for o in optimizers.values() for group in o.param_groups} == {BETAS}


def test_a_steps_two_halves_see_the_same_fakes_drawn_for_the_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small()
    seen: dict[str, tuple[Tensor, ...]] = {}
    changed: dict[str, bool] = {}
    for half in ("discriminator_loss", "generator_loss"):
        original = getattr(model, half)

        def spy(*terms: Tensor, half: str = half, original: Any = original) -> Any:
            seen[half] = terms
            return original(*terms)

        monkeypatch.setattr(model, half, spy)
    optimizers = model.optimizers(1e-2)
    for name, optimizer in optimizers.items():

        def step(name: str = name, optimizer: Any = optimizer, move: Any = optimizer.step) -> None:
            own, other = model.discriminator, nn.ModuleList([model.decoder, model.encoder])
            before = kept(own), kept(other)
            move()
            moved = not same(kept(own), before[0]), not same(kept(other), before[1])
            changed[name] = moved == (name == "discriminator", name == "generator")

        monkeypatch.setattr(optimizer, "step", step)
    images, labels = batch()
    torch.manual_seed(4)
    fakes = copy.deepcopy(model).decode(DESIGN.sample(labels))
    torch.manual_seed(4)
    model.training_step(images, labels, optimizers)
    assert changed == {"discriminator": True, "generator": True}
    for terms in seen.values():
        for found, expected in zip(terms, (images, fakes, labels), strict=True):
            assert torch.equal(found, expected)
    assert seen["discriminator_loss"][1] is seen["generator_loss"][1]
    # And the caller's images are left as they were, penalties or not.
    penalised = small(r1=1.0, reconstruction_weight=1.0)
    penalised.training_step(images, labels, penalised.optimizers(1e-2))
    assert not images.requires_grad
    assert images.grad is None


@pytest.mark.parametrize("reconstruction_weight", [0.0, 0.1])
@pytest.mark.parametrize("told", [False, True])
def test_a_frozen_encoder_stays_bit_for_bit_while_g_follows_the_kl(
    reconstruction_weight: float, told: bool
) -> None:
    """Its batch statistics too, whether or not anyone has called ``train()``."""
    model = small(frozen_encoder=True, reconstruction_weight=reconstruction_weight)
    if told:
        model.eval()
        model.train()
    before, decoder = kept(model.encoder), kept(model.decoder)
    assert any("running_mean" in name for name in before)
    steps(model)
    assert same(kept(model.encoder), before)
    assert model.training
    assert model.decoder.training
    assert not any(module.training for module in model.encoder.modules())
    assert not same(kept(model.decoder), decoder)
    # Frozen, it still says where a picture lies: the KL alone moves G.
    images, labels = batch()
    model.zero_grad()
    model.generator_loss(images, drawn(model, labels), labels)["kl"].backward()
    assert reached(model.decoder)
    # One that is not frozen moves, and so do its statistics.
    free = small(reconstruction_weight=reconstruction_weight)
    moved = kept(free.encoder)
    steps(free)
    assert all(not torch.equal(t, moved[n]) for n, t in kept(free.encoder).items())


def test_without_the_kl_q_stays_as_it_was() -> None:
    model = small(kl_weight=0.0)
    before = kept(model.encoder)
    losses = steps(model)
    assert same(kept(model.encoder), before)
    assert "kl" not in losses[0]
    torch.testing.assert_close(losses[0]["generator"], losses[0]["adversarial"])


# --- From a VAE -----------------------------------------------------------------------------------


def trained_vae(**changes: Any) -> LSCVAE:
    torch.manual_seed(0)
    vae = LSCVAE(DESIGN, **{"size": 16, "width": 2, **changes})
    images = torch.rand(6, vae.channels, 16, 16, generator=seeded(1))
    optimizers = vae.optimizers(1e-2)
    for _ in range(3):  # so that its batch statistics are not those of a new network
        vae.training_step(images, batch()[1], optimizers)
    return vae.eval()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 1, "width": 3},
        {"upsampling": "resize"},
        {"flow": 4, "unpainted": DESIGN.names[:1], "carry": 1},
    ],
)
def test_a_gan_from_a_vae_starts_as_the_vae_bit_for_bit(changes: dict[str, Any]) -> None:
    vae = trained_vae(**changes)
    recipe = Recipe(adversarial="relativistic", r1=0.5)
    gan = LSCGAN.from_vae(vae, recipe).eval()
    assert same(kept(gan.decoder), kept(vae.decoder))
    assert same(kept(gan.encoder), kept(vae.encoder))
    z = DESIGN.sample(count=5, generator=seeded())
    assert torch.equal(gan.decode(z), vae.decode(z))
    images = torch.rand(5, vae.channels, 16, 16, generator=seeded())
    for ours, theirs in zip(gan.encode(images), vae.encode(images), strict=True):
        assert torch.equal(ours, theirs)
    assert (gan.design, gan.recipe) == (vae.design, recipe)
    for name in ("size", "channels", "width", "upsampling", "flow", "unpainted", "carry"):
        assert getattr(gan, name) == getattr(vae, name)


def walked(vae: LSCVAE) -> LSCGAN:
    """A GAN from it whose G has gone somewhere else, batch statistics included."""
    gan = LSCGAN.from_vae(vae).eval()
    with torch.no_grad():
        for weight in gan.decoder.state_dict().values():
            if weight.is_floating_point():
                weight += 0.1 * torch.rand(weight.shape, generator=seeded())
    return gan


@pytest.mark.parametrize("changes", [{}, {"upsampling": "resize"}, {"flow": 4}])
def test_between_a_vae_and_its_gan_lie_their_weighted_means(changes: dict[str, Any]) -> None:
    vae = trained_vae(**changes)
    gan = walked(vae)
    before = kept(gan), kept(vae)
    z = DESIGN.sample(count=5, generator=seeded())
    assert torch.equal(gan.between(vae, 0.0).decode(z), vae.decode(z))
    assert torch.equal(gan.between(vae, 1.0).decode(z), gan.decode(z))
    middle = gan.between(vae, 0.25)
    for name, weight in middle.decoder.state_dict().items():
        first, last = (model.decoder.state_dict()[name].float() for model in (vae, gan))
        torch.testing.assert_close(weight.float(), 0.75 * first + 0.25 * last)
    assert same(kept(middle.encoder), kept(gan.encoder))
    assert same(kept(middle.discriminator), kept(gan.discriminator))
    assert same(kept(gan), before[0])
    assert same(kept(vae), before[1])
    assert middle.recipe == gan.recipe
    assert not middle.training


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_there_is_nothing_beyond_the_ends_of_the_line(share: float) -> None:
    vae = trained_vae()
    with pytest.raises(ValueError, match="between 0, the VAE, and 1, the GAN; it is"):
        walked(vae).between(vae, share)


@pytest.mark.parametrize(
    "changes",
    [{"width": 3}, {"upsampling": "resize"}, {"flow": 4, "unpainted": DESIGN.names[:1]}],
)
@pytest.mark.parametrize("flow", [0, 4])
def test_no_line_leads_from_another_decoder(changes: dict[str, Any], flow: int) -> None:
    gan, other = walked(trained_vae(flow=flow)), trained_vae(**{"flow": flow, **changes})
    with pytest.raises(ValueError, match="decoders are not built alike: give the VAE it started"):
        gan.between(other, 0.5)


def test_what_is_carried_on_is_so_all_along_the_line() -> None:
    vae = trained_vae(flow=4, unpainted=DESIGN.names[:1])
    gan = LSCGAN.from_vae(vae, carry=1).eval()
    z = DESIGN.sample(torch.zeros(5, len(DESIGN.names)), generator=seeded())
    z = DESIGN.shift(z, **{DESIGN.names[0]: -2.0})
    assert not torch.equal(gan.decode(z), vae.decode(z))
    assert gan.between(vae, 0.0).carry == 1
    assert torch.equal(gan.between(vae, 0.0).decode(z), gan.decode(z))


def test_a_gan_from_a_vae_has_a_discriminator_of_its_own() -> None:
    vae = trained_vae()
    torch.manual_seed(1)
    one = LSCGAN.from_vae(vae)
    torch.manual_seed(2)
    other = LSCGAN.from_vae(vae)
    assert not same(kept(one.discriminator), kept(other.discriminator))
    assert one.recipe == Recipe()


def test_a_gan_does_not_start_from_a_vae_that_is_handed_the_labels() -> None:
    vae = ConditionalVAE(LatentDesign.conditional(DESIGN.names, 1, size=8), size=16, width=2)
    with pytest.raises(ValueError, match=r"of z, a ConditionalVAE's the noise alone: start from"):
        LSCGAN.from_vae(vae)  # type: ignore[arg-type]


def test_training_the_gan_leaves_the_vae_alone() -> None:
    vae = trained_vae()
    before = kept(vae)
    gan = LSCGAN.from_vae(vae)
    steps(gan)
    assert same(kept(vae), before)
    assert not same(kept(gan.decoder), kept(vae.decoder))
    assert not same(kept(gan.encoder), kept(vae.encoder))
    assert not vae.training


# --- Each change, and nothing else ----------------------------------------------------------------


def one_step(model: GAN) -> tuple[float, float]:
    """What D and what G minimised in a step, with a learning rate too small to move a weight."""
    losses = steps(model, 1, 1e-12)[0]
    return float(losses["discriminator"]), float(losses["generator"])


@pytest.mark.parametrize(
    ("fields", "d_changes", "g_changes"),
    [
        ({}, False, False),
        ({"adversarial": "relativistic"}, True, True),
        ({"r1": 1.0}, True, False),
        ({"r2": 1.0}, True, False),
        ({"penalty_every": 4}, False, False),
        ({"spectral_norm": True}, True, True),
        ({"conditional": True}, True, True),
        ({"discriminator_rate": 2.0}, False, False),
        ({"augmentation": True}, True, True),
        ({"kl_weight": 0.5}, False, True),
        ({"frozen_encoder": True}, False, False),
        ({"reconstruction_weight": 1.0}, False, True),
        ({"dose_weight": 1.0}, True, True),
        ({"reach": 1.0, "reach_of": ("Bangs",)}, True, True),
        ({"reach": 1.0}, False, False),
        ({"reach_of": ("Bangs",)}, False, False),
        ({"reach": 1.0, "reach_of": ("Bangs",), "reach_after": 1}, False, False),
    ],
)
def test_each_field_changes_its_own_loss(
    fields: dict[str, Any], d_changes: bool, g_changes: bool
) -> None:
    base = small().eval()
    of_d, of_g = one_step(twin(base))
    changed_d, changed_g = one_step(twin(base, **fields))
    assert (changed_d != of_d) == d_changes
    assert (changed_g != of_g) == g_changes


def squared_gradients(model: GAN, images: Tensor, labels: Tensor) -> Tensor:
    """||grad_x D(x)||^2 of each image, one image at a time."""
    squares = []
    for image, row in zip(images.detach(), labels, strict=True):
        one = image[None].clone().requires_grad_()
        model.discriminator(one, row[None]).sum().backward()
        assert one.grad is not None
        squares.append((one.grad**2).sum())
    return torch.stack(squares)


@unhurried
@given(st.floats(0.0, 10.0), st.floats(0.0, 10.0), st.integers(1, 5), st.booleans())
def test_penalties_are_half_gamma_times_the_squared_gradient(
    r1: float, r2: float, every: int, conditional: bool
) -> None:
    model = small(r1=r1, r2=r2, penalty_every=every, conditional=conditional).eval()
    images, labels = batch()
    fakes = drawn(model, labels)
    expected = every * r1 / 2 * squared_gradients(model, images, labels).mean()
    expected = expected + every * r2 / 2 * squared_gradients(model, fakes, labels).mean()
    found = model.penalty(images, fakes, labels)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_penalties_come_at_every_nth_step_of_training() -> None:
    """Steps 0, 3, 6 of seven: seen in the losses, with a learning rate too small to matter."""
    penalised = [float(t["discriminator"]) for t in steps(small(r1=50.0, penalty_every=3), 7, 1e-9)]
    base = [float(t["discriminator"]) for t in steps(small(), 7, 1e-9)]
    apart = [a - b > 0.01 for a, b in zip(penalised, base, strict=True)]
    assert apart == [True, False, False, True, False, False, True]


def test_a_penalty_flattens_d() -> None:
    """Its gradient reaches D's weights: with nothing to learn but it, D's slope falls."""
    model = small(r1=100.0)
    images, labels = batch()
    before = float(squared_gradients(model, images, labels).mean())
    optimizer = model.optimizers(1e-2)["discriminator"]
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.discriminator_loss(images, images, labels)
        (loss + model.penalty(images, images, labels)).backward()
        optimizer.step()
    assert float(squared_gradients(model, images, labels).mean()) < 0.2 * before


@unhurried
@given(st.floats(0.0, 5.0), st.floats(0.0, 5.0))
def test_the_weights_of_gs_terms(kl_weight: float, reconstruction_weight: float) -> None:
    model = small(kl_weight=kl_weight, reconstruction_weight=reconstruction_weight).eval()
    images, labels = batch()
    fakes = drawn(model, labels)
    torch.manual_seed(7)
    terms = model.generator_loss(images, fakes, labels)
    torch.manual_seed(7)
    mean, log_variance = model.encoder(images)
    z = mean + log_variance.exp().sqrt() * torch.randn(6, 8)
    error = ((model.decoder(z) - images) ** 2).sum(dim=(1, 2, 3)).mean()
    adversarial = ((model.discriminator(fakes) - 1) ** 2).mean()
    expected = adversarial + kl_weight * divergence(model, fakes, labels)
    expected = expected + reconstruction_weight * error
    torch.testing.assert_close(terms["generator"], expected)
    assert ("kl" in terms, "reconstruction" in terms) == (kl_weight > 0, reconstruction_weight > 0)
    if reconstruction_weight:
        torch.testing.assert_close(terms["reconstruction"], error)


def test_relativistic_losses_by_hand() -> None:
    model = small(adversarial="relativistic", kl_weight=0.0).eval()
    images, labels = batch()
    fakes = drawn(model, labels)
    apart = model.discriminator(images) - model.discriminator(fakes)
    entropy = nn.functional.binary_cross_entropy_with_logits
    loss = model.discriminator_loss(images, fakes, labels)
    torch.testing.assert_close(loss, entropy(apart, torch.ones(6)))
    terms = model.generator_loss(images, fakes, labels)
    torch.testing.assert_close(terms["generator"], entropy(-apart, torch.ones(6)))


@pytest.mark.parametrize("rate", [0.5, 1.0, 2.0])
def test_d_has_a_learning_rate_of_its_own(rate: float) -> None:
    optimizers = small(discriminator_rate=rate).optimizers(0.01)
    rates = {name: o.param_groups[0]["lr"] for name, o in optimizers.items()}
    assert rates == pytest.approx({"generator": 0.01, "discriminator": 0.01 * rate})


def largest_singular_values(model: GAN) -> list[float]:
    layers = [m for m in model.discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    return [float(torch.linalg.svdvals(m.weight.detach().flatten(1))[0]) for m in layers]


def test_spectral_norm_bounds_every_layer_while_it_trains() -> None:
    model = small(spectral_norm=True, conditional=True)
    steps(model, 10, rate=1e-2)
    images, labels = batch()
    for _ in range(20):
        model.discriminator(images, labels)  # warm-up: one power iteration each
    found = largest_singular_values(model)
    assert len(found) == 4  # two convolutions, the head, the projection
    assert found == pytest.approx([1.0] * 4, abs=0.02)
    free = small(conditional=True)
    steps(free, 10, rate=1e-2)
    assert all(abs(value - 1) > 0.02 for value in largest_singular_values(free))


def test_a_conditional_discriminator_scores_the_labels_too() -> None:
    images, labels = batch()
    for conditional in (False, True):
        model = small(conditional=conditional, kl_weight=0.0).eval()
        fakes = drawn(model, labels)
        of_d = [model.discriminator_loss(images, fakes, y) for y in (labels, 1 - labels)]
        of_g = [model.generator_loss(images, fakes, y)["generator"] for y in (labels, 1 - labels)]
        assert torch.equal(of_d[0], of_d[1]) != conditional
        assert torch.equal(of_g[0], of_g[1]) != conditional


def test_a_conditional_gan_is_handed_the_labels_and_learns_from_them() -> None:
    torch.manual_seed(0)
    model = GAN(CONDITIONAL, Recipe(conditional=True), size=16, width=2)
    losses = steps(model)
    assert losses[0].keys() == {"generator", "adversarial", "discriminator"}
    assert reached(model.decoder)
    model.eval()
    # Without noise in its label blocks, the same free noise and labels draw the same picture.
    z = torch.randn(1, 4, generator=seeded())
    labels = torch.tensor([[1.0, 0.0]])
    by_hand = torch.cat([torch.tensor([[1.0, 1.0, 0.0, 0.0]]), z], dim=1)
    assert torch.equal(model.sample(labels, generator=seeded()), model.decode(by_hand))
    assert not torch.equal(model.sample(1 - labels, generator=seeded()), model.decode(by_hand))


# --- Doses, and reaching past the labels ----------------------------------------------------------


def within(z: Tensor, labels: Tensor) -> Tensor:
    """How far a block's mean lies from its label's, in units of what chance does, by a loop."""
    far = torch.zeros(len(z), 2)
    for row in range(len(z)):
        for column in range(2):
            side = 1.5 if labels[row, column] == 1 else -1.5
            block = z[row, 3 * column : 3 * column + 3]
            far[row, column] = (float(block.mean()) - side) * math.sqrt(3)
    return far


def test_the_dose_loss_by_hand() -> None:
    model = small(dose_weight=1.0).eval()
    labels = batch()[1]
    z = DESIGN.sample(labels, generator=seeded(3))
    fakes = model.decode(z)
    reader = model.discriminator.reader
    assert isinstance(reader, nn.Linear)
    # A reader that knows nothing says 0, and loses half a nat a block: that of a unit Gaussian.
    at_first = within(z, labels).square().sum(dim=1).mean() / 2
    torch.testing.assert_close(model.dose_loss(fakes, labels, z), at_first)
    many = DESIGN.sample(labels.repeat(2_000, 1), generator=seeded(3))
    blank = small(dose_weight=1.0).eval()
    blank.discriminator.read = lambda images: torch.zeros(12_000, 2)  # type: ignore[method-assign]
    loss = float(blank.dose_loss(fakes, labels.repeat(2_000, 1), many))
    assert loss == pytest.approx(2 * 0.5, abs=0.05)
    with torch.no_grad():
        reader.weight.normal_()
        reader.bias.normal_()
    read = model.discriminator.read(fakes)
    likelihood = Normal(read, 1.0).log_prob(within(z, labels)).sum(dim=1).mean()
    constant = 2 * math.log(2 * math.pi) / 2
    torch.testing.assert_close(model.dose_loss(fakes, labels, z), -likelihood - constant)


def test_a_step_with_doses_trains_the_reader_and_the_generator() -> None:
    model = small(dose_weight=0.5, kl_weight=0.0)
    with torch.no_grad():
        assert isinstance(model.discriminator.reader, nn.Linear)
        model.discriminator.reader.weight.normal_()
    base = twin(model, kl_weight=0.0)
    losses, without = steps(model, 1, 1e-9)[0], steps(base, 1, 1e-9)[0]
    assert losses.keys() == {"generator", "adversarial", "dose", "discriminator"}
    added = 0.5 * losses["dose"]
    torch.testing.assert_close(losses["adversarial"], without["adversarial"])
    torch.testing.assert_close(losses["generator"], without["generator"] + added)
    torch.testing.assert_close(losses["discriminator"], without["discriminator"] + added)
    # D's own step reaches the reader and no generator; G's term reaches G.
    labels = batch()[1]
    z = DESIGN.sample(labels, generator=seeded(3))
    model.zero_grad()
    model.dose_loss(model.decode(z), labels, z).backward()
    assert reached(model.decoder)
    assert model.discriminator.reader.weight.grad is not None
    # And the reader learns to read what the generator shows.
    trained = small(dose_weight=1.0, kl_weight=0.0)
    doses = [float(t["dose"]) for t in steps(trained, 150, 1e-2)]
    assert sum(doses[-20:]) < 0.7 * sum(doses[:20])


def test_without_reach_a_step_draws_one_batch_from_the_design() -> None:
    labels = batch()[1]
    late = small(reach=2.0, reach_of=("Bangs",), reach_after=3)
    late.steps.fill_(2)
    for model in (small(), small(reach=2.0), small(reach_of=("Bangs",)), late):
        torch.manual_seed(4)
        ((weight, rows, z),) = model.drawn(labels)
        torch.manual_seed(4)
        assert torch.equal(z, DESIGN.sample(labels))
        assert torch.equal(labels[rows], labels)
        assert weight == 1.0
    late.steps.fill_(3)
    assert len(late.drawn(labels)) == 2
    # Where every picture has bangs there is none to draw below 0 from.
    assert len(late.drawn(torch.ones(6, 2))) == 1


def test_rows_of_label_0_reach_below_it_in_the_named_block() -> None:
    model = small(reach=0.8, reach_of=("Bangs",))
    labels = batch(6_000)[1]
    before = labels.clone()
    torch.manual_seed(4)
    first, (weight, rows, z) = model.drawn(labels)
    assert isinstance(rows, Tensor)
    torch.manual_seed(4)
    assert torch.equal(first[2], DESIGN.sample(labels))
    assert torch.equal(labels, before)
    assert weight == 0.5
    # Those rows, each once, of which bangs are 0: their real pictures have no bangs either.
    assert [int(row) for row in rows] == [i for i in range(6_000) if labels[i, 1] == 0]
    asked = labels[rows]
    away = z - means(asked)
    for block in (away[:, :3], away[:, 6:]):
        assert float(block.mean(dim=0).abs().max()) < 5 / math.sqrt(len(asked))
    # Bangs' doses lie below 0: U(-0.8, 0) and the spread that every block has.
    dose = away[:, 3:6].mean(dim=1) / 3  # a label unit is twice the shift of 1.5
    error = math.sqrt((0.8**2 / 12 + 1 / 27) / len(asked))
    assert abs(float(dose.mean()) + 0.4) < 5 * error
    assert float(dose.std()) == pytest.approx(math.sqrt(0.8**2 / 12 + 1 / 27), rel=0.1)
    # One amount for the whole block: its dimensions differ by their noise alone.
    apart = away[:, 3:6] - away[:, 3:6].mean(dim=1, keepdim=True)
    assert float(apart.var()) == pytest.approx(2 / 3, rel=0.1)


def test_what_reaches_is_judged_and_read_like_the_rest_and_counts_half() -> None:
    # A critic that is told the labels: of what it is told about a real picture nothing is changed.
    fields = {"kl_weight": 0.0, "dose_weight": 0.5, "r1": 1.0, "r2": 2.0, "conditional": True}
    model = small(reach=0.8, reach_of=("Bangs",), **fields).eval()  # type: ignore[arg-type]
    assert isinstance(model.discriminator.reader, nn.Linear)
    nn.init.normal_(model.discriminator.reader.weight)
    images, labels = batch()
    losses = steps(twin(model, reach=0.8, reach_of=("Bangs",), **fields), 1, 1e-12)[0]
    torch.manual_seed(4)
    (_, _, z), (_, _, below) = model.drawn(labels)
    still = labels[:, 1] == 0
    assert 0 < int(still.sum()) < len(labels)
    asked, real = labels[still], images[still]
    fakes, low = model.decode(z), model.decode(below)
    score = model.discriminator
    of_d = (score(images, labels) - 1).square().mean() + score(fakes, labels).square().mean()
    of_low = (score(real, asked) - 1).square().mean() + score(low, asked).square().mean()
    doses = model.dose_loss(fakes, labels, z), model.dose_loss(low, asked, below)
    penalty = squared_gradients(model, images, labels).mean() / 2
    penalty = penalty + squared_gradients(model, fakes, labels).mean()
    read = doses[0] + doses[1] / 2
    expected = of_d + of_low / 2 + 0.5 * read + penalty
    torch.testing.assert_close(losses["discriminator"], expected.detach())
    of_g = (score(fakes, labels) - 1).square().mean()
    of_g = of_g + (score(low, asked) - 1).square().mean() / 2
    torch.testing.assert_close(losses["adversarial"], of_g.detach())
    torch.testing.assert_close(losses["dose"], read.detach())
    of_g = of_g + 0.5 * read
    torch.testing.assert_close(losses["generator"], of_g.detach())


@pytest.mark.parametrize("design", [DESIGN, LatentDesign.lsc((), size=4)])
def test_what_cannot_be_reached_is_refused(design: LatentDesign) -> None:
    known = ", ".join(design.names) or "no attributes"
    with pytest.raises(ValueError, match=f"this design has no Hat to reach: it has {known}"):
        small(design, reach=1.0, reach_of=("Hat",))


# --- Augmentation ---------------------------------------------------------------------------------


def test_d_is_shown_augmented_pictures_real_and_generated_alike(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = small(augmentation=True, kl_weight=0.0).eval()
    monkeypatch.setattr("lscgan.models.gan.augment", lambda pictures: 1 - pictures)
    images, labels = batch()
    fakes = drawn(model, labels)
    real, fake = model.discriminator(1 - images), model.discriminator(1 - fakes)
    expected = ((real - 1) ** 2).mean() + (fake**2).mean()
    torch.testing.assert_close(model.discriminator_loss(images, fakes, labels), expected)
    terms = model.generator_loss(images, fakes, labels)
    torch.testing.assert_close(terms["generator"], ((fake - 1) ** 2).mean())


@pytest.mark.parametrize("shape", [(6, 3, 16, 16), (5, 1, 32, 32), (1, 3, 8, 8)])
def test_augmented_pictures_keep_their_shape_and_sensible_values(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    images = torch.rand(shape)
    before = images.clone()
    shown = augment(images)
    assert shown.shape == images.shape
    assert shown.dtype == torch.float32
    assert torch.equal(images, before)
    # Brightness reaches 1.25, and a contrast and a saturation of 1.5 at most 2.25 times as far.
    assert -2.25 < float(shown.min()) < float(shown.max()) < 3.25


def test_each_picture_is_changed_in_its_own_way_and_anew_each_time() -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, 16, 16).expand(8, -1, -1, -1)
    shown = augment(images)
    for one in range(8):
        for other in range(one):
            assert not torch.equal(shown[one], shown[other])
    assert not torch.equal(augment(images), shown)


def test_a_flat_grey_picture_changes_its_brightness_alone() -> None:
    """Black shows where the picture was moved away: by an eighth of its side at most."""
    torch.manual_seed(0)
    grey = torch.full((400, 3, 32, 32), 0.6)
    shown = augment(grey)
    centre = shown[:, :, 4:-4, 4:-4]
    levels = centre[:, 0, 0, 0]
    torch.testing.assert_close(centre, levels[:, None, None, None].expand_as(centre))
    change = levels - 0.6
    assert float(change.abs().max()) <= 0.25
    assert float(change.min()) < -0.2  # and it uses the range
    assert float(change.max()) > 0.2
    assert abs(float(change.mean())) < 5 * 0.25 / math.sqrt(3 * 400)
    black = (shown == 0).all(dim=1)  # (400, 32, 32)
    rows, columns = black.all(dim=2).sum(dim=1), black.all(dim=1).sum(dim=1)
    for gone in (rows, columns):
        assert sorted(gone.unique().tolist()) == [0, 1, 2, 3, 4]


def test_a_dot_moves_by_whole_pixels_up_to_an_eighth_of_the_side() -> None:
    torch.manual_seed(0)
    assert SHIFT == 1 / 8
    images = torch.zeros(600, 3, 32, 32)
    images[:, :, 12, 20] = 1.0
    place = augment(images).mean(dim=1).flatten(1).argmax(dim=1)
    moves = {(int(p) // 32 - 12, int(p) % 32 - 20) for p in place}
    assert {down for down, _ in moves} == set(range(-4, 5))
    assert {right for _, right in moves} == set(range(-4, 5))
    assert len(moves) > 60  # of 81: the two directions are drawn apart


def test_contrast_and_saturation_scale_around_the_level_and_the_grey() -> None:
    torch.manual_seed(0)
    stripes = torch.zeros(300, 3, 32, 32)
    stripes[..., ::2] = 1.0
    inside = augment(stripes)[..., 4:-4, 4:-4]
    contrast = (inside.amax(dim=(1, 2, 3)) - inside.amin(dim=(1, 2, 3)))  # fmt: skip
    assert 0.5 <= float(contrast.min()) < 0.6
    assert 1.4 < float(contrast.max()) <= 1.5
    colour = torch.tensor([0.9, 0.5, 0.1]).view(1, 3, 1, 1).expand(300, -1, 32, 32)
    pixel = augment(colour)[:, :, 16, 16]  # (300, 3)
    away = pixel - pixel.mean(dim=1, keepdim=True)
    factor = away[:, 0] / 0.4
    expected = factor[:, None] * torch.tensor([0.4, 0.0, -0.4])
    torch.testing.assert_close(away, expected, atol=1e-5, rtol=1e-5)
    assert 0.25 <= float(factor.min()) < 0.5 < 1.5 < float(factor.max()) <= 2.25


def test_gradients_flow_through_augmentation() -> None:
    torch.manual_seed(0)
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    augment(images).square().sum().backward()
    assert images.grad is not None
    centre = images.grad[:, :, 4:-4, 4:-4]  # these stay in the picture wherever it moves
    assert bool((centre != 0).all())
    model = small(augmentation=True, kl_weight=0.0)
    pictures, labels = batch()
    model.generator_loss(pictures, drawn(model, labels), labels)["generator"].backward()
    assert reached(model.decoder)


# --- Recipes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"adversarial": "wasserstein"},
            "adversarial is one of least_squares, relativistic, not 'wasserstein'",
        ),
        ({"r1": -0.1}, "r1 is at least 0 and finite, not -0.1"),
        ({"r2": -1.0}, "r2 is at least 0 and finite, not -1.0"),
        ({"r2": math.nan}, "r2 is at least 0 and finite, not nan"),
        ({"r1": math.inf}, "r1 is at least 0 and finite, not inf"),
        ({"dose_weight": -0.5}, "dose_weight is at least 0 and finite, not -0.5"),
        ({"reach": math.inf}, "reach is at least 0 and finite, not inf"),
        ({"reach_after": -1}, "reach_after is at least 0, not -1"),
        ({"kl_weight": -0.5}, "kl_weight is at least 0 and finite, not -0.5"),
        ({"reconstruction_weight": math.nan}, "reconstruction_weight is at least 0 and finite"),
        ({"reconstruction_weight": -2.0}, "reconstruction_weight is at least 0 and finite"),
        ({"discriminator_rate": 0.0}, "discriminator_rate is above 0 and finite, not 0.0"),
        ({"discriminator_rate": -1.0}, "discriminator_rate is above 0 and finite, not -1.0"),
        ({"discriminator_rate": math.nan}, "discriminator_rate is above 0 and finite, not nan"),
        ({"discriminator_rate": math.inf}, "discriminator_rate is above 0 and finite, not inf"),
        ({"penalty_every": 0}, "penalty_every is a whole number of at least 1, not 0"),
        ({"penalty_every": -4}, "penalty_every is a whole number of at least 1, not -4"),
        ({"penalty_every": 2.5}, "penalty_every is a whole number of at least 1, not 2.5"),
    ],
)
def test_a_wrong_recipe_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        Recipe(**fields)
    assert "\n" not in str(refusal.value)


RECIPES = st.builds(
    Recipe,
    adversarial=st.sampled_from(sorted(ADVERSARIAL)),
    r1=st.floats(0, 10),
    r2=st.floats(0, 10),
    penalty_every=st.integers(1, 16),
    spectral_norm=st.booleans(),
    conditional=st.booleans(),
    discriminator_rate=st.floats(0.1, 10),
    augmentation=st.booleans(),
    kl_weight=st.floats(0, 2),
    frozen_encoder=st.booleans(),
    reconstruction_weight=st.floats(0, 2),
    dose_weight=st.floats(0, 2),
    reach=st.floats(0, 2),
    reach_of=st.sampled_from([(), ("Smiling",), ("Bangs", "Smiling")]),
    reach_after=st.integers(0, 3),
)


@unhurried
@given(RECIPES, st.sampled_from([GAN, LSCGAN]), st.sampled_from(["transposed", "resize"]))
def test_a_configuration_builds_the_same_architecture(
    recipe: Recipe, kind: type[GAN], upsampling: str
) -> None:
    model = kind(DESIGN, recipe, size=8, channels=1, width=2, upsampling=upsampling)
    config = json.loads(json.dumps(model.config(), allow_nan=False))
    again = kind.from_config(config)
    assert type(again) is kind
    assert again.recipe == recipe
    assert again.config() == model.config()
    again.load_state_dict(model.state_dict())
    # And every recipe trains.
    images, labels = torch.rand(4, 1, 8, 8), torch.randint(2, (4, 2)).float()
    losses = again.training_step(images, labels, again.optimizers(1e-3))
    assert all(bool(value.isfinite()) for value in losses.values())


@pytest.mark.parametrize(
    ("kind", "design", "recipe", "upsampling"),
    [
        (GAN, LatentDesign.lsc((), size=8), Recipe(), "transposed"),
        (GAN, CONDITIONAL, Recipe(conditional=True), "resize"),
        (LSCGAN, DESIGN, Recipe(), "transposed"),
        (LSCGAN, DESIGN, Recipe(spectral_norm=True, frozen_encoder=True, r1=0.5), "resize"),
        (LSCGAN, DESIGN, Recipe(dose_weight=0.5, reach=1.0, reach_of=("Bangs",)), "transposed"),
    ],
)
def test_a_saved_model_draws_the_same_pictures(
    tmp_path: Path, kind: type[GAN], design: LatentDesign, recipe: Recipe, upsampling: str
) -> None:
    torch.manual_seed(0)
    model = kind(design, recipe, size=16, width=2, upsampling=upsampling)
    images, labels = batch()
    labels = labels[:, : len(design.names)]
    optimizers = model.optimizers(1e-2)
    for _ in range(2):
        model.training_step(images, labels, optimizers)
    weights.save(model.eval(), tmp_path / "m.safetensors")
    loaded = lscgan.load(tmp_path / "m.safetensors")
    assert type(loaded) is kind
    assert loaded.config() == model.config()
    assert dataclasses.asdict(loaded.recipe) == dataclasses.asdict(recipe)
    assert same(kept(loaded), kept(model))
    assert int(loaded.steps) == 2
    asked = labels if design.names else None
    assert torch.equal(loaded.sample(asked, 6, seeded(9)), model.sample(asked, 6, seeded(9)))
    scores = loaded.discriminator(images, labels), model.discriminator(images, labels)
    assert torch.equal(scores[0], scores[1])
    if isinstance(model, LSCGAN) and isinstance(loaded, LSCGAN):
        assert torch.equal(loaded.encode(images)[0], model.encode(images)[0])
        frozen = recipe.frozen_encoder
        assert all(p.requires_grad != frozen for p in loaded.encoder.parameters())


def test_pictures_of_another_shape_are_refused() -> None:
    sentence = "this model takes images of shape (B, 3, 16, 16), not (2, 3, 32, 32)"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        small().encode(torch.rand(2, 3, 32, 32))


@pytest.mark.parametrize("shape", [(6, 3, 32, 32), (6, 1, 16, 16), (6, 3, 8, 8)])
def test_a_gan_without_an_encoder_refuses_them_too(shape: tuple[int, ...]) -> None:
    gan = GAN(DESIGN, size=16, width=2)
    _, labels = batch()
    sentence = f"this model takes images of shape (B, 3, 16, 16), not {shape}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        gan.training_step(torch.rand(shape), labels, gan.optimizers(1e-3))


def test_a_gan_of_noise_alone_trains_on_labelled_images_as_on_others() -> None:
    images, labels = batch()
    losses = []
    for known in (labels, labels[:, :0], torch.full_like(labels, float("nan"))):
        torch.manual_seed(0)
        gan = GAN(LatentDesign.lsc((), size=8), size=16, width=2)
        losses.append(gan.training_step(images, known, gan.optimizers(1e-3)))
    assert losses[0] == losses[1] == losses[2]


# --- A training of some seconds -------------------------------------------------------------------


def test_a_gan_sharpens_what_a_vae_draws_and_keeps_its_control(tmp_path: Path) -> None:
    """The recipe of the book, on small faces: the shipped judge reads what it asks for as before.

    The bounds are loose. Measured over four seeds: sharpness grows to 1.8 to 2.2 times the VAE's,
    the patches' Frechet distance falls by 11 to 15 percent and control grows by 0.05 to 0.06; with
    a D that does not learn, sharpness grows to 1.3 times and the distance falls by 3 percent.
    """
    names = ("Smiling", "Eyeglasses", "Wearing_Hat")
    faces = data.load("faces", count=2_000, size=32, names=names)
    held_out = data.load("faces", "test", count=500, size=32, names=names)
    judge: FaceJudge = lscgan.load("face-judge")

    def measure(model: nn.Module) -> dict[str, float]:
        asked = control(model, judge, held_out.labels, generator=seeded(1))  # type: ignore[arg-type]
        report = fidelity(model, judge, held_out, seeded(2))  # type: ignore[arg-type]
        return {
            "control": asked.mean,
            "sharpness": report.sharpness,
            "patch_frechet": report.patch_frechet,
        }

    torch.manual_seed(0)
    design = LatentDesign.lsc(names, 8, size=48, coding="signed")
    vae = LSCVAE(design, size=32, width=8)
    short = {"device": "cpu", "precision": "float32", "log_every": 24_000}
    long = TrainingSettings(images=24_000, batch_size=64, learning_rate=4e-3, **short)  # type: ignore[arg-type]
    train(vae, faces, long, tmp_path / "vae")
    recipe = Recipe(
        adversarial="relativistic",
        r1=0.5,
        r2=0.5,
        penalty_every=4,
        discriminator_rate=2.0,
        kl_weight=0.03,
        frozen_encoder=True,
        reconstruction_weight=0.03,
    )
    gan = LSCGAN.from_vae(vae, recipe)
    brief = TrainingSettings(
        images=6_000,
        batch_size=32,
        learning_rate=5e-4,
        ema_half_life=500,
        **short,  # type: ignore[arg-type]
    )
    run = train(gan, faces, brief, tmp_path / "gan", watch=measure)
    start, end = run.metrics()
    assert {name: start[name] for name in ("control", "sharpness")} == {
        name: value for name, value in measure(vae).items() if name != "patch_frechet"
    }
    assert start["control"] > 0.8  # the VAE has learnt something that could be lost
    assert end["control"] > start["control"] - 0.03
    assert end["sharpness"] > 1.4 * start["sharpness"]
    assert end["patch_frechet"] < 0.95 * start["patch_frechet"]
    assert same(kept(gan.encoder), kept(vae.encoder))
