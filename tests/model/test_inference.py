import json
import os
import threading

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from media.decode import read_frames
from media.faces import Extraction, FaceClip, extract_clips
from model.aggregate import ClipEvidence, aggregate, sigmoid
from model.card import load_card, write_card
from model.inference import LEARNED, UNLIKE, ClipScore, Engine, most_telling, score_file_with
from model.shipped import STARTER
from tests.media.videos import with_sound, write_video
from tests.model.toys import SIZE, lively_model, model_folder
from vigil.explaining import explain_file
from vigil.main import app
from vigil.scoring import choose_model, score_files
from workspace.errors import ModelFileError, VigilError
from workspace.files import sha256_bytes
from workspace.journal import Journal
from workspace.profiles import compose_params


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    model_folder(path)
    return path


@pytest.fixture(scope="module")
def engine(folder):
    return Engine(folder)


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """One rendered person: a video and one of its frames as a photo."""
    from media.synthetic.sample import make_sample_media

    out = tmp_path_factory.mktemp("sample")
    report = make_sample_media(out, people=1, seconds=1.5, seed=1, fakes={}, workers=1)
    video = out / report.rows[0]["path"]
    picture = next(iter(read_frames(video, [0.5])))[1]
    photo = out / "photo.png"
    cv2.imwrite(str(photo), picture[:, :, ::-1])
    return video, photo


def clips(lengths, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (length, SIZE, SIZE, 3), dtype=np.uint8) for length in lengths]


def test_scores_are_the_networks_own_in_the_order_asked_whatever_the_lengths(engine):
    given, model = clips([3, 1, 3, 5, 1]), lively_model()
    for clip, score in zip(given, engine.score_clips(given), strict=True):
        with torch.no_grad():
            ours = model.forward_all(torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255)
        assert score.logit == pytest.approx(ours.logits.item(), abs=1e-4)
        assert score.p_fake == pytest.approx(sigmoid(score.logit / 2.0 - 0.25))
        np.testing.assert_allclose(score.certainty, ours.certainty[0].numpy(), atol=1e-4)
        np.testing.assert_allclose(score.embedding, ours.embedding[0].numpy(), atol=1e-4)
    assert engine.score_clips([]) == []


def test_large_batches_are_cut_without_changing_an_answer(engine, monkeypatch):
    given = clips([3] * 7)
    whole = [score.logit for score in engine.score_clips(given)]
    monkeypatch.setattr("model.inference.BATCH_PIXELS", 2 * 3 * SIZE * SIZE)
    assert [score.logit for score in engine.score_clips(given)] == pytest.approx(whole, abs=1e-5)


@pytest.mark.parametrize("clip", [np.zeros((3, 16, 16, 3), np.uint8), np.zeros((3, SIZE, SIZE, 3), np.float32), np.zeros((0, SIZE, SIZE, 3), np.uint8)])
def test_pixels_of_another_kind_are_refused(engine, clip):
    with pytest.raises(ValueError, match="a clip is uint8"):
        engine.score_clips([clip])


def test_a_video_gets_a_verdict_that_its_clips_explain(engine, sample):
    found = engine.score_file(sample[0])
    assert found.verdict in ("real", "fake", "uncertain") and 0 <= found.p_fake <= 1 and found.faces == 1 and found.frames > 0 and found.kind == "video"
    assert found.file == str(sample[0]) and found.model == engine.card.model_sha256[:12]
    assert {"track", "start_seconds", "end_seconds", "p_fake", "place"} == set(found.clips[0]) and found.tracks[0]["p_fake"] == pytest.approx(found.p_fake)
    from media.faces import extract_clips

    own = extract_clips(sample[0], engine.card.faces).clips
    scores = engine.score_clips([clip.frames for clip in own])
    evidence = [ClipEvidence(score.logit, float(score.certainty.mean()), clip.track) for score, clip in zip(scores, own, strict=True)]
    assert found.p_fake == pytest.approx(aggregate(evidence, 2.0, offset=-0.25).p_fake)
    assert engine.score_file(sample[0]) == found


