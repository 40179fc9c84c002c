"""A headless Chromium for tests, steered through a pipe by its DevTools protocol: no driver, no extra package."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--hide-scrollbars", "--host-resolver-rules=MAP elsewhere.example 127.0.0.1", "--remote-debugging-pipe",
)  # fmt: skip


def program() -> str | None:
    """Return the path of a Chromium on this machine that can be steered through a pipe, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None) if os.name == "posix" else None


class Chromium:
    """One browser with one open page.

    Attributes:
        complaints: what the page's console has shown as a warning or an error, refused content among them.
        requests: the address of everything that pages have asked for.
    """

    def __init__(self):
        import fcntl  # not on Windows, where `program` finds none

        self.folder = tempfile.mkdtemp(prefix="course-chromium-")
        (child_in, self.to), (self.back, child_out) = os.pipe(), os.pipe()

        def place_pipes():  # Chromium reads its orders from 3 and answers on 4
            # far above both: a copy that is number 3 or 4 itself would be overwritten, or closed when Chromium starts
            copies = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (child_in, child_out)]
            for copy, number in zip(copies, (3, 4)):
                os.dup2(copy, number)

        command = [program(), *OPTIONS, f"--user-data-dir={self.folder}", "about:blank"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "close_fds": False}
        self.process = subprocess.Popen(command, preexec_fn=place_pipes, **quiet)
        os.close(child_in), os.close(child_out)
        self.number, self.rest, self.session, self.complaints, self.requests = 0, b"", None, [], []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{part}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.to), os.close(self.back)  # Chromium ends when its pipe does
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def send(self, method: str, **parameters):
        """Give one order and return its result."""
        self.number += 1
        order = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            order["sessionId"] = self.session
        os.write(self.to, json.dumps(order).encode() + b"\0")
        while (message := self._message()).get("id") != self.number:
            self._note(message)
        if "error" in message:
            raise RuntimeError(f"{method}: {message['error']['message']}")
        return message["result"]

    def _message(self) -> dict:
        while b"\0" not in self.rest:
            part = os.read(self.back, 1 << 16)
            if not part:
                raise RuntimeError("Chromium ended by itself")
            self.rest += part
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def _note(self, message: dict) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])
        if method == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
            self.complaints.append(told["entry"]["text"])
        if method == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])
        if method == "Runtime.consoleAPICalled" and told["type"] in ("warning", "error", "assert"):
            self.complaints.append(str([value.get("value") for value in told["args"]]))

    def window(self, width: int = 1200, height: int = 800, *, dark: bool = False, phone: bool = False) -> None:
        """Choose how the page is shown."""
        scale = 2 if phone else 1
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone}
        self.send("Emulation.setDeviceMetricsOverride", **size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url: str, *, ready: str = "document.readyState == 'complete'") -> None:
        """Go to a page and wait until it is there."""
        self.send("Page.navigate", url=url)
        self.wait(f"location.href != 'about:blank' && {ready}")

    def run(self, script: str):
        """Return the value of an expression on the page; a promise is waited for."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until an expression is true on the page."""
        until = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < until, f"this did not come true in {seconds} s: {condition}"
            time.sleep(0.02)

    def point(self, selector: str, *, click: bool = False) -> None:
        """Move the mouse onto an element, as a hand would, and press it when asked to."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"new Promise(seen => ({element}.scrollIntoView({{block: 'center'}}), setTimeout(seen, 100)))")
        x, y = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getClientRects()[0])")
        for kind in ("mouseMoved", *(("mousePressed", "mouseReleased") if click else ())):
            pressed = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, **pressed)

    def type(self, text: str) -> None:
        """Write a text where the cursor is."""
        self.send("Input.insertText", text=text)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key such as Enter (13), Tab (9) or ArrowRight (39)."""
        told = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **told)
        self.send("Input.dispatchKeyEvent", type="keyUp", **told)

    def picture(self, path: Path) -> None:
        """Save what is to be seen as a PNG."""
        path.write_bytes(b64decode(self.send("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def offline(what: str) -> Iterator[Chromium]:
    """A Chromium for pages from the disk, in which any request that leaves the machine is a failure in the end."""
    if program() is None:
        pytest.skip(f"there is no Chromium here to open {what} with")
    with Chromium() as browser:
        yield browser
        assert browser.requests and not [url for url in browser.requests if not url.startswith(("file:", "data:"))]
