"""A file of prompts: each format as people write it, and every bad line named before money."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from langchain_shortapi_flux import FluxRequest, InvalidRequest
from langchain_shortapi_flux.command_line.prompt_file import (
    BAD_LINES_NAMED,
    FILE_LIMIT_BYTES,
    PromptFile,
    read_prompt_file,
)

if TYPE_CHECKING:
    from pathlib import Path

BOM = b"\xef\xbb\xbf"


def _read(
    folder: Path, name: str, content: str | bytes, options: dict[str, object] | None = None
) -> PromptFile:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_prompt_file(str(path), options or {})


def _refused(folder: Path, name: str, content: str | bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        _read(folder, name, content)
    text = str(refused.value)
    assert text.startswith(str(folder / name))
    assert text.endswith("nothing was sent")
    assert refused.value.charge == "none"
    return text


def _asked(found: PromptFile) -> list[tuple[int, dict[str, object]]]:
    return [(line.number, line.request.model_dump(exclude_none=True)) for line in found.lines]


@pytest.mark.parametrize("mark", [b"", BOM])
@pytest.mark.parametrize("name", ["prompts.txt", "prompts", "prompts.md"])
def test_a_prompt_on_each_line(name: str, mark: bytes, tmp_path: Path) -> None:
    """Blank lines are skipped and still counted, in each way of ending lines."""
    found = _read(tmp_path, name, mark + 'a fox\r\n\n  \t\n ein Bär \n"a, b"\ta'.encode())
    assert _asked(found) == [
        (1, {"prompt": "a fox"}),
        (4, {"prompt": "ein Bär"}),
        (5, {"prompt": '"a, b"\ta'}),
    ]


def test_a_line_ends_where_an_editor_shows_its_end(tmp_path: Path) -> None:
    """Letters that Python also takes for line ends would cut a prompt in two, and buy both."""
    found = _read(tmp_path, "p.txt", "a fox\u2028in the snow\x0cat night\n")
    assert len(found.lines) == 1
    text = json.dumps({"prompt": "a\u2028b"}, ensure_ascii=False)
    assert len(_read(tmp_path, "p.jsonl", text).lines) == 1


@pytest.mark.parametrize("mark", [b"", BOM])
def test_a_csv_file_with_columns(mark: bytes, tmp_path: Path) -> None:
    """Quoted as spreadsheets do; a blank cell is unset, and a row's number is where it begins."""
    rows = [
        "Prompt,Aspect Ratio,num_images,performance,Category",
        '"a fox, asleep",16:9,2,schnell,Animals',
        "",
        '"said ""hi""\nto me",,,,',
        ",,,,",
        " a hare ,2:3",
    ]
    found = _read(tmp_path, "p.CSV", mark + "\r\n".join(rows).encode())
    first = {"aspect_ratio": "16:9", "num_images": 2, "performance": "schnell"}
    assert _asked(found) == [
        (2, {"prompt": "a fox, asleep", **first}),
        (4, {"prompt": 'said "hi"\nto me'}),
        (7, {"prompt": "a hare", "aspect_ratio": "2:3"}),
    ]
    assert found.ignored == ("Category",)


def test_in_tsv_a_quote_is_a_letter(tmp_path: Path) -> None:
    """As those have it who publish prompts in it: some begin with a quoted word."""
    found = _read(tmp_path, "p.tsv", 'Note\tPrompt\nx\t"HI" in graffiti\ny\ta 1" nail, rusty\n')
    prompts = [line.request.prompt for line in found.lines]
    assert prompts == ['"HI" in graffiti', 'a 1" nail, rusty']
    assert found.ignored == ("Note",)


def test_json_lines(tmp_path: Path) -> None:
    """An object on each line; null is unset, and a prompt is taken as it is written."""
    lines = [
        '{"prompt": " a fox\\n"}',
        "",
        '{"num_images": "4", "aspect_ratio": null, "prompt": "b"}',
    ]
    found = _read(tmp_path, "p.jsonl", "\n".join(lines))
    assert _asked(found) == [(1, {"prompt": " a fox\n"}), (3, {"prompt": "b", "num_images": 4})]


def test_a_line_wins_over_the_options_of_the_command(tmp_path: Path) -> None:
    """The options are for what the lines leave out."""
    options: dict[str, object] = {"performance": "schnell", "num_images": 2, "aspect_ratio": None}
    found = _read(tmp_path, "p.csv", "prompt,num_images\na,\nb,1\n", options)
    assert [line.request for line in found.lines] == [
        FluxRequest(prompt="a", num_images=2, performance="schnell"),
        FluxRequest(prompt="b", num_images=1, performance="schnell"),
    ]


