"""The shared corpus of malformed, hostile and unusual inputs: everything ends as its manifest says."""

import csv
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.cli import run_command

MAKER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "make_bad_inputs.py"
pytestmark = pytest.mark.skipif(not MAKER.is_file(), reason="the shared corpus is not beside this repository")

#: The settings that the manifest assumes.
ASSUMED = {"k": 4, "sigma": 0.0, "scale": 1.0, "beta": 10.0}
#: A mode of 000 keeps no one out who is root.
READ_BY_ROOT = {"images/unreadable.png"} if os.geteuid() == 0 else set()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus") / "inputs"
    subprocess.run([sys.executable, MAKER, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def manifest(corpus):
    return json.loads((corpus / "manifest.json").read_text())


def command(source, root, scheduler, **changes):
    values = {**ASSUMED, **changes}
    more = ["--mask", str(values["mask"])] if "mask" in values else []
    return [
        "run", str(source), str(root), "--method", "spectral", "--regions", str(values["k"]),
        "--sigma", str(values["sigma"]), "--scale", str(values["scale"]), "--set", f"beta={number(values['beta'])}",
        "--set", "extra_regions=0", "--scheduler", scheduler, "--quiet", *more,
    ]  # fmt: skip


def number(value):
    return {"nan": ".nan", "inf": ".inf"}.get(value, value)


def states(root):
    rows = pq.read_table(root / "tables" / "index.parquet").to_pylist()
    return {row["source_raw"].decode("utf-8", "surrogateescape"): row for row in rows}


@pytest.fixture(scope="module")
def result(corpus, tmp_path_factory, prefect_api, dask_scheduler):
    root = tmp_path_factory.mktemp("results") / "store"
    assert run_command(command(corpus / "images", root, dask_scheduler)) == 1
    return root


def test_one_run_over_the_folder_ends_entry_for_entry_as_the_manifest_says(result, manifest):
    rows = states(result)
    expected = {e["file"].removeprefix("images/"): e for e in manifest["files"] if e["file"].startswith("images/")}
    assert set(rows) == set(expected)
    assert len(rows) == 88
    for name, entry in expected.items():
        row = rows[name]
        wanted = "segmented" if entry["file"] in READ_BY_ROOT else entry["expected"]
        assert row["state"] == wanted, (name, row["reason"])
        assert bool(row["reason"]) == (wanted == "rejected"), name
    assert run_command(["verify", str(result)]) == 0


def test_pictures_have_the_shape_that_a_viewer_shows(result):
    rows = states(result)
    assert (rows["exif_rotated.jpg"]["height"], rows["exif_rotated.jpg"]["width"]) == (64, 48)
    assert rows["rgba_half.png"]["channels"] == rows["cmyk.tif"]["channels"] == rows["rgb16.png"]["channels"] == 3
    assert rows["gray_alpha.png"]["channels"] == 1


def test_names_are_data_in_paths_tables_pages_and_the_terminal(result, capsys):
    for path in result.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name), path
        assert len(path.name) < 120
    assert run_command(["status", str(result)]) == 0
    text = capsys.readouterr().out
    assert all(character.isprintable() or character == "\n" for character in text)
    rows = pq.read_table(result / "tables" / "index.parquet").to_pylist()
    assert all(row["source"].isprintable() and row["reason"].isprintable() for row in rows)
    page = (result / "gallery" / "index.html").read_text("utf-8")
    assert not Tags.of(page) & {"onerror", "onload"}
    for data in (result / "gallery").glob("*.js"):
        assert not set(data.read_text("ascii")) & {"<", ">", "&"}


class Tags(HTMLParser):
    """Collects the names of all attributes."""

    def __init__(self):
        super().__init__()
        self.attributes = set()

    def handle_starttag(self, tag, attrs):
        self.attributes.update(name for name, _ in attrs)

    @classmethod
    def of(cls, page):
        parser = cls()
        parser.feed(page)
        return parser.attributes


@pytest.mark.parametrize("format_name", ["csv", "geojson", "coco", "png"])
def test_exports_hold_every_name_as_data(result, tmp_path, format_name, capsys):
    assert run_command(["export", str(result), format_name, "--to", str(tmp_path)]) == 0
    for path in tmp_path.iterdir():
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)
    if format_name == "csv":
        with (tmp_path / "regions.csv").open(newline="", encoding="utf-8") as file:
            sources = {row["source"] for row in csv.DictReader(file)}
        assert "'-rf.png" in sources  # a spreadsheet would take it for a formula
        assert not any(source.startswith(("=", "+", "-", "@")) for source in sources)


def test_a_run_never_reads_or_writes_outside(corpus, result):
    assert "escape.png" in states(result)
    assert [path.name for path in (corpus / "outside").iterdir()] == ["secret.png"]
    assert not any((corpus / name).exists() for name in ("pwned", "slipped.png", "outside/slipped.png"))
    assert not Path("pwned").exists()


def test_every_archive_ends_as_the_manifest_says(corpus, manifest, tmp_path, prefect_api, dask_scheduler):
    entries = [entry for entry in manifest["files"] if entry["file"].startswith("archives/")]
    assert len(entries) == 13
    for entry in entries:
        root = tmp_path / Path(entry["file"]).name
        code = run_command(command(corpus / entry["file"], root, dask_scheduler))
        rows = states(root)
        good = rows.pop("good.png", None)
        assert good is None or good["state"] == "segmented"
        ((name, row),) = rows.items()
        assert row["state"] == entry["expected"], (entry["file"], name, row["reason"])
        assert code == (0 if entry["expected"] == "segmented" else 1)
        assert run_command(["verify", str(root)]) == 0
    assert not any((corpus / "outside" / name).exists() for name in ("slipped.png", "link.png"))


def test_every_parameter_case_ends_as_the_manifest_says(
    corpus, manifest, tmp_path, prefect_api, dask_scheduler, capsys
):
    assert len(manifest["parameters"]) == 22
    for case in manifest["parameters"]:
        changes = dict(case["parameters"])
        if "mask" in changes:
            changes["mask"] = corpus / changes["mask"]
        root = tmp_path / case["name"]
        code = run_command(command(corpus / case["file"], root, dask_scheduler, **changes))
        labels = list(root.glob("images/*/*.ome.zarr"))
        if case["expected"] == "segmented":
            assert (code, len(labels)) == (0, 1), case["name"]
            continue
        assert (code, labels) in ((1, []), (2, [])), case["name"]
        said = capsys.readouterr().err if code == 2 else next(iter(states(root).values()))["reason"]
        assert said, case["name"]
        assert code == 1 or not root.exists(), case["name"]
