"""The gate on attacks: what transferred ones cost, what stands white-box ones, and the curve beside the champion's."""

from dataclasses import replace

from pipelines.gates.champion import NO_CHAMPION, has_champion
from pipelines.gates.difference import Difference, more_would_tell, whose
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Results, nobody

ROBUSTNESS_TESTS = 3  # share the level of their gate
NO_GRADIENTS = "The champion is an imported ONNX file, which cannot be attacked white-box: nothing to compare with."


def robustness(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Transferred attacks cost little, white-box attacks leave something standing, and the curve is not below the champion's."""
    champion_exists, seen = has_champion(inputs), inputs.node("evaluation.robustness")
    if not (n := seen.count("n")):
        yield nobody(gate, "clips of both classes", limits.here.min_slice)
        return
    yield _bound_stands(f"{gate}: transfer", "balanced accuracy lost to transferred PGD at 0.05", seen.node("transfer"), "max_transfer_drop", n, limits)
    yield _bound_stands(f"{gate}: white-box", "balanced accuracy under white-box attack at 2/255", seen.node("whitebox"), "min_whitebox", n, limits)
    if not champion_exists:
        yield GateResult(f"{gate}: curve", GateVerdict.PASS, NO_CHAMPION)
    elif isinstance(seen.value, dict) and seen.value.get("champion_has_no_gradients") is True:
        yield GateResult(f"{gate}: curve", GateVerdict.PASS, NO_GRADIENTS)
    else:
        yield _bound_stands(f"{gate}: curve", "loss of mean robust accuracy against the champion", seen.node("curve"), "max_curve_drop", n, limits)


def _bound_stands(gate: str, what: str, seen: Inputs, setting: str, n: int, limits: Limits) -> GateResult:
    """Hold a gain with its standard error against a bound. What lies beyond it, but not beyond noise, is undecided: held, and more clips (of
    few people, those of others) would tell.
    """
    from model.paired import needed

    gain, least, alpha = Difference.read(seen), limits.here.min_slice, limits.here.hold_alpha / ROBUSTNESS_TESTS
    sign = 1.0 if setting.startswith("min_") else -1.0  # a loss is a negative gain
    measured, (bound, _) = sign * gain.value, limits.bound(setting)
    result = limits.check(gate, what, measured, setting, n, least, "clips")
    if n < least:
        return result
    reason = f"{result.reason[:-1]} (standard error {gain.se:.2g})"
    if result.verdict is GateVerdict.PASS:
        return replace(result, reason=f"{reason}.")
    loss = -gain
    p_value = loss.p_above(-sign * bound)
    if p_value < alpha:
        return replace(result, reason=f"{reason}: beyond noise{loss.how(loss.telling(-sign * bound))} (p {p_value:.2g} of {alpha:.2g}).")
    clips = needed(n, gain.se, abs(measured - bound), alpha, power=0.8)
    counted = f"a loss like this is told from noise with about {clips} clips"
    more = counted if more_would_tell(clips, n, gain.df) else f"the {n} clips are of {whose(gain.df)}, and clips of others would tell"
    told = f"Undecided: {reason}, which may be noise (p {p_value:.2g} of {alpha:.2g}); {more}."
    return replace(result, verdict=GateVerdict.UNDECIDED, reason=told, smallest_n=max(clips, n + 1))
