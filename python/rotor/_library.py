# SPDX-License-Identifier: MIT
"""librotor through ctypes: where the library is found, its structures and its functions.

The structures below are include/rotor.h field by field. tests/python/test_layout.py compiles a C
program against the header and compares every offset, size, enumerator and prototype, so that the
two cannot drift apart. Nothing outside this package should import from here.
"""
import ctypes
import ctypes.util
import os
from ctypes import (CFUNCTYPE, POINTER, c_bool, c_char, c_char_p, c_float, c_int, c_int32, c_size_t, c_uint,
                    c_uint8, c_uint32, c_uint64, c_void_p)

HERE = os.path.dirname(os.path.abspath(__file__))
FILE_NAME = "librotor.so"
SONAME = "librotor.so.0"

# ---- Enumerations of the header --------------------------------------------------------------------------------------

STATUS = {"OK": 0, "E_NOMEM": -1, "E_IO": -2, "E_FORMAT": -3, "E_UNSUPPORTED": -4, "E_ARG": -5, "E_FULL": -6,
          "E_NOTFOUND": -7, "E_CANCELLED": -8, "E_STATE": -9, "E_DEVICE": -10}
KV = {"f16": 0, "f32": 1, "q8": 2}
HEAD = {"auto": 0, "file": 1, "q8": 2, "q6": 3, "exact": 4}
EFFORT = {"default": 0, "low": 1, "medium": 2, "high": 3}
PARTS = ("reasoning", "preamble", "answer", "call")
YARN = {"auto": 0, "exact": 1, "rounded": 2}
I2S = {"auto": 0, "x86": 1, "arm": 2, "4row": 3}
POOL = {"auto": 0, "mean": 1, "cls": 2, "last": 3, "rank": 4}
FINISH = ("end", "stop", "length", "full", "cancel")
FULL = {"stop": 0, "shift": 1}
GRAMMAR = {"gbnf": 0, "json_schema": 1, "json_object": 2}
TOK_BOS, TOK_SPECIAL = 1, 2
EMBED_RAW, EMBED_TRUNCATE = 1, 2
AUTO_CTX = 0xFFFFFFFF

# ---- Structures ------------------------------------------------------------------------------------------------------


class CError(ctypes.Structure):
    """rotor_error"""
    _fields_ = [("code", c_int), ("message", c_char * 496)]


LOG_FN = CFUNCTYPE(None, c_void_p, c_int, c_char_p)


class EngineOptions(ctypes.Structure):
    """rotor_engine_options"""
    _fields_ = [("size", c_uint32), ("threads", c_int32), ("ctx", c_uint32), ("max_sessions", c_uint32),
                ("chunk", c_uint32), ("max_logits", c_uint32), ("max_layers", c_uint32), ("kv", c_int),
                ("head", c_int), ("i2s", c_int), ("float_act", c_bool), ("no_mmap", c_bool), ("cpu", c_char_p),
                ("chat_template", c_char_p), ("log", LOG_FN), ("log_user", c_void_p), ("threads_of", c_void_p),
                ("lora", c_char_p), ("lora_scale", c_float), ("zero", c_uint8 * 4), ("device", c_char_p),
                ("device_cache", c_char_p), ("device_layers", c_uint32), ("yarn", c_int),
                ("device_prompt", c_char_p), ("embed", c_bool), ("embed_int8", c_bool), ("zero_embed", c_uint8 * 2), ("pool", c_int), ("memory_bytes", c_uint64),
                ("self_check", c_float), ("trace_events", c_uint32), ("trace", c_char_p)]


class EngineInfo(ctypes.Structure):
    """rotor_engine_info"""
    _fields_ = [("size", c_uint32), ("name", c_char_p), ("architecture", c_char_p), ("type_name", c_char_p),
                ("template_line", c_char_p), ("head", c_char_p), ("cpu", c_char_p), ("n_vocab", c_uint32),
                ("n_embd", c_uint32), ("n_layer", c_uint32), ("n_head", c_uint32), ("n_head_kv", c_uint32),
                ("n_ff", c_uint32), ("n_ctx_train", c_uint32), ("n_ctx", c_uint32), ("threads", c_int32),
                ("n_params", c_uint64), ("file_bytes", c_uint64), ("kv_bytes", c_uint64), ("step_bytes", c_uint64),
                ("temperature", c_float), ("top_p", c_float), ("min_p", c_float), ("repeat_penalty", c_float),
                ("top_k", c_int32), ("has_template", c_bool), ("head_bytes", c_uint64), ("kv_tok_bytes", c_uint64),
                ("head_all_bytes", c_uint64), ("head_tokens", c_uint64), ("head_whole", c_uint64),
                ("head_survivors", c_uint64 * 5), ("head_rows", c_uint64), ("device", c_char_p),
                ("device_name", c_char_p), ("device_why", c_char_p), ("device_steps", c_uint64), ("device_dependent", c_uint64),
                ("device_up", c_uint64), ("device_down", c_uint64), ("device_layers", c_uint64),
                ("device_imported", c_uint64), ("device_prompt", c_char_p), ("pool", c_int), ("n_vector", c_uint32), ("work_bytes", c_uint64),
                ("available_bytes", c_uint64), ("on_demand", c_uint64), ("wanted_bytes", c_uint64),
                ("file_id", c_uint64)]


