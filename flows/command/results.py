"""`regionflow status`, `verify`, `gallery` and `export`: what looks at results, or makes something of them."""

import sys
from typing import Annotated, Literal

from cyclopts import Parameter

from flows.command.arguments import check_label_exists, opened
from flows.exit_codes import OK, SOME_REFUSED


def status(output: str, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Say what OUTPUT holds: counts, the last runs, what was refused and why.

    Parameters
    ----------
    output
        The store.
    json
        Print it as JSON.
    """
    from flows.console import print_json, print_status
    from segmentation.io.summary import summarise

    summary = summarise(opened(output))
    if json:
        print_json(summary)
    else:
        print_status(summary)
    return OK


def verify(output: str, /, *, json: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Read everything in OUTPUT again and say what is not as recorded; exit code 1 if anything is not.

    Mend it with: regionflow run SOURCE OUTPUT --repair.

    Parameters
    ----------
    output
        The store.
    json
        Print the faults as JSON.
    """
    from flows.console import print_faults, print_json
    from segmentation.io.verify import examine

    found = examine(opened(output))
    if json:
        lists = {"faults": found.faults, "notes": found.notes}
        print_json(
            {"checked": found.checked, **{name: [vars(each) for each in items] for name, items in lists.items()}}
        )
    else:
        print_faults(found.checked, found.faults, found.notes)
    return SOME_REFUSED if found.faults else OK


def gallery(output: str, /) -> int:
    """Write the gallery of OUTPUT anew.

    Parameters
    ----------
    output
        The store.
    """
    from segmentation.io.gallery import write_gallery

    sys.stdout.write(f"{write_gallery(opened(output))}\n")
    return OK


def export(
    output: str,
    format: Literal["geojson", "coco", "csv", "png"],  # noqa: A002 - the word users know
    /,
    *,
    to: str = "",
    label: str = "",
) -> int:
    """Write the labels of OUTPUT for other programs.

    Parameters
    ----------
    output
        The store.
    format
        geojson: polygons for QuPath and GIS; coco: run-length masks; csv: region tables; png: label maps.
    to
        Where to, a folder or s3://bucket/prefix; OUTPUT/export/FORMAT by default.
    label
        Only the label maps of this name.
    """
    from segmentation.io.export import export_to
    from segmentation.io.summary import labelled_images

    store = opened(output)
    check_label_exists(store, label)
    folder = to or f"{output.rstrip('/')}/export/{format}"
    n_files = export_to(format, labelled_images(store, label), folder)
    sys.stdout.write(f"{n_files} files in {folder}\n")
    return OK
