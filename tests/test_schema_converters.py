"""What each chat model's package sends of our schemas, and what of a model's answer we understand.

A loopback server stands in for every provider: it keeps the request's body and refuses the call,
so that all of a package's converters have run. ``pip install -e .[providers]`` brings the packages.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal

import pytest
from langchain_core.utils.function_calling import convert_to_json_schema, convert_to_openai_tool
from pydantic import BaseModel, Field, ValidationError
from quick_flux import flux_on

from langchain_shortapi_flux import FluxRequest, ShortAPIFlux, ShortAPIFluxTool
from langchain_shortapi_flux.job import ASPECT_RATIOS, IMAGE_COUNTS, PERFORMANCES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_shortapi_flux.sandbox import Sandbox

OPTIONS = {
    "aspect_ratio": list(ASPECT_RATIOS),
    "num_images": [str(count) for count in IMAGE_COUNTS],
    "performance": list(PERFORMANCES),
}
ANSWERS_UNDERSTOOD = [("2", 2), (2, 2), (2.0, 2), (None, 4), ("left out", 4)]
"""What a model may send as ``num_images``, and what is bought if the Runnable's field says 4."""

# Package, class, where it is told the address, and what else it needs. No real model is named:
# packages warn of those whose end is near.
ONCE = {"api_key": "no-key", "max_retries": 0}
AWS = {"region_name": "eu-west-1", "aws_access_key_id": "no", "aws_secret_access_key": "no"}
MODELS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "openai": ("langchain_openai", "ChatOpenAI", "base_url", ONCE),
    "openai-responses": (
        *("langchain_openai", "ChatOpenAI", "base_url"),
        {**ONCE, "use_responses_api": True},
    ),
    "anthropic": ("langchain_anthropic", "ChatAnthropic", "base_url", ONCE),
    "google": (
        *("langchain_google_genai", "ChatGoogleGenerativeAI", "base_url"),
        {**ONCE, "max_retries": 1},
    ),
    "aws": (
        *("langchain_aws", "ChatBedrockConverse", "endpoint_url"),
        {**AWS, "model": "anthropic.a-model"},
    ),
    "mistral": ("langchain_mistralai", "ChatMistralAI", "endpoint", {**ONCE, "max_retries": 1}),
    "ollama": ("langchain_ollama", "ChatOllama", "base_url", {}),
    "groq": ("langchain_groq", "ChatGroq", "base_url", ONCE),
}

CASES = [
    *((name, form) for name in MODELS for form in ("tool", "request", "request as JSON")),
    *((name, "tool, strict") for name in ("openai", "openai-responses", "anthropic", "aws")),
    *((name, "request, strict") for name in ("openai", "openai-responses", "aws")),
    *((name, "request as JSON, strict") for name in ("openai", "openai-responses")),
]
STRICT_UNASKED = [(name, "request as JSON") for name in ("openai", "openai-responses", "mistral")]
# langchain-aws takes the null out of every tool schema, and strict demands every argument.
NEVER_UNSET = [("aws", "tool, strict"), ("aws", "request, strict")]
# The client that langchain-ollama calls knows no anyOf; the description names the values.
ENUM_LOST = [("ollama", "tool"), ("ollama", "request")]


class Provider:
    """A loopback server that keeps the bodies of the requests, and refuses them."""

    def __init__(self) -> None:
        """Listen on a free port."""
        bodies: list[Any] = []

        class Refusal(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(400)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *args: Any) -> None:
                pass

        self.bodies = bodies
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Refusal)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def model(self, name: str) -> Any:
        """That provider's chat model, which talks to this server."""
        package, class_name, address, arguments = MODELS[name]
        reason = f"{package} is not installed: pip install -e .[providers]"
        chat_model = getattr(pytest.importorskip(package, reason=reason), class_name)
        return chat_model(**{"model": "a-model", address: self.url, **arguments})

    def arguments_sent(self, runnable: Any) -> dict[str, Any]:
        """The schema of the arguments in the one request that the call makes."""
        self.bodies.clear()
        with pytest.raises(Exception) as refusal:  # each package has its own
            runnable.invoke("Draw a fox.")
        assert len(self.bodies) == 1, repr(refusal.value)
        (schema,) = _schemas_in(self.bodies[0])
        return schema


def _schemas_in(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str) and value.startswith("{"):
        value = json.loads(value)  # Bedrock takes an output schema as text
    if isinstance(value, list):
        return [schema for item in value for schema in _schemas_in(item)]
    if not isinstance(value, dict):
        return []
    if "prompt" in value.get("properties", {}):
        return [value]
    return _schemas_in(list(value.values()))


