"""How fast a list of an S3 store is at hand: the first time, and when its copies are there.

    python -m bench.s3 [--pairs 60]

Generated pairs of 540x960 with disparity (three objects a pair) in moto's server, a process of its own on 127.0.0.1; the store of a real
cluster is further away and much quicker.  `one by one` fetches with one thread what `cold` fetches with all; `warm` asks the store for
every object's ETag and fetches nothing; `unchanged list, 8 trials` is what eight trials that start together wait for it.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench.timing import conditions
from trials.data import objects
from trials.data.cache_folder import GIB, CacheFolder
from trials.data.objects import Objects
from trials.data.s3 import store
from trials.data.sample import write_samples

SCENES = 6  # generated; each is uploaded again and again under other names


def upload(folder: Path, pairs: int) -> list[str]:
    """Puts `pairs` pairs into the bucket `bench`; gives their URLs."""
    scenes = write_samples(folder, scenes=SCENES, seed=1, height=540, width=960, max_disparity=128)
    store().mkdir("bench")
    urls = []
    for number in range(pairs):
        for name in ("left.png", "right.png", "disparity.pfm"):
            url = f"bench/pairs/{number:05d}/{name}"
            store().pipe_file(url, (scenes.folder / f"scene_{number % SCENES:04d}" / name).read_bytes())
            urls.append(f"s3://{url}")
    return urls


def taken_s(call: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def folder_of(place: Path) -> CacheFolder:
    """An empty cache."""
    place.mkdir()
    return CacheFolder(path=place, limit=50 * GIB)


def measure(scratch: Path, pairs: int) -> None:
    """Prints the table."""
    urls = upload(scratch / "scenes", pairs)
    threads, objects.THREADS = objects.THREADS, 1
    alone = Objects(folder_of(scratch / "alone"))
    alone_s = taken_s(lambda: alone.fetch(urls, named_by="the bench"))
    objects.THREADS = threads
    cache = folder_of(scratch / "cache")
    ours = Objects(cache)
    cold_s = taken_s(lambda: ours.fetch(urls, named_by="the bench"))
    files = ours.fetch(urls, named_by="the bench")
    assert all(file.read_bytes() == other.read_bytes() for file, other in zip(files, alone.fetch(urls, named_by="the bench"), strict=True))
    size = sum(file.stat().st_size for file in files) / 2**20
    warm_s = taken_s(lambda: ours.fetch(urls, named_by="the bench"))
    with ThreadPoolExecutor(8) as pool:
        trials = [Objects(cache) for _ in range(8)]
        together_s = taken_s(lambda: list(pool.map(lambda trial: trial.fetch(urls, named_by="the bench"), trials)))
    read_s = taken_s(lambda: [file.read_bytes() for file in files])
    print(f"{len(urls)} objects, {size:.0f} MiB")
    print("| | s | times as quick as one by one | objects a second | MiB a second |")
    print("|---|---|---|---|---|")
    rows = [("one by one", alone_s), (f"cold, {threads} at a time", cold_s), ("warm", warm_s), ("unchanged list, 8 trials", together_s)]
    for name, seconds in [*rows, ("the copies, read", read_s)]:
        rate = f"{size / seconds:.0f}" if name in {"one by one", rows[1][0], "the copies, read"} else ""
        print(f"| {name} | {seconds:.2f} | {alone_s / seconds:.1f} | {len(urls) / seconds:.0f} | {rate} |")


def main() -> None:
    """Starts a store, measures, ends it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_EC2_METADATA_DISABLED": "true"}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if server.poll() is not None:
                raise SystemExit("moto's server did not start: pip install moto flask flask-cors")
            time.sleep(0.1)
        print(conditions())
        with tempfile.TemporaryDirectory(prefix="s3-bench-") as scratch:
            measure(Path(scratch), arguments.pairs)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
