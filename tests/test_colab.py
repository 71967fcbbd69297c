"""Colab: what it preinstalls stays, notebooks need only a wheel, runs outlive their runtime."""

from __future__ import annotations

import ast
import contextlib
import importlib.metadata
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tomllib
import types
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
import torch
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import load_file
from test_repository import BOOK, NOTEBOOKS, ROOT, address, each_notebook, is_run, name_of, script

import lscgan
from lscgan.training import RunFolder, describe_runtime

colab = script(".ci/colab.py")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUNS = [path for path in NOTEBOOKS if is_run(path)]
each_run = pytest.mark.parametrize("path", RUNS, ids=name_of)


def code_of(path: Path) -> list[nbformat.NotebookNode]:
    cells = nbformat.read(path, as_version=4).cells
    return [cell for cell in cells if cell.cell_type == "code"]


# What Colab preinstalls


def installed(name: str) -> list[str]:
    """What a package that is installed here asks for, as its own metadata says."""
    return importlib.metadata.requires(name) or []


def brought(
    asked: Iterable[str], there: dict[str, str], requires: Callable[[str], list[str]] = installed
) -> tuple[set[str], list[str]]:
    """What pip would add to the packages that are there, and what it would change of them.

    It follows what a new package asks for in turn. What is there and fits is left alone by pip.
    """
    runtime = {"sys_platform": "linux", "python_version": "3.13", "platform_system": "Linux"}
    new: set[str] = set()
    changed: list[str] = []
    left = [("lscgan", line) for line in asked]
    while left:
        by, line = left.pop()
        requirement = Requirement(line)
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({**runtime, "extra": ""}):
            continue
        if name in there:
            if not requirement.specifier.contains(there[name], prereleases=True):
                changed.append(f"{by} asks for {requirement}, Colab has {there[name]}")
        elif name not in new:
            new.add(name)
            left += [(name, further) for further in requires(name)]
    return new, changed


def test_installing_the_library_changes_nothing_that_colab_has() -> None:
    there = colab.preinstalled()
    assert len(there) > 500
    assert brought(PROJECT["dependencies"], there) == ({"simplejpeg", "torch-fidelity"}, [])


def test_the_extra_for_data_changes_nothing_that_colab_has() -> None:
    extra = PROJECT["optional-dependencies"]["data"]
    assert brought(extra, colab.preinstalled()) == (set(), [])


def test_colabs_python_is_new_enough() -> None:
    said = re.search(r"^# Python (3\.\d+)", colab.PACKAGES.read_text(), re.M)
    assert said is not None
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(said[1])


def test_a_change_is_found_wherever_it_is_asked_for() -> None:
    metadata = {
        "added": ["deeper", "numpy<2", 'old; python_version < "3.12"', 'more; extra == "all"'],
        "deeper": ["Pillow>=12", "numpy>=1", "added"],
    }
    there = {"numpy": "2.1.3", "pillow": "11.3.0", "torch": "2.11.0"}
    new, changed = brought(["torch>=2.12", "numpy", "Added"], there, metadata.__getitem__)
    assert new == {"added", "deeper"}
    assert sorted(changed) == [
        "added asks for numpy<2, Colab has 2.1.3",
        "deeper asks for Pillow>=12, Colab has 11.3.0",
        "lscgan asks for torch>=2.12, Colab has 2.11.0",
    ]


# The notebooks, read


def test_every_notebook_starts_with_the_same_install_cell() -> None:
    first = {code_of(path)[0].source for path in NOTEBOOKS}
    assert len(first) == 1, "copy the first code cell from another chapter"
    (cell,) = first
    assert f'"git+https://github.com/{address.wanted(ROOT)}"' in cell
    assert '"LSCGAN_SOURCE"' in cell
    assert cell.count("%pip") == 1


