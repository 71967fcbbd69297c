"""What a run will cost: counts against closed forms and against torch's own counter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lscgan.evaluation import AttributeJudge
from lscgan.latent import LatentDesign
from lscgan.models import LSCGAN, LSCVAE, Recipe
from lscgan.training import GPU, GPUS, StepCost, step_cost

NAMES = ("Smiling", "Eyeglasses")
DESIGN = LatentDesign.lsc(NAMES, 2, size=8)
IMAGES = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([[0.0, 1.0], [1.0, 0.0]] * 4)


class Dense(nn.Module):
    """768 numbers an image to ``hidden`` to 3, and tensors that a step makes besides."""

    def __init__(self, hidden: int = 5, held: int = 0, dropped: int = 0):
        super().__init__()
        self.held, self.dropped = held, dropped
        self.first = nn.Linear(768, hidden, bias=False)
        self.second = nn.Linear(hidden, 3, bias=False)

    def config(self) -> dict[str, int]:
        return {}

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        return {"all": torch.optim.Adam(self.parameters(), lr=learning_rate)}

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        held = torch.zeros(len(images), self.held)
        for _ in range(self.dropped):
            torch.zeros(len(images), 100_000)
        out = self.second(torch.relu(self.first(images.flatten(1))))
        loss = out.square().mean() + held.sum()
        optimizers["all"].zero_grad(set_to_none=True)
        loss.backward()
        optimizers["all"].step()
        return {"loss": loss.detach()}


def test_arithmetic_of_two_layers_by_hand() -> None:
    """Forward 2 x 768 x 5 + 2 x 5 x 3; backward the same for the weights, and the hidden layer."""
    assert step_cost(Dense(), IMAGES, LABELS).flops == 2 * (2 * 768 * 5 + 2 * 5 * 3) + 2 * 5 * 3


@pytest.mark.parametrize("kind", [LSCVAE, AttributeJudge])
def test_arithmetic_is_torchs_own_count(kind: type) -> None:
    torch.manual_seed(0)
    model = AttributeJudge(NAMES, width=4) if kind is AttributeJudge else LSCVAE(DESIGN, 16, 3, 4)
    cost = step_cost(model, IMAGES, LABELS, steps=1)
    with FlopCounterMode(display=False) as counter:
        model.training_step(IMAGES, LABELS, model.optimizers(1e-3))
    assert cost.flops == counter.get_total_flops() / len(IMAGES) > 1e5


def test_a_penalty_at_every_fourth_step_counts_a_quarter() -> None:
    def flops(r1: float, every: int) -> float:
        torch.manual_seed(0)
        gan = LSCGAN(DESIGN, Recipe(r1=r1, penalty_every=every), size=16, width=4)
        return step_cost(gan, IMAGES, LABELS).flops

    none, each, fourth = flops(0.0, 1), flops(0.5, 1), flops(0.5, 4)
    assert each > none
    assert fourth - none == pytest.approx((each - none) / 4)


def test_memory_is_what_lives_at_once() -> None:
    plain = step_cost(Dense(), IMAGES, LABELS)
    holding = step_cost(Dense(held=1_000_000), IMAGES, LABELS)
    assert holding.an_image - plain.an_image == pytest.approx(4e6, rel=0.01)
    dropping = step_cost(Dense(dropped=10), IMAGES, LABELS)
    assert dropping.an_image == pytest.approx(4e5, rel=0.05)  # one at a time, not ten
    # Weights, gradients and Adam's two moments; averaging keeps the weights once more.
    weights = 4 * (768 * 1_000 + 3 * 1_000)
    large = step_cost(Dense(hidden=1_000), IMAGES, LABELS)
    assert large.fixed == pytest.approx(4 * weights, rel=0.02)
    averaged = step_cost(Dense(hidden=1_000), IMAGES, LABELS, averaged=True)
    assert averaged.fixed - large.fixed == weights


def test_counting_changes_neither_the_model_nor_chance() -> None:
    torch.manual_seed(0)
    model = LSCVAE(DESIGN, 16, 3, 4).eval()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    chance = torch.get_rng_state()
    step_cost(model, IMAGES, LABELS)
    assert torch.equal(torch.get_rng_state(), chance)
    assert not model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_minutes_and_memory_by_hand() -> None:
    """60,000 steps of 64 images: 0.1 s of arithmetic at the peak, 0.1 s to start at the slowest."""
    cost = StepCost(flops=1e12 / 64, operations=0.1 / 60e-6, fixed=5e6, an_image=1e6)
    gpu = GPU("one", 10e12, None, 16e9)
    best, worst = cost.minutes(gpu, 64 * 60_000, 64)
    assert best == pytest.approx(1_000 * 0.1 / 0.4)  # arithmetic hides the starts
    assert worst == pytest.approx(1_000 * (0.1 / 0.1 + 0.1))
    small = dataclasses.replace(cost, flops=0.0)
    assert small.minutes(gpu, 64 * 60_000, 64)[0] == pytest.approx(1_000 * 0.1 * 20 / 60)
    assert dataclasses.replace(gpu, bfloat16=20e12).peak == 20e12
    assert cost.memory(64, data=10**9) == 2**30 + 1e9 + 5e6 + 64e6


def test_the_gpus_are_in_order_of_their_peak() -> None:
    assert [gpu.name for gpu in GPUS] == ["T4", "L4", "A100", "H100"]
    assert sorted(GPUS, key=lambda gpu: gpu.peak) == list(GPUS)


@pytest.mark.parametrize("count", [4, 7])
def test_too_few_images_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"with 8, 10, 12, ... images, not {count}"):
        step_cost(Dense(), IMAGES[:count], LABELS[:count])
