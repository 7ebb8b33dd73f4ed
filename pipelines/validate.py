"""May this batch come in? Great Expectations decides, on the batch's table of samples: manifest and found faces in one.

A batch that fails is held by the flow; this stage does not raise for it. One label or one generator in a batch is normal: balance
is judged on the assembled set. Nothing here counts or compares: whether an expectation holds is what Great Expectations says.
"""

import logging
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from media.names import MEDIA_SUFFIXES
from media.photos import REASONS
from pipelines.layouts.found import EMPTY, NOT_MEDIA
from pipelines.stage import stage_main
from workspace.errors import DataError
from workspace.files import read_json, write_json
from workspace.manifest import DOMAINS, MANIFEST_COLUMNS, read_manifest
from workspace.quiet import set_quiet_environment
from workspace.settings import Settings, ValidateSettings

if TYPE_CHECKING:
    import pandas as pd

MOST_NAMED = 20
LARGE_ENOUGH = 0.9  # least part of the files looked at whose pictures are; a few thumbnails hold no batch
# What nobody opened says nothing about the media of a batch: files at no place of their data set, in no table of it, gone, too big, or with two labels.
OPENED = frozenset(REASONS) - {"file not found", "a folder", "not a regular file"}
ODD_NAMES = (NOT_MEDIA, EMPTY)  # somebody's notes between the files are no sign of corrupt videos: these count where the name says that it is one
FOUND = ("decoded", "face_found")  # what the stage `faces` saw, and says the reason of where it is not so
NOT_READ = "unreadable ("  # with the kind of the error


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation: its name in the report, the limit in words, on which rows of the table it is asked, and the setting under `validate` that limits it."""

    name: str
    limit: Any
    rows: str  # all | media | usable | looked_at
    expectation: Any
    setting: str = ""


def run(root: Path, settings: Settings, batch: str) -> dict[str, Any]:
    """Write reports/validate/<batch>.json and return it: success, n, and each expectation with what was observed. Safe to repeat.

    Raises DataError when the batch's manifest or faces are missing.
    """
    manifest = read_manifest(root / "data" / "raw" / batch)
    path = root / "data" / "faces" / batch / "report.json"
    try:
        samples = read_json(path)["samples"]
    except (OSError, ValueError, KeyError) as problem:
        raise DataError(f"The faces of batch {batch} are missing.", why=str(problem), next_step="Run `vigil retrain` again.") from problem
    report = {"batch": batch} | judge(manifest, samples, settings.validate_)
    write_json(root / "reports" / "validate" / f"{batch}.json", report)
    return report


def judge(manifest: "pd.DataFrame", samples: list[dict[str, Any]], limits: ValidateSettings) -> dict[str, Any]:
    """What Great Expectations says of a batch: {success, n, expectations: [{name, success, observed, limit, failing, failing_count, reasons}]}.

    `manifest` is the batch's manifest, `samples` the entries of its faces report.
    """
    set_quiet_environment()
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        table = build_table(manifest, samples)
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False}
        source = context.data_sources.add_pandas("batch")
        results = []
        for rows, part in parts_of(table).items():
            checks = [check for check in checks_of(limits) if check.rows == rows]
            suite = context.suites.add(gx.ExpectationSuite(name=rows, expectations=[check.expectation for check in checks]))
            definition = source.add_dataframe_asset(rows).add_batch_definition_whole_dataframe(rows)
            validation = context.validation_definitions.add(gx.ValidationDefinition(name=rows, data=definition, suite=suite))
            answer = validation.run(
                batch_parameters={"dataframe": part}, result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["sample_id"]}
            )
            results += [_result(check, one.to_json_dict(), part) for check, one in _paired(checks, answer.results)]
    return {"success": bool(results) and all(result["success"] for result in results), "n": len(manifest), "expectations": results}


def build_table(manifest: "pd.DataFrame", samples: list[dict[str, Any]]) -> "pd.DataFrame":
    """The manifest's rows with what `faces` found of each, and the columns that rules about two columns need."""
    import pandas as pd

    found = pd.DataFrame(samples, columns=["sample_id", "decoded", "clips", "width", "height", "reason"]).drop_duplicates("sample_id")
    table = manifest.merge(found, on="sample_id", how="left", validate="many_to_one")
    table["decoded"] = table["decoded"].fillna(False).astype(bool)
    table["face_found"] = table["clips"].fillna(0) > 0
    table["original"] = table["duplicate_of"] == ""
    table["short_side_px"] = table[["width", "height"]].min(axis=1).fillna(0)
    table["swapped_with"] = table["donor"].where((table["donor"] != table["identity"]) | (table["donor"] == ""), "the same person")
    table["said_of_real"] = (table["generator"] + table["donor"]).where(table["label"] == "real", "")
    return table


