"""A recipe from a YAML file and from options of the command; options win."""

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from segmentation.errors import ParameterError
from segmentation.params import REGIONS_FIELDS, Recipe, RegionCount, Spectral, parse_recipe
from segmentation.reasons import reason_of


def recipe_from(
    config: Path | None,
    *,
    method: str | None = None,
    regions: RegionCount | None = None,
    options: Mapping[str, Any] | None = None,
    pairs: Sequence[str] = (),
) -> Recipe:
    """Put a recipe together.

    Parameters
    ----------
    config : Path, optional
        A YAML file with the recipe's fields; ``method: ward`` is short for ``method: {method: ward}``.
    method, regions : optional
        Name of the method; its number of regions or colours.
    options : mapping
        Fields of the recipe; None means not given.
    pairs : sequence of str
        Parameters of the method as ``name=value``.

    Raises
    ------
    ParameterError
        The file cannot be read as a recipe, or a value is not allowed.
    """
    values = read_yaml(config) if config is not None else {}
    if isinstance(values.get("method"), str):
        values["method"] = {"method": values["method"]}
    chosen = values.get("method") or {"method": Spectral().method}
    if not isinstance(chosen, dict):
        raise ParameterError(f"method: got {chosen!r}; a name or a mapping with a key 'method' is expected")
    if method is not None and chosen.get("method") != method:
        chosen = {"method": method}
    chosen = {**chosen, **dict(_pair(pair) for pair in pairs)}
    if regions is not None:
        chosen[REGIONS_FIELDS.get(str(chosen.get("method")), "n_regions")] = regions
    given = {name: value for name, value in (options or {}).items() if value is not None}
    return parse_recipe({**values, **given, "method": chosen})


def parse_regions(text: str) -> list[RegionCount]:
    """Read numbers of regions, or "auto", separated by commas.

    Raises
    ------
    ParameterError
        One is no number, below 1, or given twice.

    Examples
    --------
    >>> parse_regions("8,16,auto")
    [8, 16, 'auto']
    """
    numbers: list[RegionCount] = []
    for word in text.split(","):
        try:
            numbers.append("auto" if word.strip() == "auto" else int(word))
        except ValueError as error:
            raise ParameterError(
                f"--regions: got {text!r}; a number, auto, or several as 8,16,32, are expected"
            ) from error
    if any(number != "auto" and number < 1 for number in numbers) or len(set(numbers)) < len(numbers):
        raise ParameterError(f"--regions: got {text!r}; different numbers, each >= 1, are expected")
    return numbers


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; a key given twice is an error.

    Raises
    ------
    ParameterError
        Names the file, and line and column where YAML tells them.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)  # noqa: S506 - a safe loader
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ParameterError(f"--config: {path}: {_what_is_wrong(error)}") from error
    if not isinstance(values or {}, dict):
        raise ParameterError(f"--config: {path}: a mapping of parameters is expected, found {type(values).__name__}")
    return dict(values or {})


def _what_is_wrong(error: Exception) -> str:
    if not isinstance(error, yaml.YAMLError):
        return reason_of(error)
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{getattr(error, 'problem', None) or 'characters that YAML does not allow'}"


class _UniqueKeys(yaml.SafeLoader):
    """YAML keeps the last of two equal keys in silence; here that is an error. And 012 is not read as 10."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML keeps them on the class
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:int"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep=deep)


# Whole numbers as YAML 1.2 has them, and everybody else: no octal by a zero in front, no base 60 by a colon.
_UniqueKeys.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789"))


def _pair(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise ParameterError(f"--set: got {text!r}; NAME=VALUE is expected, for example beta=5")
    try:
        return name.strip(), yaml.load(value, Loader=_UniqueKeys)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ParameterError(f"--set: got {text!r}; the value is not one that YAML knows") from error
