r"""A program that does what its arguments say, one deed after the other: `evil_plugin.py print 'noise' hang`.

It needs the standard library only and starts in a few milliseconds with `python -I -S`. Arguments know escapes
(`\xff`, `\n`) and two places: `{dir}` is the directory that the host wants sockets in, `{tcp}` what `listen-tcp` got.
When the deeds are done it exits with 0. Each deed is a function below, named with `-` for `_`.
"""

# Plain os calls: pathlib would double the start.
# ruff: noqa: PLC0415

from __future__ import annotations

import errno
import os
import resource
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FRAME = bytes.fromhex("000000 04 00 00000000")  # HTTP/2: an empty SETTINGS
ACK = bytes.fromhex("000000 04 01 00000000")

held: dict[str, Any] = {}
"""What must stay open: the listener, the connection, children."""


def data(text: str) -> bytes:
    """Return the bytes that an argument stands for."""
    return os.fsencode(text).decode("unicode_escape").encode("latin-1")


def write_all(fd: int, what: bytes) -> None:
    """Write all of it, however slowly it is read."""
    while what:
        what = what[os.write(fd, what) :]


# --- standard streams and time -----------------------------------------------------------------------------------------


def print_(text: str) -> None:
    """Write a line to stdout."""
    write_all(1, data(text) + b"\n")


def write(text: str) -> None:
    """Write to stdout without a newline."""
    write_all(1, data(text))


def repeat(text: str, count: str) -> None:
    """Write the text to stdout so many times, in chunks of 64 KiB or so."""
    chunk = data(text) * max(1, 65536 // len(data(text)))
    left = len(data(text)) * int(count)
    while left > 0:
        write_all(1, chunk[:left])
        left -= len(chunk)


def trickle(text: str, pause: str) -> None:
    """Write to stdout one byte at a time, with so many seconds between them."""
    for byte in data(text):
        write_all(1, bytes([byte]))
        time.sleep(float(pause))


def error(text: str) -> None:
    """Write a line to stderr."""
    write_all(2, data(text) + b"\n")


def stamp() -> None:
    """Write the kernel's monotonic time to stderr, which is the supervisor's clock."""
    write_all(2, f"{time.monotonic():.6f}\n".encode())


def close(fd: str) -> None:
    """Close a descriptor: 1 is stdout."""
    os.close(int(fd))


def wait(seconds: str) -> None:
    """Do nothing for a while."""
    time.sleep(float(seconds))


# --- ends --------------------------------------------------------------------------------------------------------------


def exit_(code: str) -> None:
    """Exit at once."""
    os._exit(int(code))


def die(number: str) -> None:
    """Be killed by a signal of one's own."""
    os.kill(os.getpid(), int(number))


def hang() -> None:
    """Never end, unless by a signal."""
    while "wakeup" in held:
        os.read(held["wakeup"], 1)  # a handler that runs late would be missed by `pause`, not by this
    while True:
        signal.pause()


def ignore(number: str) -> None:
    """Ignore a signal."""
    signal.signal(int(number), signal.SIG_IGN)


# --- sockets -----------------------------------------------------------------------------------------------------------


def bind(path: str) -> None:
    """Bind a unix socket without listening: connections are refused."""
    held["listener"] = listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)


def listen(path: str) -> None:
    """Listen on a unix socket; the kernel accepts for us, up to its backlog."""
    bind(path)
    held["listener"].listen()


def listen_tcp() -> None:
    """Listen on a port of the loopback interface, `{tcp}` from then on."""
    held["listener"] = listener = socket.create_server(("127.0.0.1", 0))
    held["tcp"] = "{}:{}".format(*listener.getsockname())


def unlisten() -> None:
    """Close the listener and leave its file behind."""
    held["listener"].close()


