"""The flow for one image: the same six tasks, each visible, over a batch of one."""

from pathlib import Path
from typing import Any

from prefect import flow

from flows.archive import segment_images
from flows.artifacts import shown_in_ui
from flows.fields import DEFAULT_RECIPE, ImageFile, LabelName, Masks, Output, RecipeValue, Regions, check_full_paths
from flows.interrupts import listen
from flows.segment_archive import final_state
from flows.settings import Settings
from segmentation.errors import ParameterError
from segmentation.io.sources import list_images
from segmentation.planning import display

ONE_WORKER = Settings(workers=1)


@flow(name="segment-image", persist_result=False)
def segment_image(
    image: ImageFile,
    output: Output,
    recipe: RecipeValue = DEFAULT_RECIPE,
    label: LabelName = "",
    mask: Masks = "",
    regions: Regions = (),
    settings: Settings = ONE_WORKER,
) -> Any:
    """Segment one image file into the store `output`; see `flows.segment_archive` for the parameters.

    Raises
    ------
    ParameterError
        `image` is not a file, or a parameter is wrong; nothing was written.
    """
    listen()
    check_full_paths(image=image, output=output, mask=mask)
    path = Path(image)
    if not path.is_file():
        raise ParameterError(f"image: {display(image)} is not a file; for a folder use segment_archive")
    refs = list(list_images(path.absolute(), Path(mask).absolute() if mask else None))
    with shown_in_ui():
        return final_state(segment_images(refs, image, output, recipe, label, settings, regions))
