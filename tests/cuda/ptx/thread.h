/* What kernels translated from PTX (translate.py) ask of the emulator that runs them (driver.c). */
#ifndef THREAD_H
#define THREAD_H

#include <stdint.h>

/* A CUDA thread. Addresses in shared memory are offsets, as on a GPU. */
typedef struct thread {
  uint32_t tid[3], ctaid[3], ntid[3], nctaid[3];
  const char *parameters;
} thread;

/* A kernel of a module: `kernels` lists them, to one without a name. */
typedef struct kernel {
  const char *name;
  void (*body)(thread *);
  const int *parameter_sizes; /* to a 0 */
  int shared_bytes;
  const unsigned char *shared_in_use; /* a byte each: 1 within a variable */
} kernel;

void ptx_block_barrier(thread *);
void ptx_warp_barrier(thread *, uint32_t mask);
void ptx_grid_barrier(thread *);
uint32_t ptx_shuffle_xor(thread *, uint32_t value, uint32_t offset, uint32_t clamp, uint32_t mask);
/* The memory that a load or a store of so many bytes touches, after all checks. */
void *ptx_global(thread *, uint64_t address, int bytes, int writes, int line);
void *ptx_shared(thread *, uint64_t address, int bytes, int writes, int line);
void ptx_trap(thread *, int line);

#endif
