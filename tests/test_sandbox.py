"""The sandbox over real HTTP, and its job book on a clock that the test turns."""

import io
import json
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue
from typing import Any, Self

import pytest
import requests
from PIL import Image

from langchain_shortapi_flux.sandbox import Charge, Fault, Sandbox
from langchain_shortapi_flux.sandbox.faults import KINDS
from langchain_shortapi_flux.sandbox.job_book import Ending, JobBook
from langchain_shortapi_flux.sandbox.menu import MODEL_ID, SIZES, Refused
from langchain_shortapi_flux.sandbox.painter import Picture, draw_png

ARGS = {"prompt": "a lighthouse", "aspect_ratio": "1:1"}
PATIENCE = 5.0  # Seconds; reached only when something is broken.
LONG = 60.0  # Seconds; much longer than any client here waits.
GAP = 0.005  # Seconds between two looks at what another thread does.

ENOUGH = 4_000_000  # Bytes; several times what any picture has.

CREATE = "/api/v1/job/create"
QUERY = "/api/v1/job/query"


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        """Start in 2026."""
        self.now = 1_770_000_000.0

    def __call__(self) -> float:
        """Give the time in seconds."""
        return self.now


class Caller:
    """A bare HTTP client of one sandbox: no retries, no interpretation."""

    def __init__(self, sandbox: Sandbox) -> None:
        """Call this sandbox, with its key."""
        self.sandbox = sandbox
        self.session = requests.Session()
        self.session.trust_env = False
        self.headers = {"Authorization": f"Bearer {sandbox.api_key}"}

    def create(self, body: Any = None, **args: Any) -> requests.Response:
        """POST a create."""
        return self.session.post(
            self.sandbox.base_url + CREATE,
            json={"model": MODEL_ID, "args": {**ARGS, **args}} if body is None else body,
            headers=self.headers,
            timeout=PATIENCE,
            allow_redirects=False,
        )

    def made(self, **args: Any) -> str:
        """Create a job and give its id."""
        return str(self.create(**args).json()["data"]["job_id"])

    def query(self, job_id: str) -> requests.Response:
        """GET a query."""
        return self.session.get(
            self.sandbox.base_url + QUERY,
            params={"id": job_id},
            headers=self.headers,
            timeout=PATIENCE,
            allow_redirects=False,
        )

    def record(self, job_id: str) -> dict[str, Any]:
        """Query a job and give its record."""
        record: dict[str, Any] = self.query(job_id).json()["data"]
        return record

    def image(self, job_id: str, index: int = 0, **options: Any) -> requests.Response:
        """GET one of a job's images, without the key."""
        url = self.record(job_id)["result"]["images"][index]["url"]
        options.setdefault("timeout", PATIENCE)
        return self.session.get(url, allow_redirects=False, **options)


