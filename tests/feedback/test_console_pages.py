"""The console's pages: who sees what, what axe says of them, and that each action is asked for anew."""

import ast
import asyncio
import hashlib
import html
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from inspect import getmembers, isfunction
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.ui import Select

from feedback.console import account, models, review, users
from feedback.console.parts import percent
from feedback.console.review import AT_ONCE
from feedback.database import Database
from feedback.gathering import _account
from feedback.handover import mark_ingested
from feedback.keep import MediaStore, derived_name
from feedback.retention import Retention
from pipelines.gates import incoming
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Verdict
from tests.feedback.browser import PASSWORD, Browser, browser
from tests.feedback.conftest import Service, running, wait_for
from tests.size import THOROUGH
from workspace.journal import Journal
from workspace.profiles import compose_params, project_root
from workspace.settings import GateSettings, load_settings

CONSOLE = project_root() / "feedback" / "console"
MOST_BYTES = 2_900_000  # no whole number of megabytes: a file between two of them was refused by the page and taken by the service


def drift_of(p_value: float) -> GateResult:
    """What the gate itself says of a drift test with this p-value at a level of 0.01."""
    tested = {"status": "tested", "n_ref": 300, "n_new": 300, "least": 20, "p_value": p_value, "alpha": 0.01, "drifted": p_value < 0.01, "covered": False}
    tested |= {"vouched": 0, "cases": 0}
    usual = GateSettings.model_validate({})
    (found,) = incoming.drift("drift", Inputs({"drift": tested, "cycle": {"judged": ["b"], "base_sha256": "x"}}), Limits(usual, usual))
    return found


def judged(root: Path, cycle: str) -> None:
    """A cycle of this workspace that held its model, with its figures and a drift that the gate lets pass."""
    journal, model = Journal(root), {"model_sha256": "c" * 64, "path": f"models/{cycle}"}
    journal.append("cycle_opened", cycle=cycle, week=cycle[:8], scheduled=False, judged=[], base_model="", fingerprint="")
    journal.append("candidate", cycle=cycle, **model)
    journal.append("cycle_closed", cycle=cycle, outcome="held", reason="it is no better", verdict_sha256="d" * 64)
    figure = {
        name: {"balanced_accuracy": {"value": value, "low": value - 0.05, "high": value + 0.05}} for name, value in (("challenger", 0.8), ("champion", 0.7))
    }
    (root / "reports").mkdir()
    (root / "reports/evaluation.json").write_text(json.dumps({"overall": figure}))
    (root / "reports/verdict.json").write_text(json.dumps({"cycle": cycle, **Verdict(GateVerdict.PASS, (drift_of(0.04),)).as_dict()}))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path], media: Path) -> Iterator[Service]:
    """A service that is unsure of everything, with three uploads of Vera's, one of them answered by Rob."""
    root = tmp_path_factory.mktemp("pages") / "workspace"
    (root / ".vigil").mkdir(parents=True)
    params = compose_params("demo").replace("max_upload_bytes: 536870912", f"max_upload_bytes: {MOST_BYTES}")
    (root / "params.yaml").write_text(params.replace("host_names: []", "host_names: [vigil.example.org]"))
    judged(root, "2026-W05.1")
    with running(root, "--model-dir", str(models[0])) as service:
        service.until_ready()
        wait_for(lambda: service.by("").get("/console/log-in"), lambda answer: answer.status_code == 200, service.log)
        cases = [service.detect(path.read_bytes()).json()["case_id"] for path in sorted(media.glob("**/*.mp4"))[:3]]
        service.review(cases[0], "fake", "rob")
        yield service


@pytest.fixture(scope="module")
def window(served: Service) -> Iterator[Browser]:
    """One browser for this module; each test logs in as whom it needs."""
    with browser(served.url) as page:
        yield page


@pytest.fixture
def page(window: Browser) -> Browser:
    """That browser with nobody logged in, light and wide."""
    window.driver.delete_all_cookies()
    window.look()
    return window


def logged_in(served: Service, name: str) -> httpx.Client:
    """A plain client with a person's session cookie, as the log-in form gives it."""
    client = httpx.Client(base_url=served.url, trust_env=False, timeout=60)
    token = client.get("/console/log-in").cookies["vigil_form"]
    answer = client.post("/console/log-in", data={"csrf": token, "user_name": name, "password": PASSWORD})
    assert answer.status_code == 303 and answer.headers["location"] == "/console", answer.text
    return client


def listed(visitor: httpx.Client, path: str, detection_id: str) -> str:
    """What a page of the console says of a detection in its list. The first page may be sent before its list is made, which then comes by the websocket."""
    before = f"/console/detections/{detection_id}"
    page = wait_for(lambda: visitor.get(f"/console/{path}").text, lambda text: before in text)
    return str(page.split(before)[-1].split("/console/detections/")[0])


def too_wide(page: Browser) -> int:
    """By how many px the page is wider than the screen."""
    return int(page.driver.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_axe_finds_nothing_serious_on_any_page_in_light_dark_and_on_a_phone(served: Service, page: Browser) -> None:
    page.open("/sign-up")
    found = [("sign-up", row) for row in page.axe()]
    page.log_in("ada")
    detection = served.client.get("/v1/detections").json()["detections"][0]
    pages = ["/", "/history?everybody=1", "/review", "/cases?state=all", "/models", "/charts", "/account", "/users", "/trail", "/nowhere"]
    pages += [f"/detections/{detection['id']}", f"/cases/{detection['case_id']}", f"/users/{served.people['rob'][0]}"]
    for path in pages:
        page.open(path)
        for dark, wide_px in ((False, 1280), (True, 1280), (False, 390), (True, 390)) if THOROUGH else ((False, 1280), (True, 390)):
            page.look(dark, wide_px)
            found += [(f"{path} {'dark' if dark else 'light'} {wide_px} px", row) for row in page.axe()]
        for wide_px in (320, 390, 640, 645):
            page.look(wide_px=wide_px)
            assert too_wide(page) <= 0, f"{path} is wider than {wide_px} px"
        page.look()
    assert [row for row in found if row[1]["impact"] in ("critical", "serious")] == []
    assert page.foreign() == []


def test_axe_does_find_what_is_wrong(page: Browser) -> None:
    page.open("/log-in")
    page.driver.execute_script("document.querySelector('.body').insertAdjacentHTML('beforeend', '<button></button><img src=\"x\">')")
    assert {"button-name", "image-alt"} <= {row["rule"] for row in page.axe()}


def test_who_loses_a_role_or_is_disabled_is_refused_at_the_next_key(served: Service, page: Browser) -> None:
    rosa, admin = served.people["rosa"][0], served.by("ada")
    page.log_in("rosa")
    page.open("/review")
    page.see(".review-answers")
    assert admin.patch(f"/v1/users/{rosa}", json={"role": "viewer"}).status_code == 200
    page.key("f")
    page.see(".review-side", "You may not do this")
    assert admin.patch(f"/v1/users/{rosa}", json={"role": "reviewer", "disabled": True}).status_code == 200
    page.key("f")
    page.see("h1", "Log in")
    admin.patch(f"/v1/users/{rosa}", json={"disabled": False})
    answered = [review["label"] for case in admin.get("/v1/cases").json()["cases"] for review in case["reviews"] if review["reviewer"] == "Rosa"]
    assert answered == []


def log_out_elsewhere(served: Service, page: Browser) -> None:
    """End the session of who is logged in, as by a click in another tab."""
    cookies = {cookie["name"]: cookie["value"] for cookie in page.driver.get_cookies()}
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60, cookies=cookies) as other:
        assert other.post("/console/log-out", data={"csrf": other.get("/console/session").json()["csrf"]}).status_code == 303


def test_whose_session_ended_comes_back_to_the_page_after_the_log_in(served: Service, page: Browser) -> None:
    """The log-in's address had the console's path twice: after it people stood on a page that is none."""
    page.log_in("rosa")
    for path, css in (("/review", ".review-answers"), ("/account", "[name=name]")):
        page.open(path)
        page.see(css)
        log_out_elsewhere(served, page)
        if path == "/review":
            page.key("f")
        else:
            page.write(name="a script")
            page.press("Make a key")
        page.see(".toast", "what you pressed was not done")
        page.see("h1", "Log in")
        page.write(user_name="rosa", password=PASSWORD)
        page.press("Log in")
        page.see(css)


def test_log_out_does_what_it_says_on_a_page_of_an_earlier_session(served: Service, page: Browser) -> None:
    """Its form had the earlier session's token, so nobody was logged out, and the log-in led back into the session that went on."""
    page.log_in("vera")
    page.open("/account")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    first = page.driver.current_window_handle
    log_out_elsewhere(served, page)
    page.driver.switch_to.new_window("tab")
    page.log_in("vera")
    page.driver.close()
    page.driver.switch_to.window(first)
    page.press("Log out")
    page.see("h1", "Log in")
    page.open("/history")
    page.see("h1", "Log in")
    assert "vigil_session" not in {cookie["name"] for cookie in page.driver.get_cookies()}


