"""Make fakes from the real clips of one batch, real and fake staying a pair: a clip store in, a clip store out.

Which forger a clip meets and with what random numbers follows from its own id and the seed, so the same clip gives the same
fake whatever else the batch holds. Where videos are judged, on the sides of validation and holdout, all clips of a video meet the same
forger and the same donor, so that a forged video has as many clips as its real one. A donor is another person of the batch on the
same side of the split: nothing leaks. Sides are those of the batch alone and of whom earlier ones keep for evaluation, as noted when it came
in: a later batch makes no fake of an older one anew. The report says who was forged as judged.
Forgers with weights first learn from the batch's own training faces; where those are too few, that is a reason in the report.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from media.faces import looks
from media.forgers import FORGERS, WHO, forge_clip, may_be_one_person
from media.forgers.plugins import PUBLISHED, load_plugin
from media.shards import ShardWriter, read_clip_at, read_index, read_landmarks
from pipelines.draw import rank
from pipelines.outside import REPORT, files_of
from pipelines.rows import rows_of
from pipelines.sides import KEPT_BEFORE, SIDES, Side, decide_sides
from pipelines.stage import Progress, stage_main
from workspace.errors import DataError, VigilError
from workspace.files import read_json, sha256_file, write_json
from workspace.for_review import SUMMARY
from workspace.forgetting import FORGING
from workspace.pool import ordered_map
from workspace.settings import ForgeSettings, PluginSettings, Settings, SplitSettings

if TYPE_CHECKING:
    from media.forgers.generators import Outside

KEPT = (
    "sample_id", "batch", "track", "start_seconds", "end_seconds", "face_px", "source_px", "sharpness", "brightness", "skin_tone_degrees",
    "yaw_degrees", "score", "kind", "use", "identity",
    "source", "source_video", "method", "compression", "case_id", "attributes",
)  # fmt: skip
NO_DONOR = "no other person of its side and kind in the batch"
TOO_FEW = "too few training faces in the batch for a forger to learn from"
CRASHED = "forger crashed"
NETWORKS = "forgers"  # folder of the weights, beside the clips
MOST_FACES = 600  # that a forger learns from
FEWEST_FOR_PROCESSES = 64  # starting processes costs seconds
Excluded = Counter[tuple[str, str]]  # fakes that were not made, by forger and reason
Draw = Callable[[np.ndarray, np.ndarray, np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True, slots=True)
class ForgeJob:
    """One fake to be made: index rows of the real clip and of the donor, and the seed of the random numbers."""

    folder: Path
    forger: str
    clip: dict[str, Any]
    donor: dict[str, Any] | None
    seed: int


def run(root: Path, settings: Settings, batch: str, sides: Collection[Side] = SIDES) -> dict[str, Any]:
    """Write data/forged/<batch>/, the fakes of people on `sides`, and return its report. Safe to repeat.

    Raises DataError for an unknown forger or missing faces.
    """
    refuse_unknown_forgers(settings.forge)
    folder, out, forging = root / "data" / "faces" / batch, root / "data" / "forged" / batch, root / FORGING / batch
    excluded: Excluded = Counter()
    clips = real_clips(root, batch, settings.split)
    jobs = [job for job in plan(folder, clips, settings, excluded) if job.clip["side"] in sides]
    groups = people_in_groups(clips, settings.seed)
    for before in (out, forging):
        shutil.rmtree(before, ignore_errors=True)
    made: Counter[str] = Counter()
    outside = {*PUBLISHED, *(plugin.name for plugin in settings.forge.plugins)}
    with ShardWriter(out) as writer:
        networks = learn(folder, clips, groups, jobs, settings, out / NETWORKS, forging)
        progress = Progress("forge")
        for number, (job, result) in enumerate(zip(jobs, _results(jobs, networks, groups, settings), strict=True), start=1):
            if isinstance(result, str):
                excluded[job.forger, result] += 1
            else:
                writer.add(_row(job, *result, job.forger in outside), *result)
                made[job.forger] += 1
            progress(number, len(jobs))
    left_out = {f"{forger}: {why}": number for (forger, why), number in sorted(excluded.items())}
    report: dict[str, Any] = {"batch": batch, "forged": sum(made.values()), "by_forger": dict(sorted(made.items())), "excluded": left_out}
    report["judged"] = sorted({clip["sample_id"] for clip in clips if clip["side"] != "train"})
    report["learned"] = sorted(set(networks) - outside)
    origins = {plugin.name: _origin(plugin) for plugin in settings.forge.plugins}
    origins |= {name: PUBLISHED[name].origin for name in sorted(set(PUBLISHED) & {job.forger for job in jobs})}
    if origins:
        report["plugins"] = origins
    if programs := {plugin.name: files_of(root, plugin) for plugin in settings.forge.plugins}:
        report["programs"] = programs
    write_json(out / REPORT, report)
    return report


def refuse_unknown_forgers(forge: ForgeSettings) -> None:
    """Raise DataError unless each of forge.forgers is a forger of ours or of a plugin, and no plugin is called like one of ours."""
    ours, outside = _ours(forge), {plugin.name for plugin in forge.plugins}
    if taken := sorted(ours & outside):
        why = "a forger of ours has this name, and tables could not tell the two apart"
        raise DataError(f"No plugin may be called {', '.join(taken)}.", why=why, next_step="Give it another name in forge.plugins of params.yaml.")
    known = ours | outside
    if unknown := sorted(set(forge.forgers) - known):
        raise DataError(
            f"No forger is called {', '.join(unknown)}.", why=f"there are {', '.join(sorted(known))}", next_step="Mend forge.forgers in params.yaml."
        )


def _ours(forge: ForgeSettings) -> set[str]:
    """The names of our forgers; of those with weights only where there are plugins or a name asks for one, since torch takes seconds to import."""
    if not forge.plugins and set(forge.forgers) <= set(FORGERS):
        return set(FORGERS)
    from model.forgers import LEARNED

    return {*FORGERS, *PUBLISHED, *LEARNED}


def _needs_donor(forger: str) -> bool:
    """Only classical forgers work from another person's clip."""
    return forger in FORGERS and FORGERS[forger].needs_donor


