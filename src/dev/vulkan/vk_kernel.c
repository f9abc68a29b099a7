/* SPDX-License-Identifier: MIT
 *
 * Kernels: compute pipelines made from the build's SPIR-V. Constant i of a kernel is constant_id i,
 * 0 is the size of a group. Kernels that take equally many memories share a layout; every layout
 * has room for all parameters a dispatch may have.
 */
#include <assert.h>
#include <stdio.h>

#include "dev/vulkan/vk.h"

static rotor_status layout_make(vk_gpu *g, uint32_t n_binds, rotor_error *err) {
    VkDescriptorSetLayoutBinding bind[GPU_MAX_BINDS];
    for (uint32_t i = 0; i < n_binds; i++)
        bind[i] =
            (VkDescriptorSetLayoutBinding){.binding = i,
                                           .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                           .descriptorCount = 1,
                                           .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    const VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = n_binds,
        .pBindings = bind};
    const VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, GPU_MAX_PARAMS * 4};
    const VkPipelineLayoutCreateInfo layout = {.sType =
                                                   VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .setLayoutCount = 1,
                                               .pSetLayouts = &g->set_layout[n_binds],
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &push};
    VkResult r = g->f.CreateDescriptorSetLayout(g->device, &set, NULL, &g->set_layout[n_binds]);
    if (r == VK_SUCCESS)
        r = g->f.CreatePipelineLayout(g->device, &layout, NULL, &g->layout[n_binds]);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "opening it");
}

rotor_status vk_layouts_make(vk_gpu *g, rotor_error *err) {
    for (uint32_t n = 0; n <= GPU_MAX_BINDS; n++) ROTOR_TRY(layout_make(g, n, err));
    return ROTOR_OK;
}

void vk_layouts_free(vk_gpu *g) {
    if (g->hung) return;
    for (uint32_t n = 0; n <= GPU_MAX_BINDS; n++) {
        g->f.DestroyPipelineLayout(g->device, g->layout[n], NULL);
        g->f.DestroyDescriptorSetLayout(g->device, g->set_layout[n], NULL);
    }
}

static rotor_status shader_make(vk_gpu *g, const gpu_source *src, VkShaderModule *out,
                                rotor_error *err) {
    const unsigned offered = gpu_form_of(&g->base.facts);
    unsigned form = offered;
    while (form && ((form & ~offered) || !src->spirv[form].packed)) form--;
    const gpu_spirv *s = &src->spirv[form];
    if (!s->packed)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "Vulkan: kernel %s was built without SPIR-V",
                         src->name);
    uint32_t *word = base_alloc_array(s->n_words, sizeof *word);
    if (!word) return base_fail_nomem(err, "reading a kernel");
    gpu_unpack(s, word);
    const VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                           .codeSize = s->n_words * sizeof *word,
                                           .pCode = word};
    const VkResult r = g->f.CreateShaderModule(g->device, &info, NULL, out);
    base_free(word);
    return r == VK_SUCCESS ? ROTOR_OK : vk_bad(g, err, r, "reading a kernel");
}

static rotor_status pipeline_make(vk_gpu *g, const gpu_source *src, VkShaderModule shader,
                                  const VkSpecializationInfo *spec, gpu_kernel *k,
                                  rotor_error *err) {
    char what[96];
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = shader,
                  .pName = "main",
                  .pSpecializationInfo = spec},
        .layout = g->layout[k->n_binds],
        .basePipelineIndex = -1};
    const VkResult r =
        g->f.CreateComputePipelines(g->device, g->cache, 1, &info, NULL, &k->pipeline);
    if (r == VK_SUCCESS) return ROTOR_OK;
    snprintf(what, sizeof what, "compiling kernel %.60s", src->name);
    return vk_bad(g, err, r, what);
}

rotor_status vk_kernel(gpu *base, const gpu_source *src, const uint32_t *spec, uint32_t n_spec,
                       uint32_t n_binds, uint32_t n_params, gpu_kernel **out, rotor_error *err) {
    vk_gpu *g = (vk_gpu *)base;
    VkSpecializationMapEntry entry[GPU_MAX_SPECS];
    assert(n_spec >= 1 && n_spec <= GPU_MAX_SPECS);
    assert(n_binds <= GPU_MAX_BINDS && n_params <= GPU_MAX_PARAMS);
    ROTOR_TRY(vk_alive(g, err));
    for (uint32_t i = 0; i < n_spec; i++) entry[i] = (VkSpecializationMapEntry){i, 4 * i, 4};
    const VkSpecializationInfo info = {n_spec, entry, 4 * n_spec, spec};
    if (spec[0] > base->facts.max_group)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "Vulkan: kernel %s wants groups of %u, %s has at most %u", src->name,
                         spec[0], base->facts.name, base->facts.max_group);
    gpu_kernel *k = base_alloc(sizeof *k);
    if (!k) return base_fail_nomem(err, "making a kernel");
    *k = (gpu_kernel){.n_binds = n_binds, .n_params = n_params};
    VkShaderModule shader = VK_NULL_HANDLE;
    rotor_status st = shader_make(g, src, &shader, err);
    if (st == ROTOR_OK) st = pipeline_make(g, src, shader, &info, k, err);
    if (shader) g->f.DestroyShaderModule(g->device, shader, NULL);
    if (st != ROTOR_OK) {
        base_free(k);
        return st;
    }
    base->counters.allocations++;
    *out = k;
    return ROTOR_OK;
}

void vk_kernel_free(gpu *base, gpu_kernel *k) {
    vk_gpu *g = (vk_gpu *)base;
    if (!k) return;
    if (!g->hung) g->f.DestroyPipeline(g->device, k->pipeline, NULL);
    base_free(k);
}
