"""Webhooks: what a verdict tells others, written with the verdict, sent until it arrives.

The body of a delivery is written in the verdict's transaction. It is sent with `Vigil-Timestamp` and `Vigil-Signature`: HMAC-SHA256,
keyed with the webhook's secret, over the timestamp, a dot and the body. What is not answered with 2xx is sent again after
10 s, then twice as long each time, at most an hour apart, twelve times; a receiver must expect to get the same `id` twice.
What went, or was given up, is dropped after some weeks.
"""

import asyncio
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, delete, func, select, update

from feedback import audit
from feedback.access import Actor
from feedback.addresses import AddressRefused, checked
from feedback.database import Database, new_id, now
from feedback.forever import forever
from feedback.secret import Secret
from feedback.tables import DELIVERIES, USERS, WEBHOOKS
from workspace.errors import VigilError
from workspace.settings import FeedbackSettings

if TYPE_CHECKING:
    import httpx

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS, MOST_ATTEMPTS = 10.0, 3600.0, 12
SEND_SECONDS, LOOK_SECONDS, AT_ONCE = 10.0, 1.0, 20  # so many are begun at a time
OF_ONE_ACCOUNT = 5  # at once: what one receiver does not take keeps no other account's waiting
MOST_AT_ONCE = 120  # on their way at a time: twenty accounts whose receivers all hang leave the others theirs
MOST_WEBHOOKS = 20  # of one account
KEPT_DAYS = 30  # since a delivery went or was given up: for who looks why it did not come
DROPPED_AT_A_TIME = 1000  # in one transaction: others wait for a moment only
PURPOSE = "webhook"


