"""Parameters of a run notebook, as its cells would set them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lscgan.training import ParameterError, parameters

CELL = """
images: int = 200_000
learning_rate: float = 2e-3
data: str = "faces"
resume: bool = True
folder: str | None = None
sizes: list[int] = [32, 64]
"""
DEFAULTS = {
    "images": 200_000,
    "learning_rate": 2e-3,
    "data": "faces",
    "resume": True,
    "folder": None,
    "sizes": [32, 64],
}


def notebook(injected: str = "", first: str = CELL) -> dict[str, Any]:
    """The namespace after a notebook's first cells: imports, parameters, papermill's own cell."""
    namespace: dict[str, Any] = {
        "__name__": "__main__",
        "__doc__": "Automatically created module for IPython interactive environment",
        "In": ["", first],
        "Out": {},
        "_i1": first,
        "_": "",
        "_dh": ["/"],
    }
    exec("import math\nfrom pathlib import Path\ndef helper(): pass", namespace)
    for cell in (first, injected):
        # this file's own "from __future__ import annotations" does not reach into a notebook
        exec(compile(cell, "<cell>", "exec", dont_inherit=True), namespace)
    return namespace


def test_what_is_not_given_keeps_its_default() -> None:
    assert parameters(notebook()) == DEFAULTS


@pytest.mark.parametrize(
    ("injected", "name", "value"),
    [
        ("images = 640", "images", 640),
        ("learning_rate = 0.5", "learning_rate", 0.5),
        ("learning_rate = 1", "learning_rate", 1.0),
        ('data = "digits"', "data", "digits"),
        ("resume = False", "resume", False),
        ('folder = "runs/a"', "folder", "runs/a"),
        ("folder = None", "folder", None),
        ("sizes = [16]", "sizes", [16]),
        ("sizes = []", "sizes", []),
    ],
)
def test_what_papermill_assigns_is_taken(injected: str, name: str, value: object) -> None:
    given = parameters(notebook(injected))
    assert given == {**DEFAULTS, name: value}
    assert type(given[name]) is type(value)


def test_a_misspelt_parameter_stops_at_once_and_names_the_valid_ones() -> None:
    with pytest.raises(ParameterError) as refusal:
        parameters(notebook("image = 640"))
    assert str(refusal.value) == (
        "this notebook has no parameter 'image' (did you mean images?); it has "
        "images, learning_rate, data, resume, folder, sizes"
    )


def test_a_parameter_that_resembles_none_gets_no_guess() -> None:
    with pytest.raises(ParameterError, match=re.escape("no parameter 'xyzzy'; it has images")):
        parameters(notebook("xyzzy = None"))


@pytest.mark.parametrize(
    ("injected", "sentence"),
    [
        ("images = 640.0", "the parameter 'images' takes int, not 640.0"),
        ("images = True", "the parameter 'images' takes int, not True"),
        ('images = "640"', "the parameter 'images' takes int, not '640'"),
        ("images = None", "the parameter 'images' takes int, not None"),
        ('learning_rate = "2e-3"', "the parameter 'learning_rate' takes float, not '2e-3'"),
        ("learning_rate = True", "the parameter 'learning_rate' takes float, not True"),
        ("data = 3", "the parameter 'data' takes str, not 3"),
        ("resume = 1", "the parameter 'resume' takes bool, not 1"),
        ('resume = "False"', "the parameter 'resume' takes bool, not 'False'"),
        ("folder = 3", "the parameter 'folder' takes str | None, not 3"),
        ("sizes = 16", "the parameter 'sizes' takes list[int], not 16"),
        ("sizes = [16, 1.5]", "the parameter 'sizes' takes list[int], not [16, 1.5]"),
        ("sizes = [True]", "the parameter 'sizes' takes list[int], not [True]"),
    ],
)
def test_a_parameter_of_another_type_is_refused(injected: str, sentence: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(sentence)):
        parameters(notebook(injected))


def test_whole_numbers_count_as_floats_in_a_list_too() -> None:
    given = parameters(notebook("amounts = [-1, 0.5]", "amounts: list[float] = [0.0]"))
    assert given == {"amounts": [-1.0, 0.5]}
    assert [type(amount) for amount in given["amounts"]] == [float, float]


def test_a_notebook_that_runs_again_in_the_same_kernel_keeps_its_own_variables() -> None:
    namespace = notebook("images = 640")
    assert parameters(namespace)["images"] == 640
    exec("rows, lowest, wanted = [1], 0.5, {}", namespace)  # what later cells assign
    exec("images = 320", namespace)
    assert parameters(namespace) == {**DEFAULTS, "images": 320}
    exec("images = None", namespace)
    with pytest.raises(ParameterError, match="'images' takes int"):
        parameters(namespace)


def test_a_name_that_was_refused_is_refused_again() -> None:
    namespace = notebook("image = 640")
    for _ in range(2):
        with pytest.raises(ParameterError, match="no parameter 'image'"):
            parameters(namespace)


def test_a_notebook_that_declares_nothing_is_told_how() -> None:
    with pytest.raises(ParameterError, match="write each as `name: type = value`"):
        parameters({"images": 3})


def test_annotations_behind_a_function_are_read_as_well() -> None:
    """Python 3.14 has no ``__annotations__`` in a module's namespace until it is asked."""
    namespace = {"images": 3, "__annotate__": lambda form: {"images": int}}
    assert parameters(namespace) == {"images": 3}
