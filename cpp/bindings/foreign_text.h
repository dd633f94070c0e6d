// Text that another process wrote, which need not be UTF-8, as Python's.
#pragma once

#include <pybind11/pybind11.h>

#include <string_view>

namespace aktis::bindings {

inline pybind11::str foreign_text(std::string_view text) {
  PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (made == nullptr) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::str>(made);
}

}  // namespace aktis::bindings
