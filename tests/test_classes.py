"""Data of classes, label budgets, the judge of classes and what is measured with it."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import math
import pickle
import re
import struct
import tarfile
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import lscgan
from lscgan import data, weights
from lscgan.data import CLASSES, LabelledImages
from lscgan.evaluation import (
    ClassJudge,
    class_accuracy,
    class_control,
    class_fidelity,
    code_reports,
    stroke_factors,
)
from lscgan.evaluation.class_control import ClassReport
from lscgan.evaluation.class_judge import MOVED
from lscgan.evaluation.factors import FACTORS, CodeReport
from lscgan.latent import LatentDesign
from lscgan.models.augmentation import translate
from lscgan.training import TrainingSettings, train

unhurried = settings(deadline=None, max_examples=40)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("split", "count"), [("train", 4_000), ("validation", 500), ("test", 500)])
def test_digits_are_balanced_bytes(split: str, count: int) -> None:
    digits = data.load("digits", split)
    assert digits.images.shape == (count, 1, 28, 28)
    assert digits.names == ("class",)
    assert digits.labels.flatten().long().bincount().tolist() == [count // 10] * 10
    assert digits.source == {"name": "digits", "split": split}
    assert torch.equal(digits.images, data.load("digits", split).images)
    json.dumps(digits.source)


def test_splits_of_digits_share_no_picture_and_are_in_no_order_of_classes() -> None:
    splits = [data.load("digits", split) for split in ("train", "validation", "test")]
    flat = torch.cat([split.images.flatten(1) for split in splits])
    assert len(flat.unique(dim=0)) == 5_000
    for split in splits:
        classes = split.labels[:, 0]
        assert not torch.equal(classes, classes.sort().values)


def test_ones_are_thin_and_noughts_are_hollow() -> None:
    """The labels belong to the pictures: what anyone can see of a mean 0 and a mean 1."""
    digits = data.load("digits")
    means = [digits.float()[digits.labels[:, 0] == one].mean(dim=(0, 1)) for one in range(10)]
    assert min(range(10), key=lambda one: float(means[one].sum())) == 1
    centre = [float(mean[12:16, 12:16].mean() / mean.max()) for mean in means]
    assert min(range(10), key=lambda one: centre[one]) == 0
    assert CLASSES["digits"] == tuple("0123456789")


def test_every_data_set_of_classes_names_them() -> None:
    assert CLASSES.keys() == {"digits", "mnist", "fashion-mnist", "svhn", "cifar10"}
    assert {len(set(names)) for names in CLASSES.values()} == {10}


# --- Label budgets --------------------------------------------------------------------------------


@st.composite
def of_classes(draw: st.DrawFn) -> LabelledImages:
    """Images with a class each, some of which is not known; each image shows its row."""
    counts = draw(st.lists(st.integers(0, 12), min_size=1, max_size=5))
    classes = torch.tensor([i for i, n in enumerate(counts) for _ in range(n)]).float()
    order = torch.randperm(len(classes), generator=seeded(draw(st.integers(0, 99))))
    labels = classes[order][:, None]
    hidden = draw(st.integers(0, len(labels)))
    labels[:hidden] = float("nan")
    rows = torch.arange(len(labels)).to(torch.uint8)[:, None, None, None]
    return LabelledImages(rows, labels, ("class",), {"name": "toy"})


@unhurried
@given(of_classes(), st.floats(0, 1), st.integers(0, 99))
def test_a_budget_keeps_so_many_labels_by_turns_and_invents_none(
    given_: LabelledImages, share: float, seed: int
) -> None:
    there = int(given_.labelled.sum())
    count = round(share * there)
    before = given_.labels.clone()
    kept = given_.keep_labels(count, seed=seed)
    assert int(kept.labelled.sum()) == count
    assert torch.equal(kept.images, given_.images)
    assert torch.equal(kept.labels[kept.labelled], given_.labels[kept.labelled])
    assert bool(kept.labels[~kept.labelled].isnan().all())
    assert not bool((kept.labelled & ~given_.labelled).any())
    # As many of every class, to within one, where a class has not run out.
    stock = Counter(given_.labels[given_.labelled][:, 0].tolist())
    drawn = Counter(kept.labels[kept.labelled][:, 0].tolist())
    most = max(drawn.values(), default=0)
    assert all(drawn[one] >= min(stock[one], most - 1) for one in stock)
    # The same seed, the same rows; and the original is as it was.
    assert torch.equal(kept.labelled, given_.keep_labels(count, seed=seed).labelled)
    assert torch.equal(given_.labels.nan_to_num(-1), before.nan_to_num(-1))
    assert kept.source == {"name": "toy", "labels_kept": count, "labels_kept_with_seed": seed}
    assert given_.source == {"name": "toy"}


@unhurried
@given(st.integers(0, 100), st.integers(0, 99))
def test_equal_classes_are_kept_to_within_one(count: int, seed: int) -> None:
    classes = (torch.arange(100) % 10).float()[:, None]
    kept = LabelledImages(torch.zeros(100, 1, 1, 1).byte(), classes, ("class",)).keep_labels(
        count, seed=seed
    )  # fmt: skip
    counts = kept.labels[kept.labelled].flatten().long().bincount(minlength=10)
    assert int(counts.sum()) == count
    assert int(counts.max() - counts.min()) <= 1


@unhurried
@given(of_classes(), st.floats(0, 1), st.integers(0, 99))
def test_a_larger_budget_holds_the_smaller_one(
    given_: LabelledImages, share: float, seed: int
) -> None:
    """Curves by number of labels differ in the labels that are added, and in nothing else."""
    there = int(given_.labelled.sum())
    small = given_.keep_labels(round(share * there), seed=seed).labelled
    large = given_.keep_labels(there - there // 3, seed=seed).labelled
    small, large = (small, large) if small.sum() <= large.sum() else (large, small)
    assert not bool((small & ~large).any())


def test_seeds_draw_other_rows_and_other_classes_for_what_is_left_over() -> None:
    digits = data.load("digits", "test")
    kept = [digits.keep_labels(13, seed=seed) for seed in range(40)]
    assert len({tuple(k.labelled.nonzero()[:, 0].tolist()) for k in kept}) == 40
    extra = Counter()  # type: ignore[var-annotated]
    for one in kept:
        counts = one.labels[one.labelled].flatten().long().bincount(minlength=10)
        extra.update((counts == 2).nonzero()[:, 0].tolist())
    assert sum(extra.values()) == 120
    assert len(extra) == 10
    assert max(extra.values()) < 30  # 12 each on average


def test_unbalanced_budgets_follow_the_data() -> None:
    """Nine in ten are of class 0: a fair draw keeps about nine in ten of it."""
    classes = (torch.arange(1_000) % 10 == 0).float()[:, None]
    toy = LabelledImages(torch.zeros(1_000, 1, 1, 1).byte(), classes, ("class",))
    fair = toy.keep_labels(100, balanced=False)
    assert int(fair.labelled.sum()) == 100
    assert 2 <= float(fair.labels[fair.labelled].sum()) <= 22
    assert float(toy.keep_labels(100).labels.nansum()) == 50


def test_which_rows_an_unbalanced_budget_keeps_does_not_depend_on_the_labels() -> None:
    digits = data.load("digits", "test")
    other = LabelledImages(digits.images, (digits.labels + 1) % 10, digits.names)
    rows = [given_.keep_labels(50, seed=3, balanced=False).labelled for given_ in (digits, other)]
    assert torch.equal(*rows)


def test_a_fraction_is_a_share_of_all_images() -> None:
    classes = (torch.arange(60_000) % 10).float()[:, None]
    mnist = LabelledImages(torch.zeros(60_000, 1, 1, 1).byte(), classes, ("class",))
    assert int(mnist.keep_labels(fraction=0.0022).labelled.sum()) == 132
    assert int(mnist.keep_labels(fraction=1.0).labelled.sum()) == 60_000
    assert int(mnist.keep_labels(fraction=0.0).labelled.sum()) == 0
    assert torch.equal(
        mnist.keep_labels(fraction=0.01, seed=2).labelled, mnist.keep_labels(600, seed=2).labelled
    )


def test_images_with_half_their_labels_are_unlabelled() -> None:
    labels = torch.tensor([[0.0, 1.0], [float("nan"), 1.0], [2.0, float("nan")], [1.0, 1.0]])
    several = LabelledImages(torch.zeros(4, 1, 1, 1).byte(), labels, ("a", "b"))
    assert several.labelled.tolist() == [True, False, False, True]
    kept = several.keep_labels(2, balanced=False)
    assert kept.labelled.tolist() == [True, False, False, True]
    assert bool(kept.labels[[1, 2]].isnan().all())


ROWS = LabelledImages(
    torch.zeros(4, 1, 1, 1).byte(), torch.tensor([[0.0], [1.0], [0.0], [float("nan")]]), ("class",)
)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ROWS.keep_labels(), "give count, how many labels are kept, or fraction: one of"),
        (lambda: ROWS.keep_labels(1, fraction=0.5), "or fraction: one of the two"),
        (lambda: ROWS.keep_labels(4), "4 labels are to be kept, but only 3 are there"),
        (lambda: ROWS.keep_labels(fraction=1.0), "4 labels are to be kept, but only 3 are there"),
        (lambda: ROWS.keep_labels(-1), "count is a whole number of at least 0, not -1"),
        (lambda: ROWS.keep_labels(1.5), "count is a whole number of at least 0, not 1.5"),  # type: ignore[arg-type]
        (lambda: ROWS.keep_labels(2.0), "count is a whole number of at least 0, not 2.0"),  # type: ignore[arg-type]
        (lambda: ROWS.keep_labels(fraction=1.1), "fraction is a share from 0 to 1, not 1.1"),
        (lambda: ROWS.keep_labels(fraction=-0.1), "fraction is a share from 0 to 1, not -0.1"),
        (
            lambda: LabelledImages(ROWS.images, ROWS.labels + 0.5, ("x",)).keep_labels(2),
            "balanced labels need one label of classes 0, 1, ...: give balanced=False",
        ),
        (
            lambda: data.load("faces", count=4, size=16).keep_labels(2),
            "balanced labels need one label of classes 0, 1, ...: give balanced=False",
        ),
    ],
)
def test_a_wrong_budget_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()


# --- Public data sets -----------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whatever asks for an address is refused; the addresses are noted."""
    asked: list[str] = []

    def refuse(request: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(getattr(request, "full_url", request))
        raise urllib.error.URLError("there is no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    return asked


PICTURES = {
    "train": (torch.arange(5 * 784) % 251).to(torch.uint8).view(5, 28, 28),
    "test": (torch.arange(3 * 784) % 241).to(torch.uint8).view(3, 28, 28),
}
ANSWERS = {"train": [7, 0, 9, 3, 3], "test": [1, 2, 8]}


def idx(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tiny files in MNIST's form, whose checksums torchvision is told; their names."""
    from torchvision import datasets

    kind = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}[name]
    folder.mkdir(parents=True, exist_ok=True)
    resources = []
    for split, prefix in (("train", "train"), ("test", "t10k")):
        pictures, answers = PICTURES[split].numpy(), np.array(ANSWERS[split], dtype=np.uint8)
        for what, array in (("images-idx3", pictures), ("labels-idx1", answers)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            packed = gzip.compress(header + array.tobytes(), mtime=0)
            archive = f"{prefix}-{what}-ubyte.gz"
            (folder / archive).write_bytes(packed)
            resources.append((archive, hashlib.md5(packed).hexdigest()))
    monkeypatch.setattr(kind, "resources", resources)
    return [archive for archive, _ in resources]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("below", ["", "raw"])
def test_idx_files_are_read_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str], name: str, below: str
) -> None:
    kind = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[name]
    archives = idx(name, tmp_path / (f"{kind}/raw" if below else ""), monkeypatch)
    monkeypatch.setattr(data.classes, "_INSTALLED", {})
    for _ in range(2):  # the second time from what the first has unpacked
        for split in ("train", "test"):
            loaded = data.load(name, split, root=tmp_path)
            assert torch.equal(loaded.images, PICTURES[split][:, None])
            assert loaded.labels.dtype == torch.float32
            assert loaded.labels[:, 0].tolist() == ANSWERS[split]
            assert loaded.names == ("class",)
            assert loaded.source == {"name": name, "split": split}  # and no path of this machine
        for archive in archives:
            for packed in list(tmp_path.rglob(archive)):
                packed.unlink()
    monkeypatch.setenv("LSCGAN_DATA", str(tmp_path))
    assert len(data.load(name)) == 5
    assert no_network == []


def test_files_of_a_system_package_are_found_though_packed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    installed = tmp_path / "usr"
    archives = idx("fashion-mnist", installed, monkeypatch)
    monkeypatch.setattr(data.classes, "_INSTALLED", {"fashion-mnist": installed})
    for archive in archives:
        (installed / archive).write_bytes(
            gzip.compress(gzip.decompress((installed / archive).read_bytes()), 1, mtime=77)
        )
    loaded = data.load("fashion-mnist", root=tmp_path / "mine")
    assert torch.equal(loaded.images, PICTURES["train"][:, None])
    assert sorted(p.name for p in installed.iterdir()) == sorted(archives)  # nothing is put there
    assert no_network == []


@pytest.mark.parametrize("damage", ["truncated", "altered"])
@pytest.mark.parametrize("number", range(4))
def test_a_damaged_archive_is_named_and_never_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, number: int
) -> None:
    archive = tmp_path / idx("mnist", tmp_path, monkeypatch)[number]
    packed = archive.read_bytes()
    spoilt = packed[:-9] if damage == "truncated" else packed[:12] + b"\0" + packed[13:]
    archive.write_bytes(spoilt)
    with pytest.raises(ValueError, match="is truncated or altered: its checksum is not") as refusal:
        data.load("mnist", root=tmp_path)
    assert str(archive) in str(refusal.value)
    assert "remove it and run again" in str(refusal.value)
    assert not (tmp_path / "MNIST" / "raw" / archive.stem).exists()


