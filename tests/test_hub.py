"""Loading by name, by run folder and by file."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import lscgan
from lscgan import hub, weights
from lscgan.evaluation import AttributeJudge, FaceGate, FaceJudge, MouthJudge
from lscgan.latent import LatentDesign
from lscgan.models import GAN, LSCGAN, LSCVAE, VAE, ConditionalVAE, Recipe
from lscgan.training import RunFolder

DESIGN = LatentDesign.lsc(["Smiling"], 2, size=4)
CONDITIONAL = LatentDesign.conditional(["Smiling"], 1, size=4)
KINDS = [
    "attribute-judge",
    "conditional-vae",
    "gan",
    "gate",
    "judge",
    "lsc-gan",
    "lsc-vae",
    "mouth",
    "vae",
]


def modules() -> dict[str, Any]:
    torch.manual_seed(0)
    return {
        "lsc-vae": LSCVAE(DESIGN, size=16, width=2),
        "vae": VAE(LatentDesign.lsc((), size=4), size=16, width=2),
        "conditional-vae": ConditionalVAE(CONDITIONAL, size=16, width=2, upsampling="resize"),
        "gan": GAN(CONDITIONAL, Recipe(conditional=True), size=16, width=2),
        "lsc-gan": LSCGAN(DESIGN, Recipe(spectral_norm=True), size=16, width=2),
        "judge": FaceJudge(["Smiling"], width=2),
        "attribute-judge": AttributeJudge(["Smiling"], width=2),
        "mouth": MouthJudge(components=3),
        "gate": FaceGate(components=4),
    }


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the shipped models: a folder with one of each kind."""
    monkeypatch.setattr(hub, "SHIPPED", tmp_path)
    for name, module in modules().items():
        (tmp_path / name).mkdir()
        weights.save(module, tmp_path / name / "model.safetensors")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "figures.json").write_text('{"mean": 0.5}')
    return tmp_path


def test_available_lists_the_models_by_name(shelf: Path) -> None:
    assert lscgan.available() == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_a_model_comes_back_by_name_folder_and_file(shelf: Path, name: str) -> None:
    original = modules()[name]
    for where in (name, shelf / name, str(shelf / name), shelf / name / "model.safetensors"):
        loaded = lscgan.load(where)
        assert type(loaded) is type(original)
        assert not any(module.training for module in loaded.modules())
        assert weights.read(shelf / name / "model.safetensors").config == loaded.config()
        for key, tensor in original.state_dict().items():
            assert torch.equal(loaded.state_dict()[key], tensor)


def test_an_unknown_name_lists_the_known_ones(shelf: Path) -> None:
    sentence = (
        "there is no model 'lsc-vea': give a run folder, a weights file or one of "
        "attribute-judge, conditional-vae, gan, gate, judge, lsc-gan, lsc-vae, mouth, vae"
    )
    with pytest.raises(ValueError, match=re.escape(sentence)):
        lscgan.load("lsc-vea")
    with pytest.raises(ValueError, match="there is no model"):
        lscgan.load(shelf / "sweep")  # a folder without weights


def test_without_shipped_models_the_sentence_still_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "SHIPPED", tmp_path)
    assert lscgan.available() == []
    with pytest.raises(ValueError, match="one of \\(none shipped\\)"):
        lscgan.load("x")


def test_a_kind_of_the_future_is_refused(tmp_path: Path) -> None:
    class Transformer(VAE):
        pass

    path = tmp_path / "m.safetensors"
    weights.save(Transformer(DESIGN, size=16, width=2), path)
    with pytest.raises(weights.WeightsError, match="holds a Transformer, which this version"):
        lscgan.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: {**config, "width": 3},
        lambda config: {**config, "depth": 3},
        lambda config: {name: value for name, value in config.items() if name != "design"},
        lambda config: {**config, "design": {}},
    ],
)
def test_weights_that_do_not_fit_their_configuration_are_refused(
    tmp_path: Path, change: Any
) -> None:
    class Odd(VAE):
        def config(self) -> dict[str, Any]:
            changed: dict[str, Any] = change(super().config())
            return changed

    Odd.__name__ = "VAE"
    path = tmp_path / "m.safetensors"
    weights.save(Odd(DESIGN, size=16, width=2), path)
    with pytest.raises(weights.WeightsError, match="does not fit this version's VAE"):
        lscgan.load(path)


