"""Fidelity: distances and shares against scipy and loops, on sets of pictures told apart."""

from __future__ import annotations

import itertools
import json
import re
from functools import lru_cache
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, ndimage
from torch import Tensor

from lscgan import data
from lscgan.data import LabelledImages
from lscgan.evaluation import FaceJudge, FidelityReport, fidelity
from lscgan.evaluation.fidelity import compare, fine_structure, frechet_distance
from lscgan.evaluation.judge import blur
from lscgan.latent import LatentDesign
from lscgan.models import LSCVAE

unhurried = settings(deadline=None, max_examples=25)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Glance:
    """A judge of six features: the mean of each half of the picture, by colour."""

    names = ("Smiling",)

    def features(self, images: Tensor) -> Tensor:
        halves = [
            images[:, :, :, : images.shape[-1] // 2],
            images[:, :, :, images.shape[-1] // 2 :],
        ]
        return torch.cat([half.mean(dim=(2, 3)) for half in halves], dim=1)


GLANCE = cast(FaceJudge, Glance())


@lru_cache
def faces(size: int = 32) -> Tensor:
    return data.load("faces", count=300, size=size).float()


def report(generated: Tensor, real: Tensor) -> FidelityReport:
    return compare(generated, real, GLANCE)


# --- Frechet distance -----------------------------------------------------------------------------


def frechet_by_scipy(features: np.ndarray, others: np.ndarray) -> float:
    first, second = np.cov(features, rowvar=False), np.cov(others, rowvar=False)
    root = linalg.sqrtm(first @ second)
    apart = features.mean(axis=0) - others.mean(axis=0)
    return float(apart @ apart + np.trace(first + second - 2 * np.real(root)))


def correlated(count: int, size: int, seed: int) -> Tensor:
    chance = seeded(seed)
    mixed = torch.randn(size, size, generator=chance).double()
    shift = torch.randn(size, generator=chance).double()
    return torch.randn(count, size, generator=chance).double() @ mixed + shift


@unhurried
@given(st.integers(2, 8), st.integers(0, 10_000))
def test_frechet_distance_equals_scipys_matrix_root(size: int, seed: int) -> None:
    one, other = correlated(40, size, seed), correlated(55, size, seed + 1)
    expected = frechet_by_scipy(one.numpy(), other.numpy())
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(one.float(), other.float()) == pytest.approx(expected, rel=1e-3)


@unhurried
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.1, 4))
def test_frechet_distance_in_closed_form(seed: int, shift: float, scale: float) -> None:
    """Equal covariances: the means' squared distance. One s^2 times the other: (1 - s)^2 tr S."""
    features = correlated(60, 5, seed)
    squared = 5 * shift**2
    assert frechet_distance(features, features + shift) == pytest.approx(squared, abs=1e-6)
    centred = features - features.mean(dim=0)
    trace = float(centred.var(dim=0).sum())
    expected = (1 - scale) ** 2 * trace
    assert frechet_distance(centred, scale * centred) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_frechet_distance_is_never_negative_even_for_a_flat_covariance() -> None:
    features = correlated(50, 3, 0)
    flat = torch.cat([features, features], dim=1)  # six dimensions, of rank three
    assert 0 <= frechet_distance(flat, flat) < 1e-5
    assert 0 <= frechet_distance(flat, flat[torch.randperm(50, generator=seeded())]) < 1e-5


# --- The report by hand ---------------------------------------------------------------------------


def nearest(one: np.ndarray, other: np.ndarray) -> float:
    """Share of ``one`` within a row of ``other``'s distance to its third neighbour, by loops."""
    radius = []
    for row in other:
        distances = sorted(float(np.linalg.norm(row - o)) for o in other)
        radius.append(distances[3])  # distances[0] is to itself
    inside = [
        any(np.linalg.norm(row - o) <= r for o, r in zip(other, radius, strict=True)) for row in one
    ]
    return float(np.mean(inside))


def fine_by_scipy(images: Tensor) -> np.ndarray:
    pictures = images.double().numpy()
    smooth = ndimage.gaussian_filter(pictures, (0, 0, 1, 1), mode="nearest", radius=(0, 0, 3, 3))
    return np.asarray(pictures - smooth)


