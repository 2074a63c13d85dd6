"""The production flow: segment every image of a folder that has no current result yet."""

from itertools import islice
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.states import Completed

from flows.archive import segment_images
from flows.artifacts import shown_in_ui
from flows.fields import (
    DEFAULT_RECIPE,
    LabelName,
    Masks,
    Output,
    RecipeValue,
    Regions,
    Source,
    Which,
    check_full_paths,
)
from flows.interrupts import listen
from flows.progress import observer
from flows.report import RunReport
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.io.places import is_url
from segmentation.io.runs import run_names
from segmentation.io.sources import ALL, IMAGE_SUFFIXES, Selection, list_images
from segmentation.io.sources.passed_over import PassedOver, describe_passed_over
from segmentation.io.storage import open_storage
from segmentation.planning import State, display

DEFAULT_SETTINGS = Settings()


@flow(name="segment-archive", persist_result=False)
def segment_archive(
    source: Source,
    output: Output,
    recipe: RecipeValue = DEFAULT_RECIPE,
    label: LabelName = "",
    mask: Masks = "",
    regions: Regions = (),
    selection: Which = ALL,
    settings: Settings = DEFAULT_SETTINGS,
) -> Any:
    """Segment every image of `source` whose key has no record in `output`.

    Parameters
    ----------
    source : str
        A folder of images, searched whole, one image, an archive, a list, or the URL of one of them.
    output : str
        The store: a folder, made if absent, or ``s3://bucket/prefix``.
    recipe : Recipe
        Everything that changes the labels.
    label : str
        Name of the label maps in the store; the method's name if empty.
    mask : str
        A folder of masks named like the images, or nothing.
    regions : tuple of int
        Several numbers of regions: each gets label maps of its own, LABEL-NUMBER.
    selection : Selection
        Which images of `source` are meant, and if every page or frame is one.
    settings : Settings
        Where and how the run executes.

    Returns
    -------
    Completed
        With the `RunReport`; its name says if images were rejected or failed.

    Raises
    ------
    ParameterError
        Wrong parameters, or no images, unless a store is only to be repaired; nothing was written.
    """
    listen()
    check_full_paths(source=source, output=output, mask=mask)
    observer().phase("listing images")
    place = source if is_url(source) else Path(source).absolute()
    masks = Path(mask).absolute() if mask else None
    passed_over = PassedOver()
    listed = list_images(place, masks, skip=_below(output), selection=selection, passed_over=passed_over)
    refs = list(islice(listed, settings.limit or None))
    if not refs and not (settings.repair and run_names(open_storage(output))):
        raise ParameterError(_no_images(source, selection, describe_passed_over(passed_over.as_dict())))
    with shown_in_ui():
        return final_state(segment_images(refs, source, output, recipe, label, settings, regions, passed_over))


def _no_images(source: str, selection: Selection, passed_over: str) -> str:
    patterns = ", and that the patterns given select" if selection.include or selection.exclude else ""
    found = f"; there are {passed_over}" if passed_over else ""
    names = " ".join(sorted(IMAGE_SUFFIXES))
    return f"SOURCE: no images in {display(source)}; looked for names that end in {names}{patterns}{found}"


def _below(output: str) -> Path | None:
    """Return the folder that holds results and is not searched for images; a bucket is none."""
    return None if is_url(output) else Path(output).absolute()


def final_state(report: RunReport) -> Any:
    """Make the state that the Prefect UI shows, from the counts."""
    refused = report.states[State.REJECTED] + report.states[State.FAILED]
    segmented = report.states[State.SEGMENTED]
    if not refused:
        return Completed(message=f"{segmented} {report.unit}s segmented, {report.computed} of them now", data=report)
    return Completed(
        name="Completed with rejections",
        message=f"{segmented} {report.unit}s segmented, {refused} refused",
        data=report,
    )
