"""Which images make a batch: orders, the label schedule, and runs that resume."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from lscgan.data import LabelledImages
from lscgan.latent import LatentDesign
from lscgan.models import SSInfoGAN
from lscgan.training import Epochs, LabelSchedule, TrainingSettings, train

FEW = torch.tensor([False, True, False, False, True, False, False, True, False, False])
"""Which of ten images have a label: 1, 4 and 7."""


# --- Passes over all images -----------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_every_pass_is_a_new_order_of_all_images(count: int, size: int, seed: int) -> None:
    size = min(size, count)
    batches, whole = Epochs(count, size, seed), count // size
    orders = []
    for epoch in range(3):
        rows = torch.cat([batches.rows(step) for step in range(epoch * whole, (epoch + 1) * whole)])
        assert len(rows) == whole * size
        assert len(rows.unique()) == len(rows)
        assert 0 <= int(rows.min()) <= int(rows.max()) < count
        orders.append(tuple(rows.tolist()))
    assert count < 10 or len(set(orders)) == 3
    assert batches.config() == {"kind": "epochs"}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8), st.integers(0, 99))
def test_a_pass_does_not_depend_on_what_was_asked_before(steps: list[int], seed: int) -> None:
    used = Epochs(24, 5, seed)
    for step in steps:
        assert torch.equal(used.rows(step), Epochs(24, 5, seed).rows(step))
    assert not torch.equal(Epochs(24, 24, seed).rows(0), Epochs(24, 24, seed + 1).rows(0))


# --- The schedule ---------------------------------------------------------------------------------


def test_the_official_probabilities_start_at_0_and_end_at_99_percent() -> None:
    schedule = LabelSchedule()
    expected = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.99, 0.99, 0.99]
    for epoch, probability in enumerate(expected):
        for step in (100 * epoch, 100 * epoch + 57, 100 * epoch + 99):
            assert schedule.probability(step) == pytest.approx(probability)
    assert schedule.probability(1_000_000) == 0.99


@given(
    st.floats(0, 1), st.floats(0.001, 2), st.integers(1, 300), st.integers(0, 9_999), st.booleans()
)
def test_a_probability_grows_in_steps_up_to_its_end(
    unlabelled: float, growth: float, every: int, step: int, whole: bool
) -> None:
    schedule = LabelSchedule(unlabelled, growth, every, whole)
    grown = sum(growth for passed in range(1, step + 1) if passed % every == 0)
    assert schedule.probability(step) == pytest.approx(min(grown, unlabelled), abs=1e-9)
    assert 0 <= schedule.probability(step) <= schedule.probability(step + 1) <= unlabelled


def shares(schedule: LabelSchedule, step: int, size: int = 4, runs: int = 2_000) -> list[float]:
    """The share of unlabelled rows in the batch of one step, in so many runs."""
    found = []
    for seed in range(runs):
        rows = schedule.batches(FEW, size, seed).rows(step)
        assert rows.shape == (size,)
        found.append(float((~FEW[rows]).float().mean()))
    return found


@pytest.mark.parametrize(("step", "probability"), [(0, 0.0), (130, 0.1), (555, 0.5), (5_000, 0.99)])
def test_whole_batches_are_unlabelled_as_often_as_the_schedule_says(
    step: int, probability: float
) -> None:
    found = shares(LabelSchedule(), step)
    assert set(found) <= {0.0, 1.0}
    share = sum(found) / len(found)
    # Four standard deviations of the mean of 2,000 draws.
    assert abs(share - probability) <= 4 * math.sqrt(probability * (1 - probability) / 2_000)


def test_batches_of_one_run_follow_the_schedule_too() -> None:
    """Steps of one seed are drawn apart: over 4,000 of them the shares are right as well."""
    batches = LabelSchedule(unlabelled=0.3, growth=1.0, every=1).batches(FEW, 2, seed=5)
    found = [not bool(FEW[batches.rows(step)].any()) for step in range(1, 4_001)]
    assert abs(sum(found) / 4_000 - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 4_000)
    # And one batch says nothing of the next.
    both = sum(a and b for a, b in itertools.pairwise(found)) / 3_999
    assert abs(both - 0.09) < 0.03


def test_mixed_batches_draw_for_every_row() -> None:
    found = shares(LabelSchedule(whole=False), 555)
    assert {0.25, 0.5, 0.75} <= set(found)
    assert abs(sum(found) / len(found) - 0.5) < 4 * 0.5 / math.sqrt(4 * 2_000)
    # Rows are drawn apart: all four are unlabelled in one batch of 16.
    assert abs(found.count(1.0) / 2_000 - 1 / 16) < 0.025
    assert set(shares(LabelSchedule(whole=False), 0, runs=50)) == {0.0}


@pytest.mark.parametrize("whole", [True, False])
def test_rows_of_a_kind_are_drawn_uniformly_with_replacement(whole: bool) -> None:
    schedule = LabelSchedule(whole=whole)
    rows = torch.cat([schedule.batches(FEW, 8, seed).rows(555) for seed in range(2_000)])
    for mine in (FEW, ~FEW):
        counts = torch.bincount(rows[mine[rows]], minlength=10)
        assert bool((counts[~mine] == 0).all())
        expected = int(counts.sum()) / int(mine.sum())
        assert float((counts[mine] - expected).abs().max()) < 5 * math.sqrt(expected)
    one = schedule.batches(FEW, 8, 0).rows(0)
    assert len(one.unique()) < 8  # eight rows of three images


@given(
    st.integers(0, 5_000),
    st.integers(0, 99),
    st.integers(1, 16),
    st.booleans(),
    st.lists(st.integers(0, 5_000), max_size=4),
)
def test_rows_are_a_function_of_step_and_seed_alone(
    step: int, seed: int, size: int, whole: bool, before: list[int]
) -> None:
    schedule = LabelSchedule(whole=whole)
    used = schedule.batches(FEW, size, seed)
    for other in before:
        used.rows(other)
    torch.manual_seed(sum(before))
    chance = torch.get_rng_state()
    rows = used.rows(step)
    assert torch.equal(torch.get_rng_state(), chance)  # the global source is left alone
    assert torch.equal(rows, schedule.batches(FEW, size, seed).rows(step))
    assert rows.shape == (size,)
    assert rows.dtype == torch.long
    assert 0 <= int(rows.min()) <= int(rows.max()) < 10


def test_other_seeds_and_steps_give_other_rows() -> None:
    many = torch.arange(1_000) % 2 == 0
    rows = [LabelSchedule().batches(many, 32, seed).rows(step) for seed, step in
            ((0, 0), (0, 1), (1, 0), (1, 1))]  # fmt: skip
    assert len({tuple(row.tolist()) for row in rows}) == 4


@pytest.mark.parametrize("whole", [True, False])
def test_where_all_is_labelled_no_batch_is_unlabelled(whole: bool) -> None:
    batches = LabelSchedule(unlabelled=1.0, whole=whole).batches(torch.ones(7).bool(), 5, 0)
    rows = torch.cat([batches.rows(step) for step in range(2_000, 2_200)])
    assert sorted(rows.unique().tolist()) == list(range(7))


def test_the_record_says_what_was_drawn() -> None:
    schedule = LabelSchedule(unlabelled=0.9, growth=0.2, every=50, whole=False)
    config = schedule.batches(FEW, 4, 0).config()
    assert json.loads(json.dumps(config)) == {
        "kind": "labels first",
        "labelled": 3,
        "unlabelled": 0.9,
        "growth": 0.2,
        "every": 50,
        "whole": False,
    }
    assert LabelSchedule() == LabelSchedule(0.99, 0.1, 100, True)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"unlabelled": -0.1}, "unlabelled is a share from 0 to 1, not -0.1"),
        ({"unlabelled": 1.1}, "unlabelled is a share from 0 to 1, not 1.1"),
        ({"unlabelled": math.nan}, "unlabelled is a share from 0 to 1, not nan"),
        ({"growth": 0.0}, "growth is above 0, not 0.0"),
        ({"growth": -1.0}, "growth is above 0, not -1.0"),
        ({"growth": math.nan}, "growth is above 0, not nan"),
        ({"every": 0}, "every is at least 1, not 0"),
    ],
)
def test_a_wrong_schedule_is_refused(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        LabelSchedule(**fields)


def test_data_without_any_label_is_refused() -> None:
    with pytest.raises(ValueError, match="no image has a label: keep some, or train an InfoGAN"):
        LabelSchedule().batches(torch.zeros(5).bool(), 4, 0)


# --- In the loop ----------------------------------------------------------------------------------


class Notebook(nn.Module):
    """It notes which rows, which are the labels, every step was given."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(1, 1)
        self.rows: list[list[float]] = []

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]:
        return {"line": torch.optim.SGD(self.parameters(), lr=learning_rate)}

    def training_step(
        self, images: Any, labels: Any, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Any]:
        self.rows.append(labels[:, 0].tolist())
        return {"loss": torch.zeros(())}

    def config(self) -> dict[str, Any]:
        return {}


