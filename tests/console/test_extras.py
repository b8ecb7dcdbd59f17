from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import files, packages_distributions
from pathlib import Path

import pytest
from project import ROOT

from headrace.console.extras import EXTRAS, compiled_modules, require
from headrace.streams.errors import ConfigError

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_modules_are_those_the_extra_installs(extra: str) -> None:
    lines = PROJECT["project"]["optional-dependencies"][extra]
    wanted = {re.split(r"[\[<>=!~; ]", line, maxsplit=1)[0] for line in lines}
    owners = {name for module in EXTRAS[extra] for name in _owners(module)}
    assert {name.replace("_", "-").lower() for name in owners} == wanted


def _owners(module: str) -> list[str]:
    """Return the distributions with a module; of those that share a namespace, the one with its folder."""
    top, _, below = module.partition(".")
    folder = f"{module.replace('.', '/')}/"
    return [
        name
        for name in packages_distributions()[top]
        if not below or any(str(path).startswith(folder) for path in files(name) or [])
    ]


def test_the_compiled_parts_are_those_that_are_built() -> None:
    built = {module["name"] for module in PROJECT["tool"]["setuptools"]["ext-modules"]}
    assert set(compiled_modules()) == built - {"headrace._cython"}
    assert all(module["optional"] for module in PROJECT["tool"]["setuptools"]["ext-modules"])


def test_nothing_is_missing_here() -> None:
    require(*EXTRAS)


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("polars", "hnswlib", "lightgbm"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(
        ConfigError, match=r"pip install 'headrace\[worker\]' 'headrace\[verify\]' .*lightgbm"
    ):
        require("worker", "embedded", "verify")
    require("embedded")


def test_without_compiled_parts_it_says_that_a_compiler_was_missing(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path, ignore=shutil.ignore_patterns("*.so"), dirs_exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "headrace", "worker", "serve"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "C compiler" in line
    assert "pip install --force-reinstall" in line
    assert f"without {len(compiled_modules())} compiled parts ({compiled_modules()[0]} ...)" in line
