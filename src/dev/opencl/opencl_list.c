/* SPDX-License-Identifier: MIT
 *
 * Recorded dispatches on OpenCL 1.2, which has no command buffers: a list keeps one kernel object
 * a dispatch, with all its arguments set once, so that a submission is nothing but enqueues.
 *
 * What goes up and what comes down passes through memory of the list, one piece a submission that
 * may be under way, since the transfers do not block:
 *   write staging -> up | kernel | kernel ... | read down -> staging, event | flush
 * Only the event is new in each submission; waiting releases it.
 */
#include "dev/opencl/opencl.h"

#include <assert.h>

typedef struct node {
    cl_kernel kernel; /* owned, arguments set */
    size_t grid[3];   /* invocations */
    size_t group[3];  /* invocations of a group: {LX, 1, 1} */
} node;

typedef struct flight {
    uint8_t *up;    /* owned, up_bytes */
    uint8_t *down;  /* owned, down_bytes */
    cl_event event; /* the end of the submission; NULL when none is under way */
} flight;

struct gpu_list {
    node *nodes;                 /* owned */
    size_t n;                    /* dispatches */
    gpu_mem *up, *down;          /* borrowed; may be NULL */
    uint64_t up_bytes;           /* sent along at most */
    uint64_t down_bytes;         /* brought back */
    flight flights[GPU_FLIGHTS]; /* in turn */
    unsigned next;               /* flight of the next submission */
    unsigned under_way;          /* submissions nobody has waited for */
};

static rotor_status set_node(ocl *g, node *out, const gpu_dispatch *d, rotor_error *err) {
    const gpu_kernel *k = d->kernel;
    assert(d->n_binds == k->n_binds && "memories as the kernel has them");
    assert(d->n_params == k->n_params && "parameters as the kernel has them");
    cl_int code = CL_SUCCESS;
    for (int i = 0; i < 3; i++) {
        assert(d->groups[i] && "a grid of at least one group");
        out->group[i] = i ? 1 : k->lx;
        out->grid[i] = d->groups[i] * out->group[i];
    }
    out->kernel = g->cl.CreateKernel(k->program, k->name, &code);
    if (!out->kernel) return ocl_fail_room(g, code, "clCreateKernel", err);
    for (uint32_t i = 0; i < d->n_binds && code == CL_SUCCESS; i++)
        code = g->cl.SetKernelArg(out->kernel, i, sizeof(cl_mem), &d->bind[i]->mem);
    if (code == CL_SUCCESS)
        code =
            g->cl.SetKernelArg(out->kernel, d->n_binds, d->n_params * sizeof *d->param, d->param);
    return code == CL_SUCCESS ? ROTOR_OK : ocl_fail_room(g, code, "clSetKernelArg", err);
}

static rotor_status record(ocl *g, gpu_list *l, const gpu_dispatch *d, size_t n, rotor_error *err) {
    l->nodes = base_alloc_array(BASE_MAX(n, 1u), sizeof *l->nodes);
    bool room = l->nodes;
    for (int i = 0; i < GPU_FLIGHTS && room; i++) {
        flight *f = &l->flights[i];
        if (l->up_bytes) room = (f->up = base_alloc_aligned((size_t)l->up_bytes));
        if (room && l->down_bytes) room = (f->down = base_alloc_aligned((size_t)l->down_bytes));
    }
    if (!room) return base_fail_nomem(err, "recording work for an OpenCL device");
    while (l->n < n) {
        const size_t i = l->n++; /* counted before it is whole: freeing takes what there is of it */
        ROTOR_TRY(set_node(g, &l->nodes[i], &d[i], err));
    }
    return ROTOR_OK;
}

rotor_status ocl_list_make(gpu *base, const gpu_dispatch *d, size_t n, gpu_mem *up,
                           uint64_t up_bytes, gpu_mem *down, uint64_t down_bytes, gpu_list **out,
                           rotor_error *err) {
    assert(up_bytes <= GPU_MAX_UP && (!up || up_bytes <= up->bytes));
    assert(!down || down_bytes <= down->bytes);
    gpu_list *l = base_alloc(sizeof *l);
    if (!l) return base_fail_nomem(err, "recording work for an OpenCL device");
    l->up = up, l->up_bytes = up ? up_bytes : 0;
    l->down = down, l->down_bytes = down ? down_bytes : 0;
    rotor_status st = record((ocl *)base, l, d, n, err);
    if (st != ROTOR_OK) {
        ocl_list_free(base, l);
        return st;
    }
    base->counters.allocations++;
    *out = l;
    return ROTOR_OK;
}

