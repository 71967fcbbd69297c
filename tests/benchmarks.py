"""Speed and memory, each as a ratio against an alternative in the same run: `make benchmarks`.

Never part of the tests: a figure here says how this machine did today. Every ratio is the median
over rounds in which the two alternatives take turns, so that other work on the machine hits both.
"""

from __future__ import annotations

import dataclasses
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.io import ImageReadMode, decode_jpeg

from lscgan.data import LabelledImages, faces, load, packing
from lscgan.latent import LatentDesign
from lscgan.models import LSCGAN, LSCVAE, Recipe
from lscgan.training import TrainingSettings, feed, pick_device, train

ROUNDS = 7


def seconds(work: Callable[[], object]) -> float:
    """How long ``work`` takes, with what it started on a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare(
    what: str, ours: Callable[[], object], other: Callable[[], object], unit: str, per: int
) -> None:
    """Print ours and the alternative in units a second, and how many times as fast ours is."""
    ours(), other()  # the first call of each pays for what is made once
    pairs = [(seconds(ours), seconds(other)) for _ in range(ROUNDS)]
    ratio = statistics.median(b / a for a, b in pairs)
    mine, theirs = (per / statistics.median(times) for times in zip(*pairs, strict=True))
    print(f"{what:58} {mine:9,.0f} against {theirs:9,.0f} {unit}/s   {ratio:5.2f} times")


def renderer() -> None:
    """Drawing each shape only where it can show, against drawing it over the whole frame."""
    factors = faces.sample_factors(256, torch.Generator().manual_seed(0))
    for size in (32, 64, 128):
        compare(
            f"faces at {size}x{size}: windows against whole frames",
            partial(faces._render, factors, size, whole_frame=False),
            partial(faces._render, factors, size, whole_frame=True),
            "faces",
            len(factors),
        )


def gan_step() -> None:
    """Steps of LSC-GAN: what its parts cost, against the paper's literal form."""
    device = pick_device()
    design = LatentDesign.lsc(faces.ATTRIBUTES, coding="signed")
    pictures = torch.rand(64, 3, 64, 64, device=device)
    labels = faces.sample_labels(64, torch.Generator().manual_seed(0)).to(device)
    penalised = Recipe(adversarial="relativistic", frozen_encoder=True, r1=0.5, r2=0.5)

    def steps(recipe: Recipe) -> Callable[[], object]:
        torch.manual_seed(0)
        model = LSCGAN(design, recipe).to(device).to(memory_format=torch.channels_last)
        optimizers = model.optimizers(1e-4)

        def four() -> None:
            for _ in range(4):
                model.training_step(pictures, labels, optimizers)

        return four

    literal = steps(Recipe())
    compare(
        "LSC-GAN: frozen Q against the literal form",
        steps(Recipe(frozen_encoder=True)),
        literal,
        "images",
        4 * len(pictures),
    )
    compare(
        "LSC-GAN: penalties at every 4th step against at each",
        steps(dataclasses.replace(penalised, penalty_every=4)),
        steps(penalised),
        "images",
        4 * len(pictures),
    )


def training_step() -> None:
    """One step of the shipped LSC-VAE: the loop's choices against the defaults."""
    device = pick_device()
    design = LatentDesign.lsc(faces.ATTRIBUTES, coding="signed")
    pictures = torch.rand(64, 3, 64, 64, device=device)
    labels = faces.sample_labels(64, torch.Generator().manual_seed(0)).to(device)

    def step(
        layout: torch.memory_format, dtype: torch.dtype, flow: int = 0
    ) -> Callable[[], object]:
        torch.manual_seed(0)
        model = LSCVAE(design, flow=flow).to(device).to(memory_format=layout)
        optimizers = model.optimizers(1e-3)
        batch = pictures.contiguous(memory_format=layout)

        def once() -> None:
            with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
                model.training_step(batch, labels, optimizers)

        return once

    plain = step(torch.contiguous_format, torch.float32)
    last = step(torch.channels_last, torch.float32)
    half = step(torch.channels_last, torch.bfloat16)
    compare(f"training on {device.type}: channels last against first", last, plain, "images", 64)
    moving = step(torch.channels_last, torch.bfloat16, flow=16)
    compare(f"training on {device.type}: bfloat16 against float32", half, last, "images", 64)
    compare(f"training on {device.type}: painting against moving too", half, moving, "images", 64)


