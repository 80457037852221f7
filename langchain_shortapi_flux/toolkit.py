"""``ShortAPIFluxToolkit``: the tools that an agent needs for pictures, over one Runnable."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from langchain_core.tools import BaseTool, BaseToolkit
from pydantic import ConfigDict, Field

from langchain_shortapi_flux.get_job_tool import FluxGetJobTool
from langchain_shortapi_flux.runnable import ShortAPIFlux
from langchain_shortapi_flux.tool import ShortAPIFluxTool


class ShortAPIFluxToolkit(BaseToolkit):
    """``flux_text_to_image``, which buys, and ``flux_get_job``, which never does.

    Setup::

        tools = ShortAPIFluxToolkit(flux=ShortAPIFlux(performance="schnell")).get_tools()
        agent = create_agent(model, tools=tools)

    Raises:
        pydantic.ValidationError: A field has a value that is not allowed.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    flux: ShortAPIFlux = Field(default_factory=ShortAPIFlux)
    """What makes the pictures; shared by the tools, its ledger too."""
    max_wait: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Seconds after which the first tool answers that the job is still running; it waits to the
    end where not given. The second has a bound of its own, 60 s."""

    content: Literal["text", "image"] = "text"
    """What the model gets of pictures, from both tools; see ``ShortAPIFluxTool``."""
    save_to: Path | None = None
    """A folder in which both tools save pictures; see ``ShortAPIFluxTool``."""

    def get_tools(self) -> list[BaseTool]:
        """The two tools."""
        shared: dict[str, Any] = {
            "flux": self.flux,
            "content": self.content,
            "save_to": self.save_to,
        }
        return [
            ShortAPIFluxTool(max_wait=self.max_wait, **shared),
            FluxGetJobTool(**shared),
        ]
