"""What a plugin answers to a host that looks for plugins, and how entry points are run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from raw_host import RawHost

from supervisor.manifest import MANIFEST_VARIABLE, Manifest, find_manifest

SERVE = """
from supervisor.sdk import Manifest, serve

class Kv:
    def __mapping__(self):
        return {"/kv.Kv/Get": None, "/kv.Kv/Put": None}

class Blob:
    def __mapping__(self):
        return {"/blob.Blob/Get": None}
"""


def ask(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program as a host that asks for its manifest does."""
    known = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), MANIFEST_VARIABLE: "1"}
    return subprocess.run(
        [sys.executable, *(("-c", SERVE + program) if program else ()), *arguments],
        env=known | environment,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_it_answers_and_ends() -> None:
    """With status 0 and nothing on stderr; what the author said stands, the rest is filled in."""
    done = ask("serve(versions={1: [Kv()], 2: [Kv(), Blob()]}, manifest=Manifest(id='store', version='1.2'))")

    assert (done.returncode, done.stderr) == (0, b"")
    assert find_manifest(done.stdout) == Manifest(
        id="store", version="1.2", interfaces=("blob.Blob", "kv.Kv"), protocols=(1, 2)
    )


def test_a_word_without_a_newline_before_it_does_no_harm() -> None:
    """The answer begins on a line of its own."""
    done = ask("print('loading ...', end='')\nserve(Kv())")

    assert find_manifest(done.stdout) == Manifest(interfaces=("kv.Kv",), protocols=(1,))


def test_a_plugin_that_cannot_serve_has_no_manifest() -> None:
    """Its mistake is said as it is at any other start."""
    done = ask("serve(manifest=Manifest(id='store'))")

    assert (done.returncode, find_manifest(done.stdout)) == (1, None)
    assert b"version 1 has no services" in done.stderr


async def test_a_host_that_shows_the_cookie_is_served(start: Callable[..., RawHost]) -> None:
    """Whatever else a plugin inherits: that variable asks only who would be turned away."""
    plugin = start(**{MANIFEST_VARIABLE: "1"})
    assert plugin.handshake.version == 1


def test_an_entry_point_that_is_not_there() -> None:
    """It is said to people, with status 1."""
    done = ask("", "-P", "-m", "supervisor.sdk.entry", "absent")

    assert done.returncode == 1
    assert done.stderr == b"no entry point named 'absent' in the group 'supervisor.plugins'\n"
