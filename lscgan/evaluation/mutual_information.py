"""Mutual information between codes and images: InfoGAN's bound, and the exact value on a toy.

    L_I = E_{c, x ~ G(z, c)}[log q(c|x)] + H(c)  <=  I(c; x)

(Barber & Agakov 2003; Chen et al. 2016, equation 5), in nats. The gap is the mean KL divergence
of q(c|x) from the true posterior p(c|x): no gap, no loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lscgan.evaluation.asking import Generative
from lscgan.evaluation.pictures import AT_ONCE, device_of
from lscgan.latent import CategoricalCode

_TINY = 1e-12


@dataclass(frozen=True)
class Channel:
    """A code c of K values that becomes one of X outcomes: small enough to know everything.

    Attributes:
        prior: p(c), (K,).
        likelihood: p(x|c), (K, X): one distribution a row.

    Raises:
        ValueError: a shape does not fit, or a row is no distribution.
    """

    prior: Tensor
    likelihood: Tensor

    def __post_init__(self) -> None:
        if self.prior.ndim != 1 or self.likelihood.ndim != 2:
            raise ValueError("prior is (K,) and likelihood (K, X)")
        if len(self.prior) != len(self.likelihood):
            raise ValueError(
                f"prior has {len(self.prior)} values and likelihood {len(self.likelihood)} rows"
            )
        for what, rows in (("prior", self.prior[None]), ("likelihood", self.likelihood)):
            _check_distributions(what, rows)

    @property
    def posterior(self) -> Tensor:
        """p(c|x), (X, K); where no code gives x, the prior."""
        joint = (self.prior[:, None] * self.likelihood).T  # (X, K)
        marginal = joint.sum(dim=1, keepdim=True)  # (X, 1)
        return torch.where(
            marginal > 0, joint / torch.where(marginal > 0, marginal, 1.0), self.prior
        )

    def information(self) -> float:
        """I(c; x), exactly."""
        joint = self.prior[:, None] * self.likelihood  # (K, X)
        apart = self.prior[:, None] * joint.sum(dim=0)  # (K, X): were they independent
        terms = torch.special.xlogy(joint, joint / torch.where(apart > 0, apart, 1.0))  # (K, X)
        return float(terms.sum())

    def bound(self, q: Tensor) -> float:
        """L_I of a reader q(c|x), (X, K); minus infinity if q excludes what happens.

        Raises:
            ValueError: q is not (X, K), or a row is no distribution.
        """
        if q.shape != self.likelihood.T.shape:
            raise ValueError(f"q is {tuple(self.likelihood.T.shape)}, not {tuple(q.shape)}")
        _check_distributions("q", q)
        joint = self.prior[:, None] * self.likelihood  # (K, X)
        expected = torch.special.xlogy(joint, q.T).sum()
        return float(expected) + entropy(self.prior)


def entropy(probabilities: Tensor) -> float:
    """H(c) of a distribution (K,), in nats."""
    p = probabilities[probabilities > 0]
    return float(-(p * p.log()).sum())


@dataclass(frozen=True)
class Information:
    """What a model's Q reads of one code.

    Attributes:
        bound: L_I in nats: at least so much does an image tell of the code.
        entropy: H(c): log K for K classes. For a continuous code the *differential* entropy
            log 2 of U(-1, 1), which is no ceiling: a value read ever more exactly gives ever
            more nats.
    """

    bound: float
    entropy: float


class ReadsCodes(Generative, Protocol):
    """What the measure asks of a model."""

    def codes(self, images: Tensor) -> dict[str, Tensor]: ...


@torch.no_grad()
def mutual_information(
    model: ReadsCodes, count: int = 2_000, generator: torch.Generator | None = None
) -> dict[str, Information]:
    """The bound L_I of every code that the model's Q_us reads, on fresh samples.

    For a continuous code q(c|x) is a Gaussian around what Q reads; its width is fitted on one
    half of the samples, and the bound is computed on the other, so that it stays a bound.

    Args:
        model: an InfoGAN in eval mode.
        count: samples.

    Raises:
        ValueError: count is below 4.
    """
    if count < 4:
        raise ValueError(f"count is at least 4, not {count}")
    labels = model.design.random_labels(count, generator)  # (N, A)
    z = model.design.sample(labels, generator=generator)  # (N, D)
    device = device_of(model, z)
    pieces = [model.codes(model.decode(piece.to(device))) for piece in z.split(AT_ONCE)]
    found = {}
    for name in pieces[0]:
        read = torch.cat([piece[name].cpu() for piece in pieces])  # (N, K) or (N,)
        column = model.design.names.index(name)
        truth = labels[:, column]  # (N,)
        if isinstance(model.design.codes[column], CategoricalCode):
            log_q = read.clamp_min(_TINY).log()[torch.arange(count), truth.long()]  # (N,)
            h = math.log(read.shape[1])
        else:
            error = read - truth  # (N,)
            variance = float(error[: count // 2].square().mean().clamp_min(_TINY))
            rest = error[count // 2 :].square()
            log_q = -rest / (2 * variance) - 0.5 * math.log(2 * math.pi * variance)  # (N / 2,)
            h = math.log(2.0)
        found[name] = Information(float(log_q.mean()) + h, h)
    return found


def _check_distributions(what: str, rows: Tensor) -> None:
    sums = rows.sum(dim=1)
    if bool((rows < 0).any()) or not torch.allclose(sums, torch.ones_like(sums), atol=1e-4):
        raise ValueError(f"{what}: every row is a distribution, at least 0 and of sum 1")