def stranger(path: str) -> None:
    """Have a process that is none of ours listen on a unix socket; it ends when we do."""
    import subprocess

    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "listens.py")
    held["stranger"] = child = subprocess.Popen(
        [sys.executable, "-I", "-S", program, path],
        env={},
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()


def touch(path: str) -> None:
    """Make an ordinary file."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY))


def symlink(target: str, path: str) -> None:
    """Make a symbolic link."""
    os.symlink(target, path)


def give_away(path: str) -> None:
    """Make a file somebody else's; needs root."""
    os.chown(path, 65534, 65534)


def try_bind(path: str) -> None:
    """Say on stderr what binding to a path gives: an errno's name, or `bound`."""
    try:
        socket.socket(socket.AF_UNIX).bind(path)
    except OSError as refused:
        error(errno.errorcode[refused.errno or 0])
    else:
        error("bound")


def mode(path: str) -> None:
    """Say the mode of a file on stderr, in octal."""
    error(f"{os.stat(path).st_mode & 0o7777:o}")


def list_(path: str) -> None:
    """Say on stderr how many files a directory has."""
    error(f"{path}: {len(os.listdir(path))} files")


def handshake(path: str) -> None:
    """Announce a unix socket, as version 1 over gRPC."""
    print_(f"1|1|unix|{path}|grpc")


# --- what goes over a connection ---------------------------------------------------------------------------------------


def accept() -> None:
    """Accept a connection and keep it."""
    held["connection"] = held["listener"].accept()[0]


def receive() -> None:
    """Wait until the other side has said something."""
    held["connection"].recv(65536)


def send(text: str) -> None:
    """Send bytes on the connection."""
    held["connection"].sendall(data(text))


def flood(text: str, count: str) -> None:
    """Send bytes so many times, until the other side has had enough."""
    try:
        held["connection"].sendall(data(text) * int(count))
    except OSError:
        return


def settings() -> None:
    """Send HTTP/2 settings, as a server does first."""
    held["connection"].sendall(FRAME)


def greet() -> None:
    """Begin HTTP/2 as a server should: settings, and the acknowledgement of the other side's."""
    held["connection"].sendall(FRAME + ACK)


def hang_up() -> None:
    """Close the connection."""
    held["connection"].close()


# --- HTTP/2 by hand, after `greet` -------------------------------------------------------------------------------------


def send_frame(kind: int, flags: int, stream: int, payload: bytes) -> None:
    """Send one frame, whatever it holds."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    held["connection"].sendall(head + payload)


def receive_exactly(size: int) -> bytes:
    """Read so many bytes from the connection; exit when it ends."""
    got = b""
    while len(got) < size:
        chunk = held["connection"].recv(size - len(got))
        if not chunk:
            os._exit(0)
        got += chunk
    return got


def block(**fields: str) -> bytes:
    """Encode headers, with `_` for `-` and `_status` for `:status`, without any compression."""
    names = {name: (":status" if name == "_status" else name.replace("_", "-")).encode() for name in fields}
    return b"".join(
        b"\0" + bytes([len(names[name])]) + names[name] + bytes([len(value)]) + value.encode()
        for name, value in fields.items()
    )


def call(path: str) -> None:
    """Wait for a call of this path, as it is encoded in the headers, or for any after that; refuse all others before.

    The host opens streams of its own, for logs for example, which are answered UNIMPLEMENTED.
    """
    while True:
        head = receive_exactly(9)
        payload = receive_exactly(int.from_bytes(head[:3], "big"))
        stream = int.from_bytes(head[5:], "big")
        if head[3] == 4 and not head[4]:  # SETTINGS
            send_frame(4, 1, 0, b"")
        elif head[3] == 1:  # HEADERS
            if "call" in held or data(path) in payload:
                held["call"] = stream
                return
            send_frame(1, 5, stream, block(_status="200", content_type="application/grpc", grpc_status="12"))


def on(stream: str) -> int:
    """Return the id of a stream: `call`, `first` as `mark` remembers it, or a number."""
    return held[stream] if stream in held else int(stream)


def mark() -> None:
    """Remember the call as `first`."""
    held["first"] = held["call"]


def frame(kind: str, flags: str, stream: str, payload: str) -> None:
    """Send a frame of a kind, with flags, on a stream."""
    send_frame(int(kind), int(flags), on(stream), data(payload))


def headers(stream: str) -> None:
    """Begin an answer."""
    send_frame(1, 4, on(stream), block(_status="200", content_type="application/grpc"))


def message(stream: str, payload: str) -> None:
    """Send a message."""
    content = data(payload)
    send_frame(0, 0, on(stream), b"\0" + len(content).to_bytes(4, "big") + content)


def trailers(stream: str, status: str) -> None:
    """End an answer."""
    send_frame(1, 5, on(stream), block(grpc_status=status))


def answer(stream: str, payload: str) -> None:
    """Answer a call in good order."""
    headers(stream)
    message(stream, payload)
    trailers(stream, "0")


def goaway(last: str, code: str) -> None:
    """Say that streams after `last` are not looked at."""
    send_frame(7, 0, 0, on(last).to_bytes(4, "big") + int(code).to_bytes(4, "big"))


# --- what it was given, children and signals ---------------------------------------------------------------------------


def report(path: str) -> None:
    """Write to a file, as JSON, what this process was given: descriptors, environment, arguments, session."""
    import json

    with open("/proc/self/environ", "rb") as file:  # what `os.environ` says of it may have been coerced
        variables = dict(line.split("=", 1) for line in os.fsdecode(file.read()).split("\0")[:-1])
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    found = {
        "fds": [fd for fd in numbers if os.path.exists(f"/proc/self/fd/{fd}")],  # without the one that listed them
        "env": variables,
        "argv": sys.argv[1:],
        "pid": os.getpid(),
        "session": os.getsid(0),
        "group": os.getpgrp(),
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(found, file)


def family() -> None:
    """Start children that try to get away and hold our pipes; their pids go to stdout as one line of JSON."""
    import subprocess

    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "family.py")
    held["family"] = subprocess.Popen([sys.executable, "-I", "-S", program], stdin=subprocess.DEVNULL)


def escape() -> None:
    """Start a child that nothing of ours can find, which holds our pipes and ends when stdin does; print its pid."""
    import subprocess

    code = "import sys; sys.stdin.read()"
    held["child"] = child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], env={}, start_new_session=True)
    print_(str(child.pid))


def bare_child() -> None:
    """Start a child with an emptied environment, in a group of its own but in our session; print its pid."""
    import subprocess

    held["child"] = child = subprocess.Popen(["/bin/sleep", "1000"], env={}, process_group=0)
    print_(str(child.pid))


def tell(number: str) -> None:
    """Say so on stderr when a signal comes, and live on."""
    held["wakeup"], writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    signal.signal(int(number), lambda got, _: error(f"got {signal.Signals(got).name}"))


def listen_abstract(name: str) -> None:
    """Listen on an abstract unix socket, which has no file and no permissions."""
    held["listener"] = listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{name}")
    listener.listen()


def main(words: list[str]) -> None:
    """Do one deed after the other."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while words:
        name = words.pop(0).replace("-", "_")
        deed = globals()[f"{name}_" if name in {"print", "exit", "list"} else name]
        arguments = [words.pop(0) for _ in range(deed.__code__.co_argcount)]
        places = {"{dir}": os.environ.get("PLUGIN_UNIX_SOCKET_DIR", ""), "{tcp}": held.get("tcp", "")}
        for place, value in places.items():
            arguments = [argument.replace(place, value) for argument in arguments]
        deed(*arguments)


main(sys.argv[1:])
