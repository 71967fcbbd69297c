"""Latent designs against brute force: random designs, the laws of their parts, every refusal."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from lscgan.latent import ConditionBlock, GaussianBlock, LatentDesign, Noise

NAMES = st.from_regex(r"[A-Z][a-z_]{0,6}", fullmatch=True)
unhurried = settings(deadline=None, max_examples=50)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@dataclass
class Case:
    """A design, and what it was asked to be in plain Python: each part's name and size in order."""

    design: LatentDesign
    sizes: list[tuple[str, int]]
    coding: str
    shift: float

    def label_mean(self, label: float) -> float:
        return label * self.shift if self.coding == "presence" else (2 * label - 1) * self.shift


@st.composite
def lsc_cases(draw: st.DrawFn, least: int = 0) -> Case:
    names = draw(st.lists(NAMES, unique=True, min_size=least, max_size=5))
    dims = draw(st.integers(1, 6))
    free = draw(st.integers(0 if names else 1, 5))
    shift = draw(st.floats(0.1, 4.0))
    coding = draw(st.sampled_from(["presence", "signed"]))
    size = len(names) * dims + free
    design = LatentDesign.lsc(names, dims, size=size, shift=shift, coding=coding)
    sizes = [(name, dims) for name in names] + ([("free", free)] if free else [])
    return Case(design, sizes, coding, shift)


@st.composite
def infogan_cases(draw: st.DrawFn) -> Case:
    classes = draw(st.lists(st.integers(2, 9), max_size=3))
    continuous = draw(st.integers(0, 3))
    noise = draw(st.integers(0 if classes or continuous else 1, 5))
    design = LatentDesign.infogan(classes, continuous, noise)
    sizes = [(f"categorical_{i + 1}", size) for i, size in enumerate(classes)]
    sizes += [(f"continuous_{i + 1}", 1) for i in range(continuous)]
    sizes += [("free", noise)] if noise else []
    return Case(design, sizes, "", 0.0)


def some_labels(case: Case, count: int, seed: int) -> Tensor:
    """Labels that the design accepts: whole classes for a categorical code, any amount else."""
    chance = seeded(seed)
    columns = []
    for name, size in case.sizes:
        if name.startswith("categorical"):
            columns.append(torch.randint(size, (count,), generator=chance).float())
        elif name != "free":
            columns.append(4 * torch.rand(count, generator=chance) - 2)
    return torch.stack(columns, dim=1) if columns else torch.zeros(count, 0)


# --- The plan of a design -------------------------------------------------------------------------


@unhurried
@given(st.one_of(lsc_cases(), infogan_cases()))
def test_blocks_follow_each_other_and_cover_every_dimension(case: Case) -> None:
    covered = []
    for name, size in case.sizes:
        block = case.design.block(name)
        assert block.stop - block.start == size
        covered += list(range(case.design.size))[block]
    assert covered == list(range(sum(size for _, size in case.sizes)))
    assert case.design.names == tuple(name for name, _ in case.sizes if name != "free")


def test_defaults_are_those_of_the_papers() -> None:
    lsc = LatentDesign.lsc(["Smiling", "Bangs"])
    assert (lsc.size, lsc.block("Bangs"), lsc.block("free")) == (
        512,
        slice(20, 40),
        slice(40, 512),
    )
    assert lsc.mean(torch.tensor([[0.0, 1.0]]))[0].tolist() == [0.0] * 20 + [1.0] * 20 + [0.0] * 472
    infogan = LatentDesign.infogan()
    assert infogan.size == 74
    assert infogan.names == ("categorical_1", "continuous_1", "continuous_2")


@unhurried
@given(lsc_cases(), st.integers(0, 4), st.integers(0, 99))
def test_lsc_mean_equals_a_loop_over_rows_and_dimensions(case: Case, count: int, seed: int) -> None:
    labels = some_labels(case, count, seed)
    mean = case.design.mean(labels)
    assert mean.dtype == torch.float32
    expected = [
        [
            0.0 if name == "free" else case.label_mean(float(labels[row, column]))
            for column, (name, size) in enumerate(case.sizes)
            for _ in range(size)
        ]
        for row in range(count)
    ]
    torch.testing.assert_close(
        mean, torch.tensor(expected).reshape(count, case.design.size), atol=1e-5, rtol=1e-5
    )


