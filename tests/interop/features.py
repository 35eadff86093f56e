"""What go-plugin can do and what its own tests show, each with the tests here that show it of ours: data, nothing else.

Tests are named by their file below `tests` and their name. Where there is none, a sentence says why there cannot be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cells import CELLS

__all__ = ["FAILING", "FEATURES", "UPSTREAM", "Absent", "Failing", "Feature", "Mirror", "Tests"]


@dataclass(frozen=True, slots=True)
class Tests:
    """Tests in one file; all of them when no name is given."""

    file: str
    names: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """What pytest calls them, without parameters."""
        path = f"tests/{self.file}"
        return tuple(f"{path}::{name}" for name in self.names) or (path,)


@dataclass(frozen=True, slots=True)
class Absent:
    """Why there is nothing to test."""

    reason: str


Proof = tuple[Tests, ...] | Absent


@dataclass(frozen=True, slots=True)
class Feature:
    """One row: a feature of go-plugin, shown of our host and of our plugins."""

    name: str
    host: Proof
    plugin: Proof


@dataclass(frozen=True, slots=True)
class Mirror:
    """One row: tests of go-plugin's own suite, and ours for the same behaviour."""

    names: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class Failing:
    """One row: what go-plugin's own host does not survive, or not in time, and the tests that ours does."""

    what: str
    upstream: str
    proof: tuple[Tests, ...]


def _start(*names: str) -> Tests:
    return Tests("interop/test_upstream_start.py", names)


def _calls(*names: str) -> Tests:
    return Tests("interop/test_upstream_calls.py", names)


def _fails(*names: str) -> Tests:
    return Tests("interop/test_where_upstream_fails.py", names)


def _broker(*names: str) -> Tests:
    return Tests("interop/test_go_broker.py", names)


def _mtls(*names: str) -> Tests:
    return Tests("interop/test_auto_mtls.py", names)


def _tls(*names: str) -> Tests:
    return Tests("interop/test_manual_tls.py", names)


def _logs(*names: str) -> Tests:
    return Tests("interop/test_stdio_logs.py", names)


def _output(*names: str) -> Tests:
    return Tests("interop/test_upstream_output.py", names)


def _reattach(*names: str) -> Tests:
    return Tests("interop/test_go_reattach.py", names)


def _trust(*names: str) -> Tests:
    return Tests("interop/test_trust.py", names)


def _upgrade(*names: str) -> Tests:
    return Tests("host/test_reattach.py", names)


def _cells(**parts: str) -> Tests:
    """Return the cells of the matrix of which these are the parts."""
    chosen = [cell for cell in CELLS if all(getattr(cell, part) == value for part, value in parts.items())]
    return Tests("interop/test_matrix.py", tuple(f"test_cell[{cell}]" for cell in chosen))


_HOSTS_CHOICE = Absent("the host's choice alone")
_NET_RPC = Absent("net/rpc: needs Go's gob encoding; such a plugin is refused by name, see TestClient_grpcNotAllowed")

