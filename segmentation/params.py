"""What changes the labels: one frozen model per method, and the recipe that holds one of them.

The command's options, a YAML file, the form in the Prefect UI and the Zarr attributes are all filled from,
or written from, these models; where and how a run executes is not in here (see ``flows.settings``).
"""

import difflib
import json
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from segmentation.errors import ParameterError

Model = TypeVar("Model", bound=BaseModel)
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: A number of regions, or as many as the image suggests.
RegionCount = Annotated[int, Field(ge=1)] | Literal["auto"]


_BOUNDS = {"exclusiveMinimum": ">", "minimum": "≥", "exclusiveMaximum": "<", "maximum": "≤"}


def say_bounds(schema: dict[str, Any]) -> None:
    """Say in every description what is allowed: the form in the Prefect UI shows descriptions, but no bounds."""
    for field in schema.get("properties", {}).values():
        choices = field.get("anyOf", [field])
        allowed = [str(choice["const"]) for choice in choices if "const" in choice] if len(choices) > 1 else []
        for choice in choices:
            limits = [f"{sign} {choice[name]:,}" for name, sign in _BOUNDS.items() if name in choice]
            allowed += [" and ".join(limits)] if limits else []
        if allowed:
            field["description"] = f"{field['description']} Allowed: {' or '.join(allowed)}."


class Params(BaseModel):
    """Base of all parameter models: frozen, and a misspelt key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=say_bounds)


class Spectral(Params):
    """Normalized cuts: regions whose pixels are alike and whose borders follow contrast.

    The numbers are those of scikit-learn's example on the Greek coins; for its regions choose a solver other than
    "multilevel".
    """

    method: Literal["spectral"] = "spectral"
    n_regions: RegionCount = Field(
        26, description="Number of regions wanted; auto takes as many as hierarchy suggests for the working grid."
    )
    extra_regions: int = Field(
        3, ge=0, description="Regions computed on top of those wanted: the background takes more than one."
    )
    beta: Finite = Field(10.0, gt=0, description="How fast similarity falls with contrast: exp(-beta * g / std).")
    eps: Finite = Field(1e-6, ge=0, description="Similarity that even the strongest border keeps.")
    eigen_solver: Literal["multilevel", "arpack", "lobpcg", "amg"] = Field(
        "multilevel",
        description="multilevel: lowest cut, fastest; the others: scikit-learn's regions, from eigenvectors of all "
        "pixels (amg needs the extra 'amg').",
    )
    eigen_tol: Finite = Field(
        1e-7, ge=0, description="Stopping tolerance of the eigenvalue solver; multilevel has none."
    )
    assign_labels: Literal["kmeans", "discretize", "cluster_qr"] = Field(
        "kmeans", description="How eigenvectors become labels; multilevel needs no assigner."
    )
    smallest_region: int = Field(
        1, ge=1, description="Regions of multilevel below this many pixels of the working grid are merged first."
    )
    connectivity: Literal[4, 8] = Field(4, description="Neighbours of a pixel in the graph.")
    radius: Finite = Field(
        0.0,
        ge=0,
        le=20,
        description="Radius in pixels of Shi and Malik's affinities, 5 in their paper; 0 takes neighbours only.",
    )
    sigma_value: Finite = Field(
        0.1, gt=0, description="With a radius: difference of values, of 1, at which similarity falls to 1/e."
    )
    sigma_distance: Finite = Field(
        4.0, gt=0, description="With a radius: distance in pixels at which similarity falls to 1/e."
    )


class Ward(Params):
    """Structured Ward: merge the neighbouring regions whose union varies least."""

    method: Literal["ward"] = "ward"
    n_regions: RegionCount = Field(
        27, description="Number of regions; auto takes as many as hierarchy suggests for the working grid."
    )
    connectivity: Literal[4, 8] = Field(4, description="Neighbours of a pixel in the graph.")


class KMeans(Params):
    """k-means on colour: a palette; ignores where pixels are.

    The stopping rule is OpenCV's: at most `max_iter` rounds, or no centre moved by `tol` grey levels. For one
    channel "distinct" finds the best palette there is: only `n_clusters` then counts.
    """

    method: Literal["kmeans"] = "kmeans"
    n_clusters: int = Field(8, ge=1, description="Number of colours.")
    color_space: Literal["rgb", "lab"] = Field("rgb", description="Where distances are measured; grey stays grey.")
    algorithm: Literal["distinct", "lloyd", "minibatch"] = Field(
        "distinct",
        description="Each distinct colour once, all pixels in every round, or random mini-batches of them.",
    )
    n_init: int = Field(10, ge=1, description="Attempts from different starts; the best is kept.")
    max_iter: int = Field(100, ge=1, description="Rounds at most.")
    tol: Finite = Field(0.85, ge=0, description="Stop when centres move less than this, in grey levels of 255.")


class Hierarchy(Params):
    """A tree of regions from boundary strength; how many there are follows from the image, or is chosen."""

    method: Literal["hierarchy"] = "hierarchy"
    n_regions: RegionCount = Field(
        "auto", description="Number of regions; auto cuts the tree at `threshold`, or where the image suggests."
    )
    threshold: Finite | None = Field(
        None, description="How credible a border must be to stay, in [0, 1], in place of a number of regions."
    )
    smallest_region: int = Field(
        1, ge=1, lt=2**31, description="Regions below this many pixels are merged before all others."
    )

    @model_validator(mode="after")
    def _one_cut(self) -> Self:
        if self.n_regions != "auto" and self.threshold is not None:
            raise ValueError(f"n_regions is {self.n_regions}: then there is no threshold to choose, leave it out")
        return self


MethodParams = Annotated[Spectral | Ward | KMeans | Hierarchy, Field(discriminator="method")]
METHODS: dict[str, type[Params]] = {"spectral": Spectral, "ward": Ward, "kmeans": KMeans, "hierarchy": Hierarchy}
#: The parameter that says how many regions, or colours, there are to be.
REGIONS_FIELDS = {"spectral": "n_regions", "ward": "n_regions", "kmeans": "n_clusters", "hierarchy": "n_regions"}
#: Parameters of the grid whose usual values differ between methods,
GRID = ("sigma", "scale")
#: and what a recipe for a method has where it says nothing else: boundaries are looked for in the image as it is.
_GRIDS: dict[str, dict[str, float]] = {"hierarchy": {"sigma": 0.0, "scale": 1.0}}


class Recipe(Params):
    """Everything that changes the labels of an image. Same image, same recipe: same labels, byte for byte.

    Where `sigma` and `scale` are not given they suit the method: 2 and 0.2, but 0 and 1 for "hierarchy", which looks
    for boundaries in the image as it is.

    Examples
    --------
    >>> Recipe(method=Ward()).scale, Recipe(method=Hierarchy()).scale, Recipe(scale=0.5, method=Hierarchy()).scale
    (0.2, 1.0, 0.5)
    """

    sigma: Finite = Field(
        2.0,
        ge=0,
        le=1000,
        description="Gaussian smoothing before rescaling, in pixels; 2 if not given, for hierarchy 0, which is none.",
    )
    scale: Finite = Field(
        0.2,
        gt=0,
        le=1,
        description="Size of the grid that is clustered, as part of the original; 0.2 if not given, for hierarchy 1.",
    )
    method: MethodParams = Field(default_factory=Spectral, description="The method and its parameters.")
    min_region_size: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="Connected pieces below this many original pixels join their most similar neighbour.",
    )
    refine: Literal["watershed", "nearest"] = Field(
        "watershed", description="How borders come back to the original resolution: along edges, or as blocks."
    )
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of everything random.")

    @model_validator(mode="before")
    @classmethod
    def _suit_the_method(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        method = values.get("method")
        name = method.get("method") if isinstance(method, dict) else getattr(method, "method", None)
        return {**_GRIDS.get(str(name), {}), **values}

    def with_regions(self, n_regions: RegionCount) -> "Recipe":
        """Return the same recipe for another number of regions, or of colours.

        Raises
        ------
        ParameterError
            If the method cannot have that: k-means has no "auto", a threshold no number.

        Examples
        --------
        >>> Recipe(method=KMeans()).with_regions(12).method.n_clusters
        12
        """
        method = self.method.model_dump() | {REGIONS_FIELDS[self.method.method]: n_regions}
        return parse(Recipe, {**dict(self), "method": method})

    def canonical(self) -> str:
        """Return the recipe as JSON with sorted keys: equal recipes give equal text."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def parse_recipe(values: object) -> Recipe:
    """Make a recipe from plain values (a YAML file, a form, Zarr attributes).

    Raises
    ------
    ParameterError
        Names each wrong parameter, the value found and what is allowed.

    Examples
    --------
    >>> parse_recipe({"scale": 0.5, "method": {"method": "ward", "n_regions": 12}}).method.n_regions
    12
    >>> parse_recipe({"scale": 3})
    Traceback (most recent call last):
    segmentation.errors.ParameterError: scale: input should be less than or equal to 1, got 3
    """
    return parse(Recipe, values)