@pytest.mark.parametrize("size", [32, 64])
def test_a_report_equals_scipy_and_loops(size: int) -> None:
    real = faces(size)[:150]
    rough = 0.05 * torch.randn(real.shape, generator=seeded())
    generated = (blur(faces(size)[150:], 0.7) + rough).clamp(0, 1)
    found = report(generated, real)
    assert found.count == 150

    features = [GLANCE.features(p).double().numpy() for p in (generated, real)]
    assert found.frechet == pytest.approx(frechet_by_scipy(*features), rel=1e-3)
    assert found.precision == pytest.approx(nearest(features[0], features[1]), abs=0.011)
    assert found.recall == pytest.approx(nearest(features[1], features[0]), abs=0.011)

    fine = [fine_by_scipy(p) for p in (generated, real)]
    starts = (0, 8, 16, 24) if size == 32 else (0, 18, 36, 54)
    patches = [
        np.concatenate(
            [f[:, :, y : y + 8, x : x + 8].reshape(150, -1) for y in starts for x in starts]
        )
        for f in fine
    ]
    assert patches[0].shape == (150 * 16, 192)
    assert found.patch_frechet == pytest.approx(1e4 * frechet_by_scipy(*patches), rel=1e-3)

    corner = {32: 5, 64: 11}[size]  # a sixth of the side
    speckle = [
        np.mean(
            [np.concatenate([g[:, :corner, :corner], g[:, :corner, -corner:]]).std() for g in f]
        )
        for f in fine
    ]
    assert found.speckle == pytest.approx(speckle[0] / speckle[1], rel=1e-2)

    sharpness = []
    for pictures in (generated, real):
        grey = pictures.double().numpy().mean(axis=1)
        laplacian = np.stack([ndimage.laplace(picture)[1:-1, 1:-1] for picture in grey])
        sharpness.append((laplacian**2).mean())
    assert found.sharpness == pytest.approx(sharpness[0] / sharpness[1], rel=1e-3)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_dict()["speckle"] == found.speckle


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_fine_structure_is_what_a_blur_takes_away(sigma: float) -> None:
    images = blur(faces()[:10], sigma)
    fine = fine_structure(images)
    assert np.abs(fine.numpy() - fine_by_scipy(images)).max() < 1e-5
    assert float(fine_structure(torch.full((1, 3, 16, 16), 0.7)).abs().max()) < 1e-6


# --- What each measure sees -----------------------------------------------------------------------


def test_identical_sets_are_at_no_distance() -> None:
    found = report(faces(), faces())
    assert found.frechet == pytest.approx(0.0, abs=1e-6)
    assert found.patch_frechet == pytest.approx(0.0, abs=1e-3)
    assert (found.precision, found.recall) == (1.0, 1.0)
    assert (found.sharpness, found.speckle) == (1.0, 1.0)
    # In another order too: these are measures of sets.
    order = torch.randperm(300, generator=seeded())
    again = report(faces()[order], faces())
    assert again.frechet == pytest.approx(0.0, abs=1e-6)
    assert (again.precision, again.recall) == (1.0, 1.0)
    assert (again.sharpness, again.speckle) == pytest.approx((1.0, 1.0))


def test_noise_is_seen_as_speckle_and_in_the_patches() -> None:
    reports = [
        report(faces() + amount * torch.randn(faces().shape, generator=seeded()), faces())
        for amount in (0.0, 0.02, 0.05, 0.1)
    ]
    for before, after in itertools.pairwise(reports):
        assert after.speckle > 1.2 * before.speckle
        assert after.patch_frechet > before.patch_frechet + 1
        assert after.sharpness > before.sharpness
    # Halves of a picture average such noise away: this judge alone would not see it.
    assert reports[-1].frechet < 1e-3
    assert reports[-1].precision > 0.95


