/* A stand-in for the CUDA driver, as strict as it is in what ckptd uses of it.

   "Device" memory is host memory. A stream is a thread that does what it was given in order, each after a pause: who
   does not wait for it sees what was there before. Memory that was freed is overwritten. A call without a current
   context, with memory that nobody has, or with a stream that was closed is an error, as it is with the real one. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_REGISTERED = 713,
       ALREADY_REGISTERED = 712, INVALID_HANDLE = 400, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900 };
enum { DEVICES = 2, MOST = 4096 };

typedef struct Work { struct Work *next; int kind; char *to; const char *from; size_t bytes; int fails; } Work;
typedef struct Stream {
    int device, closed;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t more, done;
    Work *first, *last;
    int pending, failed;
} Stream;
typedef struct { char *at; size_t bytes; int device; } Block;
enum { COPY, FREE };

static pthread_mutex_t all = PTHREAD_MUTEX_INITIALIZER;
static Block blocks[MOST], pinned[MOST];
static Stream *streams[MOST];
static size_t total[DEVICES] = {(size_t)80 << 30, (size_t)80 << 30}, used[DEVICES];
static int program_uses[DEVICES] = {1, 1};
static long pause_us = 200, retained[DEVICES], copies_to_host, copies_to_pinned, copies_aside, fail_in = -1;
static __thread intptr_t current; /* number of the device, from 1 */
static __thread int mode; /* of captures: global, thread local, relaxed */

/* ---- what tests set and see ---- */

void fake_reset(size_t bytes, long pause) {
    for (int d = 0; d < DEVICES; d++) total[d] = bytes;
    pause_us = pause;
    copies_to_host = copies_to_pinned = copies_aside = 0;
    fail_in = -1;
}
/* Whether the program has something on a device. */
void fake_use(int device, int uses) { program_uses[device] = uses; }
void fake_fail_in(long copies) { fail_in = copies; }
long fake_copies(int which) { return which == 0 ? copies_to_host : which == 1 ? copies_to_pinned : copies_aside; }
size_t fake_used(void) { return used[0] + used[1]; }
long fake_open(void) {
    long count = 0;
    for (int i = 0; i < MOST; i++) count += streams[i] != NULL;
    return count + retained[0] + retained[1];
}
long fake_pinned(void) {
    long count = 0;
    for (int i = 0; i < MOST; i++) count += pinned[i].at != NULL;
    return count;
}
void *fake_current(void) { return (void *)current; }
/* Memory of the "program's" on a device. */
int fake_give(int device, char *at, size_t bytes) {
    for (int i = 0; i < MOST; i++)
        if (!blocks[i].at) { blocks[i] = (Block){at, bytes, device}; return OK; }
    return OUT_OF_MEMORY;
}
void fake_forget(char *at) {
    for (int i = 0; i < MOST; i++) if (blocks[i].at == at) blocks[i].at = NULL;
}

/* ---- inside ---- */

static int has(Block *table, const char *at, size_t bytes) {
    for (int i = 0; i < MOST; i++)
        if (table[i].at && at >= table[i].at && at + bytes <= table[i].at + table[i].bytes) return 1;
    return 0;
}
static int touches(Block *table, const char *at, size_t bytes) {
    for (int i = 0; i < MOST; i++)
        if (table[i].at && at < table[i].at + table[i].bytes && table[i].at < at + bytes) return 1;
    return 0;
}
static void give_back(char *at) {
    pthread_mutex_lock(&all);
    for (int i = 0; i < MOST; i++)
        if (blocks[i].at == at) {
            used[blocks[i].device] -= blocks[i].bytes;
            memset(at, 0xDD, blocks[i].bytes);
            free(at);
            blocks[i].at = NULL;
        }
    pthread_mutex_unlock(&all);
}
static void *serve(void *given) {
    Stream *s = given;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->first && !s->closed) pthread_cond_wait(&s->more, &s->lock);
        if (!s->first) break;
        Work *work = s->first;
        s->first = work->next;
        if (!s->first) s->last = NULL;
        pthread_mutex_unlock(&s->lock);
        if (pause_us) usleep(pause_us);
        if (work->kind == COPY && !work->fails) memcpy(work->to, work->from, work->bytes);
        if (work->kind == FREE) give_back(work->to);
        pthread_mutex_lock(&s->lock);
        if (work->fails) s->failed = LAUNCH_FAILED;
        free(work);
        s->pending--;
        pthread_cond_broadcast(&s->done);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}
static int known(Stream *s) {
    for (int i = 0; i < MOST; i++) if (s && streams[i] == s) return s->device == current;
    return 0;
}
static int hand(Stream *s, int kind, char *to, const char *from, size_t bytes) {
    if (!known(s)) return INVALID_HANDLE;
    Work *work = calloc(1, sizeof *work);
    *work = (Work){NULL, kind, to, from, bytes, kind == COPY && fail_in >= 0 && fail_in-- == 0};
    pthread_mutex_lock(&s->lock);
    if (s->last) s->last->next = work; else s->first = work;
    s->last = work;
    s->pending++;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    return OK;
}

/* ---- the driver's ---- */

