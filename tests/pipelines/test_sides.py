"""People stay on their side, whatever comes in later; and a leak is found by a check that knows nothing of the rule."""

import unicodedata
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipelines.leaks import find_leaks
from pipelines.sides import (
    DUPLICATE,
    OTHER_DONOR,
    OTHER_LOOK,
    OTHER_PERSON,
    OTHER_VIDEO,
    PERSON_TRAINS,
    REVIEWED,
    SIDES,
    decide_sides,
    looks_of,
    only_standing,
    original_of,
    split_of,
    standing,
)
from tests.pipelines.tables import sample
from workspace.settings import SplitSettings

SPLIT = SplitSettings(train=0.5, validation=0.2, holdout=0.3)
PEOPLE = [f"p{number}" for number in range(8)]


def person(side: str, skip: int = 0) -> str:
    """The name of somebody whom the hash puts on a side."""
    return [name for name in (f"n{number}" for number in range(200)) if split_of(name, SPLIT) == side][skip]


names = st.sampled_from(["", *PEOPLE])


@st.composite
def samples(draw: st.DrawFn) -> dict[str, Any]:
    label = draw(st.sampled_from(["real", "fake", ""]))
    return sample(
        f"s{draw(st.integers(0, 10**6))}",
        label,
        draw(names),
        clips=draw(st.integers(0, 2)),
        use=draw(st.sampled_from(["train", "train", "train", "evaluate", "never"])),
        donor=draw(names) if label == "fake" else "",
        source_video=draw(st.sampled_from(["", "v1", "v2", "s1", "s2"])),
        quarantine=draw(st.sampled_from(["", "", "", "empty file"])),
        duplicate_of=draw(st.sampled_from(["", "", "", "s1", "s2"])),
        looks=draw(st.sampled_from(["", "", "s1", "s3", "s3 s4"])),
    )


weeks = st.lists(st.lists(samples(), max_size=8, unique_by=lambda one: one["sample_id"]), max_size=4)


def shown_by(one: dict[str, Any], batches: list[list[dict[str, Any]]]) -> str:
    """Whom a sample shows, as all of them together tell: the rule of pipelines/people.py, written once more and plainly."""
    rows = [row for batch in batches for row in sorted(batch, key=lambda row: (row["use"] != "evaluate", bool(row["duplicate_of"]), row["sample_id"]))]

    def first(value: str, column: str, of: str) -> str:
        return next((row[value] for row in rows if row[column] == of and of and row[value]), "")

    at = one["source_video"] or one["path"]
    for _ in rows:
        at = at if first("identity", "path", at) or first("identity", "source_video", at) else first("source_video", "path", at) or at
    return one["identity"] or first("identity", "path", at) or first("identity", "source_video", at)