def test_who_changes_the_password_logs_in_with_the_new_one_and_stands_on_the_first_page(page: Browser) -> None:
    page.sign_up("Pia", "pia")
    page.open("/account")
    page.write(old=PASSWORD, password=PASSWORD + " two")
    page.press("Change password")
    page.see("h1", "Log in")
    page.write(user_name="pia", password=PASSWORD + " two")
    page.press("Log in")
    page.see(".drop")


@pytest.mark.parametrize(
    ("name", "refused"),
    [("vera", ("/review", "/cases", "/charts", "/users", "/trail")), ("rob", ("/users", "/trail")), ("emil", ("/users", "/trail")), ("ada", ())],
)
def test_a_page_is_refused_to_who_may_not_see_it(served: Service, name: str, refused: tuple[str, ...]) -> None:
    client = logged_in(served, name)
    for path in ("/", "/history", "/review", "/cases", "/models", "/charts", "/account", "/users", "/trail"):
        assert client.get(f"/console{path}").status_code == (403 if path in refused else 200), path


def test_what_a_chart_draws_of_a_cycle_stands_in_its_table_too(served: Service) -> None:
    """The drift and the champion's line could be read from the picture alone; and a week without drift stood at up to a hundred times the limit."""
    client = logged_in(served, "rob")
    for path, head, figure in (("/charts", "Drift against its limit", "0.250"), ("/models", "Champion of then", "0.700 [0.650, 0.750]")):
        text = client.get(f"/console{path}").text
        assert f'"data-head":"{head}"' in text and f'"text":"{figure}"' in text, path
        assert "Chance only adds to a calibration error, so its interval may lie above it." in text, "0.241 [0.266, 0.456] stood there without a word"


def test_the_band_that_is_shown_is_the_one_that_judged(served: Service) -> None:
    """It never takes more than half of the room on a side; what was shown was the model's whole band, though 0.8 is called fake here."""
    client, detection = logged_in(served, "rob"), served.client.get("/v1/detections").json()["detections"][0]
    assert (detection["threshold"], detection["abstain"]) == (0.5, 0.4)
    text = client.get(f"/console/detections/{detection['id']}").text
    assert "called real below 25.0 %, fake from 75.0 % on, uncertain between" in text and 'x=\\"100.0\\" y=\\"12\\" width=\\"200.0\\"' in text
    assert "below 0.250 is called real, from 0.750 on fake" in text, "what the verdict does not show says the same"
    assert "0.500, uncertain from 0.250 to 0.750" in client.get("/console/models").text


@pytest.mark.parametrize(("verdict", "word", "other"), [("uncertain", "Suspicious", "Forged"), ("fake", "Forged", "Suspicious")])
def test_intervals_are_called_forged_where_the_verdict_is_fake_alone(served: Service, clip: bytes, verdict: str, word: str, other: str) -> None:
    """An uncertain verdict listed as fact what its own figure calls uncertain."""
    sent = served.detect(clip + verdict.encode()).json()
    forged = json.dumps([{"track": 0, "start_seconds": 0.2, "end_seconds": 0.9, "p_fake": 0.6}])
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", timeout=60) as database:
        database.execute("UPDATE detections SET verdict = ?, answer = json_set(answer, '$.forged', json(?)) WHERE id = ?", [verdict, forged, sent["id"]])
    text = logged_in(served, "rob").get(f"/console/detections/{sent['id']}").text
    assert "0.2 to 0.9 s, up to 60 % fake" in text and f"{word} intervals" in text and f"{other} intervals" not in text
    assert ("at or above the threshold of 50.0 %" in text) is (verdict != "fake")


def test_no_estimate_is_shown_as_certainty_and_a_share_that_is_all_is(served: Service, page: Browser, clip: bytes) -> None:
    """A face of 0.996 was `100 % fake` in the timeline beside a badge of `> 99 %`, and one whose float had come to 1 was everywhere."""
    sent = served.detect(clip + b"sure").json()
    forged = json.dumps([{"track": 0, "start_seconds": 0.2, "end_seconds": 0.9, "p_fake": 0.002}])
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", timeout=60) as database:
        change = "json_set(answer, '$.forged', json(?), '$.tracks[0].p_fake', 1.0, '$.clips[0].p_fake', 0.996)"
        database.execute(f"UPDATE detections SET p_fake = 1.0, answer = {change} WHERE id = ?", [forged, sent["id"]])
    page.log_in("rob")
    page.open(f"/detections/{sent['id']}")
    assert page.see(".verdict .badge-figure").text == "> 99 % fake" and page.see(".timeline-name .muted").text == "> 99 % fake"
    text = str(page.driver.execute_script("return document.body.textContent"))
    assert "Estimated probability of fake > 99.9 %" in text and "up to < 1 % fake" in text and "100 % fake" not in text
    assert page.all(".timeline td[data-head=Fake]")[0].get_property("textContent") == "> 99 %"
    assert [percent(share) for share in (1, 0, 0.996, 0.004)] == ["100 %", "0 %", "> 99 %", "< 1 %"], "of eight verdicts, eight are all"


def test_the_heatmap_of_a_network_that_says_nothing_of_single_frames_stays_at_the_moment_that_is_looked_at(served: Service, page: Browser, clip: bytes) -> None:
    """The frame that weighs most was looked for among frames without a weight, and the page leapt to the first."""
    sent = served.detect(clip + b"mute").json()
    told = served.client.get(f"/v1/detections/{sent['id']}/explanation").json()
    root = served.log.parent / "workspace"
    kept = MediaStore(root, load_settings(root / "params.yaml")).derived(sent["sha256"]) / derived_name(sent["id"], "explanation.json")
    kept.write_text(json.dumps(told | {"frames": [frame | {"p_fake": None, "certainty": None} for frame in told["frames"]]}))
    page.log_in("vera")
    page.open(f"/detections/{sent['id']}")
    page.see("#scrub")
    page.driver.execute_script("const box = document.getElementById('scrub'); box.value = box.max; box.dispatchEvent(new Event('input'))")
    place = page.see("#scrub").get_property("value")
    page.press("Show heatmap")
    page.see(".face-heat")
    assert page.see("#scrub").get_property("value") == place and float(str(place)) > 0
    frame = served.client.get("/openapi.json").json()["components"]["schemas"]["ExplainedFrame"]["properties"]
    assert all({"type": "null"} in frame[name]["anyOf"] for name in ("p_fake", "certainty"))


def test_a_list_begins_anew_where_its_address_names_no_number(served: Service) -> None:
    """A superscript two is a digit and no number: the lists of cases and of the trail answered with a page that says the request is malformed."""
    client = logged_in(served, "ada")
    for path, name in (("/cases", "after"), ("/trail", "before"), ("/history", "before")):
        for value in ("²", "-1", "x", "9" * 30, ""):
            assert client.get(f"/console{path}", params={name: value}).status_code == 200, (path, value)


def test_a_page_behind_the_end_of_a_list_says_so_and_leads_back(served: Service) -> None:
    """Of cases it said that none is open, of the history and the trail that a filter hides what there is."""
    client = logged_in(served, "ada")
    for path, words, back in (
        (f"/cases?state=open&after={10**9}", "No further case.", "/console/cases?state=open"),
        ("/history?before=1&verdict=fake&everybody=1", "Nothing older.", "/console/history?verdict=fake&everybody=1"),
        ("/trail?before=1&object=nothing", "No older entry.", "/console/trail?object=nothing"),
    ):
        text = html.unescape(wait_for(lambda path=path: client.get(f"/console{path}").text, lambda text: "empty-what" in text))
        assert words in text and f'"href":"{back}"' in text, (path, text)


def test_nobody_is_led_to_the_log_in_and_from_there_back_but_never_to_another_site(served: Service) -> None:
    client = httpx.Client(base_url=served.url, trust_env=False)
    asked = client.get("/console/history?verdict=fake")
    assert asked.status_code == 303 and asked.headers["location"] == "/console/log-in?next=%2Fconsole%2Fhistory%3Fverdict%3Dfake"
    token = client.get("/console/log-in").cookies["vigil_form"]
    above = [(f"/console/{climb}/evil", "/console") for climb in ("..", "a/../..", "%2e%2E", ".%2e")]
    for wanted, leads in (("/console/history", "/console/history"), ("//evil.example", "/console"), ("/console/..//evil.example", "/console"), *above):
        form = {"csrf": token, "user_name": "vera", "password": PASSWORD, "next": wanted}
        assert client.post("/console/log-in", data=form).headers["location"] == leads


def test_figures_name_a_page_as_its_address_does(served: Service) -> None:
    """A page of the console and a route of the API went by one name, and the start and the description of the API by none."""
    for path in ("/console/log-in", "/console/nowhere", "/", "/openapi.json", "/v1/models", "/nowhere/at/all"):
        served.by("emil").get(path)
    told = served.by("emil").get("/metrics").text
    for route in ("/console/log-in", "/console/{path:path}", "/", "/openapi.json", "/v1/models", "(none)"):
        assert f'vigil_requests_total{{method="GET",route="{route}",' in told, route
    assert 'route="/log-in"' not in told and 'route="(none)",status="200"' not in told


