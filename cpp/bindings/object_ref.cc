// aktis.ObjectRef: a plain C type, because one is made and dropped for every task.
#include <pybind11/pybind11.h>
#include <structmember.h>

#include <random>

#include "bindings/python_core.h"

namespace aktis::bindings {
namespace {

struct PyObjectRef {
  PyObject_HEAD ObjectId id;
  std::shared_ptr<Core> core;  // null when it is only an id: nil() or from_random()
  PyObject* weak_references;
};

PyTypeObject* type = nullptr;

PyObjectRef* cast(PyObject* self) { return reinterpret_cast<PyObjectRef*>(self); }

// May run in any thread that holds the GIL, at interpreter shutdown, in a forked child: the core only queues
// the id, and in a child (where its process differs) does nothing.
void dealloc(PyObject* self) {
  PyObjectRef* ref = cast(self);
  if (ref->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  if (ref->core) ref->core->drop_reference(ref->id);
  ref->core.~shared_ptr();
  PyTypeObject* own_type = Py_TYPE(self);
  PyObject_Free(self);
  Py_DECREF(own_type);
}

PyObject* binary(PyObject* self, PyObject*) {
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(cast(self)->id.data), ObjectId::kBytes);
}

PyObject* hex(PyObject* self, PyObject*) { return PyUnicode_FromString(cast(self)->id.hex().c_str()); }

PyObject* task_bytes(PyObject* self, PyObject*) {
  return PyBytes_FromStringAndSize(reinterpret_cast<const char*>(cast(self)->id.data), TaskId::kBytes);
}

PyObject* is_nil(PyObject* self, PyObject*) { return PyBool_FromLong(cast(self)->id.is_nil()); }

PyObject* size(PyObject*, PyObject*) { return PyLong_FromSize_t(ObjectId::kBytes); }

PyObject* owner_worker_id(PyObject* self, PyObject*) {
  if (!cast(self)->core) return to_bytes(WorkerId{}).release().ptr();
  const RefId ref = cast(self)->core->ref_of(cast(self)->id);
  return to_bytes(ref.owner).release().ptr();
}

PyObject* nil(PyObject*, PyObject*) { return make_object_ref(nullptr, ObjectId{}); }

PyObject* from_random(PyObject*, PyObject*) {
  thread_local std::random_device random;
  ObjectId id;
  for (auto& byte : id.data) byte = static_cast<std::remove_reference_t<decltype(byte)>>(random());
  return make_object_ref(nullptr, id);
}

PyObject* reduce(PyObject* self, PyObject*) {
  PyObjectRef* ref = cast(self);
  try {
    Collector* collector = Collector::active();
    // Sent to other processes of this session, unless it is pickled for something else.
    if (!ref->core || collector != nullptr) id_in(*require_core(), self);
    const RefId travelling = ref->core->ref_of(ref->id);
    if (collector != nullptr) {
      collector->refs.push_back(travelling);
    } else {
      ref->core->pin_forever(ref->id);  // pickled outside Aktis: out of our sight
    }
    const py::object rebuild = py::module_::import("aktis._core").attr("rebuild_reference");
    return py::make_tuple(rebuild, py::make_tuple(to_bytes(travelling.id), to_bytes(travelling.owner),
                                                  to_bytes(travelling.node)))
        .release()
        .ptr();
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const std::exception& error) {
    PyErr_SetString(PyExc_RuntimeError, error.what());
  }
  return nullptr;
}

PyObject* represent(PyObject* self) {
  return PyUnicode_FromFormat("ObjectRef(%s)", cast(self)->id.hex().c_str());
}

Py_hash_t hash(PyObject* self) {
  const auto value = static_cast<Py_hash_t>(IdHash{}(cast(self)->id));
  return value == -1 ? -2 : value;
}

PyObject* compare(PyObject* left, PyObject* right, int operation) {
  if (!is_object_ref(left) || !is_object_ref(right) || (operation != Py_EQ && operation != Py_NE)) {
    Py_RETURN_NOTIMPLEMENTED;
  }
  const bool same = cast(left)->id == cast(right)->id;
  return PyBool_FromLong(same == (operation == Py_EQ));
}

// A docstring begins with the signature, for inspect, where the interface has a method.
PyMethodDef methods[] = {
    {"binary", binary, METH_NOARGS, "binary($self, /)\n--\n\nThe 20 bytes of the object's id."},
    {"hex", hex, METH_NOARGS, "hex($self, /)\n--\n\nThe object's id in hexadecimal."},
    {"_task_bytes", task_bytes, METH_NOARGS, "The 16 bytes of the id of the task that makes the object."},
    {"size", size, METH_NOARGS | METH_STATIC, "size()\n--\n\nHow many bytes the id has."},
    {"nil", nil, METH_NOARGS | METH_STATIC, "nil()\n--\n\nThe reference to nothing: all zero."},
    {"from_random", from_random, METH_NOARGS | METH_STATIC, "from_random()\n--\n\nA new id, of no object."},
    {"owner_worker_id", owner_worker_id, METH_NOARGS, "The id of the process that owns the object."},
    {"is_nil", is_nil, METH_NOARGS, "is_nil($self, /)\n--\n\nWhether the id is all zero."},
    {"__reduce__", reduce, METH_NOARGS, nullptr},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};

PyMemberDef members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyObjectRef, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};

const char* const kDoc = "A reference to an immutable object that a task returned or that put() stored.";

PyType_Slot slots[] = {
    {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
    {Py_tp_repr, reinterpret_cast<void*>(represent)},
    {Py_tp_hash, reinterpret_cast<void*>(hash)},
    {Py_tp_richcompare, reinterpret_cast<void*>(compare)},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_doc, const_cast<char*>(kDoc)},
    {0, nullptr},
};

PyType_Spec spec = {"aktis._core.ObjectRef", sizeof(PyObjectRef), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, slots};

py::object rebuild_reference(const py::bytes& id, const py::bytes& owner, const py::bytes& node) {
  const auto core = require_core();
  const RefId ref{id_from<ObjectId>(id), id_from<WorkerId>(owner), id_from<NodeId>(node)};
  core->adopt_reference(ref, CoverScope::active());
  return py::reinterpret_steal<py::object>(make_object_ref(core, ref.id));
}

}  // namespace

