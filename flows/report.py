"""How a run ended, in numbers: from the records, never from the absence of errors."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from segmentation.planning import Record, State

#: How many rejected or failed images a summary names; the others are in the index.
_NAMED = 10


@dataclass
class RunReport:
    """What a run found and did. `run` is "" if there was nothing to do. An image counts once for each label."""

    source: str
    output: str
    labels: list[str]
    run: str = ""
    listed: int = 0
    planned: dict[str, int] = field(default_factory=dict)
    computed: int = 0
    states: dict[str, int] = field(default_factory=lambda: dict.fromkeys(State, 0))
    seconds: float = 0.0
    step_seconds: dict[str, float] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)
    repaired: int = 0  # damaged results of other labels that were computed again
    passed_over: dict[str, dict[str, int]] = field(default_factory=dict)  # what is no image, as `PassedOver.as_dict`
    hopeless: list[dict[str, str]] = field(default_factory=list)  # damaged, and not to be computed again

    @property
    def label(self) -> str:
        """The label, or all of them."""
        return ", ".join(self.labels)

    @property
    def unit(self) -> str:
        """What is counted: images, or label maps if every image has several."""
        return "image" if len(self.labels) == 1 else "label map"

    @property
    def exit_code(self) -> int:
        """0 if every listed image is segmented, 1 if some are rejected or failed, or damage stays."""
        return 0 if self.states[State.SEGMENTED] == self.listed and not self.hopeless else 1

    def count(self, records: Iterable[Record]) -> None:
        """Take in how images ended."""
        for record in records:
            self.states[record.state] += 1
            if record.state is not State.SEGMENTED and len(self.problems) < _NAMED:
                self.problems.append(
                    {"source": record.ref.display_name, "state": record.state.value, "reason": record.reason}
                )

    def count_computed(self, records: Iterable[Record]) -> None:
        """Take in the records of a batch that was computed in this run."""
        for record in records:
            self.count([record])
            if record.run != self.run:
                continue  # only touched: its record is that of an earlier run
            self.computed += 1
            for step, seconds in record.seconds.items():
                self.step_seconds[step] = self.step_seconds.get(step, 0.0) + seconds

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        values = asdict(self)
        values["states"] = {State(state).value: count for state, count in self.states.items()}
        return {**values, "label": self.label, "exit_code": self.exit_code}
