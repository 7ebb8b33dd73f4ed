"""Leave one forger out: does a detector that never saw a way to forge find it? And what each part of the recipe is worth.

    python benchmarks/forgers.py prepare LABELS.csv [--work FOLDER]     faces, and every clip forged by every forger, once
    python benchmarks/forgers.py run [--what one|ablation|matrix|start|all]   trains; appends a row a run to benchmarks/forgers.jsonl
    python benchmarks/forgers.py show                                   means with intervals over runs
    python benchmarks/forgers.py marks                                  what each forger's stored fakes have more or less of than their reals

Trained: people of the training side and photos of nobody known, with every forger but the held-out ones (one, or the two of the
ablation), or with a single one for the table of forger by forger; `start` does the ablation's base
again with networks that start from nothing. Measured: people of the other sides, their real clips against each
forger's fakes of them (AUC over clips, over stills cut from them, and over clips that both were coded once more), and against the media
that the table keeps for evaluation. No run chooses anything on what it is measured on: the last averaged weights are taken,
whatever they score. A run that was killed is simply run again; finished rows are kept. Two at once, each on one core: `--part 1/2`
and `--part 2/2`. A row holds the score of every measured clip, people by number, so that `show` can draw people and seeds
anew: the intervals are percentiles of that, and hold for these forgers, not for a seventh. Rows made by other code, settings or media are not shown;
without prepared media the newest row of each run is, and which of them other versions of the stages made is said.
"""

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_file, in_the_environment_of_a_stage, telling_versions  # noqa: E402
from workspace.files import add_row, rows_of, sha256_bytes, sha256_file  # noqa: E402

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
# what each variant changes in the settings; `base` is the small profile as the ablation left it, said in full so that a row means the same for good
BASE: dict[str, dict[str, Any]] = {
    "model": {"backbone": "efficientnet_lite0", "weights": "IMAGENET1K_V1"},
    "augment": {"degrade": 0.1, "noise_sigma": 0.0, "cutout": 0.0, "frequency_mask": 0.0},
    "pretrain": {"pairs": True, "locate": 1.0, "lr": 0.0005},
    "train": {"pairs": True},
}
FROM_NOTHING = {"pretrain": {"lr": 0.002}}
STRONG = {"degrade": 0.5, "noise_sigma": 0.1, "cutout": 0.15, "frequency_mask": 0.1}  # the full profile's own
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
    "EfficientNet-Lite0 from nothing": ((), {"model": {"weights": ""}} | FROM_NOTHING),
    "small ResNeXt from nothing": ((), {"model": {"backbone": "resnext_small", "weights": ""}} | FROM_NOTHING),
    "hardened clips": ((), {}),
    "PGD in training": ((), {"train": {"adversarial_steps": 3}}),
    "hardened clips, PGD in training": ((), {"train": {"adversarial_steps": 3}}),
}
# run last: what the recipe's own choices are worth
BESIDE = ("strong augmentation", "no pairs, no places", "sources as they are")
MARKED = 150  # pairs a forger that `marks` looks at
START = ("EfficientNet-Lite0 from nothing", "small ResNeXt from nothing")  # what a published start is worth
HARDENED = (
    "hardened clips",
    "hardened clips, PGD in training",
)  # phase 2 also sees HARDENED_CLIPS clips that PGD has attacked, as the stage `harden` makes them
ATTACKED = ("base", "PGD in training", *HARDENED)  # whose curves under attack are measured too, on ATTACK_CLIPS clips
MEASURED, HARDENED_BY, ATTACKED_BY = 1, 3, 2  # raised where this script measures, hardens or attacks in another way than before
HARDENED_CLIPS, ATTACK_CLIPS, ATTACK_EPS = 48, 30, tuple(level / 255 for level in (0, 1, 2, 4, 8, 12.75))
ATTACK_STEPS, ATTACK_RESTARTS = 40, 2  # white-box
SENT_STEPS = 20  # of what the attacker's own model sends over, once a clip
BORDER_CLIPS = 100  # training clips of each class
AT_ONCE = 16
UNITS = {"clip": "clips", "still": "stills", "coded": "clips that were coded once more"}  # that an AUC is taken over
CODED_CRF = 23  # H.264, as a share site codes: real and fake alike are also measured after it, since what was forged here never met a codec afterwards
ATTACKER_STEPS = 120  # of the attacker's own model, trained on the clips of the people who are attacked and on no other


def settings_of(work: Path, *changes: dict[str, dict[str, Any]]) -> Any:
    """The workspace's settings, with each of `changes` laid over them in turn; the stages are those of this checkout, whatever it was made with."""
    from workspace.profiles import project_root
    from workspace.settings import parse_settings

    raw = yaml.safe_load((work / "params.yaml").read_text())
    raw["stage_versions"] = yaml.safe_load((project_root() / "params.yaml").read_text())["stage_versions"]
    for change in changes:
        for block, values in change.items():
            raw[block] = raw[block] | values
    return parse_settings(raw)


