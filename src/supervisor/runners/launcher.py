"""Start a child whose death is, as a rule, bound to ours, with nothing but its three standard descriptors.

`preexec_fn`, `user` and `group` are out: they make `Popen` fork instead of vfork, which costs a large host tens of
milliseconds per start and is unsafe with threads. So the parent-death signal is set by util-linux's `setpriv`, which then
becomes the program.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache

from supervisor.runners.child import Child
from supervisor.runners.executable import Format, Program
from supervisor.runners.host_only import HostOnly
from supervisor.spec import Stdin

__all__ = ["Launched", "command_line", "spawn"]

# Fixed places, not PATH: what starts every plugin must not be found by accident.
_SETPRIV = ("/usr/bin/setpriv", "/bin/setpriv", "/usr/sbin/setpriv")


_REAP = 1.0


@dataclass(frozen=True, slots=True)
class Launched:
    """A started child and our ends of its pipes.

    Attributes:
        child: the process, leader of its own session and group unless it shares our terminal.
        lifeline: the writing end of its standard input; nothing is ever written, it closes when the host dies. None
            when its standard input is something else.
        stdout: the reading end of its standard output.
        stderr: the reading end of its standard error.
    """

    child: Child
    lifeline: HostOnly | None
    stdout: int
    stderr: int

    def abandon(self) -> None:
        """Undo the launch: kill the group and close everything."""
        self.child.signal_group(9)
        self.child.wait_blocking(_REAP)
        self.child.close()
        if self.lifeline is not None:
            self.lifeline.close()
        os.close(self.stdout)
        os.close(self.stderr)


def command_line(program: Program, arguments: Sequence[str], *, bound: bool = True) -> list[str]:
    """Return the argument vector that runs `program` and, if it is `bound`, has the kernel kill it when this thread ends.

    A program of unknown format is started directly: the kernel's own refusal reaches us, and no launcher gets the idea
    to run it with a shell. Such a program, and all on systems without `setpriv`, must be found by the guard.
    """
    direct = [program.path, *arguments]
    setpriv = _find_setpriv() if bound and program.format is not Format.UNKNOWN else None
    return direct if setpriv is None else [setpriv, "--pdeathsig", "KILL", "--", *direct]


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str | None,
    stdin: Stdin | None = Stdin.LIFELINE,
    inherited: Sequence[int] = (),
    use_pidfd: bool = True,
) -> Launched:
    """Start `command` in a session of its own; with our own stdin, in ours.

    A terminal belongs to a session, and lets one process group of it read: who is to use ours has to be in both.

    Call it on the loop's thread: the parent-death signal is bound to the thread that starts a child, not to the process.
    Blocks until the program is executing, a millisecond as a rule.

    Args:
        command: the argument vector.
        env: the whole environment.
        cwd: where it starts; our own working directory when None.
        stdin: what it reads; nothing when None.
        inherited: more descriptors that it gets, under the same numbers.
        use_pidfd: whether to use a pidfd where the platform has them.

    Raises:
        OSError: the kernel refused; nothing is left behind.
        ValueError: an argument or a variable cannot be passed (NUL, `=` in a name).
    """
    with ExitStack() as ours, ExitStack() as theirs:
        held = None
        source: int | None = None if stdin is Stdin.INHERIT else subprocess.DEVNULL
        if stdin is Stdin.LIFELINE:
            source, lifeline = os.pipe()
            theirs.callback(os.close, source)
            held = HostOnly(lifeline)
            ours.callback(held.close)
        stdout, stdout_writer = os.pipe()
        theirs.callback(os.close, stdout_writer)
        ours.callback(os.close, stdout)
        stderr, stderr_writer = os.pipe()
        theirs.callback(os.close, stderr_writer)
        ours.callback(os.close, stderr)
        process = subprocess.Popen(  # noqa: S603 - a vector, never a shell
            command,
            stdin=source,
            stdout=stdout_writer,
            stderr=stderr_writer,
            env=env,
            cwd=cwd,
            start_new_session=stdin is not Stdin.INHERIT,
            close_fds=True,
            pass_fds=inherited,
        )
        child = Child.adopt(process, leads_group=stdin is not Stdin.INHERIT, use_pidfd=use_pidfd)
        ours.pop_all()
        return Launched(child, held, stdout, stderr)


@cache
def _find_setpriv() -> str | None:
    """Find a `setpriv` that knows `--pdeathsig` (busybox's does not), by trying it once per process."""
    for path in _SETPRIV:
        if not os.access(path, os.X_OK):
            continue
        try:
            probe = subprocess.run(  # noqa: S603 - a fixed path
                [path, "--pdeathsig", "KILL", "--", path, "--version"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env={},
                timeout=5,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if probe.returncode == 0 and b"util-linux" in probe.stdout:
            return path
    return None
