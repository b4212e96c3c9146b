"""Chromium without a window, for the tests of the HTML report and for the README's screenshots."""

from __future__ import annotations

import shutil
from pathlib import Path

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
MISSING = "no chromium with chromedriver on this machine (Debian: apt-get install chromium chromium-driver)"
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
          "--disable-component-update", "--disable-sync", "--hide-scrollbars")  # fmt: skip


def open_browser(profile: Path, downloads: Path, width: int = 1440, height: int = 1200):
    """A selenium driver with a window of `width` x `height` pixels; its console messages and requests are logged."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    resize(driver, width, height)
    return driver


def resize(driver, width: int, height: int) -> None:
    """Tell the page that the screen has this size. (A real window cannot be narrower than 500 pixels.)"""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


def settle(driver, seconds: float = 0.4) -> None:
    """Wait until the page has drawn."""
    driver.execute_async_script("setTimeout(arguments[1], 1000 * arguments[0])", seconds)
