"""What `SUPERVISOR_REATTACH` may say."""

from __future__ import annotations

import pytest

from supervisor import ConfigurationError, PluginSpec, ReattachToken, Supervisor
from supervisor.address import UnixAddress
from supervisor.host.attachment import VARIABLE, find_debugged
from supervisor.reattach import ProcessIdentity

STORE = ReattachToken(
    name="store", process=ProcessIdentity(pid=4711), address=UnixAddress("/nowhere/s"), survives_host=True, test=True
)


def test_without_the_variable_there_is_nothing_to_attach_to() -> None:
    """Empty is as good as absent."""
    assert find_debugged({}, ["store"]) == find_debugged({VARIABLE: " \n"}, ["store"]) == []


def test_there_may_be_several() -> None:
    """One token on each line."""
    other = ReattachToken(name="other", process=STORE.process, address=STORE.address, test=True)

    assert find_debugged({VARIABLE: f"{STORE.to_json()}\n{other.to_json()}\n"}, ["other", "store"]) == [STORE, other]


def test_a_name_that_nobody_has_is_warned_about() -> None:
    """It may be meant for another supervisor of this process; it may also be a mistake."""
    with pytest.warns(UserWarning, match="'store'"):
        assert find_debugged({VARIABLE: STORE.to_json()}, ["other"]) == []


async def test_what_is_not_in_debug_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Taking over a plugin for good is the application's to decide; nothing is started."""
    survivor = ReattachToken(name="store", process=STORE.process, address=STORE.address, survives_host=True)
    for text in (survivor.to_json(), "noise"):
        monkeypatch.setenv(VARIABLE, text)
        with pytest.raises(ConfigurationError):
            async with Supervisor([PluginSpec(name="store", command=("true",))], observers=()):
                pytest.fail("it was entered")
