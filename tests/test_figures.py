"""Figures: the right pixels, words that are escaped, the same HTML on every call."""

from __future__ import annotations

import base64
import io
import json
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.figure
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from lscgan import figures
from lscgan.data import LabelledImages

NASTY = 'A "smile" < a frown & it\'s <b>bold</b>'
VOID = {"img", "input", "wbr", "br", "meta", "link"}


class Page(HTMLParser):
    """Collects a figure's elements and insists that every tag is closed by its own end tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data

    def one(self, tag: str) -> dict[str, str | None]:
        (attributes,) = [attributes for name, attributes in self.elements if name == tag]
        return attributes


def data_uri(figure: figures.Figure) -> tuple[str, bytes]:
    head, _, data = (Page(figure.html).one("img")["src"] or "").partition(";base64,")
    return head, base64.b64decode(data, validate=True)


def decoded(figure: figures.Figure) -> np.ndarray:
    """The picture a reader sees, (H, W, 3)."""
    head, data = data_uri(figure)
    assert head == f"data:image/{figure.format}"
    assert data == figure.picture
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("RGB"))


def drawn_cell_by_cell(images: Tensor, columns: int, scale: int) -> np.ndarray:
    """The mosaic by brute force: every stored pixel looked up by itself."""
    count, channels, height, width = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + 2) * scale, columns * (width + 2) * scale, 3), 255, np.uint8)
    for k in range(count):
        row, column = divmod(k, columns)
        for y in range(height * scale):
            for x in range(width * scale):
                colour = images[k, :, y // scale, x // scale]
                top = (row * (height + 2) + 1) * scale
                left = (column * (width + 2) + 1) * scale
                sheet[top + y, left + x] = colour.expand(3) if channels == 1 else colour
    return sheet


def strip(count: int = 3, frames: Any = None, **changes: Any) -> figures.Figure:
    """A film strip of `count` flat grey frames, from black to white."""
    if frames is None:
        frames = [torch.full((2, 1, 8, 8), k / (count - 1)) for k in range(count)]
    settings: dict[str, Any] = {
        "labels": [f"{k}" for k in range(count)],
        "name": "Light",
        "alt": "Two squares that turn from black to white.",
        "frame_alts": [f"Two squares at light {k}" for k in range(count)],
        "caption": "The squares follow the light.",
    }
    return figures.film_strip(frames, **(settings | changes))


def line(**changes: Any) -> figures.Figure:
    settings: dict[str, Any] = {
        "x": [0.0, 1.0, 2.0],
        "series": {"judge": ([0, 1, 4], [0, 0.5, 3], [0.5, 2, 5]), "exact": [0, 1, 3]},
        "xlabel": "dose",
        "ylabel": "response",
        "alt": "A line that rises.",
        "caption": "More dose, more response.",
    }
    return figures.curve(**(settings | changes))


# --- pictures -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=30)
@given(
    count=st.integers(1, 7),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 5),
    width=st.integers(1, 5),
    columns=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_a_contact_sheet_holds_every_pixel(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    channels: int,
    height: int,
    width: int,
    columns: int,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(
        0, 256, (count, channels, height, width), dtype=torch.uint8, generator=generator
    )
    path = tmp_path_factory.mktemp("sheet") / "samples.png"
    figures.contact_sheet(images, path, columns)
    with Image.open(path) as picture:
        found = np.asarray(picture.convert("RGB"))
    assert np.array_equal(found, drawn_cell_by_cell(images, min(columns, count), 1))


def test_a_contact_sheet_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "samples.png"
    path.write_bytes(b"old")
    figures.contact_sheet(torch.ones(1, 1, 2, 2), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.png"]
    with Image.open(path) as picture:
        assert picture.size == (4, 4)


def test_a_contact_sheet_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "samples.png"
    path.write_bytes(b"old")

    def full_disk(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        figures.contact_sheet(torch.ones(1, 1, 2, 2), path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.png"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_stored_as_png_is_exact(channels: int) -> None:
    images = torch.zeros(5, channels, 4, 4, dtype=torch.uint8)
    images[:, :, ::2, ::2] = 255
    images[3, 0] = 40
    figure = figures.grid(images, columns=3, scale=5, alt="Squares.", caption="Squares differ.")
    assert figure.format == "png"  # flat colours: pixels without loss are the smaller file
    assert np.array_equal(decoded(figure), drawn_cell_by_cell(images, 3, 5))


def test_a_grid_stored_as_webp_is_close() -> None:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(6, 3, 2, 2, generator=generator)
    images = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear")
    grain = 0.02 * torch.randn(6, 1, 32, 32, generator=generator)
    images = (images + grain).clamp(0, 1)
    figure = figures.grid(images, columns=3, scale=2, alt="Clouds.", caption="Clouds differ.")
    assert figure.format == "webp"
    exact = drawn_cell_by_cell((images * 255).round().to(torch.uint8), 3, 2)
    error = np.abs(decoded(figure).astype(float) - exact)
    assert error.mean() < 3
    assert np.quantile(error, 0.99) < 40  # a sheet shifted by one pixel misses by far more


def test_float_and_uint8_images_give_one_figure() -> None:
    levels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    words: dict[str, Any] = {"alt": "A ramp.", "caption": "It rises."}
    assert figures.grid(levels, **words) == figures.grid(levels.float() / 255, **words)


def test_the_place_of_a_grid_is_reserved_before_it_loads() -> None:
    figure = figures.grid(torch.rand(6, 3, 8, 16), columns=3, alt="Noise.", caption="Noise.")
    image = Page(figure.html).one("img")
    height, width, _ = decoded(figure).shape
    assert int(image["width"] or 0) / int(image["height"] or 0) == pytest.approx(
        width / height, rel=0.01
    )
    assert "loading" not in image  # its bytes are in the page already: waiting would only hide it


def test_labels_stand_beside_their_rows_and_columns() -> None:
    figure = figures.grid(
        torch.rand(6, 3, 8, 8),
        row_labels=["Wearing_Hat", "<none>"],
        column_labels=["−1", "0", "+1"],
        alt="Six squares.",
        caption="Labels name them.",
    )
    labels = Page(figure.html).text["span"]
    assert labels == "−10+1Wearing_Hat<none>"
    assert "Wearing_<wbr>Hat" in figure.html  # may break there on a narrow page
    assert decoded(figure).shape[1] / decoded(figure).shape[0] == 3 / 2


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.rand(0, 3, 8, 8), {}, "nothing to show"),
        (torch.rand(3, 8, 8), {}, "B x C x H x W"),
        (torch.rand(1, 2, 8, 8), {}, "C = 1 or 3"),
        (np.zeros((1, 3, 8, 8)), {}, "must be a tensor"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), {}, "uint8 or float"),
        (torch.full((1, 3, 8, 8), torch.nan), {}, "not finite"),
        (torch.full((1, 3, 8, 8), torch.inf), {}, "not finite"),
        (torch.full((1, 3, 8, 8), 1.5), {}, r"lie in \[0, 1\]"),
        (torch.full((1, 3, 8, 8), -0.5), {}, r"lie in \[0, 1\]"),
        (torch.rand(4, 3, 8, 8), {"row_labels": ["a", "b", "c"]}, "do not fill|2 row labels"),
        (torch.rand(5, 3, 8, 8), {"row_labels": ["a", "b"]}, "do not fill"),
        (torch.rand(4, 3, 8, 8), {"columns": 2, "row_labels": ["a"]}, "2 row labels"),
        (torch.rand(4, 3, 8, 8), {"columns": 2, "column_labels": ["a"]}, "2 column labels"),
        (torch.rand(4, 3, 8, 8), {"columns": 4, "column_labels": "abcd"}, "given: one text"),
        (torch.rand(4, 3, 8, 8), {"columns": 0}, "at least one column"),
        (torch.rand(4, 3, 8, 8), {"scale": 0}, "scale"),
        (torch.rand(4, 3, 8, 8), {"alt": " "}, "alt"),
        (torch.rand(4, 3, 8, 8), {"caption": ""}, "caption"),
    ],
)
def test_a_grid_refuses_what_it_cannot_show(
    images: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        figures.grid(images, **({"alt": "Squares.", "caption": "They differ."} | options))


# --- words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda words: figures.grid(torch.rand(2, 3, 8, 8), **words),
        lambda words: strip(**words),
        lambda words: line(**words),
        lambda words: figures.bars({"a": 0.5}, xlabel="share", **words),
        lambda words: figures.learning_curves([{"images": 1, "kl": 2.0}], {"kl": "KL"}, **words),
    ],
    ids=["grid", "strip", "curve", "bars", "learning"],
)
def test_words_arrive_as_they_were_written(make: Any) -> None:
    figure = make({"alt": NASTY, "caption": NASTY + "!"})
    page = Page(figure.html)
    spoken = page.one("figure").get("aria-label") or page.one("img")["alt"]
    assert spoken == figure.alt == NASTY
    assert page.text["figcaption"] == figure.caption == NASTY + "!"
    assert "b" not in {tag for tag, _ in page.elements}
    assert page.one("img")["alt"]
    with pytest.raises(ValueError, match="alt"):
        make({"alt": "", "caption": "Something."})
    with pytest.raises(ValueError, match="caption"):
        make({"alt": "Something.", "caption": "  "})


def test_a_notebook_shows_the_html_and_prints_the_alt_text() -> None:
    figure = strip(alt="Squares.")
    assert figure._repr_mimebundle_() == {
        "text/html": figure.html,
        "text/plain": "Figure('Squares.')",
    }


def test_a_figure_asks_nothing_of_another_host() -> None:
    for figure in (strip(), line(), figures.grid(torch.rand(1, 3, 8, 8), alt="a", caption="b")):
        for tag, attributes in Page(figure.html).elements:
            assert tag not in ("link", "script", "iframe")
            assert (attributes.get("src") or "data:").startswith("data:")
            assert "href" not in attributes
        assert "url(" not in figure.html
        assert "@import" not in figure.html


# --- film strips ----------------------------------------------------------------------------------


def test_a_strip_holds_every_frame_in_one_picture() -> None:
    figure = strip(5)
    picture = decoded(figure)
    assert picture.shape[0] % 5 == 0
    for k, frame in enumerate(np.split(picture, 5)):
        middle = frame[frame.shape[0] // 2, frame.shape[1] // 4]
        assert middle == pytest.approx(255 * k / 4, abs=2)


def test_a_strip_describes_each_of_its_frames() -> None:
    figure = strip(4, value_text=["none", "a third", "two thirds", "all"], start=1)
    page = Page(figure.html)
    slider = page.one("input")
    assert (slider["min"], slider["max"], slider["value"]) == ("0", "3", "1")
    assert slider["aria-label"] == "Light"
    assert slider["aria-valuetext"] == "a third"
    assert page.text["output"] == "1"
    assert page.one("img")["alt"] == "Two squares at light 1"
    data = json.loads(slider["data-frames"] or "")
    assert [frame["spoken"] for frame in data] == ["none", "a third", "two thirds", "all"]
    assert [frame["alt"] for frame in data] == [f"Two squares at light {k}" for k in range(4)]
    # The window is one frame high, and starts on the frame asked for.
    style = page.one("img")["style"] or ""
    height, width, _ = decoded(figure).shape
    assert f"aspect-ratio:{width}/{height // 4};" in style
    assert "object-position:0 33.3333%" in style


def test_frames_may_be_single_images_or_one_tensor() -> None:
    frames = torch.rand(3, 3, 8, 8)
    assert strip(frames=frames) == strip(frames=list(frames)) == strip(frames=frames[:, None])


def test_a_strip_starts_in_the_middle_and_has_no_ids_to_clash() -> None:
    page = Page(strip(5).html + strip(5).html + strip(3).html)
    assert [a["value"] for tag, a in page.elements if tag == "input"] == ["2", "2", "1"]
    assert not [attributes for _, attributes in page.elements if "id" in attributes]


def test_a_long_strip_stays_within_what_a_browser_decodes() -> None:
    frames = [torch.full((1, 30, 30), k / 299) for k in range(300)]
    picture = decoded(strip(300, frames=frames))
    assert picture.shape[0] == 300 * 32
    assert picture[16::32, 16, 0] == pytest.approx(255 * np.arange(300) / 299, abs=2)
    with pytest.raises(ValueError, match="show fewer"):
        strip(600, frames=torch.zeros(600, 1, 30, 30))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": [torch.rand(3, 8, 8)]}, "at least two frames"),
        ({"frames": []}, "at least two frames"),
        ({"frames": [torch.rand(3, 8, 8)] * 2 + [torch.rand(3, 8, 9)]}, "one shape"),
        ({"frames": [torch.rand(3, 8, 8)] * 2 + [torch.rand(2, 3, 8, 8)]}, "one shape"),
        ({"frames": ["face"] * 3}, "must be a tensor"),
        ({"labels": ["0", "1"]}, "labels must hold one text for each of the 3 frames"),
        ({"labels": "012"}, "labels must hold"),
        ({"labels": ["0", "", "2"]}, "every text in labels"),
        ({"frame_alts": ["a", "b", "c", "d"]}, "frame_alts must hold"),
        ({"frame_alts": ["a", "b", " "]}, "every text in frame_alts"),
        ({"value_text": ["a"]}, "value_text must hold"),
        ({"name": ""}, "name"),
        ({"start": 3}, "start"),
        ({"start": -1}, "start"),
        ({"columns": 0}, "column"),
        ({"column_labels": ["one"]}, "2 column labels"),
    ],
)
def test_a_strip_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        strip(**changes)


# --- a data set -----------------------------------------------------------------------------------


def labelled(columns: dict[str, list[float]], count: int, **source: Any) -> LabelledImages:
    """So many grey pictures, the i-th of grey i, with these labels."""
    grey = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 4, 4)
    labels = (
        torch.tensor(list(columns.values()), dtype=torch.float32).reshape(len(columns), count).T
    )
    return LabelledImages(grey, labels, tuple(columns), source)


def test_a_log_axis_names_more_than_one_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def named(*x: float) -> list[str]:
        found: list[Any] = []

        def spy(canvas: Any, alt: str, caption: str) -> figures.Figure:
            found.extend(canvas.axes)
            canvas.draw_without_rendering()
            return figures.Figure("", alt, caption, b"", "svg")

        with monkeypatch.context() as patched:
            patched.setattr(figures, "_figure_of", spy)
            line(x=x, series={"judge": [0] * len(x)}, xscale="log")
        (axis,) = (axes.xaxis for axes in found)
        low, high = axis.get_view_interval()
        shown = [(tick.get_loc(), tick.label1.get_text()) for tick in axis.get_major_ticks()]
        return [text for place, text in shown if low <= place <= high]

    assert named(0.8, 2, 8) == ["1", "2", "5"]
    assert named(10, 50, 132, 500) == ["10", "20", "50", "100", "200", "500"]
    assert len(named(0.01, 0.1, 30)) > 2  # so wide that powers of ten are enough


def drawn_by(monkeypatch: pytest.MonkeyPatch, data: LabelledImages) -> list[Any]:
    """The axes that `describe` draws, on a page of a size that can be read."""
    found: list[Any] = []

    def spy(canvas: Any, alt: str, caption: str) -> figures.Figure:
        found.extend(canvas.axes)
        width, height = canvas.get_size_inches()
        assert width < 9
        assert height < 16
        return figures.Figure("", alt, caption, b"", "svg")

    with monkeypatch.context() as patched:
        patched.setattr(figures, "_figure_of", spy)
        figures.describe(data)
    return found


def lengths(axes: Any, row: int) -> dict[str, float]:
    """The parts of one row's bar by their colour and hatch, as shares."""
    bars = [bar for bar in axes.patches if round(bar.get_y() + bar.get_height() / 2) == row]
    assert sum(bar.get_width() for bar in bars) == pytest.approx(1)
    names = {"#0072b2": "with", "#bfdcec": "without", "#009e73": "amount", "#ffffff": "unknown"}
    return {
        names[matplotlib.colors.to_hex(bar.get_facecolor())]: round(bar.get_width(), 6)
        for bar in bars
    }


