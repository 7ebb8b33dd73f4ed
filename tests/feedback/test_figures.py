"""What the console's charts draw."""

import re

import pytest

from feedback.console import figures


def labels(drawn: str) -> list[tuple[float, str]]:
    """Where the middle of each word below the chart is, and the word."""
    return [(float(x), word) for x, word in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="middle">([^<]+)</text>', drawn)]


@pytest.mark.parametrize("name", ["2026-W{:02d}.1", "{:02d}-01"])
def test_the_names_below_a_chart_stand_clear_of_each_other_and_of_its_edge(name: str) -> None:
    """The names of six cycles ran into each other."""
    for count in range(1, 61):
        names = [name.format(number) for number in range(count)]
        for drawn in (figures.lines(names, {"accent": [0.5] * count}, "x"), figures.bars(names, {"real": [1.0] * count}, "x")):
            shown = labels(drawn)
            wide = figures.LETTER_PX * len(names[0])
            assert shown[-1][1] == names[-1] and len(shown) >= min(count, 2)
            assert shown[0][0] >= wide / 2 and shown[-1][0] <= figures.WIDE - wide / 2
            assert all(right[0] - left[0] >= wide + 5 for left, right in zip(shown, shown[1:], strict=False)), (count, shown)
