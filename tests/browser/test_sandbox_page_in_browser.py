"""The sandbox's page in headless Chromium: live, harmless, and with real pictures."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import requests
from browser.chromium import opened

from langchain_shortapi_flux.sandbox import Fault, Sandbox
from langchain_shortapi_flux.sandbox.menu import MODEL_ID, SIZES

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

pytestmark = pytest.mark.browser

PATIENCE = 5.0  # Seconds; reached only when something is broken.
THUMBNAIL_PX_MAX = 128

# Each would call alert, which the browser tells as a dialog, or spoil the title.
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)' x='",
    "</p></article></li></ol></main></template><svg/onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe><title>spoiled</title>",
    '<meta http-equiv="refresh" content="0;url=https://evil.test/">',
    "{id} {source} <!--jobs--> \u202e\u0645\u0631\u062d\u0628\u0627 \U0001f98a " + "word " * 400,
]


def create(sandbox: Sandbox, prompt: str = "a lighthouse", **args: Any) -> str:
    """Create a job over HTTP and give its id."""
    body = {
        "model": MODEL_ID,
        "args": {"prompt": prompt, "aspect_ratio": "1:1", **args},
        "callback_url": f"javascript:alert(1)//{prompt}",
    }
    answer = requests.post(
        f"{sandbox.base_url}/api/v1/job/create",
        json=body,
        headers={"Authorization": f"Bearer {sandbox.api_key}"},
        timeout=PATIENCE,
    )
    return str(answer.json()["data"]["job_id"])


def background(page: Page) -> list[int]:
    """The red, green and blue of the page's ground."""
    found: list[int] = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number)"
    )
    return found


@pytest.mark.parametrize("live", [False, True], ids=["first look", "later look"])
def test_hostile_words_are_only_text(live: bool) -> None:
    """As the server renders them, and as the script does."""
    with Sandbox(job_seconds=0) as sandbox:

        def create_all() -> None:
            for text in HOSTILE:
                sandbox.inject(Fault("create", "job_fails", info=text))
                create(sandbox, text, extra=text, **{text: text})
                create(sandbox, text, num_images=2)

        if not live:
            create_all()
        with opened(sandbox.base_url) as shown:
            dialogs: list[str] = []

            def note(dialog: Dialog) -> None:
                dialogs.append(dialog.message)
                dialog.accept()

            shown.page.on("dialog", note)
            if live:
                create_all()
            jobs = shown.page.locator(".job")
            jobs.nth(2 * len(HOSTILE) - 1).wait_for()
            prompts = shown.page.locator(".prompt").evaluate_all(
                "all => all.map(p => p.textContent)"
            )
            assert prompts[::-2] == prompts[-2::-2] == HOSTILE
            assert shown.page.title() == "ShortAPI sandbox"
            assert (
                shown.page.locator("iframe, .job script, .job [onerror], .job [onload]").count()
                == 0
            )
            assert shown.page.locator("a:not([href^='/tmp/'])").count() == 0
            assert all(picture.complete for picture in shown.pictures())
            assert dialogs == []
            shown.assert_nothing_left_loopback()
            shown.assert_no_errors()


def test_a_job_changes_before_the_eyes() -> None:
    """From running to its pictures, without loading the page or any picture a second time."""
    with Sandbox(job_seconds=math.inf) as sandbox:
        early = create(sandbox, aspect_ratio="16:9")
        sandbox.finish()
        with opened(sandbox.base_url) as shown:
            page = shown.page
            page.evaluate("window.first = document.querySelector('img'); 0")
            late = create(sandbox, aspect_ratio="3:2", num_images=2)
            card = page.locator(f"#job-{late}")
            card.locator("svg").nth(1).wait_for()
            assert card.get_attribute("data-state") == "pending"
            place = card.locator("svg").first.bounding_box()
            sandbox.finish(late)
            card.locator("img").nth(1).wait_for()
            assert card.get_attribute("data-state") == "succeeded"
            assert page.locator("[data-text=counts]").text_content() == (
                "2 jobs: 0 running, 2 succeeded, 0 failed"
            )
            assert card.locator("img").first.bounding_box() == pytest.approx(place, abs=3)
            ids = page.locator(".job").evaluate_all("all => all.map(card => card.id)")
            assert ids == [f"job-{late}", f"job-{early}"]
            assert [picture.width for picture in shown.pictures()] == [SIZES["3:2"][0]] * 2 + [
                SIZES["16:9"][0]
            ]
            assert page.evaluate("first.isConnected && first === [...document.images].at(-1)")
            loaded = [url for url in shown.requests if not url.endswith("/page.json")]
            assert len(loaded) == len(set(loaded))
            shown.assert_nothing_left_loopback()
            shown.assert_no_errors()


