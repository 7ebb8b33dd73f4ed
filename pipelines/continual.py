"""The generator-by-update matrix of a workspace: what each promoted model scored on each generator, and what was forgotten.

reports/continual.json keeps a row a promoted cycle, from that cycle's own evaluation: AUC on the fakes of each generator that it was
judged on against the holdout's reals as they stood then. Shown is the line that leads to the champion, each model after the one that it was trained
from: what was rolled back from forgets nothing. What a generator scored before it was learned is the champion's AUC
in the cycle that brought it. What is judged no longer, as our own forgeries once enough fakes were collected, stays in the matrix and
out of the figures.

A holdout grows, so a difference of two rows is of two models and of two sets of videos. What one update changed on the same videos is kept beside them
(`same`): challenger and champion as the gate `forgetting` compared them, on the holdout as it stood before that cycle.
"""

import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipelines.gate import read_report
from workspace.files import write_json

HISTORY = Path("reports/continual.json")


def record(root: Path, evaluation: dict[str, Any], base: str, met: Collection[str] = ()) -> list[dict[str, Any]]:
    """Add the row of a promoted cycle, trained from the model of cycle `base`, in place of an earlier row of the same cycle; returns all, oldest first.

    `met`: the generators that the base had been trained on, whether or not the holdout had their fakes by then.
    """
    rows = [row for row in rows_of(root) if row["cycle"] != evaluation["cycle"]]
    matrix = evaluation.get("forgetting_row", {})
    rows.append({
        "cycle": evaluation["cycle"],
        "base": base,
        "after": {name: row["challenger"] for name, row in matrix.items() if row.get("challenger") is not None},
        "before": {name: row["champion"] for name, row in matrix.items() if row.get("champion") is not None},
        "met": sorted(matrix.keys() & {*met}),
    } | _as_the_gate_compared(evaluation))  # fmt: skip
    write_json(root / HISTORY, {"rows": rows})
    return rows


def _as_the_gate_compared(evaluation: dict[str, Any]) -> dict[str, Any]:
    """`same`: of each generator known before the AUC of champion and of challenger, on the same videos. Empty where the gate had no champion."""
    compared = evaluation.get("gate_inputs", {}).get("forgetting")
    if compared is None:
        return {}
    pairs = {row["generator"]: [row["champion_auc"], row["challenger_auc"]] for row in compared["rows"]}
    return {"same": {name: pair for name, pair in pairs.items() if None not in pair}}


def rows_of(root: Path) -> list[dict[str, Any]]:
    """The rows that are kept; none before the first promotion."""
    found: list[dict[str, Any]] = read_report(root / HISTORY).get("rows", [])
    return found


def line_to(rows: list[dict[str, Any]], champion: str) -> list[dict[str, Any]]:
    """The rows from the first model to that of cycle `champion`, each the base of the next; rows of before bases were kept follow one another."""
    place = {row["cycle"]: number for number, row in enumerate(rows)}
    line: list[dict[str, Any]] = []
    while champion in place:
        number = place.pop(champion)
        line.insert(0, rows[number])
        champion = rows[number].get("base", rows[number - 1]["cycle"] if number else "")
    return line


def table_of(rows: list[dict[str, Any]], champion: str) -> dict[str, Any]:
    """Of the line to `champion`: `generators` in order of arrival, `updates` with a value or None for each, and `figures`; empty without rows.

    On the same videos, later less before, a value or None for each generator: `last_change` in the last update, `change` in all updates since the one
    that brought it, added; `worst_drop`, among the figures, is the largest loss in the last update, and `worst` of which generator: it may be none of the
    matrix, as `others`, those of too few videos taken together. `with_new`: some update's are of its new videos too.
    """
    from model.continual import figures

    rows = line_to(rows, champion)
    learned: dict[str, int] = {}
    for update, row in enumerate(rows):
        for name in row["after"]:
            learned.setdefault(name, update)
    if not learned:
        return {}
    generators = sorted(learned, key=lambda name: (learned[name], name))
    values = [[_value(rows, update, name, learned[name]) for name in generators] for update in range(len(rows))]
    judged = [place for place, value in enumerate(values[-1]) if value is not None]
    known = [[math.nan if (value := line[place]) is None else value for place in judged] for line in values]
    changes = [_changes(row) for row in rows]
    since = [[change.get(name) for change in changes[learned[name] + 1 :]] for name in generators]
    lost = {name: 0.0 - change for name, change in changes[-1].items() if learned.get(name, -1) < len(rows) - 1}
    worst = max(lost, key=lambda name: lost[name], default="")
    found: dict[str, float | None] = {}
    if judged:
        met_before = [number for number, place in enumerate(judged) if generators[place] in rows[learned[generators[place]]].get("met", ())]
        found = figures(known, [learned[generators[place]] for place in judged], met_before=met_before).as_dict() | {"worst_drop": lost.get(worst)}
    return {
        "generators": generators,
        "updates": [{"cycle": row["cycle"], "values": line} for row, line in zip(rows, values, strict=True)],
        "last_change": [changes[-1].get(name) if learned[name] < len(rows) - 1 else None for name in generators],
        "change": [_total(each) for each in since],
        "with_new": any("same" not in row for row in rows[1:]),
        "figures": found,
        "worst": worst,
    }


def _changes(row: dict[str, Any]) -> dict[str, float]:
    """What this update changed of each generator on the same videos; of a row of before these were kept, on all of its cycle's, new ones too."""
    pairs = row["same"] if "same" in row else {name: [row["before"][name], value] for name, value in row["after"].items() if name in row["before"]}
    return {name: float(now) - float(before) for name, (before, now) in pairs.items()}


def _total(changes: list[float | None]) -> float | None:
    known = [change for change in changes if change is not None]
    return sum(known) if known and len(known) == len(changes) else None


def _value(rows: list[dict[str, Any]], update: int, name: str, learned: int) -> float | None:
    value = rows[update]["after"].get(name)
    if value is None and update == learned - 1:
        value = rows[learned]["before"].get(name)
    return None if value is None else float(value)