@unhurried
@given(infogan_cases(), st.integers(0, 4), st.integers(0, 99))
def test_infogan_mean_is_the_one_hot_code_and_the_value(case: Case, count: int, seed: int) -> None:
    labels = some_labels(case, count, seed)
    expected = torch.zeros(count, case.design.size)
    for row in range(count):
        place = 0
        for column, (name, size) in enumerate(case.sizes):
            if name.startswith("categorical"):
                expected[row, place + int(labels[row, column])] = 1.0
            elif name.startswith("continuous"):
                expected[row, place] = labels[row, column]
            place += size
    assert torch.equal(case.design.mean(labels), expected)


@pytest.mark.parametrize(
    ("coding", "amounts", "means"),
    [
        ("presence", [0, 1, 0.5, -1, 2], [0.0, 1.5, 0.75, -1.5, 3.0]),
        ("signed", [0, 1, 0.5, -1, 2], [-1.5, 1.5, 0.0, -4.5, 4.5]),
    ],
)
def test_labels_between_and_beyond_lie_on_one_line(
    coding: str, amounts: list[float], means: list[float]
) -> None:
    design = LatentDesign.lsc(["Smiling"], 2, size=3, shift=1.5, coding=coding)
    for amount, mean in zip(amounts, means, strict=True):
        assert design.mean(torch.tensor([[float(amount)]])).tolist() == [[mean, mean, 0.0]]


def test_booleans_whole_numbers_floats_and_a_single_row_say_the_same() -> None:
    design = LatentDesign.lsc(["A", "B"], 3, size=8, coding="signed")
    expected = design.mean(torch.tensor([[1.0, 0.0]]))
    for row in ([1, 0], [True, False], [1.0, 0.0]):
        assert torch.equal(design.mean(torch.tensor([row])), expected)
        assert torch.equal(design.mean(torch.tensor(row)), expected)
    assert torch.equal(design.mean(torch.tensor([[1.0, 0.0]], dtype=torch.float64)), expected)


def test_features_add_up() -> None:
    design = LatentDesign.lsc(["A", "B"], 3, size=8)
    one, other, both = (design.mean(torch.tensor([row])) for row in ([1, 0], [0, 1], [1, 1]))
    assert torch.equal(one + other, both)


def test_labels_name_the_columns() -> None:
    design = LatentDesign.lsc(["A", "B", "C"], 1, size=3)
    assert design.labels(2, C=0.5, A=1).tolist() == [[1.0, 0.0, 0.5]] * 2
    assert design.labels().tolist() == [[0.0, 0.0, 0.0]]
    assert design.labels(0).shape == (0, 3)
    of_all_names = LatentDesign.lsc(["count", "self", "labels"], 1, size=3)
    assert of_all_names.labels(2, count=1, labels=0.5).tolist() == [[1.0, 0.0, 0.5]] * 2


@pytest.mark.parametrize(
    "labels", [torch.ones(4, 3), torch.full((4, 2), math.nan), torch.ones(4, 0)]
)
def test_a_design_without_names_looks_at_no_label(labels: Tensor) -> None:
    design = LatentDesign.lsc((), size=5)
    assert torch.equal(design.mean(labels), torch.zeros(4, 5))
    same = design.sample(count=4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(design.sample(labels, generator=torch.Generator().manual_seed(3)), same)


# --- Its law --------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["presence", "signed"])
def test_a_block_is_a_unit_gaussian_around_its_mean(coding: str) -> None:
    count = 20_000
    design = LatentDesign.lsc(["A", "B"], 3, size=10, shift=2.0, coding=coding)
    row = torch.tensor([1.0, 0.25])
    z = design.sample(row, count=count, generator=seeded()).double()
    away = z - design.mean(row).double()
    assert z.shape == (count, 10)
    # 5 standard errors: of a mean 1/sqrt(n), of a (co)variance about sqrt(2/n).
    assert float(away.mean(dim=0).abs().max()) < 5 / math.sqrt(count)
    covariance = away.T @ away / count
    assert float((covariance - torch.eye(10)).abs().max()) < 5 * math.sqrt(2 / count)
    for dimension in away.T:
        assert stats.kstest(dimension.numpy(), "norm").pvalue > 1e-4


def test_codes_of_infogan_follow_their_laws() -> None:
    count = 20_000
    parts = LatentDesign.infogan((5,), 2, 3).split(
        LatentDesign.infogan((5,), 2, 3).sample(count=count, generator=seeded())
    )
    hot = parts["categorical_1"]
    assert torch.equal(hot.sum(dim=1), torch.ones(count))
    assert set(hot.unique().tolist()) == {0.0, 1.0}
    assert stats.chisquare(hot.sum(dim=0).numpy()).pvalue > 1e-4
    for name in ("continuous_1", "continuous_2"):
        values = parts[name][:, 0].double().numpy()
        assert stats.kstest(values, stats.uniform(-1, 2).cdf).pvalue > 1e-4
    for dimension in parts["free"].T.double():
        assert stats.kstest(dimension.numpy(), "norm").pvalue > 1e-4


def test_labels_not_given_are_fair_and_independent_coins() -> None:
    count = 4_000
    design = LatentDesign.lsc(["A", "B"], 100, size=200, coding="signed")
    z = design.sample(count=count, generator=seeded())
    drawn = torch.stack([z[:, :100].mean(dim=1) > 0, z[:, 100:].mean(dim=1) > 0], dim=1)
    for a in (False, True):
        for b in (False, True):
            share = float((drawn == torch.tensor([a, b])).all(dim=1).float().mean())
            assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / count)


