# Shared settings: warnings and sanitizers as one INTERFACE target, and the functions that declare a room, a plugin, a test.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
option(GRAFT_SANITIZE "build with AddressSanitizer and UndefinedBehaviorSanitizer" OFF)

set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_C_FLAGS_DEBUG "-O1 -g")

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(INIH REQUIRED IMPORTED_TARGET inih)
find_package(ZLIB REQUIRED)

add_library(graft-flags INTERFACE)
target_compile_definitions(graft-flags INTERFACE _GNU_SOURCE GRAFT_VERSION="${PROJECT_VERSION}")
target_include_directories(graft-flags INTERFACE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/core ${PROJECT_SOURCE_DIR}/include)
target_compile_options(graft-flags INTERFACE -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
  -Wundef -Wcast-qual -Wwrite-strings -Wpointer-arith -ffp-contract=off -fno-math-errno)
if(GRAFT_SANITIZE)
  target_compile_options(graft-flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
  target_link_options(graft-flags INTERFACE -fsanitize=address,undefined)
endif()

# graft_room(NAME SOURCES ... [ROOMS ...] [LIBS ...]): the static library graft-NAME.
function(graft_room name)
  cmake_parse_arguments(R "" "" "SOURCES;ROOMS;LIBS" ${ARGN})
  add_library(graft-${name} STATIC ${R_SOURCES})
  target_link_libraries(graft-${name} PUBLIC graft-flags)
  foreach(room ${R_ROOMS})
    target_link_libraries(graft-${name} PUBLIC graft-${room})
  endforeach()
  target_link_libraries(graft-${name} PUBLIC ${R_LIBS})
endfunction()

# All plugins together.
add_custom_target(plugins)

# graft_plugin(NAME): plugins/NAME/NAME.c becomes NAME.so, which exports graft_plugin_v0 and needs libc and libm alone.
function(graft_plugin name)
  add_library(plugin-${name} MODULE ${CMAKE_CURRENT_SOURCE_DIR}/${name}/${name}.c)
  target_link_libraries(plugin-${name} PRIVATE graft-flags m)
  target_compile_options(plugin-${name} PRIVATE -fvisibility=hidden)
  set_target_properties(plugin-${name} PROPERTIES PREFIX "" OUTPUT_NAME ${name} C_STANDARD 11
    LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib/graft)
  add_dependencies(plugins plugin-${name})
endfunction()

# graft_test(NAME SOURCES ... ROOMS ... [LIBS ...] [PLAIN]): a Criterion test (PLAIN: an executable with its own main), run by ctest.
function(graft_test name)
  cmake_parse_arguments(T "PLAIN" "" "SOURCES;ROOMS;LIBS" ${ARGN})
  add_executable(test-${name} ${T_SOURCES})
  foreach(room ${T_ROOMS})
    target_link_libraries(test-${name} PRIVATE graft-${room})
  endforeach()
  target_link_libraries(test-${name} PRIVATE graft-flags ${T_LIBS})
  if(NOT T_PLAIN)
    target_link_libraries(test-${name} PRIVATE criterion)
    target_compile_options(test-${name} PRIVATE -Wno-missing-prototypes)
  endif()
  target_compile_definitions(test-${name} PRIVATE SOURCE_DIR="${PROJECT_SOURCE_DIR}" BINARY_DIR="${CMAKE_BINARY_DIR}"
    SHARED_DIR="${PROJECT_SOURCE_DIR}/../shared/fixtures")
  add_test(NAME ${name} COMMAND test-${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
endfunction()
