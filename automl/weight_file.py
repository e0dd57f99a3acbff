"""`depth_net inspect`: what a weight file is, which key of a spec takes it, and the same weights for another program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from automl.console import count_text, number_text, screen, tell
from automl.entry import DONE
from automl.folders import check_writable
from automl.summary import shown_path
from models.checkpoints import Container, read_checkpoint
from models.inspection import CheckpointInfo, content_of, inspect_checkpoint
from models.parts import taken_as
from models.rewrite import Names, rewrite
from search_spaces.errors import UserError
from search_spaces.spec import all_fields

CONTAINERS = {
    Container.FLAT: "tensors alone",
    Container.WRAPPED: "tensors in a dict",
    Container.LIGHTNING: "Lightning checkpoint",
    Container.OURS: "checkpoint of this program",
}
NAMED = ("model.model_type", "model.variant", "model.encoder")  # worth saying also where they are the default
PREDICTS = {"disparity": "disparity, px", "depth": "depth, m", "relative": "inverse depth up to scale and shift"}


def inspect_action(file: Path, out: Path | None, names: Names | None) -> int:
    """Shows what `file` is; with `out` it also writes the same weights there under the names of another program."""
    if (out is None) != (names is None):
        raise UserError("--write and --names go together", hint="for example --write for_tao.pth --names tao")
    console = screen()
    info = inspect_checkpoint(file)
    table = Table(box=None, show_header=False, pad_edge=False, title=escape(str(file)), title_justify="left", title_style="bold")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in _rows(info).items():
        table.add_row(name, escape(text))
    console.print(table)
    if out is not None and names is not None:
        check_writable(out.parent, hint="choose another --write")
        rewrite(content_of(read_checkpoint(file)), names, out)
        tell(console, f"wrote {shown_path(out)} with {'TAO' if names == 'tao' else 'the published'} names")
    return DONE


def _rows(info: CheckpointInfo) -> dict[str, str]:
    predicts = PREDICTS[info.output] if info.output else ""
    if info.max_depth_m is not None:
        predicts += f", up to {number_text(info.max_depth_m)} m"
    if info.max_disparity is not None:
        predicts += f", trained for up to {info.max_disparity} px"
    progress = {"epoch": info.epoch, "step": info.step, **info.metrics}
    rows = {
        "layout": f"{info.layout.value} ({CONTAINERS[info.container]})",
        "predicts": predicts,
        "tensors": f"{info.tensors} with {info.parameters / 1e6:.2f} million numbers",
        "beside": f"{count_text(len(info.outside), 'tensor')} of something else: {', '.join(info.outside[:3])}" if info.outside else "",
        "not read": f"settings kept as objects of {', '.join(_packages(info.left_out))}" if info.left_out else "",
        "progress": ", ".join(f"{name} {number_text(value)}" for name, value in progress.items() if value is not None),
        "spec": " ".join(f"{key}={_plain(value)}" for key, value in info.decides.items() if key in NAMED or not _is_default(key, value)),
        "goes to": taken_as(info.layout),
    }
    return {name: text for name, text in rows.items() if text}


def _packages(classes: Sequence[str]) -> list[str]:
    """Packages of classes, plain Python's own only where there is no other."""
    packages = sorted({name.split(".")[0] for name in classes})
    return [name for name in packages if name not in sys.stdlib_module_names] or packages


def _is_default(key: str, value: object) -> bool:
    default = all_fields()[key].default
    return value == (list(default) if isinstance(default, tuple) else default)


def _plain(value: object) -> str:
    """A value as it is typed on a command line."""
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)
