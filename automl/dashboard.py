"""`automl dashboard`: MLflow's own UI on 127.0.0.1, opened at the trials of a study.

MLflow's server runs as a child process with its job runners switched off (two processes instead of eleven) and ends
with this command.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

from automl.config import CONFIG_FILE, load_config
from automl.console import count_text, screen, tell
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.folders import place_text
from automl.mirror import STUDY_TAG, limit_retries, sqlite_uri, without_credentials
from automl.reader import final_trials, read_snapshot
from automl.shipping import open_mirror
from automl.tracking import DATABASE, StudyMirror, tracking_for
from search_spaces.errors import StudyError
from trials.copy_notes import url_of_copy

HOST = "127.0.0.1"
START_LIMIT_S = 90.0
COMPARED_RUNS = 100  # more make the address longer than browsers take


@dataclass(frozen=True, kw_only=True)
class Pages:
    """Addresses below the server's root: the table of runs and, with two trials or more, the page that compares them."""

    runs: str
    compare: str | None


def find_database(folder: Path) -> Path:
    """The tracking database of a study folder, or of a folder that holds studies; StudyError when there is none."""
    for place in (folder / DATABASE, folder.resolve().parent / DATABASE):
        if place.is_file() and (place.parent == folder or (folder / CONFIG_FILE).is_file()):
            return place.resolve()
    raise StudyError(
        f"no {DATABASE} in {folder} or beside it: nothing was tracked there",
        hint="name a study folder, or the folder that holds studies; `automl run` prints it",
    )


def mirrored(folder: Path) -> Path:
    """A new tracking database beside a study's folder, made of its records alone: a store has none with the study."""
    snapshot = read_snapshot(folder)
    config, console = snapshot.config, screen()
    tell(console, f"handing MLflow {count_text(len(snapshot.trials), 'trial')} of {place_text(folder)}, as they stand now ...")
    mirror = open_mirror(tracking_for(folder, config.name, config.study_id), console)
    for kind, trials in (("trial", snapshot.trials), ("finalist", final_trials(folder))):
        StudyMirror(mirror, config, kind=kind).catch_up(trials)
    mirror.close()
    return find_database(folder)


def find_pages(uri: str, study_id: str | None) -> Pages:
    """Where the UI shows the study `study_id`, or all experiments when it is None or unknown."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiments = client.search_experiments(filter_string=f"tags.`{STUDY_TAG}` = '{study_id}'") if study_id else []
    if not experiments:
        return Pages(runs="#/experiments", compare=None)
    number = str(experiments[0].experiment_id)
    runs = client.search_runs([number], filter_string="tags.kind = 'trial'", max_results=COMPARED_RUNS)
    names = json.dumps([run.info.run_id for run in runs], separators=(",", ":"))
    compare = f"#/compare-runs?runs={quote(names)}&experiments={quote(json.dumps([number]))}" if len(runs) > 1 else None
    return Pages(runs=f"#/experiments/{number}/runs", compare=compare)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def serve(folder: Path, port: int | None) -> int:
    """Runs the UI until Ctrl-C; prints its addresses when it answers.  With a tracking server of the user's, only its address."""
    remote = os.environ.get("MLFLOW_TRACKING_URI", "")
    study_id = load_config(folder).study_id if (folder / CONFIG_FILE).is_file() else None
    if remote.startswith("http"):
        pages = _found_pages(remote, study_id)
        tell(screen(), f"MLflow runs at {without_credentials(remote)}/{pages.runs}")
        return DONE
    looked_at = url_of_copy(folder) is not None and not (folder.parent / DATABASE).is_file()  # a working copy has one
    uri = remote or sqlite_uri(mirrored(folder) if looked_at else find_database(folder))
    pages = _found_pages(uri, study_id)
    chosen = free_port() if port is None else port
    _refuse_taken(chosen)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as log:
        # its address may hold a password: everybody can read a command line
        place = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
        server = subprocess.Popen(_command(chosen), stdout=subprocess.DEVNULL, stderr=log, env=place)
        try:
            return _attend(server, chosen, pages, log)
        except KeyboardInterrupt:
            screen().print("dashboard ended")
            return INTERRUPTED
        finally:
            _end(server)


def _found_pages(uri: str, study_id: str | None) -> Pages:
    """`find_pages`; StudyError when MLflow cannot be asked."""
    from mlflow.exceptions import MlflowException

    limit_retries()
    try:
        return find_pages(uri, study_id)
    except MlflowException as error:
        reason = without_credentials(" ".join(str(error).split()))[:200]
        raise StudyError(
            f"MLflow at {without_credentials(uri)} does not answer: {reason}", hint="start it, or set another MLFLOW_TRACKING_URI"
        ) from error


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(10)
    except subprocess.TimeoutExpired:
        server.kill()


def _command(port: int) -> list[str]:
    return [
        sys.executable,
        "-P",
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]


def _attend(server: subprocess.Popen[bytes], port: int, pages: Pages, log: IO[str]) -> int:
    """Waits for the server to answer, says where, and stays until it ends."""
    console = screen()
    console.print("starting MLflow ...")
    deadline = time.monotonic() + START_LIMIT_S
    while not _answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            return _failed(f"MLflow did not answer within {START_LIMIT_S:g} s" if server.poll() is None else "MLflow did not start", log)
        time.sleep(0.3)
    root = f"http://{HOST}:{port}/"
    tell(console, f"trials:   {root}{pages.runs}")
    tell(console, f"curves:   {root}{pages.runs}?compareRunsMode=CHART")
    if pages.compare is not None:
        tell(console, f"compare:  {root}{pages.compare}")
    tell(console, "Ctrl-C ends it")
    return DONE if server.wait() == 0 else _failed("MLflow's server has ended", log)


def _failed(what: str, log: IO[str]) -> int:
    """Says what happened and the server's last words; the exit code of a failure."""
    log.seek(0)
    said = without_credentials(log.read()[-2000:]).strip()
    say_error(f"{what}:\n{said}" if said else f"{what}, and said nothing", None)
    return FAILED


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex((HOST, port)) == 0:
            raise StudyError(
                f"port {port} of {HOST} is already taken", hint="choose another with --port, or leave it out: a free one is taken"
            )
