"""The report in a real browser, from file://, where one is installed."""

import html
import json
import re
import shutil
import subprocess

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason=f"needs a browser; looked for {', '.join(BROWSERS)}"
)

DRIVER = """
const found = { errors: [] };
addEventListener("error", (event) => found.errors.push(event.message));
addEventListener("load", () => {
  const one = (selector) => document.querySelector(selector);
  const fire = (element, name) => element.dispatchEvent(new Event(name, { bubbles: true }));
  found.width = innerWidth;
  found.needed = document.documentElement.scrollWidth;

  const paper = () => getComputedStyle(document.body).backgroundColor;
  found.before = paper();
  one("#theme").click();
  found.after = paper();
  one("#theme").click();
  found.again = paper();

  const heads = all(".sortable thead th");
  const column = heads.findIndex((head) => head.textContent.startsWith("Links"));
  const cells = () => all(".sortable")[0].tBodies[0].querySelectorAll("tr");
  const links = () => [...cells()].map((row) => Number(row.cells[column].dataset.value));
  heads[column].querySelector("button").click();
  found.falling = links();
  found.sorted = heads[column].getAttribute("aria-sort");
  heads[column].querySelector("button").click();
  found.rising = links();
  const partly = heads.findIndex((head) => head.textContent.startsWith("Active neurons"));
  heads[partly].querySelector("button").click();
  found.undefinedLast = [...cells()].map((row) => row.cells[partly].dataset.value);

  const visible = (selector) => all(selector).filter((e) => !e.hidden).map((e) => e.ariaLabel);
  const choice = one("#closely-layer");
  choice.value = "1";
  fire(choice, "change");
  found.panel = visible("article.panel");
  found.evolution = visible("article.evolution");
  found.name = choice.selectedOptions[0].textContent;
  found.synchronised = one("#evolution-layer").value;

  const panel = one("article.panel:not([hidden])");
  panel.querySelector('input[value="1"]').click();
  found.orders = all(".order", panel).map((e) => e.hidden);

  const article = one("article.evolution:not([hidden])");
  const image = () => article.querySelector("img").src;
  const last = image(), count = () => article.querySelectorAll(".counts td")[1].textContent;
  const slider = one("#step");
  slider.value = 1;
  fire(slider, "input");
  found.moved = image() !== last;
  found.grown = count();
  found.shown = one("#step-shown").textContent;
  found.spoken = slider.getAttribute("aria-valuetext");
  found.marked = all(".now", article).map((e) => e.id.split("-step-")[1]);

  one("#play").click();
  found.playing = one("#play").textContent;
  setTimeout(() => {
    found.played = one("#step-shown").textContent;
    one("#play").click();
    parent.postMessage(JSON.stringify(found), "*");
  }, 1000);
});
"""
COLLECT = """
const answer = document.getElementById("found");
addEventListener("message", (event) => { answer.textContent = event.data; });
"""


def open_page(path, tmp_path):
    """The page's elements once its scripts have run, and what the browser logged."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
        *("--enable-logging=stderr", "--virtual-time-budget=8000", "--window-size=1280,900"),
        *(f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture(scope="module")
def found(report, tmp_path_factory):
    """What a script that uses the page saw, at the width of a telephone."""
    folder = tmp_path_factory.mktemp("browser")
    text = report.read_text(encoding="utf-8")
    policy = re.search(r'<meta http-equiv="Content-Security-Policy"[^>]*>', text)[0]
    driven = text.replace(policy, "").replace("</body>", f"<script>{DRIVER}</script></body>")
    (folder / "page.html").write_text(driven, encoding="utf-8")
    frame = '<iframe src="page.html" width="375" height="800"></iframe><pre id="found"></pre>'
    (folder / "frame.html").write_text(f"<body>{frame}<script>{COLLECT}</script></body>")
    elements, _ = open_page(folder / "frame.html", folder)
    answer = re.search(r'<pre id="found">(.*?)</pre>', elements, re.DOTALL)[1]
    assert answer, "the script on the page did not come to its end"
    return json.loads(html.unescape(answer))


def test_the_page_runs_under_its_own_policy_without_a_complaint(report, tmp_path):
    elements, logged = open_page(report, tmp_path)
    assert logged == []
    assert re.search(r'<button type="button" id="theme">(Dark|Light)</button>', elements)


def test_it_fits_a_telephone(found):
    assert found["errors"] == []
    assert found["width"] <= 375
    assert found["needed"] <= found["width"]


def test_the_button_changes_the_theme(found):
    assert found["before"] != found["after"]
    assert found["again"] == found["before"]


def test_tables_sort_both_ways(found):
    assert found["sorted"] == "descending"
    assert found["falling"] == sorted(found["falling"], reverse=True)
    assert found["rising"] == sorted(found["rising"])
    assert len(set(found["rising"])) > 1
    assert set(found["undefinedLast"]) == {""}


def test_one_layer_is_shown_at_a_time(found):
    assert found["panel"] == found["evolution"] == [found["name"]]
    assert found["synchronised"] == "1"
    assert found["orders"] == [True, False, True]


def test_the_slider_moves_through_training(found):
    assert found["moved"]
    assert int(found["grown"]) > 0
    assert found["shown"] == "10"
    assert found["spoken"] == "step 10"
    assert found["marked"] == ["10", "10"]


def test_it_plays(found):
    assert found["playing"] == "Pause"
    assert found["played"] == "20"
