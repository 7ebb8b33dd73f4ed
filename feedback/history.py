"""A detection as it is shown to people and programs, and the history of them as CSV."""

import csv
import io
from collections.abc import Iterator, Mapping
from typing import Any

from feedback.detections import Detections
from feedback.wording import LABEL_MAP

EXPORTED = ("created_at", "id", "state", "kind", "verdict", "p_fake", "policy", "mode", "model", "cycle", "sha256", "bytes", "case_id", "reason")
PAGE_ROWS = 500
_OWNED = ("owner_id", "source", "lease_by", "lease_until", "number", "attempts", "answer", "group_id", "case_state")
_INNER = ("audit_fraction",)  # of an answer


def as_shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of Detections with what the model answered, and without what is the service's own."""
    answer = {name: value for name, value in (row.get("answer") or {}).items() if name not in _INNER}
    shown = {name: value for name, value in row.items() if name not in _OWNED}
    return {**answer, **shown, "batch": row["group_id"], "owner_id": row["owner_id"], "label_map": LABEL_MAP}


def as_csv(detections: Detections, owner_id: str | None, filters: Mapping[str, str]) -> Iterator[str]:
    """The history of one account or (None) of everybody, newest first, a piece at a time, spreadsheet formulas defused. Filters: see Detections.page."""
    yield ",".join(EXPORTED) + "\r\n"
    before: int | None = None
    while rows := detections.page(owner_id, before, PAGE_ROWS, **filters):
        text = io.StringIO()
        writer = csv.writer(text)
        for row in rows:
            shown = as_shown(row)
            writer.writerow([_plain(shown.get(name)) for name in EXPORTED])
        yield text.getvalue()
        before = rows[-1]["number"]


def _plain(value: Any) -> Any:
    """A cell that no spreadsheet takes for a formula."""
    text = "" if value is None else value
    return f"'{text}" if isinstance(text, str) and text[:1] in ("=", "+", "-", "@", "\t") else text
