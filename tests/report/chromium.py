"""A headless Chromium, spoken to through its own debugging pipe: no driver, no port, no network."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
PROGRAM = next((path for name in NAMES if (path := shutil.which(name))), None)
ABSENT = f"expected a browser, one of {', '.join(NAMES)}: Debian has the package chromium"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")
PIPES = 'exec "$@" 3<&$READ 4>&$WRITE'  # the browser reads commands at 3 and writes to 4
FREE = 10  # file descriptors from here on, so that neither pipe is 3 or 4 already


class Page:
    """A page that was opened from disk.

    Attributes:
        events: what the browser reported: method and parameters.
    """

    def __init__(self, path: Path, profile: Path, dark: bool = False) -> None:
        assert PROGRAM is not None, ABSENT
        (commands, self._send), (self._receive, answers) = os.pipe(), os.pipe()
        inherited = [fcntl.fcntl(end, fcntl.F_DUPFD, FREE) for end in (commands, answers)]
        line = ["bash", "-c", PIPES, "bash", PROGRAM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        environment = {**os.environ, "READ": str(inherited[0]), "WRITE": str(inherited[1])}
        self._process = subprocess.Popen(
            line, pass_fds=inherited, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for end in (commands, answers, *inherited):
            os.close(end)
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._session, self._calls, self._rest = "", 0, b""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.resolve().as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events):
            self._next()

    def __enter__(self) -> Page:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._send)
        os.close(self._receive)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """One command and its answer."""
        self._calls += 1
        session = {"sessionId": self._session} if self._session else {}
        message = {"id": self._calls, "method": method, "params": parameters, **session}
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._calls:
            pass
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def complaints(self) -> list[dict[str, Any]]:
        """Errors and warnings: of scripts, of the console, of the page's policy."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [parameters for method, parameters in self.events if method in kinds]

    def requests(self) -> list[str]:
        """Addresses of everything that was asked for, data in the page aside."""
        requests = (parameters for method, parameters in self.events if method == "Network.requestWillBeSent")
        addresses = [parameters["request"]["url"] for parameters in requests]
        return [address for address in addresses if not address.startswith("data:")]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            chunk = os.read(self._receive, 1 << 16)
            assert chunk, "the browser ended"
            self._rest += chunk
        message, _, self._rest = self._rest.partition(b"\0")
        record: dict[str, Any] = json.loads(message)
        if "method" in record:
            self.events.append((record["method"], record["params"]))
        return record
