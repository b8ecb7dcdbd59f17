"""Contract tests that are slow or need the network run only when they are selected."""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass over test_wheel.py, unless it or its marker is named. (Paths that are named do not come here.)"""
    asked_for = "wheel" in config.getoption("markexpr")
    return True if collection_path.name == "test_wheel.py" and not asked_for else None
