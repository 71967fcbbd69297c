"""How batches reach the device: held or streamed, the same run; no thread is left behind."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from lscgan.data import LabelledImages
from lscgan.latent import LatentDesign
from lscgan.models import LSCVAE
from lscgan.training import Epochs, LabelSchedule, TrainingSettings, feed, train

CPU = torch.device("cpu")
NAMES = ("one", "two")


def mapped(folder: Path, count: int = 30) -> LabelledImages:
    """Images that lie in a file, as a pack's do."""
    chance = np.random.default_rng(0)
    np.save(folder / "pack.npy", chance.integers(0, 256, (count, 3, 16, 16), dtype=np.uint8))
    images = torch.from_numpy(np.load(folder / "pack.npy", mmap_mode="c"))
    labels = torch.from_numpy(chance.integers(0, 2, (count, 2)).astype(np.float32))
    return LabelledImages(images, labels, NAMES)


def feeding() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("lscgan-feed")]


class Listed:
    """Batches that note in which thread each step was asked for, and may fail at one."""

    def __init__(self, count: int, size: int, fails: int = -1) -> None:
        self.epochs, self.fails = Epochs(count, size, seed=1), fails
        self.asked: list[int] = []
        self.threads: set[str] = set()

    def rows(self, step: int) -> Tensor:
        self.asked.append(step)
        self.threads.add(threading.current_thread().name)
        if step == self.fails:
            raise OSError(f"the disk is gone at step {step}")
        return self.epochs.rows(step)

    def config(self) -> dict[str, Any]:
        return {"kind": "listed"}


@pytest.mark.parametrize("steps", [range(0), range(1), range(11), range(7, 20)])
def test_held_and_streamed_give_the_rows_of_each_step_in_order(
    tmp_path: Path, steps: range
) -> None:
    data = mapped(tmp_path)
    for way in (feed.held, feed.streamed):
        found = list(way(data, Epochs(30, 7, seed=2), steps, CPU))
        assert len(found) == len(steps)
        for step, (images, labels) in zip(steps, found, strict=True):
            rows = Epochs(30, 7, seed=2).rows(step)
            assert torch.equal(images, data.images[rows])
            assert torch.equal(labels, data.labels[rows])
    assert not feeding()


def test_one_thread_reads_two_batches_ahead_and_no_more(tmp_path: Path) -> None:
    batches = Listed(30, 5)
    batch = feed.streamed(mapped(tmp_path), batches, range(100), CPU)
    for taken in range(1, 6):
        next(batch)
        (thread,) = feeding()
        # What is asked for now comes in its own time; no more than that ever does.
        assert taken <= len(batches.asked) <= taken + feed.AHEAD
    batch.close()
    assert not feeding()
    assert batches.asked == list(range(len(batches.asked)))
    assert batches.threads == {thread.name}


def test_an_error_in_the_thread_reaches_the_caller_at_its_batch(tmp_path: Path) -> None:
    batch = feed.streamed(mapped(tmp_path), Listed(30, 5, fails=3), range(9), CPU)
    for _ in range(3):
        next(batch)
    with pytest.raises(OSError, match="the disk is gone at step 3"):
        next(batch)
    assert not feeding()


class Recorded(LSCVAE):
    """An LSC-VAE that may fail, or be interrupted, at a step."""

    def __init__(self, at: int = -1, what: Any = None) -> None:
        torch.manual_seed(0)
        super().__init__(LatentDesign.lsc(NAMES, 3, size=8), size=16, width=4)
        self.at, self.what, self.taken = at, what, 0
        self.threads: list[int] = []

    def training_step(self, *given: Any) -> dict[str, Tensor]:
        self.taken += 1
        self.threads.append(len(feeding()))
        if self.taken == self.at:
            self.what()
        return super().training_step(*given)


SETTINGS = TrainingSettings(images=120, batch_size=5, log_every=20, device="cpu", seed=4)


@pytest.mark.parametrize("schedule", [False, True])
def test_a_run_ends_in_the_same_weights_held_or_streamed_and_stopped_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: bool
) -> None:
    data = mapped(tmp_path)

    def run(name: str, model: LSCVAE) -> dict[str, Tensor]:
        batches = None
        if schedule:  # rows drawn with replacement, from a generator of their own
            known = torch.arange(30) % 3 == 0
            batches = LabelSchedule(0.5, 0.1, 2).batches(known, 5, seed=6)
        folder = train(model, data, SETTINGS, tmp_path / name, batches=batches)
        assert not feeding()
        assert 0 < folder.summary["waiting_for_data"] < 1
        return load_file(folder.weights)

    def interrupt() -> None:
        signal.raise_signal(signal.SIGINT)

    expected = run("held", Recorded())
    monkeypatch.setattr(feed, "fits", lambda images, device: False)
    model = Recorded()
    runs = [run("streamed", model)]
    assert max(model.threads) == 1
    stopped = Recorded(at=9, what=interrupt)
    with pytest.raises(KeyboardInterrupt, match="stopped after"):
        run("stopped", stopped)
    assert not feeding()
    assert stopped.taken < 24
    monkeypatch.undo()  # and the rest of it held
    rest = Recorded()
    runs.append(run("stopped", rest))
    assert rest.taken == 24 - stopped.taken
    for weights in runs:
        assert weights.keys() == expected.keys()
        assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_step_that_fails_leaves_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(feed, "fits", lambda images, device: False)
    with pytest.raises(RuntimeError, match="out of memory"):
        train(Recorded(at=3, what=fail), mapped(tmp_path), SETTINGS, tmp_path / "run")
    assert not feeding()


def test_images_are_held_where_they_fill_no_more_than_their_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = torch.zeros(10, 3, 4, 4, dtype=torch.uint8)  # 480 bytes
    gpu = torch.device("cuda")
    for free, fits in ((480 / feed.HELD, True), (480 / feed.HELD - 2, False)):
        with monkeypatch.context() as patched:
            patched.setattr(torch.cuda, "mem_get_info", lambda device, f=free: (f, 10 * f))
            assert feed.fits(images, gpu) is fits
            assert feed.fits(images, CPU)


def test_a_gpu_is_fed_from_pinned_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: what is asked of torch, batch by batch."""
    asked: list[tuple[str, torch.Size]] = []
    gpu = torch.device("cuda")

    def pin(tensor: Tensor) -> Tensor:
        asked.append(("pin", tensor.shape))
        return tensor

    def move(tensor: Tensor, device: torch.device, non_blocking: bool) -> Tensor:
        assert (device, non_blocking) == (gpu, True)
        asked.append(("move", tensor.shape))
        return tensor

    data = mapped(tmp_path)
    monkeypatch.setattr(Tensor, "pin_memory", pin)
    monkeypatch.setattr(Tensor, "to", move)
    with contextlib.closing(feed.streamed(data, Epochs(30, 5, 0), range(4), gpu)) as batches:
        assert len(list(batches)) == 4
    for what in ("pin", "move"):
        shapes = [shape for name, shape in asked if name == what]
        assert shapes == [(5, 3, 16, 16), (5, 2)] * 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_streamed_batches_are_those_held(tmp_path: Path) -> None:
    gpu, data = torch.device("cuda"), mapped(tmp_path)
    ways = [list(way(data, Epochs(30, 5, 0), range(40), gpu)) for way in (feed.held, feed.streamed)]
    for (images, labels), (others, theirs) in zip(*ways, strict=True):
        assert images.is_cuda
        assert torch.equal(images, others)
        assert torch.equal(labels, theirs)
