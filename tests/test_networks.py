"""The networks: shapes at every size, ranges, and pictures that do not see each other."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lscgan.networks import (
    BASE,
    FLOW_UNIT,
    Decoder,
    Discriminator,
    Encoder,
    InfoTrunk,
    carried,
    move,
    stage_widths,
)

SIZES = (8, 16, 32, 64, 128)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_encoder_and_decoder_mirror_each_other(size: int, channels: int) -> None:
    torch.manual_seed(0)
    images = torch.rand(2, channels, size, size)
    mean, log_variance = Encoder(5, size, channels, width=2)(images)
    assert mean.shape == log_variance.shape == (2, 5)
    assert mean.dtype == log_variance.dtype == torch.float32
    for upsampling in ("transposed", "resize"):
        decoded = Decoder(5, size, channels, width=2, upsampling=upsampling)(mean)
        assert decoded.shape == images.shape
        assert decoded.dtype == torch.float32
    scores = Discriminator(size, channels, width=2)(images)
    assert scores.shape == (2,)
    assert scores.dtype == torch.float32


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (2, 1, 16, 16), (2, 3, 8, 8), (3, 16, 16)])
def test_every_reader_refuses_images_of_another_shape(shape: tuple[int, ...]) -> None:
    sentence = re.escape(f"takes images of shape (B, 3, 16, 16), not {shape}")
    reads = Discriminator(16, 3, width=2, doses=1)
    for read in (Encoder(5, 16, 3, width=2), reads, reads.read, InfoTrunk(16, 3, 2, 8)):
        with pytest.raises(ValueError, match=sentence):
            read(torch.rand(shape))
        with pytest.raises(ValueError, match=r"numbers in \[0, 1\], not torch.uint8: give it"):
            read(torch.zeros(2, 3, 16, 16, dtype=torch.uint8))


def test_widths_double_twice_and_then_stay() -> None:
    assert stage_widths(8, 24) == [24]
    assert stage_widths(64, 24) == [24, 48, 96, 96]
    assert stage_widths(128, 2) == [2, 4, 8, 8, 8]


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_decoded_pixels_stay_between_0_and_1_for_any_vector(upsampling: str) -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, 16, 3, width=2, upsampling=upsampling).eval()
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


@pytest.mark.parametrize("upsampling", ["transposed", "resize"])
def test_every_weight_learns(upsampling: str) -> None:
    torch.manual_seed(0)
    encoder = Encoder(5, 16, 3, width=2)
    decoder = Decoder(5, 16, 3, width=2, upsampling=upsampling)
    mean, log_variance = encoder(torch.rand(4, 3, 16, 16))
    (decoder(mean).square().sum() + log_variance.square().sum()).backward()
    for module in (encoder, decoder):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


# --- Two ways to double a picture -----------------------------------------------------------------


def flat_feature_maps(upsampling: str) -> Tensor:
    """The middle of a picture whose 4x4 feature maps are flat: what doubling adds by itself."""
    torch.manual_seed(0)
    decoder = Decoder(3, 32, 3, width=4, upsampling=upsampling).eval()
    with torch.no_grad():
        weight = decoder.start.weight.view(-1, BASE, BASE, 3)
        weight.copy_(weight[:, :1, :1].clone().expand_as(weight))
        # The rim spreads by one pixel a convolution and doubles: 1, 3, 7 of 32.
        return decoder(torch.randn(1, 3))[0, :, 8:-8, 8:-8]


def test_resizing_leaves_no_checkerboard_and_transposing_does() -> None:
    smooth, patterned = flat_feature_maps("resize"), flat_feature_maps("transposed")
    torch.testing.assert_close(smooth, smooth[:, :1, :1].expand_as(smooth))
    assert float(patterned.std(dim=(1, 2)).max()) > 1e-3


def test_resizing_repeats_pixels_and_then_convolves() -> None:
    decoder = Decoder(3, 8, 3, width=4, upsampling="resize").eval()
    z = torch.randn(2, 3)
    maps = decoder.start(z).view(2, -1, BASE, BASE)
    normalise, activate, _, convolve = decoder.stages
    assert isinstance(convolve, nn.Conv2d)
    repeated = activate(normalise(maps)).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    expected = torch.sigmoid(
        nn.functional.conv2d(repeated, convolve.weight, convolve.bias, padding=1)
    )
    torch.testing.assert_close(decoder(z), expected)


@pytest.mark.parametrize("upsampling", ["", "nearest", "Resize", None])
def test_another_way_to_double_is_refused(upsampling: str) -> None:
    sentence = f"upsampling is 'transposed' or 'resize', not {upsampling!r}"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Decoder(5, 16, 3, upsampling=upsampling)


# --- The discriminator ----------------------------------------------------------------------------


def test_a_score_does_not_depend_on_the_batch_even_while_training() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(16, 3, width=2)
    images = torch.rand(4, 3, 16, 16)
    alone = torch.cat([discriminator(image[None]) for image in images])
    torch.testing.assert_close(discriminator(images), alone)
    assert len(set(alone.tolist())) == 4


def test_a_score_is_the_heads_and_the_projection_of_the_labels_onto_the_features() -> None:
    """Miyato & Koyama 2018, equation 3, with labels coded as -1 and 1."""
    torch.manual_seed(0)
    discriminator = Discriminator(16, 3, width=2, conditions=3)
    images, labels = torch.rand(4, 3, 16, 16), torch.randint(2, (4, 3)).float()
    assert discriminator.projection is not None
    features = discriminator.stages(2 * images - 1).flatten(1)  # (4, 64)
    assert features.shape == (4, 4 * 4 * 4)
    unconditional = features @ discriminator.head.weight[0] + discriminator.head.bias
    torch.testing.assert_close(discriminator(images), unconditional)
    embedding = torch.zeros(4, 64)
    for row in range(4):
        for column in range(3):
            sign = 1 if labels[row, column] == 1 else -1
            embedding[row] += sign * discriminator.projection.weight[:, column]
    expected = unconditional + (embedding * features).sum(dim=1) / 8  # the root of 64 features
    torch.testing.assert_close(discriminator(images, labels), expected)
    assert not torch.equal(discriminator(images, labels), discriminator(images, 1 - labels))


def test_a_discriminator_that_is_not_conditional_does_not_see_labels() -> None:
    discriminator = Discriminator(16, 3, width=2)
    images = torch.rand(4, 3, 16, 16)
    assert discriminator.projection is None
    for labels in (torch.zeros(4, 3), torch.ones(4, 3)):
        assert torch.equal(discriminator(images, labels), discriminator(images))


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_every_weight_of_a_discriminator_learns_and_sees_every_pixel(spectral_norm: bool) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(16, 3, width=2, conditions=2, spectral_norm=spectral_norm)
    images = torch.rand(4, 3, 16, 16, requires_grad=True)
    discriminator(images, torch.randint(2, (4, 2)).float()).square().sum().backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    assert images.grad is not None
    assert bool((images.grad != 0).all())


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_doses_are_read_from_the_scores_features_by_a_head_of_their_own(
    spectral_norm: bool,
) -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(16, 3, width=2, doses=3, spectral_norm=spectral_norm).eval()
    images = torch.rand(4, 3, 16, 16)
    reader = discriminator.reader
    assert isinstance(reader, nn.Linear)
    assert torch.equal(discriminator.read(images), torch.zeros(4, 3))  # it starts without a guess
    with torch.no_grad():
        reader.weight.normal_()
        reader.bias.normal_()
    features = discriminator.stages(2 * images - 1).flatten(1)
    expected = features @ reader.weight.T + reader.bias
    torch.testing.assert_close(discriminator.read(images), expected)
    scores = features @ discriminator.head.weight[0] + discriminator.head.bias
    torch.testing.assert_close(discriminator(images), scores)


def test_a_discriminator_without_doses_reads_none() -> None:
    with pytest.raises(ValueError, match=re.escape("reads no doses: build it with doses=...")):
        Discriminator(16, 3, width=2).read(torch.rand(2, 3, 16, 16))


def test_a_discriminator_in_reduced_precision_ends_in_float32() -> None:
    discriminator = Discriminator(16, 3, width=2, conditions=2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert discriminator(torch.rand(2, 3, 16, 16), torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.parametrize("size", [-8, 0, 4, 12, 60, 65])
def test_sizes_that_cannot_be_halved_down_to_4_are_refused(size: int) -> None:
    sentence = f"images are square, 8, 16, 32, 64, ... pixels wide, not {size}"
    for network in (Encoder, Decoder):
        with pytest.raises(ValueError, match=re.escape(sentence)):
            network(5, size)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        Discriminator(size)


def test_a_network_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="width is at least 1, not 0"):
        Encoder(5, 16, 3, width=0)


# --- A decoder that moves what it painted ---------------------------------------------------------


def constant(right: float, down: float, grid: int = 4) -> Tensor:
    """A displacement by so many pixels of 32, the same everywhere: (1, 2, grid, grid)."""
    pixels = torch.tensor([right, down]).view(1, 2, 1, 1)
    return (pixels / 16 / FLOW_UNIT).expand(1, 2, grid, grid)


@given(right=st.integers(-6, 6), down=st.integers(-6, 6), grid=st.sampled_from([1, 2, 5, 16]))
def test_whole_pixels_move_as_they_are_and_edges_repeat(right: int, down: int, grid: int) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 2, 32, 32, generator=generator)
    moved = move(images, constant(right, down, grid).expand(3, -1, -1, -1))
    # From the right means to the left: the pixel at x + right appears at x.
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (6, 6), (6, 6)), mode="edge")
    expected = padded[:, :, 6 + down : 38 + down, 6 + right : 38 + right]
    np.testing.assert_allclose(moved.numpy(), expected, atol=1e-4)


def test_half_a_pixel_is_the_mean_of_two_neighbours() -> None:
    images = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = move(images, constant(0.5, 0))
    between = (images[..., :-1] + images[..., 1:]) / 2
    torch.testing.assert_close(moved[..., :-1], between, atol=1e-5, rtol=0)


def test_each_place_has_a_displacement_of_its_own() -> None:
    images = torch.zeros(1, 1, 32, 32)
    images[..., 16, :] = 1.0  # a level line
    displacements = torch.zeros(1, 2, 8, 8)
    displacements[:, 1, :, :2] = 4 / 16 / FLOW_UNIT  # at the left from 4 pixels further down
    moved = move(images, displacements)
    assert int(moved[0, 0, :, 1].argmax()) == 12
    assert int(moved[0, 0, :, 30].argmax()) == 16


def test_what_a_decoder_moves_is_linear_in_z() -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, 16, 3, width=2, flow=4)
    assert decoder.flow is not None
    nn.init.normal_(decoder.flow.weight)
    nn.init.normal_(decoder.flow.bias)
    zero, one = torch.randn(2, 1, 5)
    at = [decoder.displacements(zero + amount * (one - zero)) for amount in (-1.0, 0.0, 1.0)]
    assert at[0].shape == (1, 2, 4, 4)
    torch.testing.assert_close(at[1] - at[0], at[2] - at[1])


def test_a_decoder_moves_what_the_same_decoder_without_flow_paints() -> None:
    torch.manual_seed(0)
    still, moving = Decoder(5, 16, 3, width=2).eval(), Decoder(5, 16, 3, width=2, flow=4).eval()
    moving.load_state_dict(still.state_dict(), strict=False)
    z = torch.randn(3, 5)
    # It starts by moving nothing.
    torch.testing.assert_close(moving(z), still(z), atol=1e-5, rtol=0)
    assert moving.flow is not None
    nn.init.normal_(moving.flow.weight)
    assert not torch.allclose(moving(z), still(z), atol=0.01)
    assert torch.equal(moving.paint(z), still(z))
    torch.testing.assert_close(moving(z), move(still(z), moving.displacements(z)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert moving(z).dtype == torch.float32


def test_every_weight_of_a_flow_learns() -> None:
    torch.manual_seed(0)
    decoder = Decoder(5, 16, 3, width=2, flow=4)
    decoder(torch.randn(4, 5)).square().sum().backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name


def test_the_painter_does_not_see_what_is_unpainted() -> None:
    torch.manual_seed(0)
    unpainted = torch.tensor([[0.0, 2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0, -1.0]])
    decoder = Decoder(5, 16, 3, width=2, flow=4, unpainted=unpainted).eval()
    assert decoder.flow is not None
    nn.init.normal_(decoder.flow.weight)
    z = torch.randn(3, 5, requires_grad=True)
    other = z.detach().clone()
    other[:, [1, 4]] += 2.0
    assert torch.equal(decoder.paint(z), decoder.paint(other))
    assert not torch.allclose(decoder(z), decoder(other), atol=0.01)
    (slope,) = torch.autograd.grad(decoder.paint(z).square().sum(), z)
    assert (slope.abs().amax(dim=0) > 0).tolist() == [True, False, True, True, False]
    # Of the same weights, it paints what one that sees everything paints of z with zeros there.
    seeing = Decoder(5, 16, 3, width=2, flow=4).eval()
    seeing.load_state_dict(decoder.state_dict())
    blanked = z.detach().clone()
    blanked[:, [1, 4]] = 0.0
    assert torch.equal(decoder.paint(z), seeing.paint(blanked))


def by_hand(movement: Tensor) -> Tensor:
    """`carried` by one place, one place at a time."""
    side = movement.shape[-1]
    result = movement.clone()
    for row, column in itertools.product(range(side), repeat=2):
        furthest = float(movement[:, row, column].norm())
        for down, right in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            before = row - down, column - right
            if not all(0 <= place < side for place in before):
                continue
            x, y = (float(movement[axis][before]) for axis in (0, 1))
            along = (y * down > 0 and abs(y) >= abs(x)) or (x * right > 0 and abs(x) > abs(y))
            if along and math.hypot(x, y) > furthest + 1e-6:
                furthest = math.hypot(x, y)
                result[:, row, column] = movement[:, before[0], before[1]]
    return result


@given(st.integers(0, 1000))
def test_a_movement_is_carried_on_to_where_its_reverse_goes(seed: int) -> None:
    movement = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(seed))
    once = by_hand(movement)
    assert torch.equal(carried(movement), once)
    assert torch.equal(carried(movement, 2), by_hand(once))
    assert torch.equal(carried(movement, 0), movement)


def test_a_spot_that_moves_up_moves_down_where_it_never_was() -> None:
    """The spot is in row 13 at label 0 and in row 10 at label 1: at -1 it belongs into row 16."""
    step = torch.tensor([[1.0, 0.0]])
    decoder = Decoder(2, 32, 1, width=2, flow=8, unpainted=step, carry=1).eval()
    assert decoder.flow is not None
    field = torch.zeros(2, 8, 8)
    # Places 2 and 3 of the grid are rows 8 to 15: all that labels 0 and 1 use.
    field[1, 2:4] = 3 / 16 / FLOW_UNIT
    decoder.flow.weight.data[:, 0] = field.flatten()
    spot = torch.zeros(1, 1, 32, 32)
    spot[..., 13, :] = 1.0

    def row(label: float) -> int:
        moved = move(spot, decoder.displacements(torch.tensor([[label, 0.0]])))
        return int(moved[0, 0, 2:-2, 16].argmax()) + 2

    assert [row(label) for label in (0.0, 1.0, -1.0)] == [13, 10, 16]
    decoder.carry = 0
    assert [row(label) for label in (0.0, 1.0)] == [13, 10]
    assert row(-1.0) != 16  # without being carried it gets stuck on the way


@pytest.mark.parametrize("at_zero", [0.0, -0.75], ids=["presence", "signed"])
def test_carrying_begins_below_label_0_and_is_linear_there(at_zero: float) -> None:
    torch.manual_seed(0)
    step = torch.tensor([[1.5, 1.5, 0.0, 0.0, 0.0]])
    zero = torch.tensor([at_zero, at_zero, 0.0, 0.0, 0.0])
    plain = Decoder(5, 16, 3, width=2, flow=4, unpainted=step, zero=zero)
    carrying = Decoder(5, 16, 3, width=2, flow=4, unpainted=step, zero=zero, carry=1)
    assert plain.flow is not None
    nn.init.normal_(plain.flow.weight)
    carrying.load_state_dict(plain.state_dict())
    z = zero + torch.randn(64, 5)
    assert torch.equal(carrying(z), plain(z))  # in training nothing is carried
    plain.eval(), carrying.eval()

    further = carrying.displacements(z) - plain.displacements(z)  # (B, 2, 4, 4)
    doses = (z - zero)[:, :2].mean(dim=1) / 1.5  # (B,)
    assert 10 < int((doses < 0).sum()) < 54
    assert bool((further[doses >= 0] == 0).all())
    # Below 0 it is what carrying adds to one label unit, as often as the dose says.
    movement = (plain.flow.weight.detach() @ step[0]).unflatten(0, (2, 4, 4))
    a_unit = by_hand(movement) - movement
    assert float(a_unit.abs().max()) > 0.1
    expected = doses.clamp(max=0).view(-1, 1, 1, 1) * a_unit
    torch.testing.assert_close(further, expected, atol=1e-5, rtol=1e-5)


def test_a_flow_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="what is not painted has to move"):
        Decoder(5, 16, 3, unpainted=torch.eye(5)[:1])
    for carry, unpainted in ((-1, torch.eye(5)[:1]), (1, None)):
        with pytest.raises(ValueError, match=f"for what is unpainted, not {carry}"):
            Decoder(5, 16, 3, flow=4, unpainted=unpainted, carry=carry)
    with pytest.raises(
        ValueError, match=re.escape("flow is the side of a grid, 0 for none, not -")
    ):
        Decoder(5, 16, 3, flow=-1)
    with pytest.raises(ValueError, match="it was built with flow=0"):
        Decoder(5, 16, 3, width=2).displacements(torch.zeros(1, 5))
