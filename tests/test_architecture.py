"""The floors of the house: what may import what. A layering rule without a test is a wish."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src"
PACKAGE = SOURCE / "supervisor"

FLOORS = {
    0: {
        "errors", "outcome", "lifecycle", "policy", "levels", "quoting", "records", "address", "terms", "spec", "events", "interface", "handshake",
        "log_lines", "tls", "reattach", "manifest", "trust",
    },
    1: {"abc"},
    2: {"_proto", "transport", "runners", "observe", "config"},
    3: {"services"},
    4: {"host", "sdk"},
    5: {"codegen", "testing", "contrib"},
    6: {"__main__"},
}  # fmt: skip
"""Floor → the modules and packages directly below `supervisor` that are on it."""

FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names}

FORBIDDEN_AT_THE_GROUND = {"asyncio", "anyio", "time", "random", "os", "socket", "subprocess", "logging", "threading"}

OWNERS = {
    "anyio": ("abc", "transport", "runners", "observe", "services", "host", "sdk", "testing", "contrib"),
    # `host.call` poses as grpclib's channel towards the stubs, and `sdk` takes grpclib's servicers.
    "grpclib": ("transport", "services", "sdk", "host.call", "testing"),
    "betterproto": ("transport", "services", "_proto"),
    "h2": ("transport", "testing"),
    "hpack": ("transport", "testing"),
    "hyperframe": ("transport", "testing"),
    "multidict": ("transport",),
    "cryptography": ("transport.tls",),
    "structlog": ("observe.structlog", "sdk"),
    "msgspec": ("config",),
    "dateutil": ("transport.light_imports",),  # betterproto's, put off
    "fastapi": ("contrib",),
    "starlette": ("contrib",),
    "_typeshed": ("",),  # types only
}
"""Third party → the modules, with all below them, that may import it."""

REFUSED_NAMES = {"utils", "helpers", "common", "base", "manager", "core", "types"}


@dataclass(frozen=True)
class Import:
    """One import statement's target, and where it stands."""

    importer: str
    target: str
    line: int
    for_types_only: bool
    lazy: bool

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    """Return the dotted name of a file below `src`."""
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


FILES = {
    module_name(path): path for path in sorted(PACKAGE.rglob("*.py")) if "_proto" not in path.relative_to(PACKAGE).parts
}


def imports_in(
    node: ast.AST, importer: str, package: str, *, types: bool = False, lazy: bool = False
) -> Iterator[Import]:
    """Yield the imports below `node`."""
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno, types, lazy)
        case ast.ImportFrom():
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                deep = f"{base}.{alias.name}"
                yield Import(importer, deep if deep in FILES else base, node.lineno, types, lazy)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for statement in node.body:
                yield from imports_in(statement, importer, package, types=True, lazy=lazy)
            for statement in node.orelse:
                yield from imports_in(statement, importer, package, types=types, lazy=lazy)
        case _:
            lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from imports_in(child, importer, package, types=types, lazy=lazy)


def all_imports() -> list[Import]:
    """Return every import statement of the package."""
    found: list[Import] = []
    for name, path in FILES.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        found += imports_in(ast.parse(path.read_text()), name, package)
    return found


IMPORTS = all_imports()
INTERNAL = [found for found in IMPORTS if found.target.split(".")[0] == "supervisor"]
EXTERNAL = [
    found
    for found in IMPORTS
    if found.target.split(".")[0] not in sys.stdlib_module_names and found.target.split(".")[0] != "supervisor"
]


def part_of(module: str) -> str:
    """Return the module or package directly below `supervisor` that `module` is in; empty for the front door."""
    return [*module.split("."), ""][1]


def floor_of(module: str) -> int:
    """Return the floor that `module` is on; the front door, and what has no floor yet, are at the top."""
    return FLOOR_OF.get(part_of(module), max(FLOORS))


def below(module: str, owner: str) -> bool:
    """Whether `module` is `owner`, named from `supervisor`, or inside it."""
    return not owner or module == f"supervisor.{owner}" or module.startswith(f"supervisor.{owner}.")


def test_every_module_is_on_a_floor() -> None:
    """A new module is placed here before it is imported anywhere."""
    assert {part_of(module) for module in FILES} - {""} <= FLOOR_OF.keys()


