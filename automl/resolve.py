"""From what was typed to what is meant: skill, route, checked spec, objectives, study folder.

Precedence of the spec: defaults < the skill's template < the file < settings < key=value overrides and the options that stand for
one key (--epochs, --seed, --gpus-per-trial).  Nothing is written, and torch is imported only to look into a weight file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from automl.config import check_gpu_share
from automl.console import and_text
from automl.folders import check_folder, check_here, stored_url
from automl.from_weights import fitted
from automl.limits import OPTIONS, Limits
from automl.policy import Route, asked_policy, decide
from automl.settings import SearchSettings, checked_budget, read_settings, understood
from automl.stored_study import new_study_copy
from search_spaces.errors import DataError, SkillError, SpecError, StudyError, UnsupportedError, UserError, shell_word
from search_spaces.objective import LEADING, Objective, objectives_for
from search_spaces.skill import Skill, find_skill, list_skills
from search_spaces.space_request import request_of
from search_spaces.spec import LoadedSpec, Spec, get_value, read_spec, with_values
from search_spaces.spec.load import known_part
from search_spaces.spec.values import at_place

RESULTS = Path("results")


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """The command line of `automl run` and `automl off`; None is "not said"."""

    skill: str | None = None
    spec_file: Path | None = None
    overrides: tuple[str, ...] = ()
    results: Path | None = None
    trials: int | None = None
    epochs: int | None = None
    algorithm: str | None = None
    searcher: str | None = None
    fidelity: str | None = None
    settings_file: Path | None = None
    params: str | None = None
    ranges: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    priors: tuple[str, ...] = ()
    parallel: int | None = None
    gpus_per_trial: float | None = None
    seed: int | None = None
    metrics: tuple[str, ...] = ()
    engine: str = "ray"
    address: str | None = None
    storage: str | None = None
    policy: str | None = None
    text: str | None = None
    direct_fallback: bool = False
    val_fraction: float | None = None
    limits: Limits = field(default_factory=Limits)
    warm_start: tuple[Path, ...] = ()
    enqueue: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """A request that makes sense: `notes` are lines that the user should see before anything starts.  The first of `objectives` leads.

    `folder` is kept like `url`, where the user named one.  `settings` are those of files and options together.  `split_fraction` is set
    when a validation list has to be cut out of the training list first.
    """

    request: RunRequest
    skill: Skill
    route: Route
    spec: Spec
    objectives: tuple[Objective, ...]
    settings: SearchSettings
    folder: Path
    url: str | None
    notes: tuple[str, ...]
    split_fraction: float | None

    @property
    def objective(self) -> Objective:
        """The one that picks the best epoch of a training."""
        return self.objectives[0]


def resolve(request: RunRequest) -> Resolved:
    """What `request` means; UserError for everything that cannot be meant."""
    if request.address is not None and request.engine != "ray":
        raise StudyError(f"--address goes with --engine ray, not with {request.engine}", hint="leave one of the two out")
    skill = _skill(request)
    given, overrides = read_settings(request.spec_file, request.settings_file, request.overrides)
    request = replace(request, overrides=overrides)
    named = understood(given, algorithm=request.algorithm, searcher=request.searcher, fidelity=request.fidelity, metrics=request.metrics)
    settings = with_options(named, request)
    asked = asked_policy(request.policy, settings.policy, request.text)
    route = decide(asked.policy, skill, source=asked.source, fallback=request.direct_fallback)
    template, told = _template(skill, route)
    loaded = fitted(_load(request, settings, template, route))
    spec = loaded.spec
    _check_family(skill, spec)
    check_one_machine(loaded)
    if not route.search:  # a search has its own ways to place trials
        check_devices(loaded)
    objectives = _objectives(spec, request.metrics, settings)
    if not route.search:
        check_alone(request.metrics)
        objectives = objectives[:1]  # those of the settings belong to a search
    objective = objectives[0]
    fraction = _split_fraction(spec, request, objective)
    notes = [*told, *loaded.assumed, *loaded.warnings]
    if route.search:
        notes += [*settings.notes, *checked_budget(settings, epochs=spec.train.num_epochs)]
        if "cpus_per_trial" in settings.fields and request.address is None:
            notes.append("cpus_per_trial has no effect without --address: this machine's cores are divided by the trials at once")
        if settings.space.priors and settings.searcher == "grid":
            notes.append("priors have no effect: a grid takes every combination")
    else:
        idle = [*(["the settings of a search"] if given.values else []), *_search_options(request)]
        if idle:
            notes.append(f"without effect in plain training: {and_text(idle)}")
    if spec.train.results_dir:
        notes.append("train.results_dir has no effect: a study's folder has its own layout; --results names it")
    if objective.metric.startswith("train/"):
        notes.append(
            f"{objective.metric} is a proxy: it says how well the training images are learned, not how good the network is on new ones"
        )
    folder, resumes = _folder(request, skill, loaded), spec.train.resume != "never"
    url = stored_url(folder)
    if url is None:
        check_folder(folder, resumes=resumes)
    else:
        folder = new_study_copy(spec, url, resumes=resumes)
        notes.append(f"trials write to {folder}, and {url} is kept like it")
    return Resolved(
        request=request,
        skill=skill,
        route=route,
        spec=spec,
        objectives=objectives,
        settings=settings,
        folder=folder,
        url=url,
        notes=tuple(notes),
        split_fraction=fraction,
    )


def _search_options(request: RunRequest) -> list[str]:
    """The options given that mean nothing without a search."""
    said = {
        "--trials": request.trials,
        "--algorithm": request.algorithm,
        "--searcher": request.searcher,
        "--fidelity": request.fidelity,
        "--params": request.params,
        "--range": request.ranges,
        "--choices": request.choices,
        "--prior": request.priors,
        "--parallel": request.parallel,
        "--address": request.address,
        "--storage": request.storage,
        "--warm-start": request.warm_start,
        "--enqueue": request.enqueue,
        **{OPTIONS[name]: value for name, value in request.limits.to_data().items()},
    }
    return [option for option, value in said.items() if value]


def _skill(request: RunRequest) -> Skill:
    if request.skill is None:
        names = ", ".join(skill.name for skill in list_skills())
        raise SkillError("no skill is named", hint=f"add --skill NAME; there are {names}")
    return find_skill(request.skill)


def with_options(settings: SearchSettings, request: RunRequest) -> SearchSettings:
    """The settings with what the options of the command line say on top."""
    options = {"trials": request.trials, "epochs": request.epochs, "parallel": request.parallel}
    asked = request_of(request.params, request.ranges, request.choices, request.priors)
    space = replace(
        settings.space,
        names=asked.names or settings.space.names,
        changes={**settings.space.changes, **asked.changes},
        priors={**settings.space.priors, **asked.priors},
    )
    fields = {**settings.fields, **{name: value for name, value in options.items() if value is not None}}
    return replace(settings, fields=fields, space=space)


def _template(skill: Skill, route: Route) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The skill's template without the keys that this trainer does not have, and lines on what was amiss.

    Plain training goes without a template that is missing or broken; a search never comes here with one.
    """
    try:
        template, unknown = known_part(skill.template())
    except SkillError as error:
        if route.search:
            raise
        return {}, (f"{error.message}: the defaults of this project stand in for it",)
    return template, tuple(f"{key} of the skill's template is left out: this trainer has no such key" for key in unknown)


