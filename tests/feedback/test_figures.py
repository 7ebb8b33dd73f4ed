"""What the console's charts draw."""

import re
from datetime import date
from itertools import pairwise

import pytest

from feedback.console import charts, figures


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
            assert all(right[0] - left[0] >= wide + 5 for left, right in pairwise(shown)), (count, shown)


def test_a_day_on_which_nobody_sent_anything_has_its_place_and_no_line_runs_across_it() -> None:
    """October stood beside November, and a line joined them."""
    sent = [
        {"day": day, "real": 1, "fake": 0, "uncertain": 1, "none": None, "mean_p_fake": 0.5} for day in ("2026-10-30", "2026-10-31", "2026-11-02", "2026-11-03")
    ]
    drawn = charts._every_day(sent, date(2026, 11, 5))
    assert [day["day"][5:] for day in drawn] == ["10-30", "10-31", "11-01", "11-02", "11-03", "11-04", "11-05"]
    shares = [charts._share(day) for day in drawn]
    assert shares == [0.5, 0.5, None, 0.5, 0.5, None, None]
    assert figures.lines([day["day"] for day in drawn], {"uncertain": shares}, "x").count("<polyline") == 2
