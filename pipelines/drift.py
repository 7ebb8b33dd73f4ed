"""Stage `drift`: does what came in look like what the holdout covers, and do its labels look right? Asked before anything is trained.

The champion is asked; without one nothing serves that could have drifted. Incoming collected videos of the batches under judgement are compared with
earlier ones that no model trained on, by a permutation test on the champion's embeddings, picture quality and the champion's scores. No label takes
part in the test (only in how many of a kind are drawn, as the holdout draws them), so media without one count like the others. Where it finds drift,
the parts that drifted are named, and it is asked whether the updated holdout now holds enough of them: then there is no reason to hold. An unlabelled
video is of the part that the champion takes it for. Beside it, with labels: does the champion contradict the labels of what came in more often than
those it knows? And how often is it right on what came in: by its own probabilities before labels are there, and on what has one.

Cases that people decided are no sample of the traffic, since they were chosen where the model was unsure, and stay out of the test; whether it
contradicts their labels more often than its own doubt says is asked of them, too, but for corrections of what it has learned under another label.
Batches that a person has accepted stay out of both.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.drift_report import make_report
from pipelines.mmd import joint_features, mmd_test
from pipelines.predictions import UNKNOWN, draw_panel
from pipelines.scoring import read_set, score_rows, unit_scores, unit_table
from pipelines.stage import Progress, stage_main
from workspace.cycle import Cycle
from workspace.files import write_json
from workspace.for_review import UNLABELLED
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

FOLDER = Path("reports/drift")
QUALITY = ("face_px", "sharpness", "brightness", "yaw_degrees")
SPLITS = ("train", "validation", "holdout", UNLABELLED)
LEAST_GROUP = 5  # videos a side, fewer of one group cannot be tested alone
LEAST_SHARE = 0.05  # of what came in: a smaller group does not move the traffic, and may never grow to what a slice of the holdout needs
SMALL_KINDS = "fakes of small kinds"  # all together: many of them may well be half of the traffic
ENOUGH_PEOPLE = 5  # of a label, on each side: with fewer even wrong labels of everybody are hardly told from how people differ


def run(root: Path, settings: Settings, cycle: Cycle) -> dict[str, Any]:
    """Write reports/drift/{drift.json, evidently.html, evidently.json}; returns what drift.json holds. Safe to repeat."""
    import pandas as pd

    clips = pd.concat([read_set(root, split).assign(split=split) for split in SPLITS], ignore_index=True)
    clips = clips[(clips["origin"] == "collected") & (clips["label"].isin(["real", "fake"]) | (clips["split"] == UNLABELLED))].drop_duplicates("clip_id")
    clips["unit"] = clips["sample_id"]
    base, new = root / "build/base", clips["new"].astype(bool)
    clips_of_cycle = clips[new]["unit"].nunique()
    unseen = clips["split"].isin(["validation", "holdout", UNLABELLED])  # the champion has not trained on these, nor on anything new
    clips = clips[unseen | new] if cycle.base_model else clips.head(0)
    incoming = clips[clips["new"].astype(bool)]
    came, apart = videos_of_kinds(incoming), left_out(incoming, cycle)
    clips = draw(clips, settings.drift.max_samples, settings.budget.evaluation_clips_per_slice, cycle.seed)
    units = (
        combine(score_rows(root, base, clips, threads=settings.serve.threads, tell=Progress("drift")), base)
        if len(clips)
        else pd.DataFrame(columns=["unit", "new", "label", "generator", "cluster", "batch", "case_id", "corrects", "split", "p_fake", "embedding", *QUALITY])
    )
    if cycle.base_model:
        threshold = threshold_of(base)
        asked = units[~units["batch"].isin(cycle.vouched)]
        rows = read_set(root, "holdout")
        result = weigh(asked[asked["case_id"] == ""], holdout_counts(rows[rows["new"].astype(bool)]), settings, cycle, threshold, holdout_counts(rows))
        corrects = asked["corrects"].astype(bool)  # the champion has learned these under the label that they correct
        labels = label_noise(asked[~corrects], threshold, cycle) | {"corrections": int(corrects.sum())}
        result["estimated"] = champion_accuracy(units[units["new"].astype(bool)], threshold, came)
    else:
        result, labels = _result("no reference", {"n_ref": 0, "n_new": int(clips_of_cycle)}), {"status": "no champion"}
    result["cycle"] = cycle.cycle
    for told in (result, result["gate_inputs"]):
        told |= apart | {"labels": labels}
    result["unlabelled"] = {"n_new": int((units["new"].astype(bool) & (units["label"] == "")).sum())}
    sides = [units[units["new"].astype(bool) == new][[*QUALITY, "p_fake"]].astype(float) for new in (False, True)]
    why_not = "" if cycle.base_model else f"there is no champion yet (of incoming videos there are {clips_of_cycle})"
    result["columns"] = make_report(sides[0], sides[1], root / FOLDER, why_not=why_not)
    write_json(root / FOLDER / "drift.json", result)
    return result


def draw(clips: "pd.DataFrame", most: int, per_kind: int, seed: int) -> "pd.DataFrame":
    """All clips of at most `most` videos a side, drawn by a keyed hash: adding a video does not redraw the others.

    Of a label and generator at most `per_kind` a side: the holdout keeps no more of each, and traffic that is not cut alike would differ from it by
    its mixture for ever. The second cut has a key of its own: by the first one's order all that it left of a large kind would come before the others.
    """
    import pandas as pd

    labelled = clips["label"].isin(["real", "fake"])
    cut = pd.concat([draw_panel(clips[labelled], per_kind, str(seed)), clips[~labelled]]).sort_index()
    return draw_panel(cut, most, f"{seed}:side", by=("new",))


def left_out(incoming: "pd.DataFrame", cycle: Cycle) -> dict[str, int]:
    """How many incoming videos are in batches that a person `vouched` for, which no test asks of, and how many others are `cases`, which the first does not."""
    videos = incoming.drop_duplicates("unit")
    vouched = videos["batch"].isin(cycle.vouched)
    return {"vouched": int(vouched.sum()), "cases": int((~vouched & (videos["case_id"] != "")).sum())}


def videos_of_kinds(clips: "pd.DataFrame") -> "pd.Series[int]":
    """How many videos there are of each label and generator, the kinds that `draw` cuts."""
    return clips.groupby(["label", "generator"])["unit"].nunique()


def combine(scored: "pd.DataFrame", model_dir: Path) -> "pd.DataFrame":
    """One row a video, with p_fake and the mean embedding of its clips."""
    from model.card import load_card

    units = unit_table(scored.drop(columns=["embedding"])).set_index("unit")
    units["p_fake"] = unit_scores(scored, load_card(model_dir))
    means = {str(unit): np.mean(np.stack(list(part)), axis=0) for unit, part in scored.groupby("unit")["embedding"]}
    units["embedding"] = [means[str(unit)] for unit in units.index]
    return units.reset_index()


def threshold_of(model_dir: Path) -> float:
    """Where the model of this folder begins to say fake."""
    from model.card import load_card

    return load_card(model_dir).threshold


def label_noise(units: "pd.DataFrame", threshold: float, cycle: Cycle) -> dict[str, Any]:
    """How much more often the champion contradicts the labels of what came in than the labels it has not trained on before, its own doubt apart.

    Reals and fakes of generators it knows; on others it may well be wrong. Fakes that name none are asked of as of one, UNKNOWN: whether it knows them,
    the known ones tell. Of each video it is asked how far the contradiction exceeds what its probability says of it: cases are chosen where it is unsure,
    and are contradicted every second time though they are right. A champion that is right on a share a of the videos contradicts e of the labels more
    where a share e / (2a - 1) of them is flipped, so `difference` is a lower estimate of the flipped share. Reals are compared with reals and fakes with
    fakes, of the known ones each generator weighs as in what came in: it may miss fakes far more often than it accuses reals, and one generator's more
    often than another's, and another mixture is no wrong label. A label or generator that one side lacks cannot be compared and does not count; nor does
    a label that one side has of fewer than ENOUGH_PEOPLE, or a generator that the known side has of so few, beside another: they say little of how
    people differ, and would bound what the others tell.

    Where some people have far more videos than others, `once` says the same with each person counted once.

    The test is of all that came in; `batches` says beside it how often each batch is contradicted, for the person who looks for the wrong labels.
    """
    from model.estimate import expected_right
    from model.paired import counted_once, mixed_as_new, shift_within

    units = units.assign(generator=units["generator"].replace("", UNKNOWN))
    fair = units[(units["label"] == "real") | ((units["label"] == "fake") & units["generator"].isin([*cycle.known_generators, UNKNOWN]))]
    fair = fair.assign(kind=fair["label"] + " " + fair["generator"])
    people = _people_of(fair, ["label", "kind"])
    known = people.loc[people[True] > 0, False]
    fair = fair[fair["kind"].isin({kind for _, kinds in known.groupby(level="label") for kind in _enough(kinds.droplevel("label"))})]
    fair = fair[fair["label"].isin(_enough(_people_of(fair, ["label"]).min(axis=1)))]
    new = fair["new"].to_numpy(dtype=bool)
    counts = {"n_ref": int((~new).sum()), "n_new": int(new.sum())}
    p_fake = fair["p_fake"].to_numpy(dtype=np.float64)
    against = ((p_fake >= threshold) != (fair["label"] == "fake").to_numpy()).astype(np.float64)
    expected = 1 - expected_right(p_fake, p_fake >= threshold)
    kinds, labels = (fair[name].to_numpy(dtype=str) for name in ("kind", "label"))
    found = shift_within(against - expected, new, labels, kinds, fair["cluster"]) if len(fair) else None
    if found is None:
        return {"status": "too few", **counts}

    def rates(often: np.ndarray) -> dict[str, float]:
        """How often labels are contradicted and by the champion's own doubt should be, of what came in and, mixed alike, of the known ones."""
        weights = often * mixed_as_new(new, kinds, often)
        return {
            name + side: float(np.average(values[rows], weights=weights[rows]))
            for side, rows in (("", new), ("_before", ~new))
            for name, values in (("rate", against), ("expected", expected))
        }

    told = found.as_dict() | rates(np.ones(len(fair)))
    if found.once:
        samples = [(new == side) & (labels == label) for side in (True, False) for label in np.unique(labels)]
        told["once"] |= rates(counted_once(samples, fair["cluster"]))
    batches = [
        {"batch": str(name), "n": len(places), "rate": float(against[new][places].mean()), "expected": float(expected[new][places].mean())}
        for name, places in sorted(fair[new].groupby("batch").indices.items())
    ]
    return {"status": "tested", **counts, **told, "batches": {"count": len(batches), "rows": batches}}