def tables_of(batches: list[list[dict[str, Any]]], of_sample: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    tables: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for one in {one["sample_id"]: one for batch in batches for one in batch}.values():
        if one["sample_id"] in of_sample:
            clip = {"clip_id": one["sample_id"], "source_clip": "", "donor_clip": "", "sha256": one["sample_id"], "cluster": shown_by(one, batches)}
            tables[of_sample[one["sample_id"]]].append(one | clip)
    return tables


def without_repeats(batches: list[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """As ingest leaves them: a content is in one batch only."""
    met: set[str] = set()
    result = []
    for batch in batches:
        result.append([one for one in batch if one["sample_id"] not in met])
        met |= {one["sample_id"] for one in batch}
    return result


@given(weeks)
def test_no_person_video_or_look_is_ever_on_two_sides(batches: list[list[dict[str, Any]]]) -> None:
    batches = without_repeats(batches)
    sides = decide_sides(batches, SPLIT)
    looks = {one["sample_id"]: looks_of(one) for batch in batches for one in batch}
    paths = {one["sample_id"]: one["path"] for batch in batches for one in batch}
    assert find_leaks(tables_of(batches, sides.of_sample), looks, paths) == []
    assert sides.of_sample.keys() | sides.excluded.keys() == looks.keys() and not sides.of_sample.keys() & sides.excluded.keys()


@given(weeks, st.lists(samples(), max_size=8, unique_by=lambda one: one["sample_id"]))
def test_a_later_batch_moves_nobody(batches: list[list[dict[str, Any]]], later: list[dict[str, Any]]) -> None:
    *before, _ = all_batches = without_repeats([*batches, later])
    first, second = decide_sides(before, SPLIT), decide_sides(all_batches, SPLIT)
    left = {one for one in first.of_sample if one not in second.of_sample}
    assert first.of_sample.items() - second.of_sample.items() == {(one, first.of_sample[one]) for one in left}
    named = {one["sample_id"] for batch in before for one in batch if one["identity"]}
    why = {named_so: {second.excluded[one] for one in left if (one in named) == named_so} for named_so in (True, False)}
    assert why[True] <= {OTHER_VIDEO, OTHER_LOOK} and why[False] <= {OTHER_VIDEO, OTHER_LOOK, OTHER_PERSON}, "of what it shows more is known"
    assert first.excluded.keys() <= second.excluded.keys()


@pytest.mark.parametrize(
    "how", [{"source_video": "v"}, {"duplicate_of": "v", "looks": "v"}, {"compression": "c40", "looks": "v"}], ids=["fake", "copy", "lookalike"]
)
def test_what_is_made_of_a_left_out_file_stands_where_that_one_would_or_is_left_out(how: dict[str, str]) -> None:
    """The left-out file claimed nothing: a fake of it trained on what it shows, a video that judged, and no table held both for the leak check to see."""
    video, between = sample("v", identity=person("holdout")), sample("x", "real", person("train"), **how)
    made, copy = (sample(name, "fake", person(side, 1), source_video="x") for name, side in (("y", "train"), ("z", "holdout")))
    for batches in ([[video], [between, made, copy]], [[video], [between], [made, copy]], [[video], [made], [between]], [[made], [video], [between]]):
        sides = decide_sides(batches, SPLIT)
        placed = {one["path"]: sides.of_sample.get(one["sample_id"]) for batch in batches for one in batch}
        assert placed == {one: "holdout" if one in "vz" else None for one in placed} and sides.excluded[made["sample_id"]] == OTHER_VIDEO
    sides = decide_sides([[between | {"use": "never"}], [made], [video]], SPLIT)
    assert [sides.of_sample.get(one["sample_id"]) for one in (made, video)] == ["train", None], "what has trained trains, and who comes later never judges it"


@st.composite
def chains(draw: st.DrawFn) -> list[list[dict[str, Any]]]:
    """Weeks of a few files that are made of one another, or look like earlier ones, in whatever order they come in. Who is in them is hardly known."""
    files = draw(st.permutations([f"f{number}" for number in range(draw(st.integers(3, 8)))]))
    rows: list[dict[str, Any]] = []
    for name in files:
        used = draw(st.sampled_from([{}, {}, {}, {"use": "evaluate"}, {"use": "never"}, {"clips": 0}, {"quarantine": "cut short"}, {"label": ""}]))
        about = {"label": draw(st.sampled_from(["real", "fake"])), "identity": draw(st.sampled_from(["", f"of {name}", f"of {name}", "p1"]))}
        one = sample(name, source_video=draw(st.sampled_from(["", "", *files])), **(about | used))
        if rows and draw(st.integers(0, 2)) == 0:
            like = draw(st.lists(st.sampled_from(rows), min_size=1, max_size=2))
            groups = {look for other in like for look in looks_of(other)}
            one |= {"looks": " ".join(sorted(groups)), "duplicate_of": draw(st.sampled_from(["", original_of(like[0])]))}
        rows.append(one)
    cuts = sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4)))
    return [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


@given(chains())
def test_nothing_stands_apart_from_what_it_is_made_of_or_looks_like_through_whatever_is_not_used(batches: list[list[dict[str, Any]]]) -> None:
    """A fake of a left-out fake trained on the frames of a video that judged, and a copy of one that was left out did so too."""
    sides = decide_sides(batches, SPLIT)
    by_path = {one["path"]: one for batch in batches for one in batch}
    for one in by_path.values():
        side = sides.of_sample.get(one["sample_id"])
        met: set[tuple[str, bool]] = set()
        waiting = [(one["path"], True)]
        while side and waiting:
            path, may_look = waiting.pop()
            if (path, may_look) in met:
                continue
            met.add((path, may_look))
            here = by_path[path]
            assert sides.of_sample.get(here["sample_id"], side) == side, (one["path"], path)
            waiting += [(here["source_video"], True)] if here["source_video"] else []
            waiting += [(other["path"], False) for other in by_path.values() if may_look and {*looks_of(here)} & {*looks_of(other)}]


@given(weeks)
def test_what_is_kept_for_evaluation_never_trains_and_the_unknown_only_train_unless_their_video_names_somebody(batches: list[list[dict[str, Any]]]) -> None:
    batches = without_repeats(batches)
    sides = decide_sides(batches, SPLIT)
    for one in (one for batch in batches for one in batch):
        side = sides.of_sample.get(one["sample_id"])
        if one["use"] == "never" or one["quarantine"] or not one["label"] or not one["clips"]:
            assert side is None
        elif one["use"] == "evaluate":
            assert side in (None, "holdout")
        elif not one["identity"] and side:
            person = sides.shown.person(one)
            assert side == (sides.of_person(person, SPLIT) if person else "train")


@given(st.text(min_size=1), st.text(min_size=1))
def test_the_split_follows_from_key_and_name_alone(name: str, key: str) -> None:
    split = SplitSettings(train=0.7, validation=0.2, holdout=0.1, key=key)
    assert split_of(name, split) == split_of(name, split) and split_of("", split) == "train"


def test_the_parts_are_as_asked_and_another_key_draws_anew() -> None:
    many = [f"person {number}" for number in range(20_000)]
    parts = [split_of(name, SplitSettings()) for name in many]
    assert [round(parts.count(side) / len(many), 2) for side in SIDES] == [0.7, 0.2, 0.1]
    other = [split_of(name, SplitSettings(key="other")) for name in many]
    assert 0.4 < sum(one == two for one, two in zip(parts, other, strict=True)) / len(many) < 0.65  # 0.54 by chance


def test_each_reason_to_leave_a_sample_out() -> None:
    anna, hugo = person("train"), person("holdout")
    batches = [
        [sample("a", identity=anna, source_video="v"), sample("x", "fake", identity=anna, donor=hugo), sample("y", "fake", donor=hugo)],
        [
            sample("b", identity=hugo, source_video="v"), sample("c", identity=anna, duplicate_of="a"), sample("d", identity=anna, use="evaluate"),
            sample("e", identity=person("train", 1), use="evaluate"), sample("f", identity=person("train", 1)),
        ],
    ]  # fmt: skip
    sides = decide_sides(batches, SPLIT)
    by_path = {one["path"]: one["sample_id"] for batch in batches for one in batch}
    said = {path: sides.excluded.get(sample_id) or sides.of_sample[sample_id] for path, sample_id in by_path.items()}
    assert said == {
        "a": "train", "x": OTHER_DONOR, "y": OTHER_DONOR, "b": OTHER_VIDEO, "c": DUPLICATE, "d": PERSON_TRAINS, "e": "holdout", "f": "holdout",
    }  # fmt: skip


def test_a_nameless_file_stands_where_the_person_stands_whom_its_video_shows() -> None:
    """It trained while the person judged, wherever the video that says who it is was not used itself: no face, kept out, put aside, a fake of one."""
    here, there = person("train"), person("holdout")
    for more in ({"clips": 0}, {"use": "never"}, {"quarantine": "cut short"}):
        for who, side in ((here, "train"), (there, "holdout")):
            rows = [
                sample("v1", identity=who, **more),
                sample("f1", "fake", source_video="v1"),
                sample("f2", "fake", source_video="f1"),
                sample("v2", identity=who),
            ]
            sides = decide_sides([rows], SPLIT)
            assert [sides.of_sample.get(row["sample_id"]) for row in rows] == [None, side, side, side], more


def test_a_person_who_turns_out_to_train_never_judges_and_one_who_judges_no_longer_trains() -> None:
    """A later fake that named the person of a nameless video sent the person's other videos to the holdout, and the first trained on."""
    there = person("holdout")
    nameless, other, names = sample("v1"), sample("v2", identity=there), sample("f1", "fake", identity=there, source_video="v1")
    at = [one["sample_id"] for one in (nameless, other, names)]
    later = decide_sides([[nameless], [names, other]], SPLIT)
    assert [later.of_sample.get(one) for one in at] == ["train", "train", "train"]
    judged = decide_sides([[nameless, other], [names]], SPLIT)
    assert [judged.of_sample.get(one) for one in at] == [None, "holdout", None] and judged.excluded == {at[0]: OTHER_PERSON, at[2]: OTHER_VIDEO}


def test_whom_an_unlabelled_file_told_of_stays_told_when_somebody_labels_it() -> None:
    """Its row stands in a later batch from then on: who had trained by its word judged, and the leak check of one cycle cannot see that."""
    there = person("holdout")
    tells, other = sample("cut2", "", there, source_video="talk"), sample("v5", identity=there)
    weeks = {"b1": [sample("cut1", source_video="talk")], "b2": [tells, other]}
    for answer in (tells | {"label": "real", "case_id": "c1", "path": "x.mp4"}, tells | {"label": "real", "source": "two"}):
        for batches in (weeks, weeks | {"b3": [answer]}):
            found = decide_sides(only_standing(batches, standing(batches)), SPLIT, said=list(batches.values()))
            assert [found.of_sample.get(one["sample_id"]) for one in (weeks["b1"][0], other)] == ["train", "train"]


def test_what_looks_the_same_or_is_made_of_the_same_file_stays_on_one_side() -> None:
    anna, hugo = person("train"), person("holdout")
    batches = [
        [sample("original", identity=hugo, generator=""), sample("cut", identity=anna, generator="")],
        [
            sample("relabelled", "fake", identity=anna, looks="original"), sample("fake", "fake", identity=hugo, looks="original"),
            sample("both", identity=hugo, looks="original cut"), sample("early", "fake", identity=anna, source_video="late"),
        ],
        [sample("made", "fake", identity=anna, source_video="original"), sample("made well", "fake", identity=hugo, source_video="original"),
         sample("late", identity=hugo), sample("asked", identity=person("holdout", 1), use="evaluate", looks="cut")],
    ]  # fmt: skip
    sides = decide_sides(batches, SPLIT)
    said = {one["path"]: sides.excluded.get(one["sample_id"]) or sides.of_sample[one["sample_id"]] for batch in batches for one in batch}
    assert said == {
        "original": "holdout", "cut": "train", "relabelled": OTHER_LOOK, "fake": "holdout", "both": OTHER_LOOK, "early": "train",
        "made": OTHER_VIDEO, "made well": "holdout", "late": OTHER_VIDEO, "asked": OTHER_LOOK,
    }  # fmt: skip


def test_of_a_dropped_file_that_came_back_and_the_copy_that_stood_for_it_one_is_used() -> None:
    anna = person("train")
    one, two, three = sample("one", identity=anna), sample("two", identity=anna, looks="one two"), sample("three", identity=anna, looks="one")
    fake, other = sample("fake", "fake", identity=anna, looks="one fake"), sample("other", identity=anna, looks="one other", compression="c40")
    for first, second in ((one, two), (two, one)):
        for batches in ([[first], [second, fake, other, three]], [[fake, other, three], [first], [second]]):
            sides = decide_sides(batches, SPLIT)
            assert sides.of_sample == {row["sample_id"]: "train" for row in (first, fake, other, three)}, "what only looks alike, or claims something else, too"
            assert sides.excluded == {second["sample_id"]: DUPLICATE}
    half = sample("half", identity=anna, looks="one half")
    assert len(decide_sides([[two], [half]], SPLIT).of_sample) == 2, "two cuts of what is not in use"


def spelled(name: str) -> tuple[str, str]:
    """A name as most systems write it, and with its accents as characters of their own."""
    return unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)


