"""What a plugin is and how it is to be kept: frozen values, right from birth.

Durations are seconds. A specification never changes; to change a plugin, give the supervisor a new one.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeVar, cast, get_args

from supervisor.errors import ConfigurationError
from supervisor.handshake import COOKIE_KEY, COOKIE_VALUE
from supervisor.levels import Level
from supervisor.manifest import Manifest
from supervisor.policy import RestartPolicy, Strategy
from supervisor.terms import Engine, Limits, require
from supervisor.tls import TlsContexts, TlsFiles
from supervisor.trust import read_pins

__all__ = [
    "Discovery",
    "Engine",
    "HealthProbe",
    "Limits",
    "MagicCookie",
    "PluginSpec",
    "Stdin",
    "StopPolicy",
    "SupervisorSpec",
    "WhileRestarting",
]

EnumT = TypeVar("EnumT", bound=enum.Enum)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_METHOD = re.compile(r"/[A-Za-z0-9_.]+/[A-Za-z0-9_]+")


def _member(kind: type[EnumT], value: object, name: str) -> EnumT:
    try:
        return kind(value)
    except ValueError:
        allowed = ", ".join(repr(member.value) for member in kind)
        raise ConfigurationError(f"{name} is {value!r}", hint=f"use one of {allowed}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class MagicCookie:
    """The environment variable by which a plugin knows that it was started as one.

    It keeps people from running a plugin by hand. It is not a secret and authenticates nobody.
    """

    key: str = COOKIE_KEY
    value: str = COOKIE_VALUE

    def __post_init__(self) -> None:
        require(bool(self.key) and "=" not in self.key and "\0" not in self.key + self.value, "bad magic cookie")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthProbe:
    """Ask `grpc.health.v1.Health/Check` every `interval`; `failures` misses in a row end the instance.

    A miss is an answer that did not come within `timeout`. NOT_SERVING is not a miss: the plugin is alive and unready.
    """

    interval: float = 5.0
    timeout: float = 2.0
    failures: int = 3

    def __post_init__(self) -> None:
        require(
            self.interval > 0 and self.timeout > 0 and self.failures >= 1,
            f"health needs interval > 0, timeout > 0 and failures >= 1, got {self}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopPolicy:
    """How long each rung of the stop ladder may take, in seconds.

    Attributes:
        drain: for the calls in flight to finish, while new ones are refused.
        shutdown: for the Shutdown call to be answered and the process to end after it.
        terminate: for the process to end after SIGTERM to its group.
        kill: for the kernel to confirm SIGKILL; after that the process is reported as unkillable.
    """

    drain: float = 10.0
    shutdown: float = 2.0
    terminate: float = 5.0
    kill: float = 2.0

    def __post_init__(self) -> None:
        graces = (self.drain, self.shutdown, self.terminate)
        require(all(grace >= 0 for grace in graces) and self.kill > 0, f"a grace is negative: {self}")

    @property
    def total(self) -> float:
        """The longest that a stop can take."""
        return self.drain + self.shutdown + self.terminate + self.kill


class Stdin(enum.StrEnum):
    """What a plugin finds on its standard input."""

    LIFELINE = "lifeline"
    """Nothing, until it ends with the host."""
    INHERIT = "inherit"
    """What the host has, and the host's terminal with it."""


