"""What to know of a data set before training on it."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lscgan.data.classes import CLASSES, LABEL
from lscgan.data.labelled import LabelledImages

RARE = 0.01
"""A smaller share of images with an attribute (or without it) is called rare."""

FAR = 2.0
"""Labels further than this from 1/2, in root mean square, are off the scale of a design."""

EXPECTED = 5.0
"""Two attributes that never meet exclude each other where chance alone would give so many."""


@dataclass(frozen=True)
class Description:
    """A data set in numbers; printed, it is a table.

    Args:
        count: N images.
        shape: of an image, (C, H, W).
        names: the A labels' names.
        known: how many images have each label, A numbers.
        means: of the known labels: the share of images with the attribute where it is 0 or 1.
        ranges: of the known labels, (lowest, highest).
        classes: how many images each class has, by its name, where the label is a class.
        correlations: Pearson's, (A, A), over the images that have both labels; NaN where one of
            the two does not vary there.
        warnings: what may go wrong in training, one sentence each.
    """

    count: int
    shape: tuple[int, ...]
    names: tuple[str, ...]
    known: tuple[int, ...]
    means: tuple[float, ...]
    ranges: tuple[tuple[float, float], ...]
    classes: dict[str, int]
    correlations: np.ndarray
    warnings: tuple[str, ...]

    def __str__(self) -> str:
        channels, height, width = self.shape
        lines = [f"{self.count:,} images, {channels} x {height} x {width}", ""]
        if self.classes:
            wide = max(map(len, self.classes))
            total = max(sum(self.classes.values()), 1)
            lines += [f"{'class':{wide}}  {'images':>9}   share"]
            lines += [f"{n:{wide}}  {c:9,}  {c / total:6.1%}" for n, c in self.classes.items()]
            lines += [f"{'unknown':{wide}}  {self.count - sum(self.classes.values()):9,}"]
        else:
            wide = max(map(len, (*self.names, "attribute")))
            lines += [f"{'attribute':{wide}}  {'known':>9}  {'unknown':>9}    mean  range"]
            for name, known, mean, (low, high) in zip(
                self.names, self.known, self.means, self.ranges, strict=True
            ):
                lines.append(
                    f"{name:{wide}}  {known:9,}  {self.count - known:9,}  {mean:6.3f}  "
                    f"{low:g} to {high:g}"
                )
            pairs = self.strongest()
            if pairs:
                lines += ["", "strongest correlations"]
                lines += [f"{value:+.2f}  {a}, {b}" for a, b, value in pairs]
        if self.warnings:
            lines += ["", *(f"! {warning}" for warning in self.warnings)]
        return "\n".join(lines)

    def strongest(self, count: int = 5) -> list[tuple[str, str, float]]:
        """The pairs of labels that correlate most, by magnitude: (name, name, correlation)."""
        pairs = [
            (self.names[i], self.names[j], float(self.correlations[i, j]))
            for i, j in itertools.combinations(range(len(self.names)), 2)
            if np.isfinite(self.correlations[i, j])
        ]
        return sorted(pairs, key=lambda pair: -abs(pair[2]))[:count]


def describe(data: LabelledImages) -> Description:
    """Count, balance and correlate the labels, and say what may go wrong in training.

    Among the warnings are attributes that exclude each other, as the LSC-GAN paper's male and
    female do, with what the additive means of its blocks make of them.
    """
    labels = data.labels.double().numpy()  # (N, A)
    there = ~np.isnan(labels)
    classes = _classes(data) if tuple(data.names) == (LABEL,) else {}
    means, ranges = [], []
    for column, mask in zip(labels.T, there.T, strict=True):
        known = column[mask]
        means.append(float(known.mean()) if len(known) else math.nan)
        ranges.append(
            (float(known.min()), float(known.max())) if len(known) else (math.nan, math.nan)
        )
    return Description(
        count=len(data),
        shape=tuple(data.images.shape[1:]),
        names=tuple(data.names),
        known=tuple(there.sum(axis=0).tolist()),
        means=tuple(means),
        ranges=tuple(ranges),
        classes=classes,
        correlations=_correlations(labels),
        warnings=tuple(_class_warnings(classes) if classes else _warnings(labels, data.names)),
    )


def _classes(data: LabelledImages) -> dict[str, int]:
    values = data.labels[:, 0]
    values = values[~values.isnan()]
    if bool((values != values.round()).any() or (values < 0).any()):
        return {}
    names = data.source.get("classes") or CLASSES.get(data.source.get("name", ""), ())
    counts = values.long().bincount(minlength=len(names)).tolist()
    return {names[i] if i < len(names) else str(i): count for i, count in enumerate(counts)}


def _correlations(labels: np.ndarray) -> np.ndarray:
    """Pearson's correlations over the rows in which both labels are known, (A, A)."""
    size = labels.shape[1]
    correlations = np.full((size, size), np.nan)
    for i, j in itertools.combinations_with_replacement(range(size), 2):
        pair = labels[:, [i, j]]
        pair = pair[~np.isnan(pair).any(axis=1)]
        if len(pair) > 1 and (pair != pair[0]).any(axis=0).all():
            centred = pair - pair.mean(axis=0)
            scale = math.sqrt(np.square(centred).sum(axis=0).prod())
            correlations[i, j] = correlations[j, i] = centred.prod(axis=1).sum() / scale
    return correlations


