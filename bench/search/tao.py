"""The brains of TAO AutoML under its own controller (extra `bench-tao`): Bayesian, Hyperband, ASHA, BOHB and DEHB.

The package is nvidia-tao-automl (https://pypi.org/project/nvidia-tao-automl, Apache-2.0).  A session is put together as its class
`AutoML` does it: the space goes in as the JSON schema of a training action, recommendations come out, one result for each goes back,
and the controller's `get_best` is what would be returned.  Its state, which it writes to files, is not kept.  Its runner starts the
jobs of a batch one after another; here they share all workers, and only what a brain itself waits for (Bayesian for each trial, the
others but ASHA for each rung) leaves workers idle.  A search that has run all its brackets is followed by a fresh one; of several the
best result at the largest budget counts, as within one.

Nothing of the brains is mended.  What this says about them (7.2.0):
- No schema keyword makes a scalar range logarithmic, so learning rates and decays are drawn evenly; nor can the spec's own values be
  tried first, as every other method here does.
- A draw at an end of a range is moved inwards by a tenth of that end, and by 1e-7 at zero.
- A failed job is told as 0.  Hyperband and DEHB rank it with the rest, so that under a loss it is promoted; the runner finds no
  checkpoint for it and tells a failure again, at no cost, as is done here.
- BOHB leaves failed trials out, and breaks off with an IndexError when fewer are left than a rung is to promote.  Somebody would start
  it again, so a fresh session follows at once.
- Hyperband, BOHB and DEHB lack the bracket that trains everything to the end.  BOHB and DEHB mix results of different budgets.
- Parameters that hang on another one are drawn always; those that are not active are left out of the training.
- It seeds the global generators with the hash of a name, which differs from process to process; they are seeded again afterwards.
"""

from __future__ import annotations

import copy
import logging
import math
import random
import warnings
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from bench.search.method import Clock, MakeMethod, Method, NotInstalled, Segment, Setting
from bench.search.peers import noise_seed
from bench.search.syne import active_values
from search_spaces.space import Parameter, SearchSpace
from trials.contract import Cause, Decision, State

BRAINS = {f"tao-{name}": name for name in ("bayesian", "hyperband", "asha", "bohb", "dehb")}
_EPOCHS = "train.num_epochs"  # where a brain writes how far a trial is to be trained
_ENDLESS = 10**9  # of what ends a session by a count; the budget of the simulation ends it


def tao_method(name: str) -> MakeMethod:
    """The method `name` of BRAINS; NotInstalled without the package, or without one that its brains import."""
    try:
        import tao_automl.brain.factory  # a missing need must show before the search
        import tao_automl.controller.controller
        import tao_automl.search_space.params  # noqa: F401
    except ImportError as error:
        raise NotInstalled(f"{error}; pip install -e '.[bench-tao]'") from error

    def make(setting: Setting, clock: Clock) -> Method:
        del clock
        return TaoSearch(setting, BRAINS[name])

    return make


