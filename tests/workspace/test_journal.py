"""The journal: appended whole, chained, torn lines set aside, tampering found."""

import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from workspace.errors import JournalError
from workspace.journal import KINDS, NO_HASH, Journal

CODE = Path(__file__).resolve().parents[2]


def add(journal: Journal, batch: str = "b1", **more):
    return journal.append("batch_added", batch=batch, source="s", samples=3, quarantined=0, **more)


def three(root: Path) -> Journal:
    journal = Journal(root)
    for name in ("b1", "b2", "b3"):
        add(journal, name)
    return journal


def run_python(code: str, *arguments: object, **options):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)], cwd=CODE, capture_output=True, text=True, **options)


def test_events_come_back_as_they_were_written_and_form_a_chain(tmp_path):
    journal = Journal(tmp_path, now=lambda: datetime(2026, 11, 16, 3, tzinfo=UTC))
    assert journal.events() == [] and journal.verify() == []
    written = [add(journal, "b1"), journal.append("override", who="ann", why="zażółć \ud83d", n=1.5, tags=("a", "b"))]
    assert journal.events() == written
    assert [event.seq for event in written] == [1, 2]
    assert written[0].previous == NO_HASH and written[1].previous == written[0].hash
    assert written[1]["tags"] == ["a", "b"] and written[0].time == "2026-11-16T03:00:00.000+00:00"


@pytest.mark.parametrize(
    ("kind", "fields"),
    [("batch_addded", {}), ("batch_added", {"batch": "b1"}), ("override", {"who": "a", "why": float("nan")}), ("override", {"who": "a", "why": object()})],
)
def test_an_event_that_nobody_could_read_is_refused_and_writes_nothing(tmp_path, kind, fields):
    journal = three(tmp_path)
    before = journal.path.read_bytes()
    with pytest.raises(JournalError, match="Nothing was written"):
        journal.append(kind, **fields)
    assert journal.path.read_bytes() == before


def test_an_event_of_a_later_version_is_read_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setitem(KINDS, "novelty", ())
    Journal(tmp_path).append("novelty", x=1)
    monkeypatch.undo()
    assert add(Journal(tmp_path)).seq == 2
    assert Journal(tmp_path).events()[0].kind == "novelty"


@pytest.mark.parametrize("line", [1, 2, 3])
@pytest.mark.parametrize("damage", ["edit", "remove", "swap", "garbage", "empty"])
def test_a_broken_chain_is_refused_naming_the_line(tmp_path, line, damage):
    journal = three(tmp_path)
    add(journal, "b4")
    lines = journal.path.read_text(encoding="ascii").splitlines()
    if damage == "edit":
        lines[line - 1] = lines[line - 1].replace('"samples": 3', '"samples": 4')
    elif damage == "remove":
        del lines[line - 1]
    elif damage == "swap":
        lines[line - 1], lines[line] = lines[line], lines[line - 1]
    else:
        lines[line - 1] = "{}" if damage == "garbage" else ""
    journal.path.write_text("\n".join(lines) + "\n", encoding="ascii")
    before = journal.path.read_bytes()
    for attempt in (journal.events, journal.verify, lambda: add(journal)):
        with pytest.raises(JournalError, match=f"broken at line {line}"):
            attempt()
    assert journal.path.read_bytes() == before


