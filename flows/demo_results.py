"""What the demonstration left in its folder, and the figures and sections that a page is made of."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from markupsafe import Markup

from flows.demo_cases import INPUTS, Case
from flows.figures import png_bytes
from segmentation.arrays import Bytes8, Image, Labels
from segmentation.io.files import write_atomically
from segmentation.io.images import decode
from segmentation.io.records import read_records
from segmentation.io.sources import image_id
from segmentation.io.store import read_labels
from segmentation.params import Recipe
from segmentation.planning import Record, State

STORE, PICTURES, ARCHIVE, FIGURES, PAGE = "cases", "pictures", "archive", "figures", "index.html"

Fact = tuple[str, str]


@dataclass(frozen=True)
class Figure:
    """A picture or a drawing under its title, with what was measured; or why there is none."""

    title: str
    alt: str = ""
    file: str = ""  # below the page's folder
    link: str = ""
    size: tuple[int, int] = (0, 0)  # width, height
    facts: tuple[Fact, ...] = ()
    drawing: Markup = field(default_factory=Markup)
    problem: str = ""


@dataclass(frozen=True)
class Section:
    """One reference case: where it comes from, what to look at, its figures."""

    anchor: str
    title: str
    origin: str
    text: tuple[str, ...]
    figures: tuple[Figure, ...]
    commands: tuple[str, ...] = ()
    parameters: str = ""
    facts: tuple[Fact, ...] = ()
    layout: str = "row"
    links: tuple[tuple[str, str], ...] = ()  # words, and a file below the page's folder


class Results:
    """What the demonstration left in its folder, and where its figures go."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.cases = read_records(output / STORE)
        self.archive = read_records(output / ARCHIVE)
        (output / FIGURES).mkdir(exist_ok=True)

    def record(self, case: Case) -> Record:
        """Return how a case ended."""
        return self.cases[image_id(case.file), case.label]

    def image(self, file: str) -> Image:
        """Decode an input as the tasks did."""
        return decode((self.output / INPUTS / file).read_bytes())

    def labels(self, case: Case) -> Labels:
        """Read the stored labels of a case."""
        return read_labels(self.output / STORE, image_id(case.file), case.label)

    def picture(self, name: str, picture: Bytes8, title: str, alt: str, facts: Iterable[Fact] = ()) -> Figure:
        """Write a picture for the page."""
        file = f"{FIGURES}/{name}.png"
        write_atomically(self.output / file, png_bytes(picture))
        return Figure(title, alt, file, size=(picture.shape[1], picture.shape[0]), facts=tuple(facts))

    def figure(
        self, case: Case, title: str, alt: str, draw: Callable[[Image, Labels], Bytes8], facts: Iterable[Fact] = ()
    ) -> Figure:
        """Draw the labels of a case; a case that was refused says so in the figure's place."""
        record = self.record(case)
        if record.state is not State.SEGMENTED:
            return Figure(title, problem=problem_of(record))
        picture = draw(self.image(case.file), self.labels(case))
        title = f"{title}, {record.seconds['cluster']:.2f}s"  # as scikit-learn's example has it
        return self.picture(case.label, picture, title, alt, [*facts, *record_facts(record)])


def record_facts(record: Record) -> list[Fact]:
    """Say what a record measured, in the words of the page."""
    facts = [("Regions", f"{record.n_regions}")]
    if "ncut" in record.scores:
        facts.append(("Ncut", f"{record.scores['ncut']:.4f}"))
    if "inertia" in record.scores:
        facts.append(("Inertia", f"{record.scores['inertia']:,.0f}"))
    if not record.ref.mask_path:  # within the mask there is nothing but noise to explain
        facts.append(("Variance explained", percent(record.scores["explained_variance"])))
    return facts


def problem_of(record: Record) -> str:
    """Say why there is nothing to draw."""
    return f"{record.state.value} at {record.step}: {record.reason}"


def common_parameters(recipe: Recipe, without: str = "") -> str:
    """List what a section's figures have in common."""
    method = recipe.method.model_dump(exclude={"method", without}, exclude_none=True)
    values = {"sigma": recipe.sigma, "scale": recipe.scale, **method, "seed": recipe.seed}
    words = (f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items())
    return ", ".join((recipe.method.method, *words))


def percent(share: float) -> str:
    """Write a share as the page has it."""
    return f"{100 * share:.1f} %"
