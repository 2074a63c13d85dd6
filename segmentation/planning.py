"""What is left to do, in which batches, with how much memory: decisions only, nothing is read or written."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import groupby

from segmentation.errors import ParameterError
from segmentation.params import KMeans, Recipe, RegionCount, Spectral, Ward

#: Counts up when the same recipe would give other labels than before: everything is then computed anew.
RESULT_VERSION = 7
#: An image whose trouble may pass (a dead worker, a failing disk) is tried in this many runs.
MAX_ATTEMPTS = 3
#: Step of an image that a setting refused, its memory or its pixels: looked at again in every run, which may have more.
PLAN_STEP = "plan"
#: Pixels of an image, at most, unless a setting says otherwise.
MAX_PIXELS = 64_000_000


class State(StrEnum):
    """How a listed image ends: exactly one of these."""

    SEGMENTED = "segmented"  # labels are stored
    REJECTED = "rejected"  # the image's fault: it cannot be segmented as asked
    FAILED = "failed"  # not the image's fault, as far as we know: it is tried again


@dataclass(frozen=True)
class Header:
    """What an image's first bytes tell."""

    height: int
    width: int
    channels: int
    itemsize: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    @property
    def shape_text(self) -> str:
        """Rows and columns, for messages."""
        return f"{self.height:,}×{self.width:,}"


@dataclass(frozen=True)
class Part:
    """Where in an archive the bytes of one member are, and what they must come to."""

    archive: str  # "zip", or how a tar is packed: "tar", "gz", "bz2", "xz", "zst"
    offset: int  # of a zip's local header; of the bytes themselves in what a tar unpacks to
    packed: int  # bytes there
    size: int  # bytes they unpack to
    crc: int = 0  # of a zip's member, of what it unpacks to
    archive_size: int = 0  # of the whole archive when it was listed


@dataclass(frozen=True)
class ImageRef:
    """One listed image: where it is and how to recognise that it changed. Names are data, in any bytes."""

    name: str  # path below the source, "/" between folders, undecodable bytes as lone surrogates; "#3" is a frame
    path: str  # a file, a URL, or the folder of an OME-Zarr image
    id: str
    size: int = 0
    mtime_ns: int = 0
    mask_path: str = ""  # "": no mask
    mask_size: int = 0
    mask_mtime_ns: int = 0
    problem: str = ""  # why it cannot be opened at all (a link, a folder, a missing mask)
    part: Part | None = None  # None: the whole file
    frame: int = 0  # page or frame, from 1; 0 is the only one
    is_zarr: bool = False

    @property
    def raw_name(self) -> bytes:
        """The name as the file system has it."""
        return self.name.encode("utf-8", "surrogateescape")

    @property
    def display_name(self) -> str:
        """The name as text that any file, terminal or page can hold: one line, no control characters."""
        return display(self.name)


@dataclass(frozen=True)
class Output:
    """A file of the store and what it must hold."""

    path: str  # below the store, "/" between folders
    size: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """How one image ended under one label: the only thing that says an image is done."""

    ref: ImageRef
    label: str
    state: State
    key: str = ""
    digest: str = ""
    mask_digest: str = ""
    step: str = ""
    reason: str = ""
    height: int = 0
    width: int = 0
    channels: int = 0
    n_regions: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    attempts: int = 1
    run: str = ""
    batch: str = ""
    contour: str = ""  # the picture, below the store
    outputs: tuple[Output, ...] = ()


def has_tree(record: Record) -> bool:
    """Tell whether a record's labels were cut from a tree, which then stands beside them."""
    return record.state is State.SEGMENTED and "base_regions" in record.scores


