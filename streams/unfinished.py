"""Files that take the place of another one when they are finished. A crash leaves an unfinished one behind.

An unfinished file has the name of the final one, the process and ``.tmp``, and is locked by its writer: the
kernel gives the lock up when the process ends, however it ends. So a start can tell which ones nobody writes.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import BinaryIO


def create(path: Path) -> BinaryIO:
    """Return a new file that shall take the place of ``path``, open for writing. ``.name`` is its own path.

    A process may write one at a time for each ``path``.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    file = path.with_name(f"{path.name}.{os.getpid()}.tmp").open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def remove_left(folder: Path, name: str = "*") -> int:
    """Remove the unfinished files of a folder that nobody writes; return how many.

    Parameters
    ----------
    name
        Name of the final file, or a pattern of names.
    """
    count = 0
    for path in folder.glob(f"{name}.*.tmp"):
        with contextlib.suppress(OSError), path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            count += 1
    return count
