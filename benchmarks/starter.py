"""Train the starter model: real faces and forgeries of them, no deepfake of the outside world.

    python benchmarks/starter.py LABELS.csv [--work FOLDER] [--out model/starter]      resumable: the same command goes on
    python benchmarks/starter.py LABELS.csv --refit [...]    the network at --out stays; what is fitted on validation is fitted anew, and all is measured again

It is one ordinary cycle: `vigil init --profile small --recipe starter`, `vigil ingest`, `vigil retrain`. Rows of the table with
`use` evaluate are never trained on; the model is measured on those fakes against the real people of the holdout, and
besides against those of validation too, on whose real media the threshold and the moment to stop were. The figures go into the model's own README.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.commands import a_file, vigil  # noqa: E402
from pipelines.sides import JUDGED, SIDES, decide_sides  # noqa: E402
from workspace.cycle import read_cycle  # noqa: E402
from workspace.journal import Journal  # noqa: E402
from workspace.settings import Settings, load_settings  # noqa: E402
from workspace.state import candidates  # noqa: E402

KEPT = ("model.safetensors", "model.onnx")
REFIT_STEPS = 2  # of the network whose place the one that is fitted anew takes
BEFORE = "before"  # in the work folder: the starter whose place the new one takes
PUBLISHED = ("mobile_stylegan",)  # forgers that no recipe here trains on


def samples_of(work: Path, settings: Settings) -> list[dict[str, Any]]:
    """The samples of the one batch in `work` that the cycle may use, as their faces' report has them, each with its `side`: what a table says is not yet that.

    Names are composed there, near duplicates are left out, and who is shown in a nameless file is known.
    """
    (report,) = (work / "data" / "faces").glob("*/report.json")
    samples = json.loads(report.read_text())["samples"]
    sides = decide_sides([samples], settings.split).of_sample
    return [sample | {"side": sides[sample["sample_id"]]} for sample in samples if sample["sample_id"] in sides]


def measured_sets(table: Path, work: Path, settings: Settings, out: Path) -> dict[str, Path]:
    """Tables of the fakes kept for evaluation and real media of people who were not trained on, with a still of each clip, copied to `out`.

    `holdout`: reals of the holdout alone; `stills`: of these the stills alone, real and fake made the same way; `all`: those of validation too.
    Photos of nobody known stay out. A still is the frame in the middle of the clip.
    """
    from media.decode import probe, read_frames

    samples = samples_of(work, settings)
    kept = [sample for sample in samples if sample["label"] == "fake" and sample["use"] == "evaluate"]
    kept += [sample for sample in samples if sample["label"] == "real" and sample["identity"] and sample["side"] != "train"]
    for sample in kept:
        (out / sample["path"]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table.parent / sample["path"], out / sample["path"])
    stills = []
    for sample in [sample for sample in kept if sample["kind"] == "video"]:
        middle = probe(out / sample["path"]).duration_seconds / 2
        _, picture = next(iter(read_frames(out / sample["path"], [middle])))
        still = Path("stills") / Path(sample["path"]).with_suffix(".png")
        (out / still).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(out / still), np.ascontiguousarray(picture[..., ::-1]))
        stills.append(sample | {"path": still.as_posix()})

    unseen = [sample for sample in [*kept, *stills] if sample["side"] == "holdout"]
    sets = {"holdout": unseen, "stills": [sample for sample in stills if sample["side"] == "holdout"], "all": [*kept, *stills]}
    for name, chosen in sets.items():
        with open(out / f"{name}.csv", "w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ("path", "label", "use", "identity", "generator"), extrasaction="ignore")
            writer.writeheader()
            writer.writerows(chosen)
    return {name: out / f"{name}.csv" for name in sets}


class Measured:
    """Clips of known people of validation and holdout, scored by a model and, where there is one, by the starter `before` it on the very same pixels.

    Two cards cannot be compared where the forgers changed in between.
    """

    def __init__(self, work: Path, settings: Settings, model: Path, before: Path | None) -> None:
        from model.inference import Engine

        self.work, self.settings = work, settings
        self.engines = [Engine(one) for one in (model, before) if one]
        (self.batch,) = (folder.name for folder in (work / "data" / "faces").iterdir() if folder.is_dir())
        self.people = {one["sample_id"]: one["identity"] for one in samples_of(work, settings) if one["identity"] and one["side"] != "train"}
        self.real_clips = self._scored(work / "data" / "faces" / self.batch, "clip_id")

    def by_forger(self) -> dict[str, dict[str, Any]]:
        """AUC over clips of each forger, in the recipe (`met`) or not: its fakes against the clips that these were made from.

        The forgeries are made in `work`/by-forger, so that the cycle's own stay as they were.
        """
        from benchmarks.forgers import FORGERS, settings_of
        from pipelines import forge

        apart, known = self.work / "by-forger", self.settings.forge.forgers
        (apart / "data").mkdir(parents=True, exist_ok=True)
        if not (apart / "data" / "faces").exists():
            (apart / "data" / "faces").symlink_to((self.work / "data" / "faces").resolve(), target_is_directory=True)
        found = {}
        for name in sorted({*FORGERS, *PUBLISHED, *known}):
            forge.run(apart, settings_of(self.work, {"forge": {"forgers": [name], "fakes_per_real": 1.0}}), self.batch, JUDGED)
            forged = self._scored(apart / "data" / "forged" / self.batch, "source_clip")
            found[name] = {"met": name in known} | self._against([self.real_clips[clip] for clip in forged], list(forged.values()))
        return found

    def copies(self) -> dict[str, dict[str, Any]]:
        """AUC of poor and of grey copies of the reals against the reals: 0.5 is right. The probes of a report ask the same of fewer clips."""
        from pipelines.probes import grey_picture, poor_picture

        faces, reals = self.work / "data" / "faces" / self.batch, list(self.real_clips.values())
        return {
            name: self._against(reals, list(self._scored(faces, "clip_id", spoil).values())) for name, spoil in (("poor", poor_picture), ("grey", grey_picture))
        }

    def _scored(self, folder: Path, clip: str, spoil: Callable[[Any], Any] | None = None) -> dict[str, tuple[str, tuple[float, ...]]]:
        """(person, p_fake by each model) of each clip of a known person who was not trained on, by the id in column `clip`."""
        from media.shards import read_clip_at, read_index

        rows = [row for row in read_index(folder).to_dict("records") if row["use"] != "evaluate" and row["sample_id"] in self.people]
        clips = [read_clip_at(folder, row) for row in rows]
        clips = [spoil(one) for one in clips] if spoil else clips
        scores = zip(*(engine.score_clips(clips) for engine in self.engines), strict=True)
        return {row[clip]: (self.people[row["sample_id"]], tuple(one.p_fake for one in told)) for row, told in zip(rows, scores, strict=True)}

    def _against(self, reals: list[tuple[str, tuple[float, ...]]], others: list[tuple[str, tuple[float, ...]]]) -> dict[str, Any]:
        """AUC of `others`, taken as fake, against `reals`, drawn by whole people; `auc_before` is that of the starter before."""
        from model.intervals import summarise_with_intervals

        labels, people = ["real"] * len(reals) + ["fake"] * len(others), [person for person, _ in [*reals, *others]]
        told = [
            summarise_with_intervals(labels, [p_fake[which] for _, p_fake in [*reals, *others]], people, engine.card.threshold, resamples=1000)
            for which, engine in enumerate(self.engines)
        ]
        areas = {name: one["auc"].as_dict() for name, one in zip(("auc", "auc_before"), told, strict=False)}
        return {"n_real": len(reals), "n_fake": len(others), "people": len(set(people))} | areas


def keep_before(work: Path, out: Path) -> None:
    """Copy the starter that lies at `out`, once, before another takes its place."""
    if not (work / BEFORE).exists() and (out / "card.json").exists():
        shutil.copytree(out, work / BEFORE)


def starter_before(work: Path, card: dict[str, Any]) -> Path | None:
    """The starter that was kept; None where none was or it is the one of this card, or sees clips of another size."""
    if not (work / BEFORE).exists():
        return None
    kept = json.loads((work / BEFORE / "card.json").read_text())
    return work / BEFORE if kept["model_sha256"] != card["model_sha256"] and kept["faces"] == card["faces"] else None


def package(work: Path, out: Path) -> dict[str, Any]:
    """Copy the last candidate to `out`; the card keeps the hash of the training clips, not their list. Returns the card."""
    made = list(candidates(Journal(work).events()).values())[-1]
    folder = work / made.path
    out.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        shutil.copyfile(folder / name, out / name)
    card: dict[str, Any] = json.loads((folder / "card.json").read_text())
    card["train_clips"] = []
    (out / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return card


def shorten(params: Path) -> None:
    """Have the cycle of a workspace train REFIT_STEPS steps."""
    settings = yaml.safe_load(params.read_text(encoding="utf-8"))
    settings["pretrain"]["steps"] = settings["train"]["steps"] = REFIT_STEPS
    params.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")


def refit(work: Path, out: Path) -> dict[str, Any]:
    """Fit levels, temperature, offset and threshold of the network at `out` anew, on the validation videos of the cycle in `work`; returns the card.

    For when the rule changes by which clips become a video's verdict. That cycle's own network, of REFIT_STEPS steps, makes place for this one, which is also
    what its reports are about then.
    """
    from pipelines import evaluate, train

    settings, cycle, folder = load_settings(work / "params.yaml"), read_cycle(work), work / train.FOLDER
    before: dict[str, Any] = json.loads((out / "card.json").read_text())
    for name in KEPT:
        shutil.copyfile(out / name, folder / name)
    history = {"model_sha256": before["model_sha256"], "best_step": before["metrics"]["best_step"], "best_loss": before["metrics"]["validation_loss"]}
    calibration = train.write_model_card(work, settings, cycle, train.training_rows(work), history)
    fitted = {name: calibration[name] for name in ("levels", "temperature", "offset", "threshold")}
    card = before | fitted | {"metrics": before["metrics"] | {"calibration": calibration, "refitted": True}}
    for place in (out, folder):
        (place / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    evaluate.run(work, settings, cycle)
    return card


def describe(
    card: dict[str, Any], reports: dict[str, dict[str, Any]], own: dict[str, Any], figures: dict[str, Any], samples: list[dict[str, Any]], out: Path
) -> str:
    """The starter's README: what it is, what it was trained on, how well it does, where it fails, on what terms."""
    reals, by_forger = [sample for sample in samples if sample["label"] == "real"], figures["by_forger"]
    clips, photos = (sum((sample["kind"] == "image") == photo for sample in reals) for photo in (False, True))
    people, training = (len({one["identity"] for one in reals if one["identity"] and one["side"] in sides}) for sides in (SIDES, ("train",)))

    def line(name: str, part: dict[str, Any]) -> str:
        area, found, alarms = (part.get(figure) or {} for figure in ("auc", "recall", "fpr"))
        return f"| {name} | {part['n_real']} | {part['n_fake']} | {_shown(area)} | {_shown(found)} | {_shown(alarms)} |"

    def told(name: str, part: dict[str, Any]) -> str:
        before = _shown(part["auc_before"]) if "auc_before" in part else "-"
        return f"| `{name}` | {'yes' if part['met'] else 'never'} | {part['n_real']} | {part['n_fake']} | {part['people']} | {_shown(part['auc'])} | {before} |"

    report = reports["holdout"]
    parts = {"all": report["overall"]} | {f"{kind}s": part for kind, part in report["by_kind"].items()}
    parts |= {"stills of clips, real and fake": reports["stills"]["overall"]}
    parts |= {f"generator {name}": part for name, part in report["by_generator"].items()}
    parts |= {f"with the people of validation: {kind}s": part for kind, part in reports["all"]["by_kind"].items()}
    faces, ours = card["faces"], own["overall"]["challenger"]
    probes = {kind: next((row for row in own["probes"]["rows"] if row["name"].startswith(f"{kind} copies")), {}) for kind in ("poor", "grey")}
    return f"""# The starter model

So that `vigil score clip.mp4` answers on a fresh checkout, offline. It is one cycle of the loop and no more: train your own on
your media before you rely on a verdict. Model `{card["model_sha256"][:12]}`, {card["model"]["backbone"]} at {faces["size_px"]} px,
{faces["clip_frames"]} frames a clip, seed {card["seed"]};
both weight files together {sum(path.stat().st_size for path in out.glob("model.*")) / 1e6:.1f} MB.

    python benchmarks/starter.py LABELS.csv

gives the same weights, byte for byte, from the same code, packages, media and kind of processor.{_refitted(card)}

## Data

{clips} clips and {photos} photos of real faces ({people} people known by name, the photos' people mostly unknown), from example and test folders of public
research repositories; {training} of the known people train. Every fake in training was forged by this project from those faces
({", ".join(card["generators_seen"])}).
It has never seen a deepfake from outside.{_started(card["model"])}

## Figures

On clips of generators that it never met, and a still of each, against real media of people of the holdout; the
last rows have the people of validation too, on whose real media the threshold was set. 95% intervals by
drawing whole people. Its backbone and its forgers were chosen by forgers and people that were left out of
trials, people of this holdout among them; how earlier recipes and trials did on these very fakes was seen (docs/trials.md).

| what | real | fake | AUC | recall | false-positive rate |
|---|---|---|---|---|---|
{chr(10).join(line(name, part) for name, part in parts.items())}

Forgeries of people of validation and holdout, by the forgers of this project, against the real clips and photos that they stand for; those that it
never met in training first. When training of the others stopped was decided on those of the people of validation.
In the last column the starter that this one took the place of, on the very same fakes:

| forged by | met in training | real | fake | people | AUC over clips | the one before |
|---|---|---|---|---|---|---|
{chr(10).join(told(name, by_forger[name]) for name in sorted(by_forger, key=lambda name: (by_forger[name]["met"], name)))}

On the whole holdout of its cycle ({ours["auc"]["n"]} videos and photos: forgeries of the kinds it knows, and the generated clips): AUC {_shown(ours["auc"])},
recall {_shown(ours["recall"])}, false-positive rate {_shown(ours["fpr"])}, ECE {_shown(ours["ece"])}.
Poor copies of its reals against the reals: AUC {_shown(probes["poor"])}, where 0.5 means that it does not follow picture quality;
grey copies: {_shown(probes["grey"])}, above 0.5 where a black and white picture is called fake.{_copied(figures["copies"])}

{_outside(report["overall"]["auc"])}

## Limits

A few dozen people, most of them speaking to a camera; few skin tones, ages and cameras. An AUC whose interval holds 0.5 says nothing about
those fakes; one below it takes them for more real than real video. Its `p_fake` is calibrated on forgeries of this project, not on the fakes of the day.

## Terms

These weights are for research and evaluation only, whatever the licence of the code: several of the media they were trained on
were published on such terms. Do not use them to decide about a person.
"""