FEATURES: Final = (
    Feature(
        "magic cookie",
        (_start("test_wrong_cookie_of_our_host"),),
        (_start("test_plugin_that_is_run_by_hand", "test_wrong_cookie_of_a_go_host"),),
    ),
    Feature(
        "core protocol version 1",
        (_start("test_client", "test_client_start_bad_version"),),
        (_start("test_client_of_a_go_host"),),
    ),
    Feature(
        "versioned plugin sets, negotiation",
        (_start("test_client_versioned_client", "test_client_start_bad_negotiated_version"),),
        (_start("test_client_versioned_client_of_go", "test_bad_negotiated_version_of_our_plugin"),),
    ),
    Feature("allowed protocols", (_start("test_client_grpc_not_allowed"),), (_start("test_client_of_a_go_host"),)),
    Feature(
        "unix socket, TCP, port range",
        (_cells(host="python"), _mtls("test_tcp_without_tls_is_refused_unless_that_is_meant")),
        (_cells(plugin="python"), _calls("test_port_range_of_a_go_host")),
    ),
    Feature("start timeout", (_start("test_client_start_timeout"),), _HOSTS_CHOICE),
    Feature("diagnosis of a bad start", (_start("test_additional_notes_about_command"),), _HOSTS_CHOICE),
    Feature(
        "gRPC serving; the server's options",
        Absent("the plugin's alone"),
        (_calls("test_grpc_stream_of_a_go_host"), _broker("test_large_messages_of_our_multiplexed_plugin")),
    ),
    Feature("dial options", (_calls("test_dial_options"),), Absent("the side's that dials")),
    Feature(
        "health, Ping",
        (_calls("test_grpc_ping", "test_plugin_without_health"), _fails("test_plugin_that_is_not_serving")),
        (_calls("test_grpc_ping_of_a_go_host"),),
    ),
    Feature(
        "reflection v1 and v1alpha",
        Absent("no host asks for it"),
        (Tests("interop/test_reflection.py"),),
    ),
    Feature(
        "broker",
        (
            _cells(host="python", broker="sockets"),
            _broker("test_id_that_a_go_plugin_never_offered", "test_go_plugin_without_a_broker"),
        ),
        (_cells(plugin="python", broker="sockets"), _broker("test_id_that_our_plugin_never_offered")),
    ),
    Feature(
        "broker multiplexing",
        (
            _cells(host="python", broker="mux"),
            _broker("test_large_messages_of_a_multiplexed_go_plugin", "test_streams_of_a_multiplexed_go_plugin"),
            _calls("test_client_request_grpc_multiplexing_unsupported"),
        ),
        (_cells(plugin="python", broker="mux"), _broker("test_large_messages_of_our_multiplexed_plugin")),
    ),
    Feature(
        "controller: Shutdown",
        (
            _start("test_client", "test_cleanup_under_our_host"),
            _calls("test_plugin_without_a_service"),
            _fails("test_shutdown_handler_that_never_returns"),
        ),
        (_start("test_client_cleanup"), _calls("test_shutdown_with_a_call_in_flight")),
    ),
    Feature(
        "stdio sync",
        (_logs("test_writers_get_every_byte", "test_without_writers_prints_are_records"),),
        (_logs("test_a_go_host_gets_every_byte_of_our_plugin"),),
    ),
    Feature(
        "AutoMTLS",
        (
            _cells(host="python", tls="tls"),
            _mtls("test_plugin_with_another_certificate_is_refused", "test_certificate_that_nobody_asked_for"),
        ),
        (_cells(plugin="python", tls="tls"), _mtls("test_strangers_are_refused_by_our_plugin")),
    ),
    Feature(
        "manual TLS",
        (_tls("test_client_tls_grpc", "test_strange_certificate_of_a_go_plugin"),),
        (_tls("test_client_tls_grpc_of_a_go_host", "test_strangers_of_our_plugin_with_its_own_certificates"),),
    ),
    Feature(
        "checksum of the program",
        (_trust("test_a_pinned_go_plugin_runs_from_its_sealed_copy", "test_another_go_plugin_is_not_run"),),
        _HOSTS_CHOICE,
    ),
    Feature(
        "stdin passed on, terminal",
        (Tests("host/test_terminal.py"),),
        (Tests("sdk/test_serve_lifecycle.py", ("test_without_a_lifeline_stdin_means_nothing",)),),
    ),
    Feature(
        "stderr to structured logs",
        (_logs("test_our_host_understands_hclog", "test_our_host_shows_a_go_panic_as_one_error"),),
        (_logs("test_a_go_host_understands_our_records", "test_a_go_host_sees_exceptions_as_errors"),),
    ),
    Feature("logs that nobody reads", (_output("test_logs_that_nobody_reads"),), _HOSTS_CHOICE),
    Feature(
        "the host's environment left out",
        (_start("test_client_skip_host_env"),),
        (_start("test_skip_host_env_of_a_go_host"),),
    ),
    Feature("managed clients, cleaning up", (_calls("test_leaving_ends_all"),), _HOSTS_CHOICE),
    Feature(
        "Kill, Exited, ID, Protocol",
        (_start("test_client", "test_client_kill_start"), _fails("test_kill_of_a_stopped_plugin")),
        (_start("test_client_of_a_go_host"), _calls("test_server_crash_under_a_go_host")),
    ),
    Feature(
        "calls end when the process does",
        (_calls("test_client_grpc_server_crash"),),
        (_calls("test_server_crash_under_a_go_host"),),
    ),
    Feature(
        "reattach",
        (_reattach("test_plugin_that_a_go_host_has_left", "test_recycled_pid_of_a_go_plugin"),),
        (_reattach("test_go_host_takes_over_from_ours"),),
    ),
    Feature(
        "test mode",
        (_reattach("test_our_host_attaches_to_a_plugin_in_debug_mode"),),
        (_reattach("test_go_host_attaches_to_a_plugin_in_debug_mode"),),
    ),
    Feature(
        "runner, address translation", (Tests("host/test_address_translation.py"),), (_calls("test_unix_socket_dir"),)
    ),
    Feature(
        "socket directory and group",
        (_trust("test_a_go_plugin_opens_its_socket_to_the_group"),),
        (_calls("test_unix_socket_dir"), _trust("test_our_plugin_opens_its_socket_to_the_group_of_a_go_host")),
    ),
    Feature("discovery", (_trust("test_a_go_plugin_is_discovered_by_its_file"),), _HOSTS_CHOICE),
    Feature(
        "what to serve chosen by arguments (ServeMux)",
        _HOSTS_CHOICE,
        (_start("test_client_versioned_client_of_go"),),
    ),
    Feature("SIGINT is ignored", (_calls("test_interrupt_of_a_go_plugin"),), (_calls("test_interrupt_of_our_plugin"),)),
    Feature("net/rpc", (_start("test_client_grpc_not_allowed"),), _NET_RPC),
    Feature(
        "in-process test helpers",
        (Tests("contract/test_transports.py"),),
        Absent("in-process: no wire; ours is supervisor.testing"),
    ),
    Feature(
        "examples",
        (Tests("integration/test_examples.py", ("test_example",)),),
        (Tests("integration/test_examples.py", ("test_example",)),),
    ),
)
"""The feature table of go-plugin, in its order."""

