"""The console's story, in a real browser: sign up, drop a clip, watch, see, review by keyboard, and find it in the next batch."""

import csv
from pathlib import Path

import pytest

from feedback.handover import export_reviewed
from tests.feedback.browser import Browser, browser
from tests.feedback.conftest import Service, running, wait_for
from workspace.settings import Settings, load_settings


def alone(root: Path) -> Settings:
    """Settings for one person who reviews what she sent in herself."""
    path = root / "params.yaml"
    text = path.read_text().replace("sign_up_role: viewer", "sign_up_role: reviewer")
    path.write_text(text.replace("reviewers_needed: 2", "reviewers_needed: 1").replace("review_own: false", "review_own: true"))
    settings = load_settings(path)
    queue = settings.feedback.queue
    assert (settings.feedback.sign_up_role, queue.reviewers_needed, queue.review_own) == ("reviewer", 1, True)
    return settings


def until_open(service: Service) -> None:
    """Wait until the console is served; it follows the API."""
    wait_for(lambda: service.by("").get("/console/log-in"), lambda answer: answer.status_code == 200, service.log)


def story(page: Browser, clips: list[Path]) -> None:
    """From the sign-up to three answers."""
    page.sign_up("Mira Lindgren", "mira")
    page.drop(".drop", clips[0])
    page.see(".job progress, .job .badge")  # it is being sent, or was already
    page.see(".job[data-state=done] .badge", "fake")  # a word, and the percentage of what
    assert page.all(".job .badge svg"), "a badge has an icon beside its colour"
    page.drop(".drop", *clips[1:])
    page.until(lambda: len(page.all(".job[data-state=done] .badge")) == len(clips), "a verdict on each file")
    verdicts = [link.get_attribute("href") for link in page.all(".job a.button")]
    for at, address in enumerate(verdicts):
        assert address is not None
        page.driver.get(address)
        page.see(".verdict .badge")
        if at == 0:
            look_at_evidence(page)
        if not any("Its case" in link.text for link in page.all("a.button")):
            page.see("summary", "This verdict is wrong").click()
            page.press("Dispute")
            page.see(".notice", "Disputed")
    page.open("/review")
    page.see(".review-answers")
    for key in "rfr":
        page.see(".answer-real:not([disabled])")
        page.key(key)
    page.until(lambda: len([row for row in page.all(".review-log li") if "Decided" in row.text]) == 3, "three answers are kept")
    page.see(".empty-what", "You have answered all that waits.")


def look_at_evidence(page: Browser) -> None:
    """The heatmap over the face, and a timeline that moves the video."""
    assert "none: the starter model" in page.see(".facts").text, "the starter is of no cycle of this workspace"
    page.press("Show heatmap")
    slider = page.see("#opacity")
    heat = page.see(".face-heat")
    page.until(lambda: heat.get_property("naturalWidth"), "the heatmap is a picture")
    before = heat.value_of_css_property("opacity")
    slider.send_keys("\ue012" * 4)  # four times the left arrow key
    assert float(heat.value_of_css_property("opacity")) < float(before)
    assert page.see(".timeline-plot svg").find_elements("css selector", ".plot-clip")
    assert page.see("#scrub").get_attribute("aria-valuetext")
    page.driver.execute_script("const box = document.getElementById('scrub'); box.value = box.max; box.dispatchEvent(new Event('input'))")
    page.until(lambda: page.driver.execute_script("const v = document.querySelector('.frame-box video'); return !v || v.currentTime > 0"), "the video follows")


def in_the_batch(root: Path, settings: Settings) -> list[str]:
    """The labels of the batch that `vigil retrain` would take now."""
    folder = export_reviewed(root, settings)
    assert folder is not None
    with open(folder / "labels.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert all(row["case_id"] and row["labelled_by"] for row in rows)
    return sorted(row["use"] + " " + row["path"].split("/")[0] for row in rows)


def test_a_clip_is_dropped_judged_looked_at_reviewed_by_keyboard_and_handed_over(root: Path, media: Path) -> None:
    settings = alone(root)
    clips = [*sorted(media.glob("real/**/*.mp4"))[:2], *sorted(media.glob("fake/**/*.mp4"))[:1]]
    with running(root) as service:  # the starter model
        service.until_ready()
        until_open(service)
        with browser(service.url) as page:
            story(page, clips)
            assert page.foreign() == []
        assert len(in_the_batch(root, settings)) == 3


def test_the_same_with_real_clips(root: Path, shared_data: Path) -> None:
    settings = alone(root)
    with open(shared_data / "labels.csv", newline="", encoding="utf-8") as handle:
        names = [next(iter(row.values())) for row in csv.DictReader(handle)]
    sizes = {path: path.stat().st_size for path in (shared_data / name for name in names) if path.suffix == ".mp4" and path.is_file()}
    clips = sorted((path for path, size in sizes.items() if size < settings.serve.max_upload_bytes), key=lambda path: sizes[path])
    if len(clips) < 3:
        pytest.skip("fewer than three real clips under the limit")
    with running(root) as service:
        service.until_ready()
        until_open(service)
        with browser(service.url) as page:
            story(page, clips[-3:])
        assert len(in_the_batch(root, settings)) == 3


@pytest.mark.slow
def test_two_reviewers_see_each_other_only_after_their_own_answer(root: Path, models: tuple[Path, Path], clip: bytes) -> None:
    with running(root, "--model-dir", str(models[0])) as service:  # unsure of everything: each upload is a case
        service.until_ready()
        until_open(service)
        case_id = service.detect(clip).json()["case_id"]
        service.by("rob").post(f"/v1/cases/{case_id}/review", json={"label": "fake"})
        with browser(service.url) as page:
            page.log_in("rita")
            page.open("/review")
            page.see(".review-place", "one other answer")
            assert "Fake, " not in page.see(".review-side").text and "Decided" not in page.driver.page_source
            page.see(".review-more summary").click()
            page.see("#note").send_keys("for real, unsure")  # r, f, u and z are letters here
            assert page.see(".answer-real").is_enabled(), "writing a note answers nothing"
            page.see("#note").send_keys("\ue007")
            page.key("f")
            page.see(".review-log", "Decided fake, 2 of 2 agree")
            page.key("z")
            page.see(".review-last", "Taken back")
            page.see(".answer-fake:not([disabled])")
            page.key("r")
            page.see(".review-log", "another person decides")
        reviews = service.by("rosa").get(f"/v1/cases/{case_id}").json()["reviews"]
        assert [review["label"] for review in reviews] == ["", ""], "who has still to answer sees how many, not what"
