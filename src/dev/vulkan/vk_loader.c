/* SPDX-License-Identifier: MIT
 *
 * The Vulkan loader, opened at run time, and the addresses of what we call. Functions of a device
 * are asked of the driver itself, so that a call does not pass through the loader.
 */
#include "dev/vulkan/vk.h"

static const char *const loader_names[] = {"libvulkan.so.1", "libvulkan.so"};

static rotor_status open_library(vk_instance *vk, rotor_error *err) {
    for (size_t i = 0; i < BASE_COUNT(loader_names) && !vk->library; i++)
        vk->library = base_library_open(loader_names[i]);
    if (!vk->library)
        return base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: no loader on this machine (looked for %s)",
                         loader_names[0]);
    void *symbol = base_library_symbol(vk->library, "vkGetInstanceProcAddr");
    memcpy(&vk->GetInstanceProcAddr, &symbol, sizeof symbol);
    if (symbol) return ROTOR_OK;
    return base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: %s has no vkGetInstanceProcAddr",
                     loader_names[0]);
}

/* A loader older than 1.1 cannot say its version, and does not know the functions we use. */
static rotor_status check_version(const vk_instance *vk, rotor_error *err) {
    uint32_t version = VK_API_VERSION_1_0;
    PFN_vkEnumerateInstanceVersion ask =
        (PFN_vkEnumerateInstanceVersion)vk->GetInstanceProcAddr(NULL, "vkEnumerateInstanceVersion");
    if (ask && ask(&version) == VK_SUCCESS && version >= VK_API_VERSION_1_1) return ROTOR_OK;
    return base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: the loader offers %u.%u, Rotor needs 1.1",
                     VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
}

static rotor_status create(vk_instance *vk, rotor_error *err) {
    PFN_vkCreateInstance make =
        (PFN_vkCreateInstance)vk->GetInstanceProcAddr(NULL, "vkCreateInstance");
    const VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                   .pApplicationName = "rotor",
                                   .apiVersion = VK_API_VERSION_1_3}; /* the newest we look at */
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pApplicationInfo = &app};
    const VkResult r = make ? make(&info, NULL, &vk->handle) : VK_ERROR_INITIALIZATION_FAILED;
    if (r == VK_SUCCESS) return ROTOR_OK;
    vk->handle = VK_NULL_HANDLE;
    if (r == VK_ERROR_OUT_OF_HOST_MEMORY) return base_fail_nomem(err, "starting Vulkan");
    if (r == VK_ERROR_INCOMPATIBLE_DRIVER)
        return base_fail(err, ROTOR_E_NOTFOUND,
                         "Vulkan: no driver on this machine (no icd.d/*.json that works)");
    return base_fail(err, ROTOR_E_DEVICE, "Vulkan: vkCreateInstance failed (%d)", (int)r);
}

rotor_status vk_instance_open(vk_instance *vk, rotor_error *err) {
    memset(vk, 0, sizeof *vk);
    rotor_status st = open_library(vk, err);
    if (st == ROTOR_OK) st = check_version(vk, err);
    if (st == ROTOR_OK) st = create(vk, err);
    bool whole = true;
#define LOAD(name)                                                                                 \
    if (st == ROTOR_OK)                                                                            \
        whole &=                                                                                   \
            (vk->f.name = (PFN_vk##name)vk->GetInstanceProcAddr(vk->handle, "vk" #name)) != NULL;
    VK_INSTANCE_FNS(LOAD)
#undef LOAD
    if (!whole) st = base_fail(err, ROTOR_E_NOTFOUND, "Vulkan: the loader lacks functions of 1.1");
    if (st != ROTOR_OK) vk_instance_close(vk);
    return st;
}

void vk_instance_close(vk_instance *vk) {
    if (vk->handle && vk->f.DestroyInstance) vk->f.DestroyInstance(vk->handle, NULL);
    base_library_close(vk->library);
    memset(vk, 0, sizeof *vk);
}

bool vk_load_device(vk_gpu *g) {
    bool whole = true;
#define LOAD(name)                                                                                 \
    whole &= (g->f.name = (PFN_vk##name)g->vk.f.GetDeviceProcAddr(g->device, "vk" #name)) != NULL;
    VK_DEVICE_FNS(LOAD)
#undef LOAD
    return whole;
}