UPSTREAM: Final = (
    Mirror("TestClient", (_start("test_client", "test_client_of_a_go_host"),)),
    Mirror("TestClient_killStart", (_start("test_client_kill_start"),)),
    Mirror("TestClient_testCleanup", (_start("test_client_cleanup", "test_cleanup_under_our_host"),)),
    Mirror("TestClient_noStdoutScannerRace", (_start("test_client_no_stdout_scanner_race"),)),
    Mirror("TestClient_Start_Timeout", (_start("test_client_start_timeout"),)),
    Mirror("TestClientStart_badVersion", (_start("test_client_start_bad_version"),)),
    Mirror(
        "TestClientStart_badNegotiatedVersion, TestClient_wrongVersion",
        (_start("test_client_start_bad_negotiated_version", "test_bad_negotiated_version_of_our_plugin"),),
    ),
    Mirror("TestClient_cmdAndReattach", Absent("a command and a token are given to different methods")),
    Mirror("the scenario invalid-rpc-address", (_start("test_invalid_rpc_address"),)),
    Mirror("TestAdditionalNotesAboutCommand", (_start("test_additional_notes_about_command"),)),
    Mirror("TestClient_grpc, TestGRPC_App", (_calls("test_grpc_app", "test_grpc_app_of_a_go_host"),)),
    Mirror("TestClient_grpcNotAllowed", (_start("test_client_grpc_not_allowed"),)),
    Mirror(
        "TestClient_grpc_servercrash", (_calls("test_client_grpc_server_crash", "test_server_crash_under_a_go_host"),)
    ),
    Mirror("TestGRPCC_Stream", (_calls("test_grpc_stream", "test_grpc_stream_of_a_go_host"),)),
    Mirror("TestGRPC_Ping, TestClient_ping", (_calls("test_grpc_ping", "test_grpc_ping_of_a_go_host"),)),
    Mirror("TestGRPC_Reflection", (Tests("interop/test_reflection.py"),)),
    Mirror("TestGRPCConn_BidirectionalPing", (_cells(broker="sockets"), _cells(broker="mux"))),
    Mirror(
        "TestClient_RequestGRPCMultiplexing_UnsupportedByPlugin",
        (_calls("test_client_request_grpc_multiplexing_unsupported"),),
    ),
    Mirror(
        "TestClient_grpcSyncStdio, TestClient_syncStreams",
        (_logs("test_writers_get_every_byte", "test_a_go_host_gets_every_byte_of_our_plugin"),),
    ),
    Mirror(
        "TestClient_Stderr, TestClient_logStderr",
        (_output("test_client_stderr"), _fails("test_line_of_a_megabyte_on_stdout")),
    ),
    Mirror(
        "TestClient_StderrJSON, TestClient_logStderrParseJSON",
        (_output("test_client_stderr_json"), _fails("test_log_line_whose_message_is_a_number")),
    ),
    Mirror("TestClient_textLogLevel", (_logs("test_our_host_understands_hclog"),)),
    Mirror("TestClient_logger", (_logs("test_our_host_understands_hclog", "test_a_go_host_understands_our_records"),)),
    Mirror(
        "TestServerLogPanic",
        (_logs("test_our_host_shows_a_go_panic_as_one_error", "test_a_go_host_sees_exceptions_as_errors"),),
    ),
    Mirror("TestServer_testStdLogger", (_logs("test_a_go_host_understands_our_records"),)),
    Mirror("TestClient_Stdin", (Tests("host/test_terminal.py"),)),
    Mirror("TestClient_SkipHostEnv", (_start("test_client_skip_host_env", "test_skip_host_env_of_a_go_host"),)),
    Mirror(
        "TestClient_SecureConfig",
        (_trust("test_a_pinned_go_plugin_runs_from_its_sealed_copy", "test_another_go_plugin_is_not_run"),),
    ),
    Mirror("TestClient_secureConfigAndReattach", Absent("a token names a process that runs; nothing is executed")),
    Mirror("TestClient_TLS, TestClient_TLS_grpc", (_tls("test_client_tls_grpc", "test_client_tls_grpc_of_a_go_host"),)),
    Mirror("TestClient_mtlsClient", (_cells(tls="tls"), _mtls("test_strangers_are_refused_by_our_plugin"))),
    Mirror("TestClient_mtlsNetRPCClient", _NET_RPC),
    Mirror(
        "TestServer_testMode_AutoMTLS",
        (_upgrade("test_what_ends_with_its_host_has_no_token"), _cells(tls="tls", broker="sockets")),
    ),
    Mirror(
        "TestClient_versionedClient, TestClient_legacyClient",
        (_start("test_client_versioned_client", "test_client_versioned_client_of_go"),),
    ),
    Mirror("TestClient_legacyServer", (_start("test_client_legacy_server"),)),
    Mirror("TestProtocolSelection_no_server", (_start("test_client_grpc_not_allowed"),)),
    Mirror(
        "TestClient_reattach, TestClient_reattachGRPC",
        (_reattach("test_plugin_that_a_go_host_has_left", "test_go_host_takes_over_from_ours"),),
    ),
    Mirror("TestClient_reattachNoProtocol", (Tests("test_reattach_token.py", ("test_go_plugins_form_is_read",)),)),
    Mirror("TestClient_reattachNotFound", (_upgrade("test_a_process_that_does_not_answer_is_left_alone"),)),
    Mirror("TestClient_testInterfaceReattach", (_upgrade("test_a_plugin_lives_through_the_upgrade_of_its_host"),)),
    Mirror(
        "TestServer_testMode",
        (
            _reattach(
                "test_go_host_attaches_to_a_plugin_in_debug_mode", "test_our_host_attaches_to_a_plugin_in_debug_mode"
            ),
        ),
    ),
    Mirror("TestUnixSocketDir", (_calls("test_unix_socket_dir"),)),
    Mirror(
        "TestUnixSocketGroupPermissions, TestSetGroup",
        (
            _trust(
                "test_a_go_plugin_opens_its_socket_to_the_group",
                "test_our_plugin_opens_its_socket_to_the_group_of_a_go_host",
            ),
        ),
    ),
    Mirror(
        "TestRmListener", (Tests("sdk/test_listener.py", ("test_a_unix_listener_accepts_at_once_and_leaves_nothing",)),)
    ),
    Mirror(
        "TestClient_testInterface, TestClient_App, TestServer_RPC, TestBasicError_*, TestRmListener_impl",
        _NET_RPC,
    ),
)
"""go-plugin's own tests, as far as they are of its behaviour."""