def test_a_half_unpacked_file_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt while a file is unpacked leaves half of it; the archive is whole."""
    archives = idx("mnist", tmp_path, monkeypatch)
    data.load("mnist", root=tmp_path)
    half = tmp_path / "MNIST" / "raw" / archives[0].removesuffix(".gz")
    half.write_bytes(half.read_bytes()[:1_000])
    with pytest.raises(ValueError, match=half.name):
        data.load("mnist", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "split", "files"),
    [
        ("mnist", "train", "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images"),
        ("fashion-mnist", "test", "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz"),
        ("svhn", "train", "train_32x32.mat"),
        ("svhn", "test", "test_32x32.mat"),
        ("cifar10", "train", "cifar-10-python.tar.gz"),
    ],
)
def test_what_is_nowhere_says_where_to_put_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_network: list[str],
    name: str,
    split: str,
    files: str,
) -> None:
    monkeypatch.setattr(data.classes, "_INSTALLED", {})
    sentence = f"{name} is not in {tmp_path} and could not be downloaded: put {files}"
    with pytest.raises(FileNotFoundError, match=re.escape(sentence)):
        data.load(name, split, root=tmp_path)
    assert no_network  # it was looked for


def test_svhn_from_a_file_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    """SVHN writes its noughts as tens, and its pictures last axis last."""
    from torchvision import datasets

    pictures = (np.arange(32 * 32 * 3 * 4) % 253).astype(np.uint8).reshape(32, 32, 3, 4)
    file = tmp_path / "test_32x32.mat"
    scipy.io.savemat(file, {"X": pictures, "y": np.array([[10], [1], [9], [10]], dtype=np.uint8)})
    checksum = hashlib.md5(file.read_bytes()).hexdigest()
    split_list = {**datasets.SVHN.split_list, "test": ["http://nowhere", file.name, checksum]}
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    loaded = data.load("svhn", "test", root=tmp_path)
    assert loaded.images.shape == (4, 3, 32, 32)
    for row, channel, y, x in ((0, 0, 0, 0), (3, 2, 31, 5), (1, 1, 7, 30)):
        assert int(loaded.images[row, channel, y, x]) == pictures[y, x, channel, row]
    assert loaded.labels[:, 0].tolist() == [0, 1, 9, 0]
    assert no_network == []


def test_a_damaged_file_of_svhn_is_not_called_missing(tmp_path: Path) -> None:
    """As MNIST's: the message names the file, which no one would look for otherwise."""
    file = tmp_path / "test_32x32.mat"
    file.write_bytes(b"half a download")
    with pytest.raises(ValueError, match=f"{file.name} is truncated or altered"):
        data.load("svhn", "test", root=tmp_path)


