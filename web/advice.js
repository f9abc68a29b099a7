// SPDX-License-Identifier: MIT
//
// advice: what went wrong, in words that say what to do. Every failure of the server or of the way
// to it becomes {title, advice, actions}; actions name buttons that the thread knows:
//
//     again      ask the same again
//     shorten    leave out the oldest turns and ask again
//     fresh      begin a new conversation
//     key        ask for the key, then again

const count = (value) => Number(value).toLocaleString();

function overflow(error) {
  const { n_ctx: room, n_prompt_tokens: needs } = error.details;
  const figures = room && needs ? ` It needs ${count(needs)} tokens, and the model holds ${count(room)}.` : "";
  return {
    title: "The conversation has outgrown the model’s memory.",
    advice: `Nothing was cut.${figures} Leave out older turns, shorten the message with Edit, or begin anew.`,
    actions: ["shorten", "fresh"],
  };
}

const KINDS = [
  [(e) => e.code === "context_length_exceeded" || e.code === "exceed_context_size_error" || e.code === "no_room_for_sources", overflow],
  [(e) => e.status === 401, () => ({
    title: "The server asks for a key.",
    advice: "It is the value of --api-key, which whoever started the server knows.", actions: ["key"],
  })],
  [(e) => e.status === 403, (e) => ({
    title: "The server refuses this address.",
    advice: `${e.message} Open the page under the address that the server printed at its start.`, actions: [],
  })],
  [(e) => e.status === 429, (e) => ({
    title: "Too many requests are waiting.",
    advice: e.details.retry_after_s ? `Try again in ${e.details.retry_after_s} seconds.` : "Try again in a moment.", actions: ["again"],
  })],
  [(e) => e.status === 503, (e) => ({
    title: "The server is not ready yet.", advice: `${e.message} Try again in a moment.`, actions: ["again"],
  })],
  [(e) => e.status === 413, (e) => ({
    title: "The message is too large for the server.", advice: `${e.message} Shorten it, or attach less.`, actions: [],
  })],
  [(e) => e.code === "stream_cut", () => ({
    title: "The answer broke off.",
    advice: "The connection ended before the answer did. What had arrived is kept. Is rotor serve still running?", actions: ["again"],
  })],
  [(e) => e.status === 0, () => ({
    title: "The server does not answer.",
    advice: "Is rotor serve still running? Start it again; the conversation is safe here.", actions: ["again"],
  })],
  [(e) => e.code === "shutting_down", () => ({
    title: "The server is ending.", advice: "What had arrived is kept, and the conversation is safe here. Start rotor serve again.", actions: ["again"],
  })],
  [(e) => e.status >= 500 || e.type === "server_error", (e) => ({
    title: "The server failed.", advice: `${e.message} Its log says more. What had arrived is kept.`, actions: ["again"],
  })],
];

export function adviceFor(error) {
  const kind = KINDS.find(([fits]) => fits(error));
  if (kind) return kind[1](error);
  return { title: "The server refused the request.", advice: error.message, actions: ["again"] };
}
