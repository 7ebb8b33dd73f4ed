"""What benchmarks run from outside: the command line, and one Prefect server for many cycles."""

import json
import os
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
UNDONE = "Nothing was measured, and no row was written."
# the blocks of the settings that decide what a cycle's model is and how it is measured
DECIDING = ("seed", "faces", "validate", "forge", "augment", "budget", "split", "model", "pretrain", "harden", "train", "evaluate", "gates", "stage_versions")


def vigil(*words: object, shown: bool = False) -> subprocess.CompletedProcess[str]:
    """One verb of the command line, which has to end well (0, or 3 for held), else the script ends; `shown` lets it speak to the terminal."""
    done = subprocess.run([sys.executable, "-m", "vigil", *map(str, words)], capture_output=not shown, text=True)
    if done.returncode not in (0, 3):
        said = "" if shown else f":\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        sys.exit(f"vigil {' '.join(map(str, words))} ended with {done.returncode}{said}")
    return done


@contextmanager
def one_prefect_server(home: Path) -> Iterator[None]:
    """One Prefect server for all cycles inside, its files in `home`: a cycle that starts its own does so for ten seconds."""
    from flows.schedule import prefect_server

    os.environ["PREFECT_HOME"] = str(home / "prefect")
    try:
        with prefect_server(home):
            yield
    finally:
        del os.environ["PREFECT_HOME"]


def code_hash(*more: str) -> str:
    """First 12 digits of a hash over the code, settings and pins that a cycle and its service run: rows of different code do not belong into one
    table unsaid. `more` are the files of a benchmark that decide what its rows mean.
    """
    rooms = ("media", "model", "pipelines", "flows", "workspace", "feedback", "vigil")
    files = sorted(path for room in rooms for path in (HOME / room).rglob("*") if path.suffix in (".py", ".yaml", ".j2"))
    return _hash(b"", [*(HOME / name for name in ("params.yaml", "dvc.yaml", "requirements.txt", *more)), *files])