def test_a_data_sets_bars_and_matrix_are_those_of_its_labels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nan = float("nan")
    data = labelled(
        {
            "hat": [1, 0, 0, 0, 1, 0, 0, 0, 0, 0],
            "beard": [1, 0, 0, 1, 0, nan, nan, nan, nan, nan],
            "age": [3, 7.5, -2, nan, 1, 1, 1, 1, 1, 1],
            "never": [nan] * 10,
        },
        10,
    )
    sheet, balance, matrix, _ = drawn_by(monkeypatch, data)
    assert lengths(balance, 0) == {"with": 0.2, "without": 0.8}
    assert lengths(balance, 1) == {"with": 0.2, "without": 0.3, "unknown": 0.5}
    assert lengths(balance, 2) == {"amount": 0.9, "unknown": 0.1}
    assert lengths(balance, 3) == {"unknown": 1}
    assert [text.get_text() for text in balance.texts] == ["20%", "40%", "−2 to 7.5", "unknown"]
    for axis in (balance.yaxis, matrix.xaxis):
        assert [t.get_text() for t in axis.get_ticklabels()] == ["hat", "beard", "age", "never"]
    shown = np.asarray(matrix.images[0].get_array().filled(nan))
    assert shown[0, 1] == pytest.approx(np.corrcoef([1, 0, 0, 0, 1], [1, 0, 0, 1, 0])[0, 1])
    assert np.isnan(shown[3]).all()
    written = {text.get_position(): text.get_text() for text in matrix.texts}
    assert written[(1, 0)] == f"{shown[0, 1]:.2f}".replace("0.", ".")
    assert written[(3, 0)] == ""
    pixels = np.asarray(sheet.images[0].get_array())
    assert set(np.unique(pixels)) == {*range(10), 255}  # each picture, on white

    figure = figures.describe(data)
    assert figure.caption.startswith(
        "10 images with 4 labels. The least balanced is hat: 20% of the images have it. never is "
        "unknown most often, for 10 images. "
    )
    assert figure.caption.endswith("data.describe warns of 2 things.")  # of never and of age
    assert "the shortest is hat with 20%, the longest beard with 40%" in figure.alt
    assert "A sheet of 10 pictures." in figure.alt


