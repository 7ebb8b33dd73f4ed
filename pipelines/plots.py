"""The pictures of a cycle, as PNG files that do not depend on the clock. matplotlib without a display.

Two colours and no more: blue is the challenger (or the only model), grey the champion. Each axis says its unit.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CHALLENGER, CHAMPION, GRID = "#1f6feb", "#8b949e", "#d0d7de"
COLOURS = {"challenger": CHALLENGER, "champion": CHAMPION}
CURVES = (
    ("loss", "training (what is minimised)", CHAMPION, "-"),
    ("val_loss", "validation (cross-entropy)", CHALLENGER, ":"),
    ("val_refinement", "the same, calibrated", CHALLENGER, "-"),
)
SIZE = (5.0, 3.8)  # inches at 110 dpi: readable on a phone, small in the page
LONGEST_NAME = 24  # letters of a label


def _save(folder: Path, name: str, title: str, draw: Any, size: tuple[float, float] = SIZE) -> str:
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    with rc_context({"text.parse_math": False}):  # a generator may be called `a$$b`: no formula
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.set_title(title, fontsize=11, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        figure.savefig(folder / f"{name}.png", dpi=110, metadata={"Software": None})
    return f"{name}.png"


def _short(name: str) -> str:
    """A name from outside as an axis has room for it: a long one cuts off all others."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}…{name[-8:]}"


def draw_all(
    folder: Path,
    rows: "pd.DataFrame",
    thresholds: Mapping[str, float],
    histories: Mapping[str, Sequence[Mapping[str, Any]]],
    robust: Mapping[str, Any],
    matrix: Mapping[str, Any],
) -> list[str]:
    """Write every picture that the measurements allow into `folder`; returns the file names.

    `rows` is the judged part of the predictions; `thresholds` per model; `histories` per phase; `matrix` generator -> model -> AUC.
    """
    drawn = [learning_curves(folder, phase, history) for phase, history in histories.items() if history]
    models = {name: (f"p_{name}", threshold) for name, threshold in thresholds.items()}
    if rows["label"].nunique() == 2:
        drawn += [roc(folder, rows, models), precision_recall(folder, rows, models), reliability_diagram(folder, rows, models)]
        drawn.append(risk_coverage_curve(folder, rows, models))
        drawn.append(confusion_matrix(folder, rows, thresholds["challenger"]))
    curves = {name: robust[name] for name in ("challenger", "champion") if robust.get(name)}
    if curves:
        drawn.append(attack_curve(folder, curves))
    if matrix:
        drawn.append(generator_matrix(folder, matrix))
    return drawn


def learning_curves(folder: Path, phase: str, history: Sequence[Mapping[str, Any]]) -> str:
    """Over steps, what training minimises on its batches (in phase 2 several terms, of augmented and attacked clips), and the cross-entropy of validation.

    That is drawn as it is and once temperature and offset are fitted: where the latter is least, the weights are kept. The distance of the first line
    from the others says nothing; each tells by its own way whether learning goes on.
    """

    def draw(axes: "Axes") -> None:
        for key, name, colour, line in CURVES:
            points = [(entry["step"], entry[key]) for entry in history if entry.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), line, color=colour, label=name, marker="o", markersize=3)
        axes.set(xlabel="optimiser steps", ylabel="loss")
        axes.legend(frameon=False)

    return _save(folder, f"learning_{phase}", f"Learning curve: {phase}", draw)


def roc(folder: Path, rows: "pd.DataFrame", models: Mapping[str, tuple[str, float]]) -> str:
    """True against false positives over all thresholds; the shipped threshold is a dot."""
    from model.metrics import auc, roc_points, threshold_metrics

    def draw(axes: "Axes") -> None:
        for name, (column, threshold) in models.items():
            points = roc_points(rows["label"].to_numpy(dtype=str), rows[column])
            if points is None:
                continue
            axes.plot(points[0], points[1], color=COLOURS[name], label=f"{name}, AUC {auc(rows['label'].to_numpy(dtype=str), rows[column]):.3f}")
            at = threshold_metrics(rows["label"].to_numpy(dtype=str), rows[column], threshold)
            if at["fpr"] is not None and at["recall"] is not None:
                axes.plot([at["fpr"]], [at["recall"]], "o", color=COLOURS[name])
        axes.plot([0, 1], [0, 1], color=GRID, linestyle=":")
        axes.set(xlabel="false-positive rate", ylabel="true-positive rate", xlim=(-0.01, 1), ylim=(0, 1.02))
        axes.legend(frameon=False, loc="lower right")

    return _save(folder, "roc", f"ROC on {len(rows)} videos (dots: the shipped thresholds)", draw)


def precision_recall(folder: Path, rows: "pd.DataFrame", models: Mapping[str, tuple[str, float]]) -> str:
    """Precision over recall; the dotted line is the part of fakes, which a coin would reach."""
    from model.metrics import precision_recall_points

    def draw(axes: "Axes") -> None:
        for name, (column, _) in models.items():
            points = precision_recall_points(rows["label"].to_numpy(dtype=str), rows[column])
            if points is not None:
                axes.plot(points[0], points[1], color=COLOURS[name], label=name)
        axes.axhline(float((rows["label"] == "fake").mean()), color=GRID, linestyle=":")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.01), ylim=(0, 1.02))
        axes.legend(frameon=False, loc="lower left")

    return _save(folder, "precision_recall", "Precision and recall", draw)