def test_times_are_told_as_a_player_counts_them(folder, engine, sample, tmp_path):
    """Of a film that follows its sound by two seconds, people were sent to a place two seconds too early."""
    from media.decode import read_frames

    frames = [picture for _, picture in read_frames(sample[0], [k / 12 for k in range(18)])]
    early = write_video(tmp_path / "early.mkv", frames, [round(1000 * k / 12) for k in range(18)])
    late = with_sound(write_video(tmp_path / "late.mkv", frames, [2000 + round(1000 * k / 12) for k in range(18)]), tmp_path / "with_sound.mkv")
    before, after = engine.score_file(early), engine.score_file(late)
    assert before.p_fake == after.p_fake and before.clips, "the same pictures are looked at"
    for one, other in zip(before.clips + before.tracks, after.clips + after.tracks, strict=True):
        assert (other["start_seconds"] - one["start_seconds"], other["end_seconds"] - one["end_seconds"]) == pytest.approx((2, 2), abs=0.01)
    page = explain_file(late, None, folder, tmp_path / "why")
    assert page["clip"]["start_seconds"] >= 2 and f"most of all {page['clip']['start_seconds']:.1f} to " in page["sentence"]


def test_of_a_network_whose_frame_head_has_no_part_nothing_is_told_by_frames(sample, tmp_path):
    """The head of phase 1 weighed the clips of the verdict, and was quoted as what the network is surest of."""
    network = model_folder(tmp_path / "model", fusion_cnn=0.0, certainty_attention=False)
    assert not network.frame_head_has_part
    for score in Engine(tmp_path / "model").score_clips(clips([2, 3])):
        np.testing.assert_allclose(score.certainty, abs(np.tanh(score.logit / 2)), atol=1e-6)
    page = explain_file(sample[0], None, tmp_path / "model", tmp_path / "why")
    assert page["clip"] and "surest" not in page["sentence"] and page["certainty"] is page["frame_p"] is None and page["state_change"]
    assert (tmp_path / "why" / "timeline.png").is_file()


def test_a_photo_and_bytes_are_scored_too(engine, sample):
    photo = engine.score_file(sample[1])
    assert photo.kind == "image" and photo.verdict != "none" and photo.frames == 1
    sent = engine.score_file(sample[1].read_bytes(), name="upload.png")
    assert (sent.file, sent.p_fake) == ("upload.png", photo.p_fake)


def test_a_mode_may_be_asked_for_and_an_unknown_one_is_refused(engine, sample):
    dense, fast = (engine.score_file(sample[0], mode=mode) for mode in ("dense", "fast"))
    assert dense.frames > fast.frames > 0
    with pytest.raises(ValidationError):
        engine.score_file(sample[0], mode="slow")


def test_whatever_is_wrong_with_a_file_there_is_a_row_with_a_reason(engine, sample, tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (tmp_path / "cut.mp4").write_bytes(sample[0].read_bytes()[:900])
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((200, 200, 3), 128, np.uint8))
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name in ("empty.mp4", "noise.mp4", "cut.mp4", "grey.png", "folder.mp4", "missing.mp4", "pipe.mp4"):
        found = engine.score_file(tmp_path / name)
        assert found.verdict == "none" and found.p_fake is None and found.reason, name
    assert engine.score_file(b"").verdict == "none"


