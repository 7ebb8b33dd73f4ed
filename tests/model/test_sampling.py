import gc
import hashlib
import itertools
import pickle
import weakref

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model import parallel
from model.data import ClipDataset, MemoryClips, epoch_hash, epoch_order, mixed_seed, stack, to_tensor, with_columns
from model.sampling import balanced_batches
from tests.model.toys import toy_clip, toy_clips
from workspace.errors import DataError, MediaError


def table(*groups):
    """groups: (count, label, role, new, generator); forged rows are pairs of the reals before them."""
    rows = []
    for count, label, role, new, generator in groups:
        reals = [row["clip_id"] for row in rows if row["label"] == "real"]
        for n in range(count):
            forged = role == "forged"
            rows.append({
                "clip_id": f"{role}-{label}-{generator}-{n:03d}", "label": label, "role": role, "new": new, "generator": generator, "sha256": "",
                "forger": generator if forged else "", "source_clip": reals[n % len(reals)] if forged else "", "origin": "forged" if forged else "collected",
            })  # fmt: skip
    return with_columns(pd.DataFrame(rows))


def take(rows, batch, count, seed=0):
    return list(itertools.islice(balanced_batches(rows, batch, seed), count))


WEEK = table((10, "real", "new", True, ""), (6, "fake", "new", True, "fresh"), (40, "real", "replay", False, ""), (40, "fake", "replay", False, "old"),
             (12, "fake", "forged", True, "blend"))  # fmt: skip


def test_half_of_each_batch_is_new_and_half_of_it_is_fake():
    for chosen in take(WEEK, 16, 30):
        rows = WEEK.iloc[chosen]
        assert (rows["label"] == "fake").sum() == 8
        assert (rows["role"] == "new").sum() == 8
        assert ((rows["role"] == "new") & (rows["label"] == "fake")).sum() == 4


def test_a_real_and_its_forgery_often_meet_and_never_leave_the_other_fakes_out():
    together = forged = old = 0
    for chosen in take(WEEK, 16, 60):
        rows = WEEK.iloc[chosen]
        together += rows["source_clip"].isin(rows["clip_id"]).sum()
        forged += (rows["role"] == "forged").sum()
        old += (rows["generator"] == "old").sum()
    assert together > 0.5 * forged and old >= 60


def test_where_all_fakes_are_forged_each_real_meets_its_own():
    """The strongest lever of self-blending: the pair differs by the forgery alone."""
    rows = table((12, "real", "new", True, ""), (12, "fake", "forged", True, "blend"), (12, "fake", "forged", True, "warp"))
    kinds = []
    for chosen in take(rows, 8, 30):
        batch = rows.iloc[chosen]
        assert sorted(batch.loc[batch["label"] == "fake", "source_clip"]) == sorted(batch.loc[batch["label"] == "real", "clip_id"])
        kinds += batch.loc[batch["label"] == "fake", "generator"].tolist()
    assert abs(kinds.count("blend") - kinds.count("warp")) <= 4


def test_rare_generators_come_as_often_as_common_ones():
    rows = table((30, "real", "new", True, ""), (27, "fake", "new", True, "common"), (3, "fake", "new", True, "rare"))
    drawn = pd.concat([rows.iloc[chosen] for chosen in take(rows, 8, 30)])
    counts = drawn["generator"].value_counts()
    assert abs(counts["common"] - counts["rare"]) <= 1


@pytest.mark.parametrize(("videos", "pictures", "most"), [(10, 26, 0.5), (26, 10, 0.5), (40, 4, 2 / 7), (80, 2, 1 / 11), (20, 0, 0.0)])
def test_videos_and_pictures_come_equally_often_where_fakes_are_made_from_all_reals_unless_one_is_rare(videos, pictures, most):
    """A rare one at most four times as often as its number says, so that three photos among thousands of videos are not learned by heart."""
    rows = table((videos + pictures, "real", "new", True, ""), (videos + pictures, "fake", "forged", True, "g"))
    rows["kind"] = (["video"] * videos + ["image"] * pictures) * 2
    real, fake = shares_of_pictures(rows)
    assert real == pytest.approx(fake, abs=0.02) and most / 2 <= real <= most + 0.02


