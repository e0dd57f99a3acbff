"""Where an action writes, and keys that an action cannot do without."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import SpecError
from search_spaces.spec.tree import Spec, get_value

FOLDERS = ("train", "evaluate", "inference", "export", "gen_trt_engine", "quantize")


def results_folder(spec: Spec, action: str) -> Path:
    """`<action>.results_dir` if set, else `<results_dir>/<action>`; SpecError when neither is set."""
    own = get_value(spec, f"{action}.results_dir")
    if own:
        return Path(own)
    if spec.results_dir:
        return Path(spec.results_dir) / action
    raise SpecError(f"neither results_dir nor {action}.results_dir is set", hint=f"add results_dir={Path('results')} to the command")


def require(spec: Spec, dotted: str, *, action: str) -> str:
    """The text at a key that `action` cannot do without; SpecError names the key when it is unset."""
    value = get_value(spec, dotted)
    if not value:
        raise SpecError(f"depth_net {action} needs {dotted}", hint=f"add {dotted}=... to the command or set it in the spec")
    return str(value)
