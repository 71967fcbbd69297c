"""The coursework's machinery: deriving notebooks, and a check that attempts to fool do not fool.

All on a tiny assignment made here, without torch, so that a run takes a few seconds.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import dataclasses
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import psutil
import pytest
from test_repository import ROOT, notebooks

import lscgan.coursework
from lscgan.coursework import checking, judge, making, reports
from lscgan.coursework.__main__ import main
from lscgan.coursework.assignment import (
    FILL,
    Assignment,
    cells_of,
    read_master,
    read_notebook,
    unpack,
)
from lscgan.coursework.checking import Limits, Result

HIDDEN_AREA = "6.605198"  # pi 1.45^2, which only the hidden check prints
SECRET_COMMENT = "# the radius of the hidden check"
ADVICE = "The radius enters twice."
RIGHT = "def area(r):\n    return math.pi * r**2"
WRONG = "def area(r):\n    return r"
FLAT = "def area(r):\n    return 1.0"
MASTER: list[tuple[str, str, str, dict[str, Any]]] = [
    ("markdown", "t-title", "# A tiny assignment", {"role": "locked"}),
    ("code", "t-setup", "import math\n\nimport numpy as np", {"role": "locked"}),
    (
        "code",
        "t-helper",
        "def close(a, b):\n    return abs(a - b) < 1e-6",
        {"role": "locked"},
    ),
    (
        "code",
        "t-area",
        "def area(r):\n    # BEGIN SOLUTION\n    return math.pi * r * r\n    # END SOLUTION",
        {"role": "student", "exercise": "1", "forbidden": ["statistics", "numpy.linalg"]},
    ),
    (
        "code",
        "t-area-check",
        "assert close(area(0.0), 0), 'A point has no area.'\n"
        "np.testing.assert_allclose(area(2.0), 4 * area(1.0), err_msg='Twice the radius.')\n"
        "print('area =', area(1.0))",
        {"role": "check", "exercise": "1", "points": 3, "expected": True},
    ),
    (
        "code",
        "t-area-hidden",
        f"radius = 1.45  {SECRET_COMMENT}\nprint('area =', area(radius))",
        {"role": "hidden", "exercise": "1", "points": 3, "advice": {"area": ADVICE}},
    ),
    (
        "code",
        "t-guess",
        "# BEGIN SOLUTION\n# STUB guess = None  # fill this in\nguess = 'upwards'\n# END SOLUTION",
        {"role": "student", "exercise": "2"},
    ),
    (
        "code",
        "t-guess-check",
        "assert isinstance(guess, str), 'Write a word.'\nprint('lower =', guess.lower() == guess)",
        {"role": "check", "exercise": "2", "points": 1},
    ),
    (
        "code",
        "t-guess-hidden",
        "print('guess =', guess)",
        {"role": "hidden", "exercise": "2", "points": 1},
    ),
    (
        "markdown",
        "t-why",
        "Why?\n\n<!-- BEGIN SOLUTION -->\nBecause of the square.\n<!-- END SOLUTION -->",
        {"role": "answer"},
    ),
]

Notebook = dict[str, Any]


def write_master(path: Path, cells: list[tuple[str, str, str, dict[str, Any]]]) -> Path:
    notebook = nbformat.v4.new_notebook()
    for kind, name, source, said in cells:
        new = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(source, id=name, metadata={"lscgan": said}))
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


@pytest.fixture(scope="session")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny master, its student notebook and its pack."""
    folder = tmp_path_factory.mktemp("course")
    write_master(folder / "masters" / "tiny.ipynb", MASTER)
    arguments = ["make", "--masters", str(folder / "masters"), "--pack", str(folder / "pack")]
    assert main(arguments) == 0
    return folder


@pytest.fixture(scope="session")
def tiny(course: Path) -> Assignment:
    return unpack((course / "pack" / "tiny.json").read_text(), "tiny")


@pytest.fixture
def student(course: Path) -> Notebook:
    return read_notebook(course / "tiny.ipynb")


def cell(notebook: Notebook, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in notebook["cells"] if c["id"] == name)
    return found


def answer(notebook: Notebook, area: str = RIGHT, guess: str = "guess = 'upwards'") -> Notebook:
    cell(notebook, "t-area")["source"] = area
    cell(notebook, "t-guess")["source"] = guess
    return notebook


def check(notebook: Notebook | bytes, among: Assignment, limits: Limits | None = None) -> Result:
    content = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    return checking.check("answers.ipynb", content, [among], limits)


def points(result: Result) -> dict[str, float | None]:
    return {one.name: one.points for one in result.exercises}


def said(result: Result) -> dict[str, str]:
    return {one.name: one.said for one in result.exercises}


# Making


def test_students_get_gaps_and_what_they_should_see(course: Path) -> None:
    cells = {one.id: one for one in cells_of(read_notebook(course / "tiny.ipynb"))}
    assert list(cells) == [
        "t-title", "t-setup", "t-helper", "t-area", "t-area-check-expected", "t-area-check",
        "t-guess", "t-guess-check", "t-why",
    ]  # fmt: skip
    assert cells["t-area"].source == f'def area(r):\n    raise NotImplementedError("{FILL}")'
    assert cells["t-guess"].source == "guess = None  # fill this in"
    assert cells["t-why"].source == "Why?\n\n*(fill this in)*"
    assert "area = 3.14159" in cells["t-area-check-expected"].source


def test_students_get_nothing_that_is_the_teachers(course: Path) -> None:
    text = (course / "tiny.ipynb").read_text()
    for secret in (SECRET_COMMENT, ADVICE, HIDDEN_AREA, "r * r", "SOLUTION", "Because", "upwards"):
        assert secret not in text
        assert any(secret in path.read_text() for path in (course / "pack").iterdir())


def test_without_a_folder_no_pack_is_written(course: Path, tmp_path: Path) -> None:
    write_master(tmp_path / "masters" / "tiny.ipynb", MASTER)
    assert main(["make", "--masters", str(tmp_path / "masters"), "tiny"]) == 0
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert written == {"masters/tiny.ipynb", "tiny.ipynb"}
    assert (tmp_path / "tiny.ipynb").read_text() == (course / "tiny.ipynb").read_text()


