"""What the caller set survives the route that is taken, and a foreign skill is resolved like our own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from automl import cli
from automl.entry import DONE, run_app
from automl.limits import Limits
from automl.resolve import Resolved, RunRequest, resolve
from search_spaces.errors import SkillError
from search_spaces.skill import find_skill
from tests.automl.samples import small_stereo_spec
from tests.search_spaces.foreign import write_foreign_skill


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunRequest:
    monkeypatch.chdir(tmp_path)
    spec = small_stereo_spec(tmp_path)
    weights = tmp_path / "parent.pth"
    return RunRequest(
        skill="depth_net_stereo",
        spec_file=spec,
        overrides=("train.optim.lr=0.002", "dataset.train_dataset.batch_size=2", f"train.pretrained_model_path={weights}"),
        results=Path("out"),
        epochs=4,
        seed=7,
        metrics=("val/epe",),
    )


def kept(resolved: Resolved) -> tuple[object, ...]:
    spec = resolved.spec
    train = spec.dataset.train_dataset
    return (
        train.data_sources,
        spec.dataset.val_dataset.data_sources,
        train.batch_size,
        spec.train.optim.lr,
        spec.train.num_epochs,
        spec.train.seed,
        Path(spec.train.pretrained_model_path or "").name,
        resolved.folder,
        resolved.objective.metric,
    )


@pytest.mark.parametrize("route", [{"policy": "off"}, {"text": "plain training, please"}, {"policy": "on"}, {}])
def test_everything_the_caller_set_survives(request_of: RunRequest, route: dict[str, str]) -> None:
    found = kept(resolve(replace(request_of, **route)))
    assert found[2:] == (2, 0.002, 4, 7, "parent.pth", Path("out"), "val/epe")
    assert found == kept(resolve(replace(request_of, policy="auto")))


def test_a_fallback_trains_what_was_asked_for_and_says_why(request_of: RunRequest, tmp_path: Path) -> None:
    shutil.copytree(find_skill("depth_net_stereo").root, tmp_path / "bare")
    (tmp_path / "bare" / "schemas" / "train.schema.json").unlink()
    bare = replace(request_of, skill=str(tmp_path / "bare"))
    with pytest.raises(SkillError, match="not runnable for this model until schemas are generated"):
        resolve(bare)
    resolved = resolve(replace(bare, direct_fallback=True))
    assert not resolved.route.search
    assert "not runnable for this model until schemas are generated" in resolved.route.why
    assert kept(resolved) == kept(resolve(request_of))


def test_plain_training_does_without_a_template(request_of: RunRequest, tmp_path: Path) -> None:
    shutil.copytree(find_skill("depth_net_stereo").root, tmp_path / "bare")
    (tmp_path / "bare" / "references" / "spec_template_train.yaml").unlink()
    resolved = resolve(replace(request_of, skill=str(tmp_path / "bare"), policy="off"))
    assert any("the defaults of this project stand in for it" in note for note in resolved.notes)


def test_options_of_a_search_are_told_to_be_idle_in_plain_training(request_of: RunRequest) -> None:
    asked = replace(request_of, text="no HPO, please", trials=3, params="lr", storage="postgresql://h/d", limits=Limits(max_hours=2.0))
    assert "without effect in plain training: --trials, --params, --storage and --max-hours" in resolve(asked).notes
    assert not any("without effect" in note for note in resolve(replace(request_of, policy="off")).notes)


def test_a_foreign_skill_outside_the_project_is_searched(request_of: RunRequest, tmp_path: Path) -> None:
    resolved = resolve(replace(request_of, skill=str(write_foreign_skill(tmp_path / "theirs"))))
    assert resolved.route.search
    assert kept(resolved) == kept(resolve(request_of))
    assert f"({tmp_path / 'theirs'}) enables AutoML" in resolved.route.why
    assert "train.optim.foreach of the skill's template is left out: this trainer has no such key" in resolved.notes


def test_a_dry_run_of_plain_training_needs_no_schema(request_of: RunRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(find_skill("depth_net_stereo").root, tmp_path / "bare")
    (tmp_path / "bare" / "schemas" / "train.schema.json").unlink()
    arguments = ["run", "--skill", "bare", "-e", str(request_of.spec_file), "--allow-direct-fallback", "--dry-run", "--json"]
    assert run_app(cli.app, "automl", arguments) == DONE
    data = json.loads(capsys.readouterr().out)
    assert data["route"]["search"] is False
    assert not (tmp_path / "results").exists()


def test_skills_are_listed_with_network_automl_and_what_keeps_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a path below the current folder is short enough for its column
    write_foreign_skill(tmp_path / "theirs" / "good")
    bad = write_foreign_skill(tmp_path / "theirs" / "bad")
    info = bad / "references" / "skill_info.yaml"
    info.write_text(info.read_text().replace("depth_net_stereo", "segformer"))
    assert run_app(cli.app, "automl", ["skills", str(tmp_path / "theirs"), "--json"]) == DONE
    rows = [(row["network_arch"], row["automl_enabled"], row["runnable"]) for row in json.loads(capsys.readouterr().out)]
    assert rows == [
        ("depth_net_mono", True, True),
        ("depth_net_stereo", True, True),
        ("segformer", True, False),
        ("depth_net_stereo", True, True),
    ]
    assert run_app(cli.app, "automl", ["skills", str(tmp_path / "theirs")]) == DONE
    table = capsys.readouterr().out
    assert "no: skill" in table
    assert "theirs/bad)" in table
