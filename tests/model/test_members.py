"""Several trainings from one start, and the mean of their weights: who belongs to it, and that a killed run ends the same."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.data import mixed_seed
from model.members import greedy_soup, mean_of, pretrain_members
from model.training import frame_figures, pretrain
from tests.model.test_training import AUGMENT, PHASE1, Stopped, same
from tests.model.toys import small_model, toy_clips
from workspace.errors import Diverged


def validation(one_class=False):
    found = toy_clips(8, seed=9)
    if one_class:
        found.rows["label"] = "real"
    return found


def learned(members, folder, progress=None, one_class=False):
    model, settings = small_model(1), PHASE1.model_copy(update={"members": members})
    return model, pretrain_members(model, toy_clips(20), validation(one_class), settings, 3, folder, progress, augment=AUGMENT)


def by_itself(seed, folder, one_class=False):
    model = small_model(1)
    return model, pretrain(model, toy_clips(20), validation(one_class), PHASE1, seed, folder, augment=AUGMENT)


def test_one_member_is_phase_1_itself(tmp_path):
    one, report = learned(1, tmp_path / "one")
    plain, told = by_itself(3, tmp_path / "plain")
    assert same(one, plain) and (report.best_loss, report.steps, report.history) == (told.best_loss, told.steps, told.history)


def test_the_model_is_the_mean_of_those_that_belong_together_and_no_worse_than_the_best_on_validation(tmp_path):
    mean, report = learned(3, tmp_path / "all")
    alone = [by_itself(mixed_seed(3, member) if member else 3, tmp_path / f"{member}") for member in range(3)]
    assert not same(alone[0][0], alone[1][0]), "each has draws of its own"
    assert [one["best_loss"] for one in report.members] == [told.best_loss for _, told in alone]
    taken = [model for (model, _), one in zip(alone, report.members, strict=True) if one["taken"]]
    wanted = mean_of([model.state_dict() for model in taken])
    assert all(torch.allclose(tensor, wanted[name], atol=1e-7) for name, tensor in mean.state_dict().items())
    assert report.best_loss <= min(one["best_loss"] for one in report.members)
    assert report.best_loss == frame_figures(mean, toy_clips(8, seed=9), PHASE1.micro_batch)["val_loss"]
    assert report.steps == sum(told.steps for _, told in alone)


def test_a_run_that_was_stopped_in_a_later_member_ends_with_the_same_weights(tmp_path):
    whole, _ = learned(3, tmp_path / "whole")
    heard = []

    def stop(done, steps, message):
        heard.append((done, steps))
        if done == PHASE1.steps + 4:
            raise Stopped

    with pytest.raises(Stopped):
        learned(3, tmp_path / "killed", stop)
    assert heard[-1] == (PHASE1.steps + 4, 3 * PHASE1.steps), "progress is told of all members together"
    again, report = learned(3, tmp_path / "killed")
    assert same(whole, again) and report.resumed_from >= PHASE1.steps + 4


def test_there_is_one_member_where_nothing_tells_whether_they_belong_together(tmp_path):
    """Averaged unasked, three good networks made a bad one: loss 0.54 of 0.08, 0.07 and 0.08."""
    network, report = learned(2, tmp_path / "two", one_class=True)
    alone, told = by_itself(3, tmp_path / "one", one_class=True)
    assert same(network, alone) and [one["taken"] for one in report.members] == [True] and report.best_loss is None and report.steps == told.steps


def test_a_member_that_diverges_is_left_out_and_the_first_is_not(tmp_path, monkeypatch, capsys):
    def pretrain_but(which):
        def play(network, train, val, settings, seed, *rest, **more):
            if seed == (mixed_seed(3, which) if which else 3):
                raise Diverged("Training diverged.", why="the gradient of step 4 is not finite", next_step="Lower it.")
            return pretrain(network, train, val, settings, seed, *rest, **more)

        return play

    monkeypatch.setattr("model.members.pretrain", pretrain_but(1))
    _, report = learned(2, tmp_path / "second")
    assert len(report.members) == 1 and "Training 2 of 2 is left out" in capsys.readouterr().err
    monkeypatch.setattr("model.members.pretrain", pretrain_but(0))
    with pytest.raises(Diverged):
        learned(2, tmp_path / "first")


def weights(*values):
    return [{"w": torch.tensor([float(value)]), "seen": torch.tensor(7)} for value in values]


def test_who_ended_in_another_valley_is_left_out():
    """0.9 and 1.1 lie round the lowest place, 9 in a valley of its own, as deep: half way to it is a mountain."""
    loss = {0.9: 0.1, 1.1: 0.1, 9.0: 0.1}
    taken, lowest = greedy_soup(weights(0.9, 1.1, 9), list(loss.values()), lambda found: min((found["w"].item() - 1) ** 2, (found["w"].item() - 9) ** 2 + 0.1))
    assert sorted(taken) == [0, 1] and lowest == pytest.approx(0, abs=1e-6)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.floats(-3, 3))
def test_the_mean_is_never_worse_than_the_best_and_on_a_bowl_all_that_lower_it_are_in(places, lowest_at):
    def loss(found):
        return (found["w"].item() - lowest_at) ** 2

    losses = [loss(one) for one in weights(*places)]
    taken, lowest = greedy_soup(weights(*places), losses, loss)
    assert taken[0] == int(np.argmin(losses)) and len(set(taken)) == len(taken)
    assert lowest <= min(losses) and lowest == pytest.approx(loss(mean_of([weights(*places)[one] for one in taken])))


def test_counters_are_not_averaged():
    found = mean_of(weights(1, 2))
    assert found["seen"].item() == 7 and found["seen"].dtype == torch.int64 and found["w"].item() == 1.5
