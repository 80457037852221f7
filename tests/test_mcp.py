"""The tools served over MCP, as any LangChain tool is, and called by a real client in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from langchain_shortapi_flux import ShortAPIFlux, ShortAPIFluxToolkit
from langchain_shortapi_flux.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from mcp import ClientSession

pytest.importorskip(
    "langchain_mcp_adapters", reason="langchain-mcp-adapters is not installed (extra: test)"
)
NAME = "flux_text_to_image"


def _served(flux: ShortAPIFlux) -> AbstractAsyncContextManager[ClientSession]:
    """A session with a server that offers the toolkit's tools."""
    from langchain_mcp_adapters.tools import to_fastmcp
    from mcp.server.fastmcp import FastMCP
    from mcp.shared.memory import create_connected_server_and_client_session

    tools = [to_fastmcp(tool) for tool in ShortAPIFluxToolkit(flux=flux).get_tools()]
    server = FastMCP("pictures", tools=tools)
    return create_connected_server_and_client_session(server._mcp_server)


def _text(result: Any) -> str:
    (block,) = result.content
    assert block.type == "text"
    return str(block.text)


async def test_both_tools_are_listed_with_their_arguments(flux: ShortAPIFlux) -> None:
    """Nothing of LangGraph's shows in the schema that a foreign client reads."""
    async with _served(flux) as session:
        listed = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert sorted(listed) == ["flux_get_job", NAME]
    schema = listed[NAME].inputSchema
    assert list(schema["properties"]) == ["prompt", "aspect_ratio", "num_images", "performance"]
    assert schema["required"] == ["prompt"]
    assert "costs money" in (listed[NAME].description or "")
    assert list(listed["flux_get_job"].inputSchema["properties"]) == ["job_id", "wait"]


@pytest.mark.parametrize("options", [{}, {"num_images": "2", "aspect_ratio": "16:9"}])
async def test_a_call_is_answered_with_the_pictures_urls(
    options: dict[str, Any], sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """What is left out is the Runnable's to fill in, here as anywhere."""
    async with _served(flux) as session:
        result = await session.call_tool(NAME, {"prompt": "a fox", **options})
        (job,) = sandbox.jobs
        looked = await session.call_tool("flux_get_job", {"job_id": job.job_id})
    assert not result.isError
    count = int(options.get("num_images", "1"))
    assert _text(result).startswith(f"Made {count} image")
    assert _text(result).count(sandbox.base_url) == count
    assert job.args["num_images"] == count
    assert job.args["aspect_ratio"] == options.get("aspect_ratio", "1:1")
    assert not looked.isError
    assert _text(looked).count(sandbox.base_url) == count
    assert len(sandbox.charges) == 1


async def test_a_failure_is_answered_with_its_text(sandbox: Sandbox, flux: ShortAPIFlux) -> None:
    """A model behind another vendor's client reads the same words."""
    sandbox.inject(Fault("create", "job_fails", info="too dark"))
    async with _served(flux) as session:
        result = await session.call_tool(NAME, {"prompt": "a fox"})
    for part in ("No image: ", "too dark", "charged and refunded", sandbox.jobs[0].job_id):
        assert part in _text(result)


async def test_a_wrong_argument_is_answered_and_costs_nothing(
    sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """Whether the server or the tool finds it, the model reads which argument it was."""
    async with _served(flux) as session:
        result = await session.call_tool(NAME, {"prompt": "a fox", "aspect_ratio": "5:4"})
        blank = await session.call_tool(NAME, {"prompt": " "})
    assert "aspect_ratio" in _text(result)
    assert "prompt" in _text(blank)
    assert sandbox.calls == ()