def test_a_picture_comes_small_and_with_its_alt_text(tmp_path: Path) -> None:
    draw = (
        "%matplotlib inline\nimport matplotlib.pyplot as plt\n_ = plt.plot([0, area(1.0)])\n"
        "print('last =', area(1.0))"
    )
    drawn = [("code", "t-draw", draw, {**MASTER[4][3], "alt": "A line [rising]."})]
    path = write_master(tmp_path / "masters" / "drawn.ipynb", MASTER[:4] + drawn + MASTER[5:6])
    made = making.make(path)
    shown = {one.id: one.source for one in cells_of(json.loads(made.student))}
    assert "![A line (rising).](data:image/png;base64," in shown["t-draw-expected"]
    assert len(shown["t-draw-expected"]) < 40_000

    drawn[0][3]["alt"] = ""
    write_master(path, MASTER[:4] + drawn + MASTER[5:6])
    with pytest.raises(ValueError, match="write what the picture shows as `alt`"):
        making.make(path)


def test_a_drifted_student_notebook_is_named(course: Path, tmp_path: Path, capsys: Any) -> None:
    masters = tmp_path / "masters"
    arguments = ["make", "--check", "--masters", str(masters)]
    write_master(masters / "tiny.ipynb", MASTER)
    assert main(arguments) == 1
    assert "tiny.ipynb is missing: run `python -m lscgan.coursework make tiny`" in (
        capsys.readouterr().out
    )
    text = (course / "tiny.ipynb").read_text()
    (tmp_path / "tiny.ipynb").write_text(text)
    assert main(arguments) == 0
    (tmp_path / "tiny.ipynb").write_text(text.replace("# A tiny", "# The tiny"))
    assert main(arguments) == 1
    assert "tiny.ipynb was changed by hand" in capsys.readouterr().out
    (tmp_path / "tiny.ipynb").write_text(text)
    newer = [("markdown", "t-title", "# New", MASTER[0][3]), *MASTER[1:]]
    write_master(masters / "tiny.ipynb", newer)
    (tmp_path / "gone.ipynb").write_text(text)
    assert main(arguments) == 1
    out = capsys.readouterr().out
    assert "tiny.ipynb is older than its master" in out
    assert "gone.ipynb has no master" in out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({3: {"role": "pupil"}}, "its role is 'pupil': write one of"),
        ({3: {"role": "student"}}, "a student cell is code and names its exercise"),
        ({9: {"role": "student", "exercise": "2"}}, "a student cell is code"),
        ({3: {"role": "answer"}}, "an answer is a markdown cell"),
        ({3: {"role": "locked"}}, "a solution stands in student and answer cells only"),
        ({2: {"role": "student", "exercise": "1"}}, "put solutions between"),
        ({4: {"role": "check", "exercise": "1"}}, "write the exercise's points"),
        ({4: {"role": "check", "exercise": "1", "points": 1}}, r"name the points \[1, 3\]"),
        ({5: {"role": "locked"}}, "exercise 1 has points: it needs a student and a hidden cell"),
    ],
)
def test_a_master_that_breaks_a_rule_is_refused(
    changed: dict[int, dict[str, Any]], message: str, tmp_path: Path
) -> None:
    cells = [(*one[:3], changed.get(number, one[3])) for number, one in enumerate(MASTER)]
    with pytest.raises(ValueError, match=message):
        read_master(write_master(tmp_path / "tiny.ipynb", cells))


@pytest.mark.parametrize(
    ("source", "about", "message"),
    [
        ("area(1.0)", {}, "this one prints none"),
        ("print('a = 1')\nprint('a = 2')", {}, "prints 'a' more than once"),
        ("print('a = [1,\\n2]')", {}, "print 'a' on one line"),
        ("print('a = 1')", {"advice": {"b": "no"}}, r"\['b'\], which it never prints"),
        ("print('a = 1')", {"tolerance": {"b": 1}}, r"\['b'\], which it never prints"),
        ("1 / 0", {}, "fails: ZeroDivisionError"),
    ],
)
def test_a_check_that_cannot_judge_is_refused(
    source: str, about: dict[str, Any], message: str, tmp_path: Path
) -> None:
    cells = list(MASTER)
    cells[5] = ("code", "t-area-hidden", source, {**MASTER[5][3], "advice": {}, **about})
    path = write_master(tmp_path / "masters" / "tiny.ipynb", cells)
    with pytest.raises(ValueError, match=message):
        making.make(path)


# Comparing


@pytest.mark.parametrize(
    ("value", "reference", "agrees"),
    [
        ("1.0000999", "1", True),
        ("1.001", "1", False),
        ("1000.05", "1000", True),
        ("1000.2", "1000", False),
        ("[1.0,  2.]", "[1., 2.0]", True),
        ("[1.0, 2.0, 3.0]", "[1.0, 2.0]", False),
        ("-0.5", "0.5", False),
        ("1e-3", "0.001", True),
        ("nan", "1.0", False),
        ("inf", "1e300", False),
        ("up", "up", True),
        ("down", "up", False),
        ("a01", "a02", False),
        ("True", "1", False),
        ("", "0", False),
    ],
)
def test_numbers_agree_within_the_tolerance_and_words_exactly(
    value: str, reference: str, agrees: bool
) -> None:
    assert judge.agree(value, reference, 1e-4) is agrees


def test_each_name_has_its_tolerance_and_its_advice() -> None:
    tolerance, advice = {"a": 0.1, "*": 1e-6}, {"b": "Look at b."}
    reference = "a = 1.0\nb = 2.0\n"
    assert judge.difference("a = 1.05\nb = 2.0\n", reference, tolerance, advice) is None
    assert judge.difference("a = 1.05\nb = 2.1", reference, tolerance, advice) == "Look at b."
    assert "'a' is not" in str(judge.difference("a = 1.2\nb = 2.0", reference, tolerance, advice))
    assert judge.difference("my own note\nb = 2\na = 1", reference, tolerance, advice) is None
    twice = judge.difference("a = 1\na = 7\nb = 2", reference, tolerance, advice)
    assert "'a' was printed 2 times: only the check may print it, so remove" in str(twice)


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("a = 1\nmy a = 2", {"a": ["1"], "my a": ["2"]}),
        ("trying r = 2 a = 1", {"a": ["1"]}),
        ("trying...a = 1", {"a": ["1"]}),
        ("a = 7 a = 1", {"a": ["7", "1"]}),
        ("extra = 1\na == 1\na_b = 1\nb a = 2 = 3", {"a": ["2 = 3"]}),
    ],
)
def test_names_are_found_behind_what_an_answer_prints(
    printed: str, found: dict[str, list[str]]
) -> None:
    assert judge.printed_values(printed, ["a", "my a"]) == found


