"""CelebA, prepared as the papers prepare it, from wherever it can be had.

Z. Liu, P. Luo, X. Wang and X. Tang, "Deep learning face attributes in the wild", ICCV 2015. Its
pictures may be used for research without profit and may not be passed on, so none is part of this
library: packs of them stay on the machine of whoever made them.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from lscgan.data import faces
from lscgan.data.folder import Listing, runs
from lscgan.data.labelled import LabelledImages
from lscgan.data.packing import Pictures, cache, listed, pack_folder, stamp
from lscgan.files import replacing

PAPER = (
    "Black_Hair",
    "Blond_Hair",
    "Gray_Hair",
    "Male",
    "Female",
    "Smiling",
    "Mouth_Slightly_Open",
    "Young",
    "Narrow_Eyes",
    "Bags_Under_Eyes",
    "Mustache",
    "Eyeglasses",
    "Pale_Skin",
    "Chubby",
)
"""The 14 attributes of the LSC-GAN paper. CelebA has no Female: we read it as not Male."""

ATTRIBUTES = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs",
    "Big_Lips", "Big_Nose", "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows",
    "Chubby", "Double_Chin", "Eyeglasses", "Goatee", "Gray_Hair", "Heavy_Makeup",
    "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "No_Beard",
    "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns",
    "Smiling", "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat",
    "Wearing_Lipstick", "Wearing_Necklace", "Wearing_Necktie", "Young",
)  # fmt: skip
"""CelebA's 40, in the order of its table."""

TERMS = (
    "CelebA may be used for non-commercial research only, and neither its pictures nor anything "
    "made of them by cropping or packing may be passed on; its terms: "
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)

FILES = ("img_align_celeba.zip (or the folder img_align_celeba)",
         "list_attr_celeba.txt", "list_eval_partition.txt")  # fmt: skip
_STORED = ("names", "files", "labels", "splits")
_SPLITS = ("train", "validation", "test")  # 0, 1 and 2 in list_eval_partition.txt


class _NotThereError(Exception):
    """A source cannot give CelebA; the message says why."""


def celeba(
    split: str,
    root: str | Path | None = None,
    attributes: Sequence[str] | None = None,
    size: int = 64,
    crop: int = 138,
    source: str | None = None,
    cache: str | Path | None = None,
) -> LabelledImages:
    """CelebA's pictures and attributes; see :func:`lscgan.data.load`."""
    if source is not None and source not in _SOURCES:
        raise ValueError(f"there is no source {source!r}: there are {', '.join(_SOURCES)}")
    place = _root(root)
    packs = functools.partial(pack_folder, place, cache)
    listing = _find(place, [source] if source else list(_SOURCES), packs)
    return _choose(listing, attributes).load(
        split, packs(), f"celeba-{listing.record['from']}", size, crop
    )


def _root(root: str | Path | None) -> Path:
    return cache() if root is None else Path(root).expanduser()


def _find(root: Path, sources: list[str], packs: Callable[[], Path]) -> Listing:
    """CelebA from the first source that has it.

    Raises:
        FileNotFoundError: none has it.
    """
    tried = []
    for number, name in enumerate(sources):
        try:
            return _SOURCES[name](root, packs)
        except _NotThereError as error:
            tried.append(f"{name}: {error}")
            if number + 1 < len(sources):
                print(f"CelebA is not to be had from {tried[-1]}. Next: {sources[number + 1]}.")
    raise FileNotFoundError(
        "CelebA could not be had. Tried: " + "; ".join(tried) + f". Put {', '.join(FILES)} into "
        f"{root}, from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, and run again"
    )


def _choose(listing: Listing, attributes: Sequence[str] | None) -> Listing:
    """The listing with the attributes wanted, all that there are by default."""
    wanted = tuple(listing.names if attributes is None else attributes)
    columns = []
    for name in wanted:
        if name in listing.names:
            columns.append(listing.labels[:, listing.names.index(name)])
        elif name == "Female" and "Male" in listing.names:
            columns.append(1 - listing.labels[:, listing.names.index("Male")])
        else:
            raise ValueError(
                f"CelebA has no attribute {name!r}: it has {', '.join(listing.names)}; and Female, "
                "read as not Male"
            )
    labels = np.stack(columns, axis=1) if columns else listing.labels[:, :0]
    record = {
        **listing.record,
        "names": list(wanted),
        "labels": hashlib.sha256(np.ascontiguousarray(labels).data).hexdigest(),
    }
    return Listing(listing.pictures, labels, wanted, listing.splits, record)


