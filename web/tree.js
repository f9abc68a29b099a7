// SPDX-License-Identifier: MIT
//
// tree: a conversation is a tree of messages. Editing a message or asking again never destroys: it
// adds a sibling. In every message `pick` names the child that is shown; following the picks from
// the root gives the path, which is what one reads and what is sent.
//
//     root ── "Tell me a story" ─┬─ "Once there was a dog…"
//                                └─ "One day a girl…"  ── "And then?" ── …
//
// A conversation is plain data, ready for storage and for export:
//
//     {id, title, created_ms, changed_ms, system, model, next, cut, nodes: {"0": node, "1": …}}
//     node: {id, parent, role, text, children: [id], pick: id or null, time_ms, and for users files:
//            [{name, text}], for answers reasoning, calls, state, finish, stats, model, error, rag
//            (what groundsOf in exchange.js keeps of a store's part), and from: what `cut` was when it was asked for}
//
// `cut` names the oldest message that is still sent; null: all of them.

const ROOT = "0";
const TITLE_LENGTH = 60; // characters

export function newConversation(system = "") {
  const now = Date.now();
  return {
    id: crypto.randomUUID ? crypto.randomUUID() : `${now.toString(36)}-${Math.random().toString(36).slice(2)}`,
    title: "", created_ms: now, changed_ms: now, system, model: "", next: 1, cut: null,
    nodes: { [ROOT]: { id: ROOT, parent: null, role: "root", text: "", children: [], pick: null } },
  };
}

/// Adds a message below parent and shows it.
export function addNode(conversation, parent, fields) {
  const id = String(conversation.next++);
  const node = { text: "", time_ms: Date.now(), ...fields, id, parent, children: [], pick: null };
  conversation.nodes[id] = node;
  conversation.nodes[parent].children.push(id);
  conversation.nodes[parent].pick = id;
  conversation.changed_ms = Date.now();
  return node;
}

/// The messages that are shown, oldest first.
export function path(conversation) {
  const found = [];
  let node = conversation.nodes[ROOT];
  while (node.pick !== null) found.push((node = conversation.nodes[node.pick]));
  return found;
}

/// Where the next message goes.
export function leaf(conversation) {
  return path(conversation).at(-1)?.id ?? ROOT;
}

/// A message among its siblings: {index, count}.
export function place(conversation, id) {
  const { children } = conversation.nodes[conversation.nodes[id].parent];
  return { index: children.indexOf(id), count: children.length };
}

/// Shows the sibling that is `step` further; what was shown below it then is shown again.
export function switchBranch(conversation, id, step) {
  const parent = conversation.nodes[conversation.nodes[id].parent];
  const next = parent.children[parent.children.indexOf(id) + step];
  if (next !== undefined) parent.pick = next;
  return next ?? id;
}

/// A title from the first words said.
export function titleOf(conversation) {
  if (conversation.title) return conversation.title;
  const first = path(conversation)[0];
  const text = ((first?.text || first?.files?.[0]?.name) ?? "").replace(/\s+/g, " ").trim();
  return text.length > TITLE_LENGTH ? text.slice(0, TITLE_LENGTH).replace(/\s+\S*$/, "") + "…" : text || "New conversation";
}

