"""The objectives against torch.distributions, Monte Carlo, closed forms and plain loops."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence

from lscgan.objectives import (
    bernoulli_nll,
    gaussian_kl,
    gaussian_kl_per_dimension,
    gaussian_nll,
    gradient_penalty,
    least_squares_discriminator,
    least_squares_generator,
    relativistic_discriminator,
    relativistic_generator,
    squared_error,
)

unhurried = settings(deadline=None, max_examples=50)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posterior(seed: int, batch: int = 3, size: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    chance = seeded(seed)
    mean, log_variance, prior = torch.randn(3, batch, size, generator=chance).double().unbind()
    return 2 * mean, 2 * log_variance, prior


def pictures(seed: int = 0) -> tuple[Tensor, Tensor]:
    decoded, images = torch.rand(2, 2, 3, 4, 5, generator=seeded(seed)).double().unbind()
    return decoded, images


# --- The Kullback-Leibler divergence --------------------------------------------------------------


@unhurried
@given(st.integers(0, 10_000))
def test_kl_equals_torch_distributions(seed: int) -> None:
    mean, log_variance, prior = posterior(seed)
    per_dimension = kl_divergence(
        Normal(mean, (0.5 * log_variance).exp()), Normal(prior, torch.ones_like(prior))
    )
    torch.testing.assert_close(gaussian_kl_per_dimension(mean, log_variance, prior), per_dimension)
    torch.testing.assert_close(gaussian_kl(mean, log_variance, prior), per_dimension.sum(dim=1))


def test_kl_equals_its_expectation_by_monte_carlo() -> None:
    mean, log_variance, prior = posterior(1, batch=1, size=4)
    q = Independent(Normal(mean[0], (0.5 * log_variance[0]).exp()), 1)
    p = Independent(Normal(prior[0], torch.ones(4).double()), 1)
    torch.manual_seed(0)
    z = q.sample((200_000,))
    ratio = q.log_prob(z) - p.log_prob(z)  # its mean is the divergence
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert abs(float(ratio.mean() - gaussian_kl(mean, log_variance, prior)[0])) < 4 * error


def test_kl_of_a_label_step_is_half_its_squared_length() -> None:
    """N(0, I) against N(1, I) in k dimensions: k / 2 nats."""
    for k in (1, 5, 20):
        zeros = torch.zeros(1, k)
        assert float(gaussian_kl(zeros, zeros, torch.ones(1, k))[0]) == pytest.approx(k / 2)
        assert float(gaussian_kl(zeros, zeros, zeros)[0]) == 0.0


def test_kl_has_right_gradients() -> None:
    arguments = [t.requires_grad_() for t in posterior(2)]
    assert torch.autograd.gradcheck(gaussian_kl, arguments)
    assert torch.autograd.gradcheck(gaussian_kl_per_dimension, arguments)


@pytest.mark.parametrize("log_variance", [-1000.0, -80.0, -20.0, -1e-3, 1e-3, 20.0, 80.0])
def test_kl_is_exact_in_float32_at_extreme_log_variances(log_variance: float) -> None:
    v = torch.tensor([[log_variance]], requires_grad=True)
    mean = torch.zeros(1, 1, requires_grad=True)
    kl = gaussian_kl(mean, v, torch.ones(1, 1))
    kl.sum().backward()
    kept = float(v.detach())  # what float32 keeps of it
    # (e^v - 1 - v) / 2 by its series where the subtraction would cancel even in float64
    spread = sum(kept**n / math.factorial(n) for n in range(2, 8)) if abs(kept) < 0.1 else None
    spread = math.expm1(kept) - kept if spread is None else spread
    assert float(kl.detach()) == pytest.approx(0.5 * (spread + 1), rel=1e-6)
    assert v.grad is not None
    assert mean.grad is not None
    assert float(v.grad) == pytest.approx(0.5 * math.expm1(kept), rel=1e-4)
    assert float(mean.grad) == -1.0


@pytest.mark.parametrize("log_variance", [-1e-4, -1e-6, 1e-8, 1e-5])
def test_kl_near_its_minimum_is_right_to_a_rounding_of_the_log_variance(
    log_variance: float,
) -> None:
    kl = gaussian_kl(torch.zeros(1, 1), torch.tensor([[log_variance]]), torch.zeros(1, 1))
    rounding = abs(log_variance) * torch.finfo(torch.float32).eps
    assert float(kl) == pytest.approx(log_variance**2 / 4, rel=1e-3, abs=rounding)


@unhurried
@given(
    st.floats(-(2**-10), 2**-10, width=32),
    st.one_of(st.just(0.0), st.floats(-3, 3, width=32)),
)
def test_kl_is_never_negative(log_variance: float, mean: float) -> None:
    at = torch.tensor([[mean]])
    kl = gaussian_kl_per_dimension(at, torch.tensor([[log_variance]]), at)
    assert float(kl) >= 0


def test_a_prior_of_one_row_serves_the_whole_batch() -> None:
    mean, log_variance, prior = posterior(3)
    expected = gaussian_kl(mean, log_variance, prior[:1].repeat(3, 1))
    assert torch.equal(gaussian_kl(mean, log_variance, prior[:1]), expected)
    assert torch.equal(gaussian_kl(mean, log_variance, prior[0]), expected)
    assert torch.equal(
        gaussian_kl(mean, log_variance, torch.tensor(0.0).double()),
        gaussian_kl(mean, log_variance, torch.zeros_like(mean)),
    )


# --- Reconstruction -------------------------------------------------------------------------------


def test_squared_error_equals_a_loop_over_pixel_values() -> None:
    decoded, images = pictures()
    expected = []
    for b in range(2):
        total = 0.0
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    total += float(decoded[b, c, y, x] - images[b, c, y, x]) ** 2
        expected.append(total)
    assert squared_error(decoded, images).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sigma", [0.1, 0.5**0.5, 1.0, 3.0])
def test_gaussian_nll_equals_torch_distributions(sigma: float) -> None:
    decoded, images = pictures(1)
    expected = -Independent(Normal(decoded, sigma), 3).log_prob(images)
    torch.testing.assert_close(gaussian_nll(decoded, images, sigma), expected)


def test_sigma_of_one_over_root_two_gives_the_sum_of_squares_and_a_constant() -> None:
    decoded, images = pictures(2)
    apart = gaussian_nll(decoded, images, 0.5**0.5) - squared_error(decoded, images)
    torch.testing.assert_close(apart, torch.full((2,), 30 * math.log(math.pi)).double())


def test_bernoulli_nll_equals_torch_distributions() -> None:
    decoded, images = pictures(3)
    black_and_white = images.round()
    expected = -Independent(Bernoulli(decoded), 3).log_prob(black_and_white)
    torch.testing.assert_close(bernoulli_nll(decoded, black_and_white), expected)
    # On grey pixels the least loss is their own entropy, not 0: the warning in its docstring.
    entropy = -(images * images.log() + (1 - images) * (1 - images).log()).sum(dim=(1, 2, 3))
    torch.testing.assert_close(bernoulli_nll(images, images), entropy)
    assert float(entropy.min()) > 0


@pytest.mark.parametrize(
    "objective",
    [squared_error, bernoulli_nll, lambda decoded, images: gaussian_nll(decoded, images, 0.3)],
)
def test_reconstruction_terms_have_right_gradients(objective: Callable[..., Tensor]) -> None:
    decoded, images = pictures(4)
    decoded = (0.1 + 0.8 * decoded).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: objective(d, images), [decoded])


def test_an_empty_batch_has_no_losses() -> None:
    none = torch.zeros(0, 3, 4, 4)
    for losses in (squared_error(none, none), gaussian_nll(none, none, 1.0)):
        assert losses.shape == (0,)
    assert bernoulli_nll(none, none).shape == (0,)


def test_the_mean_over_pixels_equals_a_kl_weighed_by_their_number() -> None:
    """Averaging an image's N values and summing the KL pulls as beta = N does: same direction."""
    chance = seeded(5)
    images = torch.rand(2, 3, 4, 5, generator=chance).double()
    weight = torch.randn(6, 60, generator=chance).double()
    pixels = 60
    gradients = []
    for mean_for_sum in (True, False):
        mean = torch.full((2, 6), 0.3, dtype=torch.float64, requires_grad=True)
        decoded = torch.sigmoid(mean @ weight).view(2, 3, 4, 5)
        kl = gaussian_kl(mean, torch.zeros_like(mean), torch.zeros(1, 6).double()).mean()
        if mean_for_sum:
            loss = torch.nn.functional.mse_loss(decoded, images) + kl
        else:
            loss = squared_error(decoded, images).mean() + pixels * kl
        gradients.append(torch.autograd.grad(loss, mean)[0])
    torch.testing.assert_close(pixels * gradients[0], gradients[1])


