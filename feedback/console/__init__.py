"""The review console: pages for people, served by the service's own program under /console.

May import NiceGUI and, of `feedback`, the service and what it raises; never a store. Every page and every handler asks
through `Visitor`, which looks its session up anew each time: who was disabled or lost a role is refused at the next click.
NiceGUI takes seconds to import, so nothing here imports it before `run` is called.
"""

import asyncio
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI

    from feedback.service import Service

PATH = "/console"


async def run(app: "FastAPI", service: "Service") -> None:
    """Serve the console under /console of `app`, which may be answering already, until cancelled.

    Imports NiceGUI in a thread first, so that the API goes on answering; no middleware is added to `app`.
    """
    mounting = await asyncio.to_thread(importlib.import_module, "feedback.console.mounting")
    async with mounting.mounted(app, service):
        await asyncio.Event().wait()
