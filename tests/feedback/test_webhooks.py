"""Webhooks against a real receiver: signed, sent again until answered, never to an address that was not allowed."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select, update

from feedback import addresses, webhooks
from feedback.access import Actor, Role
from feedback.addresses import AddressRefused, Target, checked, is_public
from feedback.api.app import _sweep
from feedback.audit import verify
from feedback.database import now
from feedback.erasing import Erasing
from feedback.retention import Retention
from feedback.secret import load_secret
from feedback.tables import DELIVERIES, USERS, WEBHOOKS
from feedback.webhooks import FIRST_RETRY_SECONDS, MOST_ATTEMPTS, MOST_WEBHOOKS, Webhooks, signature
from tests.feedback.conftest import wait_for
from tests.feedback.databases import KINDS, filled_url
from tests.feedback.world import JPEG, World
from workspace.files import sha256_bytes


class Receiver(ThreadingHTTPServer):
    """Notes what comes and answers with the next of `answers`, or 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?a=1"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.shutdown()
    made.server_close()


class Sender:
    """Webhooks over a small world."""

    def __init__(self, root: Path, url: str = "", **more: Any) -> None:
        self.world = World(root, url, **{"webhook_hosts": ["127.0.0.1"], "allow_private_addresses": True, **more})
        self.hooks = Webhooks(self.world.database, load_secret(root), self.world.settings.feedback)

    def tell(self, whom: Actor | None = None, **body: Any) -> None:
        with self.world.database.write() as connection:
            self.hooks.enqueue(connection, (whom or self.world.sender).user_id, "detection.done", body)

    def deliver(self) -> int:
        """Send what is due now; how many were tried."""

        async def go() -> int:
            rows = self.hooks._due()
            async with self.hooks._client() as client:
                await asyncio.gather(*(self.hooks._deliver(client, row) for row in rows))
            return len(rows)

        return asyncio.run(go())

    def rows(self) -> list[dict[str, Any]]:
        with self.world.database.read() as connection:
            return [dict(row) for row in connection.execute(select(DELIVERIES).order_by(DELIVERIES.c.number)).mappings()]

    def let_time_pass(self) -> None:
        with self.world.database.write() as connection:
            connection.execute(update(DELIVERIES).values(next_at=now(-1)))


@pytest.fixture(params=KINDS)
def sender(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sender]:
    made = Sender(tmp_path, filled_url(request.param))
    yield made
    made.world.close()


def test_a_disabled_account_is_told_nothing_until_it_is_enabled_again(sender: Sender, receiver: Receiver) -> None:
    """Its sessions and keys ended at once, but verdicts went on to its webhook."""
    sender.hooks.create(sender.world.sender, receiver.url)
    sender.hooks.create(sender.world.ann, receiver.url)
    sender.tell(id="before")
    disabled = update(USERS).where(USERS.c.id == sender.world.sender.user_id)
    with sender.world.database.write() as connection:
        connection.execute(disabled.values(disabled=True))
    sender.tell(id="after")
    sender.tell(sender.world.ann, id="another's")
    assert (sender.deliver(), [json.loads(content)["data"]["id"] for _, content in receiver.got]) == (1, ["another's"])
    with sender.world.database.write() as connection:
        connection.execute(disabled.values(disabled=False))
    assert (sender.deliver(), [row["state"] for row in sender.rows()]) == (2, ["sent"] * 3)


def test_what_is_sent_is_signed_and_comes_once(sender: Sender, receiver: Receiver) -> None:
    made = sender.hooks.create(sender.world.sender, receiver.url)
    sender.tell(id="1", verdict="fake")
    assert (sender.deliver(), sender.deliver()) == (1, 0)
    headers, content = receiver.got[0]
    stamp = headers["Vigil-Timestamp"]
    by_hand = hmac.new(made["secret"].encode(), f"{stamp}.".encode() + content, hashlib.sha256).hexdigest()
    assert headers["Vigil-Signature"] == f"v1={by_hand}" == signature(made["secret"], stamp, content)
    told = json.loads(content)
    assert told["event"] == "detection.done" and told["data"] == {"id": "1", "verdict": "fake"} and told["id"] == sender.rows()[0]["id"]
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}" and len(receiver.got) == 1
    assert sender.hooks.list_webhooks(sender.world.sender.user_id)[0]["sent"] == 1
    sender.hooks.delete(sender.world.sender, made["id"])
    assert sender.hooks.list_webhooks(sender.world.sender.user_id) == [], "what was ended is no webhook any more"
    assert not verify(sender.world.database).broken_at