@pytest.mark.parametrize(("videos", "pictures", "fake_videos", "fake_pictures"), [(800, 200, 800, 0), (300, 700, 400, 400), (300, 300, 550, 50)])
def test_pictures_are_as_large_a_part_of_the_reals_as_of_the_fakes(videos, pictures, fake_videos, fake_pictures):
    """A network sees at once that a clip has one frame: where half of the reals were pictures and 7% of the fakes, one frame spoke for `real`."""
    rows = table((videos + pictures, "real", "new", True, ""), (fake_videos + fake_pictures, "fake", "new", True, "swap"))
    made = rows[: videos + pictures].assign(clip_id=lambda t: t["clip_id"] + "+x", label="fake", role="forged", generator="x", forger="x")
    rows["kind"] = ["video"] * videos + ["image"] * pictures + ["video"] * fake_videos + ["image"] * fake_pictures
    rows = pd.concat([rows, made.assign(kind=rows["kind"], source_clip=rows["clip_id"])], ignore_index=True)
    real, fake = shares_of_pictures(rows)
    assert real == pytest.approx(fake, abs=0.02) and real > 0.1


def weeks_of(*weeks):
    """Each week (pictures, videos, forgers, collected pictures, collected videos): reals, what each forger made of them, and what was collected beside."""
    rows = []
    for number, (pictures, videos, forgers, *collected) in enumerate(weeks):
        new = number == len(weeks) - 1
        about, role = {"new": new, "sha256": "", "generator": "", "forger": "", "source_clip": ""}, "new" if new else "replay"
        for place, kind in enumerate(["image"] * pictures + ["video"] * videos):
            real = about | {"clip_id": f"{place * 7919 % 10007:05d}-{number}", "kind": kind, "label": "real", "role": role}
            made = [{"clip_id": f"{real['clip_id']}+{forger}", "forger": f"forger{forger}", "generator": f"forger{forger}"} for forger in range(forgers)]
            rows += [real, *(real | one | {"label": "fake", "role": "forged", "source_clip": real["clip_id"]} for one in made)]
        for place, kind in enumerate(["image"] * collected[0] + ["video"] * collected[1]):
            rows.append(about | {"clip_id": f"swap-{place}-{number}", "kind": kind, "label": "fake", "role": role, "generator": "swap"})
    return with_columns(pd.DataFrame(rows))


def drawn(rows, count=200):
    return rows.assign(came=np.bincount(np.concatenate(take(rows, 32, count)), minlength=len(rows)))


def pictures_among(rows):
    came = rows.groupby(["label", "kind"])["came"].sum()
    return tuple(float(came[label, "image"] / came[label].sum()) for label in ("real", "fake"))


@pytest.mark.parametrize(
    ("weeks", "least"),
    [
        ([(100, 100, 2, 0, 30)], 0.2),
        ([(100, 100, 2, 0, 10)], 0.35),
        ([(100, 100, 2, 30, 0)], 0.2),
        ([(100, 100, 2, 0, 0), (50, 50, 2, 0, 10)], 0.35),
        ([(100, 100, 2, 0, 1)], 0.45),
    ],
)
def test_a_few_collected_fakes_of_one_kind_make_it_no_mark_of_a_class(weeks, least):
    """Half of the fakes' places were collected videos', and the forged beside them half pictures: a picture was a real one two times in three.

    `least`: part of the rarer kind. As many reals as are needed answer the collected fakes; the others, and what was forged from them, are of both kinds.
    """
    rows = drawn(weeks_of(*weeks))
    real, fake = pictures_among(rows)
    assert abs(real - fake) < 0.04 and min(real, 1 - real) > least
    forged = rows[rows["role"] == "forged"]
    assert (forged["came"] > 0).mean() > 0.99
    came = forged.groupby("kind")["came"].mean()
    assert came.max() < 1.4 * came.min(), came


def test_many_collected_fakes_of_one_kind_leave_the_other_no_rarer_than_bounds_do():
    real, fake = pictures_among(drawn(weeks_of((100, 100, 1, 0, 40), (50, 50, 1, 0, 40))))
    assert real > 0.19 and abs(real - fake) < 0.08


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(30, 70), st.integers(30, 70), st.integers(1, 3), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=2),
)
def test_both_classes_have_the_same_share_of_pictures_wherever_both_kinds_have_enough_of_both(weeks):
    real, fake = pictures_among(drawn(weeks_of(*weeks), 120))
    assert abs(real - fake) < 0.04


