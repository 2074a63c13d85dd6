"""The forms of `regionflow serve` in a browser: whatever is opened and changed, the run starts with what is shown."""

import json

import pytest
import yaml
from prefect.exceptions import ParameterTypeError
from serving import PICTURES, Served, free_port, log_in, submit

from flows.deployments import POOL
from flows.forms import form_values, recipe_values
from flows.nights import Options
from flows.recipes import recipe_from
from flows.recut_archive import recut_archive
from flows.segment_archive import segment_archive
from flows.segment_image import segment_image
from flows.settings import Execution
from segmentation import Hierarchy, KMeans, Recipe, Spectral, Ward
from segmentation.io.records import read_records
from segmentation.io.runs import list_runs
from segmentation.io.verify import verify_store
from segmentation.params import METHODS, parse_recipe
from segmentation.planning import State
from tests.browser import Browser, needs_chromium

WARD = {"sigma": 1, "scale": 0.5, "method": {"method": "ward", "n_regions": 3}}
NIGHTLY = "segment-archive/nightly"
ARCHIVE = "segment-archive/segment-archive"
IMAGE = "segment-image/segment-image"
RECUT = "recut-archive/recut-archive"
FLOWS = {NIGHTLY: segment_archive, ARCHIVE: segment_archive, IMAGE: segment_image, RECUT: recut_archive}
#: Every field of the form that can be filled in: the names that lead to it, and what a person sees there.
SHOWN = """(() => {
  const field = 'textarea, input:not([aria-hidden]), [role=switch], [aria-haspopup=listbox]';
  const name = (group) => group.querySelector(':scope > div label')?.textContent.replace(' (Optional)', '');
  const found = [];
  for (const group of document.querySelectorAll('.group')) {
    const box = group.querySelector(':scope > fieldset');
    if (!box || !name(group) || box.querySelector('label') || box.textContent.includes('Add item')) continue;
    const path = [];
    for (let at = group; at; at = at.parentElement.closest('.group')) if (name(at)) path.unshift(name(at));
    const input = box.querySelector(field);
    const value = input?.role === 'switch' ? input.ariaChecked === 'true' : input && (input.value || input.textContent);
    found.push([path, value ?? null]);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server with a night far away, whose recipe is Ward's."""
    home = tmp_path_factory.mktemp("forms") / "home"
    recipe = home.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(WARD))
    options = ["--source", home.parent, "--output", home.parent / "out", "--config", recipe, "--cron", "0 0 1 1 *"]
    running = Served(home, *options, "--port", free_port())
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    """Chromium, logged in as a person does."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        log_in(running, served)
        yield running


@pytest.fixture
def waiting(served):
    """Keep what is asked for from being started while a test looks at it."""
    served.send("PATCH", f"/work_pools/{POOL}", is_paused=True)
    yield
    served.send("PATCH", f"/work_pools/{POOL}", is_paused=False)


def open_form(served, browser, name):
    browser.open(f"{served.url[:-4]}/v2/deployments/deployment/{served.deployment(name)['id']}/run")
    browser.wait("document.body.innerText.includes('Worker processes on this machine')")
    settle(browser)


def fill(browser, label, text):
    """Type into a field what then stands there alone, key by key."""
    find = labelled(label)
    field = f"{find}.closest('.group').querySelector('fieldset textarea, fieldset input')"
    browser.wait(f"{find} && {field}")
    browser.value(f"{field}.focus(); {field}.select()")
    if text == "":
        browser.press("Backspace")
    for key in str(text):
        browser.command("Input.insertText", text=key)
    browser.wait(f"{field}.value === {json.dumps(str(text))}")


def choose(label, value):
    """Return the step that picks an entry of a list."""

    def step(browser):
        find = f"document.querySelector('[aria-label={json.dumps(f'Select {label}')}]')"
        browser.wait(find)
        browser.press_button(find)
        entry = f"[...document.querySelectorAll('[cmdk-item]')].find((node) => node.innerText.trim() === '{value}')"
        browser.wait(entry)
        browser.press_button(entry)

    return step


def switch(label):
    """Return the step that turns a switch."""
    return lambda browser: browser.press_button(f"{labelled(label)}.closest('.group').querySelector('[role=switch]')")


def tab(part, name):
    """Return the step that opens or closes the part of a method."""
    group = f"{labelled(f'More for {part}')}.closest('.group')"
    find = f"[...{group}.querySelectorAll('[role=tab]')].find((node) => node.textContent === '{name}')"
    return lambda browser: browser.press_button(find)


def labelled(label):
    return f"[...document.querySelectorAll('label')].find((node) => node.textContent.startsWith({json.dumps(label)}))"


PARTS = {"spectral": "Spectral", "ward": "Ward", "kmeans": "KMeans", "hierarchy": "Hierarchy"}
OPEN_ALL = [tab(part, name) for part, name in PARTS.items()]
CLOSE_ALL = [tab(part, "None") for part in PARTS]


def settle(browser):
    """Give the form the moment that it takes to pass a value on, which a person needs for the next step anyway."""
    browser.value("new Promise((resolve) => setTimeout(resolve, 400))")


def take(browser, steps):
    """Do one step after the other; a pair is a field and what is typed into it."""
    for step in steps:
        fill(browser, *step) if isinstance(step, tuple) else step(browser)
        settle(browser)


def sent(served, browser, name):
    """Submit the form; return the parameters of the run that this asks for."""
    known = {run["id"] for run in served.runs_of(name)}
    submit(browser)
    (run,) = (run for run in served.runs_of(name) if run["id"] not in known)
    return run


def values_of(shown):
    """Put together what the filled-in fields of a form say."""
    values = {}
    for path, text in shown:
        if text not in (None, ""):  # nothing typed in, or closed
            at = values
            for name in path[:-1]:
                at = at.setdefault(name.lower().removeprefix("more for "), {})
            at[path[-1].lower().replace(" ", "_")] = typed(text)
    return values


def typed(text):
    try:
        return json.loads(text) if isinstance(text, str) else text
    except ValueError:
        return text


def check_as_shown(flow, parameters, shown):
    """Hold what a run starts with against what its form showed; return that."""
    started = flow.validate_parameters(parameters)
    values = values_of(shown)
    assert {"output", "settings"} <= values.keys()
    if "recipe" in values:
        values["recipe"] = recipe_values(values["recipe"])
    for name, value in values.items():
        assert started[name] == (type(started[name])(**value) if isinstance(value, dict) else value)
    return started


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("name", "steps", "expected"),
    [
        (NIGHTLY, [], Ward(n_regions=3)),
        (NIGHTLY, [choose("Method", "hierarchy"), ("Regions", "")], Hierarchy()),
        (NIGHTLY, [choose("Method", "kmeans"), ("Regions", 5)], KMeans(n_clusters=5)),
        (ARCHIVE, [choose("Method", "hierarchy")], Hierarchy()),
        (ARCHIVE, [("Regions", 12), choose("Method", "hierarchy"), choose("Method", "ward")], Ward(n_regions=12)),
        (ARCHIVE, [choose("Method", "ward"), switch("Auto")], Ward(n_regions="auto")),
        (ARCHIVE, [switch("Auto"), switch("Auto"), ("Regions", 12)], Spectral(n_regions=12)),
        (ARCHIVE, [*OPEN_ALL, ("Threshold", 0.25), choose("Method", "hierarchy")], Hierarchy(threshold=0.25)),
        (ARCHIVE, [*OPEN_ALL, ("Beta", 5), *CLOSE_ALL, choose("Method", "ward")], Ward()),
        (IMAGE, [*OPEN_ALL, *CLOSE_ALL, *OPEN_ALL, ("Max Iter", 50), choose("Method", "kmeans")], KMeans(max_iter=50)),
        (IMAGE, [tab("spectral", "Spectral"), choose("Eigen Solver", "arpack")], Spectral(eigen_solver="arpack")),
    ],
)
@needs_chromium
def test_a_run_starts_with_what_its_form_shows_whatever_was_opened_before(served, browser, name, steps, expected):
    open_form(served, browser, name)
    if name != NIGHTLY:
        take(browser, [("source" if name == ARCHIVE else "image", "/photos"), ("output", "/results")])
    take(browser, steps)
    shown = browser.value(SHOWN)
    browser.picture(PICTURES / f"form-{name.partition('/')[2]}.png")
    started = check_as_shown(FLOWS[name], sent(served, browser, name)["parameters"], shown)
    assert started["recipe"].method == expected


@pytest.mark.usefixtures("waiting")
@needs_chromium
def test_a_recut_starts_with_what_its_form_shows(served, browser):
    open_form(served, browser, RECUT)
    take(browser, [("output", "/results"), ("threshold", 0.5), ("threshold", ""), ("Workers", 3)])
    shown = browser.value(SHOWN)
    started = check_as_shown(recut_archive, sent(served, browser, RECUT)["parameters"], shown)
    assert (started["threshold"], started["settings"].workers) == (None, 3)


@needs_chromium
def test_a_method_that_is_chosen_in_the_form_gets_the_grid_that_the_command_gives_it(
    served, browser, archive, tmp_path
):
    open_form(served, browser, ARCHIVE)
    take(browser, [choose("Method", "hierarchy"), ("source", archive), ("output", tmp_path / "out")])
    run = sent(served, browser, ARCHIVE)
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    (made,) = list_runs(tmp_path / "out")
    recipe = recipe_from(None, method="hierarchy")
    assert parse_recipe(made["recipe"]) == recipe
    assert (recipe.sigma, recipe.scale) == (0, 1)


@needs_chromium
def test_a_recut_is_started_from_its_form(served, browser, archive, tmp_path):
    values = {"source": str(archive), "output": str(tmp_path / "out"), "recipe": {"method": "hierarchy"}}
    assert served.ended(served.start(ARCHIVE, **values))["state_type"] == "COMPLETED"
    open_form(served, browser, RECUT)
    take(browser, [("output", tmp_path / "out"), ("threshold", 0.25)])
    browser.picture(PICTURES / "form-of-a-recut.png")
    run = sent(served, browser, RECUT)
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    found = {label: record.state for (_, label), record in read_records(tmp_path / "out").items() if "-t" in label}
    assert found == {"hierarchy-t0_25": State.SEGMENTED}
    assert verify_store(tmp_path / "out")[1] == []


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"metod": "ward"}, "metod"),
        ({"method": "wards"}, "recipe.method: Input should be 'spectral', 'ward'"),
        ({"method": "ward", "ward": {"n_region": 4}}, "n_region"),
        ({"method": "ward", "regions": 12, "auto": True}, "regions: 12 and auto are both given"),
        ({"method": "kmeans", "auto": True}, "kmeans has no number of colours"),
        ({"method": {"method": "hierarchy", "connectivity": 4}}, "connectivity"),
    ],
)
def test_what_a_form_cannot_mean_is_refused(sent, message):
    with pytest.raises(ParameterTypeError, match=message):
        segment_archive.validate_parameters({"source": "/in", "output": "/out", "recipe": sent})


@pytest.mark.parametrize(
    "recipe",
    [
        *(Recipe(method=model()) for model in METHODS.values()),
        Recipe(sigma=2, scale=0.5, seed=1, method=Hierarchy(n_regions=12, smallest_region=4)),
        Recipe(method=Ward(n_regions="auto", connectivity=8)),
        Recipe(refine="nearest", min_region_size=5, method=Spectral(eigen_solver="lobpcg", beta=4)),
        Recipe(method=Hierarchy(threshold=0.3)),
    ],
)
def test_a_form_that_is_filled_in_for_a_recipe_gives_that_recipe(recipe):
    assert parse_recipe(recipe_values(json.loads(json.dumps(form_values(recipe))))) == recipe


def test_the_form_of_a_run_has_every_parameter_with_its_bounds_choices_and_description(served):
    schema = served.deployment("segment-archive/nightly")["parameter_openapi_schema"]
    assert schema["required"] == ["source", "output"]
    models, recipe = schema["definitions"], schema["properties"]["recipe"]
    assert set(models) == {"Spectral", "Ward", "KMeans", "Hierarchy", "Selection", "Settings"}
    for model in (schema, recipe, *models.values()):
        for name, field in model["properties"].items():
            assert field.get("title"), name
            assert field.get("description") or "$ref" in field, name
            kinds = [kind for kind in field.get("anyOf", ()) if "$ref" not in kind and kind != {"type": "null"}]
            assert not kinds, f"{name} would be shown as tabs"
    scale = recipe["properties"]["scale"]
    assert (scale["exclusiveMinimum"], scale["maximum"]) == (0, 1)
    assert scale["description"].endswith("Allowed: > 0 and ≤ 1.")  # the form shows no bounds of its own
    assert "default" not in scale
    assert "default" not in recipe["properties"]["sigma"]
    for name in (ARCHIVE, IMAGE):
        form = served.deployment(name)["parameter_openapi_schema"]["properties"]["recipe"]["default"]
        assert parse_recipe(recipe_values(form)) == Recipe()
    assert models["Spectral"]["properties"]["assign_labels"]["enum"] == ["kmeans", "discretize", "cluster_qr"]
    regions = recipe["properties"]["regions"]
    assert (regions["type"], regions["minimum"], "default" in regions) == ("integer", 1, False)
    assert recipe["properties"]["method"]["enum"] == list(METHODS)
    assert models["Settings"]["properties"]["pixels"]["enum"] == ["preview", "full", "none"]


def test_the_form_of_a_recut_says_what_it_cuts_and_what_its_label_maps_are_called(served):
    schema = served.deployment(RECUT)["parameter_openapi_schema"]
    assert schema["required"] == ["output"]
    said = {name: field.get("description", "") for name, field in schema["properties"].items()}
    assert set(said) == {"output", "regions", "threshold", "label", "settings"}
    assert said["output"].startswith("Store whose trees are cut")
    assert "LABEL-NUMBER" in said["regions"]
    assert "in [0, 1], instead of regions" in said["threshold"]
    assert said["label"] == "Label maps whose trees are cut; hierarchy if empty."
    assert set(schema["definitions"]["Execution"]["properties"]) == set(Execution.model_fields)
    refused = {"output": "/out", "regions": [0]}, {"output": "/out", "label": "../x"}, {"output": ""}, {}
    deployment = served.deployment(RECUT)["id"]
    for parameters in refused:
        answer = served.api.post(f"/deployments/{deployment}/create_flow_run", json={"parameters": parameters})
        assert answer.status_code == 409, parameters


@pytest.mark.parametrize("method", METHODS)
def test_the_form_of_a_night_prefills_no_grid_that_nobody_chose(method):
    recipe = recipe_from(None, method=method)
    night = Options(source="/in", output="/out", recipe=recipe.model_dump(mode="json")).night()
    assert not {"sigma", "scale"} & night.parameters()["recipe"].keys()
    assert parse_recipe(recipe_values(night.parameters()["recipe"])) == recipe
    chosen = Options(source="/in", output="/out", recipe={**recipe.model_dump(mode="json"), "scale": 0.5}).night()
    assert chosen.parameters()["recipe"]["scale"] == 0.5
