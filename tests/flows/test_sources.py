"""Sources and hostile inputs through the whole command; what the shared corpus says, in small."""

import csv
import io
import json
import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import samples
from PIL import Image

from flows.cli import run_command
from segmentation.io.runs import list_runs
from segmentation.io.store import read_labels

NAMES = [
    "new\nline.png",
    "tab\tand\x1b[31mred.png",
    "\udcff\udcfe.png",
    "n" * 251 + ".png",
    "..png",
    "=1+1.png",
    "-rf.png",
    "$(touch pwned).png",
    "{k}-%s.png",
    "glob[a]*?.png",
    "<img src=x onerror=alert(1)>.png",
    "名前 🧪.png",
]


def picture(number=0, size=(40, 30)):
    """Make two discs on a dark ground."""
    rows, cols = np.mgrid[: size[1], : size[0]]
    values = np.full((size[1], size[0]), 40 + number)
    values[np.hypot(rows - 10, cols - 12) < 7] = 200
    values[np.hypot(rows - 20, cols - 28) < 7] = 130
    return values.astype(np.uint8)


def png(number=0):
    return samples.by_pillow(picture(number), "PNG")


def run(source, root, scheduler, *more):
    plain = ["--method", "ward", "--regions", "3", "--scale", "1", "--sigma", "0", "--quiet", "--scheduler", scheduler]
    return run_command(["run", str(source), str(root), *plain, *more])


def rows(root):
    table = pq.read_table(root / "tables" / "index.parquet").to_pylist()
    return {row["source_raw"].decode("utf-8", "surrogateescape"): row for row in table}


def states(root):
    return {name: row["state"] for name, row in rows(root).items()}


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "in"
    made.mkdir()
    return made


def test_hostile_names_and_special_files_are_rows_and_data_everywhere(
    folder, tmp_path, prefect_api, dask_scheduler, capsys
):
    for number, name in enumerate(NAMES):
        (folder / name).write_bytes(png(number))
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("/etc/hostname")
    (folder / "folder.png").mkdir()
    (folder / "cut.png").write_bytes(png()[:-30])
    root = tmp_path / "out"
    assert run(folder, root, dask_scheduler) == 1
    found = states(root)
    assert {name for name, state in found.items() if state == "segmented"} == set(NAMES)
    assert {name for name, state in found.items() if state == "rejected"} == {
        "pipe.png", "link.png", "folder.png", "cut.png",
    }  # fmt: skip
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", path.name) for path in root.rglob("*"))
    assert run_command(["status", str(root)]) == 0
    assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)
    assert run_command(["export", str(root), "csv", "--to", str(tmp_path / "csv")]) == 0
    text = (tmp_path / "csv" / "regions.csv").read_text("utf-8")
    sources = {row["source"] for row in csv.DictReader(io.StringIO(text))}
    assert {"'=1+1.png", "'-rf.png", "new\\nline.png"} < sources
    assert not Path("pwned").exists()
    assert run_command(["verify", str(root)]) == 0


def test_a_folder_that_cannot_be_read_is_a_row_and_the_run_goes_on(folder, tmp_path, prefect_api, dask_scheduler):
    import subprocess

    (folder / "a.png").write_bytes(png())
    here = Path.cwd()
    os.chdir(folder)
    for _ in range(17):
        Path("n" * 250).mkdir()
        os.chdir("n" * 250)
    os.chdir(here)
    try:
        assert run(folder, tmp_path / "out", dask_scheduler) == 1
    finally:
        subprocess.run(["rm", "-rf", folder / ("n" * 250)], check=True)
    found = rows(tmp_path / "out")
    assert found.pop("a.png")["state"] == "segmented"
    ((_, row),) = found.items()
    assert row["reason"] == "a folder that cannot be read: its name is too long for the file system"