def test_where_all_fakes_are_forged_the_batches_hold_the_clips_of_the_rule_of_before():
    """What was measured with such sets stands on them: the digest is that of the batches of 30 November 2026, each sorted, since their order has changed."""
    sets = [((40, 60, 2, 0, 0),), ((20, 0, 1, 0, 0), (30, 30, 3, 0, 0)), ((5, 90, 1, 0, 0), (9, 9, 1, 0, 0))]
    batches = [[sorted(chosen) for chosen in take(weeks_of(*weeks), batch, 60, seed=batch)] for weeks in sets for batch in (7, 16, 32)]
    assert hashlib.sha256(repr(batches).encode()).hexdigest() == "58346440d994c8de2dad123b74f6790040e097a55f0d980b4720e60259aec6be"


def test_reals_without_a_fake_of_their_kind_are_still_seen():
    rows = table((100, "real", "new", True, ""), (20, "fake", "new", True, "g"))
    rows["kind"] = ["image"] * 50 + ["video"] * 70
    assert shares_of_pictures(rows) == pytest.approx((1 / 5, 0.0), abs=0.02)  # each picture once while each video comes four times


def shares_of_pictures(rows):
    """Part of the reals and of the fakes drawn that are pictures."""
    drawn = pd.concat([rows.iloc[chosen] for chosen in take(rows, 8, 220)])
    return tuple((drawn.loc[drawn["label"] == label, "kind"] == "image").mean() for label in ("real", "fake"))


SETS = {"a week beside a history": WEEK, "a first week": weeks_of((30, 30, 1, 0, 0)), "two weeks": weeks_of((20, 20, 2, 0, 0), (10, 10, 2, 0, 0)),
        "some collected": weeks_of((20, 20, 1, 9, 9), (10, 10, 2, 5, 5))}  # fmt: skip


@pytest.mark.parametrize("rows", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("batch", "at_once"), [(4, 2), (8, 2), (8, 4), (32, 2), (32, 8), (6, 3), (9, 3), (10, 5)])
def test_each_piece_of_a_batch_holds_both_classes(rows, batch, at_once):
    """Batches came as RRFF: where micro_batch, or a process's share, is 2, batch norm took away what tells the classes apart, and nothing was learned."""
    for chosen in take(rows, batch, 40):
        fake = (rows["label"].iloc[chosen] == "fake").tolist()
        pieces = [sum(fake[start : start + at_once]) for start in range(0, batch, at_once)]
        assert all(0 < fakes < at_once for fakes in pieces), fake


@pytest.mark.parametrize("rows", SETS.values(), ids=SETS)
@pytest.mark.parametrize(("batch", "processes"), [(8, 4), (32, 16), (4, 2), (6, 2), (32, 4)])
def test_each_process_s_share_of_a_batch_holds_both_classes(rows, batch, processes, monkeypatch):
    monkeypatch.setattr(parallel, "size", lambda: processes)
    for rank in range(processes):
        monkeypatch.setattr(parallel, "rank", lambda rank=rank: rank)
        for chosen in take(rows, batch, 20):
            assert set(rows["label"].iloc[chosen[parallel.share(batch)]]) == {"real", "fake"}


@pytest.mark.parametrize("rows", SETS.values(), ids=SETS)
@pytest.mark.parametrize("batch", [5, 6, 8, 32])
def test_of_a_pair_the_one_stands_next_to_the_other(rows, batch):
    """Where two are shown at once, these two are: what differs between them is the forgery."""
    met = 0
    for chosen in take(rows, batch, 40):
        names, sources = (rows[column].iloc[chosen].tolist() for column in ("clip_id", "source_clip"))
        beside = {name for at, name in enumerate(names) if name in sources[max(0, at - 1) : at + 2]}
        assert beside == set(names) & set(sources)
        met += len(beside)
    assert met > 0


