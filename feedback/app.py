"""The service's routes: detect, look at cases, review them, say which model answers. Never imports torch or mlflow.

One file is scored at a time (the engine uses every thread it was given); a short queue waits, the rest is told to come back.
Label map of every answer: `p_fake`, 1 means fake.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from feedback.problems import Problem, install_problem_handlers
from feedback.serving import Served, Serving
from feedback.store import AlreadyReviewed, FeedbackStore
from feedback.uploads import received, remove_stale_uploads
from workspace.settings import Settings

LABEL_MAP = "p_fake: 1 means fake"
MAX_WAITING = 16
RETRY_SECONDS = 5
MAX_CLIP_FRAMES = 120
OneLine = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class Review(BaseModel):
    """What a person saw. `identity` names who is in the file, where known; without it the sample only ever trains."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    label: Literal["real", "fake", "unsure"]
    reviewer: Annotated[OneLine, Field(min_length=1)]
    note: str = Field("", max_length=4000)
    identity: OneLine = ""


class _Service:
    """What the routes share: the model, the database (none in a probe), the one scoring thread and its queue."""

    def __init__(self, root: Path, settings: Settings, model_dir: Path | None, probe: bool) -> None:
        self.root, self.settings = root, settings
        self.serving = Serving(root, settings, model_dir)
        self.store = None if probe else FeedbackStore(root)
        self.scorer = ThreadPoolExecutor(1, thread_name_prefix="score")
        self.waiting = 0

    def served(self) -> Served:
        """The current model, or a 503 that says why there is none."""
        if self.serving.current is None:
            raise Problem(503, f"No model is ready: {self.serving.why}.", next_step=self.serving.next_step, retry_after_seconds=RETRY_SECONDS)
        return self.serving.current

    @contextlib.contextmanager
    def place(self) -> Any:
        """A place in the queue, or a 503."""
        if self.waiting >= MAX_WAITING:
            raise Problem(503, f"{MAX_WAITING} files are waiting already.", next_step="Send it again later.", retry_after_seconds=RETRY_SECONDS)
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1

    async def score(self, function: Any, *arguments: Any) -> Any:
        """Run in the scoring thread."""
        return await asyncio.get_running_loop().run_in_executor(self.scorer, function, *arguments)

    @contextlib.asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        remove_stale_uploads(self.root)
        watcher = asyncio.create_task(self.serving.watch())
        try:
            yield
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            self.scorer.shutdown(wait=True, cancel_futures=True)
            if self.store is not None:
                self.store.close()


def create_app(root: Path, settings: Settings, model_dir: Path | None = None, probe: bool = False) -> FastAPI:
    """The service of workspace `root`. With `model_dir` that model answers, else the champion, followed as it changes.

    `probe` leaves only health, readiness, models and `POST /v1/clips`, and opens no database: a probe must not write to a workspace.
    """
    service = _Service(root, settings, model_dir, probe)
    # No docs pages: they load their scripts from other hosts. /openapi.json stays.
    app = FastAPI(title="Vigil", version="1", docs_url=None, redoc_url=None, lifespan=service.lifespan)
    app.state.serving = service.serving
    install_problem_handlers(app)
    app.include_router(_health(service))
    if service.store is None:
        app.include_router(_clips(service))
    else:
        app.include_router(_detections(service, service.store))
        app.include_router(_cases(service.store))
    return app


def _health(service: _Service) -> APIRouter:
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @router.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """A model is loaded and has scored its golden clip; else 503 with the reason."""
        return service.served().describe()

    @router.get("/v1/models")
    async def models() -> dict[str, Any]:
        """Which model answers, with what threshold, and what hinders a newer one."""
        current = service.serving.current
        if current is None:
            return {"serving": None, "why": service.serving.why, "next_step": service.serving.next_step}
        card = current.engine.card
        described = {**current.describe(), "threshold": card.threshold, "abstain": card.abstain, "size_px": card.faces.size_px}
        return {"serving": {**described, "label_map": LABEL_MAP}, "reload_problem": service.serving.reload_problem}

    return router


