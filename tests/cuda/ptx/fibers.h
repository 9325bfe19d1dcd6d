/* CUDA threads as fibers, which run one at a time from one meeting to the next.
 * A part of driver.c. */

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
