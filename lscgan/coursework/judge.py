"""Run one restored notebook under nbval, in a process of its own; the judge of a submission.

Started as a script by `checking`, so that the library (and torch with it) is not imported here: a
class of submissions would pay for it each time. Reads a job (JSON) from its standard input and
writes the verdict (JSON) to its standard output:

    {"nonce": ..., "folder": ..., "seconds": ..., "memory": ..., "processes": ...,
     "cells": [{"id", "source", "reference", "tolerance", "advice"}, ...]}
    {"nonce": ..., "cells": {id: null or {"said": ..., "error": ...}}, "stopped": null or ...}

A tolerance of null compares names alone, no values. The notebook with its references is read into
memory and removed from the disk before the kernel starts. The kernel's processes are watched from
here, and killed when they pass a limit.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import Empty
from typing import Any

import nbformat
import psutil
import pytest
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError, coalesce_streams

TOLERANCE = 1e-4
LONGEST_SENTENCE = 300
_POLL = 0.2  # seconds between two looks at the kernel's processes
_PATIENCE = 30.0  # seconds that a cell's output may lag behind its end, on a busy machine
_LINE = re.compile(r"\s*(?P<name>[^=]*[^=\s])\s*=\s*(?P<value>[^=].*?)\s*")
_NUMBER = r"(?<![\w.])[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?)(?![\w.])"
_TOKEN = re.compile(rf"(?P<number>{_NUMBER})|\w+|[^\w\s]")


# Comparing what was printed


def named_lines(printed: str) -> dict[str, list[str]]:
    """The values of all lines ``name = value``, by name."""
    found: dict[str, list[str]] = {}
    for line in printed.splitlines():
        if match := _LINE.fullmatch(line):
            found.setdefault(match["name"], []).append(match["value"])
    return found


def agree(value: str, reference: str, tolerance: float) -> bool:
    """Whether two texts have the same words, and numbers r and v with |v - r| <= t max(1, |r|)."""
    ours, theirs = list(_TOKEN.finditer(value)), list(_TOKEN.finditer(reference))
    if len(ours) != len(theirs):
        return False
    for our, their in zip(ours, theirs, strict=True):
        if our["number"] and their["number"]:
            number, wanted = float(our["number"]), float(their["number"])
            if not abs(number - wanted) <= tolerance * max(1.0, abs(wanted)):
                return False
        elif our[0] != their[0]:
            return False
    return True


def printed_values(printed: str, names: Iterable[str]) -> dict[str, list[str]]:
    """The values that were printed under known names, each up to the next name or the line's end.

    What stands before a name on its line is ignored, so that ``print(..., end=" ")`` in an answer
    does not hide what the check prints next.
    """
    longest_first = sorted(names, key=len, reverse=True)
    known = rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})[ \t]*=(?!=)"
    found: dict[str, list[str]] = {}
    for match in re.finditer(rf"({known})(.*?)(?={known}|$)", printed, re.MULTILINE):
        found.setdefault(match[1][:-1].rstrip(), []).append(match[2].strip())
    return found


def difference(
    printed: str,
    reference: str,
    tolerance: float | dict[str, float] | None,
    advice: dict[str, str],
) -> str | None:
    """A sentence on the first named line of the reference that does not agree; None if all do.

    Without a tolerance values are not compared: each name must be printed once.
    """
    tolerances: dict[str, Any] = tolerance if isinstance(tolerance, dict) else {"*": tolerance}
    references = named_lines(reference)
    values = printed_values(printed, references)
    for name, (wanted,) in references.items():
        given = values.get(name, [])
        if not given:
            return f"the check could not print {name!r}"
        if len(given) > 1:
            return (
                f"{name!r} was printed {len(given)} times: only the check may print it, so remove"
                " that print from your cell"
            )
        allowed = tolerances.get(name, tolerances.get("*", TOLERANCE))
        if allowed is not None and not agree(given[0], wanted, allowed):
            return advice.get(name, advice.get("*", f"{name!r} is not what it should be"))
    return None


def one_line(text: str) -> str:
    """A text of the kernel as one short line that any table and any XML can hold."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_SENTENCE else text[: LONGEST_SENTENCE - 1] + "…"


# nbval, with our comparison and our limits


class KernelEnded(Exception):
    """The kernel ended while a cell ran: it crashed, or it was stopped at a limit."""


class WatchedKernel(RunningKernel):
    """nbval's kernel; it also notices when the kernel ends in the middle of a cell."""

    def await_reply(self, msg_id: str, timeout: float | None = None) -> None:
        while True:
            try:
                super().await_reply(msg_id, timeout=_POLL)
                return
            except Empty:
                if not self.is_alive():
                    raise KernelEnded from None


