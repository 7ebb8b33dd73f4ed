"""Gates that set the challenger against the champion, against what is new, and against attacks.

A workspace's first model has no champion: what can only be compared passes with that reason, and the absolute gates
decide. "No champion" is a stated fact (an empty sha256 in the evaluation *and* in the cycle), never a missing one.
"""

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

from pipelines.gates.result import ROUNDING, GateResult, GateVerdict, Inputs, Limits, Missing, Results
from workspace.settings import DriftSettings

NO_CHAMPION = "No champion yet: the absolute gates decide."
NOTHING_KNOWN = "No known media, since the champion was imported or what it had learned was dropped"
NORMAL = NormalDist()
ROBUSTNESS_TESTS, FORGETTING_TESTS = 3, 2  # share the level of their gate
WRONGLY_HELD, NOT_WORSE_TESTS = 0.05, 2  # an equal challenger that the n asked for may hold, shared by AUC and log-loss, which both must pass
FIVE_PEOPLE, TEN_PEOPLE = 4, 9  # degrees of freedom: on fewer than five even a lost generator is not shown (of two, Student's t asks for 64 standard errors)
PERHAPS = 0.15  # so likely by chance or less, a loss on few people is not passed over
BATCHES_NAMED = 4  # of a week whose labels are contradicted
FEW_CONTRADICTED = 0.1  # of a handful of videos one in ten may be contradicted, however sure the champion was before: they may just be hard ones


def has_champion(inputs: Inputs) -> bool:
    """True when the evaluation compared against the very champion of the cycle. Raises Missing when the two disagree."""
    compared, base = inputs.text("evaluation.champion_sha256"), inputs.text("cycle.base_sha256")
    if compared != base:
        raise Missing(f"the evaluation compared with champion {compared[:12] or 'none'}, but the cycle's is {base[:12] or 'none'}")
    if not inputs.text("evaluation.challenger_sha256"):
        raise Missing("evaluation.challenger_sha256 is empty")
    return bool(base)


