"""Run the service as a process: `vigil serve`, and `python -P -m feedback.serve` for the promotion probe.

The probe: `python -P -m feedback.serve --model-dir DIR --port 0 --ready-file F --probe` listens on a free loopback port, writes
{"host", "port", "url", "pid"} to F once it listens and DIR has answered on a golden clip, opens no database, and offers `GET /readyz`
and `POST /v1/clips` (body: raw uint8 RGB in C order; header `X-Shape: T,S,S,3`; answer: p_fake, logit, certainty). A model
that cannot be loaded ends it with code 1 and the reason on stderr. It ends with SIGTERM, with Ctrl-C, and when its parent is gone.
"""

import argparse
import asyncio
import contextlib
import importlib
import ipaddress
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import uvicorn
from fastapi import FastAPI

from feedback.api.app import create_app
from feedback.api.guard import THIS_MACHINE
from feedback.api.limits import BoundedProtocol
from feedback.api.probe import create_probe
from feedback.log import start_log
from feedback.same_secret import note_secret
from feedback.secret import VARIABLE, load_secret
from feedback.serving import Serving
from workspace.errors import ModelFileError, VigilError, WorkspaceError
from workspace.files import write_json
from workspace.lease import Holder, serving_alone
from workspace.processes import find_ancestor, is_orphan
from workspace.quiet import set_quiet_environment
from workspace.settings import Settings, load_settings

LOG = logging.getLogger("vigil.serve")
PARENT_LOOK_SECONDS = 1.0
GRACE_SECONDS = 30
CONSOLE_WAIT_SECONDS = 15.0  # a service whose model does not load still has its console


def serve(
    root: Path,
    settings: Settings,
    host: str | None = None,
    port: int | None = None,
    model_dir: Path | None = None,
    ready_file: Path | None = None,
    probe: bool = False,
) -> None:
    """Serve the workspace `root` until SIGTERM or Ctrl-C; both are a clean end: requests finish, files close, exit code 0.

    host and port default to the settings; port 0 takes a free one. `ready_file` is written, whole, once the service listens
    (a probe: once its model has answered, too). Raises LeaseHeldError where this workspace is served already (beside a probe
    it may be), WorkspaceError when the address cannot be had, ModelFileError for a probe whose model cannot be loaded.
    """
    set_quiet_environment()
    start_log()
    host = settings.serve.host if host is None else host
    port = settings.serve.port if port is None else port
    if probe:
        assert model_dir is not None  # the command line asks for it
        with contextlib.closing(_listen(host, port)) as listener:
            _run(create_probe(root, settings, model_dir), settings, host, listener, ready_file, probe)
        return
    try:
        listener = _listen(host, port)
    except WorkspaceError:
        with _alone(root, "nothing yet"):  # where this workspace's own service has the address, that is what is said
            raise
    with contextlib.closing(listener), _alone(root, _url(host, listener)):
        local = is_local(host)
        if local and not os.environ.get(VARIABLE):
            LOG.warning("no %s in the environment: this workspace's own secret is used, which is enough for this machine alone", VARIABLE)
        names = {*settings.serve.host_names, host, *THIS_MACHINE} if local or settings.serve.host_names else ()
        secret = load_secret(root, local)
        application = create_app(root, settings, secret, model_dir, sorted(names))
        database = application.state.service.database
        with database.serving_alone(_url(host, listener)):
            if changed := note_secret(database, secret):
                LOG.warning("%s", changed)
            _run(application, settings, host, listener, ready_file, probe)


def _alone(root: Path, url: str) -> contextlib.AbstractContextManager[Holder]:
    """Serve as the only one: two services of a workspace go by one name as workers, and would take each other's jobs. Ends with the process."""
    return serving_alone(root, f"serving {url}", "This workspace is served already. Nothing was started.")


def _run(application: FastAPI, settings: Settings, host: str, listener: socket.socket, ready_file: Path | None, probe: bool) -> None:
    config = uvicorn.Config(
        application,
        http="auto" if probe else BoundedProtocol,
        log_level="warning" if probe else "info",
        access_log=False,
        timeout_graceful_shutdown=GRACE_SECONDS,
        server_header=False,
        proxy_headers=bool(settings.serve.trusted_proxies) and not probe,
        forwarded_allow_ips=[seen for one in settings.serve.trusted_proxies for seen in _as_seen(one)],
    )
    server = _Server(config, host, ready_file, application.state.serving if probe else None, None if probe else application)
    try:
        server.run(sockets=[listener])
        if probe and application.state.serving.current is None and application.state.serving.tried.is_set():
            raise ModelFileError("The probed model does not answer.", why=application.state.serving.why, next_step=application.state.serving.next_step)
    finally:
        if ready_file is not None:
            ready_file.unlink(missing_ok=True)


