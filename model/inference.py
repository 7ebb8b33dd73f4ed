"""The one engine of `score`, `evaluate` and the service: ONNX Runtime on the exported file, no torch.

A file goes through exactly the face settings of the model card; clips through the exported network; clips become a
verdict by model/aggregate.py. Whatever is wrong with a file, the answer is a row with a reason, never an exception.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from model.aggregate import ClipEvidence, aggregate, sigmoid, verdict
from model.card import ONNX, RESTORE, WEIGHTS, ModelCard, OperatingPoint, load_card, operating_points, refuse_changed
from model.novelty import is_novel, video_novelty
from workspace.errors import ModelFileError
from workspace.files import sha256_bytes, sha256_file
from workspace.settings import FaceSettings

if TYPE_CHECKING:
    from media.faces import Extraction

BATCH_PIXELS = 48 * 224 * 224  # frames at once: memory stays near 1.5 GB with ResNeXt-50
UNLIKE = "unlike the media that this model was tried on: its score says little"
LEARNED = "this model was trained on it: the score says little"
SECONDS_TOLD, TIMES_TOLD = 1.0, 3  # least seconds with a face that was not judged that are told, and how many times of them
SIDES, SIDE_EDGES = ("left", "middle", "right"), (0.4, 0.6)  # of the picture, as it is seen


@dataclass(frozen=True, slots=True)
class ClipScore:
    """One clip: raw logit, calibrated p_fake, certainty of each frame [T] in 0..1, embedding [F] float32."""

    logit: float
    p_fake: float
    certainty: NDArray[np.float32]
    embedding: NDArray[np.float32]


def other_mode(own: str, judged: str) -> str:
    """What does not hold where a video is looked at in another mode than the one whose clips the threshold was set on."""
    return f"threshold and rates were set in mode {own}; in mode {judged} more or fewer reals may be called fake"


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What is known about one file. `p_fake` is None, and `reason` says why, exactly where `verdict` is 'none'."""

    file: str
    p_fake: float | None
    verdict: str  # real | fake | uncertain | none
    frames: int  # frames looked at
    faces: int  # people followed
    reason: str
    model: str  # first 12 digits of the model's sha256
    kind: str  # video | image | ''
    engine: str = ""
    tracks: list[dict[str, Any]] = field(default_factory=list)  # {track, p_fake, start_seconds, end_seconds, place}: its most suspicious clip
    clips: list[dict[str, Any]] = field(default_factory=list)  # {track, start_seconds, end_seconds, p_fake, place}; place: as of FaceClip
    learned: int = 0  # clips of it that trained this very model, where score_file looked (Engine.learned_of): then the verdict says nothing
    novelty: float | None = None  # distance of the worst track from what the model knows, about 1 for familiar media (model/novelty.py)

    @property
    def told(self) -> str:
        """The reason, behind the word that this very model was trained on the file where it was."""
        return "; ".join(filter(None, [LEARNED if self.learned else "", self.reason]))

    def as_dict(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return asdict(self)


class Engine:
    """A model folder, ready to score. Safe to use from several threads.

    Raises ModelFileError where a file of the folder is missing or has changed. A folder without model.safetensors
    (a serving image) is accepted: the ONNX file is what runs, and it is always checked.
    """

    def __init__(self, model_dir: Path, threads: int = 2) -> None:
        import onnxruntime

        self.model_dir, self.threads = Path(model_dir), threads
        self.card: ModelCard = load_card(self.model_dir)
        self._learned = frozenset(self.card.train_clips)
        weights = self.model_dir / WEIGHTS
        if weights.is_file():
            refuse_changed(weights, sha256_file(weights), self.card.model_sha256)
        try:
            content = (self.model_dir / ONNX).read_bytes()  # read once: what was hashed is what runs
        except OSError as problem:
            raise ModelFileError(f"Cannot use the model in {model_dir}.", why=str(problem), next_step=RESTORE) from problem
        refuse_changed(self.model_dir / ONNX, sha256_bytes(content), self.card.onnx_sha256)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # as for torch: waiting threads leave the processor to others
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as problem:  # onnxruntime raises a dozen kinds, none exported
            raise ModelFileError(
                f"Cannot use the model in {model_dir}.", why=str(problem)[:300], next_step="Train again with this version of Vigil."
            ) from problem

    def at_fpr(self, target: float) -> OperatingPoint:
        """Judge from now on at the operating point of the card for this false-positive rate; returns it.

        Raises ModelFileError where the card has none for it, naming those it has.
        """
        points = operating_points(self.card)
        found = next((point for point in points if abs(point.target_fpr - target) < 1e-9), None)
        if found is None:
            known = ", ".join(f"{point.target_fpr:g}" for point in points) or "none"
            raise ModelFileError(
                f"This model has no operating point at a false-positive rate of {target:g}.",
                why=f"its card has {known}",
                next_step="Choose one of these." if points else "Leave the rate (--fpr) out: the threshold of its card counts.",
            )
        self.card = self.card.model_copy(update={"threshold": found.threshold})
        return found

    @property
    def model_id(self) -> str:
        """First 12 digits of the model's sha256."""
        return self.card.model_id

    def score_clips(self, clips: Sequence[NDArray[np.uint8]]) -> list[ClipScore]:
        """Scores of clips [T, S, S, 3] uint8 RGB, in order. S is the card's size; T is free and may differ from clip to clip."""
        size = self.card.faces.size_px
        for clip in clips:
            if clip.ndim != 4 or clip.shape[0] < 1 or clip.shape[1:] != (size, size, 3) or clip.dtype != np.uint8:
                raise ValueError(f"a clip is uint8 [T, {size}, {size}, 3], got {clip.dtype} {list(clip.shape)}")
        scores: list[ClipScore | None] = [None] * len(clips)
        pixels = max(size * size, int(self.card.imported.get("frame_pixels", 0)))  # an import may enlarge what it is given
        for length in sorted({clip.shape[0] for clip in clips}):
            places = [place for place, clip in enumerate(clips) if clip.shape[0] == length]
            batch = max(1, BATCH_PIXELS // (length * pixels))
            for start in range(0, len(places), batch):
                chosen = places[start : start + batch]
                for place, score in zip(chosen, self._run(np.stack([clips[place] for place in chosen])), strict=True):
                    scores[place] = score
        return [score for score in scores if score is not None]

    def _run(self, clips: NDArray[np.uint8]) -> list[ClipScore]:
        frames = np.ascontiguousarray(clips.transpose(0, 1, 4, 2, 3), dtype=np.float32) / np.float32(255)  # [B, T, 3, S, S]
        logits, certainty, embedding = self._session.run(["logit", "frame_certainty", "embedding"], {"frames": frames})
        return [
            ClipScore(float(z), sigmoid(float(z) / self.card.temperature + self.card.offset), np.asarray(c), np.asarray(e))
            for z, c, e in zip(logits, certainty, embedding, strict=True)
        ]

    def score_file(self, source: Path | bytes, mode: str | None = None, name: str | None = None) -> FileVerdict:
        """The verdict on one image or video. `mode` (dense, standard, fast) replaces the card's; `name` is what the row calls the file.

        Whatever the file is, there is a verdict, 'none' with a reason at the least. Raises ModelFileError where the face
        detector is not installed, pydantic's ValidationError for an unknown mode: neither is the file's fault.
        """
        return score_file_with([self], source, mode, name)[0]

    def faces_in(self, mode: str | None) -> FaceSettings:
        """How this model looks at faces: as its card says, but for a `mode` that replaces the card's."""
        return self.card.faces if mode is None else FaceSettings.model_validate(self.card.faces.model_dump() | {"mode": mode})

    def learned_of(self, found: "Extraction") -> int:
        """Clips of one file that this model was trained on, pixel for pixel, as far as its card lists them."""
        return sum(sha256_bytes(np.ascontiguousarray(clip.frames).tobytes()) in self._learned for clip in found.clips) if self._learned else 0

    def judge(
        self, found: "Extraction", file: str, scores: Sequence[ClipScore] | None = None, threshold: float | None = None, abstain: float | None = None
    ) -> FileVerdict:
        """The verdict on the clips of one file; the rows of `clips` are in their order.

        `scores` of the clips where they were computed already, `threshold` and `abstain` where others than the card's hold.
        """
        if not found.clips:
            return FileVerdict(file, None, "none", found.frames_seen, found.faces, found.reason or "no face found", self.model_id, found.kind, self.card.engine)
        if scores is None:
            scores = self.score_clips([clip.frames for clip in found.clips])
        threshold, abstain = self.card.threshold if threshold is None else threshold, self.card.abstain if abstain is None else abstain
        evidence = [ClipEvidence(score.logit, float(score.certainty.mean()), clip.track) for score, clip in zip(scores, found.clips, strict=True)]
        video = aggregate(evidence, self.card.temperature, self.card.levels, self.card.offset)
        begins = found.info.begins_seconds if found.info else 0.0  # a person looks where their player shows it
        rows: list[dict[str, Any]] = [
            {
                "track": clip.track,
                "start_seconds": begins + clip.start_seconds,
                "end_seconds": begins + clip.end_seconds,
                "p_fake": score.p_fake,
                "place": [round(part, 3) for part in clip.place],
            }
            for score, clip in zip(scores, found.clips, strict=True)
        ]
        tracks = []
        for track, p_fake in video.tracks.items():
            worst = max((row for row in rows if row["track"] == track), key=lambda row: row["p_fake"])
            tracks.append({**worst, "p_fake": p_fake})
        said, reason = verdict(video.p_fake, threshold, abstain), ""
        known = self.card.metrics.get("novelty")
        seen = [score.embedding for score, clip in zip(scores, found.clips, strict=True) if clip.track == video.track]
        if is_novel(known, seen):
            said, reason = "uncertain", UNLIKE
        stands_out = len(tracks) > 1 and verdict(video.tracks[video.track], threshold, abstain) == "fake"
        reason = reason or _reason(said, found.kind, rows, video.worst_clip, stands_out)
        more = "1 smaller face was" if found.faces_beyond == 1 else f"{found.faces_beyond} smaller faces were"
        beyond = f"at least {more} not judged" if found.faces_beyond else ""
        reason = "; ".join(filter(None, [reason, beyond, _missed(found.too_short, begins)]))
        novelty = video_novelty(known, seen) if known and known["centre"] else None
        about = (found.frames_seen, found.faces, reason, self.model_id, found.kind, self.card.engine)
        return FileVerdict(file, video.p_fake, said, *about, tracks, rows, novelty=novelty)


def score_file_with(engines: Sequence[Engine], source: Path | bytes, mode: str | None = None, name: str | None = None) -> list[FileVerdict]:
    """What each of the models says of one file, as Engine.score_file: it is decoded once for all that look at faces the same way."""
    from media.faces import extract_clips

    file = name if name is not None else ("" if isinstance(source, bytes) else str(source))
    extracted: dict[str, Extraction] = {}
    said = []
    for engine in engines:
        faces = engine.faces_in(mode)
        way = faces.model_dump_json()
        try:
            if way not in extracted:
                extracted[way] = extract_clips(source, faces, engine.threads)
            said.append(replace(engine.judge(extracted[way], file), learned=engine.learned_of(extracted[way])))
        except ModelFileError:
            raise
        except Exception as problem:  # a file from anywhere may break a decoder in ways nobody listed; its row must still appear
            why = f"could not be read: {type(problem).__name__}: {problem}"[:300]
            said.append(FileVerdict(file, None, "none", 0, 0, why, engine.model_id, "", engine.card.engine))
    return said


def most_telling(said: FileVerdict) -> int:
    """The clip that speaks most for the verdict, of the face that does: the highest p_fake of a fake, the lowest of a real. Needs a verdict."""
    pick = min if said.verdict == "real" else max
    track = pick(said.tracks, key=lambda row: row["p_fake"])["track"]
    mine = [place for place, clip in enumerate(said.clips) if clip["track"] == track]
    return int(pick(mine, key=lambda place: said.clips[place]["p_fake"]))


def _reason(said: str, kind: str, rows: list[dict[str, Any]], worst: int, stands_out: bool) -> str:
    """Where to look, for what was not called real, and where one of several faces would be called fake if it were alone: interval, in a video, and face."""
    row = rows[worst]
    if said == "real":
        return f"{face_named(rows, row)} alone would be called fake, but one of several stands out by chance" if stands_out else ""
    when = "" if kind == "image" else f"{row['start_seconds']:.1f}-{row['end_seconds']:.1f} s, "
    return f"most suspicious: {when}{face_named(rows, row)}"


def _missed(spans: Sequence[tuple[float, float]], begins: float) -> str:
    """When faces were followed too briefly for a clip, where that is a second or more in all: the first times, since cuts may make many."""
    if sum(end - start for start, end in spans) < SECONDS_TOLD - 1e-6:
        return ""
    times = ", ".join(f"{begins + start:.1f}-{begins + end:.1f} s" for start, end in spans[:TIMES_TOLD])
    more = f" and {len(spans) - TIMES_TOLD} times more" if len(spans) > TIMES_TOLD else ""
    return f"a face at {times}{more} was followed too briefly to be judged"


def face_named(rows: list[dict[str, Any]], row: dict[str, Any]) -> str:
    """The face of a clip's row, as a person finds it: its number, and where several were followed the side of the picture that it is on."""
    alone = len({one["track"] for one in rows}) == 1
    side = "" if alone or row["place"] is None else f" ({SIDES[int(np.digitize(row['place'][0], SIDE_EDGES))]})"
    return f"face {row['track'] + 1}{side}"
