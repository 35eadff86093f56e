"""A real plugin program: its log events arrive typed while the host follows, and as hclog lines when it does not."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from raw_host import PATIENCE, RawHost

from supervisor.levels import Level
from supervisor.records import LogRecord, LogSource
from supervisor.services import controller, logs

Start = Callable[..., RawHost]


class Records:
    """A follower's records, one at a time."""

    def __init__(self, follower: logs.LogFollower) -> None:
        self.follower = follower
        self.dropped = 0
        self._records: list[LogRecord] = []

    async def next(self) -> LogRecord:
        """Return the next record."""
        while not self._records:
            async with asyncio.timeout(PATIENCE):
                batch = await anext(self.follower)
            self.dropped = batch.dropped
            self._records = list(batch.records)
        return self._records.pop(0)

    async def until(self, event: str) -> LogRecord:
        """Return the first record of this event."""
        while (record := await self.next()).event != event:
            pass
        return record


@asynccontextmanager
async def following(host: RawHost, level: int = Level.INFO) -> AsyncIterator[Records]:
    """Connect and follow the plugin's log."""
    channel = await host.connect()
    async with logs.follow(channel, level=level) as follower:
        records = Records(follower)
        # The plugin says so when it knows that it is followed.
        while not (await host.call("followed?")).startswith("followed"):
            pass
        yield records


FOLLOWED = """
import supervisor.sdk.context as context
async def answer(text, on_call):
    if text == "followed?":
        return "followed" if current()._sink.buffer.is_open else ""
    return await on_call(text)
def run(on_call, **options):
    serve(Control(lambda text: answer(text, on_call)), **options)
"""


# --- over the stream ---------------------------------------------------------------------------------------------------


async def test_structlog_events_arrive_with_their_types(start: Start) -> None:
    """Level, event, logger, moment, bound values and context variables come as what they were."""
    host = start(
        FOLLOWED
        + """
log = structlog.get_logger("app.http")
bound = structlog.get_logger().bind(bound="before serve")
async def on_call(_):
    bound.info("bound")
    with structlog.contextvars.bound_contextvars(request="r-1"):
        log.bind(bound=1).warning("handled %s", "well", ok=True, ms=1.5, none=None, many=[1, "two", {"three": 3}], raw=b"\\x00",
                    big=1 << 70, level="not a level")
run(on_call)
"""
    )
    async with following(host) as records:
        before = dt.datetime.now(dt.UTC).timestamp()
        await host.call()
        assert dict((await records.until("bound")).fields) == {"bound": "before serve"}
        record = await records.next()
    assert record.event == "handled well"
    assert record.level is Level.WARNING
    assert record.logger == "app.http"
    assert record.source is LogSource.STREAM
    assert record.logged_at is not None
    assert before - 1 < record.logged_at < before + PATIENCE
    assert dict(record.fields) == {
        "bound": 1,
        "request": "r-1",
        "ok": True,
        "ms": 1.5,
        "none": None,
        "many": [1, "two", {"three": 3}],
        "raw": b"\x00",
        "big": str(1 << 70),
        "level": "not a level",
    }


async def test_stdlib_records_arrive_with_extra_and_context(start: Start) -> None:
    """`extra` becomes fields, and structlog's context variables are bound to stdlib's records too."""
    host = start(
        FOLLOWED
        + """
async def on_call(_):
    with structlog.contextvars.bound_contextvars(request="r-1"):
        logging.getLogger("app.db").error("query %d took %s", 7, "long", extra={"rows": 3})
        logging.getLogger("app.db").error("%d", "not a number")
run(on_call)
"""
    )
    async with following(host) as records:
        await host.call()
        record = await records.until("query 7 took long")
        odd = await records.next()
    assert (record.level, record.logger) == (Level.ERROR, "app.db")
    assert dict(record.fields) == {"request": "r-1", "rows": 3}
    assert odd.event == "'%d' with arguments that do not fit"


