#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the documentation a site: plain files that a browser opens from a folder or a server.

    tools/make_site.py [-o build/site]

README.md is the first page, the pages of docs/reading-order.txt follow, then those made from the
program's tables (site_reference.py), then whatever other Markdown they link to. Other files of the
tree that are linked to come along as text. A link that leads nowhere, a picture or an anchor that is
not there: each is a line on standard error, and the exit status is 1. Nothing is fetched.
"""
import argparse
import html
import json
import os
import re
import shutil
import sys

import doc_facts
import markdown_page
import site_reference

HERE = os.path.dirname(os.path.abspath(__file__))
MARK = ('<svg class="mark" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" aria-hidden="true">' +
        '<path d="M12 12C8.6 9.3 8.3 4.6 12.6 1.4C16 5 15.6 9.4 12 12Z"/>' * 3 + "</svg>")
ICON = ('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="#0d6f68">' +
        "".join('<path transform="rotate(%d 12 12)" opacity="%s" d="M12 12C8.6 9.3 8.3 4.6 12.6 1.4C16 5 15.6 9.4 12 12Z"/>' % blade
                for blade in ((0, "1"), (120, ".6"), (240, ".3"))) + "</svg>\n")
REFERENCE, MORE = "From the program itself", "More"


def name_of(path):
    """The file of a page."""
    if path == "README.md":
        return "index.html"
    return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"^docs/|\.md$", "", path).lower()) + ".html"


class Site:
    def __init__(self, root, out):
        self.root, self.out, self.faults = root, out, []
        self.parts = doc_facts.reading_order(root)
        self.made = {"docs/" + name: text for name, text in site_reference.pages(root)}
        self.parts += [(REFERENCE, list(self.made)), (MORE, [])]
        self.pages = {}  # path -> markdown_page.Page
        self.links = []  # (path, page it leads to, anchor, as written)
        self.files = {}  # path in the tree -> path in the site

    def fault(self, path, text):
        self.faults.append("%s: %s" % (path, text))

    def there(self, path):
        return path in self.made or os.path.isfile(os.path.join(self.root, path))

    def link(self, path, href, words):
        """Where a link of a page leads in the site, and its words: a page's title in place of its file's name."""
        if re.match(r"[a-z][a-z+.-]*:", href):
            return href, None
        target, _, anchor = href.partition("#")
        goal = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if not self.there(goal):
            self.fault(path, "a link to %s, which is not there" % href)
            return href, None
        if goal.endswith(".md"):
            self.links.append((path, goal, anchor, href))
            title = re.search(r"^# (.*)", self.text(goal), re.M) if words == target else None
            return name_of(goal) * bool(target) + ("#" + anchor if anchor else ""), title and title.group(1).split(":")[0]
        self.files[goal] = "files/%s.txt" % goal
        return self.files[goal], None

    def image(self, path, source):
        goal = os.path.normpath(os.path.join(os.path.dirname(path), source))
        if re.match(r"[a-z]+:", source) or not self.there(goal):
            self.fault(path, "a picture %s, which is not in the tree" % source)
            return source
        self.files[goal] = "pictures/" + os.path.basename(goal)
        return self.files[goal]

    def text(self, path):
        if path in self.made:
            return self.made[path]
        with open(os.path.join(self.root, path), encoding="utf-8") as f:
            return f.read()

    def read(self, path):
        if not self.there(path):
            self.fault("docs/reading-order.txt", "there is no %s" % path)
            return
        self.pages[path] = markdown_page.Page(self.text(path), lambda href, words: self.link(path, href, words),
                                              lambda source: self.image(path, source))
        if not self.pages[path].title:
            self.fault(path, "a page without a heading")

    def read_all(self):
        """The pages in their order, and then those that they lead to."""
        for _, paths in self.parts:
            for path in paths:
                self.read(path)
        for path in self.unread():
            self.parts[-1][1].append(path)
            self.read(path)
        for path, goal, anchor, href in self.links:
            if anchor and goal in self.pages and anchor not in {name for _, name, _ in self.pages[goal].headings}:
                self.fault(path, "a link to %s: that page has no such heading" % href)

    def unread(self):
        """Pages that are linked to and not read, also by those read meanwhile."""
        n = 0
        while n < len(self.links):
            if self.links[n][1] not in self.pages:
                yield self.links[n][1]
            n += 1

    # ---- Writing ----

    def order(self):
        return [path for _, paths in self.parts for path in paths if path in self.pages]

    def title(self, path):
        return "Overview" if path == "README.md" else self.pages[path].title.split(":")[0]

    def contents(self, current):
        out = []
        for heading, paths in self.parts:
            rows = ['<li><a href="%s"%s>%s</a></li>' % (name_of(path), ' aria-current="page"' if path == current else "",
                                                      html.escape(self.title(path))) for path in paths if path in self.pages]
            if rows:
                out.append("<h2>%s</h2>\n<ul>%s</ul>\n" % (html.escape(heading), "".join(rows)))
        return "".join(out)

    def foot(self, path):
        order = self.order()
        at = order.index(path)
        near = [(word, order[n]) for word, n in (("Back", at - 1), ("Next", at + 1)) if 0 <= n < len(order)]
        return "".join('<a href="%s" rel="%s"><small>%s</small>%s</a>' % (
            name_of(one), "prev" if word == "Back" else "next", word, html.escape(self.title(one))) for word, one in near)

    def here(self, path):
        rows = ['<li><a href="#%s"%s>%s</a></li>' % (anchor, ' class="deeper"' if level > 2 else "", html.escape(text))
                for level, anchor, text in self.pages[path].headings if level in (2, 3)]
        return "<h2>On this page</h2>\n<ul>%s</ul>" % "".join(rows) if len(rows) > 1 else ""

    def fill(self, template, path):
        page = self.pages[path]
        values = {"title": html.escape("Rotor" if path == "README.md" else page.title + " · Rotor"), "short": html.escape(self.title(path)),
                  "mark": MARK, "contents": self.contents(path), "text": page.html, "foot": self.foot(path), "here": self.here(path)}
        return re.sub(r"\{(%s)\}" % "|".join(values), lambda m: values[m.group(1)], template)

    def index(self):
        """What search.js holds: address, page, heading, text of every section."""
        rows = []
        for path in self.order():
            for section in self.pages[path].sections:
                text = re.sub(r"\s+", " ", "".join(section.text)).strip()
                if section.title or text:
                    first = section.title == self.pages[path].title
                    rows.append([name_of(path) + ("" if first or not section.anchor else "#" + section.anchor),
                                 self.title(path), section.title, text])
        return "window.searchIndex = %s;\n" % json.dumps(rows, ensure_ascii=False, separators=(",", ":"))

    def put(self, name, text):
        path = os.path.join(self.out, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)

    def write(self):
        if os.path.isdir(self.out) and os.listdir(self.out) and not os.path.exists(os.path.join(self.out, "search.js")):
            sys.exit("make_site: %s holds something else than a site; it is left alone" % self.out)
        shutil.rmtree(self.out, ignore_errors=True)
        template = self.text("docs/site/page.html")
        for path in self.order():
            self.put(name_of(path), self.fill(template, path))
        names, rest = self.text("web/style.css").split("\n*, *::before", 1)[0], self.text("docs/site/style.css")
        self.put("style.css", names + "\n" + rest)
        self.put("site.js", self.text("docs/site/site.js"))
        self.put("icon.svg", ICON)
        self.put("search.js", self.index())
        for goal, name in self.files.items():
            os.makedirs(os.path.dirname(os.path.join(self.out, name)), exist_ok=True)
            shutil.copy(os.path.join(self.root, goal), os.path.join(self.out, name))


def make(root, out):
    """Writes the site, and gives it with the faults that were found, a line each."""
    site = Site(root, out)
    site.read_all()
    site.write()
    return site


def main():
    root = os.path.dirname(HERE)
    parser = argparse.ArgumentParser(description="Makes the documentation a site.")
    parser.add_argument("-o", "--output", default=os.path.join(root, "build", "site"), help="folder to write, removed before (build/site)")
    args = parser.parse_args()
    if markdown_page.library() is None:
        sys.exit("make_site: md4c is missing, which reads the Markdown; tools/bootstrap all installs it")
    site = make(root, args.output)
    for fault in site.faults:
        print(fault, file=sys.stderr)
    print("%s: %d pages" % (os.path.relpath(os.path.join(args.output, "index.html")), len(site.pages)))
    return 1 if site.faults else 0


if __name__ == "__main__":
    sys.exit(main())
