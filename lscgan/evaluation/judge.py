"""The judges that learn: small convolutional networks that read attributes from a picture.

An attribute judge learns from any labelled pictures. A face judge reads the mouth's curvature as
well: it is trained on rendered faces *with* frowns, which no generative model of this book ever
sees, so it can recognise one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from lscgan.data import LabelledImages
from lscgan.evaluation.intervals import Interval, wilson_interval
from lscgan.evaluation.pictures import AT_ONCE, looked_at, resized
from lscgan.networks import Encoder, require_unit_range

CURVATURE = "curvature"
SIZE = 64
FEATURES = 64
CURVATURE_WEIGHT = 10.0
"""Squared curvature errors are a hundredth of the attributes' cross-entropies in size."""


class AttributeJudge(nn.Module):
    """Reads attributes, as probabilities, from any picture.

    Args:
        names: the attributes that it reads.
        width: channels of the first convolution.

    Raises:
        ValueError: there is no name, or the curvature's is among them.
    """

    further: ClassVar[int] = 0
    """Outputs after the attributes' logits."""

    def __init__(self, names: Sequence[str], width: int = 24):
        super().__init__()
        if not names or CURVATURE in names:
            raise ValueError(f"a judge needs attribute names, {CURVATURE!r} not among them")
        self.names = tuple(names)
        self.width = width
        self.body = Encoder(FEATURES, SIZE, 3, width)  # its 2 * FEATURES outputs are our features
        self.head = nn.Sequential(
            nn.BatchNorm1d(2 * FEATURES),
            nn.LeakyReLU(0.2),
            nn.Linear(2 * FEATURES, len(names) + self.further),
        )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data."""
        return self.names

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, (B, 3, H, W) in [0, 1] -> (B, 128).

        Raises:
            ValueError: not a batch of three-channel images, or, in eval mode at least, their pixels
                are no numbers in [0, 1].
        """
        if not self.training:
            require_unit_range(images, "judge")
        return torch.cat(self.body(resized(images, SIZE)), dim=1)  # (B, F)

    def forward(self, images: Tensor) -> Tensor:
        """Attribute logits, then what else it reads: (B, 3, H, W) -> (B, A + further)."""
        read: Tensor = self.head(self.features(images)).float()
        return read

    def logits(self, images: Tensor) -> Tensor:
        """Each attribute's log-odds, which go on where a probability is 0 or 1: -> (B, A)."""
        return looked_at(self, images, self)[:, : len(self.names)]

    def attributes(self, images: Tensor) -> Tensor:
        """Each attribute's probability, (B, 3, H, W) -> (B, A)."""
        return self.logits(images).sigmoid()

    # -- training it --------------------------------------------------------------------------

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One AdamW."""
        return {"judge": torch.optim.AdamW(self.parameters(), lr=learning_rate, weight_decay=1e-3)}

    def losses(self, read: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """What a step minimises, ``"loss"``, and its terms: the attributes' cross-entropy.

        Args:
            read: the outputs, (B, A + further).
            labels: the same in the data, (B, A + further); the mean is over the known ones.
        """
        known = ~labels.isnan()  # (B, A)
        loss = nn.functional.binary_cross_entropy_with_logits(
            read, labels.nan_to_num(), weight=known.float()
        )
        loss = loss * _over_known(known)
        return {"loss": loss, "attributes": loss}

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """One step down :meth:`losses` on worn pictures; returns them, detached.

        Args:
            labels: (B, A + further), in the order of the outputs.
        """
        losses = self.losses(self(worn(images)), labels)
        optimizers["judge"].zero_grad(set_to_none=True)
        losses["loss"].backward()
        optimizers["judge"].step()
        return {name: value.detach() for name, value in losses.items()}

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"names": list(self.names), "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


class FaceJudge(AttributeJudge):
    """Reads attributes and, last, the mouth's curvature; made as :class:`AttributeJudge` is."""

    further = 1

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels that training reads from the data, the curvature last."""
        return (*self.names, CURVATURE)

    def curvature(self, images: Tensor) -> Tensor:
        """The mouth's curvature: -1 a frown, 0 flat, 1 a broad smile; (B, 3, H, W) -> (B,)."""
        return looked_at(self, images, self)[:, -1]

    def losses(self, read: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy for the attributes and squared error for the curvature, each ()."""
        attributes = super().losses(read[:, :-1], labels[:, :-1])["attributes"]
        known = ~labels[:, -1].isnan()  # (B,)
        seen = torch.where(known, read[:, -1], 0.0)
        curvature = nn.functional.mse_loss(seen, labels[:, -1].nan_to_num()) * _over_known(known)
        loss = attributes + CURVATURE_WEIGHT * curvature / len(self.names)
        return {"loss": loss, "attributes": attributes, "curvature": curvature}


def _over_known(known: Tensor) -> Tensor:
    """What turns a mean in which unknown labels count 0 into one over the known: exactly 1 if all.

    A quotient of tensors, since some devices multiply by the rounded inverse of a plain number.
    """
    count = known.sum()
    return torch.full_like(count, known.numel()) / count.clamp_min(1)


def worn(images: Tensor) -> Tensor:
    """Faces as a generator may draw them: blurred, noisy or coarse, (B, 3, H, W) -> the same.

    Without it a judge takes the noise and the blur of generated pictures for expressions. A
    quarter of the batch stays as it is; the rest is blurred by up to 2 pixels of sigma, or made
    half as large and back; then all but the first quarter gets noise of up to 0.1.
    """
    quarter = len(images) // 4
    clean, blurred, coarse = images.tensor_split([quarter, 3 * quarter])
    blurred = blur(blurred, 0.2 + 1.8 * float(torch.rand(())))
    coarse = resized(resized(coarse, images.shape[-1] // 2), images.shape[-1])
    rough = torch.cat([blurred, coarse])
    noise = 0.1 * torch.rand(len(rough), 1, 1, 1, device=images.device)  # (B, 1, 1, 1)
    return torch.cat([clean, (rough + noise * torch.randn_like(rough)).clamp(0, 1)])


def blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of ``sigma`` pixels, edges repeated: (B, C, H, W) -> the same."""
    reach = max(1, round(3 * sigma))
    offsets = torch.arange(-reach, reach + 1, device=images.device)
    kernel = torch.softmax(-(offsets**2) / (2 * sigma**2), dim=0).to(images.dtype)  # (K,)
    channels = images.shape[1]
    padded = nn.functional.pad(images, (reach, reach, reach, reach), mode="replicate")
    across = nn.functional.conv2d(
        padded, kernel.expand(channels, 1, 1, -1).contiguous(), groups=channels
    )
    return nn.functional.conv2d(
        across, kernel[:, None].expand(channels, 1, -1, 1).contiguous(), groups=channels
    )


@dataclass(frozen=True)
class AttributeReport:
    """How what a judge reads compares with the labels of the pictures.

    Of real pictures it says how good the judge is; of samples, whose labels are what was asked
    for, how well a model draws what it is asked for, *as far as this judge can tell*.

    Attributes:
        count: pictures read.
        accuracy: share read as labelled among the pictures whose label is known, with its 95%
            interval, by attribute.
        sensitivity: the same share among the pictures with the attribute; None where none has it.
        specificity: the same share among those without it; None where all have it.
        calibration_error: expected calibration error of the probabilities in 10 bins (Naeini et
            al. 2015), 0 is perfect.
    """

    count: int
    accuracy: dict[str, Interval]
    sensitivity: dict[str, Interval | None]
    specificity: dict[str, Interval | None]
    calibration_error: float

    @property
    def mean_accuracy(self) -> float:
        return sum(share for share, _, _ in self.accuracy.values()) / len(self.accuracy)

    @property
    def balanced_accuracy(self) -> dict[str, float]:
        """Mean of sensitivity and specificity, by attribute: 0.5 knows nothing of it.

        Accuracy flatters where an attribute is rare: who never says "moustache" is right of most
        faces. Attributes that all pictures or none have are left out.
        """
        both = {name: (self.sensitivity[name], self.specificity[name]) for name in self.accuracy}
        return {
            name: (with_it[0] + without[0]) / 2
            for name, (with_it, without) in both.items()
            if with_it is not None and without is not None
        }


@dataclass(frozen=True)
class JudgeReport(AttributeReport):
    """How well a judge reads faces whose factors are known.

    Attributes:
        curvature_rmse: root mean square error of the curvature.
        curvature_bias: mean of read minus true curvature, by interval of the true one
            (``"-1.0..-0.6"``).
    """

    curvature_rmse: float
    curvature_bias: dict[str, float]


def attribute_report(judge: AttributeJudge, data: LabelledImages) -> AttributeReport:
    """Compare what a judge reads with the labels.

    Args:
        judge: in eval mode.
        data: real pictures, or samples with the labels that they were drawn for; 0 or 1. Labels
            that are not known (NaN) are left out, attribute by attribute.

    Raises:
        ValueError: ``data`` lacks one of the judge's names, or knows it of no picture.
    """
    labels = torch.stack([data.column(name) for name in judge.names], dim=1)  # (N, A)
    known, truth = ~labels.isnan(), labels > 0.5  # (N, A) each
    for name, any_known in zip(judge.names, known.any(dim=0).tolist(), strict=True):
        if not any_known:
            raise ValueError(f"{name} is known of no picture here: a report needs some labels")
    read = torch.cat(  # a piece at a time: as float32 the pictures take four times the memory
        [judge.attributes(piece.float() / 255).cpu() for piece in data.images.split(AT_ONCE)]
    )  # (N, A)
    right = (read > 0.5) == truth  # (N, A)

    def shares(of: Tensor) -> dict[str, Interval | None]:
        counts = zip((right & of).sum(dim=0).tolist(), of.sum(dim=0).tolist(), strict=True)
        return {
            name: wilson_interval(good, count) if count else None
            for name, (good, count) in zip(judge.names, counts, strict=True)
        }

    return AttributeReport(
        count=len(data),
        accuracy={
            name: wilson_interval(int(right[known[:, i], i].sum()), int(known[:, i].sum()))
            for i, name in enumerate(judge.names)
        },
        sensitivity=shares(truth & known),
        specificity=shares(~truth & known),
        calibration_error=_calibration_error(read[known], truth[known].float()),
    )


def judge_report(judge: FaceJudge, data: LabelledImages, bins: int = 5) -> JudgeReport:
    """The same with the curvature; ``data`` has a ``"curvature"`` label.

    Raises:
        ValueError: ``data`` lacks one of the judge's names or the curvature, or knows it of no
            picture.
    """
    true_curvature = data.column(CURVATURE)  # (N,)
    known = ~true_curvature.isnan()  # (N,)
    if not bool(known.any()):
        raise ValueError(f"{CURVATURE} is known of no picture here: a report needs some labels")
    attributes = attribute_report(judge, data)
    error = (judge.curvature(data.float()).cpu() - true_curvature)[known]  # (M,)
    true_curvature = true_curvature[known]  # (M,)
    edges = torch.linspace(float(true_curvature.min()), float(true_curvature.max()), bins + 1)
    place = torch.bucketize(true_curvature, edges[1:-1])
    bias = {
        f"{float(edges[i]):.1f}..{float(edges[i + 1]):.1f}": float(error[place == i].mean())
        for i in range(bins)
        if bool((place == i).any())
    }
    return JudgeReport(
        **vars(attributes),
        curvature_rmse=float(error.square().mean().sqrt()),
        curvature_bias=bias,
    )


def _calibration_error(probability: Tensor, truth: Tensor, bins: int = 10) -> float:
    place = (probability * bins).long().clamp(0, bins - 1)
    gaps = [
        (place == i).float().mean()
        * (probability[place == i].mean() - truth[place == i].mean()).abs()
        for i in range(bins)
        if bool((place == i).any())
    ]
    return float(torch.stack(gaps).sum())
