"""What each layout reads out of names, and what it refuses."""

import os
import unicodedata
from pathlib import Path

import pytest

from pipelines.ingest import identity_of
from pipelines.layouts import read_layout
from vigil.taking_in import named_sources
from workspace.errors import DataError
from workspace.settings import SourceSettings


def source(path: Path, **more: object) -> SourceSettings:
    return SourceSettings.model_validate({"name": "here", "path": str(path), **more})


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_plain_folder_says_label_generator_and_person(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in ("real/a.mp4", "real/anna/b.mp4", "Fake/gan/c.mp4", "Fake/gan/bert/d.mp4", "Fake/e.mp4", "odd/f.mp4", ".git/g", "h.txt"))
    )
    listing = read_layout(source(tmp_path), tmp_path)
    found = {one.name: (one.label, one.generator, one.folder) for one in listing.files}
    assert found == {
        "Fake/e.mp4": ("fake", "", ""),
        "Fake/gan/bert/d.mp4": ("fake", "gan", "bert"),
        "Fake/gan/c.mp4": ("fake", "gan", ""),
        "h.txt": ("", "", ""),
        "odd/f.mp4": ("", "", ""),
        "real/a.mp4": ("real", "", ""),
        "real/anna/b.mp4": ("real", "", "anna"),
    }
    assert listing.hidden == 1


def test_a_folder_without_real_or_fake_is_refused_with_the_next_step(tmp_path: Path) -> None:
    touch(tmp_path / "videos" / "a.mp4")
    for layout in ("auto", "folder"):
        with pytest.raises(DataError, match="real/ and fake/<generator>/"):
            read_layout(source(tmp_path, layout=layout), tmp_path)


def test_an_empty_folder_is_not_taken_for_a_source_that_has_nothing_new(tmp_path: Path) -> None:
    """A disk that is not mounted would bring nothing, week after week, and nobody would be told."""
    with pytest.raises(DataError, match="is empty") as refused:
        read_layout(source(tmp_path), tmp_path)
    assert "not mounted" in refused.value.why and "real/ and fake/" in refused.value.next_step
    (tmp_path / "real").mkdir()
    assert read_layout(source(tmp_path), tmp_path).files == []


def test_a_label_map_gives_other_folder_names_a_meaning(tmp_path: Path) -> None:
    touch(tmp_path / "youtube" / "a.mp4", tmp_path / "Deepfakes" / "b.mp4")
    for layout in ("folder", "auto"):
        listing = read_layout(source(tmp_path, layout=layout, label_map={"youtube": "real", "deepfakes": "fake"}), tmp_path)
        assert [(one.label, one.generator) for one in listing.files] == [("fake", "Deepfakes"), ("real", "")]
    with pytest.raises(DataError, match="--label NAME=real"):
        read_layout(source(tmp_path, label_map={"vimeo": "real"}), tmp_path)


def test_a_label_map_makes_no_plain_folder_of_a_known_data_set(tmp_path: Path) -> None:
    touch(*(tmp_path / name for name in ("Celeb-real/id0_0000.mp4", "YouTube-real/00000.mp4", "Celeb-synthesis/id0_id1_0000.mp4")))
    (tmp_path / "List_of_testing_videos.txt").write_text("1 Celeb-real/id0_0000.mp4\n")
    listing = read_layout(source(tmp_path, label_map={"Celeb-synthesis": "real"}), tmp_path)
    assert [one.label for one in listing.files] == ["real", "fake", "real"]


def test_a_table_is_read_with_its_other_columns_ignored(tmp_path: Path) -> None:
    touch(tmp_path / "v" / "a.mp4", tmp_path / "v" / "b.mp4")
    (tmp_path / "labels.csv").write_text(
        "\ufeffPath,label,use,identity,weather\nv/a.mp4,REAL,evaluate,anna,rain\nv/b.mp4,,,,sun\nv/c.mp4,fake,never,bert,fog\n"
    )
    listing = read_layout(source(tmp_path), tmp_path)
    assert [(one.name, one.label, one.use, one.identity, one.problem) for one in listing.files] == [
        ("v/a.mp4", "real", "evaluate", "anna", ""),
        ("v/b.mp4", "", "", "", ""),
        ("v/c.mp4", "fake", "never", "bert", "file not found"),
    ]
    assert listing.names_people


