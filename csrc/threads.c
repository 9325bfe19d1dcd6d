/* How many threads a team of OpenMP's may have without taking the process down.
 *
 * Where the system refuses a thread (RLIMIT_NPROC, RLIMIT_AS, a control group's pids), OpenMP's
 * runtime ends the process. So threads beyond those that the last team of this thread had are tried
 * out first: started with a stack of the size that OpenMP gives, all alive at once, and joined. A
 * team that does not grow costs nothing; one that grows costs what its threads cost, once more. */

#include "table.h"

#include <stddef.h>
#include <stdlib.h>

#if defined(_OPENMP) && !defined(_WIN32)
#include <pthread.h>

enum { MOST_TRIED = 1024, ROOM = 1 << 20 };

/* OMP_STACKSIZE, or GOMP_STACKSIZE, in bytes: a number, of kilobytes or of the unit B, K, M or G
 * behind it. 0: the system's own. */
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

/* How many of so many threads can be started besides those there are. */
static int startable(int wanted) {
  pthread_t threads[MOST_TRIED];
  pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
  pthread_attr_t attributes;
  int started = 0;
  if (wanted > MOST_TRIED) wanted = MOST_TRIED;
  if (pthread_attr_init(&attributes)) return 0;
  const size_t size = stack_size();
  if (size) pthread_attr_setstacksize(&attributes, size); /* too small a one is not taken */
  pthread_mutex_lock(&gate);
  while (started < wanted &&
         pthread_create(threads + started, &attributes, wait_for_all, &gate) == 0)
    ++started;
  pthread_mutex_unlock(&gate);
  for (int k = 0; k < started; ++k) pthread_join(threads[k], NULL);
  pthread_attr_destroy(&attributes);
  if (started < wanted) started -= started / 4;             /* others want threads and memory too */
  void *room = malloc((size_t)(started + 1) * (ROOM / 16)); /* the runtime's own */
  free(room);
  return room ? started : 0;
}

static _Thread_local int team = 1;

int fastlsgd_team(int parts) {
  if (parts <= 1 || fastlsgd_forked) return 1;
  if (parts > team) team += startable(parts - team);
  /* The runtime lets the threads that a smaller team does not need end. */
  if (parts < team) team = parts;
  return team;
}
#else
int fastlsgd_team(int parts) { return fastlsgd_forked ? 1 : parts; }
#endif