/// A user's message as the model reads it: each file in a fence longer than any fence inside it.
export function userText(node) {
  const files = (node.files ?? []).map(({ name, text }) => {
    const longest = Math.max(2, ...Array.from(text.matchAll(/`{3,}/g), (run) => run[0].length));
    const fence = "`".repeat(longest + 1);
    return `File ${name}:\n${fence}\n${text.replace(/\n$/, "")}\n${fence}`;
  });
  return [...files, node.text].filter(Boolean).join("\n\n");
}

/// What is shown of the path and sent: from `cut` on, or all of it when that is on another branch.
export function sentPath(conversation) {
  const nodes = path(conversation);
  const from = nodes.findIndex((node) => node.id === conversation.cut);
  return from > 0 ? nodes.slice(from) : nodes;
}

/// The request's messages up to and with the message `last`.
export function messagesFor(conversation, last) {
  const messages = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  for (const node of sentPath(conversation)) {
    if (node.role === "user") messages.push({ role: "user", content: userText(node) });
    else if (node.text) messages.push({ role: "assistant", content: node.text });
    if (node.id === last) break;
  }
  return messages;
}

/// Leaves out the oldest turns, at least `share` (0 to 1) of what is sent now, measured in
/// characters; the newest user message always stays. False when there is nothing left to leave out.
export function leaveOutOldest(conversation, share) {
  const nodes = sentPath(conversation);
  const starts = nodes.flatMap((node, index) => (node.role === "user" ? [index] : []));
  const length = (node) => (node.role === "user" ? userText(node) : node.text).length;
  const wanted = share * nodes.reduce((sum, node) => sum + length(node), 0);
  for (const start of starts.slice(1)) {
    const dropped = nodes.slice(0, start).reduce((sum, node) => sum + length(node), 0);
    if (dropped < wanted && start !== starts.at(-1)) continue;
    conversation.cut = nodes[start].id;
    return true;
  }
  return false;
}

// ---- Conversations from outside -------------------------------------------------------------------

const text = (value) => (typeof value === "string" ? value : "");
const number = (value) => (Number.isFinite(value) ? value : 0);

/// What groundsOf keeps, of what a file says it kept.
function checkedGrounds(raw) {
  const sources = Array.isArray(raw.sources) ? raw.sources.filter((source) => source && typeof source === "object") : [];
  return {
    store: text(raw.store), used: raw.used === true, refused: raw.refused === true,
    sources: sources.map((source, index) => ({
      number: index + 1, place: text(source.place), heading: text(source.heading), text: text(source.text),
      cited: source.cited === true, doubted: source.doubted === true, suspicious: source.suspicious === true,
    })),
  };
}

function checkedFields(raw) {
  const node = { role: raw.role, text: text(raw.text), time_ms: number(raw.time_ms) };
  if (Array.isArray(raw.files)) {
    node.files = raw.files.filter((file) => file && typeof file === "object")
      .map((file) => ({ name: text(file.name), text: text(file.text) }));
  }
  for (const key of ["reasoning", "state", "finish", "model"]) if (text(raw[key])) node[key] = raw[key];
  if (Array.isArray(raw.calls)) {
    node.calls = raw.calls.filter((call) => call && typeof call === "object")
      .map((call) => ({ name: text(call.name), arguments: text(call.arguments) }));
  }
  if (raw.stats && typeof raw.stats === "object") {
    node.stats = Object.fromEntries(Object.entries(raw.stats).filter(([, value]) => Number.isFinite(value)));
  }
  if (raw.rag && typeof raw.rag === "object") node.rag = checkedGrounds(raw.rag);
  if (raw.error && typeof raw.error === "object") node.error = { title: text(raw.error.title), advice: text(raw.error.advice) };
  if (node.state === "running") node.state = "stopped"; // it was, when the file was written
  return node;
}

/// A conversation rebuilt from untrusted data, keeping known fields of the right kind only. Throws an
/// Error that says what is wrong. Nodes are taken in the order of the tree, so that whatever is not
/// reachable from the root, or twice, is left out.
export function checkedConversation(raw) {
  if (!raw || typeof raw !== "object" || !text(raw.id) || typeof raw.nodes !== "object" || !raw.nodes) {
    throw new Error("an entry is not a conversation");
  }
  const conversation = newConversation(text(raw.system));
  Object.assign(conversation, { id: raw.id, title: text(raw.title), model: text(raw.model) });
  const renamed = new Map([[ROOT, ROOT]]); // ids of the file to ids here
  const waiting = [ROOT];
  for (let next = 0; next < waiting.length; next++) {
    const from = Object.hasOwn(raw.nodes, waiting[next]) ? raw.nodes[waiting[next]] : null;
    if (!from) throw new Error(`the conversation "${titleOf(conversation)}" lacks a message`);
    for (const child of Array.isArray(from.children) ? from.children.map(String) : []) {
      const data = Object.hasOwn(raw.nodes, child) ? raw.nodes[child] : null;
      if (renamed.has(child) || !data || (data.role !== "user" && data.role !== "assistant")) continue;
      renamed.set(child, addNode(conversation, renamed.get(waiting[next]), checkedFields(data)).id);
      waiting.push(child);
    }
    const pick = renamed.get(String(from.pick));
    const here = conversation.nodes[renamed.get(waiting[next])];
    if (here.children.includes(pick)) here.pick = pick;
  }
  conversation.cut = renamed.get(String(raw.cut)) ?? null;
  conversation.created_ms = number(raw.created_ms) || Date.now();
  conversation.changed_ms = number(raw.changed_ms) || conversation.created_ms;
  return conversation;
}

/// The shown path as Markdown, for people.
export function asMarkdown(conversation) {
  const turns = path(conversation).map((node) =>
    `**${node.role === "user" ? "You" : node.model || "Answer"}**\n\n${node.role === "user" ? userText(node) : node.text}`);
  return [`# ${titleOf(conversation)}`, conversation.system && `*System prompt:* ${conversation.system}`, ...turns]
    .filter(Boolean).join("\n\n") + "\n";
}
