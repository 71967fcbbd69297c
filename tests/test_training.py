"""The loop and its run folder: what is seen, kept, resumed and refused."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from lscgan import __version__, weights
from lscgan import data as datasets
from lscgan.data import LabelledImages
from lscgan.latent import LatentDesign
from lscgan.models import LSCGAN, LSCVAE, VAE, Recipe
from lscgan.training import (
    NotFiniteError,
    RunFolder,
    TrainingSettings,
    pick_device,
    pick_precision,
    train,
)

NAMES = ("Smiling", "Eyeglasses")
DESIGN = LatentDesign.lsc(NAMES, 3, size=8)


# --- A model that shows what the loop does --------------------------------------------------------


class Toy(nn.Module):
    """A line fitted with dropout and noise; it notes what every step was given."""

    def __init__(self, watch: Callable[[Toy], None] = lambda toy: None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(12, 4), nn.Linear(4, 1)
        self.line = nn.Sequential(self.first, nn.BatchNorm1d(4), nn.Dropout(), self.last)
        self.watch = watch
        self.steps: list[dict[str, Any]] = []
        self.snapshots: list[dict[str, Tensor]] = []

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        return {
            "first": torch.optim.Adam(self.first.parameters(), lr=learning_rate),
            "last": torch.optim.AdamW(self.last.parameters(), lr=learning_rate / 10),
        }

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        loss = (self.line(images.flatten(1)) + 0.1 * torch.randn(len(images), 1)).square().mean()
        for optimizer in optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.steps.append(
            {
                "images": images,
                "rows": labels[:, 0].long().tolist(),
                "loss": float(loss.detach()),
                "rates": {n: o.param_groups[0]["lr"] for n, o in optimizers.items()},
            }
        )
        for optimizer in optimizers.values():
            optimizer.step()
        terms = {"loss": loss.detach(), "twice": 2 * loss.detach()}
        self.watch(self)
        self.snapshots.append({n: t.clone() for n, t in self.state_dict().items()})
        return {name: value * self.poison for name, value in terms.items()}

    poison = 1.0

    def config(self) -> dict[str, Any]:
        return {}


def numbered(count: int = 48) -> LabelledImages:
    """Tiny random images; the only label is the row's number."""
    images = torch.randint(
        256, (count, 3, 2, 2), generator=torch.Generator().manual_seed(3), dtype=torch.uint8
    )
    return LabelledImages(images, torch.arange(count).float()[:, None], ("row",), {"name": "toy"})


def settings(**changes: Any) -> TrainingSettings:
    short = {"images": 320, "batch_size": 8, "log_every": 80, "device": "cpu", "save_every": 3600.0}
    return TrainingSettings(**{**short, **changes})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(t, other[n]) for n, t in one.items())


def without_seconds(lines: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: v for name, v in line.items() if name != "seconds"} for line in lines]


def seen_in(state: Path) -> int:
    with safe_open(state, framework="pt") as opened:
        return int(json.loads(opened.metadata()["state"])["seen"])


# --- What a run sees and writes -------------------------------------------------------------------


def test_each_epoch_sees_every_image_once_in_a_new_order(tmp_path: Path) -> None:
    toy = Toy()
    train(toy, numbered(48), settings(images=48 * 5), tmp_path)
    rows = [row for step in toy.steps for row in step["rows"]]
    epochs = [tuple(rows[start : start + 48]) for start in range(0, len(rows), 48)]
    assert len(epochs) == 5
    assert all(sorted(epoch) == list(range(48)) for epoch in epochs)
    assert len(set(epochs)) == 5
    assert tuple(range(48)) not in epochs


def test_images_arrive_as_shares_of_255_with_their_own_labels(tmp_path: Path) -> None:
    data, toy = numbered(), Toy()
    before = data.images.clone()
    train(toy, data, settings(), tmp_path)
    for step in toy.steps:
        assert step["images"].dtype == torch.float32
        expected = torch.stack([before[row] for row in step["rows"]]).double() / 255
        torch.testing.assert_close(step["images"].double(), expected, atol=1e-6, rtol=0)
    assert data.images.dtype == torch.uint8
    assert torch.equal(data.images, before)