def test_a_name_is_one_however_its_accents_are_typed() -> None:
    """One person spelled in two ways was two, on both sides of the split; so was a video that a fake names."""
    anna = person("train")
    pairs = (spelled(f"José{number}") for number in range(200))
    one, two = next(pair for pair in pairs if [split_of(name, SPLIT) for name in pair] == ["holdout", "train"])
    file, named = spelled("rené.mp4")
    batches = [
        [sample("a", identity=one)], [sample("b", identity=two), sample("c", "fake", identity=anna, donor=two)],
        [sample(file, identity=one)], [sample("d", "fake", identity=anna, source_video=named)],
    ]  # fmt: skip
    sides = decide_sides(batches, SPLIT)
    said = {one["path"]: sides.excluded.get(one["sample_id"]) or sides.of_sample[one["sample_id"]] for batch in batches for one in batch}
    assert said == {"a": "holdout", "b": "holdout", "c": OTHER_DONOR, file: "holdout", "d": OTHER_VIDEO}
    assert decide_sides([[sample("e", identity=two)]], SPLIT, kept=[one]).of_sample == {sample("e")["sample_id"]: "holdout"}


def test_what_is_kept_for_evaluation_is_left_out_where_its_donor_trains_however_the_name_is_typed() -> None:
    """The face of somebody who trained would judge."""
    name, typed = next(pair for pair in (spelled(f"José{number}") for number in range(200)) if split_of(pair[0], SPLIT) == "train")
    kept = [
        sample("f1", "fake", "other", donor=name, use="evaluate"), sample("f2", "fake", "another", donor=typed, use="evaluate"),
        sample("r", identity=typed, use="evaluate"),
    ]  # fmt: skip
    sides = decide_sides([[sample("a", identity=name)], kept], SPLIT)
    assert sides.excluded == {one["sample_id"]: PERSON_TRAINS for one in kept} and list(sides.of_sample.values()) == ["train"]


