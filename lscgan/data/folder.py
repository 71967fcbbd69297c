"""A folder of your own pictures, with a table of labels or with one sub-folder a class."""

from __future__ import annotations

import csv
import errno
import hashlib
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lscgan.data.classes import LABEL
from lscgan.data.labelled import LabelledImages
from lscgan.data.packing import Pictures, listed, pack, pack_folder, stamp

PICTURES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
)
"""Endings of the files that count as pictures, in any case."""

SHARES = {"train": 0.8, "validation": 0.1, "test": 0.1}
"""The splits' shares, where neither a table nor folders say which picture is in which."""

_SPLIT_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_BLANK = frozenset(("", "nan", "na", "n/a", "null", "none"))
_WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}


@dataclass(frozen=True)
class Listing:
    """What is known of a set of pictures before any of them is read.

    Args:
        pictures: N files, those of a split next to each other.
        labels: float32, (N, A).
        names: the A labels' names.
        splits: the rows of each split.
        record: what a run's record should know of them: no path, no time of a file.
    """

    pictures: Pictures
    labels: np.ndarray
    names: tuple[str, ...]
    splits: dict[str, slice]
    record: dict[str, Any]

    def load(
        self, split: str, folder: Path, name: str, size: int, crop: int | None
    ) -> LabelledImages:
        """The pictures of one split, packed into ``folder`` if they are not yet."""
        if split not in self.splits:
            raise ValueError(
                f"no picture is in the split {split!r}: there are {', '.join(self.splits)}; a "
                "column named split says where each belongs"
            )
        images = pack(self.pictures, folder, name, size, crop)[self.splits[split]]  # a view
        labels = torch.from_numpy(self.labels[self.splits[split]])
        source = {**self.record, "split": split, "size": size, "crop": crop}
        return LabelledImages(images, labels, self.names, source)


def folder(
    split: str,
    root: str | Path | None = None,
    table: str | Path | None = None,
    size: int = 64,
    crop: int | None = None,
    attributes: Sequence[str] | None = None,
    cache: str | Path | None = None,
) -> LabelledImages:
    """The pictures below ``root`` and their labels; see :func:`lscgan.data.load`."""
    if root is None:
        raise ValueError("name the folder of your pictures with root=...")
    place = Path(root).expanduser()
    if not place.is_dir():
        raise FileNotFoundError(f"there is no folder {place}")
    files = _files(place)
    if table is None:
        table = next((t for t in ("labels.csv", "labels.parquet") if t in files), None)
    if table is None:
        rows = _classes(files, place, attributes)
        stem, checksum = "classes", ""
    else:
        path = place / table  # an absolute path stays as it is
        if not path.is_file():
            raise FileNotFoundError(f"there is no table {path}")
        rows = _labelled(files, place, path, attributes)
        stem, checksum = path.stem, hashlib.sha256(path.read_bytes()).hexdigest()
    listing = _listing(place, files, rows, checksum)
    return listing.load(split, pack_folder(place, cache), stem, size, crop)


@dataclass
class _Rows:
    files: list[str]
    labels: np.ndarray  # (N, A) float32
    names: tuple[str, ...]
    splits: list[str] | None  # of each file, where the user says so
    classes: list[str] | None = None


def _listing(root: Path, files: dict[str, tuple[int, int]], rows: _Rows, checksum: str) -> Listing:
    splits = rows.splits or [split_of(file) for file in rows.files]
    order = sorted(
        range(len(rows.files)), key=lambda i: (list(SHARES).index(splits[i]), rows.files[i])
    )
    names = [rows.files[i] for i in order]
    record = {
        "name": "folder",
        "names": list(rows.names),
        "files": stamp((name, files[name][0]) for name in names),
        **({"table": checksum} if checksum else {}),
        **({"classes": rows.classes} if rows.classes else {}),
    }
    pictures = Pictures(
        names,
        lambda row: root / names[row],
        stamp((name, *files[name]) for name in names),
        {**record, "root": str(root.resolve())},
    )
    return Listing(
        pictures, rows.labels[order], rows.names, runs([splits[i] for i in order]), record
    )


