/* SPDX-License-Identifier: MIT
 *
 * The dialect kernels are written in: one text that is OpenCL C and GLSL at once. A kernel file
 * (NAME.k) looks like this:
 *
 *     #include "dialect.h"
 *     SPEC(1, uint, TOKENS, 1)              a constant chosen when the kernel is compiled; 0 is LX
 *     #define FIELDS uint rows; float eps;  parameters of a dispatch: p.rows, p.eps
 *     #define ARGS   IN(0, uint, w) AND IN(1, float, x) AND OUT(2, float, y)
 *     #define LOCALS LOCAL(float, part, 256)
 *     KERNEL(name) {
 *         BEGIN
 *         y[gx * LX + lid] = x[lid] * F32(w[gx]);
 *     }
 *
 * BEGIN gives lid, the number of the invocation in its group (0 ... LX - 1), and gx, gy, gz, the
 * group's place in the grid. Conversions are U32(x), I32(x), F32(x); vectors uint4, float4 are made
 * by UINT4(a, b, c, d), FLOAT4(...). Functions may not touch buffers or locals (GLSL has no
 * pointers): macros may. Every invocation of a group must reach every BARRIER. There is no
 * `return` before a barrier, no recursion, no pointer, no 64-bit or 8-bit type; halves come out of
 * words by HALF_LO(u), HALF_HI(u) and go in by HALVES(lo, hi). Unsigned constants end in u. A SPEC
 * is an int in OpenCL: U32(D) where min or max meets it. GLSL reserves words such as active, out.
 * A BARRIER stands in no `if`, even where all agree, unless it asks for SPECs alone, which is the
 * compiler's to decide: some compilers copy what follows for each, and PoCL 3.1 loses variables that
 * live across it. For the same reason no `continue` or `break` goes round one. A loop around a BARRIER
 * turns equally often for all: its head asks for nothing but SPECs, p, the group, what all have read
 * from the same place, and its own counter; never for lid. The build refuses a kernel that breaks
 * this (tools/gpu_sources.py).
 *
 * Beside IN and OUT a binding may be VIEW, which is read while an OUT may write the same memory (IN
 * may not be written by anyone meanwhile), or WIDE_IN, an IN of words that is also read four at a
 * time: WIDE(x, i) is words 4 i ... 4 i + 3 as a uint4. ATOMIC_XOR(m, v) changes a word of an OUT
 * that other groups change too, ATOMIC_ADD(m, v) one of an OUT or a LOCAL; it gives what was there
 * before. UNROLL in front of a loop: constant bounds, arrays indexed by it.
 *
 * GROUP_ADD(out, x, room) and GROUP_MAX: the sum or maximum of the group's floats x in out of every
 * invocation; room is a LOCAL of LX floats (LX a multiple of 16), free again afterwards. Sub-groups
 * are invocations that run together and add up without memory. Where they can (HAVE_SUBGROUPS),
 * SUB_ADD(x), SUB_MAX(x), SUB_MIN(u) of unsigned are those of the sub-group for each of its members;
 * SUB_ID is its number, one of SUB_COUNT in the group, SUB_FIRST true for one of its members. Which
 * invocations make a sub-group is the driver's choice: nothing may depend on it but the order of a
 * sum. It has at least SUB_LEAST of them. The words stand where all of a group come by.
 *
 * DOT4(a, b, c): c + sum of four products of signed bytes of the words a and b, exactly.
 * Float arithmetic is never reassociated or contracted by request; fma(a, b, c) is fused.
 */
#ifdef ROTOR_OPENCL

#pragma OPENCL FP_CONTRACT OFF
#define LX ((uint)SPEC_0) /* SPEC_i: on the compiler's command line; the build writes SPEC(...) so */
#define IN(i, T, name) __global const T *restrict name
#define OUT(i, T, name) __global T *name
#define VIEW(i, T, name) __global const T *name
#define WIDE_IN(i, name) __global const uint *restrict name
#define WIDE(name, i) vload4(i, name)
#define ATOMIC_XOR(m, v) atomic_xor(&(m), v)
#define ATOMIC_ADD(m, v) atomic_add(&(m), v)
#define AND ,
#define LOCAL(T, name, count) __local T name[count];
#define KERNEL(name)                                                                              \
    struct params {                                                                               \
        FIELDS                                                                                    \
    };                                                                                            \
    __kernel __attribute__((reqd_work_group_size(LX, 1, 1))) void name(ARGS,                      \
                                                                       const struct params p)
#define BEGIN                                                                                     \
    LOCALS const uint lid = (uint)get_local_id(0), gx = (uint)get_group_id(0),                    \
                      gy = (uint)get_group_id(1), gz = (uint)get_group_id(2);                     \
    (void)lid, (void)gx, (void)gy, (void)gz;
