"""``SaveImages`` at the end of a chain: called in every way, streamed, kept and loaded again."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd, load
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import (
    ConfigurableField,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.tracers import BaseTracer
from pydantic import ValidationError
from reply_server import ReplyServer
from scripted_model import ScriptedModel
from whole_pictures import png

from langchain_shortapi_flux import DownloadFailed, FluxImage, FluxJob, ShortAPIFlux
from langchain_shortapi_flux.http_acts import HttpReply
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.save_images import SaveImages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.runnables import Runnable, RunnableConfig

PROMPT = ChatPromptTemplate.from_template("{it}")
PENDING = FluxJob(job_id="65f0", status="pending")
DONE = PENDING.model_copy(
    update={"status": "succeeded", "images": (FluxImage.from_bytes(png(), "image/png"),)}
)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def _run(way: str, chain: Runnable[Any, Any], given: Any) -> list[Any]:
    """All that a chain gives, called in this way."""
    match way:
        case "invoke":
            return [chain.invoke(given)]
        case "ainvoke":
            return [await chain.ainvoke(given)]
        case "batch":
            return chain.batch([given])
        case "abatch":
            return await chain.abatch([given])
        case "stream":
            return list(chain.stream(given))
    return [chunk async for chunk in chain.astream(given)]


EVERY_WAY = pytest.mark.parametrize(
    "way", ["invoke", "ainvoke", "batch", "abatch", "stream", "astream"]
)


@EVERY_WAY
async def test_a_chain_ends_with_files(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """Prompt, chat model, picture, file; it gives the paths, once, as ``FluxJob.save`` does."""
    sandbox.inject(Fault("query", "status_word", times=2))
    model = ScriptedModel(answers=["a red fox in the snow"])
    chain = PROMPT | model | flux.bind(num_images=2) | SaveImages(tmp_path / "images")
    (paths,) = await _run(way, chain, {"it": "a fox"})
    (job,) = sandbox.jobs
    assert job.args["prompt"] == "a red fox in the snow"
    assert [path.name for path in paths] == [f"{job.job_id}-1.png", f"{job.job_id}-2.png"]
    assert all(isinstance(path, Path) and path.exists() for path in paths)
    assert _names(tmp_path / "images") == [*(path.name for path in paths), f"{job.job_id}.json"]
    assert len([call for call in sandbox.calls if call.on == "query"]) == 3
    assert len([call for call in sandbox.calls if call.on == "image"]) == 2


def _snapshots(_: Iterator[Any]) -> Iterator[FluxJob]:
    yield from (PENDING, PENDING, DONE)


async def _asnapshots(_: AsyncIterator[Any]) -> AsyncIterator[FluxJob]:
    for job in (PENDING, PENDING, DONE):
        yield job


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_only_the_last_snapshot_is_saved(way: str, tmp_path: Path) -> None:
    """Those before have no pictures yet, and saying so would end the chain."""
    source: Any = RunnableGenerator(_snapshots, _asnapshots)
    assert await _run(way, source | SaveImages(tmp_path), "x") == [[tmp_path / "65f0-1.png"]]
    assert _names(tmp_path) == ["65f0-1.png", "65f0.json"]


@EVERY_WAY
async def test_a_job_that_failed_saves_nothing(
    way: str, sandbox: Sandbox, flux: ShortAPIFlux, tmp_path: Path
) -> None:
    """The error is the job's own."""
    sandbox.inject(Fault("create", "job_fails", info="refused by moderation"))
    with pytest.raises(Exception, match="refused by moderation"):
        await _run(way, flux | SaveImages(tmp_path / "images"), "a fox")
    assert _names(tmp_path) == []


@EVERY_WAY
async def test_what_cannot_be_saved_names_the_job(way: str, tmp_path: Path) -> None:
    """It is paid for."""
    with pytest.raises(DownloadFailed, match="job 65f0: it has no pictures to save: it is pending"):
        await _run(way, SaveImages(tmp_path), PENDING)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize("wrong", ["a fox", None, {"job_id": "x"}, [DONE]])
async def test_anything_but_a_job_is_refused(way: str, wrong: Any, tmp_path: Path) -> None:
    """As where the step before was forgotten."""
    with pytest.raises(TypeError, match=f"takes a FluxJob.* not {type(wrong).__name__}"):
        await _run(way, SaveImages(tmp_path), wrong)


def test_job_and_paths_can_both_be_had(flux: ShortAPIFlux, tmp_path: Path) -> None:
    """As the docstring says."""
    both: Any = flux | {"job": RunnablePassthrough(), "paths": SaveImages(tmp_path)}
    given = both.invoke("a fox")
    assert isinstance(given["job"], FluxJob)
    assert given["paths"] == [tmp_path / f"{given['job'].job_id}-1.png"]


