"""Judges, gate and measures: on readers, models and pictures whose answers are known."""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, stats
from torch import Tensor

from lscgan import data, hub
from lscgan.data import LabelledImages, faces
from lscgan.evaluation import (
    AttributeJudge,
    Dose,
    FaceGate,
    FaceJudge,
    Judges,
    MouthJudge,
    ReversalReport,
    attribute_report,
    control,
    edit,
    edit_report,
    fidelity,
    judge_report,
    mean_interval,
    posterior,
    responses,
    reversal,
    wilson_interval,
)
from lscgan.evaluation.judge import blur, worn
from lscgan.evaluation.pictures import looked_at
from lscgan.latent import LatentDesign
from lscgan.models import LSCGAN, LSCVAE, VAE, ConditionalVAE
from lscgan.objectives import gaussian_kl
from lscgan.training import TrainingSettings, train

NAMES = ("Smiling", "Eyeglasses", "Bangs")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- Devices --------------------------------------------------------------------------------------


class Elsewhere(torch.nn.Module):
    """Stands on a device that holds no numbers, and remembers where it was asked to look."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("stand", torch.zeros(1, device="meta"))
        self.asked: list[str] = []

    def look(self, images: Tensor) -> Tensor:
        self.asked.append(images.device.type)
        return torch.arange(float(len(images)))


def test_a_judge_looks_where_it_stands_and_answers_where_the_pictures_are() -> None:
    judge = Elsewhere()
    read = looked_at(judge, torch.rand(600, 3, 4, 4), judge.look)
    assert judge.asked == ["meta"] * 3  # in pieces
    assert read.device.type == "cpu"
    assert torch.equal(read, torch.cat([torch.arange(256.0), torch.arange(256.0), read[512:]]))
    assert torch.equal(looked_at(object(), read, lambda piece: piece + 1), read + 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("places", [("cuda", "cpu"), ("cpu", "cuda"), ("cuda", "cuda")])
def test_measures_agree_wherever_model_and_judges_are(places: tuple[str, str]) -> None:
    real = data.load("faces", "test", count=300)

    def measured(model_at: str, judges_at: str) -> list[float]:
        model, judges = hub.load("lsc-gan-faces").to(model_at), hub.judges(judges_at)
        turned = reversal(model, judges, real.labels, amounts=(-1.0, 0.0), generator=seeded())
        likeness = fidelity(model, judges.face, real, seeded())
        edited = edit_report(model, judges, real)
        return [
            control(model, judges.face, real.labels, generator=seeded()).mean,
            *(interval[0] for interval in turned.at(-1.0).curvature.values()),
            turned.at(-1.0).passed[0],
            *(likeness.frechet, likeness.precision, likeness.recall, likeness.sharpness),
            *(edited.others_kept[0], edited.change_inside),
            attribute_report(judges.face, real).mean_accuracy,
        ]

    # A GPU's convolutions round otherwise: a reading in a thousand may fall to the other side.
    assert measured(*places) == pytest.approx(measured("cpu", "cpu"), rel=0.02, abs=0.005)


# --- Intervals ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(1, 5_000), st.floats(0, 1))
def test_wilson_interval_equals_scipy(count: int, share: float) -> None:
    successes = round(share * count)
    estimate, low, high = wilson_interval(successes, count)
    expected = stats.binomtest(successes, count).proportion_ci(method="wilson")
    assert estimate == successes / count
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert 0 <= low <= estimate <= high <= 1


def test_wilson_interval_of_a_published_example() -> None:
    """Newcombe 1998, table I: 81 of 263 and 0 of 20, by the score method."""
    assert wilson_interval(81, 263)[1:] == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20)[1:] == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_mean_interval_equals_scipy() -> None:
    values = 3 + 2 * torch.randn(50, generator=seeded())
    numbers = values.double().numpy()
    expected = stats.norm.interval(0.95, numbers.mean(), stats.sem(numbers))
    mean, low, high = mean_interval(values)
    assert mean == pytest.approx(numbers.mean())
    assert (low, high) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("successes", "count"), [(0, 0), (-1, 3), (4, 3)])
def test_no_share_has_no_interval(successes: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{successes} successes of {count} is no share"):
        wilson_interval(successes, count)


@pytest.mark.parametrize("values", [torch.ones(1), torch.ones(2, 2)])
def test_a_mean_needs_two_values(values: Tensor) -> None:
    with pytest.raises(ValueError, match="needs at least two values"):
        mean_interval(values)


# --- Pictures that say what is in them ------------------------------------------------------------
#
# A coded picture is 8x8 and grey but for its first row: its pixels hold the attributes (0 or 1),
# then (curvature + 4) / 8, then whether the gate lets it pass. Readers read it back exactly.


def coded(attributes: Tensor, curvature: Tensor, passes: Tensor) -> Tensor:
    images = torch.full((len(attributes), 3, 8, 8), 0.5)
    row = torch.cat([attributes, (curvature[:, None] + 4) / 8, passes[:, None]], dim=1)
    images[:, 0, 0, : row.shape[1]] = row.float()
    return images


class Reader:
    """Judge and gate of coded pictures; ``names`` is the order in which it reports attributes."""

    def __init__(self, names: tuple[str, ...] = NAMES, known: tuple[str, ...] = NAMES):
        self.names, self.known = names, known

    def attributes(self, images: Tensor) -> Tensor:
        return images[:, 0, 0][:, [self.known.index(name) for name in self.names]]

    def curvature(self, images: Tensor) -> Tensor:
        return 8 * images[:, 0, 0, len(self.known)] - 4

    def passes(self, images: Tensor) -> Tensor:
        return images[:, 0, 0, len(self.known) + 1] > 0.5


class Oracle:
    """A generator that draws exactly what each block's mean asks for.

    Its mouth curves with the Smiling block's mean m as 0.1 + m^3 / 16; the attributes in
    ``ignores`` never show; the gate refuses glasses on a mouth that curves below -0.3.
    """

    def __init__(self, ignores: tuple[str, ...] = (), coding: str = "signed"):
        self.design = LatentDesign.lsc(NAMES, 100, size=310, coding=coding)
        self.ignores = ignores
        self.middle = 0.0 if coding == "signed" else 0.5

    def means(self, z: Tensor) -> Tensor:
        parts = self.design.split(z)
        return torch.stack([parts[name].mean(dim=1) for name in NAMES], dim=1)

    def mouth(self, z: Tensor) -> Tensor:
        return 0.1 + self.means(z)[:, 0] ** 3 / 16

    def decode(self, z: Tensor) -> Tensor:
        shown = (self.means(z) > self.middle).float()
        for name in self.ignores:
            shown[:, NAMES.index(name)] = 0.0
        curvature = self.mouth(z)
        refused = (shown[:, 1] > 0.5) & (curvature < -0.3)
        return coded(shown, curvature, (~refused).float())


def judge(names: tuple[str, ...] = NAMES) -> FaceJudge:
    return cast(FaceJudge, Reader(names))


def coins(count: int) -> Tensor:
    return torch.randint(2, (count, 3), generator=seeded(5)).float()


# --- Control --------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]])
def test_an_oracle_is_in_perfect_control_whatever_the_judges_order(order: tuple[str, ...]) -> None:
    report = control(Oracle(), judge(order), coins(600), generator=seeded())
    assert report.count == 600
    assert list(report.accuracy) == list(NAMES)
    assert all(share == 1.0 for share, _, _ in report.accuracy.values())
    assert report.mean == 1.0
    assert report.worst[1] == 1.0


def test_a_model_that_ignores_an_attribute_is_right_half_the_time() -> None:
    labels = coins(600)
    report = control(Oracle(ignores=("Eyeglasses",)), judge(), labels, generator=seeded())
    share = float((labels[:, 1] == 0).float().mean())
    assert report.accuracy["Eyeglasses"][0] == pytest.approx(share)
    assert report.accuracy["Eyeglasses"] == wilson_interval(round(600 * share), 600)
    assert abs(share - 0.5) < 5 * math.sqrt(0.25 / 600)
    assert {report.accuracy[name][0] for name in ("Smiling", "Bangs")} == {1.0}
    name, worst = report.worst
    assert name == "Eyeglasses"
    assert worst == pytest.approx(share)
    assert report.mean == pytest.approx((2 + share) / 3)
    assert json.loads(json.dumps(report.to_dict()))["worst"][0] == "Eyeglasses"


def test_without_labels_a_measure_asks_for_faces_that_can_be() -> None:
    """Each of the design's attributes is a fair coin, but no face has two hair colours."""
    asked = []

    class Listening(Oracle):
        def decode(self, z: Tensor) -> Tensor:
            asked.append(self.means(z) > 0)
            return torch.zeros(len(z), 3, 8, 8)

    model = Listening()
    names = ("Black_Hair", "Gray_Hair", "Wearing_Hat")
    model.design = LatentDesign.lsc(names, 40, size=130, coding="signed")
    model.means = lambda z: torch.stack(  # type: ignore[method-assign]
        [model.design.split(z)[name].mean(dim=1) for name in names], dim=1
    )
    report = control(model, cast(FaceJudge, Reader(names, names)), count=1_000)
    drawn = torch.cat(asked).float()
    assert report.count == len(drawn) == 1_000
    assert not (drawn[:, 0] * drawn[:, 1]).any()
    for column, share in enumerate((0.25, 0.25, 0.5)):
        error = math.sqrt(share * (1 - share) / 1_000)
        wanted = float(drawn[:, column].mean())
        assert abs(wanted - share) < 5 * error
        # A model that draws nothing is right wherever nothing was asked for.
        assert report.accuracy[names[column]][0] == pytest.approx(1 - wanted)


