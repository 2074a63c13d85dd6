"""What a command needs of the machine it runs on: looked at, and put right, before Prefect or Dask start."""

import atexit
import os
import resource
import shutil
import socket
import tempfile
from collections.abc import MutableMapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from segmentation.errors import MachineError
from segmentation.reasons import reason_of

HOST = "127.0.0.1"
#: Names under which a process talks to its own machine.
_LOOPBACK = (HOST, "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy")
#: Measured: 42 open files and 12 for each worker, rounded up.
_OPEN_FILES, _OPEN_FILES_A_WORKER = 100, 16
_ANSWER_S = 2.0


def prepare_machine() -> None:
    """Make this process and those it starts able to talk to each other, and find Prefect a folder.

    Raises
    ------
    MachineError
        The current folder is gone, too few files may be open, nothing answers at 127.0.0.1, or there is no folder for
        Prefect.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise MachineError(f"the current folder: {reason_of(error)}; change into another one") from error
    bypass_proxies(os.environ)
    check_open_files()
    check_loopback()
    _provide_prefect_home()


def bypass_proxies(environment: MutableMapping[str, str]) -> None:
    """Say in an environment that no proxy stands between processes of this machine, and drop proxies that cannot work.

    HTTP proxies stay for what is elsewhere, such as a bucket. Prefect's client fails with a SOCKS proxy, whatever it
    is asked for, unless the package ``socksio`` is there; and with an address that is none.

    Examples
    --------
    >>> values = {"HTTP_PROXY": "http://proxy:3128", "NO_PROXY": ".example.org"}
    >>> bypass_proxies(values)
    >>> values["HTTP_PROXY"], values["no_proxy"]
    ('http://proxy:3128', '.example.org,127.0.0.1,localhost,::1')
    """
    for name in [name for name in environment if name.lower() in _PROXIES]:
        if not _is_usable(environment[name]):
            del environment[name]
    for name in ("no_proxy", "NO_PROXY"):
        given = environment.get(name) or environment.get(name.swapcase()) or ""
        hosts = [host.strip() for host in given.split(",") if host.strip()]
        if "*" not in hosts:
            environment[name] = ",".join(dict.fromkeys([*hosts, *_LOOPBACK]))


def _is_usable(proxy: str) -> bool:
    if not proxy:
        return True  # says that there is none
    try:
        address = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        known = address.port is None or address.port > 0
    except ValueError:
        return False
    schemes = {"http", "https", *(("socks5", "socks5h") if find_spec("socksio") else ())}
    return known and bool(address.hostname) and proxy.isprintable() and address.scheme in schemes


def check_open_files(n_workers: int = 1) -> None:
    """Allow this process, and those it starts, as many open files as may be; refuse too few.

    Raises
    ------
    MachineError
        A run with so many workers would stand still.
    """
    needed = _OPEN_FILES + _OPEN_FILES_A_WORKER * n_workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise MachineError(
            f"a process may have {hard:,} open files here; a run with {n_workers} worker{'s' if n_workers > 1 else ''} "
            f"needs {needed:,}: raise the hard limit (ulimit -Hn), or take fewer --workers"
        )
    if soft != resource.RLIM_INFINITY and soft < max(needed, 1024):
        wanted = 4096 if hard == resource.RLIM_INFINITY else min(hard, 4096)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_loopback() -> None:
    """Refuse a machine that cannot talk to itself: all processes of a run talk to each other at 127.0.0.1.

    Raises
    ------
    MachineError
        Nothing can listen there, or be reached.
    """
    try:
        with socket.socket() as listener:
            listener.bind((HOST, 0))
            listener.listen(1)
            socket.create_connection(listener.getsockname(), timeout=_ANSWER_S).close()
    except OSError as error:
        raise MachineError(
            f"this machine cannot reach itself at {HOST} ({reason_of(error)}); a run needs the network "
            "interface lo: ip link set lo up"
        ) from error


def _provide_prefect_home() -> None:
    """Make Prefect's folder; where the user's home cannot be written, one that ends with this process.

    Raises
    ------
    MachineError
        ``PREFECT_HOME`` names a place that can be none.
    """
    given = os.environ.get("PREFECT_HOME")
    try:
        home = Path(given or "~/.prefect").expanduser()
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            return
    except (OSError, RuntimeError, ValueError) as error:  # the last two: there is no home, or it is no path
        if given:
            reason = reason_of(error) if isinstance(error, OSError) else "it is no path"
            raise MachineError(f"PREFECT_HOME: {given!a} cannot be written ({reason}); name another folder") from error
    folder = tempfile.mkdtemp(prefix="regionflow-prefect-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["PREFECT_HOME"] = folder