def test_a_form_from_elsewhere_is_refused(served: Service) -> None:
    client = httpx.Client(base_url=served.url, trust_env=False)
    token = client.get("/console/log-in").cookies["vigil_form"]
    right = {"csrf": token, "user_name": "vera", "password": PASSWORD}
    for form, headers in (({**right, "csrf": "x" * 32}, {}), (right, {"sec-fetch-site": "cross-site"}), (right, {"origin": "https://evil.example"})):
        answer = client.post("/console/log-in", data=form, headers=headers)
        back = answer.headers.get("location", "").startswith("/console/log-in")
        assert (back or answer.status_code == 403) and "vigil_session" not in answer.cookies
    assert "did not come from this page" in client.get("/console/log-in").text
    answer = client.post("/console/log-in", data={**right, "user_name": "ve\0ra"})
    assert answer.headers["location"] == "/console/log-in", "a NUL is no database's"
    mine = logged_in(served, "vera")
    mine.post("/console/log-out", data={"csrf": "wrong"})
    mine.post("/console/log-out", data={"csrf": "wrong"}, headers={"origin": "https://evil.example"})
    assert mine.get("/console/").status_code == 200, "only its own form logs out"


def test_a_name_of_the_settings_is_its_own_site_where_a_proxy_passes_no_host_on(served: Service) -> None:
    """The refusal of such a proxy advises to name the host; the forms were taken then, the console's log-in refused again and again."""
    for name, log_in in (("vigil.example.org", True), ("evil.example", False)):
        client = httpx.Client(base_url=served.url, trust_env=False)
        form = {"csrf": client.get("/console/log-in").cookies["vigil_form"], "user_name": "vera", "password": PASSWORD}
        answer = client.post("/console/log-in", data=form, headers={"origin": f"https://{name}"})
        assert ("vigil_session" in answer.headers.get("set-cookie", "")) is log_in
        socket = client.get("/console/_nicegui_ws/socket.io/?EIO=4&transport=polling", headers={"origin": f"https://{name}"})
        assert socket.status_code == (200 if log_in else 403)


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites_and_works_for_the_api(served: Service) -> None:
    client = httpx.Client(base_url=served.url, trust_env=False)
    token = client.get("/console/log-in").cookies["vigil_form"]
    answer = client.post("/console/log-in", data={"csrf": token, "user_name": "vera", "password": PASSWORD})
    said = answer.headers["set-cookie"].lower()
    assert all(word in said for word in ("vigil_session=", "httponly", "samesite=strict", "path=/"))
    assert client.get("/v1/detections").status_code == 200
    assert client.post("/v1/keys", json={"name": "x"}).status_code == 403, "a change by session needs its CSRF token"


@pytest.mark.parametrize("trusted", [True, False])
def test_a_proxy_is_believed_who_calls_and_how_where_the_settings_name_it(tmp_path: Path, models: tuple[Path, Path], trusted: bool) -> None:
    """Behind a proxy the cookie was not Secure, and all callers had one address: whoever called often shut the others out."""
    root = tmp_path / "workspace"
    (root / ".vigil").mkdir(parents=True)
    params = compose_params("demo").replace("sign_ups_per_hour: 30", "sign_ups_per_hour: 1")
    (root / "params.yaml").write_text(params.replace("trusted_proxies: []", "trusted_proxies: [127.0.0.0/8]") if trusted else params)
    with running(root, "--model-dir", str(models[0])) as service:
        client, headers = service.by(""), {"x-forwarded-proto": "https"}
        form = wait_for(lambda: client.get("/console/log-in", headers=headers), lambda answer: answer.status_code == 200, service.log)
        token = form.headers["set-cookie"].partition(";")[0].partition("=")[2]
        headers["cookie"] = f"vigil_form={token}"
        answer = client.post("/console/log-in", data={"csrf": token, "user_name": "vera", "password": PASSWORD}, headers=headers)
        assert "vigil_session=" in answer.headers["set-cookie"]
        assert ["; secure" in one.headers["set-cookie"].lower() for one in (form, answer)] == [trusted, trusted]
        client.cookies.clear()
        made = []
        for number in range(2):
            person = {"name": "N", "email": f"n{number}@example.org", "user_name": f"nora{number}", "password": PASSWORD}
            made.append(client.post("/v1/sign-up", json=person, headers={"x-forwarded-for": f"203.0.113.{number}"}).status_code)
        assert made == [201, 201 if trusted else 429]
        form = {"csrf": token, "name": "N", "email": "n3@example.org", "user_name": "nora3", "password": PASSWORD}
        again = client.post("/console/sign-up", data=form, headers={**headers, "x-forwarded-for": "203.0.113.0"})
        assert again.headers["location"] == "/console/sign-up", "by the form and by the API they are counted together"


def test_a_refused_sign_up_says_why_keeps_what_was_written_and_shows_no_password(served: Service) -> None:
    client = httpx.Client(base_url=served.url, trust_env=False, follow_redirects=True)
    token = client.get("/console/sign-up").cookies["vigil_form"]
    form = {"csrf": token, "name": "Nora", "email": "nora@example.org", "user_name": "vera", "password": "a secret of hers"}
    answer = client.post("/console/sign-up", data=form)
    assert "This user name is taken." in answer.text and "nora@example.org" in answer.text
    assert "a secret of hers" not in answer.text and str(answer.url).endswith("/console/sign-up")


def test_a_page_s_live_connection_is_for_the_session_that_opened_it(served: Service) -> None:
    vera, rob = logged_in(served, "vera"), logged_in(served, "rob")
    found = re.search(r"client_id\W+([0-9a-f-]{36})", vera.get("/console/").text)
    assert found is not None
    client_id = found[1]
    path = f"/console/_nicegui_ws/socket.io/?EIO=4&transport=polling&client_id={client_id}"
    assert rob.get(path).status_code == 403
    assert vera.get(path, headers={"origin": "https://evil.example"}).status_code == 403
    assert vera.get(path).status_code == 200


class Socket:
    """A live connection by polling, opened with a client's cookies, and what a page's script would send over it."""

    def __init__(self, client: httpx.Client, query: str = "") -> None:
        self.client, self.path = client, f"/console/_nicegui_ws/socket.io/?EIO=4&transport=polling{query}"
        self.path += "&sid=" + json.loads(client.get(self.path).text[1:])["sid"]
        self.send("40")
        assert self.read().startswith("40")

    def send(self, text: str) -> None:
        """Send one packet."""
        assert self.client.post(self.path, content=text).text == "OK"

    def read(self) -> str:
        """What came back."""
        return self.client.get(self.path).text

    def joins(self, client_id: str, tab: str) -> bool:
        """Whether the handshake for a page is accepted."""
        page = {"client_id": client_id, "tab_id": tab, "old_tab_id": None, "document_id": tab, "next_message_id": 0}
        self.send("420" + json.dumps(["handshake", page]))
        return "430[true]" in self.read()

    def make_key(self, client_id: str, form: tuple[str, str], name: str) -> None:
        """Send the account page's form for a key."""
        event = {"id": int(form[0]), "client_id": client_id, "listener_id": form[1], "args": [json.dumps({"name": name})]}
        self.send("42" + json.dumps(["event", event]))


def test_a_live_connection_acts_on_no_page_but_its_own(served: Service) -> None:
    """The page stands in each message, not only in the address: a stranger's connection made a key on a page of Vera's, and read it."""
    vera, rob, nobody = logged_in(served, "vera"), logged_in(served, "rob"), httpx.Client(base_url=served.url, trust_env=False, timeout=60)
    pages = [html.unescape(client.get("/console/account").text) for client in (vera, rob)]
    ids = [found[1] for text in pages if (found := re.search(r"client_id\W+([0-9a-f-]{36})", text))]
    form = re.findall(r'"(\d+)":\{"tag":"form".*?"listener_id":"([0-9a-f-]+)","type":"submit"', pages[0])[1]
    both = f"/console/_nicegui_ws/socket.io/?EIO=4&transport=polling&implicit_handshake=true&tab_id=t&client_id={ids[0]}&client_id={ids[1]}"
    assert rob.get(both).status_code == 403, "the library believes the first of two"
    strangers = [Socket(nobody), Socket(rob), Socket(rob, f"&client_id={ids[1]}")]
    assert [stranger.joins(ids[0], "stranger") for stranger in strangers] == [False] * 3
    mine = Socket(vera, f"&client_id={ids[0]}&implicit_handshake=true&tab_id=mine&document_id=mine&next_message_id=0")  # as a browser does
    assert strangers[2].joins(ids[1], "his own")
    for stranger in strangers:
        stranger.make_key(ids[0], form, "of a stranger")
    mine.make_key(ids[0], form, "of Vera")
    names = lambda: [key["name"] for key in served.client.get("/v1/keys").json()["keys"]]  # noqa: E731
    assert "of a stranger" not in wait_for(names, lambda found: "of Vera" in found, served.log)


