"""The report as a reader opens it: from disk, in headless Chromium, without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from html import unescape
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
import report_results as study_on_disk

from brainloom.steps.report import main

CHROMIUM = next(
    (
        path
        for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
        if (path := shutil.which(name))
    ),
    None,
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium or Chrome binary on PATH"),
]

# Put before everything else in a copy of the page: collects what goes wrong and what is fetched.
_PROBE = """<script>
window.__probe = {errors: [], resources: []};
addEventListener("error", function (e) { __probe.errors.push(String(e.message || (e.target && e.target.outerHTML))); }, true);
addEventListener("securitypolicyviolation", function (e) { __probe.resources.push(e.blockedURI); });
new PerformanceObserver(function (list) {
  list.getEntries().forEach(function (e) { if (!e.name.startsWith("data:")) __probe.resources.push(e.name); });
}).observe({type: "resource", buffered: true});
addEventListener("load", function () {
  setTimeout(function () {
    var out = document.createElement("pre");
    out.id = "probe";
    out.textContent = JSON.stringify(__probe);
    document.body.appendChild(out);
  }, 300);
});
</script>"""


def chromium(*options: str, page: Path) -> subprocess.CompletedProcess[str]:
    """Run headless Chromium on a local file; every host name is unresolvable, so a request would fail and be logged."""
    with tempfile.TemporaryDirectory() as profile:
        return subprocess.run(
            [
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--hide-scrollbars",
                "--force-device-scale-factor=1",
                "--host-resolver-rules=MAP * ~NOTFOUND",
                f"--user-data-dir={profile}",
                "--enable-logging=stderr",
                "--v=0",
                "--virtual-time-budget=5000",
                *options,
                page.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=180,
            env=os.environ | {"HOME": profile},
        )


def console(run: subprocess.CompletedProcess[str]) -> list[str]:
    """Messages of the page's console, errors of failed requests included."""
    return [line for line in run.stderr.splitlines() if ":CONSOLE" in line]


def opened(page: Path, folder: Path) -> tuple[str, dict, list[str]]:
    """DOM after loading, what the probe saw, and the console, of a copy of the page with the probe."""
    text = page.read_text(encoding="utf-8")
    assert text.count("<head>") == 1
    copy = folder / "probed.html"
    copy.write_text(text.replace("<head>", "<head>" + _PROBE), encoding="utf-8")
    run = chromium("--dump-dom", page=copy)
    assert run.returncode == 0, run.stderr[-2000:]
    found = re.search(r'<pre id="probe">(.*?)</pre>', run.stdout, re.S)
    assert found, "the page did not finish loading"
    return run.stdout, json.loads(unescape(found.group(1))), console(run)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("study")
    study = study_on_disk.build_study(root, n_subjects=3, failed=("02",))
    assert main(study_on_disk.arguments(study, root / "report.html")) == 0
    return root / "report.html"


def test_no_console_message_no_request_all_sections(page, tmp_path):
    dom, probe, messages = opened(page, tmp_path)
    assert messages == []
    assert probe == {"errors": [], "resources": []}
    for heading in (
        "Summary",
        "Cohort",
        "Fit quality",
        "Parameters",
        "Analytic against simulated",
        "Subjects",
        "Provenance",
        "Timings",
    ):
        assert f"<h2>{heading}</h2>" in dom
    assert dom.count("<svg") == page.read_text(encoding="utf-8").count("<svg") > 10


def test_the_checks_above_would_notice(page, tmp_path):
    """The same checks on a page that is broken on purpose: a script error and a remote image."""
    broken = tmp_path / "broken.html"
    text = page.read_text(encoding="utf-8")
    broken.write_text(
        text.replace(
            "<footer>", '<img src="https://example.org/x.png" alt=""><script>absent.call()</script><footer>'
        ),
        encoding="utf-8",
    )
    _, probe, messages = opened(broken, tmp_path)
    assert any("absent is not defined" in message for message in messages)
    assert any("example.org" in entry for entry in probe["errors"] + probe["resources"])


@pytest.mark.parametrize(("width", "height"), [(1400, 2400), (800, 2400)])
def test_screenshot_is_not_blank_and_fits_the_window(page, tmp_path, width, height):
    image_file = tmp_path / "shot.png"
    run = chromium(f"--screenshot={image_file}", f"--window-size={width},{height}", page=page)
    assert run.returncode == 0, run.stderr[-2000:]
    image = matplotlib.image.imread(image_file)
    assert image.shape[:2] == (height, width)
    pixels = (image[..., :3] * 255).astype(np.uint8)
    colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
    assert len(colours) > 300
    assert counts.max() < 0.9 * counts.sum()
    # Something is drawn in every band of the page: headings, table, figures.
    for band in np.array_split(pixels, 6):
        assert len(np.unique(band.reshape(-1, 3), axis=0)) > 20


def test_narrow_page_does_not_scroll_sideways(page, tmp_path):
    script = """<script>addEventListener("load", function () {
      var out = document.createElement("pre"); out.id = "width";
      out.textContent = document.documentElement.scrollWidth + " " + innerWidth; document.body.appendChild(out);
    });</script></body>"""
    copy = tmp_path / "page.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    run = chromium("--dump-dom", "--window-size=700,900", page=copy)
    content, window = map(int, re.search(r'<pre id="width">(\d+) (\d+)</pre>', run.stdout).groups())
    assert content <= window


def test_a_link_to_a_subject_unfolds_its_page(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    assert '<details class="subject" id="sub-03">' in text
    copy = tmp_path / "page.html"
    copy.write_text(
        text.replace("<body>", '<body><script>location.hash = "sub-03";</script>'), encoding="utf-8"
    )
    dom = chromium("--dump-dom", page=copy).stdout
    assert re.search(r'<details class="subject" id="sub-03" open="">', dom)
