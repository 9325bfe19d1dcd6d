# Installs the library, its headers, and what CMake and pkg-config need to find them. In a wheel, the
# folder `fastlsgd` of site-packages is the prefix.

include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(include_dir ${CMAKE_INSTALL_INCLUDEDIR})
set(lib_dir ${CMAKE_INSTALL_LIBDIR})
set(bin_dir ${CMAKE_INSTALL_BINDIR})
set(rpath_flag "")
if(FASTLSGD_PYTHON)
  set(include_dir fastlsgd/include)
  set(lib_dir fastlsgd/lib)
  set(bin_dir fastlsgd/kernels) # Windows looks for a DLL beside the module that needs it
  set(rpath_flag "-Wl,-rpath,\${libdir} ") # no loader looks into site-packages by itself
endif()

# A wheel has no symbolic links: the loader's name of the library, libfastlsgd.so.1, is that of the
# file, and the linker's name, libfastlsgd.so, is a script that leads to it. A copy in its place would
# be a second library with settings of its own where a process loads both. macOS has no such scripts.
if(FASTLSGD_PYTHON AND NOT WIN32 AND NOT APPLE)
  set(namelink NAMELINK_SKIP)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/linker_script)
  file(WRITE ${script} "INPUT(libfastlsgd.so.${abi})\n")
  install(FILES ${script} DESTINATION ${lib_dir} RENAME libfastlsgd.so)
endif()
install(TARGETS fastlsgd EXPORT fastlsgdTargets
        LIBRARY DESTINATION ${lib_dir} ${namelink}
        ARCHIVE DESTINATION ${lib_dir}
        RUNTIME DESTINATION ${bin_dir}
        INCLUDES DESTINATION ${include_dir})
install(FILES csrc/fastlsgd.h csrc/fastlsgd.hpp DESTINATION ${include_dir})

set(package_dir ${lib_dir}/cmake/fastlsgd)
write_basic_package_version_file(
  ${CMAKE_CURRENT_BINARY_DIR}/fastlsgdConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT fastlsgdTargets NAMESPACE fastlsgd:: FILE fastlsgdConfig.cmake
        DESTINATION ${package_dir})
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fastlsgdConfigVersion.cmake DESTINATION ${package_dir})

# The prefix is found from where the file itself lies, so that an installation can be moved.
file(RELATIVE_PATH to_include "/${lib_dir}" "/${include_dir}")
configure_file(cmake/fastlsgd.pc.in ${CMAKE_CURRENT_BINARY_DIR}/fastlsgd.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/fastlsgd.pc DESTINATION ${lib_dir}/pkgconfig)
if(NOT FASTLSGD_PYTHON)
  install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/licenses/fastlsgd)
endif()
