// SPDX-License-Identifier: MIT
//
// sidebar: the list of conversations with its search, and the dialog that exports, imports and
// deletes. On a narrow screen the list is a drawer over the page.

import { byId, download, el, iconButton, toast } from "./dom.js";
import { asMarkdown, titleOf } from "./tree.js";

const DAY_MS = 86_400_000;
const SHOWN_MAX = 200; // entries at once; search finds the rest

/// The heading a conversation stands under.
function age(time_ms, now = new Date()) {
  const midnight = new Date(now.getFullYear(), now.getMonth(), now.getDate()).getTime();
  if (time_ms >= midnight) return "Today";
  if (time_ms >= midnight - DAY_MS) return "Yesterday";
  if (time_ms >= midnight - 6 * DAY_MS) return "This week";
  return new Date(time_ms).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}

export class Sidebar {
  /// actions: open(conversation), fresh(), changed() after the store was.
  constructor(store, actions) {
    this.store = store;
    this.actions = actions;
    this.current = null;
    byId("search").addEventListener("input", () => this.show());
    byId("search").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !event.target.value) return;
      event.stopPropagation();
      event.target.value = "";
      this.show();
    });
    byId("new-chat").addEventListener("click", () => { this.drawer(false); actions.fresh(); });
    byId("open-sidebar").addEventListener("click", () => this.drawer(true));
    byId("close-sidebar").addEventListener("click", () => this.drawer(false));
    byId("shade").addEventListener("click", () => this.drawer(false));
    byId("open-data").addEventListener("click", () => this.openData());
  }

  drawer(open) {
    document.body.classList.toggle("drawer", open);
    byId("shade").hidden = !open;
    byId("open-sidebar").setAttribute("aria-expanded", String(open));
    if (open) byId("search").focus();
  }

  show(current = this.current) {
    this.current = current;
    const query = byId("search").value.trim();
    const found = this.store.search(query).slice(0, SHOWN_MAX);
    const groups = new Map();
    for (const entry of found) {
      const heading = query ? `Found: ${found.length}` : age(entry.conversation.changed_ms);
      if (!groups.has(heading)) groups.set(heading, []);
      groups.get(heading).push(this.row(entry));
    }
    const nothing = el("p", { class: "nothing" }, query ? "Nothing found." : "Your conversations will be listed here. They stay in this browser.");
    byId("conversations").replaceChildren(...(groups.size ? [...groups].map(([heading, rows]) => el("section", {}, el("h2", {}, heading), el("ul", {}, rows))) : [nothing]));
  }

  row({ conversation, snippet }) {
    const title = titleOf(conversation);
    const open = el("button", { type: "button", class: "open", "aria-current": conversation.id === this.current ? "true" : null,
      onclick: () => { this.drawer(false); this.actions.open(conversation); } }, el("span", {}, title), snippet && el("small", {}, snippet));
    const row = el("li", {}, open, el("span", { class: "row-tools" },
      iconButton("pen", `Rename ${title}`, () => this.rename(row, conversation), "icon-button tiny"),
      iconButton("bin", `Delete ${title}`, () => this.remove(conversation), "icon-button tiny")));
    return row;
  }

  rename(row, conversation) {
    const input = el("input", { type: "text", "aria-label": "Title", maxlength: 100 });
    let open = true;
    const close = async (keep) => {
      if (!open) return;
      open = false;
      if (keep) {
        conversation.title = input.value.trim();
        await this.store.put(conversation);
      }
      this.actions.changed();
    };
    input.value = titleOf(conversation);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") close(true);
      if (event.key === "Escape") { event.stopPropagation(); close(false); }
    });
    input.addEventListener("blur", () => close(true));
    row.replaceChildren(input);
    input.select();
  }

  async remove(conversation) {
    await this.store.remove(conversation.id);
    if (conversation.id === this.current) this.actions.fresh();
    this.actions.changed();
    toast(`Deleted “${titleOf(conversation)}”.`, { label: "Undo", run: async () => {
      await this.store.put(conversation);
      this.actions.open(conversation);
    } }, 10);
  }

  // ---- Export, import, delete all ----

  openData() {
    const dialog = byId("data-dialog");
    const n = this.store.conversations.size;
    const what = n === 1 ? "1 conversation" : `${n} conversations`;
    const stamp = new Date().toISOString().slice(0, 10);
    const input = el("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => this.importFile(input.files[0]) });
    const current = this.store.conversations.get(this.current);
    const button = (label, run, options = {}) => el("button", { type: "button", class: "outlined", ...options, onclick: run }, label);
    dialog.replaceChildren(
      el("header", {}, el("h2", { id: "data-title" }, "Your conversations"), iconButton("close", "Close", () => dialog.close(), "icon-button")),
      el("p", {}, this.store.kept ? `${n ? what : "No conversations"} in this browser, on this machine. The server keeps none.`
        : "This browser keeps nothing for this page. What you write is gone when the page closes: export what you need."),
      el("div", { class: "choices" },
        button("Export all as a file", () => download(`rotor-conversations-${stamp}.json`, "application/json", this.store.exportText()), { disabled: !n }),
        button("Save this one as Markdown", () => download(`rotor-${stamp}.md`, "text/markdown", asMarkdown(current)), { disabled: !current }),
        button("Import a file", () => input.click()), input,
        button("Delete all", () => this.confirmClear(dialog, what), { disabled: !n, class: "outlined danger" })),
      el("p", { id: "data-result", role: "status" }));
    if (!dialog.open) dialog.showModal();
  }

  async importFile(file) {
    const result = byId("data-result");
    try {
      const { added, replaced, same } = await this.store.importText(await file.text());
      this.actions.changed();
      this.openData();
      byId("data-result").textContent = `Imported: ${added} new, ${replaced} newer than here, ${same} already here.`;
    } catch (error) {
      result.textContent = error.message;
    }
  }

  confirmClear(dialog, what) {
    const no = el("button", { type: "button", class: "outlined", onclick: () => this.openData() }, "Keep them");
    const yes = el("button", { type: "button", class: "filled danger", id: "delete-all", onclick: async () => {
      await this.store.clear();
      dialog.close();
      this.actions.fresh();
      this.actions.changed();
      toast("All conversations are deleted.");
    } }, "Delete all");
    dialog.replaceChildren(el("header", {}, el("h2", { id: "data-title" }, `Delete ${what}?`)),
      el("p", {}, "They cannot be brought back. Export them first if you may want them again."), el("div", { class: "choices" }, no, yes));
    no.focus();
  }
}
