"""Asking any model for pictures: which labels, which columns, and drawing them in pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor

from lscgan.data import faces
from lscgan.evaluation.judge import AttributeJudge
from lscgan.evaluation.pictures import device_of, in_pieces
from lscgan.latent import LatentDesign


class Generative(Protocol):
    """What a measure asks of a model: every model of the book has these."""

    design: LatentDesign

    def decode(self, z: Tensor) -> Tensor: ...


def requested(
    design: LatentDesign, labels: Tensor | None, count: int, generator: torch.Generator | None
) -> Tensor:
    """The labels that a measure asks a model for: the given ones, or random ones of faces.

    Returns:
        (N, A) float32, a copy.

    Raises:
        ValueError: no labels are given and the design's attributes are not those of faces, or the
            labels do not fit the design.
    """
    if labels is not None:
        if labels.ndim != 2 or labels.shape[1] != len(design.names):
            raise ValueError(
                f"labels have shape (N, {len(design.names)}), one column each for "
                f"{', '.join(design.names)}; these have {tuple(labels.shape)}"
            )
        return labels.float().clone()
    unknown = [name for name in design.names if name not in faces.ATTRIBUTES]
    if unknown or not design.names:
        raise ValueError("give labels: this design's attributes are not those of rendered faces")
    columns = [faces.ATTRIBUTES.index(name) for name in design.names]
    return faces.sample_labels(count, generator)[:, columns]


def attribute_columns(design: LatentDesign, judge: AttributeJudge) -> list[int]:
    """Where the judge's readings hold each of the design's attributes.

    Raises:
        ValueError: the judge does not read one of them.
    """
    unknown = [name for name in design.names if name not in judge.names]
    if unknown:
        raise ValueError(
            f"this judge does not read {', '.join(unknown)}: it reads {', '.join(judge.names)}"
        )
    return [judge.names.index(name) for name in design.names]


def seen(model: Generative, z: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``look`` says of the pictures that a model makes of z, drawn a few at a time.

    Returns:
        The looks at all pictures, one row a vector, on the CPU.
    """
    device = device_of(model, z)
    return in_pieces(lambda piece: look(model.decode(piece.to(device))).cpu(), z)


def encoded(model: Any, images: Tensor) -> Tensor:
    """The posterior means of images, (N, C, H, W) -> (N, D), on the CPU."""
    device = device_of(model, images)
    return in_pieces(lambda piece: model.encode(piece.to(device))[0].cpu(), images)
