"""The judge: a small convolutional network that reads attributes and curvature from a face.

It is trained on rendered faces *with* frowns, which no generative model of this book ever sees,
so it can recognise one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from lscgan.data import LabelledImages
from lscgan.evaluation.intervals import Interval, wilson_interval
from lscgan.evaluation.pictures import in_pieces, resized
from lscgan.networks import Encoder

CURVATURE = "curvature"
SIZE = 64
FEATURES = 64
CURVATURE_WEIGHT = 10.0
"""Squared curvature errors are a hundredth of the attributes' cross-entropies in size."""


class FaceJudge(nn.Module):
    """Reads attributes (as probabilities) and the mouth's curvature from any face.

    Args:
        names: the attributes that it reads.
        width: channels of the first convolution.
    """

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
            nn.Linear(2 * FEATURES, len(names) + 1),
        )

    def features(self, images: Tensor) -> Tensor:
        """The last hidden layer, (B, 3, H, W) in [0, 1] -> (B, 128)."""
        return torch.cat(self.body(resized(images, SIZE)), dim=1)  # (B, F)

    def forward(self, images: Tensor) -> Tensor:
        """Attribute logits, then curvature: (B, 3, H, W) -> (B, A + 1)."""
        read: Tensor = self.head(self.features(images)).float()
        return read

    def attributes(self, images: Tensor) -> Tensor:
        """Each attribute's probability, (B, 3, H, W) -> (B, A)."""
        return in_pieces(self, images)[:, :-1].sigmoid()

    def curvature(self, images: Tensor) -> Tensor:
        """The mouth's curvature: -1 a frown, 0 flat, 1 a broad smile; (B, 3, H, W) -> (B,)."""
        return in_pieces(self, images)[:, -1]

    # -- training it --------------------------------------------------------------------------

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        """One AdamW."""
        return {"judge": torch.optim.AdamW(self.parameters(), lr=learning_rate, weight_decay=1e-3)}

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """Cross-entropy for the attributes and squared error for the curvature.

        Args:
            labels: (B, A + 1), the curvature last.
        """
        read = self(worn(images))  # (B, A + 1)
        attributes = nn.functional.binary_cross_entropy_with_logits(read[:, :-1], labels[:, :-1])
        curvature = nn.functional.mse_loss(read[:, -1], labels[:, -1])
        loss = attributes + CURVATURE_WEIGHT * curvature / len(self.names)
        optimizers["judge"].zero_grad(set_to_none=True)
        loss.backward()
        optimizers["judge"].step()
        return {
            "loss": loss.detach(),
            "attributes": attributes.detach(),
            "curvature": curvature.detach(),
        }

    # -- saving it ----------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        return {"names": list(self.names), "width": self.width}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        return cls(**config)


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
class JudgeReport:
    """How well a judge reads faces whose factors are known.

    Attributes:
        count: faces read.
        accuracy: share read rightly, with its 95% interval, by attribute.
        curvature_rmse: root mean square error of the curvature.
        curvature_bias: mean of read minus true curvature, by interval of the true one
            (``"-1.0..-0.6"``).
        calibration_error: expected calibration error of the attributes' probabilities in 10 bins
            (Naeini et al. 2015), 0 is perfect.
    """

    count: int
    accuracy: dict[str, Interval]
    curvature_rmse: float
    curvature_bias: dict[str, float]
    calibration_error: float

    @property
    def mean_accuracy(self) -> float:
        return sum(share for share, _, _ in self.accuracy.values()) / len(self.accuracy)


def judge_report(judge: FaceJudge, data: LabelledImages, bins: int = 5) -> JudgeReport:
    """Compare what a judge reads with what is known; ``data`` has a ``"curvature"`` label.

    Raises:
        ValueError: ``data`` lacks one of the judge's names or the curvature.
    """
    images = data.float()
    read = judge.attributes(images).cpu()  # (N, A)
    truth = torch.stack([data.column(name) for name in judge.names], dim=1)  # (N, A)
    right = (read > 0.5) == (truth > 0.5)  # (N, A)
    accuracy = {
        name: wilson_interval(int(right[:, i].sum()), len(data))
        for i, name in enumerate(judge.names)
    }
    true_curvature = data.column(CURVATURE)  # (N,)
    error = judge.curvature(images).cpu() - true_curvature  # (N,)
    edges = torch.linspace(float(true_curvature.min()), float(true_curvature.max()), bins + 1)
    place = torch.bucketize(true_curvature, edges[1:-1])
    bias = {
        f"{float(edges[i]):.1f}..{float(edges[i + 1]):.1f}": float(error[place == i].mean())
        for i in range(bins)
        if bool((place == i).any())
    }
    return JudgeReport(
        count=len(data),
        accuracy=accuracy,
        curvature_rmse=float(error.square().mean().sqrt()),
        curvature_bias=bias,
        calibration_error=_calibration_error(read, truth),
    )


def _calibration_error(probability: Tensor, truth: Tensor, bins: int = 10) -> float:
    probability, truth = probability.flatten(), truth.flatten()
    place = (probability * bins).long().clamp(0, bins - 1)
    gaps = [
        (place == i).float().mean()
        * (probability[place == i].mean() - truth[place == i].mean()).abs()
        for i in range(bins)
        if bool((place == i).any())
    ]
    return float(torch.stack(gaps).sum())