class JudgedCell(IPyNbCell):
    """A cell: nbval runs it; what it prints is compared by named lines, with a tolerance."""

    def compare_outputs(self, test: Any, ref: Any, skip_compare: Any = None) -> bool:
        printed, reference = (
            "".join(
                out.text for out in outs if out.output_type == "stream" and out.name == "stdout"
            )
            for outs in (coalesce_streams(test), ref)
        )
        about = self.cell.metadata
        said = difference(printed, reference, about["tolerance"], about["advice"])
        self.comparison_traceback = [said or ""]
        return said is None

    def runtest(self) -> None:
        verdicts = self.parent.verdicts
        verdicts[self.cell.id] = {"said": "was not reached", "error": "not reached"}
        if self.parent.kernel is None or not self.parent.kernel.is_alive():
            raise KernelEnded
        try:
            super().runtest()
        except NbCellError as error:
            verdicts[self.cell.id] = self._verdict(error)
            raise
        except KernelEnded:
            verdicts[self.cell.id] = {"said": "ended the kernel", "error": "ended"}
            raise
        verdicts[self.cell.id] = None

    def _verdict(self, error: NbCellError) -> dict[str, str]:
        for out in self.test_outputs or []:
            if out.output_type == "error":
                name, said = str(out.ename), one_line(str(out.evalue))
                plain = name in ("AssertionError", "NotImplementedError") and said
                return {"said": said if plain else f"{name}: {said}", "error": name}
        return {"said": one_line(error.inner_traceback or str(error)), "error": "differs"}


class JudgedFile(IPyNbFile):
    """The notebook: read into memory, then removed, before its kernel starts."""

    verdicts: dict[str, dict[str, str] | None]
    seconds: float

    def collect(self) -> Iterator[JudgedCell]:
        for item in list(super().collect()):
            # Fixed here: no marker and no tag of the notebook has a say.
            options = {"check": bool(item.cell.outputs), "skip": False, "check_exception": False}
            judged = JudgedCell.from_parent(
                self, name=item.name, cell_num=item.cell_num, cell=item.cell, options=options
            )
            judged.output_timeout = _PATIENCE
            yield judged
        self.path.unlink()

    def setup(self) -> None:
        self.kernel = WatchedKernel(
            CURRENT_ENV_KERNEL_NAME, cwd=str(self.path.parent), startup_timeout=self.seconds
        )


class Judging:
    """The pytest plugin: collects the one notebook and keeps the verdicts."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.verdicts: dict[str, dict[str, str] | None] = {}

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> JudgedFile | None:
        if file_path.suffix != ".ipynb":
            return None
        judged: JudgedFile = JudgedFile.from_parent(parent, path=file_path)
        judged.verdicts, judged.seconds = self.verdicts, self.seconds
        return judged


# The watch


def descendants() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def kill_all(listed: Callable[[], list[psutil.Process]]) -> None:
    """End all listed processes: all are stopped first, so that none forks meanwhile."""
    while living := [p for p in listed() if p.is_running() and not _is_zombie(p)]:
        for act in ("suspend", "kill"):
            for process in living:
                with contextlib.suppress(psutil.NoSuchProcess):
                    getattr(process, act)()
        psutil.wait_procs(living, timeout=1)


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def watch(
    seconds: float,
    memory: float,
    processes: int,
    stop: Callable[[str], None],
    done: threading.Event,
) -> None:
    """Look at the processes below this one until ``done``; at a limit say which, and kill them.

    Args:
        seconds: limit of the whole run.
        memory: limit of the resident memory of all processes together, this one included, in MB.
        processes: limit of their number.
    """
    end = time.monotonic() + seconds
    while not done.wait(_POLL):
        with contextlib.suppress(psutil.Error):
            running = descendants()
            used = psutil.Process().memory_info().rss
            for process in running:
                with contextlib.suppress(psutil.Error):
                    used += process.memory_info().rss
            if time.monotonic() > end:
                reason = f"the run passed its limit of {seconds:g} seconds"
            elif used > memory * 2**20:
                reason = f"the run passed its limit of {memory:g} MB of memory"
            elif len(running) > processes:
                reason = f"the run passed its limit of {processes} processes"
            else:
                continue
            stop(reason)
            kill_all(descendants)


def adopt_orphans() -> None:
    """Let processes whose parent ended stay below this one (Linux), where the watch sees them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def keep_memory_private() -> None:
    """Let no other process of this user read this one's memory (Linux): it holds references."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Run the job's cells; returns the verdicts."""
    notebook = nbformat.v4.new_notebook()
    for cell in job["cells"]:
        code = nbformat.v4.new_code_cell(cell["source"], id=cell["id"], execution_count=1)
        if cell["reference"] is not None:
            code.outputs = [nbformat.v4.new_output("stream", name="stdout", text=cell["reference"])]
        code.metadata.update(tolerance=cell["tolerance"], advice=cell["advice"])
        notebook.cells.append(code)
    path = Path(job["folder"]) / "submission.ipynb"
    nbformat.write(notebook, path)

    stopped: list[str] = []
    done = threading.Event()
    limits = job["seconds"], job["memory"], job["processes"]
    guard = threading.Thread(target=watch, args=(*limits, stopped.append, done), daemon=True)
    guard.start()
    judging = Judging(job["seconds"])
    arguments = [str(path), f"--rootdir={path.parent}", f"-c{os.devnull}", "--noconftest"]
    arguments += ["-pnbval.plugin", "-pno:cacheprovider", "-pno:warnings", "-pno:faulthandler"]
    pytest.main(arguments, plugins=[judging])
    done.set()
    guard.join()
    kill_all(descendants)
    if not judging.verdicts and not stopped:
        stopped.append("the kernel could not be started: check again when the machine is less busy")
    return {
        "nonce": job["nonce"],
        "cells": judging.verdicts,
        "stopped": stopped[0] if stopped else None,
    }


def main() -> None:
    job = json.load(sys.stdin)
    # The kernel inherits neither the way to the verdict nor anything to read.
    answer = os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    adopt_orphans()
    keep_memory_private()
    json.dump(run(job), answer)
    answer.close()


if __name__ == "__main__":
    main()
