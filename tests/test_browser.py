"""The built book in a real browser: nothing fails, nothing is fetched elsewhere, sliders slide.

Each page is opened once, as a reader would, and everything seen there is kept in a ``Visit`` that
the tests look at.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, Response

from lscgan import figures

ROOT = Path(__file__).resolve().parents[1]
AXE = ROOT / "tests" / "vendor" / "axe-core" / "axe.min.js"
CONTENTS = yaml.safe_load((ROOT / "_toc.yml").read_text())
CONFIGURATION = yaml.safe_load((ROOT / "_config.yml").read_text())
PAGES = [CONTENTS["root"]] + [
    chapter["file"] for part in CONTENTS["parts"] for chapter in part["chapters"]
]
CHAPTERS = [page for page in PAGES if page.startswith("book/part")]
NOTEBOOKS = [page for page in PAGES if (ROOT / f"{page}.ipynb").is_file()]
MADE_BY_SPHINX = {"genindex", "index", "py-modindex", "search"}

# Jupyter Book's theme says these on its own pages; neither changes what a reader sees.
HARMLESS = (
    re.compile(r"THEBE_JS_URL.*already been declared"),
    re.compile(r"Got invalid theme mode"),
)

AUDIT = """async (rules) => {
    const options = {resultTypes: ['violations'], selectors: false};
    if (rules) options.runOnly = {type: 'rule', values: rules};
    const found = await axe.run(document, options);
    return found.violations
        .filter(violation => ['serious', 'critical'].includes(violation.impact))
        .flatMap(violation => violation.nodes
            .map(node => `${violation.id} (${violation.impact}): ${node.html.slice(0, 200)}`));
}"""

# Pictures wait until they are scrolled to. Ask for all of them, and wait for the formulas too.
SETTLE = """async () => {
    for (const image of document.images) image.loading = 'eager';
    if (window.MathJax && MathJax.startup) await MathJax.startup.promise;
    await Promise.all([...document.images].map(image => image.decode().catch(() => null)));
}"""


@dataclass
class Traffic:
    """What a page asked for and what it complained about."""

    requests: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def elsewhere(self, host: str) -> list[str]:
        """The requests that left this machine's ``host``; data and blob addresses stay inside."""
        return [
            url
            for url in self.requests
            if urlsplit(url).scheme not in ("data", "blob") and urlsplit(url).netloc != host
        ]


@dataclass
class Visit:
    """Everything the tests ask about one page."""

    traffic: Traffic
    light: list[str]
    dark: list[str]
    images: list[dict[str, Any]]
    colab: list[str]
    strips: list[list[str]]
    too_wide: list[str]
    sideways: int


