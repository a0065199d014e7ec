# qp_module(NAME SOURCES a.cc b.cc DEPS other ... LIBRARIES lib ...)
#
# A folder of src/ is a module: one static library, one namespace. DEPS are the arrows of the
# design's module table; tests/layers compares both with the #include lines.
add_library(qp_flags INTERFACE)
target_compile_features(qp_flags INTERFACE cxx_std_20)
target_compile_options(qp_flags INTERFACE -Wall -Wextra -Wshadow -Wno-missing-field-initializers
                                          $<$<BOOL:${QPATCH_STRICT}>:-Werror>)
if(QPATCH_SANITIZE)
  target_compile_options(qp_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                            -fno-omit-frame-pointer)
  target_link_options(qp_flags INTERFACE -fsanitize=address,undefined)
endif()

# The headers of libraries that nearly every file includes, compiled once.
add_library(qp_headers OBJECT ${CMAKE_CURRENT_LIST_DIR}/headers.cc)
target_link_libraries(qp_headers PRIVATE qp_flags fmt::fmt)
set_target_properties(qp_headers PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_precompile_headers(qp_headers PRIVATE <algorithm> <filesystem> <functional> <map> <memory> <optional>
                                             <set> <string> <vector> <fmt/format.h>)

function(qp_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;LIBRARIES" ${ARGN})
  add_library(qp_${name} STATIC ${ARG_SOURCES})
  target_include_directories(qp_${name} PUBLIC ${PROJECT_SOURCE_DIR}/src)
  list(TRANSFORM ARG_DEPS PREPEND qp_)
  target_link_libraries(qp_${name} PUBLIC ${ARG_DEPS} PRIVATE qp_flags ${ARG_LIBRARIES})
  target_precompile_headers(qp_${name} REUSE_FROM qp_headers)
endfunction()