def unanswered(caller: Caller, call: Callable[[], requests.Response]) -> None:
    """Let a call arrive that gets no answer, and stop the sandbox in the middle of it."""
    sandbox = caller.sandbox
    before, deadline = len(sandbox.calls), time.monotonic() + PATIENCE
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(call)
        while len(sandbox.calls) == before and time.monotonic() < deadline:
            time.sleep(GAP)
        assert not waiting.done()
        sandbox.stop()
        with pytest.raises(requests.RequestException):
            waiting.result()
    sandbox.start()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A sandbox whose jobs end at once."""
    with Sandbox(job_seconds=0) as running:
        yield running


@pytest.fixture
def caller(sandbox: Sandbox) -> Iterator[Caller]:
    """A client of the sandbox."""
    calling = Caller(sandbox)
    with calling.session:
        yield calling


def book_with(clock: Clock, balance: str = "1", seconds: float = 3.0) -> JobBook:
    """A job book on that clock."""
    return JobBook(balance=Decimal(balance), clock=clock, job_seconds=lambda _: seconds)


class TestJobBook:
    """Money and time, without a socket and without waiting."""

    def test_a_job_ends_when_its_time_has_come(self) -> None:
        """Clients are tested on what they see before and after that moment."""
        clock = Clock()
        book = book_with(clock)
        job_id = book.order(ARGS, callback_url=None, ending=Ending()).job_id
        clock.now += 2.9
        before = book.query(job_id)
        clock.now += 0.2
        after = book.query(job_id)
        assert before is not None
        assert after is not None
        assert (before.status, before.finished_at) == ("pending", None)
        assert (after.status, after.queries) == ("succeeded", 2)
        assert after.finished_at is not None
        assert pytest.approx((after.finished_at - after.created_at).total_seconds()) == 3.0

    def test_the_balance_runs_out(self) -> None:
        """Too little balance is an answer that clients must survive."""
        book = book_with(Clock(), balance="0.021")
        book.order(ARGS, callback_url=None, ending=Ending())
        with pytest.raises(Refused, match="balance"):
            book.order(ARGS, callback_url=None, ending=Ending())
        assert (Decimal("0.001"), 1) == (book.balance, len(book.jobs))

    def test_a_failed_job_is_refunded_when_it_fails(self) -> None:
        """Charges are net of refunds: tests of a client's bill compare with them."""
        clock = Clock()
        book = book_with(clock)
        kept = book.order({**ARGS, "performance": "schnell"}, callback_url=None, ending=Ending())
        book.order(ARGS, callback_url=None, ending=Ending("failed"))
        assert Decimal("0.978") == book.balance
        clock.now += 3
        assert Decimal("0.998") == book.balance
        assert (Charge(kept.job_id, Decimal("0.002")),) == book.charges

    def test_a_failed_job_may_stay_charged(self) -> None:
        """A client must believe the record, not a rule that failures are free."""
        clock = Clock()
        book = book_with(clock)
        book.order(ARGS, callback_url=None, ending=Ending("failed", refunded=False))
        clock.now += 3
        assert (Decimal("0.98"), 1) == (book.balance, len(book.charges))

    def test_finish_ends_what_would_run_for_ever(self) -> None:
        """So a test can end a job at the moment it chooses, and only once."""
        clock = Clock()
        book = book_with(clock, seconds=math.inf)
        one = book.order(ARGS, callback_url=None, ending=Ending()).job_id
        other = book.order(ARGS, callback_url=None, ending=Ending(by_itself=False)).job_id
        clock.now += 1e6
        book.finish(one)
        assert [job.status for job in book.jobs] == ["succeeded", "pending"]
        clock.now += 1
        book.finish()
        book.finish(other)
        assert [job.status for job in book.jobs] == ["succeeded", "succeeded"]
        with pytest.raises(KeyError):
            book.finish("0" * 24)

    def test_the_id_tells_the_second_of_creation(self) -> None:
        """Recorded ids do, and nothing else in them can be guessed."""
        clock = Clock()
        book = book_with(clock)
        ids = {book.order(ARGS, callback_url=None, ending=Ending()).job_id for _ in range(9)}
        assert len(ids) == 9
        assert all(len(i) == 24 and int(i[:8], 16) == int(clock.now) for i in ids)

    def test_each_ended_callback_is_handed_out_once(self) -> None:
        """Or a callback would be posted again and again."""
        clock = Clock()
        book = book_with(clock)
        book.order(ARGS, callback_url="http://127.0.0.1:1/", ending=Ending())
        assert book.ended_with_callback() == []
        clock.now += 3
        assert [len(book.ended_with_callback()) for _ in range(2)] == [1, 0]


