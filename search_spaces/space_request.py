"""What a user asks of a search space: which parameters, between which bounds, and where a good value is thought to lie.

names      train.optim.lr, or lr where one key of training ends in it, or a short name of the skill (learning_rate)
range      KEY=LOW:HIGH, KEY=LOW:HIGH:log, KEY=LOW:HIGH:linear, KEY=LOW:HIGH:STEP
choices    KEY=A,B,C; lists stand in brackets: KEY=[320,736],[256,512]
prior      KEY=VALUE
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from search_spaces.errors import SpecError, nearest
from search_spaces.space import Value, choice_of
from search_spaces.spec.keys import Acts
from search_spaces.spec.overrides import parse_value
from search_spaces.spec.tree import all_fields

TRAINED = (Acts.TRAINING, Acts.STEREO, Acts.MONO)


@dataclass(frozen=True, kw_only=True)
class RangeChange:
    """Other bounds, another scale or other choices for one parameter; None and empty keep what the skill says."""

    low: float | None = None
    high: float | None = None
    log: bool | None = None
    step: float | None = None
    choices: tuple[Value, ...] = ()
    weights: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SpaceRequest:
    """`names` replace the default choice; a key of `changes` or `priors` alone is added to it, one of `without` is left out.

    `disabled_too` allows parameters that the schema marks as not searchable (`override_automl_disabled_params`).
    """

    names: tuple[str, ...] = ()
    changes: Mapping[str, RangeChange] = field(default_factory=dict)
    priors: Mapping[str, Value] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    disabled_too: bool = False

    def resolved(self, known: Collection[str], shorthands: Mapping[str, str]) -> SpaceRequest:
        """The same with every name as the dotted key it means; SpecError with the nearest one for a name that means none."""

        def key(name: str) -> str:
            return find_key(name, known, shorthands)

        names = tuple(dict.fromkeys(map(key, self.names)))
        changes = {key(name): change for name, change in self.changes.items()}
        priors = {key(name): value for name, value in self.priors.items()}
        for asked in (*changes, *priors):
            if names and asked not in names:
                raise SpecError(
                    f"{asked} has a range or a prior, but is not among the parameters asked for", hint=f"add {asked} to --params"
                )
        return replace(self, names=names, changes=changes, priors=priors, without=tuple(map(key, self.without)))

    @property
    def asked(self) -> tuple[str, ...]:
        """Every key that the user named."""
        return tuple(dict.fromkeys((*self.names, *self.changes, *self.priors)))


def find_key(name: str, known: Collection[str], shorthands: Mapping[str, str]) -> str:
    """The dotted key that `name` means among `known`; SpecError when it means none, or more than one key of training."""
    if name in known:
        return name
    if shorthands.get(name) in known:
        return shorthands[name]
    ending = [key for key in known if key.endswith(f".{name}")]
    trained = [key for key in ending if not _measures(key)]
    found = trained or ending
    if len(found) == 1:
        return found[0]
    if found:
        raise SpecError(f"{name} is the end of {len(found)} keys", hint=f"write one of {', '.join(found)}")
    guess = nearest(name, [*known, *shorthands]) or nearest(name, sorted({key.rsplit(".", 1)[-1] for key in known}))
    raise SpecError(f"unknown parameter {name}", hint=f"did you mean {guess}?" if guess else "`automl run --dry-run` shows the space")


def _measures(key: str) -> bool:
    info = all_fields().get(key)
    return info is not None and (info.acts not in TRAINED or key.startswith(("dataset.val", "dataset.test", "dataset.infer")))


def parse_names(text: str) -> tuple[str, ...]:
    """`lr, weight_decay` as names; SpecError when it names nothing."""
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise SpecError(
            "--params names no parameter", hint="for example --params lr,weight_decay; without it the skill's own space is used"
        )
    return names


def parse_range(text: str) -> tuple[str, RangeChange]:
    """Key and bounds of `KEY=LOW:HIGH[:log|linear|STEP]`."""
    key, bounds = _divide(text, "--range", "train.optim.lr=1e-5:1e-3:log")
    parts = [part.strip() for part in bounds.split(":")]
    values = [parse_value(part) for part in parts]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    scale = parts[2] if len(parts) == 3 else None
    if len(parts) not in (2, 3) or len(numbers) < len(parts) - (scale in ("log", "linear")) or len(numbers) < 2:
        hint = f"for example --range {key}=1:8, or --range {key}=1:8:log; the third part is log, linear or a step"
        raise SpecError(f"--range {text} is not KEY=LOW:HIGH", hint=hint)
    step = numbers[2] if len(numbers) == 3 else None
    log = None if scale not in ("log", "linear") else scale == "log"
    return key, RangeChange(low=numbers[0], high=numbers[1], log=log, step=step)


def parse_choices(text: str) -> tuple[str, RangeChange]:
    """Key and choices of `KEY=A,B`."""
    key, listed = _divide(text, "--choices", "train.optim.lr_scheduler=StepLR,PolynomialLR")
    choices = tuple(choice_of(value) for value in parse_value(f"[{listed}]", text))
    if len(set(map(str, choices))) < 2:
        raise SpecError(f"--choices {text} leaves nothing to choose", hint=f"name two or more: --choices {key}=A,B")
    return key, RangeChange(choices=choices)


def parse_prior(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`."""
    key, value = _divide(text, "--prior", "train.optim.lr=3e-4")
    guess = parse_value(value, text)
    if guess is None:
        raise SpecError(f"--prior {text} gives no value", hint=f"leave it out, or write --prior {key}=VALUE")
    return key, choice_of(guess)


def request_of(params: str | None, ranges: Sequence[str], choices: Sequence[str], priors: Sequence[str]) -> SpaceRequest:
    """What the options of the command line say together; SpecError for a key that is named twice."""
    changes: dict[str, RangeChange] = {}
    for key, change in (*map(parse_range, ranges), *map(parse_choices, choices)):
        if key in changes:
            raise SpecError(f"{key} has two ranges or choices", hint="give one --range or one --choices for it")
        changes[key] = change
    names = () if params is None else parse_names(params)
    return SpaceRequest(names=names, changes=changes, priors=dict(map(parse_prior, priors)))


def _divide(text: str, option: str, example: str) -> tuple[str, str]:
    key, equals, rest = text.partition("=")
    if not equals or not key.strip() or not rest.strip():
        raise SpecError(f"{option} {text} is not KEY=...", hint=f"for example {option} {example}")
    return key.strip(), rest.strip()
