import hashlib
import http.server
import json
import os
import re
import subprocess
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from segmentation import Hierarchy, Recipe, Ward, region_tree, segment
from segmentation.contours import encode_picture, render_contours
from segmentation.cuts import cut_tree, measure_tree
from segmentation.io.gallery import write_gallery
from segmentation.io.records import commit_batch, publish_index
from segmentation.io.runs import write_run
from segmentation.io.slider import slider_script
from segmentation.io.sources import image_id
from segmentation.io.store import Entry, write_entry
from segmentation.planning import ImageRef, Record, State, label_key
from tests.browser import CHROMIUM, FLAGS, Browser, needs_chromium

RECIPE = Recipe(sigma=0, scale=1, method=Ward(n_regions=2))
RUN = "000001-20260430T020000Z"
LATER = "000002-20260501T020000Z"
SCRIPT = "<script>document.title='owned'</script>.png"
PICTURE = '"><img src=x onerror="document.title=\'owned\'">.png'
HOSTILE = [
    SCRIPT,
    PICTURE,
    "sub/'/*\n*/;document.title='owned'//&amp;.png",
    "\u2028\u202egnp.\udcff\udcfe.png",
    "</script><b>__proto__",
]


def record(name, state=State.SEGMENTED, **changes):
    done = Record(
        ImageRef(name=name, path="", id=image_id(name), size=1234, mtime_ns=2),
        "ward",
        state,
        key=hashlib.sha256(os.fsencode(name)).hexdigest(),
        digest="d",
        seconds={"load": 0.25, "cluster": 0.5},
        attempts=1,
        run=RUN,
        batch="00000",
    )
    if state is State.SEGMENTED:
        done = replace(done, height=12, width=16, channels=1, n_regions=2, scores={"explained_variance": 0.5})
    else:
        done = replace(done, step="load", reason="the file is empty")
    return replace(done, **changes)


def write_records(root, *records):
    for run in {record.run for record in records}:
        commit_batch(root, run, "00000", [record for record in records if record.run == run], None)
    publish_index(root)


def stored(root, name, score, label="ward"):
    """Segment a small image and store it as a run does."""
    image = np.zeros((12, 16), np.uint8)
    image[:, 7:] = 200
    result = segment(image, RECIPE)
    picture, suffix = encode_picture(render_contours(image, result.labels))
    values, counts = np.unique(result.labels, return_counts=True)
    done = record(name, label=label, scores={**result.scores, "explained_variance": score})
    entry = Entry(
        id=done.ref.id,
        source=done.ref.display_name,
        digest=done.digest,
        source_bytes=done.ref.size,
        label=label,
        key=done.key,
        recipe=RECIPE,
        labels=result.labels,
        areas=dict(zip(values.tolist(), counts.tolist(), strict=True)),
        scores=done.scores,
        preview=image,
        picture=picture,
        picture_suffix=suffix,
    )
    _, contour = write_entry(root, entry)
    return replace(done, contour=contour)


@pytest.fixture(scope="module")
def hostile_store(tmp_path_factory):
    """Make a store of hostile names: two labels of each, one rejected and one failed."""
    root = tmp_path_factory.mktemp("archive & <store> #1") / "a 100%?"
    records = [stored(root, name, 0.9 - place / 10) for place, name in enumerate(HOSTILE)]
    records += [stored(root, name, 0.95, "kmeans") for name in HOSTILE]
    records += [record("b.png", State.REJECTED, reason=f"it says </script>{SCRIPT}")]
    records += [record("c.png", State.FAILED, step="cluster", attempts=2)]
    write_records(root, *records)
    write_run(root, RUN, {"source": "/srv/</title><b>\udcff", "label": "ward", "recipe": RECIPE.model_dump()})
    write_gallery(root)
    return root


def read_data(root):
    (path,) = (root / "gallery").glob("data-*.js")
    return json.loads(path.read_text("ascii").removeprefix("window.regionflow=").rstrip(";\n"))


def read_page(root):
    return (root / "gallery" / "index.html").read_text("utf-8")


def names_in_order(data):
    return [data["name"][image] for image in data["rows"]["image"]]


