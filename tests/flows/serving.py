"""`regionflow serve` in a process of its own, and its UI as a person uses it."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import httpx
from commands import alive, children, wait_for

REPOSITORY = Path(__file__).parents[2]
#: Where screenshots go, to be looked at.
PICTURES = REPOSITORY / "build" / "screenshots"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


#: Proxies that nothing on this machine can be reached through.
PROXIES = {"http_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}


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
                env=environment(home, **PROXIES),
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

    def send(self, method, path, **values):
        answer = self.api.request(method, path, json=values)
        while answer.status_code == 503:  # SQLite was busy; Prefect's own clients ask again too
            time.sleep(0.5)
            answer = self.api.request(method, path, json=values)
        answer.raise_for_status()
        return answer

    def post(self, path, **values):
        return self.send("POST", path, **values).json()

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


def has_ended(run):
    return run["state_type"] in ENDED


def log_in(browser, served):
    """Give the password as a person does."""
    browser.command("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)
    browser.open(served.url[:-4])
    browser.wait("document.querySelector('input[type=password]')")
    browser.value("document.querySelector('input[type=password]').focus()")
    browser.command("Input.insertText", text=served.auth)
    click(browser, "Login")
    browser.wait("document.body.innerText.includes('Deployments')")


def click(browser, text):
    """Press the button or tab with this text, with the mouse."""
    find = f"[...document.querySelectorAll('button')].find((node) => node.textContent.trim() === {json.dumps(text)})"
    browser.wait(find)
    browser.press_button(find)


def submit(browser):
    """Send the form as a person does: who sees nothing happen presses again."""
    for _ in range(3):
        click(browser, "Submit")
        if browser.becomes_true("!location.pathname.endsWith('/run')"):
            return
    raise AssertionError(browser.value("document.body.innerText"))
