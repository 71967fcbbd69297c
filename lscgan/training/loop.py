"""One loop for every model: it knows steps, clocks and files, and no model by name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import platform
import signal
import subprocess
import threading
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import safetensors
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from lscgan import __version__, weights
from lscgan.data import LabelledImages
from lscgan.figures import contact_sheet
from lscgan.files import replacing
from lscgan.latent import LatentDesign
from lscgan.training import claim, feed, identity
from lscgan.training.batches import Batches, Epochs
from lscgan.training.run_folder import RunFolder

SHEET = 64
"""Samples on a run's sample sheet."""


class NotFiniteError(ArithmeticError):
    """A loss or a weight became infinite or no number; the last good state is kept."""


class Trainable(Protocol):
    """What the loop asks of a model (an ``nn.Module``)."""

    def optimizers(self, learning_rate: float) -> dict[str, torch.optim.Optimizer]: ...

    def training_step(
        self, images: Tensor, labels: Tensor, optimizers: dict[str, torch.optim.Optimizer]
    ) -> dict[str, Tensor]: ...

    def config(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class TrainingSettings:
    """How long and how to train; every length is counted in images seen.

    Args:
        images: how many images the run sees; an epoch is a pass over the data, in a new order.
        batch_size: images a step.
        learning_rate: handed to the model's optimisers.
        decay: the last share of the run over which learning rates fall linearly to 0; in [0, 1].
        ema_half_life: images after which a weight's past counts half in the averaged weights
            (Karras et al. 2022); 0 keeps the raw weights.
        seed: of everything that chance decides in the run, the initial weights excepted: seed
            those where you build the model.
        device: "auto" (a GPU where there is one), "cpu", "cuda", "cuda:1", ...
        precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where a GPU has it.
        log_every: images between two lines of metrics.
        save_every: seconds between two states that a killed run can resume from. An interrupt
            saves one at once, after the step in progress.

    Raises:
        ValueError: a value is out of its range.
    """

    images: int = 200_000
    batch_size: int = 64
    learning_rate: float = 2e-3
    decay: float = 0.3
    ema_half_life: int = 0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    log_every: int = 2_000
    save_every: float = 120.0

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        for name in ("ema_half_life", "save_every", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is at least 0, not {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is above 0 and finite, not {self.learning_rate}")
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay is a share from 0 to 1, not {self.decay}")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ValueError(
                f"precision is 'auto', 'float32' or 'bfloat16', not {self.precision!r}"
            )

    def learning_rate_factor(self, images: int) -> float:
        """What the learning rate is multiplied by when ``images`` have been seen."""
        left = 1 - images / self.images
        return 1.0 if left >= self.decay else max(left / self.decay, 0.0)


def pick_device(device: str = "auto") -> torch.device:
    """The device of that name; "auto" is a GPU where there is one, else the CPU.

    Raises:
        ValueError: the device does not exist here.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device is 'auto', 'cpu' or 'cuda', not {device!r}") from error
    if picked.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("no GPU is visible here: use device='cpu', or 'auto'")
    return picked


def pick_precision(precision: str, device: torch.device) -> torch.dtype:
    """The dtype that networks compute in: "auto" is bfloat16 where the GPU has it in hardware."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if fast else torch.float32


def train(
    model: Trainable,
    data: LabelledImages,
    settings: TrainingSettings,
    folder: str | Path,
    resume: bool = True,
    watch: Callable[[nn.Module], dict[str, float]] | None = None,
    batches: Batches | None = None,
) -> RunFolder:
    """Train a model on labelled images and write a run folder; resume it where one was killed.

    Call it again with the same arguments after a crash, a kill or an interrupt: it goes on from
    the last saved state and ends in the same weights as a run that was never stopped (on the
    same device and software). A complete run is not trained again.

    Args:
        model: trained in place; afterwards it holds the weights of ``model.safetensors`` and is
            in eval mode. To go on, give the same object or one with the weights that the run
            started from.
        data: the training images. On a GPU they are held where they fill no more than 40% of its
            free memory; else they stay where they are and a thread reads ahead. Either way the
            run is the same.
        folder: made if missing.
        resume: False starts afresh and replaces what the folder holds.
        watch: measures the model at every line of metrics, and at the start; what it returns
            stands in that line. It gets the weights to use (averaged, where averaging is on), in
            eval mode, and does not change the course of the run.
        batches: which rows make each batch; passes over all images by default.

    Returns:
        The run folder.

    Raises:
        ValueError: the folder holds a run with other settings, data or weights to start from, or
            one of its files is broken.
        FileNotFoundError: the folder holds a part of a run only, which Drive may still be listing.
        NotFiniteError: a loss or a weight is not finite.
        KeyboardInterrupt: the run was interrupted; its state is saved, or it is complete.
        RuntimeError: another runtime has taken the folder over.
        OSError: the folder cannot be written; what was saved before is kept.

    Warns:
        UserWarning: a new run starts from a model that was trained before, or a run goes on with
            another version of the library.
    """
    if len(data) < settings.batch_size:
        raise ValueError(
            f"there are {len(data)} images, fewer than a batch of {settings.batch_size}: give "
            "more images or a smaller batch_size"
        )
    run = RunFolder(folder)
    module = cast(nn.Module, model)
    wanted = getattr(module, "label_names", ())  # a judge says what it reads by itself
    if wanted and wanted != tuple(data.names):
        raise ValueError(
            f"the model reads the labels {', '.join(wanted)}; the data's are "
            f"{', '.join(data.names)}: load the data with names=model.label_names"
        )
    config = {
        "model": {
            "kind": type(model).__name__,
            "config": model.config(),
            "start": identity.checksum_of_weights(module),
        },
        "data": {
            "count": len(data),
            "shape": list(data.images.shape[1:]),
            "checksum": identity.checksum_of_data(data),
            **data.source,
        },
        "training": dataclasses.asdict(settings),
        "lscgan": __version__,
    }
    if batches is not None:
        config["batches"] = batches.config()
    else:
        batches = Epochs(len(data), settings.batch_size, settings.seed)
    if resume:
        claim.check_listed(run)
    fresh = not resume or not (run.path / "config.json").is_file()
    if fresh:
        identity.check_fresh(module, config)
    else:
        then = run.config
        identity.check_same(run.path, module, then, config)
        if run.complete:
            module.load_state_dict(weights.read(run.weights).tensors)
            module.eval()
            return run
        identity.warn_of_version(run.path, then)
    ours = claim.Claim(run)
    if fresh:
        claim.clear(run)
        run.write_json("config.json", config)
    claim.sweep(run, older=claim.STALE)
    device = pick_device(settings.device)
    module.to(device).to(memory_format=torch.channels_last)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), _deterministic(), _interruptible() as stop:
        torch.manual_seed(settings.seed)
        _Training(model, module, data, settings, run, ours, device, watch, batches).go(stop)
    return run


class _Training:
    """A run in progress: everything that one state file holds."""

    def __init__(
        self,
        model: Trainable,
        module: nn.Module,
        data: LabelledImages,
        settings: TrainingSettings,
        run: RunFolder,
        ours: claim.Claim,
        device: torch.device,
        watch: Callable[[nn.Module], dict[str, float]] | None,
        batches: Batches,
    ):
        self.watch, self.batches = watch, batches
        self.model, self.module, self.settings, self.run = model, module, settings, run
        self.claim, self.data, self.device = ours, data, device
        self.dtype = pick_precision(settings.precision, device)
        self.optimizers = model.optimizers(settings.learning_rate)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])
        self.averaged: AveragedModel | None = None
        if settings.ema_half_life:
            rate = 0.5 ** (settings.batch_size / settings.ema_half_life)
            self.averaged = AveragedModel(module, multi_avg_fn=_averaging(rate), use_buffers=True)
        self.seen = 0
        self.seconds = 0.0
        self.waited = 0.0  # seconds of these until a batch was there
        self.metrics: list[dict[str, float]] = []
        self.sums: dict[str, Tensor] = {}  # of the terms since the last line of metrics
        self.logged_at = 0
        if run.state.is_file():
            self._restore()

    def go(self, stop: threading.Event) -> None:
        settings = self.settings
        total = math.ceil(settings.images / settings.batch_size) * settings.batch_size
        self.module.train()
        if not self.run.state.is_file():
            self._save_state()  # what fails before the next state starts from here again
        if self.seen == 0 and self.watch is not None:
            self.metrics.append({**self._watched(), "images": 0, "seconds": 0.0})
        clock = saved_at = time.perf_counter()
        way = feed.held if feed.fits(self.data.images, self.device) else feed.streamed
        coming = range(self.seen // settings.batch_size, total // settings.batch_size)
        # Runs of a chapter are over before a bar is needed; a long one under papermill stays quiet.
        with (
            contextlib.closing(way(self.data, self.batches, coming, self.device)) as batches,
            tqdm(
                total=total,
                initial=self.seen,
                unit="image",
                unit_scale=True,
                mininterval=1,
                delay=20,
            ) as bar,
        ):
            while self.seen < total:
                asked = time.perf_counter()
                images, labels = next(batches)
                self.waited += time.perf_counter() - asked
                for name, value in self._step(images, labels).items():
                    so_far = self.sums.get(name, torch.zeros((), device=self.device))
                    self.sums[name] = so_far + value
                bar.update(settings.batch_size)

                every, last = settings.log_every, self.seen >= total
                if self.seen // every > self.logged_at // every or last:
                    means = self._means()
                    self.seconds += time.perf_counter() - clock
                    self._log(means)
                    clock = time.perf_counter()  # what watching takes is no training
                    bar.set_postfix(loss=f"{next(iter(self.metrics[-1].values())):.4g}")
                    if last:
                        break
                if stop.is_set() or time.perf_counter() - saved_at >= settings.save_every:
                    self._means()  # a state that is not finite is never saved
                    self.seconds += time.perf_counter() - clock
                    self._save()
                    clock = saved_at = time.perf_counter()
                    if stop.is_set():
                        raise KeyboardInterrupt(
                            f"stopped after {self.seen} images; run again to go on from there"
                        )
        self._finish()
        if stop.is_set():
            raise KeyboardInterrupt(
                f"interrupted at its end: the run of {self.seen} images is complete"
            )

    def _step(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """One step of the model on a batch: uint8 (B, C, H, W) and (B, A)."""
        factor = self.settings.learning_rate_factor(self.seen)
        for optimizer in self.optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        pictures = images.float().contiguous(memory_format=torch.channels_last) / 255
        half = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=half):
            terms = self.model.training_step(pictures, labels, self.optimizers)
        if self.averaged is not None:
            self.averaged.update_parameters(self.module)
        self.seen += self.settings.batch_size
        return terms

    def _means(self) -> dict[str, float]:
        """The mean of each term over the steps since the last line of metrics.

        Raises:
            NotFiniteError: one of them, or a weight, is not finite.
        """
        steps = max((self.seen - self.logged_at) / self.settings.batch_size, 1)
        means = {name: float(value) / steps for name, value in self.sums.items()}
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if not all(bool(torch.isfinite(t).all()) for t in self.module.state_dict().values()):
            broken.append("a weight")  # a finite loss may have a gradient that is not
        if broken:
            raise NotFiniteError(
                f"{' and '.join(broken)} is not finite after {self.seen} images; the last good "
                f"state is kept in {self.run.state}: try a smaller learning rate, or "
                "precision='float32'"
            )
        return means

    def _log(self, means: dict[str, float]) -> None:
        line = {**means, **self._watched()}
        self.metrics.append({**line, "images": self.seen, "seconds": round(self.seconds, 3)})
        self.sums, self.logged_at = {}, self.seen

    def _watched(self) -> dict[str, float]:
        if self.watch is None:
            return {}
        with self._weights_to_use():
            return self.watch(self.module)

    @contextlib.contextmanager
    def _weights_to_use(self) -> Iterator[None]:
        """The module with averaged weights, in eval mode; chance and raw weights come back."""
        raw = {n: t.clone() for n, t in self.module.state_dict().items()}
        chance = torch.get_rng_state()
        on_gpu = torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
        if self.averaged is not None:
            self.module.load_state_dict(self.averaged.module.state_dict())
        self.module.eval()
        yield
        self.module.train()
        self.module.load_state_dict(raw)
        torch.set_rng_state(chance)
        if on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.device)

    # -- state --------------------------------------------------------------------------------

    def _save(self) -> None:
        self._save_state()
        self.run.write_metrics(self.metrics)
        self._write_weights()

    def _save_state(self) -> None:
        self.claim.check()
        tensors = {f"model.{n}": t for n, t in self.module.state_dict().items()}
        if self.averaged is not None:
            tensors |= {f"averaged.{n}": t for n, t in self.averaged.state_dict().items()}
        for name, optimizer in self.optimizers.items():
            for index, entries in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{name}.{index}.{k}": v for k, v in entries.items()}
        tensors |= {f"sum.{name}": value for name, value in self.sums.items()}
        tensors["chance.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["chance.cuda"] = torch.cuda.get_rng_state(self.device)
        about = {
            "seen": self.seen,
            "logged_at": self.logged_at,
            "seconds": self.seconds,
            "waited": self.waited,
            "metrics": self.metrics,
            "precision": self._precision,
        }
        # clone: safetensors refuses tensors that share memory
        with replacing(self.run.state) as temporary:
            save_file(
                {n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()},
                temporary,
                metadata={"state": json.dumps(about)},
            )

    def _restore(self) -> None:
        try:
            with safe_open(self.run.state, framework="pt") as opened:
                about = json.loads(opened.metadata()["state"])
                tensors = {n: opened.get_tensor(n) for n in opened.keys()}  # noqa: SIM118
        except (SafetensorError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self.run.state} is truncated or damaged ({error}): use resume=False to start "
                "afresh, or another run folder"
            ) from error
        self.module.load_state_dict(_below(tensors, "model."))
        if self.averaged is not None:
            self.averaged.load_state_dict(_below(tensors, "averaged."))
        for name, optimizer in self.optimizers.items():
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in _below(tensors, f"optimizer.{name}.").items():
                index, entry = key.split(".", 1)
                state.setdefault(int(index), {})[entry] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(tensors["chance.cpu"])
        if "chance.cuda" in tensors and self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["chance.cuda"], self.device)
        self.seen, self.seconds = about["seen"], about["seconds"]
        self.waited = about.get("waited", 0.0)  # a state of version 0.3 has none
        self.metrics = about["metrics"]
        self.logged_at = about.get("logged_at", self.seen)  # states of 0.3 stand at a line
        self.sums = {n: t.to(self.device) for n, t in _below(tensors, "sum.").items()}
        # "auto" may mean another one here; states of 0.7 and before have none.
        self.dtype = getattr(torch, about.get("precision", self._precision))

    def _write_weights(self) -> None:
        """Write the weights to use, and a sheet of what they draw."""
        with self._weights_to_use():
            weights.save(cast(weights.Configured, self.module), self.run.weights)
            sample = getattr(self.module, "sample", None)  # a judge has none
            if sample is not None:
                generator = torch.Generator().manual_seed(self.settings.seed)
                rows = torch.randint(len(self.data), (SHEET,), generator=generator)
                # A plain VAE has nothing to be asked for, codes are no labels, and some labels
                # may not be known: what cannot be asked is drawn.
                design = cast(LatentDesign, self.module.design)
                labels = self.data.labels[rows]
                asked = design.names == tuple(self.data.names) and bool(labels.isfinite().all())
                given = labels if asked else None
                contact_sheet(sample(given, SHEET, generator), self.run.samples)

    @property
    def _precision(self) -> str:
        return str(self.dtype).removeprefix("torch.")

    def _finish(self) -> None:
        self.claim.check()
        self._write_weights()
        if self.averaged is not None:
            self.module.load_state_dict(self.averaged.module.state_dict())
        self.module.eval()
        self.run.write_metrics(self.metrics)
        self.run.write_json(
            "summary.json",
            {
                "images": self.seen,
                "seconds": round(self.seconds, 1),
                "images_per_second": round(self.seen / max(self.seconds, 1e-9), 1),
                # The share of the seconds in which the loop had no batch to go on with.
                "waiting_for_data": round(self.waited / max(self.seconds, 1e-9), 4),
                "seed": self.settings.seed,
                "device": _describe(self.device),
                "precision": self._precision,
                "last": self.metrics[-1],
                "versions": {
                    "lscgan": __version__,
                    "torch": torch.__version__,
                    "safetensors": safetensors.__version__,
                    "python": platform.python_version(),
                },
                "revision": _revision(),
            },
        )
        self.run.state.unlink(missing_ok=True)
        self.claim.release()
        claim.sweep(self.run)  # what a kill left a moment before this run began


# -- small things -----------------------------------------------------------------------------


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def _averaging(rate: float) -> Callable[[Any, Any, Any], None]:
    """What keeps the averages: numbers are averaged, counts are those of now."""
    average = get_ema_multi_avg_fn(rate)

    @torch.no_grad()
    def update(kept: list[Tensor], now: list[Tensor], steps: Tensor | int) -> None:
        if kept[0].is_floating_point():  # torch hands over one type at a time
            average(kept, now, steps)
        else:
            for old, new in zip(kept, now, strict=True):
                old.copy_(new)

    return update


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    """cuDNN picks the same kernels each time, so that a resumed run equals an unbroken one."""
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        yield


@contextlib.contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Turn an interrupt into a flag that the loop looks at between two steps.

    A step cut in half would leave weights that no unbroken run passes through.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(signum: int, frame: types.FrameType | None) -> None:
        stop.set()

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads"


def _revision() -> str | None:
    """The git revision of the code that ran, with + where it had changes; None outside git."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--abbrev=12", "--dirty=+"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
