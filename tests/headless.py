"""A real browser without a window, over Chromium's own pipe: no driver, no port, no package.

::

    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "report.html")
        browser.run("document.title")
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

FOUND = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
needed = pytest.mark.skipif(FOUND is None, reason="no Chromium is installed (apt-get install chromium)")


class Browser:
    """One page of Chromium; what it prints as an error and what it tries to load are kept."""

    def __init__(self, folder: Path) -> None:
        self.profile, self.count = folder / "profile", 0
        self.errors: list[str] = []
        self.requests: list[str] = []

    def __enter__(self) -> "Browser":
        reads, ours = os.pipe()
        theirs, writes = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        # Chromium reads from 3 and writes to 4. Not sh: Debian's knows no descriptor of two digits.
        shell = ["bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash"]
        words = [*shell, str(FOUND), *flags, f"--user-data-dir={self.profile}"]
        self.process = subprocess.Popen(words, pass_fds=(reads, writes), stderr=subprocess.DEVNULL)
        os.close(reads)
        os.close(writes)
        self.out, self.into, self.session = os.fdopen(ours, "wb", 0), os.fdopen(theirs, "rb"), None
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for part in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{part}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        self.out.close()
        self.into.close()

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self.count += 1
        number, session = self.count, {"sessionId": self.session} if self.session else {}
        self.out.write(json.dumps({"id": number, "method": method, "params": params, **session}).encode() + b"\0")
        while (said := self._next()).get("id") != number:
            pass
        assert "error" not in said, said
        found: dict[str, Any] = said["result"]
        return found

    def _next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.into.read(1)) != b"\0":
            assert byte, "Chromium has ended"
            text += byte
        said: dict[str, Any] = json.loads(text)
        about = said.get("params", {})
        if said.get("method") == "Runtime.exceptionThrown":
            self.errors.append(
                about["exceptionDetails"].get("exception", {}).get("description", about["exceptionDetails"]["text"])
            )
        if said.get("method") == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        if said.get("method") == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        return said

    def open(self, page: Path, width: int = 1200, *, dark: bool = False) -> None:
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=1000, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask("Page.navigate", url=page.as_uri())
        while self._next().get("method") != "Page.loadEventFired":
            pass

    def run(self, program: str) -> Any:
        """The value of an expression; a promise is waited for."""
        found = self.ask("Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def choose(self, name: str, value: str) -> None:
        """Put a value into a control of the page, as a hand would, and wait for what it does."""
        self.run(
            f"""new Promise(done => {{
                const control = document.querySelector(`[name="{name}"]`);
                control.value = {json.dumps(value)};
                control.dispatchEvent(new Event("input", {{ bubbles: true }}));
                setTimeout(done, 250);
            }})"""
        )
