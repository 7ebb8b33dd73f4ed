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

from workspace.files import sha256_bytes  # noqa: E402

RESULTS = HERE / "forgers.jsonl"
SEEDS = (1, 2, 3)
STEPS, FIT_STEPS = 400, 40  # of phase 1 and phase 2: the budget of a run
FORGERS = (
    "self_blend",
    "landmark_swap",
    "reenact",
    "upsample",
    "restore",
    "portrait",
    "decoder_resize",
    "autoencoder_swap",
)  # trained on, less what is held out
HELD_OUT = ("self_blend", "landmark_swap", "reenact", "restore", "portrait", "autoencoder_swap")  # one at a time
ABLATION_ON = ("landmark_swap", "portrait")  # held out together in the ablation: one that blends, one that draws everything
# what each variant changes in the settings; `base` is the small profile with what the recipe of the starter adds to the training
BASE: dict[str, dict[str, Any]] = {
    "augment": {"poor_sources": 0.6, "poor_reals": 0.0, "degrade": 0.1, "noise_sigma": 0.0, "cutout": 0.0, "frequency_mask": 0.0},
    "pretrain": {"pairs": True, "locate": 1.0},
    "train": {"pairs": True},
}
STRONG = {"poor_sources": 0.0, "poor_reals": 0.3, "degrade": 0.5, "noise_sigma": 0.1, "cutout": 0.15, "frequency_mask": 0.1}  # the profile's own
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
    "sources as they are": ((), {"augment": {"poor_sources": 0.0}}),
    "hardened clips": ((), {}),
    "PGD in training": ((), {"train": {"adversarial_steps": 3}}),
    "hardened clips, PGD in training": ((), {"train": {"adversarial_steps": 3}}),
}
HARDENED = (
    "hardened clips",
    "hardened clips, PGD in training",
)  # phase 2 also sees HARDENED_CLIPS clips that PGD has attacked, as the stage `harden` makes them
ATTACKED = ("base", "PGD in training", *HARDENED)  # whose curves under attack are measured too, on ATTACK_CLIPS clips
HARDENED_CLIPS, ATTACK_CLIPS, ATTACK_EPS = 48, 32, tuple(level / 255 for level in (0, 1, 2, 4, 8, 12.75))
ATTACKER_STEPS = 120  # of the attacker's own model, trained on the very clips that are attacked and on no other


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
    change_settings(work, {"faces": {"size_px": size_px}, "model": {"certainty_attention": True, "spatial_attention": True}})  # the whole, to take parts from
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