def test_worst_comes_first_failed_then_rejected_then_by_ascending_score(tmp_path):
    write_records(
        tmp_path,
        record("a-good.png", scores={"explained_variance": 0.97}),
        record("b-rejected.png", State.REJECTED),
        record("c-poor.png", scores={"explained_variance": 0.31}),
        record("d-failed.png", State.FAILED),
        record("e-unknown.png", scores={}),
        record("f-poor.png", scores={"explained_variance": 0.31}),
    )
    write_gallery(tmp_path)
    order = ["d-failed", "b-rejected", "e-unknown", "c-poor", "f-poor", "a-good"]
    assert names_in_order(read_data(tmp_path)) == [f"{name}.png" for name in order]


def test_masked_images_come_after_the_others_since_they_may_hold_nothing_but_noise(tmp_path):
    circles = record("a-circles.tif", scores={"explained_variance": 0.0})
    masked = replace(circles, ref=replace(circles.ref, mask_path="masks/a-circles.png"))
    write_records(tmp_path, masked, record("b.png", scores={"explained_variance": 0.9}), record("c", State.REJECTED))
    write_gallery(tmp_path)
    assert names_in_order(read_data(tmp_path)) == ["c", "b.png", "a-circles.tif"]


@pytest.mark.parametrize(
    ("names", "source", "title"),
    [
        (["a.png", "b.png"], "/data/photos/b.png", "photos"),  # the last run was on one file of several
        (["b.png"], "/data/photos/b.png", "b.png"),
        (["a.png", "b.png"], "/data/photos", "photos"),
        (["a.png", "b.png"], "/data/photos.zip", "photos.zip"),
        (["a.png", "b.png"], "s3://bucket/photos/b.png", "photos"),
    ],
)
def test_the_page_is_named_after_the_source_of_all_its_images(tmp_path, names, source, title):
    write_records(tmp_path, *map(record, names))
    write_run(tmp_path, RUN, {"source": source, "label": "ward", "recipe": RECIPE.model_dump()})
    write_gallery(tmp_path)
    assert f"<h1><bdi>{title}</bdi></h1>" in read_page(tmp_path)


def test_every_picture_of_a_segmented_image_is_a_file_beside_the_page(hostile_store):
    data = read_data(hostile_store)
    pictures = [
        data["pictures"][picture].replace("*", data["id"][image])
        for picture, image in zip(data["rows"]["picture"], data["rows"]["image"], strict=True)
    ]
    assert [bool(picture) for picture in pictures] == [False, False] + [True] * 10
    assert all((hostile_store / "gallery" / ".." / picture).is_file() for picture in pictures if picture)


def test_hostile_names_stand_in_the_data_as_text_and_nowhere_as_markup(hostile_store):
    (script,) = (hostile_store / "gallery").glob("data-*.js")
    assert not set(script.read_text("ascii")) & set("<>&\u2028\u2029")
    data = read_data(hostile_store)
    assert set(data["name"]) == {record(name).ref.display_name for name in [*HOSTILE, "b.png", "c.png"]}
    assert f"it says </script>{SCRIPT}" in data["reasons"]
    page = read_page(hostile_store)
    assert "owned" not in page
    assert "&lt;/title&gt;&lt;b&gt;\\udcff" in page
    assert "</title><b>" not in page


def test_page_allows_no_network_and_no_script_but_its_own(hostile_store):
    page = read_page(hostile_store)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page)


def test_totals_count_each_label_and_say_when_the_last_run_was(hostile_store):
    text = " ".join(re.sub(r"<[^>]*>", " ", read_page(hostile_store).split("<noscript>")[0].split("<body>")[1]).split())
    assert "Images 7 Last run 2026-04-30 02:00 UTC ward, 12 results" in text
    assert "Label Segmented Rejected Failed kmeans 5 0 0 ward 5 1 1" in text


def test_same_records_give_the_same_bytes_whatever_the_run_says_of_its_end(tmp_path):
    def gallery(folder, records, description):
        write_records(folder, *records)
        write_run(folder, RUN, {"source": "archive", "label": "ward", **description})
        return {path.name: path.read_bytes() for path in Path(write_gallery(folder)).parent.iterdir()}

    records = [record("a.png"), record("b.png", State.FAILED), record("c.png", label="kmeans")]
    first = gallery(tmp_path / "first", records, {"run": ""})
    again = gallery(tmp_path / "again", records[::-1], {"run": RUN, "finished": "2026-04-30T02:10:00Z", "seconds": 9.1})
    assert first == again