def test_another_seed_is_another_order_and_another_run(tmp_path: Path) -> None:
    toys = [Toy(), Toy(), Toy()]
    for index, (toy, seed) in enumerate(zip(toys, (0, 0, 1), strict=True)):
        train(toy, numbered(), settings(seed=seed), tmp_path / str(index))
    assert same(toys[0].state_dict(), toys[1].state_dict())
    assert not same(toys[0].state_dict(), toys[2].state_dict())
    assert [s["rows"] for s in toys[0].steps] != [s["rows"] for s in toys[2].steps]


@pytest.mark.parametrize(
    ("images", "log_every", "at"),
    [
        (320, 80, [80, 160, 240, 320]),
        (100, 50, [56, 104]),  # a step is 8 images: the first beyond each mark, and the last
        (8, 2_000, [8]),
        (24, 1, [8, 16, 24]),
    ],
)
def test_metrics_are_the_means_of_all_steps_since_the_last_line(
    tmp_path: Path, images: int, log_every: int, at: list[int]
) -> None:
    toy = Toy()
    run = train(toy, numbered(), settings(images=images, log_every=log_every), tmp_path)
    lines = run.metrics()
    assert [line["images"] for line in lines] == at
    assert len(toy.steps) == at[-1] // 8
    for start, line in zip([0, *at], lines, strict=False):
        losses = [step["loss"] for step in toy.steps[start // 8 : int(line["images"]) // 8]]
        assert line["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)
        assert line["twice"] == pytest.approx(2 * line["loss"], rel=1e-5)
    assert [line["seconds"] for line in lines] == sorted(line["seconds"] for line in lines)


@pytest.mark.parametrize("decay", [0.0, 0.25, 1.0])
def test_learning_rates_stay_and_then_fall_to_zero(tmp_path: Path, decay: float) -> None:
    toy = Toy()
    train(toy, numbered(), settings(images=320, learning_rate=0.01, decay=decay), tmp_path)
    assert len(toy.steps) == 40
    for step, done in zip(toy.steps, range(0, 320, 8), strict=True):
        falls_from = 320 * (1 - decay)
        factor = 1.0 if done <= falls_from else (320 - done) / (320 - falls_from)
        assert step["rates"]["first"] == pytest.approx(0.01 * factor)
        assert step["rates"]["last"] == pytest.approx(0.001 * factor)


def test_averaged_weights_equal_a_loop_by_hand(tmp_path: Path) -> None:
    toy = Toy()
    run = train(toy, numbered(), settings(ema_half_life=40, save_every=0), tmp_path)
    keep = 0.5 ** (8 / 40)  # after 40 images, five steps, a weight's past counts half
    average = {n: t.double() for n, t in toy.snapshots[0].items()}
    for snapshot in toy.snapshots[1:]:
        average = {n: keep * average[n] + (1 - keep) * t.double() for n, t in snapshot.items()}
    kept = weights.read(run.weights).tensors
    for name in average:
        if kept[name].is_floating_point():
            torch.testing.assert_close(kept[name].double(), average[name], atol=1e-6, rtol=1e-5)
        else:
            assert torch.equal(kept[name], toy.snapshots[-1][name])
    assert int(kept["line.1.num_batches_tracked"]) == 40  # a count has no average
    assert same(toy.state_dict(), kept)
    assert not same(toy.snapshots[-1], kept)


# --- Watching a run -------------------------------------------------------------------------------


def watcher(seen: list[dict[str, Any]]) -> Callable[[nn.Module], dict[str, float]]:
    """Notes the weights it is given, spends chance, and returns a number a call."""

    def watch(module: nn.Module) -> dict[str, float]:
        modes = {m.training for m in module.modules()}
        weights_now = {n: t.clone() for n, t in module.state_dict().items()}
        seen.append({"training": modes, "weights": weights_now})
        torch.manual_seed(99)
        torch.rand(3)
        return {"size": float(len(seen)), "chance": 0.5}

    return watch


@pytest.mark.parametrize("ema_half_life", [0, 40])
def test_a_watched_run_measures_at_the_start_and_at_every_line(
    tmp_path: Path, ema_half_life: int
) -> None:
    seen: list[dict[str, Any]] = []
    toy = Toy()
    first = {n: t.clone() for n, t in toy.state_dict().items()}
    chosen = settings(ema_half_life=ema_half_life)
    run = train(toy, numbered(), chosen, tmp_path, watch=watcher(seen))
    lines = run.metrics()
    assert [line["images"] for line in lines] == [0, 80, 160, 240, 320]
    assert [line["size"] for line in lines] == [1, 2, 3, 4, 5]
    assert lines[0] == {"size": 1.0, "chance": 0.5, "images": 0, "seconds": 0.0}
    assert all({"loss", "twice", "size", "chance"} <= line.keys() for line in lines[1:])
    assert run.summary["last"] == lines[-1]
    # In eval mode, with the weights to use: at first the initial ones, at last the run's result.
    assert all(call["training"] == {False} for call in seen)
    assert same(seen[0]["weights"], first)
    assert same(seen[-1]["weights"], weights.read(run.weights).tensors)
    raw = [toy.snapshots[9], toy.snapshots[19], toy.snapshots[29], toy.snapshots[39]]
    assert all(
        same(call["weights"], snapshot) == (ema_half_life == 0)
        for call, snapshot in zip(seen[1:], raw, strict=True)
    )
    if ema_half_life:
        keep = 0.5 ** (8 / 40)
        average = toy.snapshots[0]["first.weight"].double()
        for snapshot in toy.snapshots[1:10]:
            average = keep * average + (1 - keep) * snapshot["first.weight"].double()
        found = seen[1]["weights"]["first.weight"].double()
        torch.testing.assert_close(found, average, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("ema_half_life", [0, 40])
def test_watching_does_not_change_the_course_of_a_run(tmp_path: Path, ema_half_life: int) -> None:
    chosen = settings(ema_half_life=ema_half_life)
    watched, alone = Toy(), Toy()
    runs = [
        train(watched, numbered(), chosen, tmp_path / "watched", watch=watcher([])),
        train(alone, numbered(), chosen, tmp_path / "alone"),
    ]
    for one, other in zip(watched.snapshots, alone.snapshots, strict=True):
        assert same(one, other)
    assert same(load_file(runs[0].weights), load_file(runs[1].weights))
    lines = [without_seconds(run.metrics()) for run in runs]
    assert [line["loss"] for line in lines[0][1:]] == [line["loss"] for line in lines[1]]
    assert len(lines[0]) == len(lines[1]) + 1  # the line at the start


def test_watching_a_gan_with_a_frozen_encoder_does_not_change_its_course(tmp_path: Path) -> None:
    """A frozen encoder is still in eval mode after being watched, and the rest trains on."""
    data = datasets.load("faces", count=64, size=16, names=NAMES)
    recipe = Recipe(frozen_encoder=True, spectral_norm=True, r1=0.5, penalty_every=3)

    def watch(module: nn.Module) -> dict[str, float]:
        assert isinstance(module, LSCGAN)
        images = module.sample(data.labels[:16])
        return {"level": float(images.mean()), "spread": float(module.encode(images)[0].std())}

    models = []
    for index, watching in enumerate((watch, None)):
        torch.manual_seed(0)
        models.append(LSCGAN(DESIGN, recipe, size=16, width=2))
        chosen = settings(images=320, batch_size=16, ema_half_life=64)
        run = train(models[-1], data, chosen, tmp_path / str(index), watch=watching)
        assert ("level" in run.metrics()[-1]) == (watching is not None)
    assert same(models[0].state_dict(), models[1].state_dict())
    torch.manual_seed(0)
    fresh = LSCGAN(DESIGN, recipe, size=16, width=2)
    assert same(models[0].encoder.state_dict(), fresh.encoder.state_dict())
    assert not same(models[0].decoder.state_dict(), fresh.decoder.state_dict())


def test_a_watched_run_that_resumes_has_one_line_at_the_start(tmp_path: Path) -> None:
    def interrupt(toy: Toy) -> None:
        if len(toy.steps) == 13:
            signal.raise_signal(signal.SIGINT)

    before: list[dict[str, Any]] = []
    after: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        train(Toy(interrupt), numbered(), settings(), tmp_path, watch=watcher(before))
    run = train(Toy(), numbered(), settings(), tmp_path, watch=watcher(after))
    assert [line["images"] for line in run.metrics()] == [0, 80, 160, 240, 320]
    assert [line["size"] for line in run.metrics()] == [1, 2, 1, 2, 3]
    assert (len(before), len(after)) == (2, 3)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken", watch=watcher([]))
    assert same(load_file(run.weights), load_file(unbroken.weights))


def test_a_run_folder_holds_what_it_promises(tmp_path: Path) -> None:
    data = datasets.load("faces", count=64, size=16, names=NAMES)
    torch.manual_seed(0)
    model = LSCVAE(DESIGN, size=16, width=2)
    chosen = settings(images=100, seed=5)
    run = train(model, data, chosen, tmp_path / "deep" / "run")
    assert sorted(path.name for path in run.path.iterdir()) == [
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "samples.png",
        "summary.json",
    ]
    assert run.complete
    described = run.config["model"]
    assert re.fullmatch("[0-9a-f]{16}", described.pop("start"))
    assert described == {"kind": "LSCVAE", "config": model.config()}
    assert run.config["lscgan"] == __version__
    assert run.config["training"]["images"] == 100
    assert run.config["data"]["name"] == "faces"
    assert run.config["data"]["shape"] == [3, 16, 16]
    summary = run.summary
    assert (summary["images"], summary["seed"], summary["precision"]) == (104, 5, "float32")
    assert summary["device"].startswith("CPU")
    assert summary["versions"]["torch"] == torch.__version__
    assert summary["images_per_second"] > 0
    assert summary["last"] == run.metrics()[-1]
    assert {"loss", "reconstruction", "kl"} <= summary["last"].keys()
    assert {"revision", "seconds"} <= summary.keys()
    assert same(model.state_dict(), weights.read(run.weights).tensors)
    assert not model.training


def test_figures_are_kept_beside_earlier_ones(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.figures == {}
    run.record_figures({"control": 0.9, "psnr": 20.0})
    run.record_figures({"control": 0.95})
    assert RunFolder(tmp_path / "run").figures == {"control": 0.95, "psnr": 20.0}


def test_an_empty_folder_is_no_run(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.metrics() == []
    assert not run.complete
    for ask in (lambda: run.config, lambda: run.summary):
        with pytest.raises(FileNotFoundError, match="it is no run folder, or not yet"):
            ask()


@pytest.mark.parametrize("kind", [VAE, LSCVAE])
def test_training_lowers_the_loss_on_faces(tmp_path: Path, kind: type[VAE]) -> None:
    """A plain VAE too, which has nothing to ask its samples for, on labelled faces."""
    data = datasets.load("faces", count=200, size=16, names=NAMES)
    torch.manual_seed(0)
    design = DESIGN if kind is LSCVAE else LatentDesign.lsc((), size=8)
    model = kind(design, size=16, width=4)
    chosen = settings(images=1_600, batch_size=16, log_every=32, learning_rate=5e-3)
    run = train(model, data, chosen, tmp_path)
    lines = run.metrics()
    constant = 768 * math.log(math.pi) / 2
    assert lines[-1]["loss"] - constant < 0.8 * (lines[0]["loss"] - constant)
    assert run.samples.is_file()


def test_bfloat16_trains_and_keeps_float32_weights(tmp_path: Path) -> None:
    data = datasets.load("faces", count=32, size=16, names=NAMES)
    torch.manual_seed(0)
    model = LSCVAE(DESIGN, size=16, width=2)
    run = train(model, data, settings(images=32, precision="bfloat16"), tmp_path)
    assert run.summary["precision"] == "bfloat16"
    floats = [t for t in load_file(run.weights).values() if t.is_floating_point()]
    assert {t.dtype for t in floats} == {torch.float32}


def test_the_callers_chance_is_left_alone(tmp_path: Path) -> None:
    toy, failing = Toy(), Toy()
    failing.poison = math.nan
    torch.manual_seed(9)
    before = torch.get_rng_state()
    train(toy, numbered(), settings(save_every=0), tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(NotFiniteError):
        train(failing, numbered(), settings(), tmp_path / "b")
    assert torch.equal(torch.get_rng_state(), before)


# --- Stopping and going on ------------------------------------------------------------------------

KILLED = """
import sys, torch
from lscgan import data
from lscgan.latent import LatentDesign
from lscgan.models import LSCVAE
from lscgan.training import TrainingSettings, train
torch.manual_seed(0)
names = ("Smiling", "Eyeglasses")
model = LSCVAE(LatentDesign.lsc(names, 3, size=8), size=16, width=4)
settings = TrainingSettings(
    images=1600, batch_size=16, log_every=32, device="cpu", save_every=0.0,
    ema_half_life=int(sys.argv[2]),
)
train(model, data.load("faces", count=200, size=16, names=names), settings, sys.argv[1])
"""


@pytest.mark.parametrize("ema_half_life", [0, 200])
def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, ema_half_life: int) -> None:
    data = datasets.load("faces", count=200, size=16, names=NAMES)
    chosen = settings(images=1600, batch_size=16, log_every=32, ema_half_life=ema_half_life)

    def model() -> LSCVAE:
        torch.manual_seed(0)
        return LSCVAE(DESIGN, size=16, width=4)

    unbroken = train(model(), data, chosen, tmp_path / "unbroken")
    run = RunFolder(tmp_path / "killed")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(run.path), str(ema_half_life)],
        stderr=subprocess.DEVNULL,
    )
    while len(run.metrics()) < 3 or not run.state.is_file():
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not run.complete
    assert 0 < seen_in(run.state) < 1600
    # What a kill in the middle of writing leaves behind:
    for name in (".state.safetensors.x1y2", ".tmpA1b2C3"):  # the other is safetensors' own
        (run.path / name).write_bytes(b"half a state")
        os.utime(run.path / name, (time.time() - 7200,) * 2)

    resumed = train(model(), data, chosen, run.path)
    assert same(load_file(resumed.weights), load_file(unbroken.weights))
    assert without_seconds(resumed.metrics()) == without_seconds(unbroken.metrics())
    assert resumed.samples.read_bytes() == unbroken.samples.read_bytes()
    names = [{path.name for path in r.path.iterdir()} for r in (resumed, unbroken)]
    assert names[0] == names[1]


RECIPE = {
    "adversarial": "relativistic",
    "r1": 0.5,
    "r2": 0.5,
    "penalty_every": 3,
    "discriminator_rate": 2.0,
    "spectral_norm": True,
    "augmentation": True,
    "reconstruction_weight": 0.01,
}
KILLED_GAN = KILLED.replace("import LSCVAE", "import LSCGAN, Recipe").replace(
    "LSCVAE(LatentDesign.lsc(names, 3, size=8), size=16, width=4)",
    f"LSCGAN(LatentDesign.lsc(names, 3, size=8), Recipe(**{RECIPE}), size=16, width=2)",
)


@pytest.mark.parametrize("ema_half_life", [0, 200])
def test_a_killed_gan_resumes_to_the_same_weights_and_the_same_state(
    tmp_path: Path, ema_half_life: int
) -> None:
    """Both optimisers, averaged weights, chance, and the count of steps to the next penalty."""
    data = datasets.load("faces", count=200, size=16, names=NAMES)
    chosen = settings(images=1600, batch_size=16, log_every=32, ema_half_life=ema_half_life)

    def model() -> LSCGAN:
        torch.manual_seed(0)
        return LSCGAN(DESIGN, Recipe(**RECIPE), size=16, width=2)  # type: ignore[arg-type]

    def interrupted_at(images: int, start: int) -> Callable[[nn.Module], dict[str, float]]:
        lines = itertools.count(start, 32)

        def watch(module: nn.Module) -> dict[str, float]:
            if next(lines) == images:
                signal.raise_signal(signal.SIGINT)
            return {}

        return watch

    run = RunFolder(tmp_path / "killed")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_GAN), str(run.path), str(ema_half_life)],
        stderr=subprocess.DEVNULL,
    )
    while len(run.metrics()) < 3 or not run.state.is_file():
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    killed_at = seen_in(run.state)
    assert 0 < killed_at < 1_568
    next_line = (killed_at // 32 + 1) * 32

    # Both are stopped at 1568 images, 98 steps: two steps after a penalty, one before the next.
    with pytest.raises(KeyboardInterrupt, match="stopped after 1568 images"):
        train(model(), data, chosen, run.path, watch=interrupted_at(1_568, next_line))
    unbroken = RunFolder(tmp_path / "unbroken")
    with pytest.raises(KeyboardInterrupt, match="stopped after 1568 images"):
        train(model(), data, chosen, unbroken.path, watch=interrupted_at(1_568, 0))
    states = [load_file(r.state) for r in (run, unbroken)]
    assert same(states[0], states[1])
    assert int(states[0]["model.steps"]) == 98
    held = {name.split(".")[1] for name in states[0] if name.startswith("optimizer.")}
    assert held == {"generator", "discriminator"}
    assert ema_half_life == 0 or "averaged.module.decoder.start.weight" in states[0]

    resumed, whole = model(), model()
    train(resumed, data, chosen, run.path)
    train(whole, data, chosen, tmp_path / "whole")
    assert same(resumed.state_dict(), whole.state_dict())
    assert same(load_file(run.weights), load_file(RunFolder(tmp_path / "whole").weights))
    lines = [without_seconds(r.metrics()) for r in (run, RunFolder(tmp_path / "whole"))]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_the_run_which_then_goes_on(tmp_path: Path, number: int) -> None:
    def interrupt(toy: Toy) -> None:
        if len(toy.steps) == 13:
            signal.raise_signal(number)

    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    interrupted = Toy(interrupt)
    chosen = settings(ema_half_life=40)
    with pytest.raises(KeyboardInterrupt, match="stopped after 104 images; run again to go on"):
        train(interrupted, numbered(), chosen, tmp_path / "stopped")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert seen_in(tmp_path / "stopped" / "state.safetensors") == 104
    resumed = train(Toy(), numbered(), chosen, tmp_path / "stopped")
    unbroken = train(Toy(), numbered(), chosen, tmp_path / "unbroken")
    assert same(load_file(resumed.weights), load_file(unbroken.weights))
    assert without_seconds(resumed.metrics()) == without_seconds(unbroken.metrics())
    assert not resumed.state.exists()


def test_a_state_between_two_lines_resumes_to_the_same_metrics(tmp_path: Path) -> None:
    """Lines can be far apart: what they average over is part of the state."""

    def die(toy: Toy) -> None:
        if len(toy.steps) == 13:
            raise RuntimeError("the runtime is gone")

    for ema_half_life in (0, 40):
        chosen = settings(log_every=160, save_every=0, ema_half_life=ema_half_life)
        folders = [tmp_path / f"{name}-{ema_half_life}" for name in ("killed", "unbroken")]
        with pytest.raises(RuntimeError, match="the runtime is gone"):
            train(Toy(die), numbered(), chosen, folders[0])
        assert seen_in(folders[0] / "state.safetensors") == 96
        resumed, unbroken = (train(Toy(), numbered(), chosen, folder) for folder in folders)
        assert [line["images"] for line in resumed.metrics()] == [160, 320]
        assert without_seconds(resumed.metrics()) == without_seconds(unbroken.metrics())
        assert same(load_file(resumed.weights), load_file(unbroken.weights))


def test_states_are_saved_by_the_clock_however_far_lines_are_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, kept = 0.0, []

    def minute(toy: Toy) -> None:
        nonlocal now
        state = tmp_path / "state.safetensors"
        kept.append(seen_in(state) // 8 if state.is_file() else 0)
        now += 60.0

    monkeypatch.setattr("lscgan.training.loop.time.perf_counter", lambda: now)
    run = train(Toy(minute), numbered(), settings(log_every=320, save_every=300), tmp_path)
    # At the start of step n + 1 the state on disk is of step 5, 10, ...: never older than that.
    assert kept == [step // 5 * 5 for step in range(40)]
    assert run.summary["seconds"] == 40 * 60
    assert TrainingSettings().save_every <= 300


def test_training_works_in_a_thread(tmp_path: Path) -> None:
    """Signals belong to the main thread; a notebook server may train in another."""
    worker = threading.Thread(target=train, args=(Toy(), numbered(), settings(), tmp_path))
    worker.start()
    worker.join()
    assert RunFolder(tmp_path).complete


@pytest.mark.parametrize("step", [30, 33], ids=["at a line", "between two lines"])
@pytest.mark.parametrize("what", ["loss", "weight"])
def test_a_run_that_is_not_finite_stops_and_keeps_the_last_good_state(
    tmp_path: Path, what: str, step: int
) -> None:
    def break_down(toy: Toy) -> None:
        # a state is saved at every step, and a line of metrics at every tenth
        if len(toy.steps) == step and what == "loss":
            toy.poison = math.inf
        if len(toy.steps) == step and what == "weight":
            with torch.no_grad():
                toy.last.weight.fill_(math.nan)

    named = "loss and twice" if what == "loss" else "a weight"
    sentence = rf"{named} is not finite after {8 * step} images; the last good state is kept in "
    with pytest.raises(NotFiniteError, match=sentence) as refusal:
        train(Toy(break_down), numbered(), settings(save_every=0), tmp_path / "broken")
    assert "smaller learning rate" in str(refusal.value)
    run = RunFolder(tmp_path / "broken")
    assert not run.complete
    assert seen_in(run.state) == 8 * (step - 1)
    assert [line["images"] for line in run.metrics()] == [80, 160, 240][: (step - 1) // 10]
    for file in (run.state, run.weights):
        assert all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())
    # The same run with a model that holds goes on from there, and is the unbroken run.
    mended = train(Toy(), numbered(), settings(), run.path)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(mended.weights), load_file(unbroken.weights))


@pytest.mark.parametrize("step", [1, 3])
def test_a_run_that_fails_early_starts_again_from_where_it_started(
    tmp_path: Path, step: int
) -> None:
    """The model is trained in place: what the first steps made of it must not be a start."""

    def break_down(toy: Toy) -> None:
        if len(toy.steps) == step:
            raise RuntimeError("out of memory")

    broken = Toy(break_down)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(broken, numbered(), settings(), tmp_path / "broken", watch=watcher([]))
    assert seen_in(tmp_path / "broken" / "state.safetensors") == 0
    broken.watch = lambda toy: None
    run = train(broken, numbered(), settings(), tmp_path / "broken", watch=watcher([]))
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken", watch=watcher([]))
    assert same(load_file(run.weights), load_file(unbroken.weights))
    assert without_seconds(run.metrics()) == without_seconds(unbroken.metrics())


@pytest.mark.parametrize("where", ["the last step", "the last write"])
def test_an_interrupt_at_the_end_is_raised_when_all_is_written(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(toy: Toy) -> None:
        if len(toy.steps) == 40 and where == "the last step":
            signal.raise_signal(signal.SIGINT)

    write = RunFolder.write_json

    def interrupted(run: RunFolder, name: str, content: dict[str, Any]) -> None:
        write(run, name, content)
        if name == "summary.json" and where == "the last write":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RunFolder, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the run of 320 images is complete"):
        train(Toy(interrupt), numbered(), settings(), tmp_path / "run")
    monkeypatch.undo()
    run = RunFolder(tmp_path / "run")
    assert run.complete
    assert not run.state.exists()
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(run.weights), load_file(unbroken.weights))


def test_a_full_disk_stops_the_run_and_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def full(handle: int) -> None:
        if RunFolder(tmp_path / "full").metrics():  # from the second state on
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write .*: No space left on device; what"):
        train(Toy(), numbered(), settings(save_every=0), tmp_path / "full")
    monkeypatch.setattr(os, "fsync", flush)
    run = RunFolder(tmp_path / "full")
    assert seen_in(run.state) == 80
    resumed = train(Toy(), numbered(), settings(), run.path)
    unbroken = train(Toy(), numbered(), settings(), tmp_path / "unbroken")
    assert same(load_file(resumed.weights), load_file(unbroken.weights))


def test_a_complete_run_is_not_trained_again(tmp_path: Path) -> None:
    first = Toy()
    train(first, numbered(), settings(), tmp_path)
    again = Toy()
    assert not same(again.state_dict(), first.state_dict())
    run = train(again, numbered(), settings(), tmp_path)
    assert again.steps == []
    assert same(again.state_dict(), first.state_dict())
    assert not again.training
    assert run.complete


def test_resume_false_starts_afresh(tmp_path: Path) -> None:
    run = train(Toy(), numbered(), settings(), tmp_path)
    run.record_figures({"control": 1.0})
    fresh = Toy()
    train(fresh, numbered(), settings(images=160, seed=1), tmp_path, resume=False)
    assert len(fresh.steps) == 20
    assert run.config["training"]["seed"] == 1
    assert run.figures == {}  # they were measured on the model that is gone


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": 0.01}, "training.learning_rate was 0.002 and is 0.01"),
        ({"images": 640}, "training.images was 320 and is 640"),
        ({"ema_half_life": 10}, "training.ema_half_life was 0 and is 10"),
        ({"precision": "float32"}, "training.precision was 'auto' and is 'float32'"),
    ],
)
def test_another_run_in_the_same_folder_is_refused(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    train(Toy(), numbered(), settings(), tmp_path)
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        train(Toy(), numbered(), settings(**change), tmp_path)
    assert "use another folder, or resume=False to replace it" in str(refusal.value)


def test_other_data_or_another_model_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    data = datasets.load("faces", count=32, size=16, names=NAMES)
    train(LSCVAE(DESIGN, size=16, width=2), data, settings(images=16), tmp_path)
    with pytest.raises(ValueError, match=r"model\.config\.width was 2 and is 3"):
        train(LSCVAE(DESIGN, size=16, width=3), data, settings(images=16), tmp_path)
    with pytest.raises(ValueError, match=r"model\.kind was 'LSCVAE' and is 'VAE'"):
        train(VAE(DESIGN, size=16, width=2), data, settings(images=16), tmp_path)
    more = datasets.load("faces", count=33, size=16, names=NAMES)
    with pytest.raises(ValueError, match=r"data\.count was 32 and is 33"):
        train(LSCVAE(DESIGN, size=16, width=2), more, settings(images=16), tmp_path)


def test_when_states_are_saved_does_not_make_another_run(tmp_path: Path) -> None:
    train(Toy(), numbered(), settings(save_every=0), tmp_path)
    assert train(Toy(), numbered(), settings(save_every=60), tmp_path).complete


@pytest.mark.parametrize("damage", ["truncated", "garbage", "foreign"])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: str) -> None:
    def interrupt(toy: Toy) -> None:
        if len(toy.steps) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(Toy(interrupt), numbered(), settings(), tmp_path)
    run = RunFolder(tmp_path)
    content = {
        "truncated": run.state.read_bytes()[:-50],
        "garbage": b"not a state",
        "foreign": run.weights.read_bytes(),
    }[damage]
    run.state.write_bytes(content)
    with pytest.raises(ValueError, match=r"truncated or damaged .*: use resume=False to start"):
        train(Toy(), numbered(), settings(), tmp_path)
    assert run.state.read_bytes() == content


# --- Refusals -------------------------------------------------------------------------------------


def test_a_batch_larger_than_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there are 5 images, fewer than a batch of 8"):
        train(Toy(), numbered(5), settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    train(Toy(), numbered(8), settings(), tmp_path / "run")


def test_labels_in_another_order_than_the_designs_are_refused(tmp_path: Path) -> None:
    data = datasets.load("faces", count=16, size=16, names=NAMES[::-1])
    with pytest.raises(ValueError, match="labels Smiling, Eyeglasses; the data's are Eye"):
        train(LSCVAE(DESIGN, size=16, width=2), data, settings(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": 0}, "images is at least 1, not 0"),
        ({"batch_size": 0}, "batch_size is at least 1, not 0"),
        ({"log_every": -3}, "log_every is at least 1, not -3"),
        ({"ema_half_life": -1}, "ema_half_life is at least 0, not -1"),
        ({"save_every": -1.0}, "save_every is at least 0, not -1.0"),
        ({"seed": -1}, "seed is at least 0, not -1"),
        ({"learning_rate": 0.0}, "learning_rate is above 0 and finite, not 0.0"),
        ({"learning_rate": math.nan}, "learning_rate is above 0 and finite, not nan"),
        ({"learning_rate": math.inf}, "learning_rate is above 0 and finite, not inf"),
        ({"decay": 1.5}, "decay is a share from 0 to 1, not 1.5"),
        ({"decay": -0.1}, "decay is a share from 0 to 1, not -0.1"),
        ({"precision": "float16"}, "precision is 'auto', 'float32' or 'bfloat16', not 'float16'"),
    ],
)
def test_settings_out_of_range_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        TrainingSettings(**change)


def test_devices_and_precisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="no GPU is visible here: use device='cpu', or 'auto'"):
        pick_device("cuda")
    with pytest.raises(ValueError, match="device is 'auto', 'cpu' or 'cuda', not 'tpu9'"):
        pick_device("tpu9")
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu) == pick_precision("float32", cpu) == torch.float32
    assert pick_precision("bfloat16", cpu) == torch.bfloat16
