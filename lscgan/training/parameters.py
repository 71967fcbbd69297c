"""Checking a run notebook's parameters, which papermill only warns about."""

from __future__ import annotations

import contextlib
import difflib
import types
import typing
from collections.abc import Mapping, MutableMapping
from typing import Any

_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, set, type(None))
_OF_IPYTHON = {"In", "Out", "exit", "quit", "get_ipython", "open"}
_CHECKED = "_parameters_checked"


class ParameterError(ValueError):
    """A run notebook was given a parameter that it does not have, or of the wrong type."""


def parameters(namespace: MutableMapping[str, Any]) -> dict[str, Any]:
    """The checked parameters of a run notebook; call it with ``globals()``.

    The notebook's cell tagged ``parameters`` declares each one with a type, as in
    ``images: int = 200_000``. papermill puts a cell after it that assigns what the user passed
    with ``-p``. A name assigned there but not declared is a misspelling, so every plain value in
    the namespace must be declared. Call this before the notebook assigns anything else. When the
    notebook is run again in the same kernel its own variables stand there too, so names are looked
    at only until they were found right once.

    Returns:
        The declared names and their values; a whole number given for a float becomes one.

    Raises:
        ParameterError: an unknown name (the valid ones are listed), or a value of another type.
    """
    declared = _declared(namespace)
    given: set[str] = (
        set()
        if _CHECKED in namespace
        else {
            name
            for name, value in namespace.items()
            if isinstance(value, _PLAIN) and not name.startswith("_") and name not in _OF_IPYTHON
        }
    )
    for name in sorted(given - declared.keys()):
        close = difflib.get_close_matches(name, declared, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ParameterError(
            f"this notebook has no parameter {name!r}{hint}; it has {', '.join(declared)}"
        )
    checked = {name: _checked(name, kind, namespace[name]) for name, kind in declared.items()}
    namespace[_CHECKED] = True
    return checked


def _declared(namespace: Mapping[str, Any]) -> dict[str, Any]:
    if "__annotations__" in namespace:
        return dict(namespace["__annotations__"])
    if "__annotate__" in namespace:  # Python 3.14 keeps annotations behind a function
        return dict(namespace["__annotate__"](1))
    raise ParameterError("no parameters are declared: write each as `name: type = value`")


def _checked(name: str, kind: Any, value: Any) -> Any:
    options = typing.get_args(kind) if typing.get_origin(kind) in _UNIONS else (kind,)
    for option in options:
        with contextlib.suppress(TypeError):
            return _as(option, value)
    wanted = getattr(kind, "__name__", None) if typing.get_origin(kind) is None else str(kind)
    hint = f": pass a list as -y '{name}: [...]'" if wanted and wanted.startswith("list") else ""
    raise ParameterError(f"the parameter {name!r} takes {wanted}, not {value!r}{hint}")


_UNIONS = (typing.Union, types.UnionType)


def _as(kind: Any, value: Any) -> Any:
    """The value, if it is of that type; a whole number serves as a float, but True is no number."""
    if typing.get_origin(kind) is list and isinstance(value, list):
        (of,) = typing.get_args(kind)
        return [_as(of, item) for item in value]
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is kind:
        return value
    raise TypeError
