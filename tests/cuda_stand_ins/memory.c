/* Memory and copies. The device's memory is addresses that cannot be read or written: a host that
 * uses one without a copy crashes, as it should. What is copied from there is FILL in every byte,
 * which is a positive number as float32 (0.747) and as float16 (1.81). */
#define _GNU_SOURCE
#include "account.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FILL 0x3f
#define ALIGNMENT 512 /* of what CUDA gives out */

enum place { HOST, PINNED, DEVICE }; /* pinned is what CUDA allocated on the host */

struct block {
    char *start;
    size_t size;
    enum place place;
    struct block *next;
};

static const char *const names[] = {"host", "pinned", "device"};
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct block *blocks;
static size_t total = (size_t)40 << 30, used, peak;

size_t device_total(void) {
    return total;
}

/* For tests: the most that was used since the last call; and another size of the device. */
size_t stand_in_peak(void) {
    size_t found = peak;
    peak = used;
    return found;
}

void stand_in_resize(size_t bytes) {
    total = bytes;
}

static char *add_block(size_t size, enum place place) {
    int access = place == DEVICE ? PROT_NONE : PROT_READ | PROT_WRITE;
    char *start = mmap(NULL, size, access, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct block *block = malloc(sizeof *block);
    if (start == MAP_FAILED || block == NULL)
        abort();
    *block = (struct block){start, size, place, blocks};
    blocks = block;
    used += place == DEVICE ? size : 0;
    peak = used > peak ? used : peak;
    return start;
}

/* Memory is given and taken back when the device is done, and a captured stream never is: CUDA
 * forbids both to all threads (cudaStreamCaptureModeGlobal). */
static cudaError_t allocate(void **pointer, size_t size, enum place place) {
    size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (open_captures())
        return forbidden_in_capture("an allocation");
    pthread_mutex_lock(&mutex);
    *pointer = place != DEVICE || used + rounded <= total ? add_block(rounded, place) : NULL;
    pthread_mutex_unlock(&mutex);
    if (*pointer == NULL)
        return refuse(cudaErrorMemoryAllocation, "an allocation");
    account("allocate %s %zu", names[place], rounded);
    return cudaSuccess;
}

static cudaError_t give_back(void *pointer) {
    if (open_captures() && pointer != NULL)
        return forbidden_in_capture("to free memory");
    pthread_mutex_lock(&mutex);
    struct block **link = &blocks;
    while (*link != NULL && (*link)->start != pointer)
        link = &(*link)->next;
    struct block *found = *link;
    if (found != NULL) {
        *link = found->next;
        used -= found->place == DEVICE ? found->size : 0;
        munmap(found->start, found->size);
        free(found);
    }
    pthread_mutex_unlock(&mutex);
    if (found == NULL && pointer != NULL)
        return refuse(cudaErrorInvalidValue, "to free memory that was not allocated");
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **pointer, size_t size) {
    return allocate(pointer, size, DEVICE);
}

cudaError_t cudaMallocHost(void **pointer, size_t size) {
    return allocate(pointer, size, PINNED);
}

cudaError_t cudaFree(void *pointer) {
    return give_back(pointer);
}

cudaError_t cudaFreeHost(void *pointer) {
    return give_back(pointer);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *all) {
    *available = total > used ? total - used : 0;
    *all = total;
    return cudaSuccess;
}

/* The driver's; the stand-in of libcuda is linked to this library. */
int cuMemGetInfo_v2(size_t *available, size_t *all) {
    return cudaMemGetInfo(available, all);
}

static enum place place_of(const void *pointer) {
    const char *place = pointer;
    pthread_mutex_lock(&mutex);
    const struct block *each = blocks;
    while (each != NULL && (place < each->start || place >= each->start + each->size))
        each = each->next;
    enum place found = each != NULL ? each->place : HOST;
    pthread_mutex_unlock(&mutex);
    return found;
}

static cudaError_t copy(const char *how, void *to, const void *from, size_t size) {
    enum place target = place_of(to), source = place_of(from);
    account("%s %s from %s %zu", how, names[target], names[source], size);
    if (target != DEVICE && source == DEVICE)
        memset(to, FILL, size);
    else if (target != DEVICE)
        memmove(to, from, size);
    return cudaSuccess;
}

/* A synchronous copy goes through the legacy stream, which waits for the others: forbidden, too. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t size, enum cudaMemcpyKind kind) {
    return open_captures() ? forbidden_in_capture("a copy") : copy("copy", to, from, size);
}

/* An asynchronous one becomes a part of the graph, and is made again at every launch. */
cudaError_t cudaMemcpyAsync(
    void *to, const void *from, size_t size, enum cudaMemcpyKind kind, cudaStream_t on) {
    return copy("copy_async", to, from, size);
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t size, cudaStream_t on) {
    return cudaSuccess;
}
