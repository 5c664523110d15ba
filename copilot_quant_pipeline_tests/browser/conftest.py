"""Dagit as a user has it: `copilot-quant ui` on a home where some cells failed, and a browser that looks at it."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    ElementNotInteractableException,
    NoSuchElementException,
    StaleElementReferenceException,
    TimeoutException,
)
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from copilot_quant_pipeline.sandbox import Sandbox
from copilot_quant_pipeline.settings import Settings
from copilot_quant_pipeline_tests.cli.conftest import Desk, open_desk
from copilot_quant_pipeline_tests.conftest import NOW

# Seconds anything may take on a busy machine; nothing waits longer than it must.
PATIENCE = 120

QUIET = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "disable-dev-shm-usage",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
    "no-first-run",
    "window-size=1600,1100",
    # Another site, whose name leads to this machine, as one does that an attacker has a name server for.
    "host-resolver-rules=MAP evil.example 127.0.0.1",
)

COVERED = (ElementClickInterceptedException, ElementNotInteractableException)

LOCATIONS = (
    "{ workspaceOrError { ... on Workspace { locationEntries { loadStatus locationOrLoadError { __typename } } } } }"
)


@dataclass(frozen=True)
class Page:
    """What a browser shows of Dagit at `address`."""

    browser: webdriver.Chrome
    address: str

    def open(self, path: str) -> None:
        self.browser.get(f"{self.address}{path}")

    def text(self) -> str:
        return self.browser.find_element(By.TAG_NAME, "body").text

    def until(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `holds` gives once it gives anything; what it looks for may not be there yet, or be covered."""
        passing = (NoSuchElementException, StaleElementReferenceException, *COVERED)
        return WebDriverWait(self.browser, seconds, 0.1, passing).until(lambda _: holds())

    def shows(self, *words: str, reload: bool = False) -> None:
        """Wait until the page holds all of `words`; Dagit looks for news every half a minute, or on a `reload`."""
        asked = time.monotonic()

        def holds() -> bool:
            nonlocal asked
            if all(word in self.text() for word in words):
                return True
            if reload and time.monotonic() > asked + 10:
                asked = time.monotonic()
                self.browser.refresh()
            return False

        try:
            self.until(holds)
        except TimeoutException:
            raise AssertionError(f"{words} did not come; the page says:\n{self.text()}") from None

    def element(self, xpath: str) -> WebElement:
        """The first element of that path, once it is there."""
        found = self.until(lambda: self.browser.find_element(By.XPATH, xpath))
        assert isinstance(found, WebElement)
        return found

    def press(self, xpath: str) -> None:
        """Press the button of that path, once it is there and can be pressed."""

        def pressed() -> bool:
            button = self.browser.find_element(By.XPATH, xpath)
            if not button.is_enabled():
                return False
            button.click()
            return True

        self.until(pressed)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        message = "chromium and chromedriver are not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*QUIET, f"user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(f"--{switch}")
    # With both paths given selenium looks for neither, and downloads none.
    with webdriver.Chrome(options, Service(driver)) as chrome:
        yield chrome


@pytest.fixture(autouse=True)
def no_page_stays_open(browser: webdriver.Chrome) -> Iterator[None]:
    """An open page of Dagit's goes on asking and drawing, for as long as the browser lives."""
    yield
    browser.get("about:blank")


@pytest.fixture(scope="module")
def dagit(browser: webdriver.Chrome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Page]]:
    """A home with three symbols, of which two sessions are lost and one symbol is unknown, in Dagit."""
    home: Path = tmp_path_factory.mktemp("browser") / "home"
    settings = Settings(home=home, equities_start=date(2024, 3, 18), markets_start=date(2024, 3, 27), pinned_now=NOW)
    with Sandbox(now=NOW) as venues, open_desk(settings, venues) as desk:
        # With a market on the axis the sensors have nothing to ask for while the browser looks.
        assert desk.run("backfill", "markets", "--venue", "kalshi", "--limit", "1").code == 0
        venues.fault("lost_session", symbol="AAPL", dates=["2024-03-26", "2024-03-27"])
        assert desk.run("backfill", "equities", "--symbols", "AAPL,BRK.B,NOPE", "--start", "2024-03-25").code == 1
        venues.clear_faults()
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            port = free.getsockname()[1]
        process = desk.start("ui", "--port", str(port))
        page = Page(browser, f"http://127.0.0.1:{port}")
        try:
            while not _is_loaded(page.address):
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
            yield desk, page
        finally:
            started = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.communicate(timeout=PATIENCE)
            psutil.wait_procs(started, timeout=PATIENCE)


@pytest.fixture
def desk(dagit: tuple[Desk, Page]) -> Desk:
    return dagit[0]


@pytest.fixture
def page(dagit: tuple[Desk, Page]) -> Page:
    return dagit[1]


def _is_loaded(address: str) -> bool:
    try:
        answer = requests.post(f"{address}/graphql", json={"query": LOCATIONS}, timeout=10).json()
    except requests.RequestException:
        return False
    entries = answer["data"]["workspaceOrError"]["locationEntries"]
    return [entry["locationOrLoadError"]["__typename"] for entry in entries if entry["loadStatus"] == "LOADED"] == [
        "RepositoryLocation"
    ]
