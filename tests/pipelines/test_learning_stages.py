"""Two whole cycles on a tiny set: phase 1, hardening, phase 2, evaluation, drift, gate and page, each stage's promises checked on what it wrote."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines import artifact, drift, evaluate, gate, harden, pretrain, train
from pipelines.comparison import gate_inputs
from pipelines.report import write_report
from pipelines.scoring import CACHE, read_set, score_rows
from tests.pipelines.small_world import add_batch, demo_settings, first_cycle, second_cycle, write_data_reports, write_sets
from workspace.cycle import Cycle
from workspace.errors import ModelFileError
from workspace.files import read_json, sha256_file

SETTINGS = demo_settings()


def run_cycle(root: Path, cycle: Cycle, rows: pd.DataFrame) -> dict[str, Any]:
    write_sets(root, rows, set(cycle.judged))
    write_data_reports(root, cycle, rows)
    return {stage.__name__.rpartition(".")[2]: stage.run(root, SETTINGS, cycle) for stage in (pretrain, harden, train, evaluate, drift, gate)}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cycle, Cycle, dict[str, Any], dict[str, Any]]:
    """Root after two cycles (the second met a new generator), both cycles, and what their stages returned."""
    import torch

    torch.set_num_threads(2)
    root = tmp_path_factory.mktemp("world")
    first, old = first_cycle(), add_batch(root, "b1", 20)
    before = run_cycle(root, first, old)
    shutil.copytree(root / "reports", root / "first-reports")
    shutil.copytree(root / "build/model", root / "build/base")
    second = second_cycle(before["train"]["model_sha256"])
    rows = pd.concat([old, add_batch(root, "b2", 20, generator="neural", trace=-40)], ignore_index=True)
    return root, first, second, before, run_cycle(root, second, rows)


def test_a_first_model_starts_from_nothing_and_the_second_from_the_champion(story: Any) -> None:
    root, _, second, before, after = story
    assert [(told["pretrain"]["warm_start"], told["pretrain"]["start"]) for told in (before, after)] == [(False, "nothing"), (True, "the champion")]
    from model.checkpoint import load_model

    start, warm = pretrain.start_model(root, SETTINGS, second)
    base = load_model(root / "build/base/model.safetensors")
    assert warm and all((tensor == base.state_dict()[name]).all() for name, tensor in start.state_dict().items())


def test_a_changed_spatial_prior_is_trained_with_and_all_else_comes_from_the_champion(story: Any) -> None:
    """It is no weight that was learned, but lies beside them in the champion's file: the new model said the new prior and looked by the old one."""
    from model.regions import attention_prior

    root, _, second, _, _ = story
    start, warm = pretrain.start_model(root, demo_settings({"model": {"spatial_prior": [0.0, 1.0, 0.0]}}), second)
    unchanged, _ = pretrain.start_model(root, SETTINGS, second)
    assert warm and start.attention is not None
    assert (start.attention.prior == attention_prior(start.side, (0.0, 1.0, 0.0)).flatten().log()).all()
    others = unchanged.state_dict()
    assert [name for name, tensor in start.state_dict().items() if not (tensor == others[name]).all()] == ["attention.prior"]


def test_a_base_of_another_shape_is_not_taken_over(story: Any) -> None:
    root, _, second, _, _ = story
    other = demo_settings({"model": {"lstm_hidden": 16}})
    assert pretrain.start_model(root, other, second)[1] is False


