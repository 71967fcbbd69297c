"""Run the chapters again and store them clean; with no option, clean every notebook only.

A stored notebook holds what a person wrote, and the printed results of the cells tagged
``nbval-check-output``, which the tests compare. Everything else that a run leaves behind (pictures,
counters, times, the machine's versions) would change on every run and is taken out.

    python .ci/notebooks.py [--execute] [notebook ...]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "book" / "runs"
COURSEWORK = ROOT / "book" / "coursework"
CHECKED = "nbval-check-output"
KEPT_CELL_METADATA = ("tags", "mystnb", "lscgan")


def notebooks() -> list[Path]:
    """Every notebook of the book, runs included."""
    return sorted(
        path
        for path in (ROOT / "book").rglob("*.ipynb")
        if ".ipynb_checkpoints" not in path.parts and not path.name.endswith("out.ipynb")
    )


def metadata(is_run: bool) -> dict[str, Any]:
    """What a notebook says about itself: its kernel, and the machine that Colab should lend."""
    said: dict[str, Any] = {
        "colab": {"provenance": [], "toc_visible": True},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    if is_run:
        said["accelerator"] = "GPU"
        said["colab"]["gpuType"] = "T4"
    return said


def clean(notebook: nbformat.NotebookNode, is_run: bool) -> None:
    """Bring a notebook into its stored form, in place.

    Raises:
        ValueError: a checked cell shows something else than plain text, which no test can compare.
    """
    notebook.metadata = nbformat.from_dict(metadata(is_run))
    for cell in notebook.cells:
        kept = {name: cell.metadata[name] for name in KEPT_CELL_METADATA if name in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            continue
        checked = CHECKED in cell.metadata.get("tags", [])
        cell.execution_count = 1 if checked else None  # nbval compares with cells that were run
        cell.outputs = [plain(output, cell.id) for output in cell.outputs] if checked else []


def plain(output: nbformat.NotebookNode, cell_id: str) -> nbformat.NotebookNode:
    if output.output_type == "stream" and output.name == "stdout":
        return output
    if output.output_type == "execute_result" and set(output.data) == {"text/plain"}:
        output.execution_count = None
        output.metadata = nbformat.from_dict({})
        return output
    raise ValueError(
        f"cell {cell_id} is tagged {CHECKED} but shows more than plain text: print what should be"
        " checked, and move pictures, warnings and errors to another cell"
    )


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run every cell on the CPU in its own folder, as the book does."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,  # else a print arrives in pieces that differ from run to run
    ).execute()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execute", action="store_true", help="run the chapters, no others")
    parser.add_argument("notebooks", nargs="*", type=Path, help="all of them if none is named")
    arguments = parser.parse_args()
    for path in [path.resolve() for path in arguments.notebooks] or notebooks():
        is_run = path.is_relative_to(RUNS)
        notebook = nbformat.read(path, as_version=4)
        if arguments.execute and not is_run and not path.is_relative_to(COURSEWORK):
            print(f"running {path.relative_to(ROOT)}", flush=True)
            execute(notebook, path.parent)
        clean(notebook, is_run)
        nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
