cmake_policy(VERSION 3.25)
include(${SOURCE_DIR}/cmake/CheckLayers.cmake)

if(CASE STREQUAL "tree")
  ufp4_check_layers(${SOURCE_DIR} found)
  if(found)
    list(JOIN found "\n" found)
    message(FATAL_ERROR "includes against the layering:\n${found}")
  endif()
else()
  file(REMOVE_RECURSE ${WORK_DIR})
  # What is wrong in this tree: one line a file that must be reported.
  set(wrong
    "include/ufp4/a.h|numerics/ok.h"      # the public headers stand alone
    "include/ufp4/b.h|zstd.h"
    "src/numerics/a.h|io/ok.h"            # up
    "src/numerics/b.cpp|unistd.h"         # numerics has the standard library only
    "src/cpu/a.cpp|nlohmann/json.hpp"
    "src/io/a.cpp|train/ok.h"
    "src/config/a.cpp|torch/ok.h"
    "src/train/b.cpp|toml++/toml.h"       # the reader of TOML is config's
    "src/data/a.cpp|torch/ok.h"           # of the project
    "src/data/b.cpp|torch/library.h"      # of LibTorch
    "src/train/a.cpp|CLI/CLI.hpp"
    "src/misc/a.cpp|vector")              # not a layer at all
  set(right "include/ufp4/ok.h|span" "src/numerics/ok.h|ufp4/ok.h" "src/io/ok.h|numerics/ok.h" "src/io/own.cpp|ok.h"
    "src/torch/ok.h|torch/library.h" "src/train/ok.h|torch/ok.h" "src/data/ok.cpp|io/ok.h" "src/config/ok.h|toml++/toml.h")
  foreach(entry IN LISTS wrong right)
    string(REPLACE "|" ";" entry ${entry})
    list(GET entry 0 file)
    list(GET entry 1 header)
    file(WRITE ${WORK_DIR}/${file} "#include <vector>\n  #  include \"${header}\"\n")
  endforeach()
  ufp4_check_layers(${WORK_DIR} found)
  list(LENGTH wrong expected)
  list(LENGTH found count)
  foreach(entry IN LISTS wrong)
    string(REGEX REPLACE "\\|.*" "" file ${entry})
    string(REGEX REPLACE "src/misc/.*" "src/misc" file ${file})
    if(NOT "${found}" MATCHES "${file} i")
      message(FATAL_ERROR "a planted violation was not found: ${entry}\nfound: ${found}")
    endif()
  endforeach()
  if(NOT count EQUAL expected)
    list(JOIN found "\n" found)
    message(FATAL_ERROR "planted ${expected} violations, found ${count}:\n${found}")
  endif()
endif()
