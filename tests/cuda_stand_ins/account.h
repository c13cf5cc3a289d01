/* What the stand-ins share: one account of all calls, kept in that of libcudart. */
#pragma once

#include <cuda_runtime_api.h>
#include <stddef.h>

/* Write a line to the file named by STAND_INS_LOG: thread, open captures, and what is said here. */
void account(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Write that CUDA refuses a call, and make `error` what cudaGetLastError tells this thread. */
cudaError_t refuse(cudaError_t error, const char *what);

/* A call of a library above CUDA, which returns an error or 0. The one that STAND_INS_REFUSE names
 * does in a capture what CUDA forbids there. */
int library_call(const char *name);

/* A pointer that nobody follows, another one each time. */
void *new_handle(void);

/* How many streams are being captured. */
int open_captures(void);

/* Refuse what CUDA forbids to all threads while one captures: the open captures are lost, too. */
cudaError_t forbidden_in_capture(const char *what);

size_t device_total(void);
