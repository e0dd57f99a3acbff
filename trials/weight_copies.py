"""Weight files that a spec names in an S3 store, as files of this machine.

Records keep the URL; only what reads a file asks for its copy.  An exported model comes with the files beside it that share its name.
"""

from __future__ import annotations

from pathlib import Path

from search_spaces.spec import Spec, with_values
from search_spaces.spec.weights import weight_files
from trials.data.objects import names_below, objects_of
from trials.data.urls import is_url

_WITH_COMPANIONS = (".onnx", ".xml", ".engine")


def local_file(spec: Spec, name: str, *, key: str) -> Path:
    """The file called `name` (a path or URL) at `key` of the spec; an object is fetched, errors as `Objects.fetch` raises them."""
    if not is_url(name):
        return Path(name)
    beside: list[str] = []
    if name.lower().endswith(_WITH_COMPANIONS):
        folder, _, file = name.rpartition("/")
        beside = [f"{folder}/{other}" for other in names_below(folder) if other.startswith(f"{Path(file).stem}.") and "/" not in other]
    return objects_of(spec).fetch([name, *beside], named_by=key)[0]


def local_weights(spec: Spec) -> Spec:
    """The spec with the copies of the weight files in the place of their URLs."""
    named = {file.key: file.path for file in weight_files(spec) if is_url(file.path)}
    return with_values(spec, {key: str(local_file(spec, url, key=key)) for key, url in named.items()}) if named else spec
