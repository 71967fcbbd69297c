"""The run folder: the one thing that training writes and everything else reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lscgan.files import replacing, require_mounted


class RunFolder:
    """A folder that holds one training run.

    ========================  ===============================================================
    ``config.json``           the model, the data, the training settings, the library's version
    ``metrics.jsonl``         one line every so many images: the means of the step's terms
    ``model.safetensors``     the weights to use (averaged, where averaging is on)
    ``state.safetensors``     all that resuming needs; removed when the run is complete
    ``runtime.json``          which runtime trains here; removed when the run is complete
    ``summary.json``          seconds, images a second, device, versions, revision, seed
    ``figures.json``          what was measured on the trained model
    ``samples.png``           a sheet of samples
    ========================  ===============================================================
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"RunFolder({str(self.path)!r})"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.safetensors"

    @property
    def samples(self) -> Path:
        return self.path / "samples.png"

    @property
    def complete(self) -> bool:
        """Whether the run reached its last image."""
        return (self.path / "summary.json").is_file()

    @property
    def config(self) -> dict[str, Any]:
        """``config.json``. Raises FileNotFoundError where there is none."""
        return self.read_json("config.json")

    @property
    def summary(self) -> dict[str, Any]:
        """``summary.json``. Raises FileNotFoundError before the run is complete."""
        return self.read_json("summary.json")

    @property
    def figures(self) -> dict[str, Any]:
        """``figures.json``: what :meth:`record_figures` wrote; empty before that."""
        return self.read_json("figures.json") if (self.path / "figures.json").is_file() else {}

    def metrics(self) -> list[dict[str, float]]:
        """The lines of ``metrics.jsonl``, each with ``images`` and ``seconds``; none before."""
        file = self.path / "metrics.jsonl"
        if not file.is_file():
            return []
        return [json.loads(line) for line in file.read_text().splitlines()]

    def read_json(self, name: str) -> dict[str, Any]:
        """One of the folder's JSON files.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is empty or damaged.
        """
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(f"{self.path} has no {name}: it is no run folder, or not yet")
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ValueError(
                f"{file} is empty or damaged: on Drive wait a minute and try again; else put back "
                "a good copy, or start the run afresh with resume=False"
            )
        return content

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Replace one of the folder's JSON files in one step; the folder is made if missing.

        Raises:
            FileNotFoundError: the folder lies on a Google Drive that is not mounted.
            OSError: the folder cannot be written.
        """
        require_mounted(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        with replacing(self.path / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")

    def write_metrics(self, lines: list[dict[str, float]]) -> None:
        """Replace ``metrics.jsonl`` in one step."""
        with replacing(self.path / "metrics.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def record_figures(self, figures: dict[str, Any]) -> None:
        """Keep what was measured on the trained model, beside what was measured before."""
        self.write_json("figures.json", {**self.figures, **figures})