def no_spec_file(path: Path, *, else_: str = "") -> SpecError:
    """What is wrong with a path after -e at which no file is; `else_` is what would be done without -e."""
    if path.is_dir():
        return SpecError(f"-e takes a spec file, but {path} is a folder", hint=f"name the file in it: -e {shell_word(path / 'spec.yaml')}")
    return SpecError(f"there is no spec file {path}", hint=f"check the path given with -e{else_}")


def _load(request: RunRequest, settings: SearchSettings, template: Mapping[str, Any], route: Route) -> LoadedSpec:
    if request.spec_file is not None:
        check_here(request.spec_file, what="a spec", hint="copy it here; the lists, images and weights that it names may be there")
    if request.spec_file is not None and not request.spec_file.is_file():
        raise no_spec_file(request.spec_file, else_="; without -e the skill's template is used")
    overrides = with_key_options(request)
    by_setting = settings.fields.get("epochs") if route.search and request.epochs is None else None
    if by_setting is not None and not any(text.lstrip("+").startswith("train.num_epochs=") for text in request.overrides):
        overrides.append(f"train.num_epochs={by_setting}")
    # how many devices a search gives each trial is the driver's matter, not that of a scheduler's variables
    environ = None if route.search else os.environ
    return with_asked_gpus(read_spec(request.spec_file, overrides, template=template, action="train", environ=environ), request)


def with_key_options(request: RunRequest) -> list[str]:
    """The overrides, and the options that stand for one key as such; SpecError where the two say different things."""
    given: Sequence[tuple[str, str, int | None]] = (
        ("--epochs", "train.num_epochs", request.epochs),
        ("--seed", "train.seed", request.seed),
        ("--gpus-per-trial", "train.num_gpus", whole_gpus(request.gpus_per_trial) or None),
    )
    overrides = list(request.overrides)
    for option, key, value in given:
        if value is None:
            continue
        clash = [text for text in request.overrides if text.partition("=")[0].lstrip("+") == key and text.partition("=")[2] != str(value)]
        if clash:
            raise SpecError(f"{option} {value} and {clash[0]} say different things about {key}", hint="give one of the two")
        overrides.append(f"{key}={value}")
    return overrides


def with_asked_gpus(loaded: LoadedSpec, request: RunRequest) -> LoadedSpec:
    """The spec with as many GPUs as --gpus-per-trial says, also where its own list is longer; a scheduler's variables win."""
    gpus = whole_gpus(request.gpus_per_trial)
    if not gpus or loaded.places["train.num_gpus"].startswith("environment") or len(loaded.spec.train.gpu_ids) == gpus:
        return loaded
    return replace(loaded, spec=with_values(loaded.spec, {"train.num_gpus": gpus, "train.gpu_ids": list(range(gpus))}))