async def test_exceptions_arrive_with_their_frames(start: Start) -> None:
    """`exception` of structlog and of stdlib gives type, message, frames and the whole text, causes included."""
    host = start(
        FOLLOWED
        + """
def fail():
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("went wrong\\nbadly") from error
async def on_call(_):
    for log in structlog.get_logger(), logging.getLogger():
        try:
            fail()
        except ValueError:
            log.exception("failed")
run(on_call)
"""
    )
    async with following(host) as records:
        await host.call()
        both = [await records.until("failed"), await records.until("failed")]
    for record in both:
        assert record.level is Level.ERROR
        assert record.exception is not None
        assert record.exception.type == "ValueError"
        assert record.exception.message == "went wrong\nbadly"
        assert [frame.name for frame in record.exception.frames] == ["on_call", "fail"]
        assert record.exception.frames[-1].line == 'raise ValueError("went wrong\\nbadly") from error'
        assert record.exception.text.startswith("Traceback (most recent call last):")
        assert "KeyError: 'missing'" in record.exception.text


async def test_a_burst_of_100_000_arrives_in_order_or_is_accounted_for(start: Start) -> None:
    """Each record that is missing is in the drop counter, and other calls are answered meanwhile."""
    host = start(
        FOLLOWED
        + """
log = structlog.get_logger("burst")
async def on_call(text):
    if text == "burst":
        for number in range(100_000):
            log.info("tick", number=number, kind="burst", ok=True)
run(on_call)
"""
    )
    async with following(host) as records:
        burst = asyncio.ensure_future(host.call("burst"))
        numbers: list[int] = []
        other = None
        while not numbers or numbers[-1] != 99_999:
            record = await records.next()
            if record.event == "tick":
                number = record.fields["number"]
                assert isinstance(number, int)
                numbers.append(number)
                if other is None:
                    other = asyncio.ensure_future(host.call("other"))
        await burst
        assert other is not None
        await other
    assert numbers == sorted(set(numbers))
    assert len(numbers) + records.dropped == 100_000


async def test_a_flood_beyond_the_buffer_is_counted_exactly(start: Start) -> None:
    """The oldest go, the newest stay, and the counter says how many went."""
    host = start(
        FOLLOWED
        + """
async def on_call(text):
    current()._sink.buffer._max_records = 1000
    for number in range(5000):
        structlog.get_logger().info("tick", number=number)
run(on_call)
"""
    )
    async with following(host) as records:
        await host.call("burst")
        first = await records.until("tick")
        assert first.fields["number"] == 4000
        assert records.dropped == 4000


async def test_the_host_sets_the_level_at_run_time(start: Start) -> None:
    """Both structlog and stdlib follow, up and down, and so do loggers that were used before."""
    host = start(
        FOLLOWED
        + """
log = structlog.get_logger()
async def on_call(text):
    if text == "level?": return str(current().log_level)
    log.debug("structlog debug"); log.info("structlog info"); log.error("structlog error")
    logging.debug("stdlib debug"); logging.info("stdlib info"); logging.error("stdlib error")
    log.critical(text)
run(on_call)
"""
    )
    async with following(host, Level.INFO) as records:

        async def heard(level: int) -> list[str]:
            records.follower.set_level(level)
            while await host.call("level?") != str(level):
                pass
            await host.call("end")
            events: list[str] = []
            while (event := (await records.next()).event) != "end":
                events.append(event)
            return [event for event in events if "log" in event or "stdlib" in event]

        info = ["structlog info", "structlog error", "stdlib info", "stdlib error"]
        assert await heard(Level.INFO) == info
        assert await heard(Level.DEBUG) == [
            "structlog debug",
            *info[:2],
            "stdlib debug",
            *info[2:],
        ]
        assert await heard(Level.ERROR) == ["structlog error", "stdlib error"]
        assert await heard(Level.INFO) == info


