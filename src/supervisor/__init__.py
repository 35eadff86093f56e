"""An asyncio-native plugin supervisor that speaks hashicorp/go-plugin's wire protocol.

    async with Supervisor([PluginSpec(name="store", command=["python", "plugin.py"])]) as supervisor:
        kv = await supervisor.dispense("store", KvStub)

The names below are loaded when they are first used, so that a plugin which says `from supervisor.sdk import serve`
never loads the host's wing.
"""

from __future__ import annotations

import importlib
import os.path
from typing import TYPE_CHECKING, Any, Final

if os.path.exists(os.path.join(os.path.dirname(__file__), "supervisord.py")):  # noqa: PTH110, PTH118, PTH120  # pathlib costs start-up
    raise ImportError(
        "plugin-supervisor and supervisord (`supervisor` on the index) are installed into the same environment and share "
        "the import name `supervisor`; uninstall both, then install the one you mean"
    )

if TYPE_CHECKING:
    from supervisor.errors import (
        BrokerError,
        ChecksumError,
        ConfigurationError,
        ConnectionLostError,
        DeadlineExceededError,
        HandshakeError,
        LaunchError,
        MessageTooLargeError,
        PluginCrashedError,
        PluginDrainingError,
        PluginFailedError,
        PluginNotFoundError,
        PluginStoppedError,
        PluginUnavailableError,
        ReattachError,
        SupervisorError,
        TransportError,
        VersionMismatchError,
    )
    from supervisor.host.caller import Caller, current_caller
    from supervisor.host.discovery import discover
    from supervisor.host.output import Stdio
    from supervisor.host.plugin import Plugin
    from supervisor.host.supervisor import Supervisor
    from supervisor.interface import Interface
    from supervisor.levels import Level
    from supervisor.lifecycle import State
    from supervisor.manifest import Manifest
    from supervisor.outcome import ExitReport
    from supervisor.policy import Backoff, Restart, RestartIntensity, RestartPolicy, Strategy
    from supervisor.reattach import ReattachToken
    from supervisor.records import LogRecord
    from supervisor.services.byte_streams import ByteReader, ByteSink, ByteSource, ByteWriter
    from supervisor.spec import Discovery, HealthProbe, PluginSpec, StopPolicy
    from supervisor.terms import Limits

_HOME_OF: Final = {
    "Backoff": "supervisor.policy",
    "BrokerError": "supervisor.errors",
    "ByteReader": "supervisor.services.byte_streams",
    "ByteSink": "supervisor.services.byte_streams",
    "ByteSource": "supervisor.services.byte_streams",
    "ByteWriter": "supervisor.services.byte_streams",
    "Caller": "supervisor.host.caller",
    "ChecksumError": "supervisor.errors",
    "ConfigurationError": "supervisor.errors",
    "ConnectionLostError": "supervisor.errors",
    "DeadlineExceededError": "supervisor.errors",
    "Discovery": "supervisor.spec",
    "ExitReport": "supervisor.outcome",
    "HandshakeError": "supervisor.errors",
    "HealthProbe": "supervisor.spec",
    "Interface": "supervisor.interface",
    "LaunchError": "supervisor.errors",
    "Level": "supervisor.levels",
    "Limits": "supervisor.terms",
    "LogRecord": "supervisor.records",
    "Manifest": "supervisor.manifest",
    "MessageTooLargeError": "supervisor.errors",
    "Plugin": "supervisor.host.plugin",
    "PluginCrashedError": "supervisor.errors",
    "PluginDrainingError": "supervisor.errors",
    "PluginFailedError": "supervisor.errors",
    "PluginNotFoundError": "supervisor.errors",
    "PluginSpec": "supervisor.spec",
    "PluginStoppedError": "supervisor.errors",
    "PluginUnavailableError": "supervisor.errors",
    "ReattachError": "supervisor.errors",
    "ReattachToken": "supervisor.reattach",
    "Restart": "supervisor.policy",
    "RestartIntensity": "supervisor.policy",
    "RestartPolicy": "supervisor.policy",
    "State": "supervisor.lifecycle",
    "Stdio": "supervisor.host.output",
    "StopPolicy": "supervisor.spec",
    "Strategy": "supervisor.policy",
    "Supervisor": "supervisor.host.supervisor",
    "SupervisorError": "supervisor.errors",
    "TransportError": "supervisor.errors",
    "VersionMismatchError": "supervisor.errors",
    "current_caller": "supervisor.host.caller",
    "discover": "supervisor.host.discovery",
}

__all__ = [
    "Backoff",
    "BrokerError",
    "ByteReader",
    "ByteSink",
    "ByteSource",
    "ByteWriter",
    "Caller",
    "ChecksumError",
    "ConfigurationError",
    "ConnectionLostError",
    "DeadlineExceededError",
    "Discovery",
    "ExitReport",
    "HandshakeError",
    "HealthProbe",
    "Interface",
    "LaunchError",
    "Level",
    "Limits",
    "LogRecord",
    "Manifest",
    "MessageTooLargeError",
    "Plugin",
    "PluginCrashedError",
    "PluginDrainingError",
    "PluginFailedError",
    "PluginNotFoundError",
    "PluginSpec",
    "PluginStoppedError",
    "PluginUnavailableError",
    "ReattachError",
    "ReattachToken",
    "Restart",
    "RestartIntensity",
    "RestartPolicy",
    "State",
    "Stdio",
    "StopPolicy",
    "Strategy",
    "Supervisor",
    "SupervisorError",
    "TransportError",
    "VersionMismatchError",
    "current_caller",
    "discover",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
