# SPDX-License-Identifier: MIT
"""The proof report as one page that needs nothing beside it: tables, and plots as SVG."""
import collections
import html
import math

VERDICTS = ("passed", "failed", "missed", "measured", "not run")
COLOURS = ("var(--one)", "var(--two)", "var(--three)")
WIDTH, HEIGHT, LEFT, BOTTOM, BAR = 640, 220, 52, 34, 22

STYLE = """
:root { --paper: #fbfaf8; --ink: #1d1c1a; --dim: #6b675f; --line: #dedad2; --one: #2f6f8f; --two: #b4632a; --three: #5d7a33;
        --good: #2e7047; --bad: #b3261e; --short: #96650a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #171614; --ink: #eceae5; --dim: #a19c92; --line: #37342f; --one: #74b3d1; --two: #e0955e; --three: #a3c274;
          --good: #7cc493; --bad: #f2867f; --short: #dcb05a; } }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p, figcaption, dt { color: var(--dim); } figcaption { font-size: .85rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1rem; font-size: .9rem; } dd { margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--dim); font-weight: normal; } th, td { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
     vertical-align: top; } td:last-child { white-space: nowrap; }
code { display: block; font: .78rem/1.4 ui-monospace, monospace; color: var(--dim); overflow-wrap: anywhere; }
.passed { color: var(--good); } .failed { color: var(--bad); font-weight: bold; } .missed { color: var(--short); }
.measured, .not-run { color: var(--dim); } figure { margin: 1rem 0; } svg { max-width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .dim { fill: var(--dim); } svg .axis { stroke: var(--line); }
"""


def count(checks):
    counts = collections.Counter(check["verdict"] for check in checks)
    return {verdict: counts[verdict] for verdict in VERDICTS}


def short(x):
    """A number as one writes it beside a plot."""
    return "%.0f" % x if abs(x) >= 100 else "%.3g" % x


def text(x, y, words, more=""):
    return '<text x="%.1f" y="%.1f" %s>%s</text>' % (x, y, more, html.escape(str(words)))


def bars(series):
    """Rows of label, bar and figure; all bars begin at nothing."""
    label_width = 7 * max(len(label) for label, _ in series) + 12
    room, top = WIDTH - label_width - 70, max(value for _, value in series) or 1
    parts = []
    for i, (label, value) in enumerate(series):
        y, width = i * (BAR + 6), max(1.0, room * value / top)
        parts += [text(label_width - 8, y + 15, label, 'text-anchor="end" class="dim"'),
                  '<rect x="%d" y="%d" width="%.1f" height="%d" rx="2" fill="%s"/>' % (label_width, y, width, BAR, COLOURS[i % 2]),
                  text(label_width + width + 6, y + 15, short(value))]
    return svg(len(series) * (BAR + 6), parts)


def steps(low, high):
    """Some five round numbers between two."""
    size = 10 ** math.floor(math.log10((high - low) / 4))
    size *= next(m for m in (1, 2, 5, 10) if (high - low) / (size * m) <= 5)
    first = math.ceil(low / size - 1e-9)
    return [size * i for i in range(first, int(high / size + 1e-9) + 1)]


def thinned(points, most=600):
    every = max(1, math.ceil(len(points) / most))
    return points[::every] + ([points[-1]] if (len(points) - 1) % every else [])


def lines(plot):
    points = [p for _, series in plot["series"] for p in series]
    x0, x1 = min(p[0] for p in points), max(p[0] for p in points)
    y0, y1 = min(p[1] for p in points), max(p[1] for p in points)
    y0, y1 = (y0 - 1, y1 + 1) if y0 == y1 else (y0 - 0.05 * (y1 - y0), y1 + 0.05 * (y1 - y0))
    x1 = x1 if x1 > x0 else x0 + 1
    at_x = lambda x: LEFT + (WIDTH - LEFT - 90) * (x - x0) / (x1 - x0)
    at_y = lambda y: 8 + (HEIGHT - BOTTOM - 8) * (y1 - y) / (y1 - y0)
    parts = []
    for y in steps(y0, y1):
        parts += ['<line class="axis" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/>' % (LEFT, WIDTH - 90, at_y(y), at_y(y)),
                  text(LEFT - 6, at_y(y) + 4, short(y), 'text-anchor="end" class="dim"')]
    parts += [text(at_x(x), HEIGHT - BOTTOM + 16, short(x), 'text-anchor="middle" class="dim"') for x in steps(x0, x1)]
    parts.append(text((LEFT + WIDTH - 90) / 2, HEIGHT - 2, plot["x"], 'text-anchor="middle" class="dim"'))
    labels = []  # heights taken; two lines may end at one place
    for i, (label, series) in enumerate(plot["series"]):
        if series:
            y = at_y(series[-1][1]) + 4
            while any(abs(y - other) < 14 for other in labels):
                y += 1
            labels.append(y)
            path = " ".join("%.1f,%.1f" % (at_x(x), at_y(y)) for x, y in thinned(series))
            parts += ['<polyline fill="none" stroke="%s" stroke-width="1.6" points="%s"/>' % (COLOURS[i % len(COLOURS)], path),
                      text(WIDTH - 84, y, label, 'style="fill:%s"' % COLOURS[i % len(COLOURS)])]
    return svg(HEIGHT, parts)


def svg(height, parts):
    return '<svg viewBox="0 0 %d %d" width="%d" role="img">%s</svg>' % (WIDTH, height, WIDTH, "".join(parts))


def figure(plot):
    if not any(series for _, series in plot["series"]):
        return ""
    drawn = bars(plot["series"]) if plot["kind"] == "bars" else lines(plot)
    return "<figure>%s<figcaption>%s</figcaption></figure>" % (drawn, html.escape(plot["title"]))


def row(check):
    command = "<code>%s</code>" % html.escape(check["command"]) if check["command"] else ""
    return '<tr><td>%s%s</td><td>%s</td><td>%s</td><td class="%s">%s</td></tr>' % (
        html.escape(check["what"]), command, html.escape(check["got"]), html.escape(check["want"]), check["verdict"].replace(" ", "-"), check["verdict"])


def chapter(c):
    return '<section id="%s"><h2>%s</h2><div class="wide"><table><tr><th>what</th><th>found</th><th>wanted</th><th>verdict</th></tr>%s</table></div>%s</section>' % (
        c["name"], html.escape(c["title"]), "".join(map(row, c["checks"])), "".join(map(figure, c["plots"])))


def page(report):
    counts = count([check for c in report["chapters"] for check in c["checks"]])
    verdicts = ", ".join('<span class="%s">%d %s</span>' % (v.replace(" ", "-") if n else "measured", n, v) for v, n in counts.items())
    facts = "".join("<dt>%s</dt><dd>%s</dd>" % (html.escape(k), html.escape(str(v))) for k, v in report["machine"].items())
    quick = "<p>Made with --quick: the figures mean little.</p>" if report["quick"] else ""
    return """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Rotor: proof</title><style>%s</style><body><h1>What Rotor says of itself, measured here</h1><p>%s</p>%s<dl>%s</dl>%s</body></html>
""" % (STYLE, verdicts, quick, facts, "".join(map(chapter, report["chapters"])))
