"""Prefect's API for a command when no server is configured: a process of ours, which ends with the command.

Prefect would start one itself, but that one outlives a killed command, dies of a Ctrl-C that was meant for the run, and
is not started again. Here its socket stays open while it restarts, so that no request is refused.
"""

import atexit
import importlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from flows.exit_codes import BROKEN
from flows.interrupts import give_up
from flows.machine import HOST
from flows.processes import tied
from flows.server import has_prefect_server, is_healthy
from segmentation.errors import ServerError
from segmentation.io.notes import keep_all_off_terminal

#: The first start makes Prefect's database, which takes half a minute on a busy machine.
_START_TIMEOUT_S = 300.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.1
#: A server that dies this often in one run will die again.
_MAX_DEATHS = 5
#: How often another server is asked whether it is there; if it is not, Prefect's client asks for a minute.
_ASK_EVERY_S = 10.0

#: What makes the server a small one: no UI, no automations, no cleaning up.
_ENVIRONMENT = {
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "false",
}


class EmbeddedServer:
    """Prefect's API in a process of its own, and the socket it listens on, which outlives it."""

    def __init__(self) -> None:
        """Start it."""
        self.socket = socket.socket()
        # uvicorn takes an inherited socket for one of another kind, and would leave answers waiting for 40 ms each.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((HOST, 0))
        self.socket.listen(128)
        self.url = f"http://{HOST}:{self.socket.getsockname()[1]}/api"
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the server
        self.stopping = threading.Event()
        self.process = self._start()
        self.keeper = threading.Thread(target=self._revive, daemon=True)

    def _start(self) -> subprocess.Popen[bytes]:
        descriptor = self.socket.fileno()
        code = str(Path(__file__).parents[1])  # uvicorn imports from the current folder, where anything may lie
        command = [
            sys.executable,
            "-m",
            "uvicorn",
            "--app-dir",
            code,
            "--factory",
            "prefect.server.api.server:create_app",
        ]
        return subprocess.Popen(  # noqa: S603 - the arguments are ours
            tied([*command, "--fd", str(descriptor), "--log-level", "error", "--lifespan", "on"]),
            env={**os.environ, **_ENVIRONMENT},
            pass_fds=[descriptor],
            stdin=subprocess.DEVNULL,
            stdout=self.words,
            stderr=self.words,
            start_new_session=True,  # a terminal's Ctrl-C is for the run, which still has something to tell it
        )

    def wait_until_healthy(self) -> None:
        """Return when it answers.

        Raises
        ------
        ServerError
            It ended, or takes far too long.
        """
        until = time.monotonic() + _START_TIMEOUT_S
        while not is_healthy(self.url):
            if self.process.poll() is not None:
                raise ServerError(f"Prefect's API did not start: {self._last_words()}")
            if time.monotonic() > until:
                raise ServerError(f"Prefect's API did not start within {_START_TIMEOUT_S:.0f} seconds")
            time.sleep(_POLL_S)

    def keep_running(self) -> None:
        """Start it again when it dies, from now on."""
        self.keeper.start()

    def _revive(self) -> None:
        deaths = 0
        while not self.stopping.wait(_POLL_S):
            if self.process.poll() is not None:
                deaths += 1
                if deaths > _MAX_DEATHS:
                    give_up(BROKEN, f"Prefect's API died {deaths} times: {self._last_words()}")
                self.process = self._start()

    def stop(self) -> None:
        """End it, politely first."""
        self.stopping.set()
        if self.keeper.is_alive():
            self.keeper.join()
        self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.words.close()
        self.socket.close()

    def _last_words(self) -> str:
        self.words.seek(0)
        lines = self.words.read().decode("utf-8", "replace").splitlines()
        errors = [line.strip() for line in lines if "Error" in line]
        home = os.environ.get("PREFECT_HOME", "~/.prefect")
        return f"{errors[-1] if errors else f'exit code {self.process.returncode}'} (its folder: {home})"


@contextmanager
def prefect_api(console: Console) -> Iterator[None]:
    """Give the runs of this block Prefect's API: the server that is configured, or one that ends with this process.

    Prefect is imported while the server starts: together that takes the time of one. A process that has imported it
    before keeps the server it has.

    Parameters
    ----------
    console : Console
        Where the wait is shown.

    Raises
    ------
    ServerError
        The server did not start, or cannot be reached.
    """
    if "prefect" not in sys.modules:
        with console.status("starting Prefect"):
            _prepare()
    _keep_others_off_terminal()
    import httpx

    try:
        yield
    except httpx.TransportError as error:
        raise ServerError(f"the Prefect server{_at()} does not answer any more") from error
    except RuntimeError as error:
        if "Failed to reach API" not in str(error):
            raise
        raise ServerError(f"PREFECT_API_URL: no Prefect server can be reached{_at()}") from error


def _keep_others_off_terminal() -> None:
    """Let Prefect's handler, which it has put in place of ours, show nothing but what Prefect says."""
    keep_all_off_terminal()
    for handler in logging.getLogger().handlers:
        if type(handler).__module__.startswith("prefect.") and not handler.filters:
            handler.addFilter(logging.Filter("prefect"))


def _at() -> str:
    url = os.environ.get("PREFECT_API_URL")
    return f" at {url}" if url else ""


def _prepare() -> None:
    if has_prefect_server():
        importlib.import_module("flows.segment_archive")
        threading.Thread(target=_watch, daemon=True).start()
        return
    server = EmbeddedServer()
    atexit.register(server.stop)  # after all that Prefect, which is imported below, does at the end
    os.environ["PREFECT_API_URL"] = server.url
    importlib.import_module("flows.segment_archive")
    server.wait_until_healthy()
    server.keep_running()


def _watch() -> None:
    """End the command when the configured server is gone: Prefect would ask it again for every state of every task."""
    from prefect import get_client

    with suppress(RuntimeError), get_client(sync_client=True) as client:  # it was never there: the flow says so
        error = None
        while not error:
            time.sleep(_ASK_EVERY_S)
            error = client.api_healthcheck()
        give_up(BROKEN, f"the Prefect server at {client.api_url} does not answer any more; run again to go on")
