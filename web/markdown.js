// SPDX-License-Identifier: MIT
//
// markdown: a model's answer as nodes of the page, while it arrives.
//
// What a model writes is hostile until proven otherwise. It becomes text nodes and a fixed set of
// elements, made one by one; HTML in it is text like any other; images are never loaded, only named;
// links lead to http, https or mailto, in a new tab that knows nothing of this one.
//
// Blocks: paragraphs, headings, fenced code, quotes, lists (nested, with tasks), tables, rules.
// Inline: code, emphasis, strong, struck out, links, bare addresses, escapes, entities, <br>.
// A single line break is a line break, as people chat; after a long line it ends the paragraph, as
// small models write.
//
// Costs are linear in the text: nesting is bounded, no search runs over the same stretch twice, and
// whole blocks that did not change since the last piece of the answer are not made again.

const DEPTH_MAX = 8; // quotes and lists inside each other; deeper ones are text
const FRAMES_MAX = 24; // open marks of emphasis and links; further ones are text
const INLINE_MAX = 50_000; // characters of one paragraph that are looked at for marks
const URL_MAX = 1000; // characters of an address
const CELLS_MAX = 200; // columns of a table
const LONG_LINE = 100; // characters; prose is wrapped before, so that such a line is a paragraph by itself

// ---- Blocks ----------------------------------------------------------------------------------------
//
// Lines in, a list of {kind, from, to, …} out: which lines, and what they hold.

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?=[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: +|$)/;
const QUOTE = /^ {0,3}> ?/;

const blank = (line) => line.trim() === "";

/// Columns of white space before the text; a tab counts four.
function indentOf(line) {
  let columns = 0;
  for (const character of line) {
    if (character !== " " && character !== "\t") break;
    columns += character === "\t" ? 4 : 1;
  }
  return columns;
}

/// The line without up to `columns` of its indent.
function dedent(line, columns) {
  let i = 0;
  for (; columns > 0 && (line[i] === " " || line[i] === "\t"); i++) columns -= line[i] === "\t" ? 4 : 1;
  return " ".repeat(Math.max(0, -columns)) + line.slice(i);
}

/// Cells of a table's line, or null when it has no bar.
function cellsOf(line) {
  if (!line.includes("|")) return null;
  const cells = [""];
  const row = line.trim();
  for (let i = row[0] === "|" ? 1 : 0; i < row.length; i++) {
    if (row[i] === "\\" && row[i + 1] === "|") cells[cells.length - 1] += row[++i];
    else if (row[i] !== "|") cells[cells.length - 1] += row[i];
    else if (i < row.length - 1) cells.push("");
    if (cells.length > CELLS_MAX) return null;
  }
  return cells.map((cell) => cell.trim());
}

/// Alignments of a table that begins at line i, or null when none does.
function tableAt(lines, i) {
  const head = cellsOf(lines[i]);
  const rule = head && i + 1 < lines.length && cellsOf(lines[i + 1]);
  if (!rule || rule.length !== head.length || !rule.every((cell) => /^:?-+:?$/.test(cell))) return null;
  return rule.map((cell) => (cell.endsWith(":") ? (cell.startsWith(":") ? "center" : "right") : ""));
}

function startsBlock(lines, i, depth) {
  const line = lines[i];
  if (FENCE.test(line) || HEADING.test(line) || RULE.test(line)) return true;
  if (depth < DEPTH_MAX && QUOTE.test(line)) return true;
  const item = depth < DEPTH_MAX && ITEM.exec(line);
  return Boolean(item && line.length > item[0].length && /^(?:[-*+]|1[.)])$/.test(item[2])) || tableAt(lines, i) !== null;
}

function fenceAt(lines, i) {
  const open = FENCE.exec(lines[i]);
  if (!open) return null;
  const [, indent, marks, info] = open;
  let to = i + 1;
  const closes = (line) => {
    const body = line.trim();
    return body.length >= marks.length && indentOf(line) < 4 && body === marks[0].repeat(body.length);
  };
  while (to < lines.length && !closes(lines[to])) to++;
  const code = lines.slice(i + 1, to).map((line) => dedent(line, indent.length));
  return { kind: "code", from: i, to: Math.min(to + 1, lines.length), language: info.trim().split(/\s/)[0], code: code.join("\n") };
}

function quoteAt(lines, i) {
  let to = i;
  while (to < lines.length && QUOTE.test(lines[to])) to++;
  return { kind: "quote", from: i, to, lines: lines.slice(i, to).map((line) => line.replace(QUOTE, "")) };
}

