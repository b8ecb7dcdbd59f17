"""Bytes that the image adds to its base: packages of ``headrace[worker,gateway,formats]``, as installed here.

    python ops/image_size.py        # in an environment with the locked versions; prints a table

No container engine is needed. Counted are the files of every package that the extras ask for, and of those
that these need; compiled code as it is, without the caches of byte code that pip writes. libgomp1 and the
base image come on top.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = ("worker", "gateway", "formats")


def needed(name: str, extras: tuple[str, ...]) -> dict[str, Distribution]:
    """Return every distribution that a package and its extras need, by name, the package among them."""
    found: dict[str, Distribution] = {}
    todo = [(name, extras)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        name, extras = one
        try:
            dist = distribution(name)
        except PackageNotFoundError:
            continue  # its marker holds elsewhere only
        found[_canonical(name)] = dist
        for text in dist.requires or ():
            requirement = Requirement(text)
            wanted = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in extras or ("",)
            )
            if wanted:
                todo.append((requirement.name, tuple(sorted(requirement.extras))))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def size(dist: Distribution) -> int:
    """Return the bytes of the files of a distribution."""
    paths = [Path(str(dist.locate_file(file))) for file in dist.files or ()]
    return sum(p.stat().st_size for p in paths if p.is_file() and p.suffix != ".pyc")


def own() -> int:
    """Return the bytes of this package, whose files an editable installation does not list."""
    import headrace

    rooms = [room.resolve() for folder in headrace.__path__ for room in Path(folder).iterdir()]
    files = [p for room in rooms for p in (room.rglob("*") if room.is_dir() else (room,))]
    kept = {".py", ".so", ".pyi", ".pyx", ".pxd", ".html", ".json", ".js", ".css", ".typed"}
    return sum(p.stat().st_size for p in files if p.is_file() and p.suffix in kept)


def main() -> None:
    """Print the largest packages and the sum."""
    sizes = {name: size(dist) for name, dist in needed("headrace", EXTRAS).items()}
    sizes["headrace"] = own()
    rows = sorted(sizes.items(), key=lambda pair: -pair[1])
    for name, count in rows[:12]:
        print(f"{name:24} {count / 1e6:8.1f} MB")
    others = sum(count for _, count in rows[12:])
    print(f"{f'{len(rows) - 12} others':24} {others / 1e6:8.1f} MB")
    print(f"{'together':24} {sum(sizes.values()) / 1e6:8.1f} MB")


if __name__ == "__main__":
    sys.exit(main())