def test_imports_point_down_or_stay_in_their_package() -> None:
    """Only on the ground floor do neighbours know each other; imports for types hold to the floors too."""
    wrong = [
        str(found)
        for found in INTERNAL
        if part_of(found.importer) and part_of(found.importer) != part_of(found.target)
        if not (
            floor_of(found.target) < floor_of(found.importer) or floor_of(found.importer) == 0 == floor_of(found.target)
        )
    ]

    assert wrong == []


def test_the_wings_never_import_each_other() -> None:
    """A plugin does not load the host, and the host does not load the plugin's side."""
    wings = {"host": "sdk", "sdk": "host"}

    assert [str(found) for found in INTERNAL if wings.get(part_of(found.importer)) == part_of(found.target)] == []


def test_the_front_door_imports_nothing_when_it_is_opened() -> None:
    """It knows its names for type checkers, and loads each when it is used."""
    opened = [found for found in IMPORTS if found.importer == "supervisor" and not (found.for_types_only or found.lazy)]

    assert [str(found) for found in opened if found.target.split(".")[0] not in sys.stdlib_module_names] == []


def test_nobody_goes_through_the_front_door_from_inside() -> None:
    """Inside, a name is imported from where it lives."""
    assert [str(found) for found in INTERNAL if found.target == "supervisor"] == []


def test_there_is_no_import_cycle() -> None:
    """Modules can be loaded in any order; inside one package they may know each other's types in a circle."""
    graph: dict[str, set[str]] = {name: set() for name in FILES}
    for found in INTERNAL:
        same_package = part_of(found.importer) == part_of(found.target)
        counts = not found.lazy and not (found.for_types_only and same_package)
        if counts and part_of(found.importer) and found.target in FILES:
            graph[found.importer].add(found.target)
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_ground_floor_has_no_clock_no_dice_and_no_io() -> None:
    """Values and decisions: whoever calls brings the time, the chance and the bytes."""
    ground = [found for found in IMPORTS if part_of(found.importer) and floor_of(found.importer) == 0]

    assert [str(found) for found in ground if found.target.split(".")[0] in FORBIDDEN_AT_THE_GROUND] == []
    assert [str(found) for found in EXTERNAL if found in ground] == []


def test_the_ground_floor_awaits_nothing() -> None:
    """No coroutine, no lock, no task."""
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    wrong = [
        f"{name}:{node.lineno}"
        for name, path in FILES.items()
        if part_of(name) and floor_of(name) == 0
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, waiting)
    ]

    assert wrong == []


def test_each_third_party_has_an_owner() -> None:
    """What a third party does is translated in one place, so that it can be replaced there."""
    wrong = [
        str(found)
        for found in EXTERNAL
        if not any(below(found.importer, owner) for owner in OWNERS.get(found.target.split(".")[0], ()))
    ]

    assert wrong == []


def test_only_the_services_know_the_generated_messages() -> None:
    """Generated code is a detail of the framework's own services."""
    users = {part_of(found.importer) for found in INTERNAL if part_of(found.target) == "_proto"}

    assert users <= {"services"}


def test_no_module_has_a_name_that_says_nothing() -> None:
    """A module is named after what is in it."""
    assert [name for name in FILES if name.rpartition(".")[2].strip("_") in REFUSED_NAMES] == []


def test_no_module_outgrows_its_reader() -> None:
    """About 250 lines are meant and 400 are a smell; this is the wall."""
    assert {name: lines for name, path in FILES.items() if (lines := len(path.read_text().splitlines())) > 500} == {}


def test_every_module_says_what_it_is_for() -> None:
    """In a docstring; and it says what it exports."""
    trees = {name: ast.parse(path.read_text()) for name, path in FILES.items() if path.read_text().strip()}

    assert [name for name, tree in trees.items() if ast.get_docstring(tree) is None] == []


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import supervisor", ["supervisor.errors", "asyncio", "anyio", "grpclib"]),
        (
            "import supervisor.sdk",
            ["supervisor.host", "supervisor.runners", "msgspec", "cryptography", "google.protobuf"],
        ),
        ("from supervisor import Supervisor", ["supervisor.sdk", "msgspec", "cryptography", "google.protobuf"]),
        (
            "import supervisor.handshake, supervisor.log_lines, supervisor.spec",
            ["asyncio", "anyio", "grpclib", "msgspec", "logging"],
        ),
    ],
)
def test_what_is_imported_loads_no_more_than_it_needs(statement: str, absent: list[str]) -> None:
    """Start-up time is counted against a plugin's `start_timeout`, and memory once per plugin."""
    code = f"import sys\n{statement}\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert [name for name in absent if name in done.stdout.split()] == []
