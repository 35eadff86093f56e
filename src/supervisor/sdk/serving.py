"""`serve`: everything between a list of services and a plugin that a host can use."""

from __future__ import annotations

import asyncio
import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Final, Literal

from supervisor.errors import ConfigurationError
from supervisor.records import Level
from supervisor.sdk.descriptors import StderrWriter, claim_stdout
from supervisor.sdk.hooks import capture_events, dump_stacks_on_abort, ignore_interrupts
from supervisor.sdk.host_request import parse_level, read_environment
from supervisor.sdk.listener import bind_listener
from supervisor.sdk.log_sink import LogSink
from supervisor.sdk.negotiation import Servicer, check_cookie, choose_services
from supervisor.sdk.plugin import Plugin
from supervisor.sdk.security import choose_security
from supervisor.services.logs import LogBuffer
from supervisor.spec import Engine, Limits, MagicCookie
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
    engine: Engine = "lean",
    event_loop: Literal["asyncio", "uvloop"] = "asyncio",
) -> None:
    """Serve a host; returns when it asked to end, and never returns when it is gone.

    Started by anybody but a host, it says so on stderr and exits with status 1. While it runs, stdout belongs to the
    protocol: `print` goes to the host over GRPCStdio, and descriptor 1 is stderr. structlog's events and stdlib's
    records go to the host as typed records. SIGINT is ignored, since the host decides; SIGTERM ends as a Shutdown does.
    What it installs (stdout, logging, hooks, signals) stays installed.

    Args:
        services: the servicers, when every version has the same.
        versions: the versions of the application's protocol that they speak; or the servicers of each version.
        cookie: the magic cookie that the host must show.
        log_level: from which level records are wanted, by name or stdlib's number, until the host says otherwise.
        network: where to listen, `unix` or `tcp` (on the loopback interface).
        grace: seconds for the calls under way to finish after the host asked to end.
        limits: bounds on messages and calls.
        tls: speak TLS with certificates of one's own, whatever the host asks for. Without, the plugin speaks TLS when
            the host asks for AutoMTLS.
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
    with asyncio.Runner(loop_factory=_loop_factory(event_loop)) as runner:
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
                engine=engine,
            )
        )


def _loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop; None for asyncio's own choice."""
    if name == "asyncio":
        return None
    if name != "uvloop":
        raise ConfigurationError(f"there is no event loop {name!r}", hint="asyncio and uvloop are known")
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError as error:
        raise ConfigurationError(
            "uvloop is not installed", hint="pip install 'plugin-supervisor[speed]', or leave event_loop alone"
        ) from error
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def serve_async(
    *services: Servicer,
    versions: Sequence[int] | Mapping[int, Sequence[Servicer]] = (1,),
    cookie: MagicCookie | None = None,
    log_level: int | str | None = None,
    network: str = "unix",
    grace: float = _GRACE,
    limits: Limits | None = None,
    tls: TlsFiles | TlsContexts | None = None,
    engine: Engine = "lean",
) -> None:
    """Serve a host inside a running event loop; otherwise as `serve`. Cancelling it stops the plugin in order."""
    check_cookie(cookie or MagicCookie(), os.environ)
    ignore_interrupts()
    dump_stacks_on_abort()
    stderr = StderrWriter()
    sink = LogSink(LogBuffer(), stderr.write, level=parse_level(log_level) or Level.INFO)
    capture_events(sink)
    stdout = claim_stdout()
    request = read_environment(os.environ)
    version, chosen = choose_services(services, versions, request.versions)
    if request.log_level is not None:
        sink.set_level(request.log_level)
    security = choose_security(tls, request.client_certificate)
    plugin = Plugin(
        version, chosen, sink=sink, stderr=stderr, limits=limits or Limits(), security=security, engine=engine
    )
    with ExitStack() as stack:
        listener = bind_listener(request, network)
        stack.callback(listener.remove)
        stack.callback(listener.socket.close)
        await plugin.run(listener, request, stdout, grace)
