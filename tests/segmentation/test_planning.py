import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmentation.params import KMeans, Recipe, Spectral, Ward
from segmentation.planning import (
    MAX_ATTEMPTS,
    Batch,
    Header,
    ImageRef,
    Record,
    State,
    Work,
    batch_size,
    count_reasons,
    decide,
    display,
    estimate_cost,
    label_key,
    make_batches,
)

RECIPE = Recipe()
REF = ImageRef(name="a.png", path="/a.png", id="a-00", size=10, mtime_ns=5)


def record(**changes):
    done = Record(REF, "spectral", State.SEGMENTED, key=label_key("digest", "", RECIPE), digest="digest")
    return replace(done, **changes)


def work(name="a", height=100, width=100):
    return Work(replace(REF, name=name), header=Header(height, width, 1, 1))


def test_an_image_without_a_record_is_new():
    assert decide(REF, None, RECIPE) == "new"


def test_an_image_with_a_current_record_is_left_alone():
    assert decide(REF, record(), RECIPE) == ""


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 6}, {"mask_path": "m", "mask_size": 3}])
def test_another_size_time_or_mask_is_a_change(change):
    assert decide(replace(REF, **change), record(), RECIPE) == "changed"


def test_other_parameters_are_computed_anew():
    assert decide(REF, record(), Recipe(seed=1)) == "parameters"


def test_a_rejected_image_is_not_tried_again_unless_asked():
    rejected = record(state=State.REJECTED)
    assert decide(REF, rejected, RECIPE) == ""
    assert decide(REF, rejected, RECIPE, retry_failed=True) == "failed"


def test_a_failed_image_is_tried_again_a_few_times():
    assert decide(REF, record(state=State.FAILED, attempts=1), RECIPE) == "failed"
    assert decide(REF, record(state=State.FAILED, attempts=MAX_ATTEMPTS), RECIPE) == ""


def test_verifying_looks_at_every_image():
    assert decide(REF, record(), RECIPE, verify_sources=True) == "verify"


def test_the_key_depends_on_source_mask_and_every_parameter():
    recipes = [RECIPE, Recipe(sigma=1), Recipe(method=Ward()), Recipe(method=Spectral(beta=9)), Recipe(seed=0)]
    keys = [label_key("d", "", recipe) for recipe in recipes] + [
        label_key("e", "", RECIPE),
        label_key("d", "m", RECIPE),
    ]
    assert len(set(keys)) == len(keys)


@given(st.lists(st.integers(1, 2500), max_size=40), st.integers(1, 10))
def test_batches_hold_every_image_once_in_order_and_stay_under_the_limits(heights, max_images):
    works = [work(str(n), height=height) for n, height in enumerate(heights)]
    limit, most = (estimate_cost(Header(height, 100, 1, 1), RECIPE).peak for height in (1000, 2000))
    found = list(make_batches(works, RECIPE, limit_bytes=limit, worker_bytes=most, max_images=max_images))
    batches = [group for group in found if isinstance(group, Batch)]
    refused = [group[0] for group in found if not isinstance(group, Batch)]
    assert [item for batch in batches for item in batch.works] == [item for item in works if item not in refused]
    assert refused == [item for item in works if item.header.height > 2000]
    for batch in batches:
        costs = [estimate_cost(item.header, RECIPE) for item in batch.works]
        peak = sum(cost.kept for cost in costs) + max(cost.peak - cost.kept for cost in costs)
        assert peak <= (most if batch.whole_worker else limit)
        assert batch.whole_worker == (batch.works[0].header.height > 1000)
        assert len(batch.works) == 1 or not batch.whole_worker
        assert len(batch.works) <= max_images
    assert len({batch.number for batch in batches}) == len(batches)


def test_an_image_that_fits_on_no_worker_is_refused_with_the_numbers():
    vast = work(height=50_000, width=50_000)
    ((refused, reason),) = make_batches([vast], RECIPE, limit_bytes=2**20, worker_bytes=2**21, max_images=4)
    assert refused.header.height == 50_000
    assert re.match(r"needs about [\d,]{7} MiB with this recipe, an image may take 2 MiB", reason)


def test_halves_share_the_images_and_have_names_of_their_own():
    first, second = Batch("00007", tuple(work(str(n)) for n in range(5))).halves()
    assert [item.ref.name for item in first.works + second.works] == list("01234")
    assert (first.number, second.number) == ("00007a", "00007b")


@given(st.integers(1, 10**6), st.integers(1, 64))
def test_batches_are_many_enough_for_all_workers(n_images, n_workers):
    size = batch_size(n_images, n_workers)
    assert 1 <= size <= 512
    assert size == 1 or n_images / size >= 4 * n_workers


@pytest.mark.parametrize("method", [Spectral(), Ward(), KMeans()])
def test_cost_grows_with_the_image_and_every_method_has_one(method):
    recipe = Recipe(method=method)
    small, large = (estimate_cost(Header(size, size, 3, 1), recipe) for size in (100, 200))
    assert 3.5 < large.peak / small.peak < 4.5
    assert small.kept < small.peak


def test_reasons_are_counted_and_unchanged_is_the_empty_one():
    assert count_reasons(["new", "", "new"]) == {
        "new": 2, "changed": 0, "parameters": 0, "failed": 0, "damaged": 0, "verify": 0, "unchanged": 1,
    }  # fmt: skip


@given(st.text())
def test_display_names_are_one_printable_line_that_utf8_can_hold(text):
    shown = display(text)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_display_shows_bytes_that_are_not_text():
    assert display("\udcff.png") == "\\udcff.png"


def test_a_batch_ends_when_it_has_enough_pixels_to_work_on():
    works = [work(str(n), height=1000, width=2000) for n in range(7)]
    batches = list(make_batches(works, RECIPE, limit_bytes=2**40, worker_bytes=2**40, max_images=256))
    assert [len(batch.works) for batch in batches] == [5, 2]


def test_what_is_computed_of_one_image_is_never_in_two_batches():
    works = [replace(work(name, 400, 400), regions=number) for name in "abc" for number in (8, 16, 32)]
    works = [replace(item, ref=replace(item.ref, id=item.ref.name)) for item in works]
    peak = estimate_cost(works[0].header, RECIPE).peak
    for limit, most in ((peak, 99), (round(1.1 * peak), 99), (9 * peak, 2), (9 * peak, 99)):
        batches = list(make_batches(works, RECIPE, limit_bytes=limit, worker_bytes=2 * limit, max_images=most))
        assert [item for batch in batches for item in batch.works] == works
        assert sum(batch.n_images() for batch in batches) == 3
    (whole,) = make_batches(works, RECIPE, limit_bytes=99 * peak, worker_bytes=99 * peak, max_images=99)
    first, second = whole.halves()
    assert (first.n_images(), second.n_images()) == (1, 2)