bool is_object_ref(PyObject* object) { return Py_TYPE(object) == type; }

const ObjectId& id_in(const Core& core, PyObject* ref) {
  const PyObjectRef* known = cast(ref);
  if (known->core.get() == &core) return known->id;
  const std::string name = "ObjectRef(" + known->id.hex() + ")";
  raise(hooks().session_ended(
      known->core
          ? name + " belongs to a session of this process that has ended, and its object with it: make "
                   "the object anew"
          : name + " is only an id, by nil() or from_random(): there is no such object"));
}

PyObject* make_object_ref(std::shared_ptr<Core> core, const ObjectId& id) {
  PyObjectRef* ref = PyObject_New(PyObjectRef, type);
  if (ref == nullptr) throw py::error_already_set();
  new (&ref->id) ObjectId(id);
  new (&ref->core) std::shared_ptr<Core>(std::move(core));
  ref->weak_references = nullptr;
  return reinterpret_cast<PyObject*>(ref);
}

std::vector<ObjectId> ids_of(const Core& core, const py::sequence& refs) {
  std::vector<ObjectId> ids;
  ids.reserve(refs.size());
  for (const py::handle ref : refs) {
    if (!is_object_ref(ref.ptr())) {
      throw py::type_error(std::string("an ObjectRef is needed, got ") + Py_TYPE(ref.ptr())->tp_name);
    }
    ids.push_back(id_in(core, ref.ptr()));
  }
  return ids;
}

void bind_object_ref(py::module_& module) {
  type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (type == nullptr) throw py::error_already_set();
  module.attr("ObjectRef") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(type));
  module.def("rebuild_reference", &rebuild_reference);
}

}  // namespace aktis::bindings