def versions_of(stages: Any) -> dict[str, int]:
    """The versions of the stages that decide a row, each as the first whose results it has."""
    versions = telling_versions(stages.model_dump(mode="json"))
    return {name: versions[name] for name in ("forge", "pretrain", "harden", "train", "evaluate")}


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
    version = versions_of(settings.stage_versions)["forge"]
    made_of = f"{sha256_file(work / 'data/faces/faces/index.parquet')} {version} {settings.forge.learn_steps}"
    for name in FORGERS:
        store, mark = work / "forged" / name, work / "forged" / name / "made-of"
        if mark.is_file() and mark.read_text() == made_of:
            continue
        forge.run(work, settings_of(work, {"forge": {"forgers": [name], "fakes_per_real": 1.0, "max_clips": 100_000}}), "faces")
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(work / "data" / "forged" / "faces", store)
        mark.write_text(made_of)


def clips_of(work: Path) -> Any:
    """Every clip: real, faked by each forger, fake and kept for evaluation; with `store`, `side` and what training looks at; a hash of them in `attrs`.

    Collected fakes that the table would train on stay out: what is trained on was forged by the named forgers alone.
    """
    import pandas as pd

    from media.shards import read_index
    from pipelines.sides import split_of
    from workspace.manifest import read_manifest

    split = settings_of(work).split
    parts = [read_index(work / "data/faces/faces").assign(store="data/faces/faces")]
    parts += [read_index(work / "forged" / name).assign(store=f"forged/{name}") for name in FORGERS]
    table = pd.concat(parts, ignore_index=True)
    media = read_manifest(work / "data/raw/faces")
    table = table[~table["sample_id"].isin(media.loc[media["duplicate_of"] != "", "sample_id"])]  # of near duplicates one is used, as in a cycle
    known = table["identity"] != ""
    table["side"] = ["test" if row.use == "evaluate" or (row.identity and split_of(row.identity, split) != "train") else "train" for row in table.itertuples()]
    table = table[known | (table["side"] == "train")]
    table = table[(table["label"] == "real") | (table["forger"] != "") | ((table["label"] == "fake") & (table["use"] == "evaluate"))]
    table = table.assign(role="new", new=True).reset_index(drop=True)
    meshes = [sha256_bytes(mesh) for mesh in table["landmarks"]]
    lines = table[["clip_id", "sha256", "label", "identity", "kind", "forger", "use", "side"]].assign(mesh=meshes).astype(str).agg(" ".join, axis=1)
    table.attrs["content"] = sha256_bytes("\n".join(sorted(lines)).encode())
    return table


