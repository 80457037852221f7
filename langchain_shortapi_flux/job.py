"""What users hold: what is asked for, and what is known of the job that makes it.

Frozen values. They know nothing of HTTP and nothing of LangChain's runtime; saving and showing a
job are doors into other rooms, opened only when used.
"""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
)

from langchain_shortapi_flux.errors import Charge

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "ASPECT_RATIOS",
    "IMAGE_COUNTS",
    "PERFORMANCES",
    "AspectRatio",
    "FluxImage",
    "FluxJob",
    "FluxRequest",
    "ImageCount",
    "JobStatus",
    "Performance",
    "Prompt",
    "Repeat",
]

AspectRatio = Literal["1:1", "9:16", "16:9", "4:3", "3:4", "3:2", "2:3", "21:9"]
Performance = Literal["schnell", "dev"]
JobStatus = Literal["pending", "succeeded", "failed"]
Repeat = Literal["raise", "buy"]
"""What to do where an earlier purchase under a key came to nothing: say so, or buy again."""

# The official page's options for this very model; its siblings have others.
ASPECT_RATIOS: tuple[str, ...] = get_args(AspectRatio)
PERFORMANCES: tuple[str, ...] = get_args(Performance)
IMAGE_COUNTS = (1, 2, 4, 8)


def _sendable_prompt(prompt: str) -> str:
    if not prompt.strip():
        raise ValueError("the prompt is blank; say what the picture should show")
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError:
        message = "the prompt holds a lone surrogate, which is no character and cannot be sent"
        raise ValueError(message) from None
    return prompt


def _image_count(value: object) -> object:
    """Read the forms in which models send a small number: 2, "2" and, through protobuf, 2.0."""
    whole = isinstance(value, float) and value.is_integer()
    digits = isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,3}\s*", value)
    if whole or digits:
        value = int(value)  # type: ignore[call-overload]
    # Asked first: comparing a strange value may raise.
    if isinstance(value, bool) or not isinstance(value, int) or value not in IMAGE_COUNTS:
        allowed = ", ".join(str(count) for count in IMAGE_COUNTS)
        raise ValueError(f"allowed are {allowed}")
    return value


Prompt = Annotated[str, AfterValidator(_sendable_prompt)]
# The schema says strings because some providers' converters refuse an enum of integers; the value
# is an int all the same, and goes to the service as a JSON number.
ImageCount = Annotated[
    int,
    BeforeValidator(_image_count),
    WithJsonSchema({"type": "string", "enum": [str(count) for count in IMAGE_COUNTS]}),
]


def left_out() -> None:
    """What an option is when left out.

    A factory, because a plain ``default=None`` puts ``"default": null`` into the JSON schema, which
    OpenAI's strict mode has refused and which contradicts the ``string`` that Bedrock's converter
    makes of an option.
    """


class FluxRequest(BaseModel):
    """What is asked for. Frozen; an option left out is unset, and the Runnable's field fills it.

    A chat model can fill it in: ``llm.with_structured_output(FluxRequest) | flux``.

    Raises:
        pydantic.ValidationError: For an unknown key, a blank prompt or a value that the official
            page does not list.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Prompt = Field(description="What the picture should show, in plain words.")
    aspect_ratio: AspectRatio | None = Field(
        default_factory=left_out,
        # The values are named here too: Ollama's client drops the enum of an optional argument.
        description=f"Width to height of the picture: {', '.join(ASPECT_RATIOS)}. Leave out for "
        "the default.",
    )
    num_images: ImageCount | None = Field(
        default_factory=left_out,
        description="How many pictures to make: 1, 2, 4 or 8. Usually leave it out.",
    )
    performance: Performance | None = Field(
        default_factory=left_out,
        description="'schnell' is fast and cheap, 'dev' is better and costs about ten times as "
        "much. Leave out for the default.",
    )

    def filled_from(self, defaults: FluxRequest | Any) -> FluxRequest:
        """This request, with each unset option taken from the attribute of the same name."""
        unset = {
            name: getattr(defaults, name)
            for name in ("aspect_ratio", "num_images", "performance")
            if getattr(self, name) is None
        }
        return self.model_copy(update=unset)


class FluxImage(BaseModel):
    """One picture of a job.

    Attributes:
        url: Where it lies. **Temporary**: the service deletes it after a time that it does not
            state. For a picture that came inside the reply (a ``data:`` URL) this shows type and
            size only; its bytes are kept out of repr, dumps and traces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    _inline: bytes | None = PrivateAttr(default=None)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str) -> FluxImage:
        """A picture that came inside the reply. ``media_type`` is, for example, image/png."""
        image = cls(url=f"data:{media_type} ({len(content):,} bytes, inside the reply)")
        image._inline = content
        return image

    @property
    def inline(self) -> bytes | None:
        """The bytes of a picture that came inside the reply; None for one that has a URL."""
        return self._inline


