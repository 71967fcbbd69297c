"""Trained models by name or path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from lscgan import weights
from lscgan.evaluation import FaceGate, FaceJudge, MouthJudge
from lscgan.models import LSCVAE, VAE
from lscgan.training import RunFolder

SHIPPED = Path(__file__).parent / "shipped"
_KINDS: dict[str, Any] = {c.__name__: c for c in (VAE, LSCVAE, FaceJudge, MouthJudge, FaceGate)}


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
    """
    path = _weights_path(name_or_path)
    saved = weights.read(path)
    if saved.kind not in _KINDS:
        raise weights.WeightsError(
            f"{path} holds a {saved.kind}, which this version of lscgan does not know: update it"
        )
    try:
        module: nn.Module = _KINDS[saved.kind].from_config(saved.config)
        module.load_state_dict(saved.tensors)
    except (RuntimeError, TypeError, KeyError) as error:
        raise weights.WeightsError(
            f"{path} does not fit this version's {saved.kind} ({error}): update lscgan, or train "
            "again"
        ) from error
    return module.eval()


def record(name: str) -> RunFolder:
    """The run behind a shipped model, or a shipped sweep: settings, metrics and figures.

    Raises:
        ValueError: there is no such record; the message lists the names.
    """
    names = sorted(path.parent.name for path in SHIPPED.glob("*/figures.json"))
    if name not in names:
        raise ValueError(f"there is no record of {name!r}: there are {', '.join(names)}")
    return RunFolder(SHIPPED / name)


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
