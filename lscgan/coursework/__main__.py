"""The command line: ``python -m lscgan.coursework make`` and ``... check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lscgan.coursework.assignment import Assignment
    from lscgan.coursework.checking import Limits, Result

BOOK = Path("book/coursework")
NO_SANDBOX = """\
This is no sandbox. A submission runs as a process of yours: code that means harm can read and
remove your files. Check the work of strangers inside a container without network, as an
unprivileged user, with everything but one folder read-only. The teacher's guide
(book/coursework/teacher.md) gives the command."""


def parser() -> argparse.ArgumentParser:
    whole = argparse.ArgumentParser(
        prog="python -m lscgan.coursework",
        description="Coursework: derive student notebooks from masters, and check submissions.",
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser("make", help="derive student notebooks and the teacher's pack")
    make.add_argument("names", nargs="*", metavar="MASTER", help="all of them if none is named")
    make.add_argument(
        "--masters", type=Path, default=BOOK / "masters", help="their folder (%(default)s)"
    )
    make.add_argument("--pack", type=Path, help="write the teacher's pack into this folder")
    make.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail where a student notebook is not what its master gives",
    )
    make.set_defaults(run=run_make)

    check = commands.add_parser(
        "check",
        help="check one submission, or a folder of them",
        description="Check one submission, or a folder of them. " + NO_SANDBOX,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.add_argument("submission", type=Path, help="a notebook, or a folder of notebooks")
    check.add_argument(
        "--hidden",
        metavar="PACK",
        help="the teacher's pack: its folder, one of its .json files, or - to read one from "
        "standard input; without it only visible checks are run and no points are given",
    )
    check.add_argument(
        "--against",
        type=Path,
        default=BOOK,
        help="without a pack: the student notebook as it was given, or a folder (%(default)s)",
    )
    check.add_argument("--report", type=Path, help="write all that was found, as JSON")
    check.add_argument("--junit", type=Path, help="write JUnit XML")
    check.add_argument(
        "--csv",
        type=Path,
        help="write a table; with its report beside it (.json) a second call goes on",
    )
    check.add_argument("--seconds", type=float, default=120, help="of a run (%(default)s)")
    check.add_argument("--memory", type=float, default=4096, help="of a run, in MB (%(default)s)")
    check.add_argument("--jobs", type=int, help="submissions at a time (the machine's cores)")
    check.set_defaults(run=run_check)
    return whole


def run_make(given: argparse.Namespace) -> int:
    from lscgan.coursework import making

    masters = making.masters(given.masters, given.names)
    if given.check:
        found = making.drifts(masters, given.masters)
        print("\n".join(found) or "Every student notebook is what its master gives.")
        return 1 if found else 0
    for master in masters:
        print(f"running {master.stem}", flush=True)
        making.write(making.make(master), making.student_notebook(master), given.pack)
    return 0


def run_check(given: argparse.Namespace) -> int:
    from lscgan.coursework import checking, judge, reports

    if not given.submission.exists():
        raise ValueError(f"there is no {given.submission}")
    judge.keep_memory_private()
    among = checking.assignments(given.hidden, given.against)
    limits = checking.Limits(given.seconds, given.memory)
    if given.submission.is_dir():
        results = _check_folder(given, among, limits)
    else:
        content = checking.read(given.submission)
        results = [checking.check(given.submission.name, content, among, limits)]
        results = checking.counted(results, among)
        print(reports.table(results[0]))
    texts = {
        given.report: reports.json_text,
        given.junit: reports.junit_text,
        given.csv: reports.csv_text,
    }
    for path, text in texts.items():
        if path is not None:
            reports.write(path, text(results))
    return 0 if all(result.right for result in results) else 1


def _check_folder(
    given: argparse.Namespace, among: list[Assignment], limits: Limits
) -> list[Result]:
    from tqdm import tqdm

    from lscgan.coursework import checking, reports
    from lscgan.data.packing import cores

    handed_in = checking.submissions(given.submission)
    if not handed_in:
        raise ValueError(f"{given.submission} holds no submission")
    report = given.report or (given.csv and given.csv.with_suffix(".json"))

    def keep(results: list[Result]) -> None:
        if report is not None:
            reports.write(report, reports.json_text(results))

    found = checking.check_all(
        handed_in,
        among,
        reports.read_json(report) if report is not None else [],
        keep,
        limits,
        given.jobs or cores(),
    )
    done = {one.submission: one for one in tqdm(found, total=len(handed_in), unit="notebook")}
    results = checking.counted([done[name] for name in handed_in], among)
    keep(results)
    print("\n\n".join(map(reports.table, results)))
    return results


def main(arguments: list[str] | None = None) -> int:
    """Run a command; returns its exit status: 0 all right, 1 something is not, 2 misuse."""
    given = parser().parse_args(arguments)
    try:
        return int(given.run(given))
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        said = f'the coursework needs {missing}: pip install "lscgan[coursework]"'
    except (ValueError, OSError) as error:
        said = str(error)
    print(said, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
