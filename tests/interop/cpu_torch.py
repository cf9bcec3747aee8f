# SPDX-License-Identifier: Apache-2.0
"""Makes the PyTorch wheel of PyPI importable without the GPU libraries that it links.

The x86-64 wheel needs about four gigabytes of CUDA libraries to be importable, though nothing on a
CPU ever calls them. This script, run by the Python of a virtual environment into which torch was
put with --no-deps, makes a small library under each missing name beside torch's own: every
function in it answers "no device" (error 100), which torch expects on a machine without one.
"""
import pathlib
import re
import subprocess
import sysconfig

TORCH = pathlib.Path(sysconfig.get_paths()["purelib"]) / "torch" / "lib"
SYSTEM = re.compile(r"lib(c|m|dl|pthread|rt|stdc\+\+|gcc_s|z|quadmath)\.so|ld-linux")


def readelf(*arguments):
    return subprocess.run(["readelf", "-W", *arguments], check=True, capture_output=True,
                          text=True).stdout


def make_library(name, versioned, plain):
    functions = sorted(plain.union(*versioned.values()))
    code = "".join(f"int {function}(void) {{ return 100; }}\n" for function in functions)
    script = TORCH / f"{name}.map"
    script.write_text("".join(f"{version} {{ global: {'; '.join(sorted(names))}; }};\n"
                              for version, names in sorted(versioned.items())))
    command = ["cc", "-shared", "-fPIC", "-w", "-x", "c", "-", f"-Wl,-soname,{name}",
               "-o", str(TORCH / name)]
    if versioned:
        command.append(f"-Wl,--version-script={script}")
    subprocess.run(command, input=code, text=True, check=True)
    script.unlink()


def main():
    libraries = [path for path in sorted(TORCH.glob("lib*.so*")) if not path.is_symlink()]
    # Symbols by the version they ask for, the libraries that promise versions, unversioned symbols.
    needed, versioned, promised, plain = set(), {}, {}, set()
    for library in libraries:
        needed |= set(re.findall(r"NEEDED.*\[(.*)\]", readelf("-d", str(library))))
        file = None
        for line in readelf("-V", str(library)).splitlines():
            if found := re.search(r"File: (\S+)", line):
                file = found[1]
            elif found := re.search(r"Name: (\S+)  Flags", line):
                promised.setdefault(file, set()).add(found[1])
        for line in readelf("--dyn-syms", str(library)).splitlines():
            fields = line.split()
            if len(fields) < 8 or fields[6] != "UND":
                continue
            name, _, version = fields[7].partition("@")
            if version:
                versioned.setdefault(version, set()).add(name)
            elif re.match(r"(nccl|cu|nv)[A-Za-z]+\w*$", name):
                plain.add(name)
    present = {path.name for path in libraries}
    for name in sorted(needed - present):
        if SYSTEM.match(name):
            continue
        make_library(name, {v: versioned[v] for v in promised.get(name, ())}, plain)
    import torch
    assert not torch.cuda.is_available()
    print("torch", torch.__version__, "on the CPU")


if __name__ == "__main__":
    main()
