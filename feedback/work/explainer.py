"""The explainer: why the network said what it said, as heatmaps and a timeline. The one process of the service that imports torch.

    python -P -m feedback.work.explainer --workspace ROOT [--model-dir DIR]

The first line on stdin is the service's settings (feedback/handed.py). A line {"id": detection} after it gives a line {"id", "explanation"}
or {"id", "error"} on stdout; it ends when stdin does. `silent` beside an error: the store of the media, or the database, did not answer, or
the machine stood in the way, which says nothing about the file. The file is opened as the worker opens it, in a process of its own under
limits, and judged by the model that made the verdict, in the mode that it was made in: where its clips are others today there is no
explanation, since it would be one of another verdict.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from feedback import audit
from feedback.cases import Cases
from feedback.database import Database
from feedback.detections import Detections
from feedback.handed import handed_settings
from feedback.keep import Hindered, MediaStore, StoreSilent, derived_name
from feedback.log import start_log
from feedback.secret import load_secret
from feedback.webhooks import Webhooks
from feedback.work.decoding import ChildFailed, ChildKilled, Decoders, Opened
from feedback.work.judging import bound_of, faces_of
from feedback.work.worker import SHOWN_FRAMES, webp
from workspace.errors import DatabaseSilent, ModelFileError, VigilError
from workspace.files import is_no_room, read_json, sha256_bytes, write_json
from workspace.quiet import set_quiet_environment
from workspace.settings import Settings

if TYPE_CHECKING:
    from model.explain import ClipExplanation

LOG = logging.getLogger("vigil.work")
STRENGTH = 0.65  # of the heat's colour where it is strongest


class Explainer:
    """Explains verdicts of one workspace."""

    def __init__(self, root: Path, settings: Settings, model_dir: Path | None) -> None:
        self.root, self.settings, self.model_dir = root, settings, model_dir
        secret = load_secret(root)
        self.database, self.media = Database(root, settings), MediaStore(root, settings)
        cases = Cases(self.database, settings.feedback, secret.key("cases"))
        self.detections = Detections(self.database, self.media, cases, Webhooks(self.database, secret, settings.feedback), settings.feedback)
        self.decoders = Decoders(settings.feedback.workers.model_copy(update={"decoders": 1}))

    async def explain(self, detection_id: str) -> dict[str, Any]:
        """The explanation of a verdict, read where it was made before. Raises VigilError with the reason where there is none."""
        row = self.detections.get(detection_id)
        if row is None or row["state"] != "done" or not (row["answer"] or {}).get("tracks"):
            raise VigilError("There is nothing to explain.", why="this file has no verdict", next_step="Look at the reason.")
        kept = self.media.derived(row["sha256"]) / derived_name(row["id"], "explanation.json")
        if kept.is_file():
            return dict(read_json(kept))
        folder = self._folder(row["model_sha256"], row["answer"])
        if not (folder / "model.safetensors").is_file():
            why = "an imported ONNX file has no weights that could be looked into"
            raise ModelFileError("This model cannot be explained.", why=why, next_step="Serve a model of Vigil.")
        from model.card import load_card

        card = load_card(folder)
        mode = row["answer"].get("judged_mode") or bound_of(self.settings.feedback, row["policy"], row["mode"], card).mode  # older ones: today's, at a guess
        try:
            with self.media.local(row["sha256"]) as path:
                opened = await self.decoders.open(path, faces_of(card, mode))
        except ChildKilled as problem:
            LOG.warning("detection %s: %s", row["id"], problem)
            raise Hindered("The file could not be opened again.", why=str(problem), next_step="Ask again.") from problem
        except ChildFailed as problem:
            raise VigilError("The file could not be opened again.", why=str(problem), next_step="Send it anew.") from problem
        page, made = await asyncio.to_thread(self._make, folder, row, opened)
        return self._keep(row, page, made)

    def _make(self, folder: Path, row: dict[str, Any], opened: Opened) -> tuple[dict[str, Any], dict[str, bytes]]:
        from model.checkpoint import load_model
        from model.explain import explain_verdict, mesh_evidence, sentence
        from model.inference import Engine

        engine, answer = Engine(folder, threads=self.settings.serve.threads), row["answer"]
        said = engine.judge(opened.extraction, "", None, answer["threshold"], answer["abstain"])
        if said.p_fake is None:
            raise VigilError("There is nothing to explain.", why=said.reason, next_step="Look at the reason.")
        if spans_of(said.clips) != spans_of(answer["clips"]):
            why = "other clips are found in the file today than those that the verdict was made of; sent anew it gets a verdict that can be explained"
            raise VigilError("This verdict cannot be explained any more.", why=why, next_step="Send the file anew.")
        place, found = explain_verdict(load_model(folder / "model.safetensors", engine.card.model_sha256), engine.card, said, opened.extraction.clips)
        clip = opened.extraction.clips[place]
        mesh = mesh_evidence(clip.landmarks, clip.end_seconds - clip.start_seconds)
        picks = sorted({round(float(at)) for at in np.linspace(0, len(clip.frames) - 1, min(SHOWN_FRAMES, len(clip.frames)))})
        length = max(len(clip.frames) - 1, 1)
        start, end = said.clips[place]["start_seconds"], said.clips[place]["end_seconds"]
        seconds = [round(start + (end - start) * at / length, 3) for at in picks]
        made = {derived_name(row["id"], f"heatmap-{number}.webp"): webp(heated(clip.frames[at], found, at)) for number, at in enumerate(picks)}
        page = {
            "sentence": sentence(said, found, said.clips[place]), "regions": found.regions(), "clip": said.clips[place], "heatmaps": len(picks),
            "frames": [
                {"n": number, "seconds": seconds[number], "p_fake": rounded(found.frame_p, at), "certainty": rounded(found.certainty, at),
                 "state_change": rounded(found.change, at)}
                for number, at in enumerate(picks)
            ],
            "evidence": {"blinks_per_second": mesh.blinks_per_second, "mouth_jump": mesh.mouth_jump, "crop_tremble": mesh.crop_tremble},
            "model": engine.model_id,
        }  # fmt: skip
        return page, made

    def _keep(self, row: dict[str, Any], page: dict[str, Any], made: dict[str, bytes]) -> dict[str, Any]:
        """Write the pictures and the page, and note their digests, unless the upload was erased meanwhile."""
        with self.database.write() as connection:  # nothing is erased while this lock is held
            again = self.detections.get(row["id"])
            if again is None or again["state"] != "done" or again["media_state"] == "deleted":
                raise VigilError("There is nothing to explain.", why="the upload was erased meanwhile", next_step="Nothing more is kept of it.")
            folder = self.media.make_derived(row["sha256"])
            for name, content in made.items():
                part = folder / f".{name}.{os.getpid()}.part"
                part.write_bytes(content)
                os.replace(part, folder / name)
            write_json(folder / derived_name(row["id"], "explanation.json"), page)
            digests = {name: sha256_bytes(content) for name, content in made.items()}
            audit.append(connection, "system:explainer", "detection.explain", f"detection:{row['id']}", {"sha256": row["sha256"], "digests": digests})
        return page

    def _folder(self, model_sha256: str, answer: Mapping[str, Any]) -> Path:
        """The folder of the model that made the verdict, first where `answer` says it was. Raises ModelFileError where it is not here any more.

        The same weights may be in several under cards that judge differently: an import of the starter's weights.
        """
        from model.card import load_card
        from model.shipped import STARTER
        from workspace.journal import Journal
        from workspace.state import candidates

        made = {cycle: self.root / one.path for cycle, one in candidates(Journal(self.root).events()).items() if one.model_sha256 == model_sha256}
        own = {"directory": self.model_dir, "starter": STARTER}.get(answer["origin"], made.get(answer["cycle"]))
        for folder in filter(None, [own, self.model_dir, STARTER, *made.values()]):
            try:
                if load_card(folder).model_sha256 == model_sha256:
                    return folder
            except ModelFileError:
                continue
        raise ModelFileError("The model that made this verdict is not here.", why=f"none of {model_sha256[:12]} is checked out", next_step="Run `dvc pull`.")


def spans_of(clips: Iterable[Mapping[str, Any]]) -> list[tuple[int, float, float]]:
    """Which face from when to when, of each clip of a verdict, to the millisecond."""
    return [(int(one["track"]), round(float(one["start_seconds"]), 3), round(float(one["end_seconds"]), 3)) for one in clips]


def rounded(of_frames: NDArray[np.float32] | None, at: int) -> float | None:
    """The value of a frame; None where the network says nothing of single frames."""
    return None if of_frames is None else round(float(of_frames[at]), 4)


def heated(frame: NDArray[np.uint8], found: "ClipExplanation", at: int) -> NDArray[np.uint8]:
    """The frame [S, S, 3] under its heat; the console lays it over the plain frame, as strongly as the reader wants."""
    import matplotlib

    warm = found.heat[at][..., None]
    mixed = frame.astype(np.float64) / 255 * (1 - STRENGTH * warm) + matplotlib.colormaps["inferno"](found.heat[at])[..., :3] * STRENGTH * warm
    picture: NDArray[np.uint8] = np.clip(np.rint(mixed * 255), 0, 255).astype(np.uint8)
    return picture


async def answer_lines(explainer: Explainer) -> None:
    """Answer one line of stdin after the other until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        detection_id = str(json.loads(line).get("id"))
        try:
            answer: dict[str, Any] = {"id": detection_id, "explanation": await explainer.explain(detection_id)}
        except (StoreSilent, DatabaseSilent, Hindered) as problem:
            answer = {"id": detection_id, "error": problem.why, "silent": type(problem).__name__}
        except VigilError as problem:
            answer = {"id": detection_id, "error": problem.why}
        except Exception as problem:  # one file's trouble is not the next one's
            if is_no_room(problem):
                LOG.warning("detection %s: there is no room on the disk: %s", detection_id, problem)
                answer = {"id": detection_id, "error": "there is no room on the disk of the service now", "silent": Hindered.__name__}
            else:
                LOG.error("detection %s: %r", detection_id, problem)
                answer = {"id": detection_id, "error": "it failed; the service's log says how"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()
    await explainer.decoders.stop()


def main() -> int:
    """The command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m feedback.work.explainer", description="Explain verdicts of the service.")
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--model-dir", type=Path)
    given = parser.parse_args()
    set_quiet_environment()
    start_log("explainer: ")
    try:
        asyncio.run(answer_lines(Explainer(given.workspace.resolve(), handed_settings(), given.model_dir)))
    except VigilError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
