"""What a run finds on the machine where it is opened, said before it starts."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from lscgan.files import DRIVE, on_drive, require_mounted
from lscgan.training.loop import pick_device, pick_precision


def describe_runtime(
    device: str,
    precision: str,
    folder: str | Path,
    *,
    cpu_minutes: int,
    gpu_minutes: int | None,
    instead: str,
) -> str:
    """What a run notebook says first: the device, the minutes to expect, and the way around.

    Args:
        device: as in :class:`TrainingSettings`.
        precision: as in :class:`TrainingSettings`.
        folder: the run folder.
        cpu_minutes: what the run takes on one or two CPU cores, with the notebook's own settings.
        gpu_minutes: the same on a GPU; None where a CPU is enough.
        instead: the expression that gives what this run makes, or the nearest to it, at once.

    Returns:
        A sentence a line, to print.

    Raises:
        ValueError: the device does not exist here.
        FileNotFoundError: the run folder lies on a Google Drive that is not mounted.
    """
    require_mounted(folder)
    picked = pick_device(device)
    number = str(pick_precision(precision, picked)).removeprefix("torch.")
    on_cpu, on_gpu = f"about {_time(cpu_minutes)}", "no GPU is needed"
    if gpu_minutes is not None:
        on_gpu = f"on a GPU under {_time(gpu_minutes)}"
    if picked.type == "cuda":
        takes = on_gpu if gpu_minutes is not None else f"{on_cpu} at most"
        lines = [f"A GPU, {torch.cuda.get_device_name(picked)}, {number}: {takes}."]
    else:
        found = "A GPU is here but not asked for" if torch.cuda.is_available() else "No GPU"
        threads = f"{torch.get_num_threads()} CPU threads, {number}"
        lines = [f"{found}; {threads}: {on_cpu}, {on_gpu}."]
    lines[0] += " That is with this notebook's own settings."
    in_colab = "google.colab" in sys.modules
    if in_colab and picked.type == "cpu" and gpu_minutes is not None:
        lines.append("To get a GPU: Runtime > Change runtime type > T4 GPU, then run again.")
    if in_colab and not on_drive(folder):
        lines.append(
            "This runtime forgets its files: to keep the run, mount your Drive and set folder = "
            f'"{DRIVE}/MyDrive/lscgan/{Path(folder).name}".'
        )
    lines.append(f"To go on without this run: {instead}.")
    return "\n".join(lines)


def _time(minutes: int) -> str:
    if minutes >= 48 * 60:
        return f"{round(minutes / 1440)} days"
    return f"{minutes} minute{'s' if minutes > 1 else ''}"
