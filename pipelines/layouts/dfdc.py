"""The Deepfake Detection Challenge's training parts as they are downloaded (Dolhansky et al. 2020).

    dfdc_train_part_<N>/metadata.json     {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}, ...}
    dfdc_train_part_<N>/*.mp4

A fake's `original` is the video that was changed, so both carry its name as `source_video` and `identity` and never part. Who is in
a video, and whose face was put in, is not published: `donor` stays empty.
"""

from pathlib import Path
from typing import Any

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of, read_json_table, refuse_incomplete
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

TABLE, PART = "metadata.json", "dfdc_"
LABELS = {"REAL": "real", "FAKE": "fake"}
USES = {"train": "", "validation": "evaluate", "test": "evaluate"}  # the challenge judged on both of the latter
CARD = Card(
    title="DFDC, training parts (Dolhansky et al. 2020)",
    terms="DFDC terms: as accepted at the download; rights of all actors cleared by the publisher",
    where="Dolhansky et al. 2020 (119,154 training clips, 100,000 of them fake)",
    published={"real": 19154, "fake": 100000},
    note="Actors are not named: people are kept apart by original video only, and one actor may have several. "
    "`--identity unknown` lets such samples train and never judge, but for parts that say `split` test or validation.",
)


def recognises(folder: Path) -> bool:
    """Whether the folder, or one in it, is a part with its table."""
    return any(part.name.startswith(PART) or _is_table(part / TABLE) for part in _parts(folder))


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every video of the parts. Raises DataError for a part without its table, or words in it that cannot be understood."""
    parts = _parts(folder)
    if not parts:
        raise DataError(
            f"{folder} is not DFDC.", why=f"neither it nor a folder in it has a {TABLE}", next_step=f"Name the folder that holds the {PART}train_part_N/."
        )
    listing = Listing(names_people=True, card=CARD)
    for part in parts:
        refuse_incomplete(part, (TABLE,), CARD.title, "nobody else knows which of its videos are fake")
        table = read_json_table(part / TABLE, dict)
        top = "" if part == folder else part.name
        named = {f"{top}/{name}" if top else name: _known(part / TABLE, name, about) for name, about in table.items()}
        for path, place in each_file(folder, listing, top):
            name = "/".join(place)
            if path == part / TABLE:
                continue
            known = named.pop(name, None)
            problem = problem_of(path, folder) or ("" if known else f"not in {TABLE}")
            listing.files.append(Found(path=path, name=name, problem=problem, **known or {}))
        listing.files += [Found(path=folder / name, name=name, problem="file not found", **known) for name, known in sorted(named.items())]
    return listing


def _parts(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    if (folder / TABLE).is_file():
        return [folder]
    return sorted(child for child in folder.iterdir() if child.is_dir() and (child.name.startswith(PART) or (child / TABLE).is_file()))


def _is_table(path: Path) -> bool:
    try:
        first = next(iter(read_json_table(path, dict).values()), None)
    except (OSError, DataError):
        return False
    return isinstance(first, dict) and first.get("label") in LABELS


def _known(table: Path, name: str, about: Any) -> dict[str, str]:
    """The columns that an entry of the table gives."""
    about = about if isinstance(about, dict) else {}
    label, split = LABELS.get(str(about.get("label"))), USES.get(str(about.get("split", "train")))
    if label is None or split is None or "/" in name or "\\" in name:
        raise DataError(
            f"Cannot use {table}. Nothing was read from it.",
            why=f"the entry {name[:80]!r} has label {about.get('label')!r} and split {about.get('split')!r}; labels are {', '.join(LABELS)}",
            next_step="Download the part again; the public test set has no labels and cannot be taken in by this layout.",
        )
    original = Path(str(about.get("original") or "")).stem if label == "fake" else Path(name).stem
    group = f"dfdc-{original}" if original else ""
    return {"label": label, "use": split, "identity": group, "source_video": group} | ({"generator": "DFDC"} if label == "fake" else {})
