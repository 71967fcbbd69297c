"""``load``: data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from lscgan.data import celeba, classes, faces, folder
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
    * ``curvature``, ``gap``: see :func:`lscgan.data.faces.sample_factors`;
    * ``amounts``: True labels Smiling with the mouth's curvature, how much and not whether.

    ``"digits"`` comes with the library: 5,000 of MNIST's training digits (LeCun et al. 1998), 28
    pixels wide, grey. It has no options.

    ``"mnist"``, ``"fashion-mnist"``, ``"svhn"`` and ``"cifar10"`` are torchvision's, with the
    splits "train" and "test". They are looked for in ``root``, in what a system package installed
    (Debian's ``dataset-fashion-mnist``), and downloaded into ``root`` otherwise; checksums are
    verified. Without ``root`` that is the folder ``LSCGAN_DATA`` names, or ``~/.cache/lscgan``.

    These five have one label, ``"class"``, a class index; :data:`lscgan.data.CLASSES` names the
    classes.

    ``"folder"`` is a folder of your own pictures, of any size and kind. They are packed once
    (:mod:`lscgan.data.packing`); afterwards a load takes no time, and memory only for what is
    used. Its options:

    * ``root``: the folder;
    * ``table``: a CSV or Parquet file in it, one row a picture: the first column names the file,
      every other one is an attribute: 0 and 1, -1 and 1, true and false, yes and no, any real
      amounts on a scale of about 0 to 1, or blank where the label is not known. A column
      ``split`` says train, validation or test. By default ``labels.csv`` or ``labels.parquet``
      where there is one; without a table each sub-folder is a class (``source["classes"]`` names
      them), and folders train, validation and test above those are splits;
    * ``size``, ``crop``: sides in pixels of the pictures made and of the centred square that is
      cut out first; see :func:`lscgan.data.packing.prepare`;
    * ``attributes``: the columns wanted, all by default;
    * ``cache``: where packs lie, by default ``.lscgan`` in ``root``, or below ``LSCGAN_DATA`` or
      ``~/.cache/lscgan`` where ``root`` cannot be written.

    Where nothing says which picture is in which split, a checksum of its file's name does: 80, 10
    and 10 in a hundred, the same at every call and whatever else is in the folder.

    ``"celeba"`` is CelebA (Liu et al. 2015), in its official splits, with the options ``root``,
    ``size``, ``crop`` (138, as in the LSC-GAN paper) and ``cache`` as above, and

    * ``attributes``: all 40 by default; :data:`lscgan.data.celeba.PAPER` holds the paper's 14;
    * ``source``: one of "folder" (``root`` in CelebA's own layout: ``img_align_celeba.zip`` or the
      folder of that name, ``list_attr_celeba.txt``, ``list_eval_partition.txt``), "huggingface"
      (the data set flwrlabs/celeba; needs the package ``datasets``) and "torchvision" (its
      download from Google Drive; needs ``gdown``). By default each is tried in this order. The
      extra ``lscgan[data]`` brings both packages, and pyarrow for Parquet tables.

    Args:
        split: "train", "validation" or "test": different images.

    Raises:
        ValueError: an unknown data set, split or option, a damaged file, or a table that does not
            fit its pictures; the message says what there is.
        FileNotFoundError: the files are missing and cannot be downloaded; the message says where
            to put them.
        ImportError: a Parquet table is to be read and pyarrow is not installed.
        OSError: a pack does not fit on the disk, or cannot be written, or a picture cannot be read.
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
    amounts: bool = False,
) -> LabelledImages:
    generator = torch.Generator().manual_seed(SPLITS[split])
    factors = faces.sample_factors(count, generator, curvature, gap)
    asked = ["curvature" if amounts and name == "Smiling" else name for name in names]
    labels = factors.labels(asked)  # (N, A)
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
        "amounts": amounts,
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
    "folder": folder.folder,
    "celeba": celeba.celeba,
}
