"""Your own pictures and CelebA: tables, packing, and what `describe` says of them."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import datasets as hugging_face
import numpy as np
import pandas
import pyarrow
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from pyarrow import parquet
from torchvision import datasets
from torchvision.transforms import v2 as transforms

import lscgan
from lscgan import data
from lscgan.data import LabelledImages, celeba, faces, folder, packing
from lscgan.latent import LatentDesign
from lscgan.models import LSCVAE
from lscgan.training import TrainingSettings, train


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No network, and a cache of its own."""

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise OSError("there is no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setenv("LSCGAN_DATA", str(tmp_path_factory.mktemp("cache")))


def plain(path: Path, value: int, side: int = 8) -> None:
    """A picture of one grey: its value says which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (value, value, value)).save(path)


def own(root: Path, count: int = 20, table: str | None = None) -> list[str]:
    """``count`` pictures, the i-th of grey i, and a table of them; their names."""
    names = [f"{i:03d}.png" for i in range(count)]
    for i, name in enumerate(names):
        plain(root / name, i)
    lines = [f"{name},{i % 2},{i}" for i, name in enumerate(names)]
    (root / "labels.csv").write_text(table or "\n".join(["file,odd,number", *lines]))
    return names


def load_all(root: Path, **options: Any) -> dict[str, LabelledImages]:
    """The splits that are not empty."""
    splits = {}
    for split in ("train", "validation", "test"):
        with contextlib.suppress(ValueError):
            splits[split] = data.load("folder", split, root=root, size=8, **options)
    return splits


def packs(root: Path) -> list[str]:
    return sorted(path.name for path in (root / ".lscgan").iterdir())


# --- A folder and a table -------------------------------------------------------------------------


def test_each_picture_is_in_one_split_with_its_own_labels(tmp_path: Path) -> None:
    names = own(tmp_path, 60)
    splits = load_all(tmp_path)
    assert list(splits) == ["train", "validation", "test"]
    numbers = []
    for split, loaded in splits.items():
        assert loaded.names == ("odd", "number")
        assert loaded.images.shape == (len(loaded), 3, 8, 8)
        number = loaded.column("number")
        assert torch.equal(loaded.images.float().mean(dim=(1, 2, 3)), number)  # grey i is row i
        assert torch.equal(loaded.column("odd"), number % 2)
        assert [folder.split_of(names[int(i)]) for i in number] == [split] * len(loaded)
        assert loaded.source["split"] == split
        assert str(tmp_path) not in json.dumps(loaded.source)  # a record names no path
        numbers += number.tolist()
    assert sorted(numbers) == list(range(60))


def test_names_are_dealt_out_for_ever_as_the_shares_say() -> None:
    names = [f"{i:06d}.jpg" for i in range(20_000)]
    dealt = [folder.split_of(name) for name in names]
    for split, share in folder.SHARES.items():  # within four standard deviations
        assert abs(dealt.count(split) / 20_000 - share) < 4 * math.sqrt(share / 20_000)
    # sha256("0/NAME"), worked out by another program: a change would mix training and test.
    assert dealt[:10] == FIRST_TEN


FIRST_TEN = ["train", "train", "test", "train", "test", *["train"] * 5]


def test_every_way_to_write_a_label(tmp_path: Path) -> None:
    own(
        tmp_path,
        6,
        "file;split;sign;word;truth;amount;some\r\n"
        "000.png;train;-1;yes;True;-2.5;1\r\n"
        "001.png;train;1;no;false;1e3;\r\n"
        "002.png;Val;-1;YES;TRUE;0;0\r\n"
        "./003.png;valid;;No; false ;-1;NaN\r\n"
        "\r\n"
        "004.png;test;1;;true;1;1\r\n"
        '"005.png";testing;1;no;false;7;\r\n',
    )
    splits = load_all(tmp_path)
    nan = float("nan")
    expected = {
        "train": [[0, 1, 1, -2.5, 1], [1, 0, 0, 1000, nan]],
        "validation": [[0, 1, 1, 0, 0], [nan, 0, 0, -1, nan]],
        "test": [[1, nan, 1, 1, 1], [1, 0, 0, 7, nan]],
    }
    for split, rows in expected.items():
        assert splits[split].names == ("sign", "word", "truth", "amount", "some")
        np.testing.assert_array_equal(splits[split].labels.numpy(), np.array(rows, np.float32))
    assert splits["train"].labelled.tolist() == [True, False]  # blanks: semi-supervised
    chosen = data.load("folder", root=tmp_path, size=8, attributes=["amount", "sign"])
    np.testing.assert_array_equal(chosen.labels.numpy(), [[-2.5, 0], [1000, 1]])


cells = st.sampled_from(["0", "1", "-1", "true", "False", "yes", "NO", "", " ", "nan", "2.5", "-3"])
MEANING: dict[str, float] = {
    "true": 1,
    "False": 0,
    "yes": 1,
    "NO": 0,
    "": math.nan,
    " ": math.nan,
    "nan": math.nan,
}


@given(st.data())
def test_any_table_means_what_its_cells_say(draw: st.DataObject) -> None:
    """Against a reading of each cell by hand."""
    width = draw.draw(st.integers(1, 4))
    rows = draw.draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=2))
    names = [f"sub/{i}.png" for i in range(len(rows))]
    table = "\n".join(
        [",".join(["file", *(f"a{i}" for i in range(width))])]
        + [",".join([name, *row]) for name, row in zip(names, rows, strict=True)]
    )
    values = np.array(
        [[MEANING[c] if c in MEANING else float(c) for c in row] for row in rows], np.float32
    )
    sets = [set(column[~np.isnan(column)].tolist()) for column in values.T]
    for column, known in zip(values.T, sets, strict=True):
        if known == {-1, 1}:
            column[column == -1] = 0
    path = Path(os.environ["LSCGAN_DATA"]) / "table.csv"
    path.write_text(table)
    files = dict.fromkeys(names, (1, 1))
    if min(map(len, sets)) < 2:
        with pytest.raises(ValueError, match=r"never varies|has no value"):
            folder._labelled(files, path.parent, path, None)
    else:
        found = folder._labelled(files, path.parent, path, None)
        assert found.files == names
        np.testing.assert_array_equal(found.labels, values)


def test_sub_folders_are_classes_and_may_lie_in_splits(tmp_path: Path) -> None:
    plain(tmp_path / "one" / "deep" / "x.png", 10)
    for i in range(30):
        plain(tmp_path / "one" / f"{i}.png", 10)
        plain(tmp_path / "two" / f"{i}.JPEG", 20)
    (tmp_path / "two" / "notes.txt").write_text("no picture")
    loaded = data.load("folder", root=tmp_path, size=8)
    assert loaded.names == ("class",)
    assert loaded.source["classes"] == ["one", "two"]
    grey = loaded.images.float().mean(dim=(1, 2, 3))
    assert torch.equal(loaded.column("class"), (grey > 15).float())
    assert set(loaded.column("class").tolist()) == {0, 1}

    for split, count in (("train", 3), ("val", 2)):
        for i in range(count):
            plain(tmp_path / "in_splits" / split / "a" / f"{i}.png", 1)
            plain(tmp_path / "in_splits" / split / "b" / f"{i}.png", 2)
    assert {n: len(s) for n, s in load_all(tmp_path / "in_splits").items()} == {
        "train": 6,
        "validation": 4,
    }


def table(text: str, count: int = 3) -> Callable[[Path], object]:
    """Loads ``count`` pictures with that table."""

    def call(root: Path) -> object:
        own(root, count, text)
        return data.load("folder", root=root, size=8)

    return call


def tree(*names: str, **options: Any) -> Callable[[Path], object]:
    def call(root: Path) -> object:
        for name in names:
            plain(root / name, 1)
        return data.load("folder", root=root, size=8, **options)

    return call


GOOD = "000.png,1\n001.png,0\n"


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda root: data.load("folder"), "name the folder of your pictures with root=..."),
        (lambda root: data.load("folder", root=root / "no"), "there is no folder "),
        (tree("a.png"), "has neither a table (labels.csv, or name it with table=...) nor sub-fold"),
        (tree(), "has neither a table"),
        (tree("x/a.png", "y/b.png", table="l.csv"), "there is no table "),
        (tree("x/a.png", "y/b.png", "c.png"), "1 pictures are in no class's folder: c.png"),
        (tree("x/a.png"), "has one class alone, 'x': there is nothing to tell"),
        (tree("x/a.png", "y/b.png", attributes=["hat"]), "attributes=['hat'] needs a table"),
        (table("file,hat\n" + GOOD), "1 pictures have no row in "),
        (table("file,hat\n" + GOOD + GOOD), "has several rows for 000.png, 001.png: keep one of"),
        (
            table("file,hat\n" + GOOD + "002.png,maybe\n"),
            "the attribute 'hat' is a number, true or false, yes or no, or blank, not 'maybe' of "
            "002.png",
        ),
        (table("file,hat\n" + GOOD + "002.png,inf\n"), "or blank, not 'inf' of 002.png"),
        (
            table("file,hat\n000.png,1\n001.png,\n002.png,yes\n"),
            "the attribute 'hat' never varies, it is 1 wherever it is known: leave it out, with "
            "attributes=[...]",
        ),
        (table("file,hat\n000.png,\n001.png,\n002.png,\n"), "'hat' has no value: leave it out"),
        (
            table("file,hat\n" + GOOD + "003.png,0\n"),
            "names 1 files, in its first column 'file', that are not in ",
        ),
        (table("file,hat\n" + GOOD + "002.png,0,1\n"), "row 4 has 3 cells, the first line names 2"),
        (table("file,hat,hat\n"), "has several columns named 'hat'"),
        (table("file,hat\n"), "has no row"),
        (table("\n"), "is empty: its first line names the columns"),
        (table("file\n000.png\n001.png\n002.png\n"), "has no attribute: each column after the"),
        (
            table("file,hat,split\n000.png,1,train\n001.png,0,dev\n002.png,0,\n"),
            "the column 'split' says train, validation or test, not '', 'dev'",
        ),
        (
            table("file,hat,split\n000.png,1,test\n001.png,0,test\n002.png,0,test\n"),
            "no picture is in the split 'train': there are test; a column named split",
        ),
        (table('file,hat\n000.png,"1\n'), "is no CSV table in UTF-8"),
    ],
)
def test_a_wrong_folder_gets_one_clear_sentence(
    tmp_path: Path, call: Callable[[Path], object], sentence: str
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(sentence)) as raised:
        call(tmp_path)
    assert "\n" not in str(raised.value)


def test_links_that_lead_nowhere_are_named_together(tmp_path: Path) -> None:
    own(tmp_path / "photos", 12)
    (tmp_path / "more").mkdir()
    plain(tmp_path / "more" / "a.png", 3)
    (tmp_path / "photos" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "photos" / "self.png").symlink_to("self.png")
    (tmp_path / "photos" / "again").symlink_to(tmp_path / "photos")
    (tmp_path / "photos" / "more").symlink_to(tmp_path / "more")  # this one is as good as a folder
    (tmp_path / "more" / "back").symlink_to(tmp_path / "more")
    with pytest.raises(ValueError, match=r"4 files in .*photos cannot be read: ") as raised:
        data.load("folder", root=tmp_path / "photos", size=8)
    said = str(raised.value)
    for name, why in (
        ("again", "a link back to a folder that it lies in"),
        ("gone.png", "a link to nothing"),
        ("more/back", "a link back to a folder that it lies in"),
        ("self.png", os.strerror(errno.ELOOP)),
    ):
        assert f"{name} ({why})" in said
    assert "more/a.png" not in said


def test_files_that_a_table_elsewhere_names_are_looked_for_in_the_root(tmp_path: Path) -> None:
    own(tmp_path / "photos", 12)
    table = tmp_path / "tables" / "mine.csv"
    table.parent.mkdir()
    shutil.move(tmp_path / "photos" / "labels.csv", table)
    loaded = data.load("folder", root=tmp_path / "photos", table=table, size=8)
    assert torch.equal(loaded.images.float().mean(dim=(1, 2, 3)), loaded.column("number"))
    table.write_text(table.read_text().replace("003.png", "300.png"))
    with pytest.raises(ValueError, match=r"names 1 files, .* not in \S*photos: 300.png"):
        data.load("folder", root=tmp_path / "photos", table=table, size=8)


def test_a_column_may_have_any_name_that_a_design_takes(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rows = [f"{i:03d}.png,{i % 2},{i % 3 % 2},{i % 5 % 2}" for i in range(12)]
    own(tmp_path / "photos", 12, "\n".join(["file,count,self,z", *rows]))
    names = data.load("folder", root=tmp_path / "photos", size=8).names
    design = LatentDesign.lsc(names, 2, size=8)
    asked = dict(zip(names, (1.0, 0.5, 0.25), strict=True))
    assert design.labels(3, **asked).tolist() == [[1.0, 0.5, 0.25]] * 3
    still = torch.zeros(3, 8)
    assert torch.equal(design.shift(still, **asked), design.mean(design.labels(3, **asked)))


def test_a_table_in_another_encoding_and_one_of_spreadsheets_own(tmp_path: Path) -> None:
    own(tmp_path, 3)
    (tmp_path / "labels.csv").write_bytes("file,größe\n".encode("latin-1"))
    with pytest.raises(ValueError, match="is no CSV table in UTF-8"):
        data.load("folder", root=tmp_path)
    (tmp_path / "labels.csv").write_bytes(
        b"\xef\xbb\xbffile,hat\n000.png,1\n001.png,0\n002.png,0\n"
    )
    assert load_all(tmp_path)["train"].names == ("hat",)


def test_parquet_needs_a_package_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path, 3)
    (tmp_path / "labels.csv").rename(tmp_path / "labels.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ImportError, match=r"pip install pyarrow, or \"lscgan\[data\]\" for all"
    ) as e:
        data.load("folder", root=tmp_path)
    assert str(e.value).endswith("or save the table as CSV")


def test_a_parquet_table_is_read_as_a_csv_is(tmp_path: Path) -> None:
    names = own(tmp_path, 6)
    frame = pandas.DataFrame(
        {
            "file": names,
            "truth": pandas.array([True, None, False, True, False, False], dtype="boolean"),
            "sign": np.array([-1, 1, 1, -1, 1, -1], np.int8),
            "amount": np.array([0.5, np.nan, -2.25, 0, 3, 1], np.float32),
            "word": ["yes", "no", None, "yes", "no", "no"],
            "split": pandas.Categorical(["train", "val", "train", "test", "train", "train"]),
        }
    )
    frame.to_parquet(tmp_path / "labels.parquet")
    frame.to_csv(tmp_path / "labels.csv", index=False)
    by_csv = load_all(tmp_path)
    (tmp_path / "labels.csv").unlink()
    by_parquet = load_all(tmp_path)
    nan = float("nan")
    np.testing.assert_array_equal(
        by_parquet["train"].labels.numpy(),
        [[1, 0, 0.5, 1], [0, 1, -2.25, nan], [0, 1, 3, 0], [0, 0, 1, 0]],
    )
    for split, loaded in by_csv.items():
        np.testing.assert_array_equal(by_parquet[split].labels.numpy(), loaded.labels.numpy())
        assert torch.equal(by_parquet[split].images, loaded.images)


@pytest.mark.parametrize("index", ["file", None])
def test_file_names_in_a_frames_index_come_first(tmp_path: Path, index: str | None) -> None:
    names = own(tmp_path, 4)
    (tmp_path / "labels.csv").unlink()
    frame = pandas.DataFrame(
        {"odd": [0, 1, 0, 1], "split": "train"}, index=pandas.Index(names, name=index)
    )
    frame.to_parquet(tmp_path / "labels.parquet")
    loaded = data.load("folder", root=tmp_path, size=8)
    assert loaded.names == ("odd",)
    assert loaded.labels[:, 0].tolist() == [0, 1, 0, 1]


def test_row_numbers_that_pandas_keeps_are_no_label(tmp_path: Path) -> None:
    names = own(tmp_path, 4)
    (tmp_path / "labels.csv").unlink()
    frame = pandas.DataFrame({"file": names, "odd": [0, 1, 0, 1], "split": "train"})
    frame.iloc[[3, 0, 2, 1]].to_parquet(tmp_path / "labels.parquet")  # its index is 3, 0, 2, 1
    assert pandas.read_parquet(tmp_path / "labels.parquet").index.tolist() == [3, 0, 2, 1]
    loaded = data.load("folder", root=tmp_path, size=8)
    assert loaded.names == ("odd",)
    assert loaded.labels[:, 0].tolist() == [0, 1, 0, 1]


def broken_parquet(path: Path) -> None:
    path.write_bytes(b"PAR1 and no more")


def cut_parquet(path: Path) -> None:
    pandas.DataFrame({"file": ["000.png"], "a": [1]}).to_parquet(path)
    path.write_bytes(path.read_bytes()[:-30])


def doubled_parquet(path: Path) -> None:
    columns = [pyarrow.array(["000.png"]), pyarrow.array([1]), pyarrow.array([2])]
    parquet.write_table(pyarrow.table(columns, names=["file", "a", "a"]), path)


def empty_parquet(path: Path) -> None:
    parquet.write_table(pyarrow.table({}), path)


def rowless_parquet(path: Path) -> None:
    pandas.DataFrame({"file": [], "a": []}).to_parquet(path)


@pytest.mark.parametrize(
    ("write", "sentence"),
    [
        (broken_parquet, "is no Parquet table, or a damaged one: "),
        (cut_parquet, "is no Parquet table, or a damaged one: "),
        (doubled_parquet, "is no Parquet table, or a damaged one: Multiple matches"),
        (empty_parquet, "is empty: it has no column"),
        (rowless_parquet, "has no row"),
    ],
)
def test_a_wrong_parquet_table_gets_one_clear_sentence(
    tmp_path: Path, write: Callable[[Path], None], sentence: str
) -> None:
    own(tmp_path, 3)
    (tmp_path / "labels.csv").unlink()
    write(tmp_path / "labels.parquet")
    with pytest.raises(ValueError, match=re.escape(sentence)) as raised:
        data.load("folder", root=tmp_path)
    assert "\n" not in str(raised.value)


@given(st.data())
def test_any_frame_means_the_same_as_csv_and_as_parquet(draw: st.DataObject) -> None:
    count = draw.draw(st.integers(2, 8))
    kinds: list[tuple[str, st.SearchStrategy[Any]]] = [
        ("boolean", st.sampled_from([True, False, None])),
        ("Int8", st.one_of(st.none(), st.integers(-3, 3))),
        ("float32", st.one_of(st.just(nan), st.floats(-1e3, 1e3, width=32))),
    ]
    names = [f"{i}.png" for i in range(count)]
    frame = pandas.DataFrame({"file": names})
    for number in range(draw.draw(st.integers(1, 4))):
        kind, values = draw.draw(st.sampled_from(kinds))
        column = draw.draw(st.lists(values, min_size=count, max_size=count))
        frame[f"a{number}"] = pandas.array(column, dtype=kind)
    base = Path(os.environ["LSCGAN_DATA"]) / "table"
    frame.to_csv(base.with_suffix(".csv"), index=False)
    frame.to_parquet(base.with_suffix(".parquet"))
    files = dict.fromkeys(names, (1, 1))
    read: list[Any] = []
    for ending in (".csv", ".parquet"):
        try:
            table = base.with_suffix(ending)
            read.append(folder._labelled(files, base.parent, table, None).labels)
        except ValueError as error:
            read.append(re.sub(r"^\S+: |it is \S+ ", "", str(error)))
    np.testing.assert_array_equal(*read)


# --- One picture ----------------------------------------------------------------------------------


def prepared(picture: Image.Image, size: int, crop: int | None = None) -> np.ndarray:
    """One picture made as a pack's are: (3, size, size)."""
    square = packing.centred(packing.upright(picture), crop)
    return packing.resized(np.stack([square]), size)[0]


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "size", "crop"),
    [((218, 178), 64, 138), ((41, 30), 16, None), ((30, 41), 16, 21), ((9, 9), 20, 8)],
)
def test_crop_and_size_are_torchvisions(
    shape: tuple[int, int], size: int, crop: int | None
) -> None:
    picture = Image.fromarray(noise(*shape, 3))
    cut = transforms.CenterCrop(min(shape) if crop is None else crop)
    resize, tensor = transforms.Resize(size, antialias=True), transforms.PILToTensor()
    made = prepared(picture, size, crop)
    assert np.array_equal(made, transforms.Compose([tensor, cut, resize])(picture).numpy())
    by_pillow = transforms.Compose([cut, resize, tensor])(picture).numpy()
    apart = np.abs(made.astype(int) - by_pillow)
    assert apart.max() <= 1
    assert apart.mean() < 0.02


