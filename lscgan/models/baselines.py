"""What a chapter compares with, on the same networks: a conditional VAE, arithmetic, labels alone.

The conditional GAN is :class:`lscgan.models.GAN` with a conditional design and discriminator.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.data import LabelledImages
from lscgan.latent import ConditionBlock, LatentDesign, Noise
from lscgan.models.infogan import BETAS
from lscgan.models.latent_model import drawn_from
from lscgan.models.vae import VAE
from lscgan.networks import CodeReader, InfoTrunk
from lscgan.objectives import categorical_nll, gaussian_kl, gaussian_nll


class ConditionalVAE(VAE):
    """A VAE whose decoder is handed the labels (Sohn et al. 2015): z = (labels, noise).

    The encoder infers the noise alone, with prior N(0, I); it is the other models' encoder and
    sees the image only.

    Args:
        design: ``LatentDesign.conditional(...)``; with ``repeats`` above 1 every label is given
            that many times. The other arguments are :class:`VAE`'s.

    Raises:
        ValueError: the design has no free noise, or a part that is no condition.
    """

    @staticmethod
    def inferred(design: LatentDesign) -> int:
        """How many dimensions the encoder infers: the noise alone."""
        *conditions, noise = design.parts
        if not isinstance(noise, Noise) or not all(
            isinstance(part, ConditionBlock) for part in conditions
        ):
            raise ValueError("a conditional VAE's design is one of LatentDesign.conditional(...)")
        return noise.size

    def losses(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The negative ELBO of p(x|y) and its parts, as in :meth:`VAE.losses`."""
        mean, log_variance = self.encode(images)  # (B, F), (B, F): the noise's
        noise = drawn_from(mean, log_variance)  # (B, F)
        conditions = self.design.mean(labels)[:, : -noise.shape[1]]  # (B, D - F)
        decoded = self.decode(torch.cat([conditions, noise], dim=1))  # (B, C, H, W)
        reconstruction = gaussian_nll(decoded, images, self.sigma).mean()
        kl = gaussian_kl(mean, log_variance, torch.zeros_like(mean)).mean()
        return {
            "loss": reconstruction + self.beta * kl,
            "reconstruction": reconstruction,
            "kl": kl,
        }


class Arithmetic(nn.Module):
    """Attribute vectors in a plain VAE's latent space (Larsen et al. 2016; White 2016).

    An attribute's vector is by how much the posterior mean of images moves with its label, the
    other labels held fixed: the coefficients of a linear regression. ``decode`` draws
    G(noise + constant + sum of label * vector), so that it can be asked like any other model. The
    noise has the covariance I less what the labels explain, so that all vectors together are
    distributed as the prior: whole noise would change the attributes itself, and speak against
    the labels.

    Args:
        vae: a trained VAE whose prior is N(0, I), in eval mode.
        data: labelled images to take the vectors from.

    Raises:
        ValueError: some labels are unknown.
    """

    def __init__(self, vae: VAE, data: LabelledImages):
        super().__init__()
        if not bool(data.labels.isfinite().all()):
            raise ValueError(
                "some labels are unknown: take the vectors from images whose labels are all known"
            )
        self.vae = vae
        noise = vae.design.size
        self.design = LatentDesign.conditional(data.names, 1, len(data.names) + noise)
        with torch.no_grad():
            means = torch.cat(
                [
                    vae.encode(piece.to(vae.device).float() / 255)[0].cpu()
                    for piece in data.images.split(256)
                ]
            )  # (N, D)
        ones = torch.ones(len(data), 1)
        inputs = torch.cat([data.labels, ones], dim=1)  # (N, A + 1)
        self.vectors = torch.linalg.lstsq(inputs, means).solution  # (A + 1, D)
        # V^T Cov(y) V is what the labels explain, with its directions and its shares of a unit
        # variance; the root of I less it leaves all other directions as they are.
        centred = (data.labels - data.labels.mean(dim=0)) / len(data) ** 0.5  # (N, A)
        explained = centred @ self.vectors[:-1]  # (N, D)
        _, scale, directions = torch.linalg.svd(explained, full_matrices=False)
        self.directions = directions  # (R, D), orthonormal
        self.taken = 1 - (1 - scale.square()).clamp_min(0).sqrt()  # (R,)

    def decode(self, z: Tensor) -> Tensor:
        """(labels, noise) of shape (B, A + D) -> images (B, C, H, W) in [0, 1]."""
        attributes = len(self.design.names)
        labels = nn.functional.pad(z[:, :attributes], (0, 1), value=1.0)  # (B, A + 1)
        noise, directions = z[:, attributes:], self.directions.to(z.device)
        noise = noise - noise @ directions.T * self.taken.to(z.device) @ directions  # (B, D)
        moved = noise + labels @ self.vectors.to(z.device)  # (B, D)
        return self.vae.decode(moved)


class LabelsOnly(nn.Module):
    """ss-InfoGAN's trunk and Q_ss without the GAN: a classifier that a few labels teach.

    The difference between its accuracy and Q_ss's is what the images without labels are worth.

    Args:
        classes: how many classes each label has, by its name in the data.
        size, channels, width, hidden: see :class:`lscgan.networks.InfoTrunk`.
    """

    def __init__(
        self,
        classes: Mapping[str, int],
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
    ):
        super().__init__()
        self.classes = dict(classes)
        self.size, self.channels, self.width, self.hidden = size, channels, width, hidden
        self.trunk = InfoTrunk(size, channels, width, hidden)
        self.q_ss = CodeReader(hidden, classes, hidden=False)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data."""
        return tuple(self.classes)

    def classify(self, images: Tensor, name: str | None = None) -> Tensor:
        """Logits of one label, the first by default: (B, C, H, W) in [0, 1] -> (B, classes)."""
        logits: Tensor = self.q_ss(self.trunk(images))[name or self.label_names[0]]
        return logits

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Cross-entropy of every label; labels (B, L), all known."""
        read = self.q_ss(self.trunk(images))
        loss = torch.stack(
            [categorical_nll(read[n], labels[:, i]).mean() for i, n in enumerate(self.classes)]
        ).sum()
        optimizers["reader"].zero_grad(set_to_none=True)
        loss.backward()
        optimizers["reader"].step()
        return {"loss": loss.detach()}

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One Adam."""
        return {"reader": torch.optim.Adam(self.parameters(), learning_rate, BETAS)}

    def config(self) -> dict[str, Any]:
        """How to build this model again, in plain numbers and strings."""
        return {
            "classes": self.classes,
            "size": self.size,
            "channels": self.channels,
            "width": self.width,
            "hidden": self.hidden,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The untrained model that :meth:`config` describes."""
        return cls(**config)
