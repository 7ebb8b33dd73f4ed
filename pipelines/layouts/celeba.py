"""CelebA as it is downloaded (Liu et al. 2015): photos of celebrities, all real.

[Img/]img_align_celeba/<number>.jpg      or img_celeba/
[Anno/]identity_CelebA.txt               a line a photo: name, person
[Anno/]list_attr_celeba.txt              number, the 40 names, then a line a photo: name, 1 or -1 for each
[Eval/]list_eval_partition.txt           a line a photo: name, 0 train, 1 validation, 2 test
"""

from pathlib import Path

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

PICTURES = ("img_align_celeba", "Img/img_align_celeba", "img_celeba", "Img/img_celeba")
IDENTITIES, ATTRIBUTES, PARTITION = "identity_CelebA.txt", "list_attr_celeba.txt", "list_eval_partition.txt"
USES = {"0": "", "1": "", "2": "evaluate"}
CARD = Card(
    title="CelebA (Liu et al. 2015)",
    terms="CelebA agreement: non-commercial research; no copies to others",
    where="TensorFlow Datasets' page of celeb_a (202,599 images, 10,177 identities)",
    published={"files": 202599, "people": 10177},
    note="The 40 attributes become slices of the report, `attribute=Male`. Identities are released on request; without identity_CelebA.txt nobody is "
    "known, and such samples only train, but for the test part, which judges.",
)


def recognises(folder: Path) -> bool:
    """Whether one of its tables lies beside a folder of its pictures."""
    return bool(_pictures(folder)) and any(_table(folder, name) for name in (IDENTITIES, ATTRIBUTES, PARTITION))


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every photo. Raises DataError without pictures or without the partition, and for a table that cannot be understood."""
    pictures, partition = _pictures(folder), _table(folder, PARTITION)
    if not pictures or not partition:
        raise DataError(
            f"{folder} is not all of CelebA. Nothing was read from it.",
            why="img_align_celeba/ is missing" if not pictures else f"{PARTITION} is missing: its test photos would be trained on",
            next_step="Name the folder that holds img_align_celeba/ (or Img/) and the tables (or Anno/ and Eval/).",
        )
    uses, people = _pairs(partition), _pairs(_table(folder, IDENTITIES))
    if unknown := sorted(set(uses.values()) - set(USES)):
        raise _refusal(partition, f"it has a part {unknown[0]!r}; parts are 0, 1 and 2")
    attributes = _attributes(_table(folder, ATTRIBUTES))
    listing = Listing(names_people=True, card=CARD)
    for path, parts in each_file(folder, listing, pictures):
        photo = parts[-1]
        person = f"celeba-{people[photo]}" if photo in people else ""
        problem = problem_of(path, folder) or ("" if photo in uses else f"not in {PARTITION}")
        listing.files.append(
            Found(
                path=path,
                name="/".join(parts),
                label="real",
                use=USES[uses.get(photo, "0")],
                identity=person,
                attributes=attributes.get(photo, ""),
                problem=problem,
            )
        )
    gone = sorted(set(uses) - {found.path.name for found in listing.files})
    listing.files += [
        Found(path=folder / pictures / name, name=f"{pictures}/{name}", label="real", use=USES[uses[name]], problem="file not found") for name in gone
    ]
    return listing


def _pictures(folder: Path) -> str:
    return next((place for place in PICTURES if (folder / place).is_dir()), "")


def _table(folder: Path, name: str) -> Path | None:
    return next((place / name for place in (folder, folder / "Anno", folder / "Eval") if (place / name).is_file()), None)


def _lines(table: Path | None) -> list[list[str]]:
    return [line.split() for line in table.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if table else []


def _pairs(table: Path | None) -> dict[str, str]:
    rows = _lines(table)
    if table and (wrong := next((row for row in rows if len(row) != 2), None)):
        raise _refusal(table, f"the line {' '.join(wrong)[:60]!r} is not a name and a number")
    return dict(rows)


def _attributes(table: Path | None) -> dict[str, str]:
    """The names of the attributes that a photo has, by photo, with blanks between."""
    rows = _lines(table)
    if not table or not rows:
        return {}
    names = rows[1] if len(rows) > 1 else []
    if wrong := next((row for row in rows[2:] if len(row) != len(names) + 1 or not set(row[1:]) <= {"1", "-1"}), None):
        raise _refusal(table, f"the line of {wrong[0][:60]!r} has no 1 or -1 for each of {len(names)} attributes")
    return {row[0]: " ".join(name for name, value in zip(names, row[1:], strict=True) if value == "1") for row in rows[2:]}


def _refusal(table: Path, why: str) -> DataError:
    return DataError(f"Cannot use {table}. Nothing was read from it.", why=why, next_step="Download it again.")
