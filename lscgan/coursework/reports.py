"""What a check found, as a table to read, CSV, JSON and JUnit XML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from lscgan.coursework.checking import Exercise, Result
from lscgan.files import replacing


def table(result: Result) -> str:
    """Exercise, points, and what was wrong."""
    lines = [f"{result.submission}: {result.assignment or 'not checked'}"]
    if result.problem:
        return "\n".join([*lines, f"  {result.problem}"])
    lines += [f"  {'exercise':<10}{'points':>9}  what was found"]
    for one in result.exercises:
        lines.append(f"  {one.name:<10}{_points(one):>9}  {one.said}")
    lines += [f"  {answer.cell}: an answer of {answer.words} words" for answer in result.answers]
    lines += [f"  {note}" for note in result.notes]
    if all(one.points is not None for one in result.exercises):
        lines.append(f"  {'in all':<10}{f'{result.points:g} / {result.of:g}':>9}")
    else:
        lines.append("  visible checks only: points need the teacher's pack (--hidden)")
    return "\n".join(lines)


def _points(one: Exercise) -> str:
    return f"{'?' if one.points is None else f'{one.points:g}'} / {one.of:g}"


def csv_text(results: Sequence[Result]) -> str:
    """One line a submission: its points, those of each exercise, and what was wrong."""
    names = sorted({one.name for result in results for one in result.exercises})
    written = io.StringIO()
    columns = ["submission", "assignment", "points", "of", *names, "words", "what was found"]
    rows = csv.DictWriter(written, columns, lineterminator="\n")
    rows.writeheader()
    for result in results:
        wrong = [f"{one.name}: {one.said}" for one in result.exercises if not one.passed]
        row = {"submission": result.submission, "assignment": result.assignment or ""}
        row |= {"points": f"{result.points:g}", "of": f"{result.of:g}"}
        row |= {one.name: _bare(one) for one in result.exercises}
        row["words"] = str(sum(answer.words for answer in result.answers))
        row["what was found"] = result.problem or "; ".join([*wrong, *result.notes])
        rows.writerow({name: _harmless(value) for name, value in row.items()})
    return written.getvalue()


def _bare(one: Exercise) -> str:
    return "" if one.points is None else f"{one.points:g}"


def _harmless(value: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return "'" + value if value[:1] in ("=", "+", "-", "@") else value


def json_text(results: Sequence[Result]) -> str:
    """All that is known, text answers included."""
    return json.dumps([result.as_json() for result in results], indent=1) + "\n"


def read_json(path: Path) -> list[Result]:
    """The results that `json_text` wrote; none where there is no such file.

    Raises:
        ValueError: the file holds something else.
    """
    if not path.is_file():
        return []
    try:
        return [Result.from_json(said) for said in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError):
        raise ValueError(f"{path} is no report of a check: name another file") from None


def junit_text(results: Sequence[Result]) -> str:
    """JUnit XML: a suite a submission, a case an exercise."""
    suites = ElementTree.Element("testsuites", name="coursework")
    for result in results:
        suite = ElementTree.SubElement(suites, "testsuite", name=result.submission)
        cases = {one.name: None if one.passed else one.said for one in result.exercises}
        if result.problem:
            cases = {"submission": result.problem}
        for name, said in cases.items():
            about = {"classname": result.assignment or result.submission, "name": name}
            case = ElementTree.SubElement(suite, "testcase", about)
            if said:
                ElementTree.SubElement(case, "failure", message=said)
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(sum(said is not None for said in cases.values())))
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def write(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
