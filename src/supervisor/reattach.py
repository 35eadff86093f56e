"""Reattach tokens: what a host has to know to take over a plugin that another one started, or nobody did.

A token is no secret. Whoever can read it still has to be allowed to connect to the plugin's socket and to signal its
process. What it says is proven before it is believed: see `runners/attached.py`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Self, TypeVar

from supervisor.address import TcpAddress, UnixAddress, parse_address
from supervisor.errors import ConfigurationError, HandshakeError
from supervisor.quoting import quote_text

__all__ = ["ProcessIdentity", "ReattachToken"]

T = TypeVar("T")

_FORMAT: Final = 1

_HINT: Final = "give it as Plugin.reattach_token() or a plugin in debug mode wrote it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessIdentity:
    """One process among all that ever had its pid. What is empty or 0 is not known.

    Attributes:
        pid: its process id.
        started: clock ticks from boot to its start: the 22nd field of `/proc/PID/stat`.
        boot_id: which boot that was.
        lineage: the token in its environment by which it and its descendants are found.
        directory: its private directory, for sockets.
    """

    pid: int
    started: int = 0
    boot_id: str = ""
    lineage: str = ""
    directory: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReattachToken:
    """A running plugin, as one host hands it to another.

    Attributes:
        name: the plugin's name; the host that takes it over must have a specification of this name.
        process: its process.
        address: where it listens.
        version: the version of the application's protocol that it speaks; None when the token does not say.
        generation: which life of the plugin it is.
        survives_host: whether it lives on without a host; if not, it ends with the one that started it.
        test: whether somebody else ends it, a debugger say: a host that takes it over never signals it.
    """

    name: str
    process: ProcessIdentity
    address: UnixAddress | TcpAddress
    version: int | None = None
    generation: int = 1
    survives_host: bool = False
    test: bool = False

    # --- our own form ----------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return it as one line of JSON."""
        table = {
            "format": _FORMAT,
            "name": self.name,
            "process": asdict(self.process),
            "network": self.address.network,
            "address": str(self.address),
            "version": self.version,
            "generation": self.generation,
            "survives_host": self.survives_host,
            "test": self.test,
        }
        return json.dumps(table)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ConfigurationError: it is nothing of the kind, or of a later format.
        """
        table = _parse_table(text)
        if _take(table, "format", int) != _FORMAT:
            raise _refused(f"its format is {table['format']}, this library knows {_FORMAT}")
        process = _take(table, "process", dict)
        return cls(
            name=_take(table, "name", str),
            process=ProcessIdentity(
                pid=_take_pid(process, "pid"),
                started=_take(process, "started", int),
                boot_id=_take(process, "boot_id", str),
                lineage=_take(process, "lineage", str),
                directory=_take(process, "directory", str),
            ),
            address=_parse_address(_take(table, "network", str), _take(table, "address", str)),
            version=None if table.get("version") is None else _take(table, "version", int),
            generation=max(1, _take(table, "generation", int)),
            survives_host=_take(table, "survives_host", bool),
            test=_take(table, "test", bool),
        )

    # --- go-plugin's forms -----------------------------------------------------------------------------------------

    def to_go_plugin(self) -> str:
        """Return it as JSON in the shape of go-plugin's ReattachConfig, which knows less: no name, no identity."""
        return json.dumps(self._as_reattach_config())

    def to_terraform(self, source: str) -> str:
        """Return the value of `TF_REATTACH_PROVIDERS` that leads Terraform to it.

        Args:
            source: the provider's source address, as in `registry.terraform.io/hashicorp/null`.
        """
        return json.dumps({source: self._as_reattach_config()})

    @classmethod
    def from_go_plugin(cls, text: str, *, name: str) -> Self:
        """Read a ReattachConfig in JSON for the plugin `name`, as Terraform, Nomad and their SDKs write them.

        Raises:
            ConfigurationError: it is none, or not of a plugin that speaks gRPC.
        """
        return cls._from_reattach_config(_parse_table(text), name)

    @classmethod
    def from_terraform(cls, text: str, *, source: str, name: str) -> Self:
        """Read the entry `source` of a `TF_REATTACH_PROVIDERS` for the plugin `name`; raises as `from_go_plugin`."""
        return cls._from_reattach_config(_take(_parse_table(text), source, dict), name)

    def _as_reattach_config(self) -> dict[str, Any]:
        return {
            "Protocol": "grpc",
            "ProtocolVersion": self.version or 0,
            "Pid": self.process.pid,
            "Test": self.test,
            "Addr": {"Network": self.address.network, "String": str(self.address)},
        }

    @classmethod
    def _from_reattach_config(cls, table: Mapping[str, Any], name: str) -> Self:
        protocol = table.get("Protocol") or "netrpc"
        if protocol != "grpc":
            raise _refused(f"unsupported plugin protocol {quote_text(str(protocol), mark=chr(34))}. Supported: [grpc]")
        address = _take(table, "Addr", dict)
        return cls(
            name=name,
            process=ProcessIdentity(pid=_take_pid(table, "Pid")),
            address=_parse_address(_take(address, "Network", str), _take(address, "String", str)),
            version=_take(table, "ProtocolVersion", int) or None if "ProtocolVersion" in table else None,
            # go-plugin's plugins know of no host that could go.
            survives_host=True,
            test=bool(table.get("Test")),
        )


def _parse_table(text: str) -> Mapping[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refused(f"it is not JSON: {error}") from error
    if not isinstance(table, dict):
        raise _refused("it is not a JSON object")
    return table


def _take(table: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = table.get(key)
    # type() and not isinstance(): true is no number.
    if type(value) is not kind:
        raise _refused(f"{quote_text(key)} is {'missing' if value is None else quote_text(repr(value), mark='')}")
    return value


def _take_pid(table: Mapping[str, Any], key: str) -> int:
    pid = _take(table, key, int)
    # 0, 1 and what is negative mean groups, everybody or init to the system's calls.
    if not 1 < pid < 2**31:
        raise _refused(f"{pid} is not the process id of a plugin")
    return pid


def _parse_address(network: str, address: str) -> UnixAddress | TcpAddress:
    try:
        return parse_address(network, address)
    except HandshakeError as error:
        raise _refused(str(error.args[0])) from error


def _refused(reason: str) -> ConfigurationError:
    return ConfigurationError(f"not a reattach token: {reason}", key="reattach", hint=_HINT)
