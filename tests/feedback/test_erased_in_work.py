"""An upload that is erased while a worker looks at it leaves no picture of the face behind."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from feedback.detections import Accepted
from feedback.erasing import Erasing
from feedback.work.worker import Worker
from tests.feedback.world import World
from workspace.files import sha256_bytes


@pytest.mark.parametrize("erased", [True, False])
def test_an_upload_that_is_erased_while_it_is_looked_at_leaves_no_pictures(
    tmp_path: Path, models: tuple[Path, Path], picture: bytes, monkeypatch: pytest.MonkeyPatch, erased: bool
) -> None:
    # Once the worker made the folder again that the erasure had removed, and nothing ever looked there any more.
    world = World(tmp_path / "w")
    worker, sha256 = Worker(world.root, world.settings, "w", models[0]), sha256_bytes(picture)
    (world.root / "file").write_bytes(picture)
    world.media.put(world.root / "file", sha256)
    sent = worker.detections.accept(world.sender, [Accepted(sha256, len(picture))])[0]
    score = worker.batcher.score

    async def meanwhile(*given: Any) -> Any:
        if erased:
            Erasing(world.database, world.media).erase(world.sender, sent["id"])
        return await score(*given)

    monkeypatch.setattr(worker.batcher, "score", meanwhile)

    async def go() -> None:
        await worker.serving.watch()
        scoring = asyncio.create_task(worker.batcher.run())
        await worker._job(worker.detections.claim("w") or {}, worker.serving.current)
        scoring.cancel()
        await worker.decoders.stop()
        worker.batcher.close()

    asyncio.run(go())
    found = worker.detections.get(sent["id"]) or {}
    assert found["state"] == ("erased" if erased else "done")
    assert bool(list((world.root / ".vigil/derived").rglob("*.webp"))) is not erased
    worker.database.close()
    world.close()
