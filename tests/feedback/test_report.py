"""The signed report: whole and ours, or refused with the reason; and the page made of it."""

import copy
import json
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update
from typer.testing import CliRunner

from feedback import audit
from feedback.access import Actor, Role
from feedback.database import Database
from feedback.report import canonical, case_report, check_report, public_key, report_pdf, verify_report
from feedback.same_secret import note_secret
from feedback.sealing import ACTION, NAMED, seal
from feedback.secret import VARIABLE, Secret, load_secret
from feedback.service import Gone, Service
from feedback.tables import AUDIT, DETECTIONS
from feedback.wording import limits_of
from model.aggregate import verdict
from model.inference import UNLIKE
from tests.feedback.conftest import Make, ask
from tests.feedback.test_service import is_problem
from tests.feedback.world import World, write_settings
from vigil import proving
from vigil.main import app
from workspace.errors import DataError, WorkspaceError
from workspace.files import sha256_bytes

OURS, OTHERS = Secret(b"ours" * 8), Secret(b"othr" * 8)
DETECTION: dict[str, Any] = {
    "id": "ab" * 16, "created_at": "2026-11-21T03:00:00.000+00:00", "finished_at": "2026-11-21T03:00:09.000+00:00", "policy": "forensics", "mode": "",
    "state": "done", "sha256": "c" * 64, "bytes": 123456, "kind": "video", "frames": 30, "faces": 31, "verdict": "fake", "p_fake": 0.93, "threshold": 0.62,
    "abstain": 0.1, "novelty": 1.3, "reason": "Face 0 looks forged from 2.0 to 5.0 s.",
    "tracks": [{"track": 0, "p_fake": 0.93, "start_seconds": 0.0, "end_seconds": 8.0}],
    "forged": [{"track": 0, "start_seconds": 2.0, "end_seconds": 5.0}], "model": "detector v12", "model_sha256": "d" * 64,
    "clips": [{"track": 0, "start_seconds": n * 0.8, "end_seconds": n * 0.8 + 0.8, "p_fake": n / 10, "certainty": 0.9} for n in range(10)],
    "model_trained_at": "2026-11-15T00:00:00+00:00", "cycle": "2026-W46.1", "origin": "registry", "engine": "onnxruntime", "knows": ["blendswap", "upsampler"],
}  # fmt: skip


@pytest.fixture
def signed() -> dict[str, Any]:
    return case_report(DETECTION, OURS)


def test_a_report_says_all_and_verifies_after_a_journey_through_a_file(signed: dict[str, Any], tmp_path: Path) -> None:
    report = signed["report"]
    assert report["media"]["sha256"] == "c" * 64 and report["model"]["model_sha256"] == "d" * 64 and report["verdict"]["p_fake"] == 0.93
    assert report["timeline"] == DETECTION["clips"] and report["forged"] == DETECTION["forged"] and report["label_map"] == "p_fake: 1 means fake"
    (tmp_path / "report.json").write_text(json.dumps(signed, indent=3))
    found = verify_report(tmp_path / "report.json", public_key(OURS))
    assert found.valid and found.trusted and found.why == "" and found.report == report
    assert not verify_report(tmp_path / "report.json").trusted, "without a key to expect nobody says that it is ours"
    said = proving.render_report(proving.check_report(tmp_path / "report.json", None, ""))
    assert said.startswith("The report is whole, signed by a key that is not known here: compare it with the service's own.")
    assert public_key(OURS) == signed["signature"]["key"] != public_key(OTHERS)


@pytest.mark.parametrize(("p_fake", "shown"), [(1.0, "p_fake >0.999,"), (0.93, "p_fake 0.930,"), (None, "p_fake -,")])
def test_what_verifies_a_report_says_no_certainty_either(tmp_path: Path, p_fake: float | None, shown: str) -> None:
    (tmp_path / "report.json").write_text(json.dumps(case_report({**DETECTION, "p_fake": p_fake}, OURS)))
    assert shown in proving.render_report(proving.check_report(tmp_path / "report.json", None, public_key(OURS)))


def test_a_report_signed_by_somebody_else_is_whole_and_not_ours(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(case_report(DETECTION, OTHERS)))
    found = verify_report(tmp_path / "report.json", public_key(OURS))
    assert found.valid and not found.trusted and "another key" in found.why
    said = proving.render_report(proving.check_report(tmp_path / "report.json", None, public_key(OURS)))
    assert said.startswith("The report is whole, signed by another key than the one expected.")


