"""ShortAPI's spelling, as tables: bodies out, replies in."""

from __future__ import annotations

import base64
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from screenplay import MODEL, REQUEST
from transcripts import CREATED, CUT, FULL_SUCCESS, JOB_ID, SUCCEEDED, pictures, raw, record, said

from langchain_shortapi_flux.envelope import JOB_ID_LIMIT, TEXT_LIMIT, Refused
from langchain_shortapi_flux.errors import (
    AuthenticationFailed,
    ConfigurationError,
    InsufficientBalance,
    InvalidRequest,
    NotCreated,
    RateLimited,
    ServiceUnavailable,
)
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES, FluxImage
from langchain_shortapi_flux.job_record import Record
from langchain_shortapi_flux.wire import (
    Accepted,
    Unusable,
    create_request,
    query_request,
    read_create,
    read_query,
)

if TYPE_CHECKING:
    from langchain_shortapi_flux.http_acts import HttpReply
    from langchain_shortapi_flux.job import JobStatus

PNG = b"\x89PNG\r\n\x1a\n..."
PNG_TEXT = base64.b64encode(PNG).decode()


def known(reply: HttpReply, *, loopback: bool = False) -> Record:
    """The record in a reply that must have one."""
    found = read_query(reply, loopback=loopback)
    assert isinstance(found, Record)
    return found


# --- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize("aspect_ratio", ASPECT_RATIOS)
@pytest.mark.parametrize("num_images", IMAGE_COUNTS)
@pytest.mark.parametrize("performance", PERFORMANCES)
def test_create_sends_what_was_asked(aspect_ratio: str, num_images: int, performance: str) -> None:
    """Every option of the official page, in its spelling; the count as a JSON number."""
    changes = {
        "aspect_ratio": aspect_ratio,
        "num_images": num_images,
        "performance": performance,
    }
    act = create_request(REQUEST.model_copy(update=changes), MODEL, None)
    assert (act.method, act.path, act.repeatable) == ("POST", "/job/create", False)
    assert act.body is not None
    assert json.loads(act.body) == {"model": MODEL, "args": {"prompt": "a fox", **changes}}


@pytest.mark.parametrize("prompt", ["狐狸", "a 🦊", 'say "hi"\n', "\x00", "ﬁ"])
def test_a_prompt_goes_out_as_it_is(prompt: str) -> None:
    """Nothing is normalised, trimmed or escaped away: the user wrote it so."""
    act = create_request(REQUEST.model_copy(update={"prompt": prompt}), MODEL, None)
    assert act.body is not None
    assert json.loads(act.body)["args"]["prompt"] == prompt


@pytest.mark.parametrize(
    ("job_id", "path"),
    [
        (JOB_ID, f"/job/query?id={JOB_ID}"),
        ("a/b?c=d&e #%", "/job/query?id=a%2Fb%3Fc%3Dd%26e%20%23%25"),
        ("..", "/job/query?id=.."),
        ("née", "/job/query?id=n%C3%A9e"),
        ("a\r\nHost: evil", "/job/query?id=a%0D%0AHost%3A%20evil"),
    ],
)
def test_an_id_is_opaque_and_encoded(job_id: str, path: str) -> None:
    """Whatever the service calls a job, it must neither change the path nor add a header."""
    assert query_request(job_id).path == path


