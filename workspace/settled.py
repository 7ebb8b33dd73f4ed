"""Which batches DVC need not look at again: those of which nothing was touched since it last called their stage up to date.

DVC takes 20 ms a stage to find that nothing is new, for every batch of the past and every stage (mostly params.yaml parsed anew, and
its own locks): seconds a cycle at a hundred batches. Size, time stamp and the entry in dvc.lock are what it goes by itself, so they
are compared here at once. It is only a cache, in `.vigil/settled.json`: deleting it costs time, nothing else.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from workspace.files import parse_yaml, read_json, write_json


def batches_of(root: Path) -> list[str]:
    """The batches whose stages DVC keeps up to date."""
    return list(parse_yaml((root / "batches.yaml").read_bytes()).get("batches", []))


def unsettled(root: Path, stage: str, batches: Iterable[str]) -> list[str]:
    """The batches whose stage may have something to do: new, changed, never recorded, or under changed settings."""
    known = _read(root).get(stage, {})
    return [batch for batch, stamp in _stamps(root, stage, batches).items() if not stamp or known.get(batch) != stamp]


def settle(root: Path, stage: str, batches: Iterable[str]) -> None:
    """Remember that DVC has just called this stage of these batches up to date; other batches of the stage are forgotten."""
    write_json(_path(root), _read(root) | {stage: {batch: stamp for batch, stamp in _stamps(root, stage, batches).items() if stamp}})


def _path(root: Path) -> Path:
    return root / ".vigil" / "settled.json"


def _read(root: Path) -> dict[str, dict[str, str]]:
    try:
        found = read_json(_path(root))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamps(root: Path, stage: str, batches: Iterable[str]) -> dict[str, str]:
    """What a batch's stage depends on and made, in a hash; '' where DVC has recorded nothing of it."""
    told = parse_yaml((root / "dvc.yaml").read_bytes())["stages"][stage]["do"]
    outputs = [next(iter(one)) if isinstance(one, dict) else one for one in (*told.get("outs", []), *told.get("metrics", []))]
    common = [hashlib.sha256((root / name).read_bytes()).hexdigest() for name in ("params.yaml", "dvc.yaml")]
    recorded = parse_yaml((root / "dvc.lock").read_bytes()).get("stages", {}) if (root / "dvc.lock").exists() else {}
    stamps = {}
    for batch in batches:
        entry = recorded.get(f"{stage}@{batch}")
        facts = [_facts(root / path.replace("${item}", batch)) for path in (*told["deps"], *outputs)]
        stamps[batch] = hashlib.sha256(json.dumps([common, entry, facts], sort_keys=True).encode()).hexdigest() if entry and all(facts) else ""
    return stamps


def _facts(path: Path) -> list[tuple[str, int, int, int]]:
    """Name, inode, size and time stamp of every file below `path`, or of the file itself; none where there is nothing."""
    files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path] if path.is_file() else []
    return [(one.relative_to(path.parent).as_posix(), (facts := one.stat()).st_ino, facts.st_size, facts.st_mtime_ns) for one in files]
