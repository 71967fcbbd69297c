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

import lscgan
from lscgan.coursework import judge
from lscgan.coursework.assignment import (
    FILL,
    Assignment,
    Cell,
    cells_of,
    checksum,
    expected_text,
    of_student_notebook,
    parse_notebook,
    unpack,
)

LIBRARY = Path(__file__).resolve().parents[2]
LARGEST = 20 * 2**20
"""Bytes of a submission without its outputs."""

LARGEST_FILE = 5 * LARGEST
"""Bytes of a submission that are read."""

LONGEST_CELL = 20_000
"""Characters of a cell that is read."""

MOST_MAGICS = 20
"""Magics of a cell: IPython reads a cell anew for each."""

_GRACE = 60.0  # seconds the judge has beyond the limit, to start and to end
_STARTING = threading.Lock()
_JUDGES: set[int] = set()
"""Processes that judge; changed under ``_STARTING``, so that none is taken for an orphan."""

_EARLIER: set[int] = set()
"""Children that this process had before the first of these judges: whoever calls may have some."""

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
        settled: False where a limit or a fault of the machine had a say: another run may differ.
    """

    submission: str
    key: str
    assignment: str | None = None
    problem: str | None = None
    exercises: tuple[Exercise, ...] = ()
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()
    settled: bool = True

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
            said.get("settled", False),  # of an older version: is run again
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
    refused: dict[str, str] = {}
    usable: list[tuple[Cell, str]] = []
    for cell in assignment.with_role("student"):
        found = [other for other in theirs if other.id == cell.id]
        if said := _unusable(cell, found):
            refused.setdefault(str(cell.exercise), said)
        else:
            usable.append((cell, found[0].source))
    locked = [cell.source for cell in assignment.with_role("locked") if cell.code]
    names = imports([*locked, *(source for _, source in usable)])
    for cell, source in usable:
        if used := forbidden(source, cell.metadata.get("forbidden", ()), names):
            said = f"the cell {cell.id} uses {used}: write it yourself here"
            refused.setdefault(str(cell.exercise), said)
    return refused


def _unusable(cell: Cell, found: list[Cell]) -> str | None:
    """Why what was handed in for a student cell cannot be run, or None."""
    if not found:
        return f"the cell {cell.id} is missing: copy your answer into a fresh notebook"
    if len(found) > 1:
        return f"{len(found)} cells are called {cell.id}: keep one of them"
    source = found[0].source
    if not found[0].code:
        return f"the cell {cell.id} is no code cell any more: make it one"
    if source.strip() == cell.source.strip():
        return FILL
    if len(source) > LONGEST_CELL:
        return f"the cell {cell.id} is longer than {LONGEST_CELL} characters: shorten it"
    if bad := re.search("[\ud800-\udfff]", source):
        line = source.count("\n", 0, bad.start()) + 1
        return f"the cell {cell.id} has a broken character in line {line}: type that line anew"
    if re.search(r"^[ \t]*%%", source, re.MULTILINE):
        return f"the cell {cell.id} has a cell magic (%%): write plain Python"
    try:
        _tree(source)
    except _TooManyMagics:
        return f"the cell {cell.id} has more than {MOST_MAGICS} magics (%): write plain Python"
    return None


class _TooManyMagics(Exception):
    pass


class _Transformer(TransformerManager):
    """IPython's reading of a cell, with fewer rounds: each round reads the whole cell."""

    def do_token_transforms(self, lines: list[str]) -> list[str]:
        for _ in range(MOST_MAGICS + 1):
            changed, lines = self.do_one_token_transform(lines)
            if not changed:
                return lines
        raise _TooManyMagics


