"""The invariants hold for a sound store, and every one of them can fail."""

import json
import shutil
from pathlib import Path

import pytest

from flows.cli import run_command
from tests.damage import edit, first, flip
from tests.invariants import check_store

RUN = ["--method", "ward", "--regions", "3", "--scale", "0.5", "--sigma", "1", "--quiet"]
NAMES = ["broken.png", "colour.png", "deep.tif", "grey.png", "photo.jpg", "sub/inner.png"]


@pytest.fixture(scope="module")
def sound(archive_of, tmp_path_factory, prefect_api, dask_scheduler):
    folder = tmp_path_factory.mktemp("sound")
    source = archive_of(folder / "archive")
    assert run_command(["run", str(source), str(folder / "out"), *RUN, "--scheduler", dask_scheduler]) == 1
    return folder


@pytest.fixture
def store(sound, tmp_path):
    return Path(shutil.copytree(sound / "out", tmp_path / "out"))


def test_a_sound_store_keeps_all_invariants(sound):
    counts = check_store(sound / "out", NAMES, exit_code=1, source=sound / "archive")
    assert counts == {"segmented": 5, "rejected": 1}


def rewrite(root, pattern, change):
    for path in root.glob(pattern):
        edit(path, change)


DAMAGES = {
    "a flipped bit in a chunk": (lambda r: flip(first(r, "images/*/*/labels/ward/0/c/0/0")), "not as recorded"),
    "a missing chunk": (lambda r: first(r, "images/*/*/labels/ward/0/c/0/0").unlink(), "is missing"),
    "a missing picture": (lambda r: first(r, "contours/*/*.png").unlink(), "is missing"),
    "a partial file": (lambda r: (r / "tables" / ".partial-x").write_bytes(b""), "partial, outside .staging"),
    "a file in no place": (lambda r: (r / "stray").write_bytes(b""), "not a place of the store"),
    "something staged": (lambda r: ((r / ".staging").mkdir(exist_ok=True), (r / ".staging/x").touch()), "in staging"),
    "a row less in the index": (lambda r: rewrite(r, "tables/index.parquet", lambda t: t[1:]), "missing {("),
    "a row twice in the index": (lambda r: rewrite(r, "tables/index.parquet", lambda t: [t[0], *t]), "there twice"),
    "another state in the index": (
        lambda r: rewrite(r, "tables/index.parquet", lambda t: [{**t[0], "state": "failed"}, *t[1:]]),
        "is not as recorded",
    ),
    "a region row less": (lambda r: rewrite(r, "tables/regions/*", lambda t: t[1:]), "3 regions recorded"),
    "a wrong area": (lambda r: rewrite(r, "tables/regions/*", lambda t: [{**t[0], "area": 1}, *t[1:]]), "areas"),
    "records gone": (lambda r: [p.unlink() for p in r.glob("runs/*/records/*")], "listed, without a record"),
    "a state that is none": (
        lambda r: rewrite(r, "runs/*/records/*", lambda t: [{**t[0], "state": "done"}, *t[1:]]),
        "state 'done'",
    ),
    "another key": (lambda r: rewrite(r, "runs/*/records/*", lambda t: [{**row, "key": "k"} for row in t]), "the key"),
    "an open run": (lambda r: first(r, "runs/*/indexed").unlink(), "not closed"),
    "no gallery": (lambda r: (r / "gallery/index.html").unlink(), "page of 0 characters"),
    "counts that do not add up": (
        lambda r: (p := first(r, "runs/*/run.json")).write_text(json.dumps({**json.loads(p.read_text()), "listed": 7})),
        "of 7 listed",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_invariant_can_fail(store, damage):
    inflict, message = DAMAGES[damage]
    inflict(store)
    with pytest.raises(AssertionError) as found:
        check_store(store, NAMES, exit_code=1)
    assert message in str(found.value)


def test_an_image_that_was_not_listed_is_missed(store):
    with pytest.raises(AssertionError, match=r"'other\.png' \(ward\): listed, without a record"):
        check_store(store, [*NAMES, "other.png"], exit_code=1)
