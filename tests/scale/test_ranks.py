"""Runs of two ranks on the CPU: the numbers, the files and the ends of a run of one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from models.registry import build_network
from search_spaces.objective import LATENCY
from search_spaces.spec import Spec, spec_from_dict
from tests.scale.processes import alive, ranks_below, wait_for
from tests.trials.broken import Hungry, Interrupting, Killed, NotFinite, Steady
from tests.trials.small import Recorder, SmallStereo, always_continue, mono_spec, no_weights, parts, stereo_spec, trial
from trials.contract import Cause, Decision, State
from trials.data import EqualShapeBatches, build_dataset, collate
from trials.data.decoders import write_pfm
from trials.data.sample import SampleSet, write_samples
from trials.module import predict_map
from trials.run import run_trial
from trials.scoring import Scorer
from trials.segment import Parts

pytestmark = [pytest.mark.scale, pytest.mark.timeout(900)]
LATEST = "train/dn_model_latest.pth"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> SampleSet:
    return write_samples(tmp_path_factory.mktemp("scenes"), scenes=9, seed=1, height=64, width=96, max_disparity=32)


def spec_of(scenes: SampleSet, *, batch: int, **train: Any) -> dict[str, Any]:
    """Six training samples; five to validate in batches of 2, 2 and 1, which no two ranks share evenly."""
    spec = stereo_spec(scenes, **train)
    spec["dataset"]["train_dataset"]["batch_size"] = batch
    five = scenes.folder / "five.txt"
    five.write_text("".join(scenes.list_file("stereo", "train").read_text().splitlines(keepends=True)[:5]))
    spec["dataset"]["val_dataset"]["data_sources"][0]["data_file"] = str(five)
    return spec


def weights(folder: Path, name: str = "dn_model_latest.pth") -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "train" / name, weights_only=True)["state_dict"]
    return found


@pytest.fixture(scope="module")
def whole(scenes: SampleSet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """Three epochs on two ranks in one go."""
    folder, recorder = tmp_path_factory.mktemp("whole"), Recorder()
    result = run_trial(trial(folder, spec_of(scenes, batch=1), epochs=3), recorder, parts=parts(), cpu_ranks=2)
    assert result.state is State.COMPLETE, result.error
    return folder, recorder


def test_two_ranks_report_the_metrics_of_one_process(scenes: SampleSet, whole: tuple[Path, Recorder]) -> None:
    folder, recorder = whole
    spec = spec_from_dict(spec_of(scenes, batch=1))
    network = SmallStereo().eval()
    network.load_state_dict({name.removeprefix("model."): value for name, value in weights(folder).items()})
    data, scorer = build_dataset(spec, "val", training=False), Scorer(spec)
    with torch.no_grad():
        for batch in DataLoader(data, batch_sampler=EqualShapeBatches(data, 2), collate_fn=collate):
            scorer.update(predict_map(network, batch, "stereo"), batch["target"], batch["valid"], batch["path"])
    assert scorer.num_images == 5
    reported = {name.removeprefix("val/"): value for name, value in recorder.reports[-1].metrics.items() if name.startswith("val/")}
    assert reported == pytest.approx(scorer.compute(), rel=1e-6)


def test_the_folder_is_that_of_one_process(whole: tuple[Path, Recorder]) -> None:
    folder, recorder = whole
    assert [json.loads(line)["epoch"] for line in (folder / "train" / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]
    messages = [json.loads(line)["message"] for line in (folder / "train" / "status.json").read_text().splitlines()]
    assert messages.count("Starting Training Loop.") == 1
    assert messages.count("Eval metrics generated.") == 3
    assert messages[-1] == "Train finished successfully."
    assert [report.step for report in recorder.reports] == [3, 6, 9]


def test_a_run_moves_from_two_ranks_to_one_and_back(scenes: SampleSet, tmp_path: Path) -> None:
    """Without dropout neither the number of ranks shows nor what each holds, as long as a step takes the same samples."""
    alone, apart = tmp_path / "alone", tmp_path / "apart"
    assert run_trial(trial(alone, spec_of(scenes, batch=2), epochs=5), always_continue, parts=parts(Steady)).state is State.COMPLETE
    for ranks, strategy in ((2, "ddp"), (1, "ddp"), (2, "fsdp"), (1, "fsdp"), (2, "ddp")):
        spec = spec_of(scenes, batch=2 // ranks, distributed_strategy=strategy)
        resumes = apart / LATEST if (apart / LATEST).exists() else None
        pausing = Recorder(Decision.PAUSE)
        result = run_trial(trial(apart, spec, epochs=5, resume_from=resumes), pausing, parts=parts(Steady), cpu_ranks=ranks)
        assert result.state in (State.PAUSED, State.COMPLETE), result.error
    ours, theirs = weights(apart), weights(alone)
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-5


def test_another_global_batch_is_refused(scenes: SampleSet, whole: tuple[Path, Recorder], tmp_path: Path) -> None:
    resumed = trial(tmp_path, spec_of(scenes, batch=1), epochs=4, resume_from=whole[0] / LATEST)
    result = run_trial(resumed, always_continue, parts=parts())
    assert result.error is not None
    assert result.error.message.startswith("an epoch has 6 steps here, but 3 in the run of")


def test_ctrl_c_ends_both_ranks_after_the_same_step(scenes: SampleSet, whole: tuple[Path, Recorder], tmp_path: Path) -> None:
    spec = spec_of(scenes, batch=1, resume="auto")
    result = run_trial(trial(tmp_path, spec, epochs=3), always_continue, parts=parts(Interrupting), cpu_ranks=2)
    assert result.state is State.INTERRUPTED, result.error
    assert run_trial(trial(tmp_path, spec, epochs=3), always_continue, parts=parts(), cpu_ranks=2).state is State.COMPLETE
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == []


def test_ctrl_c_saves_a_shared_network_whole(scenes: SampleSet, whole: tuple[Path, Recorder], tmp_path: Path) -> None:
    spec = spec_of(scenes, batch=1, resume="auto", distributed_strategy="fsdp")
    result = run_trial(trial(tmp_path, spec, epochs=3), always_continue, parts=parts(Interrupting), cpu_ranks=2)
    assert result.state is State.INTERRUPTED, result.error
    assert run_trial(trial(tmp_path, spec, epochs=3), always_continue, parts=parts(), cpu_ranks=2).state is State.COMPLETE
    ours, theirs = weights(tmp_path), weights(whole[0])
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < 1e-6


@pytest.mark.parametrize(
    ("make", "batch", "optim"),
    [
        (mono_spec, 1, {"lr": 1e-3}),
        # AdamW makes a step of every gradient, also of one that is only rounding, and rounding grows fast in this network: two steps
        (stereo_spec, 3, {"optimizer": "SGD", "lr": 0.01}),
    ],
)
def test_what_ranks_hold_does_not_show(
    scenes: SampleSet, tmp_path: Path, make: Callable[..., dict[str, Any]], batch: int, optim: dict[str, Any]
) -> None:
    """Published networks in little, block by block and with blocks run again: weights and metrics as if each rank held all of it."""
    recorders = {}
    for strategy in ("ddp", "fsdp"):
        spec = make(scenes, distributed_strategy=strategy, activation_checkpoint=True, optim=optim)
        if make is stereo_spec:
            spec["model"]["hidden_dims"] = [48, 48, 48]
        spec["dataset"]["train_dataset"]["batch_size"] = batch
        recorder = recorders[strategy] = Recorder()
        run = trial(tmp_path / strategy, spec, epochs=2, costs=(LATENCY,))
        result = run_trial(run, recorder, parts=Parts(network=without_dropout, weights=no_weights), cpu_ranks=2)
        assert result.state is State.COMPLETE, result.error
    for name in ("dn_model_latest.pth", "best.pth"):
        ours, theirs = weights(tmp_path / "fsdp", name), weights(tmp_path / "ddp", name)
        assert list(ours) == list(theirs)
        assert max(float((ours[key] - theirs[key]).abs().max()) for key in theirs) < 1e-5
    shared, copied = (dict(recorders[strategy].reports[0].metrics) for strategy in ("fsdp", "ddp"))
    assert (shared.pop(LATENCY) or 0) > 0
    assert (copied.pop(LATENCY) or 0) > 0
    assert shared == pytest.approx(copied, rel=1e-5)


def without_dropout(spec: Spec) -> nn.Module:
    network = build_network(spec)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize(
    ("network", "strategy", "cause", "words"),
    [
        (NotFinite, "ddp", Cause.NAN, "the training loss is nan at step 1"),
        (NotFinite, "fsdp", Cause.NAN, "the training loss is nan at step 1"),
        (Hungry, "ddp", Cause.OOM, "out of memory: "),
        (Killed, "ddp", Cause.INFRASTRUCTURE, "a process of the run was killed by signal 9"),
    ],
)
def test_a_failure_of_one_rank_ends_both(
    scenes: SampleSet, tmp_path: Path, network: Callable[[], nn.Module], strategy: str, cause: Cause, words: str
) -> None:
    spec = spec_of(scenes, batch=1, distributed_strategy=strategy)
    result = run_trial(trial(tmp_path, spec), always_continue, parts=parts(network), cpu_ranks=2)
    assert result.error is not None
    assert result.error.cause is cause, result.error
    assert result.error.message.startswith(words)
    assert "(rank 1 of 2, cpu)" in result.error.message
    assert ranks_below(os.getpid()) == []
    last = json.loads((tmp_path / "train" / "status.json").read_text().splitlines()[-1])
    assert last["status"] == "FAILURE"


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_samples_without_ground_truth_do_not_keep_ranks_apart(scenes: SampleSet, tmp_path: Path, strategy: str) -> None:
    spec = spec_of(scenes, batch=1, distributed_strategy=strategy)
    nothing = tmp_path / "nothing.pfm"
    write_pfm(nothing, np.zeros((64, 96), dtype=np.float32))
    rows = [line.split() for line in scenes.list_file("stereo", "train").read_text().splitlines()]
    lines = [" ".join([*row[:2], row[2] if number < 2 else str(nothing)]) for number, row in enumerate(rows)]
    few = scenes.folder / "few.txt"
    few.write_text("\n".join(lines) + "\n")
    spec["dataset"]["train_dataset"]["data_sources"][0]["data_file"] = str(few)
    result = run_trial(trial(tmp_path / "run", spec, epochs=3), always_continue, parts=parts(), cpu_ranks=2)
    assert result.state is State.COMPLETE, result.error
    assert "batches skipped" in (tmp_path / "run" / "train" / "train.log").read_text()


def test_ranks_end_with_a_leader_that_is_killed(scenes: SampleSet, tmp_path: Path) -> None:
    log = tmp_path / "train" / "train.log"
    leader = subprocess.Popen([sys.executable, "-m", "tests.scale.endless", str(tmp_path), str(scenes.folder)])
    try:
        wait_for(lambda: log.is_file() and "first weights" in log.read_text())
        ranks = ranks_below(leader.pid)
        assert len(ranks) == 2
    finally:
        os.kill(leader.pid, signal.SIGKILL)
        leader.wait()
    wait_for(lambda: not any(map(alive, ranks)))


@pytest.mark.parametrize(
    ("network", "strategy", "state", "cause"), [("Steady", "fsdp", "complete", None), ("Hungry", "ddp", "failed", "oom")]
)
def test_two_machines_end_alike(scenes: SampleSet, tmp_path: Path, network: str, strategy: str, state: str, cause: str | None) -> None:
    """What befalls the rank of machine 1 is told where machine 0 writes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [sys.executable, "-m", "tests.scale.machine", str(tmp_path), str(scenes.folder), network, strategy]
    machines = [
        subprocess.Popen(command, env={**os.environ, "NODE_RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
        for number in range(2)
    ]
    try:
        assert [machine.wait(timeout=800) for machine in machines] == [0, 0]
    finally:
        for machine in machines:
            machine.kill()
            machine.wait()
    for number in range(2):
        result = json.loads((tmp_path / f"machine-{number}.json").read_text())
        assert (result["state"], result["error"] and result["error"]["cause"]) == (state, cause), result
    lines = [json.loads(line) for line in (tmp_path / "train" / "status.json").read_text().splitlines()]
    assert lines[-1]["status"] == ("SUCCESS" if cause is None else "FAILURE")
    assert [line["message"] for line in lines].count("Starting Depth Net train.") == 1
