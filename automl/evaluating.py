"""`depth_net evaluate`: metrics on the test lists, in files and on the screen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from automl.actions import begin, load, model_file, name_of, need_lists, output_folder, predictor_of, preflight, say_shapes
from automl.console import count_text, counted, metrics_table, number_text, screen, tell
from automl.entry import DONE, FAILED, INTERRUPTED, say_error
from automl.folders import BY_KEY, check_writable
from automl.records import failures_recorded
from automl.summary import shown_path
from search_spaces.objective import LEADING, metric_info
from search_spaces.spec import Spec
from trials.contract import Cause, Failure

if TYPE_CHECKING:
    from trials.evaluate import Evaluation

WORST = 3


def evaluate_action(spec_file: Path, overrides: Sequence[str]) -> int:
    """results.json, per_image.csv and the kpi of status.json; FAILED when a prediction was NaN, whatever the others measured."""
    from trials.evaluate import evaluate
    from trials.evaluation_files import SUMMARY, TABLE, write_evaluation

    loaded, console = load(spec_file, overrides, "evaluate"), screen()
    spec = loaded.spec
    model = model_file(spec, "evaluate", console)
    need_lists(spec, "test", "evaluate")
    folder = output_folder(spec, "evaluate", model)
    check_writable(folder, hint=BY_KEY)
    try:
        with failures_recorded(folder, "evaluate") as status:
            predictor = predictor_of(model, spec, "test", preflight(spec, ("test",), console), console)
            say_shapes(predictor, loaded, "test", console)
            begin(status, folder, spec, name_of("evaluate", model), console)
            with counted(console, "evaluates") as count:
                done = evaluate(predictor, spec, "test", progress=count, keep_going=True, maps=folder)
            write_evaluation(folder, done, runtime=predictor.name, model=model)
            kpi = {f"val/{name}": value for name, value in done.metrics.items()}
            status.write("RUNNING", "Test metrics generated.", kpi=kpi)
            if done.not_finite:
                status.failure(Failure(cause=Cause.NAN, message=_not_finite(done)))
            else:
                status.write("SUCCESS", "Evaluate finished successfully.", kpi=kpi)
    except KeyboardInterrupt:
        say_error("interrupted", "no metrics were written; the same command starts again")
        return INTERRUPTED
    title = f"{model} ({predictor.name}, {done.mode}) on {count_text(done.num_images, 'image')}"
    console.print(metrics_table(title, done.metrics, spec.family, relative=spec.is_relative))
    _say_images(console, spec, done)
    tell(console, f"{number_text(done.seconds_per_image)} s an image; {shown_path(folder / SUMMARY)}, {shown_path(folder / TABLE)}")
    if done.not_finite:
        say_error(_not_finite(done), f"{shown_path(folder / TABLE)} names them; the metrics are those of the others")
        return FAILED
    return DONE


def _say_images(console: Console, spec: Spec, done: Evaluation) -> None:
    """The worst images, and how many count in nothing."""
    from trials.evaluation_files import worst_images

    name = LEADING[spec.family]
    unit = "px" if metric_info(spec.family, name).unit == "px" else ""
    worst = worst_images(done, spec.family, count=WORST) if done.num_images > 1 else []
    for number, image in enumerate(worst):
        value = f"{name} {number_text(image.metrics[name])} {unit}".rstrip()
        tell(console, f"{'' if number else 'worst':<6}{value:<18}{image.path}")
    if done.skipped:
        tell(console, f"note  {count_text(done.skipped, 'image')} without valid ground truth: counted in no metric")


def _not_finite(done: Evaluation) -> str:
    more = ", ..." if len(done.not_finite) > WORST else ""
    return (
        f"the prediction of {len(done.not_finite)} of {len(done.images)} images is not finite: {', '.join(done.not_finite[:WORST])}{more}"
    )
