"""The six assignments: each master passes its own check, wrong answers fail, right ones pass.

The answers are kept in ``tests/coursework/NAME.yaml``. Exercises are independent, so case i of all
exercises is handed in as one submission. The machinery itself is tested in
``test_coursework_machinery.py``.
"""

from __future__ import annotations

import functools
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from lscgan.coursework import checking, judge, making
from lscgan.coursework.assignment import FILL, Assignment, cells_of, read_notebook, unpack

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "book" / "coursework" / "masters"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
FEWEST = {"wrong": 5, "right": 3}
LIMITS = checking.Limits(seconds=300)

Case = tuple[str, str, int]


@functools.cache
def made(name: str) -> making.Made:
    return making.make(FOLDER / f"{name}.ipynb")


@functools.cache
def assignment(name: str) -> Assignment:
    return unpack(made(name).pack, name)


@functools.cache
def answers(name: str) -> dict[str, Any]:
    text = (ROOT / "tests" / "coursework" / f"{name}.yaml").read_text(encoding="utf-8")
    exercises: dict[str, Any] = yaml.safe_load(text)["exercises"]
    return exercises


def cases(name: str) -> list[Case]:
    if not (ROOT / "tests" / "coursework" / f"{name}.yaml").is_file():
        return []
    return [
        (name, kind, number)
        for kind in FEWEST
        for number in range(max(len(exercise[kind]) for exercise in answers(name).values()))
    ]


def kept(case: Case) -> dict[str, dict[str, str]]:
    """The kept answers of a case, by exercise."""
    name, kind, number = case
    return {
        exercise: said[kind][number]
        for exercise, said in answers(name).items()
        if number < len(said[kind])
    }


def submission(case: Case) -> bytes:
    """The master's solution, with the kept answer of every exercise in its place."""
    notebook: dict[str, Any] = json.loads(made(case[0]).solution)
    sources = {
        answers(case[0])[exercise]["cell"]: one["source"] for exercise, one in kept(case).items()
    }
    for cell in notebook["cells"]:
        cell["source"] = sources.pop(cell["id"], cell["source"])
    assert not sources, f"no cell is called {list(sources)}"
    return json.dumps(notebook).encode()


