"""Who may do what: one table of actions and one function, called by every route and every handler of the console.

Roles rise: anonymous, viewer, reviewer, engineer, admin; whoever may do more may do all that is below. An action on an
object names the lowest role for one's own and the lowest for anybody's.
"""

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """Rising; the names are those of the `users` table."""

    anonymous = 0
    viewer = 1
    reviewer = 2
    engineer = 3
    admin = 4


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `user_id` owns what the actor makes; `source` is what a per-source cap counts: an API key, or the console."""

    user_id: str
    role: Role
    name: str = ""
    source: str = "console"

    @property
    def who(self) -> str:
        """As the audit trail names it."""
        return "anonymous" if not self.user_id else f"user:{self.user_id}" if self.source == "console" else f"key:{self.source}"


ANONYMOUS = Actor("", Role.anonymous, source="")


@dataclass(frozen=True, slots=True)
class Rule:
    """The lowest role for one's own object and for anybody's; None: nobody. Actions without an object have `others` alone."""

    about: str
    others: Role | None
    own: Role | None = None


_A, _V, _R, _E, _D = Role.anonymous, Role.viewer, Role.reviewer, Role.engineer, Role.admin
ACTIONS: dict[str, Rule] = {
    "service.look": Rule("health, readiness, the schema of the API, the key that reports are verified with, the log-in page", _A),
    "service.metrics": Rule("figures for a monitoring system", _E),
    "account.sign_up": Rule("make an account (where the settings allow it)", _A),
    "account.log_in": Rule("log in", _A),
    "account.read": Rule("see an account", _D, own=_V),
    "account.change": Rule("change the password or name of an account", _D, own=_V),
    "account.list": Rule("see all accounts", _D),
    "account.govern": Rule("make, disable and unlock accounts, give roles", _D),
    "key.create": Rule("make an API key", None, own=_V),
    "key.list": Rule("see API keys (never their secret)", _D, own=_V),
    "key.revoke": Rule("revoke an API key", _D, own=_V),
    "detection.create": Rule("send media for a verdict", _V),
    "detection.read": Rule("see a verdict and its progress", _R, own=_V),
    "detection.list": Rule("list verdicts", _R, own=_V),
    "detection.media": Rule("see thumbnail, heatmaps and the media themselves", _R, own=_V),
    "detection.dispute": Rule("say that a verdict is wrong", _R, own=_V),
    "detection.report": Rule("export a signed report", _R, own=_V),
    "detection.export": Rule("export the history as a table", _R, own=_V),
    "detection.erase": Rule("erase an upload and what came of it", _D, own=_V),
    "case.list": Rule("see the queue", _R),
    "case.read": Rule("see a case", _R),
    "case.review": Rule("answer a case", _R),
    "case.undo": Rule("take back an answer", None, own=_R),
    "case.govern": Rule("quarantine and release cases, choose gold cases", _E),
    "quality.read": Rule("see how well a reviewer agrees with the known cases", _E, own=_R),
    "model.read": Rule("see which model answers, decisions and figures", _V),
    "model.rollback": Rule("put the previous model back", _E),
    "chart.read": Rule("see volume, uncertainty, drift and accuracy", _R),
    "webhook.create": Rule("have verdicts sent to an address", None, own=_V),
    "webhook.list": Rule("see webhooks (never their secret)", _D, own=_V),
    "webhook.delete": Rule("end a webhook", _D, own=_V),
    "audit.read": Rule("read and verify the audit trail", _D),
}


class Forbidden(Exception):
    """This actor may not do this. `known` is False where the actor has not said who it is."""

    def __init__(self, actor: Actor, action: str) -> None:
        super().__init__(f"{action} is not for {actor.role.name}s")
        self.actor, self.action = actor, action
        self.known = actor.role is not Role.anonymous


def may(actor: Actor, action: str, owner_id: str | None = None) -> bool:
    """Whether `actor` may do `action` on an object of `owner_id` (None: the action has no object, or anybody's). An unknown action is a KeyError."""
    rule = ACTIONS[action]
    if rule.others is not None and actor.role >= rule.others:
        return True
    return rule.own is not None and bool(actor.user_id) and owner_id == actor.user_id and actor.role >= rule.own


def authorize(actor: Actor, action: str, owner_id: str | None = None) -> None:
    """Return quietly, or raise Forbidden. The one place that decides."""
    if not may(actor, action, owner_id):
        raise Forbidden(actor, action)
