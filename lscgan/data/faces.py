"""Faces drawn from known factors.

Every face is a row of `FaceFactors`: some forty numbers that say how wide the head is, which way
the eyes look, how much the mouth smiles. `render` turns the numbers into a picture with soft
signed-distance shapes, so the truth about each picture is exact: nobody had to label it. The
mouth's `curvature` is signed (1 a broad smile, 0 a flat line, -1 a frown), which is what the
reverse experiment needs: training faces never go below 0, and judges can be shown the frowns.

Coordinates: the frame is [-1, 1] x [-1, 1] with y pointing down. A shape is described in the
head's own coordinates (u to the right, v down, the head's centre at 0), which move, grow and tilt
with the head; the body shares them but does not tilt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from types import SimpleNamespace

import torch
from torch import Tensor

ATTRIBUTES: tuple[str, ...] = (
    "Smiling",
    "Mouth_Slightly_Open",
    "Eyeglasses",
    "Mustache",
    "Black_Hair",
    "Blond_Hair",
    "Gray_Hair",
    "Wearing_Hat",
    "Pale_Skin",
    "Bangs",
    "Bushy_Eyebrows",
)
HAIR_COLOURS = ("Black_Hair", "Blond_Hair", "Gray_Hair")  # at most one of them; none is brown
GAP = (0.3, 0.6)  # no face that a model learns from has a mouth between neutral and smiling
SMILE_THRESHOLD = 0.425  # a mouth curved more than this is labelled Smiling

# The factors that no label speaks of: (lowest, highest, what it does). Drawn uniformly.
FACTOR_RANGES: dict[str, tuple[float, float, str]] = {
    "skin": (0.0, 1.0, "skin tone, from lightest to darkest within pale or not pale"),
    "head_width": (0.46, 0.53, "half the head's width"),
    "head_height": (0.60, 0.66, "half the head's height"),
    "jaw": (0.0, 0.22, "how much the head narrows to the chin"),
    "x": (-0.07, 0.07, "the head's place, left to right"),
    "y": (0.02, 0.10, "the head's place, top to bottom"),
    "scale": (0.92, 1.04, "the head's size in the frame"),
    "tilt": (-0.12, 0.12, "the head's tilt, in radians"),
    "eye_size": (0.9, 1.15, "the eyes' size"),
    "eye_spacing": (0.19, 0.225, "half the distance between the eyes"),
    "iris": (0.0, 1.0, "iris colour, from dark brown over green to blue"),
    "gaze": (-1.0, 1.0, "where the eyes look, left to right"),
    "brow_thickness": (0.0, 1.0, "the brows' thickness, within bushy or not bushy"),
    "brow_height": (-0.012, 0.012, "the brows' height above the eyes"),
    "brow_angle": (-0.10, 0.14, "the brows' slope, from worried to stern"),
    "hair_length": (0.0, 1.0, "hair length, from the temples to below the shoulders"),
    "hair_shade": (0.0, 1.0, "hair shade within its colour (brown runs to auburn)"),
    "hair_part": (-1.0, 1.0, "where the hair parts, left to right"),
    "hat_hue": (0.0, 1.0, "the hat's hue"),
    "hat_value": (0.0, 1.0, "the hat's lightness"),
    "frame_shade": (0.0, 1.0, "the glasses' frame, from black to tortoise red"),
    "clothes_hue": (0.0, 1.0, "the clothes' hue"),
    "clothes_value": (0.0, 1.0, "the clothes' lightness"),
    "neckline": (0.0, 1.0, "the neckline, from round to a deep V"),
    "light": (0.92, 1.06, "brightness of the light"),
    "light_side": (-1.0, 1.0, "where the light comes from, left to right"),
    "light_tint": (-1.0, 1.0, "tint of the light, from cool to warm"),
    "backdrop_hue": (0.0, 1.0, "the backdrop's first hue"),
    "backdrop_turn": (-0.12, 0.12, "from the backdrop's first hue to its second"),
    "backdrop_saturation": (0.08, 0.52, "the backdrop, from muted to bright"),
    "backdrop_value": (0.55, 0.92, "the backdrop's lightness"),
    "backdrop_angle": (0.0, 1.0, "direction of the backdrop's gradient, in turns"),
    "grain": (0.0, 1.0, "which grain lies over the picture (any change is a new grain)"),
}


@dataclass(frozen=True)
class FaceFactors:
    """What each of N faces is made of: one float tensor of shape (N,) per factor.

    Factors named like an attribute run from 0 (absent) to 1 (present). The others are explained,
    with their ranges, in `FACTOR_RANGES`.
    """

    curvature: Tensor  # the mouth: 1 a broad smile, 0 flat, -1 a frown; [-1.5, 1.5]
    mouth_slightly_open: Tensor
    eyeglasses: Tensor
    mustache: Tensor
    black_hair: Tensor
    blond_hair: Tensor
    gray_hair: Tensor
    wearing_hat: Tensor
    pale_skin: Tensor
    bangs: Tensor
    bushy_eyebrows: Tensor
    skin: Tensor
    head_width: Tensor
    head_height: Tensor
    jaw: Tensor
    x: Tensor
    y: Tensor
    scale: Tensor
    tilt: Tensor
    eye_size: Tensor
    eye_spacing: Tensor
    iris: Tensor
    gaze: Tensor
    brow_thickness: Tensor
    brow_height: Tensor
    brow_angle: Tensor
    hair_length: Tensor
    hair_shade: Tensor
    hair_part: Tensor
    hat_hue: Tensor
    hat_value: Tensor
    frame_shade: Tensor
    clothes_hue: Tensor
    clothes_value: Tensor
    neckline: Tensor
    light: Tensor
    light_side: Tensor
    light_tint: Tensor
    backdrop_hue: Tensor
    backdrop_turn: Tensor
    backdrop_saturation: Tensor
    backdrop_value: Tensor
    backdrop_angle: Tensor
    grain: Tensor

    def __len__(self) -> int:
        return len(self.curvature)

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> FaceFactors:
        """The chosen faces. A single number keeps the row: the answer has length 1."""
        if isinstance(index, int):
            index = [index]
        return FaceFactors(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def replace(self, **factors: float | Tensor) -> FaceFactors:
        """The same faces with some factors changed; a scalar is given to every face."""
        known = [f.name for f in fields(self)]
        new = {}
        for name, value in factors.items():
            if name not in known:
                raise ValueError(f"unknown factor {name!r}; the factors are {', '.join(known)}")
            tensor = torch.as_tensor(value).to(self.curvature)
            if tensor.ndim > 1 or (tensor.ndim == 1 and len(tensor) != len(self)):
                raise ValueError(
                    f"{name} must be a number or a tensor of shape ({len(self)},), "
                    f"not of shape {tuple(tensor.shape)}"
                )
            new[name] = tensor.expand(len(self)).clone()
        return replace(self, **new)

    def to(self, device: torch.device | str) -> FaceFactors:
        """The same faces on another device."""
        return FaceFactors(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def labels(self, names: Sequence[str] = ATTRIBUTES) -> Tensor:
        """The exact labels, float32 (N, len(names)): 1 present, 0 absent.

        Smiling is 1 where the curvature is above `SMILE_THRESHOLD`. The name "curvature" asks for
        the real value.
        """
        columns = []
        for name in names:
            if name == "curvature":
                columns.append(self.curvature)
            elif name == "Smiling":
                columns.append((self.curvature > SMILE_THRESHOLD).float())
            elif name in ATTRIBUTES:
                columns.append((getattr(self, name.lower()) > 0.5).float())
            else:
                raise ValueError(
                    f"unknown label {name!r}; the labels are {', '.join(ATTRIBUTES)} and curvature"
                )
        if not columns:
            return self.curvature.new_zeros(len(self), 0)
        return torch.stack(columns, dim=1)  # (N, A)


def sample_labels(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Label rows that a face can have, float32 (count, A) in the order of `ATTRIBUTES`.

    Every attribute is a fair coin of its own, except hair colour: black, blond, gray and brown
    (none of the three) have probability 1/4 each.
    """
    if count < 0:
        raise ValueError(f"count must be 0 or more, not {count}")
    labels = (torch.rand(count, len(ATTRIBUTES), generator=generator) < 0.5).float()  # (N, A)
    colour = torch.randint(4, (count,), generator=generator)
    for number, name in enumerate(HAIR_COLOURS):
        labels[:, ATTRIBUTES.index(name)] = (colour == number).float()
    return labels


