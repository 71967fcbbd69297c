"""The networks: a convolutional encoder and its mirror, the decoder that becomes a generator."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

BASE = 4
"""The side of the smallest feature map: images are 4, 8, 16, 32, 64, ... pixels wide."""


def stage_widths(size: int, width: int) -> list[int]:
    """Channels of each halving from ``size`` down to 4x4: width, 2 width, then 4 width.

    Raises:
        ValueError: ``size`` is not 8, 16, 32, 64, ... or ``width`` is below 1.
    """
    stages = (size // BASE).bit_length() - 1
    if stages < 1 or size != BASE * 2**stages:
        raise ValueError(f"images are square, 8, 16, 32, 64, ... pixels wide, not {size}")
    if width < 1:
        raise ValueError(f"width is at least 1, not {width}")
    return [width * min(2**i, 4) for i in range(stages)]


class Encoder(nn.Module):
    """Images to the mean and log-variance of q(z|x).

    One 4x4 convolution of stride 2, batch normalisation and leaky ReLU for every halving, then
    one linear layer. Neither paper's layers are known; these are DCGAN's (Radford et al. 2016).

    Args:
        latent_size: D.
        size: the images' side in pixels.
        channels: 1 for grey, 3 for colour.
        width: channels of the first stage.
    """

    def __init__(self, latent_size: int, size: int = 64, channels: int = 3, width: int = 24):
        super().__init__()
        stages: list[nn.Module] = []
        before = channels
        for after in stage_widths(size, width):
            stages += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before * BASE * BASE, 2 * latent_size)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> mean and log-variance, each (B, D) float32."""
        features = self.stages(2 * images - 1).flatten(1)  # (B, F)
        mean, log_variance = self.head(features).float().chunk(2, dim=1)  # (B, D) each
        return mean, log_variance


class Decoder(nn.Module):
    """Latent vectors to images: the VAE's p(x|z), later the GAN's generator.

    The encoder's mirror: one linear layer to 4x4, then a 4x4 transposed convolution of stride 2
    for every doubling; a sigmoid puts pixels in [0, 1]. Arguments as in :class:`Encoder`.
    """

    def __init__(self, latent_size: int, size: int = 64, channels: int = 3, width: int = 24):
        super().__init__()
        widths = stage_widths(size, width)[::-1]
        self.start = nn.Linear(latent_size, widths[0] * BASE * BASE, bias=False)
        stages: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            stages += [
                nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        stages.append(nn.ConvTranspose2d(widths[-1], channels, 4, stride=2, padding=1))
        self.stages = nn.Sequential(*stages)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> images (B, C, H, W), float32 in [0, 1]."""
        maps = self.start(z).unflatten(1, (-1, BASE, BASE))  # (B, width, 4, 4)
        maps = maps.contiguous(memory_format=torch.channels_last)
        # float() first: in bfloat16 a sigmoid near 1 has steps of 1/256, visible in flat areas
        return torch.sigmoid(self.stages(maps).float())  # (B, C, H, W)