@pytest.mark.parametrize(("backbone", "weights", "start"), [
    ("resnext_tiny", "", "nothing"), ("resnext_tiny", "/a/start.safetensors", "the weights /a/start.safetensors"),
    ("efficientnet_lite0", "IMAGENET1K_V1", "the weights IMAGENET1K_V1"),
    ("resnet18", "IMAGENET1K_V1", "nothing: IMAGENET1K_V1 of resnet18 could not be fetched"),
])  # fmt: skip
def test_the_record_says_what_training_really_started_from(backbone: str, weights: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    asked = SETTINGS.model.model_copy(update={"backbone": backbone, "weights": weights})
    assert (pretrain.started_from(asked, False), pretrain.started_from(asked, True)) == (start, "the champion")


@pytest.mark.parametrize(
    ("forged", "said"), [(["forged", "collected", "forged"], "val loss and val auc are of all 3 clips of validation, 2 of them forged"), ([], "")]
)
def test_what_training_is_validated_on_is_said_where_it_is_not_what_is_judged(forged: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """0.791 in the log of the training stood beside 1.000 on validation in the report."""
    pretrain.tell_validation(pd.DataFrame({"origin": forged or ["collected"]}))
    told = capsys.readouterr().out
    assert told.startswith(said) and bool(told) == bool(said)


@pytest.mark.parametrize("weights", ["/gone/backbone.safetensors", "IMAGENET1K_V1"])
def test_where_the_champion_is_the_start_no_other_weights_are_asked_for(story: Any, weights: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Their file had to be kept for ever, and offline it was said that the model starts from random weights."""
    root, _, second, _, _ = story
    settings = demo_settings({"model": {"weights": weights}})
    start, warm = pretrain.start_model(root, settings, second)
    plain, _ = pretrain.start_model(root, SETTINGS, second)
    assert warm and all((tensor == plain.state_dict()[name]).all() for name, tensor in start.state_dict().items())
    assert start.settings == settings.model and capsys.readouterr().err == ""


def test_a_base_of_another_shape_leaves_the_start_to_the_weights_of_the_settings(story: Any) -> None:
    from model.backbones import build_backbone

    root, _, second, _, _ = story
    start, warm = pretrain.start_model(root, demo_settings({"model": {"backbone": "efficientnet_lite0", "weights": "IMAGENET1K_V1"}}), second)
    known = build_backbone("efficientnet_lite0", "IMAGENET1K_V1").state_dict()
    assert not warm and all((tensor == known[name]).all() for name, tensor in start.backbone.state_dict().items())


def test_a_start_that_is_not_taken_is_named(story: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def train_nothing(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("model.training.pretrain", train_nothing)
    with pytest.raises(KeyboardInterrupt):
        pretrain.learn(story[0], demo_settings({"model": {"weights": "IMAGENET1K_V1"}}), story[2])
    assert "starts from the champion; model.weights (IMAGENET1K_V1)" in capsys.readouterr().out


def test_a_base_that_is_not_the_cycles_is_refused(story: Any) -> None:
    root, _, _, _, _ = story
    with pytest.raises(ModelFileError):
        pretrain.start_model(root, SETTINGS, second_cycle("f" * 64))
    with pytest.raises(ModelFileError):
        evaluate.champion_card(root, second_cycle("f" * 64))


def test_stored_attacks_stay_within_eps_keep_their_labels_and_still_fool_the_model(story: Any) -> None:
    from media.shards import read_clip, read_clip_at, read_index

    root, _, _, before, after = story
    for report in (before["harden"], after["harden"]):
        assert report["largest_levels"] <= 12 and report["effect_kept"] >= 0.9 and report["enough_kept"]
        assert report["loss_stored"] > report["loss_clean"] + 0.1
    stored = read_index(root / "data/hardened")
    drawn = read_set(root, "train").set_index("clip_id")
    assert sorted(stored["label"]) == ["fake"] * 3 + ["real"] * 3 and set(stored["origin"]) == {"hardened"}
    for row in stored.to_dict("records"):
        source = drawn.loc[row["source_clip"]].to_dict() | {"clip_id": row["source_clip"]}
        moved = np.abs(read_clip_at(root / "data/hardened", row, verify=True).astype(int) - read_clip(root, source).astype(int))
        assert 0 < moved.max() <= 12 and row["label"] == source["label"]


def test_hardening_twice_gives_the_same_bytes(story: Any) -> None:
    root, _, second, _, _ = story
    before = {path.name: sha256_file(path) for path in (root / "data/hardened").iterdir()}
    harden.run(root, SETTINGS, second)
    assert {path.name: sha256_file(path) for path in (root / "data/hardened").iterdir()} == before


def test_the_card_proves_which_clips_made_the_model(story: Any) -> None:
    from model.card import verify
    from model.data import epoch_hash

    root, _, second, _, _ = story
    card, rows = verify(root / "build/model"), train.training_rows(root)
    assert card.data_hash == epoch_hash(root, rows, card.seed) and card.seed == second.seed
    assert sorted(card.train_clips) == sorted(rows["sha256"]) and (rows["origin"] == "hardened").sum() == 6
    assert card.generators_seen == ("neural", "swap") and card.cycle == second.cycle


@pytest.mark.parametrize(("width", "seen"), [(SETTINGS.model.lstm_hidden, ("faceswap", "neural", "swap")), (16, ("neural", "swap"))])
def test_a_model_has_met_what_the_champion_met_only_where_it_starts_from_it(story: Any, tmp_path: Path, width: int, seen: tuple[str, ...]) -> None:
    """Of a champion of another shape its generators were named, though the new network had never met them."""
    from model.card import load_card

    root = tmp_path / "w"
    shutil.copytree(story[0], root)
    settings, cycle = demo_settings({"model": {"lstm_hidden": width}}), replace(story[2], known_generators=("faceswap", "swap"))
    for stage in (pretrain, train):
        stage.run(root, settings, cycle)
    assert load_card(root / "build/model").generators_seen == seen


def test_the_teacher_is_told_which_forgers_the_champion_has_met(story: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {}

    def fit(*_: Any, **named: Any) -> None:
        told.update(named)
        raise KeyboardInterrupt

    monkeypatch.setattr("model.training.fit", fit)
    with pytest.raises(KeyboardInterrupt):
        train.learn(story[0], SETTINGS, replace(story[2], known_generators=("blend", "swap")))
    assert told["base"] is not None and told["met"] == ("blend", "swap")


def test_nothing_of_the_holdout_trains(story: Any) -> None:
    root = story[0]
    assert not set(train.training_rows(root)["sample_id"]) & set(read_set(root, "holdout")["sample_id"])


def test_the_threshold_comes_from_validation_videos_alone(story: Any) -> None:
    from model.calibration import calibrate
    from model.card import load_card
    from pipelines.scoring import unit_evidence, unit_table

    root = story[0]
    scored = score_rows(root, root / "build/model", read_set(root, "validation"))
    labels = unit_table(scored.drop(columns="embedding")).set_index("unit")["label"]
    evidence = unit_evidence(scored)
    found = calibrate(labels.loc[list(evidence)].to_numpy(dtype=object), list(evidence.values()), SETTINGS.evaluate.target_fpr)
    card = load_card(root / "build/model")
    assert (card.threshold, card.temperature, card.offset, card.levels) == (found.threshold, found.temperature, found.offset, found.levels)
    assert card.levels[0] != card.levels[1]


def test_what_the_gates_read_can_be_recomputed_from_the_predictions(story: Any) -> None:
    from model.card import load_card

    root, _, second, _, after = story
    table = pd.read_parquet(root / "reports/predictions.parquet")
    again = gate_inputs(table, load_card(root / "build/base"), load_card(root / "build/model"), SETTINGS, second)
    written = read_json(root / "reports/evaluation.json")["gate_inputs"]
    assert all(_same(written[name], value) for name, value in again.items())
    assert {"card_sha256", "robustness", "latency", "size_bytes", "parity"} == set(written) - set(again)
    assert after["evaluate"]["gate_inputs"]["champion_sha256"] == second.base_model


def _same(written: Any, computed: Any) -> bool:
    if isinstance(computed, dict):
        return set(written) == set(computed) and all(_same(written[key], value) for key, value in computed.items())
    if isinstance(computed, list):
        return len(written) == len(computed) and all(map(_same, written, computed))
    return written == computed or (isinstance(computed, float) and abs(written - computed) < 1e-12)


def test_champion_and_challenger_scored_the_same_videos(story: Any) -> None:
    table = pd.read_parquet(story[0] / "reports/predictions.parquet")
    holdout = table[table["fold"] == "holdout"]
    assert holdout[["p_champion", "p_challenger"]].notna().all().all() and set(holdout["new"]) == {True, False}
    assert set(table["fold"]) == {"holdout", "validation", "train"}


def test_what_was_scored_is_not_scored_again(story: Any) -> None:
    root = story[0]
    shutil.move(root / "data/faces/b1/clips-000.tar", root / "away.tar")  # a clip that is read again would now fail
    try:
        again = score_rows(root, root / "build/model", read_set(root, "holdout"))
    finally:
        shutil.move(root / "away.tar", root / "data/faces/b1/clips-000.tar")
    assert np.isfinite(again["logit"]).all() and len(list((root / CACHE).glob("*.parquet"))) == 2


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, "cut"], ids=["empty", "zeros", "cut"])
def test_damaged_scores_cost_time_and_nothing_else(story: Any, damage: bytes | str) -> None:
    """As a machine that lost power may leave them: every later cycle ended at them, with an error that named no file."""
    root = story[0]
    whole = score_rows(root, root / "build/model", read_set(root, "validation"))
    (path,) = (root / CACHE).glob(f"{sha256_file(root / 'build/model/model.safetensors')}-*.parquet")
    before = path.read_bytes()
    path.write_bytes(before[:-100] if isinstance(damage, str) else damage)
    try:
        again = score_rows(root, root / "build/model", read_set(root, "validation"))
        assert np.allclose(again["logit"], whole["logit"]) and len(pd.read_parquet(path)) == again["sha256"].nunique()
    finally:
        path.write_bytes(before)


def test_the_first_model_has_no_comparison_and_the_second_has_all(story: Any) -> None:
    _, _, _, before, after = story
    assert "comparison" not in before["evaluate"]["gate_inputs"] and before["evaluate"]["champion_sha256"] == ""
    assert {"comparison", "forgetting", "slices", "new_generators"} <= set(after["evaluate"]["gate_inputs"])
    assert [row["generator"] for row in after["evaluate"]["gate_inputs"]["new_generators"]["rows"]] == ["neural"]
    assert set(after["evaluate"]["forgetting_row"]) == {"swap", "neural"}


def _mean_standing(points: list[dict[str, Any]]) -> float:
    attacked = [point["balanced_accuracy"] for point in points if point["eps"] > 0]
    return sum(attacked) / len(attacked)


def test_attacks_only_ever_hurt_and_both_models_are_measured(story: Any) -> None:
    robust = story[4]["evaluate"]["robustness"]
    for model in ("challenger", "champion"):
        curve = [point["balanced_accuracy"] for point in robust[model]]
        assert curve == sorted(curve, reverse=True) and len(curve) == 3
    assert {"independent", "parent"} == set(robust["transfer"])
    judged = story[4]["evaluate"]["gate_inputs"]["robustness"]
    attacked = robust["transfer"]["independent"]
    assert judged["transfer"]["difference"] == pytest.approx(attacked["attacked"] - attacked["clean"])
    assert judged["curve"]["difference"] == pytest.approx(_mean_standing(robust["challenger"]) - _mean_standing(robust["champion"]))
    assert judged["whitebox"]["difference"] == pytest.approx(robust["challenger"][1]["balanced_accuracy"])
    assert all(judged[name]["se"] >= 0 and judged[name]["df"] >= 1 for name in ("transfer", "curve", "whitebox"))
    for row in robust["transfer"].values():
        assert row["attacker_attacked"] < row["attacker_clean"]  # the attack works where it was made


def test_probes_see_what_the_model_goes_by(story: Any) -> None:
    """The trace of this world lies all over the picture, the same in each frame: neither order nor face can matter."""
    found = {row["name"]: row["value"] for row in story[4]["evaluate"]["probes"]["rows"]}
    plain = found["clips as they are"]
    assert found["frames in another order"] == pytest.approx(plain, abs=0.15) and found["the face blacked out"] > 0.5
    assert 0.3 < found["labels shuffled"] < 0.7
    assert all(0 <= found[f"{copies} copies of the reals against the reals"] <= 1 for copies in ("poor", "grey"))
    assert 0.1 < found["numbers beside the pixels, no picture"] < 0.9
    assert "Probes" in (write_report(story[0], story[2])).read_text()


@pytest.mark.parametrize(("stage", "phase"), [("pretrain", "pretrain"), ("train", "fit"), ("evaluate", "pretrain")])
def test_each_stage_that_trains_tells_its_version_to_the_training(story: Any, monkeypatch: pytest.MonkeyPatch, stage: str, phase: str) -> None:
    from pipelines.surrogate import train_surrogate

    def train_nothing(*_: Any, version: int, **__: Any) -> None:
        raise RuntimeError(f"version {version}")

    monkeypatch.setattr(f"model.training.{phase}", train_nothing)
    settings = SETTINGS.model_copy(update={"stage_versions": SETTINGS.stage_versions.model_copy(update={stage: 77})})
    learn = {"pretrain": pretrain.learn, "train": train.learn, "evaluate": train_surrogate}[stage]
    with pytest.raises(RuntimeError, match="version 77"):
        learn(story[0], settings, story[2])


def test_the_attackers_model_shares_nothing_with_the_ones_it_attacks(story: Any) -> None:
    from model.checkpoint import load_model
    from pipelines.surrogate import train_surrogate

    root, _, second, _, _ = story
    first, again = train_surrogate(root, SETTINGS, second), train_surrogate(root, SETTINGS, second)
    base = load_model(root / "build/base/model.safetensors").state_dict()
    weights = {name: tensor.cpu() for name, tensor in first.network.state_dict().items() if tensor.ndim > 1}
    assert all((tensor == again.network.state_dict()[name].cpu()).all() for name, tensor in weights.items())
    assert not any((tensor == base[name]).all() for name, tensor in weights.items())


@pytest.mark.parametrize(("weights", "shared"), [("IMAGENET1K_V1", True), ("/home/me/mine.safetensors", False)])
def test_an_attacker_starts_from_what_anybody_can_have(story: Any, monkeypatch: pytest.MonkeyPatch, weights: str, shared: bool) -> None:
    from model.backbones import build_backbone
    from pipelines.surrogate import train_surrogate

    def keep(network: Any, *_: Any, **__: Any) -> None:
        begun.append(network)

    begun: list[Any] = []
    monkeypatch.setattr("model.training.pretrain", keep)
    model = SETTINGS.model.model_copy(update={"backbone": "efficientnet_lite0", "weights": weights})
    train_surrogate(story[0], SETTINGS.model_copy(update={"model": model}), story[2])
    known = build_backbone("efficientnet_lite0", "IMAGENET1K_V1").state_dict()
    same = [bool((tensor.cpu() == known[name]).all()) for name, tensor in begun[0].backbone.state_dict().items() if tensor.ndim == 4]
    assert same and all(one is shared for one in same)


def test_the_export_says_what_the_checkpoint_says(story: Any) -> None:
    served = story[4]["evaluate"]["artifact"]["gate"]
    assert served["parity"]["clips"] == 8 and served["parity"]["max_difference"] < 1e-4 and served["size_bytes"] > 10_000 and served["latency"]["runs"] == 5
    assert story[4]["evaluate"]["artifact"]["timed"].startswith(f"1 clip of {SETTINGS.faces.clip_frames} frames at {SETTINGS.faces.size_px} px: a 10 s video")


@pytest.mark.parametrize(
    ("faces", "frames", "says"),
    [
        ({"mode": "dense", "fps": 5.0}, [3] * 16 + [2], "17 clips of 2 to 3 frames at 32 px: a 10 s video in the model's own mode (dense)"),
        ({"fps": 5.0, "clip_frames": 30, "clips_per_video": 4}, [30], "1 clip of 30 frames at 32 px: a 10 s video in the model's own mode (standard)"),
        ({"fps": 1.0, "clip_frames": 30}, [10], "1 clip of 10 frames"),
    ],
    ids=["dense", "long clips", "longer than the video"],
)
def test_the_gate_times_what_the_model_looks_at_in_ten_seconds(
    story: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faces: dict[str, Any], frames: list[int], says: str
) -> None:
    """As many clips as in mode `standard` were timed of any model: one of mode `dense`, which looks at all, could not be refused for its time."""
    from model.card import load_card, write_card
    from model.inference import Engine

    folder = tmp_path / "build/model"
    shutil.copytree(story[0] / "build/model", folder)
    (tmp_path / "data").symlink_to(story[0] / "data")
    card = load_card(folder)
    write_card(folder, card.model_copy(update={"faces": card.faces.model_copy(update=faces)}))
    timed, score_clips = [], Engine.score_clips

    def watched(engine: Engine, clips: Any) -> Any:
        timed.append([len(clip) for clip in clips])
        return score_clips(engine, clips)

    monkeypatch.setattr(Engine, "score_clips", watched)
    told = artifact.measure(tmp_path, SETTINGS)
    assert len(timed) == artifact.RUNS + 1 and all(one == frames for one in timed) and told["timed"].startswith(says)


def test_pictures_are_drawn(story: Any) -> None:
    root = story[0]
    drawn = {path.stem for path in (root / "reports/plots").glob("*.png")}
    assert drawn == {"learning_pretrain", "learning_train", "roc", "precision_recall", "reliability", "risk_coverage", "confusion", "attack", "generators"}


def test_drift_compares_incoming_with_known_through_the_champion(story: Any) -> None:
    root, _, _, before, after = story
    assert before["drift"]["status"] == "no reference"
    assert after["drift"]["status"] == "tested" and after["drift"]["n_new"] == 40
    assert {column["column"] for column in after["drift"]["columns"]} == {"face_px", "sharpness", "brightness", "yaw_degrees", "p_fake"}
    assert (root / "reports/drift/evidently.html").stat().st_size > 100_000


def test_every_gate_got_what_it_reads(story: Any) -> None:
    for returned in (story[3], story[4]):
        verdict = returned["gate"]
        lacking = [result for result in verdict["results"] if "missing" in result["reason"] or "not a" in result["reason"]]
        assert not lacking and len(verdict["results"]) >= 20 and verdict["challenger_sha256"] == returned["train"]["model_sha256"]


def test_the_page_shows_the_cycle_and_fetches_nothing(story: Any) -> None:
    root, _, second, _, _ = story
    page = write_report(root, second).read_text(encoding="utf-8")
    assert second.cycle in page and "neural" in page and page.count("data:image/png;base64,") == 9
    assert "http://" not in page and "https://" not in page and "<script" not in page
    for result in read_json(root / "reports/verdict.json")["results"]:
        assert result["gate"] in page


def test_scoring_refuses_a_changed_model_file(story: Any, tmp_path: Path) -> None:
    root = story[0]
    shutil.copytree(root / "build/model", tmp_path / "model")
    with open(tmp_path / "model/model.onnx", "r+b") as handle:
        handle.seek(2000)
        handle.write(b"\x00\x01\x02\x03")
    with pytest.raises(ModelFileError):
        score_rows(root, tmp_path / "model", read_set(root, "holdout"))


@pytest.mark.parametrize(("allowed", "served"), [(0.5, True), (1e-9, False)])
def test_int8_is_served_only_where_it_agrees_with_fp32(story: Any, tmp_path: Path, allowed: float, served: bool) -> None:
    """A network in 8 bits takes the exported file's place inside gates.max_parity, and the card says what runs; outside nothing changes."""
    from model.inference import Engine

    root = tmp_path / "w"
    shutil.copytree(story[0], root)
    plain, history = sha256_file(root / "build/model/model.onnx"), read_json(root / "build/model/history.json")
    settings = demo_settings({"gates": {"max_parity": allowed}, "serve": {"int8": True}})
    rows = train.training_rows(root)
    found = train.try_int8(root, settings, rows)
    train.write_model_card(root, settings, story[2], rows, history | {"int8": found})
    engine = Engine(root / "build/model")
    assert found["used"] is served is (found["largest_difference"] <= allowed) and found["clips"] > 0
    assert (sha256_file(root / "build/model/model.onnx") == plain) is not served
    assert engine.card.engine == ("onnxruntime-int8" if served else "onnxruntime-fp32")
    assert engine.card.metrics["int8"]["bytes"] < engine.card.metrics["int8"]["fp32_bytes"]
    assert len(engine.score_clips([np.zeros((3, *2 * (engine.card.faces.size_px,), 3), np.uint8)])) == 1


def said_of_the_data(root: Path, cycle: Cycle) -> dict[str, str]:
    """What each gate says, and the page under its heading on drift."""
    page = write_report(root, cycle).read_text(encoding="utf-8").split("<h2>Drift</h2>")[1].split("<h2>")[0]
    return {row["gate"]: row["reason"] for row in gate.run(root, SETTINGS, cycle)["results"]} | {"page": page}


def test_what_a_person_accepted_is_not_asked_whether_it_looks_right_and_a_case_is_no_sample_of_the_traffic(story: Any, tmp_path: Path) -> None:
    """Gates and page spoke of 0 videos that came in, and did not say that forty had and why they were not asked of."""
    root, _, second, _, after = story
    shutil.copytree(root, tmp_path / "w", ignore=shutil.ignore_patterns("pretrain", "hardened"))
    vouched = replace(second, vouched=second.judged)
    accepted = drift.run(tmp_path / "w", SETTINGS, vouched)
    assert accepted["n_new"] == 0 == accepted["labels"]["n_new"] and not accepted["hold"] and after["drift"]["labels"]["n_new"] > 0
    reasons = said_of_the_data(tmp_path / "w", vouched)
    assert all("Left out: 40 of batches that a person accepted." in reasons[name] for name in ("drift", "label noise", "page")), reasons
    for side in ("train", "validation", "holdout"):
        path = tmp_path / "w/data/sets" / f"{side}.parquet"
        table = pd.read_parquet(path)
        table.assign(case_id=table["case_id"].where(~table["new"].astype(bool), "case-1")).to_parquet(path)
    decided = drift.run(tmp_path / "w", SETTINGS, second)
    reasons = said_of_the_data(tmp_path / "w", second)
    assert "Left out: 40 decided cases." in reasons["drift"] and "Left out" not in reasons["label noise"] and "Left out: 40 decided cases" in reasons["page"]
    assert decided["n_new"] == 0 and decided["labels"]["n_new"] == after["drift"]["labels"]["n_new"] and decided["labels"]["corrections"] == 0
    for side in ("train", "validation", "holdout"):
        path = tmp_path / "w/data/sets" / f"{side}.parquet"
        table = pd.read_parquet(path)
        table.assign(corrects=table["new"].astype(bool)).to_parquet(path)
    corrected = drift.run(tmp_path / "w", SETTINGS, second)["labels"]
    assert corrected["n_new"] == 0 and corrected["corrections"] >= decided["labels"]["n_new"], "the champion has learned these as the other label"


def test_an_older_champion_is_scored_on_the_same_holdout_and_compared_generator_by_generator(story: Any, tmp_path: Path) -> None:
    from model.card import load_card
    from pipelines.comparison import gate_inputs
    from pipelines.predictions import predict

    root, _, second, _, _ = story
    shutil.copytree(root, tmp_path / "w", ignore=shutil.ignore_patterns("pretrain", "hardened"))
    shutil.copytree(root / "build/base", tmp_path / "w/build/base/anchor")
    cycle = replace(second, anchor_model=second.base_model, anchor_cycle="2026-W40.1")
    assert evaluate.anchor_card(tmp_path / "w", second) is None
    anchor = evaluate.anchor_card(tmp_path / "w", cycle)
    assert anchor is not None and anchor.model_sha256 == second.base_model
    table = predict(tmp_path / "w", SETTINGS, True, True)
    holdout = table["fold"] == "holdout"
    assert (table.loc[holdout, "p_anchor"] == table.loc[holdout, "p_champion"]).all() and table.loc[~holdout, "p_anchor"].isna().all()
    base = tmp_path / "w/build/base"
    found = gate_inputs(table, load_card(base), load_card(tmp_path / "w/build/model"), SETTINGS, cycle)
    assert (found["anchor"]["sha256"], found["anchor"]["cycle"]) == (second.base_model, "2026-W40.1")
    mine = [{**row, "champion_auc": row["anchor_auc"]} for row in found["anchor"]["generators"]["rows"]]
    assert [{key: value for key, value in row.items() if key != "anchor_auc"} for row in mine] == found["forgetting"]["rows"] and mine
    with pytest.raises(ModelFileError, match="not the anchor"):
        evaluate.anchor_card(tmp_path / "w", replace(cycle, anchor_model="f" * 64))
