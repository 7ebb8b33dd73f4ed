"""One HTML page a cycle that a person reads: what came in, what was learned, each gate, the pictures, the decision, the next step.

Self-contained (pictures and style inside, nothing is fetched), for light and dark, for desk and phone. The page shows what
the stages and the journal say; it measures nothing itself, and what was not measured is said to be so.
"""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.aggregate import as_estimate
from pipelines import decay
from pipelines.comparison import FEW_PEOPLE
from pipelines.continual import record, rows_of, table_of
from pipelines.gate import REFUSED, read_report, report_of
from pipelines.gates.result import apart
from pipelines.predictions import UNKNOWN
from pipelines.robustness import WHITEBOX_EPS, point_at
from workspace.cycle import Cycle
from workspace.files import atomic_file
from workspace.for_review import unnamed_reasons
from workspace.journal import Journal
from workspace.state import batch_states, champion, decided, open_cycle, promoted

REPORT = Path("reports/report.html")
KEPT = Path(".vigil/reports")  # the page of every cycle that closed here, and the curve of how models age
PREDICTIONS = Path("reports/predictions.parquet")
MISSES_A_LABEL = 5
NOT_FINISHED = "not finished"
TEMPLATE = Path(__file__).with_name("report.html.j2")
# Claims of the literature for detectors of this kind, with their conditions; printed beside ours, never aimed at.
CLAIMS = (
    ("accuracy on DFDC", "96.8%", "precision 97.2%, recall 96.4%, FPR 3.2%; trained on DFDC"),
    ("accuracy, FF++ to DFDC", "94.5%", "trained on FaceForensics++, tested on DFDC"),
    ("accuracy, FF++ to Celeb-DF", "93.1%", "trained on FaceForensics++, tested on Celeb-DF"),
    ("accuracy on Celeb-DF v2", "91%", "within one data set"),
    ("accuracy lost in six months", "15% / 4%", "DFDC; without / with weekly renewal and adversarial training"),
    ("seconds for a 10 s clip", "4.2 / 2.1", "on a V100, 30 fps / 1 fps; 1.8 s an image"),
)
CAPTIONS = {
    "learning_pretrain": "Phase 1: frames; validation with its forged clips",
    "learning_train": "Phase 2: clips; validation with its forged clips",
    "roc": "ROC",
    "precision_recall": "Precision and recall",
    "confusion": "Confusion matrix",
    "reliability": "Reliability",
    "risk_coverage": "Risk and coverage",
    "attack": "Under attack",
    "generators": "By generator",
    "decay": "How models age: each champion on the new videos of later cycles",
}
METRICS = {
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "fpr": "false-positive rate",
    "eer": "EER",
    "ap": "AP",
    "tpr_at_fpr_1": "TPR at 1% FPR",
    "tpr_at_fpr_5": "TPR at 5% FPR",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "ECE",
}

CONTINUAL = {
    "average": "AA: mean AUC over all generators met",
    "incremental": "mean over updates of the mean AUC so far",
    "forgetting_from_best": "AF: best since learning less now",
    "forgetting_from_learned": "AF: just after learning less now",
    "backward_transfer": "BWT: now less just after learning",
    "forward_transfer": "FWT: before it was met less chance",
    "worst_drop": "largest loss in the last update, on the same videos",
}


READ_GATES = (
    "Read the failed gates below. If the new data are wrong, drop the batch (vigil batches drop); if they are right, accept it "
    "(vigil batches accept), and the next cycle trains on it again. A gate that is wrong here: vigil models override."
)


def write_report(root: Path, cycle: Cycle) -> Path:
    """Write reports/report.html for the cycle and return its path. Safe to repeat; a report of another cycle is never shown as this one's."""
    facts = gather(root, cycle)
    if facts["decay"]:
        from pipelines.plots import decay_curve

        facts["pictures"] += pictures(root / KEPT, [decay_curve(root / KEPT, facts["decay"])])  # reports/plots is what `evaluate` made
    if facts["outcome"] == "promoted" and facts["evaluation"]:
        facts["continual"] = table_of(record(root, facts["evaluation"], cycle.base_cycle, cycle.known_generators), cycle.cycle)
    page = render(facts)
    for path in (root / KEPT / f"{cycle.cycle}.html", root / REPORT):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as handle:
            handle.write(page)
    return root / REPORT


