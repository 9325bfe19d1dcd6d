/* Triangular factors by the instruction set that the library uses. */

#include "fastlsgd.h"
#include "isas.h"
#include "updated_triangle.h"

#define DECLARE(isa) extern const fastlsgd_triangle_table fastlsgd_triangle_functions_##isa;
FASTLSGD_FOR_EACH_ISA(DECLARE)

#define ENTRY(isa) &fastlsgd_triangle_functions_##isa,
static const fastlsgd_triangle_table *const tables[] = {FASTLSGD_FOR_EACH_ISA(ENTRY)};

void fastlsgd_update_triangle(fastlsgd_triangle *triangle, double *rows, int64_t m, double *v) {
  for (int64_t i = 0; i < m; i += FASTLSGD_ROWS) {
    const int64_t some = m - i < FASTLSGD_ROWS ? m - i : FASTLSGD_ROWS;
    tables[fastlsgd_isa()]->update(triangle, rows + i * triangle->stride, some, v);
  }
}

void fastlsgd_solve_triangle(double *u, const fastlsgd_triangle *triangle,
                             const fastlsgd_triangle_steps *steps, double *work) {
  tables[fastlsgd_isa()]->solve(u, triangle, steps, work);
}