class SelfCheck(ctypes.Structure):
    """rotor_self_check"""
    _fields_ = [("size", c_uint32), ("zero", c_uint32), ("steps", c_uint64), ("logits", c_uint64),
                ("values", c_uint64), ("products", c_uint64), ("macs", c_uint64), ("weight_bytes", c_uint64),
                ("weight_all_bytes", c_uint64), ("total_ns", c_uint64), ("spent_ns", c_uint64),
                ("faults", c_uint64), ("fault", c_char * 496)]


class EmbedText(ctypes.Structure):
    """rotor_embed_text"""
    _fields_ = [("text", c_char_p), ("n_bytes", c_size_t), ("ids", POINTER(c_uint32)), ("n_ids", c_size_t)]


class Logit(ctypes.Structure):
    """rotor_logit"""
    _fields_ = [("id", c_uint32), ("value", c_float)]


class Message(ctypes.Structure):
    """rotor_message"""
    _fields_ = [("role", c_char_p), ("content", c_char_p)]


class ToolCall(ctypes.Structure):
    """rotor_tool_call"""
    _fields_ = [("name", c_char_p), ("arguments", c_char_p), ("id", c_char_p)]


class Turn(ctypes.Structure):
    """rotor_turn"""
    _fields_ = [("role", c_char_p), ("content", c_char_p), ("name", c_char_p), ("reasoning", c_char_p),
                ("calls", POINTER(ToolCall)), ("n_calls", c_size_t), ("ids", POINTER(c_uint32)), ("n_ids", c_size_t),
                ("call_id", c_char_p)]


class ChatOptions(ctypes.Structure):
    """rotor_chat_options"""
    _fields_ = [("size", c_uint32), ("effort", c_int), ("date", c_char_p), ("tools", c_char_p)]


class CallOptions(ctypes.Structure):
    """rotor_call_options"""
    _fields_ = [("size", c_uint32), ("tools", c_char_p), ("required", c_bool), ("single", c_bool)]


class Piece(ctypes.Structure):
    """rotor_piece; its text as an address, see TEXT_FN"""
    _fields_ = [("part", c_int), ("begins", c_bool), ("ends", c_bool), ("name", c_char_p), ("text", c_void_p),
                ("n_bytes", c_size_t)]


class Token(ctypes.Structure):
    """rotor_token"""
    _fields_ = [("id", c_uint32), ("logprob", c_float)]


# Callbacks take text as an address: c_char_p would stop at a zero byte.
TEXT_FN = CFUNCTYPE(c_bool, c_void_p, c_void_p, c_size_t, POINTER(Token), POINTER(Token), c_size_t)
PROMPT_FN = CFUNCTYPE(c_bool, c_void_p, c_uint32, c_uint32)
SHORTEN_FN = CFUNCTYPE(c_bool, c_void_p, POINTER(POINTER(c_uint32)), POINTER(c_size_t))
SHIFT_FN = CFUNCTYPE(None, c_void_p, c_uint32, c_uint32)
LOGITS_FN = CFUNCTYPE(None, c_void_p, POINTER(c_float), c_uint32)
PIECE_FN = CFUNCTYPE(None, c_void_p, POINTER(Piece))
EVAL_FN = CFUNCTYPE(c_bool, c_void_p, c_size_t, POINTER(c_float))


