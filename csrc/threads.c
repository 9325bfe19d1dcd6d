/* How many threads an OpenMP team may have without ending the process.
 *
 * Where the system refuses to start a thread (RLIMIT_NPROC, RLIMIT_AS, the pids limit of a control
 * group), OpenMP's runtime aborts the process. So threads beyond those of this thread's last team
 * are tried first: as many plain threads, with stacks as large as OpenMP's, are started, are all
 * alive at once, and are joined. A team that does not grow costs nothing; for one that grows,
 * starting the new threads costs twice as much. */

#include "table.h"

#include <stddef.h>
#include <stdlib.h>

#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

enum { MOST_TRIED = 1024, BYTES_PER_THREAD = 1 << 16 };

/* OMP_STACKSIZE, or else GOMP_STACKSIZE, in bytes. It is a number of kilobytes, or of the unit B,
 * K, M or G that follows it. 0 stands for the system's default. */
static size_t stack_size(void) {
  const char *text = getenv("OMP_STACKSIZE");
  if (!text) text = getenv("GOMP_STACKSIZE");
  if (!text) return 0;
  char *end;
  const unsigned long long number = strtoull(text, &end, 10);
  while (*end == ' ') ++end;
  const int shift = *end == 'B' || *end == 'b'   ? 0
                    : *end == 'M' || *end == 'm' ? 20
                    : *end == 'G' || *end == 'g' ? 30
                                                 : 10;
  return (size_t)(number << shift);
}

static void *wait_for_all(void *gate) {
  pthread_mutex_lock(gate);
  pthread_mutex_unlock(gate);
  return NULL;
}

/* How many of `wanted` threads can be started besides those that exist. */
static int startable(int wanted) {
  pthread_t threads[MOST_TRIED];
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_attr_t attributes;
  int started = 0;
  if (wanted > MOST_TRIED) wanted = MOST_TRIED;
  if (pthread_attr_init(&attributes)) return 0;
  const size_t size = stack_size();
  if (size) pthread_attr_setstacksize(&attributes, size); /* fails if it is too small */
  pthread_mutex_lock(&gate);
  while (started < wanted &&
         pthread_create(threads + started, &attributes, wait_for_all, &gate) == 0)
    ++started;
  pthread_mutex_unlock(&gate);
  for (int k = 0; k < started; ++k) pthread_join(threads[k], NULL);
  pthread_attr_destroy(&attributes);
  if (started < wanted) started -= started / 4; /* leave some to others */
  /* the runtime itself needs memory for its threads */
  void *memory = malloc((size_t)(started + 1) * BYTES_PER_THREAD);
  free(memory);
  return memory ? started : 0;
}

static _Thread_local int team = 1;

int fastlsgd_team(int parts) {
  if (parts <= 1 || fastlsgd_forked) return 1;
  if (parts > team) team += startable(parts - team);
  /* The runtime ends the threads that a smaller team does not need. */
  if (parts < team) team = parts;
  return team;
}
#else
int fastlsgd_team(int parts) { return fastlsgd_forked ? 1 : parts; }
#endif
