"""How models age: past champions rescored on the new holdout videos of each cycle, which none of them can have learned from.

reports/decay.json keeps a row a cycle. It is measured after the decision and judges nothing. The first champion is always among
those asked, the others are spread evenly over the history, so that a hundred promotions cost what `evaluate.past_champions` costs.
A held cycle is measured too, on labels that may be wrong: what came of them since, the journal says, and the table goes by it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.gate import read_report
from workspace.cycle import Cycle
from workspace.errors import VigilError
from workspace.files import write_json
from workspace.journal import Event, Journal
from workspace.modelfiles import verify_promoted
from workspace.settings import Settings
from workspace.state import Champion, batch_states, cycles, promoted

if TYPE_CHECKING:
    import pandas as pd

DECAY = Path("reports/decay.json")


def record(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Add the cycle's row, in place of an earlier one of the same cycle, and return it: n_real, n_fake, `models` and `why_not`.

    A model whose files are not on this machine, or are damaged, is named with the reason; it stops nothing.
    """
    clips = dated_clips(root)
    champions = chosen(list(promoted(Journal(root).events()).values()), settings.evaluate.past_champions)
    counts = clips.drop_duplicates("unit")["label"].value_counts()
    row: dict[str, Any] = {"cycle": cycle.cycle, "n_real": int(counts.get("real", 0)), "n_fake": int(counts.get("fake", 0)), "models": [], "why_not": ""}
    least = settings.gates.min_slice
    if min(row["n_real"], row["n_fake"]) < least:
        row["why_not"] = f"{row['n_real']} real and {row['n_fake']} fake new holdout videos; {least} of each are needed"
        champions = []
    for champion in champions:
        row["models"].append({"cycle": champion.cycle} | _figures(root, champion, clips, settings, cycle.seed))
    write_json(root / DECAY, {"rows": [*(known for known in rows_of(root) if known["cycle"] != cycle.cycle), row]})
    return row


def rows_of(root: Path) -> list[dict[str, Any]]:
    """The rows that are kept, oldest first."""
    found: list[dict[str, Any]] = read_report(root / DECAY).get("rows", [])
    return found


def chosen(champions: Sequence[Champion], most: int) -> list[Champion]:
    """At most `most` of the champions, the first and the last among them, the others evenly between."""
    if len(champions) <= most:
        return list(champions)
    if most == 1:
        return [champions[0]]
    return [champions[round(place * (len(champions) - 1) / (most - 1))] for place in range(most)]


def dated_clips(root: Path) -> "pd.DataFrame":
    """The collected holdout clips that this cycle brought. They stand on the holdout side for good, so no earlier model met their people."""
    from pipelines.scoring import read_set

    clips = read_set(root, "holdout")
    return clips[clips["new"].astype(bool) & (clips["origin"] == "collected") & clips["label"].isin(["real", "fake"])]


def table_of(rows: Sequence[dict[str, Any]], events: Sequence[Event]) -> dict[str, Any]:
    """`models` in order of promotion, and a `line` a dated cycle with each one's AUC (None where it was not asked); empty before there are two figures.

    A cycle of which a batch was dropped since is named under `withdrawn` and has no line: no model fell there, the media did. A line is `in_doubt` while a
    batch of its cycle is held.
    """
    states = batch_states(events)
    came_in = {cycle.cycle: {states[batch].state for batch in cycle.judged if batch in states} for cycle in cycles(events)}
    withdrawn = [row["cycle"] for row in rows if row["models"] and "dropped" in came_in.get(row["cycle"], ())]
    measured = [row for row in rows if row["models"] and row["cycle"] not in withdrawn]
    names = list(dict.fromkeys(model["cycle"] for row in measured for model in row["models"]))
    lines = [
        {
            "cycle": row["cycle"], "n_real": row["n_real"], "n_fake": row["n_fake"], "in_doubt": "held" in came_in.get(row["cycle"], ()),
            "auc": [_of(row, name) for name in names],
        }
        for row in measured
    ]  # fmt: skip
    return {"models": names, "lines": lines, "withdrawn": withdrawn} if len(lines) > 1 else {}


def _of(row: dict[str, Any], name: str) -> dict[str, Any] | None:
    return next((model["auc"] for model in row["models"] if model["cycle"] == name), None)


def _figures(root: Path, champion: Champion, clips: "pd.DataFrame", settings: Settings, seed: int) -> dict[str, Any]:
    from model.card import load_card
    from pipelines.comparison import auc_interval
    from pipelines.predictions import balanced_accuracy
    from pipelines.scoring import score_rows, unit_scores, unit_table

    folder = root / champion.path
    if not folder.is_dir():
        return {"auc": None, "balanced_accuracy": None, "why_not": "its files are not on this machine"}
    try:
        verify_promoted(root, champion)
        card = load_card(folder)
        scored = score_rows(root, folder, clips, threads=settings.serve.threads)
    except VigilError as problem:
        return {"auc": None, "balanced_accuracy": None, "why_not": problem.why}
    units = unit_table(clips).set_index("unit", drop=False)
    units["p_fake"] = unit_scores(scored, card)
    return {
        "auc": auc_interval(units, "p_fake", settings, seed),
        "balanced_accuracy": balanced_accuracy(units, units, "p_fake", card.threshold),
        "why_not": "",
    }
