"""Actions whose results_dir is in an S3 store: they work in a folder of this machine, which `trials.stored_folder` keeps there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from automl.folders import stored_url
from search_spaces.spec import get_value, read_spec

URL = "s3://"
Action = Callable[[Path, Sequence[str]], int]


def stored(action: str, spec_file: Path, overrides: Sequence[str], run: Action) -> int:
    """The exit code of `run`, which is given a folder of this machine where the user's results_dir is a URL, and a copy of a spec there.

    What the action has written is in the store when this returns, also after a failure or Ctrl-C; ActionFailed says where it is else.
    """
    url = stored_url(spec_file)
    if url is None:
        return _stored(action, spec_file, overrides, run)
    from trials.data.s3 import refusal, store
    from trials.data.urls import bucket_and_key

    _, key = bucket_and_key(url)
    try:
        content = store().cat_file(url.removeprefix(URL))
    except Exception as error:
        raise refusal(error, url) from error
    with tempfile.TemporaryDirectory(prefix="depth_net-") as scratch:
        copy = Path(scratch) / Path(key).name
        copy.write_bytes(content)
        return _stored(action, copy, overrides, run)


def _stored(action: str, spec_file: Path, overrides: Sequence[str], run: Action) -> int:
    if not spec_file.is_file() or not any(URL in text for text in (*overrides, spec_file.read_text(encoding="utf-8", errors="replace"))):
        return run(spec_file, overrides)
    spec = read_spec(spec_file, overrides, action=action).spec
    key = f"{action}.results_dir" if get_value(spec, f"{action}.results_dir") else "results_dir"
    url = str(get_value(spec, key) or "")
    if not url.startswith(URL):
        return run(spec_file, overrides)
    url = url.rstrip("/")
    if key == "results_dir" and action != "train":  # the others write to a folder of their own there, and need nothing beside it
        key, url = f"{action}.results_dir", f"{url}/{action}"
    from automl.stored_study import keeping
    from trials.data.cache_folder import cache_folder
    from trials.stored_folder import working_folder

    place = working_folder(cache_folder(spec, "results").path, url)
    with keeping(url, place, again="the same command" + (" with train.resume=auto" if action == "train" else "")):
        return run(spec_file, (*overrides, f"{key}={_quoted(place)}"))


def _quoted(place: Path) -> str:
    return "'" + str(place).replace("\\", "\\\\").replace("'", "\\'") + "'"
