"""Decoded packs: the same samples bit for bit, made once, shared, removed when room is needed, refused when they cannot fit."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from search_spaces.errors import DataError
from search_spaces.spec import Spec, with_values
from tests.trials.data.build import mono_spec, stereo_spec, write_pair
from tests.trials.data.encodings import write_pfm_bytes, write_png_bytes
from trials.data import DepthDataset, Item, build_dataset
from trials.data.cache_folder import GIB
from trials.data.datasets import CLASSES, DataClass
from trials.data.decoders import Form, write_png
from trials.data.pack import sample_bytes
from trials.data.preflight import preflight

HEIGHT, WIDTH = 70, 100


def cached(spec: Spec, folder: Path, **values: object) -> Spec:
    return with_values(
        spec, {"dataset.cache": "decoded", "dataset.cache_dir": str(folder)} | {f"dataset.{k}": v for k, v in values.items()}
    )


def packs(folder: Path) -> list[Path]:
    return [place for place in (folder / "decoded").iterdir() if place.is_dir()]


def same(one: Item, other: Item) -> bool:
    tensors = [name for name, value in one.items() if isinstance(value, torch.Tensor)]
    assert one.keys() == other.keys()
    assert (one["path"], one["index"], one["geometry"]) == (other["path"], other["index"], other["geometry"])
    return all(torch.equal(one[name], other[name]) for name in tensors)  # type: ignore[literal-required]


def write_truth(folder: Path, form: Form, rng: np.random.Generator) -> str:
    """Ground truth of one form with missing and extreme values; its name."""
    values = rng.uniform(0.5, 70.0, (HEIGHT, WIDTH)).astype(np.float32)
    values[:4, :9] = [[0.0, -1.0, np.inf, np.nan, 64.0, 0.001, 10.0, 1e5, 63.99]] * 4
    if form is Form.PFM:
        write_pfm_bytes(folder / "truth.pfm", values.tolist())
        return "truth.pfm"
    if form is Form.NPY:
        np.save(folder / "truth.npy", values)
        return "truth.npy"
    high = {Form.GREY8: 256, Form.GREY16: 65536, Form.COLOUR8: 256, Form.COLOUR16: 65536}[form]
    shape = (HEIGHT, WIDTH, 3) if "colour" in form else (HEIGHT, WIDTH)
    stored = rng.integers(0, high, size=shape)
    stored[0, :2], stored[1, :2] = 0, high - 1
    write_png_bytes(folder / "truth.png", stored.tolist(), bits=16 if high > 256 else 8)
    return "truth.png"


def spec_for(data_class: DataClass, form: Form, folder: Path) -> Spec:
    rng = np.random.default_rng(4)
    for name in ("left.png", "right.png"):
        write_png(folder / name, rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    columns = ["left.png", "right.png"] if data_class.family == "stereo" else ["left.png"]
    columns.append(write_truth(folder, form, rng))
    if data_class.mask_column:
        write_png(folder / "mask.png", rng.choice(np.array([0, 128, 255], np.uint8), (HEIGHT, WIDTH)))
        columns.append("mask.png")
    file = folder / "list.txt"
    file.write_text(" ".join(columns) + "\n")
    if data_class.family == "stereo":
        flips = {"do_flip": True, "v_flip_prob": 0.5, "crop_min_valid_disp_ratio": 0.5}
        return with_values(stereo_spec(file, data_class.name), {f"dataset.train_dataset.augmentation.{k}": v for k, v in flips.items()})
    scale = {"source": {"depth_scale": 7.0}} if data_class.takes_scale else {}
    return mono_spec(file, data_class.name, relative=data_class.kind == "relative", **scale)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data_class", "form"),
    [(data_class, form) for data_class in CLASSES for form in data_class.decoders],
    ids=lambda value: f"{value.family}-{value.name}" if isinstance(value, DataClass) else value.name,
)
def test_samples_of_every_class_are_the_same_bit_for_bit(data_class: DataClass, form: Form, tmp_path: Path) -> None:
    spec = spec_for(data_class, form, tmp_path)
    for split, training in (("train", True), ("val", False)):
        plain = build_dataset(spec, split, training=training, seed=3)
        ours = build_dataset(cached(spec, tmp_path / "cache"), split, training=training, seed=3)
        for epoch in (0, 1, 5):
            plain.set_epoch(epoch)
            ours.set_epoch(epoch)
            assert same(plain[0], ours[0])


def test_image_wise_scaling_is_the_same(tmp_path: Path) -> None:
    spec = mono_spec(write_mono(tmp_path), "RelativeMonoDataset", relative=True, dataset__normalize_depth=True)
    assert same(build_dataset(spec, "val", training=False)[0], build_dataset(cached(spec, tmp_path / "c"), "val", training=False)[0])


def write_mono(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    write_png(folder / "image.png", rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
    (folder / "list.txt").write_text(f"image.png {write_truth(folder, Form.PFM, rng)}\n")
    return folder / "list.txt"


def test_a_pack_is_made_once_and_repeated_rows_are_kept_once(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    file.write_text(file.read_text() * 3)
    spec = cached(stereo_spec(file), tmp_path / "cache")
    dataset = build_dataset(spec, "train", training=True)
    (pack,) = packs(tmp_path / "cache")
    made = pack.stat().st_ino
    assert (pack / "samples.bin").stat().st_size == sample_bytes((80, 120), (80, 120), paired=True)
    assert same(dataset[2], build_dataset(stereo_spec(file), "train", training=True)[2])
    again = build_dataset(spec, "train", training=True)
    assert len(again) == 3
    assert [place.stat().st_ino for place in packs(tmp_path / "cache")] == [made]


def test_a_changed_file_gets_a_new_pack(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    old = build_dataset(spec, "val", training=False)[0]
    write_pair(tmp_path, seed=1)
    os.utime(tmp_path / "left.png", ns=(1, 1))
    assert not same(old, build_dataset(spec, "val", training=False)[0])
    assert len(packs(tmp_path / "cache")) == 2


def test_other_limits_of_the_ground_truth_get_another_pack(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    near = build_dataset(with_values(spec, {"dataset.max_disparity": 4}), "val", training=False)[0]
    far = build_dataset(spec, "val", training=False)[0]
    assert (bool(near["valid"].any()), bool(far["valid"].all())) == (False, True)


def test_the_test_split_is_decoded_as_it_is_read(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    build_dataset(spec, "test", training=False)
    assert not (tmp_path / "cache").exists()


def test_a_loader_process_maps_the_pack_again(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    dataset = build_dataset(spec, "train", training=True)
    copied = pickle.dumps(dataset)
    assert len(copied) < 80 * 120 * 3  # no pixel of a pack travels
    twin: DepthDataset = pickle.loads(copied)
    assert same(dataset[0], twin[0])


def test_decoded_arrays_cannot_be_written_to(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    dataset = build_dataset(spec, "train", training=True)
    sample = dataset._readers[0].read(dataset.rows[0])
    with pytest.raises(ValueError, match="read-only"):
        sample.image[0, 0] = 0


def test_unused_packs_make_way_and_used_ones_stay(tmp_path: Path) -> None:
    specs = []
    for number in range(3):
        (tmp_path / f"{number}").mkdir()
        file = write_pair(tmp_path / f"{number}", height=600, width=600)
        specs.append(
            cached(stereo_spec(file), tmp_path / "cache", cache_limit_gib=2.5 * sample_bytes((600, 600), (600, 600), paired=True) / GIB)
        )
    used = build_dataset(specs[0], "val", training=False)
    build_dataset(specs[1], "val", training=False)
    before = set(packs(tmp_path / "cache"))
    build_dataset(specs[2], "val", training=False)
    after = set(packs(tmp_path / "cache"))
    assert (len(before), len(after), len(before & after)) == (2, 2, 1)
    assert used[0]["image"].shape == (3, 608, 608)


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache", cache_limit_gib=5e-5)
    with pytest.raises(DataError, match=r"dataset\.cache=decoded needs about .* MiB in .*cache/decoded"):
        preflight(spec, ("train",))


def test_a_run_that_finds_no_room_decodes_as_it_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = stereo_spec(write_pair(tmp_path))
    ours = build_dataset(cached(plain, tmp_path / "cache", cache_limit_gib=5e-5), "val", training=False)
    assert "no decoded cache for" in caplog.text
    assert same(build_dataset(plain, "val", training=False)[0], ours[0])
    assert packs(tmp_path / "cache") == []


def test_a_broken_file_leaves_nothing_behind(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "cache")
    (tmp_path / "right.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"right\.png .*named at .*list\.txt:1"):
        build_dataset(spec, "train", training=True)
    assert packs(tmp_path / "cache") == []
    write_pair(tmp_path)
    assert len(build_dataset(spec, "train", training=True)) == 1


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    spec = cached(stereo_spec(write_pair(tmp_path)), tmp_path / "file")
    with pytest.raises(DataError, match="cannot make the cache folder"):
        build_dataset(spec, "train", training=True)


def build_and_say(spec: Spec, queue: multiprocessing.Queue[int]) -> None:
    build_dataset(spec, "train", training=True)[0]
    queue.put(packs(Path(str(spec.dataset.cache_dir)))[0].stat().st_ino)


def test_processes_that_start_together_decode_once(tmp_path: Path) -> None:
    spec = cached(stereo_spec(write_pair(tmp_path, height=400, width=500)), tmp_path / "cache")
    context = multiprocessing.get_context("spawn")
    queue: multiprocessing.Queue[int] = context.Queue()
    started = [context.Process(target=build_and_say, args=(spec, queue)) for _ in range(2)]
    for process in started:
        process.start()
    assert len({queue.get(timeout=240) for _ in started}) == 1
    for process in started:
        process.join()