def display(text: str) -> str:
    r"""Escape what a terminal, a log or a page would take for more than a character.

    Examples
    --------
    >>> print(display("new\nline\x1b[31m.png"))
    new\nline\x1b[31m.png
    """
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def label_key(digest: str, mask_digest: str, recipe: Recipe) -> str:
    """Return the SHA-256 over all that the labels depend on: source bytes, mask, recipe, result version.

    Examples
    --------
    >>> label_key("ab", "", Recipe()) == label_key("ab", "", Recipe(seed=42))
    True
    >>> label_key("ab", "", Recipe()) == label_key("ab", "", Recipe(seed=43))
    False
    """
    text = "\n".join((f"regionflow result {RESULT_VERSION}", digest, mask_digest, recipe.canonical()))
    return hashlib.sha256(text.encode()).hexdigest()


def label_for(label: str, n_regions: RegionCount) -> str:
    """Name the label maps of one of several numbers of regions; 0 is the only one.

    Examples
    --------
    >>> label_for("ward", 8), label_for("ward", "auto"), label_for("ward", 0)
    ('ward-8', 'ward-auto', 'ward')
    """
    return f"{label}-{n_regions}" if n_regions else label


def recipe_of(record: Record, asked: Recipe) -> Recipe | None:
    """Tell how a result was made: as its run was asked to, or that with the number of regions its label ends in.

    Returns
    -------
    recipe : Recipe or None
        None if neither gives the recorded key.
    """
    number = record.label.rpartition("-")[2]
    candidates = [asked]
    with suppress(ParameterError):  # its method has no other numbers
        if number == "auto" or (number.isdecimal() and int(number)):
            candidates.append(asked.with_regions("auto" if number == "auto" else int(number)))
    return next((each for each in candidates if label_key(record.digest, record.mask_digest, each) == record.key), None)


@dataclass(frozen=True)
class Work:
    """An image to compute in one way, and what is known of it."""

    ref: ImageRef
    previous: Record | None = None  # its last record under this label
    header: Header | None = None
    regions: RegionCount = 0  # their number in a run that asks for several; 0 is what the recipe says
    stored: "StoredTree | None" = None  # a tree to cut, instead of the image


@dataclass(frozen=True)
class StoredTree:
    """The tree of an image that a store holds, and how it was grown."""

    label: str
    digest: str
    mask_digest: str
    recipe: Recipe


def decide(
    ref: ImageRef, previous: Record | None, recipe: Recipe, *, retry_failed: bool = False, verify_sources: bool = False
) -> str:
    """Say why an image must be looked at: "new", "changed", "parameters", "failed", "verify"; "" if it need not.

    Size and modification time tell an unchanged file; the bytes themselves are hashed when the image is
    loaded, so a file that was only touched is recognised there and not computed again.
    """
    if previous is None:
        return "new"
    if not same_stamp(ref, previous.ref) or bool(ref.problem) != bool(previous.ref.problem):
        return "changed"
    if previous.key != label_key(previous.digest, previous.mask_digest, recipe):
        return "parameters"
    if previous.step == PLAN_STEP:
        return "failed"
    if previous.state is not State.SEGMENTED:
        again = previous.state is State.FAILED and previous.attempts < MAX_ATTEMPTS
        return "failed" if again or retry_failed else ""
    return "verify" if verify_sources else ""


def same_stamp(ref: ImageRef, other: ImageRef) -> bool:
    """Tell whether size and modification time, of image and mask, are the same."""
    return _stamp(ref) == _stamp(other)


def _stamp(ref: ImageRef) -> tuple[object, ...]:
    return (ref.size, ref.mtime_ns, bool(ref.mask_path), ref.mask_size, ref.mask_mtime_ns)


