"""The typed spec of a run: sections with TAO's key names, loading, checking, saving.

    spec = load_spec(Path("spec.yaml"), ["train.num_epochs=2"])
    spec.train.optim.lr, spec.family

`sections (dataset, model, train, actions) < tree < values, complete, rules < overrides, load`.
"""

from __future__ import annotations

from search_spaces.spec.dataset import Augmentation, Dataset, DataSource, Split
from search_spaces.spec.keys import Acts, FieldInfo
from search_spaces.spec.load import (
    LoadedSpec,
    load_spec,
    read_spec,
    save_spec,
    spec_from_dict,
    spec_to_dict,
    text_at,
    with_values,
)
from search_spaces.spec.model import Model
from search_spaces.spec.paths import require, results_folder
from search_spaces.spec.rules import idle_keys, shared_precision, spec_warnings
from search_spaces.spec.train import Optim, Train
from search_spaces.spec.tree import Family, Spec, all_fields, get_value

__all__ = [
    "Acts",
    "Augmentation",
    "DataSource",
    "Dataset",
    "Family",
    "FieldInfo",
    "LoadedSpec",
    "Model",
    "Optim",
    "Spec",
    "Split",
    "Train",
    "all_fields",
    "get_value",
    "idle_keys",
    "load_spec",
    "read_spec",
    "require",
    "results_folder",
    "save_spec",
    "shared_precision",
    "spec_from_dict",
    "spec_to_dict",
    "spec_warnings",
    "text_at",
    "with_values",
]
