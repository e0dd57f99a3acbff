"""`--parent`: the model file that an earlier run, export or study left for the next action.

One rule for all actions, and never a guess: where a folder holds several files that would do, the error names them.

    parent                          what is taken
    a study                         the winner's checkpoint, for gen_trt_engine the promoted model.onnx; with --pick onnx, openvino, int8 or
                                    engine that file of its promotion
    a run (or its train/ folder)    best.pth; with --pick latest, epoch=N or step=N that full state, N as in the file's name
    any other folder                the one exported or quantised model in it, or the one of the kind that --pick names
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from automl.console import screen, tell
from automl.folders import stored_url
from automl.status import CHOICE_FILE, read_json
from automl.summary import shown_path
from search_spaces.errors import CheckpointError, SpecError, shell_word
from trials.states import BEST, LATEST, full_states

KEYS = {
    "evaluate": "evaluate.checkpoint",
    "inference": "inference.checkpoint",
    "export": "export.checkpoint",
    "quantize": "quantize.model_path",
    "gen_trt_engine": "gen_trt_engine.onnx_file",
}
_WEIGHTS, _GRAPHS, _ENGINES = (".pth", ".ckpt", ".safetensors"), (".onnx", ".xml"), (".engine",)
TAKES = {
    "evaluate": (*_WEIGHTS, *_GRAPHS, *_ENGINES),
    "inference": (*_WEIGHTS, *_GRAPHS, *_ENGINES),
    "export": _WEIGHTS,
    "quantize": (*_WEIGHTS, ".onnx"),
    "gen_trt_engine": (".onnx",),
}
_INT8 = ".int8.onnx"
_KINDS = {"onnx": ".onnx", "openvino": ".xml", "int8": _INT8, "engine": ".engine"}
_PICK = re.compile(rf"best|latest|(epoch|step)=(\d+)|{'|'.join(_KINDS)}")
_ASIDE = (".rejected", ".previous")  # in names of files that nothing takes unasked
_PLAIN_PICK = "best"


def with_parent(action: str, overrides: Sequence[str] | None, parent: Path | None, pick: str) -> tuple[str, ...]:
    """`overrides` with the model file of `parent` (a folder, or its URL) at the action's key, and a line on the screen that names it.

    The file then stands in the action's experiment.yaml.  SpecError for a `pick` without sense, or when the key is set as well;
    CheckpointError when nothing, or more than one thing, is there to take.
    """
    given = tuple(overrides or ())
    if parent is None:
        if pick != _PLAIN_PICK:
            raise SpecError("--pick goes with --parent", hint="add --parent DIR")
        return given
    if not _PICK.fullmatch(pick):
        raise SpecError(
            f"--pick must be best, latest, epoch=N, step=N, {', '.join(_KINDS)}, but got {pick}",
            hint="--pick epoch=3, as in model_epoch_003",
        )
    key = KEYS[action]
    if any(text.lstrip("+").startswith(f"{key}=") for text in given):
        raise SpecError(f"{key} and --parent both name the model", hint="leave one of them out")
    url = stored_url(parent)
    if url is None:
        chosen = resolve(parent, action, pick)
        named = str(chosen)
        tell(screen(), f"parent  {shown_path(parent)}: {shown_path(chosen)}")
    else:
        from automl.stored_study import named_there  # asks a store

        named = named_there(url, lambda folder: resolve(folder, action, pick))
        tell(screen(), f"parent  {url}: {named}")
    quoted = named.replace("\\", "\\\\").replace("'", "\\'")
    return (f"{key}='{quoted}'", *given)


def resolve(parent: Path, action: str, pick: str) -> Path:
    """The file that `action` takes of `parent`; CheckpointError says what is there where there is none."""
    if not parent.is_dir():
        raise CheckpointError(f"--parent {parent}: there is no such folder", hint="give the folder of a run, of an export or of a study")
    choice = read_json(parent / CHOICE_FILE)
    if choice is not None:
        return _of_study(parent, Path(choice["checkpoint"]), action, pick)
    for folder in (parent, parent / "train"):
        if (folder / BEST).is_file() or full_states(folder):
            return _taken(_of_run(folder, pick), action)
    return _only_one(parent, action, pick)


def _of_study(study: Path, checkpoint: Path, action: str, pick: str) -> Path:
    if pick in _KINDS:
        return _only_one(study / "promotion", action, pick)
    if pick != _PLAIN_PICK:
        raise SpecError(
            f"--pick {pick} is for a run, but {study} is a study: its winner is what it chose", hint="--parent STUDY/trials/0007"
        )
    path = study / "promotion" / "model.onnx" if ".pth" not in TAKES[action] else checkpoint
    if not path.is_file():
        raise CheckpointError(
            f"{study} chose {path}, which is not there", hint=f"`automl promote {shell_word(study)}` makes it again from its trials"
        )
    return path


def _of_run(folder: Path, pick: str) -> Path:
    kind, _, number = pick.partition("=")
    if pick in _KINDS:
        raise SpecError(
            f"--pick {pick}: {folder} is a run, which holds checkpoints alone", hint="--parent STUDY, or the folder of an export"
        )
    if kind in {"best", "latest"}:
        path = folder / (BEST if kind == "best" else LATEST)
        if path.is_file():
            return path.resolve() if kind == "latest" else path
        found = []
    else:
        found = [path for path in full_states(folder) if int(path.stem.split("_")[2 if kind == "epoch" else 4]) == int(number)]
        if len(found) == 1:
            return found[0]
    there = [path.name for path in (folder / BEST, *full_states(folder)) if path.is_file()]
    told = f"{len(found)} states fit" if found else "there is none"
    raise CheckpointError(f"--pick {pick} in {folder}: {told}", hint=f"there: {', '.join(there)}")


def _only_one(folder: Path, action: str, pick: str) -> Path:
    if pick != _PLAIN_PICK and pick not in _KINDS:
        raise SpecError(f"--pick {pick} is for a run, but {folder} holds no checkpoints of one", hint="leave --pick out")
    if pick in _KINDS and not _KINDS[pick].endswith(TAKES[action]):
        raise SpecError(f"{action} takes no {pick} file, but {', '.join(TAKES[action])}", hint="choose another --pick")
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [path for path in files if path.is_file() and _fits(path, action, pick)]
    if len(found) == 1:
        return found[0]
    kinds = ", ".join(TAKES[action]) if pick == _PLAIN_PICK else _KINDS[pick]
    if not found:
        hint = "is it the folder of a run, an export or a study?"
        if pick != _PLAIN_PICK:
            hint = f"`automl promote STUDY --to {pick}` makes it"
        raise CheckpointError(f"{folder} holds no model that {action} takes ({kinds})", hint=hint)
    names = ", ".join(path.name for path in found)
    hint = f"name one: {shell_word(f'{KEYS[action]}={found[0]}')}; or its kind: --pick {', '.join(_KINDS)}"
    raise CheckpointError(f"{folder} holds {len(found)} models that {action} takes: {names}", hint=hint)


def _fits(path: Path, action: str, pick: str) -> bool:
    """Whether `action` may take the file: its ending, no word in its name that puts it aside, and the kind that was picked."""
    if path.suffix not in TAKES[action] or any(word in path.name for word in _ASIDE):
        return False
    return pick == _PLAIN_PICK or (path.name.endswith(_KINDS[pick]) and (pick == "int8") == path.name.endswith(_INT8))


def _taken(path: Path, action: str) -> Path:
    if path.suffix not in TAKES[action]:
        raise CheckpointError(
            f"{action} takes {', '.join(TAKES[action])}, but {path.parent} is a run: it holds weights",
            hint="export it first: depth_net export",
        )
    return path
