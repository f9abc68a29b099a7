# SPDX-License-Identifier: MIT
"""Engine and Session: a model ready to run, and one conversation on it.

Who owns what. The library's engine lives in a _Native, which the Engine, each Session and each
array of logits refer to: it is given back when the last of them is gone, so nothing that Python
still holds can point into memory that is no more. close() makes an object unusable at once.

Threads. The library wants one thread at a time on an engine and its sessions. Every call takes the
engine's lock (the interpreter goes on meanwhile), so objects may be shared by threads; calls wait
for each other. Tokenizing waits for nobody. A callback may tokenize but not evaluate: that is an
Error of state, not a deadlock.
"""
import codecs
import ctypes
import json
import os
import queue
import threading
import weakref
from contextlib import ExitStack, contextmanager
from ctypes import byref
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

from . import _library as c
from ._library import lib

STATUS_NAME = {value: name for name, value in c.STATUS.items()}


class Error(Exception):
    """What the library refused: code (a negative number), name ("E_FORMAT") and message."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code, self.name, self.message = code, STATUS_NAME.get(code, "E_?"), message

    def __reduce__(self):
        return Error, (self.code, self.message)


def _state_error(message):
    return Error(c.STATUS["E_STATE"], message)


def _check(status, err):
    if status != 0:
        raise Error(status, err.message.decode("utf-8", "replace"))


def _ids(ids):
    """Anything that yields ids, as the array the library reads."""
    a = np.asarray(ids if isinstance(ids, np.ndarray) else list(ids))
    if a.ndim != 1 or (a.size and a.dtype.kind not in "iu"):
        raise TypeError("ids are a sequence of whole numbers")
    if a.size and (int(a.min()) < 0 or int(a.max()) > 0xFFFFFFFF):
        raise Error(c.STATUS["E_ARG"], "an id is negative or above 4294967295")
    return np.ascontiguousarray(a, dtype=np.uint32)


def _ptr(a, kind=ctypes.c_uint32):
    return a.ctypes.data_as(ctypes.POINTER(kind))


def _embed_texts(texts):
    """Texts and lists of ids as the array the library reads, and what that points to."""
    given = [t.encode("utf-8", "surrogateescape") if isinstance(t, str) else t if isinstance(t, bytes) else _ids(t) for t in texts]
    array = (c.EmbedText * max(1, len(given)))()
    for entry, t in zip(array, given):
        if isinstance(t, bytes):
            entry.text, entry.n_bytes = t, len(t)
        else:
            entry.ids, entry.n_ids = _ptr(t), len(t)
    return array, given


def _choice(table, name, what):
    if name not in table:
        raise Error(c.STATUS["E_ARG"], "%s is %r, expected one of %s" % (what, name, ", ".join(table)))
    return table[name]


def _no_zero(text, what):
    data = os.fsencode(text) if what == "path" else text.encode("utf-8", "surrogateescape")
    if b"\0" in data:
        raise Error(c.STATUS["E_ARG"], "%s contains a zero byte" % what)
    return data


# ---- Ownership and locks ---------------------------------------------------------------------------------------------


class _Gate:
    """Lets one thread at a time call engines that share threads."""

    def __init__(self):
        self.lock = threading.Lock()
        self.owner = None        # thread inside a call
        self.readers = set()     # threads in the body of a stream: the stream holds the lock for them

    def inside(self):
        me = threading.get_ident()
        return me == self.owner or me in self.readers


class _Native:
    """The library's engine, and sessions that wait to be freed."""

    def __init__(self, ptr, threads_of):
        self.lib, self.ptr, self.threads_of = lib, ptr, threads_of
        self.gate = threads_of.gate if threads_of else _Gate()
        self.dead = []           # sessions whose last owner let go while a call was running

    @contextmanager
    def call(self):
        """Around everything that works on the engine or its sessions."""
        if self.gate.inside():
            raise _state_error("the engine is in use: a callback or the body of a stream may not call it; "
                               "let the call end, or close the stream, first")
        with self.gate.lock:
            self.gate.owner = threading.get_ident()
            try:
                self.bury()
                yield
            finally:
                self.bury()
                self.gate.owner = None

    @contextmanager
    def look(self):
        """Around what only reads a number: a callback may do that."""
        if self.gate.inside():
            yield
        else:
            with self.gate.lock:
                yield

    def bury(self):
        while self.dead:
            self.lib.rotor_session_free(byref(self.dead.pop()))

    def __del__(self):
        self.bury()
        self.lib.rotor_engine_close(byref(self.ptr))


