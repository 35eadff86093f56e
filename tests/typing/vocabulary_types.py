"""What a type checker makes of the vocabulary: mypy runs over this file, nothing else does."""

from collections.abc import Mapping
from typing import assert_never, assert_type

from supervisor.address import Address, MemoryAddress, TcpAddress, UnixAddress, parse_address
from supervisor.config import load_config, parse_config
from supervisor.errors import SupervisorError, VersionMismatchError
from supervisor.handshake import Handshake, HandshakeReader, format_handshake, negotiate, parse_handshake
from supervisor.levels import Level
from supervisor.log_lines import Line, LineSplitter, RecordAssembler, parse_line
from supervisor.policy import GiveUp, History, Rest, RestartAfter, RestartPolicy, Verdict, decide
from supervisor.records import ExceptionRecord, LogRecord
from supervisor.spec import HealthProbe, PluginSpec, SupervisorSpec


def what_to_do(verdict: Verdict) -> float | None:
    """A match over the three verdicts is exhaustive."""
    match verdict:
        case Rest() | GiveUp():
            return None
        case RestartAfter(delay=delay):
            assert_type(delay, float)
            return delay
        case _:
            assert_never(verdict)


def where(address: Address) -> str:
    """A match over the three kinds of address is exhaustive."""
    match address:
        case UnixAddress(path):
            return path
        case TcpAddress(host, port):
            return f"{host}:{port}"
        case MemoryAddress(name):
            return name
        case _:
            assert_never(address)


def handshakes(reader: HandshakeReader, error: VersionMismatchError) -> None:
    """The reader gives a handshake or nothing, and its end never returns."""
    assert_type(reader.feed(b""), Handshake | None)
    assert_type(reader.noise, list[str])
    assert_type(reader.leftover, bytes)
    assert_type(parse_handshake(b"", versions=(1,)), Handshake)
    assert_type(parse_handshake(b"", versions=(1,)).certificate, bytes | None)
    assert_type(parse_address("unix", "/s"), UnixAddress | TcpAddress)
    assert_type(format_handshake(version=1, address=UnixAddress("/s")), str)
    assert_type(negotiate([1], "1"), int)
    assert_type(error.accepted, tuple[int, ...])
    format_handshake(version=1, address=MemoryAddress("x"))  # type: ignore[arg-type]  # nobody else could connect
    parse_handshake("1|1|unix|/s|grpc", versions=(1,))  # type: ignore[arg-type]  # a pipe gives bytes


def records(splitter: LineSplitter, assembler: RecordAssembler) -> None:
    """Bytes to lines to records."""
    assert_type(splitter.feed(b""), list[Line])
    assert_type(assembler.feed(Line(b"")), list[LogRecord])
    assert_type(parse_line(b"").level, Level)
    assert_type(parse_line("").fields, Mapping[str, object])
    assert_type(parse_line("").exception, ExceptionRecord | None)


def specifications(spec: PluginSpec) -> None:
    """A file gives the same values as code."""
    assert_type(load_config("plugins.toml"), SupervisorSpec)
    assert_type(parse_config("", path="plugins.toml").plugins, tuple[PluginSpec, ...])
    assert_type(spec.health, HealthProbe | None)
    assert_type(spec.call_timeout, float | None)
    assert_type(decide(RestartPolicy(), History(), failed=True, now=0.0), Rest | GiveUp | RestartAfter)
    spec.name = "other"  # type: ignore[misc]  # a specification is a value


def errors(error: SupervisorError) -> None:
    """Each error has the three fields."""
    assert_type(error.plugin, str | None)
    assert_type(error.phase, str | None)
    assert_type(error.hint, str | None)
