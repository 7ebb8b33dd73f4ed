"""Who stands on which side: train, validation or holdout. People are split by a keyed hash, so that nobody ever moves.

What the hash cannot know is claimed in the order in which batches were learned: a later batch never takes a person, a source
video or a look from the side where an earlier one put it, nor a fake of a file to another side than the file's. A file that is left out claims
nothing, but what is made of it stands where the files stand that it shows, or is left out too. So nothing that once trained ever judges. What judges
goes on to, but for a nameless file that turns out to show a person of another side, and one that turns out to be made of a file of another side.
"""

import hashlib
import hmac
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.people import Shown
from workspace.for_review import is_erased, is_erased_path
from workspace.manifest import composed
from workspace.settings import SplitSettings

Side = Literal["train", "validation", "holdout"]
SIDES: tuple[Side, ...] = ("train", "validation", "holdout")
JUDGED: tuple[Side, ...] = ("validation", "holdout")  # whose people no training sees
OTHER_DONOR = "donor and target on different sides"
OTHER_VIDEO = "its source video is on another side"
OTHER_LOOK = "it shows what a sample on another side shows"
OTHER_PERSON = "it names nobody, and shows a person who is on another side"
MADE_OF_ERASED = "it names nobody, and the file that it was made of was erased"
PERSON_TRAINS = "kept for evaluation, but its person is on another side"
# Only files that claim to be the same thing can be duplicates, of which one is used: a fake often has its target's frames, and
# FaceForensics++ holds one video in three compressions on purpose. What looks the same under other claims is used too, but tied to
# the same side of the split: a new label must not carry a holdout clip into the training.
ALIKE = ("kind", "label", "generator", "method", "compression", "donor")
CLAIMED = ("identity", "donor", "source_video")
DUPLICATE = "near duplicate of another sample"
KEPT_BEFORE = "kept_before"  # in a batch's summary.json: samples whose person a batch that came in earlier keeps for evaluation
REVIEWED = "a reviewed case, chosen because the model was unsure: its person is on a side that judges"


def split_of(identity: str, split: SplitSettings) -> Side:
    """The side of a person, by the key and the name alone. Somebody unknown ('') only ever trains."""
    if not identity:
        return "train"
    digest = hmac.new(split.key.encode(), identity.encode(), hashlib.sha256).digest()
    part = int.from_bytes(digest[:8], "big") / 2**64
    return "train" if part < split.train else "validation" if part < split.train + split.validation else "holdout"


@dataclass(slots=True)
class Sides:
    """The side of every sample that may be used, and why the others may not."""

    of_sample: dict[str, Side] = field(default_factory=dict)
    excluded: dict[str, str] = field(default_factory=dict)
    claims: dict[tuple[str, str], Side] = field(default_factory=dict)
    files: dict[str, set[Side]] = field(default_factory=dict)  # by path, `composed`: what a fake names as its source video; of one left out, what it shows
    alike: dict[str, set[Side]] = field(default_factory=dict)  # by group of lookalikes: what those that are left out were made of
    first: dict[str, str] = field(default_factory=dict)  # by path, `composed`: the content that had it first; a source may call another so later
    tied: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)  # videos and looks that one file which is left out has in common
    shown: Shown = field(default_factory=Shown)  # whom nameless files show
    claimed_as: dict[str, tuple[str, ...]] = field(default_factory=dict)  # by sample that is used: what it claims to be
    stood_for: set[tuple[str, tuple[str, ...]]] = field(default_factory=set)  # samples for which a used one stands, with its claims

    def of_person(self, identity: str, split: SplitSettings) -> Side:
        """The side of a person: what was claimed, else what the hash says."""
        return self.claims.get(("person", composed(identity))) or split_of(identity, split)

    def claimed(self, key: tuple[str, str]) -> set[Side]:
        """The side that has a key, or one that it is tied to; none where nothing has."""
        return {self.claims[one]} if (one := self._one(key)) in self.claims else set()

    def claim(self, keys: Iterable[tuple[str, str]], side: Side) -> None:
        """Give the keys, and all that they are tied to, to a side."""
        self.claims |= dict.fromkeys(map(self._one, keys), side)

    def tie(self, keys: Iterable[tuple[str, str]], sides: Collection[Side]) -> None:
        """Have keys share what claims one of them; `sides`: the one, if any, that has some of them."""
        one, *others = dict.fromkeys(map(self._one, keys))
        self.tied |= {one: one} | dict.fromkeys(others, one)
        self.claims |= dict.fromkeys([one] * len(sides), *sides)

    def _one(self, key: tuple[str, str]) -> tuple[str, str]:
        met = []
        while (other := self.tied.get(key, key)) != key:
            met.append(key)
            key = other
        self.tied |= dict.fromkeys(met, key)  # so that the way is short the next time
        return key


def original_of(sample: Mapping[str, Any]) -> str:
    """The first of the near duplicates that a sample is one of; of these one is used."""
    return str(sample["duplicate_of"] or sample["sample_id"])


def claims_of(sample: Mapping[str, Any]) -> tuple[str, ...]:
    """What a sample claims to be, by ALIKE."""
    return tuple(composed(sample[name]) for name in ALIKE)