def _refitted(card: dict[str, Any]) -> str:
    return "\nIts levels, temperature, offset and threshold were fitted anew since then (`--refit`)." if card["metrics"].get("refitted") else ""


def _copied(copies: dict[str, dict[str, Any]]) -> str:
    """The same over all clips of people who were not trained on."""
    poor, grey = copies["poor"], copies["grey"]
    told = f"poor {_shown(poor['auc'])}, grey {_shown(grey['auc'])}"
    before = f"; the one before {_shown(poor['auc_before'])} and {_shown(grey['auc_before'])}" if "auc_before" in poor else ""
    return f" Over the {poor['n_real']} clips of the {poor['people']} people of\nvalidation and holdout: {told}{before}."


def _started(model: dict[str, Any]) -> str:
    """What its backbone knew before the first real face."""
    if not model["weights"]:
        return ""
    return (
        f"\nIts backbone did not start from nothing but from published ImageNet weights ({model['backbone']} {model['weights']}, Apache-2.0):\n"
        "photographs of things with their names, no forgery among them."
    )


def _outside(area: dict[str, Any]) -> str:
    """What the AUC on fakes from outside allows to be said."""
    if area["high"] is None or area["low"] is None:
        return "So few cannot show how it does on generated portraits."
    if area["high"] < 0.5:
        return "What it learned from these forgeries does not carry over to generated portraits: it takes them for more real than real media."
    if area["low"] <= 0.5:
        return "On generated portraits it is not better than chance, as far as so few can show."
    return "On generated portraits it is better than chance, though it never met these generators."


