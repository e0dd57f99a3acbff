"""Where the trials of a study come from: a search draws them, a final lists them.

A source keeps no state: trial n depends on the config, on n and on what is known of the trials before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import optuna

from automl.algorithms import complete_settings
from automl.config import StudyConfig
from automl.course import Birth, FidelityRule
from automl.exploring import Heritage
from automl.fidelity import rule_of
from automl.front import best_of, further_of, turned
from automl.guesses import propose_guess
from automl.halving import Hyperband
from automl.population import PopulationRule
from automl.proposals import Need, Proposal, derive_seed
from automl.searchers import SEARCHERS, Searcher, find_searcher, startup_trials
from automl.several import check_several
from automl.snapshot import TrialStatus, TrialSummary
from automl.trial_record import NewTrial, TrialRecord
from automl.view import Observation
from search_spaces.errors import SpecError, StudyError
from search_spaces.space import Value
from search_spaces.spec import spec_from_dict, with_values

BASELINE = 0
MAX_DRAWS = 20
FEWEST_FOR_FINALISTS = 4  # trials
FINALISTS, FINALISTS_OF_A_FRONT = 2, 4


class TrialSource(Protocol):
    """Says how many trials there are and what the next one is."""

    @property
    def total(self) -> int:
        """Number of trials in all."""

    def has_next(self, records: Sequence[TrialRecord]) -> bool:
        """Whether there is another trial after `records`."""

    def draw(self, number: int, records: Sequence[TrialRecord], birth: Birth | None = None) -> NewTrial:
        """Trial `number`, given the records of all trials before it; only where there is one, or where the rule asks for a `birth`."""


class SearchSource:
    """Trial 0 is the spec as it stands (the baseline); the others are proposed by the searcher.

    StudyError for a searcher that is not known or cannot search this space.
    """

    def __init__(self, config: StudyConfig, rule: FidelityRule) -> None:
        self._config = config
        self._rule = rule
        self._searcher: Searcher = find_searcher(config.searcher)
        self._settings = complete_settings(config.settings, searcher=config.searcher, fidelity=config.fidelity)
        _check_pair(self._searcher, rule)
        check_several(self._searcher, rule, config)
        if self._searcher.check is not None:
            self._searcher.check(config.space, self._settings)
        self._seen: dict[int, tuple[TrialRecord, int, Observation | None]] = {}  # with the revision that was looked at
        self._spec = spec_from_dict(config.spec)
        self._earlier = config.head_start.observations()

    @property
    def total(self) -> int:
        """`--trials`; the baseline counts."""
        return self._config.trials

    def has_next(self, records: Sequence[TrialRecord]) -> bool:
        """Until `--trials` are there, or the searcher has nothing left to propose."""
        left, number = self._searcher.left, len(records)
        return number < self.total and (left is None or number == BASELINE or left(self._need(number, records)))

    def draw(self, number: int, records: Sequence[TrialRecord], birth: Birth | None = None) -> NewTrial:
        """The baseline, a point of the head start, a proposal from what is known of `records`, or the child of a donor."""
        config = self._config
        seed, folder = derive_seed(config.seed, "train", number), f"trials/{number:04d}"
        granted = self._rule.first_grant(number) if birth is None else birth.to_epoch
        points = config.head_start.points
        if number == BASELINE:
            return NewTrial(values=config.space.values_of(self._spec), seed=seed, folder=folder, granted=granted, exempt=True)
        if birth is None and number <= len(points):
            point = points[number - 1]
            return NewTrial(values=point.values, seed=seed, folder=folder, granted=granted, origin={"source": point.source})
        proposal = self._propose(number, records) if birth is None else self._child(number, records, birth)
        return NewTrial(values=proposal.values, seed=seed, folder=folder, granted=granted, origin=proposal.origin)

    def _child(self, number: int, records: Sequence[TrialRecord], birth: Birth) -> Proposal:
        explore, direction = self._searcher.explore, self._config.direction
        assert explore is not None
        donor = records[birth.donors[derive_seed(self._config.seed, "donor", number) % len(birth.donors)]]
        heritage = Heritage(number=donor.number, values=donor.values, epoch=birth.epoch)
        found = self._allowed(number, records, lambda need, seen: explore(need, heritage, seen, direction))
        return replace(found, origin={**found.origin, "replaces": birth.replaces})

    def _need(self, number: int, records: Sequence[TrialRecord]) -> Need:
        config = self._config
        return Need(
            seed=config.seed,
            number=number,
            space=config.space,
            startup=startup_trials(config.trials),
            rung=self._rule.first_grant(number),
            tried=[record.values for record in records],
            origins=[record.origin for record in records],
            settings=self._settings,
            further=len(config.further),
            allowed=lambda values: self._refusal(values) is None,
        )

    def _propose(self, number: int, records: Sequence[TrialRecord]) -> Proposal:
        """A proposal of the searcher; a model may insist on its favourite, so at last the draws are random."""

        turn = number - len(self._config.head_start.points)

        def draw(need: Need, seen: Sequence[Observation]) -> Proposal:
            guess = propose_guess(need, turn=turn, own=self._config.space.values_of(self._spec)) if self._searcher.left is None else None
            if guess is not None:
                return guess
            searcher = self._searcher if need.attempt < MAX_DRAWS // 2 else find_searcher("random")
            return searcher.propose(need, seen, self._config.direction)

        return self._allowed(number, records, draw)

    def _allowed(self, number: int, records: Sequence[TrialRecord], draw: Callable[[Need, Sequence[Observation]], Proposal]) -> Proposal:
        """A draw that the spec's own rules allow; what they forbid is drawn again and costs no trial."""
        need, observations = self._need(number, records), self._observations(records)
        refused: SpecError | None = None
        for attempt in range(MAX_DRAWS):
            proposal = draw(replace(need, attempt=attempt), observations)
            refused = self._refusal(proposal.values)
            if refused is None:
                return proposal
        assert refused is not None
        raise StudyError(
            f"{MAX_DRAWS} proposals in a row break a rule of the spec: {refused.message}",
            hint="narrow the search space; start a new study with it",
        )

    def _refusal(self, values: Mapping[str, Value]) -> SpecError | None:
        """Why the rules of the space or of the spec forbid `values`, or None."""
        try:
            self._config.space.check_relations(values)
            with_values(self._spec, values)
        except SpecError as error:
            return error
        return None

    def _observations(self, records: Sequence[TrialRecord]) -> list[Observation]:
        """What may be learnt from: no crash, and no baseline from outside the space; trials of earlier studies first."""
        found = list(self._earlier)
        for record in records:
            seen = self._seen.get(record.number)
            if seen is None or seen[0] is not record or seen[1] != record.revision:
                seen = self._seen[record.number] = (record, record.revision, self._observation(record))
            if seen[2] is not None:
                found.append(seen[2])
        return found

    def _observation(self, record: TrialRecord) -> Observation | None:
        """What `record` teaches, None for nothing."""
        crashed = record.status is TrialStatus.FAILED and not record.infeasible
        if crashed or record.params.keys() != record.values.keys():
            return None
        sign = 1.0 if self._config.direction == "minimize" else -1.0
        best = {rung: sign * cost for rung in self._rule.rungs if (cost := _best(record, rung, sign)) is not None}
        beside = further_of(record, self._config.further)
        return Observation(
            number=record.number,
            params=record.params,
            best_by_rung={} if record.infeasible else best,
            complete=record.status is TrialStatus.COMPLETE,
            running=not record.status.ended,
            infeasible=record.infeasible,
            beside=turned(beside, self._config.further),
            origin=record.origin,
        )


