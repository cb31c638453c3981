"""A real browser without a window: Debian's Chromium, driven by its own driver."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clipcls.page.build import write_page
from clipcls.page.subject import Subject

LEVELS = {"SEVERE", "WARNING"}


class Browser:
    """One page in a browser.

    Attributes:
        driver: Selenium's.
        downloads: The folder of downloads.
    """

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver = driver
        self.downloads = downloads

    def open(self, page: Path, *, width: int = 1400, height: int = 900) -> None:
        """Open a page from disk."""
        self.resize(width, height)
        self.driver.get(page.as_uri())

    def resize(self, width: int, height: int) -> None:
        """Give the window another size; one that is no phone's has scrollbars that take room."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def ask(self, script: str, *arguments: object) -> Any:
        """Return what a script returns; it sees the names of the page's own scripts."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def all(self, selector: str) -> list[Any]:
        """Return the visible elements that a selector finds, once the page has come to rest."""
        # Tiles are replaced in the frame after whatever moves them, and would be stale then.
        self.driver.execute_async_script(
            "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
        )
        found = self.driver.find_elements("css selector", selector)
        return [element for element in found if element.is_displayed()]

    def one(self, selector: str) -> Any:
        """Return the only visible element that a selector finds."""
        [element] = self.all(selector)
        return element

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, wherever the focus is."""
        from selenium.webdriver import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()

    def wait(self, script: str) -> Any:
        """Wait until a script returns something true, and return it."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, 10).until(lambda _: self.ask(script))

    def downloaded(self, name: str) -> Path:
        """Click on the download and return the complete file."""
        from selenium.webdriver.support.ui import WebDriverWait

        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.one("#download").click()
        WebDriverWait(self.driver, 10).until(lambda _: path.exists())
        return path

    def complaints(self) -> list[str]:
        """Return errors and warnings of the console since the last time."""
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] in LEVELS]

    def addresses(self) -> set[str]:
        """Return the addresses of everything that was asked for since the last time."""
        events = [json.loads(e["message"])["message"] for e in self.driver.get_log("performance")]
        return {
            str(event["params"]["request"]["url"])
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        }


@pytest.fixture(scope="session")
def _driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Path]]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next(filter(None, map(shutil.which, names)), None)
    chromedriver = shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # As root, and with little shared memory, as in a container.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))
    yield driver, downloads
    driver.quit()


@pytest.fixture
def browser(_driver: tuple[Any, Path]) -> Iterator[Browser]:
    """A browser; a page that complains on the console, or asks for anything afar, fails."""
    browser = Browser(*_driver)
    browser.driver.get("about:blank")
    browser.complaints()
    browser.addresses()
    yield browser
    assert browser.complaints() == []
    schemes = {address.partition(":")[0] for address in browser.addresses()}
    assert schemes <= {"file", "data", "blob", "about"}


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Callable[..., Browser]:
    """Make the page of a subject and open it."""

    def call(subject: Subject, *, single_file: bool = False, width: int = 1400) -> Browser:
        made = write_page(subject, tmp_path / "report" / "index.html", single_file=single_file)
        browser.open(made.path, width=width)
        return browser

    return call