def _enum(option: dict[str, Any]) -> list[Any]:
    return [value for way in option.get("anyOf", [option]) for value in way.get("enum", [])]


def _is_nullable(option: dict[str, Any]) -> bool:
    return option.get("nullable", False) or {"type": "null"} in option.get("anyOf", [])


def _bound(model: Any, form: str) -> Any:
    shape, _, strict = form.partition(", ")
    keywords = {"strict": True} if strict else {}
    if shape == "tool":
        return model.bind_tools([_tool()], **keywords)
    method = "json_schema" if shape == "request as JSON" else "function_calling"
    return model.with_structured_output(FluxRequest, method=method, **keywords)


def _tool() -> ShortAPIFluxTool:
    return ShortAPIFluxTool(flux=ShortAPIFlux(api_key="no-key"))


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    running = Provider()
    thread = Thread(target=running.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.server.shutdown()
    running.server.server_close()
    thread.join()


@pytest.mark.parametrize(("name", "form"), CASES)
def test_what_each_package_sends(provider: Provider, name: str, form: str) -> None:
    """A model can only keep to what its package's converters leave of our schema."""
    schema = provider.arguments_sent(_bound(provider.model(name), form))

    strict = "strict" in form or (name, form) in STRICT_UNASKED
    assert set(schema["required"]) == ({"prompt", *OPTIONS} if strict else {"prompt"})
    assert schema.get("additionalProperties", False) is False
    assert ("additionalProperties" in schema) or not strict
    assert set(schema["properties"]) == {"prompt", *OPTIONS}
    for option, values in OPTIONS.items():
        sent = schema["properties"][option]
        may_be_unset = _is_nullable(sent) or option not in schema["required"]
        assert may_be_unset == ((name, form) not in NEVER_UNSET)
        assert _enum(sent) == ([] if (name, form) in ENUM_LOST else values)
        assert all(value in sent["description"] for value in values)
        assert "default" not in sent


def test_an_integer_enum_fails_only_when_called(provider: Provider) -> None:
    """The reason for the enum of strings, and for a test that calls rather than binds."""

    class Numbered(BaseModel):
        """A request."""

        prompt: str
        num_images: Literal[1, 2, 4, 8] | None = Field(default=None)

    bound = provider.model("google").bind_tools([Numbered])
    with pytest.raises(ValidationError, match=r"enum\.0"):
        bound.invoke("Draw a fox.")


@pytest.mark.parametrize("strict", [None, True])
@pytest.mark.parametrize("form", ["tool", "request"])
def test_core_converters(form: str, strict: bool | None) -> None:
    """Most packages begin with these two, and they need no package."""
    ours = _tool() if form == "tool" else FluxRequest
    tool = convert_to_openai_tool(ours, strict=strict)["function"]
    for schema in (tool["parameters"], convert_to_json_schema(ours, strict=strict)):
        assert set(schema["required"]) == ({"prompt", *OPTIONS} if strict else {"prompt"})
        for option, values in OPTIONS.items():
            assert _enum(schema["properties"][option]) == values
            assert _is_nullable(schema["properties"][option])
            assert "default" not in schema["properties"][option]


@pytest.mark.parametrize(("answer", "bought"), ANSWERS_UNDERSTOOD)
def test_an_answer_is_understood(sandbox: Sandbox, answer: object, bought: int) -> None:
    """Strings come from the enum, floats through protobuf, nulls from strict schemas."""
    flux = flux_on(sandbox, num_images=4, aspect_ratio="16:9")
    given = {"prompt": "a fox", "aspect_ratio": None, "performance": None, "num_images": answer}
    if answer == "left out":
        given = {"prompt": "a fox"}

    ShortAPIFluxTool(flux=flux).invoke(given)
    flux.invoke(FluxRequest.model_validate_json(json.dumps(given)))

    sent = [json.loads(call.body)["args"] for call in sandbox.calls if call.on == "create"]
    assert [(args["num_images"], args["aspect_ratio"]) for args in sent] == [(bought, "16:9")] * 2
    assert all(type(args["num_images"]) is int for args in sent)


@pytest.mark.parametrize("answer", [3, "3", 3.0, 2.5, "two", "", True])
def test_another_number_is_refused_before_anything_is_bought(
    sandbox: Sandbox, answer: object
) -> None:
    """The service lists 1, 2, 4 and 8; a model learns that from the text and can call again."""
    given = {"prompt": "a fox", "num_images": answer}

    said = ShortAPIFluxTool(flux=flux_on(sandbox)).invoke(given)
    with pytest.raises(ValidationError, match="allowed are 1, 2, 4, 8"):
        FluxRequest.model_validate(given)

    assert "allowed are 1, 2, 4, 8" in said
    assert not sandbox.calls
