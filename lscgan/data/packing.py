"""Packing: pictures of any kind become one array of bytes in a file, which opens in no time.

The first load decodes, crops and resizes every picture and writes the result, (N, 3, S, S) uint8,
as one .npy file; later loads map that file into memory. Beside it lies a manifest (.json) of where
the pictures came from. A pack's name holds a fingerprint of its source, so a changed source finds
no pack; a file that is being written has another name, so half a pack is never found either.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import math
import os
import shutil
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import simplejpeg
import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from lscgan import __version__
from lscgan.files import replacing

PREPARATION = 2
"""Raised whenever what is made of a picture changes, so that packs are made anew."""

SPARE = 64 * 2**20
"""Bytes that packing leaves free on the disk."""

_BLOCK = 64  # pictures that a thread reads at a time ...
_BLOCK_BYTES = 8 * 2**20  # ... or fewer, so that large ones stay within memory
_TURNED = (b"Exif\x00\x00", b"tiff:Orientation")  # where a camera says how it was held
_NAMED = 8  # files that a message names before it counts the rest
_PAUSES = (0.2, 1.0, 3.0)  # seconds before a file that could not be read is tried again


class _UnreadError(Exception):
    """The bytes of a file could not be had, which says nothing about the picture in it."""


@dataclass(frozen=True)
class Pictures:
    """N picture files, not yet read.

    Args:
        names: of the files, in the order of the pack; messages use them.
        read: gives the path, or the content, of the file of a number from 0 to N - 1. Several
            threads call it at once.
        stamp: a text that changes when any of the files does.
        source: where they come from, for the manifest.
        terms: a note on their licence, shown when they are packed.
    """

    names: Sequence[str]
    read: Callable[[int], Path | bytes]
    stamp: str
    source: dict[str, Any] = field(default_factory=dict)
    terms: str = ""


def pack(
    pictures: Pictures,
    folder: Path,
    name: str,
    size: int = 64,
    crop: int | None = None,
    workers: int | None = None,
) -> Tensor:
    """The pictures, prepared, as one tensor that lies in a file: written once, mapped afterwards.

    A killed or interrupted call goes on where it stopped when it is given again, and so does one
    that a disk or a connection failed. Packs of the same name whose source has changed since are
    removed when the new one is whole. Threads do the work, because decoding releases Python's
    lock.

    Args:
        folder: where packs lie; it exists.
        name: the pack's, for people.
        size: side of the pictures made, in pixels.
        crop: side of the centred square that is cut out first, in pixels of the original; None
            takes the largest.
        workers: threads; by default twice as many as cores, since a slow disk keeps half waiting.

    Returns:
        uint8, (N, 3, size, size), memory-mapped. Writing into it changes no file.

    Raises:
        ValueError: a picture is damaged or smaller than ``crop``; all such are named, up to a few.
            Or a size is out of its range.
        OSError: the disk is too small, which is checked first, or cannot be written; or a file
            cannot be read, tried several times.
    """
    for what, value in (("size", size), ("crop", size if crop is None else crop)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{what} is a whole number of pixels, at least 1, not {value!r}")
    if not pictures.names:
        raise ValueError(f"there is no picture to pack for {name}")
    name = f"{name}-{size}" + ("" if crop is None else f"-from-{crop}")
    made_from = {"preparation": PREPARATION, "stamp": pictures.stamp, "size": size, "crop": crop}
    path = folder / f"{name}-{_checksum(json.dumps(made_from, sort_keys=True))[:16]}.npy"
    shape = (len(pictures.names), 3, size, size)
    if not _whole(path, shape):
        manifest = {
            "source": pictures.source,
            **made_from,
            "shape": list(shape),
            "first": list(pictures.names[:3]),
            "lscgan": __version__,
            "pillow": PIL.__version__,
            **({"terms": pictures.terms} if pictures.terms else {}),
        }
        _write(path, shape, pictures, crop, name, manifest, workers or 2 * cores())
    return _mapped(path)


def _write(
    path: Path,
    shape: tuple[int, ...],
    pictures: Pictures,
    crop: int | None,
    name: str,
    manifest: dict[str, Any],
    workers: int,
) -> None:
    part = path.with_suffix(".part")
    older = _others(path, name, ".npy")
    for stale in _others(path, name, ".part"):
        _remove(stale)
    header, each = _header(shape), math.prod(shape[1:])
    # Pictures are written in order, so the length says how many are there. Two processes that
    # pack the same pictures write the same bytes to the same places.
    done = max(part.stat().st_size - len(header), 0) // each if part.is_file() else 0
    _check_room(path.parent, (shape[0] - done) * each, shape, older)
    before = max(((old.stat().st_size - len(header)) // each for old in older), default=0)
    if shape[0] < before:
        print(
            f"There are {shape[0]:,} pictures for {name}, where there were {before:,}: if some "
            "should not be missing, interrupt this and look for them. The old pack is kept until "
            "the new one is whole."
        )
    if pictures.terms:
        print(pictures.terms)

    def squares(rows: range, faults: list[str]) -> Iterator[tuple[int, np.ndarray]]:
        for place, row in enumerate(rows):
            try:
                yield place, centred(decoded(_content(pictures, row)), crop)
            except _UnreadError:
                raise
            except Exception as error:  # a broken file can raise nearly anything in its decoder
                faults.append(f"{pictures.names[row]} ({_reason(error)})")

    def block(rows: range) -> tuple[np.ndarray, list[str]]:
        made, faults = np.zeros((len(rows), *shape[1:]), np.uint8), list[str]()
        for places, together in _of_one_side(squares(rows, faults)):
            made[places] = resized(together, shape[2])
        return made, faults

    step = max(1, min(_BLOCK, _BLOCK_BYTES // each))
    blocks = iter([range(i, min(i + step, shape[0])) for i in range(done, shape[0], step)])
    faults: list[str] = []
    try:
        part.touch()
        with (
            part.open("r+b") as file,
            ThreadPoolExecutor(workers) as pool,
            tqdm(total=shape[0], initial=done, unit="image", desc=f"packing {name}") as bar,
        ):
            file.write(header)
            file.seek(len(header) + done * each)
            # Only so many blocks are under way: this bounds the memory, whatever the disk does.
            first = itertools.islice(blocks, 2 * workers)
            ahead = deque(pool.submit(block, rows) for rows in first)
            while ahead:
                made, wrong = ahead.popleft().result()
                ahead.extend(pool.submit(block, rows) for rows in itertools.islice(blocks, 1))
                faults += wrong
                if not faults:  # else the rest is only looked at, to name all that is wrong
                    file.write(made.data)
                bar.update(len(made))
            file.flush()
            os.fsync(file.fileno())
        if not faults:
            with replacing(path.with_suffix(".json")) as temporary:
                temporary.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
            _take_place(part, path, shape)
    except _UnreadError as error:
        raise OSError(
            f"{error}, tried {len(_PAUSES) + 1} times: see that it is there and can be read; what "
            "is packed so far is kept, and the next call goes on from there"
        ) from error
    except OSError as error:
        part.unlink(missing_ok=True)  # a full disk is not left full
        if error.errno is None:  # `replacing` has said it already
            raise
        raise OSError(f"cannot write {part}: {error.strerror}; nothing of it is kept") from error
    if faults:
        part.unlink(missing_ok=True)
        raise ValueError(
            f"{len(faults)} of {shape[0]} pictures cannot be used: {listed(faults)}; repair or "
            "remove them, with their rows in the table"
        )
    for old in (*older, *_others(path, name, ".json")):
        _remove(old)


def _of_one_side(
    squares: Iterable[tuple[int, np.ndarray]],
) -> Iterator[tuple[list[int], np.ndarray]]:
    """Squares (S, S, 3) with their places, stacked while S stays the same and they are not large.

    To resize many at once is several times as fast as one by one.
    """
    places: list[int] = []
    kept: list[np.ndarray] = []
    for place, square in squares:
        full = (len(kept) + 1) * square.nbytes > _BLOCK_BYTES
        if kept and (full or square.shape != kept[0].shape):
            yield places, np.stack(kept)
            places, kept = [], []
        places.append(place)
        kept.append(square.copy())  # a view would hold the rest of its picture
    if kept:
        yield places, np.stack(kept)


def _content(pictures: Pictures, row: int) -> bytes:
    """The bytes of one file. A mounted drive fails for a moment now and then: it is asked again.

    Raises:
        _UnreadError: they cannot be read.
    """
    pauses = iter(_PAUSES)
    while True:
        try:
            found = pictures.read(row)
            # At once: the decoder asks a file for its bytes in many small pieces.
            return found if isinstance(found, bytes) else found.read_bytes()
        except OSError as error:
            pause = next(pauses, None)
            if pause is None:
                reason = error.strerror or _reason(error)
                raise _UnreadError(f"{pictures.names[row]} cannot be read ({reason})") from error
            time.sleep(pause)


def _take_place(part: Path, path: Path, shape: tuple[int, ...]) -> None:
    try:
        os.replace(part, path)
    except FileNotFoundError:
        if not _whole(path, shape):  # else another process was as far, and did it first
            raise


def _check_room(folder: Path, needed: int, shape: tuple[int, ...], older: list[Path]) -> None:
    free = shutil.disk_usage(folder).free
    if needed + SPARE > free:
        names = listed(old.name for old in older)
        spare = f"; {names} there, packed before the pictures changed, may go" if older else ""
        raise OSError(
            f"packing {shape[0]:,} pictures of {shape[2]} x {shape[3]} needs {needed / 2**20:,.0f} "
            f"MiB in {folder}, where {free / 2**20:,.0f} MiB are free: free some, or name a folder "
            f"on another disk with cache=...{spare}",
        )


def _others(path: Path, name: str, ending: str) -> list[Path]:
    """Files of this name from before the source changed: nothing will ask for them again."""
    return [
        old
        for old in path.parent.glob(f"{name}-*{ending}")
        if len(old.stem.removeprefix(f"{name}-")) == 16 and old.stem != path.stem
    ]


def _remove(old: Path) -> None:
    with contextlib.suppress(OSError):  # Windows keeps files that are mapped
        old.unlink()


# --- One picture ----------------------------------------------------------------------------------


def decoded(content: bytes) -> np.ndarray:
    """The picture that a file holds, as one sees it: uint8, (H, W, 3).

    JPEGs that no camera has marked, as CelebA's and most of a data set's are, go a short way,
    through libjpeg-turbo and nothing else; it gives the same pixels as Pillow.

    Raises:
        ValueError, OSError: there is no picture in it, or its pixels have no known range.
    """
    if content.startswith(b"\xff\xd8") and not any(mark in content for mark in _TURNED):
        with contextlib.suppress(ValueError):  # what is wrong with it, Pillow says
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
            if colours in ("YCbCr", "Gray") and height * width <= (Image.MAX_IMAGE_PIXELS or 0):
                return simplejpeg.decode_jpeg(content)
    with Image.open(io.BytesIO(content)) as picture:
        return upright(picture)


def upright(picture: Image.Image) -> np.ndarray:
    """An opened picture as one sees it: uint8, (H, W, 3).

    Pictures that a camera stored turned (EXIF) are turned back, transparent ones lie on white,
    16 bits become 8, grey and CMYK become RGB.

    Args:
        picture: it is turned in place.

    Raises:
        ValueError: its pixels have no known range.
    """
    ImageOps.exif_transpose(picture, in_place=True)  # by default it copies what is upright
    return np.asarray(_in_colour(picture))


def centred(picture: np.ndarray, crop: int | None = None) -> np.ndarray:
    """The square in the middle, where torchvision's ``CenterCrop`` cuts it: a view.

    Args:
        picture: (H, W, 3).
        crop: side of the square, in pixels; None takes the largest.

    Returns:
        (crop, crop, 3).

    Raises:
        ValueError: the picture is smaller than ``crop``.
    """
    height, width = picture.shape[:2]
    side = min(width, height) if crop is None else crop
    if side > min(width, height):
        raise ValueError(f"{width} x {height} pixels, smaller than crop={crop}")
    left, top = round((width - side) / 2), round((height - side) / 2)
    return picture[top : top + side, left : left + side]


def resized(squares: np.ndarray, size: int) -> np.ndarray:
    """Squares at the size that the models want, bilinear with antialiasing.

    The same as torchvision's ``Resize`` of tensors; Pillow's rounds one value in some hundreds
    to the next step.

    Args:
        squares: uint8, (B, S, S, 3).
        size: side of the result, in pixels.

    Returns:
        uint8, (B, 3, size, size).
    """
    before = torch.from_numpy(squares).permute(0, 3, 1, 2)  # (B, 3, S, S), its channels last
    after = torch.nn.functional.interpolate(
        before, size=(size, size), mode="bilinear", antialias=True
    )
    return after.numpy()


def _in_colour(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits, or 32 that a decoder gives for 16
        values = np.asarray(picture, dtype=np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("32 bits a pixel, whose range is not known: store 8 or 16")
        return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        raise ValueError("pixels are real numbers, whose range is not known: store 8 or 16 bits")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        over = picture.convert("RGBA")
        white = Image.new("RGBA", over.size, "white")
        return Image.alpha_composite(white, over).convert("RGB")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


# --- Files ----------------------------------------------------------------------------------------


def cache() -> Path:
    """The folder ``LSCGAN_DATA`` names, or ``~/.cache/lscgan``."""
    return Path(os.environ.get("LSCGAN_DATA", Path.home() / ".cache" / "lscgan"))


def pack_folder(root: Path, chosen: str | Path | None = None) -> Path:
    """Where the packs of a data set in ``root`` lie; made if missing.

    The folder ``chosen``; without one ``root/.lscgan``, or where that cannot be written a folder
    in `cache`.

    Raises:
        OSError: none of them can be written.
    """
    if chosen is not None:
        return _writable(Path(chosen))
    try:
        return _writable(root / ".lscgan")
    except OSError:
        return _writable(cache() / "packs" / _checksum(str(root.resolve()))[:16])


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        return folder


def listed(names: Iterable[str]) -> str:
    """The first few of some names, and how many more there are."""
    names = list(names)
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def stamp(files: Iterable[tuple[object, ...]]) -> str:
    """A checksum of what is known of each file: its name, size, time."""
    return _checksum("\n".join(map(repr, files)))


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _header(shape: tuple[int, ...]) -> bytes:
    start = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        start, {"descr": "|u1", "fortran_order": False, "shape": shape}
    )
    return start.getvalue()


def _whole(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether the pack is there in its full length: a copy of it may have been cut short."""
    return path.is_file() and path.stat().st_size == len(_header(shape)) + math.prod(shape)


def _mapped(path: Path) -> Tensor:
    try:
        # Copy on write: torch gets an array that it may write to, and the file stays as it is.
        array = np.load(path, mmap_mode="c")
    except OSError:  # the system promises no memory for so large a copy
        array = np.load(path, mmap_mode="r")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


def cores() -> int:
    """The processor cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1


def _reason(error: Exception) -> str:
    if isinstance(error, PIL.UnidentifiedImageError):
        return "no picture that Pillow knows"
    return (str(error).strip() or type(error).__name__).splitlines()[0][:120]
