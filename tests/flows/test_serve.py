"""`regionflow serve` for real: a server, a worker, a schedule that fires, a browser, and an end without leftovers."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import psutil
import pytest
import yaml
from commands import ENDLESS, RECIPE, alive, children, make_archive, make_endless_archive, stored, wait_for

from flows.cli import run_command
from flows.deployments import check_schedule
from flows.nights import Options
from flows.recipes import recipe_from
from flows.server import Home, has_prefect_server, live_server, write_private
from flows.settings import Execution, Settings
from segmentation import Recipe, Ward
from segmentation.errors import ParameterError
from segmentation.io.records import read_records
from segmentation.io.runs import list_runs
from segmentation.io.verify import verify_store
from segmentation.params import METHODS, parse_recipe
from segmentation.planning import State
from tests.browser import Browser, needs_chromium

REPOSITORY = Path(__file__).parents[2]
ZONE = "Asia/Kathmandu"  # 5:45 h east: a time zone that is ignored, or applied twice, shows
WARD = {"sigma": 1, "scale": 0.5, "method": {"method": "ward", "n_regions": 3}}
RECUT = "recut-archive/recut-archive"
DEPLOYMENTS = {
    *("segment-archive/nightly", "segment-archive/segment-archive"),
    *("segment-image/segment-image", RECUT),
}
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def environment(home, **more):
    """Return an environment as on a machine where nobody has configured Prefect."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "DASK_"))}
    return {**plain, "REGIONFLOW_HOME": str(home), "HOME": str(home.parent), **more}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Served:
    """A `regionflow serve` in a process of its own, and its API."""

    def __init__(self, home, *options):
        self.home = home
        self.output = home.parent / f"serve-{uuid4().hex[:6]}.txt"
        self.started = time.monotonic()
        with self.output.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows.cli", "serve", *map(str, options)],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=environment(home),
                start_new_session=True,
            )
        try:
            wait_for(lambda: "Ctrl-C stops" in self.said(), self.process, timeout_s=300)
        except BaseException:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
            raise
        self.seconds = time.monotonic() - self.started
        self.url = json.loads((home / "server.json").read_text())["url"]
        self.port = httpx.URL(self.url).port
        self.auth = (home / "auth").read_text().strip()
        self.api = httpx.Client(base_url=self.url, auth=tuple(self.auth.split(":", 1)), timeout=30)
        client = str(uuid4())
        token = self.api.get("/csrf-token", params={"client": client}).json()["token"]
        self.api.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": client})

    def said(self):
        return self.output.read_text()

    def post(self, path, **values):
        answer = self.api.post(path, json=values)
        while answer.status_code == 503:  # SQLite was busy; Prefect's own clients ask again too
            time.sleep(0.5)
            answer = self.api.post(path, json=values)
        answer.raise_for_status()
        return answer.json()

    def deployment(self, name):
        return self.api.get(f"/deployments/name/{name}").json()

    def start(self, name, **parameters):
        run = self.post(f"/deployments/{self.deployment(name)['id']}/create_flow_run", parameters=parameters)
        return run["id"]

    def run(self, run_id):
        return self.api.get(f"/flow_runs/{run_id}").json()

    def runs_of(self, name):
        return self.post("/flow_runs/filter", deployments={"id": {"any_": [self.deployment(name)["id"]]}})

    def ended(self, run_id):
        wait_for(lambda: has_ended(self.run(run_id)), self.process, timeout_s=240)
        return self.run(run_id)

    def stop(self, number=signal.SIGINT):
        """Stop it; return what still runs of it."""
        processes = children(self.process.pid)
        self.process.send_signal(number)
        self.process.wait(timeout=60)
        self.api.close()
        return alive(processes)


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Where a night's images are and where its results go."""
    folder = tmp_path_factory.mktemp("night")
    return make_archive(folder / "photos", count=4, side=48), folder / "results"