def test_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=re.escape("labels have shape (N, 3), one column each")):
        control(Oracle(), judge(), torch.zeros(4, 2))
    other = Oracle()
    other.design = LatentDesign.lsc(("Eyeglasses", "Freckles"), 2, size=5)
    with pytest.raises(ValueError, match="give labels: this design's attributes are not those of"):
        control(other, judge(("Eyeglasses", "Freckles")))


def test_a_judge_that_cannot_read_an_attribute_is_refused() -> None:
    with pytest.raises(ValueError, match="does not read Bangs: it reads Smiling, Eyeglasses"):
        control(Oracle(), judge(("Smiling", "Eyeglasses")), coins(4))


# --- Reversal -------------------------------------------------------------------------------------

AMOUNTS = (-1.0, 0.0, 0.5, 1.0)


class Twisted(Reader):
    """A second judge that reads every curvature 0.3 lower."""

    def curvature(self, images: Tensor) -> Tensor:
        return super().curvature(images) - 0.3


def judges(names: tuple[str, ...] = NAMES) -> Judges:
    return Judges(judge(names), Twisted(), cast(FaceGate, Reader()))


def measured(oracle: Oracle, labels: Tensor, **changes: Any) -> Any:
    arguments = {"judges": judges(), "amounts": AMOUNTS, "generator": seeded(), **changes}
    return reversal(oracle, labels=labels, **arguments)


@pytest.mark.parametrize("coding", ["signed", "presence"])
def test_the_dose_response_is_the_oracles_own_curve(coding: str) -> None:
    oracle, labels = Oracle(coding=coding), coins(300)
    report = measured(oracle, labels)
    step = 2.0 if coding == "signed" else 1.0
    base = labels.clone()
    base[:, 0] = 0
    means = oracle.means(oracle.design.sample(base, generator=seeded()))[:, 0].double()
    assert (report.attribute, report.count) == ("Smiling", 300)
    assert [dose.amount for dose in report.doses] == list(AMOUNTS)
    for amount in AMOUNTS:
        curvature = 0.1 + (means + amount * step) ** 3 / 16  # (N,)
        dose = report.at(amount)
        assert dose.curvature["face judge"] == pytest.approx(mean_interval(curvature), abs=1e-5)
        lower = float(curvature.mean()) - 0.3
        assert dose.curvature["mouth judge"][0] == pytest.approx(lower, abs=1e-5)
        for name, below in (("face judge", -0.15), ("mouth judge", 0.15)):
            share = float((curvature < below).double().mean())
            assert dose.frowns[name][0] == pytest.approx(share, abs=1 / 300)
        assert dose.others_moved == (0.0, 0.0, 0.0)
        assert dose.others_right == (1.0, 1.0, 1.0)
    curve = report.curve("face judge")
    assert curve[0] == [report.at(amount).curvature["face judge"][0] for amount in AMOUNTS]
    assert report.monotone("face judge")
    json.dumps(report.to_dict(), allow_nan=False)


def test_gate_shares_are_counted_by_group() -> None:
    labels = coins(300)
    report = measured(Oracle(), labels)
    dose = report.at(-1.0)  # the mouth is at about 0.1 + (-3)^3 / 16 = -1.6: glasses are refused
    glasses, bangs = labels[:, 1] == 1, labels[:, 2] == 1
    assert dose.passed == wilson_interval(int((~glasses).sum()), 300)
    by_group = {name: interval[0] for name, interval in dose.passed_by_group.items()}
    assert by_group == pytest.approx(
        {
            "Eyeglasses=0": 1.0,
            "Eyeglasses=1": 0.0,
            "Bangs=0": float((~glasses & ~bangs).sum() / (~bangs).sum()),
            "Bangs=1": float((~glasses & bangs).sum() / bangs.sum()),
            "none": 1.0,
        }
    )
    assert dose.worst_group == ("Eyeglasses=1", 0.0)
    assert report.at(1.0).passed[0] == 1.0


def test_mean_curvature_by_group_is_the_mean_over_the_groups_rows() -> None:
    oracle, labels = Oracle(), coins(300)
    report = measured(oracle, labels)
    base = labels.clone()
    base[:, 0] = 0
    means = oracle.means(oracle.design.sample(base, generator=seeded()))[:, 0].double()
    rows = {
        "Eyeglasses=0": [i for i in range(300) if labels[i, 1] == 0],
        "Eyeglasses=1": [i for i in range(300) if labels[i, 1] == 1],
        "Bangs=0": [i for i in range(300) if labels[i, 2] == 0],
        "Bangs=1": [i for i in range(300) if labels[i, 2] == 1],
        "none": [i for i in range(300) if labels[i, 1] == labels[i, 2] == 0],
    }
    for dose in report.doses:
        curvature = 0.1 + (means + 2 * dose.amount) ** 3 / 16  # (N,)
        assert set(dose.curvature_by_group) == {"face judge", "mouth judge"}
        for judge_name, lower in (("face judge", 0.0), ("mouth judge", 0.3)):
            by_group = dose.curvature_by_group[judge_name]
            assert set(by_group) == set(rows) == set(dose.passed_by_group)
            for group, members in rows.items():
                expected = mean_interval(curvature[members] - lower)
                assert by_group[group] == pytest.approx(expected, abs=1e-5)


def test_a_group_whose_mouths_do_not_turn_is_seen() -> None:
    """Under glasses this model draws every mouth flat: the mean over all faces hides it."""

    class Stiff(Oracle):
        def mouth(self, z: Tensor) -> Tensor:
            return super().mouth(z) * (self.means(z)[:, 1] < 0)

    by_group = measured(Stiff(), coins(200)).at(1.0).curvature_by_group["face judge"]
    assert by_group["Eyeglasses=1"] == pytest.approx((0.0, 0.0, 0.0), abs=1e-5)
    assert by_group["Eyeglasses=0"][0] > 0.1


# --- Where a response is linear -------------------------------------------------------------------


def response(curvature: dict[float, float]) -> ReversalReport:
    """A report in which one judge read this curvature at each amount; the other twice as much."""
    certain = (1.0, 1.0, 1.0)
    doses = tuple(
        Dose(
            amount=amount,
            curvature={"face judge": (c, c - 0.1, c + 0.1), "mouth judge": (2 * c, 2 * c, 2 * c)},
            frowns={},
            passed=certain,
            passed_by_group={},
            curvature_by_group={},
            others_right=certain,
            others_moved=certain,
        )
        for amount, c in curvature.items()
    )
    return ReversalReport("Smiling", 10, doses)


