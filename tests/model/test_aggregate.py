import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from model.aggregate import STANDING_OUT, ClipEvidence, aggregate, as_estimate, band, sigmoid, track_logit, track_logits, verdict

logits = st.floats(-12, 12)
clips = st.lists(st.builds(ClipEvidence, logits, st.floats(0, 1), st.integers(0, 2)), min_size=1, max_size=12)


def test_a_forged_second_in_ten_is_found_where_the_mean_would_lose_it():
    video = [ClipEvidence(-4.0, 0.95)] * 9 + [ClipEvidence(4.0, 0.95)]
    assert aggregate(video).p_fake > 0.9
    assert aggregate(video).worst_clip == 9
    assert sigmoid(sum(clip.logit for clip in video) / 10) < 0.05


def test_one_forged_face_in_three_decides_and_is_named():
    video = [ClipEvidence(-3.0, 0.9, 0), ClipEvidence(3.0, 0.9, 1), ClipEvidence(-3.0, 0.9, 2), ClipEvidence(-2.0, 0.9, 0)]
    found = aggregate(video)
    assert found.track == 1 and found.worst_clip == 1
    assert found.tracks[1] == pytest.approx(sigmoid(3.0)) and found.tracks[0] < 0.2 > found.tracks[2]
    assert 0.85 < found.p_fake < found.tracks[1]  # a third of its odds, and hardly any of the others'


@given(st.lists(logits, min_size=1, max_size=6), st.floats(0.2, 5))
def test_the_odds_of_a_video_are_the_mean_of_its_faces(faces, temperature):
    found = aggregate([ClipEvidence(logit, 0.5, track) for track, logit in enumerate(faces)], temperature)
    assert found.p_fake == pytest.approx(sigmoid(float(np.log(np.mean(np.exp(np.array(faces) / temperature))))), abs=1e-9)
    assert min(found.tracks.values()) - 1e-9 <= found.p_fake <= max(found.tracks.values()) + 1e-9


@given(clips)
def test_a_person_cut_into_two_tracks_is_one_person_still(video):
    alone = [ClipEvidence(clip.logit, clip.certainty) for clip in video]
    twice = [ClipEvidence(clip.logit, clip.certainty, track) for clip in alone for track in (0, 1)]
    assert aggregate(twice, 1.0, LEVELS, 0.5).p_fake == pytest.approx(aggregate(alone, 1.0, LEVELS, 0.5).p_fake, abs=1e-9)


def test_three_real_people_raise_fewer_alarms_than_three_chances_would():
    def alarms(faces: int, worst: bool) -> float:  # real people with calibrated odds: what a forged one shows is as far on the other side of 0
        drawn = np.random.default_rng(faces).normal(-2.0, 2.0, (4000, faces))
        found = [aggregate([ClipEvidence(z, 0.5, track) for track, z in enumerate(one)]) for one in drawn]
        return float(np.mean([(max(said.tracks.values()) if worst else said.p_fake) >= 0.8 for said in found]))

    assert alarms(3, worst=True) > 2 * alarms(1, worst=False) and alarms(3, worst=False) < 1.2 * alarms(1, worst=False)


@given(logits, st.integers(1, 30), st.floats(0.2, 5))
def test_clips_that_agree_give_their_own_value_whatever_their_number(logit, count, temperature):
    assert aggregate([ClipEvidence(logit, 0.5)] * count, temperature).p_fake == pytest.approx(sigmoid(logit / temperature), abs=1e-9)


@given(clips)
def test_a_video_lies_between_its_mildest_and_its_worst_clip(video):
    found = aggregate(video).p_fake
    assert sigmoid(min(clip.logit for clip in video)) - 1e-9 <= found <= sigmoid(max(clip.logit for clip in video)) + 1e-9


@given(clips, st.integers(0, 11), st.floats(0, 5))
def test_a_clip_that_looks_more_fake_never_lowers_the_video(video, place, more):
    place %= len(video)
    raised = [ClipEvidence(c.logit + more, c.certainty, c.track) if n == place else c for n, c in enumerate(video)]
    assert aggregate(raised).p_fake >= aggregate(video).p_fake - 1e-9


LEVELS = (-2.0, 2.0)  # a typical real, a typical fake


def people(usual: float, standing_out: float, clips: int = 10) -> list[ClipEvidence]:
    return [ClipEvidence(usual, 0.5)] * (clips - 1) + [ClipEvidence(usual + standing_out, 0.5)]