def _people_of(units: "pd.DataFrame", by: list[str]) -> "pd.DataFrame":
    """How many people each label, or label and kind, is known of (column False) and has come in of (True)."""
    sides = units.groupby([*by, units["new"].astype(bool)])["cluster"].nunique().unstack(fill_value=0)
    return sides.reindex(columns=[False, True], fill_value=0)


def _enough(people: "pd.Series[int]") -> list[str]:
    """Those of ENOUGH_PEOPLE; where none is, those of two, or else of anybody."""
    enough = next((least for least in (ENOUGH_PEOPLE, 2) if (people >= least).any()), 1)
    return [str(name) for name in people.index[people >= enough]]


def champion_accuracy(incoming: "pd.DataFrame", threshold: float, came: "pd.Series[int] | None" = None) -> dict[str, Any] | None:
    """How often the champion is right on incoming videos: `estimated` from its probabilities alone, `observed` where a label is known. None without any.

    `came`: of how many videos of each label and generator these were drawn (`videos_of_kinds`; else they are all): each stands for so many of its kind,
    and the intervals are of as many as say as much, weighed alike (Kish 1965). Of a draw that keeps as many fakes as reals both would else be of another
    traffic. The share of fakes among them is estimated too: what comes in is seldom half fake.

    Labels of a batch are no random draw, so one does not correct the other; where they are apart, either the calibration or the labels are wrong.
    On the service's traffic audited verdicts are a random draw: feedback/estimate.py.
    """
    from model.estimate import Moments, as_many, at_share, estimate, expected_right, share_of_fakes
    from model.metrics import wilson

    if incoming.empty:
        return None
    weights = _stand_for(incoming, came)
    p_fake = incoming["p_fake"].to_numpy(dtype=np.float64)
    expected = expected_right(at_share(p_fake, share_of_fakes(p_fake, weights)), p_fake >= threshold)
    sums = (float(np.average(values, weights=weights)) for values in (expected, expected**2))
    found = estimate(Moments.of_sums(round(as_many(weights)), *sums), [], [])
    assert found is not None, "there is a video"
    known = (incoming["label"] != "").to_numpy()
    right = ((p_fake >= threshold) == (incoming["label"] == "fake").to_numpy())[known]
    share, alike = (float(np.average(right, weights=weights[known])), round(as_many(weights[known]))) if known.any() else (None, 0)
    low, high = wilson((share or 0.0) * alike, alike) or (None, None)
    observed = {"n": int(known.sum()), "value": share, "low": low, "high": high}
    told = {"n": len(incoming), "of": round(float(weights.sum())), "value": found.value, "low": found.low, "high": found.high}
    return {"estimated": told, "observed": observed}


