# cmake --install: the torch-free library for other C++ projects, as find_package(ufp4) and the target ufp4::ufp4.

include(CMakePackageConfigHelpers)

set(_targets ufp4_numerics ufp4)
foreach(backend IN ITEMS CPU CUDA)
  string(TOLOWER ufp4_${backend} _target)
  set(UFP4_PACKAGE_HAS_${backend} FALSE)
  if(TARGET ${_target})
    list(APPEND _targets ${_target})
    set(UFP4_PACKAGE_HAS_${backend} TRUE)
  endif()
endforeach()
add_library(ufp4::ufp4 ALIAS ufp4)

set(_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ufp4)
install(TARGETS ${_targets} EXPORT ufp4-targets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT ufp4)
install(DIRECTORY include/ufp4 DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT ufp4 FILES_MATCHING PATTERN "*.h")
install(EXPORT ufp4-targets NAMESPACE ufp4:: DESTINATION ${_package_dir} COMPONENT ufp4)

configure_package_config_file(cmake/ufp4-config.cmake.in ${PROJECT_BINARY_DIR}/package/ufp4-config.cmake
  INSTALL_DESTINATION ${_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/package/ufp4-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/package/ufp4-config.cmake ${PROJECT_BINARY_DIR}/package/ufp4-config-version.cmake
  DESTINATION ${_package_dir} COMPONENT ufp4)

# The program finds torch where it was at build time.
if(TARGET ufp4_program)
  set_target_properties(ufp4_program PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
endif()
