"""A client for programs that send media to a Vigil service: typed answers, waiting, retries, and the check of what webhooks bring.

    with Client("http://127.0.0.1:8000", "vigil_...") as vigil:
        verdict = vigil.detect(Path("clip.mp4"), policy="moderation")
        print(verdict.verdict, verdict.p_fake, verdict.forged)

Needs httpx and nothing else of the project.
"""

import hashlib
import hmac
import io
import json
import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

RETRIED = (429, 503)
PERHAPS_DONE = (502, 504)  # a proxy does not know what became of the request
MOST_TRIES, LONGEST_PAUSE_SECONDS = 6, 60.0
TOLERANCE_SECONDS = 300  # a webhook older than this may be a recording
_T = TypeVar("_T")


class VigilApiError(Exception):
    """The service refused; `status`, `detail` and `next_step` are its words."""

    def __init__(self, status: int, detail: str, next_step: str = "", body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status}: {detail}" + (f"\n  Next: {next_step}" if next_step else ""))
        self.status, self.detail, self.next_step, self.body = status, detail, next_step, dict(body or {})


class NotDone(Exception):
    """There was no verdict within the time; `detection` is how far it was."""

    def __init__(self, detection: "Detection") -> None:
        super().__init__(f"no verdict yet: {detection.id} is {detection.state}, {detection.progress:.0%}")
        self.detection = detection


class FileChanged(OSError):
    """A file was written to while it was sent, or between two tries. Nothing was accepted from this try: send it again once it is whole."""


class BadSignature(Exception):
    """A webhook's body was not signed by the service, or is too old; do not act on it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A part of a file in which a face scores at or above the threshold."""

    track: int
    start_seconds: float
    end_seconds: float
    p_fake: float


@dataclass(frozen=True, slots=True)
class Detection:
    """A file and its verdict, or how far it is. `raw` is the whole answer, with `tracks`, `clips` and all that is not named here."""

    id: str
    state: str
    progress: float
    verdict: str
    p_fake: float | None
    threshold: float | None
    reason: str
    kind: str
    policy: str
    faces: int
    frames: int
    forged: tuple[Interval, ...]
    model: str
    model_sha256: str
    knows: tuple[str, ...]
    case_id: str | None
    sha256: str
    raw: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether the verdict stands."""
        return self.state == "done"

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From the service's answer."""
        empty: dict[str, Any] = {"p_fake": None, "threshold": None, "faces": 0, "frames": 0, "case_id": None}
        plain = {field.name: body.get(field.name, empty.get(field.name, "")) for field in fields(cls) if field.name not in ("forged", "knows", "raw")}
        return cls(**plain, forged=tuple(_only(Interval, row) for row in body.get("forged") or ()), knows=tuple(body.get("knows") or ()), raw=body)


@dataclass(frozen=True, slots=True)
class Case:
    """A question for people. `raw` is the whole answer."""

    id: str
    state: str
    reason: str
    label: str
    sha256: str
    p_fake: float | None
    needed: int
    raw: Mapping[str, Any]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Self:
        """From the service's answer."""
        told: dict[str, Any] = {field.name: body.get(field.name) for field in fields(cls) if field.name != "raw"}
        return cls(**told, raw=body)