def plan(folder: Path, clips: Sequence[dict[str, Any]], settings: Settings, excluded: Excluded) -> list[ForgeJob]:
    """The fakes to be made of real clips: forgers in rotation from a place that the id of the clip (of its video, where that is judged) gives, each once.

    Of more than `max_clips` the first fakes of as many clips as possible are made, by rank; donors are sought for these alone.
    """
    forgers, seed = settings.forge.forgers, settings.seed
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for clip in clips:
        groups.setdefault((clip["kind"], clip["side"]), []).append(clip)
    alone = {clip["clip_id"] for group in groups.values() for clip in _alone(group)}
    wanted: list[tuple[int, int, ForgeJob]] = []
    for clip in clips:
        unit = _unit(clip["side"])
        start = rank(seed, clip[unit]) % max(1, len(forgers))
        rotation = [*forgers[start:], *forgers[:start]]
        doable = [name for name in rotation if clip["clip_id"] not in alone or not _needs_donor(name)]
        if len(doable) < (number := min(_fakes_of(clip[unit], settings.forge.fakes_per_real, seed), len(rotation))):
            excluded.update((name, NO_DONOR) for name in [name for name in rotation if name not in doable][: number - len(doable)])
        for turn, name in enumerate(doable[:number]):
            own_seed = rank(seed, f"{clip[unit]}+{name}")
            wanted.append((turn, own_seed, ForgeJob(folder, name, clip, None, own_seed)))
    wanted.sort(key=lambda item: (item[0], item[1], _clip_id(item[2])))
    jobs = sorted((job for _, _, job in wanted[: settings.forge.max_clips]), key=_clip_id)
    return [replace(job, donor=_donor(job.clip, groups, seed)) if _needs_donor(job.forger) else job for job in jobs]


def real_clips(root: Path, batch: str, split: SplitSettings) -> list[dict[str, Any]]:
    """Real clips that may be forged, with their `side`: not near duplicates, and kept for evaluation only where the person is known."""
    folder = root / "data" / "faces" / batch
    try:
        samples = read_json(folder / "report.json")["samples"]
    except (OSError, ValueError, KeyError) as problem:
        raise DataError(f"The faces of batch {folder.name} are missing.", why=str(problem), next_step="Run `vigil retrain` again.") from problem
    duplicates = {sample["sample_id"] for sample in samples if sample["duplicate_of"]}
    kept = {sample["identity"] for sample in samples if sample["sample_id"] in _kept_before(root, batch)} - {""}
    sides = decide_sides([samples], split, kept).of_sample
    rows = ({**row, "side": sides.get(row["sample_id"])} for row in rows_of(read_index(folder, label="real")))
    real = (row for row in rows if row["side"] and row["sample_id"] not in duplicates)
    return [row for row in real if row["use"] == "train" or (row["use"] == "evaluate" and row["identity"])]


