"""A headless Chromium, spoken to over its debugging pipe: no library, no port."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OPTIONS = (
    *("--headless", "--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--no-default-browser-check", "--disable-background-networking", "--disable-extensions"),
    "--no-sandbox",  # root, as containers are, may not have one; only pages of our own are opened
)


def chromium() -> str | None:
    """The browser on this machine; None: there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One browser with one page."""

    def __init__(self, profile: Path) -> None:
        told, hear = os.pipe(), os.pipe()
        # the browser reads its orders from descriptor 3 and answers on 4
        command = f'exec "$0" "$@" 3<&{told[0]} 4>&{hear[1]}'
        options = (*OPTIONS, f"--user-data-dir={profile}", "about:blank")
        program = chromium()
        assert program is not None
        self._process = subprocess.Popen(
            ["bash", "-c", command, program, *options],
            pass_fds=(told[0], hear[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told[0])
        os.close(hear[1])
        self._tell, self._hear, self._left = os.fdopen(told[1], "wb"), hear[0], b""
        self._number, self._session = 0, ""
        self.events: list[dict[str, Any]] = []
        page = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._tell.close()  # it ends when nobody speaks to it any more
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._hear)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to an order; what else is heard meanwhile is kept in `events`."""
        self._number += 1
        order: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            order["sessionId"] = self._session
        self._tell.write(json.dumps(order).encode() + b"\0")
        self._tell.flush()
        while (message := self._next()).get("id") != self._number:
            self.events.append(message)
        assert "error" not in message, message
        answer: dict[str, Any] = message["result"]
        return answer

    def open(self, file: Path, width: int) -> None:
        """Loads a page at a width and waits until all of it is there; `events` begin with it."""
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=file.absolute().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())
        self.value("document.fonts.ready.then(() => true)")

    def value(self, script: str) -> Any:
        """What a script comes to."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self, box: dict[str, float] | None = None) -> bytes:
        """The whole page, or a box of it (x, y, width, height), as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**(box or size), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def _next(self) -> dict[str, Any]:
        """The next message."""
        while b"\0" not in self._left:
            part = os.read(self._hear, 1 << 20)
            assert part, "the browser has gone"
            self._left += part
        message, _, self._left = self._left.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard
