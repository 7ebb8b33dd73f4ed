"""What the stage `forge` did with forgers from outside, as its reports tell: which made nothing, and which are other programs by now.

DVC sees what a batch was forged from and by which settings, not the programs and generators that `forge.plugins` names.
"""

import shutil
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from workspace.files import read_json, sha256_file
from workspace.settings import PluginSettings, Settings

REPORT = "report.json"
MENDED = " Once it is mended, change its entry in forge.plugins (timeout_seconds will do), and it is tried again."


def idle_forgers(root: Path, batch: str) -> list[str]:
    """A line for each forger that was tried on a batch and made nothing: another one's fakes hide it, and nobody reads the report of a stage that went well."""
    report = _report_of(root, batch)
    tried: dict[str, Counter[str]] = {}
    for told, number in report.get("excluded", {}).items():
        forger, _, why = told.partition(": ")
        tried.setdefault(forger, Counter())[" ".join(why.split())] += number
    lines = []
    for forger, reasons in sorted(tried.items()):
        if forger not in report.get("by_forger", {}):
            times = "1 time" if reasons.total() == 1 else f"{reasons.total()} times"
            mended = MENDED if forger in report.get("programs", {}) else ""
            lines.append(f"{forger} made nothing of {batch}, tried {times}; most often: {reasons.most_common(1)[0][0].rstrip('.')}.{mended}")
    return lines


def forged_otherwise(root: Path, settings: Settings, batches: Iterable[str]) -> list[str]:
    """Those of the batches that were forged by a program or a generator of `forge.plugins` whose file is another one by now; one that is away is none."""
    now = {plugin.name: files_of(root, plugin) for plugin in settings.forge.plugins if plugin.name in settings.forge.forgers}

    def changed(batch: str) -> bool:
        then: dict[str, dict[str, str]] = _report_of(root, batch).get("programs", {})
        return any(found.get(path, sha256) != sha256 for name, found in now.items() for path, sha256 in then.get(name, {}).items())

    return [batch for batch in batches if changed(batch)]


def _report_of(root: Path, batch: str) -> dict[str, Any]:
    """Empty where there is none that can be read: DVC has the batch forged anew then."""
    with suppress(OSError, ValueError):
        found = read_json(root / "data" / "forged" / batch / REPORT)
        return found if isinstance(found, dict) else {}
    return {}


def files_of(root: Path, plugin: PluginSettings) -> dict[str, str]:
    """The sha256 of the files that an outside forger runs by, by path (a relative one is of the workspace): of its generator, or of those in its command."""
    named = [plugin.onnx] if plugin.onnx else [shutil.which(plugin.command[0]) or "", *plugin.command[1:]]
    found: dict[str, str] = {}
    for path in named:
        with suppress(OSError, ValueError):
            found |= {path: sha256_file(root / path)} if (root / path).is_file() else {}
    return found