def _tree(source: str) -> ast.Module | None:
    """A cell as Python; None where it is none, which the kernel will say better.

    Raises:
        _TooManyMagics: it would take long to read.
    """
    try:
        with _PARSING:
            return ast.parse(_Transformer().transform_cell(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def imports(sources: Iterable[str]) -> dict[str, str]:
    """What names of the cells stand for, such as ``{"F": "torch.nn.functional"}``.

    A name is known from its import, or from ``name = known.name``.
    """
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
            elif isinstance(node, ast.Assign) and (dotted := _dotted(node.value, names)):
                for target in node.targets:
                    if isinstance(target, ast.Name):
                        names[target.id] = dotted
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
    own = _own_names(tree)
    for used in _used(tree, {k: v for k, v in names.items() if k not in own}, own):
        for entry in entries:
            inside = used == entry or used.startswith(entry + ".")
            if inside or ("." not in entry and entry in used.split(".")):
                return entry
    return None


def _own_names(tree: ast.Module) -> set[str]:
    """The names that a cell defines; ``name = name`` defines none, nor ``def f(name=name)``."""
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = {one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg)}
            own |= arguments - _names_in(ast.Load, node.args)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.withitem):
            own |= _names_in(ast.Store, node) - _names_in(ast.Load, node)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            own |= _names_in(ast.Store, node.target) - _names_in(ast.Load, node.iter)
    return own


def _names_in(context: type[ast.expr_context], code: ast.AST) -> set[str]:
    """The names that a piece of code stores, or those that it loads."""
    return {
        one.id
        for one in ast.walk(code)
        if isinstance(one, ast.Name) and isinstance(one.ctx, context)
    }


def _dotted(node: ast.AST, names: dict[str, str]) -> str | None:
    """``a.b.c`` as a text, with what ``a`` stands for; None where it is something else."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([names.get(node.id, node.id), *reversed(parts)])


def _used(tree: ast.Module, names: dict[str, str], own: set[str]) -> Iterator[str]:
    """The dotted names a cell uses: imported, reached by attributes, or written as a text.

    A docstring, and a text with spaces, names nothing.
    """
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in prose and not re.search(r"\s", node.value):
                yield node.value
        elif isinstance(node, ast.Name) and node.id not in own:
            yield names.get(node.id, node.id)
        elif isinstance(node, ast.Attribute):
            yield _dotted(node, names) or node.attr


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
    references = assignment.references
    return [
        {
            "id": cell.id,
            "source": theirs[cell.id] if cell.role == "student" else cell.source,
            "reference": (
                expected_text(assignment, cell) if references is None else references.get(cell.id)
            ),
            "tolerance": (
                None if references is None else cell.metadata.get("tolerance", judge.TOLERANCE)
            ),
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
        text = theirs.get(cell.id, "")[:LONGEST_CELL]
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
        with _started_judge(place, home) as process:
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
                process.wait()
                with _STARTING:
                    _JUDGES.discard(process.pid)
                    judge.kill_all(_orphans)
                _end_all_of(home)
        return verdict


def _started_judge(place: str, home: Path) -> subprocess.Popen[bytes]:
    judge.adopt_orphans()
    with _STARTING:
        if not _JUDGES:
            _EARLIER.clear()
            _EARLIER.update(child.pid for child in psutil.Process().children())
        process = subprocess.Popen(
            [sys.executable, "-P", str(judge.__file__)],
            cwd=place,
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _JUDGES.add(process.pid)
    return process


def _orphans() -> list[psutil.Process]:
    """Processes of a run whose judge ended before them (Linux): they became children of this one.

    A judge has a session of its own, which no process below it can leave for ours.
    """
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if child.pid not in _JUDGES | _EARLIER and os.getsid(child.pid) != os.getsid(0):
                found += [child, *child.children(recursive=True)]
    return found


def _end_all_of(home: Path) -> None:
    """End whatever still runs with this home folder, where no orphans are adopted."""
    for other in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if other.environ().get("HOME") == str(home):
                other.kill()


def judged_alone(
    assignment: Assignment, submitted: list[Cell], refused: dict[str, str], limits: Limits
) -> tuple[dict[str, Any], dict[str, str], bool]:
    """Run a submission; an exercise that ends the kernel is left out, and the rest run again.

    Args:
        assignment: what is checked against.
        submitted: the student's cells.
        refused: a sentence for each exercise that is not run.
        limits: of each run.

    Returns:
        the last verdict; ``refused`` with the exercises that ended the kernel; and whether every
        run came to its end.
    """
    refused, settled = dict(refused), True
    exercises = {cell.id: cell.exercise for cell in assignment.cells}
    while True:
        verdict = judged(restored(assignment, submitted, refused), limits)
        said = verdict["cells"].items()
        ended = next((name for name, one in said if one and one["error"] == "ended"), None)
        settled = settled and ended is None and verdict["stopped"] is None
        exercise = exercises[ended] if ended else None
        if ended is None or exercise is None or exercise in refused:
            return verdict, refused, settled
        refused[exercise] = f"{verdict['stopped'] or 'the kernel ended'} in the cell {ended}"
        if refused.keys() >= assignment.points().keys():
            return verdict, refused, settled


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
    limits = limits or Limits()
    result = Result(submission, key(content, among, limits))
    try:
        if len(content) > LARGEST:
            raise ValueError(
                f"{submission} is larger than {LARGEST // 2**20} MB: clear its outputs"
            )
        submitted = cells_of(parse_notebook(content, submission))
        assignment = answered(submitted, among)
        if assignment is None:
            raise ValueError(f"{submission} holds no cell of {', '.join(a.name for a in among)}")
        if assignment.is_filled():
            raise ValueError(
                f"{assignment.name}.ipynb, which your answers are compared with, is not empty any"
                " more: move your work to another folder, and bring the empty notebook back"
            )
    except ValueError as error:
        return replace(result, problem=judge.one_line(str(error)))
    refused = refusals(assignment, submitted)
    verdict, refused, settled = judged_alone(assignment, submitted, refused, limits)
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
            if cell.code and cell.exercise is None and _failed(cell, verdict)
        ),
        settled=settled,
    )


def _failed(cell: Cell, verdict: dict[str, Any]) -> bool:
    found = verdict["cells"].get(cell.id)
    return found is not None and found["error"] != "not reached"


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


def key(content: bytes, among: Iterable[Assignment], limits: Limits) -> str:
    """Changes when the submission does, or what it is checked against, by what, or how long."""
    against = [one.checksum for one in among]
    handed_in = hashlib.sha256(content).hexdigest()
    return checksum(handed_in, against, asdict(limits), lscgan.__version__)[:16]


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
    """What a file holds; nothing where it cannot be read.

    A large one comes without its outputs, and no more of it than one byte too much.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError:
        return b""
    if len(content) > LARGEST:
        with contextlib.suppress(ValueError):
            content = _without_outputs(parse_notebook(content, path.name))
    return content[: LARGEST + 1]


