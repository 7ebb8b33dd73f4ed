"""Whom the challenger is set against.

A workspace's first model has no champion: what can only be compared passes with that reason, and the absolute gates
decide. "No champion" is a stated fact (an empty sha256 in the evaluation *and* in the cycle), never a missing one.
"""

from pipelines.gates.result import Inputs, Missing

NO_CHAMPION = "No champion yet: the absolute gates decide."


def has_champion(inputs: Inputs) -> bool:
    """True when the evaluation compared against the very champion of the cycle. Raises Missing when the two disagree."""
    compared, base = inputs.text("evaluation.champion_sha256"), inputs.text("cycle.base_sha256")
    if compared != base:
        raise Missing(f"the evaluation compared with champion {compared[:12] or 'none'}, but the cycle's is {base[:12] or 'none'}")
    if not inputs.text("evaluation.challenger_sha256"):
        raise Missing("evaluation.challenger_sha256 is empty")
    return bool(base)
