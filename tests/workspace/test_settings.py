"""Settings: every profile is valid, every mistake is named, and the page about them says what the code says."""

import copy
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from workspace.choices import PROFILES
from workspace.errors import SettingsError
from workspace.profiles import RECIPES, compose_params, project_root, recipes
from workspace.settings import (
    STAGES,
    GateSettings,
    HardenSettings,
    PluginSettings,
    Settings,
    SourceSettings,
    StageVersions,
    TrainSettings,
    load_settings,
    parse_settings,
)
from workspace.settings_docs import settings_table
from workspace.upgrade import upgraded_params


def params(profile: str = "full", recipe: str = "") -> dict[str, Any]:
    return YAML(typ="safe", pure=True).load(compose_params(profile, recipe))


def mistakes_of(raw: Any) -> str:
    with pytest.raises(SettingsError) as refusal:
        parse_settings(raw)
    return refusal.value.why


def test_the_top_level_params_are_the_full_profile():
    assert load_settings(project_root() / "params.yaml") == parse_settings(params("full"))


@pytest.mark.parametrize("recipe", recipes())
def test_each_recipe_changes_something_and_composes_with_each_profile(recipe):
    for profile in PROFILES:
        text = compose_params(profile, recipe)
        assert text != compose_params(profile) and YAML(typ="safe", pure=True).load(text)["profile"] == profile


NO_ATTACKS = {"train.adversarial_steps": 0, "budget.hardened_clips": 0}
THIRTY = {"faces.clip_frames": 30, "faces.fps": 30.0}
CLAIMS: dict[str, dict[str, dict[str, Any]]] = {  # recipe -> words of its first line -> what they mean
    "adversarial": {
        "PGD at 0.05": {"harden.eps": 0.05, "train.adversarial_eps": 0.05},
        "half of every batch": {"train.adversarial_fraction": 0.5, "train.adversarial_steps": 3},
        "a tenth newly forged": {"budget.forged_fraction": 0.1},
    },
    "certainty": {
        "by their certainty": {"model.certainty_attention": True, "model.spatial_attention": False},
        "a BiLSTM of 256 units": {"model.temporal": "lstm", "model.lstm_hidden": 256, "model.bidirectional": True},
        "over 30 of them": THIRTY,
        "CNN and LSTM fused 40 to 60": {"model.fusion_cnn": 0.4, "model.fusion_learned": False},
        "No attacks": NO_ATTACKS,
    },
    "resnext-lstm": {
        "ResNeXt-50": {"model.backbone": "resnext50_32x4d"},
        "an LSTM": {"model.temporal": "lstm", "model.bidirectional": False, "model.fusion_cnn": 0.0},
        "over 30 of them": THIRTY,
        "cross-entropy": {"train.loss": "bce", "train.wasserstein": 0.0, "pretrain.locate": 0.0},
        "No attention": {"model.certainty_attention": False, "model.spatial_attention": False},
        "no attacks": NO_ATTACKS,
    },
    "spatial-attention": {
        "Attention on eyes, lips and skin": {"model.spatial_attention": True, "model.certainty_attention": False},
        "(40, 35 and 25 parts of 100)": {"model.spatial_prior": (0.40, 0.35, 0.25)},
        "CNN and LSTM fused 60 to 40": {"model.fusion_cnn": 0.6, "model.fusion_learned": False},
        "80% cross-entropy": {"train.loss": "bce", "pretrain.locate": 0.0},
        "20% Wasserstein": {"train.wasserstein": 0.2},
        "No attacks": NO_ATTACKS,
    },
    "starter": {"from published weights": {"model.weights": "IMAGENET1K_V1"}, "forged ones alone": NO_ATTACKS},
}


@pytest.mark.parametrize("recipe", recipes())
def test_each_recipe_is_what_its_first_line_says(recipe):
    """One that said "no attacks" trained on clips of PGD, and 80% cross-entropy was focal loss, of which a clip at 0.8 counts a twenty-fifth."""
    said = (RECIPES / f"{recipe}.yaml").read_text().splitlines()[0]
    assert [words for words in CLAIMS[recipe] if words not in said] == []
    for profile in PROFILES:
        found = parse_settings(params(profile, recipe))
        for words, meant in CLAIMS[recipe].items():
            got = {name: getattr(getattr(found, name.split(".")[0]), name.split(".")[1]) for name in meant}
            assert got == meant, f"{recipe} over {profile}: {words}"
        attacked = found.train.adversarial_steps > 0
        assert attacked == (found.budget.hardened_clips > 0) == (recipe == "adversarial"), "what is stored and what is attacked on the way go together"


