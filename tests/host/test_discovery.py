"""Plugins that are found: asked once what they are, and then kept like any other."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kv_proto import GetRequest, KvStub
from watching import Log

from supervisor import ConfigurationError, Discovery, Interface, Manifest, PluginSpec, Supervisor, discover
from supervisor.errors import PluginFailedError

PLUGIN = f"""#!{sys.executable}
import sys
sys.path[:0] = {sys.path!r}
from kv_proto import GetRequest, GetResponse, KvBase
from supervisor.sdk import Manifest, serve
print("loading")

class Kv(KvBase):
    async def get(self, message):
        return GetResponse(value=b"from " + sys.argv[0].encode())
"""

KV = Interface("kv", KvStub, version=1)

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def clean(nothing_left: None, no_orphan_left: None, no_task_left: None) -> None:
    """Hold every test in this file to leaving nothing behind."""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a program into the folder of plugins."""
    (tmp_path / "plugins").mkdir()

    def write(name: str, text: str, mode: int = 0o755) -> Path:
        path = tmp_path / "plugins" / name
        path.write_text(text)
        path.chmod(mode)
        return path

    return write


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    """Everything in the folder of plugins."""
    return str(tmp_path / "plugins" / "*")


async def test_a_plugin_says_what_it_is_and_is_kept(write: Write, pattern: str) -> None:
    """Its id is its name, its interfaces find it; what it prints before it answers does no harm."""
    path = write("kv.py", PLUGIN + 'serve(Kv(), manifest=Manifest(id="store", version="1.2", interfaces=("kv",)))')
    async with Supervisor(discovery=Discovery(pattern=pattern), observers=[Log()]) as supervisor:
        kv = await supervisor.dispense(KV)
        assert (await kv.get(GetRequest(key="key"))).value == f"from {path}".encode()
        (plugin,) = supervisor.plugins.values()

    assert plugin.name == "store"
    assert plugin.spec.command == (str(path),)
    assert plugin.spec.manifest == Manifest(id="store", version="1.2", interfaces=("kv",), protocols=(1,))
    assert supervisor.spec.plugins == ()


async def test_what_a_plugin_leaves_out_is_filled_in(write: Write, pattern: str) -> None:
    """The file's name without its suffix, the full names of its gRPC services, the versions that it serves."""
    write("kv.py", PLUGIN + "serve(versions={1: [Kv()], 3: [Kv()]})")

    (spec,) = await discover(pattern)

    assert spec.name == "kv"
    assert spec.provides == ("proto.KV",)
    assert spec.manifest == Manifest(interfaces=("proto.KV",), protocols=(1, 3))


@pytest.mark.parametrize(
    "deed",
    [
        "echo 'This binary is a plugin.' >&2; exit 1",
        "exec sleep 1000",
        "trap '' TERM; while true; do echo noise; done",
        "while true; do echo noise >&2; done",
        """echo '{"supervisor_manifest":1,"id":"liar","version":"","interfaces":[],"protocols":[]}'; exit 3""",
        "sleep 1000 & exit 0",
    ],
)
async def test_who_does_not_answer_is_named_after_its_file(write: Write, pattern: str, deed: str) -> None:
    """Programs of others: they complain, hang, flood, fail, leave somebody behind. None keeps the host waiting."""
    write("foreign-1.2", f"#!/bin/sh\n{deed}\n")

    (spec,) = await discover(pattern, timeout=0.5)

    assert (spec.name, spec.provides, spec.manifest) == ("foreign-1.2", (), None)


async def test_what_is_no_program_is_no_plugin(write: Write, pattern: str) -> None:
    """Neither a README, nor a folder, nor a program that was configured by hand."""
    write("README.md", "no program", mode=0o644)
    (Path(pattern).parent / "folder").mkdir()
    own = write("own", "#!/bin/sh\n")
    configured = PluginSpec(name="mine", command=("sh", "./own"), cwd=str(own.parent))

    async with Supervisor([configured], discovery=Discovery(pattern=pattern), observers=[Log()]) as supervisor:
        assert list(supervisor.plugins) == ["mine"]
    assert [spec.name for spec in await discover(pattern)] == ["own"]


