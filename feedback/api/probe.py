"""The promotion probe's application: does this model, loaded as the service loads it, answer? No database, no accounts, loopback only."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request

from feedback.api.problems import Problem, install_problem_handlers
from feedback.serving import Served, Serving
from feedback.wording import LABEL_MAP
from workspace.settings import Settings

RETRY_SECONDS = 5
MAX_CLIP_FRAMES = 120


def create_probe(root: Path, settings: Settings, model_dir: Path) -> FastAPI:
    """`GET /healthz`, `GET /readyz`, `POST /v1/clips`, of the one model in `model_dir`."""
    serving, scorer = Serving(root, settings, model_dir), ThreadPoolExecutor(1, thread_name_prefix="score")

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        watcher = asyncio.create_task(serving.watch())
        try:
            yield
        finally:
            watcher.cancel()
            await asyncio.gather(watcher, return_exceptions=True)
            scorer.shutdown(wait=True, cancel_futures=True)

    app = FastAPI(title="Vigil probe", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.serving = serving
    install_problem_handlers(app, root)

    def served() -> Served:
        if serving.current is None:
            raise Problem(503, f"No model is ready: {serving.why}.", next_step=serving.next_step, retry_after_seconds=RETRY_SECONDS)
        return serving.current

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def readyz() -> dict[str, Any]:
        """The model has scored its golden clip; else 503 with the reason."""
        return served().describe()

    @app.post("/v1/clips")
    async def clips(request: Request) -> dict[str, Any]:
        """Score one aligned clip, raw uint8 RGB in C order, its shape in `X-Shape: T,S,S,3`."""
        model = served()
        shape = _shape(request.headers.get("x-shape", ""), model.engine.card.faces.size_px)
        wanted, content = int(np.prod(shape)), bytearray()
        async for chunk in request.stream():
            content += chunk
            if len(content) > wanted:
                break
        if len(content) != wanted:
            raise Problem(422, f"The body does not have the {wanted} bytes of shape {shape}.", close=True)
        frames = np.frombuffer(bytes(content), np.uint8).reshape(shape)
        score = (await asyncio.get_running_loop().run_in_executor(scorer, model.engine.score_clips, [frames]))[0]
        answer = {"p_fake": float(score.p_fake), "logit": float(score.logit), "certainty": [float(value) for value in score.certainty]}
        return {**answer, "model": model.engine.model_id, "model_sha256": model.model_sha256, "label_map": LABEL_MAP}

    return app


def _shape(text: str, size_px: int) -> tuple[int, int, int, int]:
    parts = text.split(",")
    if len(parts) == 4 and all(part.strip().isdigit() and len(part) < 6 for part in parts):
        frames, height, width, channels = (int(part) for part in parts)
        if 1 <= frames <= MAX_CLIP_FRAMES and height == width == size_px and channels == 3:
            return frames, height, width, channels
    raise Problem(422, f"X-Shape is {text[:40]!r}, expected T,{size_px},{size_px},3 with T in 1..{MAX_CLIP_FRAMES}.", close=True)
