"""The manifest: what a plugin says of itself, as one line among whatever else it prints."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import ConfigurationError
from supervisor.manifest import Manifest, find_manifest

MANIFESTS = st.builds(
    Manifest,
    id=st.none() | st.text(),
    version=st.text(),
    interfaces=st.lists(st.text(), max_size=3).map(tuple),
    protocols=st.lists(st.integers(0, 2**31), max_size=3).map(tuple),
)
NOISE = st.binary(max_size=50).filter(lambda noise: b"supervisor_manifest" not in noise)


@given(MANIFESTS, NOISE, NOISE)
def test_it_is_found_between_whatever_else_was_printed(manifest: Manifest, before: bytes, after: bytes) -> None:
    """One line, however odd its texts are."""
    line = manifest.to_json().encode()

    assert b"\n" not in line
    assert find_manifest(before + b"\n" + line + b"\n" + after) == manifest


@given(NOISE)
def test_there_is_none_in_noise(noise: bytes) -> None:
    """A program that does not know the question has not answered it."""
    assert find_manifest(noise) is None


@given(st.binary(max_size=100))
def test_what_begins_like_one_is_one_or_an_error(rest: bytes) -> None:
    """And no other error."""
    with contextlib.suppress(ConfigurationError):
        find_manifest(b'{"supervisor_manifest":' + rest)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"supervisor_manifest": 2}, "its format is 2, and this host reads 1"),
        ({"id": 5}, "id is 5"),
        ({"version": None}, "version is None"),
        ({"interfaces": "kv"}, "interfaces is 'kv'"),
        ({"interfaces": ["kv", 1]}, "interfaces is ['kv', 1]"),
        ({"protocols": [True]}, "protocols is [True]"),
        ({"protocols": ...}, "'protocols' is missing"),
    ],
)
def test_what_is_wrong_with_it_is_said(change: dict[str, Any], said: str) -> None:
    """The line is quoted, since somebody has to mend it."""
    told = {key: value for key, value in (json.loads(Manifest().to_json()) | change).items() if value is not ...}

    with pytest.raises(ConfigurationError, match=r"manifest '\{") as caught:
        find_manifest(json.dumps(told, separators=(",", ":")).encode())
    assert said in str(caught.value)
