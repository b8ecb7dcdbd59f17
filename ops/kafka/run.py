"""A real Apache Kafka (KRaft, one node) and a real Redis, for the tests.

``python ops/kafka/run.py -- pytest -m broker`` starts both on free loopback ports and runs the command with
``HEADRACE_TEST_BROKER``, ``HEADRACE_TEST_REDIS`` and ``HEADRACE_TEST_REQUIRE`` set. It always stops both, and
exits with the command's exit code. It needs Java 17+, Maven (the first time) and redis-server.

``KafkaServer`` and ``RedisServer`` keep port and data between starts, for tests that kill and restart them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Self

from headrace.demo.embedded import EmbeddedServer, die_with_parent, free_port
from headrace.streams.errors import UnavailableError

POM = Path(__file__).with_name("pom.xml")
JAVA_AT_LEAST = 17
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0

PROPERTIES = """\
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs={data}/log
num.partitions=2
auto.create.topics.enable=false
message.max.bytes=16777216
replica.fetch.max.bytes=16777216
log.cleaner.backoff.ms=500
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"""


def java() -> str:
    """Return the path of a Java that is new enough."""
    home = os.environ.get("JAVA_HOME")
    candidates = ([str(Path(home, "bin", "java"))] if home else []) + ["java"]
    found = "none"
    for candidate in candidates:
        path = shutil.which(candidate)
        if path is None:
            continue
        text = subprocess.run([path, "-version"], capture_output=True, text=True, check=False).stderr
        match = re.search(r'version "(\d+)', text)
        if match and int(match[1]) >= JAVA_AT_LEAST:
            return path
        found = f"{path} is {match[1]}" if match else f"{path} does not run"
    raise UnavailableError(
        f"Kafka needs Java {JAVA_AT_LEAST} or newer (found: {found}); on Debian: openjdk-17-jre-headless"
    )


def kafka_jars() -> Path:
    """Return the folder with Kafka's jars, outside the repository. Maven fills it once for every pom.xml."""
    version = re.search(rb"<kafka\.version>([^<]+)<", POM.read_bytes())
    if version is None:
        raise UnavailableError(f"{POM} names no <kafka.version>")
    return jars_of(POM, f"kafka-{version[1].decode()}")


def jars_of(pom: Path, name: str) -> Path:
    """Return the folder with the jars of a ``pom.xml``, outside the repository; Maven fills it once."""

    def fetch(folder: Path) -> None:
        if shutil.which("mvn") is None:
            raise UnavailableError("jars are fetched once by Maven: no mvn here; on Debian: maven")
        command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={folder}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UnavailableError(f"Maven could not fetch the jars of {pom}:\n{_last_lines(done.stdout)}")

    return cached(name, pom.read_bytes(), fetch)


def cached(name: str, made_from: bytes, fill: Callable[[Path], None]) -> Path:
    """Return a folder of the user's cache that ``fill`` has filled once for everything it is made from."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "headrace")
    folder = cache / f"{name}-{hashlib.sha256(made_from).hexdigest()[:8]}"
    if folder.is_dir():
        return folder
    print(f"filling {folder}", file=sys.stderr)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        # Renamed when complete: what was interrupted never looks like something finished.
        part = Path(scratch, "part")
        fill(part)
        with contextlib.suppress(OSError):  # another run has filled it meanwhile
            part.rename(folder)
    return folder


def _last_lines(text: str, count: int = 30) -> str:
    return "\n".join(text.splitlines()[-count:])


class KeptServer(EmbeddedServer):
    """A server that keeps its port and data over ``stop`` and ``kill``; ``close`` removes them."""

    def __init__(self) -> None:
        super().__init__(start_timeout_s=START_TIMEOUT_S)
        self.port = free_port()
        self._scratch = tempfile.TemporaryDirectory(prefix=f"headrace-{self.name}-")
        self.data = Path(self._scratch.name)

    def start(self) -> Self:
        """Start on the same port and data, and wait until it answers.

        Raises
        ------
        UnavailableError
            The server ended, or did not answer within two minutes; the message has its last lines.
        """
        try:
            self._launch(self.data)
        except UnavailableError as exc:
            self.kill()
            output = _last_lines((self.data / "output.log").read_text("utf-8", "replace"))
            if not output:
                raise
            raise UnavailableError(f"{self.name} did not start; its last lines:\n{output}") from exc
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Stop the server; kill it when that takes longer than ``STOP_TIMEOUT_S``."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """Kill the server at once, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> Self:
        """Stop the server and start it again."""
        self.stop()
        return self.start()

    def wipe(self) -> None:
        """Remove all data. Call it only while the server is stopped."""
        for path in self.data.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def close(self) -> None:
        """Kill the server and remove its data."""
        self.kill()
        self._scratch.cleanup()

    def __exit__(self, *_: object) -> None:
        self.close()