def test_new_gallery_replaces_the_old_one_and_its_data(tmp_path):
    write_records(tmp_path, record("a.png"))
    page = Path(write_gallery(tmp_path))
    (old,) = page.parent.glob("data-*.js")
    write_records(tmp_path, record("b.png", run=LATER))
    write_gallery(tmp_path)
    (new,) = page.parent.glob("data-*.js")
    assert new != old
    assert f'src="{new.name}"' in read_page(tmp_path)
    assert sorted(path.name for path in page.parent.iterdir()) == sorted([new.name, "index.html"])


def test_data_of_the_old_page_stays_until_the_new_page_is_there(tmp_path):
    write_records(tmp_path, record("a.png"))
    page = Path(write_gallery(tmp_path))
    (old,) = page.parent.glob("data-*.js")
    page.unlink()
    page.mkdir()
    write_records(tmp_path, record("b.png", run=LATER))
    with pytest.raises(IsADirectoryError):
        write_gallery(tmp_path)
    assert old.exists()
    assert not list(page.parent.glob(".partial-*"))


def test_score_that_is_no_number_is_left_out(tmp_path):
    write_records(tmp_path, record("a.png", scores={"explained_variance": float("nan"), "ncut": float("inf")}))
    write_gallery(tmp_path)
    assert read_data(tmp_path)["scores"] == {"explained_variance": [None], "ncut": [None]}


def test_store_without_records_has_a_page(tmp_path):
    page = Path(write_gallery(tmp_path))
    assert page == tmp_path / "gallery" / "index.html"
    assert read_data(tmp_path)["id"] == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def archive_page(tmp_path, browser):
    """Open the page of a store of 100 images, the first ten under two labels, two refused."""
    records = [
        record(f"box {n % 3}/plate_{n:03d}.png", scores={"explained_variance": 0.2 + n / 200}, n_regions=200 - n)
        for n in range(98)
    ]
    records += [replace(done, label="kmeans", run=LATER, seconds={"cluster": 7.0}) for done in records[:10]]
    records += [record("café.png", State.REJECTED, reason="GIF with 3 frames"), record("z.png", State.FAILED)]
    write_records(tmp_path, *records)
    browser.open(Path(write_gallery(tmp_path)).as_uri())
    return browser


def search(browser, text):
    field = "document.getElementById('search')"
    browser.value(f"{field}.value = {json.dumps(text)}; {field}.dispatchEvent(new Event('input'))")


def order_by(browser, order):
    field = "document.getElementById('order')"
    browser.value(f"{field}.value = {json.dumps(order)}; {field}.dispatchEvent(new Event('change'))")


def click(browser, selector):
    browser.value(f"document.querySelector({json.dumps(selector)}).click()")


@needs_chromium
def test_chromium_shows_hostile_names_as_text_and_runs_nothing_of_them(hostile_store, tmp_path):
    url = (hostile_store / "gallery" / "index.html").as_uri()
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom", url]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "HOME": str(tmp_path)}, check=True)
    dom = done.stdout.decode()
    assert "<title>title&gt;&lt;b&gt;\\udcff – Regionflow gallery</title>" in dom
    assert len(re.findall(r'<a class="card"', dom)) == 12
    assert len(re.findall(r"<img ", dom)) == 10
    assert re.findall(r'<span class="badge (\w+)">', dom) == ["failed", "rejected"]
    assert "it says &lt;/script&gt;&lt;script&gt;" in dom
    assert '<img src="x"' not in dom


@needs_chromium
def test_all_pictures_of_hostile_names_load_from_a_hostile_folder(hostile_store, browser):
    browser.open((hostile_store / "gallery" / "index.html").as_uri())
    browser.value("for (const image of document.images) image.loading = 'eager'")
    browser.wait("document.images.length === 10 && [...document.images].every((image) => image.naturalWidth === 16)")
    assert browser.value("document.title") == "title><b>\\udcff – Regionflow gallery"
    assert all(browser.value("[...document.images].map((image) => image.alt)"))


