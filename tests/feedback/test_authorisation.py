"""Nobody does what the table of actions does not allow, by whatever door."""

import ast
import inspect
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import feedback.api
import feedback.console
import feedback.service
from feedback.access import ACTIONS, ANONYMOUS, Actor, Forbidden, Role, authorize, may
from feedback.service import Service as Door
from tests.feedback.conftest import Service, running, wait_for
from workspace.settings import Settings

ROLES = {"": Role.anonymous, "vera": Role.viewer, "rob": Role.reviewer, "emil": Role.engineer, "ada": Role.admin}
REFUSED = (401, 403, 404)


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", sorted(ACTIONS))
def test_authorize_and_the_table_say_the_same(action: str, role: Role) -> None:
    rule, me = ACTIONS[action], Actor("me" if role else "", role)
    for owner, lowest in (("me", min((one for one in (rule.own, rule.others) if one is not None), default=None)), ("you", rule.others), (None, rule.others)):
        allowed = lowest is not None and role >= lowest and (role > Role.anonymous or rule.others == Role.anonymous)
        assert may(me, action, owner) is allowed, (owner, rule)
        if allowed:
            authorize(me, action, owner)
        else:
            with pytest.raises(Forbidden):
                authorize(me, action, owner)


def test_more_rights_never_take_a_right_away() -> None:
    for action, owner in itertools.product(ACTIONS, ("me", "you", None)):
        rights = [may(Actor("me", role), action, owner) for role in list(Role)[1:]]
        assert rights == sorted(rights), action
        assert not may(ANONYMOUS, action, "") or ACTIONS[action].others is Role.anonymous, "an owner without a name is nobody's"


