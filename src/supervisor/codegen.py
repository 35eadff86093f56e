"""From .proto files to what plugins and hosts import: betterproto's code, with its descriptors beside it.

protoc and the compiler come with `pip install 'plugin-supervisor[compiler]'`; they are not needed to run anything.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from supervisor.errors import ConfigurationError
from supervisor.services.descriptors import Descriptors, join_files, split_set

__all__ = ["compile_protos"]


def compile_protos(sources: Sequence[str], *, include: Path, output: Path) -> list[Path]:
    """Compile files into packages below `output` and return the modules, one for each proto package.

    Package `a.b` becomes `a/b/__init__.py`; beside it is `b.binpb`, the descriptors from which a plugin answers
    reflection. Nothing is written when there is an error.

    Args:
        sources: the files, relative to `include`.
        include: the folder that imports start from.
        output: where packages go; a package that is there already keeps whatever was not generated.

    Raises:
        ConfigurationError: the compiler is not installed, or refuses a file.
    """
    with tempfile.TemporaryDirectory() as scratch:
        generated, descriptor_set = Path(scratch, "generated"), Path(scratch, "set")
        generated.mkdir()
        _run_protoc(
            f"-I{include}",
            f"--python_betterproto_out={generated}",
            "--include_imports",
            f"--descriptor_set_out={descriptor_set}",
            *sources,
        )
        packages = _split_by_package(descriptor_set.read_bytes(), sources)
        return [_place(package, data, generated, output) for package, data in packages.items()]


def _run_protoc(*arguments: str) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        raise ConfigurationError(
            "the compiler is not installed", hint="pip install 'plugin-supervisor[compiler]' brings it"
        )
    # betterproto's plugin is a script of this environment, which need not be on the PATH.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
    done = subprocess.run(  # noqa: S603  # nothing is passed to a shell
        [sys.executable, "-m", "grpc_tools.protoc", *arguments],
        env={**os.environ, "PATH": path},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ConfigurationError(f"protoc refused: {done.stderr.strip()}")


def _split_by_package(descriptor_set: bytes, sources: Iterable[str]) -> dict[str, bytes]:
    """Return, for each package of the sources, a descriptor set of its files and of what they import."""
    descriptors = Descriptors()
    for data in split_set(descriptor_set):
        descriptors.add(data)
    names: dict[str, dict[str, None]] = {}
    for source in sources:
        package = descriptors.package(Path(source).as_posix())
        if not package:
            raise ConfigurationError(f"{source} has no package", hint="it names the module: write `package my_proto;`")
        names.setdefault(package, {}).update(dict.fromkeys(descriptors.with_imports(Path(source).as_posix())))
    return {package: join_files(map(descriptors.data, files)) for package, files in names.items()}


def _place(package: str, descriptor_set: bytes, generated: Path, output: Path) -> Path:
    """Put a package where it belongs; the packages around it are made if they are not there."""
    parts = package.split(".")
    folder = output.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    for depth in range(1, len(parts)):
        output.joinpath(*parts[:depth], "__init__.py").touch()
    module = folder / "__init__.py"
    shutil.copyfile(generated.joinpath(*parts, "__init__.py"), module)
    (folder / f"{parts[-1]}.binpb").write_bytes(descriptor_set)
    return module
