"""Draws rounding_bias.svg: the error of rounding to the nearest level, and its mean in each bin, for E2M1 and E1M2.

    python3 docs/figures/rounding_bias.py

The mean in the bin of an interior level q_i, with a locally uniform density, is (2 q_i - q_{i-1} - q_{i+1}) / 4: Eq. 2
of arXiv 2606.20381.
"""

from pathlib import Path

GRIDS = {
    "E2M1": ("levels 0, 0.5, 1, 1.5, 2, 3, 4, 6", [0, 0.5, 1, 1.5, 2, 3, 4, 6]),
    "E1M2": ("levels 0, 0.25, 0.5, .. 1.75", [0.25 * i for i in range(8)]),
}
WIDTH, PANEL, LEFT, RIGHT, TOP = 780, 190, 70, 30, 58
PLOT_WIDTH = WIDTH - LEFT - RIGHT
SCALE = 100 / 18  # pixels a percent of the largest level
INK, GREY, LINE, BIAS, NONE = "#1f2933", "#6b7785", "#9aa5b1", "#d64545", "#2f855a"


def bins(levels):
    """(low edge, level, high edge, mean error by Eq. 2) of the interior levels."""
    for before, level, after in zip(levels, levels[1:], levels[2:]):
        yield (before + level) / 2, level, (level + after) / 2, (2 * level - before - after) / 4


def panel(name, subtitle, levels, top):
    largest = levels[-1]
    zero = top + PANEL / 2

    def x(value):
        return LEFT + PLOT_WIDTH * value / largest

    def y(error):
        return zero - SCALE * 100 * error / largest

    def text(px, py, content, size=12, fill=INK, anchor="start", weight="normal"):
        return (f'<text x="{px:.1f}" y="{py:.1f}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
                f'font-weight="{weight}">{content}</text>')

    yield text(LEFT, top - 4, f'{name} <tspan fill="{GREY}" font-weight="normal">{subtitle}</tspan>', 14, weight="bold")
    for percent in (-16, -8, 0, 8, 16):
        py = zero - SCALE * percent
        yield f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}" stroke="#e4e7eb"/>'
        yield text(LEFT - 8, py + 4, f"{percent:+d} %" if percent else "0", 11, GREY, "end")
    for low, level, high, mean in bins(levels):
        color = BIAS if mean else NONE
        bar_top, bar_bottom = min(y(mean), zero), max(y(mean), zero)
        yield (f'<rect x="{x(low) + 1:.1f}" width="{x(high) - x(low) - 2:.1f}" y="{bar_top - 2:.1f}" '
               f'height="{bar_bottom - bar_top + 4:.1f}" fill="{color}" fill-opacity="0.85"/>')
        if mean:
            yield text(x(low) + 4, bar_bottom + 17, f"{100 * mean / largest:.1f} %", 12, BIAS, weight="bold")
    saw = [f"M{x(0):.1f},{y(0):.1f}"]
    for lower, upper in zip(levels, levels[1:]):
        middle = (lower + upper) / 2
        saw.append(f"L{x(middle):.1f},{y(lower - middle):.1f} M{x(middle):.1f},{y(upper - middle):.1f} "
                   f"L{x(upper):.1f},{y(0):.1f}")
    yield f'<path d="{" ".join(saw)}" fill="none" stroke="{LINE}" stroke-width="1.5"/>'
    for level in levels:
        yield f'<circle cx="{x(level):.1f}" cy="{zero:.1f}" r="3" fill="{INK}"/>'
        yield text(x(level), top + PANEL + 6, f"{level:g}", 11, GREY, "middle")


def main():
    height = TOP + 2 * (PANEL + 50)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="Helvetica, Arial, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="15" fill="{INK}">Rounding error in percent of the largest level: each value '
        f'(<tspan fill="{GREY}">line</tspan>) and the mean of each bin (bars)</text>',
    ]
    for i, (name, (subtitle, levels)) in enumerate(GRIDS.items()):
        parts += panel(name, subtitle, levels, TOP + i * (PANEL + 50))
    parts.append("</svg>\n")
    Path(__file__).with_suffix(".svg").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
