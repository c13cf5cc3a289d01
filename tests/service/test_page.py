"""The page in a real browser: a table dropped, a chart drawn, a result taken along."""

from __future__ import annotations

import contextlib
import csv
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from laglite import Forecaster
from laglite.service.page import document
from tests.service.conftest import PATIENCE, Serve

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
in_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed (apt-get install chromium)"
)
BIRTHS = Path(__file__).parents[2] / "examples/us_births_daily.csv"
LAST = 120  # rows of it
OUTER = "path.band-outer"
DROP = """([name, text]) => {
    const held = new DataTransfer();
    held.items.add(new File([text], name, {type: "text/csv"}));
    return held;
}"""
VIOLATION = """async (url) => {
    const said = new Promise((resolve) =>
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.blockedURI)));
    document.body.append(Object.assign(new Image(), {src: url}));
    return said;
}"""
OpenPage = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium that can reach nothing but loopback."""
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
        )


@pytest.fixture
def open_page(browser: Any, serve: Serve) -> Iterator[OpenPage]:
    """Pages of services; at the end nothing may have been asked of others, or gone wrong."""
    pages: list[tuple[Any, str, list[str], list[str]]] = []

    def start(url: str | None = None, **view: Any) -> Any:
        url = serve().url if url is None else url
        page = browser.new_page(**view)
        page.set_default_timeout(1000 * PATIENCE)
        requests: list[str] = []
        faults: list[str] = []
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(url)
        pages.append((page, url, requests, faults))
        return page

    yield start
    for page, url, requests, faults in pages:
        page.close()
        assert requests
        assert [one for one in requests if not one.startswith((url, "data:", "blob:"))] == []
        assert faults == []


@pytest.fixture(scope="module")
def births() -> str:
    """The end of the example's table."""
    header, *rows = BIRTHS.read_text().splitlines(keepends=True)
    return header + "".join(rows[-LAST:])


def drop(page: Any, name: str, text: str) -> None:
    held = page.evaluate_handle(DROP, [name, text])
    page.dispatch_event("#drop", "drop", {"dataTransfer": held})


def wait_for_forecast(page: Any, status: str) -> None:
    page.locator("#status", has_text=status).wait_for()


def hold(page: Any, requests: str, held: list[Any]) -> None:
    """Keep these requests from the service until they are told to go on."""

    def keep(route: Any) -> None:  # the driver takes functions of Python alone
        held.append(route)

    page.route(requests, keep)


def wait_for(page: Any, condition: Callable[[], bool]) -> None:
    """Wait while the page goes on."""
    for _ in range(int(10 * PATIENCE)):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError


def saved(page: Any, button: str) -> tuple[str, list[dict[str, str]]]:
    with page.expect_download() as download:
        page.click(button)
    text = Path(download.value.path()).read_text()
    return download.value.suggested_filename, list(csv.DictReader(io.StringIO(text)))


@in_chromium
def test_a_dropped_csv_is_drawn_and_its_forecast_downloaded(
    open_page: OpenPage, births: str, nano: Forecaster
) -> None:
    page = open_page()
    drop(page, "births.csv", births)
    wait_for_forecast(page, "24 steps by nano")
    assert page.inner_text("#result-title") == "births.csv"
    assert "columns: time 'date', target 'births'" in page.inner_text("#notes")
    for drawn in (".line-history", ".line-median", OUTER, ".band-inner"):
        assert page.locator(f"#chart {drawn}").count() == 1
    before = page.get_attribute(OUTER, "d")
    page.fill("#horizon", "7")
    wait_for_forecast(page, "7 steps by nano")
    assert page.get_attribute(OUTER, "d") != before
    page.select_option("#interval", "90")
    page.locator("#outer-legend", has_text="90 %").wait_for()
    name, rows = saved(page, "#download")
    assert name == "births-forecast.csv"

    values = np.loadtxt(io.StringIO(births), delimiter=",", skiprows=1, usecols=1)
    first = births.splitlines()[1].partition(",")[0]
    expected = nano.predict(values, horizon=7, start=first, freq="D", seed=1)
    assert expected.index is not None
    assert [row["ds"] for row in rows] == [str(time)[:10] for time in expected.index]
    assert list(rows[0]) == ["ds", "mean", "0.05", "0.25", "0.5", "0.75", "0.95"]
    mean = np.float32([row["mean"] for row in rows])
    np.testing.assert_array_equal(mean, expected.mean)
    for level in ("0.05", "0.5", "0.95"):
        found = np.float32([row[level] for row in rows])
        np.testing.assert_array_equal(found, expected.quantile(level))
    assert page.locator("#table tbody tr").count() == 7


