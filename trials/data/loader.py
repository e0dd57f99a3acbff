"""The data set of one split as torch items, batches of equal geometry, and the orders they are read in.

Tensor legend: B batch, 3 colour, 1 one channel, h w the network's grid, H W the ground truth's grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset, Sampler, get_worker_info

from search_spaces.errors import DataError
from search_spaces.spec import Augmentation, DataSource, Spec, Split
from trials.data.annotations import Row
from trials.data.datasets import DataClass, class_names, find_class
from trials.data.decoders import U8, image_size
from trials.data.geometry import Geometry, Size, plan_evaluation
from trials.data.input_folder import read_source
from trials.data.objects import fetcher
from trials.data.pack import PackedRow
from trials.data.packing import caches, pack_of
from trials.data.reading import DecodedCache, RowReader, Sample, SampleReader, truth_rule
from trials.data.transforms import augment_mono, augment_stereo, normalise, prepare_evaluation, scale_of
from trials.data.urls import is_url

SPLITS = ("train", "val", "test", "infer")
CACHE_BYTES = 256 * 2**20  # decoded samples kept by each loading process


class _ItemBase(TypedDict):
    image: torch.Tensor
    path: str
    index: int
    geometry: Geometry


class Item(_ItemBase, total=False):
    """One sample.  image and right_image (3, h, w) float32, normalised, or (h, w, 3) uint8 of a set whose images stay `raw`; target
    (1, H, W) float32 in pixels of disparity, metres or relative inverse depth; valid (1, H, W) bool.  No right_image in mono; no target and
    valid without ground truth."""

    right_image: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor


class _BatchBase(TypedDict):
    image: torch.Tensor
    path: list[str]
    index: torch.Tensor
    geometry: Geometry


class Batch(_BatchBase, total=False):
    """Items of one geometry: tensors stacked to (B, ...), paths as a list, indices (B,) int64."""

    right_image: torch.Tensor
    target: torch.Tensor
    valid: torch.Tensor


def split_of(spec: Spec, split: str) -> Split:
    """The section of a split: `train`, `val`, `test` or `infer`."""
    sections = {
        "train": spec.dataset.train_dataset,
        "val": spec.dataset.val_dataset,
        "test": spec.dataset.test_dataset,
        "infer": spec.dataset.infer_dataset,
    }
    return sections[split]


def sources_of(spec: Spec, split: str) -> tuple[DataSource, ...]:
    """The data sources of a split; DataError when it has none.  inference.input_dir is one, whose data_file is the folder."""
    sources, key = split_of(spec, split).data_sources, f"dataset.{split}_dataset.data_sources"
    if split == "infer" and spec.inference.input_dir:
        if sources:
            raise DataError(f"inference.input_dir and {key} are both set: which images?", hint=f"add {key}=[] or inference.input_dir=null")
        folder = spec.inference.input_dir
        if is_url(folder):
            folder = f"{folder.rstrip('/')}/"  # by which a folder is known: nothing asks the store here
        elif not Path(folder).expanduser().is_dir():
            raise DataError(f"inference.input_dir is {folder}, which is no folder", hint="give a folder that holds images")
        names = {"stereo": "GenericDataset", "mono": "RelativeMonoDataset" if spec.is_relative else "MetricMonoDataset"}
        return (DataSource(data_file=folder, dataset_name=names[spec.family]),)
    if not sources:
        raise DataError(f"{key} is empty: there is no {split} data", hint=f"{key}=[{{data_file: list.txt, dataset_name: ...}}]")
    return tuple(sources)


def class_for(spec: Spec, source: DataSource, place: str) -> DataClass:
    """The data class of a source; DataError when its ground truth is of another kind than the network's output."""
    try:
        data_class = find_class(source.dataset_name, family=spec.family)
    except DataError as error:
        raise DataError(f"{place}: {error.message}", hint=error.hint) from error
    wanted = "disparity" if spec.family == "stereo" else "relative" if spec.is_relative else "depth"
    if data_class.kind != wanted:
        fitting = [name for name in class_names(spec.family) if find_class(name, family=spec.family).kind == wanted]
        raise DataError(
            f"{place}: {data_class.name} gives {data_class.kind} ground truth, {spec.model.model_type} learns {wanted}",
            hint=f"classes for {spec.model.model_type}: {', '.join(fitting)}",
        )
    if source.depth_scale is not None and not data_class.takes_scale:
        raise DataError(
            f"{place}.depth_scale is set, but {data_class.name} has a fixed unit ({data_class.files})", hint="remove depth_scale"
        )
    return data_class


