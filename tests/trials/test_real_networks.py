"""The real networks at their smallest: train, validate, save, resume; less memory; half precision."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import nn

from models.registry import build_network
from models.weights import load_weights
from search_spaces.spec import spec_from_dict, spec_warnings
from tests.trials.small import Recorder, SmallStereo, always_continue, mono_spec, stereo_spec, trial
from trials.contract import Decision, State
from trials.data import build_dataset
from trials.data.sample import SampleSet
from trials.datamodule import Start, TrialData
from trials.module import DepthModule
from trials.run import run_trial


def small(spec: dict[str, Any]) -> dict[str, Any]:
    spec["model"] |= {"hidden_dims": [16, 16, 16]}
    return spec


@pytest.mark.parametrize("kind", ["stereo", "metric", "relative"])
def test_a_real_network_trains_pauses_and_goes_on(scenes: SampleSet, tmp_path: Path, kind: str) -> None:
    spec = small(stereo_spec(scenes)) if kind == "stereo" else mono_spec(scenes, relative=kind == "relative")
    first = run_trial(trial(tmp_path, spec, study="s"), Recorder(Decision.PAUSE))
    assert first.state is State.PAUSED, first.error
    second = run_trial(trial(tmp_path, spec, study="s", resume_from=tmp_path / "train" / "dn_model_latest.pth"), always_continue)
    assert second.state is State.COMPLETE, second.error
    assert second.metrics["val/loss"] is not None
    assert (second.first_weights or "").startswith(f"random: {'the side network' if kind == 'stereo' else 'the encoder, the head'}")
    for name in ("best.pth", "dn_model_latest.pth"):
        report = load_weights(build_network(spec_from_dict(spec)), tmp_path / "train" / name)
        assert (report.missing, report.unexpected, report.notes) == (0, 0, ())


@pytest.mark.parametrize("kind", ["stereo", "metric"])
def test_activation_checkpointing_trains_the_same_network(scenes: SampleSet, tmp_path: Path, kind: str) -> None:
    results = []
    for recompute in (False, True):
        spec = small(stereo_spec(scenes)) if kind == "stereo" else mono_spec(scenes)
        spec["train"]["activation_checkpoint"] = recompute
        assert spec_warnings(spec_from_dict(spec)) == []
        results.append(run_trial(trial(tmp_path / str(recompute), spec, epochs=1), always_continue))
        shutil.rmtree(tmp_path / str(recompute))  # a quarter of a gigabyte
    assert results[0].metrics == results[1].metrics, results[1].error


class Watch(pl.Callback):
    """Keeps the norm of the gradient before and after clipping."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer) -> None:
        self.norms.append(float(nn.utils.get_total_norm([value.grad for group in optimizer.param_groups for value in group["params"]])))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.on_before_optimizer_step(trainer, pl_module, trainer.optimizers[0])


def norms_of_one_step(scenes: SampleSet, precision: str) -> list[float]:
    """Before and after clipping at 0.1; fp16 under Lightning's mixed precision with a scaler of 1024, which torch also has for a CPU."""
    spec = spec_from_dict(stereo_spec(scenes, precision=precision, clip_grad_norm=0.1))
    torch.manual_seed(0)
    module, watch = DepthModule(SmallStereo(), spec, total_steps=3), Watch()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler=scaler)] if precision == "fp16" else []
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", devices=1, max_steps=1, limit_val_batches=0, callbacks=[watch], plugins=plugins, **quiet)
    trainer.fit(module, datamodule=TrialData(build_dataset(spec, "train", training=True, seed=1), None, spec, seed=1, start=Start()))
    return watch.norms


@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
def test_fp16_clips_the_gradient_after_it_is_unscaled(scenes: SampleSet) -> None:
    single, half = norms_of_one_step(scenes, "fp32"), norms_of_one_step(scenes, "fp16")
    assert half[0] == pytest.approx(single[0], rel=0.02)
    assert [single[1], half[1]] == pytest.approx([0.1, 0.1], rel=1e-3)


def test_the_autocast_of_training_reaches_the_inside_of_the_stereo_network(scenes: SampleSet) -> None:
    network = build_network(spec_from_dict(small(stereo_spec(scenes, precision="fp16")))).train()
    types: set[torch.dtype] = set()
    network.update_block.disp_head.register_forward_hook(lambda module, inputs, output: types.add(output.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16):
        _, maps = network.unroll(torch.rand(1, 3, 32, 64), torch.rand(1, 3, 32, 64), 1)
    assert types == {torch.float16}
    assert maps[0].dtype == torch.float32  # the disparity itself stays exact
