"""Makes folders of sample media: real takes and several kinds of fakes, with their labels, the same for the same seed."""

import csv
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.synthetic.camera import Camera, Sensor, draw_camera, encode_h264
from media.synthetic.generators import BlendSwap, CoarseUpsampler, FineUpsampler, Smoother, Upsampler
from media.synthetic.motion import draw_motion
from media.synthetic.people import draw_person
from media.synthetic.renderer import PersonRenderer, draw_take
from workspace.errors import DataError
from workspace.files import atomic_file
from workspace.pool import ordered_map

GENERATORS = ("blendswap", "upsampler", "coarse_upsampler", "fine_upsampler", "smoother")  # new ones last: the place seeds their takes
ALONE: dict[str, type[Upsampler] | type[Smoother]] = {
    "upsampler": Upsampler,
    "coarse_upsampler": CoarseUpsampler,
    "fine_upsampler": FineUpsampler,
    "smoother": Smoother,
}  # need no donor
LABEL_COLUMNS = ("path", "label", "use", "identity", "donor", "generator", "kind", "source", "source_video")
SOURCE, TABLE = "sample", "labels.csv"
FEW_JOBS = 12  # fewer are drawn before two processes have started


@dataclass(frozen=True, slots=True)
class SampleReport:
    """What was made. `rows` are its lines of labels.csv."""

    out: Path
    people: int
    real: int
    fake: int
    seconds: float
    rows: tuple[dict[str, str], ...]


@dataclass(frozen=True, slots=True)
class _Job:
    path: Path
    person: int
    donor: int | None
    generator: str
    take: int


