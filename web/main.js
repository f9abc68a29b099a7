// SPDX-License-Identifier: MIT
//
// main: the page as a whole. It owns what is shown (the conversation, the model, the answer being
// written) and passes what people do on to the parts:
//
//     composer, thread, sidebar, settings,   what one sees and touches
//     note
//     tree, store                            conversations, and where they are kept
//     exchange, api, advice                  the way to the server and back
//     markdown, dom                          text into nodes

import { contextSize, listModels, listStores } from "./api.js";
import { adviceFor } from "./advice.js";
import { Composer } from "./composer.js";
import { announce, byId, el, icon, iconButton, placeIcons, toast } from "./dom.js";
import { Exchange } from "./exchange.js";
import { openNote } from "./note.js";
import { Sidebar } from "./sidebar.js";
import { applyTheme, currentTheme, loadSettings, nextTheme, openSettings, samplingFields } from "./settings.js";
import { remembered, Store } from "./store.js";
import { Thread } from "./thread.js";
import { addNode, leaf, leaveOutOldest, messagesFor, newConversation, path, sentPath, switchBranch, titleOf, userText } from "./tree.js";

const SAVE_EVERY_MS = 2000; // while an answer is written
const RETRY_MS = 2000; // between looks at a server that loads or is away
const NEARLY_FULL = 0.85; // of the context: from here the page speaks of it
const ANSWER_SHARE = 0.35; // of the context that leaving out turns makes free for the answer

class Page {
  constructor() {
    this.settings = loadSettings();
    this.store = new Store();
    this.models = [];
    this.model = null; // the one that is talked to
    this.key = remembered.get("key", "") || sessionStorage.getItem("rotor.key") || "";
    this.exchange = null; // the answer being written
    this.conversation = newConversation(this.settings.system);
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel("rotor") : null;
    this.thread = new Thread({
      edit: (node, text) => this.edit(node, text),
      regenerate: (node) => this.answer(node.parent),
      branch: (node, step) => this.branch(node, step),
      example: (text) => this.send({ text, files: [] }),
      act: (name, node) => this.act(name, node),
    });
    this.composer = new Composer({
      onSend: (message) => this.send(message),
      onStop: () => this.exchange?.stop(),
      onEditLast: () => !this.exchange && this.thread.editLast(),
    });
    this.sidebar = new Sidebar(this.store, {
      open: (conversation) => this.open(conversation),
      fresh: () => this.fresh(),
      changed: () => { this.sidebar.show(this.conversation.id); this.tellOthers(); },
    });
  }

  async start() {
    placeIcons();
    this.listen();
    this.showTheme(currentTheme());
    const before = sessionStorage.getItem("rotor.open"); // what this tab showed when it was left
    this.fresh();
    await this.store.open();
    const last = this.store.conversations.get(before);
    if (last) this.open(last);
    this.sidebar.show(this.conversation.id);
    if (!this.store.kept) this.banner("This browser keeps nothing for this page: conversations last until it is closed.");
    await this.connect();
    document.documentElement.dataset.ready = "yes";
  }

  listen() {
    byId("open-settings").addEventListener("click", () => openSettings(this.settings, this.conversation, () => this.save()));
    byId("theme").addEventListener("click", () => this.showTheme(nextTheme()));
    document.addEventListener("keydown", (event) => this.shortcut(event));
    addEventListener("pagehide", () => this.exchange && this.save());
    this.channel?.addEventListener("message", () => this.othersChanged());
    for (const dialog of document.querySelectorAll("dialog")) {
      dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
    }
  }

