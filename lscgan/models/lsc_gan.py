"""LSC-GAN: the decoder becomes the generator, the encoder re-projects (Kim & Cho 2019)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from lscgan.latent import LatentDesign
from lscgan.models.gan import GAN, Recipe
from lscgan.models.latent_model import EncodingModel, drawn_from
from lscgan.models.lsc_vae import LSCVAE
from lscgan.networks import Encoder
from lscgan.objectives import gaussian_kl, squared_error


class LSCGAN(EncodingModel, GAN):
    """A GAN in a latent space that an LSC-VAE has defined.

    D minimises E[(D(x) - 1)^2] + E[D(G(z))^2], and G and Q together
    E[(D(G(z)) - 1)^2] + KL[Q(z|G(z)) || N(mu(y), I)], with z ~ N(mu(y), I): a generated image has
    to look real and, looked at by the encoder Q, must lie where its labels say.

    Make one with :meth:`from_vae`; made directly it is the same GAN from scratch, without a VAE.
    Arguments as in :class:`GAN`; the literal form is ``Recipe()``.
    """

    def __init__(
        self,
        design: LatentDesign,
        recipe: Recipe = Recipe(),  # noqa: B008 - frozen
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        upsampling: str = "transposed",
        flow: int = 0,
        unpainted: Sequence[str] = (),
        carry: int = 0,
    ):
        super().__init__(design, recipe, size, channels, width, upsampling, flow, unpainted, carry)
        self.encoder = Encoder(design.size, size, channels, width)
        self.encoder.requires_grad_(not recipe.frozen_encoder)
        self.train()  # a frozen encoder is in eval mode from the start

    @classmethod
    def from_vae(
        cls,
        vae: LSCVAE,
        recipe: Recipe = Recipe(),  # noqa: B008 - frozen
        carry: int | None = None,
    ) -> Self:
        """The GAN whose generator and encoder start as the VAE's, bit for bit; D is new.

        Args:
            carry: as in :class:`ConvolutionalModel`; the VAE's by default.

        Raises:
            ValueError: the VAE's encoder does not infer all of z, as a conditional VAE's does not.
        """
        if vae.inferred(vae.design) != vae.design.size:
            raise ValueError(
                f"an LSC-GAN's encoder infers all of z, a {type(vae).__name__}'s the noise alone: "
                "start from an LSCVAE"
            )
        decoder = (vae.upsampling, vae.flow, vae.unpainted, vae.carry if carry is None else carry)
        nets = (vae.size, vae.channels, vae.width, *decoder)
        gan = cls(vae.design, recipe, *nets)
        gan.decoder.load_state_dict(vae.decoder.state_dict())
        gan.encoder.load_state_dict(vae.encoder.state_dict())
        return gan.to(vae.device)

    def between(self, vae: LSCVAE, share: float) -> Self:
        """A copy whose G lies between the VAE's decoder and this G, weight by weight.

        A network and another that was trained on from it usually work all along the line between
        them, and trade what its ends are good at (Wang et al. 2019). Q and D stay as they are, and
        so do G's settings: a ``carry`` of this G is one of the copy's at every share.

        Args:
            vae: what the GAN started from.
            share: how far along the line, from 0, the VAE's decoder, to 1, this G.

        Raises:
            ValueError: the share is not in [0, 1], or the two decoders are not built alike.
        """
        if not 0 <= share <= 1:
            raise ValueError(f"share lies between 0, the VAE, and 1, the GAN; it is {share}")
        ends = [model.decoder.state_dict() for model in (vae, self)]
        shapes = [{name: weight.shape for name, weight in end.items()} for end in ends]
        built = [(model.upsampling, model.unpainted) for model in (vae, self)]
        if shapes[0] != shapes[1] or built[0] != built[1]:
            raise ValueError("the two decoders are not built alike: give the VAE it started from")
        model = copy.deepcopy(self)
        for name, weight in model.decoder.state_dict().items():
            if weight.is_floating_point():  # else it counts batches
                first, last = (end[name].to(weight) for end in ends)
                weight.copy_(torch.lerp(first, last, share))
        return model

    def prior_mean(self, labels: Tensor) -> Tensor:
        """mu(y): (B, A) -> (B, D)."""
        return self.design.mean(labels)

    def generator_loss(self, images: Tensor, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """E[(D(G(z)) - 1)^2] + KL[Q(z|G(z)) || N(mu(y), I)]: each term ()."""
        recipe = self.recipe
        terms = super().generator_loss(images, fakes, labels)
        if recipe.kl_weight:
            mean, log_variance = self.encode(fakes)  # (B, D), (B, D)
            terms["kl"] = gaussian_kl(mean, log_variance, self.prior_mean(labels)).mean()
            terms["generator"] = terms["generator"] + recipe.kl_weight * terms["kl"]
        if recipe.reconstruction_weight:
            rebuilt = self.decode(drawn_from(*self.encode(images)))  # (B, C, H, W)
            terms["reconstruction"] = squared_error(rebuilt, images).mean()
            weighted = recipe.reconstruction_weight * terms["reconstruction"]
            terms["generator"] = terms["generator"] + weighted
        return terms

    def generated_by(self) -> list[nn.Parameter]:
        """What G's step trains: G and, unless it is frozen, Q."""
        return [
            p for p in (*self.decoder.parameters(), *self.encoder.parameters()) if p.requires_grad
        ]

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder keeps its batch statistics too, whatever the mode."""
        super().train(mode)
        if self.recipe.frozen_encoder:
            self.encoder.eval()
        return self
