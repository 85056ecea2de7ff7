"""``python -m benchmarks [--quick] [--only SECTION]``: see the package."""

import argparse
import sys
import time
import traceback
from pathlib import Path
from types import ModuleType

from rich.console import Console

from benchmarks import activity, daemons, growth, punctuality, report, rivals, safeguards, single, sweeps, transfer
from benchmarks.figures import Figure, Verdict
from benchmarks.lab import Lab, laboratory

SECTIONS: dict[str, ModuleType] = {
    module.__name__.rpartition(".")[2]: module
    for module in (sweeps, rivals, safeguards, growth, daemons, single, activity, transfer, punctuality)
}


def main() -> int:
    """0, or 1 when a goal was missed or something could not be measured."""
    options = parsed()
    console, begun = Console(width=None if sys.stdout.isatty() else 140), time.monotonic()
    chosen = options.only or list(SECTIONS)
    with console.status("Starting PostgreSQL") as status:

        def say(what: str) -> None:
            minutes, seconds = divmod(int(time.monotonic() - begun), 60)
            status.update(f"{minutes}:{seconds:02} {what}")
            if not console.is_terminal:
                console.print(f"{minutes}:{seconds:02} {what}", highlight=False)

        with laboratory(options.quick, say, options.directory) as lab:
            figures: list[Figure] = []
            for number, name in enumerate(chosen, start=1):
                status.update(f"{name}, {number} of {len(chosen)}")
                started = time.monotonic()
                found = measured(SECTIONS[name], lab, console)
                figures += found
                if not options.quick:
                    report.keep(found, lab, (time.monotonic() - started) / 60, [m.SECTION for m in SECTIONS.values()])
    if not options.quick:
        console.print(f"Written: {report.RESULTS.relative_to(Path.cwd())}")
    return int(any(figure.verdict in (Verdict.MISSED, Verdict.NOT_RUN) for figure in figures))


def measured(section: ModuleType, lab: Lab, console: Console) -> list[Figure]:
    """One section's figures, printed; one that breaks off says so in the table, and the others go on."""
    figures: list[Figure] = []
    try:
        for figure in section.run(lab):
            figures.append(figure)
    except Exception as error:
        traceback.print_exc()
        figures.append(Figure(section.SECTION, "broke off", "", None, note=f"{type(error).__name__}: {error}"))
    console.print(report.table(section.SECTION, figures))
    return figures


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures the engine beside its rivals.")
    parser.add_argument("--quick", action="store_true", help="small numbers, under two minutes; keeps no results")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(SECTIONS),
        help="one section (may be repeated); the others keep their results",
    )
    parser.add_argument("--directory", type=Path, help="where databases are made (25 GB; default: the system's)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