@pytest.mark.parametrize(
    ("curvature", "tolerance", "expected"),
    [
        # A straight line, rising or falling, is linear as far as it was measured.
        ({-2: -1, -1: -0.5, 0: 0, 1: 0.5, 2: 1}, 0.0, (-2, 2)),
        ({-2: 1, -1: 0.5, 0: 0, 1: -0.5, 2: -1}, 0.0, (-2, 2)),
        # It stops where the response saturates: on one side, the other, or both.
        ({-2: -0.6, -1: -0.5, 0: 0, 1: 0.5, 2: 1}, 0.5, (-1, 2)),
        ({-2: -1, -1: -0.5, 0: 0, 1: 0.5, 2: 0.6}, 0.5, (-2, 1)),
        ({-2: -0.2, -1: -0.1, 0: 0, 1: 0.5, 2: 0.6}, 0.5, (0, 1)),
        # And where it is steeper than it may be.
        ({-1: -1, 0: 0, 1: 0.5, 2: 1.5}, 0.5, (0, 1)),
        ({-1: -1, 0: 0, 1: 0.5, 2: 1.5}, 1.0, (-1, 2)),
        # The first break ends it, whatever lies beyond.
        ({-3: -1, -2: -0.5, -1: 0, 0: 0, 1: 0.5, 2: 0.5, 3: 1}, 0.5, (0, 1)),
        # Exactly at the tolerance still counts; slopes are per unit of the amount.
        ({-1: -0.25, 0: 0, 1: 0.5}, 0.5, (-1, 1)),
        ({-0.5: -0.125, 0: 0, 1: 0.5, 3: 1.0}, 0.5, (-0.5, 3)),
        ({-0.5: -0.12, 0: 0, 1: 0.5, 3: 0.98}, 0.5, (0, 1)),
        # Nothing beyond 0 and 1, or amounts between them.
        ({0: 0, 1: 0.5}, 0.5, (0, 1)),
        ({-1: -0.5, 0: 0, 0.5: 0.25, 1: 0.5, 1.5: 0.75}, 0.5, (-1, 1.5)),
        # A response that is flat everywhere has slope 0, and keeps it.
        ({-1: 0.1, 0: 0.1, 1: 0.1, 2: 0.1}, 0.5, (-1, 2)),
        ({-1: 0.0, 0: 0.1, 1: 0.1, 2: 0.1}, 0.5, (0, 2)),
    ],
)
def test_the_linear_range_of_a_response_by_hand(
    curvature: dict[float, float], tolerance: float, expected: tuple[float, float]
) -> None:
    report = response({float(amount): float(c) for amount, c in curvature.items()})
    assert report.linear_range("face judge", tolerance) == expected
    assert report.linear_range("mouth judge", tolerance) == expected


@settings(deadline=None)
@given(
    st.lists(st.integers(-4, 12), min_size=0, max_size=4),
    st.lists(st.integers(-4, 12), min_size=0, max_size=4),
    st.sampled_from([0.25, 0.5, 0.75]),
)
def test_the_linear_range_equals_trying_every_range(
    below: list[int], above: list[int], tolerance: float
) -> None:
    """Half steps of the amount, each growing by so many eighths of the slope's share of 1."""
    growth = [*below, 4, 4, *above]  # between 0 and 1: 4 eighths each half step, a slope of 1
    amounts = [0.5 * (i - len(below)) for i in range(len(growth) + 1)]
    values = [sum(growth[:i]) / 8 for i in range(len(growth) + 1)]
    report = response(dict(zip(amounts, values, strict=True)))
    ranges = []
    for low in [a for a in amounts if a <= 0]:
        for high in [a for a in amounts if a >= 1]:
            inside = [i for i in range(len(growth)) if low <= amounts[i] and amounts[i + 1] <= high]
            if all(1 - tolerance <= growth[i] / 4 <= 1 + tolerance for i in inside):
                ranges.append((low, high))
    widest = max(ranges, key=lambda ends: ends[1] - ends[0])
    assert report.linear_range("face judge", tolerance) == widest


@pytest.mark.parametrize("missing", [0.0, 1.0])
def test_a_linear_range_needs_the_amounts_of_training(missing: float) -> None:
    curvature = {a: a / 2 for a in (-1.0, 0.0, 1.0, 2.0) if a != missing}
    with pytest.raises(ValueError, match=f"{missing} was not measured"):
        response(curvature).linear_range("face judge")


def test_groups_of_fewer_than_twenty_faces_are_left_out() -> None:
    labels = torch.zeros(60, 3)
    labels[:19, 1] = 1  # nineteen with glasses
    labels[19:39, 2] = 1  # twenty with bangs
    groups = measured(Oracle(), labels).at(0.0).passed_by_group
    assert set(groups) == {"Eyeglasses=0", "Bangs=0", "Bangs=1", "none"}


def test_an_attribute_that_is_dragged_along_is_noticed() -> None:
    """A model that puts glasses on every mouth that curves above 0.1, asked or not."""

    class Dragging(Oracle):
        def decode(self, z: Tensor) -> Tensor:
            images = super().decode(z)
            images[self.mouth(z) > 0.1, 0, 0, 1] = 1.0
            return images

    labels = coins(200)
    dose = measured(Dragging(), labels).at(1.0)
    bare = float((labels[:, 1] == 0).float().mean())  # of these, every one gets glasses
    assert dose.others_moved[0] == pytest.approx(bare / 2)
    assert dose.others_right[0] == pytest.approx(1 - bare / 2)


def test_encoded_faces_are_moved_from_their_posterior_means() -> None:
    class Encoding(Oracle):
        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            means = self.design.mean((images[:, 0, 0, :3] > 0.5).float())
            return means, torch.zeros_like(means)

    oracle, labels = Encoding(), coins(40)
    labels[:, 0] = 0
    images = coded(labels, torch.zeros(40), torch.ones(40))
    report = measured(oracle, labels, images=images)
    for amount in AMOUNTS:  # no noise: every face of label 0 has a block mean of exactly -1
        exact = 0.1 + (-1 + 2 * amount) ** 3 / 16
        assert report.at(amount).curvature["face judge"] == pytest.approx((exact,) * 3, abs=1e-5)
    assert report.at(1.0).others_right[0] == 1.0
    with pytest.raises(ValueError, match="40 images have 39 rows of labels"):
        measured(oracle, labels[:39], images=images)


class Seeing(Oracle):
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        means = self.design.mean((images[:, 0, 0, :3] > 0.5).float())
        return means, torch.zeros_like(means)


def test_images_that_have_the_attribute_have_no_amount_0() -> None:
    labels = coins(40)
    images = coded(labels, torch.zeros(40), torch.ones(40))
    smiling = int(labels[:, 0].sum())
    with pytest.raises(ValueError, match=f"{smiling} of 40 images are labelled Smiling, and"):
        measured(Seeing(), labels, images=images)
    measured(Oracle(), labels)  # faces that are drawn are drawn without it
    labels[:, 0] = 0.3 * labels[:, 0]  # an amount, nearer to 0 than to 1
    measured(Seeing(), labels, images=images)
    labels[3, 2] = math.nan
    with pytest.raises(ValueError, match=r"a label is not known: give data.select\(data.lab"):
        measured(Seeing(), labels, images=images)


def test_amounts_in_any_order_say_the_same() -> None:
    labels = coins(60)
    rising = measured(Oracle(), labels)
    falling = measured(Oracle(), labels, amounts=AMOUNTS[::-1])
    assert [dose.amount for dose in falling.doses] == list(AMOUNTS[::-1])
    assert falling.doses == rising.doses[::-1]
    assert falling.curve("face judge")[0] == rising.curve("face judge")[0][::-1]
    assert falling.monotone("face judge")
    mixed = response({1.0: 0.5, -2.0: -0.6, 0.0: 0.0, 2.0: 1.0, -1.0: -0.5})
    assert mixed.monotone("face judge")
    assert mixed.linear_range("face judge") == (-1.0, 2.0)


