import subprocess
import sys

import numpy as np
import pytest
import torch

from model.backbones import build_backbone
from model.checkpoint import load_model, save_model
from model.network import LEAST_WEIGHT, ResNeXtLSTM, count_parameters
from model.regions import FLOOR, attention_prior, canonical_regions
from tests.model.toys import SIZE, SMALL, lively_model, small_model
from workspace.errors import SettingsError
from workspace.settings import ModelSettings


def clips(count=4, frames=5, seed=0):
    return torch.rand(count, frames, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_logits_follow_the_written_formula():
    model, x = lively_model(), clips()
    out = model.forward_all(x)
    features = torch.stack([model.encode(clip)[0] for clip in x])  # [B, T, F]
    z = features @ model.frame_head.weight[0] + model.frame_head.bias
    certainty = (2 * torch.sigmoid(z) - 1).abs()
    weight = LEAST_WEIGHT + (1 - LEAST_WEIGHT) * certainty
    share = weight / weight.sum(1, keepdim=True)
    states, _ = model.temporal(features * weight[..., None])
    lstm = ((states * share[..., None]).sum(1) @ model.temporal_head.weight[0]) + model.temporal_head.bias
    torch.testing.assert_close(out.certainty, certainty, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.logits, 0.6 * (share * z).sum(1) + 0.4 * lstm, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(out.embedding, features.mean(1), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "counts"),
    [
        ({"fusion_cnn": 0.0, "certainty_attention": False}, False),
        ({"fusion": "features", "certainty_attention": False}, False),
        ({"fusion_cnn": 0.0}, True),
        ({"fusion": "features"}, True),
        ({"certainty_attention": False}, True),
        ({"certainty_attention": False, "fusion_learned": True, "fusion_cnn": 0.1}, True),
    ],
)
@torch.no_grad()
def test_a_frame_head_without_a_part_in_the_logit_says_nothing_of_the_certainty(settings, counts):
    """It weighed clips in the verdict by what it had learned in phase 1, of a backbone that went on without it."""
    model, x, lengths = lively_model(**settings), clips(), torch.tensor([5, 3, 5, 1])
    before = model.forward_all(x, lengths)
    model.frame_head.weight.mul_(50)
    after = model.forward_all(x, lengths)
    assert model.frame_head_has_part == counts == (not torch.equal(before.logits, after.logits)) == (not torch.equal(before.certainty, after.certainty))
    if not counts:
        seen = torch.arange(5) < lengths[:, None]
        torch.testing.assert_close(after.certainty, (2 * torch.sigmoid(after.logits) - 1).abs()[:, None] * seen)


@pytest.mark.parametrize("temporal", ["lstm", "gru", "transformer"])
@torch.no_grad()
def test_a_short_clip_says_the_same_alone_and_beside_a_long_one_whatever_fills_the_gap(temporal):
    model, x = lively_model(temporal=temporal), clips(3, 6)
    lengths = torch.tensor([6, 3, 1])
    x[1, 3:] = 7.0  # nonsense that must not be looked at
    together = model.forward_all(x, lengths)
    for n, length in enumerate(lengths):
        alone = model.forward_all(x[n : n + 1, :length])
        torch.testing.assert_close(together.logits[n], alone.logits[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(together.embedding[n], alone.embedding[0], atol=1e-5, rtol=1e-4)
        assert not together.certainty[n, length:].any() and not together.frame_logits[n, length:].any()


@torch.no_grad()
def test_lengths_that_are_all_full_change_nothing():
    model, x = lively_model(), clips()
    torch.testing.assert_close(model(x, torch.full((4,), 5)), model(x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("frames", [1, 2, 9])
@torch.no_grad()
def test_any_number_of_frames_is_a_clip(frames):
    out = lively_model().forward_all(clips(2, frames))
    assert out.logits.shape == (2,) and out.frame_logits.shape == out.certainty.shape == (2, frames)
    assert torch.isfinite(out.logits).all() and ((out.certainty >= 0) & (out.certainty <= 1)).all()


@pytest.mark.parametrize("temporal", ["lstm", "gru", "transformer"])
@torch.no_grad()
def test_the_order_of_frames_matters_to_what_reads_them_in_order_and_only_to_it(temporal):
    model, x = lively_model(temporal=temporal), clips()
    backwards = x.flip(1)
    assert not torch.allclose(model(x), model(backwards), atol=1e-6)
    torch.testing.assert_close(model.forward_all(x).frame_logits, model.forward_all(backwards).frame_logits.flip(1), atol=1e-5, rtol=1e-4)


def test_pixels_are_normalised_inside():
    model = small_model().eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(model.mean.expand(1, 3, SIZE, SIZE).unsqueeze(1))
    assert seen[-1].abs().max() < 1e-6  # the mean colour arrives as zero


@torch.no_grad()
def test_attention_starts_as_the_prior_and_stays_a_distribution():
    x = clips(2, 2)
    fresh = small_model().eval().forward_all(x).attention
    prior = attention_prior(fresh.shape[-1], SMALL.spatial_prior)
    torch.testing.assert_close(fresh, prior.expand_as(fresh), atol=1e-6, rtol=1e-4)
    learned = lively_model().forward_all(x).attention
    torch.testing.assert_close(learned.sum((2, 3)), torch.ones(2, 2))
    assert not torch.allclose(learned, fresh, atol=1e-3)


@pytest.mark.parametrize("parts", [(0.40, 0.35, 0.25), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_the_prior_puts_its_parts_on_eyes_lips_and_skin(parts):
    side = 64
    prior = attention_prior(side, parts)
    assert prior.sum() == pytest.approx(1.0, abs=1e-5)
    eyes, lips, skin = torch.nn.functional.avg_pool2d(canonical_regions(side * 8)[None], 8)[0]
    expected = sum(part * region / region.sum() for part, region in zip(parts, (eyes, lips, skin), strict=True))
    torch.testing.assert_close(prior, (1 - FLOOR) * expected + FLOOR / side**2, atol=1e-7, rtol=1e-4)


def test_the_prior_lies_on_the_eyes_and_lips_of_real_faces(shared_data):
    from media.faces import extract_clips
    from tests.faces import region_masks
    from workspace.settings import FaceSettings

    found = extract_clips(
        next(iter(sorted((shared_data / "real" / "clips").glob("id0[1-4]*.mp4")))), FaceSettings(size_px=64, fps=30.0, clip_frames=6, min_clip_frames=1)
    )
    assert found.clips, found.reason
    mesh = np.mean([clip.landmarks.mean(0) for clip in found.clips], axis=0)
    real = torch.as_tensor(np.asarray(region_masks(mesh, 64)), dtype=torch.float32)
    ours = canonical_regions(64)
    for name, a, b in zip(("eyes", "lips"), real, ours, strict=False):
        ys, xs = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        for axis in (xs, ys):
            assert abs((a * axis).sum() / a.sum() - (b * axis).sum() / b.sum()) < 4, name  # px of 64
        assert (a * b).sum() / a.sum() > 0.5, name  # most of the real region is covered


@pytest.mark.parametrize(
    ("region", "inside", "border", "outside"),
    [
        ("eyes", [(0.109, -0.174), (0.284, -0.174)], [(0.312, -0.174), (0.197, -0.234)], [(0.197, -0.05), (0.197, -0.3), (0.0, -0.174)]),
        ("lips", [(0.164, 0.232), (0.0, 0.235)], [(0.175, 0.235), (0.0, 0.32)], [(0.0, 0.065), (0.0, 0.405), (0.3, 0.235)]),
        ("skin", [(0.0, 0.03), (0.3, 0.1), (0.0, -0.35)], [(0.433, 0.0), (0.0, -0.5), (0.0, 0.5)], [(0.6, 0.0), (0.0, 0.64), (0.0, 0.235), (0.197, -0.174)]),
    ],
)
def test_a_region_of_the_canonical_face_ends_where_its_part_does_and_is_half_there(region, inside, border, outside):
    """Places in units of the face's extent, from its centre: heat beside the face would be told as skin, and that on the brows as eyes."""
    size = 520
    mask = canonical_regions(size)[("eyes", "lips", "skin").index(region)]

    def on_both_sides(x, y):
        return [float(mask[round((y / 1.3 + 0.5) * size - 0.5), round((side * x / 1.3 + 0.5) * size - 0.5)]) for side in (1, -1)]

    for place in inside:
        assert min(on_both_sides(*place)) > 0.5
    for place in border:
        assert on_both_sides(*place) == pytest.approx([0.5, 0.5], abs=0.06)
    for place in outside:
        assert max(on_both_sides(*place)) < 0.1


def test_every_weight_learns():
    model = small_model().train()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.add_(0.1)  # blocks start as their shortcut: after one step they no longer do
    model(clips()).square().sum().backward()
    silent = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert silent in ([], ["attention.residual.bias"])  # a softmax does not see a constant


@pytest.mark.parametrize(("name", "size", "least", "most"), [("resnext_tiny", 64, 150_000, 500_000), ("resnext_small", 112, 1_000_000, 1_400_000)])
def test_own_backbones_are_as_small_as_they_say(name, size, least, most):
    model = ResNeXtLSTM(ModelSettings(backbone=name, lstm_hidden=32), size)
    assert least < count_parameters(model) < most
    assert any(m.groups > 1 for m in model.modules() if isinstance(m, torch.nn.Conv2d))


@pytest.mark.parametrize("size", [64, 112, 256])
@torch.no_grad()
def test_any_picture_size_works(size):
    model = ResNeXtLSTM(SMALL, size).eval()
    assert model(torch.rand(1, 2, 3, size, size)).shape == (1,)


@torch.no_grad()
def test_shrinking_first_is_the_same_network_on_averaged_pictures():
    model, x = lively_model(), clips()
    large = ResNeXtLSTM(model.settings.model_copy(update={"shrink": 2}), 2 * SIZE).eval()
    large.load_state_dict(model.state_dict())
    fine = torch.rand(4, 5, 3, 2 * SIZE, 2 * SIZE, generator=torch.Generator().manual_seed(1))
    averaged = fine.unflatten(4, (SIZE, 2)).unflatten(3, (SIZE, 2)).mean((4, 6))
    torch.testing.assert_close(large(fine), model(averaged), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(large(fine), model(x), atol=1e-3)


def test_torchvision_stays_out_until_it_is_named():
    code = "import sys, model.network, tests.model.toys as t; t.small_model(); sys.exit('torchvision' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@torch.no_grad()
def test_a_torchvision_backbone_by_name():
    model = ResNeXtLSTM(ModelSettings(backbone="resnet18", lstm_hidden=8), 64).eval()
    assert model(torch.rand(2, 2, 3, 64, 64)).shape == (2,) and model.features == 512


@torch.no_grad()
def test_the_weight_between_cnn_and_lstm_is_the_settings_and_may_be_learned():
    """At 1 no state of the LSTM is heard, at 0 no frame; a learned weight starts where the fixed one stands."""
    for fusion in ("heads", "features"):
        ends = {}
        for part in (0.0, 1.0):
            model = ResNeXtLSTM(SMALL.model_copy(update={"fusion": fusion, "fusion_cnn": part}), SIZE).eval()
            for parameter in model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())))
            before = model(clips())
            heard = model.frame_head if fusion == "heads" else model.bridge
            (heard.weight if part == 0.0 else model.temporal.weight_hh_l0).zero_()
            ends[part] = torch.allclose(before, model(clips()), atol=1e-6)
        assert ends[1.0], fusion
        assert ends[0.0] or fusion == "heads", "certainty weighs the frames of both"
        fixed = ResNeXtLSTM(SMALL.model_copy(update={"fusion": fusion, "fusion_cnn": 0.6}), SIZE).eval()
        learned = ResNeXtLSTM(SMALL.model_copy(update={"fusion": fusion, "fusion_cnn": 0.6, "fusion_learned": True}), SIZE).eval()
        learned.load_state_dict(fixed.state_dict(), strict=False)
        assert torch.allclose(fixed(clips()), learned(clips()), atol=1e-6)


def test_a_learned_fusion_moves_in_training_and_survives_its_file(tmp_path):
    model = ResNeXtLSTM(SMALL.model_copy(update={"fusion": "features", "fusion_learned": True}), SIZE)
    before = model.fusion_logit.item()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.binary_cross_entropy_with_logits(model(clips()), torch.tensor([0.0, 1.0, 0.0, 1.0])).backward()
        optimiser.step()
    assert model.fusion_logit.item() != before
    save_model(model, tmp_path / "m.safetensors")
    kept = load_model(tmp_path / "m.safetensors")
    with torch.no_grad():
        assert kept.settings.fusion_learned and torch.equal(kept(clips()), model.eval()(clips()))


@pytest.mark.parametrize("name", ["resnext_huge", "fasterrcnn_resnet50_fpn", "maxvit_t"])
def test_a_backbone_that_cannot_be_used_is_refused_by_name(name):
    with pytest.raises(SettingsError, match=name):
        build_backbone(name)


@pytest.mark.parametrize(
    "settings",
    [{"certainty_attention": False}, {"spatial_attention": False}, {"bidirectional": False}, {"lstm_layers": 2}, {"fusion_cnn": 1.0}, {"fusion": "features"}],
)
@torch.no_grad()
def test_every_switch_changes_the_network(settings):
    model = ResNeXtLSTM(SMALL.model_copy(update=settings), SIZE).eval()
    model.load_state_dict(lively_model().state_dict(), strict=False) if "bidirectional" not in settings else None
    assert model(clips()).shape == (4,)
    assert not torch.allclose(model(clips()), lively_model()(clips()), atol=1e-6)