@pytest.mark.parametrize("recipe", recipes())
def test_a_recipe_says_which_gate_it_cannot_pass_by_the_bounds_of_full(recipe):
    plain, found = parse_settings(params("full")), parse_settings(params("full", recipe))
    head = (RECIPES / f"{recipe}.yaml").read_text().split("\nfaces:")[0].split("\nbudget:")[0]
    slow = found.model.backbone == plain.model.backbone and found.faces.clips_per_video * found.faces.clip_frames >= 120
    bare = found.train.adversarial_steps == 0 and found.budget.hardened_clips == 0
    assert ("gates.max_latency_seconds" in head) == slow and ("gates.min_whitebox" in head) == bare
    told = project_root().joinpath("README.md").read_text(encoding="utf-8").split("**How much it takes.**")[1].split("No media at hand?")[0]
    assert (f"`{recipe}`" in told) == (slow or not bare)


def test_the_recipes_are_named_in_the_help_and_another_is_refused():
    from typer.testing import CliRunner

    from vigil.main import app

    said = "".join(CliRunner().invoke(app, ["init", "--help"]).output.split())  # lines are broken anywhere
    assert recipes() and all(recipe in said for recipe in recipes())
    with pytest.raises(SettingsError, match="no recipe 'magic'"):
        compose_params("demo", "magic")


@pytest.mark.parametrize("profile", ["full", "small"])
def test_where_pairs_are_wanted_as_many_clips_are_forged_as_new_ones_are_drawn(profile):
    """A batch of 10,000 real clips had 2,000 forgeries: one fake in five stood beside its real."""
    settings = parse_settings(params(profile))
    assert settings.pretrain.pairs and settings.forge.fakes_per_real >= 1 and settings.forge.max_clips >= settings.budget.new_clips


@pytest.mark.parametrize("profile", PROFILES)
def test_each_profile_composes_to_valid_settings_and_keeps_the_comments(profile, tmp_path):
    text = compose_params(profile)
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    settings = load_settings(tmp_path / "params.yaml")
    assert settings.profile == profile
    assert "# Every setting of a workspace" in text and "values of the `full`" not in text and "# a scheduled cycle finds its media here" in text
    assert compose_params(profile) == text


@pytest.mark.parametrize(
    ("url", "endpoint", "said"),
    [
        ("../store", "http://127.0.0.1:9", "goes with an s3:// url only"),
        ("ssh://host/x", "", "neither a folder nor s3"),
        ("s3://b/x", "http://e", ""),
        ("", "", ""),
    ],
)
def test_a_remote_is_a_folder_or_s3_and_only_that_has_an_endpoint(url, endpoint, said):
    """Others were found out by DVC, in the middle of a cycle, and told as a mistake in Vigil."""
    raw = params() | {"remote": {"url": url, "s3_endpoint_url": endpoint}}
    assert said in mistakes_of(raw) if said else parse_settings(raw)


def test_an_overlay_changes_what_it_names_and_nothing_else():
    full, demo = params("full"), params("demo")
    overlay = YAML(typ="safe", pure=True).load((project_root() / "workspace" / "profiles" / "demo.yaml").read_text(encoding="utf-8"))
    for block, values in full.items():
        changed = overlay.get(block, {})
        if isinstance(values, dict):
            assert demo[block] == {**values, **changed}


def test_an_unknown_profile_is_refused():
    with pytest.raises(SettingsError, match="full, small, demo"):
        compose_params("huge")


def test_params_yaml_names_every_key_of_the_code():
    def missing(raw: Any, model: Any) -> list[str]:
        dumped = model.model_dump(mode="json", by_alias=True)
        return [f"{block}.{key}" for block, values in dumped.items() if isinstance(values, dict) for key in values if key not in raw[block]]

    assert missing(params(), parse_settings(params())) == []


def test_the_gates_in_params_yaml_are_the_production_bounds_of_the_code():
    assert parse_settings(params()).gates == GateSettings()


def test_every_stage_has_a_version():
    assert {field.alias or name for name, field in StageVersions.model_fields.items()} == set(STAGES)


