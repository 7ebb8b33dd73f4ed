"""`vigil models diff`: what two models learned from, how they were set, and how each did on the same generators."""

from pathlib import Path
from typing import Any

from model.card import load_card
from pipelines.train import EDITED
from workspace.errors import WorkspaceError
from workspace.journal import Journal
from workspace.state import candidates, champion, cycles, previous


def diff_models(root: Path, first: str, second: str) -> dict[str, Any]:
    """Cards of two cycles side by side, settings that differ, and AUC on each generator from the cycles' own evaluations."""
    cards = {cycle: _card(root, cycle) for cycle in (first, second)}
    one, two = cards[first], cards[second]
    clips = {cycle: set(card.get("train_clips") or []) for cycle, card in cards.items()}
    settings = {name: [left, right] for name, (left, right) in _changed(one.get("settings") or {}, two.get("settings") or {}).items()}
    return {
        "models": [first, second],
        "facts": {
            name: [card.get(name) for card in (one, two)]
            for name in ("model_sha256", "created", "seed", "threshold", "temperature", "offset", "levels", "abstain", "engine", "git_revision")
        },
        "clips": {"both": len(clips[first] & clips[second]), "only_first": len(clips[first] - clips[second]), "only_second": len(clips[second] - clips[first])},
        "generators": {
            "only_first": sorted(set(one.get("generators_seen") or []) - set(two.get("generators_seen") or [])),
            "only_second": sorted(set(two.get("generators_seen") or []) - set(one.get("generators_seen") or [])),
        },
        "settings": settings,
        **_aucs(root, (first, one["model_sha256"]), (second, two["model_sha256"])),
    }


def names_of(root: Path, names: list[str]) -> tuple[str, str]:
    """The two cycles that are meant: as named, else the champion and the one before it. Raises WorkspaceError."""
    events = Journal(root).events()
    leading, before = champion(events), previous(events)
    known = {"champion": leading.cycle if leading else "", "previous": before.cycle if before else ""}
    wanted = [known.get(name, name) for name in names or ["previous", "champion"]]
    if len(wanted) != 2 or not all(wanted):
        made = candidates(events)
        step = "Name two cycles." if len(made) > 1 else "Run `vigil retrain` until there are two."
        raise WorkspaceError("Two models are needed.", why=f"known: {', '.join(made) or 'none'}", next_step=step)
    return wanted[0], wanted[1]


def render_diff(page: dict[str, Any]) -> str:
    """The differences as text."""
    first, second = page["models"]
    lines = [f"{'':<28}{first:<24}{second}"]
    lines += [f"{name:<28}{_short(left):<24}{_short(right)}" for name, (left, right) in page["facts"].items() if left != right]
    clips, generators = page["clips"], page["generators"]
    lines.append(f"training clips              {clips['both']} in both, {clips['only_first']} only in the first, {clips['only_second']} only in the second")
    lines += [f"generators only in {which}: {', '.join(generators[key])}" for key, which in (("only_first", first), ("only_second", second)) if generators[key]]
    if page["auc"]:
        same = "on the same videos" if page["same_videos"] else "each on the holdout of its own cycle, so that a difference may lie in the videos"
        lines.append(f"AUC, {same}:")
    lines += [f"AUC on {name:<21}{_short(left):<24}{_short(right)}" for name, (left, right) in page["auc"].items()]
    lines += [f"{name:<28}{_short(left):<24}{_short(right)}" for name, (left, right) in page["settings"].items()]
    return "\n".join(lines)


def _card(root: Path, cycle: str) -> dict[str, Any]:
    path = root / "models" / cycle / "card.json"
    if not path.is_file():
        made = candidates(Journal(root).events())
        collected = f"If it was collected, run dvc pull models/{cycle}.dvc." if cycle in made else ""
        step = collected or ("Name one of them." if made else "Run `vigil retrain` until there are two.")
        raise WorkspaceError(f"There is no model of {cycle} here.", why=f"models: {', '.join(made) or 'none'}", next_step=step)
    return load_card(path.parent).model_dump(mode="json")


def _aucs(root: Path, one: tuple[str, str], two: tuple[str, str]) -> dict[str, Any]:
    """AUC on each generator of two models (cycle, sha256), and whether on the same videos: where the one was the champion that the other was judged
    against, both from that evaluation; else each from its own, on the holdout as it stood then (reports/continual.json)."""
    from pipelines.continual import rows_of

    (first, first_sha256), (second, second_sha256) = one, two
    rows = {row["cycle"]: row for row in rows_of(root)}
    base = {cycle.cycle: cycle.base_model for cycle in cycles(Journal(root).events())}
    pair, same = (rows.get(first, {}).get("after", {}), rows.get(second, {}).get("after", {})), first == second
    if second in rows and base.get(second) == first_sha256:
        pair, same = (rows[second]["before"], rows[second]["after"]), True
    elif first in rows and base.get(first) == second_sha256:
        pair, same = (rows[first]["after"], rows[first]["before"]), True
    names = sorted({*pair[0], *pair[1]})
    return {"auc": {name: [values.get(name) for values in pair] for name in names}, "same_videos": same}


def _changed(one: dict[str, Any], two: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*one, *two}):
        left, right = one.get(name), two.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            found |= _changed(left, right, f"{prefix}{name}.")
        elif left != right:
            found[f"{prefix}{name}"] = (left, right)
    return found


def _short(value: Any) -> str:
    if isinstance(value, str) and value.endswith(EDITED):
        return f"{value[:7]}, params edited"
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)[:22]
