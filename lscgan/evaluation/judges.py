"""The three judges of faces together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from lscgan.evaluation.gate import FaceGate
from lscgan.evaluation.judge import FaceJudge


class CurvatureJudge(Protocol):
    """Anything that reads a mouth's curvature from a picture."""

    def curvature(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Judges:
    """Who judges faces.

    Attributes:
        face: reads the attributes and, as the first of two, the curvature.
        mouth: reads the curvature by other means.
        gate: says which pictures are faces at all.
    """

    face: FaceJudge
    mouth: CurvatureJudge
    gate: FaceGate

    @property
    def curvature(self) -> dict[str, CurvatureJudge]:
        """The two judges of curvature, by the names that reports use."""
        return {"face judge": self.face, "mouth judge": self.mouth}