class Client:
    """Talks to one service with one API key. Safe to use from several threads. Close it, or use it in a `with` block.

    A request that is answered 429 or 503 is sent again after what Retry-After says; an upload carries an idempotency key, so that sending it
    again after a broken connection, or after a proxy's 502 or 504, never makes a second detection. What is refused raises VigilApiError.
    """

    def __init__(self, url: str, key: str, timeout_seconds: float = 120.0, tries: int = MOST_TRIES, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self.tries = tries
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_seconds, follow_redirects=False, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- verdicts -------------------------------------------------------------------------------------------------------------
    def send(self, media: str | Path | bytes, policy: str = "", mode: str = "", wait_seconds: float | None = None, idempotency_key: str = "") -> Detection:
        """Send a file, named by its path, or its bytes; the detection as the service answers it: with the verdict of a picture, without that of most videos.

        Raises TypeError for anything else, and OSError for a path that cannot be read, before anything is sent; FileChanged where it changes meanwhile.
        """
        asked = {"policy": policy, "mode": mode} | ({} if wait_seconds is None else {"wait": str(wait_seconds)})
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        with ExitStack() as opened:
            return Detection.of(self._json("POST", "/v1/detections", files={"file": _part(media, opened)}, params=asked, headers=headers))

    def send_reference(self, reference: str, policy: str = "", mode: str = "", idempotency_key: str = "") -> Detection:
        """Have the service fetch a file: http(s)://... or s3://bucket/key, from what its settings allow."""
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Detection.of(self._json("POST", "/v1/detections", json={"reference": reference, "policy": policy, "mode": mode}, headers=headers))

    def send_batch(self, media: Sequence[str | Path | bytes], policy: str = "", mode: str = "", idempotency_key: str = "") -> list[Detection]:
        """Send several files at once: all are accepted, or none."""
        if isinstance(media, str | Path | bytes):
            raise TypeError("a batch is a list of files; `send` takes one")
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        with ExitStack() as opened:
            files = [("file", _part(one, opened)) for one in media]
            body = self._json("POST", "/v1/detections/batch", files=files, params={"policy": policy, "mode": mode}, headers=headers)
        return [Detection.of(row) for row in body["detections"]]

    def wait(self, detection_id: str, timeout_seconds: float = 600.0) -> Detection:
        """The detection once its verdict stands, told by the service as it happens. Raises NotDone after the time-out, at most a heartbeat (15 s) late."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            for found in self.progress(detection_id, max(1.0, deadline - time.monotonic())):
                if found.state in ("done", "erased"):
                    return found
                if time.monotonic() > deadline:
                    raise NotDone(found)
            found = self.get(detection_id)
            if found.state in ("done", "erased"):
                return found
            if time.monotonic() > deadline:
                raise NotDone(found)
            time.sleep(0.2)  # the stream broke off: look again

    def progress(self, detection_id: str, timeout_seconds: float = 600.0) -> Iterator[Detection]:
        """The detection each time that it has come further; ends with the verdict, with the time, or where the connection breaks off."""
        deadline = time.monotonic() + timeout_seconds
        found = self.get(detection_id)
        yield found
        if found.state in ("done", "erased"):
            return
        try:
            with self._http.stream("GET", f"/v1/detections/{detection_id}/events", timeout=httpx.Timeout(timeout_seconds, connect=10.0)) as answer:
                if answer.status_code != 200:
                    return
                for line in answer.iter_lines():
                    if line.startswith("data: "):
                        found = Detection.of({**found.raw, **json.loads(line[6:])})
                        yield found
                    if time.monotonic() > deadline:  # each line, a heartbeat too, begins the time-out of the connection anew
                        return
        except httpx.TransportError:
            return

    def detect(self, media: str | Path | bytes, policy: str = "", mode: str = "", timeout_seconds: float = 600.0) -> Detection:
        """Send a file and wait for its verdict. Raises NotDone."""
        found = self.send(media, policy, mode)
        return found if found.done else self.wait(found.id, timeout_seconds)

    def get(self, detection_id: str) -> Detection:
        """One detection as it stands."""
        return Detection.of(self._json("GET", f"/v1/detections/{detection_id}"))

    def history(self, everybody: bool = False, page: int = 100, **filters: str) -> Iterator[Detection]:
        """Every detection, newest first, fetched page by page. Filters: verdict, state, policy, since, until."""
        asked: dict[str, Any] = {"everybody": everybody, "limit": page, **filters}
        while True:
            body = self._json("GET", "/v1/detections", params=asked)
            yield from (Detection.of(row) for row in body["detections"])
            if body["next"] is None:
                return
            asked["before"] = body["next"]

    def dispute(self, detection_id: str, claim: str, note: str = "") -> Detection:
        """Say what a file truly is: real or fake."""
        return Detection.of(self._json("POST", f"/v1/detections/{detection_id}/dispute", json={"claim": claim, "note": note}))

    def explanation(self, detection_id: str) -> dict[str, Any]:
        """Why the network said so; the first time it takes some seconds."""
        return self._json("GET", f"/v1/detections/{detection_id}/explanation")

    def report(self, detection_id: str) -> dict[str, Any]:
        """The signed report of a verdict."""
        return self._json("GET", f"/v1/detections/{detection_id}/report")

    def report_pdf(self, detection_id: str) -> bytes:
        """The same as PDF."""
        return self._ask("GET", f"/v1/detections/{detection_id}/report", params={"format": "pdf"}).content

    def picture(self, detection_id: str, what: str = "thumbnail") -> bytes:
        """A picture as WebP: `thumbnail`, `picture`, `faces/3`, `heatmaps/3` (after the explanation)."""
        return self._ask("GET", f"/v1/detections/{detection_id}/{what}").content

    def erase(self, detection_id: str, why: str = "") -> dict[str, Any]:
        """Erase an upload and everything that came of it."""
        return self._json("DELETE", f"/v1/detections/{detection_id}", params={"why": why})

    # -- cases, models ----------------------------------------------------------------------------------------------------------
    def queue(self, limit: int = 20) -> list[Case]:
        """What this reviewer should look at next."""
        return [Case.of(row) for row in self._json("GET", "/v1/queue", params={"limit": limit})["cases"]]

    def case(self, case_id: str) -> Case:
        """One case."""
        return Case.of(self._json("GET", f"/v1/cases/{case_id}"))

    def review(self, case_id: str, label: str, note: str = "", identity: str = "", seconds: float | None = None) -> Case:
        """Answer a case: real, fake or unsure."""
        body = {"label": label, "note": note, "identity": identity, "seconds": seconds}
        return Case.of(self._json("POST", f"/v1/cases/{case_id}/review", json=body))

    def undo(self, case_id: str) -> Case:
        """Take one's own answer back."""
        return Case.of(self._json("POST", f"/v1/cases/{case_id}/undo"))

    def models(self) -> dict[str, Any]:
        """Which model answers, and every decision about models."""
        return self._json("GET", "/v1/models")

    # -- webhooks ---------------------------------------------------------------------------------------------------------------
    def add_webhook(self, url: str) -> tuple[str, str]:
        """Have verdicts sent to `url`: the webhook's id and its secret, which is told this once."""
        body = self._json("POST", "/v1/webhooks", json={"url": url})
        return body["id"], body["secret"]

    def remove_webhook(self, webhook_id: str) -> None:
        """End a webhook."""
        self._ask("DELETE", f"/v1/webhooks/{webhook_id}")

    # -- inside -----------------------------------------------------------------------------------------------------------------
    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._ask(method, path, **more).json()
        return body

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        again = method == "GET" or "Idempotency-Key" in more.get("headers", {})
        for left in range(self.tries - 1, -1, -1):
            pause = min(0.25 * 2 ** (self.tries - 1 - left), LONGEST_PAUSE_SECONDS)
            try:
                answer = self._http.request(method, path, **more)
            except httpx.TransportError:
                if not (again and left):
                    raise
            else:
                if answer.is_success:
                    return answer
                if not left or answer.status_code not in (RETRIED + PERHAPS_DONE if again else RETRIED):
                    raise _refused(answer)
                said = answer.headers.get("Retry-After", "")
                pause = min(float(said), LONGEST_PAUSE_SECONDS) if said.isdigit() else pause
            time.sleep(pause)
        raise AssertionError("a last try returns or raises")


def verify_webhook(secret: str, headers: Mapping[str, str], body: bytes, now_seconds: float | None = None) -> dict[str, Any]:
    """What a webhook says, once its signature and its age are right. Raises BadSignature.

    `headers` are those of the request, by any spelling; `body` its bytes as they came. The same `id` may come twice.
    """
    given = {name.lower(): value for name, value in headers.items()}
    stamp, signed = given.get("vigil-timestamp", ""), given.get("vigil-signature", "")
    if not (stamp.isascii() and stamp.isdigit()):
        raise BadSignature("there is no Vigil-Timestamp")
    wanted = "v1=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(wanted.encode(), signed.encode()):
        raise BadSignature("the signature is not the service's")
    if abs((time.time() if now_seconds is None else now_seconds) - int(stamp)) > TOLERANCE_SECONDS:
        raise BadSignature(f"it was signed more than {TOLERANCE_SECONDS} s from now")
    told: dict[str, Any] = json.loads(body)
    return told


class _Sent(io.FileIO):
    """A file that is read piece by piece as it is sent, from its beginning in each try. Raises FileChanged once it is no longer what it was at first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path, self._was = path, self._stands()

    def read(self, size: int | None = -1, /) -> bytes:
        """The next piece. What ends the request is sent after the last, so that of two states of a file nothing whole arrives."""
        piece = super().read(size)
        if self._stands() != self._was:
            raise FileChanged(f"{self._path} changed while it was sent. Nothing was accepted from this try; send it again once it is whole.")
        return piece or b""

    def _stands(self) -> tuple[int, int]:
        found = os.fstat(self.fileno())
        return found.st_size, found.st_mtime_ns


def _part(media: str | Path | bytes, opened: ExitStack) -> tuple[str, bytes | _Sent]:
    """A file as a part of an upload: its name, as text that can be sent, and its content, open until `opened` is closed."""
    if isinstance(media, bytes):
        return "media", media
    if not isinstance(media, str | Path):
        raise TypeError(f"a file is its path or its bytes, got {type(media).__name__}")
    path = Path(media)
    content = opened.enter_context(_Sent(path)) if path.is_file() else path.read_bytes()  # a pipe can be read once
    return path.name.encode("utf-8", "replace").decode(), content


def _only(kind: type[_T], row: Mapping[str, Any]) -> _T:
    """A dataclass of the fields that it knows: a newer service may say more."""
    return kind(**{field.name: row.get(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def _refused(answer: httpx.Response) -> VigilApiError:
    try:
        body = answer.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    return VigilApiError(answer.status_code, str(body.get("detail") or answer.reason_phrase), str(body.get("next_step", "")), body)
