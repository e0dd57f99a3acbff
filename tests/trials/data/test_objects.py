"""Lists and images in an S3 store: the same samples as from files, fetched once, checked, refused in words."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.errors import DataError, UnsupportedError
from search_spaces.spec import DataSource, Spec, spec_from_dict, with_values
from tests.s3_server import SECRET, S3Server
from tests.trials.data.build import stereo_spec, write_pair
from trials.data import build_dataset, data_hash, objects
from trials.data.annotations import read_lines
from trials.data.cache_folder import GIB, CacheFolder
from trials.data.objects import Objects, fetcher
from trials.data.preflight import preflight
from trials.data.s3 import refusal, store
from trials.data.split import write_split
from trials.data.urls import joined
from trials.transfer import Progress, Show, shown_by


@pytest.fixture
def copies(tmp_path: Path) -> Objects:
    (tmp_path / "objects").mkdir()
    return Objects(CacheFolder(path=tmp_path / "objects", limit=GIB))


def remote(spec: Spec, cache: Path, url: str = "s3://data/pairs/list.txt", **source: Any) -> Spec:
    entry = [{"data_file": url, "dataset_name": "Middlebury", **source}]
    splits = {f"dataset.{split}_dataset.data_sources": entry for split in ("train", "val", "test", "infer")}
    return with_values(spec, {**splits, "dataset.cache_dir": str(cache)})


@pytest.fixture
def pair(s3: S3Server, tmp_path: Path) -> Spec:
    """A local list of one pair, which is also below s3://data/pairs."""
    (tmp_path / "pairs").mkdir()
    file = write_pair(tmp_path / "pairs")
    s3.upload(tmp_path / "pairs", "pairs")
    return stereo_spec(file)


def test_samples_of_the_store_are_those_of_the_files(pair: Spec, tmp_path: Path) -> None:
    there = remote(pair, tmp_path / "cache")
    one, other = (build_dataset(spec, "train", training=True, seed=2)[0] for spec in (pair, there))
    assert all(torch.equal(one[name], other[name]) for name in ("image", "right_image", "target", "valid"))
    assert other["path"] == str(tmp_path / "cache" / "objects" / "data" / "pairs" / "left.png")
    assert data_hash(pair, "val") == data_hash(there, "val")


def test_the_preflight_reads_lists_of_the_store(pair: Spec, tmp_path: Path) -> None:
    (report,) = preflight(remote(pair, tmp_path / "cache"), ("train",))
    assert report.describe().startswith("train: s3://data/pairs/list.txt; Middlebury, 1 sample; 120x80; 5 to 5 px")
    assert report.describe().endswith("paths from s3://data/pairs (the list's own folder)")


@pytest.mark.parametrize("columns", ["s3://data/pairs/{}", "../pairs/{}", "{}"])
def test_a_list_of_this_machine_may_name_objects(columns: str, pair: Spec, tmp_path: Path) -> None:
    file = tmp_path / "here.txt"
    file.write_text(" ".join(columns.format(name) for name in ("left.png", "right.png", "disparity.pfm")) + "\n")
    spec = remote(pair, tmp_path / "cache", str(file), data_root="s3://data/pairs")
    assert len(build_dataset(spec, "val", training=False)) == 1


def test_the_decoded_cache_takes_objects(pair: Spec, tmp_path: Path) -> None:
    spec = with_values(remote(pair, tmp_path / "cache"), {"dataset.cache": "decoded"})
    assert torch.equal(build_dataset(pair, "val", training=False)[0]["target"], build_dataset(spec, "val", training=False)[0]["target"])


