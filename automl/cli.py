"""`automl`: search, train, watch and continue.  Only options and their help stand here; the work is in launch, look and dashboard.

Nothing heavy is imported before a command runs, so `automl --help` answers at once.
"""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from automl.entry import run_app

app = typer.Typer(
    name="automl",
    help="Search the hyperparameters of depth networks, track every trial and promote the winner.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class EngineName(StrEnum):
    """Where trials run."""

    RAY = "ray"
    INLINE = "inline"


class PolicyName(StrEnum):
    """Whether a train request is a search."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


# a table of its own: beside the others its longest option would not fit into 80 columns
POLICY = "Whether to search"

Skill = Annotated[str | None, typer.Option("--skill", help="Skill name or folder; `automl skills` lists them.", metavar="NAME")]
SpecFile = Annotated[Path | None, typer.Option("-e", "--spec", help="spec.yaml; without it the skill's template is used.", metavar="FILE")]
Results = Annotated[Path | None, typer.Option("--results", help="Study folder, or s3://...", metavar="DIR", show_default="results/SKILL")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1, help="Full budget of one trial; the same as train.num_epochs.", metavar="N")]
Gpus = Annotated[
    float | None,
    typer.Option("--gpus-per-trial", min=0, help="Devices of one trial; 0.5 shares one.", metavar="N", show_default="what the spec says"),
]
Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster to run on.", metavar="HOST:PORT", show_default="a Ray of this machine")
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Fixes everything; the same as train.seed.", metavar="N")]
Metric = Annotated[
    list[str] | None,
    typer.Option("--metric", help="What is optimised, val/epe; again for a Pareto front.", metavar="NAME", show_default="val/loss"),
]
ValFraction = Annotated[
    float | None,
    typer.Option("--val-fraction", min=0.01, max=0.9, help="Share of the training list set aside for validation.", metavar="SHARE"),
]
MaxHours = Annotated[
    float | None, typer.Option("--max-hours", help="End the search after so many hours, its finalists included.", metavar="HOURS")
]
GpuHours = Annotated[
    float | None, typer.Option("--gpu-hours", help="End the search after so many hours of GPUs, its finalists included.", metavar="HOURS")
]
Deadline = Annotated[str | None, typer.Option("--deadline", help="Be done by then: 2026-05-04T08:00, local time.", metavar="TIME")]
DiskBudget = Annotated[float | None, typer.Option("--disk-budget", help="Keep checkpoints within so many GiB.", metavar="GIB")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Start without asking.", metavar="")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Spec values, model.encoder=vits for instance; they win over the file.", metavar="[KEY=VALUE]...")
]
StudyDir = Annotated[Path, typer.Argument(help="A study folder, or its s3:// URL.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.", metavar="")]


@app.command()
def run(
    overrides: Overrides = None,
    *,
    skill: Skill = None,
    spec: SpecFile = None,
    results: Results = None,
    trials: Annotated[
        int | None,
        typer.Option("--trials", min=1, help="Configurations to try; trial 0 is the spec's own values.", metavar="N", show_default="10"),
    ] = None,
    epochs: Epochs = None,
    algorithm: Annotated[
        str | None, typer.Option("--algorithm", help="A searcher and a fidelity by one name: asha, bohb, pbt ...", metavar="NAME")
    ] = None,
    searcher: Annotated[
        str | None, typer.Option("--searcher", help="Who proposes configurations.", metavar="NAME", show_default="mfgp")
    ] = None,
    fidelity: Annotated[
        str | None, typer.Option("--fidelity", help="Who stops poor trials early.", metavar="NAME", show_default="asha")
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="Settings of the search by TAO's names, as in the spec's automl block.", metavar="FILE"),
    ] = None,
    params: Annotated[
        str | None, typer.Option("--params", help="Search these parameters instead of the skill's choice.", metavar="A,B,C")
    ] = None,
    ranges: Annotated[
        list[str] | None, typer.Option("--range", help="Other bounds of a parameter; repeat it.", metavar="KEY=LOW:HIGH[:log]")
    ] = None,
    choices: Annotated[list[str] | None, typer.Option("--choices", help="What a parameter may be; repeat it.", metavar="KEY=A,B")] = None,
    priors: Annotated[
        list[str] | None,
        typer.Option("--prior", help="A value you think good: tried first, and less and less followed.", metavar="KEY=VALUE"),
    ] = None,
    parallel: Annotated[
        int | None, typer.Option("--parallel", min=1, help="Trials at once.", metavar="N", show_default="what the machine holds")
    ] = None,
    gpus_per_trial: Gpus = None,
    seed: Seed = None,
    metric: Metric = None,
    engine: Annotated[EngineName, typer.Option("--engine", help="Ray Tune, or this process alone.")] = EngineName.RAY,
    address: Address = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage", help="Database of the record: postgresql://USER@HOST/DB.", metavar="URL", show_default="a file in the study folder"
        ),
    ] = None,
    policy: Annotated[
        PolicyName | None,
        typer.Option(
            "--policy",
            help="auto: search if the skill enables it; on: or fail; off: plain training.",
            show_default="auto",
            rich_help_panel=POLICY,
        ),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--request",
            help='What you want in words; "no HPO" or "plain training" turn the search off.',
            metavar="TEXT",
            rich_help_panel=POLICY,
        ),
    ] = None,
    direct_fallback: Annotated[
        bool,
        typer.Option(
            "--allow-direct-fallback",
            help="Plain training where the skill's schema or template is missing.",
            metavar="",
            rich_help_panel=POLICY,
        ),
    ] = False,
    val_fraction: ValFraction = None,
    max_hours: MaxHours = None,
    gpu_hours: GpuHours = None,
    deadline: Deadline = None,
    disk_budget: DiskBudget = None,
    trial_timeout: Annotated[
        float | None, typer.Option("--trial-timeout", help="Give up a trial that reports nothing for so many minutes.", metavar="MINUTES")
    ] = None,
    warm_start: Annotated[
        list[Path] | None, typer.Option("--warm-start", help="Learn from this earlier study; may be given again.", metavar="STUDY")
    ] = None,
    enqueue: Annotated[Path | None, typer.Option("--enqueue", help="YAML list of configurations to try first.", metavar="FILE")] = None,
    yes: Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the review; start and write nothing.", metavar="")] = False,
    as_json: Json = False,
) -> int:
    """Search: propose configurations, train them, stop the poor ones, promote the winner."""
    from automl.launch import run_request
    from automl.limits import limits_of
    from automl.resolve import RunRequest

    request = RunRequest(
        skill=skill,
        spec_file=spec,
        overrides=tuple(overrides or ()),
        results=results,
        trials=trials,
        epochs=epochs,
        algorithm=algorithm,
        searcher=searcher,
        fidelity=fidelity,
        settings_file=settings,
        params=params,
        ranges=tuple(ranges or ()),
        choices=tuple(choices or ()),
        priors=tuple(priors or ()),
        parallel=parallel,
        gpus_per_trial=gpus_per_trial,
        seed=seed,
        metrics=tuple(metric or ()),
        engine=engine.value,
        address=address,
        storage=storage,
        policy=None if policy is None else policy.value,
        text=text,
        direct_fallback=direct_fallback,
        val_fraction=val_fraction,
        limits=limits_of(max_hours=max_hours, gpu_hours=gpu_hours, deadline=deadline, disk_budget=disk_budget, trial_timeout=trial_timeout),
        warm_start=tuple(warm_start or ()),
        enqueue=enqueue,
    )
    return run_request(request, yes=yes, dry_run=dry_run, as_json=as_json)


@app.command()
def off(
    overrides: Overrides = None,
    *,
    skill: Skill = None,
    spec: SpecFile = None,
    from_study: Annotated[Path | None, typer.Option("--from", help="Train the winner's spec of this study again.", metavar="STUDY")] = None,
    results: Results = None,
    epochs: Epochs = None,
    gpus_per_trial: Gpus = None,
    seed: Seed = None,
    metric: Metric = None,
    val_fraction: ValFraction = None,
    yes: Yes = False,
) -> int:
    """Plain training of one spec: the same trial code and tracking, no search."""
    from automl.plain import run_plain
    from automl.resolve import RunRequest
    from automl.stored_study import seen

    request = RunRequest(
        skill=skill,
        spec_file=spec,
        overrides=tuple(overrides or ()),
        results=results,
        epochs=epochs,
        gpus_per_trial=gpus_per_trial,
        seed=seed,
        metrics=tuple(metric or ()),
        val_fraction=val_fraction,
        policy="off",
    )
    if from_study is None:
        return run_plain(request, from_study=None, yes=yes)
    return seen(from_study, lambda folder: run_plain(request, from_study=folder, yes=yes))


@app.command()
def status(study: StudyDir, as_json: Json = False) -> int:
    """Show a study from its folder alone, while it runs or after."""
    from automl.look import show_status
    from automl.stored_study import seen

    return seen(study, lambda folder: show_status(folder, as_json=as_json))


@app.command()
def resume(study: StudyDir, address: Address = None, yes: Yes = False) -> int:
    """Continue an interrupted study: finished trials are kept, running ones go on from their last checkpoint."""
    from automl.launch import resume_study
    from automl.stored_study import kept

    return kept(study, lambda folder: resume_study(folder, yes=yes, address=address))


@app.command()
def extend(
    study: StudyDir,
    *,
    trials: Annotated[str | None, typer.Option("--trials", help="So many more configurations.", metavar="+N")] = None,
    max_hours: Annotated[str | None, typer.Option("--max-hours", help="So many more hours.", metavar="+H")] = None,
    gpu_hours: Annotated[str | None, typer.Option("--gpu-hours", help="So many more hours of GPUs.", metavar="+H")] = None,
    deadline: Deadline = None,
    disk_budget: DiskBudget = None,
    epochs: Annotated[int | None, typer.Option("--epochs", hidden=True)] = None,
    yes: Yes = False,
) -> int:
    """Give a study more trials or more time and go on with it."""
    from automl.extend import Extension, extend_study, extended
    from automl.limits import limits_of
    from automl.stored_study import kept

    limits = limits_of(deadline=deadline, disk_budget=disk_budget)
    extension = Extension(
        trials=trials,
        epochs=epochs,
        max_hours=max_hours,
        gpu_hours=gpu_hours,
        deadline=limits.deadline,
        disk_budget_gib=limits.disk_budget_gib,
    )
    return kept(study, lambda folder: extend_study(folder, extension, yes=yes), check=lambda config: extended(config, extension))


@app.command()
def promote(
    study: StudyDir,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="This trial in the winner's place.", metavar="N")] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", help="Formats: onnx, openvino, int8, engine.", metavar="A,B", show_default="onnx, and an engine where there is a GPU"
        ),
    ] = None,
    height: Annotated[int | None, typer.Option("--height", min=1, help="Height of the model.", show_default="that of crop_size")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="Width of the model.", show_default="that of crop_size")] = None,
) -> int:
    """Export and register the winner again, or another trial."""
    from automl.shipping import check_target, promote_study, target_of
    from automl.stored_study import kept

    target = target_of(to, height, width)
    return kept(study, lambda folder: promote_study(folder, trial, target), check=lambda config: check_target(target, config))


@app.command("try")
def try_(
    study: StudyDir,
    overrides: Overrides = None,
    *,
    left: Annotated[Path | None, typer.Option("--left", help="Left image of a pair.", metavar="FILE")] = None,
    right: Annotated[Path | None, typer.Option("--right", help="Right image of a pair.", metavar="FILE")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="An image, for mono networks.", metavar="FILE")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write.", metavar="DIR", show_default="DIR/try")] = None,
) -> int:
    """Run the champion on your images: picture, PFM map and, with the camera given, point cloud."""
    from automl.stored_study import is_promoted, seen
    from automl.trying import try_champion

    return seen(study, lambda folder: try_champion(folder, (left, right, image), tuple(overrides or ()), out), wanted=is_promoted)


@app.command("export-report")
def export_report(study: StudyDir) -> int:
    """Write report.html of a study as it stands."""
    from automl.report import REPORT
    from automl.shipping import export_report as export
    from automl.stored_study import seen

    return seen(study, export, leaves=REPORT)


@app.command()
def stop(
    study: StudyDir, trial: Annotated[int | None, typer.Option("--trial", min=0, help="End this trial only.", metavar="N")] = None
) -> int:
    """Ask a running study, or one trial of it, to end; works from any shell."""
    from automl.look import stop_study
    from automl.requests import STOP_FILE
    from automl.stored_study import seen

    return seen(study, lambda folder: stop_study(folder, trial), leaves=STOP_FILE)


@app.command()
def logs(
    study: StudyDir,
    number: Annotated[int, typer.Argument(help="Trial number.", metavar="N", min=0)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the trial ends.", metavar="")] = False,
) -> int:
    """Print what a trial reported, epoch by epoch."""
    from automl.look import show_logs
    from automl.stored_study import seen

    return seen(study, lambda folder: show_logs(folder, number, follow=follow))


@app.command()
def dashboard(
    folder: Annotated[
        Path, typer.Argument(help="A study folder or its s3:// URL, or the folder that holds studies.", metavar="[DIR]")
    ] = Path("results"),
    port: Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port of the UI.", show_default="a free one")] = None,
) -> int:
    """Serve the MLflow UI on 127.0.0.1, opened at the study's trials."""
    from automl.dashboard import serve
    from automl.stored_study import seen

    return seen(folder, lambda place: serve(place, port))


@app.command()
def skills(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Skill folders from elsewhere, or folders of them.", metavar="[DIR]...")
    ] = None,
    as_json: Json = False,
) -> int:
    """List the skills: network, AutoML, and whether each can run here."""
    from automl.look import show_skills

    return show_skills(folders or (), as_json=as_json)


def main() -> None:
    """Console script `automl`."""
    sys.exit(run_app(app, "automl"))
