/* SPDX-License-Identifier: MIT
 *
 * Shared libraries opened at run time: drivers that a machine may or may not have.
 */
#include "base/base.h"

#include <dlfcn.h>

void *base_library_open(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL); }
void *base_library_symbol(void *library, const char *name) { return dlsym(library, name); }
void base_library_close(void *library) {
    if (library) dlclose(library);
}
