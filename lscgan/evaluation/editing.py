"""Editing real images: encode, shift, decode; and what an edit kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lscgan.data import LabelledImages
from lscgan.evaluation.asking import attribute_columns, encoded, seen
from lscgan.evaluation.intervals import Interval, mean_interval
from lscgan.evaluation.judges import Judges
from lscgan.evaluation.mouth import REGION
from lscgan.latent import LatentDesign


class Editable(Protocol):
    """What editing asks of a model: a VAE and an LSC-GAN have these."""

    design: LatentDesign

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]: ...

    def decode(self, z: Tensor) -> Tensor: ...


@torch.no_grad()
def edit(model: Editable, images: Tensor, /, **amounts: float | Tensor) -> Tensor:
    """Encode, shift, decode: G(m(x) + n) for each image x (Kim & Cho 2019, G(z + n_j)).

    ``edit(model, faces, Smiling=-1.0)`` moves every face's smile one label unit down, from where
    the encoder sees it.

    Args:
        model: in eval mode.
        images: (B, C, H, W) in [0, 1], of the model's shape.
        amounts: label units, by attribute: one number, or (B,) one an image.

    Returns:
        (B, C, H, W) in [0, 1], on the CPU.

    Raises:
        ValueError: the images have another shape than the model's, their pixels are no numbers in
            [0, 1], or an unknown attribute.
    """
    moved = model.design.shift(encoded(model, images), **amounts)  # (B, D)
    return seen(model, moved, lambda pictures: pictures)  # (B, C, H, W)


@dataclass(frozen=True)
class EditReport:
    """What an edit of real faces did, against the same faces encoded and decoded alone.

    Attributes:
        count: faces edited.
        amount: in label units.
        curvature_change: mean change of the curvature, by judge, with its 95% interval.
        others_kept: share of the other attributes' readings that did not change.
        change_inside: mean absolute change of a pixel value inside the region.
        change_outside: the same outside it.
        loss_outside: mean absolute difference between the real face and its reconstruction
            outside the region: what encoding and decoding cost by themselves.
    """

    count: int
    amount: float
    curvature_change: dict[str, Interval]
    others_kept: Interval
    change_inside: float
    change_outside: float
    loss_outside: float

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return asdict(self)


def edit_report(
    model: Editable,
    judges: Judges,
    faces: LabelledImages,
    attribute: str = "Smiling",
    amount: float = -1.0,
    region: tuple[float, float, float, float] = REGION,
) -> EditReport:
    """Edit real faces and measure what changed, inside a region and outside it.

    Args:
        model: in eval mode.
        faces: real faces; for the reverse of a smile, neutral ones.
        attribute: what is edited.
        amount: by how much, in label units.
        region: where the edit should show: top, bottom, left, right, as shares of the picture.

    Raises:
        ValueError: the judge does not read one of the design's attributes, or as :func:`edit`.
    """
    images = faces.float()
    rebuilt, edited = edit(model, images), edit(model, images, **{attribute: amount})
    names = model.design.names
    columns = attribute_columns(model.design, judges.face)
    others = [column for name, column in zip(names, columns, strict=True) if name != attribute]
    read = [judges.face.attributes(pictures)[:, others] > 0.5 for pictures in (rebuilt, edited)]
    kept = (read[0] == read[1]).float().mean(dim=1) if others else torch.ones(len(faces))  # (N,)
    inside = _inside(region, images.shape[-2:])  # (H, W)
    change = (edited - rebuilt).abs().mean(dim=(0, 1))  # (H, W)
    loss = (rebuilt - images).abs().mean(dim=(0, 1))  # (H, W)
    return EditReport(
        count=len(faces),
        amount=float(amount),
        curvature_change={
            name: mean_interval(judge.curvature(edited) - judge.curvature(rebuilt))
            for name, judge in judges.curvature.items()
        },
        others_kept=mean_interval(kept),
        change_inside=float(change[inside].mean()),
        change_outside=float(change[~inside].mean()),
        loss_outside=float(loss[~inside].mean()),
    )


def _inside(region: tuple[float, float, float, float], shape: torch.Size) -> Tensor:
    height, width = shape
    top, bottom = round(region[0] * height), round(region[1] * height)
    left, right = round(region[2] * width), round(region[3] * width)
    inside = torch.zeros(height, width, dtype=torch.bool)
    inside[top:bottom, left:right] = True
    return inside
