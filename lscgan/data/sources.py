"""``load``: data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lscgan.data import classes, faces
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

    ``"digits"`` comes with the library: 5,000 of MNIST's training digits (LeCun et al. 1998), 28
    pixels wide, grey. It has no options.

    ``"mnist"``, ``"fashion-mnist"``, ``"svhn"`` and ``"cifar10"`` are torchvision's, with the
    splits "train" and "test". They are looked for in ``root``, in what a system package installed
    (Debian's ``dataset-fashion-mnist``), and downloaded into ``root`` otherwise; checksums are
    verified. Without ``root`` that is the folder ``LSCGAN_DATA`` names, or ``~/.cache/lscgan``.

    These five have one label, ``"class"``, a class index; :data:`lscgan.data.CLASSES` names the
    classes.

    Args:
        split: "train", "validation" or "test": different images.

    Raises:
        ValueError: an unknown data set, split or option, or a damaged file; the message says what
            there is.
        FileNotFoundError: the files are missing and cannot be downloaded; the message says where
            to put them.
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
                f"the data set {name!r} has no option {option!r}: it has "
                f"{', '.join(sorted(known)) or 'none'}"
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


def _public(name: str) -> Callable[..., LabelledImages]:
    def source(split: str, root: str | Path | None = None) -> LabelledImages:
        return classes.public(name, split, root)

    return source


_SOURCES: dict[str, Callable[..., LabelledImages]] = {
    "faces": _faces,
    "digits": classes.digits,
    **{name: _public(name) for name in ("mnist", "fashion-mnist", "svhn", "cifar10")},
}
