// aktis._core.testing: parts of the core as plain objects, for tests that drive them without sockets.
#pragma once

#include <pybind11/pybind11.h>

namespace aktis {

void bind_testing(pybind11::module_& module);

}  // namespace aktis
