# SPDX-License-Identifier: MIT
"""A small GGUF v3 and safetensors reader and writer for the golden tests.

Written from the format description alone, with nothing of the C loader in it, so that the two can disagree. Every block
type that the tests use is encoded and decoded here with whole-array numpy; clarity before speed. Errors are plain
ValueErrors: the files come from our own writer, hostile ones belong to the C tests.

Shapes: a GGUF tensor of dims [in, out] is held as a numpy array [out, in] (rows of the matrix are rows of the array).
"""
import json
import struct

import numpy as np

F32, F16, Q4_0, Q8_0, BF16, TQ1_0, TQ2_0, I2_S, MXFP4, IQ1_BN, IQ2_BN = 0, 1, 2, 8, 30, 34, 35, 36, 39, 134, 135
T5 = 0x3554
TYPE_NAMES = {F32: "F32", F16: "F16", Q4_0: "Q4_0", Q8_0: "Q8_0", BF16: "BF16", TQ1_0: "TQ1_0", TQ2_0: "TQ2_0",
              I2_S: "I2_S", MXFP4: "MXFP4", IQ1_BN: "IQ1_BN", IQ2_BN: "IQ2_BN", T5: "T5"}
TERNARY_TYPES = (TQ1_0, TQ2_0, I2_S, IQ1_BN, IQ2_BN)
BLOCK = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34), TQ1_0: (256, 54), TQ2_0: (256, 66),
         MXFP4: (32, 17)}

# ---- bf16 -----------------------------------------------------------------------------------------------------------


