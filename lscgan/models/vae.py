"""The variational autoencoder (Kingma & Welling 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lscgan.latent import LatentDesign
from lscgan.models.latent_model import EncodingModel, drawn_from
from lscgan.networks import Encoder
from lscgan.objectives import gaussian_kl, gaussian_nll

GRADIENT_NORM = 200.0
"""Gradients are clipped here: losses are sums over pixels, so a usual norm is tens, not ones."""


class VAE(EncodingModel):
    """A VAE whose prior is N(0, I), whatever labels an image has.

    Args:
        design: the latent space; the plain VAE is ``LatentDesign.lsc((), size=512)``.
        size, channels, width, upsampling, flow, unpainted, carry: see :class:`ConvolutionalModel`.
        sigma: standard deviation of a pixel's likelihood; 1/sqrt(2) gives the sum of squares.
        beta: weight of the KL term; 1 gives the evidence lower bound, other values the
            beta-VAE (Higgins et al. 2017).

    Raises:
        ValueError: sigma or beta is not positive, or ``size`` does not fit the networks.
    """

    def __init__(
        self,
        design: LatentDesign,
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        sigma: float = 0.5**0.5,
        beta: float = 1.0,
        upsampling: str = "transposed",
        flow: int = 0,
        unpainted: Sequence[str] = (),
        carry: int = 0,
    ):
        # Before the decoder: the order in which the shipped seeds drew their first weights.
        encoder = Encoder(self.inferred(design), size, channels, width)
        super().__init__(design, size, channels, width, upsampling, flow, unpainted, carry)
        self.encoder = encoder
        if not sigma > 0 or not beta >= 0:
            raise ValueError(f"sigma is above 0 and beta at least 0, not {sigma} and {beta}")
        self.sigma, self.beta = sigma, beta

    @staticmethod
    def inferred(design: LatentDesign) -> int:
        """How many dimensions the encoder infers: here all of z."""
        return design.size

    # -- training it --------------------------------------------------------------------------

    def prior_mean(self, labels: Tensor) -> Tensor:
        """The mean of the prior that a posterior is pulled to: here 0, (1, D)."""
        return torch.zeros(1, self.design.size, device=labels.device)

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The negative ELBO and its parts, averaged over the batch, in nats.

        -E_{z ~ q(z|x)}[log p(x|z)] + beta KL[q(z|x) || N(prior_mean, I)], with one z an image
        (Kingma & Welling 2014, equation 7; Kim & Cho 2019 for the prior's mean).

        Args:
            images: (B, C, H, W) in [0, 1].
            labels: (B, A).

        Returns:
            ``loss``, ``reconstruction`` and ``kl``, each ().
        """
        mean, log_variance = self.encode(images)  # (B, D), (B, D)
        z = drawn_from(mean, log_variance)  # (B, D)
        reconstruction = gaussian_nll(self.decode(z), images, self.sigma).mean()
        kl = gaussian_kl(mean, log_variance, self.prior_mean(labels)).mean()
        return {
            "loss": reconstruction + self.beta * kl,
            "reconstruction": reconstruction,
            "kl": kl,
        }

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One Adam for encoder and decoder together."""
        return {"vae": torch.optim.Adam(self.parameters(), lr=learning_rate)}

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One step down the negative ELBO; returns :meth:`losses`, detached."""
        losses = self.losses(images, labels)
        optimizers["vae"].zero_grad(set_to_none=True)
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(self.parameters(), GRADIENT_NORM)
        optimizers["vae"].step()
        return {name: value.detach() for name, value in losses.items()}

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        return {**super().config(), "sigma": self.sigma, "beta": self.beta}