def sample_factors(
    count: int,
    generator: torch.Generator | None = None,
    curvature: tuple[float, float] = (0.0, 1.0),
    gap: tuple[float, float] | None = GAP,
    labels: Tensor | None = None,
) -> FaceFactors:
    """Draws `count` faces: attributes from `sample_labels` or as `labels` (count, A) asks.

    Curvature is uniform on the neutral side, [curvature[0], gap[0]], or on the smiling side,
    [gap[1], curvature[1]], each with probability 1/2 or as the label Smiling says. With
    `gap=None` it is uniform over the whole range, which only a judge should see. Raises
    ValueError where the ranges or the labels cannot be met.
    """
    low, high = curvature
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"curvature must be (low, high) with low < high, both finite: {curvature}")
    if gap is not None and not low <= gap[0] <= SMILE_THRESHOLD <= gap[1] <= high:
        raise ValueError(
            f"gap {gap} must lie inside curvature {curvature} and around {SMILE_THRESHOLD}, "
            "where Smiling begins; gap=None draws curvature without a gap"
        )
    if labels is None:
        labels = sample_labels(count, generator)
    else:
        if gap is None:
            raise ValueError("labels need a gap: the label Smiling chooses a side of it")
        _check_labels(labels, count)
        labels = labels.float().cpu()
    values = {
        name.lower(): labels[:, column] for column, name in enumerate(ATTRIBUTES) if column > 0
    }
    position = torch.rand(count, generator=generator)
    if gap is None:
        values["curvature"] = low + (high - low) * position
    else:
        neutral = low + (gap[0] - low) * position
        smiling = gap[1] + (high - gap[1]) * position
        values["curvature"] = torch.where(labels[:, 0] > 0.5, smiling, neutral)
    uniform = torch.rand(len(FACTOR_RANGES), count, generator=generator)
    for row, (name, (lowest, highest, _)) in zip(uniform, FACTOR_RANGES.items(), strict=True):
        values[name] = lowest + (highest - lowest) * row
    return FaceFactors(**values)


