"""The networks: shapes at every size, ranges, and pictures that do not see each other."""

from __future__ import annotations

import re

import pytest
import torch

from lscgan.networks import Decoder, Encoder, stage_widths

SIZES = (8, 16, 32, 64, 128)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_and_decoder_mirror_each_other(size: int, channels: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, channels, size, size)
    mean, log_variance = Encoder(5, size, channels, width=2)(images)
    assert mean.shape == log_variance.shape == (2, 5)
    assert mean.dtype == log_variance.dtype == torch.float32
    decoded = Decoder(5, size, channels, width=2)(mean)
    assert decoded.shape == images.shape
    assert decoded.dtype == torch.float32


def test_widths_double_twice_and_then_stay() -> None:
    assert stage_widths(8, 24) == [24]
    assert stage_widths(64, 24) == [24, 48, 96, 96]
    assert stage_widths(128, 2) == [2, 4, 8, 8, 8]


def test_decoded_pixels_stay_between_0_and_1_for_any_vector() -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, 16, 3, width=2).eval()
    decoded = decoder(1e4 * torch.randn(8, 5)).detach()
    assert float(decoded.min()) >= 0
    assert float(decoded.max()) <= 1
    # And they use the range: a network that always says 0.5 would pass the lines above.
    assert float(decoded.min()) < 0.1
    assert float(decoded.max()) > 0.9


def test_reduced_precision_ends_in_float32() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(5, 16, 3, width=2), Decoder(5, 16, 3, width=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean, log_variance = encoder(torch.rand(2, 3, 16, 16))
        decoded = decoder(mean)
    assert {mean.dtype, log_variance.dtype, decoded.dtype} == {torch.float32}


def test_in_eval_mode_a_picture_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(5, 16, 3, width=2).eval(), Decoder(5, 16, 3, width=2).eval()
    images, z = torch.rand(4, 3, 16, 16), torch.randn(4, 5)
    torch.testing.assert_close(encoder(images)[0][:1], encoder(images[:1])[0])
    torch.testing.assert_close(decoder(z)[:1], decoder(z[:1]))


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    encoder, decoder = Encoder(5, 16, 3, width=2), Decoder(5, 16, 3, width=2)
    mean, log_variance = encoder(torch.rand(4, 3, 16, 16))
    (decoder(mean).square().sum() + log_variance.square().sum()).backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


@pytest.mark.parametrize("size", [-8, 0, 4, 12, 60, 65])
def test_sizes_that_cannot_be_halved_down_to_4_are_refused(size: int) -> None:
    sentence = f"images are square, 8, 16, 32, 64, ... pixels wide, not {size}"
    for network in (Encoder, Decoder):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            network(5, size)


def test_a_network_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="width is at least 1, not 0"):
        Encoder(5, 16, 3, width=0)
