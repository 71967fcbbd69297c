"""Images and their labels, in memory."""

from __future__ import annotations

import builtins
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """N images with A labels each.

    Args:
        images: uint8, (N, C, H, W): a quarter of float32's memory, so that whole sets stay on a
            GPU.
        labels: float32, (N, A); usually 0 or 1, or a class index; any real amount is allowed, and
            NaN says that the label is not known.
        names: the A labels' names.
        source: where they come from, in plain numbers and strings, for a run's record.

    Raises:
        ValueError: a type or shape does not fit the others, or a name is repeated.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise ValueError(
                f"images are uint8 of shape (N, C, H, W), not {self.images.dtype} "
                f"{tuple(self.images.shape)}"
            )
        if self.labels.dtype != torch.float32:
            raise ValueError(f"labels are float32, not {self.labels.dtype}: use .float()")
        if self.labels.shape != (len(self.images), len(self.names)):
            raise ValueError(
                f"{len(self.images)} images with {len(self.names)} names need labels of shape "
                f"{(len(self.images), len(self.names))}, not {tuple(self.labels.shape)}"
            )
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"a label's name is repeated: {', '.join(self.names)}")

    def __len__(self) -> int:
        return len(self.images)

    def float(self) -> Tensor:
        """All images as float32 in [0, 1], (N, C, H, W); mind the memory."""
        return self.images.float() / 255

    def select(self, index: Tensor | slice) -> LabelledImages:
        """The images and labels of some rows: a slice, whole numbers or a mask of booleans."""
        return LabelledImages(self.images[index], self.labels[index], self.names, self.source)

    @property
    def labelled(self) -> Tensor:
        """Which images have all their labels, (N,) bool."""
        return self.labels.isfinite().all(dim=1)

    def keep_labels(
        self,
        count: int | None = None,
        *,
        fraction: builtins.float | None = None,
        seed: int = 0,
        balanced: bool = True,
    ) -> LabelledImages:
        """The same images with the labels of ``count`` of them, drawn at random; NaN elsewhere.

        What is taken away is gone: a model that gets the result cannot read it.

        Args:
            count: how many labels are kept.
            fraction: instead of ``count``, their share, rounded: 0.0022 of 60,000 is 132.
            seed: of the draw.
            balanced: as many of every class, to within one; for data with one class label.

        Raises:
            ValueError: neither or both of count and fraction are given, there are fewer labels
                than are to be kept, or ``balanced`` is asked of labels that are no classes.
        """
        if (count is None) == (fraction is None):
            raise ValueError("give count, how many labels are kept, or fraction: one of the two")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"fraction is a share from 0 to 1, not {fraction}")
            count = round(fraction * len(self))
        if count is None or isinstance(count, builtins.float) or count < 0:
            raise ValueError(f"count is a whole number of at least 0, not {count!r}")
        chance = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self), generator=chance)
        order = order[self.labelled[order]]
        if count > len(order):
            raise ValueError(f"{count} labels are to be kept, but only {len(order)} are there")
        if balanced:
            order = self._by_turns(order, chance)
        labels = torch.full_like(self.labels, float("nan"))
        labels[order[:count]] = self.labels[order[:count]]
        source = {**self.source, "labels_kept": count, "labels_kept_with_seed": seed}
        return LabelledImages(self.images, labels, self.names, source)

    def _by_turns(self, order: Tensor, chance: torch.Generator) -> Tensor:
        """Rows reordered so that classes take turns, in a random order in every turn."""
        classes = self.labels[order]  # (M, A)
        if classes.shape[1] != 1 or bool((classes != classes.round()).any()):
            raise ValueError(
                "balanced labels need one label of classes 0, 1, ...: give balanced=False"
            )
        classes = classes[:, 0]
        turn = torch.zeros_like(classes)
        for one in classes.unique():
            turn[classes == one] = torch.arange(int((classes == one).sum())).float()
        return order[(turn + torch.rand(len(turn), generator=chance) / 2).argsort()]

    def shuffled_labels(self, seed: int) -> LabelledImages:
        """The same images with their rows of labels dealt out anew: a control for any claim.

        What a model still does after this, it did not learn from the labels.
        """
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        source = {**self.source, "labels_shuffled_with_seed": seed}
        return LabelledImages(self.images, self.labels[order], self.names, source)

    def column(self, name: str) -> Tensor:
        """One label of every image, (N,).

        Raises:
            ValueError: there is no such label.
        """
        if name not in self.names:
            raise ValueError(f"there is no label {name!r}: there are {', '.join(self.names)}")
        return self.labels[:, self.names.index(name)].contiguous()
