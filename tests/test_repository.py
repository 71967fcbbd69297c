"""The repository itself: one address, pinned versions, clean notebooks, a complete contents."""

from __future__ import annotations

import copy
import importlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch
import torchvision
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import lscgan

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
LONGEST_CELL = 40
TOP_LEVEL = {
    ".ci", ".gitattributes", ".github", ".gitignore", "CHANGELOG.md", "CITATION.cff",
    "CONTRIBUTING.md", "LICENSE", "LICENSE-TEXT.md", "Makefile", "README.md", "_config.yml",
    "_toc.yml", "book", "lscgan", "pyproject.toml", "requirements.txt", "tests",
}  # fmt: skip
# A path of somebody's machine. Colab's /content is the same for everyone.
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|root|work|Users|tmp)/\w")
CLOCK_TIME = re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}\b|\b\d{1,2}:\d{2}:\d{2}\b")


def script(path: str) -> Any:
    """A script of the repository, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


address = script(".ci/address.py")
notebooks = script(".ci/notebooks.py")

FILES: list[Path] = address.text_files(ROOT)
NOTEBOOKS: list[Path] = notebooks.notebooks()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = [
    Requirement(line)
    for line in (ROOT / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def is_run(path: Path) -> bool:
    return path.is_relative_to(BOOK / "runs")


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=name_of)


# The address


def test_every_copy_of_the_address_agrees_with_the_configuration() -> None:
    wanted = address.wanted(ROOT)
    ours = {"lscgan", wanted.partition("/")[2], address.shown(ROOT).partition("/")[2]}
    other = [
        f"{name_of(path)}: {match[0]}"
        for path in FILES
        for match in address.COPY.finditer(path.read_text(encoding="utf-8"))
        if match["slug"].partition("/")[2] in ours and match["slug"] != wanted
    ]
    assert not other, f"run `make address`: these differ from {wanted}: {other}"


def test_the_address_stands_where_readers_look_for_it() -> None:
    url = f"https://github.com/{address.wanted(ROOT)}"
    for name in ("README.md", "CONTRIBUTING.md", "CITATION.cff", "pyproject.toml"):
        assert url in (ROOT / name).read_text(encoding="utf-8"), f"{name} does not say {url}"


def test_a_new_address_reaches_every_copy_and_nothing_else(tmp_path: Path) -> None:
    for path in FILES:
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    old, new = address.shown(ROOT), "some-body/designed.spaces"
    configuration = tmp_path / "_config.yml"
    configuration.write_text(configuration.read_text().replace(old, new, 1))
    others = "https://github.com/elsewhere/other and ssh git@github.com:"
    note = tmp_path / "note.md"
    note.write_text(f"{others}{old}.git, https://github.com/{old}. https://github.com/{old}x\n")

    changed = address.rewrite(tmp_path)

    assert {"README.md", "CITATION.cff", "pyproject.toml", "CONTRIBUTING.md", "note.md"} <= {
        path.relative_to(tmp_path).as_posix() for path in changed
    }
    assert note.read_text() == (
        f"{others}{new}.git, https://github.com/{new}. https://github.com/{old}x\n"
    )
    for path in FILES:
        moved = (tmp_path / path.relative_to(ROOT)).read_text(encoding="utf-8")
        assert all(match["slug"] != old for match in address.COPY.finditer(moved)), name_of(path)
        assert address.replace(moved, new, old) == path.read_text(encoding="utf-8"), name_of(path)
    assert address.rewrite(tmp_path) == [], "a second call finds nothing to do"


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/a/b/",
        "https://github.com/a/b.git",
        "github.com/a/b",
        "https://a.org/b/c",
    ],
)
def test_an_address_that_colab_cannot_open_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"write it as https://github\.com/OWNER/NAME"):
        address.slug(url)


# The notebooks


def test_the_contents_list_every_page_and_no_other() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text())
    listed = [contents["root"]]
    listed += [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    pages = [
        name_of(path).rpartition(".")[0]
        for path in FILES
        if path.is_relative_to(BOOK)
        and path.suffix in (".md", ".ipynb")
        and not path.is_relative_to(BOOK / "_static")
        and not path.is_relative_to(BOOK / "coursework" / "masters")  # they hold the solutions
    ]
    assert sorted(listed) == sorted(pages)


@each_notebook
def test_cells_have_names_of_their_own(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    names = [cell.get("id") for cell in notebook.cells]
    assert all(names)
    assert len(set(names)) == len(names)


@each_notebook
def test_a_notebook_is_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    cleaned = copy.deepcopy(notebook)
    notebooks.clean(cleaned, is_run(path))
    assert notebook == cleaned, f"run `make notebooks`: {name_of(path)} holds traces of a run"


@each_notebook
def test_a_checked_cell_holds_the_result_to_check(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if notebooks.CHECKED in cell.metadata.get("tags", []):
            assert cell.cell_type == "code"
            assert cell.outputs, f"cell {cell.id} of {name_of(path)} is checked against nothing"
            shown = "".join(
                output.get("text", "") or output.get("data", {}).get("text/plain", "")
                for output in cell.outputs
            )
            assert not CLOCK_TIME.search(shown), f"cell {cell.id} prints a time: {shown}"
            assert not re.search(r"\b0x[0-9a-f]{6,}", shown), f"cell {cell.id} prints an address"


@each_notebook
def test_cells_are_short(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            lines = len(cell.source.splitlines())
            assert lines <= LONGEST_CELL, f"cell {cell.id} of {name_of(path)} has {lines} lines"


@each_notebook
def test_only_runs_ask_colab_for_a_gpu(path: Path) -> None:
    metadata = nbformat.read(path, as_version=4).metadata
    assert "colab" in metadata
    assert metadata.kernelspec.name == "python3"
    assert metadata.get("accelerator") == ("GPU" if is_run(path) else None)


def test_cleaning_keeps_what_a_person_wrote_and_what_is_checked() -> None:
    new = nbformat.v4
    checked = new.new_code_cell("print(1)", id="checked", metadata={"tags": [notebooks.CHECKED]})
    checked.outputs = [new.new_output("stream", name="stdout", text="1\n")]
    seen = new.new_code_cell("draw()", id="seen", metadata={"executionInfo": {"elapsed": 3}})
    seen.outputs = [new.new_output("display_data", {"image/png": "AAAA"})]
    for count, cell in enumerate((checked, seen)):
        cell.execution_count = count
    notebook = new.new_notebook(cells=[new.new_markdown_cell("# T", id="title"), checked, seen])
    notebook.metadata = nbformat.from_dict({"language_info": {"name": "python", "version": "3.9"}})

    notebooks.clean(notebook, is_run=False)

    assert [cell.id for cell in notebook.cells] == ["title", "checked", "seen"]
    assert [cell.source for cell in notebook.cells] == ["# T", "print(1)", "draw()"]
    assert notebook.cells[1].outputs[0].text == "1\n"
    assert notebook.cells[1].metadata.tags == [notebooks.CHECKED]
    assert notebook.cells[2].outputs == []
    assert notebook.cells[2].metadata == {}
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, None]
    assert "version" not in notebook.metadata.language_info


@pytest.mark.parametrize(
    "output",
    [
        nbformat.v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "<Figure>"}),
        nbformat.v4.new_output("stream", name="stderr", text="a warning"),
        nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[]),
    ],
    ids=["picture", "warning", "error"],
)
def test_a_checked_cell_may_show_plain_text_only(output: nbformat.NotebookNode) -> None:
    cell = nbformat.v4.new_code_cell("x", metadata={"tags": [notebooks.CHECKED]}, outputs=[output])
    with pytest.raises(ValueError, match="shows more than plain text"):
        notebooks.clean(nbformat.v4.new_notebook(cells=[cell]), is_run=False)


# Versions and licences


def test_requirements_name_one_version_each() -> None:
    for pin in PINS:
        assert [part.operator for part in pin.specifier] == ["=="], f"pin {pin}"
    names = [canonicalize_name(pin.name) for pin in PINS]
    assert len(names) == len(set(names))
    assert not [name for name in names if name.startswith(("nvidia-", "cuda-"))]


def test_the_pins_satisfy_what_the_package_asks_for() -> None:
    pinned = {canonicalize_name(pin.name): pin for pin in PINS}
    asked = PROJECT["dependencies"] + [
        line for extra in PROJECT["optional-dependencies"].values() for line in extra
    ]
    for requirement in map(Requirement, asked):
        pin = pinned[canonicalize_name(requirement.name)]
        version = next(iter(pin.specifier)).version
        assert requirement.specifier.contains(version), f"{pin} does not satisfy {requirement}"


def test_the_library_asks_for_no_newest_version() -> None:
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert [part.operator for part in requirement.specifier] == [">="], (
            f"{requirement}: an upper bound would change what a user has installed"
        )


def test_torch_and_torchvision_fit_together() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    assert kept.tolist() == [0, 2]


def test_one_version_everywhere() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert newest is not None
    assert PROJECT["dynamic"] == ["version"]
    assert newest[1] == lscgan.__version__
    assert citation["version"] == lscgan.__version__
    assert str(citation["date-released"]) == newest[2]
    assert importlib.metadata.version("lscgan") == lscgan.__version__


def test_third_party_files_lie_beside_their_licences() -> None:
    for room in (BOOK / "_static" / "vendor", ROOT / "tests" / "vendor"):
        for folder in room.iterdir():
            assert (folder / "LICENSE").is_file(), f"{name_of(folder)} has no LICENSE"


# Order


def test_nothing_strays_at_the_top() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    assert {name.partition("/")[0] for name in listed if name} <= TOP_LEVEL


def test_no_file_names_a_machine_of_ours() -> None:
    found = [
        f"{name_of(path)}: {match[0]}"
        for path in FILES
        for match in MACHINE_PATH.finditer(path.read_text(encoding="utf-8"))
    ]
    assert not found


# The installation


def executable(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with what `make` needs to install, and nothing installed."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "book").mkdir()
    (tmp_path / "lscgan").mkdir()
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make as a person would: without the settings of a make that runs these tests."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    outside.pop("MFLAGS", None)
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=outside, capture_output=True, text=True, check=False
    )


def test_an_old_python_is_refused_in_one_sentence(bare: Path) -> None:
    executable(bare / "old", "exit 1")
    result = make(bare, "PYTHON=./old", ".venv/installed")
    assert result.returncode != 0
    assert "./old is older than Python 3.11: name a newer one" in result.stdout
    assert not (bare / ".venv").exists()


def test_a_missing_python_is_named(bare: Path) -> None:
    result = make(bare, "PYTHON=./none", ".venv/installed")
    assert result.returncode != 0
    assert "./none was not found: install Python 3.11 or newer" in result.stdout


def test_a_second_call_installs_nothing_and_a_new_pin_does(bare: Path) -> None:
    # A stand-in for Python that makes an environment whose Python writes down what it is asked.
    executable(
        bare / "python",
        'if [ "$1" = -m ]; then mkdir -p .venv/bin; cp stand-in .venv/bin/python; fi',
    )
    executable(bare / "stand-in", 'echo "$@" >> asked')
    asked = bare / "asked"

    first = make(bare, "PYTHON=./python", ".venv/installed")
    assert first.returncode == 0, first.stderr
    once = asked.read_text()
    assert "--requirement requirements.txt" in once
    assert "--editable ." in once

    make(bare, "PYTHON=./python", ".venv/installed")
    assert asked.read_text() == once

    later = (bare / ".venv" / "installed").stat().st_mtime + 10
    os.utime(bare / "requirements.txt", (later, later))
    make(bare, "PYTHON=./python", ".venv/installed")
    assert asked.read_text() == once + once


def test_the_api_page_names_what_there_is() -> None:
    """The build would say so too, but minutes later."""
    page = (ROOT / "book" / "back" / "api.md").read_text(encoding="utf-8")
    rooms = re.findall(r"automodule:: (\S+)\n   :members:([^\n]*)", page)
    assert len(rooms) > 15
    for room, members in rooms:
        module = importlib.import_module(room)
        for name in filter(None, members.replace(" ", "").split(",")):
            assert getattr(module, name).__doc__, f"{room}.{name}"
