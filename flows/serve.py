"""`regionflow serve`: a Prefect server, its nightly deployment, and a worker, kept running until told to stop."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar
from zoneinfo import ZoneInfo

from rich.console import Console

from flows.console import make_console
from flows.machine import HOST, bypass_proxies, check_loopback, check_open_files
from flows.nights import DEFAULT_CRON, Night, Options, local_timezone, read_options
from flows.processes import adopt_orphans, children_of, end_children, reap_orphans, tied
from flows.server import Home, held, is_healthy, server_environment, write_private
from segmentation.errors import ParameterError, SegmentationError
from segmentation.io.places import is_url
from segmentation.reasons import reason_of

T = TypeVar("T")

#: The first start makes the database, which takes half a minute on a slow machine.
_START_TIMEOUT_S = 300.0
_SCHEDULE_TIMEOUT_S = 60.0
#: A flow that is cancelled has this long to end by itself, a process that is stopped this long after its signal.
_CANCEL_TIMEOUT_S = 15.0
_STOP_TIMEOUT_S = 5.0
_POLL_S = 0.2
_LONGEST_PAUSE_S = 60.0
_LOG_BYTES = 20_000_000
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class Child:
    """A process of Prefect that is started again when it ends."""

    name: str
    arguments: list[str]
    environment: dict[str, str]
    home: Home
    process: subprocess.Popen[bytes] = field(init=False)
    started: float = field(init=False)
    deaths: int = 0

    def start(self) -> None:
        """Start it; it gets a process group of its own, so that Ctrl-C reaches it only through us."""
        log = self.home.log(self.name)
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
        with log.open("ab") as stream:
            self.process = subprocess.Popen(  # noqa: S603 - the arguments are ours
                tied([sys.executable, "-m", "prefect", *self.arguments]),
                env=self.environment,
                cwd=self.home.work,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started = time.monotonic()

    def revive(self, console: Console) -> None:
        """Start it again if it has ended; after every death a little later."""
        code = self.process.poll()
        if code is None:
            return
        pause = min(2.0**self.deaths, _LONGEST_PAUSE_S)
        if time.monotonic() - self.started > _LONGEST_PAUSE_S:
            self.deaths = 0
        elif time.monotonic() - self.started < pause:
            return
        self.deaths += 1
        console.print(f"The {self.name} ended with code {code}; starting it again. Its log: {self.home.log(self.name)}")
        self.start()

    def stop(self) -> None:
        """End it: politely first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.process.poll() is None:
                self.process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self.process.wait(_STOP_TIMEOUT_S)


def serve(home: Home, given: Options) -> None:
    """Run server, deployments and worker until Ctrl-C or SIGTERM; then end them all.

    Raises
    ------
    ParameterError
        An option is wrong, or the port is taken; nothing was started.
    StoreLockedError
        Another `serve` runs on `home`.
    SegmentationError
        Prefect did not start.
    """
    console = make_console()
    bypass_proxies(os.environ)
    check_open_files()
    check_loopback()
    home.make()
    with held(home):
        options = given.over(read_options(home))
        night = options.night()
        port = _free(options.checked_port())
        environment = server_environment(home, port)
        os.environ.update(environment)  # Prefect reads it when it is first imported, which is below
        _check_schedule(options.cron or DEFAULT_CRON, options.timezone or local_timezone())
        write_private(home.options_file, vars(options))
        with _signals_as_interrupt():
            _run(home, environment, night, console)


def _run(home: Home, environment: dict[str, str], night: Night | None, console: Console) -> None:
    from flows.deployments import POOL, register

    url = environment["PREFECT_API_URL"]
    server = Child("server", ["server", "start"], environment, home)
    arguments = ["worker", "start", "--pool", POOL, "--type", "process", "--name", "serve", "--install-policy", "never"]
    worker = Child("worker", arguments, environment, home)
    children: list[Child] = []
    adopt_orphans()
    try:
        console.print("Starting Prefect; the first time this takes up to a minute …")
        server.start()
        children.append(server)
        _wait_until_healthy(server, url)
        asyncio.run(register(night, home.work))
        worker.start()
        children.append(worker)
        write_private(home.address_file, {"url": url})
        _describe(home, url, night, console)
        _keep_running(children, console)
    except KeyboardInterrupt:
        console.print("Stopping …")
    finally:
        _ignore_signals()
        home.address_file.unlink(missing_ok=True)
        _stop(children, url)
    console.print("Stopped. Start again to go on.")