def not_worse(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Non-inferiority on AUC and on log-loss: what is lost, at the unlucky end of the paired interval, stays within the margin.

    An interval that reaches beyond the margin but does not lie beyond it is undecided, and it is said how many videos would decide.
    """
    from model.paired import Paired

    fewest = limits.here.min_people
    if not has_champion(inputs):
        people = inputs.count("evaluation.people")
        verdict, reason = GateVerdict.PASS, NO_CHAMPION
        if people < fewest:  # only a promotion makes the frozen holdout grow: a first model let in here would be the last
            verdict = GateVerdict.UNDECIDED
            reason = f"Undecided: the rarer class has videos of {people} people. On fewer than {fewest} no later model could be set against this one."
        yield GateResult(gate, verdict, reason, n=people, smallest_n=fewest)
        return
    seen = inputs.node("evaluation.comparison")
    n, least = min(seen.count("n_real"), seen.count("n_fake")), limits.here.min_per_class
    people = seen.count("people")
    if people < fewest:
        reason = f"Undecided: the rarer class has videos of {people} people; at least {fewest} are needed."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=people, smallest_n=fewest)
        return
    champion, challenger = seen.number("champion_auc"), seen.number("challenger_auc")
    lower, upper, alpha = seen.number("lower"), seen.number("upper"), limits.here.alpha
    if upper < lower:
        raise Missing("the interval of the comparison is upside down")
    story = f"AUC {challenger:.3f} against the champion's {champion:.3f}; the paired interval is {lower:+.3f} to {upper:+.3f}"
    se = (upper - lower) / (2 * float(NORMAL.inv_cdf(1 - alpha)))
    margins = (limits.here.margin, limits.production.margin)
    wanted = _wanted(n, se, margins[0] - max(0.0, champion - challenger), alpha)
    found = _bounded(f"{gate}: AUC", story, (-upper, -lower), margins, n, least, wanted, people - 1)
    unseen = 1 - alpha ** (1 / people)  # what befalls so many is met by none of the people with probability alpha: no interval knows of it
    if found.verdict is GateVerdict.PASS and unseen > margins[0]:
        found = replace(found, reason=f"{found.reason} What fails wholly in fewer than {unseen:.1%} of people may not show on {people}.")
    yield found
    loss = seen.node("log_loss")
    rise, spread, df = loss.number("difference"), loss.number("se"), loss.count("df")
    if spread < 0 or df < 1:
        raise Missing("the log-loss of this comparison has no standard error")
    low, high = Paired(rise, spread, df, loss.number("skew")).bounds(alpha)
    margins = (limits.here.max_log_loss_rise, limits.production.max_log_loss_rise)
    story = f"Log-loss {rise:+.3f} against the champion's, between {low:+.3f} and {high:+.3f}"
    yield _bounded(f"{gate}: log-loss", story, (low, high), margins, n, least, _wanted(n, spread, margins[0] - max(0.0, rise), alpha), df)


def _wanted(n: int, se: float, margin: float, alpha: float) -> int:
    """Videos like these n of the rarer class with which a challenger that loses as much as was seen would pass; 0 where none would do.

    So many that it and its neighbour together are missed no more often than WRONGLY_HELD. `margin` is what of it is left.
    """
    from model.paired import needed

    if margin <= 0:
        return 0
    return needed(n, se, margin, alpha, power=1 - WRONGLY_HELD / NOT_WORSE_TESTS) if se > 0 else n


def _bounded(gate: str, story: str, loss: tuple[float, float], margins: tuple[float, float], n: int, least: int, wanted: int, df: int) -> GateResult:
    """Whether a loss, known to lie between two ends, is within the margin; between is undecided."""
    low, high = loss
    margin, production = margins
    facts = (high, margin, production, n, max(least, wanted) if wanted else None, "at most")
    if n < least:
        return GateResult(gate, GateVerdict.UNDECIDED, f"Undecided: {story}, on {n} videos of the rarer class; {least - n} more are needed ({least}).", *facts)
    if high < margin:
        return GateResult(gate, GateVerdict.PASS, f"{story}: at most {margin:.3g} is lost.", *facts)
    if low >= margin:
        return GateResult(gate, GateVerdict.FAIL, f"{story}: more than {margin:.3g} is lost.", *facts)
    more = f"If that is what it loses, no more than these {n} videos helps"
    if wanted:
        counted = f"About {wanted} videos of the rarer class would decide, there are {n}"
        more = counted if _more_would_tell(wanted, n, df) else f"The {n} videos of the rarer class are of {_whose(df)}, and videos of others would decide"
    result = GateResult(gate, GateVerdict.UNDECIDED, f"Undecided: {story}; a loss of {margin:.3g} is not ruled out. {more}.", *facts)
    return replace(result, smallest_n=max(least, wanted, n + 1)) if wanted else result


def _more_would_tell(wanted: int, n: int, df: int) -> bool:
    """Whether a number of videos reckoned by the normal distribution means anything: of few people it is too low, and may be one that is there already."""
    return wanted > n and df >= TEN_PEOPLE


def _whose(df: int) -> str:
    return "one person alone" if df < 1 else f"people who count as {df + 1}"


@dataclass(frozen=True, slots=True)
class _Loss:
    """What one slice or generator lost, and how sure that is."""

    name: str
    lost: float
    se: float
    df: int
    n: int


def _losses(rows: list[Inputs], name: str, counts: tuple[str, ...]) -> list[_Loss]:
    read = [_Loss(row.text(name), -row.number("difference"), row.number("se"), row.count("df"), min(row.count(count) for count in counts)) for row in rows]
    if any(loss.se < 0 for loss in read):
        raise Missing(f"a {name} has a negative standard error")
    return read


def _shown_losses(gate: str, what: str, setting: str, read: list[_Loss], limits: Limits, tests: int = 1) -> GateResult:
    """Fail where some loss beyond the bound is more than noise: one-sided tests, together at level `hold_alpha` / `tests` (Holm)."""
    from model.paired import detectable, holm, p_greater

    least, alpha = limits.here.min_slice, limits.here.hold_alpha / tests
    bound, production = float(getattr(limits.here, setting)), float(getattr(limits.production, setting))
    judged = [loss for loss in read if loss.n >= least and loss.df >= 1]
    if not judged:
        largest = max((loss.n for loss in read), default=0)
        reason = f"Undecided: none has {least} videos of several people; the largest has {largest}."
        return GateResult(gate, GateVerdict.UNDECIDED, reason, limit=bound, production_limit=production, n=largest, smallest_n=least, rule="at most")
    adjusted = holm([p_greater(loss.lost, loss.se, loss.df, bound) for loss in judged])
    worst = min(range(len(judged)), key=lambda at: (adjusted[at], -judged[at].lost))
    most = max(judged, key=lambda loss: loss.lost)
    loss, p_value = judged[worst], adjusted[worst]
    facts = (bound, production, loss.n, least, "at most")
    if p_value < alpha:
        shown = [one.name for one, p in zip(judged, adjusted, strict=True) if p < alpha]
        more = f"; {len(shown)} of {len(judged)} lost more" if len(shown) > 1 else ""
        reason = f"{loss.name} lost {loss.lost:.3f} of {what}, more than {bound:.3g} beyond noise (p {p_value:.2g} of {alpha:.2g} after Holm{more})."
        return GateResult(gate, GateVerdict.FAIL, reason, loss.lost, *facts)
    seen = [detectable(one.se, one.df, bound, alpha / len(judged)) for one in judged]
    shown_in = [size for size in seen if size <= 1]  # no measure here can fall by more than 1
    least_certain = f"one of {max(shown_in):.2f} would be found 4 times in 5 in the least certain" if shown_in else "none could have shown"
    blind = f"; in {len(seen) - len(shown_in)}, of few people, none could show" if shown_in and len(shown_in) < len(seen) else ""
    reason = f"No loss of {what} beyond {bound:.3g} is more than noise in {len(judged)} (most: {most.name}, {most.lost:+.3f}; {least_certain}{blind})."
    return GateResult(gate, GateVerdict.PASS, reason, most.lost, bound, production, most.n, least, "at most")


def better_on_new(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """On each generator that nobody was judged on yet: good in itself, and better than the champion.

    Where the champion already reaches the bound, there is nothing to gain: the challenger must then not have lost more than the margin beyond
    noise. What has fallen below the bound by more than the margin and may be noise all the same is undecided; of videos of fewer than five people nobody
    knows what noise is, and the bound decides. One with too few videos is only reported: it counts as new until
    there are enough, and what it teaches must not wait that long.
    """
    from model.paired import p_greater

    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    rows = inputs.rows("evaluation.new_generators")
    if not rows:
        yield GateResult(gate, GateVerdict.PASS, "Nothing new: the new rows hold no generator that nobody was judged on yet.")
    for row in rows:
        name, n, least = row.text("generator"), min(row.count("n_real"), row.count("n_fake")), limits.here.min_slice
        champion, challenger = row.number("champion_auc"), row.number("challenger_auc")
        what = f"AUC on the new generator {name} (champion {champion:.3f})"
        if n < least:
            reason = f"{what} is {challenger:.3f} on {n} videos of the rarer class: too few to be judged ({least}). It counts as new until there are as many."
            yield GateResult(f"{gate}: {name}", GateVerdict.PASS, reason, n=n, smallest_n=least)
            continue
        result = limits.check(f"{gate}: {name}", what, challenger, "min_new_auc", n, least, "videos of the rarer class")
        lost, se, df = -row.number("difference"), row.number("se"), row.count("df")
        if champion >= limits.here.min_new_auc and df >= FIVE_PEOPLE:
            result = _kept(result, what, challenger, p_greater(lost, se, df, limits.here.margin), lost, limits, limits.here.hold_alpha / len(rows))
        yield result


def _kept(result: GateResult, what: str, challenger: float, p_value: float, lost: float, limits: Limits, alpha: float) -> GateResult:
    """What `better_on_new` says where the champion was good already."""
    margin, story = limits.here.margin, f"{what} is {challenger:.3f}"
    if p_value < alpha:
        return replace(result, verdict=GateVerdict.FAIL, reason=f"{story}: more than {margin:.3g} is lost beyond noise (p {p_value:.2g}).")
    if challenger < limits.here.min_new_auc and lost > margin:
        reason = f"Undecided: {story}, below {limits.here.min_new_auc:.3g} by a loss of {lost:.3f} that may be noise (p {p_value:.2g}); more videos would tell."
        return replace(result, verdict=GateVerdict.UNDECIDED, reason=reason)
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


def worst_slice(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """No slice loses more balanced accuracy against the champion than is allowed, noise apart."""
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    rows = inputs.rows("evaluation.slices")
    for row in rows:
        row.number("champion")
    yield _shown_losses(gate, "balanced accuracy", "max_slice_drop", _losses(rows, "slice", ("n",)), limits)


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
    read = _losses(rows, "generator", ("n_fake", "n_real"))
    found = _shown_losses(gate, "AUC", setting, read, limits, FORGETTING_TESTS)
    least, bound = limits.here.min_slice, float(getattr(limits.here, setting))
    unsure = [loss for loss in read if loss.n >= least and loss.lost > bound and loss.df < TEN_PEOPLE and _perhaps(loss, bound)]
    if found.verdict is not GateVerdict.PASS or not unsure:
        return found
    worst = max(unsure, key=lambda loss: loss.lost)
    reason = (
        f"Undecided: {worst.name} lost {worst.lost:.3f} of AUC, more than {bound:.3g}, on {worst.n} videos of {_whose(worst.df)}; "
        "whether that is more than noise, videos of others would tell."
    )
    return replace(found, verdict=GateVerdict.UNDECIDED, reason=reason, measured=worst.lost, n=worst.n)


def _perhaps(loss: _Loss, bound: float) -> bool:
    """Whether a loss on few people may be one. Of one person alone nobody knows what noise is."""
    from model.paired import p_greater

    return loss.df < 1 or p_greater(loss.lost, loss.se, loss.df, bound) <= PERHAPS


def label_noise(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The labels that came in are not contradicted by the champion more often than the known ones, noise and its own doubt apart."""
    from model.paired import p_greater

    champion_exists, seen = has_champion(inputs), inputs.node("drift.labels")
    status = seen.text("status")
    if status == "no champion" and not champion_exists:
        yield GateResult(gate, GateVerdict.PASS, "No champion yet whom the labels could contradict.")
        return
    if status not in ("tested", "too few"):
        raise Missing(f"drift.labels.status {status!r} does not fit this cycle")
    before, new, least = seen.count("n_ref"), seen.count("n_new"), limits.here.min_slice
    bound, production = limits.here.max_label_noise, limits.production.max_label_noise
    too_few = f"{new} incoming videos with labels that the champion can judge: too few to look at ({least})."
    passed = GateResult(gate, GateVerdict.PASS, too_few, n=new, smallest_n=least)
    if before == 0 and inputs.flag("cycle.unknown"):
        yield GateResult(gate, GateVerdict.PASS, f"{NOTHING_KNOWN}: there are no labels that it could be weighed on.", n=0, smallest_n=least)
        return
    if new < least and (status == "too few" or before < least or seen.count("df") < 1):
        yield passed
        return
    if status == "too few" or before < least:
        reason = f"Undecided: {before} known videos to compare with; {least - before} more are needed ({least})."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=before, smallest_n=least)
        return
    rise, se, df = seen.number("difference"), seen.number("se"), seen.count("df")
    if se < 0:
        raise Missing("drift.labels.se is negative")
    if df < 1:
        reason = f"Undecided: the {new} incoming or the {before} known videos with labels are all of one person; others are needed to tell what is usual."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, rise, bound, production, new, least, "at most")
        return
    rates = (
        f"the champion contradicts {seen.number('rate'):.1%} of the labels that came in, where its own doubt says {seen.number('expected'):.1%}, "
        f"and {seen.number('rate_before'):.1%} of the known ones ({seen.number('expected_before'):.1%})"
    )
    p_value, alpha = p_greater(rise, se, df, bound), limits.here.hold_alpha
    if new < least:  # so few may pass unseen, but not where hardly one of their labels can be right
        usual = max(FEW_CONTRADICTED, max(seen.number("rate_before"), seen.number("expected")) + bound)
        p_value = max(p_value, _chance_of(seen.number("rate"), usual, min(new, df + 1)))
        if p_value >= alpha:
            yield passed
            return
    failed = p_value < alpha
    reason = f"{rates}: {'more than' if failed else 'not shown to be more than'} {bound:.1%} beyond noise (p {p_value:.2g}, held below {alpha:.2g})."
    verdict, batches = GateVerdict.FAIL if failed else GateVerdict.PASS, _contradicted_by_batch(seen)
    if failed and len(batches) > 1:
        others = [f"and {len(batches) - BATCHES_NAMED} more"] if len(batches) > BATCHES_NAMED else []
        reason += f" By batch: {', '.join(batches[:BATCHES_NAMED] + others)}."
    yield GateResult(gate, verdict, reason[0].upper() + reason[1:], rise, bound, production, new, least, "at most")


