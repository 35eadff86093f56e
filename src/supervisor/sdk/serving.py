"""`serve`: everything between a list of services and a plugin that a host can use."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final, Literal

from supervisor.errors import ConfigurationError
from supervisor.handshake import COOKIE_KEY, COOKIE_VALUE
from supervisor.sdk.descriptors import StderrWriter
from supervisor.sdk.event_loop import choose_loop
from supervisor.sdk.hooks import capture_events, dump_stacks_on_abort, ignore_interrupts
from supervisor.sdk.host_request import parse_level
from supervisor.sdk.hosted import Hosted
from supervisor.sdk.last_resort import LastResort
from supervisor.sdk.listener import bind_listener
from supervisor.sdk.negotiation import Servicer, choose_services, refuse_people
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.security import choose_security
from supervisor.terms import Engine, Limits

if TYPE_CHECKING:
    from supervisor.manifest import Manifest
    from supervisor.sdk.debug import Debugged
    from supervisor.spec import MagicCookie
    from supervisor.tls import TlsContexts, TlsFiles

__all__ = ["serve", "serve_async"]

_GRACE: Final = 1.25
"""Seconds for the calls under way after a Shutdown; a Go host kills after two."""


def serve(
    *services: Servicer,
    versions: Sequence[int] | Mapping[int, Sequence[Servicer]] = (1,),
    cookie: MagicCookie | None = None,
    log_level: int | str | None = None,
    network: str = "unix",
    grace: float = _GRACE,
    limits: Limits | None = None,
    tls: TlsFiles | TlsContexts | None = None,
    manifest: Manifest | None = None,
    end_with_host: bool | None = None,
    reflection: bool = True,
    engine: Engine = "lean",
    event_loop: Literal["asyncio", "uvloop"] = "asyncio",
) -> None:
    """Serve a host; returns when it asked to end, and never returns when it is gone.

    Started by anybody but a host, it says so on stderr and exits with status 1; unless `--debug` or `--debug=NAME` is
    among the program's arguments: then it prints what a host needs to attach to it, logs for people and ends on Ctrl-C.
    While it runs, stdout belongs to the protocol: `print` goes to the host over GRPCStdio, and descriptor 1 is stderr.
    So does `sys.stderr` where the host wants that, as go-plugin's do. structlog's events and stdlib's records go to the
    host as typed records. SIGINT is ignored, since the host decides; SIGTERM ends as a Shutdown does. What it installs
    (stdout, logging, hooks, signals) stays installed.

    Args:
        services: the servicers, when every version has the same.
        versions: the versions of the application's protocol that they speak; or the servicers of each version.
        cookie: the magic cookie that the host must show.
        log_level: from which level records are wanted, by name or stdlib's number, until the host says otherwise.
        network: where to listen, `unix` or `tcp` (on the loopback interface).
        grace: seconds for the calls under way to finish after the host asked to end. Half a second later the process
            ends with status 1, whatever handlers do that refuse to be cancelled.
        limits: bounds on messages and calls.
        tls: speak TLS with certificates of one's own, whatever the host asks for. Without, the plugin speaks TLS when
            the host asks for AutoMTLS.
        manifest: what to tell a host that discovers plugins; what it leaves out is filled in.
        end_with_host: whether to end, after the grace, when the host has ended without a word. Under a host of this
            library it always does, unless the host says otherwise. Under go-plugin's hosts, which may be restarted and
            take their plugins over, it lives on as a plugin in Go does; except with AutoMTLS or multiplexed, where
            nobody could. True and False overrule that.
        reflection: whether to tell tools such as grpcurl what is served, by gRPC's reflection.
        engine: what speaks HTTP/2.
        event_loop: which one to run; `uvloop` comes with the extra `speed`.

    Raises:
        ConfigurationError: the arguments or the host's variables cannot work, or uvloop is not installed.
    """
    with suppress(RuntimeError):
        asyncio.get_running_loop()
        raise ConfigurationError(
            "serve() runs an event loop of its own", hint="await serve_async() inside a running one"
        )
    # Before the loop is made: asyncio leaves SIGINT alone when it is not Python's default.
    ignore_interrupts()
    with LastResort(), asyncio.Runner(loop_factory=choose_loop(event_loop)) as runner:
        runner.run(
            serve_async(
                *services,
                versions=versions,
                cookie=cookie,
                log_level=log_level,
                network=network,
                grace=grace,
                limits=limits,
                tls=tls,
                manifest=manifest,
                end_with_host=end_with_host,
                reflection=reflection,
                engine=engine,
            )
        )


async def serve_async(
    *services: Servicer,
    versions: Sequence[int] | Mapping[int, Sequence[Servicer]] = (1,),
    cookie: MagicCookie | None = None,
    log_level: int | str | None = None,
    network: str = "unix",
    grace: float = _GRACE,
    limits: Limits | None = None,
    tls: TlsFiles | TlsContexts | None = None,
    manifest: Manifest | None = None,
    end_with_host: bool | None = None,
    reflection: bool = True,
    engine: Engine = "lean",
) -> None:
    """Serve a host inside a running event loop; otherwise as `serve`. Cancelling it stops the plugin in order."""
    key, value = (COOKIE_KEY, COOKIE_VALUE) if cookie is None else (cookie.key, cookie.value)
    hosted = os.environ.get(key) == value
    setting = Hosted() if hosted else _find_setting(services, versions, manifest)
    ignore_interrupts()
    dump_stacks_on_abort()
    stderr = StderrWriter()
    sink = setting.make_sink(stderr, parse_level(log_level))
    capture_events(sink)
    request = setting.read_request(versions)
    version, chosen = choose_services(services, versions, request.versions)
    if request.log_level is not None:
        sink.set_level(request.log_level)
    security = choose_security(tls, request.client_certificate)
    plugin = Plugin(
        version,
        chosen,
        sink=sink,
        stderr=stderr,
        limits=limits or Limits(),
        security=security,
        engine=engine,
        end_with_host=end_with_host if hosted else False,
        reflection=reflection,
    )
    setting.redirect_output(plugin, request)
    with ExitStack() as stack:
        listener = bind_listener(request, network)
        stack.callback(listener.remove)
        stack.callback(listener.socket.close)
        await plugin.run(listener, request, setting.announce, grace)


def _find_setting(
    services: Sequence[Servicer],
    versions: Sequence[int] | Mapping[int, Sequence[Servicer]],
    manifest: Manifest | None,
) -> Debugged:
    """Return how to serve a person who debugs; exits when it was neither a person nor a host that asked for that."""
    from supervisor.sdk.debug import Debugged, find_debug_name  # noqa: PLC0415  # 4 ms that no host's plugin spends
    from supervisor.sdk.manifest import answer_if_asked  # noqa: PLC0415

    name = find_debug_name(sys.argv)
    if name is None:
        answer_if_asked(manifest, services, versions, os.environ)
        refuse_people()
    return Debugged(name)
