# One libFuzzer binary per cpp/fuzz/NAME.cc; its seeds are in cpp/fuzz/corpus/NAME.
if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  message(FATAL_ERROR "AKTIS_FUZZ needs clang: configure with -DCMAKE_CXX_COMPILER=clang++-19")
endif()
add_custom_target(aktis_fuzz)

file(GLOB fuzz_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/fuzz/*.cc)
foreach(source ${fuzz_sources})
  get_filename_component(name ${source} NAME_WE)
  set(target fuzz_${name})
  add_executable(${target} EXCLUDE_FROM_ALL ${source})
  target_link_libraries(${target} PRIVATE aktis_core aktis_plasma aktis_wire aktis_collective)
  target_link_options(${target} PRIVATE -fsanitize=fuzzer)
  set_target_properties(${target} PROPERTIES OUTPUT_NAME ${name}
                        RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/fuzz)
  add_dependencies(aktis_fuzz ${target})
endforeach()
