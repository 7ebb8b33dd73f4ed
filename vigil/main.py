"""The command `vigil`: one verb a command. Rooms are imported inside the verb that needs them, so that --help is quick."""

import io
import json as jsonlib
import os
import shlex
import sys
from contextlib import suppress
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from workspace.errors import VigilError
from workspace.quiet import set_quiet_environment

app = typer.Typer(
    name="vigil",
    help="Vigil keeps a deepfake detector current: new media in, retrained every week, promoted only if every gate passes.",
    epilog="Exit codes: 0 done or promoted; 3 finished but held (`score`: a file got no verdict; `audit`: a check failed); 2 usage; 1 error; "
    "130 paused by Ctrl-C or SIGTERM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
batches_app = typer.Typer(help="List batches; show one; accept, hold or drop one, with who and why.", no_args_is_help=False)
models_app = typer.Typer(help="List models; roll back, compare two, import or bootstrap a first one, override a gate.", no_args_is_help=False)
app.add_typer(batches_app, name="batches")
app.add_typer(models_app, name="models")
users_app = typer.Typer(help="List accounts; make one (the first admin too), change role, disable, unlock, set a password.", no_args_is_help=False)
keys_app = typer.Typer(help="List API keys; make one, revoke one.", no_args_is_help=False)
audit_app = typer.Typer(help="Is the training set sane? And `audit verify`: is the audit trail whole?", no_args_is_help=False)
app.add_typer(users_app, name="users")
app.add_typer(keys_app, name="keys")
app.add_typer(audit_app, name="audit")

UNWRITABLE_SQLITE = ("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_IOERR")  # a full disk is an IOERR of many kinds where SQLite maps, syncs or cuts a file
_at: list[Path] = []  # the workspace that the verb works in, once it is known
HELD = 3
PAUSED = 130
NOTICED = "A service that is running takes notice within five seconds."
WorkspaceOption = Annotated[Path | None, typer.Option("--workspace", "-w", help="The workspace; else the one around the current folder.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable.")]


def _storable(words: str) -> str:
    """What a terminal gives that is no UTF-8 as text that can be stored."""
    from pipelines.layouts.found import as_text

    return as_text(words)


Who = Annotated[str, typer.Option("--who", help="Who decides.", callback=_storable)]
Why = Annotated[str, typer.Option("--why", help="The reason, for the journal.", callback=_storable)]


class Profile(StrEnum):
    """The three sizes of the same parameters."""

    FULL = "full"
    SMALL = "small"
    DEMO = "demo"


class RoleName(StrEnum):
    """What an account may do; each may do all that the one before may."""

    VIEWER = "viewer"
    REVIEWER = "reviewer"
    ENGINEER = "engineer"
    ADMIN = "admin"


class Format(StrEnum):
    """How scores are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class Layout(StrEnum):
    """How a source of media is laid out."""

    AUTO = "auto"
    FOLDER = "folder"
    CSV = "csv"
    JSON = "json"
    FACEFORENSICS = "faceforensics"
    CELEBDF = "celebdf"
    DFDC = "dfdc"
    WILDDEEPFAKE = "wilddeepfake"
    OPENFORENSICS = "openforensics"
    DEEPFAKEBENCH = "deepfakebench"
    DF40 = "df40"
    CELEBA = "celeba"


class Split(StrEnum):
    """Who says what of a published data set is for testing."""

    OFFICIAL = "official"
    OWN = "own"


def _version() -> str:
    import platform
    from importlib.metadata import version

    from workspace.format import FORMAT

    return f"vigil {version('vigil')}, workspace format {FORMAT}; Python {platform.python_version()}, torch {version('torch')}"


def _say_version(wanted: bool) -> None:
    if wanted:
        print(_version())
        raise typer.Exit


@app.callback()
def _of_all_verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which Vigil this is, for a report of a mistake.")
    ] = False,
) -> None:
    """What stands before a verb."""


def main() -> None:
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
        print("\nPaused. Run the same command again: cycles, trainings and evaluations go on where they stopped, anything else begins anew.", file=sys.stderr)
        sys.exit(PAUSED)
    except BrokenPipeError:
        sys.stderr.close()
        _drop_output()
        sys.exit(1)
    except OSError as problem:
        if problem.filename is None and _output_fails():
            _silent_output(problem)
        if problem.filename is None or _unwritable(problem):
            _unexpected(problem)
        unusable = VigilError(  # a path that a person named, as a rule
            f"Cannot use {problem.filename}.",
            why=problem.strerror or str(problem),
            next_step=f"Name a path that can be read and written, and is a file or a folder as the command asks. {_account()}".rstrip(),
        )
        print(unusable, file=sys.stderr)
        sys.exit(1)
    except Exception as problem:
        if hasattr(problem, "format_message"):  # a usage mistake, as the parser words it
            problem.show()  # type: ignore[attr-defined]
            sys.exit(2)
        _unexpected(problem)


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
        log.write_text(f"{_version()}\n{traceback.format_exc()}", encoding="utf-8")
    except OSError:  # a full disk, or a folder that is closed or gone, may be what is told of
        return ""
    return f"The full account is in {log}. "


def _unwritable(problem: BaseException | None) -> str:
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
    if why := _unwritable(problem):
        next_step = "Make room on the disk, or make it writable, and run the same command again; nothing that was finished is lost."
        print(VigilError("A file could not be written.", why=why, next_step=next_step), file=sys.stderr)
        sys.exit(1)
    print(f"Something unexpected went wrong: {type(problem).__name__}: {problem}\n  Why:  this is a mistake in Vigil, not in your data.", file=sys.stderr)
    print(f"  Next: {_account()}Run `vigil doctor`; nothing that was finished is lost.", file=sys.stderr)
    sys.exit(1)


def _root(workspace: Path | None) -> Path:
    from workspace.layout import require_workspace

    root = require_workspace(workspace or Path.cwd()).root
    _at.append(root)
    return root


def _goes_on(context: typer.Context, workspace: Path | None, as_json: bool) -> bool:
    """Whether a subcommand follows, which has options of its own. Raises a usage error for those in front of it, which it would not see."""
    if context.invoked_subcommand and (workspace is not None or as_json):
        raise typer.BadParameter(f"-w and --json go behind the subcommand: `{context.command_path} {context.invoked_subcommand} ... -w WORKSPACE`")
    return bool(context.invoked_subcommand)


def _settings(root: Path) -> Any:
    from workspace.settings import load_settings

    return load_settings(root / "params.yaml")


def _emit(value: Any, text: str, as_json: bool) -> None:
    print(jsonlib.dumps(value, indent=1, ensure_ascii=False, default=str) if as_json else text)


@app.command()
def init(
    folder: Annotated[Path | None, typer.Argument(help="Where the workspace goes; made if it is not there.", show_default=False)] = None,
    profile: Annotated[Profile, typer.Option(help="full: 224 px, ResNeXt-50; small: 112 px, a CPU's night; demo: minutes.")] = Profile.FULL,
    recipe: Annotated[
        str,
        typer.Option(
            help="Laid over the profile: adversarial, certainty, resnext-lstm, spatial-attention (a paper's); starter (of the starter model, over small)."
        ),
    ] = "",
    print_params: Annotated[bool, typer.Option("--print-params", help="Print the profile's complete settings and stop.")] = False,
) -> None:
    """Make a workspace: a folder with settings, versioned data, journal and models."""
    from workspace.profiles import compose_params

    if print_params:
        print(compose_params(profile.value, recipe), end="")
        return
    from vigil.opening import open_workspace

    target = folder or Path.cwd()
    made = open_workspace(target, profile.value, recipe)
    print(f"{'Opened' if made else 'Already open:'} workspace {target} (profile {_settings(target).profile}).")
    if not made:
        print("  Its settings stay as they are, whatever --profile and --recipe say: change them in params.yaml, or name a new folder.")
    named = shlex.quote(str(target))
    print(f"  Next: vigil ingest MEDIA -w {named}, then vigil retrain -w {named}")


@app.command()
def upgrade(
    workspace: WorkspaceOption = None, dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change.")] = False, as_json: JsonOption = False
) -> None:
    """Bring a workspace of an older Vigil up to this one; your settings stay. Safe to repeat."""
    from vigil.upgrading import upgrade_workspace
    from workspace.layout import require_workspace
    from workspace.upgrade import render_upgrade

    plan = upgrade_workspace(require_workspace(workspace or Path.cwd(), any_format=True).root, dry_run)
    _emit(plan.as_dict(), render_upgrade(plan, dry_run), as_json)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the clips go, beside those of an earlier run.")],
    people: Annotated[int, typer.Option(min=2, help="Rendered people.")] = 12,
    clips: Annotated[int, typer.Option(min=1, help="Real clips a person.")] = 1,
    fake: Annotated[
        list[str] | None,
        typer.Option(help="Fakes to make, as GENERATOR=CLIPS_A_PERSON (blendswap, upsampler, coarse_upsampler, fine_upsampler, smoother).", show_default=False),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.5, help="Length of a clip.")] = 1.5,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same people, same clips.")] = 0,
    first_person: Annotated[int, typer.Option(min=0, help="Number of the first person.")] = 0,
    workspace: Annotated[
        Path | None,
        typer.Option(
            "--workspace", "-w", help="A workspace: both people of a swap on one side of its split, else it leaves many swaps out.", show_default=False
        ),
    ] = None,
) -> None:
    """Render sample media: people who do not exist, real and forged, with a labels.csv."""
    from media.synthetic import make_sample_media
    from pipelines.sides import split_of
    from pipelines.stage import Progress
    from vigil.words import parse_fakes

    split = None if workspace is None else _settings(_root(workspace)).split
    report = make_sample_media(
        folder,
        people=people,
        clips_per_person=clips,
        seconds=seconds,
        seed=seed,
        fakes=parse_fakes(fake),
        first_person=first_person,
        group_of=None if split is None else cache(partial(split_of, split=split)),
        progress=Progress("sample"),
    )
    print(f"{folder}: {report.real} real and {report.fake} forged clips of {report.people} rendered people, and labels.csv.")
    print(f"  Next: vigil ingest {shlex.quote(f'{folder}/labels.csv')}{f' -w {shlex.quote(str(workspace))}' if workspace is not None else ''}")


@app.command()
def ingest(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Folders, CSV files or s3://bucket/prefix; none: the sources in params.yaml.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    layout: Annotated[Layout, typer.Option(help="auto recognises real/ and fake/<generator>/, tables, and the sets of docs/layouts.md.")] = Layout.AUTO,
    identity: Annotated[
        str, typer.Option(help="Who is in a file: column, folder, file, unknown, or pattern:REGEX.", show_default="column for a table, else file")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the source.", show_default="from the path")] = "",
    label_map: Annotated[
        list[str] | None, typer.Option("--label", help="What the source's own label means, e.g. --label 1=fake --label 0=real.", show_default=False)
    ] = None,
    columns: Annotated[list[str] | None, typer.Option("--column", help="What a table calls a column, e.g. --column path=filename.", show_default=False)] = None,
    split: Annotated[Split, typer.Option(help="own: divide a published data set by person, whatever its authors set aside for testing.")] = Split.OFFICIAL,
    as_json: JsonOption = False,
) -> None:
    """Take in what is new. Twice is the same as once."""
    from vigil.taking_in import ingest_sources, named_sources

    root = _root(workspace)
    named = named_sources(sources or [], layout.value, identity, name, label_map or [], columns, split.value)
    report = ingest_sources(root, _settings(root), named)
    _emit([part.as_dict() for part in report], "\n".join(line for part in report for line in part.lines()), as_json)
    raise typer.Exit(1 if any(part.problems for part in report) else 0)


@app.command()
def retrain(
    workspace: WorkspaceOption = None,
    scheduled: Annotated[bool, typer.Option("--scheduled", help="Run only if a week is due; for timers. One scheduled cycle a week.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Run a cycle though nothing is new.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run, and why.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Run one cycle: ingest, check, forge, train, judge, then promote or hold. Goes on where a stopped one ended."""
    from vigil.cycles import describe, describe_plan, run_cycle, would_run

    root = _root(workspace)
    settings = _settings(root)
    if dry_run:
        plan = would_run(root, settings, force)
        _emit(plan.as_dict(), describe_plan(plan.as_dict()), as_json)
        return
    outcome = run_cycle(root, settings, scheduled=scheduled, force=force)
    _emit(outcome, describe(outcome), as_json)
    raise typer.Exit(HELD if outcome["outcome"] == "held" else 0)


@app.command()
def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show what the loop decided, why, and what is next."""
    from vigil.reading import render_status, status_of

    root = _root(workspace)
    page = status_of(root, _settings(root))
    _emit(page, render_status(page), as_json)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Images, videos, or folders of them.")],
    workspace: WorkspaceOption = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a model (model.onnx, card.json) in place of the champion.", show_default=False)] = None,
    output: Annotated[
        Format, typer.Option("--format", help="table for people; csv: file,p_fake,verdict,frames,faces,model,reason; json: the same and more.")
    ] = Format.TABLE,
    mode: Annotated[str, typer.Option(help="dense, standard or fast.", show_default="as the model was trained")] = "",
    fpr: Annotated[
        float | None, typer.Option(help="False-positive rate to judge at: 0.005, 0.01, 0.02, 0.05, 0.1 or 0.2; says what it costs.", show_default="the card's")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say for each file how likely it is forged. p_fake: 1 means fake."""
    from vigil.scoring import score_files

    code = score_files(files, workspace, model, "json" if as_json else output.value, mode, fpr)
    raise typer.Exit(code)


@app.command()
def explain(
    file: Annotated[Path, typer.Argument(help="An image or a video.")],
    workspace: WorkspaceOption = None,
    model: Annotated[Path | None, typer.Option(help="Folder of a model in place of the champion.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Where the pictures go.")] = Path("explanation"),
    mode: Annotated[str, typer.Option(help="dense, standard or fast.", show_default="as the model was trained")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show why: heat over the face, a timeline, a short sentence."""
    from model.inference import LEARNED
    from vigil.explaining import explain_file

    page = explain_file(file, workspace, model, out, mode)
    note = f"\n  Note: {LEARNED}." if page["learned"] else ""
    _emit(page, f"{page['sentence']}{note}\n  {out}/: {', '.join(page['pictures'])}, explanation.json", as_json)


@app.command()
def evaluate(
    sources: Annotated[list[str], typer.Argument(help="Folders, tables or published sets on this disk, as `vigil ingest` takes them (docs/layouts.md).")],
    workspace: WorkspaceOption = None,
    model: Annotated[list[Path] | None, typer.Option(help="Folder of a model in place of the champion; may be repeated.", show_default=False)] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Every model on every source; without --model, all that were ever promoted.")] = False,
    layout: Annotated[Layout, typer.Option(help="How the source is laid out.")] = Layout.AUTO,
    identity: Annotated[
        str,
        typer.Option(
            help="Who is in a file, so that intervals draw people: column, folder, file, unknown, or pattern:REGEX.",
            show_default="as the source says, else file",
        ),
    ] = "",
    label_map: Annotated[
        list[str] | None, typer.Option("--label", help="What the source's own label means, e.g. --label 1=fake --label 0=real.", show_default=False)
    ] = None,
    columns: Annotated[list[str] | None, typer.Option("--column", help="What a table calls a column, e.g. --column path=filename.", show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Where predictions.csv and evaluation.json go.")] = Path("evaluation"),
    mode: Annotated[str, typer.Option(help="dense, standard or fast.", show_default="as the model was trained")] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on any labelled data set, with intervals; or models by data sets. Nothing enters the workspace."""
    from vigil.measuring import evaluate_cross, evaluate_source, measured_sources, render, render_cross
    from vigil.scoring import refuse_unknown_mode

    refuse_unknown_mode(mode)
    models, named = model or [], measured_sources(sources, layout.value, identity, label_map or [], columns or [])
    if cross or len(named) > 1 or len(models) > 1:
        found = evaluate_cross(named, workspace, models, out, mode, history=cross and not models)
        _emit(found, render_cross(found), as_json)
        raise typer.Exit(0 if all(cell["n"] for row in found["models"] for cell in row["cells"]) else HELD)
    found = evaluate_source(named[0], workspace, models[0] if models else None, out, mode)
    _emit(found, render(found), as_json)
    raise typer.Exit(0 if found["answered"]["n"] else HELD)


@app.command()
def compare(
    networks: Annotated[
        list[str] | None, typer.Argument(help="Backbones, r3d_18, or temporal:lstm|gru|transformer; else the usual ones.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    steps: Annotated[int, typer.Option(min=1, help="Of phase 1, for each network.")] = 1000,
    fit_steps: Annotated[int, typer.Option(min=1, help="Of phase 2, for each network.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings a network.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Train networks with the same recipe and budget on the last cycle's sets; AUC, accuracy, F1, size, time. Resumable."""
    from pipelines.compare import NAMES, means
    from pipelines.compare import compare as compare_networks
    from pipelines.stage import Progress
    from vigil.reading import render_compared

    root = _root(workspace)
    rows = compare_networks(root, _settings(root), networks or NAMES, steps, fit_steps, range(1, seeds + 1), Progress("compare"))
    _emit({"runs": rows, "networks": means(rows)}, render_compared(means(rows), rows[0]), as_json)


@app.command()
def search(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings to vary, e.g. train.lr; else all that can be.", show_default=False, metavar="[SETTING]...")
    ] = None,
    workspace: WorkspaceOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Finished trials in all; the first is params.yaml as it stands.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Of phase 1, for each trial.")] = 500,
    fit_steps: Annotated[int, typer.Option(min=1, help="Of phase 2, for each trial.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Try other settings on the last cycle's sets (Optuna), judged on validation; changes nothing. Resumable."""
    from pipelines.search import search as search_settings
    from pipelines.stage import Progress
    from vigil.reading import render_search

    root = _root(workspace)
    found = search_settings(root, _settings(root), trials, steps, fit_steps, settings, Progress("search"))
    _emit(found, render_search(found), as_json)


@app.command()
def report(
    cycle: Annotated[str, typer.Argument(help="A cycle such as 2026-W47.1; else the last.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the HTML page of a cycle and say where it is."""
    from vigil.reading import report_of

    root = _root(workspace)
    found = report_of(root, cycle)
    _emit(found, f"{found['cycle']}  {found['outcome'].upper()}  {found['reason']}\n  {found['report']}", as_json)


@app.command()
def schedule(
    workspace: WorkspaceOption = None,
    cron: Annotated[str, typer.Option(help="When to ask whether a cycle is due, as a cron line; every hour otherwise.", show_default=False)] = "",
) -> None:
    """Serve the weekly cycle as a Prefect deployment until stopped."""
    from flows.schedule import serve_schedule

    root = _root(workspace)
    serve_schedule(root, _settings(root), cron)


@app.command()
def serve(
    workspace: WorkspaceOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", show_default="from params.yaml")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="from params.yaml")] = None,
) -> None:
    """Answer detections over HTTP with the champion; uncertain ones become cases."""
    from feedback.serve import serve as run_server

    root = _root(workspace)
    settings = _settings(root)
    run_server(root, settings, host or settings.serve.host, settings.serve.port if port is None else port)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the demo's workspace goes; an earlier demo there is replaced, unless it runs.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other people.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Four weeks of the loop on sample media: promoted, a new forgery learned, a poisoned week held, promoted."""
    from vigil.demo import run_demo

    raise typer.Exit(run_demo(folder, seed, as_json))


@app.command()
def doctor(
    workspace: WorkspaceOption = None,
    fix: Annotated[bool, typer.Option("--fix", help="End orphans, close stale runs, remove stale locks, rebuild aliases, finish a commit.")] = False,
    push: Annotated[bool, typer.Option("--push", help="Send to the DVC remote what it lacks; with --remote, also what is damaged there.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch from the DVC remote what this clone lacks, and let its champion serve.")] = False,
    remote: Annotated[
        bool, typer.Option("--remote", help="Read every object on the DVC remote and compare its checksum; costs as much traffic as a full pull.")
    ] = False,
    clock_is_right: Annotated[
        bool, typer.Option("--clock-is-right", help="Weeks that a clock far ahead has used up count again from now on. Only once the clock is mended.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what a dead process left, and with --fix close it."""
    from vigil.mending import examine_and_fix, render_checks

    root = _root(workspace)
    rows, done = examine_and_fix(root, _settings(root), fix=fix, push=push, pull=pull, remote=remote, clock_is_right=clock_is_right)
    _emit({"checks": rows, "done": done}, render_checks(rows, done), as_json)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@audit_app.callback(invoke_without_command=True)
def audit(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Is the training set sane, and can the network learn it? Learns sixteen clips by heart; nothing is kept. `audit verify` looks at the audit trail."""
    if _goes_on(context, workspace, as_json):
        return
    from pipelines.audit import audit as audit_sets
    from pipelines.stage import Progress
    from vigil.reading import render_table

    root = _root(workspace)
    rows = audit_sets(root, _settings(root), Progress("audit"))
    figures = [{name: "-" if row[name] is None else f"{row[name]:.3f}" for name in ("value", "low")} for row in rows]
    shown = [row | told | {"bound": f"{row['bound']:g}"} for row, told in zip(rows, figures, strict=True)]
    _emit({"checks": rows}, render_table(shown), as_json)
    raise typer.Exit(0 if all(row["verdict"] != "fail" for row in rows) else HELD)


@audit_app.command("verify")
def audit_verify(
    expect: Annotated[
        str | None, typer.Option("--expect", help="A last hash that was noted earlier; it must still be in the trail.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the service's audit trail from its first entry; exit code 1 where it was changed, cut or reordered."""
    from vigil.proving import noted_hash, render_trail, verify_trail

    noted = "" if expect is None else noted_hash(expect)
    root = _root(workspace)
    found = verify_trail(root, _settings(root), noted)
    _emit(found, render_trail(found), as_json)
    raise typer.Exit(0 if found["whole"] else 1)


@app.command()
def erase(
    who: Who,
    why: Why,
    what: Annotated[
        list[str] | None,
        typer.Argument(help="A sample's sha256 (whatever source it came from), or a detection's id; or several.", show_default="all that was asked for"),
    ] = None,
    workspace: WorkspaceOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would go, and which tags would be lost; needs one WHAT.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase a sample or an upload for good, training data included: media, faces, fakes, DVC's copies. Says what cannot be."""
    from vigil.erasing import erase as erase_upload
    from vigil.erasing import render_erased, render_would_erase, would_erase

    named = [one.strip().lower() for one in what or []]  # PowerShell's Get-FileHash says a sha256 in capitals
    if dry_run and len(named) != 1:
        raise typer.BadParameter(f"--dry-run says of one sample or detection what would go: name {f'one, not {len(named)}' if named else 'it'}")
    root = _root(workspace)
    if dry_run:
        page = would_erase(root, _settings(root), named[0])
        _emit(page, render_would_erase(page), as_json)
        return
    found = erase_upload(root, _settings(root), named, who, why)
    _emit(found, render_erased(found), as_json)


@app.command("verify-report")
def verify_report(
    file: Annotated[Path, typer.Argument(help="A report as JSON.")],
    key: Annotated[str, typer.Option(help="The service's public key, 64 hex digits.", show_default="this workspace's")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is this signed report whole, and ours? Exit code 1 where it was changed, signed by another key, or no key is known to hold it to."""
    from vigil.proving import check_report, named_key, render_report
    from workspace.layout import find_workspace, require_workspace

    found_workspace = find_workspace(Path.cwd()) if workspace is None else require_workspace(workspace)
    found = check_report(file, None if found_workspace is None else found_workspace.root, named_key(key))
    _emit(found, render_report(found), as_json)
    raise typer.Exit(0 if found["trusted"] else 1)


@app.command()
def gc(
    workspace: WorkspaceOption = None,
    delete: Annotated[bool, typer.Option("--delete", help="Really delete; without it, only say what would go.")] = False,
    without_tag: Annotated[
        list[str] | None, typer.Option(help="Give the tag of this cycle up: what only it needs may go, and it cannot be restored then.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what everything costs in bytes, what may go and what stays, and why; remove what no tag, branch, batch or running cycle needs."""
    from vigil.garbage import collect, render_garbage

    root = _root(workspace)
    rows = collect(root, _settings(root), delete, without_tag or [])
    _emit(rows, render_garbage(rows, delete, without_tag or []), as_json)


@batches_app.callback(invoke_without_command=True)
def batches_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List batches with their state, who decided and why."""
    if not _goes_on(context, workspace, as_json):
        _list_batches(workspace, as_json)


@batches_app.command("list")
def batches_listed(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List batches with their state, who decided and why."""
    _list_batches(workspace, as_json)


@batches_app.command("show")
def batches_show(batch: str, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show what came in with a batch, what was put aside and why, what became of it, and which models learned from it."""
    from vigil.batches import batch_page, render_batch

    page = batch_page(_root(workspace), batch)
    _emit(page, render_batch(page), as_json)


def _list_batches(workspace: Path | None, as_json: bool) -> None:
    from vigil.reading import batch_rows, render_table

    rows = batch_rows(_root(workspace))
    _emit(rows, render_table(rows) if rows else "No batches yet. Next: vigil ingest MEDIA", as_json)


def _set_batch(batch: str, state: str, who: str, why: str, workspace: Path | None, again: bool = False) -> None:
    from vigil.deciding import set_batch_state

    print(set_batch_state(_root(workspace), batch, state, who, why, again))


@batches_app.command("accept")
def batches_accept(batch: str, who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Let a new, held or deferred batch into training from the next cycle on. Gates `label noise` and `drift` do not ask about it again: you have."""
    _set_batch(batch, "accepted", who, why, workspace)


@batches_app.command("hold")
def batches_hold(batch: str, who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Keep a batch out until a person decides. Of an unfinished cycle that judges it: the cycle is held, and the next `vigil retrain` ends it."""
    _set_batch(batch, "held", who, why, workspace)


@batches_app.command("drop")
def batches_drop(
    batch: str,
    who: Who,
    why: Why,
    again: Annotated[bool, typer.Option("--again", help="Let the next ingest take in what it holds, as its source says it by then.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Keep a batch out for good; its files stay versioned."""
    _set_batch(batch, "dropped", who, why, workspace, again)


@models_app.callback(invoke_without_command=True)
def models_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List models: which one serves, which came before, which were held."""
    if _goes_on(context, workspace, as_json):
        return
    from vigil.reading import model_rows, render_table

    rows = model_rows(_root(workspace))
    _emit(rows, render_table(rows) if rows else "No models yet. Next: vigil retrain", as_json)


@models_app.command("rollback")
def models_rollback(
    who: Who,
    why: Why,
    to: Annotated[str, typer.Option("--to", help="The cycle whose model serves again; else the previous champion.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Serve an earlier champion again, at once."""
    from vigil.deciding import roll_back

    root = _root(workspace)
    print(roll_back(root, _settings(root), to, who, why))


@models_app.command("bootstrap")
def models_bootstrap(who: Who, why: Why, workspace: WorkspaceOption = None) -> None:
    """Make the last model that was judged the first champion though gates hold it. Only where there is none yet; journalled with your name."""
    from vigil.deciding import bootstrap_first

    root = _root(workspace)
    print(bootstrap_first(root, _settings(root), who, why))


@models_app.command("import")
def models_import(
    source: Annotated[Path, typer.Argument(help="A model folder of Vigil, its model.safetensors, or an ONNX file of any detector (docs/import.md).")],
    who: Who,
    why: Why,
    words: Annotated[
        list[str] | None,
        typer.Option("--set", help="How an ONNX file wants to be asked, KEY=VALUE: says=p_fake, mean=[0.5,0.5,0.5]. May be repeated.", show_default=False),
    ] = None,
    card: Annotated[Path | None, typer.Option(help="The same keys in a YAML or JSON file.", show_default=False)] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a model that was made elsewhere as the first champion; later ones come through the gates."""
    from vigil.importing import import_model, render_import

    root = _root(workspace)
    found = import_model(root, _settings(root), source, words or [], card, who, why)
    _emit(found, render_import(found), as_json)


@models_app.command("diff")
def models_diff(
    cycles: Annotated[list[str] | None, typer.Argument(help="Two cycles, or `champion` and `previous`; else previous and champion.")] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """What two models learned from, how they were set, and how each did."""
    from vigil.differences import diff_models, names_of, render_diff

    root = _root(workspace)
    page = diff_models(root, *names_of(root, cycles or []))
    _emit(page, render_diff(page), as_json)


@models_app.command("override")
def models_override(
    gate: Annotated[str, typer.Argument(help="The gate's name, as the report shows it before a colon.")],
    who: Who,
    why: Why,
    days: Annotated[int, typer.Option("--days", min=1, max=31, help="For so long.")] = 7,
    workspace: WorkspaceOption = None,
) -> None:
    """Let cycles pass though one gate holds them, for some days. Journalled with your name."""
    from vigil.deciding import override_gate

    print(override_gate(_root(workspace), gate, who, why, days))


UserName = Annotated[str, typer.Argument(help="User name, or e-mail.")]


@users_app.callback(invoke_without_command=True)
def users_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List accounts with role and state."""
    if _goes_on(context, workspace, as_json):
        return
    from vigil.people import user_rows
    from vigil.reading import render_table

    root = _root(workspace)
    rows = user_rows(root, _settings(root))
    _emit(rows, render_table(rows) if rows else "No accounts yet. Next: vigil users add NAME --email ADDRESS --role admin", as_json)


users_app.command("list", help="List accounts with role and state.")(users_list)


@users_app.command("add")
def users_add(
    user_name: Annotated[str, typer.Argument(help="3 to 32 letters, digits, dots, dashes or underscores.")],
    email: Annotated[str, typer.Option(help="E-mail address.")],
    name: Annotated[str, typer.Option(help="The person's name.", show_default="the user name")] = "",
    role: Annotated[RoleName, typer.Option(help="What the account may do.")] = RoleName.VIEWER,
    workspace: WorkspaceOption = None,
) -> None:
    """Make an account. The password is asked for, or read from stdin."""
    from vigil.people import add_user, ask_password

    root = _root(workspace)
    settings = _settings(root)
    add_user(root, settings, user_name, name, email, role.value, ask_password())
    print(f"{user_name} can log in as {role.value}.")


@users_app.command("role")
def users_role(user_name: UserName, role: RoleName, workspace: WorkspaceOption = None) -> None:
    """Change what an account may do. The last admin stays one."""
    from vigil.people import govern_user

    root = _root(workspace)
    govern_user(root, _settings(root), user_name, role=role.value)
    print(f"{user_name} is now {role.value}.")


@users_app.command("disable")
def users_disable(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """End an account's sessions and let nobody log in to it."""
    from vigil.people import govern_user

    root = _root(workspace)
    govern_user(root, _settings(root), user_name, disabled=True)
    print(f"{user_name} is disabled. {NOTICED}")


@users_app.command("enable")
def users_enable(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """Let a disabled account log in again."""
    from vigil.people import govern_user

    root = _root(workspace)
    govern_user(root, _settings(root), user_name, disabled=False)
    print(f"{user_name} is enabled.")


@users_app.command("unlock")
def users_unlock(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """End a lock-out after wrong passwords."""
    from vigil.people import govern_user

    root = _root(workspace)
    govern_user(root, _settings(root), user_name, unlock=True)
    print(f"{user_name} is not locked.")


@users_app.command("password")
def users_password(user_name: UserName, workspace: WorkspaceOption = None) -> None:
    """Set a password; every session of the account ends. It is asked for, or read from stdin."""
    from vigil.people import ask_password, set_password

    root = _root(workspace)
    settings = _settings(root)
    set_password(root, settings, user_name, ask_password("New password: "))
    print(f"{user_name} has a new password.")


@keys_app.callback(invoke_without_command=True)
def keys_list(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """List API keys: whose, how they begin, when they were last used. Never their text."""
    if _goes_on(context, workspace, as_json):
        return
    from vigil.people import key_rows
    from vigil.reading import render_table

    root = _root(workspace)
    rows = key_rows(root, _settings(root))
    _emit(rows, render_table(rows) if rows else "No keys yet. Next: vigil keys add USER_NAME --name WHAT_FOR", as_json)


keys_app.command("list", help="List API keys: whose, how they begin, when they were last used.")(keys_list)


@keys_app.command("add")
def keys_add(
    user_name: UserName, name: Annotated[str, typer.Option(help="What it is for.")], workspace: WorkspaceOption = None, as_json: JsonOption = False
) -> None:
    """Make a key of an account; its text is printed this once."""
    from vigil.people import add_key

    root = _root(workspace)
    made = add_key(root, _settings(root), user_name, name)
    _emit(made, made["key"], as_json)


@keys_app.command("revoke")
def keys_revoke(key: Annotated[str, typer.Argument(help="Its id, or how it begins.")], workspace: WorkspaceOption = None) -> None:
    """End a key."""
    from vigil.people import revoke_key

    root = _root(workspace)
    revoke_key(root, _settings(root), key)
    print(f"{key} is revoked. {NOTICED}")


if __name__ == "__main__":
    main()
