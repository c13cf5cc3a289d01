"""Texts of the GPU's libraries, as they were met, become a sentence and a remedy."""

from __future__ import annotations

import pytest

from laglite.backends.library_errors import explain

# onnxruntime-gpu 1.31.1 with and without CUDA's wheels, without a driver, and with a library in the
# driver's place that gives the error; the rest from reports of users.
CALL = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:146 "
    "std::conditional_t<THRW, void, onnxruntime::common::Status> onnxruntime::CudaCall(ERRTYPE, "
    "const char*, const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = cudaError; "
    "bool THRW = true; SUCCTYPE = cudaError] "
)
WHERE = (
    " ; GPU=-1 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/"
    "cuda_execution_provider.cc ; line=355 ; expr=cudaSetDevice(info_.device_id); \n\n"
)
TEXTS = {
    "libcuda.so.1: cannot open shared object file: No such file or directory": (
        "there is no NVIDIA driver",
        "docker run --gpus all",
    ),
    f"{CALL}CUDA failure 100: no CUDA-capable device is detected{WHERE}": (
        "the NVIDIA driver finds no GPU",
        "CUDA_VISIBLE_DEVICES",
    ),
    f"{CALL}CUDA failure 3: initialization error{WHERE}": (
        "CUDA cannot start in this process",
        "after the fork",
    ),
    f"{CALL}CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version{WHERE}": (
        "the NVIDIA driver is older than the CUDA libraries",
        "update the driver",
    ),
    f"{CALL}CUDA failure 803: system has unsupported display driver / cuda driver "
    f"combination{WHERE}": (
        "the parts of the NVIDIA driver are of different versions",
        "restart the machine",
    ),
    f"{CALL}CUDA failure 802: system not yet initialized{WHERE}": (
        "the GPU is not ready yet",
        "nvidia-fabricmanager",
    ),
    f"{CALL}CUDA failure 804: forward compatibility was attempted on non supported HW{WHERE}": (
        "the NVIDIA driver is older than the CUDA libraries",
        "update the driver",
    ),
    f"{CALL}CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable{WHERE}": (
        "the GPU is busy or unavailable",
        "nvidia-smi",
    ),
    f"{CALL}CUDA failure 2: out of memory{WHERE}": (
        "the GPU's memory is full",
        "fewer series or paths",
    ),
    f"{CALL}CUDA failure 999: unknown error{WHERE}": (
        "for a reason it does not name",
        "nvidia-smi",
    ),
    "libcublasLt.so.13: cannot open shared object file: No such file or directory": (
        "a CUDA library was not found (libcublasLt.so.13)",
        "LD_LIBRARY_PATH",
    ),
    "libcudart.so.12: cannot open shared object file: No such file or directory": (
        "a CUDA library was not found (libcudart.so.12)",
        "LD_LIBRARY_PATH",
    ),
    "libcudnn.so.9: cannot open shared object file: No such file or directory": (
        "cuDNN was not found",
        "install cuDNN",
    ),
    "Error in execution: Non-zero status code returned while running ReduceMax node. Name:"
    "'h.0.attn/ReduceMax' Status Message: cuDNN is unavailable for CUDA Execution Provider: dlopen "
    "failed for libcudnn.so: libcudnn.so: cannot open shared object file: No such file": (
        "cuDNN was not found",
        "install cuDNN",
    ),
    "cuDNN is unavailable or disabled for CUDA Execution Provider: ": (
        "cuDNN was not found",
        "install cuDNN",
    ),
    "libnvinfer.so.10: cannot open shared object file: No such file or directory": (
        "the TensorRT that onnxruntime was built for was not found (libnvinfer.so.10)",
        "backend 'cuda'",
    ),
    "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::python::"
    "RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::ProviderOptions&) "
    "Please install TensorRT libraries as mentioned in the GPU requirements page, make sure "
    "they're in the PATH or LD_LIBRARY_PATH, and that your GPU is supported.\n": (
        "the TensorRT that onnxruntime was built for was not found",
        "backend 'cuda'",
    ),
    "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Add node. "
    "Name:'Add_15' Status Message: CUDA error cudaErrorNoKernelImageForDevice:no kernel image is "
    "available for execution on the device": (
        "no code for the GPU's compute capability",
        "Jetson",
    ),
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the "
    "default CPU EP, but fallback to CPU EP has been explicitly disabled by the user.": (
        "would run a part of the graph on the CPU",
        "update onnxruntime-gpu",
    ),
    "Error in execution: /onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:154 "
    "onnxruntime::CudaCall(ERRTYPE, const char*) [with ERRTYPE = cudaError] CUDA failure 901: "
    "operation failed due to a previous error during capture ; GPU=0 ; hostname=vm ; file=/onnx"
    "runtime_src/onnxruntime/core/providers/cuda/cuda_graph.cc ; line=61 ; expr=cudaStreamEndCap": (
        "did not record the work as a CUDA graph",
        "update the driver and onnxruntime-gpu",
    ),
    "[ONNXRuntimeError] : 1 : FAIL : This session cannot use the graph capture feature as "
    "requested by the user  as all compute graph nodes have not been partitioned to the "
    "CUDAExecutionProvider": (
        "would run a part of the graph on the CPU",
        "update onnxruntime-gpu",
    ),
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running "
    "FusedMatMul node. Status Message: /onnxruntime_src/onnxruntime/core/framework/"
    "bfc_arena.cc:331 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool) "
    "Failed to allocate memory for requested buffer of size 8388608000": (
        "the GPU's memory is full",
        "fewer series or paths",
    ),
    "/usr/lib/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by libonnxruntime.so)": (
        "the libraries of onnxruntime are of different versions",
        "onnxruntime-gpu",
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_known_text_becomes_a_sentence_and_a_remedy(text: str) -> None:
    problem, remedy = TEXTS[text]
    fault = explain(text)
    assert problem in fault.problem
    assert remedy in fault.remedy
    assert "\n" not in str(fault)
    assert not fault.problem.endswith(".")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("\n  something new happened.\nat line 3\n", "something new happened"),
        ("", "no reason was given"),
    ],
)
def test_an_unknown_text_is_shown_by_its_first_line(text: str, first: str) -> None:
    fault = explain(text)
    assert fault.problem == first
    assert "laglite info" in fault.remedy