# (stage, version) -> the version whose results it has wherever these scripts look, and why: what was measured then still stands
STANDS_FOR = {
    ("faces", 6): (5, "pixels that are not square, mirrored and joined videos, marked AVIFs: nothing that is rendered has any"),
    ("faces", 9): (8, "false time stamps and packets that nobody can read hide no other picture: no video here has any"),
    ("faces", 10): (9, "a header that says up to a tenth too much is not believed either: no video here has one"),
    ("faces", 11): (10, "two people who take turns in one place across cuts are two the sooner: no labelled video here has such"),
    ("faces", 12): (11, "people across cuts are told apart by their edges too: no labelled video here has two in one place"),
    ("faces", 13): (12, "photos of rarer kinds stand upright, rarer videos are read in order and to their end: there is none of them here"),
    ("faces", 14): (13, "frames more than 0.3 s apart are followed as windows are: no clip here has any"),
    ("faces", 15): (14, "whether a scene went on is asked of where one clip ends and the next begins: no video here has a cut"),
    ("faces", 16): (15, "of interlaced video one field is looked at, and AVI and WMV are read to their end: no video here is any of these"),
    ("faces", 17): (16, "photos in the colours of their profile, joined streams, rarer matrices and shapes of pixels: nothing here has any"),
    ("validate", 3): (2, "an empty file beside the media is no medium: there is none here"),
    ("validate", 4): (3, "a damaged file by a rarer name of a medium counts: there is none here"),
    ("validate", 5): (4, "other words, and what faces said of the files that fail"),
    ("validate", 6): (5, "thumbnails are counted apart from what does not decode: nine in ten, as was asked of both everywhere here"),
    ("forge", 9): (8, "refuses a plugin's copies of what it was given: no script here has a plugin"),
    ("forge", 10): (9, "an exported generator's face may talk in place of a video: no script here has one"),
    ("forge", 11): (10, "a fake's looks are measured on itself, and drawn people are lit, cut and coded otherwise: no figure here comes from either"),
    ("forge", 19): (18, "sums in another order: one pixel in 300,000 differs by one level"),
    ("forge", 20): (19, "of a clip without colours the fake has none: there is no such clip here"),
    ("forge", 21): (20, "refuses a plugin's frames that are others of the clip: no script here has a plugin"),
    ("pretrain", 9): (8, "noise is looked up and the optimiser steps in one pass: other draws and other last bits, the same recipe"),
    ("pretrain", 15): (14, "a new maker's few clips in a small week are drawn more seldom: no week here has such a maker"),
    ("pretrain", 16): (15, "a changed prior of the attention is trained with beside a champion: no script here changes it"),
    ("train", 11): (10, "the card counts people where it says whether a rate can be shown: the model and its threshold are the same"),
    ("train", 12): (11, "an offset moves every p_fake of a model alike: the weights and all that order tells are the same, ECE (`learning` shows it) is not"),
    ("train", 13): (12, "as pretrain 9"),
    ("train", 14): (13, "the odds of several faces are averaged: no set here has a video of several, but partial.py's, whose rows name their model"),
    ("train", 15): (14, "a few videos of a rare class move the offset less: no validation here has a rare class, and the weights are the same"),
    ("train", 18): (17, "another prior of the offset: as train 12"),
    ("train", 20): (18, "hardened clips take places of either half of a batch alike: the demo has a dozen, forgers.py says HARDENED_BY"),
    ("train", 28): (27, "an int8 network's heads and attention stay as they are: no script here asks for int8"),
    ("evaluate", 18): (17, "an AUC of 1 in every draw has no ends, and the report names its attacks: no figure here comes from either"),
    ("evaluate", 19): (18, "ECE counts classes alike: none here is of classes of unlike size but `learning`'s, which is of before"),
    ("evaluate", 20): (19, "as train 14"),
    ("evaluate", 23): (22, "log-loss and Brier count classes alike, few people have a larger spread: figures of gates.py alone come from either"),
    ("evaluate", 24): (23, "figures on validation are of the media that are judged: none here is of validation"),
    ("evaluate", 25): (24, "a holdout without reals has no F1, where it had 0: no set here is without"),
    ("train", 23): (22, "a card's log-loss and Brier count classes alike: the model and its threshold are the same"),
    ("train", 24): (23, "as pretrain 15"),
    ("train", 25): (24, "a fraction of a batch that is no whole number of clips is attacked over several: every one here is whole"),
    ("assemble", 14): (13, "where generators outnumber the places others are replayed, small batches stand in by every forger: the same recipe"),
    ("assemble", 15): (14, "nameless files, answers, and people whom the champion knows under another name stand where they should: no media here have such"),
    ("pretrain", 17): (16, "a bound on how often few clips come holds beside their reals too: batches of tables like these are the same"),
    ("train", 26): (25, "what stands out is weighed from midway between the levels: the weights are the same, and that lay within 0.3 of 0 where it was noted"),
    ("train", 27): (26, "where the frame head has no part in a clip's logit its certainty weighs no clip: it has one in every network here"),
    ("evaluate", 26): (25, "as train 26; and people with unlike numbers of videos have fewer degrees of freedom: every one here has as many as the others"),
    ("evaluate", 27): (26, "one person with most of the videos hides no spread, there is none here; what the attacker itself gets right is told at its border"),
    ("evaluate", 28): (
        27,
        "balanced accuracy has wider ends where no draw moves recall or the false-positive rate; own forgeries are told: no figure here is either",
    ),
    ("evaluate", 29): (28, "grey copies of the reals are probed too: no other figure differs"),
    ("evaluate", 31): (
        30,
        "against a champion clips that were there before the cycle are attacked, not new ones too: no figure here is of attacked clips; "
        "a week that gate robustness held, or let pass, might end otherwise",
    ),
    ("evaluate", 32): (31, "timed by the clips of a model's own mode, Square begins once: every script here has the usual mode, and none has Square"),
    ("evaluate", 33): (32, "fakes that name no generator are new until there are enough: every one here names its own"),
    ("evaluate", 34): (33, "few people of a slice are judged by themselves too, pose is told whichever way: every slice here has more of a class, or none"),
    ("evaluate", 30): (29, "shares and precision at a prevalence have wider ends: no figure here is either"),
    ("evaluate", 36): (35, "one person with very many videos hides nothing that the others show: no set here has such a person"),
    ("evaluate", 35): (34, "the chance in the gate's ECE is drawn otherwise: no script tells it, and what gates.py plants it refuses as before"),
    ("assemble", 10): (9, "names are compared however their accents are typed: no name here has one"),
    ("assemble", 11): (10, "a forger that arrives later is not drawn: no script here has one"),
    ("assemble", 12): (11, "a nameless fake counts with the person of its source video: no table here names people of its reals alone"),
    ("harden", 3): (2, "an eps of n/255 in five digits keeps its last level: that of the scripts is 0.05"),
    ("assemble", 13): (12, "files of one path in several sources are told apart: every script here has one source"),
    ("gate", 14): (13, "other words"),
    ("gate", 15): (14, "people who all differ alike to the last digit are weighed by a sign test: only a slice of few people ever shows that"),
    ("gate", 16): (15, "other words"),
    ("gate", 17): (16, "other words"),
    ("gate", 19): (18, "one person with most of the videos hides no spread, there is none here; other words where people are few"),
    ("gate", 20): (19, "other words"),
    ("gate", 23): (22, "other words"),
    ("gate", 24): (23, "as evaluate 36"),
    ("assemble", 16): (
        15,
        "what is made of left-out, erased or dropped files, and nameless fakes of named people: every file here names its person, and none of these is",
    ),
    ("assemble", 18): (
        17,
        "what a batch on hold says counts, a mended name stands wherever its file lies, no copy of what was learned judges: no script here has such",
    ),
    ("assemble", 17): (16, "files of one path in several batches of one source are told apart: every file here is named by its person"),
    ("forge", 22): (21, "as assemble 16"),
    ("gate", 22): (21, "people who all lose alike prove no less than if one of them were spared: as gate 15"),
    ("gate", 21): (20, "a gate that has nobody to judge says so: every holdout here has both classes"),
    ("drift", 21): (
        20,
        "label noise counts people by what their videos weigh, and each once where one has very many: weeks of gates.py are the same to the digit, of others "
        "one that label noise held, or let pass, might end otherwise",
    ),
    ("drift", 20): (
        19,
        "a side's second draw goes by an order of its own, media without a label are compared at their share of fakes: no figure here comes from the drift "
        "test; a week that it held, or let pass, might end otherwise",
    ),
    ("drift", 19): (18, "label noise asks of fakes that name no generator too: every one here names its own"),
    ("drift", 18): (
        17,
        "known generators weigh as they came in for label noise: every week here has one mixture, and of 30 weeks each with none, 2%, 3% and 5% of "
        "the labels flipped the same 0, 4, 14 and 29 are held; an accuracy that is estimated is of all that came in: no figure here comes from it",
    ),
    ("drift", 16): (15, "label noise counts the people of each label apart: every week here has many of each"),
    ("drift", 15): (14, "what is contradicted of each batch is said beside the test: the test is the same"),
    ("drift", 14): (13, "a label that comes of one person is left out of label noise beside another: no week here has one"),
    ("drift", 9): (8, "as train 14"),
    ("drift", 13): (12, "an accuracy that is estimated has a wider interval: no figure here comes from it"),
    ("drift", 10): (9, "reals are weighed against reals for label noise, and the share of fakes is estimated: no figure here comes from either"),
}


