"""Preparing pictures for a judge, and going through many of them in pieces."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lscgan.networks import require_fractions

AT_ONCE = 256
"""Pictures a judge looks at together."""


def resized(images: Tensor, size: int) -> Tensor:
    """Images at another size, antialiased: (B, C, H, W) -> (B, C, size, size).

    Raises:
        ValueError: not a batch of three-channel images, or their pixels are whole numbers.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"a judge takes images of shape (B, 3, H, W), not {tuple(images.shape)}")
    require_fractions(images, "judge")
    if images.shape[-2:] == (size, size):
        return images
    return torch.nn.functional.interpolate(
        images, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


def laplacian(images: Tensor) -> Tensor:
    """Four times each inner pixel minus its neighbours, in grey: (B, C, H, W) -> (B, H-2, W-2)."""
    grey = images.mean(dim=1)  # (B, H, W)
    return (
        4 * grey[:, 1:-1, 1:-1]
        - grey[:, :-2, 1:-1]
        - grey[:, 2:, 1:-1]
        - grey[:, 1:-1, :-2]
        - grey[:, 1:-1, 2:]
    )


@torch.no_grad()
def in_pieces(read: Callable[[Tensor], Tensor], items: Tensor) -> Tensor:
    """``read`` applied to ``AT_ONCE`` rows of ``items`` at a time, put together again."""
    return torch.cat([read(piece) for piece in items.split(AT_ONCE)])


def device_of(module: object, otherwise: Tensor) -> torch.device:
    """Where a module's weights are; where ``otherwise`` is, for what has no weights."""
    if isinstance(module, nn.Module):
        held = itertools.chain(module.parameters(), module.buffers())
        return next((tensor.device for tensor in held), otherwise.device)
    return otherwise.device


def looked_at(judge: object, images: Tensor, look: Callable[[Tensor], Tensor]) -> Tensor:
    """What ``look``, a method of the judge, says of pictures; the two may be on two devices.

    Args:
        judge: who looks, on its own device, at a few at a time.
        images: (N, C, H, W), on any device.

    Returns:
        One row a picture, on the pictures' device.
    """
    device = device_of(judge, images)
    return in_pieces(lambda piece: look(piece.to(device)).to(images.device), images)
