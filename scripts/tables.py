"""Tables in docs that scripts add to: rows in one file, and beside it the page made from them."""

import json
from pathlib import Path
from typing import Any

BY_HAND = "<!-- by hand -->"  # what stands below this line of a page stays


def read_rows(store: Path) -> list[dict[str, Any]]:
    """Read the rows of ``store``, a line each; none when there is no such file."""
    if not store.exists():
        return []
    return [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()]


def append_row(store: Path, row: dict[str, Any]) -> None:
    """Append ``row`` to ``store``."""
    store.parent.mkdir(parents=True, exist_ok=True)
    with store.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_page(page: Path, text: str) -> None:
    """Write ``text``, and leave what was written by hand below it."""
    old = page.read_text(encoding="utf-8") if page.exists() else ""
    kept = "".join(old.partition(BY_HAND)[1:])
    page.write_text(text.rstrip() + "\n" + (f"\n{kept}" if kept else ""), encoding="utf-8")
