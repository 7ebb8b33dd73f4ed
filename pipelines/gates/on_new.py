"""Gates on what is new in the holdout: a generator that nobody was judged on yet, and all the rows that came in."""

from dataclasses import replace

from pipelines.gates.champion import NO_CHAMPION, has_champion
from pipelines.gates.difference import FIVE_PEOPLE, Difference
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Results


def better_on_new(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """On each generator that nobody was judged on yet: good in itself, and better than the champion.

    Where the champion already reaches the bound, there is nothing to gain: the challenger must then not have lost more than the margin beyond
    noise. What has fallen below the bound by more than the margin and may be noise all the same is undecided; of videos of fewer than five people nobody
    knows what noise is, and the bound decides. One with too few videos is only reported: it counts as new until
    there are enough, and what it teaches must not wait that long.
    """
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    rows = inputs.rows("evaluation.new_generators")
    if not rows:
        yield GateResult(gate, GateVerdict.PASS, "Nothing new: the new rows hold no generator that nobody was judged on yet.")
    for row in rows:
        yield _on_one(gate, row, limits, limits.here.hold_alpha / len(rows))


def _on_one(gate: str, row: Inputs, limits: Limits, alpha: float) -> GateResult:
    """What `better_on_new` says of one generator, at its part of the level."""
    name, n, least = row.text("generator"), min(row.count("n_real"), row.count("n_fake")), limits.here.min_slice
    champion, challenger = row.number("champion_auc"), row.number("challenger_auc")
    what = f"AUC on the new generator {name} (champion {champion:.3f})"
    if n < least:
        reason = f"{what} is {challenger:.3f} on {n} videos of the rarer class: too few to be judged ({least}). It counts as new until there are as many."
        return GateResult(f"{gate}: {name}", GateVerdict.PASS, reason, n=n, smallest_n=least)
    result = limits.check(f"{gate}: {name}", what, challenger, "min_new_auc", n, least, "videos of the rarer class")
    lost = -Difference.read(row)
    if champion >= limits.here.min_new_auc and max(way.df for way in lost.ways()) >= FIVE_PEOPLE:
        return _kept(result, what, challenger, lost, limits, alpha)
    return result


def _kept(result: GateResult, what: str, challenger: float, lost: Difference, limits: Limits, alpha: float) -> GateResult:
    """What `better_on_new` says where the champion was good already."""
    margin, story = limits.here.margin, f"{what} is {challenger:.3f}"
    p_value = lost.p_above(margin)
    if p_value < alpha:
        how = lost.how(lost.telling(margin))
        return replace(result, verdict=GateVerdict.FAIL, reason=f"{story}: more than {margin:.3g} is lost{how}, beyond noise (p {p_value:.2g}).")
    if challenger < limits.here.min_new_auc and lost.value > margin:
        below = f"below {limits.here.min_new_auc:.3g} by a loss of {lost.value:.3f} that may be noise (p {p_value:.2g})"
        return replace(result, verdict=GateVerdict.UNDECIDED, reason=f"Undecided: {story}, {below}; more videos would tell.")
    return replace(result, verdict=GateVerdict.PASS, reason=f"{story}: no more than {margin:.3g} is lost beyond noise (p {p_value:.2g}).")


def new_rows(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """On all new holdout rows together, known generators included: wrong labels show here, or else on the frozen holdout.

    A week too small to be judged alone is only reported, since its rows join the holdout and are judged from then on.
    """
    seen = inputs.node("evaluation.new_rows")
    real, fake = seen.count("n_real"), seen.count("n_fake")
    n, least = min(real, fake), limits.here.min_slice
    if n < least:
        reason = f"The new holdout rows ({real} real, {fake} fake) are too few to be judged alone ({least} of each); they are reported."
        if n:
            seen.number("challenger_auc")
        yield GateResult(gate, GateVerdict.PASS, reason, n=n, smallest_n=least)
        return
    yield limits.check(gate, "AUC on all new holdout rows", seen.number("challenger_auc"), "min_new_auc", n, least, "videos of the rarer class")
