"""How a batch reaches the device: from images held there, or read ahead by a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import torch
from torch import Tensor

from lscgan.data import LabelledImages
from lscgan.training.batches import Batches

HELD = 0.4
"""The share of a GPU's free memory that images may fill; the rest is for the model's work."""

AHEAD = 2
"""Batches that the thread has ready, or is at, while a step runs."""


def fits(images: Tensor, device: torch.device) -> bool:
    """Whether the images, as bytes, fill no more than their share of the device's free memory.

    On the CPU nothing is moved: rows of a map are read there in under 1% of a step's time, and a
    thread that reads them ahead takes its time from the step.
    """
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return images.nbytes <= HELD * free


def held(
    data: LabelledImages, batches: Batches, steps: Iterable[int], device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The images, uint8 (B, C, H, W), and labels (B, A) of each step; all are moved once."""
    images, labels = data.images.to(device), data.labels.to(device)
    for step in steps:
        rows = batches.rows(step).to(device)  # (B,)
        yield images[rows], labels[rows]


def streamed(
    data: LabelledImages, batches: Batches, steps: Iterable[int], device: torch.device
) -> Generator[tuple[Tensor, Tensor], None, None]:
    """The same batches as `held`, in the same order, of images that stay where they are.

    A thread reads the next batches, into pinned memory where a GPU is to copy them from it while
    it computes. An error in the thread reaches the caller. The thread ends with the last batch,
    or when the generator is closed.
    """

    def read(step: int) -> list[Tensor]:
        rows = batches.rows(step)  # (B,)
        batch = [data.images[rows], data.labels[rows]]
        return [part.pin_memory() for part in batch] if device.type == "cuda" else batch

    coming = iter(steps)
    with ThreadPoolExecutor(1, "lscgan-feed") as pool:
        ahead = deque(pool.submit(read, step) for step in islice(coming, AHEAD))
        while ahead:
            images, labels = ahead.popleft().result()
            ahead.extend(pool.submit(read, step) for step in islice(coming, 1))
            # torch keeps a pinned batch until the copy from it is done.
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
