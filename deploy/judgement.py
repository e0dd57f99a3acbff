"""How the forms of a model do against the network they were made from: on the same images, in metrics and in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor, nn

from deploy.latency import LatencyTable, measure_latency
from deploy.parity import Candidate, Check, compare, with_metric
from deploy.samples import Sample, samples_at
from deploy.torch_runtime import TorchPredictor
from search_spaces.spec import Spec, get_value
from trials.data import evaluation_hash
from trials.evaluate import CountTo, Predictor, evaluate, fitted_spec
from trials.failures import NonFiniteError


class Stage(Protocol):
    """What is being done, in a word or two, while the context lasts; gives a function that is told how far it is."""

    def __call__(self, doing: str, /) -> AbstractContextManager[CountTo]:
        """The context."""


def unseen(_: str, /) -> AbstractContextManager[CountTo]:
    """A stage that nobody watches."""
    return nullcontext(lambda _done, _total: None)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """How each form of a model did against the network it was made from.

    `checks` are those of each runtime, `check` that of the first one that decides and did not pass, else of the first one.  `metrics`
    are those of each runtime (unprefixed names) over every image of `split` at the export shape; a runtime whose answers are not finite
    has none.  `evaluation_hash` says what they were measured on, `mode` how images met the network.
    """

    check: Check
    checks: Mapping[str, Check]
    metrics: Mapping[str, Mapping[str, float | None]]
    split: str
    mode: str
    evaluation_hash: str
    num_images: int | None
    latency: LatencyTable


def judge(
    network: nn.Module,
    candidates: Sequence[Candidate],
    spec: Spec,
    *,
    split: str = "val",
    samples: int = 8,
    batches: Sequence[int] = (1,),
    stage: Stage = unseen,
) -> Judgement:
    """Holds exported files of one size, `candidates`, against their `network` on the images of `split`, all of them at that size.

    Up to `samples` images, evenly spread over the list, are compared pixel by pixel; every image is evaluated in each runtime; all are
    timed with each of `batches`.  DataError for lists that cannot be used.
    """
    reference, size = TorchPredictor(network, spec.family), candidates[0].predictor.fixed_size
    assert size is not None
    spec = fitted_spec(spec, split, size)
    images = [Sample(images=sample.images) for sample in samples_at(size, spec, split, samples)]
    with stage("compares answers"):
        checks = compare(reference, candidates, spec, images)
    metrics: dict[str, Mapping[str, float | None]] = {}
    counted = None
    for predictor in (reference, *(candidate.predictor for candidate in candidates)):
        try:
            with stage(f"evaluates {predictor.name}") as progress:
                evaluation = evaluate(predictor, spec, split, progress=progress)
        except NonFiniteError as error:
            metrics[predictor.name] = {}
            for name in [predictor.name] if predictor.name in checks else checks:
                checks[name] = replace(checks[name], passed=False, reason=checks[name].reason or f"{predictor.name}: {error.message}")
        else:
            metrics[predictor.name], counted = evaluation.metrics, evaluation.num_images
    checks = {name: with_metric(check, spec, metrics[reference.name], metrics[name]) for name, check in checks.items()}
    deciding = [checks[candidate.predictor.name] for candidate in candidates if candidate.decides]
    with stage("measures latency"):
        latency = _latency([reference, *(candidate.predictor for candidate in candidates)], images[0].images, batches)
    return Judgement(
        check=next((check for check in deciding if not check.passed), deciding[0]),
        checks=checks,
        metrics=metrics,
        split=split,
        mode=get_value(spec, f"dataset.{split}_dataset.augmentation.evaluation"),
        evaluation_hash=evaluation_hash(spec, split),
        num_images=counted,
        latency=latency,
    )


def _latency(predictors: Sequence[Predictor], images: tuple[Tensor, ...], batches: Sequence[int]) -> LatencyTable:
    tables = [
        measure_latency({each.name: each for each in predictors}, tuple(image.expand(batch, -1, -1, -1).contiguous() for image in images))
        for batch in batches
    ]
    return LatencyTable(rows=tuple(row for table in tables for row in table.rows), machine=tables[-1].machine)