class FluxJob(BaseModel):
    """A snapshot of what is known of a job now. Frozen; a later snapshot says all this one says.

    Attributes:
        job_id: The service's id. Opaque.
        status: ``pending``, ``succeeded`` or ``failed``.
        request: What was sent, options filled in. None for a job looked up by its id.
        images: The pictures, in the service's order; empty until the job has succeeded.
        cost: USD that the service reports for the job, never computed here. None if unreported.
        refunded: USD that the service reports as given back, which may be 0 or a part of the cost.
            None if unreported.
        charge: ``charged``, ``refunded`` or ``unknown``.
        queries: How often the service was asked about the job so far, in this call.
        elapsed: Seconds since this call began.
        error: What the service says went wrong, or a note on a success: that it was refunded, or
            what of its pictures could not be used.
        model: The model id that was asked for. None for a job looked up by its id.
        base_url: The service that the job lives on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    status: JobStatus
    request: FluxRequest | None = None
    images: tuple[FluxImage, ...] = ()
    cost: Decimal | None = None
    refunded: Decimal | None = None
    charge: Charge = "unknown"
    queries: int = 0
    elapsed: float = 0.0
    error: str | None = None
    model: str | None = None
    base_url: str | None = None

    @property
    def content_blocks(self) -> list[dict[str, Any]]:
        """The pictures as v1 standard image blocks (by URL), for ``flux | critic_llm``.

        A picture that came inside the reply has no URL; a text block says so in its place, so that
        its bytes reach no trace. Pass ``image.inline`` on yourself if a model should see it.
        """
        return [
            {"type": "text", "text": f"[{image.url}]"}
            if image.url.startswith("data:")  # inline, or was so before a dump dropped the bytes
            else {"type": "image", "url": image.url}
            for image in self.images
        ]

    def save(
        self, folder: str | Path, *, prefix: str = "", keep_existing: bool = False
    ) -> list[Path]:
        """Fetch the pictures now and write them to ``folder`` (made if missing).

        Works inside a running event loop too, which it blocks meanwhile; ``asave`` does not.

        Args:
            folder: Where to write. Files are named ``<prefix><job id>-<index>.<type>``.
            prefix: Put before each name.
            keep_existing: Take a file of a picture's name for that picture, saved before.

        Returns:
            The paths written, in the order of ``images``.

        Raises:
            DownloadFailed: A picture could not be fetched, is no picture, is too large, or a file
                of its name exists (nothing is ever overwritten). The text names those saved.
        """
        from langchain_shortapi_flux.image_files import save_job  # noqa: PLC0415 - a door

        return save_job(self, Path(folder), prefix=prefix, keep_existing=keep_existing)

    async def asave(
        self, folder: str | Path, *, prefix: str = "", keep_existing: bool = False
    ) -> list[Path]:
        """The async twin of ``save``."""
        from langchain_shortapi_flux.image_files import asave_job  # noqa: PLC0415 - a door

        return await asave_job(self, Path(folder), prefix=prefix, keep_existing=keep_existing)


def describe_invalid(errors: Sequence[Any], allowed: Sequence[str]) -> str:
    """Say in one line what pydantic found wrong: field, value, and what is allowed.

    Args:
        errors: What ``ValidationError.errors()`` gives.
        allowed: The names of the fields that exist.
    """
    return "; ".join(_describe_one(error, allowed) for error in errors)


_SHOWN_VALUE_LENGTH = 60
_NEVER_SHOWN = ("base_url", "callback_url", "api_key")
"""They may hold a password, also where they are refused for it."""


def _describe_one(error: Any, allowed: Sequence[str]) -> str:
    reason = str(error["msg"]).removeprefix("Value error, ")
    if not error["loc"]:
        return reason  # about the whole, whose value is too much to show
    field = _cut(str(error["loc"][0]))
    if error["type"] == "extra_forbidden":
        return f"{field!r} is not an argument; the arguments are {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"{field} is missing"
    if field in _NEVER_SHOWN:
        return f"{field}: {reason}"
    shown = _shown(error["input"])
    if error["type"] == "literal_error":
        reason = f"allowed are {error['ctx']['expected']}"
    return f"{field}={shown}: {reason}"


def _shown(value: object) -> str:
    try:
        return _cut(repr(value))
    except Exception:  # noqa: BLE001 - a huge int, a value nested too deep, a repr that fails
        return f"a value of the type {_cut(type(value).__name__)}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_VALUE_LENGTH else text[:_SHOWN_VALUE_LENGTH] + "…"
