"""Tracebacks and crash dumps become one record each; everything else passes at once."""

import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.levels import Level
from supervisor.log_lines import Line, LineSplitter, RecordAssembler
from supervisor.quoting import escape_text
from supervisor.records import LogRecord, LogSource


def assemble(text: str | bytes, assembler: RecordAssembler | None = None) -> list[LogRecord]:
    """Run the whole way from bytes to records."""
    data = text if isinstance(text, bytes) else text.encode()
    assembler = assembler or RecordAssembler()
    splitter = LineSplitter()
    lines = splitter.feed(data) + splitter.flush()
    return [record for line in lines for record in assembler.feed(line)] + assembler.flush()


def run_python(code: str) -> list[LogRecord]:
    """Let a real interpreter die of `code` and assemble its stderr."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, timeout=30)
    return assemble(done.stderr)


def test_a_traceback_is_one_record() -> None:
    """Type, message, frames and the whole text are kept; the lines around it are records of their own."""
    text = 'Traceback (most recent call last):\n  File "p.py", line 9, in <module>\n    main()\n    ~~~~^^\n  File "p.py", line 4, in main\nstore.errors.Lost: the key: "k"'
    before, record, after = assemble(f"starting\n{text}\nstopping\n")

    assert (before.event, after.event, after.level) == ("starting", "stopping", Level.INFO)
    assert (record.level, record.event, record.truncated) == (Level.ERROR, 'store.errors.Lost: the key: "k"', False)
    assert record.exception is not None
    assert (record.exception.type, record.exception.message) == ("store.errors.Lost", 'the key: "k"')
    assert [(f.lineno, f.name, f.line) for f in record.exception.frames] == [(9, "<module>", "main()"), (4, "main", "")]
    assert record.exception.text == text


def test_the_record_waits_for_the_end_of_the_chain() -> None:
    """A blank line may come before a cause, so the record comes with the next line, or with a flush after a pause."""
    assembler = RecordAssembler(source=LogSource.STDOUT)
    for line in (b"Traceback (most recent call last):", b"KeyError: 1", b""):
        assert assembler.feed(Line(line)) == []
        assert assembler.pending

    (record,) = assembler.flush()

    assert (record.event, record.source) == ("KeyError: 1", LogSource.STDOUT)
    assert not assembler.pending
    assert assembler.flush() == []


@pytest.mark.parametrize("how", ["raise OSError(2) from error", "raise OSError(2)"])
def test_a_chain_is_one_record_of_its_last_exception(how: str) -> None:
    """Causes and contexts are in the text; what ended the program is the type."""
    (record,) = run_python(f"try:\n  1 / 0\nexcept ZeroDivisionError as error:\n  {how}")

    assert record.exception is not None
    assert (record.exception.type, record.exception.message) == ("OSError", "2")
    assert record.exception.text.count("Traceback (most recent call last):") == 2
    assert [frame.lineno for frame in record.exception.frames] == [4]


def test_an_exception_in_a_thread_is_one_record() -> None:
    """The line that names the thread belongs to the report."""
    (record,) = run_python("import threading\nthreading.Thread(target=lambda: 1 / 0, name='worker').start()")

    assert record.exception is not None
    assert record.exception.type == "ZeroDivisionError"
    assert record.exception.text.startswith("Exception in thread worker")


def test_a_program_that_does_not_parse_is_one_record() -> None:
    """A syntax error in the script itself comes without a header."""
    (record,) = run_python("def f(:\n  pass")

    assert record.exception is not None
    assert record.exception.type == "SyntaxError"
    assert record.exception.frames[0].filename == "<string>"


def test_an_exception_group_is_one_record() -> None:
    """The group is the record's exception, its members are in the text."""
    (record,) = run_python("raise ExceptionGroup('both', [KeyError('a'), ExceptionGroup('in', [ValueError('b')])])")

    assert record.exception is not None
    assert (record.exception.type, record.exception.message) == ("ExceptionGroup", "both (2 sub-exceptions)")
    assert [frame.filename for frame in record.exception.frames] == ["<string>"]
    assert "ValueError: b" in record.exception.text