#: A batch ends when its images have this many pixels: some seconds of work for any method.
_BATCH_PIXELS = 10_000_000
#: Peak bytes per working pixel while an image is clustered; measured by benchmarks/memory.py, rounded up.
_CLUSTER_BYTES_PER_PIXEL = {"spectral": 350, "ward": 450, "kmeans": 120, "hierarchy": 160}
#: Of a solver for the eigenvectors of all pixels.
_SOLVER_BYTES_PER_PIXEL = 1200
#: Edges, and the arrays they are made of, per pixel and square pixel of the radius of affinities.
_RADIUS_BYTES_PER_PIXEL = 80
#: Eigenvectors, and the k-means distances to them, that spectral clustering holds per pixel and region.
_SPECTRAL_BYTES_PER_PIXEL_AND_REGION = 70
#: Regions that "auto" is taken for while nothing is known of the image; photographs on a coarse grid have fewer.
_SUGGESTED_AT_MOST = 50
#: Peak bytes per original pixel, beside a copy of the picture, while it is decoded, smoothed, refined and drawn.
_PICTURE_BYTES_PER_PIXEL = 30
#: Bytes per original pixel that an image keeps on its way through the steps: pixels, labels, picture.
_KEPT_BYTES_PER_PIXEL = 12
#: Of that, labels and picture.
_LABELS_BYTES_PER_PIXEL = 6


@dataclass(frozen=True)
class Cost:
    """Memory of one image, in bytes: what it keeps between the steps, and its peak within one."""

    kept: int
    peak: int


def estimate_cost(header: Header, recipe: Recipe) -> Cost:
    """Estimate the memory of an image from its header alone, before any pixel is decoded.

    Examples
    --------
    >>> cost = estimate_cost(Header(4000, 3000, 3, 1), Recipe(scale=0.2))
    >>> cost.kept < cost.peak < 4 * 2**30
    True
    """
    raw = header.pixels * header.channels * header.itemsize
    working = max(1, round(header.pixels * recipe.scale**2))
    per_pixel = _CLUSTER_BYTES_PER_PIXEL[recipe.method.method]
    if isinstance(recipe.method, (Spectral, Ward)) and recipe.method.n_regions == "auto":
        per_pixel = max(per_pixel, _CLUSTER_BYTES_PER_PIXEL["hierarchy"])
    if isinstance(recipe.method, Spectral) and recipe.method.radius > 1:
        per_pixel += round(_RADIUS_BYTES_PER_PIXEL * recipe.method.radius**2)
    if isinstance(recipe.method, Spectral) and recipe.method.eigen_solver != "multilevel":
        per_pixel = max(per_pixel, _SOLVER_BYTES_PER_PIXEL)
        n_regions = _SUGGESTED_AT_MOST if recipe.method.n_regions == "auto" else recipe.method.n_regions
        n_regions += recipe.method.extra_regions
        per_pixel += _SPECTRAL_BYTES_PER_PIXEL_AND_REGION * n_regions
    elif isinstance(recipe.method, KMeans):
        per_pixel += 8 * header.channels
    graph = 100 * working
    kept = raw + _KEPT_BYTES_PER_PIXEL * header.pixels + 8 * header.channels * working + graph
    return Cost(kept, kept + max(per_pixel * working, raw + _PICTURE_BYTES_PER_PIXEL * header.pixels))