def test_forty_labels_stay_on_one_page_and_more_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    values = (torch.rand(43, 60, generator=generator) > 0.3).float()
    many = {f"Attribute_{i}": row for i, row in enumerate(values.tolist())}
    for count in (40, 43):
        chosen = dict(list(many.items())[:count])
        _, balance, matrix, _ = drawn_by(monkeypatch, labelled(chosen, 60))
        assert len(balance.get_yticks()) == 40
        assert matrix.images[0].get_array().shape == (40, 40)
        assert not matrix.texts
        assert f"60 images with {count} labels" in figures.describe(labelled(chosen, 60)).caption


def test_classes_are_counted_in_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled({"class": [0, 2, 2, 2, float("nan")]}, 5, classes=["ant", "bee", "cat"])
    _, bars = drawn_by(monkeypatch, data)
    assert [bar.get_width() for bar in bars.patches] == [1, 0, 3]
    assert [text.get_text() for text in bars.texts] == ["1  (25%)", "0  (0%)", "3  (75%)"]
    figure = figures.describe(data)
    assert figure.caption == (
        "5 images in 3 classes, from bee with 0 images to cat with 3. The class of 1 is unknown."
    )
    assert figure.alt.startswith("A sheet of 5 pictures, and one bar a class: from bee")
    even = labelled({"class": [0, 1]}, 2, classes=["ant", "bee"])
    assert figures.describe(even).caption == "2 images in 2 classes, each with 1 image."
    crowd = labelled({"class": [float(i) for i in range(50)] + [49.0]}, 51)
    _, bars = drawn_by(monkeypatch, crowd)
    assert [t.get_text() for t in bars.get_yticklabels()][-1] == "49"  # the largest stays
    assert len(bars.patches) == 40


