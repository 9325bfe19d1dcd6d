/* Streams and copies: work waits until something asks for it, or for a random while.
 * A part of driver.c. */

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
