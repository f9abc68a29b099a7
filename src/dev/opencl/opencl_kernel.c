/* SPDX-License-Identifier: MIT
 *
 * Kernels on OpenCL: their text is compiled by the driver, with the constants on its command line,
 * nothing that would loosen the arithmetic, and no warnings (some drivers print them where the user
 * reads). What comes out is kept on disk:
 *
 *   cache_dir/opencl-<first 16 bytes of the key, hex>.bin = | ocl_header | the driver's binary |
 *
 * The key is a hash of platform, device, driver, options and text. A file that is foreign, cut,
 * damaged or refused by the driver is passed over and written anew; a folder that cannot be
 * written costs time, never an error. For PoCL, which keeps programs itself, there are none.
 */
#include "dev/opencl/opencl.h"

#include <assert.h>
#include <stdio.h>

enum { CACHE_VERSION = 1, MAX_OPTIONS = 512 };

typedef struct job {
    ocl *g;                    /* for this device */
    const gpu_source *src;     /* the kernel */
    char options[MAX_OPTIONS]; /* of the compiler */
    uint8_t key[32];           /* what the binary depends on */
    char *path;                /* of the binary, owned; NULL: none is kept */
} job;

static void write_options(job *j, const uint32_t *spec, uint32_t n_spec) {
    const ocl *g = j->g;
    const unsigned form = gpu_form_of(&g->base.facts);
    size_t n = (size_t)snprintf(j->options, sizeof j->options, "-w -cl-std=%s%s -DROTOR_OPENCL%s%s",
                                form && g->newer ? "CL3.0" : "CL1.2",
                                g->exact_divide ? " -cl-fp32-correctly-rounded-divide-sqrt" : "",
                                form & GPU_WITH_DOT ? " -DHAVE_DOT" : "",
                                form & GPU_WITH_SUBGROUPS ? " -DHAVE_SUBGROUPS" : "");
    for (uint32_t i = 0; i < n_spec; i++)
        n += (size_t)snprintf(j->options + n, sizeof j->options - n, " -DSPEC_%u=%u", i, spec[i]);
    assert(n < sizeof j->options);
}

static const char *dialect_of(const gpu_source *src) { return src->dialect ? src->dialect : ""; }

/* Sets key and path. */
static rotor_status name_binary(job *j, rotor_error *err) {
    base_buf b = {0};
    base_buf_append(&b, j->g->identity, sizeof j->g->identity);
    base_buf_printf(&b, "%s\n%s%s", j->options, dialect_of(j->src), j->src->text);
    const bool failed = b.failed;
    if (!failed) base_sha256(b.data, b.len, j->key);
    base_buf_free(&b);
    if (failed) return base_fail_nomem(err, "compiling an OpenCL kernel");
    if (!j->g->cache_dir) return ROTOR_OK;
    char name[64] = "opencl-";
    size_t n = strlen(name);
    for (int i = 0; i < 16; i++)
        n += (size_t)snprintf(name + n, sizeof name - n, "%02x", j->key[i]);
    snprintf(name + n, sizeof name - n, ".bin");
    j->path = base_path_join(j->g->cache_dir, name);
    return j->path ? ROTOR_OK : base_fail_nomem(err, "compiling an OpenCL kernel");
}

/* ---- Binaries on disk ------------------------------------------------------------------------ */

static bool is_ours(const base_file *f, const uint8_t key[32]) {
    ocl_header h;
    uint8_t content[32];
    if (f->size <= sizeof h) return false;
    memcpy(&h, f->data, sizeof h);
    if (memcmp(h.magic, "rotorcl", 8) || h.version != CACHE_VERSION || h.endian != 0x01020304 ||
        memcmp(h.key, key, sizeof h.key) || h.bytes != f->size - sizeof h)
        return false;
    base_sha256(f->data + sizeof h, f->size - sizeof h, content);
    return !memcmp(content, h.content, sizeof content);
}