# --- create replies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "job_id", "cost"),
    [
        ({"code": 0, "data": {"amount": "0.02", "job_id": JOB_ID}}, JOB_ID, "0.02"),
        ({"code": 0, "data": {"id": JOB_ID}}, JOB_ID, None),
        ({"job_id": JOB_ID}, JOB_ID, None),
        ({"id": JOB_ID, "data": None}, JOB_ID, None),
        ({"data": {"job_id": "", "id": "b"}, "job_id": "c"}, "b", None),
        ({"data": {"job_id": 123}}, "123", None),
        ({"data": {"job_id": " a "}}, "a", None),
        ({"code": "0", "data": {"job_id": "a", "amount": 0.02}}, "a", "0.02"),
        ({"code": 0.0, "data": {"job_id": "a", "amount": True}}, "a", None),
        ({"data": {"job_id": "a", "amount": "free"}}, "a", None),
        ({"data": {"job_id": "a", "amount": "-1"}}, "a", None),
        ({"data": {"job_id": "a", "amount": "Infinity"}}, "a", None),
        ({"data": {"job_id": "a", "amount": "1" * 50}}, "a", None),
    ],
)
@pytest.mark.parametrize("status", [200, 201])
def test_an_accepted_create(
    payload: dict[str, Any], job_id: str, cost: str | None, status: int
) -> None:
    """The documented place first, then those of the page's own samples and of other clients."""
    found = read_create(said(payload, status))
    assert found == Accepted(job_id, Decimal(cost) if cost else None)


_NO_ID: list[object] = [True, [], {}, "", "  ", None, 1.5, "\ud800"]


@pytest.mark.parametrize("job_id", _NO_ID)
def test_what_is_no_id(job_id: object) -> None:
    """Following a job called ``True`` would end in a puzzle; better an honest "unknown"."""
    assert isinstance(read_create(said({"code": 0, "data": {"job_id": job_id}})), Unusable)


@pytest.mark.parametrize(
    ("status", "payload", "error"),
    [
        (200, {"code": 1, "info": "refused"}, InvalidRequest),
        (200, {"code": "12", "info": "refused"}, InvalidRequest),
        (200, {"code": "E_BAD"}, InvalidRequest),
        (200, {"code": True}, InvalidRequest),
        (200, {"code": -1}, InvalidRequest),
        (200, {"code": 3000}, ServiceUnavailable),
        (200, {"code": "3000"}, ServiceUnavailable),
        (200, {"code": 3000.0}, ServiceUnavailable),
        (500, {"code": 3000}, ServiceUnavailable),
        (429, {}, RateLimited),
        (429, {"code": 1, "info": "insufficient balance"}, RateLimited),
        (401, {}, AuthenticationFailed),
        (403, {"info": "insufficient balance"}, AuthenticationFailed),
        (402, {}, InsufficientBalance),
        (400, {"info": "Unauthorized"}, AuthenticationFailed),
        (200, {"code": 1, "message": "token expired"}, AuthenticationFailed),
        (400, {"info": "not enough credits"}, InsufficientBalance),
        (200, {"code": 1, "msg": "please top up"}, InsufficientBalance),
        (200, {"code": 1, "data": "Insufficient funds"}, InsufficientBalance),
        (404, {"info": "no such model"}, InvalidRequest),
        (422, {"error": {"message": "num_images"}}, InvalidRequest),
    ],
)
def test_a_refused_create(status: int, payload: dict[str, Any], error: type[NotCreated]) -> None:
    """HTTP 200 can mean no, and a text can say more than a status."""
    found = read_create(said(payload, status))
    assert isinstance(found, Refused)
    assert found.error is error


@pytest.mark.parametrize("status", [404, 405])
def test_a_page_in_place_of_the_api_points_to_the_base_url(status: int) -> None:
    """A mistyped base URL answers with some web server's own page."""
    found = read_create(raw(b"<h1>Not Found</h1>", status))
    assert isinstance(found, Refused)
    assert found.error is ConfigurationError
    assert "base URL" in found.text


@pytest.mark.parametrize(
    "reply",
    [
        said({"code": 0}),
        said({"code": 0, "data": "done"}),
        said({"info": "insufficient balance"}),  # no code: not surely a no
        said({"code": 1, "info": "no"}, 500),
        said({}, 408),
        said({"code": 1}, 409),
        said("ok"),
        said(None),
        raw(b"", 204),
        raw(b"\xff\xfe\x00"),
        raw(b"[" * 100_000),
        raw(b'{"code": ' + b"9" * 5000 + b"}"),
    ],
)
def test_a_create_reply_that_says_neither_yes_nor_no(reply: HttpReply) -> None:
    """Then a job may exist, and nothing may claim that none does."""
    assert isinstance(read_create(reply), Unusable)


