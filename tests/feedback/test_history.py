"""Which detections a span of time holds, whatever clock it is told by."""

from typing import Any

import pytest

from feedback.tables import DETECTIONS, MEDIA
from tests.feedback.conftest import Make, ask
from tests.feedback.test_queue import SAID

EARLY, LATE = "2026-11-21T09:30:00.500+00:00", "2026-11-21T11:00:00.000+00:00"


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"since": "2026-11-21T12:00:00+02:00"}, [LATE]),
        ({"until": "2026-11-21T12:00:00+02:00"}, [EARLY]),
        ({"since": "2026-11-21T09:30:00Z"}, [LATE, EARLY]),
        ({"since": "2026-11-21T09:30:00"}, [LATE, EARLY]),
        ({"since": EARLY, "until": LATE}, [LATE, EARLY]),
        ({"since": "2026-11-21T06:00:00-05:00"}, [LATE]),
        ({"since": "2026-11-21", "until": "2026-11-21"}, [LATE, EARLY]),
        ({"since": "2026-11-22"}, []),
        ({"until": "2026-11-20"}, []),
        ({"since": "", "until": ""}, [LATE, EARLY]),
        ({"state": "done"}, [LATE, EARLY]),
        ({"state": "erased"}, []),
        ({"state": "lost"}, None),
        ({"since": "2026-02-31"}, None),
        ({"since": "2026-11-21T::::::"}, None),
        ({"until": "yesterday"}, None),
        ({"since": "0001-01-01T00:00:00+14:00"}, None),
        ({"since": "2026-11-21T12:00:00 02:00"}, None),
    ],
)
def test_a_span_of_time_is_one_of_moments_not_of_texts(make: Make, asked: dict[str, str], found: list[str] | None) -> None:
    """Moments with an offset were compared letter by letter with those of UTC, and days that no calendar has were taken."""
    app, people = make()
    with app.state.service.database.write() as connection:
        connection.execute(MEDIA.insert().values(sha256="a" * 64, bytes=1, created_at=EARLY))
        for number, moment in enumerate((EARLY, LATE)):
            about = {"id": f"{number:032x}", "owner_id": people["vera"][0], "source": "console", "sha256": "a" * 64, "bytes": 1, "state": "done"}
            connection.execute(DETECTIONS.insert().values(**about, created_at=moment, verdict="real"))
    page, table = ask(app, ("GET", "/v1/detections", {"params": asked}), ("GET", "/v1/export", {"params": asked}), key=people["vera"][1])
    if found is None:
        assert (page.status_code, table.status_code) == (422, 422)
    else:
        assert [row["created_at"] for row in page.json()["detections"]] == found
        assert [line.partition(",")[0] for line in table.text.splitlines()[1:]] == found


def test_a_further_page_is_named_where_there_is_more_and_nowhere_else(make: Make) -> None:
    """A list that ended with its page named another one, on which the console said that no case is open, while fifty were."""
    app, people = make()
    detections = app.state.service.detections
    for content in (b"one", b"two"):
        (sent,) = ask(app, ("POST", "/v1/detections?wait=0", {"files": {"file": ("a", content)}}), key=people["ada"][1])
        assert detections.finish(detections.claim("w")["id"], "w", SAID) is not None
        ask(app, ("POST", f"/v1/detections/{sent.json()['id']}/dispute", {"json": {"claim": "real"}}), key=people["ada"][1])

    def sizes(path: str, most: int, name: str, **asked: Any) -> list[int]:
        """How many rows each page has, as one leads to the next."""
        (answer,) = ask(app, ("GET", path, {"params": {"limit": most, **asked}}), key=people["ada"][1])
        found = answer.json()
        rows = next(value for value in found.values() if isinstance(value, list))
        return [len(rows), *(sizes(path, most, name, **{**asked, name: found["next"]}) if found["next"] else [])]

    assert [sizes("/v1/detections", most, "before") for most in (1, 2, 3, 500)] == [[1, 1], [2], [2], [2]]
    assert [sizes("/v1/cases", most, "after") for most in (1, 2, 3, 500)] == [[1, 1], [2], [2], [2]]
    (entries,) = sizes("/v1/audit", 500, "before")
    assert sizes("/v1/audit", entries, "before") == [entries] and sizes("/v1/audit", entries - 1, "before") == [entries - 1, 1]
    (made,) = ask(app, ("POST", "/v1/keys", {"json": {"name": "one entry"}}), key=people["ada"][1])
    assert sizes("/v1/audit", 1, "before", about=f"key:{made.json()['id']}") == [1]