class _NativeSession:
    """The library's session; freed when no call runs on the engine, whoever's thread notices."""

    def __init__(self, ptr, native):
        self.ptr, self.native = ptr, native

    def __del__(self):
        native = self.native
        if native.gate.lock.acquire(blocking=False):
            try:
                native.lib.rotor_session_free(byref(self.ptr))
            finally:
                native.gate.lock.release()
        else:
            native.dead.append(self.ptr)


def _view(address, shape, keep):
    """float32 array over the library's memory; keep stays alive as long as the array."""
    n = int(np.prod(shape))
    buffer = (ctypes.c_float * n).from_address(ctypes.addressof(address.contents))
    buffer.keep = keep
    a = np.frombuffer(buffer, dtype=np.float32).reshape(shape)
    a.flags.writeable = False
    return a


# ---- Generation options and results ----------------------------------------------------------------------------------

_NUMBERS = ("max_tokens", "temperature", "top_k", "top_p", "min_p", "repeat_penalty", "frequency_penalty",
            "presence_penalty", "seed", "n_top", "ignore_eog", "special", "lookup", "draft_max",
            "keep")


@dataclass
class Result:
    """A generated text. finish is "end", "stop", "length", "full" or "cancel"."""
    text: str
    ids: list
    finish: str
    n_prompt: int
    n_reused: int
    prompt_us: int
    first_us: int
    decode_us: int
    n_drafted: int = 0
    n_accepted: int = 0
    n_shifts: int = 0                              # times the oldest tokens were dropped (on_full="shift") …
    n_shifted: int = 0                             # … and how many
    logprobs: list = field(default_factory=list)   # of each id
    top: list = field(default_factory=list)        # with n_top: [(id, logprob), …] of each id
    # Of an answer in parts:
    reasoning: str = ""
    preamble: str = ""                             # said before functions are called
    tool_calls: list = field(default_factory=list)  # [{"name": …, "arguments": …}]; JSON if all went well

    def __str__(self):
        return self.text


class _Call:
    """One rotor_gen_options with everything it points to, and the exceptions of its callbacks."""

    def __init__(self, session, on_text, on_prompt=None, on_logits=None, stop=(), bias=None, draft=None, parts=False,
                 on_piece=None, on_full="stop", on_shift=None, grammar=None, json_schema=None, **numbers):
        unknown = set(numbers) - set(_NUMBERS)
        if unknown:
            raise TypeError("no such option: %s" % ", ".join(sorted(unknown)))
        o = self.options = lib.rotor_gen_options_default(session._native.ptr)
        self.error, self.logprobs, self.top, self.given = None, [], [], on_text
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for name, value in numbers.items():
            if value is not None:
                setattr(o, name, value)
        stops = [stop] if isinstance(stop, str) else list(stop or ())
        self.stops = (ctypes.c_char_p * len(stops))(*[_no_zero(s, "a stop") for s in stops])
        o.stops, o.n_stops = ctypes.cast(self.stops, ctypes.POINTER(ctypes.c_char_p)), len(stops)
        self.bias_ids = _ids((bias or {}).keys())
        self.bias = np.fromiter((bias or {}).values(), np.float32, len(self.bias_ids))
        o.bias_ids, o.bias, o.n_bias = _ptr(self.bias_ids), _ptr(self.bias, ctypes.c_float), len(self.bias)
        self.draft = draft
        o.draft = draft._need().ptr if draft else None
        self.grammar = _grammar(session._native, grammar, json_schema)
        o.grammar = self.grammar.ptr if self.grammar else None
        self.reply = _Reply(session._native, self._pieces(on_piece)) if parts else None
        o.reply = self.reply.ptr if parts else None
        o.on_text = c.TEXT_FN(self._text)
        o.on_prompt = c.PROMPT_FN(self._guard(on_prompt)) if on_prompt else c.PROMPT_FN()
        o.full = _choice(c.FULL, on_full, "on_full")
        if on_shift:
            o.on_shift = c.SHIFT_FN(lambda _, n_dropped, n_left: self._run(on_shift, n_dropped, n_left) and None)
        if on_logits:
            def rewrite(_, address, n):
                self._run(on_logits, np.ctypeslib.as_array(address, (n,)))
            o.on_logits = c.LOGITS_FN(rewrite)

    def _run(self, fn, *arguments):
        """What fn says (None counts as yes); an exception is kept, and stops the generation."""
        try:
            said = None if self.error else fn(*arguments)
            return self.error is None and said is not False
        except BaseException as error:  # must not cross the C frames
            self.error = error
            return False

    def _pieces(self, on_piece):
        """on_piece(part, text, name, begins, ends) with whole characters."""
        if not on_piece:
            return None

        def told(_, address):
            p = address.contents
            text = ctypes.string_at(p.text, p.n_bytes).decode("utf-8", "replace") if p.n_bytes else ""
            self._run(lambda: on_piece(c.PARTS[p.part], text, p.name.decode("utf-8", "replace"), p.begins, p.ends) and None)
        return told

    def _guard(self, fn):
        return lambda _, *arguments: self._run(fn, *arguments)

    def _text(self, _, text, n_bytes, token, top, n_top):
        if token:
            self.logprobs.append(token.contents.logprob)
            if self.options.n_top:
                self.top.append([(top[i].id, top[i].logprob) for i in range(n_top)])
        piece = self.decoder.decode(ctypes.string_at(text, n_bytes)) if n_bytes else ""
        return self._run(self.given, piece) if self.given and piece else self.error is None

    def end(self, status, err):
        """After the call: the rest of a broken character, and what went wrong."""
        rest = self.decoder.decode(b"", True)
        if rest and self.given and status == 0:
            self._run(self.given, rest)
        self.options = None      # it and its callbacks refer to each other
        if self.error:
            raise self.error
        _check(status, err)

    def result(self, r):
        text = ctypes.string_at(r.text, r.n_bytes).decode("utf-8", "replace") if r.n_bytes else ""
        return Result(text, [r.ids[i] for i in range(r.n_ids)], c.FINISH[r.finish], r.n_prompt, r.n_reused,
                      r.prompt_us, r.first_us, r.decode_us, r.n_drafted, r.n_accepted, r.n_shifts,
                      r.n_shifted, self.logprobs[:r.n_ids], self.top[:r.n_ids], **(self.reply.parts() if self.reply else {}))