def _shown(interval: dict[str, Any]) -> str:
    if interval.get("value") is None:
        return "-"
    return f"{interval['value']:.3f}" + (f" [{interval['low']:.2f}, {interval['high']:.2f}]" if interval.get("low") is not None else "")


def main() -> None:
    """Train, package, measure, describe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=a_file, help="CSV with path,label,use,identity")
    parser.add_argument("--work", type=Path, default=Path("starter-work"))
    parser.add_argument("--out", type=Path, default=HERE.parent / "model" / "starter")
    parser.add_argument("--refit", action="store_true", help="keep the network at --out; fit on validation and measure anew")
    arguments = parser.parse_args()
    vigil("init", arguments.work, "--profile", "small", "--recipe", "starter", shown=True)
    if arguments.refit:
        shorten(arguments.work / "params.yaml")
    settings = load_settings(arguments.work / "params.yaml")
    vigil("ingest", arguments.table, "-w", arguments.work, shown=True)
    if not candidates(Journal(arguments.work).events()):
        vigil("retrain", "-w", arguments.work, shown=True)
    if arguments.refit:
        card = refit(arguments.work, arguments.out)
    else:
        keep_before(arguments.work, arguments.out)
        card = package(arguments.work, arguments.out)
    reports = {}
    for name, table in measured_sets(arguments.table.resolve(), arguments.work, settings, arguments.work / "measured-set").items():
        vigil("evaluate", table, "--model", arguments.out, "--out", arguments.work / f"measured-{name}", shown=True)
        reports[name] = json.loads((arguments.work / f"measured-{name}" / "evaluation.json").read_text())
    measured = Measured(arguments.work, settings, arguments.out, starter_before(arguments.work, card))
    figures = {"seed": card["seed"], "by_forger": measured.by_forger(), "copies": measured.copies()} | {
        name: {"overall": report["overall"], "by_kind": report["by_kind"]} for name, report in reports.items()
    }
    (arguments.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    own = json.loads((arguments.work / "reports" / "evaluation.json").read_text())
    told = describe(card, reports, own, figures, samples_of(arguments.work, settings), arguments.out)
    (arguments.out / "README.md").write_text(told, encoding="utf-8")
    print(f"{arguments.out}: model {card['model_sha256'][:12]}, {sum((arguments.out / name).stat().st_size for name in KEPT) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