def test_cifar10_from_an_archive_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: list[str]
) -> None:
    from torchvision import datasets

    def file(name: str, content: Any) -> list[str]:
        path = tmp_path / name
        path.write_bytes(pickle.dumps(content))
        packed.add(path, f"cifar-10-batches-py/{name}")
        checksum = hashlib.md5(path.read_bytes()).hexdigest()
        path.unlink()
        return [name, checksum]

    pictures = (np.arange(3 * 3072) % 239).astype(np.uint8).reshape(3, 3072)
    archive = tmp_path / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        first = file("data_batch_1", {"data": pictures[:2], "labels": [6, 0]})
        second = file("data_batch_2", {"data": pictures[2:], "labels": [9]})
        last = file("test_batch", {"data": pictures[1:], "labels": [5, 4]})
        meta = file("batches.meta", {"label_names": list(CLASSES["cifar10"])})
    kind = datasets.CIFAR10
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(kind, "train_list", [first, second])
    monkeypatch.setattr(kind, "test_list", [last])
    monkeypatch.setattr(kind, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})
    for split, rows, answers in (("train", pictures, [6, 0, 9]), ("test", pictures[1:], [5, 4])):
        loaded = data.load("cifar10", split, root=tmp_path)
        expected = torch.from_numpy(rows.copy()).view(-1, 3, 32, 32)
        assert torch.equal(loaded.images, expected)
        assert loaded.labels[:, 0].tolist() == answers
    assert no_network == []


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: data.load("mnist", "validation"),
            "mnist has the splits train and test, not 'validation'",
        ),
        (
            lambda: data.load("digits", "training"),
            "there is no split 'training': there are train, validation, test",
        ),
        (
            lambda: data.load("digits", count=5),
            "the data set 'digits' has no option 'count': it has none",
        ),
        (
            lambda: data.load("cifar10", count=5),
            "the data set 'cifar10' has no option 'count': it has root",
        ),
        (
            lambda: data.load("MNIST"),
            "there are faces, digits, mnist, fashion-mnist, svhn, cifar10",
        ),
    ],
)
def test_a_wrong_data_set_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()


