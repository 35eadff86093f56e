from __future__ import annotations

import errno
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from supervisor.errors import LaunchError
from supervisor.runners.executable import Format, Program, _loader, check_directory, resolve_program

PATH = "/usr/bin:/bin"


def script(path: Path, text: str | bytes, mode: int = 0o755) -> Path:
    """Write a program."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_a_bare_name_is_searched_in_the_plugins_path(tmp_path: Path) -> None:
    """The first executable file of that name wins; the host's own PATH does not matter."""
    (tmp_path / "not-it" / "tool").mkdir(parents=True)
    (tmp_path / "denied").mkdir()
    script(tmp_path / "denied" / "tool", "#!/bin/sh\n", mode=0o644)
    (tmp_path / "right").mkdir()
    tool = script(tmp_path / "right" / "tool", "#!/bin/sh\n")
    search = ":".join(str(tmp_path / folder) for folder in ("not-it", "denied", "right"))

    assert resolve_program("tool", search=search, cwd=None) == Program(str(tool), Format.SCRIPT)


def test_the_working_directory_is_not_searched(tmp_path: Path) -> None:
    """An empty PATH entry does not mean the working directory, as it does for a shell."""
    script(tmp_path / "tool", "#!/bin/sh\n")

    with pytest.raises(LaunchError) as caught:
        resolve_program("tool", search=":", cwd=str(tmp_path))

    assert caught.value.errno == errno.ENOENT


def test_a_relative_path_starts_at_the_plugins_working_directory(tmp_path: Path) -> None:
    """`./tool` is the one in `cwd`, not the one beside the host."""
    tool = script(tmp_path / "tool", "#!/bin/sh\n")

    assert Path(resolve_program("./tool", search="", cwd=str(tmp_path)).path).samefile(tool)


def test_a_link_to_an_interpreter_keeps_its_own_path(tmp_path: Path) -> None:
    """A virtual environment's python must be started by its own name: it finds its packages from there."""
    link = tmp_path / "python"
    link.symlink_to(sys.executable)

    assert resolve_program(str(link), search="", cwd=None) == Program(str(link), Format.NATIVE)


@pytest.mark.parametrize(
    ("content", "mode", "expected", "word"),
    [
        (None, 0o755, errno.ENOENT, "No such file"),
        ("directory", 0o755, errno.EACCES, "directory"),
        ("#!/bin/sh\n", 0o644, errno.EACCES, "not executable"),
        ("#!/nowhere/sh\n", 0o755, errno.ENOENT, "/nowhere/sh"),
        ("#!\n", 0o755, errno.ENOENT, "interpreter"),
        ("#!/bin/sh\r\n", 0o755, errno.ENOENT, "carriage return"),
        ("#!/usr/bin/env no-such-interpreter\n", 0o755, errno.ENOENT, "no-such-interpreter"),
    ],
)
def test_row_1_a_program_that_cannot_run_is_refused(
    tmp_path: Path, content: str | None, mode: int, expected: int, word: str
) -> None:
    """Each refusal carries the kernel's number, names the culprit and has a hint, before anything is started."""
    path = tmp_path / "program"
    if content == "directory":
        path.mkdir()
    elif content is not None:
        script(path, content, mode)

    with pytest.raises(LaunchError) as caught:
        resolve_program(str(path), search=PATH, cwd=None)

    assert caught.value.errno == expected
    assert word in str(caught.value)
    assert caught.value.hint


def test_a_device_is_not_a_program() -> None:
    """What is not a regular file is refused before it is opened: opening a pipe or a device could block."""
    with pytest.raises(LaunchError) as caught:
        resolve_program("/dev/null", search="", cwd=None)

    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize(
    "content", [b"", b"echo hello\n", b"MZ\x90\0", b"\x7fELF", b"\x7fELF\x02\x01\x01" + b"\xff" * 60]
)
def test_an_unknown_format_is_left_to_the_kernel(tmp_path: Path, content: bytes) -> None:
    """The kernel may have a handler for it; nobody else must guess."""
    path = script(tmp_path / "program", content)

    assert resolve_program(str(path), search="", cwd=None).format is Format.UNKNOWN


def test_env_with_options_is_not_second_guessed(tmp_path: Path) -> None:
    """`#!/usr/bin/env -S prog -x` is for env to take apart."""
    path = script(tmp_path / "program", "#!/usr/bin/env -S no-such-program -x\n")

    assert resolve_program(str(path), search=PATH, cwd=None).format is Format.SCRIPT


def test_scripts_that_interpret_each_other_are_for_the_kernel_to_refuse(tmp_path: Path) -> None:
    """Two scripts that name each other end the check, not the stack."""
    one, two = tmp_path / "one", tmp_path / "two"
    script(one, f"#!{two}\n")
    script(two, f"#!{one}\n")

    assert resolve_program(str(one), search="", cwd=None).format is Format.SCRIPT


def elf(interpreter: bytes) -> bytes:
    """The head of a 64-bit little-endian program with one PT_INTERP header."""
    own = Path(sys.executable).resolve().read_bytes()[:64]
    head = bytearray(own)
    struct.pack_into("<Q", head, 32, 64)
    struct.pack_into("<HH", head, 54, 56, 1)
    entry = bytearray(56)
    struct.pack_into("<I", entry, 0, 3)
    struct.pack_into("<Q", entry, 8, 120)
    struct.pack_into("<Q", entry, 32, len(interpreter) + 1)
    return bytes(head + entry) + interpreter + b"\0"


@pytest.mark.skipif(sys.maxsize < 2**32 or sys.byteorder != "little", reason="builds a 64-bit little-endian header")
def test_a_program_for_another_c_library_is_explained(tmp_path: Path) -> None:
    """The kernel's `No such file` for a file that is there becomes the name of the loader that is not."""
    path = script(tmp_path / "program", elf(b"/lib/ld-other-libc.so.1"))

    with pytest.raises(LaunchError, match=r"ld-other-libc\.so\.1") as caught:
        resolve_program(str(path), search="", cwd=None)

    assert caught.value.errno == errno.ENOENT


@given(st.binary(min_size=6, max_size=300).map(lambda tail: b"\x7fELF" + tail))
@example(b"\x7fELF\x02\x01" + b"\xff" * 100)
def test_a_garbled_header_is_not_an_error(head: bytes) -> None:
    """Whatever stands in an ELF header, looking for the loader ends with an answer."""
    assert _loader(head) is None or isinstance(_loader(head), bytes)


@pytest.mark.parametrize(("cwd", "expected"), [("missing", errno.ENOENT), ("file", errno.ENOTDIR)])
def test_row_1_a_bad_working_directory_is_refused(tmp_path: Path, cwd: str, expected: int) -> None:
    """A wrong `cwd` is told apart from a missing program, although the kernel's number may be the same."""
    (tmp_path / "file").touch()

    with pytest.raises(LaunchError, match="cannot start in") as caught:
        check_directory(str(tmp_path / cwd))

    assert caught.value.errno == expected
