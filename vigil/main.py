"""The command `vigil`: one verb a command. Rooms are imported inside the verb that needs them, so that --help is quick."""

import shlex
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from typing import Annotated

import typer

from vigil.ending import run, version_line
from vigil.groups import batches_app, keys_app, models_app, users_app
from vigil.options import HELD, Columns, JsonOption, Labels, Who, Why, WorkspaceOption, emit, goes_on, root_of, settings_of, storable
from workspace.choices import LayoutName, Profile, Split

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
audit_app = typer.Typer(help="Is the training set sane? And `audit verify`: is the audit trail whole?", no_args_is_help=False)
for group, its_name in ((batches_app, "batches"), (models_app, "models"), (users_app, "users"), (keys_app, "keys"), (audit_app, "audit")):
    app.add_typer(group, name=its_name)


class Format(StrEnum):
    """How scores are printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def _say_version(wanted: bool) -> None:
    if wanted:
        print(version_line())
        raise typer.Exit


@app.callback()
def _of_all_verbs(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say which Vigil this is, for a report of a mistake.")
    ] = False,
) -> None:
    """What stands before a verb."""


@app.command()
def init(
    folder: Annotated[Path | None, typer.Argument(help="Where the workspace goes; made if it is not there.", show_default=False)] = None,
    profile: Annotated[Profile, typer.Option(help="full: 224 px, ResNeXt-50; small: 112 px, a CPU's night; demo: minutes.")] = "full",
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
        print(compose_params(profile, recipe), end="")
        return
    from vigil.opening import open_workspace

    target = folder or Path.cwd()
    made = open_workspace(target, profile, recipe)
    print(f"{'Opened' if made else 'Already open:'} workspace {target} (profile {settings_of(target).profile}).")
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
    emit(plan.as_dict(), render_upgrade(plan, dry_run), as_json)


@app.command()
def sample(
    folder: Annotated[Path, typer.Argument(help="Where the clips go, beside those of an earlier run with this seed.")],
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
    from vigil.sampling import one_seed
    from vigil.words import parse_fakes

    split, fakes = None if workspace is None else settings_of(root_of(workspace)).split, parse_fakes(fake)
    with one_seed(folder, seed):
        report = make_sample_media(
            folder,
            people=people,
            clips_per_person=clips,
            seconds=seconds,
            seed=seed,
            fakes=fakes,
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
    layout: Annotated[LayoutName, typer.Option(help="auto recognises real/ and fake/<generator>/, tables, and the sets of docs/layouts.md.")] = "auto",
    identity: Annotated[
        str, typer.Option(help="Who is in a file: column, folder, file, unknown, or pattern:REGEX.", show_default="column for a table, else file")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the source.", show_default="from the path")] = "",
    label_map: Labels = None,
    columns: Columns = None,
    split: Annotated[Split, typer.Option(help="own: divide a published data set by person, whatever its authors set aside for testing.")] = "official",
    as_json: JsonOption = False,
) -> None:
    """Take in what is new. Twice is the same as once."""
    from vigil.taking_in import ingest_sources, named_sources

    root = root_of(workspace)
    named = named_sources(sources or [], layout, identity, name, label_map or [], columns, split)
    report = ingest_sources(root, settings_of(root), named)
    emit([part.as_dict() for part in report], "\n".join(line for part in report for line in part.lines()), as_json)
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
    from vigil.cycles import describe, describe_plan, rehearse, run_cycle

    root = root_of(workspace)
    settings = settings_of(root)
    if dry_run:
        plan = rehearse(root, settings, force)
        emit(plan.as_dict(), describe_plan(plan.as_dict()), as_json)
        return
    outcome = run_cycle(root, settings, scheduled=scheduled, force=force)
    emit(outcome, describe(outcome), as_json)
    raise typer.Exit(HELD if outcome["outcome"] == "held" else 0)


@app.command()
def status(workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Show what the loop decided, why, and what is next."""
    from vigil.reading import render_status, status_of

    root = root_of(workspace)
    page = status_of(root, settings_of(root))
    emit(page, render_status(page), as_json)


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(help="Images, videos, or folders of them.", readable=False)],  # one that is not has its row
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
    emit(page, f"{page['sentence']}{note}\n  {out}/: {', '.join(page['pictures'])}, explanation.json", as_json)


