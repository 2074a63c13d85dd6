"""Run benchmarks by name, or all: results as JSON and Markdown in benchmarks/results."""

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import (
    bsds500,
    chain,
    eigenvectors,
    growth,
    hierarchy,
    kmeans,
    labels,
    memory,
    ncut,
    orchestration,
    pictures,
    reference_cases,
    scale,
    ward,
)
from benchmarks.measure import markdown, versions

BENCHMARKS = {
    "reference_cases": reference_cases,
    "ncut": ncut,
    "eigenvectors": eigenvectors,
    "ward": ward,
    "kmeans": kmeans,
    "hierarchy": hierarchy,
    "bsds500": bsds500,
    "chain": chain,
    "growth": growth,
    "pictures": pictures,
    "labels": labels,
    "memory": memory,
    "orchestration": orchestration,
    "scale": scale,
}


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all but scale (an hour) by default")
    parser.add_argument("--quick", action="store_true", help="small inputs, one repeat: does it run?")
    parser.add_argument("--results", type=Path, default=Path(__file__).with_name("results"))
    arguments = parser.parse_args()
    arguments.results.mkdir(parents=True, exist_ok=True)
    for name in arguments.names or [name for name in BENCHMARKS if name != "scale"]:
        module = BENCHMARKS[name]
        rows = module.run(quick=arguments.quick)
        summary = str(module.__doc__).strip().splitlines()[0]
        day = datetime.now(UTC).date().isoformat()
        (arguments.results / f"{name}.json").write_text(
            json.dumps({"name": name, "date": day, "versions": versions(), "rows": rows}, indent=2) + "\n"
        )
        text = f"# {name}\n\n{summary}\n\n{markdown(rows)}\n\n{day}; " + ", ".join(
            f"{package} {number}" for package, number in versions().items()
        )
        (arguments.results / f"{name}.md").write_text(text + "\n")
        if hasattr(module, "figure"):
            module.figure(rows).savefig(arguments.results / f"{name}.svg")
        print(text, flush=True)


if __name__ == "__main__":
    main()
