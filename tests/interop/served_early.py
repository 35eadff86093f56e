"""A plugin with something to say before it serves: `prints`, or `fails`."""

import os
import subprocess
import sys

import structlog
from interop_serving import serve_as_asked  # which imports supervisor.sdk
from kv_proto import KvBase

match sys.argv[1]:
    case "prints":
        print("loading ...", flush=True)  # noqa: T201  # the point of it
        os.write(1, b"written raw\n")
        structlog.get_logger("early").warning("said by structlog's default")
        subprocess.run(["echo", "said by a child"], check=True)
    case "fails":
        raise LookupError("there is no configuration")

serve_as_asked(KvBase())