def test_a_planted_leak_of_each_kind_is_found() -> None:
    def row(clip: str, **more: str) -> dict[str, Any]:
        blank = dict.fromkeys(("identity", "donor", "source_video", "source_clip", "donor_clip", "cluster"), "")
        return blank | {"clip_id": clip, "sample_id": f"s-{clip}", "sha256": f"h-{clip}", "use": "train", "label": "real"} | more

    for kind, one, two in [
        ("person", {"identity": "anna"}, {"donor": "anna"}),
        ("sample", {"sample_id": "s"}, {"sample_id": "s"}),
        ("source video", {"source_video": "v"}, {"source_video": "v"}),
        ("person shown", {"cluster": "anna"}, {"cluster": "anna", "identity": "anna"}),
        ("clip", {"source_clip": "b"}, {}),
        ("clip", {"donor_clip": "b"}, {}),
        ("pixels", {"sha256": "h"}, {"sha256": "h"}),
    ]:
        leaks = find_leaks({"train": [row("a", **one)], "holdout": [row("b", **two)]}, {}, {})
        assert kind in {leak["kind"] for leak in leaks} and leaks[0]["sides"] == ["holdout", "train"]
    assert [leak["kind"] for leak in find_leaks({"train": [row("a")], "holdout": [row("b")]}, {"s-a": ["look"], "s-b": ["look"]}, {})] == ["look"]
    two_groups = {"s-a": ["one", "two"], "s-b": ["two", "three"]}
    assert [leak["key"] for leak in find_leaks({"train": [row("a")], "holdout": [row("b")]}, two_groups, {})] == ["two"]
    josé, other = spelled("josé")
    assert [leak["key"] for leak in find_leaks({"train": [row("a", identity=josé)], "holdout": [row("b", donor=other)]}, {}, {})] == [josé]
    for said, lies in ((josé, other), (other, josé)):
        assert [leak["key"] for leak in find_leaks({"train": [row("a", source_video=said)], "holdout": [row("b")]}, {}, {"s-b": lies})] == [josé]
    made_of = {"train": [row("a", source_video="b.mp4")], "holdout": [row("b")]}
    assert [leak["kind"] for leak in find_leaks(made_of, {}, {"s-b": "b.mp4"})] == ["source video"] and find_leaks(made_of, {}, {"s-b": "c.mp4"}) == []
    for side, more in (("train", {"use": "evaluate"}), ("validation", {"use": "evaluate"}), ("holdout", {"use": "never"}), ("train", {"label": ""})):
        assert find_leaks({side: [row("a", **more)]}, {}, {}) == [{"kind": "use", "key": "a", "sides": [side]}]
    assert find_leaks({"train": [row("a", identity="x")], "holdout": [row("b", identity="y", use="evaluate")]}, {}, {}) == []


