"""One of two machines that train together, as the variables of a scheduler say.

`python -m tests.scale.machine FOLDER SCENES NETWORK STRATEGY` writes its result to FOLDER/machine-<NODE_RANK>.json.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.trials import broken
from tests.trials.small import always_continue, parts, stereo_spec, trial
from trials.contract import result_to_json
from trials.data.sample import write_samples
from trials.run import run_trial

if __name__ == "__main__":
    folder, network = Path(sys.argv[1]), getattr(broken, sys.argv[3])
    scenes = write_samples(Path(sys.argv[2]), scenes=9, seed=1, height=64, width=96, max_disparity=32)
    spec = stereo_spec(scenes, num_nodes=2, distributed_strategy=sys.argv[4])
    spec["dataset"]["train_dataset"]["batch_size"] = 1
    result = run_trial(trial(folder, spec), always_continue, parts=parts(network))
    (folder / f"machine-{os.environ['NODE_RANK']}.json").write_text(json.dumps(result_to_json(result)))