@pytest.fixture(scope="module")
def served(night, tmp_path_factory):
    """A server on a fresh machine whose night begins within a minute, by a clock in Nepal."""
    source, output = night
    home = tmp_path_factory.mktemp("serve") / "home"
    recipe = home.parent / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(WARD))
    begins = datetime.now(ZoneInfo(ZONE)) + timedelta(minutes=1)
    again = begins + timedelta(minutes=3)  # if this machine takes longer than that to start
    cron = f"{begins.minute},{again.minute} * * * *"
    options = ["--source", source, "--output", output, "--config", recipe, "--cron", cron, "--timezone", ZONE]
    running = Served(home, *options, "--port", free_port())
    yield running
    if running.process.poll() is None:
        running.stop()


@pytest.fixture(scope="module")
def killed(served, tmp_path_factory):
    """A `regionflow run` that reported to the server and was killed in mid-run: its process's last sign of life."""
    folder = tmp_path_factory.mktemp("killed")
    source = make_endless_archive(folder / "photos")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(ENDLESS))
    known = {run["id"] for run in commanded(served)}
    options = ["--config", folder / "recipe.yaml", "--workers", "1", "--quiet"]
    command = [sys.executable, "-m", "flows.cli", "run", source, folder / "out", *options]
    process = subprocess.Popen(list(map(str, command)), env=environment(served.home), start_new_session=True)
    wait_for(lambda: any(folder.glob("out/runs/*/records/*.parquet")), process)
    process.kill()
    process.wait()
    (run,) = (run for run in commanded(served) if run["id"] not in known)
    return run["id"]


def commanded(served):
    """List the runs that were started by command, not by the worker."""
    return [run for run in served.post("/flow_runs/filter") if not run["deployment_id"]]


def test_a_killed_command_seems_to_run_at_first(served, killed):
    assert served.run(killed)["state_type"] == "RUNNING"


def test_it_says_where_the_ui_is_how_to_log_in_and_what_runs_when(served, night):
    text = served.said()
    assert f"http://127.0.0.1:{served.port}\n" in text
    assert served.auth in text
    assert f"{night[0]} → {night[1]}" in text
    (schedule,) = served.deployment("segment-archive/nightly")["schedules"]
    assert schedule["schedule"]["timezone"] == ZONE
    minutes = schedule["schedule"]["cron"].split()[0].split(",")
    assert re.search(rf"Next run .*:({'|'.join(minute.zfill(2) for minute in minutes)}) \(", text)


def test_nobody_gets_in_without_the_password_which_only_its_owner_can_read(served):
    assert (served.home / "auth").stat().st_mode & 0o777 == 0o600
    assert served.home.stat().st_mode & 0o777 == 0o700
    assert len(served.auth) > 40
    assert httpx.get(f"{served.url}/admin/version").status_code == 401
    assert httpx.get(f"{served.url}/admin/version", auth=("regionflow", "wrong")).status_code == 401
    assert served.api.get("/admin/version").status_code == 200


def test_pages_of_other_sites_are_kept_out(served):
    forged = httpx.post(f"{served.url}/flows/filter", auth=tuple(served.auth.split(":", 1)), json={})
    assert forged.status_code == 403
    for origin, allowed in (("http://evil.example", None), (served.url[:-4], served.url[:-4])):
        answer = served.api.get("/admin/version", headers={"Origin": origin})
        assert answer.headers.get("access-control-allow-origin") == allowed