@given(weeks)
def test_a_reviewed_case_never_judges(batches: list[list[dict[str, Any]]]) -> None:
    """Whatever person a reviewer names: cases are chosen by doubt."""
    asked = {f"w{number}": [{**one, "case_id": f"c-{one['sample_id'][:8]}", "use": "train"} for one in batch] for number, batch in enumerate(batches)}
    found = decide_sides(only_standing(asked, standing(asked)), SPLIT)
    assert set(found.of_sample.values()) <= {"train"}


def test_a_case_of_a_person_of_the_holdout_is_left_out_and_a_correction_keeps_its_side() -> None:
    first, case = sample("s1", "real", person("holdout")), {**sample("s2", "real", person("holdout")), "case_id": "c2"}
    batches = {"w1": [first], "answers": [case, {**first, "label": "fake", "case_id": "c1"}]}
    found = decide_sides(only_standing(batches, standing(batches)), SPLIT)
    assert found.of_sample == {first["sample_id"]: "holdout"} and found.excluded == {case["sample_id"]: REVIEWED}
    kept = {"w1": [{**case, "use": "evaluate"}]}
    assert decide_sides(only_standing(kept, standing(kept)), SPLIT).of_sample == {case["sample_id"]: "holdout"}, "kept for evaluation before anybody was asked"


