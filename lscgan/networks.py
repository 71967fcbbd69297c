"""The networks: an encoder, its mirror the decoder that becomes a generator, discriminators."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

BASE = 4
"""The side of the smallest feature map: images are 4, 8, 16, 32, 64, ... pixels wide."""

FLOW_UNIT = 1 / 16
"""A displacement of 1 in units of the image's half side: 2 pixels of 64."""


BEYOND = 0.5
"""By how much pixels may leave [0, 1], as unclamped noise makes them: those of 0 to 255 do more."""


def stage_widths(size: int, width: int) -> list[int]:
    """Channels of each halving from ``size`` down to 4x4: width, 2 width, then 4 width.

    Raises:
        ValueError: ``size`` is not 8, 16, 32, 64, ... or ``width`` is below 1.
    """
    stages = (size // BASE).bit_length() - 1
    if stages < 1 or size != BASE * 2**stages:
        raise ValueError(f"images are square, 8, 16, 32, 64, ... pixels wide, not {size}")
    if width < 1:
        raise ValueError(f"width is at least 1, not {width}")
    return [width * min(2**i, 4) for i in range(stages)]


def require_shape(images: Tensor, channels: int, size: int, reader: str) -> None:
    """Refuse images of another shape than (B, channels, size, size).

    Args:
        reader: what takes the images, for the message: "model", "judge".

    Raises:
        ValueError: the images have another shape, or their pixels are whole numbers.
    """
    if images.ndim != 4 or tuple(images.shape[1:]) != (channels, size, size):
        raise ValueError(
            f"this {reader} takes images of shape (B, {channels}, {size}, {size}), not "
            f"{tuple(images.shape)}"
        )
    require_fractions(images, reader)


def require_fractions(images: Tensor, reader: str) -> None:
    """Refuse images whose pixels are whole numbers, as :func:`require_shape` does.

    Raises:
        ValueError: they are.
    """
    if not images.is_floating_point():
        raise ValueError(
            f"this {reader} takes pixels that are numbers in [0, 1], not {images.dtype}: give it "
            "data.float(), or images.float() / 255"
        )


def require_unit_range(images: Tensor, reader: str) -> None:
    """Refuse images whose pixels are far from [0, 1]. On a GPU it waits for them: not in training.

    Args:
        reader: as in :func:`require_shape`.

    Raises:
        ValueError: they are.
    """
    if not images.numel():
        return
    low, high = map(float, images.detach().aminmax())
    if low < -BEYOND or high > 1 + BEYOND:
        raise ValueError(
            f"this {reader} takes pixels that are numbers in [0, 1], and these run from {low:g} to "
            f"{high:g}: give it data.float(), which divides bytes by 255"
        )


class Encoder(nn.Module):
    """Images to the mean and log-variance of q(z|x).

    One 4x4 convolution of stride 2, batch normalisation and leaky ReLU for every halving, then
    one linear layer. Neither paper's layers are known; these are DCGAN's (Radford et al. 2016).

    Args:
        latent_size: D.
        size: the images' side in pixels.
        channels: 1 for grey, 3 for colour.
        width: channels of the first stage.
    """

    def __init__(self, latent_size: int, size: int = 64, channels: int = 3, width: int = 24):
        super().__init__()
        stages: list[nn.Module] = []
        before = channels
        for after in stage_widths(size, width):
            stages += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
            before = after
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(before * BASE * BASE, 2 * latent_size)
        self.size, self.channels = size, channels

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) in [0, 1] -> mean and log-variance, each (B, D) float32.

        Raises:
            ValueError: the images have another shape, or their pixels are whole numbers.
        """
        require_shape(images, self.channels, self.size, "model")
        features = self.stages(2 * images - 1).flatten(1)  # (B, F)
        mean, log_variance = self.head(features).float().chunk(2, dim=1)  # (B, D) each
        return mean, log_variance


class Decoder(nn.Module):
    """Latent vectors to images: the VAE's p(x|z), later the GAN's generator.

    The encoder's mirror: one linear layer to 4x4, then a 4x4 transposed convolution of stride 2
    for every doubling; a sigmoid puts pixels in [0, 1]. With ``upsampling="resize"`` every
    doubling repeats pixels and then convolves, 3x3, which cannot leave a checkerboard (Odena et
    al. 2016). The other arguments are as in :class:`Encoder`.

    With ``flow`` the decoder also moves what it painted, as deforming autoencoders do (Shu et al.
    2018): a linear layer reads from z where, on a coarse grid, each place of the image
    takes its pixels from. Being linear in z, a movement that a label makes goes on beyond the
    labels that were seen. Labels that are ``unpainted`` move and do no more: the painter sees 0 in
    place of their dimensions, so whatever they say can be said by a movement alone. Below label 0,
    where no training image lies, their movements may be carried on past the places where training
    left them, see :func:`carried`.

    Args:
        flow: the side of the grid of displacements, in places; 0 moves nothing.
        unpainted: (U, D), by how much each unpainted label moves z from 0 to 1; the painter does
            not see the dimensions in which a row is not 0.
        zero: (D,), the z of label 0 of every unpainted label, from which doses are counted; 0
            without it. Needed by ``carry`` alone.
        carry: how many places of the grid the movements of unpainted labels are carried on below
            label 0, where the decoder is in eval mode.

    Raises:
        ValueError: ``upsampling`` is neither "transposed" nor "resize", ``flow`` or ``carry`` is
            below 0, nothing moves what is unpainted, or nothing is unpainted that could be carried.
    """

    unpainted: Tensor
    zero: Tensor
    painted: Tensor

    def __init__(
        self,
        latent_size: int,
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        upsampling: str = "transposed",
        flow: int = 0,
        unpainted: Tensor | None = None,
        zero: Tensor | None = None,
        carry: int = 0,
    ):
        super().__init__()
        if upsampling not in ("transposed", "resize"):
            raise ValueError(f"upsampling is 'transposed' or 'resize', not {upsampling!r}")
        if flow < 0:
            raise ValueError(f"flow is the side of a grid, 0 for none, not {flow}")
        steps = torch.zeros(0, latent_size) if unpainted is None else unpainted  # (U, D)
        if len(steps) and not flow:
            raise ValueError("what is not painted has to move: give the decoder a flow, 16 say")
        if carry < 0 or (carry and not len(steps)):
            raise ValueError(
                f"carry is a number of places, at least 0, for what is unpainted, not {carry}"
            )
        self.carry = carry
        double = _transposed if upsampling == "transposed" else _resize
        widths = stage_widths(size, width)[::-1]
        self.start = nn.Linear(latent_size, widths[0] * BASE * BASE, bias=False)
        stages: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for before, after in itertools.pairwise(widths):
            stages += [
                *double(before, after, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        stages += double(widths[-1], channels, bias=True)
        self.stages = nn.Sequential(*stages)
        self.flow: nn.Linear | None = None
        if flow:
            self.flow = nn.Linear(latent_size, 2 * flow * flow)
            nn.init.zeros_(self.flow.weight)  # it starts by moving nothing
            nn.init.zeros_(self.flow.bias)
        self.register_buffer("unpainted", steps.float(), persistent=False)  # (U, D)
        at_zero = torch.zeros(latent_size) if zero is None else zero.float()
        self.register_buffer("zero", at_zero, persistent=False)  # (D,)
        painted = (steps == 0).all(dim=0).float()
        self.register_buffer("painted", painted, persistent=False)  # (D,)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> images (B, C, H, W), float32 in [0, 1]."""
        painted = self.paint(z)  # (B, C, H, W)
        return painted if self.flow is None else move(painted, self.displacements(z))

    def paint(self, z: Tensor) -> Tensor:
        """The image before anything is moved: (B, D) -> (B, C, H, W), float32 in [0, 1]."""
        maps = self.start(z * self.painted).unflatten(1, (-1, BASE, BASE))  # (B, width, 4, 4)
        maps = maps.contiguous(memory_format=torch.channels_last)
        # float() first: in bfloat16 a sigmoid near 1 has steps of 1/256, visible in flat areas
        return torch.sigmoid(self.stages(maps).float())  # (B, C, H, W)

    def displacements(self, z: Tensor) -> Tensor:
        """From where each place takes its pixels: (B, D) -> (B, 2, flow, flow), float32.

        In units of :data:`FLOW_UNIT` of the image's half side, to the right and down.

        Raises:
            ValueError: this decoder has no flow.
        """
        if self.flow is None:
            raise ValueError("this decoder moves nothing: it was built with flow=0")
        side = math.isqrt(self.flow.out_features // 2)
        displacements = self.flow(z).float().unflatten(1, (2, side, side))  # (B, 2, flow, flow)
        if self.carry and not self.training:
            for step in self.unpainted:
                dose = (z - self.zero) @ step / step.square().sum()  # (B,)
                movement = (self.flow.weight @ step).float().unflatten(0, (2, side, side))
                further = carried(movement, self.carry) - movement  # (2, flow, flow)
                displacements = displacements + dose.clamp(max=0).view(-1, 1, 1, 1) * further
        return displacements


def move(images: Tensor, displacements: Tensor) -> Tensor:
    """Each place takes its pixels from where its displacement says, differentiable in both.

    Places between the grid's take a smooth (bicubic) mean of the displacements around them;
    places between pixels a bilinear one of the pixels. What lies outside repeats the edge.

    Args:
        images: (B, C, H, W), float32.
        displacements: (B, 2, G, G), to the right and down, in units of :data:`FLOW_UNIT` of the
            image's half side.

    Returns:
        (B, C, H, W), float32.
    """
    functional = nn.functional
    count, _, *sides = images.shape
    offsets = FLOW_UNIT * functional.interpolate(displacements, size=sides, mode="bicubic")
    still = torch.eye(2, 3, device=images.device).expand(count, -1, -1)  # (B, 2, 3)
    places = functional.affine_grid(still, [count, 1, *sides], align_corners=False)  # (B, H, W, 2)
    places = places + offsets.permute(0, 2, 3, 1)  # (B, H, W, 2)
    return functional.grid_sample(images, places, padding_mode="border", align_corners=False)


def _transposed(before: int, after: int, bias: bool) -> list[nn.Module]:
    return [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1, bias=bias)]


