"""Charts as inline SVG: sizes for a phone's screen, colours by CSS, a title and a description for screen readers."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

Point = tuple[float, float]

_WIDTH, _HEIGHT = 360, 230  # of a chart, in CSS pixels: the text stays readable on a phone
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 12, 10, 40
_NUM_STYLES = 6  # colours and dashes in the style sheet
_TICKS = 5
_MOST = 1e100
_MOST_MARKED = 40  # points of a line with a mark each


@dataclass(frozen=True)
class Series:
    """A line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y), x rising; numbers that are not finite, or as large as 1e100, are left out.
        style: 0 to 5, colour and dash; None: its place among the series.
    """

    name: str
    points: Sequence[Point]
    style: int | None = None


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    key: str,
    is_log: bool = False,
    marks: Sequence[float] = (),
    y_range: Point | None = None,
    has_whole_x: bool = True,
) -> Markup | None:
    """Return a chart of lines, or None if there is no point to draw.

    Args:
        title: of the chart, for screen readers.
        series: the lines; those without points are left out.
        x_label: below the horizontal axis.
        y_label: what is drawn, with its unit.
        key: makes the ids of this chart unique in its page.
        is_log: a logarithmic vertical axis; values of 0 and below are left out.
        marks: x of vertical lines: failed rounds.
        y_range: of the vertical axis; None: of the values.
        has_whole_x: ticks of the horizontal axis are whole numbers, such as rounds.
    """
    kept = [_kept(one, number, is_log) for number, one in enumerate(series)]
    kept = [one for one in kept if one.points]
    if not kept:
        return None
    xs = [x for one in kept for x, _ in one.points] + list(marks)
    ys = [y for one in kept for _, y in one.points]
    x_of, x_ticks = _axis(min(xs), max(xs), _LEFT, _WIDTH - _RIGHT, whole=has_whole_x)
    low, high = y_range or (min(ys), max(ys))
    y_of, y_ticks = (_log_axis if is_log else _axis)(low, high, _HEIGHT - _BOTTOM, _TOP)
    parts = [_grid(x_ticks, x_of, y_ticks, y_of, x_label)]
    parts += [
        Markup('<line class="failed" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            px(x_of(x)), _TOP, _HEIGHT - _BOTTOM
        )
        for x in marks
    ]
    parts += [_line(one, x_of, y_of) for one in kept]
    ends = "; ".join(f"{one.name} from {number(one.points[0][1])} to {number(one.points[-1][1])}" for one in kept)
    said = f"{y_label} by {x_label}: {ends}." + (f" Rounds {_listed(marks)} failed." if marks else "")
    picture = svg(title, said, _WIDTH, _HEIGHT, Markup("").join(parts), key)
    return picture + _legend(kept, bool(marks))


def interval_bar(value: float, interval: Sequence[float] | None, low: float, high: float) -> Markup:
    """Return a small picture of a value and its interval on a scale from `low` to `high`."""
    width, height = 120, 16
    span = high - low or 1.0

    def x(at: float) -> str:
        return px(6 + (width - 12) * min(max((at - low) / span, 0.0), 1.0))

    said = f"{number(value)}" + (f", interval from {number(interval[0])} to {number(interval[1])}" if interval else "")
    parts = [Markup('<line class="rail" x1="6" x2="{0}" y1="8" y2="8"/>').format(width - 6)]
    if interval:
        parts.append(
            Markup('<line class="range" x1="{0}" x2="{1}" y1="8" y2="8"/>').format(x(interval[0]), x(interval[1]))
        )
    parts.append(Markup('<circle class="dot" cx="{0}" cy="8" r="4"/>').format(x(value)))
    return Markup('<svg class="bar" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>').format(
        width, height, said, Markup("").join(parts)
    )


def histogram(title: str, edges: Sequence[float], counts: Sequence[Series], *, x_label: str, key: str) -> Markup | None:
    """Return shares by bin as stepped lines: each series holds (bin, share); None if there is nothing to draw."""
    steps = []
    for one in counts:
        points = [(edge, share) for bin_, share in one.points for edge in edges[int(bin_) : int(bin_) + 2]]
        steps.append(Series(one.name, points))
    return line_chart(title, steps, x_label=x_label, y_label="share of images", key=key, has_whole_x=False)


def svg(
    title: str, said: str, width: float, height: float, content: Markup, key: str, *, is_fixed: bool = False
) -> Markup:
    """Return a picture with a title and a description, both read by screen readers; `is_fixed`: it never shrinks."""
    style = Markup(' style="width:{0}px;max-width:none"').format(px(width)) if is_fixed else ""
    return Markup(
        '<svg class="chart"{6} viewBox="0 0 {0} {1}" role="img" aria-labelledby="{2}-t {2}-d">'
        '<title id="{2}-t">{3}</title><desc id="{2}-d">{4}</desc>{5}</svg>'
    ).format(px(width), px(height), key, title, said, content, style)


def number(value: float) -> str:
    """Return a number with three digits that count, such as 0.0312 or 1,290."""
    if value == 0 or 1e-4 <= abs(value) < 1e5:
        text = f"{value:.3g}"
        return f"{value:,.0f}" if "e" in text or abs(value) >= 1000 else text
    return f"{value:.2e}"


def _kept(one: Series, place: int, is_log: bool) -> Series:
    points = [(x, y) for x, y in one.points if abs(x) < _MOST and abs(y) < _MOST and (y > 1 / _MOST or not is_log)]
    return Series(one.name, points, (place if one.style is None else one.style) % _NUM_STYLES)


def _axis(
    low: float, high: float, start: float, end: float, whole: bool = False
) -> tuple[Callable[[float], float], list[float]]:
    """Return where a value lies between two positions, and the ticks."""
    if high - low <= 1e-9 * abs(high):
        half = 0.1 * abs(high) or 0.5
        low, high = low - half, high + half
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    step = max(1.0, round(step)) if whole else step
    if not whole:
        low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    first = math.ceil(low / step - 1e-9)
    ticks = [at * step for at in range(first, math.floor(high / step + 1e-9) + 1)]
    return lambda value: start + (end - start) * (value - low) / (high - low), ticks


def _log_axis(low: float, high: float, start: float, end: float) -> tuple[Callable[[float], float], list[float]]:
    """Return the same of a logarithmic axis."""
    bottom, top = math.log10(low), math.log10(high)
    if top - bottom < 0.3:
        bottom, top = bottom - 0.15, top + 0.15
    factors = (1,) if top - bottom > 3 else (1, 3) if top - bottom > 1.2 else (1, 2, 3, 5)
    ticks = [
        factor * 10.0**power
        for power in range(math.floor(bottom), math.ceil(top) + 1, max(1, round((top - bottom) / _TICKS)))
        for factor in factors
        if bottom <= math.log10(factor * 10.0**power) <= top
    ]
    return lambda value: start + (end - start) * (math.log10(value) - bottom) / (top - bottom), ticks


def _grid(
    x_ticks: Iterable[float],
    x_of: Callable[[float], float],
    y_ticks: Iterable[float],
    y_of: Callable[[float], float],
    x_label: str,
) -> Markup:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for at in y_ticks:
        y = px(y_of(at))
        parts.append(Markup('<line class="grid" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(_LEFT, right, y))
        parts.append(
            Markup('<text x="{0}" y="{1}" text-anchor="end">{2}</text>').format(_LEFT - 5, px(y_of(at) + 4), number(at))
        )
    for at in x_ticks:
        x = px(x_of(at))
        parts.append(Markup('<text x="{0}" y="{1}" text-anchor="middle">{2}</text>').format(x, bottom + 16, number(at)))
    parts.append(Markup('<line class="axis" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>').format(_LEFT, right, bottom))
    middle = px((_LEFT + right) / 2)
    parts.append(Markup('<text x="{0}" y="{1}" text-anchor="middle">{2}</text>').format(middle, _HEIGHT - 6, x_label))
    return Markup("").join(parts)


def _line(one: Series, x_of: Callable[[float], float], y_of: Callable[[float], float]) -> Markup:
    places = [(px(x_of(x)), px(y_of(y))) for x, y in one.points]
    drawn = [Markup('<polyline class="s{0}" points="{1}"/>').format(one.style, " ".join(f"{x},{y}" for x, y in places))]
    marked = places if len(places) <= _MOST_MARKED else places[-1:]
    drawn += [Markup('<circle class="p{0}" cx="{1}" cy="{2}" r="2.5"/>').format(one.style, x, y) for x, y in marked]
    return Markup("").join(drawn)


def _legend(kept: Sequence[Series], has_failed: bool) -> Markup:
    entries = [
        Markup(
            '<li><svg class="key" viewBox="0 0 28 14" aria-hidden="true"><polyline class="s{0}" points="1,7 27,7"/>'
            '<circle class="p{0}" cx="14" cy="7" r="3"/></svg>{1}</li>'
        ).format(one.style, one.name)
        for one in kept
    ]
    if has_failed:
        entries.append(
            Markup(
                '<li><svg class="key" viewBox="0 0 28 14" aria-hidden="true">'
                '<line class="failed" x1="14" x2="14" y1="0" y2="14"/></svg>failed round</li>'
            )
        )
    return Markup('<ul class="legend">{0}</ul>').format(Markup("").join(entries))


def _listed(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def px(value: float) -> str:
    """Return a place, in CSS pixels."""
    return f"{value:.1f}".removesuffix(".0")
