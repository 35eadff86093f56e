"""How a process ended, in values and in words."""

import pytest

from supervisor.outcome import ExitReason, ExitReport, ExitStatus

CLEAN = ExitStatus(code=0)


@pytest.mark.parametrize(
    ("status", "text", "known", "clean"),
    [
        (CLEAN, "exit code 0", True, True),
        (ExitStatus(code=3), "exit code 3", True, False),
        (ExitStatus(signal=9), "killed by SIGKILL", True, False),
        (ExitStatus(signal=64), "killed by signal 64", True, False),
        (ExitStatus(), "status unknown", False, False),
    ],
)
def test_a_status_says_what_the_kernel_said(status: ExitStatus, text: str, known: bool, clean: bool) -> None:
    """An unknown status is not a clean one."""
    assert (str(status), status.known, status.clean) == (text, known, clean)


@pytest.mark.parametrize("reason", ExitReason)
@pytest.mark.parametrize("status", [CLEAN, ExitStatus(code=1), ExitStatus(signal=15), ExitStatus()])
def test_only_a_stop_or_a_clean_exit_is_no_failure(reason: ExitReason, status: ExitStatus) -> None:
    """A plugin that was told to stop may die of the signal; one that lost its liveness failed even with code 0."""
    stopped = reason in {ExitReason.STOPPED, ExitReason.DETACHED}
    left_by_itself = reason is ExitReason.EXITED and status is CLEAN

    assert ExitReport(reason=reason, status=status, generation=1).failed is not (stopped or left_by_itself)


def test_a_report_is_one_line() -> None:
    """Which life, how long, why, how, and its last words when it failed."""
    report = ExitReport(
        reason=ExitReason.LIVENESS,
        status=ExitStatus(signal=6),
        generation=3,
        pid=4711,
        uptime=12.345,
        stderr=("starting", "deadlock!"),
    )

    assert (
        str(report) == "generation 3 (pid 4711) ended after 12.3 s: liveness, killed by SIGABRT; last words: deadlock!"
    )
    assert str(ExitReport(reason=ExitReason.LAUNCH, status=ExitStatus(), generation=1)) == (
        "generation 1 ended after 0 s: launch"
    )
