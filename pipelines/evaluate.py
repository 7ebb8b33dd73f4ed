"""Stage `evaluate`: base and challenger on the same panel. Figures, pictures, and what the gates read.

Nothing is chosen here: temperatures and thresholds come from the model cards, the panel from a keyed hash. Everything
but what docs/evaluation.md names can be recomputed from reports/predictions.parquet.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import artifact, probes, robustness
from pipelines.comparison import describe, gate_inputs, judged
from pipelines.plots import draw_all
from pipelines.predictions import predict
from pipelines.stage import Progress, stage_main
from workspace.cycle import Cycle
from workspace.errors import ModelFileError
from workspace.files import atomic_file, read_json, sha256_file, write_json
from workspace.settings import Settings

if TYPE_CHECKING:
    from model.card import ModelCard

EVALUATION, PREDICTIONS, PLOTS = Path("reports/evaluation.json"), Path("reports/predictions.parquet"), Path("reports/plots")


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write reports/evaluation.json, predictions.parquet and plots/; returns what evaluation.json holds. Safe to repeat."""
    from model.card import verify

    challenger = verify(root / "build/model")
    champion = champion_card(root, cycle)
    table = predict(root, settings, champion is not None, bool(anchor_card(root, cycle)), Progress("evaluate"))
    with atomic_file(root / PREDICTIONS, "wb") as handle:
        table.to_parquet(handle, index=False)
    chosen = judged(table[table["fold"] == "holdout"], champion, settings, cycle)
    robust = robustness.measure(root, settings, cycle, challenger, champion, chosen.origins, Progress("evaluate"))
    probed = probes.measure(root, settings, chosen.origins, cycle.seed, Progress("probes"))
    served = artifact.measure(root, settings)
    report = describe(table, champion, challenger, settings, cycle)
    matrix = {
        name: {model: (row[model] or {}).get("value") for model in ("champion", "challenger") if model in row} for name, row in report["generators"].items()
    }
    histories = {phase: history(root / folder) for phase, folder in (("pretrain", "build/pretrain"), ("train", "build/model"))}
    thresholds = {"challenger": challenger.threshold} | ({"champion": champion.threshold} if champion else {})
    (root / PLOTS).mkdir(parents=True, exist_ok=True)
    drawn = draw_all(root / PLOTS, chosen.rows, thresholds, histories, robust, matrix)
    report |= {
        "cycle": cycle.cycle,
        "challenger_sha256": challenger.model_sha256,
        "champion_sha256": champion.model_sha256 if champion else "",
        "thresholds": thresholds,
        "forgetting_row": matrix,
        "robustness": {name: value for name, value in robust.items() if name != "gate"},
        "probes": probed,
        "artifact": served,
        "plots": drawn,
        "gate_inputs": gate_inputs(table, champion, challenger, settings, cycle)
        | {"card_sha256": sha256_file(root / "build/model/card.json"), "robustness": robust["gate"]}
        | served["gate"],
    }
    write_json(root / EVALUATION, report)
    return report


def champion_card(root: Path, cycle: Cycle) -> "ModelCard | None":
    """The checked card of build/base, or None when the cycle has no base. Raises ModelFileError when it is another model."""
    return _card_of(root, "build/base", cycle.base_model, "champion")


def anchor_card(root: Path, cycle: Cycle) -> "ModelCard | None":
    """The checked card of build/base/anchor, or None when the cycle has no anchor. Raises ModelFileError when it is another model."""
    return _card_of(root, "build/base/anchor", cycle.anchor_model, "anchor")


def _card_of(root: Path, folder: str, wanted: str, role: str) -> "ModelCard | None":
    from model.card import verify

    if not wanted:
        return None
    card = verify(root / folder)
    if card.model_sha256 != wanted:
        raise ModelFileError(
            f"{folder} is not the {role} of this cycle. Nothing was compared.",
            why=f"it holds {card.model_id}, the cycle was opened against {wanted[:12]}",
            next_step="Run `vigil retrain` again: it lays the champion out afresh.",
        )
    return card


def history(folder: Path) -> list[dict[str, Any]]:
    """The learning curve that a training stage left, or none."""
    path = folder / "history.json"
    if not path.is_file():
        return []
    found = read_json(path)
    steps: list[dict[str, Any]] = found["history"]
    return steps


if __name__ == "__main__":
    stage_main("evaluate", run)
