"""A real headless Chromium for the console's tests, with what a person does in it."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PASSWORD = "correct horse battery"
PATIENCE_SECONDS = 120
NAMES = ("/usr/bin/chromium", "/usr/bin/chromedriver")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)  # fmt: skip
_GONE = (NoSuchElementException, StaleElementReferenceException)  # the page was drawn anew meanwhile: look again
ELSEWHERE_IS_FINE = ("data:", "blob:", "about:")


class Browser:
    """One browser window and what a person does in it. `url` is where the service is."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, path: str) -> None:
        """Go to a page of the console and wait until it has a headline."""
        self.driver.get(f"{self.url}/console{path}")
        self.see("h1")

    def see(self, css: str, text: str = "", among: Callable[[WebElement], bool] | None = None) -> WebElement:
        """The first visible element of this kind, with this text, once there is one."""

        def found(driver: webdriver.Chrome) -> Any:
            for one in driver.find_elements(By.CSS_SELECTOR, css):
                if one.is_displayed() and text in one.text and (among is None or among(one)):
                    return one
            return False

        said = f"no {css!r} with {text!r} at {self.driver.current_url}"
        return WebDriverWait(self.driver, PATIENCE_SECONDS, ignored_exceptions=_GONE).until(found, said)

    def all(self, css: str) -> list[WebElement]:
        """Every element of this kind."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def until(self, good: Callable[[], Any], said: str) -> Any:
        """Wait until something holds."""
        return WebDriverWait(self.driver, PATIENCE_SECONDS, ignored_exceptions=_GONE).until(lambda _: good(), said)

    def write(self, **fields: str) -> None:
        """Fill in fields by their name."""
        for name, value in fields.items():
            box = self.see(f"[name={name}]")
            box.clear()
            box.send_keys(value)

    def press(self, text: str) -> None:
        """Press the button or follow the link of these words."""
        self.see("button, a.button", text).click()

    def key(self, keys: str) -> None:
        """Press keys where nothing is being written."""
        self.driver.find_element(By.TAG_NAME, "body").send_keys(keys)

    def drop(self, css: str, *paths: Path) -> None:
        """Drag files from the desktop onto an element, as the browser's own input does it."""
        box = self.see(css).rect
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.driver.execute_cdp_cmd("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})

    def sign_up(self, name: str, user_name: str) -> None:
        """Make an account; ends on the first page, logged in."""
        self.open("/sign-up")
        self.write(name=name, email=f"{user_name}@example.org", user_name=user_name, password=PASSWORD)
        self.press("Make my account")
        self.see(".drop")

    def log_in(self, user_name: str) -> None:
        """Log in; ends on the first page."""
        self.open("/log-in")
        self.write(user_name=user_name, password=PASSWORD)
        self.press("Log in")
        self.see(".drop")

    def look(self, dark: bool = False, wide_px: int = 1280) -> None:
        """Set light or dark, and the width of the screen."""
        wanted = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}  # axe would measure colours on their way
        features = [{"name": name, "value": value} for name, value in wanted.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        screen = {"width": wide_px, "height": 844, "deviceScaleFactor": 1, "mobile": wide_px < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def reached(self, yes: bool) -> None:
        """Let what the page asks for reach the service, or not."""
        self.driver.execute_cdp_cmd("Network.enable", {})
        self.driver.execute_cdp_cmd("Network.emulateNetworkConditions", {"offline": not yes, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})

    def axe(self) -> list[dict[str, Any]]:
        """What axe-core finds wrong with the page as it stands: impact, rule, and the elements."""
        import axe_core_python

        self.driver.execute_script((Path(axe_core_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
        found = self.driver.execute_async_script(
            "const done = arguments[0];axe.run(document, {resultTypes: ['violations']}).then(done, (problem) => done({failed: String(problem)}))"
        )
        assert "failed" not in found, found
        rows = [(row["impact"], row["id"], [str(node["target"]) for node in row["nodes"]]) for row in found["violations"]]
        return [{"impact": impact, "rule": rule, "where": where} for impact, rule, where in rows]

    def asked_for(self) -> list[str]:
        """Every address that the page has asked for since the last look."""
        events = [json.loads(row["message"])["message"] for row in self.driver.get_log("performance")]
        return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]

    def foreign(self) -> list[str]:
        """Those of them that are on other hosts."""
        return [url for url in self.asked_for() if not url.startswith((self.url, *ELSEWHERE_IS_FINE))]


@contextmanager
def browser(url: str) -> Iterator[Browser]:
    """A fresh browser, closed afterwards. The test is skipped where there is no Chromium."""
    found = [shutil.which(Path(name).name) or name for name in NAMES]
    if not all(Path(name).exists() for name in found):
        pytest.skip("no Chromium: install chromium and chromium-driver")
    options = Options()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = found[0]
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver(found[1]))
    try:
        driver.set_page_load_timeout(PATIENCE_SECONDS)
        driver.set_script_timeout(PATIENCE_SECONDS)
        yield Browser(driver, url)
    finally:
        driver.quit()