FORGED: dict[str, Any] = {
    "detection": [None, "x", {"id": "\x1b[2J"}],
    "media": [{"sha256": "\x1b[2J" + "c" * 64}, {"sha256": "c" * 64 + "\n"}],
    "verdict": [
        {"verdict": "real\nThe report is whole, signed by this service."}, {"verdict": "real" + " " * 76 + "The report is whole, signed by this service."},
        {"verdict": "\ud800"}, {"verdict": {}}, *({"verdict": "real", "p_fake": value} for value in (10**400, -1, True, "0.1")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("part", "value"), [(part, value) for part, values in FORGED.items() for value in values], ids=lambda value: ascii(value)[:60])
def test_who_signs_by_another_key_has_nothing_of_theirs_told_as_ours(part: str, value: Any, tmp_path: Path) -> None:
    """A verdict of two lines said itself that the report was ours, a terminal's command wiped the line that told the truth, others were mistakes in Vigil."""
    forged = case_report(DETECTION, OTHERS)["report"] | {part: value}
    key = Ed25519PrivateKey.from_private_bytes(OTHERS.key("report"))
    signature = {"algorithm": "Ed25519", "key": public_key(OTHERS), "value": key.sign(canonical(forged)).hex()}
    (tmp_path / "report.json").write_text(json.dumps({"report": forged, "signature": signature}))
    for words in ([], ["--json"]):
        done = CliRunner().invoke(app, ["verify-report", str(tmp_path / "report.json"), "--key", public_key(OURS), *words], catch_exceptions=False)
        assert done.exit_code == 1 and "no report of the form vigil-report-1" in done.stdout and "this service" not in done.stdout
        assert all(line.isprintable() for line in done.stdout.split("\n")) and done.stdout.isascii()
    assert len(done.stdout) < 600 and json.loads(done.stdout)["valid"] is False


def test_a_key_is_told_as_a_key_alone(signed: dict[str, Any], tmp_path: Path) -> None:
    for key, valid in (("\ud800", False), (f"{public_key(OURS)}\n\r", True)):
        (tmp_path / "report.json").write_text(json.dumps(signed | {"signature": signed["signature"] | {"key": key}}))
        found = verify_report(tmp_path / "report.json", public_key(OURS))
        assert (found.valid, found.key) == (valid, public_key(OURS) if valid else "")


def test_nothing_stands_in_a_report_that_nobody_signed(signed: dict[str, Any], tmp_path: Path) -> None:
    """A verdict put before the true one, and a conclusion beside the signature, were told as whole and signed by this service."""
    file, text, key = tmp_path / "report.json", json.dumps(signed), public_key(OURS)
    before = text.replace('"verdict": {', '"verdict": {"verdict": "real", "p_fake": 0.0001}, "verdict": {', 1)
    deep = text.replace('"p_fake": 0.93', '"p_fake": 0.01, "p_fake": 0.93', 1)
    beside = json.dumps({"conclusion": "This file is real.", **signed})
    within = json.dumps({**signed, "signature": {**signed["signature"], "says": "This file is real."}})
    for changed, why in ((before, "'verdict' twice"), (deep, "'p_fake' twice"), (beside, "conclusion"), (within, "says")):
        assert changed != text
        file.write_text(changed)
        found = verify_report(file, key)
        assert not found.valid and not found.trusted and why in found.why, changed
        assert proving.render_report(proving.check_report(file, None, key)).startswith("This report does not hold")
    file.write_text(text)
    assert verify_report(file, key).trusted


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [one for key, item in value.items() for one in leaves(item, (*path, key))]
    if isinstance(value, list):
        return [one for number, item in enumerate(value) for one in leaves(item, (*path, number))]
    return [path]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_changed_figure_breaks_the_signature(data: st.DataObject) -> None:
    signed = case_report(DETECTION, OURS)
    changed = copy.deepcopy(signed)
    *way, last = data.draw(st.sampled_from(leaves(changed["report"])))
    place = changed["report"]
    for step in way:
        place = place[step]
    place[last] = data.draw(st.one_of(st.text(max_size=5), st.integers(), st.none()).filter(lambda value: value != place[last]))
    assert canonical(changed["report"]) != canonical(signed["report"])
    found = check_report(changed)
    assert not found.valid and found.why


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner),
    )
)
def test_what_is_no_report_is_refused_with_a_reason(value: Any) -> None:
    for one in (value, {"report": value, "signature": value}, {"report": {"format": "vigil-report-1"}, "signature": {"algorithm": "Ed25519", "key": value}}):
        found = check_report(one)
        assert not found.valid and found.why