# --- query replies ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "status"),
    [
        (0, "pending"),
        (1, "pending"),
        (2, "succeeded"),
        (3, "failed"),
        (4, "failed"),
        (99, "failed"),
        (-1, "pending"),
        (2.0, "succeeded"),
        (3.0, "failed"),
        ("2", "succeeded"),
        (" 3 ", "failed"),
        ("1", "pending"),
        (None, "pending"),
        ("", "pending"),
        ("PENDING", "pending"),
        ("queued", "pending"),
        ("In Progress", "pending"),
        ("in-progress", "pending"),
        ("Succeeded", "succeeded"),
        ("SUCCESS", "succeeded"),
        ("completed", "succeeded"),
        ("Failed", "failed"),
        ("error", "failed"),
        ("cancelled", "failed"),
        ("canceled", "failed"),
        ("meditating", "pending"),
        (True, "pending"),
        ([], "pending"),
        ({"state": 2}, "pending"),
        (float("nan"), "pending"),
    ],
)
def test_how_a_status_is_read(value: object, status: JobStatus) -> None:
    """The official page has numbers, the service's published agent skills have words."""
    found = known(said(record(status=value, result=pictures(1))))
    assert found.status == status


@pytest.mark.parametrize("value", ["meditating", True, [], -1, None, ""])
def test_a_status_that_is_not_understood_is_named(value: object) -> None:
    """A timeout that comes of it must say what was waited on."""
    assert "status" in (known(said(record(status=value))).oddity or "")


@pytest.mark.parametrize(
    ("result", "urls"),
    [
        ({"images": [{"url": "https://a.example/1"}]}, ["https://a.example/1"]),
        ({"images": ["https://a.example/1", {"url": "https://a.example/2", "w": 1}]}, ["1", "2"]),
        ({"images": {"url": "https://a.example/1"}}, ["1"]),
        ({"images": "https://a.example/1"}, ["1"]),
        ({"url": "https://a.example/1"}, ["1"]),
        ([{"url": "https://a.example/1"}], ["1"]),
        ("https://a.example/1", ["1"]),
        ({"images": []}, []),
        ({"images": None}, []),
        ({}, []),
        (None, []),
        (7, []),
        ({"images": [None, 7, {}, {"url": None}, "https://a.example/9"]}, ["9"]),
    ],
)
def test_where_pictures_are_found(result: object, urls: list[str]) -> None:
    """The recorded form, and the ones that other clients prepare for."""
    found = known(said(record(status=2, result=result)))
    assert [image.url.rpartition("/")[2] for image in found.images] == [
        url.rpartition("/")[2] for url in urls
    ]


@pytest.mark.parametrize(
    ("url", "accepted", "accepted_on_loopback"),
    [
        ("https://file.shortapi.ai/tmp/x.png", True, True),
        ("https://x.example/a b.png", False, False),
        ("https://x.example/\r\nSet-Cookie: a", False, False),
        ("https://user:pass@x.example/a.png", False, False),
        ("https:///a.png", False, False),
        ("https://[::1/a.png", False, False),
        ("https://x.example/\ud83d.png", False, False),
        ("http://file.shortapi.ai/x.png", False, False),
        ("http://127.0.0.1:8787/x.png", False, True),
        ("http://localhost/x.png", False, True),
        ("http://127.0.0.1.evil.example/x.png", False, False),
        ("ftp://x.example/a.png", False, False),
        ("file:///etc/passwd", False, False),
        ("javascript:alert(1)", False, False),
        ("//x.example/a.png", False, False),
        ("", False, False),
        ("data:text/html;base64,PGI+", False, False),
        ("data:image/png;base64,", False, False),
        ("data:image/png;base64,%%%", False, False),
    ],
)
def test_which_addresses_are_pictures(url: str, accepted: bool, accepted_on_loopback: bool) -> None:
    """They are shown in notebooks and fetched by agents: nothing but https, or the own sandbox."""
    reply = said(record(status=2, result={"images": [url]}))
    for loopback, expected in ((False, accepted), (True, accepted_on_loopback)):
        found = known(reply, loopback=loopback)
        assert bool(found.images) is expected
        if not expected:
            assert found.oddity is not None
            assert len(found.oddity) < 2 * TEXT_LIMIT


