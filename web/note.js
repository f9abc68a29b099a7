// SPDX-License-Identifier: MIT
//
// note: a text of one's own into the knowledge store that is chosen, typed or from a text file, where
// the server lets requests do that. A file keeps its name as the document's id, so that the same file
// again takes the place of what it was.

import { putDocument } from "./api.js";
import { readTextFile } from "./composer.js";
import { byId, el, iconButton, toast } from "./dom.js";

const ID_BYTES_MAX = 128; // as the server takes them
const TITLE_BYTES_MAX = 200;

/// A file's name as an id; nothing where the server would not take it.
export function idOf(name) {
  const fits = name && !/[/\p{Cc}]/u.test(name) && name !== "." && name !== ".." && new TextEncoder().encode(name).length <= ID_BYTES_MAX;
  return fits ? { id: name } : {};
}

function passagesWord({ passages, unchanged, replaced }, store) {
  const count = passages === 1 ? "1 passage" : `${passages} passages`;
  if (unchanged) return `${store} has just this already: ${count}.`;
  return `${replaced ? "Replaced in" : "Added to"} ${store}: ${count}.`;
}

/// The beginning of a file's name that the server takes as a title.
function fittingTitle(name) {
  let letters = [...name];
  while (new TextEncoder().encode(letters.join("")).length > TITLE_BYTES_MAX) letters = letters.slice(0, -1);
  return letters.join("");
}

/// The dialog that adds to the store of that name.
export function openNote(store, key) {
  const dialog = byId("note-dialog");
  const title = el("input", { id: "note-name", type: "text", autocomplete: "off", maxlength: 200, placeholder: "Its first line" });
  const text = el("textarea", { id: "note-text", rows: 8, required: true });
  const result = el("p", { id: "note-result", role: "status" });
  const add = el("button", { class: "filled", id: "note-add" }, "Add");
  let id = {}; // of the file the text is from, as long as it is that file's
  title.oninput = () => { id = {}; };
  text.oninput = () => { if (!text.value.trim()) id = {}; };
  const input = el("input", { id: "note-file", type: "file", hidden: true, onchange: async () => {
    const [file] = input.files;
    input.value = "";
    try {
      const read = await readTextFile(file);
      id = idOf(read.name);
      title.value = fittingTitle(read.name);
      text.value = read.text;
      result.textContent = "";
      text.focus();
    } catch (error) {
      result.textContent = error.message;
    }
  } });
  const form = el("form", { onsubmit: async (event) => {
    event.preventDefault();
    add.disabled = true;
    result.textContent = "";
    try {
      const named = title.value.trim();
      const done = await putDocument(store, { ...id, ...(named ? { title: named } : {}), text: text.value }, key);
      if (form.isConnected) dialog.close(); // not one that was opened meanwhile
      toast(passagesWord(done, store));
    } catch (error) {
      result.textContent = error.message; // what was written stays
      add.disabled = false;
    }
  } }, el("div", { class: "field" }, el("label", { for: "note-name" }, "Title"), title),
    el("div", { class: "field" }, el("label", { for: "note-text" }, "Text or Markdown"), text), result,
    el("div", { class: "choices" }, add, el("button", { type: "button", class: "outlined", onclick: () => input.click() }, "From a text file"), input));
  dialog.replaceChildren(el("header", {}, el("h2", { id: "note-title" }, `Add to ${store}`),
    iconButton("close", "Close", () => dialog.close(), "icon-button")), form);
  if (!dialog.open) dialog.showModal();
  text.focus();
}
