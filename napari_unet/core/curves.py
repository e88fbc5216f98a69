"""Curves of scores as a picture: SVG that any browser shows, without a plotting library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 640, 400, 60, 50, 20, 130
COLORS = ("#4c72b0", "#dd8452", "#55a868", "#c44e52", "#8172b3", "#937860")


def curves_svg(curves: Mapping[str, Sequence[tuple[float, float]]], *, x: str, y: str) -> str:
    """Draw curves of values between 0 and 1.

    Parameters
    ----------
    curves : mapping of str to sequence of (x, y)
        By name; x from 0 on.
    x, y : str
        What the axes show.
    """
    last = max([point[0] for curve in curves.values() for point in curve], default=0.0) or 1.0

    def at(point: tuple[float, float]) -> tuple[float, float]:
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * point[0] / last, TOP + high * (1 - point[1])

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">',
        "<style>text {font-size: 12px}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tenth in range(0, 11, 2):
        (left, level), (right, _) = at((0, tenth / 10)), at((last, 0))
        parts.append(f'<path d="M{left:.1f} {level:.1f}H{right:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8:.1f}" y="{level + 4:.1f}" text-anchor="end">{tenth / 10:.1f}</text>')
        place, floor = at((last * tenth / 10, 0))
        parts.append(f'<text x="{place:.1f}" y="{floor + 18:.1f}" text-anchor="middle">{last * tenth / 10:g}</text>')
    middle, floor = at((last / 2, 0))
    parts.append(f'<text x="{middle:.1f}" y="{floor + 38:.1f}" text-anchor="middle">{escape(x)}</text>')
    parts.append(
        f'<text transform="translate(16 {HEIGHT / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    for number, (name, curve) in enumerate(curves.items()):
        color, line = COLORS[number % len(COLORS)], " ".join(f"{a:.1f},{b:.1f}" for a, b in map(at, curve))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        spot = f'x="{WIDTH - RIGHT + 12}" y="{TOP + 12 + 18 * number}"'
        parts.append(f'<text {spot} fill="{color}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>", ""])
