/* Kernels: known by name, they compute nothing; but CUDA must be able to launch them. */
#include "account.h"

#include <stdio.h>
#include <stdlib.h>

struct kernel {
    const void *function;
    const char *name;
    struct kernel *next;
};

struct configuration {
    dim3 grid, block;
    size_t shared;
    cudaStream_t stream;
};

static struct kernel *kernels;
static __thread struct configuration pushed; /* by <<<...>>>, for the function behind it */

void **__cudaRegisterFatBinary(void *binary) {
    static void *handle;
    return &handle;
}

void __cudaRegisterFunction(void **binary, const char *function, char *device, const char *name,
    int limit, uint3 *thread, uint3 *block, dim3 *block_size, dim3 *grid_size, int *warp) {
    struct kernel *kernel = malloc(sizeof *kernel);
    *kernel = (struct kernel){function, name, kernels};
    kernels = kernel;
}

static const char *name_of(const void *function) {
    const struct kernel *each = kernels;
    while (each != NULL && each->function != function)
        each = each->next;
    return each != NULL ? each->name : "an unknown kernel";
}

/* The limits of compute capability 8.0; shared memory is that of a kernel that asked for more. */
static int can_run(dim3 grid, dim3 block, size_t shared) {
    unsigned long threads = (unsigned long)block.x * block.y * block.z;
    return grid.x && grid.x <= 2147483647u && grid.y && grid.y <= 65535 && grid.z &&
           grid.z <= 65535 && threads && threads <= 1024 && block.z <= 64 && shared <= 166912;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared, cudaStream_t stream) {
    pushed = (struct configuration){grid, block, shared, stream};
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared, void *stream) {
    *grid = pushed.grid;
    *block = pushed.block;
    *shared = pushed.shared;
    *(cudaStream_t *)stream = pushed.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function) {
    *kernel = (cudaKernel_t)function;
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(
    cudaKernel_t kernel, dim3 grid, dim3 block, void **given, size_t shared, cudaStream_t on) {
    char what[400];
    enum cudaStreamCaptureStatus status;
    cudaStreamIsCapturing(on, &status);
    if (status == cudaStreamCaptureStatusInvalidated)
        return refuse(cudaErrorStreamCaptureInvalidated, "a kernel");
    if (can_run(grid, block, shared)) {
        account("launch_kernel");
        return cudaSuccess;
    }
    snprintf(what, sizeof what, "grid %u,%u,%u block %u,%u,%u shared %zu of %s", grid.x, grid.y,
        grid.z, block.x, block.y, block.z, shared, name_of(kernel));
    return refuse(cudaErrorInvalidConfiguration, what);
}