def jpeg(picture: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", **options)
    return file.getvalue()


def turned(**where: Any) -> dict[str, Any]:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/' tiff:Orientation=\"6\"></x:xmpmeta>"
    return {"exif": exif} if where["by"] == "exif" else {"xmp": xmp}


SCENE = Image.fromarray(noise(7, 9, 3)).resize((90, 70), Image.Resampling.BICUBIC)

JPEGS: dict[str, tuple[bytes, bool]] = {
    **{f"subsampled {n}": (jpeg(SCENE, subsampling=n), True) for n in (0, 1, 2)},
    "progressive": (jpeg(SCENE, progressive=True), True),
    "optimised, of low quality": (jpeg(SCENE, optimize=True, quality=5), True),
    "odd sides": (jpeg(SCENE.crop((0, 0, 37, 41))), True),
    "grey": (jpeg(SCENE.convert("L")), True),
    "one pixel": (jpeg(SCENE.crop((0, 0, 1, 1))), True),
    "with a comment": (jpeg(SCENE, comment=b"a face"), True),
    "no YCbCr": (jpeg(SCENE, keep_rgb=True), False),
    "CMYK": (jpeg(SCENE.convert("CMYK")), False),
    "turned, says EXIF": (jpeg(SCENE, **turned(by="exif")), False),
    "turned, says XMP": (jpeg(SCENE, **turned(by="xmp")), False),
}
"""Files, and whether the short way decodes them."""


@pytest.mark.parametrize("kind", JPEGS)
def test_the_short_way_decodes_what_pillow_does(kind: str) -> None:
    content, short = JPEGS[kind]
    with Image.open(io.BytesIO(content)) as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    with mock.patch.object(Image, "open", wraps=Image.open) as opened:
        found = packing.decoded(content)
    assert np.array_equal(found, expected)
    assert opened.called is not short


@pytest.mark.parametrize("cut", [3, 20, 300, -200, -2])
def test_a_jpeg_cut_short_is_read_or_refused_as_pillow_does(cut: int) -> None:
    content = JPEGS["subsampled 2"][0][:cut]
    try:
        with Image.open(io.BytesIO(content)) as picture:
            expected: np.ndarray | None = np.asarray(picture)
    except OSError:
        expected = None
    if expected is None:
        with pytest.raises(OSError, match=r"(?i)truncated|cannot identify"):
            packing.decoded(content)
    else:
        assert np.array_equal(packing.decoded(content), expected)


def test_a_picture_too_large_to_be_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its pixels are made: a small file may ask for gigabytes."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        packing.decoded(JPEGS["grey"][0])


def test_pictures_of_all_sizes_are_prepared_as_each_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are resized together: those of one size that follow each other, up to a few bytes."""
    monkeypatch.setattr(packing, "_BLOCK_BYTES", 3 * 12 * 12 * 3)
    sides = [12, 12, 12, 12, 9, 9, 12, 7, 30, 12]
    files = [
        jpeg(Image.fromarray(noise(side + row % 2, side, 3)).rotate(row))
        for row, side in enumerate(sides)
    ]
    many = packing.Pictures([f"{row}.jpg" for row in range(10)], files.__getitem__, "a")
    made = packing.pack(many, tmp_path, "p", 6).numpy()
    for row, file in enumerate(files):
        assert np.array_equal(made[row], prepared(Image.open(io.BytesIO(file)), 6))


def test_every_mode_becomes_the_colours_that_one_sees() -> None:
    grey, alpha, colour = noise(6, 6), noise(6, 6), noise(6, 6, 3)
    on_white = colour * (alpha[:, :, None] / 255) + 255 * (1 - alpha[:, :, None] / 255)
    grey_on_white = grey * (alpha / 255) + 255 * (1 - alpha / 255)
    ink = noise(6, 6, 4)
    black = 1 - ink[:, :, 3:] / 255
    wide = np.random.default_rng(1).integers(0, 65536, (6, 6), dtype=np.uint16)
    palette = Image.fromarray(colour).quantize(8)
    cases: list[tuple[Image.Image, np.ndarray, int]] = [
        (Image.fromarray(colour), colour, 0),
        (Image.fromarray(grey), np.stack([grey] * 3, -1), 0),
        (Image.fromarray(np.dstack([colour, alpha]), "RGBA"), on_white, 1),
        (Image.fromarray(np.dstack([grey, alpha]), "LA"), np.stack([grey_on_white] * 3, -1), 1),
        (Image.fromarray(ink, "CMYK"), 255 * (1 - ink[:, :, :3] / 255) * black, 1),
        (Image.fromarray(wide), np.stack([wide / 257] * 3, -1), 1),
        (Image.fromarray(wide.astype(np.int32)), np.stack([wide / 257] * 3, -1), 1),
        (palette, np.asarray(palette.convert("RGB")), 0),
        (Image.fromarray(grey > 127), np.stack([(grey > 127) * 255] * 3, -1), 0),
    ]
    assert {c[0].mode for c in cases} == {
        "RGB", "L", "RGBA", "LA", "CMYK", "I;16", "I", "P", "1"
    }  # fmt: skip
    for picture, expected, close in cases:
        made = prepared(picture, 6).transpose(1, 2, 0).astype(int)
        assert np.abs(made - expected).max() <= close + 0.51 * bool(close), picture.mode


def test_a_transparent_palette_lies_on_white() -> None:
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([0, 0, 0, 10, 20, 30])
    picture.putpixel((0, 0), 1)
    file = io.BytesIO()
    picture.save(file, "PNG", transparency=0)
    with Image.open(file) as stored:
        made = prepared(stored, 4)
    assert made[:, 0, 0].tolist() == [10, 20, 30]
    assert made[:, 1:, 1:].min() == 255


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_camera_s_turn_is_undone(turn: int) -> None:
    """Each of EXIF's eight orientations, by the definition: where row 0 and column 0 belong."""
    upright = noise(6, 6, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: upright.transpose(1, 0, 2)[::-1],
        7: upright.transpose(1, 0, 2)[::-1, ::-1],
        8: upright.transpose(1, 0, 2)[:, ::-1],
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(stored)).save(file, "PNG", exif=exif)
    with Image.open(file) as picture:
        assert np.array_equal(prepared(picture, 6).transpose(1, 2, 0), upright)


def test_what_cannot_be_used_is_named_at_once_and_nothing_is_left(tmp_path: Path) -> None:
    names = own(tmp_path, 40)
    (tmp_path / names[3]).write_bytes(b"no picture at all")
    whole = io.BytesIO()
    Image.fromarray(noise(32, 32, 3)).save(whole, "PNG")
    (tmp_path / names[7]).write_bytes(whole.getvalue()[:-400])
    plain(tmp_path / names[9], 9, side=5)
    Image.fromarray(np.zeros((8, 8), np.float32)).save(tmp_path / "f.tif")
    shutil.move(tmp_path / "f.tif", tmp_path / names[11])
    with pytest.raises(ValueError, match="4 of 40 pictures cannot be used: ") as raised:
        data.load("folder", root=tmp_path, size=8, crop=6)
    said = str(raised.value)
    for name, why in (
        (names[3], "no picture that Pillow knows"),
        (names[7], ""),
        (names[9], "5 x 5 pixels, smaller than crop=6"),
        (names[11], "pixels are real numbers"),
    ):
        assert f"{name} ({why}" in said
    assert packs(tmp_path) == []
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"40 of 40 .* and 32 more; repair or remove"):
        data.load("folder", root=tmp_path, size=8)


