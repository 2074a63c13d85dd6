import inspect

import pytest

from segmentation.cluster import GRAPH_FIELDS, METHODS
from segmentation.params import KMeans, Spectral, Ward


def keywords(function):
    return {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in {"mask", "seed", "tree"}
    }


@pytest.mark.parametrize("model", [Spectral, Ward, KMeans])
def test_each_field_is_a_keyword_of_exactly_one_step(model):
    name = model.model_fields["method"].default
    method = METHODS[name]
    graph = set() if method.graph is None else set(keywords(method.graph))
    cluster = set(keywords(method.cluster))
    assert not graph & cluster
    assert graph | cluster == set(model.model_fields) - {"method"}
    assert graph == GRAPH_FIELDS & set(model.model_fields)


def test_every_method_has_a_model():
    assert set(METHODS) == {model.model_fields["method"].default for model in (Spectral, Ward, KMeans)}


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
