"""Charts as inline SVG text: lines and points on linear, logarithmic or categorical axes, with a title on every point.

Plain text, so that the report needs no script and no remote file.  Tick positions follow the usual 1-2-5 rule
(Heckbert, "Nice numbers for graph labels", Graphics Gems, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from automl.console import number_text

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 44


@dataclass(frozen=True, kw_only=True)
class Point:
    """One mark: position in data units, the text shown on hover, and a CSS class for its colour."""

    x: float
    y: float
    title: str = ""
    style: str = "complete"


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points in order; `line` joins them, `marks` draws each."""

    points: Sequence[Point]
    style: str = "complete"
    line: bool = False
    marks: bool = True


@dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis: its label, whether it is logarithmic or counts whole things, or the words at 0, 1, 2, ... of a categorical one."""

    label: str
    log: bool = False
    whole: bool = False
    words: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class _Scale:
    """Data units -> pixels along one axis."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        low, high = self._unit(self.low), self._unit(self.high)
        return self.start + (self._unit(value) - low) / (high - low) * (self.end - self.start)

    def _unit(self, value: float) -> float:
        return math.log10(value) if self.axis.log else value

    def ticks(self) -> list[tuple[float, str]]:
        """Positions in data units with their labels."""
        if self.axis.words:
            return [(float(place), word) for place, word in enumerate(self.axis.words)]
        if self.axis.log:
            values = _log_ticks(self.low, self.high)
        else:
            values = _linear_ticks(self.low, self.high, least=1.0 if self.axis.whole else 0.0)
        return [(value, number_text(value)) for value in values]


def chart(series: Sequence[Series], x: Axis, y: Axis) -> str:
    """An `<svg>` of the series; an axis that cannot be logarithmic (a value <= 0) becomes linear; "" without points."""
    points = [point for one in series for point in one.points]
    if not points:
        return ""
    across = _scale(x, [point.x for point in points], LEFT, WIDTH - RIGHT)
    up = _scale(y, [point.y for point in points], HEIGHT - BOTTOM, TOP)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(y.label)} over {escape(x.label)}">']
    parts += _grid(across, up)
    for one in series:
        parts += _draw(one, across, up)
    parts.append("</svg>")
    return "".join(parts)


def _scale(axis: Axis, values: Sequence[float], start: float, end: float) -> _Scale:
    low, high = min(values), max(values)
    if axis.words:
        return _Scale(axis, -0.5, len(axis.words) - 0.5, start, end)
    if axis.log and low > 0:
        factor = (high / low) ** 0.06 if high > low else 2.0
        return _Scale(axis, low / factor, high * factor, start, end)
    margin = (high - low) * 0.06 or max(abs(high) * 0.1, 0.5)
    return _Scale(Axis(label=axis.label, whole=axis.whole), low - margin, high + margin, start, end)


def _linear_ticks(low: float, high: float, *, least: float) -> list[float]:
    rough = max((high - low) / 5, least)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = math.ceil(low / step)
    return [round(place * step, 12) for place in range(first, math.floor(high / step) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if math.log10(high / low) > 2 else (1, 2, 5)
    return [factor * 10.0**power for power in range(first, last + 1) for factor in factors if low <= factor * 10.0**power <= high]


def _grid(across: _Scale, up: _Scale) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value, label in up.ticks():
        height = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 7}" y="{height + 4:.1f}" text-anchor="end">{escape(label)}</text>')
    for value, label in across.ticks():
        place = across(value)
        parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{escape(label)}</text>')
    middle_x, middle_y = (LEFT + right) / 2, (TOP + bottom) / 2
    parts.append(f'<text class="label" x="{middle_x}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across.axis.label)}</text>')
    parts.append(
        f'<text class="label" transform="translate(14 {middle_y}) rotate(-90)" text-anchor="middle">{escape(up.axis.label)}</text>'
    )
    return parts


def _draw(series: Series, across: _Scale, up: _Scale) -> list[str]:
    parts = []
    if series.line and len(series.points) > 1:
        path = " ".join(f"{across(point.x):.1f},{up(point.y):.1f}" for point in series.points)
        parts.append(f'<polyline class="line {escape(series.style)}" points="{path}"/>')
    if series.marks:
        for point in series.points:
            circle = f'<circle class="mark {escape(point.style)}" cx="{across(point.x):.1f}" cy="{up(point.y):.1f}" r="4.5">'
            parts.append(f"{circle}<title>{escape(point.title)}</title></circle>")
    return parts