void ocl_list_free(gpu *base, gpu_list *l) {
    ocl *g = (ocl *)base;
    if (!l) return;
    if (l->next || l->under_way) g->cl.Finish(g->queue); /* the driver may still use the staging */
    for (size_t i = 0; i < l->n; i++)
        if (l->nodes[i].kernel) g->cl.ReleaseKernel(l->nodes[i].kernel);
    for (int i = 0; i < GPU_FLIGHTS; i++) {
        if (l->flights[i].event) g->cl.ReleaseEvent(l->flights[i].event);
        base_free_aligned(l->flights[i].up);
        base_free_aligned(l->flights[i].down);
    }
    base_free(l->nodes);
    base_free(l);
}

static rotor_status enqueue(ocl *g, gpu_list *l, flight *f, uint64_t bytes, rotor_error *err) {
    cl_int code;
    if (bytes) {
        code = g->cl.EnqueueWriteBuffer(g->queue, l->up->mem, CL_FALSE, 0, (size_t)bytes, f->up, 0,
                                        NULL, NULL);
        if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueWriteBuffer", err);
    }
    for (const node *d = l->nodes; d < l->nodes + l->n; d++) {
        code = g->cl.EnqueueNDRangeKernel(g->queue, d->kernel, 3, NULL, d->grid, d->group, 0, NULL,
                                          NULL);
        if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueNDRangeKernel", err);
    }
    if (l->down_bytes) {
        code = g->cl.EnqueueReadBuffer(g->queue, l->down->mem, CL_FALSE, 0, (size_t)l->down_bytes,
                                       f->down, 0, NULL, &f->event);
        if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueReadBuffer", err);
    } else {
        code = g->cl.EnqueueMarkerWithWaitList(g->queue, 0, NULL, &f->event);
        if (code != CL_SUCCESS) return ocl_fail(g, code, "clEnqueueMarkerWithWaitList", err);
    }
    code = g->cl.Flush(g->queue);
    return code == CL_SUCCESS ? ROTOR_OK : ocl_fail(g, code, "clFlush", err);
}

rotor_status ocl_submit(gpu *base, gpu_list *l, const void *data, uint64_t bytes,
                        rotor_error *err) {
    assert(bytes <= l->up_bytes && "no more than the list was made for");
    assert(l->under_way < GPU_FLIGHTS && "the caller waits in between");
    flight *f = &l->flights[l->next % GPU_FLIGHTS];
    if (bytes) memcpy(f->up, data, (size_t)bytes);
    l->next++;
    ROTOR_TRY(enqueue((ocl *)base, l, f, bytes, err));
    l->under_way++;
    base->counters.submissions++;
    base->counters.dispatches += l->n;
    base->counters.bytes_up += bytes;
    return ROTOR_OK;
}

/* Why a wait failed: the event knows better than the call. */
static cl_int cause(ocl *g, cl_event event, cl_int code) {
    cl_int status = CL_COMPLETE;
    if (code == CL_EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST &&
        g->cl.GetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof status, &status,
                           NULL) == CL_SUCCESS &&
        status < 0)
        return status;
    return code;
}

rotor_status ocl_wait(gpu *base, gpu_list *l, void *dst, rotor_error *err) {
    ocl *g = (ocl *)base;
    assert(l->under_way && "something was submitted");
    flight *f = &l->flights[(l->next - l->under_way) % GPU_FLIGHTS];
    cl_int code = g->cl.WaitForEvents(1, &f->event);
    if (code != CL_SUCCESS)
        return ocl_fail(g, cause(g, f->event, code), "waiting for submitted work", err);
    g->cl.ReleaseEvent(f->event);
    f->event = NULL;
    l->under_way--;
    if (dst && l->down_bytes) memcpy(dst, f->down, (size_t)l->down_bytes);
    base->counters.bytes_down += l->down_bytes;
    return ROTOR_OK;
}