def _resize(before: int, after: int, bias: bool) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1, bias=bias)]


def carried(movement: Tensor, places: int = 1) -> Tensor:
    """A label's movement, carried on by some places to where its reverse takes the pixels.

    A place learns its displacement only if something is seen to move there. What moves from label
    0 to 1 was seen to arrive in some places; reversed, from 0 to -1, it would arrive in others,
    whose displacements nothing has taught. So a place takes that of its neighbour if the
    neighbour's pixels, reversed, go its way, and if they go further than its own. Ours; level-set
    methods extend velocities in this manner (Adalsteinsson & Sethian 1999).

    Args:
        movement: (2, G, G), what the label displaces from 0 to 1, to the right and down.
        places: how often, each time by one place of the grid.

    Returns:
        (2, G, G).
    """
    for _ in range(places):
        movement = _carried_once(movement)
    return movement


def _carried_once(movement: Tensor) -> Tensor:
    length = movement.norm(dim=0)  # (G, G)
    furthest, result = length, movement
    # A place looks towards its displacement at label 1; reversed, its pixels travel along it.
    sideways = movement[0].abs() > movement[1].abs()  # (G, G)
    for axis, way in ((1, 1), (1, -1), (0, 1), (0, -1)):
        goes = (movement[axis] * way > 0) & (sideways == (axis == 0))  # (G, G)
        reaches = _next(torch.where(goes, length, 0.0), axis, way)  # (G, G)
        taken = reaches > furthest
        furthest = torch.where(taken, reaches, furthest)
        result = torch.where(taken, _next(movement, axis, way), result)
    return result


