"""The gate: it rejects pictures that are no face before a judge is asked about them.

A judge answers whatever it is shown, noise included. The gate knows the pixels of real faces: a
picture passes if the faces' principal components explain it, if it lies no further out along
them than real faces do, if it is no rougher than they are, and if it is not blank.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.evaluation.pictures import in_pieces, laplacian, looked_at, resized
from lscgan.networks import require_unit_range

SIZE = 32
SLACK = 1.1
"""A picture may exceed what 99% of real faces stay below by a tenth."""

BLANK = 0.05
"""A picture of less than a twentieth of the roughness allowed shows nothing: without this bound a
flat grey passes, for it lies near the mean of all faces."""


class FaceGate(nn.Module):
    """Tells faces from pictures that are none, by principal components of real faces at 32x32.

    Args:
        components: how many principal components.
    """

    centre: Tensor
    axes: Tensor
    spread: Tensor
    limits: Tensor

    def __init__(self, components: int = 120):
        super().__init__()
        self.components = components
        self.register_buffer("centre", torch.zeros(3 * SIZE * SIZE))
        self.register_buffer("axes", torch.zeros(3 * SIZE * SIZE, components))
        self.register_buffer("spread", torch.ones(components))
        self.register_buffer("limits", torch.zeros(3))

    def scores(self, images: Tensor) -> Tensor:
        """How far a picture is from a face, (B, 3, H, W) -> (B, 3): residual, distance, roughness.

        The residual is what the components leave unexplained; the distance is measured along
        them, in their standard deviations; roughness is the mean absolute Laplacian at 64x64.

        Raises:
            ValueError: not a batch of three-channel images with pixels in [0, 1].
        """
        require_unit_range(images, "gate")
        flat = resized(images, SIZE).flatten(1) - self.centre  # (B, 3072)
        along = flat @ self.axes  # (B, K)
        residual = (flat - along @ self.axes.T).norm(dim=1)  # (B,)
        distance = (along / self.spread).norm(dim=1)  # (B,)
        rough = laplacian(resized(images, 2 * SIZE)).abs().mean(dim=(1, 2))  # (B,)
        return torch.stack([residual, distance, rough], dim=1)

    def passes(self, images: Tensor) -> Tensor:
        """Whether each picture may be a face, (B, 3, H, W) -> (B,) bool."""

        def passed(piece: Tensor) -> Tensor:
            scores = self.scores(piece)  # (B, 3)
            return (scores <= self.limits).all(dim=1) & (scores[:, 2] >= BLANK * self.limits[2])

        return looked_at(self, images, passed)

    @torch.no_grad()
    def fit(self, images: Tensor, held_out: Tensor) -> Self:
        """Learn the components from real faces and the limits from held-out ones.

        Args:
            images, held_out: (N, 3, H, W) in [0, 1].

        Raises:
            ValueError: there are fewer images than components.
        """
        if len(images) <= self.components:
            raise ValueError(f"{self.components} components need more than {len(images)} images")
        flat = in_pieces(lambda piece: resized(piece, SIZE).flatten(1), images)  # (N, 3072)
        self.centre = flat.mean(dim=0)
        flat = flat - self.centre
        variance, axes = torch.linalg.eigh((flat.T @ flat / len(flat)).double())
        self.axes = axes[:, -self.components :].float().contiguous()
        self.spread = variance[-self.components :].sqrt().float()
        self.limits = SLACK * in_pieces(self.scores, held_out).quantile(0.99, dim=0)
        return self

    def config(self) -> dict[str, Any]:
        return {"components": self.components}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)
