// aktis._core.collective: collective operations in shared memory.
#pragma once

#include <pybind11/pybind11.h>

namespace aktis {

void bind_collective(pybind11::module_& module);

}  // namespace aktis