def test_little_is_described_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(drawn_by(monkeypatch, labelled({}, 3))) == 1  # the sheet alone
    assert figures.describe(labelled({}, 3)).caption == "3 images with 0 labels."
    assert len(drawn_by(monkeypatch, labelled({"hat": [1]}, 1))) == 2
    assert figures.describe(labelled({"hat": [1]}, 1)).caption.startswith("1 image with 1 label.")
    with pytest.raises(ValueError, match="There is nothing to show"):
        figures.describe(labelled({}, 0))


# --- drawings -------------------------------------------------------------------------------------


def test_the_same_call_gives_the_same_figure() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, 3, 16, 16, generator=generator)
    assert figures.grid(images, alt="a", caption="b") == figures.grid(images, alt="a", caption="b")
    assert strip(4) == strip(4)
    assert strip(4) != strip(5)
    assert line() == line()
    assert line() != line(xlabel="another dose")


def test_a_plot_is_well_formed_svg_without_date_or_maker() -> None:
    head, data = data_uri(line())
    assert head == "data:image/svg+xml"
    root = ElementTree.fromstring(data)
    assert root.tag.endswith("svg")
    assert b"metadata" not in data
    assert b"Matplotlib" not in data


def test_a_plot_with_countless_strokes_is_stored_as_pixels() -> None:
    def draw(axes: matplotlib.axes.Axes) -> None:
        axes.scatter(*np.random.default_rng(0).normal(size=(2, 3000)))

    figure = figures.plot(draw, alt="A cloud.", caption="It is round.", size=(3.0, 2.0))
    assert figure.format in ("png", "webp")
    assert decoded(figure).shape[:2] == (2 * 96 * 2, 3 * 96 * 2)