def _check_labels(labels: Tensor, count: int) -> None:
    if labels.shape != (count, len(ATTRIBUTES)):
        raise ValueError(
            f"labels must have shape ({count}, {len(ATTRIBUTES)}), not {tuple(labels.shape)}"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("labels must be 0 or 1")
    colours = [ATTRIBUTES.index(name) for name in HAIR_COLOURS]
    if (labels[:, colours].sum(dim=1) > 1).any():
        raise ValueError(f"a face has one hair colour: ask for one of {', '.join(HAIR_COLOURS)}")


def sweep(factors: FaceFactors, name: str, steps: int) -> FaceFactors:
    """One face, `steps` times, with one factor going over its whole range.

    Attribute factors go from 0 to 1 and curvature from -1 to 1.
    """
    if len(factors) != 1:
        raise ValueError(f"sweep one face, such as factors[0]; these are {len(factors)}")
    lowest, highest, _ = FACTOR_RANGES.get(name, (-1.0 if name == "curvature" else 0.0, 1.0, ""))
    return factors[[0] * steps].replace(**{name: torch.linspace(lowest, highest, steps)})


def render(factors: FaceFactors, size: int = 64) -> Tensor:
    """Draws the faces: float32 (N, 3, size, size) in [0, 1], on the factors' device.

    The same factors always give the same picture, grain included.
    """
    return _render(factors, size, whole_frame=False)


CHUNK = 64  # faces drawn together: few enough to stay in the processor's cache


def _render(factors: FaceFactors, size: int, whole_frame: bool) -> Tensor:
    """`whole_frame` draws every shape over the whole frame: slow, and the same picture."""
    if size < 16:
        raise ValueError(f"size must be 16 or more pixels, not {size}")
    images = torch.empty(len(factors), 3, size, size, device=factors.curvature.device)
    with torch.no_grad():
        for start in range(0, len(factors), CHUNK):
            part = slice(start, start + CHUNK)
            _draw(_Canvas(images[part], factors[part], whole_frame))
    return images


# --- Canvas: coordinates, windows, soft edges, paint -------------------------------------------


class _Canvas:
    """Images being drawn (B, 3, S, S), with the head's coordinates.

    `f` holds each factor as (B, 1, 1), ready to meet a (B, h, w) window; `colour` holds the
    colours (B, 3) that several shapes share.
    """

    def __init__(self, images: Tensor, factors: FaceFactors, whole_frame: bool) -> None:
        self.images = images
        self.size = images.shape[-1]
        self.whole_frame = whole_frame
        self.f = SimpleNamespace(
            **{f.name: getattr(factors, f.name).float()[:, None, None] for f in fields(factors)}
        )
        self.colour = _colours(factors)
        self.pixels = self.f.scale * (self.size / 2)  # pixels per unit of u or v
        steps = torch.arange(self.size, device=images.device)
        self.grid = (steps + 0.5) * (2 / self.size) - 1  # (S,) pixel centres

    def window(
        self,
        left: float | Tensor,
        right: float | Tensor,
        top: float | Tensor,
        bottom: float | Tensor,
        tilted: bool = True,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The pixels in which a shape with this box in (u, v) can show, for all faces at once.

        Returns the view of the images to paint on (B, 3, h, w) and its coordinates u, v (B, h, w).
        """
        f = self.f
        tilt = f.tilt if tilted else torch.zeros_like(f.tilt)
        cos, sin = tilt.cos(), tilt.sin()
        rows = cols = slice(None)
        if not self.whole_frame:
            u, v = (left + right) / 2, (top + bottom) / 2
            du, dv = (right - left) / 2, (bottom - top) / 2
            cols = self._span(
                f.x + f.scale * (u * cos - v * sin), f.scale * (du * cos + dv * sin.abs())
            )
            rows = self._span(
                f.y + f.scale * (u * sin + v * cos), f.scale * (du * sin.abs() + dv * cos)
            )
        x = self.grid[None, None, cols] - f.x
        y = self.grid[None, rows, None] - f.y
        u = x * (cos / f.scale) + y * (sin / f.scale)
        v = y * (cos / f.scale) - x * (sin / f.scale)
        return self.images[:, :, rows, cols], u, v

    def _span(self, centre: Tensor, half: Tensor) -> slice:
        low, high = (centre - half).amin().item(), (centre + half).amax().item()
        first = math.floor((low + 1) / 2 * self.size) - 2
        last = math.ceil((high + 1) / 2 * self.size) + 2
        return slice(min(max(first, 0), self.size), min(max(last, 0), self.size))

    def cover(self, distance: Tensor) -> Tensor:
        """Share of each pixel inside the shape: 1 inside, 0 outside, an edge one pixel wide.

        Overwrites `distance` (negative inside).
        """
        return distance.mul_(-self.pixels).add_(0.5).clamp_(0, 1)


def _paint(view: Tensor, colour: Tensor, alpha: Tensor) -> None:
    """Lays `colour` (B, 3) over the view (B, 3, h, w) with opacity `alpha` (B, h, w)."""
    view.lerp_(colour[:, :, None, None], alpha[:, None])


# --- Signed distances: negative inside, about one per unit of length near the edge ---------------


def _ellipse(u: Tensor, v: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """First-order distance: the level of the ellipse's equation over its slope."""
    p, q = u / width, v / height
    level = torch.hypot(p, q)
    slope = torch.hypot(p.div_(width), q.div_(height))
    # level / slope tends to a length of the ellipse's size at the centre, where both vanish
    return (level - 1).mul_(level.add_(1e-6)).div_(slope.add_(1e-6))


def _box(
    u: Tensor, v: Tensor, width: float | Tensor, height: float | Tensor, radius: float
) -> Tensor:
    """Box with rounded corners; width and height are half sizes, corners included."""
    p, q = u.abs().sub_(width - radius), v.abs().sub_(height - radius)
    inside = torch.maximum(p, q).clamp_(max=0)
    return torch.hypot(p.clamp_(min=0), q.clamp_(min=0)).add_(inside).sub_(radius)


def _soft(u: Tensor, v: Tensor, width: float | Tensor, height: float | Tensor) -> Tensor:
    """Opacity of a blurred spot: 1 at its centre, 0 from the edge of the ellipse on."""
    return (u / width).square_().add_((v / height).square_()).neg_().add_(1).clamp_(min=0).square_()


# --- Colours --------------------------------------------------------------------------------------


def _mix(first: Tensor, second: Tensor, amount: Tensor | float) -> Tensor:
    return first + (second - first) * amount


def _ramp(position: Tensor, *stops: tuple[float, float, float]) -> Tensor:
    """Colour (B, 3) at `position` (B,) in [0, 1] along evenly spaced stops."""
    table = torch.tensor(stops, device=position.device)  # (K, 3)
    place = position.clamp(0, 1) * (len(stops) - 1)
    below = place.long().clamp(max=len(stops) - 2)
    return torch.lerp(table[below], table[below + 1], (place - below)[:, None])


def _hsv(hue: Tensor, saturation: Tensor | float, value: Tensor | float) -> Tensor:
    """Colour (B, 3) from a hue in turns, (B,), and saturation and value in [0, 1]."""
    turns = torch.tensor([5.0, 3.0, 1.0], device=hue.device)
    k = (turns + 6 * hue[:, None]) % 6
    dip = torch.minimum(k, 4 - k).clamp(0, 1)
    saturation = torch.as_tensor(saturation, device=hue.device).reshape(-1, 1)
    value = torch.as_tensor(value, device=hue.device).reshape(-1, 1)
    return value * (1 - saturation * dip)


def _colours(factors: FaceFactors) -> SimpleNamespace:
    """The colours that several shapes share, each (B, 3)."""
    c = SimpleNamespace()
    pale = _ramp(factors.skin, (1.0, 0.89, 0.82), (0.98, 0.85, 0.75))
    tan = _ramp(factors.skin, (0.86, 0.63, 0.45), (0.65, 0.44, 0.30), (0.46, 0.30, 0.21))
    amount = factors.pale_skin[:, None]
    c.skin = _mix(tan, pale, amount)
    c.skin_shadow = c.skin * c.skin.new_tensor([0.82, 0.72, 0.70])
    c.skin_light = _mix(c.skin, torch.ones_like(c.skin), 0.22)
    c.blush = _mix(c.skin, c.skin.new_tensor([0.95, 0.36, 0.34]), 0.32)
    # Lips are dark on light skin and light on dark skin: a jump, for a blend would pass through
    # the skin's own colour.
    dark_skin = ((c.skin.mean(dim=1) < 0.45)[:, None]).float()
    red = _mix(c.skin.new_tensor([0.52, 0.06, 0.11]), c.skin.new_tensor([0.66, 0.13, 0.17]), amount)
    c.lips = _mix(red, c.skin.new_tensor([1.0, 0.60, 0.57]), dark_skin)
    shade = factors.hair_shade
    brown = _ramp(shade, (0.25, 0.13, 0.07), (0.35, 0.18, 0.08), (0.54, 0.21, 0.08))
    black = _ramp(shade, (0.05, 0.05, 0.07), (0.11, 0.10, 0.13))
    blond = _ramp(shade, (0.86, 0.66, 0.24), (0.98, 0.86, 0.48))
    gray = _ramp(shade, (0.60, 0.62, 0.66), (0.80, 0.82, 0.85))
    shares = torch.stack([factors.black_hair, factors.blond_hair, factors.gray_hair], dim=1)
    rest = (1 - shares.sum(dim=1, keepdim=True)).clamp(min=0)
    c.hair = (torch.stack([black, blond, gray], dim=1) * shares[:, :, None]).sum(1) + brown * rest
    c.hair_dark = c.hair * 0.68
    c.hair_light = _mix(c.hair, torch.ones_like(c.hair), 0.28)
    # Brows and mustache are darker than the hair, but fair hair on dark skin keeps its own tone.
    fair = (factors.blond_hair + factors.gray_hair).clamp(max=1)[:, None] * dark_skin
    c.brow = c.hair * (0.30 + 0.66 * fair)
    c.hat = _hsv(factors.hat_hue, 0.62, 0.45 + 0.5 * factors.hat_value)
    c.clothes = _hsv(factors.clothes_hue, 0.55, 0.4 + 0.5 * factors.clothes_value)
    c.white = torch.full_like(c.skin, 0.98)
    c.ink = torch.full_like(c.skin, 0.09)
    return c


# --- The shapes, from back to front ---------------------------------------------------------------


def _draw(canvas: _Canvas) -> None:
    _draw_backdrop(canvas)
    _draw_back_hair(canvas)
    _draw_body(canvas)
    _draw_ears(canvas)
    _draw_locks(canvas)
    _draw_head(canvas)
    _draw_eyes(canvas)
    _draw_nose(canvas)
    _draw_mouth(canvas)
    _draw_mustache(canvas)
    _draw_front_hair(canvas)
    _draw_brows(canvas)
    _draw_glasses(canvas)
    _draw_hat(canvas)
    _draw_light(canvas)


def _draw_backdrop(canvas: _Canvas) -> None:
    """Two colours, one fading into the other."""
    f = canvas.f
    hue, turn, saturation, value, angle = (
        getattr(f, f"backdrop_{name}").flatten()
        for name in ("hue", "turn", "saturation", "value", "angle")
    )
    first = _hsv(hue, saturation, value)
    second = _hsv(hue + turn, saturation, value * 0.78)
    x, y = canvas.grid[None, None, :], canvas.grid[None, :, None]
    angle = angle[:, None, None] * (2 * math.pi)
    amount = (x * (angle.cos() * 0.36) + y * (angle.sin() * 0.36)).add_(0.5).clamp_(0, 1)
    canvas.images.copy_(first[:, :, None, None].expand_as(canvas.images))
    _paint(canvas.images, second, amount)


def _lock_end(f: SimpleNamespace) -> Tensor:
    """How far down the hair reaches beside the face."""
    return 0.02 + 0.86 * f.hair_length


def _draw_back_hair(canvas: _Canvas) -> None:
    """The hair behind the neck, and the crown: a shell around the upper head."""
    f, c = canvas.f, canvas.colour
    width, end = f.head_width, _lock_end(f)
    view, u, v = canvas.window(-width, width, -0.2, end, tilted=False)
    back = _box(u, v - (end - 0.2) / 2, width, (end + 0.2) / 2, 0.1)
    _paint(view, c.hair_dark, canvas.cover(back))
    shell_width, shell_height = f.head_width + 0.075, f.head_height + 0.065
    view, u, v = canvas.window(-shell_width, shell_width, -shell_height - 0.02, 0.14)
    shell = _ellipse(u, v + 0.02, shell_width, shell_height)
    shell = torch.maximum(shell, v - 0.12)  # only the upper part
    _paint(view, c.hair, canvas.cover(shell))


def _shoulders(u: Tensor, v: Tensor) -> Tensor:
    return _box(u, v - 1.13, 0.84, 0.40, 0.28)


def _draw_body(canvas: _Canvas) -> None:
    """Shoulders, neck and neckline."""
    f, c = canvas.f, canvas.colour
    view, u, v = canvas.window(-0.86, 0.86, 0.68, 1.6, tilted=False)
    _paint(view, c.clothes, canvas.cover(_shoulders(u, v)))
    view, u, v = canvas.window(-0.34, 0.34, 0.3, 1.3, tilted=False)
    side = u.abs()
    deep = 0.10 + 0.17 * f.neckline
    # The neckline's lower edge: a parabola when round, straight sides when a V.
    across = side / 0.27
    bottom = 0.74 + deep * (1 - torch.lerp(across.square(), across, f.neckline))
    opening = (v - bottom) * 0.8
    shoulders = _shoulders(u, v)
    _paint(view, c.clothes * 0.72, canvas.cover(torch.maximum(opening - 0.04, shoulders)))
    neck = _box(u, v - 0.5, 0.19, 0.32, 0.05)
    skin = torch.minimum(torch.maximum(opening, shoulders), neck)
    skin = canvas.cover(skin)
    _paint(view, c.skin, skin)
    chin = _soft(u, v - f.head_height * 0.98, 0.34, 0.22)
    _paint(view, c.skin_shadow, chin.mul_(skin))


def _draw_ears(canvas: _Canvas) -> None:
    f, c = canvas.f, canvas.colour
    out = f.head_width + 0.10
    view, u, v = canvas.window(-out, out, -0.12, 0.16)
    side = u.abs() - f.head_width - 0.015
    _paint(view, c.skin, canvas.cover(_ellipse(side, v - 0.02, 0.075, 0.115)))
    _paint(view, c.skin_shadow, canvas.cover(_ellipse(side - 0.005, v - 0.02, 0.035, 0.065)))


def _draw_locks(canvas: _Canvas) -> None:
    """Hair beside the face, from the crown down over the shoulders when long."""
    f, c = canvas.f, canvas.colour
    end = _lock_end(f)
    out = f.head_width + 0.17
    view, u, v = canvas.window(-out, out, -0.26, end)
    side = u.abs() - f.head_width - 0.06 * f.hair_length * v  # long hair flares a little
    half = 0.055 + 0.05 * f.hair_length
    lock = canvas.cover(_box(side, v - (end - 0.25) / 2, half, (end + 0.25) / 2, 0.05))
    _paint(view, c.hair, lock)
    strand = canvas.cover((side - 0.02).abs_().sub_(0.012)).mul_(lock).mul_(0.4)
    _paint(view, c.hair_dark, strand)


def _head(f: SimpleNamespace, u: Tensor, v: Tensor) -> Tensor:
    """The head's outline: an ellipse that narrows towards the chin."""
    down = (v / f.head_height).clamp_(0, 1.2)
    return _ellipse(u / (1 - f.jaw * down.square_()), v, f.head_width, f.head_height)


def _draw_head(canvas: _Canvas) -> None:
    """The face, lit from one side, with blush on the cheeks."""
    f, c = canvas.f, canvas.colour
    view, u, v = canvas.window(-f.head_width, f.head_width, -f.head_height, f.head_height)
    head = canvas.cover(_head(f, u, v))
    _paint(view, c.skin, head)
    shade = (u * (f.light_side / 0.6)).add_(v, alpha=0.5).add_(0.05).clamp_(0, 1)
    _paint(view, c.skin_shadow, shade.mul_(head).mul_(0.75))
    view, u, v = canvas.window(-0.46, 0.46, 0.0, 0.36)
    cheek = _soft(u.abs() - 0.29, v - 0.18, 0.15, 0.13)
    _paint(view, c.blush, cheek)


def _draw_eyes(canvas: _Canvas) -> None:
    f, c = canvas.f, canvas.colour
    width, height = 0.105 * f.eye_size, 0.088 * f.eye_size
    out = f.eye_spacing + width + 0.03
    view, u, v = canvas.window(-out, out, -0.16, 0.12)
    v = v + 0.015
    each = u - torch.where(u < 0, -f.eye_spacing, f.eye_spacing)  # centred on the nearer eye
    white = canvas.cover(_ellipse(each, v, width, height))
    _paint(view, c.white, white)
    across = each - 0.028 * f.gaze
    distance = torch.hypot(across, v)
    colours = _ramp(
        f.iris.flatten(),
        (0.25, 0.13, 0.07),
        (0.45, 0.27, 0.10),
        (0.25, 0.47, 0.28),
        (0.25, 0.50, 0.75),
    )
    _paint(view, colours, canvas.cover(distance - 0.066 * f.eye_size).mul_(white))
    _paint(view, c.ink, canvas.cover(distance - 0.036 * f.eye_size).mul_(white))
    glint = torch.hypot(across + 0.022, v + 0.026)
    _paint(view, c.white, canvas.cover(glint.sub_(0.02)))
    # The upper lid: the outline of the upper half of the eye.
    lid = _ellipse(each, v, width, height).abs_().sub_(0.013)
    _paint(view, c.ink, canvas.cover(torch.maximum(lid, v + 0.015)).mul_(0.85))


def _draw_brows(canvas: _Canvas) -> None:
    """Two bent bars. They end below the bangs and above the glasses, so both leave them bare."""
    f, c = canvas.f, canvas.colour
    half = _mix(
        0.014 + 0.008 * f.brow_thickness, 0.044 + 0.008 * f.brow_thickness, f.bushy_eyebrows
    )
    length = 0.10 + 0.02 * f.bushy_eyebrows
    height = -0.185 - f.brow_height
    view, u, v = canvas.window(-0.40, 0.40, -0.32, -0.08)
    along = u.abs() - f.eye_spacing
    bend = height - f.brow_angle * along + 1.6 * along.square() - 0.008
    brow = torch.hypot((along.abs() - length).clamp_(min=0), v - bend)
    brow = canvas.cover(brow - half * (1 - 1.5 * along.clamp(0, 0.2)))  # thinner at the outer end
    _paint(view, c.brow, brow)


def _draw_nose(canvas: _Canvas) -> None:
    f, c = canvas.f, canvas.colour
    view, u, v = canvas.window(-0.11, 0.11, -0.06, 0.19)
    _paint(view, c.skin_light, _soft(u + 0.02 * f.light_side, v - 0.06, 0.06, 0.11))
    tip = torch.hypot(u, v - 0.09).sub_(0.055).abs_().sub_(0.015)
    _paint(view, c.skin_shadow * 0.82, canvas.cover(torch.maximum(tip, 0.11 - v)))


MOUTH_V, MOUTH_WIDTH, MOUTH_RISE, MOUTH_LINE = 0.375, 0.245, 0.165, 0.031


def _draw_mouth(canvas: _Canvas) -> None:
    """A parabola whose corners rise with curvature, opened by moving its edges apart.

    The line is v = MOUTH_V + curvature MOUTH_RISE (0.4 - s^2) with s = u / MOUTH_WIDTH in
    [-1, 1]: its middle moves a little and its corners move more, the other way.
    """
    f, c = canvas.f, canvas.colour
    reach = MOUTH_RISE * f.curvature.abs() * 0.7 + 0.05
    out = MOUTH_WIDTH + 0.04
    view, u, v = canvas.window(-out, out, MOUTH_V - reach - 0.05, MOUTH_V + reach + 0.11)
    side = u.abs()
    s = (side / MOUTH_WIDTH).clamp_(max=1)
    slope = s * (f.curvature * (2 * MOUTH_RISE / MOUTH_WIDTH))
    s2 = s.square_()
    line = (0.4 - s2).mul_(f.curvature * MOUTH_RISE).add_(MOUTH_V)
    gap = (1 - s2).mul_(0.062 * f.mouth_slightly_open)  # half the opening
    below = v - line - gap * 0.55  # the lower lip moves more than the upper
    steep = slope.square_().add_(1).rsqrt_()  # from vertical distance to distance
    away = (below.abs() - gap).mul_(steep)
    beyond = (side - MOUTH_WIDTH).clamp_(min=0)
    mouth = torch.hypot(beyond, away.clamp(min=0)).add_(away.clamp(max=0))
    inside = canvas.cover(mouth + 0.008).mul_(f.mouth_slightly_open)
    _paint(view, c.lips, canvas.cover(mouth - MOUTH_LINE))
    _paint(view, c.skin.new_tensor([0.22, 0.03, 0.06]).expand_as(c.lips), inside)
    teeth = canvas.cover(below + gap - 0.044)
    _paint(view, c.white, teeth.mul_(inside))


def _draw_mustache(canvas: _Canvas) -> None:
    """Two drooping wings between nose and mouth."""
    f, c = canvas.f, canvas.colour
    view, u, v = canvas.window(-0.22, 0.22, 0.13, 0.28)
    side = u.abs()
    s2 = (side / 0.19).clamp_(max=1).square_()
    wing = (v - 0.19 - 0.03 * s2).abs_().sub_(0.040 * (1 - 0.7 * s2))
    beyond = (side - 0.19).clamp_(min=0)
    wing = torch.hypot(beyond, wing.clamp(min=0)).add_(wing.clamp(max=0)).sub_(0.008)
    _paint(view, c.brow, canvas.cover(wing).mul_(f.mustache))


def _draw_front_hair(canvas: _Canvas) -> None:
    """The hair over the forehead: down to the hairline, or to just above the brows with bangs."""
    f, c = canvas.f, canvas.colour
    width, height = f.head_width + 0.075, f.head_height + 0.065
    view, u, v = canvas.window(-width, width, -height - 0.02, 0.0)
    parted = u - 0.12 * f.hair_part
    plain = -0.50 + 1.2 * parted.square()
    fringe = -0.305 + 0.25 * u.square() + 0.016 * torch.cos(u * 24 + f.hair_part)
    hairline = torch.lerp(plain, fringe, f.bangs).clamp_(max=-0.12)
    outline = _ellipse(u, v + 0.02, width, height)
    above = (v - hairline).mul_(0.8)
    rim = (above + 0.012).abs_().sub_(0.014)
    shadow = canvas.cover(torch.maximum(above - 0.04, outline + 0.09))
    _paint(view, c.skin_shadow, shadow.mul_(0.6))
    hair = canvas.cover(torch.maximum(outline, above))
    _paint(view, c.hair, hair)
    strands = torch.cos((parted * 46) / (0.55 - v)).clamp_(min=0).mul_(hair).mul_(0.22)
    _paint(view, c.hair_dark, strands)
    _paint(view, c.hair_dark, canvas.cover(rim).mul_(hair).mul_(0.7))
    shine = _soft(u + 0.16 * f.light_side, v + 0.55 - 0.3 * u.square(), 0.34, 0.07)
    _paint(view, c.hair_light, shine.mul_(hair))


def _draw_glasses(canvas: _Canvas) -> None:
    f, c = canvas.f, canvas.colour
    view, u, v = canvas.window(-f.head_width - 0.02, f.head_width + 0.02, -0.19, 0.17)
    v = v + 0.01
    side = u.abs()
    lens = torch.hypot(side - f.eye_spacing, v * 1.05).sub_(0.138)
    frame = lens.abs().sub_(0.02)
    bridge = torch.maximum((v + 0.03).abs_().sub_(0.018), side - (f.eye_spacing - 0.135))
    arm = torch.maximum((v + 0.04).abs_().sub_(0.018), (f.eye_spacing + 0.135) - side)
    arm = torch.maximum(arm, side - f.head_width)
    frame = torch.minimum(torch.minimum(frame, bridge), arm)
    _paint(view, c.white, canvas.cover(lens).mul_(0.16 * f.eyeglasses))
    colours = _ramp(
        f.frame_shade.flatten(), (0.06, 0.06, 0.08), (0.13, 0.14, 0.28), (0.42, 0.10, 0.10)
    )
    _paint(view, colours, canvas.cover(frame).mul_(f.eyeglasses))


def _draw_hat(canvas: _Canvas) -> None:
    """A round hat: crown, band and a brim that leaves the bangs in sight."""
    f, c = canvas.f, canvas.colour
    width = f.head_width + 0.05
    view, u, v = canvas.window(-width, width, -0.93, -0.44)
    crown = _ellipse(u, v + 0.46, width, 0.45)
    crown = canvas.cover(torch.maximum(crown, v + 0.46)).mul_(f.wearing_hat)
    _paint(view, c.hat, crown)
    light = _soft(u + 0.22 * f.light_side, v + 0.74, 0.3, 0.16)
    _paint(view, _mix(c.hat, c.white, 0.35), light.mul_(crown))
    band = canvas.cover((v + 0.56 - 0.08 * u.square()).abs_().sub_(0.05))
    _paint(view, c.hat * 0.5, band.mul_(crown))
    brim = f.head_width + 0.17
    view, u, v = canvas.window(-brim, brim, -0.54, -0.40)
    shape = _box(u, v + 0.47 - 0.06 * u.square(), brim, 0.045, 0.045)
    _paint(view, c.hat * 0.82, canvas.cover(shape).mul_(f.wearing_hat))


GRAIN = 0.010  # standard deviation of the grain
GRAINS = 1 << 16


@lru_cache(maxsize=4)
def _noise(size: int) -> Tensor:
    """A long strip of normal noise; a face's grain is a piece of it."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(size * size + GRAINS, generator=generator).mul_(GRAIN)


def _draw_light(canvas: _Canvas) -> None:
    """Brightness and tint over the whole picture, then grain."""
    f, images = canvas.f, canvas.images
    tint = images.new_tensor([0.03, 0.0, -0.03])
    light = f.light.flatten()[:, None] * (1 + f.light_tint.flatten()[:, None] * tint)  # (B, 3)
    images.mul_(light[:, :, None, None])
    noise = _noise(canvas.size).to(images.device)
    start = (f.grain.flatten() * (GRAINS - 1)).long()
    grain = torch.stack([noise[s : s + canvas.size**2] for s in start.tolist()])
    images.add_(grain.view(-1, 1, canvas.size, canvas.size)).clamp_(0, 1)
