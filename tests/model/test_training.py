import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from model import loop as loop_module
from model import training
from model.data import MemoryClips, labels_of
from model.export import export_onnx
from model.loop import learning_rate
from model.metrics import auc
from model.training import _Fit, _validate, compiled, fit, pretrain, train_mode
from tests.model.toys import small_model, toy_clips
from workspace.errors import DataError, ModelFileError, SettingsError
from workspace.settings import AugmentSettings, PretrainSettings, TrainSettings

ROOT = Path(__file__).resolve().parents[2]
AUGMENT = AugmentSettings(rotation_degrees=5.0, noise_sigma=0.02, degrade=0.0)
PHASE1 = PretrainSettings(precision="fp32", steps=8, batch=8, micro_batch=8, lr=0.004, validate_every=4, patience=9)
PHASE2 = TrainSettings(precision="fp32", steps=8, batch=8, micro_batch=8, lr=0.004, validate_every=3, patience=9, adversarial_steps=1, ema=0.8)


class Stopped(Exception):
    """Stands for Ctrl-C: it comes from where the loop reports progress."""


def stop_at(step):
    def progress(now, steps, message):
        if now == step:
            raise Stopped

    return progress


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def run(phase, folder, progress=None, seed=3, **changed):
    model, train, val = small_model(1), toy_clips(20, lengths=(3, 2)), toy_clips(8, seed=9)
    if phase is pretrain:
        return model, pretrain(model, train, val, PHASE1.model_copy(update=changed), seed, folder, progress, augment=AUGMENT)
    train.rows.loc[:9, "role"] = "replay"
    train.rows.loc[:9, "new"] = False
    base = small_model(2)
    return model, fit(model, train, val, PHASE2.model_copy(update=changed), seed, folder, progress, augment=AUGMENT, base=base)


