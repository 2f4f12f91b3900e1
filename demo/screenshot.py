"""docs/search-page.png, anew, from the archive that `make demo` has left: python -m demo.screenshot"""

from __future__ import annotations

import io
import re
import subprocess
import sys

from PIL import Image
from playwright.sync_api import sync_playwright

from demo.__main__ import JOB

TARGET = "docs/search-page.png"
QUERY = "?q=wheel+spinning+score:>0.5"


def main() -> None:
    """Needs the chromium of the system."""
    command = [sys.executable, "-m", "indexer", "serve", "--job", JOB, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as playwright:
        assert server.stderr is not None
        found = re.search(r"http://\S+", server.stderr.readline())
        if found is None:
            sys.exit(f"there is nothing to show: {server.stderr.read()}First: make demo")
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 700})
        page.goto(found[0] + QUERY, wait_until="networkidle")
        picture = Image.open(io.BytesIO(page.screenshot()))
        picture.quantize(256).save(TARGET, optimize=True)  # a third of the size
        browser.close()
        server.terminate()


if __name__ == "__main__":
    main()
