"""The grammar of `key=value` overrides (Hydra's everyday part): lists, dicts, null, quotes, +key, ++key, ~key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from search_spaces.errors import SpecError

KEY = re.compile(r"[A-Za-z_]\w*((\.[A-Za-z_]\w*)|(\.\d+)|(\[\d+\]))*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SHOWN = 60  # characters of an override in an error
WORDS = {"null": None, "none": None, "~": None, "true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class Override:
    """One override: set `key` (a dotted name, list positions as parts of their own) to `value`, or forget it; `text` as it was typed."""

    key: str
    value: Any = None
    delete: bool = False
    text: str = ""

    @property
    def place(self) -> str:
        """How an error names it: `command line: train.seed=x`, cut short when it is long."""
        return f"command line: {self.text if len(self.text) <= SHOWN else f'{self.text[: SHOWN - 3]}...'}"


def parse_override(text: str) -> Override:
    """The override that `text` says; SpecError when it is malformed."""
    name, equals, value = text.partition("=")
    bare = name.lstrip("+") if not name.startswith("~") else name[1:]
    if name.startswith("--"):
        raise SpecError(f"{text} is not an override", hint=f"write {name.lstrip('-').replace('-', '_')}=value, without dashes")
    if not KEY.fullmatch(bare) or len(name) - len(bare) > 2:
        raise SpecError(f"{text!r} does not start with a key of the spec", hint=_spelling(name, value if equals else None))
    dotted = re.sub(r"\[(\d+)\]", r".\1", bare)
    if name.startswith("~"):
        if equals:
            raise SpecError(f"{text!r} gives a value to a key that is to be deleted", hint=f"write {name}, or {bare}={value}")
        return Override(key=dotted, delete=True, text=text)
    if not equals:
        raise SpecError(f"override {text!r} has no value", hint=f"write {bare}=value, or ~{bare} to go back to the default")
    return Override(key=dotted, value=parse_value(value, text), text=text)


def _spelling(name: str, value: str | None) -> str:
    """What helps where the left side of an override is no key: blanks around it, dashes in it."""
    meant = name.strip().replace("-", "_")
    if value is not None and meant != name and KEY.fullmatch(meant):
        return f"write {meant}={value.strip()}"
    return "overrides look like train.num_epochs=2, without blanks around =; quote the whole of one that holds blanks"


def parse_value(text: str, source: str | None = None) -> Any:
    """What an override's right side means: number, true, false, null, text, list or dict.  `source` is shown in errors."""
    reader = _Reader(text.strip(), source or text)
    value = reader.value(top=True)
    reader.end()
    return value


def parse_overrides(texts: Sequence[str]) -> Iterator[Override]:
    """Every override in order."""
    return (parse_override(text) for text in texts)


class _Reader:
    """Reads one value from left to right; every error names the position."""

    def __init__(self, text: str, source: str) -> None:
        self._text = text
        self._source = source
        self._at = 0

    def value(self, *, top: bool = False) -> Any:
        """The value that starts here."""
        self._blank()
        first = self._text[self._at : self._at + 1]
        if first == "[":
            return self._list()
        if first == "{":
            return self._dict()
        if first in ("'", '"'):
            return self._quoted(first)
        return self._bare("" if top else ",]}")

    def end(self) -> None:
        """SpecError unless everything was read."""
        self._blank()
        if self._at < len(self._text):
            self._fail(f"unexpected {self._text[self._at :]!r}")

    def _list(self) -> list[Any]:
        items: list[Any] = []
        self._at += 1
        while not self._closes("]", first=not items):
            items.append(self.value())
        return items

    def _dict(self) -> dict[str, Any]:
        items: dict[str, Any] = {}
        self._at += 1
        while not self._closes("}", first=not items):
            self._blank()
            match = re.compile(r"\s*([^:,\[\]{}]+?)\s*:").match(self._text, self._at)
            if match is None:
                self._fail("a dict needs key:value")
            else:
                self._at = match.end()
                items[match.group(1).strip("'\"")] = self.value()
        return items

    def _closes(self, bracket: str, *, first: bool) -> bool:
        """Whether the list or dict ends here; otherwise steps over the comma between two items."""
        self._blank()
        mark = self._text[self._at : self._at + 1]
        if mark == bracket:
            self._at += 1
            return True
        if not mark:
            self._fail(f"{bracket} is missing")
        if not first:
            if mark != ",":
                self._fail(f"a comma or {bracket} is expected")
            self._at += 1
            self._blank()
            if self._text[self._at : self._at + 1] == bracket:
                self._fail("a value is missing after the last comma")
        return False

    def _quoted(self, quote: str) -> str:
        end = self._at + 1
        parts = []
        while end < len(self._text) and self._text[end] != quote:
            if self._text[end] == "\\" and self._text[end + 1 : end + 2] in (quote, "\\"):
                end += 1
            parts.append(self._text[end])
            end += 1
        if end >= len(self._text):
            self._fail(f"the closing {quote} is missing")
        self._at = end + 1
        return "".join(parts)

    def _bare(self, stops: str) -> Any:
        start, depth = self._at, 0
        while self._at < len(self._text):
            if self._text.startswith("${", self._at):
                depth += 1
            elif depth and self._text[self._at] == "}":
                depth -= 1
            elif not depth and self._text[self._at] in stops:
                break
            self._at += 1
        word = self._text[start : self._at].strip()
        if not word and stops:
            self._fail("a value is missing")
        return _scalar(word)

    def _blank(self) -> None:
        while self._text[self._at : self._at + 1].isspace():
            self._at += 1

    def _fail(self, what: str) -> None:
        raise SpecError(
            f"override {self._source!r} cannot be read: {what}",
            hint="lists are [1,2], dicts {a:1,b:2}; quote a text that holds brackets or commas",
        )


def _scalar(word: str) -> Any:
    lowered = word.lower()
    if lowered in WORDS:
        return WORDS[lowered]
    if re.fullmatch(r"[+-]?\d{1,18}", word):
        return int(word)
    return float(word) if NUMBER.fullmatch(word) else word
