"""The values that users hold: what is asked for, a picture, and a snapshot of a job."""

from __future__ import annotations

import copy
import json
import pickle
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.load import dumpd, dumps
from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ValidationError
from whole_pictures import png

from langchain_shortapi_flux import FluxImage, FluxJob, FluxRequest, PollPolicy, RetryLimits
from langchain_shortapi_flux.invalid_values import describe_invalid
from langchain_shortapi_flux.job import next_snapshot, picture_at

if TYPE_CHECKING:
    from pathlib import Path

BYTES = png(at_least=1300)
INLINE = FluxImage.from_bytes(BYTES, "image/png")
LINKED = FluxImage(url="https://cdn.example.com/tmp/fox.png")
JOB = FluxJob(
    job_id="6b03191c1050f3f96a7ef965",
    status="succeeded",
    request=FluxRequest(prompt="a fox", aspect_ratio="16:9", num_images=2, performance="schnell"),
    images=(LINKED, INLINE),
    cost=Decimal("0.0020"),
    charge="charged",
    queries=3,
    elapsed=2.5,
    model="shortapi/flux-1.0/text-to-image",
    base_url="https://api.shortapi.ai",
)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (FluxRequest(prompt="a fox"), "prompt"),
        (LINKED, "url"),
        (JOB, "status"),
        (PollPolicy(), "jitter"),
        (RetryLimits(), "jitter"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseModel) else value,
)
def test_values_are_frozen(value: BaseModel, field: str) -> None:
    """A snapshot that changes after it was shown is none."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(value, field, getattr(value, field))


@pytest.mark.parametrize("kind", [FluxRequest, FluxImage, FluxJob])
def test_values_do_not_add_and_take_no_unknown_field(kind: type[BaseModel]) -> None:
    """LangChain adds streamed chunks where it can; a misspelt field must not vanish."""
    for name in ("__add__", "__radd__", "__iadd__"):
        assert not hasattr(kind, name)
    with pytest.raises(ValidationError, match="not permitted"):
        kind.model_validate(
            {"prompt": "a fox", "url": "https://x", "job_id": "1", "status": "pending", "extra": 1}
        )


def test_options_of_a_request_are_unset_by_default() -> None:
    """Unset is not a value: the Runnable's own fields fill it."""
    request = FluxRequest(prompt="a fox")
    assert (request.aspect_ratio, request.num_images, request.performance) == (None, None, None)
    assert request.model_dump(exclude_unset=True) == {"prompt": "a fox"}


def test_a_request_is_filled_where_it_is_unset_only() -> None:
    """What was chosen stays, what was not is taken from the defaults."""
    defaults = FluxRequest(
        prompt="not this", aspect_ratio="16:9", num_images=4, performance="schnell"
    )
    filled = FluxRequest(prompt="a fox", num_images=2).filled_from(defaults)
    assert filled == FluxRequest(
        prompt="a fox", aspect_ratio="16:9", num_images=2, performance="schnell"
    )


def test_the_next_snapshot_knows_what_it_was_given() -> None:
    """It is dumped whole, and the one before stays as it was."""
    job = FluxJob(job_id="j1", status="pending")
    later = next_snapshot(job, {"queries": 2, "status": "succeeded"})
    assert later.model_dump(exclude_unset=True) == {
        "job_id": "j1",
        "status": "succeeded",
        "queries": 2,
    }
    assert job.model_dump(exclude_unset=True) == {"job_id": "j1", "status": "pending"}
    assert next_snapshot(later, {"queries": 3}).model_fields_set == {"job_id", "status", "queries"}


def test_a_picture_of_a_reply_is_like_any_other() -> None:
    """Made without a second look at what was read already."""
    url = "https://cdn.example.com/tmp/fox.png"
    picture = picture_at(url)
    for one in (picture, copy.copy(picture), pickle.loads(pickle.dumps(picture))):
        assert one == FluxImage(url=url)
        assert (one.inline, one.model_dump(exclude_unset=True)) == (None, {"url": url})


def test_filled_requests_share_nothing() -> None:
    """Which fields are set is each one's own."""
    plain = FluxRequest(prompt="a fox", aspect_ratio="1:1", num_images=1, performance="dev")
    one, other = FluxRequest(prompt="a fox").filled_from(plain), plain.filled_from(plain)
    every = {"prompt", "aspect_ratio", "num_images", "performance"}
    third = plain.filled_from(plain)
    copies = (one.model_copy(update={"prompt": "a bear"}), copy.copy(one), copy.deepcopy(one))
    for again in (*copies, third):
        again.model_fields_set.clear()
        assert one.model_fields_set == other.model_fields_set == every
    with pytest.raises(ValidationError, match="frozen"):
        one.prompt = "a bear"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(one)) == one == plain


@pytest.mark.parametrize("given", ["1", 1, 1.0, " 8 ", "4", 2])
def test_num_images_becomes_an_int(given: Any) -> None:
    """The schema says text, for the sake of converters; the value is a number all the same."""
    count = FluxRequest(prompt="a fox", num_images=given).num_images
    assert type(count) is int
    assert count == int(float(str(given)))


@pytest.mark.parametrize("given", [3, 0, -1, "3", "two", "", True, False, 1.5, [1], {}, b"1"])
def test_num_images_outside_the_list_is_refused(given: Any) -> None:
    """The official page lists 1, 2, 4 and 8; True is no number, whatever Python thinks."""
    with pytest.raises(ValidationError, match="allowed are 1, 2, 4, 8"):
        FluxRequest(prompt="a fox", num_images=given)


