"""Run a grid of papermill runs, several at a time, and gather their figures into one table.

    python book/runs/sweep.py book/runs/grids/ablation.yaml --jobs 2

A grid names rows; every row is a run notebook with parameters, and is run once for each seed.
``common`` holds parameters of all rows, by notebook. A parameter ``"@other-row"`` stands for that
row's run folder of the same seed, and waits for it.
Every run has a folder of its own, ``runs/GRID/ROW-seed-SEED``. Give the same command again after
a crash or a kill: finished runs are skipped, the others resume where they stopped. The table is
``runs/GRID/figures.json``; it is written anew whenever a run ends.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lscgan.training import RunFolder

HERE = Path(__file__).parent
FINISHED = "asked.json"
"""What a finished run was asked: beside its figures, the sign that there is nothing left to do."""


@dataclass(frozen=True)
class Run:
    """One run of the grid: a row with a seed."""

    row: str
    seed: int
    notebook: str
    parameters: dict[str, Any]
    waits_for: frozenset[str]

    @property
    def name(self) -> str:
        return f"{self.row}-seed-{self.seed}"


def runs_of(grid: dict[str, Any], folder: Path) -> list[Run]:
    """The grid's runs, seed by seed, in the grid's order.

    Raises:
        ValueError: a row lacks a name or a notebook, is named twice, or refers to no earlier row.
    """
    runs: list[Run] = []
    for seed in grid["seeds"]:
        known: set[str] = set()
        for row in grid["rows"]:
            missing = {"name", "notebook"} - row.keys()
            if missing or row["name"] in known:
                raise ValueError(f"a row needs a name of its own and a notebook: {row}")
            if not (HERE / f"{row['notebook']}.ipynb").is_file():
                raise ValueError(f"{row['name']}: there is no run notebook {row['notebook']!r}")
            common = grid.get("common", {}).get(row["notebook"], {})
            parameters = {**common, **row.get("parameters", {}), "seed": seed}
            waits_for = set()
            for name, value in parameters.items():
                if isinstance(value, str) and value.startswith("@"):
                    if value[1:] not in known:
                        raise ValueError(f"{row['name']}: {value} is no earlier row of the grid")
                    waits_for.add(f"{value[1:]}-seed-{seed}")
                    parameters[name] = str(folder / f"{value[1:]}-seed-{seed}")
            known.add(row["name"])
            if seed in row.get("seeds", grid["seeds"]):
                run = Run(row["name"], seed, row["notebook"], parameters, frozenset(waits_for))
                parameters["folder"] = str(folder / run.name)
                runs.append(run)
    return runs


def finished(run: Run) -> bool:
    """Whether a run is done.

    Raises:
        ValueError: its folder holds a run with other parameters.
    """
    folder = Path(run.parameters["folder"])
    if not (folder / FINISHED).is_file():
        return False
    then = json.loads((folder / FINISHED).read_text())
    if then != run.parameters:
        changed = sorted(
            k for k in then.keys() | run.parameters.keys() if then.get(k) != run.parameters.get(k)
        )
        raise ValueError(
            f"{folder} holds a run with other parameters ({', '.join(changed)}): remove it to run "
            "the row again, or give the row another name"
        )
    return True


def execute(run: Run) -> str | None:
    """Run a notebook in a process of its own; returns what went wrong, or None."""
    folder = Path(run.parameters["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    notebook, out = HERE / f"{run.notebook}.ipynb", folder / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(notebook), str(out), "--no-progress-bar"]
    command += ["-y", yaml.safe_dump(run.parameters)]
    log = folder / "log.txt"
    with log.open("w") as file:
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        last = [line for line in log.read_text().splitlines() if line.strip()][-1:]
        return f"{run.name} failed ({''.join(last)}): see {log}"
    RunFolder(folder).write_json(FINISHED, run.parameters)
    return None


def gather(grid: dict[str, Any], runs: list[Run], folder: Path) -> None:
    """Write the table: one entry a finished run, with its figures and its curves of control."""
    rows = []
    for run in runs:
        done = RunFolder(run.parameters["folder"])
        if not (done.path / FINISHED).is_file():
            continue
        watched = [line for line in done.metrics() if "control" in line]
        rows.append(
            {
                "row": run.row,
                "seed": run.seed,
                "figures": compact(done.figures),
                "curve": [[line["images"], line["control"]] for line in watched],
                "seconds": done.summary["seconds"],
                "device": done.summary["device"],
            }
        )
    table = RunFolder(folder)
    table.write_json("config.json", grid)
    table.write_json("figures.json", {"rows": rows})


def compact(figures: Any) -> Any:
    """Figures without what a table has no use for: repeated settings, means by group, digits."""
    if isinstance(figures, dict):
        left = {k: compact(v) for k, v in figures.items() if k not in ("given", "posterior")}
        for key, worst in (("passed_by_group", min), ("curvature_by_group", max)):
            if key in left:
                left[key.replace("by_group", "in_worst_group")] = _worst(left.pop(key), worst)
        return left
    if isinstance(figures, list):
        return [compact(value) for value in figures]
    return round(figures, 5) if isinstance(figures, float) else figures


def _worst(by_group: dict[str, Any], worst: Any) -> Any:
    if by_group and all(isinstance(value, dict) for value in by_group.values()):
        return {judge: _worst(groups, worst) for judge, groups in by_group.items()}
    if not by_group:
        return None
    group = worst(by_group, key=lambda name: by_group[name][0])
    return [group, by_group[group][0]]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("grid", type=Path, help="a YAML file: name, seeds, common, rows")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; 1 by default")
    parser.add_argument("--seeds", type=int, nargs="+", help="these of the grid's seeds only")
    parser.add_argument("--folder", type=Path, default=Path("runs"), help="where runs go")
    arguments = parser.parse_args()
    grid = yaml.safe_load(arguments.grid.read_text())
    folder = arguments.folder / grid["name"]
    runs = runs_of(grid, folder)
    asked = arguments.seeds or grid["seeds"]
    left = [run for run in runs if run.seed in asked and not finished(run)]
    print(f"{len(runs)} runs, {len(left)} of them to do now", flush=True)
    gather(grid, runs, folder)

    ended = {run.name: threading.Event() for run in left}
    failed: dict[str, str] = {}
    writing = threading.Lock()
    if arguments.jobs > 1:  # processes that share the cores should not also share each core
        os.environ.setdefault(
            "OMP_NUM_THREADS", str(max((os.cpu_count() or 1) // arguments.jobs, 1))
        )

    def one(run: Run) -> None:
        for name in run.waits_for & ended.keys():
            ended[name].wait()
        broken = run.waits_for & failed.keys()
        problem = f"{run.name} needs {min(broken)}, which failed" if broken else execute(run)
        with writing:
            if problem:
                failed[run.name] = problem
            gather(grid, runs, folder)
            print(problem or f"{run.name} is finished", flush=True)
        ended[run.name].set()

    # In the grid's order: what a run waits for has always been started before it.
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, left))
    print(f"{len(left) - len(failed)} finished, {len(failed)} failed: {folder / 'figures.json'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
