"""What users may write, as ``mypy --strict`` sees it. Checked, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, assert_type

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from pydantic import SecretStr

from langchain_shortapi_flux import (
    FluxImage,
    FluxInput,
    FluxJob,
    FluxJobs,
    FluxRequest,
    JobFailed,
    JobTimeout,
    NotCreated,
    PollPolicy,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
    ShortAPIFluxTool,
    __version__,
)
from langchain_shortapi_flux.sandbox import Call, Charge, Fault, Sandbox, SandboxJob

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool


def constructing() -> ShortAPIFlux:
    """Every field by keyword; none is needed."""
    ShortAPIFlux()
    ShortAPIFlux(api_key=SecretStr("key"), base_url="https://api.shortapi.ai")
    return ShortAPIFlux(
        name="painter",
        model="shortapi/flux-1.0/text-to-image",
        aspect_ratio="16:9",
        num_images=4,
        performance="schnell",
        timeout=60,
        poll=PollPolicy(first_delay=1, gap_share=0.2, gap_min=0.5, gap_max=5, jitter=0),
        retry=RetryLimits(create_attempts=1, look_attempts=2, backoff_first=0.5),
        max_connections=8,
        callback_url="https://example.com/done",
    )


def misspelt() -> None:
    """What cannot work is found before it runs."""
    ShortAPIFlux(perfomance="schnell")  # type: ignore[call-arg]
    FluxRequest(prompt="a fox", seed=7)  # type: ignore[call-arg]
    PollPolicy(first=1)  # type: ignore[call-arg]


def calling(flux: ShortAPIFlux, message: BaseMessage) -> None:
    """Each form of input, and what comes back."""
    assert_type(flux.invoke("a fox"), FluxJob)
    flux.invoke({"prompt": "a fox", "num_images": 2})
    flux.invoke(FluxRequest(prompt="a fox", performance="dev"))
    flux.invoke(message)
    flux.invoke([HumanMessage("draw"), message])
    flux.invoke(ChatPromptTemplate.from_template("{it}").invoke({"it": "a fox"}))
    flux.invoke("a fox", {"tags": ["poster"]}, aspect_ratio="16:9")
    assert_type(flux.stream("a fox"), Iterator[FluxJob])
    assert_type(flux.astream("a fox"), AsyncIterator[FluxJob])
    assert_type(flux.batch(["a fox", {"prompt": "an owl"}]), FluxJobs)
    assert_type(flux.create("a fox", num_images=2), FluxJob)
    assert_type(flux.query("ab12"), FluxJob)
    assert_type(flux.follow(flux.create("a fox")), FluxJob)


async def calling_async(flux: ShortAPIFlux) -> None:
    """The twins."""
    assert_type(await flux.ainvoke("a fox"), FluxJob)
    async for job in flux.astream("a fox"):
        assert_type(job, FluxJob)
    assert_type(await flux.abatch(["a fox"]), FluxJobs)
    assert_type(await flux.acreate("a fox"), FluxJob)
    assert_type(await flux.aquery("ab12"), FluxJob)
    assert_type(await flux.afollow("ab12"), FluxJob)


async def reading(job: FluxJob) -> None:
    """What a job holds."""
    assert_type(job.job_id, str)
    assert_type(job.status, Literal["pending", "succeeded", "failed"])
    assert_type(job.request, FluxRequest | None)
    assert_type(job.images, tuple[FluxImage, ...])
    assert_type(job.images[0].url, str)
    assert_type(job.images[0].inline, bytes | None)
    assert_type(job.cost, Decimal | None)
    assert_type(job.refunded, Decimal | None)
    assert_type(job.charge, Literal["none", "charged", "refunded", "unknown"])
    assert_type(job.queries, int)
    assert_type(job.elapsed, float)
    assert_type(job.error, str | None)
    assert_type(job.save("images/"), list[Path])
    assert_type(await job.asave(Path("images"), prefix="fox-"), list[Path])
    assert_type(job.content_blocks, list[dict[str, Any]])
    job.status = "failed"  # type: ignore[misc]
    job + job  # type: ignore[operator]


def composing(flux: ShortAPIFlux, llm: BaseChatModel) -> None:
    """In chains, and wrapped."""
    prompt = ChatPromptTemplate.from_template("{it}")
    assert_type((prompt | flux).invoke({"it": "a fox"}), FluxJob)
    assert_type((prompt | llm | flux).invoke({"it": "a fox"}), FluxJob)
    assert_type(flux.bind(aspect_ratio="16:9"), Runnable[FluxInput, FluxJob])
    flux.with_retry(stop_after_attempt=2).invoke("a fox")
    flux.with_retry(retry_if_exception_type=(NotCreated,))
    flux.with_fallbacks([ShortAPIFlux(base_url="https://other.example")]).invoke("a fox")
    flux.configurable_fields(performance=ConfigurableField(id="mode")).invoke("a fox")

    def ask(_text: str) -> FluxRequest:
        return FluxRequest(prompt="a fox")

    assert_type((RunnableLambda(ask) | flux).invoke("a fox"), FluxJob)
    message: AIMessage = llm.invoke("describe a fox")
    flux.invoke(message)


def as_a_tool(flux: ShortAPIFlux, llm: BaseChatModel) -> BaseTool:
    """As an agent's tool."""
    ShortAPIFluxTool()
    tool = ShortAPIFluxTool(flux=flux, name="paint", handle_tool_error=False)
    assert_type(tool.flux, ShortAPIFlux)
    llm.bind_tools([tool])
    return tool


def handling(flux: ShortAPIFlux) -> str | None:
    """What an error says."""
    try:
        return flux.invoke("a fox").job_id
    except NotCreated as error:
        assert_type(error.is_retryable, bool)
        return None
    except (JobFailed, JobTimeout) as error:
        return error.job_id
    except ShortAPIError as error:
        assert_type(error.job_id, str | None)
        assert_type(error.charge, Literal["none", "charged", "refunded", "unknown"])
        assert_type(error.status_code, int | None)
        raise


def trying_without_a_key() -> str:
    """The sandbox."""
    with Sandbox(job_seconds=0.0, faults=[Fault("query", "error", times=2)]) as sandbox:
        flux = ShortAPIFlux(base_url=sandbox.base_url, api_key=SecretStr(sandbox.api_key))
        flux.invoke("a fox")
        sandbox.inject(Fault("create", "job_fails"))
        assert_type(sandbox.jobs, tuple[SandboxJob, ...])
        assert_type(sandbox.charges, tuple[Charge, ...])
        assert_type(sandbox.calls, tuple[Call, ...])
    return __version__