def test_the_loop_takes_the_rows_it_is_given(tmp_path: Path) -> None:
    images = torch.zeros(10, 1, 2, 2, dtype=torch.uint8)
    data = LabelledImages(images, torch.arange(10.0)[:, None], ("row",))
    batches = LabelSchedule(growth=0.5, every=10).batches(FEW, 4, seed=3)
    chosen = TrainingSettings(images=160, batch_size=4, log_every=40, device="cpu", seed=8)
    model = Notebook()
    run = train(model, data, chosen, tmp_path, batches=batches)
    assert model.rows == [batches.rows(step).float().tolist() for step in range(40)]
    assert run.config["batches"] == batches.config()


def faint(count: int = 60) -> LabelledImages:
    """Tiny random images of three classes, five of which keep their label."""
    chance = torch.Generator().manual_seed(3)
    images = torch.randint(256, (count, 1, 8, 8), generator=chance, dtype=torch.uint8)
    classes = (torch.arange(count) % 3).float()[:, None]
    return LabelledImages(images, classes, ("class",), {"name": "faint"}).keep_labels(5)


def semi_supervised() -> SSInfoGAN:
    torch.manual_seed(0)
    design = LatentDesign.ss_infogan({"class": 3}, (2,), 1, 4)
    return SSInfoGAN(design, size=8, width=2, hidden=8)


