// SPDX-License-Identifier: MIT
//
// settings: the system prompt of this conversation, and how answers are sampled in all of them.
// An empty field is not sent: then the model’s own value counts. What is typed counts at once.

import { byId, el, iconButton, toast } from "./dom.js";
import { remembered } from "./store.js";

// One row a field: name in the request, label, what it does, lowest, highest, step.
const FIELDS = [
  ["temperature", "Temperature", "0 always takes the likeliest word; higher is freer.", 0, 5, "any"],
  ["top_p", "Top p", "Only the likeliest words that together reach this share.", 0, 1, "any"],
  ["top_k", "Top k", "Only so many of the likeliest words; 0: all.", 0, 1_000_000, 1],
  ["min_p", "Min p", "Only words at least this likely, beside the likeliest.", 0, 1, "any"],
  ["max_tokens", "Longest answer", "In tokens; a token is about four letters.", 1, 1_000_000, 1],
  ["seed", "Seed", "The same number gives the same answer again.", 0, 4_294_967_295, 1],
];
const STOPS_MAX = 4;

/// What is remembered: {system, sampling: {temperature: 0.7, …}, stop: "one a line"}.
export function loadSettings() {
  const saved = remembered.get("settings", {});
  return { system: String(saved.system ?? ""), sampling: { ...saved.sampling }, stop: String(saved.stop ?? "") };
}

/// The fields of a request.
export function samplingFields(settings) {
  const fields = {};
  for (const [name, , , low, high, step] of FIELDS) {
    const value = settings.sampling[name];
    if (Number.isFinite(value) && value >= low && value <= high && (step !== 1 || Number.isInteger(value))) fields[name] = value;
  }
  const stop = settings.stop.split("\n").filter((line) => line !== "").slice(0, STOPS_MAX);
  if (stop.length) fields.stop = stop.map((line) => line.replaceAll("\\n", "\n"));
  return fields;
}

function numberField(settings, [name, label, help, low, high, step]) {
  const input = el("input", {
    type: "number", id: `set-${name}`, inputmode: step === 1 ? "numeric" : "decimal", min: low, max: high, step,
    placeholder: "model’s own", value: settings.sampling[name] ?? null, "aria-describedby": `about-${name}`,
    oninput: () => {
      input.setAttribute("aria-invalid", String(!input.checkValidity()));
      about.textContent = input.checkValidity() ? help : `A ${step === 1 ? "whole " : ""}number from ${low} to ${high.toLocaleString()}.`;
      if (input.checkValidity()) {
        if (input.value === "") delete settings.sampling[name];
        else settings.sampling[name] = input.valueAsNumber;
        remembered.set("settings", settings);
      }
    },
  });
  const about = el("small", { id: `about-${name}` }, help);
  return el("div", { class: "field" }, el("label", { for: `set-${name}` }, label), input, about);
}

function textField(id, label, help, value, placeholder, oninput) {
  const area = el("textarea", { id, rows: 4, placeholder, "aria-describedby": `about-${id}`, oninput: () => oninput(area.value) });
  area.value = value;
  return el("div", { class: "field wide" }, el("label", { for: id }, label), area, el("small", { id: `about-${id}` }, help));
}

const KEYS = [
  ["Enter", "send"], ["Shift Enter", "new line"], ["Esc", "stop the answer"], ["/", "write"],
  ["Ctrl K", "search"], ["Ctrl Shift O", "new conversation"], ["↑", "in an empty box: edit the last message"],
];

/// Opens the sheet. conversation is the one shown; changed() is called when its system prompt was.
export function openSettings(settings, conversation, changed) {
  const sheet = byId("settings");
  const system = textField("system-prompt", "System prompt",
    "Said to the model before this conversation. Small story models do best without one.",
    conversation.system, "None", (value) => { conversation.system = value; changed(); });
  const always = el("button", { type: "button", class: "text-button", onclick: () => {
    settings.system = conversation.system;
    remembered.set("settings", settings);
    toast(settings.system ? "New conversations begin with this system prompt." : "New conversations begin without a system prompt.");
  } }, "Use for new conversations too");
  const stop = textField("stop", "Stop at", `Up to ${STOPS_MAX} texts, one a line; \\n stands for a line break.`, settings.stop, "None", (value) => {
    settings.stop = value;
    remembered.set("settings", settings);
  });
  const reset = el("button", { type: "button", class: "text-button", onclick: () => {
    settings.sampling = {};
    settings.stop = "";
    remembered.set("settings", settings);
    openSettings(settings, conversation, changed);
    byId("set-temperature").focus();
  } }, "Back to the model’s own values");
  sheet.replaceChildren(
    el("header", {}, el("h2", { id: "settings-title" }, "Settings"), iconButton("close", "Close settings", () => sheet.close(), "icon-button")),
    el("section", {}, el("h3", {}, "This conversation"), system, always),
    el("section", {}, el("h3", {}, "Answers"), el("div", { class: "fields" }, FIELDS.map((field) => numberField(settings, field)), stop), reset),
    el("section", {}, el("h3", {}, "Keys"), el("dl", { class: "keys-list" },
      KEYS.map(([keys, what]) => el("div", {}, el("dt", {}, keys.split(" ").map((key) => el("kbd", {}, key))), el("dd", {}, what))))),
  );
  if (!sheet.open) sheet.showModal();
}

// ---- Theme ----------------------------------------------------------------------------------------

const THEMES = [["system", "as the system"], ["light", "light"], ["dark", "dark"]];

export function applyTheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
}

/// The next theme in turn, and what to call it: [name, words].
export function nextTheme() {
  const at = THEMES.findIndex(([name]) => name === remembered.get("theme", "system"));
  const next = THEMES[(at + 1) % THEMES.length];
  remembered.set("theme", next[0] === "system" ? null : next[0]);
  applyTheme(next[0]);
  return next;
}

export function currentTheme() {
  return THEMES.find(([name]) => name === remembered.get("theme", "system")) ?? THEMES[0];
}