def _without_outputs(notebook: dict[str, Any]) -> bytes:
    for cell in notebook["cells"]:
        cell.pop("outputs", None)
    return json.dumps(notebook).encode()


def _check_safely(
    submission: str, content: bytes, among: list[Assignment], limits: Limits
) -> Result:
    """As `check`; a submission that meets a fault of ours costs only itself too."""
    try:
        return check(submission, content, among, limits)
    except Exception as error:
        problem = judge.one_line(f"could not be checked: {type(error).__name__}: {error}")
        return Result(submission, key(content, among, limits), problem=problem, settled=False)


def counted(results: Iterable[Result], among: Iterable[Assignment]) -> list[Result]:
    """The results, where a submission that could not be checked counts in full.

    It gets no point of the assignment that the others answer, or the only one there is. Where
    there are several, nobody knows which one it would be.
    """
    results, known = list(results), {one.name: one for one in among}
    names = {one.assignment for one in results if not one.problem} or set(known)
    if len(names) != 1:
        return results
    (name,) = names
    return [
        replace(
            one,
            assignment=name,
            exercises=tuple(
                Exercise(exercise, 0, of, False, one.problem)
                for exercise, of in known[str(name)].points().items()
            ),
        )
        if one.problem
        else one
        for one in results
    ]


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
        known: results of an earlier call; a submission that has not changed is not run again,
            unless a limit or a fault of the machine had a say.
        keep: is given all results so far whenever there is a new one.
        limits: of each run.
        jobs: how many at a time.
    """
    limits = limits or Limits()
    before = {(result.submission, result.key): result for result in known if result.settled}
    done: dict[str, Result] = {}
    for name, content in handed_in.items():
        if found := before.get((name, key(content, among, limits))):
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
