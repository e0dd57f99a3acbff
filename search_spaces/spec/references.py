"""Resolves `${section.key}` and `${oc.env:NAME}` in a spec's plain data, in OmegaConf's grammar; an error names the key that holds it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from search_spaces.errors import SpecError
from search_spaces.spec.values import Places, at_place

KEY = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
# what OmegaConf puts before the reason
PREFIX = re.compile(r"^\w+ (raised )?while resolving interpolation: ")


def resolve_references(tree: Mapping[str, Any], places: Places) -> dict[str, Any]:
    """`tree` with every reference replaced by what it stands for; SpecError for one that leads nowhere or into an unset key."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.create(dict(tree))
        resolved = OmegaConf.to_container(config, resolve=True)
        unset = [(key, name) for key, name in _embedded(tree) if OmegaConf.select(config, name) is None]
    except OmegaConfBaseException as error:
        key = str(getattr(error, "full_key", None) or "")
        problem = PREFIX.sub("", str(error).splitlines()[0]).strip('"')
        raise SpecError(
            f"{key or 'a value'} holds a ${{...}} that cannot be resolved: {problem}{at_place(key, places)}",
            hint="write ${section.key} with keys of the spec",
        ) from error
    for key, name in unset:
        raise SpecError(f"{key} is made of {name}, which is not set{at_place(key, places)}", hint=f"set {name}, or write {key} out")
    assert isinstance(resolved, dict)
    return {str(name): value for name, value in resolved.items()}


def _embedded(data: Any, dotted: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key and referenced name of every reference that is a part of a longer text."""
    if isinstance(data, str):
        yield from ((dotted, name) for name in KEY.findall(data) if data != f"${{{name}}}")
    elif isinstance(data, Mapping):
        for name, value in data.items():
            yield from _embedded(value, f"{dotted}.{name}" if dotted else str(name))
    elif isinstance(data, list | tuple):
        for i, value in enumerate(data):
            yield from _embedded(value, f"{dotted}[{i}]")
