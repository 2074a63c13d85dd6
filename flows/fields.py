"""What the form of a run in the Prefect UI says about paths and names, and a check that only such a run needs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from prefect.runtime import deployment
from pydantic import BeforeValidator, Field, WithJsonSchema

from flows.forms import RecipeForm, form_values, recipe_values
from segmentation.errors import ParameterError
from segmentation.io.places import is_url
from segmentation.io.sources import Selection
from segmentation.params import Finite, Recipe, RegionCount


def _shown(description: str, **rules: Any) -> Any:
    # Prefect overwrites `description` with what it finds in a docstring of Google's style, but leaves this alone.
    return Field(json_schema_extra={"description": description}, **rules)


class _AsForm:
    """Shows a recipe as its form."""

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], Any]) -> Any:
        return handler(RecipeForm.__pydantic_core_schema__)


DEFAULT_RECIPE = Recipe()
RecipeValue = Annotated[
    Recipe,
    BeforeValidator(recipe_values),
    _AsForm(),
    Field(json_schema_extra={"default": form_values(DEFAULT_RECIPE)}),
]
Source = Annotated[
    str,
    _shown(
        "Folder of images (searched whole), image, OME-Zarr image, zip or tar archive, CSV or Parquet list with a "
        "column 'path', or the s3:// URL of one: a full path, there where the run works.",
        min_length=1,
    ),
]
ImageFile = Annotated[str, _shown("One image file: a full path, there where the run works.", min_length=1)]
Output = Annotated[
    str, _shown("Store for the results: a folder, made if absent (a full path), or s3://bucket/prefix.", min_length=1)
]
LabelName = Annotated[
    str, _shown("Name of the label maps; the method's name if empty.", pattern="^([A-Za-z0-9][A-Za-z0-9_-]{0,63})?$")
]
Regions = Annotated[
    tuple[RegionCount, ...],
    _shown("Several numbers of regions, or auto, each for label maps of its own; the recipe's alone if empty."),
]
TreeStore = Annotated[
    str,
    _shown(
        "Store whose trees are cut: a folder (a full path, there where the run works), or s3://bucket/prefix.",
        min_length=1,
    ),
]
TreeLabel = Annotated[
    str,
    _shown("Label maps whose trees are cut; hierarchy if empty.", pattern="^([A-Za-z0-9][A-Za-z0-9_-]{0,63})?$"),
]
Cuts = Annotated[
    tuple[RegionCount, ...],
    _shown("Numbers of regions, or auto: each gives label maps of its own, LABEL-NUMBER. None with a threshold."),
]
Which = Annotated[Selection, _shown("Which images of the source are meant, and if every frame is one.")]
Threshold = Annotated[
    Finite | None,
    WithJsonSchema({"type": "number"}),  # without a tab for None: that is an empty field
    _shown("How credible a border must be to stay, in [0, 1], instead of regions."),
]
Masks = Annotated[str, _shown("Folder of masks named like the images; or nothing.")]


def check_full_paths(**paths: str) -> None:
    """Refuse relative paths in a run that a worker started: it works in a folder that nobody looks into.

    Raises
    ------
    ParameterError
        Names the parameter.
    """
    if deployment.id is None:
        return
    for name, path in paths.items():
        if path and not is_url(path) and not Path(path).is_absolute():
            raise ParameterError(f"{name}: got {path!r}; a full path is expected, for example /data/{path}")
