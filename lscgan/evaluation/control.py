"""Control: does a model draw the attributes that it is asked for?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lscgan.evaluation.asking import Generative, attribute_columns, requested, seen
from lscgan.evaluation.intervals import Interval, wilson_interval
from lscgan.evaluation.judge import AttributeJudge


@dataclass(frozen=True)
class ControlReport:
    """Share of samples that the judge reads as asked, by attribute.

    Attributes:
        count: samples judged.
        accuracy: share and 95% interval, by attribute.
    """

    count: int
    accuracy: dict[str, Interval]

    @property
    def mean(self) -> float:
        return sum(share for share, _, _ in self.accuracy.values()) / len(self.accuracy)

    @property
    def worst(self) -> tuple[str, float]:
        """The attribute that is drawn as asked least often, and how often."""
        name = min(self.accuracy, key=lambda n: self.accuracy[n][0])
        return name, self.accuracy[name][0]

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "count": self.count,
            "mean": self.mean,
            "worst": list(self.worst),
            "accuracy": {name: list(interval) for name, interval in self.accuracy.items()},
        }


def control(
    model: Generative,
    judge: AttributeJudge,
    labels: Tensor | None = None,
    count: int = 2_000,
    generator: torch.Generator | None = None,
) -> ControlReport:
    """Draw one sample a row of labels and let the judge read each attribute.

    Args:
        model: any model with a design and ``decode``, in eval mode.
        judge: its names are the design's, in any order.
        labels: (N, A), 0 or 1: what is asked for. Without them, ``count`` random rows that a
            rendered face can have.
        generator: the source of labels and latent vectors.

    Raises:
        ValueError: the judge does not know one of the design's attributes, or the labels do not
            fit the design.
    """
    labels = requested(model.design, labels, count, generator)
    columns = attribute_columns(model.design, judge)
    z = model.design.sample(labels, generator=generator)  # (N, D)
    read = seen(model, z, judge.attributes)[:, columns]  # (N, A)
    right = (read > 0.5) == (labels.to(read.device) > 0.5)  # (N, A)
    return ControlReport(
        count=len(labels),
        accuracy={
            name: wilson_interval(int(right[:, i].sum()), len(labels))
            for i, name in enumerate(model.design.names)
        },
    )
