"""Numbers and terms as the page shows them: significant digits, separated thousands, a dash for a missing number."""

import math
from typing import Any

from markupsafe import Markup, escape

ABSENT = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"
KINDS = {
    "covariate": "distribution moved",
    "missing": "values missing",
    "new_values": "new values",
    "unit": "unit changed",
    "swapped": "categories swapped",
    "range": "out of range",
    "outdated": "sequences outdated",
    "mix": "scenario mix",
    "volume": "number of rows",
    "label_rate": "label rate",
    "label_shift": "labels moved",
    "score": "scores moved",
    "calibration": "calibration",
    "ranking": "ranking worse",
}
STATISTICS = {
    "psi": "PSI",
    "mix": "PSI",
    "score": "PSI",
    "label_shift": "PSI",
    "missing": "more or less missing",
    "unknown": "more new values",
    "out_of_range": "out of range",
    "fresh": "fewer fresh",
    "volume": "change of the rows",
    "label_rate": "change of the rate",
    "ranking": "AUC lost",
    "calibration": "times as on the validation rows",
}
CHANGES = frozenset({"label_rate", "fresh", "volume"})  # relative
SHARES = frozenset({"missing", "unknown", "out_of_range"})  # of rows, in points


def absent(reason: str = "not known") -> Markup:
    """An en dash for a missing number, with the reason as its title."""
    return Markup('<span title="{}">{}</span>').format(reason, ABSENT)


def is_absent(value: Any) -> bool:
    """Whether a value is missing: None, or a number that is not finite."""
    return value is None or (isinstance(value, float) and not math.isfinite(value))


def count(value: float | None, reason: str = "not counted") -> str:
    """A number of rows with separated thousands."""
    return absent(reason) if is_absent(value) else f"{value:,.0f}"


def figure(value: float | None, reason: str = "not measured") -> str:
    """A statistic with three digits at most: 0.312, 0.041, 12.3, 1,234; "<0.001" below that."""
    if value is None or is_absent(value):
        return absent(reason)
    size = abs(value)
    if 0 < size < 0.001:
        return "<0.001" if value > 0 else f"{MINUS}0.000"
    digits = 3 if size < 0.1 else 2 if size < 10 else 1 if size < 100 else 0
    return f"{value:,.{digits}f}".replace("-", MINUS)


def fixed(value: float | None, digits: int = 3, reason: str = "not measured") -> str:
    """A number with a fixed number of decimals, for a column of a table."""
    return absent(reason) if value is None or is_absent(value) else f"{value:,.{digits}f}".replace("-", MINUS)


def share(value: float | None, reason: str = "not measured") -> str:
    """A share in percent: 12.3 %, 0.4 %; "<0.1 %" for a small share that is not 0."""
    if value is None or is_absent(value):
        return absent(reason)
    if 0 < abs(value) < 0.0005:
        return f"<0.1{SPACE}%"
    return f"{100 * value:.1f}{SPACE}%".replace("-", MINUS)


def change(before: float | None, now: float | None) -> str:
    """The difference of two shares in percentage points, with its sign."""
    if before is None or now is None or is_absent(before) or is_absent(now):
        return absent()
    points = round(100 * (now - before), 1)
    return f"{points:+.1f}".replace("-", MINUS) if points else "0.0"


def percent(before: float | None, now: float | None) -> str:
    """Two shares in percent without the sign, reference and current: 12.0 → 18.1."""
    if before is None or now is None or is_absent(before) or is_absent(now):
        return absent()
    return f"{100 * before:.1f} → {100 * now:.1f}"


def measured(value: float | None, statistic: str | None) -> str:
    """A value of a named statistic: shares in points, a change of a rate in percent, others as a figure."""
    if value is None or is_absent(value):
        return absent()
    if statistic in SHARES:
        return f"{100 * value:.1f}{SPACE}points"
    return f"{100 * value:.0f}{SPACE}%" if statistic in CHANGES else figure(value)


def chance(probability: float | None, name: str = "p") -> str:
    """A p-value; without a `name` only the number."""
    if probability is None or is_absent(probability):
        return absent("no test applies")
    if probability < 0.001:
        return f"{name}{SPACE}<{SPACE}0.001" if name else "<0.001"
    return f"{name}{SPACE}={SPACE}{probability:.2g}" if name else f"{probability:.2g}"


def certainty(probability: float | None) -> str:
    """A corrected p-value in words."""
    if probability is None or is_absent(probability):
        return "not tested"
    words = {0.001: "very sure", 0.01: "sure", 0.05: "fairly sure"}
    return next((word for limit, word in words.items() if probability < limit), "may be chance")


def name_kind(kind: str) -> str:
    """The name of a kind of finding."""
    return KINDS.get(kind, kind.replace("_", " "))


def name_statistic(statistic: str | None) -> str:
    """A statistic as it follows its value: 0.31 PSI, 12.0 points more new values."""
    return STATISTICS.get(statistic or "", "")


def quote(text: Any) -> str:
    """Text with the parts between backticks set as code."""
    pieces = str(text).split("`")
    if len(pieces) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece) for index, piece in enumerate(pieces)
    )
