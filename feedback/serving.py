"""The model that answers: loaded, tried on a golden clip, and swapped while requests run.

A request takes the model that is current when it starts and keeps it to its end. A new champion is loaded and tried
beside the old one, then one assignment makes it current; a champion that cannot be loaded changes nothing.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from feedback.champion import NoChampion, ask
from feedback.wording import without_root
from model.card import operating_points
from model.inference import Engine
from model.shipped import STARTER, has_starter
from workspace.errors import JournalError, ModelFileError, RegistryUnavailable, VigilError, printable
from workspace.journal import Event, Journal
from workspace.settings import Settings

LOG = logging.getLogger("vigil.serve")
JOURNAL = "journal.jsonl"
GOLDEN_FRAMES = 4
LONGEST_WAIT_SECONDS = 60.0  # between two questions while registry and journal disagree


@dataclass(frozen=True, slots=True)
class Served:
    """A model that has answered on its golden clip, and where it came from."""

    engine: Engine
    path: Path
    model_sha256: str
    cycle: str
    version: int  # 0: never promoted
    origin: str  # registry | journal | directory | starter: the shipped model, which stands in until a first one is promoted
    loaded_at: str
    golden_p_fake: float
    trained_at: str  # '' where the journal does not know it

    def describe(self) -> dict[str, Any]:
        """What /readyz, /v1/models and every answer say; no path of the server in it."""
        card = self.engine.card
        return {
            "model": self.engine.model_id, "model_sha256": self.model_sha256, "cycle": self.cycle, "version": self.version, "origin": self.origin,
            "loaded_at": self.loaded_at, "model_trained_at": card.created or self.trained_at, "knows": sorted(card.generators_seen),
            "threshold": card.threshold, "abstain": card.abstain, "size_px": card.faces.size_px, "engine": card.engine, "golden_p_fake": self.golden_p_fake,
        }  # fmt: skip


class Serving:
    """Holds the current model of one service. `current` is None until one has answered; then `why` and `next_step` say what is missing.

    `reload_problem`: why another model may answer than leads, and what to do. `registry_problem`: the journal says which model leads, for the registry does
    not answer. Each is '' where all is well; no path of the server is in them, nor in `why`.
    """

    def __init__(self, root: Path, settings: Settings, model_dir: Path | None = None) -> None:
        self.root, self.settings, self.model_dir = root, settings, model_dir
        self.current: Served | None = None
        self.why, self.next_step = "the model is still being loaded", "Ask again in a few seconds."
        self.reload_problem = self.registry_problem = ""
        self.tried = asyncio.Event()  # the first attempt to load a model has ended, well or not

    async def watch(self) -> None:
        """Load the model, then follow the champion until cancelled. With a model directory: load it once."""
        if self.model_dir is not None:
            await self._follow_directory(self.model_dir)
            return
        pause = self.settings.serve.reload_seconds
        seen: tuple[int, int] | None = None
        again, wait = 0.0, pause  # while registry and journal disagree, or a load failed: when to ask again although nothing was written
        while True:
            stamp = self._journal_stamp()  # taken before the question: what is written meanwhile is seen by the next look
            if stamp != seen or time.monotonic() >= again:
                wait = pause if stamp != seen else min(wait * 2, max(pause, LONGEST_WAIT_SECONDS))
                seen, settled = stamp, await self._follow_champion()
                again = float("inf") if settled else time.monotonic() + wait
                self.tried.set()
            await asyncio.sleep(pause)

    async def _follow_directory(self, model_dir: Path) -> None:
        try:
            self.current = await asyncio.to_thread(self._load, model_dir, "", "", 0, "directory")
        except Exception as problem:
            self._failed("the model could not be loaded", problem)
        self.tried.set()

    async def _follow_champion(self) -> bool:
        """Ask and swap. False means: ask again although the journal has not changed."""
        try:
            champion = await ask(self.root)
            if isinstance(champion, NoChampion):
                self.reload_problem = self.registry_problem = ""
                if self.current is None and has_starter():
                    self.current = await asyncio.to_thread(self._load, STARTER, "", "", 0, "starter")
                    LOG.warning("%s: the starter model answers until then", champion.why)
                elif self.current is None:
                    self.why, self.next_step = champion.why, champion.next_step
                return True
            self._noted(champion.note)
            answering = self.current and (self.current.model_sha256, self.current.cycle)  # an import may have the starter's weights under its own card
            if answering != (champion.model_sha256, champion.cycle):
                self.current = await asyncio.to_thread(
                    self._load, champion.path, champion.model_sha256, champion.cycle, champion.version, champion.origin
                )  # the one assignment that swaps; requests in flight keep the engine they hold
                LOG.info("serving model %s of cycle %s", self.current.engine.model_id, self.current.cycle or "(none)")
            self.reload_problem = ""
            return champion.settled
        except RegistryUnavailable as problem:
            self._failed("it could not be asked which model leads", problem)
        except Exception as problem:
            self._failed("the champion could not be loaded", problem)
        return False

    def _failed(self, what: str, problem: Exception) -> None:
        """Tell what failed, what goes on, why, and what to do: in the log, and to whoever asks."""
        if isinstance(problem, VigilError):  # that nothing was changed is true, and reads as if there were no fault
            why, next_step = f"{problem.what.replace(' Nothing was changed.', '')} {problem.why}", problem.next_step
        else:
            why, next_step = f"{type(problem).__name__}: {printable(' '.join(str(problem).split()))}", "Run `vigil doctor`."
        why, next_step = why.rstrip("."), f"{next_step.rstrip('.')}."
        if self.current is None:
            self.why, self.next_step = self._outside(f"{what}: {why}"), self._outside(next_step)
        answers = "" if self.current is None else f"; {self.current.model_sha256[:12]} of {self.current.cycle or self.current.origin} still answers"
        whole = f"{what[0].upper()}{what[1:]}{answers}: {why}. {next_step}"
        told = self._outside(whole)
        if told != self.reload_problem:
            LOG.error("%s", whole)
        self.reload_problem = told

    def _outside(self, text: str) -> str:
        return without_root(text, self.root, self.model_dir)

    def _noted(self, why: str) -> None:
        """Tell, once, that the registry does not answer, and that it does again: the right model answers meanwhile."""
        if why and not self.registry_problem:
            LOG.warning("the model registry does not answer, so the journal says which model leads: %s", why)
        if self.registry_problem and not why:
            LOG.info("the model registry answers again")
        self.registry_problem = why and self._outside(f"The model registry does not answer; the journal says which model leads. {why}")

    def _journal_stamp(self) -> tuple[int, int]:
        try:
            found = (self.root / JOURNAL).stat()
        except OSError:
            return (0, 0)
        return found.st_mtime_ns, found.st_size

    def _load(self, path: Path, expected_sha256: str, cycle: str, version: int, origin: str) -> Served:
        engine = Engine(path, threads=self.settings.serve.threads)
        if expected_sha256 and engine.card.model_sha256 != expected_sha256:
            raise ModelFileError(
                f"Refused the model in {path}.",
                why=f"{path.name} holds model {engine.card.model_sha256[:12]}, the champion is {expected_sha256[:12]}",
                next_step="Restore the model with `vigil doctor --pull`, or run `vigil doctor`.",
            )
        operating_points(engine.card)  # a policy may ask for one: what they lack is the model's fault, never an upload's
        score = engine.score_clips([golden_clip(engine.card.faces.size_px)])[0]
        if not (np.isfinite(score.p_fake) and 0 <= score.p_fake <= 1):
            raise ModelFileError("The model was not loaded.", why=f"it scores its golden clip {score.p_fake}", next_step="Export it again.")
        if origin == "directory":
            cycle = engine.card.cycle  # the starter's is one of the workspace that it was made in
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        made = [event.time for event in self._events() if event.kind == "candidate" and event["model_sha256"] == engine.card.model_sha256]
        return Served(engine, path, engine.card.model_sha256, cycle, version, origin, now, float(score.p_fake), (made or [""])[0])

    def _events(self) -> list[Event]:
        """The journal's, none where it cannot be read: that is for others to say."""
        try:
            return Journal(self.root).events()
        except JournalError:
            return []


def golden_clip(size_px: int) -> np.ndarray:
    """Seeded noise, uint8 [4, size_px, size_px, 3]: any model must give a finite p_fake in 0..1 for it."""
    return np.random.default_rng(20261116).integers(0, 256, (GOLDEN_FRAMES, size_px, size_px, 3), dtype=np.uint8)
