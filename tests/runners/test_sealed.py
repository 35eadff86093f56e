"""Pinned programs: what was checked is what runs."""

# Descriptors and processes are listed as the kernel names them; blocking for a moment hurts nobody here.
# ruff: noqa: ASYNC220, ASYNC240

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.abc import ByteSource
from supervisor.errors import ChecksumError, LaunchError
from supervisor.outcome import ExitStatus
from supervisor.runners import subprocess as subprocess_runner
from supervisor.runners.launcher import spawn
from supervisor.runners.sealed import SealedFiles, is_script
from supervisor.runners.subprocess import SubprocessProcess, SubprocessRunner

Launch = Callable[..., Awaitable[SubprocessProcess]]
ReadLine = Callable[[ByteSource], Awaitable[str]]
ReadJson = Callable[[ByteSource], Awaitable[dict[str, Any]]]

REPORT = (
    "import json, os, sys\n"
    "print(json.dumps({'executable': sys.executable, 'prefix': sys.prefix, 'argv': sys.argv, 'cwd': os.getcwd(),\n"
    "    'fds': sorted(map(int, os.listdir('/proc/self/fd')))[:-1], 'environment': dict(os.environ)}), flush=True)\n"
    "sys.stdin.read()\n"
)


def digest_of(path: str | Path) -> str:
    """Return what sha256sum prints."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def sealed(no_leaks: None) -> Iterator[SealedFiles]:
    """The sealed copies of a test."""
    sealed = SealedFiles()
    yield sealed
    sealed.close()


@pytest.fixture
def script(short_dir: Path) -> Path:
    """A script that says `good` and what its arguments are."""
    path = short_dir / "tool"
    path.write_text("#!/bin/sh\necho good $1\n")
    path.chmod(0o755)
    return path


async def test_a_copy_cannot_be_changed_by_anybody(sealed: SealedFiles, script: Path) -> None:
    """Neither written, nor cut, nor extended, nor unsealed; it holds what the file held."""
    copy = await sealed.seal(str(script), digest_of(script))

    for change in (lambda: os.pwrite(copy, b"x", 0), lambda: os.truncate(copy, 1), lambda: os.truncate(copy, 999)):
        with pytest.raises(PermissionError):
            change()
    assert os.pread(copy, 999, 0) == script.read_bytes()
    assert is_script(copy)


async def test_a_file_is_read_once(sealed: SealedFiles, script: Path) -> None:
    """A copy serves every later life, whatever has become of the file."""
    digest = digest_of(script)
    copy = await sealed.seal(str(script), digest)
    script.write_text("something else")

    assert await sealed.seal(str(script), digest) == copy


async def test_two_at_once_make_one_copy_and_cancelling_leaves_none(sealed: SealedFiles, short_dir: Path) -> None:
    """A large file is copied in turns of the loop, so others run meanwhile; the fixture counts descriptors."""
    large = short_dir / "large"
    large.write_bytes(bytes(8 << 20))
    digest = digest_of(large)
    cancelled = asyncio.create_task(sealed.seal(str(large), digest))
    await asyncio.sleep(0)
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled

    one, two = await asyncio.gather(sealed.seal(str(large), digest), sealed.seal(str(large), digest))

    assert one == two


async def test_closing_meanwhile_keeps_nothing(sealed: SealedFiles, short_dir: Path) -> None:
    """A runner that is closed while a copy is made starts nothing from it."""
    large = short_dir / "large"
    large.write_bytes(bytes(8 << 20))
    copying = asyncio.create_task(sealed.seal(str(large), digest_of(large)))
    await asyncio.sleep(0)
    sealed.close()

    with pytest.raises(LaunchError, match="closed"):
        await copying


async def test_what_is_no_regular_file_is_refused(sealed: SealedFiles, short_dir: Path) -> None:
    """A pipe in its place does not make the host wait for a writer."""
    os.mkfifo(short_dir / "pipe")

    with pytest.raises(LaunchError, match="not a regular file"):
        await sealed.seal(str(short_dir / "pipe"), "0" * 64)


async def test_row_81_another_file_is_not_executed(launch: Launch, script: Path) -> None:
    """The error has both digests, the path and the next step."""
    expected = digest_of(script)
    script.write_text("#!/bin/sh\necho evil\n")

    with pytest.raises(ChecksumError, match=r"checksums did not match.*is pinned; restore the file") as caught:
        await launch(str(script), sha256=expected)

    assert (caught.value.path, caught.value.plugin) == (str(script), "evil")
    assert (caught.value.expected, caught.value.actual) == (expected, digest_of(script))


async def test_row_81_what_was_checked_runs_though_the_file_is_swapped(
    launch: Launch, script: Path, read_line: ReadLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the check and the exec the file is replaced, and rewritten in place: the old bytes run."""

    def swap(*arguments: Any, **options: Any) -> Any:
        script.write_text("#!/bin/sh\necho evil\n")
        other = script.with_suffix(".new")
        other.write_text("#!/bin/sh\necho evil\n")
        other.chmod(0o755)
        other.rename(script)
        return spawn(*arguments, **options)

    monkeypatch.setattr(subprocess_runner, "spawn", swap)
    process = await launch(str(script), "too", sha256=digest_of(script))

    assert await read_line(process.stdout) == "good too\n"


