"""Dose and response where no curvature is known: what an attribute judge reads as a block moves.

For photographs there is no judge that has seen frowns. A judge that knows smiling and neutral
mouths alone can still tell whether a mouth smiles *less than a neutral one*: by its log-odds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lscgan.evaluation.asking import Generative, attribute_columns, seen
from lscgan.evaluation.intervals import Interval, mean_interval
from lscgan.evaluation.judge import AttributeJudge


@dataclass(frozen=True)
class Response:
    """What was read at one amount, each with its 95% interval.

    Attributes:
        amount: by how much the block was moved, in label units.
        logit: mean log-odds of the attribute, in nats.
        moved: mean change of the log-odds of the same face from amount 0.
        others_moved: share of the other attributes' readings that differ from those at amount 0.
    """

    amount: float
    logit: Interval
    moved: Interval
    others_moved: Interval


@torch.no_grad()
def responses(
    model: Generative,
    judge: AttributeJudge,
    z: Tensor,
    attribute: str,
    amounts: Sequence[float],
) -> tuple[Response, ...]:
    """Move one attribute's block of the same vectors by each amount, and read what is drawn.

    Args:
        model: any model with a design and ``decode``, in eval mode, where the judge is.
        judge: its names are the design's, in any order.
        z: (N, D), sampled or encoded, N at least 2.
        attribute: whose block is moved.
        amounts: in label units, from where each vector is.

    Raises:
        ValueError: the design has no such attribute, or the judge does not read one of its own.
    """
    design = model.design
    columns = attribute_columns(design, judge)
    if attribute not in design.names:
        raise ValueError(f"this design has no {attribute!r}: it has {', '.join(design.names)}")
    own = design.names.index(attribute)

    def read(amount: float) -> tuple[Tensor, Tensor]:
        moved = design.shift(z, **{attribute: amount})
        logits = seen(model, moved, judge.logits)[:, columns]  # (N, A)
        others = torch.cat([logits[:, :own], logits[:, own + 1 :]], dim=1) > 0  # (N, A - 1)
        return logits[:, own], others

    start, others_at_start = read(0.0)
    made = []
    for amount in amounts:
        logit, others = read(amount)
        differ = (others != others_at_start).float()  # (N, A - 1)
        made.append(
            Response(
                amount=float(amount),
                logit=mean_interval(logit),
                moved=mean_interval(logit - start),
                # One alone in its design moves no other.
                others_moved=mean_interval(differ.mean(dim=1))
                if differ.shape[1]
                else (0.0, 0.0, 0.0),
            )
        )
    return tuple(made)
