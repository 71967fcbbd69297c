"""Control of classes: does a code mean a class, and are its images as varied as real ones?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from lscgan.data import LabelledImages
from lscgan.evaluation.asking import Generative, seen
from lscgan.evaluation.fidelity import frechet_distance
from lscgan.evaluation.intervals import Interval, wilson_interval
from lscgan.evaluation.pictures import in_pieces, looked_at
from lscgan.latent import CategoricalCode

PER_CLASS = 128
"""Samples a class, as in ss-InfoGAN's official measure (Spurr et al. 2017)."""


class ReadsClasses(Protocol):
    """What a measure asks of a judge of classes."""

    def classify(self, images: Tensor) -> Tensor: ...

    def features(self, images: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class ClassReport:
    """What a judge reads in the samples of each value of a categorical code.

    Attributes:
        code: the code's name.
        counts: rows are the code's values, columns the judge's classes, (K, K).
    """

    code: str
    counts: tuple[tuple[int, ...], ...]

    @property
    def accuracy(self) -> Interval:
        """Share read as the class whose index the code is: what labels must give."""
        return self._share(list(range(len(self.counts))))

    @property
    def mapping(self) -> list[int]:
        """The class that each value is matched with: one to one, as well as can be.

        The assignment problem's solution (Kuhn 1955).
        """
        _, columns = linear_sum_assignment(torch.tensor(self.counts).numpy(), maximize=True)
        return [int(column) for column in columns]

    @property
    def matched(self) -> Interval:
        """Share read as the class that the value is matched with: all that no label can give."""
        return self._share(self.mapping)

    def _share(self, mapping: list[int]) -> Interval:
        right = sum(row[column] for row, column in zip(self.counts, mapping, strict=True))
        return wilson_interval(right, sum(map(sum, self.counts)))

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "code": self.code,
            "counts": [list(row) for row in self.counts],
            "accuracy": list(self.accuracy),
            "matched": list(self.matched),
            "mapping": self.mapping,
        }


def class_control(
    model: Generative,
    judge: ReadsClasses,
    per_class: int = PER_CLASS,
    generator: torch.Generator | None = None,
    code: str | None = None,
) -> ClassReport:
    """Draw ``per_class`` samples of every value of a categorical code; let the judge read them.

    Args:
        model: in eval mode; its other codes are drawn at random.
        judge: of as many classes as the code has.
        generator: the source of the latent vectors.
        code: which categorical code; the first by default.

    Raises:
        ValueError: the design has no such categorical code, or the judge knows more classes.
    """
    code, classes = _categorical(model, code)
    z = samples_of(model, code, per_class, generator)
    read = seen(model, z, judge.classify).reshape(classes, per_class)  # (K, P)
    if int(read.max()) >= classes:
        raise ValueError(
            f"the judge reads more classes than the {classes} of {code!r}: use one of as many"
        )
    counts = torch.stack([row.bincount(minlength=classes) for row in read])  # (K, K)
    return ClassReport(code, tuple(tuple(row) for row in counts.tolist()))


def samples_of(
    model: Generative, code: str, per_class: int, generator: torch.Generator | None
) -> Tensor:
    """Latent vectors, ``per_class`` for every value of a code, in the order of values: (N, D)."""
    column = model.design.names.index(code)
    classes = model.design.codes[column].size
    labels = model.design.random_labels(classes * per_class, generator)  # (N, A)
    labels[:, column] = torch.arange(classes).repeat_interleave(per_class).to(labels)
    return model.design.sample(labels, generator=generator)


@dataclass(frozen=True)
class ClassFidelity:
    """How images of classes compare with real ones.

    Attributes:
        count: generated images.
        frechet: Frechet distance of the judge's 128 features; no FID, and comparable within one
            judge alone.
        diversity: the spread of the judge's features within a class, in units of the real
            images': the mean over classes of the ratio of total variances, of which those are
            left out that have fewer than two real images. 0 is one prototype a class, 1 as varied
            as real images.
        nearness: median distance, in pixels, of generated images to the nearest of the images
            whose labels were kept, in units of real images' distance. Well below 1: the labelled
            images are copied. None without such images.
    """

    count: int
    frechet: float
    diversity: float
    nearness: float | None

    def to_dict(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "count": self.count,
            "frechet": self.frechet,
            "diversity": self.diversity,
            "nearness": self.nearness,
        }


def class_fidelity(
    model: Generative,
    judge: ReadsClasses,
    real: LabelledImages,
    generator: torch.Generator | None = None,
    code: str | None = None,
    mapping: list[int] | None = None,
    kept: LabelledImages | None = None,
) -> ClassFidelity:
    """Compare generated images with real ones that the model was not trained on.

    Args:
        real: one class label; as many images are generated as it has a class, on average. Images
            whose class is not known are left out, here and of ``kept``.
        mapping: the class of each value of the code, for codes that were not tied to labels.
        kept: the images whose labels the model was given, to see whether it copies them.

    Raises:
        ValueError: the design has no such categorical code, or there are fewer than two real
            images a class, on average.
    """
    code, classes = _categorical(model, code)
    real = real.select(real.labelled)
    per_class = len(real) // classes
    if per_class < 2:
        raise ValueError(
            f"{len(real)} real images of a known class are too few for {classes} classes: give at "
            f"least {2 * classes}"
        )
    z = samples_of(model, code, per_class, generator)
    pictures = seen(model, z, lambda images: images)  # (N, C, H, W)
    features = looked_at(judge, pictures, judge.features).float()
    real_features = looked_at(judge, real.float(), judge.features).float()
    truth = real.labels[:, 0].long()
    ratios = []
    for value, own in enumerate(features.split(per_class)):
        of_class = real_features[truth == (value if mapping is None else mapping[value])]
        if len(of_class) > 1:
            ratios.append(float(own.var(dim=0).sum() / of_class.var(dim=0).sum()))
    nearness = None
    kept = None if kept is None else kept.select(kept.labelled)
    if kept:
        ours = _nearest(pictures, kept.float()).median()
        nearness = float(ours / _nearest(real.float(), kept.float()).median())
    return ClassFidelity(
        count=len(pictures),
        frechet=frechet_distance(features, real_features),
        diversity=sum(ratios) / len(ratios),
        nearness=nearness,
    )


def _nearest(images: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance of each image to the nearest of others, (N,)."""
    return in_pieces(
        lambda piece: torch.cdist(piece.flatten(1), others.flatten(1)).min(dim=1).values, images
    )


def _categorical(model: Generative, code: str | None) -> tuple[str, int]:
    sizes = {c.name: c.size for c in model.design.codes if isinstance(c, CategoricalCode)}
    if code is None and sizes:
        code = next(iter(sizes))
    if code not in sizes:
        raise ValueError(
            f"this design has no categorical code {code!r}: it has {', '.join(sizes) or 'none'}"
        )
    return code, sizes[code]
