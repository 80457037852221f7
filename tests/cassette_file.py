"""How a cassette is written: readable bodies, where they come from, and nothing of an account.

vcrpy calls this to write and read files and to compare requests. It knows nothing of pytest, and
of the service only its two hosts and what names an account.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import yaml

SOURCES = ("documented", "sandbox", "live")
"""The official page's own samples; recorded from the sandbox; recorded from the service."""
OFFICIAL_API = "https://api.shortapi.ai"
OFFICIAL_FILES = "https://file.shortapi.ai"
KEPT_HEADERS = frozenset({"Content-Type", "Location", "Retry-After"})
ACCOUNT_FIELDS = frozenset(
    {"account", "account_id", "email", "key_name", "team_id", "uid", "user", "user_id", "user_name"}
)
SCRUBBED = "(scrubbed)"


@dataclass(frozen=True)
class CassetteText:
    """Turns what vcrpy keeps into a file's text and back: the serializer that it asks for.

    Attributes:
        source: One of ``SOURCES``; goes to the top of a file that is written.
        note: One line on what was recorded.
        secret: What must not stand in a file that is written.
    """

    source: str
    note: str
    secret: str | None = field(default=None, repr=False)

    def serialize(self, cassette: dict[str, Any]) -> str:
        """The text of a cassette.

        Raises:
            ValueError: A body is binary, or the text would hold the key.
        """
        written = {
            "source": self.source,
            "note": self.note,
            "interactions": [_written(exchange) for exchange in cassette["interactions"]],
        }
        text = yaml.dump(
            written, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, indent=2
        )
        if self.secret is not None and self.secret in text:
            raise ValueError("cassette not written: the key stands in it")
        return text

    def deserialize(self, text: str) -> dict[str, Any]:
        """What vcrpy wants of a cassette's text.

        Raises:
            ValueError: It does not say where its bodies come from.
        """
        written = yaml.safe_load(text)
        read_origin(written)
        return {"interactions": [_read(exchange) for exchange in written["interactions"]]}


def read_origin(written: dict[str, Any]) -> tuple[str, str]:
    """Source and note of a parsed cassette.

    Raises:
        ValueError: One is missing.
    """
    source, note = written.get("source"), written.get("note")
    if source not in SOURCES or not isinstance(note, str) or not note.strip():
        raise ValueError(f"a cassette says its source ({', '.join(SOURCES)}) and has a note")
    return str(source), note


class _Dumper(yaml.SafeDumper):
    """Block style all the way: no anchors, several lines as several lines."""

    def ignore_aliases(self, data: object) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_text(self, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


def _written(exchange: dict[str, Any]) -> dict[str, Any]:
    request, response = exchange["request"], exchange["response"]
    return {
        "request": {
            "method": request["method"],
            "uri": request["uri"],
            "headers": _plain(request["headers"]),
            **_written_body(request["body"]),
        },
        "response": {
            "status": response["status"],
            "headers": _plain(response["headers"]),
            **_written_body(response["body"]["string"]),
        },
    }


def _plain(headers: dict[str, Any]) -> dict[str, list[str]]:
    return {
        str(name): [str(one) for one in ([value] if isinstance(value, str) else value)]
        for name, value in sorted(headers.items())
    }


def _written_body(body: str | bytes | None) -> dict[str, Any]:
    if body is None:
        return {}
    if isinstance(body, bytes):
        raise TypeError("cassette not written: a binary body cannot be reviewed")
    parsed = _json(body)
    return {"text": body} if parsed is None else {"json": parsed}


def _read(exchange: dict[str, Any]) -> dict[str, Any]:
    request, response = dict(exchange["request"]), dict(exchange["response"])
    response["body"] = {"string": _read_body(response) or ""}
    response.pop("json", None)
    response.pop("text", None)
    return {
        "request": {
            "method": request["method"],
            "uri": request["uri"],
            "headers": request["headers"],
            "body": _read_body(request),
        },
        "response": response,
    }


def _read_body(part: dict[str, Any]) -> str | None:
    if "json" in part:
        return json.dumps(part["json"], ensure_ascii=False, separators=(",", ":"))
    text = part.get("text")
    return None if text is None else str(text)


def _json(body: str | bytes) -> Any:
    try:
        parsed = json.loads(body)
    except ValueError:
        return None
    return parsed if isinstance(parsed, (dict, list)) else None


# --- what vcrpy asks about requests and replies ---------------------------------------------------


def same_body(ours: Any, recorded: Any) -> None:
    """Compare two requests' bodies: as JSON where both are, type by type, else byte by byte.

    Raises:
        AssertionError: They differ.
    """
    # Through text, because to Python 1 == 1.0 == True, and on the wire they are three things.
    left, right = _comparable(ours.body), _comparable(recorded.body)
    if left != right:
        raise AssertionError(f"sent {left!r}, recorded {right!r}")


def _comparable(body: Any) -> Any:
    parsed = _json(body) if isinstance(body, (str, bytes)) else None
    return body if parsed is None else json.dumps(parsed, sort_keys=True, ensure_ascii=False)


def shown(text: str, origin: str | None) -> str:
    """A text with the hosts of the service, where it has those of a sandbox at ``origin``."""
    if origin is None:
        return text
    return text.replace(f"{origin}/api/", f"{OFFICIAL_API}/api/").replace(origin, OFFICIAL_FILES)


def cleaned_request(request: Any, origin: str | None) -> Any:
    """A request as it may be kept: the official host, no header that is not needed."""
    request.uri = shown(request.uri, origin)
    request.headers = _needed(request.headers)
    return request


def cleaned_reply(reply: dict[str, Any], origin: str | None) -> dict[str, Any]:
    """A reply as it may be kept: official hosts, needed headers, no account field."""
    body: bytes = reply["body"].get("string") or b""
    parsed = _json(body)
    if parsed is not None:
        body = json.dumps(_scrubbed(parsed), ensure_ascii=False).encode()
    headers = _needed(reply["headers"])
    return {
        "status": reply["status"],
        "headers": headers,
        "body": {"string": shown(body.decode(), origin).encode() if origin else body},
    }


def _needed(headers: Any) -> dict[str, Any]:
    # In one spelling, whatever the server's, so that cassettes differ in what matters.
    kept = ((name.title(), value) for name, value in headers.items())
    return {name: value for name, value in kept if name in KEPT_HEADERS}


def _scrubbed(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: SCRUBBED if name in ACCOUNT_FIELDS and inner is not None else _scrubbed(inner)
            for name, inner in value.items()
        }
    return [_scrubbed(inner) for inner in value] if isinstance(value, list) else value