class _Reply:
    """A rotor_reply: an answer taken apart."""

    def __init__(self, native, on_piece):
        self.native, err = native, c.CError()   # the engine outlives it
        self.lib, self.ptr, self.on_piece = lib, ctypes.c_void_p(), c.PIECE_FN(on_piece) if on_piece else c.PIECE_FN()
        _check(lib.rotor_reply_create(byref(self.ptr), native.ptr, self.on_piece, None, byref(err)), err)

    def text(self, part):
        n = lib.rotor_reply_bytes(self.ptr, part)
        return ctypes.string_at(lib.rotor_reply_text(self.ptr, part), n).decode("utf-8", "replace")

    def parts(self):
        calls = ctypes.POINTER(c.ToolCall)()
        n = lib.rotor_reply_calls(self.ptr, byref(calls))
        known = [{"name": calls[i].name.decode("utf-8", "replace"),
                  "arguments": calls[i].arguments.decode("utf-8", "replace")} for i in range(n)]
        return {"reasoning": self.text(0), "preamble": self.text(1), "tool_calls": known}

    def __del__(self):
        if getattr(self, "ptr", None):
            self.lib.rotor_reply_free(byref(self.ptr))


class Grammar:
    """Rules that texts are kept to, read once: Engine.grammar makes one, Session.generate takes it as
    `grammar`, any number of times. It keeps the engine alive."""

    def __init__(self, native, kind, text):
        self.native, err = native, c.CError()
        self.lib, self.ptr = lib, ctypes.c_void_p()
        _check(lib.rotor_grammar_create(byref(self.ptr), native.ptr, kind, _no_zero(text, "a grammar"), byref(err)), err)

    def __del__(self):
        if getattr(self, "ptr", None):
            self.lib.rotor_grammar_free(byref(self.ptr))


def _grammar(native, grammar, json_schema):
    """A Grammar of what generate() was given; None: nothing."""
    if grammar is not None and json_schema is not None:
        raise TypeError("grammar and json_schema: one of them")
    if json_schema is not None:
        text = json_schema if isinstance(json_schema, str) else json.dumps(json_schema, ensure_ascii=False)
        return Grammar(native, c.GRAMMAR["json_schema"], text)
    if isinstance(grammar, Grammar) and grammar.native is not native:
        raise ValueError("the grammar is of another engine")
    return Grammar(native, c.GRAMMAR["gbnf"], grammar) if isinstance(grammar, str) else grammar


# ---- Engine ----------------------------------------------------------------------------------------------------------


