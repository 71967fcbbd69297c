"""The run notebooks, driven by papermill as a user would, at a tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

RUNS = Path(__file__).parent.parent / "book" / "runs"


def run(name: str, folder: Path, **parameters: Any) -> str:
    """Execute a run notebook in ``folder``; returns all the text that its cells printed."""
    out = folder / "out.ipynb"
    papermill.execute_notebook(
        RUNS / f"{name}.ipynb",
        out,
        parameters={"folder": str(folder / "run"), "device": "cpu", **parameters},
        cwd=folder,
        progress_bar=False,
    )
    cells = nbformat.read(out, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") for output in outputs)


def test_lsc_vae_end_to_end(tmp_path: Path) -> None:
    small = {"images": 640, "count": 256, "batch_size": 32, "width": 4, "samples": 200}
    said = run("lsc_vae", tmp_path, latent_size=256, learning_rate=0.001, **small)
    folder = tmp_path / "run"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["control"]["count"] == 200
    assert figures["fidelity"]["count"] == 200
    assert figures["pixel_values_per_dimension"] == 64 * 64 * 3 / 256
    assert figures["reversal"]["doses"][0]["amount"] == -2.0
    assert json.loads((folder / "summary.json").read_text())["images"] == 640
    assert json.loads((folder / "config.json").read_text())["training"]["images"] == 640
    assert (folder / "samples.png").is_file()
    assert "NO   control, mean >= 0.98" in said  # ten steps do not make a good model

    # Run again: nothing is trained twice.
    weights = (folder / "model.safetensors").stat().st_mtime_ns
    run("lsc_vae", tmp_path, latent_size=256, learning_rate=0.001, **small)
    assert (folder / "model.safetensors").stat().st_mtime_ns == weights


def test_judges_end_to_end(tmp_path: Path) -> None:
    small = {
        "images": 640,
        "count": 512,
        "batch_size": 32,
        "width": 4,
        "mouth_count": 600,
        "size": 32,
    }
    said = run("judge", tmp_path, gate_count=600, test_count=1000, **small)
    assert "mean accuracy" in said
    for name in ("face-judge", "mouth-judge", "face-gate"):
        folder = tmp_path / "run" / name
        assert (folder / "model.safetensors").is_file()
        assert json.loads((folder / "figures.json").read_text())


def test_sweep_end_to_end_and_skips_what_is_done(tmp_path: Path) -> None:
    small: dict[str, Any] = {"images": 128, "count": 128, "batch_size": 32, "width": 4}
    small |= {"samples": 64, "dims": [1, 2], "seeds": [0, 1], "broken": False, "latent_size": 64}
    run("lsc_vae_sweep", tmp_path, **small)
    rows = json.loads((tmp_path / "run" / "figures.json").read_text())["rows"]
    assert [(row["name"], row["seed"]) for row in rows] == [
        ("k=1", 0),
        ("k=2", 0),
        ("k=1", 1),
        ("k=2", 1),
    ]
    assert rows[0]["control_mean"] != rows[2]["control_mean"] or rows[0]["kl"] != rows[2]["kl"]


SMALL_FACES = {"images": 192, "batch_size": 32, "samples": 200, "turned_faces": 40}


def test_lsc_gan_end_to_end_from_a_run_folder(tmp_path: Path) -> None:
    vae = {"count": 64, "width": 4, "size": 32, "latent_size": 256, "learning_rate": 0.001}
    run("lsc_vae", tmp_path, **SMALL_FACES, **vae)
    start = (tmp_path / "run").rename(tmp_path / "vae")
    said = run(
        "lsc_gan", tmp_path, vae=str(start), count=64, reach_after=2, watched=50, **SMALL_FACES
    )
    folder = tmp_path / "run"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["given"]["vae"] == str(start)
    assert figures["fidelity"]["count"] == figures["fidelity_of_vae"]["count"] == 200
    assert figures["fidelity"]["frechet"] != figures["fidelity_of_vae"]["frechet"]
    assert {"neutral", "dark skin, short dark hair"} == set(figures["edits"])
    assert figures["values_per_dimension"] == 32 * 32 * 3 / 256
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[0]["images"] == 0
    assert all(0 <= line["control"] <= 1 for line in lines)
    assert "NO   control, mean >= 0.995" in said  # six steps do not make a good model


@pytest.mark.parametrize("kind", ["conditional-vae", "conditional-gan", "arithmetic"])
def test_baselines_end_to_end(kind: str, tmp_path: Path) -> None:
    run("baselines", tmp_path, kind=kind, count=64, width=4, **SMALL_FACES)
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["control"]["count"] == 200
    assert figures["reversal"]["doses"][0]["amount"] == -2.0


def test_an_unknown_baseline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run("baselines", tmp_path, kind="magic", count=64, width=4, **SMALL_FACES)
    assert "not 'magic'" in str(stopped.value)


@pytest.mark.parametrize("name", ["judge", "lsc_vae", "lsc_vae_sweep", "lsc_gan", "baselines"])
def test_a_misspelt_parameter_stops_the_run_and_names_the_valid_ones(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run(name, tmp_path, imagse=100)
    assert "no parameter 'imagse' (did you mean images?)" in str(stopped.value)
    assert "batch_size" in str(stopped.value)
    assert not (tmp_path / "run").exists()


def test_an_ill_typed_parameter_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run("lsc_vae", tmp_path, images="many")
    assert "the parameter 'images' takes int, not 'many'" in str(stopped.value)


def test_a_list_given_as_text_is_refused_with_the_way_to_give_one(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run("lsc_vae_sweep", tmp_path, seeds="[0]")
    assert "takes list[int], not '[0]': pass a list as -y 'seeds: [...]'" in str(stopped.value)


def test_every_parameter_is_typed_and_explained() -> None:
    for path in sorted(RUNS.glob("*.ipynb")):
        for name, parameter in papermill.inspect_notebook(path).items():
            assert parameter["inferred_type_name"] != "None", f"{path.name}: {name} has no type"
            assert parameter["help"], f"{path.name}: {name} has no comment"
