"""Leave one forger out: does a detector that never saw a way to forge find it? And what each part of the recipe is worth.

    python benchmarks/forgers.py prepare LABELS.csv [--work FOLDER]     faces, and every clip forged by every forger, once
    python benchmarks/forgers.py run [--what one|ablation|all]          trains; appends a row a run to benchmarks/forgers.jsonl
    python benchmarks/forgers.py show                                   means with intervals over runs

Trained: people of the training side and photos of nobody known, with every forger but the held-out ones (one, or the two of the
ablation). Measured: people of the other sides, their real clips against each forger's fakes of them (AUC over clips, and over stills
cut from them), and against the media that the table keeps for evaluation. No run chooses anything on what it is measured on: the last
averaged weights are taken, whatever they score. A run that was killed is simply run again; finished rows are kept. Two at once, each
on one core: `--part 1/2` and `--part 2/2`.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

RESULTS = HERE / "forgers.jsonl"
SEEDS = (1, 2, 3)
STEPS, FIT_STEPS = 500, 30  # of phase 1 and phase 2: the budget of a run
FORGERS = (
    "self_blend", "landmark_swap", "reenact", "upsample", "restore", "decoder_transposed", "decoder_resize", "decoder_shuffle", "portrait", "autoencoder_swap",
)  # fmt: skip
HELD_OUT = ("self_blend", "landmark_swap", "reenact", "restore", "portrait", "autoencoder_swap")  # one at a time
TRAINED_ON = ("self_blend", "landmark_swap", "reenact", "upsample", "restore", "portrait", "decoder_resize", "autoencoder_swap")  # less what is held out
ABLATION_ON = ("landmark_swap", "portrait")  # held out together in the ablation: one that blends, one that draws everything
# what each variant changes in the settings; `base` is the small profile with what the recipe of the starter adds to the training
BASE: dict[str, dict[str, Any]] = {
    "augment": {"poor_reals": 0.25, "degrade": 0.2, "noise_sigma": 0.0, "cutout": 0.0, "frequency_mask": 0.0},
    "pretrain": {"pairs": True, "locate": 1.0},
    "train": {"pairs": True},
}
STRONG = {"poor_reals": 0.3, "degrade": 0.5, "noise_sigma": 0.1, "cutout": 0.15, "frequency_mask": 0.1}  # the profile's own
# name -> (forgers left out of training, changes of the base)
VARIANTS: dict[str, tuple[tuple[str, ...], dict[str, dict[str, Any]]]] = {
    "base": ((), {}),
    "no self-blending": (("self_blend",), {}),
    "no decoder fakes": (("decoder_resize", "upsample", "autoencoder_swap"), {}),
    "no degradations": ((), {"augment": {"degrade": 0.0}}),
    "no spatial attention": ((), {"model": {"spatial_attention": False}}),
    "no certainty attention": ((), {"model": {"certainty_attention": False}}),
    "CNN only": ((), {"model": {"fusion_cnn": 1.0}}),
    "LSTM only": ((), {"model": {"fusion_cnn": 0.0}}),
    "strong augmentation": ((), {"augment": STRONG}),
    "no pairs, no places": ((), {"pretrain": {"pairs": False, "locate": 0.0}, "train": {"pairs": False}}),
    "reals no poorer": ((), {"augment": {"poor_reals": 0.0}}),
    "PGD in training": ((), {"train": {"adversarial_steps": 3}}),
}
ATTACKED = ("base", "PGD in training")  # whose white-box curve is measured too, on ATTACK_CLIPS clips
ATTACK_CLIPS, ATTACK_EPS = 32, tuple(level / 255 for level in (0, 1, 2, 4, 8, 12.75))


def settings_of(work: Path, *changes: dict[str, dict[str, Any]]) -> Any:
    """The workspace's settings, with each of `changes` laid over them in turn."""
    from workspace.settings import parse_settings

    raw = yaml.safe_load((work / "params.yaml").read_text())
    for change in changes:
        for block, values in change.items():
            raw[block] = raw[block] | values
    return parse_settings(raw)


