# OBJECTS, a list of files, as constants in a C++ source, OUTPUT (build/runtime.cc reads them).
set(bytes "")
set(table "")
set(number 0)
foreach(object ${OBJECTS})
  file(READ ${object} content HEX)
  string(REGEX REPLACE "(..)" "0x\\1," content "${content}")
  get_filename_component(name ${object} NAME)
  string(REGEX REPLACE "\\.c\\.o(bj)?$" "" name "${name}")
  string(APPEND bytes "const unsigned char kObject${number}[] = {${content}};\n")
  string(APPEND table "    {\"${name}\", kObject${number}, sizeof kObject${number}},\n")
  math(EXPR number "${number} + 1")
endforeach()
file(WRITE ${OUTPUT} "#include \"build/runtime_objects.h\"\n\nnamespace qp::build {\nnamespace {\n\
${bytes}\n}  // namespace\n\nconst std::vector<RuntimeObject>& runtime_objects() {\n\
  static const std::vector<RuntimeObject> all = {\n${table}  };\n  return all;\n}\n\n}  // namespace qp::build\n")
