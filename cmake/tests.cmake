# One GoogleTest binary per part: cpp/tests/PART_*_test.cc make PART_tests. The target aktis_tests builds them
# all, and ctest runs every test in a process of its own: tests run side by side, and a crash is one test's.
#
# Compiling the tests takes far longer than running them. So GoogleTest's header is compiled once for all of
# them, and test code with -O1; what it tests is compiled as it is shipped.
# -fpch-preprocess and the two allowances are what ccache needs to know its way around such a header.
find_package(GTest REQUIRED)
include(GoogleTest)
enable_testing()
add_custom_target(aktis_tests)

file(GLOB test_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/tests/*_test.cc)
foreach(source ${test_sources})
  get_filename_component(name ${source} NAME_WE)
  string(REGEX REPLACE "_.*" "" part ${name})
  list(APPEND test_parts ${part})
  list(APPEND ${part}_sources ${source})
endforeach()
list(REMOVE_DUPLICATES test_parts)

# ThreadSanitizer takes twenty times as long, on a machine that may be busy.
set(limit_s 120)
if(AKTIS_SANITIZE)
  set(limit_s 600)
endif()
foreach(part ${test_parts})
  set(target ${part}_tests)
  add_executable(${target} EXCLUDE_FROM_ALL ${${part}_sources})
  target_link_libraries(${target} PRIVATE aktis_core aktis_plasma aktis_wire aktis_collective GTest::gtest_main)
  target_compile_options(${target} PRIVATE -O1 -fpch-preprocess)
  if(CCACHE)
    set_target_properties(${target} PROPERTIES CXX_COMPILER_LAUNCHER
                          "env;CCACHE_SLOPPINESS=pch_defines,time_macros;${CMAKE_CXX_COMPILER_LAUNCHER}")
  endif()
  if(NOT header_owner)
    set(header_owner ${target})
    target_precompile_headers(${target} PRIVATE <gtest/gtest.h>)
  else()
    target_precompile_headers(${target} REUSE_FROM ${header_owner})
  endif()
  set_target_properties(${target} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
  add_dependencies(aktis_tests ${target})
  # Asked when ctest runs: a sanitized binary may not be able to run in the middle of a build.
  gtest_discover_tests(${target} TEST_PREFIX ${part}. DISCOVERY_MODE PRE_TEST PROPERTIES TIMEOUT ${limit_s})
endforeach()

# Every fuzz target with its committed seeds is a test as well, so that what a fuzzer has found stays mended: the
# targets are functions of their names in fuzz_tests.
file(GLOB fuzz_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/fuzz/*.cc)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  string(APPEND fuzz_targets "FUZZ_TARGET(${name})\n")
  add_library(seeds_of_${name} OBJECT EXCLUDE_FROM_ALL ${source})
  target_compile_definitions(seeds_of_${name} PRIVATE LLVMFuzzerTestOneInput=${name})
  target_compile_options(seeds_of_${name} PRIVATE -O1)
  target_include_directories(seeds_of_${name} PRIVATE ${PROJECT_SOURCE_DIR}/cpp ${XXHASH_INCLUDE_DIR})
  target_sources(fuzz_tests PRIVATE $<TARGET_OBJECTS:seeds_of_${name}>)
endforeach()
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/fuzz_targets.inc CONTENT "${fuzz_targets}")
target_include_directories(fuzz_tests PRIVATE ${PROJECT_BINARY_DIR})
target_compile_definitions(fuzz_tests PRIVATE AKTIS_FUZZ_CORPUS="${PROJECT_SOURCE_DIR}/cpp/fuzz/corpus")
