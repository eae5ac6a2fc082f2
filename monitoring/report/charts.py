"""The small charts of the page, as inline SVG; their colours and hatches are in templates/style.css.

Shapes distinguish what colours distinguish: the reference is hollow, the current window filled; a diamond is a value,
a bar its band, a dashed line a limit. Each chart has a title that gives the same in words.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from monitoring.report.wording import absent, is_absent

Number = float | None
END = 2.5  # end of the scale of a finding, in limits


def drawing(name: str, size: tuple[int, int], title: str, body: Iterable[str]) -> Markup:
    """An SVG of `size` (width, height) in pixels with a `title`, which a screen reader reads out.

    A histogram has no fixed size: it is as wide as its container.
    """
    box = f'class="{name}" viewBox="0 0 {size[0]} {size[1]}"'
    box += "" if name == "histogram" else f' width="{size[0]}" height="{size[1]}"'
    return Markup(f'<svg {box} role="img"><title>{escape(title)}</title>{"".join(body)}</svg>')


def sparkline(history: Sequence[float], now: Number, limit: Number) -> Markup:
    """The history as a line, the newest window as a diamond, the limit dashed."""
    known = [value for value in [*history, now] if value is not None and not is_absent(value)]
    if not known or is_absent(now):
        return absent("no earlier days")
    top = 1.1 * max([*known, limit or 0.0, 1e-9])
    step = 72 / max(len(known) - 1, 1)
    points = [(4 + step * index, 19 - 16 * max(value, 0) / top) for index, value in enumerate(known)]
    line = [f'<path class="line" d="M{" ".join(f"{_n(x)} {_n(y)}" for x, y in points)}"/>'] if len(points) > 1 else []
    bound = [_line("limit", 0, 19 - 16 * limit / top, 84)] if limit else []
    title = f"{len(known) - 1} earlier days up to {max(known[:-1], default=0):.3f}, now {known[-1]:.3f}"
    return drawing("spark", (84, 22), title, [*bound, *line, _diamond(*points[-1], 3)])


def bullet(value: Number, limit: Number, noise: Number) -> Markup:
    """A value against its limit, and the noise band from 0.

    The limit has the same position in every row, so that rows can be compared; a value beyond END times the limit is
    drawn at the end, with an arrow.
    """
    if value is None or is_absent(value):
        return absent("no value")
    known = [float(number) for number in (value, limit, noise) if number is not None]
    low, high = min([0.0, *known]), END * limit if limit and limit > 0 else max([*known, 1e-9])
    parts = [_line("axis", 4, 9, 136)]
    if noise is not None:
        parts.append(_box("noise", _at(0, low, high), _at(noise, low, high), 4, 10))
    if limit is not None:
        parts.append(f'<path class="limit" d="M{_n(_at(limit, low, high))} 0v18"/>')
    parts.append(_diamond(_at(value, low, high) - 7 * (value > high), 9, 5))
    parts += ['<path class="beyond" d="M134 5l6 4-6 4z"/>'] if value > high else []
    title = _description({"value": value, "limit": limit, "noise up to": noise})
    return drawing("bullet", (140, 18), title, parts)


def interval(value: Number, low: Number, high: Number, reference: Number, bounds: tuple[float, float]) -> Markup:
    """A value as a diamond, its band from `low` to `high`, the reference hollow; `bounds` is the scale."""
    if value is None and low is None:
        return absent("too few labels")
    parts = [_line("axis", 4, 9, 136)]
    if low is not None and high is not None:
        parts.append(_box("band", _at(low, *bounds), _at(high, *bounds), 5, 8))
    if reference is not None:
        parts.append(f'<circle class="before" cx="{_n(_at(reference, *bounds))}" cy="9" r="3.2"/>')
    if value is not None:
        parts.append(_diamond(_at(value, *bounds), 9, 5))
    title = _description({"value": value, "from": low, "to": high, "reference": reference})
    return drawing("interval", (140, 18), title, parts)


def histogram(reference: Sequence[float], current: Sequence[float], bins: Sequence[str], top: float) -> Markup:
    """Two bars per bin, the reference hollow on the left, the current one filled on the right; `top` is full height.

    The two bins that moved most, if by more than half a point, carry an arrow up or down.
    """
    if not bins or len(reference) != len(bins) or len(current) != len(bins):
        return absent("no rows to draw")
    width = max(480 // len(bins), 4)  # whole units make short paths: a page has hundreds of histograms
    high = 132 / (top or 1.0)
    marks = {index: current[index] - reference[index] for index in moved(reference, current)[:2]}
    bars = "".join(
        f'<path class="{name}" d="{_bars(shares, width, high, half)}"/>'
        for half, (name, shares) in enumerate((("before", reference), ("now", current)))
    )
    arrows = "".join(
        _arrow((index + 0.5) * width, min(high * max(reference[index], current[index]), 138), by)
        for index, by in marks.items()
        if abs(by) >= 0.005
    )
    parts = [bars, f'<path class="arrow" d="{arrows}"/>' if arrows else ""]
    title = "; ".join(f"{bins[index]}: {reference[index]:.1%} then, {current[index]:.1%} now" for index in marks)
    return drawing("histogram", (width * len(bins), 153), f"{len(bins)} bins; moved most: {title}", parts)


def reliability(points: Sequence[dict[str, Any]]) -> Markup:
    """Observed against predicted: predictions on the dashed diagonal are calibrated; larger dots hold more rows."""
    known = [point for point in points if not is_absent(point["observed"]) and not is_absent(point["predicted"])]
    if not known:
        return absent("no labels yet")
    top = 1.05 * max([max(point["predicted"], point["observed"]) for point in known] + [1e-9])
    most = max([point["rows"] for point in known] + [1])
    points_drawn = [(4 + 88 * point["predicted"] / top, 92 - 88 * point["observed"] / top) for point in known]
    dots = (
        f'<circle class="now" cx="{_n(x)}" cy="{_n(y)}" r="{_n(1.5 + 3 * (point["rows"] / most) ** 0.5)}"/>'
        for (x, y), point in zip(points_drawn, known, strict=True)
    )
    line = f'<path class="line" d="M{" ".join(f"{_n(x)} {_n(y)}" for x, y in points_drawn)}"/>'
    frame = '<path class="axis" d="M4 4v88h88"/><path class="limit" d="M4 92L92 4"/>'
    pairs = ", ".join(f"{point['predicted']:.3f} to {point['observed']:.3f}" for point in known)
    return drawing("reliability", (96, 96), f"Predicted to observed: {pairs}", [frame, line, *dots])


def shift(before: Number, now: Number, top: float) -> Markup:
    """Two shares on one scale from 0 to `top`: the reference hollow, the current one filled, a line between."""
    if before is None or now is None:
        return absent("no rows")
    start, end = _at(before, 0, top), _at(now, 0, top)
    parts = [
        _line("axis", 4, 9, 136),
        f'<path class="move" d="M{_n(start)} 9H{_n(end)}"/>',
        f'<circle class="before" cx="{_n(start)}" cy="9" r="4"/>',
        _diamond(end, 9, 5),
    ]
    return drawing("interval", (140, 18), f"from {before:.1%} to {now:.1%}", parts)


def bar(value: Number, top: float) -> Markup:
    """A number as a bar of up to 48 pixels."""
    length = 0.0 if value is None or top <= 0 else max(48 * value / top, 0.0)
    body = f'<path class="now" d="M0 2h{_n(length)}v6h-{_n(length)}z"/>'
    return Markup(f'<svg class="bar" viewBox="0 0 48 10" width="48" height="10" aria-hidden="true">{body}</svg>')


def moved(reference: Sequence[float], current: Sequence[float]) -> list[int]:
    """Indices of the bins, the largest difference of shares first."""
    size = [abs(now - before) for before, now in zip(reference, current, strict=True)]
    return sorted(range(len(size)), key=lambda index: -size[index])


def _description(named: dict[str, Number]) -> str:
    return ", ".join(f"{name} {number:.3g}" for name, number in named.items() if number is not None)


def _at(value: float, low: float, high: float) -> float:
    """The position of a value on an axis from 6 to 134 pixels; a value beyond it is at its end."""
    return min(max(6 + 128 * (value - low) / ((high - low) or 1.0), 6), 134)


def _bars(shares: Sequence[float], width: int, high: float, half: int) -> str:
    """Bars on the base line of a histogram, in the left (0) or right (1) half of their bins."""
    bar = max(2 * width // 5, 1)
    start, gap = width // 10 + half * bar, width - bar
    heights = (min(round(share * high), 138) for share in shares)
    steps = (f"v-{height}h{bar}v{height}h{gap}" if height else f"h{width}" for height in heights)
    return f"M{start} 152{''.join(steps)}"


def _arrow(x: float, height: float, by: float) -> str:
    tip, foot = (138 - height, 147 - height) if by > 0 else (147 - height, 138 - height)
    return f"M{x:.0f} {tip:.0f}L{x - 7:.0f} {foot:.0f}h14z"


def _diamond(x: float, y: float, size: int) -> str:
    return f'<path class="value" d="M{_n(x)} {_n(y - size)}l{size} {size} -{size} {size} -{size} -{size}z"/>'


def _box(name: str, left: float, right: float, top: int, height: int) -> str:
    width = _n(max(right - left, 1))
    return f'<path class="{name}" d="M{_n(left)} {top}h{width}v{height}h-{width}z"/>'


def _line(name: str, left: float, y: float, right: float) -> str:
    return f'<path class="{name}" d="M{_n(left)} {_n(y)}H{_n(right)}"/>'


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
