"""The information bound: against brute force, closed forms and readers whose answer is known."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, Normal, kl_divergence

from lscgan.evaluation import Channel, entropy, mutual_information
from lscgan.latent import LatentDesign


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def distributions(rows: int, columns: int, seed: int, sharp: float = 1.0) -> Tensor:
    """Random distributions, one a row; the sharper, the nearer to one-hot: (rows, columns)."""
    numbers = torch.randn(rows, columns, generator=seeded(seed), dtype=torch.float64)
    return (sharp * numbers).softmax(dim=1)


@st.composite
def channels(draw: st.DrawFn) -> Channel:
    """Random channels, some of whose codes and outcomes never occur."""
    codes, outcomes = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    seed, sharp = draw(st.integers(0, 10_000)), draw(st.sampled_from([0.1, 1.0, 4.0]))
    prior = distributions(1, codes, seed, sharp)[0]
    likelihood = distributions(codes, outcomes, seed + 1, sharp)
    if codes > 1 and draw(st.booleans()):
        prior = torch.cat([torch.zeros(1).double(), prior[1:] / prior[1:].sum()])
    if outcomes > 1 and draw(st.booleans()):
        likelihood[:, 0] = 0.0
        likelihood = likelihood / likelihood.sum(dim=1, keepdim=True)
    return Channel(prior, likelihood)


def by_double_sum(channel: Channel) -> float:
    """sum over c and x of p(c, x) log[p(c, x) / (p(c) p(x))], in plain numbers."""
    prior, likelihood = channel.prior.tolist(), channel.likelihood.tolist()
    outcomes = range(len(likelihood[0]))
    p_x = [sum(p * row[x] for p, row in zip(prior, likelihood, strict=True)) for x in outcomes]
    total = 0.0
    for p, row in zip(prior, likelihood, strict=True):
        for x in outcomes:
            if p * row[x] > 0:
                total += p * row[x] * math.log(row[x] / p_x[x])
    return total


# --- The exact value ------------------------------------------------------------------------------


@given(channels())
def test_information_equals_a_double_sum(channel: Channel) -> None:
    information = channel.information()
    assert information == pytest.approx(by_double_sum(channel), abs=1e-9)
    assert -1e-12 <= information <= entropy(channel.prior) + 1e-9
    assert entropy(channel.prior) == pytest.approx(float(Categorical(channel.prior).entropy()))


@pytest.mark.parametrize("codes", [2, 3, 10])
def test_a_channel_without_noise_tells_all(codes: int) -> None:
    prior = torch.full((codes,), 1 / codes, dtype=torch.float64)
    order = torch.randperm(codes, generator=seeded(codes))
    channel = Channel(prior, torch.eye(codes, dtype=torch.float64)[order])
    assert channel.information() == pytest.approx(math.log(codes))
    assert channel.bound(channel.posterior) == pytest.approx(math.log(codes))


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 1_000))
def test_outcomes_that_do_not_depend_on_the_code_tell_nothing(
    codes: int, outcomes: int, seed: int
) -> None:
    prior = distributions(1, codes, seed)[0]
    channel = Channel(prior, distributions(1, outcomes, seed + 1).expand(codes, -1))
    assert channel.information() == pytest.approx(0.0, abs=1e-12)
    torch.testing.assert_close(channel.posterior, prior.expand(outcomes, -1))


@given(st.floats(0.0, 1.0))
def test_a_binary_symmetric_channel(flipped: float) -> None:
    """I = log 2 - H(flipped) for a fair coin that is read wrongly with this probability."""
    rows = torch.tensor([[1 - flipped, flipped], [flipped, 1 - flipped]], dtype=torch.float64)
    channel = Channel(torch.tensor([0.5, 0.5], dtype=torch.float64), rows)
    lost = -sum(p * math.log(p) for p in (flipped, 1 - flipped) if p > 0)
    assert channel.information() == pytest.approx(math.log(2) - lost, abs=1e-9)


def test_an_erasure_channel_loses_what_it_erases() -> None:
    """x is the code, or "erased" with probability 0.3: I = 0.7 H(c)."""
    prior = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    rows = torch.cat([0.7 * torch.eye(3).double(), torch.full((3, 1), 0.3).double()], dim=1)
    channel = Channel(prior, rows)
    assert channel.information() == pytest.approx(0.7 * entropy(prior))
    torch.testing.assert_close(channel.posterior[3], prior)


def test_a_known_posterior() -> None:
    """Bayes by hand: 0.5 * 0.8 against 0.5 * 0.4, and an outcome that never comes."""
    prior = torch.tensor([0.5, 0.5])
    channel = Channel(prior, torch.tensor([[0.8, 0.2, 0.0], [0.4, 0.6, 0.0]]))
    expected = torch.tensor([[2 / 3, 1 / 3], [1 / 4, 3 / 4], [1 / 2, 1 / 2]])
    torch.testing.assert_close(channel.posterior, expected)


def test_a_very_rare_outcome_has_a_posterior_too() -> None:
    """An outcome of probability 1e-13 is no outcome of probability 0."""
    rows = torch.tensor([[1 - 1e-13, 1e-13], [1 - 3e-13, 3e-13]], dtype=torch.float64)
    channel = Channel(torch.tensor([0.5, 0.5], dtype=torch.float64), rows)
    expected = torch.tensor([0.25, 0.75], dtype=torch.float64)
    torch.testing.assert_close(channel.posterior[1], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("rare", [1e-3, 1e-7, 1e-9])
def test_a_rare_code_that_is_shown_clearly_counts_in_full(rare: float) -> None:
    """Without noise I = H(c), however rare a code is."""
    prior = torch.tensor([rare, 1 - rare], dtype=torch.float64)
    channel = Channel(prior, torch.eye(2, dtype=torch.float64))
    expected = -sum(p * math.log(p) for p in (rare, 1 - rare))
    assert channel.information() == pytest.approx(expected, rel=1e-6)


# --- The bound ------------------------------------------------------------------------------------


@given(channels(), st.integers(0, 10_000), st.sampled_from([0.1, 1.0, 6.0]))
def test_no_reader_exceeds_the_information(channel: Channel, seed: int, sharp: float) -> None:
    codes, outcomes = channel.likelihood.shape
    q = distributions(outcomes, codes, seed, sharp)
    assert channel.bound(q) <= channel.information() + 1e-9


@given(channels())
def test_the_bound_is_reached_by_the_posterior(channel: Channel) -> None:
    assert channel.bound(channel.posterior) == pytest.approx(channel.information(), abs=1e-9)


@given(channels(), st.integers(0, 10_000))
def test_the_gap_is_the_mean_divergence_from_the_posterior(channel: Channel, seed: int) -> None:
    codes, outcomes = channel.likelihood.shape
    q = distributions(outcomes, codes, seed)
    p_x = channel.prior @ channel.likelihood  # (X,)
    apart = kl_divergence(Categorical(channel.posterior), Categorical(q))  # (X,)
    gap = channel.information() - channel.bound(q)
    assert gap == pytest.approx(float((p_x * apart).sum()), abs=1e-6)


def test_a_reader_who_excludes_what_happens_is_infinitely_wrong() -> None:
    channel = Channel(torch.tensor([0.5, 0.5]), torch.eye(2))
    assert channel.bound(torch.eye(2).flip(0)) == -math.inf
    # What never happens costs nothing: this reader is right wherever there is something to read.
    assert channel.bound(torch.eye(2)) == pytest.approx(math.log(2))


def test_a_reader_who_repeats_the_prior_tells_nothing() -> None:
    channel = Channel(torch.tensor([0.3, 0.7]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
    assert channel.bound(channel.prior.expand(2, -1)) == pytest.approx(0.0, abs=1e-6)


HALVES = torch.tensor([0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Channel(HALVES[None], torch.eye(2)), "prior is (K,) and likelihood (K, X)"),
        (lambda: Channel(HALVES, HALVES), "prior is (K,) and likelihood (K, X)"),
        (lambda: Channel(HALVES, torch.eye(3)), "prior has 2 values and likelihood 3 rows"),
        (lambda: Channel(2 * HALVES, torch.eye(2)), "prior: every row is a distribution"),
        (lambda: Channel(HALVES, 2 * torch.eye(2)), "likelihood: every row is a distribution"),
        (
            lambda: Channel(HALVES, torch.tensor([[1.5, -0.5], [0.5, 0.5]])),
            "likelihood: every row is a distribution, at least 0 and of sum 1",
        ),
        (lambda: Channel(HALVES * math.nan, torch.eye(2)), "prior: every row is a distribution"),
        (lambda: Channel(HALVES, torch.eye(2)).bound(torch.eye(3)), "q is (2, 2), not (3, 3)"),
        (
            lambda: Channel(HALVES, torch.eye(2)).bound(torch.full((2, 2), 0.4)),
            "q: every row is a distribution",
        ),
    ],
)
def test_a_wrong_channel_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()


# --- A model's Q ----------------------------------------------------------------------------------


class Glass:
    """A "model" whose image is z itself, and a reader that is given as a function of z by part."""

    def __init__(self, design: LatentDesign, read: Any) -> None:
        self.design, self.read = design, read

    def decode(self, z: Tensor) -> Tensor:
        return z[:, None, None]  # (B, 1, 1, D)

    def codes(self, images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.read(self.design.split(images[:, 0, 0]))
        return found


def test_a_perfect_reader_of_classes_knows_log_k() -> None:
    model = Glass(LatentDesign.infogan((10, 3), 0, 4), lambda z: {n: z[n] for n in list(z)[:2]})
    found = mutual_information(model, 600, seeded())
    assert list(found) == ["categorical_1", "categorical_2"]
    for information, classes in zip(found.values(), (10, 3), strict=True):
        assert information.bound == pytest.approx(math.log(classes), abs=1e-5)
        assert information.entropy == pytest.approx(math.log(classes))


def test_a_reader_who_shrugs_knows_nothing() -> None:
    model = Glass(
        LatentDesign.infogan((10,), 0, 4),
        lambda z: {"categorical_1": torch.full_like(z["categorical_1"], 0.1)},
    )
    assert mutual_information(model, 300, seeded())["categorical_1"].bound == pytest.approx(
        0.0, abs=1e-5
    )


def test_a_reader_who_is_sure_of_the_wrong_class_falls_far_below_nothing() -> None:
    model = Glass(
        LatentDesign.infogan((4,), 0, 4),
        lambda z: {"categorical_1": z["categorical_1"].roll(1, dims=1)},
    )
    assert mutual_information(model, 300, seeded())["categorical_1"].bound < -20


def test_a_reader_who_is_right_nine_times_in_ten() -> None:
    """q puts 0.9 on the class that was asked: H(c) + log 0.9, whatever is drawn."""
    model = Glass(
        LatentDesign.infogan((5,), 0, 4),
        lambda z: {"categorical_1": 0.9 * z["categorical_1"] + 0.025 * (1 - z["categorical_1"])},
    )
    found = mutual_information(model, 300, seeded())["categorical_1"]
    assert found.bound == pytest.approx(math.log(5) + math.log(0.9), abs=1e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1.0])
def test_a_continuous_code_read_with_gaussian_noise(sigma: float) -> None:
    """The first free dimension is the noise of the reading: log 2 - H(N(0, sigma^2))."""
    model = Glass(
        LatentDesign.infogan((3,), 2, 2),
        lambda z: {"continuous_2": z["continuous_2"][:, 0] + sigma * z["free"][:, 0]},
    )
    found = mutual_information(model, 20_000, seeded())
    assert list(found) == ["continuous_2"]
    expected = math.log(2) - float(Normal(0.0, sigma).entropy())
    assert found["continuous_2"].entropy == pytest.approx(math.log(2))
    # Halves of 10,000: the mean square of the noise is known to 1.4 percent.
    assert found["continuous_2"].bound == pytest.approx(expected, abs=0.04)


def test_the_width_of_a_reading_is_not_fitted_where_it_is_measured() -> None:
    """A reading that is exact in the first half alone: a width of that half is far too small."""
    design, count = LatentDesign.infogan((3,), 1, 2), 400
    noise = torch.randn(count, generator=seeded(5))
    sigma = torch.cat([torch.full((200,), 0.1), torch.full((200,), 0.3)])

    class InOrder(Glass):
        """Reads as it is asked, in order; the first half more exactly."""

        seen = 0

        def codes(self, images: Tensor) -> dict[str, Tensor]:
            rows = slice(self.seen, self.seen + len(images))
            self.seen += len(images)
            return {"continuous_1": images[:, 0, 0, 3] + (sigma * noise)[rows]}

    found = mutual_information(InOrder(design, None), count, seeded())["continuous_1"]
    error = (sigma * noise).double()
    width = error[:200].square().mean().sqrt()
    expected = math.log(2) + float(Normal(0.0, width).log_prob(error[200:]).mean())
    assert found.bound == pytest.approx(expected, rel=1e-3)
    assert found.bound < 0 < math.log(2) - float(Normal(0.0, 0.3).entropy())


def test_a_reader_who_always_says_nought_knows_nothing_of_a_continuous_code() -> None:
    """A Gaussian of variance 1/3 around 0, in U(-1, 1): a bound a little below nothing."""
    model = Glass(
        LatentDesign.infogan((3,), 1, 2),
        lambda z: {"continuous_1": torch.zeros(len(z["free"]))},
    )
    expected = math.log(2) - 0.5 * math.log(2 * math.pi * math.e / 3)
    found = mutual_information(model, 20_000, seeded())["continuous_1"]
    assert found.bound == pytest.approx(expected, abs=0.03)
    assert found.bound < 0


def test_a_generator_decides_the_samples_and_few_of_them_are_refused() -> None:
    model = Glass(
        LatentDesign.infogan((3,), 1, 2),
        lambda z: {"continuous_1": z["continuous_1"][:, 0] + 0.3 * z["free"][:, 0]},
    )
    found = [mutual_information(model, 600, seeded(seed)) for seed in (1, 1, 2)]
    assert found[0] == found[1]
    assert found[0] != found[2]
    with pytest.raises(ValueError, match="count is at least 4, not 3"):
        mutual_information(model, 3)
