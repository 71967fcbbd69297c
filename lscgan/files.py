"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


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