def test_an_address_that_opens_pages_without_end_is_told_to_wait() -> None:
    from feedback.console.guard import PAGES_A_MINUTE, Guard

    answers: list[int] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answers.append(message["status"])

    async def ask(path: str) -> None:
        where = {"path": f"/console{path}", "root_path": "/console", "query_string": b"", "client": ("10.0.0.1", 1)}
        await guard({"type": "http", "method": "GET", "headers": [], **where}, receive, send)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def flood() -> None:
        for _ in range(2 * PAGES_A_MINUTE):
            await ask("/log-in")
        await ask("/assets/console.css")

    guard = Guard(inner, lambda *_: True, 10_000)
    asyncio.run(flood())
    assert answers[:PAGES_A_MINUTE] == [200] * PAGES_A_MINUTE and 429 in answers
    assert answers[-1] == 200, "files have a limit of their own"


def test_every_answer_of_the_console_forbids_other_hosts_and_frames(served: Service) -> None:
    for path in ("/console/log-in", "/console/assets/console.css", "/console/nowhere"):
        headers = served.by("").get(path).headers
        assert "default-src 'self'" in headers["content-security-policy"] and "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_media_are_played_in_parts_by_who_may_see_them_and_one_viewing_is_one_entry(served: Service) -> None:
    detection = served.client.get("/v1/detections").json()["detections"][0]
    path = f"/console/media/{detection['id']}"
    vera = logged_in(served, "vera")
    first, second = (vera.get(path, headers={"range": f"bytes={at}-{at + 99}"}) for at in (0, 100))
    assert (first.status_code, second.status_code) == (206, 206) and len(first.content) == 100
    assert "sandbox" in first.headers["content-security-policy"]
    assert served.by("").get(path).status_code == 401
    found = served.by("ada").get("/v1/audit", params={"object": f"detection:{detection['id']}"}).json()["entries"]
    views = [one for one in found if one["action"] == "detection.view" and one["who"] == f"user:{served.people['vera'][0]}"]
    assert len(views) == 1


@pytest.mark.parametrize("hidden", [0, 11, 12, 200])
def test_cases_that_cannot_be_shown_hide_none_behind_them(hidden: int) -> None:
    """Twelve of them at the top of the queue, and the page said that no case waits, to everybody."""

    class Queue:
        """A service whose first cases have no media left."""

        def __init__(self) -> None:
            self.waiting = [
                {"id": f"c{number}", "state": "open", "reason": "disputed", "answers": 0, "detections": [str(number)]} for number in range(hidden + 14)
            ]

        def queue(self, _: Any, limit: int) -> list[dict[str, Any]]:
            return [dict(case) for case in self.waiting[:limit]]

        def detection(self, _: Any, one: str) -> dict[str, Any]:
            kept = int(one) >= hidden
            return {"id": one, "state": "done", "kind": "image", "media_state": "kept" if kept else "deleted", "answer": {}, "pictures": {}}

    class Page:
        """What asks on behalf of a person."""

        async def ask(self, method: Any) -> Any:
            return method(None)

    found, more = asyncio.run(review._cases(Queue(), Page(), set()))  # type: ignore[arg-type]
    assert found[0]["id"] == f"c{hidden}" and len(found) >= 12 and (more or len(found) == 14)
    rest, more = asyncio.run(review._cases(Queue(), Page(), {case["id"] for case in found}, len(found)))  # type: ignore[arg-type]
    assert [case["id"] for case in rest] == [f"c{number}" for number in range(hidden + len(found), hidden + 14)]


def test_an_image_is_shown_too_large_a_file_is_refused_and_an_upload_is_erased(page: Browser, picture: bytes, tmp_path: Path) -> None:
    small, large = tmp_path / "face.jpg", tmp_path / "large.mp4"
    small.write_bytes(picture.ljust(MOST_BYTES, b"\0"))
    large.write_bytes(b"\0" * (MOST_BYTES + 1))
    page.log_in("emil")
    page.asked_for()
    page.drop(".drop", large, small)
    page.see(".job[data-state=failed]", "It is larger than 2.9 MB.")
    page.see(".job[data-state=done] .badge")
    assert len([url for url in page.asked_for() if "/v1/detections?wait" in url]) == 1, "what follows a refused file is sent once"
    page.press("Open")
    page.see(".verdict .badge", "Uncertain")
    shown = page.see(".frame-box img")
    page.until(lambda: shown.get_property("naturalWidth"), "the image is shown")
    first = page.driver.current_url
    page.open("")
    page.drop(".drop", small)
    page.see(".job[data-state=done] .badge")
    for address, told in (
        (first, "stay until it is erased too"),
        (page.see("a.button", "Open").get_attribute("href"), "unless another upload of the same file"),
    ):
        page.driver.get(address)
        page.see("summary", "Erase this upload").click()
        page.press("Erase for good")
        page.see("h1", "Erased")
        page.see(".empty", told)


def test_an_erased_upload_is_said_to_be_so_wherever_it_is_listed(served: Service, picture: bytes) -> None:
    """On the first page it stood as waiting, for good; its case had what "the model said"; and a browser showed its pictures for minutes, to anybody."""
    sent = served.detect(picture + b"to be erased").json()
    vera, emil = logged_in(served, "vera"), logged_in(served, "emil")
    seen = [vera.get(path) for path in (f"/v1/detections/{sent['id']}/thumbnail", f"/console/media/{sent['id']}")]
    assert [(one.status_code, one.headers["cache-control"]) for one in seen] == [(200, "no-store")] * 2
    assert "strip-file" in emil.get(f"/console/cases/{sent['case_id']}").text
    served.review(sent["case_id"], "real", "rob")
    assert "is not open to you" in logged_in(served, "rob").get(f"/console/review?case={sent['case_id']}").text, "he has answered it"
    assert served.client.delete(f"/v1/detections/{sent['id']}").status_code == 200
    for path in ("", "history"):
        row = listed(vera, path, sent["id"])
        assert "Erased" in row and "Waiting" not in row, row
    assert "erased" in vera.get(f"/v1/detections/{sent['id']}/thumbnail").json()["detail"]
    case = emil.get(f"/console/cases/{sent['case_id']}").text
    assert "The answers went with the file." in case and "The model said" not in case and "Known case" not in case
    refused = served.client.post(f"/v1/detections/{sent['id']}/dispute", json={"claim": "real"}), served.by("rob").post(f"/v1/cases/{sent['case_id']}/undo")
    assert [(one.status_code, "erased" in one.json()["detail"]) for one in refused] == [(409, True)] * 2, [one.text for one in refused]
    assert "is not open to you" in emil.get(f"/console/review?case={sent['case_id']}").text


def test_files_are_sent_once_the_service_can_be_reached_again(page: Browser, picture: bytes, tmp_path: Path) -> None:
    """One refused connection, as while the service is started anew, failed every file of the queue at once."""
    files = [tmp_path / f"{number}.jpg" for number in range(3)]
    for number, path in enumerate(files):
        path.write_bytes(picture + b"away" + bytes([number]))
    page.log_in("emil")
    page.reached(False)
    page.drop(".drop", *files)
    page.until(lambda: all("cannot be reached; trying again" in job.text for job in page.all(".job")), "all wait")
    page.reached(True)
    page.until(lambda: len(page.all(".job[data-state=done] .badge")) == 3, "a verdict on each")


def test_a_file_goes_out_under_the_policy_that_the_page_shows(served: Service, page: Browser, picture: bytes, tmp_path: Path) -> None:
    """A policy that was chosen while the connection was away had not come back from the service when the file was dropped: it was sent without any."""
    (tmp_path / "me.jpg").write_bytes(picture + b"identity")
    page.log_in("emil")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    page.reached(False)
    Select(page.see("[name=policy]")).select_by_visible_text("Identity check")
    page.drop(".drop", tmp_path / "me.jpg")
    page.see(".job", "cannot be reached; trying again")
    page.reached(True)
    page.see(".job[data-state=done] .badge")
    assert served.by("emil").get("/v1/detections").json()["detections"][0]["policy"] == "identity_check"


def test_files_outlive_the_session_and_none_is_lost_in_silence(served: Service, page: Browser, picture: bytes, tmp_path: Path) -> None:
    """Words for programs were shown, and a new log-in left the page with the token of the old session."""
    kept, lost = tmp_path / "kept.jpg", tmp_path / "lost.jpg"
    kept.write_bytes(picture + b"kept")
    lost.write_bytes(picture + b"lost")
    page.log_in("emil")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    page.driver.delete_all_cookies()
    page.driver.find_element("id", "files").send_keys(str(kept))
    page.see(".notice", "Your session has ended")
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.log_in("emil")
    page.driver.close()
    page.driver.switch_to.window(first)
    mine = lambda: [row["sha256"] for row in served.by("emil").get("/v1/detections").json()["detections"]]  # noqa: E731
    page.until(lambda: hashlib.sha256(kept.read_bytes()).hexdigest() in mine(), "it is sent")
    shown = lambda: page.all(".job[data-state=done]") or (not page.all(".job") and page.all(".recent-card"))  # noqa: E731
    page.until(shown, "its verdict is shown, here or on the page loaded anew for the new session")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    page.driver.delete_all_cookies()
    page.driver.find_element("id", "files").send_keys(str(lost))
    page.see(".notice", "Your session has ended")
    page.log_in("emil")
    page.see(".notice", "One file was not sent")
    assert hashlib.sha256(lost.read_bytes()).hexdigest() not in mine()


