"""Reversal: a block moved past label 0, to where no training image lies."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lscgan.evaluation.asking import (
    Generative,
    attribute_columns,
    encoded,
    requested,
    seen,
)
from lscgan.evaluation.intervals import Interval, mean_interval, wilson_interval
from lscgan.evaluation.judges import Judges

FROWN = -0.15
"""A mouth is called a frown below this curvature: flat mouths are read as 0 give or take 0.1."""

GROUP = 20
"""A group of fewer faces says too little to stand in a report."""

AMOUNTS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Dose:
    """What was read at one amount; shares and means come with 95% intervals.

    Attributes:
        amount: in label units; 0 and 1 are labels that training images have.
        curvature: mean curvature, by judge.
        frowns: share of curvatures below :data:`FROWN`, by judge.
        passed: share of pictures that the gate takes for faces.
        passed_by_group: the same share, by group of faces; see :func:`reversal`.
        curvature_by_group: mean curvature, by judge, then by group of faces.
        others_right: share of the other attributes' readings that are as asked. The interval is
            of the mean over faces, since the readings of one face are not independent.
        others_moved: share of the other attributes' readings that differ from those at amount 0,
            likewise.
    """

    amount: float
    curvature: dict[str, Interval]
    frowns: dict[str, Interval]
    passed: Interval
    passed_by_group: dict[str, Interval]
    curvature_by_group: dict[str, dict[str, Interval]]
    others_right: Interval
    others_moved: Interval

    @property
    def worst_group(self) -> tuple[str, float]:
        """The group of faces that passes the gate least often, and how often.

        Raises:
            ValueError: no group of faces was large enough, see :func:`reversal`.
        """
        if not self.passed_by_group:
            raise ValueError(f"no group has {GROUP} faces or more: measure more of them")
        name = min(self.passed_by_group, key=lambda group: self.passed_by_group[group][0])
        return name, self.passed_by_group[name][0]


@dataclass(frozen=True)
class ReversalReport:
    """The dose-response of one attribute: a :class:`Dose` an amount, in the order asked for."""

    attribute: str
    count: int
    doses: tuple[Dose, ...]

    def at(self, amount: float) -> Dose:
        """The dose of that amount.

        Raises:
            ValueError: it was not measured.
        """
        for dose in self.doses:
            if dose.amount == amount:
                return dose
        raise ValueError(f"{amount} was not measured: {[dose.amount for dose in self.doses]} were")

    def curve(self, judge: str) -> tuple[list[float], list[float], list[float]]:
        """Mean curvature by one judge, dose by dose, with the interval's low and high ends."""
        means, lows, highs = zip(*(dose.curvature[judge] for dose in self.doses), strict=True)
        return list(means), list(lows), list(highs)

    def monotone(self, judge: str) -> bool:
        """Whether mean curvature grows with every amount."""
        means = [dose.curvature[judge][0] for dose in self._by_amount()]
        return all(a < b for a, b in itertools.pairwise(means))

    def linear_range(self, judge: str, tolerance: float = 0.5) -> tuple[float, float]:
        """How far below 0 and above 1 the response goes on as it went from 0 to 1.

        Between every two neighbouring amounts outside 0 to 1 that the range takes in, curvature
        grows at ``1 - tolerance`` to ``1 + tolerance`` of the mean slope from 0 to 1, the amounts
        that training faces have. Steps between 0 and 1 are not looked at.

        Raises:
            ValueError: 0 or 1 was not measured.
        """
        slope = self.at(1.0).curvature[judge][0] - self.at(0.0).curvature[judge][0]
        low, high = 0.0, 1.0
        pairs = list(itertools.pairwise(self._by_amount()))

        def linear(a: Dose, b: Dose) -> bool:
            own = (b.curvature[judge][0] - a.curvature[judge][0]) / (b.amount - a.amount)
            return abs(own - slope) <= tolerance * abs(slope)

        for a, b in reversed([pair for pair in pairs if pair[1].amount <= 0]):
            if not linear(a, b):
                break
            low = a.amount
        for a, b in (pair for pair in pairs if pair[0].amount >= 1):
            if not linear(a, b):
                break
            high = b.amount
        return low, high

    def _by_amount(self) -> list[Dose]:
        return sorted(self.doses, key=lambda dose: dose.amount)

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return dataclasses.asdict(self)


