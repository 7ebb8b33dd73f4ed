"""Gates on what came in: its labels beside what the champion says, and whether it looks like what the holdout covers."""

import math
from dataclasses import dataclass

from pipelines.gates.champion import has_champion
from pipelines.gates.difference import Difference
from pipelines.gates.result import ROUNDING, GateResult, GateVerdict, Inputs, Limits, Missing, Results
from workspace.settings import DriftSettings

NOTHING_KNOWN = "No known media, since the champion was imported or what it had learned was dropped"
BATCHES_NAMED = 4  # of a week whose labels are contradicted
LEFT_OUT = {"vouched": "of batches that a person accepted", "cases": "decided cases"}
FEW_CONTRADICTED = 0.1  # of a handful of videos one in ten may be contradicted, however sure the champion was before: they may just be hard ones


@dataclass(frozen=True, slots=True)
class _Told:
    """Of one way to count, by videos or by people: how often the champion contradicts labels, and should by its own doubt, and the rise that is tested."""

    rise: Difference
    rate: float
    expected: float
    rate_before: float
    expected_before: float

    @classmethod
    def read(cls, rise: Difference, seen: Inputs) -> "_Told":
        """What `seen` says beside its `rise`. Raises Missing."""
        return cls(rise, *(seen.number(name) for name in ("rate", "expected", "rate_before", "expected_before")))

    def p_value(self, bound: float, new: int, least: int) -> float:
        """How likely chance alone raises the rate so far beyond the bound."""
        found = self.rise.p_alone(bound)
        if new >= least:
            return found
        # so few may pass unseen, but not where hardly one of their labels can be right
        usual = max(FEW_CONTRADICTED, max(self.rate_before, self.expected) + bound)
        return max(found, _chance_of(self.rate, usual, min(new, self.rise.df + 1)))