def prepare(table: Path, work: Path, size_px: int) -> None:
    """A small-profile workspace with faces, and a store of fakes a forger in `work`/forged."""
    from pipelines import faces, forge
    from pipelines.ingest import ingest
    from tests.system.world import change_settings
    from vigil.opening import open_workspace
    from workspace.settings import SourceSettings

    open_workspace(work, "small")
    change_settings(work, {"faces": {"size_px": size_px}})
    settings = settings_of(work)
    ingest(work, settings, [SourceSettings(name="faces", path=str(table), layout="csv")], batch="faces")
    faces.run(work, settings, "faces")
    for name in FORGERS:
        if (work / "forged" / name).exists():
            continue
        forge.run(work, settings_of(work, {"forge": {"forgers": [name], "fakes_per_real": 1.0, "max_clips": 100_000}}), "faces")
        shutil.copytree(work / "data" / "forged" / "faces", work / "forged" / name)


def rows_of(work: Path) -> Any:
    """Every clip: real ones, fakes of every forger, and what is kept for evaluation; with `store`, `side` and what training looks at."""
    import pandas as pd

    from media.shards import read_index
    from pipelines.sides import split_of

    split = settings_of(work).split
    parts = [read_index(work / "data/faces/faces").assign(store="data/faces/faces")]
    parts += [read_index(work / "forged" / name).assign(store=f"forged/{name}") for name in FORGERS]
    table = pd.concat(parts, ignore_index=True)
    known = table["identity"] != ""
    table["side"] = ["test" if row.use == "evaluate" or (row.identity and split_of(row.identity, split) != "train") else "train" for row in table.itertuples()]
    table = table[known | (table["side"] == "train")]
    return table.assign(role="new", new=True).reset_index(drop=True)