def test_blur_lowers_the_sharpness() -> None:
    reports = [report(blur(faces(), sigma), faces()) for sigma in (0.4, 0.8, 1.5)]
    sharpness = [r.sharpness for r in reports]
    assert 1 > sharpness[0] > 2 * sharpness[1] > 4 * sharpness[2]
    patches = [r.patch_frechet for r in reports]
    assert patches == sorted(patches)
    assert patches[0] > 1
    assert reports[-1].speckle < 1


def test_noise_does_not_pass_for_sharpness_of_the_patches() -> None:
    """A blurred set with speckle may be as sharp as the real one; the patches tell them apart."""
    speckled = blur(faces(), 1.0) + 0.09 * torch.randn(faces().shape, generator=seeded())
    found = report(speckled, faces())
    assert found.sharpness > 0.5
    assert found.speckle > 1.5
    assert found.patch_frechet > 100


def shades(levels: Tensor) -> Tensor:
    """Pictures of one level each, with a little structure."""
    noise = 0.05 * torch.randn(len(levels), 3, 16, 16, generator=seeded(8))
    texture = 0.1 * torch.rand(len(levels), 3, 1, 1, generator=seeded(9))
    return levels[:, None, None, None] + texture + noise


def test_a_dropped_mode_lowers_recall_and_leaves_precision() -> None:
    levels = (torch.arange(400) % 2).float()  # dark pictures and bright ones, far apart
    real = shades(levels)
    dark = shades(torch.zeros(400))
    found = report(dark[torch.randperm(400, generator=seeded())], real)
    assert found.recall == pytest.approx(0.5, abs=0.05)
    assert found.precision > 0.95
    # And a mode that no real picture has lowers precision and leaves recall.
    turned = report(real, dark)
    assert turned.precision == pytest.approx(0.5, abs=0.05)
    assert turned.recall > 0.95


# --- Asking a model -------------------------------------------------------------------------------


def labelled(count: int = 200) -> LabelledImages:
    images = (faces()[:count] * 255).round().byte()
    labels = torch.randint(2, (count, 2), generator=seeded(3)).float()
    return LabelledImages(images, labels, ("Smiling", "Bangs"))


@pytest.mark.parametrize("names", [("Smiling", "Bangs"), ()])
def test_fidelity_compares_one_picture_for_the_labels_of_each(names: tuple[str, ...]) -> None:
    torch.manual_seed(0)
    design = LatentDesign.lsc(names, 2, size=6)
    model = LSCVAE(design, size=32, width=2).eval()
    real = labelled()
    found = fidelity(model, GLANCE, real, seeded(4))
    labels = real.labels if names else None
    drawn = model.sample(labels, 200, seeded(4))
    assert found == compare(drawn, real.float(), GLANCE)
    other = fidelity(model, GLANCE, real, seeded(5))
    assert other != found


def test_a_judge_of_faces_is_used_by_its_features() -> None:
    torch.manual_seed(0)
    judge = FaceJudge(["Smiling"], width=2).eval()
    real, generated = faces()[:140], faces()[140:280]
    found = compare(generated, real, judge)
    with torch.no_grad():
        features = [judge.features(p).double().numpy() for p in (generated, real)]
    assert found.frechet == pytest.approx(frechet_by_scipy(*features), rel=1e-2)


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: report(faces()[:200], faces()),
            "generated pictures (200, 3, 32, 32) and real ones (300, 3, 32, 32) must have the same",
        ),
        (lambda: report(faces(), faces(64)), "must have the same shape"),
        (lambda: report(faces()[:6], faces()[:6]), "6 pictures are too few for 6 features"),
        (
            lambda: compare(faces()[:128], faces()[:128], FaceJudge(["Smiling"], width=2).eval()),
            "128 pictures are too few for 128 features: give thousands",
        ),
        (
            lambda: fidelity(
                LSCVAE(LatentDesign.lsc(("Bangs", "Smiling"), 2, size=6), size=32, width=2),
                GLANCE,
                labelled(),
            ),
            "the design's attributes are Bangs, Smiling; the data's are Smiling, Bangs",
        ),
    ],
)
def test_sets_that_cannot_be_compared_are_refused(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        call()
    assert "\n" not in str(refusal.value)
