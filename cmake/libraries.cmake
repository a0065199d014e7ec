# Every library is a Debian 12 package; tools/install_dependencies installs them.
find_package(PkgConfig REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(libdw REQUIRED IMPORTED_TARGET libdw libelf)
pkg_check_modules(lzma REQUIRED IMPORTED_TARGET liblzma)
pkg_check_modules(sodium REQUIRED IMPORTED_TARGET libsodium)

# Debian's libzydis-dev has no pkg-config file and its CMake package names a target that moved
# between versions, so the library is looked up by name.
find_path(ZYDIS_INCLUDE_DIR Zydis/Zydis.h REQUIRED)
find_library(ZYDIS_LIBRARY Zydis REQUIRED)
add_library(zydis INTERFACE IMPORTED)
target_include_directories(zydis INTERFACE ${ZYDIS_INCLUDE_DIR})
target_link_libraries(zydis INTERFACE ${ZYDIS_LIBRARY})