@pytest.mark.parametrize(
    "url",
    [
        f"data:image/png;base64,{PNG_TEXT}",
        f"DATA:image/PNG;base64,{PNG_TEXT}",
        f"data:image/png;base64,\n{PNG_TEXT[:4]}\n{PNG_TEXT[4:]}\n",
    ],
)
def test_a_picture_inside_the_reply_is_kept_as_bytes(url: str) -> None:
    """Its megabytes must not ride along in every trace of the job's URL."""
    (image,) = known(said(record(status=2, result={"images": [url]}))).images
    assert image.inline == PNG
    assert image == FluxImage.from_bytes(PNG, "image/png")
    assert PNG_TEXT not in repr(image)


def test_pictures_before_the_end_are_not_taken() -> None:
    """A preview of a running job is not what was paid for."""
    assert known(said(record(status=1, result=pictures(1)))).images == ()


@pytest.mark.parametrize(
    "reply", [SUCCEEDED, FULL_SUCCESS, said({"status": 2, "result": pictures(1)})]
)
def test_a_record_with_few_or_many_fields_or_bare(reply: HttpReply) -> None:
    """The official sample has two fields; recorded output has a dozen; a callback has no frame."""
    found = known(reply)
    assert found.status == "succeeded"
    assert len(found.images) == 1


@pytest.mark.parametrize(
    ("fields", "refunded", "amount"),
    [
        ({}, None, None),
        ({"refunded": False, "refunded_credit": "0"}, False, "0"),
        ({"refunded": True, "refunded_credit": "0.02"}, True, "0.02"),
        ({"refunded": True}, True, None),
        ({"refunded": "true"}, None, None),
        ({"refunded": None, "refunded_credit": None}, None, None),
    ],
)
def test_refunds_are_reported_and_never_guessed(
    fields: dict[str, Any], refunded: bool | None, amount: str | None
) -> None:
    """Where the record does not say, nobody knows."""
    found = known(said(record(status=3, **fields)))
    assert found.refunded is refunded
    assert found.refunded_amount == (Decimal(amount) if amount else None)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ("moderated", "moderated"),
        ({"message": "moderated"}, "moderated"),
        ({"info": "moderated", "code": 7}, "moderated"),
        ("", None),
        ("  ", None),
        (None, None),
        ({}, None),
        ([], None),
        (7, None),
        ("half \ud83d", "half ?"),
    ],
)
def test_how_a_failed_jobs_error_is_read(error: object, text: str | None) -> None:
    """Absent, null, empty, a string or an object: two clients prepare for each."""
    assert known(said(record(status=3, error=error))).error == text


@pytest.mark.parametrize(
    ("reply", "passing"),
    [
        (said({"info": "x"}, 408), True),
        (said({"info": "x"}, 429), True),
        (said({"code": 1}, 500), True),
        (raw(b"<html>", 502), True),
        (raw(b"", 504), True),
        (said({"code": 3000}), True),
        (said({"code": 3000}, 400), True),
        (raw(b""), True),
        (raw(b"<html>"), True),
        (said([]), True),
        (CUT, True),
        (raw(b"", 302), False),
        (said({"code": 0, "data": {"status": 2}}, 307), False),
    ],
)
def test_queries_that_answer_nothing(reply: HttpReply, passing: bool) -> None:
    """What may pass is asked again; a redirect will not."""
    found = read_query(reply, loopback=False)
    assert isinstance(found, Unusable)
    assert found.passing is passing