def test_an_archive_gives_the_labels_that_its_folder_gives(folder, tmp_path, prefect_api, dask_scheduler):
    for number in range(3):
        (folder / f"{number}.png").write_bytes(png(number))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        archive.writestr("../slip.png", png())
    assert run(folder, tmp_path / "one", dask_scheduler) == 0
    assert run(tmp_path / "x.zip", tmp_path / "two", dask_scheduler) == 1
    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert two.pop("../slip.png")["state"] == "rejected"
    assert [(r["id"], r["key"], r["digest"]) for r in one.values()] == [
        (r["id"], r["key"], r["digest"]) for r in two.values()
    ]
    assert run(tmp_path / "x.zip", tmp_path / "two", dask_scheduler) == 1  # nothing to do; one is still refused
    assert not (tmp_path / "slip.png").exists()


def test_frames_make_images_with_keys_of_their_own_and_leave_those_of_others(
    folder, tmp_path, prefect_api, dask_scheduler
):
    pages = [picture(number) for number in range(3)]
    (folder / "stack.tif").write_bytes(samples.by_tifffile(np.stack(pages), photometric="minisblack"))
    (folder / "still.png").write_bytes(png())
    root = tmp_path / "out"
    assert run(folder, root, dask_scheduler) == 1
    before = rows(root)
    assert "--frames each" in before["stack.tif"]["reason"]
    assert run(folder, root, dask_scheduler, "--frames", "each") == 0
    after = rows(root)
    frames = [after[f"stack.tif#{number}"] for number in (1, 2, 3)]
    assert len({row["key"] for row in frames}) == len({row["id"] for row in frames}) == 3
    assert after["still.png"] == before["still.png"]
    for row in frames:
        assert read_labels(root, row["id"], "ward").max() == 3


def test_patterns_lists_and_masks_choose_what_is_segmented(folder, tmp_path, prefect_api, dask_scheduler):
    (folder / "thumbs").mkdir()
    for name in ("a.png", "b.png", "thumbs/a.png"):
        (folder / name).write_bytes(png())
    mask = np.zeros((30, 40), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "half.png")
    assert run(folder, tmp_path / "one", dask_scheduler, "--include", "a.*", "--exclude", "thumbs") == 0
    assert list(rows(tmp_path / "one")) == ["a.png"]
    (tmp_path / "list.csv").write_text("path,mask,id\nin/a.png,half.png,first\nin/gone.png,,second\n")
    assert run(tmp_path / "list.csv", tmp_path / "two", dask_scheduler) == 1
    assert states(tmp_path / "two") == {"first": "segmented", "second": "rejected"}
    labels = read_labels(tmp_path / "two", rows(tmp_path / "two")["first"]["id"], "ward")
    assert labels[:, 20:].max() == 0 < labels[:, :20].min()


def test_an_image_over_the_limit_of_pixels_is_looked_at_again_under_another_limit(
    folder, tmp_path, prefect_api, dask_scheduler
):
    (folder / "a.png").write_bytes(png())
    root = tmp_path / "out"
    assert run(folder, root, dask_scheduler, "--max-pixels", "1199") == 1
    assert "1,199 are allowed" in rows(root)["a.png"]["reason"]
    assert run(folder, root, dask_scheduler) == 0


def test_ome_zarr_images_stand_among_files(folder, tmp_path, prefect_api, dask_scheduler):
    (folder / "a.png").write_bytes(png())
    samples.ome_zarr(folder / "b.ome.zarr", picture(1), "yx")
    assert run(folder, tmp_path / "out", dask_scheduler) == 0
    assert states(tmp_path / "out") == {"a.png": "segmented", "b.ome.zarr": "segmented"}


def test_what_missing_chunks_are_taken_for_is_a_recorded_choice(folder, tmp_path, prefect_api, dask_scheduler):
    root = tmp_path / "out"
    dark = samples.ome_zarr(folder / "dark.ome.zarr", picture(), "yx")
    samples.ome_zarr(folder / "whole.ome.zarr", picture(1), "yx")
    (dark / "0" / "c" / "0" / "0").unlink()
    assert run(folder, root, dask_scheduler) == 0
    assert run(folder, root, dask_scheduler, "--missing-chunks", "refuse") == 1  # what was filled before, too
    assert states(root) == {"dark.ome.zarr": "rejected", "whole.ome.zarr": "segmented"}
    assert "without 1 of its 20 chunks" in rows(root)["dark.ome.zarr"]["reason"]
    assert run(folder, root, dask_scheduler) == 0
    settings = [json.loads(path.read_text())["settings"] for path in sorted(root.glob("runs/*/run.json"))]
    assert [values["missing_chunks"] for values in settings] == ["fill", "refuse", "fill"]
    runs = {row["run"] for name, row in rows(root).items() if name.startswith("whole")}
    assert len(runs) == 1  # it was looked at again, not computed


