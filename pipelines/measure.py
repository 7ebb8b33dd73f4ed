"""Measure models on any labelled data set: nothing enters the workspace, nothing is chosen, everything can be recomputed.

Every file of the source gets a row in predictions.csv, those without a verdict too; of equal files only the first, with what the others say of it, and
none where their labels differ. evaluation.json holds each figure with
its cluster-bootstrap interval and n, overall, for stills and videos apart, and for each generator against all reals, and says what was
drawn: people only where somebody says who they are. The threshold is the one that the model was shipped with; a source never moves it.
"""

import csv
import sys
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipelines.ingest import DESCRIBED, OF_FAKES, identity_of
from pipelines.layouts import Found, Listing, read_layout
from pipelines.layouts.found import as_text
from pipelines.people import Shown
from pipelines.predictions import class_counts, rows_by_generator
from pipelines.seen import stamp_of
from workspace.errors import DataError
from workspace.files import CsvLines, add_row, atomic_file, rows_of, sha256_bytes, sha256_file, write_json
from workspace.manifest import LABELS
from workspace.settings import SourceSettings

if TYPE_CHECKING:
    import pandas as pd

    from model.card import ModelCard
    from model.inference import Engine
    from pipelines.scoring import Tell

ABOUT = ("label", "use", "generator", "identity", "source_video", "compression")
SAID = ("kind", "p_fake", "verdict", "frames", "faces", "model", "reason", "learned")
COLUMNS = ("file", *ABOUT, *SAID)
DRAWN = ("people", "source_videos", "files")  # what the intervals draw: the first that is known of a file
EVALUATE = "evaluate"  # what a source sets aside for testing; the rest of it is for training
RESAMPLES = 1000
AT_ONCE = 2  # files; decoding one overlaps the network's work on the other
ENDING = "\nEnding the files at work, which are kept: long videos take minutes. Ctrl-C again breaks them off: they are scored anew, and no other is."


@dataclass(frozen=True, slots=True)
class Labelled:
    """What of a source is measured, how many of its files are not, by why, and of a published set {title, counts {name: {found, published}}}."""

    source: SourceSettings
    files: list[Found]
    not_measured: dict[str, int]
    published: dict[str, Any]


def read_labelled(source: SourceSettings) -> Labelled:
    """The source's labelled files. Raises DataError when the layout does not fit, no file has a label, or it was to say who is in its files and does not."""
    listing = read_layout(source, Path(source.path))
    files, left_out = _once([replace(found, identity=_person(found, source, listing)) for found in listing.files])
    published = {"title": listing.card.title, "counts": listing.published} if listing.card else {}
    if not files:
        why = "every file is there under both labels" if left_out["two_labels"] else "no file that may be used has a label real or fake"
        raise DataError(f"Nothing in {source.path} can be measured.", why=why, next_step="Name a folder with real/ and fake/, or a CSV.")
    return Labelled(source, files, left_out | {"unlisted": listing.unlisted}, published)


def measure(
    engines: "Sequence[Engine]",
    labelled: Labelled,
    outs: Sequence[Path],
    mode: str | None = None,
    tell: "Tell | None" = None,
    journal: Path | None = None,
    mark: str = "",
) -> list[dict[str, Any]]:
    """Score the labelled files with each model, write its predictions.csv and evaluation.json into its folder of `outs`.

    Returns what each evaluation.json holds, `mark` among it: what people must know of who chose the models. A file is decoded once for all
    models that look at faces the same way, and not at all where `journal`, to which each is added as it is scored, or the journal of another
    evaluation beside it has what these very models said of it as it is.
    """
    for out in outs:
        out.mkdir(parents=True, exist_ok=True)  # before the hours of scoring, not after
    scored = _scored(engines, labelled.files, mode, tell, journal)
    return [_write(engine, [row[number] for row in scored], labelled, outs[number], mode, mark) for number, engine in enumerate(engines)]


def _once(files: list[Found]) -> tuple[list[Found], dict[str, int]]:
    """What is measured, a file a content as ingest takes them in, and how many were left out as which.

    Of equal files the first with a label stands; what it does not say, the others do, and the strictest `use` wins. None stands whose use is `never`,
    or where one content has two labels.
    """
    sizes = {found.path: stamp_of(found.path).bytes for found in files if not found.problem}
    together, of_labelled = Counter(sizes.values()), {sizes.get(found.path) for found in files if found.label in LABELS}
    same: dict[str, list[Found]] = {}
    for found in files:
        size = sizes.get(found.path, 0)
        shared = size and together[size] > 1 and size in of_labelled
        same.setdefault(_content(found.path) if shared else str(found.path), []).append(found)
    kept, left_out = list[Found](), dict.fromkeys(("copies", "two_labels", "unlabelled", "never"), 0)
    for equal in same.values():
        if any(found.use == "never" for found in equal):
            left_out["never"] += len(equal)
            continue
        labelled = [found for found in equal if found.label in LABELS]
        left_out["unlabelled"] += len(equal) - len(labelled)
        if len({found.label for found in labelled}) > 1:
            left_out["two_labels"] += len(labelled)
        elif labelled:
            left_out["copies"] += len(labelled) - 1
            kept.append(_joined(labelled[0], equal))
    return kept, left_out


