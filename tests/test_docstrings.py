"""Docstrings: every example in one runs, on the sandbox, and every public name is described whole.

Examples are found in the source, so that none is missed; what is public is asked of the classes.
A parameter or a field that LangChain or pydantic has too under that name needs no words of ours.
"""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import re
import textwrap
import time
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from scripted_model import ScriptedModel
from taught_delays import teach_that_jobs_end_at_once

import langchain_shortapi_flux
from langchain_shortapi_flux import Budget, CallbackReceiver, FluxRequest, ShortAPIFlux, SqlLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from langchain_shortapi_flux.sandbox import Sandbox

PACKAGE = "langchain_shortapi_flux"
ROOT = Path(langchain_shortapi_flux.__file__).parent

DRAWINGS = {
    "errors": "the tree of errors",
    "job_flow": "how a flow is driven, with a gap for the driver's part",
    "spending": "a job's life in a budget",
}
"""Modules whose docstring draws something after a ``::``. What can be compiled is no drawing."""
WITH_EXAMPLES = {
    *("runnable.ShortAPIFlux", "tool.ShortAPIFluxTool", "toolkit.ShortAPIFluxToolkit"),
    *("spending.Budget", "spending.Budget.unknown", "callback.CallbackReceiver"),
    *("progress.FluxProgress", "save_images.SaveImages", "sql_ledger.SqlLedger.prune"),
    *("sandbox", "sandbox.sandbox.Sandbox"),
}
"""Where an example stands at least."""


# --- the examples -----------------------------------------------------------------------------


