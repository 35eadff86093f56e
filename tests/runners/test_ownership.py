"""Who could have written a program, and where it may lie."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import LaunchError
from supervisor.runners.ownership import check_inside, check_ownership
from supervisor.runners.subprocess import SubprocessProcess

Launch = Callable[..., Awaitable[SubprocessProcess]]

STRANGER = 12345

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving a file away takes root")


@pytest.fixture
def folder(short_dir: Path) -> Iterator[Path]:
    """Two folders, one in the other, and a program in the inner one; all of it ours alone."""
    before = os.umask(0o022)
    (short_dir / "outer" / "inner").mkdir(parents=True)
    program = short_dir / "outer" / "inner" / "tool"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    yield short_dir / "outer"
    os.umask(before)


def refuse(path: Path) -> str:
    """Check a path and return why it is not trusted."""
    with pytest.raises(LaunchError, match="is not trusted") as caught:
        check_ownership(str(path))
    assert caught.value.errno == errno.EPERM
    assert caught.value.hint
    return str(caught.value)


def test_what_only_we_and_root_can_write_is_trusted(folder: Path) -> None:
    """The sticky `/tmp` above it is no objection, and neither is a link of ours."""
    (folder / "link").symlink_to("inner/../inner/tool")
    check_ownership(str(folder / "inner" / "tool"))
    check_ownership(str(folder / "link"))
    check_ownership("/bin/sh")


@pytest.mark.parametrize("place", ["inner/tool", "inner", "."])
@pytest.mark.parametrize("mode", [0o020, 0o002])
def test_row_82_what_others_can_write_is_refused(folder: Path, place: str, mode: int) -> None:
    """The file, its folder and the folder above, to the group as to the world; the error names the place."""
    culprit = folder / place
    culprit.chmod(0o755 | mode)

    assert f"others can write {str(culprit)!r}" in refuse(folder / "inner" / "tool")


def test_row_82_a_sticky_file_is_no_sticky_folder(folder: Path) -> None:
    """The bit protects what is in a folder, and means nothing on a file."""
    (folder / "inner" / "tool").chmod(0o1777)

    assert "others can write" in refuse(folder / "inner" / "tool")


@as_root
@pytest.mark.parametrize("place", ["inner/tool", "inner", ".", "link"])
def test_row_82_what_belongs_to_others_is_refused(folder: Path, place: str) -> None:
    """Whoever owns a file, a folder or a link can change it, whatever its mode says now."""
    (folder / "link").symlink_to("inner/tool")
    os.chown(folder / place, STRANGER, -1, follow_symlinks=False)

    assert f"belongs to user {STRANGER}" in refuse(folder / "link")


def test_row_82_where_a_link_leads_is_looked_at_too(folder: Path) -> None:
    """A link that is ours, into a folder that is not only ours."""
    (folder / "links").mkdir()
    (folder / "links" / "tool").symlink_to(folder / "inner" / "tool")
    (folder / "inner").chmod(0o777)

    assert "inner" in refuse(folder / "links" / "tool")


def test_links_in_a_circle_end(folder: Path) -> None:
    """As the kernel ends them."""
    (folder / "circle").symlink_to("circle")
    with pytest.raises(OSError, match="symbolic links"):
        check_ownership(str(folder / "circle"))


def test_row_82_a_program_lies_in_its_directory(folder: Path) -> None:
    """Neither another directory, nor one whose name begins alike, nor a link out of it, nor a linked directory."""
    inside, outside = folder / "inner", folder / "inner-not"
    outside.mkdir()
    (outside / "tool").touch()
    (inside / "out").symlink_to(outside / "tool")
    (inside / "in").symlink_to("tool")
    (folder / "linked").symlink_to("inner")

    check_inside(str(inside / "tool"), str(inside))
    check_inside(str(inside / "in"), str(inside))
    for path, directory in ((outside / "tool", inside), (inside / "out", inside), (inside / "tool", folder / "linked")):
        with pytest.raises(LaunchError, match="plugin_dir"):
            check_inside(str(path), str(directory))
    with pytest.raises(LaunchError, match="symbolic link"):
        check_inside(str(inside / "tool"), f"{folder}/linked/.")


async def test_ownership_is_checked_when_it_matters(launch: Launch, folder: Path) -> None:
    """By itself with `sha256` and with `plugin_dir`, or when asked for; and not when that was refused."""
    program = folder / "inner" / "tool"
    (folder / "inner").chmod(0o777)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()

    refused: tuple[dict[str, Any], ...] = (
        {"verify_owner": True},
        {"sha256": digest},
        {"plugin_dir": str(folder / "inner")},
    )
    for settings in refused:
        with pytest.raises(LaunchError, match="is not trusted"):
            await launch(str(program), **settings)
    accepted: tuple[dict[str, Any], ...] = ({}, {"sha256": digest, "verify_owner": False})
    for settings in accepted:
        assert await (await launch(str(program), **settings)).stdout.receive() == b"ran\n"


async def test_a_pinned_argument_is_checked_too(launch: Launch, folder: Path) -> None:
    """It is what an interpreter executes."""
    program = folder / "inner" / "tool"
    (folder / "inner").chmod(0o777)
    digest = hashlib.sha256(program.read_bytes()).hexdigest()

    with pytest.raises(LaunchError, match="is not trusted"):
        await launch("sh", "inner/tool", cwd=str(folder), sha256={"inner/tool": digest})


async def test_a_bare_name_is_looked_up_in_the_plugin_directory(launch: Launch, folder: Path) -> None:
    """And nowhere else: what is on the PATH does not lie in it."""
    process = await launch("tool", plugin_dir=str(folder / "inner"))
    assert await process.stdout.receive() == b"ran\n"

    for name in ("sh", "/bin/sh"):
        with pytest.raises(LaunchError):
            await launch(name, plugin_dir=str(folder / "inner"))