FAILING: Final = (
    Failing("kill of a SIGSTOPped plugin", "hangs", (_fails("test_kill_of_a_stopped_plugin"),)),
    Failing(
        "kill with a grandchild that holds the pipes",
        "hangs until that ends",
        (_fails("test_kill_with_a_grandchild_that_holds_the_pipes"),),
    ),
    Failing(
        "a Shutdown handler that never returns",
        "hangs",
        (_fails("test_shutdown_handler_that_never_returns", "test_plugin_that_ignores_signals_too"),),
    ),
    Failing('`{"@message": 5}` on stderr', "panics", (_fails("test_log_line_whose_message_is_a_number"),)),
    Failing(
        "a line of 1 MB on stdout",
        "reads stdout no more; the plugin blocks",
        (_fails("test_line_of_a_megabyte_on_stdout"),),
    ),
    Failing("a certificate nobody asked for", "dereferences nil", (_mtls("test_certificate_that_nobody_asked_for"),)),
    Failing("the host is killed by SIGKILL", "its plugins live on", (_fails("test_host_that_is_killed"),)),
    Failing(
        "`PLUGIN_*` inherited by nested hosts",
        "panics, or speaks yamux to who does not",
        (
            _fails(
                "test_variables_of_an_outer_host_and_a_go_plugin",
                "test_variables_of_an_outer_host_and_our_plugin",
                "test_hosts_inside_our_plugin_under_our_host",
                "test_hosts_inside_our_plugin_under_a_go_host",
            ),
        ),
    ),
    Failing("health checks answered by NOT_SERVING", "content", (_fails("test_plugin_that_is_not_serving"),)),
    Failing("reattach to a reused pid", "killed it before 1.6.2", (_reattach("test_recycled_pid_of_a_go_plugin"),)),
    Failing("TCP without TLS", "says nothing", (_mtls("test_tcp_without_tls_is_refused_unless_that_is_meant"),)),
    Failing(
        "the program is swapped after its checksum was taken",
        "runs the other one",
        (
            Tests("runners/test_sealed.py", ("test_row_81_what_was_checked_runs_though_the_file_is_swapped",)),
            _trust("test_a_pinned_go_plugin_runs_from_its_sealed_copy"),
        ),
    ),
)
"""What go-plugin's host does not do well, seen with 1.8.0 or read in its source."""
