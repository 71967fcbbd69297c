"""Whose a run folder is while a run writes it, and what must be there to go on with it."""

from __future__ import annotations

import contextlib
import time
import uuid

from lscgan.training.run_folder import RunFolder

STALE = 3600.0
"""Seconds after which nobody is still writing a temporary file."""

_WRITTEN = (
    *("state.safetensors", "summary.json", "metrics.jsonl", "model.safetensors"),
    *("figures.json", "samples.png"),
)


class Claim:
    """A runtime's claim on a run folder: the last one that was made holds."""

    def __init__(self, run: RunFolder):
        self.run, self.token = run, uuid.uuid4().hex
        run.write_json("runtime.json", {"token": self.token})

    def check(self) -> None:
        """Refuse to write where another runtime has taken the run over, or has finished it.

        Raises:
            RuntimeError: the folder is another runtime's.
        """
        try:
            token = self.run.read_json("runtime.json").get("token")
        except (OSError, ValueError):
            token = self.token  # a file that cannot be read is no other's claim
        if token != self.token or self.run.complete:
            raise RuntimeError(
                f"another runtime trains in {self.run.path}, or has finished there: this one "
                "stops and leaves its files alone; use another folder to train in both"
            )

    def release(self) -> None:
        """Give the folder back."""
        (self.run.path / "runtime.json").unlink(missing_ok=True)


def check_listed(run: RunFolder) -> None:
    """Refuse a folder that shows a part of a run only: Drive lists some files late.

    Raises:
        FileNotFoundError: there are files of a run, but not those to go on with it.
    """
    missing = None
    if not (run.path / "config.json").is_file():
        missing = "config.json"
    elif not run.complete and not run.state.is_file():
        missing = run.state.name
    there = [name for name in _WRITTEN if (run.path / name).is_file()]
    if missing and there:
        raise FileNotFoundError(
            f"{run.path} has {there[0]} but no {missing}: Drive may not have listed it yet, so "
            "wait a minute and run again, or set resume=False to start afresh"
        )


def clear(run: RunFolder) -> None:
    """Remove what an earlier run wrote; its ``config.json`` is to be replaced."""
    for name in _WRITTEN:
        (run.path / name).unlink(missing_ok=True)


def sweep(run: RunFolder, older: float = 0.0) -> None:
    """Remove the temporary files that a kill left half written: ours, and safetensors' own.

    Args:
        run: the folder.
        older: seconds since one was written to; another runtime may be writing a young one.
    """
    for name in (".*.safetensors*", ".*.json*", ".*.png*", ".tmp??????"):
        for half in run.path.glob(name):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - half.stat().st_mtime >= older:
                    half.unlink()
