"""The end of a cycle: its page, its one commit, its tag. A killed process may leave these undone; anybody may finish them."""

from pathlib import Path

from workspace.cycle import restore_cycle
from workspace.journal import Journal
from workspace.state import CycleState, cycles


def unfinished(root: Path) -> CycleState | None:
    """The last cycle, if it is closed in the journal and has no tag yet."""
    from workspace.repository import has_tag

    closed = [cycle for cycle in cycles(Journal(root).events()) if cycle.closed]
    return closed[-1] if closed and not has_tag(root, f"vigil/{closed[-1].cycle}") else None


def finish_commit(root: Path) -> str:
    """Commit and tag the last closed cycle unless that is done; returns the tag that was made, or an empty string."""
    from pipelines.report import write_report
    from workspace.repository import commit

    last = unfinished(root)
    if last is None:
        return ""
    write_report(root, restore_cycle(root, Journal(root).events(), last.cycle))
    commit(root, f"{last.cycle} {last.outcome}: {last.reason}", f"vigil/{last.cycle}")
    return f"vigil/{last.cycle}"
