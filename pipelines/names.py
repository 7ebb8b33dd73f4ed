"""Names in the settings that only stages can resolve, looked at before a cycle begins: else they are refused after hours of other work."""

from pathlib import Path

from pipelines.forge import refuse_unknown_forgers
from workspace.journal import Journal
from workspace.settings import Settings
from workspace.state import champion, open_cycle

USUAL = ("resnext50_32x4d", "resnext_small", "resnext_tiny")  # of the profiles: known without torch, which takes seconds to import
USUAL_SIDE = 16  # and known to take pictures whose side is a multiple of this


def refuse_unknown_names(root: Path, settings: Settings) -> None:
    """Raise DataError for a forger, SettingsError for a backbone or weights that nobody has, or a backbone that does not take pictures of the size or in
    the number that it would be shown, ModelFileError for weights that do not fit it, or whose file is not there where the next model would start from it.
    """
    refuse_unknown_forgers(settings.forge)
    name, weights, side = settings.model.backbone, settings.model.weights, settings.faces.size_px // settings.model.shrink
    known = name in USUAL and side >= USUAL_SIDE and side % USUAL_SIDE == 0
    if known and not weights and settings.pretrain.fewest_at_once > 1:
        return
    from model.backbones import refuse_lone_pictures, refuse_side, refuse_unknown_backbone, refuse_unknown_weights
    from pipelines.pretrain import rooted

    refuse_unknown_backbone(name)
    refuse_side(name, side)
    if settings.pretrain.fewest_at_once == 1:
        refuse_lone_pictures(name, side)
    # published ones beside a champion, too: the attacker of stage `evaluate` starts from them
    if weights and (weights.isidentifier() or _starts_anew(root, settings)):
        refuse_unknown_weights(name, rooted(root, weights), side)


def _starts_anew(root: Path, settings: Settings) -> bool:
    """Whether a cycle is to begin whose model would not start from the champion; what is not on this machine is taken to fit."""
    events = Journal(root).events()
    leading = champion(events)
    if open_cycle(events) is not None:
        return False
    if leading is None:
        return True
    from model.card import CARD, load_card
    from model.network import ResNeXtLSTM
    from pipelines.pretrain import same_shape

    folder = root / leading.path
    if not (folder / CARD).is_file():
        return False
    card = load_card(folder)
    if card.model is None:
        return True
    both = ((card.model, card.faces.size_px), (settings.model, settings.faces.size_px))
    return not same_shape(*(ResNeXtLSTM(about.model_copy(update={"weights": ""}), size_px) for about, size_px in both))
