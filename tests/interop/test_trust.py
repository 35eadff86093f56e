"""Pinned and discovered Go programs, and sockets that a group may reach, with the real go-plugin."""

# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here.
# ruff: noqa: ASYNC240

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub, PutRequest
from peers import COOKIE, ONCE, GoHost, MakeSpec
from watching import Log, exit_of

from supervisor import ChecksumError, Discovery, PluginFailedError, PluginSpec, Supervisor, discover
from supervisor.events import HandshakeDone

TEMPLATE = PluginSpec(name="template", command=("template",), cookie=COOKIE, restart=ONCE)


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


async def keeps_a_value(supervisor: Supervisor, name: str) -> bool:
    """Put a value and get it back."""
    kv = await supervisor.dispense(name, KvStub)
    await kv.put(PutRequest(key="key", value=b"value"))
    return (await kv.get(GetRequest(key="key"))).value == b"value"


async def test_a_pinned_go_plugin_runs_from_its_sealed_copy(go_plugin: MakeSpec, go: Path) -> None:
    """go-plugin's SecureConfig hashes the file and then executes the path; here the hashed bytes are what runs."""
    digest = hashlib.sha256((go / "kv").read_bytes()).hexdigest()
    async with Supervisor([go_plugin("kv", sha256=digest, verify_owner=False)], observers=[Log()]) as supervisor:
        assert await keeps_a_value(supervisor, "peer")
        plugin = supervisor.plugin("peer")
        assert "memfd" in os.readlink(f"/proc/{plugin.pid}/exe")
        assert Path(f"/proc/{plugin.pid}/cmdline").read_bytes().split(b"\0")[0] == str(go / "kv").encode()


async def test_another_go_plugin_is_not_run(go_plugin: MakeSpec) -> None:
    """Given up at once, whatever the restart policy says: no restart mends it."""
    spec = replace(
        go_plugin("kv", sha256="0" * 64, verify_owner=False), restart=PluginSpec(name="a", command=("a",)).restart
    )
    async with Supervisor([spec], observers=[Log()]) as supervisor:
        with pytest.raises(PluginFailedError, match="checksums did not match"):
            await supervisor.dispense("peer", KvStub)
        report = await exit_of(supervisor)
        assert supervisor.plugin("peer").generation == 1

    assert isinstance(report.error, ChecksumError)
    assert report.pid is None


async def test_a_go_plugin_is_discovered_by_its_file(go: Path, tmp_path: Path) -> None:
    """It does not know the question and says that it is a plugin, so it is named after its file; then it is kept."""
    shutil.copy(go / "kv", tmp_path / "kv-go")
    pattern = str(tmp_path / "kv-*")
    (spec,) = await discover(pattern, template=TEMPLATE)
    assert (spec.name, spec.manifest) == ("kv-go", None)

    async with Supervisor(discovery=Discovery(pattern=pattern, template=TEMPLATE), observers=[Log()]) as supervisor:
        assert await keeps_a_value(supervisor, "kv-go")


async def test_a_go_plugin_opens_its_socket_to_the_group(go_plugin: MakeSpec) -> None:
    """It takes the group and the directory from the environment; our directory lets the group pass."""
    group = os.getegid() if os.geteuid() else 54321
    log = Log()
    async with Supervisor([go_plugin("kv", socket_group=str(group))], observers=[log]) as supervisor:
        assert await keeps_a_value(supervisor, "peer")
        (done,) = log.of(HandshakeDone)
        status = Path(done.address).stat()

    assert (status.st_gid, status.st_mode & 0o777) == (group, 0o660)
    assert not Path(done.address).parent.exists()


@pytest.mark.parametrize("flags", [(), ("-runner",)], ids=["no directory", "directory"])
def test_our_plugin_opens_its_socket_to_the_group_of_a_go_host(go_host: GoHost, flags: tuple[str, ...]) -> None:
    """With a RunnerFunc's directory, and without one in a directory of our own that the group may pass."""
    group = os.getegid() if os.geteuid() else 54321
    steps = go_host("kv", "-group", str(group), *flags, plugin="served_kv.py")

    assert [step for step in steps if not step["ok"]] == []