def test_pictures_are_real_and_shown_small() -> None:
    """About a megapixel in the asked ratio, in a row of one height."""
    with Sandbox(job_seconds=0) as sandbox:
        for ratio in SIZES:
            create(sandbox, prompt=ratio, aspect_ratio=ratio, performance="schnell")
        with opened(sandbox.base_url) as shown:
            pictures = {picture.alt: picture for picture in shown.pictures()}
            assert set(pictures) == set(SIZES)
            for ratio, picture in pictures.items():
                wide, high = (int(part) for part in ratio.split(":"))
                assert picture.complete
                assert picture.width * picture.height == pytest.approx(1_000_000, rel=0.1)
                assert picture.width / picture.height == pytest.approx(wide / high, rel=0.02)
                assert picture.shown_height <= THUMBNAIL_PX_MAX
                shown_ratio = picture.shown_width / picture.shown_height
                assert shown_ratio == pytest.approx(wide / high, rel=0.05)
            shown.assert_nothing_left_loopback()
            shown.assert_no_errors()


def test_only_pictures_near_the_eye_are_drawn() -> None:
    """A hundred jobs are a hundred drawings, which nobody has asked for yet."""
    with Sandbox(job_seconds=0) as sandbox:
        for number in range(120):
            create(sandbox, f"job {number}", performance="schnell")
        with opened(sandbox.base_url) as shown:
            shown.page.wait_for_load_state("networkidle")
            assert shown.page.locator(".job").count() == 100
            assert "The newest 100 are shown." in (
                shown.page.locator("header").text_content() or ""
            )
            drawn = [url for url in shown.requests if url.endswith(".png?page")]
            assert 0 < len(drawn) < 60
            newest = create(sandbox)
            shown.page.locator(f"#job-{newest}").wait_for()
            assert shown.page.locator(".job").count() == 100


def test_it_says_when_the_sandbox_has_stopped_and_recovers() -> None:
    """With what was last seen; pictures that failed meanwhile are fetched again."""
    sandbox = Sandbox(job_seconds=0)
    with sandbox:
        for _ in range(30):
            create(sandbox, performance="schnell")
        with opened(sandbox.base_url) as shown:
            notice, jobs = shown.page.locator("#stopped"), shown.page.locator(".job")
            first = shown.page.locator("img").last
            shown.page.locator("img").nth(0).evaluate("image => image.decode()")
            assert notice.is_hidden()
            sandbox.stop()
            notice.wait_for()
            assert "has stopped" in (notice.text_content() or "")
            assert jobs.count() == 30
            first.scroll_into_view_if_needed()
            first.evaluate("image => image.decode().catch(() => {})")
            assert first.evaluate("image => image.naturalWidth") == 0
            sandbox.start()
            notice.wait_for(state="hidden")
            create(sandbox)
            jobs.nth(30).wait_for()
            first.evaluate("image => image.decode()")
            assert first.evaluate("image => image.naturalWidth") == SIZES["1:1"][0]
            assert shown.page_errors == []


def test_nobody_looks_nobody_asks() -> None:
    """A tab in the background is no reason to work."""
    with Sandbox(job_seconds=0) as sandbox, opened("about:blank") as shown:
        page = shown.page
        page.clock.install()
        page.goto(sandbox.base_url)

        page.evaluate("Object.defineProperty(document, 'hidden', {value: false, writable: true})")

        def turn(hidden: str) -> None:
            page.evaluate(
                f"document.hidden = {hidden}; document.dispatchEvent(new Event('visibilitychange'))"
            )

        for _ in range(2):
            with page.expect_request("**/page.json"):
                pass
        turn("true")
        before = len(shown.requests)
        for _ in range(10):
            page.clock.run_for(1_000)
        assert shown.requests[before:] == []
        with page.expect_request("**/page.json"):
            turn("false")
        with page.expect_request("**/page.json"):
            pass


def test_it_follows_the_colour_scheme_and_the_width() -> None:
    """Dark at night, and no sideways scrolling on a phone."""
    with Sandbox(job_seconds=0) as sandbox:
        create(sandbox, "unbroken" * 300, aspect_ratio="21:9")
        create(sandbox, "many", aspect_ratio="16:9", num_images=8)
        with opened(sandbox.base_url) as light:
            assert min(background(light.page)) > 200
        with opened(sandbox.base_url, color_scheme="dark", width=320) as dark:
            assert max(background(dark.page)) < 60
            assert dark.page.evaluate("document.documentElement.scrollWidth") == 320
            wide = dark.page.locator(".prompt, dd").evaluate_all(
                "all => all.filter(one => one.scrollWidth > one.clientWidth).length"
            )
            assert wide == 0
            dark.assert_no_errors()


def test_without_its_script_it_still_shows_the_jobs() -> None:
    """And says that it does not follow them."""
    with Sandbox(job_seconds=0) as sandbox:
        job_id = create(sandbox, "seen without a script")
        with opened(sandbox.base_url, javascript=False) as shown:
            text = shown.page.content()
            assert "load it again" in text
            assert f'id="job-{job_id}"' in text
            assert "seen without a script" in text
