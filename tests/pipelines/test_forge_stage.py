"""The forge stage on rendered faces: which clip meets which forger and donor, and that it always does."""

import os
import shutil
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.leftovers import end_what_was_left, left_behind
from media.faces import looks
from media.forgers import WHO, may_be_one_person
from media.shards import read_clip_at, read_index, read_landmarks
from pipelines import faces, forge
from pipelines.ingest import ingest
from pipelines.outside import MENDED, forged_otherwise, idle_forgers
from pipelines.rows import rows_of
from pipelines.sides import decide_sides, split_of
from tests.pipelines.small_world import demo_settings
from tests.workspace.worlds import wait_until
from workspace.errors import DataError
from workspace.files import read_json, write_json
from workspace.forgetting import forget
from workspace.settings import SourceSettings


def plan(folder: Path, clips: list[dict[str, Any]], **changes: Any) -> list[forge.ForgeJob]:
    return forge.plan(folder, clips, demo_settings({"forge": changes, "budget": {"forged_fraction": 0.0}}), Counter())  # none need be made


def clips_of(number: int, prefix: str = "p") -> list[dict[str, Any]]:
    """Index rows of real clips, two a person."""
    split = demo_settings().split
    return [
        {
            "clip_id": f"{prefix}{n:04d}-t0-c0",
            "sample_id": f"{prefix}{n}",
            "identity": f"{prefix}{n // 2}",
            "kind": "video",
            "source_video": "",
            "side": split_of(f"{prefix}{n // 2}", split),
        }
        for n in range(number)
    ]


def test_fakes_of_real_clips_are_stored_beside_them(sample_workspace: Path) -> None:
    real = read_index(sample_workspace / "data" / "faces" / "w1").set_index("clip_id")
    forged = rows_of(read_index(sample_workspace / "data" / "forged" / "w1"))
    assert len(forged) == (real["label"] == "real").sum() == 12
    for row in forged:
        source = real.loc[row["source_clip"]]
        assert row["clip_id"] == f"{row['source_clip']}+{row['forger']}" and row["generator"] == row["forger"] and row["origin"] == "forged"
        assert row["label"] == "fake" and source["label"] == "real" and row["sample_id"] == source["sample_id"] and row["identity"] == source["identity"]
        before = read_clip_at(sample_workspace / "data" / "faces" / "w1", source)
        after = read_clip_at(sample_workspace / "data" / "forged" / "w1", row, verify=True)
        assert before.shape == after.shape and (before != after).any()
        assert np.abs(before.astype(int) - after).mean() < 40, "it is still that clip"
        if row["donor_clip"]:
            donor = real.loc[row["donor_clip"]]
            assert donor["identity"] == row["donor"] != row["identity"] and donor["label"] == "real"
            assert split_of(row["donor"], demo_settings().split) == split_of(row["identity"], demo_settings().split)
    report = read_json(sample_workspace / "data" / "forged" / "w1" / "report.json")
    assert report["forged"] == 12 and sum(report["by_forger"].values()) == 12


def test_a_rerun_gives_the_same_bytes_in_one_process_or_two(workspace_copy: Path, sample_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forge, "FEWEST_FOR_PROCESSES", 1)
    forge.run(workspace_copy, demo_settings({"faces": {"workers": 2}}), "w1")
    one, two = (sorted((root / "data" / "forged" / "w1").iterdir()) for root in (workspace_copy, sample_workspace))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_people_of_the_sides_asked_for_alone_are_forged_and_as_they_would_be_among_all(workspace_copy: Path) -> None:
    """Who measures a forger on people that were not trained on need not wait for the fakes of all others."""
    side = {clip["clip_id"]: clip["side"] for clip in forge.real_clips(workspace_copy, "w1", demo_settings().split)}
    whole = {row["clip_id"]: row for row in rows_of(read_index(workspace_copy / "data" / "forged" / "w1"))}
    frames = {clip: read_clip_at(workspace_copy / "data" / "forged" / "w1", row) for clip, row in whole.items() if side[row["source_clip"]] != "train"}
    assert 0 < len(frames) < len(whole)
    report = forge.run(workspace_copy, demo_settings(), "w1", ("validation", "holdout"))
    found = rows_of(read_index(workspace_copy / "data" / "forged" / "w1"))
    assert report["forged"] == len(found) == len(frames)
    for row in found:
        np.testing.assert_array_equal(read_clip_at(workspace_copy / "data" / "forged" / "w1", row), frames[row["clip_id"]])


