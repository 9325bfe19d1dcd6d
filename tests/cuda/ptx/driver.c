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
 * A failed check is told on stderr, and the launch fails as on a GPU: at the next call that waits.
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
  fprintf(stderr, "PTX machine: %s\n", told);
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

/* ------------------------------------------------------------------------------------------ */
/* Memory                                                                                     */
/* ------------------------------------------------------------------------------------------ */

/* Who touched a word last. A time is one of a launch, and counts the barriers of all its grid; the
 * barriers of a block and a warp since are beside it. */
typedef struct {
  uint32_t launch, grid, block, warp, thread; /* thread: number in the grid, plus 1; 0 is nobody */
} visit;

typedef struct {
  visit writer, reader;
  uint32_t readers; /* 1: `reader` alone; 2: several of its warp; 3: of its block; 4: of any */
} word;

typedef struct allocation {
  char *base;
  size_t size;
  int pinned;
  word *words; /* one for 4 bytes; made when first touched */
} allocation;

static allocation *allocations; /* sorted by address */
static int n_allocations, room_for_allocations;

static int allocation_at(uint64_t address) { /* the last one that begins at or below */
  int low = 0, high = n_allocations;
  while (low < high) {
    int middle = (low + high) / 2;
    if ((uint64_t)allocations[middle].base <= address) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

static allocation *find(uint64_t address) {
  int at = allocation_at(address);
  if (at < 0) return NULL;
  allocation *a = &allocations[at];
  return address < (uint64_t)a->base + a->size ? a : NULL;
}

static void *allocate(size_t size, int pinned) {
  char *base = aligned_alloc(256, (size + 511) / 256 * 256); /* 256 bytes or more of no one's */
  if (!base) return NULL;
  memset(base, 0xFF, size);
  if (n_allocations == room_for_allocations) {
    room_for_allocations = 2 * room_for_allocations + 64;
    allocations = realloc(allocations, room_for_allocations * sizeof *allocations);
  }
  int at = allocation_at((uint64_t)base) + 1;
  memmove(allocations + at + 1, allocations + at, (n_allocations - at) * sizeof *allocations);
  allocations[at] = (allocation){base, size, pinned, NULL};
  n_allocations++;
  return base;
}

static int release(uint64_t address) {
  int at = allocation_at(address);
  if (at < 0 || (uint64_t)allocations[at].base != address) return INVALID_VALUE;
  free(allocations[at].words);
  free(allocations[at].base);
  n_allocations--;
  memmove(allocations + at, allocations + at + 1, (n_allocations - at) * sizeof *allocations);
  return SUCCESS;
}

/* ------------------------------------------------------------------------------------------ */
/* Threads                                                                                    */
/* ------------------------------------------------------------------------------------------ */

enum state { READY, AT_BLOCK, AT_WARP, AT_SHUFFLE, AT_GRID, ENDED };

typedef struct fiber {
  thread thread; /* first: translated code holds a pointer to it */
  enum state state;
  uint32_t number, block, lane_value, lane_offset;
  uint32_t block_barriers, warp_barriers;
  int started;
  jmp_buf here;
  char *stack;
} fiber;

static struct {
  const kernel *kernel;
  uint32_t launch, grid_barriers, threads, first_block, blocks;
  char *shared; /* of all blocks that live at a time */
  word *shared_words;
} now;

static fiber *fibers;
static int n_fibers;
static jmp_buf scheduler;
static fiber *starting;

static void enter(void) {
  fiber *f = starting;
  now.kernel->body(&f->thread);
  f->state = ENDED;
  longjmp(scheduler, 1);
}

static void resume(fiber *f) {
  if (setjmp(scheduler)) return;
  if (f->started) longjmp(f->here, 1);
  f->started = 1;
  starting = f;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = f->stack;
  context.uc_stack.ss_size = STACK;
  context.uc_link = NULL;
  makecontext(&context, enter, 0);
  setcontext(&context);
}

static void wait_as(thread *t, enum state state) {
  fiber *f = (fiber *)t;
  f->state = state;
  if (!setjmp(f->here)) longjmp(scheduler, 1);
}

void ptx_block_barrier(thread *t) { wait_as(t, AT_BLOCK); }
void ptx_grid_barrier(thread *t) { wait_as(t, AT_GRID); }

void ptx_warp_barrier(thread *t, uint32_t mask) {
  if (mask != 0xFFFFFFFF) fail("a barrier of part of a warp, %08x", mask);
  wait_as(t, AT_WARP);
}

uint32_t ptx_shuffle_xor(thread *t, uint32_t value, uint32_t offset, uint32_t clamp,
                         uint32_t mask) {
  fiber *f = (fiber *)t;
  if (mask != 0xFFFFFFFF || clamp != 31) fail("a shuffle of part of a warp, %08x %u", mask, clamp);
  f->lane_value = value;
  f->lane_offset = offset;
  wait_as(t, AT_SHUFFLE);
  return f->lane_value;
}

void ptx_trap(thread *t, int line) {
  fail("trap at line %d, thread %u of block %u", line, t->tid[0], t->ctaid[0]);
}

/* Whether all threads [first, last) wait so; an error where some do and others never will. */
static int all_wait(int first, int last, enum state state, const char *where) {
  int waiting = 0, ended = 0;
  for (int i = first; i < last; i++) {
    waiting += fibers[i].state == state;
    ended += fibers[i].state == ENDED;
  }
  if (waiting && ended) fail("%s: %d threads wait, %d have ended", where, waiting, ended);
  return waiting == last - first;
}

static void go_on(int first, int last) {
  for (int i = first; i < last; i++) fibers[i].state = READY;
}

static void shuffle(int first, int last) {
  uint32_t values[WARP];
  for (int i = first; i < last; i++) values[i - first] = fibers[i].lane_value;
  for (int i = first; i < last; i++) {
    uint32_t from = (i - first) ^ fibers[i].lane_offset;
    if (from < (uint32_t)(last - first)) fibers[i].lane_value = values[from];
    else if (from < WARP) fail("a shuffle from lane %u, which is not there", from);
  }
}

static int meet_in_warps(void) {
  int met = 0;
  for (int block = 0; block < n_fibers; block += now.threads)
    for (uint32_t at = 0; at < now.threads; at += WARP) {
      int first = block + at, last = block + (at + WARP < now.threads ? at + WARP : now.threads);
      if (all_wait(first, last, AT_SHUFFLE, "shuffle")) shuffle(first, last);
      else if (all_wait(first, last, AT_WARP, "barrier of a warp"))
        for (int i = first; i < last; i++) fibers[i].warp_barriers++;
      else continue;
      go_on(first, last);
      met = 1;
    }
  return met;
}

static int meet_in_blocks(void) {
  int met = 0;
  for (int first = 0; first < n_fibers; first += now.threads)
    if (all_wait(first, first + now.threads, AT_BLOCK, "barrier of a block")) {
      for (uint32_t i = first; i < first + now.threads; i++) fibers[i].block_barriers++;
      go_on(first, first + now.threads);
      met = 1;
    }
  return met;
}

/* All fibers to their end. */
static void run_fibers(void) {
  int *order = malloc(n_fibers * sizeof *order), ended = 0;
  for (int i = 0; i < n_fibers; i++) order[i] = i;
  while (ended < n_fibers) {
    int ran = 0;
    for (int i = n_fibers - 1; i > 0; i--) {
      int j = draw(i + 1), kept = order[i];
      order[i] = order[j];
      order[j] = kept;
    }
    for (int i = 0; i < n_fibers; i++)
      if (fibers[order[i]].state == READY) {
        resume(&fibers[order[i]]);
        ended += fibers[order[i]].state == ENDED;
        ran = 1;
      }
    if (meet_in_warps() || meet_in_blocks()) continue;
    if (ended == n_fibers) break;
    if (all_wait(0, n_fibers, AT_GRID, "barrier of the grid")) {
      now.grid_barriers++;
      go_on(0, n_fibers);
    } else if (!ran) {
      int states[6] = {0};
      for (int i = 0; i < n_fibers; i++) states[fibers[i].state]++;
      fail("deadlock: %d threads at a barrier of a block, %d of a warp, %d at a shuffle, %d at a "
           "barrier of the grid, %d have ended", states[AT_BLOCK], states[AT_WARP],
           states[AT_SHUFFLE], states[AT_GRID], states[ENDED]);
    }
  }
  free(order);
}

/* ------------------------------------------------------------------------------------------ */
/* Races                                                                                      */
/* ------------------------------------------------------------------------------------------ */

static visit visit_of(const fiber *f) {
  return (visit){now.launch, now.grid_barriers, f->block_barriers, f->warp_barriers, f->number + 1};
}

/* Whether what was done then is sure to come before what `f` does now. `readers` as in `word`. */
static int before(const visit *then, const fiber *f, uint32_t readers) {
  if (!then->thread || then->launch != now.launch || then->grid != now.grid_barriers) return 1;
  uint32_t who = then->thread - 1;
  int same_block = who / now.threads == f->number / now.threads;
  int same_warp = same_block && who % now.threads / WARP == f->number % now.threads / WARP;
  if (who == f->number && readers < 2) return 1;
  if (same_warp && readers < 3 && then->warp != f->warp_barriers) return 1;
  return same_block && readers < 4 && then->block != f->block_barriers;
}

/* A reader beside an earlier one: kept as the wider of the groups that hold both. */
static void read_by(word *w, const fiber *f) {
  visit *then = &w->reader;
  uint32_t readers = 1, who = then->thread - 1;
  if (!before(then, f, w->readers)) {
    if (who / now.threads != f->number / now.threads) readers = 4;
    else if (who % now.threads / WARP != f->number % now.threads / WARP) readers = 3;
    else readers = who == f->number ? 1 : 2;
    if (readers < w->readers) readers = w->readers;
  }
  w->readers = readers;
  *then = visit_of(f);
}

static void check_race(fiber *f, word *words, size_t offset, int bytes, int writes, int line,
                       const char *where) {
  for (size_t k = offset / 4; k < (offset + bytes + 3) / 4; k++) {
    word *w = &words[k];
    const visit *other = !before(&w->writer, f, 1) ? &w->writer : NULL;
    if (!other && writes && !before(&w->reader, f, w->readers)) other = &w->reader;
    if (other)
      fail("race in %s memory, line %d of %s: thread %u of block %u %s what thread %u of block %u "
           "%s", where, line, now.kernel->name, f->number % now.threads, f->number / now.threads,
           writes ? "writes" : "reads", (other->thread - 1) % now.threads,
           (other->thread - 1) / now.threads, other == &w->writer ? "has written" : "reads");
    if (writes) w->writer = visit_of(f);
    else read_by(w, f);
  }
}

void *ptx_global(thread *t, uint64_t address, int bytes, int writes, int line) {
  static int last; /* most accesses are to where the one before was */
  allocation *a = last < n_allocations ? &allocations[last] : NULL;
  if (!a || address < (uint64_t)a->base || address >= (uint64_t)a->base + a->size) {
    a = find(address);
    if (a) last = a - allocations;
  }
  if (!a || address + bytes > (uint64_t)a->base + a->size || a->pinned)
    fail("line %d of %s: thread %u of block %u %s %d bytes at %#lx, which nobody allocated", line,
         now.kernel->name, t->tid[0], t->ctaid[0], writes ? "writes" : "reads", bytes, address);
  if (address % bytes) fail("line %d of %s: %d bytes at %#lx", line, now.kernel->name, bytes,
                            address);
  if (!a->words) a->words = calloc((a->size + 3) / 4 + 4, sizeof(word));
  check_race((fiber *)t, a->words, address - (uint64_t)a->base, bytes, writes, line, "global");
  return (void *)address;
}

void *ptx_shared(thread *t, uint64_t address, int bytes, int writes, int line) {
  fiber *f = (fiber *)t;
  const kernel *k = now.kernel;
  if (address % bytes || address + bytes > (uint64_t)k->shared_bytes ||
      !k->shared_in_use[address] || !k->shared_in_use[address + bytes - 1])
    fail("line %d of %s: thread %u of block %u %s %d bytes at %#lx of shared memory", line,
         k->name, t->tid[0], t->ctaid[0], writes ? "writes" : "reads", bytes, address);
  size_t slot = f->block - now.first_block, base = slot * k->shared_bytes;
  check_race(f, now.shared_words + slot * (k->shared_bytes / 4 + 1), address, bytes, writes, line,
             "shared");
  return now.shared + base + address;
}

/* ------------------------------------------------------------------------------------------ */
/* Launches                                                                                   */
/* ------------------------------------------------------------------------------------------ */

typedef struct {
  const kernel *kernel;
  uint32_t grid[3], block[3];
  int cooperative;
  char *parameters;
} launch;

static void prepare(fiber *f, const launch *l, uint32_t block, uint32_t at) {
  char *stack = f->stack;
  memset(f, 0, sizeof *f);
  f->stack = stack;
  f->block = block;
  f->number = block * now.threads + at;
  memcpy(f->thread.ntid, l->block, sizeof l->block);
  memcpy(f->thread.nctaid, l->grid, sizeof l->grid);
  f->thread.tid[0] = at % l->block[0];
  f->thread.tid[1] = at / l->block[0] % l->block[1];
  f->thread.tid[2] = at / l->block[0] / l->block[1];
  f->thread.ctaid[0] = block % l->grid[0];
  f->thread.ctaid[1] = block / l->grid[0] % l->grid[1];
  f->thread.ctaid[2] = block / l->grid[0] / l->grid[1];
  f->thread.parameters = l->parameters;
}

static void run_blocks(const launch *l, uint32_t first, uint32_t count) {
  static int with_stack, room;
  now.first_block = first;
  n_fibers = count * now.threads;
  if (n_fibers > room) {
    fibers = realloc(fibers, n_fibers * sizeof *fibers);
    room = n_fibers;
  }
  for (; with_stack < n_fibers; with_stack++)
    fibers[with_stack].stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  for (int i = 0; i < n_fibers; i++)
    prepare(&fibers[i], l, first + i / now.threads, i % now.threads);
  size_t bytes = (size_t)l->kernel->shared_bytes;
  now.shared = malloc(count * bytes + 16);
  memset(now.shared, 0xFF, count * bytes);
  now.shared_words = calloc(count * (bytes / 4 + 1), sizeof(word));
  run_fibers();
  free(now.shared);
  free(now.shared_words);
}

/* All blocks together where they may meet; else one after the other, in random order. */
static void run_launch(launch *l) {
  if (failed) return;
  uint32_t blocks = l->grid[0] * l->grid[1] * l->grid[2];
  now.kernel = l->kernel;
  now.launch++;
  now.grid_barriers = 0;
  now.threads = l->block[0] * l->block[1] * l->block[2];
  now.blocks = blocks;
  running = 1;
  if (!setjmp(abandon)) {
    if (l->cooperative) run_blocks(l, 0, blocks);
    else {
      uint32_t start = draw(blocks);
      for (uint32_t k = 0; k < blocks; k++) run_blocks(l, (start + k) % blocks, 1);
    }
  }
  running = 0;
}

/* ------------------------------------------------------------------------------------------ */
/* Streams                                                                                    */
/* ------------------------------------------------------------------------------------------ */

typedef struct stream stream;
typedef struct { stream *stream; long count; } moment; /* when so many works of a stream are done */

typedef struct work {
  struct work *next;
  enum { COPY, FILL, LAUNCH } kind;
  char *to;
  const char *from;
  char *staged; /* what `from` held at the call, where it may change at once */
  size_t bytes;
  int value;
  launch launch;
  int n_after;
  moment after[16]; /* works of other streams that come before */
} work;

struct stream {
  stream *next;
  int blocking, busy; /* blocking: the default stream waits for it and it for the default stream */
  long queued, done;
  work *first, *last;
  int n_waits;
  moment waits[8]; /* what the next work waits for */
};

typedef struct { moment recorded; } event;

static stream default_stream = {.blocking = 1};
static stream *streams = &default_stream;

static stream *stream_of(void *handle) {
  uintptr_t number = (uintptr_t)handle;
  return number <= 2 ? &default_stream : handle;
}

static void run_until(stream *s, long count) {
  if (s->busy) return;
  s->busy = 1;
  while (s->first && s->done < count) {
    work *w = s->first;
    for (int k = 0; k < w->n_after; k++) run_until(w->after[k].stream, w->after[k].count);
    if (w->kind == COPY) memcpy(w->to, w->staged ? w->staged : w->from, w->bytes);
    else if (w->kind == FILL) memset(w->to, w->value, w->bytes);
    else run_launch(&w->launch);
    s->first = w->next;
    if (!s->first) s->last = NULL;
    s->done++;
    free(w->staged);
    free(w->launch.parameters);
    free(w);
  }
  s->busy = 0;
}

static int finish(stream *s) {
  run_until(s, s->queued);
  return failed;
}

static int finish_all(void) {
  for (stream *s = streams; s; s = s->next) finish(s);
  return failed;
}

static void wait_for(work *w, stream *other, long count) {
  if (count <= other->done) return;
  if (w->n_after == 16) fail("too many waits");
  w->after[w->n_after++] = (moment){other, count};
}

static void queue(stream *s, work *w) {
  for (int k = 0; k < s->n_waits; k++) wait_for(w, s->waits[k].stream, s->waits[k].count);
  s->n_waits = 0;
  if (s == &default_stream) {
    for (stream *o = streams; o; o = o->next)
      if (o != s && o->blocking) wait_for(w, o, o->queued);
  } else if (s->blocking) wait_for(w, &default_stream, default_stream.queued);
  if (s->last) s->last->next = w;
  else s->first = w;
  s->last = w;
  s->queued++;
  if (draw(4) == 0) /* some streams are quicker than their callers */
    for (stream *o = streams; o; o = o->next)
      if (draw(2)) run_until(o, o->done + draw(4));
}

static int copy(uint64_t to, uint64_t from, size_t bytes, stream *s, int stage, int at_once) {
  if (!bytes) return failed;
  work *w = calloc(1, sizeof *w);
  w->kind = COPY;
  w->to = (char *)to;
  w->from = (const char *)from;
  w->bytes = bytes;
  if (stage) {
    w->staged = malloc(bytes);
    memcpy(w->staged, w->from, bytes);
  }
  queue(s, w);
  return at_once ? finish(s) : failed;
}

static int on_device(uint64_t address, size_t bytes) {
  allocation *a = bytes ? find(address) : NULL;
  return !bytes || (a && !a->pinned && address + bytes <= (uint64_t)a->base + a->size);
}

static int is_pinned(uint64_t address) {
  allocation *a = find(address);
  return a && a->pinned;
}

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
  snprintf(name, length, "PTX machine");
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

API cuDevicePrimaryCtxRetain(void **context, int device) { *context = &the_context; return SUCCESS; }
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

/* For the machine's own tests: what failed, and as if it had not. */
__attribute__((visibility("default"))) const char *ptx_failure(void) {
  failed = SUCCESS;
  return told;
}

/* A module is the path of a shared library, which machine.py has built from its PTX. */
API cuLibraryLoadData(void **library, const void *code, int *jit, void **jit_values, unsigned n_jit,
                      int *options, void **values, unsigned n_options) {
  *library = dlopen((const char *)code, RTLD_NOW | RTLD_LOCAL);
  if (*library) return SUCCESS;
  fprintf(stderr, "PTX machine: %s\n", dlerror());
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
  struct { int what; char padding[4]; union { char room[64]; int cooperative; } value; } *attributes;
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
  *text = "see what the PTX machine told on stderr";
  return SUCCESS;
}

/* Functions are asked for by name; those with a newer form here carry its suffix. */
API cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  char full[128];
  for (int newest = 2; newest >= 0; newest--) {
    snprintf(full, sizeof full, newest == 2 ? "%s_v2" : "%s", name);
    *function = dlsym(RTLD_DEFAULT, full);
    if (*function) break;
  }
  if (getenv("PTX_MACHINE_TRACE") && !*function) fprintf(stderr, "PTX machine: no %s\n", name);
  if (status) *status = *function ? 0 : 1;
  return SUCCESS;
}
API cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}
