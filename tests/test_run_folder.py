"""Whose a run folder is, which run it holds, and what must be there to go on with it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from test_training import Toy, numbered, same, seen_in, settings
from torch import Tensor, nn

from lscgan import __version__
from lscgan.data import LabelledImages
from lscgan.training import RunFolder, identity, train


def stop_at(step: int) -> Callable[[Toy], None]:
    def interrupt(toy: Toy) -> None:
        if len(toy.steps) == step:
            signal.raise_signal(signal.SIGINT)

    return interrupt


def interrupted(folder: Path, **changes: Any) -> RunFolder:
    """A run that was stopped after 13 of its 40 steps."""
    with pytest.raises(KeyboardInterrupt):
        train(Toy(stop_at(13)), numbered(), settings(**changes), folder)
    return RunFolder(folder)


def moved() -> Toy:
    """Another model of the same configuration."""
    toy = Toy()
    with torch.no_grad():
        toy.first.bias[0] += 1e-3
    return toy


def rewritten(run: RunFolder, **changes: Any) -> None:
    run.write_json("config.json", {**run.config, **changes})


def files(run: RunFolder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.path.iterdir()}


# Which run it is


@pytest.mark.parametrize("complete", [True, False])
def test_other_weights_to_start_from_are_refused(tmp_path: Path, complete: bool) -> None:
    run = train(Toy(), numbered(), settings(), tmp_path) if complete else interrupted(tmp_path)
    before = files(run)
    other = moved()
    weights = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match="the weights to start from are others") as refusal:
        train(other, numbered(), settings(), tmp_path)
    assert "use another folder, or resume=False to replace it" in str(refusal.value)
    assert files(run) == before
    assert same(other.state_dict(), weights)


@pytest.mark.parametrize("what", ["images", "labels"])
def test_other_images_or_labels_are_refused(tmp_path: Path, what: str) -> None:
    train(Toy(), numbered(), settings(), tmp_path)
    data = numbered()
    if what == "images":
        data.images[20, 1, 0, 1] ^= 1
    else:
        data.labels[20] += 0.5
    with pytest.raises(ValueError, match="the images or labels are others"):
        train(Toy(), data, settings(), tmp_path)


def test_a_checksum_of_data_reads_few_of_many_images() -> None:
    images = torch.zeros(1_000, 3, 2, 2, dtype=torch.uint8)
    data = LabelledImages(images, torch.zeros(1_000, 1), ("a",))
    first = identity.checksum_of_data(data)
    read = []
    for row in range(1_000):
        images[row] = 1
        read += [row] if identity.checksum_of_data(data) != first else []
        images[row] = 0
    assert 32 <= len(read) <= 64
    assert read == list(range(0, 1_000, read[1]))


def test_a_checksum_of_weights_is_of_the_values_alone() -> None:
    toy, first = Toy(), identity.checksum_of_weights(Toy())
    assert identity.checksum_of_weights(toy.to(memory_format=torch.channels_last).eval()) == first
    toy.line[1].get_buffer("num_batches_tracked").add_(1)
    assert identity.checksum_of_weights(toy) != first


def test_the_same_object_goes_on_after_an_interrupt_and_when_a_cell_runs_again(
    tmp_path: Path,
) -> None:
    toy = Toy(stop_at(13))
    with pytest.raises(KeyboardInterrupt):
        train(toy, numbered(), settings(), tmp_path / "run")
    run = train(toy, numbered(), settings(), tmp_path / "run")
    assert len(toy.steps) == 40
    train(toy, numbered(), settings(), tmp_path / "run")
    assert len(toy.steps) == 40
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))
    # A model that got its weights from the folder alone goes on with it too.
    again = Toy()
    train(again, numbered(), settings(), tmp_path / "run")
    train(again, numbered(), settings(), tmp_path / "run")
    assert again.steps == []


def test_a_fresh_run_of_a_trained_model_is_warned_of(tmp_path: Path) -> None:
    toy = Toy()
    starts = [train(toy, numbered(), settings(), tmp_path / "a").config["model"]["start"]]
    for name, resume in (("b", True), ("a", False)):
        with pytest.warns(UserWarning, match="it starts from where the earlier run ended"):
            run = train(toy, numbered(), settings(), tmp_path / name, resume=resume)
        starts.append(run.config["model"]["start"])
    assert len(set(starts)) == 3  # as the warning says
    new = train(Toy(), numbered(), settings(), tmp_path / "c")  # of a new one there is no warning
    assert new.config["model"]["start"] == starts[0]


def test_a_folder_of_an_earlier_version_is_compared_by_what_it_has(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "old")
    config = run.config
    del config["model"]["start"], config["data"]["checksum"], config["lscgan"]
    run.write_json("config.json", config)
    train(moved(), numbered(), settings(), run.path)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))


class Grown(Toy):
    """A model whose configuration got a key in a later version."""

    def __init__(self, depth: int = 1, watch: Callable[[Toy], None] = lambda toy: None) -> None:
        super().__init__(watch)
        self.depth = depth

    def config(self) -> dict[str, Any]:
        return {"sizes": (12, 4), "depth": self.depth}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Grown:
        if "broken" in config:
            raise TypeError("broken")
        return cls(config.get("depth", 1))


def test_a_new_key_with_its_default_is_no_change(tmp_path: Path) -> None:
    run = train(Grown(), numbered(), settings(), tmp_path)
    rewritten(run, model={**run.config["model"], "config": {"sizes": [12, 4]}})
    again = Grown()
    torch.manual_seed(9)
    chance = torch.get_rng_state()
    train(again, numbered(), settings(), tmp_path)
    assert torch.equal(torch.get_rng_state(), chance)  # though a model was built to compare
    with pytest.raises(ValueError, match=r"model\.config\.depth was 1 and is 2"):
        train(Grown(2), numbered(), settings(), tmp_path)
    rewritten(run, model={**run.config["model"], "config": {"sizes": [12, 4], "broken": 1}})
    with pytest.raises(ValueError, match=r"model\.config\.broken was 1 and is None"):
        train(Grown(), numbered(), settings(), tmp_path)


def test_a_run_that_goes_on_with_another_version_is_warned_of(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    rewritten(run, lscgan="0.0.1")
    with pytest.warns(UserWarning, match=r"started by lscgan 0\.0\.1 and goes on with "):
        train(Toy(), numbered(), settings(), tmp_path)
    assert run.complete
    assert run.config["lscgan"] == "0.0.1"
    assert run.summary["versions"]["lscgan"] == __version__
    written = run.weights.stat().st_mtime_ns
    train(Toy(), numbered(), settings(), tmp_path)  # a complete run does not go on: no warning
    assert run.weights.stat().st_mtime_ns == written


@pytest.mark.parametrize("then", [torch.bfloat16, torch.float32])
def test_a_run_goes_on_in_the_precision_that_it_began_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: torch.dtype
) -> None:
    """Another GPU may make another precision of "auto"."""
    now = torch.float32 if then == torch.bfloat16 else torch.bfloat16
    pick = "lscgan.training.loop.pick_precision"
    monkeypatch.setattr(pick, lambda precision, device: then)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    interrupted(tmp_path / "run")
    monkeypatch.setattr(pick, lambda precision, device: now)
    run = train(Toy(), numbered(), settings(), tmp_path / "run")
    assert run.summary["precision"] == unbroken.summary["precision"]
    assert same(load_file(run.weights), load_file(unbroken.weights))


# What must be there


@pytest.mark.parametrize("missing", ["config.json", "state.safetensors"])
def test_a_folder_that_is_listed_in_part_is_left_alone(tmp_path: Path, missing: str) -> None:
    run = interrupted(tmp_path / "run")
    kept = (run.path / missing).rename(tmp_path / missing)
    before, toy = files(run), Toy()
    with pytest.raises(
        FileNotFoundError, match=rf"but no {missing}: Drive may not have"
    ) as refusal:
        train(toy, numbered(), settings(), run.path)
    assert "resume=False" in str(refusal.value)
    assert files(run) == before
    kept.rename(run.path / missing)
    train(toy, numbered(), settings(), run.path)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))


@pytest.mark.parametrize("missing", ["config.json", "state.safetensors"])
def test_a_folder_that_is_listed_in_part_can_be_started_afresh(
    tmp_path: Path, missing: str
) -> None:
    run = interrupted(tmp_path)
    (run.path / missing).unlink()
    toy = Toy()
    assert train(toy, numbered(), settings(), run.path, resume=False).complete
    assert len(toy.steps) == 40


def test_a_run_that_was_killed_before_its_first_state_starts(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run")
    for path in run.path.iterdir():
        if path.name not in ("config.json", "runtime.json"):
            path.unlink()
    train(Toy(), numbered(), settings(), run.path)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))


@pytest.mark.parametrize("content", [b"", b'{"model": ', b"[1]", b"\xff\xfe"])
def test_broken_json_is_told_in_one_sentence(tmp_path: Path, content: bytes) -> None:
    run = train(Toy(), numbered(), settings(), tmp_path)
    for name, ask in (
        ("figures.json", lambda: run.figures),
        ("summary.json", lambda: run.summary),
        ("config.json", lambda: train(Toy(), numbered(), settings(), tmp_path)),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{name} is empty or damaged: on Drive wait"
        ) as broken:
            ask()
        assert not isinstance(broken.value, json.JSONDecodeError)


def test_a_configuration_of_another_kind_is_refused(tmp_path: Path) -> None:
    RunFolder(tmp_path).write_json("config.json", {"fitted": {}, "model": {"components": 3}})
    with pytest.raises(ValueError, match=r"holds a run with other settings \(data\.count was None"):
        train(Toy(), numbered(), settings(), tmp_path)


# Whose it is


def taken_over(at: int, folder: Path, to_the_end: bool) -> Callable[[Toy], None]:
    """Another runtime, here the same thread, takes a run over in the middle of a step."""

    def take(toy: Toy) -> None:
        if len(toy.steps) == at and to_the_end:
            train(Toy(), numbered(), settings(save_every=0), folder)
        elif len(toy.steps) == at:
            with pytest.raises(KeyboardInterrupt):
                train(Toy(stop_at(3)), numbered(), settings(save_every=0), folder)

    return take


@pytest.mark.parametrize("to_the_end", [True, False])
@pytest.mark.parametrize(("at", "save_every", "others"), [(13, 0.0, 15), (40, 3600.0, 3)])
def test_a_run_that_another_runtime_took_over_stops(
    tmp_path: Path, to_the_end: bool, at: int, save_every: float, others: int
) -> None:
    """Before its next state, or before its result; the other's ``others`` steps are kept."""
    folder = tmp_path / "run"
    taken = Toy(taken_over(at, folder, to_the_end))
    with pytest.raises(RuntimeError, match="another runtime trains in"):
        train(taken, numbered(), settings(save_every=save_every), folder)
    run = RunFolder(folder)
    assert run.complete == to_the_end
    if not to_the_end:
        assert seen_in(run.state) == 8 * others
        train(Toy(), numbered(), settings(), folder)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))
    assert files(run).keys() == files(unbroken).keys()