def test_a_clip_meets_the_same_forger_and_numbers_whatever_else_is_in_the_batch(tmp_path: Path) -> None:
    alone = {forge._clip_id(job): job.seed for job in plan(tmp_path, clips_of(60))}
    among = {forge._clip_id(job): job.seed for job in plan(tmp_path, clips_of(60) + clips_of(40, "q"), max_clips=1000)}
    assert alone.items() <= among.items() and len(among) == 100
    both = Counter(job.forger for job in plan(tmp_path, clips_of(100)))
    assert min(both.values()) > 30, "forgers take turns"


def test_a_donor_is_another_person_of_the_same_side_and_kind(tmp_path: Path) -> None:
    clips = clips_of(60)
    for clip in clips[::3]:
        clip["kind"] = "image"
    clips += [{**clip, "side": "holdout"} for clip in clips_of(8, "kept")]
    jobs = [job for job in plan(tmp_path, clips, forgers=["landmark_swap"]) if job.donor]
    assert len(jobs) > 50
    for job in jobs:
        assert job.donor is not None and job.donor["identity"] != job.clip["identity"] and job.donor["kind"] == job.clip["kind"]
        assert job.donor["side"] == job.clip["side"]


def test_where_videos_are_judged_all_clips_of_one_meet_the_same_forger_and_donor(tmp_path: Path) -> None:
    """Real videos of four clips beside forged ones of one would be judged, and a threshold set, by another rule for each."""
    videos = clips_of(100)
    clips = [{**video, "clip_id": f"{video['sample_id']}-t0-c{number}"} for video in videos for number in range(4)]
    split, forgers = demo_settings().split, ["self_blend", "landmark_swap", "reenact"]
    jobs = plan(tmp_path, clips, forgers=forgers, fakes_per_real=1.3, max_clips=4000)
    units: dict[tuple[str, str], list[forge.ForgeJob]] = {}
    for job in jobs:
        units.setdefault((job.clip["sample_id"], job.forger), []).append(job)
    judged = [unit for unit in units.values() if split_of(unit[0].clip["identity"], split) != "train"]
    trained = [unit for unit in units.values() if split_of(unit[0].clip["identity"], split) == "train"]
    assert len(judged) > 30 and {len(unit) for unit in judged} == {4}
    assert all(len({job.donor["sample_id"] if job.donor else "" for job in unit}) == 1 for unit in judged)
    assert {unit[0].forger for unit in judged} == set(forgers), "in rotation over videos"
    assert min(len(unit) for unit in trained) == 1, "what trains meets as many forgers as it has clips"


def test_without_a_donor_a_forger_that_needs_none_steps_in_or_it_is_counted(tmp_path: Path) -> None:
    lonely = clips_of(2)
    assert {job.forger for job in plan(tmp_path, lonely)} == {"self_blend"}
    excluded: forge.Excluded = Counter()
    assert forge.plan(tmp_path, lonely, demo_settings({"forge": {"forgers": ["landmark_swap"]}}), excluded) == []
    assert excluded == {("landmark_swap", forge.NO_DONOR): 2}
    excluded.clear()
    two = {"forgers": ["landmark_swap", "self_blend"], "fakes_per_real": 2.0}
    assert len(forge.plan(tmp_path, lonely, demo_settings({"forge": two}), excluded)) == 2 and excluded == {("landmark_swap", forge.NO_DONOR): 2}


