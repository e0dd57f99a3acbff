"""Does a free text ask for training without a search?  The phrases of TAO's skills, and what people write beside them.

What stands in quotes, in a path or in a name (`no_hpo_dataset`, `key=value`) is somebody's name and no wish.  A phrase that is negated
("don't turn off AutoML") is none either.
"""

from __future__ import annotations

import re

_SEARCH = r"(?:the )?(?:automl|auto ml|hpo|hyperparameter (?:search|optimi[sz]ation|tuning)|hyperparameter sweep|tuning)"
_OFF = (
    rf"(?:turn|switch)(?:ing|ed)? off {_SEARCH}",
    rf"(?:turn|switch)(?:ing|ed)? {_SEARCH} off",
    rf"(?:disabl|skip|bypass|avoid)(?:e|p|ing|ping|ed|ped)? {_SEARCH}",
    rf"(?:no|without|not) (?:any )?{_SEARCH}",
    rf"(?:do not|never) (?:use|run|do|start|want|need) (?:any )?{_SEARCH}",
    rf"{_SEARCH} (?:is |= ?|: ?)?(?:off|disabled)",
    r"(?:plain|direct) train(?:ing)?(?: run)?",
    r"(?:just )?(?:a |one )?single train(?:ing)? run",
)
_PHRASE = re.compile("|".join(f"(?:{pattern})" for pattern in _OFF))
_NEGATED = re.compile(
    r"(?:\b(?:do not|does not|did not|must not|should not|never|not|no|instead of|rather than|without)(?: \w+){0,4} |\bnot )$"
)
_QUOTED = re.compile(r"\"[^\"]*\"|`[^`]*`|“[^”]*”|(?<![\w])'[^']*'(?![\w])")
_NAME = re.compile(r"\S*[/\\_=]\S*|\S*\w\.\w\S*|\S*\w-\w\S*")
_SPELLINGS = {
    r"\bauto-ml\b": "automl",
    r"\bhyper-?parameters?\b": "hyperparameter",
    r"\bno-(?=automl\b|hpo\b)": "no ",
    r"n[’']t\b": " not",
    r"\bcannot\b": "can not",
    r"\bdont\b": "do not",
    r"\bautoml_policy\s*[:=]\s*off\b": "automl off",
}


def asks_for_plain_training(text: str) -> str | None:
    """The phrase of `text` that asks for training without a search, or None."""
    plain = _QUOTED.sub(" _ ", text.lower())
    for spelling, word in _SPELLINGS.items():
        plain = re.sub(spelling, word, plain)
    plain = re.sub(r"\s+", " ", _NAME.sub("_", plain))
    for clause in re.split(r"[.;!?,]\s|[.;!?,]$|\b(?:but|and|then)\b", plain):
        for match in _PHRASE.finditer(clause):
            if not _NEGATED.search(clause[: match.start()]) and _whole(clause, match):
                return match[0].strip()
    return None


def _whole(clause: str, match: re.Match[str]) -> bool:
    """Whether the phrase begins and ends at the ends of words."""
    before, after = clause[: match.start()][-1:], clause[match.end() :][:1]
    return not (before.isalnum() or before == "_" or after.isalnum() or after == "_")
