"""What users hold: what is asked for, and what is known of the job that makes it.

Frozen values. They know nothing of HTTP and nothing of LangChain's runtime; saving and showing a
job are doors into other rooms, opened only when used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    WithJsonSchema,
)
from typing_extensions import override

from langchain_shortapi_flux.errors import Charge

if TYPE_CHECKING:
    from collections.abc import Mapping

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

FLUX_MODEL = "shortapi/flux-1.0/text-to-image"
"""The official page's model id."""
AspectRatio = Literal["1:1", "9:16", "16:9", "4:3", "3:4", "3:2", "2:3", "21:9"]
Performance = Literal["schnell", "dev"]
JobStatus = Literal["pending", "succeeded", "failed"]
Repeat = Literal["raise", "buy"]
"""What to do where an earlier purchase under a key came to nothing: say so, or buy again."""

# The official page's options for this very model; its siblings have others.
ASPECT_RATIOS: tuple[str, ...] = get_args(AspectRatio)
PERFORMANCES: tuple[str, ...] = get_args(Performance)
IMAGE_COUNTS = (1, 2, 4, 8)
_OPTIONS = ("aspect_ratio", "num_images", "performance")


def _sendable_prompt(prompt: str) -> str:
    plain = bool(prompt) and prompt.isprintable() and not prompt.isspace()  # most are: it is quick
    if not plain and not any(one.isprintable() and not one.isspace() for one in prompt):
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
        """This request, each unset option taken from the attribute of that name of ``defaults``."""
        given = self.__dict__
        filled = {
            name: getattr(defaults, name) if given[name] is None else given[name]
            for name in _OPTIONS
        }
        return made_of(FluxRequest, {"prompt": self.prompt, **filled}, {"prompt", *_OPTIONS})


@dataclass(frozen=True)
class Origin:
    """The job that a picture came with, as far as its job told it. No two pictures differ by it.

    Attributes:
        job_id: The job's id.
        base_url: The service that the job lives on.
        charge: Whether the job was charged.
    """

    job_id: str | None = field(default=None, compare=False)
    base_url: str | None = field(default=None, compare=False)
    charge: Charge = field(default="unknown", compare=False)

    @classmethod
    def of(cls, job: FluxJob) -> Origin:
        """The origin of a job's pictures."""
        return cls(job.job_id, job.base_url, job.charge)


_NOWHERE = Origin()


