"""Row 81, seen from the application: a file that is not the one that was pinned."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub

from supervisor import ChecksumError, PluginFailedError, PluginSpec, State, Supervisor

PLUGIN = f"""
import sys
sys.path[:0] = {sys.path!r}
from kv_proto import GetResponse, KvBase
from supervisor.sdk import serve

class Kv(KvBase):
    async def get(self, message):
        return GetResponse(value=b"good")

serve(Kv())
"""


@pytest.fixture
def spec(tmp_path: Path) -> PluginSpec:
    """A script that is pinned, and run by an interpreter that is not."""
    plugin = tmp_path / "plugin.py"
    plugin.write_text(PLUGIN)
    pins = {"plugin.py": hashlib.sha256(plugin.read_bytes()).hexdigest()}
    return PluginSpec(
        name="store", command=(sys.executable, "plugin.py"), cwd=str(tmp_path), sha256=pins, verify_owner=False
    )


async def test_row_81_another_file_is_given_up_on_at_once(
    spec: PluginSpec, supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    """No restart, no process, nothing executed: the error says what was found; once it is mended a start works."""
    good = (tmp_path / "plugin.py").read_text()
    (tmp_path / "plugin.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    async with supervise(spec) as supervisor:
        plugin = supervisor.plugin("store")
        with pytest.raises(PluginFailedError, match="checksums did not match") as caught:
            await plugin.ready()
        assert (plugin.state, plugin.generation, plugin.pid) == (State.FAILED, 1, None)
        assert not (tmp_path / "ran").exists()

        (tmp_path / "plugin.py").write_text(good)
        await plugin.start()
        assert plugin.state is State.READY

    assert caught.value.report is not None
    assert isinstance(caught.value.report.error, ChecksumError)


async def test_row_81_every_life_runs_the_bytes_that_were_checked(
    spec: PluginSpec, supervise: Callable[..., Supervisor], tmp_path: Path
) -> None:
    """A file that is changed under a running plugin has no part in its next life."""
    async with supervise(spec) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        (tmp_path / "plugin.py").write_text(PLUGIN.replace("good", "evil"))
        await supervisor.plugin("store").restart()
        assert (await kv.get(GetRequest(key="key"))).value == b"good"