@pytest.mark.parametrize("beside", ["nothing", "a folder", "a package"])
def test_the_install_cell_installs_unless_the_library_is_there(beside: str, tmp_path: Path) -> None:
    """A folder of runs named lscgan, or a clone of the repository, is no installation."""
    cell = code_of(NOTEBOOKS[0])[0].source
    program = re.sub(r"%pip install -q .*", 'print("installs", _source)', cell)
    if beside != "nothing":
        (tmp_path / "lscgan").mkdir()
    if beside == "a package":
        (tmp_path / "lscgan" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],  # without site-packages nothing is installed
        cwd=tmp_path,
        env={"LSCGAN_SOURCE": "here.whl"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ("" if beside == "a package" else "installs here.whl\n")


@each_notebook
def test_a_notebook_needs_nothing_above_its_folder(path: Path) -> None:
    """Colab opens a notebook alone: no picture, file or module beside it is there."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert "../" not in cell.source, f"{cell.id} reads from above the notebook"
            assert "__file__" not in cell.source, f"{cell.id} looks for its own file"
            assert not re.search(r"\bparents?\b\[|\.parent\b", cell.source), cell.id
        else:
            pictures = re.findall(r"!\[[^\]]*\]\(([^)\s]+)", cell.source)
            pictures += re.findall(r"<img[^>]*\bsrc=[\"']?([^\"'\s>]+)", cell.source)
            pictures += re.findall(r"\{(?:figure|image)\}\s*(\S+)", cell.source)
            beside = [p for p in pictures if not p.startswith(("https://", "data:", "attachment:"))]
            assert not beside, f"{cell.id} shows {beside}: let a cell or the library make it"


@each_run
def test_a_run_says_what_it_found_and_what_else_to_do(path: Path) -> None:
    cells = {cell.id.rpartition("-")[2]: cell.source for cell in code_of(path)}
    names = [cell.id.rpartition("-")[2] for cell in code_of(path)]
    assert names[:4] == ["install", "parameters", "check", "where"], "it says so before it works"
    (call,) = (
        node
        for node in ast.walk(ast.parse(cells["where"]))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "describe_runtime"
    )
    said = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    given = eval(said["instead"], {"lscgan": lscgan})
    assert isinstance(given, torch.nn.Module) or given, f"{said['instead']} gives nothing"
    # The text above says the same, for those who read and do not run.
    title = nbformat.read(path, as_version=4).cells[0].source
    takes = re.search(r"\*\*Takes\*\* (.*)", title)
    assert takes is not None
    for minutes in filter(None, (said["cpu_minutes"], said["gpu_minutes"])):
        in_words = "a minute" if minutes == 1 else "days" if minutes >= 2_880 else str(minutes)
        assert re.search(rf"\b({minutes}|{in_words})\b", takes[1]), f"{minutes}: {takes[0]}"
    assert ("GPU" in takes[1]) == (said["gpu_minutes"] is not None)
    assert said["instead"].split(")")[0] in title


@each_run
def test_a_run_says_how_to_keep_it_on_a_drive(path: Path) -> None:
    parameters = papermill.inspect_notebook(path)
    folder = Path(ast.literal_eval(parameters["folder"]["default"]))
    cells = nbformat.read(path, as_version=4).cells
    (settings,) = (cell.source for cell in cells if cell.source.startswith("## Settings"))
    assert f"`folder` to `/content/drive/MyDrive/lscgan/{folder.name}`" in settings


# What a run says of the machine


def runtime(folder: str = "runs/a", gpu_minutes: int | None = 3, device: str = "auto") -> str:
    return describe_runtime(
        device, "auto", folder, cpu_minutes=40, gpu_minutes=gpu_minutes, instead='load("a")'
    )


@pytest.fixture
def in_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)


OWN = "That is with this notebook's own settings."
INSTEAD = 'To go on without this run: load("a").'


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_the_minutes_on_both_and_the_way_around_are_said() -> None:
    found = "No GPU; 2 CPU threads, float32: about 40 minutes"
    assert runtime().splitlines() == [f"{found}, on a GPU under 3 minutes. {OWN}", INSTEAD]
    assert runtime(gpu_minutes=None).splitlines() == [f"{found}, no GPU is needed. {OWN}", INSTEAD]
    assert "under 1 minute. " in runtime(gpu_minutes=1)
    assert "under 2 days. " in runtime(gpu_minutes=3_000)
    with pytest.raises(ValueError, match="no GPU is visible here"):
        runtime(device="cuda")


@pytest.mark.usefixtures("gpu")
def test_with_a_gpu_its_name_is_said() -> None:
    found = "A GPU, Tesla T4, float32"
    assert runtime().splitlines() == [f"{found}: on a GPU under 3 minutes. {OWN}", INSTEAD]
    assert f"{found}: about 40 minutes at most. " in runtime(gpu_minutes=None)
    assert runtime(device="cpu").startswith("A GPU is here but not asked for; ")


@pytest.mark.usefixtures("no_gpu", "in_colab")
def test_in_colab_it_says_where_a_gpu_and_a_lasting_folder_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = runtime().splitlines()
    assert said[1] == "To get a GPU: Runtime > Change runtime type > T4 GPU, then run again."
    assert said[2].endswith('set folder = "/content/drive/MyDrive/lscgan/a".')
    assert "T4" not in runtime(gpu_minutes=None)
    with pytest.raises(FileNotFoundError, match="Google Drive, which is not mounted"):
        runtime("/content/drive/MyDrive/lscgan/a")
    monkeypatch.setattr("os.path.ismount", lambda path: str(path) == "/content/drive")
    assert "set folder" not in runtime("/content/drive/MyDrive/lscgan/a")


def test_a_run_folder_is_not_made_where_a_drive_should_be() -> None:
    with pytest.raises(FileNotFoundError, match="Google Drive, which is not mounted"):
        RunFolder("/content/drive/MyDrive/lscgan/a").write_json("config.json", {})
    assert not Path("/content/drive/MyDrive").exists()


# The notebooks, run with a wheel alone


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the repository, which stays as it is."""
    copy, made = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("dist")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "lscgan", copy / "lscgan", ignore=skipped)
    command = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [sys.executable, "-m", "pip", *command, "--wheel-dir", str(made), str(copy)],
        check=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    (path,) = made.iterdir()
    return path


