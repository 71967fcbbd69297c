"""Draw the README's picture with the shipped model: four of its samples, at five smile labels."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torchvision.utils import make_grid

import lscgan
from lscgan.data import faces

PICTURE = Path(__file__).resolve().parents[1] / "book" / "_static" / "readme.png"
CLEAR_CASES = [2, 6, 8, 12]  # picked by eye among the first sixteen samples; the README says so


def main() -> None:
    model = lscgan.load("lsc-gan-faces")
    generator = torch.Generator().manual_seed(12)
    labels = faces.sample_labels(40, generator)  # (40, A)
    labels[:, model.design.names.index("Smiling")] = 0
    z = model.design.sample(labels, generator=generator)[CLEAR_CASES]  # (4, D)
    with torch.no_grad():
        doses = [
            model.decode(model.design.shift(z, Smiling=a)) for a in (-2.0, -1.0, 0.0, 1.0, 2.0)
        ]
    cells = torch.stack(doses, dim=1).flatten(0, 1).repeat_interleave(2, 2).repeat_interleave(2, 3)
    sheet = make_grid(cells, nrow=5, padding=4, pad_value=1.0)  # (3, H, W)
    pixels = (sheet * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