def reliability_diagram(folder: Path, rows: "pd.DataFrame", models: Mapping[str, tuple[str, float]]) -> str:
    """Part of fakes over the score that was given, were half of all fakes; a calibrated model lies on the diagonal."""
    from model.metrics import reliability

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color=GRID, linestyle=":")
        for name, (column, _) in models.items():
            table = reliability(rows["label"].to_numpy(dtype=str), rows[column], bins=8)
            axes.plot([row["p_fake"] for row in table], [row["fakes"] for row in table], "o-", color=COLOURS[name], label=name, markersize=4)
        axes.set(xlabel="p_fake, mean of the bin", ylabel="part that is fake, classes alike", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(frameon=False, loc="upper left")

    return _save(folder, "reliability", "Reliability", draw)


def risk_coverage_curve(folder: Path, rows: "pd.DataFrame", models: Mapping[str, tuple[str, float]]) -> str:
    """Part of wrong verdicts among those given, when the model may keep silent where it is least certain."""
    from model.metrics import risk_coverage

    def draw(axes: "Axes") -> None:
        for name, (column, threshold) in models.items():
            points = risk_coverage(rows["label"].to_numpy(dtype=str), rows[column], threshold)
            if points is not None:
                axes.step(*points, where="post", color=COLOURS[name], label=name)
        axes.set(xlabel="part of the videos that get a verdict", ylabel="part of these verdicts that is wrong", xlim=(0, 1.01), ylim=(-0.01, None))
        axes.legend(frameon=False, loc="upper left")

    return _save(folder, "risk_coverage", "Risk and coverage", draw)


def confusion_matrix(folder: Path, rows: "pd.DataFrame", threshold: float) -> str:
    """What is real and fake against what the challenger calls so."""
    from model.metrics import confusion

    counts = confusion(rows["label"].to_numpy(dtype=str), rows["p_challenger"], threshold)
    cells = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])

    def draw(axes: "Axes") -> None:
        shares = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(cells):
            axes.text(column, row, f"{count}\n{shares[row, column]:.0%}", ha="center", va="center", color="white" if shares[row, column] > 0.6 else "black")
        axes.set(xticks=[0, 1], xticklabels=["called real", "called fake"], yticks=[0, 1], yticklabels=["real", "fake"])
        axes.spines[:].set_visible(False)

    return _save(folder, "confusion", f"Confusion matrix at threshold {threshold:.3f}", draw, (4.2, 3.6))


def attack_curve(folder: Path, curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Balanced accuracy under the worst of the attacks over eps, in 8-bit levels."""

    def draw(axes: "Axes") -> None:
        for name, points in curves.items():
            known = [(point["eps"] * 255, point["balanced_accuracy"]) for point in points if point["balanced_accuracy"] is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color=COLOURS[name], label=name, markersize=4)
        axes.set(xlabel="eps, in levels of 255", ylabel="balanced accuracy", ylim=(0, 1.02))
        axes.legend(frameon=False)

    return _save(folder, "attack", "The worst attack", draw)


def generator_matrix(folder: Path, matrix: Mapping[str, Mapping[str, float | None]]) -> str:
    """AUC of each model on each generator: the row that this cycle adds to the forgetting matrix, beside the one before."""
    generators, models = list(matrix), [name for name in ("champion", "challenger") if any(name in row for row in matrix.values())]

    def draw(axes: "Axes") -> None:
        values = np.array([[np.nan if (value := matrix[name].get(model)) is None else value for name in generators] for model in models], dtype=float)
        axes.imshow(values, cmap="RdYlGn", vmin=0.4, vmax=1, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            axes.text(column, row, "-" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=9)
        axes.set(xticks=range(len(generators)), yticks=range(len(models)), yticklabels=models)
        axes.set_xticklabels([_short(name) for name in generators], rotation=30, ha="right", fontsize=9)
        axes.spines[:].set_visible(False)

    return _save(folder, "generators", "AUC by generator, before and after", draw, (max(4.2, 1.1 * len(generators) + 1.5), 2.2 + 0.3 * len(models)))


def decay_curve(folder: Path, table: Mapping[str, Any]) -> str:
    """AUC of each past champion on the new holdout videos of later cycles; `table` as of pipelines/decay.py. Grey is the oldest, blue the newest."""
    cycles = [f"{line['cycle']} (held)" if line["in_doubt"] else line["cycle"] for line in table["lines"]]

    def draw(axes: "Axes") -> None:
        for number, name in enumerate(table["models"]):
            points = [(at, line["auc"][number]["value"]) for at, line in enumerate(table["lines"]) if line["auc"][number]]
            known = [(at, value) for at, value in points if value is not None]
            share = number / max(1, len(table["models"]) - 1)
            colour = CHAMPION if number == 0 else CHALLENGER
            if known:
                axes.plot(*zip(*known, strict=True), "o-", color=colour, alpha=1.0 if number == 0 else 0.35 + 0.65 * share, label=name, markersize=4)
        axes.set(ylabel="AUC on that cycle's new videos", ylim=(None, 1.01), xticks=range(len(cycles)))
        axes.set_xticklabels(cycles, rotation=30, ha="right", fontsize=8)
        axes.legend(frameon=False, fontsize=8)

    return _save(folder, "decay", "How models age", draw)