def test_all_mistakes_are_listed_in_one_error():
    raw = params()
    raw["colour"] = "blue"  # unknown block
    raw["gates"]["min_aux"] = 0.9  # unknown key
    raw["faces"]["size_px"] = "224"  # wrong type ...
    raw["faces"]["min_clip_frames"] = 99  # ... and an impossible combination in the same block
    raw["split"]["holdout"] = 0.5  # impossible combination in another block
    raw["train"] = {"steps": 10, "batch": 10, "micro_batch": 4}  # a missing key beside an impossible combination
    raw["forge"]["forgers"] = []  # impossible across two blocks
    why = mistakes_of(raw)
    for expected in (
        "colour:",
        "gates.min_aux:",
        "faces.size_px:",
        "min_clip_frames (99) exceeds",
        "must be 1",
        "train.lr: Field required",
        "multiple of micro_batch",
        "forge.forgers is empty",
    ):
        assert expected in why
    assert len(why.splitlines()) == 8


def change(path: str, value: Any) -> dict[str, Any]:
    raw = copy.deepcopy(params())
    node = raw
    *parents, last = path.split(".")
    for key in parents:
        node = node[key]
    node[last] = value
    return raw


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("seed", True, "seed"),
        ("seed", 1.5, "seed"),
        ("seed", -1, "seed"),
        ("seed", 2**32, "4294967295"),
        ("faces.fps", "30", "faces.fps"),
        ("faces.workers", -1, "faces.workers"),
        ("faces.mode", "slow", "faces.mode"),
        ("gates.hold_on_drift", 1, "gates.hold_on_drift"),
        ("gates.max_fpr", float("nan"), "gates.max_fpr"),
        ("gates.hold_alpha", 1e-9, "gates.hold_alpha"),  # nothing is shown at such a level: five gates held nothing, and their bounds looked like production's
        ("gates.alpha", 0.499, "gates.alpha"),
        ("model.spatial_prior", [0.5, 0.5, 0.5], "sum to 1"),
        ("model.spatial_prior", [1.0], "spatial_prior"),
        ("model.dropout", 1.0, "less than 1"),
        ("model.dropout", 1.1, "model.dropout"),
        ("pretrain.weight_decay", float("inf"), "finite"),
        ("train.weight_decay", float("inf"), "finite"),
        ("gates.max_log_loss_rise", float("inf"), "finite"),  # a card and a verdict, which hold no such number, said null: as if the bound had not been set
        ("registry.experiment", "", "registry.experiment"),  # MLflow refuses it, once a cycle had trained
        ("budget.hardened_clips", 1, "attacks none"),
        ("harden.step_size", 0.001, "cannot reach its own bound"),
        ("harden.eps", 0.003, "harden.eps"),
        ("evaluate.attacks", ["square"], "name pgd or apgd"),
        ("drift.min_samples", 1001, "exceeds max_samples"),
        ("drift.alpha", 0.001, "cannot show a p-value"),
        ("evaluate.attack_eps", [0.1, 0.0], "must rise from 0.0"),
        ("evaluate.attack_eps", [], "must rise from 0.0"),
        ("evaluate.target_fpr", 0.2, "exceeds half of gates.max_fpr"),
        ("budget.evaluation_clips_per_slice", 29, "below gates.min_slice"),
        ("budget.attack_clips", 29, "the gate robustness could never decide"),
        ("drift.max_samples", 29, "the gate label noise could never decide"),
        ("gates.min_people", 900, "below gates.min_people"),
        ("schedule.timezone", "Mars/Olympus", "is not known"),
        ("schedule.timezone", "../etc/passwd", "is not known"),
        ("registry.tracking_uri", "file:///tmp/x", "registry.tracking_uri"),
        ("ingest.sources", [{"name": "a", "path": "x"}, {"name": "a", "path": "y"}], "share a name"),
        ("forge.forgers", ["self_blend", "landmark_swap", "self_blend"], "named twice"),
        ("ingest.sources", [{"name": "a", "path": "x", "identity": {"rule": "pattern"}}], "`pattern` goes with rule"),
        ("ingest.sources", [{"name": "a", "path": "x", "identity": {"rule": "pattern", "pattern": "(("}}], "regular expression with one group"),
        ("ingest.sources", [{"name": "a", "path": "x", "label_map": {"0": "authentic"}}], "label_map"),
        ("serve.trusted_proxies", ["proxy.example"], "not a name"),
        ("serve.trusted_proxies", ["*"], "not a name"),
        ("serve.host_names", ["vigil.example.org:8000"], "without https://, port"),
        ("serve.host_names", ["https://vigil.example.org"], "without https://, port"),
        ("serve.host_names", ["vigil.example.org."], "a dot at its end"),
        ("feedback.workers.queue_length", 31, "max_batch_files is more than workers.queue_length"),  # 429, "send it again later", for ever
        ("feedback.reference_hosts", ["https://media.example.org"], "reference_hosts: each is a name alone"),  # it was accepted, and nothing was ever of it
        ("feedback.reference_hosts", ["media.example.org", "media.example.org:8443"], "without https://, port"),
        ("feedback.reference_hosts", ["s3://bucket/"], "with nothing behind it"),
        ("feedback.webhook_hosts", ["hooks.example.org/"], "webhook_hosts: each is a name alone"),
        ("feedback.webhook_hosts", ["s3://bucket"], "webhook_hosts: each is a name alone"),
        ("feedback.workers.lease_seconds", 10**12, "less than or equal to"),  # nothing could be claimed, which the log said every second
        ("feedback.workers.decode_seconds", 10**17, "less than or equal to"),  # these two ended each process that opens media: "damaged", of every file
        ("feedback.workers.decode_memory_bytes", 10**19, "less than or equal to"),
        ("schedule.stage_timeout_seconds", 10**10, "less than or equal to"),  # the thread that waits so long died, and no stage was ended
        ("train", None, "train"),
        ("train", [], "train"),
    ],
)
def test_a_wrong_value_is_refused_by_name(path, value, says):
    assert says in mistakes_of(change(path, value))