def _contradicted_by_batch(labels: Inputs) -> list[str]:
    """Each batch that came in and how many of its labels the champion contradicts, the most contradicted beyond its own doubt first."""
    rows = [(row.number("rate") - row.number("expected"), row.text("batch"), row.number("rate"), row.count("n")) for row in labels.rows("batches")]
    return [f"{batch} {rate:.1%} of {n}" for _, batch, rate, n in sorted(rows, key=lambda row: (-row[0], row[1]))]


def _chance_of(rate: float, usual: float, people: int) -> float:
    """The chance that of so few people so large a part is contradicted where `usual` is what each has to expect (binomial, exact): Student's t is not."""
    from scipy.stats import binom

    return float(binom.sf(math.floor(rate * people + ROUNDING) - 1, people, min(1.0, usual)))


def drift(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """What comes in looks like what the holdout covers, or the updated holdout now covers it."""
    seen, judged = inputs.node("drift"), inputs.items("cycle.judged")
    status, reference, new = seen.text("status"), seen.count("n_ref"), seen.count("n_new")
    if status == "no reference":
        if has_champion(inputs) and not inputs.flag("cycle.unknown"):
            raise Missing("there is a champion, but drift had no reference to compare with")
        known = f"{NOTHING_KNOWN}: there is nothing to compare with." if has_champion(inputs) else "No champion yet that these could be unlike."
        yield GateResult(gate, GateVerdict.PASS, known, n=new, smallest_n=0)
        return
    if status == "nothing new":
        if judged or new:
            raise Missing("batches are under judgement, but drift saw nothing new")
        yield GateResult(gate, GateVerdict.PASS, "Nothing came in.", n=0, smallest_n=0)
        return
    least = seen.count("least")
    if new < least <= reference:
        # Some reviewed cases a week must be able to train: so few cannot move the traffic, and every other gate still looks at what they taught.
        yield GateResult(gate, GateVerdict.PASS, f"Only {new} videos came in: too few to move the traffic (a test needs {least}).", n=new, smallest_n=least)
        return
    if status == "too few" and min(reference, new) >= least:
        reason = f"Undecided: {reference} known and {new} incoming videos, but {seen.text('note')}."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=min(reference, new), smallest_n=least)
        return
    if status == "too few" or min(reference, new) < least:
        short = max(0, least - min(reference, new))
        reason = f"Undecided: {reference} known and {new} incoming videos; {short} more are needed ({least} on each side)."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=min(reference, new), smallest_n=least)
        return
    if status != "tested":
        raise Missing(f"drift.status {status!r} is not known")
    p_value, alpha, drifted, covered = seen.number("p_value"), seen.number("alpha"), seen.flag("drifted"), seen.flag("covered")
    drifted = drifted or p_value < alpha
    facts = (p_value, alpha, float(DriftSettings.model_fields["alpha"].default), min(reference, new), least, "at least")
    if not drifted:
        yield GateResult(gate, GateVerdict.PASS, f"What came in looks like the holdout (p {p_value:.3g}).", *facts)
    elif covered:
        yield GateResult(gate, GateVerdict.PASS, f"What came in differs from the holdout (p {p_value:.3g}), and the updated holdout now covers it.", *facts)
    elif not limits.here.hold_on_drift:
        yield GateResult(gate, GateVerdict.PASS, f"What came in differs from the holdout (p {p_value:.3g}); the settings say not to hold for it.", *facts)
    else:
        yield GateResult(
            gate, GateVerdict.FAIL, f"What came in differs from the holdout (p {p_value:.3g}), and the updated holdout has too little of it.", *facts
        )