class GenOptions(ctypes.Structure):
    """rotor_gen_options"""
    _fields_ = [("size", c_uint32), ("max_tokens", c_uint32), ("temperature", c_float), ("top_k", c_int32),
                ("top_p", c_float), ("min_p", c_float), ("repeat_penalty", c_float), ("frequency_penalty", c_float),
                ("presence_penalty", c_float), ("seed", c_uint64), ("stops", POINTER(c_char_p)),
                ("n_stops", c_size_t), ("bias_ids", POINTER(c_uint32)), ("bias", POINTER(c_float)),
                ("n_bias", c_size_t), ("n_top", c_uint32), ("ignore_eog", c_bool), ("special", c_bool), ("no_logprobs", c_bool),
                ("on_text", TEXT_FN), ("on_prompt", PROMPT_FN), ("on_logits", LOGITS_FN), ("user", c_void_p),
                ("lookup", c_uint32), ("draft_max", c_uint32), ("draft", c_void_p), ("reply", c_void_p),
                ("full", c_int), ("keep", c_uint32), ("on_shorten", SHORTEN_FN), ("on_shift", SHIFT_FN),
                ("grammar", c_void_p), ("calls", c_void_p)]


class GenResult(ctypes.Structure):
    """rotor_gen_result"""
    _fields_ = [("text", c_void_p), ("n_bytes", c_size_t), ("ids", POINTER(c_uint32)), ("n_ids", c_size_t),
                ("finish", c_int), ("n_prompt", c_uint32), ("n_reused", c_uint32), ("prompt_us", c_uint64),
                ("first_us", c_uint64), ("decode_us", c_uint64), ("n_drafted", c_uint32), ("n_accepted", c_uint32),
                ("end_id", c_uint32), ("n_shifts", c_uint32), ("n_shifted", c_uint32)]


STRUCTS = {"rotor_error": CError, "rotor_engine_options": EngineOptions, "rotor_engine_info": EngineInfo,
           "rotor_embed_text": EmbedText, "rotor_message": Message, "rotor_logit": Logit, "rotor_token": Token, "rotor_gen_options": GenOptions,
           "rotor_gen_result": GenResult, "rotor_tool_call": ToolCall, "rotor_turn": Turn,
           "rotor_chat_options": ChatOptions, "rotor_call_options": CallOptions, "rotor_piece": Piece}

# ---- Functions -------------------------------------------------------------------------------------------------------

