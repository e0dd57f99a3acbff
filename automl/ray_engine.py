"""The Ray engine: Ray Tune starts, places, reuses and restarts the workers; the study decides everything else.

Facts of Ray 2.60 this file rests on: `suggest` is asked one trial ahead, so it answers None while all slots are busy;
Ray's own pause and stop are not used, workers return by themselves; a worker that dies ends its Ray trial with an
error, and the next segment of that trial is a new Ray trial.  Design decision 2 has the reasons.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import FrameType
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from automl.cluster import HeadWatch, anywhere_but, describe, faults_of, here, nodes
from automl.config import CONFIG_FILE
from automl.console import count_text
from automl.database import LeaseLost
from automl.engine import Proceedings, RunTrial
from automl.events import OnEvent, ignore
from automl.mailbox import Begun, Mailbox, WorkOrder
from automl.own_code import code_root
from automl.ray_session import RaySession
from automl.ray_worker import FATAL, RESULT, SegmentTrainable
from automl.silence import SilenceWatch
from automl.snapshot import StudySnapshot, TrialStatus
from automl.study import Study
from automl.worksite import Fault, digest_of
from search_spaces.errors import StudyError, shell_word
from trials.contract import Cause, Decision, Failure, State, TrialResult, report_from_json, result_from_json, trial_spec_to_json

_PATIENCE_S = 0.25
_LOOK_S = 1.0  # between two looks at trials that nobody has begun
_DEATHS = 2  # of a trial's workers on one node, after which it goes elsewhere
_AGAIN_S = 300.0  # after so long it is said again that no node is left


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where the workers of one search send their reports: an actor and the name they find it by."""

    name: str
    mailbox: Any


def run_ray(study: Study, session: RaySession, *, run: RunTrial | None = None, on_event: OnEvent = ignore) -> StudySnapshot:
    """Run `study` to its end, as many trials at a time as its config and `session` allow, and give the last snapshot.

    `run` must be importable by a worker; None is `trials.run.run_trial`.  The first Ctrl-C or SIGTERM lets running trials pause at their
    next validation, the second ends them at once; both leave a study that can be resumed.  A node that cannot work on the study is said
    once and gets no trials; StudyError when no other is left.
    """
    study_file = study.folder / CONFIG_FILE
    order = WorkOrder(
        run=run,
        root=code_root(),
        code=session.code,
        study_file=study_file,
        study_digest=digest_of(study_file),
        working_folder=study.config.working_folder.resolve(),
        gpus=session.resources["GPU"],
    )
    faults = faults_of(session.usable(), order) if session.slots is None else {}
    session.avoided.update(faults)
    if faults and not session.room():
        raise session.none_left()
    proceedings = Proceedings(study, on_event)
    name = f"segments-{uuid.uuid4().hex}"  # a session may run several studies
    mailbox = ray.remote(num_cpus=0)(Mailbox).options(name=name, scheduling_strategy=here()).remote(order)
    proceedings.begin()
    for node, fault in faults.items():
        proceedings.avoid(node.host, message=fault.message, hint=fault.hint)
    try:
        _search(study, proceedings, Address(name=name, mailbox=mailbox), session)
    finally:
        ray.kill(mailbox)
    for trial in study.snapshot().trials:
        if trial.status is TrialStatus.RUNNING:  # its process was ended by a second Ctrl-C or a fault of ours
            proceedings.end_trial(_result(trial.number, State.INTERRUPTED))
    return proceedings.end()


def _search(study: Study, proceedings: Proceedings, address: Address, session: RaySession) -> None:
    """Let Ray Tune ask until nothing is left; raise what went wrong on our own side."""
    watch = SilenceWatch(study.config.limits.trial_timeout_s)
    courier = Courier(proceedings, address.mailbox, watch, head=HeadWatch(study.config.address), place=shell_word(study.folder))
    searcher = StudySearcher(study, proceedings, address, session=session, courier=courier)
    tuner = tune.Tuner(
        tune.with_resources(SegmentTrainable, _placement),
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            name=address.name,
            storage_path=str(session.scratch / "tune"),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a trial keeps its own
        ),
    )
    courier.start()
    try:
        with _interruptible(courier):
            tuner.fit()
    except _NothingBegun:
        pass  # what was given out can be resumed
    except KeyboardInterrupt:
        proceedings.interrupt("interrupted again: running trials are ended now; they resume from their last checkpoint")
    finally:
        courier.stop()
    if courier.error is not None:
        raise courier.error


class _NothingBegun(Exception):
    """The search is to pause, and no worker has begun what was given out: Tune would wait for a place for ever."""