@pytest.mark.parametrize(("phase", "changed"), [(pretrain, {}), (fit, {}), (fit, {"distance": "critic"})], ids=["pretrain", "fit", "fit, critic"])
def test_a_run_that_was_stopped_ends_with_the_very_weights_of_one_that_was_not(phase, changed, tmp_path, monkeypatch):
    monkeypatch.setattr(loop_module, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(loop_module, "CHECKPOINT_SHARE", 1e9)  # a checkpoint after each step
    whole, report = run(phase, tmp_path / "whole", **changed)
    for step in (2, 5, 7):
        with pytest.raises(Stopped):
            run(phase, tmp_path / "parts", stop_at(step), **changed)
    again, resumed = run(phase, tmp_path / "parts", **changed)
    assert same(whole, again) and resumed.history == report.history and resumed.best_step == report.best_step
    assert report.resumed_from == 0 and 5 <= resumed.resumed_from < 8


KILLED = """
import sys, time
from pathlib import Path
import torch
from model import loop
torch.set_num_threads(int(sys.argv[2]))  # as many as the process that goes on: sums are added in another order by others
from tests.model.test_training import run, fit
loop.CHECKPOINT_SECONDS, loop.CHECKPOINT_SHARE = 0.0, 1e9
def progress(step, steps, message):
    print(step, flush=True)
    time.sleep(0.2)
run(fit, Path(sys.argv[1]), progress)
"""


def test_a_run_killed_without_warning_ends_with_the_same_weights(tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(torch.get_num_threads())], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 4:
            time.sleep(0.25)  # somewhere in the next step, or in its checkpoint
            child.send_signal(signal.SIGKILL)
            break
    child.wait()
    again, resumed = run(fit, tmp_path / "killed")
    whole, _ = run(fit, tmp_path / "whole")
    assert resumed.resumed_from >= 3 and same(whole, again)
    assert not [path for path in (tmp_path / "killed").rglob("*.tmp") if path.stat().st_size > (resumed.folder / "state.safetensors").stat().st_size]


def test_a_finished_run_is_not_run_again(tmp_path):
    first, _ = run(fit, tmp_path)
    steps = []
    again, report = run(fit, tmp_path, lambda step, steps_, message: steps.append(step))
    assert steps == [] and report.resumed_from == 8 and same(first, again)


def test_a_damaged_checkpoint_costs_time_and_nothing_else(tmp_path, capfd):
    first, report = run(fit, tmp_path)
    (report.folder / "state.safetensors").write_bytes(b"half a file")
    again, second = run(fit, tmp_path)
    assert second.resumed_from == 0 and same(first, again)
    assert "was damaged and is deleted: the phase begins anew" in capfd.readouterr().err


def test_a_checkpoint_that_cannot_be_opened_for_a_moment_is_kept(tmp_path, monkeypatch):
    """It was taken for a damaged one and deleted, days of training with it, without a word."""
    first, report = run(fit, tmp_path)
    real, (soft, hard) = loop_module.load_tensors, resource.getrlimit(resource.RLIMIT_NOFILE)

    def where_all_descriptors_are_in_use(path):
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        try:
            return real(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    with monkeypatch.context() as patch:
        patch.setattr(loop_module, "load_tensors", where_all_descriptors_are_in_use)
        with pytest.raises(ModelFileError, match="left as it is") as refusal:
            run(fit, tmp_path)
    assert "Too many open files" in refusal.value.why
    again, second = run(fit, tmp_path)
    assert second.resumed_from == report.steps == 8 and same(first, again)


@pytest.mark.parametrize("changed", [{"lr": 0.003}, {"seed": 4}, {"wasserstein": 0.0}, {"distance": "critic"}, {"adversarial_eps": 0.01}])
def test_a_checkpoint_of_another_run_is_never_taken(tmp_path, changed):
    _, one = run(fit, tmp_path)
    _, other = run(fit, tmp_path, **changed)
    assert other.resumed_from == 0 and other.folder != one.folder


@pytest.mark.parametrize(("phase", "settings"), [(pretrain, PHASE1), (fit, PHASE2)])
def test_a_raised_version_of_the_stage_trains_anew(phase, settings, tmp_path):
    """After an upgrade a held cycle has the same rows, seed and base: a finished checkpoint gave the old weights back in no steps."""

    def go(version):
        return phase(small_model(1), toy_clips(8), toy_clips(4), settings.model_copy(update={"steps": 1}), 3, tmp_path, version=version)

    assert go(4).resumed_from == 0 and go(4).resumed_from == 1 and go(5).resumed_from == 0


def test_checkpoints_depend_on_the_data_and_on_where_training_starts(tmp_path):
    def go(model, train):
        return fit(model, train, toy_clips(8, seed=9), PHASE2.model_copy(update={"steps": 1}), 3, tmp_path).folder

    assert len({go(small_model(1), toy_clips(20)), go(small_model(2), toy_clips(20)), go(small_model(1), toy_clips(20, seed=1))}) == 3


@pytest.mark.parametrize("column", ["kind", "identity", "source_video", "donor_clip"])
def test_a_correction_of_who_or_what_a_clip_shows_trains_anew(tmp_path, column):
    """These decide who is drawn beside whom and who gives a face: with the old weights taken over a correction would be none."""
    folders = set()
    for said in ("one", "other"):
        train = toy_clips(8)
        train.rows[column] = said
        folders.add(pretrain(small_model(1), train, toy_clips(4), PHASE1.model_copy(update={"steps": 1}), 3, tmp_path).folder)
    assert len(folders) == 2


def test_both_phases_learn_the_toy_and_write_their_curve(tmp_path):
    model, train, val, test = small_model(), toy_clips(32), toy_clips(16, seed=1), toy_clips(32, seed=2)
    first = pretrain(model, train, val, PHASE1.model_copy(update={"steps": 24, "validate_every": 8}), 0, tmp_path)
    second = fit(model, train, val, PHASE2.model_copy(update={"steps": 16, "validate_every": 8, "lr": 0.002}), 0, tmp_path)
    with torch.no_grad():
        scores = model(torch.stack([torch.from_numpy(test.clip(n)).permute(0, 3, 1, 2).float() / 255 for n in range(32)]))
    assert auc(test.rows["label"], scores.double().numpy()) > 0.95
    assert [row["step"] for row in first.history] == [8, 16, 24] and first.history[-1]["loss"] < first.history[0]["loss"]
    row = second.history[0]
    assert {"step", "lr", "loss", "cross_entropy", "wasserstein", "distillation", "attacked", "val_loss", "val_refinement", "val_auc"} == set(row)
    assert json.loads((second.folder / "history.json").read_text()) == second.history
    assert second.best_loss == min(row["val_refinement"] for row in second.history) and not model.training


def pictures_with_pairs(count, seed):
    """Smooth pictures, and of each a fake: the middle of it under a fine board of two greys. Every other one is replayed."""
    rng, rows, clips = np.random.default_rng(seed), [], []
    board = (np.indices((16, 16)).sum(0) % 2 * 2 - 1)[..., None] * 4
    for number in range(count):
        coarse = rng.integers(40, 216, (5, 5, 3)).astype(np.uint8)
        real = cv2.resize(coarse, (32, 32), interpolation=cv2.INTER_CUBIC).astype(int) + rng.integers(-6, 7, (32, 32, 3))
        fake = real.copy()
        fake[8:24, 8:24] += board
        clips += [np.clip(picture, 0, 255).astype(np.uint8)[None] for picture in (real, fake)]
        about = {"role": "replay" if number % 2 else "new", "new": number % 2 == 0, "kind": "image"}
        rows.append(about | {"clip_id": f"r{seed}-{number}", "label": "real", "generator": "", "source_clip": ""})
        rows.append(about | {"clip_id": f"f{seed}-{number}", "label": "fake", "generator": "board", "source_clip": f"r{seed}-{number}"})
    return MemoryClips(pd.DataFrame(rows), clips)


def test_phase_one_learns_two_pictures_at_once(tmp_path):
    """Both were of one class, and batch norm took away what tells the classes apart: an AUC of 0.4 here, where this is 1."""
    settings = PHASE1.model_copy(update={"steps": 20, "micro_batch": 2, "validate_every": 20, "pairs": True, "ema": 0.9})
    model = small_model(0, spatial_attention=False, certainty_attention=False, dropout=0.0)
    report = pretrain(model, pictures_with_pairs(64, 1), pictures_with_pairs(40, 2), settings, 3, tmp_path)
    assert report.history[-1]["val_auc"] > 0.9


def gradients(micro, model, **changed):
    settings = PHASE2.model_copy(update={"micro_batch": micro} | changed)
    train = toy_clips(20, lengths=(3, 2))
    train.rows.loc[:9, "role"] = "replay"
    task = _Fit(model, train, settings, 3, None, small_model(2))
    model.zero_grad()
    figures = task.work(7)
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}, figures


@pytest.mark.parametrize("distance", ["scores", "critic"])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_micro_batches_sum_to_the_gradient_of_the_whole_batch(micro, distance):
    model = small_model(1, dropout=0.0)
    # attacks draw their start by micro-batch, so they are off; everything else is on
    whole, said = gradients(8, model, adversarial_steps=0, wasserstein=0.5, distance=distance)
    parts, also = gradients(micro, model, adversarial_steps=0, wasserstein=0.5, distance=distance)
    assert also["loss"] == pytest.approx(said["loss"], rel=1e-5)
    for name, gradient in whole.items():
        torch.testing.assert_close(parts[name], gradient, atol=1e-5 + 1e-4 * gradient.abs().max().item(), rtol=0, msg=name)


def test_batch_norm_statistics_stay_those_of_phase_one(tmp_path):
    model = small_model(1)
    before = {name: b.clone() for name, b in model.named_buffers() if "running" in name}
    train_mode(model)
    model(torch.rand(2, 2, 3, 32, 32))
    assert all(torch.equal(b, before[name]) for name, b in model.named_buffers() if "running" in name)
    assert model.dropout.training and model.temporal.training


def test_phase_one_leaves_the_lstm_alone(tmp_path):
    model = small_model(1)
    before = {name: p.clone() for name, p in model.temporal.named_parameters()}
    pretrain(model, toy_clips(8), toy_clips(8, seed=1), PHASE1, 0, tmp_path)
    # weight decay is the optimiser's, and reaches only what had a gradient
    assert all(torch.equal(p, before[name]) for name, p in model.temporal.named_parameters())


def test_distillation_holds_a_model_near_its_base(tmp_path):
    def drift(weight):
        base, model = small_model(1), small_model(1)
        model.load_state_dict(base.state_dict())
        data = toy_clips(16, role="replay")
        fit(
            model,
            data,
            toy_clips(8, seed=5),
            PHASE2.model_copy(update={"steps": 12, "distillation": weight, "ema": 0.0, "patience": 99}),
            0,
            tmp_path,
            base=base,
        )
        x = torch.stack([torch.from_numpy(data.clip(n)).permute(0, 3, 1, 2).float() / 255 for n in range(16)])
        with torch.no_grad():
            return (model(x) - base.eval()(x)).abs().mean().item()

    assert drift(10.0) < 0.5 * drift(0.0)


def test_the_teacher_is_asked_about_known_forgeries_too_if_the_base_has_met_their_forger():
    """Where all fakes are forged it never saw one: what the champion knew of forgers was held by nothing."""
    clips = toy_clips(12)
    clips.rows["new"] = [place >= 8 for place in range(12)]
    clips.rows["forger"] = ["" if place % 2 == 0 else "blend" if place % 4 == 1 else "fresh" for place in range(12)]
    clips.rows["role"] = ["new" if place >= 8 else "replay" for place in range(12)]
    clips.rows.loc[clips.rows["forger"] != "", "role"] = "forged"
    clips.rows.loc[11, ["role", "new", "forger"]] = ["hardened", False, "blend"]
    reals, blends = [0, 2, 4, 6], [1, 5]
    for met, taught in ((("blend",), sorted(reals + blends)), ((), reals)):
        task = _Fit(small_model(1), clips, PHASE2, 3, None, small_model(2), met)
        assert np.flatnonzero(task.taught).tolist() == taught
    assert _Fit(small_model(1), clips, PHASE2, 3, None, None, ("blend",)).base is None


def test_training_stops_when_validation_stops_getting_better_and_keeps_the_best(tmp_path):
    model, train = small_model(1), toy_clips(16)
    wrong = toy_clips(8, seed=5)
    wrong.rows["label"] = ["real" if label == "fake" else "fake" for label in wrong.rows["label"]]  # the better it learns, the worse this looks
    report = fit(model, train, wrong, PHASE2.model_copy(update={"steps": 60, "validate_every": 3, "patience": 2, "adversarial_steps": 0}), 0, tmp_path)
    assert report.steps < 60 and report.best_step == report.steps - 6
    assert report.best_loss == min(row["val_refinement"] for row in report.history)


def test_without_validation_the_last_weights_are_kept(tmp_path):
    report = fit(small_model(1), toy_clips(8), toy_clips(0 + 1, seed=5), PHASE2, 0, tmp_path)  # one real clip: no two classes
    assert report.best_loss is None and report.best_step == 8 and "val_loss" not in report.history[-1]


@pytest.mark.parametrize(("surer", "moved"), [(12.0, 0.0), (12.0, 30.0), (0.2, -2.0)])
def test_what_is_kept_is_judged_as_it_is_once_calibrated(surer, moved):
    """By the plain loss a network was stopped where it began to be too sure: one that ranked clips ever better kept the weights of a fifth of its steps."""
    clips = toy_clips(200)
    scores = torch.randn(200, generator=torch.Generator().manual_seed(1)) + torch.from_numpy(labels_of(clips.rows)).float()

    def figures(logits):
        left = iter(logits)
        return _validate(small_model(1), clips, lambda shown: torch.stack([next(left) for _ in shown]), 8)

    right, other, better = figures(scores - 0.5), figures(surer * (scores - 0.5) + moved), figures(surer * (scores + 0.5 * labels_of(clips.rows)) + moved)
    assert right["val_loss"] < other["val_loss"] and right["val_auc"] == other["val_auc"] < better["val_auc"]
    assert other["val_refinement"] == pytest.approx(right["val_refinement"], abs=0.01) and right["val_refinement"] == pytest.approx(right["val_loss"], abs=0.01)
    assert better["val_refinement"] < right["val_refinement"] - 0.05


def test_training_goes_on_and_keeps_its_last_weights_while_they_are_better_once_calibrated(tmp_path):
    """Patience counts by the same figure."""
    model = small_model(1)
    looks = iter([{"val_loss": 0.5 + 0.1 * look, "val_refinement": 0.5 - 0.1 * look} for look in range(4)])

    def work(step):
        model.frame_logits(torch.rand(1, 3, model.size_px, model.size_px)).sum().backward()
        return {}

    settings = PHASE1.model_copy(update={"steps": 4, "validate_every": 1, "patience": 1})
    report = loop_module.Loop(model, settings, ema=0.5, clip_norm=1.0, folder=tmp_path).run(work, lambda: next(looks))
    assert (report.best_step, report.steps, report.best_loss) == (4, 4, pytest.approx(0.2))


def test_one_class_and_a_diverging_run_are_one_clear_error(tmp_path):
    reals = toy_clips(8)
    reals.rows["label"] = "real"
    with pytest.raises(DataError, match="8 real and 0 fake"):
        fit(small_model(), reals, toy_clips(4), PHASE2, 0, tmp_path)
    broken = small_model()
    with torch.no_grad():
        broken.frame_head.bias.fill_(float("nan"))
    with pytest.raises(ModelFileError, match="not finite"):
        fit(broken, toy_clips(8), toy_clips(4), PHASE2, 0, tmp_path)


def test_the_rate_rises_then_falls():
    settings = PHASE1.model_copy(update={"steps": 100, "warmup": 0.1, "lr": 1.0})
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (n + 1) for n in range(10)])
    assert rates[10:] == sorted(rates[10:], reverse=True) and 0.02 <= rates[-1] < 0.03


