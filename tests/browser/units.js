// SPDX-License-Identifier: MIT
//
// units: the modules of web/ one by one, in a real browser. Each check is a function; run() gives
// {passed, failures: ["name: what"]}, which test_web_units.py reads.

import { SseParser, ApiError } from "/web/api.js";
import { adviceFor } from "/web/advice.js";
import { allowedUrl, LiveMarkdown, markdown } from "/web/markdown.js";
import { Store, parseExport } from "/web/store.js";
import { samplingFields } from "/web/settings.js";
import { readTextFile } from "/web/composer.js";
import { addNode, asMarkdown, checkedConversation, leaf, leaveOutOldest, messagesFor, newConversation, path, place, switchBranch, titleOf, userText } from "/web/tree.js";

const checks = {};

function equal(got, wanted) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(wanted)];
  if (a !== b) throw new Error(`got ${a}, wanted ${b}`);
}

function html(text) {
  const box = document.createElement("div");
  box.append(...markdown(text));
  for (const node of box.querySelectorAll(".code-head")) node.remove();
  return box.innerHTML.replace(/ (?:target|rel|title|tabindex|class)="[^"]*"/g, "").replace(/<\/?(?:figure|div)>/g, "");
}

// ---- Markdown: what people write -------------------------------------------------------------------

const RENDERED = [
  ["plain", "<p>plain</p>"],
  ["a\nb\n\nc", "<p>a<br>b</p><p>c</p>"],
  ["a\r\nb\rc", "<p>a<br>b<br>c</p>"],
  ["*a* _b_ **c** __d__ ~~e~~", "<p><em>a</em> <em>b</em> <strong>c</strong> <strong>d</strong> <del>e</del></p>"],
  ["***both***", "<p><strong><em>both</em></strong></p>"],
  ["**a *b* c**", "<p><strong>a <em>b</em> c</strong></p>"],
  ["snake_case_name 2*3*4 a * b", "<p>snake_case_name 2<em>3</em>4 a * b</p>"],
  ["**open and *done*", "<p>**open and <em>done</em></p>"],
  ["*a **b* c**", "<p><em>a **b</em> c**</p>"],
  ["`code *x*` ``a`b`` `` ` ``", "<p><code>code *x*</code> <code>a`b</code> <code>`</code></p>"],
  ["\\*not\\* \\a", "<p>*not* \\a</p>"],
  ["&amp; &lt;b&gt; &#65; &#x41; &#0; &nope;", "<p>&amp; &lt;b&gt; A A \ufffd &amp;nope;</p>"],
  [`${"word ".repeat(30)}end.\nshort`, `<p>${"word ".repeat(30)}end.</p><p>short</p>`],
  ["# One\n## Two #\n####### seven", "<h3>One</h3><h4>Two</h4><p>####### seven</p>"],
  ["#tag", "<p>#tag</p>"],
  ["---\n***", "<hr><hr>"],
  ["> a\n> > b\n\nc", "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>"],
  ["- a\n- b\n  - c\n- d", "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>"],
  ["- a\n\t- b", "<ul><li>a<ul><li>b</li></ul></li></ul>"],
  ["3. a\n4. b", "<ol start=\"3\"><li>a</li><li>b</li></ol>"],
  ["1. a\n\n   more\n2. b", "<ol><li><p>a</p><p>more</p></li><li><p>b</p></li></ol>"],
  ["- [x] done\n- [ ] open", "<ul><li><input type=\"checkbox\" disabled=\"\"> done</li><li><input type=\"checkbox\" disabled=\"\"> open</li></ul>"],
  ["text\n- item", "<p>text</p><ul><li>item</li></ul>"],
  ["in 1986. A year\n1986. A year", "<p>in 1986. A year<br>1986. A year</p>"],
  ["```py\nif a:\n\tb\n```\nafter", "<pre><code>if a:\n\tb</code></pre><p>after</p>"],
  ["~~~\n```\n~~~", "<pre><code>```</code></pre>"],
  ["```\nnever closed\n\nstill", "<pre><code>never closed\n\nstill</code></pre>"],
  ["- a\n  ```\n  code\n  ```", "<ul><li>a<pre><code>code</code></pre></li></ul>"],
  ["| a | b |\n|:-:|--:|\n| 1 | 2 | 3 |\n| x \\| y |", "<table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td>2</td></tr><tr><td>x | y</td><td></td></tr></tbody></table>"],
  ["a | b", "<p>a | b</p>"],
  ["[a *b*](https://x.org/p_(q) \"t\")", "<p><a href=\"https://x.org/p_(q)\">a <em>b</em></a></p>"],
  ["[in [x](http://x.org) side](http://y.org)", "<p>[in <a href=\"http://x.org/\">x</a> side](<a href=\"http://y.org/\">http://y.org</a>)</p>"],
  ["see https://x.org/a_b_c, (http://y.org/z).", "<p>see <a href=\"https://x.org/a_b_c\">https://x.org/a_b_c</a>, (<a href=\"http://y.org/z\">http://y.org/z</a>).</p>"],
  ["<mailto:a@b.org> [1] [x] (y)", "<p><a href=\"mailto:a@b.org\">mailto:a@b.org</a> [1] [x] (y)</p>"],
  ["one<br>two<br/>three", "<p>one<br>two<br>three</p>"],
];

