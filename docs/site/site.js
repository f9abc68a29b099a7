// SPDX-License-Identifier: MIT
//
// What the documentation does beyond being read: day and night, the contents on a phone, copying
// commands, where one is on the page, and search. The index (search.js) is loaded when somebody looks
// for something; nothing else is, so that the pages work from a folder as well as from a server.
"use strict";

const byId = (id) => document.getElementById(id);
const root = document.documentElement;

// ---- Day and night -------------------------------------------------------------------------------

const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches);
for (const button of document.querySelectorAll(".theme")) {
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("rotor-theme", root.dataset.theme); } catch { /* then it lasts for this page */ }
  });
}

// ---- Contents on a narrow screen ---------------------------------------------------------------

function drawer(open) {
  root.classList.toggle("drawer", open);
  byId("open-contents").setAttribute("aria-expanded", String(open));
}
byId("open-contents").addEventListener("click", () => drawer(!root.classList.contains("drawer")));
byId("shade").addEventListener("click", () => drawer(false));
document.querySelector("#contents nav [aria-current]")?.scrollIntoView({ block: "center" });
scrollTo(0, location.hash ? scrollY : 0);

// ---- Copying ------------------------------------------------------------------------------------

for (const block of document.querySelectorAll(".code[data-language]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(block.querySelector("code").textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(block.querySelector("code"));
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  block.append(button);
}

// ---- Where one is -------------------------------------------------------------------------------

const marks = [...document.querySelectorAll("#here a")].map((link) => [link, byId(decodeURIComponent(link.hash.slice(1)))]);
function follow() {
  const now = marks.findLast(([, heading]) => heading && heading.getBoundingClientRect().top < 120);
  for (const [link] of marks) link.toggleAttribute("aria-current", link === now?.[0]);
}
addEventListener("scroll", follow, { passive: true });
follow();

// ---- Search -------------------------------------------------------------------------------------

const box = byId("query");
const found = byId("found");
const FOUND_MAX = 12;
let chosen = -1;

function wanted() { // loads the index once
  wanted.script ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = "search.js";
    script.addEventListener("load", done);
    document.head.append(script);
  });
  return wanted.script;
}

const wordsOf = (text) => text.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];

/// How well a section fits: every word must begin one of its words; headings count more than text.
function score(section, words) {
  let sum = 0;
  for (const word of words) {
    const begins = (text) => Math.min(` ${text}`.split(` ${word}`).length - 1, 5);
    const points = 12 * begins(section.title) + 6 * begins(section.page) + begins(section.text) + (section.title === word ? 20 : 0);
    if (!points) return 0;
    sum += points;
  }
  return sum + (section.first ? 4 : 0);
}

function search(query) {
  const words = wordsOf(query);
  if (!words.length) return [];
  search.index ??= window.searchIndex.map(([url, page, title, text]) => ({
    url, shown: page, heading: title, whole: text, first: !url.includes("#"),
    page: wordsOf(page).join(" "), title: wordsOf(title).join(" "), text: wordsOf(text).join(" "),
  }));
  return search.index.map((section) => [score(section, words), section]).filter(([points]) => points)
    .sort((a, b) => b[0] - a[0]).slice(0, FOUND_MAX).map(([, section]) => section);
}

/// A piece of the text around the first of the words, which are marked in it.
function excerpt(text, words) {
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}_])(${words.map((word) => word.replace(/\W/g, "\\$&")).join("|")})`, "iu");
  const at = Math.max(0, (text.search(pattern) < 0 ? 0 : text.search(pattern)) - 40);
  const piece = (at ? "… " : "") + text.slice(at, at + 150) + (at + 150 < text.length ? " …" : "");
  const line = document.createElement("small");
  piece.split(new RegExp(pattern, "giu")).forEach((part, i) => {
    if (i % 2 === 0) return line.append(part);
    const mark = document.createElement("mark");
    mark.textContent = part;
    return line.append(mark);
  });
  return line;
}

function show(sections, words) {
  chosen = -1;
  found.replaceChildren(...sections.map((section) => {
    const link = document.createElement("a");
    link.href = section.url;
    link.setAttribute("role", "option");
    link.append(section.heading && section.heading !== section.shown ? `${section.shown} › ${section.heading}` : section.shown, excerpt(section.whole, words));
    return link;
  }));
  if (!sections.length) {
    const nothing = document.createElement("p");
    nothing.textContent = "Nothing has all of these words.";
    found.append(nothing);
  }
  found.hidden = false;
  box.setAttribute("aria-expanded", "true");
}

function hide() {
  found.hidden = true;
  box.setAttribute("aria-expanded", "false");
}

function choose(step) {
  const links = [...found.querySelectorAll("a")];
  if (!links.length) return;
  chosen = (chosen + step + links.length) % links.length;
  links.forEach((link, i) => link.classList.toggle("chosen", i === chosen));
  links[chosen].scrollIntoView({ block: "nearest" });
}

async function look() {
  const query = box.value;
  if (!query.trim()) return hide();
  await wanted();
  if (box.value === query) show(search(query), wordsOf(query));
}

box.addEventListener("focus", wanted);
box.addEventListener("input", look);
box.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" || event.key === "ArrowUp") {
    event.preventDefault();
    choose(event.key === "ArrowDown" ? 1 : -1);
  } else if (event.key === "Enter") {
    (found.querySelectorAll("a")[Math.max(chosen, 0)])?.click();
  } else if (event.key === "Escape") {
    hide();
    box.blur();
  }
});
document.addEventListener("click", (event) => {
  if (!event.target.closest(".search")) hide();
  if (event.target.closest("#found a")) { hide(); drawer(false); }
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(input|textarea)$/i.test(document.activeElement.tagName)) {
    event.preventDefault();
    if (matchMedia("(max-width: 52rem)").matches) drawer(true);
    box.focus();
  }
});
