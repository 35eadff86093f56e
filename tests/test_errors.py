"""The tree of errors: one root, fields for programs, one line for people."""

import inspect
import pickle

import pytest

from supervisor import errors
from supervisor.errors import (
    CertificateError,
    ConfigurationError,
    ConnectionLostError,
    DeadlineExceededError,
    DecodeError,
    HandshakeError,
    HandshakeTimeoutError,
    IllegalTransitionError,
    LaunchError,
    MessageTooLargeError,
    PluginCrashedError,
    PluginFailedError,
    PluginNotFoundError,
    PluginUnavailableError,
    ProtocolViolationError,
    SupervisorError,
    TransportError,
    VersionMismatchError,
)
from supervisor.outcome import ExitReason, ExitReport, ExitStatus

CLASSES = [getattr(errors, name) for name in errors.__all__]


def test_every_error_is_exported_and_named_error() -> None:
    """`__all__` is the whole tree."""
    defined = {
        name for name, item in vars(errors).items() if inspect.isclass(item) and item.__module__ == errors.__name__
    }

    assert set(errors.__all__) == defined
    assert all(name.endswith("Error") for name in defined)
    assert sorted(errors.__all__) == list(errors.__all__)


@pytest.mark.parametrize("cls", CLASSES)
def test_there_is_one_root(cls: type[Exception]) -> None:
    """A defect of this library is not an error that a user handles, so it is outside."""
    assert issubclass(cls, SupervisorError) is (cls is not IllegalTransitionError)


@pytest.mark.parametrize(
    ("cls", "parents"),
    [
        (ConfigurationError, (ValueError,)),
        (HandshakeTimeoutError, (HandshakeError, TimeoutError)),
        (VersionMismatchError, (HandshakeError,)),
        (PluginNotFoundError, (LookupError,)),
        (PluginCrashedError, (PluginUnavailableError,)),
        (PluginFailedError, (PluginUnavailableError,)),
        (CertificateError, (TransportError,)),
        (ConnectionLostError, (TransportError,)),
        (DecodeError, (ProtocolViolationError, ValueError)),
        (DeadlineExceededError, (TransportError, TimeoutError)),
        (IllegalTransitionError, (RuntimeError,)),
    ],
)
def test_errors_are_what_a_caller_expects_them_to_be(
    cls: type[Exception], parents: tuple[type[Exception], ...]
) -> None:
    """A deadline is a TimeoutError, a wrong name a LookupError."""
    assert all(issubclass(cls, parent) for parent in parents)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SupervisorError("it broke"), "it broke"),
        (SupervisorError("it broke", hint="mend it"), "it broke; mend it"),
        (
            LaunchError("no such file", plugin="store", hint="check command"),
            "plugin 'store': no such file; check command",
        ),
        (SupervisorError(""), ""),
    ],
)
def test_an_error_reads_as_one_line(error: SupervisorError, text: str) -> None:
    """Who, what, and what to do next."""
    assert str(error) == text


def test_fields_carry_what_a_program_needs() -> None:
    """Nobody has to match a text."""
    report = ExitReport(reason=ExitReason.SIGNALED, status=ExitStatus(signal=9), generation=3)

    crashed = PluginCrashedError("died", plugin="store", maybe_executed=True, report=report)
    large = MessageTooLargeError("too large", size=2, limit=1)
    config = ConfigurationError("bad", path="p.toml", table="plugins.a", key="k")

    assert (crashed.plugin, crashed.phase, crashed.maybe_executed, crashed.report) == ("store", "call", True, report)
    assert (large.size, large.limit) == (2, 1)
    assert (config.path, config.table, config.key, config.phase) == ("p.toml", "plugins.a", "k", "config")
    assert ConnectionLostError("gone").maybe_executed
    assert LaunchError("x", errno=2).errno == 2


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not IllegalTransitionError])
def test_errors_travel_between_processes(cls: type[SupervisorError]) -> None:
    """A test runner or a process pool pickles them; the fields go along."""
    error = cls("it broke", plugin="store", hint="mend it")

    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is cls
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
