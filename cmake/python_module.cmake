# Python's extension module `native`, which is linked to the library beside it, and the digest of the
# sources of both.

set(cython_output ${CMAKE_CURRENT_BINARY_DIR}/native.c)
set(cython_source ${CMAKE_CURRENT_SOURCE_DIR}/fastlsgd/kernels/native.pyx)
add_custom_command(
  OUTPUT ${cython_output}
  COMMAND Python::Interpreter -m cython -3 --module-name fastlsgd.kernels.native
          ${cython_source} --output-file ${cython_output}
  DEPENDS ${cython_source} ${CMAKE_CURRENT_SOURCE_DIR}/fastlsgd/kernels/native.pxd
  VERBATIM)

# The C functions that only this package needs are in the module: the library exports fastlsgd.h alone.
python_add_library(native MODULE WITH_SOABI ${cython_output} csrc/module_dispatch.c
                          csrc/column_products.c csrc/small_least_squares.c csrc/small_batch.c
                          csrc/small_lasso.c csrc/xla_handlers.c csrc/permutations.c
                          csrc/label_bounds.c
                          ${module_objects})
target_compile_definitions(native PRIVATE NPY_NO_DEPRECATED_API=NPY_2_0_API_VERSION
                                          ${isa_definitions})
target_link_libraries(native PRIVATE fastlsgd Python::NumPy)
if(OpenMP_C_FOUND)
  target_link_libraries(native PRIVATE OpenMP::OpenMP_C)
endif()
if(NOT WIN32)
  target_link_libraries(native PRIVATE m)
endif()
set(origin "$ORIGIN")
if(APPLE)
  set(origin "@loader_path")
endif()
set_target_properties(native PROPERTIES INSTALL_RPATH "${origin}/../lib")

# fastlsgd/kernels/_installed_build.py compares the digest with the sources of a clone, whose directory
# hides the installed package from a Python started there.
file(GLOB native_sources CONFIGURE_DEPENDS csrc/*.c csrc/*.h csrc/*.inc cmake/*.cmake)
list(APPEND native_sources ${CMAKE_CURRENT_SOURCE_DIR}/CMakeLists.txt
     ${cython_source} ${CMAKE_CURRENT_SOURCE_DIR}/fastlsgd/kernels/native.pxd)
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${native_sources})
set(hashes "")
foreach(source IN LISTS native_sources)
  file(SHA256 ${source} hash)
  list(APPEND hashes ${hash})
endforeach()
list(SORT hashes)
string(SHA256 digest "${hashes}")
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/native.sources "${digest}\n")

install(TARGETS native DESTINATION fastlsgd/kernels)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/native.sources fastlsgd/kernels/native.pxd
        DESTINATION fastlsgd/kernels)