def test_a_collection_is_a_folder_and_no_data_is_label_0(folder, tmp_path, prefect_api, dask_scheduler, capfd):
    for number in (0, 1):
        samples.ome_zarr(folder / "slide.zarr" / str(number), picture(number), "yx", version=2)
    (folder / "slide.zarr" / ".zattrs").write_text('{"bioformats2raw.layout": 3}')
    elevation = picture().astype("f4")
    elevation[:, :5] = -9999
    tags = [(42113, "s", 0, "-9999", True)]
    (folder / "dem.tif").write_bytes(samples.by_tifffile(elevation, extratags=tags))
    (folder / "odd.tif").write_bytes(samples.by_tifffile(picture(), extratags=tags))
    root = tmp_path / "out"
    assert run(folder, root, dask_scheduler) == 0
    assert set(states(root)) == {"dem.tif", "odd.tif", "slide.zarr/0", "slide.zarr/1"}
    labels = read_labels(root, rows(root)["dem.tif"]["id"], "ward")
    np.testing.assert_array_equal(labels == 0, elevation == -9999)
    assert np.unique(read_labels(root, rows(root)["odd.tif"]["id"], "ward")).tolist() == [1, 2, 3]
    assert capfd.readouterr().err == ""


def test_what_is_no_image_is_counted_in_plan_summary_record_and_status(tmp_path, prefect_api, dask_scheduler, capsys):
    (tmp_path / "in" / "@eaDir" / "a.png").mkdir(parents=True)
    (tmp_path / "in" / "@eaDir" / "a.png" / "SYNOPHOTO_THUMB_M.png").write_bytes(png())
    for name in ("a.png", "b.heic"):
        (tmp_path / "in" / name).write_bytes(png() if name == "a.png" else b"\0\0\0\x18ftypheic\0\0\0\0")
    for name in ("a.xml", "b.xml", "notes.txt"):
        (tmp_path / "in" / name).write_text("")
    options = ["--method", "ward", "--regions", "3", "--scale", "1", "--scheduler", dask_scheduler]
    assert run_command(["run", str(tmp_path / "in"), str(tmp_path / "out"), *options]) == 1
    said = capsys.readouterr()
    words = "3 other files (.xml 2, .txt 1), 1 folder of a system (@eaDir)"
    assert f"2 images: 2 new; passed over: {words}\n" in said.err
    assert f"Passed over: {words}.\n" in said.out
    assert states(tmp_path / "out") == {"a.png": "segmented", "b.heic": "rejected"}
    assert rows(tmp_path / "out")["b.heic"]["reason"].startswith("HEIC, which is not read; PNG, JPEG, TIFF")
    (made,) = list_runs(tmp_path / "out")
    assert made["passed_over"] == {"files": {".xml": 2, ".txt": 1}, "folders": {"@eaDir": 1}}
    assert run_command(["status", str(tmp_path / "out")]) == 0
    assert f"passed over: {words}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "more", "message"),
    [
        ("in", ["--missing-chunks", "some"], "missing-chunks"),
        ("ftp://host/x", [], "s3:// and memory://"),
        ("in", ["--frames", "some"], "frames"),
        ("in", ["--max-pixels", "0"], "max_pixels: input should be greater than or equal to 1"),
    ],
)
def test_wrong_sources_end_with_code_2(folder, tmp_path, capsys, source, more, message):
    where = source if "://" in source else tmp_path / source
    assert run_command(["run", str(where), str(tmp_path / "out"), *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