def test_training_leaves_the_callers_random_numbers_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(_seeded := small_model(1), toy_clips(8), toy_clips(4), PHASE2.model_copy(update={"steps": 1}), 0, tmp_path)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fit(_seeded, toy_clips(8), toy_clips(4), PHASE2.model_copy(update={"steps": 2}), 0, tmp_path)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(("batch", "fraction"), [(8, 0.05), (4, 0.125), (12, 0.04), (32, 0.015), (8, 0.3), (4, 1.0), (4, 0.0)])
def test_the_attacked_part_of_many_batches_is_the_fraction_asked_for(batch, fraction):
    """It was rounded in each batch by itself: less than half a clip attacked nothing at all, in silence."""
    settings = PHASE2.model_copy(update={"batch": batch, "micro_batch": batch, "adversarial_fraction": fraction, "warmup": 0.0})
    task = _Fit(small_model(1), toy_clips(8), settings, 3, None, None)
    attacked = [int(task._attacked(batch, step).sum()) for step in range(200)]
    assert abs(sum(attacked) - 200 * batch * fraction) < 1 and max(attacked) - min(attacked) <= 1


@pytest.mark.parametrize(("batch", "fraction"), [(32, 0.5), (16, 0.5), (12, 0.5), (10, 0.7), (100, 0.29)])
def test_where_the_fraction_is_whole_clips_every_batch_has_as_many(batch, fraction):
    settings = PHASE2.model_copy(update={"batch": batch, "micro_batch": batch, "adversarial_fraction": fraction, "warmup": 0.0})
    task = _Fit(small_model(1), toy_clips(8), settings, 3, None, None)
    assert {int(task._attacked(batch, step).sum()) for step in range(0, 20000, 7)} == {round(batch * fraction)}


