// SPDX-License-Identifier: MIT
//
// store: conversations, kept by the browser on this machine (IndexedDB) and nowhere else. All of
// them are in memory while the page is open; the data base holds the same objects under their ids.
// Where a browser keeps nothing for this page (some private windows), everything works from memory
// and `kept` is false, which the page says.

import { checkedConversation, titleOf, userText } from "./tree.js";

const DATABASE = "rotor-chat";
const TABLE = "conversations";
const FORMAT = "rotor-conversations";

const settled = (request) => new Promise((resolve, reject) => {
  request.onsuccess = () => resolve(request.result);
  request.onerror = () => reject(request.error);
});

export class Store {
  constructor() {
    this.conversations = new Map(); // by id
    this.database = null;
    this.kept = false;
  }

  async open(name = DATABASE) {
    try {
      const request = indexedDB.open(name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
      this.database = await settled(request);
      this.kept = true;
      await this.reload();
    } catch (error) {
      console.warn("conversations are not kept:", error);
    }
  }

  /// Reads everything again, for what another tab has changed.
  async reload() {
    if (!this.kept) return;
    const rows = await settled(this.database.transaction(TABLE).objectStore(TABLE).getAll());
    this.conversations = new Map(rows.map((row) => [row.id, row]));
  }

  async write(change) {
    if (!this.kept) return;
    const transaction = this.database.transaction(TABLE, "readwrite");
    change(transaction.objectStore(TABLE));
    transaction.commit?.(); // now, not when the browser has answered: the page may be left before
    await new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  }

  async put(conversation) {
    this.conversations.set(conversation.id, conversation);
    await this.write((table) => table.put(conversation));
  }

  async remove(id) {
    this.conversations.delete(id);
    await this.write((table) => table.delete(id));
  }

  async clear() {
    this.conversations.clear();
    await this.write((table) => table.clear());
  }

  /// Newest first.
  list() {
    return [...this.conversations.values()].sort((a, b) => b.changed_ms - a.changed_ms);
  }

  /// Conversations that hold every word of the query, in any branch: [{conversation, snippet}].
  search(query) {
    const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
    const found = [];
    for (const conversation of this.list()) {
      const texts = [titleOf(conversation), ...Object.values(conversation.nodes).map((node) => (node.role === "user" ? userText(node) : node.text))];
      const lower = texts.map((text) => text.toLocaleLowerCase());
      if (!words.every((word) => lower.some((text) => text.includes(word)))) continue;
      const at = words.length ? lower.findIndex((text, index) => index > 0 && text.includes(words[0])) : -1;
      found.push({ conversation, snippet: at > 0 ? around(texts[at], lower[at].indexOf(words[0])) : "" });
    }
    return found;
  }

  exportText() {
    return JSON.stringify({ format: FORMAT, version: 1, conversations: this.list() }, null, 1);
  }

  /// Takes in what exportText gave, here or elsewhere: {added, replaced, same}. Of two states of one
  /// conversation the one changed later stays. Throws an Error in plain words, and then nothing changed.
  async importText(text) {
    const incoming = parseExport(text);
    const counts = { added: 0, replaced: 0, same: 0 };
    for (const conversation of incoming) {
      const here = this.conversations.get(conversation.id);
      if (here && here.changed_ms >= conversation.changed_ms) counts.same++;
      else {
        counts[here ? "replaced" : "added"]++;
        await this.put(conversation);
      }
    }
    return counts;
  }
}

export function parseExport(text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error("This file is not JSON. Choose a file that this page has exported.");
  }
  if (data?.format !== FORMAT || !Array.isArray(data.conversations)) {
    throw new Error("This file holds no conversations of Rotor. Choose a file that this page has exported.");
  }
  if (data.version !== 1) throw new Error(`This file is of version ${data.version}; this page reads version 1. A newer Rotor may read it.`);
  return data.conversations.map((raw, index) => {
    try {
      return checkedConversation(raw);
    } catch (error) {
      throw new Error(`Entry ${index + 1} cannot be read: ${error.message}. Nothing was imported.`);
    }
  });
}

function around(text, at) {
  const from = Math.max(0, at - 30);
  return (from ? "…" : "") + text.slice(from, at + 60).replace(/\s+/g, " ");
}

// ---- Small things: settings, theme, key ------------------------------------------------------------

/// localStorage that may be absent or full.
export const remembered = {
  get(name, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`rotor.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(name, value) {
    try {
      if (value === null) localStorage.removeItem(`rotor.${name}`);
      else localStorage.setItem(`rotor.${name}`, JSON.stringify(value));
    } catch { /* for this visit only, then */ }
  },
};
