"""Load: how much of a bare endpoint's throughput a route of the service keeps, and whether memory stays flat.

    python benchmarks/load.py [--seconds 10] [--clients 100] [--rounds 3]     appends a row to benchmarks/load.jsonl
    python benchmarks/load.py --minutes 30                                    mixed load instead: uploads, looks, lists

Metadata routes (one verdict, one's own list of ten, which model answers) are asked with an API key by so many clients at once, in turns
with a bare FastAPI endpoint that returns the same bytes, each server a process of its own and the clients another. Figures are
ratios within one run. Mixed load notes the memory of service and worker every half minute.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import count  # noqa: E402
from workspace.files import add_row  # noqa: E402

BARE = """
import sys
from pathlib import Path
import uvicorn
from fastapi import FastAPI
from fastapi.responses import Response
app, body = FastAPI(), Path(sys.argv[1]).read_bytes()
@app.get("/bare")
async def bare() -> Response:
    return Response(body, media_type="application/json")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
"""
WARM_SECONDS = 2.0


async def ask(address: tuple[str, int], path: str, key: str, clients: int, seconds: float) -> tuple[float, float]:
    """Keep-alive connections that ask one after the other: (answers a second, p99 in seconds). Raises on anything but 200."""
    request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    times: list[float] = []
    until = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(*address)
        try:
            while (started := time.perf_counter()) < until:
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(head.decode("latin-1"))
                length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
                await reader.readexactly(length)
                times.append(time.perf_counter() - started)
        finally:
            writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(times) / seconds, statistics.quantiles(times, n=100)[98]


def against_bare(target: Any, clients: int, seconds: float, rounds: int, folder: Path) -> list[dict[str, Any]]:
    """A row a route: its throughput and p99 as parts of those of the bare endpoint with the same body, in turns."""
    from benchmarks.hostile import good_files

    ids = [target.client.post("/v1/detections", files={"file": ("a", good_files()[0] + bytes([n]))}, params={"wait": 60}).json()["id"] for n in range(10)]
    rows = []
    for name, path in (("a verdict", f"/v1/detections/{ids[0]}"), ("a list of ten", "/v1/detections?limit=10"), ("which model", "/v1/models")):
        (folder / "body").write_bytes(target.client.get(path).content)
        port = _free_port()
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(folder / "body"), str(port)])
        try:
            _until_open(port)
            turns = []
            for number in range(rounds + 1):
                pause = WARM_SECONDS if number == 0 else seconds
                plain = asyncio.run(ask(("127.0.0.1", port), "/bare", "x", clients, pause))
                ours = asyncio.run(ask(target.address, path, target.key, clients, pause))
                turns.append((plain, ours))
        finally:
            bare.terminate()
            bare.wait()
        counted = turns[1:]
        rows.append({
            "route": name, "bytes": (folder / "body").stat().st_size, "bare_a_second": [round(plain[0]) for plain, _ in counted],
            "ours_a_second": [round(ours[0]) for _, ours in counted],
            "throughput_ratio": round(statistics.median(ours[0] / plain[0] for plain, ours in counted), 3),
            "p99_ratio": round(statistics.median(ours[1] / plain[1] for plain, ours in counted), 2),
            "p99_ms": [[round(plain[1] * 1000, 1), round(ours[1] * 1000, 1)] for plain, ours in counted],
        })  # fmt: skip
    return rows


def mixed(target: Any, minutes: float) -> list[dict[str, Any]]:
    """Uploads, looks and lists all the while; memory of service and worker every half minute."""
    import threading

    import httpx

    from benchmarks.hostile import good_files

    files, stop, states, done = good_files(), threading.Event(), [], [0, 0]

    def work(number: int) -> None:
        with httpx.Client(base_url=target.url, timeout=120, trust_env=False, headers={"Authorization": f"Bearer {target.key}"}) as client:
            index = number
            while not stop.is_set():
                index += 4
                answer = client.post("/v1/detections", files={"file": ("a", files[index % len(files)] + index.to_bytes(8, "big"))}, params={"wait": 30})
                if answer.status_code == 429:
                    time.sleep(0.5)
                    continue
                done[0] += answer.status_code in (201, 202)
                for path in (
                    f"/v1/detections/{answer.json()['id']}",
                    "/v1/detections?limit=20",
                    "/v1/models",
                    f"/v1/detections/{answer.json()['id']}/thumbnail",
                ):
                    done[1] += client.get(path).status_code == 200

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    ends = time.monotonic() + minutes * 60
    while time.monotonic() < ends:
        time.sleep(min(30.0, max(0.0, ends - time.monotonic())))
        states.append({"seconds": round(minutes * 60 - (ends - time.monotonic())), "uploads": done[0], "looks": done[1], **target.state()})
    stop.set()
    for thread in threads:
        thread.join()
    return states


def _free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _until_open(port: int) -> None:
    import socket

    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)


def main() -> None:
    """Run, append the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=count, default=100)
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--minutes", type=float, default=0.0, help="mixed load for so long, instead")
    given = parser.parse_args()
    from benchmarks.hostile import Target, workspace

    folder = Path(tempfile.mkdtemp(prefix="vigil-load-"))
    try:
        target = Target(workspace(folder / "workspace"), None)
        assert urlsplit(target.url).port
        try:
            about: dict[str, Any] = {"when": datetime.now(UTC).isoformat(timespec="seconds"), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
            if given.minutes:
                states = mixed(target, given.minutes)
                growth = {name: round(states[-1][name]["mb"] / states[len(states) // 4][name]["mb"], 3) for name in ("service", "worker")}
                row = {**about, "minutes": given.minutes, "growth_after_first_quarter": growth, "states": states}
            else:
                row = {**about, "clients": given.clients, "routes": against_bare(target, given.clients, given.seconds, given.rounds, folder)}
        finally:
            target.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    add_row(HERE / "load.jsonl", row)
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