@app.command()
def evaluate(
    sources: Annotated[list[str], typer.Argument(help="Folders, tables or published sets on this disk, as `vigil ingest` takes them (docs/layouts.md).")],
    workspace: WorkspaceOption = None,
    model: Annotated[list[Path] | None, typer.Option(help="Folder of a model in place of the champion; may be repeated.", show_default=False)] = None,
    cross: Annotated[bool, typer.Option("--cross", help="Every model on every source; without --model, all that were ever promoted.")] = False,
    layout: Annotated[LayoutName, typer.Option(help="How the source is laid out.")] = "auto",
    identity: Annotated[
        str,
        typer.Option(
            help="Who is in a file, so that intervals draw people: column, folder, file, unknown, or pattern:REGEX.",
            show_default="as the source says, else file",
        ),
    ] = "",
    label_map: Labels = None,
    columns: Columns = None,
    out: Annotated[Path, typer.Option(help="Where predictions.csv and evaluation.json go.")] = Path("evaluation"),
    mode: Annotated[str, typer.Option(help="dense, standard or fast.", show_default="as the model was trained")] = "",
    as_json: JsonOption = False,
) -> None:
    """Measure a model on any labelled data set, with intervals; or models by data sets. Nothing enters the workspace."""
    from vigil.measuring import evaluate_cross, evaluate_source, measured_sources, render, render_cross
    from vigil.scoring import refuse_unknown_mode

    refuse_unknown_mode(mode)
    models, named = model or [], measured_sources(sources, layout, identity, label_map or [], columns or [])
    if cross or len(named) > 1 or len(models) > 1:
        found = evaluate_cross(named, workspace, models, out, mode, history=cross and not models)
        emit(found, render_cross(found), as_json)
        raise typer.Exit(0 if all(cell["n"] for row in found["models"] for cell in row["cells"]) else HELD)
    found = evaluate_source(named[0], workspace, models[0] if models else None, out, mode)
    emit(found, render(found), as_json)
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
    """Train networks from nothing, with the same recipe and budget, on the last cycle's sets; AUC, accuracy, F1, size, time. Resumable."""
    from pipelines.compare import NAMES, means
    from pipelines.compare import compare as compare_networks
    from pipelines.stage import Progress
    from vigil.reading import render_compared

    root = root_of(workspace)
    rows = compare_networks(root, settings_of(root), networks or NAMES, steps, fit_steps, range(1, seeds + 1), Progress("compare"))
    emit({"runs": rows, "networks": means(rows)}, render_compared(means(rows), rows[0]), as_json)


