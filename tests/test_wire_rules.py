"""What a robust client of this service tolerates: twenty rules, one test each, in order.

They were drawn from the official page, from recorded output and from other authors' clients; where
a rule has I/O in it, it is tried through both drivers.
"""

from __future__ import annotations

import json
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from both_drivers import DRIVERS, Caller
from leaping_time import leap_at_each, leap_at_each_query
from pydantic import ValidationError
from quick_flux import flux_on
from reply_server import KEY, ReplyServer
from screenplay import MODEL, REQUEST, buy
from transcripts import (
    BROKE_OFF,
    CREATED,
    CUT,
    FULL_SUCCESS,
    JOB_ID,
    RUNNING,
    SUCCEEDED,
    TOO_MANY,
    UNSTABLE,
    page,
    picture,
    pictures,
    raw,
    record,
    said,
)
from whole_pictures import WHOLE, png

from langchain_shortapi_flux import (
    AuthenticationFailed,
    CreateOutcomeUnknown,
    DownloadFailed,
    FluxImage,
    FluxJob,
    FluxRequest,
    InsufficientBalance,
    InvalidRequest,
    JobFailed,
    JobTimeout,
    PollPolicy,
    RateLimited,
    RetryLimits,
    ShortAPIError,
    ShortAPIFlux,
    UnexpectedReply,
)
from langchain_shortapi_flux.account import key_from_environment, read_base_url, read_key
from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.wire import create_request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from langchain_shortapi_flux.http_acts import HttpReply, Lost

AT_ONCE = PollPolicy(first_delay=0.0, gap_min=0.001, gap_max=0.002, jitter=0.0)
AT_ONCE_AGAIN = RetryLimits(
    backoff_first=0.001, backoff_max=0.002, retry_after_max=0.002, jitter=0.0
)
PNG = png()


def call(driver: str, server: ReplyServer, **fields: Any) -> Caller:
    """A Runnable on the reply server that does not dawdle."""
    quick = {"poll": AT_ONCE, "retry": AT_ONCE_AGAIN, "timeout": 10.0, "api_key": KEY}
    return Caller(driver, ShortAPIFlux(**{"base_url": server.base_url, **quick, **fields}))


def bought(driver: str, *answers: HttpReply | Lost, **fields: Any) -> FluxJob:
    """The job that these replies make."""
    with ReplyServer(*answers) as server:
        return call(driver, server, **fields).invoke("a fox")


def refused(driver: str, *answers: HttpReply | Lost, **fields: Any) -> ShortAPIError:
    """The error that these replies make."""
    with ReplyServer(*answers) as server, pytest.raises(ShortAPIError) as caught:
        call(driver, server, **fields).invoke("a fox")
    return caught.value


