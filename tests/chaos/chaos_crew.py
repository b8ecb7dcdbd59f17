"""The worker processes of a chaos run: started, killed, frozen, stopped, restarted after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from chaos_clock import Clocks
from chaos_plan import role_of

from headrace.demo.embedded import die_with_parent

ROOT = Path(__file__).parents[2]
#: Longest time for a clean stop of a worker; its own limit is 10 s.
LEAVE_S = 15.0
#: The supervisor's interval, and its pause before it starts a crashed worker again (longer each time while
#: there is no broker).
LOOK_S, AGAIN_S = 0.25, 1.0
#: Longest wait for a worker that is to be killed but is down, because the broker is down.
UP_S = 45.0


#: Exit code and last words of a worker that is started while the broker is down.
NO_BROKER, NO_BROKER_SAYS = 2, "no Kafka broker answers"


@dataclass(slots=True)
class Member:
    """A worker; ``wanted`` is true when it should be running."""

    name: str
    log: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    in_vain: int = 0
    started_at: float = 0.0

    def last_line(self) -> str:
        """Return the end of its output."""
        lines = self.log.read_text("utf-8", "replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "")


@dataclass(slots=True)
class Crew:
    """All workers. Processes are started from the thread that owns this (the kernel kills them with it).

    ``env_of`` returns the environment of the workers of a role. ``tell`` is called with a sentence about
    every event that is not in the plan.
    """

    folder: Path
    env_of: Callable[[str], Mapping[str, str]]
    tell: Callable[[str], None]
    clocks: Clocks
    members: dict[str, Member] = field(default_factory=dict)
    crashes: list[str] = field(default_factory=list)
    refused_starts: int = 0
    slow_leavers: list[str] = field(default_factory=list)

    def start(self, name: str) -> None:
        """Start a worker, for the first time or again."""
        member = self.members.setdefault(name, Member(name, self.folder / f"{name}.log"))
        member.wanted = True
        if member.process is not None and member.process.poll() is None:
            return
        with member.log.open("ab") as output:
            member.process = subprocess.Popen(
                [sys.executable, "-m", "headrace", "worker", role_of(name)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=dict(self.env_of(role_of(name))) | self.clocks.environment(name),
                start_new_session=True,
                preexec_fn=_backstage,
            )
        member.started_at = time.monotonic()

    async def is_up(self, name: str, timeout_s: float = UP_S) -> bool:
        """Wait until a worker has run for a second, so that an action meets a working process."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            member = self.members[name]
            running = member.process is not None and member.process.poll() is None
            if running and time.monotonic() - member.started_at >= 1.0:
                return True
            await asyncio.sleep(0.1)
        return False

    def process_of(self, name: str) -> int:
        """Return the number of the process of a worker; 0 while none runs."""
        member = self.members.get(name)
        process = None if member is None else member.process
        return process.pid if process is not None and process.poll() is None else 0

    def kill(self, name: str) -> None:
        """Kill -9; on return the process has ended."""
        member = self.members[name]
        member.wanted = False
        if member.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(member.process.pid, signal.SIGKILL)
            member.process.wait()

    def freeze(self, name: str) -> None:
        """Stop the process (SIGSTOP)."""
        self._signal(name, signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let the process continue (SIGCONT)."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, what: signal.Signals) -> None:
        process = self.members[name].process
        if process is not None and process.poll() is None:
            process.send_signal(what)

    async def leave(self, name: str) -> None:
        """Stop a worker cleanly and wait for its end; a worker that does not end is killed and noted."""
        self.members[name].wanted = False
        self._signal(name, signal.SIGTERM)
        if not await self._gone(name, LEAVE_S):
            self.slow_leavers.append(name)
            self.tell(f"{name} did not stop within {LEAVE_S:.0f} s")
            self.kill(name)

    async def _gone(self, name: str, timeout_s: float) -> bool:
        process = self.members[name].process
        deadline = time.monotonic() + timeout_s
        while process is not None and process.poll() is None:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.05)
        return True

    async def supervise(self) -> None:
        """Restart workers that ended without a reason in the plan, as a supervisor would."""
        while True:
            for member in list(self.members.values()):
                process = member.process
                if member.wanted and process is not None and (code := process.poll()) is not None:
                    member.process = None
                    self._note_end(member, code)
                    wait_s = AGAIN_S * 2 ** min(member.in_vain, 3)
                    asyncio.get_running_loop().call_later(wait_s, self._start_wanted, member.name)
            await asyncio.sleep(LOOK_S)

    def _note_end(self, member: Member, code: int) -> None:
        last = member.last_line()
        if code == NO_BROKER and NO_BROKER_SAYS in last:  # expected while the broker is down
            self.refused_starts += 1
            member.in_vain = 1 + (member.in_vain if time.monotonic() - member.started_at < 10.0 else 0)
            return
        member.in_vain = 0
        line = f"{member.name} ended with code {code}: {last}"
        self.crashes.append(line)
        self.tell(line)

    def _start_wanted(self, name: str) -> None:
        if self.members[name].wanted:
            self.start(name)

    def wanted_of(self, role: str) -> list[str]:
        """Return the workers of a role that should be running."""
        return [name for name, member in self.members.items() if member.wanted and role_of(name) == role]

    async def stop(self) -> None:
        """Stop all workers cleanly."""
        await asyncio.gather(*(self.leave(name) for name in self.members))

    def kill_all(self) -> None:
        """Kill all processes, in any state."""
        for name in self.members:
            self.kill(name)


def _backstage() -> None:
    """Give the process a lower priority than the broker. Runs in the child: system calls only, no locks."""
    die_with_parent()
    os.nice(5)


def alive_with(variable: str, value: str) -> list[str]:
    """Return the processes, other than this one, whose environment says ``variable=value`` (Linux)."""
    wanted = f"{variable}={value}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(folder.name) != os.getpid() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                found.append(f"{folder.name} {command.strip()[:120]}")
    return found
