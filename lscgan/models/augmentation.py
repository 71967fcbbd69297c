"""Differentiable augmentation of what a discriminator sees (Zhao et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 1 / 8
"""The furthest an image is moved, as a share of its side."""


def augment(images: Tensor) -> Tensor:
    """Each image moved and recoloured at random, (B, C, H, W) -> the same, differentiable.

    Brightness moves by up to 0.25, saturation and contrast change by up to half, and the picture
    moves by up to an eighth of its side, with black behind it.
    """

    def chance(low: float, high: float) -> Tensor:
        shape = (len(images), 1, 1, 1)
        return low + (high - low) * torch.rand(shape, device=images.device)  # (B, 1, 1, 1)

    images = images + chance(-0.25, 0.25)
    grey = images.mean(dim=1, keepdim=True)  # (B, 1, H, W)
    images = grey + (images - grey) * chance(0.5, 1.5)
    level = images.mean(dim=(1, 2, 3), keepdim=True)  # (B, 1, 1, 1)
    images = level + (images - level) * chance(0.5, 1.5)
    return translate(images, round(SHIFT * images.shape[-1]))


def translate(images: Tensor, furthest: int, edges: str = "constant") -> Tensor:
    """Each image moved by up to ``furthest`` pixels: (B, C, H, W) -> the same, differentiable.

    Args:
        edges: what lies behind it: "constant" is black, "replicate" repeats its edges.
    """
    count, _, height, width = images.shape
    down, right = torch.randint(2 * furthest + 1, (2, count, 1), device=images.device)
    rows = torch.arange(height, device=images.device) + down  # (B, H)
    columns = torch.arange(width, device=images.device) + right  # (B, W)
    padded = torch.nn.functional.pad(images, [furthest] * 4, mode=edges).permute(0, 2, 3, 1)
    image = torch.arange(count, device=images.device)[:, None, None]
    return padded[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
