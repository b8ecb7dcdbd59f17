"""Headrace as a next version would be: rows of users have one field more, and layout 4.

``python next_version.py worker ingest`` runs its command line. The source of ``models/state/users.py`` is
changed as a developer would change it; all else is as it is.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

CHANGED = "headrace.models.state.users"
#: What is in the source -> what the next version has there.
CHANGES = {
    "ROW = np.dtype(": "ROW_3 = np.dtype(",
    "BLANK = np.zeros((), ROW)\n": (
        'ROW = np.dtype([*ROW_3.descr, ("of_4", "<i8")])\nBLANK = np.zeros((), ROW)\nBLANK["of_4"] = 33\n'
    ),
    '    "user-state",\n    3,\n    ROW,\n    [\n': (
        '    "user-state",\n    4,\n    ROW,\n    [\n'
        "        Earlier(3, ROW_3, lambda rows: carried(rows, BLANK[()], ROW)),\n"
    ),
}


class _Changed(importlib.machinery.SourceFileLoader):
    def get_data(self, path: str) -> bytes:
        text = super().get_data(path).decode()
        for old, new in CHANGES.items():
            if text.count(old) != 1:
                raise ImportError(f"{old!r} is {text.count(old)} times in {path}")
            text = text.replace(old, new)
        return text.encode()

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)  # never what is compiled and cached


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != CHANGED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Changed(name, spec.origin)
        return spec


if __name__ == "__main__":
    sys.meta_path.insert(0, _Finder())
    from headrace.console.main import main

    main()
