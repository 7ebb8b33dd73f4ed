"""Draws docs/half-year.png from benchmarks/longitudinal.jsonl: the model that is never renewed beside the weekly loop.

python docs/draw_half_year.py
"""

import sys
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.longitudinal import ARRIVALS, counted

HERE = Path(__file__).resolve().parent
INK, RED, GREEN = "#1d2733", "#c0392b", "#2e8b57"
MODELS = {"frozen": ("first champion, frozen", RED), "loop": ("weekly loop", GREEN)}


def main() -> None:
    """Both figures by week, each world thin and their mean thick."""
    rows = sorted((row for row in counted() if "loop" in row), key=lambda row: (row["seed"], row["week"]))
    if not rows:
        sys.exit("No world that counts has been lived yet; the picture stays. Next: python benchmarks/longitudinal.py")
    seeds = sorted({row["seed"] for row in rows})
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained", sharex=True)
    for place, (figure_name, shown) in zip(axes, {"auc": "AUC", "accuracy": "accuracy"}.items(), strict=True):
        for model, (label, colour) in MODELS.items():
            for seed in seeds:
                mine = [row for row in rows if row["seed"] == seed]
                place.plot([row["week"] for row in mine], [row[model][figure_name] for row in mine], color=colour, lw=0.7, alpha=0.4)
            weeks = [week for week in sorted({row["week"] for row in rows}) if sum(row["week"] == week for row in rows) == len(seeds)]  # lived by all
            place.plot(weeks, [mean(row[model][figure_name] for row in rows if row["week"] == week) for week in weeks], color=colour, lw=2.2, label=label)
        for start, name in ARRIVALS.items():
            place.axvline(start, color=INK, lw=0.8, ls=":")
            place.text(start + 0.15, 0.21, name.replace("_", "\n"), fontsize=7, color=INK, va="bottom")
        place.axhline(0.5, color=INK, lw=0.6, alpha=0.4)
        place.set(ylim=(0.2, 1.02), xlim=(1, 26.5), xlabel="week", ylabel=f"{shown}, clips of that week")
        place.spines[["top", "right"]].set_visible(False)
    axes[0].legend(loc="lower left", bbox_to_anchor=(0.0, 0.12), frameon=False, fontsize=8)
    figure.savefig(HERE / "half-year.png", dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