class Webhooks:
    """The webhooks of one service. Safe to use from several threads and processes; one process delivers."""

    def __init__(self, database: Database, secret: Secret, settings: FeedbackSettings) -> None:
        self.database, self.secret, self.settings = database, secret, settings
        self._lookups = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="webhook-addresses")

    def create(self, actor: Actor, url: str) -> dict[str, Any]:
        """A new webhook with its secret, which is shown this once. Raises ValueError for a refused address, or too many of them."""
        checked(url, self.settings.webhook_hosts, self.settings.allow_private_addresses)
        webhook_id, key = new_id(), secrets.token_urlsafe(32)
        with self.database.write() as connection:
            mine = select(func.count()).select_from(WEBHOOKS).where(WEBHOOKS.c.owner_id == actor.user_id, WEBHOOKS.c.disabled_at == "")
            if connection.execute(mine).scalar_one() >= MOST_WEBHOOKS:
                raise ValueError(f"An account has at most {MOST_WEBHOOKS} webhooks.")
            row = {"id": webhook_id, "owner_id": actor.user_id, "url": url, "secret": self.secret.seal(PURPOSE, key), "created_at": now()}
            connection.execute(WEBHOOKS.insert().values(**row))
            audit.append(connection, actor.who, "webhook.create", f"webhook:{webhook_id}", {"url": url})
        return {"id": webhook_id, "url": url, "created_at": row["created_at"], "secret": key}

    def list_webhooks(self, owner_id: str) -> list[dict[str, Any]]:
        """An account's webhooks that have not been ended, without their secret, with how many deliveries wait, went and failed."""
        query = select(WEBHOOKS.c.id, WEBHOOKS.c.url, WEBHOOKS.c.created_at).where(WEBHOOKS.c.owner_id == owner_id, WEBHOOKS.c.disabled_at == "")
        with self.database.read() as connection:
            found = [dict(row) for row in connection.execute(query.order_by(WEBHOOKS.c.created_at)).mappings()]
            for row in found:
                counted = select(DELIVERIES.c.state, func.count()).where(DELIVERIES.c.webhook_id == row["id"]).group_by(DELIVERIES.c.state)
                row |= dict.fromkeys(("waiting", "sent", "failed"), 0) | {str(state): int(count) for state, count in connection.execute(counted).all()}
                last = select(DELIVERIES.c.last_error).where(DELIVERIES.c.webhook_id == row["id"]).order_by(DELIVERIES.c.number.desc()).limit(1)
                row["last_error"] = connection.execute(last).scalar_one_or_none() or ""
        return found

    def owner(self, webhook_id: str) -> str | None:
        """Whose it is, or None."""
        with self.database.read() as connection:
            return connection.execute(select(WEBHOOKS.c.owner_id).where(WEBHOOKS.c.id == webhook_id, WEBHOOKS.c.disabled_at == "")).scalar_one_or_none()

    def delete(self, actor: Actor, webhook_id: str) -> None:
        """End a webhook; what still waited for it is given up."""
        with self.database.write() as connection:
            connection.execute(update(WEBHOOKS).where(WEBHOOKS.c.id == webhook_id).values(disabled_at=now()))
            waiting = (DELIVERIES.c.webhook_id == webhook_id) & (DELIVERIES.c.state == "waiting")
            connection.execute(update(DELIVERIES).where(waiting).values(state="failed", last_error="the webhook was ended"))
            audit.append(connection, actor.who, "webhook.delete", f"webhook:{webhook_id}")

    def enqueue(self, connection: Connection, owner_id: str, event: str, body: Mapping[str, Any]) -> None:
        """Write a delivery for each webhook of this account, in the caller's transaction."""
        wanted = select(WEBHOOKS.c.id).where(WEBHOOKS.c.owner_id == owner_id, WEBHOOKS.c.disabled_at == "")
        for webhook_id in connection.execute(wanted).scalars().all():
            delivery_id, moment = new_id(), now()
            told = {"id": delivery_id, "event": event, "at": moment, "data": dict(body)}
            row = {"id": delivery_id, "webhook_id": webhook_id, "event": event, "body": told, "state": "waiting", "next_at": moment}
            connection.execute(DELIVERIES.insert().values(**row))

    def drop_old(self) -> int:
        """Drop the deliveries that went, or were given up, KEPT_DAYS ago; returns how many. Safe to repeat."""
        ended = DELIVERIES.c.state.in_(("sent", "failed")) & (DELIVERIES.c.next_at < now(-KEPT_DAYS * 86400))
        dropped = 0
        while True:
            with self.database.read() as connection:
                due = connection.execute(select(DELIVERIES.c.number).where(ended).limit(DROPPED_AT_A_TIME)).scalars().all()
            if not due:
                return dropped
            with self.database.write() as connection:
                dropped += connection.execute(delete(DELIVERIES).where(DELIVERIES.c.number.in_(due))).rowcount

    # -- sending ----------------------------------------------------------------------------------------------------------------
    async def deliver_forever(self) -> None:
        """Send what is due until cancelled."""
        on_their_way: dict[str, asyncio.Task[None]] = {}

        async def deliver() -> float:
            for delivery_id, task in list(on_their_way.items()):
                if task.done():
                    del on_their_way[delivery_id]
                    task.result()  # what it raises is the database's
            rows = await asyncio.to_thread(self._due, tuple(on_their_way))
            on_their_way.update({row["id"]: asyncio.create_task(self._deliver(client, row)) for row in rows})
            if on_their_way:  # whoever answers makes room for the next; one that hangs keeps its own account waiting, and nobody else
                await asyncio.wait(on_their_way.values(), timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            return 0.0 if on_their_way else LOOK_SECONDS

        async with self._client() as client:
            try:
                await forever("webhooks", deliver)
            finally:
                for task in on_their_way.values():
                    task.cancel()
                await asyncio.gather(*on_their_way.values(), return_exceptions=True)

    @staticmethod
    def _client() -> "httpx.AsyncClient":
        import httpx

        once = httpx.Limits(max_keepalive_connections=0)
        return httpx.AsyncClient(timeout=SEND_SECONDS, follow_redirects=False, trust_env=False, limits=once)

    async def _deliver(self, client: Any, row: Mapping[str, Any]) -> None:
        await asyncio.to_thread(self._note, row, await self._send(client, row))

    def _due(self, on_their_way: Collection[str] = ()) -> list[dict[str, Any]]:
        """What may be begun beside what is on its way: the first of every account before anybody's second, and nothing of a disabled one."""
        query = select(DELIVERIES, WEBHOOKS.c.url, WEBHOOKS.c.secret).join(WEBHOOKS, WEBHOOKS.c.id == DELIVERIES.c.webhook_id)
        place = func.row_number().over(partition_by=WEBHOOKS.c.owner_id, order_by=(DELIVERIES.c.next_at, DELIVERIES.c.number)).label("place")
        due = select(DELIVERIES.c.id, place).join(WEBHOOKS, WEBHOOKS.c.id == DELIVERIES.c.webhook_id)
        due = due.join(USERS, USERS.c.id == WEBHOOKS.c.owner_id).where(USERS.c.disabled.is_(False))
        placed = due.where(DELIVERIES.c.state == "waiting", DELIVERIES.c.next_at <= now()).subquery()
        query = query.join(placed, placed.c.id == DELIVERIES.c.id).where(placed.c.place <= OF_ONE_ACCOUNT, DELIVERIES.c.id.not_in(on_their_way))
        query = query.order_by(placed.c.place, DELIVERIES.c.next_at).limit(min(AT_ONCE, MOST_AT_ONCE - len(on_their_way)))
        with self.database.read() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    async def _send(self, client: Any, row: Mapping[str, Any]) -> str:
        """Send one; what went wrong, "" for nothing. Whatever it is, it is this delivery's alone."""
        try:
            content = json.dumps(row["body"], separators=(",", ":"), sort_keys=True).encode()
            stamp = str(int(time.time()))
            signed = signature(self.secret.unseal(PURPOSE, row["secret"]), stamp, content)
            async with asyncio.timeout(SEND_SECONDS):  # the client's own limit begins anew with every byte
                look_up = partial(checked, row["url"], self.settings.webhook_hosts, self.settings.allow_private_addresses)
                target = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)  # a silent name server holds no thread of the service's
                headers = {**target.headers, "Content-Type": "application/json", "Vigil-Timestamp": stamp, "Vigil-Signature": signed}
                async with client.stream("POST", target.url, content=content, headers=headers, extensions=target.extensions) as answer:
                    return "" if 200 <= answer.status_code < 300 else f"answered {answer.status_code}"
        except TimeoutError:
            return f"no answer within {SEND_SECONDS:g} s"
        except (AddressRefused, VigilError) as problem:
            return str(problem)[:300]
        except Exception as problem:
            return f"{type(problem).__name__}: {problem}"[:300]

    def _note(self, row: Mapping[str, Any], problem: str) -> None:
        attempts = row["attempts"] + 1
        state = "sent" if not problem else "failed" if attempts >= MOST_ATTEMPTS else "waiting"
        pause = min(FIRST_RETRY_SECONDS * 2 ** (attempts - 1), LONGEST_RETRY_SECONDS)
        with self.database.write() as connection:
            mine = (DELIVERIES.c.id == row["id"]) & (DELIVERIES.c.state == "waiting")
            values = {"state": state, "attempts": attempts, "next_at": now(pause), "last_error": problem}
            connection.execute(update(DELIVERIES).where(mine).values(**values))


def signature(key: str, timestamp: str, content: bytes) -> str:
    """What `Vigil-Signature` holds: `v1=` and 64 hex digits."""
    return "v1=" + hmac.new(key.encode(), timestamp.encode() + b"." + content, hashlib.sha256).hexdigest()