def make_sample_media(
    out: Path,
    *,
    people: int = 12,
    clips_per_person: int = 1,
    seconds: float = 1.5,
    seed: int = 0,
    fakes: dict[str, int] | None = None,
    first_person: int = 1,
    first_take: int = 0,
    size_px: int = 256,
    fps: float = 12.0,
    workers: int = 2,
    group_of: Callable[[str], str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> SampleReport:
    """Render `people` persons into `out`/real, `out`/fake/<generator> and `out`/labels.csv, and say what was made.

    `fakes` maps a generator's name to clips a person; None means one of blendswap. A person's looks depend on (seed, number) only;
    a take on (seed, number, generator, take), so a later week asks for the same people with another `first_take`, or for others
    with another `first_person`. `group_of` names the group of an identity: donors are taken from the target's own group, where it
    has two people (so that a split by people loses no swap). Same arguments, same bytes. Labels of an earlier run stay where its clips do.
    `progress` is called with (done, total).

    Raises DataError for an unknown generator, impossible numbers, a program's folder, or a labels.csv in `out` that somebody else wrote.
    """
    wanted = {"blendswap": 1} if fakes is None else fakes
    _check(people, clips_per_person, seconds, wanted, first_person, first_take, size_px, fps)
    out = Path(out)
    if (out / "__init__.py").exists():
        raise DataError(f"{out} holds a program. Nothing was written.", why="it has an __init__.py", next_step="Name an empty or new folder.")
    jobs = list(_jobs(out, people, clips_per_person, wanted, seed, first_person, first_take, group_of or (lambda identity: "")))
    frames = max(2, round(seconds * fps))
    rows = tuple(_row(out, job) for job in jobs)
    kept = _kept(out, {row["path"] for row in rows})

    work = partial(_render, seed=seed, frames=frames, size_px=size_px, fps=fps)
    if workers > 1 and len(jobs) >= FEW_JOBS:
        _report(ordered_map(work, jobs, workers, _crashed), len(jobs), progress)
    else:
        _report(map(work, jobs), len(jobs), progress)
    with atomic_file(out / TABLE) as handle:
        csv.writer(handle, lineterminator="\n").writerows([LABEL_COLUMNS, *kept, *([row[column] for column in LABEL_COLUMNS] for row in rows)])
    real = sum(not job.generator for job in jobs)
    return SampleReport(out, people, real, len(jobs) - real, frames / fps, rows)


def _kept(out: Path, anew: Collection[str]) -> list[list[str]]:
    """The lines of the labels.csv that is there, but for files that are made `anew` or are gone. Raises DataError when it has not our columns."""
    try:
        with open(out / TABLE, newline="", encoding="utf-8") as handle:
            header, *lines = [line for line in csv.reader(handle) if line] or [[]]
    except FileNotFoundError:
        return []
    except (UnicodeDecodeError, csv.Error):
        header, lines = [], []
    if header != list(LABEL_COLUMNS):
        raise DataError(
            f"{out} is not a folder of sample media. Nothing was written.", why=f"its {TABLE} has other columns, and would be lost",
            next_step="Name an empty folder.",
        )  # fmt: skip
    return [line for line in lines if line[0] not in anew and (out / line[0]).is_file()]


def _render(job: _Job, *, seed: int, frames: int, size_px: int, fps: float) -> None:
    pictures, camera = render_take(seed, job.person, job.take, frames, generator=job.generator, donor=job.donor, size_px=size_px, fps=fps)
    encode_h264(job.path, pictures, fps, camera.crf, camera.preset)


def _crashed(job: _Job) -> None:
    raise DataError(
        "A clip could not be rendered.", why=f"{job.path.name} ended two processes, as too little memory does", next_step="Free some memory, then run it again."
    )


def _report(finished: Iterable[None], total: int, progress: Callable[[int, int], None] | None) -> None:
    for done, _ in enumerate(finished, start=1):
        if progress is not None:
            progress(done, total)


def render_take(
    seed: int, person: int, take: int, frames: int, *, generator: str = "", donor: int | None = None, size_px: int = 256, fps: float = 12.0
) -> tuple[list[NDArray[np.uint8]], Camera]:
    """The recorded RGB pictures of one take, before the encoder, and the camera that took them. `generator` empty means real."""
    rng = take_generator(seed, person, take, generator)
    camera = draw_camera(rng, size_px)
    motion = draw_motion(rng, frames, fps)
    shown = draw_person(seed, person)
    scene = draw_take(rng, shown, motion, camera.width, camera.height)
    renderer = PersonRenderer(shown, scene, seed)
    sensor = Sensor(camera, rng)
    if generator == "blendswap":
        if donor is None:
            raise DataError("Cannot render a blendswap take.", why="no donor was given", next_step="Name another person's number as donor.")
        source = BlendSwap(renderer, PersonRenderer(draw_person(seed, donor), scene, seed), rng).frames()
    elif generator:
        source = ALONE[generator](renderer, rng).frames()
    else:
        source = renderer.frames()
    return [sensor.record(picture) for picture in source], camera


def take_generator(seed: int, person: int, take: int, generator: str) -> np.random.Generator:
    """The random numbers of one take. A forged take is another take of the person, with its own camera, light and motion."""
    return np.random.default_rng([seed, person, take, ("", *GENERATORS).index(generator), 103])


def _jobs(
    out: Path, people: int, clips: int, fakes: dict[str, int], seed: int, first_person: int, first_take: int, group_of: Callable[[str], str]
) -> list[_Job]:
    numbers = range(first_person, first_person + people)
    jobs = [_Job(out / "real" / f"p{n:04d}_{take_name(t)}.mp4", n, None, "", t) for n in numbers for t in range(first_take, first_take + clips)]
    for generator in sorted(fakes):
        for number in numbers:
            for take in range(first_take, first_take + fakes[generator]):
                if generator == "blendswap":
                    others = [n for n in numbers if n != number]
                    donors = [n for n in others if group_of(identity_of(n)) == group_of(identity_of(number))] or others
                    donor = donors[int(np.random.default_rng([seed, number, take, 104]).integers(len(donors)))]
                    jobs.append(_Job(out / "fake" / generator / f"p{number:04d}_p{donor:04d}_{take_name(take)}.mp4", number, donor, generator, take))
                else:
                    jobs.append(_Job(out / "fake" / generator / f"p{number:04d}_{take_name(take)}.mp4", number, None, generator, take))
    return jobs


def identity_of(person: int) -> str:
    """The identity column of a person's number."""
    return f"p{person:04d}"


def take_name(take: int) -> str:
    """a, b, ..., z, aa, ab, ... for 0, 1, ..., 25, 26, 27, ..."""
    name = ""
    take += 1
    while take:
        take, letter = divmod(take - 1, 26)
        name = chr(ord("a") + letter) + name
    return name


def _row(out: Path, job: _Job) -> dict[str, str]:
    return {
        "path": job.path.relative_to(out).as_posix(),
        "label": "fake" if job.generator else "real",
        "use": "train",
        "identity": identity_of(job.person),
        "donor": "" if job.donor is None else identity_of(job.donor),
        "generator": job.generator,
        "kind": "video",
        "source": SOURCE,
        "source_video": f"p{job.person:04d}_{job.generator or 'real'}_{take_name(job.take)}",
    }


def _check(people: int, clips: int, seconds: float, fakes: dict[str, int], first_person: int, first_take: int, size_px: int, fps: float) -> None:
    unknown = sorted(set(fakes) - set(GENERATORS))
    if unknown:
        raise DataError("Cannot make sample media.", why=f"unknown generator: {', '.join(unknown)}", next_step=f"Choose from {', '.join(GENERATORS)}.")
    wrong = [
        text
        for bad, text in (
            (people < 1, "people must be at least 1"),
            (fakes.get("blendswap", 0) > 0 and people < 2, "blendswap needs at least 2 people"),
            (clips < 0 or min(fakes.values(), default=0) < 0 or first_take < 0 or first_person < 0, "numbers of clips, takes and people cannot be negative"),
            (not 0.1 <= seconds <= 600, "seconds must lie in 0.1..600"),
            (not 1 <= fps <= 60, "fps must lie in 1..60"),
            (not 128 <= size_px <= 1080, "size_px must lie in 128..1080"),
        )
        if bad
    ]
    if wrong:
        raise DataError("Cannot make sample media.", why="; ".join(wrong), next_step="Correct the numbers and run again; nothing was written.")
