# SPDX-License-Identifier: MIT
"""The library's ternary quantisers and its small network (include/rotor_ternary.h), from NumPy."""
import ctypes
from ctypes import byref, c_float, c_int, c_size_t, c_void_p

import numpy as np

from . import _library as c
from ._engine import _check
from ._library import lib

FUNCTIONS = {
    "rotor_ternary_absmean": (c_float, [c_void_p, c_size_t, c_void_p]),
    "rotor_ternary_int8": (c_float, [c_void_p, c_size_t, c_void_p]),
    "rotor_mlp_create": (c_int, [c.OUT, c_size_t, c.ERR]),
    "rotor_mlp_free": (None, [c.OUT]),
    "rotor_mlp_add_float": (c_int, [c_void_p, c_size_t, c_void_p, c_void_p, c_int, c.ERR]),
    "rotor_mlp_n_outputs": (c_size_t, [c_void_p]),
    "rotor_mlp_forward": (c_int, [c_void_p, c_void_p, c_void_p, c.ERR]),
    "rotor_mlp_get_stats": (None, [c_void_p, c_void_p]),
}
for _name, (_result, _arguments) in FUNCTIONS.items():
    _function = getattr(lib, _name)
    _function.restype, _function.argtypes = _result, _arguments

ACTS = {"linear": 0, "relu": 1, "sign": 2}


class MlpStats(ctypes.Structure):
    """rotor_mlp_stats"""
    _fields_ = [("n_layers", c_size_t), ("n_weights", ctypes.c_uint64), ("n_zero", ctypes.c_uint64),
                ("sparsity", ctypes.c_double), ("weight_bytes", ctypes.c_uint64), ("float_bytes", ctypes.c_uint64),
                ("scratch_bytes", ctypes.c_uint64)]


def _floats(x):
    return np.ascontiguousarray(x, np.float32)


def _quantise(function, x):
    x = _floats(x)
    codes = np.empty(x.shape, np.int8)
    return codes, function(x.ctypes.data, x.size, codes.ctypes.data)


def absmean(w):
    """Weights to codes -1, 0, +1 (int8) and the scale that multiplies them."""
    return _quantise(lib.rotor_ternary_absmean, w)


def int8(x):
    """Values to codes -127 … 127 and their step."""
    return _quantise(lib.rotor_ternary_int8, x)


class Mlp:
    """Layers y = act(W x + bias) with ternary W, two bits a weight. One thread at a time."""

    def __init__(self, n_inputs):
        self._ptr, err = c_void_p(), c.CError()
        _check(lib.rotor_mlp_create(byref(self._ptr), n_inputs, byref(err)), err)
        self.n_inputs = n_inputs

    def __del__(self):
        lib.rotor_mlp_free(byref(self._ptr))

    @property
    def n_outputs(self):
        return lib.rotor_mlp_n_outputs(self._ptr)

    def add(self, w, bias=None, act="linear"):
        """Appends a layer from float weights [n_out, inputs], quantised by absmean. Returns self."""
        w, err = _floats(w), c.CError()
        if w.ndim != 2 or w.shape[1] != self.n_outputs:
            raise ValueError("weights are %s, expected [outputs, %d]" % (w.shape, self.n_outputs))
        b = None if bias is None else _floats(bias)
        if b is not None and b.shape != (len(w),):
            raise ValueError("the bias is %s, expected [%d]" % (b.shape, len(w)))
        _check(lib.rotor_mlp_add_float(self._ptr, len(w), w.ctypes.data, None if b is None else b.ctypes.data, ACTS[act],
                                       byref(err)), err)
        return self

    def __call__(self, x):
        """Outputs of one input [inputs] or of many [n, inputs]."""
        x, err = _floats(x), c.CError()
        if x.shape[-1] != self.n_inputs:
            raise ValueError("inputs are %s, expected [..., %d]" % (x.shape, self.n_inputs))
        y = np.empty((*x.shape[:-1], self.n_outputs), np.float32)
        for row, out in zip(x.reshape(-1, self.n_inputs), y.reshape(-1, self.n_outputs)):
            _check(lib.rotor_mlp_forward(self._ptr, row.ctypes.data, out.ctypes.data, byref(err)), err)
        return y

    @property
    def stats(self):
        """The fields of rotor_mlp_stats, as a dict."""
        s = MlpStats()
        lib.rotor_mlp_get_stats(self._ptr, byref(s))
        return {name: getattr(s, name) for name, _ in s._fields_}
