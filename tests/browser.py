"""Chromium without a screen, for tests that look at pages as a person does."""

import base64
import json
import os
import shutil
import subprocess
import sys

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Chromium reads its commands from descriptor 3 and writes its answers to 4.
WITH_PIPES = "import os, sys; [os.dup2(int(sys.argv[n]), n + 2) for n in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"
KEY_CODES = {"Backspace": 8, "ArrowLeft": 37, "ArrowRight": 39, "Escape": 27}
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Browser:
    """Chromium over its debugging pipe: opens a page, evaluates expressions in it, presses keys."""

    def __init__(self, profile):
        for_chromium, ours_to_write = os.pipe()
        ours_to_read, from_chromium = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", WITH_PIPES, str(for_chromium), str(from_chromium), CHROMIUM, *flags],
            pass_fds=(for_chromium, from_chromium),
            env={**os.environ, "HOME": str(profile)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(for_chromium)
        os.close(from_chromium)
        self.commands = os.fdopen(ours_to_write, "wb", buffering=0)
        self.answers = os.fdopen(ours_to_read, "rb")
        self.n_commands = 0
        self.session = {}
        target = self.command("Target.createTarget", url="about:blank")["targetId"]
        session = self.command("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.session = {"sessionId": session}
        self.command("Page.enable")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session = {}
        self.command("Browser.close")
        self.process.wait()
        self.commands.close()
        self.answers.close()

    def command(self, method, **params):
        self.n_commands += 1
        message = {"id": self.n_commands, "method": method, "params": params, **self.session}
        self.commands.write(json.dumps(message).encode() + b"\0")
        answer = self._until(lambda message: message.get("id") == self.n_commands)
        assert "error" not in answer, answer
        return answer["result"]

    def _until(self, wanted):
        while True:
            text = bytearray()
            while (byte := self.answers.read(1)) != b"\0":
                assert byte, "Chromium ended"
                text += byte
            message = json.loads(text)
            if wanted(message):
                return message

    def open(self, url):
        self.command("Page.navigate", url="about:blank")
        self._until(lambda message: message.get("method") == "Page.loadEventFired")
        self.command("Page.navigate", url=url)
        self._until(lambda message: message.get("method") == "Page.loadEventFired")

    def value(self, expression):
        answer = self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition):
        assert self.becomes_true(condition), (condition, self.value("document.body.innerText"))

    def becomes_true(self, condition):
        check = f"const check = () => {condition} ? resolve(true) : setTimeout(check, 10); check()"
        return self.value(f"new Promise((resolve) => {{ {check}; setTimeout(() => resolve(false), 30000) }})")

    def press_button(self, find):
        """Bring what an expression finds into view and press it with the mouse."""
        self.value(f"{find}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.value(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])({find}.getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key):
        for kind in ("keyDown", "keyUp"):
            code = KEY_CODES[key]
            self.command("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def texts(self, selector):
        return self.value(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (node) => node.textContent)")

    def picture(self, path):
        """Save what a person would see now, whole page, as PNG."""
        answer = self.command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(answer["data"]))
