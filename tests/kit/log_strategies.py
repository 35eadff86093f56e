"""Hypothesis strategies for what a log record may carry."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import strategies as st

__all__ = ["log_fields"]

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(text, inner, max_size=5),
    max_leaves=20,
)

log_fields: Final = st.dictionaries(text, values, max_size=5)
"""Key/values that come through a log stream unchanged."""
