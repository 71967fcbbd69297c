"""Whether a run folder holds the run that is asked for."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from lscgan import __version__, weights
from lscgan.data import LabelledImages

LOOKED_AT = 64
"""Images that a checksum of data reads at most: a mapped file of any size costs milliseconds."""

_LENGTH = 16  # digits of a checksum that a configuration keeps
_IN_WORDS = {
    "data.checksum": "the images or labels are others",
    "model.start": "the weights to start from are others",
}
# When a state is saved, on what device and by which version do not change what the run is.
_FREE = {"training.save_every", "training.device", "lscgan"}

_starts: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()
"""The checksums that a module started runs from: training has changed it in place since."""


def checksum_of_data(data: LabelledImages) -> str:
    """A short checksum of all labels and of up to 64 images, evenly spaced."""
    images = data.images[:: math.ceil(len(data) / LOOKED_AT)]
    return weights.checksum({}, {"images": images, "labels": data.labels})[:_LENGTH]


def checksum_of_weights(module: nn.Module) -> str:
    """A short checksum of a module's weights and buffers."""
    return weights.checksum({}, module.state_dict())[:_LENGTH]


def check_fresh(module: nn.Module, config: dict[str, Any]) -> None:
    """Remember what a new run starts from, and warn where an earlier run left it so."""
    start = config["model"]["start"]
    if start not in _starts.setdefault(module, {start}):
        warnings.warn(
            "the new run's model was trained before in this session: it starts from where the "
            "earlier run ended; make the model anew for a fresh start",
            stacklevel=3,
        )
    _starts[module].add(start)


def check_same(path: Path, module: nn.Module, then: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse to go on with another run than the one that is asked for.

    What ``then`` lacks, as an earlier version wrote it, is not compared.

    Args:
        path: the run folder.
        module: the model to train.
        then: the folder's configuration.
        config: the configuration that is asked for.

    Raises:
        ValueError: the two are of different runs.
    """
    now = json.loads(json.dumps(config))
    start = _flat(then).get("model.start")
    if start in _starts.get(module, ()):
        now["model"]["start"] = start  # the same object: training has changed it since
    if _flat(then).get("model.kind") == now["model"]["kind"]:
        model = then["model"]
        if model["config"] != now["model"]["config"]:
            then = {**then, "model": {**model, "config": _written_anew(module, model["config"])}}
    flat_then, flat_now = _flat(then), _flat(now)
    changed = [
        name
        for name in sorted(flat_then.keys() | flat_now.keys())
        if flat_then.get(name) != flat_now.get(name) and name not in _FREE
    ]
    other = [
        f"{name} was {flat_then.get(name)!r} and is {flat_now.get(name)!r}"
        for name in changed
        if name not in _IN_WORDS
    ]
    if other:
        raise ValueError(
            f"{path} holds a run with other settings ({'; '.join(other[:3])}): use another "
            "folder, or resume=False to replace it"
        )
    other = [_IN_WORDS[name] for name in changed if name in flat_then]
    if other:
        raise ValueError(
            f"{path} holds another run ({'; '.join(other)}): use another folder, or resume=False "
            "to replace it"
        )
    _starts.setdefault(module, set()).add(now["model"]["start"])


def warn_of_version(path: Path, then: dict[str, Any]) -> None:
    """Warn where a run that goes on was started by another version of the library."""
    version = then.get("lscgan", __version__)
    if version != __version__:
        warnings.warn(
            f"the run in {path} was started by lscgan {version} and goes on with {__version__}: "
            "it may not end in the weights that either would give alone",
            stacklevel=3,
        )


def _written_anew(module: nn.Module, config: dict[str, Any]) -> Any:
    """A stored configuration as this version writes it, with defaults for keys that are new."""
    build: Any = type(module)
    try:
        with torch.random.fork_rng(devices=[]):
            return json.loads(json.dumps(build.from_config(config).config()))
    except (RuntimeError, TypeError, KeyError, ValueError, AttributeError):
        return config


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