# Checking an honest submission


def test_right_answers_earn_all_points_whatever_became_of_the_rest(
    student: Notebook, tiny: Assignment
) -> None:
    """Locked cells edited, deleted, moved and skipped; outputs and metadata of any kind."""
    answer(student)
    cell(student, "t-why")["source"] = "Why?\n\nBecause it scales with the square."
    cell(student, "t-helper")["source"] = "def close(a, b): return False"
    cell(student, "t-guess-check")["source"] = "# NBVAL_SKIP"
    cell(student, "t-area")["metadata"] = {"tags": ["nbval-skip"]}
    cell(student, "t-area")["outputs"] = [{"output_type": "nonsense"}]
    student["metadata"] = {"kernelspec": {"name": "no-such-kernel"}}
    student["cells"] = [c for c in student["cells"] if c["id"] != "t-setup"][::-1]
    result = check(student, tiny)
    assert result.right, result
    assert points(result) == {"1": 3, "2": 1}
    assert [one.words for one in result.answers] == [6]
    assert reports.table(result).splitlines()[-1].split() == ["in", "all", "4", "/", "4"]


def test_a_notebook_as_colab_saves_it_is_understood(student: Notebook, tiny: Assignment) -> None:
    answer(student)
    student["nbformat_minor"] = 0
    for one in student["cells"]:
        one["metadata"] = {"id": one.pop("id"), "executionInfo": {"elapsed": 3}}
    assert check(student, tiny).right


def test_one_wrong_exercise_costs_only_itself(student: Notebook, tiny: Assignment) -> None:
    area = "def area(r):\n    return math.pi * r**2 * (r in (0, 1, 2))"
    result = check(answer(student, area=area), tiny)
    assert points(result) == {"1": 0, "2": 1}
    assert said(result)["1"] == ADVICE


@pytest.mark.parametrize(
    ("area", "sentence"),
    [
        ("def area(r):\n    return 2 * math.pi * r", "Twice the radius"),
        ("def area(r):\n    return 1.0", "A point has no area."),
        ("def area(r):\n    return 3 * r * r", "'area' is not what it should be"),
        ("def area(r):\n    return math.pi * r * r if r in (0, 1, 2) else 0", ADVICE),
        ("def area(r):\n    return later", "NameError: name 'later' is not defined"),
        ("def area(r:\n    return 1", "SyntaxError"),
        ("import statistics as s\n" + RIGHT, "uses statistics: write it yourself here"),
        ("from numpy import linalg\n" + RIGHT, "uses numpy.linalg: write it"),
        (RIGHT + "\nnp.linalg.norm([1])", "uses numpy.linalg: write it"),
        (RIGHT + "\n__import__('numpy.linalg')", "uses numpy.linalg: write it"),
        ("%%capture\n" + RIGHT, "the cell t-area has a cell magic"),
        ("\n  %%time\n" + RIGHT, "the cell t-area has a cell magic"),
    ],
)
def test_a_sentence_says_what_is_wrong(
    area: str, sentence: str, student: Notebook, tiny: Assignment
) -> None:
    result = check(answer(student, area=area, guess="guess = None  # fill this in"), tiny)
    assert points(result) == {"1": 0, "2": 0}
    assert sentence in said(result)["1"]
    assert said(result)["2"] == FILL


def test_a_name_that_the_cell_defines_is_not_forbidden() -> None:
    names = checking.imports(["from lscgan.objectives import gaussian_kl as kl, mse"])
    entries = ["lscgan.objectives"]
    assert checking.forbidden("x = kl(1)", entries, names) == "lscgan.objectives"
    assert checking.forbidden("def kl(a):\n    return a\nx = kl(1)", entries, names) is None
    assert checking.forbidden("import lscgan\nlscgan.latent", entries, names) is None
    assert checking.forbidden("F.cross_entropy(a)", ["cross_entropy"], {}) == "cross_entropy"
    assert checking.forbidden("%timeit 1\ncross = 2", ["cross_entropy"], {}) is None


KL = "lscgan.objectives.gaussian_kl"


@pytest.mark.parametrize(
    ("source", "entry"),
    [
        ("gaussian_kl = gaussian_kl\ndef f(a):\n    return gaussian_kl(a)", "gaussian_kl"),
        ("def f(a, gaussian_kl=gaussian_kl):\n    return gaussian_kl(a)", "gaussian_kl"),
        ("gaussian_kl.x = 1\ngaussian_kl(a)", "gaussian_kl"),
        ("x = ours(1)", "gaussian_kl"),
        ("def bound(p):\n    return evaluation.Channel(p).bound(1)", "bound"),
        ("def bound(p):\n    w = Channel(p)\n    return w.bound(1)", "bound"),
        ("getattr(lscgan, 'gaussian_kl')", "gaussian_kl"),
        ("sys.modules['torch.autograd']", "autograd"),
        ("def bound(p):\n    return p\nbound(1)", None),
        ('def f(a):\n    """gaussian_kl"""\n    return a  # torch.autograd', None),
        ('def f(a):\n    """By hand: no torch.autograd"""', None),
        ("raise ValueError('too few.bound')", None),
        ("autograd = 0\nautograd = autograd + 1", None),
        ("for bound in bounds:\n    print(bound)", None),
    ],
)
def test_forbidden_are_uses_and_not_mentions(source: str, entry: str | None) -> None:
    names = checking.imports(
        [f"from lscgan.objectives import gaussian_kl\nimport {KL} as k", "ours = theirs = k"]
    )
    assert checking.forbidden(source, ["gaussian_kl", "bound", "autograd"], names) == entry


