# ufp4_embed(TARGET FUNCTION files...): compiles text files into TARGET.
#
# The generated header "FUNCTION.h" declares, in namespace ufp4,
#   std::span<const std::pair<std::string_view, std::string_view>> FUNCTION();
# the name (without folder and extension) and the text of each file, in the order given. Editing a file configures again.
function(ufp4_embed target function)
  set(_folder ${CMAKE_CURRENT_BINARY_DIR}/embedded)
  set(_type "std::span<const std::pair<std::string_view, std::string_view>>")
  set(_includes "#include <span>\n#include <string_view>\n#include <utility>\n")
  set(_entries "")
  foreach(file IN LISTS ARGN)
    file(READ ${file} _text)
    get_filename_component(_name ${file} NAME_WLE)
    string(APPEND _entries "    {\"${_name}\", R\"embedded(${_text})embedded\"},\n")
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  endforeach()
  file(WRITE ${_folder}/${function}.h.new "#pragma once\n${_includes}namespace ufp4 {\n${_type} ${function}();\n}\n")
  file(WRITE ${_folder}/${function}.cpp.new "#include \"${function}.h\"\nnamespace {\n"
    "constexpr std::pair<std::string_view, std::string_view> kFiles[] = {\n${_entries}};\n}\n"
    "namespace ufp4 {\n${_type} ${function}() { return kFiles; }\n}\n")
  foreach(extension IN ITEMS h cpp)
    file(COPY_FILE ${_folder}/${function}.${extension}.new ${_folder}/${function}.${extension} ONLY_IF_DIFFERENT)
  endforeach()
  target_sources(${target} PRIVATE ${_folder}/${function}.cpp)
  target_include_directories(${target} PRIVATE ${_folder})
endfunction()
