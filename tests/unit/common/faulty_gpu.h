/* SPDX-License-Identifier: MIT
 *
 * faulty_gpu: a compute API that stands in front of a real one and fails at the n-th call of a
 * kind, as a driver does that loses its device. From then on every call that does work fails as
 * well.
 *
 * The device behind stays open from one opening to the next, with its compiled kernels: a hundred
 * failures cost one compilation. One device at a time; not for several threads.
 */
#ifndef FAULTY_GPU_H
#define FAULTY_GPU_H

#include "dev/gpu/gpu.h"

typedef enum faulty_call {
    FAULTY_OPEN,
    FAULTY_ALLOC,
    FAULTY_IMPORT,
    FAULTY_WRITE,
    FAULTY_READ,
    FAULTY_COPY,
    FAULTY_KERNEL,
    FAULTY_LIST,
    FAULTY_SUBMIT,
    FAULTY_WAIT,
    FAULTY_CALLS
} faulty_call;

extern const char *const faulty_names[FAULTY_CALLS];

/* Stands in front of this API from now on; its device is given back by faulty_done. */
const gpu_api *faulty_gpu(const gpu_api *real);
/* The n-th call of this kind from now on fails with st; 0: none does. Counts start anew. */
void faulty_at(faulty_call call, unsigned n, rotor_status st);
bool faulty_fired(void);
/* Calls that were made of a lost device, which may only be freed and closed. */
unsigned faulty_after_loss(void);
/* Device memory of the device that is open behind, now. */
uint64_t faulty_mem_bytes(void);
uint64_t faulty_imported(void); /* and what it has imported */
uint64_t faulty_bytes_up(void); /* to it since it was opened, perhaps for others before */
/* Closes the device behind and frees its kernels. */
void faulty_done(void);

#endif