def build_dataset(spec: Spec, split: str, *, training: bool, seed: int = 0) -> DepthDataset:
    """The data of a split, all its sources one after the other.

    `training` turns random augmentation on and is for the train split alone; the random numbers of a sample are a function of
    (seed, epoch, index).  Raises DataError for lists or files that cannot be used.
    """
    assert split in SPLITS, split
    assert split == "train" or not training, f"{split} is never augmented"
    rows: list[Row] = []
    readers: list[RowReader] = []
    for number, source in enumerate(sources_of(spec, split)):
        data_class = class_for(spec, source, f"dataset.{split}_dataset.data_sources[{number}]")
        rule = truth_rule(spec, data_class, evaluation=not training)
        reader = SampleReader(data_class=data_class, depth_scale=source.depth_scale, rule=rule)
        found = read_source(source, family=spec.family, action=split, fetch=fetcher(spec)).rows
        rows.extend(found)
        pack = pack_of(spec, found, reader) if caches(spec, split) else None
        readers.extend([reader] * len(found) if pack is None else [PackedRow(pack, number) for number in range(len(found))])
    augmentation = split_of(spec, split).augmentation
    return DepthDataset(rows, readers, spec=spec, augmentation=augmentation, training=training, seed=seed)


class DepthDataset(Dataset[Item]):
    """Samples of one split.  Safe to copy into loader processes: each keeps its own cache of decoded files, the epoch is shared memory,
    so that `set_epoch` in the main process reaches workers that live on.  `raw` leaves images as they are: `normalised` completes them."""

    def __init__(
        self, rows: Sequence[Row], readers: Sequence[RowReader], *, spec: Spec, augmentation: Augmentation, training: bool, seed: int
    ) -> None:
        self.rows = tuple(rows)
        self.family = spec.family
        self.training = training
        self.raw = False
        self._readers = tuple(readers)
        self._augmentation = augmentation
        self._max_disparity = spec.dataset.max_disparity
        self._seed = seed % 2**32
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]
        self._cache = DecodedCache(CACHE_BYTES)

    def __len__(self) -> int:
        return len(self.rows)

    def set_epoch(self, epoch: int) -> None:
        """Make the next items those of `epoch` (only training items depend on it)."""
        self._epoch.fill_(epoch)

    def __getitem__(self, index: int) -> Item:
        if get_worker_info() is None:
            return self._item(index)
        cv2.setNumThreads(1)  # torch does so for itself; OpenCV would start a thread per core in every loader process
        try:
            return self._item(index)
        except DataError as error:
            raise SentDataError(json.dumps([error.message, error.hint])) from error

    def _item(self, index: int) -> Item:
        row = self.rows[index]
        sample = self._cache.get(index, lambda: self._readers[index].read(row))
        if self.training:
            sample, geometry = self._augmented(sample, index)
        else:
            sample, geometry = self._prepared(sample, row)
        item = Item(image=self._tensor(sample.image), path=str(row.image), index=index, geometry=geometry)
        if sample.right is not None:
            item["right_image"] = self._tensor(sample.right)
        if sample.target is not None and sample.valid is not None:
            item["target"] = torch.from_numpy(np.array(sample.target, order="C"))[None]
            item["valid"] = torch.from_numpy(np.array(sample.valid, order="C"))[None]
        return item

    def _augmented(self, sample: Sample, index: int) -> tuple[Sample, Geometry]:
        rng = np.random.default_rng([self._seed, int(self._epoch), index])
        if self.family == "stereo":
            sample = augment_stereo(sample, self._augmentation, rng=rng, max_disparity=self._max_disparity)
        else:
            sample = augment_mono(sample, self._augmentation, rng=rng)
        size = _size(sample.image)
        return sample, Geometry("none", size, size)

    def _prepared(self, sample: Sample, row: Row) -> tuple[Sample, Geometry]:
        mode, size = self._augmentation.evaluation, _size(sample.image)
        target_size = None if sample.target is None else (int(sample.target.shape[0]), int(sample.target.shape[1]))
        if mode in {"center_crop", "tile"} and target_size not in (None, size):
            raise DataError(
                f"{row.place}: evaluation={mode} needs ground truth of the image's size, got {target_size} for {size}",
                hint="use evaluation=native or resize",
            )
        plan = plan_evaluation(mode, self.family, image_size=size, target_size=target_size, crop_size=self._crop_size())
        return prepare_evaluation(sample, plan, family=self.family), plan.geometry

    def _crop_size(self) -> Size:
        height, width = self._augmentation.crop_size
        return height, width

    def _tensor(self, image: U8) -> torch.Tensor:
        if self.raw:
            return torch.from_numpy(np.array(image, order="C"))
        return torch.from_numpy(normalise(image, self._augmentation.input_mean, self._augmentation.input_std))

    def shape_key(self, index: int) -> tuple[Size, Size | None]:
        """Image size and ground-truth size from the files' headers: evaluation items with equal keys have equal geometry."""
        row = self.rows[index]
        try:
            return image_size(row.image), None if row.target is None else image_size(row.target)
        except DataError as error:
            raise DataError(f"{error.message} (named at {row.place})", hint=error.hint) from error


