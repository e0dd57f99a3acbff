"""The Ray of a search, entered once for all its phases: one of our own on this machine, or a cluster that is there.

Nothing of our own Ray outlives the session: processes, sockets and scratch files are gone afterwards.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import psutil
import ray

from automl.cluster import Node, joined, look, nodes, room, trial_resources
from automl.config import StudyConfig
from automl.own_code import code_hash, code_root, copy_code
from automl.worksite import Fault
from search_spaces.errors import StudyError, UnsupportedError

_SCRATCH, _OWNER = "automl-ray-", "owner.lock"
_OBJECT_STORE_BYTES = 128 * 1024 * 1024  # results are small; checkpoints never pass through Ray
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",  # the old output is the one that verbose=0 silences
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_worker_niceness": "0",  # as the driver: Ray's 15 lets trials starve beside anything else that runs
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",  # our searcher says how many; Tune by itself starts one worker after the other
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
}


@dataclass(frozen=True, kw_only=True)
class RaySession:
    """A Ray that runs trials with `resources` each.  Valid inside `ray_session` alone.

    `slots` is how many of them this machine runs at once; None on a cluster, where nodes come and go.  `code` is the hash of the copy of
    our packages that was sent to the workers, empty when they share the driver's.  `avoided` are nodes that cannot work on the study: more
    of them while trials run.  A node that was mended joins as another one.
    """

    slots: int | None
    resources: Mapping[str, float]
    scratch: Path
    code: str = ""
    avoided: dict[Node, Fault] = field(default_factory=dict)

    def usable(self) -> tuple[Node, ...]:
        """Nodes that are up, large enough for a trial and not avoided."""
        return tuple(node for node in nodes() if node not in self.avoided and node.room(self.resources))

    def room(self) -> int:
        """How many trials fit now."""
        if self.slots is None:
            return room(self.usable(), self.resources)
        return 0 if self.avoided else self.slots

    def none_left(self) -> StudyError:
        """What is said when all nodes are avoided."""
        hint = next(iter(self.avoided.values())).hint
        told = "; ".join(f"{node.host}: {fault.message}" for node, fault in self.avoided.items())
        if self.slots is not None:
            return StudyError(told.partition(": ")[2], hint=hint)
        return StudyError(f"no node is left that can work on this study: {told}", hint=hint)


def session_of(folder: Path, config: StudyConfig) -> contextlib.AbstractContextManager[RaySession]:
    """The Ray that the study of `config` in `folder` runs on."""
    if config.address is None:
        return ray_session(folder, slots=config.parallel, gpus_per_trial=config.gpus_per_trial)
    return cluster_session(folder, config.address, gpus_per_trial=config.gpus_per_trial, cpus_per_trial=config.cpus_per_trial)


@contextlib.contextmanager
def ray_session(folder: Path, *, slots: int, gpus_per_trial: float = 0.0) -> Iterator[RaySession]:
    """A Ray on this machine for `slots` trials at a time, each with its share of the cores and `gpus_per_trial` GPUs.

    It starts from `folder` (the study's), so that workers find no package of the user's current folder.  UnsupportedError
    when the machine has fewer GPUs than one trial needs.
    """
    cores = len(os.sched_getaffinity(0))
    cpus = float(cores // slots) if slots <= cores else cores / slots
    settings = {**_QUIET, "RAY_AUTH_TOKEN": _own_token()}
    with short_folder() as scratch, _environment(settings), _hushed(), _own_ray(folder, scratch, cores, cpus=cpus):
        check_gpus(wanted=gpus_per_trial, present=int(ray.cluster_resources().get("GPU", 0)))
        yield RaySession(slots=slots, resources={"CPU": cpus, "GPU": float(gpus_per_trial)}, scratch=scratch)


@contextlib.contextmanager
def cluster_session(
    folder: Path, address: str, *, gpus_per_trial: float = 0.0, cpus_per_trial: float | None = None
) -> Iterator[RaySession]:
    """The cluster at `address`, for as many trials at a time as its nodes have room for.

    A copy of our five packages travels to each node, nothing else of this machine.  StudyError when nobody answers there,
    UnsupportedError when no node has room for a trial.
    """
    with short_folder() as scratch, _environment(_QUIET), _hushed():
        resources = trial_resources(look(address), gpus=gpus_per_trial, cpus=cpus_per_trial)
        code = copy_code(code_root(), scratch / "code")
        env = {"working_dir": str(code), "env_vars": _worker_environment(resources["CPU"])}
        with contextlib.chdir(folder), _own_sigterm(), joined(address, logging_level=logging.CRITICAL, runtime_env=env):
            yield RaySession(slots=None, resources=resources, scratch=scratch, code=code_hash(code))


def check_gpus(*, wanted: float, present: int) -> None:
    """UnsupportedError when a trial wants more GPUs than there are: Ray would wait for them for ever."""
    if wanted > present:
        raise UnsupportedError(
            f"a trial is to have {wanted:g} GPUs, but this machine has {present}", hint=f"use --gpus-per-trial {present}"
        )


@contextlib.contextmanager
def _own_ray(folder: Path, scratch: Path, cores: int, *, cpus: float) -> Iterator[None]:
    """Ray with its files in `scratch`, gone afterwards.  That folder is short, because sockets in it have a length limit."""
    with contextlib.chdir(folder), _own_sigterm():
        start_patiently(
            lambda: ray.init(
                address="local",
                num_cpus=cores,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                object_store_memory=_OBJECT_STORE_BYTES,
                runtime_env={"env_vars": _worker_environment(cpus)},
                _temp_dir=str(scratch),
            ),
            undo=lambda: _end_processes(scratch),
        )
    try:
        yield
    finally:
        ray.shutdown()


def start_patiently(start: Callable[[], object], *, undo: Callable[[], None]) -> None:
    """Start Ray, up to three times: it gives up after 30 s, which is short on a machine that is busy.

    `undo` removes what a failed start left.  StudyError when all fail.
    """
    for last in (False, False, True):
        try:
            start()
            return
        except Exception as error:  # Ray raises Exception itself
            ray.shutdown()
            undo()
            if last:
                raise StudyError(
                    f"Ray does not start on this machine: {str(error).partition('. ')[0]}",
                    hint="when the machine is very busy or out of memory or disk, try again later; --engine inline does without Ray",
                ) from error


def _end_processes(scratch: Path) -> None:
    """End the processes of a Ray whose files are in `scratch`: half started, it does not end them before this process ends."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(str(scratch) in word for word in process.cmdline()):
                process.kill()


def _worker_environment(cpus: float) -> dict[str, str]:
    """What is set before a worker imports torch: its threads, which sleep while they wait.

    Spinning ones slow everybody down when several trials share the cores.
    """
    return {"OMP_NUM_THREADS": str(max(1, int(cpus))), "OMP_WAIT_POLICY": "PASSIVE", "RAY_CHDIR_TO_TRIAL_DIR": "0"}


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """The answer to SIGTERM stays what it is: Ray's own ends the driver with a dump of its C++ stack."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def short_folder(root: Path | None = None) -> Iterator[Path]:
    """A new folder with a short path below `root` (None: /tmp), removed afterwards; those that dead processes left go too.

    Its owner holds a lock on a file in it.  A folder without that file, or with a living owner, is never touched, whatever its name.
    """
    if root is None:
        root = Path("/tmp") if Path("/tmp").is_dir() and os.access("/tmp", os.W_OK) else Path(tempfile.gettempdir())
    for left in root.glob(f"{_SCRATCH}*"):
        _remove_left(left)
    folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=root))
    draft = folder / f"{_OWNER}.part"
    with draft.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        draft.replace(folder / _OWNER)  # nobody ever sees it unlocked while we live
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove_left(folder: Path) -> None:
    """Remove the scratch folder of a process that died."""
    with contextlib.suppress(OSError), (folder / _OWNER).open("r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)


@lru_cache(maxsize=1)  # Ray reads it once
def _own_token() -> str:
    """What guards the ports of our own Ray, which listen to the network.  Ray's own lies in a file that all users can read."""
    return secrets.token_hex(32)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """`values` stand in the environment meanwhile; what the user set already stays."""
    added = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Ray's own messages are off meanwhile, those about killed workers too, which no setting reaches: the console tells what users need."""
    printing, printed = ray._private.worker, ray._private.worker._worker_logs_enabled
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.data")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    printing._worker_logs_enabled = False
    try:
        yield
    finally:
        printing._worker_logs_enabled = printed
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