def _stand_for(drawn: "pd.DataFrame", came: "pd.Series[int] | None") -> np.ndarray:
    """Of each drawn video [N], for how many of its label and generator it stands."""
    if came is None:
        return np.ones(len(drawn))
    parts = (came / drawn.groupby(["label", "generator"]).size()).to_dict()
    return np.array([parts[kind] for kind in zip(drawn["label"], drawn["generator"], strict=True)])


def group_of(units: "pd.DataFrame", threshold: float = 0.5) -> "pd.Series[str]":
    """The part of the traffic a video belongs to: `real`, `fake by <generator>`, or of those without a label what the model calls them."""
    named = "fake by " + units["generator"].replace("", "an unknown generator")
    named = named.where(units["label"] == "fake", "real")
    return named if (units["label"] != "").all() else named.where(units["label"] != "", f"{UNLABELLED}, called " + _called(units, threshold))


def _called(units: "pd.DataFrame", threshold: float) -> "pd.Series[str]":
    return (units["p_fake"].astype(float) >= threshold).map({True: "fake", False: "real"})


def holdout_counts(rows: "pd.DataFrame") -> dict[str, int]:
    """Collected videos a group among rows of the updated holdout: what covers the incoming traffic."""
    rows = rows[rows["origin"] == "collected"].drop_duplicates("unit")
    return {str(group): int(n) for group, n in group_of(rows).value_counts().items()} if len(rows) else {}