int cuDeviceGet(int *device, int number) {
    if (number < 0 || number >= DEVICES) return INVALID_DEVICE;
    *device = number;
    return OK;
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
    retained[device]++;
    *context = (void *)(intptr_t)(device + 1);
    return OK;
}
int cuDevicePrimaryCtxRelease_v2(int device) {
    if (--retained[device] || program_uses[device]) return OK;
    for (int i = 0; i < MOST; i++) if (pinned[i].at && pinned[i].device == device) pinned[i].at = NULL; /* with it */
    return OK;
}
int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    *flags = 0;
    *active = program_uses[device] || retained[device];
    return OK;
}
int cuCtxGetCurrent(void **context) { *context = (void *)current; return OK; }
int cuCtxSetCurrent(void *context) { current = (intptr_t)context; return OK; }
int cuThreadExchangeStreamCaptureMode(int *given) {
    int before = mode;
    if (*given < 0 || *given > 2) return INVALID_VALUE;
    mode = *given;
    *given = before;
    return OK;
}
int fake_mode(void) { return mode; }
int cuStreamSynchronize(Stream *s) {
    if (!current) return INVALID_CONTEXT;
    if (!known(s)) return INVALID_HANDLE;
    pthread_mutex_lock(&s->lock);
    while (s->pending) pthread_cond_wait(&s->done, &s->lock);
    int failed = s->failed;
    pthread_mutex_unlock(&s->lock);
    return failed;
}
int cuCtxSynchronize(void) {
    if (!current) return INVALID_CONTEXT;
    int failed = OK;
    for (int i = 0; i < MOST; i++)
        if (streams[i] && streams[i]->device == current && !failed) failed = cuStreamSynchronize(streams[i]);
    return failed;
}
int cuMemGetInfo_v2(size_t *free_bytes, size_t *all_bytes) {
    if (!current) return INVALID_CONTEXT;
    *free_bytes = total[current - 1] - used[current - 1];
    *all_bytes = total[current - 1];
    return OK;
}
int cuStreamCreate(Stream **stream, unsigned flags) {
    if (!current) return INVALID_CONTEXT;
    if (flags != 1) return INVALID_VALUE;
    pthread_mutex_lock(&all);
    for (int i = 0; i < MOST; i++)
        if (!streams[i]) {
            Stream *s = *stream = streams[i] = calloc(1, sizeof **stream);
            s->device = current;
            pthread_mutex_init(&s->lock, NULL);
            pthread_cond_init(&s->more, NULL);
            pthread_cond_init(&s->done, NULL);
            pthread_create(&s->thread, NULL, serve, s);
            pthread_mutex_unlock(&all);
            return OK;
        }
    pthread_mutex_unlock(&all);
    return OUT_OF_MEMORY;
}
int cuStreamDestroy_v2(Stream *s) {
    if (!current) return INVALID_CONTEXT;
    if (!known(s)) return INVALID_HANDLE;
    pthread_mutex_lock(&s->lock);
    s->closed = 1;
    pthread_cond_signal(&s->more);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    for (int i = 0; i < MOST; i++) if (streams[i] == s) streams[i] = NULL;
    free(s);
    return OK;
}
int cuMemAllocAsync(uint64_t *address, size_t bytes, Stream *s) {
    if (!current) return INVALID_CONTEXT;
    if (mode != 2) return CAPTURE_UNSUPPORTED;
    if (!known(s)) return INVALID_HANDLE;
    if (used[current - 1] + bytes > total[current - 1]) return OUT_OF_MEMORY;
    char *at = malloc(bytes);
    if (!at) return OUT_OF_MEMORY;
    memset(at, 0xCC, bytes);
    pthread_mutex_lock(&all);
    used[current - 1] += bytes;
    int failed = fake_give((int)current - 1, at, bytes);
    pthread_mutex_unlock(&all);
    *address = (uint64_t)(uintptr_t)at;
    return failed;
}
int cuMemFreeAsync(uint64_t address, Stream *s) { return hand(s, FREE, (char *)(uintptr_t)address, NULL, 0); }
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, Stream *s) {
    if (!has(blocks, (char *)(uintptr_t)to, bytes) || !has(blocks, (char *)(uintptr_t)from, bytes)) return INVALID_VALUE;
    copies_aside++;
    return hand(s, COPY, (char *)(uintptr_t)to, (char *)(uintptr_t)from, bytes);
}
int cuMemcpyDtoHAsync_v2(char *to, uint64_t from, size_t bytes, Stream *s) {
    if (!has(blocks, (char *)(uintptr_t)from, bytes)) return INVALID_VALUE;
    if (!has(pinned, to, bytes) && touches(pinned, to, bytes)) return INVALID_VALUE; /* half of it is locked */
    copies_to_host++;
    copies_to_pinned += has(pinned, to, bytes);
    return hand(s, COPY, to, (char *)(uintptr_t)from, bytes);
}
int cuMemHostRegister_v2(char *at, size_t bytes, unsigned flags) {
    if (!current) return INVALID_CONTEXT;
    if (mode != 2) return CAPTURE_UNSUPPORTED; /* somebody may record a graph */
    if (flags != 1) return INVALID_VALUE;
    for (int i = 0; i < MOST; i++)
        if (pinned[i].at && at < pinned[i].at + pinned[i].bytes && pinned[i].at < at + bytes) return ALREADY_REGISTERED;
    for (int i = 0; i < MOST; i++)
        if (!pinned[i].at) { pinned[i] = (Block){at, bytes, (int)current - 1}; return OK; }
    return OUT_OF_MEMORY;
}
int cuMemHostUnregister(char *at) {
    if (!current) return INVALID_CONTEXT;
    if (mode != 2) return CAPTURE_UNSUPPORTED;
    for (int i = 0; i < MOST; i++) if (pinned[i].at == at) { pinned[i].at = NULL; return OK; }
    return NOT_REGISTERED;
}
