"""params.yaml as a whole: every block, the rules across blocks, and how the file is read. Every mistake is listed at once."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from workspace.blocks import Block, Rule, every_mistake
from workspace.choices import Profile
from workspace.errors import SettingsError
from workspace.format import FORMAT, refuse_other_format
from workspace.settings.cycle import CyclePolicy, RegistrySettings, RemoteSettings, ScheduleSettings, StageVersions
from workspace.settings.data import BudgetSettings, IngestSettings, SplitSettings, ValidateSettings
from workspace.settings.judging import DriftSettings, EvaluateSettings, GateSettings
from workspace.settings.media import AugmentSettings, FaceSettings, ForgeSettings
from workspace.settings.model import HardenSettings, ModelSettings, PretrainSettings, TrainSettings
from workspace.settings.service import FeedbackSettings, ServeSettings
from workspace.settings.values import defaults


class Settings(Block):
    """Everything in params.yaml."""

    RULES = (
        # not the model's own rule: a champion that somebody trained so can still be read
        Rule(("model",), lambda model: model.dropout < 1, "model.dropout must be less than 1: what nothing comes through teaches nothing"),
        Rule(
            ("budget", "forge"),
            lambda budget, forge: not budget.forged_fraction or (forge.forgers and forge.fakes_per_real and forge.max_clips),
            "budget.forged_fraction asks for forged clips, but forge.forgers is empty, or forge.fakes_per_real or forge.max_clips is 0: none would be made",
        ),
        Rule(
            ("evaluate", "gates"),
            lambda evaluate, gates: 2 * evaluate.target_fpr <= gates.max_fpr,
            "evaluate.target_fpr exceeds half of gates.max_fpr: a threshold that aims at what the gate just allows is refused every second time, by chance",
        ),
        Rule(
            ("budget", "gates"),
            lambda budget, gates: budget.evaluation_clips_per_slice >= max(gates.min_slice, gates.min_per_class),
            "budget.evaluation_clips_per_slice is below gates.min_slice or gates.min_per_class: so few are drawn that these gates could never decide",
        ),
        Rule(
            ("budget", "gates"),
            lambda budget, gates: budget.evaluation_clips_per_slice >= gates.min_people,
            "budget.evaluation_clips_per_slice is below gates.min_people: of so many people no videos are drawn, and the gates could never decide",
        ),
        Rule(
            ("budget", "gates"),
            lambda budget, gates: 2 * (budget.attack_clips // 2) >= gates.min_slice,  # as many real ones as fakes
            "budget.attack_clips is below gates.min_slice: so few are attacked that the gate robustness could never decide",
        ),
        Rule(
            ("drift", "gates"),
            lambda drift, gates: drift.max_samples >= gates.min_slice,
            "drift.max_samples is below gates.min_slice: so few known videos are drawn that the gate label noise could never decide",
        ),
    )

    format: int = Field(FORMAT, ge=FORMAT, le=FORMAT, description="Of the workspace; `vigil upgrade` raises it, nobody else.")
    profile: Profile = Field(
        description="The profile these values came from, from which `vigil upgrade` takes new keys. It switches none; another name is a changed setting "
        "all the same, and the next cycle makes the model anew."
    )
    seed: int = Field(20261116, ge=0, le=2**32 - 1, description="Of every draw that a cycle makes.")
    ingest: IngestSettings
    faces: FaceSettings
    validate_: ValidateSettings = Field(alias="validate")
    forge: ForgeSettings
    augment: AugmentSettings
    split: SplitSettings
    budget: BudgetSettings
    model: ModelSettings
    pretrain: PretrainSettings
    train: TrainSettings
    harden: HardenSettings
    evaluate: EvaluateSettings
    drift: DriftSettings
    gates: GateSettings
    schedule: ScheduleSettings
    policy: CyclePolicy = Field(default_factory=defaults(CyclePolicy))
    serve: ServeSettings
    feedback: FeedbackSettings = Field(default_factory=defaults(FeedbackSettings))
    registry: RegistrySettings
    remote: RemoteSettings
    stage_versions: StageVersions


def load_settings(path: Path) -> Settings:
    """Read params.yaml, or stop with one line per mistake.

    Raises SettingsError for a missing file, bad YAML, an unknown key, a wrong type or an impossible combination, WorkspaceError for
    settings of another format.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = Path(path).read_text(encoding="utf-8")
        YAML(typ="safe").load(text)  # as DVC reads it, by the rules of YAML 1.1: an address without quotes inside {} is refused
        raw = YAML(typ="safe", pure=True).load(text)  # YAML 1.2, where `off` is a word and a key twice is refused
    except UnicodeDecodeError as problem:
        raise SettingsError(f"Cannot read the settings {path}.", why=f"not UTF-8: {problem}", next_step="Save the file as UTF-8.") from problem
    except OSError as problem:
        raise SettingsError(
            f"Cannot read the settings {path}.", why=str(problem), next_step="Run `vigil init FOLDER` to make a workspace, or name one with --workspace."
        ) from problem
    except (YAMLError, ValueError, RecursionError) as problem:  # also a date that is none, a number of thousands of digits, thousands of brackets
        raise SettingsError(
            f"Cannot read the settings {path}.",
            why=f"not YAML: {problem}",
            next_step='Mend what is named above (an address needs quotes: "http://host:5000"); `vigil init --print-params` prints a complete example.',
        ) from problem
    if isinstance(raw, dict) and "profile" in raw:  # else it is no settings file of any format
        refuse_other_format(Path(path))
    return parse_settings(raw, where=str(path))


def parse_settings(raw: Any, where: str = "params.yaml") -> Settings:
    """Check a mapping against the settings. Raises SettingsError listing every mistake."""
    if not isinstance(raw, dict):
        raise SettingsError(
            f"Cannot use {where}. Nothing was changed.",
            why="it is empty, or holds something else than `key: value` lines",
            next_step="Bring it back (`git checkout params.yaml`), or start from `vigil init --print-params`.",
        )
    try:
        return Settings.model_validate(raw)
    except ValidationError as problem:
        mistakes = "\n        ".join(every_mistake(Settings, raw, problem))
        raise SettingsError(
            f"Cannot use {where}. Nothing was changed.", why=mistakes, next_step="Mend these lines; `vigil init --print-params` prints a complete example."
        ) from problem
