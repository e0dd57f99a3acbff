"""A leader whose ranks train until somebody ends them: `python -m tests.scale.endless FOLDER SCENES`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.trials.broken import Endless
from tests.trials.small import always_continue, parts, stereo_spec, trial
from trials.data.sample import write_samples
from trials.run import run_trial

if __name__ == "__main__":
    scenes = write_samples(Path(sys.argv[2]), scenes=9, seed=1, height=64, width=96, max_disparity=32)
    run_trial(trial(Path(sys.argv[1]), stereo_spec(scenes)), always_continue, parts=parts(Endless), cpu_ranks=2)