def test_a_generator_decides_the_sample_and_the_global_one_is_left_alone() -> None:
    design = LatentDesign.lsc(["A"], 2, size=5)
    before = torch.get_rng_state()
    one = design.sample(count=4, generator=seeded(3))
    assert torch.equal(one, design.sample(count=4, generator=seeded(3)))
    assert not torch.equal(one, design.sample(count=4, generator=seeded(4)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_single_row_is_repeated_with_fresh_noise() -> None:
    design = LatentDesign.lsc(["A"], 2, size=4)
    z = design.sample(torch.tensor([1.0]), count=3, generator=seeded())
    assert z.shape == (3, 4)
    assert not torch.equal(z[0], z[1])
    assert torch.equal(z, design.sample(torch.ones(3, 1), generator=seeded()))
    assert design.sample(torch.tensor([1.0])).shape == (1, 4)
    assert design.sample(count=0).shape == (0, 4)
    assert design.sample(torch.ones(2, 1), count=2).shape == (2, 4)


@pytest.mark.parametrize("k", [1, 5, 20])
def test_two_labels_are_told_apart_with_probability_phi_of_half_root_k(k: int) -> None:
    """Between N(0, I) and N(1, I) in k dimensions the nearest mean is Bayes's own answer."""
    count = 20_000
    design = LatentDesign.lsc(["A"], k, size=k + 3)
    labels = torch.arange(count) % 2
    z = design.sample(labels[:, None], generator=seeded(k))
    to_zero, to_one = (
        (z - design.mean(torch.tensor([[label]]))).square().sum(dim=1) for label in (0, 1)
    )
    accuracy = float(((to_one < to_zero) == (labels == 1)).float().mean())
    expected = float(stats.norm.cdf(math.sqrt(k) / 2))
    assert abs(accuracy - expected) < 4 * math.sqrt(expected * (1 - expected) / count)


# --- Moving and taking apart ----------------------------------------------------------------------


@unhurried
@given(lsc_cases(least=1), st.floats(-3, 3), st.integers(0, 99))
def test_shift_moves_one_block_and_leaves_z_untouched(case: Case, amount: float, seed: int) -> None:
    design = case.design
    z = torch.randn(3, design.size, generator=seeded(seed))
    original = z.clone()
    name = design.names[seed % len(design.names)]
    moved = design.shift(z, **{name: amount})
    assert torch.equal(z, original)
    step = case.label_mean(1.0) - case.label_mean(0.0)
    block = design.block(name)
    for dimension in range(design.size):
        by = amount * step if block.start <= dimension < block.stop else 0.0
        torch.testing.assert_close(moved[:, dimension], z[:, dimension] + by)


@unhurried
@given(lsc_cases(least=1), st.integers(0, 99))
def test_a_sample_at_0_shifted_by_1_is_the_sample_at_1(case: Case, seed: int) -> None:
    design = case.design
    zero, one = (
        design.sample(torch.full((4, len(design.names)), label), generator=seeded(seed))
        for label in (0.0, 1.0)
    )
    torch.testing.assert_close(design.shift(zero, **dict.fromkeys(design.names, 1.0)), one)


def test_shift_takes_an_amount_for_each_vector() -> None:
    design = LatentDesign.lsc(["A", "B"], 1, size=3, coding="signed")
    moved = design.shift(torch.zeros(3, 3), A=torch.tensor([-1.0, 0.0, 0.5]), B=1)
    assert moved.tolist() == [[-2.0, 2.0, 0.0], [0.0, 2.0, 0.0], [1.0, 2.0, 0.0]]
    assert LatentDesign.infogan().shift(torch.zeros(1, 74), continuous_2=0.5)[0, 11] == 0.5


@unhurried
@given(st.one_of(lsc_cases(), infogan_cases()), st.integers(0, 4))
def test_split_takes_z_apart_and_concatenation_puts_it_together(case: Case, count: int) -> None:
    z = torch.randn(count, case.design.size)
    parts = case.design.split(z)
    assert [(name, part.shape[1]) for name, part in parts.items()] == case.sizes
    assert torch.equal(torch.cat(list(parts.values()), dim=1), z)


@unhurried
@given(st.one_of(lsc_cases(), infogan_cases()))
def test_a_design_survives_json(case: Case) -> None:
    saved = json.loads(json.dumps(case.design.to_dict(), allow_nan=False))
    assert LatentDesign.from_dict(saved) == case.design


@unhurried
@given(lsc_cases(), st.integers(0, 99))
def test_a_design_that_was_saved_samples_the_same(case: Case, seed: int) -> None:
    again = LatentDesign.from_dict(case.design.to_dict())
    assert torch.equal(
        case.design.sample(count=2, generator=seeded(seed)),
        again.sample(count=2, generator=seeded(seed)),
    )


# --- Conditions: labels handed over as they are ---------------------------------------------------


@st.composite
def conditional_cases(draw: st.DrawFn) -> Case:
    names = draw(st.lists(NAMES, unique=True, min_size=1, max_size=4))
    repeats, free = draw(st.integers(1, 4)), draw(st.integers(0, 4))
    shift = draw(st.floats(0.1, 4.0))
    coding = draw(st.sampled_from(["presence", "signed"]))
    size = len(names) * repeats + free
    design = LatentDesign.conditional(names, repeats, size, shift, coding)
    sizes = [(name, repeats) for name in names] + ([("free", free)] if free else [])
    return Case(design, sizes, coding, shift)


@unhurried
@given(conditional_cases(), st.integers(0, 4), st.integers(0, 99))
def test_conditions_are_sampled_as_their_mean_and_the_rest_as_noise(
    case: Case, count: int, seed: int
) -> None:
    labels = some_labels(case, count, seed)
    design = case.design
    free = case.sizes[-1][1] if case.sizes[-1][0] == "free" else 0
    told = design.size - free
    z = design.sample(labels, generator=seeded(seed))
    expected = [
        [case.label_mean(float(labels[row, column])) for column, (name, size) in columns]
        for row in range(count)
        for columns in [[c for c in enumerate(case.sizes) for _ in range(c[1][1])][:told]]
    ]
    torch.testing.assert_close(
        z[:, :told], torch.tensor(expected).reshape(count, told), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(z[:, :told], design.mean(labels)[:, :told])
    noise = torch.randn(count, free, generator=seeded(seed))
    assert torch.equal(z[:, told:], noise)


@unhurried
@given(conditional_cases(), st.integers(0, 3), st.integers(0, 99))
def test_conditions_have_the_means_of_gaussian_blocks(case: Case, count: int, seed: int) -> None:
    names = list(case.design.names)
    repeats = case.sizes[0][1]
    like = LatentDesign.lsc(names, repeats, case.design.size, case.shift, case.coding)
    labels = some_labels(case, count, seed)
    assert torch.equal(case.design.mean(labels), like.mean(labels))
    assert case.design != like


@unhurried
@given(conditional_cases(), st.floats(-3, 3), st.integers(0, 99))
def test_a_condition_shifts_like_a_block(case: Case, amount: float, seed: int) -> None:
    design = case.design
    z = design.sample(torch.zeros(3, len(design.names)), generator=seeded(seed))
    name = design.names[seed % len(design.names)]
    at = design.labels(3, **{name: amount})
    moved = design.shift(z, **{name: amount})
    expected = design.sample(at, generator=seeded(seed))
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=1e-5)


@unhurried
@given(conditional_cases(), st.integers(0, 99))
def test_a_conditional_design_survives_json(case: Case, seed: int) -> None:
    saved = json.loads(json.dumps(case.design.to_dict(), allow_nan=False))
    kinds = [part["kind"] for part in saved["parts"]]
    free = case.sizes[-1][0] == "free"
    assert kinds == ["condition"] * len(case.design.names) + ["noise"] * free
    again = LatentDesign.from_dict(saved)
    assert again == case.design
    assert all(isinstance(code, ConditionBlock) for code in again.codes)
    assert torch.equal(
        again.sample(count=2, generator=seeded(seed)),
        case.design.sample(count=2, generator=seeded(seed)),
    )


# --- Doses: which label a vector stands for -------------------------------------------------------


@unhurried
@given(st.one_of(lsc_cases(least=1), conditional_cases()), st.integers(0, 4), st.integers(0, 99))
def test_the_doses_of_a_prior_mean_are_its_labels(case: Case, count: int, seed: int) -> None:
    labels = some_labels(case, count, seed)
    doses = case.design.doses(case.design.mean(labels))
    torch.testing.assert_close(doses, labels, atol=1e-4, rtol=1e-4)


@unhurried
@given(lsc_cases(least=1), st.floats(-3, 3), st.integers(0, 99))
def test_a_shift_moves_one_dose_by_its_amount(case: Case, amount: float, seed: int) -> None:
    design = case.design
    z = torch.randn(3, design.size, generator=seeded(seed))
    column = seed % len(design.names)
    moved = design.doses(design.shift(z, **{design.names[column]: amount})) - design.doses(z)
    expected = torch.zeros(3, len(design.names))
    expected[:, column] = amount
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("coding", ["presence", "signed"])
def test_doses_scatter_around_the_label_by_their_spread(coding: str) -> None:
    count = 20_000
    design = LatentDesign.lsc(["A", "B"], 5, size=12, shift=0.75, coding=coding)
    z = design.sample(torch.tensor([1.0, 0.25]), count=count, generator=seeded())
    doses = design.doses(z).double()
    spread = design.dose_spread().double()
    step = 1.5 if coding == "signed" else 0.75
    assert spread.tolist() == pytest.approx([1 / (step * math.sqrt(5))] * 2)
    error = spread / math.sqrt(count)
    assert bool(((doses.mean(dim=0) - torch.tensor([1.0, 0.25])).abs() < 5 * error).all())
    assert bool(((doses.std(dim=0) - spread).abs() < 5 * error).all())


def test_labels_of_conditions_not_given_are_fair_coins() -> None:
    design = LatentDesign.conditional(["A", "B"], 1, size=2)
    z = design.sample(count=4_000, generator=seeded())
    assert set(z.unique().tolist()) == {0.0, 1.0}
    for a in (0, 1):
        for b in (0, 1):
            share = float((z == torch.tensor([a, b])).all(dim=1).float().mean())
            assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4_000)


# --- Refusals -------------------------------------------------------------------------------------

LSC = LatentDesign.lsc(["Smiling", "Bangs"], 2, size=5)
GAN = LatentDesign.infogan((3,), 1, 2)
NAN = float("nan")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attributes": "Smiling"}, "attributes is a list of names: write ['Smiling']"),
        ({"attributes": ["A", "A"]}, "'A' is named twice"),
        ({"attributes": ["A", ""]}, "needs a name, not ''"),
        ({"attributes": ["A", 3]}, "needs a name, not 3"),
        ({"attributes": ["free"]}, "'free' is"),
        ({"dims_per_attribute": 0}, "dims_per_attribute is a whole number of at least 1, not 0"),
        ({"dims_per_attribute": 2.0}, "dims_per_attribute is a whole number"),
        ({"dims_per_attribute": True}, "dims_per_attribute is a whole number"),
        ({"size": 0, "attributes": []}, "size is a whole number of at least 1, not 0"),
        ({"size": -4}, "size is a whole number of at least 1, not -4"),
        ({"size": 39}, "2 attributes of 20 dimensions need 40, but size is 39"),
        ({"shift": 0.0}, "shift is a finite number above 0"),
        ({"shift": -1.0}, "shift is a finite number above 0"),
        ({"shift": NAN}, "shift is a finite number above 0"),
        ({"shift": math.inf}, "shift is a finite number above 0"),
        ({"coding": "centred"}, "coding is 'presence' or 'signed', not 'centred'"),
    ],
)
def test_a_wrong_lsc_design_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LatentDesign.lsc(**{"attributes": ["A", "B"], **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"attributes": ["A", "A"]}, "'A' is named twice"),
        ({"repeats": 3, "size": 5}, "2 attributes of 3 dimensions need 6, but size is 5"),
        ({"shift": -1.0}, "shift is a finite number above 0"),
        ({"coding": "centred"}, "coding is 'presence' or 'signed', not 'centred'"),
    ],
)
def test_a_wrong_conditional_design_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LatentDesign.conditional(**{"attributes": ["A", "B"], **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"categorical": (1,)}, "a categorical code has at least 2 classes, not 1"),
        ({"categorical": (2.5,)}, "a categorical code has at least 2 classes, not 2.5"),
        ({"continuous": -1}, "continuous is a whole number of at least 0, not -1"),
        ({"noise": -1}, "noise is a whole number of at least 0, not -1"),
        ({"noise": 1.5}, "noise is a whole number of at least 0, not 1.5"),
        ({"categorical": (), "continuous": 0, "noise": 0}, "needs at least one part"),
    ],
)
def test_a_wrong_infogan_design_is_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LatentDesign.infogan(**arguments)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: LSC.block("Hat"), "has no 'Hat': it has Smiling, Bangs, free"),
        (lambda: LSC.labels(2, Hat=1), "has no 'Hat': it has Smiling, Bangs"),
        (lambda: LSC.labels(-1), "count is a whole number of at least 0, not -1"),
        (lambda: LSC.labels(1.5), "count is a whole number of at least 0, not 1.5"),  # type: ignore[arg-type]
        (lambda: LSC.shift(torch.zeros(1, 5), Hat=1), "has no 'Hat': it has Smiling, Bangs"),
        (lambda: LSC.shift(torch.zeros(1, 5), free=1), "has no 'free'"),
        (lambda: LSC.shift(torch.zeros(5), Bangs=1), "z has shape (B, 5), not (5,)"),
        (lambda: LSC.shift(torch.zeros(2, 4), Bangs=1), "z has shape (B, 5), not (2, 4)"),
        (
            lambda: LSC.shift(torch.zeros(3, 5), Bangs=torch.ones(2)),
            "the amount of 'Bangs' is one number or one a vector (3), not a tensor of shape (2,)",
        ),
        (lambda: LSC.shift(torch.zeros(3, 5), Bangs=torch.ones(3, 1)), "shape (3, 1)"),
        (lambda: GAN.shift(torch.zeros(1, 6), categorical_1=1), "has classes, not amounts"),
        (lambda: LSC.split(torch.zeros(2, 6)), "z has shape (B, 5), not (2, 6)"),
        (lambda: LSC.doses(torch.zeros(2, 6)), "z has shape (B, 5), not (2, 6)"),
        (lambda: GAN.doses(torch.zeros(2, 6)), "'categorical_1' has no dose"),
        (lambda: LSC.mean(torch.zeros(2, 3)), "labels have shape (B, 2)"),
        (lambda: LSC.mean(torch.zeros(2, 2, 2)), "these have (2, 2, 2)"),
        (lambda: LSC.mean(torch.tensor([[NAN, 0.0]])), "a label is not a finite number"),
        (lambda: LSC.mean(torch.tensor([[0.0, math.inf]])), "a label is not a finite number"),
        (lambda: GAN.mean(torch.tensor([[3.0, 0.0]])), "give whole numbers from 0 to 2"),
        (lambda: GAN.mean(torch.tensor([[-1.0, 0.0]])), "give whole numbers from 0 to 2"),
        (lambda: GAN.mean(torch.tensor([[0.5, 0.0]])), "give whole numbers from 0 to 2"),
        (lambda: LSC.sample(), "give labels, or count"),
        (lambda: LSC.sample(count=-1), "count is a whole number of at least 0, not -1"),
        (lambda: LSC.sample(torch.zeros(3, 2), count=4), "count is 4 but there are 3 rows"),
        (lambda: LSC.sample(torch.zeros(3), count=4), "labels have shape (B, 2)"),
        (lambda: LatentDesign.from_dict({}), "not a saved latent design"),
        (lambda: LatentDesign.from_dict({"parts": [{"kind": "x"}]}), "not a saved latent design"),
        (
            lambda: LatentDesign.from_dict({"parts": [{"kind": "noise", "wide": 3}]}),
            "not a saved latent design",
        ),
        (lambda: LatentDesign.from_dict({"parts": []}), "needs at least one part"),
        (lambda: LatentDesign((Noise(3), Noise(2))), "'free' is named twice"),
        (lambda: LatentDesign((GaussianBlock("A", 0, 0.0, 1.0),)), "the size of 'A'"),
    ],
)
def test_wrong_questions_get_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        call()
    assert "\n" not in str(refusal.value)


def test_codes_without_amounts_have_no_dose() -> None:
    design = LatentDesign.infogan()
    with pytest.raises(ValueError, match="'categorical_1' has no dose"):
        design.dose_spread()
    with pytest.raises(ValueError, match="'categorical_1' has no dose"):
        design.doses(design.sample(count=2))