class WhileRestarting(enum.StrEnum):
    """What a call does that finds the plugin restarting."""

    WAIT = "wait"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginSpec:
    """One plugin: what to run, what it provides, how to keep it.

    Attributes:
        name: lower case letters, digits, `.`, `_` and `-`; names it in the API, in logs and in events.
        command: the argument vector; never a shell line.
        cwd: the directory it runs in; the host's own when None.
        env: variables added to its environment.
        inherit_env: pass on the host's whole environment instead of the allowlist (`PLUGIN_*` are stripped anyway).
        provides: names of the interfaces it provides.
        versions: versions of its application protocol that this host accepts.
        cookie: the magic cookie it expects.
        restart: when it is restarted.
        health: its liveness probe; None relies on the process alone.
        stop: how it is stopped.
        limits: what it may cost the host.
        start_timeout: from the launched process to ready. Copying a file that `sha256` pins comes before it.
        connect_timeout: for its socket to accept a connection and speak HTTP/2.
        ready_timeout: how long a call without a shorter deadline of its own waits for a plugin that is restarting.
        call_timeout: the deadline of a call that names none; None means no deadline.
        while_restarting: whether calls wait for a plugin that is restarting or fail at once.
        idempotent: methods as `/package.Service/Method` that may be sent again when the plugin died under them.
        log_level: the level, by name, from which the plugin sends its log records.
        escalate: giving up on this plugin ends the supervisor too.
        auto_mtls: speak TLS with certificates that both sides make for one life, as go-plugin's AutoMTLS does. The
            plugin must know it; a unix socket in a private directory is safe without.
        tls: speak TLS with certificates of the application's; wins over `auto_mtls`.
        insecure: accept a plugin that listens on TCP without TLS, where every user of the machine can connect.
        multiplex: carry all its connections on one, as go-plugin's GRPCBrokerMultiplex does. The plugin must know it.
        stdin: what it reads. With `inherit` it shares the host's terminal, session and process group: it can ask for a
            password and run `ssh`, Ctrl-C reaches it too, and signals reach it alone and not what it started.
        survive_host: it lives on when the host is gone, however that went, until a host that has its reattach token
            stops it. Stopping it and leaving the supervisor end it all the same; `Plugin.detach` does not.
        sha256: digests of what is executed, in hexadecimal: a text pins the program, a table those parts of `command`
            that it names (`{"plugin.py": "…"}`). What runs is a sealed copy of what was checked. Linux only.
        verify_owner: refuse a program, and files that `sha256` names, that others could write or replace: each of them
            and every folder above must belong to root or the host's user and be writable to nobody else, but for
            folders with the sticky bit. When None, it is on if `sha256` or `plugin_dir` is given.
        plugin_dir: where the program must lie, links resolved; a bare name is looked up there and not on the PATH.
        socket_group: a group, by name or number, that may connect to its sockets too (PLUGIN_UNIX_SOCKET_GROUP).
        ports: the first and last TCP port that it may listen on; its own choice when None.
        manifest: what it said of itself when it was discovered.
        engine: what speaks HTTP/2 on the main connection.
    """

    name: str
    command: tuple[str, ...]
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    inherit_env: bool = False
    provides: tuple[str, ...] = ()
    versions: tuple[int, ...] = (1,)
    cookie: MagicCookie = field(default_factory=MagicCookie)
    restart: RestartPolicy = field(default_factory=RestartPolicy)
    health: HealthProbe | None = field(default_factory=HealthProbe)
    stop: StopPolicy = field(default_factory=StopPolicy)
    limits: Limits = field(default_factory=Limits)
    start_timeout: float = 60.0
    connect_timeout: float = 5.0
    ready_timeout: float = 30.0
    call_timeout: float | None = 30.0
    while_restarting: WhileRestarting = WhileRestarting.WAIT
    idempotent: frozenset[str] = frozenset()
    log_level: str = "info"
    escalate: bool = False
    auto_mtls: bool = False
    tls: TlsFiles | TlsContexts | None = None
    insecure: bool = False
    multiplex: bool = False
    stdin: Stdin = Stdin.LIFELINE
    survive_host: bool = False
    sha256: str | Mapping[str, str] | None = None
    verify_owner: bool | None = None
    plugin_dir: str | None = None
    socket_group: str | None = None
    ports: tuple[int, int] | None = None
    manifest: Manifest | None = None
    engine: Engine = "lean"

    def __post_init__(self) -> None:
        name = self.name
        require(
            _NAME.fullmatch(name) is not None and ".." not in name,
            f"{name!r} is not a plugin name",
            hint="use lower case letters, digits, '.', '_' and '-', at most 63, starting with a letter or digit",
        )
        require(
            not isinstance(self.command, str),
            f"command {self.command!r} is a string",
            plugin=name,
            hint="give a list of arguments; nothing is passed to a shell",
        )
        object.__setattr__(self, "command", tuple(self.command))
        object.__setattr__(self, "env", MappingProxyType(dict(self.env)))
        object.__setattr__(
            self, "while_restarting", _member(WhileRestarting, self.while_restarting, "while_restarting")
        )
        object.__setattr__(self, "stdin", _member(Stdin, self.stdin, "stdin"))
        self._check_survival()
        require(
            Level.from_name(self.log_level) is not None,
            f"{self.log_level!r} is not a log level",
            plugin=name,
            hint=f"use one of {', '.join(level.name.lower() for level in Level)}",
        )
        require(
            self.engine in get_args(Engine),
            f"no engine is named {self.engine!r}",
            plugin=name,
            hint=f"use one of {', '.join(get_args(Engine))}",
        )
        require(bool(self.command) and bool(self.command[0]), "command is empty", plugin=name)
        for text in (*self.command, *self.env.keys(), *self.env.values(), self.cwd or "", self.plugin_dir or ""):
            require("\0" not in text, f"NUL in {text!r}", plugin=name, hint="remove it from command, cwd or env")
        object.__setattr__(
            self, "sha256", read_pins({} if self.sha256 is None else self.sha256, self.command, plugin=name)
        )
        self._check_places()
        for key in self.env:
            require(bool(key) and "=" not in key, f"{key!r} is not an environment variable's name", plugin=name)
        require(
            bool(self.versions) and all(0 <= v < 2**31 for v in self.versions),
            f"versions {self.versions} must be a non-empty list of non-negative integers",
            plugin=name,
        )
        for what in ("start_timeout", "connect_timeout", "ready_timeout"):
            require(getattr(self, what) > 0, f"{what} must be positive, got {getattr(self, what)}", plugin=name)
        require(
            self.call_timeout is None or self.call_timeout > 0,
            f"call_timeout must be positive, got {self.call_timeout}",
            plugin=name,
        )
        require(
            not isinstance(self.tls, TlsContexts) or self.tls.client is not None,
            "tls has no context for a client",
            plugin=name,
            hint="the host is the one that connects",
        )
        for method in self.idempotent:
            require(
                _METHOD.fullmatch(method) is not None,
                f"idempotent method {method!r} is not a route",
                plugin=name,
                hint="write it as '/package.Service/Method'",
            )

    @property
    def pins(self) -> Mapping[str, str]:
        """Digests in lower case, by the parts of the command that they pin."""
        return cast("Mapping[str, str]", self.sha256)

    @property
    def verifies_owner(self) -> bool:
        """Whether it is checked who could have written what is executed."""
        return bool(self.pins or self.plugin_dir) if self.verify_owner is None else self.verify_owner

    def _check_places(self) -> None:
        """Refuse a program outside of its directory, and ports and groups that there cannot be."""
        name = self.name
        require(
            self.plugin_dir is None or self.command[0].startswith("/") or ".." not in self.command[0].split("/"),
            f"command {self.command[0]!r} climbs out of plugin_dir",
            plugin=name,
            hint="name a program inside it",
        )
        require(
            self.socket_group is None or (bool(self.socket_group) and "\0" not in self.socket_group),
            f"socket_group {self.socket_group!r} is no group",
            plugin=name,
        )
        if self.ports is not None:
            object.__setattr__(self, "ports", tuple(self.ports))
            require(
                len(self.ports) == 2 and 0 < self.ports[0] <= self.ports[1] < 2**16,  # noqa: PLR2004 - first and last
                f"ports {list(self.ports)} are not the first and the last of a range",
                plugin=name,
                hint="write it as [10000, 25000]",
            )

    def _check_survival(self) -> None:
        """Refuse what ends with the host, or cannot be taken up by another."""
        if not self.survive_host:
            return
        require(
            self.stdin is Stdin.LIFELINE,
            "survive_host cannot go with the host's stdin",
            plugin=self.name,
            hint="leave `stdin` out: it is empty for a plugin that survives",
        )
        require(
            self.tls is not None or not self.auto_mtls,
            "survive_host cannot go with auto_mtls, whose keys end with the host",
            plugin=self.name,
            hint="use `tls`, or none: its socket is in a directory that is closed to other users",
        )
        require(
            not self.multiplex,
            "survive_host cannot go with multiplex: such a plugin ends with its one connection",
            plugin=self.name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """Where more plugins are to be found. Each program found is run once, to be asked for its manifest.

    Attributes:
        pattern: a glob of files, `**` included; those that may be executed are plugins. None looks for no files.
        entry_points: take the installed distributions' entry points in the group `supervisor.plugins` too.
        template: what every plugin found has, but for its name, command, interfaces and manifest.
        timeout: seconds for a program to answer; one that does not is a plugin that says nothing of itself.
    """

    pattern: str | None = None
    entry_points: bool = False
    template: PluginSpec = field(default_factory=lambda: PluginSpec(name="template", command=("template",)))
    timeout: float = 10.0

    def __post_init__(self) -> None:
        require(bool(self.pattern) or self.entry_points, "there is nothing to discover")
        require("\0" not in (self.pattern or ""), f"NUL in {self.pattern!r}")
        require(
            not self.template.pins, "sha256 cannot pin what is yet to be found", hint="name such plugins one by one"
        )
        require(self.timeout > 0, f"timeout must be positive, got {self.timeout}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorSpec:
    """All plugins in start order, where to find more, and who restarts with whom."""

    plugins: tuple[PluginSpec, ...] = ()
    strategy: Strategy = Strategy.ONE_FOR_ONE
    discovery: Discovery | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "strategy", _member(Strategy, self.strategy, "strategy"))
        names = [plugin.name for plugin in self.plugins]
        twice = sorted({name for name in names if names.count(name) > 1})
        require(not twice, f"two plugins are named {', '.join(twice)}", hint="names must be unique")
