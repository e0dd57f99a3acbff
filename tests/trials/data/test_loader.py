"""Items, batches, orders and hashes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from search_spaces.errors import DataError
from search_spaces.spec import Spec, with_values
from tests.trials.data.build import as_tensor, mono_spec, stereo_spec, write_pair
from trials.data import (
    EpochSampler,
    EqualShapeBatches,
    Geometry,
    build_dataset,
    collate,
    data_hash,
    evaluation_hash,
    normalised,
    to_target_grid,
)
from trials.data.decoders import read_rgb, write_pfm, write_png
from trials.data.reading import DecodedCache, Sample
from trials.data.sample import SampleSet

VAL = "dataset.val_dataset.augmentation"


@pytest.fixture
def stereo(scenes: SampleSet) -> Spec:
    return stereo_spec(scenes.list_file("stereo", "train"))


def test_training_items_hold_a_crop(stereo: Spec) -> None:
    item = build_dataset(stereo, "train", training=True)[1]
    assert (item["image"].dtype, item["target"].dtype, item["valid"].dtype) == (torch.float32, torch.float32, torch.bool)
    assert item["image"].shape == item["right_image"].shape == (3, 64, 96)
    assert item["target"].shape == item["valid"].shape == (1, 64, 96)
    assert item["geometry"] == Geometry("none", (64, 96), (64, 96))
    assert (item["index"], Path(item["path"]).name) == (1, "left.png")


def test_native_evaluation_is_the_whole_image(stereo: Spec, scenes: SampleSet) -> None:
    item = build_dataset(stereo, "val", training=False)[0]
    torch.testing.assert_close(item["image"], as_tensor(read_rgb(scenes.folder / "scene_0000" / "left.png")))
    assert item["geometry"].kind == "none"  # 96x128 is a multiple of 32


def test_padding_repeats_the_edge_and_is_cut_back(tmp_path: Path) -> None:
    spec = stereo_spec(write_pair(tmp_path, height=40, width=70))
    item = build_dataset(spec, "val", training=False)[0]
    assert item["image"].shape == (3, 64, 96)
    assert item["target"].shape == (1, 40, 70)
    back = to_target_grid(item["image"][:1][None], item["geometry"], "stereo")
    torch.testing.assert_close(back[0, 0], as_tensor(read_rgb(tmp_path / "left.png"))[0])
    assert torch.equal(item["image"][:, 0], item["image"][:, 12])


def test_evaluation_never_changes(stereo: Spec) -> None:
    dataset = build_dataset(stereo, "val", training=False, seed=1)
    first = dataset[0]
    dataset.set_epoch(5)
    assert torch.equal(first["image"], build_dataset(stereo, "val", training=False, seed=2)[0]["image"])
    assert torch.equal(first["image"], dataset[0]["image"])


def test_resize_keeps_the_ground_truth(stereo: Spec) -> None:
    item = build_dataset(with_values(stereo, {f"{VAL}.evaluation": "resize"}), "val", training=False)[0]
    assert item["image"].shape == (3, 64, 96)
    assert item["target"].shape == (1, 96, 128)
    # half a disparity at half the width is the same point: 128 / 96 in the target's grid
    back = to_target_grid(torch.ones(1, 1, 64, 96), item["geometry"], "stereo")
    torch.testing.assert_close(back, torch.full((1, 1, 96, 128), 128 / 96))


def test_center_crop_cuts_image_and_ground_truth_alike(stereo: Spec) -> None:
    whole = build_dataset(stereo, "val", training=False)[0]
    item = build_dataset(with_values(stereo, {f"{VAL}.evaluation": "center_crop"}), "val", training=False)[0]
    torch.testing.assert_close(item["image"], whole["image"][:, 16:80, 16:112])
    torch.testing.assert_close(item["target"], whole["target"][:, 16:80, 16:112])


def test_native_mono_covers_the_crop_size(scenes: SampleSet) -> None:
    spec = mono_spec(scenes.list_file("mono", "val"), "MetricMonoDataset")
    item = build_dataset(spec, "val", training=False)[0]
    assert "right_image" not in item
    assert item["image"].shape == (3, 56, 84)  # 96x128 at scale 84/128: 63 rows are 4.5 patches, rounded to even
    assert item["target"].shape == (1, 96, 128)
    assert item["geometry"] == Geometry("resize", (56, 84), (96, 128))


def test_disparity_beyond_the_bound_does_not_count(tmp_path: Path) -> None:
    file = write_pair(tmp_path, height=64, width=96)
    values = np.full((64, 96), 5, np.float32)
    values[0, :4] = [0.0, 64.0, np.inf, np.nan]
    write_pfm(tmp_path / "disparity.pfm", values)
    item = build_dataset(stereo_spec(file), "val", training=False)[0]
    assert int((~item["valid"]).sum()) == 4
    assert item["target"][~item["valid"]].unique().tolist() == [0.0]


def test_a_mask_column_keeps_what_both_views_see(scenes: SampleSet) -> None:
    plain = build_dataset(stereo_spec(scenes.list_file("stereo", "val")), "val", training=False)[0]
    masked = build_dataset(stereo_spec(scenes.list_file("nocc", "val")), "val", training=False)[0]
    mask = read_rgb(Path(masked["path"]).parent / "mask.png")[:, :, 0] == 255
    assert torch.equal(masked["valid"], plain["valid"] & torch.from_numpy(mask))


def test_depth_counts_between_min_and_max(scenes: SampleSet) -> None:
    spec = mono_spec(scenes.list_file("mono", "val"), "MetricMonoDataset", dataset__max_depth=4.0, dataset__min_depth=2.0)
    item = build_dataset(spec, "val", training=False)[0]
    kept = item["target"][item["valid"]]
    assert 2.0 < kept.min() < kept.max() < 4.0


def nyu_frame(folder: Path) -> Path:
    write_png(folder / "i.png", np.zeros((480, 640, 3), np.uint8))
    write_png(folder / "d.png", np.full((480, 640), 2500, np.uint16))
    (folder / "list.txt").write_text("i.png d.png\n")
    return folder / "list.txt"


def test_the_eigen_window_is_for_evaluation(tmp_path: Path) -> None:
    item = build_dataset(mono_spec(nyu_frame(tmp_path), "NYUDV2"), "test", training=False)[0]
    assert int(item["valid"].sum()) == 426 * 560
    assert bool(item["valid"][0, 45, 41])
    assert not bool(item["valid"][0, 44, 41])


def test_the_eigen_window_is_not_for_training(tmp_path: Path) -> None:
    item = build_dataset(mono_spec(nyu_frame(tmp_path), "NYUDV2"), "train", training=True)[0]
    assert bool(item["valid"].all())


def test_relative_targets_of_nyu_are_inverse_metres(tmp_path: Path) -> None:
    item = build_dataset(mono_spec(nyu_frame(tmp_path), "NYUDV2Relative", relative=True), "train", training=True)[0]
    torch.testing.assert_close(item["target"].unique(), torch.tensor([0.4]))


def test_normalize_depth_spreads_what_counts(tmp_path: Path) -> None:
    write_png(tmp_path / "i.png", np.zeros((1, 4, 3), np.uint8))
    write_png(tmp_path / "d.png", np.array([[0, 2, 4, 6]], np.uint16))
    (tmp_path / "list.txt").write_text("i.png d.png\n")
    spec = mono_spec(tmp_path / "list.txt", "RelativeMonoDataset", relative=True, dataset__normalize_depth=True)
    item = build_dataset(spec, "val", training=False)[0]
    assert item["target"].flatten().tolist() == [0.0, 0.0, 0.5, 1.0]
    assert item["valid"].flatten().tolist() == [False, False, True, True]


def test_inference_without_ground_truth_has_no_target(tmp_path: Path) -> None:
    write_pair(tmp_path, height=40, width=70)
    (tmp_path / "list.txt").write_text("left.png right.png\n")
    item = build_dataset(stereo_spec(tmp_path / "list.txt", "GenericDataset"), "infer", training=False)[0]
    assert "target" not in item
    assert item["geometry"].target_size == (40, 70)


def test_sources_come_one_after_the_other(scenes: SampleSet) -> None:
    spec = stereo_spec(scenes.list_file("stereo", "train"))
    split = spec.dataset.train_dataset
    (source,) = split.data_sources
    more = dataclasses.replace(source, data_file=str(scenes.list_file("nocc", "val")))
    both = dataclasses.replace(
        spec, dataset=dataclasses.replace(spec.dataset, train_dataset=dataclasses.replace(split, data_sources=(source, more)))
    )
    assert len(build_dataset(both, "train", training=True)) == 3 + 1


@pytest.mark.parametrize(
    ("relative", "name", "says"),
    [(True, "NYUDV2", "gives depth ground truth"), (False, "RelativeMonoDataset", "gives relative ground truth")],
)
def test_ground_truth_of_another_kind_is_refused(scenes: SampleSet, relative: bool, name: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        build_dataset(mono_spec(scenes.list_file("mono", "val"), name, relative=relative), "val", training=False)


def test_depth_and_disparity_in_one_list_are_refused(tmp_path: Path) -> None:
    file = str(nyu_frame(tmp_path))
    sources = [{"data_file": file, "dataset_name": name} for name in ("NYUDV2", "NYUDV2Relative")]
    spec = with_values(mono_spec(Path(file), "NYUDV2"), {"dataset.train_dataset.data_sources": sources})
    with pytest.raises(DataError, match=r"data_sources\[1\]: NYUDV2Relative gives relative ground truth") as error:
        build_dataset(spec, "train", training=True)
    assert error.value.hint == "classes for MetricDepthAnything: MetricMonoDataset, NYUDV2"


def test_depth_scale_on_a_class_with_a_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="NYUDV2 has a fixed unit"):
        build_dataset(mono_spec(nyu_frame(tmp_path), "NYUDV2", source={"depth_scale": 1000.0}), "val", training=False)


def test_a_split_without_data_is_refused(stereo: Spec) -> None:
    empty = dataclasses.replace(
        stereo, dataset=dataclasses.replace(stereo.dataset, val_dataset=dataclasses.replace(stereo.dataset.val_dataset, data_sources=()))
    )
    with pytest.raises(DataError, match="there is no val data"):
        build_dataset(empty, "val", training=False)


def test_a_broken_file_names_the_line_of_the_list(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    (tmp_path / "right.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=rf"cannot decode .*right\.png.*{file}:1"):
        build_dataset(stereo_spec(file), "val", training=False)[0]


def test_views_of_different_size_are_refused(tmp_path: Path) -> None:
    file = write_pair(tmp_path)
    write_png(tmp_path / "right.png", np.zeros((80, 100, 3), np.uint8))
    with pytest.raises(DataError, match=r"left and right differ in size: 120x80 .* 100x80"):
        build_dataset(stereo_spec(file), "val", training=False)[0]


def test_collate_stacks(stereo: Spec) -> None:
    dataset = build_dataset(stereo, "train", training=True)
    batch = collate([dataset[2], dataset[0]])
    assert batch["image"].shape == batch["right_image"].shape == (2, 3, 64, 96)
    assert batch["target"].shape == batch["valid"].shape == (2, 1, 64, 96)
    assert batch["index"].tolist() == [2, 0]
    assert batch["geometry"] == Geometry("none", (64, 96), (64, 96))


def test_lightning_can_move_a_batch(stereo: Spec) -> None:
    from lightning_fabric.utilities.apply_func import move_data_to_device

    batch = collate([build_dataset(stereo, "train", training=True)[0]])
    assert move_data_to_device(batch, torch.device("cpu"))["geometry"] == batch["geometry"]


def test_different_geometries_do_not_batch(tmp_path: Path, stereo: Spec) -> None:
    other = build_dataset(stereo_spec(write_pair(tmp_path)), "val", training=False)[0]
    with pytest.raises(AssertionError, match="EqualShapeBatches"):
        collate([build_dataset(stereo, "val", training=False)[0], other])


def sized_list(folder: Path, sizes: list[tuple[int, int]], *, without_truth: int | None = None) -> Path:
    lines = []
    for number, (height, width) in enumerate(sizes):
        write_pair(folder / str(number), height=height, width=width)
        names = ("left.png", "right.png", "disparity.pfm")[: 2 if number == without_truth else 3]
        lines.append(" ".join(f"{number}/{name}" for name in names))
    (folder / "list.txt").write_text("\n".join(lines))
    return folder / "list.txt"


def test_batches_hold_neighbours_of_one_shape(tmp_path: Path) -> None:
    file = sized_list(tmp_path, [(40, 60), (40, 60), (40, 60), (40, 64), (40, 60)])
    dataset = build_dataset(stereo_spec(file), "val", training=False)
    batches = EqualShapeBatches(dataset, 2)
    assert list(batches) == [[0, 1], [2], [3], [4]]
    assert len(batches) == 4
    for batch in DataLoader(dataset, batch_sampler=batches, collate_fn=collate):
        assert batch["image"].shape[-2:] == batch["geometry"].network_size


def test_batches_do_not_mix_with_and_without_ground_truth(tmp_path: Path) -> None:
    file = sized_list(tmp_path, [(40, 60), (40, 60), (40, 60)], without_truth=1)
    dataset = build_dataset(stereo_spec(file, "GenericDataset"), "infer", training=False)
    assert list(EqualShapeBatches(dataset, 3)) == [[0], [1], [2]]


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    sampler, same = EpochSampler(20, seed=5), EpochSampler(20, seed=5)
    first = list(sampler)
    sampler.set_epoch(1)
    assert sorted(first) == sorted(sampler) == list(range(20))
    assert list(sampler) != first == list(same)
    assert list(EpochSampler(20, seed=6)) != first


def test_a_broken_file_is_told_alike_by_a_loader_process(stereo: Spec, tmp_path: Path) -> None:
    dataset = build_dataset(stereo, "train", training=True)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"x")
    dataset.rows = (dataclasses.replace(dataset.rows[0], image=broken), *dataset.rows[1:])
    loader = DataLoader(dataset, num_workers=1, multiprocessing_context="spawn", collate_fn=collate)
    for read in (lambda: dataset[0], lambda: next(iter(loader))):
        with pytest.raises(DataError) as error:
            read()
        assert (
            error.value.message == f"cannot decode {broken} (1 bytes): broken, cut off, or not an image (named at {dataset.rows[0].place})"
        )
        assert (str(error.value), error.value.hint) == (error.value.message, "copy the file again")


def test_workers_that_live_on_hear_of_the_epoch(stereo: Spec) -> None:
    dataset = build_dataset(stereo, "train", training=True)
    loader = DataLoader(dataset, num_workers=1, persistent_workers=True, multiprocessing_context="spawn", collate_fn=collate)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        for index, batch in enumerate(loader):
            assert torch.equal(batch["image"][0], dataset[index]["image"])
    del loader


def small_sample() -> Sample:
    return Sample(image=np.zeros((10, 10, 3), np.uint8), right=None, target=None, valid=None)


def test_the_cache_forgets_the_oldest() -> None:
    cache, reads = DecodedCache(700), []

    def read(key: int) -> Sample:
        reads.append(key)
        return small_sample()

    for key in (0, 1, 0, 2, 0, 1):
        cache.get(key, lambda key=key: read(key))  # type: ignore[misc]
    assert reads == [0, 1, 2, 1]  # room for two of 300 bytes; 1 was the oldest when 2 came


def copy_of(scenes: SampleSet, folder: Path) -> Path:
    for name in ("scene_0000", "scene_0001", "scene_0002"):
        for file in ("left.png", "right.png", "disparity.pfm"):
            (folder / name).mkdir(parents=True, exist_ok=True)
            (folder / name / file).write_bytes((scenes.folder / name / file).read_bytes())
    (folder / "list.txt").write_text("# a comment\n" + scenes.list_file("stereo", "train").read_text())
    return folder / "list.txt"


def test_the_data_hash_does_not_know_the_folder(scenes: SampleSet, tmp_path: Path, stereo: Spec) -> None:
    assert data_hash(stereo_spec(copy_of(scenes, tmp_path)), "val") == data_hash(stereo, "val")


def test_the_data_hash_knows_file_sizes_lines_and_class(scenes: SampleSet, tmp_path: Path) -> None:
    file = copy_of(scenes, tmp_path)
    before = data_hash(stereo_spec(file), "val")
    assert data_hash(stereo_spec(file, "GenericDataset"), "val") != before
    (tmp_path / "scene_0001" / "left.png").write_bytes(b"shorter")
    changed = data_hash(stereo_spec(file), "val")
    file.write_text(file.read_text().replace("scene_0001", "scene_0000"))
    assert len({before, changed, data_hash(stereo_spec(file), "val")}) == 3


def test_the_evaluation_hash_changes_with_what_moves_a_metric(stereo: Spec) -> None:
    changes = [
        {},
        {f"{VAL}.evaluation": "resize"},
        {f"{VAL}.evaluation": "center_crop"},
        {"dataset.max_disparity": 32},
        {f"{VAL}.input_mean": [0.5, 0.5, 0.5]},
    ]
    assert len({evaluation_hash(with_values(stereo, change), "val") for change in changes}) == len(changes)


def test_the_evaluation_hash_ignores_what_does_not(stereo: Spec) -> None:
    same = with_values(stereo, {f"{VAL}.crop_size": [32, 32], "dataset.val_dataset.batch_size": 4, "train.optim.lr": 0.001})
    assert evaluation_hash(same, "val") == evaluation_hash(stereo, "val")


@pytest.mark.parametrize("family", ["stereo", "mono"])
def test_images_normalised_as_a_batch_are_the_same_bit_for_bit(family: str, scenes: SampleSet) -> None:
    odd = {
        f"dataset.train_dataset.augmentation.{name}": value
        for name, value in (("input_mean", [0.1, 0.5, 0.9]), ("input_std", [0.3, 0.7, 1.3]))
    }
    file = scenes.list_file(family, "train")
    spec = with_values(stereo_spec(file) if family == "stereo" else mono_spec(file, "MetricMonoDataset"), odd)
    plain, raw = (build_dataset(spec, "train", training=True, seed=4) for _ in range(2))
    raw.raw = True
    sent, expected = collate([raw[0], raw[1]]), collate([plain[0], plain[1]])
    assert (sent["image"].dtype, sent["image"].shape[3]) == (torch.uint8, 3)
    done = normalised(sent, spec.dataset.train_dataset.augmentation)
    assert done.keys() == expected.keys()
    assert all(torch.equal(done[name], expected[name]) for name in done if name.endswith("image"))  # type: ignore[literal-required]
    assert done["image"].is_contiguous()
