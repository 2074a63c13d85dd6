"""The scores of BSDS500: by hand where that is possible, and against the reference code where it is there."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from skimage.data import astronaut

from benchmarks import bsds500
from benchmarks.bsds_scores import ImageScores, Truth, boundary_counts, boundary_map, merged, summarise

SHARED = Path(__file__).resolve().parents[3] / "shared"
REFERENCE = SHARED / "tools" / "bsds_eval.py"
DATA = SHARED / "data" / "bsds500"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the photographs of BSDS500 are not beside the project")
needs_reference = pytest.mark.skipif(not REFERENCE.is_file(), reason="no other evaluation lies beside the project")


def halves():
    """One person sees the left and the right half of 4×6 pixels, another sees nothing."""
    left = np.repeat([[1, 1, 1, 2, 2, 2]], 4, axis=0)
    return Truth([left, np.ones_like(left)], [boundary_map(left), boundary_map(np.ones_like(left))]), left


def scores_of(truth, *maps):
    scores = ImageScores(truth)
    for labels in maps:
        scores.add(truth.table(labels))
        scores.add_boundary(labels)
    return scores


def test_scores_by_hand():
    truth, left = halves()
    scores = scores_of(truth, left, np.ones_like(left))
    # The halves cover one person's regions wholly, and half of the other's region.
    assert scores.covered == [24 + 12, 12 + 24]
    pairs, across = 24 * 23 / 2, 12 * 12
    assert scores.pri == pytest.approx([(1 + 1 - across / pairs) / 2] * 2)
    assert scores.vi == pytest.approx([0.5, 0.5])
    assert scores.n_regions == [2, 1]
    summary = summarise([scores])
    assert summary.cover_ods == summary.cover_ois == 0.75
    assert summary.cover_best == 1.0
    assert summary.f_ods == pytest.approx(1.0)


def test_one_setting_for_all_is_never_better_than_one_for_each():
    truth, left = halves()
    other = Truth([np.ones_like(left)], [np.zeros(left.shape, bool)])
    maps = left, np.ones_like(left)
    summary = summarise([scores_of(truth, *maps), scores_of(other, *maps)])
    assert summary.cover_ods == summary.cover_ois == pytest.approx((36 + 24) / 72)
    assert summary.vi_ods >= summary.vi_ois
    assert summarise([scores_of(other, *maps)], settings=[0]).cover_ods == 0.5


def test_tables_of_merged_regions_are_those_of_the_merged_map():
    rng = np.random.default_rng(0)
    truth = Truth([rng.integers(1, 5, (20, 30))], [np.zeros((20, 30), bool)])
    labels, groups = rng.integers(0, 9, (20, 30)), np.array([0, 1, 2, 0, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(merged(truth.table(labels), groups), truth.table(groups[labels]))


def test_a_boundary_pixel_matches_one_pixel_at_most():
    line = np.zeros((200, 300), bool)
    line[:, 150] = True
    beside = np.roll(line, 2, axis=1)
    assert boundary_counts(line, [beside]) == (200, 200, 200, 200)
    far = np.roll(line, 4, axis=1)  # tolerance: .0075 of a diagonal of 361 pixels
    assert boundary_counts(line, [far]) == (0, 200, 0, 200)
    assert boundary_counts(line, [line | beside]) == (200, 400, 200, 200)


@needs_reference
@needs_data
def test_scores_are_those_of_the_reference_code():
    spec = importlib.util.spec_from_file_location("bsds_eval", REFERENCE)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    ours, theirs = [], []
    for path in sorted((DATA / "groundTruth" / "val").glob("*.mat"))[::40]:
        segmentations, boundaries = reference.load_ground_truth(str(path))
        truth = Truth.read(path)
        ours.append(ImageScores(truth))
        theirs.append(reference.ImageScores(reference.GroundTruth(segmentations)))
        rows, columns = (np.arange(n) for n in segmentations[0].shape)
        for n in (2, 5):
            labels = (rows * n // len(rows))[:, None] * n + columns * n // len(columns)
            ours[-1].add(truth.table(labels))
            ours[-1].add_boundary(labels)
            theirs[-1].add(labels)
            marked = reference.thin(reference.boundary_map(labels))
            assert ours[-1].boundary[-1] == reference.boundary_counts(marked, boundaries)
    expected, summary = reference.summarise(theirs), summarise(ours)
    for name in ("cover_ods", "cover_ois", "cover_best", "pri_ods", "pri_ois", "vi_ods", "vi_ois"):
        assert getattr(summary, name) == pytest.approx(expected[name], abs=1e-9), name


def test_without_photographs_it_says_why_nothing_is_scored(monkeypatch):
    monkeypatch.setattr(bsds500, "find_data", lambda: None)
    assert "no photographs" in bsds500.run(quick=True)[0]["method"]


@needs_data
def test_every_method_is_scored_on_a_photograph():
    rows = bsds500.run(quick=True, data=DATA)
    scored = rows[: len(bsds500.METHODS)]
    assert [row["method"] for row in scored] == [method.name for method in bsds500.METHODS]
    for row in scored:
        assert 0 < row["covering ODS"] <= row["OIS"] <= row["best"] <= 1
        assert 0 < row["F ODS"] <= row["F OIS"] <= 1


def test_every_method_gives_label_maps_of_the_photograph():
    photo = astronaut()[100:164, 150:230]
    for method in bsds500.METHODS:
        maps = list(method.segment(photo))
        assert len(maps) == len(method.settings), method.name
        assert all(labels.shape == photo.shape[:2] for labels in maps)