def _joined(first: Found, equal: Sequence[Found]) -> Found:
    """A file with what those that are equal to it say besides."""
    names = (*DESCRIBED, *(OF_FAKES if first.label == "fake" else ()))
    said: dict[str, Any] = {name: next((word for found in (first, *equal) if (word := getattr(found, name))), "") for name in names}
    return replace(first, **said, use=EVALUATE if any(found.use == EVALUATE for found in equal) else first.use)


def _content(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return str(path)


def _write(engine: "Engine", rows: list[dict[str, Any]], labelled: Labelled, out: Path, mode: str | None, mark: str) -> dict[str, Any]:
    """One model's predictions.csv and evaluation.json."""
    unknown = [_why_unknown(row, engine.card, mode) for row in rows]
    rows = [{**row, "learned": None if why else row["learned"]} for row, why in zip(rows, unknown, strict=True)]
    trained_it = sum((row["learned"] or 0) > 0 for row in rows)
    with atomic_file(out / "predictions.csv") as handle:
        writer = csv.DictWriter(CsvLines(handle), COLUMNS)
        writer.writeheader()
        writer.writerows({**row, "p_fake": "" if row["p_fake"] is None else repr(float(row["p_fake"]))} for row in rows)  # all digits: order is AUC
    report = {
        "source": as_text(labelled.source.path),
        "model": engine.model_id,
        "mark": mark,
        "threshold": engine.card.threshold,
        "mode": mode or engine.card.faces.mode,
        **figures(rows, engine.card.threshold),
        "no_verdict": _reasons(rows),
        "learned": None if any(unknown) and not trained_it else trained_it,
        "learned_unknown": next(filter(None, unknown), ""),
        "not_measured": labelled.not_measured,
        "published": labelled.published,
    }
    write_json(out / "evaluation.json", report)
    return report


def _person(found: Found, source: SourceSettings, listing: Listing) -> str:
    """Who is in the file, as `ingest` has it by the source's rule; '' where all that is known is the file itself."""
    if source.identity.rule == "column" and not listing.names_people:
        raise DataError(
            f"Source {source.name} does not say who is in its files.", why="identity rule `column` needs a column `identity`",
            next_step="Add the column, or choose another rule: folder, pattern, file or unknown.",
        )  # fmt: skip
    if source.identity.rule in ("", "file") and not listing.names_people:
        return ""  # no name is made up: what is drawn is then the source video or the file, and is called so
    return identity_of(found, source.identity, listing.names_people, "")


def _why_unknown(row: dict[str, Any], card: "ModelCard", mode: str | None) -> str:
    """Why nobody can say whether this file trained the model, '' where that is known: clips are told by their pixels, as the card lists them."""
    if row["learned"]:
        return ""
    if not card.train_clips:
        return "the model's card lists no training clips"
    if row["p_fake"] is None:
        return ""
    if mode in (None, card.faces.mode) or row["kind"] == "image":  # a still gives the same clip in every mode
        return ""
    return f"looked at in mode {mode}, and trained in mode {card.faces.mode}, whose clips are others"


def _scored(engines: "Sequence[Engine]", files: list[Found], mode: str | None, tell: "Tell | None", journal: Path | None) -> list[list[dict[str, Any]]]:
    """Of each file a row a model. Ctrl-C waits for the files at work, and they are noted as the others."""
    from model.inference import score_file_with

    asked = [_asked(engine, mode) for engine in engines]
    named = dict(zip(asked, engines, strict=True))
    known = {(row["by"], row["path"], row["stamp"]): row["said"] for row in _noted(journal) if row["by"] in named}
    noting = Lock()
    if before := len({path for _, path, _ in known} & {str(found.path.absolute()) for found in files}):
        print(f"Going on with what was scored before: {before} of {len(files)} files. Those that have changed since are scored again.", file=sys.stderr)

    def one(found: Found) -> list[dict[str, Any]]:
        about = {"file": found.name} | {name: getattr(found, name) for name in ABOUT}
        if found.problem:
            nothing = {"kind": "", "p_fake": None, "verdict": "none", "frames": 0, "faces": 0, "learned": 0, "reason": found.problem}
            return [about | nothing | {"model": engine.model_id} for engine in engines]
        stamp = stamp_of(found.path)
        at = {"path": str(found.path.absolute()), "stamp": f"{stamp.bytes} {stamp.stamp}"}
        missing = [by for by in named if (by, *at.values()) not in known]
        answers = score_file_with([named[by] for by in missing], found.path, mode)
        new = {by: {name: getattr(said, name) for name in SAID} for by, said in zip(missing, answers, strict=True)}
        for by, said in new.items():
            if journal and said["kind"]:  # what could not be read may be readable next time
                with noting:
                    add_row(journal, {"by": by, **at, "said": said})
        return [about | (new.get(by) or known[by, at["path"], at["stamp"]]) for by in asked]

    rows = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            for number, row in enumerate(pool.map(one, files), start=1):
                rows.append(row)
                if tell:
                    tell(number, len(files), "files scored")
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            print(ENDING, file=sys.stderr)
            raise
    return rows


def _noted(journal: Path | None) -> Iterator[dict[str, Any]]:
    """What evaluations into this folder scored whose figures are not there yet. One that ends meanwhile has no more use for its own."""
    for path in sorted(journal.parent.glob("scored*.jsonl")) if journal else ():
        with suppress(FileNotFoundError):
            yield from rows_of(path)


def _asked(engine: "Engine", mode: str | None) -> str:
    """A name for who says what of a file: it changes with the model, with all that its card says, with the mode and with the version of Vigil."""
    return sha256_bytes(f"{version('vigil')} {mode} {engine.card!r}".encode())


def figures(rows: Iterable[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """`overall`, `by_use`, `by_kind`, `by_generator` (its fakes against all reals) of rows with file, ABOUT, kind and p_fake.

    `by_use` holds `evaluate` and `train` where the rows are of both, each with how many of its rows have p_fake (`n` and `of`) and how many are known to
    have trained the model (`learned`).

    Rows without p_fake are left out and counted in `answered`. Videos of one person, or else of one source video, stand and fall together in the
    intervals, and a file without a name is of the person in the video that it was made of; `drawn` counts how many files were drawn by each of these, and
    `over` is the weakest of them, '' where fewer than two could be drawn and no figure has an interval. `verdicts` counts what was said of each class: a
    figure at the threshold calls fake what the verdict may call uncertain.
    """
    import pandas as pd

    everything = pd.DataFrame(list(rows))
    table = everything[everything["p_fake"].notna()].copy()
    table["p_fake"] = table["p_fake"].astype(float)
    shown = Shown()
    shown.learn(_about(row) for row in everything.to_dict("records"))
    drawn = [_drawn(_about(row), shown) for row in table.to_dict("records")]
    by = [name for name, _ in drawn]
    table["cluster"] = [f"{name == 'people'} {cluster}" for name, cluster in drawn]  # a real that its fakes name is one with them
    for_test = everything["use"] == EVALUATE
    uses = {EVALUATE: everything[for_test], "train": everything[~for_test]} if for_test.any() and not for_test.all() else {}
    over = next(name for name in reversed(DRAWN) if name in by) if table["cluster"].nunique() > 1 else ""
    return {
        "answered": {"n": len(table), "of": len(everything), **class_counts(table)},
        "drawn": {"over": over} | {name: by.count(name) for name in DRAWN},
        "verdicts": {str(label): dict(sorted(Counter(part["verdict"]).items())) for label, part in everything.groupby("label")},
        "overall": _figures(table, threshold),
        "by_use": {name: _of_part(part) | _figures(table.loc[table.index.isin(part.index)], threshold) for name, part in uses.items()},
        "by_kind": {str(kind): _figures(part, threshold) for kind, part in table.groupby("kind")},
        "by_generator": {name: _figures(part, threshold) for name, part in rows_by_generator(table).items()},
    }


def _of_part(rows: "pd.DataFrame") -> dict[str, int]:
    return {"n": int(rows["p_fake"].notna().sum()), "of": len(rows), "learned": sum((count or 0) > 0 for count in rows["learned"])}


def _about(row: "Mapping[Hashable, Any]") -> dict[str, str]:
    return {"path": row["file"], "identity": row["identity"], "source_video": row["source_video"]}


def _drawn(row: dict[str, str], shown: Shown) -> tuple[str, str]:
    """With whom or what a file is drawn, one of DRAWN and its name: a person, as the sets and the gates count, else the video that it was made of."""
    person = shown.person(row)
    return ("people", person) if person else ("source_videos" if row["source_video"] else "files", shown.video(row))


def _figures(table: "pd.DataFrame", threshold: float) -> dict[str, Any]:
    from model.intervals import summarise_with_intervals

    counts = class_counts(table)
    if table.empty:
        return counts
    found = summarise_with_intervals(table["label"], table["p_fake"], table["cluster"], threshold, resamples=RESAMPLES)
    return counts | {name: interval.as_dict() for name, interval in found.items()}


def _reasons(rows: list[dict[str, Any]]) -> dict[str, int]:
    return dict(sorted(Counter(row["reason"] for row in rows if row["p_fake"] is None).items()))