@needs_chromium
def test_picture_path_is_a_path_whatever_characters_are_in_it(tmp_path, browser):
    done = stored(tmp_path, "a.png", 0.5)
    odd = "contours/a#b?c%20&'\"<d>.png"
    (tmp_path / done.contour).rename(tmp_path / odd)
    write_records(tmp_path, replace(done, contour=odd))
    browser.open(Path(write_gallery(tmp_path)).as_uri())
    browser.wait("document.images[0].naturalWidth === 16")


@needs_chromium
def test_page_also_works_from_a_web_server(hostile_store, browser):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=hostile_store.parent)) as server:
        threading.Thread(target=server.serve_forever).start()
        address = f"http://127.0.0.1:{server.server_port}/{quote(hostile_store.name)}/gallery/index.html"
        browser.open(address)
        assert len(browser.texts(".card")) == 12
        browser.open("about:blank")
        server.shutdown()


@needs_chromium
def test_cards_come_in_pages_that_arrow_keys_turn(archive_page):
    assert archive_page.texts("#range") == ["1–48 of 110 results"]
    assert len(archive_page.texts(".card")) == 48
    assert archive_page.texts(".card .file")[:3] == ["z.png", "café.png", "plate_000.png"]
    for expected in ("49–96", "97–110", "97–110"):
        archive_page.press("ArrowRight")
        assert archive_page.texts("#range") == [f"{expected} of 110 results"]
    archive_page.press("ArrowLeft")
    assert archive_page.texts("#range") == ["49–96 of 110 results"]


@needs_chromium
@pytest.mark.parametrize(
    ("text", "files"),
    [
        ("cafe", ["café.png"]),
        ("FRAMES gif", ["café.png"]),
        ("box plate_09", [f"plate_{n:03d}.png" for n in range(90, 98)]),
        ("<b>", []),
    ],
)
def test_search_finds_all_words_in_names_and_reasons(archive_page, text, files):
    search(archive_page, text)
    assert archive_page.texts(".card .file") == files
    assert archive_page.value("document.getElementById('nothing').hidden") is bool(files)


@needs_chromium
def test_filters_narrow_the_list_and_are_undone_at_once(archive_page):
    assert archive_page.texts("#labels button") == ["All labels110", "kmeans10", "ward100"]
    click(archive_page, "#labels button:nth-child(2)")
    assert archive_page.texts("#range") == ["1–10 of 10 results"]
    assert archive_page.texts("#states button") == ["All states10", "segmented10", "rejected0", "failed0"]
    click(archive_page, "button.count.rejected")
    assert archive_page.texts(".card .file") == ["café.png"]
    search(archive_page, "plate")
    assert archive_page.texts(".card .file") == []
    click(archive_page, "#clear")
    assert archive_page.texts("#range") == ["1–48 of 110 results"]


@needs_chromium
@pytest.mark.parametrize(
    ("order", "first"),
    [
        ("name", [("plate_000.png", "kmeans"), ("plate_000.png", "ward"), ("plate_003.png", "kmeans")]),
        ("regions", [("plate_000.png", "kmeans"), ("plate_000.png", "ward"), ("plate_001.png", "kmeans")]),
        ("slowest", [("plate_000.png", "kmeans"), ("plate_003.png", "kmeans"), ("plate_006.png", "kmeans")]),
        ("newest", [("plate_000.png", "kmeans"), ("plate_001.png", "kmeans"), ("plate_002.png", "kmeans")]),
    ],
)
def test_other_orders_can_be_chosen(archive_page, order, first):
    order_by(archive_page, order)
    shown = zip(archive_page.texts(".card .file"), archive_page.texts(".card .label"), strict=True)
    assert list(shown)[:3] == first


@needs_chromium
def test_view_shows_all_labels_of_the_image_that_the_address_names(archive_page):
    name = "box 0/plate_003.png"
    archive_page.value(f"location.hash = '{image_id(name)}/ward'")
    archive_page.wait("document.getElementById('view').open")
    assert archive_page.texts("#view-name") == [name]
    assert archive_page.texts("figure h3") == ["kmeans", "ward"]
    assert archive_page.texts("figure.chosen h3") == ["ward"]
    assert "Time7.0 scluster7.0 s" in archive_page.texts("figure dl")[0]
    assert f"Run{RUN}Key{record(name).key[:12]}…" in archive_page.texts("figure dl")[1]


