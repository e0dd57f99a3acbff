"""One segment of a trial as an engine carries it to a worker."""

from __future__ import annotations

from pathlib import Path

from automl.config import StudyConfig
from automl.trial_record import TrialRecord
from search_spaces.spec import Spec, spec_to_dict, with_values
from trials import states
from trials.contract import TrialSpec

LATEST = Path("train") / states.LATEST


def is_saved(record: TrialRecord, study_folder: Path) -> bool:
    """Whether the state on disk is that of the trial's newest report: a worker that dies between the two leaves an older one, or none."""
    return states.steps_saved(study_folder / record.folder / "train") >= int(record.last_report.get("step", 0))


def segment_spec(record: TrialRecord, config: StudyConfig, base: Spec, study_folder: Path) -> TrialSpec:
    """The next segment of `record`: its values in the `base` spec of the study, from its newest state where it has one."""
    folder = study_folder / record.folder
    own = {"results_dir": str(folder), "train.results_dir": None, "train.num_epochs": config.epochs, "train.seed": record.seed}
    spec = with_values(base, {**record.values, **own})
    latest = folder / LATEST
    begun = record.segments > 0 or record.start > 0
    return TrialSpec(
        study=config.name,
        number=record.number,
        skill=config.skill,
        spec=spec_to_dict(spec),
        values=dict(record.values),
        max_epochs=config.epochs,
        seed=record.seed,
        folder=folder,
        objective=config.objective,
        costs=tuple(objective.metric for objective in config.further if objective.is_cost),
        resume_from=latest if begun and latest.is_file() else None,
    )