def phase_1(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> tuple[Any, Any]:
    """The network after phase 1 and its training clips. Variants that differ in phase 2 alone share it, read from `work`/phase1."""
    import torch

    from model.checkpoint import load_model, save_model
    from model.data import ClipDataset
    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import pretrain

    settings = settings_of(work, BASE, VARIANTS[variant][1])
    train = table[(table["side"] == "train") & table["forger"].isin({"", *FORGERS} - {*held_out, *VARIANTS[variant][0]})].drop(columns="landmarks")
    meshes = dict(zip(table["clip_id"], table["landmarks"], strict=True)) if settings.augment.reforge else {}
    clips = ClipDataset(work, train, settings.faces.size_px, landmarks=meshes)
    torch.manual_seed(seed)
    model = ResNeXtLSTM(settings.model, settings.faces.size_px).to(best_device())
    key = phase_1_key(work, table, held_out, variant, seed)
    stored, unfinished = work / "phase1" / f"{key}.safetensors", work / "unfinished" / key
    if not stored.exists():
        nothing = ClipDataset(work, train.head(0), settings.faces.size_px)  # nothing to choose by: the last weights are taken
        phase = settings.pretrain.model_copy(update={"steps": STEPS, "validate_every": STEPS})
        pretrain(model, clips, nothing, phase, seed, unfinished, _tell("phase 1"), augment=settings.augment, version=settings.stage_versions.pretrain)
        stored.parent.mkdir(exist_ok=True)
        save_model(model, stored)
        shutil.rmtree(unfinished, ignore_errors=True)
    model.load_state_dict(load_model(stored).state_dict())
    return model, clips


def phase_1_key(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> str:
    """Everything that phase 1 depends on: clips, settings, versions of the stages, and what is left out."""
    settings, left_out = settings_of(work, BASE, VARIANTS[variant][1]), VARIANTS[variant][0]
    blocks = {name: getattr(settings, name).model_dump(mode="json") for name in ("faces", "augment", "pretrain", "split")}
    network = settings.model.model_dump(mode="json") | {"fusion_cnn": None, "certainty_attention": None}  # phase 1 has the frame head alone
    versions = versions_of(settings.stage_versions)
    made_by = [versions[name] for name in ("forge", "pretrain")]  # forged anew in training; what the stages before it made is told by their clips
    about = [sorted(held_out), sorted(left_out), blocks, network, made_by, table.attrs["content"], FORGERS, STEPS, seed]
    return sha256_bytes(json.dumps(about, sort_keys=True).encode())[:24]


def run_key(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> str:
    """Everything that a row depends on: another recipe or other code makes other rows, and `show` tells those of today's alone."""
    settings = settings_of(work, BASE, VARIANTS[variant][1])
    blocks = {name: getattr(settings, name).model_dump(mode="json") for name in ("model", "train", "harden", "evaluate")}
    versions = versions_of(settings.stage_versions)
    measured_by = [versions[name] for name in ("harden", "train", "evaluate")]
    about = [phase_1_key(work, table, held_out, variant, seed), variant, blocks, measured_by, FIT_STEPS, CODED_CRF, MEASURED]
    hardened = variant in HARDENED and [HARDENED_CLIPS, HARDENED_BY]
    force = variant in ATTACKED and [ATTACKED_BY, ATTACK_CLIPS, ATTACK_EPS, ATTACK_STEPS, ATTACK_RESTARTS, SENT_STEPS, ATTACKER_STEPS, BORDER_CLIPS]
    return sha256_bytes(json.dumps([*about, hardened, force], sort_keys=True).encode())[:16]


def run_one(work: Path, table: Any, held_out: tuple[str, ...], variant: str, seed: int) -> dict[str, Any]:
    """Train without the held-out forgers; returns the row of the results."""
    import torch

    from model.data import ClipDataset
    from model.hardware import describe_device
    from model.training import fit

    started, settings = time.monotonic(), settings_of(work, BASE, VARIANTS[variant][1])
    key = run_key(work, table, held_out, variant, seed)
    model, clips = phase_1(work, table, held_out, variant, seed)
    nothing = ClipDataset(work, clips.rows.head(0), settings.faces.size_px)
    shown = with_hardened(model, clips, settings, seed) if variant in HARDENED else clips
    attacked_in_training = VARIANTS[variant][1].get("train", {}).get("adversarial_steps", 0)
    budget = {"steps": FIT_STEPS, "validate_every": FIT_STEPS, "distillation": 0.0, "adversarial_steps": attacked_in_training}
    phase, unfinished = settings.train.model_copy(update=budget), work / "unfinished" / key
    torch.manual_seed(seed)
    fit(model, shown, nothing, phase, seed, unfinished, _tell("phase 2"), augment=settings.augment, version=settings.stage_versions.train)
    shutil.rmtree(unfinished, ignore_errors=True)
    model.eval()
    scores = measure(work, model, table)
    found = figures(scores, held_out)
    if variant in ATTACKED and held_out == ABLATION_ON:
        found |= attacked(work, model, clips, table, settings, seed)
    run = {"key": key, "held_out": list(held_out), "variant": variant, "seed": seed, "steps": STEPS, "fit_steps": FIT_STEPS, "device": describe_device()}
    return run | {"versions": versions_of(settings.stage_versions), "seconds": round(time.monotonic() - started)} | found | {"scores": packed(scores)}


def packed(scores: Any) -> dict[str, dict[str, list[float]]]:
    """The table of `measure` by kind, people by their place in the alphabet, logits to three places: nothing of the media but how they were scored."""
    people = {person: number for number, person in enumerate(sorted(scores["person"].unique()))}
    columns = scores.assign(person=scores["person"].map(people)).round({"clip": 3, "still": 3, "coded": 3, "poor": 3})
    return {
        kind: {name: part[name].tolist() for name in ("person", "clip", "still", "coded", *(["poor"] if kind == "real" else []))}
        for kind, part in columns.groupby("kind")
    }


def unpacked(packed_scores: dict[str, dict[str, list[float]]]) -> Any:
    """The table again."""
    import pandas as pd

    return pd.concat([pd.DataFrame(columns).assign(kind=kind) for kind, columns in packed_scores.items()], ignore_index=True)


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

    def length(self, position: int) -> int:
        """How many frames it has."""
        source, own = self._parts[position]
        return int(source.length(own))

    def frame(self, position: int, number: int) -> Any:
        """Pixels of one of its frames."""
        source, own = self._parts[position]
        return source.frame(own, number)

    def landmarks(self, position: int) -> Any:
        """Mesh of the row at `position`."""
        source, own = self._parts[position]
        return source.landmarks(own)


def with_hardened(model: Any, clips: Any, settings: Any, seed: int) -> Together:
    """`clips` and some of them attacked with PGD against the phase-1 network, in whole 8-bit levels, as the stage `harden` does."""
    import torch

    from model.attacks import pgd, to_uint8, whole_levels
    from model.data import MemoryClips, mixed_seed
    from pipelines.frameview import FrameView
    from pipelines.harden import draw

    position = {clip_id: number for number, clip_id in enumerate(clips.rows["clip_id"])}
    rows, made = draw(clips.rows, HARDENED_CLIPS, seed), []
    attack = settings.harden
    for number, row in enumerate(rows):
        clean = torch.from_numpy(clips.clip(position[row["clip_id"]]).transpose(0, 3, 1, 2)[None].copy())
        fake = torch.tensor([row["label"] == "fake"])
        eps = whole_levels(attack.eps) / 255
        hit = pgd(FrameView(model).eval(), clean.float() / 255, fake, eps=eps, steps=attack.steps, step_size=attack.step_size, seed=mixed_seed(seed, number))
        made.append(to_uint8(hit, clean, attack.eps)[0].permute(0, 2, 3, 1).numpy())
    named = clips.rows.iloc[[position[row["clip_id"]] for row in rows]]
    named = named.assign(source_clip=named["clip_id"], clip_id=named["clip_id"] + "+pgd", role="hardened")
    return Together(clips, MemoryClips(named, made))


_MEASURED: dict[Path, list[tuple[dict[str, Any], Any, Any, Any]]] = {}


def measured_media(work: Path, table: Any) -> list[tuple[dict[str, Any], Any, Any, Any]]:
    """(row, pixels, pixels coded once more, pixels of a poor copy, for reals alone) of every measured clip; read once a process."""
    from media.degrade import h264_round_trip
    from media.shards import read_clip
    from pipelines.probes import poor_picture

    if work not in _MEASURED:
        test = table[(table["side"] == "test") & (table["kind"] == "video")]
        pixels = [(row, read_clip(work, row)) for row in test.to_dict("records")]
        _MEASURED[work] = [(row, clip, h264_round_trip(clip, CODED_CRF), poor_picture(clip) if row["label"] == "real" else None) for row, clip in pixels]
    return _MEASURED[work]


def measure(work: Path, model: Any, table: Any) -> Any:
    """Logits of every measured clip: person, kind (`real`, a forger, `kept`), clip, still (its middle frame), coded, poor (a poor copy; reals only)."""
    import pandas as pd

    media = measured_media(work, table)
    clips, poor = [pixels for _, pixels, _, _ in media], [worse for *_, worse in media if worse is not None]
    clip, still = _logits(model, clips), _logits(model, [pixels[len(pixels) // 2][None] for pixels in clips])
    coded, left = _logits(model, [again for _, _, again, _ in media]), iter(_logits(model, poor))
    rows = []
    for (row, *_, worse), of_clip, of_still, of_coded in zip(media, clip, still, coded, strict=True):
        kind = row["forger"] or ("real" if row["label"] == "real" else "kept")
        about = {"person": row["identity"] or row["sample_id"], "kind": kind, "clip": of_clip, "still": of_still, "coded": of_coded}
        rows.append(about | {"poor": next(left) if worse is not None else float("nan")})
    return pd.DataFrame(rows)


def _logits(model: Any, clips: list[Any]) -> list[float]:
    """The raw logit of each clip, those of one length some at a time."""
    import numpy as np
    import torch

    from model.data import to_tensor

    found, device = np.zeros(len(clips)), next(model.parameters()).device
    lengths: dict[int, list[int]] = {}
    for number, clip in enumerate(clips):
        lengths.setdefault(len(clip), []).append(number)
    with torch.no_grad():
        for numbers in lengths.values():
            for start in range(0, len(numbers), AT_ONCE):
                part = numbers[start : start + AT_ONCE]
                found[part] = model(torch.stack([to_tensor(clips[number]) for number in part]).to(device)).double().cpu().numpy()
    return [float(value) for value in found]


def figures(scores: Any, held_out: tuple[str, ...]) -> dict[str, Any]:
    """AUC on each forger and on the kept media against the reals: over clips, and over stills.

    Also what picture quality alone does: `poor` is the AUC of poor copies of the reals against the reals (0.5: none), `against` that of
    a held-out forger's fakes as they are against poor reals.
    """
    real = scores[scores["kind"] == "real"]
    fakes = {name: scores[scores["kind"] == name] for name in (*FORGERS, "kept")}
    found: dict[str, Any] = {"n_real": len(real), "people": int(real["person"].nunique()), "n_fake": {name: len(part) for name, part in fakes.items()}}
    found |= {unit: {name: _area(part[unit], real[unit]) for name, part in fakes.items()} for unit in UNITS}
    found["poor"] = _area(real["poor"], real["clip"])
    return found | {"against": {name: _area(fakes[name]["clip"], real["poor"]) for name in held_out}}


def _area(fakes: Any, reals: Any) -> float | None:
    import numpy as np

    from model.metrics import auc

    return auc(["fake"] * len(fakes) + ["real"] * len(reals), np.concatenate([fakes, reals]))


def attacked(work: Path, model: Any, clips: Any, table: Any, settings: Any, seed: int) -> dict[str, Any]:
    """Balanced accuracy by eps on one clip a video of people who were not trained on, half of them fakes: `whitebox` PGD, `transfer` from the
    attacker's model, `noise` of that size, and `attacker`: how the attacker's own model fares under its attack.

    Networks are not calibrated here: each is judged at the `border` at which as many of its own training clips of either class are wrong.
    """
    import torch
    from safetensors.torch import load_file, save_file

    from model.attacks import attack_clips, robust_curve
    from pipelines.robustness import load_clips

    test = table[(table["side"] == "test") & (table["kind"] == "video") & (table["use"] != "evaluate") & table["forger"].isin({"", *FORGERS})]
    one_each = test.sort_values("sha256").drop_duplicates(["label", "sample_id"])
    panel = one_each.groupby("label").head(ATTACK_CLIPS // 2)
    pictures, fake, lengths = load_clips(work, panel)
    force = {"steps": ATTACK_STEPS, "restarts": ATTACK_RESTARTS, "seed": seed, "lengths": lengths}
    sends = {"steps": SENT_STEPS, "restarts": 1, "seed": seed, "lengths": lengths}
    learned = {name: getattr(settings, name).model_dump(mode="json") for name in ("model", "pretrain", "stage_versions")}
    about = [sorted(panel["sha256"]), sorted(test["sha256"]), ATTACK_EPS, SENT_STEPS, ATTACKER_STEPS, seed, learned]
    stored = work / "phase1" / f"attacks-{sha256_bytes(json.dumps(about).encode())[:16]}.safetensors"
    attacker = attackers_model(work, test, settings, seed)
    if not stored.exists():
        save_file({_level(eps): attack_clips("pgd", attacker, pictures, fake, eps=eps, **sends) for eps in ATTACK_EPS}, stored)
    sent, limit = load_file(stored), border(model, clips, seed)

    def stands(judge: Any, given: Any, at: float) -> float | None:
        return robust_curve(judge, given, fake, [0.0], lengths=lengths, border=at)[0].balanced_accuracy

    noise = torch.Generator().manual_seed(seed)
    noisy = {eps: (pictures / 255 + eps * (2 * torch.rand(pictures.shape, generator=noise) - 1)).clamp(0, 1) for eps in ATTACK_EPS}
    curve = robust_curve(model, pictures, fake, list(ATTACK_EPS), border=limit, **force)
    found = {
        "whitebox": {_level(point.eps): point.balanced_accuracy for point in curve},
        "transfer": {_level(eps): stands(model, sent[_level(eps)], limit) for eps in ATTACK_EPS},
        "noise": {_level(eps): stands(model, noisy[eps], limit) for eps in ATTACK_EPS},
    }
    clean = [ways["0"] for ways in found.values()]
    assert max(clean) - min(clean) < 1e-6, f"without an attack all must be one: {clean}"
    own = {_level(eps): stands(attacker, sent[_level(eps)], 0.0) for eps in ATTACK_EPS}
    return {"border": limit, "attacked_clips": len(panel)} | found | {"attacker": own}


def border(model: Any, clips: Any, seed: int) -> float:
    """The raw logit at which the same share of a sample of the training reals is called fake as of the training fakes is called real."""
    import numpy as np

    labels = (clips.rows["label"] == "fake").to_numpy()
    draw = np.random.default_rng(seed)
    chosen = {fake: draw.permutation(np.flatnonzero(labels == fake))[:BORDER_CLIPS] for fake in (False, True)}
    real, fake = (np.array(_logits(model, [clips.clip(int(number)) for number in chosen[label]])) for label in (False, True))
    at = np.unique(np.concatenate([real, fake]))
    gap = [abs(float((real >= limit).mean()) - float((fake < limit).mean())) for limit in at]
    return float(at[int(np.argmin(gap))])


def _level(eps: float) -> str:
    return f"{eps * 255:g}"


def attackers_model(work: Path, rows: Any, settings: Any, seed: int) -> Any:
    """A network of the same kind that knows `rows` and nothing of the training: what a stranger attacks with."""
    import torch

    from model.data import ClipDataset
    from model.hardware import best_device
    from model.network import ResNeXtLSTM
    from model.training import pretrain
    from pipelines.frameview import FrameView
    from pipelines.surrogate import SEED_OFFSET

    torch.manual_seed(seed + SEED_OFFSET)
    network = ResNeXtLSTM(settings.model, settings.faces.size_px).to(best_device())
    clips = ClipDataset(work, rows.drop(columns="landmarks"), settings.faces.size_px)
    phase = settings.pretrain.model_copy(update={"steps": ATTACKER_STEPS, "validate_every": ATTACKER_STEPS, "pairs": False, "locate": 0.0})
    unfinished = work / "unfinished" / f"attacker-{seed}"
    pretrain(network, clips, clips, phase, seed + SEED_OFFSET, unfinished, _tell("attacker"), version=settings.stage_versions.evaluate)
    shutil.rmtree(unfinished, ignore_errors=True)
    return FrameView(network).eval()


def _tell(phase: str) -> Any:
    from pipelines.stage import Progress

    return Progress(phase, every_seconds=30.0)


def wanted(what: str) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """The runs of a campaign: (held-out forgers, variant, seed), seeds last, so that a broken-off campaign is still balanced; BESIDE after all others."""
    for seed in SEEDS:
        if what in ("one", "all"):
            yield from (((name,), "base", seed) for name in HELD_OUT)
        if what in ("ablation", "all"):
            yield from ((ABLATION_ON, variant, seed) for variant in VARIANTS if variant not in (*BESIDE, *START))
    if what in ("ablation", "all"):
        yield from ((ABLATION_ON, variant, seed) for seed in SEEDS for variant in BESIDE)
    if what in ("matrix", "all"):
        yield from ((all_but(name), "base", SEEDS[0]) for name in FORGERS)
    if what in ("start", "all"):
        yield from ((ABLATION_ON, variant, seed) for seed in SEEDS for variant in START)


def all_but(name: str) -> tuple[str, ...]:
    """What is held out where one forger alone is trained on."""
    return tuple(other for other in FORGERS if other != name)


def run(work: Path, what: str, part: tuple[int, int]) -> None:
    """Run what is missing of this part (number, of how many) of the campaign."""
    import torch

    number, parts = part
    if parts > 1:
        torch.set_num_threads(1)
    table = clips_of(work)
    groups: dict[str, list[tuple[tuple[str, ...], str, int]]] = {}
    for one in wanted(what):
        groups.setdefault(phase_1_key(work, table, *one), []).append(one)  # what shares a phase 1 stays together
    mine = [one for group in list(groups.values())[number - 1 :: parts] for one in group]
    for position, one in enumerate(mine, start=1):
        held_out, variant, seed = one
        key = run_key(work, table, *one)
        if any(row["key"] == key for row in rows_of(RESULTS)):
            continue
        row = run_one(work, table, *one)
        add_row(RESULTS, row)
        found = ", ".join(f"{name} {row['clip'][name]:.3f} (stills {row['still'][name]:.3f})" for name in held_out)
        print(f"{position}/{len(mine)}  {variant}, seed {seed}, without {found}  {row['seconds']} s", flush=True)


def interval(values: list[float]) -> str:
    """Mean with a 95% t interval over runs."""
    from scipy.stats import t

    if len(values) < 2:
        return f"{values[0]:.3f} (1 run)" if values else "-"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.3f} [{mean(values) - half:.3f}, {mean(values) + half:.3f}] ({len(values)} runs)"


def drawn(scores: list[dict[int, Any]], unit: str, names: tuple[str, ...], resamples: int = 2000) -> list[list[float]]:
    """Of each of `scores` (tables by seed) the mean AUC over the forgers `names`: as it is, then of draws of people and of seeds, the same for all."""
    import numpy as np

    seeds = sorted(set.intersection(*(set(one) for one in scores)))
    first = scores[0][seeds[0]]
    people = sorted(first.loc[first["kind"] == "real", "person"].unique())
    rng = np.random.default_rng(1)
    weights = [np.ones(len(people)), *(np.bincount(rng.integers(0, len(people), len(people)), minlength=len(people)) for _ in range(resamples))]
    chosen = [seeds, *(list(rng.choice(seeds, len(seeds))) for _ in range(resamples))]
    number = {person: place for place, person in enumerate(people)}
    found = []
    for one in scores:
        wins = {}
        for seed in seeds:
            table = one[seed][one[seed]["person"].isin(number)]
            real = table[table["kind"] == "real"]
            for name in names:
                fake = table[table["kind"] == name]
                over = (fake[unit].to_numpy()[:, None] > real[unit].to_numpy()) + 0.5 * (fake[unit].to_numpy()[:, None] == real[unit].to_numpy())
                wins[seed, name] = over, fake["person"].map(number).to_numpy(), real["person"].map(number).to_numpy()

        def area(seed: int, name: str, weight: Any, wins: Any = wins) -> float:
            over, fakes, reals = wins[seed, name]
            each = weight[fakes][:, None] * weight[reals]
            return float((over * each).sum() / each.sum()) if each.sum() else float("nan")

        found.append([float(np.nanmean([area(seed, name, weight) for seed in set_ for name in names])) for weight, set_ in zip(weights, chosen, strict=True)])
    return found


def percentiles(values: list[float]) -> str:
    """The first value, with the 95% interval of the others."""
    import numpy as np

    low, high = np.nanpercentile(values[1:], [2.5, 97.5])
    return f"{values[0]:.3f} [{low:.3f}, {high:.3f}]"


def rows_to_show(work: Path) -> list[dict[str, Any]]:
    """The rows that today's code would make of the media prepared in `work`; where none are, the newest row of each run, whatever made it."""
    rows = [row for row in rows_of(RESULTS) if "scores" in row]
    if prepared(work):
        table = clips_of(work)
        today = {run_key(work, table, *one) for one in wanted("all")}
        return [row for row in rows if row["key"] in today]
    return list({(tuple(row["held_out"]), row["variant"], row["seed"]): row for row in rows}.values())


def of_other_versions(rows: list[dict[str, Any]]) -> Counter[str]:
    """How many of the rows the stages of another version than today's made, by what was run."""
    from workspace.profiles import compose_params
    from workspace.settings import parse_settings

    today = versions_of(parse_settings(yaml.safe_load(compose_params("small"))).stage_versions)
    return Counter(kind_of(row) for row in rows if row.get("versions") != today)


def kind_of(row: dict[str, Any]) -> str:
    """What a row belongs to, in words."""
    held_out = tuple(row["held_out"])
    what = "one forger held out" if len(held_out) == 1 else "ablation" if held_out == ABLATION_ON else "forger by forger"
    return f"{what}, {row['variant']}"


def prepared(work: Path) -> bool:
    """Whether the faces and every forger's fakes of them are there."""
    return (work / "params.yaml").is_file() and all((work / "forged" / name / "made-of").is_file() for name in FORGERS)


def show(work: Path) -> None:
    """The tables. Intervals are percentiles over draws of people and of seeds, paired where two variants are compared."""
    rows = rows_to_show(work)
    if not rows:
        print(f"No run of today's code, settings and media in {RESULTS.name}.")
        return
    if not prepared(work):
        print(f"As recorded in {RESULTS.name}. Whether today's settings and media make these rows only their media can tell: `prepare` them, then show again.")
        for kind, runs in sorted(of_other_versions(rows).items()):
            print(f"  {runs} of other versions of the stages than today's, not to be put beside the rest: {kind}")
    scores = {(tuple(row["held_out"]), row["variant"], row["seed"]): unpacked(row["scores"]) for row in rows}

    def by_seed(held_out: tuple[str, ...], variant: str) -> dict[int, Any]:
        return {seed: one for (held, kind, seed), one in scores.items() if (held, kind) == (held_out, variant)}

    print(f"{rows[0]['n_real']} real clips of {rows[0]['people']} people. One forger held out, all others in training ({STEPS} + {FIT_STEPS} steps a run)")
    each = {name: by_seed((name,), "base") for name in HELD_OUT if by_seed((name,), "base")}
    for unit in UNITS:
        values = {name: drawn([tables], unit, (name,))[0] for name, tables in each.items()}
        complete = len(values) == len(HELD_OUT)
        of_all = percentiles([mean(column) for column in zip(*values.values(), strict=True)]) if complete else f"{len(values)} of {len(HELD_OUT)} were run"
        print(f"  AUC over {UNITS[unit]}, mean of the forgers: {of_all}")
        for name, column in values.items():
            print(f"    {name:<20} {percentiles(column)}  (seeds: {len(each[name])})")
        kept = [row[unit]["kept"] for row in rows if len(row["held_out"]) == 1 and row["variant"] == "base"]
        if kept:
            print(f"    generated clips that are kept for evaluation, by run: {min(kept):.2f} to {max(kept):.2f}, mean {mean(kept):.2f}")
    print("Forger by forger: trained on the one of the row alone, a line a seed; AUC over clips on the one of the column")
    print(f"    {'':<18}{''.join(f'{name[:16]:>18}' for name in FORGERS)}")
    for name in FORGERS:
        for seed, one in by_seed(all_but(name), "base").items():
            areas = [drawn([{seed: one}], "clip", (other,), resamples=0)[0][0] for other in FORGERS]
            print(f"    {name:<18}{''.join(f'{area:>18.3f}' for area in areas)}")
    print(
        f"Ablation, held out together: {', '.join(ABLATION_ON)}. Mean AUC of the two over clips; what the change costs against base: clips, stills, clips coded"
    )
    base = by_seed(ABLATION_ON, "base")
    for variant in VARIANTS:
        tables = by_seed(ABLATION_ON, variant)
        if not tables or not set(base) & set(tables):
            continue
        costs = []
        for unit in UNITS:
            ours, theirs = drawn([base, tables], unit, ABLATION_ON)
            costs.append(percentiles([one - other for one, other in zip(ours, theirs, strict=True)]))
        print(f"    {variant:<32} {percentiles(drawn([tables], 'clip', ABLATION_ON)[0])}  {'' if variant == 'base' else '  '.join(costs)}")
    both = {(row["variant"], row["seed"]): row for row in rows if tuple(row["held_out"]) == ABLATION_ON}
    print("What quality does, t intervals over seeds: poor copies of reals against reals (0.5: nothing); held-out fakes as they are against poor reals")
    for variant in VARIANTS:
        mine = [row for (kind, _), row in both.items() if kind == variant]
        print(f"    {variant:<32} {interval([row['poor'] for row in mine])}  {interval([mean(row['against'].values()) for row in mine])}")
    force = f"PGD {ATTACK_STEPS}x{ATTACK_RESTARTS}, transfer of PGD {SENT_STEPS}"
    print(f"Balanced accuracy on {ATTACK_CLIPS} clips, fakes by all forgers, by eps in levels of 255, t over seeds")
    print(f"    white-box {force}, noise, the attacker's own model")
    for variant in ATTACKED:
        mine = [row for (kind, _), row in both.items() if kind == variant]
        if mine:
            print(f"    {variant:<32} clean AUC on the held-out forgers {interval([mean(row['clip'][name] for name in ABLATION_ON) for row in mine])}")
        for eps in ATTACK_EPS if mine else ():
            found = [interval([row[way][_level(eps)] for row in mine]) for way in ("whitebox", "transfer", "noise", "attacker")]
            print(f"    {variant:<32} {_level(eps):>6}  {'  '.join(found)}")


def marks(work: Path) -> None:
    """A table of pipelines/nuisance.py's statistics of the middle frame, fakes less the reals they were made from, training side alone.

    Each in standard deviations over reals, behind it the part of MARKED pairs in which the fake has more: near 0 or 1 a network has a mark to go by.
    """
    import numpy as np

    from model.data import ClipDataset
    from pipelines.nuisance import STATISTICS, statistics

    table = clips_of(work)
    table = table[table["side"] == "train"].reset_index(drop=True)
    clips = ClipDataset(work, table.drop(columns="landmarks"), settings_of(work).faces.size_px)
    place, rng = {clip_id: number for number, clip_id in enumerate(table["clip_id"])}, np.random.default_rng(1)

    def seen(number: int) -> Any:
        clip = clips.clip(int(number))
        return np.array(statistics(clip[len(clip) // 2]))

    def drawn(members: Any) -> Any:
        return rng.choice(members, min(MARKED, len(members)), replace=False)

    spread = np.std([seen(number) for number in drawn(np.flatnonzero(table["forger"] == ""))], axis=0)
    sources = table["source_clip"].map(place)
    found = {}
    for name in FORGERS:
        pairs = drawn(np.flatnonzero((table["forger"] == name) & sources.notna()))
        found[name] = np.array([seen(number) - seen(sources[number]) for number in pairs])
    print(f"{'':24}" + "".join(f"{name:>18}" for name in FORGERS))
    for column, statistic in enumerate(STATISTICS):
        cells = [(many[:, column].mean() / spread[column], (many[:, column] > 0).mean()) for many in found.values()]
        print(f"{statistic:24}" + "".join(f"{f'{mean:+.2f} ({share:.2f})':>18}" for mean, share in cells))


def main() -> None:
    """Parse and do."""
    in_the_environment_of_a_stage()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["prepare", "run", "show", "marks"])
    parser.add_argument("table", type=a_file, nargs="?")
    parser.add_argument("--work", type=Path, default=Path("forgers-work"))
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--what", choices=["one", "ablation", "matrix", "start", "all"], default="all")
    parser.add_argument("--part", default="1/1", help="which part of the runs, of how many, e.g. 2/2")
    arguments = parser.parse_args()
    if arguments.verb == "prepare":
        if arguments.table is None:
            parser.error("name the CSV of the faces")
        prepare(arguments.table, arguments.work, arguments.size)
    elif arguments.verb in ("run", "marks") and not prepared(arguments.work):
        parser.error(f"{arguments.work} has no media yet: run `prepare LABELS.csv` first, or name its folder with --work")
    elif arguments.verb == "marks":
        marks(arguments.work)
    elif arguments.verb == "run":
        number, parts = (int(word) for word in arguments.part.split("/"))
        run(arguments.work, arguments.what, (number, parts))
    else:
        show(arguments.work)


if __name__ == "__main__":
    main()