def weigh(
    units: "pd.DataFrame", covered_by: dict[str, int], settings: Settings, cycle: Cycle, threshold: float = 0.5, holdout: dict[str, int] | None = None
) -> dict[str, Any]:
    """Test incoming against known videos and say whether it is drift, of what, and whether the holdout covers it.

    `units` has columns new, label, generator, cluster, embedding, p_fake and QUALITY, one row a video; `covered_by` counts the new holdout videos
    of each group, `holdout` (else the same) all of them. A group is covered from `gates.min_slice` of them on: of the new
    ones where it looks unlike before, of all where only the mixture of the groups has shifted.
    """
    new = units["new"].to_numpy(dtype=bool)
    counts: dict[str, Any] = {"n_ref": int((~new).sum()), "n_new": int(new.sum())}
    least = settings.drift.min_samples
    if not cycle.judged and not counts["n_new"]:
        return _result("nothing new", counts)
    if not counts["n_ref"] and cycle.judges_all:
        return _result("no reference", counts)
    if min(counts.values()) < least:
        return _result("too few", counts | {"least": least})
    alone = [side for side, rows in (("incoming", new), ("known", ~new)) if units["cluster"][rows].nunique() < 2]
    if alone:
        return _result("too few", counts | {"least": least, "note": f"the {' and the '.join(alone)} ones are all of one person; others are needed"})
    tested = _test(units, new, settings.drift.permutations, cycle.seed)
    drifted = tested.p_value < settings.drift.alpha
    groups = _groups(units, new, settings, cycle.seed, threshold) if drifted else []
    known = {"mixture": holdout or covered_by}
    short = [
        group["group"]
        for group in groups
        if group["drifted"] and sum(known.get(group["why"], covered_by).get(kind, 0) for kind in group["of"]) < settings.gates.min_slice
    ]
    facts = {"least": least, "p_value": tested.p_value, "alpha": settings.drift.alpha, "drifted": bool(drifted), "covered": not short}
    people = {"statistic": tested.statistic, "groups": groups, "not_covered": short, "covered_by": covered_by, "people": tested.blocks}
    return _result("tested", counts | facts) | people


def _result(status: str, facts: dict[str, Any]) -> dict[str, Any]:
    drifted, covered = bool(facts.get("drifted", False)), bool(facts.get("covered", True))
    inputs = {"status": status, **facts}
    return {"gate_inputs": inputs, "statistic": None, "p_value": None, "drifted": drifted, "covered": covered, "hold": drifted and not covered, **inputs}