def test_the_secret_is_not_in_the_database(sender: Sender, receiver: Receiver) -> None:
    made = sender.hooks.create(sender.world.sender, receiver.url)
    with sender.world.database.read() as connection:
        assert made["secret"] not in str(connection.execute(select(WEBHOOKS)).mappings().all())
    assert "secret" not in sender.hooks.list_webhooks(sender.world.sender.user_id)[0]


@pytest.mark.parametrize("status", [500, 404, 301, 302])
def test_what_is_refused_or_led_elsewhere_comes_again_later_with_the_same_id(sender: Sender, receiver: Receiver, status: int) -> None:
    sender.hooks.create(sender.world.sender, receiver.url)
    receiver.answers = [status]
    sender.tell(id="1")
    assert (sender.deliver(), sender.deliver()) == (1, 0)
    row = sender.rows()[0]
    assert row["state"] == "waiting" and row["attempts"] == 1 and str(status) in row["last_error"] and row["next_at"] > now(FIRST_RETRY_SECONDS - 5)
    sender.let_time_pass()
    assert sender.deliver() == 1 and sender.rows()[0]["state"] == "sent"
    assert json.loads(receiver.got[0][1])["id"] == json.loads(receiver.got[1][1])["id"]


def test_a_receiver_that_is_gone_is_given_up_after_the_last_attempt(sender: Sender) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender.hooks.create(sender.world.sender, f"http://127.0.0.1:{port}/")
    sender.tell(id="1")
    pauses = []
    for _ in range(MOST_ATTEMPTS):
        assert sender.deliver() == 1
        pauses.append(sender.rows()[0]["next_at"])
        sender.let_time_pass()
    assert sender.deliver() == 0 and sender.rows()[0]["state"] == "failed" and "Connect" in sender.rows()[0]["last_error"]
    assert pauses == sorted(pauses)