class SentDataError(DataError):
    """A DataError of a loader process, out of which torch brings an exception's class and what it prints of it alone.

    Made of `[message, hint]` as JSON there, and here of torch's whole report, whose last line ends with that.
    """

    def __init__(self, text: str) -> None:
        sent = text.rstrip().rpartition("\n")[2]
        message, hint = json.loads(sent[sent.index("[") :])
        super().__init__(message, hint=hint)
        if sent == text:
            self.args = (text,)  # what it prints


def _size(image: U8) -> Size:
    return int(image.shape[0]), int(image.shape[1])


def collate(items: Sequence[Item]) -> Batch:
    """One batch.  All items must share their geometry and have ground truth, or none of them: training crops do, evaluation batches come
    from `EqualShapeBatches`."""
    first = items[0]
    for item in items:
        assert item["geometry"] == first["geometry"], f"{item['path']}: another geometry than {first['path']}; batch with EqualShapeBatches"
        assert item.keys() == first.keys(), f"{item['path']}: other fields than {first['path']}; batch with EqualShapeBatches"
    batch = Batch(
        image=torch.stack([item["image"] for item in items]),
        path=[item["path"] for item in items],
        index=torch.tensor([item["index"] for item in items], dtype=torch.int64),
        geometry=first["geometry"],
    )
    if "right_image" in first:
        batch["right_image"] = torch.stack([item["right_image"] for item in items])
    if "target" in first:
        batch["target"] = torch.stack([item["target"] for item in items])
        batch["valid"] = torch.stack([item["valid"] for item in items])
    return batch


def normalised(batch: Batch, augmentation: Augmentation) -> Batch:
    """The batch with raw images as (B, 3, h, w) float32, worked out where they are; bit for bit what `normalise` gives on the CPU.

    Images go to the device as bytes, which is a quarter, and no loader process spends time on them.
    """
    done = Batch(**batch)
    for name in ("image", "right_image"):
        if name in batch and batch[name].dtype == torch.uint8:
            done[name] = _normalised(batch[name], augmentation)
    return done


def _normalised(images_Bhw3: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    factor, offset = scale_of(augmentation.input_mean, augmentation.input_std)
    planes = images_Bhw3.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    # a product, then a sum, each rounded: one fused operation would round once
    for constants, operation in ((factor, planes.mul_), (offset, planes.add_)):
        operation(torch.from_numpy(constants).to(planes.device, non_blocking=True)[:, None, None])
    return planes


class EqualShapeBatches(Sampler[list[int]]):
    """Batches of up to `batch_size` neighbours of equal shape, in the order of the list.  With batch_size 1 no file is opened."""

    def __init__(self, dataset: DepthDataset, batch_size: int) -> None:
        assert batch_size >= 1
        self._dataset = dataset
        self._batch_size = batch_size
        self._batches: list[list[int]] | None = None

    def _built(self) -> list[list[int]]:
        if self._batches is None:
            keys = [self._dataset.shape_key(index) if self._batch_size > 1 else None for index in range(len(self._dataset))]
            batches: list[list[int]] = []
            for index, key in enumerate(keys):
                if batches and len(batches[-1]) < self._batch_size and keys[batches[-1][-1]] == key:
                    batches[-1].append(index)
                else:
                    batches.append([index])
            self._batches = batches
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._built())

    def __len__(self) -> int:
        return len(self._built())


class EpochSampler(Sampler[int]):
    """The n indices in an order that is a function of (seed, epoch)."""

    def __init__(self, n: int, seed: int) -> None:
        self._n = n
        self._seed = seed % 2**32
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next pass; Lightning calls it by this name."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        order = np.random.default_rng([self._seed, self._epoch]).permutation(self._n)
        return iter(order.tolist())

    def __len__(self) -> int:
        return self._n