@pytest.mark.parametrize("prompt", ["", " ", "\n\t", "\u2003", "a fox \ud83e"])
def test_a_prompt_that_cannot_be_sent_is_refused(prompt: str) -> None:
    """Blank costs money for nothing; a lone surrogate cannot be encoded."""
    with pytest.raises(ValidationError, match=r"blank|surrogate"):
        FluxRequest(prompt=prompt)


def test_a_prompt_is_kept_to_the_letter() -> None:
    """Spaces, line ends and scripts of all kinds mean something to somebody."""
    prompt = "  a 狐 in the snow\r\n\u202eזאב 🦊\x00 "
    assert FluxRequest(prompt=prompt).prompt == prompt


def test_content_blocks_are_what_langchain_takes() -> None:
    """``flux | critic``: the pictures go to a model as v1 standard image blocks, by URL."""
    job = JOB.model_copy(update={"images": (LINKED, LINKED)})
    blocks: Any = job.content_blocks
    assert blocks == [{"type": "image", "url": LINKED.url}] * 2
    assert HumanMessage(content=blocks).content_blocks == blocks
    assert HumanMessage(content_blocks=blocks).content_blocks == blocks


def test_content_blocks_of_an_inline_picture_are_text() -> None:
    """Its bytes would reach traces, and its ``url`` is no URL, after a JSON round trip neither."""
    for job in (JOB, FluxJob.model_validate_json(JOB.model_dump_json())):
        assert job.content_blocks == [
            {"type": "image", "url": LINKED.url},
            {"type": "text", "text": f"[data:image/png ({len(BYTES):,} bytes, inside the reply)]"},
        ]


def test_an_inline_picture_shows_type_and_size_only() -> None:
    """Megabytes of base64 have ruined many a trace."""
    assert INLINE.inline == BYTES
    assert LINKED.inline is None
    assert INLINE.url == f"data:image/png ({len(BYTES):,} bytes, inside the reply)"
    shown = (
        repr(JOB),
        str(JOB),
        repr(JOB.model_dump()),
        repr(JOB.model_dump(mode="json")),
        JOB.model_dump_json(),
        repr(dumpd(JOB)),
        dumps(JOB),
        repr(list(JOB)),
        repr(JOB.content_blocks),
        json.dumps(FluxJob.model_json_schema()),
    )
    for text in shown:
        assert "the bytes of a picture" not in text
        assert "dGhlIGJ5dGVz" not in text, "nor in base64"
        assert len(text) < 10_000


def test_a_pickle_keeps_the_inline_bytes() -> None:
    """A worker process hands the job back, and they exist nowhere else."""
    unpickled = pickle.loads(pickle.dumps(JOB))
    assert unpickled == JOB
    assert unpickled.images[1].inline == BYTES


def test_json_round_trip() -> None:
    """A job is kept as JSON and read again; an amount of money stays exact."""
    job = JOB.model_copy(update={"images": (LINKED,), "refunded": Decimal("0.0020")})
    assert FluxJob.model_validate_json(job.model_dump_json()) == job
    assert FluxJob.model_validate(json.loads(json.dumps(job.model_dump(mode="json")))) == job
    assert job.model_dump(mode="json")["cost"] == "0.0020"


def test_an_inline_picture_is_saved_from_memory(tmp_path: Path) -> None:
    """It needs no network, so it is saved even when the service is gone."""
    job = JOB.model_copy(update={"images": (INLINE,)})
    (path,) = job.save(tmp_path)
    assert path.read_bytes() == BYTES
    assert path.name == f"{JOB.job_id}-1.png"


class _Unprintable:
    def __repr__(self) -> str:
        raise OSError("no")


_ODD: dict[str, Any] = {
    "a huge number": 10**5000,
    "a failing repr": _Unprintable(),
    "a signalling number": Decimal("sNaN"),
    "a list": [[[]] * 9],
    "a huge number inside": {"a": 10**5000},
}


@pytest.mark.parametrize("odd", _ODD.values(), ids=_ODD)
@pytest.mark.parametrize("field", ["prompt", "aspect_ratio", "num_images", "performance"])
def test_whatever_is_given_is_refused_and_told(field: str, odd: Any) -> None:
    """A model, or a program, may pass anything: refusing it must not fail on showing it."""
    with pytest.raises(ValidationError) as caught:
        FluxRequest.model_validate({"prompt": "a fox", field: odd})
    text = describe_invalid(caught.value.errors(include_context=True), ["prompt"])
    assert text.startswith(f"{field}=")
    assert len(text) < 300


def test_a_long_name_of_an_argument_is_cut() -> None:
    """It is shown to a model, which pays by the letter."""
    with pytest.raises(ValidationError) as caught:
        FluxRequest.model_validate({"prompt": "a fox", "x" * 10_000: 1})
    assert len(describe_invalid(caught.value.errors(), ["prompt"])) < 300


def test_a_picture_of_a_kind_of_the_users_own_stays_one() -> None:
    """A job tells its pictures where they came from, and changes nothing else about them."""

    class Mine(FluxImage):
        label: str

    (image,) = FluxJob(
        job_id="j1", status="succeeded", images=(Mine(url="https://x.example/1.png", label="a"),)
    ).images
    assert isinstance(image, Mine)
    assert (image.label, image.inline) == ("a", None)
    inline = FluxImage.from_bytes(b"png", "image/png")
    (image,) = FluxJob(job_id="j1", status="succeeded", images=(inline,)).images
    assert (image.inline, image) == (b"png", inline)