async def test_threads_log_in_order_each(start: Start) -> None:
    """Records come from any thread, none is lost and each thread's stay in order."""
    host = start(
        FOLLOWED
        + """
def work(name):
    for number in range(2000):
        structlog.get_logger().info("tick", name=name, number=number)
async def on_call(_):
    await asyncio.gather(*(asyncio.to_thread(work, name) for name in range(4)))
run(on_call)
"""
    )
    async with following(host) as records:
        done = asyncio.ensure_future(host.call())
        seen: dict[object, list[object]] = {name: [] for name in range(4)}
        while sum(map(len, seen.values())) < 8000:
            record = await records.next()
            if record.event == "tick":
                seen[record.fields["name"]].append(record.fields["number"])
        await done
    assert all(numbers == list(range(2000)) for numbers in seen.values())
    assert records.dropped == 0


async def test_an_event_inside_an_event_does_not_recurse(start: Start) -> None:
    """A value whose repr logs, and one whose repr raises, cost that value and nothing else."""
    host = start(
        FOLLOWED
        + """
class Loud:
    def __repr__(self):
        structlog.get_logger().info("from inside", it=self)
        return "<Loud>"
class Broken:
    def __repr__(self): raise RuntimeError
async def on_call(_):
    structlog.get_logger().info("outside", loud=Loud(), broken=Broken())
    structlog.get_logger().info("after")
run(on_call)
"""
    )
    async with following(host) as records:
        await host.call()
        record = await records.until("outside")
        assert record.fields["loud"] == "<Loud>"
        assert record.fields["broken"] == "<Broken that cannot be shown: RuntimeError>"
        assert (await records.next()).event == "after"


async def test_last_words_come_over_the_stream(start: Start) -> None:
    """What a call logs while the plugin stops still arrives, and then the stream ends in order."""
    host = start(
        FOLLOWED
        + """
async def on_call(_):
    structlog.get_logger().info("waiting")
    while (await asyncio.sleep(0.01)) or current()._health._statuses["plugin"].name == "SERVING": pass
    structlog.get_logger().info("last words")
run(on_call)
"""
    )
    async with following(host) as records:
        pending = asyncio.ensure_future(host.call())
        await records.until("waiting")
        assert host.channel is not None
        assert await controller.request_shutdown(host.channel, timeout=PATIENCE)
        await records.until("last words")
        async for _ in records.follower:
            pass
        await pending
    assert await host.wait() == 0
    assert "last words" not in host.stderr.all().decode()


# --- a configuration of the author's own -------------------------------------------------------------------------------


async def test_the_authors_own_structlog_configuration_is_kept(start: Start) -> None:
    """Their processors run, their renderer does not, and a logger cached before serve() is captured as well."""
    host = start(
        FOLLOWED
        + """
def shout(logger, method, event_dict):
    event_dict["event"] = event_dict["event"].upper()
    return event_dict
def render(logger, method, event_dict):
    raise RuntimeError("the renderer was reached")
structlog.configure(
    processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.format_exc_info, shout, structlog.processors.JSONRenderer()],
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    cache_logger_on_first_use=True,
)
log = structlog.get_logger()
log.info("printed before serve")
async def on_call(_):
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("mine", answer=42)
run(on_call)
"""
    )
    assert (await host.stderr_event("PRINTED BEFORE SERVE"))["level"] == "info"
    async with following(host) as records:
        await host.call()
        record = await records.until("MINE")
    assert record.level is Level.ERROR
    assert record.logged_at is not None
    assert dict(record.fields) == {"answer": 42}
    assert record.exception is not None
    assert record.exception.type == "ZeroDivisionError"
    assert [frame.name for frame in record.exception.frames] == ["on_call"]
    assert record.exception.text.endswith("ZeroDivisionError: division by zero")


async def test_the_authors_stdlib_handlers_stay_but_for_those_that_print(start: Start) -> None:
    """A file handler still gets records; a console handler would tell the host everything twice."""
    host = start(
        """
        logging.basicConfig(format="CONSOLE %(message)s", level=logging.INFO)
        logging.getLogger().addHandler(logging.FileHandler(os.environ["LOG_FILE"]))
        async def on_call(_):
            logging.getLogger("app").info("once")
        serve(Control(on_call))
        """,
        LOG_FILE="/dev/null",
    )
    await host.connect()
    await host.call()
    assert (await host.stderr_event("once"))["@module"] == "app"
    host.send_signal(signal.SIGTERM)
    await host.wait()
    assert "CONSOLE" not in host.stderr.all().decode()


