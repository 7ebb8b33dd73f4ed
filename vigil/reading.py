"""What the reading commands show: status, batches, models, reports. All of it from the journal and the reports."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from workspace.errors import WorkspaceError, printable
from workspace.files import read_json
from workspace.journal import Journal
from workspace.lease import cycle_runs
from workspace.objects import refuse_damaged
from workspace.settings import Settings
from workspace.state import BATCH_STATES, batch_states, champion, cycles, model_states, open_cycle
from workspace.unsent import Unsent, unsent

WAITS = {  # for what a batch of that state is there
    "held": "in no cycle until a person says so (vigil batches accept, or drop)",
    "deferred": "judged again beside the next media that come in (at once: vigil retrain --force)",
}


def render_table(rows: list[dict[str, Any]]) -> str:
    """Rows as columns of text, each as wide as it must be; whatever a cell holds, it stays in its row."""
    columns = list(rows[0])
    cells = [[printable(str(row.get(column, ""))) for column in columns] for row in rows]
    widths = [max(len(column), *(len(line[index]) for line in cells)) for index, column in enumerate(columns)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in [columns, *cells]]
    return "\n".join(lines)


def render_compared(networks: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """A line a network, best AUC first, those that did not learn last."""

    def known(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows = []
    for row in sorted(networks, key=lambda one: -1.0 if one["auc"] is None else one["auc"], reverse=True):
        spread = "" if row["auc_spread"] is None else f" +-{row['auc_spread']:.3f}"
        lost = f" ({row['diverged']} of {row['seeds']} diverged)" if row["diverged"] else ""
        figures = {"AUC": "diverged" if row["auc"] is None else f"{row['auc']:.3f}{spread}{lost}"}
        figures |= {"accuracy": known(row["accuracy"], ".3f"), "F1": known(row["f1"], ".3f"), "MB": known(row["megabytes"], "")}
        rows.append({"network": row["name"], **figures, "ms a clip": known(row["clip_ms"], ""), "training s": known(row["seconds"], ".0f")})
    lines = [render_table(rows)]
    if any(row["diverged"] for row in networks):
        lines.append("Diverged: its numbers ran away, as a rule because pretrain.lr or train.lr is too high for it.")
    counts = f"Validation videos: {about['n_real']} real, {about['n_fake']} fake; means over {networks[0]['seeds']} seed(s)."
    lines.append(
        "Each network began from nothing (without model.weights) and learned without attacks, distillation and hardened clips: a cycle's model has these."
    )
    return "\n".join([*lines, f"{counts} reports/compare.jsonl holds every run."])


def render_search(found: dict[str, Any]) -> str:
    """A line a trial; then what to change in params.yaml for the best, and what its figure is worth."""
    rows = [
        {"trial": row["trial"], "AUC": "diverged" if row["diverged"] else "given up" if row["state"] == "pruned" else f"{row['auc']:.3f}"}
        | {name: f"{value:.3g}" for name, value in row["settings"].items()}
        for row in found["trials"]
    ]
    best, first = found["best"], found["first"]
    ended = {"given up": "behind the median of the others at the same step", "diverged": "its numbers ran away, as a rule because lr is too high"}
    said = [f" {word.capitalize()}: {what}." for word, what in ended.items() if any(row["AUC"] == word for row in rows)]
    *some, last = found["lacks"] or [""]
    apart = f", but for what no trial has: {', '.join(some)}{' and ' if some else ''}{last}" if last else ""
    lines = [render_table(rows), f"Trial 0 is params.yaml as it stands{apart}." + "".join(said)]
    if best is None:
        return "\n".join([*lines, "No trial was finished, so there is nothing to compare."])
    if not found["changes"]:
        return "\n".join([*lines, "Nothing tried was better than params.yaml as it stands."])
    reals, fakes = best["videos"]
    against = f", {best['auc'] - first['auc']:+.3f} against trial 0" if first and first["state"] == "complete" else ""
    lines.append(f"Best: trial {best['trial']}{against}, chosen on {reals} real and {fakes} fake validation videos, so its figure is too good. To use it, set:")
    for block, values in found["changes"].items():
        lines += [f"  {block}:", *(f"    {name}: {value:g}" for name, value in values.items())]
    return "\n".join(lines)


def batch_rows(root: Path) -> list[dict[str, Any]]:
    """A row a batch: state, source, samples, who decided, why."""
    states = batch_states(Journal(root).events())
    return [
        {
            "batch": name,
            "state": batch.state,
            "source": batch.source,
            "samples": batch.rows,
            "quarantined": batch.quarantined,
            "who": batch.who,
            "why": batch.why,
        }
        for name, batch in states.items()
    ]


def model_rows(root: Path) -> list[dict[str, Any]]:
    """A row a model: what it is now (champion, previous, earlier, held, candidate), and why."""
    return [
        {"cycle": one.cycle, "role": one.role, "version": one.version or "", "model": one.model_sha256[:12], "why": one.why}
        for one in model_states(Journal(root).events())
    ]


def status_of(root: Path, settings: Settings) -> dict[str, Any]:
    """The last cycles, the champion, open work, and what `vigil retrain` would do now."""
    from feedback.cases import unanswered
    from feedback.forgetting import erasures_waiting
    from feedback.restored import look
    from vigil.cycles import would_run

    events = Journal(root).events()
    leading, running, holder = champion(events), open_cycle(events), cycle_runs(root)
    plan = would_run(root, settings)
    return {
        "workspace": str(root),
        "profile": settings.profile,
        "champion": {"cycle": leading.cycle, "model_sha256": leading.model_sha256, "version": leading.version} if leading else None,
        "open_cycle": running.cycle if running else None,
        "run_by": str(holder) if holder else None,
        "cycles": [
            {"cycle": one.cycle, "outcome": one.outcome or "open", "reason": one.reason, "judged": list(one.judged), "closed": one.closed}
            for one in cycles(events)
        ],
        "batches": {state: sum(1 for batch in batch_states(events).values() if batch.state == state) for state in BATCH_STATES},
        "unanswered": dict(zip(("cases", "since"), unanswered(root, settings), strict=True)),
        "unsent": asdict(late) if (late := unsent(root)) else None,
        "erasures_waiting": erasures_waiting(root, settings),
        "restored": asdict(look(root, settings)),
        "next": plan.as_dict(),
    }


def render_status(page: dict[str, Any]) -> str:
    """The status as text."""
    from feedback.forgetting import what_waits
    from feedback.restored import Restored
    from flows.policy import TRAINING

    leading = page["champion"]
    lines = [f"{page['workspace']} (profile {page['profile']})"]
    lines.append(f"champion  {leading['cycle']}  {leading['model_sha256'][:12]}" if leading else "champion  none yet")
    lines += [f"{one['cycle']:<12}{one['outcome'].upper():<10}{one['reason']}" for one in page["cycles"][-8:]] or ["no cycle has run yet"]
    counts = ", ".join(f"{count} {state}" for state, count in page["batches"].items() if count)
    lines.append(f"batches   {counts or 'none'}")
    if asked := page["unanswered"]["cases"]:
        lines.append(
            f"cases     {asked} wait{'s' if asked == 1 else ''} for an answer of people, since {page['unanswered']['since'][:10]} (`vigil serve`, Review)"
        )
    if waits := what_waits(page["erasures_waiting"], page["open_cycle"] or ""):
        lines.append(f"erasures  {waits}")
    if back := str(Restored(**page["restored"])):
        lines.append(f"restored  {back}")
    if late := page["unsent"]:
        lines.append(f"remote    {printable(str(Unsent(**late)))}; `vigil doctor --push` or the next `vigil retrain` tries again")
    plan = page["next"]
    if page["run_by"]:
        lines.append(f"running   {page['open_cycle'] or 'a cycle that is not opened yet'}, by {page['run_by']}")
        return "\n".join(lines)
    lines.append(f"next      vigil retrain ({TRAINING[plan['work']]}): " + "; ".join(plan["reasons"]) if plan["needed"] else "next      nothing new")
    lines += [f"          a source cannot be read: {one}" for one in plan["unread"]]
    if not plan["needed"]:
        lines += [f"          {page['batches'][state]} {state}: {what}; `vigil batches` says why" for state, what in WAITS.items() if page["batches"][state]]
    return "\n".join(lines)


def report_of(root: Path, cycle: str) -> dict[str, Any]:
    """Write the page of the last cycle, or find the one that an earlier cycle kept."""
    events = Journal(root).events()
    known = {one.cycle: one for one in cycles(events)}
    if not known:
        raise WorkspaceError("There is no report yet.", why="no cycle has run in this workspace", next_step="Run `vigil retrain`.")
    wanted = cycle or list(known)[-1]
    if wanted not in known:
        raise WorkspaceError(f"There is no cycle {wanted}.", why=f"known: {', '.join(known)}", next_step="Name one of these.")
    from pipelines.report import KEPT

    page = root / KEPT / f"{wanted}.html"
    if wanted == list(known)[-1]:
        from pipelines.report import write_report
        from workspace.cycle import told_cycle

        page = write_report(root, told_cycle(root, events, wanted)[0])  # a cycle that was being opened may have its file there already
    if not page.exists():
        raise WorkspaceError(
            f"The page of {wanted} is not kept here.",
            why="it was closed elsewhere, or by an earlier version of Vigil",
            next_step=f"Beside the workspace: git clone -b vigil/{wanted} {root} old; vigil doctor --pull -w old; vigil report -w old.",
        )
    one = known[wanted]
    return {"cycle": one.cycle, "outcome": one.outcome or "open", "reason": one.reason, "report": str(page), "verdict": read_verdict(root, wanted)}


def read_verdict(root: Path, cycle: str) -> dict[str, Any] | None:
    """The verdict in reports/, if it is this cycle's."""
    path = root / "reports" / "verdict.json"
    try:
        verdict = read_json(path) if path.exists() else {}
    except ValueError:
        refuse_damaged(root)
        raise
    return verdict if verdict.get("cycle") == cycle else None