@pytest.mark.parametrize(("key", "nothing"), [("forgers", []), ("fakes_per_real", 0.0), ("max_clips", 0)])
def test_forged_clips_are_asked_for_only_where_some_are_made(key, nothing):
    """The last two were accepted: hours later there was no fake to train on, and more media were asked for."""
    raw = change(f"forge.{key}", nothing)
    why = mistakes_of(raw)
    assert "budget.forged_fraction" in why and f"forge.{key}" in why
    raw["budget"]["forged_fraction"] = 0.0
    parse_settings(raw)


def test_a_critic_needs_a_part_of_the_loss_that_reaches_the_heads():
    """By the critic alone, which reads the embedding, phase 2 trained neither LSTM nor head, in silence."""
    raw = change("train.wasserstein", 1.0)
    parse_settings(raw)
    raw["train"]["distance"] = "critic"
    assert "wasserstein (1) must be less than 1 with distance: critic" in mistakes_of(raw)
    raw["train"]["wasserstein"] = 0.99
    parse_settings(raw)


def test_attacks_during_training_need_a_step_after_the_warm_up():
    """They begin after it, which no sentence said: `warmup: 1` gave a model that no attacked clip was shown to, whatever was asked for."""
    raw = change("train.warmup", 1.0)
    assert "warmup (1) leaves no step" in mistakes_of(raw)
    for off in ("adversarial_fraction", "adversarial_eps", "adversarial_steps"):
        parse_settings({**raw, "train": {**raw["train"], off: type(raw["train"][off])(0)}})
    raw["train"]["warmup"] = 0.99
    parse_settings(raw)
    description = TrainSettings.model_fields["adversarial_fraction"].description
    assert description is not None and "`warmup`" in description


@pytest.mark.parametrize(("size", "steps", "eps"), [(0.009, 3, 0.027), (0.009, 11, 0.099), (0.0003, 17, 0.0051), (0.0125, 4, 0.05)])
def test_steps_that_reach_the_bound_exactly_are_enough(size, steps, eps):
    """By the digits of floating point 0.009 * 3 is less than 0.027, and was refused as too small."""
    assert HardenSettings(eps=eps, steps=steps, step_size=size).eps == eps
    with pytest.raises(ValueError, match="cannot reach its own bound"):
        HardenSettings(eps=eps + 1e-6, steps=steps, step_size=size)


@pytest.mark.parametrize("raw", [None, [], "text", 3])
def test_something_that_is_no_mapping_is_refused(raw):
    mistakes_of(raw)


def test_a_source_reaches_the_settings_with_its_identity_rule():
    source = {
        "name": "phone",
        "path": "media",
        "layout": "folder",
        "identity": {"rule": "pattern", "pattern": "^(p[0-9]+)_"},
        "label_map": {"0": "real", "1": "fake"},
    }
    settings = parse_settings(change("ingest.sources", [source]))
    assert settings.ingest.sources[0].identity.pattern == "^(p[0-9]+)_"