def _next(grid: Tensor, axis: int, way: int) -> Tensor:
    """What the neighbour before each place holds, (..., G, G); at the edge, the place's own."""
    dim = -1 if axis == 0 else -2
    rolled = grid.roll(way, dims=dim)
    edge = 0 if way > 0 else grid.shape[dim] - 1
    rolled.select(dim, edge).copy_(grid.select(dim, edge))
    return rolled


class Discriminator(nn.Module):
    """Images to one score each: how real they look.

    The encoder's convolutions without batch normalisation, which would let one image's score
    depend on its batch, then one linear layer. With ``conditions`` the score also says whether
    the image fits its labels, by projection (Miyato & Koyama 2018).

    Args:
        size, channels, width: as in :class:`Encoder`.
        conditions: A, how many labels it is told; 0 for none.
        doses: A, how many doses it reads from an image; 0 for none.
        spectral_norm: divide every layer's weight by its largest singular value (Miyato et al.
            2018).
    """

    def __init__(
        self,
        size: int = 64,
        channels: int = 3,
        width: int = 24,
        conditions: int = 0,
        doses: int = 0,
        spectral_norm: bool = False,
    ):
        super().__init__()
        stages: list[nn.Module] = []
        before = channels
        for after in stage_widths(size, width):
            stages += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            before = after
        self.stages = nn.Sequential(*stages)
        self.size, self.channels = size, channels
        features = before * BASE * BASE
        self.head = nn.Linear(features, 1)
        self.projection = nn.Linear(conditions, features, bias=False) if conditions else None
        self.reader: nn.Linear | None = None
        if doses:
            self.reader = nn.Linear(features, doses)
            nn.init.zeros_(self.reader.weight)  # it starts by saying what is right on average
            nn.init.zeros_(self.reader.bias)
        if spectral_norm:
            for layer in self.modules():
                # The reader says nothing of how real an image is, and 0 has no norm to divide by.
                if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer is not self.reader:
                    nn.utils.parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """(B, C, H, W) in [0, 1], with ``conditions`` also labels (B, A) -> scores (B,) float32.

        Raises:
            ValueError: the images have another shape, or their pixels are whole numbers.
        """
        features = self._trunk(images)  # (B, F)
        scores: Tensor = self.head(features)[:, 0].float()  # (B,)
        if self.projection is not None and labels is not None:
            fit = self.projection(2 * labels - 1) * features  # (B, F)
            scores = scores + fit.float().sum(dim=1) / features.shape[1] ** 0.5
        return scores

    def read(self, images: Tensor) -> Tensor:
        """What the second head reads, with ``doses``: (B, C, H, W) -> (B, A) float32.

        Raises:
            ValueError: it was built without, or the images are wrong as in :meth:`forward`.
        """
        if self.reader is None:
            raise ValueError("this discriminator reads no doses: build it with doses=...")
        doses: Tensor = self.reader(self._trunk(images)).float()
        return doses

    def _trunk(self, images: Tensor) -> Tensor:
        require_shape(images, self.channels, self.size, "model")
        features: Tensor = self.stages(2 * images - 1).flatten(1)  # (B, F)
        return features