# --- A folder in CelebA's own layout --------------------------------------------------------------


def _local(root: Path, packs: Callable[[], Path]) -> Listing:
    places = [root, root / "celeba", root / "Anno", root / "Eval", root / "Img"]
    tables = []
    for name in FILES[1:]:
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            raise _NotThereError(f"there is no {name} in {root}")
        tables.append(found)
    checksum = hashlib.sha256(b"".join(path.read_bytes() for path in tables)).hexdigest()
    names, files, labels, splits = _tables(tables, packs() / f"celeba-tables-{checksum[:16]}.npz")
    read, stamps = _pictures(places, files)
    source = {"name": "celeba", "root": str(root), "tables": checksum}
    pictures = Pictures(files, read, stamp(stamps), source, TERMS)
    record = {"name": "celeba", "from": "folder", "files": len(files)}
    return Listing(pictures, labels, names, splits, record)


def _tables(
    paths: list[Path], stored: Path
) -> tuple[tuple[str, ...], list[str], np.ndarray, dict[str, slice]]:
    """What the two tables say; reading them takes seconds, so it is stored as arrays."""
    try:
        with stored.open("rb") as file, np.load(file) as arrays:
            names, files, labels, numbers = (arrays[key] for key in _STORED)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, or damaged
        names, files, labels = map(np.asarray, _attributes(paths[0]))
        numbers = _partition(paths[1], files.tolist())
        # Where it cannot be stored it is read again the next time.
        with contextlib.suppress(OSError), replacing(stored) as place, place.open("wb") as new:
            np.savez(new, names=names, files=files, labels=labels, splits=numbers)
    ends = np.searchsorted(numbers, range(len(_SPLITS)), side="right").tolist()
    splits = {
        split: slice(start, end)
        for split, start, end in zip(_SPLITS, [0, *ends], ends, strict=False)
        if start < end
    }
    return tuple(names.tolist()), files.tolist(), labels.astype(np.float32), splits


def _attributes(path: Path) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """The names (A,), the files (N,) and the labels (N, A) of list_attr_celeba.txt."""
    try:
        first, second, *lines = path.read_text(encoding="utf-8").splitlines()
        count, names = int(first), tuple(second.split())
    except ValueError as error:
        raise _NotThereError(
            f"{path} is damaged: it starts with a count and a line of names"
        ) from error
    lines = [line for line in lines if line.strip()]
    if len(lines) != count or not count:
        raise _NotThereError(f"{path} announces {count} rows and has {len(lines)}: it is cut short")
    files = [line.split(maxsplit=1)[0] for line in lines]
    try:
        labels = np.loadtxt(
            lines, np.int8, comments=None, usecols=range(1, len(names) + 1), ndmin=2
        )
    except ValueError as error:
        raise _NotThereError(f"{path} is damaged: {_first_line(error)}") from error
    if not np.isin(labels, (-1, 1)).all():
        raise _NotThereError(f"{path} is damaged: a value is neither -1 nor 1")
    return names, files, labels == 1


