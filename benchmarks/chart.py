"""Draws a run as one SVG picture: for each row, how many times better than the reference each system is.

Rows have different units, so what is drawn is the ratio to the reference system (Ray, if it took part) on a
logarithmic axis; to the right is better, whichever direction the row's own unit has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

from aktis._microbenchmark.render import format_value

from benchmarks.results import Results

COLOURS = {
    "aktis": "#d62839",
    "ray": "#1d6fa5",
    "multiprocessing": "#7b8794",
    "futures": "#b08d57",
    "joblib": "#5b8c5a",
    "dask": "#8e6bb0",
    "limit": "#222222",
}
LABEL_WIDTH = 330
PLOT_WIDTH = 620
VALUE_WIDTH = 190
ROW_HEIGHT = 24
TOP = 96
BOTTOM = 34


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis from ``10**low`` to ``10**high``."""

    low: int
    high: int

    def x(self, ratio: float) -> float:
        share = (math.log10(ratio) - self.low) / (self.high - self.low)
        return LABEL_WIDTH + PLOT_WIDTH * share


def choose_reference(systems: list[str]) -> str:
    """Ray if it took part, else the first system that is neither Aktis nor the limit, else the first."""
    others = [name for name in systems if name not in ("aktis", "limit")]
    return "ray" if "ray" in systems else (others or systems)[0]


def fit_axis(ratios: list[float]) -> Axis:
    """Whole decades around all ratios and around 1."""
    logs = [math.log10(ratio) for ratio in ratios] + [0.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    return Axis(low, max(high, low + 1))


def draw(results: Results, subtitle: str) -> str:
    """The SVG document."""
    reference = choose_reference(results.systems)
    lines = [
        (
            row,
            {
                name: ratio.median
                for name in results.systems
                if (ratio := results.ratio(row, name, reference))
            },
        )
        for row in results.rows
    ]
    lines = [(row, ratios) for row, ratios in lines if ratios]
    axis = fit_axis([value for _, ratios in lines for value in ratios.values()])
    height = TOP + ROW_HEIGHT * len(lines) + BOTTOM
    parts = [_head(height, reference, subtitle), _legend(results.systems), _grid(axis, height)]
    for index, (row, ratios) in enumerate(lines):
        ours = results.summary(row.name, "aktis") or results.summary(row.name, reference)
        value = f"{format_value(ours.median)} {row.unit}" if ours else ""
        parts.append(_row(TOP + ROW_HEIGHT * index + ROW_HEIGHT / 2, row.name, value, ratios, axis))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(height: float, reference: str, subtitle: str) -> str:
    width = LABEL_WIDTH + PLOT_WIDTH + VALUE_WIDTH
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:.0f}" '
        f'viewBox="0 0 {width} {height:.0f}" font-family="sans-serif" font-size="13">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n'
        f'<text x="16" y="26" font-size="17" font-weight="bold">Times as good as {escape(reference)} '
        f"(logarithmic; right is better)</text>\n"
        f'<text x="16" y="46" fill="#666">{escape(subtitle)}</text>'
    )


def _legend(systems: list[str]) -> str:
    parts: list[str] = []
    x = 16.0
    for name in systems:
        parts.append(f'<circle cx="{x + 5}" cy="66" r="5" fill="{COLOURS.get(name, "#999")}"/>')
        parts.append(f'<text x="{x + 15}" y="70">{escape(name)}</text>')
        x += 34 + 7.5 * len(name)
    return "\n".join(parts)


def _grid(axis: Axis, height: float) -> str:
    parts: list[str] = []
    for decade in range(axis.low, axis.high + 1):
        x = axis.x(10.0**decade)
        colour = "#999" if decade == 0 else "#e2e2e2"
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 8}" y2="{height - BOTTOM}" stroke="{colour}"/>'
        )
        parts.append(
            f'<text x="{x:.1f}" y="{height - 14:.0f}" text-anchor="middle">{10.0**decade:g} x</text>'
        )
    return "\n".join(parts)


def _row(y: float, name: str, value: str, ratios: dict[str, float], axis: Axis) -> str:
    parts = [f'<text x="{LABEL_WIDTH - 14}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>']
    if "aktis" in ratios:
        ours = axis.x(ratios["aktis"])
        parts.append(
            f'<line x1="{axis.x(1):.1f}" x2="{ours:.1f}" y1="{y:.1f}" y2="{y:.1f}" '
            f'stroke="{COLOURS["aktis"]}" stroke-width="3" opacity="0.35"/>'
        )
    for system in sorted(ratios, key=lambda key: key == "aktis"):  # ours on top
        ratio = ratios[system]
        parts.append(
            f'<circle cx="{axis.x(ratio):.1f}" cy="{y:.1f}" r="5" fill="{COLOURS.get(system, "#999")}">'
            f"<title>{escape(system)}: {ratio:.3g} x</title></circle>"
        )
    parts.append(
        f'<text x="{LABEL_WIDTH + PLOT_WIDTH + 14}" y="{y + 4:.1f}" fill="#444">{escape(value)}</text>'
    )
    return "\n".join(parts)
