"""The one exception tree of what a user can put right.

UserError
├── SpecError         a spec, an override or a search space says something impossible
├── SkillError        a skill package is unknown or not runnable
├── DataError         annotation files, images or ground truth
├── CheckpointError   weights that do not fit what was asked for
├── StudyError        a study folder cannot be used as asked
└── UnsupportedError  a feature that is not there on this machine or in this release

Everything else that is raised is a defect of ours or a fault of the machine.  The command
lines print `error: <message>`, a blank line, `hint: <hint>` and exit with code 2.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable

SHORTEST = 5  # letters of a word that is told from inside a longer one


class UserError(ValueError):
    """A mistake the user can mend: `message` names rule, value and place, `hint` the way out."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class SpecError(UserError):
    """A spec, an override or a search space says something impossible."""


class SkillError(UserError):
    """A skill package is unknown or not runnable."""


class DataError(UserError):
    """Annotation files, images or ground truth are not what the spec says."""


class CheckpointError(UserError):
    """Weights do not fit the network or cannot be read."""


class StudyError(UserError):
    """A study folder cannot be used as asked."""


class UnsupportedError(UserError):
    """A feature that is not there on this machine or in this release."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like `word`, else the longest that stands in it; None when nothing is near enough to suggest."""
    words = list(known)
    matches = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if matches:
        return matches[0]
    inside = [known_word for known_word in words if len(known_word) >= SHORTEST and known_word.lower() in word.lower()]
    return max(inside, key=len, default=None)


def shell_word(value: object) -> str:
    """`value` as one word of a command that is shown: quoted where a shell would cut it or read it otherwise."""
    return shlex.quote(str(value))