# --- The judge ------------------------------------------------------------------------------------


def stripes(count: int = 120) -> LabelledImages:
    """Three classes that anyone tells apart: a bright band at the left, the middle, the right."""
    classes = torch.arange(count) % 3
    images = torch.randint(0, 60, (count, 1, 8, 8), generator=seeded(1), dtype=torch.uint8)
    for row, one in enumerate(classes.tolist()):
        images[row, 0, :, 3 * one : 3 * one + 2] += 180
    return LabelledImages(images, classes.float()[:, None], ("class",))


def test_a_judge_learns_what_can_be_seen_and_loads_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = ClassJudge(3, size=8, width=4, moved=False)
    chosen = TrainingSettings(images=3_000, batch_size=30, log_every=3_000, device="cpu")
    run = train(judge, stripes(), chosen, tmp_path)
    images = stripes(300).float()
    logits = judge(images)
    assert logits.shape == (300, 3)
    assert logits.dtype == torch.float32
    assert class_accuracy(logits, stripes(300))[0] > 0.97
    assert torch.equal(judge.classify(images), logits.argmax(dim=1))
    features = judge.features(images)
    assert features.shape == (300, 128)
    assert torch.equal(judge.head(features), logits)
    loaded = lscgan.load(run.path)
    assert isinstance(loaded, ClassJudge)
    assert loaded.config() == judge.config()
    # Training lays weights out in another order in memory: equal but for rounding.
    torch.testing.assert_close(loaded(images), logits, rtol=1e-4, atol=1e-4)
    weights.save(judge, tmp_path / "m.safetensors")
    assert torch.equal(lscgan.load(tmp_path / "m.safetensors")(images), loaded(images))


def test_a_judges_loss_is_the_cross_entropy_of_the_class() -> None:
    torch.manual_seed(0)
    judge = ClassJudge(3, size=8, width=4, moved=False).eval()  # no dropout
    given_ = stripes(12)
    with torch.no_grad():
        log_q = judge(given_.float()).log_softmax(dim=1)
    expected = -sum(float(log_q[row, row % 3]) for row in range(12)) / 12
    terms = judge.training_step(given_.float(), given_.labels, judge.optimizers(1e-3))
    assert terms.keys() == {"loss"}
    assert float(terms["loss"]) == pytest.approx(expected, rel=1e-5)
    assert not terms["loss"].requires_grad


def test_training_images_are_moved_by_whole_pixels_edges_repeated() -> None:
    torch.manual_seed(0)
    assert MOVED == 2
    image = torch.arange(64.0).view(1, 1, 8, 8)
    padded = np.pad(image[0, 0].numpy(), 2, mode="edge")
    windows = {
        padded[y : y + 8, x : x + 8].tobytes(): (y - 2, x - 2)
        for y, x in itertools.product(range(5), range(5))
    }
    many = image.expand(1_000, -1, -1, -1)
    seen = Counter(windows[i[0].numpy().tobytes()] for i in translate(many, MOVED, "replicate"))
    assert len(seen) == 25
    assert max(seen.values()) < 80  # 40 each on average


def seen_in_training(
    judge: ClassJudge, data: LabelledImages, monkeypatch: pytest.MonkeyPatch
) -> Tensor:
    """What the judge's networks see of the images in one training step."""
    seen: list[Tensor] = []
    forward = judge.forward

    def spy(images: Tensor) -> Tensor:
        seen.append(images)
        return forward(images)

    monkeypatch.setattr(judge, "forward", spy)
    judge.training_step(data.float(), data.labels, judge.optimizers(1e-3))
    return seen[0]


