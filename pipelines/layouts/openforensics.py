"""OpenForensics as it is downloaded (Le et al. 2021): pictures of several people, each face annotated real or fake by its own mask.

    Images/{Train,Val,Test-Dev,Test-Challenge}/*.jpg
    {Train,Val,Test-Dev,Test-Challenge}_poly.json      COCO: images, annotations (one a face), categories Real and Fake

A sample is a picture, and the faces stage gives each face its picture's label. So a picture is real when all its faces are, fake when
all are; one with both is fake, judged on in the test parts, and never trained on: its real faces would be taught as fakes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.layouts.card import Card
from pipelines.layouts.found import Found, problem_of, read_json_table
from pipelines.layouts.listing import Listing, each_file
from workspace.errors import DataError
from workspace.settings import SourceSettings

USES = {"Train": "", "Val": "", "Test-Dev": "evaluate", "Test-Challenge": "evaluate"}
CARD = Card(
    title="OpenForensics 1.0.0 (Le et al. 2021)",
    terms="academic purpose only; pictures from Google Open Images",
    where="README of ltnghia/openforensics (115K images, 334K faces); 115,325 in descriptions of the paper",
    published={"files": 115325},
    note="Masks and boxes are read for their category alone. Pictures with real and fake faces are never trained on.",
)


def recognises(folder: Path) -> bool:
    """Whether one of the four annotation files is there."""
    return any((folder / f"{part}_poly.json").is_file() for part in USES)


def read(source: SourceSettings, folder: Path) -> Listing:
    """Every annotated picture, and pictures of the parts that no annotation names. Raises DataError for annotations that cannot be understood."""
    if not recognises(folder):
        raise DataError(
            f"{folder} is not OpenForensics.", why="it has no Train_poly.json, Val_poly.json, Test-Dev_poly.json or Test-Challenge_poly.json",
            next_step="Name the folder that holds these files beside the pictures.",
        )  # fmt: skip
    listing = Listing(card=CARD)
    for part, use in USES.items():
        pictures = next((place for place in (f"Images/{part}", part) if (folder / place).is_dir()), "")
        table = folder / f"{part}_poly.json"
        if not table.is_file():
            if pictures:
                raise DataError(
                    f"{folder} is not all of OpenForensics. Nothing was read from it.", why=f"{pictures}/ has no {table.name}, which says what is fake",
                    next_step=f"Put {table.name} beside it, or move {pictures}/ away.",
                )  # fmt: skip
            continue
        if not pictures:
            raise DataError(
                f"{folder} is not all of OpenForensics. Nothing was read from it.", why=f"{table.name} is there, its pictures are not",
                next_step=f"Unpack them to Images/{part}/, or move {table.name} away.",
            )  # fmt: skip
        named = dict(_annotated(table, pictures, use, source.label_map))
        for path, place in each_file(folder, listing, pictures):
            name = "/".join(place)
            known = named.pop(name, None)
            problem = problem_of(path, folder) or ("" if known is not None else f"not in {table.name}")
            listing.files.append(Found(path=path, name=name, problem=problem, **known or {}))
        listing.files += [Found(path=folder / name, name=name, problem="file not found", **known) for name, known in sorted(named.items())]
    return listing


def _annotated(table: Path, pictures: str, use: str, label_map: dict[str, Any]) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, columns) of every picture in the table."""
    content = read_json_table(table, dict)
    try:
        meaning = {row["id"]: label_map.get(str(row["name"]), str(row["name"]).lower()) for row in content["categories"]}
        faces: dict[Any, set[str]] = {row["id"]: set() for row in content["images"]}
        for row in content["annotations"]:
            faces[row["image_id"]].add(meaning[row["category_id"]])
        names = [(row["id"], Path(str(row["file_name"])).name) for row in content["images"]]
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(
            f"Cannot use {table}. Nothing was read from it.", why=f"not COCO with images, annotations and categories ({type(problem).__name__}: {problem})",
            next_step="Download it again.",
        ) from problem  # fmt: skip
    if not set(meaning.values()) <= {"real", "fake"}:
        raise DataError(
            f"Cannot use {table}. Nothing was read from it.", why=f"its categories are {', '.join(sorted(map(str, meaning.values())))}, not real and fake",
            next_step="Say what they mean, e.g. `--label authentic=real`.",
        )  # fmt: skip
    for image, name in names:
        labels = faces[image]
        label = "fake" if "fake" in labels else "real" if labels else ""
        mixed = len(labels) > 1 and not use
        yield f"{pictures}/{name}", {"label": label, "use": "never" if mixed else use, "generator": "OpenForensics" if label == "fake" else ""}
