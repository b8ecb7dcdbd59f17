"""Fuzz every decoder for a while, led by coverage (atheris): ``make fuzz``.

Each target of ``fuzz_targets.py`` runs in a process of its own, for its share of the time. Coverage is that
of the Python code; the compiled readers are called by the same targets. Without atheris, inputs are made
from the good ones at random. An input that brings out an error that is not documented is written to
``--found``, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]
#: Longest input, bytes.
MOST_BYTES = 4096


def by_coverage(name: str, seconds: int, found: Path) -> None:
    """Run one target with atheris, which ends the process."""
    import atheris  # type: ignore[import-not-found]

    with atheris.instrument_imports(include=["headrace", "fuzz_targets", "fuzz_models", "fuzz_files"]):
        from fuzz_targets import TARGETS
    from fuzz_mutate import PIECES

    target = TARGETS[name]
    with tempfile.TemporaryDirectory() as corpus:
        for number, data in enumerate([*target.seeds, *(p for p in PIECES if len(p) <= MOST_BYTES)]):
            (Path(corpus) / str(number)).write_bytes(data)
        options = [
            f"-max_total_time={seconds}",
            f"-max_len={MOST_BYTES}",
            f"-artifact_prefix={found}/{name}-",
        ]
        atheris.Setup([sys.argv[0], *options, "-verbosity=0", "-print_final_stats=1", corpus], target)
        atheris.Fuzz()


def by_chance(name: str, seconds: int, found: Path) -> None:
    """Run one target with inputs made at random, the same in every run."""
    from fuzz_mutate import inputs
    from fuzz_targets import TARGETS

    target, until, seed, count = TARGETS[name], time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        seed += 1
        for data in inputs(seed, target.seeds, 200):
            count += 1
            try:
                target(data)
            except BaseException:
                (found / f"{name}-crash").write_bytes(data)
                raise
    print(f"stat::number_of_executed_units: {count}", file=sys.stderr)


def one(name: str, seconds: int, found: Path, *, with_atheris: bool) -> tuple[bool, str]:
    """Run one target in a process; return whether all is well, and what it said last."""
    command = [sys.executable, __file__, "--target", name, "--seconds", str(seconds), "--found", str(found)]
    if not with_atheris:
        command.append("--by-chance")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).splitlines()
    runs = [line.rpartition(" ")[2] for line in said if "number_of_executed_units" in line]
    if done.returncode == 0:
        return True, f"{int(runs[-1]):,} inputs" if runs else "?"
    errors = [line for line in said if line.strip() and "stat::" not in line]
    return False, "\n".join(errors[-25:])


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=60, help="for all targets together (60)")
    parser.add_argument("--target", help="only this one, in this process")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"), help="folder for what is found")
    parser.add_argument("--by-chance", action="store_true", help="without atheris")
    given: Any = parser.parse_args()
    with_atheris = not given.by_chance and importlib.util.find_spec("atheris") is not None
    given.found.mkdir(parents=True, exist_ok=True)
    if given.target:
        logging.disable(logging.CRITICAL)  # bad files are warned of
        (by_coverage if with_atheris else by_chance)(given.target, given.seconds, given.found)
        return 0
    from fuzz_targets import TARGETS

    print("led by coverage (atheris)" if with_atheris else "at random: atheris is not installed")
    bad = 0
    for name in TARGETS:
        share = max(1, round(given.seconds / len(TARGETS)))
        well, text = one(name, share, given.found, with_atheris=with_atheris)
        bad += not well
        print(f"{'ok' if well else 'FOUND':<6} {name:<16} {text}", flush=True)
    if not any(given.found.iterdir()):
        given.found.rmdir()
    print(f"{len(TARGETS)} targets, {bad} with findings" + (f", inputs in {given.found}" if bad else ""))
    return 1 if bad else 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