class TaoSearch:
    """One brain, session after session; a trial's number is its session's first one plus the recommendation's own."""

    def __init__(self, setting: Setting, brain: str) -> None:
        logging.getLogger("tao_automl").setLevel(logging.ERROR)
        self._setting = setting
        self._brain = brain
        self._sessions: list[tuple[int, Any]] = []  # each with the number of its first trial
        self._queue: deque[tuple[int, Any]] = deque()
        self._until: dict[int, int] = {}
        self._last: dict[int, float] = {}
        self._failed: set[int] = set()
        self._begin()

    def ask(self) -> Segment | None:
        """The next of the batch, or None while the brain waits for the rest of it."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the fit of its Gaussian process
            while not self._queue and self._refill():
                pass
        if not self._queue:
            return None
        number, recommendation = self._queue.popleft()
        self._until[number] = int(recommendation.specs.get(_EPOCHS, self._setting.task.epochs))
        values = active_values(self._setting.task.space, recommendation.specs)
        return Segment(number=number, values=values, seed=noise_seed(self._setting, number))

    def report(self, number: int, epoch: int, cost: float, elapsed_s: float) -> Decision:
        """Go on to the epoch that the recommendation names."""
        del elapsed_s
        self._last[number] = cost
        return Decision.PAUSE if self._until[number] <= epoch < self._setting.task.epochs else Decision.CONTINUE

    def tell(self, number: int, state: State, cause: Cause | None, elapsed_s: float) -> None:
        """The last cost of the segment, or a failure."""
        del state, elapsed_s
        if cause is None:
            self._tell(number, self._last[number], "success")
        else:
            self._failed.add(number)
            self._tell(number, 0.0, "failure")

    def incumbent(self) -> int | None:
        """The best of each session by its own word, and of those the best at the largest budget."""
        best = [(first, session.get_best()) for first, session in self._sessions]
        ranked = [
            (-int(one.specs.get(_EPOCHS, self._setting.task.epochs)), one.result, first + one.id) for first, one in best if one is not None
        ]
        return min(ranked, default=(0, math.inf, None))[2]

    def _begin(self) -> None:
        """Another session of the same brain."""
        first = sum(len(session.get_history()) for _, session in self._sessions)
        session = _session(self._setting, self._brain, f"search-{first}")
        self._sessions.append((first, session))
        seed = int(np.random.SeedSequence([self._setting.seed, first]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the package draws from it

    def _refill(self) -> bool:
        """Take the next batch; False when the brain waits."""
        first, session = self._sessions[-1]
        try:
            batch = session.next_recommendation()
        except IndexError:  # too few of a rung have survived: the session is at its end
            self._begin()
            return True
        if not batch:
            if not session.is_complete():
                return False
            self._begin()
        for recommendation in batch:
            number = first + recommendation.id
            recommendation.assign_job_id(str(number))
            if number in self._failed:
                self._tell(number, 0.0, "failure")  # promoted without a checkpoint
            else:
                self._queue.append((number, recommendation))
        return True

    def _tell(self, number: int, cost: float, status: str) -> None:
        first, session = next(one for one in reversed(self._sessions) if one[0] <= number)
        session.report_result(number - first, cost, status=status)


class Unkept:
    """What a session keeps in files, without the files.  A search that is not resumed reads nothing back but its own spec."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._spec = spec

    def get_job_specs(self, job_id: str) -> dict[str, Any]:
        """The spec, for the caller to change."""
        del job_id
        return copy.deepcopy(dict(self._spec))

    def save_job_specs(self, job_id: str, specs: Mapping[str, Any]) -> None:
        """Another spec from now on."""
        del job_id
        self._spec = copy.deepcopy(specs)

    def get_custom_param_ranges(self, experiment_id: str) -> None:
        """None: the schema has the ranges."""

    def save_brain_info(self, job_id: str, state: Any) -> None:
        """Not kept."""

    def save_controller_info(self, job_id: str, recs: Any) -> None:
        """Not kept."""

    def save_best_rec_info(self, job_id: str, rec_number: int, rec_data: Any) -> None:
        """Not kept."""

    def lock(self) -> AbstractContextManager[None]:
        """Nobody else is there."""
        return nullcontext()


def _session(setting: Setting, algorithm: str, name: str) -> Any:
    """A controller with its brain."""
    from tao_automl.brain.factory import AlgorithmParams, BrainFactory
    from tao_automl.controller.controller import Controller
    from tao_automl.search_space.params import generate_hyperparams_to_search
    from tao_automl.types import AutoMLContext

    space = setting.task.space
    spec = copy.deepcopy(dict(setting.task.spec))
    spec["train"]["num_epochs"] = setting.task.epochs
    records, names = generate_hyperparams_to_search(
        network=space.skill,
        action="train",
        train_specs=spec,
        automl_hyperparameters=[parameter.key for parameter in space.parameters],
        schema=schema_of(space),
    )
    settings = AlgorithmParams.from_dict(
        {
            "automl_max_epochs": setting.task.epochs,
            "automl_reduction_factor": setting.eta,
            "automl_max_concurrent": setting.workers,
            "automl_max_recommendations": _ENDLESS,
            "automl_min_top_configs": _ENDLESS,
        }
    )
    metric = "val_loss"  # the word "loss" is what makes it minimise
    shared = {"context": AutoMLContext(id=name, network=space.skill, metric=metric), "state_store": Unkept(spec)}
    brain = BrainFactory.create_brain(
        algorithm=algorithm, network=space.skill, parameters=records, params=settings, metric=metric, **shared
    )
    return Controller(brain=brain, settings=settings, metric=metric, algorithm=algorithm, parameter_names=names, **shared)


def schema_of(space: SearchSpace) -> dict[str, Any]:
    """The schema of a training action with the parameters of `space`, nested by the dots of their keys."""
    root: dict[str, Any] = {"type": "object", "properties": {}}
    for parameter in space.parameters:
        *groups, name = parameter.key.split(".")
        node = root
        for group in groups:
            node = node["properties"].setdefault(group, {"type": "object", "properties": {}})
        node["properties"][name] = _leaf(parameter)
    return root


def _leaf(parameter: Parameter) -> dict[str, Any]:
    leaf: dict[str, Any] = {"default": parameter.default, "automl_enabled": True}
    match parameter.kind:
        case "float":
            return {**leaf, "type": "number", "minimum": parameter.low, "maximum": parameter.high}
        case "int":
            return {**leaf, "type": "integer", "minimum": int(parameter.low or 0), "maximum": int(parameter.high or 0)}
        case "bool":
            return {**leaf, "type": "boolean"}
        case _:
            return {**leaf, "type": "string", "enum": list(parameter.choices)}
