"""The settings of a workspace: `params.yaml`, read once into frozen blocks, a file each area. Import them from here."""

from workspace.settings.cycle import STAGES, CyclePolicy, RegistrySettings, RemoteSettings, ScheduleSettings, StageVersions
from workspace.settings.data import BudgetSettings, IdentityRule, IngestSettings, SourceSettings, SplitSettings, ValidateSettings
from workspace.settings.judging import DriftSettings, EvaluateSettings, GateSettings
from workspace.settings.media import AugmentSettings, FaceSettings, ForgeSettings, PluginSettings, check_mode
from workspace.settings.model import HardenSettings, ModelSettings, PhaseSettings, PretrainSettings, TrainSettings
from workspace.settings.params import Settings, load_settings, parse_settings
from workspace.settings.service import FeedbackSettings, PolicySettings, QueueSettings, RetentionSettings, ServeSettings, WorkerSettings

__all__ = [
    "STAGES",
    "AugmentSettings",
    "BudgetSettings",
    "CyclePolicy",
    "DriftSettings",
    "EvaluateSettings",
    "FaceSettings",
    "FeedbackSettings",
    "ForgeSettings",
    "GateSettings",
    "HardenSettings",
    "IdentityRule",
    "IngestSettings",
    "ModelSettings",
    "PhaseSettings",
    "PluginSettings",
    "PolicySettings",
    "PretrainSettings",
    "QueueSettings",
    "RegistrySettings",
    "RemoteSettings",
    "RetentionSettings",
    "ScheduleSettings",
    "ServeSettings",
    "Settings",
    "SourceSettings",
    "SplitSettings",
    "StageVersions",
    "TrainSettings",
    "ValidateSettings",
    "WorkerSettings",
    "check_mode",
    "load_settings",
    "parse_settings",
]
