"""Loaders of one run: an order that is a function of (seed, epoch), and a start in the middle for a resumed run.

Lightning builds the first iterator before it says which epoch it is, and loader processes read ahead; so a resumed run
is told its epoch and batch here, when it is made (see `Start`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Sampler
from typing_extensions import override

from search_spaces.errors import DataError
from search_spaces.spec import Spec
from trials.data import Batch, DepthDataset, EpochSampler, EqualShapeBatches, Item, collate, normalised
from trials.ranks import ALONE, Rank
from trials.workers import EndWithTrainer, loader_workers


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where training begins: epochs done, and batches done of the next one."""

    epoch: int = 0
    batch: int = 0


class TrainBatches(Sampler[list[int]]):
    """Full batches in the order of `EpochSampler`; the incomplete last one is dropped.

    A batch of several ranks is made of one of `batch_size` samples for each, so that a step takes the same samples whatever the number
    of ranks they are dealt to.
    The first pass begins at `start.batch`; its length, as `len` gives it, is always that of a whole epoch, because the
    training loop counts the batches done before.
    """

    def __init__(self, samples: int, *, batch_size: int, seed: int, start: Start, rank: Rank = ALONE) -> None:
        self._order = EpochSampler(samples, seed)
        self._order.set_epoch(start.epoch)
        self._first = rank.number * batch_size
        self._batch_size = batch_size
        self._distance = rank.count * batch_size
        self._count = samples // self._distance
        self._skip = start.batch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order of the next pass."""
        self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        order, skipped, self._skip = list(self._order), self._skip, 0
        places = [batch * self._distance + self._first for batch in range(skipped, self._count)]
        return iter([order[place : place + self._batch_size] for place in places])

    def __len__(self) -> int:
        return self._count


class ShareOfBatches(Sampler[list[int]]):
    """What one rank takes of `batches`: every batch whole, each on one rank, some ranks with one more than others.

    A rank that would have none takes the first: it has to take part in the pass, and an image counts once.
    """

    def __init__(self, batches: EqualShapeBatches | Sequence[list[int]], rank: Rank) -> None:
        self._batches, self._rank = batches, rank

    def __iter__(self) -> Iterator[list[int]]:
        batches = list(self._batches)
        return iter(batches[self._rank.number :: self._rank.count] or batches[:1])

    def __len__(self) -> int:
        return max(1, len(range(self._rank.number, len(self._batches), self._rank.count)))


class TrialData(pl.LightningDataModule):
    """Loaders over data sets that it is given, for one rank; `validation` None validates nothing.

    Images leave the loaders as bytes and are normalised on the device of the network.

    DataError when the training set does not fill one batch of all ranks.
    """

    def __init__(
        self, train: DepthDataset, validation: DepthDataset | None, spec: Spec, *, seed: int, start: Start, rank: Rank = ALONE
    ) -> None:
        super().__init__()
        section = spec.dataset.train_dataset
        if len(train) < section.batch_size * rank.count:
            lists = ", ".join(source.data_file for source in section.data_sources)
            devices = "" if rank.count == 1 else f" on each of {rank.count} devices"
            raise DataError(
                f"the training set has {len(train)} samples, which is less than one batch of {section.batch_size}{devices} ({lists})",
                hint=f"set dataset.train_dataset.batch_size to at most {len(train) // rank.count}"
                if len(train) >= rank.count
                else "train on fewer devices",
            )
        self._spec, self._seed, self._rank = spec, seed, rank
        self._train, self._validation = train, validation
        self._batches = TrainBatches(len(train), batch_size=section.batch_size, seed=seed, start=start, rank=rank)
        train.set_epoch(start.epoch)
        for dataset in [train] if validation is None else [train, validation]:
            dataset.raw = True

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return len(self._batches)

    @property
    def validates(self) -> bool:
        """Whether there is a validation set."""
        return self._validation is not None

    def set_epoch(self, epoch: int) -> None:
        """Chooses order and augmentation of the next pass over the training set."""
        self._batches.set_epoch(epoch)
        self._train.set_epoch(epoch)

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffled full batches, with random augmentation."""
        section = self._spec.dataset.train_dataset
        return self._loader(self._train, self._batches, section.workers, pinned=section.pin_memory)

    def val_dataloader(self) -> DataLoader[Item] | list[DataLoader[Item]]:
        """Batches of equal geometry in the order of the list; an empty list without a validation set."""
        if self._validation is None:
            return []
        section = self._spec.dataset.val_dataset
        batches = EqualShapeBatches(self._validation, section.batch_size)
        share = batches if self._rank.count == 1 else ShareOfBatches(batches, self._rank)
        return self._loader(self._validation, share, section.workers, pinned=section.pin_memory)

    @override
    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """The batch with float images; called by Lightning once it is on the device."""
        del dataloader_idx
        training = self.trainer is None or self.trainer.training
        return normalised(batch, (self._spec.dataset.train_dataset if training else self._spec.dataset.val_dataset).augmentation)

    def _loader(self, dataset: DepthDataset, batches: Sampler[list[int]], wanted: int, *, pinned: bool) -> DataLoader[Item]:
        workers = loader_workers(wanted, samples=len(dataset), ranks=self._rank.here)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            # a plain fork copies the locks of other threads (OpenMP, Ray, ONNX Runtime) as they are, and can wait for one for ever
            multiprocessing_context="forkserver" if workers else None,
            worker_init_fn=EndWithTrainer() if workers else None,
            pin_memory=pinned and torch.cuda.is_available(),
            # the loader draws a seed each pass; from its own generator, so that the global one stays where the network left it
            generator=torch.Generator().manual_seed(self._seed % 2**63),
        )