def test_donors_are_sought_only_for_the_fakes_that_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every clip was compared with every other one before most of the fakes were cut: minutes for a large batch."""
    drawn, plain = [], forge.rank
    monkeypatch.setattr(forge, "rank", lambda *words: drawn.append(words) or plain(*words))
    clips = [*clips_of(19_000), *({**clip, "identity": "one"} for clip in clips_of(1000, "q"))]
    assert len(plan(tmp_path, clips, forgers=["landmark_swap"], max_clips=10)) == 10
    assert len(drawn) <= 3 * len(clips) + 10 * len(clips)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.fixed_dictionaries({name: st.sampled_from(["", "a", "b"]) for name in WHO}), max_size=6))
def test_a_clip_is_alone_where_each_other_may_show_its_person(group: list[dict[str, Any]]) -> None:
    assert list(forge._alone(group)) == [clip for clip in group if all(may_be_one_person(clip, other) for other in group)]


def test_a_fraction_of_fakes_a_real_and_the_most_clips_are_kept(tmp_path: Path) -> None:
    clips = clips_of(400)
    assert 60 < len(plan(tmp_path, clips, fakes_per_real=0.2, max_clips=1000)) < 100
    assert 520 < len(plan(tmp_path, clips, fakes_per_real=1.4, max_clips=1000)) < 600
    few = plan(tmp_path, clips, fakes_per_real=2.0, max_clips=50)
    assert len(few) == 50 == len({job.clip["clip_id"] for job in few}), "first one fake of as many clips as possible"
    assert plan(tmp_path, clips, fakes_per_real=0.0) == []
    every = plan(tmp_path, clips, fakes_per_real=3.0, max_clips=2000)
    assert len(every) == 800 == len({(job.clip["clip_id"], job.forger) for job in every}), "at most one of each forger, as the setting's description says"


def test_near_duplicates_and_the_unknown_kept_for_evaluation_are_not_forged(workspace_copy: Path) -> None:
    path = workspace_copy / "data" / "faces" / "w1" / "report.json"
    report, split = read_json(path), demo_settings().split
    real = [one for one in report["samples"] if one["label"] == "real"]
    real[0]["duplicate_of"] = real[1]["sample_id"]
    write_json(path, report)
    assert len(forge.real_clips(workspace_copy, "w1", split)) == 11
    index = read_index(path.parent)
    index.loc[index["sample_id"] == real[2]["sample_id"], ["use", "identity"]] = ["evaluate", ""]
    index.loc[index["sample_id"] == real[3]["sample_id"], "use"] = "evaluate"
    index.to_parquet(path.parent / "index.parquet")
    assert len(forge.real_clips(workspace_copy, "w1", split)) == 10


def test_an_unknown_forger_is_refused_by_name(workspace_copy: Path) -> None:
    with pytest.raises(DataError, match=r"stylish.*\n.*self_blend"):
        forge.run(workspace_copy, demo_settings({"forge": {"forgers": ["stylish"]}}), "w1")


@pytest.mark.parametrize("name", ["self_blend", "portrait", "decoder_resize", "mobile_stylegan"])
def test_a_plugin_called_like_a_forger_of_ours_is_refused(name: str) -> None:
    """Ours would forge under that name, or the plugin's clips stand in its row of every table."""
    forgery = {"forgers": ["upsample"], "plugins": [{"name": name, "command": ["/bin/true"]}]}
    with pytest.raises(DataError, match=f"No plugin may be called {name}"):
        forge.refuse_unknown_forgers(demo_settings({"forge": forgery}).forge)
    forge.refuse_unknown_forgers(demo_settings({"forge": {"forgers": ["mine"], "plugins": [{"name": "mine", "command": ["/bin/true"]}]}}).forge)


def learned_settings(**changes: Any) -> Any:
    return demo_settings({"forge": {"forgers": ["decoder_resize", "autoencoder_swap"], "learn_steps": 3, **changes}})


