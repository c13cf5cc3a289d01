"""Pictures of the service's page, taken in Chromium: python docs/service_screenshots.py

Writes docs/images/service-forecast.png, service-error.png and service-phone.png. Needs the extras
`serve` and `dev`, and Chromium.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs/images"
BIRTHS = ROOT / "examples/us_births_daily.csv"
BAD = b"date,visitors\n2024-01-01,141\n2024-01-02,1.203,5\n2024-01-03,138\n"


def take(page: Any, name: str) -> None:
    page.mouse.move(0, 0)
    page.wait_for_timeout(400)  # until nothing fades any more
    page.screenshot(path=IMAGES / name, full_page=True)


def main() -> None:
    """Take the pictures."""
    server = subprocess.Popen(
        [sys.executable, "-m", "laglite", "serve", "--model", "base", "--model", "nano",
         "--port", "0"],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    found = re.search(r"at (http://\S+)", server.stderr.readline())
    assert found is not None
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 700})
        page.goto(found[1])
        page.set_input_files("#file", BIRTHS)
        page.locator("#status", has_text="24 steps").wait_for()
        page.fill("#horizon", "28")
        page.locator("#status", has_text="28 steps").wait_for()
        page.focus("#chart")
        for _ in range(12):
            page.keyboard.press("ArrowRight")
        page.evaluate("document.activeElement.blur()")
        take(page, "service-forecast.png")
        page.reload()
        file = {"name": "visitors.csv", "mimeType": "text/csv", "buffer": BAD}
        page.set_input_files("#file", files=[file])
        page.wait_for_selector("#error:not([hidden])")
        take(page, "service-error.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
        phone.goto(found[1])
        phone.click("#example")
        phone.locator("#status", has_text="24 steps").wait_for()
        take(phone, "service-phone.png")
        browser.close()
    server.terminate()
    server.wait()


if __name__ == "__main__":
    main()