def test_without_the_pack_no_points_are_given(
    course: Path, student: Notebook, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "answers.ipynb"
    path.write_text(json.dumps(answer(student)))
    assert main(["check", str(path), "--against", str(course)]) == 0
    out = capsys.readouterr().out
    assert "? / 3" in out
    assert "visible checks only" in out
    path.write_text(json.dumps(answer(student, area=WRONG)))
    assert main(["check", str(path), "--against", str(course / "tiny.ipynb")]) == 1
    assert "Twice the radius." in capsys.readouterr().out


@pytest.mark.parametrize("hidden", [False, True])
def test_a_print_that_costs_points_is_seen_by_the_students_own_check(
    hidden: bool, course: Path, student: Notebook, tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "answers.ipynb"
    command = ["check", str(path), "--against", str(course)]
    command += ["--hidden", str(course / "pack")] if hidden else []
    answer(student, area="def area(r):\n    print('area =', r)\n    return math.pi * r**2")
    path.write_text(json.dumps(student))
    assert main(command) == 1
    assert "only the check may print it, so remove that print" in capsys.readouterr().out
    answer(student, area="def area(r):\n    print('r =', r, end=' ')\n    return math.pi * r**2")
    path.write_text(json.dumps(student))
    assert main(command) == 0


def test_answers_in_the_empty_notebook_itself_are_noticed(
    course: Path, student: Notebook, tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "book").mkdir()
    for path in (tmp_path / "answers.ipynb", tmp_path / "book" / "tiny.ipynb"):
        path.write_text(json.dumps(answer(student)))
        assert main(["check", str(path), "--against", str(tmp_path / "book")]) in (1, 2)
    assert "tiny.ipynb, which your answers are compared with, is not empty" in (
        capsys.readouterr().out
    )


def test_lost_ids_are_found_again(student: Notebook, tiny: Assignment) -> None:
    """As formats before 4.5 do, or as a notebook is upgraded from them with ids by chance."""
    answer(student)
    student["nbformat_minor"] = 4
    for one in student["cells"]:
        del one["id"]
    assert check(student, tiny).right
    for number, one in enumerate(student["cells"]):
        one["id"] = f"{number:08x}"
    assert check(student, tiny).right


def test_large_outputs_cost_nothing(student: Notebook, tiny: Assignment, tmp_path: Path) -> None:
    path = tmp_path / "answers.ipynb"
    text = {"output_type": "stream", "name": "stdout", "text": "x" * (checking.LARGEST + 1)}
    cell(student, "t-guess")["outputs"] = [text]
    path.write_text(json.dumps(answer(student)))
    assert check(checking.read(path), tiny).right
    student["cells"][0]["source"] = text["text"]
    path.write_text(json.dumps(student))
    assert "is larger than 20 MB" in str(check(checking.read(path), tiny).problem)


@pytest.mark.parametrize(
    ("area", "sentence"),
    [
        (f"# one\n# \ud83d\n{RIGHT}", "t-area has a broken character in line 2: type that line"),
        (f"{RIGHT}\n{'#' * 20_000}", "t-area is longer than 20000 characters: shorten it"),
        (f"{RIGHT}\n" + "%pwd\n" * 600, "t-area has more than 20 magics (%): write plain Python"),
    ],
)
def test_a_cell_that_cannot_be_read_costs_only_itself(
    area: str, sentence: str, student: Notebook, tiny: Assignment
) -> None:
    result = check(answer(student, area=area), tiny)
    assert points(result) == {"1": 0, "2": 1}
    assert sentence in said(result)["1"]


def test_only_cells_of_the_assignment_are_read(student: Notebook, tiny: Assignment) -> None:
    """What a student adds for trying things out cannot hold up the checking of the class."""
    scratch = {"cell_type": "code", "id": "scratch", "source": "%pwd\n" * 600}
    student["cells"].append(scratch)
    asked: list[str] = []
    real = checking._tree

    def spy(source: str) -> Any:
        asked.append(source)
        return real(source)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "_tree", spy)
        checking.refusals(tiny, cells_of(answer(student)))
    assert RIGHT in asked
    assert not any("%pwd" in source for source in asked)


@pytest.mark.parametrize(
    ("area", "sentence"),
    [
        ("import os\nos._exit(0)", "the kernel ended in the cell t-area"),
        ("def area(r):\n    while True: pass", "limit of 20 seconds in the cell t-area-check"),
    ],
)
def test_an_exercise_that_ends_the_kernel_costs_only_itself(
    area: str, sentence: str, student: Notebook, tiny: Assignment
) -> None:
    result = check(answer(student, area=area), tiny, Limits(seconds=20))
    assert points(result) == {"1": 0, "2": 1}
    assert sentence in said(result)["1"]
    assert not result.settled


# Attempts to fool it

REVERSED = HIDDEN_AREA[::-1]
SEARCH = f"""
import glob, os
wanted = "{REVERSED}"[::-1][:7]
def texts():
    yield repr(dict(os.environ))
    process = os.getppid()
    while process > 1:
        for name in ("cmdline", "environ"):
            try: yield open(f"/proc/{{process}}/{{name}}", "rb").read().decode(errors="replace")
            except OSError: pass
        try: process = int(open(f"/proc/{{process}}/stat").read().rsplit(")", 1)[1].split()[1])
        except OSError: break
    for place in (os.getcwd(), os.path.dirname(os.getcwd()), os.environ["HOME"]):
        for path in glob.glob(place + "/**", recursive=True, include_hidden=True):
            if os.path.isfile(path): yield open(path, "rb").read().decode(errors="replace")
    for text in list(words_of_command_lines()):
        if os.path.isfile(text): yield open(text, "rb").read().decode(errors="replace")
def words_of_command_lines():
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try: yield from open(path, "rb").read().decode(errors="replace").split(chr(0))
        except OSError: pass
found = any(wanted in text for text in texts())
assert not found, "the reference was found"
def area(r):
    return 0.0
"""

FORK = "import os, time\nfor _ in range(8):\n    os.fork()\ntime.sleep(600)\n"
SPAWN = (
    "import subprocess, time\n"
    "for _ in range(100):\n"
    "    subprocess.Popen(['sleep', '617.25'], start_new_session=True)\n"
    "time.sleep(600)\n"
)
PATCH_RUN_CELL = """
shell = get_ipython()
class Done:
    success = True; result = None; execution_count = 1
    error_before_exec = None; error_in_exec = None
    def raise_error(self): pass
def run_cell(*args, **kwargs):
    print("area = 3.141592653589793"); return Done()
async def run_cell_async(*args, **kwargs):
    return run_cell()
type(shell).run_cell = run_cell
type(shell).run_cell_async = run_cell_async
"""
FORGED_VERDICT = """
import glob, json, os
forged = {"nonce": "", "stopped": None, "cells": {name: None for name in (
    "t-setup", "t-helper", "t-area", "t-area-check", "t-area-hidden", "t-guess",
    "t-guess-check", "t-guess-hidden")}}
for path in glob.glob(f"/proc/{os.getppid()}/fd/*"):
    try:
        with open(path, "w") as file: file.write(json.dumps(forged))
    except OSError: pass
"""

# By name: what stands in the cell before (or instead of) a wrong answer.
IN_THE_CELL = {
    "a marker to skip": f"# NBVAL_SKIP\n{WRONG}",
    "a marker to ignore the output": f"#NBVAL_IGNORE_OUTPUT\n{WRONG}",
    "an old marker": f"# PYTEST_VALIDATE_IGNORE_OUTPUT\n{WRONG}",
    "a marker for exceptions": f"# NBVAL_RAISES_EXCEPTION\n{WRONG}\n1 / 0",
    "patching numpy.testing": f"np.testing.assert_allclose = lambda *a, **k: None\n{WRONG}",
    "patching torch.allclose": f"import torch\ntorch.allclose = lambda *a, **k: True\n{WRONG}",
    "overriding the helper": f"close = lambda a, b: True\n{FLAT}",
    "overriding print": "print = lambda *a: __import__('sys').stdout.write('area = 3.14159265\\n')",
    "overriding builtins": (
        "import builtins\nold = builtins.print\n"
        f"builtins.print = lambda *a: old('area =', 3.141592653589793)\n{WRONG}"
    ),
    "overriding abs and isinstance": (
        "import builtins\nbuiltins.abs = lambda x: 0\n"
        f"builtins.isinstance = lambda *a: True\n{FLAT}"
    ),
    "sys.exit": f"{WRONG}\nimport sys\nsys.exit(0)",
    "sys.exit in the function": "def area(r):\n    import sys\n    sys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "os._exit in the function": "def area(r):\n    import os\n    os._exit(0)",
    "printing the expected text": f"{WRONG}\nprint('area = 3.141592653589793')",
    "answering the visible check": (
        "def area(r):\n    return {0: 0, 1: 3.141592653589793, 2: 4 * 3.141592653589793}.get(r, 0)"
    ),
    "a value that equals everything": (
        "class Any(float):\n"
        "    __eq__ = __lt__ = __gt__ = lambda *a: True\n"
        "    __sub__ = __rsub__ = __mul__ = __rmul__ = lambda a, b: a\n"
        "    __abs__ = lambda a: 0.0\n"
        "def area(r):\n    return Any(3.141592653589793)"
    ),
    "guessing often": (
        "def area(r):\n    [print('area =', x / 100) for x in range(1000)]\n    return 0.0"
    ),
    "patching run_cell": f"{WRONG}\n{PATCH_RUN_CELL}",
    "a transformer that empties cells": (
        f"{WRONG}\nget_ipython().input_transformers_cleanup.append(lambda lines: ['pass\\n'])"
    ),
    "a transformer that drops asserts": (
        f"{WRONG}\nimport ast\nclass Drop(ast.NodeTransformer):\n"
        "    def visit_Assert(self, node): return None\n"
        "get_ipython().ast_transformers.append(Drop())"
    ),
    "a hook that shows the expected": (
        f"{WRONG}\nimport sys\nclass Out:\n    def write(self, text): pass\n"
        "    def flush(self): pass\nsys.stdout = Out()\nsys.displayhook = lambda x: None\n"
        "get_ipython().events.register('post_run_cell',"
        " lambda r: sys.__stdout__.write('area = 3.141592653589793\\n'))"
    ),
    "a hook that clears errors": (
        f"{WRONG}\nget_ipython().set_custom_exc((Exception,), lambda *a, **k: None)"
    ),
    "redefining the hidden check's input": (
        f"{WRONG}\nclass Fixed(dict):\n    pass\nradius = 1.0\n__builtins__.float = lambda x: 1.0"
    ),
    "searching for the reference": SEARCH,
    "writing a verdict to the judge": f"{FORGED_VERDICT}\n{WRONG}",
    "killing the judge after a forged verdict": (
        f"{FORGED_VERDICT}\nimport signal\nos.kill(os.getppid(), signal.SIGKILL)"
    ),
    "an infinite loop": "while True:\n    pass",
    "a loop that cannot be interrupted": (
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass"
    ),
    "a fork bomb": FORK,
    "many processes in sessions of their own": SPAWN,
    "eating memory": "hoard = []\nwhile True:\n    hoard.append(b'x' * 20_000_000)",
    "flooding the output": "while True:\n    print('x' * 10_000)",
    "a crash": "import ctypes\nctypes.string_at(0)",
    "the answer of nobody": WRONG,
}  # fmt: skip


def same_id_twice(notebook: Notebook) -> None:
    second = copy.deepcopy(cell(notebook, "t-area"))
    second["source"] = RIGHT
    notebook["cells"].insert(0, second)


def cleared(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        if one["cell_type"] == "code":
            one |= {"outputs": [], "execution_count": None}


def forged(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        if one["cell_type"] == "code":
            text = "area = 3.141592653589793\n"
            one["outputs"] = [{"output_type": "stream", "name": "stdout", "text": text}]
            one["execution_count"] = 1


def without_checks(notebook: Notebook) -> None:
    notebook["cells"] = [c for c in notebook["cells"] if "check" not in c["id"]]


def renamed_checks(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        one["id"] = one["id"].replace("check", "chick")


def renamed_cell(notebook: Notebook) -> None:
    cell(notebook, "t-area").update(id="t-area-2", source=RIGHT, metadata={})


def empty_checks(notebook: Notebook) -> None:
    cell(notebook, "t-area-check")["source"] = "print('area = 3.141592653589793')"


def own_hidden_check(notebook: Notebook) -> None:
    extra: dict[str, Any] = {
        "cell_type": "code",
        "metadata": {},
        "outputs": [],
        "execution_count": None,
    }
    notebook["cells"].append(extra | {"id": "t-area-hidden", "source": "print('area = 1')"})


def other_roles(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        one["metadata"] = {"lscgan": {"role": "locked", "exercise": "1", "points": 100}}


def checks_as_text(notebook: Notebook) -> None:
    cell(notebook, "t-area-check")["cell_type"] = "markdown"


def tags(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        one["metadata"] |= {"tags": ["nbval-skip", "nbval-ignore-output", "raises-exception"]}


def flags(notebook: Notebook) -> None:
    notebook["metadata"] |= {"nbval": {"skip": True}, "kernelspec": {"name": "echo"}}


def check_first(notebook: Notebook) -> None:
    notebook["cells"].sort(key=lambda one: "check" not in one["id"])


IN_THE_NOTEBOOK: dict[str, Callable[[Notebook], None]] = {
    "two cells with one id": same_id_twice,
    "cleared outputs": cleared,
    "forged outputs": forged,
    "deleted checks": without_checks,
    "renamed checks": renamed_checks,
    "a right answer in a cell of another id": renamed_cell,
    "emptied checks": empty_checks,
    "a hidden check of one's own": own_hidden_check,
    "other roles and points": other_roles,
    "checks as text": checks_as_text,
    "tags": tags,
    "flags in the metadata": flags,
    "checks moved before the answer": check_first,
}
ATTEMPTS = [*IN_THE_CELL, *IN_THE_NOTEBOOK]
TIGHT = Limits(seconds=30, memory=700)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the attempts have their folders in."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def attempts(
    request: pytest.FixtureRequest, course: Path, tiny: Assignment, runs: Path
) -> dict[str, Result]:
    """The results of all attempts that this session tests, run over the machine's cores."""
    items = [item for item in request.session.items if isinstance(item, pytest.Function)]
    given = [getattr(item, "callspec", None) for item in items]
    names = {one.params["attempt"]: None for one in given if one and "attempt" in one.params}

    def run(name: str) -> Result:
        notebook = read_notebook(course / "tiny.ipynb")
        cell(notebook, "t-area")["source"] = IN_THE_CELL.get(name, WRONG)
        IN_THE_NOTEBOOK.get(name, lambda _: None)(notebook)
        return check(notebook, tiny, TIGHT)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(os.cpu_count()) as pool:
        patch.setattr(tempfile, "tempdir", str(runs))
        return dict(zip(names, pool.map(run, names), strict=True))


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_no_attempt_to_fool_scores(attempt: str, attempts: dict[str, Result]) -> None:
    result = attempts[attempt]
    assert result.problem is None
    assert points(result) == {"1": 0, "2": 0}
    assert said(result)["2"] == FILL
    assert HIDDEN_AREA[:6] not in json.dumps(result.as_json())


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        ("an infinite loop", "passed its limit of 30 seconds in the cell t-area"),
        ("a loop that cannot be interrupted", "passed its limit of 30 seconds in the cell t-area"),
        ("a fork bomb", "the run passed its limit of"),
        ("many processes in sessions of their own", "passed its limit of 32 processes"),
        ("eating memory", "passed its limit of 700 MB of memory in the cell t-area"),
        ("os._exit", "the kernel ended in the cell t-area"),
        ("os._exit in the function", "the kernel ended in the cell t-area-check"),
        ("a crash", "the kernel ended in the cell t-area"),
        ("sys.exit", "SystemExit"),
        ("two cells with one id", "2 cells are called t-area: keep one of them"),
        ("a right answer in a cell of another id", "the cell t-area is missing"),
        ("guessing often", "'area' was printed 4001 times"),
        ("killing the judge after a forged verdict", "the run ended its judge"),
    ],
)
def test_an_attempt_is_told_what_happened(
    attempt: str, sentence: str, attempts: dict[str, Result]
) -> None:
    assert sentence in said(attempts[attempt])["1"]


@pytest.mark.parametrize("attempt", ["searching for the reference"])
def test_the_reference_is_nowhere_to_be_found(attempt: str, attempts: dict[str, Result]) -> None:
    """It is on no disk and on no command line while a submission runs."""
    assert "was found" not in said(attempts[attempt])["1"]


def test_nothing_is_left(attempts: dict[str, Result], runs: Path) -> None:
    assert attempts
    left = list(runs.iterdir())
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(word == "617.25" or word.startswith(str(runs)) for word in process.cmdline()):
                left.append(process)
    assert not left


def test_the_pack_can_come_by_standard_input(
    course: Path, student: Notebook, tmp_path: Path
) -> None:
    """Then no file that the command line names holds a reference."""
    path = tmp_path / "answers.ipynb"
    path.write_text(json.dumps(answer(student, area=SEARCH)))
    command = [sys.executable, "-m", "lscgan.coursework", "check", str(path), "--hidden", "-"]
    with (course / "pack" / "tiny.json").open() as pack:
        done = subprocess.run(
            command, stdin=pack, cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert done.returncode == 1
    assert "0 / 3  'area' is not what it should be" in done.stdout  # and no more was found


READ_MEMORY = """
import os, re
pid, found = os.getppid(), set()
while pid > 1:
    try:
        memory, maps = open(f"/proc/{pid}/mem", "rb", 0), open(f"/proc/{pid}/maps").readlines()
    except OSError:
        maps = []
    for line in maps:
        span, mode, *_ = line.split()
        if mode.startswith("rw"):
            start, end = (int(x, 16) for x in span.split("-"))
            try:
                memory.seek(start)
                found |= {float(x) for x in re.findall(rb"area = ([0-9]+[.][0-9]{6,})",
                                                       memory.read(end - start))}
            except (OSError, ValueError, OverflowError):
                pass
    pid = int(open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1])
assert not found, f"found {len(found)}"
def area(r):
    return 0.0
"""
LEAVE_ONE = """
import os, signal, subprocess
subprocess.Popen(["sleep", "211.75"], env={}, start_new_session=True)
os.kill(os.getppid(), signal.SIGKILL)
"""


AS_A_USER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 19, 0, 0, 0)  # without root's right to look into all processes
os.execv(sys.executable, [sys.executable, "-m", "lscgan.coursework", *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows memory as a file")
def test_the_reference_cannot_be_read_from_memory(
    course: Path, student: Notebook, tmp_path: Path
) -> None:
    path = tmp_path / "answers.ipynb"
    path.write_text(json.dumps(answer(student, area=READ_MEMORY)))
    command = [sys.executable, "-c", AS_A_USER, "check", str(path), "--hidden", "-"]
    with (course / "pack" / "tiny.json").open() as pack:
        done = subprocess.run(
            command, stdin=pack, cwd=tmp_path, capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert "'area' is not what it should be" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process adopt orphans")
def test_nothing_outlives_a_judge_that_was_killed(student: Notebook, tiny: Assignment) -> None:
    result = check(answer(student, area=LEAVE_ONE), tiny)
    assert "the run ended its judge" in said(result)["1"]
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert "211.75" not in process.cmdline()


# A class


HANGING = "def area(r):\n    while True:\n        pass"
OUTSIDE = f"""
import pathlib
for place in ("..", "../..", "../../.."):
    for name in ("a-right.ipynb", "z-right.ipynb"):
        try: (pathlib.Path(place) / name).write_text("gone")
        except OSError: pass
{WRONG}
"""


@pytest.fixture(scope="session")
def class_folder(course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class")

    def hand_in(name: str, **cells: str) -> None:
        notebook = answer(read_notebook(course / "tiny.ipynb"), **cells)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(notebook))

    hand_in("a-right.ipynb")
    hand_in("b/wrong.ipynb", area=FLAT)
    hand_in("c-hangs.ipynb", area=HANGING)
    hand_in("d-crashes.ipynb", area="import os\nos._exit(0)")
    hand_in("e-outside.ipynb", area=OUTSIDE)
    hand_in(".ipynb_checkpoints/a-right-checkpoint.ipynb")
    hand_in("z-right.ipynb", guess="guess = 'downwards'")
    (folder / "f-empty.ipynb").touch()
    (folder / "g-notes.txt").write_text("=1+1")
    (folder / "h-other.ipynb").write_text('{"cells": [], "nbformat": 4, "nbformat_minor": 5}')
    (folder / "i-old.ipynb").write_text('{"worksheets": [], "nbformat": 3}')
    (folder / "j-broken.ipynb").write_bytes(b"\xff{" * 9)
    (folder / os.fsdecode(b"k-\xff\n.ipynb")).write_text("{}")
    strange = answer(read_notebook(course / "tiny.ipynb"), area="\ud800")
    cell(strange, "t-why")["source"] = "\ud800 \x00"
    (folder / "l-strange.ipynb").write_text(json.dumps(strange))
    return folder


@pytest.fixture(scope="session")
def tables(class_folder: Path, course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The class's tables: table.csv, table.json and junit.xml."""
    folder = tmp_path_factory.mktemp("tables")
    assert main(class_command(class_folder, course, folder)) == 1
    return folder


def class_command(class_folder: Path, course: Path, tables: Path) -> list[str]:
    return [
        "check", str(class_folder), "--hidden", str(course / "pack"), "--seconds", "30",
        "--csv", str(tables / "table.csv"), "--junit", str(tables / "junit.xml"),
    ]  # fmt: skip


def test_a_class_becomes_one_table_and_each_costs_only_itself(tables: Path) -> None:
    with (tables / "table.csv").open() as file:
        rows = {row["submission"]: row for row in csv.DictReader(file)}
    assert {name: float(row["points"]) for name, row in rows.items()} == {
        "a-right.ipynb": 4, "b/wrong.ipynb": 1, "c-hangs.ipynb": 1, "d-crashes.ipynb": 1,
        "e-outside.ipynb": 1, "f-empty.ipynb": 0, "g-notes.txt": 0, "h-other.ipynb": 0,
        "i-old.ipynb": 0, "j-broken.ipynb": 0, "k-\\udcff\\n.ipynb": 0, "l-strange.ipynb": 1,
        "z-right.ipynb": 3,
    }  # fmt: skip
    assert rows["a-right.ipynb"]["1"] == "3"
    assert {row["of"] for row in rows.values()} == {"4"}
    for name, sentence in {
        "b/wrong.ipynb": "1: A point has no area.",
        "c-hangs.ipynb": "passed its limit of 30 seconds in the cell t-area-check",
        "d-crashes.ipynb": "the kernel ended in the cell t-area",
        "f-empty.ipynb": "f-empty.ipynb is no Jupyter notebook",
        "g-notes.txt": "g-notes.txt is no Jupyter notebook",
        "h-other.ipynb": "h-other.ipynb holds no cell of tiny",
        "i-old.ipynb": "is no Jupyter notebook",
        "j-broken.ipynb": "is no Jupyter notebook",
    }.items():
        assert sentence in rows[name]["what was found"], name


def test_the_junit_file_says_the_same(tables: Path) -> None:
    suites = {
        suite.get("name"): suite for suite in ElementTree.parse(tables / "junit.xml").getroot()
    }
    assert len(suites) == 13
    wrong = suites["b/wrong.ipynb"]
    assert (wrong.get("tests"), wrong.get("failures")) == ("2", "1")
    failure = wrong.find("testcase[@name='1']/failure")
    assert failure is not None
    assert failure.get("message") == "A point has no area."
    assert suites["a-right.ipynb"].find("testcase/failure") is None
    assert suites["f-empty.ipynb"].find("testcase/failure") is not None


def test_a_second_call_runs_only_what_has_changed(
    tables: Path, class_folder: Path, course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = checking.check

    known = {one.submission: one for one in reports.read_json(tables / "table.json")}
    stopped = ["c-hangs.ipynb", "d-crashes.ipynb"]  # a limit, or the machine, had a say

    def spy(submission: str, *rest: Any) -> Result:
        asked.append(submission)
        return known[submission] if submission in stopped else real(submission, *rest)

    monkeypatch.setattr(checking, "check", spy)
    before = (tables / "table.csv").read_text()
    command = class_command(class_folder, course, tables)
    assert main(command) == 1
    assert sorted(asked) == stopped
    assert (tables / "table.csv").read_text() == before

    changed = class_folder / "b" / "wrong.ipynb"
    changed.write_text(json.dumps(answer(read_notebook(course / "tiny.ipynb"))))
    asked.clear()
    assert main(command) == 1
    assert sorted(asked) == ["b/wrong.ipynb", *stopped]
    assert {one.submission: one.points for one in reports.read_json(tables / "table.json")} == {
        **{one["submission"]: float(one["points"]) for one in csv.DictReader(before.splitlines())},
        "b/wrong.ipynb": 4,
    }


def test_another_pack_is_another_check(tiny: Assignment) -> None:
    other = dataclasses.replace(tiny, checksum="of another pack")
    keys = {
        checking.key(b"x", [tiny], Limits()),
        checking.key(b"x", [other], Limits()),
        checking.key(b"y", [tiny], Limits()),
        checking.key(b"x", [tiny], Limits(seconds=60)),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lscgan, "__version__", "of another library")
        keys.add(checking.key(b"x", [tiny], Limits()))
    assert len(keys) == 5


def test_an_interrupted_class_keeps_what_is_done(course: Path, tiny: Assignment) -> None:
    """Every result is kept as it comes, in the order of the class."""
    kept: list[list[str]] = []
    student = (course / "tiny.ipynb").read_bytes()
    handed_in = {"a": b"", "b": student, "c": b"no"}
    found = checking.check_all(
        handed_in, [tiny], [], lambda results: kept.append([one.submission for one in results])
    )
    assert {one.submission for one in found} == set(handed_in)
    assert [len(names) for names in kept] == [0, 1, 2, 3]
    assert kept[-1] == ["a", "b", "c"]


def test_a_spreadsheet_takes_no_answer_for_a_formula() -> None:
    row = reports.csv_text([Result("=cmd()", "", problem="-1")]).splitlines()[1]
    assert row.startswith("'=cmd()")
    assert row.endswith("'-1")


def test_no_text_of_a_kernel_breaks_a_report() -> None:
    text = judge.one_line("\x1b[31mred\x1b[0m\n\tnext \x00\ud800 " + "x" * 999)
    assert text.startswith("red next")
    assert len(text) == judge.LONGEST_SENTENCE
    exercise = checking.Exercise("1", 0, 1, False, text)
    ElementTree.fromstring(reports.junit_text([Result("a", "", exercises=(exercise,))]))


# The command line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "none.ipynb"], "there is no none.ipynb"),
        (["check", "."], "holds no student notebook: name one with --against"),
        (["check", ".", "--hidden", "empty"], "empty holds no teacher's pack"),
        (["check", ".", "--hidden", "pack"], "is damaged: make the pack again"),
        (["check", ".", "--hidden", "other"], "is no teacher's pack"),
        (["check", "empty", "--hidden", "good"], "empty holds no submission"),
        (["make"], "masters holds no master"),
        (["make", "--masters", "masters", "none"], "has no master 'none'; it has: tiny"),
    ],
)
def test_misuse_gets_one_sentence(
    arguments: list[str], message: str, course: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pack = (course / "pack" / "tiny.json").read_text()
    for name, text in {
        "pack": pack.replace("t-area", "t-aera"),
        "other": "{}",
        "good": pack,
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "tiny.json").write_text(text)
    (tmp_path / "empty").mkdir()
    write_master(tmp_path / "a" / "b.ipynb", MASTER)
    write_master(tmp_path / "masters" / "tiny.ipynb", MASTER)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.splitlines()) == 1


def test_a_missing_tool_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("assignment", "checking", "judge", "making", "reports"):
        monkeypatch.delitem(sys.modules, f"lscgan.coursework.{name}")
        monkeypatch.delattr(lscgan.coursework, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "nbval"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["check", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("the coursework needs nbval")
    assert 'pip install "lscgan[coursework]"' in said


def test_the_help_says_that_it_is_no_sandbox(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "This is no sandbox." in capsys.readouterr().out


# The pages

PAGES = [ROOT / "book" / "coursework" / name for name in ("student.md", "teacher.md")]
COMMAND = "python -m lscgan.coursework "


def commands() -> list[str]:
    """The coursework commands of both pages; of a container's command, what runs inside."""
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    ]
    return [
        line[line.index(COMMAND) :].replace(" /answers.ipynb", " answers.ipynb")
        for block in blocks
        for line in block.splitlines()
        if COMMAND in line
    ]


@pytest.fixture(scope="session")
def clone(course: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages' commands name: a clone with the tiny master as its first assignment."""
    folder = tmp_path_factory.mktemp("course-and-pack") / "clone"
    masters = folder / "book" / "coursework" / "masters"
    write_master(masters / "01_latent_design.ipynb", MASTER)
    assert main(["make", "--masters", str(masters), "--pack", str(folder.parent / "pack")]) == 0
    student = (masters.parent / "01_latent_design.ipynb").read_bytes()
    (folder / "01_latent_design.ipynb").write_bytes(student)
    right = json.dumps(answer(json.loads(student)))
    (folder / "answers.ipynb").write_text(right)
    (folder / "submissions").mkdir()
    (folder / "submissions" / "somebody.ipynb").write_text(right)
    return folder


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_pages_does_what_they_say(
    command: str, clone: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(clone)
    words = shlex.split(command.removeprefix(COMMAND))
    if "<" in words:
        words, (file,) = words[: words.index("<")], words[words.index("<") + 1 :]
        monkeypatch.setattr(sys, "stdin", io.StringIO(Path(file).read_text()))
    status = main(words)
    out = capsys.readouterr().out
    assert status == 0, out
    if words[0] == "check":
        assert ("4 / 4" in out) == ("--hidden" in words)
    for option in ("--report", "--junit", "--csv"):
        if option in words:
            assert Path(words[words.index(option) + 1]).stat().st_size


def test_the_pages_show_every_command() -> None:
    shown = "\n".join(commands())
    for option in ("make --pack", "make --check", "--hidden ../pack", "--hidden -", "--csv"):
        assert option in shown
    assert all("sandbox" in page.read_text() for page in PAGES[1:])


# The book


def test_cleaning_leaves_a_student_notebook_as_it_was_made(course: Path) -> None:
    text = (course / "tiny.ipynb").read_text()
    notebook = nbformat.reads(text, as_version=4)
    notebooks.clean(notebook, is_run=False)
    assert nbformat.writes(notebook) + "\n" == text


def test_cleaning_keeps_the_roles_of_a_master(course: Path) -> None:
    notebook = nbformat.read(course / "masters" / "tiny.ipynb", as_version=4)
    before = copy.deepcopy(notebook.cells)
    notebooks.clean(notebook, is_run=False)
    assert [one.metadata.lscgan for one in notebook.cells] == [
        one.metadata.lscgan for one in before
    ]
    assert all(one.get("outputs", []) == [] for one in notebook.cells)


def test_the_built_book_holds_no_master(built_book: Path) -> None:
    """Neither pages nor downloads nor the search index know a master or a hidden check."""
    names = [path.relative_to(built_book).as_posix() for path in built_book.rglob("*")]
    assert "book/coursework/teacher.html" in names
    assert not [name for name in names if "masters" in name]
    for path in built_book.rglob("*"):
        if path.suffix in (".html", ".ipynb", ".txt", ".js", ".json", ".md"):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert "END SOLUTION" not in text, path
            assert '"role": "hidden"' not in text, path