def phase_1(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> tuple[Any, Any]:
    """The network after phase 1 and its training clips. Variants that differ in phase 2 alone share it, read from `work`/phase1."""
    import torch

    from model.checkpoint import load_model, save_model
    from model.data import ClipDataset
    from model.network import ResNeXtLSTM
    from model.training import pretrain

    settings = settings_of(work, BASE, VARIANTS[variant][1])
    train = table[(table["side"] == "train") & table["forger"].isin({"", *FORGERS} - {*held_out, *VARIANTS[variant][0]})].drop(columns="landmarks")
    meshes = dict(zip(table["clip_id"], table["landmarks"], strict=True)) if settings.augment.reforge else {}
    clips = ClipDataset(work, train, settings.faces.size_px, landmarks=meshes)
    torch.manual_seed(seed)
    model = ResNeXtLSTM(settings.model, settings.faces.size_px)
    stored = work / "phase1" / f"{phase_1_key(held_out, variant, seed)}.safetensors"
    if not stored.exists():
        nothing = ClipDataset(work, train.head(0), settings.faces.size_px)  # nothing to choose by: the last weights are taken
        phase = settings.pretrain.model_copy(update={"steps": STEPS, "validate_every": STEPS})
        pretrain(model, clips, nothing, phase, seed, work / ".vigil" / "checkpoints", _tell("phase 1"), augment=settings.augment)
        stored.parent.mkdir(exist_ok=True)
        save_model(model, stored)
    model.load_state_dict(load_model(stored).state_dict())
    return model, clips


def phase_1_key(held_out: tuple[str, ...], variant: str, seed: int) -> str:
    """Everything that phase 1 depends on."""
    left_out, changes = VARIANTS[variant]
    spatial = changes.get("model", {}).get("spatial_attention", True)
    about = [sorted(held_out), sorted(left_out), changes.get("augment"), changes.get("pretrain"), spatial, BASE, FORGERS, STEPS, seed]
    return sha256_bytes(json.dumps(about, sort_keys=True).encode())[:24]


def run_key(held_out: tuple[str, ...], variant: str, seed: int) -> str:
    """Everything that a row depends on: another recipe makes other rows, and `show` tells those of today's alone."""
    about = [phase_1_key(held_out, variant, seed), variant, VARIANTS[variant][1], FIT_STEPS, variant in HARDENED and HARDENED_CLIPS]
    return sha256_bytes(json.dumps(about, sort_keys=True).encode())[:16]


def run_one(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> dict[str, Any]:
    """Train without the held-out forgers; returns the row of the results."""
    import torch

    from model.data import ClipDataset
    from model.training import fit

    started, settings = time.monotonic(), settings_of(work, BASE, VARIANTS[variant][1])
    model, clips = phase_1(work, table, held_out, variant, seed)
    nothing = ClipDataset(work, clips.rows.head(0), settings.faces.size_px)
    shown = with_hardened(model, clips, settings, seed) if variant in HARDENED else clips
    attacked_in_training = VARIANTS[variant][1].get("train", {}).get("adversarial_steps", 0)
    budget = {"steps": FIT_STEPS, "validate_every": FIT_STEPS, "distillation": 0.0, "adversarial_steps": attacked_in_training}
    torch.manual_seed(seed)
    fit(model, shown, nothing, settings.train.model_copy(update=budget), seed, work / ".vigil" / "checkpoints", _tell("phase 2"), augment=settings.augment)
    model.eval()
    found = measure(work, model, table, held_out)
    if variant in ATTACKED and held_out == ABLATION_ON:
        found |= attacked(work, model, table, settings, seed)
    run = {"key": run_key(held_out, variant, seed), "held_out": list(held_out), "variant": variant, "seed": seed, "steps": STEPS, "fit_steps": FIT_STEPS}
    return run | {"seconds": round(time.monotonic() - started)} | found


class Together:
    """Two sources of clips as one."""

    def __init__(self, first: Any, second: Any) -> None:
        import pandas as pd

        self.rows = pd.concat([first.rows, second.rows], ignore_index=True)
        self._parts = [(first, position) for position in range(len(first))] + [(second, position) for position in range(len(second))]

    def __len__(self) -> int:
        return len(self._parts)

    def clip(self, position: int) -> Any:
        """Pixels of the row at `position`."""
        source, own = self._parts[position]
        return source.clip(own)

    def landmarks(self, position: int) -> Any:
        """Mesh of the row at `position`."""
        source, own = self._parts[position]
        return source.landmarks(own)


def with_hardened(model: Any, clips: Any, settings: Any, seed: int) -> Together:
    """`clips` and some of them attacked with PGD against the phase-1 network, in whole 8-bit levels, as the stage `harden` does."""
    import torch

    from model.attacks import pgd, to_uint8
    from model.data import MemoryClips
    from pipelines.frameview import FrameView
    from pipelines.harden import draw, whole_levels

    position = {clip_id: number for number, clip_id in enumerate(clips.rows["clip_id"])}
    rows, made = draw(clips.rows, HARDENED_CLIPS, seed), []
    attack = settings.harden
    for row in rows:
        clean = torch.from_numpy(clips.clip(position[row["clip_id"]]).transpose(0, 3, 1, 2)[None].copy())
        fake = torch.tensor([row["label"] == "fake"])
        eps = whole_levels(attack.eps) / 255
        hit = pgd(FrameView(model).eval(), clean.float() / 255, fake, eps=eps, steps=attack.steps, step_size=attack.step_size, seed=seed)
        made.append(to_uint8(hit, clean, attack.eps)[0].permute(0, 2, 3, 1).numpy())
    named = clips.rows.iloc[[position[row["clip_id"]] for row in rows]]
    named = named.assign(source_clip=named["clip_id"], clip_id=named["clip_id"] + "+pgd", role="hardened")
    return Together(clips, MemoryClips(named, made))


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


def attacked(work: Path, model: Any, table: Any, settings: Any, seed: int) -> dict[str, Any]:
    """Balanced accuracy at p_fake 0.5 by eps, on clips of people who were not trained on, half of them fakes: `whitebox` PGD, `transfer` from the attacker."""
    from safetensors.torch import load_file, save_file

    from model.attacks import attack_clips, robust_curve
    from pipelines.robustness import load_clips

    test = table[(table["side"] == "test") & (table["kind"] == "video") & (table["use"] != "evaluate") & table["forger"].isin({"", *FORGERS})]
    panel = test.sort_values("sha256").groupby("label").head(ATTACK_CLIPS // 2)
    clips, fake, lengths = load_clips(work, panel)
    force = {"steps": settings.evaluate.attack_steps, "restarts": settings.evaluate.attack_restarts, "seed": seed, "lengths": lengths}
    stored = work / "phase1" / f"attacks-{seed}.safetensors"
    if not stored.exists():
        attacker = attackers_model(work, test, settings, seed)
        save_file({_level(eps): attack_clips("pgd", attacker, clips, fake, eps=eps, **force) for eps in ATTACK_EPS}, stored)
    sent, whitebox = load_file(stored), robust_curve(model, clips, fake, list(ATTACK_EPS), **force)
    reached = {eps: robust_curve(model, sent[_level(eps)], fake, [0.0], lengths=lengths)[0].balanced_accuracy for eps in ATTACK_EPS}
    return {"whitebox": {_level(point.eps): point.balanced_accuracy for point in whitebox}, "transfer": {_level(eps): value for eps, value in reached.items()}}


def _level(eps: float) -> str:
    return f"{eps * 255:g}"


def attackers_model(work: Path, rows: Any, settings: Any, seed: int) -> Any:
    """A network of the same kind that knows `rows` and nothing of the training: what a stranger attacks with."""
    import torch

    from model.data import ClipDataset
    from model.network import ResNeXtLSTM
    from model.training import pretrain
    from pipelines.frameview import FrameView
    from pipelines.surrogate import SEED_OFFSET

    torch.manual_seed(seed + SEED_OFFSET)
    network = ResNeXtLSTM(settings.model, settings.faces.size_px)
    clips = ClipDataset(work, rows.drop(columns="landmarks"), settings.faces.size_px)
    phase = settings.pretrain.model_copy(update={"steps": ATTACKER_STEPS, "validate_every": ATTACKER_STEPS, "pairs": False, "locate": 0.0})
    pretrain(network, clips, clips, phase, seed + SEED_OFFSET, work / ".vigil" / "checkpoints", _tell("attacker"))
    return FrameView(network).eval()


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
    groups: dict[str, list[tuple[tuple[str, ...], str, int]]] = {}
    for one in wanted(what):
        groups.setdefault(phase_1_key(*one), []).append(one)  # what shares a phase 1 stays together
    mine = [one for group in list(groups.values())[number - 1 :: parts] for one in group]
    for position, one in enumerate(mine, start=1):
        held_out, variant, seed = one
        if any(row["key"] == run_key(*one) for row in results()):
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
    today = {run_key(*one) for one in wanted("all")}
    rows = [row for row in results() if row["key"] in today]
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
    print(f"Balanced accuracy at p_fake 0.5 on {ATTACK_CLIPS} clips, by eps in levels of 255: PGD white-box, transfer from an attacker's own model")
    for variant in ATTACKED:
        mine = [row for (kind, _), row in both.items() if kind == variant]
        for eps in ATTACK_EPS if mine else ():
            found = [interval([row[way][_level(eps)] for row in mine]) for way in ("whitebox", "transfer")]
            print(f"    {variant:<32} {_level(eps):>6}  {'  '.join(found)}")


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
