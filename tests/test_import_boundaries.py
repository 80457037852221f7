"""Who may import whom: each file only files above it, and the sandbox nothing of the client."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import langchain_shortapi_flux

PACKAGE = "langchain_shortapi_flux"
ROOT = Path(langchain_shortapi_flux.__file__).parent

# Each file may import only files above it.
ORDER = [
    # What users hold, and what stands alone.
    *(
        "errors",
        "version",
        "loopback",
        "process_lock",
        "invalid_values",
        "job",
        "flux_jobs",
        "waiting",
        "pace",
        "learned_delay",
        "doorbell",
        "leave_taking",
    ),
    # The service's spelling.
    *("http_acts", "envelope", "job_record", "wire"),
    # What was bought, and what may be.
    *(
        "ledger",
        "socket_watch",
        "ledger_database",
        "sql_ledger",
        "budget_books",
        "spending",
        "callback_body",
        "callback_server",
        "callback",
    ),
    # The life of a job.
    *(
        "flow_steps",
        "job_outcome",
        "follow_flow",
        "kept_outcome",
        "lost_create",
        "job_flow",
        "purchase",
        "claim_flow",
        "purchase_flow",
    ),
    # Performing it.
    *(
        "account",
        "connection",
        "surroundings",
        "socket_contact",
        "socket_turns",
        "shared_waits",
        "loop_session",
        "requests_call",
        "requests_driver",
        "aiohttp_call",
        "aiohttp_driver",
        "loop_thread",
    ),
    # Pictures on disk.
    *(
        "picture_type",
        "picture_address",
        "picture_names",
        "picture_body",
        "image_download",
        "sidecar",
        "whole_file",
        "image_files",
    ),
    # LangChain's edges.
    *(
        "flux_input",
        "input_reading",
        "flux_flows",
        "traced_cost",
        "tool_progress",
        "run_progress",
        "flux_settings",
        "job_running",
        "batch",
        "batch_buying",
        "flux_wrapping",
        "runnable",
        "save_images",
        "tool_content",
        "tool_arguments",
        "answering_tool",
        "picture_tool",
        "tool",
        "get_job_tool",
        "toolkit",
    ),
    # For the eye.
    *(
        "job_words",
        "shown_picture",
        "job_html",
        "notebook_display",
        "progress_count",
        "progress_bars",
        "progress",
    ),
    # The doors.
    "__init__",
    *(
        "command_line.__init__",
        "command_line.terminal",
        "command_line.job_json",
        "command_line.prompt_file",
        "command_line.command_failure",
        "command_line.command_options",
        "command_line.command_service",
        "command_line.single_command",
        "command_line.batch_ledger",
        "command_line.line_outcomes",
        "command_line.creates_under_way",
        "command_line.batch_signals",
        "command_line.batch_report",
        "command_line.batch_ending",
        "command_line.batch_command",
        "__main__",
    ),
]

# Doors into rooms further down (or next door), opened only inside a function.
DOORS = {
    ("job", "image_files"),
    ("job", "notebook_display"),
    ("flux_jobs", "notebook_display"),
    ("__main__", "sandbox"),
}


@dataclass(frozen=True)
class _Import:
    """One import of a module of this package."""

    module: str
    line: int
    inside_function: bool


def _named(dotted: str, names: list[str]) -> list[str]:
    """The modules of this package that an import statement reaches. The sandbox is one."""
    package, _, rest = dotted.partition(".")
    if package != PACKAGE:
        return []
    if rest:
        return [rest.split(".")[0] if rest.startswith("sandbox") else rest]
    rooms = {"sandbox", *ORDER}
    return [name if name in rooms else "__init__" for name in names or ["__init__"]]


def _imports(source: str) -> list[_Import]:
    found: list[_Import] = []

    def visit(node: ast.AST, *, inside: bool) -> None:
        modules: list[str] = []
        if isinstance(node, ast.ImportFrom):
            modules = _named(node.module or "", [alias.name for alias in node.names])
        elif isinstance(node, ast.Import):
            modules = [name for alias in node.names for name in _named(alias.name, [])]
        line = getattr(node, "lineno", 0)
        found.extend(_Import(module, line, inside) for module in modules)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inside=inside)

    visit(ast.parse(source), inside=False)
    return found


def _violations(room: str, source: str) -> list[str]:
    above = ORDER[: ORDER.index(room)]
    return [
        f"{room}:{one.line} imports {one.module}"
        for one in _imports(source)
        if one.module not in above and not (one.inside_function and (room, one.module) in DOORS)
    ]


def _source(room: str) -> str:
    return (ROOT / f"{room.replace('.', '/')}.py").read_text("utf-8")


def test_every_file_has_its_place() -> None:
    """A new file is put into the order by decision, not by accident."""
    files = {path.relative_to(ROOT).with_suffix("") for path in ROOT.rglob("*.py")}
    assert {".".join(path.parts) for path in files if path.parts[0] != "sandbox"} == set(ORDER)


@pytest.mark.parametrize("room", ORDER)
def test_each_file_imports_only_files_above_it(room: str) -> None:
    """Knowledge flows one way, so each file can be read and changed by itself."""
    assert _violations(room, _source(room)) == []


def test_every_door_is_used() -> None:
    """An exception that nobody needs any more is struck off the list."""
    used = {
        (room, one.module)
        for room in ORDER
        for one in _imports(_source(room))
        if one.inside_function
    }
    assert used >= DOORS


@pytest.mark.parametrize("path", sorted(ROOT.glob("sandbox/*.py")), ids=lambda path: str(path.stem))
def test_the_sandbox_imports_nothing_of_the_client(path: Path) -> None:
    """A shared reading of the service would hide a shared misreading."""
    assert {one.module for one in _imports(path.read_text("utf-8"))} <= {"sandbox"}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("job", "from langchain_shortapi_flux.runnable import ShortAPIFlux"),
        ("job", "from langchain_shortapi_flux.image_files import save_job"),
        ("job", "import langchain_shortapi_flux.wire"),
        ("job", "from langchain_shortapi_flux import wire"),
        ("tool", "from langchain_shortapi_flux import ShortAPIFlux"),
        ("wire", "def f():\n    from langchain_shortapi_flux.sandbox import Sandbox"),
        ("wire", "if TYPE_CHECKING:\n    from langchain_shortapi_flux.tool import T"),
        ("__main__", "from langchain_shortapi_flux.sandbox.server import ShortAPIServer"),
    ],
)
def test_a_forbidden_import_is_found(room: str, source: str) -> None:
    """The reader of imports itself: it must see through every spelling."""
    assert len(_violations(room, source)) == 1


def test_importing_the_package_imports_no_http_library() -> None:
    """Import time: what LangChain has not imported already is imported when first used."""
    program = f"""
import sys
from langchain_core.runnables import RunnableSerializable
from langchain_core.tools import BaseTool
before = set(sys.modules)
import {PACKAGE}
{PACKAGE}.ShortAPIFlux()
{PACKAGE}.ShortAPIFluxTool()
print(*sorted({{name.split(".")[0] for name in set(sys.modules) - before}}))
print(*sorted(name for name in sys.modules if name.startswith("{PACKAGE}.")))
"""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    new, ours = (line.split() for line in ended.stdout.splitlines())
    heavy = {"requests", "urllib3", "aiohttp", "yarl", "PIL", "langgraph", "langchain", "certifi"}
    assert not heavy & set(new)
    for room in ("requests_driver", "aiohttp_driver", "loop_session", "image_files", "sandbox"):
        assert f"{PACKAGE}.{room}" not in ours