def _partition(path: Path, files: list[str]) -> np.ndarray:
    """The numbers of the splits, (N,), of list_eval_partition.txt."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if [line[0] for line in lines] != files:
        raise _NotThereError(
            f"{path} has {len(lines)} rows, and not the same files as list_attr_celeba.txt, which "
            f"has {len(files)}: one of them is cut short or altered"
        )
    numbers = [line[-1] for line in lines]
    if not set(numbers) <= {"0", "1", "2"} or numbers != sorted(numbers):
        raise _NotThereError(f"{path} is damaged: its numbers run from 0 (train) to 2 (test)")
    return np.array(numbers, np.int8)


def _pictures(
    places: list[Path], files: list[str]
) -> tuple[Callable[[int], Path | bytes], list[tuple[object, ...]]]:
    """How to read the picture of a row, and what is known of the files."""
    folder = next((p for place in places if (p := place / "img_align_celeba").is_dir()), None)
    if folder is not None:
        inner = folder / "img_align_celeba"  # some archives unpack into one folder more
        folder = inner if inner.is_dir() else folder
        known = set(os.listdir(folder))
        absent = [name for name in files if name not in known]
        if absent:
            raise _NotThereError(
                f"{folder} lacks {len(absent)} of {len(files)} pictures: {listed(absent)}"
            )
        # One in a hundred is looked at: looking at 200,000 would take longer than all the rest.
        seen = [(folder / name).stat() for name in files[::100]]
        stamps = [(status.st_size, status.st_mtime_ns) for status in seen]
        return (lambda row: folder / files[row]), [*stamps, ("/".join(files),)]
    archive = next((p for place in places if (p := place / "img_align_celeba.zip").is_file()), None)
    if archive is None:
        raise _NotThereError(
            f"there is neither img_align_celeba nor img_align_celeba.zip in {places[0]}"
        )
    if not zipfile.is_zipfile(archive):  # its directory stands at its end
        raise _NotThereError(f"{archive} is no whole zip: it is cut short or altered")
    status = archive.stat()
    return _in_zip(archive, files), [
        (status.st_size, status.st_mtime_ns),
        ("/".join(files),),
    ]


def _in_zip(archive: Path, files: list[str]) -> Callable[[int], bytes]:
    opened: list[zipfile.ZipFile] = []  # only when a picture is wanted: its directory is long
    one = threading.Lock()

    def read(row: int) -> bytes:
        with one:
            if not opened:
                opened.append(zipfile.ZipFile(archive))
        return opened[0].read(f"img_align_celeba/{files[row]}")

    return read


# --- A stand-in -----------------------------------------------------------------------------------

WIDTH, HEIGHT = 178, 218
"""Of CelebA's aligned pictures, in pixels."""

_SHARES = (0.8, 0.9)  # where the validation and the test split begin, as shares of all pictures
_AT_ONCE = 64


def draw(root: str | Path, count: int, seed: int = 0) -> Path:
    """Faces that are nobody's, in CelebA's own layout: a stand-in to try things without CelebA.

    ``load("celeba", root=...)`` reads it like the real one: JPEGs of 178 x 218 in
    ``img_align_celeba``, the two tables, 80, 10 and 10 in a hundred in the three splits. Its
    labels are the renderer's factors as far as those go: hair colours, hat, bangs, eyebrows,
    glasses, moustache, pale skin and the mouth; ``Narrow_Eyes`` the smaller half of the eyes and
    ``Chubby`` the wider half of the heads. All others (``Male``, ``Young``, ``Bags_Under_Eyes``,
    ...) are coins that no picture shows, so nothing can read or learn them. What is measured on
    this set says nothing of CelebA.

    Args:
        root: the folder, made if missing.
        count: how many faces, at least 10.
        seed: the same one draws the same faces.

    Returns:
        ``root``.

    Raises:
        ValueError: fewer than 10 faces are asked for.
        FileExistsError: the folder has CelebA's tables or pictures already.
    """
    if count < 10:
        raise ValueError(f"a stand-in for CelebA has at least 10 faces, not {count}")
    root = Path(root).expanduser()
    folder = root / "img_align_celeba"
    for name in (folder.name, *FILES[1:]):
        if (root / name).exists():
            raise FileExistsError(f"{root / name} is there already: name an empty folder")
    folder.mkdir(parents=True)
    chance = torch.Generator().manual_seed(seed)
    factors = faces.sample_factors(count, chance)
    # Smaller than the renderer draws it, so that the paper's crop of 138 holds the whole head.
    factors = factors.replace(scale=0.8 * factors.scale)
    labels = torch.rand(count, len(ATTRIBUTES), generator=chance) < 0.5  # (N, 40)
    for name in set(ATTRIBUTES) & set(faces.ATTRIBUTES):
        labels[:, ATTRIBUTES.index(name)] = factors.labels([name])[:, 0] > 0.5
    for name, known in {
        "Brown_Hair": factors.labels(faces.HAIR_COLOURS).sum(dim=1) == 0,
        "Narrow_Eyes": factors.eye_size < factors.eye_size.median(),
        "Chubby": factors.head_width > factors.head_width.median(),
    }.items():
        labels[:, ATTRIBUTES.index(name)] = known
    files = [f"{row + 1:06d}.jpg" for row in range(count)]
    left = (HEIGHT - WIDTH) // 2
    for start in tqdm(range(0, count, _AT_ONCE), desc="drawing faces", unit="64 faces", delay=20):
        rows = slice(start, start + _AT_ONCE)
        drawn = (faces.render(factors[rows], HEIGHT) * 255).round().byte()  # (B, 3, 218, 218)
        for file, face in zip(files[rows], drawn[:, :, :, left : left + WIDTH], strict=True):
            Image.fromarray(face.permute(1, 2, 0).numpy()).save(folder / file, quality=90)
    lines = [f"{f} " + " ".join(f"{2 * int(v) - 1:2d}" for v in row)
             for f, row in zip(files, labels, strict=True)]  # fmt: skip
    table = "\n".join([str(count), " ".join(ATTRIBUTES), *lines, ""])
    (root / FILES[1]).write_text(table, encoding="utf-8")
    splits = [sum(row >= share * count for share in _SHARES) for row in range(count)]
    parts = [f"{file} {split}\n" for file, split in zip(files, splits, strict=True)]
    (root / FILES[2]).write_text("".join(parts), encoding="utf-8")
    return root