class StudySearcher(Searcher):  # type: ignore[misc]  # Ray carries no types
    """What Ray Tune asks for the next trial; every answer is the study's.

    Called from Tune's loop alone.  A Ray trial is one segment.
    """

    def __init__(self, study: Study, proceedings: Proceedings, address: Address, *, session: RaySession, courier: Courier) -> None:
        super().__init__()
        self._study = study
        self._proceedings = proceedings
        self._address = address
        self._session = session
        self._courier = courier
        self._running: dict[str, int] = {}
        self._tickets = 0
        self._deaths: Counter[tuple[int, str]] = Counter()  # of the workers of a trial on a node
        self._looked_at = 0.0  # seconds of the monotonic clock
        self._told_at: float | None = None  # that no node is left; None while there is one

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """The next segment, None while slots are full or nothing can start, FINISHED at the end; StudyError when all nodes are avoided."""
        room = self._session.room()
        if not room and self._session.avoided:
            raise self._end_for(self._session.none_left())
        self._tell_room(room)
        if self._running and self._none_begun():
            raise _NothingBegun
        if self._running and len(self._running) >= min(room, self._study.config.parallel):
            return None
        if self._courier.error is not None or self._study.finished():
            return str(Searcher.FINISHED)
        trial = self._proceedings.next_trial() if room else None
        if trial is None:
            return str(Searcher.FINISHED) if self._study.finished() else None
        ticket, self._tickets = self._tickets, self._tickets + 1
        ray.get(self._address.mailbox.put_spec.remote(ticket, trial_spec_to_json(trial)))
        self._courier.tickets[trial.number] = ticket
        self._running[trial_id] = trial.number
        place = {"resources": dict(self._session.resources), "avoided": sorted(self._avoided_by(trial.number))}
        return {"ticket": ticket, "mailbox": self._address.name, **place}

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """A segment ended: with its result, or with a dead process, which is the machine's fault."""
        del error
        number = self._running.pop(trial_id, None)
        if number is None:
            return
        ticket, timeout = self._courier.tickets[number], self._courier.watch.ended(number)
        fatal = None if result is None else result.get(FATAL)
        text = None if result is None else result.get(RESULT)
        if fatal is None and text is None:
            self._note_death(number, ticket)
        self._address.mailbox.retire.remote(ticket)
        if fatal is not None:
            self._avoid(*json.loads(fatal))
            self._proceedings.end_trial(_result(number, State.INTERRUPTED))  # it goes on elsewhere, at once and without charge
        elif text is None:
            failure = timeout or Failure(cause=Cause.INFRASTRUCTURE, message="the worker process died")
            self._proceedings.end_trial(_result(number, State.FAILED, error=failure))
        else:
            self._proceedings.end_trial(result_from_json(json.loads(text)))

    def _tell_room(self, room: int) -> None:
        """Say that no node is left, at once and again now and then, and when there is one again."""
        now, session, place = time.monotonic(), self._session, shell_word(self._study.folder)
        if room and self._told_at is not None:
            self._told_at = None
            self._proceedings.tell_room(f"the cluster has room for {count_text(room, 'trial')} again")
        elif not room and (self._told_at is None or now - self._told_at >= _AGAIN_S):
            self._told_at = now
            lost = f"no node of the cluster has room for a trial ({describe(session.resources)}) any more"
            waits = f"the search waits for one to join {self._study.config.address}"
            out = f"Ctrl-C or `automl stop {place}` ends it, `automl resume {place}` goes on later"
            self._proceedings.tell_room(f"{lost}: {waits}; {out}")

    def _none_begun(self) -> bool:
        """Whether running trials are to pause, and no worker has taken any: nobody would report."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return False
        self._looked_at = now
        if self._courier.error is None and not self._study.pausing():
            return False
        tickets = [self._courier.tickets[number] for number in self._running.values()]
        try:
            return not ray.get(self._address.mailbox.any_begun.remote(tickets))
        except ray.exceptions.RayError:
            return True  # nobody can report any more

    def _note_death(self, number: int, ticket: int) -> None:
        """Remember on which node a worker of the trial died, where that is known."""
        with contextlib.suppress(ray.exceptions.RayError):
            node_id = ray.get(self._address.mailbox.node_of.remote(ticket))
            if node_id is not None:
                self._deaths[number, node_id] += 1

    def _avoided_by(self, number: int) -> set[str]:
        """Nodes that a trial keeps off: those that cannot work, and while there is another one, those on which its workers died."""
        died = {node_id for (trial, node_id), count in self._deaths.items() if trial == number and count >= _DEATHS}
        elsewhere = bool(died) and any(node.node_id not in died for node in self._session.usable())
        return {node.node_id for node in self._session.avoided} | (died if elsewhere else set())

    def _avoid(self, node_id: str, message: str, hint: str) -> None:
        """Give a node nothing more."""
        avoided = self._session.avoided
        for node in nodes():
            if node.node_id == node_id and node not in avoided:  # several trials may have been there
                avoided[node] = Fault(message=message, hint=hint)
                if self._session.room():  # else it is all that is said
                    self._proceedings.avoid(node.host, message=message, hint=hint)

    def _end_for(self, error: StudyError) -> StudyError:
        """Let what waits for a node be resumed another time; gives `error`."""
        self._study.interrupt(error.message)
        for trial_id in list(self._running):
            number = self._running.pop(trial_id)
            self._address.mailbox.retire.remote(self._courier.tickets[number])
            self._proceedings.end_trial(_result(number, State.INTERRUPTED))
        self._study.finished()  # which notes the end
        return error

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study's journal is the record."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing of a live search can be carried elsewhere; Tune stores this, nobody restores it."""
        return {}