@pytest.mark.parametrize(
    "reply",
    [
        said({"info": "x"}, 400),
        said({"info": "x"}, 401),
        raw(b"<html>", 401),
        said({"info": "x"}, 403),
        said({}, 404),
        said({}, 409),
        said({"code": 1, "info": "job not found"}),
        said({"code": "x"}),
    ],
)
def test_queries_that_are_refused(reply: HttpReply) -> None:
    """Asking again would get the same no."""
    assert isinstance(read_query(reply, loopback=False), Refused)


@pytest.mark.parametrize("status", [400, 403, 404, 405])
@pytest.mark.parametrize("body", [b"", b"<html>"])
def test_a_page_is_no_word_of_the_service(status: int, body: bytes) -> None:
    """A gate in between says it, and may be open again soon: the job is paid for."""
    found = read_query(raw(body, status), loopback=False)
    assert isinstance(found, Unusable)
    assert found.passing


_ID_FIRST = b'{"code":0,"data":{"job_id":"' + JOB_ID.encode() + b'","amount":'


@pytest.mark.parametrize(
    "body",
    [
        _ID_FIRST,
        _ID_FIRST + b'"\xe9"}}',
        _ID_FIRST + b"[" * 100_000,
        _ID_FIRST.replace(b":", b" : "),
    ],
    ids=["cut off", "latin-1", "deep", "spaces"],
)
def test_an_id_that_can_be_read_is_not_thrown_away(body: bytes) -> None:
    """The job is paid for, and its id is all that is needed to get it."""
    found = read_create(raw(body))
    assert isinstance(found, Unusable)
    assert found.job_id == JOB_ID


@pytest.mark.parametrize(
    "body",
    [b'{"job_id":"65f0', b'{"job_id":65', b'{"job_id":null,', b'{"id":"65f0",', b"x" * 99],
)
def test_no_id_is_made_up(body: bytes) -> None:
    """A part of an id, or the id of something else, leads nowhere."""
    found = read_create(raw(body))
    assert isinstance(found, Unusable)
    assert found.job_id is None


def test_absurd_numbers_and_odd_bytes_do_not_hide_what_is_beside_them() -> None:
    """Python refuses to read numbers of 5,000 digits; the rest of the reply is as good as ever."""
    body = b'{"code":0,"data":{"job_id":"a","amount":%s}}' % (b"9" * 5000)
    assert read_create(raw(body)) == Accepted("a", None)
    body = b'{"data":{"status":2,"n":%s,"x":"\xe9","result":{"images":["https://x.example/a"]}}}'
    assert known(raw(body % (b"9" * 5000))).images == (FluxImage(url="https://x.example/a"),)


def test_a_refusal_beside_a_bare_id_is_a_refusal() -> None:
    """Many services number their requests so."""
    assert isinstance(read_create(said({"code": 1, "info": "no", "id": "request-7"})), Refused)
    assert isinstance(read_create(said({"code": 1, "data": {"id": "request-7"}})), Refused)
    named = read_create(said({"code": 1, "data": {"job_id": "a"}}))
    assert isinstance(named, Unusable)


def test_a_status_as_the_text_of_a_decimal() -> None:
    """As Go and JavaScript write a float."""
    assert known(said(record(status="2.0"))).status == "succeeded"
    assert known(said(record(status="3.0"))).status == "failed"
    odd = known(said(record(status="9" * 5000)))
    assert odd.status == "pending"
    assert len(odd.oddity or "") < 500


@pytest.mark.parametrize("data", ["\u00ff", "a", "====", "\ud800"])
def test_a_data_url_that_is_no_base64_is_no_picture(data: str) -> None:
    """The job is paid for: nothing in its record may crash the call."""
    found = known(said(record(status=2, result={"images": [f"data:image/png;base64,{data}"]})))
    assert found.images == ()
    assert found.oddity is not None


