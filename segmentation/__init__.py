"""Segment images by graph and colour clustering: arrays in, label arrays out.

Names are loaded when they are first used, so that ``import segmentation`` is cheap. The methods are
called like their modules: ``segmentation.spectral.spectral``, ``segmentation.ward.ward``,
``segmentation.kmeans.kmeans``.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segmentation.assigners import assign_cluster_qr, assign_discretize, assign_kmeans
    from segmentation.contours import boundary_mask, render_contours
    from segmentation.errors import ImageError, ParameterError, SegmentationError, StoreError
    from segmentation.graphs import affinity_graph, grid_connectivity, pixel_graph
    from segmentation.hierarchy import RegionTree, region_tree
    from segmentation.labels import merge_small_regions, relabel_sequential, same_partition, upscale_labels
    from segmentation.multilevel import multilevel_cut
    from segmentation.params import Hierarchy, KMeans, Recipe, Spectral, Ward, parse_recipe
    from segmentation.pipeline import DEFAULT_RECIPE, Segmentation, segment
    from segmentation.polygons import region_polygons
    from segmentation.prepare import rescale, smooth, smooth_and_rescale
    from segmentation.regions import region_table
    from segmentation.spectral import normalized_cut, spectral_embedding

__all__ = [
    "DEFAULT_RECIPE",
    "Hierarchy",
    "ImageError",
    "KMeans",
    "ParameterError",
    "Recipe",
    "RegionTree",
    "Segmentation",
    "SegmentationError",
    "Spectral",
    "StoreError",
    "Ward",
    "affinity_graph",
    "assign_cluster_qr",
    "assign_discretize",
    "assign_kmeans",
    "boundary_mask",
    "grid_connectivity",
    "merge_small_regions",
    "multilevel_cut",
    "normalized_cut",
    "parse_recipe",
    "pixel_graph",
    "region_polygons",
    "region_table",
    "region_tree",
    "relabel_sequential",
    "render_contours",
    "rescale",
    "same_partition",
    "segment",
    "smooth",
    "smooth_and_rescale",
    "spectral_embedding",
    "upscale_labels",
]

_MODULES = {
    "assigners": ("assign_cluster_qr", "assign_discretize", "assign_kmeans"),
    "contours": ("boundary_mask", "render_contours"),
    "errors": ("ImageError", "ParameterError", "SegmentationError", "StoreError"),
    "graphs": ("affinity_graph", "grid_connectivity", "pixel_graph"),
    "hierarchy": ("RegionTree", "region_tree"),
    "labels": ("merge_small_regions", "relabel_sequential", "same_partition", "upscale_labels"),
    "multilevel": ("multilevel_cut",),
    "params": ("Hierarchy", "KMeans", "Recipe", "Spectral", "Ward", "parse_recipe"),
    "pipeline": ("DEFAULT_RECIPE", "Segmentation", "segment"),
    "polygons": ("region_polygons",),
    "prepare": ("rescale", "smooth", "smooth_and_rescale"),
    "regions": ("region_table",),
    "spectral": ("normalized_cut", "spectral_embedding"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load an exported name from its module (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the exported names, loaded or not."""
    return sorted({*globals(), *__all__})
