// SPDX-License-Identifier: MIT
//
// composer: the box where one writes. It grows with the text, takes text files from a button, by
// drop and by paste, and turns a long paste into a file. Its one button sends, or stops the answer.

import { announce, byId, el, icon, iconButton, toast } from "./dom.js";

const FILE_BYTES_MAX = 512 * 1024; // one file; more than any model at home holds
const FILES_MAX = 10;
const PASTE_MAX = 2000; // characters; a longer paste becomes a file

/// The text of a file, or an Error that says why not.
export async function readTextFile(file) {
  if (file.size > FILE_BYTES_MAX) {
    throw new Error(`${file.name} has ${Math.ceil(file.size / 1024).toLocaleString()} KB; files up to ${FILE_BYTES_MAX / 1024} KB can be attached. Attach a part of it.`);
  }
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    text = "\0";
  }
  if (text.includes("\0")) throw new Error(`${file.name} is not plain text (UTF-8). Save it as text first; a PDF or a picture cannot be read here.`);
  return { name: file.name.replace(/[\p{Cc}`]/gu, "_").slice(0, 200), text };
}

export class Composer {
  /// onSend({text, files}) gives false to keep what was written; onStop, onEditLast.
  constructor({ onSend, onStop, onEditLast }) {
    this.box = byId("prompt");
    this.files = [];
    this.running = false;
    this.handlers = { onSend, onStop, onEditLast };
    this.listen();
    this.setRunning(false);
  }

  listen() {
    const touch = matchMedia("(pointer: coarse)"); // there Enter begins a line, and the button sends
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.running) this.handlers.onStop();
      else this.send();
    });
    this.box.addEventListener("input", () => this.grow());
    this.box.addEventListener("keydown", (event) => {
      if (event.isComposing) return;
      if (event.key === "Enter" && !event.shiftKey && !touch.matches) {
        event.preventDefault();
        if (!this.running) this.send();
      } else if (event.key === "ArrowUp" && this.box.value === "" && this.handlers.onEditLast()) event.preventDefault();
    });
    this.box.addEventListener("paste", (event) => this.paste(event));
    byId("attach").addEventListener("click", () => byId("file-input").click());
    byId("file-input").addEventListener("change", (event) => {
      this.add([...event.target.files]);
      event.target.value = "";
    });
    this.listenForDrops();
  }

  listenForDrops() {
    const page = byId("page");
    const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
    page.addEventListener("dragover", (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      page.classList.add("dropping");
    });
    page.addEventListener("dragleave", (event) => {
      if (!page.contains(event.relatedTarget)) page.classList.remove("dropping");
    });
    page.addEventListener("drop", (event) => {
      page.classList.remove("dropping");
      if (!carriesFiles(event)) return;
      event.preventDefault();
      this.add([...event.dataTransfer.files]);
    });
  }

  paste(event) {
    const { files } = event.clipboardData;
    const text = event.clipboardData.getData("text/plain");
    if (files.length && !text) {
      event.preventDefault();
      this.add([...files]);
    } else if (text.length > PASTE_MAX) {
      event.preventDefault();
      this.add([new File([text], `pasted-${this.files.length + 1}.txt`)]);
      toast("The long paste is attached as a file.");
    }
  }

  async add(files) {
    for (const file of files) {
      try {
        if (this.files.length >= FILES_MAX) throw new Error(`Up to ${FILES_MAX} files go with one message.`);
        this.files.push(await readTextFile(file));
        announce(`Attached ${file.name}`);
      } catch (error) {
        toast(error.message, null, 10);
      }
    }
    this.showFiles();
    this.box.focus();
  }

  showFiles() {
    byId("files").replaceChildren(...this.files.map((file, index) => el("li", { class: "chip" }, icon("file"),
      el("span", {}, file.name), el("small", {}, sizeWord(file.text.length)),
      iconButton("close", `Remove ${file.name}`, () => {
        this.files.splice(index, 1);
        this.showFiles();
        this.box.focus();
      }, "icon-button tiny"))));
    this.enable();
  }

  grow() {
    this.box.style.height = "auto";
    this.box.style.height = `${this.box.scrollHeight}px`;
    this.enable();
  }

  enable() {
    byId("send").disabled = !this.running && this.box.value.trim() === "" && this.files.length === 0;
  }

  send() {
    const text = this.box.value.trim();
    if (!text && !this.files.length) return;
    if (this.handlers.onSend({ text, files: this.files }) === false) return;
    this.set("");
  }

  set(text) {
    this.box.value = text;
    this.files = [];
    this.showFiles();
    this.grow();
  }

  focus() {
    this.box.focus();
  }

  setRunning(running) {
    this.running = running;
    const button = byId("send");
    const label = running ? "Stop the answer" : "Send";
    button.replaceChildren(icon(running ? "stop" : "up"));
    button.classList.toggle("stops", running);
    button.setAttribute("aria-label", label);
    button.title = running ? "Stop (Esc)" : "Send (Enter)";
    this.enable();
  }
}

export function sizeWord(characters) {
  return characters < 1000 ? `${characters} characters` : `${(characters / 1000).toFixed(characters < 10_000 ? 1 : 0)} k characters`;
}