def robustness(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Transferred attacks cost little, white-box attacks leave something standing, and the curve is not below the champion's."""
    champion_exists, seen = has_champion(inputs), inputs.node("evaluation.robustness")
    n = seen.count("n")
    yield _bound_stands(f"{gate}: transfer", "balanced accuracy lost to transferred PGD at 0.05", seen.node("transfer"), "max_transfer_drop", n, limits)
    yield _bound_stands(f"{gate}: white-box", "balanced accuracy under white-box attack at 2/255", seen.node("whitebox"), "min_whitebox", n, limits)
    if champion_exists and isinstance(seen.value, dict) and seen.value.get("champion_has_no_gradients") is True:
        yield GateResult(
            f"{gate}: curve", GateVerdict.PASS, "The champion is an imported ONNX file, which cannot be attacked white-box: nothing to compare with."
        )
    elif champion_exists:
        yield _bound_stands(f"{gate}: curve", "loss of mean robust accuracy against the champion", seen.node("curve"), "max_curve_drop", n, limits)
    else:
        yield GateResult(f"{gate}: curve", GateVerdict.PASS, NO_CHAMPION)


def _bound_stands(gate: str, what: str, seen: Inputs, setting: str, n: int, limits: Limits) -> GateResult:
    """Hold a gain with its standard error against a bound. What lies beyond it, but not beyond noise, is undecided: held, and more clips (of
    few people, those of others) would tell.
    """
    from model.paired import needed, p_greater

    gain, se, df, alpha = seen.number("difference"), seen.number("se"), seen.count("df"), limits.here.hold_alpha / ROBUSTNESS_TESTS
    if se < 0:
        raise Missing(f"{seen.at}.se is negative")
    sign = 1.0 if setting.startswith("min_") else -1.0  # a loss is a negative gain
    result = limits.check(gate, what, sign * gain, setting, n, limits.here.min_slice, "clips")
    if n < limits.here.min_slice:
        return result
    reason = f"{result.reason[:-1]} (standard error {se:.2g})"
    if result.verdict is GateVerdict.PASS:
        return replace(result, reason=f"{reason}.")
    limit = float(getattr(limits.here, setting))
    p_value = p_greater(-gain, se, df, -sign * limit)
    if p_value < alpha:
        return replace(result, reason=f"{reason}: beyond noise (p {p_value:.2g} of {alpha:.2g}).")
    clips = needed(n, se, abs(sign * gain - limit), alpha, power=0.8)
    counted = f"a loss like this is told from noise with about {clips} clips"
    more = counted if _more_would_tell(clips, n, df) else f"the {n} clips are of {_whose(df)}, and clips of others would tell"
    told = f"Undecided: {reason}, which may be noise (p {p_value:.2g} of {alpha:.2g}); {more}."
    return replace(result, verdict=GateVerdict.UNDECIDED, reason=told, smallest_n=max(clips, n + 1))