def telling_versions(versions: Mapping[str, int]) -> dict[str, int]:
    """The versions of the stages, each as the first whose results it has."""
    found = {}
    for stage, version in versions.items():
        while (stage, version) in STANDS_FOR:
            version = STANDS_FOR[stage, version][0]
        found[stage] = version
    return found


def recipe_hash(profile: str, *about: object) -> str:
    """First 12 digits of a hash over what decides the models of a cycle on rendered media: the settings of a profile that reach them, with the versions
    of the stages (raised where a stage's result would change, which a test of the suite watches), the renderer, and what else they are `about`.
    """
    import yaml

    from workspace.profiles import compose_params

    settings = yaml.safe_load(compose_params(profile))
    settings["stage_versions"] = telling_versions(settings["stage_versions"])
    told = json.dumps([{name: settings[name] for name in DECIDING}, *map(repr, about)], sort_keys=True)
    return _hash(told.encode(), sorted((HOME / "media" / "synthetic").rglob("*.py")))


def _hash(told: bytes, files: list[Path]) -> str:
    import hashlib

    digest = hashlib.sha256(told)
    for path in files:
        digest.update(f"{path.relative_to(HOME)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def a_file(word: str) -> Path:
    """A path that has to be a file's, made absolute, for argparse."""
    if not Path(word).is_file():
        raise ArgumentTypeError(f"there is no file {word}")
    return Path(word).absolute()


def count(word: str) -> int:
    """A whole number of 1 or more, for argparse: of nothing nothing is measured, and a row of it would be the newest."""
    if not word.isdecimal() or int(word) < 1:
        raise ArgumentTypeError(f"{word} is no count.\n  Why:  it is to be a whole number, and of nothing nothing is said.\n  Next: give 1 or more. {UNDONE}")
    return int(word)


def one_of(names: Collection[str], fits: Callable[[str, str], bool] = str.__eq__) -> Callable[[str], str]:
    """A word that one of the names `fits` (name, word), for argparse."""

    def checked(word: str) -> str:
        if not any(fits(name, word) for name in names):
            raise ArgumentTypeError(f"there is no {word!r} here.\n  Why:  known are {', '.join(names)}.\n  Next: give one of these. {UNDONE}")
        return word

    return checked


def a_model(word: str) -> Path:
    """A model's folder, for argparse."""
    if not (Path(word) / "card.json").is_file():
        raise ArgumentTypeError(f"{word} is no model.\n  Why:  it has no card.json.\n  Next: give a folder such as model/starter. {UNDONE}")
    return Path(word)


def champion_of(workspace: Path) -> Path:
    """The folder of a workspace's champion; the script ends where it has none."""
    from vigil.scoring import choose_model
    from workspace.errors import VigilError

    try:
        folder, mark = choose_model(workspace, None)
    except VigilError as problem:
        sys.exit(str(problem))
    if mark:
        sys.exit(f"{workspace} has no champion, and its {mark} model is not what this is about.")
    return folder


def in_the_environment_of_a_stage() -> None:
    """Start this script again with the memory and thread settings that stages are started with; the C library reads them at a start only."""
    from workspace.quiet import MEMORY, set_quiet_environment

    if not MEMORY.keys() <= os.environ.keys():
        set_quiet_environment()
        os.execv(sys.executable, [sys.executable, *sys.argv])