def given_up(
    monkeypatch: pytest.MonkeyPatch, driver: str, *answers: HttpReply | Lost
) -> ShortAPIError:
    """The error that these replies make where the deadline is over with the first query."""
    with ReplyServer(*answers) as server, monkeypatch.context() as patch:
        leap_at_each(patch, lambda: [asked.method for asked in server.asked].count("GET"))
        with pytest.raises(ShortAPIError) as caught:
            call(driver, server).invoke("a fox")
    return caught.value


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_01_the_job_id_in_four_places(driver: str) -> None:
    """The page's own samples look for it where its sample response does not have it."""
    for payload in (
        {"code": 0, "data": {"job_id": JOB_ID, "amount": "0.02"}},
        {"code": 0, "data": {"id": JOB_ID}},
        {"job_id": JOB_ID},
        {"id": JOB_ID},
    ):
        assert bought(driver, said(payload), SUCCEEDED).job_id == JOB_ID
    error = refused(driver, said({"code": 0, "info": "come back on Monday"}))
    assert "come back on Monday" in str(error)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_02_the_record_enveloped_or_bare_with_few_fields_or_more(driver: str) -> None:
    """Recorded output has many fields, the official sample two, and a new one may come any day."""
    few = {"status": 2, "result": pictures(1)}
    more = {"id": JOB_ID, "colour": "red", "nested": {"a": [1]}, **few}
    for payload in ({"code": 0, "data": few}, {"code": 0, "data": more}, few, more):
        job = bought(driver, CREATED, said(payload))
        assert (job.status, len(job.images), job.cost) == ("succeeded", 1, Decimal("0.02"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_03_the_code_decides_even_under_http_200(driver: str) -> None:
    """Application errors come as HTTP 200 with a code; missing, it means success if data do."""
    for code in ({}, {"code": 0}, {"code": "0"}, {"code": None}):
        created = said({**code, "data": {"job_id": JOB_ID}})
        queried = said({**code, "data": {"status": 2, "result": pictures(1)}})
        assert bought(driver, created, queried).status == "succeeded"
    for bad in (1, "1", 500, -7):
        assert isinstance(refused(driver, said({"code": bad, "info": "no"})), InvalidRequest)
        assert isinstance(refused(driver, CREATED, said({"code": bad})), UnexpectedReply)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_04_the_text_of_an_error(driver: str) -> None:
    """From wherever the service puts it, of a sane length, and without the key."""
    for payload in (
        {"info": "bad ratio"},
        {"message": "bad ratio"},
        {"msg": "bad ratio"},
        {"error": "bad ratio"},
        {"error": {"message": "bad ratio"}},
        {"data": {"info": "bad ratio"}},
        {"data": "bad ratio"},
    ):
        assert "bad ratio" in str(refused(driver, said({"code": 1, **payload})))
    long = str(refused(driver, said({"code": 1, "info": f"{KEY} {'x' * 100_000}"})))
    assert len(long) < 500
    assert KEY not in long
    assert "[key]" in long


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_05_http_errors_with_any_body(driver: str) -> None:
    """JSON, a web page or nothing: the status is read by convention, none was observed."""
    for body in (b'{"info": "x"}', b"<html><h1>No</h1></html>", b""):
        for status, error in (
            (401, AuthenticationFailed),
            (403, AuthenticationFailed),
            (402, InsufficientBalance),
            (429, RateLimited),
            (500, CreateOutcomeUnknown),
        ):
            found = refused(driver, raw(body, status))
            assert type(found) is error
            assert found.status_code in (status, None)
    broke = said({"code": 1, "info": "your balance is too low"})
    assert isinstance(refused(driver, broke), InsufficientBalance)
    for seconds in ("0", "1", "Fri, 27 Feb 2026 16:08:30 GMT"):
        busy = said({}, 429, Retry_After=seconds)
        assert bought(driver, busy, CREATED, SUCCEEDED).status == "succeeded"


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_06_the_status_in_all_its_spellings(
    driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page has numbers, the service's own agent skills have words."""
    pending = (0, "1", "Queued", "PROCESSING", None, "brooding")
    waits = [said(record(status=status)) for status in pending]
    for done in (2, 2.0, "2", "succeeded", "Completed", "SUCCESS"):
        job = bought(driver, CREATED, *waits, said(record(status=done, result=pictures(1))))
        assert (job.status, job.queries) == ("succeeded", len(waits) + 1)
    for lost in (3, 4, 3.0, "3", "failed", "ERROR", "Cancelled"):
        error = refused(driver, CREATED, said(record(status=lost)))
        assert type(error) is JobFailed
        assert error.charge == "unknown"
    error = given_up(monkeypatch, driver, CREATED, said(record(status="brooding")))
    assert type(error) is JobTimeout
    assert "'brooding'" in str(error)


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_07_status_first_refund_second(driver: str) -> None:
    """A refunded success keeps its pictures; refunded and still running has failed."""
    back = {"refunded": True, "refunded_credit": "0.02"}
    job = bought(driver, CREATED, said(record(status=2, result=pictures(1), **back)))
    assert (job.status, job.charge, len(job.images)) == ("succeeded", "refunded", 1)
    assert "refunded" in (job.error or "")
    error = refused(driver, CREATED, said(record(status=1, **back)))
    assert (type(error), error.charge) == (JobFailed, "refunded")


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_08_a_failed_job_says_what_is_known(driver: str) -> None:
    """Whatever ``error`` is, the exception names the job, that it failed, and the refund."""
    back = {"status": 3, "refunded": True, "refunded_credit": "0.02"}
    for fields in ({}, {"error": None}, {"error": ""}, {"error": "nsfw"}, {"error": {"msg": "x"}}):
        text = str(refused(driver, CREATED, said(record(**back, **fields))))
        assert JOB_ID in text
        assert "failed" in text
        assert "refunded, 0.02 USD" in text


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_09_success_with_no_or_fewer_pictures(driver: str) -> None:
    """None is an error that says so; fewer than asked is what there is."""
    nothing: tuple[object, ...] = (None, {}, {"images": []}, {"images": None})
    for result in nothing:
        error = refused(driver, CREATED, said(record(status=2, result=result)))
        assert type(error) is UnexpectedReply
        assert "no picture" in str(error)
    assert len(bought(driver, CREATED, SUCCEEDED, num_images=4).images) == 1


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_10_the_forms_of_a_picture(driver: str) -> None:
    """Objects or plain strings, https only, a picture inside the reply; in the service's order."""
    images = [
        {**picture(3), "width": 1024},
        "https://file.shortapi.ai/tmp/plain.png",
        "http://file.shortapi.ai/tmp/in-clear.png",
        "data:image/png;base64,iVBORw0KGgo=",
        picture(1),
    ]
    job = bought(driver, CREATED, said(record(status=2, result={"images": images})))
    assert [image.url.rpartition("/")[2] for image in job.images] == [
        "picture-3.png",
        "plain.png",
        "png (8 bytes, inside the reply)",
        "picture-1.png",
    ]
    assert job.images[2].inline == PNG[:8]


class _FileHost(BaseHTTPRequestHandler):
    """A file host on this machine that sends whoever asks elsewhere, or a picture."""

    def do_GET(self) -> None:
        self.server.seen.append(dict(self.headers))  # type: ignore[attr-defined]
        away = {"/to-clear": "http://file.example/x.png", "/to-picture": "/x.png"}.get(self.path)
        self.send_response(302 if away else 200)
        if away:
            self.send_header("Location", away)
        body = b"" if away else PNG
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def file_host() -> Iterator[HTTPServer]:
    """A file host; its ``seen`` holds the headers of each request."""
    server = HTTPServer(("127.0.0.1", 0), _FileHost)
    server.seen = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_rule_11_downloads_are_asked_for_and_never_carry_the_key(
    sandbox: Sandbox, file_host: HTTPServer, tmp_path: Path
) -> None:
    """Bare GETs, of limited size and time, along allowed redirects only; URLs are temporary."""
    job = flux_on(sandbox).invoke("a fox")
    assert "image" not in {call.on for call in sandbox.calls}
    job.save(tmp_path)
    (download,) = [call for call in sandbox.calls if call.on == "image"]
    assert not download.authorized
    assert "authorization" not in {name.lower() for name in download.header_names}

    home = f"http://127.0.0.1:{file_host.server_port}"
    followed, astray = (
        job.model_copy(update={"job_id": name, "images": (FluxImage(url=f"{home}/{name}"),)})
        for name in ("to-picture", "to-clear")
    )
    assert followed.save(tmp_path)[0].read_bytes() == PNG
    with pytest.raises(DownloadFailed, match="only https"):
        astray.save(tmp_path)
    seen: list[dict[str, str]] = file_host.seen  # type: ignore[attr-defined]
    assert len(seen) == 3
    assert not any(name.lower() == "authorization" for headers in seen for name in headers)

    for kind in ("endless", "stall"):
        sandbox.inject(Fault("image", kind))
        named = job.model_copy(update={"job_id": kind})
        with pytest.raises(DownloadFailed, match=r"larger than|within 0\.2 s") as caught:
            named.save(tmp_path, timeout=5.0 if kind == "endless" else 0.2, max_bytes=2**20)
        assert caught.value.job_id == kind
    assert "emporary" in (FluxImage.__doc__ or "")


def test_rule_12_the_type_of_a_file_is_in_its_first_bytes(sandbox: Sandbox, tmp_path: Path) -> None:
    """Neither the name ``.png`` nor the declared type is to be trusted."""
    job = flux_on(sandbox).invoke("a fox")
    for kind, what in (("wrong_type", "JSON"), ("html", "a web page"), ("empty", "nothing")):
        sandbox.inject(Fault("image", kind))
        with pytest.raises(DownloadFailed, match=f"but {what}"):
            job.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
    jpeg = FluxImage.from_bytes(WHOLE["jpeg"][1], "image/png")
    (path,) = job.model_copy(update={"images": (jpeg,)}).save(tmp_path)
    assert path.suffix == ".jpg"


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_13_waiting_is_bounded_and_trouble_is_waited_out(driver: str) -> None:
    """A total of 300 s; free queries are repeated after whatever may pass."""
    assert ShortAPIFlux(api_key=KEY).timeout == 300.0
    assert PollPolicy().gap_min >= 0.29
    with ReplyServer(CREATED) as server:
        assert call(driver, server).flux.max_connections == 64
    trouble = (BROKE_OFF, page(503), TOO_MANY, UNSTABLE, CUT, raw(b"<html>"), raw(b""))
    job = bought(driver, CREATED, *trouble, SUCCEEDED)
    assert (job.status, job.queries) == ("succeeded", len(trouble) + 1)
    # A 429 slows the next query down: to the default backoff at least.
    assert buy((CREATED, RUNNING, TOO_MANY, SUCCEEDED)).waits[-1] >= 1.0


@pytest.mark.usefixtures("quick_turns")
@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_14_create_is_never_repeated_after_a_lost_answer(driver: str) -> None:
    """There is no idempotency key: only an explicit "no job was made" allows another attempt."""
    for lost in (BROKE_OFF, page(502), raw(b""), said({}, 500), said({}, 408)):
        with ReplyServer(lost) as server:
            with pytest.raises(CreateOutcomeUnknown):
                call(driver, server).invoke("a fox")
            assert len(server.asked) == 1
    for no in (UNSTABLE, TOO_MANY):
        with ReplyServer(no) as server:
            with pytest.raises(ShortAPIError) as caught:
                call(driver, server).invoke("a fox")
            assert len(server.asked) == 4
            assert caught.value.charge == "none"


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_15_a_timeout_holds_the_id_with_which_the_job_is_fetched_later(
    driver: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job may still finish, and it is paid for."""
    sandbox.inject(Fault("create", "job_never_ends"))
    caller = Caller(driver, flux_on(sandbox))
    leap_at_each_query(monkeypatch, sandbox)
    with pytest.raises(JobTimeout) as caught:
        caller.invoke("a fox")
    job_id = caught.value.job_id
    assert job_id is not None
    assert f"follow({job_id!r})" in str(caught.value)
    sandbox.finish()
    assert caller.follow(job_id).status == "succeeded"
    assert len(sandbox.charges) == 1


def test_rule_16_what_is_sent_is_what_the_page_lists() -> None:
    """A number as a number, the ratio always, the mode in its spelling, nothing unset."""
    for count in (1, "2", 4.0, "8"):
        request = FluxRequest(prompt="x", num_images=count, aspect_ratio="1:1", performance="dev")
        body = json.loads(create_request(request, MODEL, None).body or b"")
        assert type(body["args"]["num_images"]) is int
    for wrong in ({"num_images": 3}, {"num_images": True}, {"performance": "Dev"}, {"seed": 1}):
        with pytest.raises(ValidationError):
            FluxRequest.model_validate({"prompt": "x", **wrong})
    body = json.loads(create_request(REQUEST, MODEL, None).body or b"")
    assert set(body) == {"model", "args"}
    flux = ShortAPIFlux(api_key=KEY)
    bare = FluxRequest(prompt="x").filled_from(flux)
    assert (bare.aspect_ratio, bare.num_images, bare.performance) == ("1:1", 1, "dev")


def test_rule_17_base_url_and_key_as_people_paste_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """With or without a slash or a version; the page's variable first, the common alias second."""
    for end in ("", "/", "/v1", "/v1/", "/api/v1", "/api/v1/"):
        assert read_base_url(f" https://API.shortapi.ai{end} ") == "https://api.shortapi.ai"
    for pasted in ("ak-1", " ak-1\n", "Bearer ak-1", "bearer  ak-1 "):
        key = read_key(pasted)
        assert key is not None
        assert key.get_secret_value() == "ak-1"
    monkeypatch.setenv("SHORTAPI_API_KEY", "alias")
    for value, expected in ((None, "alias"), ("  ", "alias"), ("Bearer first", "first")):
        if value is not None:
            monkeypatch.setenv("SHORTAPI_KEY", value)
        found = key_from_environment()
        assert found is not None
        assert found.get_secret_value() == expected


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_18_costs_are_reported_and_never_predicted(driver: str) -> None:
    """The record is the authority: the price that was charged has differed from the page."""
    quiet = said({"code": 0, "data": {"job_id": JOB_ID}})
    assert bought(driver, quiet, SUCCEEDED).cost is None
    assert bought(driver, CREATED, SUCCEEDED, num_images=8).cost == Decimal("0.02")
    dearer = said(record(status=2, result=pictures(1), credit="0.0330"))
    cost = bought(driver, CREATED, dearer).cost
    assert (type(cost), str(cost)) == (Decimal, "0.0330")


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_19_a_callback_is_configuration_and_polling_is_the_way(
    driver: str, sandbox: Sandbox
) -> None:
    """Sent as given, left out when unset, and the job is followed by query whatever comes."""
    nobody = "http://127.0.0.1:9/hook?for=me"
    for url in (nobody, None):
        job = Caller(driver, flux_on(sandbox, callback_url=url)).invoke("a fox")
        assert job.status == "succeeded"
        assert job.queries >= 1
    with_url, without = [json.loads(call.body) for call in sandbox.calls if call.on == "create"]
    assert with_url["callback_url"] == nobody
    assert "callback_url" not in without
    with pytest.raises(InvalidRequest, match="'callback_url' is not an argument"):
        Caller(driver, flux_on(sandbox)).invoke({"prompt": "x", "callback_url": nobody})


@pytest.mark.parametrize("driver", DRIVERS)
def test_rule_20_label_and_key_stay_out_of_everything_and_the_prompt_out_of_logs(
    driver: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record echoes both the key's label and the prompt; neither is anyone's news."""
    caplog.set_level("DEBUG", logger="langchain_shortapi_flux")
    fields = {"key_name": "my-label", "args": {"prompt": "a secret fox"}}
    job = bought(driver, CREATED, FULL_SUCCESS)
    told = [repr(job), job.model_dump_json()]
    told += [
        str(refused(driver, CREATED, said(record(**fields, status=3, error="nsfw")))),
        str(refused(driver, CREATED, said(record(**fields, status=2)))),
        str(given_up(monkeypatch, driver, CREATED, said(record(**fields, status="odd")))),
        str(given_up(monkeypatch, driver, CREATED, CUT)),
        str(given_up(monkeypatch, driver, CREATED, said([record(**fields)]))),
        str(refused(driver, CREATED, said({"code": 9, "data": fields}))),
        str(refused(driver, raw(FULL_SUCCESS.body[:150]))),
    ]
    for text in told:
        assert "my-label" not in text
        assert "a secret fox" not in text
        assert KEY not in text
    assert caplog.text == ""
