"""Names in the settings that only stages can resolve, looked at before a cycle begins: else they are refused after hours of other work."""

from pipelines.forge import refuse_unknown_forgers
from workspace.settings import Settings

USUAL = ("resnext50_32x4d", "resnext_small", "resnext_tiny")  # of the profiles: known without torch, which takes seconds to import
USUAL_SIDE = 16  # and known to take pictures whose side is a multiple of this


def refuse_unknown_names(settings: Settings) -> None:
    """Raise DataError for a forger, SettingsError for a backbone that nobody has, or that does not take pictures of the size that it would be shown."""
    refuse_unknown_forgers(settings.forge)
    side = settings.faces.size_px // settings.model.shrink
    if settings.model.backbone in USUAL and side >= USUAL_SIDE and side % USUAL_SIDE == 0:
        return
    from model.backbones import refuse_side, refuse_unknown_backbone

    refuse_unknown_backbone(settings.model.backbone)
    refuse_side(settings.model.backbone, side)