#define BARRIER barrier(CLK_LOCAL_MEM_FENCE)
#define U32(x) ((uint)(x))
#define I32(x) ((int)(x))
#define F32(x) ((float)(x))
#define UINT4(a, b, c, d) ((uint4)(a, b, c, d))
#define FLOAT4(a, b, c, d) ((float4)(a, b, c, d))
#define STRUCT(name, fields)                                                                      \
    typedef struct {                                                                              \
        fields                                                                                    \
    } name;
#define UNROLL _Pragma("unroll")
#define ABS(x) fabs(x)
#define FLOAT_BITS(x) as_uint(x)
#define BITS_FLOAT(x) as_float(x)
#define INVERSE_SQRT(x) (1.0f / sqrt(x))
#define ROUND_EVEN(x) rint(x)
static float half_at(uint h) {
    const ushort v = (ushort)h;
    return vload_half(0, (const half *)&v);
}
#define HALF_LO(u) half_at((u)&0xffffu)
#define HALF_HI(u) half_at((u) >> 16)
#define INLINE static inline
#ifdef HAVE_DOT /* cl_khr_integer_dot_product */
#define DOT4(a, b, c) ((c) + dot_4x8packed_ss_int(U32(a), U32(b)))
#endif
#ifdef HAVE_SUBGROUPS
#ifdef cl_khr_subgroups
#pragma OPENCL EXTENSION cl_khr_subgroups : enable
#endif
#define SUB_ADD(x) sub_group_reduce_add(x)
#define SUB_MAX(x) sub_group_reduce_max(x)
#define SUB_MIN(x) sub_group_reduce_min(x)
#define SUB_ID get_sub_group_id()
#define SUB_COUNT get_num_sub_groups()
#define SUB_FIRST (get_sub_group_local_id() == 0u)
#endif

#else

#extension GL_EXT_spirv_intrinsics : enable
#extension GL_EXT_control_flow_attributes : enable
#ifdef HAVE_SUBGROUPS
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#ifdef HAVE_MATRIX
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_shader_explicit_arithmetic_types : require
#endif
#define SPEC(i, T, name, value) layout(constant_id = i) const T name = value;
#define IN(i, T, name)                                                                            \
    layout(std430, set = 0, binding = i) readonly buffer B##i { T name[]; };
#define OUT(i, T, name)                                                                           \
    layout(std430, set = 0, binding = i) buffer B##i { T name[]; };
#define VIEW(i, T, name) IN(i, T, name)
#define WIDE_IN(i, name)                                                                          \
    IN(i, uint, name)                                                                             \
    layout(std430, set = 0, binding = i) readonly buffer W##i { uvec4 name##_wide[]; };
#define WIDE(name, i) name##_wide[i]
#define ATOMIC_XOR(m, v) atomicXor(m, v)
#define ATOMIC_ADD(m, v) atomicAdd(m, v)
#define AND
#define LOCAL(T, name, count) shared T name[count];
#define KERNEL(name)                                                                              \
    layout(push_constant) uniform params { FIELDS } p;                                            \
    ARGS LOCALS void main()
#define BEGIN                                                                                     \
    const uint lid = gl_LocalInvocationID.x, gx = gl_WorkGroupID.x, gy = gl_WorkGroupID.y,        \
               gz = gl_WorkGroupID.z;
#define BARRIER barrier()
#define U32(x) uint(x)
#define I32(x) int(x)
#define F32(x) float(x)
#define uint4 uvec4
#define float4 vec4
#define UINT4(a, b, c, d) uvec4(a, b, c, d)
#define FLOAT4(a, b, c, d) vec4(a, b, c, d)
#define STRUCT(name, fields)                                                                      \
    struct name {                                                                                 \
        fields                                                                                    \
    };
#define UNROLL [[unroll]]
#define ABS(x) abs(x)
#define FLOAT_BITS(x) floatBitsToUint(x)
#define BITS_FLOAT(x) uintBitsToFloat(x)
#define INVERSE_SQRT(x) (1.0 / sqrt(x))
#define ROUND_EVEN(x) roundEven(x)
#define HALF_LO(u) unpackHalf2x16(u).x
#define HALF_HI(u) unpackHalf2x16(u).y
#define INLINE
SPEC(0, uint, LX, 256)
layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

#ifdef HAVE_DOT /* OpSDotKHR with PackedVectorFormat4x8Bit; Debian 12's glslc has no name for it */
spirv_instruction(capabilities = [6019, 6018], extensions = ["SPV_KHR_integer_dot_product"],
                  id = 4450) int sdot4(int a, int b, spirv_literal int format);
