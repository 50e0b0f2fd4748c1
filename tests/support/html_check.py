"""What every page must keep: closed tags, alt texts, nothing from outside; and its words."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "img", "br", "source", "link", "input", "hr"}
HIDDEN = {"style", "script", "title"}
HYPERLINK = re.compile('<a href="https://[^"]*">')
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Page(HTMLParser):
    """Reads a page; `problems` is empty if it is sound."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.problems: list[str] = []
        self.words: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.headings: list[int] = []
        self.captions = self.tables = 0
        self.feed(text)
        self.close()
        if self.open:
            self.problems.append(f"never closed: {self.open}")
        text = HYPERLINK.sub("", text)  # which loads nothing
        if "http:" in text or "https:" in text or "url(" in text or "@import" in text:
            self.problems.append("refers to something outside")
        if self.captions != self.tables:
            self.problems.append("a table lacks its caption")
        steps = [later - former for former, later in itertools.pairwise(self.headings)]
        if max(steps, default=0) > 1:
            self.problems.append(f"headings skip a level: {self.headings}")

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.tables += tag == "table"
        self.captions += tag == "caption"
        if tag in ("h1", "h2", "h3", "h4"):
            self.headings.append(int(tag[1]))
        if tag in ("script", "iframe", "object", "embed") or any(
            a.startswith("on") for a in values
        ):
            self.problems.append(f"<{tag}> can run something: {values}")
        if tag == "img":
            self.images.append(values)
            if not (values.get("alt") or "").strip():
                self.problems.append("an image lacks its alt text")
        for name in ("src", "srcset", "href"):
            if (
                (tag, name) != ("a", "href")
                and name in values
                and not (values[name] or "").startswith("data:image/")
            ):
                self.problems.append(f"{tag} {name} is not inline: {str(values[name])[:40]}")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if not set(self.open) & HIDDEN:
            self.words.append(data)


def browser() -> str | None:
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def in_browser(path: Path, profile: Path, *options: str) -> str:
    """Open a page in a headless browser; return what it writes to stdout."""
    command = [browser() or "", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               f"--user-data-dir={profile}", *options, path.resolve().as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


_FRAME = '<iframe src="{page}" style="border:0;width:{width}px;height:9000px"></iframe>'
_LOOK = """<!DOCTYPE html><pre id="found"></pre><script>
function look(view) {
  const found = [];
  view.document.querySelectorAll("details").forEach(part => { part.open = true; });
  for (const part of view.document.querySelectorAll("body *")) {
    if (part.closest("thead")) continue;  // hidden on a phone
    const box = part.getBoundingClientRect(), text = part.textContent.trim().slice(0, 60);
    if (box.right > view.innerWidth + 1 || box.left < -1)
      found.push(`${part.tagName} reaches to ${Math.round(box.right)}: ${text}`);
    else if (part.className === "scroll" && part.scrollWidth > part.clientWidth + 1)
      found.push(`a table is ${part.scrollWidth} wide: ${text}`);
  }
  return found;
}
window.onload = () => {
  const found = Array.from(document.querySelectorAll("iframe"), one => look(one.contentWindow));
  document.getElementById("found").textContent = JSON.stringify(found);
};</script>"""


def cut_off(folder: Path, *pages: Path, width: int = 390) -> list[list[str]]:
    """Return what of each page is not whole in a window of so many pixels, all details open.

    A browser's own window cannot be as narrow as a phone's; a frame in it can.

    Args:
        folder: where to work.
        pages: to be looked at.
        width: of a phone's screen.
    """
    frames = [_FRAME.format(page=page.resolve().as_uri(), width=width) for page in pages]
    file = folder / "look.html"
    file.write_text("\n".join([_LOOK, *frames]), encoding="utf-8")
    options = ("--allow-file-access-from-files", "--virtual-time-budget=3000", "--dump-dom")
    dom = in_browser(file, folder / "profile", *options)
    found = re.search(r'<pre id="found">(.+?)</pre>', dom, re.DOTALL)
    assert found is not None, "the pages were not looked at"
    lists: list[list[str]] = json.loads(html.unescape(found[1]))
    return lists
