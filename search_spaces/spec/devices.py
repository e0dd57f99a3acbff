"""How many GPUs a run takes, and which: environment > command line > spec > default, then the longer of number and list (TAO's launcher).

WORLD_SIZE is the number of machines there, as in TAO: not that of processes.  The user's spec file is never rewritten.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, MutableMapping
from typing import Any

from search_spaces.errors import SpecError

VARIABLES = {"WORLD_SIZE": ("train.num_nodes", "machines"), "NUM_GPU_PER_NODE": ("train.num_gpus", "GPUs of one machine")}
MOST = 64


def environment_values(environ: Mapping[str, str]) -> Iterator[tuple[str, int, str]]:
    """Dotted key, value and place of what a scheduler's variables say; SpecError for one that is no number."""
    for name, (dotted, meaning) in VARIABLES.items():
        text = environ.get(name, "").strip()
        if not text:
            continue
        if not (text.isascii() and text.isdecimal() and int(text[:9]) > 0 and len(text) < 10):
            raise SpecError(f"the environment variable {name} must be a number of {meaning}, but is {text!r}", hint=f"unset {name}")
        yield dotted, int(text), f"environment variable {name}"


def pair_gpus(train: MutableMapping[str, Any], given: Collection[str]) -> list[str]:
    """Make `num_gpus` and `gpu_ids` of the train section agree, in place; one line on what followed what.

    The longer counts: a list that is too short becomes 0, 1, ... .  Values that are no numbers are left to the check of types.
    """
    number, ids = train["num_gpus"], [] if train["gpu_ids"] is None else train["gpu_ids"]
    whole = isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= MOST
    if not whole or not isinstance(ids, list | tuple) or number == len(ids):
        return []
    if len(ids) > number or ("train.gpu_ids" in given and "train.num_gpus" not in given and ids):
        train["num_gpus"] = len(ids)
        return [f"train.num_gpus follows train.gpu_ids {list(ids)}: {len(ids)}"]
    train["gpu_ids"] = list(range(number))
    return [f"train.gpu_ids follows train.num_gpus: {train['gpu_ids']}"]
