"""The brains of TAO AutoML in its own session class (extra `bench-tao`): Bayesian, Hyperband, ASHA, BOHB and DEHB.

The package is nvidia-tao-automl (https://pypi.org/project/nvidia-tao-automl, Apache-2.0).  A search is one `AutoML` session: the space
goes in as the JSON schema of a training action, recommendations come out, one result for each goes back, and its `get_best` is what
would be returned.  Its runner starts the jobs of a batch one after another; here they share all workers, and only what a brain itself
waits for (Bayesian for each trial, the others but ASHA for each rung) leaves workers idle.  A search that has run all its brackets is
followed by a fresh one; of several the best result at the largest budget counts, as within one.

Nothing of the brains is mended.  What this says about them (7.2.0):
- No schema keyword makes a scalar range logarithmic, so learning rates and decays are drawn evenly; nor can the spec's own values be
  tried first, as every other method here does.
- A draw at an end of a range is moved inwards by a tenth of that end, and by 1e-7 at zero.
- A failed job is told as 0.  Hyperband and DEHB rank it with the rest, so that under a loss it is promoted; the runner finds no
  checkpoint for it and tells a failure again, at no cost, as is done here.
- Hyperband, BOHB and DEHB lack the bracket that trains everything to the end.  BOHB and DEHB mix results of different budgets.
- Parameters that hang on another one are drawn always; those that are not active are left out of the training.
- It seeds the global generators with the hash of a name, which differs from process to process; they are seeded again afterwards.
"""

from __future__ import annotations

import copy
import logging
import math
import random
import shutil
import tempfile
import warnings
import weakref
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from bench.search.method import Clock, MakeMethod, Method, NotInstalled, Segment, Setting
from bench.search.peers import noise_seed
from bench.search.syne import active_values
from search_spaces.space import Parameter, SearchSpace
from trials.contract import Cause, Decision, State

BRAINS = {f"tao-{name}": name for name in ("bayesian", "hyperband", "asha", "bohb", "dehb")}
_EPOCHS = "train.num_epochs"  # where a brain writes how far a trial is to be trained
_IN_MEMORY = Path("/dev/shm")
_ENDLESS = 10**9  # of what ends a session by a count; the budget of the simulation ends it


def tao_method(name: str) -> MakeMethod:
    """The method `name` of BRAINS; NotInstalled without the package, or without one that its brains import."""
    try:
        from tao_automl import AutoML
        from tao_automl.brain import factory  # what a session imports late: a missing need must show before the search
        from tao_automl.search_space import params
    except ImportError as error:
        raise NotInstalled(f"{error}; pip install -e '.[bench-tao]'") from error
    del factory, params

    def make(setting: Setting, clock: Clock) -> Method:
        del clock
        return TaoSearch(setting, AutoML, BRAINS[name])

    return make


class TaoSearch:
    """One brain, session after session; a trial's number is its session's first one plus the recommendation's own."""

    def __init__(self, setting: Setting, automl: Any, brain: str) -> None:
        logging.getLogger("tao_automl").setLevel(logging.ERROR)
        self._setting = setting
        self._automl = automl
        self._brain = brain
        # a session writes its whole history for every result, to files only: in memory where there is such a folder
        self._folder = tempfile.mkdtemp(prefix="tao-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
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
        setting = self._setting
        first = sum(len(session.get_history()) for _, session in self._sessions)
        spec = copy.deepcopy(dict(setting.task.spec))
        spec["train"]["num_epochs"] = setting.task.epochs
        session = self._automl(
            workspace=f"{self._folder}/{first}",
            network=setting.task.space.skill,
            train_specs=spec,
            settings={
                "algorithm": self._brain,
                "metric": "val_loss",  # the word "loss" is what makes it minimise
                "automl_max_epochs": setting.task.epochs,
                "automl_reduction_factor": setting.eta,
                "automl_max_concurrent": setting.workers,
                "automl_max_recommendations": _ENDLESS,
                "automl_min_top_configs": _ENDLESS,
            },
            automl_hyperparameters=[parameter.key for parameter in setting.task.space.parameters],
            search_schema=schema_of(setting.task.space),
        )
        self._sessions.append((first, session))
        seed = int(np.random.SeedSequence([setting.seed, first]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - the package draws from it

    def _refill(self) -> bool:
        """Take the next batch; False when the brain waits."""
        first, session = self._sessions[-1]
        batch = session.next_recommendation()
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
