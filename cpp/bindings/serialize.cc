// From Python values to parts and back.
//
// Plain pickle is an order of magnitude faster than cloudpickle and right for values made only of builtin
// types; is_plain() tells which are. Everything else goes through the Python hook.
#include "bindings/python_core.h"

namespace aktis::bindings {
namespace {

constexpr int kPlainNodes = 256;  // more than that: the hook's cost does not matter any more
constexpr int kPlainDepth = 16;

thread_local Collector* collector = nullptr;
thread_local Cover cover;

bool is_plain(PyObject* value, int& budget, int depth);

bool all_plain(PyObject* const* items, Py_ssize_t count, int& budget, int depth) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    if (!is_plain(items[i], budget, depth)) return false;
  }
  return true;
}

bool is_plain(PyObject* value, int& budget, int depth) {
  if (--budget < 0 || depth > kPlainDepth) return false;
  if (value == Py_None || PyLong_CheckExact(value) || PyFloat_CheckExact(value) ||
      PyUnicode_CheckExact(value) || PyBool_Check(value) || PyComplex_CheckExact(value)) {
    return true;
  }
  if (PyBytes_CheckExact(value)) return true;
  if (PyTuple_CheckExact(value)) {
    return all_plain(&PyTuple_GET_ITEM(value, 0), PyTuple_GET_SIZE(value), budget, depth + 1);
  }
  if (PyList_CheckExact(value)) {
    const Py_ssize_t count = PyList_GET_SIZE(value);
    for (Py_ssize_t i = 0; i < count; ++i) {
      if (!is_plain(PyList_GET_ITEM(value, i), budget, depth + 1)) return false;
    }
    return true;
  }
  if (PyDict_CheckExact(value)) {
    PyObject *key, *item;
    Py_ssize_t position = 0;
    while (PyDict_Next(value, &position, &key, &item)) {
      if (!is_plain(key, budget, depth + 1) || !is_plain(item, budget, depth + 1)) return false;
    }
    return true;
  }
  return false;
}

struct Pickle {
  PyObject* dumps;
  PyObject* loads;
  PyObject* protocol;
  PyObject* buffers_keyword;
};

const Pickle& pickle() {
  static const Pickle functions = [] {
    const py::module_ module = py::module_::import("_pickle");
    return Pickle{py::object(module.attr("dumps")).release().ptr(),
                  py::object(module.attr("loads")).release().ptr(), py::int_(5).release().ptr(),
                  py::make_tuple("buffers").release().ptr()};
  }();
  return functions;
}

void serialize_with_hook(py::handle value, Serialized& out) {
  Collector collecting;
  const py::tuple result = hooks().serialize(value);
  out.inband = result[0];
  out.parts.inband = view_of(py::reinterpret_borrow<py::bytes>(out.inband));
  for (const py::handle buffer : py::reinterpret_borrow<py::sequence>(result[1])) {
    Py_buffer view;
    if (PyObject_GetBuffer(buffer.ptr(), &view, PyBUF_ANY_CONTIGUOUS) != 0) throw py::error_already_set();
    out.buffers.push_back(view);
    out.parts.buffers.emplace_back(static_cast<const std::byte*>(view.buf),
                                   static_cast<std::size_t>(view.len));
  }
  out.parts.nested = std::move(collecting.refs);
}

// ---- ValueBuffer: a read-only buffer inside a value; keeps the value alive ----

struct PyValueBuffer {
  PyObject_HEAD Bytes bytes;
  std::shared_ptr<const core::OwnedValue> owned;
  std::shared_ptr<Core> core;           // set when the value is pinned in shared memory
  std::shared_ptr<const void> mapping;  // the memory itself: it outlives the session
  ObjectId id;
};

PyTypeObject* buffer_type = nullptr;

void buffer_dealloc(PyObject* self) {
  auto* buffer = reinterpret_cast<PyValueBuffer*>(self);
  if (buffer->core) buffer->core->unpin(buffer->id);
  buffer->owned.~shared_ptr();
  buffer->core.~shared_ptr();
  buffer->mapping.~shared_ptr();
  PyTypeObject* own_type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(own_type);
}

int buffer_get(PyObject* self, Py_buffer* view, int flags) {
  const Bytes bytes = reinterpret_cast<PyValueBuffer*>(self)->bytes;
  return PyBuffer_FillInfo(view, self, const_cast<std::byte*>(bytes.data()),
                           static_cast<Py_ssize_t>(bytes.size()), 1, flags);
}

PyType_Slot buffer_slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(buffer_dealloc)},
    {Py_bf_getbuffer, reinterpret_cast<void*>(buffer_get)},
    {0, nullptr},
};
PyType_Spec buffer_spec = {"aktis._core.ValueBuffer", sizeof(PyValueBuffer), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, buffer_slots};