# -- over HTTP ------------------------------------------------------------------------------------------------------------------
class Things:
    """What one person owns: a detection, a key, a webhook."""

    def __init__(self, service: Service, name: str, picture: bytes) -> None:
        client = service.by(name)
        self.user = service.people[name][0]
        self.detect: Callable[[], str] = lambda: str(_made(client.post("/v1/detections", files={"file": ("a.jpg", picture)}, params={"wait": 60}))["id"])
        self.detection = self.detect()
        self.make_key: Callable[[], str] = lambda: str(_made(client.post("/v1/keys", json={"name": "one"}))["id"])
        self.make_webhook: Callable[[], str] = lambda: str(_made(client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/hook"}))["id"])


def _made(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


# action -> a request as (method, path, more) about things of `owner`, or without an object
ASKED: dict[str, Callable[[Things], tuple[str, str, dict[str, Any]]]] = {
    "service.metrics": lambda of: ("GET", "/metrics", {}),
    "account.list": lambda of: ("GET", "/v1/users", {}),
    "account.change": lambda of: ("POST", f"/v1/users/{of.user}/password", {"json": {"password": "short"}}),  # 422 where it is allowed
    "account.govern": lambda of: ("PATCH", f"/v1/users/{of.user}", {"json": {"unlock": True}}),
    "key.list": lambda of: ("GET", "/v1/keys", {"params": {"user": of.user}}),
    "key.revoke": lambda of: ("DELETE", f"/v1/keys/{of.make_key()}", {}),
    "detection.create": lambda of: ("POST", "/v1/detections", {"files": {"file": ("a.jpg", b"\xff\xd8\xff")}, "params": {"wait": 0}}),
    "detection.read": lambda of: ("GET", f"/v1/detections/{of.detection}", {}),
    "detection.media": lambda of: ("GET", f"/v1/detections/{of.detection}/thumbnail", {}),
    "detection.dispute": lambda of: ("POST", f"/v1/detections/{of.detection}/dispute", {"json": {"claim": "real"}}),
    "detection.report": lambda of: ("GET", f"/v1/detections/{of.detection}/report", {}),
    "detection.erase": lambda of: ("DELETE", f"/v1/detections/{of.detect()}", {}),
    "case.list": lambda of: ("GET", "/v1/queue", {}),
    "quality.read": lambda of: ("GET", "/v1/quality", {"params": {"user": of.user}}),
    "model.read": lambda of: ("GET", "/v1/models", {}),
    "model.rollback": lambda of: ("POST", "/v1/models/rollback", {"json": {"why": "a drill"}}),  # 409 where it is allowed: there is no earlier model
    "chart.read": lambda of: ("GET", "/v1/charts", {}),
    "webhook.list": lambda of: ("GET", "/v1/webhooks", {"params": {"user": of.user}}),
    "webhook.delete": lambda of: ("DELETE", f"/v1/webhooks/{of.make_webhook()}", {}),
    "audit.read": lambda of: ("GET", "/v1/audit", {}),
}
ELSEWHERE = {
    "service.look": "the health and log-in pages: for everybody",
    "account.sign_up": "for everybody",
    "account.log_in": "the console's form: for everybody",
    "account.read": "GET /v1/users/me is one's own by its address",
    "key.create": "POST /v1/keys makes one's own by its address",
    "webhook.create": "POST /v1/webhooks makes one's own by its address",
    "detection.list": "asked below, by `everybody`",
    "detection.export": "asked below, by `everybody`",
    "case.read": "asked below, of an open case",
    "case.review": "asked below",
    "case.undo": "asked below",
    "case.govern": "asked below",
}


@pytest.fixture(scope="module")
def matrix(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path], picture: bytes) -> Iterator[tuple[Service, dict[str, Things]]]:
    """A service in which everybody owns something; `rita`, a reviewer, is the other."""
    import yaml

    from workspace.profiles import compose_params

    root = tmp_path_factory.mktemp("matrix") / "workspace"
    (root / ".vigil").mkdir(parents=True)
    params = yaml.safe_load(compose_params("demo"))
    params["feedback"] |= {"webhook_hosts": ["127.0.0.1"], "allow_private_addresses": True}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with running(root, "--model-dir", str(models[0])) as service:
        service.until_ready()
        yield service, {name: Things(service, name, picture) for name in ("vera", "rob", "emil", "ada", "rita")}


def test_every_action_is_asked_for_somewhere() -> None:
    assert set(ASKED) | set(ELSEWHERE) == set(ACTIONS) and not set(ASKED) & set(ELSEWHERE)


@pytest.mark.parametrize("name", list(ROLES))
@pytest.mark.parametrize("action", sorted(ASKED))
def test_a_route_answers_exactly_whom_the_table_allows(matrix: tuple[Service, dict[str, Things]], action: str, name: str) -> None:
    service, things = matrix
    me = Actor(service.people[name][0] if name else "", ROLES[name])
    for owner in [name, "rita"] if name else ["rita"]:
        method, path, more = ASKED[action](things[owner])
        answer = service.by(name).request(method, path, **more)
        allowed = may(me, action, things[owner].user)
        assert (answer.status_code not in REFUSED) is allowed, f"{name or 'nobody'} on {owner}'s: {answer.status_code} {answer.text[:200]}"
        assert answer.status_code < 500, answer.text
        if not allowed and not name:
            assert answer.status_code == 401


@pytest.mark.parametrize("name", list(ROLES))
def test_lists_and_cases_answer_exactly_whom_the_table_allows(matrix: tuple[Service, dict[str, Things]], picture: bytes, name: str) -> None:
    service, things = matrix
    client, me = service.by(name), Actor(service.people[name][0] if name else "", ROLES[name])
    for path, action in (("/v1/detections", "detection.list"), ("/v1/export", "detection.export")):
        for everybody in (False, True):
            allowed = may(me, action, None if everybody else me.user_id)
            assert (client.get(path, params={"everybody": everybody}).status_code == 200) is allowed
    case = service.by("rita").get(f"/v1/detections/{things['rita'].detection}").json()["case_id"]
    for method, path, body, action in (
        ("GET", f"/v1/cases/{case}", None, "case.read"),
        ("POST", f"/v1/cases/{case}/undo", None, "case.undo"),
        ("POST", f"/v1/cases/{case}/gold", {"label": "real"}, "case.govern"),
        ("POST", f"/v1/cases/{case}/gold", {"label": ""}, "case.govern"),
        ("POST", f"/v1/cases/{case}/quarantine", {"why": "a drill"}, "case.govern"),
        ("POST", f"/v1/cases/{case}/release", None, "case.govern"),
        ("POST", f"/v1/cases/{case}/review", {"label": "unsure"}, "case.review"),
    ):
        answer = client.request(method, path, json=body)
        allowed = may(me, action, me.user_id if action == "case.undo" else None)
        assert (answer.status_code not in REFUSED) is allowed and answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:200]}"


def test_somebody_elses_object_and_none_at_all_look_the_same(matrix: tuple[Service, dict[str, Things]]) -> None:
    service, things = matrix
    theirs = service.client.get(f"/v1/detections/{things['rita'].detection}")
    none = service.client.get("/v1/detections/" + "0" * 32)
    assert theirs.status_code == none.status_code == 404 and theirs.json() == none.json()