def parse(model: type[Model], values: object) -> Model:
    """Make a model from plain values; what is wrong is said as in `parse_recipe`."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParameterError("; ".join(describe(error))) from error


def describe(error: ValidationError) -> list[str]:
    """Say each complaint of pydantic as "parameter: what is allowed, got value"."""
    return list(dict.fromkeys(_complaint(dict(complaint)) for complaint in error.errors(include_url=False)))


def _complaint(complaint: dict[str, Any]) -> str:
    tags = tuple(METHODS)
    where = [str(part) for part in complaint["loc"] if part not in tags]
    if where[-1:] in (["literal['auto']"], ["constrained-int"]):  # each of the two kinds of `RegionCount` complains
        return f"{'.'.join(where[:-1])}: auto or a whole number >= 1 is expected, got {complaint['input']!r}"
    name = ".".join(where) or "recipe"
    message = complaint["msg"][:1].lower() + complaint["msg"][1:]
    if complaint["type"] == "extra_forbidden":
        return f"{name}: no such parameter{_suggestion(name, complaint['loc'])}"
    if complaint["type"].startswith("union_tag"):
        found = complaint["input"]
        found = found.get("method") if isinstance(found, dict) else found
        return f"{name}: unknown method {found!r}; choose {', '.join(METHODS)}"
    return f"{name}: {message}, got {complaint['input']!r}"


def _suggestion(name: str, where: tuple[object, ...]) -> str:
    """Name the parameter that was probably meant, and those there are."""
    model: type[BaseModel] = next((METHODS[str(part)] for part in where if part in METHODS), Recipe)
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], model.model_fields, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ""
    return f"{meant} (there are: {', '.join(model.model_fields)})"