class Engine:
    """A model, its threads and its cache. Use it in a `with`, or close() it, or just let it go.

    model: a .gguf file, a .safetensors file or a Hugging Face folder; or the bytes of a GGUF file.
    Keywords are the fields of rotor_engine_options (include/rotor.h): threads, ctx (positions per
    session; None chooses, 0 is the model's), max_sessions, chunk, max_logits, max_layers,
    kv ("f16", "f32", "q8"), head ("auto", "file", "q8", "q6"), i2s, yarn, float_act, no_mmap, cpu,
    chat_template; log is called with (level, line); threads_of is an Engine whose threads this one
    shares; lora is a low-rank adapter (a GGUF file) and lora_scale multiplies what it adds; embed
    makes an engine for vectors (Engine.embed) and no text, pool ("auto", "mean", "cls", "last") says
    what speaks for a text, embed_int8 rounds an encoder's matrices to 8 bits; self_check is the
    share of the time of steps that checks while running may take (0: none, 1: no limit), and
    Engine.self_check what they have done; trace is a file for a timeline, which close() writes, of
    at most trace_events events.
    """

    def __init__(self, model, *, threads=0, ctx=None, max_sessions=1, chunk=0, max_logits=0, max_layers=0, kv="f16",
                 head="auto", i2s="auto", float_act=False, no_mmap=False, cpu=None, chat_template=None, log=None,
                 threads_of=None, lora=None, lora_scale=1.0, yarn="auto", embed=False,
                 embed_int8=False, pool="auto", self_check=0.0, trace=None, trace_events=0):
        self._native = None
        o = lib.rotor_engine_options_default()
        o.threads, o.max_sessions, o.chunk = threads, max_sessions, chunk
        o.ctx = c.AUTO_CTX if ctx is None else ctx
        o.max_logits, o.max_layers, o.float_act, o.no_mmap = max_logits, max_layers, float_act, no_mmap
        o.kv, o.head = _choice(c.KV, kv, "kv"), _choice(c.HEAD, head, "head")
        o.i2s, o.yarn = _choice(c.I2S, i2s, "i2s"), _choice(c.YARN, yarn, "yarn")
        o.embed, o.embed_int8, o.pool = embed, embed_int8, _choice(c.POOL, pool, "pool")
        o.self_check, o.trace_events = self_check, trace_events
        o.trace = _no_zero(trace, "path") if trace else None
        o.cpu = _no_zero(cpu, "cpu") if cpu else None
        o.chat_template = _no_zero(chat_template, "chat_template") if chat_template else None
        o.threads_of = threads_of._need().ptr if threads_of else None
        o.lora, o.lora_scale = _no_zero(lora, "path") if lora else None, lora_scale
        if log:
            o.log = c.LOG_FN(lambda _, level, line: log(level, line.decode("utf-8", "replace")))
        ptr, err = ctypes.c_void_p(), c.CError()
        if isinstance(model, (bytes, bytearray, memoryview)):
            image = bytes(model)
            status = lib.rotor_engine_open_memory(byref(ptr), image, len(image), b"memory", byref(o), byref(err))
        else:
            image = None
            status = lib.rotor_engine_open(byref(ptr), _no_zero(model, "path"), byref(o), byref(err))
        _check(status, err)
        self._native = _Native(ptr, threads_of._native if threads_of else None)
        self._native.options, self._native.image = o, image     # callbacks and borrowed bytes
        self._sessions = weakref.WeakSet()
        self._path = None if image is not None else os.path.realpath(model)

    def _need(self):
        if self._native is None:
            raise _state_error("the engine is closed")
        return self._native

    def close(self):
        """Closes the sessions too. Calling it again is fine. Arrays of logits stay readable."""
        if self._native is None:
            return
        with self._native.call():       # another thread's call ends first
            for session in list(self._sessions):
                session.close()
        self._native = None

    closed = property(lambda self: self._native is None)

    def __enter__(self):
        self._need()
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return "<rotor.Engine %s>" % ("closed" if self.closed else self.info.name)

    @property
    def info(self):
        """Facts of the model and of what was chosen: the fields of rotor_engine_info."""
        return self._facts(c.EngineInfo(), lib.rotor_engine_get_info)

    @property
    def self_check(self):
        """What the checks while running have done: the fields of rotor_self_check."""
        return self._facts(c.SelfCheck(), lib.rotor_engine_get_self_check)

    def _facts(self, i, get):
        native = self._need()
        i.size = ctypes.sizeof(i)
        _check(get(native.ptr, byref(i)), c.CError())
        facts = {name: getattr(i, name) for name, _ in i._fields_ if name not in ("size", "zero")}
        return SimpleNamespace(**{n: v.decode("utf-8", "replace") if isinstance(v, bytes) else v
                                  for n, v in facts.items()})

    # Text and ids: these may run beside a call.

    def tokenize(self, text, *, bos=False, special=False):
        """Ids of a text. bos: put the beginning-of-text id in front if the model wants one;
        special: recognise control tokens in the text."""
        native = self._need()
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        ids, n, err = c.IDS(), ctypes.c_size_t(), c.CError()
        flags = (c.TOK_BOS if bos else 0) | (c.TOK_SPECIAL if special else 0)
        _check(lib.rotor_tokenize(native.ptr, data, len(data), flags, byref(ids), byref(n), byref(err)), err)
        return _take_ids(ids, n.value)

    def detokenize(self, ids, *, special=False):
        """Text of ids; special: print control tokens too. Bytes that are no UTF-8 become U+FFFD."""
        native, a = self._need(), _ids(ids)
        text, n, err = ctypes.c_void_p(), ctypes.c_size_t(), c.CError()
        _check(lib.rotor_detokenize(native.ptr, _ptr(a), len(a), special, byref(text), byref(n), byref(err)), err)
        try:
            return ctypes.string_at(text, n.value).decode("utf-8", "replace")
        finally:
            lib.rotor_free(text)

    def is_eog(self, id):
        """Does this id end a generation?"""
        return bool(lib.rotor_is_eog(self._need().ptr, id))

    def chat_tokenize(self, messages):
        """Ids of a conversation, a list of {"role": …, "content": …}, ready for the answer."""
        native = self._need()
        text = [(_no_zero(m["role"], "a role"), _no_zero(m["content"], "a message")) for m in messages]
        array = (c.Message * len(text))(*text)
        ids, n, err = c.IDS(), ctypes.c_size_t(), c.CError()
        _check(lib.rotor_chat_tokenize(native.ptr, array, len(text), byref(ids), byref(n), None, byref(err)), err)
        return _take_ids(ids, n.value)

    @property
    def has_parts(self):
        """Do answers of this model's conversations come in parts: reasoning, answer, calls?"""
        return bool(lib.rotor_chat_has_parts(self._need().ptr))

    def chat_prompt(self, messages, *, effort="default", date=None, tools=None):
        """As chat_tokenize, for messages that may also have "reasoning", "tool_calls" (a list of
        {"name", "arguments"}), "name" (of a tool) and "ids" (an answer as it was generated).

        effort is "low", "medium" or "high"; date "2025-06-28" ("": none; None: today); tools a list
        of functions, or its JSON text."""
        native, keep, err = self._need(), [], c.CError()
        turns = (c.Turn * len(messages))(*[_turn(m, keep) for m in messages])
        o = lib.rotor_chat_options_default()
        o.effort = _choice(c.EFFORT, effort, "effort")
        o.date = None if date is None else _no_zero(date, "date")
        if tools is not None:
            o.tools = _no_zero(tools if isinstance(tools, str) else json.dumps(tools), "tools")
        ids, n = c.IDS(), ctypes.c_size_t()
        _check(lib.rotor_chat_prompt(native.ptr, turns, len(turns), byref(o), byref(ids), byref(n), None, byref(err)), err)
        return _take_ids(ids, n.value)

    @property
    def chat_stops(self):
        """Texts that end an answer beside the model's own end ids."""
        native, found = self._need(), []
        while (stop := lib.rotor_chat_stop(native.ptr, len(found))) is not None:
            found.append(stop.decode("utf-8", "replace"))
        return found

    def embed(self, texts, *, normalize=True, truncate=False):
        """Vectors of texts, an array float32 [texts, info.n_vector]; of one text, [info.n_vector]. A
        text is a str, bytes or a list of ids. normalize: of length one. truncate: cut a text that is
        too long. Many texts in a call are faster than many calls."""
        native = self._need()
        one = isinstance(texts, (str, bytes))
        array, given = _embed_texts([texts] if one else texts)
        out = np.empty((len(given), self.info.n_vector), np.float32)
        flags = (0 if normalize else c.EMBED_RAW) | (c.EMBED_TRUNCATE if truncate else 0)
        err = c.CError()
        if len(given):
            with native.call():
                _check(lib.rotor_embed(native.ptr, array, len(given), flags, _ptr(out, ctypes.c_float), byref(err)), err)
        return out[0] if one else out

    def rerank(self, query, passages):
        """Scores of passages as answers to a query, an array float32 [passages], higher is better; of
        a cross-encoder, opened with embed=True (info.pool 4). Texts are str, bytes or lists of
        ids as they are. A passage that is too long is cut beside the whole query."""
        native, err = self._need(), c.CError()
        (asked, _), (array, given) = _embed_texts([query]), _embed_texts(passages)
        out = np.empty(len(given), np.float32)
        if len(given):
            with native.call():
                _check(lib.rotor_rerank(native.ptr, asked, array, len(given), _ptr(out, ctypes.c_float), byref(err)), err)
        return out

    def eval_together(self, sessions, ids):
        """Appends ids[i] to sessions[i], in one step that reads the weights once; what follows each,
        as a list of views like those of Session.eval."""
        a, err = _ids(ids), c.CError()
        if len(a) != len(sessions) or any(s._native is not self._native for s in sessions):
            raise Error(c.STATUS["E_ARG"], "%d sessions of this engine and %d ids" % (len(sessions), len(a)))
        rows = (ctypes.POINTER(ctypes.c_float) * max(1, len(a)))()
        with self._need().call():
            handles = [s._need() for s in sessions]
            array = (ctypes.c_void_p * max(1, len(a)))(*[h.ptr for h in handles])
            _check(lib.rotor_eval_together(array, _ptr(a), len(a), rows, byref(err)), err)
            return [_view(row, (s._n_vocab(),), self._native) for row, s in zip(rows, sessions)]

    def session(self, max_tok=0):
        """A new token timeline of at most max_tok positions (0: the engine's context)."""
        return Session(self, max_tok)

    # Shorthands: a session for one call.

    def grammar(self, text=None, *, json_schema=None):
        """Rules for texts of this engine, to be used many times: a Grammar from GBNF (docs/grammar.md), or from
        a JSON schema (a text, or what json.loads makes of one)."""
        if (text is None) == (json_schema is None):
            raise TypeError("a text or a json_schema")
        return _grammar(self._need(), text, json_schema)

    def generate(self, prompt, **options):
        """Session.generate on a session of its own."""
        with self.session() as session:
            return session.generate(prompt, **options)

    def stream(self, prompt, **options):
        """Session.stream on a session of its own."""
        with self.session() as session:
            yield from session.stream(prompt, **options)

    def chat(self, system=None, **options):
        """A conversation: Chat."""
        return Chat(self, system, **options)


