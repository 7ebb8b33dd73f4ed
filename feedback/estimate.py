"""How often each model's verdicts on the service's traffic are right: estimated from its probabilities, corrected by audited verdicts.

Only verdicts that were drawn at random for review (`audited`, feedback/work/judging.py) correct the estimate: cases that were uncertain,
novel or disputed were chosen because something was odd about them, and would make every model look bad. One that was drawn and is disputed
too stays in, or the errors would leave the sample first. Uncertain verdicts
claim nothing and are left out of both. A file that was sent several times counts once a model.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, exists, func, select

from feedback.cases import TRAINING_LABELS
from feedback.database import Database
from feedback.tables import CASES, DETECTIONS
from model.estimate import Moments, estimate


def by_model(database: Database, days: int) -> list[dict[str, Any]]:
    """Of the last days, the model that answered last first: {"model_sha256", "last", and what model/estimate.py's Estimated holds}."""
    first = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
    said = (DETECTIONS.c.state == "done") & DETECTIONS.c.verdict.in_(TRAINING_LABELS) & DETECTIONS.c.p_fake.is_not(None) & (DETECTIONS.c.created_at >= first)
    once = select(func.max(DETECTIONS.c.number)).where(said).group_by(DETECTIONS.c.model_sha256, DETECTIONS.c.sha256)
    expected = case((DETECTIONS.c.verdict == "fake", DETECTIONS.c.p_fake), else_=1.0 - DETECTIONS.c.p_fake)
    model, mine = DETECTIONS.c.model_sha256, DETECTIONS.c.number.in_(once)
    moments = select(model, func.count(), func.avg(expected), func.avg(expected * expected), func.max(DETECTIONS.c.created_at)).where(mine).group_by(model)
    known_now = (CASES.c.state == "decided") & CASES.c.label.in_(TRAINING_LABELS) & (CASES.c.gold == "")
    any_time = DETECTIONS.alias()
    audited = exists().where(any_time.c.sha256 == DETECTIONS.c.sha256, any_time.c.model_sha256 == model, any_time.c.audited)
    drawn = select(model, expected, DETECTIONS.c.verdict == CASES.c.label).join(CASES, CASES.c.sha256 == DETECTIONS.c.sha256).where(mine, known_now, audited)
    with database.read() as connection:
        totals, labels = connection.execute(moments).all(), connection.execute(drawn).all()
    found = []
    for sha256, n, mean, square, last in totals:
        of_all = Moments.of_sums(n, float(mean), float(square))
        known = [(float(one), bool(right)) for name, one, right in labels if name == sha256]
        one = estimate(of_all, [one for one, _ in known], [right for _, right in known])
        if one is not None:
            found.append({"model_sha256": sha256, "last": last, **one.as_dict()})
    return sorted(found, key=lambda row: str(row["last"]), reverse=True)
