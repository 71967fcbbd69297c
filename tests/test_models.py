"""The VAE, the LSC-VAE and what they are compared with: losses by hand, and what moves what."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np
import pytest
import scipy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from lscgan.data import LabelledImages
from lscgan.evaluation import control
from lscgan.latent import LatentDesign
from lscgan.models import LSCVAE, VAE, Arithmetic, ConditionalVAE
from lscgan.models.vae import GRADIENT_NORM
from lscgan.networks import Decoder

DESIGN = LatentDesign.lsc(["Smiling", "Bangs"], 3, size=8)
CONDITIONAL = LatentDesign.conditional(["Smiling", "Bangs"], 2, size=12, shift=1.5, coding="signed")
SIGNED = LatentDesign.lsc(["Smiling", "Bangs"], 3, size=8, shift=1.5, coding="signed")


def small(kind: type[VAE] = LSCVAE, design: LatentDesign = DESIGN, **settings: Any) -> VAE:
    torch.manual_seed(0)
    return kind(design, **{"size": 16, "width": 2, **settings})


def batch(count: int = 6, channels: int = 3) -> tuple[Tensor, Tensor]:
    chance = torch.Generator().manual_seed(1)
    images = torch.rand(count, channels, 16, 16, generator=chance)
    return images, torch.randint(2, (count, 2), generator=chance).float()


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """The noise that every reparametrisation draws in this test, (6, 8)."""
    fixed = torch.randn(6, 8, generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(torch, "randn_like", lambda like: fixed.to(like))
    return fixed


# --- The loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("sigma", [0.5**0.5, 0.2])
def test_losses_equal_the_negative_elbo_by_hand(noise: Tensor, sigma: float, beta: float) -> None:
    model = small(design=SIGNED, sigma=sigma, beta=beta).eval()
    images, labels = batch()
    losses = model.losses(images, labels)
    mean, log_variance = model.encode(images)
    z = mean + log_variance.exp().sqrt() * noise
    likelihood = Independent(Normal(model.decode(z), sigma), 3).log_prob(images)  # (B,)
    prior = torch.zeros(6, 8)
    for row in range(6):
        for column in range(2):
            side = 1.5 if labels[row, column] == 1 else -1.5
            prior[row, 3 * column : 3 * column + 3] = side
    posterior = Normal(mean, log_variance.exp().sqrt())
    kl = kl_divergence(posterior, Normal(prior, torch.ones(6, 8))).sum(dim=1)  # (B,)
    torch.testing.assert_close(losses["reconstruction"], -likelihood.mean())
    torch.testing.assert_close(losses["kl"], kl.mean())
    torch.testing.assert_close(losses["loss"], -likelihood.mean() + beta * kl.mean())


def test_an_lsc_vae_asked_for_nothing_is_a_vae(noise: Tensor) -> None:
    """Presence coding puts label 0 at mean 0 in every block: the plain prior."""
    lsc, plain = small(LSCVAE), small(VAE)
    images, labels = batch()
    nothing = torch.zeros_like(labels)
    for name, value in lsc.losses(images, nothing).items():
        assert torch.equal(value, plain.losses(images, nothing)[name])
    # With labels they part ways: else the line above would hold for a model that ignores them.
    assert not torch.equal(lsc.losses(images, labels)["kl"], plain.losses(images, labels)["kl"])


def test_the_encoder_never_sees_the_label_and_only_the_prior_moves(noise: Tensor) -> None:
    model = small().eval()
    images, _ = batch()
    off, on = (
        model.losses(images, torch.tensor([[label, 0.0]]).repeat(6, 1)) for label in (0.0, 1.0)
    )
    assert torch.equal(off["reconstruction"], on["reconstruction"])
    # |mean - 1|^2 / 2 - |mean|^2 / 2 over the block's three dimensions
    block = model.encode(images)[0][:, :3]
    expected = (0.5 - block).sum(dim=1).mean()
    torch.testing.assert_close(on["kl"] - off["kl"], expected, atol=1e-4, rtol=1e-4)


def test_a_plain_vae_ignores_labels_of_any_kind(noise: Tensor) -> None:
    model = small(VAE, LatentDesign.lsc((), size=8)).eval()
    images, labels = batch()
    for other in (1 - labels, torch.zeros(6, 0), torch.zeros(6, 11)):
        for name, value in model.losses(images, labels).items():
            assert torch.equal(value, model.losses(images, other)[name])


def test_gradients_reach_encoder_and_decoder() -> None:
    model = small()
    images, labels = batch()
    model.losses(images, labels)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_averaging_the_pixels_is_a_beta_of_their_number(noise: Tensor) -> None:
    pixels = 3 * 16 * 16
    images, labels = batch()
    wrong = small().eval()
    mean, log_variance = wrong.encode(images)
    decoded = wrong.decode(mean + torch.exp(0.5 * log_variance) * noise)
    kl = Normal(mean, torch.exp(0.5 * log_variance))
    kl_term = kl_divergence(kl, Normal(DESIGN.mean(labels), 1.0)).sum(dim=1).mean()
    (torch.nn.functional.mse_loss(decoded, images) + kl_term).backward()
    strong = small(beta=pixels).eval()
    strong.losses(images, labels)["loss"].backward()
    for ours, theirs in zip(wrong.parameters(), strong.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(pixels * ours.grad, theirs.grad, rtol=1e-3, atol=1e-3)


# --- Training -------------------------------------------------------------------------------------


def test_training_steps_lower_the_loss_on_a_batch() -> None:
    model = small()
    _, labels = batch()
    images = torch.rand(6, 3, 1, 1).expand(-1, -1, 16, 16)  # six flat colours
    optimizers = model.optimizers(1e-2)
    torch.manual_seed(0)
    terms = [model.training_step(images, labels, optimizers) for _ in range(60)]
    assert all(not value.requires_grad for value in terms[0].values())
    assert terms[0].keys() == {"loss", "reconstruction", "kl"}
    first = sum(float(t["loss"]) for t in terms[:5]) / 5
    last = sum(float(t["loss"]) for t in terms[-5:]) / 5
    # Against the constant that no training can remove: N log(sigma sqrt(2 pi)) for 768 values.
    least = 768 * math.log(math.pi) / 2
    assert last - least < 0.8 * (first - least)


def test_a_step_is_clipped() -> None:
    model = small(sigma=1e-3)  # a likelihood this sharp has gradients of millions
    images, labels = batch()
    model.training_step(images, labels, model.optimizers(1e-3))
    squares = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None)
    assert math.sqrt(squares) == pytest.approx(GRADIENT_NORM, rel=1e-3)


# --- The conditional VAE --------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("sigma", [0.5**0.5, 0.2])
def test_a_conditional_vaes_losses_by_hand(noise: Tensor, sigma: float, beta: float) -> None:
    """-E[log p(x|y, z)] + beta KL[q(z|x) || N(0, I)]: the decoder is told y, the encoder is not."""
    model = small(ConditionalVAE, CONDITIONAL, sigma=sigma, beta=beta).eval()
    images, labels = batch()
    losses = model.losses(images, labels)
    mean, log_variance = model.encode(images)
    assert mean.shape == log_variance.shape == (6, 8)  # the noise alone
    z = torch.zeros(6, 12)
    for row in range(6):
        for column in range(2):
            z[row, 2 * column : 2 * column + 2] = 1.5 if labels[row, column] == 1 else -1.5
    z[:, 4:] = mean + log_variance.exp().sqrt() * noise
    likelihood = Independent(Normal(model.decode(z), sigma), 3).log_prob(images)  # (B,)
    posterior = Normal(mean, log_variance.exp().sqrt())
    kl = kl_divergence(posterior, Normal(torch.zeros(6, 8), 1.0)).sum(dim=1)  # (B,)
    torch.testing.assert_close(losses["reconstruction"], -likelihood.mean())
    torch.testing.assert_close(losses["kl"], kl.mean())
    torch.testing.assert_close(losses["loss"], -likelihood.mean() + beta * kl.mean())


def test_labels_reach_a_conditional_vaes_decoder_and_not_its_kl(noise: Tensor) -> None:
    model = small(ConditionalVAE, CONDITIONAL).eval()
    images, labels = batch()
    as_is, turned = model.losses(images, labels), model.losses(images, 1 - labels)
    assert torch.equal(as_is["kl"], turned["kl"])
    assert not torch.equal(as_is["reconstruction"], turned["reconstruction"])


def test_a_conditional_vae_samples_from_labels_and_noise() -> None:
    model = small(ConditionalVAE, CONDITIONAL).eval()
    free = torch.randn(1, 8, generator=torch.Generator().manual_seed(3))
    z = torch.cat([torch.tensor([[1.5, 1.5, -1.5, -1.5]]), free], dim=1)
    drawn = model.sample(torch.tensor([[1.0, 0.0]]), generator=torch.Generator().manual_seed(3))
    assert torch.equal(drawn, model.decode(z))


def test_gradients_reach_all_of_a_conditional_vae() -> None:
    model = small(ConditionalVAE, CONDITIONAL)
    model.losses(*batch())["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize(
    "design",
    [
        DESIGN,
        LatentDesign.infogan((3,), 1, 4),
        LatentDesign.conditional(["Smiling", "Bangs"], 4, size=8),  # no noise is left
    ],
)
def test_a_conditional_vae_of_another_design_is_refused(design: LatentDesign) -> None:
    with pytest.raises(ValueError, match=re.escape("is one of LatentDesign.conditional(...)")):
        small(ConditionalVAE, design)


# --- Attribute vectors ----------------------------------------------------------------------------


class Linear(VAE):
    """A "VAE" of 1x1 pictures that sees and draws along straight lines: z = x W, x = z."""

    def __init__(self) -> None:
        super().__init__(LatentDesign.lsc((), size=3), size=8, width=1)
        self.lines = torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, 1.0], [-1.0, 0.0, 1.0]])

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = images.flatten(1) @ self.lines
        return mean, torch.zeros_like(mean)

    def decode(self, z: Tensor) -> Tensor:
        return z.view(len(z), 3, 1, 1)


STEPS = torch.tensor([[20, 10, 0], [0, 30, -40]])
"""By how much each of two labels moves a pixel's three bytes from 100."""


