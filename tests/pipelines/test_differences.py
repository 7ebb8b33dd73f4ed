"""`vigil models diff` as text: what differs is told whole, and what a card does not say is not told as nothing."""

from pathlib import Path
from typing import Any

from model.card import write_card
from model.foreign import Contract
from tests.pipelines.small_world import demo_settings
from vigil.differences import diff_models, render_diff
from vigil.importing import new_card


def shown(root: Path, **cards: dict[str, Any]) -> list[str]:
    """The lines that two cards with these changes make, those of the header left out."""
    for number, (cycle, changes) in enumerate(cards.items()):
        made = new_card(demo_settings(), Contract(), model_sha256=f"{number}" * 64, onnx_sha256="a" * 64, model=None)
        (root / "models" / cycle).mkdir(parents=True)
        write_card(root / "models" / cycle, made.model_copy(update={"train_clips": ("clip",), **changes}))
    return render_diff(diff_models(root, *cards)).splitlines()[1:]


def test_what_differs_is_told_whole(tmp_path: Path) -> None:
    """A name of 28 letters ran into its value, two lists that differ looked equal, and so did numbers that differ in the fifth digit."""
    few, more = ["self_blend", "landmark_swap"], ["self_blend", "landmark_swap", "reenact", "restore"]
    one = {"budget": {"evaluation_clips_per_slice": 150}, "forge": {"forgers": few, "methods": {"warp": 1}}, "train": {"lr": 0.00030001}}
    two = {"budget": {"evaluation_clips_per_slice": 60}, "forge": {"forgers": more}, "train": {"lr": 0.00030002}}
    lines = shown(tmp_path, first={"settings": one, "levels": (-0.16848988831043243, 1.3)}, second={"settings": two, "levels": (-0.16848988831043243, 4.9)})
    rows = [line.split() for line in lines]
    assert ["levels", "[-0.1685,", "1.3]", "[-0.1685,", "4.9]"] in rows
    assert ["budget.evaluation_clips_per_slice", "150", "60"] in rows and ["train.lr", "0.00030001", "0.00030002"] in rows
    assert ["forge.methods.warp", "1", "-"] in rows, "a block that one of them lacks is no value"
    at = lines.index("forge.forgers")
    assert lines[at + 1 : at + 3] == ["  first: [self_blend, landmark_swap]", "  second: [self_blend, landmark_swap, reenact, restore]"]


def test_what_a_card_does_not_list_is_not_known_and_not_nothing(tmp_path: Path) -> None:
    """Of an import it said `0 in both, 0 only in the first` of clips that nobody knows, and gave all settings of the other as differences."""
    lines = shown(tmp_path, imported={"train_clips": (), "settings": {}}, second={"settings": {"budget": {"new_clips": 60}}})
    assert [line for line in lines if line.startswith(("training clips", "settings", "budget"))] == [
        "training clips: not known of imported", "settings: not known of imported"
    ]  # fmt: skip
