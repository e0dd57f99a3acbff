"""Calibration images: a folder, an archive that may be hostile, stereo pairs, the train lists."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.calibration import calibration, check_calibration, unpack
from search_spaces.errors import DataError, SpecError
from search_spaces.spec import Spec
from tests.deploy.networks import mono_spec, stereo_spec
from tests.s3_server import S3Server

PLACE = "dataset.quant_calibration_dataset.images_dir"


def images(folder: Path, *paths: str) -> Path:
    """Grey PNG files of 96x64, each brighter than the one before."""
    for number, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / path), np.full((64, 96, 3), 10 * number, np.uint8))
    return folder


def archive(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            member.size = 3 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"abc"))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def test_a_folder_gives_evenly_spread_images_at_the_models_size(tmp_path: Path) -> None:
    images(tmp_path, *(f"{number}.png" for number in range(5)))
    spec = mono_spec(f"{PLACE}={tmp_path}", "quantize.calibration_images=3")
    with calibration(spec, (28, 42), tmp_path) as found:
        shapes = [tuple(image.shape) for (image,) in found.images()]
    assert (found.indices, found.found) == ((0, 2, 4), 5)
    assert shapes == [(1, 3, 28, 42)] * 3


def test_values_are_normalised_as_in_validation(tmp_path: Path) -> None:
    images(tmp_path, "a.png", "b.png")  # the second is 10 / 255 everywhere
    moments = ["dataset.val_dataset.augmentation.input_mean=[0,0,0]", "dataset.val_dataset.augmentation.input_std=[0.5,0.5,0.5]"]
    with calibration(mono_spec(f"{PLACE}={tmp_path}", *moments), (28, 42), tmp_path) as found:
        last = list(found.images())[-1][0]
    assert last.flatten().tolist() == pytest.approx([10 / 255 / 0.5] * last.numel())


def test_stereo_pairs_come_from_an_archive_which_is_gone_afterwards(tmp_path: Path) -> None:
    folder = images(tmp_path / "in", "left/0.png", "left/1.png", "right/0.png", "right/1.png")
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname="photos")
    with calibration(stereo_spec(f"{PLACE}={tmp_path / 'photos.tar.gz'}"), (64, 96), tmp_path) as found:
        pairs = list(found.images())
        unpacked = Path(found.dataset.rows[0].image)
    assert [len(pair) for pair in pairs] == [2, 2]
    assert pairs[0][1].mean() > pairs[0][0].mean()  # right/0.png is the third and brighter image
    assert found.source == str(tmp_path / "photos.tar.gz")
    assert not unpacked.exists()


@pytest.mark.parametrize(
    ("hostile", "told"),
    [
        (member("../out.png"), r"\.\./out\.png leads out of the folder"),
        (member("a/../../out.png"), "leads out of the folder"),
        (member("/tmp/out.png"), "leads out of the folder"),
        (member("link.png", tarfile.SYMTYPE, "/etc/passwd"), r"link\.png is a link"),
        (member("hard.png", tarfile.LNKTYPE, "ok.png"), r"hard\.png is a link"),
        (member("pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
    ],
    ids=["up", "up inside", "absolute", "symbolic link", "hard link", "pipe"],
)
def test_a_hostile_archive_is_refused_whole(tmp_path: Path, hostile: tarfile.TarInfo, told: str) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=told):
        unpack(archive(tmp_path / "bad.tar.gz", member("ok.png"), hostile), tmp_path / "in")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["bad.tar.gz", "in"]


def test_a_broken_archive_is_told(tmp_path: Path) -> None:
    whole = archive(tmp_path / "a.tar.gz", member("ok.png"))
    whole.write_bytes(whole.read_bytes()[:40])
    with pytest.raises(DataError, match="cannot be unpacked"):
        unpack(whole, tmp_path)


@pytest.mark.parametrize(
    ("name", "told"), [("gone", "gone does not exist"), ("notes.txt", "no archive of a known kind"), ("empty", "no image below")]
)
def test_a_place_without_images_is_told_by_its_key(tmp_path: Path, name: str, told: str) -> None:
    (tmp_path / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=told) as caught, calibration(mono_spec(f"{PLACE}={tmp_path / name}"), (28, 42), tmp_path):
        pass
    assert caught.value.message.startswith(PLACE)


def test_without_any_images_the_key_is_named(tmp_path: Path) -> None:
    spec: Spec = mono_spec()
    with pytest.raises(SpecError, match=f"{PLACE} and the train lists are empty"), calibration(spec, (28, 42), tmp_path):
        pass


def test_a_folder_and_an_archive_of_a_store(s3: S3Server, tmp_path: Path) -> None:
    folder = images(tmp_path / "in", "a.png", "b.png", "notes/__MACOSX/c.png")
    s3.upload(folder, "photos")
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as tar:
        tar.add(folder, arcname="photos")
    s3.upload(tmp_path, "packed")
    cache = f"dataset.cache_dir={tmp_path / 'cache'}"
    found = {}
    for url in ("s3://data/photos", "s3://data/packed/photos.tar.gz"):
        with calibration(mono_spec(f"{PLACE}={url}", cache), (28, 42), tmp_path) as calibrated:
            found[calibrated.source] = [float(image.mean()) for (image,) in calibrated.images()]
    assert found["s3://data/photos"] == found["s3://data/packed/photos.tar.gz"]
    assert len(found["s3://data/photos"]) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("s3://data/none", r"images_dir: there is nothing below s3://data/none"),
        ("s3://data/none.tgz", r"1 of 1 objects named by dataset.quant_calibration_dataset.images_dir do not exist"),
    ],
)
def test_what_is_not_in_the_store_is_told_before_anything_is_loaded(s3: S3Server, tmp_path: Path, url: str, message: str) -> None:
    del s3
    with pytest.raises(DataError, match=message):
        check_calibration(mono_spec(f"{PLACE}={url}", f"dataset.cache_dir={tmp_path / 'cache'}"))
