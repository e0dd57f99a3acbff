"""Random state of a run: seeded for its length, given back afterwards, stored in checkpoints as plain data.

Orders and augmentation do not depend on it (they are functions of seed, epoch and index); initial weights and dropout do.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from search_spaces.spec import Spec


def actual_seed(seed: int) -> int:
    """`seed`, or a fresh one when it is below 0 (not seeded): a run can always be repeated from its log."""
    return seed if seed >= 0 else secrets.randbelow(2**31)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seeds python, numpy and torch; on exit the caller's random state is back."""
    before = random_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  the global generator is what a stray call would use
    torch.manual_seed(seed)  # every CUDA device as well
    try:
        yield
    finally:
        set_random_state(before)


def part_ways(rank: int) -> None:
    """Gives rank `rank` random numbers of its own from here on, where all have drawn the same so far; the first goes on as it is."""
    if rank:
        seed = int(np.random.SeedSequence([torch.initial_seed() % 2**63, rank]).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  as above
        torch.manual_seed(seed)


@contextmanager
def cudnn_settings(spec: Spec) -> Iterator[None]:
    """cuDNN as `train.cudnn` says; on exit as it was."""
    backend = torch.backends.cudnn
    before = backend.benchmark, backend.deterministic
    backend.benchmark, backend.deterministic = spec.train.cudnn.benchmark, spec.train.cudnn.deterministic
    try:
        yield
    finally:
        backend.benchmark, backend.deterministic = before


def random_state() -> dict[str, Any]:
    """The state of all generators as tensors, numbers and lists, which `torch.load(weights_only=True)` reads."""
    version, numbers, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [torch.from_numpy(np.asarray(keys).astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Continues where `random_state` was taken; GPU states are kept only when as many GPUs are visible as then."""
    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
