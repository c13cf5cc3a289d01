"""Stand-ins for CUDA's libraries, compiled for the onnxruntime-gpu that is installed.

What must be accounted for or can be refused is written in C beside this file. All else that the
wheel asks of the libraries is made here from the names of its undefined symbols.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

FOLDER = Path(__file__).parent
HEADERS = Path(sys.prefix) / "cuda" / "nvidia" / "cu13" / "include"  # `make stand-ins` puts them
RUNTIME, DRIVER, DNN = "libcudart.so.13", "libcuda.so.1", "libcudnn.so.9"
RANDOM = "libcurand.so.10"  # nothing of it is called
BLAS = ("libcublas.so.13", "libcublasLt.so.13")
# What laglite calls of the driver (cuda_driver.py), beside what memory.c has.
DRIVER_CALLS = [
    "cuInit", "cuDriverGetVersion", "cuDeviceGet", "cuDeviceGetName", "cuDeviceGetAttribute",
    "cuDevicePrimaryCtxRetain", "cuDevicePrimaryCtxRelease_v2", "cuCtxPushCurrent_v2",
    "cuCtxPopCurrent_v2",
]  # fmt: skip
# Functions of the runtime that are done when they return, and of which nothing needs to be known.
SILENT = {
    "__cudaRegisterFatBinaryEnd", "__cudaUnregisterFatBinary", "__cudaRegisterVar", "cudaSetDevice",
    "cudaGraphDestroy", "cudaGraphExecDestroy",
}  # fmt: skip
# Functions that write one number, through the argument of this place.
ANSWERS = {
    "cudaGetDeviceCount": (0, "int", 1),
    "cudaGetDevice": (0, "int", 0),
    "cuDriverGetVersion": (0, "int", 13000),
    "cuDeviceGet": (0, "int", 0),
    "cublasGetMathMode": (1, "int", 0),
    "cudnnGetReductionIndicesSize": (4, "size_t", 256),
    "cudnnGetReductionWorkspaceSize": (4, "size_t", 256),
}
OTHERS = {
    "cublasSetMathMode": 'account("math_mode %ld", a1); return 0;',
    "cuDeviceGetName": 'snprintf((char *)a0, a1, "stand-in"); return 0;',
    "cuDeviceGetAttribute": "*(int *)a0 = a1 == 75 ? 8 : 0; return 0;",  # compute capability 8.0
}
# Instead of the headers, whose declarations have the true arguments.
DECLARED = """#include <stdio.h>
void account(const char *, ...);
int refuse(int, const char *), library_call(const char *);
void *new_handle(void);
"""
NOT_SUPPORTED = 801  # cudaErrorNotSupported


class CannotBuildError(Exception):
    """The stand-ins cannot be compiled here: why, and what to do."""


def build_stand_ins(folder: Path) -> None:
    """Write the libraries to `folder`, for LD_LIBRARY_PATH. Raises CannotBuildError."""
    for tool in ("gcc", "nm"):
        if shutil.which(tool) is None:
            raise CannotBuildError(f"{tool} is not installed: apt-get install gcc")
    wheel = _cuda_provider()
    wanted = _undefined_symbols(wheel)
    if RUNTIME not in wanted:
        raise CannotBuildError(f"{wheel} is not for CUDA 13, as that of Python 3.11 and newer is")
    sources = sorted(FOLDER.glob("*.c"))
    code = "\n".join(source.read_text() for source in sources)
    written = set(re.findall(r"^\w.*?(\w+)\(", code, re.M))
    _compile(folder, RUNTIME, [name for name in wanted[RUNTIME] if name not in written], sources)
    wanted[DRIVER] = [*wanted.get(DRIVER, []), *DRIVER_CALLS]
    wanted[DNN] = _names_looked_up(wheel)
    for library in (*BLAS, RANDOM, DRIVER, DNN):
        _compile(folder, library, wanted.get(library, []), [])


def _cuda_provider() -> Path:
    found = find_spec("onnxruntime")
    if found is not None and found.origin is not None:
        library = Path(found.origin).parent / "capi" / "libonnxruntime_providers_cuda.so"
        if library.exists():
            return library
    raise CannotBuildError("onnxruntime-gpu is not installed here: run make stand-ins")


def _undefined_symbols(wheel: Path) -> dict[str, list[str]]:
    """The names that each library must have; all but the driver's have its name as version."""
    listed = subprocess.check_output(["nm", "-D", "--undefined-only", wheel], text=True)
    found: dict[str, list[str]] = {}
    for symbol in re.findall(r" U (\S+)$", listed, re.M):
        name, _, library = symbol.partition("@")
        if name.startswith("cu") and not library:
            library = DRIVER
        found.setdefault(library, []).append(name)
    return found


def _names_looked_up(wheel: Path) -> list[str]:
    """The functions of cuDNN, which onnxruntime loads by name."""
    names = re.findall(rb"(?<=\0)cudnn[A-Z]\w+(?=\0)", wheel.read_bytes())
    return sorted({name.decode() for name in names})


def _compile(folder: Path, library: str, names: list[str], sources: list[Path]) -> None:
    code, version = folder / f"{library}.c", folder / f"{library}.map"
    code.write_text(DECLARED + "".join(_stub(name, library) for name in names))
    version.write_text(f"{library} {{ global: *; }};\n")
    linked = ["-pthread"] if library == RUNTIME else [folder / RUNTIME]
    done = subprocess.run(
        ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-isystem", HEADERS, f"-I{FOLDER}",
         f"-Wl,-soname,{library}", f"-Wl,--version-script={version}", "-Wl,--no-as-needed",
         "-o", folder / library, code, *sources, *linked],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise CannotBuildError(f"{library}: gcc failed:\n{done.stderr}")


def _stub(name: str, library: str) -> str:
    """A function of any arguments. Of the runtime, what nobody has thought of yet refuses."""
    if name in OTHERS:
        body = OTHERS[name]
    elif name in ANSWERS:
        place, kind, value = ANSWERS[name]
        body = f"*({kind} *)a{place} = {value}; return 0;"
    elif name.endswith(("String", "Name")):
        body = 'return (long)"stand-in";'
    elif library == DRIVER or name in SILENT:
        body = "return 0;"
    elif library == RUNTIME:
        body = f'return refuse({NOT_SUPPORTED}, "{name}");'
    elif "Create" in name:
        body = "*(void **)a0 = new_handle(); return 0;"
    else:
        body = f'return library_call("{name}");'
    arguments = ", ".join(f"long a{place}" for place in range(10))
    return f"long {name}({arguments}) {{ {body} }}\n"