@needs_chromium
def test_view_turns_with_arrows_over_images_and_escape_returns_to_the_last_card(archive_page):
    click(archive_page, ".card")
    archive_page.wait("document.getElementById('view').open")
    assert archive_page.texts("#place") == ["1 / 100"]
    seen = []
    for place in range(2, 60):
        archive_page.press("ArrowRight")
        archive_page.wait(f"document.getElementById('place').textContent === '{place} / 100'")
        seen += archive_page.texts("#view-name .file")
        assert archive_page.value("document.getElementById('previous').disabled") is False
    assert len(set(seen)) == 58
    archive_page.press("ArrowLeft")
    archive_page.wait("document.getElementById('place').textContent === '58 / 100'")
    archive_page.press("Escape")
    archive_page.wait("location.hash === '' && document.activeElement.className === 'card'")
    assert archive_page.texts("#range") == ["49–96 of 110 results"]
    assert archive_page.value("document.activeElement.title").endswith(seen[-2])


@needs_chromium
@pytest.mark.parametrize("address", ["nothing-here", "%E0%A4%A", "<img>/x"])
def test_address_that_names_no_image_opens_nothing(archive_page, address):
    archive_page.value(f"location.hash = {json.dumps(address)}")
    archive_page.value("new Promise((resolve) => setTimeout(resolve))")
    assert archive_page.value("document.getElementById('view').open") is False
    assert len(archive_page.texts(".card")) == 48


def test_every_label_says_with_which_number_of_regions_it_was_made(tmp_path):
    several = [
        record("a.png", label=f"ward-{n}", key=label_key("d", "", RECIPE.with_regions(n))) for n in (8, 16, "auto")
    ]
    alone = record("a.png", label="coins-3", key=label_key("d", "", RECIPE))  # a name that happens to end so
    refused = record("b.png", State.REJECTED, label="ward-8")
    write_records(tmp_path, *several, alone, refused)
    write_run(tmp_path, RUN, {"source": "/srv", "label": "ward", "recipe": RECIPE.model_dump()})
    write_gallery(tmp_path)
    data = read_data(tmp_path)
    rows = data["rows"]
    made = {
        (data["labels"][label], data["recipes"][made])
        for label, made in zip(rows["label"], rows["recipe"], strict=True)
    }
    assert {label: recipe.split(", ")[1] for label, recipe in made} == {
        "ward-8": "n_regions 8",
        "ward-16": "n_regions 16",
        "ward-auto": "n_regions auto",
        "coins-3": "n_regions 2",
    }
    assert len(made) == 4


TREE_RECIPE = Recipe(method=Hierarchy(n_regions=4))
#: What is drawn on the canvas of the first figure: yellow of lines, by pixel.
LINES = """(() => {
  const canvas = document.querySelector("figure canvas");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const lines = [];
  for (let at = 0; at < data.length; at += 4)
    lines.push(Number(data[at] === 255 && data[at + 1] === 214 && data[at + 2] === 64));
  return lines;
})()"""


def stripes():
    """Draw four stripes of grey, each a little brighter than the one before by more: 40 by 60 pixels."""
    image = np.repeat(np.repeat(np.array([[0, 20, 60, 160]], np.uint8), 15, axis=1), 40, axis=0)
    return image + np.random.default_rng(0).integers(0, 3, image.shape, dtype=np.uint8)


def stored_tree(root, name, label="hierarchy"):
    """Store an image with its tree, cut into four regions, as a run does."""
    image = stripes()
    tree = measure_tree(region_tree(image), image, TREE_RECIPE)
    labels, scores = cut_tree(tree, TREE_RECIPE)
    done = record(name, label=label, scores=scores, n_regions=4, height=40, width=60)
    picture, suffix = encode_picture(render_contours(image, labels))
    entry = Entry(
        id=done.ref.id,
        source=done.ref.display_name,
        digest=done.digest,
        source_bytes=done.ref.size,
        label=label,
        key=done.key,
        recipe=TREE_RECIPE,
        labels=labels,
        areas={},
        scores=scores,
        preview=image,
        picture=picture,
        picture_suffix=suffix,
        tree=tree,
        slider=slider_script(f"{done.ref.id}/{label}", image, tree.tree, 4),
    )
    _, contour = write_entry(root, entry)
    return tree.tree, replace(done, contour=contour)


