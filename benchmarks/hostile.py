# ruff: noqa: E501  (long lines of hostile data)
"""Bad input: does anything that a stranger sends bring the service down, make it leak, or get an answer that explains nothing?

    python benchmarks/hostile.py [--count 10000] [--seed 1] [--work FOLDER]      appends a row to benchmarks/hostile.jsonl

Half are uploads: pictures and clips of the project's own, truncated, with bits flipped, pieces cut out, doubled, zeroed or swapped, under
false names and types; and files made by hand: huge dimensions in small headers, boxes that contain themselves, playlists that name
other files and hosts, archives, scripts. Half are requests: broken multipart, wrong lengths, strange methods, paths, headers and JSON. Every answer
must be below 500; every accepted file must come to a verdict or to `none` with a reason; the same processes must be alive at
the end, with no more open files, and memory that no longer grows.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import count  # noqa: E402
from workspace.files import add_row  # noqa: E402

AT_ONCE = 8
PATIENCE_SECONDS = 120
NAMES = ("a.jpg", "a.mp4", "a.exe", "../../etc/passwd", "a\x00b.png", "CON", "x" * 300, "", "a.jpg.mp4", "\u202egpj.exe", "-rf", "$(id).png", "'; --")
TYPES = ("application/octet-stream", "image/png", "video/mp4", "text/html", "", "image/svg+xml", "x" * 200, "multipart/form-data")


# -- files ----------------------------------------------------------------------------------------------------------------------
def good_files() -> list[bytes]:
    """Pictures and clips that are what they say, in several formats."""
    import av
    import cv2

    from media.synthetic import render_take

    frames, _ = render_take(3, 1, 0, 8, size_px=160, fps=12.0)
    pictures = list(frames)
    made = [bytes(cv2.imencode(ending, pictures[0][..., ::-1])[1]) for ending in (".jpg", ".png", ".webp", ".bmp", ".tiff")]
    for name, codec in (("mp4", "libx264"), ("matroska", "libx264"), ("avi", "mpeg4")):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip"
            with av.open(str(path), "w", format=name) as out:
                stream = out.add_stream(codec, rate=12)
                stream.width, stream.height, stream.pix_fmt = 160, 160, "yuv420p"
                for picture in pictures:
                    out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                out.mux(stream.encode(None))
            made.append(path.read_bytes())
    return made


def mutated(content: bytes, rng: random.Random) -> bytes:
    """`content` with one to four things done to it."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if len(made) < 16:
            break
        start = rng.randrange(len(made))
        length = min(len(made) - start, int(2 ** rng.uniform(0, 12)))
        what = rng.randrange(7)
        if what == 0:
            del made[start:]
        elif what == 1:
            for _ in range(rng.randint(1, 64)):
                made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        elif what == 2:
            del made[start : start + length]
        elif what == 3:
            made[start:start] = made[start : start + length]
        elif what == 4:
            made[start : start + length] = bytes(length)
        elif what == 5:
            made[start : start + length] = rng.randbytes(length)
        else:  # a number in a header becomes a huge one
            at = rng.randrange(min(len(made) - 8, 400))
            made[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
    return bytes(made)


def hand_made() -> list[bytes]:
    """Files that are made to hurt."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def png(width: int, height: int, body: bytes) -> bytes:
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + chunk(b"IDAT", body) + chunk(b"IEND", b"")

    def box(kind: bytes, body: bytes, size: int | None = None) -> bytes:
        return struct.pack(">I", (len(body) + 8 if size is None else size) & 0xFFFFFFFF) + kind + body

    bomb = zlib.compress(bytes(40_000_000), 9)
    jpeg = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    nested = b""
    for _ in range(2000):
        nested = box(b"moov", nested)
    brand = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n"
    return [
        png(60000, 60000, bomb[:2000]), png(2**31 - 1, 2**31 - 1, b""), png(5000, 5000, bomb), png(0, 0, b""), png(1, 1, b""),
        jpeg, jpeg + bytes(1000), b"GIF89a\xff\xff\xff\xff\xf7\0\0" + b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x08\xff" * 50,
        b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 2**31 - 1, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0),
        b"RIFF" + struct.pack("<I", 2**32 - 1) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0\xff\xff\xff\xff\xff\xff",
        b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 2**31) + struct.pack("<I", 8),
        brand + nested, brand + box(b"moov", b"", 4), brand + box(b"moov", b"", 0), brand + box(b"mdat", b"", 1) + b"\xff" * 8, brand + box(b"moov", box(b"trak", b"", 2**31)),
        brand, b"\x1aE\xdf\xa3" + b"\xff" * 200, b"\x1aE\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff", b"RIFF\xff\xff\xff\xffAVI LIST" + b"\xff" * 300,
        playlist % b"file:///etc/passwd", playlist % b"http://127.0.0.1:9/secret", playlist % b"/proc/self/environ", b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"concat:/etc/passwd|/etc/hosts", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
        b"<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", b"<html><script>alert(1)</script>", b"#!/bin/sh\nid\n", b"PK\x03\x04" + bytes(200),
        b"\x1f\x8b\x08" + bytes(50), b"%PDF-1.7\n", b"\x7fELF" + bytes(100), b"\0", b"\n" * 100_000, bytes(200_000), b"FLV\x01\x05" + b"\xff" * 100, b"OggS" + b"\xff" * 200,
        b"\x00\x00\x01\xba" + b"\xff" * 500, b"\x47" + bytes(187) + b"\x47" + b"\xff" * 187, b"DICM" * 50, b"\xff\xfb\x90" + bytes(1000), b"YUV4MPEG2 W60000 H60000 F1:1\nFRAME\n",
        b"P6 60000 60000 255\n", b"\x76\x2f\x31\x01" + bytes(100), b"SIMPLE  =                    T", b"gimp xcf file\0", b"8BPS\0\x01" + b"\xff" * 40,
    ]  # fmt: skip


# -- requests -------------------------------------------------------------------------------------------------------------------
def raw_requests(rng: random.Random, key: str, host: str) -> bytes:
    """One request as bytes, wrong in some way."""
    paths = ["/v1/detections", "/v1/detections/batch", "/v1/cases", "/v1/queue", "/v1/users", "/v1/keys", "/v1/webhooks", "/v1/models/rollback", "/v1/audit",
             "/v1/sign-up", "/readyz", "/metrics", "/", "/console", "/v1/detections/" + "0" * 32, "/v1/cases/" + "f" * 32 + "/review", "/../../etc/passwd",
             "/v1/detections/%00", "/v1/detections/" + "a" * 5000, "/%ff%fe", "//v1//detections", "/v1/detections?limit=99999999999999999999", "/v1/cases?after=-1",
             "/v1/detections?since=' OR 1=1 --", "/v1/detections?before=1e9", "/openapi.json"]  # fmt: skip
    method = rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "X" * 30, "get"])
    path = rng.choice(paths).replace(" ", "%20")
    bodies = [b"", b"{", b"[]", b"null", b'{"label": 1}', b'{"reference": "file:///etc/passwd"}', b'{"reference": "http://169.254.169.254/"}', b"[" * 100_000,
              b'{"a":' * 5000, b'{"name": "\xff\xfe"}', b'{"why": "' + b"x" * 2_000_000 + b'"}', b"\0" * 1000, b'{"label":"fake","note":"\\ud800"}',
              b'{"label":"fake","seconds":1e999}', b'{"label":"fake","seconds":NaN}', b'--b\r\n\r\n', b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx',
              b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx\r\n--b--\r\n' * 40, b"--b--\r\n", b"--b\r\n" * 5000,
              b'--b\r\nContent-Disposition: ' + b"a" * 20000 + b"\r\n\r\nx\r\n--b--\r\n"]  # fmt: skip
    body = rng.choice(bodies)
    kind = rng.choice(["application/json", "multipart/form-data; boundary=b", "multipart/form-data", "multipart/form-data; boundary=" + "z" * 300, "text/plain",
                       "application/json; charset=utf-7", "multipart/mixed; boundary=b", "", "\x80"])  # fmt: skip
    length = rng.choice([str(len(body))] * 6 + ["0", "-1", "abc", str(len(body) + 5), str(2**63), "1, 2"])
    headers = [f"Host: {host}", f"Content-Type: {kind}"]
    headers += rng.choice(
        [[f"Content-Length: {length}"]] * 8 + [["Transfer-Encoding: chunked"], [f"Content-Length: {length}", "Transfer-Encoding: chunked"], []]
    )
    headers += rng.choice(
        [[f"Authorization: Bearer {key}"]] * 6 + [[], ["Authorization: Bearer "], ["Authorization: " + "x" * 9000], ["Cookie: vigil_session=" + "%00" * 50]]
    )
    headers += rng.choice([[]] * 4 + [["Idempotency-Key: " + "k" * 500], ["X-CSRF-Token: \xff"], ["Range: bytes=0-99999999999"], ["Expect: 100-continue"], ["Connection: upgrade",
                          "Upgrade: websocket"], ["Content-Encoding: gzip"], ["X-Forwarded-For: 1.1.1.1"], [f"H{n}: {n}" for n in range(200)]])  # fmt: skip
    return f"{method} {path} HTTP/1.1\r\n".encode("latin-1") + "\r\n".join(headers).encode("latin-1") + b"\r\nConnection: close\r\n\r\n" + body


def speak(address: tuple[str, int], content: bytes, rng: random.Random) -> str:
    """Send bytes, perhaps not all; the status line's number, "closed" or "silent"."""
    try:
        with socket.create_connection(address, timeout=20) as connection:
            if rng.random() < 0.1:
                content = content[: rng.randrange(1, len(content))]
            try:
                connection.sendall(content)
                connection.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the answer may have come first
            head = b""
            while b"\r\n" not in head and len(head) < 4096:
                more = connection.recv(4096)
                if not more:
                    break
                head += more
    except TimeoutError:
        return "silent"
    except OSError:
        return "closed"
    return head.split(b" ", 2)[1].decode("latin-1") if head.startswith(b"HTTP/") else "closed"


# -- the drill ------------------------------------------------------------------------------------------------------------------
class Target:
    """A running service with one viewer's key."""

    def __init__(self, root: Path, model: Path | None) -> None:
        from feedback.access import Role
        from feedback.accounts import Accounts
        from feedback.database import Database
        from feedback.secret import load_secret
        from workspace.settings import load_settings

        self.root, settings = root, load_settings(root / "params.yaml")
        database = Database(root, settings)
        accounts = Accounts(database, load_secret(root), settings.feedback)
        user = accounts.create("Mallory", "mallory@example.org", "mallory", "a long drill password", Role.engineer, "system:drill")
        self.key = accounts.create_key(user, "drill", "system:drill")[1]
        database.close()
        ready = root.parent / "ready.json"
        words = ["-P", "-m", "feedback.serve", "--workspace", str(root), "--port", "0", "--ready-file", str(ready)]
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
        with open(root.parent / "service.log", "ab") as log:
            more = ["--model-dir", str(model)] if model else []
            self.process = subprocess.Popen([sys.executable, *words, *more], env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready.exists() and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        self.url = json.loads(ready.read_text())["url"]
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False, headers={"Authorization": f"Bearer {self.key}"})
        while self.client.get("/readyz").status_code != 200 and time.monotonic() < deadline:
            time.sleep(0.1)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)

    def state(self) -> dict[str, Any]:
        """Memory and open files of the service and of its worker, and whether it is still the same worker."""
        service = psutil.Process(self.process.pid)
        worker = next(process for process in service.children() if "feedback.work.worker" in " ".join(process.cmdline()))
        return {
            name: {"pid": process.pid, "mb": round(process.memory_info().rss / 2**20, 1), "files": process.num_fds()}
            for name, process in (("service", service), ("worker", worker))
        }

    def stop(self) -> int:
        """End it; the exit code."""
        self.client.close()
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def workspace(root: Path) -> Path:
    """A workspace without the limits on how often somebody may come: they would answer in place of what is tested."""
    import yaml

    from workspace.profiles import compose_params

    (root / ".vigil").mkdir(parents=True)
    params = yaml.safe_load(compose_params("demo"))
    params["serve"]["max_upload_bytes"] = 3_000_000
    params["feedback"] |= {"requests_per_minute": 10_000_000, "uploads_per_minute": 10_000_000, "sign_ups_per_hour": 10_000_000, "sign_up": False}
    params["feedback"]["queue"]["audit_fraction"] = 0.0
    params["feedback"]["workers"] |= {"decode_seconds": 20}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return root


