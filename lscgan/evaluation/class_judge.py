"""The judge of classes: a convolutional classifier, trained on all labels of a data set."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.data import LabelledImages
from lscgan.evaluation.intervals import Interval, wilson_interval
from lscgan.evaluation.pictures import looked_at
from lscgan.models.augmentation import translate
from lscgan.networks import require_shape, require_unit_range

FEATURES = 128
MOVED = 2
"""By how many pixels a judge's training images are moved, at most."""


class ClassJudge(nn.Module):
    """Reads which of K classes an image shows.

    Trained on few labels instead, without moving images, it is what a chapter compares with:
    what those labels alone are worth.

    Args:
        classes: K.
        size: the images' side in pixels, a multiple of 2 to the ``stages``.
        channels: 1 for grey, 3 for colour.
        width: channels of the first stage; each further one has twice as many.
        moved: train on images moved by up to :data:`MOVED` pixels.
        mirrored: train on images of which every other one is mirrored, left for right: right for
            pictures of things, wrong for digits.
        stages: how often the side is halved. Two do for grey digits and clothes.
        convolutions: how many a stage has.

    Raises:
        ValueError: ``size`` cannot be halved ``stages`` times, there are fewer than 2 classes, or
            there is no stage or no convolution.
    """

    def __init__(
        self,
        classes: int,
        size: int = 28,
        channels: int = 1,
        width: int = 32,
        moved: bool = True,
        mirrored: bool = False,
        stages: int = 2,
        convolutions: int = 1,
    ):
        super().__init__()
        if stages < 1 or convolutions < 1:
            raise ValueError(
                f"a judge has at least 1 stage of 1 convolution, not {stages} of {convolutions}"
            )
        if size % 2**stages or size < 2**stages:
            raise ValueError(f"images are a multiple of {2**stages} pixels wide, not {size}")
        if classes < 2:
            raise ValueError(f"there are at least 2 classes, not {classes}")
        self.classes, self.size, self.channels = classes, size, channels
        self.width, self.moved, self.mirrored = width, moved, mirrored
        self.stages, self.convolutions = stages, convolutions
        layers: list[nn.Module] = []
        taken = channels
        for stage in range(stages):
            given = width * 2**stage
            for _ in range(convolutions):
                layers += [
                    nn.Conv2d(taken, given, 3, padding=1),
                    nn.BatchNorm2d(given),
                    nn.ReLU(),
                ]
                taken = given
            layers.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(taken * (size // 2**stages) ** 2, FEATURES),
        )
        self.head = nn.Sequential(
            nn.BatchNorm1d(FEATURES), nn.ReLU(), nn.Dropout(0.25), nn.Linear(FEATURES, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> logits (B, K), float32.

        Raises:
            ValueError: as :meth:`features`.
        """
        logits: Tensor = self.head(self.features(images)).float()
        return logits

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, (B, C, H, W) in [0, 1] -> (B, 128).

        Raises:
            ValueError: the images have another shape than the judge's, or, in eval mode at least,
                their pixels are no numbers in [0, 1].
        """
        require_shape(images, self.channels, self.size, "judge")
        if not self.training:
            require_unit_range(images, "judge")
        features: Tensor = self.body(images)
        return features

    def classify(self, images: Tensor) -> Tensor:
        """Each image's most probable class, (B, C, H, W) -> (B,) int64."""
        return looked_at(self, images, self).argmax(dim=1)

    # -- training it --------------------------------------------------------------------------

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One AdamW."""
        return {"judge": torch.optim.AdamW(self.parameters(), lr=learning_rate, weight_decay=1e-3)}

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Cross-entropy of the class; labels (B, 1).

        Raises:
            ValueError: a label is not known.
        """
        if bool(labels.isnan().any()):
            raise ValueError(
                "a judge of classes learns from images whose class is known: give it "
                "data.select(data.labelled)"
            )
        if self.moved:
            images = translate(images, MOVED, "replicate")
        if self.mirrored:
            turned = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
            images = torch.where(turned, images.flip(3), images)  # (B, C, H, W)
        logits = self(images)  # (B, K)
        loss = nn.functional.cross_entropy(logits, labels[:, 0].long())
        optimizers["judge"].zero_grad(set_to_none=True)
        loss.backward()
        optimizers["judge"].step()
        return {"loss": loss.detach()}

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {
            "classes": self.classes,
            "size": self.size,
            "channels": self.channels,
            "width": self.width,
            "moved": self.moved,
            "mirrored": self.mirrored,
            "stages": self.stages,
            "convolutions": self.convolutions,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


def class_accuracy(logits: Tensor, data: LabelledImages) -> Interval:
    """Share of images whose largest logit is their class's, with its 95% interval.

    Args:
        logits: (N, K).
        data: N images with one class label; those whose class is not known are left out.

    Raises:
        ValueError: no image's class is known.
    """
    known = data.labelled  # (N,)
    if not bool(known.any()):
        raise ValueError("no image's class is known here: accuracy needs labels")
    right = logits.argmax(dim=1).cpu()[known] == data.labels[known, 0].long()
    return wilson_interval(int(right.sum()), len(right))