def test_every_clip_is_seen():
    seen = set(itertools.chain.from_iterable(take(WEEK, 16, 80)))
    assert seen == set(range(len(WEEK)))


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 16])
def test_any_batch_size_is_met_and_balanced_over_time(batch):
    batches = take(WEEK, batch, 200)
    assert {len(chosen) for chosen in batches} == {batch}
    fakes = np.mean((WEEK["label"].iloc[list(itertools.chain.from_iterable(batches))] == "fake").to_numpy())
    assert 0.45 < fakes < 0.55


def test_without_history_the_whole_batch_is_new_and_without_news_it_is_replay():
    assert all(len(chosen) == 8 for chosen in take(table((9, "real", "new", True, ""), (3, "fake", "new", True, "g")), 8, 5))
    replay = table((9, "real", "replay", False, ""), (3, "fake", "replay", False, "g"))
    assert all((replay.iloc[chosen]["label"] == "fake").sum() == 4 for chosen in take(replay, 8, 5))


def test_new_reals_alone_meet_fakes_made_from_them():
    rows = table((9, "real", "new", True, ""), (9, "fake", "forged", True, "blend"))
    assert all((rows.iloc[chosen]["label"] == "fake").sum() == 4 for chosen in take(rows, 8, 5))


@pytest.mark.parametrize("new", [True, False])
def test_a_handful_of_collected_fakes_is_not_learned_by_heart(new):
    """Four of them among 800 reals took half of the fakes' places: 600 visits each, where a real came six times."""
    rows = table((800, "real", "new", True, ""), (4, "fake", "new", new, "rare"), (800, "fake", "forged", True, "blend"))
    drawn = pd.concat([rows.iloc[chosen] for chosen in take(rows, 32, 300)])
    fakes = drawn[drawn["label"] == "fake"]
    rare = (fakes["generator"] == "rare").sum()
    assert len(fakes) == 4800 and 4 * 4 <= rare <= 8.5 * 4 * 4800 / 804
    assert fakes.loc[fakes["generator"] == "blend", "clip_id"].nunique() > 700
    batches = [rows.iloc[chosen] for chosen in take(rows, 32, 40)]
    beside_their_reals = [set(batch.loc[batch["generator"] == "blend", "source_clip"]) <= set(batch["clip_id"]) for batch in batches]
    assert np.mean(beside_their_reals) > 0.8


def test_forged_fakes_take_one_place_in_four_beside_what_is_replayed():
    """More of them pushed the replayed forger out. No real has a fake of its own here: pairs take no place."""
    rows = table((80, "real", "new", True, ""), (80, "fake", "new", True, "fresh"), (80, "real", "replay", False, ""), (80, "fake", "replay", False, "old"),
                 (80, "fake", "forged", False, "blend"))  # fmt: skip
    rows.loc[rows["role"] == "forged", "source_clip"] = ""
    fakes = pd.concat([rows.iloc[chosen] for chosen in take(rows, 16, 200)]).query("label == 'fake' and role != 'new'")
    assert (fakes["role"] == "forged").mean() == pytest.approx(1 / 4, abs=0.02)


@pytest.mark.parametrize(("collected", "all_pairs"), [(12, True), (16, False)])
def test_pairs_are_the_rule_below_an_eighth_of_collected_fakes(collected, all_pairs):
    rows = table((100, "real", "new", True, ""), (collected, "fake", "new", True, "caught"), (100 - collected, "fake", "forged", True, "blend"))
    batches = [rows.iloc[chosen] for chosen in take(rows, 16, 60)]
    forged = sum((batch["role"] == "forged").sum() for batch in batches)
    paired = sum(batch["source_clip"].isin(batch["clip_id"]).sum() for batch in batches)
    assert (paired / forged > 0.8) == all_pairs, paired / forged


def test_a_later_pass_has_an_order_of_its_own():
    """Else the same clips meet in the same batches for the whole training."""
    rows = table((20, "real", "new", True, ""), (20, "fake", "new", True, "g"))
    reals = [place for chosen in take(rows, 8, 20) for place in chosen if place < 20]
    passes = [tuple(reals[start : start + 20]) for start in range(0, 80, 20)]
    assert all(sorted(one) == list(range(20)) for one in passes) and len(set(passes)) == 4