py::object make_buffer(const std::shared_ptr<Core>& core, const ObjectId& id, const core::Readable& value,
                       Bytes bytes) {
  if (buffer_type == nullptr) buffer_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&buffer_spec));
  if (buffer_type == nullptr) throw py::error_already_set();
  auto* buffer = PyObject_New(PyValueBuffer, buffer_type);
  if (buffer == nullptr) throw py::error_already_set();
  new (&buffer->bytes) Bytes(bytes);
  new (&buffer->owned) std::shared_ptr<const core::OwnedValue>(value.owned);
  new (&buffer->core) std::shared_ptr<Core>();
  new (&buffer->mapping) std::shared_ptr<const void>(value.mapping);
  new (&buffer->id) ObjectId(id);
  if (value.in_plasma) {
    core->plasma()->pin(id);
    buffer->core = core;
  }
  const auto exporter = py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(buffer));
  PyObject* view = PyMemoryView_FromObject(exporter.ptr());
  if (view == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(view);
}

py::object memory_of(Bytes bytes) {
  PyObject* view = PyMemoryView_FromMemory(const_cast<char*>(reinterpret_cast<const char*>(bytes.data())),
                                           static_cast<Py_ssize_t>(bytes.size()), PyBUF_READ);
  if (view == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(view);
}

// What the pickle has raised, unless it is no Exception (KeyboardInterrupt), becomes one that says more.
[[noreturn]] void cannot_load(const ObjectId& id, Bytes inband) {
  const py::error_already_set raised;
  if (!raised.matches(PyExc_Exception)) throw raised;
  const py::bytes pickled(reinterpret_cast<const char*>(inband.data()), inband.size());
  raise(hooks().cannot_load(raised.value(), pickled, id.is_nil() ? std::string() : id.hex()));
}

py::object load_pickle(const std::shared_ptr<Core>& core, const ObjectId& id, const core::Readable& value,
                       const core::ValueView& view) {
  const py::object inband = memory_of(view.inband);
  PyObject* arguments[2] = {inband.ptr(), nullptr};
  PyObject* result;
  if (view.buffers.empty()) {
    result = PyObject_Vectorcall(pickle().loads, arguments, 1, nullptr);
  } else {
    py::list buffers;
    for (const Bytes& buffer : view.buffers) buffers.append(make_buffer(core, id, value, buffer));
    arguments[1] = buffers.ptr();
    result = PyObject_Vectorcall(pickle().loads, arguments, 1, pickle().buffers_keyword);
  }
  if (result == nullptr) cannot_load(id, view.inband);
  return py::reinterpret_steal<py::object>(result);
}

// The value's own pin for as long as it is read.
struct PinScope {
  const std::shared_ptr<Core>& core;
  const ObjectId& id;
  bool pinned;
  ~PinScope() {
    if (pinned) core->unpin(id);
  }
};

}  // namespace

Hooks& hooks() {
  static auto* instance = new Hooks();  // outlives the interpreter's teardown on purpose
  return *instance;
}

void raise(const py::object& error) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
  throw py::error_already_set();
}

Collector::Collector() : outer_(collector) { collector = this; }
Collector::~Collector() { collector = outer_; }
Collector* Collector::active() { return collector; }

CoverScope::CoverScope(Cover inner) : outer_(cover) { cover = inner; }
CoverScope::~CoverScope() { cover = outer_; }
Cover CoverScope::active() { return cover; }

Serialized::~Serialized() {
  for (Py_buffer& buffer : buffers) PyBuffer_Release(&buffer);
}

void serialize(py::handle value, bool result, Serialized& out) {
  if (result && PyBytes_CheckExact(value.ptr())) {
    out.parts.kind = core::ValueKind::kBytes;
    out.inband = py::reinterpret_borrow<py::object>(value);
    out.parts.inband = view_of(py::reinterpret_borrow<py::bytes>(value));
    return;
  }
  int budget = kPlainNodes;
  if (!is_plain(value.ptr(), budget, 0)) {
    serialize_with_hook(value, out);
    return;
  }
  PyObject* arguments[2] = {value.ptr(), pickle().protocol};
  PyObject* pickled = PyObject_Vectorcall(pickle().dumps, arguments, 2, nullptr);
  if (pickled == nullptr) throw py::error_already_set();
  out.inband = py::reinterpret_steal<py::object>(pickled);
  out.parts.inband = view_of(py::reinterpret_borrow<py::bytes>(out.inband));
}

py::object deserialize(const std::shared_ptr<Core>& core, const ObjectId& id, const core::Readable& value,
                       const Cover& under) {
  const PinScope pin{core, id, value.in_plasma};
  const auto view = core::parse_value(value.bytes);
  if (!view) throw py::value_error("object " + id.hex() + " holds bytes that are not a serialized value");
  const CoverScope scope(under);
  switch (view->kind) {
    case core::ValueKind::kBytes:
      return py::bytes(reinterpret_cast<const char*>(view->inband.data()), view->inband.size());
    case core::ValueKind::kPickle:
      return load_pickle(core, id, value, *view);
    case core::ValueKind::kError:
      break;
  }
  raise(
      hooks().load_error(py::bytes(reinterpret_cast<const char*>(view->inband.data()), view->inband.size())));
}

}  // namespace aktis::bindings
