"""A pack: the decoded samples of one data source in one memory-mapped file.

    <pack>/samples.bin   for each sample its arrays one after the other, each at a multiple of 64 bytes
    <pack>/index.npy     (N, 6) int64: offset, image height and width, 1 with a right view, height and width of the ground truth (0: none)

The arrays are those of `Sample`: what is cut out of them is all that is read from the disk, and all processes of a machine share the pages.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trials.data.annotations import Row
from trials.data.cache_folder import Lock
from trials.data.reading import Sample

SAMPLES, INDEX = "samples.bin", "index.npy"
_ALIGNMENT = 64
_COLUMNS = 6


class Pack:
    """A finished pack; its arrays are read-only.  `lock` keeps it from being removed while this object lives.

    A copy in another process maps the file again and holds no lock: the process that it came from does.
    """

    def __init__(self, folder: Path, lock: Lock | None = None) -> None:
        self._folder = folder
        self._lock = lock
        self._index = np.load(folder / INDEX)
        with (folder / SAMPLES).open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def __len__(self) -> int:
        return len(self._index)

    def __reduce__(self) -> tuple[type[Pack], tuple[Path]]:
        return Pack, (self._folder,)

    def sample(self, number: int) -> Sample:
        """The sample of row `number` of the source; nothing is read before it is looked at."""
        offset, height, width, paired, truth_height, truth_width = (int(value) for value in self._index[number])
        parts = iter(_Layout(height, width, bool(paired), truth_height, truth_width).parts(offset))

        def take(kind: type[np.generic]) -> npt.NDArray[np.generic]:
            start, shape = next(parts)
            return np.frombuffer(self._map, kind, count=int(np.prod(shape)), offset=start).reshape(shape)

        image = take(np.uint8)
        right = take(np.uint8) if paired else None
        target, valid = (take(np.float32), take(np.bool_)) if truth_height else (None, None)
        return Sample(image=image, right=right, target=target, valid=valid)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class PackedRow:
    """Reads one row from its pack, as `SampleReader` reads it from its files."""

    pack: Pack
    number: int

    def read(self, row: Row) -> Sample:
        """The decoded row."""
        del row
        return self.pack.sample(self.number)


class PackWriter:
    """Writes a pack into an empty folder, sample by sample; OSError when the disk refuses.  `size` counts the bytes so far."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = (folder / SAMPLES).open("wb")
        self._index: list[tuple[int, ...]] = []
        self.size = 0

    def add(self, sample: Sample) -> None:
        """Appends a sample."""
        arrays = [array for array in (sample.image, sample.right, sample.target, sample.valid) if array is not None]
        height, width = sample.image.shape[:2]
        truth = (0, 0) if sample.target is None else sample.target.shape
        self._index.append((self.size, height, width, int(sample.right is not None), *truth))
        for array in arrays:
            self._file.write(np.ascontiguousarray(array).data)
            self._file.write(bytes(-array.nbytes % _ALIGNMENT))
            self.size += aligned(array.nbytes)

    def repeat(self, number: int) -> None:
        """Appends a row that holds the same as row `number`."""
        self._index.append(self._index[number])

    def close(self) -> None:
        """Completes the pack."""
        self._file.flush()
        self._file.close()
        np.save(self._folder / INDEX, np.array(self._index, np.int64).reshape(-1, _COLUMNS))


def aligned(size: int) -> int:
    """`size` bytes with the gap behind them."""
    return size + -size % _ALIGNMENT


def sample_bytes(image: tuple[int, int], truth: tuple[int, int] | None, *, paired: bool) -> int:
    """What a sample of these sizes (height, width) takes."""
    *_, end = _Layout(*image, paired, *(truth or (0, 0))).ends(0)
    return end


@dataclass(frozen=True, slots=True)
class _Layout:
    """Shapes of a sample's arrays, in their order."""

    height: int
    width: int
    paired: bool
    truth_height: int
    truth_width: int

    def _arrays(self) -> list[tuple[int, tuple[int, ...]]]:
        """Bytes of an element, and shape."""
        colour, truth = (self.height, self.width, 3), (self.truth_height, self.truth_width)
        return [(1, colour)] * (2 if self.paired else 1) + ([(4, truth), (1, truth)] if self.truth_height else [])

    def ends(self, offset: int) -> Iterator[int]:
        """Where each array ends, with its gap."""
        for item, shape in self._arrays():
            offset += aligned(item * int(np.prod(shape)))
            yield offset

    def parts(self, offset: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Start and shape of each array."""
        for (_, shape), end in zip(self._arrays(), self.ends(offset), strict=True):
            yield offset, shape
            offset = end