def test_a_forged_second_is_told_from_a_person_who_looks_a_little_forged_throughout():
    forged, odd = people(-1.5, 3.0), people(0.9, 0.3)
    assert aggregate(forged).p_fake < aggregate(odd).p_fake + 0.05  # by the clips alone the two are the same
    assert aggregate(forged, 1.0, LEVELS).p_fake > 0.85 > aggregate(odd, 1.0, LEVELS).p_fake


def test_what_was_very_real_so_far_is_no_reason_for_suspicion():
    assert aggregate(people(-9.0, 6.0), 1.0, LEVELS).p_fake < 0.1


def test_of_many_clips_one_that_stands_out_by_chance_is_no_more_suspicious_than_of_few():
    def alarms(clips: int) -> float:  # of real people who differ among themselves by 0.5 and from clip to clip by 0.4
        drawn = np.random.default_rng(clips).normal(-2.0, 0.5, (400, 1)) + np.random.default_rng(clips + 1).normal(0, 0.4, (400, clips))
        return float(np.mean([aggregate([ClipEvidence(z, 0.5) for z in one], 0.5, LEVELS).p_fake >= border for one in drawn]))

    few = np.random.default_rng(1).normal(-2.0, 0.5, (400, 1)) + np.random.default_rng(2).normal(0, 0.4, (400, 13))
    border = float(np.quantile([aggregate([ClipEvidence(z, 0.5) for z in one], 0.5, LEVELS).p_fake for one in few], 0.95))
    assert alarms(80) < 0.09 and alarms(400) < 0.09  # with all odds for the worst clip: 0.15 and 0.4


def test_two_clips_have_no_others_to_stand_out_of():
    assert aggregate(people(-1.5, 3.0, clips=2), 1.0, LEVELS) == aggregate(people(-1.5, 3.0, clips=2))


@pytest.mark.parametrize("others", [[-1.0, -1.0], [-1.0, -1.0, -2.0, -2.0]])
def test_from_three_clips_on_one_stands_out_of_their_median(others):
    """A mean it would pull up itself."""
    part = STANDING_OUT * (6.0 - -1.0 - (3.0 - -3.0) / 3)
    assert track_logit([*others, 6.0], [1.0] * (len(others) + 1), 1.0, (-3.0, 3.0)) == pytest.approx(part)


@given(clips)
def test_a_model_without_levels_or_with_turned_ones_judges_no_part(video):
    assert aggregate(video, 1.0, (2.0, -2.0)) == aggregate(video, 1.0, (0.0, 0.0)) == aggregate(video)


@given(clips, st.floats(0.2, 5))
def test_a_part_needs_a_clip_beyond_a_third_of_the_way(video, temperature):
    found, top = aggregate(video, temperature, LEVELS).p_fake, max(clip.logit for clip in video)
    assert found >= sigmoid(min(clip.logit for clip in video) / temperature) - 1e-9
    assert found <= sigmoid(max(top, 2 * (top + 2 - 4 / 3)) / temperature) + 1e-9
    if top <= -2 + 4 / 3:  # the most that a part could then say is below even
        assert found <= max(0.5, sigmoid(top / temperature)) + 1e-9


@given(clips, st.floats(0, 5), st.floats(0.2, 5))
def test_a_worst_clip_that_looks_more_fake_never_lowers_the_video(video, more, temperature):
    place = max(range(len(video)), key=lambda n: video[n].logit)
    raised = [ClipEvidence(c.logit + more, c.certainty, c.track) if n == place else c for n, c in enumerate(video)]
    assert aggregate(raised, temperature, LEVELS).p_fake >= aggregate(video, temperature, LEVELS).p_fake - 1e-9


@given(clips, st.floats(-6, 6), st.floats(0.2, 5))
def test_where_a_network_puts_zero_says_nothing(video, moved, temperature):
    """A network whose levels lay at -5 and -1 had every second video called by its spread alone: AUC 0.88 in place of 0.997, and the worse the more clips."""
    levels = (LEVELS[0] + moved, LEVELS[1] + moved)
    shifted = [ClipEvidence(clip.logit + moved, clip.certainty, clip.track) for clip in video]
    found = aggregate(shifted, temperature, levels, offset=-moved / temperature)
    assert found.p_fake == pytest.approx(aggregate(video, temperature, LEVELS).p_fake, abs=1e-6)