def test_a_correction_claims_whom_the_first_row_named_and_a_row_put_aside_claims_nothing() -> None:
    """An answer could else move a file to another person's side by naming somebody else."""
    first, answer = sample("a", "fake", "ana"), sample("a", "real", "bo", case_id="c1", source_video="v")
    aside, whole = sample("b", identity="cy", quarantine="cut short", clips=0), sample("b", identity="di")
    batches = {"b1": [first, aside], "b2": [answer, whole]}
    one, two = only_standing(batches, standing(batches))
    assert [(row["label"], row["identity"], row["source_video"], row["first_by_people"]) for row in one] == [("real", "ana", "v", False)]
    assert [(row["path"], row["identity"]) for row in two] == [("b", "di")]


def test_an_answer_that_was_erased_leaves_the_file_of_another_batch_as_it_was() -> None:
    """Its row still stood before every other, and said `never`: the original silently left training and holdout."""
    first = sample("s1", "real", person("train"))
    answer = {**first, "case_id": "c1", "path": "cases/c1.mp4"}
    erased = answer | {"path": f"erased/{first['sample_id']}", "use": "never", "identity": ""}
    for batches, side in (({"w1": [first], "answers": [answer]}, "train"), ({"w1": [first], "answers": [erased]}, "train"), ({"answers": [erased]}, None)):
        found = decide_sides(only_standing(batches, standing(batches)), SPLIT)
        assert found.of_sample.get(first["sample_id"]) == side
    assert standing({"w1": [first], "answers": [erased]}) == {first["sample_id"]: "w1"}


def test_a_folder_that_a_source_calls_erased_holds_media_like_any_other() -> None:
    first, again = sample("s1", path="erased/a.mp4"), sample("s1")
    assert standing({"w1": [first], "w2": [again]}) == {first["sample_id"]: "w1"}


def test_a_file_that_one_batch_put_aside_stands_in_the_other() -> None:
    aside, good = sample("s1", "fake", quarantine="no face"), sample("s1", "fake")
    assert standing({"w1": [aside], "w2": [good]}) == {good["sample_id"]: "w2"}
    assert standing({"w1": [good], "w2": [aside]}) == {good["sample_id"]: "w1"}


@given(weeks, st.data())
def test_a_person_s_label_stands_alone_and_moves_nobody(batches: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    assume(sum(map(len, batches)) == len({one["sample_id"] for batch in batches for one in batch}))  # ingest takes a content once
    known = {one["sample_id"]: one for batch in batches for one in batch if not one["quarantine"] and one["use"] != "never"}
    corrected = data.draw(st.lists(st.sampled_from(sorted(known)), unique=True, max_size=4)) if known else []
    flipped = {"real": "fake", "fake": "real", "": "fake"}
    answers = [{**known[one], "label": flipped[known[one]["label"]], "case_id": f"c-{one[:8]}", "donor": ""} for one in corrected]
    weekly = {f"w{number}": batch for number, batch in enumerate(batches)}
    before = decide_sides(only_standing(weekly, standing(weekly)), SPLIT, said=list(weekly.values()))
    after_weeks = {**weekly, "answers": answers}
    stands = standing(after_weeks)
    rows = only_standing(after_weeks, stands)
    after = decide_sides(rows, SPLIT, said=list(after_weeks.values()))
    flat = [one for batch in rows for one in batch]
    assert len({one["sample_id"] for one in flat}) == len(flat), "one row a content"
    assert {one["sample_id"]: one["label"] for one in flat if one["sample_id"] in corrected} == {one["sample_id"]: one["label"] for one in answers}
    assert all(stands[one] == "answers" for one in corrected)
    labelled = {one for one in before.of_sample if known[one]["label"]}
    assert {one: after.of_sample[one] for one in labelled} == {one: before.of_sample[one] for one in labelled}
    first = {**weekly, "answers": [{**one, "case_id": ""} for one in answers]}
    for one in corrected:
        assert (standing(first)[one] == "answers") == (not known[one]["label"]), "another source's label counts only where none was recorded"
