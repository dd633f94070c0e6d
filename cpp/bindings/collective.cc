// Buffers of Python for the collective operations, which run without the GIL.
#include "bindings/collective.h"

#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "collective/group.h"

namespace aktis {
namespace {

namespace py = pybind11;
using collective::DataType;
using collective::Group;
using collective::Operation;

collective::TimePoint deadline_after(double timeout_s) {
  if (!(timeout_s >= 0 && timeout_s < 1e9)) throw std::invalid_argument("a timeout has 0 to 1e9 seconds");
  return collective::Clock::now() +
         std::chrono::duration_cast<collective::Clock::duration>(std::chrono::duration<double>(timeout_s));
}

DataType type_of(unsigned number) {
  if (number >= collective::kDataTypes) throw std::invalid_argument("no such data type");
  return static_cast<DataType>(number);
}

Operation operation_of(unsigned number) {
  if (number >= collective::kOperations) throw std::invalid_argument("no such operation");
  return static_cast<Operation>(number);
}

// A contiguous buffer that stays where it is while this lives.
class Array {
 public:
  Array(const py::handle& object, DataType type, bool writable) {
    const int flags = writable ? PyBUF_WRITABLE : PyBUF_SIMPLE;
    if (PyObject_GetBuffer(object.ptr(), &view_, flags) != 0) throw py::error_already_set();
    const auto size_bytes = static_cast<std::size_t>(view_.len);
    count_ = size_bytes / collective::size_of(type);
    if (count_ * collective::size_of(type) == size_bytes) return;
    PyBuffer_Release(&view_);
    throw std::invalid_argument("the buffer does not have whole elements");
  }
  ~Array() {
    if (view_.obj != nullptr) PyBuffer_Release(&view_);
  }
  Array(Array&& other) noexcept : view_(other.view_), count_(other.count_) { other.view_.obj = nullptr; }
  Array& operator=(Array&&) = delete;

  std::byte* data() const { return static_cast<std::byte*>(view_.buf); }
  std::size_t count() const { return count_; }

 private:
  Py_buffer view_{};
  std::size_t count_ = 0;
};

std::vector<Array> arrays_of(const py::sequence& objects, DataType type, bool writable, std::size_t members,
                             std::size_t count) {
  std::vector<Array> arrays;
  for (const py::handle object : objects) arrays.emplace_back(object, type, writable);
  bool fits = arrays.size() == members;
  for (const Array& array : arrays) fits = fits && array.count() == count;
  if (!fits) throw std::invalid_argument("one array per member is needed, each of the same size");
  return arrays;
}

class SharedGroup {
 public:
  SharedGroup(int descriptor, std::uint32_t rank, std::uint32_t world_size)
      : rank_(rank), world_size_(world_size), group_(descriptor, rank, world_size, handle_signals) {}

  void barrier(double timeout_s) {
    without_gil([&](auto deadline) { group_.barrier(deadline); }, timeout_s);
  }
  void all_reduce(const py::object& data, unsigned type, unsigned operation, double timeout_s) {
    const Array array(data, type_of(type), true);
    const Operation how = check(type_of(type), operation);
    without_gil(
        [&](auto deadline) { group_.all_reduce(array.data(), array.count(), type_of(type), how, deadline); },
        timeout_s);
  }
  void reduce(const py::object& data, unsigned type, unsigned operation, std::uint32_t root,
              double timeout_s) {
    const Array array(data, type_of(type), rank_ == root);
    const Operation how = check(type_of(type), operation);
    check_rank(root);
    without_gil(
        [&](auto deadline) {
          group_.reduce(array.data(), array.count(), type_of(type), how, root, deadline);
        },
        timeout_s);
  }
  void broadcast(const py::object& data, unsigned type, std::uint32_t root, double timeout_s) {
    const Array array(data, type_of(type), rank_ != root);
    check_rank(root);
    without_gil(
        [&](auto deadline) { group_.broadcast(array.data(), array.count(), type_of(type), root, deadline); },
        timeout_s);
  }
  void all_gather(const py::object& data, const py::sequence& outputs, unsigned type, double timeout_s) {
    const Array array(data, type_of(type), false);
    const auto targets = arrays_of(outputs, type_of(type), true, world_size_, array.count());
    std::vector<std::byte*> pointers;
    for (const Array& target : targets) pointers.push_back(target.data());
    without_gil(
        [&](auto deadline) {
          group_.all_gather(array.data(), pointers, array.count(), type_of(type), deadline);
        },
        timeout_s);
  }
  void reduce_scatter(const py::sequence& inputs, const py::object& output, unsigned type, unsigned operation,
                      double timeout_s) {
    const Array array(output, type_of(type), true);
    const Operation how = check(type_of(type), operation);
    const auto sources = arrays_of(inputs, type_of(type), false, world_size_, array.count());
    std::vector<const std::byte*> pointers;
    for (const Array& source : sources) pointers.push_back(source.data());
    without_gil(
        [&](auto deadline) {
          group_.reduce_scatter(pointers, array.data(), array.count(), type_of(type), how, deadline);
        },
        timeout_s);
  }
  void send(const py::object& data, unsigned type, std::uint32_t to, double timeout_s) {
    const Array array(data, type_of(type), false);
    check_rank(to);
    without_gil([&](auto deadline) { group_.send(array.data(), array.count(), type_of(type), to, deadline); },
                timeout_s);
  }
  void receive(const py::object& data, unsigned type, std::uint32_t from, double timeout_s) {
    const Array array(data, type_of(type), true);
    check_rank(from);
    without_gil(
        [&](auto deadline) { group_.receive(array.data(), array.count(), type_of(type), from, deadline); },
        timeout_s);
  }

