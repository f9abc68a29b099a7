/* SPDX-License-Identifier: MIT
 *
 * device_rig: the models and devices that tests of whole models on a GPU go through. Every device
 * of every compute API of the build counts, software devices too.
 *
 * A wrong call ends the test program.
 */
#ifndef DEVICE_RIG_H
#define DEVICE_RIG_H

#include "run/run.h"

enum { RIG_DEVICES = 8 };

typedef struct rig_device {
    dev_api api;                /* whose */
    size_t index;               /* in its list */
    dev_facts facts;            /* of it */
    const dev_facts *placed_by; /* how a model is placed there; NULL: all of it, whatever it is */
    char label[160];            /* "vulkan:0 llvmpipe (LLVM 15.0.6, 256 bits)" */
} rig_device;

/* Those that can be used; says which ones, and why others cannot. Returns how many. */
size_t rig_devices(rig_device out[RIG_DEVICES]);
/* In the short run the last of them alone, whose compiler is quick: both are held to the CPU by
 * test_run_device. */
size_t rig_devices_of_run(rig_device out[RIG_DEVICES]);

/* The index-th model of tests, NULL past the end; the quick ones come first. */
const char *rig_model(size_t index);
size_t rig_n_quick(void); /* how many are quick */
/* Whether the long run was asked for: ROTOR_TEST_DEVICES=all. */
bool rig_all(void);

typedef struct rig_log {
    int warnings;    /* lines so far that are warnings or errors */
    char last[1024]; /* the last of them */
    base_log log;    /* to be given away */
} rig_log;

typedef struct rig {
    par_pool *pool; /* threads */
    model *m;       /* weights */
    run_engine *e;  /* engine */
    rig_log log;    /* what it said */
} rig;

typedef struct rig_setting {
    const rig_device *device; /* where; NULL: the CPU */
    const rig_device *prompt; /* where prompts run (DEV_CPU: the CPU); NULL: there, too */
    kern_kv kv;               /* cache type */
    bool float_act;           /* --act f32 */
    run_head head;            /* precision of the output head */
    const dev_facts *facts;   /* of the device, by which the model is placed; NULL: all of it */
    uint32_t rows;            /* rows of a step at most, all may have logits */
    uint32_t layers;          /* of them on the device, the rest on the CPU; 0: all */
    uint32_t sessions;        /* announced: rings of pages where layers have windows; 0: none */
    run_open_gpu *open_gpu;   /* of the engine */
} rig_setting;

/* Opens a model and an engine with 24 cache pages. */
void rig_up(rig *r, const char *model_name, rig_setting set);
void rig_down(rig *r);

/* Copies the wanted logits of the engine's last step behind one another; returns the end. */
float *rig_logits(rig *r, uint32_t n, float *out);

/* How far logits are from the CPU's. */
#define RIG_FLOAT_BOUND 2e-3 /* of each row, with float activations */
#define RIG_INT8_BOUND  9e-2 /* of all rows together, with rounded ones */
typedef struct rig_verdict {
    double worst, all; /* farthest row, all rows together: relative distances */
    unsigned clear;    /* rows in which the CPU has a clear lead … */
    unsigned lost;     /* … and the device another best token */
} rig_verdict;
rig_verdict rig_judge(const float *got, const float *want, size_t rows, size_t width);

void rig_session(run_session **s, rig *r);
/* Appends rows in one step, or ends the test. */
void rig_eval(rig *r, const run_row *rows, uint32_t n);

#endif
