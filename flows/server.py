"""The Prefect server of this project: its folder, its password, its settings, and whether it runs.

Prefect is not imported here, so that every command can ask cheaply whether a server is up.
"""

import fcntl
import http.client
import json
import os
import secrets
import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from flows.machine import HOST
from segmentation.errors import ParameterError
from segmentation.io.lock import StoreLockedError
from segmentation.reasons import reason_of

DEFAULT_PORT = 4200
#: A flow run says this often that it is alive (Prefect allows no less); after three silent beats it counts as dead.
HEARTBEAT_S = 30
SILENCE_S = 3 * HEARTBEAT_S

_HEALTH_TIMEOUT_S = 2.0
#: `live_server` tries the lock for an instant; a `serve` that starts just then must not take it for another one.
_LOCK_PATIENCE_S = 1.0

#: Settings that the user's environment may overrule.
_DEFAULTS = {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_DATABASE_TIMEOUT": "60",  # SQLite has one writer; on a busy machine ten seconds are not enough
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # after 90 days; the default keeps runs for ever
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_WORKER_QUERY_SECONDS": "5",
}
#: Settings that stay as they are here, whatever the user's environment says.
_FIXED = {
    "PREFECT_SERVER_API_HOST": HOST,
    "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PYTHONSAFEPATH": "1",  # nothing is imported from the folder that a process stands in
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    # In memory, the default, a restarted server forgets who holds a deployment's only slot, and frees it never.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
#: They would send our processes to another server.
_UNWANTED = ("PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_UI_API_URL")


@dataclass(frozen=True)
class Home:
    """The folder of the server: database, password, logs, and what the last start was told."""

    path: Path

    @property
    def address_file(self) -> Path:
        """Where the running server's address stands."""
        return self.path / "server.json"

    @property
    def auth_file(self) -> Path:
        """Where the password stands, for its owner only."""
        return self.path / "auth"

    @property
    def lock_file(self) -> Path:
        """What a running `serve` holds."""
        return self.path / ".lock"

    @property
    def options_file(self) -> Path:
        """What the last start was told."""
        return self.path / "serve.json"

    @property
    def prefect(self) -> Path:
        """Prefect's own folder, with its database: nothing of the user's Prefect is read or changed."""
        return self.path / "prefect"

    @property
    def work(self) -> Path:
        """Where flow runs start: an empty folder, for whatever lies there can be imported."""
        return self.path / "work"

    def log(self, name: str) -> Path:
        """Return the log file of the process `name`."""
        return self.path / "logs" / f"{name}.log"

    def make(self) -> None:
        """Make the folders; only their owner may look inside.

        Raises
        ------
        ParameterError
            It cannot be a folder.
        """
        try:
            for folder in (self.path, self.prefect, self.work, self.path / "logs"):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except (FileExistsError, NotADirectoryError) as error:
            raise ParameterError(f"--home: {self.path} is no folder") from error
        except OSError as error:
            raise ParameterError(
                f"--home: {self.path} cannot be made ({reason_of(error)}); name a folder that can be written, "
                "here or in REGIONFLOW_HOME"
            ) from error

    def auth_string(self) -> str:
        """Return ``user:password``; made on the first call, readable by its owner only.

        Raises
        ------
        ParameterError
            The file holds something else.
        """
        try:
            handle = os.open(self.auth_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            self.auth_file.chmod(0o600)
        else:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(f"regionflow:{secrets.token_urlsafe(24)}\n")
        text = self.auth_file.read_text("ascii", errors="replace").strip()
        user, separator, password = text.partition(":")
        if not (user and separator and password and text.isprintable()):
            raise ParameterError(f"{self.auth_file}: USER:PASSWORD is expected; remove the file to get a new one")
        return text


def default_home() -> Path:
    """Return $REGIONFLOW_HOME, or the user's data folder for this project."""
    if given := os.environ.get("REGIONFLOW_HOME"):
        return Path(given).expanduser().absolute()
    data = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share")
    with suppress(RuntimeError):  # a user without a home, as a container may have
        data = data.expanduser()
    return data.absolute() / "regionflow"


def server_environment(home: Home, port: int) -> dict[str, str]:
    """Return the environment of the server, of its worker and of the flow runs that the worker starts."""
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    url = f"http://{HOST}:{port}"
    auth = home.auth_string()
    return {
        **_DEFAULTS,
        **kept,
        **_FIXED,
        "PREFECT_HOME": str(home.prefect),
        "PREFECT_API_URL": f"{url}/api",
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_UI_API_URL": f"{url}/api",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"{url},http://localhost:{port}",
    }


@contextmanager
def held(home: Home) -> Iterator[None]:
    """Hold the folder for one `serve`.

    Raises
    ------
    StoreLockedError
        Another one runs on it.
    """
    handle = os.open(home.lock_file, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _lock_within(handle, _LOCK_PATIENCE_S):
            holder = os.pread(handle, 64, 0).decode("ascii", "replace") or "unknown"
            raise StoreLockedError(
                f"another `regionflow serve` (process {holder}) runs on {home.path}; stop it, or choose another --home"
            )
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def has_prefect_server() -> bool:
    """Say whether the user has told Prefect which server to use: by environment, files here, or profile."""
    return bool(os.environ.get("PREFECT_API_URL")) or _is_named_here() or _is_in_profile()


def _is_named_here() -> bool:
    """Look where Prefect looks in the current folder."""
    with suppress(OSError, ValueError):
        lines = Path(".env").read_text("utf-8").splitlines()
        if any(line.removeprefix("export ").strip().startswith("PREFECT_API_URL=") for line in lines):
            return True
    for name, path in (("prefect.toml", ()), ("pyproject.toml", ("tool", "prefect"))):
        with suppress(OSError, ValueError, AttributeError):
            found = tomllib.loads(Path(name).read_text("utf-8"))
            for key in (*path, "api"):
                found = found.get(key, {})
            if found.get("url"):
                return True
    return False


def _is_in_profile() -> bool:
    folder = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    path = Path(os.environ.get("PREFECT_PROFILES_PATH") or folder / "profiles.toml")
    try:
        profiles = tomllib.loads(path.read_text("utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active", "")
        return bool(profiles.get("profiles", {}).get(active, {}).get("PREFECT_API_URL"))
    except (OSError, ValueError, AttributeError):
        return False


def live_server(home: Home) -> dict[str, str]:
    """Return the settings that let a run report to the server of `home`; nothing if none is up.

    An address file that a dead `serve` left is not believed: the lock must be held and the server answer at once.
    Until then the password is not sent to whoever listens there now.
    """
    try:
        url = str(json.loads(home.address_file.read_bytes())["url"])
        if not _is_held(home) or not is_healthy(url):
            return {}
        auth = home.auth_file.read_text("ascii").strip()
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {
        "PREFECT_API_URL": url,
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
    }


def is_healthy(api_url: str) -> bool:
    """Ask the server at `api_url` whether it works; no answer within two seconds is a no."""
    address = urlsplit(api_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", f"{address.path}/health")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def write_private(path: Path, values: Mapping[str, object]) -> None:
    """Write JSON in one step, for its owner only."""
    part = path.with_name(f".{path.name}.part")
    part.touch(mode=0o600)
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(path)


def _is_held(home: Home) -> bool:
    handle = os.open(home.lock_file, os.O_RDWR)
    try:
        return not _lock_within(handle, 0.0)
    finally:
        os.close(handle)


def _lock_within(handle: int, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.05)
        else:
            return True
