"""Draw this cycle's training clips and the frozen panels: batches and cycle.yaml in, train / validation / holdout tables out.

Cost follows the budget: of the history only the index rows without landmarks are read; landmarks come for what was drawn. The
leak check reads the finished tables and knows nothing of how they were made (pipelines/leaks.py).
"""

import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.draw import draw_balanced, in_rotation, panel, shuffled
from pipelines.leaks import find_leaks
from pipelines.rows import rows_of
from pipelines.sides import JUDGED, OTHER_DONOR, SIDES, Sides, decide_sides, looks_of, only_standing, split_of, standing
from pipelines.stage import stage_main
from workspace.cycle import Cycle
from workspace.errors import DataError, TooLittleData
from workspace.files import atomic_file, read_json, write_json
from workspace.for_review import UNLABELLED, erased_path, is_erased, is_unlabelled
from workspace.journal import Event, Journal
from workspace.manifest import composed, read_manifest
from workspace.naming import Paths, learning_order, still_said
from workspace.settings import BudgetSettings, Settings, SplitSettings
from workspace.state import batch_states, came_from

__all__ = ["draw_panel", "draw_training", "run", "split_of"]

Row = dict[str, Any]
SAID = ("sample_id", "source", "path", "use", "identity", "donor", "source_video", "duplicate_of", "looks")  # of the rows of a batch that is in no set now
ENOUGH_FAKES = 2  # reals a collected fake, at most, where no forgery needs to stand in
NOT_FORGED_FROM = "forged from a sample that is not used"
NOT_ARRIVED = "its forger arrives later"
LEARNED = "the champion, or a model that it came from, has learned its person or a copy of it"
FORGED_TO_TRAIN = "forged as somebody to train on, who is judged since"


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write data/sets/{train,validation,holdout,unlabelled}.parquet and report.json; returns the report. Safe to repeat.

    Raises DataError when a batch's faces are missing, TooLittleData when there is no real or no fake clip to train on, or no real one to validate with.
    """
    events = Journal(root).events()
    batches = learning_order(events, cycle.batches)
    samples = {batch: _samples(root, batch) for batch in batches}
    ever = _with_others(root, events, samples)
    video_of = _name_as_first(ever)
    stands = standing(samples)
    rows_that_stand = dict(zip(samples, only_standing(samples, stands), strict=True))
    sides = decide_sides([rows_that_stand.get(batch, []) for batch in ever], settings.split, said=list(ever.values()))
    clips = [row for batch in batches for row in _clips(root, f"data/faces/{batch}", batch) if stands.get(row["sample_id"]) == batch]
    collected = [row for row in clips if row["sample_id"] in sides.of_sample]
    standing_samples = [sample for batch in batches for sample in samples[batch] if stands[sample["sample_id"]] == batch]
    nameless = {sample["sample_id"] for sample in standing_samples if is_unlabelled(sample)}
    unlabelled = [row for row in clips if row["sample_id"] in nameless]
    every = [row for batch in batches for row in _clips(root, f"data/forged/{batch}", batch)]
    for row in (*clips, *every):
        row["source_video"] = video_of(row, row["batch"])
    paths = {sample["sample_id"]: sample["path"] for sample in standing_samples}
    named = {composed(sample["source_video"]) for sample in standing_samples} - {""}  # a real video that its fakes name is one with them
    earlier = [one for batch in batches if batch not in cycle.judged for one in samples[batch]]
    known = {one["sample_id"]: one["label"] for one in earlier if one["label"] and not one["quarantine"]}
    for row in (*clips, *every):
        row["split"], row["new"] = sides.of_sample.get(row["sample_id"], UNLABELLED), row["batch"] in cycle.judged
        said = {name: row[name] for name in ("identity", "source_video")} | {"path": paths[row["sample_id"]]}
        of_video = row["source_video"] or composed(said["path"]) in named
        row["cluster"] = sides.shown.person(said) or (sides.shown.video(said) if of_video else row["sample_id"])
        row["corrects"] = bool(row["new"] and row["label"] and not row["forger"] and known.get(row["sample_id"], row["label"]) != row["label"])
        row["unit"] = row["sample_id"] + (f"+{row['forger']}" if row["forger"] else "")
    looks = {sample["sample_id"]: looks_of(sample) for sample in standing_samples}
    if taught := _taught(root, events, cycle, (*clips, *every), looks):
        for row in collected:
            if row["split"] != "train" and taught & _shows(row, looks):
                sides.of_sample.pop(row["sample_id"], None)
                sides.excluded[row["sample_id"]] = LEARNED
        collected = [row for row in collected if row["sample_id"] in sides.of_sample]
    made = [row for row in every if row["forger"] not in cycle.waiting_forgers]
    forged_excluded = Counter({NOT_ARRIVED: len(every) - len(made)} if len(made) < len(every) else {})
    forged = _usable_forged(made, collected, sides, settings.split, _forged_as_judged(root, batches), forged_excluded)
    tables: dict[str, list[Row]] = {"train": draw_training(collected, forged, settings.budget, cycle)}
    tables |= {side: draw_panel([*collected, *forged], side, batches, cycle, settings) for side in JUDGED}
    _refuse_hopeless(tables["train"], tables["validation"])
    report = _report(cycle, tables, sides, forged_excluded, find_leaks(tables, looks, paths))
    tables[UNLABELLED] = draw_panel(unlabelled, UNLABELLED, batches, cycle, settings)  # for drift alone
    report["unlabelled"] = {"videos": len(nameless), "drawn": len({row["unit"] for row in tables[UNLABELLED]})}
    out = root / "data" / "sets"
    shutil.rmtree(out, ignore_errors=True)
    for side, rows in tables.items():
        _write_table(root, out / f"{side}.parquet", rows)
    write_json(out / "report.json", report)
    came_in = {sample["sample_id"] for batch in cycle.judged for sample in samples[batch]}
    all_forged = all(row["forger"] for row in tables["train"] if row["label"] == "fake")
    if settings.pretrain.pairs and all_forged and report["balance"]["paired_part"] < 1:
        told = f"{_paired(tables['train'])} of {report['balance']['real']} reals to train on have a fake of their own"
        print(f"  assemble  {told}: forge.max_clips and forge.fakes_per_real say how many do", file=sys.stderr, flush=True)
    if left_out := Counter(why for sample_id, why in sides.excluded.items() if sample_id in came_in):
        reasons = ", ".join(f"{number} x {why}" for why, number in sorted(left_out.items()))
        print(f"  assemble  of what came in is left out: {reasons}", file=sys.stderr, flush=True)
    return report


def _taught(root: Path, events: Sequence[Event], cycle: Cycle, rows: Iterable[Row], looks: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    """What the clips show that the base, or a model that it came from, has seen in training, as far as their cards are here: what `_shows` of them all.

    A batch that was dropped, perhaps to come in again under other names, or a row that was erased, takes with it what kept its people and its recordings on
    their side. The rows are also those that are left out now, for whatever reason: what was learned stays learned.
    """
    cards = [root / "models" / name / "card.json" for name in (cycle.base_cycle, *came_from(events, cycle.base_cycle)) if name]
    learned = {clip for card in cards if card.is_file() for clip in read_json(card).get("train_clips", ())}
    return {shown for row in rows if row["sha256"] in learned for shown in _shows(row, looks)}


def _shows(row: Row, looks: Mapping[str, Sequence[str]]) -> set[tuple[str, str]]:
    """Whom a clip shows, by cluster, whose face it has, and which recording: a copy may have come in under another name."""
    people = {("person", name) for name in (row["cluster"], composed(row["donor"])) if name}
    return people | {("look", look) for look in looks[row["sample_id"]]}


def _with_others(root: Path, events: Sequence[Event], samples: Mapping[str, Sequence[Row]]) -> dict[str, Sequence[Row]]:
    """The batches with what is `still_said` by those that are in no set now, as they were learned.

    Whether such a one is on hold, deferred, dropped, or came in since, tells nothing of whom its files show: what a person decides about it moves nobody.
    """
    every = dict(samples)
    for batch in batch_states(events).keys() - samples.keys():
        folder = root / "data" / "raw" / batch
        if (folder / "manifest.parquet").is_file():
            every[batch] = rows_of(read_manifest(folder)[list(SAID)])
    return still_said(events, every)


def _name_as_first(samples: Mapping[str, Sequence[Row]]) -> Callable[[Row, str], str]:
    """Call files and source videos as `Paths` says, each content as the batch that brought it first; returns what the source video of a batch's row is called.

    The row of an answer is named by its hash, and comes from another source: fakes that name the file would not know it by that. Nor would they where a
    content came in under one path without a label, and is labelled under another.
    """
    paths = Paths(samples)
    first: dict[str, str] = {}  # by content: its path
    for rows in samples.values():
        for row in rows:
            if not is_erased(row):  # whose path is what says so
                first.setdefault(row["sample_id"], row["path"])

    def path_of(content: str, otherwise: str = "") -> str:
        if content not in first:
            return erased_path(content) if content in paths.erased else otherwise
        return paths.called(first[content], content)

    def video_of(row: Row, batch: str) -> str:
        return path_of(paths.made_of(row, batch), row["source_video"])

    for batch, rows in samples.items():
        for row in rows:
            row["source_video"] = video_of(row, batch)
            if not is_erased(row):
                row["path"] = path_of(row["sample_id"])
    return video_of


def draw_training(collected: Sequence[Row], forged: Sequence[Row], budget: BudgetSettings, cycle: Cycle) -> list[Row]:
    """The training rows with their `role`: new clips, replay, and forged clips made from the real ones among them.

    A part `forged_fraction` of all is newly forged by the cycle's forgers in rotation. Where a batch brought fewer fakes than half of its reals (whatever of
    both is drawn), forged clips of its drawn reals stand in for those that are missing, in proportion: all of them where it brought no fake at all
    (`forge.fakes_per_real` says how many were made). These count towards that part. Where a cycle brings nothing new to train on (other settings,
    `--force`), replay has the places of the new too: a network of another shape starts from nothing, and would compete with a champion that had all of them.

    Each number of batches has a draw of its own: by one order for all cycles, replay would show what was once drawn as new, and never anything else.
    """
    seed = cycle.seed + len(cycle.batches) - 1
    mine = [row for row in collected if row["split"] == "train"]
    fresh = draw_balanced((row for row in mine if row["new"]), budget.new_clips, seed)
    places = budget.replay_clips + (0 if fresh else budget.new_clips)
    replay = draw_balanced((row for row in mine if not row["new"]), places, seed)
    drawn = {row["clip_id"]: row for row in (*fresh, *replay)}
    candidates = shuffled((row for row in forged if row["split"] == "train" and row["source_clip"] in drawn), seed)
    real, fake = (Counter(row["batch"] for row in mine if row["label"] == label) for label in ("real", "fake"))
    used: Counter[str] = Counter()  # of many small batches each would begin with the same forgers
    chosen: dict[str, Row] = {}
    for batch, reals in real.items():
        made = [row for row in candidates if row["batch"] == batch]
        standing_in = round(len(made) * max(0.0, 1 - ENOUGH_FAKES * fake[batch] / reals))
        stand_ins = in_rotation(made, lambda row: (used[row["forger"]], row["forger"]))[:standing_in]
        used.update(row["forger"] for row in stand_ins)
        chosen |= {row["clip_id"]: row for row in stand_ins}
    wanted = round(budget.forged_fraction / (1 - budget.forged_fraction) * len(drawn)) if budget.forged_fraction < 1 else len(candidates)
    rest = [row for row in candidates if row["clip_id"] not in chosen and (not cycle.drawn_forgers or row["forger"] in cycle.drawn_forgers)]
    turn = {forger: place for place, forger in enumerate(cycle.drawn_forgers)}  # where there are fewer places than forgers, the first have them
    newly = in_rotation(rest, lambda row: (turn.get(row["forger"], 0), row["forger"]))[: max(0, wanted - len(chosen))]
    roles = [(fresh, "new"), (replay, "replay"), ([*chosen.values(), *newly], "forged")]
    return sorted(({**row, "role": role} for rows, role in roles for row in rows), key=lambda row: row["clip_id"])


def draw_panel(rows: Iterable[Row], side: str, batches: Sequence[str], cycle: Cycle, settings: Settings) -> list[Row]:
    """The evaluation rows of a side: the frozen panel of accepted batches, and beside it, at most as large a slice, what the judged ones bring."""
    mine = [{**row, "role": ""} for row in rows if row["split"] == side]
    cap, key = settings.budget.evaluation_clips_per_slice, settings.split.key
    frozen = panel((row for row in mine if not row["new"]), batches, cap, key)
    return sorted([*frozen, *panel((row for row in mine if row["new"]), batches, cap, key)], key=lambda row: row["clip_id"])


def _usable_forged(
    forged: Iterable[Row],
    collected: Iterable[Row],
    sides: Sides,
    split: SplitSettings,
    forged_as_judged: Mapping[str, set[str]],
    excluded: Counter[str],
) -> list[Row]:
    """Forged clips whose source is used and whose donor stands on the same side, the donor's sample and the donor as a person.

    `forged_as_judged`: of each batch that tells the samples that its forgers knew to be judged. Who is judged since, by what another batch says of
    a person, is judged without these fakes.
    """
    side_of_clip = {(row["batch"], row["clip_id"]): sides.of_sample[row["sample_id"]] for row in collected}
    usable = []
    for row in forged:
        side = side_of_clip.get((row["batch"], row["source_clip"]))
        judged = forged_as_judged.get(row["batch"])
        if side is None:
            excluded[NOT_FORGED_FROM] += 1
        elif side != "train" and judged is not None and row["sample_id"] not in judged:
            excluded[FORGED_TO_TRAIN] += 1  # a forger that learned has seen the face, and the clips of the video met several
        elif row["donor_clip"] and (
            side_of_clip.get((row["batch"], row["donor_clip"])) != side or (row["donor"] and sides.of_person(row["donor"], split) != side)
        ):
            excluded[OTHER_DONOR] += 1
        else:
            usable.append(row)
    return usable


def _forged_as_judged(root: Path, batches: Iterable[str]) -> dict[str, set[str]]:
    found = {}
    for batch in batches:
        path = root / "data" / "forged" / batch / "report.json"
        if path.is_file() and (judged := read_json(path).get("judged")) is not None:  # what an earlier Vigil forged does not say
            found[batch] = set(judged)
    return found


def _samples(root: Path, batch: str) -> list[Row]:
    path = root / "data" / "faces" / batch / "report.json"
    try:
        samples: list[Row] = read_json(path)["samples"]
    except (OSError, ValueError, KeyError) as problem:
        raise _missing(f"The faces of batch {batch}", path, problem) from problem
    return samples


def _clips(root: Path, store: str, batch: str) -> list[Row]:
    import pyarrow.parquet

    path = root / store / "index.parquet"
    try:
        columns = [name for name in pyarrow.parquet.read_schema(path).names if name != "landmarks"]
        rows: list[Row] = pyarrow.parquet.read_table(path, columns=columns).to_pylist()
    except (OSError, ValueError) as problem:
        raise _missing(f"The clips of batch {batch}", path, problem) from problem
    for row in rows:
        row["store"] = store
    return rows


def _missing(what: str, path: Path, problem: Exception) -> DataError:
    return DataError(f"{what} are missing.", why=f"{path}: {problem}", next_step="Run `vigil retrain` again, or `vigil doctor --pull`.")


def _write_table(root: Path, path: Path, rows: Sequence[Row]) -> None:
    """Write the rows with their landmarks, in order of clip_id; the same rows give the same bytes."""
    import pyarrow
    import pyarrow.parquet

    from media.shards import CLIP_SCHEMA, landmarks_of

    wanted: dict[str, list[str]] = {}
    for row in rows:
        wanted.setdefault(row["store"], []).append(row["clip_id"])
    landmarks: dict[str, bytes] = {}
    for store, clip_ids in wanted.items():
        landmarks |= landmarks_of(root / store, clip_ids)
    text = [(name, pyarrow.string()) for name in ("store", "split", "role", "unit", "cluster")]
    schema = pyarrow.schema([*CLIP_SCHEMA, *text, *((name, pyarrow.bool_()) for name in ("new", "corrects"))])
    full = pyarrow.Table.from_pylist([{**row, "landmarks": landmarks[row["clip_id"]]} for row in rows], schema=schema)
    with atomic_file(path, "wb") as handle:
        pyarrow.parquet.write_table(full, handle, compression="zstd")


def _refuse_hopeless(train: Sequence[Row], validation: Sequence[Row]) -> None:
    more = "Ingest more media (`vigil ingest`), or look at what was left out in data/faces/<batch>/report.json."
    missing = [label for label in ("real", "fake") if not any(row["label"] == label for row in train)]
    if missing:
        raise TooLittleData(
            f"There is no {' and no '.join(missing)} clip to train on. Nothing was written.",
            why="no sample with this label has a face, may be used for training, and belongs to a person of the training side",
            next_step=more,
        )
    if not any(row["label"] == "real" for row in validation):
        raise TooLittleData(
            "There is no real clip to set the threshold with. Nothing was written.",
            why="no real sample with a face belongs to a person of the validation side; samples of people unknown only train",
            next_step=more,
        )


def _paired(train: Sequence[Row]) -> int:
    """How many of the reals have a fake of their own among the training rows."""
    forged_from = {row["source_clip"] for row in train if row["forger"]}
    return sum(row["label"] == "real" and row["clip_id"] in forged_from for row in train)


def _report(cycle: Cycle, tables: Mapping[str, Sequence[Row]], sides: Sides, forged_excluded: Mapping[str, int], leaks: list[dict[str, Any]]) -> dict[str, Any]:
    train = tables["train"]
    fake = sum(row["label"] == "fake" for row in train)
    real = len(train) - fake

    def tally(rows: Iterable[Row], word: Callable[[Row], str]) -> dict[str, int]:
        return dict(sorted(Counter(word(row) for row in rows).items()))

    return {
        "cycle": cycle.cycle,
        "counts": {
            side: {
                "clips": len(rows), "units": len({row["unit"] for row in rows}), "people": len({row["cluster"] for row in rows}),
                "new": sum(row["new"] for row in rows),
                "label": tally(rows, lambda row: row["label"]), "generator": tally(rows, lambda row: row["generator"] or row["label"]),
                "origin": tally(rows, lambda row: row["origin"]), "role": tally(rows, lambda row: row["role"]), "batch": tally(rows, lambda row: row["batch"]),
            }
            for side, rows in tables.items()
        },
        "samples": {side: sum(found == side for found in sides.of_sample.values()) for side in SIDES},
        "excluded": dict(sorted(Counter(sides.excluded.values()).items())),
        "forged_excluded": dict(sorted(forged_excluded.items())),
        "balance": {
            "fake": fake, "real": real, "fake_part": fake / len(train), "forged_part": sum(row["role"] == "forged" for row in train) / len(train),
            "paired_part": _paired(train) / real,
        },
        "leaks": leaks,
        "train_rows": len(train),
    }  # fmt: skip


if __name__ == "__main__":
    stage_main("assemble", run)