class TestShapes:
    """What the answers look like."""

    def test_create_has_the_shape_of_the_official_sample(self, caller: Caller) -> None:
        """Envelope, amount as a string, 24 hex digits: nothing more."""
        answer = caller.create().json()
        job_id = answer["data"]["job_id"]
        assert {"code": 0, "data": {"amount": "0.02", "job_id": job_id}} == answer
        assert 24 == len(job_id) == len(bytes.fromhex(job_id)) * 2

    def test_query_has_the_fields_of_recorded_output(self, caller: Caller) -> None:
        """The record holds `id`, not `job_id`, and no `error` when all is well."""
        sent = {**ARGS, "num_images": 4, "performance": "schnell", "not_documented": 1}
        record = caller.record(caller.made(**sent))
        assert list(record) == [
            "id",
            "key_name",
            "model",
            "args",
            "result",
            "status",
            "credit",
            "refunded",
            "refunded_credit",
            "created_at",
            "updated_at",
            "finished_at",
        ]
        assert (
            record["status"],
            record["credit"],
            record["refunded"],
            record["refunded_credit"],
        ) == (2, "0.002", False, "0")
        assert sent == record["args"]
        assert record["finished_at"].endswith("Z")
        urls = [image.pop("url") for image in record["result"]["images"]]
        assert record["result"]["images"] == [{}] * 4
        start = f"{caller.sandbox.base_url}/tmp/20"
        assert all(url.startswith(start) and url.endswith(".png") for url in urls)
        assert {20} == {len(url.rsplit("/", 1)[1]) - len(".png") for url in urls}

    def test_a_running_job_has_status_1_and_no_result(self) -> None:
        """Most of the answers that a client reads are of this kind."""
        with Sandbox(job_seconds=lambda mode: {"dev": 60.0, "schnell": 0.0}[mode]) as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                running, ended = caller.made(), caller.made(performance="schnell")
                assert tuple(caller.record(running)[k] for k in ("status", "result")) == (1, None)
                assert caller.record(ended)["status"] == 2
                sandbox.finish(running)
                assert caller.record(running)["status"] == 2

    def test_a_wrong_key_is_refused_and_not_repeated(self, caller: Caller) -> None:
        """A key that shows up in an error text ends up in somebody's log."""
        caller.headers = {"Authorization": "Bearer ak-wrong"}
        for answer in (caller.create(), caller.query("0" * 24)):
            assert (answer.status_code, answer.json()["code"]) == (401, 401)
            assert "ak-wrong" not in answer.text
        caller.headers = {}
        assert caller.create().status_code == 401
        assert caller.sandbox.jobs == ()
        assert {False} == {call.authorized for call in caller.sandbox.calls}

    @pytest.mark.parametrize(
        ("args", "named"),
        [
            ({"prompt": ""}, "prompt"),
            ({"prompt": None}, "prompt"),
            ({"aspect_ratio": "5:4"}, "aspect_ratio"),
            ({"aspect_ratio": ["1:1"]}, "aspect_ratio"),
            ({"num_images": "1"}, "num_images"),
            ({"num_images": True}, "num_images"),
            ({"num_images": 3}, "num_images"),
            ({"num_images": None}, "num_images"),
            ({"performance": "Dev"}, "performance"),
        ],
    )
    def test_wrong_arguments_are_refused_by_name(
        self, caller: Caller, args: dict[str, Any], named: str
    ) -> None:
        """The service checks; a sandbox that does not would hide a client's mistakes."""
        answer = caller.create(**args)
        assert (answer.status_code, answer.json()["code"]) == (200, 1)
        assert answer.json()["info"].startswith(f"{named}:")
        assert caller.sandbox.charges == ()

    def test_wrong_bodies_are_refused(self, caller: Caller) -> None:
        """Nothing that arrives may break the server."""
        assert "invalid model" in caller.create({"model": "x", "args": ARGS}).json()["info"]
        assert caller.create({"model": MODEL_ID}).json()["info"].startswith("args:")
        prompt_only = {"model": MODEL_ID, "args": {"prompt": "x"}}
        assert "aspect_ratio" in caller.create(prompt_only).json()["info"]
        no_url = {"model": MODEL_ID, "args": ARGS, "callback_url": 1}
        assert "callback_url" in caller.create(no_url).json()["info"]
        assert caller.create([]).status_code == 400
        assert caller.query("unknown").json()["code"] == 1
        for path, status in (("/nowhere", 404), (CREATE, 405), ("/tmp/1/2/3.png", 404)):
            answer = caller.session.get(caller.sandbox.base_url + path, timeout=PATIENCE)
            assert (status, status) == (answer.status_code, answer.json()["code"])

    def test_too_little_balance_is_said_with_http_200(self) -> None:
        """Client authors report no job id then; the text must let a client tell why."""
        with Sandbox(balance="0.01") as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                answer = caller.create()
        assert answer.status_code == 200
        assert answer.json()["code"] != 0
        assert "balance" in answer.json()["info"]