def test_files_that_are_no_report_are_refused_with_a_reason(tmp_path: Path) -> None:
    assert "cannot be read" in verify_report(tmp_path / "absent.json").why
    for content in (b"", b"\xff\xfe", b"[" * 100_000, b"{}", b'{"report": 1}'):
        (tmp_path / "report.json").write_bytes(content)
        assert not verify_report(tmp_path / "report.json").valid


def test_the_limits_name_what_the_model_knows_its_age_and_its_doubts() -> None:
    said = " ".join(limits_of(DETECTION))
    assert "blendswap, upsampler" in said and "6 days before" in said and "is unlike what" not in said
    unlike = {**DETECTION, "reason": f"{UNLIKE} (novelty 1.3); most suspicious: 2.0-5.0 s, face 1"}
    assert "is unlike what the model was trained with" in " ".join(limits_of(unlike)), "and a novelty of 1.3 alone is no alarm: it is about 1 for what is known"
    assert "starter" not in said and "the starter model" in " ".join(limits_of({**DETECTION, "origin": "starter"}))
    note = "threshold and rates were set in mode standard; in mode fast more or fewer reals may be called fake"
    assert "calibrated on validation" in said and "Threshold and rates were set in mode standard" in " ".join(limits_of({**DETECTION, "note": note}))
    imported = " ".join(limits_of({**DETECTION, "cycle": "imported", "model_trained_at": ""}))
    assert "nobody here has calibrated" in imported and "calibrated on validation" not in imported
    without = " ".join(limits_of({"verdict": "none", "reason": "no face"}))
    assert "no verdict" in without and "names no kind of forgery" in without and "days before" not in without


@pytest.mark.parametrize(("threshold", "low", "high"), [(0.62, "0.520", "0.720"), (0.95, "0.850", "0.975"), (0.05, "0.025", "0.150")])
def test_a_report_names_the_band_that_judged(threshold: float, low: str, high: str) -> None:
    """It said "within 0.10" of a threshold of 0.95, and called fake from there on: 0.96 was judged uncertain, and 0.98 fake."""
    said = " ".join(limits_of({**DETECTION, "threshold": threshold}))
    assert f"below {low} is called real, from {high} on fake, between them uncertain" in said
    for just_below, end in (("real", low), ("uncertain", high)):
        assert verdict(float(end) - 1e-6, threshold, DETECTION["abstain"]) == just_below != verdict(float(end) + 1e-6, threshold, DETECTION["abstain"])
    without = " ".join(limits_of({**DETECTION, "threshold": threshold, "abstain": 0.0}))
    assert f"below {threshold:.3f} is called real, from {threshold:.3f} on fake" in without


def test_the_page_is_a_pdf_that_carries_the_signed_report(signed: dict[str, Any], tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48), (200, 180, 160)).save(tmp_path / "thumbnail.webp")
    page = report_pdf(signed, tmp_path / "thumbnail.webp")
    assert page.startswith(b"%PDF-") and b"report.json" in page and page == report_pdf(signed, tmp_path / "thumbnail.webp")
    assert page.count(b"/Type /Page\n") == 1, "a report of one face fits one page"


def test_the_page_shows_no_picture_in_quarantine_to_who_sent_it(tmp_path: Path) -> None:
    from PIL import Image

    world = World(tmp_path / "w")
    service = Service(world.root, world.settings, OURS)
    detection_id, _ = world.upload(b"a fake", verdict="fake", reason="")
    folder = service.media.derived(sha256_bytes(b"a fake"))
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 48), (200, 180, 160)).save(folder / f"{detection_id}-thumbnail.webp")
    shown = [b"/Subtype /Image" in service.report_page(who, detection_id) for who in (world.sender, world.ann)]
    assert service.retention.sweep((datetime.now(UTC) + timedelta(hours=2)).isoformat())["quarantined"] == 1
    with pytest.raises(Gone, match="quarantine"):
        service.media_file(world.sender, detection_id, "thumbnail")
    hidden = [b"/Subtype /Image" in service.report_page(who, detection_id) for who in (world.sender, world.ann)]
    assert (shown, hidden) == ([True, True], [False, True])
    service.close()
    world.close()


