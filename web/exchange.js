// SPDX-License-Identifier: MIT
//
// exchange: one question on its way to an answer. It fills the answer's message while pieces arrive
// and says so; the page draws when it likes. Whatever ends it, what has arrived stays.
//
//     running ──> done       the model ended, or reached its limit (finish says which)
//            ├──> stopped    someone pressed stop
//            └──> failed     node.error says what went wrong and what to do

import { streamChat } from "./api.js";
import { adviceFor } from "./advice.js";

export class Exchange {
  /// conversation and node: where the answer goes. changed() after each piece, ended(error) once.
  constructor({ conversation, node, request, key, changed, ended }) {
    Object.assign(this, { conversation, node, request, key, changed, ended });
    this.abort = new AbortController();
    this.progress = null; // 0 to 1 while the model reads the conversation
    this.tokens = 0; // pieces so far; a piece is a token, or nearly
    this.firstMs = 0; // when the first piece came
  }

  /// Tokens a second so far; 0: too early to say.
  get rate() {
    const seconds = (performance.now() - this.firstMs) / 1000;
    return this.tokens > 4 && seconds > 0.2 ? (this.tokens - 1) / seconds : 0;
  }

  stop() {
    this.abort.abort();
  }

  async run() {
    const { node } = this;
    let failure = null;
    try {
      for await (const chunk of streamChat(this.request, { key: this.key, signal: this.abort.signal })) {
        this.take(chunk);
        this.changed();
      }
      node.state = "done";
    } catch (error) {
      failure = error.name === "AbortError" ? null : error;
      node.state = failure ? "failed" : "stopped";
      if (failure) node.error = adviceFor(failure);
    }
    node.stats = { ...node.stats, tokens: node.stats?.tokens ?? this.tokens, per_second: node.stats?.per_second ?? this.rate };
    this.ended(failure);
  }

  take(chunk) {
    const { node } = this;
    if (chunk.prompt_progress?.total) this.progress = chunk.prompt_progress.processed / chunk.prompt_progress.total;
    const choice = chunk.choices?.[0];
    if (choice?.delta) this.takeDelta(choice.delta);
    if (choice?.finish_reason) node.finish = choice.finish_reason;
    if (chunk.model) node.model = chunk.model;
    if (chunk.rag) node.rag = groundsOf(chunk.rag);
    if (chunk.usage) {
      const { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details: details } = chunk.usage;
      node.stats = { ...node.stats, prompt_tokens, tokens: completion_tokens, used: total_tokens, cached: details?.cached_tokens ?? 0 };
    }
    if (chunk.timings?.predicted_per_second) {
      node.stats = { ...node.stats, per_second: chunk.timings.predicted_per_second, prompt_ms: chunk.timings.prompt_ms };
    }
  }

  takeDelta(delta) {
    const { node } = this;
    const reasoning = delta.reasoning_content ?? delta.reasoning ?? "";
    if (reasoning) node.reasoning = (node.reasoning ?? "") + reasoning;
    if (delta.content) node.text += delta.content;
    for (const piece of delta.tool_calls ?? []) {
      const call = ((node.calls ??= [])[piece.index ?? 0] ??= { name: "", arguments: "" });
      call.name += piece.function?.name ?? "";
      call.arguments += piece.function?.arguments ?? "";
    }
    if (delta.content || reasoning || delta.tool_calls) {
      this.firstMs ||= performance.now();
      this.tokens++;
    }
  }
}

/// What the page keeps of a knowledge store's part in an answer: plain texts and numbers, whatever was sent.
export function groundsOf(rag) {
  const cited = new Set((rag.citations ?? []).map(({ source }) => Number(source)));
  const doubted = (number) => (rag.citations ?? []).filter(({ source }) => Number(source) === number).every(({ supported }) => !supported);
  return {
    store: String(rag.store ?? ""), used: Boolean(rag.used), refused: Boolean(rag.refused),
    sources: (rag.used ? rag.sources ?? [] : []).map((source, index) => ({
      number: index + 1, place: String(source.place ?? source.path ?? ""), heading: String(source.heading || source.title || ""),
      text: String(source.text ?? ""), cited: cited.has(index + 1), doubted: cited.has(index + 1) && doubted(index + 1),
      suspicious: Boolean(source.suspicious),
    })),
  };
}
