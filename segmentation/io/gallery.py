"""The gallery of a store: one page to look at what the runs did, opened from the disk, without network.

```
gallery/index.html         the page with its style and script; the totals are in it
gallery/data-<hash>.js     all records, column by column, for the page's script
contours/…/*.cuts.js       what the slider over cuts shows, loaded when an image is looked at (`segmentation.io.slider`)
```
File names and reasons come from strangers. They reach the page as JSON without ``<``, ``>`` and ``&``, the script
puts them there as text only, and the page's content security policy runs no script but its own.
"""

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from segmentation.errors import ParameterError
from segmentation.io.records import read_records
from segmentation.io.runs import read_run, run_names
from segmentation.io.storage import Location, open_storage
from segmentation.params import parse_recipe
from segmentation.planning import Record, State, display, has_tree, recipe_of

#: Worst first.
_STATES = (State.FAILED, State.REJECTED, State.SEGMENTED)
_TEMPLATES = "templates"


#: The page, below the store.
PAGE = "gallery/index.html"


def write_gallery(root: Location) -> str:
    """Write the gallery of the store at `root` anew; return where its page is: a path or a URL.

    Notes
    -----
    O(n log n) for n records, of which the sorting is the smallest part. Equal records give equal bytes. The page
    names its data file by content and is written last: whoever opens it sees the old gallery or the new one.

    Examples
    --------
    >>> import tempfile
    >>> write_gallery(tempfile.mkdtemp()).endswith("/gallery/index.html")
    True
    """
    storage = open_storage(root)
    records = sorted(read_records(storage).values(), key=_badness)
    needed = {record.run for record in records} | set(run_names(storage)[-1:])
    runs = {run: read_run(storage, run) for run in sorted(needed)}
    data = _data_script(_columns(records, runs))
    data_name = f"data-{hashlib.sha256(data).hexdigest()[:16]}.js"
    storage.write(f"gallery/{data_name}", data)
    storage.write(PAGE, _render(records, runs, data_name).encode())
    for other in storage.names("gallery", ".js"):
        if other.startswith("gallery/data-") and other != f"gallery/{data_name}":
            storage.delete(other)
    return f"{storage.url}/{PAGE}"


def _badness(record: Record) -> tuple[int, bool, float, bytes, str]:
    """Sort by state, then by how little of the image the regions explain; an unknown score is looked at first.

    Masked images come after the others: what is left of them may be one thing, with nothing to explain but noise.
    """
    score = _short(record.scores.get("explained_variance")) if record.state is State.SEGMENTED else None
    badness = -1.0 if score is None else score
    return _STATES.index(record.state), bool(record.ref.mask_path), badness, record.ref.raw_name, record.label