async def test_names_are_unique_and_are_names(write: Write, pattern: str) -> None:
    """Both are errors that say where the plugins were found."""
    manifest = """echo '{"supervisor_manifest":1,"id":"store","version":"","interfaces":[],"protocols":[]}'"""
    one, two = (write(name, f"#!/bin/sh\n{manifest}\n") for name in ("one", "two"))
    with pytest.raises(ConfigurationError, match=f"two plugins are named 'store': {one} and {two}"):
        await discover(pattern)

    two.unlink()
    configured = PluginSpec(name="store", command=("true",))
    with pytest.raises(ConfigurationError, match="two plugins are named store"):
        await Supervisor([configured], discovery=Discovery(pattern=pattern)).__aenter__()

    one.rename(one.with_name("Not A Name"))
    one.with_name("Not A Name").write_text("#!/bin/sh\n")
    with pytest.raises(ConfigurationError, match=r"Not A Name: 'Not A Name' is not a plugin name") as caught:
        await discover(pattern)
    assert caught.value.path is not None


async def test_a_wrong_manifest_is_an_error(write: Write, pattern: str) -> None:
    """Somebody meant to say something; the error says who and what."""
    write("kv", """#!/bin/sh\necho '{"supervisor_manifest":7}'\n""")
    with pytest.raises(ConfigurationError, match=r"plugins/kv: manifest .* its format is 7"):
        await discover(pattern)


async def test_row_82_what_others_could_write_is_not_run(write: Write, pattern: str, tmp_path: Path) -> None:
    """Not even to be asked. Its plugin is there and says why it cannot be used; the others are not held up."""
    write("evil", f"#!/bin/sh\ntouch {tmp_path}/ran\n", mode=0o777)
    async with Supervisor(discovery=Discovery(pattern=pattern), observers=[Log()]) as supervisor:
        with pytest.raises(PluginFailedError, match="is not trusted: others can write"):
            await supervisor.plugin("evil").ready()

    assert not (tmp_path / "ran").exists()

    template = PluginSpec(name="template", command=("template",), verify_owner=False)
    await discover(pattern, template=template)
    assert (tmp_path / "ran").exists()


async def test_entry_points_are_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed names a function that serves; it is run by the host's interpreter, under its own name."""
    (tmp_path / "found.py").write_text(PLUGIN + "def main():\n    serve(Kv())\n")
    info = tmp_path / "found-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: found\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[supervisor.plugins]\nstore = found:main\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    template = PluginSpec(
        name="template", command=("template",), env={"PYTHONPATH": os.pathsep.join(sys.path)}, log_level="debug"
    )
    discovery = Discovery(entry_points=True, template=template)
    async with Supervisor(discovery=discovery, observers=[Log()]) as supervisor:
        kv = await supervisor.dispense("store", KvStub)
        assert (await kv.get(GetRequest(key="key"))).value.startswith(b"from ")
        spec = supervisor.plugin("store").spec

    assert spec.command == (sys.executable, "-P", "-m", "supervisor.sdk.entry", "store")
    assert (spec.provides, spec.log_level) == (("proto.KV",), "debug")


async def test_the_configuration_can_say_where_to_look(write: Write, tmp_path: Path) -> None:
    """`discover` starts in the file's folder; what is found has the file's defaults; services go by their names."""
    write("kv.py", PLUGIN + "serve(Kv())")
    file = tmp_path / "plugins.toml"
    file.write_text('[supervisor]\ndiscover = "plugins/*"\n[defaults]\nversions = [1, 2]\n')

    async with Supervisor.from_config(file, observers=[Log()], services={"kv": []}) as supervisor:
        await supervisor.ready()
        assert supervisor.plugin("kv").spec.versions == (1, 2)

    with pytest.raises(
        ConfigurationError, match=r"services for 'absent', which no plugin is named; the plugins are: kv"
    ):
        await Supervisor.from_config(file, observers=[Log()], services={"absent": []}).__aenter__()


async def test_cancelled_it_leaves_nobody(write: Write, pattern: str, tmp_path: Path) -> None:
    """Entering may be cancelled while programs are asked."""
    os.mkfifo(tmp_path / "started")
    write("slow", f"#!/bin/sh\necho > {tmp_path}/started\nexec sleep 1000\n")
    entering = asyncio.create_task(Supervisor(discovery=Discovery(pattern=pattern)).__aenter__())
    await asyncio.to_thread((tmp_path / "started").read_text)
    entering.cancel()

    with pytest.raises(asyncio.CancelledError):
        await entering
    await asyncio.get_running_loop().shutdown_default_executor()


def test_nothing_to_discover_is_refused() -> None:
    """A discovery that looks nowhere is a mistake, and so are pins for what is not known yet."""
    with pytest.raises(ConfigurationError, match="nothing to discover"):
        Discovery()
    with pytest.raises(ConfigurationError, match="sha256 cannot pin"):
        Discovery(pattern="*", template=PluginSpec(name="a", command=("a",), sha256="0" * 64))
