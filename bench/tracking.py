"""What it costs the driver of a search to show one report in MLflow: SQLite beside the study, or a server.

    python -m bench.tracking [--server http://127.0.0.1:5000] [--trials 10]

Each update is one run's newest state as a search writes it after an epoch: twelve metrics, nine epochs a run, by the production code.  The
two take turns, update by update.  Milliseconds by the clock wait for disk, network and the server; `cpu_ms` is the driver's own.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from automl.mirror import MlflowWriter, RunRecord, Tracking, prepare_database
from bench.timing import conditions
from trials.contract import Report

EPOCHS, METRICS = 9, 12


def record(trial: int, epoch: int) -> RunRecord:
    """The run of `trial` after `epoch`."""
    history = [
        Report(
            number=trial,
            epoch=each,
            step=each,
            metrics={f"val/metric{name}": 1.0 / (each + name) for name in range(METRICS)},
            elapsed_s=1.0,
        )
        for each in range(1, epoch + 1)
    ]
    tags = {"kind": "trial", "trial": str(trial), "state": "running"}
    params = {f"train.optim.parameter{name}": "0.001" for name in range(15)}
    return RunRecord(key=f"trial-{trial:04d}", name=f"trial {trial}", status="RUNNING", tags=tags, params=params, history=history)


def measure(writers: dict[str, MlflowWriter], trials: int) -> None:
    """Prints a row for each of `writers`."""
    wall, cpu = ({name: list[float]() for name in writers} for _ in range(2))
    for trial in range(trials):
        for epoch in range(1, EPOCHS + 1):
            for name, writer in writers.items():
                begun, worked = time.perf_counter(), time.process_time()
                writer.write(record(trial, epoch))
                if trial and epoch > 1:  # the first makes the run, and at the very first MLflow loads its own parts
                    wall[name].append(1e3 * (time.perf_counter() - begun))
                    cpu[name].append(1e3 * (time.process_time() - worked))
    for name in writers:
        late = sorted(wall[name])
        told = f"median {statistics.median(late):.1f} ms, p95 {late[int(0.95 * len(late))]:.1f} ms, least {late[0]:.1f} ms"
        print(f"{name}: {told}; CPU median {statistics.median(cpu[name]):.1f} ms, least {min(cpu[name]):.1f} ms; {len(late)} updates")


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the conditions and the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", help="address of an MLflow server, docs/cluster.md starts one; without it only SQLite is measured")
    parser.add_argument("--trials", type=int, default=10)
    given = parser.parse_args(arguments)
    print(conditions())
    with tempfile.TemporaryDirectory() as place:
        study = f"bench-{uuid.uuid4().hex[:8]}"
        uris = {"SQLite": f"sqlite:///{place}/mlflow.db", **({"server": given.server} if given.server else {})}
        writers = {}
        for name, uri in uris.items():
            artifacts = Path(place) if name == "SQLite" else None
            tracking = Tracking(uri=uri, experiment=study, study_id=study, artifacts=artifacts)
            prepare_database(tracking)
            writers[name] = MlflowWriter(tracking)
        measure(writers, given.trials)


if __name__ == "__main__":
    main()
