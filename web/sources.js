// SPDX-License-Identifier: MIT
//
// sources: the passages an answer was given, under it, and its [1] as buttons that open them. All of
// a passage is put in as text: whatever stands in a document, nothing of it becomes part of the page.

import { el, icon } from "./dom.js";

const MARKS = /\[(\d{1,3}(?:\s*,\s*\d{1,3})*)\]/g;

function sourceItem(source) {
  const notes = [source.doubted && "hardly a word of the sentence is there", source.suspicious && "gives orders; they do not count"];
  return el("details", { class: "attached source", "data-number": source.number },
    el("summary", {}, icon("file"), el("span", {}, `[${source.number}] ${source.place}`),
      source.heading && el("small", {}, source.heading), ...notes.filter(Boolean).map((note) => el("small", { class: "doubt" }, note))),
    el("pre", { tabindex: 0 }, source.text));
}

/// The list under an answer; null where there is nothing to tell.
export function sourcesOf(rag) {
  if (!rag) return null;
  if (!rag.sources.length) return rag.refused ? null : el("p", { class: "no-source" }, `Nothing in ${rag.store} is near enough; no source was used.`);
  const cited = rag.sources.filter((source) => source.cited);
  const title = cited.length ? "Sources" : "No source is named; consulted";
  return el("div", { class: "sources", role: "group", "aria-label": "Sources" }, el("span", { class: "sources-title" }, title),
    (cited.length ? cited : rag.sources).map(sourceItem));
}

function openSource(turn, number) {
  const item = turn.querySelector(`.source[data-number="${number}"]`);
  if (!item) return;
  item.open = true;
  item.querySelector("summary").focus();
  item.scrollIntoView({ block: "nearest" });
}

/// Makes buttons of the numbers in the answer's text that have a source in the list; code and links stay.
export function linkCitations(body, turn) {
  body.normalize(); // a number may stand in several pieces of text
  const walker = document.createTreeWalker(body, NodeFilter.SHOW_TEXT);
  const texts = [];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    if (!node.parentElement.closest("code, pre, a, button")) texts.push(node);
  }
  for (const node of texts) {
    const parts = [];
    let from = 0;
    for (const found of node.data.matchAll(MARKS)) {
      const numbers = found[1].split(",").map((word) => Number(word.trim()));
      if (!numbers.every((number) => turn.querySelector(`.source[data-number="${number}"]`))) continue;
      parts.push(node.data.slice(from, found.index), ...numbers.map((number) => el("button", {
        type: "button", class: "citation", "aria-label": `Source ${number}`, onclick: () => openSource(turn, number),
      }, `[${number}]`)));
      from = found.index + found[0].length;
    }
    if (parts.length) node.replaceWith(...parts, node.data.slice(from));
  }
}
