"""The recipe as a form of the Prefect UI asks for it.

A recipe holds one of several models, which the UI shows as tabs. It keeps fields of tabs that were open before, and
jumps to the tab that has most of them. So a form has a list of methods instead, one field for the number of regions,
and for every method a part of its own that is closed at first.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from segmentation.params import GRID, METHODS, REGIONS_FIELDS, Params, Recipe, say_bounds

_SHARED = ("sigma", "scale", "min_region_size", "refine", "seed")


def describe_form(schema: dict[str, Any]) -> None:
    """Show a number that may be missing as an empty field, and a part that may be missing as a closed one."""
    say_bounds(schema)
    for name, field in schema["properties"].items():
        kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1 and "$ref" in kinds[0]:
            field["anyOf"] = [{"type": "null"}, *kinds]  # the first is open at first
        elif len(kinds) == 1:
            field.update(kinds[0])
            del field["anyOf"], field["default"]
        elif name in GRID:  # they suit the method unless somebody says something else
            del field["default"]


class Form(Params):
    """Base of what a form asks for."""

    model_config = ConfigDict(json_schema_extra=describe_form)


class _Start(Form):
    method: Literal["spectral", "ward", "kmeans", "hierarchy"] = Field(
        "spectral",
        description="How pixels become regions: by normalized cuts (spectral), by merging neighbours (ward), by colour "
        "alone (kmeans), or along learned boundaries, which say how many there are (hierarchy).",
    )
    regions: int | None = Field(
        None,
        ge=1,
        description="Number of regions, or of colours for kmeans. Empty: 26 for spectral, 27 for ward, 8 for kmeans, "
        "and as many as the image suggests for hierarchy.",
    )
    auto: bool = Field(
        False, description="As many regions as each image suggests, instead of a number; not for kmeans."
    )

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.auto and self.regions is not None:
            raise ValueError(f"regions: {self.regions} and auto are both given; leave one of them out")
        if self.auto and self.method == "kmeans":
            raise ValueError("auto: kmeans has no number of colours that the image suggests; give regions instead")
        return self


def _fields(model: type[BaseModel], names: Iterable[str]) -> dict[str, Any]:
    return {name: (model.model_fields[name].rebuild_annotation(), model.model_fields[name]) for name in names}


def _part(method: str) -> Any:
    """Make the part with a method's own parameters: all but its name and its number of regions."""
    model = METHODS[method]
    names = tuple(name for name in model.model_fields if name not in ("method", REGIONS_FIELDS[method]))
    part = create_model(model.__name__, __base__=Form, __doc__=model.__doc__, **_fields(model, names))
    title, description = f"More for {method}", f"Parameters of {method} alone, where they are not as usual."
    return Annotated[part | None, Field(title=title, description=description)]


_FIELDS = {**_fields(Recipe, _SHARED), **{method: (_part(method), None) for method in METHODS}}
RecipeForm = create_model(
    "Recipe", __base__=_Start, __doc__="Everything that changes the labels of an image.", **_FIELDS
)


def recipe_values(values: Any) -> Any:
    """Turn what a form sends into what a recipe is made of; anything else is left as it is.

    Raises
    ------
    ValueError
        A field is not one of the form's, or its value is not allowed.

    Examples
    --------
    >>> recipe_values({"method": "ward", "regions": 12, "seed": 1, "kmeans": {"tol": 1}})
    {'seed': 1, 'method': {'method': 'ward', 'n_regions': 12}}
    """
    if not isinstance(values, dict) or isinstance(values.get("method"), dict | Params):
        return values
    form: Any = RecipeForm.model_validate(values)
    part = getattr(form, form.method)
    method = {"method": form.method, **(part.model_dump(exclude_unset=True) if part else {})}
    if form.auto or form.regions is not None:
        method[REGIONS_FIELDS[form.method]] = "auto" if form.auto else form.regions
    return {**form.model_dump(include=set(_SHARED), exclude_unset=True), "method": method}


def form_values(recipe: Recipe) -> dict[str, Any]:
    """Fill in the form for a recipe: only what is not as usual, so that another method can be chosen there.

    Examples
    --------
    >>> from segmentation import Ward
    >>> form_values(Recipe(scale=0.5, method=Ward(n_regions="auto", connectivity=8)))
    {'method': 'ward', 'auto': True, 'scale': 0.5, 'ward': {'connectivity': 8}}
    """
    usual = Recipe(method=METHODS[recipe.method.method]())
    method = _unusual(recipe.method, usual.method)
    number = method.pop(REGIONS_FIELDS[recipe.method.method], None)
    counted = {} if number is None else {"auto": True} if number == "auto" else {"regions": number}
    shared = {name: value for name, value in _unusual(recipe, usual).items() if name in _SHARED}
    return {"method": recipe.method.method, **counted, **shared, **({recipe.method.method: method} if method else {})}


def _unusual(model: Params, usual: Params) -> dict[str, Any]:
    values, expected = model.model_dump(mode="json"), usual.model_dump(mode="json")
    return {name: value for name, value in values.items() if value != expected[name]}