CREATE_FAULTS: list[tuple[Fault, int | None, int]] = [
    (Fault("create", "drop_before"), None, 0),
    (Fault("create", "drop_after"), None, 1),
    (Fault("create", "rate_limited"), 429, 0),
    (Fault("create", "error"), 503, 1),
    (Fault("create", "error", status=500, accepted=False), 500, 0),
    (Fault("create", "html"), 200, 1),
    (Fault("create", "html", status=502, accepted=False), 502, 0),
    (Fault("create", "truncated"), 200, 1),
    (Fault("create", "truncated", accepted=False), 200, 0),
    (Fault("create", "empty", accepted=False), 200, 0),
    (Fault("create", "empty"), 200, 1),
    (Fault("create", "slow", seconds=0.05), 200, 1),
    (Fault("create", "hold", seconds=0.05), 200, 1),
    (Fault("create", "stall"), None, 1),
    (Fault("create", "stall", accepted=False), None, 0),
    (Fault("create", "code_3000"), 200, 0),
    (Fault("create", "refuse", code=7, info="no"), 200, 0),
    (Fault("create", "redirect"), 307, 0),
    (Fault("create", "no_id"), 200, 1),
    (Fault("create", "no_id", accepted=False), 200, 0),
]


class TestFaults:
    """Every fault, as a client sees it and as the book knows it."""

    @pytest.mark.parametrize(("fault", "status", "jobs"), CREATE_FAULTS)
    def test_create_faults_charge_what_they_say(
        self, caller: Caller, fault: Fault, status: int | None, jobs: int
    ) -> None:
        """Whether a lost answer was paid for is the whole question of a safe create."""
        caller.sandbox.inject(fault)
        if fault.kind == "stall":
            unanswered(caller, caller.create)
        elif status is None:
            with pytest.raises(requests.RequestException):
                caller.create()
        else:
            assert status == caller.create().status_code
        assert (jobs, jobs) == (len(caller.sandbox.jobs), len(caller.sandbox.charges))
        assert caller.create().json()["code"] == 0

    @pytest.mark.parametrize("on", ["create", "query"])
    def test_spoiled_bodies(self, caller: Caller, on: str) -> None:
        """The bodies are what a proxy or a broken service would send."""
        job_id = caller.made()

        def spoiled(kind: str, **options: Any) -> requests.Response:
            caller.sandbox.inject(Fault(on, kind, **options))  # type: ignore[arg-type]
            return caller.create() if on == "create" else caller.query(job_id)

        html = spoiled("html", status=502)
        assert html.headers["Content-Type"].startswith("text/html")
        assert "502 Bad Gateway" in html.text
        cut = spoiled("truncated")
        assert int(cut.headers["Content-Length"]) == len(cut.content) > 0
        with pytest.raises(json.JSONDecodeError):
            json.loads(cut.content)
        assert spoiled("empty").content == b""
        assert spoiled("code_3000", info="why").json() == {"code": 3000, "info": "why"}
        assert spoiled("refuse", code=7, info="no").json() == {"code": 7, "info": "no"}
        assert spoiled("error").json() == {"code": 1, "info": "internal error"}
        assert spoiled("rate_limited", retry_after="17").headers["Retry-After"] == "17"
        assert "Retry-After" not in spoiled("rate_limited").headers
        assert spoiled("slow", seconds=0.03).json()["code"] == 0

    @pytest.mark.parametrize("kind", ["drop_before", "drop_after", "stall"])
    def test_lost_queries(self, caller: Caller, kind: str) -> None:
        """Free, and therefore to be repeated."""
        job_id = caller.made()
        caller.sandbox.inject(Fault("query", kind))
        if kind == "stall":
            unanswered(caller, lambda: caller.query(job_id))
        else:
            with pytest.raises(requests.RequestException):
                caller.query(job_id)
        read = 0 if kind == "drop_before" else 1
        assert read == caller.sandbox.jobs[0].queries

    def test_a_held_create_is_accepted_at_once(self, caller: Caller) -> None:
        """Its job is running while the client waits."""
        caller.sandbox.inject(Fault("create", "hold", seconds=LONG))
        unanswered(caller, caller.create)
        assert len(caller.sandbox.jobs) == 1

    @pytest.mark.parametrize("kind", ["hold", "slow"])
    def test_held_and_slow_answers_take_their_time(self, caller: Caller, kind: str) -> None:
        """As long as the fault says, and then they are whole."""
        caller.sandbox.inject(Fault("create", kind, seconds=0.1))
        began = time.monotonic()
        assert caller.create().json()["code"] == 0
        assert time.monotonic() - began >= 0.1

    def test_a_redirect_leads_to_a_path_that_counts(self, caller: Caller) -> None:
        """A client that follows it would be seen there, with or without its key."""
        caller.sandbox.inject(Fault("query", "redirect"))
        answer = caller.query("0" * 24)
        assert answer.status_code == 307
        target = caller.sandbox.base_url + answer.headers["Location"]
        assert caller.session.get(target, timeout=PATIENCE).status_code == 404
        assert [call.on for call in caller.sandbox.calls] == ["query", "other"]

    def test_endings(self, caller: Caller) -> None:
        """How a job ends is decided when it is created."""
        caller.sandbox.inject(
            Fault("create", "job_fails", info="unsafe prompt"),
            Fault("create", "job_fails_unrefunded", info=""),
            Fault("create", "job_never_ends"),
            Fault("create", "no_images"),
            Fault("create", "fewer_images", count=3),
            Fault("create", "no_id"),
        )
        failed, unrefunded, endless = (caller.record(caller.made()) for _ in range(3))
        bare, fewer = (caller.record(caller.made(num_images=4)) for _ in range(2))
        keys = ("status", "error", "refunded", "refunded_credit", "result")
        assert tuple(failed[k] for k in keys) == (3, "unsafe prompt", True, "0.02", None)
        assert tuple(unrefunded[k] for k in keys) == (3, "", False, "0", None)
        assert endless["status"] == 1
        assert [len(record["result"]["images"]) for record in (bare, fewer)] == [0, 3]
        assert caller.create().json() == {"code": 0, "data": {"amount": "0.02"}}
        assert len(caller.sandbox.jobs) == 6
        assert len(caller.sandbox.charges) == 5

    def test_status_word_is_for_that_query_only(self, caller: Caller) -> None:
        """Pages disagree on words or integers; a client meets both."""
        job_id = caller.made()
        caller.sandbox.inject(Fault("query", "status_word", word="COMPLETED"))
        assert [caller.record(job_id)["status"] for _ in range(2)] == ["COMPLETED", 2]

    def test_faults_queue_in_order_and_repeat(self) -> None:
        """Scripts of faults read as they run; `none` is a healthy call between two."""
        script = [
            Fault("create", "error", times=2),
            Fault("create", "none"),
            Fault("create", "rate_limited"),
        ]
        with Sandbox(job_seconds=0, faults=script) as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                assert [caller.create().status_code for _ in range(5)] == [503, 503, 200, 429, 200]

    def test_impossible_faults_are_refused(self) -> None:
        """A typo in a script must not look like a client that copes."""
        with pytest.raises(ValueError, match="hold"):
            Fault("create", "holds")
        for on, kind in (("query", "job_fails"), ("image", "code_3000"), ("create", "endless")):
            with pytest.raises(ValueError, match=f"on {on} it is one of none"):
                Fault(on, kind)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="create, query, image"):
            Fault("delete", "error")  # type: ignore[arg-type]
        for wrong in ({"times": 0}, {"seconds": -1}, {"status": 100}):
            with pytest.raises(ValueError, match=next(iter(wrong))):
                Fault("create", "error", **wrong)  # type: ignore[arg-type]

    def test_every_kind_is_described(self) -> None:
        """The class docstring is the manual of the sandbox."""
        described = Fault.__doc__ or ""
        assert [k for kinds in KINDS.values() for k in kinds if f"`{k}`" not in described] == []


