"""What a study was asked to do, resolved once and kept in `study.yaml` beside its results.

Nothing in it changes during the search; `automl resume` reads it back instead of asking again, `automl extend` raises what may be raised.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from automl.head_start import HeadStart, head_start_from_data
from automl.limits import Limits, limits_from_data
from search_spaces.errors import StudyError, nearest, shell_word
from search_spaces.objective import Direction, Objective
from search_spaces.space import Condition, Constraint, Parameter, SearchSpace

CONFIG_FILE = "study.yaml"
STUDY_ID = "study_id"  # among the notes: tells studies of one name apart
_RESTORE = "restore the file, or start a new study"
NAMED = 3  # studies that a hint names
ENGINES = ("ray", "inline")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """The resolved settings of one search.

    `spec` is the complete resolved spec as plain data (`trial 0` runs it as it stands); `space` is the reviewed search space.
    `epochs` is the full budget R of a trial, `trials` the number of configurations that are sampled (trial 0 counts).
    `objective` is a metric's full name and `direction` its sense, "minimize" or "maximize"; `further` are objectives beside it.
    `working_folder` is the folder that relative paths of the spec start from.
    `algorithm` is the name that stood for searcher and fidelity, if one did; `settings` are those of the two (`automl.algorithms`).
    `limits` end the search early or bound its disk; `head_start` is what it knows before its first trial.
    `gpus_per_trial` below 1 is a share of one GPU; `cpus_per_trial` None divides this machine's cores by `parallel`.
    `address` is that of a Ray cluster, None for a Ray of our own; `storage` that of a database, None for a journal in the study folder.
    `notes` belong to the command line (tracking address, promotion size, ...): JSON-able, kept, never read by the search.
    """

    name: str
    skill: str
    spec: Mapping[str, Any]
    space: SearchSpace
    objective: str
    direction: Direction
    trials: int
    epochs: int
    seed: int = 0
    algorithm: str | None = None
    searcher: str = "tpe"
    fidelity: str = "asha"
    settings: Mapping[str, Any] = field(default_factory=dict)
    reduction_factor: int = 3
    min_epochs: int = 1
    parallel: int = 1
    gpus_per_trial: float = 0
    cpus_per_trial: float | None = None
    engine: str = "ray"
    address: str | None = None
    storage: str | None = None
    finalists: int = 2
    finalist_seeds: int = 1
    limits: Limits = field(default_factory=Limits)
    further: tuple[Objective, ...] = ()
    head_start: HeadStart = field(default_factory=HeadStart)
    working_folder: Path = field(default_factory=Path.cwd)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lowest = {
            "trials": 1,
            "epochs": 1,
            "seed": 0,
            "reduction_factor": 2,
            "min_epochs": 1,
            "parallel": 1,
            "finalists": 0,
            "finalist_seeds": 1,
        }
        for name, low in lowest.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise StudyError(f"{name} must be a whole number >= {low}, but got {value!r}", hint=f"give {name} = {low} or more")
        check_gpu_share(self.gpus_per_trial)
        if self.min_epochs > self.epochs:
            raise StudyError(
                f"min_epochs <= epochs must hold, but got min_epochs={self.min_epochs}, epochs={self.epochs}", hint="raise epochs"
            )
        if self.direction not in {"minimize", "maximize"}:
            raise StudyError(f"direction must be minimize or maximize, but got {self.direction!r}", hint="the metric decides it")
        if self.engine not in ENGINES:
            near = nearest(self.engine, ENGINES)
            raise StudyError(
                f"unknown engine {self.engine!r}; known are {', '.join(ENGINES)}",
                hint=f"did you mean {near}?" if near else f"leave it out for {ENGINES[0]}",
            )

    @property
    def record_name(self) -> str:
        """The name of Optuna's study: in a database it says which of the many of that name it is."""
        return self.name if self.storage is None else f"{self.name} {self.notes[STUDY_ID]}"

    @property
    def study_id(self) -> str:
        """What tells the study from others of its name, in MLflow for instance."""
        return str(self.notes.get(STUDY_ID, self.name))

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """All of them, the first one first: it picks the best epoch of a trial and ends poor trials early."""
        return (Objective(metric=self.objective, direction=self.direction), *self.further)


def at_home(config: StudyConfig) -> contextlib.AbstractContextManager[None]:
    """Relative paths of the study's spec start from its working folder meanwhile; where that is gone, from the current one."""
    return contextlib.chdir(config.working_folder) if config.working_folder.is_dir() else contextlib.nullcontext()


def check_gpu_share(gpus: float) -> None:
    """StudyError unless `gpus` is a whole number of GPUs or a share of one."""
    if isinstance(gpus, bool) or not isinstance(gpus, (int, float)) or not (0 <= gpus < 1 or (gpus >= 1 and float(gpus).is_integer())):
        raise StudyError(
            f"gpus_per_trial must be a whole number, or a share of one GPU between 0 and 1, but got {gpus!r}",
            hint="0.5 puts two trials on each GPU, 2 gives each trial two GPUs",
        )


