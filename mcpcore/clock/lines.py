"""Bounds on a straight line from one-sided constraints: the geometry under offset estimation.

This module exists so that "which (offset, skew) pairs are still possible?" has an exact answer
and not a statistical one. The offset of a peer's clock against ours is a line over our time,
``a + b x``. Every message from us to the peer proves that the line passes *below* a point; every
message back proves that it passes *above* one. The lines that satisfy all of them form a convex
polygon; its extremes are the bounds, and an empty polygon proves that no line fits, so that one
of the two clocks stepped. It knows geometry and nothing of clocks, and must never import anything
that acts.

Only points on a convex hull can be touched by a line, so only they are kept: that is the
minimum-delay filter, exactly, for each direction on its own. The window slides in blocks, for a
hull can grow at its end but not be cut at its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor

Point = tuple[int, int]

BLOCKS = 4
"""Between three quarters of the window and all of it is in force at any time."""

HULL_POINTS_MAX = 16
"""Per block and side. Dropping a constraint only widens the bounds, so a peer that sends hulls on
purpose costs itself precision and us no memory."""

FIT_SAMPLES_MIN = 8
"""With fewer samples the best guess of the slope is the one nearest zero that is possible."""


class _Hull:
    """Points that a line may touch from below, x ascending: their lower convex hull."""

    __slots__ = ("points",)

    def __init__(self) -> None:
        self.points: list[Point] = []

    def push(self, x: int, y: int, slope_max: float) -> None:
        points = self.points
        if points and x < points[-1][0]:
            # Late: move it to the newest x, made weaker by all that a line may rise on the way.
            y += ceil((points[-1][0] - x) * slope_max) + 1
            x = points[-1][0]
        if points and x == points[-1][0]:
            y = min(y, points.pop()[1])
        extend_hull(points, (x, y))
        if len(points) > HULL_POINTS_MAX:
            del points[len(points) // 2]

    def check(self) -> None:
        """Ascending x, ascending slopes, bounded length."""
        assert len(self.points) <= HULL_POINTS_MAX
        for (ax, _), (bx, _) in pairwise(self.points):
            assert ax < bx, "x ascends"
        for a, b, c in zip(self.points, self.points[1:], self.points[2:], strict=False):
            assert (b[1] - a[1]) * (c[0] - b[0]) < (c[1] - b[1]) * (b[0] - a[0]), "convex"


def extend_hull(hull: list[Point], point: Point) -> None:
    """Append ``point``, which lies right of the rest, and drop what it shadows."""
    x, y = point
    while len(hull) >= 2:
        (ax, ay), (bx, by) = hull[-2], hull[-1]
        if (by - ay) * (x - ax) < (y - ay) * (bx - ax):
            break
        hull.pop()
    hull.append(point)


class _Block:
    """A part of the window."""

    __slots__ = ("above", "below", "count", "last_x", "start_x", "sum_x")

    def __init__(self, start_x: int) -> None:
        self.start_x = start_x
        self.last_x = start_x
        self.above = _Hull()  # the line passes below these
        self.below = _Hull()  # it passes above these; stored with y negated
        self.count = 0
        self.sum_x = 0


@dataclass(frozen=True, slots=True)
class Fit:
    """What the constraints leave possible, at ``x``.

    Args:
        low, high: the least and the greatest value the line can have at ``x``.
        slope_low, slope_high: the least and the greatest slope.
        value, slope: the best guess: midway between the two hulls.
        drift: how fast the true slope may change the value beyond a line's, per unit of x.
    """

    x: int
    low: int
    high: int
    slope_low: float
    slope_high: float
    value: float
    slope: float
    drift: float

    def low_at(self, x: int) -> int:
        """The least value at ``x``; the further from the fit, the wider."""
        dx = x - self.x
        return self.low + floor(
            min(self.slope_low * dx, self.slope_high * dx) - abs(dx) * self.drift
        )

    def high_at(self, x: int) -> int:
        """The greatest value at ``x``."""
        dx = x - self.x
        return self.high + ceil(
            max(self.slope_low * dx, self.slope_high * dx) + abs(dx) * self.drift
        )

    def value_at(self, x: int) -> int:
        """The best guess at ``x``, never outside the bounds."""
        return self.at(x)[0]

    def at(self, x: int) -> tuple[int, int, int]:
        """At ``x``: the best guess, the least and the greatest value."""
        low, high = self.low_at(x), self.high_at(x)
        return min(max(round(self.value + self.slope * (x - self.x)), low), high), low, high


class FeasibleLines:
    """The lines that satisfy the constraints of a sliding window.

    Args:
        window: how far back constraints count, in units of x.
        slope_max: no line is steeper, up or down.
        drift: the true curve may leave its line by this much per unit of x: oscillators wander.
    """

    __slots__ = ("_block_x", "_blocks", "_drift", "_slope_max", "fit")

    fit: Fit | None
    """What is possible now; None before the first constraint or when no line fits."""

    def __init__(self, window: int, slope_max: float, drift: float) -> None:
        self._block_x = max(1, window // BLOCKS)
        self._slope_max = slope_max
        self._drift = drift
        self._blocks: list[_Block] = []
        self.fit = None

    @property
    def count(self) -> int:
        """Constraint pairs in force."""
        return sum(block.count for block in self._blocks)

    def add(self, above: Point, below: Point) -> bool:
        """Add one pair: the line passes below ``above`` and above ``below``.

        Returns whether any line is left. If not, the window is empty again but for this pair.
        """
        x = max(above[0], below[0])
        blocks = self._blocks
        if not blocks or x - blocks[-1].start_x >= self._block_x:
            oldest_x = x - (BLOCKS - 1) * self._block_x
            blocks[:] = [block for block in blocks if block.start_x >= oldest_x]
            blocks.append(_Block(x))
        self._put(blocks[-1], above, below, x)
        self.fit = self._solve()
        if self.fit is not None:
            return True
        blocks[:] = [_Block(x)]
        self._put(blocks[-1], above, below, x)
        self.fit = self._solve()
        return False

    def _put(self, block: _Block, above: Point, below: Point, x: int) -> None:
        block.above.push(*above, self._slope_max + self._drift)
        block.below.push(below[0], -below[1], self._slope_max + self._drift)
        block.last_x = max(block.last_x, x)
        block.count += 1
        block.sum_x += x - block.start_x

    def _solve(self) -> Fit | None:
        blocks = self._blocks
        # Wandering loosens a constraint in proportion to its age, which keeps hulls hulls.
        aboves = _joined(block.above for block in blocks)
        mirrored = _joined(block.below for block in blocks)
        belows = [(x, -y) for x, y in mirrored]
        x0 = blocks[-1].last_x
        drift = self._drift
        slope_low, slope_high = -self._slope_max, self._slope_max
        for ax, ay in aboves:
            # Distances are whole numbers until here, so nothing is lost to rounding.
            for bx, by in belows:
                room = ay - by + drift * (2 * x0 - ax - bx)
                if ax > bx:
                    slope_high = min(slope_high, room / (ax - bx))
                elif ax < bx:
                    slope_low = max(slope_low, -room / (bx - ax))
                elif room < 0:
                    return None
        if slope_low > slope_high:
            return None
        base = aboves[-1][1]
        high = base + ceil(min(y - base + (slope_high + drift) * (x0 - x) for x, y in aboves))
        low = base + floor(max(y - base + (slope_low - drift) * (x0 - x) for x, y in belows))
        if low > high:
            return None
        value, slope = self._guess(aboves, mirrored, slope_low, slope_high)
        return Fit(x0, low, high, slope_low, slope_high, min(max(value, low), high), slope, drift)

    def _guess(
        self,
        aboves: list[Point],
        mirrored: list[Point],
        slope_low: float,
        slope_high: float,
    ) -> tuple[float, float]:
        """Midway between the hull edges over the mean of all x (Zhang, Liu, Xia 2002).

        Of all lines below every point, the one nearest to them on average carries the hull's edge
        over their mean x; delays only ever push points away from it, so no outlier moves it.
        """
        blocks, count = self._blocks, self.count
        origin = blocks[0].start_x
        mean = origin + sum(b.sum_x + b.count * (b.start_x - origin) for b in blocks) / count
        up_value, up_slope = _edge(aboves, mean)
        down_value, down_slope = _edge(mirrored, mean)
        slope = (up_slope - down_slope) / 2 if count >= FIT_SAMPLES_MIN else 0.0
        slope = min(max(slope, slope_low), slope_high)
        x0 = blocks[-1].last_x
        return (up_value - down_value) / 2 + slope * (x0 - mean), slope

    def check(self) -> None:
        """Every promise this structure makes about itself."""
        assert len(self._blocks) <= BLOCKS
        for block in self._blocks:
            block.above.check()
            block.below.check()
        if self.fit is not None:
            assert self.fit.low <= self.fit.high, "the bounds stand in order"
            assert self.fit.low <= self.fit.value <= self.fit.high, "the guess is possible"
            assert self.fit.slope_low <= self.fit.slope <= self.fit.slope_high


def _joined(hulls: Iterable[_Hull]) -> list[Point]:
    """The hull of several hulls."""
    joined: list[Point] = []
    for point in sorted(point for hull in hulls for point in hull.points):
        if not joined or joined[-1][0] != point[0]:  # of one x the lowest comes first
            extend_hull(joined, point)
    return joined


def _edge(hull: list[Point], x: float) -> tuple[float, float]:
    """Value at ``x`` and slope of the hull's edge over (or nearest to) ``x``."""
    if len(hull) == 1:
        return float(hull[0][1]), 0.0
    right = next((i for i in range(1, len(hull)) if hull[i][0] >= x), len(hull) - 1)
    (ax, ay), (bx, by) = hull[right - 1], hull[right]
    slope = (by - ay) / (bx - ax)
    return ay + slope * (x - ax), slope