def batches() -> None:
    """Batches from bytes held in memory, against a DataLoader over the same bytes."""
    data = load("faces", count=4_096, size=64)
    order = torch.randperm(len(data))

    def ours() -> None:
        for rows in order.split(64):
            data.images[rows].float() / 255

    def loader() -> None:
        pairs = torch.utils.data.TensorDataset(data.images, data.labels)
        for images, _ in torch.utils.data.DataLoader(pairs, batch_size=64, shuffle=True):
            images.float() / 255

    compare("batches: rows of one tensor against a DataLoader", ours, loader, "images", len(data))
    floats = data.images.numel() * 4
    print(
        f"{'memory of 4,096 faces: bytes against float32':58} "
        f"{data.images.numel() / 2**20:9.0f} against {floats / 2**20:9.0f} MiB"
    )


def jpegs() -> list[bytes]:
    """64 drawn faces as JPEGs of CelebA's size."""
    drawn = faces.render(faces.sample_factors(64, torch.Generator().manual_seed(0)), 218)
    files = []
    for face in (drawn[:, :, :, 20:198] * 255).round().byte():
        file = io.BytesIO()
        Image.fromarray(face.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    return files


def packing_pictures() -> None:
    """Packing JPEGs of CelebA's size, against decoding alone; and how fast a pack opens."""
    files, count = jpegs(), 2_048
    names = [str(row) for row in range(count)]
    as_tensors = [torch.from_numpy(np.frombuffer(f, np.uint8).copy()) for f in files]

    def pillow(row: int) -> None:
        with Image.open(io.BytesIO(files[row % len(files)])) as picture:
            picture.load()  # all of its pixels: no draft mode

    def torchvision(row: int) -> None:
        decode_jpeg(as_tensors[row % len(files)], mode=ImageReadMode.RGB)

    def turbo(row: int) -> None:
        simplejpeg.decode_jpeg(files[row % len(files)])

    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2 * packing.cores()) as pool:
        packed = 0

        def fresh(workers: int | None) -> None:
            nonlocal packed
            packed += 1  # another stamp: nothing is there yet, and what was there is removed
            pictures = packing.Pictures(names, lambda row: files[row % len(files)], str(packed))
            packing.pack(pictures, Path(place), "p", 64, 138, workers)

        def decode(one: Callable[[int], None]) -> None:
            list(pool.map(one, range(count)))

        what, ours = "packing 178x218 JPEGs: all cores against", partial(fresh, None)
        compare(f"{what} one", ours, partial(fresh, 1), "images", count)
        for name, one in {
            "Pillow": pillow,
            "torchvision": torchvision,
            "simplejpeg": turbo,
        }.items():
            compare(f"{what} decoding, {name}", ours, partial(decode, one), "images", count)
        large = Path(place) / "large.npy"  # its bytes do not matter for opening it: it is a hole
        np.lib.format.open_memmap(large, "w+", np.uint8, (160_000, 3, 64, 64)).flush()
        opening = seconds(lambda: packing._mapped(large))
        print(f"{'opening a pack of 160,000 images':58} {opening:9.3f} s")


def waiting() -> None:
    """Training from a pack: the share of its seconds in which the loop had no batch."""
    device = pick_device()
    ways: list[tuple[str, Callable[..., bool]]] = [("as `train` chooses", feed.fits)]
    if device.type == "cuda":
        ways.append(("streamed", lambda images, device: False))
    files = jpegs()
    many = packing.Pictures([str(i) for i in range(2_048)], lambda row: files[row % 64], "")
    images = 2_048 if device.type == "cpu" else 200_000
    for way, fits in ways:
        with tempfile.TemporaryDirectory() as place, mock.patch.object(feed, "fits", fits):
            pack = packing.pack(many, Path(place), "p", 64, 138)
            labels = faces.sample_labels(len(pack), torch.Generator().manual_seed(0))
            data = LabelledImages(pack, labels, faces.ATTRIBUTES)
            settings = TrainingSettings(images=images, log_every=images)
            run = train(LSCVAE(LatentDesign.lsc(data.names)), data, settings, Path(place) / "run")
            print(
                f"{f'training from a pack on {device.type}, {way}':58} "
                f"{run.summary['images_per_second']:9,.0f} images/s, "
                f"{run.summary['waiting_for_data']:.2%} of the time waiting"
            )


if __name__ == "__main__":
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    renderer()
    training_step()
    gan_step()
    batches()
    packing_pictures()
    waiting()