def coloured(labels: Tensor, noise: Tensor | int = 0) -> LabelledImages:
    images = (100 + labels.long() @ STEPS + noise).to(torch.uint8)[:, :, None, None]
    return LabelledImages(images, labels, ("Smiling", "Bangs"))


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1_000), st.integers(1, 20), st.floats(-2, 2), st.floats(-2, 2))
def test_attribute_vectors_are_exact_where_the_world_is_linear(
    seed: int, more: int, smiling: float, bangs: float
) -> None:
    vae = Linear()
    chance = torch.Generator().manual_seed(seed)
    rows = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]])  # enough to tell the two apart
    labels = torch.cat([rows, torch.randint(2, (more, 2), generator=chance).float()])
    model = Arithmetic(vae, coloured(labels))
    vectors = STEPS.float() / 255 @ vae.lines
    constant = torch.full((3,), 100 / 255) @ vae.lines
    torch.testing.assert_close(model.vectors, torch.cat([vectors, constant[None]]))
    assert model.design == LatentDesign.conditional(("Smiling", "Bangs"), 1, size=5)
    noise = torch.randn(2, 3, generator=chance)
    z = torch.cat([torch.tensor([[smiling, bangs]]).expand(2, 2), noise], dim=1)
    # The noise's covariance is I less that of what the labels say.
    told = vectors.T.numpy() @ np.cov(labels.T, bias=True) @ vectors.numpy()
    root = torch.from_numpy(scipy.linalg.sqrtm(np.eye(3) - told).real).float()
    expected = noise @ root + constant + smiling * vectors[0] + bangs * vectors[1]
    torch.testing.assert_close(model.decode(z)[:, :, 0, 0], expected, atol=1e-4, rtol=1e-4)


