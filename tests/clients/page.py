"""The page of a lucid server in Chromium: URL KEYED PICTURE FOLDER BROWSER; what was seen, as JSON on stdout.

URL is a server with a judge, KEYED one that wants a key. The page is used by the keyboard alone, looked at by axe-core at three sizes and colours, and kept as pictures in FOLDER.
"""
import json
import os
import sys

import axe_core_python
from playwright.sync_api import TimeoutError, sync_playwright

url, keyed, picture, folder, browser = sys.argv[1:]
axe = os.path.join(os.path.dirname(axe_core_python.__file__), "axe.min.js")
SCREENS = {
    "serve": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "serve-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "serve-phone": {"viewport": {"width": 360, "height": 740}, "color_scheme": "light", "has_touch": True},
    "serve-phone-dark": {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"},
}

# An answer's text without the words of the judge; the line under a sentence.
SAID = "e => { const c = e.cloneNode(true); c.querySelectorAll('small').forEach(s => s.remove()); return c.textContent }"
LINE = "e => getComputedStyle(e).textDecorationStyle"


def focused(page):
    return page.evaluate("document.activeElement.id || document.activeElement.tagName")


def choose(page):
    """Opens the chooser of files by its key; a browser that just got its focus back may miss one."""
    for last in (False, False, True):
        page.bring_to_front()
        page.focus("#file")
        try:
            with page.expect_file_chooser(timeout=5000) as chooser:
                page.keyboard.press("Space")
            return chooser.value
        except TimeoutError:
            if last:
                raise


def use(page, got):
    """Chooses, asks and probes without a mouse."""
    page.wait_for_load_state("networkidle")
    order = []
    for _ in range(9):
        page.keyboard.press("Tab")
        order.append(focused(page))
    got["order"] = order
    choose(page).set_files(picture)
    page.wait_for_selector("#picture:not([hidden])")
    got["alt"] = page.get_attribute("#picture", "alt")
    page.focus("#question")
    page.keyboard.press("Control+A")
    page.keyboard.type("Is there a car in the image?")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#answers[aria-busy=false]")
    got["answers"] = [e.evaluate(SAID) for e in page.query_selector_all(".text")]
    got["marks"] = [[m.get_attribute("class"), m.text_content(), m.evaluate(LINE)] for m in page.query_selector_all(".text mark")]
    got["verdicts"] = [e.inner_text() for e in page.query_selector_all(".why summary")]
    page.focus(".why summary")
    page.keyboard.press("Enter")
    got["reasons"] = page.query_selector(".why[open]").query_selector_all("li")[0].inner_text()
    got["titles"] = [e.inner_text() for e in page.query_selector_all("h2")]
    page.focus("#object")
    page.keyboard.type("apple")
    page.keyboard.press("Enter")
    page.wait_for_selector(".bar")
    got["probe"] = page.inner_text("#probes .note")
    got["meters"] = [e.get_attribute("aria-label") for e in page.query_selector_all("meter")]
    got["values"] = [float(e.evaluate("e => e.value")) for e in page.query_selector_all("meter")]
    page.focus("#question")
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Control+Enter")
    got["fault"] = page.inner_text("#fault")


def ask(page):
    page.focus("#question")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#fault:not(:empty)")


def go_wrong(page, got):
    """A server that wants a key, and one that is gone."""
    page.goto(keyed)
    ask(page)
    got["keyed"] = [page.inner_text("#fault"), focused(page), page.evaluate("document.getElementById('settings').open")]
    page.keyboard.type("secret-of-the-tests")
    page.focus("#question")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".answer .note:not(:empty)")
    got["let_in"] = page.inner_text("#fault")
    page.route("**/v1/**", lambda route: route.abort())
    ask(page)
    got["lost"] = page.inner_text("#fault")


def look(page, name, got):
    page.screenshot(path=os.path.join(folder, name + ".png"), full_page=True)
    with open(axe, encoding="utf-8") as f:
        page.evaluate(f.read() + "\n;0")
    found = page.evaluate("axe.run()")
    got["screens"][name] = {
        "violations": [v["id"] + ": " + v["nodes"][0]["html"] for v in found["violations"]], "passes": len(found["passes"]),
        "width": page.evaluate("innerWidth"), "content": page.evaluate("document.documentElement.scrollWidth")}


with sync_playwright() as p:
    chromium = p.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
    got = {"said": [], "asked": [], "screens": {}}
    for name, screen in SCREENS.items():
        page = chromium.new_page(**screen)
        page.on("console", lambda m: got["said"].append(m.text))
        page.on("pageerror", lambda e: got["said"].append(str(e)))
        page.on("request", lambda r: got["asked"].append(r.url))
        page.goto(url)
        use(page, got)
        page.click("summary")
        look(page, name, got)
        page.close()
    page = chromium.new_page()
    go_wrong(page, got)
    page.close()
    got["asked"] = sorted({a for a in got["asked"] if not a.startswith("data:")})
    chromium.close()
json.dump(got, sys.stdout)