def config_to_data(config: StudyConfig) -> dict[str, Any]:
    """Plain data for `config`, ready for YAML or JSON."""
    data = {item.name: getattr(config, item.name) for item in fields(config)}
    data["spec"] = _plain(config.spec)
    data["space"] = space_to_data(config.space)
    data["working_folder"] = str(config.working_folder)
    data["settings"] = _plain(config.settings)
    data["limits"] = config.limits.to_data()
    data["head_start"] = config.head_start.to_data()
    data["further"] = [asdict(objective) for objective in config.further]
    data["notes"] = _plain(config.notes)
    return data


def config_from_data(data: Mapping[str, Any]) -> StudyConfig:
    """The config that `config_to_data` wrote; StudyError names a key that is unknown or missing."""
    known = {item.name for item in fields(StudyConfig)}
    for key in data:
        if key not in known:
            near = nearest(key, known)
            raise StudyError(f"unknown key {key!r} in {CONFIG_FILE}", hint=f"did you mean {near}?" if near else "restore the file")
    arguments = dict(data)
    try:
        arguments["further"] = tuple(Objective(**item) for item in data.get("further", ()))
        arguments["space"] = space_from_data(data["space"])
        arguments["working_folder"] = Path(data["working_folder"])
        arguments["limits"] = limits_from_data(data["limits"])
        arguments["head_start"] = head_start_from_data(data["head_start"])
        return StudyConfig(**arguments)
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{CONFIG_FILE} is incomplete or not of this release: {error}", hint=_RESTORE) from error


def space_to_data(space: SearchSpace) -> dict[str, Any]:
    """Plain data of a search space, with its fingerprint."""
    parameters = [_plain(asdict(parameter)) for parameter in space.parameters]
    constraints = [asdict(constraint) for constraint in space.constraints]
    return {"skill": space.skill, "fingerprint": space.fingerprint, "parameters": parameters, "constraints": constraints}


def space_from_data(data: Mapping[str, Any]) -> SearchSpace:
    """The search space that `space_to_data` wrote; StudyError when it was changed by hand."""
    constraints = tuple(Constraint(**item) for item in data.get("constraints", ()))
    space = SearchSpace(skill=data["skill"], parameters=tuple(_parameter(item) for item in data["parameters"]), constraints=constraints)
    if data["fingerprint"] != space.fingerprint:
        raise StudyError(
            f"the search space in {CONFIG_FILE} does not match its fingerprint",
            hint="a search cannot change its space half way: restore the file, or start a new study",
        )
    return space


def save_config(config: StudyConfig, folder: Path) -> Path:
    """Write `study.yaml` in one step (it is there whole or not at all) and give its path."""
    path = folder / CONFIG_FILE
    draft = path.with_suffix(".yaml.part")
    text = yaml.safe_dump(config_to_data(config), sort_keys=False, allow_unicode=True, width=120)
    with draft.open("w", encoding="utf-8") as stream:
        stream.write("# What this study was asked to do. Written once; `automl resume` reads it.\n")
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(path)
    return path


def load_config(folder: Path) -> StudyConfig:
    """The config of the study in `folder`; StudyError when there is none or it cannot be read."""
    path = folder / CONFIG_FILE
    if not path.is_file():
        raise StudyError(f"no study in {folder}: {CONFIG_FILE} is not there", hint=_where_studies_are(folder))
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not valid YAML: {' '.join(str(error).split())}", hint=_RESTORE) from error
    if not isinstance(data, dict):
        raise StudyError(f"{path} holds no settings", hint=_RESTORE)
    return config_from_data(data)


def _where_studies_are(folder: Path) -> str:
    """The studies in `folder`, else the one beside it whose name is nearest, else what to look for."""
    inside = sorted(path.parent for path in folder.glob(f"*/{CONFIG_FILE}"))
    if inside:
        more = f" and {len(inside) - NAMED} more" if len(inside) > NAMED else ""
        return f"studies in it: {', '.join(map(shell_word, inside[:NAMED]))}{more}"
    near = nearest(folder.name, [path.parent.name for path in folder.parent.glob(f"*/{CONFIG_FILE}")])
    return "name the folder that `automl run` printed" if near is None else f"did you mean {shell_word(folder.parent / near)}?"


def _plain(value: Any) -> Any:
    """`value` with tuples as lists, as YAML and JSON write them."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _parameter(data: Mapping[str, Any]) -> Parameter:
    condition = data["condition"]
    arguments = {**data, "choices": tuple(data["choices"]), "weights": tuple(data.get("weights", ()))}
    arguments["condition"] = Condition(key=condition["key"], values=tuple(condition["values"])) if condition else None
    return Parameter(**arguments)
