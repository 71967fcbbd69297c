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


def warp(images: Tensor, furthest: float) -> Tensor:
    """Each image turned, stretched and slanted at random about its centre, differentiable.

    The places that are read are (I + E) p, for E of four numbers from -furthest to furthest: 0.2
    turns or slants by up to 11 degrees and stretches by up to a fifth (affine maps, after Karras
    et al. 2020, section 3.1). Black lies behind the picture.

    Args:
        images: (B, C, H, W).

    Returns:
        (B, C, H, W), float32.
    """
    count = len(images)
    chance = 2 * torch.rand(count, 2, 2, device=images.device) - 1
    maps = torch.eye(2, device=images.device) + furthest * chance  # (B, 2, 2)
    maps = torch.nn.functional.pad(maps, (0, 1))  # (B, 2, 3), the centre stays
    with torch.autocast(images.device.type, enabled=False):  # places need more than bfloat16 has
        places = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
        return torch.nn.functional.grid_sample(images.float(), places, align_corners=False)
