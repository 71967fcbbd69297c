"""Restore a submission, have it judged, and give points."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import matplotlib
import psutil
from IPython.core.inputtransformer2 import TransformerManager

from lscgan.coursework import judge
from lscgan.coursework.assignment import (
    FILL,
    Assignment,
    Cell,
    cells_of,
    checksum,
    of_student_notebook,
    parse_notebook,
    unpack,
)

LIBRARY = Path(__file__).resolve().parents[2]
LARGEST = 20 * 2**20
"""Bytes of a submission that is read."""

_GRACE = 60.0  # seconds the judge has beyond the limit, to start and to end
_PARSING = threading.Lock()
"""Python 3.11 counts the recursion of all parsing threads together, and fails when two parse."""

_PASSED_ON = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TZ")


@dataclass(frozen=True)
class Limits:
    """What one submission may use.

    Args:
        seconds: of the whole run, by the clock.
        memory: resident memory of all its processes together, in MB.
        processes: how many at once.
    """

    seconds: float = 120.0
    memory: float = 4096.0
    processes: int = 32


@dataclass(frozen=True)
class Exercise:
    """The verdict on one exercise: ``points`` is None where only visible checks were run."""

    name: str
    points: float | None
    of: float
    passed: bool
    said: str


@dataclass(frozen=True)
class Answer:
    """A short text answer, for the teacher to read."""

    cell: str
    words: int
    text: str


@dataclass(frozen=True)
class Result:
    """What is known of one submission.

    Args:
        submission: its file's name.
        key: of its content and of what it was checked against.
        assignment: the name, or None where the file answers none.
        problem: what kept the whole submission from being checked, or None.
        notes: locked cells that failed.
    """

    submission: str
    key: str
    assignment: str | None = None
    problem: str | None = None
    exercises: tuple[Exercise, ...] = ()
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def points(self) -> float:
        return sum(exercise.points or 0 for exercise in self.exercises)

    @property
    def of(self) -> float:
        return sum(exercise.of for exercise in self.exercises)

    @property
    def right(self) -> bool:
        return self.problem is None and all(exercise.passed for exercise in self.exercises)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "points": self.points, "of": self.of, "right": self.right}

    @staticmethod
    def from_json(said: dict[str, Any]) -> Result:
        return Result(
            said["submission"],
            said["key"],
            said["assignment"],
            said["problem"],
            tuple(Exercise(**exercise) for exercise in said["exercises"]),
            tuple(Answer(**answer) for answer in said["answers"]),
            tuple(said["notes"]),
        )


# What a submission is checked against


def assignments(hidden: str | None, against: Path) -> list[Assignment]:
    """The assignments of a teacher's pack; without one, those of the student notebooks.

    Args:
        hidden: a pack's folder or one file of it; "-" reads one file from standard input, so that
            no code that runs here can find it on the disk.
        against: a student notebook, or a folder of them, used where ``hidden`` is None.

    Raises:
        ValueError: nothing is found there, or a pack is damaged.
    """
    if hidden == "-":
        return [unpack(sys.stdin.read(), "the standard input")]
    place = against if hidden is None else Path(hidden)
    files = sorted(place.glob("*.ipynb" if hidden is None else "*.json"))
    files = files if place.is_dir() else [place] if place.is_file() else []
    if not files and hidden is None:
        raise ValueError(f"{place} holds no student notebook: name one with --against")
    if not files:
        raise ValueError(f"{place} holds no teacher's pack: make one with `make --pack`")
    if hidden is None:
        return [of_student_notebook(file) for file in files]
    return [unpack(file.read_text(encoding="utf-8"), str(file)) for file in files]


def answered(cells: Iterable[Cell], among: Iterable[Assignment]) -> Assignment | None:
    """The assignment whose student and answer cells the notebook holds most of."""
    ids = {cell.id for cell in cells}
    best = max(among, key=lambda one: len(ids & _own_ids(one)))
    return best if ids & _own_ids(best) else None


def _own_ids(assignment: Assignment) -> set[str]:
    return {cell.id for cell in assignment.with_role("student", "answer")}


# Restoring


def refusals(assignment: Assignment, submitted: Iterable[Cell]) -> dict[str, str]:
    """Why an exercise is not run at all: a sentence, by exercise."""
    theirs = list(submitted)
    names = imports(cell.source for cell in (*assignment.cells, *theirs) if cell.code)
    refused: dict[str, str] = {}
    for cell in assignment.with_role("student"):
        found = [other for other in theirs if other.id == cell.id]
        said = None
        if not found:
            said = f"the cell {cell.id} is missing: copy your answer into a fresh notebook"
        elif len(found) > 1:
            said = f"{len(found)} cells are called {cell.id}: keep one of them"
        elif not found[0].code:
            said = f"the cell {cell.id} is no code cell any more: make it one"
        elif found[0].source.strip() == cell.source.strip():
            said = FILL
        elif re.search(r"^\s*%%", found[0].source, re.MULTILINE):
            said = f"the cell {cell.id} has a cell magic (%%): write plain Python"
        elif used := forbidden(found[0].source, cell.metadata.get("forbidden", ()), names):
            said = f"the cell {cell.id} uses {used}: write it yourself here"
        if said:
            refused.setdefault(str(cell.exercise), said)
    return refused


def _tree(source: str) -> ast.Module | None:
    """A cell as Python; None where it is none, which the kernel will say better."""
    try:
        with _PARSING:
            return ast.parse(TransformerManager().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imports(sources: Iterable[str]) -> dict[str, str]:
    """What the names that the cells import stand for, such as ``{"F": "torch.nn.functional"}``."""
    names: dict[str, str] = {}
    for tree in filter(None, map(_tree, sources)):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    first = alias.name.partition(".")[0]
                    names[alias.asname or first] = alias.name if alias.asname else first
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def forbidden(source: str, entries: Iterable[str], names: dict[str, str]) -> str | None:
    """The first forbidden name that a cell uses, or None.

    Args:
        source: of the cell.
        entries: a dotted name stands for itself and all below it; one without a dot for every use
            of that identifier.
        names: what imported names stand for.
    """
    entries, tree = tuple(entries), _tree(source)
    if tree is None or not entries:
        return None
    own = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    } | {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    } | {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}  # fmt: skip
    for used in _used(tree, {k: v for k, v in names.items() if k not in own}, own):
        for entry in entries:
            inside = used == entry or used.startswith(entry + ".")
            if inside or ("." not in entry and entry in used.split(".")):
                return entry
    return None


def _used(tree: ast.Module, names: dict[str, str], own: set[str]) -> Iterator[str]:
    """The dotted names a cell uses: imported, reached by attributes, or written as a text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id not in own:
            yield names.get(node.id, node.id)
        elif isinstance(node, ast.Attribute):
            parts = [node.attr]
            base = node.value
            while isinstance(base, ast.Attribute):
                parts.append(base.attr)
                base = base.value
            if isinstance(base, ast.Name):
                parts.append(names.get(base.id, base.id))
            yield ".".join(reversed(parts))


