"""From verdict to outcome: probe the export in a real service, then promote once, or hold with the reason."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from workspace.cycle import Cycle
from workspace.errors import PromotionConflict, printable
from workspace.files import read_json, write_json
from workspace.for_review import UNLABELLED
from workspace.journal import Event, Journal
from workspace.settings import Settings
from workspace.state import Decision, decided


def refused_untrained(root: Path, settings: Settings, journal: Journal, cycle: Cycle) -> Decision | None:
    """The hold where there is no point in training: what came in fails a gate that no model can mend, and nobody has overridden it. None where there is one."""
    from pipelines.gate import REFUSED, refusals
    from workspace.promotion import overridden, overrides

    failed = {"results": refusals(root, settings, cycle)}
    write_json(root / REFUSED, {"cycle": cycle.cycle, **failed})
    in_force = overrides(journal.events(), datetime.now(UTC))
    if not failed["results"] or overridden(failed, in_force):
        return None
    return Decision("held", f"nothing was trained: {hold_reason(failed, in_force)}")


def and_again(reason: str, which: str = "") -> str:
    """The reason for a hold, and that what it held, or the batches of these names, waits for what comes in next."""
    return f"{reason.rstrip('.')}. Deferred: {which and f'{which}, '}judged again with what comes in next."


def decide_outcome(
    root: Path, settings: Settings, journal: Journal, cycle: Cycle, model_dir: Path | None, probe: Callable[..., Any], refused: Decision | None = None
) -> Decision:
    """Promote when every gate passed and the real server took the model; else hold, as `refused` says where it never came to a model.

    Either is in the journal when this returns, and a repeated call gives the first answer.
    """
    if known := decided(journal.events(), cycle.cycle):
        return known
    decision = _decide(root, settings, journal, cycle, model_dir, probe, refused)
    if decision.outcome == "held":
        journal.append("cycle_held", cycle=cycle.cycle, reason=decision.reason, defer=decision.defer, put_off=decision.put_off)
    return decision


def _decide(
    root: Path, settings: Settings, journal: Journal, cycle: Cycle, model_dir: Path | None, probe: Callable[..., Any], refused: Decision | None
) -> Decision:
    from workspace.promotion import overridden, overrides, promote

    if refused:
        return refused
    if model_dir is None and cycle.unlabelled:
        return Decision("held", unlabelled_reason(root, cycle))
    if model_dir is None:
        return Decision("held", "no batch passed the data checks; the last good state stays")
    verdict = read_json(root / "reports" / "verdict.json")
    passed = "every gate passed"
    if verdict.get("verdict") != "pass":
        in_force = overrides(journal.events(), datetime.now(UTC))
        allowed = overridden(verdict, in_force)
        if allowed is None:
            defer = too_little_of_it(root, verdict) or (not cycle.base_model and too_few(verdict))
            return Decision("held", hold_reason(verdict, in_force), defer)
        verdict, used = allowed
        passed = printable("; ".join(used))
    result = probe(root, settings, model_dir)
    if not result.passed:
        return Decision("held", f"artifact: {result.reason}.", defer=True)
    why = f"{passed}; {result.reason}"
    try:
        promote(root, model_dir, expected_champion_sha256=cycle.base_model, verdict=verdict, cycle=cycle.cycle, who="vigil", why=why)
    except PromotionConflict as problem:
        return Decision("held", f"the champion changed while this cycle ran: {problem.why}.", defer=True)
    return Decision("promoted", why)


def unlabelled_reason(root: Path, cycle: Cycle) -> str:
    """Why nothing was trained, and what the unlabelled media look like to the champion."""
    said = f"nothing to learn from: no label in {', '.join(cycle.unlabelled)}; the last good state stays, and people are asked (`vigil serve`)"
    path = root / "reports" / "drift" / "drift.json"
    seen = read_json(path) if cycle.base_model and path.exists() else {}
    if not seen:
        return f"{said}; drift was not measured: there is no champion"
    if seen["p_value"] is None:
        few = (
            f"{seen['n_new']} incoming and {seen['n_ref']} known videos can be compared, a test needs {seen['least']} of each"
            if "least" in seen
            else seen["status"]
        )
        return f"{said}; drift was not measured: {seen.get('note', few)}"
    return f"{said}; {'drift' if seen['hold'] else 'no drift to hold for'} (p {seen['p_value']:.2g})"


def too_little_of_it(root: Path, verdict: dict[str, Any]) -> bool:
    """Whether drift alone holds the model: more media of the kinds that came in would let it pass. Of what has no label people must say first what it is."""
    from pipelines.gate import report_of

    against = _against(verdict)
    kinds = report_of(verdict["cycle"], root / "reports" / "drift" / "drift.json").get("not_covered") or []
    alone = all((row.get("gate"), row.get("verdict")) == ("drift", "fail") for row in against)
    return bool(against and kinds) and alone and not any(kind.startswith(UNLABELLED) for kind in kinds)


def too_few(verdict: dict[str, Any]) -> bool:
    """Whether nothing failed and all that is undecided lacks media: a first model gets them from what comes in next, judged together with these."""
    return all(row.get("verdict") == "undecided" and (row.get("n") or 0) < (row.get("smallest_n") or 0) for row in _against(verdict))


def hold_reason(verdict: dict[str, Any], in_force: Mapping[str, Event]) -> str:
    """The gates that held a model back, failures before undecided ones, three at most, each in its own sentence; and which overrides are without effect."""
    from workspace.promotion import without_effect

    rows = sorted(_against(verdict), key=lambda row: row.get("verdict") != "fail")
    named = [printable(f"{row['gate']} {row['verdict']}: {row['reason']}") for row in rows[:3]]  # generators are called as somebody's folders are
    more = f" (and {len(rows) - 3} more)" if len(rows) > 3 else ""
    reason = ("; ".join(named) or "no gate gave a result") + more
    return " ".join([f"{reason.rstrip('.')}.", *beyond]) if (beyond := without_effect(verdict, in_force)) else reason


def _against(verdict: dict[str, Any]) -> list[dict[str, Any]]:
    """The results that did not pass, in the order of the gates."""
    return [row for row in verdict.get("results", []) if row.get("verdict") != "pass"]