/// A list: items of one sort of mark, each with the lines that are indented to its text.
function listAt(lines, i, depth) {
  const first = ITEM.exec(lines[i]);
  const sort = (mark) => (/\d/.test(mark) ? mark.at(-1) : mark);
  const list = { kind: "list", from: i, to: i, ordered: /\d/.test(first[2]), start: parseInt(first[2], 10), items: [], loose: false };
  while (i < lines.length) {
    const item = ITEM.exec(lines[i]);
    if (!item || sort(item[2]) !== sort(first[2]) || item[1].length > first[1].length + 3 || RULE.test(lines[i])) break;
    const width = Math.min(item[0].length, item[1].length + item[2].length + 4);
    const body = [lines[i].slice(width)];
    let gap = 0; // empty lines since the last line of the item
    for (i++; i < lines.length; i++) {
      if (blank(lines[i])) { gap++; continue; }
      const inside = indentOf(lines[i]) >= Math.min(width, item[1].length + 2);
      const goesOn = gap === 0 && !ITEM.test(lines[i]) && !startsBlock(lines, i, depth);
      if (!inside && !goesOn) break;
      for (; gap > 0; gap--) { body.push(""); list.loose = true; }
      body.push(inside ? dedent(lines[i], width) : lines[i].trimStart());
    }
    list.items.push(body);
    list.to = i - gap;
    if (gap && i < lines.length && ITEM.test(lines[i])) list.loose = true;
  }
  return list;
}

function blocksOf(lines, depth) {
  const blocks = [];
  for (let i = 0; i < lines.length; i = blocks.length ? Math.max(blocks.at(-1).to, i + 1) : i + 1) {
    if (blank(lines[i])) {
      while (i + 1 < lines.length && blank(lines[i + 1])) i++;
      if (blocks.length) blocks.at(-1).to = Math.max(blocks.at(-1).to, i + 1);
      continue;
    }
    blocks.push(blockAt(lines, i, depth));
  }
  return blocks;
}

function blockAt(lines, i, depth) {
  const line = lines[i];
  const fence = fenceAt(lines, i);
  if (fence) return fence;
  const heading = HEADING.exec(line);
  if (heading) return { kind: "heading", from: i, to: i + 1, level: heading[1].length, text: headingText(line) };
  if (RULE.test(line)) return { kind: "rule", from: i, to: i + 1 };
  if (depth < DEPTH_MAX && QUOTE.test(line)) return quoteAt(lines, i);
  if (depth < DEPTH_MAX && ITEM.test(line)) return listAt(lines, i, depth);
  const align = tableAt(lines, i);
  if (align) return rowsOf(lines, i, align);
  let to = i + 1;
  while (to < lines.length && lines[to - 1].length <= LONG_LINE && !blank(lines[to]) && !startsBlock(lines, to, depth)) to++;
  return { kind: "paragraph", from: i, to, text: lines.slice(i, to).join("\n") };
}

