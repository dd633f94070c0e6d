#pragma once

#include <pybind11/pybind11.h>

namespace aktis {

// The object store for its daemon (PlasmaStore), and a client for tools and tests (PlasmaClient).
void bind_plasma(pybind11::module_& module);

}  // namespace aktis
