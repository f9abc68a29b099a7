/* SPDX-License-Identifier: MIT
 *
 * quant: how numbers are stored. One registry row per tensor type of a model file (name, block
 * shape, bytes), reference decode and encode, and the ternary codecs. No threads, no model, no I/O.
 *
 * A tensor is rows x cols: cols is the fastest dimension (GGUF dims[0], the K of a product), rows
 * is everything else multiplied. All functions are pure and thread-safe.
 * Source of the layouts: the GGUF format and docs/formats.md, which draws the ternary ones.
 */
#ifndef QUANT_H
#define QUANT_H

#include "base/base.h"

/* GGUF type ids, plus a few of our own above 0x10000 that no GGUF file may carry. */
typedef enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q8_1 = 9,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_Q8_K = 15,
    QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23,
    QUANT_I8 = 24,
    QUANT_I16 = 25,
    QUANT_I32 = 26,
    QUANT_I64 = 27,
    QUANT_F64 = 28,
    QUANT_BF16 = 30,
    QUANT_TQ1_0 = 34,
    QUANT_TQ2_0 = 35,
    QUANT_I2_S = 36,
    QUANT_TL1 = 38,
    QUANT_MXFP4 = 39,
    QUANT_Q1_0 = 41,
    QUANT_Q2_0 = 42,
    QUANT_IQ1_BN = 134,
    QUANT_IQ2_BN = 135,
    QUANT_IQ2_BN_R4 = 335,
    QUANT_T5 = 0x3554,    /* Rotor's own, the letters "T5"; versioned by a metadata key */
    QUANT_U8 = 0x10001,   /* the safetensors types that GGUF lacks, from here on */
    QUANT_BOOL = 0x10002, /* one byte, 0 or 1 */
    QUANT_U16 = 0x10003,
    QUANT_U32 = 0x10004,
    QUANT_U64 = 0x10005,
    QUANT_F8_E4M3 = 0x10006,
    QUANT_F8_E5M2 = 0x10007
} quant_type;

enum {                       /* quant_info.flags */
       QUANT_CAN_DECODE = 1, /* quant_decode_rows works */
       QUANT_CAN_ENCODE = 2, /* quant_encode_rows works */
       QUANT_TERNARY = 4,    /* quant_ternary_row works */
       QUANT_BLOCK32 = 8     /* quant_unpack32 works: product with int8 activations is defined */
};

typedef struct quant_info {
    uint32_t id;          /* type id in the file */
    const char *name;     /* "Q4_K": as peers print it */
    uint32_t block_elems; /* elements per block along cols; 0: the id is retired and refused */
    uint32_t block_bytes; /* bytes per block */
    uint32_t row_bytes;   /* extra bytes in front of each row (IQ1_BN 2, IQ2_BN 4) */
    uint32_t tail_bytes;  /* extra bytes once per tensor (I2_S 32) */
    uint32_t flags;       /* QUANT_CAN_… */
} quant_info;

/* NULL when the id or name is unknown. Names match without regard to case. */
const quant_info *quant_find(uint32_t id);
const quant_info *quant_find_name(base_str name);
/* The i-th row of the registry, NULL past the end: for lists. */
const quant_info *quant_at(size_t i);

/* Bytes of a whole tensor; ROTOR_E_FORMAT when cols is not a multiple of the block or the size
 * overflows. I2_S counts elements over the whole tensor, so only rows*cols % 4 == 0 is needed; T5
 * takes any shape and pads it. */
rotor_status quant_tensor_bytes(const quant_info *info, uint64_t rows, uint64_t cols,
                                uint64_t *bytes, rotor_error *err);

/* The three byte orders of I2_S; the file does not say which one it uses. */
typedef enum quant_i2s { QUANT_I2S_X86, QUANT_I2S_ARM, QUANT_I2S_4ROW } quant_i2s;

/* A borrowed view of one tensor's bytes; sizes proven by quant_tensor_bytes. */
typedef struct quant_tensor {
    uint32_t type;       /* quant_type */
    quant_i2s i2s;       /* byte order, read for I2_S only */
    uint64_t rows;       /* outer dimensions multiplied */
    uint64_t cols;       /* fastest dimension */
    const uint8_t *data; /* bytes as in the file, any alignment */
} quant_tensor;

/* Decodes rows [row_begin, row_end) to dst float[n_rows, cols]. Illegal ternary codes fail with
 * their row and column; *err carries no tensor name (the caller prefixes it). */
rotor_status quant_decode_rows(const quant_tensor *t, uint64_t row_begin, uint64_t row_end,
                               float *dst, rotor_error *err);
/* Encodes src float[rows, cols] into dst (quant_tensor_bytes long). Ternary types take one scale
 * for the tensor: max|x|, values must be 0 or +-scale within 1e-6 relative, else ROTOR_E_ARG. */
rotor_status quant_encode(uint32_t type, uint64_t rows, uint64_t cols, const float *src,
                          uint8_t *dst, rotor_error *err);

/* ---- Block formats beside int8 activations ------------------------------------------------------
 * Every QUANT_BLOCK32 type is a row of blocks of 32 columns: value = a * q - b, where a and b hold
 * for 16 columns each (a[0] for columns 0-15, a[1] for 16-31; equal when the type has one scale
 * per 32). This view is the specification of the integer kernels. */
