# The Python module aktis._core and the generated package aktis._proto.
#
# An editable install (`make build`) puts both straight into client/aktis, where they are ignored by git:
# then a plain `ninja` is a complete rebuild and nothing can be stale. A wheel installs them.
set(PYBIND11_FINDPYTHON ON)
find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
find_package(pybind11 CONFIG REQUIRED)

if(SKBUILD_STATE STREQUAL "editable")
  set(package_dir ${PROJECT_SOURCE_DIR}/client/aktis)
else()
  set(package_dir ${PROJECT_BINARY_DIR}/python/aktis)
endif()

file(GLOB binding_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/cpp/bindings/*.cc)
pybind11_add_module(_core MODULE ${binding_sources})
target_compile_definitions(_core PRIVATE AKTIS_VERSION="${SKBUILD_PROJECT_VERSION}")
target_link_libraries(_core PRIVATE aktis_core aktis_plasma aktis_wire aktis_collective)
set_target_properties(_core PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${package_dir})

file(GLOB protos CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/proto/aktis/v1/*.proto)
set(generator ${PROJECT_SOURCE_DIR}/tools/generate_protos.py)
set(proto_stamp ${PROJECT_BINARY_DIR}/protos.stamp)
# The list of files is itself an input: removing a .proto must remove its stubs. So are the tools that make them.
execute_process(
  COMMAND ${Python_EXECUTABLE} -c "import importlib.metadata as m; [print(n, m.version(n)) for n in ('grpcio-tools', 'mypy-protobuf')]"
  OUTPUT_VARIABLE proto_tools COMMAND_ERROR_IS_FATAL ANY)
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/protos.txt CONTENT "${protos}\n${proto_tools}")
add_custom_command(
  OUTPUT ${proto_stamp}
  COMMAND ${Python_EXECUTABLE} ${generator} --proto-dir ${PROJECT_SOURCE_DIR}/proto/aktis/v1
          --package-dir ${package_dir}/_proto
  COMMAND ${CMAKE_COMMAND} -E touch ${proto_stamp}
  DEPENDS ${protos} ${generator} ${PROJECT_BINARY_DIR}/protos.txt
  COMMENT "Generating the gRPC stubs in ${package_dir}/_proto"
  VERBATIM)
add_custom_target(aktis_protos ALL DEPENDS ${proto_stamp})

if(NOT SKBUILD_STATE STREQUAL "editable")
  install(TARGETS _core LIBRARY DESTINATION aktis COMPONENT python)
  install(DIRECTORY ${package_dir}/_proto DESTINATION aktis COMPONENT python
          PATTERN __pycache__ EXCLUDE)
endif()