@pytest.mark.parametrize(("path", "is_read"), [("http://x/y", False), ("s3:///x", False), (" ", False), ("s3://bucket", True), ("media/of:2026", True)])
def test_a_source_that_no_run_can_read_is_refused_when_the_settings_are_read(path, is_read):
    """An address in params.yaml was taken for a folder that may be there next week, every week."""
    raw = params()
    raw["ingest"]["sources"] = [{"name": "web", "path": path}]
    assert parse_settings(raw) if is_read else "s3://BUCKET/PREFIX" in mistakes_of(raw)


def test_hosts_that_can_be_met_are_accepted():
    hosts = ["media.example.org", "localhost", "10.0.0.7", "::1", "s3://bucket"]
    assert parse_settings(change("feedback.reference_hosts", hosts)).feedback.reference_hosts == tuple(hosts)
    assert parse_settings(change("feedback.webhook_hosts", hosts[:-1])).feedback.webhook_hosts == tuple(hosts[:-1])


def test_settings_cannot_be_changed_after_reading():
    with pytest.raises(ValueError, match="frozen"):
        parse_settings(params()).faces.size_px = 1  # type: ignore[misc]


def test_a_key_given_twice_is_refused_instead_of_the_last_one_winning(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(compose_params("demo") + "seed: 1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="duplicate key"):
        load_settings(path)


def test_numbers_are_read_as_dvc_reads_them(tmp_path):
    # YAML 1.1 takes 1e-3 for text; DVC reads YAML 1.2.
    path = tmp_path / "params.yaml"
    path.write_text(compose_params("demo").replace("max_parity: 0.001", "max_parity: 1e-3"), encoding="utf-8")
    assert load_settings(path).gates.max_parity == 0.001


def test_an_address_without_quotes_that_dvc_cannot_read_is_refused_here_and_not_by_dvc(tmp_path):
    path = tmp_path / "params.yaml"
    text = compose_params("demo").replace('tracking_uri: "sqlite:///mlflow.db"', "tracking_uri: http://mlflow:5000")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="not YAML") as refusal:
        load_settings(path)
    line = next(number for number, line in enumerate(text.splitlines(), 1) if "http://mlflow" in line)
    assert f"line {line}" in refusal.value.why and "quotes" in refusal.value.next_step
    path.write_text(text.replace("http://mlflow:5000", '"http://mlflow:5000"'), encoding="utf-8")
    assert load_settings(path).registry.tracking_uri == "http://mlflow:5000"


@pytest.mark.parametrize("content", [b"profile: [", b"\xff\xfe\x00", b""])
def test_a_file_that_is_no_settings_file_is_refused(tmp_path, content):
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(SettingsError):
        load_settings(tmp_path / "params.yaml")


@pytest.mark.parametrize("value", ["2020-13-45", "9" * 5000, "[" * 3000 + "]" * 3000], ids=["no date", "a long number", "deep"])
def test_what_yaml_cannot_make_a_value_of_is_a_mistake_in_the_file_and_not_in_vigil(tmp_path, value):
    text = compose_params("demo") + f"x: {value}\n"
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"params\.yaml") as refusal:
        load_settings(tmp_path / "params.yaml")
    assert "not YAML" in refusal.value.why
    with pytest.raises(SettingsError, match=r"params\.yaml"):
        upgraded_params(text)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(SettingsError, match="vigil init"):
        load_settings(tmp_path / "params.yaml")


def test_the_settings_page_is_what_the_code_says():
    page = (project_root() / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == settings_table(), "run: python -m workspace.settings_docs > docs/settings.md"


def test_the_settings_page_describes_every_key():
    rows = [line for line in settings_table().splitlines() if line.startswith("| `")]
    assert [row for row in rows if row.rstrip(" |").endswith("|") or row.endswith("|  |")] == []
    keys = {row.split("`")[1] for row in rows}

    def walk(model: Any, at: str) -> None:
        for name, value in model:
            alias = type(model).model_fields[name].alias or name
            if hasattr(value, "model_dump"):
                walk(value, f"{at}{alias}.")
            else:
                assert f"{at}{alias}" in keys

    walk(Settings.model_validate(params()), "")
    for entry in (SourceSettings, PluginSettings):  # blocks that only a list holds
        assert set(entry.model_fields) <= {key.partition(".")[0] for key in keys}
    assert not [row for row in rows if "None" in row], "YAML says null"


def test_reading_is_safe_with_a_path_given_as_text(tmp_path):
    (tmp_path / "params.yaml").write_text(compose_params("small"), encoding="utf-8")
    assert load_settings(Path(str(tmp_path / "params.yaml"))).profile == "small"
