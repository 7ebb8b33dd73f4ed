"""Names in the settings that only stages can resolve, looked at before a cycle begins: else they are refused after hours of other work."""

from pipelines.forge import refuse_unknown_forgers
from workspace.settings import Settings

USUAL = ("resnext50_32x4d", "resnext_small", "resnext_tiny")  # of the profiles: known without torch, which takes seconds to import


def refuse_unknown_names(settings: Settings) -> None:
    """Raise DataError for a forger, SettingsError for a backbone that nobody has."""
    refuse_unknown_forgers(settings.forge)
    if settings.model.backbone not in USUAL:
        from model.backbones import refuse_unknown_backbone

        refuse_unknown_backbone(settings.model.backbone)
