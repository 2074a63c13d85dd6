"""`regionflow serve` for real: a server, a worker, a schedule that fires, a browser, and an end without leftovers."""

import json
import re
import signal
import socket
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import psutil
import pytest
import yaml
from commands import ENDLESS, RECIPE, children, make_archive, make_endless_archive, stored, wait_for
from serving import PICTURES, REPOSITORY, Served, environment, free_port, has_ended, log_in, submit

from flows.cli import run_command
from flows.deployments import check_schedule
from flows.forms import RecipeForm, form_values, recipe_values
from flows.server import Home, has_prefect_server, live_server, write_private
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.io.verify import verify_store
from segmentation.params import parse_recipe
from tests.browser import Browser, needs_chromium

ZONE = "Asia/Kathmandu"  # 5:45 h east: a time zone that is ignored, or applied twice, shows
WARD = {"sigma": 1, "scale": 0.5, "method": {"method": "ward", "n_regions": 3}}
FORM = {"sigma": 1, "scale": 0.5, "method": "ward", "regions": 3}
RECUT = "recut-archive/recut-archive"
DEPLOYMENTS = {
    *("segment-archive/nightly", "segment-archive/segment-archive"),
    *("segment-image/segment-image", RECUT),
}


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
    home.mkdir(mode=0o700)
    (home / "work").mkdir(mode=0o700)
    for name in ("flows", "tasks", "segmentation"):  # where its worker starts runs
        hidden = home / "work" / name / "__init__.py"
        hidden.parent.mkdir()
        hidden.write_text("raise SystemExit('imported from the current folder')")
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


@pytest.mark.parametrize(
    "recipe", [{"scale": 2}, {"method": "ward", "regions": 0}, {"method": "wards"}, {"metod": "ward"}]
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
    many = {"source": str(archive), "output": str(tmp_path / "out"), "recipe": FORM}
    one = {"image": str(archive / "grey.png"), "output": str(tmp_path / "one"), "recipe": FORM}
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
    values = {
        "source": str(source),
        "output": str(output),
        "recipe": form_values(parse_recipe(ENDLESS)),
        "settings": {"workers": 2},
    }
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
        log_in(running, served)
        yield running


@pytest.fixture(scope="module")
def pictures():
    """Where screenshots go, to be looked at."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@needs_chromium
def test_a_night_is_started_from_its_form_and_its_page_shows_how_it_ended(served, browser, pictures, night):
    nightly = served.deployment("segment-archive/nightly")["id"]
    known = {run["id"] for run in served.runs_of("segment-archive/nightly")}
    browser.open(f"{served.url[:-4]}/v2/deployments/deployment/{nightly}/run")
    browser.wait("document.body.innerText.includes('Seed of everything')")
    text = browser.value("document.body.innerText")
    for model in (RecipeForm, Settings):
        for name, field in model.model_fields.items():
            assert field.description in text, name
    browser.picture(pictures / "form-of-a-night.png")
    submit(browser)
    run = next(run for run in served.runs_of("segment-archive/nightly") if run["id"] not in known)
    assert recipe_values(run["parameters"]["recipe"])["method"] == WARD["method"]
    assert served.ended(run["id"])["state_name"] == "Completed with rejections"
    browser.open(f"{served.url[:-4]}/v2/runs/flow-run/{run['id']}")
    browser.wait("document.body.innerText.includes('Finished in state')")
    browser.picture(pictures / "night.png")


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