# -- InfoGAN's networks -----------------------------------------------------------------------

READER_WIDTH = 128
"""The hidden layer of the head that reads unsupervised codes."""


class InfoGenerator(nn.Module):
    """Codes and noise to images: two dense layers, then two transposed convolutions.

    ss-InfoGAN's generator for MNIST with the default arguments (Spurr et al. 2017, official
    code), InfoGAN's but for the kernels' count (Chen et al. 2016, appendix C.1).

    Args:
        latent_size: D.
        size: the images' side in pixels, a multiple of 4.
        channels: 1 for grey, 3 for colour.
        width: channels of the last hidden layer; the one before has twice as many.
        hidden: units of the first dense layer.

    Raises:
        ValueError: ``size`` is no multiple of 4.
    """

    def __init__(
        self,
        latent_size: int,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
    ):
        super().__init__()
        side = _quarter(size)
        self.dense = nn.Sequential(
            nn.Linear(latent_size, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * width * side**2),
            nn.BatchNorm1d(2 * width * side**2),
            nn.ReLU(),
            nn.Unflatten(1, (2 * width, side, side)),
        )
        self.stages = nn.Sequential(
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )
        self.apply(_drawn_narrowly)

    def forward(self, z: Tensor) -> Tensor:
        """(B, D) -> images (B, C, H, W), float32 in [0, 1]."""
        maps = self.dense(z).contiguous(memory_format=torch.channels_last)
        return torch.sigmoid(self.stages(maps).float())  # (B, C, H, W)


