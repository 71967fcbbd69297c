"""The run notebooks, driven by papermill as a user would, at a tiny size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from lscgan import hub
from lscgan.data import LabelledImages, celeba, load
from lscgan.evaluation import fidelity

RUNS = Path(__file__).parent.parent / "book" / "runs"

DEVICE = os.environ.get("LSCGAN_TEST_DEVICE", "cpu")
"""Where the notebooks train and measure: "cuda" on a machine with a GPU."""


def run(name: str, folder: Path, **parameters: Any) -> str:
    """Execute a run notebook in ``folder``; returns all the text that its cells printed."""
    out = folder / "out.ipynb"
    papermill.execute_notebook(
        RUNS / f"{name}.ipynb",
        out,
        parameters={"folder": str(folder / "run"), "device": DEVICE, **parameters},
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
    vae = {
        "count": 64,
        "width": 4,
        "size": 32,
        "latent_size": 256,
        "learning_rate": 0.001,
        "flow": 8,
        "unpainted": ["Smiling"],
    }
    run("lsc_vae", tmp_path, **SMALL_FACES, **vae)
    start = (tmp_path / "run").rename(tmp_path / "vae")
    said = run(
        "lsc_gan",
        tmp_path,
        vae=str(start),
        count=64,
        reach=1.0,
        reach_after=2,
        watched=50,
        **SMALL_FACES,
    )
    folder = tmp_path / "run"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["given"]["vae"] == str(start)
    model = json.loads((folder / "config.json").read_text())["model"]["config"]
    assert (model["flow"], model["unpainted"], model["carry"]) == (8, ["Smiling"], 1)
    assert figures["fidelity"]["count"] == figures["fidelity_of_vae"]["count"] == 200
    assert figures["fidelity"]["frechet"] != figures["fidelity_of_vae"]["frechet"]
    drawn = [one["precision"] for one in figures["fidelity_by_draw"]["gan"]]
    assert len(drawn) == 5
    assert figures["fidelity"]["precision"] == pytest.approx(sum(drawn) / 5)
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


def test_opposites_end_to_end(tmp_path: Path) -> None:
    small = {"samples": 20, "ruler_count": 600, "test_count": 200, "models": ["lsc-vae-faces"]}
    run("opposites", tmp_path, **small)
    rows = json.loads((tmp_path / "run" / "figures.json").read_text())["rows"]
    assert [row["attribute"] for row in rows] == ["Pale_Skin", "Bushy_Eyebrows"]
    for row in rows:
        assert 0 < row["count"] <= 20
        assert [dose["amount"] for dose in row["doses"]] == [-2.0, -1.0, 0.0, 1.0, 2.0]


def test_the_dial_ends_where_its_two_models_are(tmp_path: Path) -> None:
    run("dial", tmp_path, shares=[0.0, 1.0], draws=2, samples=300, turned_faces=20)
    rows = json.loads((tmp_path / "run" / "figures.json").read_text())["rows"]
    found = {(row["share"], row["carry"]): row["fidelity"] for row in rows}
    assert list(found) == [(0.0, 0), (0.0, 1), (1.0, 0), (1.0, 1)]
    held_out = load("faces", "validation", count=300)
    judge = hub.judges().face
    for end, name in (((0.0, 0), "lsc-vae-faces-unpainted"), ((1.0, 1), "lsc-gan-faces")):
        expected = fidelity(hub.load(name), judge, held_out, torch.Generator().manual_seed(1))
        assert found[end][1]["precision"] == pytest.approx(expected.precision, abs=0.004)
        assert found[end][1]["sharpness"] == pytest.approx(expected.sharpness, rel=1e-3)
        assert found[end][0] != found[end][1]  # another draw


def test_a_judge_of_classes_end_to_end(tmp_path: Path) -> None:
    run("class_judge", tmp_path, labels=40, images=1_600, batch_size=64, width=4)
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["labels"] == 40
    assert figures["test_images"] == 500
    share, low, high = figures["accuracy"]
    assert 0.1 < low < share < high  # it reads better than chance
    assert len(figures["accuracy_by_class"]) == 10


SMALL_CODES = {"images": 256, "batch_size": 64, "width": 4, "hidden": 16}


@pytest.mark.parametrize("information_weight", [0.8, 0.0])
def test_infogan_end_to_end(information_weight: float, tmp_path: Path) -> None:
    small = {**SMALL_CODES, "categorical": [10, 3], "continuous": 1, "noise": 8}
    run("infogan", tmp_path, information_weight=information_weight, **small)
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert sorted(figures["control"]["mapping"]) == list(range(10))
    assert sum(map(sum, figures["control"]["counts"])) == 1_280
    assert set(figures["information"]) == {"categorical_1", "categorical_2", "continuous_1"}
    assert figures["information"]["categorical_1"][0] <= figures["information"]["categorical_1"][1]
    assert [code["code"] for code in figures["codes"]] == ["continuous_1"]
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert [line["images"] for line in lines] == [0, 256]
    assert all(0 <= line["control"] <= 1 for line in lines)


def test_ss_infogan_end_to_end(tmp_path: Path) -> None:
    run("ss_infogan", tmp_path, labels=20, categorical=[3], continuous=1, noise=8, **SMALL_CODES)
    folder = tmp_path / "run"
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["labels"] == 20
    assert set(figures["alone"]) == {"labels only", "judge on labels"}
    assert 0 <= figures["q_ss"][0] <= 1
    assert figures["fidelity"]["nearness"] > 0
    settings = json.loads((folder / "config.json").read_text())
    assert settings["batches"]["labelled"] == settings["data"]["labels_kept"] == 20


@pytest.mark.parametrize("fill", ["ss-infogan", "labels-only", "known", "all"])
def test_both_papers_end_to_end(fill: str, tmp_path: Path) -> None:
    small = {"count": 200, "labels": 100, "reader_images": 256, "vae_images": 128}
    run(
        "few_labels",
        tmp_path,
        fill=fill,
        gan_images=128,
        width=4,
        samples=200,
        turned_faces=10,
        **small,
    )
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["labels"] == (200 if fill == "all" else 100)
    right = figures["labels_right"].values()
    given = fill in ("known", "all")
    assert all((share == 1.0) if given else (0.5 <= share <= 1.0) for share in right)
    assert figures["control"]["count"] == 200


def test_an_unknown_way_to_fill_in_is_refused(tmp_path: Path) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run("few_labels", tmp_path, fill="magic", count=64)
    assert "not 'magic'" in str(stopped.value)


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn faces in CelebA's layout, just enough to measure on."""
    return celeba.draw(tmp_path_factory.mktemp("stand-in"), 1_400)


