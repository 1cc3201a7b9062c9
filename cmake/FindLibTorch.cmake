# Imported targets of the LibTorch inside an installed torch wheel.
#
#   LibTorch::cpu    headers, libtorch_cpu, libc10
#   LibTorch::cuda   libtorch_cuda and libc10_cuda, kept although nothing refers to their symbols; only where present
#
# The wheel's own find_package(Torch) needs a CUDA toolkit and guesses architectures; this one reads neither.
# UFP4_TORCH_DIR names the folder of the torch package; without it, the one that scripts/setup --torch was given, then the
# .venv of the source tree.

set(_candidates ${UFP4_TORCH_DIR})
if(EXISTS ${PROJECT_SOURCE_DIR}/.venv/torch-dir)
  file(STRINGS ${PROJECT_SOURCE_DIR}/.venv/torch-dir _remembered)
  list(APPEND _candidates ${_remembered})
endif()
file(GLOB _venv ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
list(APPEND _candidates ${_venv})
find_path(LibTorch_ROOT_DIR NAMES include/torch/library.h PATHS ${_candidates} NO_DEFAULT_PATH)

set(LibTorch_VERSION "")
if(LibTorch_ROOT_DIR AND EXISTS ${LibTorch_ROOT_DIR}/version.py)
  file(STRINGS ${LibTorch_ROOT_DIR}/version.py _version REGEX "^__version__")
  string(REGEX REPLACE ".*'([0-9.]+).*" "\\1" LibTorch_VERSION "${_version}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS LibTorch_ROOT_DIR VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup, or set UFP4_TORCH_DIR to the folder of an installed torch package")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  set(_lib ${LibTorch_ROOT_DIR}/lib)
  add_library(LibTorch::c10 SHARED IMPORTED)
  set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${_lib}/libc10.so)
  add_library(LibTorch::torch_cpu SHARED IMPORTED)
  set_target_properties(LibTorch::torch_cpu PROPERTIES IMPORTED_LOCATION ${_lib}/libtorch_cpu.so)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  target_include_directories(LibTorch::cpu SYSTEM INTERFACE ${LibTorch_ROOT_DIR}/include
    ${LibTorch_ROOT_DIR}/include/torch/csrc/api/include)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_GREATER_EQUAL 13)
    # GCC 13 takes the growth of a std::vector<bool> in torch's headers for a copy beyond its end.
    target_compile_options(LibTorch::cpu INTERFACE
      "$<$<COMPILE_LANGUAGE:CXX>:-Wno-array-bounds;-Wno-stringop-overflow;-Wno-stringop-overread>")
  endif()
  # The wheel's libraries find the CUDA libraries that they need through their own run paths.
  target_link_libraries(LibTorch::cpu INTERFACE LibTorch::torch_cpu LibTorch::c10)
  target_link_options(LibTorch::cpu INTERFACE -Wl,--unresolved-symbols=ignore-in-shared-libs)
  if(EXISTS ${_lib}/libtorch_cuda.so)
    add_library(LibTorch::cuda INTERFACE IMPORTED)
    target_link_libraries(LibTorch::cuda INTERFACE LibTorch::cpu
      "-Wl,--push-state,--no-as-needed" ${_lib}/libtorch_cuda.so ${_lib}/libc10_cuda.so "-Wl,--pop-state")
  endif()
endif()
