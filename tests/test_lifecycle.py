"""The table of states and signals."""

import pytest

from supervisor.errors import IllegalTransitionError, SupervisorError
from supervisor.lifecycle import TRANSITIONS, Signal, State, diagram, transition

PAIRS = [(state, signal) for state in State for signal in Signal]


def reachable(start: State) -> set[State]:
    """All states that lead on from `start`, itself included."""
    found, todo = {start}, [start]
    while todo:
        new = set(TRANSITIONS[todo.pop()].values()) - found
        found |= new
        todo += new
    return found


@pytest.mark.parametrize(("state", "signal"), PAIRS)
def test_a_pair_leads_where_the_table_says_or_is_a_defect(state: State, signal: Signal) -> None:
    """Every other pair is a bug of this library, so outside of its error tree."""
    if signal in TRANSITIONS[state]:
        assert transition(state, signal) is TRANSITIONS[state][signal]
    else:
        with pytest.raises(IllegalTransitionError) as caught:
            transition(state, signal)
        assert not isinstance(caught.value, SupervisorError)


def test_one_life_and_the_next() -> None:
    """Start, serve, drain, stop, exit, wait, start again."""
    state = State.PENDING
    for signal, expected in [
        (Signal.START, State.STARTING),
        (Signal.BECAME_READY, State.READY),
        (Signal.BECAME_UNREADY, State.UNREADY),
        (Signal.BECAME_READY, State.READY),
        (Signal.DRAIN, State.DRAINING),
        (Signal.STOP, State.STOPPING),
        (Signal.EXIT, State.EXITED),
        (Signal.RETRY, State.BACKOFF),
        (Signal.START, State.STARTING),
        (Signal.EXIT, State.EXITED),
        (Signal.GIVE_UP, State.FAILED),
        (Signal.START, State.STARTING),
    ]:
        state = transition(state, signal)
        assert state is expected


@pytest.mark.parametrize("state", State)
def test_a_process_may_exit_in_every_state_that_has_one(state: State) -> None:
    """And in no other: an exit without a process is a defect."""
    assert (Signal.EXIT in TRANSITIONS[state]) == state.has_process


@pytest.mark.parametrize("state", State)
def test_a_stop_is_understood_in_every_state(state: State) -> None:
    """It leads to STOPPING where there is a process and to STOPPED where there is none."""
    assert transition(state, Signal.STOP) is (State.STOPPING if state.has_process else State.STOPPED)


@pytest.mark.parametrize("state", State)
def test_nothing_is_a_dead_end(state: State) -> None:
    """From everywhere a plugin can be stopped, and from rest it can be started."""
    assert State.STOPPED in reachable(state)
    assert not state.at_rest or transition(state, Signal.START) is State.STARTING


def test_every_state_is_in_the_table_and_in_the_diagram() -> None:
    """The diagram in the docs is printed from the table, arrows to the same state left out."""
    text = diagram()

    assert set(TRANSITIONS) == set(State) == reachable(State.PENDING)
    for state, row in TRANSITIONS.items():
        for target in set(row.values()) - {state}:
            assert f"    {state} --> {target}: " in text
    assert "stopped --> stopped" not in text


def test_the_table_cannot_be_changed() -> None:
    """Neither its rows nor their cells."""
    with pytest.raises(TypeError):
        TRANSITIONS[State.READY] = {}  # type: ignore[index]  # the point is that it fails
    with pytest.raises(AttributeError):
        TRANSITIONS.clear()  # type: ignore[attr-defined]  # the point is that it fails
