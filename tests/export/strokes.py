"""Digits as people draw them: polylines, (x, y) from 0 to 1, down and to the right."""

from __future__ import annotations

import math

Point = tuple[float, float]
Stroke = list[Point]


def arc(x: float, y: float, rx: float, ry: float, start: float, end: float, steps: int = 16) -> Stroke:
    """Part of an ellipse, its angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * i / steps) for i in range(steps + 1)]
    return [(x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles]


DIGITS: dict[str, list[Stroke]] = {
    "0": [arc(0.5, 0.5, 0.2, 0.33, -80, 285)],
    "1": [[(0.4, 0.3), (0.52, 0.18), (0.51, 0.5), (0.5, 0.83)]],
    "2": [[*arc(0.49, 0.35, 0.19, 0.17, 190, 390), (0.5, 0.66), (0.3, 0.81), (0.5, 0.8), (0.72, 0.8)]],
    "3": [[*arc(0.47, 0.34, 0.18, 0.16, 205, 440), *arc(0.47, 0.66, 0.2, 0.17, 275, 510)]],
    "4": [
        [(0.36, 0.2), (0.33, 0.38), (0.31, 0.53), (0.5, 0.53), (0.7, 0.51)],
        [(0.63, 0.22), (0.61, 0.5), (0.59, 0.83)],
    ],
    "5": [
        [(0.38, 0.22), (0.36, 0.35), (0.34, 0.47), *arc(0.48, 0.63, 0.2, 0.18, 230, 500)],
        [(0.38, 0.22), (0.52, 0.21), (0.67, 0.2)],
    ],
    "6": [[(0.6, 0.18), (0.45, 0.32), (0.36, 0.5), *arc(0.5, 0.65, 0.17, 0.17, 185, 545)]],
    "7": [[(0.3, 0.23), (0.5, 0.22), (0.69, 0.21), (0.6, 0.42), (0.52, 0.6), (0.46, 0.82)]],
    "8": [
        [
            *arc(0.5, 0.34, 0.15, 0.15, -40, -270),
            *arc(0.5, 0.66, 0.18, 0.17, -90, 270),
            *arc(0.5, 0.34, 0.15, 0.15, 90, -45),
        ]
    ],
    "9": [[*arc(0.49, 0.37, 0.16, 0.17, -20, -360), (0.65, 0.4), (0.63, 0.6), (0.59, 0.83)]],
}
