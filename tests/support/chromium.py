"""A real headless browser, driven through the DevTools protocol: what a page asks for, says and looks like."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import PATIENCE_S, stop
from websockets.sync.client import ClientConnection, connect

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@dataclass
class Tab:
    """One page and everything that happened in it."""

    socket: ClientConnection
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    number: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE_S))
            self._note(message)
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]

    def open(self, url: str, *, width: int = 1280, dark: bool = False, settle_s: float = 0.5) -> None:
        """Load a page at a width, in a theme, and wait until it is still."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call("Page.navigate", url=url)
        deadline = time.monotonic() + PATIENCE_S
        while self.evaluate("document.readyState") != "complete" or self.evaluate("location.href") != url:
            assert time.monotonic() < deadline, f"{url} isn't loaded"
            time.sleep(0.1)
        time.sleep(settle_s)
        self.evaluate("0")

    def evaluate(self, expression: str) -> Any:
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def screenshot(self, path: Path, *, full: bool = True) -> None:
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=full)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        content = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(content["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(content["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if content["type"] in ("error", "warning"):
                self.complaints.append(str(content["args"]))
            case "Log.entryAdded" if content["entry"]["level"] in ("error", "warning"):
                self.complaints.append(content["entry"]["text"])


@contextlib.contextmanager
def browser_tab(profile: Path) -> Iterator[Tab]:
    """Start a browser with a profile of its own, and give its first page."""
    program = shutil.which("chromium")
    assert program is not None, "the test says that it needs chromium"
    log = (profile.parent / "chromium.log").open("wb")
    command = [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        with connect(_page_address(profile, browser), max_size=None) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Network", "Runtime", "Log"):
                tab.call(f"{domain}.enable")
            yield tab
    finally:
        stop(browser)
        log.close()


def _page_address(profile: Path, browser: subprocess.Popen[bytes]) -> str:
    """The first page's socket, from the port that the browser chose."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert browser.poll() is None, (profile.parent / "chromium.log").read_text(errors="replace")[-2000:]
        with contextlib.suppress(OSError, ValueError, StopIteration):
            port, path = (profile / "DevToolsActivePort").read_text().split()
            with connect(f"ws://127.0.0.1:{port}{path}") as root:
                root.send(json.dumps({"id": 1, "method": "Target.getTargets"}))
                targets = json.loads(root.recv(timeout=60))["result"]["targetInfos"]
            page = next(target for target in targets if target["type"] == "page")
            return f"ws://127.0.0.1:{port}/devtools/page/{page['targetId']}"
        time.sleep(0.2)
    raise AssertionError(f"the browser didn't open its port: {(profile.parent / 'chromium.log').read_text()[-2000:]}")