def test_a_handful_of_new_reals_is_not_learned_by_heart():
    rows = table((4, "real", "new", True, ""), (200, "fake", "new", True, "g"), (400, "real", "replay", False, ""), (400, "fake", "replay", False, "old"))
    drawn = pd.concat([rows.iloc[chosen] for chosen in take(rows, 32, 100)])
    assert (drawn["label"] == "fake").mean() == 0.5
    assert 4 <= ((drawn["label"] == "real") & (drawn["role"] == "new")).sum() <= 8.5 * 4 * 1600 / 404


def test_a_few_fakes_of_a_new_maker_in_a_small_week_are_not_learned_by_heart():
    """A bound for the week and one for the maker within it came to forty times as often as its class's clips."""
    rows = table((800, "real", "replay", False, ""), (800, "fake", "replay", False, "old"), (20, "real", "new", True, ""), (18, "fake", "new", True, "old"),
                 (2, "fake", "new", True, "rare"))  # fmt: skip
    fakes = pd.concat([rows.iloc[chosen] for chosen in take(rows, 32, 600)]).query("label == 'fake'")
    for few, count in ((fakes["generator"] == "rare", 2), (fakes["role"] == "new", 20)):
        assert 4 * count <= few.sum() <= 8.5 * count * len(fakes) / 820


@pytest.mark.parametrize(("reals", "collected", "forged"), [(20, 1480, 20), (4, 1143, 1)])
def test_forgeries_of_a_few_reals_are_not_learned_by_heart(reals, collected, forged):
    """Beside its real a forgery came whatever the bound said: a single one 112 times as often as the other fakes."""
    rows = table((reals, "real", "new", True, ""), (collected, "fake", "new", True, "g"), (forged, "fake", "forged", True, "blend"))
    fakes = pd.concat([rows.iloc[chosen] for chosen in take(rows, 32, 500)]).query("label == 'fake'")
    assert (fakes["role"] == "forged").sum() <= 9 * forged * len(fakes) / (collected + forged)


def test_one_class_is_refused():
    with pytest.raises(DataError, match="9 real and 0 fake"):
        balanced_batches(table((9, "real", "new", True, "")), 8, 0)


def test_batches_follow_the_clips_and_the_seed_not_the_order_of_the_table():
    shuffled = WEEK.sample(frac=1, random_state=3).reset_index(drop=True)
    names = [[WEEK["clip_id"][p] for p in chosen] for chosen in take(WEEK, 8, 20)]
    again = [[shuffled["clip_id"][p] for p in chosen] for chosen in take(shuffled, 8, 20)]
    other = [[WEEK["clip_id"][p] for p in chosen] for chosen in take(WEEK, 8, 20, seed=1)]
    assert names[:3] == again[:3] and names != other


def test_an_epoch_visits_each_clip_once_in_an_order_of_its_own():
    first, second = epoch_order(WEEK, 1, 0), epoch_order(WEEK, 1, 1)
    assert sorted(first) == sorted(second) == list(range(len(WEEK))) and first != second
    shuffled = WEEK.sample(frac=1, random_state=3).reset_index(drop=True)
    assert [WEEK["clip_id"][p] for p in first] == [shuffled["clip_id"][p] for p in epoch_order(shuffled, 1, 0)]


def test_seeds_of_steps_are_unrelated():
    seeds = {mixed_seed(a, b, c) for a in range(5) for b in range(5) for c in range(5)}
    assert len(seeds) == 125 and mixed_seed(1, 2) != mixed_seed(2, 1)


@pytest.fixture
def stored(tmp_path):
    from media.shards import ShardWriter, read_index

    rng = np.random.default_rng(0)
    with ShardWriter(tmp_path / "data" / "faces" / "b") as writer:
        for n in range(6):
            clip = toy_clip(bool(n % 2), rng)
            writer.add({"clip_id": f"c{n}", "label": "fake" if n % 2 else "real"}, clip, np.zeros((3, 468, 2)))
    return tmp_path, read_index(tmp_path / "data" / "faces" / "b").assign(store="data/faces/b")