async def test_row_81_swaps_by_somebody_else_never_win(launch: Launch, script: Path, read_line: ReadLine) -> None:
    """While another process renames and rewrites as fast as it can, a launch runs the right bytes or none."""
    expected = digest_of(script)
    swapper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", SWAPPER, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert swapper.stdin is not None
    assert swapper.stdout is not None
    refused = 0
    try:
        swapper.stdout.readline()
        for _ in range(100):
            runner = SubprocessRunner(guard=False)  # a new one each time: copies are kept
            try:
                process = await launch(str(script), on=runner, sha256=expected)
            except (ChecksumError, LaunchError):
                refused += 1
            else:
                assert await read_line(process.stdout) == "good\n"
            finally:
                runner.close()
    finally:
        swapper.stdin.close()
        swapper.wait()
        swapper.stdout.close()

    assert refused, "the swapper was too slow to prove anything"


SWAPPER = """
import os, select, sys
path = sys.argv[1]
texts = [open(path).read(), "#!/bin/sh\\necho evil\\n"]
print("ready", flush=True)
turn = 0
while not select.select([0], [], [], 0)[0]:
    turn += 1
    text = texts[turn % 2]
    if turn % 3:
        with open(path + ".new", "w") as new:
            new.write(text)
        os.chmod(path + ".new", 0o755)
        os.rename(path + ".new", path)
    else:
        with open(path, "r+") as file:
            file.write(text)
            file.truncate()
"""


async def test_a_pinned_interpreter_finds_its_virtual_environment(launch: Launch, read_json: ReadJson) -> None:
    """It runs under its own name, with nothing more than three descriptors and the environment that it was given."""
    unpinned = await launch(sys.executable, "-c", REPORT)
    pinned = await launch(sys.executable, "-c", REPORT, sha256=digest_of(sys.executable), verify_owner=False)
    expected, told = await read_json(unpinned.stdout), await read_json(pinned.stdout)

    for told_by in (expected, told):
        for name in ("SUPERVISOR_LINEAGE", "PLUGIN_UNIX_SOCKET_DIR"):
            del told_by["environment"][name]
    assert told == expected
    assert "memfd" in os.readlink(f"/proc/{pinned.pid}/exe")
    assert told["fds"] == [0, 1, 2]


async def test_the_parent_death_signal_is_set_on_pinned_programs(launch: Launch, read_json: ReadJson) -> None:
    """The stub that starts it keeps what was set before."""
    code = (
        "import ctypes, json, os\n"
        "number = ctypes.c_int()\n"
        "ctypes.CDLL(None).prctl(2, ctypes.byref(number))\n"
        "print(json.dumps({'signal': number.value, 'pid': os.getpid()}), flush=True)\n"
    )
    process = await launch(sys.executable, "-c", code, sha256=digest_of(sys.executable), verify_owner=False)

    assert await read_json(process.stdout) == {"signal": 9, "pid": process.pid}


async def test_a_pinned_argument_is_what_an_interpreter_reads(
    launch: Launch, read_json: ReadJson, short_dir: Path
) -> None:
    """`python plugin.py`: a table pins the file by its name in the command, which is relative to `cwd`."""
    plugin = short_dir / "plugin.py"
    plugin.write_text(REPORT)
    pin = {"plugin.py": digest_of(plugin).upper()}
    process = await launch("env", sys.executable, "plugin.py", "--flag", cwd=str(short_dir), sha256=pin)
    told = await read_json(process.stdout)

    assert told["cwd"] == str(short_dir)
    assert told["argv"] == [told["argv"][0], "--flag"]
    assert told["argv"][0].startswith("/proc/self/fd/")

    plugin.write_text("print('evil')")
    runner = SubprocessRunner(guard=False)
    with pytest.raises(ChecksumError):
        await launch("env", sys.executable, "plugin.py", on=runner, cwd=str(short_dir), sha256=pin)
    runner.close()


async def test_what_the_kernel_refuses_is_said_by_the_stub(
    launch: Launch, read_line: ReadLine, short_dir: Path
) -> None:
    """A pinned file of unknown format is not handed to a shell."""
    program = short_dir / "tool"
    program.write_text("echo evil\n")
    program.chmod(0o755)
    process = await launch(str(program), sha256=digest_of(program))

    assert "cannot execute the sealed copy" in await read_line(process.stderr)
    assert await process.wait() == ExitStatus(code=126)


@pytest.mark.skipif(os.geteuid() != 0, reason="a PID namespace with a sysctl of its own takes root")
def test_where_memory_files_cannot_be_executed_it_says_so(script: Path) -> None:
    """With vm.memfd_noexec = 2 a pinned plugin is refused, with the sysctl in the hint."""
    host = (
        "import asyncio, json, sys\n"
        "from supervisor.errors import LaunchError\n"
        "from supervisor.runners.sealed import SealedFiles\n"
        "try: asyncio.run(SealedFiles().seal(sys.argv[1], '0' * 64))\n"
        "except LaunchError as error: print(json.dumps([error.errno, str(error)]))\n"
    )
    enter = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c"]
    set_it = 'echo 2 > /proc/sys/vm/memfd_noexec && exec "$@"'
    done = subprocess.run(
        [*enter, set_it, "sh", sys.executable, "-c", host, str(script)], capture_output=True, check=True
    )
    number, text = json.loads(done.stdout)

    assert number == 13
    assert "vm.memfd_noexec" in text