def parts_of(table: "pd.DataFrame") -> "dict[str, pd.DataFrame]":
    """The rows that the expectations are asked of: all; all media that were opened; those not in quarantine; those searched for faces."""
    reason, usable, used = table["quarantine"], table["quarantine"] == "", table["use"] != "never"
    broken = (reason.isin(OPENED) | reason.str.startswith(NOT_READ)) & (~reason.isin(ODD_NAMES) | table["path"].str.lower().str.endswith(MEDIA_SUFFIXES))
    return {"all": table, "media": table[(usable & used) | broken], "usable": table[usable], "looked_at": table[usable & used & table["decoded"]]}


def checks_of(limits: ValidateSettings) -> list[Check]:
    """Every expectation that a batch has to meet."""
    import great_expectations.expectations as gxe

    def values(column: str, allowed: list[Any], mostly: float = 1.0) -> Any:
        return gxe.ExpectColumnValuesToBeInSet(column=column, value_set=allowed, mostly=mostly)

    originals = round(1 - limits.max_duplicates, 9)  # 1 - 0.7 is 0.30000000000000004, which three of ten do not reach
    return [
        Check("columns of the manifest", len(MANIFEST_COLUMNS), "all", gxe.ExpectTableColumnsToMatchSet(column_set=list(MANIFEST_COLUMNS), exact_match=False)),
        *[Check(f"{name} is a known word", list(DOMAINS[name]), "all", values(name, list(DOMAINS[name]))) for name in ("label", "use", "kind")],
        Check("sample id is a sha256", "64 hex digits", "all", gxe.ExpectColumnValuesToMatchRegex(column="sample_id", regex="^[0-9a-f]{64}$")),
        Check("sample id is unique", "once", "all", gxe.ExpectColumnValuesToBeUnique(column="sample_id")),
        Check("media decode", limits.min_decodable, "media", values("decoded", [True], limits.min_decodable), "min_decodable"),
        Check("enough samples", limits.min_samples, "usable", gxe.ExpectTableRowCountToBeBetween(min_value=limits.min_samples), "min_samples"),
        Check("not seen before", originals, "usable", values("original", [True], originals), "max_duplicates"),
        Check(
            "nobody swapped with themselves", "donor is another person", "usable",
            gxe.ExpectColumnValuesToNotBeInSet(column="swapped_with", value_set=["the same person"]),
        ),
        Check("a real has no generator and no donor", "empty", "usable", values("said_of_real", [""])),
        Check(
            "a face is found in enough frames for a clip", limits.min_face_found, "looked_at",
            values("face_found", [True], limits.min_face_found), "min_face_found",
        ),
        Check(
            "pictures are large enough", f"{limits.min_size_px} px in {LARGE_ENOUGH} of the files", "looked_at",
            gxe.ExpectColumnValuesToBeBetween(column="short_side_px", min_value=limits.min_size_px, mostly=LARGE_ENOUGH), "min_size_px",
        ),
    ]  # fmt: skip


def _paired(checks: list[Check], results: list[Any]) -> list[tuple[Check, Any]]:
    """Great Expectations answers in an order of its own: match by type and column. An expectation without an answer is an error."""
    answers = {(one.expectation_config.type, one.expectation_config.kwargs.get("column")): one for one in results}
    return [(check, answers[check.expectation.expectation_type, getattr(check.expectation, "column", None)]) for check in checks]


def _result(check: Check, answer: dict[str, Any], part: "pd.DataFrame") -> dict[str, Any]:
    """One line of the report. `observed` is the part of the rows that agree, or the table's own figure; no rows at all agree with anything.

    `reasons`: what `faces` says of the rows that do not, where it is its word that is asked for.
    """
    result = answer["result"]
    observed = result.get("observed_value")
    if "unexpected_percent" in result:
        missing = result["unexpected_percent"]
        observed = None if missing is None else round(1 - missing / 100, 6)
    failing = [row["sample_id"] for row in result.get("unexpected_index_list") or []]
    told = part.loc[part["sample_id"].isin(failing), "reason"] if getattr(check.expectation, "column", None) in FOUND else ()
    reasons = Counter(reason for reason in told if isinstance(reason, str) and reason)
    problem = (answer.get("exception_info") or {}).get("exception_message", "")
    return {
        "name": check.name, "success": bool(answer["success"]), "observed": len(observed) if isinstance(observed, list) else observed, "limit": check.limit,
        "failing": failing[:MOST_NAMED], "failing_count": len(failing),
        **({"setting": check.setting} if check.setting else {}), **({"reasons": dict(reasons)} if reasons else {}), **({"problem": problem} if problem else {}),
    }  # fmt: skip


if __name__ == "__main__":
    stage_main("validate", run)