def whole_gpus(asked: float | None) -> int:
    """Devices that a trial with `asked` GPUs sees: a share of one is one; 0 when nothing was asked for."""
    check_gpu_share(asked or 0)
    return math.ceil(asked or 0)


def check_devices(loaded: LoadedSpec) -> None:
    """UserError, with the place, for devices or machines that plain training of a spec does not find."""
    from trials.layout import run_layout, visible_gpus

    train = loaded.spec.train
    try:
        run_layout(loaded.spec, study=False, environ=os.environ, gpus=visible_gpus())
    except UserError as error:
        # of number and list of GPUs the longer decided
        numbered = train.gpu_ids == tuple(range(train.num_gpus)) and "train.num_gpus" in loaded.places
        places = {"train.num_nodes": "train.num_nodes", "train.num_gpus": "train.num_gpus" if numbered else "train.gpu_ids"}
        for key, at in places.items():
            said, place = f"{key} is {get_value(loaded.spec, key)}", at_place(at, loaded.places)
            if said in error.message and place:
                variable = place.rpartition("environment variable ")[2].rstrip(")") if "environment" in place else ""
                hint = f"{error.hint}; or unset {variable}" if variable else error.hint
                raise type(error)(error.message.replace(said, said + place, 1), hint=hint) from error
        raise


def check_one_machine(loaded: LoadedSpec) -> None:
    """UnsupportedError for a spec that wants several machines where there is one."""
    if loaded.spec.train.num_nodes > 1:
        place = at_place("train.num_nodes", loaded.places)
        raise UnsupportedError(
            f"this stays on one machine, but train.num_nodes is {loaded.spec.train.num_nodes}{place}",
            hint=f"{'unset WORLD_SIZE' if 'environment' in place else 'set it to 1'}; only `depth_net train` takes several",
        )


def _check_family(skill: Skill, spec: Spec) -> None:
    if skill.unknown_network is not None:
        raise SkillError(f"skill {skill.name} cannot run here: {skill.unknown_network}", hint="`automl skills` lists those that can")
    if spec.family != skill.task:
        raise SpecError(
            f"skill {skill.name} is for {skill.task} networks, but model.model_type is {spec.model.model_type}",
            hint=f"use the skill for {spec.family} networks, or set model.model_type in the spec",
        )


def _objectives(spec: Spec, options: tuple[str, ...], settings: SearchSettings) -> tuple[Objective, ...]:
    named = options or settings.metrics or ("val/loss",)
    metrics = [f"val/{LEADING[spec.family]}" if name == "kpi" else name for name in named]
    objectives = objectives_for(spec.family, metrics, relative=spec.is_relative)
    for said, direction in settings.directions.items():
        for metric, objective in zip(metrics, objectives, strict=True):
            if (said or metrics[0]) in (metric, objective.metric) and direction != objective.direction:
                better = "lower" if objective.direction == "minimize" else "higher"
                raise SpecError(f"direction {direction} is wrong for {objective.metric}: {better} is better", hint="leave direction out")
    for objective in objectives:
        if objective.metric.startswith("test/"):
            raise SpecError(
                f"{objective.metric} cannot be an objective: a test list that chooses the winner is no test list any more",
                hint=f"use val/{objective.metric.partition('/')[2]}; the champion is evaluated on the test list once",
            )
    return objectives


def check_alone(metrics: Sequence[str]) -> None:
    """SpecError for several metrics where there is nothing but one training."""
    if len(metrics) > 1:
        raise SpecError(
            f"plain training has one objective, which picks its best epoch, but got {', '.join(metrics)}", hint=f"--metric {metrics[0]}"
        )


def _split_fraction(spec: Spec, request: RunRequest, objective: Objective) -> float | None:
    if not spec.dataset.train_dataset.data_sources:
        raise DataError(
            "there is no training list: dataset.train_dataset.data_sources is empty",
            hint="name one in the spec (data_file and dataset_name), or make sample scenes: depth_net sample --out samples",
        )
    listed = bool(spec.dataset.val_dataset.data_sources)
    if request.val_fraction is not None:
        if listed:
            raise DataError(
                "--val-fraction is given, but the spec names a validation list already",
                hint="leave --val-fraction out, or set dataset.val_dataset.data_sources=[]",
            )
        return request.val_fraction
    if not listed and objective.metric.startswith("val/"):
        raise DataError(
            f"there is no validation list, so {objective.metric} cannot be measured: dataset.val_dataset.data_sources is empty",
            hint="either set part of the training list aside with --val-fraction 0.2, or optimise --metric train/loss, only a proxy",
        )
    return None


def _folder(request: RunRequest, skill: Skill, loaded: LoadedSpec) -> Path:
    """--results, else the user's results_dir, else results/SKILL."""
    if request.results is not None:
        return request.results
    if "results_dir" in loaded.given and loaded.spec.results_dir:
        return Path(loaded.spec.results_dir)
    return RESULTS / skill.network_arch
