/* SPDX-License-Identifier: MIT
 *
 * What Rotor makes of this machine: instruction set, threads, memory, device, and what a token
 * costs in bytes.
 *
 *     cc hardware.c -o hardware $(pkg-config --cflags --libs rotor) && ./hardware model.gguf
 */
#include <rotor.h>

#include <stdio.h>

int main(int argc, char **argv) {
    rotor_engine *engine = NULL;
    rotor_engine_info info = {.size = sizeof info};
    rotor_engine_options options = rotor_engine_options_default();
    rotor_error err = {0};
    if (argc != 2) return fprintf(stderr, "usage: %s MODEL\n", argv[0]), 2;
    options.device = "cpu"; /* "auto" would also try OpenCL and Vulkan devices */
    if (rotor_engine_open(&engine, argv[1], &options, &err) != ROTOR_OK)
        return fprintf(stderr, "%s: %s\n", argv[0], err.message), 1;
    rotor_engine_get_info(engine, &info);
    printf("rotor %s\n%s", rotor_version(), rotor_features());
    printf("processor: %s, %d threads\n", info.cpu, info.threads);
    printf("device: %s (%s)\n", info.device, info.device_name);
    printf("memory: %.1f GB free; weights %.2f MB, cache %.2f MB for %u positions\n",
           (double)info.available_bytes / 1e9, (double)info.file_bytes / 1e6,
           (double)info.kv_bytes / 1e6, info.n_ctx);
    /* A token reads all of these once: memory bandwidth divided by them is a bound of the speed. */
    printf("a token reads %.2f MB: at 40 GB/s no more than %.0f tokens a second\n",
           (double)info.step_bytes / 1e6, 40e9 / (double)info.step_bytes);
    rotor_engine_close(&engine);
    return 0;
}
