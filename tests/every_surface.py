"""One story with a key in it, and all that can be seen of it afterwards, surface by surface.

A job that goes well, one that fails, a wrong request, an agent's call, two ledgers, a recording.
It knows nothing of what the key looks like; who calls it says where to plant one.
"""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import vcr  # type: ignore[import-untyped]
from cassette_file import CassetteText, cleaned_reply, cleaned_request
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumpd, dumps
from langchain_core.messages import ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langsmith_stand_in import langsmith_stand_in
from quick_flux import flux_on
from scripted_model import ScriptedModel, tool_call

from langchain_shortapi_flux import (
    MemoryLedger,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
    ShortAPIFluxToolkit,
    SqlLedger,
)
from langchain_shortapi_flux.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from uuid import UUID

    from pydantic import BaseModel
    from pytest import LogCaptureFixture  # noqa: PT013 - a type, and nothing else of it

    from langchain_shortapi_flux.sandbox import Sandbox

SANDBOX_LOGGER = "langchain_shortapi_flux.sandbox.callback_post"

Shown = dict[str, list[Any]]
"""What can be seen, by the name of the surface."""


@dataclass(frozen=True)
class Story:
    """The story's words. Each is a place where a key could come to stand.

    Attributes:
        asynchronous: Whether it is told through the async driver.
        callback_url: The Runnable's.
        prompt: The first job's.
        wrong: What the refused request asks for as its aspect ratio.
        behind: An error that stands behind the story's own.
        metadata: The config's.
        configurable: The config's.
        tags: The config's.
        request_key: The purchase's.
        description: The tool's.
        folder: Where the tool saves.
        call_id: The tool call's.
        logged: What a library logs meanwhile, by logger.
        kept: What an unpickled object brings along beside the Runnable.
    """

    asynchronous: bool = False
    # The sandbox posts to this machine alone, and logs that it does not.
    callback_url: str = "https://callback.example/finished"
    prompt: str = "a red fox"
    wrong: str = "0:0"
    behind: BaseException | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    configurable: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    request_key: str = "card-1"
    description: str = "Draws."
    folder: str = "images"
    call_id: str = "call_1"
    logged: dict[str, str] = field(default_factory=dict)
    kept: str | None = None


async def told(story: Story, sandbox: Sandbox, folder: Path, caplog: LogCaptureFixture) -> Shown:
    """Tell the story; gives what was shown on every surface."""
    with langsmith_stand_in() as traces, caplog.at_level(logging.DEBUG):
        for name in [*logging.root.manager.loggerDict]:
            caplog.set_level(logging.DEBUG, name)
        memory, database = MemoryLedger(), SqlLedger(f"sqlite:///{folder}/jobs.db")
        flux = flux_on(sandbox, callback_url=story.callback_url, ledger=memory)
        config: Any = {
            "callbacks": [traces.tracer],
            "metadata": story.metadata,
            "configurable": story.configurable,
            "tags": story.tags,
        }
        await _buy(story, flux, config)
        await _buy(story, flux.model_copy(update={"ledger": database}), config)
        errors = [
            await _failure(story, flux, sandbox, Fault("create", "job_fails"), config),
            await _failure(story, flux, sandbox, Fault("create", "drop_after"), config),
            await _failure(story, flux, sandbox, Fault("create", "refuse", status=401), config),
            await _failure(story, flux, sandbox, None, config),
        ]
        errors[0].__context__ = story.behind or errors[0].__context__
        tool = ShortAPIFluxTool(
            flux=flux, description=story.description, save_to=folder / story.folder
        )
        events, messages = await _agent(story, tool, sandbox, config)
        recorded = _recorded(story, flux, sandbox, folder)
        for name, text in story.logged.items():
            logging.getLogger(name).debug(text)
        shown = _of_objects(story, flux, tool) | _of_errors(errors) | _of_traces(traces.runs)
        wal = (folder / "jobs.db-wal").read_bytes()
        rows = [*map(repr, database.entries())]
        database.close()
        return shown | {
            "traces: every byte sent": [traces.sent],
            "logs at DEBUG": [caplog.text, *(repr(vars(record)) for record in caplog.records)],
            "sandbox logs": [
                f"{record.getMessage()} {vars(record)}"
                for record in caplog.records
                if record.name.startswith("langchain_shortapi_flux.sandbox")
            ],
            "sandbox call log": [*map(repr, sandbox.calls)],
            "MemoryLedger": [repr(vars(memory)), pickle.dumps(memory)],
            "SqlLedger: rows": rows,
            "SqlLedger: bytes of the -wal file": [wal],
            "SqlLedger: bytes of the .db file": [(folder / "jobs.db").read_bytes()],
            "cassettes": [recorded],
            "artifacts": [json.dumps(message.artifact) for message in messages],
            "what the model reads": [repr(message.content) for message in messages],
            "progress events": [json.dumps(event) for event in events],
        }


async def _buy(story: Story, flux: ShortAPIFlux, config: Any) -> None:
    asked: Any = {"prompt": story.prompt, "request_key": story.request_key}
    if story.asynchronous:
        await flux.ainvoke(asked, config)
    else:
        flux.invoke(asked, config)


