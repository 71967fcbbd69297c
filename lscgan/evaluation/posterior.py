"""What an encoder puts where: KL by block, active dimensions, labels read from the blocks."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from lscgan.data import LabelledImages
from lscgan.evaluation.pictures import AT_ONCE
from lscgan.latent import GaussianBlock
from lscgan.models import VAE
from lscgan.objectives import gaussian_kl_per_dimension

ACTIVE = 0.01
"""A dimension is active if its posterior mean's variance over images exceeds this
(Burda et al. 2016)."""


@dataclass(frozen=True)
class PosteriorReport:
    """How a VAE uses its latent space, averaged over images.

    Attributes:
        count: images encoded.
        kl: nats to the prior, by part of the design (``"free"``: the free noise); the model's own
            prior, so a plain VAE's is N(0, I).
        active: dimensions whose posterior mean varies with the image, beyond what the prior's own
            mean explains.
        read_out: share of images whose label is read rightly from the block's posterior mean, by
            which of the two prior means it lies nearer to; by attribute, those left out that are
            known of no image.
        psnr: of reconstructions from the posterior mean, in decibels.
    """

    count: int
    kl: dict[str, float]
    active: int
    read_out: dict[str, float]
    psnr: float

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return asdict(self)


@torch.no_grad()
def posterior(model: VAE, data: LabelledImages) -> PosteriorReport:
    """Encode a data set and report how the latent space is used.

    Args:
        model: in eval mode; its encoder infers all of z.
        data: its labels are the design's, in the design's order.

    Raises:
        ValueError: the data's names are not the design's, or the model is a conditional VAE.
    """
    design = model.design
    if model.inferred(design) != design.size:
        raise ValueError(
            f"a {type(model).__name__}'s encoder infers the noise alone and is handed the labels: "
            "this report is of models whose encoder infers all of z"
        )
    if design.names and tuple(data.names) != design.names:
        raise ValueError(
            f"the design's attributes are {', '.join(design.names)}; the data's are "
            f"{', '.join(data.names)}"
        )
    means, moved, kls, errors = [], [], [], []
    for start in range(0, len(data), AT_ONCE):
        part = data.select(slice(start, start + AT_ONCE))
        images, labels = part.float().to(model.device), part.labels.to(model.device)
        mean, log_variance = model.encode(images)  # (B, D)
        prior = model.prior_mean(labels)  # (B, D) or (1, D)
        kls.append(gaussian_kl_per_dimension(mean, log_variance, prior).cpu())
        means.append(mean.cpu())
        moved.append((mean - prior).cpu())
        errors.append((model.decode(mean) - images).square().mean(dim=(1, 2, 3)).cpu())
    kl, mean = torch.cat(kls).mean(dim=0), torch.cat(means)  # (D,), (N, D)
    read_out = {}
    for code in design.codes:
        if isinstance(code, GaussianBlock):
            truth = data.column(code.name)  # (N,)
            own = mean[:, design.block(code.name)].mean(dim=1)  # (N,)
            nearer_one = own > (code.at_zero + code.at_one) / 2  # (N,)
            known = ~truth.isnan()  # (N,)
            if bool(known.any()):
                right = (nearer_one == (truth > 0.5))[known]  # (M,)
                read_out[code.name] = float(right.float().mean())
    return PosteriorReport(
        count=len(data),
        kl={part.name: float(kl[design.block(part.name)].sum()) for part in design.parts},
        active=int((torch.cat(moved).var(dim=0) > ACTIVE).sum()),
        read_out=read_out,
        psnr=-10 * math.log10(float(_mean(errors))),
    )


def _mean(pieces: list[Tensor]) -> Tensor:
    return torch.cat(pieces).mean()