class Courier:
    """A thread that brings the workers' reports to the study and the answers back.

    An error of the study itself or of who watches it (a full disk, a closed pipe) is kept in `error`; from then on every report is
    answered with PAUSE, so that workers save themselves and return.  Nothing ends the thread before `stop`: workers would wait for their
    answers for ever.
    """

    def __init__(self, proceedings: Proceedings, mailbox: Any, watch: SilenceWatch, *, head: HeadWatch, place: str) -> None:
        self.error: Exception | None = None
        self.watch = watch
        self.tickets: dict[int, int] = {}  # of the running segment of each trial
        self.interrupted = threading.Event()
        self._proceedings = proceedings
        self._mailbox = mailbox
        self._head, self._place = head, place  # that of the study, as a shell reads it
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._deliver, name="courier", daemon=True)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """End after the current round."""
        self._over.set()
        self._thread.join(timeout=10.0)

    def _deliver(self) -> None:
        told = False
        while not self._over.is_set():
            if self.interrupted.is_set() and not told:
                told = True
                with self._keeping_errors():
                    self._proceedings.interrupt("interrupted: trials pause at their next validation; Ctrl-C again ends them now")
            try:
                letters = ray.get(self._mailbox.collect.remote(_PATIENCE_S))
            except ray.exceptions.RayError:
                hint = f"`automl resume {self._place}` goes on from what was reported; was memory short?"
                self.error = self.error or StudyError("Ray has lost the process that carries reports to the driver", hint=hint)
                self._watch_head()
                return
            for letter, content in letters:
                self._handle(letter, content)
            with self._keeping_errors():
                self._tell_head()
                for number in self.watch.silent():
                    self._end_worker(number)

    def _watch_head(self) -> None:
        """The mailbox is gone: if the head is too, say it before Ray ends this process."""
        while not self._over.wait(_PATIENCE_S):
            with self._keeping_errors():
                self._tell_head()

    def _tell_head(self) -> None:
        lost = self._head.lost()
        if lost is not None:
            after = f"after a minute Ray ends this driver; `automl resume {self._place}` goes on when the cluster is back"
            self._proceedings.tell_room(f"{lost}; {after}")

    @contextlib.contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """The border of this thread: an error is kept, and raised by the engine."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  see above
            self.error = self.error or error

    def _end_worker(self, number: int) -> None:
        """Kill the worker of a trial that says nothing; Tune then sees a dead process."""
        worker = ray.get(self._mailbox.worker_of.remote(self.tickets[number]))
        if worker is not None and self.watch.give_up(number):
            ray.kill(worker)

    def _handle(self, letter: int | None, content: Any) -> None:
        decision = Decision.PAUSE
        with self._keeping_errors():
            if isinstance(content, Begun):
                self.watch.heard(content.number)
            elif letter is None:
                self._proceedings.progress(content)
            elif self.error is None:
                report = report_from_json(content)
                self.watch.heard(report.number)
                decision = self._proceedings.report(report)
        if letter is not None:
            # the folder belongs to whoever took the study over: workers leave without another word
            answer = None if isinstance(self.error, LeaseLost) else decision.value
            self._mailbox.answer.remote(letter, answer)


def _placement(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """Where Ray may put the segment that `suggest` proposed."""
    return tune.PlacementGroupFactory([dict(config["resources"])], bundle_label_selector=anywhere_but(config["avoided"]))


def _result(number: int, state: State, *, error: Failure | None = None) -> TrialResult:
    """A result of a segment that could not give one itself."""
    return TrialResult(
        number=number, state=state, metrics={}, best_epoch=None, checkpoint=None, elapsed_s=0.0, peak_memory_mib=None, error=error
    )


@contextlib.contextmanager
def _interruptible(courier: Courier) -> Iterator[None]:
    """The first Ctrl-C or SIGTERM is told to the courier, the second raises; outside the main thread signals are left alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        del number, frame
        if courier.interrupted.is_set():
            raise KeyboardInterrupt
        courier.interrupted.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