# --- Adversarial losses ---------------------------------------------------------------------------

ADVERSARIAL = (
    least_squares_discriminator,
    least_squares_generator,
    relativistic_discriminator,
    relativistic_generator,
)
SCORES = st.lists(
    st.tuples(st.floats(-50, 50, width=32), st.floats(-50, 50, width=32)), min_size=1, max_size=6
)


@unhurried
@given(SCORES)
def test_least_squares_equals_a_loop(scores: list[tuple[float, float]]) -> None:
    real, fake = torch.tensor(scores).double().unbind(dim=1)
    of_d = [(r - 1) ** 2 + f**2 for r, f in scores]
    of_g = [(f - 1) ** 2 for _, f in scores]
    assert least_squares_discriminator(real, fake).tolist() == pytest.approx(of_d)
    assert least_squares_generator(real, fake).tolist() == pytest.approx(of_g)


def test_least_squares_is_the_mean_of_squares_and_not_the_square_of_a_mean() -> None:
    """Scores 0 and 2 miss the label 1 by 1 each; their mean misses it by nothing."""
    scores, ones = torch.tensor([0.0, 2.0]), torch.ones(2)
    assert least_squares_generator(ones, scores).tolist() == [1.0, 1.0]
    assert least_squares_discriminator(scores, torch.zeros(2)).tolist() == [1.0, 1.0]
    # Scores -1 and 1 of fakes, whose mean is the label 0.
    assert least_squares_discriminator(ones, scores - 1).tolist() == [1.0, 1.0]