def test_who_sent_a_fake_is_told_of_its_quarantine_and_shown_no_broken_picture(served: Service, picture: bytes) -> None:
    """After an hour the page offered what every request was refused, and said that the browser cannot play it."""
    sent = served.detect(picture + b"in quarantine").json()
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", timeout=60) as database:
        database.execute("UPDATE media SET state = 'quarantined' WHERE sha256 = ?", [sent["sha256"]])
    pages = {
        name: [logged_in(served, name).get(f"/console/{path}").text for path in (f"detections/{sent['id']}", "history?everybody=1")] for name in ("vera", "rob")
    }
    offered = {name: [f"{sent['id']}/thumbnail" in page for page in seen] for name, seen in pages.items()}
    assert offered == {"vera": [False, False], "rob": [True, True]}
    assert ["only reviewers can see them" in seen[0] for seen in pages.values()] == [True, False]
    assert f"/console/media/{sent['id']}" not in pages["vera"][0] and "/thumbnail" not in listed(logged_in(served, "vera"), "", sent["id"])


def test_what_a_dispute_says_is_read_by_who_has_answered(served: Service, page: Browser, picture: bytes) -> None:
    """People were told that it is read, and it was shown to nobody."""
    sent = served.detect(picture + b"noted").json()
    assert served.client.post(f"/v1/detections/{sent['id']}/dispute", json={"claim": "real", "note": "I was there"}).status_code == 200
    page.log_in("rosa")
    page.open(f"/cases/{sent['case_id']}")
    page.see("h2", "Answers")
    assert "I was there" not in page.driver.page_source, "not before one's own answer"
    served.review(sent["case_id"], "real", "rosa")
    page.open(f"/cases/{sent['case_id']}")
    page.see("td", "I was there")


def test_files_are_not_sent_under_the_name_of_who_logged_in_next(served: Service, page: Browser, picture: bytes, tmp_path: Path) -> None:
    """What waited for a log-in went out as whoever logged in in another tab."""
    waiting = tmp_path / "waiting.jpg"
    waiting.write_bytes(picture + b"waiting")
    page.log_in("emil")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    first = page.driver.current_window_handle

    def elsewhere(name: str) -> None:
        page.driver.delete_all_cookies()
        page.driver.switch_to.new_window("tab")
        page.log_in(name)
        page.driver.close()
        page.driver.switch_to.window(first)

    elsewhere("vera")
    page.driver.find_element("id", "files").send_keys(str(waiting))
    page.see(".notice", "Somebody else has logged in here")
    page.see(".job[data-state=chosen]")
    sent = lambda name: [row["sha256"] for row in served.by(name).get("/v1/detections").json()["detections"]]  # noqa: E731
    known = hashlib.sha256(waiting.read_bytes()).hexdigest()
    assert known not in sent("vera") + sent("emil")
    elsewhere("emil")
    page.until(lambda: known in sent("emil"), "it is sent for whom it waited")
    assert known not in sent("vera")


def test_a_key_is_shown_once_works_and_ends(served: Service, page: Browser) -> None:
    page.log_in("vera")
    page.open("/account")
    page.see("input[name=name]").send_keys("a script")
    page.press("Make a key")
    text = page.see(".secret-text").text
    with httpx.Client(base_url=served.url, trust_env=False, headers={"Authorization": f"Bearer {text}"}) as client:
        assert client.get("/v1/detections").status_code == 200
        page.open("/account")
        assert text not in page.driver.page_source
        page.see("button[aria-label='Revoke the key a script']").click()
        page.see(".toast", "The key has ended.")
        wait_for(lambda: client.get("/v1/detections"), lambda answer: answer.status_code == 401)


def test_a_form_that_is_sent_again_while_it_works_is_sent_once(served: Service, page: Browser) -> None:
    """Enter twice, a double click, or what was pressed again while the connection was away made further keys that lived and were shown to nobody."""
    page.log_in("vera")
    page.open("/account")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    made = lambda name: [key["name"] for key in served.client.get("/v1/keys").json()["keys"]].count(name)  # noqa: E731
    page.write(name="twice")
    ActionChains(page.driver).send_keys(Keys.ENTER).pause(0.3).send_keys(Keys.ENTER).perform()
    page.see(".secret-text")
    page.write(name="pressed again")
    page.reached(False)
    for _ in range(3):
        page.see("[name=name]").send_keys(Keys.ENTER)
        time.sleep(1.1)
    page.reached(True)
    page.until(lambda: made("pressed again"), "what was pressed arrives")
    time.sleep(1)
    assert (made("twice"), made("pressed again")) == (1, 1)


def test_history_is_filtered_and_exported(served: Service, page: Browser) -> None:
    page.log_in("rob")
    page.open("/history?everybody=1&verdict=uncertain")
    rows = len(page.all("tbody tr"))
    assert rows >= 3
    page.look(wide_px=360)
    hidden = "return [...document.querySelectorAll('.table-frame')].map((one) => one.scrollWidth - one.clientWidth)"
    assert page.driver.execute_script(hidden) == [0], "a narrow phone clips no verdict"
    page.look()
    page.open("/history?everybody=1&verdict=real")
    page.see(".empty-what", "Nothing fits these filters.")
    page.open("/history?everybody=1&state=done")
    address = page.see("a.button", "Export (CSV)").get_attribute("href")
    assert address is not None
    assert "state=done" in address, "what is filtered is exported"
    lines = logged_in(served, "rob").get(address).text.strip().splitlines()
    assert lines[0].startswith("created_at,id,state") and len(lines) > rows


def test_an_admin_makes_disables_and_enables_an_account_and_verifies_the_trail(served: Service, page: Browser) -> None:
    page.log_in("ada")
    page.open("/users")
    page.see("summary", "Make an account").click()
    page.write(name="Olga", email="olga@example.org", user_name="olga", password=PASSWORD)
    page.press("Make the account")
    page.see(".toast", "The account was made.")
    page.see("td a", "Olga").click()
    page.press("Disable")
    page.see(".facts", "disabled")
    page.press("Enable")
    page.see("button", "Disable")
    page.open("/trail")
    assert "account.govern" in page.driver.page_source
    assert "like case:" not in page.see("#h-object").text, "the short names of the list find nothing"
    page.see("td a.hash", "user:").click()
    page.until(lambda: "…" not in (page.see("[name=object]").get_attribute("value") or "…"), "the whole name is filled in")
    page.see("td a.hash", "user:")
    page.open("/trail")
    page.press("Verify the chain")
    page.see("[role=status]", "Whole:")
    page.look(wide_px=390)
    assert too_wide(page) <= 0, "the last hash is wider than a phone"


def test_accounts_come_a_page_at_a_time_and_those_of_sources_when_asked_for(served: Service, page: Browser) -> None:
    """All were drawn at once, those of sources among them, in the process that answers everybody: nobody was answered meanwhile."""
    with closing(Database(served.root, load_settings(served.root / "params.yaml"))) as database, database.write() as connection:
        for number in range(2 * users.PAGE):
            _account(connection, f"a folder without labels, number {number}")
    page.log_in("ada")
    page.open("/users")
    assert page.see("tbody tr a") and not [one for one in page.all("tbody tr") if "source:" in one.text]
    Select(page.see("[name=sources]")).select_by_value("1")
    page.press("Filter")
    page.see("td", "source:")
    accounts = "table:has(caption) tbody tr:has(a)"
    assert len(page.all(accounts)) == users.PAGE
    for wide_px in (360, 1280):
        page.look(wide_px=wide_px)
        assert too_wide(page) <= 0 and [row for row in page.axe() if row["impact"] in ("critical", "serious")] == []
    page.press("Older")
    page.press("Older")
    page.see("td a", "Vera")
    page.press("Newest")
    page.see("td a", f"number {2 * users.PAGE - 1}")
    page.write(named="vera@")
    page.press("Filter")
    page.see("td a", "Vera")
    assert len(page.all(accounts)) == 1
    page.open("/users?named=nobody")
    page.see(".empty", "No account fits.")
    page.press("Show all")
    page.see("td a", "Ada")
    page.open(f"/users?before={'0' * 32}")
    page.see(".empty", "Nothing older.")