def _turn(message, keep):
    """A message as a rotor_turn; keep holds what it points to."""
    def text(key):
        value = message.get(key)
        return None if value is None else _no_zero(value, "a message")
    calls = message.get("tool_calls") or ()
    array = (c.ToolCall * len(calls))(*[(_no_zero(one["name"], "a call"), _no_zero(one["arguments"], "a call"),
                                         None if one.get("id") is None else _no_zero(one["id"], "a call")) for one in calls])
    ids = _ids(message.get("ids") or ())
    keep += [array, ids]
    return c.Turn(_no_zero(message["role"], "a role"), text("content"), text("name"), text("reasoning"),
                  ctypes.cast(array, ctypes.POINTER(c.ToolCall)), len(calls), _ptr(ids), len(ids), text("call_id"))


def _take_ids(ids, n):
    try:
        return [ids[i] for i in range(n)]
    finally:
        lib.rotor_free(ids)


# ---- Session ---------------------------------------------------------------------------------------------------------


class Session:
    """One token timeline on an engine. It keeps the engine alive."""

    def __init__(self, engine, max_tok=0):
        self._handle = None
        native = self._native = engine._need()
        ptr, err = ctypes.c_void_p(), c.CError()
        with native.call():
            _check(lib.rotor_session_create(byref(ptr), native.ptr, max_tok, byref(err)), err)
        self._handle = _NativeSession(ptr, native)
        self.engine = engine
        engine._sessions.add(self)

    def _need(self):
        if self._handle is None:
            raise _state_error("the session is closed")
        return self._handle

    def close(self):
        """Gives its part of the cache back. Calling it again is fine."""
        self._handle = None

    closed = property(lambda self: self._handle is None)

    def __enter__(self):
        self._need()
        return self

    def __exit__(self, *_):
        self.close()

    def __len__(self):
        handle = self._need()
        with self._native.look():
            return lib.rotor_session_len(handle.ptr)

    def __bool__(self):
        return True

    @property
    def max(self):
        """Positions there are."""
        handle = self._need()
        with self._native.look():
            return lib.rotor_session_max(handle.ptr)

    def rewind(self, n_keep=0):
        """Forgets all but the first n_keep positions."""
        with self._native.call():
            lib.rotor_session_rewind(self._need().ptr, n_keep)

    @property
    def tokens(self):
        """The ids of the timeline."""
        handle = self._need()
        with self._native.look():
            ids = lib.rotor_session_tokens(handle.ptr)
            return [ids[i] for i in range(lib.rotor_session_len(handle.ptr))]

    def save(self, path, note=""):
        """Writes the session to a file: tokens, cache and a note, a text of yours."""
        err = c.CError()
        with self._native.call():
            status = lib.rotor_session_save(self._need().ptr, _no_zero(path, "path"), _no_zero(note, "a note"), byref(err))
        _check(status, err)

    def load(self, path):
        """Makes the session what save() wrote, with the same model; returns the note."""
        note, err = ctypes.c_void_p(), c.CError()
        with self._native.call():
            status = lib.rotor_session_load(self._need().ptr, _no_zero(path, "path"), byref(note), byref(err))
        _check(status, err)
        try:
            return ctypes.string_at(note.value).decode("utf-8", "replace")
        finally:
            lib.rotor_free(note)

    def eval(self, ids):
        """Makes the timeline equal ids, reusing what it shares with them, and returns the logits
        after the last one: float32[n_vocab], a read-only view of the engine's memory. Its numbers
        stand until the next call on the engine; .copy() keeps them."""
        a, logits, err = _ids(ids), ctypes.POINTER(ctypes.c_float)(), c.CError()
        with self._native.call():
            _check(lib.rotor_eval(self._need().ptr, _ptr(a), len(a), byref(logits), byref(err)), err)
            return _view(logits, (self._n_vocab(),), self._native)

    def eval_top(self, ids, k):
        """As eval, for the k (1 to 256) largest logits alone, best first: [(id, value), ...]. With
        head="exact" a fraction of the work."""
        a, err, top = _ids(ids), c.CError(), (c.Logit * max(1, k))()
        with self._native.call():
            _check(lib.rotor_eval_top(self._need().ptr, _ptr(a), len(a), top, k, byref(err)), err)
        return [(t.id, t.value) for t in top if t.id != 0xFFFFFFFF]  # ROTOR_NO_ID: past the vocabulary

    def eval_all(self, ids):
        """The logits of every position, from an empty timeline: float32[n, n_vocab], a copy."""
        a, err, n_vocab = _ids(ids), c.CError(), self._n_vocab()
        out = np.empty((len(a), n_vocab), np.float32)

        def keep(_, position, logits):
            ctypes.memmove(out[position].ctypes.data, logits, n_vocab * 4)
            return True
        with self._native.call():
            _check(lib.rotor_eval_all(self._need().ptr, _ptr(a), len(a), c.EVAL_FN(keep), None, byref(err)), err)
        return out

    def _n_vocab(self):
        i = c.EngineInfo()
        i.size = ctypes.sizeof(i)
        lib.rotor_engine_get_info(self._native.ptr, byref(i))
        return i.n_vocab

    def _prompt(self, prompt):
        return _ids(self.engine.tokenize(prompt, bos=True) if isinstance(prompt, str) else prompt)

    def generate(self, prompt, *, on_text=None, **options):
        """Continues a prompt (a text, or ids) and returns a Result.

        Options: max_tokens (0: until the context is full), temperature, top_k, top_p, min_p,
        repeat_penalty, frequency_penalty, presence_penalty, seed, stop (a text or several), bias
        ({id: shift}), n_top, ignore_eog, special, lookup, draft_max, draft (a Session of a smaller
        model), and callbacks: on_text(piece) and on_prompt(done, total), where False stops;
        on_logits(array), which may change it. on_full says what happens when the context is full:
        "stop" (the text ends, a longer prompt is an error) or "shift" (the oldest tokens behind the
        first `keep` are dropped, and on_shift(n_dropped, n_left) is told). What is not given is the model's own setting.

        grammar (a GBNF text, or an Engine.grammar) or json_schema (a text, or what json.loads makes
        of one) keeps the text to rules: what ends with finish "end" fulfils them.

        parts=True, after Engine.chat_prompt of a model whose answers have parts: text is the answer
        alone, the Result has the others, and on_piece(part, text, name, begins, ends) is told all as
        it comes; part is "reasoning", "preamble", "answer" or "call" (of the function name)."""
        call, ids = _Call(self, on_text, **options), self._prompt(prompt)
        r, err = c.GenResult(), c.CError()
        with ExitStack() as locks:
            engines = {id(s._native): s._native for s in (self, call.draft) if s}
            for _, native in sorted(engines.items()):
                locks.enter_context(native.call())
            status = lib.rotor_generate(self._need().ptr, _ptr(ids), len(ids), byref(call.options), byref(r), byref(err))
        try:
            call.end(status, err)
            return call.result(r)
        finally:
            lib.rotor_gen_result_free(byref(r))

    def generate_beam(self, prompt, width=4, max_tokens=0, grammar=None, json_schema=None):
        """Beam search: the best of `width` beams by log-probability per token; grammar and json_schema as in generate()."""
        rules = _grammar(self._native, grammar, json_schema)
        ids, r, err = self._prompt(prompt), c.GenResult(), c.CError()
        with self._native.call():
            status = lib.rotor_generate_beam(self._need().ptr, _ptr(ids), len(ids), width, max_tokens,
                                             rules.ptr if rules else None, byref(r), byref(err))
        try:
            _check(status, err)
            return _Call(self, None).result(r)
        finally:
            lib.rotor_gen_result_free(byref(r))

    def stream(self, prompt, **options):
        """Yields the text piece by piece while it is made; together the pieces are the text of
        generate(). The next piece is made when it is asked for: leaving the loop stops there.
        Inside the loop this engine may tokenize, but not be called otherwise."""
        self._need()
        return _stream(self, prompt, options)