@pytest.mark.parametrize("chosen", [True, False])
def test_a_judge_moves_images_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, chosen: bool
) -> None:
    judge = ClassJudge(3, size=8, width=2, moved=chosen)
    given_ = stripes(12)
    seen = seen_in_training(judge, given_, monkeypatch)
    assert torch.equal(seen, given_.float()) != chosen


def test_a_judge_mirrors_every_other_image_where_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    judge = ClassJudge(3, size=8, width=2, moved=False, mirrored=True)
    given_ = stripes(300)
    images, seen = given_.float(), seen_in_training(judge, given_, monkeypatch)
    as_they_were = (seen == images).flatten(1).all(dim=1)
    mirrored = (seen == images.flip(3)).flatten(1).all(dim=1)
    assert bool((as_they_were ^ mirrored).all())
    assert 100 < int(mirrored.sum()) < 200  # 150 on average
    judge.eval()
    assert judge(images).equal(judge(images))  # reading mirrors nothing


@pytest.mark.parametrize(("stages", "convolutions"), [(1, 1), (2, 1), (3, 2)])
def test_a_judge_has_as_many_layers_as_asked_for(
    tmp_path: Path, stages: int, convolutions: int
) -> None:
    judge = ClassJudge(4, 16, 3, 5, stages=stages, convolutions=convolutions)
    widths = [5 * 2**stage for stage in range(stages) for _ in range(convolutions)]
    layers = [layer for layer in judge.body if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == widths
    assert [layer.in_channels for layer in layers] == [3, *widths[:-1]]
    # 3x3 kernels and biases, a scale and a shift each; two dense layers, normalised between.
    convolved = sum(9 * a * b + 3 * b for a, b in itertools.pairwise([3, *widths]))
    left = widths[-1] * (16 // 2**stages) ** 2
    dense = 128 * left + 128 + 2 * 128 + 4 * 128 + 4
    assert sum(p.numel() for p in judge.parameters()) == convolved + dense
    weights.save(judge, tmp_path / "judge.safetensors")
    judge.eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(lscgan.load(tmp_path / "judge.safetensors")(images), judge(images))


def test_accuracy_counts_the_largest_logits() -> None:
    logits = torch.tensor([[2.0, 1.0], [0.0, 3.0], [0.0, 3.0], [5.0, 4.0]])
    labels = torch.tensor([[0.0], [1.0], [0.0], [0.0]])
    share, low, high = class_accuracy(
        logits, LabelledImages(torch.zeros(4, 1, 1, 1).byte(), labels, ("class",))
    )
    assert share == 0.75
    # Wilson's interval, from its quadratic: |p - 3/4| = z sqrt(p (1 - p) / 4).
    for end in (low, high):
        assert abs(end - 0.75) == pytest.approx(1.959964 * math.sqrt(end * (1 - end) / 4), rel=1e-5)
    assert low < 0.75 < high


def without_labels(real: LabelledImages, rows: Any) -> LabelledImages:
    labels = real.labels.clone()
    labels[rows] = math.nan
    return LabelledImages(real.images, labels, real.names)


def test_images_whose_class_is_not_known_are_neither_right_nor_wrong() -> None:
    some = without_labels(stripes(30), slice(10))
    logits = torch.eye(3)[stripes(30).labels[:, 0].long()]
    logits[:11] = torch.tensor([[0.0, 0.0, 9.0]])  # of 0-9 nobody asks; 10 is wrong
    share, *_ = class_accuracy(logits, some)
    assert share == 19 / 20
    with pytest.raises(ValueError, match="no image's class is known here"):
        class_accuracy(logits, without_labels(some, slice(None)))


def test_a_judge_of_classes_says_that_it_needs_labels(tmp_path: Path) -> None:
    some = without_labels(stripes(30), [4])
    chosen = TrainingSettings(images=30, batch_size=30, device="cpu")
    with pytest.raises(ValueError, match=r"class is known: give it data.select\(data.labelled"):
        train(ClassJudge(3, size=8, width=4), some, chosen, tmp_path / "run")
    run = train(
        ClassJudge(3, size=8, width=4),
        some.select(some.labelled),
        TrainingSettings(images=29, batch_size=29, device="cpu"),
        tmp_path / "known",
    )
    assert run.complete


def test_a_judge_of_classes_refuses_pixels_that_are_bytes() -> None:
    judge = ClassJudge(3, size=8, width=4).eval()
    for read in (judge, judge.classify, judge.features):
        with pytest.raises(ValueError, match=r"this judge takes pixels .*, not torch.uint8: give"):
            read(stripes(4).images)
        with pytest.raises(ValueError, match=r"this judge takes pixels .*, and these run from"):
            read(stripes(4).images.float())


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: ClassJudge(10, size=30), "images are a multiple of 4 pixels wide, not 30"),
        (lambda: ClassJudge(10, size=0), "images are a multiple of 4 pixels wide, not 0"),
        (lambda: ClassJudge(10, size=20, stages=3), "a multiple of 8 pixels wide, not 20"),
        (lambda: ClassJudge(10, stages=0), "at least 1 stage of 1 convolution, not 0 of 1"),
        (lambda: ClassJudge(10, convolutions=0), "at least 1 stage of 1 convolution, not 2 of 0"),
        (lambda: ClassJudge(1), "there are at least 2 classes, not 1"),
        (
            lambda: ClassJudge(10, width=2)(torch.zeros(2, 3, 28, 28)),
            "this judge takes images of shape (B, 1, 28, 28), not (2, 3, 28, 28)",
        ),
        (
            lambda: ClassJudge(10, width=2).classify(torch.zeros(28, 28)),
            "this judge takes images of shape (B, 1, 28, 28), not (28, 28)",
        ),
    ],
)
def test_a_wrong_judge_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()


