"""LangChain's standard integration suite for tools, on a cassette.

All its tests make the same call, so that one cassette serves them, through both drivers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests

from langchain_shortapi_flux import ShortAPIFlux, ShortAPIFluxTool

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool


@pytest.mark.default_cassette("one_tool_call")
@pytest.mark.recording(live_usd="0.002")
class TestIntegration(ToolsIntegrationTests):
    """One tool call: a schnell picture in 16:9."""

    @pytest.fixture
    def tool(self, recorded_flux: ShortAPIFlux) -> BaseTool:
        """The tool on the cassette, which must be played to its end: an error text will not do."""
        return ShortAPIFluxTool(flux=recorded_flux)

    @property
    def tool_constructor(self) -> type[ShortAPIFluxTool]:
        """The tool's class."""
        return ShortAPIFluxTool

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Arguments as a model gives them."""
        return {
            "prompt": "a lighthouse at dusk",
            "aspect_ratio": "16:9",
            "performance": "schnell",
        }
