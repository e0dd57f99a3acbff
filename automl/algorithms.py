"""Names of whole algorithms -> a searcher and a fidelity rule, and the settings each of them reads.

An algorithm is a pair by one name: `--algorithm bohb` means the searcher `bohb` with the rule `hyperband`, and `--searcher` or
`--fidelity` beside it replace one of the two.  Names, settings and bounds are those of TAO AutoML where it has them.  A setting
either stands for a field of the study's config (`automl_max_epochs` is `epochs`) or is kept in its `settings`, complete with the
defaults of the day the study was made, so that a resumed study goes on as it began.

Nothing heavy is imported here: command lines read this table for their help.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from search_spaces.errors import StudyError, UnsupportedError, nearest

SettingValue = int | float | str
GENERATIONS = 20  # of a population, when nothing is said
DEFAULT_ALGORITHM = "mfgp"  # chosen by docs/adr/0010-default-search.md
DEFAULT_FOR_SEVERAL = "tpe"  # objectives: `mfgp` ranks by one


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: bounds included, `options` for texts.  `default` None: it is left out, or follows from others as `summary` says.

    `field` is the field of StudyConfig that it stands for.
    """

    name: str
    summary: str
    kind: Literal["int", "float", "text"]
    default: SettingValue | None = None
    low: float | None = None
    high: float | None = None
    options: tuple[str, ...] = ()
    field: str | None = None

    def check(self, value: object) -> SettingValue:
        """`value` as it is kept; StudyError says what it must be."""
        legal = isinstance(value, str) and (not self.options or value in self.options) if self.kind == "text" else self._is_number(value)
        if not legal:
            raise StudyError(f"{self.name} must be {self.describe()}, but got {value!r}", hint=f"{self.name}: {self.summary}")
        assert isinstance(value, int | float | str)
        return int(value) if self.kind == "int" else float(value) if self.kind == "float" else value

    def _is_number(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        whole = self.kind == "float" or value == int(value)
        return whole and (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def describe(self) -> str:
        """What it may be, in words: `a whole number >= 2`, `a number in [0, 1]`, `one of a, b`."""
        if self.kind == "text":
            return f"one of {', '.join(self.options)}" if self.options else "a text"
        kind = "a whole number" if self.kind == "int" else "a number"
        if self.low is not None and self.high is not None:
            return f"{kind} in [{self.low:g}, {self.high:g}]"
        return f"{kind} >= {self.low:g}" if self.low is not None else kind


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A searcher and a fidelity rule by one name.

    `repeatable` is False where the winner is a course of values and not one configuration, so that it cannot be trained again from
    its values: such a search has no finalists.  `rungs` is how many there are when the lowest one is not said; None: as many as the
    budget can be divided into.
    """

    name: str
    searcher: str
    fidelity: str
    summary: str
    aliases: tuple[str, ...] = ()
    repeatable: bool = True
    rungs: int | None = None

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Every setting that it reads, those of the study first."""
        return settings_of(self.searcher, self.fidelity)


def _whole(name: str, default: int | None, low: int, summary: str, *, high: int | None = None, field: str | None = None) -> Setting:
    return Setting(name=name, kind="int", default=default, low=low, high=high, summary=summary, field=field)


def _number(name: str, default: float | None, low: float, high: float, summary: str) -> Setting:
    return Setting(name=name, kind="float", default=default, low=low, high=high, summary=summary)


_TRIALS = _whole("automl_max_recommendations", None, 1, "configurations to try, the baseline counts; the same as --trials", field="trials")
_PARALLEL = _whole("automl_max_concurrent", None, 1, "trials at once; the same as --parallel", field="parallel")
_EPOCHS = _whole("automl_max_epochs", None, 2, "full budget of a trial in units of epoch_multiplier; the same as --epochs", field="epochs")
_UNIT = _whole("epoch_multiplier", 1, 1, "epochs of one unit of budget; the lowest rung", field="min_epochs")
_ETA = _whole("automl_reduction_factor", 3, 2, "of so many trials at a rung the best one goes on", field="reduction_factor")
_SIZE = _whole("automl_population_size", None, 2, "members of the population, the baseline counts; the same as --trials", field="trials")
_EXPLORE = (
    _number("perturbation_factor", 1.2, 1, 10, "a value that can change is multiplied or divided by this"),
    _number("resample_prob", 0.2, 0, 1, "share of the values that are drawn anew instead"),
)
_VIEW = Setting(
    name="sampler_view",
    kind="text",
    default=None,
    options=("pruned", "running", "same-rung"),
    summary="what the sampler sees of trials that did not reach the full budget; each searcher has its own default",
)

SEARCHER_SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    "mfgp": (),
    "tpe": (_VIEW,),
    "random": (),
    "bohb": (
        _whole("kde_samples", 64, 1, "draws from the good configurations of which the most promising is taken"),
        _number("top_n_percent", 15, 1, 50, "share of the configurations at a rung that count as good"),
        _whole("min_points_in_model", 10, 3, "configurations at a rung before it is modelled"),
        _number("random_share", 0.1, 0, 1, "share of proposals that are random whatever the model says; a third in the paper"),
    ),
    "dehb": (
        _number("mutation_factor", 0.5, 0, 2, "how much of the difference of two members is added to a third"),
        _number("crossover_prob", 0.5, 0, 1, "share of the parameters that a child takes from that sum and not from its parent"),
    ),
    "pbt": _EXPLORE,
    "pb2": _EXPLORE,
    "grid": (_whole("grid_levels", 3, 1, "values of a range without a step, from its lower to its upper end"),),
    "llm": (
        Setting(
            name="llm_endpoint", kind="text", summary="address of the server, http://127.0.0.1:8000/v1 for instance; or AUTOML_LLM_ENDPOINT"
        ),
        Setting(name="llm_model", kind="text", summary="name of the model on that server; or AUTOML_LLM_MODEL"),
        _number("temperature", 0.7, 0, 2, "how freely the model answers"),
        _whole("max_tokens", 4096, 1, "length of an answer at most"),
    ),
    "qmc": (),
    "gp": (_VIEW,),
    "cmaes": (_VIEW,),
    "bfbo": (),
}

_HALVING = (_EPOCHS, _UNIT, _ETA)
FIDELITY_SETTINGS: Mapping[str, tuple[Setting, ...]] = {
    "full": (_EPOCHS,),
    "median": (_EPOCHS, _UNIT),
    "asha": (
        *_HALVING,
        _whole("min_top_configs", 1, 1, "trials at the full budget before the search ends, the baseline counts; TAO says 5"),
    ),
    "hyperband": _HALVING,
    "population": (
        _EPOCHS,
        _SIZE,
        _whole("automl_eval_interval", None, 1, f"epochs of a generation; left out: a {GENERATIONS}th of the full budget"),
        _whole("automl_max_generations", None, 1, "generations in all: with automl_eval_interval another way to say the full budget"),
        _number("exploit_share", 0.2, 0.01, 0.5, "share of the members that are replaced, and of those that are copied, in a generation"),
    ),
    "hyperband_es": (
        *_HALVING,
        _whole("min_early_stop_epochs", 3, 1, "epochs of a trial before its curve is looked at; at least three are needed"),
        _number(
            "early_stop_threshold", 0.1, 0, 1, "a trial is stopped when its chance to end better than the best other one is below this"
        ),
    ),
}

ALGORITHMS: Mapping[str, Algorithm] = {
    item.name: item
    for item in (
        Algorithm(
            name="mfgp",
            searcher="mfgp",
            fidelity="asha",
            summary="a Gaussian process over all rungs proposes, asynchronous successive halving stops early",
            rungs=3,
        ),
        Algorithm(name="tpe", searcher="tpe", fidelity="asha", summary="TPE proposes, asynchronous successive halving stops early"),
        Algorithm(
            name="bayesian",
            searcher="gp",
            fidelity="full",
            summary="Gaussian process with expected improvement; few, full-length trials",
            aliases=("b",),
        ),
        Algorithm(
            name="bfbo",
            searcher="bfbo",
            fidelity="full",
            summary="Gaussian process with a confidence bound, for many full-length trials at once",
        ),
        Algorithm(
            name="hyperband",
            searcher="random",
            fidelity="hyperband",
            summary="successive halving in brackets that begin at different rungs, over independent draws",
            aliases=("h",),
        ),
        Algorithm(
            name="hyperband_es",
            searcher="random",
            fidelity="hyperband_es",
            summary="hyperband that stops a trial early when its curve will probably not reach the best of the others",
            aliases=("hes",),
        ),
        Algorithm(name="asha", searcher="random", fidelity="asha", summary="asynchronous successive halving over independent draws"),
        Algorithm(name="bohb", searcher="bohb", fidelity="hyperband", summary="hyperband over a density model of the good configurations"),
        Algorithm(
            name="dehb", searcher="dehb", fidelity="hyperband", summary="hyperband over differential evolution, a population per rung"
        ),
        Algorithm(
            name="pbt",
            searcher="pbt",
            fidelity="population",
            summary="population based training: the worst members go on from the state of the best with perturbed values",
            repeatable=False,
        ),
        Algorithm(
            name="pb2",
            searcher="pb2",
            fidelity="population",
            summary="population based training whose children get the values a Gaussian process expects most of",
            repeatable=False,
        ),
        Algorithm(name="random", searcher="random", fidelity="full", summary="independent draws, all trained to the end; the yardstick"),
        Algorithm(name="qmc", searcher="qmc", fidelity="full", summary="points that fill the space evenly, all trained to the end"),
        Algorithm(name="grid", searcher="grid", fidelity="full", summary="every combination of a few values, all trained to the end"),
        Algorithm(name="cmaes", searcher="cmaes", fidelity="full", summary="CMA-ES on the numeric parameters; for many trials"),
        Algorithm(name="median", searcher="tpe", fidelity="median", summary="TPE proposes, what is worse than the median stops"),
        Algorithm(
            name="llm",
            searcher="llm",
            fidelity="full",
            summary="a language model behind an endpoint of yours proposes; refused without one",
        ),
    )
}
REFUSED: Mapping[str, str] = {
    "hybrid": "it plans whole phases by a language model and falls back to other searches where that fails",
    "autoresearch": "its knowledge notes cover detection and segmentation networks, none for depth",
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm of that name or alias; StudyError suggests the nearest one, UnsupportedError says why TAO's is not here."""
    for algorithm in ALGORITHMS.values():
        if name == algorithm.name or name in algorithm.aliases:
            return algorithm
    if name in REFUSED:
        raise UnsupportedError(f"the algorithm {name} is not in this release: {REFUSED[name]}", hint=f"use {DEFAULT_ALGORITHM} or bayesian")
    near = nearest(name, ALGORITHMS)
    hint = f"did you mean {near}?" if near else f"leave it out for {DEFAULT_ALGORITHM}"
    raise StudyError(f"unknown algorithm {name!r}; known are {', '.join(ALGORITHMS)}", hint=hint)


def usual_lowest(searcher: str, fidelity: str, *, epochs: int, eta: int) -> int:
    """The lowest rung when none is asked for: one epoch, unless the algorithm of this pair says how many rungs it wants."""
    rungs = [item.rungs for item in ALGORITHMS.values() if (item.searcher, item.fidelity) == (searcher, fidelity) and item.rungs]
    return max(1, epochs // eta ** (rungs[0] - 1)) if rungs else 1


def settings_of(searcher: str, fidelity: str) -> tuple[Setting, ...]:
    """What a searcher and a rule read together, those of the study first; nothing of its own for a name that is not known."""
    return (_TRIALS, _PARALLEL, *FIDELITY_SETTINGS.get(fidelity, ()), *SEARCHER_SETTINGS.get(searcher, ()))


def check_settings(given: Mapping[str, Any], *, searcher: str, fidelity: str) -> dict[str, SettingValue]:
    """`given` as it is kept; StudyError for a name that nobody reads (with the nearest one) and for a value out of bounds."""
    known = {setting.name: setting for setting in settings_of(searcher, fidelity)}
    checked = {}
    for name, value in given.items():
        if name not in known:
            raise _unread(name, known, f"{searcher} with {fidelity}")
        checked[name] = known[name].check(value)
    return checked


def complete_settings(given: Mapping[str, Any], *, searcher: str, fidelity: str) -> dict[str, SettingValue]:
    """The settings a study keeps: checked, without those that are fields of its config, with a value for each that has a default."""
    checked = check_settings(given, searcher=searcher, fidelity=fidelity)
    own = [setting for setting in settings_of(searcher, fidelity) if setting.field is None]
    values = {setting.name: checked.get(setting.name, setting.default) for setting in own}
    return {name: value for name, value in values.items() if value is not None}


def study_fields(given: Mapping[str, Any], *, searcher: str, fidelity: str) -> dict[str, int]:
    """Fields of StudyConfig that `given` settings decide; nothing for what they do not say."""
    checked = check_settings(given, searcher=searcher, fidelity=fidelity)
    known = {setting.name: setting.field for setting in settings_of(searcher, fidelity)}
    fields = {field: int(value) for name, value in checked.items() if (field := known[name]) is not None}
    if "epochs" in fields:
        fields["epochs"] *= fields.get("min_epochs", 1)
    if "automl_max_generations" in checked:
        fields["epochs"] = _epochs_of_generations(checked, fields.get("epochs"))
    return fields


def _epochs_of_generations(checked: Mapping[str, SettingValue], epochs: int | None) -> int:
    generations, interval = int(checked["automl_max_generations"]), checked.get("automl_eval_interval")
    if interval is None:
        raise StudyError(
            f"automl_max_generations={generations} says nothing without the epochs of a generation",
            hint="give automl_eval_interval too, or automl_max_epochs instead",
        )
    found = generations * int(interval)
    if epochs is not None and epochs != found:
        raise StudyError(
            f"{generations} generations of {interval} epochs are {found} epochs, but automl_max_epochs is {epochs}",
            hint="leave one of the three out",
        )
    return found


def _unread(name: str, known: Mapping[str, Setting], pair: str) -> StudyError:
    near = nearest(name, known)
    tables = (*SEARCHER_SETTINGS.items(), *FIDELITY_SETTINGS.items())
    owners = [owner for owner, settings in tables if any(setting.name == name for setting in settings)]
    if owners:
        return StudyError(f"the setting {name} is read by {', '.join(owners)}, but not by {pair}", hint="leave it out")
    hint = f"did you mean {near}?" if near else f"{pair} read {', '.join(known)}"
    return StudyError(f"unknown setting {name!r}", hint=hint)