def test_the_claim_is_there_while_a_run_is_not_complete(tmp_path: Path) -> None:
    run = interrupted(tmp_path)
    assert re.fullmatch("[0-9a-f]{32}", run.read_json("runtime.json")["token"])
    train(Toy(), numbered(), settings(), tmp_path)
    assert not (tmp_path / "runtime.json").exists()


def test_temporary_files_that_may_still_be_written_stay_until_the_end(tmp_path: Path) -> None:
    names = [".state.safetensors.x1y2", ".metrics.jsonl.ab", ".samples.png.q", ".tmpA1b2C3"]
    seen: list[list[str]] = []

    def there() -> list[str]:
        return [name for name in names if (tmp_path / name).exists()]

    def watch(module: nn.Module) -> dict[str, float]:
        seen.append(there())
        return {}

    for age in (3 * 3600, 0):
        for name in names:
            (tmp_path / name).write_bytes(b"half")
            os.utime(tmp_path / name, (time.time() - age,) * 2)
        train(Toy(), numbered(), settings(), tmp_path, resume=False, watch=watch)
        assert seen[-1] == ([] if age else names)
        assert there() == []


def test_a_state_holds_the_counts_of_now(tmp_path: Path) -> None:
    """Averaging a count would round it down at every step."""
    run = interrupted(tmp_path, ema_half_life=40)
    state: dict[str, Tensor] = load_file(run.state)
    name = "module.line.1.num_batches_tracked"
    assert int(state[f"averaged.{name}"]) == int(state[name.replace("module", "model")]) == 13