def _stream(session, prompt, options):
    """The generation runs in a thread of its own and waits, inside its callback, for the reader."""
    gates = {s._native.gate for s in (session, options.get("draft")) if s}
    wanted, pieces, stopped = threading.Semaphore(0), queue.SimpleQueue(), False
    given = options.pop("on_text", None)

    def on_text(piece):
        goes_on = given(piece) if given else True
        pieces.put(piece)
        wanted.acquire()
        return not stopped and goes_on

    def work():
        try:
            pieces.put(session.generate(prompt, on_text=on_text, **options))
        except BaseException as error:
            pieces.put(error)

    if any(gate.inside() for gate in gates):
        raise _state_error("the engine is in use: close the stream, or let the call end, first")
    worker = threading.Thread(target=work, name="rotor stream", daemon=True)
    worker.start()
    try:
        while True:
            item, me = pieces.get(), threading.get_ident()
            if isinstance(item, BaseException):
                raise item
            if not isinstance(item, str):
                return item
            for gate in gates:
                gate.readers.add(me)
            try:
                yield item
            finally:
                for gate in gates:
                    gate.readers.discard(me)
            wanted.release()
    finally:
        stopped = True
        wanted.release()
        worker.join()


# ---- Chat ------------------------------------------------------------------------------------------------------------