checks.markdown_as_written = () => {
  const wrong = RENDERED.filter(([text, wanted]) => html(text) !== wanted)
    .map(([text, wanted]) => `${JSON.stringify(text)}: got ${html(text)}, wanted ${wanted}`);
  if (wrong.length) throw new Error(wrong.join("\n"));
};

// ---- Markdown: what a hostile model writes -----------------------------------------------------------

const HOSTILE = [
  "<script>x</script>", "<img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "<a href='javascript:alert(1)'>x</a>",
  "[x](javascript:alert(1))", "[x](JaVaScRiPt:alert(1))", "[x]( javascript:alert(1))", "[x](java\nscript:alert(1))", "[x](java&#115;cript:alert(1))",
  "[x](&#106;avascript:alert(1))", "[x](data:text/html,<script>)", "[x](vbscript:x)", "[x](//evil.org)", "[x](/v1/models)", "[x](#top)", "[x](file:///etc/passwd)",
  "[x](https:javascript:alert(1))", "[x](http://a\u0000b)", "[x](\u0001javascript:alert(1))", "![x](https://evil.org/p.png)", "![x](javascript:alert(1))",
  "<javascript:alert(1)>", "<https://a.org/\"onmouseover=alert(1)>", "[x](<javascript:alert(1)>)", "[![x](http://evil.org/i.png)](javascript:alert(1))",
  "```\"><script>alert(1)</script>\nx\n```", "``` onload=alert(1)\nx\n```", "| <script> | [x](javascript:y) |\n|---|---|\n| <img src=x> | `</code><script>` |",
  "- <iframe src=x>\n> <object data=x>", "&lt;script&gt;alert(1)&lt;/script&gt;", "<!-- --><style>*{display:none}</style>", "<form action=x><input name=y>",
];
const HARMLESS = new Set("P BR EM STRONG DEL CODE PRE FIGURE DIV SPAN A H3 H4 H5 H6 HR UL OL LI BLOCKQUOTE TABLE THEAD TBODY TR TH TD".split(" "));
const ATTRIBUTES = new Set("class href target rel title tabindex start".split(" "));

function harmless(nodes, text) {
  const box = document.createElement("div");
  box.append(...nodes);
  for (const node of box.querySelectorAll("*")) {
    if (!HARMLESS.has(node.nodeName) && !(node.nodeName === "INPUT" && node.disabled)) throw new Error(`${node.nodeName} from ${JSON.stringify(text)}`);
    for (const { name, value } of node.attributes) {
      if (!ATTRIBUTES.has(name)) throw new Error(`attribute ${name}="${value}" from ${JSON.stringify(text)}`);
      if (name === "href" && !/^(https?:\/\/|mailto:)/.test(value)) throw new Error(`link to ${value} from ${JSON.stringify(text)}`);
    }
    if (node.nodeName === "A" && (node.rel !== "noopener noreferrer" || node.target !== "_blank")) throw new Error(`rel of ${JSON.stringify(text)}`);
  }
  return box;
}

