"""Headless Chromium, driven by Selenium: what a page shows, says to its console, and asks the network for."""

import contextlib
import json
import re
import shutil

import pytest


@contextlib.contextmanager
def chromium(folder):
    """A browser with an empty profile in `folder`; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in (
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", "--hide-scrollbars", f"--user-data-dir={folder}"),
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        browser.get("about:blank")
        requests(browser)  # those of the page that it begins with
        yield browser
    finally:
        browser.quit()


def show(browser, path, *, width=1280, dark=False):
    """Open a file in a window of so many pixels."""
    resize(browser, width)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.get(path.resolve().as_uri())


def resize(browser, width, height=900):
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def complaints(browser):
    """What the console has said since it was asked last."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser):
    """Every address that was asked for since last time, pages' own `data:` left out."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def overflow(browser):
    """By how many pixels the page is wider than its window."""
    return browser.execute_script(
        "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def without_alt(browser):
    """Pictures that a screen reader cannot name."""
    return browser.execute_script(
        "return [...document.querySelectorAll('img:not([alt]), svg[role=img]:not([aria-label])')].length"
    )


def broken_images(browser):
    return browser.execute_script(
        "document.querySelectorAll('img').forEach(i => i.loading = 'eager');"
        "return Promise.all([...document.images].map(i => i.decode().then(() => 0, () => 1)))"
        ".then(found => found.reduce((a, b) => a + b, 0))"
    )


def colours(browser):
    """How light the text of a page and what it stands on are, each from 0 to 255."""
    script = "const style = getComputedStyle(document.body); return [style.color, style.backgroundColor]"
    return [sum(map(int, re.findall(r"\d+", color)[:3])) / 3 for color in browser.execute_script(script)]
