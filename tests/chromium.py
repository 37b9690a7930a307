"""Debian's Chromium without a window, driven over its DevTools protocol on a pair of pipes.

What this does not guarantee: anything about other browsers.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from select import select
from types import TracebackType
from typing import Any, Self

from electctl.base.clock import now

_DEADLINE = 30.0
#: Key → what the protocol calls it, where that is not its own text.
_CODES = {
    "ArrowLeft": 37,
    "ArrowUp": 38,
    "ArrowRight": 39,
    "ArrowDown": 40,
    "Enter": 13,
    "Escape": 27,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "Tab": 9,
}


class Chromium:
    """One browser with one page. A context manager."""

    def __init__(self) -> None:
        program = shutil.which("chromium")
        assert program, "make servers installs chromium"
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        # The protocol is on the descriptors 3 and 4 of the browser. (dash knows none above 9.)
        switch = f"exec 3<&{theirs_in} 4>&{theirs_out}"
        options = " ".join(
            (
                "--headless=new --no-sandbox --disable-gpu --remote-debugging-pipe",
                "--hide-scrollbars --no-first-run --disable-background-networking",
                "--disable-dev-shm-usage",
                f"--user-data-dir={self._profile} about:blank",
            )
        )
        self._process = subprocess.Popen(
            ["bash", "-c", f"{switch}; exec {program} {options}"],
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "HOME": self._profile},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        #: What the page said on the console, errors that nobody caught among it.
        self.console: list[str] = []
        #: Every address that the page asked for.
        self.requests: list[str] = []
        self._loaded = 0
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _attach(self) -> None:
        (page,) = [
            target
            for target in self._call("Target.getTargets")["targetInfos"]
            if target["type"] == "page"
        ]
        attached = self._call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        self._call("Performance.enable", timeDomain="threadTicks")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and remove what it kept."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        finally:
            self._process.wait()
            os.close(self._in)
            os.close(self._out)
            shutil.rmtree(self._profile, ignore_errors=True)

    # The protocol -------------------------------------------------------------------------------

    def _call(self, method: str, **params: Any) -> Any:
        self._last += 1
        message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        sent = json.dumps(message).encode() + b"\0"
        while sent:
            sent = sent[os.write(self._out, sent) :]
        mine = self._last
        answer = self._read(lambda got: got.get("id") == mine)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _read(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that is ``wanted``; events on the way are noted."""
        end = now() + _DEADLINE
        while True:
            while b"\0" not in self._buffer:
                ready, _, _ = select([self._in], [], [], max(0.0, end - now()))
                assert ready, "chromium does not answer"
                got = os.read(self._in, 1 << 20)
                assert got, "chromium has gone"
                self._buffer += got
            raw, _, self._buffer = self._buffer.partition(b"\0")
            message: dict[str, Any] = json.loads(raw)
            self._note(message)
            if wanted(message):
                return message

    def _note(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                self.console.append(str([arg.get("value") for arg in params["args"]]))
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.console.append(details.get("exception", details).get("description", ""))
            case "Log.entryAdded":
                self.console.append(params["entry"]["text"])
            case "Page.loadEventFired":
                self._loaded += 1

    # What a reader does ---------------------------------------------------------------------------

    def open(self, path: Path, fragment: str = "") -> None:
        """Load a file from the disk anew, and wait until it has loaded."""
        self._navigate("about:blank")
        self.console.clear()
        self.requests.clear()
        self._navigate(path.as_uri() + fragment)

    def _navigate(self, url: str) -> None:
        before = self._loaded
        self._call("Page.navigate", url=url)
        while self._loaded == before:
            self._read(lambda got: got.get("method") == "Page.loadEventFired")

    def size(self, width: int, height: int) -> None:
        """Of the window, in CSS pixels."""
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def scheme(self, name: str, media: str = "") -> None:
        """What the system prefers, ``light`` or ``dark``; ``media`` may be ``print``."""
        features = [{"name": "prefers-color-scheme", "value": name}]
        self._call("Emulation.setEmulatedMedia", media=media, features=features)

    def eval(self, script: str) -> Any:
        """The value of a script in the page; a promise is awaited."""
        done = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def press(self, *keys: str) -> None:
        """Keys, one after the other, as from a keyboard."""
        for key in keys:
            code = _CODES.get(key, ord(key.upper()[0]))
            about = {"key": key, "windowsVirtualKeyCode": code}
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
            self._call("Input.dispatchKeyEvent", type="keyUp", **about)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """``mouseMoved``, ``mousePressed``, ``mouseReleased`` or ``mouseWheel`` at a place."""
        self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, selector: str) -> None:
        """The middle of the first element that fits, scrolled into view."""
        x, y = self.eval(
            f"(e => {{ e.scrollIntoView({{block: 'center', behavior: 'instant'}});"
            " const b = e.getBoundingClientRect();"
            f" return [b.x + b.width / 2, b.y + b.height / 2]; }})"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def spent(self) -> float:
        """Seconds of processor time since the page was opened: parsing, scripts, layout."""
        metrics = self._call("Performance.getMetrics")["metrics"]
        return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is seen, or the whole page, as PNG."""
        shot = self._call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def pdf(self) -> bytes:
        """The page as printed."""
        return base64.b64decode(self._call("Page.printToPDF", printBackground=True)["data"])
