"""Run notebooks as Colab does: in its own versions, the library from a wheel, the rest outside.

The environment `.colab/` holds what Colab preinstalls of the library's requirements, in the
versions that Colab has (tests/colab-packages.txt). Notebooks run in it unchanged, from a folder
outside of the repository; papermill stays outside too. The script fails when a notebook fails, when
its install cell changes a package that was there, or when a progress bar is not drawn by Colab's
old ipywidgets.

`make colab` builds the wheel and calls this. The first call takes about 5 minutes and 5 GB, and
needs the network; so does the first after a change of Colab's list or of the library's
requirements, or after a notebook that changed a package.

    python .ci/colab.py [--python python3.13] [notebook ...]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import papermill
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ROOT / "tests" / "colab-packages.txt"
ENVIRONMENT = ROOT / ".colab"
CHAPTER, RUN = "book/part1/01-faces.ipynb", "book/runs/lsc_vae.ipynb"
# A run notebook is tried at a size that takes seconds.
SMALL: dict[str, Any] = {"images": 640, "count": 256, "batch_size": 32, "width": 4}
SMALL |= {"samples": 200, "latent_size": 256, "folder": "run"}
PACK = """\
from pathlib import Path

from PIL import Image

from lscgan.data import load

for place in range(8):
    folder = Path("pictures") / "ab"[place % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (place, 0, 0)).save(folder / f"{place}.png")
load("folder", root="pictures", size=8)
"""
"""A cell whose progress bar is drawn at once."""


def preinstalled() -> dict[str, str]:
    """The version of every package that Colab preinstalls, by its canonical name."""
    lines = [line for line in PACKAGES.read_text().splitlines() if not line.startswith("#")]
    pins = (line.split("==") for line in lines if line)
    return {canonicalize_name(name): version for name, version in pins}


def write_kernel(folder: Path, python: Path, environment: dict[str, str]) -> None:
    """Make the kernel ``colab`` known to Jupyter: another Python, which sees our modules not.

    Args:
        folder: gets the kernel's description; made the place where this process looks for kernels.
        python: the interpreter to run.
        environment: variables of the kernel.
    """
    spec = folder / "kernels" / "colab" / "kernel.json"
    spec.parent.mkdir(parents=True, exist_ok=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": argv, "display_name": "Colab", "language": "python", "env": environment}
    spec.write_text(json.dumps(described))
    os.environ["JUPYTER_PATH"] = str(folder)


def notebook_of(*sources: str) -> nbformat.NotebookNode:
    """A notebook with these code cells."""
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return nbformat.v4.new_notebook(cells=cells)


def faults_of_bar(cell: nbformat.NotebookNode) -> list[str]:
    """What is wrong with how a cell drew its progress bar: a widget, and no word of complaint."""
    widget = "application/vnd.jupyter.widget-view+json"
    faults = [output.text for output in cell.outputs if output.get("name") == "stderr"]
    if not any(widget in output.get("data", {}) for output in cell.outputs):
        faults.append("the progress bar is no widget")
    return faults


def frozen(python: Path) -> dict[str, str]:
    """The packages of an environment and their versions."""
    command = [str(python), "-m", "pip", "list", "--format", "json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {canonicalize_name(package["name"]): package["version"] for package in listed}


def made_from() -> str:
    """A checksum of what the environment is made from: Colab's list and our requirements."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    content = json.dumps([preinstalled(), project["dependencies"]], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()


def recorded(record: Path, now: dict[str, str]) -> dict[str, str] | None:
    """What a record says was preinstalled; None where the environment must be made anew.

    That is when there is no record, when it was made from another list or other requirements, or
    when a notebook has changed a package of it.

    Args:
        record: the file.
        now: what the environment holds.
    """
    if not record.is_file():
        return None
    content = json.loads(record.read_text())
    if content.get("made_from") != made_from():
        return None
    packages: dict[str, str] = content["packages"]
    return None if changes(packages, now) else packages


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """What became of the packages that were there: those with another version, or none."""
    return [f"{n}: {v}, now {after.get(n)}" for n, v in before.items() if after.get(n) != v]


def make_environment(interpreter: str) -> tuple[Path, dict[str, str]]:
    """The environment's Python and what was preinstalled in it.

    It is made where it is missing or outdated, else freed of what notebooks installed.
    """
    python, record = ENVIRONMENT / "bin" / "python", ENVIRONMENT / "preinstalled.json"
    pip = [str(python), "-m", "pip"]
    now = frozen(python) if record.is_file() else {}
    before = recorded(record, now)
    if before is not None:
        added = now.keys() - before.keys()
        if added:
            subprocess.run([*pip, "uninstall", "-q", "-y", *sorted(added)], check=True)
        return python, before
    if shutil.which(interpreter) is None:
        sys.exit(f"{interpreter} was not found: install it, or name another with --python")
    colab = preinstalled()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [canonicalize_name(Requirement(line).name) for line in project["dependencies"]]
    wanted = [str(name) for name in (*asked, "ipykernel", "setuptools") if name in colab]
    print(f"installing into {ENVIRONMENT.name}: {', '.join(wanted)}", flush=True)
    subprocess.run([interpreter, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        # torch brings the CUDA libraries that it was built with; Colab's list has others besides.
        pins = [f"{name}=={v}" for name, v in colab.items() if not name.startswith("nvidia-")]
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("\n".join(pins))
        subprocess.run([*pip, "install", "-q", f"pip=={colab['pip']}"], check=True)
        subprocess.run([*pip, "install", "-q", "-c", str(constraints), *wanted], check=True)
    before = frozen(python)
    record.write_text(json.dumps({"made_from": made_from(), "packages": before}))
    return python, before


def wheel() -> Path:
    version = re.search(r'__version__ = "(.*)"', (ROOT / "lscgan" / "__init__.py").read_text())
    assert version is not None
    path = ROOT / "dist" / f"lscgan-{version[1]}-py3-none-any.whl"
    if not path.is_file():
        sys.exit(f"{path.relative_to(ROOT)} is missing: run `make wheel`")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--python", default="python3.13", help="Colab's is 3.13")
    parser.add_argument("notebooks", nargs="*", default=[CHAPTER, RUN], help="these two if none")
    arguments = parser.parse_args()
    source = wheel()
    python, before = make_environment(arguments.python)
    print("  ".join(f"{name} {before[name]}" for name in ("torch", "numpy", "ipywidgets")))
    os.environ.pop("PYTHONPATH", None)  # the library comes from the wheel alone
    write_kernel(ENVIRONMENT / "jupyter", python, {"LSCGAN_SOURCE": str(source)})
    with tempfile.TemporaryDirectory() as folder:
        common: dict[str, Any] = {"kernel_name": "colab", "cwd": folder, "progress_bar": False}
        out = Path(folder) / "out.ipynb"
        for name in arguments.notebooks:
            print(f"running {name}", flush=True)
            path = Path(name).resolve()
            small = SMALL if path == ROOT / RUN else {}
            papermill.execute_notebook(path, out, parameters=small, **common)
        bar = Path(folder) / "bar.ipynb"
        nbformat.write(notebook_of(PACK), bar)
        cell = papermill.execute_notebook(bar, out, **common).cells[-1]
    after = frozen(python)
    added = sorted(f"{name} {after[name]}" for name in after.keys() - before.keys())
    changed = changes(before, after)
    print(f"added: {', '.join(added)}")
    print(f"changed: {', '.join(changed) or 'nothing'}")
    faults = faults_of_bar(cell)
    print(f"progress bar: {'; '.join(faults) or 'a widget'}")
    if changed or faults:
        sys.exit(1)


if __name__ == "__main__":
    main()