def test_arithmetic_needs_every_label() -> None:
    labels = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    data = coloured(labels)
    labels[2, 1] = float("nan")
    with pytest.raises(ValueError, match="some labels are unknown: take the vectors from images"):
        Arithmetic(Linear(), LabelledImages(data.images, labels, data.names))


def test_attribute_vectors_hold_the_other_labels_fixed() -> None:
    """Where nearly all who smile have bangs, a difference of means takes one for the other."""
    labels = torch.tensor([[0.0, 0.0]] * 40 + [[1.0, 1.0]] * 40 + [[1.0, 0.0]] * 2 + [[0.0, 1.0]])
    chance = torch.Generator().manual_seed(0)
    noise = torch.randint(-20, 21, (83, 3), generator=chance)
    vae, data = Linear(), coloured(labels, noise)
    model = Arithmetic(vae, data)
    means = vae.encode(data.float())[0]
    # Many more than are encoded at once, to the same answer:
    many = LabelledImages(data.images.repeat(4, 1, 1, 1), labels.repeat(4, 1), data.names)
    torch.testing.assert_close(Arithmetic(vae, many).vectors, model.vectors, atol=1e-4, rtol=1e-4)
    inputs = np.concatenate([labels.double().numpy(), np.ones((83, 1))], axis=1)
    solution, *_ = np.linalg.lstsq(inputs, means.double().numpy(), rcond=None)
    assert np.abs(model.vectors.double().numpy() - solution).max() < 1e-4
    smiling = labels[:, 0] == 1
    naive = means[smiling].mean(dim=0) - means[~smiling].mean(dim=0)
    exact = STEPS[0] / 255 @ vae.lines
    assert float((model.vectors[0] - exact).norm()) < 0.5 * float((naive - exact).norm())