/* The program of an earlier run; NULL when there is none that can be used. */
static cl_program from_disk(const job *j) {
    ocl *g = j->g;
    base_file f;
    cl_program p = NULL;
    if (!j->path || base_path_kind_of(j->path) != BASE_PATH_FILE ||
        base_file_open(&f, j->path, false, NULL) != ROTOR_OK)
        return NULL;
    if (is_ours(&f, j->key)) {
        const unsigned char *binary = f.data + sizeof(ocl_header);
        const size_t bytes = f.size - sizeof(ocl_header);
        cl_int each = CL_SUCCESS, code = CL_SUCCESS;
        p = g->cl.CreateProgramWithBinary(g->context, 1, &g->device, &bytes, &binary, &each, &code);
        if (p && (code != CL_SUCCESS || each != CL_SUCCESS ||
                  g->cl.BuildProgram(p, 1, &g->device, j->options, NULL, NULL) != CL_SUCCESS)) {
            g->cl.ReleaseProgram(p);
            p = NULL;
        }
    }
    base_file_close(&f);
    return p;
}

/* Keeps the binary; whatever goes wrong, there is none. */
static void to_disk(const job *j, cl_program p) {
    ocl *g = j->g;
    size_t bytes = 0;
    if (!j->path || g->cl.GetProgramInfo(p, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) ||
        !bytes)
        return;
    unsigned char *binary = base_alloc(bytes);
    base_out o;
    if (!binary || g->cl.GetProgramInfo(p, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) ||
        base_mkdirs(g->cache_dir, NULL) != ROTOR_OK || base_out_open(&o, j->path, NULL) != ROTOR_OK)
        goto done;
    ocl_header h = {.magic = "rotorcl", .version = CACHE_VERSION, .endian = 0x01020304};
    h.bytes = bytes;
    memcpy(h.key, j->key, sizeof h.key);
    base_sha256(binary, bytes, h.content);
    if (base_out_write(&o, &h, sizeof h, NULL) != ROTOR_OK ||
        base_out_write(&o, binary, bytes, NULL) != ROTOR_OK ||
        base_out_commit(&o, NULL) != ROTOR_OK)
        base_out_abort(&o);
done:
    base_free(binary);
}

/* ---- Compiling ------------------------------------------------------------------------------- */

/* What the compiler said, from the first line that names an error on, as one line. */
static void first_lines(ocl *g, cl_program p, char *out, size_t cap) {
    size_t n = 0;
    snprintf(out, cap, "the compiler left no log");
    if (g->cl.GetProgramBuildInfo(p, g->device, CL_PROGRAM_BUILD_LOG, 0, NULL, &n) || !n) return;
    char *log = base_alloc(n + 1);
    if (!log) return;
    if (g->cl.GetProgramBuildInfo(p, g->device, CL_PROGRAM_BUILD_LOG, n, log, NULL)) log[0] = 0;
    const char *from = strstr(log, "error");
    while (from && from > log && from[-1] != '\n') from--;
    if (!from) from = log;
    while (*from == '\n' || *from == ' ') from++;
    size_t at = 0;
    for (; *from && at + 4 < cap; from++) {
        if (*from != '\n')
            out[at++] = *from;
        else if (from[1] && from[1] != '\n')
            out[at++] = ' ', out[at++] = '|', out[at++] = ' ';
    }
    if (at) out[at] = 0;
    base_free(log);
}

static rotor_status from_text(const job *j, cl_program *out, rotor_error *err) {
    ocl *g = j->g;
    cl_int code = CL_SUCCESS;
    const char *text[] = {dialect_of(j->src), j->src->text};
    cl_program p = g->cl.CreateProgramWithSource(g->context, 2, text, NULL, &code);
    if (!p) return ocl_fail(g, code, "clCreateProgramWithSource", err);
    code = g->cl.BuildProgram(p, 1, &g->device, j->options, NULL, NULL);
    if (code == CL_SUCCESS) {
        *out = p;
        return ROTOR_OK;
    }
    char said[256];
    first_lines(g, p, said, sizeof said);
    g->cl.ReleaseProgram(p);
    if (code == CL_OUT_OF_HOST_MEMORY) return ocl_fail(g, code, "clBuildProgram", err);
    return base_fail(
        err, ROTOR_E_DEVICE, "OpenCL device %s, driver %s: kernel %s does not compile: %s (%d): %s",
        g->base.facts.name, g->base.facts.driver, j->src->name, ocl_code_name(code), code, said);
}

