"""How well people review: against cases whose truth is known, against one another, and how fast."""

from collections import defaultdict
from statistics import median
from typing import Any

from sqlalchemy import Connection, func, select

from feedback.tables import CASES, REVIEWS, USERS
from model.metrics import wilson


def quality(connection: Connection, user_id: str | None = None) -> list[dict[str, Any]]:
    """A row a reviewer who has answered anything, by name: reviews, gold {value, low, high, right, n}, agreement likewise, seconds (median).

    `gold`: first answers to known cases that were right; `unsure` is not. `agreement`: answers to decided cases with at least two
    answers that are the deciding label. Answers taken back do not count, but for the first to a known case: who sees here that one was wrong mends nothing.
    """
    answers = select(REVIEWS.c.case_id, func.count().label("answers")).where(REVIEWS.c.undone_at == "").group_by(REVIEWS.c.case_id).subquery()
    query = (
        select(*(REVIEWS.c[name] for name in ("case_id", "reviewer_id", "label", "seconds", "undone_at")), USERS.c.name, CASES.c.gold, CASES.c.state)
        .add_columns(CASES.c.label.label("decided"), answers.c.answers)
        .join(USERS, USERS.c.id == REVIEWS.c.reviewer_id)
        .join(CASES, CASES.c.id == REVIEWS.c.case_id)
        .outerjoin(answers, answers.c.case_id == REVIEWS.c.case_id)
        .where((REVIEWS.c.undone_at == "") | (CASES.c.gold != ""))
        .order_by(REVIEWS.c.created_at, REVIEWS.c.id)
    )
    if user_id is not None:
        query = query.where(REVIEWS.c.reviewer_id == user_id)
    by_reviewer: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        by_reviewer[row.reviewer_id].append(row)
    return sorted((_row(reviewer, rows) for reviewer, rows in by_reviewer.items()), key=lambda row: (row["reviewer"], row["reviewer_id"]))


def _row(reviewer_id: str, rows: list[Any]) -> dict[str, Any]:
    gold = {row.case_id: row for row in reversed(rows) if row.gold}.values()  # the first of each
    standing = [row for row in rows if not row.undone_at]
    decided = [row for row in standing if not row.gold and row.state == "decided" and row.answers > 1]
    seconds = [row.seconds for row in standing if row.seconds is not None]
    return {
        "reviewer_id": reviewer_id,
        "reviewer": rows[0].name,
        "reviews": len(standing),
        "gold": _share(sum(row.label == row.gold for row in gold), len(gold)),
        "agreement": _share(sum(row.label == row.decided for row in decided), len(decided)),
        "seconds": median(seconds) if seconds else None,
    }


def _share(right: int, seen: int) -> dict[str, float | int | None]:
    """A share with Wilson's 95% interval: honest with few cases and near 0 and 1. Without cases all are None."""
    if (ends := wilson(right, seen)) is None:
        return {"value": None, "low": None, "high": None, "right": 0, "n": 0}
    low, high = (round(end, 9) for end in ends)  # none right is exactly 0, all right exactly 1
    return {"value": right / seen, "low": low, "high": high, "right": right, "n": seen}
