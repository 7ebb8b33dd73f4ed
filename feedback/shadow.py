"""What would another model have answered? The newest logged requests whose media are still kept, answered again; nothing is written.

Media are opened as the service opens them: in processes with limits and without a network. The answers that were given stay as
they are; the differences are for people, before and after a promotion.
"""

import asyncio
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sqlalchemy import select

from feedback.database import Database, exists
from feedback.keep import MediaStore
from feedback.tables import DETECTIONS, MEDIA, SENT
from feedback.work.decoding import ChildFailed, ChildKilled, Decoders
from feedback.work.judging import bound_of, faces_of
from model.inference import Engine
from workspace.errors import DataError
from workspace.settings import Settings

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Replayed:
    """One request: what was answered then, and what this model says now (`p_fake` None with a `reason` where it gives no score).

    `verdict` is "" where the media could not be opened: that says nothing about the model.
    """

    detection: str
    given_by: str
    was: str
    p_was: float
    verdict: str
    p_fake: float | None
    reason: str

    @property
    def moved(self) -> float:
        """How far p_fake moves; further than any score can where there is none any more, and less where the model was not asked."""
        if not self.verdict:
            return -1.0
        return 2.0 if self.p_fake is None else abs(self.p_fake - self.p_was)


def replay(root: Path, settings: Settings, model_dir: Path, most: int) -> dict[str, Any]:
    """Answer the newest `most` scored requests again with the model in `model_dir`.

    Returns {asked, answered, not_opened, changed, mean_difference, largest}: how many of these could not be opened, how many verdicts differ,
    the mean absolute difference of p_fake, and the requests that differ most. Zeros where nothing was asked yet. Raises ModelFileError for a
    model whose files are not those of its card.
    """
    rows = _logged(root, settings, most) if most else []
    found = asyncio.run(_answer(root, settings, model_dir, rows)) if rows else []
    scored = [one for one in found if one.p_fake is not None]
    return {
        "asked": len(found),
        "answered": len(scored),
        "not_opened": sum(not one.verdict for one in found),
        "changed": sum(one.verdict not in ("", one.was) for one in found),
        "mean_difference": fmean(one.moved for one in scored) if scored else None,
        "largest": [asdict(one) for one in sorted(found, key=lambda one: -one.moved)[:SHOWN]],
    }


def _logged(root: Path, settings: Settings, most: int) -> list[dict[str, Any]]:
    if not exists(root, settings):
        return []
    with closing(Database(root, settings)) as database, database.read() as connection:
        kept = DETECTIONS.join(MEDIA, MEDIA.c.sha256 == DETECTIONS.c.sha256)
        columns = [DETECTIONS.c[name] for name in ("id", "sha256", "policy", "mode", "verdict", "p_fake", "answer")]
        query = select(*columns).select_from(kept).where(DETECTIONS.c.state == "done", DETECTIONS.c.p_fake.is_not(None), MEDIA.c.state != "deleted", SENT)
        return [dict(row) for row in connection.execute(query.order_by(DETECTIONS.c.number.desc()).limit(most)).mappings()]


async def _answer(root: Path, settings: Settings, model_dir: Path, rows: list[dict[str, Any]]) -> list[Replayed]:
    engine, media, decoders = Engine(model_dir, threads=settings.serve.threads), MediaStore(root, settings), Decoders(settings.feedback.workers)
    found = []
    try:
        for row in rows:
            bound = bound_of(settings.feedback, row["policy"], row["mode"], engine.card)
            try:
                with media.local(row["sha256"]) as path:
                    opened = (await decoders.open(path, faces_of(engine.card, bound.mode))).extraction
            except (DataError, ChildFailed, ChildKilled) as problem:  # erased meanwhile, or a limit of the machine: no word about the model
                found.append(_replayed(row, "", None, str(problem).partition("\n")[0]))
                continue
            scores = engine.score_clips([clip.frames for clip in opened.clips]) if opened.clips else []
            said = engine.judge(opened, "", scores, bound.threshold, bound.abstain)
            found.append(_replayed(row, said.verdict, said.p_fake, said.reason))
    finally:
        await decoders.stop()
    return found


def _replayed(row: dict[str, Any], verdict: str, p_fake: float | None, reason: str) -> Replayed:
    given_by = str((row["answer"] or {}).get("model", ""))
    return Replayed(row["id"], given_by, row["verdict"], round(float(row["p_fake"]), 4), verdict, None if p_fake is None else round(float(p_fake), 4), reason)
