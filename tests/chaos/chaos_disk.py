"""A small disk for the snapshots and the Parquet log of a chaos run, filled and freed again.

It is a tmpfs in a mount namespace of this run: it goes away with the last process. Making one needs root, or
a kernel that gives users namespaces of their own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: Set in a process that has a mount namespace of its own.
INSIDE = "CHAOS_OWN_MOUNTS"
#: What workers need, and half as much again: only a planned disturbance fills it.
SIZE = "256m"
_CHUNK = bytes(1 << 20)
_UNSHARE = (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"])


def enter_own_mounts() -> None:
    """Start this program again in a mount namespace of its own, if that is possible; else return."""
    if INSIDE in os.environ or shutil.which("unshare") is None:
        return
    for command in _UNSHARE:
        with tempfile.TemporaryDirectory(prefix="headrace-chaos-") as folder:
            tried = subprocess.run([*command, *_mount(Path(folder))], capture_output=True, check=False)
        if tried.returncode == 0:
            os.environ[INSIDE] = "1"
            os.execvp(command[0], [*command, sys.executable, *sys.argv])  # noqa: S606 - no shell is meant


def _mount(folder: Path) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "headrace-chaos", str(folder)]


class Disk:
    """The disk, mounted at ``folder``.

    Attributes
    ----------
    missing
        Why there is none; "" when there is one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.missing = "needs root, or user namespaces, to mount a small disk"
        if INSIDE in os.environ:
            done = subprocess.run(_mount(folder), capture_output=True, text=True, check=False)
            self.missing = done.stderr.strip() if done.returncode else ""
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Write until the disk is full."""
        with self._filler.open("wb", buffering=0) as file:
            for piece in (_CHUNK, _CHUNK[:4096]):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(piece)

    def is_full(self) -> bool:
        """Return whether no byte can be written any more."""
        try:
            (self.folder / "probe").write_bytes(_CHUNK[:8192])
        except OSError as exc:
            return exc.errno == errno.ENOSPC
        finally:
            with contextlib.suppress(OSError):
                (self.folder / "probe").unlink()
        return False

    def free(self) -> None:
        """Remove what filled the disk."""
        self._filler.unlink(missing_ok=True)

    def keep(self) -> None:
        """Copy the files to a folder beside it, which stays after the run."""
        if not self.missing:
            self.free()
            shutil.copytree(
                self.folder, self.folder.with_name(f"{self.folder.name}-kept"), dirs_exist_ok=True
            )

    def close(self) -> None:
        """Unmount it."""
        if not self.missing:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
