"""The command line: check a configuration, print its schema, compile .proto files.

python -m supervisor check plugins.toml
python -m supervisor schema > plugins.schema.json
python -m supervisor compile kv.proto
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from supervisor.config import config_schema, load_config
from supervisor.errors import ConfigurationError
from supervisor.spec import PluginSpec

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, 1 for a file with an error, 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="plugin-supervisor", description="Check configurations of plugins, compile their contracts."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="check a configuration and list its plugins")
    check.add_argument("file", help="the configuration file")
    commands.add_parser("schema", help="print the JSON Schema of the configuration, for editors")
    compiler = commands.add_parser(
        "compile", help="compile .proto files into stubs and servers, with their descriptors"
    )
    compiler.add_argument("-I", "--include", type=Path, default=Path(), help="the folder that imports start from")
    compiler.add_argument("-o", "--output", type=Path, default=Path(), help="where the packages go")
    compiler.add_argument("files", nargs="+", help="the files, relative to the folder of -I")
    options = parser.parse_args(arguments)
    match options.command:
        case "schema":
            print(json.dumps(config_schema(), indent=2))
            return 0
        case "compile":
            return _compile(options.files, options.include, options.output)
        case _:
            return _check(options.file)


def _check(file: str) -> int:
    try:
        spec = load_config(file)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{file}: {len(spec.plugins)} plugin{'s' * (len(spec.plugins) != 1)}, {spec.strategy}")
    for plugin in spec.plugins:
        print(f"  {_describe(plugin)}")
    if spec.discovery is not None:
        where = [spec.discovery.pattern] if spec.discovery.pattern else []
        print(f"  and what is found: {', '.join(where + ['entry points'] * spec.discovery.entry_points)}")
    return 0


def _compile(files: Sequence[str], include: Path, output: Path) -> int:
    from supervisor.codegen import compile_protos  # noqa: PLC0415  # the other commands need none of it

    try:
        modules = compile_protos(files, include=include, output=output)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 1
    print(*modules, sep="\n")
    return 0


def _describe(plugin: PluginSpec) -> str:
    provides = f", provides {', '.join(plugin.provides)}" if plugin.provides else ""
    return f"{plugin.name}: {shlex.join(plugin.command)} ({plugin.restart.restart}{provides})"


if __name__ == "__main__":
    sys.exit(main())