class InfoTrunk(nn.Module):
    """Images to the features that D and every Q read: two convolutions and a dense layer.

    ss-InfoGAN's for MNIST with the default arguments (Spurr et al. 2017, official code).

    Args:
        size, channels, width, hidden: :class:`InfoGenerator`'s.
        averages: hand out what both convolutions see as well, averaged over the picture: 3 width
            features more, for a :class:`StyleReader`. Ours.
    """

    def __init__(
        self,
        size: int = 28,
        channels: int = 1,
        width: int = 64,
        hidden: int = 1024,
        averages: bool = False,
    ):
        super().__init__()
        self.averages = averages
        self.size, self.channels = size, channels
        side = _quarter(size)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.01),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.01),
            nn.Flatten(),
            nn.Linear(2 * width * side**2, hidden),
            nn.BatchNorm1d(hidden),
            nn.LeakyReLU(0.01),
        )
        self.apply(_drawn_narrowly)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> features (B, F): the dense layer's, then the averages.

        Raises:
            ValueError: the images have another shape, or their pixels are no numbers in [0, 1].
        """
        require_shape(images, self.channels, self.size, "model")
        if not self.training:
            require_unit_range(images, "model")
        if not self.averages:
            features: Tensor = self.layers(images)
            return features
        first = self.layers[:2](images)  # (B, width, H / 2, W / 2)
        second = self.layers[2:5](first)  # (B, 2 width, H / 4, W / 4)
        seen = [maps.mean(dim=(2, 3)) for maps in (first, second)]
        return torch.cat([self.layers[5:](second), *seen], dim=1)  # (B, hidden + 3 width)


class CodeReader(nn.Module):
    """Q: the trunk's features to what they say of each code.

    Args:
        features: how many of the trunk's features it reads.
        sizes: how many numbers each code takes, by name: K logits for one of K classes, one value
            for a continuous code.
        hidden: a hidden layer of :data:`READER_WIDTH` units; without it, one linear layer.
        start: the first of them; what lies before and after is left to other heads.
    """

    def __init__(self, features: int, sizes: Mapping[str, int], hidden: bool, start: int = 0):
        super().__init__()
        self.sizes = dict(sizes)
        self.own = slice(start, start + features)
        layers: list[nn.Module] = []
        if hidden:
            layers = [nn.Linear(features, READER_WIDTH), nn.BatchNorm1d(READER_WIDTH)]
            layers.append(nn.LeakyReLU(0.01))
        layers.append(nn.Linear(READER_WIDTH if hidden else features, sum(sizes.values())))
        self.layers = nn.Sequential(*layers)
        self.apply(_drawn_narrowly)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """All of the trunk's features (B, F) -> {name: (B, size)}, float32."""
        read = self.layers(features[:, self.own]).float().split(list(self.sizes.values()), dim=1)
        return dict(zip(self.sizes, read, strict=True))


class StyleReader(nn.Module):
    """Q that reads classes from the dense layer, and continuous codes from averages.

    An average over the picture says how strokes run, and hardly which digit they make. So a
    continuous code that is read from it has to mean the same in every class. Ours.

    Args:
        hidden, width: the trunk's.
        classes: how many classes each categorical code has, by name; may be empty.
        continuous: the names of the continuous codes.
    """

    def __init__(self, hidden: int, width: int, classes: Mapping[str, int], continuous: list[str]):
        super().__init__()
        self.sizes = {**classes, **dict.fromkeys(continuous, 1)}
        self.classes = CodeReader(hidden, classes, hidden=True) if classes else None
        self.styles = CodeReader(3 * width, dict.fromkeys(continuous, 1), hidden=True, start=hidden)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """(B, F) -> {name: (B, size)}, float32."""
        classes = self.classes(features) if self.classes is not None else {}
        return {**classes, **self.styles(features)}


def _quarter(size: int) -> int:
    if size < 4 or size % 4:
        raise ValueError(f"images are square and a multiple of 4 pixels wide, not {size}")
    return size // 4


def _drawn_narrowly(module: nn.Module) -> None:
    """Weights from N(0, 0.02^2), biases 0 (Radford et al. 2016; ss-InfoGAN's official code)."""
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
