"""The last example of docs/parts.md runs as it is written."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from pages import PAGES, blocks

from headrace.streams.messages.schemas import RecReply


def test_the_page_s_way_to_try_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *parts, example = blocks(PAGES["docs/parts.md"], "python")
    assert "class " not in example
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "parts.py").write_text("from __future__ import annotations\n" + "\n".join(parts))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    printed = list[RecReply]()
    exec(compile(example, "docs/parts.md", "exec"), {"print": printed.append})  # noqa: S102
    (reply,) = printed
    assert [one.item_id for one in reply.items] == ["i1"]
    assert reply.items[0].why
    assert not [name for name in reply.degraded if ":" in name], "no part was left out"