def test_arithmetic_is_asked_like_any_other_model() -> None:
    """A judge that sees the blue of bangs and the red of smiles finds both where asked for."""

    class Colours:
        names = ("Bangs", "Smiling")

        def attributes(self, images: Tensor) -> Tensor:
            seen = torch.linalg.solve(vae.lines.T, images[:, :, 0, 0].T - model.vectors[2, :, None])
            told = torch.linalg.lstsq(STEPS.float().T / 255, seen).solution.T  # (B, 2)
            return told.flip(1)

    vae = Linear()
    labels = torch.randint(2, (40, 2), generator=torch.Generator().manual_seed(1)).float()
    model = Arithmetic(vae, coloured(labels))
    still = model.decode
    model.decode = lambda z: still(z * torch.tensor([1, 1, 0, 0, 0]))  # type: ignore[method-assign]
    report = control(model, Colours(), labels)  # type: ignore[arg-type]
    assert report.mean == 1.0
    turned = control(model, Colours(), 1 - labels)  # type: ignore[arg-type]
    assert turned.mean == 1.0


# --- Using them -----------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_and_ranges(channels: int) -> None:
    model = small(channels=channels).eval()
    images, labels = batch(channels=channels)
    mean, log_variance = model.encode(images)
    assert mean.shape == log_variance.shape == (6, 8)
    for pictures in (model.decode(mean).detach(), model.sample(labels), model.sample(count=6)):
        assert pictures.shape == images.shape
        assert pictures.dtype == torch.float32
        assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1


def test_a_generator_decides_what_is_sampled() -> None:
    model = small().eval()
    draw = [
        model.sample(DESIGN.labels(4, Smiling=1), generator=torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8)
    ]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert not draw[0].requires_grad
    z = DESIGN.sample(DESIGN.labels(4, Smiling=1), generator=torch.Generator().manual_seed(7))
    assert torch.equal(draw[0], model.decode(z))


@pytest.mark.parametrize(
    "shape", [(3, 16, 16), (2, 1, 16, 16), (2, 3, 32, 32), (2, 3, 16, 8), (2, 16, 16, 3)]
)
def test_pictures_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    sentence = f"this model takes images of shape (B, 3, 16, 16), not {shape}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        small().encode(torch.rand(shape))


@pytest.mark.parametrize(
    "settings",
    [{"sigma": 0.0}, {"sigma": -1.0}, {"sigma": math.nan}, {"beta": -0.1}, {"beta": math.nan}],
)
def test_a_likelihood_or_a_weight_that_makes_no_sense_is_refused(settings: Any) -> None:
    with pytest.raises(ValueError, match="sigma is above 0 and beta at least 0"):
        small(**settings)


def test_wrong_labels_are_refused() -> None:
    model = small()
    images, labels = batch()
    with pytest.raises(ValueError, match=re.escape("labels have shape (B, 2)")):
        model.losses(images, labels[:, :1])
    with pytest.raises(ValueError, match="does not fit mean"):
        model.losses(images, labels[:4])
    with pytest.raises(ValueError, match="give labels, or count"):
        model.sample()


