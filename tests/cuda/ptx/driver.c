/* A CUDA driver without a GPU: libcuda.so.1, as far as numba-cuda and cuda.core call it.
 *
 * Kernels are translated from PTX to C (translate.py); here each CUDA thread is a fiber, and fibers
 * run one at a time, in random order, from one meeting to the next. Meetings are those of the
 * hardware: a barrier of a block, a warp or the grid, and a shuffle. What is checked:
 *
 *   memory    every access lies within one allocation, or one variable in shared memory, and is
 *             aligned; new memory, and shared memory of a new block, is filled with NaN
 *   races     two threads touch one word, one of them writes, and no barrier of the block, the warp
 *             or the grid that both have met lies between
 *   meetings  all threads of the warp, block or grid come, none has ended
 *   streams   work waits until something asks for it, or for a random while: copies from pinned
 *             memory that is filled again too early, and waits that are missing, show
 *
 * A failed check is reported on stderr, and the launch fails as on a GPU, at the next call that
 * waits.
 */
#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "thread.h"

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, LAUNCH_FAILED = 719 };
enum { PROCESSORS = 3, WARP = 32, STACK = 1 << 17, MOST_THREADS = 1024, TOO_MANY_BLOCKS = 720 };

static int failed; /* the sticky error of the context */
static sigjmp_buf abandon;
static int running;

static char told[1024];

static void fail(const char *format, ...) {
  va_list rest;
  va_start(rest, format);
  vsnprintf(told, sizeof told, format, rest);
  va_end(rest);
  fprintf(stderr, "PTX emulator: %s\n", told);
  failed = LAUNCH_FAILED;
  if (running) longjmp(abandon, 1);
}

static uint32_t random_state = 1;
static uint32_t draw(uint32_t below) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 17;
  random_state ^= random_state << 5;
  return random_state % below;
}

#include "allocations.h"
#include "fibers.h"
#include "races.h"
#include "launches.h"
#include "streams.h"

/* ------------------------------------------------------------------------------------------ */
/* The functions of the driver                                                                */
/* ------------------------------------------------------------------------------------------ */

#define API __attribute__((visibility("default"))) int

static int the_context, pushed;

API cuInit(unsigned flags) { return SUCCESS; }
API cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
API cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
API cuDeviceGet(int *device, int number) { *device = number; return number ? 101 : SUCCESS; }
API cuDeviceGetName(char *name, int length, int device) {
  snprintf(name, length, "PTX emulator");
  return SUCCESS;
}
API cuDeviceGetUuid_v2(char *uuid, int device) { memset(uuid, 7, 16); return SUCCESS; }
API cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 1ul << 34; return SUCCESS; }

API cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: *value = MOST_THREADS; break;
    case 2: case 3: *value = MOST_THREADS; break;
    case 4: *value = 64; break;
    case 5: *value = 2147483647; break;
    case 6: case 7: *value = 65535; break;
    case 8: *value = 48 << 10; break;
    case 10: *value = WARP; break;
    case 12: *value = 65536; break;
    case 16: *value = PROCESSORS; break;
    case 41: case 95: case 31: case 40: *value = 1; break; /* unified addresses, cooperative */
    case 75: *value = 9; break;
    case 76: *value = 0; break;
    default: *value = 0;
  }
  return SUCCESS;
}

API cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &the_context;
  return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
API cuDevicePrimaryCtxReset_v2(int device) { return finish_all(); }
API cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
  *flags = 0;
  *active = 1;
  return SUCCESS;
}
API cuCtxGetCurrent(void **context) { *context = pushed ? &the_context : NULL; return SUCCESS; }
API cuCtxSetCurrent(void *context) { pushed = context != NULL; return SUCCESS; }
API cuCtxPushCurrent_v2(void *context) { pushed++; return SUCCESS; }
API cuCtxPopCurrent_v2(void **context) {
  if (pushed > 0) pushed--;
  if (context) *context = &the_context;
  return SUCCESS;
}
API cuCtxGetDevice(int *device) { *device = 0; return pushed ? SUCCESS : 201; }
API cuCtxGetDevice_v2(int *device, void *context) { *device = 0; return SUCCESS; }
API cuCtxSynchronize(void) { return finish_all(); }
API cuCtxGetStreamPriorityRange(int *least, int *most) { *least = *most = 0; return SUCCESS; }

API cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
  *free_bytes = *total = 1ul << 34;
  return SUCCESS;
}
API cuMemAlloc_v2(uint64_t *address, size_t bytes) {
  *address = (uint64_t)allocate(bytes, 0);
  return *address ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFree_v2(uint64_t address) {
  finish_all(); /* as the driver does */
  return release(address);
}
API cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  *address = allocate(bytes, 1);
  return *address ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFreeHost(void *address) {
  finish_all();
  return release((uint64_t)address);
}
API cuMemGetAddressRange_v2(uint64_t *base, size_t *bytes, uint64_t address) {
  allocation *a = find(address);
  if (!a) return NOT_FOUND;
  if (base) *base = (uint64_t)a->base;
  if (bytes) *bytes = a->size;
  return SUCCESS;
}
API cuPointerGetAttribute(void *value, int attribute, uint64_t address) {
  allocation *a = find(address);
  if (!a) return INVALID_VALUE;
  if (attribute == 1) *(void **)value = &the_context;
  else if (attribute == 2) *(int *)value = a->pinned ? 1 : 2;
  else if (attribute == 3) *(uint64_t *)value = address;
  else if (attribute == 8) *(int *)value = 0;
  else if (attribute == 9) *(int *)value = 0;
  else return INVALID_VALUE;
  return SUCCESS;
}

API cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *handle) {
  if (!on_device(to, bytes)) return INVALID_VALUE;
  return copy(to, (uint64_t)from, bytes, stream_of(handle), !is_pinned((uint64_t)from), 0);
}
API cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t bytes) {
  if (!on_device(to, bytes)) return INVALID_VALUE;
  return copy(to, (uint64_t)from, bytes, &default_stream, 0, 1);
}
API cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *handle) {
  if (!on_device(from, bytes)) return INVALID_VALUE;
  return copy((uint64_t)to, from, bytes, stream_of(handle), 0, !is_pinned((uint64_t)to));
}
API cuMemcpyDtoH_v2(void *to, uint64_t from, size_t bytes) {
  if (!on_device(from, bytes)) return INVALID_VALUE;
  return copy((uint64_t)to, from, bytes, &default_stream, 0, 1);
}
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *handle) {
  if (!on_device(to, bytes) || !on_device(from, bytes)) return INVALID_VALUE;
  return copy(to, from, bytes, stream_of(handle), 0, 0);
}
API cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t bytes) {
  if (!on_device(to, bytes) || !on_device(from, bytes)) return INVALID_VALUE;
  return copy(to, from, bytes, &default_stream, 0, 0);
}
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, void *handle) {
  if (!on_device(to, bytes)) return INVALID_VALUE;
  work *w = calloc(1, sizeof *w);
  w->kind = FILL;
  w->to = (char *)to;
  w->bytes = bytes;
  w->value = value;
  queue(stream_of(handle), w);
  return failed;
}
API cuMemsetD8_v2(uint64_t to, unsigned char value, size_t bytes) {
  return cuMemsetD8Async(to, value, bytes, NULL);
}

API cuStreamCreate(void **handle, unsigned flags) {
  stream *s = calloc(1, sizeof *s);
  s->blocking = !(flags & 1);
  s->next = streams->next;
  streams->next = s;
  *handle = s;
  return SUCCESS;
}
API cuStreamCreateWithPriority(void **handle, unsigned flags, int priority) {
  return cuStreamCreate(handle, flags);
}
API cuStreamDestroy_v2(void *handle) { return finish(stream_of(handle)); } /* events may name it */
API cuStreamSynchronize(void *handle) { return finish(stream_of(handle)); }
API cuStreamQuery(void *handle) { return finish(stream_of(handle)); }
API cuStreamGetCtx(void *handle, void **context) { *context = &the_context; return SUCCESS; }
API cuStreamGetFlags(void *handle, unsigned *flags) {
  *flags = !stream_of(handle)->blocking;
  return SUCCESS;
}
API cuStreamIsCapturing(void *handle, int *status) { *status = 0; return SUCCESS; }
API cuStreamGetPriority(void *handle, int *priority) { *priority = 0; return SUCCESS; }

API cuEventCreate(void **handle, unsigned flags) {
  *handle = calloc(1, sizeof(event));
  return SUCCESS;
}
API cuEventDestroy_v2(void *handle) { free(handle); return SUCCESS; }
API cuEventRecord(void *handle, void *on) {
  stream *s = stream_of(on);
  ((event *)handle)->recorded = (moment){s, s->queued};
  return failed;
}
API cuEventSynchronize(void *handle) {
  moment m = ((event *)handle)->recorded;
  if (m.stream) run_until(m.stream, m.count);
  return failed;
}
API cuEventQuery(void *handle) { return cuEventSynchronize(handle); }
API cuEventElapsedTime_v2(float *milliseconds, void *start, void *end) {
  *milliseconds = 1.0f;
  return failed;
}
API cuEventElapsedTime(float *milliseconds, void *start, void *end) {
  return cuEventElapsedTime_v2(milliseconds, start, end);
}
API cuStreamWaitEvent(void *handle, void *what, unsigned flags) {
  stream *s = stream_of(handle);
  moment m = ((event *)what)->recorded;
  if (!m.stream || m.stream == s) return failed;
  if (s->n_waits == 8) fail("too many waits");
  else s->waits[s->n_waits++] = m;
  return failed;
}