def _columns(records: Sequence[Record], runs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Lay the records out in columns, in the order given; what repeats is a number into a list of values."""
    images = {record.ref.id: record.ref for record in sorted(records, key=lambda record: record.ref.raw_name)}
    rows: dict[str, Any] = {
        "height": [record.height for record in records],
        "width": [record.width for record in records],
        "channels": [record.channels for record in records],
        "bytes": [record.ref.size for record in records],
        "regions": [record.n_regions for record in records],
        "attempts": [record.attempts for record in records],
        "key": [record.key[:12] for record in records],
        "cuts": [int(has_tree(record)) for record in records],
    }
    data: dict[str, Any] = {
        "id": list(images),
        "name": [ref.display_name for ref in images.values()],
        "states": [state.value for state in _STATES],
        "rows": rows,
        "scores": _by_name([record.scores for record in records], without="n_regions"),
        "seconds": _by_name([record.seconds for record in records]),
    }
    places = {identity: place for place, identity in enumerate(images)}
    rows["image"] = [places[record.ref.id] for record in records]
    rows["state"] = [_STATES.index(record.state) for record in records]
    data["labels"], rows["label"] = _listed(record.label for record in records)
    data["steps"], rows["step"] = _listed(record.step for record in records)
    data["reasons"], rows["reason"] = _listed(display(record.reason) for record in records)
    data["pictures"], rows["picture"] = _listed(record.contour.replace(record.ref.id, "*") for record in records)
    data["runs"], rows["run"] = _listed(record.run for record in records)
    data["recipes"], rows["recipe"] = _listed(_recipes(records, runs))
    return data


def _recipes(records: Sequence[Record], runs: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Describe how each record was made; what a run asked for is looked up once for each of its labels."""
    described: dict[tuple[str, str], str] = {}
    for record in reversed(records):  # segmented ones first: their keys hold all that they were made from
        made = (record.run, record.label)
        if made not in described:
            asked = runs.get(record.run, {}).get("recipe", {})
            with suppress(ParameterError):
                recipe = recipe_of(record, parse_recipe(asked))
                asked = asked if recipe is None else recipe.model_dump(mode="json")
            described[made] = _describe_recipe(asked)
    return [described[record.run, record.label] for record in records]


def _listed(values: Iterable[str]) -> tuple[list[str], list[int]]:
    """Return the different values, sorted, and for each value its place among them."""
    found = list(values)
    different = sorted(set(found))
    places = {value: place for place, value in enumerate(different)}
    return different, [places[value] for value in found]


def _by_name(values: Sequence[Mapping[str, float]], without: str = "") -> dict[str, list[float | None]]:
    """Return one column per name, names in the order they are first met."""
    names = [name for name in dict.fromkeys(name for row in values for name in row) if name != without]
    return {name: [_short(row.get(name)) for row in values] for name in names}


def _short(value: float | None) -> float | None:
    """Round to the four digits that the page shows; JSON has no NaN, and neither has the page."""
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def _describe_recipe(recipe: Mapping[str, Any]) -> str:
    """Say a recipe in one line, the method first; what is None was left open.

    Examples
    --------
    >>> _describe_recipe({"sigma": 2.0, "method": {"method": "ward", "n_regions": 27, "threshold": None}, "seed": 42})
    'ward, n_regions 27, sigma 2, seed 42'
    """
    method = dict(recipe.get("method", {}))
    others = {name: value for name, value in recipe.items() if name != "method"}
    words = [str(method.pop("method"))] if "method" in method else []
    for name, value in {**method, **others}.items():
        if value is not None:
            words.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return display(", ".join(words))


def _data_script(data: Mapping[str, Any]) -> bytes:
    """Write the data as a script: a page opened from the disk may load scripts, but read no other files."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f"window.regionflow={text};\n".encode("ascii")


def _render(records: Sequence[Record], runs: Mapping[str, Mapping[str, Any]], data_name: str) -> str:
    style, script = (
        resources.files(__package__).joinpath(_TEMPLATES, name).read_text("utf-8")
        for name in ("gallery.css", "gallery.js")
    )
    environment = Environment(
        loader=PackageLoader(__package__, _TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    last = max(runs, default="")
    source = _shown_source(str(runs[last].get("source", "")), records) if last else ""
    return environment.get_template("gallery.html.j2").render(
        title=PurePosixPath(source).name or "All images",
        source=source,
        n_images=len({record.ref.id for record in records}),
        labels=_count_states(records),
        states=_STATES,
        last_run=_describe_run(last, runs[last], records) if last else None,
        data_name=data_name,
        style=style,
        style_hash=_policy_hash(style),
        script=script,
        script_hash=_policy_hash(script),
    )


def _shown_source(source: str, records: Iterable[Record]) -> str:
    """Return where the images come from: of a run on one file among others, its folder."""
    folder, _, name = source.rpartition("/")
    names = {record.ref.name for record in records}
    return display(folder if name in names and len(names) > 1 else source)


def _count_states(records: Iterable[Record]) -> dict[str, dict[State, int]]:
    counts: dict[str, dict[State, int]] = {}
    for record in records:
        counts.setdefault(record.label, dict.fromkeys(_STATES, 0))[record.state] += 1
    return dict(sorted(counts.items()))


def _describe_run(name: str, run: Mapping[str, Any], records: Iterable[Record]) -> dict[str, Any]:
    """Describe a run by its records: the gallery is written before the run's own account of how it ended."""
    return {
        "started": _start_of(name),
        "label": display(str(run.get("label", ""))),
        "n_records": sum(record.run == name for record in records),
    }


def _start_of(run: str) -> str:
    """Read a run's start off its name; a name that holds none stands for itself.

    Examples
    --------
    >>> _start_of("000012-20260430T020000Z"), _start_of("000013-again")
    ('2026-04-30 02:00 UTC', '000013-again')
    """
    try:
        return datetime.strptime(run.split("-", 1)[1], "%Y%m%dT%H%M%S%z").strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return display(run)


def _policy_hash(text: str) -> str:
    """Name an inline style or script in a content security policy."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