def test_keys_come_a_page_at_a_time(served: Service, page: Browser) -> None:
    rosa = served.by("rosa")
    for number in range(account.KEYS + 1):
        assert rosa.post("/v1/keys", json={"name": f"key {number}"}).status_code == 201
    page.log_in("rosa")
    page.open("/account")
    page.see("td", f"key {account.KEYS}")
    assert len(page.all("tbody tr")) == account.KEYS
    page.look(wide_px=360)
    assert too_wide(page) <= 0 and [row for row in page.axe() if row["impact"] in ("critical", "serious")] == []
    page.look()
    page.press("Older")
    page.see("[aria-label='Revoke the key key 0']").click()
    page.see("td", "ended")
    assert page.see("td", "tests") and page.see("a.button", "Newest"), "the page of older ones stays"
    page.write(name="one more")
    page.press("Make a key")
    page.see("td", "one more")
    page.driver.delete_all_cookies()
    page.log_in("ada")
    page.open(f"/users/{served.people['rosa'][0]}")
    page.see("td", "one more")
    page.press("Older")
    page.see("td", "key 0")
    page.open(f"/users/{served.people['rosa'][0]}?before={'0' * 32}")
    page.see(".empty", "Nothing older.")


def test_one_long_name_takes_no_column_out_of_sight(served: Service, page: Browser, picture: bytes) -> None:
    """A name without blanks, with which anybody can sign up, pushed the columns beside it out of every account's row, and its own page out of the screen."""
    page.sign_up("Zq" * 50, "zq" * 16)
    page.driver.delete_all_cookies()
    page.log_in("ada")
    case_id = served.detect(picture + b"of one with a long name").json()["case_id"]
    served.review(case_id, "real", identity="W" * 200)
    account = next(one["id"] for one in served.by("ada").get("/v1/users").json()["users"] if one["name"].startswith("Zq"))
    for path in ("/users", f"/users/{account}", f"/cases/{case_id}"):
        page.open(path)
        page.see("h2")
        hidden = page.driver.execute_script("return [...document.querySelectorAll('.table-frame')].map((one) => one.scrollWidth - one.clientWidth)")
        assert (too_wide(page), [by for by in hidden if by > 24]) == (0, []), f"{path}: more is hidden than the room beside the last cell's words"


def test_a_case_is_quarantined_and_released_by_an_engineer(served: Service, page: Browser) -> None:
    case_id = served.client.get("/v1/detections").json()["detections"][0]["case_id"]
    page.log_in("emil")
    page.open(f"/cases/{case_id}")
    page.see("summary", "Quarantine").click()
    page.write(why="the file is a screenshot")
    page.press("Quarantine")
    page.see(".facts", "the file is a screenshot")
    page.press("Release from quarantine")
    page.see(".facts", "Open")


def test_an_answer_is_taken_back_on_the_page_of_its_case_until_it_is_handed_over(served: Service, page: Browser, picture: bytes) -> None:
    """Once Review was left or loaded anew, nothing in the console took an answer back, though a second one was refused with the advice to do that first."""
    sent, root = served.detect(picture + b"a slip").json(), served.log.parent / "workspace"
    served.review(sent["case_id"], "real", "rob")
    page.log_in("rob")
    page.open(f"/review?case={sent['case_id']}")
    page.see(".notice a", "On its page").click()
    page.see("h2", "Answers")
    page.press("Take my answer back")
    page.press("Answer it")
    page.see(f".review-media[data-case='{sent['case_id']}']")
    page.see(".answer-fake:not([disabled])")
    assert served.by("rob").get(f"/v1/cases/{sent['case_id']}").json()["answers"] == 0
    served.review(sent["case_id"], "real")
    assert mark_ingested(root, load_settings(root / "params.yaml"), {(sent["sha256"], "real"): "2026-11-29-feedback"}) == 1
    page.open(f"/cases/{sent['case_id']}")
    page.see(".facts", "came in with batch")
    assert "Take my answer back" not in page.driver.page_source, "it would be refused"


def test_no_page_offers_an_answer_to_who_sent_the_file(served: Service, page: Browser, picture: bytes) -> None:
    """The page of the case offered it, Review put the case before all others, and then the answer was refused."""
    sent = served.by("rob").post("/v1/detections", files={"file": picture + b"of Rob"}, params={"wait": 60}).json()
    page.log_in("rob")
    page.open(f"/cases/{sent['case_id']}")
    page.see(".notice", "You sent this file in yourself; somebody else answers it.")
    assert "Answer it" not in page.driver.page_source
    page.open(f"/review?case={sent['case_id']}")
    page.see(".notice", "sent it in yourself")
    assert sent["case_id"] not in {one.get_attribute("data-case") for one in page.all(".review-media")}


def test_a_case_whose_media_are_gone_says_so_and_can_be_quarantined_and_released(served: Service, picture: bytes) -> None:
    """Its page showed no picture and no word of it, and offered a quarantine that could not be ended any more."""
    root = served.log.parent / "workspace"
    sent = served.detect(picture + b"long ago").json()
    case_id = sent["case_id"]
    served.review(case_id, "unsure")
    settings = load_settings(root / "params.yaml")
    with closing(Database(root, settings)) as database:
        keeping = Retention(database, MediaStore(root, settings), settings.feedback)
        assert keeping.sweep("2999-01-01T00:00:00+00:00", sent["sha256"])["deleted"] == 1
    engineer, emil = logged_in(served, "emil"), served.by("emil")
    shown = wait_for(lambda: engineer.get(f"/console/cases/{case_id}").text, lambda text: "Govern" in text)
    assert "The media have been deleted" in shown and "It leaves the queue and does not train." in shown
    assert "Known case" not in shown and emil.post(f"/v1/cases/{case_id}/gold", json={"label": "real"}).status_code == 409, (
        "what would be refused is not offered"
    )
    assert emil.post(f"/v1/cases/{case_id}/quarantine", json={"why": "a doubt"}).json()["state"] == "quarantined"
    assert "Release from quarantine" in engineer.get(f"/console/cases/{case_id}").text
    case = emil.post(f"/v1/cases/{case_id}/release").json()
    assert (case["state"], case["label"], case["why"], case["handover"]) == ("decided", "unsure", "", "")


def test_a_case_says_with_which_batch_its_label_came_in_and_not_that_it_is_trained_on(served: Service, picture: bytes) -> None:
    """The cases of a batch that was held, or dropped, were said to be in the training data."""
    sent, root = served.detect(picture + b"of a batch").json(), served.log.parent / "workspace"
    served.review(sent["case_id"], "real", "rob", identity="anna")
    assert served.review(sent["case_id"], "real", "rita", identity="berta").json()["handover"] == "waiting"
    assert mark_ingested(root, load_settings(root / "params.yaml"), {(sent["sha256"], "real"): "2026-11-28-feedback"}) == 1
    rob = logged_in(served, "rob")
    for path in (f"cases/{sent['case_id']}", "cases?state=decided"):
        wait_for(lambda path=path: rob.get(f"/console/{path}").text, lambda text: "came in with batch 2026-11-28-feedback" in text)
    governed = logged_in(served, "emil").get(f"/console/cases/{sent['case_id']}").text
    assert "It was handed over to training." in governed and "Known case" not in governed, "both would be refused"
    case = rob.get(f"/console/cases/{sent['case_id']}").text
    assert "different names were given: none counts" in case and all(f'"text":"{name}"' in case for name in ("anna", "berta")), "it said: not named"
    journal = Journal(root)
    journal.append("batch_added", batch="2026-11-28-feedback", source="feedback", samples=1, quarantined=0)
    journal.append("batch_state", batch="2026-11-28-feedback", state="held", who="system", why="labels contradict")
    assert "which is held: a person decides" in rob.get(f"/console/cases/{sent['case_id']}").text
    assert served.by("rob").get(f"/v1/cases/{sent['case_id']}").json()["batch_state"] == "held"
    assert "Take my answer back" not in rob.get(f"/console/cases/{sent['case_id']}").text
    journal.append("batch_state", batch="2026-11-28-feedback", state="dropped", who="ana", why="a wrong answer")
    assert "Take my answer back" in rob.get(f"/console/cases/{sent['case_id']}").text, "as was advised before"
    assert "Known case" in logged_in(served, "emil").get(f"/console/cases/{sent['case_id']}").text


def test_a_file_that_nothing_can_open_is_said_to_have_no_picture(served: Service, page: Browser, tmp_path: Path) -> None:
    """Its verdict and the list of what was sent showed a broken image, and its case an empty card."""
    found = served.detect(b"no media").json()
    disputed = served.client.post(f"/v1/detections/{found['id']}/dispute", json={"claim": "fake"}).json()
    page.log_in("rob")
    (tmp_path / "named.jpg").write_bytes(b"no media")
    page.drop(".drop", tmp_path / "named.jpg")
    page.see(".job[data-state=done] .badge")
    assert not page.all(".job img")
    page.open(f"/detections/{found['id']}")
    page.see(".stage-file", "There is no picture of this file.")
    assert not page.all(".stage-file img")
    page.driver.delete_all_cookies()
    page.log_in("rita")
    page.open(f"/review?case={disputed['case_id']}")
    page.see(".review-stage", "the right answer is Unsure")
    assert not [one for one in page.all(".review-stage img") if one.is_displayed()]


