"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

DRIVE = Path("/content/drive")
"""Where Colab mounts Google Drive."""


def on_drive(path: str | Path) -> bool:
    """Whether a path, a relative one too, lies where Colab mounts Google Drive."""
    return Path(os.path.abspath(path)).is_relative_to(DRIVE)


def require_mounted(path: str | Path) -> None:
    """Refuse a path on Colab's Google Drive while it is not mounted.

    A folder made there before would be lost with the runtime, and would keep Drive from being
    mounted later.

    Raises:
        FileNotFoundError: the path lies on a Drive that is not mounted; it says how to mount it.
    """
    if on_drive(path) and not os.path.ismount(DRIVE):
        raise FileNotFoundError(
            f"{path} lies on Google Drive, which is not mounted: run `from google.colab import "
            f"drive; drive.mount('{DRIVE}')` and then this cell again, or name another folder"
        )


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Write a file whole or not at all: yields a temporary path beside ``path``.

    When the block ends well the temporary file is flushed to disk and takes ``path``'s place in
    one step. When it fails, a full disk included, it is removed and ``path`` stays as it was.

    Raises:
        OSError: the folder cannot be written, or the disk is full; the message names ``path``.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error.strerror}; what was there is kept") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # safetensors has its own word for a full disk
        reason = getattr(error, "strerror", None) or error
        raise OSError(f"cannot write {path}: {reason}; what was there is kept") from error
    finally:
        temporary.unlink(missing_ok=True)
