"""Labelled images, and the data sets that come by name."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
import torch

from lscgan import data
from lscgan.data import LabelledImages, faces


def numbered(count: int = 6) -> LabelledImages:
    """Tiny images whose pixels and labels say which row they are."""
    index = torch.arange(count)
    images = index.to(torch.uint8)[:, None, None, None].expand(-1, 3, 2, 2).clone()
    labels = torch.stack([index.float(), index.float() % 2], dim=1)
    return LabelledImages(images, labels, ("row", "odd"), {"name": "numbered"})


# --- Labelled images ------------------------------------------------------------------------------


def test_bytes_become_shares_of_255() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    floats = LabelledImages(images, torch.zeros(3, 0), ()).float()
    assert floats.dtype == torch.float32
    assert floats.flatten().tolist() == pytest.approx([0.0, 0.2, 1.0])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 5, 2), [1, 3]),
        (torch.tensor([4, 0, 4]), [4, 0, 4]),
        (torch.tensor([True, False, False, True, False, True]), [0, 3, 5]),
        (slice(0, 0), []),
    ],
)
def test_select_takes_images_and_labels_together(index: Any, rows: list[int]) -> None:
    chosen = numbered().select(index)
    assert len(chosen) == len(rows)
    assert chosen.images[:, 0, 0, 0].tolist() == rows
    assert chosen.column("row").tolist() == rows
    assert chosen.column("odd").tolist() == [row % 2 for row in rows]
    assert (chosen.names, chosen.source) == (("row", "odd"), {"name": "numbered"})


def test_shuffled_labels_deal_whole_rows_to_the_same_images() -> None:
    original = numbered(50)
    images, labels = original.images.clone(), original.labels.clone()
    shuffled = original.shuffled_labels(3)
    assert torch.equal(shuffled.images, images)
    rows = shuffled.column("row")
    assert not torch.equal(rows, original.column("row"))
    assert sorted(rows.tolist()) == list(range(50))  # each row is dealt once
    assert torch.equal(shuffled.column("odd"), rows % 2)  # and stays whole
    assert float((rows == torch.arange(50)).float().mean()) < 0.2  # one in 50 stays by chance
    assert torch.equal(shuffled.labels, original.shuffled_labels(3).labels)
    assert not torch.equal(shuffled.labels, original.shuffled_labels(4).labels)
    assert shuffled.names == original.names
    # The record says so; the original is as it was.
    assert shuffled.source == {"name": "numbered", "labels_shuffled_with_seed": 3}
    assert original.source == {"name": "numbered"}
    assert torch.equal(original.labels, labels)


IMAGES, LABELS = torch.zeros(4, 3, 2, 2, dtype=torch.uint8), torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: LabelledImages(IMAGES.float(), LABELS, ("a", "b")),
            "images are uint8 of shape (N, C, H, W), not torch.float32 (4, 3, 2, 2)",
        ),
        (lambda: LabelledImages(IMAGES[0], LABELS, ("a", "b")), "not torch.uint8 (3, 2, 2)"),
        (
            lambda: LabelledImages(IMAGES, LABELS[:3], ("a", "b")),
            "4 images with 2 names need labels of shape (4, 2), not (3, 2)",
        ),
        (lambda: LabelledImages(IMAGES, LABELS, ("a",)), "need labels of shape (4, 1), not (4, 2)"),
        (lambda: LabelledImages(IMAGES, LABELS.long(), ("a", "b")), "labels are float32"),
        (lambda: LabelledImages(IMAGES, LABELS, ("a", "a")), "a label's name is repeated: a, a"),
        (lambda: numbered().column("even"), "there is no label 'even': there are row, odd"),
        (lambda: data.load("Faces"), "there is no data set 'Faces': there are faces"),
        (
            lambda: data.load("faces", "training"),
            "there is no split 'training': there are train, validation, test",
        ),
        (
            lambda: data.load("faces", number=3),
            "the data set 'faces' has no option 'number': it has amounts, count, curvature, gap, "
            "names, size",
        ),
        (lambda: data.load("faces", count=2, names=("Smile",)), "unknown label 'Smile'"),
        (lambda: data.load("faces", count=-1), "count"),
    ],
)
def test_wrong_data_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()


# --- Faces by name --------------------------------------------------------------------------------


def test_faces_are_those_of_the_renderer_in_bytes() -> None:
    loaded = data.load("faces", "validation", count=5, size=32)
    factors = faces.sample_factors(
        5, torch.Generator().manual_seed(data.sources.SPLITS["validation"])
    )
    pictures = faces.render(factors, 32).numpy().astype(np.float64)
    assert np.array_equal(loaded.images.numpy(), np.rint(pictures * 255).astype(np.uint8))
    assert torch.equal(loaded.labels, factors.labels())
    assert loaded.names == faces.ATTRIBUTES
    json.dumps(loaded.source, allow_nan=False)


def test_a_long_data_set_is_drawn_in_pieces_without_a_seam() -> None:
    """520 faces are drawn as 512 and 8: labels and pictures still belong together."""
    loaded = data.load("faces", count=520, size=16)
    factors = faces.sample_factors(520, torch.Generator().manual_seed(1))
    last = (faces.render(factors[slice(510, 520)], 16) * 255).round().byte()
    assert torch.equal(loaded.images[510:], last)


def test_the_same_call_gives_the_same_faces_and_splits_differ() -> None:
    splits = {name: data.load("faces", name, count=8, size=16) for name in data.sources.SPLITS}
    for name, split in splits.items():
        assert torch.equal(split.images, data.load("faces", name, count=8, size=16).images)
        assert len(split) == 8
    flat = torch.cat([split.images.flatten(1) for split in splits.values()])
    assert len(flat.unique(dim=0)) == 24


def test_amounts_label_a_smile_with_its_curvature_and_nothing_else_changes() -> None:
    said, amounts = (data.load("faces", count=40, size=16, amounts=a) for a in (False, True))
    exact = data.load("faces", count=40, size=16, names=("curvature",))
    assert torch.equal(amounts.column("Smiling"), exact.column("curvature"))
    assert torch.equal(amounts.column("Smiling") > 0.5, said.column("Smiling") > 0.5)
    assert amounts.names == said.names
    assert torch.equal(amounts.images, said.images)
    assert torch.equal(amounts.labels[:, 1:], said.labels[:, 1:])
    assert (said.source["amounts"], amounts.source["amounts"]) == (False, True)


def test_the_exact_curvature_may_be_asked_for_and_training_faces_never_frown() -> None:
    train = data.load("faces", count=300, size=16, names=("Smiling", "curvature"))
    curvature = train.column("curvature")
    assert float(curvature.min()) >= 0
    assert float(curvature.max()) <= 1
    assert not ((curvature > 0.3) & (curvature < 0.6)).any()
    assert torch.equal(train.column("Smiling"), (curvature > 0.425).float())
    judges = data.load(
        "faces", count=300, size=16, names=("curvature",), curvature=(-1.0, 1.0), gap=None
    )
    assert float(judges.labels.min()) < -0.9
    assert judges.source["gap"] is None


def test_no_labels_at_all_may_be_asked_for() -> None:
    assert data.load("faces", count=2, size=16, names=()).labels.shape == (2, 0)