def _keep_running(children: list[Child], console: Console) -> NoReturn:
    while True:
        time.sleep(_POLL_S)
        for child in children:
            child.revive(console)
        reap_orphans(known={child.process.pid for child in children})


def _stop(children: list[Child], url: str) -> None:
    """End runs before their worker, the worker before the server: then every run is left in a final state."""
    if len(children) > 1:
        from flows.deployments import cancel_runs, close_runs

        server, worker = children
        runs = _if_healthy(url, cancel_runs) or []
        until = time.monotonic() + _CANCEL_TIMEOUT_S
        while runs and children_of(worker.process.pid) and time.monotonic() < until:
            time.sleep(_POLL_S)
        worker.stop()
        end_children(spared={server.process.pid})
        _if_healthy(url, lambda: close_runs(runs))
    for child in children:
        child.stop()
    end_children()


def _if_healthy(url: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
    """Ask something of a server that may be ending too; what it does not do, the next start tidies up."""
    if is_healthy(url):
        with suppress(Exception):
            return asyncio.run(call())
    return None


def _wait_until_healthy(server: Child, url: str) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while not is_healthy(url):
        log = server.home.log(server.name)
        if server.process.poll() is not None:
            raise SegmentationError(f"Prefect's server ended with code {server.process.returncode}; see {log}")
        if time.monotonic() > until:
            raise SegmentationError(f"Prefect's server did not answer within {_START_TIMEOUT_S:.0f} s; see {log}")
        time.sleep(_POLL_S)


def _describe(home: Home, url: str, night: Night | None, console: Console) -> None:
    from rich.markup import escape

    console.print(f"[bold]Prefect UI[/]  {url.removesuffix('/api')}")
    console.print(f"[bold]Log in[/]      {escape(home.auth_string())}  (kept in {escape(str(home.auth_file))})")
    if night is None:
        console.print("[bold]Nightly[/]     not scheduled; give --source PHOTOS --output RESULTS once")
    else:
        console.print(f"[bold]Nightly[/]     {escape(night.source)} → {escape(night.output)}")
        console.print(f"[bold]Next run[/]    {_next_run(night)}")
        if not is_url(night.source) and not Path(night.source).exists():
            console.print(f"[yellow]Warning[/]     {escape(night.source)} does not exist now")
    console.print("[bold]On demand[/]   Deployments → segment-archive, segment-image or recut-archive → Run")
    console.print("Ctrl-C stops everything.")


def _next_run(night: Night) -> str:
    from flows.deployments import next_night

    rule = f"({night.cron}, {night.timezone})"
    try:
        when = asyncio.run(next_night(_SCHEDULE_TIMEOUT_S))
    except TimeoutError:
        return f"Prefect has scheduled none yet {rule}; see the server's log"
    if when is None:
        return f"paused in the Prefect UI {rule}"
    return f"{_local(when, night.timezone)} {rule}"


def _local(when: datetime, timezone: str) -> str:
    return f"{when.astimezone(ZoneInfo(timezone)):%A %Y-%m-%d %H:%M}"


def _free(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ParameterError(
                f"--port: {port} is in use or not allowed ({reason_of(error)}); choose another"
            ) from error
    return port


def _check_schedule(cron: str, timezone: str) -> None:
    from flows.deployments import check_schedule

    check_schedule(cron, timezone)


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """Let SIGTERM and a closed terminal end the block as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore_signals() -> None:
    """Let the end take its few seconds, however often Ctrl-C is pressed."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
