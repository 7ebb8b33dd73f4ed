"""Media that come in: from where, whose they are, what a batch must show, who trains and who judges, and how much of it a cycle takes."""

import re
from typing import Literal

from pydantic import Field

from workspace.blocks import Block, Rule
from workspace.choices import LayoutName, Split
from workspace.objectstore import is_s3
from workspace.settings.values import Fraction, NotNegative, Positive


def _one_group(pattern: str) -> bool:
    try:
        return not pattern or re.compile(pattern).groups == 1
    except re.error:
        return False


class IdentityRule(Block):
    """Who is in a file, and how that is known. Wrong identities leak people across splits, so the rule is explicit."""

    RULES = (
        Rule(("rule", "pattern"), lambda rule, pattern: (rule == "pattern") == bool(pattern), "`pattern` goes with rule `pattern`, and only with it"),
        Rule(("pattern",), _one_group, "pattern {pattern!r} is not a regular expression with one group"),
    )

    rule: Literal["", "column", "folder", "pattern", "file", "unknown"] = Field(
        default="",
        description="column: the table says; folder: the parent folder's name; pattern: first group of `pattern` on the "
        "file name; file: each file is its own person, unless the source names people; unknown: nobody knows (such samples only "
        "train, but for what the source itself keeps for evaluation). Empty: column for a table (CSV, JSON, a folder with labels.csv), else file.",
    )
    pattern: str = Field(default="", description="Regular expression with one group, for rule `pattern`.")


ColumnName = Literal[
    "path", "label", "use", "identity", "donor", "generator", "source_video", "method", "compression", "licence", "consent", "case_id", "attributes"
]


class SourceSettings(Block):
    """One place where media come from."""

    RULES = (
        Rule(
            ("path",),
            lambda path: bool(path.strip()) and ("://" not in path or is_s3(path)),
            "path: {path!r} is not read: a source is a folder or a table on this disk, or s3://BUCKET/PREFIX",
        ),
    )

    name: str = Field(description="Short name; becomes the `source` column and part of the batch name.", pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    path: str = Field(description="A folder or a table (a relative one is of the workspace), or s3://bucket/prefix.")
    layout: LayoutName = Field(
        "auto", description="auto: by what lies there; folder: real/ and fake/<generator>/; csv, json: tables; the rest: docs/layouts.md."
    )
    identity: IdentityRule = Field(IdentityRule(), description="Who is in a file.")
    label_map: dict[str, Literal["real", "fake", ""]] = Field(
        default_factory=dict, description="What the source's own labels mean, e.g. {'0': real, '1': fake}."
    )
    columns: dict[ColumnName, str] = Field(default_factory=dict, description="What a table calls its columns, e.g. {path: filename, label: target}.")
    split: Split = Field(
        default="official",
        description="official: a published set's test part is kept for evaluation; own: Vigil divides it by person. Tables keep their `use`.",
    )


class IngestSettings(Block):
    """Where new media are looked for, and what may come in."""

    RULES = (Rule(("sources",), lambda sources: len({source.name for source in sources}) == len(sources), "sources: two sources share a name"),)

    sources: tuple[SourceSettings, ...] = Field((), strict=False, description="A scheduled cycle ingests these.")
    max_file_bytes: Positive = Field(8 << 30, description="Larger files are quarantined.")
    near_duplicate_bits: NotNegative = Field(5, le=8, description="Perceptual words (64 bits) at most this far apart count as shared.")
    shard_bytes: Positive = Field(256 << 20, description="Raw media are kept in tar shards of about this size.")
    s3_endpoint_url: str = Field("", description="S3-compatible endpoint; empty means the default of boto3.")


class ValidateSettings(Block):
    """What a batch must show before it may enter training (Great Expectations)."""

    min_samples: Positive = Field(1, description="A smaller batch is held.")
    min_decodable: Fraction = Field(0.9, description="Least part of the opened files that decode.")
    min_face_found: Fraction = Field(
        0.7, description="Least part of the files in which a face is found, in enough frames for a clip (`faces.min_clip_frames`)."
    )
    max_duplicates: Fraction = Field(0.5, description="Largest part of near duplicates; of exact ones one alone comes in.")
    min_size_px: Positive = Field(64, description="Shortest side of a picture; nine in ten of the files that decode must have it.")


class SplitSettings(Block):
    """Parts of the identities, by a keyed hash: who is in the holdout never changes, and so none of these may once a model was promoted."""

    RULES = (
        Rule(("train", "validation", "holdout"), lambda *parts: abs(sum(parts) - 1) <= 1e-9, "train + validation + holdout must be 1"),
        Rule(("train", "validation", "holdout"), lambda *parts: all(parts), "each split needs a part above 0"),
    )

    train: Fraction = Field(0.7, description="Part of the identities that trains.")
    validation: Fraction = Field(0.2, description="Part that stops training and sets temperature, offset and threshold.")
    holdout: Fraction = Field(0.1, description="Part that only the gates see.")
    key: str = Field("vigil", min_length=1, description="Changing it redraws every split: never in a living workspace.")


class BudgetSettings(Block):
    """What one cycle may cost, whatever the history holds."""

    RULES = (Rule(("hardened_clips",), lambda most: most != 1, "hardened_clips 1 attacks none: half are real and half fake, so it takes 2 or more, or 0"),)

    new_clips: Positive = Field(20000, description="Most clips of the batches under judgement drawn to train.")
    replay_clips: NotNegative = Field(
        4000, description="Collected clips of earlier batches, generator- and class-balanced; what was forged from them comes on top."
    )
    forged_fraction: Fraction = Field(0.1, description="Part of the drawn clips that is newly forged, generators in rotation.")
    hardened_clips: NotNegative = Field(1000, description="Clips attacked by `harden`, half real and half fake; 0 attacks none.")
    evaluation_clips_per_slice: Positive = Field(400, description="Seeded panel: videos a slice, half the earliest, half the latest.")
    attack_clips: Positive = Field(400, description="Holdout clips attacked in `evaluate`; with half as many an equal challenger is held once in 33 weeks.")
