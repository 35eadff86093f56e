"""Run plugins as child processes, and leave none of them behind.

What holds a plugin to its host, in layers, each for what the one before it cannot do:

1. its own session and process group: one signal reaches all that did not leave it;
2. a token in its environment: what left the group is found through `/proc` and killed (`lineage`);
3. the parent-death signal: the kernel kills it when the host dies (`launcher`);
4. the guard, a process that sweeps for the host's token once the host is gone (`guard`);
5. a pipe on standard input that ends with the host: programs that watch it end by themselves.

Layers 2 to 4 are Linux only. On other POSIX systems a process that left its group is not found, and only programs that
watch their standard input end with a host that was killed. Windows is not supported by this runner.

A plugin with `survive_host` is held by none but the first, and its own token; `caretaker` looks after it. One with the
host's stdin has no session of its own, so that layer 1 is missing.

What it isolates is crashes, not malice: a plugin runs as the host's user and can do what that user can.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sys
import warnings
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from socket import socket

from anyio.lowlevel import checkpoint

from supervisor.address import Address, UnixAddress
from supervisor.errors import LaunchError, ReattachError
from supervisor.outcome import ExitStatus
from supervisor.reattach import ProcessIdentity, ReattachToken
from supervisor.runners import lineage
from supervisor.runners.attached import AttachedSubprocess, attach
from supervisor.runners.caretaker import Caretaker
from supervisor.runners.child import watch_exit
from supervisor.runners.command import PreparedCommand, prepare_command
from supervisor.runners.environment import build_environment, extend_lineage
from supervisor.runners.guard import Guard
from supervisor.runners.host_only import HostOnly
from supervisor.runners.launch_errors import launch_error
from supervisor.runners.launcher import Launched, spawn
from supervisor.runners.oom import CGROUP_ROOT, OomCounter
from supervisor.runners.pipes import PipeReader
from supervisor.runners.process_table import identify
from supervisor.runners.runtime_directory import RuntimeDirectory, remove_directory
from supervisor.runners.sealed import SealedFiles
from supervisor.runners.socket_check import check_announced, check_peer
from supervisor.runners.socket_group import SOCKET, find_group, open_to_group
from supervisor.spec import PluginSpec

__all__ = ["SubprocessProcess", "SubprocessRunner"]

_SIGKILL = 9
_CLOSE = 0.25
"""Seconds that `close()` may block for a killed process to die. It takes milliseconds, unless the kernel is stuck."""


class SubprocessRunner:
    """Starts each instance as a child process of this one. A `Runner`.

    Use it from one event loop with `add_reader` (not Windows' proactor), in a thread that lives as long as the plugins:
    the kernel's parent-death signal is bound to the thread that started them.
    """

    def __init__(
        self,
        *,
        runtime_root: str | None = None,
        guard: bool = True,
        use_pidfd: bool = True,
        cgroup_root: str = CGROUP_ROOT,
    ) -> None:
        """Take settings; nothing is created before the first launch.

        Args:
            runtime_root: parent of the host's runtime directory; chosen from XDG_RUNTIME_DIR, /run/user and the
                temporary directory when None.
            guard: whether to run the guard process where the platform can.
            use_pidfd: whether to use pidfds where the platform has them; a thread per child waits for its end otherwise.
            cgroup_root: where the control groups are mounted.
        """
        self._runtime_root = runtime_root
        self._directory = RuntimeDirectory(runtime_root)
        self._group_directories: dict[int, RuntimeDirectory] = {}
        self._sealed = SealedFiles()
        self._token = secrets.token_hex(16)
        self._guard: Guard | None = None
        self._wants_guard = guard and Guard.possible()
        self._use_pidfd = use_pidfd
        self._cgroup_root = cgroup_root
        self._owner = os.getpid()
        self._closed = False
        self._instances: weakref.WeakSet[SubprocessProcess | AttachedSubprocess] = weakref.WeakSet()

    async def launch(self, spec: PluginSpec, *, generation: int, variables: Mapping[str, str]) -> SubprocessProcess:
        """Start one instance of `spec` and return at once, before it has said a word.

        Cancellation is only noticed before anything was started.

        Raises:
            LaunchError: it could not be started; `errno` says why, `hint` what to do. Nothing is left behind.
        """
        await checkpoint()
        del generation  # one life is started like another
        if sys.platform == "win32":
            raise LaunchError("child processes need a POSIX system", plugin=spec.name)
        if self._closed or os.getpid() != self._owner:
            raise LaunchError("the runner is closed, or belongs to the process that forked this one", plugin=spec.name)
        try:
            search = build_environment(os.environ, spec, variables, "").get("PATH", os.defpath)
            command = await prepare_command(spec, search=search, sealed=self._sealed)
            return self._launch(spec, command, variables, asyncio.get_running_loop())
        except (OSError, ValueError) as error:
            raise launch_error(error, plugin=spec.name, doing=f"starting {spec.command[0]!r}") from error
        except LaunchError as error:
            error.plugin = spec.name
            raise

    def _launch(
        self,
        spec: PluginSpec,
        command: PreparedCommand,
        variables: Mapping[str, str],
        loop: asyncio.AbstractEventLoop,
    ) -> SubprocessProcess:
        token = secrets.token_hex(16)
        with ExitStack() as undo:
            group = find_group(spec.socket_group) if spec.socket_group is not None else None
            directory, lock = self._create_directory(spec, group)
            undo.callback(remove_directory, directory)
            if lock is not None:
                undo.callback(lock.close)
            # The lineage comes first: a process that overwrites the end of its environment with a title keeps it.
            ours = () if spec.survive_host else (self._token,)  # what this host's guard sweeps for
            tokens = {lineage.VARIABLE: extend_lineage(os.environ, *ours, token)}
            environment = {**tokens, **build_environment(os.environ, spec, {**variables, **tokens}, directory)}
            launched = spawn(
                command.line,
                env=environment,
                cwd=spec.cwd,
                stdin=None if spec.survive_host else spec.stdin,
                inherited=command.descriptors,
                use_pidfd=self._use_pidfd,
            )
            undo.callback(launched.abandon)
            caretaker = None
            if lock is not None:
                caretaker = Caretaker.start(launched, directory, lock, tokens)
                undo.callback(caretaker.close)
            oom = OomCounter(launched.child.pid, root=self._cgroup_root)
            process = SubprocessProcess(
                launched, loop, token=token, directory=directory, group=group, oom=oom, caretaker=caretaker
            )
            undo.pop_all()
        self._instances.add(process)
        return process

    async def attach(self, spec: PluginSpec, token: ReattachToken) -> AttachedSubprocess:
        """Take over a process that another host started, or nobody did; see `runners.attached`.

        Raises:
            ReattachError: it is gone, is another one, or is not to be had. Nothing was signalled.
        """
        await checkpoint()
        if self._closed or os.getpid() != self._owner:
            raise ReattachError("the runner is closed, or belongs to another process", plugin=spec.name)
        try:
            process = await attach(token, make_directory=self._create_own)
        except ReattachError as error:
            error.plugin = spec.name
            raise
        self._instances.add(process)
        return process

    def _create_directory(self, spec: PluginSpec, group: int | None) -> tuple[str, HostOnly | None]:
        """Create the directory of an instance: inside ours, or beside it, locked, for one that survives us."""
        parent = self._directory
        if group is not None:
            parent = self._group_directories.setdefault(group, RuntimeDirectory(self._runtime_root, group=group))
        if spec.survive_host:
            return parent.create_surviving()
        directory = parent.create_instance()
        self._ensure_guard()
        return directory, None

    def _create_own(self) -> str:
        directory = self._directory.create_instance()
        self._ensure_guard()
        return directory

    def _ensure_guard(self) -> None:
        """Start the guard before the first plugin, and again if it was killed or the runtime directory has moved."""
        directories = tuple(each.path for each in self._directories() if each.path is not None)
        if not self._wants_guard or not directories:
            return
        if self._guard is not None and (not self._guard.alive() or self._guard.directories != directories):
            self._guard.close()
            self._guard = None
        if self._guard is None:
            self._guard = Guard.start(self._token, directories)

    def _directories(self) -> tuple[RuntimeDirectory, ...]:
        return (self._directory, *self._group_directories.values())

    def close(self) -> None:
        """Close what was launched and is not closed yet, end the guard, remove the directory. Idempotent, synchronous."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        for process in tuple(self._instances):
            process.close()
        self._sealed.close()
        # The guard goes last: a host that is killed in the middle of this still has somebody to clear up after it.
        for directory in self._directories():
            directory.close()
        if self._guard is not None:
            self._guard.close()


class SubprocessProcess:
    """A child process and all that it started. A `LaunchedProcess`, and a `SurvivingProcess` if its spec said so.

    After the leader has ended it stays a zombie until `kill_tree()` or `close()`: that pins its pid, and with it the
    process group and session that its children may still live in.
    """

    def __init__(
        self,
        launched: Launched,
        loop: asyncio.AbstractEventLoop,
        *,
        token: str,
        directory: str,
        group: int | None = None,
        oom: OomCounter,
        caretaker: Caretaker | None = None,
    ) -> None:
        self._closed = True  # until all of this has worked, clearing up is the launcher's
        self._owner = os.getpid()
        self._loop = loop
        self._child = launched.child
        self._lifeline = launched.lifeline
        self._token = token
        self._directory = directory
        self._group = group
        self._oom = oom
        self._caretaker = caretaker
        self._status: ExitStatus | None = None
        self._ended = asyncio.Event()
        self._tree_killed = False
        self._stdout = PipeReader(launched.stdout, loop)
        self._stderr = PipeReader(launched.stderr, loop)
        self._watch = watch_exit(self._child, loop, self._on_exit)
        self._closed = False

    def __repr__(self) -> str:
        return f"<SubprocessProcess pid {self.pid}, {self._status or 'running'}>"

    def __del__(self) -> None:
        if not self._closed and os.getpid() == self._owner:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=1)
            self.close()

    @property
    def pid(self) -> int:
        """The process id of the leader."""
        return self._child.pid

    @property
    def directory(self) -> str:
        """The instance's private directory, for its sockets."""
        return self._directory

    @property
    def stdout(self) -> PipeReader:
        """Its standard output."""
        return self._stdout

    @property
    def stderr(self) -> PipeReader:
        """Its standard error."""
        return self._stderr

    async def wait(self) -> ExitStatus:
        """Wait for the leader to end; never for its pipes. Safe to cancel, to repeat and to share.

        The status is unknown when the embedding application reaped the child first.
        """
        await self._ended.wait()
        assert self._status is not None
        return self._status

    def send_signal(self, signal: int) -> None:
        """Send a signal to the whole group; does nothing when the leader has ended."""
        if os.getpid() == self._owner and self._status is None and self._child.peek() is None:
            self._child.signal_group(signal)

    def kill_tree(self) -> None:
        """Kill the leader, its group, its session and whatever carries its token. Synchronous and idempotent.

        Blocks for the milliseconds that the processes take to die, a tenth of a second at most. What had its environment
        emptied and left the session too is not found.
        """
        if self._tree_killed or os.getpid() != self._owner:
            return
        self._child.signal_group(_SIGKILL)
        # Unreaped, the leader's pid names its session and nobody else's.
        session = 0 if self._child.reaped else self.pid
        self._tree_killed = lineage.sweep(self._token, session=session)
        if self._status is not None:
            self._child.reap()

    def oom_killed(self) -> bool:
        """Whether the kernel's out-of-memory killer was at work in the memory cgroup since launch."""
        return self._oom.increased()

    def check_address(self, address: Address) -> Address:
        """Return the address to connect to: the announced one, if this process may announce it.

        Raises:
            HandshakeError: it may not.
        """
        return check_announced(address, directory=self._directory, in_tree=self._in_tree)

    def new_address(self) -> Address:
        """Return the address of a socket in the instance's private directory."""
        return UnixAddress(f"{self._directory}/host{secrets.token_hex(4)}")

    def host_to_plugin(self, address: Address) -> Address:
        """Return the address as it is, with its socket open to the plugin's socket group.

        Raises:
            OSError: the group cannot be let in.
        """
        if self._group is not None and isinstance(address, UnixAddress):
            open_to_group(address.path, self._group, SOCKET)
        return address

    def check_peer(self, connected: socket) -> None:
        """Make sure that the other end of a connected unix socket is of this tree. Other families pass.

        Raises:
            HandshakeError: it is not.
        """
        check_peer(connected, in_tree=self._in_tree)

    def identity(self) -> ProcessIdentity:
        """Return what tells it from every other process."""
        return identify(self.pid, lineage=self._token, directory=self._directory)

    def detach(self) -> None:
        """Leave it to its caretaker, for another host to take over. Idempotent.

        It stays a child of this process: when it ends it is reaped, if the loop still runs then.
        """
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = self._tree_killed = True
        self._release()
        if self._caretaker is not None:
            self._caretaker.leave(self._loop)

    def close(self) -> None:
        """Kill what still runs, release descriptors and the runtime directory. Synchronous and idempotent."""
        if self._closed or os.getpid() != self._owner:
            return
        self._closed = True
        self.kill_tree()
        if self._status is None and self._child.wait_blocking(_CLOSE):
            self._on_exit()
        self._release()
        if self._caretaker is not None:
            self._caretaker.close()
        remove_directory(self._directory)
        if self._status is not None:
            self._child.close()

    def _release(self) -> None:
        self._stdout.close()
        self._stderr.close()
        if self._lifeline is not None:
            self._lifeline.close()

    def _in_tree(self, pid: int) -> bool:
        if pid <= 0:
            return False
        with contextlib.suppress(OSError):
            if os.getsid(pid) == self.pid:
                return True
        return lineage.carries(pid, self._token)

    def _on_exit(self) -> None:
        """Take note of the leader's end; called by the watch, and by `close()` when it could not wait for that."""
        if self._status is not None or (status := self._child.peek()) is None:
            return
        self._status = status
        self._watch.close()
        if not self._loop.is_closed():
            self._ended.set()
        if self._closed:
            self._child.close()  # it outlived `close()` or `detach()`, and dies now
        elif self._tree_killed:
            self._child.reap()