@pytest.mark.parametrize("ema_half_life", [0, 200])
@pytest.mark.parametrize("whole", [True, False])
def test_an_interrupted_run_resumes_to_the_same_weights(
    tmp_path: Path, ema_half_life: int, whole: bool
) -> None:
    """Rows are a function of the step: a run that is stopped at 15 of 40 steps loses nothing."""
    data = faint()
    chosen = TrainingSettings(
        images=320,
        batch_size=8,
        log_every=40,
        device="cpu",
        save_every=3600.0,
        ema_half_life=ema_half_life,
        precision="float32",
    )
    schedule = LabelSchedule(growth=0.25, every=8, whole=whole)

    def watcher(stop_at: int) -> Callable[[nn.Module], dict[str, float]]:
        lines = iter(range(0, 10_000, 40))

        def watch(module: nn.Module) -> dict[str, float]:
            if next(lines) == stop_at:
                signal.raise_signal(signal.SIGINT)
            return {}

        return watch

    def run(folder: str, stop_at: int = -1) -> SSInfoGAN:
        model = semi_supervised()
        batches = schedule.batches(data.labelled, 8, seed=4)
        train(model, data, chosen, tmp_path / folder, watch=watcher(stop_at), batches=batches)
        return model

    with pytest.raises(KeyboardInterrupt, match="stopped after 120 images"):
        run("stopped", stop_at=120)
    resumed, unbroken = run("stopped"), run("unbroken")
    states = resumed.state_dict(), unbroken.state_dict()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    files = [
        load_file(tmp_path / folder / "model.safetensors") for folder in ("stopped", "unbroken")
    ]
    assert all(torch.equal(tensor, files[1][name]) for name, tensor in files[0].items())
    start = semi_supervised().state_dict()
    assert not torch.equal(start["q_ss.layers.0.weight"], states[0]["q_ss.layers.0.weight"])


def test_a_run_with_another_schedule_is_not_resumed(tmp_path: Path) -> None:
    data = faint()
    chosen = TrainingSettings(images=16, batch_size=8, log_every=8, device="cpu")
    schedule = LabelSchedule()
    train(semi_supervised(), data, chosen, tmp_path, batches=schedule.batches(data.labelled, 8, 0))
    for other, words in (
        (dataclasses.replace(schedule, unlabelled=0.5), "batches.unlabelled was 0.99 and is 0.5"),
        (dataclasses.replace(schedule, whole=False), "batches.whole was True and is False"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            train(
                semi_supervised(),
                data,
                chosen,
                tmp_path,
                batches=other.batches(data.labelled, 8, 0),
            )
    with pytest.raises(ValueError, match=r"batches\.kind was 'labels first' and is None"):
        train(semi_supervised(), data, chosen, tmp_path)
