"""Figures as bars: a panel for each column of a table, a bar for each system. Needs matplotlib."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from benchmarks.report import Column, Found

__all__ = ["draw"]

_ABREAST = 5
"""Panels in a row."""


def draw(title: str, columns: Sequence[Column], found: Found, target: Path) -> None:
    """Write a picture in the format that the name of `target` says."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ImportError:
        sys.exit("--plot needs matplotlib: pip install 'plugin-supervisor[bench]'")
    matplotlib.use("agg")  # no window, whatever the machine has
    rows = math.ceil(len(columns) / _ABREAST)
    abreast = min(len(columns), _ABREAST)
    figure = importlib.import_module("matplotlib.figure").Figure(
        figsize=(1.5 + 2.2 * abreast, 0.4 + rows * (0.5 + 0.25 * len(found))), layout="constrained"
    )
    systems = list(found)[::-1]
    colors = ["#c44e52" if "ours" in system else "#8c9bab" for system in systems]
    panels = figure.subplots(rows, abreast, sharey=True, squeeze=False).flat
    for panel, column in zip_longest(panels, columns):
        if column is None:
            panel.axis("off")
            continue
        values = [found[system].get(column.workload, {}).get(column.figure, 0.0) for system in systems]
        bars = panel.barh(systems, values, color=colors)
        panel.bar_label(bars, labels=[column.cell(found[system]) for system in systems], padding=2, fontsize=7)
        panel.set_title(column.title, fontsize=9)
        panel.margins(x=0.35)
        panel.tick_params(labelsize=8)
        panel.xaxis.set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(target, dpi=150)