# --- Packing --------------------------------------------------------------------------------------


def pictures(count: int, side: int = 8, stamp: str = "a") -> packing.Pictures:
    """Pictures in memory, as PNG; each shows noise of its own."""
    files = []
    for value in np.random.default_rng(2).integers(0, 256, (count, side, side, 3), dtype=np.uint8):
        file = io.BytesIO()
        Image.fromarray(value).save(file, "PNG", compress_level=0)
        files.append(file.getvalue())
    return packing.Pictures([f"{i}.png" for i in range(count)], files.__getitem__, stamp)


def test_any_number_of_workers_makes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 5)
    many = pictures(53)
    expected = [prepared(Image.open(io.BytesIO(many.read(i))), 6) for i in range(53)]  # type: ignore[arg-type]
    for workers in (1, 2, 7):
        place = tmp_path / str(workers)
        place.mkdir()
        made = packing.pack(many, place, "p", 6, workers=workers)
        assert np.array_equal(made.numpy(), np.stack(expected))


def test_a_second_load_decodes_nothing_and_copies_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path, 30)
    first = data.load("folder", root=tmp_path, size=8)
    stored = next((tmp_path / ".lscgan").glob("*.npy"))
    before = stored.read_bytes()
    monkeypatch.setattr(packing, "decoded", lambda *a: pytest.fail("decoded again"))
    tracemalloc.start()
    second = data.load("folder", root=tmp_path, size=8)
    tracemalloc.stop()
    assert torch.equal(first.images, second.images)
    assert second.images.is_contiguous()
    assert np.load(stored).shape == (30, 3, 8, 8)  # a plain .npy for any other program
    second.images[0] = 0  # no warning, no crash, and the file stays
    assert stored.read_bytes() == before
    manifest = json.loads(stored.with_suffix(".json").read_text())
    assert manifest["shape"] == [30, 3, 8, 8]
    assert manifest["source"]["files"] == first.source["files"]
    assert manifest["source"]["root"] == str(tmp_path)


