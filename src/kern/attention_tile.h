/* SPDX-License-Identifier: MIT
 *
 * The tile under attention, a part of float_body.h: C[R, 16 V] += A[R, n] * B[n, 16 V], each
 * output by fused multiply-add with n ascending. R rows of A and the tile of C stay in registers.
 *
 * B is read from the cache itself, halves or codes becoming floats on the way, or from a panel of
 * floats. Codes keep their scales outside: of keys a scale belongs to a lane and multiplies what 32
 * elements gave; of values it belongs to a row and is already in A, one A for two vectors.
 */

#define INLINE     static inline __attribute__((always_inline))
#define EACH(i, n) _Pragma("GCC unroll 6") for (int i = 0; i < n; i++)

enum {
#ifdef V16_MANY
    TILE_VECS = 4, /* vectors across a tile */
#else
    TILE_VECS = 1,
#endif
    TILE_ROWS = 6,  /* rows of the largest tile */
    DIRECT_ROWS = 4 /* at most so many query rows read the cache itself */
};

/* What B is: floats or halves as they are; int8 codes of keys or of values; the same codes as
 * floats in a panel. */
typedef enum rows_kind {
    ROWS_F32,
    ROWS_F16,
    ROWS_KEY_Q8,
    ROWS_VALUE_Q8,
    ROWS_KEY_CODES,
    ROWS_VALUE_CODES
} rows_kind;

typedef struct tile_rows {
    const uint8_t *at;     /* first vector of row 0 */
    size_t step;           /* bytes between rows */
    size_t lanes;          /* real lanes of the last vector of a row: 16 but in a tail */
    const uint8_t *scales; /* codes of keys: f16 of every lane; KERN_KEYS of them for 32 rows */
    const uint8_t *ahead;  /* memory to fetch meanwhile */
    size_t ahead_step;     /* its bytes per row */
} tile_rows;

static inline bool is_key_codes(rows_kind k) { return k == ROWS_KEY_Q8 || k == ROWS_KEY_CODES; }
static inline bool is_value_codes(rows_kind k) {
    return k == ROWS_VALUE_Q8 || k == ROWS_VALUE_CODES;
}

/* Bytes of a vector of B. */
static inline size_t vec_bytes(rows_kind kind) {
    return kind == ROWS_F16 ? 32 : kind == ROWS_KEY_Q8 || kind == ROWS_VALUE_Q8 ? 16 : 64;
}

INLINE v16 tile_load(const rows_kind kind, const uint8_t *p, size_t lanes) {
    if (kind == ROWS_F16) return v16_load_f16_n(p, lanes);
    if (kind == ROWS_KEY_Q8 || kind == ROWS_VALUE_Q8) return v16_load_i8((const int8_t *)p);
    return load_f32_n(p, lanes);
}

/* Lines of memory in a tile's share of a row: what is fetched ahead per row. */
INLINE int tile_lines(const rows_kind kind, const int V) {
    return (int)((size_t)V * vec_bytes(kind) + 63) / 64;
}

/* `fresh` starts from zero. */
INLINE void tile_body(const rows_kind kind, const int R, const int V, float *c, size_t ldc,
                      const float *a, size_t lda, const tile_rows *b, size_t n, bool fresh) {
    v16 acc[TILE_ROWS][TILE_VECS], w[TILE_VECS], x[2];
    const uint8_t *p = b->at, *ahead = b->ahead;
    const size_t step = b->step, ahead_step = b->ahead_step, lanes = V == 1 ? b->lanes : 16;
    const bool zero = fresh || is_key_codes(kind);
    EACH(r, R)
    EACH(v, V) acc[r][v] = zero ? v16_set(0) : v16_load(c + (size_t)r * ldc + 16 * v);
    for (size_t k = 0; k < n; k++, p += step, ahead += ahead_step) {
        /* Into the second cache: it asks memory for more lines at a time than the first. */
        EACH(i, tile_lines(kind, V)) __builtin_prefetch(ahead + 64 * i, 0, 2);
        EACH(v, V) w[v] = tile_load(kind, p + (size_t)v * vec_bytes(kind), lanes);
        EACH(r, R) {
            x[0] = v16_set(a[(size_t)r * lda + k]);
            x[1] =
                is_value_codes(kind) && V > 2 ? v16_set(a[(size_t)r * lda + k + KERN_KEYS]) : x[0];
            EACH(v, V) acc[r][v] = v16_fma(x[v / 2], w[v], acc[r][v]);
        }
    }
    if (is_key_codes(kind)) {
        EACH(v, V) w[v] = v16_load_f16_n(b->scales + 32 * v, 16);
        EACH(r, R)
        EACH(v, V) {
            v16 so_far = fresh ? v16_set(0) : v16_load(c + (size_t)r * ldc + 16 * v);
            acc[r][v] = v16_fma(acc[r][v], w[v], so_far);
        }
    }
    EACH(r, R) EACH(v, V) v16_store(c + (size_t)r * ldc + 16 * v, acc[r][v]);
}

#define TILE(kind, R, V)                                                                           \
    static NOINLINE void tile_##kind##_##R##x##V(float *c, size_t ldc, const float *a, size_t lda, \
                                                 const tile_rows *b, size_t n, bool fresh) {       \
        tile_body(ROWS_##kind, R, V, c, ldc, a, lda, b, n, fresh);                                 \
    }
#ifdef V16_MANY
#define TILES(kind, R)                                                                             \
    TILE(kind, R, 1)                                                                               \
    TILE(kind, R, 4)
#define TILE_PAIR(kind, R)                                                                         \
    { tile_##kind##_##R##x1, tile_##kind##_##R##x4 }
#else
#define TILES(kind, R) TILE(kind, R, 1)
#define TILE_PAIR(kind, R)                                                                         \
    { tile_##kind##_##R##x1, tile_##kind##_##R##x1 }
#endif
#define TILES_OF(kind) TILES(kind, 1) TILES(kind, 2) TILES(kind, 4)
TILES_OF(F32)
TILES_OF(F16)
TILES_OF(KEY_Q8)
TILES_OF(VALUE_Q8)
TILES_OF(KEY_CODES)
TILES_OF(VALUE_CODES)
TILES(F32, 6)
TILES(KEY_CODES, 6)
TILES(VALUE_CODES, 6)

typedef void (*tile_fn)(float *c, size_t ldc, const float *a, size_t lda, const tile_rows *b,
                        size_t n, bool fresh);

/* The tile of R rows (1, 2, 4; from a panel also 6), one vector or TILE_VECS wide. */
static tile_fn tile_of(rows_kind kind, size_t R, bool wide) {
#define TILE_ROW(kind)                                                                             \
    { TILE_PAIR(kind, 1), TILE_PAIR(kind, 2), TILE_PAIR(kind, 4) }
    static const tile_fn fns[][3][2] = {TILE_ROW(F32),       TILE_ROW(F16),
                                        TILE_ROW(KEY_Q8),    TILE_ROW(VALUE_Q8),
                                        TILE_ROW(KEY_CODES), TILE_ROW(VALUE_CODES)};
    static const tile_fn six[][2] = {TILE_PAIR(F32, 6), TILE_PAIR(KEY_CODES, 6),
                                     TILE_PAIR(VALUE_CODES, 6)};
    if (R < 6) return fns[kind][R / 2][wide];
    return six[kind == ROWS_F32 ? 0 : kind - ROWS_KEY_CODES + 1][wide];
}
