"""The demonstration, run once, and looked at from all sides."""

import html
import io
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from flows.cli import app
from flows.demo import run_demo
from flows.demo_cases import (
    ARCHIVE_RECIPES,
    CASES,
    COINS,
    FOUR,
    HIERARCHY,
    circle_regions,
    command_options,
    draw_circles,
)
from flows.figures import Axis, color_regions, mean_colors, outlined, scatter
from flows.recipes import recipe_from
from segmentation.errors import ParameterError
from segmentation.io.records import read_records
from segmentation.io.runs import list_runs
from segmentation.io.sources import image_id
from segmentation.io.store import read_labels
from segmentation.io.verify import verify_store
from tests.browser import CHROMIUM, FLAGS, needs_chromium

LOOK = """<script>
addEventListener("load", () => {
  const broken = [...document.images].filter((image) => !image.complete || !image.naturalWidth);
  document.title = `${document.images.length} images, broken: ${broken.map((image) => image.src)}.`;
});
</script>"""


class Links(HTMLParser):
    """Collects the pictures of a page, and all that it refers to."""

    def __init__(self, html):
        super().__init__()
        self.images, self.targets = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag == "img":
            self.images.append(values)
        self.targets += [values[name] for name in ("src", "href") if name in values]


@pytest.fixture(scope="module")
def demo(prefect_api, tmp_path_factory):
    output = tmp_path_factory.mktemp("demo") / "new" / "folder"
    assert run_demo(output, Console(quiet=True)) == 0
    return output


@pytest.fixture
def page(demo):
    return (demo / "index.html").read_text("utf-8")


def test_every_case_and_picture_is_segmented_and_as_recorded(demo):
    assert {path.name for path in demo.iterdir()} == {
        *("cases", "cases-input", "pictures", "archive", "figures", "index.html")
    }
    assert len(read_records(demo / "cases")) == len(CASES)
    archive = read_records(demo / "archive")
    assert {label for _, label in archive} == set(ARCHIVE_RECIPES)
    assert len(archive) >= 8 * len(ARCHIVE_RECIPES)
    for store in (demo / "cases", demo / "archive"):
        checked, faults = verify_store(store)
        assert checked > len(CASES)
        assert faults == []
        for (identity, label), record in read_records(store).items():
            labels = read_labels(store, identity, label)
            assert labels.shape == (record.height, record.width)
            present = set(np.unique(labels).tolist()) - ({0} if record.ref.mask_path else set())
            assert present == set(range(1, record.n_regions + 1))


def test_every_picture_of_the_page_is_a_file_of_the_size_it_says_with_words_for_it(demo, page):
    images = Links(page).images
    assert {values["src"] for values in images} == {f"figures/{path.name}" for path in (demo / "figures").iterdir()}
    for values in images:
        with Image.open(demo / values["src"]) as picture:
            picture.load()
            assert picture.size == (int(values["width"]), int(values["height"]))
        assert len(values["alt"]) > 10


def test_page_needs_nothing_that_is_not_beside_it(demo, page):
    targets = [target for target in Links(page).targets if not target.startswith(("data:", "#"))]
    assert {"archive/gallery/index.html", "cases/gallery/index.html"} < set(targets)
    for target in targets:
        assert (demo / unquote(target)).is_file()
    assert "url(" not in page
    assert "<script" not in page


def test_page_shows_every_case_with_what_was_measured(demo, page):
    scores = [float(score) for score in re.findall(r"<dt>Adjusted Rand index</dt><dd>([\d.]+)</dd>", page)]
    assert len(scores) == 3  # four circles, two circles, blobs
    assert min(scores) >= 0.94
    for (_, label), record in read_records(demo / "cases").items():
        assert f"figures/{label}.png" in page
        assert f", {record.seconds['cluster']:.2f}s</h3>" in page
        for name in ("ncut", "inertia"):
            if name in record.scores:
                shown = f"{record.scores[name]:.4f}" if name == "ncut" else f"{record.scores[name]:,.0f}"
                assert f"<dd>{shown}</dd>" in page
    assert len(re.findall(r"figures/digit-\d\.png", page)) == 10
    assert page.count('<svg class="scatter"') == 5


def test_page_shows_each_image_beside_the_cut_that_it_suggests(demo, page):
    section = re.search(r'<section id="hierarchy">.*?</section>', page, re.DOTALL).group()
    records = read_records(demo / "cases")
    for case in HIERARCHY:
        record = records[image_id(case.file), case.label]
        assert case.recipe.method.n_regions == "auto"
        assert 2 <= record.n_regions < record.scores["base_regions"]
        for fact in (
            str(record.n_regions),
            f"{record.scores['threshold']:.3f}",
            f"{record.scores['base_regions']:,.0f}",
        ):
            assert f"<dd>{fact}</dd>" in section
        assert f"{case.command()}\n" in section
    pictures = [values["src"] for values in Links(section).images]
    assert pictures == [f"figures/{name}.png" for case in HIERARCHY for name in (case.file[:-4], case.label)]
    assert next((demo / "cases" / "contours").glob("*/*.hierarchy-astronaut.cuts.js"))