class FluxImage(BaseModel):
    """One picture of a job.

    Attributes:
        url: Where it lies. **Temporary**: recorded URLs say so in their path, and public clients
            fetch at once; how long it lasts is not documented. For a picture that came inside the
            reply (a ``data:`` URL) this shows type and size only; its bytes are kept out of repr,
            dumps and traces.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    _inline: bytes | None = PrivateAttr(default=None)
    _origin: Origin = PrivateAttr(default_factory=Origin)

    @classmethod
    def from_bytes(cls, content: bytes, media_type: str) -> FluxImage:
        """A picture that came inside the reply.

        Args:
            content: Its bytes.
            media_type: What the reply says that they are, such as image/png.
        """
        image = cls(url=f"data:{media_type} ({len(content):,} bytes, inside the reply)")
        image._inline = content
        return image

    @property
    def inline(self) -> bytes | None:
        """The bytes of a picture that came inside the reply; None for one that has a URL."""
        return self._inline

    def download(
        self,
        *,
        timeout: float | None = None,
        max_bytes: int | None = None,
        allow_private: bool = False,
    ) -> bytes:
        """Fetch the picture now; its bytes are those of a whole PNG, JPEG, WebP or GIF.

        The key is never sent along. Only https is fetched, and http from this machine where the
        job's ``base_url`` is on it; redirects likewise, five at most. A host's name must not lead
        to a private, loopback, link-local, metadata or otherwise special address. Behind a proxy
        of the environment, the proxy resolves names, and its own rules hold in place of that.

        Works inside a running event loop too, which it blocks meanwhile; ``adownload`` does not.

        Args:
            timeout: Seconds at most, redirects included; 120 where not given.
            max_bytes: Bytes at most, packed and unpacked; 32 MiB where not given.
            allow_private: Whether private and loopback addresses are allowed too.

        Raises:
            DownloadFailed: It could not be fetched within these limits, is cut off, or is no
                picture by its own bytes, whatever URL and headers say. A URL that is dead (HTTP
                403, 404, 410) is said to be.
        """
        from langchain_shortapi_flux.image_files import (  # noqa: PLC0415 - a door
            Fetching,
            download_image,
        )

        return download_image(self, self._origin, Fetching(timeout, max_bytes, allow_private))

    async def adownload(
        self,
        *,
        timeout: float | None = None,  # noqa: ASYNC109 - as for the twin
        max_bytes: int | None = None,
        allow_private: bool = False,
    ) -> bytes:
        """The async twin of ``download``."""
        from langchain_shortapi_flux.image_files import (  # noqa: PLC0415 - a door
            Fetching,
            adownload_image,
        )

        how = Fetching(timeout, max_bytes, allow_private)
        return await adownload_image(self, self._origin, how)

    def come_from(self, origin: Origin) -> FluxImage:
        """This picture, knowing its ``origin``: the job that it came with."""
        image = self.model_copy()
        image._origin = origin  # noqa: SLF001 - its own class
        return image


class FluxJob(BaseModel):
    """A snapshot of what is known of a job now. Frozen; a later snapshot says all this one says.

    Attributes:
        job_id: The service's id. Opaque.
        status: ``pending``, ``succeeded`` or ``failed``.
        request: What was sent, options filled in. None for a job looked up by its id.
        images: The pictures, in the service's order; empty until the job has succeeded.
        cost: USD that the service reports for the job, never computed here. None if unreported.
            That its amounts are USD is on the official page and in recorded output.
        refunded: USD that the service reports as given back, which may be 0 or a part of the cost.
            None if unreported. That failed jobs are refunded is what one public client says.
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
        self,
        folder: str | Path,
        *,
        prefix: str = "",
        keep_existing: bool = False,
        timeout: float | None = None,
        max_bytes: int | None = None,
        allow_private: bool = False,
    ) -> list[Path]:
        """Fetch the pictures now and write them to ``folder`` (made if missing).

        Files are named ``<prefix><job id>-<index>.<type>``, the type by the picture's own bytes,
        and appear whole or not at all. Once all are there, ``<prefix><job id>.json`` beside them
        says prompt, arguments, model, job id, cost, charge, the time of saving (ISO 8601, UTC)
        and which files with their size and SHA-256; no URL and no key.

        Works inside a running event loop too, which it blocks meanwhile; ``asave`` does not.

        Args:
            folder: Where to write.
            prefix: Put before each name.
            keep_existing: Take a file of a picture's name for that picture, saved before, and
                leave a JSON file that is there as it is.
            timeout: Seconds for each picture; 120 where not given.
            max_bytes: Bytes of each picture; 32 MiB where not given.
            allow_private: See ``FluxImage.download``.

        Returns:
            The pictures' paths, in the order of ``images``.

        Raises:
            DownloadFailed: A picture could not be fetched (see ``FluxImage.download``) or written,
                or a file of its name exists (nothing is ever overwritten). The text names those
                saved.
        """
        from langchain_shortapi_flux.image_files import (  # noqa: PLC0415 - a door
            Fetching,
            save_job,
        )

        how = Fetching(timeout, max_bytes, allow_private)
        return save_job(self, Path(folder), prefix=prefix, keep_existing=keep_existing, how=how)

    async def asave(
        self,
        folder: str | Path,
        *,
        prefix: str = "",
        keep_existing: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - as for the twin
        max_bytes: int | None = None,
        allow_private: bool = False,
    ) -> list[Path]:
        """The async twin of ``save``."""
        from langchain_shortapi_flux.image_files import (  # noqa: PLC0415 - a door
            Fetching,
            asave_job,
        )

        how = Fetching(timeout, max_bytes, allow_private)
        place = Path(folder)
        return await asave_job(self, place, prefix=prefix, keep_existing=keep_existing, how=how)

    def display(self, *, embed: bool = False, max_width_px: int | None = 512) -> None:
        """Show this job in the notebook's cell. Where no notebook is, its text goes to stdout.

        Args:
            embed: Fetch the pictures now and put them into the notebook, so that they outlive
                their URLs; needs Pillow. One that cannot be had is shown by its URL, with the
                reason.
            max_width_px: How wide an embedded picture is at most, in pixels: 16 to 8192. None
                embeds pictures as they are.

        Raises:
            ImportError: Pictures are to be embedded, and Pillow is missing.
            ValueError: ``max_width_px`` is out of range.
        """
        from langchain_shortapi_flux.notebook_display import display_job  # noqa: PLC0415

        display_job(self, embed=embed, max_width_px=max_width_px)

    def _repr_mimebundle_(self, **_: object) -> dict[str, str]:
        """What a notebook shows of a job that is the last line of a cell."""
        from langchain_shortapi_flux.notebook_display import job_mimebundle  # noqa: PLC0415

        return job_mimebundle(self)

    @override
    def model_post_init(self, context: Any, /) -> None:
        """Tell the pictures which job they came with: they may be downloaded by themselves."""
        if self.images:
            self.__dict__["images"] = tuple(one.come_from(Origin.of(self)) for one in self.images)

    @override
    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As in pydantic; the copy's pictures come from the copy."""
        job = super().model_copy(update=update, deep=deep)
        job.model_post_init(None)
        return job


def next_snapshot(job: FluxJob, news: dict[str, Any]) -> FluxJob:
    """The job with ``news``: fields and their values, taken as they are."""
    made = made_of(FluxJob, job.__dict__ | news, job.__pydantic_fields_set__ | news.keys())
    made.model_post_init(None)
    return made


def picture_at(url: str) -> FluxImage:
    """The picture at a URL, which is taken as it is."""
    return made_of(FluxImage, {"url": url}, {"url"}, {"_inline": None, "_origin": _NOWHERE})


Made = TypeVar("Made", bound=BaseModel)


def made_of(
    kind: type[Made],
    fields: dict[str, Any],
    fields_set: set[str],
    kept: dict[str, Any] | None = None,
) -> Made:
    """One of that kind, of all its fields and of what it keeps to itself, taken as they are.

    What ``model_construct`` and ``model_copy`` do, at a third of their cost: there is one for each
    query of each job.
    """
    made = kind.__new__(kind)
    set_slot = object.__setattr__
    set_slot(made, "__dict__", fields)
    set_slot(made, "__pydantic_fields_set__", fields_set)
    set_slot(made, "__pydantic_extra__", None)
    set_slot(made, "__pydantic_private__", kept)
    return made
