"""Run a fuzz target under atheris: `python tests/fuzz/run.py TARGET [libFuzzer's options and folders]`.

atheris is not among the dependencies: `pip install atheris`. A finding is written to a file, `crash-...`; the same command with
the file's name behind it runs it again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "kit"))


def main() -> None:
    """Run one target until something is found, or as long as the options say."""
    try:
        import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore] # noqa: PLC0415 - where it is installed
    except ImportError:
        sys.exit("atheris is not installed: pip install atheris")
    with atheris.instrument_imports(include=["supervisor"]):
        from fuzz_targets import SEEDS, TARGETS  # noqa: PLC0415 - after atheris
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: run.py TARGET [options]; the targets are {', '.join(TARGETS)}")
    name = sys.argv.pop(1)
    with tempfile.TemporaryDirectory() as folder:
        for number, seed in enumerate(SEEDS.get(name, ())):
            (Path(folder) / str(number)).write_bytes(seed)
        # What is new goes into the first folder, what there was is looked for in all of them.
        given = any(not argument.startswith("-") for argument in sys.argv[1:])
        atheris.Setup([*sys.argv, *(() if given else (tempfile.mkdtemp(prefix="fuzz-"),)), folder], TARGETS[name])
        atheris.Fuzz()


if __name__ == "__main__":
    main()