#define DOT4(a, b, c) ((c) + sdot4(int(a), int(b), 0))
#endif
#ifdef HAVE_SUBGROUPS
#define SUB_ADD(x) subgroupAdd(x)
#define SUB_MAX(x) subgroupMax(x)
#define SUB_MIN(x) subgroupMin(x)
#define SUB_ID gl_SubgroupID
#define SUB_COUNT gl_NumSubgroups
#define SUB_FIRST subgroupElect()
#endif
#ifdef HAVE_MATRIX /* matrices that a sub-group holds together: only in kernels named *_matrix */
#define SUB_ID gl_SubgroupID
#define BYTES4 i8vec4
#define BYTES4_OF(u) unpack8(int(u))
#define MATRIX_A(m, k) coopmat<int8_t, gl_ScopeSubgroup, m, k, gl_MatrixUseA>
#define MATRIX_B(k, n) coopmat<int8_t, gl_ScopeSubgroup, k, n, gl_MatrixUseB>
#define MATRIX_SUMS(m, n) coopmat<int, gl_ScopeSubgroup, m, n, gl_MatrixUseAccumulator>
#define MATRIX_LOAD_ROWS(a, from, at, pitch)                                                      \
    coopMatLoad(a, from, at, pitch, gl_CooperativeMatrixLayoutRowMajor)
#define MATRIX_LOAD_COLUMNS(b, from, at, pitch)                                                   \
    coopMatLoad(b, from, at, pitch, gl_CooperativeMatrixLayoutColumnMajor)
#define MATRIX_MULTIPLY_ADD(a, b, sum) coopMatMulAdd(a, b, sum)
#define MATRIX_STORE_COLUMNS(sum, to, at, pitch)                                                  \
    coopMatStore(sum, to, at, pitch, gl_CooperativeMatrixLayoutColumnMajor)
#endif

#endif

/* To half, to nearest even, by integers: what GLSL's own does with a tie is the driver's choice. */
INLINE uint half_of(float x) {
    const uint u = FLOAT_BITS(x), magnitude = u & 0x7fffffffu, base = magnitude - (112u << 23);
    const uint normal = (base + 0xfffu + ((base >> 13) & 1u)) >> 13;
    const uint small = FLOAT_BITS(BITS_FLOAT(magnitude) + 0.5f) - 0x3f000000u;
    const uint special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    const uint h = magnitude < 0x38800000u ? small : normal;
    return ((u >> 16) & 0x8000u) | (magnitude >= 0x477ff000u ? special : h);
}
#define HALVES(lo, hi) (half_of(lo) | (half_of(hi) << 16))
#define BF16_LO(u) BITS_FLOAT((u) << 16)
#define BF16_HI(u) BITS_FLOAT((u)&0xffff0000u)
#define NO_FLOAT BITS_FLOAT(0xff800000u) /* minus infinity */

/* The word of a packed matrix (gpu_pack.h). */
#define WORD_AT(row, u, n_u) ((((row) / 32u) * (n_u) + (u)) * 32u + (row) % 32u)

INLINE int byte_of(uint v, uint i) { return I32(v << (24u - 8u * i)) >> 24; }
#ifndef DOT4
INLINE int dot4(uint a, uint b) {
    return byte_of(a, 0u) * byte_of(b, 0u) + byte_of(a, 1u) * byte_of(b, 1u) +
           byte_of(a, 2u) * byte_of(b, 2u) + byte_of(a, 3u) * byte_of(b, 3u);
}
#define DOT4(a, b, c) ((c) + dot4(a, b))
#endif

#define SUB_LEAST 8u
#define ADDED_(x, y) ((x) + (y))
#ifdef HAVE_SUBGROUPS
#define GROUP_REDUCE_(out, sub, op, room)                                                         \
    {                                                                                             \
        const float sub_ = sub;                                                                   \
        if (SUB_FIRST) room[SUB_ID] = sub_;                                                       \
    }                                                                                             \
    BARRIER;                                                                                      \
    out = room[0];                                                                                \
    for (uint i_ = 1u; i_ < SUB_COUNT; i_++) out = op(out, room[i_]);                             \
    BARRIER;
#define GROUP_ADD(out, x, room) GROUP_REDUCE_(out, SUB_ADD(x), ADDED_, room)
#define GROUP_MAX(out, x, room) GROUP_REDUCE_(out, SUB_MAX(x), max, room)
#else /* sixteen invocations take a share each, then everybody adds up what these found */
#define GROUP_REDUCE_(out, x, op, room)                                                           \
    room[lid] = x;                                                                                \
    BARRIER;                                                                                      \
    if (lid < 16u) {                                                                              \
        float share_ = room[lid];                                                                 \
        for (uint i_ = lid + 16u; i_ < LX; i_ += 16u) share_ = op(share_, room[i_]);              \
        room[lid] = share_;                                                                       \
    }                                                                                             \
    BARRIER;                                                                                      \
    out = room[0];                                                                                \
    for (uint i_ = 1u; i_ < 16u; i_++) out = op(out, room[i_]);                                   \
    BARRIER;
#define GROUP_ADD(out, x, room) GROUP_REDUCE_(out, x, ADDED_, room)
#define GROUP_MAX(out, x, room) GROUP_REDUCE_(out, x, max, room)
#endif
