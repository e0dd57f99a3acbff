"""What the code of the other folders reads of a spec, found in its syntax: live keys are read somewhere, inert ones nowhere."""

from __future__ import annotations

import ast
import dataclasses
import functools
import re
import typing
from pathlib import Path

import pytest

from search_spaces.spec import Acts, Augmentation, Dataset, Model, Optim, Spec, Split, Train, all_fields
from search_spaces.spec.keys import without_none

ROOT = Path(__file__).parents[2]
FOLDERS = ("models", "trials", "deploy", "automl")
# what a name stands for wherever it appears
NAMES: dict[str, type] = {"spec": Spec, "dataset": Dataset, "augmentation": Augmentation, "model": Model, "train": Train, "optim": Optim}
# blocks of actions that this release refuses
REFUSED = ("gen_trt_engine.",)
# read by the rules and by the completion of a spec alone
BY_RULES = {"dataset.dataset_name", "model.n_downsample"}


def sections(kind: type) -> dict[str, type]:
    """The groups inside a section, by name."""
    hints = {name: without_none(hint) for name, hint in typing.get_type_hints(kind).items()}
    return {name: hint for name, hint in hints.items() if isinstance(hint, type) and dataclasses.is_dataclass(hint)}


SECTIONS: dict[type, dict[str, type]] = {kind: sections(kind) for kind in (Spec, Dataset, Split, Model, Train)}
ACTIONS = frozenset(SECTIONS[Spec].values()) - {Dataset, Model}


class Reader(ast.NodeVisitor):
    """Collects (section, key) of every attribute that is taken from a part of a spec in one file."""

    def __init__(self) -> None:
        self.read: set[tuple[type, str]] = set()
        self.local: dict[str, frozenset[type]] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before, self.local = self.local, dict(self.local)
        kinds = {kind.__name__: kind for kind in (Spec, *SECTIONS[Spec].values(), Split, Augmentation, Optim)}
        for argument in (*node.args.args, *node.args.kwonlyargs):
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id in kinds:
                self.local[argument.arg] = frozenset({kinds[argument.annotation.id]})
        self.generic_visit(node)
        self.local = before

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        targets, values = node.targets[0], node.value
        pairs = zip(targets.elts, values.elts, strict=False) if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple) else ()
        for target, value in [(targets, values), *pairs]:
            if isinstance(target, ast.Name) and (kinds := self.kinds(value)):
                self.local[target.id] = kinds

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.generic_visit(node)
        self.read |= {(kind, node.attr) for kind in self.kinds(node.value)}

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and isinstance(node.args[1], ast.Constant):
            self.read |= {(kind, str(node.args[1].value)) for kind in self.kinds(node.args[0])}

    def kinds(self, node: ast.expr) -> frozenset[type]:
        """The sections that an expression may stand for; empty for everything else."""
        if isinstance(node, ast.Name):
            named = NAMES.get(node.id)
            return self.local.get(node.id, frozenset({named} if named else ()))
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr.lstrip("_") in NAMES:
                return frozenset({NAMES[node.attr.lstrip("_")]})
            inside = (SECTIONS.get(kind, {}).get(node.attr) for kind in self.kinds(node.value))
            return frozenset(kind for kind in inside if kind is not None)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            held = self.kinds(node.args[0])
            return ACTIONS if Spec in held else frozenset({Split}) if Dataset in held else frozenset()
        return frozenset()


@functools.cache
def what_is_read() -> frozenset[tuple[type, str]]:
    reader, texts = Reader(), []
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            texts.append(path.read_text(encoding="utf-8"))
            reader.visit(ast.parse(texts[-1]))
    texts += [(ROOT / "search_spaces" / "spec" / f"{name}.py").read_text(encoding="utf-8") for name in ("paths", "weights")]
    text = "\n".join(texts)
    # keys named in texts, "train.num_epochs" and f"{action}.checkpoint" for instance
    whole = {name for name in re.findall(r"[\"']([a-z_0-9.]+)[\"']", text) if name in all_fields()}
    endings = set(re.findall(r"\{\w+\}\.([a-z_]+)[\"']", text))
    by_text = {(section_of(key), key.rpartition(".")[2]) for key in whole}
    return frozenset(reader.read | by_text | {(kind, name) for kind in ACTIONS for name in endings})


def section_of(key: str) -> type:
    """The section class that holds a dotted key."""
    kind: type = Spec
    for part in key.split(".")[:-1]:
        kind = sections(kind)[part]
    return kind


def is_read(key: str) -> bool:
    return (section_of(key), key.rpartition(".")[2]) in what_is_read()


def test_the_reader_follows_names_getattr_and_tuples() -> None:
    reader = Reader()
    reader.visit(
        ast.parse("def f(s: Spec):\n a, b = s.dataset, s.model\n c = getattr(a, x)\n return b.encoder, c.workers, self._spec.train.seed")
    )
    assert {(Model, "encoder"), (Split, "workers"), (Train, "seed")} <= reader.read


LIVE = [key for key, info in all_fields().items() if info.acts is not Acts.INERT and not key.startswith(REFUSED)]
INERT = [key for key, info in all_fields().items() if info.rule.acts is Acts.INERT and info.rule.outside is None]


def test_every_live_key_is_read() -> None:
    assert [key for key in LIVE if not is_read(key) and key not in BY_RULES] == []


def test_no_inert_key_is_read() -> None:
    assert [key for key in INERT if is_read(key)] == []


@pytest.mark.parametrize("key", sorted(BY_RULES))
def test_a_key_of_the_rules_is_a_key(key: str) -> None:
    assert all_fields()[key].acts is not Acts.INERT
