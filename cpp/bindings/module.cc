// The Python module aktis._core. Each concept binds itself in its own file of this directory.
#include <pybind11/pybind11.h>

#include "bindings/collective.h"
#include "bindings/log.h"
#include "bindings/plasma.h"
#include "bindings/python_core.h"
#include "bindings/testing.h"
#include "bindings/wire.h"
#include "wire/frame.h"

PYBIND11_MODULE(_core, module) {
  module.doc() = "Native parts of Aktis: object store, wire and core.";
  module.attr("__version__") = AKTIS_VERSION;
  module.attr("PROTOCOL_MAJOR") = aktis::wire::kProtocolMajor;
  module.attr("PROTOCOL_MINOR") = aktis::wire::kProtocolMinor;
  aktis::bind_wire(module);
  aktis::bind_log(module);
  aktis::bind_plasma(module);
  aktis::bindings::bind_object_ref(module);
  aktis::bindings::bind_events(module);
  aktis::bindings::bind_tasks(module);
  aktis::bindings::bind_streams(module);
  aktis::bindings::bind_results(module);
  aktis::bindings::bind_core(module);
  aktis::bind_collective(module);
  aktis::bind_testing(module);
}
