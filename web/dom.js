// SPDX-License-Identifier: MIT
//
// dom: building blocks of the page. Nodes are made one by one from names and text; no module ever
// hands a string of HTML to the browser, and the page's policy (trusted types) forbids it as well.

const SVG = "http://www.w3.org/2000/svg"; // a name, not an address: nothing is fetched

// Icons on a 24 by 24 grid, drawn as strokes.
const ICONS = {
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6L6 18",
  menu: "M4 7h16M4 12h16M4 17h10",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13ZM15.5 15.5L20 20",
  sliders: "M4 8h9M19 8h1M4 16h1M11 16h9M16 5.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5ZM8 13.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5Z",
  clip: "M19 11.5l-7.3 7.3a4.5 4.5 0 0 1-6.4-6.4l7.8-7.8a3 3 0 0 1 4.3 4.3l-7.7 7.7a1.5 1.5 0 0 1-2.2-2.2l6.7-6.6",
  up: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  stop: "M8 8h8v8H8Z",
  copy: "M9 9h10v10H9ZM15 6V5H5v10h1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  pen: "M5 19l1-4L16 5l3 3L9 18l-4 1ZM14 7l3 3",
  again: "M18.5 9A7 7 0 1 0 19 13M19 4v5h-5",
  bin: "M5 7h14M9.5 7V4.5h5V7M7 7l1 12.5h8L17 7M10.5 10.5v6M13.5 10.5v6",
  left: "M14 7l-5 5 5 5",
  right: "M10 7l5 5-5 5",
  sun: "M12 8a4 4 0 1 1 0 8 4 4 0 0 1 0-8ZM12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4",
  moon: "M19.5 14.5A8 8 0 1 1 9.5 4.5a6.5 6.5 0 0 0 10 10Z",
  system: "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16ZM12 4v16M15 5.5v13M18 8v8",
  file: "M7 3.5h7l4 4v13H7ZM14 3.5v4h4",
};

/// An element: el("p", {class: "x", onclick: f}, "text", node, …). Properties that begin with "on" are
/// listeners, true and false set or leave out an attribute, null is nothing.
export function el(name, properties = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/// The mark of the page: three blades for the three values of a ternary weight.
export function mark() {
  return document.querySelector(".brand .mark").cloneNode(true);
}

export function iconButton(name, label, onclick, className = "icon-button small") {
  return el("button", { type: "button", class: className, "aria-label": label, title: label, onclick }, icon(name));
}

export function byId(id) {
  return document.getElementById(id);
}

/// Icons that index.html only names.
export function placeIcons() {
  for (const node of document.querySelectorAll("[data-icon]")) node.prepend(icon(node.dataset.icon));
}

/// Says something to who listens to the page.
export function announce(text) {
  byId("announcer").textContent = text;
}

let toastTimer = 0;

/// A short message at the foot of the page, with at most one thing to do about it.
export function toast(text, action = null, seconds = 6) {
  const box = byId("toast");
  const hide = () => box.replaceChildren();
  clearTimeout(toastTimer);
  box.replaceChildren(el("div", { class: "toast" }, el("span", {}, text), action &&
    el("button", { type: "button", class: "text-button", onclick: () => { hide(); action.run(); } }, action.label)));
  toastTimer = setTimeout(hide, seconds * 1000);
}

/// Copies text. Browsers offer the clipboard only to pages from this machine or over TLS; elsewhere
/// an older way through a selected text field is left.
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = el("textarea", { class: "unseen", readonly: true });
    field.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/// A button that copies what getText gives, and says so.
export function copyButton(getText, label, withWord = false) {
  const word = el("span", {}, "Copy");
  const button = iconButton("copy", label, async () => {
    const done = await copyText(getText());
    button.replaceChildren(icon(done ? "check" : "copy"), ...(withWord ? [word] : []));
    word.textContent = done ? "Copied" : "Select and copy by hand";
    announce(word.textContent);
    setTimeout(() => {
      button.replaceChildren(icon("copy"), ...(withWord ? [word] : []));
      word.textContent = "Copy";
    }, 1600);
  }, withWord ? "text-button small" : "icon-button small");
  if (withWord) button.append(word);
  return button;
}

/// Offers a text as a file.
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