@pytest.fixture(scope="session")
def results(request: pytest.FixtureRequest) -> dict[Case, checking.Result]:
    """The results of all cases that this session tests, run over the machine's cores."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    given = [getattr(item, "callspec", None) for item in items]
    chosen = list(
        dict.fromkeys(one.params["case"] for one in given if one and "case" in one.params)
    )
    against = {case: [assignment(case[0])] for case in chosen}

    def check(case: Case) -> checking.Result:
        return checking.check(str(case), submission(case), against[case], LIMITS)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(chosen, pool.map(check, chosen), strict=True))


each_assignment = pytest.mark.parametrize("name", NAMES)
each_case = pytest.mark.parametrize(
    "case",
    [case for name in NAMES for case in cases(name)],
    ids=lambda case: "-".join(map(str, case)),
)


@each_assignment
def test_the_student_notebook_is_what_the_master_gives(name: str) -> None:
    assert making.drift(FOLDER / f"{name}.ipynb") is None


@each_assignment
def test_a_master_earns_every_point(name: str) -> None:
    result = checking.check(name, made(name).solution.encode(), [assignment(name)], LIMITS)
    assert result.right, result
    assert result.points == result.of
    assert not result.notes
    assert all(answer.words for answer in result.answers)


@each_assignment
def test_an_untouched_notebook_earns_nothing(name: str) -> None:
    content = making.student_notebook(FOLDER / f"{name}.ipynb").read_bytes()
    result = checking.check(name, content, [assignment(name)], LIMITS)
    assert result.points == 0
    assert {one.said for one in result.exercises} == {FILL}
    assert all(answer.words == 0 for answer in result.answers)


@each_assignment
def test_a_gap_says_that_it_is_one(name: str) -> None:
    """Run as it is given: what a student cell raises is "fill this in", and nothing else."""
    cells = cells_of(read_notebook(making.student_notebook(FOLDER / f"{name}.ipynb")))
    given = checking.restored(assignment(name), cells, refused=())
    verdict = checking.judged(given, LIMITS)
    assert verdict["stopped"] is None
    for cell in assignment(name).with_role("student"):
        found = verdict["cells"][cell.id]
        assert found is None or found == {"said": FILL, "error": "NotImplementedError"}, cell.id
    for cell in assignment(name).with_role("locked"):
        if cell.code and cell.exercise is None:
            found = verdict["cells"][cell.id]
            assert found is None, f"the locked cell {cell.id} needs an exercise's answer: {found}"


@each_assignment
def test_what_students_should_see_is_what_the_master_shows(name: str) -> None:
    """The numbers beside a gap are still true, on this machine and with this library."""
    shown = cells_of(read_notebook(making.student_notebook(FOLDER / f"{name}.ipynb")))
    now = cells_of(json.loads(made(name).student))
    for ours, theirs in zip(shown, now, strict=True):
        if ours.id.endswith("-expected"):
            for one, other in zip(*map(words_of, (ours.source, theirs.source)), strict=True):
                assert judge.agree(one, other, 1e-3), ours.id


def words_of(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if "data:image" not in line]


@each_assignment
def test_students_get_no_solution_and_no_hidden_check(name: str) -> None:
    student = making.student_notebook(FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    for secret in secrets(name):
        assert json.dumps(secret, ensure_ascii=False)[1:-1] not in student, secret


def secrets(name: str) -> set[str]:
    """The lines of a master that only teachers may see, and what hidden checks print."""
    public: set[str] = set()
    private = {"BEGIN SOLUTION", "END SOLUTION"}
    for cell in cells_of(read_notebook(FOLDER / f"{name}.ipynb")):
        inside = False
        for line in map(str.strip, cell.source.splitlines()):
            inside = (inside or "BEGIN SOLUTION" in line) and "END SOLUTION" not in line
            is_secret = (inside and not line.startswith("# STUB")) or cell.role == "hidden"
            (private if is_secret else public).add(line)
        private |= set(cell.metadata.get("advice", {}).values())
    references = assignment(name).references
    assert references is not None
    for cell in assignment(name).with_role("hidden"):
        private |= set(references[cell.id].splitlines())
    for cell in assignment(name).with_role("check"):
        public |= set(references[cell.id].splitlines())
    seen = "\n".join(public)
    return {line for line in private if len(line) > 12 and line not in seen}


@each_assignment
def test_enough_answers_are_kept(name: str) -> None:
    for exercise in assignment(name).points():
        for kind, fewest in FEWEST.items():
            sources = [one["source"] for one in answers(name)[exercise][kind]]
            assert len(set(sources)) == len(sources)
            assert len(sources) >= fewest, f"exercise {exercise} has {len(sources)} {kind} answers"


@each_case
def test_kept_answers_are_judged_rightly(case: Case, results: dict[Case, checking.Result]) -> None:
    result = results[case]
    assert result.problem is None
    found = {one.name: one for one in result.exercises}
    for exercise, answer in kept(case).items():
        one = found[exercise]
        wanted = one.of if case[1] == "right" else 0
        assert one.points == wanted, f"{case[1]} answer {answer['name']!r}: {one.said}"


@each_case
def test_a_sentence_does_not_give_the_answer_away(
    case: Case, results: dict[Case, checking.Result]
) -> None:
    for one in results[case].exercises:
        for cell in assignment(case[0]).with_role("hidden"):
            printed = (assignment(case[0]).references or {})[cell.id]
            for values in judge.named_lines(printed).values():
                if cell.exercise == one.name and len(values[0]) > 4:
                    assert values[0] not in one.said