class KafkaServer(KeptServer):
    """One Kafka node, broker and controller in one process, 512 MB of heap.

    Parameters
    ----------
    properties
        More lines of its configuration; they replace those with the same name. ``{port}``, ``{data}`` and
        ``{controller_port}`` are replaced. It must go on to answer without TLS at its port.
    format_options
        More options of ``kafka-storage format``, such as ``--add-scram``.
    """

    name = "kafka"

    def __init__(self, properties: str = "", format_options: Sequence[str] = ()) -> None:
        super().__init__()
        self._controller_port = free_port()
        self._properties, self._format_options = properties, format_options

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line of the broker; formats its storage the first time."""
        # Native libraries are unpacked into our folder, which is removed, not into the system's.
        options = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", f"-Djava.io.tmpdir={folder}"]
        options += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
        run = [java(), *options, "-cp", f"{kafka_jars()}/*"]
        properties = folder / "server.properties"
        if not properties.exists():
            values = {"port": port, "controller_port": self._controller_port, "data": folder}
            properties.write_text((PROPERTIES + self._properties).format_map(values), "utf-8")
            # An id that begins with "-" would be read as an option.
            cluster = "h" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
            tool = ["kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties)]
            tool += self._format_options
            done = subprocess.run([*run, *tool], capture_output=True, text=True, check=False)
            if done.returncode:
                properties.unlink()
                raise UnavailableError(f"Kafka's storage could not be formatted:\n{_last_lines(done.stderr)}")
        return [*run, "kafka.Kafka", str(properties)]

    def cut(self, topic: str, partition: int, size: int) -> None:
        """Remove the last ``size`` bytes of a partition, as a power cut may do; at most half of its segment.

        Call it only while the broker is killed. At its next start the broker drops the batch that is not
        complete.
        """
        segment = max((self.data / "log" / f"{topic}-{partition}").glob("*.log"))
        length = segment.stat().st_size
        os.truncate(segment, length - min(size, length // 2))

    def answers(self, sock: socket.socket) -> bool:
        """Return whether the broker lists itself as alive (Metadata v1, no topics asked for)."""
        request = struct.pack(">hhihi", 3, 1, 0, -1, 0)
        sock.sendall(struct.pack(">i", len(request)) + request)
        header = sock.makefile("rb").read(12)  # size, correlation id, number of brokers
        return len(header) == 12 and struct.unpack(">iii", header)[2] >= 1


class RedisServer(KeptServer):
    """One redis-server that keeps its data in memory only."""

    name = "redis"

    @property
    def url(self) -> str:
        """Return the ``redis://`` address of database 0."""
        return f"redis://{self.address}/0"

    def command(self, port: int, folder: Path) -> list[str]:
        """Return the command line."""
        path = shutil.which("redis-server")
        if path is None:
            raise UnavailableError("no redis-server here; on Debian: redis-server")
        options = f"--bind 127.0.0.1 --port {port} --appendonly no --loglevel warning"
        return [path, *options.split(), "--save", "", "--dir", str(folder)]

    def answers(self, sock: socket.socket) -> bool:
        """Return whether it answers a PING."""
        sock.sendall(b"PING\r\n")
        return sock.recv(16).startswith(b"+PONG")


def _interrupt(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signum)


def run_command(command: Sequence[str], env: dict[str, str]) -> int:
    """Run ``command`` and return its exit code; afterwards no process of its group is left.

    An interrupt is passed on as SIGINT; processes that have not ended 15 s later are killed.
    """
    process = subprocess.Popen(command, env=env, start_new_session=True, preexec_fn=die_with_parent)
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            process.wait(STOP_TIMEOUT_S)
        return 130
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("command", nargs="+", help="what to run, after --")
    command = parser.parse_args().command
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _interrupt)
    try:
        with RedisServer() as redis, KafkaServer() as kafka:
            print(f"Kafka at {kafka.address}, Redis at {redis.address}", file=sys.stderr, flush=True)
            servers = {
                "HEADRACE_TEST_BROKER": kafka.address,
                "HEADRACE_TEST_REDIS": redis.url,
                "HEADRACE_TEST_REQUIRE": "1",
            }
            return run_command(command, os.environ | servers)
    except UnavailableError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
