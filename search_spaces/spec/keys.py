"""One line per spec key: `key(default, doc, ...)` puts type, default, range, options, unit and effect in one place.

Key names, types, defaults and ranges follow TAO's `depth_net` spec (tao-core, Apache-2.0); what a key does here
is ours.  The sections are frozen dataclasses; `fields_of` flattens them to dotted names for validation, schemas
and search spaces.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field
from enum import Enum
from typing import Any, Concatenate, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")


class Acts(Enum):
    """What changing a key changes."""

    TRAINING = "training"  # what is learned, for both families
    STEREO = "stereo"  # what is learned, stereo networks only
    MONO = "mono"  # what is learned, mono networks only
    EVALUATION = "evaluation"  # how results are measured, never what is learned
    RUNNING = "running"  # where, how fast or what is written
    INERT = "inert"  # accepted because TAO's specs carry it; nothing reads it


@dataclass(frozen=True)
class Key:
    """What a section says about one key; `outside` is its effect in the val, test and infer splits."""

    doc: str
    _: KW_ONLY
    low: float | None = None
    high: float | None = None
    above: float | None = None  # exclusive lower bound
    off: float | None = None  # one legal value outside the range that switches the thing off
    options: tuple[str | int, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    unit: str | None = None
    acts: Acts = Acts.TRAINING
    outside: Acts | None = None
    automl: bool | None = None  # TAO's automl_enabled: None = not flagged, may be requested by name
    popular: bool = False
    stereo_only: bool = False  # mono networks do not read it, whatever `acts` says
    log: bool = False  # the range spans decades
    when: tuple[str, tuple[str | bool, ...]] | None = None  # read only while another key has one of these values
    why: str = ""  # why the key does nothing: anywhere if inert, else in the family that does not read it


@dataclass(frozen=True, kw_only=True)
class FieldInfo:
    """One dotted key of the spec: its type in TAO's vocabulary and as an annotation, its rule and its effect."""

    key: str
    type: str
    annotation: object
    default: object
    rule: Key
    acts: Acts

    @property
    def low(self) -> float | None:
        """The smallest legal value, or None."""
        return self.rule.low

    @property
    def high(self) -> float | None:
        """The largest legal value, or None."""
        return self.rule.high

    @property
    def options(self) -> tuple[str | int, ...]:
        """The legal values, empty when any value of the type will do."""
        return self.rule.options

    @property
    def unit(self) -> str | None:
        """The unit of the value, or None for plain numbers and words."""
        return self.rule.unit

    @property
    def doc(self) -> str:
        """What the key means, in one sentence."""
        return self.rule.doc

    def read_by(self, family: str) -> bool:
        """Whether networks of `family` (`stereo` or `mono`) read the key at all."""
        if self.acts is Acts.INERT or (self.rule.stereo_only and family == "mono"):
            return False
        return self.acts is not (Acts.MONO if family == "stereo" else Acts.STEREO)

    @property
    def automl(self) -> bool | None:
        """TAO's automl_enabled flag; None when TAO does not flag the key."""
        return self.rule.automl


def _declared_by(rule: Callable[P, Key]) -> Callable[Concatenate[T, P], T]:
    """A function that makes dataclass fields; its arguments after the default are those of `rule`, and checked as such."""

    def declare(default: T, /, *facts: P.args, **more: P.kwargs) -> T:
        metadata = {"key": rule(*facts, **more)}
        if isinstance(default, dict):
            return typing.cast(T, field(default_factory=lambda: dict(default), metadata=metadata))
        return field(default=default, metadata=metadata)

    return declare


# key(default, doc, low=..., high=..., ...): a dataclass field with its default and its Key
key = _declared_by(Key)


def fields_of(kind: type, prefix: str = "", *, outside: bool = False) -> Iterator[FieldInfo]:
    """Every key below section `kind`, dotted, in the order of declaration; `outside` marks the evaluation splits."""
    hints = typing.get_type_hints(kind)
    for item in dataclasses.fields(kind):
        name = f"{prefix}{item.name}"
        annotation = hints[item.name]
        if isinstance(annotation, type) and dataclasses.is_dataclass(annotation):
            below = outside or name in {"dataset.val_dataset", "dataset.test_dataset", "dataset.infer_dataset"}
            yield from fields_of(annotation, f"{name}.", outside=below)
            continue
        rule: Key = item.metadata["key"]
        default = item.default if item.default is not dataclasses.MISSING else {}
        acts = rule.outside if outside and rule.outside is not None else rule.acts
        yield FieldInfo(key=name, type=tao_type(annotation, rule), annotation=annotation, default=default, rule=rule, acts=acts)


def tao_type(annotation: object, rule: Key) -> str:
    """The word of TAO's schema vocabulary for an annotation: bool, int, float, string, categorical, list, collection."""
    plain = without_none(annotation)
    if rule.options:
        return "ordered_int" if plain is int else "categorical"
    words: dict[object, str] = {bool: "bool", int: "int", float: "float", str: "string"}
    if plain in words:
        return words[plain]
    return "list" if typing.get_origin(plain) is tuple else "collection"


@functools.cache
def section_fields(kind: type) -> Mapping[str, dataclasses.Field[Any]]:
    """The fields of a section by name, in the order of declaration; a search asks thousands of times."""
    return types.MappingProxyType({item.name: item for item in dataclasses.fields(kind)})


def without_none(annotation: object) -> object:
    """`X` for `X | None`; other annotations as they are."""
    if isinstance(annotation, types.UnionType):
        return next(part for part in typing.get_args(annotation) if part is not type(None))
    return annotation


def allows_none(annotation: object) -> bool:
    """Whether None is a legal value of the annotation."""
    return isinstance(annotation, types.UnionType) and type(None) in typing.get_args(annotation)