def restored(
    assignment: Assignment, submitted: Iterable[Cell], refused: Iterable[str]
) -> list[dict[str, Any]]:
    """The cells that are run, in the assignment's order: ours, and the student's in their gaps.

    Args:
        assignment: what is checked against.
        submitted: the student's cells.
        refused: exercises that are left out.
    """
    theirs = {cell.id: cell.source for cell in submitted}
    refused = set(refused)
    references = assignment.references or {}
    return [
        {
            "id": cell.id,
            "source": theirs[cell.id] if cell.role == "student" else cell.source,
            "reference": references.get(cell.id),
            "tolerance": cell.metadata.get("tolerance", judge.TOLERANCE),
            "advice": cell.metadata.get("advice", {}),
        }
        for cell in assignment.cells
        if cell.code and (cell.role == "locked" or cell.exercise not in refused)
    ]


def text_answers(assignment: Assignment, submitted: Iterable[Cell]) -> tuple[Answer, ...]:
    """The student's text answers; one left as it was given has no words."""
    theirs = {cell.id: cell.source for cell in submitted}
    found = []
    for cell in assignment.with_role("answer"):
        text = theirs.get(cell.id, "")
        given = set(cell.source.splitlines())
        text = re.sub("<!--.*?-->", "", text, flags=re.DOTALL)
        text = "\n".join(line for line in text.splitlines() if line not in given).strip()
        found.append(Answer(cell.id, len(text.split()), text))
    return tuple(found)


# Judging


def environment(home: Path) -> dict[str, str]:
    """What the judge and its kernel see of the machine's variables: little, and no secrets."""
    kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    path = os.pathsep.join(filter(None, [str(LIBRARY), kept.get("PYTHONPATH")]))
    return kept | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "PYTHONPATH": path,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
    }


def judged(cells: list[dict[str, Any]], limits: Limits) -> dict[str, Any]:
    """Run cells in a process and a folder of their own.

    Returns:
        ``{"cells": {id: None or {"said", "error"}}, "stopped": None or a sentence}``
    """
    with tempfile.TemporaryDirectory(prefix="lscgan-", ignore_cleanup_errors=True) as place:
        home, folder = Path(place, "home"), Path(place, "work")
        (home / "matplotlib").mkdir(parents=True)
        folder.mkdir()
        for fonts in Path(matplotlib.get_cachedir()).glob("fontlist*.json"):
            shutil.copy(fonts, home / "matplotlib")  # else each run spends seconds on its own
        job = {"nonce": secrets.token_hex(), "folder": str(folder), "cells": cells}
        with subprocess.Popen(
            [sys.executable, "-P", str(judge.__file__)],
            cwd=place,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        ) as process:
            try:
                text = json.dumps(job | asdict(limits)).encode()
                said, _ = process.communicate(text, limits.seconds + _GRACE)
                verdict: dict[str, Any] = json.loads(said)
                if process.returncode or verdict["nonce"] != job["nonce"]:
                    raise ValueError
            except (ValueError, TypeError, KeyError, subprocess.TimeoutExpired):
                said_of_it = "the run ended its judge, or kept it from ending"
                verdict = {"cells": {}, "stopped": said_of_it}
            finally:
                process.kill()
                _end_all_of(home)
        return verdict