static rotor_status build(job *j, cl_program *out, rotor_error *err) {
    ROTOR_TRY(name_binary(j, err));
    if ((*out = from_disk(j))) {
        j->g->built_from_disk++;
        return ROTOR_OK;
    }
    ROTOR_TRY(from_text(j, out, err));
    j->g->built_here++;
    to_disk(j, *out);
    return ROTOR_OK;
}

/* The program, without sub-groups, then without the packed dot product too, when the driver offers
 * them but cannot compile them. */
static rotor_status program_of(ocl *g, const gpu_source *src, const uint32_t *spec, uint32_t n_spec,
                               cl_program *out, rotor_error *err) {
    for (;;) {
        job j = {.g = g, .src = src};
        write_options(&j, spec, n_spec);
        rotor_status st = build(&j, out, err);
        base_free(j.path);
        if (st != ROTOR_E_DEVICE || !gpu_form_of(&g->base.facts)) return st;
        if (!g->base.facts.subgroup_sums) g->base.facts.dot4 = false;
        g->base.facts.subgroup_sums = false;
    }
}

/* ---- Kernels --------------------------------------------------------------------------------- */

/* Whether the program holds what the caller was promised. */
static rotor_status check(ocl *g, const gpu_kernel *k, rotor_error *err) {
    cl_int code = CL_SUCCESS;
    cl_kernel probe = g->cl.CreateKernel(k->program, k->name, &code);
    if (!probe) return ocl_fail(g, code, "clCreateKernel", err);
    cl_uint n_args = 0;
    size_t group = 0;
    code = g->cl.GetKernelInfo(probe, CL_KERNEL_NUM_ARGS, sizeof n_args, &n_args, NULL);
    if (code == CL_SUCCESS)
        code = g->cl.GetKernelWorkGroupInfo(probe, g->device, CL_KERNEL_WORK_GROUP_SIZE,
                                            sizeof group, &group, NULL);
    g->cl.ReleaseKernel(probe);
    if (code != CL_SUCCESS) return ocl_fail(g, code, "asking about a kernel", err);
    assert(n_args == k->n_binds + 1 && "memories, then the parameters");
    if (group >= k->lx) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "OpenCL device %s, driver %s: kernel %s in groups of %u needed, at most %zu "
                     "fit",
                     g->base.facts.name, g->base.facts.driver, k->name, k->lx, group);
}

rotor_status ocl_kernel_make(gpu *base, const gpu_source *src, const uint32_t *spec,
                             uint32_t n_spec, uint32_t n_binds, uint32_t n_params, gpu_kernel **out,
                             rotor_error *err) {
    ocl *g = (ocl *)base;
    assert(n_spec >= 1 && n_spec <= GPU_MAX_SPECS && n_binds <= GPU_MAX_BINDS);
    assert(n_params >= 1 && n_params <= GPU_MAX_PARAMS);
    gpu_kernel *k = base_alloc(sizeof *k);
    if (!k) return base_fail_nomem(err, "compiling an OpenCL kernel");
    k->name = src->name;
    k->lx = spec[0], k->n_binds = n_binds, k->n_params = n_params;
    rotor_status st = program_of(g, src, spec, n_spec, &k->program, err);
    if (st == ROTOR_OK) st = check(g, k, err);
    if (st != ROTOR_OK) {
        ocl_kernel_free(base, k);
        return st;
    }
    base->counters.allocations++;
    *out = k;
    return ROTOR_OK;
}

void ocl_kernel_free(gpu *base, gpu_kernel *k) {
    ocl *g = (ocl *)base;
    if (!k) return;
    if (k->program) g->cl.ReleaseProgram(k->program);
    base_free(k);
}