 private:
  // Called without the GIL in the middle of a wait.
  static void handle_signals() {
    const py::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
  }

  static Operation check(DataType type, unsigned operation) {
    const Operation how = operation_of(operation);
    collective::combine(type, how, nullptr, nullptr, 0);  // throws when there is no such thing
    return how;
  }

  void check_rank(std::uint32_t rank) const {
    if (rank >= world_size_) throw std::invalid_argument("no such rank");
  }

  template <typename Body>
  static void without_gil(Body body, double timeout_s) {
    const auto deadline = deadline_after(timeout_s);
    std::optional<std::string> timed_out;
    {
      const py::gil_scoped_release release;
      try {
        body(deadline);
      } catch (const collective::GroupTimedOut& error) {
        timed_out = error.what();
      }
    }
    if (!timed_out) return;
    PyErr_SetString(PyExc_TimeoutError, timed_out->c_str());
    throw py::error_already_set();
  }

  const std::uint32_t rank_;
  const std::uint32_t world_size_;
  Group group_;
};

void combine(const py::object& target, const py::object& other, unsigned type, unsigned operation) {
  const Array into(target, type_of(type), true);
  const Array from(other, type_of(type), false);
  if (into.count() != from.count()) throw std::invalid_argument("the arrays differ in size");
  const Operation how = operation_of(operation);
  const py::gil_scoped_release release;
  collective::combine(type_of(type), how, into.data(), from.data(), into.count());
}

std::vector<std::string> names_of_types() {
  std::vector<std::string> names;
  for (unsigned type = 0; type < collective::kDataTypes; ++type)
    names.emplace_back(collective::name_of(type_of(type)));
  return names;
}

}  // namespace

void bind_collective(py::module_& parent) {
  auto module = parent.def_submodule("collective", "Collective operations in shared memory.");
  module.attr("MAX_MEMBERS") = collective::kMaxMembers;
  module.attr("DATA_TYPES") = py::tuple(py::cast(names_of_types()));
  module.def("create_memory", &collective::Segment::create, py::arg("world_size"));
  module.def("combine", &combine, py::arg("target"), py::arg("other"), py::arg("dtype"), py::arg("op"));
  py::class_<SharedGroup>(module, "SharedGroup")
      .def(py::init<int, std::uint32_t, std::uint32_t>(), py::arg("descriptor"), py::arg("rank"),
           py::arg("world_size"))
      .def("barrier", &SharedGroup::barrier, py::arg("timeout_s"))
      .def("all_reduce", &SharedGroup::all_reduce, py::arg("data"), py::arg("dtype"), py::arg("op"),
           py::arg("timeout_s"))
      .def("reduce", &SharedGroup::reduce, py::arg("data"), py::arg("dtype"), py::arg("op"), py::arg("root"),
           py::arg("timeout_s"))
      .def("broadcast", &SharedGroup::broadcast, py::arg("data"), py::arg("dtype"), py::arg("root"),
           py::arg("timeout_s"))
      .def("all_gather", &SharedGroup::all_gather, py::arg("data"), py::arg("outputs"), py::arg("dtype"),
           py::arg("timeout_s"))
      .def("reduce_scatter", &SharedGroup::reduce_scatter, py::arg("inputs"), py::arg("output"),
           py::arg("dtype"), py::arg("op"), py::arg("timeout_s"))
      .def("send", &SharedGroup::send, py::arg("data"), py::arg("dtype"), py::arg("to"), py::arg("timeout_s"))
      .def("receive", &SharedGroup::receive, py::arg("data"), py::arg("dtype"), py::arg("source"),
           py::arg("timeout_s"));
}

}  // namespace aktis
