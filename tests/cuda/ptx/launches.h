/* A launch: all blocks of a grid, one after the other, or together where they meet.
 * A part of driver.c. */

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