def _kept_before(root: Path, batch: str) -> set[str]:
    """Samples whose person a batch that came in earlier keeps for evaluation; of batches that an older Vigil took in nobody noted it."""
    path = root / "data" / "raw" / batch / SUMMARY
    return set(read_json(path).get(KEPT_BEFORE, ())) if path.exists() else set()


def _fakes_of(unit: str, fakes_per_real: float, seed: int) -> int:
    whole = int(fakes_per_real)
    return whole + (rank(seed, f"share {unit}") / 2**64 < fakes_per_real - whole)


def _unit(side: str) -> str:
    """The column whose rows share forger and donor: `clip_id`, or `sample_id` for all clips of a video where videos are judged."""
    return "clip_id" if side == "train" else "sample_id"


def _alone(group: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The clips of a group that may show the same person as each of its clips: those that share a name are counted by inclusion and exclusion."""
    sharing = Counter(names for clip in group for names in _names(clip))
    for clip in group:
        if sum((-1) ** (len(names) + 1) * sharing[names] for names in _names(clip)) == len(group):
            yield clip


def _names(clip: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], ...]]:
    """Every choice of one or more of what `may_be_one_person` compares and the clip has."""
    own = [(name, clip[name]) for name in WHO if clip[name]]
    return chain.from_iterable(combinations(own, number) for number in range(1, len(own) + 1))


def _donor(clip: Mapping[str, Any], groups: Mapping[tuple[str, str], Sequence[dict[str, Any]]], seed: int) -> dict[str, Any] | None:
    """Another person's clip of the same kind and side, the first by a rank that each pair has; so others coming in seldom change it."""
    others = [other for other in groups[clip["kind"], clip["side"]] if not may_be_one_person(clip, other)]
    return min(others, key=lambda other: (rank(seed, f"{clip[_unit(clip['side'])]} {other['clip_id']}"), other["clip_id"]), default=None)


def learn(
    folder: Path, clips: Sequence[dict[str, Any]], groups: Mapping[str, int], jobs: Sequence[ForgeJob], settings: Settings, out: Path, forging: Path
) -> dict[str, Draw]:
    """What the jobs' learned and outside forgers forge with, by name: `forge(frames, landmarks, rng, group)` of each.

    Networks are trained and stored in `out`; a name is missing where the faces to learn from are too few. Programs forge in `forging`.
    """
    asked = {job.forger for job in jobs} - set(FORGERS)
    ready = _outside(asked, settings, forging)
    wanted = sorted(asked - set(ready))
    if not wanted:
        return ready
    from model.checkpoint import save_tensors
    from model.forgers import LEARNED, Face

    faces = [Face(picture, groups[person_of(clip)]) for clip, picture in _faces_to_learn(folder, clips, settings)]
    for name in (name for name in wanted if LEARNED[name].can_learn(faces)):
        network = LEARNED[name].learn(faces, settings.forge.learn_steps, rank(settings.seed, f"{folder.name} {name}") % 2**31, Progress(name))
        save_tensors(out / f"{name}.safetensors", network.state_dict(), {"forger": name, "batch": folder.name})
        ready[name] = partial(LEARNED[name].forge, network)
    return ready


def _outside(asked: Collection[str], settings: Settings, forging: Path) -> dict[str, Draw]:
    """What forges for each name in `asked` that is a plugin's or a published generator's."""
    if not asked:
        return {}
    loads: dict[str, Callable[[], Outside]] = {name: partial(load, settings.faces) for name, load in PUBLISHED.items()}
    loads |= {plugin.name: partial(load_plugin, plugin, settings.faces, forging) for plugin in settings.forge.plugins}
    ready: dict[str, Draw] = {}
    for name in sorted(set(loads) & set(asked)):
        try:
            ready[name] = partial(_foreign, loads[name]())
        except VigilError as problem:
            ready[name] = partial(_unusable, problem)
    return ready


def _foreign(forger: "Outside", frames: np.ndarray, landmarks: np.ndarray, rng: np.random.Generator, group: int) -> tuple[np.ndarray, np.ndarray]:
    return forger.forge(frames, landmarks, rng)


def _origin(plugin: PluginSettings) -> str | list[str]:
    """What the report names an outside forger by: its command, or the sha256 of its file, "" where none can be read."""
    if not plugin.onnx:
        return list(plugin.command)
    try:
        return sha256_file(Path(plugin.onnx))
    except OSError:
        return ""


def _unusable(problem: VigilError, *job: object) -> tuple[np.ndarray, np.ndarray]:
    """What an outside forger that could not be loaded makes of each clip: the same reason."""
    raise problem


def people_in_groups(clips: Sequence[Mapping[str, Any]], seed: int) -> dict[str, int]:
    """The two groups of the two-decoder swap: people in turn, those of the training side first, so that both groups can learn."""
    people = {person_of(clip): clip["side"] != "train" for clip in clips}
    order = sorted(people, key=lambda person: (people[person], rank(seed, person)))
    return {person: place % 2 for place, person in enumerate(order)}


def person_of(clip: Mapping[str, Any]) -> str:
    """Who is in a clip; a clip of nobody known stands for itself."""
    return str(clip["identity"] or clip["sample_id"])


def _faces_to_learn(folder: Path, clips: Sequence[dict[str, Any]], settings: Settings) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Frames of the clips of the training side, as many of each clip, MOST_FACES at most. Nobody on another side is looked at."""
    own = [clip for clip in clips if clip["side"] == "train"]
    own = sorted(own, key=lambda clip: rank(settings.seed, clip["clip_id"]))[:MOST_FACES]
    each = max(1, MOST_FACES // max(1, len(own)))
    for clip in own:
        frames = read_clip_at(folder, clip)
        for index in sorted({round(place) for place in np.linspace(0, len(frames) - 1, min(each, len(frames)))}):
            yield clip, frames[index]


def _results(
    jobs: Sequence[ForgeJob], networks: Mapping[str, Draw], groups: Mapping[str, int], settings: Settings
) -> Iterator[tuple[np.ndarray, np.ndarray] | str]:
    """What became of each job, in their order: classical forgers in processes where it pays, learned ones here, where torch has every core."""
    classical = [job for job in jobs if job.forger in FORGERS]
    done = iter(ordered_map(_forge, classical, settings.faces.workers, _crashed) if len(classical) >= FEWEST_FOR_PROCESSES else map(_forge, classical))
    for job in jobs:
        if job.forger in FORGERS:
            yield next(done)
        elif job.forger in networks:
            yield _draw(job, networks[job.forger], groups[person_of(job.clip)])
        else:
            yield TOO_FEW


def _draw(job: ForgeJob, draw: Draw, group: int) -> tuple[np.ndarray, np.ndarray] | str:
    """As `_forge`, by a forger that has learned or comes from outside."""
    try:
        frames, points = read_clip_at(job.folder, job.clip), read_landmarks(job.clip)
        return draw(frames, points, np.random.default_rng(job.seed), group)
    except VigilError as problem:
        return problem.why


def _forge(job: ForgeJob) -> tuple[np.ndarray, np.ndarray] | str:
    """Frames [T, S, S, 3] uint8 and landmarks [T, 468, 2] of the fake, or the reason why there is none."""
    try:
        frames = read_clip_at(job.folder, job.clip)
        donor = (read_clip_at(job.folder, job.donor), read_landmarks(job.donor)) if job.donor else None
        return forge_clip(job.forger, frames, read_landmarks(job.clip), np.random.default_rng(job.seed), donor)
    except VigilError as problem:
        return problem.why


def _crashed(job: ForgeJob) -> tuple[np.ndarray, np.ndarray] | str:
    return CRASHED


def _clip_id(job: ForgeJob) -> str:
    return f"{job.clip['clip_id']}+{job.forger}"


def _row(job: ForgeJob, frames: np.ndarray, points: np.ndarray, outside: bool) -> dict[str, Any]:
    """The index row of a fake: where and of whom as its real clip, how it looks measured anew. Where somebody else was drawn the pose is not known."""
    kept = {name: job.clip[name] for name in KEPT} | looks(frames, points)
    if outside and not np.array_equal(points, read_landmarks(job.clip)):
        kept["yaw_degrees"] = float("nan")
    donor = {"donor": job.donor["identity"], "donor_clip": job.donor["clip_id"]} if job.donor else {}
    made = {"clip_id": _clip_id(job), "label": "fake", "generator": job.forger, "origin": "forged", "forger": job.forger, "source_clip": job.clip["clip_id"]}
    return kept | donor | made


if __name__ == "__main__":
    stage_main("forge", run)
