"""The five packages of this project as one piece: where a process finds them, a hash of them, a copy for the nodes of a cluster.

A folder on a worker's path may hold a package named `models` or `trials` of its own.  Before anything is imported a worker asks here
whether what it would import is what the driver runs.
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

PACKAGES = ("automl", "deploy", "models", "search_spaces", "trials")


def import_root(package: str = "models") -> Path | None:
    """The folder from which this process imports `package`, or would (nothing is imported); None where there is no such package."""
    origin = getattr(sys.modules.get(package), "__file__", None)
    if origin is None:
        found = importlib.util.find_spec(package)
        origin = None if found is None else found.origin
    return None if origin is None else Path(origin).resolve().parents[1]


def code_root() -> Path:
    """The folder of this process's own five packages."""
    return Path(__file__).resolve().parents[1]


def foreign_code(root: Path, code: str) -> str | None:
    """Says which package this process would take from elsewhere than the driver, None when it has the driver's code.

    `root` is where the driver has its packages, `code` their `code_hash`: a copy of them is as good.
    """
    found = {package: import_root(package) for package in PACKAGES}
    roots = set(found.values())
    if roots == {root}:
        return None
    for package, place in found.items():
        if place is None:
            return f"the worker does not find the package {package}"
    if len(roots) > 1:
        main = import_root("automl")
        package, place = next((package, place) for package, place in found.items() if place != main)
        return f"the worker would run {place}/{package} with {main}/automl: another folder on its path holds a package named {package}"
    place = next(iter(roots))
    assert place is not None
    return None if code_hash(place) == code else f"the worker would run {place} instead of {root}, and the code there is another one"


@lru_cache(maxsize=4)
def code_hash(root: Path) -> str:
    """Sixteen hexadecimal digits that stand for every file of the packages below `root`."""
    digest = hashlib.sha256()
    for path in _files(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def copy_code(root: Path, target: Path) -> Path:
    """The packages below `root` copied into the new folder `target`, which is given back: nothing else of `root` travels."""
    for path in _files(root):
        place = target / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
    return target


def _files(root: Path) -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in sorted((root / package).rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
