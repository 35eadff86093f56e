"""The file's format as JSON Schema."""

from __future__ import annotations

from typing import Any

import msgspec

from supervisor.config.tables import ConfigFile

__all__ = ["config_schema"]


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the file, for editors; `python -m supervisor schema` prints it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Plugin supervisor",
        **msgspec.json.schema(ConfigFile),
    }
    # Through JSON and back: the defaults are Python's tuples and enumerations until then.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(schema))
    return plain
