"""The command lines are frozen lists: a new knob goes into the spec, not here."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from automl import cli, depth_net
from automl.entry import DONE, MISUSED, run_app

COMMANDS = {
    "run": "--skill -e --spec --results --trials --epochs --algorithm --searcher --fidelity --settings --params --range --choices "
    "--prior --parallel --gpus-per-trial --seed --metric --engine --address --storage --policy --request --allow-direct-fallback "
    "--val-fraction --max-hours --gpu-hours --deadline --disk-budget --trial-timeout --warm-start --enqueue --yes -y --dry-run --json",
    "off": "--skill -e --spec --from --results --epochs --gpus-per-trial --seed --metric --val-fraction --yes -y",
    "status": "--json",
    "resume": "--address --yes -y",
    "extend": "--trials --max-hours --gpu-hours --deadline --disk-budget --epochs --yes -y",
    "promote": "--trial --to --height --width",
    "try": "--left --right --image --out",
    "export-report": "",
    "stop": "--trial",
    "logs": "--follow -f",
    "dashboard": "--port",
    "skills": "--json",
}
ACTIONS = {
    "train": "-e --experiment_spec_file",
    "evaluate": "-e --experiment_spec_file --parent --pick",
    "inference": "-e --experiment_spec_file --parent --pick",
    "export": "-e --experiment_spec_file --parent --pick",
    "quantize": "-e --experiment_spec_file --parent --pick",
    "gen_trt_engine": "-e --experiment_spec_file --parent --pick",
    "check_onnx": "--target --nodes",
    "convert": "-e --experiment_spec_file",
    "default_specs": "--skill --out --force",
    "sample": "--out --scenes --seed",
    "inspect": "--write --names",
}


def options_of(app: typer.Typer) -> dict[str, set[str]]:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    shown = {name: command for name, command in commands.items() if not command.hidden}
    return {name: {option for item in command.params for option in item.opts if option.startswith("-")} for name, command in shown.items()}


def test_automl_has_exactly_these_options():
    assert options_of(cli.app) == {name: set(text.split()) for name, text in COMMANDS.items()}


def test_depth_net_has_exactly_these_options():
    assert options_of(depth_net.app) == {name: set(text.split()) for name, text in ACTIONS.items()}


@pytest.mark.parametrize("script", ["automl", "depth_net"])
def test_help_of_the_console_script_takes_less_than_a_second_of_work(script: str):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([Path(sys.executable).with_name(script), "--help"], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Usage" in done.stdout
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0  # not wall time: the machine may be busy


def test_no_option_is_cut_in_eighty_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 80)
    for command, options in COMMANDS.items():
        assert run_app(cli.app, "automl", [command, "--help"]) == DONE
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 80
        hidden = {"--epochs"} if command == "extend" else set()
        assert [option for option in set(options.split()) - hidden if f" {option} " not in out and f" {option}," not in out] == []


def test_help_imports_no_heavy_package():
    code = "import sys, automl.cli, automl.depth_net; print({'torch', 'ray', 'optuna', 'mlflow', 'numpy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "set()"


def test_a_mistyped_action_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    assert run_app(depth_net.app, "depth_net", ["evalute", "-e", "spec.yaml"]) == MISUSED
    err = capsys.readouterr().err
    assert err.startswith(
        "error: depth_net has no command evalute\n\nhint: did you mean evaluate? commands are default_specs, convert, train"
    )


@pytest.mark.parametrize(("typed", "meant"), [("test", "evaluate"), ("infer", "inference"), ("default-specs", "default_specs")])
def test_an_action_by_another_name(typed: str, meant: str, capsys: pytest.CaptureFixture[str]):
    assert run_app(depth_net.app, "depth_net", [typed]) == MISUSED
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_a_mistyped_option_gets_the_nearest_one(capsys: pytest.CaptureFixture[str]):
    assert run_app(cli.app, "automl", ["run", "--trails", "3"]) == MISUSED
    err = capsys.readouterr().err
    assert err.startswith("error: there is no option --trails\n\nhint: did you mean --trials? ")


def test_plain_training_has_one_objective(capsys: pytest.CaptureFixture[str]):
    assert run_app(cli.app, "automl", ["off", "--skill", "depth_net_stereo", "--metric", "val/epe", "--metric", "latency_ms"]) == MISUSED
    assert capsys.readouterr().err.endswith("but got val/epe, latency_ms\n\nhint: --metric val/epe\n")