def _class_warnings(classes: dict[str, int]) -> list[str]:
    empty = [name for name, count in classes.items() if not count]
    return [f"no image is known to be of class {', '.join(empty)}"] if empty else []


def _warnings(labels: np.ndarray, names: tuple[str, ...]) -> list[str]:
    warnings = []
    for name, column in zip(names, labels.T, strict=True):
        known = column[~np.isnan(column)]
        if not len(known):
            warnings.append(f"{name} is known of no image: nothing can be learnt of it")
        elif (known == known[0]).all():
            warnings.append(f"{name} never varies here: its block learns nothing")
        elif _binary(known) and min(known.mean(), 1 - known.mean()) < RARE:
            present = int(known.sum())
            warnings.append(
                f"{name} is rare: {present:,} images with it, {len(known) - present:,} without; "
                "batches seldom hold both"
            )
        else:
            warnings += _off_scale(name, known)
    for i, j in itertools.combinations(range(len(names)), 2):
        pair = labels[:, [i, j]]
        pair = pair[~np.isnan(pair).any(axis=1)]
        if len(pair) and _binary(pair):
            warnings += _exclusion(names[i], names[j], pair)
    return warnings


def _binary(values: np.ndarray) -> bool:
    return bool(np.isin(values, (0, 1)).all())


def _off_scale(name: str, known: np.ndarray) -> list[str]:
    """What labels that are far from 0 and 1, or codes other than these two, are to become."""
    values = np.unique(known)
    low, high = float(values[0]), float(values[-1])
    from_zero = f"(value {'-' if low > 0 else '+'} {abs(low):g})" if low else "value"
    scaled = f"{from_zero} / {high - low:g}"
    if len(values) == 2 and not _binary(values) and (values == values.round()).all():
        return [
            f"{name} is {low:g} or {high:g}, which a model takes for amounts: make them 0 and 1, "
            f"by {scaled}"
        ]
    if np.square(known - 0.5).mean() > FAR**2:
        return [
            f"{name} runs from {low:g} to {high:g}, far from the labels 0 and 1 that a block is "
            f"designed for: bring it to 0 to 1 first, by {scaled}"
        ]
    return []


def _exclusion(first: str, second: str, pair: np.ndarray) -> list[str]:
    """What two attributes that do not go together, or always do, mean for additive means."""
    a, b = pair.T == 1
    expected = a.mean() * b.mean() * len(pair)
    if a.all() or b.all() or not a.any() or not b.any():
        return []  # one that never varies has its warning already
    if (a == b).all():
        return [
            f"{first} and {second} are the same on every image: additive means give one thing two "
            "blocks, and which of them a model reads is chance; leave one out"
        ]
    if (a != b).all():
        return [
            f"{first} and {second} are opposites: each image has exactly one. Additive means give "
            "them two blocks that always move together, in opposite directions, and say nothing "
            "of both or neither; one of them is enough"
        ]
    if not (a & b).any() and expected >= EXPECTED:
        return [
            f"{first} and {second} exclude each other: no image has both, where chance would give "
            f"{expected:,.0f}. Additive means can be asked for both at once, by shifting both "
            "blocks, but no training image stands there"
        ]
    return []
