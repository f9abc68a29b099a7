#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs programs under Vulkan's validation layer, synchronisation too; any message of it fails.

    validated.py PROGRAM ...

Exit status 77 (skipped) where the layer is not installed. The loader's own words tell whether it is
there: a run without the layer would be silent as well.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

LAYER = "VK_LAYER_KHRONOS_validation"
LIBRARY = "libVkLayer_khronos_validation.so"
SETTINGS = """khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn,perf
khronos_validation.enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT,\
VALIDATION_CHECK_ENABLE_SYNCHRONIZATION_VALIDATION_QUEUE_SUBMIT
"""


def run(program, folder):
    log = folder / "messages"
    (folder / "vk_layer_settings.txt").write_text(f"{SETTINGS}khronos_validation.log_filename = {log}\n")
    env = {**os.environ, "VK_INSTANCE_LAYERS": LAYER, "VK_LAYER_SETTINGS_PATH": str(folder),
           "VK_LOADER_DEBUG": "layer", "LSAN_OPTIONS": f"suppressions={folder / 'lsan.supp'}"}
    (folder / "lsan.supp").write_text(f"leak:{LIBRARY}\n")  # it leaks; what we leak, a plain run finds
    done = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          errors="replace")
    print(done.stdout)
    if done.returncode:
        print(done.stderr[-8000:])
    if f'Insert instance layer "{LAYER}"' not in done.stderr:
        print(f"skipped: no {LAYER}, or no Vulkan")
        return 77
    messages = log.read_text(errors="replace").strip("\0 \n") if log.exists() else ""
    if messages:
        print(messages[:8000])
    return 1 if messages or done.returncode else 0


def main():
    for program in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            status = run(program, pathlib.Path(folder))
        if status:
            return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
