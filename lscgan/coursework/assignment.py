"""An assignment: its cells and their roles, from a master, a student's notebook or a pack."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ROLES = ("locked", "student", "answer", "check", "hidden")
FILL = "fill this in"
"""What a gap says when it is run."""

KERNEL = {
    "colab": {"provenance": [], "toc_visible": True},
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
"""The metadata of every notebook of the book."""

RAISE = "raise NotImplementedError"
"""The code of a gap, which students replace: no work of ours that is left to do."""

SHOWN_TO_STUDENTS = ("role", "exercise", "points", "forbidden")

_SOLUTION = re.compile(
    r"^(?P<indent>[ \t]*)(?:# BEGIN SOLUTION|<!-- BEGIN SOLUTION -->)[ \t]*\n"
    r"(?P<body>.*?)"
    r"^[ \t]*(?:# END SOLUTION|<!-- END SOLUTION -->)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
_STUB = re.compile(r"\s*# STUB ?(?P<line>.*)")


@dataclass(frozen=True)
class Cell:
    """One cell: its id, whether it is code, its source, and the ``lscgan`` metadata of its role."""

    id: str
    code: bool
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        return str(self.metadata["role"])

    @property
    def exercise(self) -> str | None:
        return self.metadata.get("exercise")


@dataclass(frozen=True)
class Assignment:
    """What a submission is checked against.

    Args:
        name: the master's name, such as "02_modified_kl".
        cells: in order; a student cell's source has the gap that students are given.
        references: what the master's check and hidden cells print, by cell id; None where only
            the student's notebook is at hand, so that visible checks alone can be run.
        checksum: of all of this.
    """

    name: str
    cells: tuple[Cell, ...]
    references: dict[str, str] | None
    checksum: str

    def points(self) -> dict[str, float]:
        """The points of every exercise that has any, in the order of the notebook."""
        return {
            str(cell.exercise): cell.metadata["points"]
            for cell in self.cells
            if cell.role in ("check", "hidden")
        }

    def is_filled(self) -> bool:
        """Whether it was read from a student notebook whose gaps are not as they were given."""
        given = self.cells[0].metadata.get("gaps")
        return given is not None and given != _fingerprint_of_gaps(self.cells)

    def with_role(self, *roles: str) -> list[Cell]:
        return [cell for cell in self.cells if cell.role in roles]


def read_notebook(path: Path) -> dict[str, Any]:
    """A notebook's JSON.

    Raises:
        ValueError: the file is no notebook of format 4.
    """
    return parse_notebook(path.read_bytes(), str(path))


def parse_notebook(content: bytes, name: str) -> dict[str, Any]:
    """As `read_notebook`, from what a file holds; ``name`` is for the message."""
    try:
        notebook = json.loads(content)
        cells = notebook["cells"]
        whole = notebook["nbformat"] == 4 and all(
            cell["cell_type"] in ("code", "markdown", "raw") and isinstance(_joined(cell), str)
            for cell in cells
        )
    except (ValueError, TypeError, KeyError, RecursionError):
        whole = False
    if not whole:
        raise ValueError(f"{name} is no Jupyter notebook: hand in the .ipynb file as Jupyter saves")
    return notebook


def _joined(cell: dict[str, Any]) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def cells_of(notebook: dict[str, Any]) -> list[Cell]:
    """The cells of a notebook, whatever it is. Colab keeps a cell's id in its metadata.

    Where ids were lost, a cell goes by the name in its ``lscgan`` metadata.
    """
    found = []
    for cell in notebook["cells"]:
        metadata = cell.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        said, tags = metadata.get("lscgan"), metadata.get("tags")
        found.append(
            Cell(
                id=str(cell.get("id", metadata.get("id", ""))),
                code=cell["cell_type"] == "code",
                source=_joined(cell),
                metadata=said if isinstance(said, dict) else {},
                tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
            )
        )
    ids = {cell.id for cell in found}
    named = [(cell, str(cell.metadata.get("cell", cell.id))) for cell in found]
    return [cell if name in ids else replace(cell, id=name) for cell, name in named]


def checksum(*parts: Any) -> str:
    """A fingerprint of anything that JSON holds."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# From a master


def read_master(path: Path) -> tuple[Cell, ...]:
    """The cells of a master.

    Raises:
        ValueError: a cell breaks a rule of masters; the message names the cell and the rule.
    """
    cells = tuple(cells_of(read_notebook(path)))
    where = path.name
    seen: set[str] = set()
    points: dict[str, set[float]] = {}
    for cell in cells:
        here = f"{where}, cell {cell.id!r}"
        if not cell.id or cell.id in seen:
            raise ValueError(f"{here}: give every cell an id of its own")
        seen.add(cell.id)
        role = cell.metadata.get("role")
        if role not in ROLES:
            raise ValueError(f"{here}: its role is {role!r}: write one of {', '.join(ROLES)}")
        if role in ("student", "check", "hidden") and not (cell.code and cell.exercise):
            raise ValueError(f"{here}: a {role} cell is code and names its exercise")
        if role == "answer" and cell.code:
            raise ValueError(f"{here}: an answer is a markdown cell")
        if role in ("check", "hidden"):
            if not isinstance(cell.metadata.get("points"), int | float):
                raise ValueError(f"{here}: write the exercise's points")
            points.setdefault(str(cell.exercise), set()).add(cell.metadata["points"])
        if role in ("student", "answer"):
            with_gaps(cell, here)
        elif "BEGIN SOLUTION" in cell.source:
            raise ValueError(f"{here}: a solution stands in student and answer cells only")
    for exercise, given in points.items():
        of = [cell.role for cell in cells if cell.exercise == exercise]
        if len(given) > 1:
            raise ValueError(
                f"{where}: the checks of exercise {exercise} name the points {sorted(given)}:"
                " write the whole exercise's points at each"
            )
        if "hidden" not in of or "student" not in of:
            raise ValueError(
                f"{where}: exercise {exercise} has points: it needs a student and a hidden cell"
            )
    return cells