@app.command()
def search(
    settings: Annotated[
        list[str] | None, typer.Argument(help="Settings to vary, e.g. train.lr; else all that can be.", show_default=False, metavar="[SETTING]...")
    ] = None,
    workspace: WorkspaceOption = None,
    trials: Annotated[int, typer.Option(min=1, help="Finished trials in all; the first has the values of params.yaml.")] = 20,
    steps: Annotated[int, typer.Option(min=1, help="Of phase 1, for each trial.")] = 500,
    fit_steps: Annotated[int, typer.Option(min=1, help="Of phase 2, for each trial.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Try other settings on the last cycle's sets (Optuna), judged on validation; changes nothing.

    The same command goes on where it stopped. Other sets, SETTINGs to vary or steps begin a new study, and so does
    another value of what a training reads (model, augment, pretrain, train, faces, seed).

    No trial has attacks during training, hardened clips, distillation or the champion's weights: each learns from the drawn clips alone, as a first model does.
    """
    from pipelines.search import search as search_settings
    from pipelines.stage import Progress
    from vigil.reading import render_search

    root = root_of(workspace)
    found = search_settings(root, settings_of(root), trials, steps, fit_steps, settings, Progress("search"))
    emit(found, render_search(found), as_json)


@app.command()
def report(
    cycle: Annotated[str, typer.Argument(help="A cycle such as 2026-W47.1; else the last.")] = "",
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the HTML page of a cycle and say where it is."""
    from vigil.reading import report_of

    root = root_of(workspace)
    found = report_of(root, cycle)
    emit(found, f"{found['cycle']}  {found['outcome'].upper()}  {found['reason']}\n  {found['report']}", as_json)


@app.command()
def schedule(
    workspace: WorkspaceOption = None,
    cron: Annotated[str, typer.Option(help="When to ask whether a cycle is due, as a cron line; every hour otherwise.", show_default=False)] = "",
) -> None:
    """Serve the weekly cycle as a Prefect deployment until stopped."""
    from flows.schedule import serve_schedule

    root = root_of(workspace)
    serve_schedule(root, settings_of(root), cron)


@app.command()
def serve(
    workspace: WorkspaceOption = None,
    host: Annotated[str, typer.Option(help="Address to listen on.", show_default="from params.yaml")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="from params.yaml")] = None,
) -> None:
    """Answer detections over HTTP with the champion; uncertain ones become cases."""
    from feedback.serve import serve as run_server

    root = root_of(workspace)
    settings = settings_of(root)
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
    database_is_right: Annotated[
        bool, typer.Option("--database-is-right", help="The database named now is this workspace's, whatever either belonged to before.")
    ] = False,
    forget_media_place: Annotated[
        str, typer.Option(metavar="URL", help="A bucket where media were kept before is asked no more, whatever it holds.", show_default=False)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Find what a dead process left, and with --fix close it."""
    from vigil.mending import examine_and_fix, render_checks

    root = root_of(workspace)
    words = {"fix": fix, "push": push, "pull": pull, "remote": remote, "clock_is_right": clock_is_right, "database_is_right": database_is_right}
    rows, done = examine_and_fix(root, settings_of(root), **words, forget_media_place=forget_media_place)
    emit({"checks": rows, "done": done}, render_checks(rows, done), as_json)
    raise typer.Exit(0 if all(row["ok"] for row in rows) else 1)


@audit_app.callback(invoke_without_command=True)
def audit(context: typer.Context, workspace: WorkspaceOption = None, as_json: JsonOption = False) -> None:
    """Is the training set sane, and can the network learn it? Learns sixteen clips by heart; nothing is kept. `audit verify` looks at the audit trail."""
    if goes_on(context, workspace, as_json):
        return
    from pipelines.audit import audit as audit_sets
    from pipelines.stage import Progress
    from vigil.reading import render_table

    root = root_of(workspace)
    rows = audit_sets(root, settings_of(root), Progress("audit"))
    figures = [{name: "-" if row[name] is None else f"{row[name]:.3f}" for name in ("value", "low")} for row in rows]
    shown = [row | told | {"bound": f"{row['bound']:g}"} for row, told in zip(rows, figures, strict=True)]
    emit({"checks": rows}, render_table(shown), as_json)
    raise typer.Exit(0 if all(row["verdict"] != "fail" for row in rows) else HELD)


@audit_app.command("verify")
def audit_verify(
    expect: Annotated[
        str | None, typer.Option("--expect", help="A last hash that was noted earlier; it must still be in the trail.", show_default=False)
    ] = None,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the service's audit trail from its first entry; exit code 1 where it was changed, cut or reordered, or is not there."""
    from vigil.proving import noted_hash, render_trail, verify_trail

    noted = "" if expect is None else noted_hash(expect)
    root = root_of(workspace)
    found = verify_trail(root, settings_of(root), noted)
    emit(found, render_trail(found), as_json)
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

    named = [storable(one).strip().lower() for one in what or []]  # PowerShell's Get-FileHash says a sha256 in capitals
    if dry_run and len(named) != 1:
        raise typer.BadParameter(f"--dry-run says of one sample or detection what would go: name {f'one, not {len(named)}' if named else 'it'}")
    root = root_of(workspace)
    if dry_run:
        page = would_erase(root, settings_of(root), named[0])
        emit(page, render_would_erase(page), as_json)
        return
    found = erase_upload(root, settings_of(root), named, who, why)
    emit(found, render_erased(found), as_json)


@app.command("verify-report")
def verify_report(
    file: Annotated[Path | None, typer.Argument(help="A report as JSON.", show_default=False)] = None,
    key: Annotated[str, typer.Option(help="The service's public key, 64 hex digits.", show_default="this workspace's")] = "",
    print_key: Annotated[bool, typer.Option("--print-key", help="Only print this workspace's public key, for those who get its reports.")] = False,
    workspace: WorkspaceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Is this signed report whole, and ours? Exit code 1 where it was changed, signed by another key, or no key is known to hold it to."""
    from vigil.proving import check_report, named_key, render_report, report_key
    from workspace.layout import find_workspace, require_workspace

    if print_key:
        if file is not None or key:
            raise typer.BadParameter("--print-key looks at no report: name no FILE and no --key with it")
        found_key = report_key(root_of(workspace))
        emit(found_key, found_key["key"], as_json)
        return
    if file is None:
        raise typer.BadParameter("name the report FILE to verify, or --print-key")
    found_workspace = find_workspace(Path.cwd()) if workspace is None else require_workspace(workspace)
    found = check_report(file, None if found_workspace is None else found_workspace.root, named_key(key))
    emit(found, render_report(found), as_json)
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
    """Say what lies beside the data and models in use, in bytes, what of it may go and why; remove what no tag, branch, batch or running cycle needs."""
    from vigil.garbage import collect, render_garbage

    root = root_of(workspace)
    rows = collect(root, settings_of(root), delete, without_tag or [])
    emit(rows, render_garbage(rows, delete, without_tag or []), as_json)


def main() -> None:
    """The program `vigil`."""
    run(app)


if __name__ == "__main__":
    main()