SMALL_CELEBA = {
    **{"size": 16, "width": 2, "latent_size": 300, "batch_size": 32, "turned_faces": 20},
    **{"judge_images": 512, "vae_images": 512, "gan_images": 256},
}


@pytest.fixture(scope="session")
def celeba_run(stand_in: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of the paper's own experiment from end to end, and what its cells printed."""
    folder = tmp_path_factory.mktemp("celeba-run")
    said = run("celeba", folder, root=str(stand_in), **SMALL_CELEBA)
    return folder / "run", said


def test_the_papers_experiment_end_to_end(celeba_run: tuple[Path, str], stand_in: Path) -> None:
    folder, said = celeba_run
    assert "14 blocks of 20 dimensions, 20 dimensions free" in said
    assert "1,120 images, 3 x 16 x 16" in said
    assert "! Male and Female are opposites: each image has exactly one." in said
    for part, images in ((folder / "judge", 512), (folder / "vae", 512), (folder, 256)):
        assert json.loads((part / "summary.json").read_text())["images"] == images
        assert hub.load(part)
    figures = json.loads((folder / "figures.json").read_text())
    assert figures["faces"] == {"train": 1_120, "test": 140}
    assert set(figures["asked_and_read"]) == {"real", "VAE", "GAN"}
    # Read again, by hand: the judge's sensitivity on the real test faces.
    judge = hub.load(folder / "judge")
    faces = load("celeba", "test", root=stand_in, size=16, attributes=celeba.PAPER)
    read = judge.attributes(faces.float()) > 0.5
    there = faces.labels > 0.5
    for column, name in enumerate(celeba.PAPER):
        share = float((read & there)[:, column].sum() / there[:, column].sum())
        assert figures["asked_and_read"]["real"]["sensitivity"][name][0] == pytest.approx(share)
    readable = figures["attributes_that_the_judge_can_read"]
    assert not {"Male", "Female", "Young"} & set(readable)  # coins that no picture shows
    assert figures["fidelity"]["VAE"]["frechet"] != figures["fidelity"]["GAN"]["frechet"]
    amounts = [dose["amount"] for dose in figures["responses"]["real faces"]]
    assert (amounts[0], amounts[-1], len(amounts)) == (-1.0, 1.0, 9)
    assert set(figures["moved"]) == set(celeba.PAPER)
    assert set(figures["seconds"]) == {"loading", "judge", "vae", "gan", "measuring"}
    assert set(figures["estimated"]) == {"T4", "L4", "A100", "H100"}
    assert str(stand_in) not in (folder / "figures.json").read_text()  # a record names no folder
    assert "NO   the judge reads real faces" in said  # sixteen steps do not make a good judge


def test_the_papers_experiment_killed_goes_on_to_the_same_weights(
    celeba_run: tuple[Path, str], stand_in: Path, tmp_path: Path
) -> None:
    given = {"folder": str(tmp_path / "run"), "root": str(stand_in), "device": DEVICE}
    chosen = [text for name, value in {**given, **SMALL_CELEBA}.items()
              for text in ("-p", name, str(value))]  # fmt: skip
    notebook = [str(RUNS / "celeba.ipynb"), str(tmp_path / "out.ipynb"), "--cwd", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "papermill", *notebook, *chosen],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "run" / "vae" / "config.json").is_file():
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    for process in psutil.Process(child.pid).children(recursive=True):  # the kernel among them
        process.kill()
    child.kill()
    child.wait()
    assert not (tmp_path / "run" / "summary.json").is_file()
    judge = tmp_path / "run" / "judge" / "model.safetensors"
    written = judge.stat().st_mtime_ns

    run("celeba", tmp_path, root=str(stand_in), **SMALL_CELEBA)
    assert judge.stat().st_mtime_ns == written  # what was complete is not trained again
    for part in ("judge", "vae", "."):
        weights = [
            load_file(folder / part / "model.safetensors")
            for folder in (tmp_path / "run", celeba_run[0])
        ]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"vae_imagse": 1}, "no parameter 'vae_imagse' (did you mean vae_images?)"),
        ({"turned": "Smile"}, "turned is one of the attributes, Black_Hair, "),
        ({"attributes": ["Smiling", "Smile"]}, "CelebA has no attribute 'Smile': it has 5_o_Cloc"),
        ({"size": 48}, "images are square, 8, 16, 32, 64, ... pixels wide, not 48"),
        ({"crop": 200}, "178 x 218 pixels, smaller than crop=200"),
        ({"data": "photos"}, "data is 'celeba' or 'folder', not 'photos'"),
        ({"data": "folder"}, "name the columns of your table to design for with attributes"),
        ({"samples": 100}, "100 held-out faces are too few to measure on: give 140"),
    ],
)
def test_a_wrong_setting_of_the_papers_experiment_stops_it_before_training(
    wrong: dict[str, Any], sentence: str, stand_in: Path, tmp_path: Path
) -> None:
    with pytest.raises(papermill.PapermillExecutionError) as stopped:
        run("celeba", tmp_path, **{"root": str(stand_in), **SMALL_CELEBA, **wrong})
    assert sentence in stopped.value.evalue
    assert "\n" not in stopped.value.evalue
    assert not (tmp_path / "run").exists()