@pytest.fixture
def tree_page(tmp_path, browser):
    """Open the page of one image, as a label with a tree and one without, in a hostile folder; return the tree."""
    root = tmp_path / "archive & <store> #1 100%?"
    tree, done = stored_tree(root, PICTURE)
    write_records(root, done, stored(root, PICTURE, 0.9))
    browser.open(Path(write_gallery(root)).as_uri())
    click(browser, ".card")
    return tree


def slide(browser, stop):
    slider = "document.querySelector('.cuts input')"
    browser.value(f"{slider}.value = {stop}; {slider}.dispatchEvent(new Event('input'))")


@needs_chromium
def test_slider_over_cuts_starts_at_what_is_stored_and_only_where_there_is_a_tree(tree_page, browser):
    browser.wait("document.querySelector('.cuts')")
    assert browser.texts("figure:has(.cuts) h3") == ["hierarchy"]
    assert browser.texts("figure h3") == ["hierarchy", "ward"]
    assert browser.texts(".cuts output") == ["4 regions"]
    assert browser.texts(".cuts output + span") == ["as stored"]
    assert browser.value("document.querySelector('figure canvas').hidden") is True
    assert browser.value("document.querySelector('figure .frame a').hidden") is False


@needs_chromium
def test_every_stop_of_the_slider_draws_the_borders_of_as_many_regions(tree_page, browser):
    browser.wait("document.querySelector('.cuts')")
    n_stops = browser.value("Number(document.querySelector('.cuts input').max)") + 1
    assert n_stops > 5
    seen = []
    for stop in (0, 1, 2, n_stops - 1):
        slide(browser, stop)
        (text,) = browser.texts(".cuts output")
        n_regions = int(text.split()[0])
        seen.append(n_regions)
        labels = tree_page.cut(n_regions=n_regions)
        borders = np.zeros(labels.shape, bool)
        borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
        borders[:-1] |= labels[:-1] != labels[1:]
        drawn = np.array(browser.value(LINES), bool).reshape(labels.shape)
        np.testing.assert_array_equal(drawn, borders)
        assert browser.value("document.querySelector('.cuts input').getAttribute('aria-valuetext')") == text
        assert browser.texts(".cuts output + span") == [f"regionflow recut … --regions {n_regions}"]
        assert browser.value("document.querySelector('figure .frame a').hidden") is True
    assert seen == [1, 2, 3, max(seen)]
    assert max(seen) > 4
    slide(browser, 3)
    assert browser.texts(".cuts output + span") == ["as stored"]
    assert browser.value("document.querySelector('figure canvas').hidden") is True


@needs_chromium
def test_arrow_keys_move_the_slider_that_has_the_focus_and_not_the_page(tree_page, browser):
    browser.wait("document.querySelector('.cuts')")
    browser.value("document.querySelector('.cuts input').focus()")
    browser.press("ArrowLeft")
    browser.press("ArrowLeft")
    assert browser.texts(".cuts output") == ["2 regions"]
    browser.press("ArrowRight")
    assert browser.texts(".cuts output") == ["3 regions"]
    assert browser.texts("#place") == ["1 / 1"]
    assert browser.value("document.querySelector('.cuts input').getAttribute('aria-label')").endswith("of hierarchy")


@needs_chromium
def test_slider_that_is_not_in_the_store_is_not_there(tmp_path, browser):
    _, done = stored_tree(tmp_path, "a.png")
    write_records(tmp_path, done)
    (cuts,) = tmp_path.glob("contours/*/*.cuts.js")
    cuts.unlink()
    browser.open(Path(write_gallery(tmp_path)).as_uri())
    click(browser, ".card")
    browser.wait("document.querySelector('figure img').naturalWidth === 60")
    browser.wait("!document.head.querySelector('script')")
    assert browser.texts(".cuts") == []


@needs_chromium
def test_page_whose_data_is_gone_says_what_to_do(tmp_path, browser):
    write_records(tmp_path, record("a.png"))
    page = Path(write_gallery(tmp_path))
    for path in page.parent.glob("data-*.js"):
        path.unlink()
    browser.open(page.as_uri())
    assert browser.value("document.getElementById('missing').hidden") is False
    assert browser.texts(".card") == []