def test_too_few_faces_have_no_worst_group() -> None:
    dose = measured(Oracle(), coins(12)).at(0.0)
    with pytest.raises(ValueError, match="no group has 20 faces or more: measure more of them"):
        _ = dose.worst_group


def test_the_labels_given_stay_as_they_were() -> None:
    labels = torch.ones(30, 3)
    measured(Oracle(), labels)
    assert torch.equal(labels, torch.ones(30, 3))


def test_a_curve_that_turns_is_not_monotone() -> None:
    class Turning(Oracle):
        def mouth(self, z: Tensor) -> Tensor:
            return -self.means(z)[:, 0].square()

    report = measured(Turning(), coins(30))
    assert not report.monotone("face judge")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amounts": (-1.0, 1.0)}, "amounts must include 0"),
        ({"images": torch.rand(30, 3, 8, 8), "labels": None}, "give the labels of the images"),
        ({"attribute": "Hat"}, "this design has no 'Hat': it has Smiling, Eyeglasses, Bangs"),
        ({"judges": judges(("Smiling",))}, "this judge does not read Eyeglasses, Bangs"),
    ],
)
def test_a_reversal_that_cannot_be_measured_is_refused(changes: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        measured(Oracle(), **{"labels": coins(30), **changes})


def test_an_amount_that_was_not_measured_is_refused() -> None:
    with pytest.raises(ValueError, match=r"3.0 was not measured: \[-1.0, 0.0, 0.5, 1.0\] were"):
        measured(Oracle(), coins(30)).at(3.0)


# --- Editing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [LSCVAE, LSCGAN])
def test_an_edit_decodes_the_shifted_posterior_means(kind: type[LSCVAE] | type[LSCGAN]) -> None:
    torch.manual_seed(0)
    design = LatentDesign.lsc(NAMES, 2, size=8, shift=1.5, coding="signed")
    model = kind(design, size=8, width=2).eval()
    images = torch.rand(300, 3, 8, 8, generator=seeded())  # more than are edited at once
    amounts = torch.linspace(-2, 2, 300)
    with torch.no_grad():
        mean, _ = model.encode(images)
        rebuilt = model.decode(mean)
        moved = mean.clone()
        moved[:, 0:2] += -1.0 * 3  # a label unit of the signed coding is twice the shift
        moved[:, 4:6] += 3 * amounts[:, None]
        expected = model.decode(moved)
    edited = edit(model, images, Smiling=-1.0, Bangs=amounts)
    torch.testing.assert_close(edited, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(edit(model, images), rebuilt, atol=1e-5, rtol=1e-5)
    assert float((edited - rebuilt).abs().max()) > 0.01
    assert not edited.requires_grad


def test_an_edit_that_cannot_be_made_is_refused() -> None:
    model = LSCVAE(LatentDesign.lsc(NAMES, 2, size=8), size=8, width=2).eval()
    with pytest.raises(ValueError, match="has no 'Hat': it has Smiling, Eyeglasses, Bangs"):
        edit(model, torch.rand(2, 3, 8, 8), Hat=1.0)
    with pytest.raises(ValueError, match="this model takes images of shape"):
        edit(model, torch.rand(2, 3, 16, 16), Smiling=1.0)


def test_pixels_that_are_bytes_are_refused_wherever_pictures_go() -> None:
    model = LSCVAE(LatentDesign.lsc(NAMES, 2, size=8), size=8, width=2).eval()
    data = LabelledImages(
        torch.full((24, 3, 8, 8), 200, dtype=torch.uint8), torch.zeros(24, 3), NAMES
    )
    reader = FaceJudge(NAMES, width=2).eval()
    panel = Judges(reader, MouthJudge(), FaceGate())
    calls: list[Any] = [
        lambda images: edit(model, images, Smiling=1.0),
        lambda images: model.encode(images),
        lambda images: reversal(model, panel, data.labels, amounts=(0.0,), images=images),
        reader.attributes,
        reader.curvature,
        reader.features,
        panel.mouth.curvature,
        panel.gate.passes,
    ]
    for call in calls:
        for images in (data.images, data.images.float()):
            with pytest.raises(ValueError, match=r"pixels that are numbers in \[0, 1\], .* data"):
                call(images)
        call(data.float())
        call(data.float() + 0.3)  # noise may leave the range a little
    for call in (reader, model.encode):  # in training too, where no value is looked at
        with pytest.raises(ValueError, match=r"numbers in \[0, 1\], not torch.uint8: give it data"):
            call.train()(data.images) if call is reader else model.train().encode(data.images)
    with pytest.raises(ValueError, match=r"and these run from 200 to 200: give it data.float\(\)"):
        edit_report(model.eval(), panel, data.images)  # type: ignore[arg-type]


class Editor(Oracle):
    """An oracle that also sees: it encodes what a coded picture shows, without noise.

    Its mouth curves with the mean m of the Smiling block as m / 4.
    """

    def mouth(self, z: Tensor) -> Tensor:
        return self.means(z)[:, 0] / 4

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.design.mean((images[:, 0, 0, :3] > 0.5).float())
        return mean, torch.zeros_like(mean)


FIRST_ROW = (0.0, 0.125, 0.0, 1.0)  # of a coded picture: all that an edit may change


def coded_faces(labels: Tensor) -> LabelledImages:
    """Pictures that are what the editor draws for these labels, but for rounding to bytes."""
    editor = Editor()
    pictures = editor.decode(editor.design.mean(labels))
    return LabelledImages((pictures * 255).round().byte(), labels, NAMES)


def test_an_edit_inside_a_region_leaves_the_outside_alone() -> None:
    labels = coins(60)
    labels[:, 0] = 1.0
    report = edit_report(Editor(), judges(), coded_faces(labels), amount=-1.0, region=FIRST_ROW)
    assert (report.count, report.amount) == (60, -1.0)
    # From a mean of 1 to one of -1: curvature falls by 2 / 4, as both judges read it.
    for name in ("face judge", "mouth judge"):
        assert report.curvature_change[name] == pytest.approx((-0.5,) * 3, abs=1e-5)
    assert report.others_kept == (1.0, 1.0, 1.0)
    assert report.change_outside == 0.0
    # Inside, a smile of 1 went and a curvature moved by 0.5 / 8, of 8 pixels and 3 channels.
    assert report.change_inside == pytest.approx((1 + 0.5 / 8) / 24, abs=1e-6)
    assert report.loss_outside == pytest.approx(abs(128 / 255 - 0.5), abs=1e-6)
    json.dumps(report.to_dict(), allow_nan=False)


def test_what_an_edit_spoils_is_measured_apart_from_what_encoding_costs() -> None:
    class Spoiling(Editor):
        """Draws everything 0.1 too dark, and smiles with a brighter last row and glasses on."""

        def decode(self, z: Tensor) -> Tensor:
            images = super().decode(z)
            smiles = self.means(z)[:, 0] > 0
            images[smiles, :, 7] += 0.2
            images[smiles, 0, 0, 1] = 1.0
            images[:, :, 1:] -= 0.1
            return images

    labels = coins(60)
    labels[:, 0] = 0.0
    report = edit_report(Spoiling(), judges(), coded_faces(labels), amount=1.0, region=FIRST_ROW)
    bare = float((labels[:, 1] == 0).float().mean())
    assert report.others_kept[0] == pytest.approx(1 - bare / 2)
    assert report.change_outside == pytest.approx(0.2 / 7, abs=1e-6)  # one of seven rows
    assert report.loss_outside == pytest.approx(0.1 + 128 / 255 - 0.5, abs=1e-6)


def test_the_usual_region_is_the_mouths() -> None:
    """Rows 4 to 7 and columns 2 to 5 of 8x8: a pixel that changes there is inside."""

    class Spot(Editor):
        row, column = 0, 0

        def decode(self, z: Tensor) -> Tensor:
            images = coded(torch.zeros(len(z), 3), torch.zeros(len(z)), torch.ones(len(z)))
            images[:, 1, self.row, self.column] += self.means(z)[:, 0] / 10
            return images

    for row, column in ((4, 2), (7, 5), (3, 2), (4, 1), (7, 6)):
        model = Spot()
        model.row, model.column = row, column
        report = edit_report(model, judges(), coded_faces(coins(10)), amount=0.5)
        inside = row >= 4 and 2 <= column <= 5
        changes = report.change_inside, report.change_outside
        expected = (0.1 / (16 * 3), 0.0) if inside else (0.0, 0.1 / (48 * 3))
        assert changes == pytest.approx(expected, abs=1e-6)


def test_a_design_of_one_attribute_has_no_other_to_spoil() -> None:
    class One(Editor):
        def __init__(self) -> None:
            super().__init__()
            self.design = LatentDesign.lsc(("Smiling",), 2, size=3, coding="signed")

        def means(self, z: Tensor) -> Tensor:
            return torch.cat([self.design.split(z)["Smiling"].mean(dim=1, keepdim=True)] * 3, dim=1)

        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            mean = self.design.mean((images[:, 0, 0, :1] > 0.5).float())
            return mean, torch.zeros_like(mean)

    report = edit_report(One(), judges(), coded_faces(coins(10)))
    assert report.others_kept == (1.0, 1.0, 1.0)
    json.dumps(report.to_dict(), allow_nan=False)


def test_an_edit_report_by_a_judge_that_cannot_read_is_refused() -> None:
    with pytest.raises(ValueError, match="this judge does not read Eyeglasses, Bangs"):
        edit_report(Editor(), judges(("Smiling",)), coded_faces(coins(10)))
    with pytest.raises(ValueError, match="has no 'Hat'"):
        edit_report(Editor(), judges(), coded_faces(coins(10)), attribute="Hat")


# --- Dose and response ----------------------------------------------------------------------------


class LogReader(Reader):
    """Its log-odds are 10 times what the coded pixel says, less 5."""

    def logits(self, images: Tensor) -> Tensor:
        return 10 * self.attributes(images) - 5


class Dial(Oracle):
    """Draws each block's mean itself, a tenth of it, so that amounts can be read back exactly.

    Moved below -1.5, the smile takes the glasses' pixel to its other side.
    """

    def decode(self, z: Tensor) -> Tensor:
        means = self.means(z)
        shown = 0.5 + means / 10
        shown[:, 1] = torch.where(means[:, 0] < -1.5, 1 - shown[:, 1], shown[:, 1])
        return coded(shown, torch.zeros(len(z)), torch.ones(len(z)))


def test_a_response_is_what_the_block_s_mean_says() -> None:
    model = Dial()
    labels = torch.zeros(300, 3)
    z = model.design.sample(labels, generator=seeded())
    reader = cast(AttributeJudge, LogReader(NAMES[::-1]))
    made = responses(model, reader, z, "Smiling", (-1.0, 0.0, 1.0))
    assert [one.amount for one in made] == [-1.0, 0.0, 1.0]
    step = 2.0  # of signed coding, where labels 0 and 1 lie at -1 and 1
    for one in made:
        expected = mean_interval(model.means(z)[:, 0] + step * one.amount)
        assert one.logit == pytest.approx(expected, abs=1e-4)
        assert one.moved == pytest.approx((step * one.amount,) * 3, abs=1e-4)
    # At 0 the smile's mean is near -1, at -1 near -3: there one other attribute of two changes.
    assert made[0].others_moved == pytest.approx((0.5, 0.5, 0.5))
    assert made[1].others_moved == made[2].others_moved == (0.0, 0.0, 0.0)


def test_a_response_needs_what_the_design_has() -> None:
    z = Dial().design.sample(torch.zeros(4, 3), generator=seeded())
    with pytest.raises(ValueError, match="this design has no 'Smile': it has Smiling"):
        responses(Dial(), cast(AttributeJudge, LogReader()), z, "Smile", (1.0,))
    with pytest.raises(ValueError, match="this judge does not read"):
        responses(Dial(), cast(AttributeJudge, LogReader(NAMES[:1])), z, "Smiling", (1.0,))


# --- A judge's own report -------------------------------------------------------------------------


def read_data(count: int = 400) -> tuple[LabelledImages, Tensor]:
    """Coded pictures in bytes whose labels are exactly what the bytes say."""
    labels = coins(count)
    levels = torch.randint(96, 161, (count,), generator=seeded(6))  # curvature in [-1, 1.02]
    images = (coded(labels, torch.zeros(count), torch.ones(count)) * 255).round().byte()
    images[:, 0, 0, 3] = levels.byte()
    curvature = 8 * levels / 255 - 4
    labelled = torch.cat([labels, curvature[:, None]], dim=1)
    return LabelledImages(images, labelled, (*NAMES, "curvature")), curvature


def test_a_perfect_judge_is_reported_as_perfect() -> None:
    data, _ = read_data()
    report = judge_report(judge(NAMES[::-1]), data)
    assert report.count == 400
    assert list(report.accuracy) == list(NAMES[::-1])
    assert all(share == 1.0 for share, _, _ in report.accuracy.values())
    assert report.mean_accuracy == 1.0
    assert report.curvature_rmse == pytest.approx(0.0, abs=1e-5)
    assert report.calibration_error == pytest.approx(0.0, abs=1e-6)


def test_a_constant_judge_is_reported_as_constant() -> None:
    class Constant(Reader):
        def attributes(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 3), 0.73)

        def curvature(self, images: Tensor) -> Tensor:
            return torch.full((len(images),), 0.25)

    data, curvature = read_data()
    report = judge_report(cast(FaceJudge, Constant()), data, bins=4)
    for name in NAMES:
        positives = int(data.column(name).sum())
        assert report.accuracy[name] == wilson_interval(positives, 400)
    # One bin holds every reading: |0.73 - the share of attributes that are there|.
    share = float(torch.stack([data.column(name) for name in NAMES]).mean())
    assert report.calibration_error == pytest.approx(abs(0.73 - share), abs=1e-6)
    assert report.curvature_rmse == pytest.approx(
        math.sqrt(float((0.25 - curvature).square().mean())), rel=1e-5
    )
    # A constant reading is biased by about 0.25 minus the middle of each interval.
    assert len(report.curvature_bias) == 4
    for interval, bias in report.curvature_bias.items():
        low, high = (float(end) for end in interval.split(".."))
        assert bias == pytest.approx(0.25 - (low + high) / 2, abs=0.1)


def test_calibration_by_hand() -> None:
    """Readings 0.9 that are right 3 times of 4 and 0.1 that never are: errors 0.15 and 0.1."""

    class Unsure(Reader):
        def attributes(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.9]] * 4 + [[0.1]] * 4)

    labels = torch.tensor([[1.0], [1.0], [1.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    data = LabelledImages(
        torch.zeros(8, 3, 8, 8, dtype=torch.uint8),
        torch.cat([labels, torch.linspace(-1, 1, 8)[:, None]], dim=1),
        ("Smiling", "curvature"),
    )
    report = judge_report(cast(FaceJudge, Unsure(("Smiling",), ("Smiling",))), data)
    assert report.calibration_error == pytest.approx(0.5 * 0.15 + 0.5 * 0.1)
    assert report.accuracy["Smiling"][0] == pytest.approx(7 / 8)


def test_sensitivity_and_specificity_by_hand() -> None:
    """Five with the attribute, of whom two are seen; three without, one of whom is taken for one.

    The second attribute is on every picture, so nothing can be said of pictures without it.
    """

    class Unsure(Reader):
        def attributes(self, images: Tensor) -> Tensor:
            first = torch.tensor([0.9, 0.6, 0.4, 0.4, 0.1, 0.2, 0.3, 0.7])
            return torch.stack([first, torch.full((8,), 0.8)], dim=1)

    labels = torch.tensor([[1.0, 1.0]] * 5 + [[0.0, 1.0]] * 3)
    data = LabelledImages(torch.zeros(8, 3, 8, 8, dtype=torch.uint8), labels, ("Mustache", "Young"))
    reader = cast(AttributeJudge, Unsure(("Mustache", "Young"), ("Mustache", "Young")))
    report = attribute_report(reader, data)
    assert report.sensitivity == {"Mustache": wilson_interval(2, 5), "Young": wilson_interval(8, 8)}
    assert report.specificity == {"Mustache": wilson_interval(2, 3), "Young": None}
    assert report.accuracy["Mustache"] == wilson_interval(4, 8)
    assert report.balanced_accuracy == {"Mustache": pytest.approx((2 / 5 + 2 / 3) / 2)}


def test_labels_that_are_not_known_are_left_out_attribute_by_attribute() -> None:
    """A report is that of the pictures whose label is known, each attribute taken alone."""

    class Unsure(Reader):
        def attributes(self, images: Tensor) -> Tensor:
            return images[:, 0, 0, :3] * 0.6 + 0.1

    data, _ = read_data(200)
    labels = data.labels.clone()
    gone = torch.rand(200, 4, generator=seeded(9)) < torch.tensor([0.0, 0.3, 0.6, 0.4])
    labels[:, :3] = (labels[:, :3] - (torch.rand(200, 3, generator=seeded(2)) < 0.2).float()).abs()
    wrong = LabelledImages(data.images, labels, data.names)  # every fifth label is not what is seen
    some = LabelledImages(data.images, labels.masked_fill(gone, math.nan), data.names)
    reader = cast(FaceJudge, Unsure())
    found = judge_report(reader, some)
    assert found.count == 200
    for column, name in enumerate(NAMES):
        alone = judge_report(reader, wrong.select(~gone[:, column]))
        assert found.accuracy[name] == alone.accuracy[name]
        assert found.sensitivity[name] == alone.sensitivity[name]
        assert found.specificity[name] == alone.specificity[name]
    read = (data.images[:, 0, 0, :3].float() / 255 * 0.6 + 0.1)[~gone[:, :3]]  # 0.1 and 0.7
    truth = labels[:, :3][~gone[:, :3]]
    error = sum(
        float(own.float().mean() * (truth[own].mean() - value).abs())
        for own, value in ((read < 0.5, 0.1), (read > 0.5, 0.7))
    )
    assert found.calibration_error == pytest.approx(error, abs=1e-5)
    assert found.curvature_rmse == pytest.approx(0.0, abs=1e-5)
    assert (
        found.curvature_bias.keys()
        == judge_report(reader, wrong.select(~gone[:, 3])).curvature_bias.keys()
    )
    for name in ("Bangs", "curvature"):
        labels[:, data.names.index(name)] = math.nan
        with pytest.raises(ValueError, match=f"{name} is known of no picture here"):
            judge_report(reader, LabelledImages(data.images, labels, data.names))


def test_a_report_needs_every_label() -> None:
    data, _ = read_data(8)
    without = LabelledImages(data.images, data.labels[:, :3], NAMES)
    with pytest.raises(ValueError, match="there is no label 'curvature'"):
        judge_report(judge(), without)


# --- The judge that learns ------------------------------------------------------------------------


@lru_cache
def drawn(count: int = 1_900) -> tuple[Tensor, Tensor]:
    """Faces with frowns, (N, 3, 64, 64), and their curvature, drawn once for this file."""
    factors = faces.sample_factors(count, seeded(11), curvature=(-1.0, 1.0), gap=None)
    return faces.render(factors), factors.curvature


def test_a_judge_reads_faces_of_any_size() -> None:
    torch.manual_seed(0)
    reader = FaceJudge(NAMES, width=2).eval()
    for size in (32, 64):
        images = torch.rand(5, 3, size, size)
        assert reader.attributes(images).shape == (5, 3)
        assert reader.curvature(images).shape == (5,)
        assert reader.features(images).shape == (5, 128)
        probability = reader.attributes(images)
        assert bool(((probability > 0) & (probability < 1)).all())
        assert not probability.requires_grad
    # In pieces of 256 or one by one: the same.
    many = torch.rand(300, 3, 64, 64)
    torch.testing.assert_close(reader.curvature(many)[290:], reader.curvature(many[290:]))


def test_a_judge_learns_from_its_steps() -> None:
    torch.manual_seed(0)
    reader = FaceJudge(("Smiling",), width=4)
    images, curvature = drawn()
    labels = torch.stack([(curvature > 0.425).float(), curvature], dim=1)
    optimizers = reader.optimizers(3e-3)
    terms = [
        reader.training_step(images[i : i + 64], labels[i : i + 64], optimizers)
        for i in range(0, 64 * 20, 64)
    ]
    assert terms[0].keys() == {"loss", "attributes", "curvature"}
    for name in terms[0]:
        first, last = (
            sum(float(term[name]) for term in part) / 4 for part in (terms[:4], terms[-4:])
        )
        assert last < first


def judged(labels: Tensor, kind: type[AttributeJudge]) -> tuple[list[Tensor], Tensor]:
    """A judge's losses of fixed outputs for these labels, and the loss's gradient."""
    read = torch.randn(labels.shape, generator=seeded(4)).requires_grad_()
    losses = kind(NAMES, width=2).losses(read, labels)
    losses["loss"].backward()
    assert read.grad is not None
    return [value.detach() for value in losses.values()], read.grad


@pytest.mark.parametrize("kind", [AttributeJudge, FaceJudge])
def test_a_judges_loss_is_the_mean_over_the_labels_that_are_known(
    kind: type[AttributeJudge],
) -> None:
    labels = coins(49)
    if kind is FaceJudge:
        labels = torch.cat([labels, torch.rand(49, 1, generator=seeded(3))], dim=1)
    # All known: bit for bit the plain means.
    read = torch.randn(labels.shape, generator=seeded(4)).requires_grad_()
    functional = torch.nn.functional
    plain = functional.binary_cross_entropy_with_logits(read[:, :3], labels[:, :3])
    if kind is FaceJudge:
        plain = plain + 10.0 * functional.mse_loss(read[:, -1], labels[:, -1]) / 3
    plain.backward()
    (loss, *_), gradient = judged(labels, kind)
    assert torch.equal(loss, plain.detach())
    assert read.grad is not None
    assert torch.equal(gradient, read.grad)
    # Some unknown: the means over the others, and nothing is learnt of these.
    gone = torch.rand(labels.shape, generator=seeded(8)) < 0.4
    (loss, attributes, *curvature), gradient = judged(labels.masked_fill(gone, math.nan), kind)
    values, known = read.detach().double(), ~gone
    chance = torch.where(labels[:, :3] > 0.5, values[:, :3].sigmoid(), (-values[:, :3]).sigmoid())
    assert float(attributes) == pytest.approx(float(-chance.log()[known[:, :3]].mean()), rel=1e-5)
    if curvature:
        error = (values[:, 3] - labels[:, 3]).square()[known[:, 3]].mean()
        assert float(curvature[0]) == pytest.approx(float(error), rel=1e-5)
    assert bool((gradient[gone] == 0).all())
    assert bool((gradient[known] != 0).all())
    # None at all: nothing.
    (loss, *_), gradient = judged(torch.full_like(labels, math.nan), kind)
    assert float(loss) == 0
    assert bool((gradient == 0).all())


def test_a_judge_trains_where_labels_are_missing(tmp_path: Path) -> None:
    labels = coins(32).masked_fill(torch.rand(32, 3, generator=seeded(8)) < 0.5, math.nan)
    images = torch.randint(256, (32, 3, 16, 16), generator=seeded(1), dtype=torch.uint8)
    reader = AttributeJudge(NAMES, width=2)
    settings = TrainingSettings(images=64, batch_size=8, device="cpu", log_every=32)
    assert train(reader, LabelledImages(images, labels, NAMES), settings, tmp_path).complete


def test_a_judge_of_attributes_learns_from_labels_alone_and_loads(tmp_path: Path) -> None:
    images, curvature = drawn()
    labels = torch.stack([(curvature > 0.425).float(), (curvature < 0).float()], dim=1)
    data = LabelledImages((images * 255).byte(), labels, ("Smiling", "Frowning"))
    torch.manual_seed(0)
    reader = AttributeJudge(data.names, width=8)
    assert reader(images[:4]).shape == (4, 2)  # nothing but the attributes
    settings = TrainingSettings(images=4_800, batch_size=32, learning_rate=3e-3, device="cpu")
    run = train(reader, data.select(slice(1_600)), settings, tmp_path)
    again = hub.load(run.path)
    assert isinstance(again, AttributeJudge)
    held_out = data.select(slice(1_600, None))
    report = attribute_report(again, held_out)
    assert min(report.balanced_accuracy.values()) > 0.75
    assert report.accuracy == attribute_report(reader, held_out).accuracy
    logits = again.logits(held_out.float())
    torch.testing.assert_close(logits.sigmoid(), again.attributes(held_out.float()))


@pytest.mark.parametrize(
    ("reader", "names"), [(AttributeJudge, NAMES), (FaceJudge, (*NAMES, "curvature"))]
)
def test_a_judge_does_not_learn_from_columns_in_another_order(
    reader: type[AttributeJudge], names: tuple[str, ...], tmp_path: Path
) -> None:
    images = torch.zeros(8, 3, 16, 16, dtype=torch.uint8)
    data = LabelledImages(images, torch.zeros(8, len(names)), names[::-1])
    settings = TrainingSettings(images=8, batch_size=8, device="cpu")
    with pytest.raises(ValueError, match=f"the model reads the labels {', '.join(names)}; the da"):
        train(reader(NAMES, width=2), data, settings, tmp_path)


def test_a_judge_survives_its_configuration() -> None:
    config = json.loads(json.dumps(FaceJudge(NAMES, width=3).config()))
    again = FaceJudge.from_config(config)
    assert (again.names, again.width) == (NAMES, 3)


@pytest.mark.parametrize("names", [(), ("Smiling", "curvature")])
def test_a_judge_of_nothing_or_of_curvature_by_name_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="a judge needs attribute names"):
        FaceJudge(names)


@pytest.mark.parametrize("shape", [(3, 64, 64), (2, 1, 64, 64)])
def test_a_judge_of_pictures_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    sentence = f"a judge takes images of shape (B, 3, H, W), not {shape}"
    for reader in (FaceJudge(NAMES, width=2).eval(), MouthJudge(components=2)):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            reader.curvature(torch.rand(shape))


@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.0, 2.0])
def test_blur_equals_scipy(sigma: float) -> None:
    images = torch.rand(2, 3, 20, 17, generator=seeded())
    expected = ndimage.gaussian_filter(
        images.double().numpy(),
        (0, 0, sigma, sigma),
        mode="nearest",
        radius=(0, 0, max(1, round(3 * sigma)), max(1, round(3 * sigma))),
    )
    assert np.abs(blur(images, sigma).numpy() - expected).max() < 1e-5


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_worn_faces_stay_pictures_and_a_quarter_stays_clean(count: int) -> None:
    images = drawn()[0][:count]
    torch.manual_seed(0)
    after = worn(images)
    assert after.shape == images.shape
    assert 0 <= float(after.min()) <= float(after.max()) <= 1
    same = [bool(torch.equal(a, b)) for a, b in zip(after, images, strict=True)]
    assert same == [index < count // 4 for index in range(count)]
    assert float((after - images).abs().mean()) < 0.2  # and they stay recognisable


# --- The second judge -----------------------------------------------------------------------------


def test_the_mouth_judge_reads_held_out_faces() -> None:
    images, curvature = drawn()
    reader = MouthJudge(components=30).fit(images[:1_500], curvature[:1_500], penalty=100.0)
    error = reader.curvature(images[1_500:]) - curvature[1_500:]
    assert float(error.square().mean().sqrt()) < 0.3
    clear = curvature[1_500:].abs() > 0.6
    right = reader.curvature(images[1_500:][clear]).sign() == curvature[1_500:][clear].sign()
    assert float(right.float().mean()) > 0.95


def test_the_mouth_judges_fit_is_ridge_regression() -> None:
    """Against least squares on a system that carries the penalty as rows of its own."""
    images, curvature = drawn()
    images, curvature = images[:120], curvature[:120]
    penalty = 3.0
    reader = MouthJudge((0.625, 0.875, 0.25, 0.75), components=4).fit(images, curvature, penalty)
    edges = reader.edges(images).double().numpy()
    edges = (edges - edges.mean(axis=0)) / (edges.std(axis=0, ddof=1) + 1e-3)
    left, _, _ = np.linalg.svd(edges, full_matrices=False)
    along = left[:, :4] * math.sqrt(120)  # the leading components, each of unit variance
    pairs = [along[:, i] * along[:, j] for i in range(4) for j in range(i, 4)]
    features = np.concatenate([np.ones((120, 1)), edges, np.stack(pairs, axis=1)], axis=1)
    rows = math.sqrt(penalty) * np.eye(features.shape[1])
    rows[0, 0] = 0.0  # the constant is not penalised
    weight, *_ = np.linalg.lstsq(
        np.concatenate([features, rows]),
        np.concatenate([curvature.double().numpy(), np.zeros(len(rows))]),
        rcond=None,
    )
    # The sign of a component is free, and with it that of some products: not so the edges' weights.
    own = slice(0, 1 + edges.shape[1])
    assert np.abs(reader.weight.double().numpy()[own] - weight[own]).max() < 1e-3
    assert np.abs(reader.curvature(images).double().numpy() - features @ weight).max() < 1e-3


def test_the_mouth_judge_does_not_see_light_or_colour() -> None:
    """Edges are divided by the region's own contrast: half the light is read nearly the same."""
    images, curvature = drawn()
    reader = MouthJudge(components=10).fit(images[:600], curvature[:600], penalty=100.0)
    bright, dim = reader.curvature(images[600:700]), reader.curvature(images[600:700] * 0.6)
    assert float((bright - dim).abs().max()) < 0.1
    assert float(bright.std()) > 0.3


def test_oriented_edges_of_a_known_picture() -> None:
    """Stripes across or down put every vote into the first or into a middle orientation."""
    stripes = (torch.arange(64) // 2 % 2).float()  # two pixels dark, two bright
    reader = MouthJudge((0.25, 0.75, 0.25, 0.75), components=1)
    for picture, orientations in (
        (stripes.view(1, 1, 1, 64).expand(1, 3, 64, 64), {0}),  # the grey changes along x
        (stripes.view(1, 1, 64, 1).expand(1, 3, 64, 64), {4, 5}),  # 90 degrees lie between
    ):
        votes = reader.edges(picture).view(9, 8, 8).sum(dim=(1, 2))
        assert {i for i in range(9) if float(votes[i]) > 0.01 * float(votes.sum())} == orientations


def test_the_mouth_judge_survives_its_configuration() -> None:
    reader = MouthJudge((0.5, 0.75, 0.25, 0.75), components=5)
    again = MouthJudge.from_config(json.loads(json.dumps(reader.config())))
    assert again.config() == reader.config()
    again.load_state_dict(reader.state_dict())


def test_a_mouth_judge_that_cannot_be_fitted_is_refused() -> None:
    with pytest.raises(ValueError, match="5 images have 4 curvatures"):
        MouthJudge(components=2).fit(torch.rand(5, 3, 64, 64), torch.zeros(4), 1.0)
    for region in ((0.5, 1.0, 0.2, 0.8), (0.5, 0.4, 0.2, 0.8), (0.0, 0.5, 0.2, 0.8)):
        with pytest.raises(ValueError, match="does not lie inside the picture"):
            MouthJudge(region)


# --- The gate -------------------------------------------------------------------------------------


@lru_cache
def gate() -> FaceGate:
    images, _ = drawn()
    return FaceGate(components=100).fit(images[:900], images[900:1_300])


def rejected(images: Tensor) -> float:
    return 1 - float(gate().passes(images).float().mean())


def test_the_gate_lets_faces_pass_frowns_among_them() -> None:
    images, curvature = drawn()
    assert rejected(images[1_300:]) <= 0.05
    assert rejected(images[1_300:][curvature[1_300:] < -0.3]) <= 0.05
    large = torch.nn.functional.interpolate(images[1_300:1_360], scale_factor=2, mode="bilinear")
    assert rejected(large) <= 0.05


def test_the_gate_rejects_what_is_no_face() -> None:
    images = drawn()[0][1_300:1_500]
    noise = torch.rand(100, 3, 64, 64, generator=seeded())
    shuffled = images.flatten(2)[:, :, torch.randperm(64 * 64, generator=seeded())].view_as(images)
    for what, pictures in {
        "noise": noise,
        "smooth noise": blur(noise, 4.0).sub(0.5).mul(8).add(0.5).clamp(0, 1),
        "flat greys": torch.linspace(0, 1, 21).view(21, 1, 1, 1).expand(21, 3, 64, 64),
        "flat colours": torch.rand(100, 3, 1, 1, generator=seeded()).expand(100, 3, 64, 64),
        "shuffled pixels": shuffled,
        "upside down": images.flip(2),
    }.items():
        assert rejected(pictures) >= 0.95, what


def test_the_gate_rejects_faces_under_noise() -> None:
    images = drawn()[0][1_300:1_500]
    noisy = (images + 0.15 * torch.randn(images.shape, generator=seeded())).clamp(0, 1)
    assert rejected(noisy) >= 0.95


def test_a_picture_that_is_no_number_does_not_pass() -> None:
    assert rejected(torch.full((1, 3, 64, 64), math.nan)) == 1.0


def test_the_gates_scores_by_hand() -> None:
    """The residual and the distance against a singular value decomposition of the same faces."""
    images = drawn()[0][:1_300]
    shrunk = torch.nn.functional.interpolate(images, size=(32, 32), mode="bilinear", antialias=True)
    flat = shrunk.flatten(1).double().numpy()
    centred = flat - flat[:900].mean(axis=0)  # the first 900 were learnt from
    _, singular, axes = np.linalg.svd(centred[:900], full_matrices=False)
    held_out, spread = centred[900:], singular[:100] / math.sqrt(900)
    along = held_out @ axes[:100].T
    residual = np.linalg.norm(held_out - along @ axes[:100], axis=1)
    distance = np.linalg.norm(along / spread, axis=1)
    scores = gate().scores(images[900:]).numpy()
    assert np.abs(scores[:, 0] - residual).max() < 1e-3
    assert np.abs(scores[:, 1] / distance - 1).max() < 1e-3
    grey = images[900:].double().numpy().mean(axis=1)
    rough = [np.abs(ndimage.laplace(g)[1:-1, 1:-1]).mean() for g in grey]
    assert np.abs(scores[:, 2] - rough).max() < 1e-5
    limits = 1.1 * np.quantile(scores, 0.99, axis=0)
    assert np.allclose(gate().limits.numpy(), limits, rtol=1e-4)


def test_a_gate_of_too_few_faces_is_refused() -> None:
    images = torch.rand(5, 3, 32, 32)
    with pytest.raises(ValueError, match="5 components need more than 5 images"):
        FaceGate(components=5).fit(images, images)


# --- What an encoder puts where -------------------------------------------------------------------


def faces_as_data(count: int = 300) -> LabelledImages:
    labels = torch.randint(2, (count, 2), generator=seeded(7)).float()
    images = torch.randint(256, (count, 3, 16, 16), generator=seeded(8), dtype=torch.uint8)
    images[:, 0] = (images[:, 0].float() * 0.3 + 150 * labels[:, :1, None]).byte()
    return LabelledImages(images, labels, ("Smiling", "Bangs"))


@pytest.mark.parametrize("kind", [VAE, LSCVAE])
@pytest.mark.parametrize("coding", ["presence", "signed"])
def test_the_posterior_report_equals_a_direct_computation(kind: type[VAE], coding: str) -> None:
    torch.manual_seed(0)
    design = LatentDesign.lsc(("Smiling", "Bangs"), 2, size=6, coding=coding)
    model = kind(design, size=16, width=2).eval()
    data = faces_as_data()
    report = posterior(model, data)
    assert report.count == 300
    with torch.no_grad():
        mean, log_variance = model.encode(data.float())
        decoded = model.decode(mean)
    prior = design.mean(data.labels) if kind is LSCVAE else torch.zeros(300, 6)
    for name, block in (("Smiling", slice(0, 2)), ("Bangs", slice(2, 4)), ("free", slice(4, 6))):
        kl = gaussian_kl(mean[:, block], log_variance[:, block], prior[:, block]).mean()
        assert report.kl[name] == pytest.approx(float(kl), rel=1e-4)
    assert report.active == int(((mean - prior).double().numpy().var(axis=0, ddof=1) > 0.01).sum())
    for column, name in enumerate(("Smiling", "Bangs")):
        zero, one = (design.mean(torch.full((1, 2), label))[:, :4] for label in (0.0, 1.0))
        block = slice(2 * column, 2 * column + 2)
        right = 0
        for row in range(300):
            to_zero = float((mean[row, block] - zero[0, block]).norm())
            to_one = float((mean[row, block] - one[0, block]).norm())
            right += (to_one < to_zero) == bool(data.labels[row, column])
        assert report.read_out[name] == pytest.approx(right / 300, abs=1e-6)
    error = float((decoded.double() - data.float().double()).square().mean())
    assert report.psnr == pytest.approx(-10 * math.log10(error), rel=1e-5)
    json.dumps(report.to_dict(), allow_nan=False)


def test_an_encoder_that_finds_the_label_reads_it_out_and_one_that_does_not_is_at_chance() -> None:
    """A plain VAE whose encoder is blind must not be told the labels by the report itself."""

    class Blind(VAE):
        sees = False

        def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
            mean = torch.full((len(images), self.design.size), 0.1)
            if self.sees:
                red = (images[:, 0].mean(dim=(1, 2)) > 0.4).float()
                mean[:, self.design.block("Smiling")] = red[:, None]
            return mean, torch.zeros_like(mean)

    torch.manual_seed(0)
    data = faces_as_data()
    for sees in (False, True):
        model = Blind(LatentDesign.lsc(("Smiling", "Bangs"), 2, size=6), size=16, width=2).eval()
        model.sees = sees
        report = posterior(model, data)
        absent = {name: float((data.column(name) == 0).float().mean()) for name in data.names}
        assert report.read_out["Smiling"] == pytest.approx(1.0 if sees else absent["Smiling"])
        assert report.read_out["Bangs"] == pytest.approx(absent["Bangs"])
        assert report.active == (2 if sees else 0)


def test_a_posterior_of_other_labels_is_refused() -> None:
    model = LSCVAE(LatentDesign.lsc(("Bangs", "Smiling"), 2, size=6), size=16, width=2).eval()
    with pytest.raises(ValueError, match="attributes are Bangs, Smiling; the data's are Smiling"):
        posterior(model, faces_as_data(8))


def test_labels_that_are_not_known_have_no_part_in_what_is_read_out() -> None:
    torch.manual_seed(0)
    model = VAE(LatentDesign.lsc(("Smiling", "Bangs"), 2, size=6), size=16, width=2).eval()
    data = faces_as_data(60)
    labels = data.labels.clone()
    labels[:20, 0], labels[:, 1] = math.nan, math.nan
    found = posterior(model, LabelledImages(data.images, labels, data.names))
    known = posterior(model, data.select(slice(20, None)))
    assert found.read_out == {"Smiling": pytest.approx(known.read_out["Smiling"])}
    assert found.kl == pytest.approx(posterior(model, data).kl)


def test_a_posterior_of_a_vae_that_is_handed_the_labels_is_refused() -> None:
    model = ConditionalVAE(LatentDesign.conditional(("Smiling", "Bangs"), 1, 6), size=16, width=2)
    with pytest.raises(ValueError, match="a ConditionalVAE's encoder infers the noise alone"):
        posterior(model.eval(), faces_as_data(8))


def test_the_mouth_judge_refuses_too_few_faces() -> None:
    with pytest.raises(ValueError, match="60 components need more than 8 images"):
        MouthJudge().fit(torch.rand(8, 3, 64, 64), torch.zeros(8), penalty=1.0)