@pytest.mark.parametrize(
    "change",
    [
        {"verdict": "none", "p_fake": None, "threshold": None, "novelty": None, "abstain": None, "clips": [], "tracks": [], "forged": [], "reason": "no face"},
        {"reason": "a word that no font has: 人 \x07 – é", "clips": [{"track": 0, "p_fake": 0.5}]},
        {"tracks": DETECTION["tracks"] * 60, "forged": DETECTION["forged"] * 60, "clips": DETECTION["clips"] * 100},
        {"finished_at": "", "model_trained_at": "yesterday", "knows": None, "kind": "", "bytes": None},
    ],
)
def test_a_page_can_be_made_of_every_verdict(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "broken.webp").write_bytes(b"no picture")
    assert report_pdf(case_report({**DETECTION, **change}, OURS), tmp_path / "broken.webp").startswith(b"%PDF-")


@pytest.mark.slow
def test_the_command_knows_its_own_reports(tmp_path: Path, signed: dict[str, Any]) -> None:
    def command(*words: str, folder: str = ".") -> "subprocess.CompletedProcess[str]":
        return subprocess.run([sys.executable, "-m", "vigil", "verify-report", *words], capture_output=True, text=True, cwd=tmp_path / folder, check=False)

    file = tmp_path / "report.json"
    file.write_text(json.dumps(signed))
    unknown = command(str(file))
    assert unknown.returncode == 1 and "The report is whole, signed by a key that is not known here" in unknown.stdout and "--key" in unknown.stdout
    ours = command(str(file), "--key", public_key(OURS))
    assert ours.returncode == 0 and "signed by this service" in ours.stdout
    assert command(str(file), "--key", public_key(OTHERS)).returncode == 1
    mistyped = command(str(file), "--key", public_key(OURS)[:-1])
    assert mistyped.returncode == 2 and "64 hexadecimal digits" in mistyped.stderr and "another key" not in mistyped.stdout
    assert command(str(file), "-w", "nowhere").returncode == 1, "a mistake in the name must not make a stranger's report ours"
    subprocess.run([sys.executable, "-m", "vigil", "init", "w", "--profile", "demo"], cwd=tmp_path, check=True, capture_output=True)
    keyless = command(str(file), "-w", "w")
    assert keyless.returncode == 1 and "cannot be told" in keyless.stderr and "--key" in keyless.stderr, "as in a clone, which has no secret"
    within = command(str(file), folder="w")
    assert within.returncode == 1 and within.stderr == keyless.stderr, "a workspace that is found by itself is no less strict than one that is named"
    assert command("--print-key", "-w", "w").returncode == 1
    own = load_secret(tmp_path / "w")
    printed = command("--print-key", folder="w")
    assert printed.returncode == 0 and printed.stdout == public_key(own) + "\n"
    assert command(str(file), "--print-key", "-w", "w").returncode == command().returncode == 2
    (tmp_path / "own.json").write_text(json.dumps(case_report(DETECTION, own)))
    assert command("own.json", "--key", printed.stdout.strip()).returncode == 0
    (tmp_path / "report.pdf").write_bytes(report_pdf(signed))
    page = command("report.pdf", "--key", public_key(OURS))
    assert page.returncode == 1 and "does not hold" not in page.stdout and "attached to it as report.json" in page.stderr, (
        "a whole report was told as a broken one"
    )
    signed["report"]["verdict"]["verdict"] = "real"
    file.write_text(json.dumps(signed))
    changed = command(str(file))
    assert changed.returncode == 1 and "changed after it was signed" in changed.stdout


def test_a_report_is_held_to_the_secret_of_the_service_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signed: dict[str, Any]) -> None:
    """A secret that lay in the workspace, or a variable of another service, made genuine reports another signer's."""
    monkeypatch.delenv(VARIABLE, raising=False)
    there = write_settings(tmp_path)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(signed))
    with closing(Database(tmp_path, there)) as database:
        note_secret(database, OURS)
    for secret, left in (("", False), ("b" * 32, False), ("", True)):
        monkeypatch.setenv(VARIABLE, secret)
        if left:
            load_secret(tmp_path)
        with pytest.raises(DataError, match=f"cannot be told(?s:.)*another secret(?s:.)*{VARIABLE}"):
            proving.check_report(file, tmp_path, "")
        with pytest.raises(DataError, match=r"no key to print(?s:.)*another secret"):
            proving.report_key(tmp_path)
    assert proving.check_report(file, tmp_path, public_key(OURS))["trusted"]
    with closing(Database(tmp_path, there)) as database:
        note_secret(database, load_secret(tmp_path))
    assert proving.report_key(tmp_path)["key"] == public_key(load_secret(tmp_path))