def render(facts: dict[str, Any]) -> str:
    """The page. Every text is escaped: file and batch names come from outside, and so do bytes that are no letters."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    ways: dict[str, Callable[..., Any]] = {
        "figure": figure, "percent": percent, "change": change, "interval": interval, "weighed": weighed, "estimate": estimate,
    }  # fmt: skip
    environment.filters |= ways
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(**facts).encode("utf-8", "backslashreplace").decode()


def gather(root: Path, cycle: Cycle) -> dict[str, Any]:
    """Everything the page shows, from the files of the stages and the journal."""
    evaluation, verdict = (report_of(cycle.cycle, root / f"reports/{name}.json") for name in ("evaluation", "verdict"))
    order = {"fail": 0, "undecided": 1}  # what holds a model back comes first; within a verdict the order of the gates stays
    verdict |= {"results": [{**row, "order": order.get(row["verdict"], 2)} for row in verdict["results"]]} if verdict else {}
    refused = [] if verdict else report_of(cycle.cycle, root / REFUSED).get("results", [])
    outcome, reason = decision(root, cycle, verdict)
    events = Journal(root).events()
    states = batch_states(events)
    card = read_report(root / "build/model/card.json") if verdict else {}
    first = next(iter(promoted(events)), "") == cycle.cycle
    judged = {states[batch].state for batch in cycle.judged if batch in states}
    deferred, dropped = "deferred" in judged, judged == {"dropped"}
    leading = champion(events)
    serves = leading.cycle if leading and leading.cycle != cycle.cycle else ""
    told: dict[str, Any] = {"refused": bool(refused), "unlabelled": bool(cycle.unlabelled), "dropped": dropped, "first": first, "serves": serves}
    return {
        "cycle": cycle,
        "outcome": outcome,
        "reason": reason,
        "next_step": next_step(outcome, verdict, deferred=deferred, **told),
        "verdict": verdict,
        "gates": verdict or ({"verdict": "fail", "results": [{**row, "order": 0} for row in refused]} if refused else {}),
        "evaluation": evaluation,
        "untrained": bool(refused) or not cycle.trains,
        "headlines": headlines(evaluation, cycle),
        "judged_holdout": judged_holdout(evaluation, cycle),
        "stands_apart": _stands_apart(evaluation, cycle),
        "batches": [came_in(root, batch) for batch in (*cycle.judged, *cycle.refused)],
        "sets": report_of(cycle.cycle, root / "data/sets/report.json"),
        "hardened": read_report(root / "data/hardened/report.json") if verdict else {},
        "training": {
            phase: read_report(root / folder / "history.json") if verdict else {}
            for phase, folder in (("phase 1", "build/pretrain"), ("phase 2", "build/model"))
        },
        "card": card,
        "int8": int8(card, verdict),
        "drift": report_of(cycle.cycle, root / "reports/drift/drift.json"),
        "shadow": shadow(root, evaluation),
        "pictures": pictures(root / "reports/plots", evaluation.get("plots", [])),
        "continual": table_of(rows_of(root), cycle.base_cycle),
        "continual_names": CONTINUAL,
        "decay": decay.table_of(decay.rows_of(root), events),
        "misses": hardest_misses(root, evaluation),
        "claims": CLAIMS,
        "metrics": METRICS,
        "few_people": FEW_PEOPLE,
    }


def decision(root: Path, cycle: Cycle, verdict: dict[str, Any]) -> tuple[str, str]:
    """`promoted` or `held` and why, as the journal closed or decided the cycle; before that, what the gates say, or that they were not reached."""
    events = Journal(root).events()
    for event in events:
        if event.kind == "cycle_closed" and event["cycle"] == cycle.cycle:
            return str(event["outcome"]), str(event["reason"])
    if so_far := decided(events, cycle.cycle):
        return so_far.outcome, so_far.reason
    if not verdict and (running := open_cycle(events)) and running.cycle == cycle.cycle:
        return NOT_FINISHED, "The cycle was begun and has not ended."
    if not verdict:
        return "not judged", "No model was judged in this cycle."
    if verdict["verdict"] == "pass":
        return "not promoted yet", "Every gate passes."
    return "not promoted", "; ".join(verdict["reasons"])


def next_step(
    outcome: str, verdict: dict[str, Any], *, deferred: bool = False, refused: bool = False, unlabelled: bool = False, dropped: bool = False,
    first: bool = False, serves: str = "",
) -> str:  # fmt: skip
    """What a person can do, in words that stay true on a page that is kept.

    `refused`: the data failed a gate before anything was trained; `unlabelled`: nobody has said what the media are; `dropped`: what came in was dropped;
    `first`: there was no champion before; `serves`: the cycle of the champion of now, where it is another.
    """
    states = {result["verdict"] for result in verdict.get("results", [])}
    if outcome == "promoted" and serves:
        return f"Nothing: when this page was written, {serves} served. What serves now: vigil models."
    if outcome == "promoted":
        back = "" if first else " While it is this one, to go back to the one before: vigil models rollback --who YOU --why REASON."
        return f"Nothing: the model of this cycle became the champion. What serves now: vigil models.{back}"
    if outcome == NOT_FINISHED:
        return "Run vigil retrain: it goes on where this stopped. If an error stopped it, mend that first."
    if dropped:
        return "Nothing: what came in was dropped. To take it back: vigil batches hold, then vigil batches accept."
    if refused:
        return READ_GATES
    if unlabelled:
        return "Let people say what these media are: vigil serve asks them. Their answers come in with the next vigil retrain."
    if not verdict and deferred:
        return "See the reason above. What came in is judged again beside the next media."
    if not verdict:
        return "Look at the data checks of the batches: vigil batches. Mend the media and ingest them again, or drop the batch."
    if {result["gate"] for result in verdict["results"] if result["verdict"] != "pass"} == {"drift"}:
        wait = "Nothing: it is judged again beside the next media. " if deferred else ""
        return f"{wait}If what came in is wrong: vigil batches drop. If it is right, to learn from it now: vigil batches accept, then vigil retrain."
    if "fail" in states:
        return READ_GATES
    if "undecided" in states:
        what = "Bring more media: each undecided gate below says how many are missing. Then run vigil retrain"
        again = "which judges these again beside them" if deferred else "to have these judged again beside them: vigil batches accept"
        # what the page says must stay true, so that it is said of every such page
        caps = (
            "At most budget.evaluation_clips_per_slice videos of a kind are judged, and budget.attack_clips attacked: where a gate asks for more, raise these"
        )
        return f"{what}{', ' if deferred else '; '}{again}. {caps}."
    if outcome == "held":  # every gate passed, and the probe or another champion held it
        wait = "It is judged again beside the next media; to have it judged at once: vigil retrain --force."
        return f"See the reason above. {wait if deferred else 'To have what is held judged again: vigil batches accept, then vigil retrain.'}"
    return "Run vigil retrain again: the gates pass, and the step after them has not ended."


def came_in(root: Path, batch: str) -> dict[str, Any]:
    """What a batch brought: samples by label and generator, what was refused, and its data checks."""
    from collections import Counter

    faces, checks = read_report(root / f"data/faces/{batch}/report.json"), read_report(root / f"reports/validate/{batch}.json")
    samples = faces.get("samples", [])
    taken = [sample for sample in samples if not sample.get("quarantine")]
    kinds = Counter(f"{sample.get('label') or 'unlabelled'}{' (' + sample['generator'] + ')' if sample.get('generator') else ''}" for sample in taken)
    failed = [check for check in checks.get("expectations", []) if not check.get("success")]
    return {
        "batch": batch,
        "samples": len(taken),
        "kinds": dict(sorted(kinds.items())),
        "quarantined": len(samples) - len(taken),
        "clips": faces.get("clips"),
        "reasons": unnamed_reasons(faces.get("reasons", {})),  # the page outlives the files
        "success": checks.get("success"),
        "checks": len(checks.get("expectations", [])),
        "failed": failed,
    }


def headlines(evaluation: dict[str, Any], cycle: Cycle) -> list[str]:
    """The few sentences a person wants first: overall, what is new before and after, how it stands attacks."""
    overall = evaluation.get("overall", {})
    mine, theirs = overall.get("challenger", {}), overall.get("champion", {})
    lines = []
    if _known(mine.get("auc")):
        counts = evaluation["counts"]["overall"]
        before = f" (champion {interval(theirs['auc'])})" if _known(theirs.get("auc")) else ""
        lines.append(
            f"AUC {interval(mine['auc'])}{before} on {_counted(counts)} of {judged_holdout(evaluation, cycle)}"
            f" ({evaluation['judged_on']}).{_beside(evaluation.get('not_judged', {}))}"
        )
        fresh = evaluation.get("new", {})
        if _stands_apart(evaluation, cycle) and _known(mine := fresh.get("challenger", {}).get("auc")):
            before = f" (champion {interval(theirs)})" if _known(theirs := fresh.get("champion", {}).get("auc")) else ""
            lines.append(f"On what this cycle brought: AUC {interval(mine)}{before} on {_counted(evaluation['counts']['new'])}.")
    for name, row in evaluation.get("new_generators", {}).items():
        if _known(row.get("champion")):
            what = "Too few to be judged until now" if name in {*cycle.known_generators, UNKNOWN} else "New here"
            figures = f"AUC of the champion {interval(row['champion'])}, of the challenger {interval(row['challenger'])}"
            lines.append(f"{what}: {name}. {figures}, on {row['n_fake']} fakes.")
    attacked = point_at(evaluation.get("robustness", {}).get("challenger", []), WHITEBOX_EPS)
    if attacked and attacked["balanced_accuracy"] is not None:
        lines.append(f"Under {evaluation['robustness']['by']} at 2/255 a balanced accuracy of {attacked['balanced_accuracy']:.2f} is left.")
    return lines


def judged_holdout(evaluation: dict[str, Any], cycle: Cycle) -> str:
    """Which part of the holdout the figures of a whole model are of."""
    return "the holdout as it stood before this cycle" if _stands_apart(evaluation, cycle) else "the holdout"


def _stands_apart(evaluation: dict[str, Any], cycle: Cycle) -> bool:
    """Whether what this cycle brought is judged beside the rest and not with it, as against a champion that knows earlier batches."""
    return "champion" in evaluation.get("overall", {}) and not cycle.judges_all


def _counted(counts: dict[str, int]) -> str:
    return f"{counts['n_real']} real and {counts['n_fake']} fake videos"


def _beside(rows: dict[str, Any]) -> str:
    """The fakes of the holdout that the figures leave out, from the forger that is told worst to the one that is told best."""
    found = sorted((row["challenger"]["value"], name) for name, row in rows.items() if _known(row["challenger"]))
    if not found:
        return ""
    ends = " to ".join(f"{value:.3f} ({name})" for value, name in dict.fromkeys((found[0], found[-1])))
    return f" Not judged: {sum(row['n_fake'] for row in rows.values())} fakes by our own forgers, AUC {ends}."


def _known(area: dict[str, Any] | None) -> bool:
    """Whether an AUC could be measured: of one class alone there is none."""
    return area is not None and area.get("value") is not None


def int8(card: dict[str, Any], verdict: dict[str, Any]) -> str:
    """What became of `serve.int8`, where it was asked for: the settings say int8, and the model's file may be fp32. Which model serves is not said here."""
    found = card.get("metrics", {}).get("int8")
    if not found:
        return ""
    bound = next((row["limit"] for row in verdict["results"] if row["gate"] == "artifact parity"), None)
    moved, allowed = (figure(found["largest_difference"], 4), "") if bound is None else apart(found["largest_difference"], bound, figure, 4)
    what = f"p_fake moved by up to {moved} on {found['clips']} validation clips" + (f", {allowed} is allowed (gates.max_parity)" if allowed else "")
    sizes = f"{figure(found['bytes'])} bytes for {figure(found['fp32_bytes'])}"
    return f"int8 was asked for and taken: {what}; {sizes}." if found["used"] else f"int8 was asked for and refused, the file is fp32: {what}."


