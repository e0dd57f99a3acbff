"""When a train request becomes a search: every row of the policy table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from automl.policy import Policy, asked_policy, decide
from search_spaces.errors import SkillError, SpecError
from search_spaces.skill import Skill, find_skill

INFO = Path("references") / "skill_info.yaml"
SCHEMA = Path("schemas") / "train.schema.json"
TEMPLATE = Path("references") / "spec_template_train.yaml"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the stereo skill that a test may damage."""
    shutil.copytree(find_skill("depth_net_stereo").root, tmp_path / "skill")
    return tmp_path / "skill"


def without_automl(package: Path, line: str = "automl_enabled: false") -> Skill:
    path = package / INFO
    path.write_text(path.read_text().replace("automl_enabled: true", line))
    return find_skill(package)


@pytest.mark.parametrize("policy", [Policy.AUTO, Policy.ON])
def test_an_enabled_skill_is_searched(policy: Policy):
    route = decide(policy, find_skill("depth_net_mono"))
    assert route.search
    assert f"policy {policy.value}" in route.why


def test_off_is_plain_training_whatever_the_skill_says():
    assert not decide(Policy.OFF, find_skill("depth_net_stereo")).search


def test_auto_trains_plainly_and_says_so_when_the_skill_does_not_enable_it(package: Path):
    route = decide(Policy.AUTO, without_automl(package))
    assert not route.search
    assert "does not enable AutoML" in route.why


def test_a_missing_automl_enabled_counts_as_false(package: Path):
    assert not decide(Policy.AUTO, without_automl(package, line="")).search


def test_on_refuses_a_skill_that_does_not_enable_it(package: Path):
    with pytest.raises(SkillError, match="policy on, but skill depth_net_stereo does not enable AutoML"):
        decide(Policy.ON, without_automl(package))


@pytest.mark.parametrize("missing", [SCHEMA, TEMPLATE])
def test_an_enabled_skill_without_its_files_stops_and_names_the_way_out(package: Path, missing: Path):
    (package / missing).unlink()
    with pytest.raises(SkillError, match=r"^AutoML is enabled but not runnable for this model until schemas are generated: ") as caught:
        decide(Policy.AUTO, find_skill(package))
    assert caught.value.hint is not None
    assert "--policy off" in caught.value.hint


@pytest.mark.parametrize("broken", [SCHEMA, TEMPLATE])
def test_a_file_that_cannot_be_parsed_stops(package: Path, broken: Path):
    (package / broken).write_text("{ [")
    with pytest.raises(SkillError, match=r"^AutoML is enabled but not runnable for this model until schemas are generated: "):
        decide(Policy.AUTO, find_skill(package))


def test_a_schema_that_enables_no_parameter_stops(package: Path):
    text = (package / SCHEMA).read_text().replace('"automl_enabled": true', '"automl_enabled": false')
    (package / SCHEMA).write_text(text)
    with pytest.raises(SkillError, match="names no parameter to search"):
        decide(Policy.AUTO, find_skill(package))


def test_policy_off_needs_none_of_the_files(package: Path):
    (package / SCHEMA).unlink()
    assert not decide(Policy.OFF, find_skill(package)).search


def test_the_skill_is_left_as_it_is(package: Path):
    before = {path: path.read_bytes() for path in package.rglob("*") if path.is_file()}
    decide(Policy.OFF, find_skill(package))
    assert {path: path.read_bytes() for path in package.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("explicit", "setting", "text", "policy"),
    [
        (None, None, None, Policy.AUTO),
        (None, None, "no HPO please", Policy.OFF),
        ("on", None, "no HPO please", Policy.ON),
        (None, "auto", "plain training", Policy.AUTO),
        (None, False, None, Policy.OFF),
        (None, "On", None, Policy.ON),
        ("auto", "off", None, Policy.AUTO),
    ],
)
def test_who_decides_the_policy(explicit: str | None, setting: object, text: str | None, policy: Policy):
    assert asked_policy(explicit, setting, text).policy is policy


def test_a_policy_that_is_none_is_refused():
    with pytest.raises(SpecError, match="automl_policy must be one of auto, on, off, but is 'maybe'"):
        asked_policy(None, "maybe", None)


def test_the_reason_quotes_the_phrase():
    asked = asked_policy(None, None, "Train it; disable AutoML this time.")
    assert decide(asked.policy, find_skill("depth_net_mono"), source=asked.source).why == (
        'policy off, because the request says "disable automl": plain training for this run'
    )


@pytest.mark.parametrize("missing", [SCHEMA, TEMPLATE])
def test_plain_training_is_allowed_as_a_fallback_and_said(package: Path, missing: Path):
    (package / missing).unlink()
    route = decide(Policy.AUTO, find_skill(package), fallback=True)
    assert not route.search
    assert "AutoML is enabled but not runnable for this model until schemas are generated" in route.why


def test_on_allows_no_fallback(package: Path):
    (package / SCHEMA).unlink()
    with pytest.raises(SkillError, match="not runnable"):
        decide(Policy.ON, find_skill(package), fallback=True)


def test_a_network_that_is_not_built_in_is_no_matter_of_schemas(package: Path):
    path = package / INFO
    path.write_text(path.read_text().replace("network_arch: depth_net_stereo", "network_arch: segformer"))
    with pytest.raises(SkillError, match="network segformer is not built in"):
        decide(Policy.AUTO, find_skill(package), fallback=True)
