"""The benchmark of held-out forgers tells its recorded figures without any media, and refuses to train without them."""

import subprocess
import sys
from pathlib import Path

from benchmarks.forgers import HELD_OUT, SEEDS, drawn, of_other_versions, rows_to_show, unpacked, wanted
from workspace.profiles import project_root


def test_recorded_rows_are_one_a_run_and_hold_the_whole_campaign(tmp_path: Path) -> None:
    """Each leave-one-out run and each run of the ablation, three seeds, once."""
    runs = [(tuple(row["held_out"]), row["variant"], row["seed"]) for row in rows_to_show(tmp_path)]
    assert len(runs) == len(set(runs))
    assert {*wanted("one"), *wanted("ablation")} <= set(runs)


def test_the_mean_in_the_docs_is_what_the_recorded_scores_give(tmp_path: Path) -> None:
    """docs/forgers.md prints the mean AUC over the six forgers; the clips' own scores must give it."""
    scores = {(tuple(row["held_out"]), row["seed"]): unpacked(row["scores"]) for row in rows_to_show(tmp_path) if row["variant"] == "base"}
    areas = [drawn([{seed: scores[(name,), seed] for seed in SEEDS}], "clip", (name,), resamples=0)[0][0] for name in HELD_OUT]
    assert f"**{sum(areas) / len(areas):.3f} [" in (project_root() / "docs" / "forgers.md").read_text(encoding="utf-8")


def test_rows_of_other_versions_of_the_stages_are_told_apart(tmp_path: Path) -> None:
    """What older code made, or what does not say who made it, is counted under the name of its run; what today's stages made is not."""
    row = next(row for row in rows_to_show(tmp_path) if len(row["held_out"]) == 1 and row["variant"] == "base")
    older = row | {"versions": row["versions"] | {"forge": row["versions"]["forge"] - 1}}
    nameless = {name: value for name, value in row.items() if name != "versions"}
    others = of_other_versions([row, older, nameless])["one forger held out, base"]
    assert others - of_other_versions([row])["one forger held out, base"] == 2


def test_training_without_media_says_what_to_do(tmp_path: Path) -> None:
    """No traceback: the command names what has to come first."""
    done = subprocess.run([sys.executable, project_root() / "benchmarks" / "forgers.py", "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "prepare LABELS.csv" in done.stderr and "Traceback" not in done.stderr
