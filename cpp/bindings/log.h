#pragma once

#include <pybind11/pybind11.h>

namespace aktis {

// NativeLog: the lines of native threads for a daemon's Python logger.
void bind_log(pybind11::module_& module);

}  // namespace aktis