def with_gaps(cell: Cell, here: str) -> Cell:
    """A student or answer cell as students get it: each solution became a gap.

    Raises:
        ValueError: no solution, or one that is not closed.
    """

    def gap(solution: re.Match[str]) -> str:
        stubs = itertools.takewhile(bool, map(_STUB.fullmatch, solution["body"].splitlines()))
        shown = [found["line"] for found in stubs if found]
        if not cell.code:
            shown = [f"*({FILL})*"]
        return "\n".join(solution["indent"] + line for line in shown or [f'{RAISE}("{FILL}")'])

    source, gaps = _SOLUTION.subn(gap, cell.source)
    if not gaps or re.search("(BEGIN|END) SOLUTION", source):
        raise ValueError(f"{here}: put solutions between BEGIN SOLUTION and END SOLUTION")
    return replace(cell, source=source)


def for_students(cells: Iterable[Cell], expected: dict[str, str]) -> list[Cell]:
    """What students get: gaps, no hidden check, and beside a check what it should show.

    Args:
        cells: of the master.
        expected: Markdown of what a cell shows, by the ids of cells that are marked ``expected``.
    """
    cells = tuple(cells)
    given = []
    for cell in cells:
        if cell.role == "hidden":
            continue
        if cell.metadata.get("expected"):
            about = {"role": "locked"} | (
                {"exercise": cell.exercise} if cell.exercise is not None else {}
            )
            given.append(Cell(expected_id(cell), False, expected[cell.id], about))
        if cell.role in ("student", "answer"):
            cell = with_gaps(cell, cell.id)
        shown = {key: cell.metadata[key] for key in SHOWN_TO_STUDENTS if key in cell.metadata}
        if cell.role in ("student", "answer"):
            shown["cell"] = cell.id  # stays where the id itself is lost
        given.append(replace(cell, metadata=shown))
    # Whether the expected output belongs to the master as it is now.
    given[0].metadata["master"] = fingerprint(cells)
    # Whether the gaps are as they were given.
    given[0].metadata["gaps"] = _fingerprint_of_gaps(given)
    return given


def expected_id(cell: Cell) -> str:
    return f"{cell.id}-expected"


def fingerprint(cells: Iterable[Cell]) -> str:
    """Of a master's cells: changes whenever any of them does."""
    return checksum([[cell.id, cell.code, cell.source, cell.metadata] for cell in cells])[:16]


def _fingerprint_of_gaps(cells: Iterable[Cell]) -> str:
    return checksum([[c.id, c.source.strip()] for c in cells if c.role == "student"])[:16]


def expected_text(assignment: Assignment, check: Cell) -> str | None:
    """What a student notebook says that a check should print, or None."""
    for cell in assignment.cells:
        if cell.id == expected_id(check) and (
            found := re.search(r"^```text\n(.*?)\n```$", cell.source, re.MULTILINE | re.DOTALL)
        ):
            return found[1]
    return None


# Where a check finds its assignments


def of_student_notebook(path: Path) -> Assignment:
    """The assignment as its student notebook tells it: without references and hidden checks.

    Raises:
        ValueError: the file is no student notebook.
    """
    cells = tuple(cells_of(read_notebook(path)))
    if not cells or any(cell.metadata.get("role") not in ROLES for cell in cells):
        raise ValueError(f"{path} is no student notebook of this coursework")
    return Assignment(path.stem, cells, None, checksum([asdict(cell) for cell in cells]))


def pack(name: str, cells: Iterable[Cell], references: dict[str, str]) -> str:
    """A teacher's pack of one assignment as text: its cells with gaps, hidden checks, references.

    Args:
        name: of the assignment.
        cells: of the master.
        references: what its check and hidden cells print.
    """
    content = {
        "assignment": name,
        "cells": [
            asdict(with_gaps(cell, cell.id) if cell.role in ("student", "answer") else cell)
            for cell in cells
        ],
        "references": references,
    }
    return json.dumps({"checksum": checksum(content), **content}, indent=1, ensure_ascii=False)


def unpack(text: str, source: str) -> Assignment:
    """Read what `pack` wrote; ``source`` is for the message.

    Raises:
        ValueError: the text is no pack, or is not as it was written.
    """
    try:
        content = json.loads(text)
        said = content.pop("checksum")
        cells = tuple(Cell(**{**cell, "tags": tuple(cell["tags"])}) for cell in content["cells"])
        assignment = Assignment(content["assignment"], cells, content["references"], said)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{source} is no teacher's pack: make one with `make --pack`") from None
    if checksum(content) != said:
        raise ValueError(f"{source} is damaged: make the pack again with `make --pack`")
    return assignment
