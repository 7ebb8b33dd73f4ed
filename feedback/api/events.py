"""What changes, told to who waits for it: the workers' messages wake, the database says what is true."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from feedback.access import Actor, Forbidden
from feedback.api.answers import dumps
from feedback.api.caller import Door
from feedback.api.problems import Problem
from feedback.service import NotFound
from workspace.errors import DatabaseSilent

LOOK_SECONDS = 1.0  # also without a message: another process may have done the work
HEARTBEAT_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
Who = Callable[[], Awaitable[Actor]]  # by now: a key may be revoked, and a role taken, while its request waits
ENDED = (Problem, Forbidden, NotFound)


class Changes:
    """Wakes those who wait for a detection. One for an event loop."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, message: dict[str, Any]) -> None:
        """Take a message of the workers."""
        for event in self._waiting.get(str(message.get("id", "")), ()):
            event.set()

    async def wait(self, detection_id: str, seconds: float) -> None:
        """Return when something is said about this detection, or after so long."""
        event = asyncio.Event()
        self._waiting[detection_id].add(event)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
        finally:
            self._waiting[detection_id].discard(event)
            if not self._waiting[detection_id]:
                del self._waiting[detection_id]


async def until_done(door: Door, changes: Changes, who: Who, found: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The detection once it has its verdict, or as it is after so long; as it was `found` last by who may not see it any more, or where it cannot be told."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    try:
        while True:
            found = await _by_now(door, who, found)
            left = deadline - loop.time()
            if found["state"] in ("done", "erased") or left <= 0:
                return found
            await changes.wait(found["id"], min(left, LOOK_SECONDS))
    except (*ENDED, asyncio.CancelledError):  # the latter where the service was told to stop; it was taken in all the same
        return found


async def progress(door: Door, changes: Changes, who: Who, found: dict[str, Any]) -> AsyncIterator[bytes]:
    """Server-sent events: `progress` while it is looked at, `done` with the whole detection at the end, a comment when nothing happens.

    They end with the right to see it.
    """
    loop = asyncio.get_running_loop()
    started = silent = loop.time()
    told: tuple[Any, ...] = ()
    while loop.time() - started < LONGEST_SECONDS:
        try:
            found = await _by_now(door, who, found)
        except ENDED:
            return
        now = (found["state"], found["progress"])
        if found["state"] in ("done", "erased"):
            yield b"event: done\ndata: " + dumps(found) + b"\n\n"
            return
        if now != told:
            told, silent = now, loop.time()
            yield b"event: progress\ndata: " + dumps({name: found[name] for name in ("id", "state", "progress")}) + b"\n\n"
        elif loop.time() - silent > HEARTBEAT_SECONDS:
            silent = loop.time()
            yield b": still at work\n\n"
        await changes.wait(found["id"], LOOK_SECONDS)


async def _by_now(door: Door, who: Who, found: dict[str, Any]) -> dict[str, Any]:
    """The detection as it is, or as it was `found` last while the database does not answer. Raises what ENDED names."""
    try:
        return dict(await door.look(door.service.detection, await who(), found["id"]))
    except DatabaseSilent:
        return found
