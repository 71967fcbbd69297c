"""InfoGAN: a GAN whose codes can be read back from its images (Chen et al. 2016)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.latent import CategoricalCode, LatentDesign, UniformCode
from lscgan.models.augmentation import translate, warp
from lscgan.models.latent_model import LatentModel
from lscgan.networks import CodeReader, InfoGenerator, InfoTrunk, StyleReader
from lscgan.objectives import (
    categorical_nll,
    cross_entropy_discriminator,
    cross_entropy_generator,
    uniform_error,
)

BETAS = (0.5, 0.999)
"""Of every Adam (Spurr et al. 2017, official code; Chen et al. 2016)."""


@dataclass(frozen=True)
class InfoRecipe:
    """What InfoGAN and ss-InfoGAN train with; the defaults are ss-InfoGAN's official MNIST code.

    Args:
        information_weight: of reading the unsupervised codes from images; 0 is a plain GAN.
        continuous_weight: of the continuous ones among them, in units of the one before. Chen et
            al. (section 6) take a smaller weight for continuous codes, whose part of the bound
            has no ceiling; officially 1.
        label_weight: of reading the labelled codes; ss-InfoGAN alone has them.
        discriminator_rate: D's learning rate, the heads' and the trunk's included, in units of
            G's. Officially 1e-4 against 1e-3; InfoGAN's own code has 2e-4 against 1e-3.
        fakes_weight: of the head that reads labels learning from generated images as well, whose
            class is known because it was asked for (ACGAN, Odena et al. 2017). Officially 0: it
            learns from labelled real images alone.
        fakes_after: steps before that begins: G should first draw what it is asked for.
        joint_batches: D looks at real and generated images in one batch. Officially each has a
            batch of its own, and batch normalisation then makes a nearly blank image look like
            any other: G can write its codes in differences that no eye sees. Ours.
        moved: by how many pixels, at most, every image that the trunk looks at is moved at random,
            real or generated (Zhao et al. 2020, their translation); officially 0.
        warped: how far, as a share, every such image is turned, stretched and slanted at random
            (:func:`lscgan.models.augmentation.warp`). It stands in for the hands that a handful
            of labelled digits does not show; officially 0.

    Raises:
        ValueError: a value is out of its range.
    """

    information_weight: float = 0.8
    continuous_weight: float = 1.0
    label_weight: float = 2.0
    discriminator_rate: float = 0.1
    fakes_weight: float = 0.0
    fakes_after: int = 0
    joint_batches: bool = False
    moved: int = 0
    warped: float = 0.0

    def __post_init__(self) -> None:
        for name in ("information_weight", "continuous_weight", "label_weight", "fakes_weight",
                     "fakes_after", "moved", "warped"):  # fmt: skip
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is at least 0 and finite, not {getattr(self, name)}")
        if not 0 < self.discriminator_rate < math.inf:
            raise ValueError(
                f"discriminator_rate is above 0 and finite, not {self.discriminator_rate}"
            )


OFFICIAL = InfoRecipe()
"""ss-InfoGAN's official MNIST settings; with :class:`lscgan.training.LabelSchedule`'s defaults,
50 epochs of 100 batches of 128, and learning rate 1e-3 for G."""


class InfoGAN(LatentModel):
    """A generator, and one trunk with two heads: D says how real an image is, Q reads its codes.

    Args:
        design: categorical and continuous codes and noise, ``LatentDesign.infogan(...)``.
        recipe: see :class:`InfoRecipe`.
        size, channels, width, hidden: see :class:`lscgan.networks.InfoGenerator`.
        averages: Q reads continuous codes from what the convolutions see on average over the
            picture (:class:`lscgan.networks.StyleReader`), not from the dense layer. Ours.

    Raises:
        ValueError: the design has parts that are no codes, ``size`` is no multiple of 4, or no
            continuous code is there to be read from averages.
    """

    steps: Tensor

    def __init__(
        self,
        design: LatentDesign,
        recipe: InfoRecipe = OFFICIAL,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
        averages: bool = False,
    ):
        for code in design.codes:
            if not isinstance(code, (CategoricalCode, UniformCode)):
                raise ValueError(
                    f"{code.name!r} is no code: an InfoGAN's design is one of "
                    "LatentDesign.infogan(...) or ss_infogan(...)"
                )
        decoder = InfoGenerator(design.size, size, channels, width, hidden)
        super().__init__(design, decoder, size, channels, width)
        self.recipe, self.hidden, self.averages = recipe, hidden, averages
        self.trunk = InfoTrunk(size, channels, width, hidden, averages)
        self.real = CodeReader(hidden, {"real": 1}, hidden=False)
        self.q_us = self._reader()
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def _reader(self) -> CodeReader | StyleReader | None:
        unlabelled = {c.name: c.size for c in self.design.codes if c.name not in self.label_names}
        continuous = [name for name in unlabelled if isinstance(self._code(name), UniformCode)]
        if self.averages:
            if not continuous:
                raise ValueError("averages are for continuous codes, and this design has none")
            classes = {n: k for n, k in unlabelled.items() if n not in continuous}
            return StyleReader(self.hidden, self.width, classes, continuous)
        return CodeReader(self.hidden, unlabelled, hidden=True) if unlabelled else None

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data: none."""
        return ()

    # -- the two steps ------------------------------------------------------------------------

    def discriminator_loss(
        self, real: Tensor, fake: Tensor, labels: Tensor, z: Tensor
    ) -> dict[str, Tensor]:
        """-E[log D(x)] - E[log(1 - D(G(z)))] - lambda L_I, under ``"discriminator"``: ().

        Args:
            real, fake: the trunk's features of images and of generated images, (B, F) each.
            labels: the images' labels; InfoGAN has no use for them.
            z: what the generated images were made of, (B, D).
        """
        adversarial = cross_entropy_discriminator(self._score(real), self._score(fake)).mean()
        information = self.information_loss(fake, z)
        loss = adversarial + self.recipe.information_weight * information
        return {"discriminator": loss, "information": information}

    def generator_loss(self, fake: Tensor, z: Tensor) -> dict[str, Tensor]:
        """-E[log D(G(z))] - lambda L_I, under ``"generator"``: ()."""
        adversarial = cross_entropy_generator(self._score(fake)).mean()
        loss = adversarial + self.recipe.information_weight * self.information_loss(fake, z)
        return {"generator": loss, "adversarial": adversarial}

    def information_loss(self, fake: Tensor, z: Tensor) -> Tensor:
        """-E[log q(c|x)] of the unsupervised codes, weighted, H(c) and constants left out: ()."""
        if self.q_us is None:
            return fake.new_zeros(())
        read, drawn = self.q_us(fake), self.design.split(z)
        categorical = [n for n in read if isinstance(self._code(n), CategoricalCode)]
        continuous = [n for n in read if isinstance(self._code(n), UniformCode)]
        loss = fake.new_zeros((), dtype=torch.float32)
        for name in categorical:
            loss = loss + categorical_nll(read[name], drawn[name].argmax(dim=1)).mean()
        if continuous:
            values, codes = (torch.cat([of[n] for n in continuous], dim=1) for of in (read, drawn))
            loss = loss + self.recipe.continuous_weight * uniform_error(values, codes).mean()
        return loss

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One step of D with its heads, then one of G on the same fakes.

        Args:
            images: (B, C, H, W) in [0, 1].
            labels: (B, A); an InfoGAN does not look at them.

        Returns:
            ``generator``, ``discriminator`` and their terms, detached, each ().
        """
        z = self.design.sample(count=len(images)).to(images.device)  # (B, D)
        fakes = self.decode(z)  # (B, C, H, W)

        real, fake = self._features(images, fakes.detach())  # (B, F) each
        d_terms = self.discriminator_loss(real, fake, labels, z)
        optimizers["discriminator"].zero_grad(set_to_none=True)
        d_terms["discriminator"].backward()
        optimizers["discriminator"].step()

        for parameter in self.read_by():
            parameter.requires_grad_(False)  # G's step needs no gradient of D's weights
        joint = self.recipe.joint_batches
        fake = self._features(images, fakes)[1] if joint else self._look(fakes)  # (B, F)
        g_terms = self.generator_loss(fake, z)
        optimizers["generator"].zero_grad(set_to_none=True)
        g_terms["generator"].backward()
        optimizers["generator"].step()
        for parameter in self.read_by():
            parameter.requires_grad_(True)
        self.steps += 1
        return {name: value.detach() for name, value in {**g_terms, **d_terms}.items()}

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One Adam for G, and one for the trunk, D and every Q: Q learns at D's rate."""
        return {
            "generator": torch.optim.Adam(self.decoder.parameters(), learning_rate, BETAS),
            "discriminator": torch.optim.Adam(
                self.read_by(), learning_rate * self.recipe.discriminator_rate, BETAS
            ),
        }

    def read_by(self) -> list[nn.Parameter]:
        """What D's step trains: all but the generator."""
        return [p for name, p in self.named_parameters() if not name.startswith("decoder.")]

    # -- asking it ----------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        labels: Tensor | Sequence[int] | int | None = None,
        count: int | None = None,
        generator: torch.Generator | None = None,
        continuous: Tensor | Sequence[float] | None = None,
    ) -> Tensor:
        """Images with the classes and continuous codes that are asked for, the rest at random.

        Args:
            labels: the class of every categorical code: one index, (B,) for a design with one
                such code, or (B, C). Without it, classes are drawn.
            count: B, where labels and continuous do not say it.
            continuous: (B, U), or one row (U,) for all images; values from -1 to 1.

        Returns:
            (B, C, H, W) in [0, 1].

        Raises:
            ValueError: a class or a shape does not fit the design, or B is not said.
        """
        z = self.design.sample(self.table(labels, count, generator, continuous), None, generator)
        return self.decode(z.to(self.device))

    def table(
        self,
        labels: Tensor | Sequence[int] | int | None = None,
        count: int | None = None,
        generator: torch.Generator | None = None,
        continuous: Tensor | Sequence[float] | None = None,
    ) -> Tensor:
        """The rows of labels that :meth:`sample` asks the design for, (B, A)."""
        given = []
        for kind, values in ((CategoricalCode, labels), (UniformCode, continuous)):
            columns = [i for i, c in enumerate(self.design.codes) if isinstance(c, kind)]
            if values is None:
                continue
            rows = torch.as_tensor(values).float()
            if rows.ndim == 0:
                rows = rows[None, None]
            elif rows.ndim == 1:
                one_row = kind is UniformCode or (len(columns) > 1 and len(rows) == len(columns))
                rows = rows[None] if one_row else rows[:, None]
            if rows.ndim != 2 or rows.shape[1] != len(columns):
                what = "classes" if kind is CategoricalCode else "continuous codes"
                shape = tuple(torch.as_tensor(values).shape)
                raise ValueError(
                    f"{what}: give (B, {len(columns)}), not {shape}: a column for each such code "
                    "of the design"
                )
            given.append((columns, rows))
        lengths = {len(rows) for _, rows in given if len(rows) > 1}
        if count is not None:
            lengths.add(count)
        if len(lengths) > 1:
            raise ValueError(f"labels, continuous and count ask for {sorted(lengths)} images")
        if not lengths and not given:
            raise ValueError("give labels, continuous or count: how many images to draw")
        table = self.design.random_labels(lengths.pop() if lengths else 1, generator)  # (B, A)
        for columns, rows in given:
            table[:, columns] = rows.to(table.device)
        return table

    @torch.no_grad()
    def codes(self, images: Tensor) -> dict[str, Tensor]:
        """What Q_us reads: {name: (B, K) probabilities of classes, or (B,) values}.

        Raises:
            ValueError: the images have another shape than the model's.
        """
        if self.q_us is None:
            return {}
        read = self.q_us(self.trunk(images.to(self.device)))
        return {
            name: values.softmax(dim=1)
            if isinstance(self._code(name), CategoricalCode)
            else values[:, 0]
            for name, values in read.items()
        }

    def _features(self, images: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
        """The trunk's features of both, (B, F) each."""
        if self.recipe.joint_batches:
            real, fake = self._look(torch.cat([images, fakes])).chunk(2)
            return real, fake
        return self._look(images), self._look(fakes)

    def _look(self, images: Tensor) -> Tensor:
        """The trunk's features in training, (B, F)."""
        if self.recipe.moved:
            images = translate(images, self.recipe.moved)
        if self.recipe.warped:
            images = warp(images, self.recipe.warped)
        features: Tensor = self.trunk(images)
        return features

    def _score(self, features: Tensor) -> Tensor:
        scores: Tensor = self.real(features)["real"][:, 0]  # (B,)
        return scores

    def _code(self, name: str) -> Any:
        return self.design.codes[self.design.names.index(name)]

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        recipe = dataclasses.asdict(self.recipe)
        kept = {"hidden": self.hidden, "averages": self.averages, "recipe": recipe}
        return {**super().config(), **kept}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The untrained model that :meth:`config` describes."""
        return super().from_config({**config, "recipe": InfoRecipe(**config["recipe"])})