@in_chromium
def test_the_model_can_be_changed(
    open_page: OpenPage, serve: Serve, births: str, nano: Forecaster, tiny: Forecaster
) -> None:
    page = open_page(serve({"nano": nano, "tiny": tiny}).url)
    drop(page, "births.csv", births)
    wait_for_forecast(page, "by nano")
    page.select_option("#model", "tiny")
    wait_for_forecast(page, "by tiny")
    _, rows = saved(page, "#download")
    values = np.loadtxt(io.StringIO(births), delimiter=",", skiprows=1, usecols=1)
    first = births.splitlines()[1].partition(",")[0]
    expected = tiny.predict(values, horizon=24, start=first, freq="D", seed=1)
    np.testing.assert_array_equal(np.float32([row["mean"] for row in rows]), expected.mean)


@in_chromium
@pytest.mark.parametrize(
    ("table", "title", "detail"),
    [
        ("date,births\n2024-01-01,10\n2024-01-02,ten\n", "cannot be forecast",
         "bad.csv, row 3, column 'births': 'ten' is not a number"),
        ("date,births\n2024-01-01,10\n2024-01-02,11,12\n", "cannot be forecast",
         "bad.csv, row 3: 3 cells where the header has 2"),
        ("date,a,b,c\n2024-01-01,1,2,x\n2024-01-02,3,4,y\n", "cannot be forecast",
         "choose with target_column"),
        ("", "cannot be forecast", "bad.csv: the file is empty"),
        ("x" * 2000, "too large", "bad.csv has 2,000 bytes; this service takes 1,500"),
    ],
)  # fmt: skip
def test_a_bad_csv_is_explained_and_a_good_one_after_it_forecast(
    open_page: OpenPage, serve: Serve, table: str, title: str, detail: str
) -> None:
    page = open_page(serve(body=1500).url)
    drop(page, "bad.csv", table)
    page.wait_for_selector("#error:not([hidden])")
    assert title in page.inner_text("#error strong")
    assert detail in page.inner_text("#error")
    assert page.is_hidden("#result")
    drop(page, "good.csv", "\n".join("123234345456"))
    wait_for_forecast(page, "24 steps")
    assert page.is_hidden("#error")
    assert page.locator(".line-median").count() == 1


@in_chromium
def test_of_two_tables_the_later_one_is_shown_though_its_answer_comes_first(
    open_page: OpenPage,
) -> None:
    page = open_page()
    held: list[Any] = []
    hold(page, "**/table?name=first*", held)
    drop(page, "first.csv", "\n".join("111222333444"))
    wait_for(page, lambda: len(held) == 1)
    drop(page, "second.csv", "\n".join("123234345456"))
    wait_for_forecast(page, "24 steps")
    with contextlib.suppress(playwright.Error):  # the page no longer asks for it
        held[0].continue_()
    page.wait_for_timeout(300)
    assert page.inner_text("#result-title") == "second.csv"
    label = str(page.get_attribute("#chart", "aria-label"))
    assert label.startswith("Fan chart of second.csv")
    page.select_option("#interval", "90")
    page.locator("#outer-legend", has_text="90 %").wait_for()
    assert page.inner_text("#result-title") == "second.csv"
    page.focus("#chart")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#readout") == "value 2: 2"


@in_chromium
def test_a_forecast_that_comes_late_does_not_hide_what_is_wrong_with_the_next_table(
    open_page: OpenPage,
) -> None:
    page = open_page()
    held: list[Any] = []
    hold(page, "**/forecast", held)
    drop(page, "good.csv", "\n".join("123234345456"))
    wait_for(page, lambda: len(held) == 1)
    drop(page, "bad.csv", "")
    page.wait_for_selector("#error:not([hidden])")
    with contextlib.suppress(playwright.Error):
        held[0].continue_()
    page.wait_for_timeout(500)
    assert "bad.csv: the file is empty" in page.inner_text("#error")


@in_chromium
def test_a_series_that_cannot_be_forecast_leaves_no_chart_of_another(open_page: OpenPage) -> None:
    page = open_page()
    rows = [f"{name},{value}\n" for name, value in zip("aaaabbbb", "1234    ", strict=True)]
    drop(page, "two.csv", "".join(["id,y\n", *rows]))
    wait_for_forecast(page, "24 steps")
    page.select_option("#series", "1")
    page.wait_for_selector("#error:not([hidden])")
    assert "all 4 values are missing" in page.inner_text("#error")
    assert page.locator("#chart svg").count() == page.locator("#table tbody tr").count() == 0
    assert page.inner_text("#result-title") == "b"
    assert page.is_disabled("#download")
    page.select_option("#shown", "all")
    page.select_option("#series", "0")
    wait_for_forecast(page, "24 steps")
    assert page.inner_text("#result-title") == "a"
    assert page.locator("#chart svg").count() == 1


