"""docs/spec.md: every key of a spec with its default, its rule and what it does, written from the typed spec.

python -m search_spaces.spec_page > docs/spec.md
"""

from __future__ import annotations

import json
import sys

from search_spaces.spec import Acts, FieldInfo, all_fields

HEAD = """# Every key of the spec

Written by `make schemas` from the code that checks specs; do not edit. Key names are those of TAO's `depth_net`.

*Acts on* says what changing the key changes: **training** (what is learned; a family in brackets where the other one does not read
it), **evaluation** (how results are measured, never what is learned; no search may tune it), **running** (where, how fast, what is
written), **nothing** (accepted because TAO's specs carry it; one warning line says so when it is set).
The keys of the four splits are listed once, for `train_dataset`; in `val_dataset`, `test_dataset` and `infer_dataset` no augmentation acts.
"""
OTHER_SPLITS = ("dataset.val_dataset.", "dataset.test_dataset.", "dataset.infer_dataset.")
FAMILY = {Acts.STEREO: "training (stereo)", Acts.MONO: "training (mono)", Acts.INERT: "nothing"}


def page() -> str:
    """The whole page as Markdown."""
    shown = [info for info in all_fields().values() if not info.key.startswith(OTHER_SPLITS)]
    sections: dict[str, list[FieldInfo]] = {}
    for info in shown:
        sections.setdefault(_section(info.key), []).append(info)
    parts = [HEAD]
    for section, infos in sections.items():
        parts.append(f"\n## {section}\n\n| key | default | legal | acts on | meaning |\n|---|---|---|---|---|\n")
        parts.extend(_row(info) for info in infos)
    return "".join(parts)


def _section(dotted: str) -> str:
    """The group a key is listed under: its path without the last name."""
    return dotted.rpartition(".")[0].replace("train_dataset", "<split>_dataset") or "top level"


def _row(info: FieldInfo) -> str:
    name = info.key.rpartition(".")[2]
    acts = _acts_on(info)
    meaning = f"{info.doc}: {info.rule.why}" if acts == FAMILY[Acts.INERT] else info.doc
    cells = (f"`{name}`", f"`{_plain(info.default)}`", _legal(info), acts, meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _acts_on(info: FieldInfo) -> str:
    if info.acts is Acts.INERT and info.rule.outside not in (None, Acts.INERT):
        return f"{info.rule.outside.value} (val, test, infer)"
    words = FAMILY.get(info.acts, info.acts.value)
    if info.rule.stereo_only and info.acts is not Acts.INERT:
        words = f"{info.acts.value} (stereo)"
    if info.rule.when is None or info.acts is Acts.INERT:
        return words
    key, values = info.rule.when
    return f"{words}, with `{key.rpartition('.')[2]}` {' or '.join(_plain(value) for value in values)}"


def _legal(info: FieldInfo) -> str:
    if info.options:
        return ", ".join(f"`{option}`" for option in info.options)
    unit = f" {info.unit}" if info.unit else ""
    low, high = info.low, info.high
    above = info.rule.above is not None and (low is None or info.rule.above >= low)
    lower = "" if low is None and not above else f"> {info.rule.above:g}" if above else f"≥ {low:g}"
    upper = "" if high is None else f"≤ {high:g}"
    off = "" if info.rule.off is None else f"; {info.rule.off:g} = off"
    bounds = ", ".join(part for part in (lower, upper) if part)
    return f"{info.type}{unit}{': ' if bounds else ''}{bounds}{off}"


def _plain(value: object) -> str:
    """A default as YAML writes it, numbers to four digits."""
    if isinstance(value, tuple):
        return f"[{', '.join(_plain(item) for item in value)}]"
    if isinstance(value, float):
        return f"{value:.4g}" if value else "0.0"
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value or '""'


if __name__ == "__main__":
    sys.stdout.write(page())
