"""How a command ends: by an exit code, and by three lines (what, why, next) where it fails; never by a traceback."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import typer

from workspace.errors import VigilError
from workspace.quiet import set_quiet_environment

UNWRITABLE_SQLITE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")  # a full disk is an IOERR of many kinds where SQLite maps, syncs or cuts a file
PAUSED = 130
_at: list[Path] = []  # the workspace that the verb works in, once it is known


def run(app: typer.Typer) -> NoReturn:
    """Run the command line. A failure prints three lines (what, why, next) and no traceback; Ctrl-C and SIGTERM are a pause."""
    _open_closed_streams()
    from flows.environment import pause_on_signals

    set_quiet_environment()
    pause_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal has no letters for is no failure
    try:
        code = app(standalone_mode=False) or 0  # an Exit's code comes back as the value, Ctrl-C as 130
        if code == PAUSED:
            raise KeyboardInterrupt
        if sys.stdout:
            sys.stdout.flush()  # here: Python's own end would tell of what cannot be written by a traceback
        sys.exit(code)
    except VigilError as problem:
        print(problem, file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        with suppress(KeyboardInterrupt):  # a second one waits for nothing
            from workspace.processes import end_own_stages

            end_own_stages()
        print("\nPaused. Run the same command again. What takes long (ingest, cycles, trainings, evaluations)", end=" ", file=sys.stderr)
        print("goes on where it stopped, anything else begins anew.", file=sys.stderr)
        sys.exit(PAUSED)
    except BrokenPipeError:
        sys.stderr.close()
        _drop_output()
        sys.exit(1)
    except OSError as problem:
        if problem.filename is None and _output_fails():
            _silent_output(problem)
        if problem.filename is None or unwritable(problem):
            _unexpected(problem)
        from workspace.files import names_path_in

        next_step = "Name a path that can be read and written, and is a file or a folder as the command asks."  # one that a person named, as a rule
        if isinstance(problem, PermissionError) and _at and names_path_in(problem, _at[-1]):
            next_step = "Let this user read, write and delete there, and run the same command again; nothing that was finished is lost."
        what = f"Cannot move {problem.filename} to {problem.filename2}." if problem.filename2 else f"Cannot use {problem.filename}."
        unusable = VigilError(what, why=problem.strerror or str(problem), next_step=f"{next_step} {_account()}".rstrip())
        print(unusable, file=sys.stderr)
        sys.exit(1)
    except Exception as problem:
        if hasattr(problem, "format_message"):  # a usage mistake, as the parser words it
            problem.show()  # type: ignore[attr-defined]
            sys.exit(2)
        _unexpected(problem)


def works_in(root: Path) -> None:
    """Note the workspace of the verb: what is told of a failure goes there."""
    _at.append(root)


def version_line() -> str:
    """Which Vigil this is, for a report of a mistake."""
    import platform
    from importlib.metadata import version

    from workspace.format import FORMAT

    return f"vigil {version('vigil')}, workspace format {FORMAT}; Python {platform.python_version()}, torch {version('torch')}"


def _open_closed_streams() -> None:
    """Let a stream that the launcher closed lead nowhere, in our children too: else the next file that is opened has its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def _account() -> str:
    """Where the traceback of the exception in hand was written: in the verb's workspace, or that of the current folder, else nowhere."""
    import traceback

    try:
        log = (_at[-1] if _at else Path.cwd()) / ".vigil" / "last-error.txt"
        if not log.parent.is_dir():
            return ""
        log.write_text(f"{version_line()}\n{traceback.format_exc()}", encoding="utf-8")
    except OSError:  # a full disk, or a folder that is closed or gone, may be what is told of
        return ""
    return f"The full account is in {log}. "


def unwritable(problem: BaseException | None) -> str:
    """Why nothing can be written, where this is what lies behind an exception, else ''. SQLite says it in numbers of its own."""
    import sqlite3

    from workspace.files import is_no_room

    while problem is not None:
        if isinstance(problem, OSError) and is_no_room(problem):
            return f"{problem.filename}: {problem.strerror}" if problem.filename else str(problem.strerror)
        name = getattr(problem, "sqlite_errorname", "")
        if isinstance(problem, sqlite3.Error) and name.startswith(UNWRITABLE_SQLITE) and not name.startswith("SQLITE_IOERR_READ"):
            return f"SQLite: {problem}"
        problem = problem.__cause__ or problem.__context__
    return ""


def _output_fails() -> bool:
    """Whether standard output takes nothing more: the disk of its file is full, its terminal is gone."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _silent_output(problem: OSError) -> NoReturn:
    look = "Look first, with `vigil status`, `vigil batches`, `vigil models`, `vigil users` or `vigil keys`, before you run the same command again."
    why = f"standard output: {problem.strerror or problem}; what was asked for may be done all the same"
    print(VigilError("The output could not be written.", why=why, next_step=look), file=sys.stderr)
    _drop_output()
    sys.exit(1)


def _drop_output() -> None:
    """Let what is left of the output lead nowhere: Python tries to write it at its end, and then tells of it by a traceback and a code of its own."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _unexpected(problem: Exception) -> NoReturn:
    if why := unwritable(problem):
        next_step = "Make room on the disk, or make it writable, and run the same command again; nothing that was finished is lost."
        print(VigilError("A file could not be written.", why=why, next_step=next_step), file=sys.stderr)
        sys.exit(1)
    print(f"Something unexpected went wrong: {type(problem).__name__}: {problem}\n  Why:  this is a mistake in Vigil, not in your data.", file=sys.stderr)
    print(f"  Next: {_account()}Run `vigil doctor`; nothing that was finished is lost.", file=sys.stderr)
    sys.exit(1)
