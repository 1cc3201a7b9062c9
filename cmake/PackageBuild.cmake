# The settings of a build for the Python package (UFP4_PACKAGE, which pyproject.toml turns on): the operators alone, for
# the torch of the environment that the package goes into, with CUDA where its compiler is.

set(UFP4_TESTS OFF)
set(UFP4_BENCHMARKS OFF)
set(UFP4_FUZZ OFF)

# An isolated build does not see that environment's packages, but its interpreter still knows where they are.
if(NOT UFP4_TORCH_DIR)
  find_package(Python3 COMPONENTS Interpreter REQUIRED)
  execute_process(COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/find_torch.py
    OUTPUT_VARIABLE _torch OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _failed)
  if(_failed OR NOT _torch)
    message(FATAL_ERROR "ufp4 is built for the torch that is installed, and ${Python3_EXECUTABLE} has none.\n"
      "Install it first: pip install torch==2.11.0\n"
      "If it is installed, build where it can be seen: pip install --no-build-isolation . (scikit-build-core must be "
      "installed then), or name it: -C cmake.define.UFP4_TORCH_DIR=/path/to/site-packages/torch")
  endif()
  set(UFP4_TORCH_DIR ${_torch} CACHE PATH "Folder of an installed torch package" FORCE)
endif()
message(STATUS "ufp4: operators for the torch in ${UFP4_TORCH_DIR}")

# CUDA where both its compiler and a torch with CUDA are, unless told otherwise.
if(NOT DEFINED UFP4_CUDA)
  find_program(_nvcc nvcc HINTS /usr/local/cuda/bin)
  set(_with_cuda OFF)
  if(_nvcc AND EXISTS ${UFP4_TORCH_DIR}/lib/libtorch_cuda.so)
    set(_with_cuda ON)
  endif()
  set(UFP4_CUDA ${_with_cuda} CACHE BOOL "Build the CUDA backend")
  message(STATUS "ufp4: CUDA kernels: ${_with_cuda}")
endif()
# For the GPUs of this machine, where there are some.
if(UFP4_CUDA AND NOT DEFINED UFP4_CUDA_ARCHITECTURES)
  execute_process(COMMAND nvidia-smi --query-gpu=compute_cap --format=csv,noheader
    OUTPUT_VARIABLE _capabilities OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE _failed ERROR_QUIET)
  if(NOT _failed AND _capabilities MATCHES "^[0-9.\n]+$")
    string(REPLACE "." "" _capabilities "${_capabilities}")
    string(REPLACE "\n" ";" _capabilities "${_capabilities}")
    list(REMOVE_DUPLICATES _capabilities)
    set(_architectures "")
    foreach(_capability IN LISTS _capabilities)
      if(_capability GREATER_EQUAL 90)
        list(APPEND _architectures ${_capability}a-real)
      else()
        list(APPEND _architectures ${_capability}-real)
      endif()
    endforeach()
    set(UFP4_CUDA_ARCHITECTURES ${_architectures} CACHE STRING "CUDA architectures")
    message(STATUS "ufp4: CUDA architectures: ${_architectures}")
  endif()
endif()

file(GLOB _recipes CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/recipes/*.toml)
install(FILES ${_recipes} DESTINATION ufp4/recipe_files COMPONENT python)