# --- Saving them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("upsampling", "flow", "unpainted", "carry"),
    [("transposed", 0, (), 0), ("resize", 4, ("Smiling",), 2)],
)
@pytest.mark.parametrize(
    ("kind", "design"), [(VAE, SIGNED), (LSCVAE, SIGNED), (ConditionalVAE, CONDITIONAL)]
)
def test_a_configuration_builds_the_same_architecture(
    kind: type[VAE],
    design: LatentDesign,
    upsampling: str,
    flow: int,
    unpainted: tuple[str, ...],
    carry: int,
) -> None:
    decoder = {"upsampling": upsampling, "flow": flow, "unpainted": unpainted, "carry": carry}
    model = small(kind, design, sigma=0.3, beta=2.0, channels=1, width=3, **decoder)
    config = json.loads(json.dumps(model.config(), allow_nan=False))
    again = kind.from_config(config)
    assert type(again) is kind
    assert again.config() == model.config()
    assert (again.design, again.sigma, again.beta) == (design, 0.3, 2.0)
    assert {name: getattr(again, name) for name in decoder} == decoder
    again.load_state_dict(model.state_dict())
    z = torch.randn(2, design.size)
    assert torch.equal(again.eval().decode(z), model.eval().decode(z))


def test_a_configuration_from_before_there_was_a_choice_of_decoder() -> None:
    config = small().config()
    for name in ("upsampling", "flow", "unpainted", "carry"):
        del config[name]
    model = LSCVAE.from_config(config)
    assert (model.upsampling, model.flow) == ("transposed", 0)
    assert (model.unpainted, model.carry) == ((), 0)


@pytest.mark.parametrize(("kind", "design"), [(LSCVAE, SIGNED), (ConditionalVAE, CONDITIONAL)])
def test_an_unpainted_attribute_is_moved_and_no_other_is(
    kind: type[VAE], design: LatentDesign
) -> None:
    torch.manual_seed(0)
    model = small(kind, design, flow=4, unpainted=("Bangs",)).eval()
    flow = model.decoder.flow
    assert isinstance(flow, torch.nn.Linear)
    torch.nn.init.normal_(flow.weight)
    z = torch.randn(4, design.size)
    for name in design.names:
        moved = z.clone()
        moved[:, design.block(name)] += 1.0
        painted = [model.decoder.paint(at) for at in (z, moved)]  # type: ignore[operator]
        assert torch.equal(*painted) == (name == "Bangs")
        assert not torch.equal(model.decode(z), model.decode(moved))


def test_what_is_unpainted_is_an_attribute_and_needs_a_flow() -> None:
    with pytest.raises(ValueError, match="this design has no Frowning to leave unpainted: it has "):
        small(flow=4, unpainted=("Frowning",))
    with pytest.raises(ValueError, match="what is not painted has to move"):
        small(unpainted=("Smiling",))
    with pytest.raises(ValueError, match="for what is unpainted, not 1"):
        small(flow=4, carry=1)


@pytest.mark.parametrize(("kind", "design"), [(LSCVAE, SIGNED), (ConditionalVAE, CONDITIONAL)])
def test_what_is_carried_on_is_the_step_of_the_label(kind: type[VAE], design: LatentDesign) -> None:
    model = small(kind, design, flow=4, unpainted=("Bangs",), carry=1)
    zero, one = design.mean(torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    assert isinstance(model.decoder, Decoder)
    assert torch.equal(model.decoder.unpainted, (one - zero)[None])
    # Another label's block does not count: doses are of Bangs alone.
    flow = model.decoder.flow
    assert flow is not None
    torch.nn.init.normal_(flow.weight, generator=torch.Generator().manual_seed(3))
    model.eval()
    labels = torch.tensor([[0.0, 1.0], [-2.0, 0.5], [0.0, 1e-3], [1.0, -1e-3], [0.0, -1.0]])
    z = design.mean(labels)  # (5, D)
    changed = (
        (model.decoder.displacements(z) - flow(z).unflatten(1, (2, 4, 4))).abs().amax((1, 2, 3))
    )
    assert (changed > 0).tolist() == [False, False, False, True, True]
