"""Charts as SVG, drawn here: they follow light and dark by themselves and need no script. Each stands beside its table."""

from collections.abc import Callable, Mapping, Sequence
from html import escape

WIDE, HIGH = 440, 190
LEFT, BOTTOM, TOP, RIGHT = 44, 26, 10, 8
LETTER_PX, BETWEEN_PX = 7.5, 8.0  # the width of a letter of a label at 12 px, and what stays free between two labels


def bars(days: Sequence[str], series: Mapping[str, Sequence[float]], about: str) -> str:
    """Stacked bars: `series` gives the values of each kind (its key is its class) by day."""
    top = _nice(max((sum(values[at] for values in series.values()) for at in range(len(days))), default=0))
    step = (WIDE - LEFT - RIGHT) / max(len(days), 1)
    wide, places = min(step * 0.76, 40.0), [LEFT + step * (at + 0.5) for at in range(len(days))]
    drawn = [_axis(top, lambda value: f"{value:g}")]
    for at, day in enumerate(days):
        y = float(HIGH - BOTTOM)
        for kind, values in series.items():
            if values[at]:
                high = (HIGH - TOP - BOTTOM) * values[at] / top
                y -= high
                where = f'x="{places[at] - wide / 2:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{high:.1f}"'
                drawn.append(f'<rect class="mark-{escape(kind)}" {where}><title>{escape(day)}: {values[at]:g} {escape(kind)}</title></rect>')
    return _svg([*drawn, _labels(days, places)], about)


def lines(places: Sequence[str], series: Mapping[str, Sequence[float | None]], about: str, low: float = 0.0, high: float = 1.0) -> str:
    """Lines over places; None leaves a gap. `series` keys are classes."""
    step = (WIDE - LEFT - RIGHT) / max(len(places), 1)

    def x(at: int) -> float:
        return LEFT + step * (at + 0.5)

    def y(value: float) -> float:
        return HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * (min(max(value, low), high) - low) / ((high - low) or 1)

    drawn = [_axis(high, lambda value: f"{value:.2g}", low)]
    for kind, values in series.items():
        run: list[str] = []
        for at, value in enumerate([*values, None]):
            if value is None:
                if len(run) > 1:
                    drawn.append(f'<polyline class="line-{escape(kind)}" points="{" ".join(run)}"/>')
                run = []
                continue
            run.append(f"{x(at):.1f},{y(value):.1f}")
            told = f"{escape(places[at])}: {value:.3f} ({escape(kind)})"
            drawn.append(f'<circle class="dot-{escape(kind)}" cx="{x(at):.1f}" cy="{y(value):.1f}" r="3.5"><title>{told}</title></circle>')
    drawn.append(_labels(places, [x(at) for at in range(len(places))]))
    return _svg(drawn, about)


def _svg(drawn: Sequence[str], about: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDE} {HIGH}" role="img" aria-label="{escape(about, quote=True)}">{"".join(drawn)}</svg>'


def _axis(top: float, word: Callable[[float], str], low: float = 0.0) -> str:
    rows = []
    for part in range(5):
        y = HIGH - BOTTOM - (HIGH - TOP - BOTTOM) * part / 4
        rows.append(f'<line class="grid" x1="{LEFT}" x2="{WIDE - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        rows.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{word(low + (top - low) * part / 4)}</text>')
    return "".join(rows)


def _labels(words: Sequence[str], places: Sequence[float]) -> str:
    """The words below their places, counted back from the last: each, or every second, third ..., so that they stand clear of each other."""
    if not words:
        return ""
    wide = LETTER_PX * max(map(len, words))
    last = min(places[-1], WIDE - wide / 2)
    every = next((step for step in range(1, len(words)) if last - places[-1 - step] >= wide + BETWEEN_PX), len(words))
    shown = [(words[at], min(places[at], last)) for at in range(len(words) - 1, -1, -every)]
    return "".join(f'<text x="{x:.1f}" y="{HIGH - 8}" text-anchor="middle">{escape(word)}</text>' for word, x in reversed(shown))


def _nice(top: float) -> float:
    """The next of 4, 8, 20, 40, 80, 200 ...: a quarter of it is a round number."""
    size = 4.0
    while size < top:
        size *= 2.5 if str(size)[0] == "8" else 2
    return size