# --- From elsewhere -------------------------------------------------------------------------------


def _hugging_face(root: Path, packs: Callable[[], Path]) -> Listing:
    try:
        import datasets
    except ImportError as error:
        raise _NotThereError(
            "the package datasets is not installed: pip install datasets, or "
            '"lscgan[data]" for all that own data may need'
        ) from error
    try:
        sets = datasets.load_dataset("flwrlabs/celeba")
        parts = [sets[name] for name in ("train", "valid", "test")]
        names = tuple(n for n in parts[0].column_names if n not in ("image", "celeb_id"))
        labels = np.concatenate(
            [
                # [:] reads a column at once; without it each value is asked for alone.
                np.stack([np.asarray(part[n][:], np.float32) for n in names], axis=1)
                for part in parts
            ]
        )
        raw = [  # the picture alone: with 40 labels a row takes six times as long
            part.select_columns("image").cast_column("image", datasets.Image(decode=False))
            for part in parts
        ]
    except Exception as error:  # no network, no room, another layout: each has its own exception
        raise _NotThereError(f"flwrlabs/celeba: {_first_line(error)}") from error
    splits = runs([s for s, part in zip(_SPLITS, parts, strict=True) for _ in range(len(part))])
    starts = [splits[s].start for s in _SPLITS]

    def read(row: int) -> bytes:
        part = max(i for i, start in enumerate(starts) if start <= row)
        return raw[part][row - starts[part]]["image"]["bytes"]

    known = [(getattr(part, "_fingerprint", ""), len(part)) for part in parts]
    pictures = Pictures(
        [f"{s}/{i}" for s in _SPLITS for i in range(splits[s].stop - splits[s].start)],
        read,
        stamp(known),
        {"name": "celeba", "data set": "flwrlabs/celeba"},
        TERMS,
    )
    record = {"name": "celeba", "from": "huggingface", "files": len(labels)}
    return Listing(pictures, labels, names, splits, record)


def _torchvision(root: Path, packs: Callable[[], Path]) -> Listing:
    from torchvision import datasets

    try:
        root.mkdir(parents=True, exist_ok=True)
        datasets.CelebA(str(root), split="all", download=True)
    except Exception as error:  # no gdown, no network, a quota, half a zip: each has its own
        raise _NotThereError(
            f"its download from Google Drive, into {root / 'celeba'}: {_first_line(error)}"
        ) from error
    return _local(root, packs)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


_SOURCES: dict[str, Callable[[Path, Callable[[], Path]], Listing]] = {
    "folder": _local,
    "huggingface": _hugging_face,
    "torchvision": _torchvision,
}
