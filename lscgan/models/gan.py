"""Least-squares GANs (Mao et al. 2017), and every change to them that the book measures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from lscgan.latent import LatentDesign
from lscgan.models.augmentation import augment
from lscgan.models.latent_model import ConvolutionalModel
from lscgan.networks import Discriminator
from lscgan.objectives import (
    gradient_penalty,
    least_squares_discriminator,
    least_squares_generator,
    relativistic_discriminator,
    relativistic_generator,
)

Loss = Callable[[Tensor, Tensor], Tensor]

ADVERSARIAL: dict[str, tuple[Loss, Loss]] = {
    "least_squares": (least_squares_discriminator, least_squares_generator),
    "relativistic": (relativistic_discriminator, relativistic_generator),
}
"""D's loss and G's loss of (D(x), D(G(z))), by name."""

BETAS = (0.5, 0.99)
"""Adam's: with the usual 0.9 for the first, G overshoots what D says (Radford et al. 2016)."""


@dataclass(frozen=True)
class Recipe:
    """How a GAN is trained. Every default is the literal form; each field is one change to it.

    Args:
        adversarial: "least_squares" (Mao et al. 2017), LSC-GAN's own; or "relativistic"
            (Jolicoeur-Martineau 2019; Huang et al. 2024).
        r1, r2: weights gamma of gamma/2 ||grad D||^2 on real and on generated images (Mescheder
            et al. 2018; Huang et al. 2024); 0 is none.
        penalty_every: steps between two penalties, each then counted that many times (Karras et
            al. 2020).
        spectral_norm: bound D's layers (Miyato et al. 2018).
        conditional: D is told the labels, by projection (Miyato & Koyama 2018).
        discriminator_rate: D's learning rate in units of G's: two time scales (Heusel et al.
            2017).
        augmentation: show D shifted and recoloured images, real and generated alike (Zhao et al.
            2020).
        kl_weight: of LSC-GAN's KL[Q(z|G(z)) || N(mu(y), I)]; the paper's is 1 (Kim & Cho 2019).
            0 leaves the term out.
        frozen_encoder: LSC-GAN's Q stays as the VAE left it, batch statistics included; only G
            follows the KL term. Ours.
        reconstruction_weight: of ||G(z) - x||^2 with z ~ Q(z|x) on real images, in G's loss: the
            VAE's own first term, kept. Ours, after VAE-GAN (Larsen et al. 2016).
        dose_weight: of reading from a generated image how far each block lies from its label's
            mean, in nats: InfoGAN's bound on the information (Chen et al. 2016, equation 5), read
            by a second head on D's trunk, as InfoGAN's Q is. Ours for LSC-GAN.
        reach: how far below label 0, in label units, the blocks of ``reach_of`` are moved in
            further generated images, one for each image of the batch whose label is 0; these
            count half. They are judged, beside those images, and read like the others, and the
            KL term still asks for label 0. No real image is needed below 0. Ours.
        reach_of: the attributes that reach.
        reach_after: steps before that begins: D should first have learnt to read doses.

    Averaged weights (EMA) are a setting of training, resize-convolution one of the model.

    Raises:
        ValueError: a value is out of its range.
    """

    adversarial: str = "least_squares"
    r1: float = 0.0
    r2: float = 0.0
    penalty_every: int = 1
    spectral_norm: bool = False
    conditional: bool = False
    discriminator_rate: float = 1.0
    augmentation: bool = False
    kl_weight: float = 1.0
    frozen_encoder: bool = False
    reconstruction_weight: float = 0.0
    dose_weight: float = 0.0
    reach: float = 0.0
    reach_of: tuple[str, ...] = ()
    reach_after: int = 0

    def __post_init__(self) -> None:
        if self.adversarial not in ADVERSARIAL:
            raise ValueError(
                f"adversarial is one of {', '.join(ADVERSARIAL)}, not {self.adversarial!r}"
            )
        weights = ("r1", "r2", "kl_weight", "reconstruction_weight", "dose_weight", "reach")
        for name in weights:
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is at least 0 and finite, not {getattr(self, name)}")
        if not 0 < self.discriminator_rate < math.inf:
            raise ValueError(
                f"discriminator_rate is above 0 and finite, not {self.discriminator_rate}"
            )
        if not isinstance(self.penalty_every, int) or self.penalty_every < 1:
            raise ValueError(
                f"penalty_every is a whole number of at least 1, not {self.penalty_every}"
            )
        if self.reach_after < 0:
            raise ValueError(f"reach_after is at least 0, not {self.reach_after}")