async def _failure(
    story: Story, flux: ShortAPIFlux, sandbox: Sandbox, fault: Fault | None, config: Any
) -> ShortAPIError:
    asked: Any = {"prompt": "x", "aspect_ratio": story.wrong if fault is None else "1:1"}
    if fault is not None:
        sandbox.inject(fault)
    try:
        _ = await flux.ainvoke(asked, config) if story.asynchronous else flux.invoke(asked, config)
    except ShortAPIError as error:
        return error
    raise AssertionError("a failure went well")


class _Events(BaseCallbackHandler):
    """Keeps custom events."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        self.seen.append([name, data])


async def _agent(
    story: Story, tool: ShortAPIFluxTool, sandbox: Sandbox, config: Any
) -> tuple[list[Any], list[ToolMessage]]:
    """An agent's run with two calls, one of which fails: all events, and the tool messages."""
    sandbox.inject(Fault("create", "none"), Fault("create", "job_fails"))
    calls = [tool_call(tool.name, prompt=story.prompt), tool_call(tool.name, prompt="a heron")]
    calls[0].tool_calls[0]["id"] = story.call_id
    agent = create_agent(ScriptedModel(answers=[*calls, "Done."]), tools=[tool])
    heard, asked = _Events(), {"messages": [("user", "Draw.")]}
    listening: Any = {**config, "callbacks": [*config["callbacks"], heard]}
    modes: Any = ["custom", "tools", "values"]
    if story.asynchronous:
        stream = agent.astream(asked, listening, stream_mode=modes)  # type: ignore[call-overload]
        chunks = [chunk async for chunk in stream]
    else:
        chunks = list(agent.stream(asked, listening, stream_mode=modes))  # type: ignore[call-overload]
    events = [data for mode, data in chunks if mode == "custom"]
    deltas = [data for mode, data in chunks if mode == "tools" and "delta" in str(data)]
    assert events, "else no progress was searched"
    assert deltas, "else no progress was searched"
    assert heard.seen, "else no progress was searched"
    (*_, last) = (data for mode, data in chunks if mode == "values")
    messages = [message for message in last["messages"] if isinstance(message, ToolMessage)]
    assert [message.status for message in messages] == ["success", "error"]
    return [*events, *map(repr, deltas), *heard.seen], messages


def _recorded(story: Story, flux: ShortAPIFlux, sandbox: Sandbox, folder: Path) -> str:
    """A job as the tests' own recording writes it to a cassette."""
    recorder = vcr.VCR(
        record_mode=vcr.mode.ALL,
        serializer="text",
        before_record_request=lambda request: cleaned_request(request, sandbox.base_url),
        before_record_response=lambda reply: cleaned_reply(reply, sandbox.base_url),
    )
    recorder.register_serializer("text", CassetteText("sandbox", "a job"))
    with recorder.use_cassette(str(folder / "cassette.yaml")):
        flux.invoke(story.prompt)
    return (folder / "cassette.yaml").read_text()


def _of_objects(story: Story, flux: ShortAPIFlux, tool: ShortAPIFluxTool) -> Shown:
    kit = ShortAPIFluxToolkit(flux=flux)
    every: tuple[BaseModel, ...] = (flux, tool, kit, *kit.get_tools())
    return {
        "repr": [f"{one!r} {vars(one)!r}" for one in every],
        "str": [f"{one!s} {one}" for one in every],
        "model_dump": [
            *(repr(one.model_dump()) for one in every),
            repr(flux.model_dump(mode="json")),
            flux.model_dump_json(),
        ],
        "dumpd": [text for one in every for text in (json.dumps(dumpd(one)), dumps(one))],
        "pickles": [pickle.dumps([flux, flux.bind(num_images=2), story.kept])],
        "tool schema": [
            json.dumps(convert_to_openai_tool(tool)),
            json.dumps(tool.get_input_jsonschema()),
            tool.description,
        ],
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    links: list[BaseException] = [error]
    for link in links:  # grows on the way
        links += [one for one in (link.__cause__, link.__context__) if one and one not in links]
        yield link


def _of_errors(errors: list[ShortAPIError]) -> Shown:
    def text(error: BaseException) -> str:
        return f"{error!s} {error!r} {error.args!r} {vars(error)!r}"

    return {
        "exceptions": [text(error) for error in errors],
        "exceptions: causes and contexts": [
            *(" ".join(map(text, _chain(error))) for error in errors),
            *("".join(traceback.TracebackException.from_exception(e).format()) for e in errors),
        ],
        "exceptions: pickles": [pickle.dumps(error) for error in errors],
    }


def _of_traces(runs: list[dict[str, Any]]) -> Shown:
    assert {"ShortAPIFlux", "flux_text_to_image"} <= {run["name"] for run in runs}
    return {
        "traces: inputs": [json.dumps(run["inputs"]) for run in runs],
        "traces: outputs": [json.dumps(run.get("outputs")) for run in runs],
        "traces: errors": [run["error"] for run in runs if run.get("error")],
        "traces: metadata": [json.dumps(run["extra"]["metadata"]) for run in runs],
        "traces: configurable": [json.dumps(run["extra"]) for run in runs],
        "traces: tags": [json.dumps(run["tags"]) for run in runs],
    }
