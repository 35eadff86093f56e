"""Figures as bars: a panel for each column of a table, a bar for each system. Needs matplotlib."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import Column, Found

__all__ = ["draw"]


def draw(title: str, columns: Sequence[Column], found: Found, target: Path) -> None:
    """Write a picture in the format that the name of `target` says."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install 'plugin-supervisor[bench]'")
    matplotlib.use("agg")  # no window, whatever the machine has
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(3 + 2.2 * len(columns), 1.2 + 0.32 * len(found)), layout="constrained"
    )
    systems = list(found)[::-1]
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for panel, column in zip(panels, columns, strict=True):
        values = [found[system].get(column.workload, {}).get(column.figure, 0.0) for system in systems]
        bars = panel.barh(systems, values, color=["#c44e52" if "ours" in system else "#8c9bab" for system in systems])
        panel.bar_label(bars, labels=[column.cell(found[system]) for system in systems], padding=2, fontsize=7)
        panel.set_title(column.title, fontsize=9)
        panel.margins(x=0.35)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(target, dpi=150)