def test_of_two_faces_the_suspicious_one_is_named_with_its_place(folder, engine, sample, tmp_path):
    one = cv2.imread(str(sample[1]))
    small = cv2.resize(one, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    canvas = np.full((one.shape[0], one.shape[1] + small.shape[1], 3), 100, np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    canvas[:, small.shape[1] :] = one
    cv2.imwrite(str(tmp_path / "two.png"), canvas)
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_card(tmp_path, engine.card.model_copy(update={"threshold": 0.0001, "abstain": 0.0}))
    found = Engine(tmp_path).score_file(tmp_path / "two.png")
    places = {row["track"]: row["place"] for row in found.tracks}
    assert found.faces == 2 and places[1][0] < 0.4 < 0.55 < places[0][0] and places[0][2] > places[1][2]
    worst = max(found.tracks, key=lambda row: row["p_fake"])["track"]
    assert found.reason == f"most suspicious: face {worst + 1} ({'left' if worst else 'right'})"
    low, high = sorted(row["p_fake"] for row in found.tracks)
    assert low < found.p_fake < high
    write_card(tmp_path, engine.card.model_copy(update={"threshold": (found.p_fake + high) / 2, "abstain": 0.0}))
    spared = Engine(tmp_path).score_file(tmp_path / "two.png")
    assert spared.verdict == "real"
    assert spared.reason == f"face {worst + 1} ({'left' if worst else 'right'}) alone would be called fake, but one of several stands out by chance"
    for verdict, told in ((found, high), (spared, low)):
        assert verdict.clips[most_telling(verdict)]["p_fake"] == pytest.approx(told), "what is explained speaks for the verdict"
    write_card(tmp_path, engine.card.model_copy(update={"threshold": 0.0001, "abstain": 0.0}))
    page = explain_file(tmp_path / "two.png", None, tmp_path, tmp_path / "why")
    assert f", going by face {worst + 1} ({'left' if worst else 'right'}); " in page["sentence"] and page["reason"] == found.reason
    assert page["mesh"] == {"blinks_per_second": None, "mouth_jump": None, "crop_tremble": None}
    alone = engine.card.faces.model_copy(update={"max_tracks": 1})
    write_card(tmp_path, engine.card.model_copy(update={"threshold": 0.9999, "abstain": 0.0, "faces": alone}))
    found = Engine(tmp_path).score_file(tmp_path / "two.png")
    assert found.faces == 1 and found.verdict == "real" and found.reason == "at least 1 smaller face was not judged"


@pytest.fixture(scope="module")
def plain(folder):
    """An engine whose calibration changes nothing, with the threshold in the middle."""
    engine = Engine(folder)
    known = {"novelty": {"centre": [0.0], "spread": [1.0], "bound": 4.0, "alarms": 0.01, "people": 200}}
    changes = {"temperature": 1.0, "offset": 0.0, "levels": (0.0, 0.0), "threshold": 0.5, "abstain": 0.0, "metrics": known}
    engine.card = engine.card.model_copy(update=changes)
    return engine


def judged(engine, *faces, kind="video", **more):
    """The verdict on `faces`: of each its place across, and of its clips the logits, or logits with distances from what is known."""
    found, scores = Extraction(frames_seen=9, frames_with_face=9, faces=len(faces), kind=kind, **more), []
    for track, (x, *rows) in enumerate(faces):
        for number, row in enumerate(rows):
            logit, strange = row if isinstance(row, tuple) else (row, 0.0)
            still, mesh, start = np.zeros((2, SIZE, SIZE, 3), np.uint8), np.zeros((2, 468, 2), np.float32), 10.0 * number
            found.clips.append(FaceClip(still, mesh, track, start, start + 1, 90.0, 0.1, 0.5, 20.0, 0.0, 0.9, (x, 0.5, 0.2)))
            scores.append(ClipScore(logit, sigmoid(logit), np.ones(2, np.float32), np.array([strange], np.float32)))
    return engine.judge(found, "a.mp4", scores)


def test_only_the_face_that_decides_makes_a_file_unlike_what_is_known(plain):
    said = judged(plain, (0.2, (3.0, 0.0)), (0.8, (-3.0, 9.0)))
    assert UNLIKE not in said.reason and said.novelty == 0
    said = judged(plain, (0.2, (3.0, 9.0)), (0.8, (-3.0, 0.0)))
    assert (said.verdict, said.reason, said.novelty) == ("uncertain", UNLIKE, 81)


def test_where_to_look_is_the_worst_clip_of_the_worst_face_on_its_side(plain):
    said = judged(plain, (0.2, -1.0, 4.0), (0.5, 1.0), (0.9, 2.0, 6.0, 2.5))
    assert (said.verdict, said.reason, most_telling(said)) == ("fake", "most suspicious: 10.0-11.0 s, face 3 (right)", 4)
    assert [track["start_seconds"] for track in said.tracks] == [10.0, 0.0, 10.0]
    said = judged(plain, (0.2, 4.0, -9.0, -9.0), (0.8, 3.9, 3.9))
    assert said.reason == "most suspicious: 0.0-1.0 s, face 2 (right)" and most_telling(said) == 3, "of the worst face, not the worst clip of all"
    assert judged(plain, (0.2, 4.0)).reason == "most suspicious: 0.0-1.0 s, face 1", "alone, it needs no side"
    assert judged(plain, (0.5, 4.0), (0.1, 3.0), kind="image").reason == "most suspicious: face 1 (middle)"


def test_a_face_that_would_be_fake_alone_is_told_of_among_several_and_only_there(plain, monkeypatch):
    said = judged(plain, (0.1, 0.3), (0.5, -3.0), (0.9, -3.0))
    assert said.verdict == "real" and said.reason == "face 1 (left) alone would be called fake, but one of several stands out by chance"
    assert most_telling(said) in (1, 2), "the heat speaks for real: of the face that looks most real"
    assert judged(plain, (0.1, -0.3), (0.5, -3.0)).reason == judged(plain, (0.1, -0.3)).reason == ""
    monkeypatch.setattr(plain, "card", plain.card.model_copy(update={"abstain": 0.1}))
    said = judged(plain, (0.1, 0.1), (0.9, -3.0))
    assert (said.verdict, said.reason) == ("real", ""), "alone it would be left uncertain"


@pytest.mark.parametrize(("beyond", "told"), [(0, ""), (1, "at least 1 smaller face was not judged"), (2, "at least 2 smaller faces were not judged")])
def test_faces_that_nobody_followed_are_told_of(plain, beyond, told):
    assert judged(plain, (0.5, -3.0), faces_beyond=beyond).reason == told


@pytest.mark.parametrize(
    ("too_short", "told"),
    [
        ([], ""),
        ([(9.9, 10.0), (12.0, 12.8)], ""),
        ([(3.0, 5.0)], "a face at 3.0-5.0 s was followed too briefly to be judged"),
        ([(0.0, 0.4), (3.0, 3.6), (9.0, 9.2)], "a face at 0.0-0.4 s, 3.0-3.6 s, 9.0-9.2 s was followed too briefly to be judged"),
        ([(k, k + 1.0) for k in range(0, 50, 10)], "a face at 0.0-1.0 s, 10.0-11.0 s, 20.0-21.0 s and 2 times more was followed too briefly to be judged"),
    ],
)
def test_seconds_of_a_face_that_gave_no_clip_are_told_of(plain, too_short, told):
    """Half of a video, the second of two people, was left out without a word."""
    assert judged(plain, (0.5, -3.0), too_short=too_short).reason == told
    assert judged(plain, (0.5, 4.0), too_short=too_short).reason == "; ".join(filter(None, ["most suspicious: 0.0-1.0 s, face 1", told]))


def test_at_one_frame_a_second_a_face_that_was_there_too_briefly_is_told_of(engine, sample, tmp_path, monkeypatch):
    faces = engine.card.faces.model_copy(update={"clip_frames": 12, "min_clip_frames": 3})
    monkeypatch.setattr(engine, "card", engine.card.model_copy(update={"faces": faces}))
    _, person = zip(*read_frames(sample[0], [k / 4 for k in range(5)]), strict=True)
    video = write_video(tmp_path / "a.mp4", [*person, *[np.full_like(person[0], 30)] * 3, *person[:2]], fps=1)
    said = engine.score_file(video, "fast")
    assert said.p_fake is not None and said.reason.endswith("a face at 8.0-10.0 s was followed too briefly to be judged")


def test_a_model_that_knows_no_media_has_a_verdict_and_no_novelty(plain, monkeypatch):
    none = {"novelty": {"centre": [], "spread": [], "bound": None, "alarms": 0.01, "people": 0}}
    monkeypatch.setattr(plain, "card", plain.card.model_copy(update={"metrics": none}))
    said = judged(plain, (0.5, 3.0))
    assert said.verdict == "fake" and said.novelty is None


def test_a_file_that_trained_the_model_is_scored_and_explained_with_a_word_about_it(folder, engine, sample, tmp_path, capsys):
    found = extract_clips(sample[0], engine.card.faces)
    known = [sha256_bytes(np.ascontiguousarray(clip.frames).tobytes()) for clip in found.clips]
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_card(tmp_path, engine.card.model_copy(update={"train_clips": tuple(known)}))
    for model, said in ((tmp_path, True), (folder, False)):
        assert score_files([sample[0]], None, model, "json", "") == 0
        row = json.loads(capsys.readouterr().out)[0]
        assert row["reason"].startswith(LEARNED) == said and bool(row["learned"]) == said
        asked = ["explain", str(sample[0]), "--model", str(model), "--out", str(tmp_path / "why")]
        page, printed = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout), CliRunner().invoke(app, asked).stdout
        assert (page["reason"], page["learned"]) == (row["reason"], row["learned"]) and (LEARNED in printed) == said, "what is explained says it too"


@pytest.mark.parametrize("asked", ["score", "explain"])
def test_in_another_mode_than_the_models_own_it_is_said_that_the_threshold_is_not_of_that_mode(folder, engine, sample, tmp_path, asked):
    """`vigil explain` said nothing of it."""
    own, out = engine.card.faces.mode, ["--out", str(tmp_path / "why")] if asked == "explain" else []
    other = next(mode for mode in ("fast", "dense") if mode != own)
    for mode, said in ((other, True), (own, False), ("", False)):
        done = CliRunner().invoke(app, [asked, str(sample[1]), "--model", str(folder), "--mode", mode, *out])
        assert done.exit_code == 0 and (f"threshold and rates were set in mode {own}; in mode {mode} " in done.stderr) == said


@pytest.mark.parametrize(
    ("fpr", "verdict", "told", "band"),
    [
        (0.1, "real", "Threshold 0.980: on validation 0.4% of the reals and 87% of the fakes lay above it.", "real below 0.970, fake from 0.990 on"),
        (0.005, "fake", "Threshold 0.010: on validation an unknown part of the reals", "real below 0.005, fake from 0.020 on"),
    ],
)
def test_a_score_at_a_rate_that_was_asked_for_is_judged_by_it_and_its_price_is_told(folder, sample, tmp_path, capsys, fpr, verdict, told, band):
    points = [
        {"target_fpr": 0.005, "threshold": 0.01, "fpr": None, "recall": 0.999, "shown": False},
        {"target_fpr": 0.1, "threshold": 0.98, "fpr": 0.004, "recall": 0.87, "shown": True},
    ]
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_card(tmp_path, load_card(folder).model_copy(update={"abstain": 0.01, "metrics": {"calibration": {"points": points}}}))
    assert score_files([sample[1]], None, tmp_path, "table", "", fpr) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[1].split()[2] == verdict and band in said.out.splitlines()[-1]
    assert said.err.startswith(told) and ("too few real people to show so low a rate" in said.err) == (fpr == 0.005)


def test_a_video_that_is_scored_in_another_mode_is_looked_at_in_it_and_what_does_not_hold_is_said(folder, sample, capsys):
    frames = {}
    for mode, said in (("", False), ("standard", False), ("dense", True)):
        assert score_files([sample[0]], None, folder, "json", mode) == 0
        printed = capsys.readouterr()
        (row,) = json.loads(printed.out)
        assert row["model"] == load_card(folder).model_id
        frames[mode] = row["frames"]
        assert ("were set in mode standard; in mode dense" in printed.err) == bool(printed.err) == said
    assert frames["dense"] > frames["standard"] == frames[""]


@pytest.mark.parametrize("output", ["csv", "json", "table"])
def test_what_lies_beside_media_is_counted_and_what_was_named_has_its_row(folder, tmp_path, capsys, output):
    for name in ("a.mp4", *(f"{number}.txt" for number in range(7)), "named.txt"):
        (tmp_path / name).touch()
    (tmp_path / "0.txt").write_text("no medium")
    assert score_files([tmp_path, tmp_path / "named.txt"], None, folder, output, "") == 3
    said = capsys.readouterr()
    rows = {"csv": lambda text: [row.split(",") for row in text.splitlines()[1:]], "json": lambda text: [list(row.values()) for row in json.loads(text)]}
    found = rows.get(output, lambda text: [row.split() for row in text.splitlines()[1:-1]])(said.out)
    assert [os.path.basename(row[0]) for row in found] == ["a.mp4", "named.txt", "named.txt"] and all("empty file" in " ".join(map(str, row)) for row in found)
    assert said.err == "No media, passed over: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more.\n"


def test_a_folder_without_media_is_no_score(folder, tmp_path):
    """An answer without a row, and an exit code that says that each file has its verdict, would pass a folder that was mistyped."""
    (tmp_path / "labels.csv").write_text("path,label\n")
    for given in ([], [tmp_path]):
        with pytest.raises(VigilError, match=r"Nothing was scored"):
            score_files(given, None, folder, "json", "")


def test_in_a_workspace_its_latest_model_that_is_here_answers_and_not_the_starter(tmp_path, monkeypatch):
    (tmp_path / ".vigil").mkdir()
    (tmp_path / "params.yaml").write_text(compose_params("demo", ""))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "data")
    assert choose_model(None, None) == (STARTER, "starter"), "before it has a model of its own"
    for week in (44, 45, 46, 47):
        name = f"2026-W{week}.1"
        Journal(tmp_path).append("candidate", cycle=name, model_sha256=f"{week:064}", path=f"models/{name}")
        if week < 47:
            (tmp_path / "models" / name).mkdir(parents=True)
            (tmp_path / "models" / name / "card.json").touch()
    assert choose_model(None, None) == (tmp_path / "models" / "2026-W46.1", "not promoted"), "the files of the last one are not on this machine"