def test_why_no_face_was_judged_is_said_as_it_is_written(served: Service) -> None:
    """The names of formats lost their capitals: it said that Heic is not read."""
    sent = served.detect(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)).json()
    assert f'"text":"{sent["reason"]}.' in logged_in(served, "vera").get(f"/console/detections/{sent['id']}").text.split("No face was judged.")[1], sent[
        "reason"
    ]


def test_nothing_is_said_of_faces_where_none_was_found(served: Service, page: Browser, tmp_path: Path) -> None:
    """The page spoke of the faces beside the file; its case of "– fake", and of a label that trains."""
    import cv2
    import numpy as np

    made = cv2.VideoWriter(str(tmp_path / "grey.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 12.0, (256, 256))  # a coding that no browser plays
    for number in range(18):
        made.write(np.full((256, 256, 3), 90 + number, np.uint8))
    made.release()
    found = served.detect((tmp_path / "grey.mp4").read_bytes()).json()
    assert (found["verdict"], found["kind"], found["faces"]) == ("none", "video", 0)
    disputed = served.client.post(f"/v1/detections/{found['id']}/dispute", json={"claim": "fake"}).json()
    page.log_in("rita")
    page.open(f"/detections/{found['id']}")
    assert "faces beside it" not in page.see(".stage-file figcaption", "This browser cannot play the file").text
    served.review(disputed["case_id"], "real", "rob")
    page.open(f"/review?case={disputed['case_id']}")
    page.see(".answer-real:not([disabled])")
    page.key("r")
    page.see(".review-log li", "Decided real, 2 of 2 agree; it does not train.")
    page.open(f"/cases/{disputed['case_id']}")
    assert "no verdict" in page.see(".facts", "The model said").text and "– fake" not in page.see(".facts").text


def test_the_pictures_of_a_case_are_loaded_ahead_and_once_and_its_media_when_it_is_shown(served: Service, page: Browser) -> None:
    """Nothing of an upload is kept in the browser's cache: what is loaded ahead has to be in the page. Media of the next four cases are not: whoever opened
    the page once had seen five files, as the trail told it, four of which were never on the screen.
    """
    loaded = "const all = [...document.querySelectorAll('.review-media img')]; return all.length > 6 && all.every((one) => one.complete)"
    first = next(case for case in served.by("rita").get("/v1/queue").json()["cases"] if case["kind"] == "video")
    urls: list[str] = []

    def asked_for(part: str) -> set[str]:
        urls.extend(page.asked_for())
        return {url for url in urls if part in url}

    page.log_in("rita")
    page.asked_for()
    page.open(f"/review?case={first['id']}")
    page.until(lambda: page.driver.execute_script(loaded) and asked_for("/console/media/"), "pictures are loaded ahead, and what is shown")
    ahead = asked_for("/v1/detections/")
    assert len(ahead) > 6 and len(asked_for("/console/media/")) == 1
    urls.clear()
    page.key("j")
    page.see(".review-place", "Case 2")
    page.until(lambda: page.driver.execute_script(loaded), "those of the next ones are loaded")
    assert not ahead & asked_for("/v1/detections/") and len(asked_for("/console/media/")) <= 1


def test_what_could_not_be_loaded_ahead_is_asked_for_again(served: Service, page: Browser, picture: bytes) -> None:
    """A network that was away for a second took the pictures of cases that nobody had looked at yet."""
    for number in range(9):
        served.detect(picture + b"further %d" % number)
    page.log_in("rita")
    page.open("/review")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    page.reached(False)
    seen = 1
    for _ in range(3):
        page.key("j")
        page.see(".review-place", f"Case {(seen := seen + 1)}")
    page.reached(True)
    shown = "return [...document.querySelectorAll('.review-media img')].filter((one) => one.checkVisibility())"
    for _ in range(5):
        page.key("j")
        page.see(".review-place", f"Case {(seen := seen + 1)}")
        page.until(
            lambda: page.driver.execute_script(f"const all = {shown.removeprefix('return ')}; return all.length && all.every((one) => one.naturalWidth)"),
            "it is seen",
        )


def test_a_held_enter_answers_the_case_that_was_seen_and_no_other(page: Browser) -> None:
    """The browser pressed the focused answer again at each repeat: cases that nobody had seen were answered, one every 33 ms."""
    page.log_in("rita")
    page.open("/review")
    page.driver.execute_script("arguments[0].focus()", page.see(".answer-unsure"))
    key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}
    for number in range(8):
        page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyDown", "text": "\r", "autoRepeat": number > 0, **key})
    page.driver.execute_cdp_cmd("Input.dispatchKeyEvent", {"type": "keyUp", **key})
    page.see(".review-side", "1 answered in this visit")
    assert len(page.all(".review-log li")) == 1
    page.key("z")
    page.see(".review-last", "Taken back.")


def test_a_double_click_answers_the_case_that_was_seen_and_no_other(page: Browser) -> None:
    """Its second click fell on the next case, which had come meanwhile."""
    page.log_in("rita")
    page.open("/review")
    page.see(".answer-unsure:not([disabled])")
    ActionChains(page.driver).double_click(page.see(".answer-unsure")).perform()
    page.see(".review-side", "1 answered in this visit")
    assert len(page.all(".review-log li")) == 1
    page.key("z")
    page.see(".review-last", "Taken back.")


def test_an_answer_is_written_before_it_is_taken_back(served: Service, page: Browser) -> None:
    """While something else wrote, an undo could overtake its answer: it was refused, and the answer stood."""
    page.log_in("rita")
    page.open("/review")
    database = sqlite3.connect(served.log.parent / "workspace/feedback.db", isolation_level=None, timeout=60)
    for _ in range(4):
        page.see(".answer-fake:not([disabled])")
        database.execute("BEGIN IMMEDIATE")
        page.key("f")
        time.sleep(0.4)  # who has waited long looks less often, so that the undo comes first where nothing orders them
        page.key("z")
        database.execute("COMMIT")
        page.see(".review-last", "Taken back.")
        page.until(lambda: not page.all(".review-log li"), "no answer stands")
    database.close()


def test_what_is_pressed_after_an_undo_is_said_of_no_other_case(served: Service, page: Browser) -> None:
    """Until the service had taken an answer back, the page took what was meant for that case as an answer to the one after it."""
    page.log_in("rita")
    page.open("/review")
    page.see(".answer-real:not([disabled])")
    page.key("r")
    page.see(".review-log li", "answer")
    page.see(".review-place", "Case 2 of")
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", isolation_level=None, timeout=60) as database:
        database.execute("BEGIN IMMEDIATE")
        page.key("zf")
        page.see(".review-place", "Case 1 of")
        assert page.all(".answer-fake:disabled"), "it takes no answer until the one before is taken back"
        page.key("j")
        database.execute("COMMIT")
    page.see(".review-last", "Taken back.")
    page.see(".review-place", "Case 2 of")
    said = [one["label"] for case in served.by("rita").get("/v1/cases").json()["cases"] for one in case["reviews"] if one.get("reviewer") == "Rita"]
    assert said == []


def test_the_pace_is_the_median_of_the_answers_that_stand(served: Service, page: Browser) -> None:
    """Of two answers it was the slower one, and an answer that was taken back went on counting."""
    page.log_in("rita")
    page.open("/review")
    for number, wait in ((1, 0), (2, 3)):
        page.see(".answer-unsure:not([disabled])")
        time.sleep(wait)
        page.key("u")
        page.see(".review-side", f"{number} answered in this visit")
        page.until(lambda number=number: len([row for row in page.all(".review-log li") if "answer" in row.text]) == number, "it is written")
    cases = served.by("rita").get("/v1/cases").json()["cases"]
    first, second = sorted(one["seconds"] for case in cases for one in case["reviews"] if one.get("reviewer") == "Rita")
    page.see(".review-side", f"{(first + second) / 2:.1f} s a case (median)")
    page.key("z")
    page.see(".review-side", f"1 answered in this visit, {first:.1f} s a case (median)")
    page.key("z")
    page.until(lambda: not page.all(".review-log li"), "both are taken back")


def test_what_was_written_stays_with_its_case_while_others_are_looked_at_and_after_an_undo(served: Service, page: Browser) -> None:
    """A look at the next case, or an answer that was taken back, threw the note and the name away."""
    page.log_in("rita")
    page.open("/review")
    page.see(".review-answers")
    case_id = page.see(".review-media").get_attribute("data-case")
    written = lambda: [page.see(css).get_attribute("value") for css in ("#identity", "#note")]  # noqa: E731
    for key, css, text in (("i", "#identity", "anna"), ("n", "#note", "the teeth")):
        page.key(key)
        page.see(css).send_keys(text + "\ue007")
    page.key("j")
    page.see(".review-place", "Case 2 of")
    assert written() == ["", ""]
    page.key("k")
    page.see(".review-place", "Case 1 of")
    assert written() == ["anna", "the teeth"]
    page.key("u")
    page.see(".review-log li", "answer")
    page.key("z")
    page.see(".review-last", "Taken back.")
    page.see(".review-place", "Case 1 of")
    assert written() == ["anna", "the teeth"]
    page.key("u")
    page.see(".review-log li", "answer")
    reviews = served.by("rita").get(f"/v1/cases/{case_id}").json()["reviews"]
    assert [(one["identity"], one["note"]) for one in reviews if one["reviewer"] == "Rita"] == [("anna", "the teeth")]
    page.key("z")
    page.see(".review-last", "Taken back.")


def test_no_answer_is_lost_in_silence_while_the_service_is_away(served: Service, page: Browser) -> None:
    """The page went on taking answers and notes, and was loaded anew without a word of them once the service was back."""
    page.log_in("rita")
    page.open("/review")
    page.until(lambda: page.driver.execute_script("return window.did_handshake"), "the page is live")
    waiting = lambda: len(served.by("rita").get("/v1/queue", params={"limit": 100}).json()["cases"])  # noqa: E731
    before = waiting()
    page.driver.execute_script("window.socket.disconnect()")
    page.key("f")
    page.see(".review-last", "The service cannot be reached. Your answer was not taken.")
    page.see(".review-place", "Case 1 of")
    page.open("/review")
    assert not page.all(".review-left")
    page.see(".answer-fake:not([disabled])")
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", isolation_level=None, timeout=60) as database:
        database.execute("BEGIN IMMEDIATE")
        page.key("f")
        page.see(".review-log li", "being sent")
        page.open("/review")
        database.execute("COMMIT")
    page.see(".review-left", "One answer was not confirmed")
    page.until(lambda: waiting() == before - 1, "it arrived after all")
    page.see(".review-left a", "Fake").click()
    page.see("h2", "Answers")
    served.by("rita").post(page.driver.current_url.replace(f"{served.url}/console", "/v1") + "/undo")


def answer_out_of_order(served: Service, page: Browser) -> None:
    """Answer the only case left while the database answers no question about answers: it was never asked again, and all was said to be answered."""
    page.until(lambda: len(served.by("rosa").get("/v1/queue").json()["cases"]) == 1, "the answers before it are written")
    with sqlite3.connect(served.log.parent / "workspace/feedback.db", isolation_level=None, timeout=60) as database:
        database.execute("ALTER TABLE reviews RENAME TO reviews_elsewhere")
        try:
            page.key("u")
            page.see(".review-last", "The service's database is damaged.")
        finally:
            database.execute("ALTER TABLE reviews_elsewhere RENAME TO reviews")
    page.see(".answer-unsure:not([disabled])")


def test_cases_that_were_passed_over_come_again_and_all_are_shown(served: Service, page: Browser, picture: bytes) -> None:
    """The page asked for the first twelve alone: who passed them over saw no other, and was told that all was answered."""
    for number in range(14):
        assert served.detect(picture + bytes([number])).json()["case_id"]
    page.log_in("rosa")
    page.open("/review")
    waiting = len(served.by("rosa").get("/v1/queue", params={"limit": 100}).json()["cases"])
    assert waiting >= 17
    page.see(".review-place", f"of {AT_ONCE} and more")
    press = "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', repeat: n > 0, bubbles: true}))"
    page.driver.execute_script(f"for (let n = 0; n < 11; n++) setTimeout(() => {press}, n)")  # near the end each asks for more: the same came several times
    page.until(lambda: f"of {waiting} ·" in page.see(".review-place").text, "every case once, and no more of them")
    for number in range(AT_ONCE + 1, waiting + 1):
        page.key("j")
        page.see(".review-place", f"Case {number} of")
    for answered in range(1, waiting + 1):
        if answered == waiting:
            answer_out_of_order(served, page)
        page.key("u")
        page.see(".review-side", f"{answered} answered in this visit")
        if answered == 1:
            page.see(".review-place", "Case 1 of")
    page.see(".empty-what", "You have answered all that waits.")
    page.until(lambda: not served.by("rosa").get("/v1/queue").json()["cases"], "all answers are written")


def test_who_disputes_a_verdict_is_thanked_before_the_page_is_loaded_anew(served: Service, page: Browser, picture: bytes) -> None:
    """What was said of a dispute, and of a new account, was gone after a tenth of a second."""
    sent = served.detect(picture + b"to be disputed").json()
    page.log_in("vera")
    page.open(f"/detections/{sent['id']}")
    page.see("summary", "This verdict is wrong").click()
    page.press("Dispute")
    page.see(".toast", "Thank you. People are asked to look at it.")
    page.see(".notice", "Disputed: said to be fake.")


def test_who_sent_a_file_reads_how_it_stands_with_people(served: Service, page: Browser, picture: bytes) -> None:
    """It said for ever that people are asked to look, and took a dispute that nobody was ever shown."""
    sent = served.detect(picture + b"looked at").json()
    page.log_in("vera")
    page.open(f"/detections/{sent['id']}")
    page.see(".verdict-words", "People are asked to look.")
    served.review(sent["case_id"], "real")
    page.open(f"/detections/{sent['id']}")
    page.see(".verdict-words", "People have looked at it and say that it is real.")
    assert "This verdict is wrong" not in page.driver.page_source
    again = served.detect(picture + b"looked at").json()
    assert served.client.get(f"/v1/detections/{again['id']}").json()["people"] == "real", "of the content, whoever sent it and when"
    refused = served.client.post(f"/v1/detections/{again['id']}/dispute", json={"claim": "fake"})
    assert refused.status_code == 409 and "say that it is real" in refused.json()["detail"]
    assert "people" not in served.by("rob").get(f"/v1/detections/{again['id']}").json(), "a reviewer would learn which cases are known ones"


def test_the_theme_is_remembered(page: Browser) -> None:
    page.open("/log-in")
    for wanted in ("light", "dark"):
        page.see(".theme-switch").click()
        page.until(lambda wanted=wanted: page.driver.execute_script("return document.documentElement.dataset.theme") == wanted, wanted)
    page.open("/sign-up")
    assert page.driver.execute_script("return document.documentElement.dataset.theme") == "dark"
    page.driver.execute_script("localStorage.clear()")


def test_the_console_knows_only_the_one_door() -> None:
    """Every handler asks the service, whose methods all authorize: the console reaches for no store behind it."""
    from feedback.service import Service as Door

    doors = {name for name, _ in getmembers(Door, isfunction) if not name.startswith("_")} | {"settings"}
    allowed = {"access", "accounts", "service", "console", "cases", "audit", "wording", "api"}
    seen: set[str] = set()
    for path in sorted(CONSOLE.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("feedback."):
                assert node.module.split(".")[1] in allowed, f"{path.name} imports {node.module}"
                assert not {name.name for name in node.names} & {"Cases", "Accounts", "Detections", "Database", "MediaStore"}, path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute):
                owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
                if owner == "service":
                    seen.add(node.attr)
                    assert node.attr in doors or (path.name == "visitor.py" and node.attr == "accounts"), f"{path.name} reaches for service.{node.attr}"
    assert {"review", "detection", "explanation", "rollback", "govern"} <= seen


def test_decisions_come_a_page_at_a_time(served: Service, page: Browser) -> None:
    """Those of every cycle that ever ran were drawn at once. Comes last: it leaves cycles in the journal that other tests do not expect."""
    journal = Journal(served.root)
    for number in range(models.DECISIONS):
        cycle = f"{2024 + number // 50}-W{number % 50 + 1:02d}.1"
        journal.append("cycle_opened", cycle=cycle, week=cycle[:8], scheduled=False, judged=[], base_model="", fingerprint="")
        journal.append("cycle_closed", cycle=cycle, outcome="nothing", reason=f"nothing new, number {number}", verdict_sha256="")
    page.log_in("vera")
    page.open("/models")
    decided = "section:has(.pages) tbody tr"
    page.see("td", f"number {models.DECISIONS - 1}")
    assert len(page.all(decided)) == models.DECISIONS
    page.look(wide_px=360)
    assert too_wide(page) <= 0
    page.look()
    page.press("Older")
    page.see("td", "it is no better")
    page.press("Newest")
    page.see("td", f"number {models.DECISIONS - 1}")
    page.open("/models?before=1")
    page.see(".empty", "Nothing older.")


def test_the_page_of_a_case_shows_a_few_of_the_many_times_that_its_file_was_sent(served: Service, picture: bytes) -> None:
    again = picture + b"sent again and again"
    case_id = served.detect(again).json()["case_id"]
    files = [("file", (f"{number}.jpg", again, "image/jpeg")) for number in range(22)]
    assert served.client.post("/v1/detections/batch", files=files).status_code == 202
    served.review(case_id, "real", "rob")
    shown = wait_for(lambda: logged_in(served, "rob").get(f"/console/cases/{case_id}").text, lambda text: "It was sent 23 times. Here are 20 of them" in text)
    assert "Verdict 20" in shown and "Verdict 21" not in shown