def test_anybody_is_told_the_key_that_reports_are_verified_with(make: Make) -> None:
    """It stood in the report alone, which proves nothing."""
    app, people = make()
    told = [ask(app, ("GET", "/v1/report-key", {}), key=key)[0] for key in ("", people["vera"][1])]
    assert [answer.status_code for answer in told] == [200, 200]
    assert told[0].json() == told[1].json() == {"algorithm": "Ed25519", "key": public_key(app.state.service.secret)}


def test_a_verdict_that_was_changed_in_the_database_is_not_signed(make: Make) -> None:
    """A row that was made fake was signed as fake, and the trail, in which the true verdict is sealed, was whole."""
    app, people = make()
    detection_id = _judged(app.state.service)
    address, key = f"/v1/detections/{detection_id}/report", people["ada"][1]
    assert ask(app, ("GET", address, {}), key=key)[0].json()["report"]["verdict"]["verdict"] == "real"
    with app.state.service.database.write() as connection:
        connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == detection_id).values(verdict="fake", p_fake=0.99))
    for form in ("json", "pdf"):
        refused = is_problem(ask(app, ("GET", f"{address}?format={form}", {}), key=key)[0], 409)
        assert "verdict: 'fake', sealed 'real'; p_fake: 0.99, sealed 0.30000000000000004" in refused["detail"] and "vigil audit verify" in refused["next_step"]
    told = ask(app, ("GET", f"/v1/audit?about=detection:{detection_id}", {}), key=key)[0].json()["entries"]
    assert [entry["action"] for entry in told].count("detection.report") == 1


CHANGED: dict[str, dict[str, Any]] = {
    "": {}, "sha256": {"sha256": sha256_bytes(b"another")}, "model_sha256": {"model_sha256": "b" * 64}, "policy": {"policy": "forensics"},
    "finished_at": {"finished_at": "2026-11-21T03:00:09.000+00:00"}, "threshold": {"answer": {"threshold": 0.1}}, "reason": {"answer": {"reason": "a feeling"}},
    "forged": {"answer": {"forged": DETECTION["forged"]}}, "cycle": {"answer": {"cycle": "2026-W46.1"}},
}  # fmt: skip


@pytest.mark.parametrize("changed", CHANGED)
def test_what_the_trail_sealed_is_signed_and_nothing_else(world: World, changed: str) -> None:
    service = Service(world.root, world.settings, OURS)
    detection_id = _judged(service)
    values = {name: {**ANSWER, **value} if name == "answer" else value for name, value in CHANGED[changed].items()}
    world.upload(b"another", reason="")
    with service.database.write() as connection:
        if values:
            connection.execute(update(DETECTIONS).where(DETECTIONS.c.id == detection_id).values(**values))
    if changed:
        by_name = changed if changed in NAMED else "answer_sha256"
        with pytest.raises(WorkspaceError, match=rf"No report was signed[\s\S]*another verdict than the audit trail: [\s\S]*{by_name}"):
            service.report(world.ann, detection_id)
    else:
        service.dispute(world.ann, detection_id, "fake", "what is said later is no part of the verdict")
        assert check_report(service.report(world.ann, detection_id), public_key(OURS)).trusted
    service.close()