def _detections(service: _Service, store: FeedbackStore) -> APIRouter:
    router = APIRouter()
    form = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
    body = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}

    @router.post("/v1/detections", openapi_extra=body)
    async def detect(request: Request, mode: Annotated[Literal["dense", "standard", "fast"] | None, Query()] = None) -> dict[str, Any]:
        """Judge one image or video. A file that cannot be judged gets verdict `none` with a reason; an uncertain one becomes a case."""
        served = service.served()
        with service.place():
            async with received(request, service.root, service.settings.serve.max_upload_bytes) as upload:
                if not upload.size_bytes:
                    raise Problem(422, "The file is empty.", next_step="Send an image or a video.")
                verdict = await service.score(served.engine.score_file, upload.path, mode)
                answer = _answer(served, dataclasses.asdict(verdict))
                answer["reason"] = answer["reason"].replace(str(upload.path), "the file")  # a decoder's own words may name our folders
                kept = await asyncio.to_thread(store.add_detection, answer, upload.path, upload.sha256, upload.size_bytes)
                return {**kept, "file": upload.file_name}

    @router.get("/v1/detections/{detection_id}")
    def detection(detection_id: str) -> dict[str, Any]:
        """The answer given earlier, without the client's file name, which is not kept."""
        found = store.detection(detection_id)
        if found is None:
            raise Problem(404, f"There is no detection {detection_id[:64]}.")
        return found

    return router


def _answer(served: Served, verdict: dict[str, Any]) -> dict[str, Any]:
    p_fake = verdict["p_fake"]
    return {
        **{name: verdict[name] for name in ("verdict", "frames", "faces", "reason", "kind", "tracks", "clips", "engine")},
        "p_fake": None if p_fake is None or not np.isfinite(p_fake) else float(p_fake),
        "threshold": served.engine.card.threshold,
        "model": served.engine.model_id,
        "model_sha256": served.model_sha256,
        "cycle": served.cycle,
        "origin": served.origin,
        "label_map": LABEL_MAP,
    }


def _cases(store: FeedbackStore) -> APIRouter:
    router = APIRouter()

    @router.get("/v1/cases")
    def cases(
        state: Annotated[Literal["open", "reviewed", "all"], Query()] = "open",
        after: Annotated[int, Query(ge=0, le=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> dict[str, Any]:
        """Cases in order of arrival; `next` is the `after` of the following page, or null."""
        found = store.cases(None if state == "all" else state, after, limit)
        return {"cases": found, "next": found[-1]["number"] if len(found) == limit else None}

    @router.get("/v1/cases/{case_id}")
    def case(case_id: str) -> dict[str, Any]:
        """One case, its review, and where its label is on the way to training."""
        return _found(case_id, store.case(case_id))

    @router.post("/v1/cases/{case_id}/review", status_code=201)
    def review(case_id: str, given: Review) -> dict[str, Any]:
        """Answer a case, once. `real` and `fake` reach the next cycle's batch; `unsure` closes the case."""
        try:
            return _found(case_id, store.review(case_id, given.label, given.reviewer, given.note, given.identity))
        except AlreadyReviewed:
            raise Problem(409, f"Case {case_id} has been reviewed already.", next_step="Read the review with GET /v1/cases/{id}.") from None

    return router


def _found(case_id: str, case: dict[str, Any] | None) -> dict[str, Any]:
    if case is None:
        raise Problem(404, f"There is no case {case_id[:64]}.", next_step="GET /v1/cases lists the open ones.")
    return case


def _clips(service: _Service) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/clips")
    async def clips(request: Request) -> dict[str, Any]:
        """Probe only: score one aligned clip, raw uint8 RGB in C order, its shape in `X-Shape: T,S,S,3`."""
        served = service.served()
        shape = _shape(request.headers.get("x-shape", ""), served.engine.card.faces.size_px)
        wanted, content = int(np.prod(shape)), bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > wanted:
                break
        if len(content) != wanted:
            raise Problem(422, f"The body does not have the {wanted} bytes of shape {shape}.", close=True)
        frames = np.frombuffer(bytes(content), np.uint8).reshape(shape)
        score = (await service.score(served.engine.score_clips, [frames]))[0]
        answer = {"p_fake": float(score.p_fake), "logit": float(score.logit), "certainty": [float(value) for value in score.certainty]}
        return {**answer, "model": served.engine.model_id, "model_sha256": served.model_sha256, "label_map": LABEL_MAP}

    return router


def _shape(text: str, size_px: int) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isdigit() and len(part) < 6 for part in parts):
        frames, height, width, channels = (int(part) for part in parts)
        if 1 <= frames <= MAX_CLIP_FRAMES and height == width == size_px and channels == 3:
            return frames, height, width, channels
    raise Problem(422, f"X-Shape is {text[:40]!r}, expected T,{size_px},{size_px},3 with T in 1..{MAX_CLIP_FRAMES}.", close=True)
