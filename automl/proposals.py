"""What a searcher is given and what it gives back, and seeds that depend on nothing but what they are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from search_spaces.errors import StudyError
from search_spaces.space import SearchSpace, Value


class Unavailable(StudyError):
    """A searcher that depends on something outside cannot propose now; the search pauses and can be resumed."""


def _anything(values: Mapping[str, Value]) -> bool:
    del values
    return True


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a proposal is made from: the study's seed, the trial's number, the space, and how many trials to draw blindly first.

    `attempt` counts draws for this number that the spec's own rules refused; `allowed` asks those rules.  `rung` is the epoch at which
    the trial will first be judged.  `tried` and `origins` are values and origins of all trials before it, by number, failed ones too.
    `settings` are the study's, complete; `further` counts its objectives beside the first.
    """

    seed: int
    number: int
    space: SearchSpace
    startup: int
    attempt: int = 0
    rung: int = 1
    tried: Sequence[Mapping[str, Value]] = ()
    origins: Sequence[Mapping[str, Any]] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    further: int = 0
    allowed: Callable[[Mapping[str, Value]], bool] = _anything

    @property
    def own_seed(self) -> int:
        """A seed for this one proposal."""
        return derive_seed(self.seed, "propose", self.number, self.attempt)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Values of the active parameters, and where they come from: plain data that is kept with the trial and read by later proposals."""

    values: dict[str, Value]
    origin: Mapping[str, Any] = field(default_factory=dict)


def derive_seed(*parts: int | str) -> int:
    """A seed below 2^31 that depends on every part and on nothing else: not on the process, the platform or the order of calls."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