def test_a_frozen_backbone_stands_still_for_its_part_of_the_steps_and_then_learns(tmp_path):
    start = {name: tensor.clone() for name, tensor in small_model(1).backbone.named_parameters()}
    still, _ = run(fit, tmp_path / "still", frozen=1.0)
    later, _ = run(fit, tmp_path / "later", frozen=0.5)
    assert all(torch.equal(tensor, start[name]) for name, tensor in still.backbone.named_parameters())
    assert not same(still, small_model(1)), "the rest learned"
    assert any(not torch.equal(tensor, start[name]) for name, tensor in later.backbone.named_parameters())
    assert all(parameter.requires_grad for parameter in later.parameters())


@pytest.mark.parametrize(("frozen", "steps"), [(0.0, 3), (0.5, 8), (1.0, 3)])
def test_patience_counts_from_where_the_backbone_learns(frozen, steps, tmp_path, monkeypatch):
    """Looks at a network whose backbone stood still counted: `frozen-then-all` ended before `all`, in silence. Where it stands still to the end all count."""
    monkeypatch.setattr(training, "_validate", lambda *_: {"val_loss": 1.0, "val_refinement": 1.0, "val_auc": 0.5})  # never better than at the first look
    start = {name: tensor.clone() for name, tensor in small_model(1).backbone.named_parameters()}
    raw, advance = {}, loop_module.Loop._advance

    def watched(self, work):
        advance(self, work)
        raw.update({name: tensor.clone() for name, tensor in self.model.backbone.named_parameters()})

    monkeypatch.setattr(loop_module.Loop, "_advance", watched)
    _, report = run(fit, tmp_path, steps=12, validate_every=1, patience=2, frozen=frozen, adversarial_steps=0)
    assert report.steps == steps
    assert all(torch.equal(tensor, start[name]) for name, tensor in raw.items()) == (frozen == 1.0)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler: torch.compile has nothing to compile with")
