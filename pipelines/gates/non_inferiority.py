"""The gate that the challenger is not worse than the champion: what it loses stays within a margin, with the n that would decide."""

from dataclasses import dataclass, replace
from statistics import NormalDist

from pipelines.gates.champion import NO_CHAMPION, has_champion
from pipelines.gates.difference import Difference, more_would_tell, whose
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Missing, Results

NORMAL = NormalDist()
WRONGLY_HELD, NOT_WORSE_TESTS = 0.05, 2  # an equal challenger that the n asked for may hold, shared by AUC and log-loss, which both must pass


@dataclass(frozen=True, slots=True)
class _Loss:
    """A loss that lies between two ends, in words too; the n with which one as large would pass (0: none), and how many people it is known of."""

    story: str
    low: float
    high: float
    wanted: int
    df: int


def not_worse(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Non-inferiority on AUC and on log-loss: what is lost, at the unlucky end of the paired interval, stays within the margin.

    An interval that reaches beyond the margin but does not lie beyond it is undecided, and it is said how many videos would decide.
    """
    fewest = limits.here.min_people
    if not has_champion(inputs):
        yield _first_model(gate, inputs.count("evaluation.people"), fewest)
        return
    seen = inputs.node("evaluation.comparison")
    n, people = min(seen.count("n_real"), seen.count("n_fake")), seen.count("people")
    if people < fewest:
        reason = f"Undecided: the rarer class has videos of {people} people; at least {fewest} are needed."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=people, smallest_n=fewest)
        return
    yield _with_what_may_not_show(_within(f"{gate}: AUC", _auc_loss(seen, limits, n, people), "margin", n, limits), people, limits)
    yield _within(f"{gate}: log-loss", _log_loss_rise(seen.node("log_loss"), limits, n), "max_log_loss_rise", n, limits)


def _first_model(gate: str, people: int, fewest: int) -> GateResult:
    if people >= fewest:
        return GateResult(gate, GateVerdict.PASS, NO_CHAMPION, n=people, smallest_n=fewest)
    # only a promotion makes the frozen holdout grow: a first model let in here would be the last
    reason = f"Undecided: the rarer class has videos of {people} people. On fewer than {fewest} no later model could be set against this one."
    return GateResult(gate, GateVerdict.UNDECIDED, reason, n=people, smallest_n=fewest)


def _auc_loss(seen: Inputs, limits: Limits, n: int, people: int) -> _Loss:
    """What of AUC was lost: the paired interval of the gain, turned round."""
    champion, challenger = seen.number("champion_auc"), seen.number("challenger_auc")
    lower, upper, alpha = seen.number("lower"), seen.number("upper"), limits.here.alpha
    if upper < lower:
        raise Missing("the interval of the comparison is upside down")
    story = f"AUC {challenger:.3f} against the champion's {champion:.3f}; the paired interval is {lower:+.3f} to {upper:+.3f}"
    se = (upper - lower) / (2 * float(NORMAL.inv_cdf(1 - alpha)))
    wanted = _wanted(n, se, limits.here.margin - max(0.0, champion - challenger), alpha)
    return _Loss(story, -upper, -lower, wanted, people - 1)


def _log_loss_rise(seen: Inputs, limits: Limits, n: int) -> _Loss:
    """By what the log-loss rose, with ends that allow for skewness."""
    from model.paired import Paired

    rise, alpha = Difference.read(seen), limits.here.alpha
    if rise.df < 1:
        raise Missing("the log-loss of this comparison has no standard error")
    low, high = Paired(rise.value, rise.se, rise.df, seen.number("skew")).bounds(alpha)
    story = f"Log-loss {rise.value:+.3f} against the champion's, between {low:+.3f} and {high:+.3f}"
    wanted = _wanted(n, rise.se, limits.here.max_log_loss_rise - max(0.0, rise.value), alpha)
    return _Loss(story, low, high, wanted, rise.df)


def _wanted(n: int, se: float, margin: float, alpha: float) -> int:
    """Videos like these n of the rarer class with which a challenger that loses as much as was seen would pass; 0 where none would do.

    So many that it and its neighbour together are missed no more often than WRONGLY_HELD. `margin` is what of it is left.
    """
    from model.paired import needed

    if margin <= 0:
        return 0
    return needed(n, se, margin, alpha, power=1 - WRONGLY_HELD / NOT_WORSE_TESTS) if se > 0 else n


def _within(gate: str, loss: _Loss, setting: str, n: int, limits: Limits) -> GateResult:
    """Whether a loss is within the margin of that name, on n videos of the rarer class; a margin between its two ends is undecided."""
    least, story, wanted = limits.here.min_per_class, loss.story, loss.wanted
    margin, production = limits.bound(setting)
    facts = (loss.high, margin, production, n, max(least, wanted) if wanted else None, "at most")
    if n < least:
        return GateResult(gate, GateVerdict.UNDECIDED, f"Undecided: {story}, on {n} videos of the rarer class; {least - n} more are needed ({least}).", *facts)
    if loss.high < margin:
        return GateResult(gate, GateVerdict.PASS, f"{story}: at most {margin:.3g} is lost.", *facts)
    if loss.low >= margin:
        return GateResult(gate, GateVerdict.FAIL, f"{story}: more than {margin:.3g} is lost.", *facts)
    reason = f"Undecided: {story}; a loss of {margin:.3g} is not ruled out. {_what_would_decide(loss, n)}."
    result = GateResult(gate, GateVerdict.UNDECIDED, reason, *facts)
    return replace(result, smallest_n=max(least, wanted, n + 1)) if wanted else result


def _what_would_decide(loss: _Loss, n: int) -> str:
    if not loss.wanted:
        return f"If that is what it loses, no more than these {n} videos helps"
    if more_would_tell(loss.wanted, n, loss.df):
        return f"About {loss.wanted} videos of the rarer class would decide, there are {n}"
    return f"The {n} videos of the rarer class are of {whose(loss.df)}, and videos of others would decide"


def _with_what_may_not_show(found: GateResult, people: int, limits: Limits) -> GateResult:
    """What befalls so many is met by none of the people with probability alpha: no interval knows of it, and where the gate passes it is said."""
    unseen = 1 - limits.here.alpha ** (1 / people)
    if found.verdict is not GateVerdict.PASS or unseen <= limits.here.margin:
        return found
    return replace(found, reason=f"{found.reason} What fails wholly in fewer than {unseen:.1%} of people may not show on {people}.")
