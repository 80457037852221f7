"""What a notebook shows of jobs: all that is known, nothing that could do harm."""

from __future__ import annotations

import base64
import copy
import pickle
import re
import subprocess
import sys
import warnings
from decimal import Decimal
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from PIL import Image
from traitlets.config import Config
from typing_extensions import override

from langchain_shortapi_flux import (
    CreateOutcomeUnknown,
    DownloadFailed,
    FluxImage,
    FluxJob,
    FluxJobs,
    FluxRequest,
    InsufficientBalance,
    JobTimeout,
    ShortAPIFlux,
)
from langchain_shortapi_flux.notebook_display import (
    GALLERY_JOBS_MAX,
    display_job,
    display_jobs,
    gallery_mimebundle,
    job_mimebundle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from langchain_shortapi_flux.sandbox import Sandbox

    Shown = Callable[[Callable[[], object]], dict[str, str]]

URL = "https://file.example.com/tmp/fox.png"
JOB = FluxJob(
    job_id="6b03191c1050f3f96a7ef965",
    status="succeeded",
    request=FluxRequest(prompt="a red fox", aspect_ratio="16:9", num_images=1, performance="dev"),
    images=(FluxImage(url=URL),),
    cost=Decimal("0.020"),
    charge="charged",
    queries=3,
    elapsed=4.24,
)


def _picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB") -> bytes:
    file = BytesIO()
    Image.new(mode, (width, height), 90).save(file, kind)
    return file.getvalue()


# --- reading a page as a browser does -----------------------------------------------------------

_ALLOWED = {
    "div": {"style", "dir", "title"},
    "span": {"style", "aria-hidden"},
    "a": {"href", "target", "rel", "style"},
    "img": {"src", "alt", "width", "height", "loading", "referrerpolicy", "style"},
}


class _Page(HTMLParser):
    """A page's words, pictures and links; it stumbles over whatever else is in it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.pictures: list[dict[str, str]] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    @override
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        assert len(given) == len(attrs)
        assert set(given) <= _ALLOWED[tag]
        assert not re.search(r"url\(|expression|import|behavior", given.get("style", ""))
        if tag == "img":
            assert re.match(r"https?://|data:image/(png|jpeg|webp|gif);base64,", given["src"])
            assert given["alt"].strip()
            assert "aspect-ratio" in given["style"]
            assert int(given["width"]) > 0
            assert int(given["height"]) > 0
            self.pictures.append(given)
        elif tag == "a":
            assert re.match(r"https?://", given["href"])
            assert given["rel"] == "noopener noreferrer"
            self.links.append(given["href"])
        if tag != "img":
            self._open.append(tag)

    @override
    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    @override
    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @override
    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    @override
    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    @property
    def text(self) -> str:
        """All words, with plain spaces."""
        return "\n".join(self.words).replace("\u00a0", " ")


def _page(shown: FluxJob | Sequence[FluxJob | BaseException]) -> _Page:
    bundle = job_mimebundle(shown) if isinstance(shown, FluxJob) else gallery_mimebundle(shown)
    assert set(bundle) == {"text/html", "text/plain"}
    return _Page(bundle["text/html"])


# --- one job ------------------------------------------------------------------------------------


def test_a_job_shows_its_picture_and_what_is_known_of_it() -> None:
    """Status, id, cost and time are what one looks for; the prompt is the alternative text."""
    page = _page(JOB)
    (picture,) = page.pictures
    assert picture["src"] == URL
    assert picture["alt"] == "a red fox"
    assert page.links == [URL]
    for known in ("a red fox", "succeeded", "0.020 USD", "4.2 s", JOB.job_id):
        assert known in page.text


def test_a_job_in_plain_text_says_the_same() -> None:
    """At a terminal, and wherever HTML is not shown."""
    assert job_mimebundle(JOB)["text/plain"].split("\n") == [
        f"job {JOB.job_id} · succeeded · 0.020 USD · 4.2 s · a red fox",
        f"  {URL}",
    ]


def test_each_of_several_pictures_is_shown_and_told_apart() -> None:
    """A job may have eight; who cannot see them hears which is which."""
    images = tuple(FluxImage(url=f"{URL}?{number}") for number in range(4))
    page = _page(JOB.model_copy(update={"images": images}))
    assert [picture["src"] for picture in page.pictures] == [image.url for image in images]
    assert [picture["alt"] for picture in page.pictures] == [
        f"a red fox ({number} of 4)" for number in range(1, 5)
    ]


@pytest.mark.parametrize(
    ("ratio", "style", "width", "height"),
    [("16:9", "16/9", 320, 180), ("2:3", "2/3", 320, 480), (None, "1/1", 320, 320)],
)
def test_a_box_has_the_pictures_shape_before_it_is_there(
    ratio: Any, style: str, width: int, height: int
) -> None:
    """The page does not jump, and viewers that strip styles show no giants."""
    request = FluxRequest(prompt="a red fox", aspect_ratio=ratio)
    (picture,) = _page(JOB.model_copy(update={"request": request})).pictures
    assert f"aspect-ratio:{style};" in picture["style"]
    assert (int(picture["width"]), int(picture["height"])) == (width, height)


def test_a_job_looked_up_by_its_id_has_no_prompt_and_is_shown_all_the_same() -> None:
    """Then its id is all that can be said of its picture."""
    (picture,) = _page(JOB.model_copy(update={"request": None})).pictures
    assert picture["alt"] == f"picture of job {JOB.job_id}"


def test_a_pending_job_shows_what_is_known() -> None:
    """It has an id and has cost money already."""
    page = _page(JOB.model_copy(update={"status": "pending", "images": ()}))
    assert page.pictures == []
    for known in ("pending", "no picture yet", "0.020 USD", JOB.job_id, "a red fox"):
        assert known in page.text


def test_a_failed_job_says_why_and_what_became_of_the_money() -> None:
    """Partly refunded is neither charged nor refunded."""
    failed = {"status": "failed", "images": (), "error": "too dark", "charge": "refunded"}
    whole = _page(JOB.model_copy(update=failed)).text
    assert "too dark" in whole
    assert "0.020 USD, 0.020 given back" in whole
    partly = _page(JOB.model_copy(update={**failed, "refunded": Decimal("0.005")})).text
    assert "0.020 USD, 0.005 given back" in partly


@pytest.mark.parametrize(
    ("charge", "cost", "words"),
    [
        ("charged", None, "charged, cost not reported"),
        ("unknown", None, "may have been charged"),
        ("unknown", Decimal("0.02"), "0.02 USD, may have been charged"),
        ("none", None, "not charged"),
        ("charged", Decimal("2E-3"), "0.002 USD"),
    ],
)
def test_money_is_told_as_it_is_known(charge: Any, cost: Decimal | None, words: str) -> None:
    """What is not reported is not made up."""
    page = _page(JOB.model_copy(update={"charge": charge, "cost": cost}))
    assert f"succeeded · {words} · 4.2 s" in page.text


def test_a_note_on_a_success_is_shown() -> None:
    """Fewer pictures than were paid for, for example."""
    noted = JOB.model_copy(update={"error": "note: 1 of 2 pictures could not be used"})
    assert "1 of 2 pictures" in _page(noted).text
    assert "1 of 2 pictures" in job_mimebundle(noted)["text/plain"]


# --- nothing that could do harm -----------------------------------------------------------------

_HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onload='alert(1)",
    "</div></div><style>*{display:none}</style>",
    "<!-- ",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("words", _HOSTILE)
def test_words_from_models_and_servers_stay_words(words: str) -> None:
    """Prompts, errors, ids and URLs all come from outside."""
    hostile = FluxJob(
        job_id=words,
        status="succeeded",
        request=FluxRequest(prompt=words),
        images=(FluxImage(url=words), FluxImage(url=URL)),
        error=words,
        charge="charged",
    )
    failed = hostile.model_copy(update={"status": "failed", "images": ()})
    error = JobTimeout(words, job_id=words)
    for page in (_page(hostile), _page(failed), _page([hostile, failed, error, ValueError(words)])):
        assert words.strip() in page.text
        for picture in page.pictures:
            assert words.strip() in picture["alt"]


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "JaVaScRiPt://example.com/%0aalert(1)",
        "java\nscript:alert(1)",
        "data:text/html;base64,PHNjcmlwdD4=",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "data:image/png (12 bytes, inside the reply)",
        "file:///etc/passwd",
        "//example.com/fox.png",
        "/fox.png",
        "https:/fox.png",
        "https://",
        "https://user:secret@example.com/fox.png",
        "https:\\\\example.com\\fox.png",
        "https://example.com/a fox.png",
        "https://example.com/\u202efox.png",
        "https://[::1/fox.png",
        "vbscript:x",
        "",
    ],
)
def test_an_address_that_is_none_of_a_picture_is_text(url: str) -> None:
    """It becomes neither a source nor a link, and is shown for what it is."""
    job = JOB.model_copy(update={"images": (FluxImage(url=url),)})
    page = _page(job)
    assert (page.pictures, page.links) == ([], [])
    assert " ".join(url.replace("\u202e", " ").split()) in page.text
    assert "not shown" in page.text


def test_addresses_with_signatures_are_kept_to_the_letter() -> None:
    """Ampersands and quotes are escaped in the page, not taken out of the URL."""
    url = "http://127.0.0.1:8787/fox.png?a=1&amp;b=%22'x'\"onload=\"alert(1)"
    page = _page(JOB.model_copy(update={"images": (FluxImage(url=url),)}))
    assert page.pictures[0]["src"] == url
    assert page.links == [url]


def test_what_steers_a_terminal_does_not_reach_it() -> None:
    """Nor what turns the direction of writing; letters and emoji of all scripts stay whole."""
    prompt = "a \x1b[2Jfox\r\n\x07 \u202eזאב 狐 👩\u200d🚀"
    job = JOB.model_copy(update={"request": FluxRequest(prompt=prompt)})
    assert (
        job_mimebundle(job)["text/plain"].split("\n")[0].endswith(" · a [2Jfox זאב 狐 👩\u200d🚀")
    )
    assert _page(job).pictures[0]["alt"] == "a [2Jfox זאב 狐 👩\u200d🚀"


def test_endless_words_are_cut() -> None:
    """A notebook is kept and sent around."""
    long = "x" * 100_000
    job = FluxJob(
        job_id=long,
        status="failed",
        request=FluxRequest(prompt=long),
        images=(FluxImage(url=f"blob:{long}"),),
        error=long,
    )
    for bundle in (job_mimebundle(job), gallery_mimebundle([job, ValueError(long)])):
        assert sum(map(len, bundle.values())) < 15_000


# --- many jobs ----------------------------------------------------------------------------------


def test_a_gallery_counts_all_and_shows_each() -> None:
    """Errors stand in their places, as ``return_exceptions=True`` gives them."""
    refunded = {"status": "failed", "images": (), "charge": "refunded", "error": "too dark"}
    jobs: list[FluxJob | BaseException] = [
        JOB,
        JOB.model_copy(update=refunded),
        JOB.model_copy(update={**refunded, "refunded": Decimal("0.015")}),
        JobTimeout("it goes on", job_id="6b03-late", charge="charged"),
        InsufficientBalance("top up"),
        CreateOutcomeUnknown("no answer"),
        RuntimeError("of somebody else"),
    ]
    page = _page(jobs)
    assert page.words[0] == (
        "7 jobs: 1 succeeded, 2 failed, 1 JobTimeout, 1 InsufficientBalance, "
        "1 CreateOutcomeUnknown, 1 RuntimeError · 0.025 USD"
    )
    for known in (
        *("too dark", "it goes on", "6b03-late", "JobTimeout · charged", "top up"),
        *("InsufficientBalance · not charged", "CreateOutcomeUnknown · may have been charged"),
        "RuntimeError",
    ):
        assert known in page.text
    lines = gallery_mimebundle(jobs)["text/plain"].split("\n")
    assert lines[0] == page.words[0]
    assert [line.split(" ")[0] for line in lines[1:]] == [f"{place}." for place in range(1, 8)]
    assert lines[2].endswith("0.020 USD, 0.020 given back · 4.2 s · a red fox · too dark")


def test_a_long_gallery_says_how_many_it_leaves_out() -> None:
    """The line above counts all of them, and their money."""
    jobs = [JOB] * (GALLERY_JOBS_MAX + 7)
    page = _page(jobs)
    assert len(page.pictures) == GALLERY_JOBS_MAX
    assert page.words[0] == "107 jobs: 107 succeeded · 2.140 USD"
    assert page.words[-1] == "and 7 more"
    assert gallery_mimebundle(jobs)["text/plain"].endswith("\nand 7 more")


def test_an_empty_gallery_says_so() -> None:
    """``batch([])`` gives one."""
    assert gallery_mimebundle([])["text/plain"] == "0 jobs: none"
    assert _page([]).pictures == []


def test_the_jobs_of_a_batch_are_a_list_like_any_other() -> None:
    """LangChain and users take it for one."""
    jobs = FluxJobs([JOB, JOB])
    assert jobs == [JOB, JOB]
    assert isinstance(jobs, list)
    assert jobs[0] is JOB
    assert jobs._repr_mimebundle_(include=None, exclude=None) == gallery_mimebundle(jobs)
    part = jobs[:1]
    assert isinstance(part, FluxJobs)
    assert part == [JOB]
    for again in (pickle.loads(pickle.dumps(jobs)), copy.copy(jobs), copy.deepcopy(jobs)):
        assert type(again) is FluxJobs
        assert again == jobs


# --- in a notebook ------------------------------------------------------------------------------


@pytest.fixture
def shown() -> Iterator[Shown]:
    """Runs something as a cell does, and gives the mime bundle that it displayed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IPython's own
        settings = Config()
        settings.HistoryManager.enabled = False
        InteractiveShell.instance(config=settings)

    def run(cell: Callable[[], object]) -> dict[str, str]:
        with capture_output() as captured:
            cell()
        assert (captured.stdout, captured.stderr) == ("", "")
        (output,) = captured.outputs
        bundle: dict[str, str] = output.data
        return bundle

    yield run
    InteractiveShell.clear_instance()


def test_the_last_line_of_a_cell_is_shown_as_a_gallery(
    shown: Shown,
) -> None:
    """IPython itself asks, and its own way with lists does not win."""
    formatter: Any = InteractiveShell.instance().display_formatter
    formatted, _ = formatter.format(FluxJobs([JOB]))
    assert formatted == gallery_mimebundle([JOB])
    assert shown(FluxJobs([JOB]).display) == gallery_mimebundle([JOB])
    assert shown(lambda: display_job(JOB)) == job_mimebundle(JOB)


def test_embedded_pictures_outlive_their_urls(
    shown: Shown,
    sandbox: Sandbox,
    flux: ShortAPIFlux,
) -> None:
    """They are fetched once, made small, and say how small."""
    job = flux.invoke("a red fox", aspect_ratio="3:2", num_images=2)
    bundle = shown(lambda: display_job(job, embed=True, max_width_px=120))
    sandbox.stop()
    page = _Page(bundle["text/html"])
    assert len(page.pictures) == 2
    for picture in page.pictures:
        content = base64.b64decode(picture["src"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(BytesIO(content)) as decoded:
            decoded.load()
            assert decoded.size == (120, 80)
            assert (int(picture["width"]), int(picture["height"])) == decoded.size
        assert len(content) < 20_000
    assert page.text.count("thumbnail, 120 by 80 px of 1248 by 832") == 1
    assert page.links == [image.url for image in job.images]


def test_a_notebook_may_keep_every_picture_that_it_shows(
    shown: Shown, sandbox: Sandbox, flux: ShortAPIFlux
) -> None:
    """One line at its beginning, and galleries hold bytes; another, and they have URLs again."""
    shell: Any = InteractiveShell.instance()
    job = flux.invoke("a red fox")
    jobs = FluxJobs([job, job])
    shell.extension_manager.load_extension("langchain_shortapi_flux")
    kept = [shell.display_formatter.format(one)[0] for one in (job, jobs)]
    shell.extension_manager.unload_extension("langchain_shortapi_flux")
    by_url = [shell.display_formatter.format(one)[0] for one in (job, jobs)]
    assert by_url == [job_mimebundle(job), gallery_mimebundle(jobs)]
    assert [bundle["text/plain"] for bundle in kept] == [bundle["text/plain"] for bundle in by_url]
    for bundle, count in zip(kept, (1, 2), strict=True):
        pictures = _Page(bundle["text/html"]).pictures
        assert [picture["width"] for picture in pictures] == ["512"] * count
        assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)


def test_what_is_to_be_said_of_all_pictures_is_said_once(shown: Shown) -> None:
    """Six times the same line is noise; where one differs, each has its own."""
    urls = [JOB, JOB.model_copy(update={"images": (FluxImage(url=f"{URL}?other"),)})]

    def page(contents: list[bytes]) -> _Page:
        left = dict(zip((URL, f"{URL}?other"), contents, strict=True))
        bundle = shown(lambda: display_jobs(urls, embed=True, fetch=lambda one: left[one.url]))
        return _Page(bundle["text/html"])

    large, wide = _picture(600, 300), _picture(600, 200)
    assert page([large, large]).text.count("thumbnail, ") == 1
    assert page([large, wide]).text.count("thumbnail, ") == 2
    assert page([large, _SMALL]).text.count("thumbnail, ") == 1


def test_a_thumbnail_is_never_blown_up(shown: Shown) -> None:
    """Its box ends where its pixels do; a picture by its URL fills its box."""
    bundle = shown(lambda: display_job(JOB, embed=True, fetch=lambda _: _SMALL))
    assert "max-width:64px;" in _Page(bundle["text/html"]).pictures[0]["style"]
    assert "max-width" not in _page(JOB).pictures[0]["style"]


_SMALL = _picture(64, 48)
_HOLED = _picture(400, 200, mode="LA")


@pytest.mark.parametrize(
    ("content", "width", "media_type", "size"),
    [
        (_SMALL, None, "image/png", None),
        (_SMALL, 512, "image/png", (64, 48)),
        (_picture(64, 48, "WEBP"), 64, "image/webp", (64, 48)),
        (_picture(400, 200, "GIF", "P"), 100, "image/jpeg", (100, 50)),
        (_picture(400, 200, "JPEG", "CMYK"), 100, "image/jpeg", (100, 50)),
        (_HOLED, 100, "image/png", (100, 50)),
        (_picture(4000, 1), 16, "image/jpeg", (16, 1)),
    ],
    ids=["whole", "small enough", "just small enough", "gif", "cmyk", "transparent", "a line"],
)
def test_a_picture_is_embedded_as_it_is_or_as_a_thumbnail(
    shown: Shown,
    content: bytes,
    width: int | None,
    media_type: str,
    size: tuple[int, int] | None,
) -> None:
    """Never larger than it was, never without its holes, and always what the page says it is."""
    bundle = shown(
        lambda: display_job(JOB, embed=True, max_width_px=width, fetch=lambda _: content)
    )
    (picture,) = _Page(bundle["text/html"]).pictures
    head, _, coded = picture["src"].partition(";base64,")
    assert head == f"data:{media_type}"
    with Image.open(BytesIO(base64.b64decode(coded))) as decoded:
        decoded.load()
        assert decoded.get_format_mimetype() == media_type
        assert size in {None, decoded.size}
        if content is _HOLED:
            assert decoded.has_transparency_data
    if content is _SMALL:
        assert base64.b64decode(coded) == content


def _dead(_: FluxImage) -> bytes:
    raise DownloadFailed("gone, for URLs are temporary")


@pytest.mark.parametrize(
    ("fetch", "reason"),
    [
        (_dead, "gone, for URLs are temporary"),
        (lambda _: b"<html>", "its 6 bytes are no PNG, JPEG, WebP or GIF"),
        (lambda _: _picture(64, 48)[:60], "the picture is broken"),
        (lambda _: _picture(900, 48)[:60], "the picture is broken"),
    ],
    ids=["dead", "a web page", "cut off", "cut off, and large"],
)
def test_a_picture_that_cannot_be_had_is_shown_by_its_url_and_says_why(
    shown: Shown,
    fetch: Callable[[FluxImage], bytes],
    reason: str,
) -> None:
    """One of many must not hide the others."""
    bundle = shown(lambda: display_jobs([JOB, ValueError("x")], embed=True, fetch=fetch))
    page = _Page(bundle["text/html"])
    assert page.pictures[0]["src"] == URL
    assert f"not embedded: {reason}" in page.text


def test_a_failure_of_the_program_is_not_hidden_in_a_caption(
    shown: Shown,
) -> None:
    """Only what can befall a picture is."""

    def wrong(_: FluxImage) -> bytes:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        display_job(JOB, embed=True, fetch=wrong)


def test_pictures_that_came_inside_the_reply_are_shown(
    shown: Shown,
) -> None:
    """There is nothing to fetch; after a JSON round trip there is nothing to show either."""
    job = JOB.model_copy(update={"images": (FluxImage.from_bytes(_SMALL, "image/png"),)})
    source = f"data:image/png;base64,{base64.b64encode(_SMALL).decode()}"
    embedded = shown(lambda: display_job(job, embed=True, fetch=_dead))
    for page in (_page(job), _Page(embedded["text/html"])):
        assert [picture["src"] for picture in page.pictures] == [source]
        assert page.links == []
        assert "not embedded" not in page.text
    assert _page(FluxJob.model_validate_json(job.model_dump_json())).pictures == []
    svg = JOB.model_copy(update={"images": (FluxImage.from_bytes(b"<svg>", "image/svg+xml"),)})
    assert _page(svg).pictures == []
    by_url = JOB.model_copy(update={"images": (FluxImage(url=source),)})
    assert [picture["src"] for picture in _page(by_url).pictures] == [source]


@pytest.mark.parametrize("width", [0, 15, 8193, -1])
def test_a_width_that_makes_no_sense_is_refused(width: int) -> None:
    """Before anything is fetched."""
    with pytest.raises(ValueError, match=f"max_width_px={width}: allowed are 16 to 8192, and None"):
        display_job(JOB, embed=True, max_width_px=width, fetch=_dead)


def test_thumbnails_without_pillow_say_what_to_install(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole pictures need nothing."""
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"langchain-shortapi-flux\[notebook\].*None"):
        display_job(JOB, embed=True, fetch=lambda _: _SMALL)
    bundle = shown(lambda: display_job(JOB, embed=True, max_width_px=None, fetch=lambda _: _SMALL))
    assert "data:image/png" in bundle["text/html"]


def test_where_ipython_is_imported_and_no_notebook_runs_jobs_are_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Other libraries import it too; its own ``display`` would then print a dict."""
    display_job(JOB, embed=True, fetch=_dead)
    assert capsys.readouterr().out == job_mimebundle(JOB)["text/plain"] + "\n"


_NO_NOTEBOOK = """
import sys
from langchain_shortapi_flux import FluxImage, FluxJob, FluxJobs
from langchain_shortapi_flux.notebook_display import display_job

job = FluxJob(job_id="6b03", status="succeeded", images=(FluxImage(url="https://x.example/a"),))
display_job(job, embed=True)
FluxJobs([job]).display(embed=True)
assert not {"IPython", "PIL", "aiohttp"} & set(sys.modules), sorted(sys.modules)
"""


@pytest.mark.thorough
def test_without_a_notebook_jobs_are_text_and_nothing_is_fetched() -> None:
    """Nor is IPython imported, which may not be there."""
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", _NO_NOTEBOOK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    line = "job 6b03 · succeeded · may have been charged · 0.0 s"
    assert ended.stdout.split("\n") == [
        line,
        "  https://x.example/a",
        "1 job: 1 succeeded",
        f"1. {line}",
        "",
    ]