def stands_for_dropped(sample: Mapping[str, Any]) -> bool:
    """Whether a sample is a copy of one that was dropped when it came in: it then is one of its own lookalikes, beside that one."""
    return sample["sample_id"] in str(sample.get("looks", "")).split()


def looks_of(sample: Mapping[str, Any]) -> list[str]:
    """The groups of lookalikes that a sample belongs to, whatever their labels say. Faces that were cut before there were such groups name none."""
    return str(sample.get("looks", "")).split() or [original_of(sample)]


def standing(batches: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """The batch whose row of a content stands, by sample id: a person's before any other, one with a label before one without, the earlier before the later.

    A row whose media were erased stands only where no other batch has the file.
    """
    best: dict[str, tuple[bool, bool, bool]] = {}
    chosen: dict[str, str] = {}
    for batch, samples in batches.items():
        for sample in samples:
            worth = (not is_erased(sample), bool(sample["case_id"]), bool(sample["label"] and not sample["quarantine"]))
            if sample["sample_id"] not in best or worth > best[sample["sample_id"]]:
                best[sample["sample_id"]], chosen[sample["sample_id"]] = worth, batch
    return chosen


def only_standing(batches: Mapping[str, Sequence[Mapping[str, Any]]], stands: Mapping[str, str]) -> list[list[Mapping[str, Any]]]:
    """The rows that stand, a list a batch. One that corrects an earlier label takes its place in the order: a correction moves nobody to another side.

    `first_by_people` says of each row that only people ever gave it a label: it came in as a case.
    """
    rows = {sample["sample_id"]: sample for batch, samples in batches.items() for sample in samples if stands[sample["sample_id"]] == batch}
    placed: set[str] = set()
    ordered: list[list[Mapping[str, Any]]] = []
    for batch, samples in batches.items():
        here = [one for one in samples if one["sample_id"] not in placed and (stands[one["sample_id"]] == batch or (one["label"] and not one["quarantine"]))]
        placed |= {one["sample_id"] for one in here}
        ordered.append([
            {**rows[one["sample_id"]], **{name: one[name] or rows[one["sample_id"]][name] for name in CLAIMED}, "first_by_people": bool(one["case_id"])}
            for one in here
        ])  # fmt: skip
    return ordered


def decide_sides(
    batches: Sequence[Iterable[Mapping[str, Any]]],
    split: SplitSettings,
    kept: Iterable[str] = (),
    said: Sequence[Iterable[Mapping[str, Any]]] | None = None,
) -> Sides:
    """The side of every sample. `batches` are entries of the faces reports, in the order in which the batches were accepted;
    `kept`: people whom batches before all of these keep for evaluation; `said`: all rows of each batch, where `batches` has those alone that
    stand: who is shown, and what was made of what, was said where a row came in, and stays said there when another takes its place.

    A file that names nobody stands where the person does who is named in the video that it was made of, as a table of real people and of fakes with their
    `source_video` tells; where nobody is named there, it trains. Adding a batch at the end gives no sample another side than before. It may say whom a
    nameless file shows: that person then stands where the file does, or, who stands elsewhere already, keeps that side, and the file is left out; so is one
    that turns out to be made, by way of files that are not used, of a file of another side, or to look like such a one. A reviewed case only ever trains,
    unless it was kept for evaluation or corrects what had a label before: cases are chosen by the champion's doubt, and figures on them would favour
    whoever comes after it.
    """
    sides = Sides(claims={("person", composed(name)): "holdout" for name in kept})
    placed: dict[str, Mapping[str, Any]] = {}
    for batch, words in zip(batches, batches if said is None else said, strict=True):
        for earlier in sides.shown.learn(sorted(words, key=_turn)):
            _settle(earlier, sides)
        here = {sample["sample_id"]: sample for sample in batch}
        placed |= here
        later = {sample["sample_id"]: sample for sample in words if sample["sample_id"] not in placed}  # their row stands in a later batch
        for sample in sorted([*here.values(), *later.values()], key=_turn):
            sides.first.setdefault(composed(sample["path"]), sample["sample_id"])
            side, why_not = _side(sample, split, sides) if sample["sample_id"] in here else (None, "")
            if side is None:
                sides.excluded |= {sample["sample_id"]: why_not} if why_not else {}
                _pass_on(sample, sides, {sides.of_person(sample["donor"], split)} if sample["donor"] else set())
                continue
            sides.of_sample[sample["sample_id"]] = side
            own = ("video", composed(sample["path"]))
            sides.claim([*_keys(sample, sides.shown.person(sample)), *({own} & sides.tied.keys())], side)
            sides.files.setdefault(own[1], set()).add(side)
            sides.claimed_as[sample["sample_id"]] = claims_of(sample)
            sides.stood_for |= {(look, claims_of(sample)) for look in looks_of(sample)} if stands_for_dropped(sample) else set()
    order = list(placed.values())
    while sum(_turned_out(sample, sides) for sample in order):
        order.reverse()  # news goes along a chain in one pass, whichever way it lies
    return sides


def _turn(sample: Mapping[str, Any]) -> tuple[bool, bool, str]:
    """What is kept for evaluation comes first: within one batch `use` wins over all."""
    return sample["use"] != "evaluate", bool(sample["duplicate_of"]), sample["sample_id"]


def _settle(sample: Mapping[str, Any], sides: Sides) -> None:
    """Have a nameless file of before, of whom it is now known whom it shows, share that person's side."""
    side, person = sides.of_sample.get(sample["sample_id"]), sides.shown.person(sample)
    if side and person and sides.claims.setdefault(("person", person), side) != side:
        del sides.of_sample[sample["sample_id"]]
        sides.excluded[sample["sample_id"]] = OTHER_PERSON


def _turned_out(sample: Mapping[str, Any], sides: Sides) -> bool:
    """Leave out what turned out to be made of a file of another side, through files that are not used: such a one may have come in last.

    Returns whether more is known of what a file shows that is left out.
    """
    if side := sides.of_sample.get(sample["sample_id"]):
        why_not = _through_unused(sample, side, sides)
        if not why_not:
            return False
        del sides.of_sample[sample["sample_id"]]
        sides.excluded[sample["sample_id"]] = why_not
    return _pass_on(sample, sides) or bool(side)


def _through_unused(sample: Mapping[str, Any], side: Side, sides: Sides) -> str:
    if sides.files.get(composed(sample["source_video"]), {side}) != {side}:
        return OTHER_VIDEO
    return OTHER_LOOK if any(sides.alike.get(look, {side}) != {side} for look in looks_of(sample)) else ""


def _pass_on(sample: Mapping[str, Any], sides: Sides, more: Collection[Side] = ()) -> bool:
    """Have what is made of a file that is left out stand where all stands that it shows, and what looks like it where that stands of which it was made.

    Where nothing or one side has these, who comes next claims them together; else nothing that shows them can stand anywhere. Looks alone are not passed
    on to lookalikes: of two that one file resembles neither need resemble the other. `more`: sides of what else it shows. Returns whether that is news.
    """
    path, video = composed(sample["path"]), composed(sample["source_video"])
    own = [path] if sides.first[path] == sample["sample_id"] else []
    keys = [("video", name) for name in (*own, video) if name] + [("look", look) for look in looks_of(sample)]
    made_of = sides.files.get(video, set()) | sides.claimed(("video", video))
    shows = made_of.union(*map(sides.claimed, keys), *(sides.alike.get(look, ()) for look in looks_of(sample)))
    if len(shows) < 2:
        sides.tie(keys, shows)
    shows |= {*more}
    news = False
    for known, key, found in (*((sides.files, path, shows) for path in own), *((sides.alike, look, made_of) for look in looks_of(sample))):
        if found - known.get(key, set()):
            known.setdefault(key, set()).update(found)
            news = True
    return news


def _side(sample: Mapping[str, Any], split: SplitSettings, sides: Sides) -> tuple[Side | None, str]:
    unusable = (
        "quarantined" if sample["quarantine"] else "use is never" if sample["use"] == "never" else "no label" if not sample["label"]
        else "no clip" if not sample["clips"] else DUPLICATE if ("original", original_of(sample)) in sides.claims else ""
    )  # fmt: skip
    if unusable:
        return None, unusable
    person = sides.shown.person(sample)
    if not person and sample["source_video"] and is_erased_path(sides.shown.video(sample)):
        return None, MADE_OF_ERASED
    if sample["use"] == "evaluate":
        wanted: Side = "holdout"
        if any(sides.claims.get(("person", name), wanted) != wanted for name in (person, composed(sample["donor"]))):
            return None, PERSON_TRAINS
    else:
        wanted = sides.of_person(person, split)
        if wanted != "train" and sample.get("first_by_people"):
            return None, REVIEWED
        if sample["donor"] and sides.of_person(sample["donor"], split) != wanted:
            return None, OTHER_DONOR
    video = composed(sample["source_video"])
    if any(sides.claimed(("video", name)) - {wanted} for name in (video, composed(sample["path"]))):
        return None, OTHER_VIDEO
    if through := _through_unused(sample, wanted, sides):
        return None, through
    if any(sides.claimed(("look", look)) - {wanted} for look in looks_of(sample)):
        return None, OTHER_LOOK
    if _is_copy_unmarked(sample, sides):
        return None, DUPLICATE
    return wanted, ""


def _is_copy_unmarked(sample: Mapping[str, Any], sides: Sides) -> bool:
    """Whether one of this sample and a used one stands for the other, which was dropped when it came in: both are in use once that one's batch comes back."""
    mine = claims_of(sample)
    stands_for_used = stands_for_dropped(sample) and any(sides.claimed_as.get(look) == mine for look in looks_of(sample))
    return stands_for_used or (sample["sample_id"], mine) in sides.stood_for


def _keys(sample: Mapping[str, Any], person: str) -> Iterator[tuple[str, str]]:
    yield "original", original_of(sample)
    for look in looks_of(sample):
        yield "look", look
    for kind, name in (("person", person), ("person", sample["donor"]), ("video", sample["source_video"])):
        if name:
            yield kind, composed(name)
