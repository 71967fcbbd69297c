"""Which images make a batch: a function of the step and the seed alone, so that runs can resume."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


class Batches(Protocol):
    """What the loop asks for the rows of each step's batch."""

    def rows(self, step: int) -> Tensor: ...

    def config(self) -> dict[str, Any]: ...


class Epochs:
    """Passes over all images, each in a new order; a last incomplete batch is left out.

    Args:
        count: N images.
        size: images a batch.
        seed: of the orders.
    """

    def __init__(self, count: int, size: int, seed: int):
        self.count, self.size, self.seed = count, size, seed
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def rows(self, step: int) -> Tensor:
        """The rows of the batch of this step, (size,)."""
        epoch, index = divmod(step, self.count // self.size)
        if epoch != self._epoch:
            chance = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
            self._epoch, self._order = epoch, torch.randperm(self.count, generator=chance)
        return self._order[index * self.size : (index + 1) * self.size]

    def config(self) -> dict[str, Any]:
        return {"kind": "epochs"}


@dataclass(frozen=True)
class LabelSchedule:
    """When labels are read: ss-InfoGAN's schedule (Spurr et al. 2017, official code).

    Every batch is labelled or unlabelled *as a whole*. The probability that it is unlabelled
    starts at 0, so that the codes learn their meaning first, and grows by ``growth`` every
    ``every`` steps up to ``unlabelled``. The defaults are the official MNIST settings. Rows are
    drawn with replacement, unlabelled batches from images without a label.

    Args:
        unlabelled: the probability at which the growth ends.
        growth: by how much it grows at a time.
        every: steps between two growths.
        whole: False draws for every *row* of a batch: batches are mixed. An ablation of ours.

    Raises:
        ValueError: a value is out of its range.
    """

    unlabelled: float = 0.99
    growth: float = 0.1
    every: int = 100
    whole: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.unlabelled <= 1:
            raise ValueError(f"unlabelled is a share from 0 to 1, not {self.unlabelled}")
        if not self.growth > 0:
            raise ValueError(f"growth is above 0, not {self.growth}")
        if self.every < 1:
            raise ValueError(f"every is at least 1, not {self.every}")

    def probability(self, step: int) -> float:
        """The probability that the batch of this step is unlabelled."""
        return min(self.growth * (step // self.every), self.unlabelled)

    def batches(self, labelled: Tensor, size: int, seed: int) -> ScheduledBatches:
        """The batches of one run.

        Args:
            labelled: which images have a label, (N,) bool.
            size: images a batch.
            seed: of every draw.

        Raises:
            ValueError: no image has a label.
        """
        return ScheduledBatches(self, labelled, size, seed)


class ScheduledBatches:
    """The batches that a :class:`LabelSchedule` draws."""

    def __init__(self, schedule: LabelSchedule, labelled: Tensor, size: int, seed: int):
        self.schedule, self.size, self.seed = schedule, size, seed
        self.labelled = labelled.nonzero()[:, 0]
        self.unlabelled = (~labelled).nonzero()[:, 0]
        if not len(self.labelled):
            raise ValueError(
                "no image has a label: keep some, or train an InfoGAN, which needs none"
            )

    def rows(self, step: int) -> Tensor:
        """The rows of the batch of this step, (size,)."""
        chance = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        draws = torch.rand(1 if self.schedule.whole else self.size, generator=chance)
        without = (draws < self.schedule.probability(step)).expand(self.size)  # (B,)
        if not len(self.unlabelled):
            without = torch.zeros_like(without)
        places = torch.rand(self.size, generator=chance, dtype=torch.float64)  # (B,)
        known = self.labelled[(places * len(self.labelled)).long()]  # (B,)
        if not bool(without.any()):
            return known
        return torch.where(without, self.unlabelled[(places * len(self.unlabelled)).long()], known)

    def config(self) -> dict[str, Any]:
        return {
            "kind": "labels first",
            "labelled": len(self.labelled),
            **dataclasses.asdict(self.schedule),
        }