def test_learned_forgers_learn_from_training_faces_alone_and_keep_their_weights(workspace_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.forgers.registry.FEWEST_FACES", 1)
    report = forge.run(workspace_copy, learned_settings(fakes_per_real=2.0), "w1")
    out = workspace_copy / "data" / "forged" / "w1"
    assert set(report["by_forger"]) == {"decoder_resize", "autoencoder_swap"}
    assert sorted(path.name for path in (out / "forgers").iterdir()) == ["autoencoder_swap.safetensors", "decoder_resize.safetensors"]
    folder, settings = workspace_copy / "data" / "faces" / "w1", learned_settings()
    learned_from = {clip["identity"] for clip, _ in forge._faces_to_learn(folder, forge.real_clips(workspace_copy, "w1", settings.split), settings)}
    people = {row["identity"] for row in rows_of(read_index(folder))}
    assert learned_from == {person for person in people if split_of(person, settings.split) == "train"} != people


def test_whom_an_earlier_batch_keeps_for_evaluation_is_forged_as_the_judged_are_and_not_learned_from(
    sample_media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the hash such a person would train: the forgers had learned the face, and a judged video had fewer fakes than clips."""
    monkeypatch.setattr("model.forgers.registry.FEWEST_FACES", 1)
    settings = learned_settings(forgers=["self_blend", "restore", "decoder_resize"], fakes_per_real=1.0)
    settings = settings.model_copy(update={"faces": settings.faces.model_copy(update={"clips_per_video": 3})})
    table = pd.read_csv(sample_media / "labels.csv").query("label == 'real'")
    training = [name for name in sorted(set(table["identity"])) if split_of(name, settings.split) == "train"]
    person, other = training[:2]
    takes = table[table["identity"] == person]
    batches = {"earlier": takes[:1].assign(use="evaluate"), "later": pd.concat([takes[1:], table[table["identity"] == other]]).assign(use="train")}
    for batch, rows in batches.items():
        for name in rows["path"]:
            (tmp_path / batch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(sample_media / name, tmp_path / batch / name)
        rows.to_csv(tmp_path / batch / "labels.csv", index=False)
        ingest(tmp_path / "w", settings, [SourceSettings(name=batch, path=str(tmp_path / batch))], batch=batch)
        faces.run(tmp_path / "w", settings, batch)
    report = forge.run(tmp_path / "w", settings, "later")
    samples = [read_json(tmp_path / "w" / "data" / "faces" / batch / "report.json")["samples"] for batch in batches]
    sides = decide_sides(samples, settings.split).of_sample
    assert report["judged"] == [one["sample_id"] for one in samples[1] if sides[one["sample_id"]] != "train"] != []
    clips = forge.real_clips(tmp_path / "w", "later", settings.split)
    assert {clip["identity"] for clip, _ in forge._faces_to_learn(tmp_path / "w" / "data" / "faces" / "later", clips, settings)} == {other}
    forged = Counter(row["forger"] for row in rows_of(read_index(tmp_path / "w" / "data" / "forged" / "later")) if row["sample_id"] in report["judged"])
    assert list(forged.values()) == [sum(clip["identity"] == person for clip in clips)] > [1], "all clips of a judged video meet one forger"


def test_too_few_faces_to_learn_from_is_a_reason_and_no_failure(workspace_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.forgers.registry.FEWEST_FACES", 10_000)
    report = forge.run(workspace_copy, learned_settings(), "w1")
    assert report["forged"] == 0 and sum(report["excluded"].values()) == 12
    assert set(report["excluded"]) == {f"decoder_resize: {forge.TOO_FEW}", f"autoencoder_swap: {forge.TOO_FEW}"}


def test_a_forger_that_never_works_is_named_where_people_look(workspace_copy: Path, tmp_path: Path) -> None:
    """Its reasons stood without its name among those of others, and their fakes hid that it made none."""
    program = tmp_path / "forger.sh"
    program.write_text("#!/bin/sh\necho no weights\necho here >&2\nexit 3\n")
    program.chmod(0o755)
    plugins = [{"name": "broken", "command": [str(program)]}, {"name": "missing", "onnx": str(tmp_path / "nowhere.onnx")}]
    forgery = {"forgers": ["broken", "missing", "self_blend"], "plugins": plugins, "fakes_per_real": 3.0}
    report = forge.run(workspace_copy, demo_settings({"forge": forgery}), "w1")
    assert report["by_forger"] == {"self_blend": 12}
    assert {why.partition(": ")[0]: number for why, number in report["excluded"].items()} == {"broken": 12, "missing": 12}
    assert read_json(workspace_copy / "data" / "forged" / "w1" / "report.json")["excluded"]["broken: it ended with 3: no weights\nhere"] == 12
    said = idle_forgers(workspace_copy, "w1")
    assert said[0] == "broken made nothing of w1, tried 12 times; most often: it ended with 3: no weights here." + MENDED
    assert len(said) == 2 and said[1].startswith("missing made nothing of w1, tried 12 times") and "nowhere.onnx" in said[1]


def test_a_batch_is_forged_anew_by_another_program_of_the_same_name(workspace_copy: Path, tmp_path: Path) -> None:
    """DVC does not see the program: one that was mended made nothing of a batch that it had failed on, and nobody was told."""
    script = tmp_path / "forger.py"
    script.write_text("raise SystemExit('no module')")
    plugin = {"name": "mine", "command": [sys.executable, str(script), "{input}", "{output}"]}
    settings = demo_settings({"forge": {"forgers": ["self_blend", "mine"], "plugins": [plugin], "fakes_per_real": 2.0}})
    assert "mine" not in forge.run(workspace_copy, settings, "w1")["by_forger"]
    assert forged_otherwise(workspace_copy, settings, ["w1", "never forged"]) == []
    script.write_text(
        "import cv2, sys\nfrom pathlib import Path\nfor path in Path(sys.argv[1]).glob('*.png'):\n"
        "    cv2.imwrite(sys.argv[2] + '/' + path.name, 255 - cv2.imread(str(path)))\n"
    )
    assert forged_otherwise(workspace_copy, settings, ["w1"]) == ["w1"]
    without = settings.model_copy(update={"forge": settings.forge.model_copy(update={"forgers": ["self_blend"]})})
    assert forged_otherwise(workspace_copy, without, ["w1"]) == [], "of what is not asked for nothing is made anew"
    assert forge.run(workspace_copy, settings, "w1")["by_forger"]["mine"] == 12 and forged_otherwise(workspace_copy, settings, ["w1"]) == []
    script.unlink()
    assert idle_forgers(workspace_copy, "w1") == forged_otherwise(workspace_copy, settings, ["w1"]) == [], "what is away makes nothing better"
    (workspace_copy / "data" / "forged" / "w1" / "report.json").write_text("{")
    assert idle_forgers(workspace_copy, "w1") == forged_otherwise(workspace_copy, settings, ["w1"]) == []


def test_another_generator_is_noticed_wherever_the_caller_stands(workspace_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path was looked for where the caller stood: a batch kept the fakes of a generator that was replaced, or met another file of that name."""
    generator, elsewhere = workspace_copy / "gen.onnx", tmp_path / "elsewhere"
    elsewhere.mkdir()
    generator.write_bytes(b"one")
    settings = demo_settings({"forge": {"forgers": ["self_blend", "theirs"], "plugins": [{"name": "theirs", "onnx": "gen.onnx"}]}})
    monkeypatch.chdir(workspace_copy)  # as DVC runs the stage
    forge.run(workspace_copy, settings, "w1")
    monkeypatch.chdir(elsewhere)
    (elsewhere / "gen.onnx").write_bytes(b"not this one")
    assert forged_otherwise(workspace_copy, settings, ["w1"]) == []
    (elsewhere / "gen.onnx").unlink()
    generator.write_bytes(b"two")
    assert forged_otherwise(workspace_copy, settings, ["w1"]) == ["w1"]


def test_a_program_from_outside_forges_a_batch_and_its_failures_are_reasons(workspace_copy: Path, tmp_path: Path) -> None:
    script = tmp_path / "forger.py"
    script.write_text(
        "import cv2, sys\nfrom pathlib import Path\nif int(sys.argv[3]) % 2:\n    sys.exit('odd')\n"
        "for path in Path(sys.argv[1]).glob('*.png'):\n    cv2.imwrite(sys.argv[2] + '/' + path.name, 255 - cv2.imread(str(path)))\n"
    )
    plugin = {"name": "negative", "command": [sys.executable, str(script), "{input}", "{output}", "{seed}"]}
    gone = {"name": "gone", "command": [str(script.with_name("nowhere"))]}
    lost = forge.run(workspace_copy, demo_settings({"forge": {"forgers": ["gone"], "plugins": [gone]}}), "w1")
    assert lost["forged"] == 0 and any("there is no program" in reason for reason in lost["excluded"]), lost
    missing = {"name": "missing", "onnx": str(tmp_path / "nowhere.onnx")}
    lost = forge.run(workspace_copy, demo_settings({"forge": {"forgers": ["missing", "self_blend"], "plugins": [missing]}}), "w1")
    assert sum(n for why, n in lost["excluded"].items() if "nowhere.onnx" in why) == 12 - lost["by_forger"]["self_blend"] > 0, lost
    assert lost["plugins"] == {"missing": ""}
    report = forge.run(workspace_copy, demo_settings({"forge": {"forgers": ["negative"], "plugins": [plugin]}}), "w1")
    failed = sum(n for why, n in report["excluded"].items() if why.startswith("negative: ") and why.endswith("odd"))
    assert report["forged"] + failed == 12 and min(report["forged"], failed) > 0 and report["plugins"]["negative"][0] == sys.executable
    row = rows_of(read_index(workspace_copy / "data" / "forged" / "w1"))[0]
    assert row["generator"] == "negative" and row["label"] == "fake"
    real = read_index(workspace_copy / "data" / "faces" / "w1").set_index("clip_id").loc[row["source_clip"]]
    assert row["brightness"] == pytest.approx(1 - real["brightness"], abs=0.02), "how a fake looks is measured on it"
    assert row["yaw_degrees"] == real["yaw_degrees"] and row["face_px"] == real["face_px"], "where and how it looks is as it was"


def test_crops_that_a_killed_stage_gave_a_program_lie_in_the_workspace_until_the_next_look(workspace_copy: Path, tmp_path: Path) -> None:
    """They lay in the system's temporary folder, where no next stage, no `vigil doctor --fix` and no erasure looked."""
    changes = {"forge": {"forgers": ["slow"], "plugins": [{"name": "slow", "command": ["sh", "-c", f"touch {tmp_path}/mark; sleep 300"]}]}}
    body = (
        f"from pathlib import Path\nfrom pipelines.forge import run\nfrom tests.pipelines.small_world import demo_settings\nrun(Path({str(workspace_copy)!r}),"
    )
    (tmp_path / "temporary").mkdir()
    words = [sys.executable, "-c", f"{body} demo_settings({changes!r}), 'w1')"]
    stage = psutil.Popen(words, env={**os.environ, "TMPDIR": str(tmp_path / "temporary")}, cwd=Path(__file__).resolve().parents[2])
    wait_until(lambda: stage.poll() is not None or (tmp_path / "mark").exists(), 120)
    for process in (stage, *stage.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # it ended with the one before
            process.kill()
    stage.wait()
    assert not [path for path in (tmp_path / "temporary").glob("*/*") if not path.is_symlink()]

    def left() -> list[Path]:
        return list((workspace_copy / ".vigil/forging").rglob("*.png"))

    assert left() and (workspace_copy / ".vigil/forging/w1").stat().st_mode & 0o777 == 0o700
    kept = shutil.copytree(workspace_copy / ".vigil", tmp_path / "kept")
    for look in (lambda: forge.run(workspace_copy, demo_settings(), "w1"), lambda: forget(workspace_copy, {"0" * 64: ""}, "ada")):
        look()
        assert not left()
        shutil.copytree(kept, workspace_copy / ".vigil", dirs_exist_ok=True)
    told = "crops of faces that a program was given to forge from"
    assert left() and left_behind(workspace_copy, demo_settings()) == [f"{told}: .vigil/forging"]
    assert end_what_was_left(workspace_copy, demo_settings()) == [f"removed {told}"]
    assert not left() and not left_behind(workspace_copy, demo_settings())


def test_a_published_generator_forges_by_its_name_alone(workspace_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = demo_settings({"forge": {"forgers": ["mobile_stylegan"], "max_clips": 3}})
    report = forge.run(workspace_copy, settings, "w1")
    assert report["by_forger"] == {"mobile_stylegan": 3} and not report["excluded"]
    forged = rows_of(read_index(workspace_copy / "data" / "forged" / "w1"))
    reals = read_index(workspace_copy / "data" / "faces" / "w1").set_index("clip_id")
    for row in forged:
        before = read_clip_at(workspace_copy / "data" / "faces" / "w1", reals.loc[row["source_clip"]])
        after = read_clip_at(workspace_copy / "data" / "forged" / "w1", row)
        assert row["generator"] == "mobile_stylegan" and after.shape == before.shape and np.abs(before.astype(int) - after).mean() > 20
        seen = looks(after, read_landmarks(row))
        assert {name: row[name] for name in seen} == pytest.approx(seen, nan_ok=True), "nobody is filed under another's skin"
        assert np.isnan(row["yaw_degrees"]), "the pose of somebody who was drawn is not that of the clip"
    assert "sha256" in report["plugins"]["mobile_stylegan"]
    monkeypatch.setattr("media.forgers.stylegan.WHEEL", "a-wheel-that-nobody-installs")
    lost = forge.run(workspace_copy, settings, "w1")
    assert lost["forged"] == 0 and any("is missing" in reason for reason in lost["excluded"]), lost