def test_a_message_on_several_indented_lines_stays_together() -> None:
    """Validation errors explain themselves on indented lines."""
    (record,) = assemble(
        'Traceback (most recent call last):\n  File "a", line 1, in f\nInvalid: two problems\n  one\n  two\n'
    )

    assert record.exception is not None
    assert record.exception.message == "two problems\\n  one\\n  two"


def test_a_fault_is_one_record() -> None:
    """What faulthandler says of a crash has its newest frame first; the record has it last, as tracebacks do."""
    (record,) = run_python("import faulthandler\nfaulthandler.enable()\ndef f():\n  faulthandler._sigsegv()\nf()")

    assert record.event == "Fatal Python error: Segmentation fault"
    assert record.exception is not None
    assert [(frame.lineno, frame.name) for frame in record.exception.frames] == [(5, "<module>"), (4, "f")]


GO_PANIC = """panic: runtime error: invalid memory address or nil pointer dereference
[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x47b2a5]

goroutine 1 [running]:
main.(*Store).Get(0xc000012345, {0x4a, 0x3})
\t/src/main.go:12 +0x1d
main.main()
\t/src/main.go:5 +0x1d
created by main.run in goroutine 7
\t/src/main.go:3 +0x1d

goroutine 18 [chan receive, 2 minutes]:
main.Map[...](...)
\t/src/main.go:9 +0x25
exit status 2"""


def test_a_go_panic_is_one_record() -> None:
    """All goroutines belong to it; a tagged line after it does not."""
    record, after = assemble(f"{GO_PANIC}\n[WARN] next\n")

    assert (record.level, after.event) == (Level.ERROR, "next")
    assert record.event == "panic: runtime error: invalid memory address or nil pointer dereference"
    assert record.exception is not None
    assert record.exception.type == "panic"
    assert record.exception.text == GO_PANIC


@pytest.mark.parametrize("line", ['{"@level":"info","@message":"hi"}', "[INFO] hi", "INFO: hi"])
def test_a_panic_without_goroutines_ends_at_a_record(line: str) -> None:
    """A value that prints on several lines stays together, the next record stays apart."""
    panic, after = assemble(f"fatal error: first\nsecond\n{line}\n")

    assert panic.exception is not None
    assert panic.exception.text == "fatal error: first\nsecond"
    assert (after.event, after.exception) == ("hi", None)


def test_a_panic_does_not_swallow_a_program_that_goes_on() -> None:
    """Somebody who prints `panic: ` and carries on loses no lines to it for long."""
    records = assemble("panic: not really\n" + "".join(f"line {n}\n" for n in range(100)))

    assert [record.event for record in records[1:]] == [f"line {n}" for n in range(15, 100)]


@pytest.mark.parametrize(
    "text",
    [
        '  File "a.py", line 3\n    not a syntax error\nNameError: x',
        "Exception in thread x:\nnothing follows",
        "Exception in thread x:",
    ],
)
def test_lines_that_only_look_like_a_report_stay_lines(text: str) -> None:
    """A first line that is not confirmed by what follows is given back as it was."""
    assert [record.event for record in assemble(text)] == text.split("\n")
    assert all(record.exception is None and record.level is Level.INFO for record in assemble(text))


def test_a_traceback_cut_short_is_still_an_error() -> None:
    """Another thread's line in the middle, or the end of the stream, ends the report with what there is."""
    record, after = assemble('Traceback (most recent call last):\n  File "a.py", line 3, in f\n{"msg":"other"}\n')

    assert (record.level, after.event) == (Level.ERROR, "other")
    assert record.event == "Traceback (most recent call last):"
    assert record.exception is not None
    assert len(record.exception.frames) == 1


def test_blank_lines_are_left_out() -> None:
    """They say nothing."""
    assert assemble("\n  \r\n\n") == []


def test_a_piece_of_a_long_line_is_a_record_of_its_own() -> None:
    """It is marked, and does not open a report."""
    (record,) = RecordAssembler().feed(Line(b"panic: x", truncated=True))

    assert record.truncated
    assert record.event == "panic: x"


