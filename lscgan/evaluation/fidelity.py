"""Fidelity: how close generated pictures are to real ones, seen from several sides.

No single number is enough. A Frechet distance in a judge's features does not see fine speckle;
sharpness alone rewards it; and neither says whether all kinds of faces are drawn. The arithmetic
of Frechet distance and of precision and recall is torch-fidelity's.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from lscgan.data import LabelledImages
from lscgan.evaluation.asking import Generative, seen
from lscgan.evaluation.judge import AttributeJudge, blur
from lscgan.evaluation.pictures import in_pieces, laplacian, looked_at

PATCH = 8
"""Side of the patches whose fine structure is compared, in pixels."""

COARSE = 1.0
"""Sigma of the blur, in pixels, that is taken away to leave the fine structure."""

NEIGHBOURS = 3
"""How far a picture's neighbourhood reaches: to its third neighbour (Kynkäänniemi et al. 2019)."""

CORNER = 1 / 6
"""Side of the two upper corners, where a face's backdrop shows, as a share of the picture's."""


@dataclass(frozen=True)
class FidelityReport:
    """How generated pictures compare with real ones.

    Attributes:
        count: pictures of each kind.
        frechet: Frechet distance of the *judge's* features (128 of them); no FID, whose features
            are Inception's, and comparable within this book alone.
        patch_frechet: Frechet distance of the fine structure of 8x8 patches, times 10,000: no
            judge is involved.
        precision: share of generated pictures that lie among real ones, in the judge's features.
        recall: share of real pictures that lie among generated ones.
        sharpness: the Laplacian's mean square, in units of real pictures'.
        speckle: standard deviation of the fine structure in the backdrop, in units of real
            pictures'.
    """

    count: int
    frechet: float
    patch_frechet: float
    precision: float
    recall: float
    sharpness: float
    speckle: float

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return asdict(self)


def fidelity(
    model: Generative,
    judge: AttributeJudge,
    real: LabelledImages,
    generator: torch.Generator | None = None,
) -> FidelityReport:
    """Draw one picture for the labels of each real one, and compare the two sets.

    Args:
        model: in eval mode.
        judge: whose features are used.
        real: pictures that the model was not trained on; thousands, since every distance here is
            biased upwards for few. Its labels are the design's, or the design has none.
        generator: the source of latent vectors.

    Raises:
        ValueError: the labels are not the design's, or there are too few pictures for a
            covariance of the judge's features.
    """
    design = model.design
    if design.names and tuple(real.names) != design.names:
        raise ValueError(
            f"the design's attributes are {', '.join(design.names)}; the data's are "
            f"{', '.join(real.names)}"
        )
    z = design.sample(real.labels if design.names else None, len(real), generator)  # (N, D)
    return compare(seen(model, z, lambda pictures: pictures), real.float(), judge)


def compare(generated: Tensor, real: Tensor, judge: AttributeJudge) -> FidelityReport:
    """The measures of :func:`fidelity` for two sets of pictures, (N, 3, H, W) each in [0, 1].

    Raises:
        ValueError: the two differ in shape, or there are too few pictures.
    """
    if generated.shape != real.shape:
        raise ValueError(
            f"generated pictures {tuple(generated.shape)} and real ones {tuple(real.shape)} must "
            "have the same shape"
        )
    features = [
        looked_at(judge, pictures, judge.features).float() for pictures in (generated, real)
    ]
    if len(real) <= features[0].shape[1]:
        raise ValueError(
            f"{len(real)} pictures are too few for {features[0].shape[1]} features: give thousands"
        )
    among = prc_features_to_metric(
        *features,
        prc_neighborhood=NEIGHBOURS,
        prc_batch_size=10_000,
        save_cpu_ram=False,
        verbose=False,
    )
    patches = [in_pieces(_patches, pictures).flatten(0, 1) for pictures in (generated, real)]
    sharp, sharp_real = (float(in_pieces(_sharpness, p).mean()) for p in (generated, real))
    speckled, speckled_real = (float(in_pieces(_speckle, p).mean()) for p in (generated, real))
    return FidelityReport(
        count=len(real),
        frechet=frechet_distance(*features),
        patch_frechet=1e4 * frechet_distance(*patches),
        precision=float(among[KEY_METRIC_PRECISION]),
        recall=float(among[KEY_METRIC_RECALL]),
        sharpness=sharp / sharp_real,
        speckle=speckled / speckled_real,
    )


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Between two sets of features taken for Gaussians: (N, F) and (M, F) -> at least 0.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017).
    """
    statistics = [fid_features_to_statistics(f.double().cpu()) for f in (features, others)]
    distance = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    return max(float(distance), 0.0)  # rounding can leave a little less than 0


def fine_structure(images: Tensor) -> Tensor:
    """What a slight blur takes away, (B, C, H, W) -> the same."""
    return images - blur(images, COARSE)


def _patches(images: Tensor) -> Tensor:
    """Patches of the fine structure, sixteen of a picture of 32x32 or more: (B, P, C * 8 * 8)."""
    fine = fine_structure(images)
    stride = max((images.shape[-1] - PATCH) // 3, 1)
    patches = torch.nn.functional.unfold(fine, PATCH, stride=stride)  # (B, C * 64, P)
    return patches.transpose(1, 2)


def _sharpness(images: Tensor) -> Tensor:
    return laplacian(images).square().mean(dim=(1, 2))  # (B,)


def _speckle(images: Tensor) -> Tensor:
    side = max(round(CORNER * images.shape[-1]), 3)
    fine = fine_structure(images)
    corners = torch.cat([fine[..., :side, :side], fine[..., :side, -side:]], dim=-1)
    return corners.flatten(1).std(dim=1)  # (B,)