def test_a_dataset_reads_pixels_from_the_shards_and_keeps_no_more_than_allowed(stored):
    root, rows = stored
    one = 3 * 32 * 32 * 3
    data = ClipDataset(root, rows, size_px=32, cache_bytes=2 * one)
    first = [data.clip(n).copy() for n in range(6)]
    assert all(np.array_equal(data.clip(n), first[n]) for n in range(6)) and len(data) == 6
    assert sum(clip.nbytes for clip in data._cache.values()) == 2 * one
    for room in (0, 2 * one, 6 * one):
        data = ClipDataset(root, rows, size_px=32, cache_bytes=room)
        assert all(np.array_equal(data.frame(n, at), first[n][at][None]) for _ in range(2) for n in range(6) for at in range(data.length(n)))
        assert sum(clip.nbytes for clip in data._cache.values()) == room


def test_a_frame_that_was_just_read_by_itself_is_not_read_again(stored):
    """A real frame and the fake that is forged from it come in one batch; what another process read is not sent along."""
    root, rows = stored
    data = ClipDataset(root, rows, size_px=32, cache_bytes=0)
    frame = data.frame(0, 1).copy()
    (root / "data" / "faces" / "b" / "clips-000.tar").unlink()
    assert np.array_equal(data.frame(0, 1), frame)
    for reads, number in ((data, 2), (pickle.loads(pickle.dumps(data)), 1)):
        with pytest.raises(MediaError):
            reads.frame(0, number)


def test_clips_in_memory_go_with_their_last_user(stored):
    """Gigabytes that wait for Python's collector would stand beside those of the next training."""
    root, rows = stored
    data = ClipDataset(root, rows, size_px=32)
    data.frame(0, 1)
    gone = weakref.ref(data)
    gc.disable()
    try:
        del data
        assert gone() is None
    finally:
        gc.enable()


def test_clips_of_another_size_are_refused_at_once(stored):
    """The next step was to raise a stage number, which DVC does not need and `vigil audit` does not look at: the same refusal came again."""
    root, rows = stored
    with pytest.raises(DataError, match=r"32.* px, the model takes 64 px") as refused:
        ClipDataset(root, rows, size_px=64)
    assert "faces.size_px" in refused.value.next_step and "`vigil retrain`" in refused.value.next_step and "stage_versions" not in refused.value.next_step


def test_the_epoch_hash_follows_pixels_and_seed_and_nothing_else(stored, tmp_path_factory):
    from media.shards import ShardWriter, read_clip, read_index

    root, rows = stored
    value = epoch_hash(root, rows, 1)
    assert value == epoch_hash(root, rows.sample(frac=1, random_state=1), 1) != epoch_hash(root, rows, 2)
    other = tmp_path_factory.mktemp("other")
    with ShardWriter(other / "data" / "faces" / "b") as writer:
        for n, row in rows.iterrows():
            pixels = read_clip(root, row).copy()
            pixels[0, 0, 0, 0] ^= n == 3  # one bit of one clip
            writer.add({"clip_id": row["clip_id"], "label": row["label"]}, pixels, np.zeros((3, 468, 2)))
    assert epoch_hash(other, read_index(other / "data" / "faces" / "b").assign(store="data/faces/b"), 1) != value


def test_stacking_fills_with_the_last_frame_and_says_how_long_each_clip_is():
    clips = [to_tensor(toy_clip(False, np.random.default_rng(n), frames)) for n, frames in enumerate((3, 1))]
    padded, lengths = stack(clips)
    assert padded.shape == (2, 3, 3, 32, 32) and lengths.tolist() == [3, 1]
    assert bool((padded[1] == clips[1][0]).all())
    assert stack(clips[:1])[1] is None


def test_rows_without_a_label_cannot_train():
    with pytest.raises(DataError, match="expected 'real' and 'fake'"):
        MemoryClips(pd.DataFrame({"clip_id": ["a"], "label": [""]}), [toy_clip(False, np.random.default_rng(0))])
    assert len(toy_clips(4).rows) == 4


def hardened(rows, reals, fakes):
    """The rows and hardened versions of so many reals and fakes, as new as what they were made from."""
    made = [rows[rows["label"] == label].head(count).assign(role="hardened", origin="hardened") for label, count in (("real", reals), ("fake", fakes)) if count]
    made = [part.assign(source_clip=part["clip_id"], clip_id=part["clip_id"] + "+pgd") for part in made]
    return with_columns(pd.concat([rows, *made], ignore_index=True))