def test_the_papers_experiment_on_pictures_of_ones_own(tmp_path: Path) -> None:
    """Grey and coloured pictures of two sizes, a table of another name, and a label not known."""
    photos = tmp_path / "photos"
    photos.mkdir()
    drawn = load("faces", count=400, size=32, names=["Smiling", "Eyeglasses"])
    lines = ["file,split,grin,glasses,unused"]
    for number, (image, labels) in enumerate(zip(drawn.images, drawn.labels.int(), strict=True)):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture = picture.convert("L") if number % 3 == 0 else picture
        picture.resize((20 + number % 2, 20)).save(photos / f"{number:03}.png")
        grin, glasses = labels.tolist()
        split = "test" if number < 160 else "train"
        lines.append(
            f"{number:03}.png,{split},{grin},{'' if number == 7 else glasses},{number % 5}"
        )
    (photos / "answers.csv").write_text("\n".join(lines))
    own = {"data": "folder", "root": str(photos), "table": "answers.csv", "crop": 0}
    own |= {"attributes": ["grin", "glasses"], "turned": "grin"}
    said = run("celeba", tmp_path, **{**SMALL_CELEBA, **own, "latent_size": 64})
    assert "2 blocks of 20 dimensions, 24 dimensions free" in said
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert figures["faces"] == {"train": 240, "test": 159}  # one label of the 160 is not known
    assert set(figures["moved"]) == {"grin", "glasses"}
    assert str(photos) not in (tmp_path / "run" / "figures.json").read_text()
    assert hub.load(tmp_path / "run").design.names == ("grin", "glasses")


def test_the_papers_experiment_takes_what_its_title_says() -> None:
    """Worked out by the notebook's own cells, for a training set of CelebA's size."""
    cells = {cell.id: cell.source for cell in nbformat.read(RUNS / "celeba.ipynb", 4).cells}
    images = torch.empty(162_770, 3, 64, 64, dtype=torch.uint8)  # eight of them are looked at
    images[:8] = 128
    faces = LabelledImages(images, torch.zeros(len(images), 14), celeba.PAPER)
    space: dict[str, Any] = {"torch": torch, "train_faces": faces}
    for name in ("parameters", "design", "models", "cost"):
        exec(cells[f"celeba-{name}"], space)
    said = re.search(
        r"\*\*Takes\*\* (\d+) to (\d+) minutes of training on a T4 and (\d+) to (\d+) minutes on "
        r"an L4, A100 or H100, with less than (\d+) GB",
        cells["celeba-title"],
    )
    assert said is not None
    low, high, least, most, memory = map(float, said.groups())
    minutes = {name: one["minutes"] for name, one in space["forecast"].items()}
    assert (low, high) == pytest.approx(minutes.pop("T4"), rel=0.1)
    assert least == pytest.approx(min(best for best, _ in minutes.values()), abs=1)
    assert most == pytest.approx(max(worst for _, worst in minutes.values()), abs=1)
    assert 0.7 * memory < space["forecast"]["H100"]["bytes"] / 1e9 < memory


RUNS_WITH_IMAGES = [
    *("judge", "lsc_vae", "lsc_vae_sweep", "lsc_gan", "baselines"),
    *("class_judge", "infogan", "ss_infogan"),
]


@pytest.mark.parametrize("name", RUNS_WITH_IMAGES)
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
