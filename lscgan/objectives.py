"""The objectives, one equation a function: pure, per sample, in nats.

**Sum, not mean.** Every term here is the *sum* over an image's pixel values or over the latent
dimensions, and keeps one number a sample, shape (B,); average over the batch yourself. The two
sides of the ELBO must be scaled alike: averaging the reconstruction over the N = C*H*W values of
an image while the KL stays a sum divides the likelihood by N, which is the same as multiplying
the KL by N. At 64x64 in colour N is 12,288, and the posterior collapses.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def gaussian_kl_per_dimension(mean: Tensor, log_variance: Tensor, prior_mean: Tensor) -> Tensor:
    """KL[N(mean, exp(log_variance)) || N(prior_mean, 1)] of every dimension, in nats.

    (sigma^2 - 1 - log sigma^2 + (mean - prior_mean)^2) / 2: Kingma & Welling 2014, appendix B,
    with the prior's mean moved from 0 to mu_i (Kim & Cho 2019).

    Args:
        mean, log_variance: the posterior's, (B, D).
        prior_mean: (B, D), or any shape that broadcasts to it.

    Returns:
        (B, D), never below 0.

    Raises:
        ValueError: mean and log_variance differ in shape, or prior_mean does not fit.
    """
    if mean.shape != log_variance.shape:
        raise ValueError(
            f"mean {tuple(mean.shape)} and log_variance {tuple(log_variance.shape)} must have "
            "the same shape"
        )
    try:
        prior_mean = prior_mean.expand_as(mean)
    except RuntimeError:
        raise ValueError(
            f"prior_mean {tuple(prior_mean.shape)} does not fit mean {tuple(mean.shape)}"
        ) from None
    # expm1(v) - v, not exp(v) - 1 - v: near v = 0 the latter cancels to noise. Even so expm1 and v
    # agree to rounding there, hence the clamp: a KL is never negative.
    spread = (torch.expm1(log_variance) - log_variance).clamp_min(0)
    return 0.5 * (spread + (mean - prior_mean).square())  # (B, D)


def gaussian_kl(mean: Tensor, log_variance: Tensor, prior_mean: Tensor) -> Tensor:
    """KL[N(mean, diag exp(log_variance)) || N(prior_mean, I)], (B,) in nats.

    The second term of LSC-VAE's loss (Kim & Cho 2019): with ``prior_mean = 0`` it is the plain
    VAE's. Arguments and errors as in :func:`gaussian_kl_per_dimension`.
    """
    return gaussian_kl_per_dimension(mean, log_variance, prior_mean).sum(dim=1)  # (B,)


def squared_error(decoded: Tensor, images: Tensor) -> Tensor:
    """Sum of squared differences of an image's pixel values, (B, C, H, W) x 2 -> (B,).

    As a likelihood: Gaussian pixels of variance 1/2, up to a constant.

    Raises:
        ValueError: the two differ in shape.
    """
    _check_same_shape(decoded, images)
    return (decoded - images).square().flatten(1).sum(dim=1)  # (B,)


def gaussian_nll(decoded: Tensor, images: Tensor, sigma: float) -> Tensor:
    """-log N(images; decoded, sigma^2 I), (B,) in nats, with its constant.

    squared_error / (2 sigma^2) + N log(sigma sqrt(2 pi)) for N pixel values. sigma sets how much
    a wrong pixel costs against the KL: sigma = 1/sqrt(2) gives the plain sum of squares, a
    smaller one a sharper likelihood.

    Raises:
        ValueError: the two differ in shape, or sigma is not finite and above 0.
    """
    if not math.isfinite(sigma) or sigma <= 0:
        raise ValueError(f"sigma is a finite number above 0, not {sigma}")
    constant = images.shape[1:].numel() * math.log(sigma * math.sqrt(2 * math.pi))
    return squared_error(decoded, images) / (2 * sigma**2) + constant  # (B,)


def bernoulli_nll(decoded: Tensor, images: Tensor) -> Tensor:
    """Binary cross-entropy summed over an image's pixel values, (B,) in nats.

    A likelihood only where pixels are 0 or 1; on grey or coloured pixels in [0, 1] it is a usable
    loss whose minimum is not 0 and whose ELBO is no bound on log p(x).

    Raises:
        ValueError: the two differ in shape.
    """
    _check_same_shape(decoded, images)
    entropy = torch.nn.functional.binary_cross_entropy(decoded, images, reduction="none")
    return entropy.flatten(1).sum(dim=1)  # (B,)


# -- adversarial losses: scores of real and of generated images in, one number a pair out --------


def least_squares_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """(D(x) - 1)^2 + D(G(z))^2: least squares, labels 1 and 0 (Mao et al. 2017, equation 9).

    Args:
        real, fake: D's scores of real and of generated images, (B,) each, without a sigmoid.

    Returns:
        (B,): its mean over the batch is the *mean of squares*, not the square of a mean.

    Raises:
        ValueError: the two differ in shape.
    """
    _check_scores(real, fake)
    return (real - 1).square() + fake.square()  # (B,)


def least_squares_generator(real: Tensor, fake: Tensor) -> Tensor:
    """(D(G(z)) - 1)^2 (Mao et al. 2017, equation 9); real scores have no part in it.

    Arguments and errors as in :func:`least_squares_discriminator`.
    """
    _check_scores(real, fake)
    return (fake - 1).square()  # (B,)


def relativistic_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """log(1 + exp(D(G(z)) - D(x))): a real image should score above a generated one.

    Relativistic pairing (Jolicoeur-Martineau 2019), as in R3GAN (Huang et al. 2024). Arguments
    and errors as in :func:`least_squares_discriminator`.
    """
    _check_scores(real, fake)
    return torch.nn.functional.softplus(fake - real)  # (B,)


def relativistic_generator(real: Tensor, fake: Tensor) -> Tensor:
    """log(1 + exp(D(x) - D(G(z)))), :func:`relativistic_discriminator` with the sides changed."""
    return relativistic_discriminator(fake, real)  # (B,)


def cross_entropy_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """-log sigma(D(x)) - log(1 - sigma(D(G(z)))): Goodfellow et al. 2014, equation 1.

    Arguments, result and errors as in :func:`least_squares_discriminator`.
    """
    _check_scores(real, fake)
    return torch.nn.functional.softplus(-real) + torch.nn.functional.softplus(fake)  # (B,)


def cross_entropy_generator(fake: Tensor) -> Tensor:
    """-log sigma(D(G(z))), the form that does not saturate (Goodfellow et al. 2014, section 3).

    Args:
        fake: D's scores of generated images, (B,), without a sigmoid.
    """
    return torch.nn.functional.softplus(-fake)  # (B,)


def categorical_nll(logits: Tensor, classes: Tensor) -> Tensor:
    """-log q(c|x) of a categorical code, in nats: InfoGAN's term for it (Chen et al. 2016, eq. 5).

    Args:
        logits: (B, K), before any softmax.
        classes: indices (B,), or one distribution each (B, K): one-hot or soft labels.

    Returns:
        (B,), at least 0.

    Raises:
        ValueError: the classes fit neither form.
    """
    if classes.shape == logits.shape:
        if bool((classes < 0).any()) or not torch.allclose(
            classes.sum(dim=1), torch.ones_like(classes[:, 0]), atol=1e-4
        ):
            raise ValueError("soft labels are distributions: no share below 0, each row sums to 1")
        return -(classes * logits.log_softmax(dim=1)).sum(dim=1)  # (B,)
    if classes.shape != logits.shape[:1]:
        raise ValueError(
            f"classes have shape ({len(logits)},) or {tuple(logits.shape)}, "
            f"not {tuple(classes.shape)}"
        )
    index = classes.long()
    if bool(((index != classes) | (index < 0) | (index >= logits.shape[1])).any()):
        if bool(torch.isnan(classes).any()):
            raise ValueError("some classes are unknown (NaN): leave those images out")
        raise ValueError(f"a class is a whole number from 0 to {logits.shape[1] - 1}")
    return torch.nn.functional.cross_entropy(logits, index, reduction="none")  # (B,)


def uniform_error(read: Tensor, codes: Tensor) -> Tensor:
    """(q(x) - c)^2 of continuous codes: -log q(c|x) of a Gaussian of fixed width, up to constants.

    ss-InfoGAN's term for them, a mean over the codes (Spurr et al. 2017, official code).

    Args:
        read, codes: (B, C) each.

    Returns:
        (B,).

    Raises:
        ValueError: the two differ in shape.
    """
    if read.shape != codes.shape:
        raise ValueError(
            f"codes that were read {tuple(read.shape)} and drawn {tuple(codes.shape)} must have "
            "the same shape"
        )
    return (read - codes).square().mean(dim=1)  # (B,)


def gradient_penalty(scores: Tensor, images: Tensor) -> Tensor:
    """||grad_x D(x)||^2 of every image: R1 on real images (Mescheder et al. 2018), R2 on fakes.

    Args:
        scores: (B,), computed from ``images``.
        images: (B, C, H, W), with ``requires_grad``.

    Returns:
        (B,), differentiable in D's weights.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), images, create_graph=True)  # (B, C, H, W)
    return gradient.square().flatten(1).sum(dim=1)  # (B,)


def _check_scores(real: Tensor, fake: Tensor) -> None:
    if real.ndim != 1 or real.shape != fake.shape:
        raise ValueError(
            f"scores of real and generated images are (B,) each, not {tuple(real.shape)} and "
            f"{tuple(fake.shape)}"
        )


def _check_same_shape(decoded: Tensor, images: Tensor) -> None:
    if decoded.shape != images.shape:
        raise ValueError(
            f"decoded {tuple(decoded.shape)} and images {tuple(images.shape)} must have the same "
            "shape"
        )
