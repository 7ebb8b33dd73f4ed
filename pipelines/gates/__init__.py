"""The gates: pure functions from measurements to one verdict. To add a gate, write a function beside the others and add it to `GATES`."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.gates import absolute, attacks, incoming, lost, non_inferiority, on_new
from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Missing, Verdict, decide
from workspace.settings import GateSettings

__all__ = ["BEFORE_TRAINING", "GATES", "GateResult", "GateVerdict", "Verdict", "decide", "judge", "judge_data"]

# Name shown to people -> the function that judges. A function yields one or several results and may raise Missing.
GATES = {
    "data": absolute.data,
    "leak-free": absolute.leak_free,
    "label noise": incoming.label_noise,
    "accuracy": absolute.accuracy,
    "not worse than the champion": non_inferiority.not_worse,
    "better on what is new": on_new.better_on_new,
    "new rows": on_new.new_rows,
    "worst slice": lost.worst_slice,
    "drift": incoming.drift,
    "robustness": attacks.robustness,
    "forgetting": lost.forgetting,
    "generalisation gap": absolute.generalisation_gap,
    "score collapse": absolute.score_collapse,
    "latency": absolute.latency,
    "size": absolute.size,
    "artifact parity": absolute.artifact_parity,
}


# What can be judged before anything is trained: no model could mend it.
BEFORE_TRAINING = ("data", "leak-free", "label noise")


def judge_data(
    drift: Mapping[str, Any],
    validate: Sequence[Mapping[str, Any]],
    sets: Mapping[str, Any],
    settings: GateSettings,
    *,
    judged: Sequence[str],
    base_sha256: str,
    anchor_sha256: str,
    unknown: bool,
) -> list[GateResult]:
    """What the gates of BEFORE_TRAINING say; arguments as of `judge`."""
    nobody_yet = {"gate_inputs": {"champion_sha256": base_sha256, "challenger_sha256": "not trained"}}
    verdict = judge(nobody_yet, drift, validate, sets, settings, judged=judged, base_sha256=base_sha256, anchor_sha256=anchor_sha256, unknown=unknown)
    return [result for result in verdict.results if result.gate in BEFORE_TRAINING]


def judge(
    evaluation: Mapping[str, Any] | None,
    drift: Mapping[str, Any] | None,
    validate: Sequence[Mapping[str, Any]] | None,
    sets: Mapping[str, Any] | None,
    settings: GateSettings,
    *,
    judged: Sequence[str] | None,
    base_sha256: str | None,
    anchor_sha256: str | None,
    unknown: bool = False,
) -> Verdict:
    """Weigh every measurement against its bound. Pure: the same inputs give the same verdict.

    `evaluation` and `drift` are the stages' reports; only their `gate_inputs` count. `validate` holds one
    `{batch, success, checks}` a batch, `sets` `{train_rows, leaks: {count, rows: [{kind, key}]}}`, `judged` the batches of the cycle, `base_sha256`
    the champion the cycle was opened against ('' when there is none), `anchor_sha256` an earlier one (likewise).
    `unknown`: that champion was imported, and nothing here was known before this
    cycle, so there is no reference for drift or labels. An input that is missing, None or NaN makes its
    gate undecided; only `pass` may promote.
    """
    inputs = Inputs(
        {
            "evaluation": evaluation.get("gate_inputs") if isinstance(evaluation, Mapping) else None,
            "drift": drift.get("gate_inputs") if isinstance(drift, Mapping) else None,
            "validate": validate,
            "sets": sets,
            "cycle": {"judged": judged, "base_sha256": base_sha256, "anchor_sha256": anchor_sha256, "unknown": unknown},
        }
    )
    limits = Limits(settings, GateSettings.model_validate({}))
    results: list[GateResult] = []
    for name, gate in GATES.items():
        try:
            found = list(gate(name, inputs, limits))
        except Missing as missing:
            found = [GateResult(name, GateVerdict.UNDECIDED, f"Undecided: {missing}.")]
        results += found or [GateResult(name, GateVerdict.UNDECIDED, "Undecided: the gate gave no result.")]
    return Verdict(decide(results), tuple(results))