def test_a_plot_hands_out_its_panels_row_by_row() -> None:
    seen: list[int] = []
    figures.plot(
        lambda *panels: seen.extend(panel.get_subplotspec().num1 for panel in panels),
        alt="Six empty panels.",
        caption="Six.",
        rows=2,
        columns=3,
    )
    assert seen == [0, 1, 2, 3, 4, 5]


def test_a_finished_matplotlib_figure_is_taken_over_and_emptied() -> None:
    canvas = matplotlib.figure.Figure(figsize=(2, 1))
    canvas.subplots().plot([0, 1])
    figure = figures.plot(canvas, alt="A line.", caption="It rises.")
    assert figure.format == "svg"
    assert canvas.axes == []


def test_drawing_changes_no_setting_of_matplotlib() -> None:
    before = dict(matplotlib.rcParams)
    line()
    assert dict(matplotlib.rcParams) == before


def test_curves_are_drawn_where_the_values_say(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[matplotlib.axes.Axes] = []
    real = figures.plot

    def spy(drawing: Any, **options: Any) -> figures.Figure:
        def draw(axes: matplotlib.axes.Axes) -> None:
            drawing(axes)
            drawn.append(axes)
            lines = {entry.get_label(): entry for entry in axes.lines}
            assert lines["judge"].get_ydata() == pytest.approx(np.array([0, 1, 4]))
            assert lines["exact"].get_ydata() == pytest.approx(np.array([0, 1, 3]))
            looks = {(entry.get_linestyle(), entry.get_marker()) for entry in axes.lines[:2]}
            assert len(looks) == 2  # told apart without colour
            (band,) = axes.collections
            corners = np.asarray(band.get_paths()[0].vertices)
            assert set(corners[:, 1]) == {0.0, 0.5, 2.0, 3.0, 5.0}
            assert axes.lines[2].get_ydata() == pytest.approx([0.25, 0.25])

        return real(draw, **options)

    monkeypatch.setattr(figures, "plot", spy)
    line(references={"floor": 0.25})
    assert len(drawn) == 1


def test_bars_become_points_where_zero_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[int] = []
    real = figures.plot

    def spy(drawing: Any, **options: Any) -> figures.Figure:
        def draw(axes: matplotlib.axes.Axes) -> None:
            drawing(axes)
            bars.append(len(axes.patches))
            assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "b"]
            assert [text.get_text() for text in axes.texts[:2]] == ["0.95", "0.99"]

        return real(draw, **options)

    monkeypatch.setattr(figures, "plot", spy)
    values = {"a": (0.95, 0.94, 0.96), "b": 0.99}
    words: dict[str, Any] = {"xlabel": "share", "alt": "Two.", "caption": "Both are high."}
    figures.bars(values, **words)
    figures.bars(values, limits=(0.9, 1.0), target=("needed", 0.93), **words)
    assert bars == [2, 0]


