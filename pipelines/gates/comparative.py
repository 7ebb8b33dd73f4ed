"""Gates that set the challenger against the champion, against what is new, and against attacks.

A workspace's first model has no champion: what can only be compared passes with that reason, and the absolute gates
decide. "No champion" is a stated fact (an empty sha256 in the evaluation *and* in the cycle), never a missing one.
"""

from dataclasses import replace

from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Missing, Results

NO_CHAMPION = "No champion yet: the absolute gates decide."


def has_champion(inputs: Inputs) -> bool:
    """True when the evaluation compared against the very champion of the cycle. Raises Missing when the two disagree."""
    compared, base = inputs.text("evaluation.champion_sha256"), inputs.text("cycle.base_sha256")
    if compared != base:
        raise Missing(f"the evaluation compared with champion {compared[:12] or 'none'}, but the cycle's is {base[:12] or 'none'}")
    if not inputs.text("evaluation.challenger_sha256"):
        raise Missing("evaluation.challenger_sha256 is empty")
    return bool(base)


def not_worse(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Non-inferiority: the lower end of the paired interval of the AUC difference lies above -margin."""
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    seen = inputs.node("evaluation.comparison")
    n, least = min(seen.count("n_real"), seen.count("n_fake")), limits.here.min_per_class
    champion, challenger, lower = seen.number("champion_auc"), seen.number("challenger_auc"), seen.number("lower")
    limit, production = -limits.here.margin, -limits.production.margin
    story = f"AUC {challenger:.3f} against the champion's {champion:.3f}; the lower end of the paired interval is {lower:+.3f}"
    if n < least:
        verdict, reason = GateVerdict.UNDECIDED, f"Undecided: {story}, on {n} videos of the rarer class; {least - n} more are needed ({least})."
    elif lower > limit:
        verdict, reason = GateVerdict.PASS, f"{story}, above {limit:+.3f}."
    else:
        verdict, reason = GateVerdict.FAIL, f"{story}, but it must be above {limit:+.3f}."
    yield GateResult(gate, verdict, reason, lower, limit, production, n, least, "at least")


def better_on_new(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """On each generator the champion has not met: good in itself, and better than the champion.

    Where the champion, though it never met the generator, already reaches the bound, there is nothing to gain: the
    challenger must then not lose more than the margin.
    """
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    rows = inputs.rows("evaluation.new_generators")
    if not rows:
        yield GateResult(gate, GateVerdict.PASS, "Nothing new: the new rows hold no generator that the champion has not met.")
    for row in rows:
        name, n = row.text("generator"), min(row.count("n_real"), row.count("n_fake"))
        champion, challenger = row.number("champion_auc"), row.number("challenger_auc")
        what = f"AUC on the new generator {name or 'without a name'} (champion {champion:.3f})"
        result = limits.check(f"{gate}: {name}", what, challenger, "min_new_auc", n, limits.here.min_slice, "videos of the rarer class")
        kept = champion >= limits.here.min_new_auc and challenger >= champion - limits.here.margin
        if result.verdict is GateVerdict.PASS and challenger <= champion and not kept:
            reason = f"{what} is {challenger:.3f}: no better than the champion."
            result = replace(result, verdict=GateVerdict.FAIL, reason=reason)
        yield result


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
    """No slice loses more balanced accuracy against the champion than is allowed."""
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    least = limits.here.min_slice
    read = [(row.number("champion") - row.number("challenger"), row.text("slice"), row.count("n")) for row in inputs.rows("evaluation.slices")]
    judged = [entry for entry in read if entry[2] >= least]
    if not judged:
        largest = max((n for _, _, n in read), default=0)
        yield GateResult(
            gate,
            GateVerdict.UNDECIDED,
            f"Undecided: the largest slice has {largest} videos; {least - largest} more are needed ({least}).",
            n=largest,
            smallest_n=least,
        )
        return
    drop, name, n = max(judged)
    yield limits.check(gate, f"the largest loss of balanced accuracy of {len(judged)} slices ({name})", drop, "max_slice_drop", n, least)


def forgetting(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Mean loss of AUC over the generators known before."""
    if not has_champion(inputs):
        yield GateResult(gate, GateVerdict.PASS, NO_CHAMPION)
        return
    least = limits.here.min_slice
    read = [
        (row.number("champion_auc") - row.number("challenger_auc"), row.text("generator"), min(row.count("n_fake"), row.count("n_real")))
        for row in inputs.rows("evaluation.forgetting")
    ]
    judged = [entry for entry in read if entry[2] >= least]
    if not judged:
        largest = max((n for _, _, n in read), default=0)
        reason = f"Undecided: no known generator has {least} videos on the frozen holdout; the largest has {largest}, {least - largest} more are needed."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=largest, smallest_n=least)
        return
    mean, (worst, name, _) = sum(drop for drop, _, _ in judged) / len(judged), max(judged)
    what = f"mean loss of AUC over {len(judged)} known generators (most on {name}: {worst:+.3f})"
    yield limits.check(gate, what, mean, "max_forgetting", min(n for _, _, n in judged), least, "videos of the rarest")


def drift(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """What comes in looks like what the holdout covers, or the updated holdout now covers it."""
    seen, judged = inputs.node("drift"), inputs.items("cycle.judged")
    status, reference, new = seen.text("status"), seen.count("n_ref"), seen.count("n_new")
    if status == "no reference":
        if has_champion(inputs):
            raise Missing("there is a champion, but drift had no reference to compare with")
        yield GateResult(gate, GateVerdict.PASS, "No reference yet: these are the first media.", n=new, smallest_n=0)
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
    if status == "too few" or min(reference, new) < least:
        short = max(0, least - min(reference, new))
        reason = f"Undecided: {reference} known and {new} incoming videos; {short} more are needed ({least} on each side)."
        yield GateResult(gate, GateVerdict.UNDECIDED, reason, n=min(reference, new), smallest_n=least)
        return
    if status != "tested":
        raise Missing(f"drift.status {status!r} is not known")
    p_value, alpha, drifted, covered = seen.number("p_value"), seen.number("alpha"), seen.flag("drifted"), seen.flag("covered")
    drifted = drifted or p_value < alpha
    facts = (p_value, alpha, alpha, min(reference, new), least, "at least")
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
    n, least = seen.count("n"), limits.here.min_slice
    drop = seen.number("clean") - seen.number("transfer")
    yield limits.check(f"{gate}: transfer", "balanced accuracy lost to transferred PGD at 0.05", drop, "max_transfer_drop", n, least, "clips")
    yield limits.check(f"{gate}: white-box", "balanced accuracy under white-box PGD at 2/255", seen.number("whitebox"), "min_whitebox", n, least, "clips")
    curve = seen.number("challenger_curve")
    if champion_exists:
        loss = seen.number("champion_curve") - curve
        yield limits.check(f"{gate}: curve", "loss of mean robust accuracy against the champion", loss, "max_curve_drop", n, least, "clips")
    else:
        yield GateResult(f"{gate}: curve", GateVerdict.PASS, NO_CHAMPION)
