"""flows → tasks → segmentation.io → segmentation: imports point inward only."""

import ast
import importlib.util
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import segmentation

ROOT = Path(segmentation.__file__).parents[1]
RINGS = ("segmentation", "segmentation.io", "tasks", "flows")


def loaded_after(program):
    script = f"import sys\n{program}\nprint('\\n'.join(sys.modules))"
    run = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_no_module_of_the_library_loads_the_orchestrator():
    names = [module.name for module in pkgutil.walk_packages(segmentation.__path__, "segmentation.")]
    assert {"segmentation.pipeline", "segmentation.spectral"} < set(names)
    loaded = loaded_after("\n".join(f"import {name}" for name in names))
    assert not loaded & {"prefect", "dask", "distributed"}


def test_running_the_library_does_not_load_the_orchestrator_either():
    loaded = loaded_after(
        "import numpy, segmentation as s\n"
        "for method in (s.Spectral(n_regions=2, eigen_solver='arpack'), s.KMeans(n_clusters=2, algorithm='lloyd')):\n"
        "    s.segment(numpy.eye(9), s.Recipe(scale=0.9, method=method))"
    )
    assert {"sklearn", "numba"} < loaded
    assert not loaded & {"prefect", "dask", "distributed", "matplotlib"}


@pytest.mark.parametrize("method", ["Spectral(n_regions=2)", "Ward(n_regions=2)", "KMeans(n_clusters=2)"])
def test_the_defaults_of_every_method_load_neither_scikit(method):
    loaded = loaded_after(
        f"import numpy, segmentation as s\ns.segment(numpy.eye(9), s.Recipe(scale=0.9, method=s.{method}))"
    )
    assert "numba" in loaded
    assert not loaded & {"sklearn", "skimage", "prefect", "dask", "distributed", "matplotlib"}


@pytest.mark.parametrize("assign_labels", ["discretize", "cluster_qr"])
def test_arpack_does_without_scikit_learn(assign_labels):
    loaded = loaded_after(
        "from segmentation.graphs import grid_connectivity\n"
        "from segmentation.spectral import spectral\n"
        "weights = grid_connectivity((6, 7)).astype(float)\n"
        f"spectral(weights, n_regions=3, eigen_solver='arpack', assign_labels={assign_labels!r})"
    )
    assert "sklearn" not in loaded


def test_importing_the_library_alone_loads_nothing_heavy():
    heavy = {"sklearn", "skimage", "scipy", "numba", "pandas", "zarr", "pyarrow"}
    assert not loaded_after("import segmentation") & heavy


def test_importing_the_pipeline_loads_neither_scikit():
    loaded = loaded_after("from segmentation import Recipe, segment")
    assert not loaded & {"sklearn", "skimage", "numba"}


def test_every_exported_name_is_there():
    for name in segmentation.__all__:
        assert getattr(segmentation, name) is not None
    assert set(segmentation.__all__) <= set(dir(segmentation))


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'no_such_name'"):
        segmentation.no_such_name  # noqa: B018


def ring_of(module):
    """Number of the ring that a module belongs to, None outside the project."""
    if module == "segmentation.io" or module.startswith("segmentation.io."):
        return 1
    top = module.partition(".")[0]
    return RINGS.index(top) if top in RINGS else None


def imported(path, module):
    """List (line, module) of all imports of a file, wherever they stand."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            # "from segmentation import io" names a module too.
            yield from ((node.lineno, name) for name in (source, *(f"{source}.{a.name}" for a in node.names)))


def test_imports_point_inward_only():
    outward = []
    for package in ("segmentation", "tasks", "flows"):
        for path in sorted((ROOT / package).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for line, name in imported(path, module):
                ring = ring_of(name)
                if ring is not None and ring > ring_of(module):
                    outward.append(f"{path.relative_to(ROOT)}:{line}: {RINGS[ring_of(module)]} imports {name}")
    assert not outward, "\n".join(outward)


def test_the_rings_of_imports_are_told_apart(tmp_path):
    path = tmp_path / "graphs.py"
    path.write_text("from segmentation import io\nfrom .io import store\nimport numpy, tasks.load\n")
    found = {name: ring_of(name) for _, name in imported(path, "segmentation.graphs")}
    assert found["segmentation.io"] == 1
    assert found["segmentation.io.store"] == 1
    assert found["tasks.load"] == 2
    assert found["numpy"] is None
