"""The commands that people try first say what to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("script", "model"), [("depth_net_stereo", "FoundationStereo"), ("depth_net_mono", "MetricDepthAnything or RelativeDepthAnything")]
)
def test_a_suffixed_command_names_the_right_one(script: str, model: str):
    arguments = ["train", "-e", "my spec.yaml", "train.num_epochs=2"]
    done = subprocess.run([Path(sys.executable).with_name(script), *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    message, hint = done.stderr.split("\n\n")
    assert message.startswith(f"error: {script} is no command of its own")
    assert model in message
    assert hint.startswith("hint: type `depth_net train -e 'my spec.yaml' train.num_epochs=2`; ")


def test_without_arguments_it_names_the_help():
    done = subprocess.run([Path(sys.executable).with_name("depth_net_mono")], capture_output=True, text=True, check=False)
    assert "type `depth_net --help`" in done.stderr
