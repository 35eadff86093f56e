"""The tables of the file, as types: their keys, what they take, and what they mean.

The defaults are those of the specifications. The descriptions end up in the JSON Schema, for editors.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from supervisor.policy import Backoff, RestartIntensity, RestartPolicy, Strategy
from supervisor.spec import HealthProbe, MagicCookie, PluginSpec, Stdin, StopPolicy, WhileRestarting
from supervisor.terms import Engine, Limits
from supervisor.tls import SERVER_NAME

__all__ = [
    "BackoffTable",
    "ConfigFile",
    "CookieTable",
    "DefaultsTable",
    "HealthTable",
    "IntensityTable",
    "LimitsTable",
    "PluginTable",
    "RestartTable",
    "StopTable",
    "SupervisorTable",
    "Table",
    "TlsTable",
]

RestartType = Literal["permanent", "transient", "temporary", "always", "on-failure", "never"]
Text = Annotated[str, Meta(min_length=1)]
LevelName = Literal["trace", "debug", "info", "warn", "warning", "error", "critical"]

_INTENSITY = RestartIntensity()
_BACKOFF = Backoff()
_RESTART = RestartPolicy()
_HEALTH = HealthProbe()
_STOP = StopPolicy()
_LIMITS = Limits()
_COOKIE = MagicCookie()
_PLUGIN = PluginSpec(name="default", command=("default",))


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class CookieTable(Table, frozen=True):
    """The environment variable by which a plugin knows that it was started as one; no secret."""

    key: Annotated[str, Meta(min_length=1, description="The variable's name.")] = _COOKIE.key
    value: Annotated[str, Meta(description="The variable's value.")] = _COOKIE.value


class IntensityTable(Table, frozen=True):
    """How many restarts are too many: more than `limit` in `period` seconds."""

    limit: Annotated[int, Meta(ge=0, description="Restarts allowed inside the period.")] = _INTENSITY.limit
    period: Annotated[float, Meta(gt=0, description="Length of the window in seconds.")] = _INTENSITY.period


class BackoffTable(Table, frozen=True):
    """The pauses between restarts in seconds; the first restart of a streak is immediate."""

    initial: Annotated[float, Meta(ge=0, description="The first pause.")] = _BACKOFF.initial
    factor: Annotated[float, Meta(ge=1, description="How much longer each pause is than the last.")] = _BACKOFF.factor
    ceiling: Annotated[float, Meta(ge=0, description="The longest pause.")] = _BACKOFF.ceiling
    jitter: Annotated[float, Meta(ge=0, le=1, description="The share of a pause that chance may take off.")] = (
        _BACKOFF.jitter
    )


class RestartTable(Table, frozen=True):
    """When the plugin is restarted."""

    type: Annotated[
        RestartType,
        Meta(description="permanent (always), transient (on-failure) or temporary (never)."),
    ] = _RESTART.restart.value
    intensity: Annotated[IntensityTable, Meta(description="How many restarts are too many.")] = IntensityTable()
    backoff: Annotated[BackoffTable, Meta(description="The pauses between restarts.")] = BackoffTable()
    stable_after: Annotated[
        float, Meta(gt=0, description="Seconds of being ready after which earlier restarts are forgotten.")
    ] = _RESTART.stable_after


class HealthTable(Table, frozen=True):
    """The liveness probe: grpc.health.v1."""

    interval: Annotated[float, Meta(gt=0, description="Seconds between checks.")] = _HEALTH.interval
    timeout: Annotated[float, Meta(gt=0, description="Seconds for an answer.")] = _HEALTH.timeout
    failures: Annotated[int, Meta(ge=1, description="Misses in a row that end the instance.")] = _HEALTH.failures


class StopTable(Table, frozen=True):
    """How long each rung of the stop ladder may take, in seconds."""

    drain: Annotated[float, Meta(ge=0, description="For the calls in flight to finish.")] = _STOP.drain
    shutdown: Annotated[float, Meta(ge=0, description="For the Shutdown call and the exit after it.")] = _STOP.shutdown
    terminate: Annotated[float, Meta(ge=0, description="For the exit after SIGTERM.")] = _STOP.terminate
    kill: Annotated[float, Meta(gt=0, description="For the kernel to confirm SIGKILL.")] = _STOP.kill


class LimitsTable(Table, frozen=True):
    """What the plugin may cost the host."""

    message_size: Annotated[int, Meta(gt=0, description="Bytes of one gRPC message.")] = _LIMITS.message_size
    calls_in_flight: Annotated[int, Meta(gt=0, description="Calls under way at once.")] = _LIMITS.calls_in_flight
    broker_connections: Annotated[int, Meta(gt=0, description="Brokered services and connections at once.")] = (
        _LIMITS.broker_connections
    )
    log_line: Annotated[int, Meta(gt=0, description="Bytes of one line of output.")] = _LIMITS.log_line
    log_backlog: Annotated[int, Meta(gt=0, description="Bytes of output waiting to be read.")] = _LIMITS.log_backlog
    stderr_tail: Annotated[int, Meta(gt=0, description="Lines of stderr in the exit report.")] = _LIMITS.stderr_tail


class TlsTable(Table, frozen=True):
    """Certificates of the application's own; PEM files, from this file's folder."""

    certificate: Annotated[str, Meta(description="The host's certificate.")] = ""
    key: Annotated[str, Meta(description="Its private key, without a password.")] = ""
    authority: Annotated[str, Meta(description="Who signs the plugin's certificate.")] = ""
    server_name: Annotated[str, Meta(description="The name in the plugin's certificate.")] = SERVER_NAME


class DefaultsTable(Table, frozen=True):
    """What every plugin has unless its own table says otherwise; tables are merged, lists are replaced."""

    cwd: Annotated[str, Meta(min_length=1, description="Where it runs, from this file's folder.")] = "."
    env: Annotated[dict[str, str], Meta(description="Variables added to its environment.")] = msgspec.field(
        default_factory=dict
    )
    inherit_env: Annotated[bool, Meta(description="Pass on the host's whole environment.")] = _PLUGIN.inherit_env
    provides: Annotated[tuple[str, ...], Meta(description="Names of the interfaces it provides.")] = _PLUGIN.provides
    versions: Annotated[
        tuple[Annotated[int, Meta(ge=0)], ...],
        Meta(min_length=1, description="Versions of its protocol that the host accepts."),
    ] = _PLUGIN.versions
    cookie: Annotated[CookieTable, Meta(description="The magic cookie it expects.")] = CookieTable()
    restart: Annotated[RestartTable, Meta(description="When it is restarted.")] = RestartTable()
    health: Annotated[
        HealthTable | bool, Meta(description="Its liveness probe; false relies on the process alone.")
    ] = HealthTable()
    stop: Annotated[StopTable, Meta(description="How it is stopped.")] = StopTable()
    limits: Annotated[LimitsTable, Meta(description="What it may cost the host.")] = LimitsTable()
    start_timeout: Annotated[float, Meta(gt=0, description="Seconds from launch to ready.")] = _PLUGIN.start_timeout
    connect_timeout: Annotated[float, Meta(gt=0, description="Seconds for its socket to answer.")] = (
        _PLUGIN.connect_timeout
    )
    ready_timeout: Annotated[float, Meta(gt=0, description="Seconds a call waits for a plugin that restarts.")] = (
        _PLUGIN.ready_timeout
    )
    call_timeout: Annotated[
        Annotated[float, Meta(gt=0)] | Literal["none"],
        Meta(description='Deadline in seconds of a call that names none; "none" for no deadline.'),
    ] = 30.0 if _PLUGIN.call_timeout is None else _PLUGIN.call_timeout
    while_restarting: Annotated[
        WhileRestarting, Meta(description="Whether calls wait for a plugin that restarts, or fail at once.")
    ] = _PLUGIN.while_restarting
    idempotent: Annotated[
        tuple[str, ...], Meta(description="Methods as /package.Service/Method that may be sent again after a crash.")
    ] = ()
    log_level: Annotated[LevelName, Meta(description="The level from which it sends its log records.")] = "info"
    escalate: Annotated[bool, Meta(description="Giving up on it ends the supervisor too.")] = _PLUGIN.escalate
    auto_mtls: Annotated[
        bool, Meta(description="Speak TLS with certificates that both sides make for each life (go-plugin's AutoMTLS).")
    ] = _PLUGIN.auto_mtls
    tls: Annotated[TlsTable | None, Meta(description="Speak TLS with these certificates; wins over auto_mtls.")] = None
    insecure: Annotated[bool, Meta(description="Accept that it listens on TCP without TLS.")] = _PLUGIN.insecure
    multiplex: Annotated[
        bool, Meta(description="Carry all its connections on one (go-plugin's GRPCBrokerMultiplex).")
    ] = _PLUGIN.multiplex
    engine: Annotated[Engine, Meta(description="What speaks HTTP/2 on the main connection.")] = _PLUGIN.engine
    stdin: Annotated[
        Stdin, Meta(description="Its standard input: inherit is the host's, with the host's terminal.")
    ] = _PLUGIN.stdin
    survive_host: Annotated[
        bool, Meta(description="Let it live on when the host is gone, for another host to take over.")
    ] = _PLUGIN.survive_host
    verify_owner: Annotated[
        bool | None,
        Meta(description="Refuse a program that others could replace; by itself with sha256, plugin_dir or discover."),
    ] = None
    plugin_dir: Annotated[Text | None, Meta(description="Where the program must lie, from this file's folder.")] = None
    socket_group: Annotated[
        Text | None, Meta(description="A group that may connect to its sockets too, by name or number.")
    ] = None
    ports: Annotated[tuple[int, int] | None, Meta(description="The first and last TCP port that it may listen on.")] = (
        None
    )


class PluginTable(DefaultsTable, frozen=True, kw_only=True):
    """One plugin: what to run, what it provides, how to keep it."""

    command: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            description="Program and arguments; {python} is the host's interpreter. Nothing is passed to a shell.",
        ),
    ]
    sha256: Annotated[
        str | dict[str, str] | None,
        Meta(
            description="The program's digest, or digests of files by how the command names them; a sealed copy runs."
        ),
    ] = None


class SupervisorTable(Table, frozen=True):
    """What concerns all plugins."""

    strategy: Annotated[Strategy, Meta(description="Who else restarts when a plugin does.")] = Strategy.ONE_FOR_ONE
    discover: Annotated[
        Text | None,
        Meta(description="A glob of programs that are plugins too, from this file's folder."),
    ] = None
    discover_entry_points: Annotated[
        bool, Meta(description="Take the installed entry points in the group supervisor.plugins as plugins too.")
    ] = False


class ConfigFile(Table, frozen=True):
    """The file."""

    supervisor: Annotated[SupervisorTable, Meta(description="What concerns all plugins.")] = SupervisorTable()
    defaults: Annotated[DefaultsTable, Meta(description="What every plugin has.")] = DefaultsTable()
    plugins: Annotated[
        dict[Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")], PluginTable],
        Meta(description="The plugins by name, in start order."),
    ] = msgspec.field(default_factory=dict)
