"""Console scripts `depth_net_stereo` and `depth_net_mono`: names that people try, which say what to type instead."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from automl.entry import MISUSED, say_error


def stereo() -> None:
    """Console script `depth_net_stereo`."""
    sys.exit(explain("depth_net_stereo", "FoundationStereo", sys.argv[1:]))


def mono() -> None:
    """Console script `depth_net_mono`."""
    sys.exit(explain("depth_net_mono", "MetricDepthAnything or RelativeDepthAnything", sys.argv[1:]))


def explain(typed: str, model_types: str, arguments: Sequence[str]) -> int:
    """Says which command does what was typed; the exit code of a misuse."""
    say_error(
        f"{typed} is no command of its own: one depth_net serves both families, model.model_type of the spec says which ({model_types})",
        f"type `{shlex.join(['depth_net', *(arguments or ['--help'])])}`; to search hyperparameters, `automl run --skill {typed}`",
    )
    return MISUSED
