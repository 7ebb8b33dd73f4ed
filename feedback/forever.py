"""What goes on behind the service: step after step until it is cancelled, whatever goes wrong in one of them."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from workspace.errors import VigilError

LOG = logging.getLogger("vigil.serve")
TROUBLE_SECONDS = 5.0


async def forever(what: str, step: Callable[[], Awaitable[float]]) -> None:
    """Do `step` until cancelled, and after each wait as many seconds as it returns. One that fails is logged, and comes again after a pause.

    Nobody waits for such work: without this, one moment in which the database was locked would end it for as long as the process lives.
    """
    while True:
        try:
            pause = await step()
        except Exception as problem:
            LOG.error("%s: %s\nIt goes on in %g s.", what, problem if isinstance(problem, VigilError) else repr(problem), TROUBLE_SECONDS)
            pause = TROUBLE_SECONDS
        await asyncio.sleep(pause)