async def send_files(target: Target, files: list[bytes], rng: random.Random, statuses: Counter[str]) -> list[str]:
    """Upload everything, eight at once; the ids of what was accepted."""
    accepted: list[str] = []
    turn = asyncio.Semaphore(AT_ONCE)
    async with httpx.AsyncClient(base_url=target.url, timeout=120, trust_env=False, headers={"Authorization": f"Bearer {target.key}"}) as client:

        async def one(content: bytes, name: str, kind: str) -> None:
            async with turn:
                while True:
                    try:
                        answer = await client.post("/v1/detections", files={"file": (name, content, kind)}, params={"wait": 0})
                    except httpx.HTTPError as problem:
                        statuses[type(problem).__name__] += 1
                        return
                    if answer.status_code != 429:
                        break
                    await asyncio.sleep(0.2)
                statuses[str(answer.status_code)] += 1
                if answer.status_code in (201, 202):
                    accepted.append(answer.json()["id"])

        await asyncio.gather(*(one(content, rng.choice(NAMES), rng.choice(TYPES)) for content in files))
    return accepted


def settled(target: Target, ids: list[str]) -> Counter[str]:
    """Wait until every accepted file has its verdict; how many of each, `unexplained` for a `none` without a reason."""
    found: Counter[str] = Counter()
    for detection_id in ids:
        deadline = time.monotonic() + PATIENCE_SECONDS
        row = target.client.get(f"/v1/detections/{detection_id}").json()
        while row["state"] != "done" and time.monotonic() < deadline:
            time.sleep(0.05)
            row = target.client.get(f"/v1/detections/{detection_id}").json()
        found["stuck" if row["state"] != "done" else "unexplained" if row["verdict"] == "none" and not row["reason"] else row["verdict"]] += 1
    return found


