"""Clocks of workers that can be made wrong while they run.

``wrong_clock.c`` is compiled and loaded into them. (libfaketime up to 0.9.10 breaks ``time.sleep`` of Python
3.11 when the monotonic clock is left alone.)
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from pathlib import Path

SOURCE = Path(__file__).with_name("wrong_clock.c")
COMPILERS = ("cc", "gcc", "clang", "g++", "c++")


class Clocks:
    """The clocks of some workers. Only the time of day is changed, never the monotonic clock.

    Parameters
    ----------
    folder
        Where the library and the file of each clock are.
    names
        Workers whose clocks may become wrong.

    Attributes
    ----------
    missing
        Why clocks cannot be changed; "" when they can be.
    """

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        self._folder, self._names = folder, frozenset(names)
        self._library = folder / "wrong_clock.so"
        self.missing = _compile(self._library) if names else ""
        for name in self._names:
            self.set(name, 0)

    def set(self, name: str, seconds: int) -> None:
        """Make a clock wrong by ``seconds``; 0 makes it right. It counts at once."""
        file = os.open(self._path(name), os.O_RDWR | os.O_CREAT, 0o600)
        try:  # in place: the worker has this very file in its memory
            os.pwrite(file, seconds.to_bytes(8, "little", signed=True), 0)
        finally:
            os.close(file)

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment variables of a worker."""
        if self.missing or name not in self._names:
            return {}
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._path(name))}

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.clock"


def _compile(target: Path) -> str:
    """Compile the library; return why that is impossible, or ""."""
    compiler = next((found for name in COMPILERS if (found := shutil.which(name))), None)
    if compiler is None:
        return "needs a C compiler to make the clock of a worker wrong"
    command = [compiler, "-x", "c", "-shared", "-fPIC", "-O2", "-o", str(target), str(SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr.strip()[-300:] if done.returncode else ""
