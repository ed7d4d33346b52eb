"""The names on a web server's page for a folder: nginx, Apache, lighttpd, Python, …"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import unquote, urljoin, urlsplit

from znfs.stores.base import Entry

# What servers write above their listings; the last is IIS's, `host - /folder/`.
_TITLE = re.compile(
    r"index of|directory listing|listing (?:of|directory)|directory:|\s-\s/", re.IGNORECASE
)
_TITLES = ("title", "h1", "h2")
_PARENT = re.compile(r"parent directory", re.IGNORECASE)
_UP = frozenset({"..", "../", "https://caddyserver.com"})  # Caddy's root has but its footer


class _Links(HTMLParser):
    """The targets of a page's links, and the texts that tell whether it is a listing."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self._tags: set[str] = set()
        self._title = ""
        self._link = ""
        self._within = ""  # a title, or a link

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags.add(tag)
        if tag in _TITLES or (tag == "a" and not self._within):
            self._within = tag
        if tag == "a" and (target := dict(attrs).get("href")):
            self.targets.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._within:
            self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "a":
            self._link += data
        elif self._within:
            self._title += data

    @property
    def are_listing(self) -> bool:
        """Whether a server made the page, of all that is in the folder; others link to some."""
        return bool(
            _TITLE.search(self._title)
            or _PARENT.search(self._link)
            or not _UP.isdisjoint(self.targets)
            or ("pre" in self._tags and self._tags <= {"meta", "pre", "a"})  # Go's library
        )


def entries(page: str, url: str) -> list[Entry] | None:
    """The names directly below `url` (which ends with `/`) that its page links to.

    None if the page is no listing.
    """
    links = _Links()
    try:
        links.feed(page)
    except (AssertionError, ValueError):  # `<![<![`; `&#` and thousands of digits
        return None
    if not links.are_listing:
        return None
    here = urlsplit(url)
    found: dict[str, Entry] = {}
    for target in links.targets:
        try:
            there = urlsplit(urljoin(url, target))
        except ValueError:  # a link that is no URL
            continue
        # Links with another query sort the table or log out; ours is mostly left out of them.
        elsewhere = there.netloc != here.netloc or there.query not in ("", here.query)
        if elsewhere or there.fragment:
            continue
        path, folder = (unquote(part.path, errors="surrogateescape") for part in (there, here))
        rest = path[len(folder):] if path.startswith(folder) else ""
        name = rest.removesuffix("/")
        if name and not {"/", "\0"} & set(name) and name not in (".", ".."):
            found[rest] = Entry(name, rest.endswith("/"))
    return list(found.values())
