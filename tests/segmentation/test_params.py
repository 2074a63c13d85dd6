import inspect

import pytest

from segmentation.cluster import GRAPH_FIELDS, METHODS
from segmentation.errors import ParameterError
from segmentation.params import Hierarchy, KMeans, Recipe, Spectral, Ward, parse_recipe


def keywords(function):
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in {"mask", "seed", "tree"}
    }


@pytest.mark.parametrize("model", [Spectral, Ward, KMeans, Hierarchy])
def test_each_field_is_a_keyword_of_exactly_one_step(model):
    name = model.model_fields["method"].default
    method = METHODS[name]
    graph = set() if method.graph is None else set(keywords(method.graph))
    cluster = set(keywords(method.cluster))
    assert not graph & cluster
    assert graph | cluster == set(model.model_fields) - {"method"}
    assert graph == GRAPH_FIELDS & set(model.model_fields)


def test_every_method_has_a_model():
    assert set(METHODS) == {model.model_fields["method"].default for model in (Spectral, Ward, KMeans, Hierarchy)}


@pytest.mark.parametrize(
    ("model", "path"),
    [
        (Spectral, "spectral.spectral"),
        (Spectral, "graphs.pixel_graph"),
        (Spectral, "graphs.affinity_graph"),
        (Ward, "ward.ward"),
        (KMeans, "kmeans.kmeans"),
    ],
)
def test_defaults_of_functions_are_those_of_the_models(model, path):
    module, name = path.split(".")
    function = getattr(__import__(f"segmentation.{module}", fromlist=[name]), name)
    for keyword, parameter in keywords(function).items():
        if keyword not in ("random_state", "radius"):  # a radius of 0 chooses the other graph
            assert parameter.default == model.model_fields[keyword].default, keyword


def test_scale_and_sigma_suit_the_method_where_they_are_not_given():
    assert (Recipe().sigma, Recipe().scale) == (2, 0.2)
    for recipe in (Recipe(method=Hierarchy()), parse_recipe({"method": {"method": "hierarchy"}})):
        assert (recipe.sigma, recipe.scale) == (0, 1)
    assert parse_recipe({"scale": 0.5, "method": {"method": "hierarchy"}}).scale == 0.5
    assert parse_recipe(Recipe(scale=0.5, sigma=1, method=Hierarchy()).model_dump()).sigma == 1


def test_another_number_of_regions_is_checked():
    assert Recipe(method=Hierarchy()).with_regions(8) == Recipe(method=Hierarchy(n_regions=8))
    with pytest.raises(ParameterError, match=r"n_clusters: .*, got 'auto'"):
        Recipe(method=KMeans()).with_regions("auto")
    with pytest.raises(ParameterError, match="leave it out"):
        Recipe(method=Hierarchy(threshold=0.2)).with_regions(8)


def test_descriptions_say_what_a_choice_allows():
    fields = Hierarchy.model_json_schema()["properties"]
    assert fields["n_regions"]["description"].endswith(" Allowed: auto or ≥ 1.")
    assert "Allowed" not in fields["threshold"]["description"]