def test_one_slow_receiver_does_not_hold_up_the_others(sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "SEND_SECONDS", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        sender.hooks.create(sender.world.sender, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        sender.hooks.create(sender.world.sender, receiver.url)
        sender.tell(id="1")
        sender.deliver()
    assert sorted(row["state"] for row in sender.rows()) == ["sent", "waiting"] and len(receiver.got) == 1


def test_a_receiver_that_trickles_does_not_stop_those_of_other_accounts(sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte began the time-out anew, and nobody's webhooks were sent as long as one answer went on; later each round waited for its slowest."""
    monkeypatch.setattr(webhooks, "SEND_SECONDS", 6.0)

    async def trickle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"a")
                await writer.drain()
                await asyncio.sleep(0.05)

    async def go() -> None:
        server = await asyncio.start_server(trickle, "127.0.0.1", 0)
        sender.hooks.create(sender.world.sender, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        sender.hooks.create(sender.world.ann, receiver.url)
        sender.tell(id="slow")
        delivering = asyncio.create_task(sender.hooks.deliver_forever())
        for number in (1, 2, 3):
            sender.tell(sender.world.ann, id=str(number))
            await asyncio.to_thread(wait_for, lambda: len(receiver.got), number.__eq__)
        assert sender.rows()[0]["attempts"] == 0, "the slow one is still on its way: nobody waited for it"
        await asyncio.to_thread(wait_for, lambda: sender.rows()[0]["attempts"], (1).__eq__)
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        server.close()

    asyncio.run(go())
    assert sender.rows()[0]["state"] == "waiting" and "no answer" in sender.rows()[0]["last_error"]


def test_a_long_queue_of_one_account_leaves_room_for_the_others(sender: Sender, receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    sender.hooks.create(sender.world.sender, f"http://127.0.0.1:{port}/")
    sender.hooks.create(sender.world.ann, receiver.url)
    for number in range(webhooks.AT_ONCE + 1):
        sender.tell(id=str(number))
    sender.tell(sender.world.ann, id="late")
    assert sender.deliver() == webhooks.OF_ONE_ACCOUNT + 1 and len(receiver.got) == 1


def test_accounts_whose_receivers_hang_leave_the_others_theirs(sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them filled every place with what was on its way, and everybody else waited for their time-outs, again and again."""
    monkeypatch.setattr(webhooks, "SEND_SECONDS", 60.0)

    async def hang(*_: Any) -> None:
        await asyncio.Event().wait()

    async def go() -> None:
        server = await asyncio.start_server(hang, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for number in range(webhooks.AT_ONCE // webhooks.OF_ONE_ACCOUNT + 1):
            account = sender.world.user(f"hanging {number}", Role.viewer)
            sender.hooks.create(account, f"http://127.0.0.1:{port}/")
            for _ in range(2 * webhooks.OF_ONE_ACCOUNT):
                sender.tell(account)
        sender.hooks.create(sender.world.ann, receiver.url)
        sender.tell(sender.world.ann, id="prompt")
        delivering = asyncio.create_task(sender.hooks.deliver_forever())
        await asyncio.to_thread(wait_for, lambda: len(receiver.got), (1).__eq__)
        sender.tell(sender.world.ann, id="prompt too")
        await asyncio.to_thread(wait_for, lambda: len(receiver.got), (2).__eq__)
        assert {row["attempts"] for row in sender.rows() if row["state"] == "waiting"} == {0}, "the others are still on their way"
        delivering.cancel()
        await asyncio.gather(delivering, return_exceptions=True)
        server.close()

    asyncio.run(go())


@pytest.mark.parametrize("refused", [True, False])
def test_an_address_that_cannot_be_sent_to_stops_nobody_else(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, refused: bool) -> None:
    # One of the time before such addresses were refused. Once it ended every delivery of every account, also after a restart.
    if not refused:  # as if the check knew nothing of what the client cannot send
        monkeypatch.setattr(webhooks, "checked", lambda url, *_: Target(url, f"127.0.0.1:{receiver.server_port}", "http", "127.0.0.1"))
    sender = Sender(tmp_path)
    broken = sender.hooks.create(sender.world.sender, receiver.url)["id"]
    with sender.world.database.write() as connection:
        connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == broken).values(url="http://127.0.0.1:9/a\x01b"))
    sender.hooks.create(sender.world.sender, receiver.url)
    for number in ("1", "2"):
        sender.tell(id=number)
    assert sender.deliver() == 4 and len(receiver.got) == 2
    assert sorted((row["state"], row["attempts"]) for row in sender.rows()) == [("sent", 1), ("sent", 1), ("waiting", 1), ("waiting", 1)]
    assert all(row["last_error"] for row in sender.rows() if row["state"] == "waiting")
    sender.world.close()


def test_an_ended_webhook_gets_nothing_more(sender: Sender, receiver: Receiver) -> None:
    made = sender.hooks.create(sender.world.sender, receiver.url)
    sender.tell(id="1")
    assert sender.hooks.owner(made["id"]) == sender.world.sender.user_id
    sender.hooks.delete(sender.world.sender, made["id"])
    sender.tell(id="2")
    assert sender.deliver() == 0 and receiver.got == [] and [row["state"] for row in sender.rows()] == ["failed"]
    assert sender.hooks.owner(made["id"]) is None


def test_an_account_has_a_bounded_number(sender: Sender, receiver: Receiver) -> None:
    for _ in range(MOST_WEBHOOKS):
        sender.hooks.create(sender.world.sender, receiver.url)
    with pytest.raises(ValueError, match="at most"):
        sender.hooks.create(sender.world.sender, receiver.url)


def test_an_address_that_was_allowed_and_is_no_longer_gets_nothing(tmp_path: Path, receiver: Receiver) -> None:
    sender = Sender(tmp_path)
    sender.hooks.create(sender.world.sender, receiver.url)
    sender.tell(id="1")
    strict = sender.world.settings.feedback.model_copy(update={"allow_private_addresses": False})
    sender.hooks.settings = strict
    assert sender.deliver() == 1 and receiver.got == [] and "private network" in sender.rows()[0]["last_error"]
    sender.world.close()


# -- addresses ------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "url",
    [
        "ftp://media.example/x", "file:///etc/passwd", "http://", "http:///x", "//media.example/x", "http://user:pw@media.example/", "http://other.example/",
        "http://media.example@other.example/", "http://media.example.other.example/", "http://media.example:99999/", "http://[::1", "gopher://media.example/",
        "http://127.0.0.1/", "http://2130706433/", "http://0x7f.1/", "http://media.example\\@other.example/", "javascript:alert(1)", "http://medi\u0430.example/",
        "http://media.example/a\x01b", "http://media.example/a?b=\x7f", "http://media.example/" + "a" * 70_000,
    ],
)  # fmt: skip
def test_what_is_not_on_the_list_is_not_connected_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("93.184.216.34", 80))])
    with pytest.raises(AddressRefused):
        checked(url, ["media.example"], False)


INNER = [
    "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1",
    "fc00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "ff02::1",
]  # fmt: skip


@pytest.mark.parametrize("address", INNER)
def test_a_listed_name_that_leads_inside_is_refused_even_if_another_of_its_addresses_is_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_public(address)
    found = [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", (address, 80))]
    monkeypatch.setattr(addresses.socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(AddressRefused, match="private"):
        checked("http://media.example/", ["media.example"], False)


@given(st.ip_addresses(v=4, network="10.0.0.0/8") | st.ip_addresses(v=4, network="192.168.0.0/16") | st.ip_addresses(v=4, network="127.0.0.0/8"))
def test_an_inner_address_stays_one_in_every_dress(address: Any) -> None:
    number = int(address)
    dresses = [str(address), f"::ffff:{address}", f"64:ff9b::{number >> 16:x}:{number & 0xFFFF:x}", f"2002:{number >> 16:x}:{number & 0xFFFF:x}::1"]
    assert not any(is_public(dress) for dress in dresses)


def test_exactly_the_checked_address_is_connected_to_under_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        return [(2, 1, 6, "", ("93.184.216.34" if len(asked) == 1 else "127.0.0.1", 443))]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", look_up)
    target = checked("https://Media.Example:8443/a?b=c#d", ["media.example"], False)
    assert target.url == "https://93.184.216.34:8443/a?b=c" and target.headers == {"Host": "Media.Example:8443"} and asked == ["media.example"]
    assert target.extensions == {"sni_hostname": "Media.Example"}


def told_of(sender: Sender) -> list[str]:
    return [row["body"]["data"]["id"] for row in sender.rows()]


def test_an_erasure_looks_through_the_deliveries_once_however_often_the_file_was_sent(sender: Sender, receiver: Receiver) -> None:
    """All deliveries ever made were read through for each upload, while nobody else could write."""
    sender.hooks.create(sender.world.sender, receiver.url)
    uploads = [sender.world.upload(JPEG + b"mine", reason="")[0] for _ in range(4)]
    other = sender.world.upload(JPEG + b"other", reason="")[0]
    for detection_id in (*uploads, other):
        sender.tell(id=detection_id, verdict="uncertain")
    sender.deliver()
    statements: list[str] = []
    event.listen(sender.world.database.engine, "before_cursor_execute", lambda _connection, _cursor, statement, *_: statements.append(statement))
    erasing, admin = Erasing(sender.world.database, sender.world.media), Actor(sender.world.ann.user_id, Role.admin, "ann")
    erasing.erase(admin, uploads[0])
    assert told_of(sender) == [*uploads[1:], other]
    statements.clear()
    erasing.erase_file(admin, sha256_bytes(JPEG + b"mine"))
    assert len([one for one in statements if "deliveries" in one]) == 1
    assert told_of(sender) == [other]


def test_deliveries_that_went_or_were_given_up_are_dropped_after_some_days(sender: Sender, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Erasures alone removed any: the table grew for ever."""
    monkeypatch.setattr(webhooks, "DROPPED_AT_A_TIME", 2)
    sender.hooks.create(sender.world.sender, receiver.url)
    for number in range(6):
        sender.tell(id=str(number))
    states = dict(zip([row["id"] for row in sender.rows()], ["sent", "failed", "sent", "waiting", "sent", "failed"], strict=True))
    with sender.world.database.write() as connection:
        for number, (delivery_id, state) in enumerate(states.items()):
            days = webhooks.KEPT_DAYS + (0.01 if number < 4 else -0.01)
            connection.execute(update(DELIVERIES).where(DELIVERIES.c.id == delivery_id).values(state=state, next_at=now(-86400 * days)))
    world = sender.world
    retention = Retention(world.database, world.media, world.settings.feedback)
    service: Any = SimpleNamespace(retention=retention, webhooks=sender.hooks, database=world.database, media=world.media, settings=world.settings)
    asyncio.run(_sweep(service))
    assert told_of(sender) == ["3", "4", "5"], "what waits stays, whatever its age"
