/* The device: like an A100, as far as onnxruntime asks. */
#include "account.h"

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *found, int number) {
    *found = (struct cudaDeviceProp){
        .name = "stand-in",
        .major = 8,
        .minor = 0,
        .totalGlobalMem = device_total(),
        .multiProcessorCount = 108,
        .warpSize = 32,
        .maxThreadsPerBlock = 1024,
        .maxThreadsPerMultiProcessor = 2048,
        .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535},
        .sharedMemPerBlock = 49152,
        .sharedMemPerBlockOptin = 166912,
        .sharedMemPerMultiprocessor = 167936,
        .regsPerBlock = 65536,
        .regsPerMultiprocessor = 65536,
        .l2CacheSize = 40 << 20,
    };
    return cudaSuccess;
}