def run_one(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> dict[str, Any]:
    """Train without the held-out forgers; returns the row of the results."""
    import torch

    from model.data import ClipDataset
    from model.network import ResNeXtLSTM
    from model.training import fit, pretrain

    left_out, changes = VARIANTS[variant]
    settings = settings_of(work, BASE, changes)
    train = table[(table["side"] == "train") & table["forger"].isin({"", *TRAINED_ON} - {*held_out, *left_out})].drop(columns="landmarks")
    meshes = dict(zip(table["clip_id"], table["landmarks"], strict=True)) if settings.augment.reforge else {}
    clips = ClipDataset(work, train, settings.faces.size_px, landmarks=meshes)
    nothing = ClipDataset(work, train.head(0), settings.faces.size_px)  # nothing to choose by: the last weights are taken
    torch.manual_seed(seed)
    model, started = ResNeXtLSTM(settings.model, settings.faces.size_px), time.monotonic()
    scratch = work / ".vigil" / "checkpoints"
    phase = settings.pretrain.model_copy(update={"steps": STEPS, "validate_every": STEPS})
    pretrain(model, clips, nothing, phase, seed, scratch, _tell("phase 1"), augment=settings.augment)
    attacked_in_training = changes.get("train", {}).get("adversarial_steps", 0)
    budget = {"steps": FIT_STEPS, "validate_every": FIT_STEPS, "distillation": 0.0, "adversarial_steps": attacked_in_training}
    phase2 = settings.train.model_copy(update=budget)
    fit(model, clips, nothing, phase2, seed, scratch, _tell("phase 2"), augment=settings.augment)
    found = measure(work, model, table, held_out)
    if variant in ATTACKED and held_out == ABLATION_ON:
        found["whitebox"] = attacked(work, model, table, settings, seed)
    run = {"held_out": list(held_out), "variant": variant, "seed": seed, "steps": STEPS, "fit_steps": FIT_STEPS}
    return run | {"seconds": round(time.monotonic() - started)} | found


def measure(work: Path, model: Any, table: Any, held_out: tuple[str, ...]) -> dict[str, Any]:
    """AUC on each forger and on the kept media against the reals: over clips, and over stills (a clip's middle frame alone).

    Also what picture quality alone does: `poor` is the AUC of poor copies of the reals against the reals (0.5: none), `against` that of
    a held-out forger's fakes as they are against poor reals.
    """
    import numpy as np
    import torch

    from media.shards import read_clip
    from model.data import to_tensor
    from model.metrics import auc
    from pipelines.probes import poor_picture

    test = table[(table["side"] == "test") & (table["kind"] == "video")]
    logits: dict[str, list[float]] = {"clip": [], "still": []}
    poor: list[float] = []
    with torch.no_grad():
        for row in test.to_dict("records"):
            pixels = read_clip(work, row)
            clip = to_tensor(pixels)[None]
            if row["label"] == "real":
                poor.append(float(model(to_tensor(poor_picture(pixels))[None])[0]))
            middle = clip.shape[1] // 2
            logits["clip"].append(float(model(clip)[0]))
            logits["still"].append(float(model(clip[:, middle : middle + 1])[0]))
    scores = {unit: np.array(values) for unit, values in logits.items()}
    groups = {name: (test["forger"] == name).to_numpy() for name in FORGERS}
    groups["kept"] = ((test["label"] == "fake") & (test["use"] == "evaluate") & (test["forger"] == "")).to_numpy()
    real = ((test["label"] == "real") & (test["forger"] == "")).to_numpy()

    def area(fakes: Any, reals: Any) -> float | None:
        return auc(["fake"] * len(fakes) + ["real"] * len(reals), np.concatenate([fakes, reals]))

    result: dict[str, Any] = {"n_real": int(real.sum()), "n_fake": {name: int(chosen.sum()) for name, chosen in groups.items()}}
    for unit, values in scores.items():
        result[unit] = {name: area(values[chosen], values[real]) for name, chosen in groups.items()}
    result["poor"] = area(np.array(poor), scores["clip"][real])
    result["against"] = {name: area(scores["clip"][groups[name]], np.array(poor)) for name in held_out}
    return result


def attacked(work: Path, model: Any, table: Any, settings: Any, seed: int) -> dict[str, float | None]:
    """Balanced accuracy at p_fake 0.5 under white-box PGD, by eps, on clips of people who were not trained on, half of them fakes."""
    from model.attacks import robust_curve
    from pipelines.robustness import load_clips

    test = table[(table["side"] == "test") & (table["kind"] == "video") & (table["use"] != "evaluate")].sort_values("sha256")
    panel = test.groupby("label").head(ATTACK_CLIPS // 2)
    clips, fake, lengths = load_clips(work, panel)
    steps, restarts = settings.evaluate.attack_steps, settings.evaluate.attack_restarts
    points = robust_curve(model, clips, fake, list(ATTACK_EPS), steps=steps, restarts=restarts, seed=seed, lengths=lengths)
    return {f"{point.eps * 255:g}": point.balanced_accuracy for point in points}


def _tell(phase: str) -> Any:
    from pipelines.stage import Progress

    return Progress(phase, every_seconds=30.0)


def wanted(what: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """The runs of a campaign: (held-out forgers, variant, seed), seeds last, so that a broken-off campaign is still balanced."""
    for seed in SEEDS:
        if what in ("one", "all"):
            yield from (((name,), "base", seed) for name in HELD_OUT)
        if what in ("ablation", "all"):
            yield from ((ABLATION_ON, variant, seed) for variant in VARIANTS)


def results() -> list[dict[str, Any]]:
    """The finished runs."""
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def run(work: Path, what: str, part: tuple[int, int]) -> None:
    """Run what is missing of this part (number, of how many) of the campaign."""
    import torch

    number, parts = part
    if parts > 1:
        torch.set_num_threads(1)
    table = rows_of(work)
    mine = list(wanted(what))[number - 1 :: parts]
    for position, one in enumerate(mine, start=1):
        held_out, variant, seed = one
        if any((tuple(row["held_out"]), row["variant"], row["seed"]) == one and (row["steps"], row["fit_steps"]) == (STEPS, FIT_STEPS) for row in results()):
            continue
        row = run_one(work, table, *one)
        with open(RESULTS, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
        found = ", ".join(f"{name} {row['clip'][name]:.3f} (stills {row['still'][name]:.3f})" for name in held_out)
        print(f"{position}/{len(mine)}  {variant}, seed {seed}, without {found}  {row['seconds']} s", flush=True)


def interval(values: list[float]) -> str:
    """Mean with a 95% t interval over runs."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.3f} (1 run)" if values else "-"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.3f} [{mean(values) - half:.3f}, {mean(values) + half:.3f}] ({len(values)} runs)"


def show() -> None:
    """The tables. Intervals of means over forgers and seeds take each seed's mean over the forgers as one draw."""
    rows = [row for row in results() if (row["steps"], row["fit_steps"]) == (STEPS, FIT_STEPS)]
    alone = [row for row in rows if len(row["held_out"]) == 1]
    print(f"One forger held out, all others in training ({STEPS} + {FIT_STEPS} steps a run)")
    for unit in ("clip", "still"):
        finished = [seed for seed in SEEDS if {row["held_out"][0] for row in alone if row["seed"] == seed} == set(HELD_OUT)]
        means = [mean(row[unit][row["held_out"][0]] for row in alone if row["seed"] == seed) for seed in finished]
        print(f"  AUC over {unit}s, mean of the forgers: {interval(means)}")
        for name in HELD_OUT:
            print(f"    {name:<20} {interval([row[unit][name] for row in alone if row['held_out'] == [name]])}")
    print(f"Ablation, held out together: {', '.join(ABLATION_ON)}")
    print("  mean AUC of the two over clips; what the change costs against base with the same seed: clips, stills")
    both = {(row["variant"], row["seed"]): row for row in rows if tuple(row["held_out"]) == ABLATION_ON}

    def held(row: dict[str, Any], unit: str) -> float:
        return mean(row[unit][name] for name in ABLATION_ON)

    for variant in VARIANTS:
        mine = [row for (kind, _), row in both.items() if kind == variant]
        paired = [(both["base", seed], row) for (kind, seed), row in both.items() if kind == variant != "base" and ("base", seed) in both]
        costs = [interval([held(base, unit) - held(row, unit) for base, row in paired]) for unit in ("clip", "still")]
        print(f"    {variant:<26} {interval([held(row, 'clip') for row in mine])}  {'  '.join(costs)}")
    print("What quality does: poor copies of reals against reals (0.5: nothing); held-out fakes as they are against poor reals")
    for variant in VARIANTS:
        mine = [row for (kind, _), row in both.items() if kind == variant]
        print(f"    {variant:<26} {interval([row['poor'] for row in mine])}  {interval([mean(row['against'].values()) for row in mine])}")
    print(f"White-box PGD, balanced accuracy at p_fake 0.5 on {ATTACK_CLIPS} clips, by eps in levels of 255")
    for variant in ATTACKED:
        curves = [row["whitebox"] for (kind, _), row in both.items() if kind == variant]
        for level in curves[0] if curves else ():
            print(f"    {variant:<24} {level:>6}  {interval([curve[level] for curve in curves])}")


def main() -> None:
    """Parse and do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["prepare", "run", "show"])
    parser.add_argument("table", type=Path, nargs="?")
    parser.add_argument("--work", type=Path, default=Path("forgers-work"))
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--what", choices=["one", "ablation", "all"], default="all")
    parser.add_argument("--part", default="1/1", help="which part of the runs, of how many, e.g. 2/2")
    arguments = parser.parse_args()
    if arguments.verb == "prepare":
        if arguments.table is None:
            parser.error("name the CSV of the faces")
        prepare(arguments.table, arguments.work, arguments.size)
    elif arguments.verb == "run":
        number, parts = (int(word) for word in arguments.part.split("/"))
        run(arguments.work, arguments.what, (number, parts))
    else:
        show()


if __name__ == "__main__":
    main()
