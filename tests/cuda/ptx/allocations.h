/* The memory of the device: which addresses belong to an allocation.
 * A part of driver.c. */

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