def run(root: Path, model: Path | None, count: int, seed: int) -> dict[str, Any]:
    """The whole drill; what came of it."""
    rng = random.Random(seed)
    good, made = good_files(), hand_made()
    files = [made[index] if index < len(made) else mutated(rng.choice(good), rng) for index in range(max(count // 2, len(made)))]
    target, statuses, verdicts = Target(root, model), Counter[str](), Counter[str]()
    started, states = time.monotonic(), []
    try:
        parts = 4
        size = -(-len(files) // parts)
        for part in range(parts):
            verdicts += settled(target, asyncio.run(send_files(target, files[part * size : (part + 1) * size], rng, statuses)))
            for _ in range(count // 2 // parts):
                statuses[speak(target.address, raw_requests(rng, target.key, "127.0.0.1"), rng)] += 1
            states.append(target.state())
        alive = target.client.get("/healthz").status_code == 200 and target.client.get("/readyz").status_code == 200
        whole = target.client.post("/v1/detections", files={"file": ("a.jpg", good[0])}, params={"wait": 60}).json()
    finally:
        code = target.stop()
    log = (root.parent / "service.log").read_text(errors="replace")
    return {
        "sent": len(files) + parts * (count // 2 // parts), "seed": seed, "seconds": round(time.monotonic() - started), "statuses": dict(sorted(statuses.items())),
        "server_errors": sum(number for status, number in statuses.items() if status.startswith("5")), "verdicts": dict(sorted(verdicts.items())),
        "tracebacks": log.count("Traceback (most recent call last)"), "alive": alive, "judges_still": whole.get("state") == "done" and whole.get("verdict") != "none",
        "same_processes": len({(state["service"]["pid"], state["worker"]["pid"]) for state in states}) == 1, "exit_code": code, "states": states,
    }  # fmt: skip


def wrong(row: dict[str, Any]) -> list[str]:
    """What a row says against the service; memory and files are held from the second quarter to the last."""
    found = [name for name in ("server_errors", "tracebacks", "exit_code") if row[name]]
    found += [name for name in ("alive", "judges_still", "same_processes") if not row[name]]
    found += [name for name in ("stuck", "unexplained") if row["verdicts"].get(name)]
    early, late = row["states"][1], row["states"][-1]
    for name in ("service", "worker"):
        if late[name]["files"] > early[name]["files"] + 10:
            found.append(f"{name} leaks files")
        if late[name]["mb"] > early[name]["mb"] * 1.25 + 20:
            found.append(f"{name} leaks memory")
    return found


def main() -> None:
    """Run, append the row, say what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=count, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, help="kept afterwards; else a folder that is deleted")
    given = parser.parse_args()
    folder = given.work or Path(tempfile.mkdtemp(prefix="vigil-hostile-"))
    try:
        found = run(workspace(folder / "workspace"), None, given.count, given.seed)
    finally:
        if given.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    row = {"when": datetime.now(UTC).isoformat(timespec="seconds"), **found}
    add_row(HERE / "hostile.jsonl", row)
    print(json.dumps(row, indent=1))
    against = wrong(row)
    sys.exit(f"wrong: {', '.join(against)}" if against else 0)


if __name__ == "__main__":
    main()