def test_a_pack_too_large_to_promise_memory_for_is_still_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.load

    def stingy(path: Path, mmap_mode: Any) -> Any:
        if mmap_mode == "c":
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        return real(path, mmap_mode=mmap_mode)

    expected = packing.pack(pictures(4), tmp_path, "p", 8)
    monkeypatch.setattr(np, "load", stingy)
    assert torch.equal(packing.pack(pictures(4), tmp_path, "p", 8), expected)


def test_a_changed_source_is_noticed_and_its_old_pack_removed(tmp_path: Path) -> None:
    names = own(tmp_path, 30)
    train = [n for n in names if folder.split_of(n) == "train"]
    data.load("folder", root=tmp_path, size=8)
    old = packs(tmp_path)
    assert len(old) == 2
    data.load("folder", root=tmp_path, size=8)
    assert packs(tmp_path) == old

    plain(tmp_path / train[0], 200)  # another content, the same name and perhaps the same size
    os.utime(tmp_path / train[0], ns=(1, 1))
    changed = data.load("folder", root=tmp_path, size=8)
    assert changed.images[0].unique().tolist() == [200]
    assert len(packs(tmp_path)) == 2
    assert packs(tmp_path) != old

    # Another size is another pack, and leaves this one alone; other labels need none.
    kept = packs(tmp_path)
    data.load("folder", root=tmp_path, size=4)
    assert set(kept) < set(packs(tmp_path))
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,new", *(f"{n},{i % 3}" for i, n in enumerate(names))])
    )
    relabelled = data.load("folder", root=tmp_path, size=8)
    assert relabelled.names == ("new",)
    assert set(kept) < set(packs(tmp_path))
    assert relabelled.source["table"] != changed.source["table"]

    (tmp_path / train[1]).unlink()
    (tmp_path / "labels.csv").write_text(
        "\n".join(["file,new", *(f"{n},{i % 3}" for i, n in enumerate(names) if n != train[1])])
    )
    assert len(data.load("folder", root=tmp_path, size=8)) == len(train) - 1


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_a_pack_that_is_not_whole_is_made_again(tmp_path: Path, damage: str) -> None:
    made = packing.pack(pictures(9), tmp_path, "p", 8).clone()
    path = next(tmp_path.glob("*.npy"))
    if damage == "gone":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.unlink()
        path.write_bytes(whole[:-1])
    assert torch.equal(packing.pack(pictures(9), tmp_path, "p", 8), made)


SLOW = """
import sys, time
from lscgan.data import packing, load
fast = packing.decoded
def slow(*arguments):
    time.sleep(0.02)
    return fast(*arguments)
packing.decoded, packing._BLOCK = slow, 4
load("folder", root=sys.argv[1], size=8)
"""


def slowly(root: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", SLOW, str(root)], env=environment, stderr=subprocess.DEVNULL
    )


def test_a_kill_leaves_nothing_that_loads_and_the_next_call_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own(tmp_path, 250)
    process = slowly(tmp_path)
    deadline = time.monotonic() + 300
    while not any(p.stat().st_size > 40 * 192 for p in tmp_path.glob(".lscgan/*.part")):
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = packs(tmp_path)
    assert left.endswith(".part")
    prepared = []
    real = packing.decoded

    def counted(*arguments: Any) -> Any:
        prepared.append(1)
        return real(*arguments)

    monkeypatch.setattr(packing, "decoded", counted)
    loaded = data.load("folder", root=tmp_path, size=8)
    assert 0 < len(prepared) <= 211
    assert torch.equal(loaded.images.float().mean(dim=(1, 2, 3)), loaded.column("number"))
    assert [Path(name).suffix for name in packs(tmp_path)] == [".json", ".npy"]