class Chat:
    """A conversation with the model's chat template; messages holds all that was said."""

    def __init__(self, engine, system=None, **options):
        self.engine, self.options = engine, options
        self.session = engine.session()
        self.messages = [{"role": "system", "content": system}] if system else []

    def _options(self, more):
        stop = more.pop("stop", self.options.get("stop", ()))
        stops = self.engine.chat_stops + ([stop] if isinstance(stop, str) else list(stop))
        return {**self.options, **more, "stop": stops}

    def say(self, text, **options):
        """The model's answer, as a Result."""
        messages = self.messages + [{"role": "user", "content": text}]
        if not self.engine.has_parts:
            result = self.session.generate(self.engine.chat_tokenize(messages), **self._options(options))
            self.messages = messages + [{"role": "assistant", "content": result.text}]
            return result
        prompt = self.engine.chat_prompt(messages)
        result = self.session.generate(prompt, **{"parts": True, **self._options(options)})
        said = {"role": "assistant", "content": result.text}
        if result.finish != "stop":     # else a stop's text is among them
            said["ids"] = result.ids
        self.messages = messages + [said]
        return result

    def stream(self, text, **options):
        """The answer piece by piece. What had been said when the loop was left counts as said."""
        messages = self.messages + [{"role": "user", "content": text}]
        said = []
        try:
            prompt = self.engine.chat_prompt(messages)
            parts = {"parts": True} if self.engine.has_parts else {}
            for piece in self.session.stream(prompt, **parts, **self._options(options)):
                said.append(piece)
                yield piece
        finally:
            self.messages = messages + [{"role": "assistant", "content": "".join(said)}]
