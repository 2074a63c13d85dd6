"""JPEG: every segment is walked, to the end mark."""

import re
import struct

from segmentation.errors import ImageError
from segmentation.io.formats.headers import FRAMES_OF_JPEG, NO_SEGMENT, jpeg_segment

#: A progressive picture has about ten; each costs a pass over all of its pixels, whatever it holds.
MAX_SCANS = 200
_START_OF_SCAN, _END = 0xDA, 0xD9
#: A marker within compressed data, other than a restart.
_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")


def check_jpeg(data: bytes) -> None:
    """Walk through all segments of a JPEG file up to its end mark.

    Raises
    ------
    ImageError
        The end mark is missing, there are two frame headers, or more than `MAX_SCANS` scans.
    """
    try:
        _walk(data)
    except (IndexError, struct.error) as error:
        raise ImageError(f"JPEG cut short: it ends at byte {len(data):,} without an end mark") from error


def _walk(data: bytes) -> None:
    at, frames, scans = 2, 0, 0
    while True:
        marker, at = jpeg_segment(data, at)
        if marker == _END:
            break
        if marker in NO_SEGMENT:
            continue
        frames += marker in FRAMES_OF_JPEG
        scans += marker == _START_OF_SCAN
        if frames > 1 or scans > MAX_SCANS:
            raise ImageError(f"JPEG with {frames} frame headers and {scans} scans; 1 and {MAX_SCANS} are allowed")
        at += struct.unpack_from(">H", data, at)[0]
        if marker == _START_OF_SCAN:
            found = _MARKER.search(data, at)
            if found is None:
                raise IndexError
            at = found.start()
    if not scans:
        raise ImageError("damaged JPEG: it holds no picture")