checks.hostile_markdown_becomes_text = () => {
  for (const text of HOSTILE) {
    const box = harmless(markdown(text), text);
    if (/javascript|<script/i.test(text.split("](")[0]) && !/\S/.test(box.textContent)) throw new Error(`nothing shown of ${text}`);
    for (let cut = 1; cut < text.length; cut++) {
      const growing = document.createElement("div");
      new LiveMarkdown(growing).update(text.slice(0, cut), true);
      harmless([...growing.childNodes], text.slice(0, cut));
    }
  }
};

checks.only_three_schemes = () => {
  for (const bad of ["javascript:x", "http:x", "HTTPS:", "ftp://a", "data:,x", "blob:http://a/b", "http://a b", "", "mailto:a\nb", "https://" + "a".repeat(2000), "http://[", "about:blank"]) equal(allowedUrl(bad), null);
  equal(["http://a.org", "HTTPS://a.org/x", "mailto:a@b.c"].map(allowedUrl), ["http://a.org/", "https://a.org/x", "mailto:a@b.c"]);
};

// Any text: the same letters come out, and random marks never make anything but harmless nodes.
checks.random_marks_are_harmless_and_lose_no_words = () => {
  let seed = 7;
  const random = (n) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % n;
  const parts = ["*", "**", "_", "~~", "`", "```", "[", "](", ")", "![", "<", ">", "|", "\n", "\n\n", "- ", "1. ", "> ", "# ", "---", "\\", "&", "http://", " ", "\t", "word", "x", "😀", "javascript:"];
  for (let round = 0; round < 1500; round++) {
    let text = "";
    for (let i = random(40); i >= 0; i--) text += parts[random(parts.length)];
    const box = harmless(markdown(text), text);
    const count = (s) => (s.match(/word/g) ?? []).length;
    const shown = count(box.textContent) + [...box.querySelectorAll("a")].filter((a) => !a.textContent.includes("word")).length;
    const possible = count(text.replace(/\]\([^)]*\)?/g, "").replace(/[`~]{3,}[^\n]*/g, "").replace(/\n.*\|.*/g, ""));
    if (shown < possible) throw new Error(`words lost: ${JSON.stringify(text)} became ${JSON.stringify(box.textContent)}`);
  }
};

// A piece at a time must end where the whole text ends.
checks.growing_text_ends_as_the_whole = () => {
  const text = RENDERED.map(([source]) => source).filter((source) => !/never closed/.test(source)).join("\n\n");
  const box = document.createElement("div"), whole = document.createElement("div");
  const live = new LiveMarkdown(box);
  for (let end = 1; end <= text.length; end += 3) live.update(text.slice(0, end), true);
  live.update(text, false);
  whole.append(...markdown(text));
  equal(box.innerHTML, whole.innerHTML);
};

checks.blocks_that_are_done_are_left_alone = () => {
  const box = document.createElement("div");
  const live = new LiveMarkdown(box);
  live.update("first *para*\n\nsecond", true);
  const first = box.firstChild;
  live.update("first *para*\n\nsecond and **more", true);
  equal([box.firstChild === first, box.lastChild.innerHTML], [true, "second and <strong>more</strong>"]);
  live.update("first *para*\n\nsecond and **more", false);
  equal(box.lastChild.innerHTML, "second and **more");
};

// Inputs that make careless parsers quadratic, or worse. Each has 200,000 characters.
checks.huge_inputs_take_linear_time = () => {
  const fill = (text) => text.repeat(Math.ceil(200_000 / text.length)).slice(0, 200_000);
  const shapes = ["*a ", "**a", "_a_b", "[", "[](", "![a](", "`", "`` ` ``` ", "> ", "- ", "  - a\n", "# # # ", "|", "| a | b |\n", "|-", "&#", "<a", "<http://", "\\", "~~", "***", "1. a\n", "```\n", "http://", "a\n", "\n", " \t", "*_", "[a](b", "> - "];
  const time = (shape) => {
    const start = performance.now();
    harmless(markdown(fill(shape)), shape);
    return performance.now() - start;
  };
  for (const shape of shapes) {
    let spent = time(shape);
    for (let tries = 1; spent > 4000 && tries < 5; tries++) spent = Math.min(spent, time(shape)); // machines stall
    if (spent > 4000) throw new Error(`${JSON.stringify(shape)} took ${Math.round(spent)} ms`);
  }
};

// ---- Server-sent events ------------------------------------------------------------------------------

checks.events_split_at_every_byte = () => {
  const stream = ": ping\n\ndata: {\"a\":1}\n\nevent: x\r\ndata: one\r\ndata:two\r\n\r\ndata: grüße 😀\r\rid: 3\n\n\ndata:  spaced\n\ndata\n\ndata: [DONE]\n\ndata: unfinished\n";
  const wanted = ["{\"a\":1}", "one\ntwo", "grüße 😀", " spaced", "[DONE]"];
  const bytes = new TextEncoder().encode(stream);
  for (let cut = 0; cut <= bytes.length; cut++) {
    for (const second of [cut, Math.min(bytes.length, cut + 1)]) {
      const parser = new SseParser();
      equal([...parser.feed(bytes.slice(0, cut)), ...parser.feed(bytes.slice(cut, second)), ...parser.feed(bytes.slice(second))], wanted);
    }
  }
  const parser = new SseParser();
  equal([...bytes].flatMap((byte) => parser.feed(Uint8Array.of(byte))), wanted);
};

checks.a_line_without_end_is_refused = () => {
  const parser = new SseParser();
  let refused = false;
  try {
    for (let i = 0; i < 20; i++) parser.feedText("x".repeat(1 << 20));
  } catch (error) {
    refused = error instanceof ApiError;
  }
  equal(refused, true);
};

checks.every_failure_has_advice = () => {
  const kinds = [[0, "no_connection"], [0, "stream_cut"], [400, "context_length_exceeded"], [400, "invalid_value"], [401, "invalid_api_key"], [403, "host_not_allowed"], [404, "model_not_found"], [413, "request_too_large"], [429, "queue_full"], [500, "internal_error"], [501, "not_supported"], [503, "model_loading"], [200, "shutting_down"], [502, undefined]];
  for (const [status, code] of kinds) {
    const { title, advice, actions } = adviceFor(new ApiError(status, { code, message: "Because." }));
    if (!title || !advice || !Array.isArray(actions)) throw new Error(`${status} ${code}`);
  }
  equal(/900.*512/.test(adviceFor(new ApiError(400, { code: "context_length_exceeded", n_ctx: 512, n_prompt_tokens: 900 })).advice), true);
};

// ---- The tree ------------------------------------------------------------------------------------------

function grown() {
  const c = newConversation("Be kind.");
  const hello = addNode(c, "0", { role: "user", text: "hello" });
  const first = addNode(c, hello.id, { role: "assistant", text: "hi", state: "done", stats: { tokens: 2, used: 9 } });
  const second = addNode(c, hello.id, { role: "assistant", text: "good day", reasoning: "hm", state: "done" });
  const more = addNode(c, second.id, { role: "user", text: "more", files: [{ name: "a.txt", text: "x\n```\ny" }] });
  const edited = addNode(c, "0", { role: "user", text: "hullo" });
  return { c, hello, first, second, more, edited };
}

checks.branches_by_edit_and_regenerate = () => {
  const { c, hello, first, second, more, edited } = grown();
  equal(path(c).map((n) => n.id), [edited.id]);
  equal(switchBranch(c, edited.id, -1), hello.id);
  equal(path(c).map((n) => n.id), [hello.id, second.id, more.id]);
  equal([place(c, second.id), leaf(c), switchBranch(c, second.id, 1)], [{ index: 1, count: 2 }, more.id, second.id]);
  switchBranch(c, second.id, -1);
  equal([leaf(c), leaf(newConversation())], [first.id, "0"]);
  switchBranch(c, first.id, 1);
  equal(leaf(c), more.id); // what was shown below comes back
};

checks.what_is_sent = () => {
  const { c, edited, more } = grown();
  switchBranch(c, edited.id, -1);
  const file = "File a.txt:\n````\nx\n```\ny\n````\n\nmore"; // a fence longer than the one inside
  equal(messagesFor(c, more.id), [{ role: "system", content: "Be kind." }, { role: "user", content: "hello" }, { role: "assistant", content: "good day" }, { role: "user", content: file }]);
  equal(messagesFor(c, c.nodes["1"].id).length, 2);
  equal(leaveOutOldest(c, 0.1), true);
  equal(messagesFor(c, more.id), [{ role: "system", content: "Be kind." }, { role: "user", content: file }]);
  equal(leaveOutOldest(c, 0.1), false); // the last question always stays
  switchBranch(c, "1", 1);
  equal(messagesFor(c, edited.id).length, 2); // the cut lies on the other branch
};

checks.titles = () => {
  const c = newConversation();
  equal(titleOf(c), "New conversation");
  addNode(c, "0", { role: "user", text: "word ".repeat(40) });
  equal([titleOf(c).length <= 61, titleOf(c).endsWith("word…")], [true, true]);
  equal(asMarkdown(c).startsWith("# word"), true);
  equal(userText({ text: "", files: [{ name: "n", text: "t" }] }), "File n:\n```\nt\n```");
};

// ---- Export and import -----------------------------------------------------------------------------------

const bare = (c) => JSON.parse(JSON.stringify({ ...c, next: 0 }));

checks.export_and_import_keep_everything = async () => {
  const store = new Store();
  const { c, edited, second } = grown();
  switchBranch(c, edited.id, -1);
  c.cut = second.id;
  c.title = "Ti\"tle <b>";
  await store.put(c);
  const other = new Store();
  equal(await other.importText(store.exportText()), { added: 1, replaced: 0, same: 0 });
  const back = other.list()[0];
  equal(path(back).map((n) => [n.role, n.text, n.files, n.reasoning, n.stats]), path(c).map((n) => [n.role, n.text, n.files, n.reasoning, n.stats]));
  equal([back.id, back.title, back.system, back.nodes[back.cut].text, Object.keys(back.nodes).length, back.changed_ms, back.created_ms], [c.id, c.title, c.system, "good day", 6, c.changed_ms, c.created_ms]);
  equal(await other.importText(other.exportText()), { added: 0, replaced: 0, same: 1 });
  back.changed_ms += 5;
  equal(await store.importText(other.exportText()), { added: 0, replaced: 1, same: 0 });
  const third = new Store();
  await third.importText(other.exportText());
  equal(bare(third.list()[0]), bare(back)); // once rebuilt, nothing changes any more
};

checks.hostile_exports_are_refused_or_harmless = () => {
  const wrap = (...conversations) => JSON.stringify({ format: "rotor-conversations", version: 1, conversations });
  for (const bad of ["", "no", "[]", "{}", "null", "{\"format\":\"other\"}", JSON.stringify({ format: "rotor-conversations", version: 2, conversations: [] }), wrap(null), wrap({}), wrap({ id: "a" }), wrap({ id: "a", nodes: {} }), wrap({ id: 3, nodes: {} })]) {
    let refused = false;
    try { parseExport(bad); } catch (error) { refused = error.message.length > 10; }
    if (!refused) throw new Error(`taken: ${bad}`);
  }
  const circle = { id: "a", nodes: { 0: { children: ["1", "1", "9"], pick: "__proto__" }, 1: { role: "user", text: 5, children: ["0", "1", "2"], pick: "2", stats: { a: "x", b: 1 }, files: [null, { name: {}, text: "t" }] }, 2: { role: "system", text: "no" } } };
  const [c] = parseExport(wrap(circle));
  equal([Object.keys(c.nodes).length, path(c).length, c.nodes["1"].stats, c.nodes["1"].files, c.nodes["1"].text], [2, 1, { b: 1 }, [{ name: "", text: "t" }], ""]);
  const polluted = checkedConversation(JSON.parse("{\"id\":\"x\",\"nodes\":{\"0\":{\"children\":[\"__proto__\"]},\"__proto__\":{\"role\":\"user\"}},\"__proto__\":{\"y\":1}}"));
  equal([{}.y, {}.role, polluted.y], [undefined, undefined, undefined]);
  const deep = { id: "d", nodes: {} }; // a chain longer than any stack
  for (let i = 0; i < 30_000; i++) deep.nodes[i] = { role: "user", text: "x", children: [String(i + 1)], pick: String(i + 1) };
  deep.nodes[30_000] = { role: "user", children: [] };
  equal(path(checkedConversation(deep)).length, 30_000);
};

checks.sources_come_back_with_an_import = () => {
  const source = { number: 1, place: "a.md:1", heading: "A", text: "x", cited: true, doubted: false, suspicious: false };
  const rag = { store: "notes", used: true, refused: false, sources: [source] };
  const imported = (given) => path(checkedConversation({ id: "r", nodes: { 0: { children: ["1"], pick: "1" }, 1: { role: "assistant", children: [], rag: given } } }))[0].rag;
  equal(imported(rag), rag);
  equal(imported({ store: 5, used: "yes", sources: [null, 7, { place: {}, cited: 1, number: "<b>" }] }),
    { store: "", used: false, refused: false, sources: [{ number: 1, place: "", heading: "", text: "", cited: false, doubted: false, suspicious: false }] });
  equal(imported({}), { store: "", used: false, refused: false, sources: [] });
  equal(imported("x"), undefined);
};

checks.search_looks_into_every_branch = async () => {
  const store = new Store();
  await store.put(grown().c);
  const titles = (query) => store.search(query).map(({ snippet }) => snippet);
  equal([titles("GOOD day"), titles("hello nothing"), titles("a.txt").length, titles("").length], [["good day"], [], 1, 1]);
};

checks.conversations_outlive_the_page = async () => {
  const name = "units-" + Math.random();
  const first = new Store(), again = new Store();
  await first.open(name);
  await first.put(grown().c);
  await again.open(name);
  equal([again.kept, again.list().length, again.list()[0].nodes["1"].text], [true, 1, "hello"]);
  await again.clear();
  await first.reload();
  equal(first.list().length, 0);
};

// ---- Settings and files ------------------------------------------------------------------------------------

checks.only_sound_settings_are_sent = () => {
  equal(samplingFields({ sampling: { temperature: 0, top_k: 2.5, top_p: 7, min_p: 0.05, seed: 3, max_tokens: NaN, other: 1 }, stop: "END\n\\n\\n\n" }), { temperature: 0, min_p: 0.05, seed: 3, stop: ["END", "\n\n"] });
  equal(samplingFields({ sampling: {}, stop: "" }), {});
};

checks.only_text_files_are_attached = async () => {
  equal(await readTextFile(new File(["häuser"], "a`b\u0007.txt")), { name: "a_b_.txt", text: "häuser" });
  for (const file of [new File([Uint8Array.of(0x25, 0x50, 0xff, 0xfe)], "a.pdf"), new File(["a\0b"], "b.bin"), new File(["x".repeat(600_000)], "large.txt")]) {
    let said = "";
    try { await readTextFile(file); } catch (error) { said = error.message; }
    if (!said.includes(file.name)) throw new Error(`${file.name} was taken`);
  }
};

export async function run() {
  const failures = [], times = {};
  for (const [name, check] of Object.entries(checks)) {
    const start = performance.now();
    try {
      await check();
    } catch (error) {
      failures.push(`${name}: ${error.stack ?? error}`);
    }
    times[name] = Math.round(performance.now() - start);
  }
  return { names: Object.keys(checks), failures, times };
}
