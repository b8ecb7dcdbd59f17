"""A caller that is a program of its own, in any language, told what to ask over its standard input.

The program is started with two more arguments: the brokers and its reply topic. It listens, writes the line
``ready``, and then reads lines and writes lines, with tabs between the fields::

    checks -> program   <number> <topic> <timeout, ms> <key> <body>
    program -> checks   <number> reply <body>  |  <number> timeout  |  <number> error <text>

Bodies have neither tabs nor line ends. Answers may come in any order. At the end of its input, the program
ends. What it writes to its standard error goes to the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from headrace.console.callers.caller import Outcome
from headrace.streams.errors import ConfigError

#: Longest time for the program to start and to listen.
READY_S = 60.0
#: Longest time for the program to end after its input has.
END_S = 10.0
#: Longest line that is read.
MOST_BYTES = 16 * 1024 * 1024


class ProgramCaller:
    """Runs the program and speaks the protocol with it.

    Parameters
    ----------
    command
        The program and its first arguments.
    brokers
        Its next argument.
    """

    def __init__(self, command: Sequence[str], brokers: str) -> None:
        self.name = command[0].rpartition("/")[2]
        self._command = command
        self._brokers = brokers
        self._count = 0
        self._waiting: dict[str, asyncio.Future[Outcome]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None

    async def start(self, replies: str) -> None:
        """Start the program and wait until it is ready.

        Raises
        ------
        ConfigError
            It cannot be started, or is not ready in time.
        """
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                self._brokers,
                replies,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MOST_BYTES,
            )
        except OSError as exc:
            raise ConfigError(f"{self._command[0]} cannot be started: {exc.strerror}") from exc
        assert self._process.stdout is not None  # noqa: S101 - it is a pipe
        first = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(READY_S):
                first = await self._process.stdout.readline()
        if first.strip() != b"ready":
            await self.stop()
            said = f"said {first[:80]!r}" if first else "said nothing"
            raise ConfigError(f"{self.name}: its first line must be 'ready', within {READY_S:g} s; it {said}")
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    async def _read(self, lines: asyncio.StreamReader) -> None:
        try:
            while line := await lines.readline():
                number, _, rest = line.decode("utf-8", "replace").rstrip("\r\n").partition("\t")
                kind, _, text = rest.partition("\t")
                waiting = self._waiting.pop(number, None)
                if waiting is None or waiting.done():
                    continue
                if kind in ("reply", "timeout", "error"):
                    waiting.set_result(Outcome(kind, text))  # type: ignore[arg-type]
                else:
                    waiting.set_result(Outcome("error", f"the line {line[:80]!r} is not of the protocol"))
        finally:
            for waiting in self._waiting.values():
                if not waiting.done():
                    waiting.set_result(Outcome("error", "the program has ended"))
            self._waiting.clear()

    async def ask(self, topic: str, key: str, body: str, timeout_s: float) -> Outcome:
        """Tell the program to send a request; return what it says."""
        if self._process is None or self._process.stdin is None or self._reading is None:
            return Outcome("error", "the program is not started")
        if self._reading.done():
            return Outcome("error", "the program has ended")
        self._count += 1
        number = str(self._count)
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[number] = waiting
        line = "\t".join((number, topic, str(int(timeout_s * 1000)), key, body))
        try:
            self._process.stdin.write(f"{line}\n".encode())
            await self._process.stdin.drain()
            return await waiting
        except ConnectionError:
            return Outcome("error", "the program has ended")
        finally:
            self._waiting.pop(number, None)

    async def stop(self) -> None:
        """End the program's input; kill the program when it does not end."""
        if self._process is None:
            return
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=END_S)
            self._reading.cancel()
