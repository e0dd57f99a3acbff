"""Reads a spec file: plain data and the place (`spec.yaml:12`) of every key.

YAML as OmegaConf reads it (1e-4 is a number, a repeated key an error), less what YAML 1.1 reads as nobody means it: 010 as 8,
1:30 as 90.  Whatever is wrong is one SpecError with file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from search_spaces.errors import SpecError

TAG = "tag:yaml.org,2002:"
PLAIN = {f"{TAG}{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "merge", "value")}
OCTAL, SIXTIETHS = re.compile(r"[+-]?0[0-7_]+"), re.compile(r"[+-]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
LONGEST = 100  # digits: a number beyond is a mistake, and beyond 4300 Python refuses to read it
NESTED = "a spec has groups of keys, four deep"
EXAMPLE = "for example `train:` with `num_epochs: 10` below it; `depth_net sample --out samples` writes specs that run"
# a part of what PyYAML says, and what helps
HINTS = {
    "'\\t'": "indent with blanks: YAML allows no tabs there",
    "duplicate key": "keep one of the two lines",
    "another document": "keep one document: remove the line with ---",
    "unknown escape character": "put paths with backslashes in single quotes",
    "but found '?'": "inside { } quote the mark: '???'",
    "mapping values are not allowed": "check the indentation, and quote texts with a colon and a blank in them",
}


def read_mapping(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Data of a YAML file, `${...}` unresolved, and the place of every dotted key; both empty for a file without content.

    SpecError for a file that cannot be read, is no text, no YAML, or holds something else than keys with values.
    """
    import yaml

    text = _text(path)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None or node.tag == f"{TAG}null":
            return {}, {}
        if not isinstance(node, yaml.MappingNode):
            held = "a list" if isinstance(node, yaml.SequenceNode) else f"the text {node.value!r}"
            raise SpecError(f"{path}:{node.start_mark.line + 1} must hold keys with values, but holds {held}", hint=EXAMPLE)
        _check_nodes(node, str(path))
        return _data(text, path), dict(_places(node, str(path)))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"U+{ord(text[error.position]):04X}"
        raise SpecError(
            f"{path}:{line} holds {character}, which no YAML file may hold", hint="save the file as plain text in UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise _no_yaml(error, path) from error
    except RecursionError as error:
        raise SpecError(f"the spec {path} is nested too deeply, or an alias holds itself", hint=NESTED) from error


def _text(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SpecError(f"the spec {path} cannot be read: {error.strerror}", hint="give an existing YAML file with -e") from error
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SpecError(f"the spec {path} is text in UTF-16, not in UTF-8", hint="save the file as UTF-8")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{path}:{line} is not text in UTF-8", hint="give a YAML file with -e, saved as UTF-8") from error


def _data(text: str, path: Path) -> dict[str, Any]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        data = OmegaConf.to_container(OmegaConf.create(text))
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0]
        raise SpecError(f"the spec {path} has a wrong ${{...}}: {problem}", hint="write ${section.key} with keys of the spec") from error
    assert isinstance(data, dict)
    return {str(name): value for name, value in data.items()}


def _no_yaml(error: Any, path: Path) -> SpecError:
    """What PyYAML complains about, with the line it means and what usually helps there."""
    mark = getattr(error, "problem_mark", None)
    place = f"{path}:{mark.line + 1}" if mark is not None else str(path)
    problem = getattr(error, "problem", None) or str(error)
    hint = next((hint for part, hint in HINTS.items() if part in problem), "check indentation, colons and quotes there")
    return SpecError(f"{place} is not valid YAML: {problem}", hint=hint)


def _check_nodes(node: Any, name: str) -> None:
    """SpecError for keys, tags and numbers that a spec cannot hold or that YAML reads as nobody means them."""
    import yaml

    place = f"{name}:{node.start_mark.line + 1}"
    if node.tag not in PLAIN:
        shown = f"!!{node.tag.removeprefix(TAG)}" if node.tag.startswith(TAG) else node.tag
        raise SpecError(f"{place} has the tag {shown}", hint="a spec holds numbers, texts, lists and groups of keys, without tags")
    if isinstance(node, yaml.ScalarNode):
        _check_number(node, place)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _check_nodes(item, name)
    else:
        for key_node, value_node in node.value:
            if key_node.tag not in (f"{TAG}str", f"{TAG}merge"):
                at = f"{name}:{key_node.start_mark.line + 1}"
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a group"
                raise SpecError(f"{at}: a key must be a name, but is {shown}", hint=EXAMPLE)
            _check_nodes(value_node, name)


def _check_number(node: Any, place: str) -> None:
    if node.tag not in (f"{TAG}int", f"{TAG}float") or node.style is not None:
        return
    if OCTAL.fullmatch(node.value) or SIXTIETHS.fullmatch(node.value):
        base = "8" if OCTAL.fullmatch(node.value) else "60"
        raise SpecError(f"{place}: YAML reads {node.value} in base {base}", hint="leave out leading zeros; quote what is meant as a text")
    if len(node.value) > LONGEST or not any(digit.isalnum() for digit in node.value[2:] or node.value):
        raise SpecError(f"{place} holds a number that cannot be read: {node.value[:20]}...", hint="write it in decimal digits")


def _places(node: Any, name: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and `file:line` for every key below a YAML node; what a merge (<<) brings stands where it was written."""
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in sorted(node.value, key=lambda pair: pair[0].tag != f"{TAG}merge"):
            if key_node.tag == f"{TAG}merge":
                for merged in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    yield from _places(merged, name, prefix)
                continue
            dotted = f"{prefix}.{key_node.value}" if prefix else str(key_node.value)
            yield dotted, f"{name}:{key_node.start_mark.line + 1}"
            yield from _places(value_node, name, dotted)
    elif isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield f"{prefix}[{i}]", f"{name}:{item.start_mark.line + 1}"
            yield from _places(item, name, f"{prefix}[{i}]")