def test_two_processes_may_pack_the_same_pictures_at_once(tmp_path: Path) -> None:
    """This one starts while the other is at work, and overtakes it."""
    own(tmp_path, 250)
    other = slowly(tmp_path)
    while not any(p.stat().st_size > 8 * 192 for p in tmp_path.glob(".lscgan/*.part")):
        assert other.poll() is None, "it ended before this one began"
        time.sleep(0.01)
    loaded = data.load("folder", root=tmp_path, size=8)
    before = loaded.images.clone()
    assert other.wait() == 0
    for images in (before, data.load("folder", root=tmp_path, size=8).images):
        assert torch.equal(images.float().mean(dim=(1, 2, 3)), loaded.column("number"))
    assert [Path(name).suffix for name in packs(tmp_path)] == [".json", ".npy"]


def test_a_small_disk_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    needed = 9 * 3 * 8 * 8 + packing.SPARE
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=r"packing 9 pictures of 8 x 8 needs .* MiB are free: free"):
        packing.pack(pictures(9), tmp_path, "p", 8)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    packing.pack(pictures(9), tmp_path, "p", 8)


@pytest.mark.usefixtures("full_disk")
def test_a_disk_that_fills_up_meanwhile_is_not_left_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match=r"cannot write .*p-8-.*No space left on device"):
        packing.pack(pictures(9), tmp_path, "p", 8)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".json"}
    monkeypatch.undo()  # there is room again
    assert len(packing.pack(pictures(9), tmp_path, "p", 8)) == 9


def test_a_pack_is_on_the_disk_before_it_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a machine that loses its power keeps a whole file of nothing under the pack's name."""
    synced: dict[int, int] = {}
    real_sync, real_replace = os.fsync, os.replace

    def sync(file: int) -> None:
        real_sync(file)
        synced[os.fstat(file).st_ino] = os.fstat(file).st_size

    def replace(source: Path, target: Path) -> None:
        assert synced[os.stat(source).st_ino] == os.stat(source).st_size > 0
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replace)
    packing.pack(pictures(4), tmp_path, "p", 8)
    assert len(synced) == 2  # the pack and its manifest


@pytest.mark.parametrize(("torn", "whole"), [(0, 10), (50, 9), (3 * 8 * 8 + 1, 8)])
def test_an_interrupt_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: int, whole: int
) -> None:
    """All pictures that are whole: a killed system may have written the last one in part."""
    monkeypatch.setattr(packing, "_BLOCK", 2)
    many = pictures(20)
    with pytest.raises(KeyboardInterrupt):
        packing.pack(interrupted(many, 10), tmp_path, "p", 8, workers=1)
    (part,) = tmp_path.glob("*.part")
    os.truncate(part, part.stat().st_size - torn)
    read: list[int] = []

    def noted(row: int) -> Path | bytes:
        read.append(row)
        return many.read(row)

    made = packing.pack(dataclasses.replace(many, read=noted), tmp_path, "p", 8)
    assert sorted(read) == list(range(whole, 20))
    (tmp_path / "fresh").mkdir()
    assert torch.equal(made, packing.pack(many, tmp_path / "fresh", "p", 8))


def interrupted(many: packing.Pictures, row: int) -> packing.Pictures:
    """The same pictures, whose reading is interrupted at a row."""

    def read(wanted: int) -> Path | bytes:
        if wanted >= row:
            raise KeyboardInterrupt
        return many.read(wanted)

    return dataclasses.replace(many, read=read)


def test_what_was_good_before_a_broken_picture_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted after row 7 was found broken: later, when it is not, the pack is right."""
    monkeypatch.setattr(packing, "_BLOCK", 2)
    many = pictures(20)
    broken = dataclasses.replace(many, read=lambda row: b"" if row == 7 else many.read(row))
    with pytest.raises(KeyboardInterrupt):
        packing.pack(interrupted(broken, 16), tmp_path, "p", 8, workers=1)
    (part,) = tmp_path.glob("*.part")
    assert part.stat().st_size <= 128 + 6 * 3 * 8 * 8
    made = packing.pack(many, tmp_path, "p", 8)
    assert np.array_equal(made[19].numpy(), prepared(Image.open(_bytes(many, 19)), 8))
    assert all((picture != 0).any() for picture in made)
    (tmp_path / "fresh").mkdir()
    assert torch.equal(made, packing.pack(many, tmp_path / "fresh", "p", 8))


def _bytes(many: packing.Pictures, row: int) -> io.BytesIO:
    content = many.read(row)
    assert isinstance(content, bytes)
    return io.BytesIO(content)


def failing(many: packing.Pictures, row: int, times: int) -> packing.Pictures:
    """The same pictures; a disk fails so many times when the picture of a row is asked for."""
    failed: list[int] = []

    def read(wanted: int) -> Path | bytes:
        if wanted == row and len(failed) < times:
            failed.append(row)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return many.read(wanted)

    return dataclasses.replace(many, read=read)


def test_a_disk_that_fails_for_a_moment_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    made = packing.pack(failing(pictures(9), 4, times=len(packing._PAUSES)), tmp_path, "p", 8)
    assert paused == list(packing._PAUSES)
    (tmp_path / "fresh").mkdir()
    assert torch.equal(made, packing.pack(pictures(9), tmp_path / "fresh", "p", 8))


def test_a_disk_that_fails_for_good_costs_nothing_of_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 2)
    monkeypatch.setattr(packing, "_PAUSES", (0.0, 0.0))
    many = pictures(20)
    sentence = r"^10.png cannot be read \(Input/output error\), tried 3 times: .* is kept, and the"
    with pytest.raises(OSError, match=sentence) as raised:
        packing.pack(failing(many, 10, times=3), tmp_path, "p", 8, workers=1)
    assert "\n" not in str(raised.value)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    read: list[int] = []

    def noted(row: int) -> Path | bytes:
        read.append(row)
        return many.read(row)

    made = packing.pack(dataclasses.replace(many, read=noted), tmp_path, "p", 8)
    assert sorted(read) == list(range(10, 20))
    (tmp_path / "fresh").mkdir()
    assert torch.equal(made, packing.pack(many, tmp_path / "fresh", "p", 8))


def test_a_decoder_that_raises_what_a_disk_does_is_not_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow has OSErrors for broken pictures."""
    asked: list[int] = []

    def read(row: int) -> Path | bytes:
        asked.append(row)
        return b"no picture" if row == 2 else pictures(4).read(row)

    monkeypatch.setattr(time, "sleep", lambda pause: pytest.fail("it waited"))
    broken = dataclasses.replace(pictures(4), read=read)
    with pytest.raises(ValueError, match=r"1 of 4 pictures cannot be used: 2\.png"):
        packing.pack(broken, tmp_path, "p", 8)
    assert sorted(asked) == [0, 1, 2, 3]
    assert list(tmp_path.iterdir()) == []


def test_the_old_pack_is_there_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = packing.pack(pictures(20), tmp_path, "p", 8).clone()
    (path,) = tmp_path.glob("*.npy")
    fewer = pictures(12, stamp="b")
    with pytest.raises(KeyboardInterrupt):
        packing.pack(interrupted(fewer, 5), tmp_path, "p", 8, workers=1)
    assert np.array_equal(np.load(path), old.numpy())
    assert "There are 12 pictures for p-8, where there were 20: if" in capsys.readouterr().out

    # Room for the new one alone is needed: what the old one takes is not free.
    usage = shutil.disk_usage(tmp_path)
    room = 12 * 3 * 8 * 8 + packing.SPARE
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=room - 1))
    (part,) = tmp_path.glob("*.part")
    part.unlink()
    with pytest.raises(OSError, match=f"; {path.name} there, packed before the pictures changed"):
        packing.pack(fewer, tmp_path, "p", 8)
    assert path.is_file()
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=room))

    capsys.readouterr()
    assert len(packing.pack(fewer, tmp_path, "p", 8)) == 12
    assert [place.suffix for place in sorted(tmp_path.iterdir())] == [".json", ".npy"]
    room += 3 * 8 * 8
    packing.pack(pictures(13, stamp="c"), tmp_path, "p", 8)  # more than before needs no word
    assert capsys.readouterr().out.count("There are") == 1