# --- Control of classes ---------------------------------------------------------------------------


class Drawn:
    """A "model" whose images are given as a function of z by part."""

    def __init__(self, design: LatentDesign, draw: Any) -> None:
        self.design, self.draw = design, draw

    def decode(self, z: Tensor) -> Tensor:
        images: Tensor = self.draw(self.design.split(z))
        return images


class Reader:
    """A "judge" that reads the class off the first pixel; its features are the pixels."""

    def classify(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, 0].round().long()

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def one_pixel(values: Tensor) -> Tensor:
    return values.float().view(-1, 1, 1, 1)


CODE = LatentDesign.infogan((4,), 1, 2)


@unhurried
@given(st.permutations(range(4)))
def test_a_code_that_means_a_permutation_of_classes(order: list[int]) -> None:
    model = Drawn(CODE, lambda z: one_pixel(torch.tensor(order)[z["categorical_1"].argmax(1)]))
    report = class_control(model, Reader(), per_class=3, generator=seeded())
    assert report.code == "categorical_1"
    for value, row in enumerate(report.counts):
        assert row == tuple(3 * int(one == order[value]) for one in range(4))
    assert report.mapping == list(order)
    assert report.matched[0] == 1.0
    right = sum(value == one for value, one in enumerate(order))
    assert report.accuracy[0] == right / 4


