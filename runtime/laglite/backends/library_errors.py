"""What the texts of CUDA, cuDNN, TensorRT and onnxruntime mean: one sentence and a remedy each."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass

GPU_WHEEL = (
    "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'laglite[gpu]'"
    if platform.machine() in ("x86_64", "AMD64")
    else "put the onnxruntime-gpu made for this machine (a Jetson: of its JetPack) in its place"
)
DRIVER_PAGE = "https://www.nvidia.com/drivers"
# Texts of a full memory, with the bytes that were asked for where they say it.
NO_MEMORY = re.compile(
    r"Failed to allocate memory for requested buffer of size (?P<asked>\d+)"
    r"|CUDA failure 2: |cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED|out of memory"
)


@dataclass(frozen=True)
class Fault:
    """Why something cannot run, without a full stop, and what to do about it."""

    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}"


# The first pattern that is found in a text explains it; {name} is what the pattern calls so.
TABLE = [
    (
        r"libcuda\.so\.1: cannot open",
        "there is no NVIDIA driver (libcuda.so.1 was not found)",
        f"install the GPU's driver ({DRIVER_PAGE}); in a container, start it with the GPUs "
        "(docker run --gpus all)",
    ),
    (
        r"CUDA failure 100: |no CUDA-capable device|CUDA_ERROR_NO_DEVICE|cudaErrorNoDevice",
        "the NVIDIA driver finds no GPU",
        "see that nvidia-smi lists one, and that CUDA_VISIBLE_DEVICES does not hide it",
    ),
    (
        r"CUDA failure 3: |CUDA_ERROR_NOT_INITIALIZED|cudaErrorInitializationError",
        "CUDA cannot start in this process, as in one forked from another that used it",
        "load the model after the fork, or start processes by 'spawn'",
    ),
    (
        r"CUDA failure 35: |driver version is insufficient|cudaErrorInsufficientDriver"
        r"|CUDA failure 804: ",
        "the NVIDIA driver is older than the CUDA libraries",
        f"update the driver ({DRIVER_PAGE}), or install an onnxruntime-gpu made for an older CUDA",
    ),
    (
        r"CUDA failure 803: |unsupported display driver|CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
        "the parts of the NVIDIA driver are of different versions",
        "restart the machine, since the driver was updated while it ran",
    ),
    (
        r"CUDA failure 802: |system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY",
        "the GPU is not ready yet",
        "start the fabric manager that the GPU's machine needs (nvidia-fabricmanager)",
    ),
    (
        r"CUDA failure 46: |cudaErrorDevicesUnavailable",
        "the GPU is busy or unavailable",
        "see in nvidia-smi whether another program has it to itself",
    ),
    (
        r"CUDA failure 999: |CUDA_ERROR_UNKNOWN",
        "the NVIDIA driver failed for a reason it does not name",
        "see that nvidia-smi runs, and restart the machine if it does not",
    ),
    (
        r"no kernel image is available|cudaErrorNoKernelImageForDevice|cudaErrorInvalidDeviceFunct",
        "this onnxruntime holds no code for the GPU's compute capability",
        "install a wheel or build that does: an older onnxruntime-gpu for an older GPU, a newer "
        "one for a newer GPU, one of its own for a Jetson",
    ),
    (
        r"(?P<name>libcudnn[\w-]*\.so[.\d]*): cannot open|cuDNN is unavailable"
        r"|CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN was not found, or is of another version than onnxruntime needs{name}",
        f"install cuDNN: {GPU_WHEEL}",
    ),
    (
        r"(?P<name>lib(?:nvinfer|nvonnxparser)[\w-]*\.so[.\d]*): cannot open"
        r"|install TensorRT libraries",
        "the TensorRT that onnxruntime was built for was not found{name}",
        "pip install the tensorrt of that version, or use backend 'cuda'",
    ),
    (
        r"(?P<name>lib(?:cublas|cublasLt|cudart|curand|cufft|nvrtc|nvJitLink)\.so[.\d]*): cannot",
        "a CUDA library was not found{name}",
        f"{GPU_WHEEL}; or put the CUDA of that version on LD_LIBRARY_PATH",
    ),
    (
        r"version `[^']+' not found|undefined symbol: ",
        "the libraries of onnxruntime are of different versions",
        GPU_WHEEL,
    ),
    (
        r"explicitly disabled by the user|have not been partitioned to the CUDAExecutionProvider",
        "onnxruntime would run a part of the graph on the CPU",
        "update onnxruntime-gpu, or use backend 'cpu'",
    ),
    (
        r"CUDA failure 90\d: ",
        "CUDA did not record the work as a CUDA graph",
        "update the driver and onnxruntime-gpu, and use the GPU for nothing else in this process",
    ),
    (
        NO_MEMORY.pattern,
        "the GPU's memory is full",
        "forecast fewer series or paths at once, a shorter horizon or context, or use backend "
        "'cpu'",
    ),
]


def explain(text: str) -> Fault:
    """The fault behind a library's text; of one not known, its first line."""
    for pattern, problem, remedy in TABLE:
        found = re.search(pattern, text)
        if found is not None:
            name = found.groupdict().get("name")
            return Fault(problem.replace("{name}", f" ({name})" if name else ""), remedy)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0] if lines else "no reason was given"
    return Fault(first.rstrip("."), "laglite info says what can run here")
