"""From a specification to what is really executed: the program is found, checked and, if it is pinned, sealed."""

# Plain strings: the kernel gets paths as they were given, and pathlib rewrites them.

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.util import find_spec

from supervisor.errors import LaunchError
from supervisor.runners.executable import Format, Program, check_directory, resolve_program
from supervisor.runners.guard import Guard
from supervisor.runners.launcher import command_line
from supervisor.runners.ownership import check_inside, check_ownership
from supervisor.runners.sealed import SealedFiles, descriptor_path, is_script
from supervisor.spec import PluginSpec

__all__ = ["PreparedCommand", "prepare_command"]

_STUB = "supervisor.runners.sealed_exec"


@dataclass(frozen=True, slots=True)
class PreparedCommand:
    """What to execute.

    Attributes:
        line: the argument vector.
        descriptors: what the child must inherit: sealed copies of files that it names.
    """

    line: tuple[str, ...]
    descriptors: tuple[int, ...] = ()


async def prepare_command(spec: PluginSpec, *, search: str, sealed: SealedFiles) -> PreparedCommand:
    """Look at everything that `spec` executes and return how to start it. Safe to cancel; nothing has been started.

    Args:
        spec: what to run.
        search: the plugin's PATH.
        sealed: where sealed copies are kept.

    Raises:
        ChecksumError: a file is not the one that is pinned.
        LaunchError: the program cannot run, or is not trusted.
        OSError: the system refused.
    """
    check_directory(spec.cwd)
    program = _find_program(spec, search)
    if spec.plugin_dir is not None:
        check_inside(program.path, spec.plugin_dir)
    files = _find_files(spec, program)
    if spec.verifies_owner:
        for path in files.values():
            check_ownership(path)
    copies = {name: await sealed.seal(files[name], digest) for name, digest in spec.pins.items()}
    arguments = [descriptor_path(copies[part]) if part in copies else part for part in spec.command[1:]]
    descriptors = tuple(copies.values())
    bound = not spec.survive_host
    if spec.command[0] not in copies:
        return PreparedCommand(tuple(command_line(program, arguments, bound=bound)), descriptors)
    stub = _stub_line(copies[spec.command[0]], kept=spec.command[0] in spec.command[1:])
    line = command_line(Program(sys.executable, Format.NATIVE), [*stub, program.path, *arguments], bound=bound)
    return PreparedCommand(tuple(line), descriptors)


def _find_program(spec: PluginSpec, search: str) -> Program:
    name = spec.command[0]
    if spec.plugin_dir is not None and "/" not in name:
        name = os.path.join(os.path.abspath(spec.plugin_dir), name)
    return resolve_program(name, search=search, cwd=spec.cwd)


def _find_files(spec: PluginSpec, program: Program) -> dict[str, str]:
    """Return the absolute paths of the program and of what is pinned, by their names in the command."""
    base = os.path.abspath(spec.cwd or os.getcwd())
    return {name: os.path.join(base, name) for name in spec.pins} | {spec.command[0]: program.path}


def _stub_line(descriptor: int, *, kept: bool) -> list[str]:
    """Return how the stub is run that becomes the program; see `sealed_exec`."""
    stub = find_spec(_STUB)
    if not Guard.possible() or stub is None or stub.origin is None or not os.path.isfile(stub.origin):
        raise LaunchError("a pinned program needs a Python interpreter to start it", hint="is this host frozen?")
    keep = kept or is_script(descriptor)
    return ["-I", "-S", stub.origin, str(descriptor), str(int(keep))]