# --- without a follower ------------------------------------------------------------------------------------------------


async def test_before_the_host_follows_each_event_is_an_hclog_line(start: Start) -> None:
    """Six fraction digits, `warn`, strings only: a Go host ends its own process for less."""
    host = start(
        """
        async def on_call(_):
            log = structlog.get_logger("app")
            log.warning("careful", number=5, when=float("nan"), **{"@message": 5})
            log.debug("not wanted")
            logging.getLogger("lib").critical("bad")
            try:
                raise OSError("line one\\nline two")
            except OSError:
                log.exception("failed")
        serve(Control(on_call))
        """
    )
    await host.connect()
    await host.call()
    careful = await host.stderr_event("careful")
    moment = careful.pop("@timestamp")
    assert moment == dt.datetime.fromisoformat(moment).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    assert careful == {
        "@level": "warn",
        "@message": "careful",
        "@module": "app",
        "number": 5,
        "when": "nan",
        "_@message": 5,
    }
    assert (await host.stderr_event("bad"))["@level"] == "error"
    failed = await host.stderr_event("failed")
    assert failed["exception"].startswith("Traceback (most recent call last):")
    assert failed["exception"].endswith("OSError: line one\nline two")
    assert "not wanted" not in host.stderr.wait_for(lambda _: True).decode()


async def test_the_hosts_level_holds_from_the_start(start: Start) -> None:
    """PLUGIN_LOG_LEVEL gates what is logged before the host follows, by name or by number."""
    host = start(
        """
        async def on_call(_):
            structlog.get_logger().info("quiet"); logging.info("quiet too")
            structlog.get_logger().error("loud"); logging.error("loud too")
        serve(Control(on_call), log_level="debug")
        """,
        PLUGIN_LOG_LEVEL="error",
    )
    await host.connect()
    await host.call()
    await host.stderr_line("loud too")
    assert "quiet" not in host.stderr.wait_for(lambda _: True).decode()


async def test_after_the_host_stopped_following_events_are_lines_again(start: Start) -> None:
    """What was not sent, and all that comes later, goes to stderr: nothing is lost with the stream."""
    host = start(
        FOLLOWED
        + """
async def on_call(text):
    structlog.get_logger().info(text, number=1)
run(on_call)
"""
    )
    async with following(host) as records:
        await host.call("streamed")
        await records.until("streamed")
    while (await host.call("followed?")) == "followed":
        pass
    await host.call("written")
    assert (await host.stderr_event("written"))["number"] == 1
    assert "streamed" not in host.stderr.wait_for(lambda _: True).decode()


async def test_a_forked_child_logs_to_stderr(start: Start) -> None:
    """A child made by fork() has the stream's memory but not its loop: its events and prints go to stderr."""
    host = start(
        FOLLOWED
        + """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
async def on_call(_):
    pid = os.fork()
    if pid == 0:
        structlog.get_logger().info("from the child")
        print("printed by the child", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
run(on_call)
"""
    )
    async with following(host):
        await host.call()
        assert json.loads(await host.stderr_line("from the child"))["@level"] == "info"
        assert await host.stderr_line("printed by the child")


async def test_uncaught_exceptions_are_records(start: Start) -> None:
    """In a thread or on the way out of the program: one JSON line with the traceback."""
    host = start(
        """
        async def on_call(_):
            thread = threading.Thread(target=lambda: 1 / 0)
            thread.start()
            thread.join()
        serve(Control(on_call))
        raise LookupError("at the end")
        """
    )
    channel = await host.connect()
    await host.call()
    event = await host.stderr_event("in a thread")
    assert event["@level"] == "error"
    assert event["exception"].endswith("ZeroDivisionError: division by zero")
    await controller.request_shutdown(channel, timeout=PATIENCE)
    event = await host.stderr_event("uncaught LookupError")
    assert event["@level"] == "error"
    assert event["exception"].endswith("LookupError: at the end")
    assert await host.wait() == 1
