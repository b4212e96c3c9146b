"""The distance of two colours: in colour, in grey, and for a reader with deuteranopia. Tests of looks use it."""

import numpy as np


def _linear(colour: str) -> np.ndarray:
    """sRGB '#RRGGBB' -> linear RGB (3,) in [0, 1] (IEC 61966-2-1)."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _lab(linear: np.ndarray) -> np.ndarray:
    """Linear RGB (3,) -> CIE L*a*b* (3,), white D65."""
    to_xyz = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750],
                       [0.0193339, 0.1191920, 0.9503041]])  # fmt: skip
    ratio = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(np.maximum(ratio, 0)), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def luminance(colour: str) -> float:
    """Relative luminance in [0, 1] of '#RRGGBB': the colour in grey."""
    return float(_linear(colour) @ np.array([0.2126729, 0.7151522, 0.0721750]))


#: Machado, Oliveira and Fernandes, "A physiologically-based model for simulation of color vision deficiency",
#: IEEE TVCG 15(6), 2009: deuteranomaly of severity 1.0, on linear RGB.
DEUTERANOPIA = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                         [-0.011820, 0.042940, 0.968881]])  # fmt: skip


def distance(first: str, second: str, seen: str = "normal") -> float:
    """Distance of two colours '#RRGGBB' in CIE L*a*b*. seen: "normal", "deuteranopia" or "grey"."""

    def lab(colour: str) -> np.ndarray:
        linear = _linear(colour)
        if seen == "deuteranopia":
            linear = np.clip(DEUTERANOPIA @ linear, 0, 1)
        elif seen == "grey":
            linear = np.full(3, luminance(colour))
        return _lab(linear)

    return float(np.linalg.norm(lab(first) - lab(second)))