def test_other_codes_are_drawn_at_random_and_a_generator_decides_them() -> None:
    """The class that is seen is that of the second code: chance, but for its own report."""
    design = LatentDesign.infogan((2, 3), 0, 2)
    model = Drawn(design, lambda z: one_pixel(z["categorical_2"].argmax(1)))
    named = class_control(model, Reader(), 50, seeded(), code="categorical_2")
    assert named.counts == ((50, 0, 0), (0, 50, 0), (0, 0, 50))
    two = Drawn(design, lambda z: one_pixel(z["categorical_2"].argmax(1) % 2))
    found = [class_control(two, Reader(), 300, seeded(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]
    assert found[0].accuracy[0] == pytest.approx(0.5, abs=0.1)
    assert sum(map(sum, found[0].counts)) == 600


@unhurried
@given(st.integers(2, 5), st.integers(0, 9_999))
def test_the_matching_is_the_best_of_all_permutations(classes: int, seed: int) -> None:
    counts = torch.randint(0, 9, (classes, classes), generator=seeded(seed))
    counts[:, 0] += 1  # no row is empty
    report = ClassReport("c", tuple(tuple(row) for row in counts.tolist()))
    best = max(
        sum(int(counts[value, one]) for value, one in enumerate(order))
        for order in itertools.permutations(range(classes))
    )
    total = int(counts.sum())
    assert sorted(report.mapping) == list(range(classes))
    assert sum(int(counts[v, one]) for v, one in enumerate(report.mapping)) == best
    assert report.matched[0] == pytest.approx(best / total)
    assert report.accuracy[0] == pytest.approx(int(counts.diagonal().sum()) / total)
    assert report.accuracy[0] <= report.matched[0]
    found = json.loads(json.dumps(report.to_dict()))
    assert found["counts"] == counts.tolist()
    assert found["mapping"] == report.mapping
    assert found["matched"] == pytest.approx(list(report.matched))


def test_a_greedy_matching_is_not_good_enough() -> None:
    """The largest count first gives 10 + 0; the best gives 9 + 9."""
    report = ClassReport("c", ((10, 9), (9, 0)))
    assert report.mapping == [1, 0]
    assert report.matched[0] == pytest.approx(18 / 28)


@pytest.mark.parametrize("measure", [class_control, class_fidelity])
@pytest.mark.parametrize(
    ("design", "code", "sentence"),
    [
        (CODE, "class", "this design has no categorical code 'class': it has categorical_1"),
        (CODE, "continuous_1", "no categorical code 'continuous_1': it has categorical_1"),
        (LatentDesign.infogan((), 1, 2), None, "no categorical code None: it has none"),
    ],
)
def test_a_code_that_is_not_there_is_refused(
    measure: Any, design: LatentDesign, code: str | None, sentence: str
) -> None:
    model = Drawn(design, lambda z: one_pixel(z["free"][:, 0]))
    given_ = (50,) if measure is class_control else (stripes(),)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        measure(model, Reader(), *given_, code=code)


# --- Fidelity of classes --------------------------------------------------------------------------


def spread(count: int = 400, seed: int = 5) -> LabelledImages:
    """Four classes of 2x2 pictures: each a level of its own, and noise around it."""
    classes = torch.arange(count) % 4
    noise = torch.randint(-20, 21, (count, 1, 2, 2), generator=seeded(seed))
    images = (40 + 50 * classes[:, None, None, None] + noise).byte()
    return LabelledImages(images, classes.float()[:, None], ("class",))


class Repeats:
    """A "model" that draws given pictures of each class in turn; 0 noise gives each once."""

    design = CODE

    def __init__(self, given: LabelledImages, order: list[int] | None = None) -> None:
        order = [0, 1, 2, 3] if order is None else order
        self.pictures = [given.float()[given.labels[:, 0] == one] for one in order]
        self.next = [0, 0, 0, 0]

    def decode(self, z: Tensor) -> Tensor:
        images = []
        for value in z[:, :4].argmax(dim=1).tolist():
            own = self.pictures[value]
            images.append(own[self.next[value] % len(own)])
            self.next[value] += 1
        return torch.stack(images)


def test_real_images_against_themselves_are_as_varied_and_as_far() -> None:
    real = spread()
    found = class_fidelity(Repeats(real), Reader(), real, seeded())
    assert found.count == 400
    assert found.diversity == pytest.approx(1.0, abs=1e-4)
    assert found.frechet == pytest.approx(0.0, abs=1e-4)
    assert found.nearness is None
    other = class_fidelity(Repeats(spread(seed=6)), Reader(), real, seeded(), kept=spread(40, 7))
    assert other.diversity == pytest.approx(1.0, abs=0.15)
    assert other.nearness == pytest.approx(1.0, abs=0.15)


def test_one_prototype_a_class_has_no_diversity() -> None:
    real = spread()
    prototypes = LabelledImages(real.images[:4], real.labels[:4], real.names)
    found = class_fidelity(Repeats(prototypes), Reader(), real, seeded())
    assert found.diversity == pytest.approx(0.0, abs=1e-6)
    assert found.frechet > 0.001


def test_half_the_spread_is_a_quarter_of_the_variance() -> None:
    real = spread()
    base = 40 + 50 * real.labels.long()[:, :, None, None]
    pictures = (base + 10 + ((real.images.long() - base) * 0.5)).round().byte()
    near = LabelledImages(pictures, real.labels, real.names)
    assert class_fidelity(Repeats(near), Reader(), real, seeded()).diversity == pytest.approx(
        0.25, abs=0.01
    )


def test_copies_of_the_labelled_images_are_found_out() -> None:
    real, known = spread(), spread(40, seed=7)
    copied = class_fidelity(Repeats(known), Reader(), real, seeded(), kept=known)
    assert copied.nearness == pytest.approx(0.0, abs=0.02)
    found = json.loads(json.dumps(copied.to_dict()))
    assert found.keys() == {"count", "frechet", "diversity", "nearness"}
    assert found["nearness"] == copied.nearness


def test_nearness_is_a_ratio_of_median_distances_by_hand() -> None:
    real, known, drawn = spread(40), spread(12, 7), spread(40, 6)

    def nearest(images: Tensor) -> float:
        distances = [
            min(math.dist(i.flatten().tolist(), k.flatten().tolist()) for k in known.float())
            for i in images
        ]
        return sorted(distances)[(len(distances) - 1) // 2]  # torch's median is the lower one

    found = class_fidelity(Repeats(drawn), Reader(), real, seeded(), kept=known)
    expected = nearest(drawn.float()) / nearest(real.float())
    assert found.nearness == pytest.approx(expected, rel=1e-3)


def test_real_images_without_a_class_are_left_out() -> None:
    real, known = spread(), spread(40, seed=7)
    some, few = without_labels(real, slice(100)), without_labels(known, slice(20))
    found = class_fidelity(Repeats(real), Reader(), some, seeded(), kept=few)
    kept = known.select(slice(20, None))
    assert found == class_fidelity(
        Repeats(real), Reader(), real.select(slice(100, None)), seeded(), kept=kept
    )
    assert found.count == 300
    nothing = without_labels(known, slice(None))
    assert class_fidelity(Repeats(real), Reader(), some, seeded(), kept=nothing).nearness is None


@pytest.mark.parametrize("left", [0, 1])
def test_a_class_without_real_images_has_no_part_in_the_diversity(left: int) -> None:
    real = spread()
    rows = torch.arange(400)
    lacking = real.select((rows % 4 != 3) | (rows < 4 * left))
    found = class_fidelity(Repeats(real), Reader(), lacking, seeded())
    assert found.diversity == pytest.approx(1.0, abs=0.05)
    assert math.isfinite(found.frechet)


def test_too_few_real_images_are_refused() -> None:
    few = without_labels(spread(12), slice(5))
    with pytest.raises(ValueError, match="7 real images of a known class are too few for 4"):
        class_fidelity(Repeats(spread()), Reader(), few, seeded())


def test_unlabelled_codes_are_compared_with_the_classes_they_are_matched_with() -> None:
    """Classes differ in spread: only the right mapping gives 1 in each."""
    real = spread()
    scale = torch.tensor([1.0, 0.75, 0.5, 0.25])[real.labels.long()[:, 0]]
    images = (real.images.float() * scale[:, None, None, None]).round().byte()
    uneven = LabelledImages(images, real.labels, real.names)
    model, order = Repeats(uneven, [2, 0, 3, 1]), [2, 0, 3, 1]
    right = class_fidelity(model, Reader(), uneven, seeded(), mapping=order)
    assert right.diversity == pytest.approx(1.0, abs=1e-4)
    assert class_fidelity(model, Reader(), uneven, seeded()).diversity > 1.5


# --- Visible factors ------------------------------------------------------------------------------


FINE = 8
"""Points a pixel, in each direction, from which a bar's brightness is averaged."""


def bar(slant: float, width: float, length: float, size: int = 40) -> Tensor:
    """A bright bar on dark: ``length`` high, ``width`` wide, leaning right by ``slant``: (H, W)."""
    points = (torch.arange(size * FINE, dtype=torch.float64) + 0.5) / FINE - size / 2
    y, x = points[:, None], points[None, :]
    inside = (y.abs() < length / 2) & ((x + slant * y).abs() < width / 2)
    return inside.double().view(size, FINE, size, FINE).mean(dim=(1, 3)).float()


@unhurried
@given(st.floats(-0.6, 0.6), st.floats(2, 6), st.floats(12, 24))
def test_slant_and_size_of_a_bar_are_its_moments(slant: float, width: float, length: float) -> None:
    """A sheared bar of height L: var(y) = L^2 / 12, and var(x) = s^2 L^2 / 12 + w^2 / 12."""
    found = stroke_factors(bar(slant, width, length)[None, None])[0]
    assert float(found[0]) == pytest.approx(slant, abs=0.02)
    size = math.sqrt((length**2 + slant**2 * length**2 + width**2) / 12)
    assert float(found[2]) == pytest.approx(size, rel=0.02)


# Below two pixels across, central differences blur the two sides into one another.
@pytest.mark.parametrize(
    ("slant", "width"),
    [(0.0, 2.0), *itertools.product((-0.5, 0.0, 0.5), (3.0, 4.0, 6.0))],
)
def test_the_width_of_a_long_bar(slant: float, width: float) -> None:
    """Twice the area over the outline: w / sqrt(1 + s^2) across, less what the two ends add."""
    length = 32.0
    found = float(stroke_factors(bar(slant, width, length)[None, None])[0, 1])
    side = length * math.sqrt(1 + slant**2)
    expected = 2 * width * length / (2 * side + 2 * width)
    assert found == pytest.approx(expected, rel=0.06)


def test_factors_do_not_depend_on_place_or_brightness() -> None:
    image = bar(0.3, 3, 16)[None, None]
    found = stroke_factors(image)
    assert found.shape == (1, 3)
    assert FACTORS == ("slant", "stroke width", "size")
    for other in (image.roll((5, -3), dims=(2, 3)), 0.5 * image, image.expand(-1, 3, -1, -1)):
        torch.testing.assert_close(stroke_factors(other), found, rtol=1e-4, atol=1e-4)
    # A mirror turns the slant and nothing else.
    torch.testing.assert_close(
        stroke_factors(image.flip(3)), found * torch.tensor([-1.0, 1.0, 1.0]), rtol=1e-4, atol=1e-4
    )
    assert bool(stroke_factors(torch.zeros(2, 1, 8, 8)).isfinite().all())


def test_a_one_that_leans_to_the_right_has_a_positive_slant() -> None:
    """Drawn in letters: the top is further right than the bottom."""
    rows = ["....#", "...#.", "..#..", ".#...", "#...."]
    image = torch.tensor([[float(c == "#") for c in row] for row in rows])[None, None]
    assert float(stroke_factors(image)[0, 0]) == pytest.approx(1.0)


BARS = LatentDesign.infogan((2,), 3, 2)


def bars(z: dict[str, Tensor]) -> Tensor:
    """The first code is the slant, the second the width; class 1 is smaller, the third is idle."""
    images = [
        bar(0.5 * slant, 4 + width, 12 if second else 20, size=32)
        for slant, width, second in zip(
            z["continuous_1"][:, 0].tolist(),
            z["continuous_2"][:, 0].tolist(),
            z["categorical_1"][:, 1].tolist(),
            strict=True,
        )
    ]
    return torch.stack(images)[:, None]


class Sizes:
    """A "judge" that calls what is small class 1; with ``leaning``, what leans to the right."""

    def __init__(self, leaning: bool = False) -> None:
        self.leaning = leaning

    def classify(self, images: Tensor) -> Tensor:
        factors = stroke_factors(images)
        return (factors[:, 0] > 0).long() if self.leaning else (factors[:, 2] < 5).long()

    def features(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_each_code_is_found_to_be_the_factor_that_it_is() -> None:
    reports = code_reports(Drawn(BARS, bars), Sizes(), 240, seeded())
    assert [report.code for report in reports] == [f"continuous_{i}" for i in (1, 2, 3)]
    slant, width, idle = reports
    assert slant.best[0] == "slant"
    assert slant.correlations["slant"] > 0.99
    assert width.best[0] == "stroke width"
    assert width.correlations["stroke width"] > 0.95
    assert abs(width.correlations["slant"]) < 0.2
    assert all(abs(r) < 0.2 for r in idle.correlations.values())
    assert [report.class_kept for report in reports] == [1.0, 1.0, 1.0]
    assert json.loads(json.dumps(slant.to_dict()))["best"] == list(slant.best)


def test_a_code_that_turns_the_class_over_is_found_out() -> None:
    slant, width, _ = code_reports(Drawn(BARS, bars), Sizes(leaning=True), 100, seeded())
    assert slant.class_kept == 0.0
    assert width.class_kept > 0.9  # the slant's sign stays


def test_factors_are_compared_within_classes() -> None:
    """Size differs by class alone and noise: between classes it would drown what the code does."""
    design = LatentDesign.infogan((2,), 1, 2)

    def draw(z: dict[str, Tensor]) -> Tensor:
        longer = 14 + z["continuous_1"][:, 0] + 12 * z["categorical_1"][:, 1]
        return torch.stack([bar(0, 4, float(length), 32) for length in longer])[:, None]

    (report,) = code_reports(Drawn(design, draw), Sizes(), 200, seeded())
    assert report.best[0] == "size"
    assert report.correlations["size"] > 0.95


def test_the_clearest_factor_may_be_a_negative_one() -> None:
    report = CodeReport("c", {"slant": 0.2, "stroke width": -0.9, "size": 0.5}, 1.0)
    assert report.best == ("stroke width", -0.9)


def test_a_factor_that_never_changes_has_no_correlation() -> None:
    design = LatentDesign.infogan((), 1, 2)
    still = Drawn(design, lambda z: bar(0, 4, 16, 32).expand(len(z["free"]), 1, -1, -1))
    (report,) = code_reports(still, Sizes(), 40, seeded())
    assert all(math.isfinite(r) for r in report.correlations.values())
    assert report.class_kept == 1.0