@in_chromium
@pytest.mark.parametrize("limit", [{"draws": 4800}, {"steps": 48}])  # two series at a time
def test_pasted_series_are_chosen_from_and_all_downloaded(
    open_page: OpenPage, serve: Serve, nano: Forecaster, limit: dict[str, int]
) -> None:
    page = open_page(serve(**limit).url)
    page.click("#paste summary")
    series = {name: 3.0 + np.arange(30) % (4 + place) for place, name in enumerate("abc")}
    lines = [f"{name},{value}\n" for name, values in series.items() for value in values]
    page.fill("#text", "".join(["id,y\n", *lines]))
    page.click("#use-text")
    wait_for_forecast(page, "24 steps")
    assert page.locator("#series option").all_inner_texts() == ["a", "b", "c"]
    page.select_option("#series", "2")
    page.locator("#result-title", has_text="c").wait_for()
    _, rows = saved(page, "#download-all")
    assert len(rows) == 3 * 24
    assert list(rows[0])[:3] == ["unique_id", "step", "mean"]
    for name, values in series.items():
        found = np.float32([row["mean"] for row in rows if row["unique_id"] == name])
        expected = nano.predict(values, horizon=24, seed=1)
        np.testing.assert_array_equal(found, expected.mean)


@in_chromium
def test_gaps_one_step_and_the_whole_history_are_drawn(open_page: OpenPage) -> None:
    page = open_page()
    times = np.datetime64("2024-03-01T00") + np.arange(100)
    rows = [f"{time},{step % 24}\n" for step, time in enumerate(times) if step not in (50, 51)]
    drop(page, "hours.csv", "".join(["ds,y\n", *rows]))
    wait_for_forecast(page, "24 steps")
    assert "2 timestamps are absent" in page.inner_text("#notes")
    assert page.locator(".line-history").count() == 2
    recent = page.get_attribute(".line-history >> nth=0", "d")
    page.select_option("#shown", "all")
    assert page.get_attribute(".line-history >> nth=0", "d") != recent
    page.select_option("#interval", "50")
    page.fill("#horizon", "1")
    wait_for_forecast(page, "1 step by")
    assert page.locator(OUTER).count() == 1
    assert page.locator(".band-inner").count() == 0
    page.fill("#horizon", "0")
    page.wait_for_timeout(400)
    assert page.inner_text("#status").startswith("1 step by")


@in_chromium
def test_the_page_works_by_keyboard_and_names_its_controls(open_page: OpenPage) -> None:
    page = open_page()
    page.focus("#example")
    page.keyboard.press("Enter")
    wait_for_forecast(page, "24 steps")
    page.focus("#chart")
    page.keyboard.press("End")
    assert page.inner_text("#readout").startswith("2024-07-24: ")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#readout").startswith("2024-07-23: ")
    page.keyboard.press("Escape")
    assert page.inner_text("#readout").strip() == ""
    assert "Fan chart of example: 182 values, then 24 steps" in str(
        page.get_attribute("#chart", "aria-label")
    )
    unnamed = "[...document.querySelectorAll('input, select, textarea')].filter(e => !e.labels[0])"
    assert page.evaluate(f"{unnamed}.length") == 0


@in_chromium
def test_a_phone_needs_no_sideways_scrolling(open_page: OpenPage) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    drop(page, f"{'long_name_' * 20}.csv", "\n".join("123234345456"))
    wait_for_forecast(page, "24 steps")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.evaluate("document.querySelector('#chart svg').clientWidth") <= 330


@in_chromium
def test_a_token_is_asked_for_and_then_used(open_page: OpenPage, serve: Serve) -> None:
    page = open_page(serve(token="s3cret").url)
    page.wait_for_selector("#token-row:not([hidden])")
    page.fill("#token", "wrong")
    page.keyboard.press("Enter")
    page.wait_for_selector("#error:not([hidden])")
    page.fill("#token", "s3cret")
    page.keyboard.press("Enter")
    page.wait_for_selector("#token-row", state="hidden")
    page.click("#example")
    wait_for_forecast(page, "24 steps")


@in_chromium
def test_the_policy_lets_nothing_come_from_elsewhere(browser: Any, serve: Serve) -> None:
    page = browser.new_page()
    page.goto(serve().url)
    blocked = page.evaluate(VIOLATION, "http://127.0.0.1:9/picture.png")
    page.close()
    assert blocked == "http://127.0.0.1:9/picture.png"


def test_the_page_is_one_document_that_names_no_other_host(client: httpx.Client) -> None:
    response = client.get("/")
    html, policy = document()
    assert response.text == html
    assert response.headers["content-security-policy"] == policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    own = html.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert "http://" not in own
    assert "https://" not in own
    assert "src=" not in own
