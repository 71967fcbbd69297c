"""The face renderer: known pictures, exact labels, and windows that hide nothing."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lscgan.data import faces
from lscgan.data.faces import (
    ATTRIBUTES,
    FACTOR_RANGES,
    HAIR_COLOURS,
    SMILE_THRESHOLD,
    FaceFactors,
    render,
    sample_factors,
    sample_labels,
    sweep,
)

FIELDS = tuple(field.name for field in fields(FaceFactors))
PLAIN = {name.lower(): 0.0 for name in ATTRIBUTES[1:]}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def upright(count: int = 1, **factors: float | Tensor) -> FaceFactors:
    """Faces without attributes, pale and upright in the middle: frame and head then coincide."""
    straight = {"x": 0.0, "y": 0.0, "scale": 1.0, "tilt": 0.0, "pale_skin": 1.0, "light": 1.0}
    return sample_factors(count, seeded()).replace(**{**PLAIN, **straight, **factors})


def patch(images: Tensor, left: float, right: float, top: float, bottom: float) -> Tensor:
    """The part of the images whose pixel centres lie in this box of the frame [-1, 1]^2."""
    size = images.shape[-1]
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    cols, rows = (centres > left) & (centres < right), (centres > top) & (centres < bottom)
    return images[:, :, rows][:, :, :, cols]


def extreme_factors(count: int, generator: torch.Generator) -> FaceFactors:
    """Every factor at the low or the high end of its range, attributes anywhere in [0, 1]."""
    base = sample_factors(count, generator)
    ends = {
        name: torch.where(torch.rand(count, generator=generator) < 0.5, low, high)
        for name, (low, high, _) in FACTOR_RANGES.items()
    }
    attributes = {
        name.lower(): torch.rand(count, generator=generator)
        for name in ATTRIBUTES[1:]
        if name not in HAIR_COLOURS
    }
    curvature = torch.rand(count, generator=generator) * 3 - 1.5
    return base.replace(**ends, **attributes, curvature=curvature)


# --- Known pictures ------------------------------------------------------------------------------


def mouth_height(image: Tensor, u: float) -> float:
    """The height (in the frame, down) of the middle of the mouth's line at one column.

    The lips are much redder than pale skin, so a mean of the rows weighted by redness finds them.
    """
    size = image.shape[-1]
    centres = (torch.arange(size) + 0.5) * 2 / size - 1
    column = image[:, :, int((u + 1) / 2 * size)]
    redness = (column[0] - column[1] - 0.25).clamp(min=0) * ((centres > 0.22) & (centres < 0.6))
    assert redness.sum() > 0.1
    return float((redness * centres).sum() / redness.sum())


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("curvature", [-1.0, -0.5, 0.0, 0.5, 1.0])
def test_mouth_corners_rise_with_curvature(size: int, curvature: float) -> None:
    image = render(upright(curvature=curvature, jaw=0.0), size)[0]
    corners = (mouth_height(image, -0.2) + mouth_height(image, 0.2)) / 2
    rise = mouth_height(image, 0.0) - corners
    # A parabola: at u the line is higher than at its middle by curvature * rise * (u / width)^2.
    expected = curvature * faces.MOUTH_RISE * (0.2 / faces.MOUTH_WIDTH) ** 2
    assert rise == pytest.approx(expected, abs=1.0 * 2 / size)


def test_a_smile_and_a_frown_are_several_pixels_apart_at_64() -> None:
    smile, frown = render(upright(2, curvature=torch.tensor([1.0, -1.0])), 64)
    pixel = 2 / 64
    assert mouth_height(smile, 0.2) < mouth_height(smile, 0.0) - 3 * pixel
    assert mouth_height(frown, 0.2) > mouth_height(frown, 0.0) + 3 * pixel


@pytest.mark.parametrize("curvature", [-1.0, 0.0, 1.0])
def test_open_mouth_shows_a_dark_opening_below_white_teeth(curvature: float) -> None:
    shut, wide = render(
        upright(2, curvature=curvature, mouth_slightly_open=torch.tensor([0.0, 1.0])), 128
    )
    middle = faces.MOUTH_V + curvature * faces.MOUTH_RISE * 0.4
    column = patch(wide[None], -0.02, 0.02, middle - 0.07, middle + 0.14).mean(dim=(0, 1, 3))
    teeth, dark = column.argmax(), column.argmin()
    assert column[teeth] > 0.85
    assert column[dark] < 0.2
    assert teeth < dark
    assert patch(shut[None], -0.02, 0.02, middle - 0.02, middle + 0.02).mean() < 0.5  # lips only


@pytest.mark.parametrize(
    ("factor", "box"),
    [
        ("curvature", (-0.31, 0.31, 0.1, 0.64)),
        ("mouth_slightly_open", (-0.31, 0.31, 0.2, 0.64)),
        ("mustache", (-0.25, 0.25, 0.1, 0.3)),
        ("eyeglasses", (-0.6, 0.6, -0.22, 0.2)),
        ("wearing_hat", (-0.76, 0.76, -0.98, -0.36)),
        ("bangs", (-0.65, 0.65, -0.78, -0.02)),
        ("bushy_eyebrows", (-0.45, 0.45, -0.35, -0.05)),
        ("iris", (-0.45, 0.45, -0.16, 0.14)),
        ("gaze", (-0.45, 0.45, -0.16, 0.14)),
        ("clothes_hue", (-1.0, 1.0, 0.66, 1.0)),
        ("neckline", (-0.4, 0.4, 0.66, 1.0)),
    ],
)
def test_a_factor_changes_its_own_part_of_the_picture_only(
    factor: str, box: tuple[float, float, float, float]
) -> None:
    low, high = FACTOR_RANGES[factor][:2] if factor in FACTOR_RANGES else (0.0, 1.0)
    if factor == "clothes_hue":
        high = 0.5  # hues go round: 1 is 0 again
    one = upright(16, **{factor: low})
    change = (render(one) - render(one.replace(**{factor: high}))).abs()
    assert (change.amax(dim=(1, 2, 3)) > 0.1).all()
    inside = patch(change, *box).sum(dim=(1, 2, 3))
    torch.testing.assert_close(change.sum(dim=(1, 2, 3)), inside)


@pytest.mark.parametrize("hat", [0.0, 1.0])
@pytest.mark.parametrize("length", [0.0, 1.0])
def test_hair_colours_at_the_temples(hat: float, length: float) -> None:
    base = upright(hair_length=length, wearing_hat=hat, head_width=0.5, grain=0.0)
    temple = {}
    for colour in ("black", "blond", "gray", "brown"):
        shades = base if colour == "brown" else base.replace(**{f"{colour}_hair": 1.0})
        for shade in (0.0, 0.5, 1.0):
            image = render(shades.replace(hair_shade=shade), 128)
            temple[colour, shade] = patch(image, 0.49, 0.53, -0.14, -0.08).mean(dim=(0, 2, 3))
    for shade in (0.0, 0.5, 1.0):
        black, blond, gray, brown = (
            temple[colour, shade] for colour in ("black", "blond", "gray", "brown")
        )
        assert black.mean() + 0.05 < brown.mean() < min(blond.mean(), gray.mean()) - 0.2
        assert brown[0] - brown[2] > 0.12  # brown is warm, black and gray have no hue
        assert abs(black[0] - black[2]) < 0.06
        assert abs(gray[0] - gray[2]) < 0.12
        assert blond[0] - blond[2] > 0.4


def test_pale_skin_stands_clear_of_every_other_tone() -> None:
    base = upright(200, light=sample_factors(200, seeded(1)).light)
    skin = [
        patch(render(base.replace(pale_skin=pale)), -0.06, 0.06, -0.3, -0.22).mean(dim=(1, 2, 3))
        for pale in (1.0, 0.0)
    ]
    assert skin[0].min() > skin[1].max() + 0.08


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_every_attribute_shows_in_every_face(attribute: str, size: int) -> None:
    """Whatever the others are, taking one attribute away changes a good many pixels clearly."""
    factors = sample_factors(128, seeded(2))
    if attribute == "Smiling":
        with_it, without = factors.replace(curvature=0.6), factors.replace(curvature=0.3)
    else:
        if attribute in HAIR_COLOURS:  # one colour at a time: brown against this one
            factors = factors.replace(**{name.lower(): 0.0 for name in HAIR_COLOURS})
        name = attribute.lower()
        with_it, without = factors.replace(**{name: 1.0}), factors.replace(**{name: 0.0})
    change = (render(with_it, size) - render(without, size)).abs().amax(dim=1)  # (N, H, W)
    changed = (change > 0.08).sum(dim=(1, 2)) * (64 / size) ** 2
    assert changed.min() >= 15


def test_every_factor_is_drawn() -> None:
    """No factor is idle: sweeping it changes the picture."""
    face = sample_factors(1, seeded(5), labels=torch.tensor([[1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1.0]]))
    for name in FIELDS:
        low, middle, _ = render(sweep(face, name, 3))  # the last hue is the first again
        assert (low - middle).abs().max() > 0.01, name


# --- The picture as a whole ----------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([16, 33, 150]))
def test_windows_hide_nothing(seed: int, size: int) -> None:
    """Drawing each shape in its window only is drawing it over the whole frame, pixel for pixel."""
    factors = extreme_factors(4, seeded(seed))
    whole = faces._render(factors, size, whole_frame=True)
    # One face at a time: together, each would profit from the others' windows.
    windowed = torch.cat([render(factors[row], size) for row in range(4)])
    torch.testing.assert_close(windowed, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [16, 50, 64])
def test_shape_and_range(size: int) -> None:
    images = render(extreme_factors(70, seeded()), size)
    assert images.shape == (70, 3, size, size)
    assert images.dtype == torch.float32
    assert images.min() >= 0
    assert images.max() <= 1


def test_no_faces_give_no_pictures() -> None:
    assert render(sample_factors(0)).shape == (0, 3, 64, 64)
    assert sample_factors(0).labels().shape == (0, len(ATTRIBUTES))


def test_the_same_factors_give_the_same_picture_in_any_company() -> None:
    factors = sample_factors(130, seeded(3))
    images = render(factors)
    assert torch.equal(images, render(factors))
    for row in (0, 63, 64, 129):
        torch.testing.assert_close(images[row : row + 1], render(factors[row]), atol=1e-6, rtol=0)


def test_resolutions_agree() -> None:
    factors = sample_factors(32, seeded(4))
    small = render(factors, 64)
    pooled = torch.nn.functional.avg_pool2d(render(factors, 128), 2)
    assert (small - pooled).abs().mean() < 0.015
    assert (small.mean(dim=(2, 3)) - pooled.mean(dim=(2, 3))).abs().max() < 0.01


def test_grain_is_fine_and_the_rest_of_the_picture_stays() -> None:
    face = upright(8, backdrop_value=0.7)
    noise = render(face.replace(grain=0.2)) - render(face.replace(grain=0.7))
    corner = noise[:, :, :16, :8]  # backdrop only: nothing is clipped there
    assert corner.std() == pytest.approx(faces.GRAIN * 2**0.5, rel=0.1)
    assert noise.mean().abs() < 0.001


# --- Factors and labels --------------------------------------------------------------------------


def test_training_faces_never_frown_and_leave_the_gap_empty() -> None:
    factors = sample_factors(20_000, seeded())
    curvature = factors.curvature
    assert curvature.min() >= 0
    assert curvature.max() <= 1
    assert not ((curvature > 0.3) & (curvature < 0.6)).any()
    smiling = factors.labels(("Smiling",))[:, 0] > 0.5
    assert curvature[~smiling].mean() == pytest.approx(0.15, abs=0.005)
    assert curvature[smiling].mean() == pytest.approx(0.8, abs=0.005)


def test_curvature_without_a_gap_is_uniform() -> None:
    factors = sample_factors(20_000, seeded(), curvature=(-1.3, 1.3), gap=None)
    counts = torch.histc(factors.curvature, bins=13, min=-1.3, max=1.3)
    assert counts.sum() == 20_000
    assert (counts / 20_000 - 1 / 13).abs().max() < 5 * (12 / 13**2 / 20_000) ** 0.5
    smiling = factors.labels()[:, 0]
    assert torch.equal(smiling, (factors.curvature > SMILE_THRESHOLD).float())


@pytest.mark.parametrize("draw", [sample_labels, lambda n, g: sample_factors(n, g).labels()])
def test_label_marginals_and_independence(draw) -> None:
    labels = draw(20_000, seeded(6))
    expected = torch.tensor([0.25 if name in HAIR_COLOURS else 0.5 for name in ATTRIBUTES])
    assert (labels.mean(dim=0) - expected).abs().max() < 0.02  # 5 standard errors: 0.018
    colours = [ATTRIBUTES.index(name) for name in HAIR_COLOURS]
    assert labels[:, colours].sum(dim=1).max() == 1
    coins = [i for i in range(len(ATTRIBUTES)) if i not in colours]
    correlation = torch.corrcoef(labels[:, coins].T) - torch.eye(len(coins))
    assert correlation.abs().max() < 0.04
    assert labels.dtype == torch.float32


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_labels_that_are_asked_for_are_given(seed: int) -> None:
    labels = sample_labels(50, seeded(seed))
    assert torch.equal(sample_factors(50, seeded(seed), labels=labels).labels(), labels)


def test_labels_by_name() -> None:
    factors = sample_factors(9, seeded())
    some = factors.labels(("Wearing_Hat", "curvature"))
    assert torch.equal(some[:, 0], factors.wearing_hat)
    assert torch.equal(some[:, 1], factors.curvature)
    assert factors.labels(()).shape == (9, 0)


def test_sampled_factors_stay_in_their_ranges() -> None:
    factors = sample_factors(5_000, seeded())
    for name, (low, high, explained) in FACTOR_RANGES.items():
        values = getattr(factors, name)
        assert low <= values.min() < low + 0.01 * (high - low), name
        assert high >= values.max() > high - 0.01 * (high - low), name
        assert explained
    assert set(FIELDS) == {*FACTOR_RANGES, *(a.lower() for a in ATTRIBUTES[1:]), "curvature"}


def test_the_same_seed_gives_the_same_faces() -> None:
    first, second = sample_factors(7, seeded(8)), sample_factors(7, seeded(8))
    other = sample_factors(7, seeded(9))
    assert all(torch.equal(getattr(first, n), getattr(second, n)) for n in FIELDS)
    assert not torch.equal(first.skin, other.skin)
    torch.manual_seed(11)
    third = sample_factors(7)
    torch.manual_seed(11)
    assert torch.equal(sample_factors(7).grain, third.grain)


def test_choosing_and_replacing_rows() -> None:
    factors = sample_factors(6, seeded())
    assert len(factors) == 6
    assert len(factors[2]) == 1
    assert torch.equal(factors[[4, 1]].skin, factors.skin[[4, 1]])
    assert torch.equal(factors[1:3].hat_hue, factors.hat_hue[1:3])
    assert torch.equal(factors[factors.bangs > 0.5].bangs, torch.ones(int(factors.bangs.sum())))
    changed = factors.replace(curvature=-1.0, gaze=torch.arange(6.0))
    assert torch.equal(changed.curvature, torch.full((6,), -1.0))
    assert torch.equal(changed.gaze, torch.arange(6.0))
    assert all(
        torch.equal(getattr(changed, n), getattr(factors, n))
        for n in FIELDS
        if n not in ("curvature", "gaze")
    )
    assert torch.equal(factors.to("cpu").tilt, factors.tilt)


def test_sweep_moves_one_factor_over_its_range() -> None:
    face = sample_factors(3, seeded())[1]
    swept = sweep(face, "tilt", 5)
    low, high, _ = FACTOR_RANGES["tilt"]
    assert torch.equal(swept.tilt, torch.linspace(low, high, 5))
    assert all(
        torch.equal(getattr(swept, n), getattr(face, n).expand(5)) for n in FIELDS if n != "tilt"
    )
    assert torch.equal(sweep(face, "bangs", 3).bangs, torch.tensor([0.0, 0.5, 1.0]))
    assert torch.equal(sweep(face, "curvature", 3).curvature, torch.tensor([-1.0, 0.0, 1.0]))


# --- Wrong input ---------------------------------------------------------------------------------


def test_wrong_input_is_explained() -> None:
    factors = sample_factors(2, seeded())
    with pytest.raises(ValueError, match="16 or more"):
        render(factors, 15)
    with pytest.raises(ValueError, match="count must be 0 or more"):
        sample_factors(-1)
    with pytest.raises(ValueError, match="count must be 0 or more"):
        sample_labels(-1)
    with pytest.raises(ValueError, match="unknown factor 'beard'; the factors are curvature"):
        factors.replace(beard=1.0)
    with pytest.raises(ValueError, match=r"shape \(2,\), not of shape \(3,\)"):
        factors.replace(skin=torch.zeros(3))
    with pytest.raises(ValueError, match="unknown label 'Beard'; the labels are Smiling"):
        factors.labels(("Beard",))
    with pytest.raises(ValueError, match="sweep one face"):
        sweep(factors, "skin", 3)


@pytest.mark.parametrize(
    "curvature", [(1.0, 0.0), (0.5, 0.5), (float("nan"), 1.0), (0.0, float("inf"))]
)
def test_wrong_curvature_ranges(curvature: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="low < high"):
        sample_factors(2, curvature=curvature)


@pytest.mark.parametrize("gap", [(0.6, 0.25), (-0.1, 0.6), (0.25, 1.2), (0.1, 0.2)])
def test_wrong_gaps(gap: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="gap=None"):
        sample_factors(2, gap=gap)


def test_wrong_labels() -> None:
    labels = torch.zeros(2, len(ATTRIBUTES))
    with pytest.raises(ValueError, match="need a gap"):
        sample_factors(2, gap=None, labels=labels)
    with pytest.raises(ValueError, match=r"shape \(3, 11\)"):
        sample_factors(3, labels=labels)
    with pytest.raises(ValueError, match="0 or 1"):
        sample_factors(2, labels=labels + 0.5)
    labels[0, ATTRIBUTES.index("Black_Hair")] = labels[0, ATTRIBUTES.index("Gray_Hair")] = 1
    with pytest.raises(ValueError, match="one hair colour"):
        sample_factors(2, labels=labels)
