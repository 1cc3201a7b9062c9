# ufp4_layer(NAME sources... [LINK libs...]): one layer of the design as one static library.
#
# Every layer sees include/ (the public headers) and src/ (so that "numerics/philox.h" names the layer it comes from).
# What a layer may include stands in CheckLayers.cmake; the check runs at configure time and is a test too (tests/layers).

include(CheckLayers)
ufp4_check_layers(${PROJECT_SOURCE_DIR} _violations)
if(_violations)
  list(JOIN _violations "\n  " _violations)
  message(FATAL_ERROR "Includes against the layering (cmake/CheckLayers.cmake):\n  ${_violations}")
endif()

find_program(UFP4_CCACHE ccache)
if(UFP4_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${UFP4_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${UFP4_CCACHE})
endif()

# Compiler options that hold for all code of the project, as an interface library.
add_library(ufp4_options INTERFACE)
target_compile_options(ufp4_options INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # GCC 12 warns of `"text" + std::string()`, where nothing overlaps.
  target_compile_options(ufp4_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(UFP4_SANITIZE)
  target_compile_options(ufp4_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${UFP4_SANITIZE}
    -fno-omit-frame-pointer -fno-sanitize-recover=all>)
  target_link_options(ufp4_options INTERFACE -fsanitize=${UFP4_SANITIZE})
  target_sources(ufp4_options INTERFACE
    $<$<STREQUAL:$<TARGET_PROPERTY:TYPE>,EXECUTABLE>:${PROJECT_SOURCE_DIR}/cmake/sanitizer_defaults.cpp>)
endif()

# Where bits are promised no product and sum may be contracted to one rounding.
add_library(ufp4_exact INTERFACE)
target_compile_options(ufp4_exact INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-ffp-contract=off>
  $<$<COMPILE_LANGUAGE:CUDA>:-fmad=false>)

function(ufp4_layer name)
  cmake_parse_arguments(ARG "" "" "LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PUBLIC ${ARG_LINK} PRIVATE $<BUILD_INTERFACE:ufp4_options> ${ARG_PRIVATE_LINK})
endfunction()

# ufp4_simd_sources(sources... [DEFINITIONS definitions...]): files that Highway compiles once for every instruction set.
# They are vectors already. Highway's portable target is miscompiled by the vectorizer of GCC before 12.3 (GCC bug
# 106322), and Highway therefore leaves it out there, unless told that the vectorizer is off. Optimized in debug builds
# too, but not more than the rest under sanitizers, where it would take three times as long.
function(ufp4_simd_sources)
  cmake_parse_arguments(ARG "" "" "DEFINITIONS" ${ARGN})
  if(UFP4_SANITIZE)
    set(optimization "")
  else()
    set(optimization -O2)
  endif()
  set_source_files_properties(${ARG_UNPARSED_ARGUMENTS} PROPERTIES
    COMPILE_OPTIONS "-fno-tree-vectorize;${optimization}" COMPILE_DEFINITIONS "HWY_BROKEN_EMU128=0;${ARG_DEFINITIONS}")
endfunction()

# ufp4_test(NAME sources... LINK libs...): a GoogleTest program whose cases ctest lists one by one.
function(ufp4_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "LINK" ${ARGN})
  add_executable(${name} ${ARG_UNPARSED_ARGUMENTS})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/src ${PROJECT_SOURCE_DIR}/tests)
  target_link_libraries(${name} PRIVATE ${ARG_LINK} ufp4_options GTest::gtest GTest::gtest_main)
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 300)
  endif()
  # Tests run side by side, and an OpenMP thread that spins at a barrier takes the core of another test.
  gtest_discover_tests(${name} TEST_PREFIX "${name}." DISCOVERY_TIMEOUT 120
    PROPERTIES TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT OMP_WAIT_POLICY=PASSIVE)
endfunction()