def test_the_wheel_holds_every_file_of_the_library(wheel: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "lscgan"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    with zipfile.ZipFile(wheel) as opened:
        held = {name for name in opened.namelist() if not name.startswith("lscgan-")}
    assert held == {name for name in listed if name and (ROOT / name).is_file()}


@pytest.fixture
def runtime_folder(wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for a kernel ``colab`` that has our versions, but not the library.

    Its pip installs offline, what it installs goes into the folder ``installed``.
    """
    environment = tmp_path / "environment"
    command = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(command, check=True)
    (site,) = environment.glob("lib/python*/site-packages")
    # One line a path, as for any package: what is installed there as editable is not followed.
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (site / "ours.pth").write_text("\n".join(ours))
    installed = tmp_path / "installed"
    installed.mkdir()  # Python takes no notice of a folder that appears on its path later
    settings = {"PIP_TARGET": str(installed), "PYTHONPATH": str(installed)}
    settings |= {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1"}
    settings |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "LSCGAN_SOURCE": str(wheel)}
    monkeypatch.setenv("JUPYTER_PATH", "")  # what it becomes is taken back
    colab.write_kernel(tmp_path / "jupyter", environment / "bin" / "python", settings)
    folder = tmp_path / "content"
    folder.mkdir()
    return folder


def run(path: Path, cwd: Path, /, **parameters: Any) -> list[nbformat.NotebookNode]:
    out = cwd / "out.ipynb"
    common = {"kernel_name": "colab", "cwd": cwd, "progress_bar": False}
    done = papermill.execute_notebook(path, out, parameters=parameters, **common)
    return list(done.cells)


def test_a_chapter_and_a_run_install_the_wheel_and_need_nothing_else(runtime_folder: Path) -> None:
    probe = runtime_folder / "probe.ipynb"
    find = "import importlib.util\n\nimportlib.util.find_spec('lscgan').origin"
    nbformat.write(colab.notebook_of(find.replace(".origin", " is None")), probe)
    assert run(probe, runtime_folder)[-1].outputs[0].data["text/plain"] == "True"

    run(BOOK / "part1" / "01-faces.ipynb", runtime_folder)
    nbformat.write(colab.notebook_of(find), probe)
    origin = run(probe, runtime_folder)[-1].outputs[0].data["text/plain"]
    assert ast.literal_eval(origin) == str(
        runtime_folder.parent / "installed" / "lscgan" / "__init__.py"
    )

    before = (runtime_folder.parent / "installed" / "lscgan").stat().st_mtime_ns
    cells = run(BOOK / "runs" / "lsc_vae.ipynb", runtime_folder, **colab.SMALL)
    assert (runtime_folder.parent / "installed" / "lscgan").stat().st_mtime_ns == before
    assert RunFolder(runtime_folder / "run").figures["control"]["count"] == 200
    where = next(cell for cell in cells if cell.id.endswith("-where"))
    assert "about 40 minutes, on a GPU under 5" in where.outputs[0].text


def test_a_progress_bar_is_a_widget_without_complaint(tmp_path: Path) -> None:
    """With the ipywidgets that is installed, 8; .ci/colab.py tries Colab's 7.7."""
    notebook = colab.notebook_of(colab.PACK)
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert colab.faults_of_bar(notebook.cells[0]) == []


def test_the_environment_is_kept_while_nothing_that_made_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, there = tmp_path / "preinstalled.json", {"torch": "2.1", "numpy": "2.0"}
    assert colab.recorded(record, there) is None
    record.write_text(json.dumps(there))  # as it was written before it said what it was made from
    assert colab.recorded(record, there) is None
    record.write_text(json.dumps({"made_from": colab.made_from(), "packages": there}))
    assert colab.recorded(record, there) == there
    # What was recorded is what to compare with, and not what a notebook left there.
    assert colab.recorded(record, {**there, "new": "1"}) == there
    assert colab.recorded(record, {**there, "numpy": "2.1"}) is None
    assert colab.recorded(record, {"torch": "2.1"}) is None

    (tmp_path / "tests").mkdir()
    packages, project = tmp_path / "tests" / "colab-packages.txt", tmp_path / "pyproject.toml"
    shutil.copy(ROOT / "tests" / packages.name, packages)
    shutil.copy(ROOT / project.name, project)
    monkeypatch.setattr(colab, "ROOT", tmp_path)
    monkeypatch.setattr(colab, "PACKAGES", packages)
    assert colab.recorded(record, there) == there
    for file, old, new in (
        (packages, "\nnumpy==", "\nnumpy==9"),
        (project, "torch-fidelity", "torch-infidelity"),
    ):
        before = file.read_text()
        assert old in before
        file.write_text(before.replace(old, new))
        assert colab.recorded(record, there) is None
        file.write_text(before)
    assert colab.recorded(record, there) == there


def test_a_changed_and_a_missing_package_are_told() -> None:
    before, after = {"a": "1", "b": "1", "c": "1"}, {"a": "1", "b": "2", "d": "1"}
    assert colab.changes(before, after) == ["b: 1, now 2", "c: 1, now None"]


def test_a_bar_without_widgets_is_found_out() -> None:
    cell = nbformat.v4.new_code_cell("x")
    cell.outputs = [nbformat.v4.new_output("stream", name="stderr", text="IProgress not found")]
    assert colab.faults_of_bar(cell) == ["IProgress not found", "the progress bar is no widget"]


# Runs that outlive their runtime

JUDGE = BOOK / "runs" / "class_judge.ipynb"


def cells_of(path: Path, **parameters: Any) -> list[nbformat.NotebookNode]:
    """A notebook's cells, with parameters set as a person would: below those that are there."""
    cells = nbformat.read(path, as_version=4).cells
    (declared,) = (cell for cell in cells if cell.id.endswith("-parameters"))
    given = {"images": 6_400, "batch_size": 64, "width": 4, "device": "cpu", **parameters}
    declared.source += "".join(f"\n{name} = {value!r}" for name, value in given.items())
    return list(cells)


def client_of(cells: list[nbformat.NotebookNode], folder: Path) -> NotebookClient:
    notebook = nbformat.v4.new_notebook(cells=cells)
    return NotebookClient(notebook, resources={"metadata": {"path": str(folder)}})


def saving_often(cells: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """The cells, with a state at every step of the training: a tiny run would never save one."""
    (training,) = (cell for cell in cells if cell.id.endswith("-train"))
    short, often = "precision=precision,\n", "precision=precision,\n    save_every=0.0,\n"
    assert training.source.count(short) == 1
    training.source = training.source.replace(short, often)
    return cells


@contextlib.contextmanager
def in_the_middle_of(run: RunFolder, act: Callable[[], None]) -> Iterator[None]:
    """Do something, once, as soon as a run that starts in this block has written two lines."""
    over = threading.Event()

    def wait() -> None:
        while len(run.metrics()) < 2 and not over.is_set():
            time.sleep(0.01)
        if not over.is_set():
            act()

    waiting = threading.Thread(target=wait)
    waiting.start()
    try:
        yield
    finally:
        over.set()
        waiting.join()


def test_a_kernel_killed_in_the_middle_of_a_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    client_of(cells_of(JUDGE, folder="whole"), tmp_path).execute()

    client: Any = client_of(saving_often(cells_of(JUDGE, folder="killed")), tmp_path)
    with (
        in_the_middle_of(killed, lambda: os.kill(client.km.provisioner.pid, signal.SIGKILL)),
        pytest.raises(DeadKernelError),
    ):
        client.execute()
    assert killed.state.is_file()
    assert not killed.complete

    client_of(cells_of(JUDGE, folder="killed"), tmp_path).execute()
    weights = [load_file(run.weights) for run in (killed, whole)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert killed.figures["accuracy"] == whole.figures["accuracy"]
    lines = [[(m["images"], m["loss"]) for m in run.metrics()] for run in (killed, whole)]
    assert lines[0] == lines[1]


def test_an_interrupted_run_goes_on_in_the_same_kernel(tmp_path: Path) -> None:
    """As in Colab: the stop button, then *Run all*; the notebook's own variables still stand."""
    run = RunFolder(tmp_path / "run")
    first = saving_often(cells_of(JUDGE, folder="run"))
    first = first[: 1 + [cell.id for cell in first].index("class-judge-train")]
    first[-1].metadata["tags"] = ["raises-exception"]
    again = [nbformat.from_dict({**c, "id": f"{c.id}-2"}) for c in cells_of(JUDGE, folder="run")]
    client: Any = client_of([*first, *again], tmp_path)
    with in_the_middle_of(run, lambda: os.kill(client.km.provisioner.pid, signal.SIGINT)):
        client.execute()
    (stopped,) = (output for output in first[-1].outputs if output.output_type == "error")
    assert stopped.ename == "KeyboardInterrupt"
    assert re.fullmatch(r"stopped after \d+ images; run again to go on from there", stopped.evalue)
    assert run.summary["images"] == 6_400
    assert run.figures["accuracy"]
