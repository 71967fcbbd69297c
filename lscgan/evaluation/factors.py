"""Visible factors of strokes, computed from the image itself: slant, stroke width and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lscgan.evaluation.asking import Generative, seen
from lscgan.evaluation.class_control import ReadsClasses
from lscgan.latent import CategoricalCode, UniformCode

FACTORS = ("slant", "stroke width", "size")
_TINY = 1e-6


def stroke_factors(images: Tensor) -> Tensor:
    """Slant, stroke width and size of bright strokes on dark: (B, 1, H, W) -> (B, 3).

    From moments of the brightness: the slant is by how many pixels the figure leans to the right
    for every pixel up; the size is the root mean square distance from its centre, in pixels. The
    stroke width is twice the area over the length of the outline, in pixels: right for a long
    bar, and in proportion for other figures.
    """
    mass = images.mean(dim=1)  # (B, H, W)
    total = mass.sum(dim=(1, 2)).clamp_min(_TINY)  # (B,)
    y = torch.arange(mass.shape[1], device=mass.device, dtype=mass.dtype)[:, None]  # (H, 1)
    x = torch.arange(mass.shape[2], device=mass.device, dtype=mass.dtype)  # (W,)

    def mean(values: Tensor) -> Tensor:
        return (mass * values).sum(dim=(1, 2)) / total  # (B,)

    dx = x - mean(x.expand_as(mass))[:, None, None]  # (B, 1, W)
    dy = y - mean(y.expand_as(mass))[:, None, None]  # (B, H, 1)
    across, down = mean(dx.square()), mean(dy.square())
    slant = -mean(dx * dy) / down.clamp_min(_TINY)
    padded = torch.nn.functional.pad(mass, (1, 1, 1, 1))
    # Central differences: the outline's length is the integral of the slope (the coarea formula).
    steep_x = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    steep_y = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    outline = (steep_x.square() + steep_y.square()).sqrt().sum(dim=(1, 2)).clamp_min(_TINY)
    return torch.stack([slant, 2 * total / outline, (across + down).sqrt()], dim=1)  # (B, 3)


@dataclass(frozen=True)
class CodeReport:
    """What one continuous code does to the images.

    Attributes:
        code: its name.
        correlations: of the code's value with each factor, within classes: -1 to 1.
        class_kept: share of samples whose class the judge reads alike at the code's ends -1 and
            1, all other parts of z held fixed.
    """

    code: str
    correlations: dict[str, float]
    class_kept: float

    @property
    def best(self) -> tuple[str, float]:
        """The factor that the code moves most clearly, and the correlation."""
        name = max(self.correlations, key=lambda factor: abs(self.correlations[factor]))
        return name, self.correlations[name]

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "code": self.code,
            "correlations": self.correlations,
            "best": list(self.best),
            "class_kept": self.class_kept,
        }


def code_reports(
    model: Generative,
    judge: ReadsClasses,
    count: int = 2_000,
    generator: torch.Generator | None = None,
) -> list[CodeReport]:
    """Measure every continuous code of a model on ``count`` samples.

    Codes and factors are compared within each value of the first categorical code: digits of
    different classes differ in size whatever the code does.
    """
    design = model.design
    labels = design.random_labels(count, generator)  # (N, A)
    z = design.sample(labels, generator=generator)  # (N, D)
    factors = seen(model, z, stroke_factors)  # (N, 3)
    classes = next((i for i, c in enumerate(design.codes) if isinstance(c, CategoricalCode)), None)
    if classes is not None:
        for value in labels[:, classes].unique():
            own = labels[:, classes] == value
            factors[own] -= factors[own].mean(dim=0)
    reports = []
    for column, code in enumerate(design.codes):
        if not isinstance(code, UniformCode):
            continue
        pairs = torch.cat([labels[:, [column]], factors.to(labels)], dim=1)  # (N, 4)
        row = torch.corrcoef(pairs.T)[0, 1:]  # (3,)
        ends = []
        for end in (-1.0, 1.0):
            moved = z.clone()
            moved[:, design.block(code.name)] = end
            ends.append(seen(model, moved, judge.classify))
        kept = float((ends[0] == ends[1]).float().mean())
        found = {name: float(r) for name, r in zip(FACTORS, row.nan_to_num(), strict=True)}
        reports.append(CodeReport(code.name, found, kept))
    return reports