def _docstrings_in(body: list[ast.stmt], name: str) -> Iterator[tuple[str, str]]:
    """Each string that stands alone, under the name of what it is about."""
    about = name
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _docstrings_in(node.body, f"{name}.{node.name}")
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            about = f"{name}.{node.target.id}"
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            about = f"{name}.{node.targets[0].id}"
        elif (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield about, inspect.cleandoc(node.value.value)


@cache
def _docstrings() -> dict[str, str]:
    """Every docstring of the package, of modules, classes, functions and attributes."""
    found: dict[str, str] = {}
    for file in sorted(ROOT.rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for about, text in _docstrings_in(tree.body, name):
            found[about] = f"{found[about]}\n\n{text}" if about in found else text
    return found


def _blocks(text: str) -> list[str]:
    """The blocks of code after a ``::`` or in a fence."""
    fenced = re.findall(r"^ *```(?:python)?\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    indented = re.findall(r"^( *)[^\n]*::\n\n((?:\1 +[^\n]*\n|\n)+)", f"{text}\n", re.MULTILINE)
    return [textwrap.dedent(block) for block in (*fenced, *(code for _, code in indented))]


BLOCKS = {
    f"{name}, block {number}": block
    for name, text in _docstrings().items()
    if name not in DRAWINGS
    for number, block in enumerate(_blocks(text), 1)
}
DOCTESTS = {name: text for name, text in _docstrings().items() if ">>>" in text}


class ReceiverOnAnyPort(CallbackReceiver):
    """One that takes a free port, for the one that an example names may be another's."""

    def __init__(self, public_url: str | None = None, **how: Any) -> None:
        super().__init__(public_url, **{**how, "port": 0})


class Application:
    """A web framework's application, as far as the examples use one."""

    def __init__(self) -> None:
        self.mounted: dict[str, Any] = {}

    def add_subapp(self, prefix: str, application: Any) -> None:
        """As in ``aiohttp.web``."""
        self.mounted[prefix] = application

    def post(self, path: str, status_code: int) -> Callable[[Any], Any]:
        """As in FastAPI."""
        assert status_code == 204

        def take(route: Any) -> Any:
            self.mounted[path] = route
            return route

        return take


@dataclass
class Request:
    """A web framework's request, as far as the examples use one."""

    pieces: list[bytes] = field(default_factory=list)

    async def stream(self) -> AsyncIterator[bytes]:
        """The body, as it comes in."""
        for piece in self.pieces:
            yield piece


def _names(sandbox: Sandbox, folder: Path) -> dict[str, Any]:
    """What a reader has before an example begins."""
    from langchain.agents import create_agent
    from langchain_core.prompts import PromptTemplate
    from langchain_core.runnables import RunnablePassthrough

    flux, budget = ShortAPIFlux(), Budget("1.00")
    request = FluxRequest(prompt="a red fox in the snow")
    budget.reserve(request, flux.model, flux.base_url).keep()
    public = {name: getattr(langchain_shortapi_flux, name) for name in PUBLIC[PACKAGE]}
    return public | {
        "flux": flux,
        "budget": budget,
        "job_id": flux.create(request).job_id,
        "prompts": ["a red fox", "a barn owl"],
        "prompt": PromptTemplate.from_template("Say how a poster of {it} looks"),
        "llm": ScriptedModel(answers=["A poster of a red fox"]),
        "model": ScriptedModel(),
        "ledger": SqlLedger(f"sqlite:///{folder / 'jobs.db'}"),
        "app": Application(),
        "create_agent": create_agent,
        "RunnablePassthrough": RunnablePassthrough,
        "CallbackReceiver": ReceiverOnAnyPort,
        "Request": Request,
        "time": time,
    }


def _run(code: str, names: dict[str, Any]) -> None:
    """Run a block, ``await`` and all, as a notebook's cell is run."""
    compiled = compile(code, "docstring", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if compiled.co_flags & inspect.CO_COROUTINE:
        asyncio.run(eval(compiled, names))
    else:
        exec(compiled, names)


@pytest.fixture
def names(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What a reader has, in an environment that leads to the sandbox."""
    teach_that_jobs_end_at_once(sandbox)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHORTAPI_KEY", sandbox.api_key)
    monkeypatch.setenv("SHORTAPI_BASE_URL", sandbox.base_url)
    return _names(sandbox, tmp_path)


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_in_a_docstring_runs_as_it_stands(name: str, names: dict[str, Any]) -> None:
    """What a docstring shows works."""
    _run(BLOCKS[name], names)


def test_the_lines_for_another_server_hand_a_call_on(names: dict[str, Any]) -> None:
    """What the docstring has for FastAPI wakes the job whose token was called."""
    (code,) = (code for code in BLOCKS.values() if "@app.post" in code)
    _run(code, names)
    expected = names["receiver"].expect()
    token = expected.url.rpartition("/")[2]
    asyncio.run(names["app"].mounted["/flux/{token}"](token, Request([b"{}"])))
    assert expected.called


@pytest.mark.parametrize("name", DOCTESTS)
def test_every_doctest_holds(name: str, names: dict[str, Any]) -> None:
    """What a docstring says comes out comes out."""
    sandbox = importlib.import_module(f"{PACKAGE}.sandbox")
    known = names | {each: getattr(sandbox, each) for each in sandbox.__all__}
    example = doctest.DocTestParser().get_doctest(DOCTESTS[name], known, name, None, 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS, verbose=False)
    problems: list[str] = []
    result = runner.run(example, out=problems.append)
    assert result.attempted > 0
    assert not result.failed, "".join(problems)


def test_no_example_is_passed_over() -> None:
    """Counted anew, line by line in the source: as many as were found to be run."""
    lines = [
        line.rstrip() for file in ROOT.rglob("*.py") for line in file.read_text("utf-8").split("\n")
    ]
    drawn = sum(len(_blocks(_docstrings()[name])) for name in DRAWINGS)
    marked = [line for line in lines if line.endswith("::") or line.lstrip().startswith("```p")]
    assert len(marked) == len(BLOCKS) + drawn
    prompts = [line for line in lines if line.lstrip().startswith(">>> ")]
    parser = doctest.DocTestParser()
    assert len(prompts) == sum(len(parser.get_examples(text)) for text in DOCTESTS.values())
    assert {name.split(",")[0] for name in BLOCKS} | set(DOCTESTS) >= WITH_EXAMPLES


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_no_code(name: str) -> None:
    """No example escapes being run by standing where a drawing stands."""
    blocks = _blocks(_docstrings()[name])
    assert blocks
    for block in blocks:
        with pytest.raises(SyntaxError):
            compile(block, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


# --- what is public ---------------------------------------------------------------------------

PUBLIC = {
    module: list(importlib.import_module(module).__all__)
    for module in (PACKAGE, f"{PACKAGE}.errors", f"{PACKAGE}.sandbox")
}
ALSO_HELD = (
    *("budget_books.Amounts", "spending.Reservation", "callback.Expected"),
    *("ledger.Entry", "ledger.Claim", "ledger.Bought", "ledger.Ended"),
    "learned_delay.LearnedDelays",
)
"""Classes that users hold without having imported them, and those who write a ``Ledger``."""
VALUES = {
    *("__version__", "FluxInput", "learned_delays"),
    "errors.Charge",
}
"""Public names that are no classes."""
MADE_HERE = {"spending.Reservation", "callback.Expected", "learned_delay.LearnedDelays"}
"""Classes that nobody else makes: how is not public."""
SAID_IN_PROSE = {
    "sandbox.Charge.job_id": "What one job has cost",
    "sandbox.Charge.usd": "in USD",
    "sandbox.Sandbox.inject.faults": "Queue faults",
    "sandbox.Sandbox.finish.job_id": "End that job",
}
"""What is described without its name, and the words that do so."""


def _public_classes() -> dict[str, type]:
    """Each public class, by the name that users know it by."""
    found = {
        f"{module.removeprefix(PACKAGE).lstrip('.')}.{name}".lstrip("."): getattr(
            importlib.import_module(module), name
        )
        for module, names in PUBLIC.items()
        for name in names
    }
    for path in ALSO_HELD:
        module, _, name = path.rpartition(".")
        found[path] = getattr(importlib.import_module(f"{PACKAGE}.{module}"), name)
    assert {name for name, one in found.items() if not isinstance(one, type)} == VALUES
    return {name: one for name, one in found.items() if isinstance(one, type)}


CLASSES = _public_classes()


def _ours(of: type) -> list[type]:
    return [one for one in of.__mro__ if one.__module__.startswith(PACKAGE)]


def _others(of: type) -> list[type]:
    return [one for one in of.__mro__ if not one.__module__.startswith(PACKAGE)]


def _function(member: object) -> Any:
    if isinstance(member, (classmethod, staticmethod)):
        return member.__func__
    return member.fget if isinstance(member, property) else member


def _members(of: type) -> dict[str, tuple[type, Any]]:
    """Public methods and properties written here, each with the class that has it."""
    found: dict[str, tuple[type, Any]] = {}
    for one in reversed(_ours(of)):
        for name, member in vars(one).items():
            function = _function(member)
            here = inspect.isfunction(function) and function.__module__.startswith(PACKAGE)
            if here and not name.startswith("_") and function.__qualname__.startswith(one.__name__):
                found[name] = (one, member)
    return found


MEMBERS = {
    f"{public}.{name}": (of, *held)
    for public, of in CLASSES.items()
    for name, held in _members(of).items()
}


def _own_parameters(of: type, name: str, function: Any) -> list[str]:
    """What a method takes that the method of that name elsewhere, LangChain's say, does not."""
    theirs: set[str] = {"self", "cls"}
    for one in _others(of):
        if inspect.isfunction(elsewhere := _function(vars(one).get(name))):
            theirs |= set(inspect.signature(elsewhere).parameters)
    return [each for each in inspect.signature(function).parameters if each not in theirs]


def _constructor_parameters(of: type) -> list[str]:
    """What a class that is no pydantic model takes, beside the names that its fields have."""
    inherited = issubclass(of, BaseException) and "__init__" not in vars(of)
    if hasattr(of, "model_fields") or inherited:
        return []
    written = next((one for one in _ours(of) if "__init__" in vars(one)), None)
    if written is None or getattr(of, "_is_protocol", False):
        return []
    return [
        name
        for name in inspect.signature(vars(written)["__init__"]).parameters
        if name not in {"self", "args", "kwargs"}
    ]


@cache
def _attribute_words(of: type) -> dict[str, str]:
    """What the docstrings under a class's fields say."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(of)))
    (body,) = (node.body for node in tree.body if isinstance(node, ast.ClassDef))
    return {name.partition(".")[2]: text for name, text in _docstrings_in(body, "") if "." in name}


def _class_words(of: type) -> str:
    constructors = [vars(one)["__init__"] for one in _ours(of) if "__init__" in vars(one)]
    texts = [inspect.getdoc(one) for one in (*_ours(of), *constructors)]
    return "\n\n".join(text for text in texts if text)


def _entry(name: str, words: str) -> str | None:
    """What stands in a list (``Args``, ``Attributes``) under that name."""
    found = re.search(rf"^( +){name}: (.*(?:\n\1 +.*)*)", words, re.MULTILINE)
    return found and " ".join(found[2].split())


def _fields(of: type) -> list[str]:
    """The public fields that a class declares here, and that no class elsewhere has too."""
    theirs = {name for one in _others(of) for name in inspect.get_annotations(one)}
    return [
        name
        for one in _ours(of)
        for name, kind in inspect.get_annotations(one).items()
        if not name.startswith("_") and name not in theirs and "ClassVar" not in str(kind)
    ]


def _field_words(of: type, name: str) -> str | None:
    for one in _ours(of):
        if words := _attribute_words(one).get(name):
            return words
    described = getattr(of, "model_fields", {}).get(name)
    if described is not None and described.description:
        return str(described.description)
    return _entry(name, _class_words(of))


def _spans(words: str) -> str:
    """What is set as code."""
    return "\n".join(re.findall(r"(?<!`)`{1,2}([^`]+)`{1,2}(?!`)", words))


def _is_said(name: str, words: str, where: str) -> bool:
    """Whether words describe what has that name: in a list, in a sentence, or as an exception."""
    named = re.search(rf"\b{name}\b", _spans(words)) or _entry(name, words)
    return bool(named) or (where in SAID_IN_PROSE and SAID_IN_PROSE[where] in words)


def _method_words(of: type, name: str, seen: frozenset[str] = frozenset()) -> str:
    """A method's docstring, and those that it leads to: its twin's, or a protocol's."""
    words = inspect.getdoc(_function(inspect.getattr_static(of, name))) or ""
    for there in re.findall(r"(?:twin of|\b[Aa]s|\b[Ss]ee) ``([\w.]+)``", words):
        owner, _, method = there.rpartition(".")
        if there in CLASSES:
            owner, method = there, name
        target = CLASSES.get(owner, of) if owner else of
        if there not in seen and hasattr(target, method):
            words += "\n\n" + _method_words(target, method, seen | {there})
    return words


def test_every_public_class_has_a_docstring_of_its_own() -> None:
    """``help`` says what a class is, in words of ours and not of its base."""
    for public, of in CLASSES.items():
        assert (vars(of).get("__doc__") or "").strip(), public


def test_every_public_value_is_described_where_it_is_made() -> None:
    """The names that are no classes have a docstring beneath them."""
    for name in VALUES - {"__version__"}:
        assert any(one.endswith(f".{name.rpartition('.')[2]}") for one in _docstrings()), name


def test_every_public_method_and_property_is_described() -> None:
    """Each has a docstring of its own, which names every parameter that is ours."""
    for name, (of, written, member) in MEMBERS.items():
        function, method = _function(member), name.rpartition(".")[2]
        assert (function.__doc__ or "").strip(), f"{name} has no docstring"
        words = _method_words(written, method)
        for parameter in _own_parameters(of, method, function):
            where = f"{name}.{parameter}"
            assert _is_said(parameter, words, where), where


def test_every_field_and_constructor_argument_is_described() -> None:
    """Each has words of its own: under it, in its ``Field``, or in the class's lists."""
    for public, of in CLASSES.items():
        words = _class_words(of)
        for name in _fields(of):
            where = f"{public}.{name}"
            assert _field_words(of, name) or _is_said(name, words, where), where
        if public not in MADE_HERE:
            for name in _constructor_parameters(of):
                assert _entry(name, words) or name in _fields(of), f"{public}.{name}"


def test_what_is_said_in_prose_alone_is_there() -> None:
    """No exception outlives what it was made for."""
    about = {where for where, _name, _words in _described()}
    for where in SAID_IN_PROSE:
        assert where in about


# --- what is raised ---------------------------------------------------------------------------

RAISING = {
    "ShortAPIFlux": {
        *("invoke", "ainvoke", "stream", "astream", "create", "acreate", "query", "aquery"),
        *("follow", "afollow", "stream_job", "astream_job", "batch", "abatch"),
        *("batch_as_completed", "abatch_as_completed", "connection", "configurable_fields"),
    },
    "ShortAPIFluxTool": {"invoke", "ainvoke"},
    "FluxGetJobTool": {"invoke", "ainvoke"},
    "FluxImage": {"download", "adownload"},
    "FluxJob": {"save", "asave", "display"},
    "FluxJobs": {"display"},
    "SaveImages": {"invoke", "ainvoke"},
    "Budget": {"price_of", "reserve"},
    "spending.Reservation": {"spend"},
    "CallbackReceiver": {"app"},
    "SqlLedger": {"claim", "bought", "ended", "entries", "prune"},
    "sandbox.Sandbox": {"start", "finish", "base_url"},
}
"""What can fail by contract, and says how."""
QUIET = {
    "ShortAPIFlux": {
        *("with_retry", "with_fallbacks", "is_lc_serializable", "lc_secrets", "to_json"),
    },
    "ShortAPIFluxTool": {"get_input_schema"},
    "FluxGetJobTool": {"get_input_schema"},
    "ShortAPIFluxToolkit": {"get_tools"},
    "FluxRequest": {"filled_from"},
    "FluxImage": {"from_bytes", "inline", "come_from"},
    "FluxJob": {"content_blocks", "model_copy", "model_post_init"},
    "SaveImages": {"is_lc_serializable"},
    "PollPolicy": {"fixed", "wait"},
    "RetryLimits": {"wait"},
    "Budget": {"amounts", "usd", "spent", "reserved", "left", "unknown", "settle"},
    "spending.Reservation": {
        *("price", "model", "base_url", "job_id", "bought", "give_back", "keep"),
    },
    "CallbackReceiver": {"waiting", "port", "expect", "handle"},
    "callback.Expected": {
        *("called", "hint", "take_hint", "is_named", "job_is", "ring", "close"),
    },
    "FluxProgress": {
        *("spent", "may_have_been_charged", "close"),
        *("ignore_llm", "ignore_chat_model", "ignore_retriever", "ignore_retry"),
        *("on_chain_start", "on_chain_end", "on_chain_error", "on_custom_event"),
        *("on_tool_end", "on_tool_error"),
    },
    "Ledger": {"claim", "bought", "ended"},
    "MemoryLedger": {"claim", "bought", "ended"},
    "SqlLedger": {"close"},
    "ledger.Claim": {"entry"},
    "learned_delay.LearnedDelays": {"observe", "first_delay", "snapshot", "forget"},
    "sandbox.Sandbox": {
        *("stop", "inject", "api_key", "jobs", "charges", "balance", "calls"),
        *("open_connections", "peak_connections"),
    },
    "sandbox.Fault": {"http_status", "text", "takes_effect"},
    "sandbox.SandboxJob": {"image_count"},
}
"""What raises nothing by contract, or leaves it to its reader (``Ledger``)."""
CHECKED_WHEN_MADE = {
    *("ShortAPIFlux", "ShortAPIFluxTool", "FluxGetJobTool", "ShortAPIFluxToolkit"),
    *("FluxRequest", "PollPolicy", "RetryLimits", "SaveImages", "Budget", "CallbackReceiver"),
    *("FluxProgress", "MemoryLedger", "SqlLedger", "sandbox.Sandbox"),
}
"""Classes that refuse what they are made with, and say so."""


def _listed(lists: dict[str, set[str]]) -> set[str]:
    return {f"{public}.{name}" for public, names in lists.items() for name in names}


def test_of_every_public_method_it_is_settled_whether_it_raises() -> None:
    """A new one has to be put into one of the two lists above, and none that is gone stays."""
    assert _listed(RAISING) | _listed(QUIET) == set(MEMBERS)
    assert not _listed(RAISING) & _listed(QUIET)


def test_what_can_fail_says_how() -> None:
    """Its docstring, its twin's or its protocol's has ``Raises``."""
    for name in sorted(_listed(RAISING)):
        _public, written, _member = MEMBERS[name]
        assert "Raises:\n" in _method_words(written, name.rpartition(".")[2]), name


def test_what_says_nothing_of_raising_raises_nothing() -> None:
    """No ``raise`` stands in it."""
    for name in sorted(_listed(QUIET)):
        _public, _written, member = MEMBERS[name]
        tree = ast.parse(textwrap.dedent(inspect.getsource(_function(member))))
        assert not any(isinstance(node, ast.Raise) for node in ast.walk(tree)), name


def test_what_is_checked_when_made_says_what_is_raised() -> None:
    """A class that refuses an argument names the error, in its own docstring."""
    for public in CHECKED_WHEN_MADE:
        assert "Raises:\n" in _class_words(CLASSES[public]), public
    for public, of in CLASSES.items():
        for maker in ("__init__", "__post_init__"):
            making = vars(of).get(maker)
            if making is None or not making.__code__.co_filename.startswith(str(ROOT)):
                continue  # none, or one that a dataclass or a protocol has made
            raises = "raise " in inspect.getsource(making)
            assert public in CHECKED_WHEN_MADE or public in _SCRIPTS or not raises, public


_SCRIPTS = {"sandbox.Fault"}
"""Their authors read the error, which says what is allowed."""


# --- in which unit ----------------------------------------------------------------------------

UNITS = {
    r"seconds?\b|\bUTC\b": (
        r"timeout|max_wait|claim_lease|lease|lease_ends|time_left|now|before|elapsed|took|learned"
        r"|retry_after\w*|\w*delay|gap_m\w+|backoff_\w+|\w+_at|\w*seconds|at"
    ),
    r"\bUSD\b": r"usd|price|cost|spent|reserved|left|amounts?|balance|refunded",
    r"\b[Bb]ytes?\b|MiB": r"\w*bytes",
    r"\bpixels?\b|\bpx\b": r"\w*px",
    r"\bshare\b": r"gap_share|jitter",
    r"per second": r"\w+_per_second",
}
"""A description, or the name itself, holds the first where the whole name fits the second."""
NO_AMOUNT = {
    "Budget.unknown": "a list",
    "BatchFailed.left": "jobs",
    "sandbox.SandboxJob.refunded": "yes or no",
    "ledger.Claim.instead_of": "a holder",
}
"""Names that fit and are something else."""


def _described() -> Iterator[tuple[str, str, str]]:
    """Each public field, argument and property: where, its name, its words."""
    for public, of in CLASSES.items():
        for name in _fields(of):
            yield f"{public}.{name}", name, _field_words(of, name) or _class_words(of)
        for name in () if public in MADE_HERE else _constructor_parameters(of):
            yield f"{public}.{name}", name, _entry(name, _class_words(of)) or ""
    for where, (of, written, member) in MEMBERS.items():
        method = where.rpartition(".")[2]
        words = _method_words(written, method)
        if isinstance(member, property):
            yield where, method, words
        for name in _own_parameters(of, method, _function(member)):
            yield f"{where}.{name}", name, _entry(name, words) or words


def test_durations_sizes_and_amounts_say_their_unit() -> None:
    """Nobody has to guess between seconds and milliseconds, or dollars and cents."""
    unsaid = [
        where
        for where, name, words in _described()
        for unit, names in UNITS.items()
        if re.fullmatch(names, name)
        and where not in NO_AMOUNT
        and not re.search(rf"(?i){unit}", f"{words} {name.replace('_', ' ')}")
    ]
    assert not unsaid


def test_whatever_is_called_a_time_is_in_the_list_of_units() -> None:
    """A new ``..._timeout`` is not passed over because the list does not know it."""
    hints = partial(re.search, r"(?i)second|timeout|delay|_wait$|usd|cost|price|bytes|_px$")
    known = "|".join(UNITS.values())
    assert not [
        where for where, name, _ in _described() if hints(name) and not re.fullmatch(known, name)
    ]


# --- where a fact comes from ------------------------------------------------------------------

ABOUT_THE_SERVICE = (
    *("ShortAPIFlux", "FluxRequest", "FluxJob", "FluxImage", "PollPolicy", "RetryLimits", "Budget"),
    *("CallbackReceiver", "AuthenticationFailed", "InsufficientBalance", "RateLimited"),
    *("ServiceUnavailable", "CreateOutcomeUnknown"),
)
"""Classes whose docstrings say something of the service, of which little is documented."""


@pytest.mark.parametrize("public", ABOUT_THE_SERVICE)
def test_a_fact_about_the_service_says_where_it_comes_from(public: str) -> None:
    """Read on an official page, recorded, seen in public code, or only assumed."""
    sources = r"official page|recorded|public client|by convention|assumed|service documents no"
    assert re.search(rf"(?i){sources}", " ".join(_class_words(CLASSES[public]).split()))


# --- what is referred to ----------------------------------------------------------------------


def test_what_a_docstring_refers_to_exists() -> None:
    """``FluxJob.save`` in a docstring is a name that a reader finds."""
    by_name = {public.rpartition(".")[2]: of for public, of in CLASSES.items()}
    referred = [
        (where, *reference)
        for where, text in _docstrings().items()
        for reference in re.findall(r"`([A-Z]\w+)\.([a-z]\w*)", text)
        if reference[0] in by_name
    ]
    assert len(referred) > len(DRAWINGS)
    for where, owner, name in referred:
        of = by_name[owner]
        known = {*dir(of), *_fields(of), *_constructor_parameters(of)}
        assert name in known or _entry(name, _class_words(of)), f"{where}: {owner}.{name}"
