"""Which free texts ask for training without a search."""

from __future__ import annotations

import pytest

from automl.phrases import asks_for_plain_training


@pytest.mark.parametrize(
    "text",
    [
        "turn off AutoML",
        "Please turn AutoML off for this one.",
        "disable AutoML and train on /data/kitti",
        "train stereo, no HPO",
        "plain training of my spec",
        "a single train run is enough",
        "skip AutoML",
        "no-HPO run, please",
        "without hyperparameter search",
        "don't use AutoML",
        "We don’t need any hyper-parameter tuning",
        "Use 'my_list.txt'. Disable HPO!",
        "switch off the automl",
        "automl_policy: off",
        "do not touch the data and disable AutoML",
        "No, turn off AutoML",
        "Could you turn off the hyperparameter search?",
    ],
)
def test_texts_that_ask_for_it(text: str) -> None:
    assert asks_for_plain_training(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "train stereo on my data",
        "don't turn off AutoML",
        "do not disable AutoML",
        "never skip automl",
        "please do not ever turn off AutoML",
        "no plain training: search",
        "not a single training run but a search",
        "rather than plain training, search",
        "use dataset no_hpo_dataset",
        "read /data/no hpo_x/plain_training/train.txt",
        "read /data/plain-training/list.txt",
        "the list is called 'no HPO'",
        'call the study "plain training"',
        "results_dir=results/plain_training",
        "the no-hpo-dataset folder",
        "turn on AutoML",
        "explainable training",
        "I don't think we should disable AutoML",
        "there is no need to turn off AutoML",
    ],
)
def test_texts_that_do_not(text: str) -> None:
    assert asks_for_plain_training(text) is None