@pytest.mark.parametrize(
    ("trail", "said"), [("changed", "was changed itself"), ("absent", "has no entry of this verdict"), ("twice", "has 2 entries of this verdict")]
)
def test_a_verdict_that_has_not_one_entry_in_the_trail_is_not_signed(world: World, trail: str, said: str) -> None:
    """A row that somebody had put into the database was signed: nothing in a whole trail was unlike it. So was what a second entry said."""
    service = Service(world.root, world.settings, OURS)
    detection_id = _judged(service)
    with service.database.write() as connection:
        forged = connection.execute(select(AUDIT.c.detail).where(AUDIT.c.action == ACTION)).scalar_one() | {"verdict": "fake", "p_fake": 0.99}
        if trail == "changed":
            connection.execute(update(AUDIT).where(AUDIT.c.action == ACTION).values(detail=forged))
        elif trail == "twice":
            audit.append(connection, "system:worker", ACTION, f"detection:{detection_id}", {**forged, "answer_sha256": None})
        row = {**connection.execute(select(DETECTIONS)).mappings().one(), "verdict": "fake", "p_fake": 0.99}
        if trail == "absent":
            row["id"] = detection_id = "f" * 32
        connection.execute(update(DETECTIONS).values(**row))
    with pytest.raises(WorkspaceError, match=rf"No report was signed[\s\S]*{said}"):
        service.report(world.ann, detection_id)
    assert (audit.verify(service.database).broken_at == 0) == (trail != "changed")
    service.close()


def test_a_verdict_that_was_sealed_without_a_hash_of_the_whole_is_signed_as_before(world: World) -> None:
    service = Service(world.root, world.settings, OURS)
    detection_id = _judged(service)
    with service.database.write() as connection:
        detail = connection.execute(select(AUDIT.c.detail).where(AUDIT.c.action == ACTION)).scalar_one()
        connection.execute(delete(AUDIT).where(AUDIT.c.action == ACTION))
        earlier = {name: value for name, value in detail.items() if name not in ("answer_sha256", "form")}
        audit.append(connection, "system:worker", ACTION, f"detection:{detection_id}", earlier)
    assert check_report(service.report(world.ann, detection_id), public_key(OURS)).trusted
    with service.database.write() as connection:
        connection.execute(update(DETECTIONS).values(verdict="fake"))
    with pytest.raises(WorkspaceError, match="verdict: 'fake', sealed 'real'"):
        service.report(world.ann, detection_id)
    service.close()


def test_what_form_1_seals_stays_as_it_is(world: World) -> None:
    """A column more in the hash, and no verdict of before would be signed again. It is kept as a number that no code here computes."""
    service = Service(world.root, world.settings, OURS)
    _judged(service)
    fixed = {"id": "ab" * 16, "created_at": "2026-11-21T03:00:00.000+00:00", "finished_at": "2026-11-21T03:00:09.000+00:00"}
    with service.database.write() as connection:
        connection.execute(update(DETECTIONS).values(**fixed))
        connection.execute(delete(AUDIT).where(AUDIT.c.action == ACTION))
        seal(connection, fixed["id"], None)
        detail = connection.execute(select(AUDIT.c.detail).where(AUDIT.c.action == ACTION)).scalar_one()
    assert (detail["form"], detail["answer_sha256"]) == (1, FORM_1)
    assert check_report(service.report(world.ann, fixed["id"]), public_key(OURS)).trusted
    service.close()


@pytest.mark.parametrize("form", [None, 99])
def test_a_verdict_that_was_sealed_in_a_form_that_is_not_known_is_not_signed(world: World, form: int | None) -> None:
    service = Service(world.root, world.settings, OURS)
    detection_id = _judged(service)
    with service.database.write() as connection:
        detail = connection.execute(select(AUDIT.c.detail).where(AUDIT.c.action == ACTION)).scalar_one()
        connection.execute(delete(AUDIT).where(AUDIT.c.action == ACTION))
        audit.append(connection, "system:worker", ACTION, f"detection:{detection_id}", {**detail, "form": form})
    with pytest.raises(WorkspaceError, match=f"sealed this verdict in form {form}, and this version of Vigil knows 1"):
        service.report(world.ann, detection_id)
    service.close()


FORM_1 = "1882818d4fa748c365c5552e7e92a8df637b560f0cb690f15bc5f61d517c377a"
ANSWER: dict[str, Any] = {"verdict": "real", "p_fake": 0.1 + 0.2, "threshold": 0.5, "abstain": 0.1, "reason": "", "kind": "image", "model_sha256": "a" * 64}


def _judged(service: Service) -> str:
    """A file that a worker has judged."""
    path = service.root / "judged.part"
    path.write_bytes(b"judged")
    owner = service.accounts.users()[0]["id"]
    sent = service.detect(Actor(owner, Role.viewer), [(path, sha256_bytes(b"judged"), 6)])[0]["id"]
    service.detections.claim("w")
    assert service.detections.finish(sent, "w", ANSWER)
    return str(sent)
