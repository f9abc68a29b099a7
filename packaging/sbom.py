# SPDX-License-Identifier: MIT
"""What is inside a package, for programs that look for it: a CycloneDX 1.5 bill of materials.

Rotor itself, the model within, and each library that its programs load, with version, licence and the
hash of the file where the package bundles it. Versions are those of the system's packages; licences
are read from docs/licences.md, so that the list which people read is the only one.
"""
import hashlib
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent


def licences():
    """Library, as its Debian package or soname begins, to the licence that docs/licences.md states."""
    rows = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|", (ROOT / "docs" / "licences.md").read_text(), re.M)
    return {re.sub(r"[^a-z0-9]", "", name.lower()).removeprefix("lib"): licence for name, licence in rows if name != "library"}


def licence_of(soname):
    """What the page says of this library, or nothing: libraries of libraries are not on it."""
    plain = re.sub(r"[^a-z0-9]", "", soname.split(".so")[0].lower()).removeprefix("lib")
    return next((licence for name, licence in licences().items() if plain.startswith(name) or name.startswith(plain)), None)


def package_of(path):
    """Name and version of the Debian package that a file is from."""
    for name in (str(path), str(path).replace("/usr/lib", "/lib", 1)):
        done = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True)
        if done.returncode == 0:
            package = done.stdout.split(":")[0]
            version = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True).stdout
            return package, version
    return None, None


def library(soname, path, bundled):
    package, version = package_of(pathlib.Path(path).resolve())
    part = {"type": "library", "bom-ref": soname, "name": package or soname, "version": version or "unknown",
            "properties": [{"name": "soname", "value": soname}, {"name": "bundled", "value": "yes" if bundled else "no"}]}
    if package:
        part["purl"] = "pkg:deb/debian/%s@%s" % (package, version)
    if licence_of(soname):
        part["licenses"] = [{"license": {"name": licence_of(soname)}}]
    if bundled:
        part["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(bundled.read_bytes()).hexdigest()}]
    return part


def model():
    path = next((ROOT / "assets").glob("*.gguf"))
    return {"type": "machine-learning-model", "bom-ref": "built-in model", "name": path.name, "version": "1",
            "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(path.read_bytes()).hexdigest()}]}


def write(path, version, libraries, home=None):
    """libraries: soname to file of all that the programs load; home: the folder of those that are bundled."""
    inside = lambda name: home / name if home and (home / name).exists() else None
    parts = [model()] + [library(name, file, inside(name)) for name, file in sorted(libraries.items())]
    path.write_text(json.dumps({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": "rotor", "name": "rotor", "version": version,
                                   "licenses": [{"license": {"id": "MIT"}}]}},
        "components": parts,
        "dependencies": [{"ref": "rotor", "dependsOn": [part["bom-ref"] for part in parts]}]}, indent=1) + "\n")
