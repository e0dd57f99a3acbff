"""How long `depth_net convert` takes on a big tree, and how much memory.

    python bench/convert.py [--files 200000]

Empty files in a temporary folder: pairs with disparity and mask, four files a row, 400 files a folder.  They are listed, never
opened, so their size does not matter.  Beside it stands `os.walk` over the same tree, which no converter can beat by much, and the
growth of the process's peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path

from bench.timing import conditions
from search_spaces.spec.convert import Convert
from trials.data.convert import convert

NAMES = ("im0", "im1", "disp0", "mask0")
ROWS_A_FOLDER = 100


def build(root: Path, files: int) -> None:
    """`files` empty files, four a row."""
    for row in range(files // len(NAMES)):
        folder = f"{root}/scene_{row // ROWS_A_FOLDER:05}"
        if row % ROWS_A_FOLDER == 0:
            Path(folder).mkdir()
        for name in NAMES:
            os.close(os.open(f"{folder}/{name}_{row:06}.png", os.O_CREAT))


def peak_mib() -> float:
    """Most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Builds the tree, converts it once, prints one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="convert-bench-") as scratch:
        root = Path(scratch) / "data"
        root.mkdir()
        build(root, arguments.files)
        patterns = {name: (text,) for name, text in zip(("image", "right", "depth", "nocc"), NAMES, strict=True)}
        spec = Convert(
            data_root=str(root),
            results_dir=f"{scratch}/lists",
            split_ratio=0.8,
            image_extension=".png",
            **{f"{name}_dir_pattern": pattern for name, pattern in patterns.items()},  # type: ignore[arg-type]
        )
        started = time.perf_counter()
        walked = sum(len(names) for _, _, names in os.walk(root))
        walk_s = time.perf_counter() - started
        before, started, started_cpu = peak_mib(), time.perf_counter(), time.process_time()
        done = convert(spec, report=lambda *_: None)
        convert_s, convert_cpu_s = time.perf_counter() - started, time.process_time() - started_cpu
        rows = sum(count for _, count in done.lists)
        assert (done.files, rows) == (walked, walked // len(NAMES)), "every row of the tree stands in a list"
        size = sum(path.stat().st_size for path, _ in done.lists) / 2**20
    print(conditions())
    print(f"{done.files:,} files, {rows:,} rows of {len(done.columns)} paths, lists of {size:.1f} MiB")
    print(f"os.walk  {walk_s:6.2f} s")
    print(f"convert  {convert_s:6.2f} s, {convert_cpu_s:.2f} CPU s, {done.files / convert_s:,.0f} files a second")
    print(f"memory   {peak_mib() - before:6.1f} MiB more at the peak, {peak_mib():.0f} MiB in all (most of it torch)")


if __name__ == "__main__":
    main()
