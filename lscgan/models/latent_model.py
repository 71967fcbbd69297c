"""What every model of the book has: a latent design, and a decoder that draws from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.latent import LatentDesign
from lscgan.networks import Decoder, Encoder, require_unit_range


class LatentModel(nn.Module):
    """A latent design with a decoder: it can be asked for labels and draws images.

    Args:
        design: the latent space.
        decoder: vectors (B, D) to images (B, C, H, W) in [0, 1].
        size, channels, width: the images' side and channels, and the networks' width.
    """

    def __init__(
        self, design: LatentDesign, decoder: nn.Module, size: int, channels: int, width: int
    ):
        super().__init__()
        self.design = design
        self.size, self.channels, self.width = size, channels, width
        self.decoder = decoder

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data; () reads none."""
        return self.design.names

    def decode(self, z: Tensor) -> Tensor:
        """The image of each latent vector: (B, D) -> (B, C, H, W), float32 in [0, 1]."""
        images: Tensor = self.decoder(z)
        return images

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor | None = None,
        count: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Images of vectors from the designed space, (B, C, H, W) in [0, 1].

        Arguments and errors as in :meth:`lscgan.latent.LatentDesign.sample`.
        """
        z = self.design.sample(labels, count, generator)  # (B, D)
        return self.decode(z.to(self.device))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        return {
            "design": self.design.to_dict(),
            "size": self.size,
            "channels": self.channels,
            "width": self.width,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The untrained model that :meth:`config` describes."""
        return cls(**{**config, "design": LatentDesign.from_dict(config["design"])})


class ConvolutionalModel(LatentModel):
    """A latent model on the book's convolutional decoder: the VAEs and the GANs of parts 1 and 2.

    Args:
        design: the latent space.
        size, channels, width: the images and the networks, see :class:`lscgan.networks.Encoder`.
        upsampling, flow: how the decoder doubles, and whether it moves what it painted, see
            :class:`lscgan.networks.Decoder`.
        unpainted: attributes that the decoder is to draw by moving alone: the painter does not
            see their blocks. It needs a ``flow``.
        carry: how many places of that grid the movements of ``unpainted`` attributes are carried
            on below label 0, in eval mode, see :func:`lscgan.networks.carried`.

    Raises:
        ValueError: ``size``, ``upsampling`` or ``flow`` does not fit the networks, or
            ``unpainted`` names what is no attribute of the design or has no ``flow`` to move it,
            or there is nothing to ``carry``.
    """

    def __init__(
        self,
        design: LatentDesign,
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        upsampling: str = "transposed",
        flow: int = 0,
        unpainted: Sequence[str] = (),
        carry: int = 0,
    ):
        unknown = [name for name in unpainted if name not in design.names]
        if unknown:
            raise ValueError(
                f"this design has no {', '.join(unknown)} to leave unpainted: it has "
                f"{', '.join(design.names) or 'no attributes'}"
            )
        zero = design.mean(design.labels())  # (1, D)
        steps = [design.mean(design.labels(1, **{name: 1.0})) - zero for name in unpainted]
        decoder = Decoder(
            design.size,
            size,
            channels,
            width,
            upsampling,
            flow,
            unpainted=torch.cat(steps) if steps else None,  # (U, D)
            zero=zero[0],
            carry=carry,
        )
        super().__init__(design, decoder, size, channels, width)
        self.upsampling, self.flow = upsampling, flow
        self.unpainted, self.carry = tuple(unpainted), carry

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        return {
            **super().config(),
            "upsampling": self.upsampling,
            "flow": self.flow,
            "unpainted": list(self.unpainted),
            "carry": self.carry,
        }


class EncodingModel(ConvolutionalModel):
    """A convolutional model with an encoder, that looks at images: the VAEs and the LSC-GAN."""

    encoder: Encoder

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """q(z|x)'s mean and log-variance: (B, C, H, W) in [0, 1] -> (B, D), (B, D).

        Raises:
            ValueError: the images have another shape than the model's, or, in eval mode at least,
                their pixels are no numbers in [0, 1].
        """
        if not self.training:
            require_unit_range(images, "model")
        mean, log_variance = self.encoder(images)
        return mean, log_variance


def drawn_from(mean: Tensor, log_variance: Tensor) -> Tensor:
    """One z ~ N(mean, exp(log_variance)) each, differentiable in both: (B, D) x 2 -> (B, D)."""
    return mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)  # (B, D)
