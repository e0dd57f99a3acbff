"""docs/spec.md is the page that the typed spec makes."""

from __future__ import annotations

from pathlib import Path

from search_spaces.spec import all_fields
from search_spaces.spec_page import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "spec.md"


def test_the_page_in_docs_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make schemas`"


def test_every_key_of_training_is_on_the_page() -> None:
    text = page()
    names = [info.key.rpartition(".")[2] for info in all_fields().values() if info.key.startswith("train.")]
    assert [name for name in names if f"| `{name}` |" not in text] == []