def _end_all_of(home: Path) -> None:
    """End whatever still runs with this home folder: a run may have ended its judge."""
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.environ().get("HOME") == str(home):
                other.kill()


def check(
    submission: str, content: bytes, among: list[Assignment], limits: Limits | None = None
) -> Result:
    """Check one submission.

    Args:
        submission: its name.
        content: of its file.
        among: the assignments it may answer.
        limits: of its run.
    """
    result = Result(submission, key(content, among))
    try:
        if len(content) > LARGEST:
            raise ValueError(
                f"{submission} is larger than {LARGEST // 2**20} MB: clear its outputs"
            )
        submitted = cells_of(parse_notebook(content, submission))
        assignment = answered(submitted, among)
        if assignment is None:
            raise ValueError(f"{submission} holds no cell of {', '.join(a.name for a in among)}")
    except ValueError as error:
        return replace(result, problem=judge.one_line(str(error)))
    refused = refusals(assignment, submitted)
    verdict = judged(restored(assignment, submitted, refused), limits or Limits())
    return replace(
        result,
        assignment=assignment.name,
        exercises=tuple(
            _exercise(assignment, name, of, refused.get(name), verdict)
            for name, of in assignment.points().items()
        ),
        answers=text_answers(assignment, submitted),
        notes=tuple(
            f"the locked cell {cell.id} failed: {_sentence(cell, verdict)}"
            for cell in assignment.with_role("locked")
            if cell.code and cell.exercise is None and _sentence(cell, verdict)
        ),
    )


def _sentence(cell: Cell, verdict: dict[str, Any]) -> str | None:
    """What was wrong with a cell, or None."""
    found = verdict["cells"].get(cell.id, {"said": "was not run", "error": "not reached"})
    if found is None:
        return None
    if found["error"] in ("ended", "not reached"):
        where = next((k for k, v in verdict["cells"].items() if v and v["error"] == "ended"), None)
        reason = verdict["stopped"] or "the kernel ended"
        return f"{reason} in the cell {where}" if where else str(reason)
    return str(found["said"])


def _exercise(
    assignment: Assignment, name: str, of: float, refused: str | None, verdict: dict[str, Any]
) -> Exercise:
    of_it = [cell for cell in assignment.cells if cell.exercise == name]
    judged_cells = [cell for cell in of_it if cell.role in ("student", "check", "hidden")]
    said = refused or next(filter(None, (_sentence(cell, verdict) for cell in judged_cells)), None)
    if said:
        return Exercise(name, 0, of, False, said)
    if assignment.references is None:
        return Exercise(name, None, of, True, "right as far as visible checks only can tell")
    return Exercise(name, of, of, True, "right")


# Many submissions


def key(content: bytes, among: Iterable[Assignment]) -> str:
    """Changes when the submission does, or what it is checked against."""
    return checksum(hashlib.sha256(content).hexdigest(), [one.checksum for one in among])[:16]


def submissions(folder: Path) -> dict[str, bytes]:
    """The files handed in, by their path below ``folder``: all are read before any is run."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            shown = (c if c.isprintable() else ascii(c)[1:-1] for c in name.as_posix())
            found["".join(shown)] = read(path)
    return found


def read(path: Path) -> bytes:
    """What a file holds, no more than one byte too much; nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except OSError:
        return b""


def _check_safely(
    submission: str, content: bytes, among: list[Assignment], limits: Limits | None
) -> Result:
    """As `check`; a submission that meets a fault of ours costs only itself too."""
    try:
        return check(submission, content, among, limits)
    except Exception as error:
        problem = judge.one_line(f"could not be checked: {type(error).__name__}: {error}")
        return Result(submission, key(content, among), problem=problem)


def check_all(
    handed_in: dict[str, bytes],
    among: list[Assignment],
    known: Iterable[Result],
    keep: Callable[[list[Result]], None],
    limits: Limits | None = None,
    jobs: int = 1,
) -> Iterator[Result]:
    """Check many submissions, several at a time; yields each result as it is ready.

    Args:
        handed_in: what `submissions` read.
        among: the assignments they may answer.
        known: results of an earlier call; a submission that has not changed is not run again.
        keep: is given all results so far whenever there is a new one.
        limits: of each run.
        jobs: how many at a time.
    """
    before = {(result.submission, result.key): result for result in known}
    done: dict[str, Result] = {}
    for name, content in handed_in.items():
        if found := before.get((name, key(content, among))):
            done[name] = found
            yield found
    keep([done[name] for name in handed_in if name in done])
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            pool.submit(_check_safely, name, content, among, limits)
            for name, content in handed_in.items()
            if name not in done
        ]
        try:
            for future in as_completed(waiting):
                result = future.result()
                done[result.submission] = result
                keep([done[name] for name in handed_in if name in done])
                yield result
        finally:
            for future in waiting:
                future.cancel()