@given(cut=st.integers(min_value=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_file_cut_anywhere_keeps_every_whole_line_and_loses_no_byte(tmp_path_factory, cut):
    root = tmp_path_factory.mktemp("cut")
    journal = three(root)
    whole = journal.path.read_bytes()
    kept = whole[: cut % len(whole)]
    journal.path.write_bytes(kept)
    lines = whole.splitlines(keepends=True)
    survivors = sum(1 for n in range(1, 4) if len(kept) >= len(b"".join(lines[:n])) - 1)  # a line that lacks only its newline is whole
    torn = kept[len(b"".join(lines[:survivors])) :]
    assert len(journal.events()) == survivors
    assert len(journal.verify()) == bool(torn)
    add(journal, "after")
    assert [event["batch"] for event in journal.events()] == [*["b1", "b2", "b3"][:survivors], "after"]
    assert journal.torn_path.exists() == bool(torn)
    if torn:
        note = json.loads(journal.torn_path.read_text(encoding="utf-8"))
        assert note["text"].encode() == torn and note["after_line"] == survivors
        assert "journal.torn" in journal.verify()[0]


def test_a_last_line_that_lacks_only_its_newline_is_whole_and_the_next_entry_begins_a_line_of_its_own(tmp_path):
    """The one place in a thousand where a cut loses nothing: the entries on both sides of it would have become one line that nobody can read."""
    journal = three(tmp_path)
    journal.path.write_bytes(journal.path.read_bytes().removesuffix(b"\n"))
    assert len(journal.events()) == 3 and journal.verify() == []
    assert add(journal, "b4").seq == 4 and not journal.torn_path.exists()
    assert [event["batch"] for event in journal.events()] == ["b1", "b2", "b3", "b4"]


def test_an_entry_is_on_disk_before_anybody_is_told_of_it_and_torn_bytes_before_they_are_cut(tmp_path, monkeypatch):
    """A power cut takes what was written and never synced."""
    synced = []

    def seen(real, what):
        def call(descriptor, *more):
            synced.append((what, Path(os.readlink(f"/proc/self/fd/{descriptor}")).name))
            return real(descriptor, *more)

        return call

    monkeypatch.setattr(os, "fsync", seen(os.fsync, "synced"))
    monkeypatch.setattr(os, "ftruncate", seen(os.ftruncate, "cut"))
    root = tmp_path / "w"
    journal = Journal(root)
    add(journal)
    assert synced == [("synced", "journal.jsonl"), ("synced", "w")], "a new file's name is in its folder"
    with open(journal.path, "ab") as handle:
        handle.write(b'{"seq": 2')
    synced.clear()
    add(journal)
    assert synced == [("synced", "journal.torn"), ("cut", "journal.jsonl"), ("synced", "journal.jsonl")]


@example(b"5")
@example(b"[" * 100_000)
@given(st.binary(min_size=1, max_size=60).filter(lambda tail: b"\n" not in tail))
@settings(deadline=None)
def test_any_torn_bytes_are_set_aside(tmp_path_factory, tail):
    journal = three(tmp_path_factory.mktemp("torn"))
    with open(journal.path, "ab") as handle:
        handle.write(tail)
    assert len(journal.events()) == 3
    assert add(journal).seq == 4
    assert json.loads(journal.torn_path.read_text(encoding="utf-8"))["bytes"] == len(tail)


def test_what_two_crashes_tore_is_kept_twice(tmp_path):
    journal = three(tmp_path)
    for tail in ("one", "two"):
        with open(journal.path, "a", encoding="ascii") as handle:
            handle.write(tail)
        add(journal)
    assert [json.loads(line)["text"] for line in journal.torn_path.read_text(encoding="utf-8").splitlines()] == ["one", "two"]


LINE = (
    '{"seq": 1, "time": "2026-11-16T03:00:00.000+00:00", "kind": "override", "fields": {"why": "za\\u017c", "who": "ann", "n": 1.5},'
    ' "previous": "0000000000000000000000000000000000000000000000000000000000000000",'
    ' "hash": "df3e99d527f4bd22160dc02fd4ca0d821257f8b4c4b1984004decca1dc754431"}'
)


def test_a_line_that_was_written_long_ago_is_still_a_link_of_the_chain_and_every_part_of_it_counts(tmp_path):
    """With the hash made in any other way, each journal that there is would be called broken."""
    journal = Journal(tmp_path)
    journal.path.write_text(LINE + "\n", encoding="ascii")
    assert add(journal).seq == 2 and journal.events()[0]["why"] == "zaż"
    for known, other in (("T03", "T04"), ("override", "rollback"), ('"ann"', '"bob"'), ('"n"', '"m"')):
        journal.path.write_text(LINE.replace(known, other) + "\n", encoding="ascii")
        with pytest.raises(JournalError, match="broken at line 1"):
            journal.events()


def test_reading_repairs_nothing(tmp_path):
    journal = three(tmp_path)
    with open(journal.path, "ab") as handle:
        handle.write(b'{"seq": 4')
    before = journal.path.read_bytes()
    journal.events()
    journal.verify()
    assert journal.path.read_bytes() == before and not journal.torn_path.exists()


def test_many_writers_at_once_lose_nothing(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from workspace.journal import Journal
        for n in range(15):
            Journal(Path(sys.argv[1])).append("override", who=sys.argv[2], why=str(n))
    """
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda n: run_python(code, tmp_path, n), range(4)))
    assert [one.returncode for one in done] == [0] * 4, done
    events = Journal(tmp_path).events()
    assert len(events) == 60
    for writer in "0123":
        assert [event["why"] for event in events if event["who"] == writer] == [str(n) for n in range(15)]


def test_compare_and_set_adds_once_however_many_try(tmp_path):
    code = """
        import sys
        from pathlib import Path
        from workspace.journal import Journal
        event = Journal(Path(sys.argv[1])).append_if(lambda events: None if events else ("override", {"who": sys.argv[2], "why": "first"}))
        print("added" if event else "none")
    """
    with ThreadPoolExecutor(4) as pool:
        said = [one.stdout.strip() for one in pool.map(lambda n: run_python(code, tmp_path, n), range(4))]
    assert sorted(said) == ["added", "none", "none", "none"]
    assert len(Journal(tmp_path).events()) == 1


def test_what_decide_raises_passes_through_and_writes_nothing(tmp_path):
    journal = three(tmp_path)

    def refuse(events):
        raise LookupError(len(events))

    with pytest.raises(LookupError, match="3"):
        journal.append_if(refuse)
    assert len(journal.events()) == 3


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path):
    journal = three(tmp_path)
    before = journal.path.read_bytes()
    code = """
        import resource, signal, sys
        from pathlib import Path
        from workspace.errors import JournalError
        from workspace.journal import Journal
        size = Path(sys.argv[1], "journal.jsonl").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, size + 40))      # room for half a line
        try:
            Journal(Path(sys.argv[1])).append("override", who="ann", why="no room")
        except JournalError as problem:
            print(problem)
            sys.exit(7)
    """
    done = run_python(code, tmp_path)
    assert done.returncode == 7 and "was not made" in done.stdout
    assert journal.path.read_bytes() == before and journal.verify() == []


def test_several_events_are_added_at_once_and_a_kill_leaves_the_first_of_them(tmp_path):
    journal = three(tmp_path)
    before = journal.path.read_bytes()

    def lacking(events):
        there = {event["batch"] for event in events}
        return [("batch_added", {"batch": name, "source": "x", "samples": 1, "quarantined": 0}) for name in ("b4", "b5", "b6") if name not in there]

    with pytest.raises(JournalError, match="Nothing was written"):
        journal.append_all(lambda events: [*lacking(events), ("batch_added", {"batch": "b7"})])
    assert journal.path.read_bytes() == before
    assert [event.seq for event in journal.append_all(lacking)] == [4, 5, 6] and journal.append_all(lacking) == []
    whole = journal.path.read_bytes()
    for length in range(len(before), len(whole)):
        journal.path.write_bytes(whole[:length])
        journal.append_all(lacking)
        assert [event["batch"] for event in journal.events()] == ["b1", "b2", "b3", "b4", "b5", "b6"]
        journal.torn_path.unlink(missing_ok=True)


def test_a_file_replaced_by_git_while_a_writer_waits_is_the_one_written_to(tmp_path):
    # A lock on the old file says nothing about the new one.
    journal = three(tmp_path)
    content = journal.path.read_bytes()

    def replace_then_add(events):
        if len(replaced) == 0:
            replaced.append(True)
            fresh = tmp_path / "fresh"
            fresh.write_bytes(content)
            waiting.append(pool.submit(add, Journal(tmp_path), "b4"))
            os.replace(fresh, journal.path)
        return None

    replaced: list[bool] = []
    waiting: list = []
    with ThreadPoolExecutor(1) as pool:
        journal.append_if(replace_then_add)
        assert waiting[0].result(timeout=30).seq == 4
    assert [event["batch"] for event in journal.events()] == ["b1", "b2", "b3", "b4"]


def test_an_unreadable_journal_is_an_error_a_person_can_act_on(tmp_path):
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(JournalError, match="Cannot read"):
        Journal(tmp_path).events()