def shadow(root: Path, evaluation: dict[str, Any]) -> dict[str, Any]:
    """What the challenger would have answered to logged requests, where the promotion's probe asked it."""
    found = read_report(root / "reports/shadow.json")
    return found if evaluation and found.get("model_sha256") == evaluation.get("challenger_sha256") and found.get("asked") else {}


def hardest_misses(root: Path, evaluation: dict[str, Any]) -> list[dict[str, Any]]:
    """The videos of the holdout that the challenger gets most wrong, of the origins that were judged, new ones too; reals and fakes apart, the worst first.

    Named, not shown: a face in a page that is committed could never be erased.
    """
    if not evaluation or not (root / PREDICTIONS).is_file():
        return []
    import pandas as pd

    table = pd.read_parquet(root / PREDICTIONS)
    table = table[(table["fold"] == "holdout") & table["origin"].isin(evaluation["judged_on"].split("+"))]
    threshold = evaluation["thresholds"]["challenger"]
    found = []
    for label, wrong in (("fake", table["p_challenger"] < threshold), ("real", table["p_challenger"] >= threshold)):
        rows = table[(table["label"] == label) & wrong].sort_values("p_challenger", ascending=label == "fake", kind="stable")
        found += rows.head(MISSES_A_LABEL)[["unit", "label", "generator", "source", "p_challenger", "p_champion", "new"]].to_dict("records")
    return [{**row, "p_champion": None if pd.isna(row["p_champion"]) else row["p_champion"]} for row in found]


