"""How a life begins that this host did not launch, and how one is handed on."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Final

from anyio.abc import TaskGroup

from supervisor.abc import AttachedProcess, AttachingRunner, Process, Runner, SurvivingProcess
from supervisor.address import Address, MemoryAddress
from supervisor.errors import ConfigurationError, ReattachError, SupervisorError, VersionMismatchError
from supervisor.handshake import Handshake
from supervisor.host.hearing import Hearing
from supervisor.reattach import ReattachToken
from supervisor.spec import PluginSpec

__all__ = ["VARIABLE", "Attachment", "find_debugged", "make_token"]

VARIABLE: Final = "SUPERVISOR_REATTACH"
"""The environment variable that leads a host to plugins in debug mode, as `TF_REATTACH_PROVIDERS` does Terraform."""


class Attachment:
    """Stands in for launch and handshake: what a token says, believed as far as it is proven.

    Attributes:
        token: what is known of the process.
        spec: the plugin's specification, as far as it concerns a process that nobody asked for TLS or multiplexing.
        confirmed: whether the process is this host's to signal and to end.
    """

    def __init__(self, token: ReattachToken, spec: PluginSpec) -> None:
        self.token = token
        health = spec.health
        if token.test and health is not None:
            health = replace(health, failures=sys.maxsize)  # a breakpoint is not the loss of liveness
        self.spec = replace(spec, auto_mtls=False, multiplex=False, health=health)
        self.confirmed = False
        self._process: AttachedProcess | None = None

    async def begin(self, runner: Runner, variables: Mapping[str, str]) -> Process:  # noqa: ARG002  # it has its own
        """Find the process; see `AttachingRunner.attach`."""
        if not isinstance(runner, AttachingRunner):
            raise ReattachError("this runner cannot take over a process", plugin=self.spec.name)
        self._process = await runner.attach(self.spec, self.token)
        return self._process

    def confirm(self) -> None:
        """Take the process over, now that it has answered; one that somebody else ends is never ours."""
        if self._process is not None and not self.token.test:
            self._process.confirm()
            self.confirmed = True

    async def introduce(self, hearing: Hearing, readers: TaskGroup, **_: object) -> Handshake:
        """Hear what is left of the process's pipes, and return the handshake that it would make.

        Raises:
            VersionMismatchError: it speaks a version that this host does not accept.
        """
        assert self._process is not None
        for source, pipe in self._process.pipes.items():
            hearing.hear_pipe(readers, pipe, source)
        accepted = self.spec.versions
        version = max(accepted) if self.token.version is None else self.token.version
        if version not in accepted:
            raise VersionMismatchError(
                f"speaks version {version} of its protocol, this host accepts {', '.join(map(str, sorted(accepted)))}",
                spoken=version,
                accepted=tuple(sorted(accepted)),
                field="version",
            )
        return Handshake(version=version, address=self.token.address)

    def explain(self, error: BaseException | None, *, ended: bool) -> ReattachError:
        """Say why the process could not be taken over."""
        if isinstance(error, ReattachError):
            return error
        if ended:
            return ReattachError("ended while it was being taken over", gone=True, plugin=self.spec.name)
        reason = error.args[0] if isinstance(error, SupervisorError) and error.args else repr(error)
        explained = ReattachError(
            f"cannot be taken over: {reason}",
            plugin=self.spec.name,
            hint="its process was left alone: if it runs and is the plugin's, end it before you start another",
        )
        explained.__cause__ = error
        return explained


def find_debugged(environment: Mapping[str, str], names: Collection[str]) -> list[ReattachToken]:
    """Return what `SUPERVISOR_REATTACH` says to attach to: tokens of plugins in debug mode, one on each line.

    Raises:
        ConfigurationError: what is there is no such token.
    """
    tokens = [ReattachToken.from_json(line) for line in environment.get(VARIABLE, "").splitlines() if line.strip()]
    for token in tokens:
        if not token.test:
            raise ConfigurationError(
                f"{VARIABLE} names {token.name!r}, which is not in debug mode",
                key=VARIABLE,
                hint="use Supervisor.reattach for a plugin that is to be taken over",
            )
        if token.name not in names:
            warnings.warn(f"{VARIABLE} names {token.name!r}, which is no plugin of this supervisor", stacklevel=4)
    return [token for token in tokens if token.name in names]


def make_token(
    process: Process | None,
    address: Address | None,
    *,
    spec: PluginSpec,
    version: int | None,
    generation: int,
    origin: ReattachToken | None,
) -> ReattachToken:
    """Return the token of a life that is up.

    Args:
        process: its process.
        address: where it listens.
        spec: what it is.
        version: the version that it speaks.
        generation: which life it is.
        origin: the token by which this host took it over, if it did.

    Raises:
        ReattachError: no other host could take it over.
    """
    if not isinstance(process, SurvivingProcess) or address is None or isinstance(address, MemoryAddress):
        raise ReattachError("is not a process that another host could take over", plugin=spec.name)
    if spec.multiplex:
        raise ReattachError(
            "has one connection for all, which cannot be made a second time", plugin=spec.name, hint="set multiplex off"
        )
    if spec.auto_mtls and spec.tls is None:
        raise ReattachError(
            "trusts a key that ends with this host", plugin=spec.name, hint="set auto_mtls off, or use `tls`"
        )
    return ReattachToken(
        name=spec.name,
        process=process.identity(),
        address=address,
        version=version,
        generation=generation,
        survives_host=spec.survive_host if origin is None else origin.survives_host,
        test=origin is not None and origin.test,
    )