class GAN(ConvolutionalModel):
    """A generator and a discriminator; with condition blocks and ``conditional``, a cGAN.

    The generator is the decoder: the same network as the VAE's, so that comparisons are fair.

    Args:
        design: the latent space; ``LatentDesign.lsc((), 512)`` is plain noise,
            ``LatentDesign.conditional(...)`` a conditional GAN's input (Mirza & Osindero 2014).
        recipe: see :class:`Recipe`; the fields that speak of an encoder have no effect here.
        size, channels, width, upsampling, flow, unpainted, carry: see :class:`ConvolutionalModel`.

    Raises:
        ValueError: the recipe's ``reach_of`` names what is no attribute of the design.
    """

    steps: Tensor

    def __init__(
        self,
        design: LatentDesign,
        recipe: Recipe = Recipe(),
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        upsampling: str = "transposed",
        flow: int = 0,
        unpainted: Sequence[str] = (),
        carry: int = 0,
    ):
        super().__init__(design, size, channels, width, upsampling, flow, unpainted, carry)
        self.recipe = recipe
        unknown = [name for name in recipe.reach_of if name not in design.names]
        if unknown:
            raise ValueError(
                f"this design has no {', '.join(unknown)} to reach: it has "
                f"{', '.join(design.names) or 'no attributes'}"
            )
        attributes = len(design.names)
        self.discriminator = Discriminator(
            size,
            channels,
            width,
            conditions=attributes if recipe.conditional else 0,
            doses=attributes if recipe.dose_weight else 0,
            spectral_norm=recipe.spectral_norm,
        )
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    # -- the two steps ------------------------------------------------------------------------

    def discriminator_loss(self, images: Tensor, fakes: Tensor, labels: Tensor) -> Tensor:
        """E[(D(x) - 1)^2] + E[D(G(z))^2], or the recipe's other pair: ()."""
        real = self.discriminator(self._shown(images), labels)  # (B,)
        fake = self.discriminator(self._shown(fakes.detach()), labels)  # (B,)
        return ADVERSARIAL[self.recipe.adversarial][0](real, fake).mean()

    def generator_loss(self, images: Tensor, fakes: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """E[(D(G(z)) - 1)^2], or the recipe's other one, under ``"generator"``: each ()."""
        with torch.no_grad():
            real = self.discriminator(self._shown(images), labels)  # (B,)
        fake = self.discriminator(self._shown(fakes), labels)  # (B,)
        loss = ADVERSARIAL[self.recipe.adversarial][1](real, fake).mean()
        return {"generator": loss, "adversarial": loss}

    def penalty(self, images: Tensor, fakes: Tensor, labels: Tensor) -> Tensor:
        """r1/2 E||grad D(x)||^2 + r2/2 E||grad D(G(z))||^2, for the steps it stands for: ()."""
        total = images.new_zeros(())
        for weight, shown in ((self.recipe.r1, images), (self.recipe.r2, fakes)):
            if weight:
                inputs = self._shown(shown.detach()).requires_grad_()
                scores = self.discriminator(inputs, labels)  # (B,)
                total = total + weight / 2 * gradient_penalty(scores, inputs).mean()
        return self.recipe.penalty_every * total

    def dose_loss(self, fakes: Tensor, labels: Tensor, z: Tensor) -> Tensor:
        """-log N(dose(z) - y; read(G(z)), spread^2) up to its constant, summed over blocks: ().

        What is read is the dose *within* its label, in units of its spread: a reader that knows
        nothing says 0 and loses half a nat a block.
        """
        within = (self.design.doses(z) - labels) / self.design.dose_spread().to(z.device)  # (B, A)
        read = self.discriminator.read(self._shown(fakes))  # (B, A)
        return (read - within).square().sum(dim=1).mean() / 2

    def drawn(self, labels: Tensor) -> list[tuple[float, slice | Tensor, Tensor]]:
        """What a step generates: batches of (weight, rows of ``labels``, z); two if it reaches.

        Below label 0 a block is drawn for the rows whose label *is* 0, so that what is generated
        there is judged beside real images of that label.
        """
        batches: list[tuple[float, slice | Tensor, Tensor]]
        batches = [(1.0, slice(None), self.design.sample(labels))]
        recipe = self.recipe
        if recipe.reach and recipe.reach_of and int(self.steps) >= recipe.reach_after:
            columns = [self.design.names.index(name) for name in recipe.reach_of]
            rows = (labels[:, columns] == 0).all(dim=1).nonzero()[:, 0]  # about B / 2
            if len(rows):
                at_zero = self.design.sample(labels[rows])
                below = {n: -recipe.reach * torch.rand_like(at_zero[:, 0]) for n in recipe.reach_of}
                batches.append((0.5, rows, self.design.shift(at_zero, **below)))
        return batches

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One step of D, then one of G on the same fakes; returns the losses, detached.

        Returns:
            ``generator`` (all that G minimises), its terms, and ``discriminator``, each ().
        """
        batches = [
            (weight, images[rows], labels[rows], z, self.decode(z))
            for weight, rows, z in self.drawn(labels)
        ]

        discriminator = images.new_zeros(())
        for weight, x, y, z, fakes in batches:
            loss = self.discriminator_loss(x, fakes, y)
            if self.recipe.dose_weight:
                loss = loss + self.recipe.dose_weight * self.dose_loss(fakes.detach(), y, z)
            discriminator = discriminator + weight * loss
        if int(self.steps) % self.recipe.penalty_every == 0:
            discriminator = discriminator + self.penalty(images, batches[0][-1], labels)
        optimizers["discriminator"].zero_grad(set_to_none=True)
        discriminator.backward()
        optimizers["discriminator"].step()

        self.discriminator.requires_grad_(False)  # G's step needs no gradient of D's weights
        losses: dict[str, Tensor] = {}
        for weight, x, y, z, fakes in batches:
            terms = self.generator_loss(x, fakes, y)
            if self.recipe.dose_weight:
                terms["dose"] = self.dose_loss(fakes, y, z)
                terms["generator"] = terms["generator"] + self.recipe.dose_weight * terms["dose"]
            for name, value in terms.items():
                losses[name] = losses.get(name, 0.0) + weight * value
        optimizers["generator"].zero_grad(set_to_none=True)
        losses["generator"].backward()
        optimizers["generator"].step()
        self.discriminator.requires_grad_(True)

        self.steps += 1
        losses["discriminator"] = discriminator
        return {name: value.detach() for name, value in losses.items()}

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One Adam for all that G's loss trains, one for D."""
        return {
            "generator": torch.optim.Adam(self.generated_by(), lr=learning_rate, betas=BETAS),
            "discriminator": torch.optim.Adam(
                self.discriminator.parameters(),
                lr=learning_rate * self.recipe.discriminator_rate,
                betas=BETAS,
            ),
        }

    def generated_by(self) -> list[torch.nn.Parameter]:
        """What G's step trains: here the decoder alone."""
        return list(self.decoder.parameters())

    def _shown(self, images: Tensor) -> Tensor:
        return augment(images) if self.recipe.augmentation else images

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        recipe = {**dataclasses.asdict(self.recipe), "reach_of": list(self.recipe.reach_of)}
        return {**super().config(), "recipe": recipe}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The untrained model that :meth:`config` describes."""
        recipe = config["recipe"]
        recipe = Recipe(**{**recipe, "reach_of": tuple(recipe.get("reach_of", ()))})
        return super().from_config({**config, "recipe": recipe})
