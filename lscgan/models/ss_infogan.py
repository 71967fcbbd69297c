"""ss-InfoGAN: an InfoGAN one of whose codes is tied to labels, by a few of them (Spurr 2017)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lscgan.latent import CategoricalCode, LatentDesign
from lscgan.models.infogan import OFFICIAL, InfoGAN, InfoRecipe
from lscgan.networks import CodeReader
from lscgan.objectives import categorical_nll


class SSInfoGAN(InfoGAN):
    """An InfoGAN with a third head: Q_ss, which learns classes from labelled real images.

    G is asked for classes that Q_ss then reads from its images, so that the code comes to mean
    the label. Images without a label (NaN) serve D alone.

    Args:
        design: ``LatentDesign.ss_infogan({"class": 10}, ...)``: the codes in ``labelled`` first.
        labelled: the codes that are tied to labels; the names of the data's labels.
        recipe, size, channels, width, hidden, averages: as in :class:`InfoGAN`.

    Raises:
        ValueError: ``labelled`` names what is no categorical code of the design.
    """

    def __init__(
        self,
        design: LatentDesign,
        labelled: tuple[str, ...] = ("class",),
        recipe: InfoRecipe = OFFICIAL,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
        averages: bool = False,
    ):
        sizes = {c.name: c.size for c in design.codes if isinstance(c, CategoricalCode)}
        unknown = [name for name in labelled if name not in sizes]
        if unknown or not labelled:
            raise ValueError(
                f"this design has no categorical code {', '.join(unknown) or 'named'}: it has "
                f"{', '.join(sizes) or 'none'}"
            )
        self._labelled = tuple(labelled)
        super().__init__(design, recipe, size, channels, width, hidden, averages)
        self.q_ss = CodeReader(hidden, {name: sizes[name] for name in labelled}, hidden=False)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data, where they are known."""
        return self._labelled

    def discriminator_loss(
        self, real: Tensor, fake: Tensor, labels: Tensor, z: Tensor
    ) -> dict[str, Tensor]:
        """InfoGAN's, and label_weight times the cross-entropy of known labels of real images."""
        terms = super().discriminator_loss(real, fake, labels, z)
        known = labels.isfinite().all(dim=1)  # (B,)
        loss = real.new_zeros((), dtype=torch.float32)
        if bool(known.any()):
            loss = loss + self.label_loss(real[known], labels[known])
        discriminator = terms["discriminator"] + self.recipe.label_weight * loss
        if self.recipe.fakes_weight and int(self.steps) >= self.recipe.fakes_after:
            asked = self.label_loss(fake, self._asked(z))
            discriminator = discriminator + self.recipe.fakes_weight * asked
        return {**terms, "discriminator": discriminator, "labels": loss}

    def generator_loss(self, fake: Tensor, z: Tensor) -> dict[str, Tensor]:
        """InfoGAN's, and label_weight times the cross-entropy of the classes that were asked."""
        terms = super().generator_loss(fake, z)
        loss = self.label_loss(fake, self._asked(z))
        generator = terms["generator"] + self.recipe.label_weight * loss
        return {**terms, "generator": generator}

    def label_loss(self, features: Tensor, classes: Tensor) -> Tensor:
        """-E[log q_ss(c|x)], summed over the labelled codes: features (B, F), classes (B, L)."""
        read = self.q_ss(features)
        losses = [
            categorical_nll(read[name], column).mean()
            for name, column in zip(self._labelled, classes.unbind(dim=1), strict=True)
        ]
        return torch.stack(losses).sum()

    def _asked(self, z: Tensor) -> Tensor:
        drawn = self.design.split(z)
        return torch.stack([drawn[name].argmax(dim=1) for name in self._labelled], dim=1)  # (B, L)

    @torch.no_grad()
    def classify(self, images: Tensor, name: str | None = None) -> Tensor:
        """Q_ss's logits, (B, C, H, W) in [0, 1] -> (B, classes).

        Args:
            name: which labelled code; needed where there are several.

        Raises:
            ValueError: the images have another shape than the model's, or the name is wrong.
        """
        if name is None and len(self._labelled) == 1:
            name = self._labelled[0]
        if name not in self._labelled:
            raise ValueError(f"name one of the labelled codes: {', '.join(self._labelled)}")
        logits: Tensor = self.q_ss(self.trunk(images.to(self.device)))[name]
        return logits

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        return {**super().config(), "labelled": list(self._labelled)}
