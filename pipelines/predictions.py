"""The predictions table: one row a video, with what it is, where it stands, and what champion and challenger say of it.

Every figure and every gate input of a cycle can be recomputed from this table, the two cards, the settings and the cycle, but
for what docs/evaluation.md names.
Columns: unit, cluster, label, generator, origin, source, kind, compression, attributes, the measures of BANDS and the bands made of them,
fold (holdout | validation | train), new, p_champion and p_anchor (NaN without one), p_challenger.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.scoring import Tell, read_set, score_rows, silent, unit_scores, unit_table
from workspace.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

KEPT = (
    "unit", "cluster", "label", "generator", "origin", "source", "kind", "compression", "attributes", "new", "face_px", "yaw_degrees", "brightness",
    "source_px", "skin_tone_degrees",
)  # fmt: skip
SCORES = ("p_champion", "p_anchor", "p_challenger")
UNKNOWN = "unknown"  # what '' is called: fakes whose generator nobody named, a pose that nobody could tell
# column -> name of the band column, edges (Buolamwini & Gebru 2018 call for such slices; edges are ours), names
BANDS: dict[str, tuple[str, tuple[float, float], tuple[str, str, str]]] = {
    "face_px": ("face_size", (80.0, 160.0), ("small", "medium", "large")),
    "yaw_degrees": ("pose", (15.0, 30.0), ("frontal", "turned", "profile")),
    "brightness": ("lighting", (0.3, 0.6), ("dark", "medium", "bright")),
    "source_px": ("resolution", (480.0, 1080.0), ("below 480", "480 to 1079", "1080 and more")),
    "skin_tone_degrees": ("skin_tone", (10.0, 41.0), ("dark", "medium", "light")),  # edges of Chardon et al. 1991: brown below 10, light from 41
}


def draw_panel(clips: "pd.DataFrame", per_slice: int, key: str, by: Sequence[str] = ("label", "generator", "new")) -> "pd.DataFrame":
    """All clips of at most `per_slice` videos of each slice, which the columns `by` tell apart: a frozen draw by keyed hash.

    Which videos are drawn depends on the key and their names alone, so the panel does not move when history grows.
    """
    units = clips.drop_duplicates("unit")[["unit", *by]]
    order = [hashlib.sha256(f"{key}:{unit}".encode()).hexdigest() for unit in units["unit"]]
    kept = units.assign(order=order).sort_values("order").groupby(list(by)).head(per_slice)["unit"]
    return clips[clips["unit"].isin(set(kept))]


def predict(root: Path, settings: Settings, champion: bool, anchor: bool = False, tell: Tell = silent) -> "pd.DataFrame":
    """Score holdout, validation and a sample of the train set with the challenger and, where there is one, the champion; the holdout with the anchor."""
    import pandas as pd

    parts = []
    for fold in ("holdout", "validation", "train"):
        clips = read_set(root, fold)
        clips = clips[clips["label"].isin(["real", "fake"]) & clips["origin"].isin(["collected", "forged"])].copy()
        clips["new"] = clips["new"].astype(bool)
        if "unit" not in clips or (clips["unit"] == "").any():
            clips["unit"] = clips.get("unit", pd.Series("", index=clips.index)).where(lambda unit: unit != "", clips["sample_id"])
        if clips.empty:
            continue
        panel = draw_panel(clips, settings.budget.evaluation_clips_per_slice, settings.split.key) if fold == "train" else clips
        units = units_of(panel).set_index("unit", drop=False)
        units["fold"] = fold
        units["p_challenger"] = _scores(root, "build/model", panel, settings, tell)
        units["p_champion"] = _scores(root, "build/base", panel, settings, tell) if champion and fold != "train" else np.nan
        units["p_anchor"] = _scores(root, "build/base/anchor", panel, settings, tell) if anchor and fold == "holdout" else np.nan
        parts.append(units[[*KEPT, "fold", *SCORES]])
    table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*KEPT, "fold", *SCORES])
    return add_bands(table)


def units_of(clips: "pd.DataFrame") -> "pd.DataFrame":
    """`unit_table`, but `yaw_degrees` is how far a face is turned, to whichever side: who looks left and then right is not frontal in the mean."""
    return unit_table(clips.assign(yaw_degrees=clips["yaw_degrees"].abs()))


def _scores(root: Path, folder: str, panel: "pd.DataFrame", settings: Settings, tell: Tell) -> "pd.Series[float]":
    from model.card import load_card

    scored = score_rows(root, root / folder, panel, threads=settings.serve.threads, tell=tell)
    return unit_scores(scored, load_card(root / folder))


def add_bands(table: "pd.DataFrame") -> "pd.DataFrame":
    """The table with the columns of BANDS; '' where the measure is unknown."""
    for column, (name, edges, names) in BANDS.items():
        values = table[column].to_numpy(dtype=np.float64)
        table[name] = np.where(np.isfinite(values), np.array(names)[np.digitize(np.nan_to_num(values), edges)], "")
    return table


def balanced_accuracy(rows: "pd.DataFrame", everything: "pd.DataFrame", column: str, threshold: float) -> float | None:
    """Mean of recall on the fakes and of specificity on the reals of `rows`; a class that `rows` lacks is taken from `everything`."""
    parts = []
    for label in ("real", "fake"):
        mine = rows[rows["label"] == label]
        mine = mine if len(mine) else everything[everything["label"] == label]
        if mine.empty:
            return None
        said_fake = mine[column] >= threshold
        parts.append(float(said_fake.mean() if label == "fake" else 1 - said_fake.mean()))
    return sum(parts) / 2


def slices(table: "pd.DataFrame", least: int) -> dict[str, "pd.DataFrame"]:
    """The rows of every slice by name, `generator=swap`; values of one column with fewer than `least` rows are pooled as `others`.

    Each word of the column `attributes` that `least` rows have is a slice too, `attribute=Male`.
    """
    found: dict[str, pd.DataFrame] = {"all videos": table}
    for column in ("generator", "compression", "source", "origin", "kind", *(name for name, _, _ in BANDS.values())):
        rows = table[table["label"] == "fake"] if column == "generator" else table
        if column != "generator" and rows[column].nunique() < 2:
            continue
        found |= {f"{column}={value}": part for value, part in _groups(rows, column, least).items()}
    marks = [set(text.split()) for text in table["attributes"]] if "attributes" in table else []
    for word in sorted(set().union(*marks)):
        part = table[[word in mark for mark in marks]]
        if len(part) >= least:
            found[f"attribute={word}"] = part
    return found


def gaps(cut: "Sequence[Mapping[str, Any]]", model: str, least: int) -> dict[str, dict[str, Any]]:
    """Between the best and the worst slice of each kind: `gap`, `best`, `worst`, and of how many videos these are.

    `cut`: rows {"slice": "pose=turned", n_real, n_fake, people, model: balanced accuracy}. Left out are slices of fewer than `least` people, which are good
    or bad by chance, and `unknown`, which is none.
    """
    kinds: dict[str, list[tuple[float, str, int]]] = {}
    for row in cut:
        kind, equals, value = str(row["slice"]).partition("=")
        if equals and value != UNKNOWN and row["people"] >= least and row.get(model) is not None:
            kinds.setdefault(kind, []).append((float(row[model]), value, row["n_real"] + row["n_fake"]))
    ends = {kind: (max(found), min(found)) for kind, found in kinds.items() if len(found) > 1}
    return {
        kind: {"gap": best[0] - worst[0], "best": best[1], "best_n": best[2], "worst": worst[1], "worst_n": worst[2]} for kind, (best, worst) in ends.items()
    }


def rows_by_generator(table: "pd.DataFrame", least: int = 0) -> dict[str, "pd.DataFrame"]:
    """For each generator its fakes beside all reals of the table; those with fewer than `least` fakes are pooled as `others`."""
    import pandas as pd

    reals, fakes = table[table["label"] == "real"], table[table["label"] == "fake"]
    return {name: pd.concat([reals, part]) for name, part in _groups(fakes, "generator", least).items()}


def _groups(rows: "pd.DataFrame", column: str, least: int) -> dict[str, "pd.DataFrame"]:
    """The rows by the value of a column, '' as UNKNOWN; several values with fewer than `least` rows are one, `others`."""
    named = rows[column].astype(str).replace("", UNKNOWN)
    groups = {str(value): part for value, part in rows.groupby(named)}
    small = [value for value, part in groups.items() if len(part) < least]
    if len(small) < 2:
        return groups
    pooled = {*small, "others"}
    return {value: part for value, part in groups.items() if value not in pooled} | {"others": rows[named.isin(pooled)]}


def class_counts(rows: "pd.DataFrame") -> dict[str, Any]:
    """`{n_real, n_fake}` of the rows."""
    return {"n_real": int((rows["label"] == "real").sum()), "n_fake": int((rows["label"] == "fake").sum())}
