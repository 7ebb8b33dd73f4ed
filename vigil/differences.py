"""`vigil models diff`: what two models learned from, how they were set, and how each did on the same generators."""

import re
from pathlib import Path
from typing import Any

from model.card import load_card
from pipelines.train import EDITED
from workspace.errors import WorkspaceError, printable
from workspace.journal import Journal
from workspace.state import candidates, champion, cycles, previous

LONGEST = 40  # letters of a value beside another one
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


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
        "not_known": {  # of which of the two: the card of one that was made elsewhere lists neither
            "clips": [cycle for cycle in clips if not clips[cycle]],
            "settings": [cycle for cycle, card in cards.items() if not card.get("settings")],
        },
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
    """The differences as text, a line each; of values that are too long for one, three."""
    first, second = page["models"]
    facts, settings = ([(name, *_told(*both)) for name, both in page[block].items() if both[0] != both[1]] for block in ("facts", "settings"))
    aucs = [(f"AUC on {name}", *_told(*both)) for name, both in page["auc"].items()]
    rows = [*facts, *aucs, *settings]
    wide = 2 + max(len(name) for name, _, _ in [("training clips", "", ""), *rows])
    column = 2 + max(len(left) for _, left, _ in [("", first, ""), *rows] if len(left) <= LONGEST)

    def lines_of(some: list[tuple[str, str, str]]) -> list[str]:
        lines = []
        for name, left, right in some:
            long = max(len(left), len(right)) > LONGEST
            lines += [name, f"  {first}: {left}", f"  {second}: {right}"] if long else [f"{name:<{wide}}{left:<{column}}{right}"]
        return lines

    lines = lines_of([("", first, second), *facts])
    clips, generators, not_known = page["clips"], page["generators"], page["not_known"]
    told = f"{'training clips':<{wide}}{clips['both']} in both, {clips['only_first']} only in the first, {clips['only_second']} only in the second"
    lines.append(f"training clips: not known of {', '.join(not_known['clips'])}" if not_known["clips"] else told)
    lines += [f"generators only in {which}: {', '.join(generators[key])}" for key, which in (("only_first", first), ("only_second", second)) if generators[key]]
    if page["auc"]:
        same = "on the same videos" if page["same_videos"] else "each on the holdout of its own cycle, so that a difference may lie in the videos"
        lines.append(f"AUC, {same}:")
    lines += lines_of(aucs)
    lines += [f"settings: not known of {', '.join(not_known['settings'])}"] if not_known["settings"] else lines_of(settings)
    return "\n".join(map(printable, lines))


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
        if left != right and all(value is None or isinstance(value, dict) for value in (left, right)):
            found |= _changed(left or {}, right or {}, f"{prefix}{name}.")  # a block that one of them lacks is told setting by setting
        elif left != right:
            found[f"{prefix}{name}"] = (left, right)
    return found


def _told(left: Any, right: Any) -> tuple[str, str]:
    """Both in short, or as they are where they differ and would look equal."""
    short = _short(left), _short(right)
    return short if left == right or short[0] != short[1] else (str(left), str(right))


def _short(value: Any) -> str:
    if isinstance(value, str) and value.endswith(EDITED):
        return f"{value[:7]}, params edited"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_short, value))}]"
    if isinstance(value, str) and HASH.fullmatch(value):
        return value[:12]
    return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
