"""Plots of a column over the hole-share bins, as SVG text."""

from collections.abc import Callable
from html import escape
from math import ceil, floor, isnan, log10

from retouch.evaluation.metrics import Column
from retouch.evaluation.report import heading
from retouch.evaluation.tables import ALL, Results

__all__ = ["plot"]

_WIDTH, _HEIGHT = 560, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 150, 34, 40
_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    *("#7a5195", "#a05d2c", "#555555", "#b1b100"),
)
_DASHES = ("", "6 3", "2 3")


def plot(results: Results, column: Column) -> str:
    """Draw the mean of each bin with its interval, one line per method.

    Args:
        results: At least one bin besides `all`.
        column: Scored per picture.

    Returns:
        An `<svg>` element.
    """
    bins = [name for name in results.bins if name not in (ALL, "other")]
    low, high = _range(results, column, bins)
    width, height = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM

    def x(place: int) -> float:
        return _LEFT + width * (place + 0.5) / len(bins)

    def y(value: float) -> float:
        return _TOP + height * (high - value) / (high - low)

    title = escape(heading(column))
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{title} by hole share">',
        f'<text x="{_LEFT}" y="18" font-weight="600">{title}</text>',
        *_grid(low, high, y),
    ]
    for place, name in enumerate(bins):
        label = f'<text x="{x(place):.1f}" y="{_HEIGHT - 18}" text-anchor="middle">{name}</text>'
        parts.append(label)
    for number, method in enumerate(results.methods):
        points: list[tuple[float, float]] = []
        colour = _COLOURS[number % len(_COLOURS)]
        shift = 3 * (number - len(results.methods) / 2)
        for place, name in enumerate(bins):
            estimate = results.cells[method.name, name, str(column)].estimate
            if isnan(estimate.value):
                continue
            here = x(place) + shift
            points.append((here, y(estimate.value)))
            parts.append(
                f'<line x1="{here:.1f}" x2="{here:.1f}" y1="{y(estimate.low):.1f}" '
                f'y2="{y(estimate.high):.1f}" stroke="{colour}" stroke-opacity="0.6"/>'
            )
        parts += _line(points, method.name, number, colour)
    return "\n".join([*parts, "</svg>"])


def _range(results: Results, column: Column, bins: list[str]) -> tuple[float, float]:
    values: list[float] = []
    for method in results.methods:
        for name in bins:
            estimate = results.cells[method.name, name, str(column)].estimate
            values += [v for v in (estimate.low, estimate.high) if not isnan(v)]
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    margin = 0.04 * (high - low) or 0.5
    return low - margin, high + margin


def _grid(low: float, high: float, y: Callable[[float], float]) -> list[str]:
    parts: list[str] = []
    step = _step(high - low)
    decimals = max(0, -floor(log10(step)))
    for number in range(ceil(low / step), floor(high / step) + 1):
        value = number * step
        here = y(value)
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{here:.1f}" y2="{here:.1f}" '
            'stroke="#8884"/>'
        )
        parts.append(
            f'<text x="{_LEFT - 6}" y="{here + 4:.1f}" text-anchor="end">'
            f"{value:.{decimals}f}</text>"
        )
    return parts


def _step(span: float) -> float:
    """Choose a round distance of lines: 1, 2 or 5 times a power of ten, at most six lines."""
    power = 10.0 ** floor(log10(span / 6))
    return next(times * power for times in (1, 2, 5, 10) if times * power >= span / 6)


def _line(points: list[tuple[float, float]], name: str, number: int, colour: str) -> list[str]:
    dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    row = _TOP + 14 * number + 8
    legend = _WIDTH - _RIGHT + 10
    style = f'stroke="{colour}" stroke-dasharray="{dash}" stroke-width="1.6"'
    return [
        f'<polyline points="{path}" fill="none" {style}/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y in points),
        f'<line x1="{legend}" x2="{legend + 18}" y1="{row}" y2="{row}" {style}/>',
        f'<text x="{legend + 24}" y="{row + 4}">{escape(name)}</text>',
    ]
