"""Studies whose folder is in an S3 store: `--results s3://bucket/folder`, and the same URL wherever a study folder is named.

Who changes a study works in a folder of this machine, and the store is kept like it (`trials.stored_folder`); who looks at one gets its
records, without weights, in a folder that goes away.  Any other path passes through untouched.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from automl.amend import amend
from automl.config import CONFIG_FILE, StudyConfig, load_config
from automl.console import screen, tell
from automl.entry import ActionFailed
from automl.folders import stored_url
from automl.journal import JOURNAL_FILE, DriverLock
from automl.requests import STOP_FILE, request_stop
from automl.snapshot import StudySnapshot
from automl.status import CHOICE_FILE
from search_spaces.errors import CheckpointError, DataError, StudyError, UserError, shell_word
from search_spaces.spec import Spec, spec_from_dict
from trials.copy_notes import url_of_copy, write_notes
from trials.states import epoch_of, full_states

if TYPE_CHECKING:
    from trials.remote_folder import RemoteFolder

Act = Callable[[Path], int]
Wanted = Callable[[str], bool]
_THREADS = 16


def is_record(name: str) -> bool:
    """Whether a file of a study is one that a person or a command reads, and no weights or pictures."""
    return name.endswith((".yaml", ".json", ".jsonl", JOURNAL_FILE))


def is_promoted(name: str) -> bool:
    """Whether a file of a study belongs to its promoted model."""
    return name == CONFIG_FILE or name.startswith("promotion/")


def seen(study: Path, look: Act, *, wanted: Wanted = is_record, leaves: str | None = None) -> int:
    """The exit code of `look`, which gets a folder with the `wanted` files of the study; what it `leaves` goes to the store."""
    url = stored_url(study)
    if url is None:
        return look(study)
    with _view(url, wanted) as remote:
        code = look(remote.folder)
        if leaves is not None:
            remote.put(leaves)
        return code


@contextlib.contextmanager
def records_of(studies: Sequence[Path]) -> Iterator[list[Path]]:
    """Folders with the records of each of `studies`."""
    with contextlib.ExitStack() as views:
        yield [study if (url := stored_url(study)) is None else views.enter_context(_view(url, is_record)).folder for study in studies]


def named_there(url: str, choose: Callable[[Path], Path]) -> str:
    """The URL of the file that `choose` takes of a folder like the one at `url`: with all its names, and a study's choice.

    CheckpointError where nothing is; no weights are fetched.
    """
    from trials.remote_folder import RemoteFolder

    with tempfile.TemporaryDirectory(prefix="automl-") as scratch:
        remote = RemoteFolder(url, Path(scratch).resolve() / "there")
        names = remote.listing()
        if not names:
            raise CheckpointError(f"--parent {url}: nothing is there", hint="give the URL of a run, of an export or of a study")
        for name in names:
            (remote.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (remote.folder / name).touch()
        if str(CHOICE_FILE) in names:
            remote.get(str(CHOICE_FILE))
        with _in_terms_of(url, remote.folder):
            return remote.told_there(str(choose(remote.folder)))


def kept(study: Path, act: Act, *, check: Callable[[StudyConfig], object] | None = None) -> int:
    """The exit code of `act`, which gets a folder that is kept like the study.

    `check` refuses by the settings alone what `act` would refuse as well, before all the rest is fetched from a store.
    """
    url = stored_url(study)
    if url is None:
        copied = url_of_copy(study)
        if copied is not None:
            raise StudyError(f"{study} is a working copy of {copied}, which would not follow it", hint=f"name the study itself: {copied}")
        return act(study)
    with _view(url, lambda name: name == CONFIG_FILE) as remote:
        config = load_config(remote.folder)
        if check is not None:
            check(config)
    folder = study_copy(spec_from_dict(config.spec), url, start=config.working_folder)
    with keeping(url, folder, again=f"`automl resume {shell_word(url)}`"):
        _come_here(folder)
        return act(folder)


def _come_here(folder: Path) -> None:
    """Lets a study that another machine began go on where its working folder is not there: relative paths begin at the current one."""
    config = load_config(folder)
    if not config.working_folder.is_dir():
        amend(folder, config, replace(config, working_folder=Path.cwd()))
        tell(screen(), f"note: relative paths of the spec begin at {Path.cwd()} now; {config.working_folder} is not on this machine")


def older_states(snapshot: StudySnapshot) -> Iterator[str]:
    """A line for each trial whose last epochs are on record, but not in the newest state that came to the store."""
    for trial in snapshot.trials:
        if trial.status.ended or not trial.epoch:
            continue
        states = full_states(trial.folder / "train")
        saved = 1 + epoch_of(states[-1]) if states else 0
        if saved < trial.epoch:
            went_on = f"it goes on after epoch {saved}" if saved else "it starts anew"
            yield f"trial {trial.number} has reported {trial.epoch} epochs, but its state of then never came to the store: {went_on}"


def study_copy(spec: Spec, url: str, *, start: Path | None = None) -> Path:
    """Where a driver on this machine works on the study at `url`; relative cache folders begin at `start`."""
    from search_spaces.spec import with_values
    from trials.data.cache_folder import cache_folder
    from trials.stored_folder import working_folder

    if spec.dataset.cache_dir and start is not None and start.is_dir():
        spec = with_values(spec, {"dataset.cache_dir": str(start / Path(spec.dataset.cache_dir).expanduser())})
    return working_folder(cache_folder(spec, "studies").path, url)


def new_study_copy(spec: Spec, url: str, *, resumes: bool) -> Path:
    """Where to work on a study that is to be made at `url`.

    StudyError when there is one, or a training run that is not to be resumed; DataError for a store that cannot be used.
    """
    from trials.remote_folder import RemoteFolder

    there = RemoteFolder(url, Path()).listing()
    if CONFIG_FILE in there:
        raise StudyError(
            f"{url} already holds a study; it is never overwritten",
            hint=f"continue it with `automl resume {shell_word(url)}`, or name another folder with --results",
        )
    if not resumes and any(name.startswith("train/") for name in there):
        raise StudyError(
            f"{url} already holds a training run", hint="continue it with train.resume=auto, or name another folder with --results"
        )
    return study_copy(spec, url)


@contextlib.contextmanager
def keeping(url: str | None, folder: Path, *, again: str) -> Iterator[None]:
    """Keeps the store at `url` like `folder` while the block works there; with None nothing happens.

    ActionFailed, with the command that goes on, when the store does not have everything in the end.
    """
    if url is None:
        yield
        return
    from trials.stored_folder import StoredFolder

    done = False
    try:
        with StoredFolder(folder, url, inbox=STOP_FILE, on_lost=lambda: _stop(folder)):
            with _in_terms_of(url, folder):
                yield
            done = True
    except (DataError, ConnectionError, KeyboardInterrupt) as error:
        if not done:
            raise
        reason = error.message if isinstance(error, DataError) else getattr(error, "strerror", "interrupted")
        raise ActionFailed(
            f"not everything is in {url}: {reason}", hint=f"what is missing is in {folder}; {again} on this machine puts it there"
        ) from error
    tell(screen(), f"Everything is in {url}; the working folder was {folder}")


def _stop(folder: Path) -> None:
    if (folder / CONFIG_FILE).is_file():
        request_stop(folder)


@contextlib.contextmanager
def _view(url: str, wanted: Wanted) -> Iterator[RemoteFolder]:
    """The wanted files of the study at `url`, in a folder that goes away; while somebody drives it, that folder looks driven."""
    from trials.remote_folder import RemoteFolder, is_hidden
    from trials.transfer import transfer
    from trials.writer_mark import is_written

    with tempfile.TemporaryDirectory(prefix="automl-") as scratch:
        folder = Path(scratch).resolve() / url.rstrip("/").rpartition("/")[2]
        remote = RemoteFolder(url, folder, as_it_is=True)
        sizes = {name: entry.size for name, entry in remote.listing().items() if wanted(name) and not is_hidden(name)}
        if CONFIG_FILE not in sizes:
            raise StudyError(f"there is no study at {url}", hint="name the URL that `automl run --results` was given")
        folder.mkdir()
        transfer(sizes, remote.get, doing=f"reading {url}", threads=_THREADS)
        write_notes(folder, {"url": url})
        lock = DriverLock(folder)
        if is_written(remote):
            lock.take()
        try:
            with _in_terms_of(url, folder):
                yield remote
        finally:
            lock.release()


@contextlib.contextmanager
def _in_terms_of(url: str, folder: Path) -> Iterator[None]:
    """Errors name the study by its URL, not by a folder that the user never named."""
    try:
        yield
    except (UserError, ActionFailed) as error:
        error.message = error.message.replace(str(folder), url)
        error.args = (error.message,)
        error.hint = None if error.hint is None else error.hint.replace(str(folder), url)
        raise
