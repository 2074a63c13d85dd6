"""Ctrl-C and SIGTERM for the command: the run ends in order, and soon; and how a command ends that cannot."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from flows.exit_codes import INTERRUPTED

MESSAGE = "interrupted; what was finished is stored, run again to go on"
#: An orderly end takes a few seconds; if Prefect's server is gone, its client would try for minutes.
_PATIENCE_S = 20.0
_SHOW_CURSOR = "\x1b[?25h"

_for_us: ContextVar[bool] = ContextVar("for_us", default=False)
_received = threading.Event()


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGINT and SIGTERM into KeyboardInterrupt, for the runs of this block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, _interrupt)
    token = _for_us.set(True)
    _received.clear()
    try:
        yield
    finally:
        _for_us.reset(token)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def listen() -> None:
    """Take the signals over, if this run is the command's; a flow's first act.

    Prefect has put a handler of its own in place by then, which waits for its server before anything ends.
    """
    if _for_us.get() and threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _interrupt)


def received() -> bool:
    """Tell whether an interrupt has come: what fails after it, fails because of it."""
    return _received.is_set()


def give_up(code: int, message: str) -> NoReturn:
    """End this process at once, from any thread; its workers see that and end too, records are whole at any moment."""
    cursor = _SHOW_CURSOR if os.isatty(2) else ""  # the progress bar has hidden it, and has put itself before stderr
    os.write(2, f"{cursor}regionflow: {message}\n".encode())
    os._exit(code)


def _interrupt(number: int, frame: object) -> NoReturn:
    _received.set()
    timer = threading.Timer(_PATIENCE_S, give_up, (INTERRUPTED, MESSAGE))
    timer.daemon = True
    timer.start()
    raise KeyboardInterrupt