@unhurried
@given(SCORES)
def test_relativistic_losses_equal_binary_cross_entropy_of_the_difference(
    scores: list[tuple[float, float]],
) -> None:
    real, fake = torch.tensor(scores).double().unbind(dim=1)
    ones = torch.ones_like(real)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        relativistic_discriminator(real, fake), entropy(real - fake, ones, reduction="none")
    )
    torch.testing.assert_close(
        relativistic_generator(real, fake), entropy(fake - real, ones, reduction="none")
    )


def test_relativistic_losses_at_a_tie_are_log_2_and_never_overflow() -> None:
    tie = torch.tensor([3.0])
    assert float(relativistic_discriminator(tie, tie)) == pytest.approx(math.log(2))
    assert float(relativistic_generator(tie, tie)) == pytest.approx(math.log(2))
    far = torch.tensor([1e4])
    assert float(relativistic_discriminator(-far, far)) == pytest.approx(2e4)
    assert float(relativistic_discriminator(far, -far)) == 0.0
    assert float(relativistic_generator(far, -far)) == pytest.approx(2e4)


@pytest.mark.parametrize("loss", ADVERSARIAL)
def test_adversarial_losses_have_right_gradients(loss: Callable[..., Tensor]) -> None:
    real, fake = torch.randn(2, 5, generator=seeded(6)).double().unbind()
    assert torch.autograd.gradcheck(loss, [real.requires_grad_(), fake.requires_grad_()])


