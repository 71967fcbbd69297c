"""Figures: pictures, curves and sliders that carry their own alt text and caption.

Every function here returns a ``Figure``: a piece of HTML with its picture inside, so that it looks
the same in the built book, in Colab and in a file opened from disk, and asks nothing of any other
host. ``alt`` says what the picture shows and what follows from it, for readers who do not see it;
``caption`` states the finding for everyone. Both are required, because a figure without a finding
is decoration.

Pictures are float tensors in [0, 1] or uint8 tensors, B x C x H x W with one (grey) or three
channels. Curves are drawn with matplotlib's object interface: no global setting is changed.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike
from PIL import Image
from torch import Tensor

from lscgan.data import Description, LabelledImages
from lscgan.data import describe as describe_data
from lscgan.files import replacing

# Okabe and Ito's palette: these differ for every common form of colour blindness. Lines also
# differ in dash and marker, because a printout has no colour at all.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)), (0, (8, 2, 2, 2)), (0, (1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK = "#1a1a1a"

_WEBP_QUALITY = 90
_LONGEST_SIDE = 16383  # pixels: the limit of WebP, and about what a phone can decode
_SVG_LARGEST = 60_000  # bytes; a plot with more strokes than that is smaller as pixels
_CSS_PIXELS_PER_INCH = 96

# Each figure brings its style along. A figure is a white card in dark pages too: its colours are
# data, and a page that dims or inverts them changes what they say.
_STYLE = """<style>
.lscgan-figure{box-sizing:border-box;width:fit-content;max-width:100%;margin:1rem 0;padding:.75rem;
border-radius:.4rem;background:#fff;color:#1a1a1a;color-scheme:light;
font-family:system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
font-size:.9375rem;line-height:1.45}
.lscgan-figure .lscgan-frame{display:grid;max-width:100%}
.lscgan-figure img{grid-area:2/2;display:block;width:100%;max-width:100%;height:auto;margin:0;
padding:0!important;border-radius:0!important;background:none!important;filter:none!important}
.lscgan-figure .lscgan-rows,.lscgan-figure .lscgan-columns{display:grid;font-size:.8125rem;
line-height:1.15;overflow-wrap:anywhere}
.lscgan-figure .lscgan-rows{grid-area:2/1;grid-auto-rows:minmax(0,1fr);align-items:center;
height:0;min-height:100%;padding-right:.5rem;text-align:right}
.lscgan-figure .lscgan-columns{grid-area:1/2;grid-auto-flow:column;grid-auto-columns:minmax(0,1fr);
align-items:end;padding-bottom:.3rem;text-align:center}
.lscgan-figure figcaption{max-width:46rem;margin:.6rem 0 0;padding:0;color:#333;text-align:left;
font:inherit}
.lscgan-strip label{display:block;margin:.6rem 0 0;font-weight:600}
.lscgan-strip output{padding:0;font-weight:700;font-variant-numeric:tabular-nums;color:#0072b2}
.lscgan-strip .lscgan-track{display:flex;align-items:center;gap:.6rem;font-weight:400;
font-size:.8125rem;font-variant-numeric:tabular-nums}
.lscgan-strip input{flex:1;min-width:0;height:2.25rem;margin:0;accent-color:#0072b2;cursor:pointer}
.lscgan-strip input:focus-visible{outline:3px solid #d55e00;outline-offset:1px;border-radius:.3rem}
.lscgan-strip .lscgan-rows{display:none}
</style>"""

# Without scripts the slider can do nothing: show all frames below one another, labelled, instead.
# Later figures on a page repeat the style above, so that these rules must be more specific to win.
_NO_SCRIPT = """<noscript><style>
.lscgan-figure.lscgan-strip label{display:none}
.lscgan-figure.lscgan-strip .lscgan-rows{display:grid}
.lscgan-figure.lscgan-strip img{aspect-ratio:auto!important;object-fit:fill!important}
</style></noscript>"""

# The whole behaviour of a film strip. It stands in the slider's own attribute, so that it needs no
# id, no other script and no order of loading, and works however often a strip is on a page.
_SHOW_FRAME = (
    "const frames=JSON.parse(this.dataset.frames),k=Number(this.value),"
    "figure=this.closest('figure'),picture=figure.querySelector('img');"
    "picture.style.objectPosition='0 '+100*k/(frames.length-1)+'%';"
    "picture.alt=frames[k].alt;"
    "figure.querySelector('output').textContent=frames[k].label;"
    "this.setAttribute('aria-valuetext',frames[k].spoken)"
)


@dataclass(frozen=True, repr=False)
class Figure:
    """A finished figure. Let a notebook cell end in it, and it shows itself.

    ``html`` is the whole figure, ``picture`` the encoded picture inside it and ``format`` its kind
    ("webp", "png" or "svg").
    """

    html: str
    alt: str
    caption: str
    picture: bytes
    format: str

    def __repr__(self) -> str:
        return f"Figure({self.alt!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": repr(self)}

    def save(self, path: str | Path) -> None:
        """Write the picture alone, without labels in HTML or caption.

        A drawing (svg) is written as .svg only, pixels as .png or .webp.

        Raises:
            ValueError: the path ends otherwise.
            OSError: the folder cannot be written.
        """
        target = Path(path)
        wanted = target.suffix.removeprefix(".").lower()
        known = ("svg",) if self.format == "svg" else ("png", "webp")
        if wanted not in known:
            endings = " or ".join(f".{ending}" for ending in known)
            raise ValueError(f"This figure can be saved as {endings}, not as {target.name!r}.")
        with replacing(target) as temporary:
            if wanted == self.format:
                temporary.write_bytes(self.picture)
            else:
                with Image.open(io.BytesIO(self.picture)) as picture:
                    picture.save(temporary, format=wanted, quality=_WEBP_QUALITY)


# --- pictures -------------------------------------------------------------------------------------


def grid(
    images: Tensor,
    *,
    alt: str,
    caption: str,
    columns: int | None = None,
    row_labels: Sequence[str] | None = None,
    column_labels: Sequence[str] | None = None,
    scale: int | None = None,
) -> Figure:
    """Lay images out in rows, left to right and top to bottom.

    ``images`` is B x C x H x W. ``columns`` follows from the labels where they are given, else it
    is at most 8. With row labels the images must fill every row. ``scale`` is the number of stored
    pixels a side of one image pixel; by default it is large enough to stay sharp on the page.

    Raises:
        ValueError: the images have another shape or range, or the labels do not fit them.
    """
    pixels = _pixels(images)
    count = len(pixels)
    if columns is None:
        if column_labels is not None:
            columns = len(column_labels)
        elif row_labels is not None:
            columns = -(-count // max(len(row_labels), 1))
        else:
            columns = min(count, 8)
    if columns < 1:
        raise ValueError(f"A grid needs at least one column, not {columns}.")
    rows = -(-count // columns)
    _check_labels("row", row_labels, rows, f"{count} images in {columns} columns make {rows} rows")
    _check_labels("column", column_labels, columns, f"the grid has {columns} columns")
    if row_labels is not None and count != rows * columns:
        raise ValueError(f"{count} images do not fill {rows} labelled rows of {columns} columns.")

    stored, shown = _scale(columns, pixels.shape[3], scale)
    picture, kind, (width, height) = _encode(_mosaic(pixels, columns, stored))
    image = _image(picture, kind, alt, shown, round(shown * height / width))
    body = _frame(image, shown, row_labels, column_labels)
    return _finish(body, alt, caption, picture, kind)


def film_strip(
    frames: Sequence[Tensor] | Tensor,
    labels: Sequence[str],
    *,
    name: str,
    alt: str,
    frame_alts: Sequence[str],
    caption: str,
    value_text: Sequence[str] | None = None,
    start: int | None = None,
    columns: int | None = None,
    column_labels: Sequence[str] | None = None,
) -> Figure:
    """Frames behind a slider that works without a kernel, by mouse, touch and keyboard.

    Each of the F frames is one image (C x H x W) or a grid of them (B x C x H x W, laid out in
    ``columns``, by default in one row); all frames have the same shape. ``labels`` holds the F
    values shown beside the slider's ``name``, ``value_text`` what a screen reader says in their
    place, and ``frame_alts`` the alt text of each frame; ``alt`` describes the whole strip.
    ``start`` is the frame shown first, by default the middle one. Where scripts are off, all
    frames show, labelled.

    Raises:
        ValueError: there are fewer than two frames, or they or the texts do not match.
    """
    sheets = [
        _pixels(frame[None] if isinstance(frame, Tensor) and frame.ndim == 3 else frame)
        for frame in frames
    ]
    count = len(sheets)
    if count < 2:
        raise ValueError(f"A film strip needs at least two frames, not {count}.")
    if any(sheet.shape != sheets[0].shape for sheet in sheets):
        shapes = sorted({str(tuple(sheet.shape)) for sheet in sheets})
        raise ValueError(f"All frames must have one shape; these have {', '.join(shapes)}.")
    spoken = labels if value_text is None else value_text
    for what, texts in (("labels", labels), ("frame_alts", frame_alts), ("value_text", spoken)):
        if isinstance(texts, str) or len(texts) != count:
            raise ValueError(f"{what} must hold one text for each of the {count} frames.")
        for text in texts:
            _require_text(f"every text in {what}", text)
    _require_text("name", name)
    if start is None:
        start = count // 2
    if not 0 <= start < count:
        raise ValueError(f"start must be a frame from 0 to {count - 1}, not {start}.")
    if columns is None:
        columns = len(sheets[0])
    if columns < 1:
        raise ValueError(f"A frame needs at least one column, not {columns}.")
    _check_labels("column", column_labels, columns, f"each frame has {columns} columns")

    # One picture holds all frames, below one another; the slider moves it behind a window that is
    # one frame high.
    scale, shown = _scale(columns, sheets[0].shape[3], None)
    tallest = count * -(-len(sheets[0]) // columns) * (sheets[0].shape[2] + 2)
    if tallest > _LONGEST_SIDE:
        raise ValueError(f"{count} frames of this size are too many for one strip; show fewer.")
    scale = min(scale, _LONGEST_SIDE // tallest)
    mosaics = [_mosaic(sheet, columns, scale) for sheet in sheets]
    picture, kind, (width, height) = _encode(np.concatenate(mosaics))
    window = height // count
    style = (
        f"aspect-ratio:{width}/{window};object-fit:cover;"
        f"object-position:0 {100 * start / (count - 1):g}%"
    )
    image = _image(picture, kind, frame_alts[start], shown, round(shown * window / width), style)
    data = [
        {"label": label, "spoken": said, "alt": text}
        for label, said, text in zip(labels, spoken, frame_alts, strict=True)
    ]
    first, last = html.escape(labels[0]), html.escape(labels[-1])
    slider = (
        f"<label>{html.escape(name)}: "
        f'<output aria-live="off">{html.escape(labels[start])}</output>'
        f'<span class="lscgan-track"><span aria-hidden="true">{first}</span>'
        f'<input type="range" min="0" max="{count - 1}" step="1" value="{start}" '
        f'autocomplete="off" aria-label="{html.escape(name)}" '
        f'aria-valuetext="{html.escape(spoken[start])}" '
        f'data-frames="{html.escape(json.dumps(data, ensure_ascii=False))}" '
        f'oninput="{html.escape(_SHOW_FRAME)}">'
        f'<span aria-hidden="true">{last}</span></span></label>'
    )
    body = _frame(image, shown, labels, column_labels) + slider + _NO_SCRIPT
    return _finish(body, alt, caption, picture, kind, strip=True)


def contact_sheet(images: Tensor, path: str | Path, columns: int = 8) -> None:
    """Write images (B x C x H x W) as one PNG, pixel for pixel, with a white pixel around each.

    The file appears whole or not at all: a reader never sees half a sheet.

    Raises:
        ValueError: the images have another shape or range.
        OSError: the folder cannot be written; an older sheet is kept.
    """
    pixels = _pixels(images)
    if columns < 1:
        raise ValueError(f"A contact sheet needs at least one column, not {columns}.")
    sheet = _mosaic(pixels, min(columns, len(pixels)), 1)
    with replacing(path) as temporary:
        _picture(sheet).save(temporary, format="PNG")


# --- drawings -------------------------------------------------------------------------------------


def plot(
    drawing: Callable[..., object] | Canvas,
    *,
    alt: str,
    caption: str,
    size: tuple[float, float] = (5.0, 3.4),
    rows: int = 1,
    columns: int = 1,
) -> Figure:
    """Turn a drawing into a figure in the book's style.

    ``drawing`` is a function that receives rows x columns matplotlib Axes, one argument each, and
    draws on them; or a finished matplotlib Figure, which is emptied afterwards. ``size`` is in
    inches: letters are 11 points high and stay legible on a phone up to a width of about 5.
    """
    if isinstance(drawing, Canvas):
        with _style():
            return _figure_of(drawing, alt, caption)
    with _style():
        canvas = Canvas(figsize=size, layout="constrained")
        axes = canvas.subplots(rows, columns, squeeze=False)
        drawing(*axes.flat)
        return _figure_of(canvas, alt, caption)


def curve(
    x: ArrayLike,
    series: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    alt: str,
    caption: str,
    references: Mapping[str, float] | None = None,
    ylim: tuple[float, float] | None = None,
    xscale: str = "linear",
    size: tuple[float, float] = (5.0, 3.6),
) -> Figure:
    """Lines over one x, each with its interval as a band: dose-response curves and sweeps.

    ``series`` maps a name to its y values (n,), or to the triple (y, low, high) of such arrays.
    ``references`` maps a name to the height of a dashed horizontal line.

    Raises:
        ValueError: values are not finite, do not match x, or leave their interval.
    """
    at = _finite("x", x, 1)
    if not series:
        raise ValueError("A curve needs at least one series.")
    if len(series) > len(COLOURS):
        raise ValueError(f"At most {len(COLOURS)} series stay apart in one plot; split the plot.")
    bands = {name: _band(name, values, len(at)) for name, values in series.items()}
    if references:
        _finite("references", list(references.values()), 1)

    def draw(axes: Axes) -> None:
        for k, (label, (middle, low, high)) in enumerate(bands.items()):
            axes.plot(
                at,
                middle,
                color=COLOURS[k],
                linestyle=_DASHES[k],
                marker=_MARKERS[k] if len(at) <= 25 else None,
                label=label,
            )
            if low is not None and high is not None:
                axes.fill_between(at, low, high, color=COLOURS[k], alpha=0.2, linewidth=0)
        for label, height in (references or {}).items():
            _reference(axes, label, height)
        axes.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale)
        if xscale == "log":
            log_ticks(axes)
        if ylim is not None:
            axes.set_ylim(*ylim)
        if len(bands) > 1:
            columns = 2 if max(map(len, bands)) <= 22 else 1
            _canvas(axes).legend(loc="outside upper left", ncols=columns)

    return plot(draw, alt=alt, caption=caption, size=size)


def bars(
    values: Mapping[str, Any],
    *,
    xlabel: str,
    alt: str,
    caption: str,
    target: tuple[str, float] | None = None,
    limits: tuple[float, float] | None = None,
    digits: int = 2,
) -> Figure:
    """Horizontal bars from zero, the first on top, with whiskers for their intervals.

    ``values`` maps a name to a number, or to the triple (value, low, high). ``target`` is the name
    and the value of a dashed vertical line. Each value is also written out, to ``digits`` places.
    With ``limits`` that leave out zero, points are drawn: the length of a cut bar would mislead.

    Raises:
        ValueError: values are not finite, leave their interval, or leave the limits.
    """
    if not values:
        raise ValueError("A bar chart needs at least one value.")
    triples = [
        _band(name, np.asarray(value, dtype=float)[..., None], 1) for name, value in values.items()
    ]
    if target is not None:
        _finite("target", [target[1]], 1)
    if limits is not None:
        for name, triple in zip(values, triples, strict=True):
            if any(part is not None and not limits[0] <= part[0] <= limits[1] for part in triple):
                raise ValueError(f"{name!r} or its interval leaves the limits {limits}.")
    from_zero = limits is None or limits[0] <= 0 <= limits[1]

    def draw(axes: Axes) -> None:
        for k, (middle, low, high) in enumerate(triples):
            if from_zero:
                axes.barh(k, middle, 0.62, color=COLOURS[5], edgecolor=COLOURS[0], linewidth=0.8)
            else:
                axes.plot(middle, k, color=COLOURS[0], marker="o", markersize=7, clip_on=False)
            if low is not None and high is not None:
                ends = [low[0], high[0]]
                axes.plot(ends, [k, k], color=_INK, lw=1.6, marker="|", ms=7, clip_on=False)
            text = f"{middle[0]:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            axes.text(1.04, k, text, transform=axes.get_yaxis_transform(), va="center")
        if target is not None:
            axes.axvline(target[1], color=COLOURS[1], linestyle="--", linewidth=1.6)
            axes.annotate(
                target[0],
                (target[1], 1.0),
                xycoords=axes.get_xaxis_transform(),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color="#a64500",
            )
        if from_zero:
            axes.axvline(0, color=_INK, linewidth=0.8)
        axes.set(xlabel=xlabel, yticks=range(len(triples)), yticklabels=list(values))
        axes.set_ylim(len(triples) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        if limits is not None:
            axes.set_xlim(*limits)

    return plot(draw, alt=alt, caption=caption, size=(5.0, 0.95 + 0.31 * len(triples)))


def learning_curves(
    metrics: Sequence[Mapping[str, Any]],
    keys: Mapping[str, str],
    *,
    alt: str,
    caption: str,
    x: str = "images",
    xlabel: str = "images seen in training",
) -> Figure:
    """One panel a metric, below one another, over the images seen: ``RunFolder.metrics()``.

    ``keys`` maps a metric to the label of its axis, with the unit. A row that lacks a metric is
    left out of its panel.

    Raises:
        ValueError: no row has the metric (the message names those there are), or values are not
            finite.
    """
    if not keys:
        raise ValueError("Name at least one metric to draw.")
    panels = []
    for key in keys:
        rows = [row for row in metrics if key in row and x in row]
        if not rows:
            known = sorted({name for row in metrics for name in row})
            raise ValueError(f"No row has both {x!r} and {key!r}; the metrics hold {known}.")
        at = _finite(x, [row[x] for row in rows], 1)
        panels.append((at, _finite(key, [row[key] for row in rows], 1)))

    def draw(*axes: Axes) -> None:
        for k, (panel, (at, heights), label) in enumerate(
            zip(axes, panels, keys.values(), strict=True)
        ):
            panel.plot(at, heights, color=COLOURS[k % len(COLOURS)])
            panel.set(ylabel=label, xlim=(0, max(at[-1] for at, _ in panels)))
            panel.tick_params(labelbottom=k == len(panels) - 1)
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
            panel.locator_params(axis="both", nbins=5)
        axes[-1].set_xlabel(xlabel)
        _canvas(axes[0]).align_ylabels(axes)

    size = (5.0, 0.7 + 1.55 * len(panels))
    return plot(draw, alt=alt, caption=caption, size=size, rows=len(panels))


def heatmap(
    values: ArrayLike,
    *,
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    xlabel: str,
    ylabel: str,
    alt: str,
    caption: str,
    digits: int = 2,
) -> Figure:
    """A small matrix (rows, columns) as coloured cells with their numbers written in them.

    Colour runs from white at 0 to purple above and orange below, so that the sign is plain.

    Raises:
        ValueError: values are not finite, or the labels do not match the matrix.
    """
    matrix = _finite("values", values, 2)
    _check_labels("row", row_labels, matrix.shape[0], f"the matrix has {matrix.shape[0]} rows")
    _check_labels(
        "column", column_labels, matrix.shape[1], f"the matrix has {matrix.shape[1]} columns"
    )
    largest = float(np.abs(matrix).max()) or 1.0

    def draw(axes: Axes) -> None:
        axes.imshow(matrix, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto")
        for (i, j), value in np.ndenumerate(matrix):
            text = f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")
            dark = abs(value) > 0.6 * largest
            axes.text(j, i, text, ha="center", va="center", color="white" if dark else _INK)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.set_yticks(range(len(row_labels)), list(row_labels))
        axes.set_xticks(range(len(column_labels)), list(column_labels), rotation=45, ha="right")
        axes.tick_params(length=0)
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)

    height = 1.6 + 0.34 * matrix.shape[0]
    return plot(draw, alt=alt, caption=caption, size=(1.7 + 0.55 * matrix.shape[1], height))


# --- a data set -----------------------------------------------------------------------------------


def describe(data: LabelledImages) -> Figure:
    """A data set before training: some pictures, the balance of its labels, what goes together.

    The numbers are those of :func:`lscgan.data.describe`, which also says in words what may go
    wrong. For example::

        photos = lscgan.data.load("folder", root="photos")
        print(lscgan.data.describe(photos))
        lscgan.figures.describe(photos)

    Sixteen pictures are drawn from evenly spaced rows. Of more than 40 labels the first 40 are
    drawn, of more than 40 classes the 40 largest.

    Raises:
        ValueError: there is no image.
    """
    found = describe_data(data)
    rows = torch.linspace(0, max(len(data) - 1, 0), min(_SHOWN, len(data))).long()
    pixels = _pixels(data.images[rows])
    mosaic = _mosaic(pixels, min(_SHOWN // 2, len(pixels)), 1)
    if found.classes:
        largest = sorted(found.classes.items(), key=lambda pair: -pair[1])[:_MOST]
        drawn = [name for name in found.classes if name in dict(largest)]
        alt, caption = _words_of_classes(found)
    else:
        drawn = list(found.names[:_MOST])
        alt, caption = _words_of_attributes(found, data.labels)
    pitch = float(np.clip(6.4 / max(len(drawn), 1), 0.17, 0.32))  # inches a row
    square = not found.classes and len(drawn) > 1  # else there is nothing to correlate
    matrix = max(pitch * len(drawn) * 0.7, 1.4) if square else 0.0
    width = 1.6 + 2.0 + (matrix + 0.5 if square else 1.4)
    sheet = width * mosaic.shape[0] / mosaic.shape[1]
    heights = [sheet, pitch * len(drawn)] if drawn else [sheet]
    names = 1.1 if square else 0.4  # the room below the bars
    with _style():
        canvas = Canvas(figsize=(width, sum(heights) + (0.3 + names) * bool(drawn)))
        canvas.set_layout_engine("constrained")
        sizes = [2.0, matrix] if square else [1.0]
        cells = canvas.add_gridspec(
            len(heights), len(sizes), height_ratios=heights, width_ratios=sizes
        )
        axes = canvas.add_subplot(cells[0, :])
        axes.imshow(_picture(mosaic), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_axis_off()
        letters = min(10.0, 0.72 * 72 * pitch)
        if found.classes:
            _balance_of_classes(canvas.add_subplot(cells[1, 0]), found, drawn, letters)
        elif drawn:
            _balance(canvas.add_subplot(cells[1, 0]), found, data.labels, len(drawn), letters)
        if square:
            correlations = found.correlations[: len(drawn), : len(drawn)]
            _correlations(canvas.add_subplot(cells[1, 1]), correlations, drawn, letters)
        return _figure_of(canvas, alt, caption)


_SHOWN = 16  # pictures
_MOST = 40  # labels or classes
_NUMBERED = 10  # labels, up to which each correlation is written in its cell


def _balance(axes: Axes, found: Description, labels: Tensor, count: int, letters: float) -> None:
    """One bar an attribute: the images with it, without it, and those of which it is not known."""
    parts = {"with": (COLOURS[0], ""), "without": ("#bfdcec", ""), "some amount": (COLOURS[2], "")}
    parts["unknown"] = ("white", "////")
    shown = dict.fromkeys(parts, False)
    for k in range(count):
        known, mean = found.known[k] / found.count, found.means[k]
        if not _binary(labels[:, k]):
            low, high = found.ranges[k]
            shares, text = (0.0, 0.0, known), f"{low:.3g} to {high:.3g}"
        elif found.known[k]:
            shares, text = (known * mean, known * (1 - mean), 0.0), _share(mean)
        else:
            shares, text = (0.0, 0.0, 0.0), "unknown"
        start = 0.0
        for (part, look), share in zip(parts.items(), (*shares, 1 - known), strict=True):
            if share > 0:
                colour, hatch = look
                axes.barh(k, share, 0.72, start, color=colour, hatch=hatch, edgecolor="#767676",
                          linewidth=0.5, label=None if shown[part] else part)  # fmt: skip
                shown[part], start = True, start + share
        axes.text(1.03, k, text.replace("-", "\N{MINUS SIGN}"), va="center", fontsize=letters)
    axes.set(xlim=(0, 1), xlabel="share of images", xticks=[0, 0.5, 1])
    _rows_named(axes, found.names[:count], letters)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, fontsize=9, handlelength=1.2,
        columnspacing=1.0, borderpad=0.2,
    )  # fmt: skip


def _balance_of_classes(
    axes: Axes, found: Description, drawn: Sequence[str], letters: float
) -> None:
    counts = [found.classes[name] for name in drawn]
    axes.barh(range(len(drawn)), counts, 0.72, color=COLOURS[5], edgecolor=COLOURS[0], lw=0.8)
    for k, count in enumerate(counts):
        text = f"{count:,}  ({_share(count / max(sum(found.classes.values()), 1))})"
        axes.text(1.03, k, text, transform=axes.get_yaxis_transform(), va="center", size=letters)
    axes.set_xlabel("images")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.locator_params(axis="x", nbins=5)
    _rows_named(axes, drawn, letters)


def _correlations(axes: Axes, matrix: np.ndarray, names: Sequence[str], letters: float) -> None:
    image = axes.imshow(matrix, cmap="PuOr", vmin=-1, vmax=1, aspect="auto")
    axes.set_facecolor("#e3e3e3")  # where there is no correlation
    if len(names) <= _NUMBERED:
        for (i, j), value in np.ndenumerate(matrix):
            text = "" if np.isnan(value) else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
            colour = "white" if abs(value) > 0.6 else _INK
            axes.text(j, i, text.replace("0.", "."), ha="center", va="center", color=colour, size=7)
    axes.set_xticks(range(len(names)), list(names), rotation=90, fontsize=0.9 * letters)
    axes.set_yticks(range(len(names)), [""] * len(names))  # named at the bars, row by row
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    bar = _canvas(axes).colorbar(
        image, ax=axes, location="top", aspect=30, pad=0.01, ticks=[-1, 0, 1]
    )
    bar.set_label("correlation", size=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _binary(column: Tensor) -> bool:
    return bool(((column == 0) | (column == 1) | column.isnan()).all())


def _rows_named(axes: Axes, names: Sequence[str], letters: float) -> None:
    axes.set_yticks(range(len(names)), list(names), fontsize=letters)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def _share(share: float) -> str:
    return f"{share:.1%}" if 0 < share < 0.01 or 0.99 < share < 1 else f"{share:.0%}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


def _words_of_attributes(found: Description, labels: Tensor) -> tuple[str, str]:
    """Alt text and caption for labels that are attributes or amounts."""
    alt = [f"A sheet of {_counted(min(_SHOWN, found.count), 'picture')}."]
    said = [f"{_counted(found.count, 'image')} with {_counted(len(found.names), 'label')}."]
    binary = [
        (mean, name)
        for name, mean, column in zip(found.names, found.means, labels.T, strict=True)
        if _binary(column) and not np.isnan(mean)
    ]
    if binary:
        rare, common = min(binary), max(binary)
        alt.append(
            f"Below it one bar a label, of the images that have it: the shortest is {rare[1]} with "
            f"{_share(rare[0])}, the longest {common[1]} with {_share(common[0])}."
        )
        share, name = max(binary, key=lambda pair: abs(pair[0] - 0.5))
        known = found.known[found.names.index(name)]
        whom = "the images" if known == found.count else "those known"
        said.append(f"The least balanced is {name}: {_share(share)} of {whom} have it.")
    missing, name = max(
        ((found.count - known, name) for known, name in zip(found.known, found.names, strict=True)),
        default=(0, ""),
    )
    if missing:
        said.append(f"{name} is unknown most often, for {missing:,} images.")
    for a, b, value in found.strongest(1):
        number = f"{value:+.2f}".replace("-", "\N{MINUS SIGN}")
        alt.append(f"Beside the bars a matrix of correlations; the strongest is {number}.")
        said.append(f"{a} and {b} correlate most, at {number}.")
    if found.warnings:
        said.append(f"data.describe warns of {_counted(len(found.warnings), 'thing')}.")
    return " ".join(alt), " ".join(said)


def _words_of_classes(found: Description) -> tuple[str, str]:
    most, least = (pick(found.classes.items(), key=lambda pair: pair[1]) for pick in (max, min))
    span = (
        f"each with {_counted(most[1], 'image')}"
        if most[1] == least[1]
        else f"from {least[0]} with {_counted(least[1], 'image')} to {most[0]} with {most[1]:,}"
    )
    unknown = found.count - sum(found.classes.values())
    rest = f" The class of {unknown:,} is unknown." if unknown else ""
    alt = (
        f"A sheet of {_counted(min(_SHOWN, found.count), 'picture')}, and one bar a class: {span}."
    )
    return alt, f"{_counted(found.count, 'image')} in {len(found.classes)} classes, {span}.{rest}"


# --- the parts ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _style() -> Iterator[None]:
    """The look of every drawing, for as long as it is drawn and written."""
    settings: Any = {
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters everywhere
        "font.size": 11,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "legend.handlelength": 3.2,
        "axes.edgecolor": "#767676",
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#e3e3e3",
        "grid.linewidth": 0.8,
        "lines.linewidth": 2.0,
        "lines.markersize": 5.5,
        "axes.prop_cycle": f"cycler('color', {list(COLOURS)})",
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
        "svg.hashsalt": "lscgan",  # names inside the drawing depend on its content alone
        "svg.fonttype": "path",  # letters as shapes: a reader's fonts cannot move them
    }
    with matplotlib.rc_context(settings):
        yield


def _figure_of(canvas: Canvas, alt: str, caption: str) -> Figure:
    """Write a matplotlib figure as SVG, or as pixels where that is smaller, and empty it."""
    buffer = io.BytesIO()
    canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    picture, kind = _compact_svg(buffer.getvalue()), "svg"
    if len(picture) > _SVG_LARGEST:
        buffer = io.BytesIO()
        canvas.savefig(buffer, format="png", dpi=2 * _CSS_PIXELS_PER_INCH)
        with Image.open(buffer) as drawn:
            picture, kind, _ = _encode(np.asarray(drawn.convert("RGB")))
    width, height = (round(_CSS_PIXELS_PER_INCH * 1.2 * inches) for inches in _size_of(canvas))
    canvas.clear()
    if "matplotlib.pyplot" in sys.modules:  # a figure made there would be shown a second time
        sys.modules["matplotlib.pyplot"].close(canvas)
    body = _frame(_image(picture, kind, alt, width, height), width, None, None)
    return _finish(body, alt, caption, picture, kind)


def _size_of(canvas: Canvas) -> tuple[float, float]:
    width, height = canvas.get_size_inches()
    return float(width), float(height)


def _compact_svg(drawn: bytes) -> bytes:
    """Drop what matplotlib writes around a drawing and no browser needs."""
    text = drawn.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    return re.sub(r"\s*\n\s*", "\n", text).strip().encode()


def _canvas(axes: Axes) -> Canvas:
    canvas = axes.get_figure()
    assert isinstance(canvas, Canvas)  # axes are made by `plot`, on its canvas
    return canvas


def log_ticks(axes: Axes) -> None:
    """Name enough numbers on a logarithmic x axis: powers of ten alone may be one, or none."""
    left, right = axes.get_xlim()
    span = right / left
    if span < 300:
        named = range(1, 10) if span < 3 else (1, 1.5, 2, 3, 5, 7) if span < 10 else (1, 2, 5)
        axes.xaxis.set_major_locator(LogLocator(subs=named))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())


def _reference(axes: Axes, label: str, height: float) -> None:
    axes.axhline(height, color="#595959", linestyle=(0, (4, 3)), linewidth=1.3, zorder=1.5)
    axes.annotate(
        label,
        (1.0, height),
        xycoords=axes.get_yaxis_transform(),
        xytext=(-2, 3),
        textcoords="offset points",
        ha="right",
        color="#4d4d4d",
        fontsize=9.5,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
    )


def _pixels(images: Tensor) -> np.ndarray:
    """Checked images as uint8 (B, C, H, W)."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"Images must be a tensor B x C x H x W with C = 1 or 3, not {found}.")
    if images.numel() == 0:
        raise ValueError(f"There is nothing to show: the images have shape {tuple(images.shape)}.")
    images = images.detach().cpu()
    if images.dtype == torch.uint8:
        return images.numpy()
    if not images.is_floating_point():
        raise ValueError(f"Images must be uint8 or float in [0, 1], not {images.dtype}.")
    images = images.float()
    if not bool(torch.isfinite(images).all()):
        raise ValueError("The images hold values that are not finite.")
    low, high = float(images.min()), float(images.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise ValueError(
            f"Float images must lie in [0, 1]; these run from {low:.3g} to {high:.3g}."
        )
    return (images.clamp(0, 1) * 255).round().to(torch.uint8).numpy()


def _scale(columns: int, width: int, scale: int | None) -> tuple[int, int]:
    """Stored pixels a side of one image pixel, and the width in CSS pixels a grid is shown at."""
    # A lone picture is shown small, and a row of them fills a text column (about 760 pixels).
    natural = columns * (width + 2)
    shown = min(760, 96 + 144 * columns)
    if scale is None:
        # Even, because WebP keeps one colour for each 2 x 2 pixels: so no image pixel shares it.
        scale = max(2 * -(-shown // (2 * natural)), 2)
    if scale < 1:
        raise ValueError(f"scale must be at least 1, not {scale}.")
    return scale, min(shown, natural * scale)


def _mosaic(pixels: np.ndarray, columns: int, scale: int) -> np.ndarray:
    """Images (B, C, H, W) side by side as (rows * (H + 2) * scale, columns * (W + 2) * scale, C).

    Every image has a white border one image pixel wide, so that all columns are equally wide and
    labels beside the picture can be placed by dividing its side.
    """
    count, channels, height, width = pixels.shape
    rows = -(-count // columns)
    cells = np.full((rows * columns, channels, height + 2, width + 2), 255, dtype=np.uint8)
    cells[:count, :, 1:-1, 1:-1] = pixels
    sheet = cells.reshape(rows, columns, channels, height + 2, width + 2)
    sheet = sheet.transpose(0, 3, 1, 4, 2)  # (rows, H + 2, columns, W + 2, C)
    sheet = sheet.reshape(rows * (height + 2), columns * (width + 2), channels)
    return sheet.repeat(scale, axis=0).repeat(scale, axis=1)


def _picture(array: np.ndarray) -> Image.Image:
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _encode(array: np.ndarray) -> tuple[bytes, str, tuple[int, int]]:
    """Pixels (H, W, C) as PNG or WebP, whichever is smaller, its name, and (width, height)."""
    picture = _picture(array)
    png = io.BytesIO()
    picture.save(png, format="PNG", optimize=True)
    best, kind = png.getvalue(), "png"
    if max(picture.size) <= _LONGEST_SIDE:
        webp = io.BytesIO()
        picture.convert("RGB").save(webp, format="WEBP", quality=_WEBP_QUALITY, method=6)
        if len(webp.getvalue()) < len(best):
            best, kind = webp.getvalue(), "webp"
    return best, kind, picture.size


def _image(
    picture: bytes, kind: str, alt: str, width: int, height: int, style: str | None = None
) -> str:
    media = "svg+xml" if kind == "svg" else kind
    data = base64.b64encode(picture).decode()
    look = "" if style is None else f'style="{style}" '
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" decoding="async" {look}'
        f'src="data:image/{media};base64,{data}">'
    )


def _frame(
    image: str,
    width: int,
    row_labels: Sequence[str] | None,
    column_labels: Sequence[str] | None,
) -> str:
    """The picture, ``width`` CSS pixels wide where there is room, with its labels around it."""
    parts = []
    for kind, labels in (("columns", column_labels), ("rows", row_labels)):
        if labels is not None:
            # A name such as Mouth_Slightly_Open may break after its underscores.
            cells = "".join(
                f"<span>{html.escape(label).replace('_', '_<wbr>')}</span>" for label in labels
            )
            parts.append(f'<div class="lscgan-{kind}">{cells}</div>')
    template = f"fit-content(6.5rem) minmax(0,{width}px)"
    return (
        f'<div class="lscgan-frame" style="grid-template-columns:{template}">'
        f"{''.join(parts)}{image}</div>"
    )


def _finish(
    body: str, alt: str, caption: str, picture: bytes, kind: str, *, strip: bool = False
) -> Figure:
    _require_text("alt", alt)
    _require_text("caption", caption)
    opening = (
        f'<figure class="lscgan-figure lscgan-strip" aria-label="{html.escape(alt)}">'
        if strip
        else '<figure class="lscgan-figure">'
    )
    content = f"{_STYLE}{opening}{body}<figcaption>{html.escape(caption)}</figcaption></figure>"
    return Figure(html=content, alt=alt, caption=caption, picture=picture, format=kind)


def _require_text(what: str, text: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"A figure needs words: {what} must be a text that is not empty.")


def _check_labels(what: str, labels: Sequence[str] | None, count: int, because: str) -> None:
    if labels is None:
        return
    if isinstance(labels, str) or len(labels) != count:
        given = "one text" if isinstance(labels, str) else str(len(labels))
        raise ValueError(f"{count} {what} labels are needed, because {because}; given: {given}.")


def _finite(what: str, values: ArrayLike, dimensions: int) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    if array.ndim != dimensions or array.size == 0:
        raise ValueError(
            f"{what} must be a non-empty array with {dimensions} dimension(s), "
            f"not of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise ValueError(f"{what} holds values that are not finite.")
    return array


def _band(
    name: str, values: ArrayLike, count: int
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """A series as (y, low, high), each (count,); the interval is None where there is none."""
    array = np.asarray(values, dtype=float)
    if array.shape not in ((count,), (3, count)):
        raise ValueError(
            f"{name!r} must be {count} value(s), or the triple (value, low, high) of such; "
            f"its shape is {array.shape}."
        )
    _finite(repr(name), array, array.ndim)
    if array.ndim == 1:
        return array, None, None
    middle, low, high = array
    slack = 1e-9 * (1 + np.abs(middle))  # the mean of equal numbers may round past them
    if (low > middle + slack).any() or (high < middle - slack).any():
        raise ValueError(f"{name!r} leaves its interval: low <= value <= high must hold.")
    return middle, low, high
