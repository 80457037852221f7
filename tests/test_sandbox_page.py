"""The sandbox's page without a browser: what it says of the jobs, and how it is served."""

from __future__ import annotations

import json
import logging
import math
import re
import socket
import threading
from decimal import Decimal
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
import requests

from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.sandbox.job_book import Ending, JobBook
from langchain_shortapi_flux.sandbox.menu import MODEL_ID, SIZES
from langchain_shortapi_flux.sandbox.page import (
    JOBS_SHOWN,
    JobLook,
    PageLook,
    page_html,
    page_json,
    page_look,
)
from langchain_shortapi_flux.sandbox.page_site import PATHS
from langchain_shortapi_flux.sandbox.painter import Picture, draw_png

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 5.0  # Seconds; reached only when something is broken.
KEY = "ak-secret/ of mine"
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</template></li></ol></main><svg/onload=alert(1)>",
    "<!--jobs--><!--pictures--> {id} {source} {nobody} \\1 \\g<0>",
    "\u0645\u0631\u062d\u0628\u0627 \U0001f98a \u202etxt.exe",
    "half a pair \ud800, nul \x00, lines\r\n\n\tand\u2028more",
]


class Book:
    """A job book on a clock that the test turns, and what the page shows of it."""

    def __init__(self, seconds: float = 3.0, balance: str = "1") -> None:
        """Open an empty book at a second of 2026."""
        self.now = 1_770_000_000.0
        self.book = JobBook(
            balance=Decimal(balance), clock=lambda: self.now, job_seconds=lambda _: seconds
        )

    def order(
        self, ending: Ending | None = None, callback_url: str | None = None, **args: Any
    ) -> str:
        """Order a job and give its id."""
        sent = {"prompt": "a lighthouse", "aspect_ratio": "16:9", **args}
        ending = ending or Ending()
        return self.book.order(sent, callback_url=callback_url, ending=ending).job_id

    def look(self) -> PageLook:
        """What the page shows now."""
        return page_look(self.book.glance(JOBS_SHOWN), KEY)

    def newest(self) -> JobLook:
        """What it shows of the newest job."""
        return self.look()["jobs"][0]