def bf16_to_f32(bits):
    return (np.asarray(bits, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


def f32_to_bf16(x):
    """Round to nearest even; the tests hold no NaN."""
    u = np.ascontiguousarray(x, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


# ---- block types ----------------------------------------------------------------------------------------------------


def encode_q8_0(x):
    """d = amax/127 (stored as f16), q = x/d rounded half away from zero. x: [rows, K], K % 32 == 0."""
    b = np.asarray(x, np.float32).reshape(-1, 32)
    d = np.abs(b).max(axis=1) / np.float32(127)
    inv = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)
    v = b * inv[:, None]
    q = (np.sign(v) * np.floor(np.abs(v) + np.float32(0.5))).astype(np.int8)
    return np.concatenate([d.astype("<f2").view(np.uint8).reshape(-1, 2), q.view(np.uint8)], axis=1).tobytes()


def encode_q4_0(x):
    """d = (value of largest magnitude)/-8; element e in the low nibble of byte e, e+16 in its high nibble."""
    b = np.asarray(x, np.float32).reshape(-1, 32)
    peak = b[np.arange(len(b)), np.abs(b).argmax(axis=1)]
    d = peak / np.float32(-8)
    inv = np.divide(np.float32(1), d, out=np.zeros_like(d), where=d != 0)
    q = np.minimum(15, (b * inv[:, None] + np.float32(8.5)).astype(np.int32)).astype(np.uint8)
    return np.concatenate([d.astype("<f2").view(np.uint8).reshape(-1, 2), q[:, :16] | (q[:, 16:] << 4)], axis=1).tobytes()


def blocks_q8_0(data, rows, cols):
    """-> integer codes [rows, cols], block scales [rows, cols/32]."""
    raw = np.frombuffer(data, np.uint8).reshape(rows, cols // 32, 34)
    d = np.ascontiguousarray(raw[..., :2]).view("<f2")[..., 0].astype(np.float64)
    return np.ascontiguousarray(raw[..., 2:]).view(np.int8).astype(np.int64).reshape(rows, cols), d


def blocks_q4_0(data, rows, cols):
    raw = np.frombuffer(data, np.uint8).reshape(rows, cols // 32, 18)
    d = np.ascontiguousarray(raw[..., :2]).view("<f2")[..., 0].astype(np.float64)
    q = np.concatenate([raw[..., 2:] & 15, raw[..., 2:] >> 4], axis=-1).astype(np.int64) - 8
    return q.reshape(rows, cols), d


E2M1 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])     # twice the value of each 4-bit code


def mxfp4_codes(x):
    """x [..., K] -> 4-bit codes [..., K] and E8M0 bytes [..., K/32]: scale 2^(floor(log2 amax) - 2), nearest table entry."""
    b = np.asarray(x, np.float64).reshape(*np.shape(x)[:-1], -1, 32)
    peak = np.abs(b).max(axis=-1)
    e = np.where(peak > 0, np.floor(np.log2(np.where(peak > 0, peak, 1))) - 2 + 127, 0).astype(np.int64)
    distance = np.abs(b[..., None] / np.exp2(e - 127.0)[..., None, None] - E2M1 / 2)
    return distance.argmin(axis=-1).astype(np.uint8).reshape(np.shape(x)), e.astype(np.uint8)


def mxfp4_values(codes, e):
    """The real numbers of codes [..., K] with scales [..., K/32]."""
    b = E2M1[codes].reshape(*e.shape, 32) * np.exp2(e.astype(np.float64) - 128)[..., None]
    return b.reshape(codes.shape)


def encode_mxfp4(codes, e):
    """GGUF's order: the scale, then byte j with element j in its low and element j + 16 in its high nibble."""
    b = np.asarray(codes, np.uint8).reshape(*e.shape, 2, 16)
    return np.concatenate([e[..., None], b[..., 0, :] | b[..., 1, :] << 4], axis=-1).astype(np.uint8).tobytes()


def decode_mxfp4(data, shape):
    """-> codes, E8M0 bytes of a tensor [..., K]."""
    raw = np.frombuffer(data, np.uint8).reshape(*shape[:-1], shape[-1] // 32, 17)
    return np.concatenate([raw[..., 1:] & 15, raw[..., 1:] >> 4], axis=-1).reshape(shape), raw[..., 0].copy()


I2S_BLOCK = {"x86": 128, "arm": 64}


def encode_i2s(t, scale, order="x86"):
    """Ternary t in {-1,0,1}, first element in the top bits of a byte; then the f32 scale and 28 bytes that nobody may look at
    (filled with a pattern to prove it). x86 and arm: row-major blocks of 128 or 64 elements, a quarter block per bit pair;
    4row: byte group*K + column holds rows 4*group .. +3 of that column."""
    t = np.asarray(t)
    codes = t.reshape(-1, 4, t.shape[1] if order == "4row" else I2S_BLOCK[order] // 4) + 1
    packed = (codes[:, 0] << 6) | (codes[:, 1] << 4) | (codes[:, 2] << 2) | codes[:, 3]
    return packed.astype(np.uint8).tobytes() + struct.pack("<f", scale) + bytes([0xA5]) * 28


def decode_i2s(data, rows, cols, order="x86"):
    n = rows * cols
    raw = np.frombuffer(data, np.uint8, n // 4).reshape(-1, cols if order == "4row" else I2S_BLOCK[order] // 4)
    codes = np.stack([(raw >> s) & 3 for s in (6, 4, 2, 0)], axis=1)
    return codes.reshape(rows, cols).astype(np.int64) - 1, struct.unpack_from("<f", data, n // 4)[0]


def _halves(scale, n):
    """One f16 per block, from one scale or from an array of one per block."""
    d = np.empty((n, 1), "<f2")
    d[:] = np.asarray(scale).reshape(-1, 1)
    return d.view(np.uint8)


def encode_tq2(t, scale):
    """256 elements: two halves of 32 bytes, element 128h + 32k + m in bits 2k of byte 32h + m; then f16 d."""
    codes = (np.asarray(t).reshape(-1, 2, 4, 32) + 1).astype(np.uint8)
    qs = (codes[:, :, 0] | (codes[:, :, 1] << 2) | (codes[:, :, 2] << 4) | (codes[:, :, 3] << 6)).reshape(-1, 64)
    return np.concatenate([qs, _halves(scale, len(qs))], axis=1).tobytes()


def decode_tq2(data, rows, cols):
    raw = np.frombuffer(data, np.uint8).reshape(-1, 66)
    qs = raw[:, :64].reshape(-1, 2, 1, 32)
    codes = (qs >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3
    d = np.ascontiguousarray(raw[:, 64:]).view("<f2")[:, 0].astype(np.float64)
    return codes.reshape(rows, cols).astype(np.int64) - 1, d.reshape(rows, cols // 256)


T5_LOW = bytes.fromhex(
    "00 48 51 81 01 28 61 A8 02 20 40 59 04 05 6A 80 06 44 68 A4 10 15 26 A1 11 56 85 96 14 22 49 60"
    "16 84 94 98 18 19 42 82 1A 64 91 A0 25 69 A5 A9 29 2A 45 89 46 8A 99 A6 50 5A 90 9A 54 62 65 A2")
T5_HIGH = bytes.fromhex("89 20 41 20 8E B4 03 46 5C 50 71 AF 23 4C 08 B0")
T5_ILLEGAL = (200, 205, 207, 222, 225, 227, 232, 234, 235, 237, 238, 250, 252)


def t5_digits(b):
    low, high = T5_LOW[b % 64], b // 64 * 64 if b < 192 else T5_HIGH[b // 4 - 48]
    both = low ^ high
    return high >> 6, low >> 6, both >> 4 & 3, both >> 2 & 3, both & 3


def decode_t5(data, rows, cols):
    """Groups of 16 rows, chunks of 20 columns: byte 4 r + i, digit f is row r, column 4 f + i. Then f32 scales."""
    groups, chunks = -(-rows // 16), -(-cols // 20)
    digits = np.array([t5_digits(b) for b in range(256)])
    codes = np.frombuffer(data, np.uint8, groups * chunks * 64).reshape(groups, chunks, 16, 4)
    values = digits[codes].transpose(0, 2, 1, 4, 3).reshape(groups * 16, chunks * 20) - 1
    assert not values[rows:].any() and not values[:, cols:].any() and not np.isin(codes, T5_ILLEGAL).any()
    return values[:rows, :cols], np.frombuffer(data, "<f4", rows, codes.size)


def encode_t5(t, scales):
    t = np.asarray(t)
    rows, cols = t.shape
    whole = np.zeros((-(-rows // 16) * 16, -(-cols // 20) * 20), np.int64)
    whole[:rows, :cols] = t
    byte_of = {t5_digits(b): b for b in range(256) if b not in T5_ILLEGAL}
    lanes = (whole + 1).reshape(len(whole) // 16, 16, -1, 5, 4).transpose(0, 2, 1, 4, 3).reshape(-1, 5)
    codes = bytes(byte_of[tuple(int(d) for d in lane)] for lane in lanes)
    return codes + np.broadcast_to(np.asarray(scales, "<f4"), (rows,)).tobytes()


def _pack_trits(digits):
    """digits [..., 5, n], first digit most significant -> bytes [..., n] as ceil(v * 256 / 243)."""
    v = np.zeros(digits.shape[:-2] + digits.shape[-1:], np.int64)
    for i in range(5):
        v = v * 3 + digits[..., i, :]
    return ((v * 256 + 242) // 243).astype(np.uint8)


def _unpack_trits(b, count):
    out = []
    for n in range(count):
        t = (b.astype(np.int64) * 3 ** n) % 256
        out.append((t * 3) >> 8)
    return np.stack(out, axis=-2)


def encode_tq1(t, scale):
    """256 elements: 160 = 5 x 32, 80 = 5 x 16, 16 = 4 x 4 (fifth digit zero), five trits a byte; then f16 d."""
    codes = np.asarray(t).reshape(-1, 256) + 1
    n = len(codes)
    a = _pack_trits(codes[:, :160].reshape(n, 5, 32))
    b = _pack_trits(codes[:, 160:240].reshape(n, 5, 16))
    tail = np.concatenate([codes[:, 240:].reshape(n, 4, 4), np.zeros((n, 1, 4), codes.dtype)], axis=1)
    return np.concatenate([a, b, _pack_trits(tail), _halves(scale, n)], axis=1).tobytes()


def decode_tq1(data, rows, cols):
    raw = np.frombuffer(data, np.uint8).reshape(-1, 54)
    n = len(raw)
    codes = np.concatenate([_unpack_trits(raw[:, :32], 5).reshape(n, 160), _unpack_trits(raw[:, 32:48], 5).reshape(n, 80),
                            _unpack_trits(raw[:, 48:52], 4).reshape(n, 16)], axis=1)
    d = np.ascontiguousarray(raw[:, 52:]).view("<f2")[:, 0].astype(np.float64)
    return codes.reshape(rows, cols).astype(np.int64) - 1, d.reshape(rows, cols // 256)


def encode_iq2_bn(t, scale):
    """Per row: f32 scale, then blocks of 64 in 16 bytes; byte j holds elements j, 16+j, 32+j, 48+j from bit 0 up."""
    rows, cols = t.shape
    c = (np.asarray(t).reshape(rows, cols // 64, 4, 16) + 1).astype(np.uint8)
    codes = (c[:, :, 0] | c[:, :, 1] << 2 | c[:, :, 2] << 4 | c[:, :, 3] << 6).reshape(rows, -1)
    d = np.broadcast_to(np.asarray(scale, "<f4").reshape(-1, 1), (rows, 1))
    return np.concatenate([np.ascontiguousarray(d).view(np.uint8), codes], axis=1).tobytes()


def decode_iq2_bn(data, rows, cols):
    raw = np.frombuffer(data, np.uint8).reshape(rows, 4 + cols // 4)
    codes = (raw[:, 4:].reshape(rows, -1, 1, 16) >> np.array([0, 2, 4, 6], np.uint8).reshape(1, 1, 4, 1)) & 3
    return codes.reshape(rows, cols).astype(np.int64) - 1, np.ascontiguousarray(raw[:, :4]).view("<f4").astype(np.float64)


def encode_iq1_bn(t, scale):
    """Per row: f16 scale, then 13 bytes for 64 elements: three bytes of five trits for each 16, first element least significant;
    the 13th byte holds the sixteenth element of the four groups."""
    rows, cols = t.shape
    c = (np.asarray(t) + 1).reshape(rows, cols // 64, 4, 16)
    fives = _pack_trits(c[..., :15].reshape(rows, cols // 64, 12, 5)[..., ::-1].swapaxes(-1, -2))
    last = np.concatenate([np.zeros((rows, cols // 64, 1), np.int64), c[..., 15][..., ::-1]], axis=-1)[..., None]
    codes = np.concatenate([fives, _pack_trits(last)], axis=-1).reshape(rows, -1)
    d = np.broadcast_to(np.asarray(scale, "<f2").reshape(-1, 1), (rows, 1))
    return np.concatenate([np.ascontiguousarray(d).view(np.uint8), codes], axis=1).tobytes()


def decode_iq1_bn(data, rows, cols):
    raw = np.frombuffer(data, np.uint8).reshape(rows, -1)
    b = raw[:, 2:].reshape(rows, cols // 64, 13).astype(np.int64)
    digits = np.stack([(b * m % 256 * 3) >> 8 for m in (81, 27, 9, 3, 1)], axis=-1)         # least significant first
    codes = np.concatenate([digits[:, :, :12].reshape(rows, -1, 4, 15), digits[:, :, 12, :4, None]], axis=-1)
    return codes.reshape(rows, cols) - 1, np.ascontiguousarray(raw[:, :2]).view("<f2").astype(np.float64)


def encode(ggml_type, x, scale=None):
    """Bytes of a matrix. Ternary types take t in {-1,0,1} and one scale (TQ also one per block, IQ_BN one per row); the others
    take real values."""
    if ggml_type == F32:
        return np.ascontiguousarray(x, "<f4").tobytes()
    if ggml_type == F16:
        return np.ascontiguousarray(np.asarray(x, np.float32).astype("<f2")).tobytes()
    if ggml_type == BF16:
        return f32_to_bf16(x).tobytes()
    if ggml_type == Q8_0:
        return encode_q8_0(x)
    if ggml_type == Q4_0:
        return encode_q4_0(x)
    return {I2_S: encode_i2s, TQ1_0: encode_tq1, TQ2_0: encode_tq2, IQ1_BN: encode_iq1_bn,
            IQ2_BN: encode_iq2_bn}[ggml_type](x, scale)


def tensor_bytes(ggml_type, shape):
    n = int(np.prod(shape))
    if ggml_type == I2_S:
        return n // 4 + 32
    if ggml_type in (IQ1_BN, IQ2_BN):
        return n // 64 * (13 if ggml_type == IQ1_BN else 16) + shape[0] * (2 if ggml_type == IQ1_BN else 4)
    if ggml_type == T5:
        return -(-shape[0] // 16) * -(-shape[1] // 20) * 64 + shape[0] * 4
    elems, size = BLOCK[ggml_type]
    if shape[-1] % elems:
        raise ValueError(f"{TYPE_NAMES[ggml_type]}: row length {shape[-1]} is not a multiple of {elems}")
    return n // elems * size


# ---- GGUF container -------------------------------------------------------------------------------------------------

U32, I32, FLOAT32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9
_SCALAR = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


class Raw:
    """A tensor as the file holds it: GGML type, shape [out, in] or [n], bytes."""

    def __init__(self, ggml_type, shape, data):
        self.type, self.shape, self.data = ggml_type, tuple(int(s) for s in shape), data


def _string(s):
    b = s.encode("utf-8") if isinstance(s, str) else s
    return struct.pack("<Q", len(b)) + b


def _value(v):
    """Python value -> (type id, bytes). int = u32, negative int = i32, lists by their first element ((type, list) forces)."""
    if isinstance(v, tuple):
        kind, items = v
        if kind == STRING:
            body = b"".join(_string(s) for s in items)
        else:
            body = b"".join(struct.pack(_SCALAR[kind], i) for i in items)
        return ARRAY, struct.pack("<IQ", kind, len(items)) + body
    if isinstance(v, bool):
        return BOOL, struct.pack("<?", v)
    if isinstance(v, int):
        return (U32, struct.pack("<I", v)) if v >= 0 else (I32, struct.pack("<i", v))
    if isinstance(v, float):
        return FLOAT32, struct.pack("<f", v)
    if isinstance(v, str):
        return STRING, _string(v)
    raise ValueError(f"no GGUF form for {type(v)}")


def write_gguf(path, meta, tensors, alignment=32):
    """meta: dict of Python values; tensors: dict name -> Raw. Data in dict order, offsets a running sum of padded sizes."""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(meta))]
    for key, value in meta.items():
        kind, body = _value(value)
        out += [_string(key), struct.pack("<I", kind), body]
    offset = 0
    for name, t in tensors.items():
        if len(t.data) != tensor_bytes(t.type, t.shape):
            raise ValueError(f"{name}: {len(t.data)} bytes, expected {tensor_bytes(t.type, t.shape)}")
        dims = t.shape[::-1]
        out += [_string(name), struct.pack("<I", len(dims)), struct.pack(f"<{len(dims)}Q", *dims),
                struct.pack("<IQ", t.type, offset)]
        offset += -(-len(t.data) // alignment) * alignment
    head = b"".join(out)
    with open(path, "wb") as f:
        f.write(head + bytes(-len(head) % alignment))
        for t in tensors.values():
            f.write(t.data + bytes(-len(t.data) % alignment))


class _Cursor:
    def __init__(self, data):
        self.data, self.pos = data, 0

    def take(self, fmt):
        v = struct.unpack_from(fmt, self.data, self.pos)
        self.pos += struct.calcsize(fmt)
        return v[0] if len(v) == 1 else v

    def string(self):
        n = self.take("<Q")
        self.pos += n
        return bytes(self.data[self.pos - n:self.pos]).decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.take(_SCALAR[kind])
        kind, n = self.take("<IQ")
        if kind == STRING:
            return [self.string() for _ in range(n)]
        fmt = np.dtype(_SCALAR[kind])
        self.pos += n * fmt.itemsize
        return np.frombuffer(self.data, fmt, n, self.pos - n * fmt.itemsize).tolist()


def read_gguf(path):
    """-> (metadata dict, dict name -> Raw)."""
    with open(path, "rb") as f:
        data = f.read()
    c = _Cursor(data)
    if data[:4] != b"GGUF":
        raise ValueError(f"{path}: not a GGUF file")
    c.pos = 4
    version, n_tensors, n_kv = c.take("<IQQ")
    if version not in (2, 3):
        raise ValueError(f"{path}: GGUF version {version}")
    meta = {}
    for _ in range(n_kv):
        key = c.string()
        meta[key] = c.value(c.take("<I"))
    infos = []
    for _ in range(n_tensors):
        name, n_dims = c.string(), c.take("<I")
        dims = [c.take("<Q") for _ in range(n_dims)]
        infos.append((name, dims[::-1], *c.take("<IQ")))
    alignment = meta.get("general.alignment", 32)
    base = -(-c.pos // alignment) * alignment
    return meta, {name: Raw(kind, shape, data[base + at:base + at + tensor_bytes(kind, shape)])
                  for name, shape, kind, at in infos}


# ---- safetensors ----------------------------------------------------------------------------------------------------

_ST = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "U8": "u1", "I8": "i1", "I32": "<i4", "I64": "<i8"}


def read_safetensors(path):
    """-> dict name -> (dtype name, array); BF16 arrays hold the raw 16 bits."""
    with open(path, "rb") as f:
        data = f.read()
    n = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + n])
    out = {}
    for name, info in header.items():
        if name != "__metadata__":
            a, b = info["data_offsets"]
            out[name] = (info["dtype"], np.frombuffer(data[8 + n + a:8 + n + b], _ST[info["dtype"]]).reshape(info["shape"]))
    return out


def write_safetensors(path, tensors):
    """tensors: dict name -> (dtype name, array). No alignment beyond the format's own: offsets may be odd, as published."""
    header, at = {}, 0
    for name, (dtype, a) in tensors.items():
        size = a.size * np.dtype(_ST[dtype]).itemsize
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for dtype, a in tensors.values():
            f.write(np.ascontiguousarray(a).astype(_ST[dtype], copy=False).tobytes())