def test_going_on_needs_room_for_the_rest_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_BLOCK", 2)
    many = pictures(20)
    with pytest.raises(KeyboardInterrupt):
        packing.pack(interrupted(many, 10), tmp_path, "p", 8, workers=1)
    usage = shutil.disk_usage(tmp_path)
    rest = 10 * 3 * 8 * 8 + packing.SPARE
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=rest))
    assert len(packing.pack(many, tmp_path, "p", 8)) == 20


def test_packs_of_another_crop_or_another_name_are_left_alone(tmp_path: Path) -> None:
    for name in ("p", "p-8", "q"):
        packing.pack(pictures(3), tmp_path, name, 8)
    packing.pack(pictures(3), tmp_path, "p", 8, crop=6)
    others = {path.name for path in tmp_path.glob("*.npy")}
    packing.pack(pictures(3, stamp="b"), tmp_path, "p", 8)
    left = {path.name for path in tmp_path.glob("*.npy")}
    assert len(others) == len(left) == 4
    assert len(others - left) == 1  # the one whose source has changed


def test_a_new_way_to_prepare_makes_packs_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = packing.pack(pictures(3), tmp_path, "p", 8).clone()
    monkeypatch.setattr(packing, "PREPARATION", packing.PREPARATION + 1)
    monkeypatch.setattr(packing, "decoded", lambda content: np.full((8, 8, 3), 7, np.uint8))
    assert packing.pack(pictures(3), tmp_path, "p", 8).unique().tolist() == [7]
    assert old.unique().tolist() != [7]
    assert len(list(tmp_path.glob("*.npy"))) == 1


def test_who_comes_second_takes_what_the_first_has_made(tmp_path: Path) -> None:
    """Another packing begins and ends while this one reads its last picture."""
    many = pictures(9)

    def read(row: int) -> Path | bytes:
        if row == 8:
            packing.pack(many, tmp_path, "p", 8)
        return many.read(row)

    made = packing.pack(dataclasses.replace(many, read=read), tmp_path, "p", 8)
    (tmp_path / "fresh").mkdir()
    assert torch.equal(made, packing.pack(many, tmp_path / "fresh", "p", 8))
    assert sorted(path.suffix for path in tmp_path.glob("p-*")) == [".json", ".npy"]


