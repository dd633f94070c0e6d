#pragma once

#include <pybind11/pybind11.h>

namespace aktis {

// Frames and the handshake for Python's own sockets (aktis._common.wire); nothing here does I/O but
// listen_socket().
void bind_wire(pybind11::module_& module);

}  // namespace aktis
