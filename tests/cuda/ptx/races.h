/* The checks of each access to memory: bounds, alignment, and races between threads.
 * A part of driver.c. */

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