def listen(page: Page) -> Traffic:
    traffic = Traffic()

    def complain(text: str) -> None:
        if not any(pattern.search(text) for pattern in HARMLESS):
            traffic.errors.append(text)

    def answered(response: Response) -> None:
        if response.status >= 400:
            traffic.failures.append(f"{response.status} {response.url}")

    page.on("request", lambda request: traffic.requests.append(request.url))
    page.on("requestfailed", lambda request: traffic.failures.append(request.url))
    page.on("response", answered)
    page.on("console", lambda said: complain(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complain(str(error)))
    return traffic


def pixels(element: Locator) -> np.ndarray:
    with Image.open(io.BytesIO(element.screenshot())) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def drive(strip: Locator) -> list[str]:
    """Move a film strip's slider by keyboard; return what does not follow it."""
    slider, picture = strip.locator("input[type=range]"), strip.locator("img")

    def said() -> tuple[str | None, str | None, str]:
        return (
            slider.get_attribute("aria-valuetext"),
            picture.get_attribute("alt"),
            strip.locator("output").inner_text(),
        )

    problems = []
    slider.focus()
    slider.press("Home")
    first_words, first_picture = said(), pixels(picture)
    slider.press("ArrowRight")
    names = ("the spoken value", "the alt text", "the shown value")
    for name, before, after in zip(names, first_words, said(), strict=True):
        if before == after:
            problems.append(f"{name} stays {before!r}")
    slider.press("End")
    # More than the odd pixel: one in two hundred differs by what an eye can see.
    changed = np.abs(pixels(picture) - first_picture).max(axis=2) > 16
    if changed.mean() < 0.005:
        problems.append(f"only {changed.mean():.2%} of the picture's pixels change")
    slider.press("Home")
    if said() != first_words or np.abs(pixels(picture) - first_picture).max() > 8:
        problems.append("the way back does not end where it began")
    return problems


Visitor = Callable[[str], Visit]


@pytest.fixture(scope="session")
def visit(browser: Browser, book_address: str) -> Visitor:
    """Opens a page by its name in the contents, the first time it is asked for."""

    @functools.cache
    def look(name: str) -> Visit:
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        context.add_init_script("localStorage.setItem('mode', 'light')")
        page = context.new_page()
        traffic = listen(page)
        page.goto(f"{book_address}/{name}.html", wait_until="networkidle")
        page.evaluate(SETTLE)
        images = page.evaluate(
            "() => [...document.images].map(image => ({alt: image.getAttribute('alt'),"
            " shown: image.naturalWidth > 0, html: image.outerHTML.slice(0, 200)}))"
        )
        colab = page.locator("a[href*='colab.research.google.com']").evaluate_all(
            "links => links.map(link => link.href)"
        )
        strips = [drive(strip) for strip in page.locator(".lscgan-strip").all()]

        page.evaluate(AXE.read_text(encoding="utf-8"))
        light = page.evaluate(AUDIT, None)
        page.evaluate("document.documentElement.dataset.theme = 'dark'")
        page.wait_for_timeout(400)  # the theme fades its colours
        dark = page.evaluate(AUDIT, ["color-contrast"])

        page.set_viewport_size({"width": 375, "height": 800})
        too_wide = page.locator(".lscgan-figure, .lscgan-figure img").evaluate_all(
            "parts => parts.filter(part => part.getBoundingClientRect().right > innerWidth)"
            ".map(part => part.outerHTML.slice(0, 200))"
        )
        sideways = page.evaluate("document.documentElement.scrollWidth - innerWidth")
        context.close()
        return Visit(traffic, light, dark, images, colab, strips, too_wide, sideways)

    return look


each_page = pytest.mark.parametrize("name", PAGES)


def test_every_page_of_the_build_is_visited(built_book: Path) -> None:
    built = {
        path.relative_to(built_book).with_suffix("").as_posix()
        for path in built_book.rglob("*.html")
        if "_static" not in path.parts
    }
    assert built - MADE_BY_SPHINX == set(PAGES)


def test_the_front_door_leads_to_the_first_page(browser: Browser, book_address: str) -> None:
    page = browser.new_page()
    traffic = listen(page)
    page.goto(f"{book_address}/")
    page.wait_for_url(f"{book_address}/{CONTENTS['root']}.html")
    page.wait_for_load_state("networkidle")
    page.close()
    assert traffic.failures == []


def test_chapters_are_numbered_through_all_parts_and_nothing_else(
    browser: Browser, book_address: str
) -> None:
    page = browser.new_page()
    page.goto(f"{book_address}/{CONTENTS['root']}.html")
    entries = page.locator("nav.bd-links li.toctree-l1 > a.internal").all_text_contents()
    titles = []
    for name in CHAPTERS:
        page.goto(f"{book_address}/{name}.html")
        titles.append((page.title(), page.locator("article h1").inner_text()))
    headings = page.locator("article h2").all_inner_texts()
    page.close()
    numbered = [entry for entry in entries if re.match(r"\d+\. ", entry)]
    assert len(entries) > len(numbered) == len(CHAPTERS)
    for k, (entry, (title, heading)) in enumerate(zip(numbered, titles, strict=True), 1):
        assert entry.startswith(f"{k}. ")
        assert title.startswith(entry)
        assert heading.startswith(entry)
    assert headings
    assert not [heading for heading in headings if heading[0].isdigit()]


def test_icons_come_from_the_style_sheet_alone(browser: Browser, book_address: str) -> None:
    page = browser.new_page()
    with page.expect_response(re.compile(r"/fontawesome\.js")) as script:
        page.goto(f"{book_address}/{CHAPTERS[0]}.html", wait_until="networkidle")
    size = len(script.value.body())
    icon = page.locator("button.theme-switch-button i:visible, button.search-button i:visible")
    drawn = icon.first.evaluate("icon => getComputedStyle(icon, '::before').content")
    page.close()
    assert size < 1_000
    assert drawn not in ("none", "normal", '""')


def test_api_shows_no_path_of_the_machine_that_built_it(built_book: Path) -> None:
    text = (built_book / "book" / "back" / "api.html").read_text(encoding="utf-8")
    assert str(ROOT) not in text


def test_api_names_all_that_the_notebooks_import(built_book: Path) -> None:
    text = (built_book / "book" / "back" / "api.html").read_text(encoding="utf-8")
    listed = set(re.findall(r'id="(?:module-)?(lscgan[\w.]*)"', text))
    imported = set()
    for name in NOTEBOOKS:
        for cell in json.loads((ROOT / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "%pip" not in source:
                for node in ast.walk(ast.parse(source)):
                    if isinstance(node, ast.ImportFrom) and "lscgan" in (node.module or ""):
                        imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    constants = {name for name in imported if name.rpartition(".")[2].isupper()}
    assert imported - constants - listed == set()


@each_page
def test_a_page_opens_without_failure(visit: Visitor, name: str) -> None:
    traffic = visit(name).traffic
    assert traffic.failures == []
    assert traffic.errors == []


@each_page
def test_a_page_asks_no_other_host(visit: Visitor, book_address: str, name: str) -> None:
    traffic = visit(name).traffic
    assert f"{book_address}/{name}.html" in traffic.requests
    assert traffic.elsewhere(urlsplit(book_address).netloc) == []


@each_page
def test_a_page_has_no_serious_barrier(visit: Visitor, name: str) -> None:
    seen = visit(name)
    assert seen.light == [], "in the light theme"
    assert seen.dark == [], "in the dark theme"


@each_page
def test_every_picture_shows_and_says_what_it_shows(visit: Visitor, name: str) -> None:
    for image in visit(name).images:
        assert image["shown"], f"does not load: {image['html']}"
        alt = (image["alt"] or "").strip()
        assert alt, f"no alt text: {image['html']}"
        assert not re.fullmatch(r"[0-9a-fA-F]{12,}", alt), f"a hash for alt text: {alt}"
        assert not re.search(r"\.(png|jpe?g|svg|webp|gif)$|/", alt), f"a file for alt text: {alt}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_colab_button_opens_this_notebook(visit: Visitor, name: str) -> None:
    repository = CONFIGURATION["repository"]
    slug = repository["url"].removeprefix("https://github.com/").strip("/")
    wanted = (
        f"https://colab.research.google.com/github/{slug}/blob/{repository['branch']}/{name}.ipynb"
    )
    assert wanted in visit(name).colab
    assert set(visit(name).colab) == {wanted}


@each_page
def test_every_film_strip_follows_its_slider(visit: Visitor, name: str) -> None:
    assert [problems for problems in visit(name).strips if problems] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_chapter_has_a_film_strip(visit: Visitor, name: str) -> None:
    assert visit(name).strips


@each_page
def test_a_page_fits_a_phone(visit: Visitor, name: str) -> None:
    assert visit(name).too_wide == []
    assert visit(name).sideways <= 0, "the page scrolls sideways"


def test_a_page_reads_from_the_disk_alone(browser: Browser, built_book: Path) -> None:
    page = browser.new_page()
    traffic = listen(page)
    page.goto((built_book / f"{CHAPTERS[0]}.html").as_uri(), wait_until="networkidle")
    page.evaluate(SETTLE)
    strips = page.locator(".lscgan-strip").all()
    assert strips
    assert [problems for problems in map(drive, strips) if problems] == []
    page.close()
    assert [url for url in traffic.elsewhere("") if not url.startswith("file:")] == []
    assert traffic.failures == []


# --- a film strip by itself, without the book -----------------------------------------------------


def squares(count: int, channels: int) -> figures.Figure:
    """A square that wanders over ``count`` frames from the left to the right."""
    frames = torch.full((count, 2, channels, 16, 16), 0.9)
    for k in range(count):
        left = round(12 * k / (count - 1))
        frames[k, :, :, 6:10, left : left + 4] = 0.1
    return figures.film_strip(
        frames,
        [f"place {k}" for k in range(count)],
        name=f"Place in {count}",
        alt=f"Two dark squares that wander from left to right in {count} steps.",
        frame_alts=[f"Two squares at step {k} of {count}" for k in range(count)],
        caption='The squares follow the slider, "quotes" & all.',
        value_text=[f"step {k}" for k in range(count)],
        start=0,
    )


@pytest.fixture
def strips_alone(tmp_path: Path) -> str:
    """A bare file with four strips, two of them the same, and its address on disk.

    It ends in a figure that is no strip and brings the style of all figures once more.
    """
    shown = [squares(3, 1), squares(5, 3), squares(3, 1), squares(2, 3)]
    shown.append(figures.grid(torch.rand(1, 1, 8, 8), alt="A square.", caption="No strip."))
    path = tmp_path / "strips.html"
    path.write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Strips</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<body><main><h1>Strips</h1>{''.join(figure.html for figure in shown)}</main>",
        encoding="utf-8",
    )
    return path.as_uri()


@pytest.mark.parametrize("width", [390, 1200])
def test_film_strip_alone(browser: Browser, strips_alone: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    traffic = listen(page)
    page.goto(strips_alone)
    page.evaluate(SETTLE)
    strips = page.locator(".lscgan-strip").all()
    assert len(strips) == 4
    untouched = pixels(strips[2].locator("img"))
    assert [drive(strip) for strip in strips[:2]] == [[], []]
    # The third strip is the first one's twin: moving one leaves the other alone.
    assert np.array_equal(pixels(strips[2].locator("img")), untouched)

    # At the fourth of five steps the square stands three quarters of the way.
    slider, picture = strips[1].locator("input"), strips[1].locator("img")
    for _ in range(3):
        slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "step 3"
    assert picture.get_attribute("alt") == "Two squares at step 3 of 5"
    assert strips[1].locator("output").inner_text() == "place 3"
    shown = pixels(picture).mean(axis=2)
    row = shown[shown.shape[0] // 2, : shown.shape[1] // 2]
    dark = np.flatnonzero(row < 128)
    assert (dark.mean() + 0.5) / len(row) == pytest.approx((1 + 9 + 2) / 18, abs=0.02)

    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert page.evaluate(AUDIT, None) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
    assert traffic.errors == []
    assert traffic.failures == []
    assert [url for url in traffic.requests if not url.startswith(("file:", "data:"))] == []


def test_the_keyboard_shows_where_it_is(browser: Browser, strips_alone: str) -> None:
    page = browser.new_page()
    page.goto(strips_alone)
    page.keyboard.press("Tab")
    focused = page.evaluate(
        "() => [document.activeElement.type, getComputedStyle(document.activeElement).outlineStyle]"
    )
    page.close()
    assert focused == ["range", "solid"]


def test_a_strip_without_scripts_shows_all_frames(browser: Browser, strips_alone: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(strips_alone)
    strip = page.locator(".lscgan-strip").nth(1)
    assert not strip.locator("label").is_visible()
    assert not strip.locator("input").is_visible()
    labels = strip.locator(".lscgan-rows span").all()
    assert [label.inner_text() for label in labels] == [f"place {k}" for k in range(5)]
    assert all(label.is_visible() for label in labels)
    strip.scroll_into_view_if_needed()
    shown = pixels(strip.locator("img")).mean(axis=2)
    context.close()
    # Five frames of one row of two squares, each square a step further than the one above it.
    assert shown.shape[0] / shown.shape[1] == pytest.approx(5 / 2, rel=0.02)
    for k, frame in enumerate(np.array_split(shown, 5)):
        dark = np.flatnonzero(frame[len(frame) // 2, : shown.shape[1] // 2] < 128)
        place = (dark.mean() + 0.5) / (shown.shape[1] / 2)
        assert place == pytest.approx((1 + 3 * k + 2) / 18, abs=0.03)


def test_a_strip_that_does_not_follow_is_caught(browser: Browser, tmp_path: Path) -> None:
    """The tests above would see a slider whose script is lost."""
    path = tmp_path / "dead.html"
    path.write_text(re.sub(r'oninput="[^"]*"', "", squares(3, 1).html), encoding="utf-8")
    page = browser.new_page()
    page.goto(path.as_uri())
    problems = drive(page.locator(".lscgan-strip"))
    page.close()
    assert len(problems) == 4


def test_a_broken_page_is_caught(browser: Browser, book_address: str, tmp_path: Path) -> None:
    """The tests above would see a barrier, a missing file, an error and a foreign host."""
    path = tmp_path / "broken.html"
    path.write_text(
        '<!doctype html><html lang="en"><title>Broken</title><body style="background:#fff">'
        '<img src="data:image/gif;base64,R0lGODlhAQABAAAAACw="><p style="color:#eee">pale</p>'
        '<script src="http://elsewhere.invalid/x.js"></script>'
        "<script>undefinedFunction()</script>",
        encoding="utf-8",
    )
    page = browser.new_page()
    traffic = listen(page)
    page.goto(path.as_uri())
    page.evaluate(AXE.read_text(encoding="utf-8"))
    barriers = " ".join(page.evaluate(AUDIT, None))
    page.goto(f"{book_address}/nowhere.html")
    page.close()
    assert "image-alt" in barriers
    assert "color-contrast" in barriers
    assert traffic.elsewhere(urlsplit(book_address).netloc)[-1].startswith("http://elsewhere")
    assert "http://elsewhere.invalid/x.js" in traffic.failures
    assert f"404 {book_address}/nowhere.html" in traffic.failures
    assert any("undefinedFunction" in error for error in traffic.errors)
