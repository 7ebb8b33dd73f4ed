"""Gates that look at the challenger alone: its data, its accuracy, its scores, and the file that would be served."""

from dataclasses import replace

from pipelines.gates.result import GateResult, GateVerdict, Inputs, Limits, Missing, Results, nobody

GOLDEN_CLIPS = 2  # fewest golden clips: one real, one fake
LATENCY_RUNS = 3  # fewest timed runs; the median is judged


def data(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Every batch under judgement met its data expectations (Great Expectations)."""
    judged = {str(item.value) for item in inputs.items("cycle.judged")}
    reports = inputs.items("validate")
    found = [report.text("batch") for report in reports]
    if set(found) != judged or len(found) != len(judged):
        raise Missing(f"the validation report of {', '.join(sorted(judged.symmetric_difference(found))) or 'a batch'} is missing or not of this cycle")
    bad = [f"{report.text('batch')} ({_failed(report)})" for report in reports if not _met(report)]
    if bad:
        yield GateResult(gate, GateVerdict.FAIL, f"Data expectations failed: {'; '.join(bad)}.", n=len(judged), smallest_n=0)
    elif judged:
        met = "The batch under judgement met its" if len(judged) == 1 else f"All {len(judged)} batches under judgement met their"
        yield GateResult(gate, GateVerdict.PASS, f"{met} data expectations.", n=len(judged), smallest_n=0)
    else:
        yield GateResult(gate, GateVerdict.PASS, "No batch is under judgement.", n=0, smallest_n=0)


def _met(report: Inputs) -> bool:
    """Success as stated, and no single expectation that says otherwise. Every value is read, so a hole is found even when another check fails."""
    stated, checks = report.flag("success"), [(check.text("name"), check.flag("success")) for check in report.rows("checks")]
    if not checks:
        raise Missing(f"the validation report of {report.text('batch')} holds no expectation")
    return stated and all(success for _, success in checks)


def _failed(report: Inputs) -> str:
    return ", ".join(check.text("name") for check in report.rows("checks") if not check.flag("success")) or "no single check named"


def leak_free(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Nobody, no source video, no clip and no picture stands on both sides of the split, and every row is where its `use` lets it be."""
    if not (rows := inputs.count("sets.train_rows")):
        raise Missing("sets.train_rows is zero: there was nothing to look at")
    found: dict[str, list[str]] = {}
    for leak in inputs.rows("sets.leaks"):
        found.setdefault(leak.text("kind"), []).append(leak.text("key"))
    total = sum(map(len, found.values()))
    if found:
        named = ", ".join(f"{len(keys)} {kind} (such as {sorted(keys)[0][:40]})" for kind, keys in sorted(found.items()))
        reason, verdict = f"On both sides of the split, or where its use forbids it: {named}.", GateVerdict.FAIL
    else:
        reason, verdict = "Nobody and nothing stands on both sides of the split.", GateVerdict.PASS
    yield GateResult(gate, verdict, reason, float(total), 0.0, 0.0, rows, 1, "at most")


def accuracy(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Floors of the challenger on the judged holdout, each measure a result of its own."""
    seen = inputs.node("evaluation.accuracy")
    real, fake, on = seen.count("n_real"), seen.count("n_fake"), inputs.text("evaluation.judged_on")
    both, least = min(real, fake), limits.here.min_per_class
    half = "{}, were half of the files fake,"  # as the holdout is mixed, the page's own figures say
    rows = [
        ("balanced accuracy", "balanced_accuracy", "min_balanced_accuracy", both, "videos of the rarer class"),
        ("precision", "precision", "min_precision", both, "videos of the rarer class"),
        ("recall", "recall", "min_recall", fake, "fake videos"),
        ("F1", "f1", "min_f1", both, "videos of the rarer class"),
        ("AUC", "auc", "min_auc", both, "videos of the rarer class"),
        ("false-positive rate", "fpr", "max_fpr", real, "real videos"),
        ("ECE beyond chance", "ece_beyond_chance", "max_ece", both, "videos of the rarer class"),
    ]
    if not on:
        raise Missing("evaluation.judged_on is empty")
    if not both:
        lacking = " or ".join(label for label, n in (("real", real), ("fake", fake)) if not n)
        yield nobody(gate, f"{lacking} videos", least)
        return
    for what, key, setting, n, units in rows:
        yield limits.check(f"{gate}: {what}", half.format(what) if key in ("precision", "f1") else what, seen.number(key), setting, n, least, units)


def generalisation_gap(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The challenger is not much better on what it trained on than on the holdout."""
    seen, least = inputs.node("evaluation.generalisation"), limits.here.min_slice
    if not (n := seen.count("n")):
        yield nobody(gate, "videos of the rarer class", least)
        return
    gap = seen.number("train_auc") - seen.number("holdout_auc")
    yield limits.check(gate, "train AUC less holdout AUC", gap, "max_generalisation_gap", n, least, "videos of the rarer class")


def score_collapse(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """Scores spread, and both verdicts are given."""
    seen = inputs.node("evaluation.collapse")
    n, real, fake, least = seen.count("n"), seen.count("called_real"), seen.count("called_fake"), limits.here.min_slice
    if not n:
        yield nobody(gate, "videos", least)
        return
    result = limits.check(gate, "standard deviation of p_fake", seen.number("spread"), "min_score_spread", n, least)
    if result.verdict is GateVerdict.PASS and not (real and fake):
        only = "real" if real else "fake"
        reason = f"Every one of {n} videos is called {only}." if real or fake else "No video was called real or fake."
        result = replace(result, verdict=GateVerdict.FAIL, reason=reason)
    yield result


def latency(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The clips of a 10 s video are scored in time on this machine; decoding it and finding the faces are not in it."""
    seen = inputs.node("evaluation.latency")
    yield limits.check(gate, "seconds for a 10 s clip", seen.number("seconds"), "max_latency_seconds", seen.count("runs"), LATENCY_RUNS, "timed runs")


def size(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The exported file is small enough to serve."""
    nbytes = inputs.count("evaluation.size_bytes")
    if not nbytes:
        raise Missing("evaluation.size_bytes is zero: nothing was exported")
    yield limits.check(gate, "bytes of the exported model", float(nbytes), "max_model_bytes", 1, 1, "file")


def artifact_parity(gate: str, inputs: Inputs, limits: Limits) -> Results:
    """The exported file scores golden clips as the checkpoint does."""
    seen = inputs.node("evaluation.parity")
    if not (n := seen.count("clips")):
        yield nobody(gate, "golden clips", GOLDEN_CLIPS)
        return
    yield limits.check(
        gate, "largest difference of p_fake between export and checkpoint", seen.number("max_difference"), "max_parity", n, GOLDEN_CLIPS, "clips"
    )
