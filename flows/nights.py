"""What is segmented every night, and when: as `serve` was told, now or at an earlier start."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.forms import form_values
from flows.server import DEFAULT_PORT, Home
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.io.sources import Selection
from segmentation.params import Recipe, RegionCount, parse, parse_recipe
from segmentation.reasons import reason_of

DEFAULT_CRON = "0 2 * * *"


@dataclass(frozen=True)
class Night:
    """What is segmented every night, and when."""

    source: str
    output: str
    recipe: Recipe
    label: str
    mask: str
    regions: list[RegionCount]
    selection: Selection
    settings: Settings
    cron: str
    timezone: str

    def parameters(self) -> dict[str, Any]:
        """Return what the flow is called with."""
        return {
            "source": self.source,
            "output": self.output,
            "recipe": form_values(self.recipe),
            "label": self.label,
            "mask": self.mask,
            "regions": self.regions,
            "selection": self.selection.model_dump(mode="json"),
            "settings": self.settings.model_dump(mode="json"),
        }


@dataclass(frozen=True)
class Options:
    """What `serve` was told; None is "not yet"."""

    source: str | None = None
    output: str | None = None
    recipe: dict[str, Any] | None = None
    regions: list[RegionCount] | None = None
    label: str | None = None
    mask: str | None = None
    selection: dict[str, Any] | None = None
    missing_chunks: str | None = None
    workers: int | None = None
    memory: str | None = None
    scheduler: str | None = None
    cron: str | None = None
    timezone: str | None = None
    port: int | None = None

    def over(self, earlier: "Options") -> "Options":
        """Return these options, with what they leave open as it was at an earlier start."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return Options(**{**vars(earlier), **given})

    def checked_port(self) -> int:
        """Return the port of the server.

        Raises
        ------
        ParameterError
            There is no such port.
        """
        port = DEFAULT_PORT if self.port is None else self.port
        if not 0 < port < 2**16:
            raise ParameterError(f"--port: got {port}; 1 to 65535 is allowed")
        return port

    def night(self) -> Night | None:
        """Return what to do at night; None unless source and output are known.

        Raises
        ------
        ParameterError
            Only one of the two is known, or another value is not allowed.
        """
        if self.source is None and self.output is None:
            return None
        if self.source is None or self.output is None:
            missing = "--source" if self.source is None else "--output"
            raise ParameterError(f"{missing}: not given; what is segmented at night, and where to, belong together")
        return Night(
            source=self.source,
            output=self.output,
            recipe=parse_recipe(self.recipe or {}),
            label=self.label or "",
            mask=self.mask or "",
            regions=self.regions or [],
            selection=parse(Selection, self.selection or {}),
            settings=parse(
                Settings,
                {
                    "workers": self.workers or 0,
                    "memory": self.memory or "",
                    "scheduler": self.scheduler or "",
                    "missing_chunks": self.missing_chunks or "fill",
                },
            ),
            cron=self.cron or DEFAULT_CRON,
            timezone=self.timezone or local_timezone(),
        )


def read_options(home: Home) -> Options:
    """Read what the last start was told.

    Raises
    ------
    ParameterError
        The file is damaged.
    """
    try:
        return Options(**json.loads(home.options_file.read_bytes()))
    except FileNotFoundError:
        return Options()
    except (ValueError, TypeError) as error:
        raise ParameterError(
            f"{home.options_file}: damaged ({reason_of(error)}); remove it and give the options again"
        ) from error


def local_timezone() -> str:
    """Return the name of this machine's time zone; UTC if it has none."""
    place = Path("/etc/localtime").resolve()
    _, separator, linked = str(place).partition("/zoneinfo/")
    for name in (os.environ.get("TZ", "").removeprefix(":"), linked if separator else ""):
        with suppress(ValueError, OSError):  # no such zone
            if name:
                return ZoneInfo(name).key
    return "UTC"
