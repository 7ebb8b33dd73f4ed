"""Explanations must depend on what the network has learned: a planted mark is found by a trained one and not by a random one."""

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch

from model.data import MemoryClips
from model.explain import REGIONS, ClipExplanation, MeshEvidence, explain_clip, explain_verdict, mesh_evidence, sentence
from model.inference import UNLIKE, FileVerdict
from model.network import ResNeXtLSTM
from model.training import pretrain
from tests.faces import rendered_clips
from tests.model.toys import SMALL, lively_model
from workspace.settings import PretrainSettings

SIDE, MARK, CLIPS = 64, 14, 50


def planted(rng: np.random.Generator, fake: bool, frames: int = 2) -> tuple[np.ndarray, tuple[int, int]]:
    """Cells of 2 px, lighter or darker by chance [T, 64, 64, 3]; a fake has a patch of 14 px somewhere in which they alternate.

    Patch and surroundings have one mean and one spread: only who knows the pattern can find it.
    """
    signs = rng.integers(0, 2, (SIDE // 2, SIDE // 2)) * 2 - 1
    top, left = (2 * int(place) for place in rng.integers(4, (SIDE - MARK - 6) // 2, 2))
    if fake:
        y, x = np.mgrid[: MARK // 2, : MARK // 2]
        signs[top // 2 : (top + MARK) // 2, left // 2 : (left + MARK) // 2] = (x + y) % 2 * 2 - 1
    cells = 120 + 34.0 * signs.repeat(2, axis=0).repeat(2, axis=1)[None, :, :, None]
    clip = cells + rng.normal(0, 6, (frames, SIDE, SIDE, 3))
    return clip.clip(0, 255).astype(np.uint8), (top, left)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> ResNeXtLSTM:
    """A small network that tells planted marks from plain noise."""
    rng = np.random.default_rng(0)
    clips = [planted(rng, bool(n % 2))[0] for n in range(160)]
    rows = pd.DataFrame([{"clip_id": f"{n:03d}", "label": "fake" if n % 2 else "real", "role": "new", "new": True} for n in range(160)])
    torch.manual_seed(0)
    network = ResNeXtLSTM(SMALL, SIDE)
    settings = PretrainSettings(steps=90, batch=16, micro_batch=16, lr=0.003, validate_every=90, precision="fp32")
    report = pretrain(network, MemoryClips(rows, clips), MemoryClips(rows[:40], clips[:40]), settings, 0, tmp_path_factory.mktemp("explain"))
    assert report.history[-1]["val_auc"] > 0.95
    return network


def found(network: ResNeXtLSTM) -> float:
    """The share of planted marks of which the top tenth of the map of their frame covers at least a half."""
    rng, hits = np.random.default_rng(1), 0
    for _ in range(CLIPS):
        clip, (top, left) = planted(rng, True)
        heat = explain_clip(network, clip, towards_fake=True).heat[0]
        hottest = heat >= max(np.quantile(heat, 0.9), 1e-9)
        hits += bool(hottest[top : top + MARK, left : left + MARK].mean() >= 0.5)
    return hits / CLIPS


def test_a_planted_mark_is_found_by_a_trained_network_and_not_by_a_random_one(trained: ResNeXtLSTM) -> None:
    assert found(trained) >= 0.7
    torch.manual_seed(3)
    assert found(ResNeXtLSTM(SMALL, SIDE)) <= 0.25


def test_other_weights_give_another_map(trained: ResNeXtLSTM) -> None:
    rng = np.random.default_rng(5)
    torch.manual_seed(4)
    other, shared = ResNeXtLSTM(SMALL, SIDE), []
    for _ in range(10):
        clip, _ = planted(rng, True)
        heats = [explain_clip(network, clip, towards_fake=True).heat[0] for network in (trained, other)]
        hottest, others = (heat >= max(np.quantile(heat, 0.9), 1e-9) for heat in heats)
        shared.append((hottest & others).sum() / (hottest | others).sum())
    assert np.mean(shared) < 0.5, shared


def test_the_figures_are_those_of_the_network_and_the_parts_sum_to_one() -> None:
    network = lively_model()
    clip = np.random.default_rng(0).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    said = explain_clip(network, clip)
    with torch.no_grad():
        ours = network.forward_all(torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255)
    assert said.logit == pytest.approx(float(ours.logits[0]), abs=1e-5)
    np.testing.assert_allclose(said.certainty, ours.certainty[0].numpy(), atol=1e-5)
    assert said.heat.shape == (4, 32, 32) and said.heat.min() >= 0 and said.heat.max() == pytest.approx(1.0)
    assert said.change[0] == 0 and (said.change[1:] > 0).all()
    assert set(said.regions()) == set(REGIONS) and sum(said.regions().values()) == pytest.approx(1.0, abs=0.05)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    np.testing.assert_allclose(explain_clip(network, clip, temperature=2.0, offset=-0.5).frame_p, torch.sigmoid(ours.frame_logits[0] / 2 - 0.5), atol=1e-5)


@pytest.mark.parametrize("bias", [-3.0, 3.0])
def test_unless_it_is_said_otherwise_the_heat_speaks_for_what_the_network_said(bias: float) -> None:
    network, clip = lively_model(), np.random.default_rng(2).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        network.frame_head.bias.fill_(bias)
        network.temporal_head.bias.fill_(bias)
    said = explain_clip(network, clip)
    assert (said.logit > 0) == (bias > 0)
    heats = {towards: explain_clip(network, clip, towards_fake=towards).heat for towards in (True, False)}
    np.testing.assert_array_equal(said.heat, heats[bias > 0])
    assert np.abs(said.heat - heats[bias < 0]).max() > 0.1


def test_an_explanation_leaves_the_network_as_it_was() -> None:
    """What stays hooked to a network that explains many clips grows with each, and weights that were frozen would learn from then on."""
    network, clip = lively_model().requires_grad_(False), np.random.default_rng(3).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    frames = torch.from_numpy(clip).permute(0, 3, 1, 2)[None].float() / 255
    before = network.forward_all(frames)
    explain_clip(network, clip)
    after = network.forward_all(frames)
    assert torch.equal(before.logits, after.logits) and not after.logits.requires_grad
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_change_of_a_frame_is_how_far_the_state_moved_since_the_one_before() -> None:
    network, clip = lively_model(), np.random.default_rng(4).integers(0, 255, (4, 32, 32, 3)).astype(np.uint8)
    states: list[np.ndarray] = []
    hook = network.temporal.register_forward_hook(lambda module, given, made: states.append(made[0][0].detach().numpy()))
    found = explain_clip(network.train(), clip)
    hook.remove()
    np.testing.assert_allclose(found.change[1:], np.sqrt(np.square(np.diff(states[0], axis=0)).sum(1)), rtol=1e-5)
    assert found.logit == explain_clip(network.eval(), clip).logit, "nothing is dropped by chance, however the network was handed over"


def test_a_network_that_nothing_moves_has_no_heat() -> None:
    network, clip = lively_model(), np.random.default_rng(5).integers(0, 255, (2, 32, 32, 3)).astype(np.uint8)
    with torch.no_grad():
        for head in (network.frame_head, network.temporal_head):
            head.weight.zero_()
    found = explain_clip(network, clip)
    assert not found.heat.any() and found.regions() == dict.fromkeys(REGIONS, 0.0)


PLACES = {"eyes": (23, 41), "lips": (43, 32), "skin": (33, 31), "surroundings": (2, 2)}  # row and column of 64
WORDS = {"eyes": "the eyes", "lips": "the mouth", "skin": "the skin of the face", "surroundings": "what lies around the face"}


@pytest.mark.parametrize("name", REGIONS)
def test_heat_is_told_by_the_part_of_the_face_that_it_lies_on(name: str) -> None:
    heat, still = np.zeros((2, SIDE, SIDE), np.float32), np.zeros(2, np.float32)
    heat[1][PLACES[name]] = 1.0
    found, row = ClipExplanation(0.0, heat, heat, still, still, still), {"track": 0, "place": None, "start_seconds": 0, "end_seconds": 0}
    assert found.regions()[name] > 0.9
    for reason, told in (("", f"hangs most on {WORDS[name]} ("), (UNLIKE, f", from {WORDS[name]} most of all).")):
        assert told in sentence(FileVerdict("a.png", 0.9, "fake", 1, 1, reason, "model", "image", clips=[row]), found, row)
    other = next(one for one in REGIONS if one != name)
    heat[0][PLACES[other]] = 0.25
    parts = ClipExplanation(0.0, heat, heat, still, still, still).regions()
    assert parts[name] == pytest.approx(0.8, abs=0.03) and parts[other] == pytest.approx(0.2, abs=0.03), "a share of the heat of all frames"


def test_what_was_left_uncertain_is_explained_by_what_speaks_for_fake() -> None:
    """Below the threshold the most suspicious clip was shown with what makes it look real."""
    network, card = lively_model(), cast(Any, SimpleNamespace(temperature=2.0, offset=-0.5))
    clips = cast(Any, [SimpleNamespace(frames=np.random.default_rng(number).integers(0, 255, (3, 32, 32, 3)).astype(np.uint8)) for number in range(2)])
    rows = [{"track": 0, "p_fake": p_fake} for p_fake in (0.9, 0.2)]
    for verdict, place in (("uncertain", 0), ("fake", 0), ("real", 1)):
        said = cast(Any, SimpleNamespace(verdict=verdict, p_fake=0.6, threshold=0.7, tracks=rows[:1], clips=rows))
        shown, found_there = explain_verdict(network, card, said, clips)
        assert shown == place
        expected = explain_clip(network, clips[place].frames, towards_fake=verdict != "real", temperature=2.0, offset=-0.5)
        np.testing.assert_array_equal(found_there.heat, expected.heat)
        np.testing.assert_array_equal(found_there.frame_p, expected.frame_p, "on the scale of the clips beside them")


def test_without_heat_nothing_is_said_of_where_the_verdict_hangs() -> None:
    """It hung `most on the eyes (0% of the heat)`: the first of four places of which none had any."""
    still, flat = np.zeros(1, np.float32), np.zeros((1, SIDE, SIDE), np.float32)
    found, row = ClipExplanation(2.0, flat, flat, still, still, still), {"track": 0, "place": None, "start_seconds": 0, "end_seconds": 0}
    for reason, told in (("", "Called fake (p_fake 0.90)."), (UNLIKE, f"Left uncertain: this is {UNLIKE} (p_fake 0.90).")):
        assert sentence(FileVerdict("a.png", 0.9, "fake", 1, 1, reason, "model", "image", clips=[row]), found, row) == told
    flat[0, SIDE // 2] = 1.0
    said = FileVerdict("a.png", 0.9, "fake", 1, 1, "", "model", "image", clips=[row])
    assert "; the verdict hangs most on the skin of the face (" in sentence(said, found, row)


def test_the_mesh_shows_a_blink_and_a_jump(tmp_path_factory: pytest.TempPathFactory) -> None:
    from media.landmarks import EYES

    points = np.repeat(rendered_clips(tmp_path_factory.mktemp("mesh"), people=2)[0][1][:1], 10, axis=0).astype(float)
    assert mesh_evidence(points, 1.0).blinks_per_second == 0
    blinking, jumping = points.copy(), points.copy()
    middle = points[4, EYES, 1].mean()
    blinking[4, EYES, 1] = middle + 0.2 * (points[4, EYES, 1] - middle)
    jumping[5:] += 0.1
    assert mesh_evidence(blinking, 1.0).blinks_per_second == pytest.approx(1.0)
    assert mesh_evidence(jumping, 1.0).crop_tremble > 0.1 > mesh_evidence(blinking, 1.0).crop_tremble


def test_rates_are_by_the_second_and_jumps_in_units_of_the_face(tmp_path_factory: pytest.TempPathFactory) -> None:
    from media.landmarks import EYES

    points = np.repeat(rendered_clips(tmp_path_factory.mktemp("mesh"), people=2)[0][1][:1], 12, axis=0).astype(float)
    height = np.linalg.norm(points[0, 152] - points[0, 10])
    for frame, open_part in ((0, 0.2), (4, 0.2), (5, 0.2), (10, 0.75)):  # shut when the clip begins, and once again for two frames; narrowed at the end
        middle = points[frame, EYES, 1].mean()
        points[frame, EYES, 1] = middle + open_part * (points[frame, EYES, 1] - middle)
    lips = points[0, 14] - points[0, 13]
    points[8, 14] += 0.1 * height * lips / np.linalg.norm(lips)
    moved = points.copy()
    moved[9] += (0.03 * height, 0.04 * height)
    nearer = points[1] * np.linspace(1, 2, 12)[:, None, None]
    assert mesh_evidence(nearer, 4.0).blinks_per_second == 0, "a face that comes nearer opens its eyes no wider"
    for scale in (1.0, 4.0):
        found = mesh_evidence(scale * points, 4.0)
        assert found.blinks_per_second == pytest.approx(0.5) and found.mouth_jump == pytest.approx(0.1, abs=1e-6) and found.crop_tremble < 0.02
        assert mesh_evidence(scale * moved, 4.0).crop_tremble == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize(
    ("verdict", "kind", "certainty", "told"),
    [
        ("fake", "video", [0.1, 0.9, 0.3], "Called fake (p_fake 0.61), most of all 2.0 to 3.5 s into it (face 2 (right))"),
        ("uncertain", "image", [0.1], "Left uncertain (p_fake 0.61), going by face 2 (right)"),
        ("real", "video", [0.2, 0.3], "Called real (p_fake 0.61), most of all 2.0 to 3.5 s into it (face 2 (right))"),
    ],
)
def test_the_sentence_names_verdict_time_face_and_surest_frame(verdict: str, kind: str, certainty: list[float], told: str) -> None:
    heat, still = np.zeros((1, SIDE, SIDE), np.float32), np.zeros(1, np.float32)
    heat[0][PLACES["lips"]] = 1.0
    rows = [{"track": track, "place": (0.2 + 0.6 * track, 0.5, 0.2), "start_seconds": 2.0, "end_seconds": 3.5, "p_fake": 0.6} for track in (0, 1)]
    found = ClipExplanation(1.0, heat, heat, still, np.array(certainty, np.float32), still)
    said = sentence(FileVerdict("a", 0.61, verdict, 1, 2, "", "model", kind, tracks=rows, clips=rows), found, rows[1])
    assert said.startswith(f"{told}; the verdict hangs most on the mouth (")
    surest = f" The network is surest of frame {int(np.argmax(certainty)) + 1} of {len(certainty)} there."
    assert said.endswith("of the heat)." + (surest if kind == "video" else ""))


def test_a_single_frame_shows_nothing_that_moves() -> None:
    """Nought blinks a second was said of photos."""
    points = np.random.default_rng(1).random((2, 468, 2))
    assert mesh_evidence(points[:1], 0.0) == MeshEvidence(None, None, None)
    assert None not in (mesh_evidence(points, 0.2).mouth_jump, mesh_evidence(points, 0.2).crop_tremble), "of two, something may be said"