def test_learning_curves_leave_out_rows_without_the_metric() -> None:
    rows = [{"images": 100, "loss": 3.0}, {"images": 200, "loss": 2.0, "kl": 1.0}]
    words = {"alt": "Two curves.", "caption": "The loss falls."}
    figure = figures.learning_curves(rows, {"loss": "loss (nats)", "kl": "KL (nats)"}, **words)
    assert figure.format == "svg"
    with pytest.raises(ValueError, match=r"'recall'.*'images', 'kl', 'loss'"):
        figures.learning_curves(rows, {"recall": "recall"}, **words)
    with pytest.raises(ValueError, match="at least one metric"):
        figures.learning_curves(rows, {}, **words)
    with pytest.raises(ValueError, match="not finite"):
        figures.learning_curves([{"images": 1, "loss": float("nan")}], {"loss": "loss"}, **words)


def test_a_heatmap_writes_its_numbers() -> None:
    words: dict[str, Any] = {
        "row_labels": ["a", "b"],
        "column_labels": ["c"],
        "xlabel": "changed",
        "ylabel": "asked",
        "alt": "Two cells.",
        "caption": "They differ.",
    }
    assert figures.heatmap([[1.0], [-1.0]], **words).format == "svg"
    with pytest.raises(ValueError, match="1 column labels"):
        figures.heatmap([[1.0], [-1.0]], **(words | {"column_labels": ["c", "d"]}))
    with pytest.raises(ValueError, match="not finite"):
        figures.heatmap([[1.0], [np.nan]], **words)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": []}, "x must be a non-empty array"),
        ({"x": [0.0, np.nan, 2.0]}, "x holds values that are not finite"),
        ({"series": {}}, "at least one series"),
        ({"series": {str(k): [0, 1, 2] for k in range(7)}}, "At most 6"),
        ({"series": {"judge": [0, 1]}}, "'judge' must be 3 value"),
        ({"series": {"judge": [0, 1, np.inf]}}, "'judge' holds values that are not finite"),
        ({"series": {"judge": ([0, 1, 2], [1, 1, 2], [3, 3, 3])}}, "leaves its interval"),
        ({"references": {"floor": np.nan}}, "references"),
    ],
)
def test_a_curve_refuses_values_it_cannot_draw(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        line(**changes)


def test_the_mean_of_equal_numbers_may_round_past_them() -> None:
    mean = sum([0.942] * 3) / 3
    assert mean != 0.942
    line(series={"judge": ([mean] * 3, [0.942] * 3, [0.942] * 3)})


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {}, "at least one value"),
        ({"a": np.nan}, {}, "not finite"),
        ({"a": (0.5, 0.6, 0.7)}, {}, "leaves its interval"),
        ({"a": (0.5, 0.4)}, {}, "triple"),
        ({"a": (0.95, 0.85, 0.97)}, {"limits": (0.9, 1.0)}, "leaves the limits"),
        ({"a": 0.5}, {"target": ("needed", np.inf)}, "target"),
    ],
)
def test_bars_refuse_values_they_cannot_draw(
    values: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        figures.bars(values, xlabel="share", alt="Bars.", caption="They differ.", **options)


# --- saving ---------------------------------------------------------------------------------------


def test_a_picture_is_saved_in_the_format_its_name_asks_for(tmp_path: Path) -> None:
    figure = figures.grid(torch.rand(2, 3, 8, 8), alt="Noise.", caption="Noise.")
    for ending in ("png", "webp"):
        figure.save(tmp_path / f"noise.{ending}")
        with Image.open(tmp_path / f"noise.{ending}") as picture:
            assert picture.format == ending.upper()
            assert picture.size == decoded(figure).shape[1::-1]
    line().save(tmp_path / "line.svg")
    assert (tmp_path / "line.svg").read_bytes() == line().picture
    with pytest.raises(ValueError, match=r"as \.png or \.webp, not as 'noise\.gif'"):
        figure.save(tmp_path / "noise.gif")
    with pytest.raises(ValueError, match=r"as \.svg, not as 'line\.png'"):
        line().save(tmp_path / "line.png")
