"""How often each model's verdicts on the service's traffic are right: estimated from its probabilities, corrected by audited verdicts.

Only verdicts that were drawn at random for review (`audited`, feedback/work/judging.py) correct the estimate: cases that were uncertain,
novel or disputed were chosen because something was odd about them, and would make every model look bad. One that was drawn stays in, also where
it is disputed too, became a known case (which counts by its truth) or went into quarantine (by its label; without one it waits): each is a choice by
the outcome, and the errors would leave the sample first. What is disputed is asked about first, so that those drawn count from the first on as far as
nearly all have their answer, or the errors would enter the sample first. Where the part that is drawn was another meanwhile, each stands for as many as it
was drawn from. Uncertain verdicts claim nothing and are left out of both; the share of fakes is that of all the traffic, them too, since what is
left once the middle is cut away looks surer than it is. A file that was sent several times counts once a model, and was drawn or not once a model;
one that the service brought out of a batch, and nobody sent, does not count.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import numpy as np
from sqlalchemy import case, exists, func, select

from feedback.cases import TRAINING_LABELS
from feedback.database import Database
from feedback.tables import CASES, DETECTIONS, SENT
from model.estimate import Moments, at_share, estimate, expected_right, share_of_fakes

STEPS = 500  # of p_fake from 0 to 1
WAITING = 0.1  # of those drawn, for a third reviewer who never comes: at worst the errors answered look a ninth more than they are


def by_model(database: Database, days: int) -> list[dict[str, Any]]:
    """Of the last days, the model that answered last first: {"model_sha256", "last", "ahead", and what model/estimate.py's Estimated holds}.

    `ahead`: drawn verdicts that people have answered before older ones, and that count once most of these are answered too.
    """
    first = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
    said = (
        (DETECTIONS.c.state == "done")
        & DETECTIONS.c.verdict.in_((*TRAINING_LABELS, "uncertain"))
        & DETECTIONS.c.p_fake.is_not(None)
        & (DETECTIONS.c.created_at >= first)
        & SENT
    )
    once = select(func.max(DETECTIONS.c.number)).where(said).group_by(DETECTIONS.c.model_sha256, DETECTIONS.c.sha256)
    model, mine = DETECTIONS.c.model_sha256, DETECTIONS.c.number.in_(once)
    fine = func.round(DETECTIONS.c.p_fake * STEPS)  # a few hundred rows say as much as a million detections
    verdict = DETECTIONS.c.verdict
    seen = select(model, verdict, func.count(), func.avg(DETECTIONS.c.p_fake), func.max(DETECTIONS.c.created_at)).where(mine).group_by(model, verdict, fine)
    truth = case((CASES.c.gold != "", CASES.c.gold), else_=CASES.c.label)  # '' where nobody has answered yet
    any_time = DETECTIONS.alias()
    draws = (any_time.c.sha256 == DETECTIONS.c.sha256, any_time.c.model_sha256 == model, any_time.c.audited)
    audited, drawn_of = exists().where(*draws), select(func.max(any_time.c.answer["audit_fraction"].as_float())).where(*draws).scalar_subquery()
    drawn = (
        select(model, DETECTIONS.c.p_fake, verdict == "fake", verdict == truth, truth == "", drawn_of)
        .join(CASES, CASES.c.sha256 == DETECTIONS.c.sha256)
        .where(mine, verdict.in_(TRAINING_LABELS), CASES.c.state != "erased", truth.in_((*TRAINING_LABELS, "")), audited)
        .order_by(CASES.c.number)
    )
    with database.read() as connection:
        rows, labels = connection.execute(seen).all(), connection.execute(drawn).all()
    found = []
    for sha256 in dict.fromkeys(row[0] for row in rows):
        of_model = [row[1:] for row in rows if row[0] == sha256]
        _, all_times, all_p, last = zip(*of_model, strict=True)
        share = share_of_fakes(all_p, all_times)
        claimed = [row for row in of_model if row[0] in TRAINING_LABELS]
        if not claimed:
            continue
        verdicts, times, p_fake, _ = zip(*claimed, strict=True)
        expected = expected_right(at_share(p_fake, share), [one == "fake" for one in verdicts])
        of_all = Moments.of_sums(sum(times), float(np.average(expected, weights=times)), float(np.average(expected**2, weights=times)))
        of_draw = [row[1:] for row in labels if row[0] == sha256]
        known = [(p, said, bool(right), part) for p, said, right, waits, part in of_draw[: _answered([row[3] for row in of_draw])] if not waits]
        ahead = sum(not row[3] for row in of_draw) - len(known)
        drawn_expected = expected_right(at_share([p for p, *_ in known], share), [said for _, said, *_ in known])
        stands_for = [1 / part if part else None for *_, part in known]  # None: of before it was noted, which is as most were drawn
        usual = median([one for one in stands_for if one] or [1.0])
        one = estimate(of_all, drawn_expected, [row[2] for row in known], [one or usual for one in stands_for])
        if one is not None:
            found.append({"model_sha256": sha256, "last": max(last), "ahead": ahead, **one.as_dict()})
    return sorted(found, key=lambda row: str(row["last"]), reverse=True)


def _answered(unanswered: Sequence[bool]) -> int:
    """How many of what was drawn, in order, are as good as all answered: the most of which at most WAITING are not."""
    waiting = np.cumsum(np.asarray(unanswered, dtype=int)) <= WAITING * np.arange(1, len(unanswered) + 1)
    return int(np.flatnonzero(waiting)[-1]) + 1 if waiting.any() else 0
