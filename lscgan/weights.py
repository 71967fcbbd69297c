"""A trained module as one safetensors file: weights, configuration and checksum, no pickle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lscgan.files import replacing

_KEY = "lscgan"


class WeightsError(ValueError):
    """A weights file that cannot be trusted: the message says why."""


class Configured(Protocol):
    """A module that can be built again from plain numbers and strings."""

    def config(self) -> dict[str, Any]: ...

    def state_dict(self) -> dict[str, Tensor]: ...


@dataclass(frozen=True)
class Weights:
    """What a weights file holds: the class's name, how to build it, and its tensors."""

    kind: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]


def save(module: Configured, path: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write a module's weights and configuration to ``path``, replacing it in one step.

    Args:
        dtype: how floating-point tensors are stored; ``torch.float16`` halves a shipped file.

    Raises:
        ValueError: a number is too large for ``dtype``.
        OSError: ``path`` cannot be written; what was there is kept.
    """
    tensors = {}
    for name, tensor in module.state_dict().items():
        stored = tensor.to(dtype) if tensor.is_floating_point() else tensor
        if bool((stored.isinf() & ~tensor.isinf()).any()):
            raise ValueError(f"{name} holds a number too large for {dtype}: use torch.float32")
        # clone: safetensors refuses tensors that share memory
        tensors[name] = stored.detach().cpu().contiguous().clone()
    about = {"kind": type(module).__name__, "config": module.config()}
    header = json.dumps({**about, "sha256": checksum(about, tensors)}, sort_keys=True)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: header})


def read(path: str | Path) -> Weights:
    """Read a weights file and check it against its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        WeightsError: it is truncated, altered, or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file {path}")
    try:
        with safe_open(path, framework="pt") as opened:
            header = (opened.metadata() or {}).get(_KEY)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is truncated or no safetensors file ({error}): copy or download it again"
        ) from error
    if header is None:
        raise WeightsError(f"{path} holds tensors but no lscgan configuration: not one of ours")
    try:
        about = json.loads(header)
        intact = about.pop("sha256", None) == checksum(about, tensors)
    except (ValueError, AttributeError, TypeError):  # the configuration itself was altered
        intact = False
    if not intact:
        raise WeightsError(
            f"{path} was altered: its checksum does not match; copy or download it again"
        )
    floats = {n: t.float() if t.is_floating_point() else t for n, t in tensors.items()}
    return Weights(about["kind"], about["config"], floats)


def checksum(about: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """A SHA-256 of a configuration and of tensors on any device, in the order of their names."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