def test_words_are_one_however_their_accents_are_typed_and_a_file_keeps_the_name_that_opens_it(tmp_path: Path) -> None:
    """One person spelled in two ways was two."""
    one, two = (unicodedata.normalize(form, "José") for form in ("NFC", "NFD"))
    touch(tmp_path / f"{one}.mp4", tmp_path / f"{two}.mp4")
    (tmp_path / "labels.csv").write_text(f"path,label,identity,donor,source_video\n{one}.mp4,real,{one},,\n{two}.mp4,fake,{two},{two},{two}.mp4\n")
    found = {one.name: one for one in read_layout(source(tmp_path), tmp_path).files}
    assert set(found) == {f"{one}.mp4", f"{two}.mp4"} and all(name == listed.path.name and listed.path.is_file() for name, listed in found.items())
    assert {listed.identity for listed in found.values()} == {one}
    assert (found[f"{two}.mp4"].donor, found[f"{two}.mp4"].source_video) == (one, f"{one}.mp4")
    rule = source(tmp_path, identity={"rule": "pattern", "pattern": r"^(\w+)\."}).identity
    assert {identity_of(listed, rule, False, "") for listed in found.values()} == {one}


@pytest.mark.parametrize(("typed", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_table_finds_a_file_whose_accents_are_stored_otherwise(tmp_path: Path, typed: str, stored: str) -> None:
    """As a Mac stores them."""
    here, there = (unicodedata.normalize(form, "Zoë/José") for form in (stored, typed))
    touch(tmp_path / f"{here}.mp4")
    (tmp_path / "labels.csv").write_text(f"path,label\n{there}.mp4,real\n{'ö' * 300}.mp4,real\n")
    assert (f"{here}.mp4", "") in [(one.name, one.problem) for one in read_layout(source(tmp_path), tmp_path).files]
    (tmp_path / "labels.csv").write_text(f"path,label\n{there}.mp4,real\n{here}.mp4,fake\n")
    with pytest.raises(DataError, match="stands in the table twice"):
        read_layout(source(tmp_path), tmp_path)


def test_an_absolute_path_below_the_folder_of_the_table_is_read(tmp_path: Path) -> None:
    """By way of a link to that folder too; what lies beside it stays outside."""
    folder, beside = tmp_path / "set", tmp_path / "set-2" / "c.mp4"
    touch(folder / "v" / "a.mp4", folder / "b.mp4", beside)
    (tmp_path / "link").symlink_to(folder)
    table = folder / "labels.csv"
    table.write_text(f"path,label\n{folder}/v/a.mp4,real\n{tmp_path}/link/v/../b.mp4,fake\n{beside},real\n")
    outside = "path leads outside the source"
    assert [(one.name, one.folder, one.problem) for one in read_layout(source(table), table).files] == [
        (str(beside), "set-2", outside),
        ("b.mp4", "", ""),
        ("v/a.mp4", "v", ""),
    ]
    table.write_text(f"path,label\nb.mp4,real\n{folder}/b.mp4,fake\n")
    with pytest.raises(DataError, match=r"b\.mp4 stands in the table twice"):
        read_layout(source(table), table)


def test_a_path_that_leads_up_and_comes_back_lies_inside(tmp_path: Path) -> None:
    """It was quarantined as one that leads outside; one that goes up by way of a link leads where the disk says."""
    folder = tmp_path / "set"
    touch(folder / "v" / "a.mp4", folder / "b.mp4", tmp_path / "else" / "deep" / "x", tmp_path / "else" / "b.mp4")
    (folder / "link").symlink_to(tmp_path / "else" / "deep")
    table = folder / "labels.csv"
    table.write_text("path,label\nv/../v/a.mp4,real\n../set/b.mp4,fake\nlink/../b.mp4,real\nv/../../set-2/c.mp4,real\n")
    outside = "path leads outside the source"
    assert {one.name: one.problem for one in read_layout(source(table), table).files} == {
        "v/a.mp4": "",
        "b.mp4": "",
        "link/../b.mp4": outside,
        "v/../../set-2/c.mp4": outside,
    }
    table.write_text("path,label\nv/a.mp4,real\nv/../v/a.mp4,fake\n")
    with pytest.raises(DataError, match=r"v/a\.mp4 stands in the table twice"):
        read_layout(source(table), table)


def test_zero_and_one_are_refused_until_somebody_says_which_is_which(tmp_path: Path) -> None:
    touch(tmp_path / "a.mp4", tmp_path / "b.mp4")
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.mp4,0\nb.mp4,1\n")
    with pytest.raises(DataError, match="line 2: label '0'"):
        read_layout(source(table), table)
    listing = read_layout(source(table, label_map={"0": "fake", "1": "real"}), table)
    assert [one.label for one in listing.files] == ["fake", "real"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("file,label\na.mp4,real\n", "no column path"),
        ("path,label\na.mp4,real\na.mp4,fake\n", "twice"),
        ("path,label,use\na.mp4,real,sometimes\n", "use 'sometimes'"),
        ("path,label\n,real\n", "no path"),
        ("path,label\na\0b.mp4,real\n", "line 2: a null byte in its path"),
        ("path,label\n/a/b\0/c.mp4,real\n", "line 2: a null byte in its path"),
        ('path,label,note\na.mp4,real,"agreed\nin writing"\n\nb.mp4,reel,\n', "line 5: label 'reel'"),
        ("", "no column path"),
        ("path;label\na.mp4;real\n", "its first line is one column: 'path;label'\n.*Save it with commas between the columns"),
        ("path\tlabel\na.mp4\treal\n", "Save it with commas between the columns"),
        ("path,label,label\na.mp4,real,fake\n", "more than one column is called label"),
        ("path,label, Label\na.mp4,real,fake\n", "more than one column is called label"),
        ("path,label,identity\na.mp4,real,ann\nb.mp4,real,Doe, John\n", "line 3: 4 fields, the table has 3 columns; put quotes"),
        ("path,label,identity,generator\na.mp4,real,Doe, John,\n", "line 2: 5 fields, the table has 4 columns"),
        ('path,label\na.mp4,real\n"b.mp4,fake\nc.mp4,real\n', "every quote closed"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_layout(source(tmp_path), tmp_path)


def test_a_pipe_that_is_called_a_table_is_never_opened(tmp_path: Path) -> None:
    """Whoever named one waited for ever, and the workspace's lease with them."""
    os.mkfifo(tmp_path / "pipe.csv")
    os.mkfifo(tmp_path / "labels.csv")
    for named, layout in ((tmp_path / "pipe.csv", "auto"), (tmp_path, "csv")):
        with pytest.raises(DataError, match=r"\.csv is not a CSV file"):
            read_layout(source(named, layout=layout), named)


def test_a_folder_without_its_table_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder whose own name ends in .csv is a folder like any other."""
    folder = tmp_path / "set.csv"
    touch(folder / "real" / "a.mp4")
    (named,) = named_sources([str(folder)], "auto", "", "", [])
    assert [one.name for one in read_layout(named, folder).files] == ["real/a.mp4"] and named.identity.rule == ""
    with pytest.raises(DataError, match=r"has no labels\.csv"):
        read_layout(source(folder, layout="csv"), folder)
    (folder / "labels.csv").write_text("path,label\nreal/a.mp4,fake\n")
    assert [one.label for one in read_layout(source(folder), folder).files] == ["fake"]


@pytest.mark.parametrize(("row", "of_labels"), [("a.mp4,1,", True), (",1,", True), (",real,", False), ("a.mp4,real,banana", False)])
def test_what_labels_mean_is_asked_where_a_label_is_the_mistake(tmp_path: Path, row: str, of_labels: bool) -> None:
    (tmp_path / "labels.csv").write_text(f"path,label,use\n{row}\n")
    with pytest.raises(DataError, match="Mend the table") as refused:
        read_layout(source(tmp_path), tmp_path)
    assert ("--label 1=fake" in refused.value.next_step) == of_labels


@pytest.mark.parametrize("name", ["t.csv", "t.json"])
def test_what_a_label_means_can_be_said_in_the_words_of_the_refusal(tmp_path: Path, name: str) -> None:
    """They were shown in small letters and compared as they are spelled: who repeated them was told the same again."""
    csv, entries = "path,label\na.mp4,Genuine\nb.mp4,Face_Swap\n", '[{"path": "a.mp4", "label": false}, {"path": "b.mp4", "label": true}]'
    (tmp_path / name).write_text(csv if name.endswith("csv") else entries)
    real, fake = ("Genuine", "Face_Swap") if name.endswith("csv") else ("False", "True")
    with pytest.raises(DataError, match=f"label '{real}' is not real") as refused:
        read_layout(source(tmp_path / name), tmp_path / name)
    assert f"label '{fake}' is not real" in refused.value.why
    for spelled in (str, str.lower, str.upper):
        listing = read_layout(source(tmp_path / name, label_map={spelled(real): "real", spelled(fake): "fake"}), tmp_path / name)
        assert [one.label for one in listing.files] == ["real", "fake"]
    both = {real: "real", real.lower(): "fake", fake: "fake"}
    assert [one.label for one in read_layout(source(tmp_path / name, label_map=both), tmp_path / name).files] == ["real", "fake"], "as it is spelled, first"


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    """As spreadsheets write them."""
    touch(tmp_path / "a.mp4")
    (tmp_path / "labels.csv").write_text("path,label,,\na.mp4,real,,\n")
    assert [one.label for one in read_layout(source(tmp_path), tmp_path).files] == ["real"]


def test_the_column_that_is_missing_is_the_one_to_name(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,lable\na.mp4,real\n")
    with pytest.raises(DataError, match="--column label="):
        read_layout(source(tmp_path), tmp_path)


def test_a_table_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,label\n\xff\xfe\x00,real\n")
    with pytest.raises(DataError, match="UTF-8"):
        read_layout(source(tmp_path), tmp_path)


def test_faceforensics_names_become_method_compression_people_and_source_video(tmp_path: Path) -> None:
    touch(
        tmp_path / "original_sequences/youtube/c23/videos/071.mp4",
        tmp_path / "original_sequences/actors/c40/videos/03__walking_outside.mp4",
        tmp_path / "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4",
        tmp_path / "manipulated_sequences/DeepFakeDetection/c40/videos/03_26__walking_outside__ABCDEFGH.mp4",
        tmp_path / "manipulated_sequences/Face2Face/c23/videos/strange.mp4",
        tmp_path / "manipulated_sequences/Deepfakes/masks/videos/071_054.mp4",
    )
    listing = read_layout(source(tmp_path), tmp_path)
    rows = {(one.label, one.generator, one.compression, one.identity, one.donor, one.source_video, one.problem) for one in listing.files}
    assert rows == {
        ("real", "", "c23", "youtube-071", "", "youtube-071", ""),
        ("real", "", "c40", "actors-03", "", "actors-03__walking_outside", ""),
        ("fake", "Deepfakes", "c23", "youtube-071", "youtube-054", "youtube-071", ""),
        ("fake", "DeepFakeDetection", "c40", "actors-03", "actors-26", "actors-03__walking_outside", ""),
        ("fake", "Face2Face", "c23", "", "", "", "its name does not say who is in it"),
    }


def test_links_out_pipes_and_paths_upwards_are_never_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.mp4"
    touch(secret, tmp_path / "in" / "real" / "a.mp4")
    inside = tmp_path / "in"
    (inside / "real" / "out.mp4").symlink_to(secret)
    (inside / "real" / "gone.mp4").symlink_to(inside / "nowhere")
    (inside / "real" / "folder").symlink_to(tmp_path)
    (inside / "real" / "same.mp4").symlink_to(inside / "real" / "a.mp4")
    os.mkfifo(inside / "real" / "pipe.mp4")
    problems = {one.name: one.problem for one in read_layout(source(inside), inside).files}
    assert problems == {
        "real/a.mp4": "",
        "real/folder": "link leads outside the source",
        "real/gone.mp4": "broken link",
        "real/out.mp4": "link leads outside the source",
        "real/pipe.mp4": "not a regular file",
        "real/same.mp4": "",
    }
    (inside / "labels.csv").write_text(f"path,label\n../secret.mp4,real\n{secret},real\n")
    assert {one.problem for one in read_layout(source(inside / "labels.csv"), inside / "labels.csv").files} == {"path leads outside the source"}


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        ({"rule": "column"}, "x/anna_01.mp4", "column-says"),
        ({"rule": "folder"}, "x/anna_01.mp4", "folder-says"),
        ({"rule": "pattern", "pattern": r"^([a-z]+)_"}, "x/anna_01.mp4", "anna"),
        ({"rule": "pattern", "pattern": r"^([a-z]+)_"}, "x/17.mp4", ""),
        ({"rule": "unknown"}, "x/anna_01.mp4", ""),
        ({"rule": "file"}, "x/anna_01.mp4", "file-abcdabcdabcdabcd"),
    ],
)
def test_who_is_in_a_file_follows_from_the_rule_alone(rule: dict[str, str], name: str, expected: str) -> None:
    from pipelines.layouts import Found

    found = Found(path=Path(name), name=name, identity="column-says", folder="folder-says")
    settings = source(Path("/"), identity=rule).identity
    assert identity_of(found, settings, False, "abcd" * 16) == expected


def test_a_source_that_names_people_is_believed_under_the_default_rule() -> None:
    from pipelines.layouts import Found

    found = Found(path=Path("a"), name="a", identity="anna")
    assert identity_of(found, source(Path("/")).identity, True, "0" * 64) == "anna"