ALL_FORGED = table((40, "real", "new", True, ""), (120, "fake", "forged", False, "blend"), (20, "fake", "forged", True, "warp"))


@pytest.mark.parametrize(("rows", "each"), [(WEEK, 6), (ALL_FORGED, 12), (ALL_FORGED, 40)])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hardened_clips_take_as_many_places_of_the_reals_as_of_the_fakes_and_no_more_than_their_part(rows, each, seed):
    """Else adversarial noise is a mark of the class that has more of it."""
    given = hardened(rows, each, each)
    taken = pd.concat([given.iloc[chosen] for chosen in take(given, 16, 200, seed)])
    counts = taken[taken["role"] == "hardened"]["label"].value_counts()
    part = 2 * each / len(given)
    assert abs(counts["real"] - counts["fake"]) <= 1
    assert 0.7 * part <= counts.sum() / len(taken) <= 1.4 * part
    assert taken["label"].value_counts()["fake"] == len(taken) / 2


@pytest.mark.parametrize("each", [8, 13, 20, 27, 40, 108])
def test_hardened_clips_take_as_many_places_of_what_is_known_as_of_what_is_new(each):
    """Else what is replayed is seldom drawn, or never where many are hardened, and forgotten."""
    known = (40, "real", "replay", False, ""), (40, "fake", "replay", False, "old")
    rows = table((40, "real", "new", True, ""), (40, "fake", "new", True, "fresh"), *known, (12, "fake", "forged", True, "blend"))
    given = hardened(rows, min(each, 80), min(each, 80))
    given = pd.concat([given, *[given[given["role"] == "hardened"]] * (each // 80)], ignore_index=True)
    taken = pd.concat([given.iloc[chosen] for chosen in take(given, 16, 200)])
    new, kept = (taken["role"] == "new").sum(), taken["role"].isin(["replay", "forged"]).sum()
    assert (taken["role"] == "hardened").any() and abs(new - kept) <= 0.02 * len(taken)
    assert (taken["role"] == "replay").sum() >= 0.15 * len(taken)


@pytest.mark.parametrize("hard", [60, 120, 300, 700])
def test_the_few_collected_fakes_come_however_many_clips_are_hardened(hard):
    rows = table((370, "real", "new", True, ""), (30, "fake", "new", True, "caught"), (370, "fake", "forged", True, "blend"))
    given = hardened(rows, hard // 2, hard // 2)
    taken = pd.concat([given.iloc[chosen] for chosen in take(given, 16, 200)])
    caught = ((taken["generator"] == "caught") & (taken["role"] != "hardened")).sum()
    assert caught >= 0.1 * (taken["role"] != "hardened").sum()


@pytest.mark.parametrize(("reals", "fakes"), [(6, 0), (0, 6)])
def test_hardened_clips_of_one_class_alone_are_not_drawn(reals, fakes):
    given = hardened(ALL_FORGED, reals, fakes)
    assert not any((given.iloc[chosen]["role"] == "hardened").any() for chosen in take(given, 16, 50))


@pytest.mark.parametrize("childless", [1, 3, 8])
def test_a_real_without_a_fake_of_its_own_does_not_tip_the_kinds(childless):
    """A mismatched pair was asked to be made up for by every real after it, whose own fake brought the debt back."""
    rows = table((60, "real", "new", True, ""), (200, "fake", "forged", True, "blend"))
    rows["kind"] = np.where(rows["clip_id"].str.extract(r"(\d+)$")[0].astype(int) % 60 < 30, "image", "video")
    source_kind = dict(zip(rows["clip_id"], rows["kind"], strict=True))
    rows["kind"] = [source_kind.get(source, kind) for source, kind in zip(rows["source_clip"], rows["kind"], strict=True)]
    alone = rows.loc[(rows["label"] == "real") & (rows["kind"] == "image"), "clip_id"].head(childless)
    rows = rows[~rows["source_clip"].isin(alone)].reset_index(drop=True)
    taken = pd.concat([rows.iloc[chosen] for chosen in take(rows, 16, 400)])
    shares = taken.groupby("label")["kind"].value_counts(normalize=True)
    assert abs(shares["real", "image"] - 0.5) < 0.03 and abs(shares["fake", "image"] - 0.5) < 0.06


@pytest.mark.parametrize("weeks", [1, 2])
def test_the_forgers_meet_in_a_batch(weeks):
    """Each real's fakes came in one order, so that all of a batch were one forger's, for a whole pass over the reals, and then all the next one's."""
    makers = ("blend", "mouth", "repair")
    reals = [table((90, "real", "new" if week == weeks - 1 else "replay", week == weeks - 1, "")).assign(week=week) for week in range(weeks)]
    rows = []
    for week, clips in enumerate(reals):
        clips["clip_id"] = [f"{week}-{n:03d}" for n in range(len(clips))]
        rows.append(clips)
        rows += [clips.assign(clip_id=clips["clip_id"] + maker, label="fake", role="forged", forger=maker, source_clip=clips["clip_id"]) for maker in makers]
    rows = with_columns(pd.concat(rows, ignore_index=True))
    shares = [rows.iloc[chosen].query("label == 'fake'")["forger"].value_counts(normalize=True) for chosen in take(rows, 32, 90)]
    assert max(share.max() for share in shares) < 0.95
    assert sum(share.max() for share in shares) / len(shares) < 0.6  # 0.46 where each of sixteen is drawn by itself


@pytest.mark.parametrize("forgers", [2, 3, 4, 6])
def test_pictures_and_videos_meet_every_forger_equally_often(forgers):
    """Kinds alternate, and so did the fakes of a real: with an even number of them videos met one half of the forgers and pictures the other."""
    rows = table((60, "real", "new", True, ""), *[(60, "fake", "forged", True, f"forger{number}") for number in range(forgers)])
    rows["kind"] = np.where(rows["clip_id"].str.extract(r"(\d+)$")[0].astype(int) < 30, "image", "video")
    taken = pd.concat([rows.iloc[chosen] for chosen in take(rows, 16, 300)])
    met = taken[taken["label"] == "fake"].value_counts(["kind", "generator"])
    assert len(met) == 2 * forgers and met.min() > 0.8 * met.max(), met


@pytest.mark.parametrize(
    ("collected", "forgers", "kinds"),
    [(0, 2, ["video"]), (0, 4, ["video"]), (20, 3, ["video"]), (20, 2, ["video", "image"]), (80, 2, ["video"]), (80, 2, ["video", "image"])],
)
def test_what_was_forged_comes_from_every_week_kind_and_forger(collected, forgers, kinds):
    """Pairs were made in turn, in step with weeks and kinds: half of a second week's forgeries, or those of all new reals, or of all pictures, never came."""
    rows = []
    for new, reals in ((False, 200), (True, 100)):
        weeks_own = {"new": new, "sha256": "", "generator": "", "forger": "", "source_clip": ""}
        for number in range(reals):
            about = weeks_own | {"kind": kinds[number % len(kinds)], "clip_id": f"{number * 7919 % 10007:05d}-{new}"}
            rows.append(about | {"label": "real", "role": "new" if new else "replay"})
            of_it = {"label": "fake", "role": "forged", "source_clip": about["clip_id"]}
            rows += [about | of_it | {"forger": f"forger{forger}", "clip_id": f"{about['clip_id']}+{forger}"} for forger in range(forgers)]
        for number in range(collected * reals // 300):
            about = weeks_own | {"kind": kinds[number % len(kinds)], "clip_id": f"swap-{number}-{new}", "generator": "swap"}
            rows.append(about | {"label": "fake", "role": "new" if new else "replay"})
    rows = with_columns(pd.DataFrame(rows))
    came = np.bincount(np.concatenate(take(rows, 16, 3000, seed=7)), minlength=len(rows))
    forged = rows.assign(came=came)[rows["role"] == "forged"]
    reals = rows.assign(came=came)[rows["label"] == "real"].groupby(["new", "kind"])["came"].mean()
    assert (forged["came"] > 0).mean() > 0.99
    beside = forged.groupby(["new", "kind", "forger"])["came"].mean() / reals  # how often a forgery comes for each time that its real does
    assert beside.max() < 1.6 * beside.min(), beside
