import os
from pathlib import Path

import pytest

from segmentation.errors import ParameterError
from segmentation.io.sources import image_id, list_images


@pytest.fixture
def folder(tmp_path):
    source = tmp_path / "source"
    for name in ("b.png", "a.JPG", "notes.txt", "sub/c.tif", "sub/._c.tif", "..png"):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return source


def names(source, **keywords):
    return [ref.name for ref in list_images(source, **keywords)]


def test_images_are_listed_in_order_and_other_files_are_not(folder):
    assert names(folder) == ["..png", "a.JPG", "b.png", "sub/c.tif"]


def test_one_file_is_an_archive_of_one(folder):
    assert names(folder / "b.png") == ["b.png"]


def test_results_below_the_source_are_not_taken_for_images(folder):
    (folder / "out" / "contours").mkdir(parents=True)
    (folder / "out" / "contours" / "x.png").write_bytes(b"x")
    assert "out/contours/x.png" not in names(folder, skip=folder / "out")


def test_links_pipes_and_folders_named_like_images_are_listed_with_what_they_are(folder):
    (folder / "link.png").symlink_to("b.png")
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.png")
    (folder / "dir.png").mkdir()
    problems = {ref.name: ref.problem for ref in list_images(folder) if ref.problem}
    assert set(problems) == {"link.png", "loop", "pipe.png", "dir.png"}
    assert problems["link.png"] == "a link; links are not followed"
    assert "pipe" in problems["pipe.png"]
    assert "folder" in problems["dir.png"]


def test_masks_are_found_by_stem_whatever_their_suffix(folder, tmp_path):
    masks = tmp_path / "masks"
    (masks / "sub").mkdir(parents=True)
    for name in ("a.png", "sub/c.png"):
        (masks / name).write_bytes(b"mask")
    found = {ref.name: ref for ref in list_images(folder, masks)}
    assert found["a.JPG"].mask_path == str(masks / "a.png")
    assert found["sub/c.tif"].mask_size == 4
    assert "no mask" in found["b.png"].problem


def test_a_folder_needs_a_folder_of_masks(folder):
    with pytest.raises(ParameterError, match="folder is expected"):
        names(folder, masks=folder / "b.png")


@pytest.mark.parametrize("argument", ["source", "masks"])
def test_what_does_not_exist_is_named(folder, argument):
    arguments = {"source": folder, "masks": None, argument: folder / "absent"}
    with pytest.raises(ParameterError, match="absent does not exist"):
        list(list_images(arguments["source"], arguments["masks"]))


def test_names_that_are_not_utf8_keep_their_bytes(folder):
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).write_bytes(b"x")
    (ref,) = (ref for ref in list_images(folder) if ref.name.startswith("\udcff"))
    assert ref.raw_name == b"\xff.png"
    assert ref.display_name == "\\udcff.png"


def test_identifiers_are_short_ascii_and_tell_equal_stems_apart():
    identifiers = [
        image_id(name) for name in ("twin.png", "twin.tif", "Twin.png", "sub/twin.png", "\udcff.png", "n" * 255)
    ]
    assert len(set(identifiers)) == len(identifiers)
    for identity in identifiers:
        assert identity.isascii()
        assert identity == identity.lower()
        assert len(identity) <= 60
        assert not set(identity) & set("/\\.: ")