def reversal(
    model: Generative,
    judges: Judges,
    labels: Tensor | None = None,
    attribute: str = "Smiling",
    amounts: Sequence[float] = AMOUNTS,
    images: Tensor | None = None,
    count: int = 2_000,
    generator: torch.Generator | None = None,
) -> ReversalReport:
    """Move one attribute's block over a range of amounts and read the mouth at each.

    Every amount is given to the same faces: one latent vector a row of labels, drawn at label 0
    and shifted (Kim & Cho 2019, G(z + n_j)). With ``images``, vectors are the posterior means of
    real faces that have label 0, and ``labels`` says what those faces are.

    Args:
        model: any model with a design and ``decode``; with ``images``, also ``encode``.
        judges: the face judge reads the other attributes, it and the mouth judge the curvature.
            The gate's verdict is reported; no picture is left out of the means for it.
        labels: (N, A), 0 or 1; the attribute's own column is set to 0 for faces that are drawn.
            Without them, ``count`` random rows that a rendered face can have.
        attribute: whose block is moved.
        amounts: in label units, 0 among them.
        images: (N, C, H, W) in [0, 1], with their labels, the attribute's own 0 or nearer to 0
            than to 1; or None to sample.
        generator: the source of labels and latent vectors.

    Groups of faces, for the means by group: those with each value of each other attribute
    (``"Eyeglasses=1"``) and those without any of them (``"none"``), where there are at least
    :data:`GROUP`.

    Raises:
        ValueError: amounts lack 0, the attribute is unknown, images and labels differ in number,
            or an image has the attribute or a label that is not known.
    """
    design = model.design
    if 0.0 not in amounts:
        raise ValueError("amounts must include 0, which the others are compared with")
    if attribute not in design.names:
        raise ValueError(f"this design has no {attribute!r}: it has {', '.join(design.names)}")
    if images is not None and labels is None:
        raise ValueError("give the labels of the images")
    columns = attribute_columns(design, judges.face)
    own = design.names.index(attribute)
    labels = requested(design, labels, count, generator)
    if images is not None:
        if not bool(labels.isfinite().all()):
            raise ValueError("a label is not known: give data.select(data.labelled) alone")
        without = labels[:, own] < 0.5  # (N,)
        if not bool(without.all()):
            raise ValueError(
                f"{int((~without).sum())} of {len(labels)} images are labelled {attribute}, and "
                "amounts are counted from label 0: give images without it"
            )
    labels[:, own] = 0.0
    if images is None:
        z = design.sample(labels, generator=generator)  # (N, D)
    else:
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images have {len(labels)} rows of labels")
        z = encoded(model, images)  # (N, D)
    others = [i for i in range(len(columns)) if i != own]
    asked = labels[:, others] > 0.5  # (N, A - 1)
    groups = _groups([design.names[i] for i in others], asked)

    def read(amount: float) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        moved = design.shift(z, **{attribute: amount})

        def look(pictures: Tensor) -> Tensor:
            attributes = judges.face.attributes(pictures)[:, columns][:, others]  # (B, A - 1)
            curvatures = [j.curvature(pictures)[:, None] for j in judges.curvature.values()]
            return torch.cat(
                [attributes, judges.gate.passes(pictures)[:, None], *curvatures], dim=1
            )

        looks = seen(model, moved, look)  # (N, A - 1 + 1 + judges)
        attributes, passed = looks[:, : len(others)] > 0.5, looks[:, len(others)] > 0.5
        curvature = {n: looks[:, len(others) + 1 + i] for i, n in enumerate(judges.curvature)}
        return attributes, curvature, passed

    unmoved, _, _ = read(0.0)
    doses = []
    for amount in amounts:
        attributes, curvature, passed = read(amount)
        doses.append(
            Dose(
                amount=float(amount),
                curvature={n: mean_interval(c) for n, c in curvature.items()},
                frowns={n: _share(c < FROWN) for n, c in curvature.items()},
                passed=_share(passed),
                passed_by_group={n: _share(passed[rows]) for n, rows in groups.items()},
                curvature_by_group={
                    judge: {n: mean_interval(c[rows]) for n, rows in groups.items()}
                    for judge, c in curvature.items()
                },
                others_right=_share_of_face(attributes == asked, none=1.0),
                others_moved=_share_of_face(attributes != unmoved, none=0.0),
            )
        )
    return ReversalReport(attribute, len(labels), tuple(doses))


def _groups(names: Sequence[str], asked: Tensor) -> dict[str, Tensor]:
    groups = {}
    for i, name in enumerate(names):
        groups[f"{name}=0"], groups[f"{name}=1"] = ~asked[:, i], asked[:, i]
    groups["none"] = ~asked.any(dim=1)
    return {name: rows for name, rows in groups.items() if int(rows.sum()) >= GROUP}


def _share(which: Tensor) -> Interval:
    return wilson_interval(int(which.sum()), len(which))


def _share_of_face(which: Tensor, none: float) -> Interval:
    """Mean over faces of the share of a face's readings, (N, A - 1); ``none`` without any."""
    if which.shape[1] == 0:
        return none, none, none
    return mean_interval(which.float().mean(dim=1))
