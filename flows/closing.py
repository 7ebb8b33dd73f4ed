"""The end of a cycle: its page, the push to the DVC remote, its one commit, its tag. A killed process may leave these undone; anybody may finish them."""

from pathlib import Path

from flows.environment import say
from workspace.cycle import restore_cycle
from workspace.errors import VigilError
from workspace.journal import Journal
from workspace.state import CycleState, cycles
from workspace.unsent import unsent


def send(root: Path) -> None:
    """Send the DVC remote what it lacks, or say why it cannot be: a cycle ends without it, and a mark stays (workspace/unsent.py)."""
    from workspace.repository import push

    try:
        push(root)
    except VigilError as problem:
        say(str(problem))


def send_again(root: Path) -> None:
    """Send what an earlier push did not, where there is such: for runs that end in no cycle, which would."""
    if unsent(root):
        send(root)


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