  shortcut(event) {
    const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName) || document.querySelector("dialog[open]");
    const control = event.ctrlKey || event.metaKey;
    const key = event.key.toLowerCase();
    if (key === "escape" && !document.querySelector("dialog[open]")) {
      if (document.body.classList.contains("drawer")) this.sidebar.drawer(false);
      else this.exchange?.stop();
    } else if (key === "/" && !typing && !control) this.composer.focus();
    else if (key === "k" && control) {
      if (matchMedia("(max-width: 820px)").matches) this.sidebar.drawer(true);
      byId("search").focus();
    } else if (key === "o" && control && event.shiftKey) this.fresh();
    else return;
    event.preventDefault();
  }

  // ---- The server ----

  /// Learns the models and the size of their context. Looks again while the server loads or is away.
  async connect() {
    try {
      const models = await listModels(this.key);
      this.models = models.filter((model) => model.chats).length ? models.filter((model) => model.chats) : models;
      const wanted = this.conversation.model || remembered.get("model", "");
      this.model = this.models.find((model) => model.id === wanted) ?? this.models[0] ?? null;
      if (this.model && !this.model.context) this.model.context = await contextSize(this.key);
      this.knowledge = await listStores(this.key);
      this.banner("");
      this.showModel();
      this.showKnowledge();
      if (!path(this.conversation).length) this.show();
      this.showMeter();
    } catch (error) {
      if (error.status === 401) return this.askKey(() => this.connect());
      const { title, advice } = adviceFor(error);
      this.banner(error.status === 503 ? error.message : `${title} ${advice}`);
      setTimeout(() => this.connect(), RETRY_MS);
    }
  }

  banner(text) {
    if (byId("banner").textContent !== text) byId("banner").replaceChildren(...(text ? [el("p", {}, text)] : []));
  }

  showModel() {
    const box = byId("model");
    if (!this.model) return box.replaceChildren(el("span", { class: "model-name" }, "No model"));
    if (this.models.length === 1) return box.replaceChildren(el("span", { class: "model-name" }, this.model.id));
    const select = el("select", { "aria-label": "Model", onchange: () => this.pickModel(select.value) },
      this.models.map(({ id }) => el("option", { value: id, selected: id === this.model.id }, id)));
    box.replaceChildren(select);
  }

  /// Which knowledge store answers draw on; a server without any has no such choice.
  showKnowledge() {
    const wanted = remembered.get("knowledge", "");
    const names = this.knowledge.map(({ id }) => id);
    this.from = names.includes(wanted) ? wanted : "";
    const add = iconButton("plus", "Add a note or a text file", () => openNote(this.from, this.key));
    const showAdd = () => { add.hidden = !this.knowledge.some(({ id, writable }) => writable && id === this.from); };
    const select = el("select", { id: "knowledge-store", "aria-label": "Answer from documents", onchange: () => {
      this.from = select.value;
      remembered.set("knowledge", this.from);
      showAdd();
    } }, el("option", { value: "" }, "No documents"), names.map((name) => el("option", { value: name, selected: name === this.from }, name)));
    showAdd();
    byId("knowledge").replaceChildren(...(names.length ? [select, add] : []));
  }

  async pickModel(id) {
    this.model = this.models.find((model) => model.id === id);
    remembered.set("model", id);
    this.conversation.model = id;
    if (!this.model.context) this.model.context = await contextSize(this.key);
    this.save();
    this.show();
  }

  /// Asks for the server's key, then goes on.
  askKey(then) {
    const dialog = byId("key-dialog");
    const input = el("input", { type: "password", id: "key", autocomplete: "current-password", required: true });
    const keep = el("input", { type: "checkbox", id: "keep-key" });
    const form = el("form", { method: "dialog", onsubmit: () => {
      this.key = input.value.trim();
      remembered.set("key", keep.checked ? this.key : null);
      sessionStorage.setItem("rotor.key", this.key);
      then();
    } }, el("h2", { id: "key-title" }, "This server asks for a key"),
      el("p", {}, this.key ? "The key was not accepted." : "It is the value of --api-key, which whoever started the server knows."),
      el("label", { for: "key" }, "Key"), input, el("label", { class: "check" }, keep, "Remember it in this browser"),
      el("div", { class: "choices" }, el("button", { class: "filled" }, "Go on")));
    dialog.replaceChildren(form);
    if (!dialog.open) dialog.showModal();
  }

  // ---- Conversations ----

  fresh() {
    this.open(newConversation(this.settings.system), true);
  }

  open(conversation, isNew = false) {
    this.conversation = conversation;
    if (isNew) sessionStorage.removeItem("rotor.open");
    else sessionStorage.setItem("rotor.open", conversation.id);
    const model = this.models.find(({ id }) => id === conversation.model);
    if (model) this.model = model;
    if (this.models.length) this.showModel();
    this.show();
    this.thread.toEnd();
    this.sidebar.show(conversation.id);
    if (!matchMedia("(pointer: coarse)").matches) this.composer.focus();
  }

  show() {
    const title = titleOf(this.conversation);
    byId("heading").textContent = title;
    document.title = path(this.conversation).length ? `${title} · Rotor` : "Rotor";
    this.thread.show(this.conversation, { exchange: this.ours(), model: this.model });
    this.composer.setRunning(Boolean(this.exchange));
    this.showMeter();
  }

  /// The answer being written, when it belongs to what is shown.
  ours() {
    return this.exchange?.conversation === this.conversation ? this.exchange : null;
  }

  async save(conversation = this.conversation) {
    if (Object.keys(conversation.nodes).length === 1) return; // nothing was said yet
    try {
      await this.store.put(conversation);
      this.tellOthers();
    } catch (error) {
      this.banner(`This browser could not keep the conversation (${error?.message ?? "no room"}). Export it, or delete old ones.`);
    }
  }

  tellOthers() {
    this.channel?.postMessage("changed");
  }

  /// Another tab has changed the store: read it again, but never under an answer being written here.
  async othersChanged() {
    if (this.exchange) return;
    await this.store.reload();
    const here = this.store.conversations.get(this.conversation.id);
    if (here && here.changed_ms > this.conversation.changed_ms) this.open(here);
    else if (here) this.store.conversations.set(here.id, this.conversation);
    this.sidebar.show(this.conversation.id);
  }

  // ---- Talking ----

  send(message) {
    if (this.exchange) return false;
    const fields = { role: "user", text: message.text };
    if (message.files.length) fields.files = message.files;
    const node = addNode(this.conversation, leaf(this.conversation), fields);
    sessionStorage.setItem("rotor.open", this.conversation.id);
    this.answer(node.id);
    return true;
  }

  edit(node, text) {
    if (this.exchange) return toast("An answer is being written. Stop it first (Esc).");
    const fields = { role: "user", text };
    if (node.files) fields.files = node.files;
    this.answer(addNode(this.conversation, node.parent, fields).id);
  }

  branch(node, step) {
    if (this.ours()) return toast("An answer is being written. Stop it first (Esc).");
    const next = switchBranch(this.conversation, node.id, step);
    this.save();
    this.show();
    document.querySelector(`.turn[data-node="${next}"] .branches button:not(:disabled)`)?.focus();
  }

  /// Asks for an answer to the message `asked`, as a new branch below it.
  answer(asked) {
    if (this.exchange) return toast("An answer is being written. Stop it first (Esc).");
    const conversation = this.conversation;
    const node = addNode(conversation, asked, { role: "assistant", state: "running", model: this.model?.id ?? "", from: conversation.cut });
    if (this.model) conversation.model = this.model.id;
    const request = { model: this.model?.id ?? "default", messages: messagesFor(conversation, asked), ...samplingFields(this.settings),
      ...(this.from ? { rag: { store: this.from } } : {}) };
    let saved = performance.now();
    let drawing = false;
    this.exchange = new Exchange({
      conversation, node, request, key: this.key,
      changed: () => {
        if (!drawing) requestAnimationFrame(() => { drawing = false; this.draw(node); });
        drawing = true;
        if (performance.now() - saved < SAVE_EVERY_MS) return;
        saved = performance.now();
        this.save(conversation);
      },
      ended: (failure) => this.ended(conversation, node, failure),
    });
    this.save(conversation).then(() => this.sidebar.show(this.conversation.id));
    this.show();
    this.thread.toEnd();
    if (!matchMedia("(pointer: coarse)").matches) this.composer.focus();
    announce("The answer begins.");
    this.exchange.run();
  }

  draw(node) {
    if (!this.ours()) return;
    this.thread.update(node);
    this.showMeter();
  }

  ended(conversation, node, failure) {
    this.exchange = null;
    this.composer.setRunning(false);
    if (failure && sentPath(conversation).filter(({ role }) => role === "user").length < 2) {
      node.error.actions = node.error.actions.filter((action) => action !== "shorten"); // nothing older is sent
    }
    conversation.changed_ms = Date.now();
    this.save(conversation).then(() => this.sidebar.show(this.conversation.id));
    if (conversation === this.conversation) {
      this.thread.end(node); // in place: what is selected or unfolded elsewhere stays so
      this.showMeter();
    }
    announce(failure ? `${node.error.title} ${node.error.advice}` : node.text.slice(0, 3000) || "No answer.");
    if (failure?.status === 401) this.askKey(() => this.retry(node));
  }

  /// Asks again in the place of an answer that failed before its first word, or else as a new branch.
  retry(node) {
    const parent = this.conversation.nodes[node.parent];
    if (node.state === "failed" && !node.text && !node.reasoning) {
      parent.children = parent.children.filter((id) => id !== node.id);
      parent.pick = parent.children.at(-1) ?? null;
      delete this.conversation.nodes[node.id];
    }
    this.answer(parent.id);
  }

  act(name, node) {
    if (name === "again") this.retry(node);
    else if (name === "fresh") this.fresh();
    else if (name === "key") this.askKey(() => this.retry(node));
    else if (name === "shorten") this.shorten(node);
    else if (name === "restore") {
      this.conversation.cut = null;
      this.save();
      this.show();
    }
  }

  /// Leaves out so many of the oldest turns that about a third of the context is free again. With a
  /// failed answer it asks again at once.
  shorten(failed) {
    const used = failed ? messagesFor(this.conversation, failed.parent).reduce((sum, { content }) => sum + content.length, 0) / 4 : this.used();
    const room = this.model?.context ?? used;
    const share = Math.max(0.2, 1 - (room * (1 - ANSWER_SHARE)) / Math.max(used, room));
    if (!leaveOutOldest(this.conversation, share)) {
      return toast("Only one message is left to send: shorten it with Edit, or begin a new conversation.");
    }
    if (failed) return this.retry(failed);
    this.save();
    this.show();
  }

  // ---- The context meter ----

  /// Tokens of the context in use: as the server last counted them and what came since, or, when
  /// turns have been left out since, a guess of four characters each.
  used() {
    const exchange = this.ours();
    const nodes = sentPath(this.conversation);
    const guess = (some) => some.reduce((sum, node) => sum + (node.role === "user" ? userText(node) : node.text).length / 4, 0);
    const last = nodes.findLast((node) => node.stats?.used);
    if (!last || (last.from ?? null) !== this.conversation.cut) return Math.round(guess(nodes));
    return Math.round(last.stats.used + guess(nodes.slice(nodes.indexOf(last) + 1).filter((node) => node !== exchange?.node)) + (exchange?.tokens ?? 0));
  }

  showMeter() {
    const meter = byId("meter");
    const room = this.model?.context;
    const used = Math.min(this.used(), room ?? Infinity);
    meter.hidden = !room;
    if (!room) return;
    const share = used / room;
    meter.setAttribute("aria-valuemax", room);
    meter.setAttribute("aria-valuenow", used);
    meter.setAttribute("aria-valuetext", `${used} of ${room} tokens`);
    meter.title = `The model remembers ${room.toLocaleString()} tokens; this conversation uses ${used.toLocaleString()}.`;
    meter.classList.toggle("high", share >= NEARLY_FULL);
    meter.querySelector(".meter-fill").style.width = `${Math.round(share * 100)}%`;
    meter.querySelector(".meter-text").textContent = `${used.toLocaleString()} of ${room.toLocaleString()}`;
    this.showRoom(share >= NEARLY_FULL && !this.exchange && path(this.conversation).at(-1)?.state !== "failed");
  }

  /// Before the conversation no longer fits: says so, and what can be done.
  showRoom(nearlyFull) {
    const box = byId("room");
    if (nearlyFull === box.hasChildNodes()) return;
    box.replaceChildren(...(nearlyFull ? [el("span", {}, "Little room is left in the model’s memory."),
      el("button", { type: "button", class: "text-button", onclick: () => this.shorten(null) }, "Leave out the oldest turns"),
      el("button", { type: "button", class: "text-button", onclick: () => this.fresh() }, "New conversation")] : []));
  }

  showTheme([name, words]) {
    applyTheme(name);
    const button = byId("theme");
    button.replaceChildren(icon({ system: "system", light: "sun", dark: "moon" }[name]));
    button.setAttribute("aria-label", `Colours: ${words}. Change`);
    button.title = `Colours: ${words}`;
  }
}

new Page().start();