def test_everything_listens_on_the_loopback_interface_only(served):
    listening = [
        connection.laddr
        for process in [psutil.Process(served.process.pid), *children(served.process.pid)]
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert ("127.0.0.1", served.port) in [tuple(address) for address in listening]
    assert {address.ip for address in listening} == {"127.0.0.1"}


def test_the_ui_calls_the_server_it_came_from(served):
    settings = httpx.get(f"{served.url[:-4]}/ui-settings").json()
    assert settings["api_url"] == served.url
    assert settings["csrf_enabled"] is True
    assert settings["auth"] == "BASIC"


def test_analytics_are_off(served):
    assert served.api.get("/admin/settings").json()["server"]["analytics_enabled"] is False


def test_its_deployments_are_those_of_prefect_yaml(served):
    found = {deployment["name"]: deployment for deployment in served.post("/deployments/filter")}
    wanted = {each["name"]: each for each in yaml.safe_load((REPOSITORY / "prefect.yaml").read_text())["deployments"]}
    assert set(found) == set(wanted) == {name.split("/")[1] for name in DEPLOYMENTS}
    for name, each in wanted.items():
        deployment = found[name]
        assert {field: deployment[field] for field in ("description", "entrypoint", "tags")} == {
            field: each[field] for field in ("description", "entrypoint", "tags")
        }
        assert deployment["work_pool_name"] == each["work_pool"]["name"]
        assert deployment["job_variables"]["env"] == each["work_pool"]["job_variables"]["env"]
        assert deployment["global_concurrency_limit"]["limit"] == each["concurrency_limit"]["limit"]
        strategy = deployment["concurrency_options"]["collision_strategy"]
        assert strategy == each["concurrency_limit"]["collision_strategy"]
        assert len(deployment["schedules"]) == len(each.get("schedules", []))


def test_the_form_of_a_run_has_every_parameter_with_its_bounds_choices_and_description(served):
    schema = served.deployment("segment-archive/nightly")["parameter_openapi_schema"]
    assert schema["required"] == ["source", "output"]
    models = schema["definitions"]
    assert set(models) >= {"Recipe", "Spectral", "Ward", "KMeans", "Hierarchy", "Settings"}
    for model in (schema, *models.values()):
        for name, field in model["properties"].items():
            assert field.get("title"), name
            assert field.get("description") or "const" in field or "$ref" in field, name
    scale = models["Recipe"]["properties"]["scale"]
    assert (scale["exclusiveMinimum"], scale["maximum"]) == (0, 1)
    assert scale["description"].endswith("Allowed: > 0 and ≤ 1.")  # the form shows no bounds of its own
    assert "default" not in scale
    assert "default" not in models["Recipe"]["properties"]["sigma"]
    for name in ("segment-archive/segment-archive", "segment-image/segment-image"):
        form = served.deployment(name)["parameter_openapi_schema"]["properties"]["recipe"]["default"]
        assert set(form) == set(Recipe.model_fields) - {"sigma", "scale"}
        assert parse_recipe(form) == Recipe()
    assert models["Spectral"]["properties"]["assign_labels"]["enum"] == ["kmeans", "discretize", "cluster_qr"]
    auto, number = models["Spectral"]["properties"]["n_regions"]["anyOf"]
    assert (auto["const"], number["type"], number["minimum"]) == ("auto", "integer", 1)
    assert models["Settings"]["properties"]["pixels"]["enum"] == ["preview", "full", "none"]
    assert models["Recipe"]["properties"]["method"]["discriminator"]["propertyName"] == "method"


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


@pytest.mark.parametrize(
    "recipe", [{"scale": 2}, {"method": {"method": "ward", "n_regions": 0}}, {"method": {"method": "wards"}}]
)
def test_the_server_refuses_a_run_with_impossible_parameters(served, recipe):
    nightly = served.deployment("segment-archive/nightly")["id"]
    answer = served.api.post(f"/deployments/{nightly}/create_flow_run", json={"parameters": {"recipe": recipe}})
    assert answer.status_code == 409


def test_a_silent_run_is_watched_by_one_automation(served):
    (automation,) = served.post("/automations/filter")
    assert automation["trigger"]["posture"] == "Proactive"
    assert automation["trigger"]["within"] == 90
    assert automation["actions"][0]["state"] == "CRASHED"


def test_a_second_serve_on_the_same_folder_says_who_holds_it(served, capsys):
    assert run_command(["serve", "--home", str(served.home)]) == 3
    assert f"another `regionflow serve` (process {served.process.pid})" in capsys.readouterr().err


def test_runs_asked_for_in_the_ui_end_completed_and_say_what_was_refused(served, archive, tmp_path):
    many = {"source": str(archive), "output": str(tmp_path / "out"), "recipe": WARD}
    one = {"image": str(archive / "grey.png"), "output": str(tmp_path / "one"), "recipe": WARD}
    runs = [served.start("segment-archive/segment-archive", **many), served.start("segment-image/segment-image", **one)]
    of_many, of_one = map(served.ended, runs)
    assert (of_many["state_type"], of_many["state_name"]) == ("COMPLETED", "Completed with rejections")
    assert of_one["state_name"] == "Completed"
    assert verify_store(tmp_path / "out")[1] == verify_store(tmp_path / "one")[1] == []


def test_a_command_on_this_machine_reports_to_it(served, archive, tmp_path):
    known = {run["id"] for run in commanded(served)}
    command = [sys.executable, "-m", "flows.cli", "run", str(archive), str(tmp_path / "out"), *RECIPE, "--workers", "1"]
    assert subprocess.run([*command, "--quiet"], env=environment(served.home)).returncode == 1
    reported = [run for run in commanded(served) if run["id"] not in known]
    assert [run["state_name"] for run in reported] == ["Completed with rejections"]


def test_a_run_that_is_cancelled_in_the_ui_ends_within_seconds_and_keeps_what_was_finished(served, tmp_path):
    source, output = make_endless_archive(tmp_path / "photos"), tmp_path / "out"
    values = {"source": str(source), "output": str(output), "recipe": ENDLESS, "settings": {"workers": 2}}
    run = served.start("segment-archive/segment-archive", **values)
    wait_for(lambda: any(output.glob("runs/*/records/*.parquet")), served.process)
    served.post(f"/flow_runs/{run}/set_state", state={"type": "CANCELLING"})
    wait_for(lambda: has_ended(served.run(run)), served.process, timeout_s=60)
    assert served.run(run)["state_type"] == "CANCELLED"
    assert 0 < stored(output) < 7
    assert verify_store(output)[1] == []


def test_the_schedule_fires(served, night):
    source, output = night

    def done():
        return [run for run in served.runs_of("segment-archive/nightly") if run["auto_scheduled"] and has_ended(run)]

    wait_for(done, served.process, timeout_s=400)
    run = done()[0]
    assert run["state_name"] == "Completed with rejections", run["state"]
    assert run["parameters"]["source"] == str(source)
    assert verify_store(output)[1] == []
    switch_off_schedule(served)


def switch_off_schedule(served):
    """Do as the switch in the UI does, and let a night end that has begun: the tests below start nights themselves."""
    nightly = served.deployment("segment-archive/nightly")
    where = f"/deployments/{nightly['id']}/schedules/{nightly['schedules'][0]['id']}"
    assert served.api.patch(where, json={"active": False}).status_code == 204
    wait_for(lambda: all(map(has_ended, served.runs_of("segment-archive/nightly"))), served.process)


@pytest.fixture(scope="module")
def browser(served, tmp_path_factory):
    """Chromium, logged in as a person does."""
    with Browser(tmp_path_factory.mktemp("profile")) as running:
        running.command("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
        running.open(served.url[:-4])
        running.wait("document.querySelector('input[type=password]')")
        running.value("document.querySelector('input[type=password]').focus()")
        running.command("Input.insertText", text=served.auth)
        click(running, "Login")
        running.wait("document.body.innerText.includes('Deployments')")
        yield running


@pytest.fixture(scope="module")
def pictures():
    """Where screenshots go, to be looked at."""
    folder = REPOSITORY / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def click(browser, text):
    """Press the button or tab with this text; some listen to the mouse, not to clicks."""
    find = f"[...document.querySelectorAll('button')].find((node) => node.textContent.trim() === {json.dumps(text)})"
    browser.wait(find)
    events = "for (const kind of ['mousedown', 'mouseup', 'click'])"
    browser.value(f"{events} {find}?.dispatchEvent(new MouseEvent(kind, {{bubbles: true, button: 0}}))")


def submit(browser):
    """Send the form as a person does: who sees nothing happen presses again."""
    for _ in range(3):
        click(browser, "Submit")
        if browser.becomes_true("!location.pathname.endsWith('/run')"):
            return
    raise AssertionError(browser.value("document.body.innerText"))


@needs_chromium
def test_a_night_is_started_from_its_form_and_its_page_shows_how_it_ended(served, browser, pictures, night):
    nightly = served.deployment("segment-archive/nightly")["id"]
    known = {run["id"] for run in served.runs_of("segment-archive/nightly")}
    browser.open(f"{served.url[:-4]}/v2/deployments/deployment/{nightly}/run")
    browser.wait("document.body.innerText.includes('Seed of everything')")
    text = browser.value("document.body.innerText")
    for model in (Recipe, Ward, Settings):
        for name, field in model.model_fields.items():
            assert name == "method" or field.description in text, name
    browser.picture(pictures / "form-of-a-night.png")
    submit(browser)
    run = next(run for run in served.runs_of("segment-archive/nightly") if run["id"] not in known)
    assert run["parameters"]["recipe"]["method"] == WARD["method"] | {"connectivity": 4}
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    browser.open(f"{served.url[:-4]}/v2/runs/flow-run/{run['id']}")
    browser.wait("document.body.innerText.includes('Finished in state')")
    browser.picture(pictures / "night.png")


@needs_chromium
def test_a_method_that_is_chosen_in_the_form_gets_the_grid_that_the_command_gives_it(
    served, browser, archive, tmp_path
):
    deployment = served.deployment("segment-archive/segment-archive")["id"]
    known = {run["id"] for run in served.runs_of("segment-archive/segment-archive")}
    browser.open(f"{served.url[:-4]}/v2/deployments/deployment/{deployment}/run")
    browser.wait("document.body.innerText.includes('Seed of everything')")
    click(browser, "Hierarchy")
    browser.wait("document.body.innerText.includes('How credible a border must be')")
    for place, path in enumerate((archive, tmp_path / "out")):  # source and output come first
        browser.value(f"document.querySelectorAll('textarea')[{place}].focus()")
        browser.command("Input.insertText", text=str(path))
    submit(browser)
    run = next(run for run in served.runs_of("segment-archive/segment-archive") if run["id"] not in known)
    assert not {"sigma", "scale"} & run["parameters"]["recipe"].keys()
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    (made,) = list_runs(tmp_path / "out")
    recipe = recipe_from(None, method="hierarchy")
    assert parse_recipe(made["recipe"]) == recipe
    assert (recipe.sigma, recipe.scale) == (0, 1)


@needs_chromium
def test_a_recut_is_started_from_its_form(served, browser, pictures, archive, tmp_path):
    values = {"source": str(archive), "output": str(tmp_path / "out"), "recipe": {"method": {"method": "hierarchy"}}}
    assert served.ended(served.start("segment-archive/segment-archive", **values))["state_type"] == "COMPLETED"
    browser.open(f"{served.url[:-4]}/v2/deployments/deployment/{served.deployment(RECUT)['id']}/run")
    browser.wait("document.body.innerText.includes('Label maps whose trees are cut')")
    browser.value("document.querySelector('textarea').focus()")
    browser.command("Input.insertText", text=str(tmp_path / "out"))
    click(browser, "float")
    browser.wait("document.querySelector('input[type=number]')?.value === ''")  # that of the threshold, not of workers
    browser.value("document.querySelector('input[type=number]').focus()")
    browser.command("Input.insertText", text="0.25")
    browser.picture(pictures / "form-of-a-recut.png")
    submit(browser)
    (run,) = served.runs_of(RECUT)
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    found = {label: record.state for (_, label), record in read_records(tmp_path / "out").items() if "-t" in label}
    assert found == {"hierarchy-t0_25": State.SEGMENTED}
    assert verify_store(tmp_path / "out")[1] == []


@needs_chromium
def test_the_artifacts_of_a_finished_night_are_there_to_look_at(served, browser, pictures):
    nights = served.runs_of("segment-archive/nightly")
    ended = [run for run in nights if run["auto_scheduled"] and run["state_type"] == "COMPLETED"]
    finished = min(ended, key=lambda run: run["start_time"])  # the first, which had something to do
    browser.open(f"{served.url[:-4]}/v2/runs/flow-run/{finished['id']}?tab=Artifacts")
    for key in ("progress", "summary", "refused-images", "contact-sheet"):
        browser.wait(f"document.body.innerText.includes('{key}')")
    browser.picture(pictures / "artifacts.png")
    shown = {
        "summary": "document.body.innerText.includes('5 of 5 images computed')",
        "refused-images": "document.body.innerText.includes('broken.png')",
        "contact-sheet": "[...document.images].some((image) => image.src.startsWith('data:') && image.naturalWidth)",
    }
    artifacts = served.post("/artifacts/filter", artifacts={"flow_run_id": {"any_": [finished["id"]]}})
    for artifact in artifacts:
        if artifact["key"] in shown:
            browser.open(f"{served.url[:-4]}/v2/artifacts/artifact/{artifact['id']}")
            browser.wait(shown.pop(artifact["key"]))
            browser.picture(pictures / f"{artifact['key']}.png")
    assert not shown


def test_a_killed_command_is_marked_as_crashed(served, killed):
    run = served.ended(killed)
    assert run["state_type"] == "CRASHED", run["state"]
    assert "heartbeat" in run["state"]["message"]


@pytest.fixture(scope="module")
def stopped(served, night):
    """The first server, stopped by Ctrl-C in the middle of a long night: the run's id and what was left behind."""
    source, output = night
    make_archive(source / "more", count=72, side=1000)  # twice as much as is on its way at once
    before = len(list(output.glob("runs/*")))
    run = served.start("segment-archive/nightly")
    wait_for(lambda: len(list(output.glob("runs/*"))) > before, served.process)
    newest = sorted(output.glob("runs/*"))[-1]
    wait_for(lambda: any(newest.glob("records/*.parquet")), served.process)
    return run, served.stop(signal.SIGINT)


def test_ctrl_c_ends_everything_and_what_was_finished_is_kept(served, stopped, night):
    _, leftovers = stopped
    assert leftovers == []
    assert served.process.returncode == 0
    assert "Traceback" not in served.said()
    assert not (served.home / "server.json").exists()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", served.port))
    assert 4 < stored(night[1]) < 76


@pytest.fixture(scope="module")
def second(served, stopped):
    """The server started again, without any option."""
    running = Served(served.home)
    yield running
    if running.process.poll() is None:
        running.stop()


def test_a_second_start_remembers_and_finishes_the_night_that_was_broken_off(served, stopped, second, night):
    assert (second.auth, second.port) == (served.auth, served.port)
    assert "paused in the Prefect UI" in second.said()
    run, _ = stopped
    assert second.run(run)["state_type"] == "CANCELLED"
    assert second.run(run)["state"]["message"] == "regionflow serve was stopped"
    (continued,) = (each for each in second.runs_of("segment-archive/nightly") if "continued" in each["name"])
    assert second.ended(continued["id"])["state_name"] == "Completed with rejections"
    assert stored(night[1]) == 76
    assert verify_store(night[1])[1] == []


def test_prefect_deploy_takes_the_file_and_sigterm_ends_the_server_too(second):
    more = {"PREFECT_API_URL": second.url, "PREFECT_API_AUTH_STRING": second.auth}
    command = [Path(sys.executable).with_name("prefect"), "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(second.home, **more), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("successfully created") == 4
    nightly = second.deployment("segment-archive/nightly")
    assert nightly["parameters"] == {"source": "/data/photos", "output": "/data/results"}
    assert [schedule["active"] for schedule in nightly["schedules"]] == [False]
    assert second.stop(signal.SIGTERM) == []
    assert second.process.returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--port", "70000"], r"--port: got 70000; 1 to 65535"),
        (["--source", "absent", "--output", "out"], r"absent does not exist"),
        (["--source", "."], r"--output: not given"),
        (["--method", "ward", "--regions", "0"], r"--regions: got '0'; different numbers, each >= 1"),
    ],
)
def test_wrong_options_end_with_code_2_and_are_not_remembered(tmp_path, capsys, options, message):
    assert run_command(["serve", "--home", str(tmp_path / "home"), *options]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "home" / "serve.json").exists()


def test_another_number_of_regions_keeps_the_remembered_method(archive, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr("flows.serve.serve", lambda home, options: given.append(options))  # as if started and stopped
    home = tmp_path / "home"
    home.mkdir()
    night = ["--source", str(archive), "--output", str(tmp_path / "out")]
    assert run_command(["serve", "--home", str(home), *night, "--method", "ward", "--regions", "12"]) == 0
    (home / "serve.json").write_text(json.dumps(vars(given[0])))
    assert run_command(["serve", "--home", str(home), "--regions", "8,16"]) == 0
    later = given[1].over(given[0]).night()
    assert (later.recipe.method.method, later.recipe.method.n_regions, later.regions) == ("ward", 8, [8, 16])
    assert later.parameters()["regions"] == [8, 16]


@pytest.mark.parametrize("method", METHODS)
def test_the_form_of_a_night_prefills_no_grid_that_nobody_chose(method):
    recipe = recipe_from(None, method=method)
    night = Options(source="/in", output="/out", recipe=recipe.model_dump(mode="json")).night()
    assert not {"sigma", "scale"} & night.parameters()["recipe"].keys()
    assert parse_recipe(night.parameters()["recipe"]) == recipe
    chosen = Options(source="/in", output="/out", recipe={**recipe.model_dump(mode="json"), "scale": 0.5}).night()
    assert chosen.parameters()["recipe"]["scale"] == 0.5


@pytest.mark.parametrize(
    ("cron", "timezone", "message"),
    [
        ("at two", "UTC", r"--cron: got 'at two'; minute, hour"),
        ("61 2 * * *", "UTC", r"--cron: got '61 2"),
        ("0 2 * * *", "Berlin", r"--timezone: got 'Berlin'; a name such as Europe/Berlin"),
    ],
)
def test_a_cron_line_or_a_time_zone_that_is_none_is_refused(cron, timezone, message):
    check_schedule("0 2 * * 1-5", "Europe/Berlin")
    with pytest.raises(ParameterError, match=message):
        check_schedule(cron, timezone)


def test_a_port_in_use_is_named(tmp_path, capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_command(["serve", "--home", str(tmp_path / "home"), "--port", str(port)]) == 2
    assert f"--port: {port} is in use" in capsys.readouterr().err


def test_damaged_memory_is_named(tmp_path, capsys):
    (tmp_path / "serve.json").write_text("{")
    assert run_command(["serve", "--home", str(tmp_path)]) == 2
    assert "serve.json: damaged" in capsys.readouterr().err


def test_an_address_that_a_dead_server_left_is_not_believed(tmp_path):
    home = Home(tmp_path / "home")
    home.make()
    home.auth_string()
    assert live_server(home) == {}
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        write_private(home.address_file, {"url": f"http://127.0.0.1:{stranger.getsockname()[1]}/api"})
        home.lock_file.touch()
        assert live_server(home) == {}
        stranger.settimeout(0)
        with pytest.raises(BlockingIOError):
            stranger.accept()  # the stranger was not even asked


def test_a_server_that_the_user_has_chosen_is_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    assert not has_prefect_server()
    profile = 'active = "mine"\n[profiles.mine]\nPREFECT_API_URL = "http://prefect.example/api"\n'
    (tmp_path / "profiles.toml").write_text(profile)
    assert has_prefect_server()
    (tmp_path / "profiles.toml").write_text("active = 3 [")
    assert not has_prefect_server()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".env", "OTHER=1\nexport PREFECT_API_URL=http://prefect.example/api\n"),
        ("prefect.toml", '[api]\nurl = "http://prefect.example/api"\n'),
        ("pyproject.toml", '[tool.prefect.api]\nurl = "http://prefect.example/api"\n'),
    ],
)
def test_a_server_that_is_named_where_prefect_looks_is_kept(tmp_path, monkeypatch, name, text):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert not has_prefect_server()
    (tmp_path / name).write_text(text)
    assert has_prefect_server()
    (tmp_path / name).write_text("damaged [")
    assert not has_prefect_server()


def has_ended(run):
    return run["state_type"] in ENDED