def test_commands_on_the_page_run_as_they_stand_and_make_the_labels_of_the_page(demo, page, tmp_path):
    (section,) = re.findall(r'<section id="coins".*?</section>', page, re.DOTALL)
    (commands,) = re.findall(r"<pre>(.*?)</pre>", section, re.DOTALL)
    done = subprocess.run(["bash", "-e", "-c", html.unescape(commands)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for case in COINS.values():
        ours, theirs = (read_labels(demo / store, image_id(case.file), case.label) for store in ("cases", "my-cases"))
        np.testing.assert_array_equal(ours, theirs)
    shutil.rmtree(demo / "my-cases")


@needs_chromium
def test_browser_shows_every_picture(demo, page, tmp_path):
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert len(policy.findall(page)) == 1
    looked_at = demo / "figures" / ".look.html"
    # The page's own policy runs no script; this copy of it is allowed one that looks at the pictures.
    html = policy.sub('<base href="../">', page).replace("</body>", f"{LOOK}</body>")
    looked_at.write_text(html, "utf-8")
    try:
        ran = subprocess.run(
            [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", looked_at.as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        looked_at.unlink()
    assert f"<title>{len(Links(page).images)} images, broken: .</title>" in ran.stdout


def test_second_demo_finds_everything_done_and_shows_what_it_must_refuse(demo, tmp_path, capsys):
    output = tmp_path / "again"
    shutil.copytree(demo, output)
    name = "<i>broken.png"
    (output / "pictures" / name).write_bytes(b"not an image")
    runs = len(list_runs(output / "cases"))

    assert run_demo(output, Console(stderr=True)) == 1

    said = capsys.readouterr()
    assert said.err.count("done before") == len(CASES)
    assert said.err.count(f"{name} rejected: ") == len(ARCHIVE_RECIPES)
    assert str(output / "index.html") in said.out.replace("\n", "")
    assert len(list_runs(output / "cases")) == runs
    page = (output / "index.html").read_text("utf-8")
    assert "&lt;i&gt;broken.png" in page
    assert page.count('<p class="problem">rejected at load') == len(ARCHIVE_RECIPES)
    assert name not in page


def test_folder_with_other_files_is_refused_untouched(tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(ParameterError, match="holds other files; an empty or absent folder, or an earlier demo"):
        run_demo(tmp_path, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["index.html"]
    with pytest.raises(ParameterError, match=r"index\.html is a file; a folder is expected"):
        run_demo(tmp_path / "index.html", Console(quiet=True))


@pytest.mark.parametrize("recipe", [*(case.recipe for case in CASES), *ARCHIVE_RECIPES.values()])
def test_command_line_on_the_page_makes_the_recipe_of_the_case(recipe):
    words = ["run", "SOURCE", "OUTPUT", *command_options(recipe)]
    _, bound, _ = app.parse_args(words, exit_on_error=False, print_error=False)
    given = bound.arguments
    options = {name: given[name] for name in ("sigma", "scale", "min_region_size") if name in given}
    made = recipe_from(
        None,
        method=given.get("method"),
        regions=given.get("regions"),
        options=options,
        pairs=given.get("set_", ()),
    )
    assert made == recipe


def test_commands_name_the_mask_of_masked_cases_only():
    for case in CASES:
        words = shlex.split(case.command())
        assert words[:6] == ["regionflow", "run", f"cases-input/{case.file}", "my-cases", "--label", case.label]
        assert ("--mask" in words) == case.file.endswith("circles.tif")


def test_circles_are_brighter_by_one_and_meet_halfway():
    regions, image = circle_regions(FOUR), draw_circles(FOUR)
    assert set(np.unique(regions)) == {0, 1, 2, 3, 4}
    assert [regions[row, column] for row, column, _ in FOUR] == [1, 2, 3, 4]
    assert image[regions > 0].mean() - image[regions == 0].mean() == pytest.approx(1, abs=0.02)


def test_region_pictures_have_one_colour_per_region():
    labels = np.array([[0, 1, 1], [2, 2, 1]])
    image = np.array([[[9, 9, 9], [0, 0, 0], [0, 30, 60]], [[1, 2, 3], [3, 4, 5], [0, 0, 0]]], np.uint8)
    painted = color_regions(labels)
    assert painted[0, 0].tolist() == [0, 0, 0, 0]
    assert len(np.unique(painted.reshape(-1, 4), axis=0)) == 3
    means = mean_colors(image, labels + 1)
    assert means[0, 1].tolist() == means[1, 2].tolist() == [0, 10, 20]
    assert outlined(image[..., 0], labels, 3).shape == (6, 9, 3)


def test_scatter_plot_is_well_formed_and_puts_every_point_in_its_place():
    points = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    colors = np.array([[255, 0, 0], [0, 0, 255], [255, 0, 0]], np.uint8)
    axes = Axis("a < b", 0, 1, (0, 1)), Axis("y", 0, 1, (0, 1))
    drawing = scatter(points, colors, *axes, description='"two" & <three>', centers=points[:1])
    root = ET.parse(io.StringIO(str(drawing))).getroot()
    assert root.get("aria-label") == '"two" & <three>'
    paths = {path.get("stroke"): path.get("d") for path in root.findall("g[@class='points']/path")}
    assert {color: d.count("M") for color, d in paths.items()} == {"#ff0000": 2, "#0000ff": 1}
    right, top = map(float, re.fullmatch(r"M([\d.]+) ([\d.]+)h0", paths["#0000ff"]).groups())
    left, bottom = map(float, re.match(r"M([\d.]+) ([\d.]+)h0", paths["#ff0000"]).groups())
    assert (left < right, top < bottom) == (True, True)
    assert "a < b" in [text.text for text in root.iter("text")]
