"""How a process ended: values only."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["ExitReason", "ExitReport", "ExitStatus"]

_SIGNAL_NAMES = {
    1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE",
    9: "SIGKILL", 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM",
    24: "SIGXCPU", 25: "SIGXFSZ", 31: "SIGSYS",
}  # fmt: skip

_SHOWN = 200
"""Characters of the last words within the one line that a report makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStatus:
    """What the kernel said: an exit code, or the signal that ended the process.

    Both are None when somebody else reaped the child first (the embedding application ignores SIGCHLD or waits for
    any child): the status is then unknown, which is not the same as 0 or 255.
    """

    code: int | None = None
    signal: int | None = None

    @property
    def known(self) -> bool:
        """Whether the kernel told us."""
        return self.code is not None or self.signal is not None

    @property
    def clean(self) -> bool:
        """Whether the process ended with exit code 0."""
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {_SIGNAL_NAMES.get(self.signal, f'signal {self.signal}')}"
        return "status unknown" if self.code is None else f"exit code {self.code}"


class ExitReason(enum.StrEnum):
    """Why an instance ended, for machines; systemd's result taxonomy in this library's words."""

    EXITED = "exited"
    SIGNALED = "signaled"
    OOM = "oom"
    UNKNOWN = "unknown"
    LAUNCH = "launch"
    HANDSHAKE = "handshake"
    START_TIMEOUT = "start-timeout"
    CONNECT = "connect"
    LIVENESS = "liveness"
    PROTOCOL = "protocol"
    REATTACH = "reattach"
    STOPPED = "stopped"
    DETACHED = "detached"
    UNKILLABLE = "unkillable"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitReport:
    """The end of one instance, as `plugin.last_exit` and the exit event carry it.

    Attributes:
        reason: why it ended; `STOPPED` and `DETACHED`, after which the process may well live on, never count as failures.
        status: what the kernel said; unknown when no process was started.
        generation: which life of the plugin ended.
        pid: its process id, None when no process was started.
        uptime: seconds from launch to exit.
        ready_for: seconds since it last became ready, 0 when it never was.
        oom: whether the kernel's out-of-memory killer took a process of its cgroup meanwhile.
        stderr: its last lines on stderr, oldest first, escaped.
        error: the error behind the reason, when one was raised.
    """

    reason: ExitReason
    status: ExitStatus
    generation: int
    pid: int | None = None
    uptime: float = 0.0
    ready_for: float = 0.0
    oom: bool = False
    stderr: tuple[str, ...] = ()
    error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether the end counts as a failure: anything but a stop or a parting that was asked for, or exit code 0."""
        asked_for = self.reason in {ExitReason.STOPPED, ExitReason.DETACHED}
        return not (asked_for or (self.reason is ExitReason.EXITED and self.status.clean))

    def __str__(self) -> str:
        """Say it in one line: `generation 3 (pid 4711) ended after 12.3 s: liveness, killed by SIGABRT`."""
        who = f"generation {self.generation}" + (f" (pid {self.pid})" if self.pid else "")
        return f"{who} ended after {self.uptime:.3g} s: {self.summary}"

    @property
    def summary(self) -> str:
        """Why it ended, and how, in a few words."""
        how = f", {self.status}" if self.pid else ""
        return f"{self.reason}{how}{self._why}"

    @property
    def _why(self) -> str:
        """The best explanation there is: the error behind it, else what it said last."""
        if not self.failed:
            return ""
        if self.error is not None and self.error.args and self.reason is not ExitReason.LAUNCH:
            return f"; {self.error.args[0]}"
        return f"; last words: {self.stderr[-1][:_SHOWN]}" if self.stderr else ""