typedef struct quant_block32 {
    int8_t q[32]; /* integer codes in column order */
    float a[2];   /* scale of columns 0-15 and 16-31 */
    float b[2];   /* subtracted offset of columns 0-15 and 16-31; 0 for symmetric types */
} quant_block32;
/* row points at the first byte of a row; block counts 32 columns. */
void quant_unpack32(uint32_t type, const uint8_t *row, uint64_t block, quant_block32 *out);
bool quant_has_offset(uint32_t type); /* b is not always zero */

/* ---- Ternary --------------------------------------------------------------------------------- */

/* Ternary values of one row as int8 in {-1, 0, +1}, and the row's scale. TQ1_0 and TQ2_0 keep one
 * f16 scale per 256: *uniform is false when non-zero blocks disagree, and *scale is the first.
 * A tensor of type I2_S gives its tail scale. An illegal code fails naming row and column. */
rotor_status quant_ternary_row(const quant_tensor *t, uint64_t row, int8_t *dst, float *scale,
                               bool *uniform, rotor_error *err);
/* Packs ternary int8 [rows, cols] with one scale into a ternary type's bytes. */
rotor_status quant_ternary_pack(uint32_t type, quant_i2s i2s, uint64_t rows, uint64_t cols,
                                const int8_t *src, float scale, uint8_t *dst, rotor_error *err);

/* T2, the layout kernels read: a row is ceil(cols/128) blocks of 32 bytes, block byte p holds
 * columns p, 32+p, 64+p, 96+p in bits 7-6, 5-4, 3-2, 1-0 as code = value + 1; padding columns hold
 * code 1. For cols % 128 == 0 this is I2_S in x86 order, byte for byte. */
size_t quant_t2_row_bytes(uint64_t cols);
void quant_t2_pack_row(const int8_t *src, uint64_t cols, uint8_t *dst);
/* False, with the column, when a code 3 stands in the row. */
bool quant_t2_unpack_row(const uint8_t *src, uint64_t cols, int8_t *dst, uint64_t *bad_col);

/* T5, Rotor's own 1.6-bit layout (t5.c and docs/formats.md draw it): groups of 16 rows, in chunks
 * of 20 columns and 64 bytes, then one f32 scale a row. Padding rows and columns hold zeros. */
enum { QUANT_T5_VERSION = 1, QUANT_T5_ROWS = 16, QUANT_T5_COLS = 20 };
#define QUANT_T5_KEY "rotor.t5.version" /* metadata of every file with a T5 tensor, u32 */
/* Digits of byte b: high[b / 4] and low[b % 64] as t5.c says. */
extern const uint8_t quant_t5_low[64], quant_t5_high[64];
/* Digits 0-4 as value + 1; false when the byte is none of the 243 legal ones (a digit may be 3). */
bool quant_t5_digits(uint8_t b, uint8_t digit[5]);
size_t quant_t5_row_bytes(uint64_t cols);                   /* a sixteenth of a group */
uint64_t quant_t5_code_bytes(uint64_t rows, uint64_t cols); /* all groups; the scales follow */
/* False, with the place of the first, when an illegal byte is among the codes. */
bool quant_t5_check(const uint8_t *codes, size_t n_bytes, size_t *bad);
/* Codes of rows that start on a group; quant_t5_code_bytes(rows, cols) long. */
void quant_t5_pack_rows(const int8_t *src, uint64_t rows, uint64_t cols, uint8_t *dst);

/* HF packed rows: byte (r, c) of [rows/4, cols] holds rows r, R+r, 2R+r, 3R+r (R = ceil(rows/4)) of
 * column c in bits 0-1, 2-3, 4-5, 6-7, code = value + 1. Extracts one logical row. */
rotor_status quant_hf_row(const uint8_t *packed, uint64_t rows, uint64_t cols, uint64_t row,
                          int8_t *dst, rotor_error *err);
void quant_hf_pack(const int8_t *src, uint64_t rows, uint64_t cols, uint8_t *packed);

/* Quantisers. n values in, ternary out; the scale returned is what multiplies the ternary value. */
float quant_absmean(const float *x, size_t n, int8_t *t); /* BitNet: mean|x|, RNE, clamp */
float quant_threshold(const float *x, size_t n, float theta, int8_t *t); /* |x| > theta -> sign */
float quant_sign(const float *x, size_t n, int8_t *t); /* +-1, zero to +1; mean|x| */
/* q = RNE(x * 127/m), m = max(max|x|, 1e-5); returns m/127, the step. |x - q*step| <= step/2. */
float quant_int8_sym(const float *x, size_t n, int8_t *q);
/* x ~ (q - zero) * step over [min(x,0), max(x,0)]; returns step. |x - decoded| <= step. */
float quant_int8_asym(const float *x, size_t n, int8_t *q, int32_t *zero);

/* ---- Half and bfloat, exact and branch-light: the same bits as the hardware conversions ------ */
float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f); /* round to nearest even */
float quant_bf16_to_f32(uint16_t h);
uint16_t quant_f32_to_bf16(float f); /* round to nearest even, NaN stays NaN */

#endif