ERR, OUT = POINTER(CError), POINTER(c_void_p)
IDS = POINTER(c_uint32)
FUNCTIONS = {
    "rotor_version": (c_char_p, []),
    "rotor_features": (c_char_p, []),
    "rotor_engine_options_default": (EngineOptions, []),
    "rotor_engine_open": (c_int, [OUT, c_char_p, POINTER(EngineOptions), ERR]),
    "rotor_engine_open_memory": (c_int, [OUT, c_void_p, c_size_t, c_char_p, POINTER(EngineOptions), ERR]),
    "rotor_engine_close": (None, [OUT]),
    "rotor_engine_get_self_check": (c_int, [c_void_p, POINTER(SelfCheck)]),
    "rotor_engine_get_info": (c_int, [c_void_p, POINTER(EngineInfo)]),
    "rotor_tokenize": (c_int, [c_void_p, c_char_p, c_size_t, c_uint, POINTER(IDS), POINTER(c_size_t), ERR]),
    "rotor_detokenize": (c_int, [c_void_p, IDS, c_size_t, c_bool, POINTER(c_void_p), POINTER(c_size_t), ERR]),
    "rotor_is_eog": (c_bool, [c_void_p, c_uint32]),
    "rotor_free": (None, [c_void_p]),
    "rotor_chat_tokenize": (c_int, [c_void_p, POINTER(Message), c_size_t, POINTER(IDS), POINTER(c_size_t),
                                    POINTER(c_void_p), ERR]),
    "rotor_chat_stop": (c_char_p, [c_void_p, c_size_t]),
    "rotor_chat_template_name": (c_char_p, [c_size_t]),
    "rotor_embed": (c_int, [c_void_p, POINTER(EmbedText), c_size_t, c_uint, POINTER(c_float), ERR]),
    "rotor_rerank": (c_int, [c_void_p, POINTER(EmbedText), POINTER(EmbedText), c_size_t, POINTER(c_float), ERR]),
    "rotor_chat_has_parts": (c_bool, [c_void_p]),
    "rotor_chat_calls": (c_char_p, [c_void_p]),
    "rotor_call_options_default": (CallOptions, []),
    "rotor_chat_options_default": (ChatOptions, []),
    "rotor_chat_prompt": (c_int, [c_void_p, POINTER(Turn), c_size_t, POINTER(ChatOptions), POINTER(IDS), POINTER(c_size_t),
                                  POINTER(c_void_p), ERR]),
    "rotor_reply_create": (c_int, [OUT, c_void_p, PIECE_FN, c_void_p, ERR]),
    "rotor_reply_create_calls": (c_int, [OUT, c_void_p, POINTER(CallOptions), PIECE_FN, c_void_p, ERR]),
    "rotor_reply_free": (None, [OUT]),
    "rotor_reply_put": (c_int, [c_void_p, c_uint32, ERR]),
    "rotor_reply_wrote": (c_void_p, [c_void_p, POINTER(c_size_t)]),
    "rotor_reply_end": (c_int, [c_void_p, ERR]),
    "rotor_reply_text": (c_void_p, [c_void_p, c_int]),
    "rotor_reply_bytes": (c_size_t, [c_void_p, c_int]),
    "rotor_reply_calls": (c_size_t, [c_void_p, POINTER(POINTER(ToolCall))]),
    "rotor_grammar_create": (c_int, [OUT, c_void_p, c_int, c_char_p, ERR]),
    "rotor_grammar_create_calls": (c_int, [OUT, c_void_p, POINTER(CallOptions), ERR]),
    "rotor_grammar_bytes": (c_size_t, [c_void_p]),
    "rotor_grammar_free": (None, [OUT]),
    "rotor_session_create": (c_int, [OUT, c_void_p, c_uint32, ERR]),
    "rotor_session_free": (None, [OUT]),
    "rotor_session_len": (c_uint32, [c_void_p]),
    "rotor_session_max": (c_uint32, [c_void_p]),
    "rotor_session_rewind": (None, [c_void_p, c_uint32]),
    "rotor_session_tokens": (POINTER(c_uint32), [c_void_p]),
    "rotor_session_save": (c_int, [c_void_p, c_char_p, c_char_p, ERR]),
    "rotor_session_load": (c_int, [c_void_p, c_char_p, OUT, ERR]),
    "rotor_eval": (c_int, [c_void_p, IDS, c_size_t, POINTER(POINTER(c_float)), ERR]),
    "rotor_eval_top": (c_int, [c_void_p, IDS, c_size_t, POINTER(Logit), c_size_t, ERR]),
    "rotor_eval_together": (c_int, [OUT, IDS, c_size_t, POINTER(POINTER(c_float)), ERR]),
    "rotor_eval_all": (c_int, [c_void_p, IDS, c_size_t, EVAL_FN, c_void_p, ERR]),
    "rotor_gen_options_default": (GenOptions, [c_void_p]),
    "rotor_gen_result_free": (None, [POINTER(GenResult)]),
    "rotor_draft_check": (c_int, [c_void_p, c_void_p, ERR]),
    "rotor_generate": (c_int, [c_void_p, IDS, c_size_t, POINTER(GenOptions), POINTER(GenResult), ERR]),
    "rotor_generate_text": (c_int, [c_void_p, c_char_p, POINTER(GenOptions), POINTER(GenResult), ERR]),
    "rotor_generate_beam": (c_int, [c_void_p, IDS, c_size_t, c_uint32, c_uint32, c_void_p, POINTER(GenResult), ERR]),
}

# ---- Finding and loading ---------------------------------------------------------------------------------------------


def candidates():
    """Paths and names to try, in order."""
    told = os.environ.get("ROTOR_LIBRARY")
    if told:
        return [os.path.join(told, FILE_NAME) if os.path.isdir(told) else told]
    beside = [os.path.join(HERE, FILE_NAME), os.path.join(HERE, "..", "..", "build", FILE_NAME)]
    return beside + [name for name in (ctypes.util.find_library("rotor"), SONAME) if name]


def load():
    tried = []
    for path in candidates():
        if os.path.isabs(path) and not os.path.exists(path):
            tried.append("%s: there is no such file" % os.path.normpath(path))
            continue
        try:
            lib = ctypes.CDLL(path)
        except OSError as error:
            tried.append("%s: %s" % (path, error))
            continue
        return bind(lib, path)
    raise ImportError("librotor is not here. `make` builds build/librotor.so; name that file or its folder in the "
                      "environment variable ROTOR_LIBRARY. Tried:\n  " + "\n  ".join(tried))


def bind(lib, path):
    try:
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(lib, name)
            function.restype, function.argtypes = result, arguments
    except AttributeError as error:
        raise ImportError("%s is another version of librotor than this package: %s" % (path, error)) from None
    return lib


lib = load()
