"""Gates on what may be lost in one part while the whole looks well: a slice of the holdout, or a generator that was known before."""

from dataclasses import dataclass, replace

from pipelines.gates.champion import NO_CHAMPION, has_champion
from pipelines.gates.difference import TEN_PEOPLE, Difference, whose
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Missing, Results

FORGETTING_TESTS = 2  # share the level of their gate
PERHAPS = 0.15  # so likely by chance or less, a loss on few people is not passed over


@dataclass(frozen=True, slots=True)
class _Part:
    """What one slice or generator lost, and on how many videos that was seen."""

    name: str
    lost: Difference
    n: int


def worst_slice(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """No slice loses more balanced accuracy against the champion than is allowed, noise apart."""
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    rows = inputs.rows("evaluation.slices")
    for row in rows:
        row.number("champion")
    yield _shown_losses(gate, "balanced accuracy", "max_slice_drop", _parts(rows, "slice", ("n",)), limits)


def forgetting(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """No generator known before is told less well than is allowed (AUC), noise apart: against the champion, and against one of some promotions ago.

    The two share the level. Against the champion alone a little could be lost each week, without end.
    """
    wanted = inputs.text("cycle.anchor_sha256")
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    yield _forgotten(gate, inputs.rows("evaluation.forgetting"), "champion_auc", "max_forgetting", limits)
    if not wanted:
        return
    older = inputs.node("evaluation.anchor")
    if older.text("sha256") != wanted:
        raise Missing(f"the evaluation's older champion is {older.text('sha256')[:12] or 'none'}, the cycle's is {wanted[:12]}")
    yield _forgotten(f"{gate}: since {older.text('cycle')}", older.rows("generators"), "anchor_auc", "max_long_forgetting", limits)


def _forgotten(gate: str, rows: list[Inputs], before: str, setting: str, limits: Limits) -> GateResult:
    """What the generators of `rows` lost against the model whose AUC is called `before`."""
    for row in rows:
        row.number(before), row.number("challenger_auc")
    parts = _parts(rows, "generator", ("n_fake", "n_real"))
    found = _shown_losses(gate, "AUC", setting, parts, limits, FORGETTING_TESTS)
    least, (bound, _) = limits.here.min_slice, limits.bound(setting)
    unsure = [(part, way) for part in parts if part.n >= least for way in _perhaps(part.lost, bound)]
    if found.verdict is not GateVerdict.PASS or not unsure:
        return found
    worst, lost = max(unsure, key=lambda one: one[1].value)
    reason = (
        f"Undecided: {worst.name} lost {lost.value:.3f} of AUC{worst.lost.how(lost)}, more than {bound:.3g}, on {worst.n} videos of {whose(lost.df)}; "
        "whether that is more than noise, videos of others would tell."
    )
    return replace(found, verdict=GateVerdict.UNDECIDED, reason=reason, measured=lost.value, n=worst.n)


def _perhaps(lost: Difference, bound: float) -> list[Difference]:
    """The ways to count by which too much was lost on few people, and that may be more than noise. Of one person alone nobody knows what noise is."""
    ways = lost.ways()
    few = [way for way in ways if way.value > bound and way.df < TEN_PEOPLE]
    return [way for way in few if way.df < 1 or len(ways) * way.p_alone(bound) <= PERHAPS]


def _parts(rows: list[Inputs], name: str, counts: tuple[str, ...]) -> list[_Part]:
    """The slices or generators of `rows`, called by their `name`; the smallest of the `counts` is how many videos one has."""
    return [_Part(row.text(name), -Difference.read(row), min(row.count(count) for count in counts)) for row in rows]


def _shown_losses(gate: str, what: str, setting: str, parts: list[_Part], limits: Limits, tests: int = 1) -> GateResult:
    """Fail where some loss beyond the bound is more than noise: one-sided tests, together at level `hold_alpha` / `tests` (Holm)."""
    from model.paired import holm

    least, alpha = limits.here.min_slice, limits.here.hold_alpha / tests
    bound, production = limits.bound(setting)
    judged = [part for part in parts if part.n >= least and part.lost.df >= 1]
    if not judged:
        largest = max((part.n for part in parts), default=0)
        reason = f"Undecided: none has {least} videos of several people; the largest has {largest}."
        return GateResult(gate, GateVerdict.UNDECIDED, reason, limit=bound, production_limit=production, n=largest, smallest_n=least, rule="at most")
    adjusted = holm([part.lost.p_above(bound) for part in judged])
    worst, p_value = min(zip(judged, adjusted, strict=True), key=lambda found: (found[1], -found[0].lost.telling(bound).value))
    if p_value < alpha:
        shown = sum(p < alpha for p in adjusted)
        more = f"; {shown} of {len(judged)} lost more" if shown > 1 else ""
        lost = worst.lost.telling(bound)
        story = f"{worst.name} lost {lost.value:.3f} of {what}{worst.lost.how(lost)}, more than {bound:.3g} beyond noise"
        reason = f"{story} (p {p_value:.2g} of {alpha:.2g} after Holm{more})."
        return GateResult(gate, GateVerdict.FAIL, reason, lost.value, bound, production, worst.n, least, "at most")
    most, lost = max(((part, part.lost.telling(bound)) for part in judged), key=lambda found: found[1].value)
    told = f"most: {most.name}, {lost.value:+.3f}{most.lost.how(lost)}; {_findable([part.lost for part in judged], bound, alpha)}"
    reason = f"No loss of {what} beyond {bound:.3g} is more than noise in {len(judged)} ({told})."
    return GateResult(gate, GateVerdict.PASS, reason, lost.value, bound, production, most.n, least, "at most")


def _findable(losses: list[Difference], bound: float, alpha: float) -> str:
    """How large a loss the tests would have found, in the words of the gate."""
    sizes = [lost.detectable(bound, alpha / len(losses)) for lost in losses]
    possible = [size for size in sizes if size <= 1]  # no measure here can fall by more than 1
    if not possible:
        return "none could have shown"
    blind = f"; in {len(sizes) - len(possible)}, of few people, none could show" if len(possible) < len(sizes) else ""
    return f"one of {max(possible):.2f} would be found 4 times in 5 in the least certain{blind}"