@pytest.mark.parametrize("loss", ADVERSARIAL)
@pytest.mark.parametrize(("real", "fake"), [((2,), (3,)), ((2, 1), (2, 1)), ((2,), (2, 1))])
def test_scores_that_are_not_one_a_picture_are_refused(
    loss: Callable[..., Tensor], real: tuple[int, ...], fake: tuple[int, ...]
) -> None:
    """(2,) against (2, 1) would broadcast to every pair: a loss of another game."""
    with pytest.raises(ValueError, match="scores of real and generated images are") as refusal:
        loss(torch.zeros(real), torch.zeros(fake))
    assert str(tuple(real)) in str(refusal.value)
    assert str(tuple(fake)) in str(refusal.value)


def test_the_penalty_of_a_linear_discriminator_is_its_weights_squared_length() -> None:
    weight = torch.randn(3, 4, 5, generator=seeded(7)).double()
    images = pictures(5)[1].requires_grad_()
    scores = (images * weight).sum(dim=(1, 2, 3)) + 3
    expected = float(weight.square().sum())
    assert gradient_penalty(scores, images).tolist() == pytest.approx([expected] * 2)


@unhurried
@given(st.integers(0, 10_000))
def test_the_penalty_equals_finite_differences(seed: int) -> None:
    chance = seeded(seed)
    first = torch.randn(6, 60, generator=chance).double()
    last = torch.randn(6, generator=chance).double()
    images = torch.rand(2, 3, 4, 5, generator=chance).double()

    def score(pictures: Tensor) -> Tensor:
        return torch.tanh(pictures.flatten(1) @ first.T / 4) @ last

    step = 1e-5
    expected = []
    for image in images:
        moves = step * torch.eye(60).double().view(60, 3, 4, 5)
        slopes = (score(image + moves) - score(image - moves)) / (2 * step)
        expected.append(float(slopes.square().sum()))
    images.requires_grad_()
    found = gradient_penalty(score(images), images)
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_penalty_is_differentiable_in_the_weights() -> None:
    """D(x) = a |x|^2 / 2 has the gradient a x and the penalty a^2 |x|^2, of slope 2 a |x|^2."""
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    images = pictures(6)[1]
    squares = images.square().sum(dim=(1, 2, 3))
    images.requires_grad_()
    penalty = gradient_penalty(a * images.square().sum(dim=(1, 2, 3)) / 2, images)
    torch.testing.assert_close(penalty.detach(), 1.5**2 * squares)
    (slope,) = torch.autograd.grad(penalty.sum(), a)
    torch.testing.assert_close(slope, 2 * 1.5 * squares.sum())


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2, 3)),
            "mean (2, 3) and log_variance (2, 4) must have the same shape",
        ),
        (
            lambda: gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 4)),
            "prior_mean (2, 4) does not fit mean (2, 3)",
        ),
        (
            lambda: gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(5, 2, 3)),
            "prior_mean (5, 2, 3) does not fit mean (2, 3)",
        ),
        (
            lambda: squared_error(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4)),
            "decoded (2, 3, 4, 4) and images (1, 3, 4, 4) must have the same shape",
        ),
        (lambda: bernoulli_nll(torch.zeros(2, 3), torch.zeros(2, 4)), "must have the same shape"),
        (lambda: gaussian_nll(torch.zeros(2, 3), torch.zeros(2, 4), 1), "must have the same"),
        (lambda: gaussian_nll(*pictures(), 0.0), "sigma is a finite number above 0, not 0.0"),
        (lambda: gaussian_nll(*pictures(), -1.0), "sigma is a finite number above 0"),
        (lambda: gaussian_nll(*pictures(), math.nan), "sigma is a finite number above 0"),
        (lambda: gaussian_nll(*pictures(), math.inf), "sigma is a finite number above 0"),
    ],
)
def test_wrong_input_gets_one_clear_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        call()