@dataclass(frozen=True)
class Batch:
    """Images that travel through the steps together."""

    number: str
    works: tuple[Work, ...]
    whole_worker: bool = False  # one large image: a worker takes nothing beside it

    def n_images(self) -> int:
        """Count the images; one of several numbers of regions has a work for each."""
        return len({work.ref.id for work in self.works})

    def halves(self) -> tuple["Batch", "Batch"]:
        """Split in two between images, to find the one that a worker does not survive.

        What is computed of one image stays together: two workers that write to one image would lose each other's.
        """
        starts = [at for at, work in enumerate(self.works) if at and work.ref != self.works[at - 1].ref]
        middle = starts[(len(starts) - 1) // 2]
        return (
            replace(self, number=f"{self.number}a", works=self.works[:middle]),
            replace(self, number=f"{self.number}b", works=self.works[middle:]),
        )

    def images(self) -> list["Batch"]:
        """Split into single images."""
        groups = _by_image(self.works)
        return [replace(self, number=f"{self.number}-{n}", works=tuple(group)) for n, group in enumerate(groups)]


def make_batches(
    works: Iterable[Work], recipe: Recipe, *, limit_bytes: int, worker_bytes: int, max_images: int
) -> Iterator[Batch | tuple[Work, str]]:
    """Group images, in order, so that a batch's estimated memory stays under `limit_bytes`.

    Parameters
    ----------
    works : iterable of Work
        Images with their headers; without a header (it could not be read) the loading step says why.
    limit_bytes : int
        Memory that one batch may take on a worker that has others beside it.
    worker_bytes : int
        Memory that an image may take which is alone on a worker.
    max_images : int
        Images in a batch at most.

    Yields
    ------
    Batch, or (Work, reason) for an image that fits on no worker.

    Notes
    -----
    A batch holds what all its images keep plus the peak of the largest; images are computed one at a time. It
    ends after about ten megapixels: enough work that orchestration does not count, little enough to lose. What is
    computed of one image stays together: it is read and merged once, and no two workers write to it. An image above
    `limit_bytes` is a batch of its own that wants a whole worker.
    """
    pending = _Pending()
    number = 0
    for image in _by_image(works):
        cost = _cost_of(image, recipe)
        if cost.peak > worker_bytes:
            yield from ((work, _too_large(cost, worker_bytes)) for work in image)
            continue
        full = len(pending.works) >= max_images or pending.pixels >= _BATCH_PIXELS
        if pending.works and (full or pending.peak_with(cost) > limit_bytes):
            yield pending.batch(number, limit_bytes)
            pending, number = _Pending(), number + 1
        pending.add(image, cost)
    if pending.works:
        yield pending.batch(number, limit_bytes)


@dataclass
class _Pending:
    """A batch that is being filled."""

    works: list[Work] = field(default_factory=list)
    kept: int = 0
    peak: int = 0  # of the largest image, beyond what it keeps
    pixels: int = 0

    def peak_with(self, cost: Cost) -> int:
        """Say what the batch would take with one more image in it."""
        return self.kept + cost.kept + max(self.peak, cost.peak - cost.kept)

    def add(self, image: Sequence[Work], cost: Cost) -> None:
        self.works.extend(image)
        self.kept, self.peak = self.kept + cost.kept, max(self.peak, cost.peak - cost.kept)
        self.pixels += image[0].header.pixels if image[0].header else 0

    def batch(self, number: int, limit_bytes: int) -> Batch:
        return Batch(f"{number:05d}", tuple(self.works), whole_worker=self.kept + self.peak > limit_bytes)


def _by_image(works: Iterable[Work]) -> Iterator[list[Work]]:
    """Put together what is computed of one image: works that follow each other."""
    for _, image in groupby(works, key=lambda work: work.ref):
        yield list(image)


def _cost_of(image: Sequence[Work], recipe: Recipe) -> Cost:
    """Estimate an image with all that is computed of it; labels and picture of each further work come on top."""
    header = image[0].header
    if header is None:
        return Cost(0, 0)
    cost = estimate_cost(header, recipe)
    more = (len(image) - 1) * _LABELS_BYTES_PER_PIXEL * header.pixels
    return Cost(cost.kept + more, cost.peak + more)


def _too_large(cost: Cost, worker_bytes: int) -> str:
    return (
        f"needs about {cost.peak / 2**20:,.0f} MiB with this recipe, an image may take "
        f"{worker_bytes / 2**20:,.0f} MiB; lower scale or n_regions, use fewer workers or give them more --memory"
    )


def batch_size(n_images: int, n_workers: int, *, largest: int = 512) -> int:
    """Choose how many images travel together: few enough that all workers stay busy to the end.

    Examples
    --------
    >>> batch_size(10, 2), batch_size(500, 2), batch_size(100_000, 8)
    (1, 62, 512)
    """
    return max(1, min(largest, n_images // (4 * n_workers)))


def count_reasons(reasons: Sequence[str]) -> dict[str, int]:
    """Count why images are looked at; "" counts as unchanged."""
    counts = dict.fromkeys(("new", "changed", "parameters", "failed", "damaged", "verify", "unchanged"), 0)
    for reason in reasons:
        counts[reason or "unchanged"] += 1
    return counts