# --- values that no service should send -----------------------------------------------------------

_HOSTILE = {
    "an endless number": "9" * 5000,
    "an endless negative number": "-" + "9" * 5000,
    "an endless fraction": "0." + "9" * 5000,
    "a number of 400 digits as a float": "9" * 400 + ".0",
    "a large float": "1e300",
    "an exponent": "1e999999999",
    "an exponent as text": '"1e999999"',
    "a small exponent as text": '"1e-999999"',
    "nothing with an exponent": '"0e-999999"',
    "NaN": "NaN",
    "Infinity": "Infinity",
    "minus Infinity": "-Infinity",
    "NaN as text": '"NaN"',
    "digits of another script": '"\u0662"',
    "a deep list": "[" * 400 + "]" * 400,
    "a list too deep": "[" * 200_000,
    "half a character": '"\\ud83d"',
    "a control character": '"a\\u0000b"',
    "true": "true",
    "an object": '{"message": {"message": {"a": [NaN]}}}',
    "a list of everything": '[null, true, 1e999, {}, [], "\\ud83d"]',
    "a long text": '"' + "x" * 100_000 + '"',
    "a key twice": '1, "job_id": 2, "status": 9, "code": NaN',
}
_PLACES = {
    "code": '{"code": %s, "data": {"job_id": "j", "status": 2}}',
    "status": '{"code": 0, "data": {"job_id": "j", "status": %s}}',
    "job_id": '{"code": 0, "data": {"job_id": %s}}',
    "id": '{"code": 0, "id": %s, "data": {"id": %s}}',
    "money": '{"data": {"job_id": "j", "status": 2, "amount": %s, "credit": %s, '
    '"refunded_credit": %s}}',
    "refunded": '{"data": {"job_id": "j", "status": 2, "refunded": %s}}',
    "error": '{"code": 1, "info": %s, "data": {"status": 3, "error": %s}}',
    "error of a record": '{"data": {"status": 3, "error": %s}}',
    "result": '{"data": {"job_id": "j", "status": 2, "result": %s}}',
    "images": '{"data": {"status": 2, "result": {"images": %s}}}',
    "url": '{"data": {"status": 2, "result": {"images": [{"url": %s}]}}}',
    "data": '{"code": 0, "data": %s}',
    "everything": "%s",
}


@pytest.mark.parametrize("status", [200, 402, 500])
@pytest.mark.parametrize("place", _PLACES)
def test_nothing_that_json_can_spell_breaks_a_reader(place: str, status: int) -> None:
    """The job may be paid for: whatever stands beside its id, there is an answer, of sane size."""
    for value in _HOSTILE:
        _answers_sanely(value, place, status)


def _answers_sanely(value: str, place: str, status: int) -> None:
    body = _PLACES[place].replace("%s", _HOSTILE[value]).encode()
    reply = raw(body, status, Retry_After=_HOSTILE[value].encode("ascii", "replace").decode())
    created = read_create(reply)
    assert isinstance(created, Accepted | Refused | Unusable)
    assert len(repr(created).encode()) < 12 * TEXT_LIMIT
    found = read_query(reply, loopback=False)
    assert isinstance(found, Record | Refused | Unusable)
    amounts = [getattr(created, "cost", None)]
    texts = [getattr(one, "text", "") for one in (created, found)]
    if isinstance(found, Record):
        amounts += [found.cost, found.refunded_amount]
        texts += [found.error or "", found.oddity or ""]
    for text in texts:
        assert len(text.encode()) < 6 * TEXT_LIMIT
    for amount in amounts:
        assert amount is None or len(f"{amount + amount:f}") < 100


