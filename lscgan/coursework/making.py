"""Run masters; write student notebooks, and a teacher's pack where it is asked for."""

from __future__ import annotations

import base64
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from lscgan.coursework.assignment import (
    KERNEL,
    Cell,
    cells_of,
    expected_id,
    fingerprint,
    for_students,
    pack,
    read_master,
    read_notebook,
)
from lscgan.coursework.judge import named_lines
from lscgan.files import replacing

WIDEST = 640  # pixels of an expected picture
COLOURS = 64
SECONDS = 300


@dataclass(frozen=True)
class Made:
    """What a master gives: the student's notebook and the teacher's pack, as texts of files."""

    name: str
    student: str
    pack: str
    solution: str


def student_notebook(master: Path) -> Path:
    """Where a master's student notebook stands: beside the folder of masters."""
    return master.parent.parent / master.name


def make(master: Path) -> Made:
    """Run a master and derive everything from it.

    Raises:
        ValueError: the master breaks a rule, fails, or has a check that prints nothing to compare.
    """
    cells = read_master(master)
    notebook = _executed(master)
    outputs = {cell.id: cell.get("outputs", []) for cell in notebook.cells}
    references = {}
    for cell in cells:
        if cell.role in ("check", "hidden"):
            references[cell.id] = _printed(outputs[cell.id])
            _refuse_reference(master, cell, references[cell.id])
    expected = {
        cell.id: _expected(cell, outputs[cell.id])
        for cell in cells
        if cell.metadata.get("expected")
    }
    return Made(
        master.stem,
        notebook_text(for_students(cells, expected)),
        pack(master.stem, cells, references) + "\n",
        nbformat.writes(notebook) + "\n",
    )


def _executed(master: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(master, as_version=4)
    with tempfile.TemporaryDirectory(prefix="lscgan-") as folder:
        client = NotebookClient(
            notebook,
            timeout=SECONDS,
            startup_timeout=SECONDS,
            kernel_name="python3",
            resources={"metadata": {"path": folder}},
            coalesce_streams=True,
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise ValueError(f"{master.name} fails: {error.ename}: {error.evalue}") from error
    return notebook


def _printed(outputs: list[Any]) -> str:
    return "".join(o.text for o in outputs if o.output_type == "stream" and o.name == "stdout")


def _refuse_reference(master: Path, cell: Cell, printed: str) -> None:
    here, lines = f"{master.name}, cell {cell.id!r}", named_lines(printed)
    if not lines:
        raise ValueError(f"{here}: a check prints lines `name = value`, and this one prints none")
    if twice := [name for name, values in lines.items() if len(values) > 1]:
        raise ValueError(f"{here}: it prints {twice[0]!r} more than once")
    if open_ := [name for name, (value,) in lines.items() if value.count("[") != value.count("]")]:
        raise ValueError(f"{here}: print {open_[0]!r} on one line, with .tolist() for example")
    tolerance = cell.metadata.get("tolerance", {})
    named = set(tolerance if isinstance(tolerance, dict) else ()) | set(
        cell.metadata.get("advice", {})
    )
    if unknown := named - set(lines) - {"*"}:
        raise ValueError(
            f"{here}: tolerance or advice for {sorted(unknown)}, which it never prints"
        )


def _expected(cell: Cell, outputs: list[Any]) -> str:
    """Markdown that shows what the master's cell shows: text, and pictures within the file."""
    parts = ["**What you should see**"]
    if printed := _printed(outputs).rstrip():
        parts.append(f"```text\n{printed}\n```")
    for output in outputs:
        if picture := output.get("data", {}).get("image/png"):
            if not cell.metadata.get("alt"):
                raise ValueError(f"cell {cell.id!r} draws: write what the picture shows as `alt`")
            alt = cell.metadata["alt"].replace("[", "(").replace("]", ")")
            parts.append(f"![{alt}](data:image/png;base64,{_small(picture)})")
    if len(parts) == 1:
        raise ValueError(f"cell {cell.id!r} is marked `expected` and shows nothing")
    return "\n\n".join(parts)


def _small(picture: str) -> str:
    """A PNG of few colours and bytes, in base 64."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        image.thumbnail((WIDEST, WIDEST))
        few = image.convert("RGB").quantize(COLOURS)
    written = io.BytesIO()
    few.save(written, "png", optimize=True)
    return base64.b64encode(written.getvalue()).decode()


def notebook_text(cells: list[Cell]) -> str:
    """A clean notebook file: ids, tags and roles of cells, and nothing of a run."""
    notebook = nbformat.v4.new_notebook(metadata=KERNEL)
    for cell in cells:
        metadata: dict[str, Any] = {"lscgan": cell.metadata}
        if cell.tags:
            metadata["tags"] = list(cell.tags)
        new = nbformat.v4.new_code_cell if cell.code else nbformat.v4.new_markdown_cell
        notebook.cells.append(new(cell.source, id=cell.id, metadata=metadata))
    return str(nbformat.writes(notebook)) + "\n"


def write(made: Made, student: Path, pack_folder: Path | None) -> None:
    """Write the student notebook, and the pack where a folder is named."""
    files = {student: made.student}
    if pack_folder is not None:
        pack_folder.mkdir(parents=True, exist_ok=True)
        files[pack_folder / f"{made.name}.json"] = made.pack
        files[pack_folder / f"{made.name}.solution.ipynb"] = made.solution
    for path, text in files.items():
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def drift(master: Path) -> str | None:
    """Says in a sentence that a student notebook is not what its master gives; else None.

    The master is not run: the expected output is taken to be right where the student notebook
    was made from this very master.
    """
    student = student_notebook(master)
    again = f"run `python -m lscgan.coursework make {master.stem}`"
    if not student.is_file():
        return f"{student.name} is missing: {again}"
    text = student.read_text(encoding="utf-8")
    try:
        shown = {cell.id: cell.source for cell in cells_of(read_notebook(student))}
    except ValueError:
        return f"{student.name} is no notebook: {again}"
    cells = read_master(master)
    expected = {cell.id: shown.get(expected_id(cell), "") for cell in cells}
    if notebook_text(for_students(cells, expected)) == text:
        return None
    if fingerprint(cells) not in text:
        return f"{student.name} is older than its master: {again}"
    return f"{student.name} was changed by hand: change its master, and {again}"


def drifts(masters: list[Path], folder: Path) -> list[str]:
    """A sentence for each student notebook that is not what its master gives, or has none.

    Args:
        masters: to compare.
        folder: of the masters; student notebooks stand beside it.
    """
    found = [said for said in map(drift, masters) if said]
    known = {path.name for path in folder.glob("*.ipynb")}
    for student in sorted(folder.parent.glob("*.ipynb")):
        if student.name not in known:
            found.append(f"{student.name} has no master: remove it")
    return found


def masters(folder: Path, names: list[str]) -> list[Path]:
    """The masters of a folder, or those named, with or without ``.ipynb``.

    Raises:
        ValueError: there is none.
    """
    found = sorted(folder.glob("*.ipynb"))
    if names:
        found = [folder / f"{Path(name).stem}.ipynb" for name in names]
    for path in found:
        if not path.is_file():
            known = ", ".join(sorted(other.stem for other in folder.glob("*.ipynb")))
            raise ValueError(f"{folder} has no master {path.stem!r}; it has: {known or 'none'}")
    if not found:
        raise ValueError(f"{folder} holds no master")
    return found