def test_stdin_holds_a_prompt_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that prompts can come out of another program."""
    given = io.TextIOWrapper(io.BytesIO(b"a fox\na hare\n"), encoding="ascii")
    monkeypatch.setattr("sys.stdin", given)
    assert [line.request.prompt for line in read_prompt_file("-", {}).lines] == ["a fox", "a hare"]
    with pytest.raises(InvalidRequest, match="stdin: it holds no prompt"):
        read_prompt_file("-", {})
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InvalidRequest, match="stdin: it holds no prompt"):
        read_prompt_file("-", {})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.csv", "prompt,num_images\na fox,1\na fox,3\n", "line 3: num_images='3': allowed are 1"),
        (
            "p.csv",
            "prompt,performance\nx,Dev\n",
            "line 2: performance='Dev': allowed are 'schnell'",
        ),
        ("p.csv", "prompt,aspect_ratio\n,1:1\n", "line 2: prompt='': the prompt is blank"),
        ("p.csv", "prompt\na fox, asleep\n", "line 2: 2 cells, but 1 columns"),
        ("p.csv", 'prompt\n"a" fox\n', "line 2: no row of a table"),
        ("p.csv", 'prompt\na\n"never closed\nb\nc\n', "line 3: no row of a table"),
        ("p.csv", 'prompt\n"a\nb",5\n', "line 2: 2 cells"),
        ("p.tsv", "prompt\taspect_ratio\na fox\t5:4\n", "line 2: aspect_ratio='5:4': allowed are"),
        ("p.jsonl", '{"prompt": "a", "seed": 1}', "line 1: 'seed' is not an argument"),
        ("p.jsonl", '{"aspect_ratio": "1:1"}', "line 1: prompt is missing"),
        ("p.jsonl", '{"prompt": 5}', "line 1: prompt=5"),
        ("p.jsonl", '{"prompt": "\\ud800"}', "line 1: prompt="),
        ("p.jsonl", '["a fox"]', "allowed is an object"),
        ("p.jsonl", '\n{"prompt": "a"', "line 2: no JSON"),
        ("p.jsonl", "[" * 100_000, "line 1: no JSON"),
        ("p.txt", '{"prompt": "a fox"}\n', "line 1: this is a line of JSON: name the file .jsonl"),
        ("p.txt", "prompt,num_images\na fox,2\n", "line 1: this is the first line of a table"),
        ("p.txt", "\u200b\ufeff\n", "the prompt is blank"),
    ],
)
def test_a_bad_line_is_named(name: str, content: str, said: str, tmp_path: Path) -> None:
    """With its number, the field, the value and what is allowed: it can be mended at once."""
    assert said in _refused(tmp_path, name, content)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("p.txt", "", "it holds no prompt"),
        ("p.txt", "\n \n", "it holds no prompt"),
        ("p.csv", "", "it holds no prompt"),
        ("p.csv", BOM, "it holds no prompt"),
        ("p.csv", "prompt,performance\n", "it holds no prompt"),
        ("p.csv", "a fox\na hare\n", "no column 'prompt', but 'a fox'"),
        ("p.csv", "prompt,Prompt\na,b\n", "names a column twice"),
        ("p.csv", '"prompt', "line 1: no row"),
        ("p.json", '[{"prompt": "a"}]', "name the file .jsonl"),
        ("p.txt", b"a fox\nein B\xe4r\n", "line 2 is not UTF-8 (byte 0xe4)"),
        ("p.txt", "a fox\n".encode("utf-16"), "line 1 is not UTF-8 (byte 0xff)"),
        ("p.txt", "a fox\n".encode("utf-16-le"), "line 1 holds a NUL"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_clear_line(
    name: str, content: str | bytes, said: str, tmp_path: Path
) -> None:
    """Nothing of it is guessed at: each guess would be bought."""
    text = _refused(tmp_path, name, content)
    assert said in text
    assert "\n" not in text


def test_all_bad_lines_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    """A file with a wrong column is wrong on every line; one screen is enough to see that."""
    bad = [f"{number},7" for number in range(25)]
    text = _refused(tmp_path, "p.csv", "\n".join(["prompt,num_images", "a,1", *bad]))
    first, *named, more, _ = text.splitlines()
    assert first.endswith("25 of 26 lines cannot be used:")
    assert [line.split(":")[0].strip() for line in named] == [
        f"line {number}" for number in range(3, 3 + BAD_LINES_NAMED)
    ]
    assert more.strip() == "and 15 more"


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    """No file, a folder, no path, too large: each in its own words."""
    for name, said in {
        str(tmp_path / "none.txt"): "No such file",
        str(tmp_path): "it is a folder",
        "p\0.txt": "it is no path",
    }.items():
        with pytest.raises(InvalidRequest, match=said):
            read_prompt_file(name, {})
    with (tmp_path / "large.txt").open("wb") as file:
        file.truncate(FILE_LIMIT_BYTES + 1)
    with pytest.raises(InvalidRequest, match="larger than"):
        read_prompt_file(str(tmp_path / "large.txt"), {})
