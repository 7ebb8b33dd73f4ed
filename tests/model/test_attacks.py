"""What goes wrong in other people's attacks (each named after what it would hide), and the rules of ours."""

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from model.attacks import ATTACKS, Stacked, TwoLogits, at_once, attack_clips, attackable, attacked_margins, pgd, robust_curve, to_uint8, training_attack
from model.network import IMAGENET_MEAN, IMAGENET_STD
from tests.model.toys import SIZE, lively_model, toy_clips

EPS, STEPS = 4 / 255, 8
FAKE = torch.tensor([True, False] * 3)


def clips(count=6, frames=2, seed=0):
    """8-bit pixels as floats, some of them black or white."""
    levels = torch.randint(-40, 296, (count, frames, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(seed)).clamp(0, 255)
    return levels.float() / 255


def attack(model, x, eps=EPS, **other):
    return pgd(model, x, FAKE[: len(x)], **({"eps": eps, "steps": STEPS, "step_size": 2.5 * eps / STEPS if eps else 0.01} | other))


def margins(model, x, fake):
    with torch.no_grad():
        z = model(x, None)
    return torch.where(fake, z, -z)


class Linear(nn.Module):
    """A detector whose worst case is known: logit = scale * (w . x - b)."""

    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.w = nn.Parameter(torch.randn(2 * 3 * SIZE * SIZE, generator=generator) / 100)
        self.scale = scale

    def forward(self, x, lengths=None):
        return self.scale * ((x - 0.5).flatten(1) @ self.w)


def test_pgd_finds_the_known_worst_case_of_a_linear_model():
    model, x = Linear(), clips().clamp(0.2, 0.8)  # no pixel meets the border of [0,1]
    sign = torch.where(FAKE, -1.0, 1.0).view(-1, 1, 1, 1, 1)
    worst = x + EPS * sign * model.w.sign().view(1, 2, 3, SIZE, SIZE)
    torch.testing.assert_close(margins(model, attack(model, x), FAKE), margins(model, worst, FAKE), atol=1e-3, rtol=1e-3)


def test_eps_zero_is_the_clean_clip_even_for_a_model_left_in_training_mode():
    model, x = lively_model().train(), clips()
    assert torch.equal(attack(model, x, eps=0.0), x)
    point = robust_curve(model, x, FAKE, [0.0])[0]
    model.eval()
    assert point.accuracy == pytest.approx((margins(model, x, FAKE) > 0).float().mean().item())


@pytest.mark.parametrize("eps", [1 / 255, 0.05, 0.5])
def test_results_lie_in_the_unit_range_and_within_eps_of_the_clean_clip(eps):
    model, x = lively_model(), clips()
    found = attack(model, x, eps, restarts=2)
    assert found.min() >= 0 and found.max() <= 1
    assert (found - x).abs().max() <= eps + 1e-7


def test_many_large_steps_are_projected_round_the_clean_clip_and_not_round_the_last_step():
    model, x = lively_model(), clips()
    found = pgd(model, x, FAKE, eps=EPS, steps=20, step_size=EPS)
    assert (found - x).abs().max() <= EPS + 1e-7


def test_eps_is_one_of_pixels_and_not_of_normalised_values():
    """A model that normalises outside would be attacked 1/std times too hard or too weakly (0.86 against 0.23 elsewhere)."""
    model, x = lively_model(), clips().clamp(0.2, 0.8)
    delta = (attack(model, x) - x).abs().amax((1, 2, 3, 4))
    torch.testing.assert_close(delta[delta > 0], torch.full_like(delta[delta > 0], EPS), atol=1e-5, rtol=0)
    assert torch.equal(model.mean.flatten(), torch.tensor(IMAGENET_MEAN)) and torch.equal(model.std.flatten(), torch.tensor(IMAGENET_STD))


def test_more_steps_and_more_restarts_are_never_weaker():
    model, x = lively_model(), clips()
    few = margins(model, pgd(model, x, FAKE, eps=EPS, steps=1, step_size=EPS), FAKE)
    many = margins(model, attack(model, x), FAKE)
    restarted = margins(model, attack(model, x, restarts=4), FAKE)
    assert (many <= few + 1e-4).float().mean() > 0.8 and many.mean() < few.mean() + 1e-6
    assert (restarted <= many + 1e-6).all()  # the first restart is the single one
    assert (many <= margins(model, x, FAKE) + 1e-6).all()  # and nothing is easier than the clean clip


def test_pgd_is_stronger_than_noise_of_the_same_size():
    model, x = lively_model(), clips()
    noise = (x + EPS * torch.randn_like(x).sign()).clamp(0, 1)
    assert margins(model, attack(model, x), FAKE).mean() < margins(model, noise, FAKE).mean() - 0.01


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e4])
def test_neither_tiny_nor_saturated_logits_hide_weakness(scale):
    """Gradients that vanish in float32 made a model look robust (26% instead of 1.7% elsewhere)."""
    x = clips().clamp(0.2, 0.8)
    torch.testing.assert_close(attack(Linear(scale), x, seed=1), attack(Linear(), x, seed=1), atol=1e-3, rtol=0)