def runs(splits: Sequence[str]) -> dict[str, slice]:
    """The slice of each split in a list in which those of a split stand together."""
    counts = Counter(splits)
    slices, start = {}, 0
    for split, count in counts.items():
        slices[split] = slice(start, start + count)
        start += count
    return slices


def split_of(file: str) -> str:
    """The split that a file's name falls into: the same for ever, whatever else is there.

    A checksum of the name deals names out as `SHARES` says.
    """
    digest = hashlib.sha256(f"0/{file}".encode("utf-8", "surrogateescape")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    for split, share in SHARES.items():
        place -= share
        if place < 0:
            return split
    return "test"


def _files(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder by its name from there, with its size and time; hidden ones not.

    Raises:
        ValueError: some of them cannot be looked at.
    """
    files: dict[str, tuple[int, int]] = {}
    faults: list[str] = []

    def look(folder: str, prefix: str, above: tuple[str, ...]) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + entry.name
                try:
                    if entry.is_dir():
                        real = os.path.realpath(entry.path)
                        if real in above:
                            raise OSError(errno.ELOOP, "a link back to a folder that it lies in")
                        look(entry.path, f"{name}/", (*above, real))
                    else:
                        known = entry.stat()
                        files[name] = (known.st_size, known.st_mtime_ns)
                except OSError as error:
                    lost = isinstance(error, FileNotFoundError) and entry.is_symlink()
                    faults.append(f"{name} ({'a link to nothing' if lost else error.strerror})")

    look(str(root), "", (os.path.realpath(root),))
    if faults:
        raise ValueError(
            f"{len(faults)} files in {root} cannot be read: {listed(sorted(faults))}; repair or "
            "remove them, with their rows in the table"
        )
    return files


def _pictures(files: dict[str, tuple[int, int]]) -> list[str]:
    return sorted(name for name in files if os.path.splitext(name)[1].lower() in PICTURES)


# --- Sub-folders as classes -----------------------------------------------------------------------


def _classes(
    files: dict[str, tuple[int, int]], root: Path, attributes: Sequence[str] | None
) -> _Rows:
    names = _pictures(files)
    parts = [name.split("/") for name in names]
    if not names or all(len(part) == 1 for part in parts):
        raise FileNotFoundError(
            f"{root} has neither a table (labels.csv, or name it with table=...) nor sub-folders "
            "of pictures, one a class"
        )
    splits = None
    if all(part[0].lower() in _SPLIT_WORDS for part in parts):  # train/cat/1.jpg
        splits = [_SPLIT_WORDS[part[0].lower()] for part in parts]
        parts = [part[1:] for part in parts]
    loose = [name for name, part in zip(names, parts, strict=True) if len(part) == 1]
    if loose:
        raise ValueError(f"{len(loose)} pictures are in no class's folder: {listed(loose)}")
    if attributes is not None and tuple(attributes) != (LABEL,):
        raise ValueError(
            f"sub-folders give one label, {LABEL!r}: attributes={list(attributes)} needs a table"
        )
    classes = sorted({part[0] for part in parts})
    if len(classes) < 2:
        raise ValueError(f"{root} has one class alone, {classes[0]!r}: there is nothing to tell")
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([[number[part[0]]] for part in parts], np.float32)
    return _Rows(names, labels, (LABEL,), splits, classes)


# --- A table --------------------------------------------------------------------------------------


def _labelled(
    files: dict[str, tuple[int, int]], root: Path, path: Path, attributes: Sequence[str] | None
) -> _Rows:
    """The rows of a table that belongs to these files, checked."""
    columns = _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)
    first, *others = columns
    names = [name.strip().replace("\\", "/").removeprefix("./") for name in columns[first]]
    if not names:
        raise ValueError(f"{path} has no row")
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has several rows for {listed(twice)}: keep one of each")
    absent = [name for name in names if name not in files]
    if absent:
        raise ValueError(
            f"{path} names {len(absent)} files, in its first column {first!r}, that are not in "
            f"{root}: {listed(absent)}"
        )
    without = sorted(set(_pictures(files)) - set(names))
    if without:
        raise ValueError(
            f"{len(without)} pictures have no row in {path}: {listed(without)}; give each a row, "
            "with blank cells where labels are not known, or take the pictures away"
        )
    split = next((name for name in others if name.strip().lower() == "split"), None)
    splits = None
    if split is not None:
        others.remove(split)
        words = [word.strip().lower() for word in columns[split]]
        unknown = sorted({word for word in words if word not in _SPLIT_WORDS})
        if unknown:
            raise ValueError(
                f"{path}: the column {split!r} says train, validation or test, not "
                f"{listed(map(repr, unknown))}"
            )
        splits = [_SPLIT_WORDS[word] for word in words]
    wanted = list(others if attributes is None else attributes)
    for name in wanted:
        if name not in others:
            raise ValueError(f"{path} has no attribute {name!r}: it has {', '.join(others)}")
    if not wanted:
        raise ValueError(f"{path} has no attribute: each column after the first is one")
    labels = np.stack([_numbers(columns[name], name, names, path) for name in wanted], axis=1)
    return _Rows(names, labels, tuple(wanted), splits)


def _csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            # Spreadsheets of many countries part columns by semicolons.
            delimiter = max(",;\t", key=header.count)
            file.seek(0)
            lines = list(csv.reader(file, delimiter=delimiter, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV table in UTF-8: {error}") from error
    if not lines or not lines[0]:
        raise ValueError(f"{path} is empty: its first line names the columns")
    names = [name.strip() for name in lines[0]]
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{path} has several columns named {listed(map(repr, repeated))}")
    for number, line in enumerate(lines[1:], start=2):
        if line and len(line) != len(names):
            raise ValueError(
                f"{path}: row {number} has {len(line)} cells, the first line names {len(names)}"
            )
    filled = [line for line in lines[1:] if line]
    return {name: [line[i] for line in filled] for i, name in enumerate(names)}


def _parquet(path: Path) -> dict[str, list[str]]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ImportError(
            f"{path} needs the package pyarrow to be read: pip install pyarrow, or "
            '"lscgan[data]" for all that own data may need; or save the table as CSV'
        ) from error
    try:
        table = parquet.read_table(path)
    except Exception as error:  # pyarrow has exceptions of its own
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no Parquet table, or a damaged one: {reason}") from error
    columns = table.to_pydict()
    if not columns:
        raise ValueError(f"{path} is empty: it has no column")
    # pandas stores a frame's index last: file names there come first, row numbers are no label.
    indices = (table.schema.pandas_metadata or {}).get("index_columns", ())
    index = {name: columns.pop(name) for name in indices if isinstance(name, str)}
    files = {name: v for name, v in index.items() if all(isinstance(value, str) for value in v)}
    return {
        str(name): ["" if value is None else str(value) for value in values]
        for name, values in {**files, **columns}.items()
    }


def _numbers(cells: Sequence[str], name: str, files: Sequence[str], path: Path) -> np.ndarray:
    """A column's labels, (N,) float32; -1 and 1 become 0 and 1, blanks NaN."""
    values = np.empty(len(cells), np.float32)
    wrong = []
    for row, cell in enumerate(cells):
        word = cell.strip().lower()
        if word in _BLANK:
            values[row] = math.nan
            continue
        try:
            values[row] = _WORDS[word] if word in _WORDS else float(word)
            if not math.isfinite(values[row]):
                raise ValueError
        except (ValueError, OverflowError):
            wrong.append(f"{cell!r} of {files[row]}")
    if wrong:
        raise ValueError(
            f"{path}: the attribute {name!r} is a number, true or false, yes or no, or blank, not "
            f"{listed(wrong)}"
        )
    known = values[~np.isnan(values)]
    if not len(known):
        raise ValueError(f"{path}: the attribute {name!r} has no value: leave it out")
    if (known == known[0]).all():
        raise ValueError(
            f"{path}: the attribute {name!r} never varies, it is {known[0]:g} wherever it is "
            "known: leave it out, with attributes=[...]"
        )
    if set(known.tolist()) == {-1.0, 1.0}:
        values[values == -1] = 0
    return values