class TestImages:
    """The files behind the result URLs."""

    @pytest.mark.thorough
    @pytest.mark.parametrize("ratio", list(SIZES))
    def test_every_ratio_is_a_real_png_of_its_size(self, ratio: str) -> None:
        """About one megapixel, small enough for a notebook, and it says what it is."""
        file = draw_png(Picture("a red fox in the snow", ratio, "dev"))
        with Image.open(io.BytesIO(file)) as image:
            image.load()
            assert ("PNG", SIZES[ratio]) == (image.format, image.size)
            assert "not made by Flux" in image.info["Comment"]
            colours = image.getcolors(maxcolors=1 << 24) or []
        assert len(colours) > 1000
        assert len(file) < 1_500_000
        wide, high = (int(part) for part in ratio.split(":"))
        assert wide / high == pytest.approx(SIZES[ratio][0] / SIZES[ratio][1], rel=0.01)

    def test_the_same_picture_is_drawn_again(self) -> None:
        """Tests and notebooks compare files; so the dice hang on the prompt alone."""
        picture = Picture("tea house in fog", "3:2", "dev", 1, 4)
        first = draw_png(picture)
        draw_png.cache_clear()
        others = {
            draw_png(Picture("tea house in the fog", "3:2", "dev", 1, 4)),
            draw_png(Picture("tea house in fog", "3:2", "dev", 2, 4)),
        }
        assert first == draw_png(picture)
        assert len(others - {first}) == 2

    @pytest.mark.thorough
    @pytest.mark.parametrize(
        "prompt",
        [
            "\u65e5\u672c\u306e\u5ead\u5712",
            "caf\u00e9 \U0001f98a \u0645\u0631\u062d\u0628\u0627",
            "line\n\n\n\tline\x00",
            "\ud800 half a pair",
            "word " * 500,
            "x" * 3000,
            "\n",
        ],
        ids=["script", "mixed", "lines", "surrogate", "words", "one_word", "blank"],
    )
    def test_any_prompt_can_be_drawn(self, prompt: str) -> None:
        """Whatever JSON can carry, a user will send."""
        assert draw_png(Picture(prompt, "9:16", "schnell")).startswith(b"\x89PNG")

    def test_images_are_served_without_the_key(self, caller: Caller) -> None:
        """As the service does; the log shows whether a client sent its key all the same."""
        job_id = caller.made(num_images=2)
        one, other = (caller.image(job_id, index) for index in range(2))
        assert (one.headers["Content-Type"], one.status_code) == ("image/png", 200)
        assert one.content != other.content
        call = caller.sandbox.calls[-1]
        assert (call.on, call.authorized) == ("image", False)
        assert "Authorization" not in call.header_names
        url = caller.record(job_id)["result"]["images"][0]["url"]
        another = f"{url[:-5]}{'1' if url[-5] == '0' else '0'}.png"
        assert caller.session.get(another, timeout=PATIENCE).status_code == 404

    def test_image_faults(self, caller: Caller) -> None:
        """A download is checked by its bytes, because none of these fails by status alone."""
        job_id = caller.made()
        elsewhere = "http://127.0.0.1:9/elsewhere.png"

        def spoiled(kind: str, **options: Any) -> requests.Response:
            caller.sandbox.inject(Fault("image", kind, **options))
            return caller.image(job_id)

        assert "<html>" in spoiled("html").text
        assert spoiled("error", status=403).status_code == 403
        empty = spoiled("empty")
        assert (empty.content, empty.headers["Content-Type"]) == (b"", "image/png")
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            spoiled("truncated")
        assert spoiled("slow", seconds=0.05).content.startswith(b"\x89PNG")
        moved = spoiled("redirect", info=elsewhere, status=302)
        assert (302, elsewhere) == (moved.status_code, moved.headers["Location"])
        wrong = spoiled("wrong_type")
        assert wrong.headers["Content-Type"] == "image/png"
        assert "code" in wrong.json()
        with pytest.raises(requests.ConnectionError):
            spoiled("drop_before")
        caller.sandbox.inject(Fault("image", "endless"))
        with caller.image(job_id, stream=True) as endless:
            received = 0
            for chunk in endless.iter_content(1 << 20):
                received += len(chunk)
                if received > ENOUGH:
                    break
            assert received > ENOUGH
        assert caller.image(job_id).content.startswith(b"\x89PNG")


