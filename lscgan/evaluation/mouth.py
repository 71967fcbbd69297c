"""The second judge: ridge regression on the directions of the edges around the mouth.

It shares nothing with the first judge but the truth that both were given: no convolutional
features are learnt, and the fit is a closed form. What fools one need not fool the other.
"""

from __future__ import annotations

import math
from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.evaluation.pictures import in_pieces, looked_at, resized
from lscgan.networks import require_unit_range

SIZE = 64
ORIENTATIONS = 9
CELL = 4
REGION = (0.5, 0.9375, 0.25, 0.75)
"""Top, bottom, left, right of the mouth's region, as shares of the picture: it holds the mouth of
every face, wherever the head is."""


class MouthJudge(nn.Module):
    """Reads the mouth's curvature from oriented edges (Dalal & Triggs 2005) of the mouth's region.

    A smile's edges fall towards the middle and rise again; a frown's do the opposite. The region
    is fixed, large enough for every face's place and tilt. The ridge regression sees the edges
    and the products of every two of their leading principal components: how an edge at one place
    should be read depends on where the others are.

    Args:
        region: top, bottom, left, right of the region, as shares of the picture.
        components: how many principal components are multiplied.
    """

    centre: Tensor
    scale: Tensor
    axes: Tensor
    weight: Tensor

    def __init__(
        self,
        region: tuple[float, float, float, float] = REGION,
        components: int = 60,
    ):
        super().__init__()
        self.region = tuple(region)
        self.components = components
        rows, columns = self._cells()
        inputs = rows * columns * ORIENTATIONS
        products = components * (components + 1) // 2
        self.register_buffer("centre", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.register_buffer("axes", torch.zeros(inputs, components))
        self.register_buffer("weight", torch.zeros(1 + inputs + products))

    def edges(self, images: Tensor) -> Tensor:
        """Histograms of edge directions by cell, (B, 3, H, W) in [0, 1] -> (B, cells * 9).

        Raises:
            ValueError: not a batch of three-channel images with pixels in [0, 1].
        """
        require_unit_range(images, "judge")
        top, bottom, left, right = (round(share * SIZE) for share in self.region)
        grey = resized(images, SIZE).mean(dim=1, keepdim=True)  # (B, 1, 64, 64)
        grey = grey[..., top - 1 : bottom + 1, left - 1 : right + 1]
        down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1])[:, 0]  # (B, h, w)
        across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2])[:, 0]  # (B, h, w)
        strength = torch.sqrt(down**2 + across**2 + 1e-8)
        # An edge and its reverse count alike: lips may be darker or lighter than the skin.
        angle = torch.atan2(down, across) % math.pi * (ORIENTATIONS / math.pi)  # (B, h, w)
        bins = torch.arange(ORIENTATIONS, device=images.device).view(1, -1, 1, 1)
        apart = (angle[:, None] - bins).abs()
        apart = torch.minimum(apart, ORIENTATIONS - apart)
        votes = strength[:, None] * (1 - apart).clamp_min(0)  # (B, 9, h, w)
        cells = nn.functional.avg_pool2d(votes, CELL)  # (B, 9, h / 4, w / 4)
        # Contrast differs between skins and lights; divide by the region's own.
        return (cells / (cells.mean(dim=(1, 2, 3), keepdim=True) + 1e-3)).flatten(1)

    def features(self, images: Tensor) -> Tensor:
        """What the regression sees, (B, 3, H, W) -> (B, F): a 1, the edges, the products."""
        return self._features(self.edges(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(images) @ self.weight  # (B,)

    def curvature(self, images: Tensor) -> Tensor:
        """The mouth's curvature: -1 a frown, 0 flat, 1 a broad smile; (B, 3, H, W) -> (B,)."""
        return looked_at(self, images, self)

    @torch.no_grad()
    def fit(self, images: Tensor, curvature: Tensor, penalty: float) -> Self:
        """Fit the ridge regression in closed form; returns the judge itself.

        Args:
            images: (N, 3, H, W) in [0, 1].
            curvature: (N,), the truth.
            penalty: of the squared weights, in units of one sample.

        Raises:
            ValueError: the two do not have the same length, or there are no more images than
                components.
        """
        if len(images) != len(curvature):
            raise ValueError(f"{len(images)} images have {len(curvature)} curvatures")
        if len(images) <= self.components:
            raise ValueError(f"{self.components} components need more than {len(images)} images")
        edges = in_pieces(self.edges, images)  # (N, cells * 9)
        self.centre = edges.mean(dim=0)
        self.scale = edges.std(dim=0) + 1e-3
        scaled = (edges - self.centre) / self.scale
        variance, axes = torch.linalg.eigh((scaled.T @ scaled / len(scaled)).double())
        leading = slice(-self.components, None)
        self.axes = (axes[:, leading] / variance[leading].sqrt()).float()  # of unit variance
        gram = penalty * torch.eye(len(self.weight), dtype=torch.float64)  # (F, F)
        gram[0, 0] = 0.0  # the constant is free
        moment = torch.zeros(len(self.weight), dtype=torch.float64)  # (F,)
        for piece, truth in zip(edges.split(2048), curvature.split(2048), strict=True):
            features = self._features(piece).double()  # (B, F)
            gram += features.T @ features
            moment += features.T @ truth.double()
        self.weight = torch.linalg.solve(gram, moment).float()
        return self

    def _features(self, edges: Tensor) -> Tensor:
        scaled = (edges - self.centre) / self.scale  # (B, cells * 9)
        along = scaled @ self.axes  # (B, components)
        first, second = torch.triu_indices(self.components, self.components, device=edges.device)
        products = along[:, first] * along[:, second]  # (B, components * (components + 1) / 2)
        return torch.cat([torch.ones_like(edges[:, :1]), scaled, products], dim=1)

    def config(self) -> dict[str, Any]:
        return {"region": list(self.region), "components": self.components}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)

    def _cells(self) -> tuple[int, int]:
        top, bottom, left, right = (round(share * SIZE) for share in self.region)
        if not (0 < top < bottom < SIZE and 0 < left < right < SIZE):
            raise ValueError(f"the region {self.region} does not lie inside the picture")
        return (bottom - top) // CELL, (right - left) // CELL
