# SPDX-License-Identifier: MIT
"""Puts librotor.so beside the package: the one ROTOR_LIBRARY names, or the tree's own build. Without
either the package is built alone and looks for an installed library."""
import os
import shutil

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = os.path.dirname(os.path.abspath(__file__))
NAMED = os.environ.get("ROTOR_LIBRARY") or os.path.join(HERE, "..", "build")
LIBRARY = os.path.join(NAMED, "librotor.so") if os.path.isdir(NAMED) else NAMED


class WithLibrary(build_py):
    def run(self):
        super().run()
        if os.path.isfile(LIBRARY):
            shutil.copy(LIBRARY, os.path.join(self.build_lib, "rotor", "librotor.so"))


class OfThisMachine(Distribution):
    def has_ext_modules(self):
        return os.path.isfile(LIBRARY)


setup(cmdclass={"build_py": WithLibrary}, distclass=OfThisMachine)
