/* The account of calls, and the errors of a thread. */
#define _GNU_SOURCE
#include "account.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUBLAS_STATUS_INTERNAL_ERROR 14

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static __thread cudaError_t last_error = cudaSuccess;

static FILE *log_file(void) {
    static FILE *file;
    if (file == NULL) {
        const char *path = getenv("STAND_INS_LOG");
        file = fopen(path != NULL ? path : "/dev/null", "a");
        if (file == NULL)
            abort();
        setvbuf(file, NULL, _IOLBF, 1 << 16);
    }
    return file;
}

void account(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&mutex);
    fprintf(log_file(), "%d %d ", gettid(), open_captures());
    vfprintf(log_file(), format, arguments);
    fputc('\n', log_file());
    pthread_mutex_unlock(&mutex);
    va_end(arguments);
}

cudaError_t refuse(cudaError_t error, const char *what) {
    account("refused %s: %s", what, cudaGetErrorString(error));
    last_error = error;
    return error;
}

int library_call(const char *name) {
    const char *unwanted = getenv("STAND_INS_REFUSE");
    account("call %s", name);
    if (unwanted == NULL || strcmp(unwanted, name) != 0 || open_captures() == 0)
        return 0;
    forbidden_in_capture(name);
    return CUBLAS_STATUS_INTERNAL_ERROR;
}

void *new_handle(void) {
    static uintptr_t count = 0x1000;
    return (void *)__atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
}

/* An error stays with its thread until the thread asks for it. */
cudaError_t cudaGetLastError(void) {
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error) {
    switch (error) {
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInvalidConfiguration:
        return "invalid configuration argument";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    default:
        return "an error";
    }
}
