"""What several test files share: the built book, and a real browser to open it in."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from playwright.sync_api import Browser, sync_playwright

# No test measures time: on a busy machine an example may take as long as it needs.
settings.register_profile("book", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("book")

os.environ["HF_HUB_OFFLINE"] = "1"  # read when the package is imported

ROOT = Path(__file__).resolve().parents[1]
BROWSERS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Requests are counted by the tests, not printed."""


@pytest.fixture(params=["fsync", "replace"])
def full_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that turns out to be full at the end: when bytes reach it, or when a file moves."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, request.param, full)


@pytest.fixture(scope="session")
def built_book() -> Path:
    """The folder of the built pages."""
    pages = ROOT / "_build" / "html"
    if not (ROOT / "_build" / "built").is_file():
        pytest.fail("the book is not built, or its last build failed: run `make book`")
    return pages


@pytest.fixture(scope="session")
def book_address(built_book: Path) -> Iterator[str]:
    """The built pages over http, without a slash at the end: http://127.0.0.1:PORT."""
    handler = partial(QuietHandler, directory=str(built_book))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A Chromium without a window, the one that is installed on this machine."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.fail(
            "the browser tests need Chromium or Chrome: install it"
            " (Debian and Ubuntu: sudo apt-get install chromium)"
        )
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=found, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched
        launched.close()
