"""``load``: data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lscgan.data import faces
from lscgan.data.labelled import LabelledImages

SPLITS = {"train": 1, "validation": 2, "test": 3}
"""A split's share in the seed of drawn data, so that no two splits hold the same picture."""

_RENDERED_AT_ONCE = 512


def load(name: str, split: str = "train", **options: Any) -> LabelledImages:
    """The images of a data set, with their labels.

    ``"faces"`` is drawn on the spot by :mod:`lscgan.data.faces`: it needs no file and no network,
    and the same call gives the same faces. Its options:

    * ``count``: how many, 20,000 by default;
    * ``size``: their side in pixels, 64 by default;
    * ``names``: the labels wanted, all of :data:`lscgan.data.faces.ATTRIBUTES` by default; the
      exact value ``"curvature"`` may be among them;
    * ``curvature``, ``gap``: see :func:`lscgan.data.faces.sample_factors`.

    Args:
        split: "train", "validation" or "test": different faces.

    Raises:
        ValueError: an unknown data set, split or option; the message lists the known ones.
    """
    if name not in _SOURCES:
        raise ValueError(f"there is no data set {name!r}: there are {', '.join(_SOURCES)}")
    if split not in SPLITS:
        raise ValueError(f"there is no split {split!r}: there are {', '.join(SPLITS)}")
    source = _SOURCES[name]
    known = source.__annotations__.keys() - {"split", "return"}
    for option in options:
        if option not in known:
            raise ValueError(
                f"the data set {name!r} has no option {option!r}: it has {', '.join(sorted(known))}"
            )
    return source(split, **options)


def _faces(
    split: str,
    count: int = 20_000,
    size: int = 64,
    names: Sequence[str] = faces.ATTRIBUTES,
    curvature: tuple[float, float] = (0.0, 1.0),
    gap: tuple[float, float] | None = faces.GAP,
) -> LabelledImages:
    generator = torch.Generator().manual_seed(SPLITS[split])
    factors = faces.sample_factors(count, generator, curvature, gap)
    labels = factors.labels(names)  # (N, A)
    images = torch.empty(count, 3, size, size, dtype=torch.uint8)  # (N, 3, H, W)
    for start in range(0, count, _RENDERED_AT_ONCE):
        rows = slice(start, start + _RENDERED_AT_ONCE)
        images[rows] = (faces.render(factors[rows], size) * 255).round().byte()
    source = {
        "name": "faces",
        "split": split,
        "count": count,
        "size": size,
        "names": list(names),
        "curvature": list(curvature),
        "gap": None if gap is None else list(gap),
    }
    return LabelledImages(images, labels, tuple(names), source)


_SOURCES: dict[str, Callable[..., LabelledImages]] = {"faces": _faces}
