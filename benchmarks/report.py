"""What people and programs get to read: tables of figures, the machine's facts, JSON."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.figures import Results

__all__ = ["Column", "Found", "as_json", "facts", "facts_line", "read_load", "table", "write_cpu"]

_LIBRARIES = ("plugin-supervisor", "grpclib", "h2", "hpack", "betterproto", "grpcio", "protobuf", "uvloop", "structlog")

Found = Mapping[str, Mapping[str, Mapping[str, float]]]
"""Figures by system, by workload, by name."""


@dataclass(frozen=True, slots=True)
class Column:
    """One figure in a table.

    Attributes:
        title: its heading.
        workload: the workload whose figures it shows.
        figure: the name of the figure.
        write: how the figures become a cell; the figure without decimals by default.
    """

    title: str
    workload: str
    figure: str
    write: Callable[[Mapping[str, float]], str] | None = None

    def cell(self, found: Mapping[str, Mapping[str, float]]) -> str:
        """Return the cell of a system whose figures, by workload, are `found`; a dash when it has none."""
        figures = found.get(self.workload, {})
        if self.figure not in figures:
            return "-"
        return f"{figures[self.figure]:,.0f}" if self.write is None else self.write(figures)

    def as_ratio(self) -> Column:
        """Return the same column for ratios."""
        return replace(self, write=lambda ratios: f"{ratios[self.figure]:.2f}")


def write_cpu(figures: Mapping[str, float]) -> str:
    """Return CPU microseconds of the client and of the server, with a decimal where they are small."""
    client, server = figures["client_cpu_us"], figures["server_cpu_us"]
    digits = 1 if max(client, server) < 10 else 0
    return f"{client:.{digits}f}+{server:.{digits}f}"


def facts() -> dict[str, Any]:
    """Return what was measured on: interpreter, system, processors, load, versions."""
    found: dict[str, Any] = {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processors": len(os.sched_getaffinity(0)),
        "load": read_load(),
        "versions": {},
    }
    for library in _LIBRARIES:
        try:
            found["versions"][library] = version(library)
        except PackageNotFoundError:
            found["versions"][library] = None
    return found


def read_load() -> float:
    """Return how many processes ran or wanted to, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def facts_line(found: Mapping[str, Any]) -> str:
    """Return the facts for people."""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items() if number)
    load = f"load {found['load']} before and {found['load_after']} after"
    where = f"{found['python']}, {found['system']}, {found['processors']} processors, {load}"
    return f"{where}\n{versions}"


def table(title: str, columns: Sequence[Column], found: Found) -> str:
    """Return a Markdown table, with a system to a row, that also reads well in a terminal."""
    rows = [[title, *(column.title for column in columns)]]
    for system, workloads in found.items():
        rows.append([system, *(column.cell(workloads) for column in columns)])
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = [_row(row, widths) for row in rows]
    lines.insert(1, "|".join(["", *(f"{'-' * (width + 1)}{':' if i else '-'}" for i, width in enumerate(widths)), ""]))
    return "\n".join(lines)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *rest = (
        f"{cell:{'>' if i else '<'}{width}}" for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "| " + " | ".join([first, *rest]) + " |"


def as_json(results: Results, references: Sequence[str], **about: Any) -> dict[str, Any]:
    """Return everything for programs: the facts, each round, medians, and ratios to the references."""
    return {
        **about,
        "medians": results.medians(),
        "ratios": {reference: results.ratios_to(reference) for reference in references},
        "rounds": results.rounds,
    }
