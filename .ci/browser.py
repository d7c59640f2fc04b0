"""Headless Chromium by WebDriver, with the standard library; for the scripts next to this file."""

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
PATIENCE = 60


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return json.load(answer)["value"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{method} {url}: {error.read().decode()}")


def until(what, so, patience=PATIENCE):
    end = time.time() + patience
    while time.time() < end:
        value = so()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit(f"it does not happen: {what}")


class Page:
    def __init__(self, driver, binary, flags):
        options = {
            "binary": binary,
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1200,900", *flags],
        }
        capabilities = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}}
        session = call("POST", f"{driver}/session", capabilities)
        self.at = f"{driver}/session/{session['sessionId']}"

    def open(self, url):
        call("POST", f"{self.at}/url", {"url": url})

    def find(self, css):
        return call("POST", f"{self.at}/element", {"using": "css selector", "value": css})[ELEMENT]

    def type(self, css, text):
        call("POST", f"{self.at}/element/{self.find(css)}/value", {"text": text})

    def click(self, css):
        call("POST", f"{self.at}/element/{self.find(css)}/click", {})

    def run(self, script, *arguments):
        return call("POST", f"{self.at}/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script, *arguments):
        return call("POST", f"{self.at}/execute/async", {"script": script, "args": list(arguments)})

    def text(self, css):
        return self.run("return document.querySelector(arguments[0]).textContent", css)

    def screenshot(self):
        return base64.b64decode(call("GET", f"{self.at}/screenshot"))

    def problems(self):
        log = call("POST", f"{self.at}/se/log", {"type": "browser"})
        return [entry["message"] for entry in log if entry["level"] == "SEVERE"]

    def quit(self):
        call("DELETE", self.at)


COLORS = """
const done = arguments[arguments.length - 1], image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  const red = [...Array(data.length / 4).keys()].filter((i) => data[4*i] > 150 && data[4*i+1] < 90 && data[4*i+2] < 90);
  done([canvas.width, canvas.height, red.length]);
};
image.src = document.querySelector(arguments[0]).src;
"""


def check(what, so):
    if not so:
        sys.exit(f"not so: {what}")
    print(f"{what}: yes")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def chromium(*flags):
    """A Page of Chromium with these flags more; what it says of a failure is printed."""
    if not shutil.which("chromedriver") or not shutil.which("chromium"):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "chromium-driver"]
        subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until("the driver listens", listens)
        page = Page(f"http://127.0.0.1:{port}", shutil.which("chromium"), flags)
        try:
            try:
                yield page
            except SystemExit:
                print(page.run("return document.querySelector('.stage')?.innerText"), *page.problems(), sep="\n", file=sys.stderr)
                raise
        finally:
            page.quit()
    finally:
        driver.kill()