class Listener:
    """An HTTP server that keeps what is posted to it."""

    def __init__(self) -> None:
        """Listen on a free port."""
        self.posts: Queue[tuple[str, bytes]] = Queue()
        posts = self.posts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                posts.put((self.path, self.rfile.read(length)))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        """Start."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class TestCallback:
    """The POST when a job ends."""

    def test_the_bare_record_is_posted_when_the_job_ends(self) -> None:
        """No envelope, and `id` in place of `job_id`: as one author's log shows it."""
        with Listener() as listener, Sandbox(job_seconds=0.02) as sandbox:
            caller = Caller(sandbox)
            url = f"http://127.0.0.1:{listener.server.server_port}/done?x=1"
            with caller.session:
                sandbox.inject(Fault("create", "none"), Fault("create", "job_never_ends"))
                body = {"model": MODEL_ID, "args": ARGS, "callback_url": url}
                job_id = caller.create(body).json()["data"]["job_id"]
                path, posted = listener.posts.get(timeout=PATIENCE)
                assert path == "/done?x=1"
                assert caller.record(job_id) == json.loads(posted)
                assert url == sandbox.jobs[0].callback_url
                endless = caller.create(body).json()["data"]["job_id"]
                sandbox.finish()
                _, posted = listener.posts.get(timeout=PATIENCE)
                assert (endless, 2) == tuple(json.loads(posted)[k] for k in ("id", "status"))
            assert listener.posts.empty()

    def test_other_machines_get_no_callbacks(
        self, caller: Caller, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The page's placeholder, a dead port, a stranger: none of them breaks a job."""
        with caplog.at_level(logging.WARNING):
            for url in ("CALLBACK_URL", "http://192.0.2.1/x", "http://[", "http://127.0.0.1:9/"):
                body = {"model": MODEL_ID, "args": ARGS, "callback_url": url}
                assert caller.create(body).json()["code"] == 0
            deadline = time.monotonic() + PATIENCE
            while len(caplog.messages) < 4 and time.monotonic() < deadline:
                time.sleep(GAP)
        assert len(caplog.messages) == 4
        assert any("192.0.2.1 is not this machine" in text for text in caplog.messages)


class TestLife:
    """Starting, stopping, and what is left behind."""

    def test_stop_leaves_nothing_behind(self) -> None:
        """A test suite starts hundreds of sandboxes."""
        before = set(threading.enumerate())
        sandbox = Sandbox(job_seconds=0)
        sandbox.start()
        caller = Caller(sandbox)
        sandbox.inject(Fault("query", "stall"), Fault("query", "slow", seconds=LONG))
        with caller.session, requests.Session() as other:
            job_id = caller.made()
            caller.session.get(f"{sandbox.base_url}/", timeout=PATIENCE)
            answers: list[Exception | None] = []

            def wait() -> None:
                try:
                    other.get(
                        sandbox.base_url + QUERY,
                        params={"id": job_id},
                        headers=caller.headers,
                        timeout=PATIENCE,
                    )
                except requests.RequestException as error:
                    answers.append(error)

            waiting = threading.Thread(target=wait)
            waiting.start()
            deadline = time.monotonic() + PATIENCE
            while sandbox.open_connections < 2 and time.monotonic() < deadline:
                time.sleep(GAP)
            began = time.monotonic()
            sandbox.stop()
            sandbox.stop()
            waiting.join()
            assert time.monotonic() - began < PATIENCE
            assert len(answers) == 1
        assert (sandbox.open_connections, sandbox.peak_connections) == (0, 2)
        assert set() == set(threading.enumerate()) - before
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(sandbox.base_url.rsplit(":", 1)[1])))

    def test_it_comes_back_after_an_outage(self) -> None:
        """Same port, same jobs: a client that waited through it finds its job again."""
        sandbox = Sandbox(job_seconds=0)
        with sandbox:
            caller = Caller(sandbox)
            with caller.session:
                job_id = caller.made()
        with sandbox, caller.session:
            assert caller.record(job_id)["status"] == 2

    async def test_it_starts_inside_a_running_loop(self) -> None:
        """Notebooks run one."""
        with Sandbox() as sandbox:
            assert sandbox.base_url.startswith("http://127.0.0.1:")

    def test_the_key_is_in_no_log(
        self, caller: Caller, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """Calls are printed in notebooks and in failing tests."""
        key = caller.sandbox.api_key
        with caplog.at_level(logging.DEBUG, logger="langchain_shortapi_flux"):
            caller.create()
            caller.create(prompt=key)
            caller.query(key)
        assert [call.on for call in caller.sandbox.calls] == ["create", "create", "query"]
        assert json.loads(caller.sandbox.calls[0].body)["args"] == ARGS
        assert key not in repr(caller.sandbox.calls)
        assert key not in caplog.text + "".join(capfd.readouterr())

    def test_the_key_is_hidden_as_a_url_spells_it(self) -> None:
        """A key with a space or a slash looks different there."""
        with Sandbox(api_key="k1/k 2") as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                caller.query("k1/k 2")
        assert sandbox.calls[0].path_qs == f"{QUERY}?id=[key]"

    def test_settings_that_make_no_sense_are_refused(self) -> None:
        """At construction, where the mistake is."""
        with pytest.raises(ValueError, match="allow_remote=True"):
            Sandbox(host="0.0.0.0")
        with pytest.raises(ValueError, match="balance"):
            Sandbox(balance="much")
        with pytest.raises(ValueError, match="job_seconds"):
            Sandbox(job_seconds=-1)
        with pytest.raises(ValueError, match="port"):
            Sandbox(port=65536)
        with pytest.raises(ValueError, match="api_key"):
            Sandbox(api_key="")
        with pytest.raises(RuntimeError, match="started"):
            _ = Sandbox().base_url

    def test_a_wildcard_host_serves_the_name_it_was_called_by(self) -> None:
        """Image URLs must work for whoever asked, not only on this machine."""
        everywhere = "0.0.0.0"
        with Sandbox(host=everywhere, allow_remote=True, job_seconds=0) as sandbox:
            caller = Caller(sandbox)
            with caller.session:
                job_id = caller.made()
                caller.headers["Host"] = "sandbox.test:1"
                url = caller.record(job_id)["result"]["images"][0]["url"]
        assert url.startswith("http://sandbox.test:1/tmp/")

    def test_a_port_in_use_is_a_clear_error(self, sandbox: Sandbox) -> None:
        """Not a hang, and not somebody else's server."""
        port = int(sandbox.base_url.rsplit(":", 1)[1])
        with pytest.raises(OSError, match=f"port {port} of 127.0.0.1: it is in use"):
            Sandbox(port=port).start()
        with pytest.raises(RuntimeError, match="running"):
            sandbox.start()

    def test_without_pillow_it_says_what_to_install(self) -> None:
        """Pillow comes with an extra that many will not have."""
        script = (
            "import sys; sys.modules['PIL'] = None\n"
            "from langchain_shortapi_flux.sandbox import Sandbox\n"
            "try:\n    Sandbox().start()\n"
            "except ImportError as error:\n    print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        assert "pip install 'langchain-shortapi-flux[sandbox]'" in done.stdout


class TestCommandLine:
    """`python -m langchain_shortapi_flux.sandbox`."""

    COMMAND = (sys.executable, "-W", "error", "-m", "langchain_shortapi_flux.sandbox")

    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_it_serves_until_told_to_end(self, name: str) -> None:
        """It prints all that a client needs, and ends without a traceback."""
        with subprocess.Popen(
            [*self.COMMAND, "--port", "0", "--job-seconds", "0", "--api-key", "k1 k2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process:
            assert process.stdout is not None
            exports: dict[str, str] = {}
            for line in process.stdout:
                if f"open {exports.get('SHORTAPI_BASE_URL')}/ in a browser" in line:
                    exports["page"] = "said"
                if line.startswith("  export "):
                    variable, value = line.split()[1].split("=", 1)
                    exports[variable] = value
                if "Ctrl-C" in line:
                    break
            body = {"model": MODEL_ID, "args": ARGS}
            answer = requests.post(
                exports["SHORTAPI_BASE_URL"] + CREATE,
                json=body,
                headers={"Authorization": "Bearer k1 k2"},
                timeout=PATIENCE,
            )
            assert answer.json()["code"] == 0
            assert {"SHORTAPI_KEY", "page"} < set(exports)
            process.send_signal(getattr(signal, name))
            rest, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (0, "")
        assert "after 1 job" in rest

    def test_a_port_in_use_ends_with_one_line(self, sandbox: Sandbox) -> None:
        """The commonest failure of a first try."""
        port = sandbox.base_url.rsplit(":", 1)[1]
        done = subprocess.run(
            [*self.COMMAND, "--port", port], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert f"port {port}" in done.stderr
