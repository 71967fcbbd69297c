"""The library's floors: a room imports only from floors below it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parents[1] / "lscgan"

# From the ground up. Rooms of one floor do not import each other.
FLOORS = (
    {"files"},
    {"latent", "objectives", "weights"},
    {"networks"},
    {"data"},
    {"figures"},
    {"models"},
    {"training"},
    {"evaluation"},
    {"hub"},
    {"coursework"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = sorted(
    path.stem
    for path in LIBRARY.iterdir()
    if (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()
)


def imported_rooms(source: str, package: str, rooms: set[str]) -> set[str]:
    """The rooms that a module of ``package`` imports, wherever in the module it does so."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            base = ".".join(parents[: len(parents) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            first, _, rest = name.partition(".")
            if first == "lscgan" and rest.partition(".")[0] in rooms:
                found.add(rest.partition(".")[0])
    return found


def modules(room: str) -> list[Path]:
    single = LIBRARY / f"{room}.py"
    return [single] if single.is_file() else sorted((LIBRARY / room).rglob("*.py"))


def test_every_room_has_its_floor() -> None:
    assert set(ROOMS) == set(FLOOR_OF), "name each room of lscgan/ in FLOORS, and only those"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_floors_below(room: str) -> None:
    for module in modules(room):
        package = ".".join(("lscgan", *module.relative_to(LIBRARY).parent.parts))
        for other in imported_rooms(module.read_text(encoding="utf-8"), package, set(FLOOR_OF)):
            assert other == room or FLOOR_OF[other] < FLOOR_OF[room], (
                f"{module.relative_to(LIBRARY)} belongs to {room!r}, which may not import {other!r}"
            )


@pytest.mark.parametrize(
    ("source", "package"),
    [
        ("import lscgan.hub", "lscgan"),
        ("import lscgan.hub as h", "lscgan.data"),
        ("from lscgan import hub, __version__", "lscgan"),
        ("from lscgan.hub import load", "lscgan.models"),
        ("from . import hub", "lscgan"),
        ("from .hub import load", "lscgan"),
        ("from ..hub import load", "lscgan.data"),
        ("def late():\n    from lscgan.hub import load", "lscgan"),
    ],
)
def test_every_way_to_import_a_room_is_seen(source: str, package: str) -> None:
    assert imported_rooms(source, package, set(FLOOR_OF)) == {"hub"}


def test_what_is_no_room_is_not_mistaken_for_one() -> None:
    source = "import torch.hub\nfrom lscgan import __version__\nfrom .loop import train"
    assert imported_rooms(source, "lscgan.training", set(FLOOR_OF)) == {"training"}


def test_the_library_does_without_the_tools_of_the_book() -> None:
    """The library needs what pyproject.toml names, and nothing of the book's own tools."""
    tools = {"IPython", "nbformat", "nbclient", "papermill", "playwright", "pytest"}
    for module in LIBRARY.rglob("*.py"):
        if module.parent.name == "coursework":  # its tools are an extra; a sentence asks for it
            continue
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            needed = {name.partition(".")[0] for name in names} & tools
            assert not needed, f"{module.name} imports {needed}, which users do not install"