def _test(units: "pd.DataFrame", new: np.ndarray, permutations: int, seed: int) -> Any:
    from model.metrics import logits_of

    looks = np.column_stack([units[list(QUALITY)].to_numpy(dtype=np.float64), logits_of(units["p_fake"])])
    features = joint_features(np.stack(list(units["embedding"])).astype(np.float64), looks)
    clusters = units["cluster"].to_numpy(dtype=str)
    return mmd_test(features, new, clusters, permutations=permutations, seed=seed)


def _turns(units: "pd.DataFrame", new: np.ndarray, nameless: np.ndarray, seed: int) -> np.ndarray:
    """When each video's turn is, by chance [N]: of the known ones whose turn is before 1 as many are fake as of the incoming ones without a label.

    What the model calls fake is mostly fake where half are, and half false alarms where few are. Both shares are estimated from its probabilities, each
    person counted once as in the test: what is wrong with these is so on both sides. All videos of a person and label have one turn.
    """
    from model.estimate import at_share, share_of_fakes

    p_fake, person = units["p_fake"].to_numpy(dtype=np.float64), units["cluster"].factorize()[0]
    known, came = (share_of_fakes(p_fake[side], 1 / np.bincount(person[side])[person[side]]) for side in (~new, new & nameless))
    more = came / (1 - came) * (1 - known) / known
    fake = np.where(units["label"] == "", at_share(p_fake, known), units["label"] == "fake")
    turns: np.ndarray = np.random.default_rng(seed).random(len(units))[person] * max(more, 1.0) / (fake * more + 1 - fake)
    return turns


def _groups(units: "pd.DataFrame", new: np.ndarray, settings: Settings, seed: int, threshold: float) -> list[dict[str, Any]]:
    """What drifted: each group of the incoming against the same group before. One that was never there, or hardly, has drifted; a small one has not.

    Fakes of kinds too small to count are one group, `of` which it names.

    Unlabelled videos are compared with known ones that the model calls the same, taken so that of both as many are fake (`_turns`). Nobody knows how many
    are, so it is an estimate; LEAST_GROUP of the known ones, the first by turn, are looked at in any case.
    """
    kinds, found = group_of(units, threshold), []
    nameless = kinds.str.startswith(UNLABELLED).to_numpy()
    incoming = kinds[new].value_counts()
    weights = {side: max(LEAST_GROUP, LEAST_SHARE * int((new & (side | ~nameless)).sum())) for side in (False, True)}  # of the labelled alone, of all
    small = sorted(str(kind) for kind, n in incoming.items() if str(kind).startswith("fake by ") and n < weights[False])
    pooled = SMALL_KINDS if len(small) > 1 else "".join(small)
    named = kinds.where(~kinds.isin(small), pooled).to_numpy(dtype=str)
    members = {group: named == group for group in sorted(set(named[new]))}
    turns = _turns(units, new, nameless, seed)
    for group in members:
        if group.startswith(UNLABELLED):
            called = np.flatnonzero(~new & (_called(units, threshold) == group.rpartition(" ")[2]).to_numpy())
            first = called[np.argsort(turns[called], kind="stable")]
            members[group] &= new
            members[group][first[: max(LEAST_GROUP, int((turns[called] < 1).sum()))]] = True
    sizes = {group: (int((mine & ~new).sum()), int((mine & new).sum())) for group, mine in members.items()}
    tests = sum(min(size) >= LEAST_GROUP for size in sizes.values())  # they share the level
    for group, mine in members.items():
        n_ref, n_new = sizes[group]
        p_value: float | None = None
        if min(n_ref, n_new) >= LEAST_GROUP:
            try:
                p_value = float(_test(units[mine], new[mine], settings.drift.permutations * tests, seed).p_value)
            except ValueError:
                p_value = None
        why = "unseen" if n_ref < LEAST_GROUP else "changed" if p_value is not None and p_value < settings.drift.alpha / tests else ""
        counts = n_new >= weights[group.startswith(UNLABELLED)]
        of = small if group == pooled else [group]
        found.append({"group": group, "of": of, "n_ref": n_ref, "n_new": n_new, "p_value": p_value, "why": why, "drifted": bool(why) and counts})
    if not any(group["drifted"] for group in found):  # the mixture has shifted, or the groups are too small to say: all must be covered
        labelled = {group["group"]: group["n_new"] for group in found if not group["group"].startswith(UNLABELLED)}
        least = min(weights[False], max(labelled.values(), default=0))
        found = [{**group, "why": group["why"] or "mixture", "drifted": labelled.get(group["group"], -1) >= least} for group in found]
    return found


if __name__ == "__main__":
    stage_main("drift", run)
