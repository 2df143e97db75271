"""Debian's chromium, driven over its DevTools protocol: by two pipes: no port is opened, no client installed.

Each message is JSON, ended by a NUL byte (`--remote-debugging-pipe`).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PATIENCE = 60.0
_FLAGS = (
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests run as root, in containers
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-device-scale-factor=1",
    "--hide-scrollbars",
)
# The browser reads descriptor 3 and writes 4; the pipes that it is given may have any numbers.
_AS_3_AND_4 = """
import fcntl, os, sys
for number, given in zip((3, 4), [fcntl.fcntl(int(each), fcntl.F_DUPFD, 10) for each in sys.argv[1:3]]):
    os.dup2(given, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
PACKAGES = ("chromium", "poppler-utils", "fonts-dejavu-core")


class BrowserError(Exception):
    """The browser did not do as it was asked."""


def installed() -> str:
    """Return the path of chromium, installed by apt where it is not there and that may be.

    Raises:
        BrowserError: it is not there and cannot be installed.
    """
    if not shutil.which("chromium") or not shutil.which("pdftotext"):
        if os.geteuid() or not shutil.which("apt-get"):
            raise BrowserError(f"the tests of the page need Debian's packages {' '.join(PACKAGES)}: install them")
        for command in (("update",), ("install", "--yes", "--no-install-recommends", *PACKAGES)):
            done = subprocess.run(
                ("apt-get", "--quiet", *command),
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                capture_output=True,
                text=True,
                timeout=600,
                check=False,
            )
            if done.returncode:
                raise BrowserError(f"apt-get {command[0]}: {done.stderr[-2000:]}")
    found = shutil.which("chromium")
    if found is None:
        raise BrowserError("chromium was installed and is not on the PATH")
    return found


class Browser:
    """A tab of a running browser: `ask` sends a command and returns its result; what happens meanwhile is kept."""

    def __init__(self, process: subprocess.Popen[bytes], reading: int, writing: int) -> None:
        self._process = process
        self._reading = reading
        self._writing = writing
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log", "DOM", "Accessibility"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its result.

        Raises:
            BrowserError: it was refused, or not answered in time.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        content = json.dumps(message).encode() + b"\0"
        while content:
            content = content[os.write(self._writing, content) :]
        while True:
            told = self._next(method)
            if told.get("id") == self._number:
                if "error" in told:
                    raise BrowserError(f"{method}: {told['error']}")
                result: dict[str, Any] = told["result"]
                return result
            self.events.append(told)

    def open(self, url: str, *, scripts: bool = True) -> None:
        """Open a page, with or without its scripts, and wait until it is loaded and painted."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.events.clear()
        self.ask("Page.navigate", url=url)
        self.wait_for("Page.loadEventFired")
        if scripts:
            self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is painted."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def wait_for(self, method: str) -> dict[str, Any]:
        """Wait for an event of this kind, or return the one that came already."""
        for told in self.events:
            if told.get("method") == method:
                return told
        while True:
            told = self._next(method)
            self.events.append(told)
            if told.get("method") == method:
                return told

    def run(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives, as JSON carries it; a promise is waited for."""
        told = self.ask("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise BrowserError(json.dumps(told["exceptionDetails"])[:2000])
        return told["result"].get("value")

    def press(self, key: str, *, shift: bool = False) -> None:
        """Press a key: `Tab`, `Enter`, or another by its name."""
        codes = {"Tab": 9, "Enter": 13}
        common = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": 8 if shift else 0}
        text = {"text": "\r"} if key == "Enter" else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", **common, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **common)

    def resize(self, width: int, height: int) -> None:
        """Give the page this much room, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.ask("Emulation.setDeviceMetricsOverride", **size)

    def look(self, scheme: str = "light", media: str = "") -> None:
        """Prefer a colour scheme, and show pages as on a medium; by default as on the one that they are on."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.ask("Emulation.setEmulatedMedia", media=media, features=features)

    def screenshot(self, selector: str = "") -> bytes:
        """Return a PNG of what is on the screen, or of an element."""
        clip = {}
        if selector:
            box = self.run(
                f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                " return {x: b.x + scrollX, y: b.y + scrollY, width: b.width, height: b.height}; })()"
            )
            clip = {"clip": {**box, "scale": 1}, "captureBeyondViewport": True}
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png", **clip)["data"])

    def printed(self) -> bytes:
        """Return the page as PDF, on the paper that it asks for."""
        return base64.b64decode(self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def told(self, method: str) -> list[dict[str, Any]]:
        """Return what events of this kind have told since the page was opened."""
        return [one["params"] for one in self.events if one.get("method") == method]

    def _next(self, waited_for: str) -> dict[str, Any]:
        ends = time.monotonic() + _PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._reading], [], [], max(ends - time.monotonic(), 0))
            piece = os.read(self._reading, 1 << 20) if ready else b""
            if not piece:
                raise BrowserError(f"no answer to {waited_for} within {_PATIENCE:.0f} s (exit {self._process.poll()})")
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found


@contextmanager
def browser(width: int = 1280, height: int = 900) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    path = installed()
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        command = (path, *_FLAGS, f"--window-size={width},{height}", f"--user-data-dir={Path(folder) / 'profile'}")
        process = subprocess.Popen(
            (sys.executable, "-c", _AS_3_AND_4, str(to_browser), str(to_us), *command),
            pass_fds=(to_browser, to_us),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "DBUS_SESSION_BUS_ADDRESS": "disabled:", "TZ": "UTC"},
        )
        os.close(to_browser)
        os.close(to_us)
        try:
            yield Browser(process, from_browser, from_us)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.close(from_browser)
            os.close(from_us)
