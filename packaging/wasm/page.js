// SPDX-License-Identifier: MIT
//
// The page's side: what is pressed goes to the worker, what the worker says is shown. The ids of
// the tokens stay in the text's data-tokens, for those who compare.

const $ = (id) => document.getElementById(id);
const worker = new Worker("worker.js");
let tokens = [];
let name = "";

function busy(writing) {
  $("write").disabled = $("file").disabled = writing;
  $("stop").disabled = !writing;
}

function speed(said) {
  const seconds = said.ms / 1000;
  return `${tokens.length} token${tokens.length === 1 ? "" : "s"}` +
    (seconds > 0 ? `, ${(tokens.length / seconds).toFixed(0)} a second` : "");
}

const on = {
  ready(said) {
    name = said.name;
    $("state").textContent = `${name}: ${(said.bytes / 1e6).toFixed(1)} MB, a context of ${said.context} tokens`;
    busy(false);
  },
  text(said) {
    tokens.push(...said.tokens);
    $("text").append(said.text);
    $("text").dataset.tokens = tokens.join(" ");
    $("state").textContent = `${name}: ${speed(said)}`;
    setTimeout(() => worker.postMessage({ kind: "more" }));
  },
  end(said) {
    $("state").textContent = `${name}: ${speed(said)}; ${said.why}`;
    $("text").dataset.end = said.why;
    busy(false);
  },
  failed(said) {
    $("state").textContent = said.why;
    busy(false);
    $("write").disabled = !said.open;
  },
};

worker.onmessage = ({ data }) => on[data.kind](data);
worker.onerror = (event) => on.failed({ why: `The worker has failed: ${event.message}`, open: false });

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  tokens = [];
  $("text").replaceChildren($("prompt").value);
  $("text").dataset.tokens = "";
  delete $("text").dataset.end;
  busy(true);
  worker.postMessage({
    kind: "write",
    prompt: $("prompt").value,
    count: Number($("count").value),
    temperature: Number($("temperature").value),
    seed: Number($("seed").value),
  });
});

$("stop").addEventListener("click", () => worker.postMessage({ kind: "stop" }));

$("file").addEventListener("change", () => {
  const file = $("file").files[0];
  if (!file) return;
  $("write").disabled = true;
  $("state").textContent = `Loading ${file.name} …`;
  worker.postMessage({ kind: "open", file });
});

worker.postMessage({ kind: "open" });
