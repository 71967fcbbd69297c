"""What a run will cost on a GPU that is not here: estimates, from its arithmetic alone.

A step is run on the CPU with a few images while its arithmetic, its operations and its memory are
counted. What a GPU would need for it follows from its published peak, from an assumption on how
much of that peak networks as small as these reach, and from what starting an operation took beside
one H100. So every figure is a range.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from lscgan.training.loop import Trainable

UTILISATION = (0.40, 0.10)
"""The share of its published peak that a GPU is assumed to reach: at best, at worst."""

LAUNCH = (20e-6, 60e-6)
"""Seconds that training takes for one operation while the GPU waits for it: at best, at worst.

Beside one H100, whose processor was slow, the steps of judge, LSC-VAE and LSC-GAN took 59, 45 and
43 microseconds an operation (``book/runs/celeba.ipynb``, torch 2.11). That a faster one needs half
of it at best is assumed.
"""

OPTIMIZER = 20
"""Operations of one optimiser's step on a GPU, where PyTorch treats all weights together."""

CUDA = 2**30
"""Bytes that CUDA and its libraries take for themselves, assumed."""


@dataclass(frozen=True)
class GPU:
    """A GPU as its maker describes it.

    Args:
        name: as in Colab's menu.
        float32: peak of arithmetic in float32, in floating-point operations a second.
        bfloat16: the same on its tensor cores, without sparsity; None where it has no bfloat16.
        memory: bytes.
    """

    name: str
    float32: float
    bfloat16: float | None
    memory: float

    @property
    def peak(self) -> float:
        """Of the precision that :func:`lscgan.training.pick_precision` takes by itself."""
        return self.bfloat16 or self.float32


GPUS = (
    GPU("T4", 8.1e12, None, 16e9),
    GPU("L4", 30.3e12, 121e12, 24e9),
    GPU("A100", 19.5e12, 312e12, 40e9),
    GPU("H100", 67e12, 989e12, 80e9),
)
"""NVIDIA's data sheets: T4 (2019), L4 (2023), A100 SXM 40 GB (2020), H100 SXM (2023)."""


@dataclass(frozen=True)
class StepCost:
    """What training steps cost, averaged over a few.

    Attributes:
        flops: floating-point operations an image, an addition and a multiplication counted as
            two; convolutions and matrix products alone, which are nearly all.
        operations: operations a step.
        fixed: bytes that do not grow with the batch: weights, gradients, the optimisers' moments.
        an_image: bytes a further image in the batch takes at the peak.

    Bytes are those of float32: an upper bound where a GPU computes in bfloat16.
    """

    flops: float
    operations: float
    fixed: float
    an_image: float

    def minutes(self, gpu: GPU, images: int, batch_size: int) -> tuple[float, float]:
        """How long ``images`` in training may take: at best, at worst.

        At best the GPU computes while operations are started, at worst it waits for each.
        """
        steps = images / batch_size
        arithmetic = [self.flops * batch_size / (gpu.peak * share) for share in UTILISATION]
        starting = [self.operations * seconds for seconds in LAUNCH]
        best, worst = max(arithmetic[0], starting[0]), arithmetic[1] + starting[1]
        return steps * best / 60, steps * worst / 60

    def memory(self, batch_size: int, data: int = 0) -> float:
        """Bytes at the peak, with ``data`` bytes of images on the GPU as well."""
        return CUDA + data + self.fixed + batch_size * self.an_image


def step_cost(
    model: Trainable, images: Tensor, labels: Tensor, averaged: bool = False, steps: int = 4
) -> StepCost:
    """Count what a model's training steps cost. The model and the state of chance stay as they are.

    Args:
        model: on the CPU.
        images: (B, C, H, W) in [0, 1], on the CPU; B is 8 or more, and even. Few are enough.
        labels: (B, A).
        averaged: count a copy of the weights, as averaging keeps one.
        steps: how many are run, so that what happens at every fourth step counts a quarter.

    Raises:
        ValueError: there are fewer than 8 images, or an odd number.
    """
    count = len(images)
    if count < 8 or count % 2:
        raise ValueError(f"a step's cost is counted with 8, 10, 12, ... images, not {count}")
    few, many = (_run(model, images[:b], labels[:b], steps) for b in (count // 2, count))
    weights = _bytes(model)
    an_image = (many.peak - few.peak) / (count // 2)
    return StepCost(
        flops=many.flops / (steps * count),
        operations=many.operations / steps,
        fixed=weights * (2 if averaged else 1) + many.peak - count * an_image,
        an_image=an_image,
    )


def _run(model: Trainable, images: Tensor, labels: Tensor, steps: int) -> _Watch:
    probe = copy.deepcopy(model)
    cast(nn.Module, probe).train()
    with torch.random.fork_rng(devices=[]):
        watch = _Watch()
        optimizers = probe.optimizers(1e-6)
        for optimizer in optimizers.values():
            optimizer.register_step_pre_hook(watch.pause)
            optimizer.register_step_post_hook(watch.go_on)
        with watch:
            for _ in range(steps):
                probe.training_step(images, labels, optimizers)
    return watch


def _bytes(model: Trainable) -> int:
    tensors = cast(nn.Module, model).state_dict().values()
    return sum(t.numel() * t.element_size() for t in tensors)


class _Watch(TorchDispatchMode):
    """Counts operations, their arithmetic, and the bytes of what they make while it lives.

    torch's own ``FlopCounterMode`` holds the table of formulas, but stops at a gradient penalty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.flops, self.held, self.peak = 0, 0, 0, 0
        self._counting = True

    def pause(self, *ignored: object) -> None:
        """An optimiser's step: on a CPU it takes one weight after another, unlike on a GPU."""
        self.operations += OPTIMIZER
        self._counting = False

    def go_on(self, *ignored: object) -> None:
        self._counting = True

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in _tensors((args, kwargs))}
        for tensor in _tensors(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in given:  # neither a view nor written in place
                self.held += storage.nbytes()
                weakref.finalize(storage, self._gone, storage.nbytes()).atexit = False
        if self._counting:
            self.peak = max(self.peak, self.held)
            self.operations += not getattr(func, "is_view", False)  # a view computes nothing
            formula = flop_registry.get(getattr(func, "_overloadpacket", None))
            if formula is not None:
                self.flops += formula(*args, **(kwargs or {}), out_val=made)
        return made

    def _gone(self, size: int) -> None:
        self.held -= size


def _tensors(nested: object) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(nested) if isinstance(leaf, Tensor)]
