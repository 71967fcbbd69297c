"""Trained models by name or path."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lscgan import weights
from lscgan.evaluation import (
    AttributeJudge,
    ClassJudge,
    FaceGate,
    FaceJudge,
    Judges,
    MouthJudge,
)
from lscgan.models import GAN, LSCGAN, LSCVAE, VAE, ConditionalVAE, InfoGAN, LabelsOnly, SSInfoGAN
from lscgan.training import RunFolder

SHIPPED = Path(__file__).parent / "shipped"
_KINDS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        *(VAE, LSCVAE, ConditionalVAE, GAN, LSCGAN, InfoGAN, SSInfoGAN, LabelsOnly),
        *(AttributeJudge, FaceJudge, MouthJudge, FaceGate, ClassJudge),
    )
}


def available() -> list[str]:
    """The names of the models that come with the library."""
    return sorted(path.parent.name for path in SHIPPED.glob("*/model.safetensors"))


def load(name_or_path: str | Path) -> Any:
    """A trained model in eval mode, on the CPU.

    Args:
        name_or_path: a shipped model's name (:func:`available`), a run folder, or a
            ``.safetensors`` file.

    Raises:
        ValueError: there is no such name or path; the message lists the names.
        lscgan.weights.WeightsError: the file is truncated or altered, or of an unknown kind.

    Warns:
        UserWarning: the run of these weights is not finished.
    """
    path = _weights_path(name_or_path)
    run = RunFolder(path.parent)
    if path == run.weights and run.state.is_file() and not run.complete:
        warnings.warn(
            f"the training in {run.path} is not finished: these are the weights that it saved last",
            stacklevel=2,
        )
    saved = weights.read(path)
    if saved.kind not in _KINDS:
        raise weights.WeightsError(
            f"{path} holds a {saved.kind}, which this version of lscgan does not know: update it"
        )
    try:
        module: nn.Module = _KINDS[saved.kind].from_config(saved.config)
        module.load_state_dict(saved.tensors)
    except (RuntimeError, TypeError, KeyError, ValueError) as error:
        raise weights.WeightsError(
            f"{path} does not fit this version's {saved.kind} ({error}): update lscgan, or train "
            "again"
        ) from error
    return module.eval()


def judges(device: str | torch.device = "cpu") -> Judges:
    """The shipped judges of faces: face judge, mouth judge and gate.

    Args:
        device: where they look; pictures may be elsewhere.
    """
    names = ("face-judge", "mouth-judge", "face-gate")
    face, mouth, gate = (load(name).to(device) for name in names)
    return Judges(face, mouth, gate)


def record(name: str) -> RunFolder:
    """The run behind a shipped model, or a shipped sweep: settings, metrics and figures.

    Raises:
        ValueError: there is no such record; the message lists the names.
    """
    names = sorted(path.parent.name for path in SHIPPED.glob("*/figures.json"))
    if name not in names:
        raise ValueError(f"there is no record of {name!r}: there are {', '.join(names)}")
    return RunFolder(SHIPPED / name)


def ship(run: RunFolder, name: str, shipped: Path = SHIPPED) -> Path:
    """Put a finished run among the shipped models: its record, and its weights in half precision.

    Measure the shipped model afterwards, not the run: rounding is part of it.

    A judge that was fitted in one piece says ``"fitted"`` in its ``config.json``; it has no
    training to finish, and no summary of one.

    Returns:
        The folder of the shipped model.

    Raises:
        FileNotFoundError: the run has no configuration, weights or figures yet, or its training is
            not finished.
        ValueError: one of its files is damaged.
    """
    if not run.figures:
        raise FileNotFoundError(f"{run.path} has no figures.json: measure the run before shipping")
    if "fitted" not in run.config and not run.complete:
        raise FileNotFoundError(
            f"{run.path} has no summary.json: train the run to its end before shipping"
        )
    if not run.weights.is_file():
        raise FileNotFoundError(f"{run.path} has no {run.weights.name}: there is nothing to ship")
    model = load(run.path)
    folder = shipped / name
    folder.mkdir(parents=True, exist_ok=True)
    weights.save(model, folder / "model.safetensors", torch.float16)
    for file in ("config.json", "summary.json", "figures.json", "metrics.jsonl"):
        if (run.path / file).is_file():
            shutil.copyfile(run.path / file, folder / file)
    return folder


def _weights_path(name_or_path: str | Path) -> Path:
    if isinstance(name_or_path, str) and name_or_path in available():
        return SHIPPED / name_or_path / "model.safetensors"
    path = Path(name_or_path)
    if path.is_dir() and (path / "model.safetensors").is_file():
        return path / "model.safetensors"
    if path.is_file():
        return path
    raise ValueError(
        f"there is no model {str(name_or_path)!r}: give a run folder, a weights file or one of "
        f"{', '.join(available()) or '(none shipped)'}"
    )