def usual_trials(config: StudyConfig) -> int | None:
    """How many trials a search has when nobody says it: a whole grid and the baseline, a round of all brackets; None for any other.

    StudyError as SearchSource.
    """
    rule, searcher = rule_of(config), find_searcher(config.searcher)
    settings = complete_settings(config.settings, searcher=config.searcher, fidelity=config.fidelity)
    if searcher.check is not None:
        searcher.check(config.space, settings)
    if searcher.size is not None:
        return 1 + searcher.size(config.space, settings)
    return rule.round_of_trials if isinstance(rule, Hyperband) else None


def usual_finalists(trials: int, config: StudyConfig) -> int:
    """How many configurations a search of so many trials trains again when nobody says it."""
    if trials < FEWEST_FOR_FINALISTS:
        return 0
    return FINALISTS_OF_A_FRONT if config.further else FINALISTS


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial of the search that is trained again, with another seed."""

    parent: int
    values: Mapping[str, Value]
    repeat: int  # 2, 3, ...: the search's own run was the first
    seed: int

    def to_data(self) -> dict[str, Any]:
        """Plain data."""
        return {"parent": self.parent, "values": dict(self.values), "repeat": self.repeat, "seed": self.seed}


class FinalistSource:
    """The listed trials, one after another, at the full budget."""

    def __init__(self, finalists: Sequence[Finalist], epochs: int) -> None:
        self._finalists = tuple(finalists)
        self._epochs = epochs

    @property
    def total(self) -> int:
        """As many as are listed."""
        return len(self._finalists)

    def has_next(self, records: Sequence[TrialRecord]) -> bool:
        """Until the list is through."""
        return len(records) < self.total

    def draw(self, number: int, records: Sequence[TrialRecord], birth: Birth | None = None) -> NewTrial:
        """The finalist at position `number`."""
        del records, birth
        chosen = self._finalists[number]
        folder = f"finalists/{chosen.parent:04d}-seed{chosen.repeat}"
        return NewTrial(values=chosen.values, seed=chosen.seed, folder=folder, granted=self._epochs, exempt=True, parent=chosen.parent)


def list_finalists(final: optuna.Study, trials: tuple[TrialSummary, ...], config: StudyConfig) -> list[Finalist]:
    """The finalists of a search over `trials`, kept with its `final`; after an extension the best of now follow those begun."""
    listed = [Finalist(**data) for data in final.user_attrs.get("finalists", [])]
    if final.user_attrs.get("chosen_among") != len(trials):
        listed = listed[: len(final.get_trials(deepcopy=False))]
        listed += [one for one in choose_finalists(best_of(trials, config, config.finalists), config) if one not in listed]
        final.set_user_attr("finalists", [one.to_data() for one in listed])
        final.set_user_attr("chosen_among", len(trials))
    return listed


def choose_finalists(best_first: Sequence[TrialSummary], config: StudyConfig) -> tuple[Finalist, ...]:
    """`config.finalist_seeds` more runs of each of the first `config.finalists` trials, each with its own seed."""
    return tuple(
        Finalist(
            parent=trial.number, values=dict(trial.values), repeat=repeat, seed=derive_seed(config.seed, "final", trial.number, repeat)
        )
        for trial in best_first[: config.finalists]
        for repeat in range(2, 2 + config.finalist_seeds)
    )


def _check_pair(searcher: Searcher, rule: FidelityRule) -> None:
    """StudyError for a population without a searcher that explores, or the other way round."""
    if (searcher.explore is None) == isinstance(rule, PopulationRule):
        explorers = " or ".join(item.name for item in SEARCHERS.values() if item.explore is not None)
        raise StudyError(
            f"the searcher {searcher.name} and the fidelity rule {rule.name} do not go together",
            hint=f"the rule population goes with the searcher {explorers}, and with no other",
        )


def _best(record: TrialRecord, rung: int, sign: float) -> float | None:
    """The best cost of `record` up to `rung`, None when it has not come there."""
    if not record.curve or max(record.curve) < rung:
        return None
    return min((sign * value for epoch, value in record.curve.items() if epoch <= rung), default=sign * record.curve[min(record.curve)])
