// SPDX-License-Identifier: MIT
//
// api: the server's answers as values. Requests go to the server the page came from and nowhere
// else, by addresses relative to the page, so that it also works behind a proxy's folder.

/// What the server, or the way to it, had to say against a request. status 0: no answer at all.
export class ApiError extends Error {
  constructor(status, error = {}) {
    super(error.message || (status ? `The server answered ${status}.` : "The server does not answer."));
    this.status = status;
    this.code = error.code ?? "";
    this.type = error.type ?? "";
    this.details = error; // n_ctx, n_prompt_tokens, … as the server sent them
  }
}

const LINE_MAX = 16 << 20; // characters of one line of a stream; more is not a stream of ours

/// Reads server-sent events from bytes in pieces of any size. feed() gives the data of each event
/// that became whole; lines end in \n, \r or \r\n; comments (the server's pings) and other fields
/// are passed over. An event without its closing empty line is never given.
export class SseParser {
  constructor() {
    this.decoder = new TextDecoder();
    this.line = ""; // begun, not ended
    this.data = null; // lines of data of the event so far
    this.afterReturn = false; // the last character was \r: a \n belongs to it
  }

  feed(bytes) {
    return this.feedText(this.decoder.decode(bytes, { stream: true }));
  }

  feedText(text) {
    const events = [];
    let from = 0;
    for (const end of text.matchAll(/[\r\n]/g)) {
      const glued = this.afterReturn && end.index === 0 && end[0] === "\n" && this.line === "";
      const pair = end[0] === "\n" && end.index > 0 && text[end.index - 1] === "\r";
      if (!glued && !pair) {
        this.endLine(this.line + text.slice(from, end.index), events);
        this.line = "";
      }
      from = end.index + 1;
    }
    this.line += text.slice(from);
    if (text) this.afterReturn = text.endsWith("\r");
    if (this.line.length > LINE_MAX) throw new ApiError(0, { code: "stream_line", message: "A line of the answer has no end." });
    return events;
  }

  endLine(line, events) {
    if (line === "") {
      if (this.data?.some(Boolean)) events.push(this.data.join("\n")); // empty data is no event
      this.data = null;
    } else if (line === "data" || line.startsWith("data:")) {
      const value = line.slice(5);
      (this.data ??= []).push(value.startsWith(" ") ? value.slice(1) : value);
    }
  }
}

async function errorOf(response) {
  let error = {};
  try {
    const body = await response.json();
    error = typeof body.error === "object" && body.error ? body.error : { message: String(body.error ?? body.message ?? "") };
  } catch { /* not JSON: a proxy in between; the status has to do */ }
  const wait = Number(response.headers.get("retry-after"));
  return new ApiError(response.status, wait > 0 ? { ...error, retry_after_s: wait } : error);
}

async function call(path, options, key) {
  const headers = { accept: "application/json", ...options.headers };
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store", credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { code: "no_connection" });
  }
  if (!response.ok) throw await errorOf(response);
  return response;
}

/// The server's models: [{id, context, parameters}], context and parameters null where it does not say.
export async function listModels(key) {
  const body = await (await call("v1/models", {}, key)).json();
  return (body.data ?? []).map((row) => ({
    id: String(row.id),
    context: row.n_ctx ?? row.meta?.n_ctx ?? row.max_model_len ?? row.context_length ?? null,
    parameters: row.n_params ?? row.meta?.n_params ?? null,
    chats: !row.capabilities || JSON.stringify(row.capabilities) === "[]" || /chat|completion/.test(JSON.stringify(row.capabilities)),
  }));
}

/// The server's knowledge stores: [{id, writable}]; none where it has or knows none.
export async function listStores(key) {
  try {
    const body = await (await call("v1/rag/stores", {}, key)).json();
    return (body.data ?? []).map((row) => ({ id: String(row.id), writable: row.writable === true }));
  } catch {
    return [];
  }
}

/// Puts a text into a store: {id, title, text}; gives {passages, replaced, unchanged}.
export async function putDocument(store, document, key) {
  const response = await call(`v1/rag/stores/${encodeURIComponent(store)}/docs`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(document),
  }, key);
  return response.json();
}

/// Tokens that fit into one session, from /props; null when the server does not say.
export async function contextSize(key) {
  try {
    const body = await (await call("props", {}, key)).json();
    return body.default_generation_settings?.n_ctx ?? body.n_ctx ?? null;
  } catch {
    return null;
  }
}

/// The chunks of a streamed chat answer, one object each. Throws ApiError, or AbortError once the
/// signal is given. A stream that ends without its last word is an error too: half answers are
/// never taken for whole ones.
export async function* streamChat(request, { key, signal }) {
  const response = await call("v1/chat/completions", {
    method: "POST",
    signal,
    headers: { "content-type": "application/json", accept: "text/event-stream" },
    body: JSON.stringify({ ...request, stream: true, stream_options: { include_usage: true }, return_progress: true }),
  }, key);
  const parser = new SseParser();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      for (const data of parser.feed(value)) {
        if (data.startsWith("[DONE]")) return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(response.status, chunk.error);
        yield chunk;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError(0, { code: "stream_cut" });
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new ApiError(0, { code: "stream_cut" });
}
