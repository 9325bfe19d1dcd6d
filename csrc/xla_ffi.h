/* The part of XLA's foreign function interface that a handler on the CPU needs, as declared in
 * xla/ffi/api/c_api.h of OpenXLA (Apache License 2.0), version 0.1 and later. It is stated here so that the
 * package is built without XLA's headers. Structures only ever grow at their ends, and begin with
 * their sizes. */
#ifndef FASTLSGD_XLA_FFI_H
#define FASTLSGD_XLA_FFI_H

#include <stddef.h>
#include <stdint.h>

enum { XLA_MAJOR = 0, XLA_MINOR = 1, XLA_METADATA = 1 };
enum { XLA_EXECUTE = 3 };
enum { XLA_INVALID_ARGUMENT = 3, XLA_RESOURCE_EXHAUSTED = 8 };
enum { XLA_F32 = 11, XLA_F64 = 12 };

typedef struct xla_extension {
  size_t struct_size;
  int type;
  struct xla_extension *next;
} xla_extension;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  int major_version, minor_version;
} xla_version;

typedef struct {
  size_t struct_size;
  xla_version api_version; /* out */
  uint32_t traits;         /* out */
} xla_metadata;

typedef struct {
  xla_extension base;
  xla_metadata *metadata;
} xla_metadata_extension;

typedef struct xla_error xla_error;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  const char *message;
  int code;
} xla_error_args;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  xla_version api_version;
  const void *internal_api;
  xla_error *(*create_error)(xla_error_args *);
} xla_api;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  int dtype;
  void *data;
  int64_t rank;
  int64_t *dims;
} xla_buffer;

/* Arguments and results alike. */
typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  int64_t size;
  int *types;
  xla_buffer **buffers;
} xla_buffers;

typedef struct {
  int dtype;
  void *value;
} xla_scalar;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  int64_t size;
  int *types;
  void **names;
  xla_scalar **scalars; /* of other kinds too; those of this package are scalars */
} xla_attributes;

typedef struct {
  size_t struct_size;
  xla_extension *extension_start;
  const xla_api *api;
  void *context;
  int stage;
  xla_buffers arguments, results;
  xla_attributes attributes;
} xla_call_frame;

#endif
