/* Streams and the capture of graphs. Work is done when it is given, or not at all. */
#define _DEFAULT_SOURCE
#include "account.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define LINGER 10000 /* microseconds that a capture stays open, for other threads to run into */

struct CUstream_st {
    int capturing, lost;
    struct CUstream_st *next;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct CUstream_st *streams;

int open_captures(void) {
    int count = 0;
    pthread_mutex_lock(&mutex);
    for (const struct CUstream_st *each = streams; each != NULL; each = each->next)
        count += each->capturing;
    pthread_mutex_unlock(&mutex);
    return count;
}

cudaError_t forbidden_in_capture(const char *what) {
    pthread_mutex_lock(&mutex);
    for (struct CUstream_st *each = streams; each != NULL; each = each->next)
        each->lost = each->capturing;
    pthread_mutex_unlock(&mutex);
    return refuse(cudaErrorStreamCaptureUnsupported, what);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *made, unsigned flags) {
    struct CUstream_st *stream = calloc(1, sizeof *stream);
    pthread_mutex_lock(&mutex);
    stream->next = streams;
    *made = streams = stream;
    pthread_mutex_unlock(&mutex);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    pthread_mutex_lock(&mutex);
    struct CUstream_st **link = &streams;
    while (*link != stream)
        link = &(*link)->next;
    *link = stream->next;
    pthread_mutex_unlock(&mutex);
    free(stream);
    return cudaSuccess;
}

/* A captured stream does no work that could be waited for; NULL is the one that waits for all. */
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    if (stream != NULL ? stream->capturing : open_captures())
        return forbidden_in_capture("to wait for a stream");
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void) {
    return open_captures() ? forbidden_in_capture("to wait for the device") : cudaSuccess;
}

/* Of the modes, only the strictest is known here, which onnxruntime uses. */
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode) {
    if (stream == NULL || stream->capturing || mode != cudaStreamCaptureModeGlobal)
        return refuse(cudaErrorStreamCaptureUnsupported, "to begin a capture");
    stream->capturing = 1;
    stream->lost = 0;
    account("begin_capture");
    usleep(LINGER);
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
    account("end_capture");
    stream->capturing = 0;
    *graph = stream->lost ? NULL : new_handle();
    if (stream->lost)
        return refuse(cudaErrorStreamCaptureInvalidated, "to end a capture");
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *status) {
    *status = cudaStreamCaptureStatusNone;
    if (stream != NULL && stream->capturing)
        *status =
            stream->lost ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long how) {
    *made = new_handle();
    return graph != NULL ? cudaSuccess : refuse(cudaErrorInvalidValue, "to instantiate no graph");
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t on) {
    account("launch_graph %p", (void *)graph);
    return cudaSuccess;
}

/* A captured one would be called at every launch of the graph: onnxruntime captures none. */
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *argument) {
    if (stream != NULL && stream->capturing)
        return refuse(cudaErrorNotSupported, "to capture a call of the host");
    function(argument);
    return cudaSuccess;
}