@given(st.floats(-12, 12), st.integers(1, 30), st.floats(0.2, 5))
def test_clips_that_agree_are_no_part_of_anything(logit, count, temperature):
    assert aggregate([ClipEvidence(logit, 0.5)] * count, temperature, LEVELS).p_fake == pytest.approx(sigmoid(logit / temperature), abs=1e-9)


def test_an_uncertain_clip_counts_less():
    sure, unsure = ([ClipEvidence(-2.0, 0.9), ClipEvidence(2.0, certainty)] for certainty in (0.9, 0.0))
    assert aggregate(unsure).p_fake < aggregate(sure).p_fake


@pytest.mark.parametrize(("levels", "softness"), [((0.0, 0.0), 0.5), ((-4.0, 4.0), 2.0)])  # no clip stands out of these: nearly a mean
def test_the_logit_of_a_track_is_the_soft_maximum_of_its_clips_by_their_certainty(levels, softness):
    logits, certainty = [0.0, 1.0, 2.0, 1.5], [0.2, 1.0, 0.6, 0.0]
    weights = [0.1 + 0.9 * one for one in certainty]
    shares = [weight / math.fsum(weights) for weight in weights]
    expected = softness * logsumexp([logit / 1.7 / softness for logit in logits], b=shares)
    assert track_logit(logits, certainty, 1.7, levels) == pytest.approx(expected, abs=1e-9)


def test_the_offset_moves_every_track_and_the_video_alike():
    clips = [ClipEvidence(-1.0, 1.0, 3), ClipEvidence(2.0, 1.0, 7)]
    moved = {track: sigmoid(logit + 1.5) for track, logit in track_logits(clips, 2.0).items()}
    assert aggregate(clips, 2.0, offset=1.5).tracks == pytest.approx(moved)
    alone = aggregate(clips[1:], 2.0, offset=1.5)
    assert alone.p_fake == alone.tracks[7] == pytest.approx(sigmoid(2.5))


def test_a_video_without_clips_has_no_score():
    with pytest.raises(ValueError, match="without clips"):
        aggregate([])


@pytest.mark.parametrize(
    ("p_fake", "threshold", "abstain", "said"),
    [(0.39, 0.5, 0.1, "real"), (0.45, 0.5, 0.1, "uncertain"), (0.6, 0.5, 0.1, "fake"), (0.98, 0.95, 0.1, "fake"), (0.96, 0.95, 0.1, "uncertain"),
     (0.01, 0.05, 0.1, "real"), (0.5, 0.5, 0.0, "fake"), (0.499, 0.5, 0.0, "real")],
)  # fmt: skip
def test_the_uncertain_band_never_swallows_a_side(p_fake, threshold, abstain, said):
    assert verdict(p_fake, threshold, abstain) == said


def test_the_band_takes_at_most_half_of_the_room_on_either_side():
    assert band(0.5, 0.1) == pytest.approx((0.4, 0.6))
    assert band(0.95, 0.1) == pytest.approx((0.85, 0.975))
    assert band(0.04, 0.1) == pytest.approx((0.02, 0.14))


@given(st.floats(0, 1), st.floats(0, 1))
def test_certain_extremes_always_get_a_verdict(threshold, abstain):
    assert verdict(1.0, threshold, abstain) == "fake"
    assert (verdict(0.0, threshold, abstain) == "real") == (threshold > 0)


@given(st.floats(0, 1), st.integers(1, 4))
def test_an_estimate_is_never_shown_as_certainty(p_fake, digits):
    """A p_fake of 0.9996 stood as 1.000 in the table of `vigil score`, and as 100.0% at the head of a signed report."""
    text = as_estimate(p_fake, digits)
    figure = float(text.lstrip("<>"))
    assert 0 < figure < 1 and abs(figure - p_fake) <= 10.0**-digits * 1.0001
    assert p_fake > figure if text[0] == ">" else p_fake < figure if text[0] == "<" else True


def test_the_ends_of_what_is_shown():
    assert [as_estimate(p) for p in (1.0, 0.9996, 0.9994, 0.5, 0.0006, 0.0004, 0.0)] == [">0.999", ">0.999", "0.999", "0.500", "0.001", "<0.001", "<0.001"]
    assert as_estimate(0.996, 2) == ">0.99"