def test_modes_gradients_and_random_numbers_are_as_they_were():
    model, x = lively_model(), clips(2)
    model.train()
    model.backbone.eval()
    model.frame_head.weight.requires_grad_(False)
    before = [(m.training, [p.requires_grad for p in m.parameters(recurse=False)]) for m in model.modules()]
    state, buffers = torch.get_rng_state(), {name: b.clone() for name, b in model.named_buffers()}
    attack(model, x)
    robust_curve(model, x, FAKE[:2], [0.0, EPS], steps=2)
    training_attack(model, x, FAKE[:2], eps=EPS, steps=2, generator=torch.Generator().manual_seed(0))
    assert [(m.training, [p.requires_grad for p in m.parameters(recurse=False)]) for m in model.modules()] == before
    assert all(p.grad is None for p in model.parameters()) and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(b, buffers[name]) for name, b in model.named_buffers())


class Recurrent(nn.Module):
    """Frames through stochastic depth, then an LSTM; remembers in which modes its modules stood at each pass, and whether a gradient was asked for."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.frame, self.depth = nn.Linear(3 * SIZE * SIZE, 8), StochasticDepth(0.5, "row")
        self.lstm, self.head, self.seen = nn.LSTM(8, 4, batch_first=True), nn.Linear(4, 1), set()

    def forward(self, x, lengths=None):
        self.seen.add((self.lstm.training, self.frame.training or self.depth.training or self.head.training, x.requires_grad))
        return self.head(self.lstm(self.depth(self.frame(x.flatten(2))))[0][:, -1]).squeeze(1)


@pytest.mark.parametrize("kind", [*ATTACKS, "training"])
def test_an_lstm_on_a_gpu_is_in_training_mode_at_each_gradient_and_nothing_else_is(kind, monkeypatch):
    """cuDNN refuses the gradient of an LSTM in eval mode; stochastic depth in training mode makes one random. torchattacks switches modes as it likes."""
    monkeypatch.setattr("model.attacks.by_cudnn", lambda module: True)
    model, x = Recurrent().eval(), clips()
    with torch.no_grad():
        truth = model(x) > 0  # right on all: APGD and Square leave alone what is wrong already
    model.seen.clear()
    if kind == "training":
        training_attack(model, x, truth, eps=EPS, steps=2, generator=torch.Generator().manual_seed(0))
    else:
        attack_clips(kind, model, x, truth, eps=EPS, steps=2)
    assert {(lstm, others) for lstm, others, _ in model.seen} == {(True, False)}
    assert any(gradient for *_, gradient in model.seen) == (kind != "square")
    assert not any(module.training for module in model.modules())


def test_torchattacks_may_not_switch_the_modes_of_a_detector():
    model = Recurrent().eval()
    for view in (TwoLogits(model), Stacked(TwoLogits(model), 2)):
        view.train()
        assert not any(module.training for module in model.modules())
    model.train()
    for view in (TwoLogits(model), Stacked(TwoLogits(model), 2)):
        view.eval()
        assert all(module.training for module in model.modules())


def test_a_failing_attack_leaves_the_model_as_it_was():
    model = lively_model().train()
    with pytest.raises(RuntimeError, match="boom"), attackable(model):
        raise RuntimeError("boom")
    assert model.training and model.backbone.training and all(p.requires_grad for p in model.parameters())


def test_the_same_seed_gives_the_same_attack_and_another_seed_another():
    model, x = lively_model(), clips(2)
    assert torch.equal(attack(model, x, seed=3), attack(model, x, seed=3))
    assert not torch.equal(attack(model, x, seed=3), attack(model, x, seed=4))


def test_attacks_work_where_gradients_are_switched_off():
    model, x = lively_model(), clips(2)
    with torch.no_grad():
        assert torch.equal(attack(model, x), attack(model, x)) and not torch.equal(attack(model, x), x)


@pytest.mark.parametrize("border", [0.0, 0.3, -0.3])
def test_the_attacked_view_says_the_verdict_at_the_border_and_keeps_the_order_of_logits(border):
    model, x = Linear(1e5), clips()
    with torch.no_grad():
        pair, z = TwoLogits(model, border=1e5 * border)(x), model(x)
    assert torch.equal(pair.argmax(1) == 1, z > 1e5 * border)
    assert torch.equal(pair[:, 1].argsort(), z.argsort()) and len(pair[:, 1].unique()) == len(z)


@pytest.mark.parametrize("kind", ATTACKS)
def test_no_attack_is_blinded_by_confidence(kind):
    """Square saw no progress where logits beyond 4 all looked alike (0.56 stood instead of 0.22 elsewhere)."""
    x = clips().clamp(0.2, 0.8)
    truth = Linear()(x) > 0
    found = [attack_clips(kind, Linear(scale), x, truth, eps=0.03, steps=20, seed=1) for scale in (1.0, 1e4)]
    assert (found[0] != x).any()
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=0)


def test_square_asks_as_often_as_was_set_however_often_the_others_begin():
    """It ran once for each of their restarts: the profile `full`, which sets two, asked twice as often as its settings say."""

    class Rock(Linear):
        asked = 0

        def forward(self, x, lengths=None):
            self.asked += len(x)
            return super().forward(x) * 0 + 5.0

    rock = Rock()
    robust_curve(rock, clips(1), FAKE[:1], [0.05], restarts=3, attacks=("square",), queries=50)
    assert 50 <= rock.asked <= 60


@pytest.mark.parametrize("kind", ATTACKS)
@pytest.mark.parametrize("border", [0.2, -0.2])
def test_attacks_aim_at_the_shipped_threshold_and_not_at_logit_zero(kind, border):
    """APGD and Square stop where the verdict turns; aimed at 0 they left 9 and 14 of 24 fakes standing that PGD turned."""
    x, model, moved = clips().clamp(0.2, 0.8), Linear(), Linear()
    moved.forward = lambda x, lengths=None: Linear.forward(moved, x) - border
    truth = torch.tensor([True, False] * 3)
    for eps in (0.005, 0.05):
        here = robust_curve(model, x, truth, [eps], steps=20, border=border, attacks=(kind,))[0]
        assert here.right == robust_curve(moved, x, truth, [eps], steps=20, attacks=(kind,))[0].right
    assert sum(here.right) <= 1


def test_short_clips_are_attacked_in_their_own_frames():
    model, x = lively_model(), clips(2, 3)
    lengths = torch.tensor([3, 1])
    found = pgd(model, x, FAKE[:2], eps=EPS, steps=STEPS, step_size=EPS / 3, lengths=lengths)
    alone = model(found[1:, :1]).item()
    assert model(found, lengths)[1].item() == pytest.approx(alone, abs=1e-5)
    assert alone > model(x[1:, :1]).item()  # a real, pushed towards fake


@pytest.mark.parametrize("steps", [1, 3])
def test_the_training_attack_obeys_its_bound_and_hurts(steps):
    model, x = lively_model(), clips()
    found = training_attack(model, x, FAKE, eps=EPS, steps=steps, generator=torch.Generator().manual_seed(0))
    assert (found - x).abs().max() <= EPS + 1e-7 and found.min() >= 0 and found.max() <= 1 and not found.requires_grad
    assert margins(model, found, FAKE).mean() < margins(model, x, FAKE).mean()
    assert torch.equal(training_attack(model, x, FAKE, eps=0.0, steps=1, generator=torch.Generator()), x)


@pytest.mark.parametrize(("eps", "levels"), [(0.05, 12), (2 / 255, 2), (0.00392, 1), (0.00784, 2), (0.03137, 8), (16 / 255, 16), (0.0999, 25), (0.003, 0)])
def test_stored_pixels_obey_eps_and_keep_what_fits(eps, levels):
    """Settings write n/255 in five digits, a little less than it is: a level was lost, and an eps of one level attacked nothing."""
    clean = (clips() * 255).round().to(torch.uint8)
    wanted = (clean.float() / 255 + eps * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0)).sign()).clamp(0, 1)
    stored = to_uint8(wanted, clean, eps)
    moved = (stored.int() - clean.int()).abs()
    inner = (clean > 26) & (clean < 229)
    assert moved.max().item() == levels and bool((moved[inner] == levels).all())
    with pytest.raises(ValueError, match="uint8"):
        to_uint8(wanted, clean.float(), eps)


def test_the_curve_falls_to_nothing_and_never_rises():
    model = Linear()
    x, rows = clips(), None
    fake = model(x) > 0
    rows = robust_curve(model, x, fake, [0.5, 0.0, 1 / 255, 2 / 255, 4 / 255], steps=6)
    accuracy = [row.accuracy for row in rows]
    assert [row.eps for row in rows] == sorted(row.eps for row in rows)
    assert accuracy[0] == 1.0 and accuracy == sorted(accuracy, reverse=True) and accuracy[-1] == 0.0
    assert rows[-1].evasion == rows[-1].framing == 1.0 or not (fake.any() and (~fake).any())


def test_the_curve_is_counted_at_the_shipped_threshold_and_says_none_for_a_missing_class():
    model, x = Linear(), clips()
    fake = torch.ones(6, dtype=torch.bool)
    z = model(x)
    row = robust_curve(model, x, fake, [0.0], border=z.median().item())[0]
    assert row.accuracy == pytest.approx((z >= z.median()).float().mean().item())
    assert row.framing is None and row.balanced_accuracy is None and row.evasion == pytest.approx(1 - row.accuracy)


def test_a_trained_detector_that_nobody_defended_falls_at_two_levels(tmp_path):
    from model.training import fit
    from tests.model.toys import small_model
    from workspace.settings import TrainSettings

    model, data = small_model(), toy_clips(16)
    fit(model, data, data, TrainSettings(steps=12, batch=8, micro_batch=8, lr=0.005, validate_every=12, adversarial_steps=0, ema=0.5), 0, tmp_path)
    x = torch.stack([torch.from_numpy(data.clip(n)).permute(0, 3, 1, 2).float() / 255 for n in range(8)])
    rows = robust_curve(model, x, torch.tensor([False, True] * 4), [0.0, 16 / 255], steps=8)
    assert rows[0].accuracy >= 0.9 and rows[1].accuracy <= 0.5


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_stays_in_its_ball_does_harm_and_can_be_repeated(kind):
    model, x = lively_model(), clips()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = attack_clips(kind, model, x, FAKE, eps=EPS, steps=STEPS, seed=3)
    assert found.shape == x.shape and (found - x).abs().max() <= EPS + 1e-6 and 0 <= found.min() <= found.max() <= 1
    assert torch.equal(found, attack_clips(kind, model, x, FAKE, eps=EPS, steps=STEPS, seed=3))
    assert (margins(model, found, FAKE) <= margins(model, x, FAKE) + 1e-6).all()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kind", ATTACKS)
def test_clips_of_different_lengths_are_attacked_as_if_each_were_alone(kind):
    """Square and APGD drop the clips that fell: what is left must keep its own lengths, and padding stays as it was."""
    model, x, lengths = lively_model(), clips(6, 4), torch.tensor([4, 2, 4, 1, 2, 4])
    with torch.no_grad():
        truth = model(x, lengths) > 0
    found = attack_clips(kind, model, x, truth, eps=0.05, steps=STEPS, lengths=lengths)
    assert found.shape == x.shape and (found - x).abs().max() <= 0.05 + 1e-6
    with torch.no_grad():
        before, after = (torch.where(truth, z, -z) for z in (model(x, lengths), model(found, lengths)))
    assert (after <= before + 1e-6).all() and (after < before - 1e-4).any()
    if kind != "pgd":
        for clip, attacked, length in zip(x, found, lengths.tolist(), strict=True):
            assert torch.equal(clip[length:], attacked[length:])


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_turns_a_linear_detector(kind):
    model, x = Linear(), clips().clamp(0.2, 0.8)
    with torch.no_grad():
        truth = model(x) > 0
    found = attack_clips(kind, model, x, truth, eps=0.05, steps=20)
    assert (margins(model, found, truth) < 0).float().mean() >= 0.5


def test_the_curve_is_that_of_the_worst_attack_and_shows_each():
    model, x = lively_model(), clips()
    points = robust_curve(model, x, FAKE, [0.0, EPS], steps=STEPS, attacks=("pgd", "square"))
    for point in points:
        assert set(point.by_attack) == {"pgd", "square"} and point.balanced_accuracy <= min(point.by_attack.values()) + 1e-9
    alone = robust_curve(model, x, FAKE, [0.0, EPS], steps=STEPS, attacks=("pgd",))
    assert points[1].accuracy <= alone[1].accuracy and points[0].accuracy == alone[0].accuracy


class Staircase(Linear):
    """The linear detector behind a staircase: right as before, but its gradient is zero everywhere."""

    def forward(self, x, lengths=None):
        z = super().forward(x) * 40
        return torch.round(z) / 40 + 0.0 * z


def test_masked_gradients_are_uncovered_by_square_alone():
    model, x = Staircase(), clips(6).clamp(0.3, 0.7)
    truth = model(x) > 0  # right on every clean clip
    guided = robust_curve(model, x, truth, [0.05], steps=20, attacks=("pgd", "apgd", "square"))[0].by_attack
    assert guided["square"] < guided["pgd"] and guided["square"] < guided["apgd"]


def test_an_unknown_attack_is_refused():
    with pytest.raises(ValueError, match="no attack is called 'prayer'"):
        attack_clips("prayer", lively_model(), clips(), FAKE, eps=EPS, steps=1)


@pytest.mark.parametrize(("frames", "side", "clips"), [(5, 224, 8), (30, 224, 1), (90, 224, 1), (30, 112, 5), (1, 64, 8)])
def test_no_more_clips_are_attacked_at_once_than_40_frames_of_224_px(frames, side, clips):
    """Eight clips of 30 frames kept 27 GB for the gradient of ResNeXt-50."""
    assert at_once(frames, side) == clips


@pytest.mark.parametrize("lengths", [None, torch.tensor([3, 2, 3, 3, 1, 3])])
def test_a_curve_of_8_bit_clips_is_that_of_their_floats_and_shows_the_network_few_frames_at_once(lengths, monkeypatch):
    monkeypatch.setattr("model.attacks.BATCH_PIXELS", 7 * SIZE * SIZE)  # two clips of three frames
    model, stored, shown = lively_model(), (clips(6, 3) * 255).round().to(torch.uint8), []
    model.register_forward_pre_hook(lambda module, given: shown.append(len(given[0].flatten(0, 1))))
    force = {"steps": 2, "attacks": ATTACKS, "lengths": lengths}
    points = robust_curve(model, stored, FAKE, [0.0, EPS], **force)
    assert points == robust_curve(model, stored.float() / 255, FAKE, [0.0, EPS], **force)
    assert max(shown) == 6 and len(points[0].right) == 6


def test_attacked_clips_are_judged_by_each_judge_as_if_they_had_been_kept():
    """A panel of 400 clips of 30 frames is 7 GB as floats: attacked clips are judged batch by batch."""
    attacker, judge, x = lively_model(), lively_model(seed=1).train(), clips()
    first, second = attacked_margins("pgd", attacker, [(attacker, 0.0), (judge, 0.5)], x, FAKE, eps=EPS, steps=3, seed=2)
    assert judge.training
    kept = attack_clips("pgd", attacker, x, FAKE, eps=EPS, steps=3, seed=2)
    torch.testing.assert_close(first, margins(attacker, kept, FAKE))
    torch.testing.assert_close(second, margins(judge.eval(), kept, FAKE) - torch.where(FAKE, 0.5, -0.5))


def test_a_clip_that_an_attack_has_brought_down_is_not_attacked_again_by_it(monkeypatch):
    from model import attacks

    model, x = lively_model(), clips()
    asked, plain = [], attacks.attacked_margins

    def counted(kind, model, judges, given, fake, *, eps, **more):
        asked.append((kind, eps, len(given)))
        return plain(kind, model, judges, given, fake, eps=eps, **more)

    monkeypatch.setattr(attacks, "attacked_margins", counted)
    points = attacks.robust_curve(model, x, FAKE, [0.0, 0.01, 0.05], steps=3, attacks=("pgd", "square"))
    counts = {(kind, eps): number for kind, eps, number in asked}
    for kind in ("pgd", "square"):
        assert counts[kind, 0.0] == len(x)
        for before, now in ((0.0, 0.01), (0.01, 0.05)):
            assert counts.get((kind, now), 0) <= counts.get((kind, before), 0)
    standing = [[number for number, right in enumerate(point.right) if right] for point in points]
    assert set(standing[2]) <= set(standing[1]) <= set(standing[0])
    assert counts.get(("pgd", 0.05), 0) < len(x), "PGD brings some of these down: else this test shows nothing"