@pytest.mark.parametrize(("centre", "bound", "novel"), [(100.0, 1.0, True), (0.0, 1e12, False), (100.0, None, False)])
def test_media_unlike_what_the_model_knows_are_uncertain(folder, engine, sample, tmp_path, centre, bound, novel):
    size = len(engine.score_clips(clips([2]))[0].embedding)
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    known = {"centre": [centre] * size, "spread": [0.1] * size, "bound": bound}
    write_card(tmp_path, engine.card.model_copy(update={"threshold": 0.0001, "abstain": 0.0, "metrics": {"novelty": known}}))
    found = Engine(tmp_path).score_file(sample[0])
    assert found.verdict == ("uncertain" if novel else "fake") and (found.reason == UNLIKE) == novel and found.novelty > 0
    assert found.p_fake == pytest.approx(engine.score_file(sample[0]).p_fake), "the score itself is not touched"
    said = explain_file(sample[0], None, tmp_path, tmp_path / "why")["sentence"]
    assert said.startswith("Left uncertain: this is unlike the media" if novel else "Called fake")


def test_an_unforeseen_failure_of_a_decoder_is_a_reason_and_no_traceback(engine, sample, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("in a codec")

    monkeypatch.setattr("media.faces.extract_clips", broken)
    assert engine.score_file(sample[0]).reason == "could not be read: ZeroDivisionError: in a codec"


@pytest.mark.parametrize(("threshold", "abstain"), [(0.0001, 0.0), (0.9999, 0.0), (0.5, 1.0)])
def test_the_verdict_is_the_cards_threshold_and_band_on_calibrated_p(folder, engine, sample, tmp_path, threshold, abstain):
    for name in ("model.safetensors", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    write_card(tmp_path, engine.card.model_copy(update={"threshold": threshold, "abstain": abstain}))
    found = Engine(tmp_path).score_file(sample[0])
    p = engine.score_file(sample[0]).p_fake
    assert found.p_fake == p and 0.01 < p < 0.99
    assert found.verdict == ("uncertain" if abstain else "fake" if p >= threshold else "real")
    assert bool(found.reason) == (found.verdict != "real") and ("face 1" in found.reason or found.verdict == "real")


@pytest.mark.parametrize("name", ["model.safetensors", "model.onnx"])
def test_a_changed_file_is_refused_at_load(folder, tmp_path, name):
    for kept in folder.iterdir():
        (tmp_path / kept.name).write_bytes(kept.read_bytes())
    content = bytearray((tmp_path / name).read_bytes())
    content[-5] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelFileError, match="has changed since"):
        Engine(tmp_path)


def test_a_serving_folder_needs_no_checkpoint_but_always_its_onnx_file(folder, tmp_path):
    for name in ("card.json", "model.onnx"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert Engine(tmp_path).model_id == load_card(folder).model_id
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(ModelFileError, match="Cannot use the model"):
        Engine(tmp_path)


def test_threads_share_an_engine(engine):
    given = clips([3] * 4)
    expected, found = [score.logit for score in engine.score_clips(given)], [None] * 4

    def ask(place):
        found[place] = [score.logit for score in engine.score_clips(given)]

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(answer == expected for answer in found)


def test_an_operating_point_of_the_card_replaces_its_threshold_and_an_unknown_one_is_named(folder):
    points = [{"target_fpr": 0.01, "threshold": 0.9, "fpr": 0.0, "recall": 0.5, "shown": True}]
    card = load_card(folder)
    write_card(folder, card.model_copy(update={"metrics": {"calibration": {"points": points}}}))
    engine = Engine(folder)
    assert engine.at_fpr(0.01).recall == 0.5 and engine.card.threshold == 0.9
    with pytest.raises(ModelFileError, match=r"its card has 0\.01"):
        engine.at_fpr(0.3)
    write_card(folder, card.model_copy(update={"metrics": {}}))
    with pytest.raises(ModelFileError, match=r"its card has none\n  Next: Leave the rate"):
        Engine(folder).at_fpr(0.01)
    for damaged in (
        {"calibration": None},
        {"calibration": []},
        {"calibration": {"points": [{}]}},
        {"calibration": {"points": [points[0] | {"threshold": "x"}]}},
    ):
        write_card(folder, card.model_copy(update={"metrics": damaged}))
        with pytest.raises(ModelFileError, match="Cannot read the operating points"):
            Engine(folder).at_fpr(0.01)
    write_card(folder, card)


def test_models_that_look_the_same_way_share_one_reading_and_each_answers_as_alone(folder, sample, tmp_path, monkeypatch):
    from media import faces

    engines = [Engine(folder), Engine(folder), Engine(folder)]
    engines[1].card = engines[1].card.model_copy(update={"threshold": 0.999})
    engines[2].card = engines[2].card.model_copy(update={"faces": engines[2].card.faces.model_copy(update={"fps": 2.0})})
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0" * 3000)
    alone = {source: [engine.score_file(source).as_dict() for engine in engines] for source in (*sample, broken)}
    read, extract = [], faces.extract_clips
    monkeypatch.setattr(faces, "extract_clips", lambda *given: read.append(given[1].fps) or extract(*given))
    for source, said in alone.items():
        read.clear()
        assert [one.as_dict() for one in score_file_with(engines, source)] == said
        assert sorted(read) == sorted({engine.card.faces.fps for engine in engines})
    assert score_file_with([], sample[0]) == []
