"""The script that runs a grid of papermill runs: order, skipping, resuming, the table."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from test_repository import ROOT, script

GRIDS = sorted((ROOT / "book" / "runs" / "grids").glob("*.yaml"))


@pytest.fixture(scope="module")
def sweep() -> ModuleType:
    module: ModuleType = script("book/runs/sweep.py")
    return module


def grid(**changes: Any) -> dict[str, Any]:
    rows = [
        {"name": "first", "notebook": "lsc_vae", "parameters": {"images": 64}},
        {"name": "second", "notebook": "lsc_gan", "parameters": {"vae": "@first"}},
    ]
    return {
        "name": "g",
        "seeds": [3, 4],
        "common": {"lsc_vae": {"width": 4}},
        "rows": rows,
    } | changes


def test_every_row_is_run_for_every_seed_and_refers_to_the_same_seed(
    sweep: ModuleType, tmp_path: Path
) -> None:
    runs = sweep.runs_of(grid(), tmp_path)
    assert [run.name for run in runs] == [
        "first-seed-3",
        "second-seed-3",
        "first-seed-4",
        "second-seed-4",
    ]
    assert runs[0].parameters == {
        "width": 4,
        "images": 64,
        "seed": 3,
        "folder": str(tmp_path / "first-seed-3"),
    }
    assert runs[3].parameters["vae"] == str(tmp_path / "first-seed-4")
    assert runs[3].waits_for == {"first-seed-4"}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"name": "first", "notebook": "lsc_vae"}, "a name of its own"),
        ({"notebook": "lsc_vae"}, "a name of its own"),
        ({"name": "third", "notebook": "magic"}, "no run notebook 'magic'"),
        ({"name": "third", "notebook": "lsc_gan", "parameters": {"vae": "@no"}}, "no earlier row"),
    ],
)
def test_a_wrong_row_is_refused(
    sweep: ModuleType, tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        sweep.runs_of(grid(rows=[*grid()["rows"], row]), tmp_path)


def test_a_finished_run_is_known_by_what_it_was_asked(sweep: ModuleType, tmp_path: Path) -> None:
    first = sweep.runs_of(grid(), tmp_path)[0]
    assert not sweep.finished(first)
    Path(first.parameters["folder"]).mkdir()
    done = Path(first.parameters["folder"]) / sweep.FINISHED
    done.write_text(json.dumps(first.parameters))
    assert sweep.finished(first)
    done.write_text(json.dumps({**first.parameters, "images": 65}))
    with pytest.raises(ValueError, match=r"other parameters \(images\)"):
        sweep.finished(first)


def test_a_sweep_runs_gathers_skips_and_survives_a_failure(
    sweep: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small: dict[str, Any] = {"images": 64, "count": 64, "batch_size": 32, "width": 4, "size": 32}
    small |= {"samples": 150, "turned_faces": 30, "device": "cpu"}
    rows = [
        {"name": "vae", "notebook": "lsc_vae", "parameters": {"latent_size": 256}},
        {"name": "wrong", "notebook": "lsc_vae", "parameters": {"latent_size": 10}},
        {"name": "after", "notebook": "lsc_gan", "parameters": {"vae": "@wrong"}},
    ]
    what = grid(seeds=[0], rows=rows, common={"lsc_vae": small})
    file = tmp_path / "grid.yaml"
    file.write_text(yaml.safe_dump(what))
    monkeypatch.setattr(sys, "argv", ["sweep.py", str(file), "--folder", str(tmp_path)])
    assert sweep.main() == 1
    said = capsys.readouterr().out
    assert "vae-seed-0 is finished" in said
    assert "wrong-seed-0 failed" in said
    assert "after-seed-0 needs wrong-seed-0, which failed" in said
    (row,) = json.loads((tmp_path / "g" / "figures.json").read_text())["rows"]
    assert (row["row"], row["seed"]) == ("vae", 0)
    assert row["figures"]["control"]["count"] == 150
    assert len(row["figures"]["reversal"]["doses"][0]["passed_in_worst_group"]) == 2

    assert sweep.main() == 1
    assert "3 runs, 2 of them to do now" in capsys.readouterr().out


def test_the_table_keeps_the_worst_group_only(sweep: ModuleType) -> None:
    compact = sweep.compact(
        {
            "given": {"seed": 0},
            "x": 0.123456789,
            "passed_by_group": {"a": [0.9, 0.8, 1.0], "b": [0.5, 0.4, 0.6]},
            "curvature_by_group": {"judge": {"a": [-0.2, 0, 0], "b": [-0.4, 0, 0]}},
        }
    )
    assert compact == {
        "x": 0.12346,
        "passed_in_worst_group": ["b", 0.5],
        "curvature_in_worst_group": {"judge": ["a", -0.2]},
    }


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_the_books_grids_ask_for_parameters_that_exist(sweep: ModuleType, path: Path) -> None:
    import papermill

    what = yaml.safe_load(path.read_text())
    assert what["name"] == path.stem
    for run in sweep.runs_of(what, Path("runs")):
        known = papermill.inspect_notebook(ROOT / "book" / "runs" / f"{run.notebook}.ipynb")
        assert run.parameters.keys() <= known.keys(), run.name