def test_a_revoked_key_and_a_disabled_account_are_refused_within_seconds(matrix: tuple[Service, dict[str, Things]]) -> None:
    service, _ = matrix
    made = service.client.post("/v1/keys", json={"name": "soon gone"}).json()
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {made['key']}"}, trust_env=False, timeout=60) as client:
        assert client.get("/v1/users/me").status_code == 200
        assert service.client.delete(f"/v1/keys/{made['id']}").status_code == 204
        wait_for(lambda: client.get("/v1/users/me").status_code, lambda status: status == 401)
    assert httpx.get(f"{service.url}/v1/users/me", headers={"Authorization": "Bearer vigil_nonsense"}, trust_env=False).status_code == 401
    assert httpx.get(f"{service.url}/v1/users/me", headers={"Authorization": "Basic YTpi"}, trust_env=False).status_code == 401


# -- no way round ---------------------------------------------------------------------------------------------------------------
OPEN_ROUTES = {"/healthz", "/readyz", "/openapi.json"}


def test_every_route_comes_to_authorize(root: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each route is called, as an admin, with an authorize that notes the call: a route that never reaches it would answer anybody."""
    import asyncio

    from feedback.api.app import create_app
    from feedback.secret import load_secret
    from tests.feedback.conftest import people_of

    reached: list[str] = []
    for name, real in (("authorize", authorize), ("may", may)):

        def noted(actor: Actor, action: str, owner_id: str | None = None, real: Any = real) -> Any:
            reached.append(action)
            return real(actor, action, owner_id)

        monkeypatch.setattr(feedback.service, name, noted)
    key = people_of(root)["ada"][1]
    app = create_app(root, settings, load_secret(root))
    bodies = {"label": "real", "why": "a drill", "claim": "real", "url": "http://example.org/", "name": "n", "email": "e@example.org", "user_name": "nnn",
              "password": "a long password", "reference": "https://example.org/a"}  # fmt: skip

    async def call(method: str, path: str, fields: set[str]) -> int:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://vigil", headers={"Authorization": f"Bearer {key}"}) as client:
            body = {name: value for name, value in bodies.items() if name in fields}
            return (await client.request(method, path, json=body if method in ("POST", "PATCH") else None)).status_code

    schema, seen = app.openapi(), 0
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if path in OPEN_ROUTES:
                continue
            fields = {"reference"} if path == "/v1/detections" else set()
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in content:
                fields |= set(schema["components"]["schemas"][content["$ref"].rsplit("/", 1)[1]]["properties"])
            reached.clear()
            status = asyncio.run(call(method.upper(), _filled(path), fields))
            assert reached, f"{method.upper()} {path} answered {status} without asking authorize"
            assert status < 500 or status == 503, (path, status)
            seen += 1
    assert seen > 30
    app.state.service.close()


def _filled(path: str) -> str:
    for name in ("detection_id", "case_id", "user_id", "key_id", "webhook_id"):
        path = path.replace("{" + name + "}", "0" * 32)
    return path.replace("{number}", "0")


def test_every_method_of_the_one_door_asks_before_it_does_anything() -> None:
    asks = {"authorize", "_allow", "_detection"}
    through = {"report_page": "report", "may_detect": "authorize"}
    open_ones = {"close", "serving"}
    tree = ast.parse(inspect.getsource(Door)).body[0]
    assert isinstance(tree, ast.ClassDef)
    for method in tree.body:
        if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef) or method.name.startswith("_") or method.name in open_ones:
            continue
        statements = [one for one in method.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
        called = [_name(call) for one in statements[:3] for call in ast.walk(one) if isinstance(call, ast.Call)]
        assert asks & set(called) or through.get(method.name) in called, f"Service.{method.name} does not ask first"


ALLOWED_PAST = {  # identification, and work that nobody asks for
    "accounts.by_key", "accounts.remembered", "accounts.session", "database.version", "database.is_sqlite", "webhooks.deliver_forever", "webhooks.drop_old",
    "retention.sweep",
}  # fmt: skip
STORES = ("accounts", "database", "webhooks", "retention", "erasing", "cases", "detections", "media")


@pytest.mark.parametrize("room", [feedback.api, feedback.console], ids=["api", "console"])
def test_api_and_console_reach_the_stores_through_the_door_alone(room: Any) -> None:
    found = []
    for path in sorted(Path(room.__path__[0]).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Attribute):
                continue
            owner, whose = node.value, node.value.value
            through = (isinstance(whose, ast.Name) and whose.id == "service") or (isinstance(whose, ast.Attribute) and whose.attr == "service")
            if through and owner.attr in STORES and f"{owner.attr}.{node.attr}" not in ALLOWED_PAST:
                found.append(f"{path.name}:{node.lineno} {owner.attr}.{node.attr}")
    assert not found, found


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
