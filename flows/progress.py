"""How a run tells whoever watches how far it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from segmentation.planning import Record


class Observer(Protocol):
    """Someone who watches a run; called from the flow's own thread."""

    def phase(self, name: str) -> None:
        """Say what the run does now, in words."""

    def planned(self, counts: dict[str, int], to_do: int, unit: str, passed_over: str) -> None:
        """Say how many images (or label maps, the unit) are new, changed, …, how many computed, what is no image."""

    def finished(self, records: Sequence[Record]) -> None:
        """Hand over the records of a batch that was committed."""


class Silent:
    """Watches nothing."""

    def phase(self, name: str) -> None:
        """Ignore it."""

    def planned(self, counts: dict[str, int], to_do: int, unit: str, passed_over: str) -> None:
        """Ignore it."""

    def finished(self, records: Sequence[Record]) -> None:
        """Ignore it."""


_observer: ContextVar[Observer] = ContextVar("observer", default=Silent())  # noqa: B039 - it has no state


def observer() -> Observer:
    """Return who watches."""
    return _observer.get()


@contextmanager
def observed_by(watcher: Observer) -> Iterator[None]:
    """Let `watcher` see the runs of this block."""
    token = _observer.set(watcher)
    try:
        yield
    finally:
        _observer.reset(token)
