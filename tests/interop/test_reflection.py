"""Reflection of our plugins, as grpc-go's client and as grpcurl see it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from peers import COOKIE, PATIENCE, PYTHONPATH, GoHost, python_command

from supervisor.address import UnixAddress
from supervisor.handshake import parse_handshake

GRPCURL = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3"


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


def test_a_go_client_lists_our_services_by_both_versions(go_host: GoHost) -> None:
    """grpc-go's own reflection client gets the application's services and the standard ones, and no more than that."""
    steps = go_host("reflection", plugin="served_two.py")

    listed = {step["step"]: step["services"] for step in steps if step["step"].startswith("reflection")}
    expected = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "interop.Greeter",
        "proto.KV",
    ]
    assert listed == {"reflection v1": expected, "reflection v1alpha": expected}
    assert [step for step in steps if not step["ok"]] == []


@pytest.fixture(scope="module")
def grpcurl(go: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return grpcurl, built from the module proxy once for the run; `go` says what happens where there is no Go."""
    folder = tmp_path_factory.mktemp("grpcurl")
    environment = {**os.environ, "GOBIN": str(folder)}
    subprocess.run(["go", "install", GRPCURL], cwd=folder, env=environment, check=True, timeout=900)
    return folder / "grpcurl"


@pytest.fixture
def address() -> Iterator[str]:
    """Run the streaming plugin by hand, as a host would, and return where it listens."""
    variables = {COOKIE.key: COOKIE.value, "PLUGIN_PROTOCOL_VERSIONS": "1", "PYTHONPATH": PYTHONPATH}
    with subprocess.Popen(
        python_command("served_streaming.py"), stdout=subprocess.PIPE, env={**os.environ, **variables}
    ) as plugin:
        assert plugin.stdout is not None
        handshake = parse_handshake(plugin.stdout.readline(), versions=(1,))
        assert isinstance(handshake.address, UnixAddress)
        yield f"unix://{handshake.address.path}"
        plugin.terminate()


def run(grpcurl: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run grpcurl."""
    command = [str(grpcurl), "-plaintext", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_grpcurl_lists_describes_and_calls(grpcurl: Path, address: str) -> None:
    """With nothing but the address; the descriptors lie beside the generated code."""
    assert "interop.Streaming" in run(grpcurl, address, "list").stdout.split()
    assert run(grpcurl, address, "describe", "interop.Streaming.Hung").stdout == (
        "interop.Streaming.Hung is a method:\nrpc Hung ( .google.protobuf.Empty ) returns ( .interop.Item );\n"
    )
    everything = run(grpcurl, address, "describe")
    assert everything.returncode == 0
    assert "service ServerReflection {" in everything.stdout

    counted = run(grpcurl, "-d", '{"count": 2, "size": 3}', address, "interop.Streaming/Count").stdout
    items = json.loads("[" + counted.replace("}\n{", "},{") + "]")
    assert items == [{"payload": "AAAA"}, {"number": "1", "payload": "AAAA"}]

    unknown = run(grpcurl, address, "describe", "nobody.Knows")
    assert unknown.returncode == 1
    assert "Symbol not found: nobody.Knows" in unknown.stderr