def test_a_divided_list_keeps_its_urls(pair: Spec, s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/pairs/two.txt", b"left.png a.pfm\nright.png b.pfm\n")
    source = DataSource(data_file="s3://data/pairs/two.txt", dataset_name="FSD")
    lists = write_split(source, 0.5, 0, tmp_path, fetch=fetcher(remote(pair, tmp_path / "cache")))
    fields = sorted(line.fields for file in lists for line in read_lines(file))
    assert fields == [("s3://data/pairs/left.png", "s3://data/pairs/a.pfm"), ("s3://data/pairs/right.png", "s3://data/pairs/b.pfm")]


def test_only_what_is_new_is_fetched(copies: Objects, s3: S3Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trials.data.objects")
    urls = [f"s3://data/many/{number}" for number in range(12)]
    for number, url in enumerate(urls):
        s3.client.pipe_file(url, bytes([number]) * 100)
    first = copies.fetch(urls, named_by="a list")
    s3.client.pipe_file(urls[3], b"x" * 100)  # of the same length
    again = copies.fetch(urls, named_by="a list")
    assert first == again
    assert [file.read_bytes()[:1] for file in again[2:5]] == [b"\2", b"x", b"\4"]
    assert [line.split(" named")[0] for line in caplog.messages if line.startswith("fetching")] == [
        "fetching 12 objects",
        "fetching 1 objects",
    ]


def test_objects_among_many_others_are_asked_for_one_by_one(copies: Objects, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_SPARE_PAGES", 0)
    urls = [f"s3://data/many/{number}" for number in range(9)]
    for url in urls:
        s3.client.pipe_file(url, url.encode())
    assert [file.read_text() for file in copies.fetch(urls, named_by="a list")] == urls


def test_an_object_sent_in_parts_is_fetched(copies: Objects, s3: S3Server) -> None:
    content = os.urandom(11 * 2**20)
    s3.client.pipe_file("data/big", content, chunksize=5 * 2**20)
    assert "-" in s3.client.info("data/big")["ETag"]
    assert copies.fetch(["s3://data/big"], named_by="a test")[0].read_bytes() == content


def test_missing_objects_are_named(pair: Spec, s3: S3Server, tmp_path: Path) -> None:
    s3.client.rm("data/pairs/right.png")
    with pytest.raises(DataError, match=r"1 of 3 objects named by s3://data/pairs/list\.txt do not exist:\n  s3://data/pairs/right\.png"):
        preflight(remote(pair, tmp_path / "cache"), ("train",))


def test_a_missing_list_and_a_missing_bucket_are_named(pair: Spec, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 of 1 objects named by data_file do not exist:\n  s3://data/none\.txt"):
        preflight(remote(pair, tmp_path / "cache", "s3://data/none.txt"), ("train",))
    with pytest.raises(DataError, match="there is no bucket nowhere"):
        preflight(remote(pair, tmp_path / "cache", "s3://nowhere/list.txt"), ("train",))


def test_a_mistake_in_a_list_is_placed_by_its_url(pair: Spec, s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/pairs/list.txt", b"left.png right.png\n")
    with pytest.raises(DataError, match=r"s3://data/pairs/list\.txt:1: Middlebury takes 3 or 4 columns"):
        preflight(remote(pair, tmp_path / "cache"), ("train",))


def test_a_broken_image_is_placed_by_the_url_of_its_list(pair: Spec, s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/pairs/left.png", b"half an im")
    with pytest.raises(DataError, match=r"objects/data/pairs/left\.png .* \(named at s3://data/pairs/list\.txt:1\)"):
        preflight(remote(pair, tmp_path / "cache"), ("train",))


class Cutting:
    """A store that gives the first bytes of every object alone."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def get_file(self, source: str, target: str, **options: Any) -> None:
        Path(target).write_bytes(self._inner.cat_file(source)[:5])


def test_an_object_that_arrives_cut_off_is_refused(copies: Objects, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.client.pipe_file("data/whole", b"0123456789")
    cutting = Cutting(s3.client)
    monkeypatch.setattr(objects, "store", lambda: cutting)
    with pytest.raises(DataError, match="s3://data/whole arrived damaged twice: it does not hold the 10 bytes"):
        copies.fetch(["s3://data/whole"], named_by="a test")
    assert list(copies.path_of("s3://data/whole").parent.iterdir()) == []


def test_what_does_not_fit_is_refused_and_unused_copies_make_way(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    small = Objects(CacheFolder(path=tmp_path / "objects", limit=250))
    for name in ("a", "b", "c"):
        s3.client.pipe_file(f"data/{name}", name.encode() * 100)
    first = small.fetch(["s3://data/a"], named_by="one list")[0]
    small.fetch(["s3://data/b", "s3://data/c"], named_by="another list")
    assert not first.exists()
    with pytest.raises(DataError, match=r"the objects named by all need .* more in .*objects, which holds .* of dataset\.cache_limit_gib"):
        small.fetch(["s3://data/a", "s3://data/b", "s3://data/c"], named_by="all")


def test_copies_that_another_process_uses_stay(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    ours, theirs = (Objects(CacheFolder(path=tmp_path / "objects", limit=150)) for _ in range(2))
    for name in ("a", "b"):
        s3.client.pipe_file(f"data/{name}", name.encode() * 100)
    (used,) = theirs.fetch(["s3://data/a"], named_by="their list")
    with pytest.raises(DataError, match=r"need .* more in"):
        ours.fetch(["s3://data/b"], named_by="our list")
    assert used.exists()


def test_no_credentials_are_an_error_that_shows_none(pair: Spec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/none")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/none")
    store.cache_clear()
    with pytest.raises(DataError, match=r"no credentials for s3://data/pairs/list\.txt") as caught:
        preflight(remote(pair, tmp_path / "cache"), ("train",))
    store.cache_clear()
    assert "AWS_PROFILE" in str(caught.value.hint)
    assert SECRET not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(errno.EACCES, "Access Denied"), DataError, "no access to s3://b/k: Access Denied"),
        (FileNotFoundError("b/k"), DataError, "s3://b/k does not exist"),
        (TimeoutError("slow"), ConnectionError, r"the S3 store cannot be reached \(slow\)"),
        (OSError(errno.EBUSY, "SlowDown"), ConnectionError, r"the S3 store failed \(OSError: SlowDown\)"),
        (OSError(errno.ENOSPC, "No space left on device"), OSError, "No space left"),
    ],
)
def test_refusals_are_sorted(error: Exception, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        raise refusal(error, "s3://b/k")


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        ("NoSuchBucket", "there is no bucket b", "check its name"),
        ("ExpiredToken", "the credentials for s3://b/k are no longer valid: what S3 says", "renew them"),
        ("400", "the S3 store refuses s3://b/k: what S3 says", "credentials that have run out and of a wrong region"),
        ("PermanentRedirect", "s3://b/k is in another region: what S3 says", "AWS_DEFAULT_REGION"),
        ("InvalidAccessKeyId", "no access to s3://b/k: what S3 says", "these credentials may not do this"),
    ],
)
def test_what_s3_calls_a_refusal(code: str, message: str, hint: str) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    told = refusal(translate_boto_error(ClientError({"Error": {"Code": code, "Message": "what S3 says"}}, "HeadObject")), "s3://b/k")
    assert isinstance(told, DataError)
    assert told.message == message
    assert hint in str(told.hint)


def test_a_package_that_is_missing_is_named_with_the_extra(copies: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    store.cache_clear()
    with pytest.raises(UnsupportedError, match="s3:// needs the package s3fs") as caught:
        copies.fetch(["s3://data/a"], named_by="a list")
    assert "[s3]" in str(caught.value.hint)


@pytest.mark.parametrize("url", ["s3://bucket", "s3://bucket/", "s3:///key", "s3://bucket/a//b", "s3://bucket/../key"])
def test_names_that_no_file_can_have_are_refused(url: str, copies: Objects) -> None:
    with pytest.raises(DataError, match="names no object"):
        copies.path_of(url)


@pytest.mark.parametrize(
    ("folder", "name", "url"), [("s3://b/a", "c/d", "s3://b/a/c/d"), ("s3://b/a/", "../d", "s3://b/d"), ("s3://b", "./d", "s3://b/d")]
)
def test_relative_names_are_joined(folder: str, name: str, url: str) -> None:
    assert joined(folder, name) == url


def test_no_cache_is_made_for_lists_of_this_machine(tmp_path: Path) -> None:
    spec = with_values(stereo_spec(write_pair(tmp_path)), {"dataset.cache_dir": str(tmp_path / "cache")})
    build_dataset(spec, "val", training=False)
    assert not (tmp_path / "cache").exists()


def folder_spec(url: str, cache: Path) -> Spec:
    splits = {"infer_dataset": {"workers": 0, "augmentation": {"crop_size": [32, 64]}}, "cache_dir": str(cache)}
    return spec_from_dict({"model": {"model_type": "FoundationStereo"}, "dataset": splits, "inference": {"input_dir": url}})


def test_a_folder_of_the_store_to_run_on(pair: Spec, tmp_path: Path) -> None:
    del pair
    for url in ("s3://data/pairs", "s3://data/pairs/"):
        rows = build_dataset(folder_spec(url, tmp_path / "cache"), "infer", training=False).rows
        assert [(row.image.name, row.right and row.right.name, row.place) for row in rows] == [
            ("left.png", "right.png", "s3://data/pairs:1")
        ]
    assert not list((tmp_path / "cache").rglob("*.txt"))  # images alone are fetched


def test_a_folder_of_the_store_without_images_is_told(s3: S3Server, tmp_path: Path) -> None:
    s3.client.pipe_file("data/notes/read.me", b"")
    with pytest.raises(DataError, match=r"no image below s3://data/notes: 1 file \(\.me\)"):
        build_dataset(folder_spec("s3://data/notes", tmp_path), "infer", training=False)


def test_how_far_a_fetch_is_can_be_shown(s3: S3Server, copies: Objects) -> None:
    s3.client.pipe_file("data/a", b"12345")
    s3.client.pipe_file("data/b", b"67")
    told: list[Progress] = []
    begun: list[str] = []

    @contextlib.contextmanager
    def begin(doing: str) -> Iterator[Show]:
        begun.append(doing)
        yield told.append

    with shown_by(begin):
        copies.fetch(["s3://data/a", "s3://data/b"], named_by="a list")
        copies.fetch(["s3://data/a"], named_by="a list")
    assert begun == ["fetching what a list names"]
    assert (told[-1].objects, told[-1].of_objects, told[-1].size, told[-1].of_size, told[-1].left_s) == (2, 2, 7, 7, 0.0)