def label_noise(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The labels that came in are not contradicted by the champion more often than the known ones, noise and its own doubt apart."""
    champion_exists, seen = has_champion(inputs), inputs.node("drift.labels")
    status = seen.text("status")
    if status == "no champion" and not champion_exists:
        yield GateResult(gate, GateVerdict.PASS, "No champion yet whom the labels could contradict.")
        return
    if status not in ("tested", "too few"):
        raise Missing(f"drift.labels.status {status!r} does not fit this cycle")
    known, new, least = seen.count("n_ref"), seen.count("n_new"), limits.here.min_slice
    comparable = status == "tested" and known >= least
    if known == 0 and inputs.flag("cycle.unknown"):
        yield GateResult(gate, GateVerdict.PASS, f"{NOTHING_KNOWN}: there are no labels that it could be weighed on.", n=0, smallest_n=least)
    elif new < least and not (comparable and any(way.df >= 1 for way in Difference.read(seen).ways())):
        yield _too_few_labels(gate, inputs, new, least)
    elif not comparable:
        reason = f"Undecided: {known} known videos to compare with; {least - known} more are needed ({least})."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=known, smallest_n=least)
    else:
        yield _contradicted(gate, inputs, known, new, limits)


def _too_few_labels(gate: str, inputs: Inputs, new: int, least: int) -> GateResult:
    reason = f"{new} incoming videos with labels that the champion can judge: too few to look at ({least}).{_left_out(inputs, 'vouched')}"
    return GateResult(gate, GateVerdict.PASS, reason, n=new, smallest_n=least)


def _left_out(inputs: Inputs, *kinds: str) -> str:
    """How many incoming videos are of these kinds of LEFT_OUT, as a sentence to follow another; '' where none is."""
    counts = {kind: inputs.count(f"drift.{kind}") for kind in kinds}
    named = ", ".join(f"{count} {LEFT_OUT[kind]}" for kind, count in counts.items() if count)
    return f" Left out: {named}." if named else ""


def _contradicted(gate: str, inputs: Inputs, known: int, new: int, limits: Limits) -> GateResult:
    """Whether the champion contradicts the labels that came in more often than the known ones, where there are enough to compare."""
    from model.paired import of_both

    seen = inputs.node("drift.labels")
    rise, least = Difference.read(seen), limits.here.min_slice
    bound, production = limits.bound("max_label_noise")
    if max(way.df for way in rise.ways()) < 1:
        reason = f"Undecided: the {new} incoming or the {known} known videos with labels are all of one person; others are needed to tell what is usual."
        return GateResult(gate, GateVerdict.UNDECIDED, reason, rise.value, bound, production, new, least, "at most")
    told, alpha = [_Told.read(rise, seen)], limits.here.hold_alpha
    if rise.once:
        told.append(_Told.read(rise.once, seen.node("once")))
    most = min(told, key=lambda one: (one.p_value(bound, new, least), -one.rise.value))
    p_value = of_both(*(one.p_value(bound, new, least) for one in told))
    if new < least and p_value >= alpha:
        return _too_few_labels(gate, inputs, new, least)
    facts = (most.rise.value, bound, production, new, least, "at most")
    failed, batches = p_value < alpha, _contradicted_by_batch(seen)
    reason = (
        f"The champion contradicts {most.rate:.1%} of the labels that came in{rise.how(most.rise)}, where its own doubt says {most.expected:.1%}, "
        f"and {most.rate_before:.1%} of the known ones ({most.expected_before:.1%}): "
        f"{'more than' if failed else 'not shown to be more than'} {bound:.1%} beyond noise (p {p_value:.2g}, held below {alpha:.2g})."
    )
    if failed and len(batches) > 1:
        others = [f"and {len(batches) - BATCHES_NAMED} more"] if len(batches) > BATCHES_NAMED else []
        reason += f" By batch: {', '.join(batches[:BATCHES_NAMED] + others)}."
    return GateResult(gate, GateVerdict.FAIL if failed else GateVerdict.PASS, reason, *facts)


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
    status, known, new = seen.text("status"), seen.count("n_ref"), seen.count("n_new")
    left_out = _left_out(inputs, *LEFT_OUT)
    if status == "no reference":
        yield _without_reference(gate, inputs, new)
        return
    if status == "nothing new":
        if judged or new:
            raise Missing("batches are under judgement, but drift saw nothing new")
        yield GateResult(gate, GateVerdict.PASS, "Nothing came in.", n=0, smallest_n=0)
        return
    least, fewer = seen.count("least"), min(known, new)
    if new < least <= known:
        # Some reviewed cases a week must be able to train: so few cannot move the traffic, and every other gate still looks at what they taught.
        reason = f"Only {new} incoming videos to test: too few to move the traffic (a test needs {least}).{left_out}"
        yield GateResult(gate, GateVerdict.PASS, reason, n=new, smallest_n=least)
    elif fewer < least:
        reason = f"Undecided: {known} known and {new} incoming videos; {least - fewer} more are needed ({least} on each side).{left_out}"
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=fewer, smallest_n=least)
    elif status == "too few":
        reason = f"Undecided: of {new} incoming and {known} known videos {seen.text('note')}."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=fewer, smallest_n=least)
    elif status != "tested":
        raise Missing(f"drift.status {status!r} is not known")
    else:
        yield _tested(gate, seen, fewer, least, limits)


def _without_reference(gate: str, inputs: Inputs, new: int) -> GateResult:
    if not has_champion(inputs):
        return GateResult(gate, GateVerdict.PASS, "No champion yet that these could be unlike.", n=new, smallest_n=0)
    if not inputs.flag("cycle.unknown"):
        raise Missing("there is a champion, but drift had no reference to compare with")
    return GateResult(gate, GateVerdict.PASS, f"{NOTHING_KNOWN}: there is nothing to compare with.", n=new, smallest_n=0)


def _tested(gate: str, seen: Inputs, fewer: int, least: int, limits: Limits) -> GateResult:
    """What a drift test says that was made, on so many videos of the smaller side."""
    p_value, alpha, drifted, covered = seen.number("p_value"), seen.number("alpha"), seen.flag("drifted"), seen.flag("covered")
    facts = (p_value, alpha, float(DriftSettings.model_fields["alpha"].default), fewer, least, "at least")
    if not (drifted or p_value < alpha):
        return GateResult(gate, GateVerdict.PASS, f"What came in looks like the holdout (p {p_value:.3g}).", *facts)
    differs = f"What came in differs from the holdout (p {p_value:.3g})"
    if covered:
        return GateResult(gate, GateVerdict.PASS, f"{differs}, and the updated holdout now covers it.", *facts)
    if not limits.here.hold_on_drift:
        return GateResult(gate, GateVerdict.PASS, f"{differs}; the settings say not to hold for it.", *facts)
    return GateResult(gate, GateVerdict.FAIL, f"{differs}, and the updated holdout has too little of it.", *facts)
