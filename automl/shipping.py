"""From a choice to a product: choice.json, the test list, promotion, registration; and `automl promote`.

Every step writes its result.  The test list is measured once in the life of a study, for the winner of the search: a trial that is
picked by hand is not measured on it, or the list would become one more way to choose.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from automl.config import StudyConfig, at_home
from automl.console import counted, metric_text, number_text, screen, tell
from automl.entry import DONE, FAILED, quiet_libraries, say_error
from automl.folders import place_text
from automl.front import front_of
from automl.front_choice import Member, choose_front, front_data, members_of
from automl.mirror import Mirror, ModelRecord, Tracking, prepare_database
from automl.reader import final_trials, read_snapshot
from automl.report import write_report
from automl.snapshot import StudySnapshot, TrialSummary, ranking
from automl.status import CHOICE_FILE, read_json
from automl.storage import driver_right
from automl.summary import promotion_rows
from automl.tracking import content_hash, tracking_for
from automl.winner import Candidate, Choice, candidates_of, choice_data, choose, evaluate_test, evaluation_judge, pick, save_choice, spec_of
from search_spaces.errors import SpecError, StudyError, shell_word
from search_spaces.spec import spec_from_dict, with_values

FORMS = ("int8", "engine")  # what is made of the ONNX file, as promotion.json calls it


@dataclass(frozen=True, kw_only=True)
class Target:
    """What a winner is shipped as: formats (None: what its spec and the machine suggest), and height and width of the model, None for
    those of its validation crops."""

    formats: tuple[str, ...] | None = None
    height: int | None = None
    width: int | None = None


def target_of(to: str | None, height: int | None, width: int | None) -> Target:
    """The target of `--to A,B`."""
    formats = None if to is None else tuple(name.strip() for name in to.split(","))
    return Target(formats=formats, height=height, width=width)


def open_mirror(tracking: Tracking, console: Console) -> Mirror:
    """The mirror of a study, its database made before any worker can; a fault is said once and stops nothing."""

    def warn(message: str) -> None:
        console.print(f"[yellow]warning:[/] {escape(message)}", soft_wrap=True)

    try:
        prepare_database(tracking)
    except Exception as error:  # noqa: BLE001  a mirror never fails the study
        warn(f"MLflow at {tracking.shown} cannot be prepared: {error}")
    return Mirror(tracking, warn=warn)


def is_shipped(folder: Path, trials: Sequence[TrialSummary], finalists: Sequence[TrialSummary]) -> bool:
    """Whether a choice among just these trials was made and all of it promoted, or rejected by the gate."""
    known, members = read_json(folder / CHOICE_FILE), members_of(folder)
    if known is None or any((one.promotion or {}).get("checkpoint") != one.entry.get("checkpoint") for one in members):
        return False
    return known.get("among") == [len(trials), len(finalists)]


def ship_best(
    folder: Path,
    config: StudyConfig,
    trials: tuple[TrialSummary, ...],
    finalists: Sequence[TrialSummary],
    *,
    console: Console,
    target: Target | None = None,
) -> None:
    """Chooses the winner (with several objectives the front) by one fixed evaluation, measures it on the test list and promotes it."""
    judge = evaluation_judge(config)
    if config.further:
        console.print("choosing the front by one fixed evaluation ...")
        front = front_of(trials, config)
        choice = choose_front(candidates_of(front, finalists, config, unrepeated=len(front)), judge, config.objectives)
    else:
        console.print("choosing the winner by one fixed evaluation ...")
        choice = choose(candidates_of(ranking(trials, config.direction), finalists, config), judge, minimise=config.direction == "minimize")
    test = _known_test(folder, choice) or evaluate_test(choice, config)
    ship(folder, config, choice, test=test, among=(len(trials), len(finalists)), console=console, target=target)


def ship(
    folder: Path,
    config: StudyConfig,
    choice: Choice,
    *,
    test: Mapping[str, Any] | None,
    among: Sequence[int],
    console: Console,
    target: Target | None = None,
) -> None:
    """Writes the choice and promotes its winner, or every member of its front, as `target` says."""
    front = {"front": front_data(choice, config.objectives)} if config.further else {}
    save_choice(folder, {**choice_data(choice, config, test=test, among=among), **front})
    shipped = choice.front or (choice.winner,)
    for one, member in zip(shipped, members_of(folder), strict=True):
        what = "it" if len(shipped) == 1 else f"trial {one.candidate.configuration} of the front"
        console.print(f"promoting {what} to ONNX ...")
        _promote(one.candidate, member.folder, folder, config, target=target or Target(), console=console)


def _promote(candidate: Candidate, place: Path, folder: Path, config: StudyConfig, *, target: Target, console: Console) -> None:
    """Ships one checkpoint of the study in `folder` to `place`."""
    from deploy.promotion import promote

    # the spec that goes with the model names it, so that `depth_net evaluate -e promotion/spec.yaml` needs nothing else
    model = str(place / "model.onnx")
    own = {"results_dir": str(folder), "evaluate.checkpoint": model, "inference.checkpoint": model}
    spec = with_values(spec_of(candidate, config), {**own, "export.checkpoint": str(candidate.checkpoint)})
    # without a validation list the runtimes are compared on training images
    split = "val" if spec.dataset.val_dataset.data_sources else "train"
    with at_home(config):
        promote(
            candidate.checkpoint,
            place,
            spec=spec,
            formats=target.formats,
            split=split,
            height=target.height,
            width=target.width,
            stage=functools.partial(counted, console),
        )


def register(folder: Path, config: StudyConfig, mirror: Mirror, *, data_hash: str, console: Console) -> None:
    """Registers every model that the gate let through: the champion of its skill, and those beside it on a front.

    The mirror's faults stop nothing.
    """
    choice, members = read_json(folder / CHOICE_FILE) or {}, members_of(folder)
    shared = {
        "study": config.name,
        "study_id": mirror.tracking.study_id,
        "data_hash": data_hash,
        "evaluation_hash": str(choice.get("evaluation_hash", "")),
        "folder": str(folder),
        **({"front": ", ".join(str(member.entry["trial"]) for member in members)} if config.further else {}),
    }
    for member in (one for one in members if one.promoted):
        record = _model_record(member, config, shared)
        version = mirror.register(record)
        if version is not None:
            told = f", alias {' and '.join(record.aliases)}" if record.aliases else ""
            tell(console, f"registered: {config.skill} version {version}{told}")


def _model_record(member: Member, config: StudyConfig, shared: Mapping[str, str]) -> ModelRecord:
    entry, promotion = member.entry, member.promotion or {}
    trial = int(entry.get("trial", 0))
    values = entry.get("objectives", {config.objective: entry.get("value")})
    return ModelRecord(
        name=config.skill,
        key=f"{shared['study_id']}-{promotion['checkpoint_sha256']}",
        run_key=f"trial-{trial:04d}",
        folder=member.folder,
        tags={
            **shared,
            "trial": str(trial),
            "seed": str(entry.get("seed", "")),
            "checkpoint": str(entry.get("checkpoint", "")),
            "spec_hash": str(promotion["spec_sha256"]),
            **{name.replace("/", "_"): metric_text(value, name).replace(",", "") for name, value in values.items()},
            **_figures(promotion),
        },
        aliases=tuple(entry["aliases"]),
    )


def _figures(promotion: Mapping[str, Any]) -> dict[str, str]:
    """The files of a promotion, and of each runtime its median latency and its metrics, as tags of a registered version."""
    rows = promotion["latency"]["rows"]
    speeds = {f"{row['runtime']}/p50_ms_batch_{row['batch']}": number_text(row["median_ms"]) for row in rows}
    metrics = {
        f"{runtime}/{name}": number_text(value) for runtime, values in promotion["metrics"].items() for name, value in values.items()
    }
    return {"files": ", ".join(promotion["files"]), **metrics, **speeds}


def promote_study(folder: Path, number: int | None, target: Target | None = None) -> int:
    """`automl promote`: ships the winner again, or trial `number` in its place, as `target`; the exit code."""
    quiet_libraries()
    snapshot, console = read_snapshot(folder), screen()
    target = target or Target()
    check_target(target, snapshot.config)
    if snapshot.active:
        raise StudyError(
            f"{folder} is being run by another process", hint=f"end it with `automl stop {shell_word(folder)}`, or wait for its end"
        )
    config, finalists = snapshot.config, final_trials(folder)
    if number is None and (snapshot.end is None or not snapshot.end.reason.is_success):
        raise StudyError(
            f"the search in {folder} is not over, so it has no winner yet",
            hint=f"`automl resume {shell_word(folder)}` goes on; --trial N ships a trial of your choice",
        )
    lock = driver_right(snapshot.folder, config)
    lock.take()
    mirror = open_mirror(tracking_for(snapshot.folder, config.name, config.study_id), console)
    try:
        if number is None:
            ship_best(snapshot.folder, config, snapshot.trials, finalists, console=console, target=target)
        else:
            choice = pick(_named(snapshot, number), evaluation_judge(config))
            among = (len(snapshot.trials), len(finalists))
            ship(snapshot.folder, config, choice, test=_known_test(snapshot.folder, choice), among=among, console=console, target=target)
        write_report(snapshot, finalists)
    finally:
        mirror.close()
        lock.release()
    return _said(snapshot.folder, config, target, mirror, console)


def _said(folder: Path, config: StudyConfig, target: Target, mirror: Mirror, console: Console) -> int:
    """Says what `automl promote` shipped and registers it; the exit code."""
    members = members_of(folder)
    for member in members:
        if len(members) > 1:
            tell(console, f"trial {member.entry['trial']}")
        for name, text in promotion_rows(member.promotion or {}, member.folder, config.objective.partition("/")[2]).items():
            tell(console, f"{name:12}  {text}")
    register(folder, config, mirror, data_hash=lists_hash(config), console=console)
    if not all(member.promoted for member in members):
        return FAILED
    asked = [(member.promotion or {}, name) for member in members for name in FORMS if name in (target.formats or ())]
    missing = [f"{name}: {promotion[name]['reason']}" for promotion, name in asked if not promotion[name]["built"]]
    if missing:
        say_error(f"not all that --to asks for was shipped: {'; '.join(missing)}", "the model itself is; promotion.json has the figures")
    return FAILED if missing else DONE


def export_report(folder: Path) -> int:
    """`automl export-report`: writes the report of a study as it stands, running or not, and says where."""
    snapshot = read_snapshot(folder)
    tell(screen(), place_text(write_report(snapshot, final_trials(folder))))
    return DONE


def lists_hash(config: StudyConfig) -> str:
    """One hash of the training and the validation lists."""
    from trials.data import data_hash

    spec = spec_from_dict(config.spec)
    splits = [split for split in ("train", "val") if getattr(spec.dataset, f"{split}_dataset").data_sources]
    with at_home(config):
        return content_hash([data_hash(spec, split) for split in splits])


def check_target(target: Target, config: StudyConfig) -> None:
    """Refuses a size that the network does not take, and formats that cannot be made here, before anything is measured."""
    from deploy.forms import check_formats
    from deploy.onnx_export import nearest_legal_size
    from models.registry import network_info

    spec = spec_from_dict(config.spec)
    stride = network_info(spec.model.model_type).stride
    sides = nearest_legal_size(*spec.dataset.val_dataset.augmentation.crop_size, stride)
    size = (target.height or sides[0], target.width or sides[1])
    legal = nearest_legal_size(*size, stride)
    if size != legal:
        message = f"height and width must be multiples of {stride} for this network, but got {size[0]}x{size[1]}"
        raise SpecError(message, hint=f"the nearest legal size: --height {legal[0]} --width {legal[1]}")
    with at_home(config):
        check_formats(target.formats or (), spec)


def _named(snapshot: StudySnapshot, number: int) -> TrialSummary:
    try:
        return snapshot.trial(number)
    except KeyError as error:
        raise StudyError(
            f"{snapshot.folder} has no trial {number}", hint=f"`automl status {shell_word(snapshot.folder)}` lists them"
        ) from error


def _known_test(folder: Path, choice: Choice) -> dict[str, Any] | None:
    """What the test list said of this very checkpoint when it was the winner."""
    known = read_json(folder / CHOICE_FILE)
    same = known is not None and known.get("checkpoint") == str(choice.winner.candidate.checkpoint)
    return known["test"] if known is not None and same else None
