// SPDX-License-Identifier: MIT
//
// The worker: rotor.wasm, the few questions it has to a system (WASI), and the loop that asks it for
// one step after the other. Between steps it listens, so that a text can be stopped.
//
// In:  {kind: "open", file?}   a model: a File, or model.gguf beside this script
//      {kind: "write", prompt, count, temperature, seed}
//      {kind: "more"}               the last piece of text has been shown
//      {kind: "stop"}
// Out: {kind: "ready", name, context, bytes}
//      {kind: "text", text, tokens, ms}      what a few steps have added; ms since the first token
//      {kind: "end", why, ms}
//      {kind: "failed", why, open}           open: there is a model to write with

"use strict";

const ENDS = ["", "the text is over", "stopped", "as many tokens as asked for", "the context is full", "stopped", "failed"];
const SHOW_MS = 30; // text is handed over in pieces of so much time
const ERRNO_BADF = 8;
const MODEL_BYTES_MAX = 2 ** 31; // of the 4 GiB that the module can have at most

let wasm; // what rotor.wasm exports, once it is there
let open = false;
let writing = false;

const view = () => new DataView(wasm.memory.buffer);
const bytes = (at, n) => new Uint8Array(wasm.memory.buffer, at, n);

// What libc asks of a system. There is no file: whatever is written comes of a failed assertion.
const system = {
  clock_time_get(_clock, _precision, at) {
    view().setBigUint64(at, BigInt(Math.round(performance.now() * 1e6)), true);
    return 0;
  },
  random_get(at, n) {
    crypto.getRandomValues(bytes(at, n));
    return 0;
  },
  fd_write(_file, parts, n, written) {
    let all = 0;
    for (let i = 0; i < n; i++) {
      const size = view().getUint32(parts + 8 * i + 4, true);
      console.error(new TextDecoder().decode(bytes(view().getUint32(parts + 8 * i, true), size)));
      all += size;
    }
    view().setUint32(written, all, true);
    return 0;
  },
  fd_close: () => ERRNO_BADF,
  fd_seek: () => ERRNO_BADF,
};

async function load() {
  const answer = await fetch("rotor.wasm");
  if (!answer.ok) throw new Error(`rotor.wasm: ${answer.status}`);
  const { instance } = await WebAssembly.instantiate(await answer.arrayBuffer(), { wasi_snapshot_preview1: system });
  wasm = instance.exports;
  wasm._initialize();
}

function said(at) {
  const memory = bytes(0, wasm.memory.buffer.byteLength);
  return new TextDecoder().decode(memory.subarray(at, memory.indexOf(0, at)));
}

// Bytes that the module owns from now on. A model is put there as it arrives, and is nowhere else.
async function fill(stream, size) {
  if (size > MODEL_BYTES_MAX) throw new Error(`The model has ${(size / 1e6).toFixed(0)} MB: a page takes at most ${(MODEL_BYTES_MAX / 1e6).toFixed(0)} MB.`);
  const room = wasm.room(size) >>> 0;
  if (!room) throw new Error(`There is no memory for a model of ${(size / 1e6).toFixed(0)} MB in a page.`);
  try {
    await pour(stream, room, size);
  } catch (error) {
    wasm.give_back(room);
    throw error;
  }
  return room;
}

async function pour(stream, room, size) {
  let n = 0;
  for (const reader = stream.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    if (n + value.length > size) throw new Error("The model is longer than was said.");
    bytes(room + n, value.length).set(value);
    n += value.length;
  }
  if (n !== size) throw new Error(`The model ends after ${n} of ${size} bytes.`);
}

async function openModel(file) {
  if (!wasm) await load();
  if (!file) {
    const answer = await fetch("model.gguf");
    if (!answer.ok) throw new Error(`model.gguf: ${answer.status}`);
    file = await answer.blob();
  }
  open = false;
  const at = await fill(file.stream(), file.size);
  if (wasm.open_model(at, file.size, 0) < 0) throw new Error(said(wasm.why_at()));
  open = true;
  postMessage({ kind: "ready", name: said(wasm.name_at()), context: wasm.context(), bytes: file.size });
}

// The page says "more" when it has shown a piece: it is never behind, and its "stop" comes first.
let shown;
const pieceShown = () => new Promise((go) => { shown = go; });

function begin(task) {
  const text = new TextEncoder().encode(task.prompt);
  const at = wasm.room(text.length + 1) >>> 0;
  if (!at) throw new Error("There is no memory left.");
  bytes(at, text.length).set(text);
  const status = wasm.begin(at, text.length, task.count, task.temperature, task.seed);
  wasm.give_back(at);
  if (status < 0) throw new Error(said(wasm.why_at()));
}

// Steps for a moment; true: there are more.
function stepSome(piece) {
  const until = performance.now() + SHOW_MS;
  for (;;) {
    const status = wasm.step();
    if (status < 0) throw new Error(said(wasm.why_at()));
    if (wasm.token() >= 0) piece.tokens.push(wasm.token());
    const n = wasm.text_bytes();
    if (n) piece.text += new TextDecoder().decode(bytes(wasm.text_at() >>> 0, n));
    if (!status || performance.now() > until) return status > 0;
  }
}

async function write(task) {
  begin(task);
  const start = performance.now();
  for (let more = true; more;) {
    const piece = { kind: "text", text: "", tokens: [], ms: 0 };
    more = stepSome(piece);
    piece.ms = performance.now() - start;
    postMessage(piece);
    await pieceShown();
  }
  postMessage({ kind: "end", why: ENDS[wasm.finish()], ms: performance.now() - start });
}

onmessage = async ({ data }) => {
  if (data.kind === "more") return shown();
  if (data.kind === "stop") return wasm?.stop();
  if (writing) return undefined;
  writing = true;
  try {
    await (data.kind === "open" ? openModel(data.file) : write(data));
  } catch (error) {
    postMessage({ kind: "failed", why: error.message, open });
  }
  writing = false;
};