/* For the emulator's own tests: what failed; the error is then forgotten. */
__attribute__((visibility("default"))) const char *ptx_failure(void) {
  failed = SUCCESS;
  return told;
}

/* A module is the path of a shared library, which machine.py has built from its PTX. */
API cuLibraryLoadData(void **library, const void *code, int *jit, void **jit_values, unsigned n_jit,
                      int *options, void **values, unsigned n_options) {
  *library = dlopen((const char *)code, RTLD_NOW | RTLD_LOCAL);
  if (*library) return SUCCESS;
  fprintf(stderr, "PTX emulator: %s\n", dlerror());
  return 200;
}
API cuLibraryUnload(void *library) { return SUCCESS; }
API cuLibraryGetKernel(void **found, void *library, const char *name) {
  for (const kernel *k = dlsym(library, "kernels"); k->name; k++)
    if (!strcmp(k->name, name)) {
      *found = (void *)k;
      return SUCCESS;
    }
  return NOT_FOUND;
}
API cuKernelGetFunction(void **function, void *k) { *function = k; return SUCCESS; }
API cuKernelGetLibrary(void **library, void *k) { *library = NULL; return SUCCESS; }
API cuKernelGetAttribute(int *value, int attribute, void *k, int device) {
  *value = attribute == 0 ? MOST_THREADS : attribute == 1 ? ((kernel *)k)->shared_bytes : 0;
  return SUCCESS;
}
API cuFuncGetAttribute(int *value, int attribute, void *k) {
  return cuKernelGetAttribute(value, attribute, k, 0);
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *k, int threads, size_t dynamic) {
  *blocks = 1;
  return SUCCESS;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, void *k, int threads,
                                                         size_t dynamic, unsigned flags) {
  *blocks = 1;
  return SUCCESS;
}

typedef struct {
  unsigned grid[3], block[3], dynamic_shared;
  void *stream;
  struct {
    int what;
    char padding[4];
    union { char room[64]; int cooperative; } value;
  } *attributes;
  unsigned n_attributes;
} launch_config;

API cuLaunchKernelEx(const launch_config *config, void *function, void **parameters, void **extra) {
  const kernel *k = function;
  work *w = calloc(1, sizeof *w);
  w->kind = LAUNCH;
  w->launch.kernel = k;
  memcpy(w->launch.grid, config->grid, sizeof config->grid);
  memcpy(w->launch.block, config->block, sizeof config->block);
  for (unsigned i = 0; i < config->n_attributes; i++)
    if (config->attributes[i].what == 2)
      w->launch.cooperative = config->attributes[i].value.cooperative;
  uint64_t threads = (uint64_t)config->block[0] * config->block[1] * config->block[2];
  uint64_t blocks = (uint64_t)config->grid[0] * config->grid[1] * config->grid[2];
  if (!threads || threads > MOST_THREADS || !blocks || config->grid[1] > 65535 ||
      k->shared_bytes > 48 << 10 || config->dynamic_shared)
    return INVALID_VALUE;
  if (w->launch.cooperative && blocks > PROCESSORS) return TOO_MANY_BLOCKS;
  size_t room = 16;
  for (const int *size = k->parameter_sizes; *size; size++) room += 2 * *size;
  char *at = w->launch.parameters = malloc(room);
  for (int i = 0; k->parameter_sizes[i]; i++) {
    int size = k->parameter_sizes[i];
    at = w->launch.parameters + (at - w->launch.parameters + size - 1) / size * size;
    memcpy(at, parameters[i], size);
    at += size;
  }
  int before = failed; /* what this launch does wrong is told by what waits for it */
  queue(stream_of(config->stream), w);
  return before;
}

API cuGetErrorName(int error, const char **name) {
  *name = error == LAUNCH_FAILED ? "CUDA_ERROR_LAUNCH_FAILED" : "CUDA_ERROR";
  return SUCCESS;
}
API cuGetErrorString(int error, const char **text) {
  *text = "see what the PTX emulator reported on stderr";
  return SUCCESS;
}

/* Functions are asked for by name; those with a newer form here carry its suffix. */
API cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                        int *status) {
  char full[128];
  for (int newest = 2; newest >= 0; newest--) {
    snprintf(full, sizeof full, newest == 2 ? "%s_v2" : "%s", name);
    *function = dlsym(RTLD_DEFAULT, full);
    if (*function) break;
  }
  if (getenv("PTX_MACHINE_TRACE") && !*function) fprintf(stderr, "PTX emulator: no %s\n", name);
  if (status) *status = *function ? 0 : 1;
  return SUCCESS;
}
API cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