def _as_seen(proxy: str) -> list[str]:
    """How a proxy, or a network of them, may show: where the service listens on `::`, who comes over IPv4 is ::ffff:10.0.0.7."""
    network = ipaddress.ip_network(proxy)
    return [proxy, f"::ffff:{network.network_address}/{96 + network.prefixlen}"] if network.version == 4 else [proxy]


class _Server(uvicorn.Server):
    """uvicorn that says when it listens and ends cleanly on a signal instead of dying of it; a probe also ends with its parent."""

    def __init__(self, config: uvicorn.Config, host: str, ready_file: Path | None, probed: Serving | None, service: FastAPI | None) -> None:
        super().__init__(config)
        self.host, self.ready_file, self.probed, self.service = host, ready_file, probed, service
        self.parent = _Parent()  # read before anything slow: a parent that dies meanwhile is noticed
        self.closing = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not (self.started and sockets):
            return
        if self.service is not None:
            self._say_ready(sockets[0])
            self._tasks = [asyncio.create_task(self._open_console(self.service))]
        elif self.probed is not None:
            self._tasks = [asyncio.create_task(self._probe(self.probed, sockets[0])), asyncio.create_task(self._watch_parent())]

    def _say_ready(self, listener: socket.socket) -> None:
        url, port = _url(self.host, listener), int(listener.getsockname()[1])
        LOG.info("listening on %s", url)
        if self.ready_file is not None:
            write_json(self.ready_file, {"host": self.host, "port": port, "url": url, "pid": os.getpid()})

    async def _open_console(self, service: FastAPI) -> None:
        """The console's library takes seconds to import, so it follows once the model answers, or has taken long."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONSOLE_WAIT_SECONDS):
                    await self._until_ready(service)
            if self.closing.is_set():
                return
            from_thread = await asyncio.to_thread(importlib.import_module, "feedback.console.mounting")
            async with from_thread.mounted(service, service.state.service):
                LOG.info("the console is at /console")
                await self.closing.wait()
        except Exception as problem:  # the API goes on without it
            LOG.error("the console could not be opened: %r", problem)

    async def _until_ready(self, service: FastAPI) -> None:
        workers = service.state.service.workers
        while workers.model is None and not self.closing.is_set():
            await asyncio.sleep(0.05)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.closing.set()
        await asyncio.gather(*self._tasks, return_exceptions=True) if self.service is not None else None
        await super().shutdown(sockets)
        if self.force_exit:  # a second Ctrl-C leaves open connections to themselves, but not the workers; uvicorn would let go of both
            await self.lifespan.shutdown()

    async def _probe(self, serving: Serving, listener: socket.socket) -> None:
        await serving.tried.wait()
        if serving.current is None:
            self.should_exit = True
        else:
            self._say_ready(listener)

    async def _watch_parent(self) -> None:
        while not self.parent.is_gone():
            await asyncio.sleep(PARENT_LOOK_SECONDS)
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but the signal is not raised again after the shutdown: it did what was asked, so exit code 0."""
        with super().capture_signals():
            yield
            self._captured_signals.clear()


class _Parent:
    """Who started this process. VIGIL_PARENT (pid:create_time) names it when a process stands in between."""

    def __init__(self) -> None:
        me, token = psutil.Process(), os.environ.get("VIGIL_PARENT", "")
        self.pid = os.getppid()
        self.named, self.orphaned = find_ancestor(me, token), is_orphan(me, token)

    def is_gone(self) -> bool:
        return self.orphaned or os.getppid() != self.pid or (self.named is not None and not self.named.is_running())


def is_local(host: str) -> bool:
    """Whether only this machine can reach a service that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"


def _listen(host: str, port: int) -> socket.socket:
    listener = None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as problem:
        if listener is not None:
            listener.close()
        raise WorkspaceError(
            f"Cannot listen on {host}:{port}.", why=str(problem), next_step="Choose another with --host and --port, or end the program that holds it."
        ) from problem
    listener.set_inheritable(True)
    return listener


def main(arguments: list[str] | None = None) -> int:
    """The command line of this module; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -P -m feedback.serve", description="Run the detection service of a workspace.")
    parser.add_argument("--workspace", type=Path, default=Path.cwd(), help="the workspace; its params.yaml is read (default: here)")
    parser.add_argument("--model-dir", type=Path, help="serve this model instead of the champion")
    parser.add_argument("--host", help="default: serve.host of the settings; with --probe 127.0.0.1")
    parser.add_argument("--port", type=int, help="0 takes a free port; default: serve.port of the settings")
    parser.add_argument("--ready-file", type=Path, help="written once the service listens")
    parser.add_argument("--probe", action="store_true", help="offer /v1/clips only, open no database, end with the parent")
    given = parser.parse_args(arguments)
    if given.probe and given.model_dir is None:
        parser.error("--probe needs --model-dir")
    try:
        settings = load_settings(given.workspace / "params.yaml")
        host = "127.0.0.1" if given.probe and given.host is None else given.host
        serve(given.workspace.resolve(), settings, host, given.port, given.model_dir, given.ready_file, given.probe)
    except VigilError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