function headingText(line) {
  const body = line.trim().replace(/^#+/, "").trim();
  let end = body.length;
  while (end > 0 && body[end - 1] === "#") end--;
  return end === 0 || /\s/.test(body[end - 1]) ? body.slice(0, end).trim() : body;
}

function rowsOf(lines, i, align) {
  let to = i + 2;
  const rows = [];
  while (to < lines.length && !blank(lines[to]) && cellsOf(lines[to])) rows.push(cellsOf(lines[to++]).slice(0, align.length));
  return { kind: "table", from: i, to, align, head: cellsOf(lines[i]), rows };
}

// ---- Inline ----------------------------------------------------------------------------------------
//
// One pass over the characters, with a stack of frames: each open mark collects the nodes after it
// until its partner comes. A mark whose partner never comes turns back into text; while the answer
// still arrives (`live`) it counts as closed, so that nothing jumps when the partner does come.

const SPECIAL = /[\\`*_~[\]!<&\n]|https?:\/\//g;
const ENTITY = /&(?:(amp|lt|gt|quot|apos|nbsp)|#(\d{1,7})|#x([\da-f]{1,6}));/iy;
const NAMED = { amp: "&", lt: "<", gt: ">", quot: "\"", apos: "'", nbsp: "\u00a0" };
const ELEMENTS = { "*": "em", "_": "em", "**": "strong", "__": "strong", "~~": "del" };
const WORD = /[\p{L}\p{N}]/u;
const PUNCTUATION = /[\p{P}\p{S}]/u;

/// The address, when a link may lead there; null otherwise.
export function allowedUrl(address) {
  if (address.length > URL_MAX || /[\s\p{Cc}]/u.test(address) || !/^(?:https?:\/\/|mailto:)/i.test(address)) return null;
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

function link(address, children) {
  const href = allowedUrl(address);
  const node = document.createElement(href ? "a" : "span");
  if (href) Object.assign(node, { href, target: "_blank", rel: "noopener noreferrer", title: href });
  node.append(...children);
  return node;
}

/// Where the runs of ` of each length begin, so that none is looked for twice: {length: {places, next}}.
function backtickRuns(text) {
  const runs = new Map();
  for (const run of text.matchAll(/`+/g)) {
    if (!runs.has(run[0].length)) runs.set(run[0].length, { places: [], next: 0 });
    runs.get(run[0].length).places.push(run.index);
  }
  return runs;
}

class Inline {
  constructor(text, live) {
    this.text = text;
    this.live = live;
    this.at = 0;
    this.frames = [{ mark: "", nodes: [] }];
    this.plain = ""; // text not yet in a node
    this.runs = backtickRuns(text);
  }

  nodes() {
    const end = Math.min(this.text.length, INLINE_MAX);
    while (this.at < end) {
      SPECIAL.lastIndex = this.at;
      const found = SPECIAL.exec(this.text);
      const next = found ? Math.min(found.index, end) : end;
      this.plain += this.text.slice(this.at, next);
      this.at = next;
      if (this.at < end) this.special(found[0]);
    }
    this.plain += this.text.slice(this.at);
    while (this.frames.length > 1) this.unclosed();
    this.flush();
    return this.frames[0].nodes;
  }

  special(mark) {
    if (mark === "\n") this.lineBreak(1);
    else if (mark === "\\") this.escape();
    else if (mark === "`") this.code();
    else if (mark === "[") this.open("[", 1);
    else if (mark === "!") this.text[this.at + 1] === "[" ? this.open("![", 2) : this.take(1);
    else if (mark === "]") this.closeLink();
    else if (mark === "<") this.angle();
    else if (mark === "&") this.entity();
    else if (mark.length > 1) this.bareUrl();
    else this.emphasis(mark);
  }

  take(count) {
    this.plain += this.text.slice(this.at, this.at + count);
    this.at += count;
  }

  flush() {
    if (this.plain) this.frames.at(-1).nodes.push(document.createTextNode(this.plain));
    this.plain = "";
  }

  put(node) {
    this.flush();
    this.frames.at(-1).nodes.push(node);
  }

  lineBreak(length) {
    this.plain = this.plain.trimEnd();
    this.put(document.createElement("br"));
    this.at += length;
    while (this.text[this.at] === " ") this.at++;
  }

  escape() {
    const next = this.text[this.at + 1];
    if (next && /[!-/:-@[-`{-~]/.test(next)) {
      this.plain += next;
      this.at += 2;
    } else this.take(1);
  }

  code() {
    let length = 1;
    while (this.text[this.at + length] === "`") length++;
    const runs = this.runs.get(length) ?? { places: [], next: 0 };
    while (runs.places[runs.next] < this.at + length) runs.next++;
    const end = runs.places[runs.next] ?? (this.live && length < 3 ? this.text.length : -1);
    if (end < 0) return this.take(length);
    const node = document.createElement("code");
    const body = this.text.slice(this.at + length, end).replaceAll("\n", " ");
    node.textContent = /^ .*[^ ].* $/s.test(body) ? body.slice(1, -1) : body;
    this.put(node);
    this.at = end + length;
  }

  entity() {
    ENTITY.lastIndex = this.at;
    const found = ENTITY.exec(this.text);
    if (!found) return this.take(1);
    const point = found[2] ? parseInt(found[2], 10) : parseInt(found[3], 16);
    const valid = point > 31 && point <= 0x10ffff && !(point >= 0xd800 && point < 0xe000);
    this.plain += found[1] ? NAMED[found[1].toLowerCase()] : valid ? String.fromCodePoint(point) : "\ufffd";
    this.at += found[0].length;
  }

  angle() {
    const stretch = this.text.slice(this.at, this.at + URL_MAX);
    const broken = /^<br *\/?>\n?/i.exec(stretch);
    if (broken) return this.lineBreak(broken[0].length);
    const address = /^<([^\s<>]+)>/.exec(stretch);
    if (!address || !allowedUrl(address[1])) return this.take(1);
    this.put(link(address[1], [address[1]]));
    this.at += address[0].length;
  }

  bareUrl() {
    const before = this.text[this.at - 1] ?? "";
    let [address] = /^[^\s<>"`]*/.exec(this.text.slice(this.at, this.at + URL_MAX));
    address = address.replace(/[*_~\].,:;!?'"]{1,40}$/, "");
    if (address.endsWith(")") && !address.includes("(")) address = address.slice(0, -1);
    const inLink = this.frames.some((frame) => frame.mark.endsWith("["));
    if (WORD.test(before) || inLink || address.length < 9 || !allowedUrl(address)) return this.take(4);
    this.put(link(address, [address]));
    this.at += address.length;
  }

  // ---- Marks with a partner ----

  open(mark, length) {
    if (this.frames.length >= FRAMES_MAX) return this.take(length);
    this.flush();
    this.frames.push({ mark, nodes: [] });
    this.at += length;
  }

  /// Ends the innermost frame; its nodes go to the one below, wrapped or after the mark as text.
  end(wrap) {
    this.flush();
    const { mark, nodes } = this.frames.pop();
    if (wrap) this.frames.at(-1).nodes.push(wrap(nodes));
    else this.frames.at(-1).nodes.push(document.createTextNode(mark), ...nodes);
  }

  unclosed() {
    const { mark, nodes } = this.frames.at(-1);
    const element = this.live && (nodes.length || this.plain) && ELEMENTS[mark];
    this.end(element ? (inside) => wrapped(element, inside) : null);
  }

  emphasis(mark) {
    let length = 1;
    while (this.text[this.at + length] === mark) length++;
    const before = this.text.slice(Math.max(0, this.at - 2), this.at).match(/.$/su)?.[0] ?? " ";
    const after = this.text.slice(this.at + length, this.at + length + 2).match(/^./su)?.[0] ?? " ";
    const left = /\S/.test(after) && (!PUNCTUATION.test(after) || !/\S/.test(before) || PUNCTUATION.test(before));
    const right = /\S/.test(before) && (!PUNCTUATION.test(before) || !/\S/.test(after) || PUNCTUATION.test(after));
    const word = mark === "_";
    let rest = length;
    if (right && !(word && left && !PUNCTUATION.test(after))) rest = this.closeMarks(mark, rest);
    const opens = left && !(word && right && !PUNCTUATION.test(before));
    while (opens && rest > 0 && this.frames.length < FRAMES_MAX) {
      const size = mark === "~" ? 2 : rest >= 2 ? 2 : 1;
      if (rest < size || rest > 3 && rest === length) break;
      this.open(mark.repeat(size), size);
      rest -= size;
    }
    this.take(rest);
  }

  /// Closes open frames of this mark, innermost first; how much of the run is left.
  closeMarks(mark, rest) {
    while (rest > 0) {
      let i = this.frames.length - 1;
      const fits = (frame) => frame.mark[0] === mark && frame.mark.length <= rest;
      while (i > 0 && !fits(this.frames[i]) && !this.frames[i].mark.endsWith("[")) i--;
      if (i <= 0 || !fits(this.frames[i])) return rest;
      while (this.frames.length - 1 > i) this.end(null);
      const element = ELEMENTS[this.frames[i].mark];
      rest -= this.frames[i].mark.length;
      this.at += this.frames[i].mark.length;
      this.end((nodes) => wrapped(element, nodes));
    }
    return rest;
  }

  closeLink() {
    let i = this.frames.length - 1;
    while (i > 0 && !this.frames[i].mark.endsWith("[")) i--;
    if (i === 0) return this.take(1);
    const target = this.frames[i].dead ? null : this.target();
    while (this.frames.length - 1 > i) this.end(null);
    if (!target) {
      this.end(null);
      return this.take(1);
    }
    const image = this.frames[i].mark === "![";
    this.end((nodes) => (image ? pictured(target.address, nodes) : link(target.address, nodes)));
    this.at += target.length;
    if (!image) for (const frame of this.frames) frame.dead = true; // links do not nest
  }

  /// What follows a ]: (address) or (address "title"); while live, also its beginning.
  target() {
    if (this.text[this.at + 1] !== "(") return null;
    const stretch = this.text.slice(this.at + 1, this.at + 1 + URL_MAX);
    const found = /^\(\s*(?:<([^<>\n]*)>|([^\s()]*(?:\([^\s()]*\)[^\s()]*)*))(?:\s+(?:"[^"\n]*"|'[^'\n]*'))?\s*\)/.exec(stretch);
    if (found) return { address: found[1] ?? found[2], length: found[0].length + 1 };
    const begun = this.live && this.at + 1 + stretch.length === this.text.length && !/[\n)]/.test(stretch);
    return begun ? { address: "", length: stretch.length + 1 } : null;
  }
}

function wrapped(name, nodes) {
  const node = document.createElement(name);
  node.append(...nodes);
  return node;
}

/// A picture is named, not loaded: loading would tell another machine what is read here.
function pictured(address, nodes) {
  const node = wrapped("span", ["Picture: ", ...(nodes.length ? nodes : [address])]);
  node.className = "picture";
  return allowedUrl(address) ? link(address, [node]) : node;
}

export function inline(text, live = false) {
  return new Inline(text, live).nodes();
}

// ---- Blocks as nodes -------------------------------------------------------------------------------

const RENDER = {
  paragraph: (block, live) => wrapped("p", inline(block.text, live)),
  heading: (block, live) => wrapped(`h${Math.min(6, block.level + 2)}`, inline(block.text, live)),
  rule: () => document.createElement("hr"),
  quote: (block, live, depth) => wrapped("blockquote", rendered(block.lines, live, depth + 1)),
  code: (block) => codeBlock(block.language, block.code),
  list: renderList,
  table: renderTable,
};

let extras = () => []; // what stands in the head of a code block, from the page

/// Lets the page add to the head of each code block: makeExtras(getText) gives nodes.
export function setCodeExtras(makeExtras) {
  extras = makeExtras;
}

function codeBlock(language, code) {
  const body = wrapped("code", [code]);
  const pre = wrapped("pre", [body]);
  pre.tabIndex = 0; // scrolls sideways by the keyboard too
  const name = wrapped("span", [/^[\w.+#-]{1,30}$/.test(language) ? language : "text"]);
  const head = wrapped("div", [name, ...extras(() => body.textContent)]);
  head.className = "code-head";
  const figure = wrapped("figure", [head, pre]);
  figure.className = "code";
  return figure;
}

function renderList(block, live, depth) {
  const list = document.createElement(block.ordered ? "ol" : "ul");
  if (block.ordered && block.start !== 1) list.start = block.start;
  block.items.forEach((lines, index) => {
    const task = /^\[([ xX])\] /.exec(lines[0]);
    const body = task ? [lines[0].slice(4), ...lines.slice(1)] : lines;
    const nodes = rendered(body, live && index === block.items.length - 1, depth + 1);
    const tight = !block.loose && nodes[0]?.nodeName === "P";
    const item = wrapped("li", tight ? [...nodes[0].childNodes, ...nodes.slice(1)] : nodes);
    if (task) {
      const box = document.createElement("input");
      Object.assign(box, { type: "checkbox", disabled: true, checked: task[1] !== " " });
      item.prepend(box, " ");
      item.className = "task";
    }
    list.append(item);
  });
  return list;
}

function renderTable(block, live) {
  const cell = (name, column, text) => {
    const node = wrapped(name, inline(text ?? "", live));
    if (block.align[column]) node.className = `to-${block.align[column]}`;
    return node;
  };
  const row = (name, texts) => wrapped("tr", block.align.map((_, column) => cell(name, column, texts[column])));
  const table = wrapped("table", [wrapped("thead", [row("th", block.head)]), wrapped("tbody", block.rows.map((texts) => row("td", texts)))]);
  const frame = wrapped("div", [table]);
  frame.className = "table";
  frame.tabIndex = 0;
  return frame;
}

function rendered(lines, live, depth) {
  const blocks = blocksOf(lines, depth);
  return blocks.map((block, index) => RENDER[block.kind](block, live && index === blocks.length - 1, depth));
}

const linesOf = (text) => text.replace(/\r\n?/g, "\n").split("\n");

/// The nodes of a whole text.
export function markdown(text) {
  return rendered(linesOf(text), false, 0);
}

/// A text that grows inside a container. Only blocks that changed are made again.
export class LiveMarkdown {
  constructor(container) {
    this.container = container;
    this.shown = []; // {source, live} of each child
  }

  update(text, live) {
    const lines = linesOf(text);
    const blocks = blocksOf(lines, 0);
    const now = blocks.map((block, index) => ({
      source: lines.slice(block.from, block.to).join("\n").trimEnd(),
      live: live && index === blocks.length - 1,
    }));
    let same = 0;
    while (same < now.length && same < this.shown.length && now[same].source === this.shown[same].source &&
           now[same].live === this.shown[same].live) same++;
    while (this.container.childNodes.length > same) this.container.lastChild.remove();
    for (let i = same; i < blocks.length; i++) this.container.append(RENDER[blocks[i].kind](blocks[i], now[i].live, 0));
    this.shown = now;
  }
}