def pictures(folder: Path, names: list[str]) -> list[dict[str, str]]:
    """PNG files as data addresses, with captions."""
    found = []
    for name in names:
        path = folder / Path(name).name
        if path.is_file():
            data = base64.b64encode(path.read_bytes()).decode("ascii")
            found.append({"caption": CAPTIONS.get(path.stem, path.stem), "source": f"data:image/png;base64,{data}"})
    return found


def figure(value: Any, digits: int = 3) -> str:
    """A number as people read it, with at most so many digits behind the point; a dash for what is not known."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or (isinstance(value, float) and value == int(value) and abs(value) >= 1000):
        return f"{int(value):,}".replace(",", " ")
    if not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}g}" if 0 < abs(value) < 0.001 else f"{value + 0.0:.{digits}f}".rstrip("0").rstrip(".")  # -0.0 is 0


def weighed(row: dict[str, Any]) -> dict[str, str]:
    """What a gate measured and its bound, as the page shows them: told apart where they are not the same."""
    value, bound = row["measured"], row["limit"]
    if value is None or bound is None:
        return {"value": figure(value), "bound": figure(bound)}
    return dict(zip(("value", "bound"), apart(float(value), float(bound), figure, 3), strict=True))


def percent(value: Any) -> str:
    """A fraction as a percentage."""
    return "–" if value is None else f"{100 * float(value):.1f}%"


def estimate(p_fake: float | None) -> str:
    """A p_fake, which is never certainty; a dash where there is none."""
    return "–" if p_fake is None else as_estimate(p_fake)


def change(value: float | None) -> str:
    """A difference with its sign; a dash for what is not known."""
    return "–" if value is None else f"{value:+.3f}"


def interval(value: dict[str, Any] | None) -> str:
    """`0.912 [0.871, 0.944]`; without ends where they cannot be known."""
    if not value or value.get("value") is None:
        return "–"
    if value.get("low") is None or value.get("high") is None:
        return f"{value['value']:.3f}"
    return f"{value['value']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
