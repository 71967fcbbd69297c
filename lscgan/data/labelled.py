"""Images and their labels, in memory."""

from __future__ import annotations

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
        labels: float32, (N, A); usually 0 or 1, any real amount is allowed.
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