def test_memory_does_not_grow_with_the_number_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """500 pictures fill a pack of 6 MB; three blocks of 16 of them, 0.6 MB, are held at a time."""
    monkeypatch.setattr(packing, "_BLOCK", 16)
    one = pictures(1, side=64).read(0)
    many = packing.Pictures([str(i) for i in range(500)], lambda row: one, "a")
    tracemalloc.start()
    packing.pack(many, tmp_path, "p", 64, workers=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * 2**20


def test_packs_lie_beside_the_pictures_or_in_the_cache(tmp_path: Path) -> None:
    own(tmp_path, 12)
    data.load("folder", root=tmp_path, size=8, cache=tmp_path / "chosen" / "place")
    assert len(list((tmp_path / "chosen" / "place").glob("*.npy"))) == 1
    assert not (tmp_path / ".lscgan").exists()
    (tmp_path / ".lscgan").write_text("in the way: no folder can be made here")
    data.load("folder", root=tmp_path, size=8)
    assert len(list(Path(os.environ["LSCGAN_DATA"]).glob("packs/*/*.npy"))) == 1


@pytest.mark.parametrize(("size", "crop"), [(0, None), (8, 0), (8.0, None), (8, -3)])
def test_wrong_sizes_get_one_clear_sentence(tmp_path: Path, size: Any, crop: Any) -> None:
    with pytest.raises(ValueError, match=r"is a whole number of pixels, at least 1, not"):
        packing.pack(pictures(2), tmp_path, "p", size, crop)


def test_a_model_trains_from_a_pack_as_from_memory(tmp_path: Path) -> None:
    root = tmp_path / "faces"
    factors = faces.sample_factors(12, torch.Generator().manual_seed(0))
    labels = factors.labels(("Smiling", "Eyeglasses")).int().tolist()
    root.mkdir()
    for i, face in enumerate((faces.render(factors, 32) * 255).round().byte()):
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(root / f"{i}.png")
    rows = [f"{i}.png,{a},{b},train" for i, (a, b) in enumerate(labels)]
    (root / "labels.csv").write_text("\n".join(["file,Smiling,Eyeglasses,split", *rows]))
    packed = data.load("folder", root=root, size=32)
    held = LabelledImages(packed.images.clone(), packed.labels, packed.names, packed.source)
    weights = []
    for name, images in (("packed", packed), ("held", held)):
        torch.manual_seed(0)
        model = LSCVAE(LatentDesign.lsc(images.names), size=32)
        settings = TrainingSettings(images=16, batch_size=4, device="cpu", log_every=8)
        train(model, images, settings, tmp_path / name)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_the_book_s_page_on_own_data_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code in order, in an empty folder; what it prints is what the page says."""
    page = Path(__file__).resolve().parents[1] / "book" / "back" / "your-own-data.md"
    blocks = re.findall(r"```(python|text)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    code = "".join(text for kind, text in blocks if kind == "python")
    assert code.count("images=200_000") == 1
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    printed = ""
    for kind, text in blocks:
        if kind == "text":
            assert printed == text
            continue
        short = text.replace("images=200_000", 'images=128, device="cpu"')
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(short, page.name, "exec"), names)
        printed = said.getvalue()
    photos, drawn = names["photos"], names["drawn"]
    assert photos.names == ("smiling", "glasses", "hat")
    assert len(photos) > len(names["known"]) > 0.8 * len(photos)
    rows = [i for i in range(200) if folder.split_of(f"{i:03}.png") == "train"]
    assert torch.equal(photos.labels[:, :2], drawn.labels[rows, :2])
    assert names["run"].complete
    assert lscgan.load("runs/photos").design.names == photos.names


# --- CelebA ---------------------------------------------------------------------------------------

COUNT = 60
SPLIT_AT = {"train": slice(0, 48), "validation": slice(48, 54), "test": slice(54, 60)}
NAMES = celeba.ATTRIBUTES


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for CelebA; its table ends its lines as some copies of the real one do."""
    root = celeba.draw(tmp_path_factory.mktemp("celeba"), COUNT, seed=5)
    table = root / celeba.FILES[1]
    table.write_bytes(table.read_bytes().replace(b"\n", b" \r\n"))
    return root


def expected_of(root: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """The paper's preparation by torchvision, and the labels read by hand."""
    steps = transforms.Compose(
        [transforms.PILToTensor(), transforms.CenterCrop(138), transforms.Resize(64)]
    )
    rows = range(COUNT)[SPLIT_AT[split]]
    made = [steps(Image.open(root / "img_align_celeba" / f"{i + 1:06d}.jpg")).numpy() for i in rows]
    lines = (root / "list_attr_celeba.txt").read_text().split("\n")[2:]
    labels = [[float(v == "1") for v in lines[i].split()[1:]] for i in rows]
    return np.stack(made), np.array(labels)


def moved(drawn: Path, root: Path, layout: str) -> None:
    """The same files as people have them: as given, zipped, in sub-folders, below "celeba"."""
    base = root / "celeba" if layout == "below" else root
    shutil.copytree(drawn, base, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".lscgan"))
    if layout in ("zip", "official"):
        with zipfile.ZipFile(base / "img_align_celeba.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for picture in sorted((base / "img_align_celeba").iterdir()):
                archive.write(picture, f"img_align_celeba/{picture.name}")
        shutil.rmtree(base / "img_align_celeba")
    if layout == "official":
        for folder_, name in (
            ("Anno", "list_attr_celeba.txt"),
            ("Eval", "list_eval_partition.txt"),
            ("Img", "img_align_celeba.zip"),
        ):
            (root / folder_).mkdir()
            shutil.move(root / name, root / folder_ / name)


@pytest.mark.parametrize("layout", ["as given", "zip", "official", "below"])
def test_celeba_is_prepared_as_in_the_paper(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    moved(drawn, tmp_path, layout)
    for split in SPLIT_AT:
        loaded = data.load("celeba", split, root=tmp_path)
        images, labels = expected_of(drawn, split)
        assert np.array_equal(loaded.images.numpy(), images)
        assert np.array_equal(loaded.labels.numpy(), labels)
        assert loaded.names == NAMES
        assert str(tmp_path) not in json.dumps(loaded.source)
    said = capsys.readouterr().out
    assert said.count(celeba.TERMS) == 1  # once a pack
    assert "non-commercial research" in said
    assert len(list(tmp_path.glob(".lscgan/celeba-tables-*.npz"))) == 1
    (manifest,) = tmp_path.glob(".lscgan/*.json")
    assert json.loads(manifest.read_text())["terms"] == celeba.TERMS


def test_stored_tables_are_those_of_today(drawn: Path, tmp_path: Path) -> None:
    moved(drawn, tmp_path, "as given")
    before = data.load("celeba", root=tmp_path)
    (stored,) = tmp_path.glob(".lscgan/*.npz")
    stored.write_bytes(stored.read_bytes()[:100])  # damaged: read anew
    assert torch.equal(data.load("celeba", root=tmp_path).labels, before.labels)
    path = tmp_path / ATTRIBUTES
    path.write_text(path.read_text().replace("000001.jpg  1", "000001.jpg -1"))
    path.write_text(path.read_text().replace("000002.jpg -1", "000002.jpg  1"))
    after = data.load("celeba", root=tmp_path).labels
    assert after[:2, 0].tolist() == [0, 1]
    assert torch.equal(after[2:], before.labels[2:])
    with Image.open(tmp_path / "img_align_celeba" / "000001.jpg") as picture:
        picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(
            tmp_path / "img_align_celeba" / "000001.jpg"
        )
    assert not torch.equal(data.load("celeba", root=tmp_path).images[0], before.images[0])


def test_attributes_are_chosen_and_female_is_not_male(drawn: Path, tmp_path: Path) -> None:
    moved(drawn, tmp_path, "as given")
    loaded = data.load("celeba", root=tmp_path, attributes=["Male", "Female", "Smiling"])
    assert torch.equal(loaded.column("Female"), 1 - loaded.column("Male"))
    plain_ = data.load("celeba", root=tmp_path)
    assert torch.equal(loaded.column("Smiling"), plain_.column("Smiling"))
    assert loaded.source["labels"] != plain_.source["labels"]
    with pytest.raises(ValueError, match="CelebA has no attribute 'Smile': it has 5_o_Clock"):
        data.load("celeba", root=tmp_path, attributes=["Smile"])
    with pytest.raises(ValueError, match="there is no source 'kaggle': there are folder, huggingf"):
        data.load("celeba", root=tmp_path, source="kaggle")
    assert len(set(celeba.PAPER)) == 14


def spoil(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        text = (root / name).read_text()
        (root / name).write_text(change(text))

    return do


def half_a_zip(root: Path) -> None:
    shutil.rmtree(root / "img_align_celeba")
    (root / "img_align_celeba.zip").write_bytes(b"PK\3\4" + bytes(1000))


ATTRIBUTES, PARTITION = celeba.FILES[1:]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda root: (root / ATTRIBUTES).unlink(), f"there is no {ATTRIBUTES} in "),
        (lambda root: (root / PARTITION).unlink(), f"there is no {PARTITION} in "),
        (lambda root: shutil.rmtree(root / "img_align_celeba"), "there is neither img_align_celeb"),
        (
            lambda root: (root / "img_align_celeba" / "000007.jpg").unlink(),
            "lacks 1 of 60 pictures: 000007.jpg",
        ),
        (half_a_zip, "img_align_celeba.zip is no whole zip: it is cut short or altered"),
        (
            spoil(ATTRIBUTES, lambda text: "\n".join(text.split("\n")[:32])),
            "announces 60 rows and has 30: it is cut short",
        ),
        (spoil(ATTRIBUTES, lambda text: "x" + text), "is damaged: it starts with a count"),
        (spoil(ATTRIBUTES, lambda text: ""), "is damaged: it starts with a count"),
        (spoil(ATTRIBUTES, lambda text: text.rstrip()[:-2]), "is damaged: "),
        (spoil(ATTRIBUTES, lambda text: text.rstrip()[:-2] + " 7"), "a value is neither -1 nor 1"),
        (spoil(PARTITION, lambda text: text[:300]), "and not the same files as list_attr_celeba"),
        (spoil(PARTITION, lambda text: text.replace(" 2", " 3")), "is damaged: its numbers run"),
    ],
)
def test_a_source_that_fails_is_named_with_the_next_and_with_what_to_do(
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    sentence: str,
) -> None:
    def no_quota(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("The daily quota of the file img_align_celeba.zip is exceeded")

    monkeypatch.setattr(datasets, "CelebA", no_quota)
    monkeypatch.setitem(sys.modules, "datasets", None)
    moved(drawn, tmp_path, "as given")
    damage(tmp_path)
    with pytest.raises(FileNotFoundError, match="CelebA could not be had") as raised:
        data.load("celeba", root=tmp_path)
    said = str(raised.value)
    assert "\n" not in said
    assert sentence in said
    assert "huggingface: the package datasets is not installed: pip install datasets, or " in said
    assert "torchvision: its download from Google Drive" in said
    assert "quota" in said
    assert all(name in said for name in celeba.FILES)
    out = capsys.readouterr().out
    assert "Next: huggingface." in out
    assert "Next: torchvision." in out
    assert sentence in out
    assert not list(tmp_path.glob(".lscgan/*.npy"))


def test_torchvisions_download_is_read_from_where_it_puts_it(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(root: str, split: str, download: bool) -> None:
        asked.append((root, split, download))
        shutil.copytree(drawn, Path(root) / "celeba", ignore=shutil.ignore_patterns(".lscgan"))

    monkeypatch.setattr(datasets, "CelebA", download)
    monkeypatch.setenv("LSCGAN_DATA", str(tmp_path / "cache"))
    for _ in range(2):
        loaded = data.load("celeba", "test")
        assert np.array_equal(loaded.images.numpy(), expected_of(drawn, "test")[0])
    assert asked == [(str(tmp_path / "cache"), "all", True)]  # once: then it lies in the folder


def on_the_hub(root: Path) -> hugging_face.DatasetDict:
    """The drawn faces as Hugging Face's library gives flwrlabs/celeba."""
    lines = [line.split() for line in (root / ATTRIBUTES).read_text().split("\n")[2:]]
    kinds = {"image": hugging_face.Image(), "celeb_id": hugging_face.Value("int64")}
    kinds |= {name: hugging_face.Value("bool") for name in NAMES}
    splits = {}
    for split, rows in (("train", "train"), ("valid", "validation"), ("test", "test")):
        chosen = lines[SPLIT_AT[rows]]
        files = [root / "img_align_celeba" / line[0] for line in chosen]
        columns = {
            "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
            "celeb_id": list(range(len(chosen))),
            **{n: [line[i] == "1" for line in chosen] for i, n in enumerate(NAMES, start=1)},
        }
        splits[split] = hugging_face.Dataset.from_dict(columns, hugging_face.Features(kinds))
    return hugging_face.DatasetDict(splits)


def test_hugging_faces_copy_gives_the_same(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load_dataset(name: str) -> hugging_face.DatasetDict:
        asked.append(name)
        return on_the_hub(drawn)

    monkeypatch.setattr(hugging_face, "load_dataset", load_dataset)
    for split in SPLIT_AT:
        loaded = data.load("celeba", split, root=tmp_path / "new")
        images, labels = expected_of(drawn, split)
        assert np.array_equal(loaded.images.numpy(), images)
        assert np.array_equal(loaded.labels.numpy(), labels)
        assert loaded.names == NAMES
        assert loaded.source["from"] == "huggingface"
    assert asked == ["flwrlabs/celeba"] * 3


def test_the_hub_out_of_reach_is_said_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the real library, offline."""
    with pytest.raises(FileNotFoundError, match=r"huggingface: flwrlabs/celeba: Couldn't reach "):
        data.load("celeba", root=tmp_path, source="huggingface")

    def no_route(name: str) -> Any:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(hugging_face, "load_dataset", no_route)
    with pytest.raises(FileNotFoundError, match=r"huggingface: flwrlabs/celeba: no route\. Put"):
        data.load("celeba", root=tmp_path, source="huggingface")


# --- A stand-in for CelebA ------------------------------------------------------------------------


def test_a_stand_in_has_celebas_layout_and_labels_that_can_be_read(drawn: Path) -> None:
    files = sorted(path.name for path in (drawn / "img_align_celeba").iterdir())
    assert files == [f"{row:06d}.jpg" for row in range(1, COUNT + 1)]
    for name in files[::20]:
        with Image.open(drawn / "img_align_celeba" / name) as picture:
            assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (178, 218))
    splits = [len(data.load("celeba", split, root=drawn)) for split in SPLIT_AT]
    assert splits == [48, 6, 6]
    # Cut to 178 the heads have the size that the shipped judge knows; it was not told the labels.
    judge = lscgan.load("face-judge")
    known = data.load("celeba", root=drawn, crop=178, attributes=judge.names)
    read = (judge.attributes(known.float()) > 0.5).float()
    assert float((read == known.labels).float().mean()) > 0.97
    assert len(set(celeba.ATTRIBUTES)) == 40
    assert set(celeba.PAPER) - {"Female"} <= set(celeba.ATTRIBUTES)
    assert (
        not data.load("celeba", root=drawn, attributes=["Brown_Hair"])
        .labels[known.labels[:, [judge.names.index(n) for n in faces.HAIR_COLOURS]].any(dim=1)]
        .any()
    )


def test_the_same_seed_draws_the_same_stand_in(drawn: Path, tmp_path: Path) -> None:
    again, other = celeba.draw(tmp_path / "a", COUNT, seed=5), celeba.draw(tmp_path / "b", 10)
    first = [root / "img_align_celeba" / "000001.jpg" for root in (drawn, again, other)]
    assert first[0].read_bytes() == first[1].read_bytes() != first[2].read_bytes()
    assert (drawn / PARTITION).read_bytes() == (again / PARTITION).read_bytes()


def test_a_stand_in_overwrites_nothing_and_has_three_splits(tmp_path: Path) -> None:
    (tmp_path / ATTRIBUTES).write_text("the real one")
    with pytest.raises(FileExistsError, match=f"{ATTRIBUTES} is there already: name an empty fol"):
        celeba.draw(tmp_path, 20)
    with pytest.raises(ValueError, match="a stand-in for CelebA has at least 10 faces, not 9"):
        celeba.draw(tmp_path / "new", 9)
    assert [path.name for path in tmp_path.iterdir()] == [ATTRIBUTES]


# --- What to know before training -----------------------------------------------------------------


def labelled(labels: Any, names: tuple[str, ...], **source: Any) -> LabelledImages:
    values = torch.tensor(labels, dtype=torch.float32)
    return LabelledImages(torch.zeros(len(values), 3, 4, 4).byte(), values, names, source)


def test_the_numbers_are_numpys() -> None:
    chance = np.random.default_rng(0)
    values = chance.normal(size=(200, 4)).astype(np.float32)
    values[:, 1] = values[:, 0] + 0.3 * values[:, 1]
    values[:, 2] = values[:, 2] > 0
    values[chance.random((200, 4)) < 0.3] = np.nan
    found = data.describe(labelled(values.tolist(), ("a", "b", "c", "d")))
    assert (found.count, found.shape) == (200, (3, 4, 4))
    assert found.known == tuple((~np.isnan(values)).sum(axis=0))
    assert found.means == pytest.approx(np.nanmean(values.astype(float), axis=0).tolist())
    assert min(found.ranges[3]) == np.nanmin(values[:, 3])
    assert max(found.ranges[3]) == np.nanmax(values[:, 3])
    for i in range(4):
        for j in range(4):
            both = ~np.isnan(values[:, [i, j]]).any(axis=1)
            theirs = np.corrcoef(values[both][:, [i, j]].astype(float).T)[0, 1]
            assert found.correlations[i, j] == pytest.approx(theirs)
    assert found.strongest(1)[0][:2] == ("a", "b")
    assert found.warnings == ()
    said = str(found).splitlines()
    assert said[0] == "200 images, 3 x 4 x 4"
    (row,) = [line for line in said if line.startswith("b ")]
    assert [int(word) for word in row.split()[1:3]] == [found.known[1], 200 - found.known[1]]


amounts = st.one_of(st.just(math.nan), st.sampled_from([0.0, 1.0]), st.integers(-50, 50))


@given(st.integers(1, 5).flatmap(lambda a: st.lists(st.lists(amounts, min_size=a, max_size=a))))
def test_the_numbers_of_any_table_are_pandas(rows: list[list[float]]) -> None:
    width = len(rows[0]) if rows else 2
    names = tuple("abcde"[:width])
    values = torch.tensor(rows, dtype=torch.float32).reshape(len(rows), width)
    found = data.describe(
        LabelledImages(torch.zeros(len(rows), 1, 2, 2, dtype=torch.uint8), values, names)
    )
    frame = pandas.DataFrame(values.double().numpy(), columns=list(names))
    theirs = frame.describe()
    assert found.known == tuple(theirs.loc["count"].astype(int))
    np.testing.assert_allclose(found.means, theirs.loc["mean"], atol=1e-12)
    np.testing.assert_array_equal(np.array(found.ranges).T, theirs.loc[["min", "max"]])
    np.testing.assert_allclose(found.correlations, frame.corr(), atol=1e-9)


def test_faces_hair_colours_exclude_each_other_and_nothing_else_does() -> None:
    found = data.describe(data.load("faces", count=600, size=16))
    pairs = [re.match(r"(\w+) and (\w+) exclude each other", w) for w in found.warnings]
    assert {match.groups() for match in pairs if match} == {
        ("Black_Hair", "Blond_Hair"),
        ("Black_Hair", "Gray_Hair"),
        ("Blond_Hair", "Gray_Hair"),
    }
    assert len(found.warnings) == 3
    assert "no training image stands there" in found.warnings[0]


nan = float("nan")


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            [[0, 1], [1, 0]] * 20,
            "a and b are opposites: each image has exactly one. Additive",
        ),
        ([[0, 0], [1, 1]] * 20, "a and b are the same on every image: additive means give one thi"),
        ([[0, 1], [1, 0], [nan, 1]] * 20, "a and b are opposites"),
        ([[0, 1], [1, 0], [0, 0]] * 20, "a and b exclude each other: no image has both, where cha"),
        ([[nan, 1], [nan, 0]] * 20, "a is known of no image: nothing can be learnt of it"),
        ([[1, 1], [1, 0]] * 20, "a never varies here: its block learns nothing"),
        ([[1, 1], [0, 0]] + [[0, 1], [0, 0]] * 99, "a is rare: 1 images with it, 199 without"),
        (
            [[20, 1], [59, 0], [35, 1], [nan, 0]] * 10,
            "a runs from 20 to 59, far from the labels 0 and 1 that a block is designed for: bring "
            "it to 0 to 1 first, by (value - 20) / 39",
        ),
        ([[0, 1], [100, 0], [35, 1]] * 10, "a runs from 0 to 100, far from the labels 0 and 1 tha"),
        ([[-9, 1], [0, 0], [2, 1]] * 10, "a runs from -9 to 2, far from the labels 0 and 1 that a"),
        (
            [[1, 1], [2, 0], [1, 0], [2, 1]] * 10,
            "a is 1 or 2, which a model takes for amounts: make them 0 and 1, by (value - 1) / 1",
        ),
    ],
)
def test_what_may_go_wrong_is_said(rows: Any, sentence: str) -> None:
    found = data.describe(labelled(rows, ("a", "b")))
    (warning,) = found.warnings
    assert warning.startswith(sentence)
    assert f"! {warning}" in str(found)


def test_what_is_no_fault_is_not_warned_of() -> None:
    few = [[0, 1], [1, 0], [0, 0], [0, 0]] * 4  # chance would give 1 of both
    assert data.describe(labelled(few, ("a", "b"))).warnings == ()
    every = [[0, 1], [1, 0], [0, 0], [1, 1]] * 40
    assert data.describe(labelled(every, ("a", "b"))).warnings == ()
    real = [[0.5, -0.5], [-2.0, 2.0]] * 40
    assert data.describe(labelled(real, ("a", "b"))).warnings == ()


def test_classes_are_counted_by_name() -> None:
    found = data.describe(data.load("digits", "test"))
    assert found.classes == {str(digit): 50 for digit in range(10)}
    assert found.warnings == ()
    some = data.describe(
        labelled([[0], [2], [2], [nan]], ("class",), classes=["ant", "bee", "cat"])
    )
    assert some.classes == {"ant": 1, "bee": 0, "cat": 2}
    assert some.warnings == ("no image is known to be of class bee",)
    assert re.search(r"cat +2 +66\.7%", str(some))
    assert re.search(r"unknown +1$", str(some), re.MULTILINE)


def test_no_label_and_no_image_are_described_too() -> None:
    assert data.describe(data.load("faces", count=2, size=16, names=())).names == ()
    empty = labelled([[0.0, 1.0]], ("a", "b")).select(slice(0, 0))
    assert data.describe(empty).count == 0
    assert "0 images" in str(data.describe(empty))
