// SPDX-License-Identifier: MIT
//
// thread: the messages on the page. show() draws the path of a conversation from scratch; update()
// redraws only the answer that is being written, at most once a frame.

import { byId, copyButton, el, icon, iconButton, mark } from "./dom.js";
import { LiveMarkdown, setCodeExtras } from "./markdown.js";
import { path, place, userText } from "./tree.js";
import { sizeWord } from "./composer.js";
import { linkCitations, sourcesOf } from "./sources.js";

const NEAR_END = 80; // pixels from the end that still count as reading along

// What the empty page invites to. A model of a few million weights tells stories and nothing else.
const SMALL_MODEL = 100e6; // weights
const INVITATIONS = {
  small: ["Tell me a story about a dog.", "Let me hear a story with a bird and a tree.", "Tell me a story about a red ball.", "I would like a story with a cat."],
  large: ["Explain how a bicycle stays upright.", "Write a short letter that says no, kindly.", "What can I cook from lentils, carrots and an onion?", "Give me a riddle, and wait for my answer."],
};

const ACTIONS = { again: "Try again", shorten: "Leave out the oldest turns", fresh: "New conversation", key: "Enter the key" };

const numeral = (value, digits = 0) => value.toLocaleString(undefined, { maximumFractionDigits: digits, minimumFractionDigits: digits });

export class Thread {
  /// actions: edit(node, text), regenerate(node), branch(node, step), example(text), act(name, node).
  constructor(actions) {
    this.actions = actions;
    this.scroller = byId("scroll");
    this.views = new Map(); // node id to what update() touches
    this.following = true; // the end of the thread stays in sight
    setCodeExtras((getText) => [copyButton(getText, "Copy this code", true)]);
    this.scroller.addEventListener("scroll", () => this.watchScroll());
    byId("to-end").addEventListener("click", () => this.toEnd(true));
    new ResizeObserver(() => this.following && this.toEnd()).observe(byId("thread"));
  }

  watchScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR_END;
    byId("to-end").hidden = this.following;
  }

  toEnd(smooth = false) {
    this.following = true;
    byId("to-end").hidden = true;
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: smooth ? "smooth" : "instant" });
  }

  // ---- Drawing ----

  show(conversation, { exchange = null, model = null } = {}) {
    this.conversation = conversation;
    this.exchange = exchange;
    this.model = model;
    this.views.clear();
    const nodes = path(conversation);
    const cut = nodes.findIndex((node) => node.id === conversation.cut);
    const turns = nodes.map((node, index) => {
      const article = node.role === "user" ? this.userTurn(node) : this.answerTurn(node);
      if (index < cut) article.classList.add("left-out");
      return index > 0 && index === cut ? [this.cutLine(), article] : [article];
    });
    byId("thread").replaceChildren(...(nodes.length ? turns.flat() : [this.emptyState()]));
    document.body.classList.toggle("empty", nodes.length === 0);
  }

  cutLine() {
    return el("div", { class: "cut", role: "separator" }, el("span", {}, "What stands above is no longer sent to the model"),
      el("button", { type: "button", class: "text-button", onclick: () => this.actions.act("restore", null) }, "Send it again"));
  }

  emptyState() {
    const small = this.model?.parameters != null && this.model.parameters < SMALL_MODEL;
    const texts = small ? INVITATIONS.small : INVITATIONS.large;
    return el("div", { class: "welcome" }, mark(),
      el("h2", {}, small ? "Ask for a story" : "What is on your mind?"),
      el("p", {}, small ? "A very small model is listening. It tells short children’s stories, and knows little else."
        : "The model runs on this machine. What you write stays here."),
      el("ul", { class: "examples" }, texts.map((text) => el("li", {}, el("button", { type: "button", onclick: () => this.actions.example(text) }, text)))));
  }

  userTurn(node) {
    const body = el("div", { class: "said", dir: "auto" }, node.text);
    const files = (node.files ?? []).map((file) => el("details", { class: "attached" },
      el("summary", {}, icon("file"), el("span", {}, file.name), el("small", {}, sizeWord(file.text.length))), el("pre", { tabindex: 0 }, file.text)));
    const turn = el("article", { class: "turn user", "aria-label": "You", "data-node": node.id });
    turn.append(...files, ...(node.text ? [body] : []), el("div", { class: "tools" }, this.branches(node),
      iconButton("pen", "Edit", () => this.edit(turn, node)), copyButton(() => userText(node), "Copy message")));
    return turn;
  }

  /// Puts a box with the message in the place of it. Sending makes a branch; the old one stays.
  edit(turn, node) {
    const box = el("textarea", { "aria-label": "Edit the message", rows: 1 });
    const grow = () => { box.style.height = "auto"; box.style.height = `${box.scrollHeight}px`; };
    const close = () => turn.replaceWith(this.userTurn(node));
    const send = () => {
      if (box.value.trim() || node.files?.length) this.actions.edit(node, box.value.trim());
    };
    box.value = node.text;
    box.addEventListener("input", grow);
    box.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { event.stopPropagation(); close(); byId("prompt").focus(); }
      else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
    });
    turn.replaceChildren(el("div", { class: "editing" }, box, el("div", { class: "editing-foot" },
      el("small", {}, "The old version stays as a branch."),
      el("button", { type: "button", class: "text-button", onclick: close }, "Cancel"),
      el("button", { type: "button", class: "filled", onclick: send }, "Send"))));
    grow();
    box.focus();
    box.setSelectionRange(box.value.length, box.value.length);
  }

  editLast() {
    const node = path(this.conversation).findLast(({ role }) => role === "user");
    const turn = node && document.querySelector(`.turn[data-node="${node.id}"]`);
    if (turn) this.edit(turn, node);
    return Boolean(turn);
  }

  answerTurn(node) {
    const view = {
      reasoning: el("div", { class: "reasoning-text" }), wait: el("div", { class: "wait" }), calls: el("div", { class: "calls" }),
      body: el("div", { class: "answer", dir: "auto" }), note: el("div", { class: "note" }), sources: el("div", {}), stats: el("span", { class: "stats" }),
    };
    view.summary = el("summary", {}, "Thoughts");
    view.details = el("details", { class: "reasoning", hidden: true }, view.summary, view.reasoning);
    view.live = new LiveMarkdown(view.body);
    view.liveReasoning = new LiveMarkdown(view.reasoning);
    view.tools = el("div", { class: "tools" }, this.branches(node), copyButton(() => node.text, "Copy answer"),
      iconButton("again", "Answer again", () => this.actions.regenerate(node)), view.stats);
    view.turn = el("article", { class: "turn reply", "aria-label": "Answer", "data-node": node.id },
      view.details, view.calls, view.body, view.sources, view.wait, view.note, view.tools);
    this.views.set(node.id, view);
    this.fill(node, view);
    return view.turn;
  }

  /// The answer is complete, or as complete as it gets.
  end(node) {
    this.exchange = null;
    this.update(node);
  }

  update(node) {
    const view = this.views.get(node.id);
    if (view) this.fill(node, view);
  }

  fill(node, view) {
    const running = node.state === "running";
    view.turn.setAttribute("aria-busy", String(running));
    view.details.hidden = !node.reasoning;
    if (node.reasoning) view.liveReasoning.update(node.reasoning, running && !node.text);
    view.summary.textContent = running && !node.text ? "Thinking …" : "Thoughts";
    view.live.update(node.text, running);
    if (!running && node.rag && !view.sources.childNodes.length) {
      view.sources.replaceChildren(...[sourcesOf(node.rag)].filter(Boolean));
    }
    if (!running && node.rag) linkCitations(view.body, view.turn);
    const calls = JSON.stringify(node.calls);
    if (calls !== view.callsKey) this.fillCalls(node, view);
    view.callsKey = calls;
    this.fillWait(node, view, running);
    this.fillNote(node, view);
    view.stats.textContent = running ? liveStats(this.exchange) : finalStats(node.stats);
  }

  fillCalls(node, view) {
    view.calls.replaceChildren(...(node.calls ?? []).filter(Boolean).map((call) => el("details", { class: "attached", open: true },
      el("summary", {}, "Wants to call ", el("code", {}, call.name)), el("pre", { tabindex: 0 }, prettyJson(call.arguments)))));
  }

  fillWait(node, view, running) {
    const waiting = running && !node.text && !node.reasoning && !node.calls;
    view.turn.classList.toggle("waiting", waiting);
    view.turn.classList.toggle("writing", running && !waiting);
    if (!waiting) return view.wait.replaceChildren();
    const progress = this.exchange?.progress;
    const words = progress ? `Reading, ${numeral(progress * 100)} %` : "Reading";
    if (view.wait.childNodes.length) view.wait.lastChild.textContent = words;
    else view.wait.append(mark(), el("span", {}, words));
  }

  fillNote(node, view) {
    const key = JSON.stringify([node.state, node.finish, node.error]);
    if (view.noteKey === key) return;
    view.noteKey = key;
    view.note.className = node.state === "failed" ? "note failed" : "note";
    if (node.state === "failed") {
      const actions = node.error.actions ?? ["again"];
      view.note.replaceChildren(el("strong", {}, node.error.title), " ", node.error.advice, el("div", { class: "note-actions" },
        actions.map((name) => el("button", { type: "button", class: "outlined", onclick: () => this.actions.act(name, node) }, ACTIONS[name]))));
    } else view.note.replaceChildren(...(noteFor(node, this.model) ?? []));
  }

  branches(node) {
    const { index, count } = place(this.conversation, node.id);
    if (count < 2) return null;
    const step = (by, name, label, possible) => {
      const button = iconButton(name, label, () => this.actions.branch(node, by));
      button.disabled = !possible;
      return button;
    };
    return el("span", { class: "branches", role: "group", "aria-label": `Version ${index + 1} of ${count}` },
      step(-1, "left", "Earlier version", index > 0), el("span", {}, `${index + 1} / ${count}`), step(1, "right", "Later version", index < count - 1));
  }
}

/// Why an answer ended before its end; null when it did not.
function noteFor(node, model) {
  if (node.state === "stopped") return ["Stopped here."];
  if (node.finish !== "length") return null;
  if (model?.context && node.stats?.used >= model.context - 1) {
    return [`Cut off: the model’s memory of ${numeral(model.context)} tokens is full. Begin a new conversation, or leave out the oldest turns.`];
  }
  return ["Cut off at the longest answer allowed. Settings has the limit."];
}

function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function liveStats(exchange) {
  if (!exchange?.tokens) return "";
  const rate = exchange.rate ? `, ${numeral(exchange.rate, exchange.rate < 20 ? 1 : 0)} t/s` : "";
  return `${numeral(exchange.tokens)} ${exchange.tokens === 1 ? "token" : "tokens"}${rate}`;
}

function finalStats(stats) {
  if (!stats?.tokens) return "";
  const rate = stats.per_second ? `, ${numeral(stats.per_second, stats.per_second < 20 ? 1 : 0)} t/s` : "";
  return `${numeral(stats.tokens)} ${stats.tokens === 1 ? "token" : "tokens"}${rate}`;
}
