"""LangChain's standard suites for tools, on the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from langchain_shortapi_flux import ShortAPIFlux, ShortAPIFluxTool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.tools import BaseTool

    from langchain_shortapi_flux.sandbox import Sandbox

ARGUMENTS = {"prompt": "a lighthouse at dusk", "aspect_ratio": "16:9", "performance": "schnell"}


class TestUnit(ToolsUnitTests):
    """The tool can be made, and made from the environment."""

    @property
    def tool_constructor(self) -> type[ShortAPIFluxTool]:
        """The tool's class."""
        return ShortAPIFluxTool

    @property
    def tool_constructor_params(self) -> dict[str, Any]:
        """A key that is never used."""
        return {"flux": ShortAPIFlux(api_key="never-used", base_url="https://api.shortapi.ai")}

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Arguments as a model gives them."""
        return {**ARGUMENTS, "num_images": "2"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        """What is set, what is passed (nothing), and what the tool must hold then."""
        environment = {
            "SHORTAPI_KEY": "key-of-the-environment",
            "SHORTAPI_BASE_URL": "http://127.0.0.1:8787/api/v1/",
        }
        flux = ShortAPIFlux(api_key="key-of-the-environment", base_url="http://127.0.0.1:8787")
        return environment, {}, {"flux": flux}


class TestIntegration(ToolsIntegrationTests):
    """A tool call is answered, blocking and async, with and without a ``ToolCall``."""

    @pytest.fixture
    def tool(self, flux: ShortAPIFlux, sandbox: Sandbox) -> BaseTool:
        """The tool on a sandbox."""
        self.sandbox = sandbox
        return ShortAPIFluxTool(flux=flux)

    @pytest.fixture(autouse=True)
    def _one_job(self, request: pytest.FixtureRequest) -> Iterator[None]:
        """The suite takes any answer; a picture must have been bought, once, at the cheap price."""
        yield
        if "sandbox" in request.fixturenames:
            assert [str(charge.usd) for charge in self.sandbox.charges] == ["0.002"]

    @property
    def tool_constructor(self) -> type[ShortAPIFluxTool]:
        """The tool's class."""
        return ShortAPIFluxTool

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """Arguments as a model gives them."""
        return ARGUMENTS