def test_several_jobs_are_saved_by_a_map(flux: ShortAPIFlux, tmp_path: Path) -> None:
    """What ``batch`` gave is a list of jobs."""
    jobs = flux.batch(["a fox", "an owl"])
    paths = SaveImages(tmp_path).map().invoke(jobs)
    assert [one.name for (one,) in paths] == [f"{job.job_id}-1.png" for job in jobs]


def test_a_step_that_runs_again_finds_its_files(tmp_path: Path) -> None:
    """A chain is run again after a crash, and with a request key it gives the same job."""
    first = SaveImages(tmp_path).invoke(DONE)
    assert SaveImages(tmp_path).invoke(DONE) == first
    with pytest.raises(DownloadFailed, match="exists already"):
        SaveImages(tmp_path, keep_existing=False).invoke(DONE)


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
async def test_its_options_reach_the_download(way: str, tmp_path: Path) -> None:
    """Each of them is one of ``FluxJob.save``."""
    with ReplyServer(HttpReply(200, {}, png(at_least=5000), 0.0)) as server:
        url = f"{server.base_url}/x"
        job = FluxJob(
            job_id="65f0",
            status="succeeded",
            images=(FluxImage(url=url),),
            base_url=server.base_url,
        )
        with pytest.raises(DownloadFailed, match="max_bytes=5,000"):
            await _run(way, SaveImages(tmp_path, max_bytes=5000), job)
        with pytest.raises(DownloadFailed, match="within 1e-06 s"):
            await _run(way, SaveImages(tmp_path, timeout=1e-6), job)
        step = SaveImages(tmp_path, prefix="fox-")
        assert await _run(way, step, job) == [[tmp_path / "fox-65f0-1.png"]]
    inside = job.model_copy(update={"images": (FluxImage(url="https://127.0.0.1:9/x"),)})
    inside = inside.model_copy(update={"base_url": "https://api.shortapi.ai"})
    with pytest.raises(DownloadFailed, match="is loopback"):
        await _run(way, SaveImages(tmp_path), inside)
    with pytest.raises(DownloadFailed, match="refused the connection"):
        await _run(way, SaveImages(tmp_path, allow_private=True), inside)


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": "../"},
        {"prefix": "a/b"},
        {"timeout": 0},
        {"timeout": float("inf")},
        {"max_bytes": 0},
        {"folder": 7},
        {"overwrite": True},
    ],
)
def test_options_that_cannot_be_are_refused_at_once(wrong: dict[str, Any]) -> None:
    """When the chain is put together, and not when it has bought something."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        SaveImages(**{"folder": "images", **wrong})


def test_it_is_kept_and_loaded_as_json(tmp_path: Path) -> None:
    """A chain is stored in a file or a database."""
    step = SaveImages(tmp_path, prefix="fox-", keep_existing=False, max_bytes=10**6)
    kept = json.loads(json.dumps(dumpd(step)))
    assert kept["type"] == "constructor"
    assert kept["id"] == ["langchain_shortapi_flux", "save_images", "SaveImages"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The function `load` is in beta")
        loaded = load(
            kept,
            allowed_objects=[SaveImages],
            valid_namespaces=["langchain_shortapi_flux"],
        )
    assert loaded == step
    assert pickle.loads(pickle.dumps(step)) == step
    assert loaded.invoke(DONE) == [tmp_path / "fox-65f0-1.png"]


def test_a_chain_with_it_is_kept_as_json(flux: ShortAPIFlux) -> None:
    """No step of it says that it cannot be."""
    kept = dumpd(PROMPT | flux | SaveImages("images/"))
    assert kept["kwargs"]["last"]["type"] == "constructor"
    assert kept["kwargs"]["last"]["kwargs"]["folder"] == "images/"


def test_its_folder_can_be_chosen_for_each_call(tmp_path: Path) -> None:
    """One folder for each user, say."""
    step = SaveImages("images").configurable_fields(folder=ConfigurableField("folder"))
    here: RunnableConfig = {"configurable": {"folder": str(tmp_path)}}
    assert step.invoke(DONE, here) == [tmp_path / "65f0-1.png"]


def test_it_says_what_it_takes_and_gives() -> None:
    """LangServe and graphs ask."""
    step = SaveImages("images")
    assert step.InputType is FluxJob
    assert step.OutputType == list[Path]
    assert step.get_input_jsonschema()["properties"]["job_id"]
    assert step.get_output_jsonschema()["items"] == {"format": "path", "type": "string"}
    assert step.get_name() == "SaveImages"


def test_its_run_is_traced_by_its_name(tmp_path: Path) -> None:
    """As any other step's."""
    seen: list[str] = []
    chain: Any = RunnableLambda(lambda _: DONE) | SaveImages(tmp_path)

    class Recorder(BaseTracer):
        def _persist_run(self, run: Any) -> None:
            seen.extend(child.name for child in run.child_runs)

    chain.invoke("x", {"callbacks": [Recorder()]})
    assert seen == ["RunnableLambda", "SaveImages"]
