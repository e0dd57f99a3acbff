"""Where an action writes, and keys that an action cannot do without."""

from __future__ import annotations

from pathlib import Path

from search_spaces.errors import SpecError, shell_word
from search_spaces.spec.tree import Spec, get_value

WEIGHTS, ONNX = (".pth", ".ckpt", ".safetensors"), (".onnx",)
BEST = ("best", "model")  # best.pth of a run, model.onnx of a promotion
DEPTHS = ("*", "*/*", "*/*/*", "*/*/*/*")  # a run keeps its weights in train/, a study in trials/0007/train/
SHOWN = 4


def results_folder(spec: Spec, action: str) -> Path:
    """`<action>.results_dir` if set, else `<results_dir>/<action>`; SpecError when neither is set."""
    own = get_value(spec, f"{action}.results_dir")
    if own:
        return Path(own)
    if spec.results_dir:
        return Path(spec.results_dir) / action
    raise SpecError(f"neither results_dir nor {action}.results_dir is set", hint="add results_dir=results to the command")


def require(spec: Spec, dotted: str, *, action: str) -> str:
    """The text at a key that `action` cannot do without; SpecError names the key when it is unset, and files that would do."""
    value = get_value(spec, dotted)
    if value:
        return str(value)
    found = _candidates(Path(spec.results_dir), dotted) if spec.results_dir else []
    hint = f"add {dotted}=... to the command or set it in the spec"
    if found:
        more = f"; also there: {', '.join(map(str, found[1:SHOWN]))}" if found[1:] else ""
        hint = f"add {shell_word(f'{dotted}={found[0]}')} to the command{more}"
    raise SpecError(f"missing mandatory value: depth_net {action} needs {dotted}", hint=hint)


def _candidates(root: Path, dotted: str) -> list[Path]:
    """Files up to three folders deep below `root` that could stand at `dotted`: best weights first, then the newest."""
    suffixes = ONNX if dotted.endswith("onnx_file") else WEIGHTS if dotted.startswith(("export.", "quantize.")) else WEIGHTS + ONNX
    files = [path for depth in DEPTHS for path in root.glob(depth) if path.suffix in suffixes and path.is_file()]
    return sorted(files, key=lambda path: (path.stem not in BEST, -path.stat().st_mtime, str(path)))
