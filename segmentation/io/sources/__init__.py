"""Sources: which images there are, and the names they go by."""

from segmentation.io.sources.listing import list_images
from segmentation.io.sources.names import ALL, IMAGE_SUFFIXES, Selection, image_id

__all__ = ["ALL", "IMAGE_SUFFIXES", "Selection", "image_id", "list_images"]
