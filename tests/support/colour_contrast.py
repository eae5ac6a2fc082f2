"""Colours of a style sheet as they are seen: contrast by WCAG 2.2, and colour vision deficiencies."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Machado, Oliveira and Fernandes 2009, severity 1: linear red, green, blue as seen without one kind of cones
BLIND = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}
SEEN = {"all cones": np.eye(3)} | {name: np.array(matrix) for name, matrix in BLIND.items()}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # of linear sRGB, D65


def palettes(style: Path) -> dict[str, dict[str, str]]:
    """The custom properties of a style sheet that are colours, on light and on dark paper."""
    light, dark = re.findall(r":root \{(.*?)\}", style.read_text(), re.DOTALL)[:2]
    named = [dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})\b", block)) for block in (light, dark)]
    return {"light": named[0], "dark": named[0] | named[1]}


def linear(colour: str) -> Floats:
    """Linear red, green and blue [3] of #rgb or #rrggbb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    value = np.array([int(digits[start : start + 2], 16) for start in (0, 2, 4)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """From 1, no difference, to 21, black on white (WCAG 2.2)."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (first, second))
    return (high + 0.05) / (low + 0.05)


def apart(first: str, second: str, seen: Floats) -> float:
    """Distance of two colours in CIELAB as they are `seen` [3, 3]; a distance of about 2 is just visible."""
    return float(np.linalg.norm(_lab(seen @ linear(first)) - _lab(seen @ linear(second))))


def _lab(rgb: Floats) -> Floats:
    ratio = XYZ @ rgb.clip(0, 1) / (XYZ @ np.ones(3))
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
