"""Points that less is better of in every coordinate: which are beaten by none, how much they cover, and which few stand for all.

The front is Pareto's.  Few points stand for it by hypervolume, the share of the space that they beat (Zitzler & Thiele 1999), taken one
after another: greedy subsets cover at least 63 % of what the best subset covers (Guerreiro, Fonseca & Paquete 2016).  The number of
points is that of the trials trained to the end, so that plain recursion is fast enough.
"""

from __future__ import annotations

from collections.abc import Sequence

Vector = Sequence[float]

MARGIN = 0.1  # how far beyond the worst corner of the front hypervolume reaches, so that its ends count for something


def dominates(one: Vector, other: Vector) -> bool:
    """Whether `one` is nowhere worse than `other` and somewhere better."""
    return all(mine <= theirs for mine, theirs in zip(one, other, strict=True)) and tuple(one) != tuple(other)


def nondominated(points: Sequence[Vector]) -> list[int]:
    """Positions of the points that no other one dominates; equal points stay together."""
    front: list[int] = []
    for place in sorted(range(len(points)), key=lambda place: tuple(points[place])):  # whoever dominates a point comes before it
        if not any(dominates(points[one], points[place]) for one in front):
            front.append(place)
    return sorted(front)


def hypervolume(points: Sequence[Vector], reference: Vector) -> float:
    """The volume between the points and `reference`, of which at least one point is better everywhere; 0 for points beyond it."""
    inside = [point for point in points if all(x < limit for x, limit in zip(point, reference, strict=True))]
    if not inside:
        return 0.0
    inside.sort(key=lambda point: point[-1])
    if len(reference) == 1:
        return reference[0] - inside[0][0]
    total = 0.0
    for place, point in enumerate(inside):  # slices along the last coordinate, each as wide as all points up to it cover
        end = inside[place + 1][-1] if place + 1 < len(inside) else reference[-1]
        if end > point[-1]:
            total += (end - point[-1]) * hypervolume([other[:-1] for other in inside[: place + 1]], reference[:-1])
    return total


def representatives(front: Sequence[Vector], count: int) -> list[int]:
    """Positions of `count` points of a front: the best by the first coordinate, then each time the one that covers most more.

    Coordinates count by their range over the front; of equals the earlier one is taken.
    """
    if not front or count <= 0:
        return []
    lows, highs = [min(column) for column in zip(*front, strict=True)], [max(column) for column in zip(*front, strict=True)]
    ranges = [high - low or 1.0 for low, high in zip(lows, highs, strict=True)]
    scaled = [[(x - low) / size for x, low, size in zip(point, lows, ranges, strict=True)] for point in front]
    reference = [1.0 + MARGIN] * len(lows)
    chosen = [min(range(len(front)), key=lambda place: (front[place][0], place))]
    while len(chosen) < min(count, len(front)):
        rest = [place for place in range(len(front)) if place not in chosen]
        covered = {place: hypervolume([scaled[one] for one in (*chosen, place)], reference) for place in rest}
        chosen.append(min(rest, key=lambda place: (-covered[place], place)))
    return chosen