def test_a_truncated_model_is_refused_with_its_reason(shelf: Path) -> None:
    path = shelf / "vae" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(weights.WeightsError, match="truncated"):
        lscgan.load("vae")


def test_a_record_is_found_by_name_even_without_weights(shelf: Path) -> None:
    assert hub.record("sweep").figures == {"mean": 0.5}
    with pytest.raises(ValueError, match="there is no record of 'vae': there are sweep"):
        hub.record("vae")


def test_a_finished_run_is_shipped_with_its_record_and_in_half_precision(tmp_path: Path) -> None:
    run, shipped = RunFolder(tmp_path / "run"), tmp_path / "shipped"
    run.path.mkdir()
    model = modules()["vae"]
    weights.save(model, run.weights)
    with pytest.raises(FileNotFoundError, match=r"has no figures.json: measure the run before"):
        hub.ship(run, "vae", shipped)
    assert not shipped.exists()
    run.record_figures({"psnr": 20.0})
    run.write_json("config.json", {"name": "config.json"})
    with pytest.raises(FileNotFoundError, match=r"has no summary.json: train the run to its end"):
        hub.ship(run, "vae", shipped)
    run.write_json("summary.json", {"name": "summary.json"})
    aside = run.weights.rename(tmp_path / "aside")
    with pytest.raises(FileNotFoundError, match=r"has no model.safetensors: there is nothing"):
        hub.ship(run, "vae", shipped)
    assert not shipped.exists()
    aside.rename(run.weights)
    run.write_metrics([{"images": 64, "loss": 1.0}])
    folder = hub.ship(run, "vae", shipped)
    assert folder == shipped / "vae"
    there = RunFolder(folder)
    assert (there.figures, there.config["name"]) == ({"psnr": 20.0}, "config.json")
    assert there.metrics() == [{"images": 64, "loss": 1.0}]
    assert (folder / "model.safetensors").stat().st_size < run.weights.stat().st_size
    rounded = lscgan.load(folder).state_dict()
    for key, tensor in model.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(rounded[key], expected)


def test_a_fitted_judge_has_no_training_to_finish(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    gate = modules()["gate"]
    run.write_json("config.json", {"fitted": {"count": 3}, "model": gate.config()})
    run.record_figures({"passed": 1.0})
    weights.save(gate, run.weights)
    assert isinstance(lscgan.load(hub.ship(run, "gate", tmp_path / "shipped")), FaceGate)


def test_weights_of_a_run_that_is_not_finished_are_warned_of(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    weights.save(modules()["vae"], run.weights)
    other = run.path / "other.safetensors"
    weights.save(modules()["vae"], other)

    def warnings_of(where: Path) -> list[str]:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            loaded = lscgan.load(where)
        saved = weights.read(run.weights).tensors
        assert all(torch.equal(loaded.state_dict()[name], saved[name]) for name in saved)
        return [str(one.message) for one in said]

    assert warnings_of(run.path) == []  # a folder of weights alone is no run
    run.state.write_bytes(b"a state")
    for where in (run.path, run.weights):
        (warning,) = warnings_of(where)
        assert warning.startswith(f"the training in {run.path} is not finished: these are the")
    assert warnings_of(other) == []
    run.write_json("summary.json", {})  # a kill between the summary and the end of the state
    assert warnings_of(run.path) == []


def test_the_three_judges_come_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "SHIPPED", tmp_path)
    for name, kind in (("face-judge", "judge"), ("mouth-judge", "mouth"), ("face-gate", "gate")):
        (tmp_path / name).mkdir()
        weights.save(modules()[kind], tmp_path / name / "model.safetensors")
    judges = hub.judges()
    assert isinstance(judges.face, FaceJudge)
    assert isinstance(judges.mouth, MouthJudge)
    assert isinstance(judges.gate, FaceGate)
    assert list(judges.curvature.values()) == [judges.face, judges.mouth]