def test_a_compiled_backbone_has_the_same_output_and_gradient_learns_and_leaves_no_trace(tmp_path):
    """Weights after a few steps are not compared: Adam's first step is as long for a gradient of rounding noise as for any other.

    Clips of one frame, laid out as the loop lays them: what else has a shape of its own is compiled anew, for ten seconds and more.
    """
    model, clips = small_model(1, backbone="meso4"), [toy_clips(16, lengths=(1,)), toy_clips(8, seed=9, lengths=(1,))]
    pixels = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(7)).contiguous(memory_format=torch.channels_last)
    found = []
    for wanted in (False, True):
        model.zero_grad()
        train_mode(model)
        with compiled(model.backbone, wanted):
            assert (model.backbone._compiled_call_impl is not None) == wanted
            out = model.backbone(pixels)
            out.square().mean().backward()
        found.append({"out": out.detach()} | {name: weight.grad.clone() for name, weight in model.backbone.named_parameters() if weight.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) > 4
    for name, plain in found[0].items():
        assert (found[1][name] - plain).norm() <= 1e-3 * plain.norm() + 1e-7, name
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pretrain(model, *clips, PHASE1.model_copy(update={"steps": 3, "validate_every": 3, "compile": True}), 3, tmp_path / "pretrain", augment=AUGMENT)
    assert model.backbone._compiled_call_impl is None
    learned = model.state_dict()
    assert learned.keys() == start.keys() and not torch.equal(learned["backbone.blocks.0.weight"], start["backbone.blocks.0.weight"])
    export_onnx(model.eval(), tmp_path / "model.onnx")


def test_a_folder_for_the_compiler_that_cannot_be_made_is_told_with_a_way_out(tmp_path):
    """Its making is part of an import, whose failure was a trace of calls and, as a disk's, tried again."""
    code = (
        "import sys, torch; from torch import nn; from model.training import compiled\n"
        "try:\n    with compiled(nn.Linear(2, 2), True):\n        print('compiled')\n"
        "except Exception as problem:\n    print(type(problem).__name__, problem)\n"
    )
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": "/proc/nowhere"}
    said = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True, check=True).stdout
    assert said.startswith("SettingsError The backbone cannot be compiled") and "/proc/nowhere" in said and "TORCHINDUCTOR_CACHE_DIR" in said


@pytest.mark.parametrize(("learn", "phase"), [(pretrain, PHASE1), (fit, PHASE2)])
def test_where_nothing_can_be_compiled_the_reason_and_the_way_out_are_said(tmp_path, learn, phase):
    import torch._inductor.config

    torch._dynamo.reset()
    model = small_model(1, backbone="meso4")
    nowhere = torch._inductor.config.patch({"force_disable_caches": True, "cpp.cxx": ("/nowhere/g++",)})
    with nowhere, pytest.raises(SettingsError, match="cannot be compiled") as refusal:
        learn(model, toy_clips(16), toy_clips(8), phase.model_copy(update={"compile": True}), 3, tmp_path, augment=AUGMENT)
    assert "compile: false" in str(refusal.value.next_step)
    assert model.backbone._compiled_call_impl is None