class Read(HTMLParser):
    """What a browser would find in the page: its tags with their attributes, its texts."""

    def __init__(self, html: bytes) -> None:
        """Read the page, without the templates at its end."""
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._into: list[str] = []
        self.feed(html.decode().split("<template")[0])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        # Void elements have no end, and no text.
        if tag not in ("img", "meta", "link"):
            self._into.append(dict(attrs).get("data-text") or "")

    def handle_endtag(self, tag: str) -> None:
        self._into.pop()

    def handle_data(self, data: str) -> None:
        if self._into and self._into[-1]:
            self.texts[self._into[-1]] = self.texts.get(self._into[-1], "") + data

    def attributes(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all tags of that name."""
        return [attributes for name, attributes in self.tags if name == tag]


class TestWords:
    """What is said of a job and of the money, from a book on a clock."""

    def test_a_running_job_waits_for_its_pictures(self) -> None:
        """Places of their shape are kept, so that nothing moves when they arrive."""
        book = Book()
        book.order(num_images=2)
        book.now += 2
        job = book.newest()
        assert (job["state"], job["title"]) == ("pending", "running for 2 s")
        assert (job["charge"], job["queries"]) == ("0.02 USD", "0")
        assert [(p["source"], p["width"], p["height"]) for p in job["pictures"]] == [
            ("", *SIZES["16:9"])
        ] * 2

    def test_a_job_that_succeeded_shows_its_pictures(self) -> None:
        """At their own addresses, marked as looked at by the page."""
        book = Book()
        job_id = book.order(num_images=4, performance="schnell", prompt="x" * 300)
        book.now += 3
        book.book.query(job_id)
        job = book.newest()
        assert (job["id"], job["title"]) == (job_id, "succeeded in 3.0 s")
        assert (job["num_images"], job["performance"]) == ("4", "schnell")
        assert (job["charge"], job["queries"]) == ("0.002 USD", "1")
        sources = {picture["source"] for picture in job["pictures"]}
        assert len(sources) == 4
        assert all(re.fullmatch(rf"/tmp/\d+/{job_id}/\w+\.png\?page", one) for one in sources)
        assert job["pictures"][1]["alt"] == "x" * 249 + "\u2026 (2 of 4)"

    @pytest.mark.parametrize(
        ("refunded", "charge", "spent"),
        [
            (True, "0.02 USD, refunded", "0.00 USD spent, 0.02 USD refunded"),
            (False, "0.02 USD", "0.02 USD spent, 0 USD refunded"),
        ],
    )
    def test_a_failed_job_says_why_and_what_it_cost(
        self, refunded: bool, charge: str, spent: str
    ) -> None:
        """A refund is seen in the job and in the sums."""
        book = Book()
        book.order(Ending("failed", refunded=refunded, error="unsafe"))
        assert book.newest()["error"] == ""
        book.now += 3
        look, job = book.look(), book.newest()
        assert (job["title"], job["error"]) == ("failed after 3.0 s", "unsafe")
        assert (job["charge"], job["pictures"]) == (charge, [])
        assert look["spent"] == spent
        assert look["balance"] == f"{book.book.balance} USD left"
        assert look["counts"] == "1 job: 0 running, 0 succeeded, 1 failed"

    def test_fewer_pictures_than_asked_are_shown_as_they_are(self) -> None:
        """The places that were kept for the others go."""
        book = Book(seconds=0)
        book.order(Ending(images=1), num_images=4)
        assert [picture["alt"] for picture in book.newest()["pictures"]] == ["a lighthouse"]

    def test_other_arguments_are_shown_too(self) -> None:
        """The service lets unknown arguments through, and so does the sandbox."""
        book = Book()
        book.order(seed=42, extra={"a": 1}, none=None)
        assert book.newest()["also_sent"] == "seed=42, extra=\u2026, none=\u2026"

    def test_thousands_of_jobs_stay_a_small_answer(self) -> None:
        """The newest are shown and all are counted, or the page would choke on a test suite."""
        book = Book(seconds=math.inf, balance="200")
        ids = [book.order(prompt="p" * 10_000) for _ in range(5_000)]
        book.book.finish(ids[0])
        look = book.look()
        assert [job["id"] for job in look["jobs"]] == ids[:-101:-1]
        assert look["counts"] == "5,000 jobs: 4,999 running, 1 succeeded, 0 failed"
        assert look["note"] == "The newest 100 are shown."
        assert len(page_json(look)) < 1_000_000

    def test_the_counts_follow_every_change(self) -> None:
        """They are kept beside the jobs, and would lie if one change were forgotten."""
        book = Book()
        book.order()
        book.order(Ending("failed"))
        endless = book.order(Ending(by_itself=False))
        seen = []
        for seconds in (0, 3):
            book.now += seconds
            seen.append(book.look()["counts"].partition(": ")[2])
        book.book.finish(endless)
        seen.append(book.look()["counts"].partition(": ")[2])
        assert seen == [
            "3 running, 0 succeeded, 0 failed",
            "1 running, 1 succeeded, 1 failed",
            "0 running, 2 succeeded, 1 failed",
        ]

    def test_an_empty_book_says_so(self) -> None:
        """An empty page looks broken."""
        assert Book().look()["note"].startswith("No jobs yet")


class TestMarkup:
    """The page as HTML."""

    @pytest.mark.parametrize("prompt", HOSTILE)
    def test_what_is_sent_never_becomes_markup(self, prompt: str) -> None:
        """Prompts, arguments, errors and callback URLs come from models."""
        book, plain = Book(seconds=0), Book(seconds=0)
        for one, text in ((book, prompt), (plain, "plain")):
            one.order(Ending("failed", error=text), text, prompt=text, extra=text, **{text: text})
            one.order(prompt=text, num_images=2, callback_url=text)
        found, wanted = (Read(page_html(one.look())) for one in (book, plain))
        assert [tag for tag, _ in found.tags] == [tag for tag, _ in wanted.tags]
        assert [set(named) for _, named in found.tags] == [set(named) for _, named in wanted.tags]

    def test_the_first_look_says_what_the_script_will_say(self) -> None:
        """Each word of the JSON stands in the HTML, at the place that the script looks for."""
        book = Book(seconds=0)
        book.order(
            Ending("failed", error="<unsafe> & more"),
            "http://127.0.0.1:1/?a=1&b=2",
            prompt='a "lighthouse" <at> {id}',
            seed=1,
        )
        look = book.look()
        found = Read(page_html(look))
        words: dict[str, Any] = {**look, **look["jobs"][0]}
        (item,) = found.attributes("li")
        assert item["data-state"] == words.pop("state")
        assert item["id"] == f"job-{words['id']}"
        assert words.pop("pictures") == []
        assert len(words.pop("jobs")) == 1
        assert {name: found.texts.get(name, "") for name in words} == words

    def test_pictures_have_their_shape_before_they_are_there(self) -> None:
        """And are fetched, and thus drawn, only when somebody scrolls to them."""
        book = Book(seconds=0)
        book.order(aspect_ratio="21:9", prompt='"quoted"', num_images=2)
        images = Read(page_html(book.look())).attributes("img")
        assert [(one["width"], one["height"]) for one in images] == [("1568", "672")] * 2
        assert [one["loading"] for one in images] == ["lazy"] * 2
        assert [one["alt"] for one in images] == ['"quoted" (1 of 2)', '"quoted" (2 of 2)']

    def test_a_callback_url_is_text(self) -> None:
        """A click on it would call back, and it may be a script."""
        book = Book(seconds=0)
        book.order(callback_url="javascript:alert(1)")
        links = Read(page_html(book.look())).attributes("a")
        assert all((link["href"] or "").startswith("/tmp/") for link in links)
        assert book.newest()["callback"] == "javascript:alert(1)"


class TestKey:
    """The key is in no answer of the page."""

    SPELLINGS = (KEY, "ak-secret%2F%20of%20mine", "ak-secret/%20of%20mine", "ak-secret%2F+of+mine")

    @pytest.mark.parametrize("spelling", SPELLINGS)
    def test_the_key_is_hidden_wherever_it_was_sent(self, spelling: str) -> None:
        """People put it into the wrong place, and then show their screen."""
        book = Book(seconds=0)
        book.order(
            Ending("failed", error=f"e {spelling}"),
            f"http://127.0.0.1:1/{spelling}?k={spelling}",
            prompt=f"p {spelling}",
            **{spelling: spelling},
        )
        job = book.newest()
        assert (job["prompt"], job["error"]) == ("p [key]", "e [key]")
        assert job["callback"] == "http://127.0.0.1:1/[key]?k=[key]"
        assert job["also_sent"] == "[key]=[key]"
        assert spelling not in page_html(book.look()).decode()

    def test_no_half_of_the_key_is_left_where_a_text_is_cut(self) -> None:
        """A cut through the key would leave what the search for it does not find."""
        book = Book(seconds=0)
        for padding in range(230, 260):
            book.order(prompt="p" * padding + KEY)
        alts = [picture["alt"] for job in book.look()["jobs"] for picture in job["pictures"]]
        assert [alt for alt in alts if "ak" in alt] == []


def create(sandbox: Sandbox, callback_url: str | None = None, **args: Any) -> str:
    """Create a job over HTTP and give its id."""
    body: dict[str, Any] = {
        "model": MODEL_ID,
        "args": {"prompt": "a lighthouse", "aspect_ratio": "1:1", **args},
    }
    if callback_url is not None:
        body["callback_url"] = callback_url
    answer = requests.post(
        f"{sandbox.base_url}/api/v1/job/create",
        json=body,
        headers={"Authorization": f"Bearer {sandbox.api_key}"},
        timeout=PATIENCE,
    )
    return str(answer.json()["data"]["job_id"])


def fetch(
    sandbox: Sandbox, path: str = "/", method: str = "GET", **headers: str
) -> requests.Response:
    """Fetch as a browser would, without the key."""
    return requests.request(method, sandbox.base_url + path, headers=headers, timeout=PATIENCE)


def jobs_shown(sandbox: Sandbox) -> list[JobLook]:
    """What the page's script is given."""
    shown: list[JobLook] = fetch(sandbox, "/page.json").json()["jobs"]
    return shown


class TestServing:
    """The page over real HTTP."""

    @pytest.mark.parametrize("path", sorted(PATHS))
    def test_a_browser_may_do_nothing_but_show_it(self, sandbox: Sandbox, path: str) -> None:
        """No script but its own, nothing from elsewhere, no frame around it, nothing kept."""
        answer = fetch(sandbox, path)
        head = fetch(sandbox, path, "HEAD")
        policy = dict(
            rule.strip().split(" ", 1)
            for rule in answer.headers["Content-Security-Policy"].split(";")
        )
        assert {policy.pop(name) for name in ("script-src", "style-src")} == {"'self'"}
        assert {policy.pop(name) for name in ("img-src", "connect-src")} == {"'self'"}
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert set(policy) > {"default-src", "frame-ancestors", "base-uri", "form-action"}
        assert set(policy.values()) == {"'none'"}
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] == "no-store"
        assert (answer.status_code, head.status_code) == (200, 200)
        assert (head.content, head.headers["Content-Type"]) == (b"", answer.headers["Content-Type"])
        assert "Access-Control-Allow-Origin" not in answer.headers

    def test_all_that_the_page_loads_is_there(self, sandbox: Sandbox) -> None:
        """From the sandbox itself, as what it is."""
        page = fetch(sandbox)
        assert page.headers["Content-Type"].startswith("text/html")
        found = Read(page.content)
        loaded = [a["href"] for a in found.attributes("link")] + [
            a["src"] for a in found.attributes("script")
        ]
        types = {path: fetch(sandbox, str(path)).headers["Content-Type"] for path in loaded}
        assert types == {
            "/page.css": "text/css",
            "/page.js": "text/javascript",
            "/page.svg": "image/svg+xml",
        }

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
    def test_it_can_only_be_read(self, sandbox: Sandbox, method: str) -> None:
        """Whoever sends something else is told so, and is in the log."""
        for path in sorted(PATHS):
            answer = fetch(sandbox, path, method)
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
            assert answer.json()["code"] == 405
        assert [call.on for call in sandbox.calls] == ["other"] * len(PATHS)

    @pytest.mark.parametrize(
        "host", ["evil.test", "127.0.0.1.evil.test:80", "localhost.evil.test", "192.0.2.1", "[", ""]
    )
    def test_a_foreign_name_gets_nothing(self, sandbox: Sandbox, host: str) -> None:
        """A web site whose name leads to this machine must not read the prompts."""
        create(sandbox, prompt="private")
        for path in sorted(PATHS):
            answer = fetch(sandbox, path, Host=host)
            assert (answer.status_code, answer.json()["code"]) == (404, 404)
        assert [call.on for call in sandbox.calls] == ["create"] + ["other"] * len(PATHS)

    def test_without_a_name_it_gets_nothing(self, sandbox: Sandbox) -> None:
        """HTTP/1.0 needs none."""
        parts = urlsplit(sandbox.base_url)
        with socket.create_connection((parts.hostname or "", parts.port or 0), PATIENCE) as client:
            client.sendall(b"GET /page.json HTTP/1.0\r\n\r\n")
            assert b" 404 " in client.makefile("rb").readline()

    @pytest.mark.parametrize("host", ["localhost:8787", "127.0.0.1", "[::1]:1", "127.1.2.3:5"])
    def test_names_of_this_machine_get_the_page(self, sandbox: Sandbox, host: str) -> None:
        """A tunnel or a forwarded port has another number."""
        assert fetch(sandbox, Host=host).status_code == 200

    def test_allowed_beyond_this_machine_any_name_gets_it(self) -> None:
        """Nobody knows by which name other machines call this one."""
        with Sandbox(allow_remote=True) as sandbox:
            assert fetch(sandbox, Host="sandbox.test").status_code == 200

    def test_looking_changes_nothing(self, sandbox: Sandbox) -> None:
        """Who counts calls or scripts faults may have the page open beside it."""
        create(sandbox, num_images=2)
        sandbox.inject(Fault("image", "error", status=403), Fault("query", "drop_before"))
        (job,) = jobs_shown(sandbox)
        look = job["pictures"][0]["source"]
        before = sandbox.jobs
        for path in (*sorted(PATHS), look, look):
            assert fetch(sandbox, path).status_code == 200
        assert sandbox.jobs == before
        assert [call.on for call in sandbox.calls] == ["create"]
        assert fetch(sandbox, look.removesuffix("?page")).status_code == 403
        assert [call.on for call in sandbox.calls] == ["create", "image"]

    def test_only_the_pages_own_pictures_go_unlogged(self, sandbox: Sandbox) -> None:
        """Its mark on another call, or from a foreign name, is no way past log and faults."""
        create(sandbox)
        look = jobs_shown(sandbox)[0]["pictures"][0]["source"]
        fetch(sandbox, look, Host="evil.test")
        fetch(sandbox, "/api/v1/job/query?page")
        fetch(sandbox, "/elsewhere?page")
        assert [call.on for call in sandbox.calls] == ["create", "image", "query", "other"]

    def test_a_picture_is_drawn_when_it_is_fetched(self, sandbox: Sandbox) -> None:
        """A hundred jobs would else be hundreds of drawings for one look."""
        create(sandbox, prompt="drawn only for this test", num_images=8)
        drawn = draw_png.cache_info().misses
        fetch(sandbox)
        (job,) = jobs_shown(sandbox)
        assert draw_png.cache_info().misses == drawn
        answer = fetch(sandbox, job["pictures"][0]["source"])
        assert draw_png.cache_info().misses == drawn + 1
        assert answer.content.startswith(b"\x89PNG")
        assert "immutable" in answer.headers["Cache-Control"]

    def test_the_key_is_in_no_answer_and_no_log(
        self, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The page is shown to others."""
        key = sandbox.api_key
        with caplog.at_level(logging.DEBUG):
            create(sandbox, prompt=key, callback_url=f"http://192.0.2.1/{key}")
            answers = [fetch(sandbox, path).text for path in sorted(PATHS)]
            picture = jobs_shown(sandbox)[0]["pictures"][0]["source"]
        assert [text for text in (*answers, caplog.text) if key in text] == []
        # The prompt is written on the picture.
        assert fetch(sandbox, picture).content == draw_png(Picture("[key]", "1:1", "dev"))


@pytest.fixture
def listener() -> Iterator[str]:
    """The address of a server that answers each POST with the status that its path asks for."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(int(self.path[1:]))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class TestCallback:
    """What the page says of callbacks."""

    def test_it_says_how_the_post_went(self, listener: str) -> None:
        """The first question of whoever writes a receiver."""
        urls = {
            f"{listener}/204": "answered 204",
            f"{listener}/500": "answered 500",
            "http://127.0.0.1:9/": "failed: ClientConnectorError",
            "http://192.0.2.1/": "not sent: not this machine",
            "CALLBACK_URL": "not sent: not an http(s) URL",
        }
        with Sandbox(job_seconds=math.inf) as sandbox:
            for url in urls:
                create(sandbox, url)
            create(sandbox)
            assert {job["callback_post"] for job in jobs_shown(sandbox)} == {
                "when the job ends",
                "",
            }
            sandbox.finish()
            give_up = threading.Event()
            for _ in range(500):
                shown = {job["callback"]: job["callback_post"] for job in jobs_shown(sandbox)}
                if not {"due", "being posted"} & set(shown.values()):
                    break
                give_up.wait(0.01)
            assert shown == {**urls, "": ""}
            outcomes = {job.callback_url or "": job.callback_outcome for job in sandbox.jobs}
            assert outcomes == {**urls, "": None}

    def test_a_post_that_the_end_cut_short_is_said(self) -> None:
        """And is known after the sandbox has come back."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            sandbox = Sandbox(job_seconds=0)
            with sandbox:
                create(sandbox, f"http://127.0.0.1:{silent.getsockname()[1]}/")
                silent.settimeout(PATIENCE)
                connection, _ = silent.accept()
                with connection:
                    assert jobs_shown(sandbox)[0]["callback_post"] == "being posted"
                    sandbox.stop()
            with sandbox:
                assert jobs_shown(sandbox)[0]["callback_post"] == "given up: the sandbox stopped"


def test_the_json_is_plain_ascii(sandbox: Sandbox) -> None:
    """Half of a surrogate pair is a prompt that JSON can carry and UTF-8 cannot."""
    create(sandbox, prompt="\ud800 half \U0001f98a")
    answer = fetch(sandbox, "/page.json")
    assert answer.content.isascii()
    assert json.loads(answer.content)["jobs"][0]["prompt"] == "\ud800 half \U0001f98a"
    assert b"&#55296; half" in fetch(sandbox).content