def test_an_id_that_no_url_can_carry_is_none() -> None:
    """It could not be asked for; what there is of a job is unknown."""
    assert isinstance(read_create(said({"data": {"job_id": "x" * JOB_ID_LIMIT}})), Accepted)
    found = read_create(said({"data": {"job_id": "x" * (JOB_ID_LIMIT + 1)}}))
    assert isinstance(found, Unusable)
    assert found.job_id is None


@pytest.mark.parametrize("amount", ["1e31", "0e-31", "1e-31", "Infinity", 1e300])
def test_an_amount_of_no_sane_size_is_unreported(amount: object) -> None:
    """Written out, it would fill pages; added up, it would overflow."""
    assert known(said(record(status=2, credit=amount))).cost is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_a_status_that_is_no_number_to_count_with_is_waited_on(value: str) -> None:
    """As any other that nobody has heard of; a job must not be given up for it."""
    found = known(raw(b'{"data":{"status":%s}}' % value.encode()))
    assert found.status == "pending"
    assert "unknown status" in (found.oddity or "")


# --- texts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        ({"info": "a", "message": "b"}, "a"),
        ({"message": "b", "msg": "c"}, "b"),
        ({"msg": "c", "error": "d"}, "c"),
        ({"error": "d"}, "d"),
        ({"error": {"message": "e"}}, "e"),
        ({"info": "", "message": None, "error": {"msg": "f"}}, "f"),
        ({"data": {"info": "g"}}, "g"),
        ({"data": "h"}, "h"),
        ({"info": {"message": "i"}}, "i"),
    ],
)
def test_where_the_services_own_words_are_found(payload: dict[str, Any], text: str) -> None:
    """``info`` first, as three authors' clients have it; then the usual names, then inside."""
    found = read_create(said({"code": 7, **payload}))
    assert isinstance(found, Refused)
    assert found.text == f"HTTP 200, code 7: {text}"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (said({"code": 7}), "HTTP 200, code 7, a reply without a message"),
        (said({"code": "E\n7"}), r"HTTP 200, code 'E\n7', a reply without a message"),
        (raw(b" \n", 500), "HTTP 500, an empty reply"),
        (
            raw(b"<style>p {}</style><h1>Bad\n\nGateway</h1><script>x()</script>", 502),
            "HTTP 502, not JSON: Bad Gateway",
        ),
        (raw(b"upstream connect error", 503), "HTTP 503, not JSON: upstream connect error"),
        (raw(b"\xff\xfe", 500), "HTTP 500, not JSON: \ufffd\ufffd"),
    ],
)
def test_what_a_person_is_told_about_a_reply(reply: HttpReply, text: str) -> None:
    """One line, in plain words, whatever came."""
    found = read_create(reply)
    assert isinstance(found, Refused | Unusable)
    assert found.text == text


@pytest.mark.parametrize("length", [TEXT_LIMIT + 1, 10_000_000])
def test_long_texts_are_cut(length: int) -> None:
    """A model reads these, and pays for each token."""
    for reply in (said({"code": 1, "info": "x" * length}), raw(b"x" * length, 500)):
        found = read_create(reply)
        assert isinstance(found, Refused | Unusable)
        assert len(found.text) < TEXT_LIMIT + 50
        assert found.text.endswith("…")


@pytest.mark.parametrize(
    "body",
    [
        CUT.body,
        b"\xef\xbb\xbf" + CUT.body,
        b"\n " + CUT.body,
        b"[" + FULL_SUCCESS.body + b"]",
    ],
    ids=["cut", "with a byte order mark", "after space", "in a list"],
)
def test_a_broken_record_is_not_shown(body: bytes) -> None:
    """It echoes the prompt and the label of the key, and error texts go to logs."""
    found = read_query(raw(body), loopback=False)
    assert isinstance(found, Unusable)
    assert found.text == "HTTP 200, JSON that is broken off or no object"


def test_a_byte_order_mark_is_no_obstacle() -> None:
    """Some gateways add one."""
    assert isinstance(read_create(raw(b"\xef\xbb\xbf" + CREATED.body)), Accepted)