@pytest.mark.parametrize("bounded", [partial(RecordAssembler, max_lines=10), partial(RecordAssembler, max_size=300)])
def test_an_endless_report_comes_in_bounded_parts(bounded: Callable[[], RecordAssembler]) -> None:
    """Nothing of it is lost, every part is an error, and all but the last are marked."""
    body = [f'  File "a.py", line {n}, in f' for n in range(100)]
    records = assemble("\n".join(["Traceback (most recent call last):", *body, "RecursionError: deep"]), bounded())

    assert all(record.level is Level.ERROR for record in records)
    assert [record.truncated for record in records] == [True] * (len(records) - 1) + [False]
    assert records[-1].event == "(continued) RecursionError: deep"
    assert sum(len(record.exception.frames) for record in records if record.exception) == 100


def test_an_endless_body_without_a_confirmed_head_stays_lines() -> None:
    """Only a report is joined."""
    text = '  File "a.py", line 3\n' + "  more\n" * 30

    assert len(assemble(text, RecordAssembler(max_lines=10))) == 31


def test_a_plugins_text_is_escaped_in_all_parts_of_the_exception() -> None:
    """The text keeps its newlines and tabs and nothing else that a terminal obeys."""
    (record,) = assemble(
        'Traceback (most recent call last):\n  File "\x1b[2J", line 1, in \u202ef\n    \x07\nE: \x00\u2028\n'
    )

    assert record.exception is not None
    assert record.event == "E: \\x00\\u2028"
    assert record.exception.frames[0].filename == "\\x1b[2J"
    assert escape_text(record.exception.text, multiline=True) == record.exception.text


FRAGMENTS = st.sampled_from([
    b"Traceback (most recent call last):", b'  File "a", line 1, in f', b"    x", b"E: m", b"", b"panic: p", b"goroutine 1 [running]:",
    b"\t/a.go:1", b"Fatal Python error: Aborted", b"Thread 0x1 (most recent call first):", b"Exception in thread t:",
    b"  + Exception Group Traceback (most recent call last):", b"  | G: x (1 sub-exception)", b'  File "a", line 1',
    b"SyntaxError: s", b"The above exception was the direct cause of the following exception:", b'{"msg":"j"}', b"\xff",
]) | st.binary(max_size=6)  # fmt: skip


@given(st.lists(FRAGMENTS, max_size=30), st.integers(1, 12))
def test_every_line_ends_up_in_a_record(lines: list[bytes], max_lines: int) -> None:
    """Nothing raises, nothing is lost and nothing is left behind, in whatever order the lines come."""
    text = b"\n".join(lines)
    assembler = RecordAssembler(max_lines=max_lines)
    records = assemble(text, assembler)

    assert not assembler.pending
    kept = sum(len(r.exception.text.split("\n")) if r.exception and r.exception.text else 1 for r in records)
    blank = sum(not line.strip() for line in text.split(b"\n"))
    assert kept >= len(text.split(b"\n")) - blank


def test_real_tracebacks_of_this_interpreter_are_understood() -> None:
    """What `traceback` prints today, with its markers and notes, gives the frames that it had."""
    try:
        {}["missing"]  # type: ignore[index]  # the point is to fail
    except KeyError as error:
        expected = traceback.extract_tb(error.__traceback__)
        (record,) = assemble("".join(traceback.format_exception(error)))

    assert record.exception is not None
    assert [(f.filename, f.lineno, f.name, f.line) for f in record.exception.frames] == [
        (f.filename, f.lineno, f.name, f.line) for f in expected
    ]


@pytest.mark.parametrize(
    "line",
    [
        b"x" * 60_000,
        b"a" + b"()" * 30_000 + b"x",
        b"(" * 60_000,
        b" " * 60_000,
        b'  File "' + b'", line 1' * 6_000,
        b"a." * 30_000 + b" ",
    ],
)
@pytest.mark.parametrize(
    "head", [b"", b"panic: p\ngoroutine 1", b"Traceback (most recent call last):", b"Fatal Python error: x"]
)
def test_no_line_is_expensive(line: bytes, head: bytes) -> None:
    """A line of 64 KiB costs milliseconds in every state."""
    start = time.process_time()
    assemble(head + b"\n" + line)

    assert time.process_time() - start < 0.5
