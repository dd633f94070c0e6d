#include "bindings/wire.h"

#include <pybind11/stl.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "bindings/foreign_text.h"
#include "wire/frame.h"
#include "wire/handshake.h"
#include "wire/socket.h"

namespace py = pybind11;

namespace aktis {
namespace {

using wire::FrameType;
using wire::Hello;
using wire::RejectCode;
using wire::Role;

std::span<const std::byte> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

py::bytes to_python(std::span<const std::byte> data) {
  return {reinterpret_cast<const char*>(data.data()), data.size()};
}

template <typename Id>
Id id_from(const py::bytes& raw, const char* what) {
  const auto view = static_cast<std::string_view>(raw);
  if (view.empty()) return {};
  if (view.size() != Id::kBytes) {
    throw py::value_error(std::string(what) + " must have " + std::to_string(Id::kBytes) +
                          " bytes, or none, got " + std::to_string(view.size()));
  }
  return Id::from_bytes(view.data());
}

// A decoder that takes its bytes from Python and hands out frames as tuples.
class PythonDecoder {
 public:
  explicit PythonDecoder(std::size_t max_payload_bytes) : decoder_(max_payload_bytes) {}

  py::list feed(const py::buffer& data, std::int64_t limit) {
    const py::buffer_info info = data.request();
    if (info.ndim != 1 || info.strides[0] != info.itemsize)
      throw py::value_error("feed() needs contiguous bytes");
    commit({static_cast<const std::byte*>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize)});
    py::list frames;
    wire::Frame frame;
    while (limit < 0 || static_cast<std::int64_t>(frames.size()) < limit) {
      const auto result = decoder_.next(frame);
      if (result == wire::FrameDecoder::Result::kError && frames.empty())
        throw py::value_error(decoder_.error());
      if (result != wire::FrameDecoder::Result::kFrame) break;
      frames.append(py::make_tuple(frame.header.type, frame.header.flags, frame.header.correlation,
                                   to_python(frame.payload)));
    }
    return frames;
  }
  const std::string& error() const { return decoder_.error(); }
  std::size_t buffered_bytes() const { return decoder_.buffered_bytes(); }
  void set_max_payload_bytes(std::size_t limit) { decoder_.set_max_payload_bytes(limit); }

 private:
  void commit(std::span<const std::byte> data) {
    if (!decoder_.error().empty()) return;  // nobody will look at it
    while (!data.empty()) {
      const auto room = decoder_.prepare();
      const std::size_t part = std::min(room.size(), data.size());
      std::memcpy(room.data(), data.data(), part);
      decoder_.commit(part);
      data = data.subspan(part);
    }
  }

  wire::FrameDecoder decoder_;
};

py::bytes encode_frame(std::uint16_t type, std::uint16_t flags, std::uint64_t correlation,
                       const py::bytes& payload) {
  const auto data = static_cast<std::string_view>(payload);
  if (type == 0 || data.size() > wire::kDefaultMaxPayloadBytes) {
    throw py::value_error("cannot encode a frame of type " + std::to_string(type) + " with " +
                          std::to_string(data.size()) + " payload bytes");
  }
  std::string frame(wire::kHeaderBytes, '\0');
  wire::encode_header({static_cast<std::uint32_t>(data.size()), type, flags, correlation},
                      reinterpret_cast<std::byte*>(frame.data()));
  return frame.append(data);
}

py::bytes encode_hello(std::uint8_t role, const py::bytes& sender, const py::bytes& node,
                       const py::bytes& expected_peer, const std::string& token, std::uint32_t pid,
                       std::uint16_t major, std::uint16_t minor) {
  Hello hello;
  hello.major = major;
  hello.minor = minor;
  hello.role = static_cast<Role>(role);
  hello.sender = id_from<WorkerId>(sender, "sender");
  hello.node = id_from<NodeId>(node, "node");
  hello.expected_peer = id_from<WorkerId>(expected_peer, "expected_peer");
  hello.token = token;
  hello.pid = pid;
  return to_python(wire::encode_hello(hello));
}

Hello decode_hello(const py::bytes& payload) {
  auto hello = wire::decode_hello(bytes_of(static_cast<std::string_view>(payload)));
  if (!hello) throw py::value_error("malformed HELLO");
  return *hello;
}

using Refusal = std::optional<std::pair<int, std::string>>;

Refusal to_refusal(const std::optional<wire::Reject>& reject) {
  if (!reject) return std::nullopt;
  return std::pair{static_cast<int>(reject->code), reject->message};
}

Refusal check_hello(const Hello& hello, const py::bytes& server_id, const std::string& token,
                    const std::vector<int>& accepted_roles, std::optional<std::uint32_t> required_uid,
                    std::optional<std::uint32_t> peer_uid) {
  wire::HandshakePolicy policy;
  policy.self.sender = id_from<WorkerId>(server_id, "server_id");
  policy.token = token;
  policy.required_uid = required_uid;
  for (const int role : accepted_roles) policy.accepted_roles.push_back(static_cast<Role>(role));
  const wire::PeerCredentials peer{peer_uid.has_value(), 0, peer_uid.value_or(0), 0};
  if (auto reject = wire::check_credentials(peer, policy)) return to_refusal(reject);
  return to_refusal(wire::check_hello(hello, policy));
}

Refusal check_hello_ack(const Hello& ack, const py::bytes& expected_peer) {
  return to_refusal(wire::check_hello_ack(ack, id_from<WorkerId>(expected_peer, "expected_peer")));
}

py::bytes encode_reject(int code, const std::string& message) {
  return to_python(wire::encode_reject({static_cast<RejectCode>(code), message}));
}

py::tuple decode_reject(const py::bytes& payload) {
  const auto reject = wire::decode_reject(bytes_of(static_cast<std::string_view>(payload)));
  if (!reject) throw py::value_error("malformed HELLO_REJECT");
  return py::make_tuple(static_cast<int>(reject->code), bindings::foreign_text(reject->message));
}

py::tuple listen_socket(const std::string& address) {
  const wire::Endpoint endpoint = wire::parse_endpoint(address);
  try {
    wire::UniqueFd fd = wire::listen_on(endpoint, address);
    std::string actual = address;
    if (!endpoint.is_unix) {
      actual = address.substr(0, address.rfind(':') + 1) + std::to_string(wire::bound_port(fd.get()));
    }
    return py::make_tuple(fd.release(), actual);
  } catch (const std::system_error& error) {
    PyErr_SetObject(PyExc_OSError, py::make_tuple(error.code().value(), error.what()).ptr());
    throw py::error_already_set();
  }
}

py::tuple parse_endpoint(const std::string& address) {
  const wire::Endpoint endpoint = wire::parse_endpoint(address);
  return py::make_tuple(endpoint.path, endpoint.host, endpoint.port);
}

void bind_constants(py::module_& module) {
  const auto type = [&](const char* name, FrameType value) { module.attr(name) = static_cast<int>(value); };
  type("FRAME_HELLO", FrameType::kHello);
  type("FRAME_HELLO_ACK", FrameType::kHelloAck);
  type("FRAME_HELLO_REJECT", FrameType::kHelloReject);
  type("FRAME_PING", FrameType::kPing);
  type("FRAME_PONG", FrameType::kPong);
  type("FRAME_CONTROL", FrameType::kControl);
  const auto role = [&](const char* name, Role value) { module.attr(name) = static_cast<int>(value); };
  role("ROLE_DRIVER", Role::kDriver);
  role("ROLE_WORKER", Role::kWorker);
  role("ROLE_TEMPLATE", Role::kTemplate);
  role("ROLE_RAYLET", Role::kRaylet);
  role("ROLE_PLASMA", Role::kPlasma);
  role("ROLE_TOOL", Role::kTool);
  const auto code = [&](const char* name, RejectCode value) { module.attr(name) = static_cast<int>(value); };
  code("REJECT_MALFORMED", RejectCode::kMalformed);
  code("REJECT_VERSION", RejectCode::kVersion);
  code("REJECT_TOKEN", RejectCode::kToken);
  code("REJECT_WRONG_PEER", RejectCode::kWrongPeer);
  code("REJECT_ROLE", RejectCode::kRole);
  code("REJECT_BUSY", RejectCode::kBusy);
  module.attr("FRAME_HEADER_BYTES") = wire::kHeaderBytes;
  module.attr("MAX_HANDSHAKE_PAYLOAD_BYTES") = wire::kMaxHandshakePayloadBytes;
  module.attr("MAX_PAYLOAD_BYTES") = wire::kDefaultMaxPayloadBytes;
  module.attr("MAX_TOKEN_BYTES") = wire::kMaxTokenBytes;
}

}  // namespace

void bind_wire(py::module_& module) {
  bind_constants(module);
  py::class_<PythonDecoder>(module, "FrameDecoder")
      .def(py::init<std::size_t>(), py::arg("max_payload_bytes") = wire::kDefaultMaxPayloadBytes)
      .def("feed", &PythonDecoder::feed, py::arg("data"), py::arg("limit") = -1)
      .def("set_max_payload_bytes", &PythonDecoder::set_max_payload_bytes, py::arg("max_payload_bytes"))
      .def_property_readonly("error", &PythonDecoder::error)
      .def_property_readonly("buffered_bytes", &PythonDecoder::buffered_bytes);
  py::class_<Hello>(module, "Hello")
      .def_readonly("major", &Hello::major)
      .def_readonly("minor", &Hello::minor)
      .def_property_readonly("role", [](const Hello& hello) { return static_cast<int>(hello.role); })
      .def_property_readonly("sender", [](const Hello& hello) { return py::bytes(hello.sender.binary()); })
      .def_property_readonly("node", [](const Hello& hello) { return py::bytes(hello.node.binary()); })
      .def_readonly("pid", &Hello::pid);
  module.def("encode_frame", &encode_frame, py::arg("frame_type"), py::arg("flags"), py::arg("correlation"),
             py::arg("payload"));
  module.def("encode_hello", &encode_hello, py::kw_only(), py::arg("role"), py::arg("sender"),
             py::arg("node") = py::bytes(), py::arg("expected_peer") = py::bytes(), py::arg("token") = "",
             py::arg("pid") = 0, py::arg("major") = wire::kProtocolMajor,
             py::arg("minor") = wire::kProtocolMinor);
  module.def("decode_hello", &decode_hello, py::arg("payload"));
  module.def("check_hello", &check_hello, py::arg("hello"), py::kw_only(), py::arg("server_id"),
             py::arg("token"), py::arg("accepted_roles"), py::arg("required_uid") = py::none(),
             py::arg("peer_uid") = py::none());
  module.def("check_hello_ack", &check_hello_ack, py::arg("hello"), py::arg("expected_peer"));
  module.def("encode_reject", &encode_reject, py::arg("code"), py::arg("message"));
  module.def("decode_reject", &decode_reject, py::arg("payload"));
  module.def("listen_socket", &listen_socket, py::arg("address"));
  module.def("parse_endpoint", &parse_endpoint, py::arg("address"));
  module.def("role_name", [](int role) { return wire::role_name(static_cast<Role>(role)); }, py::arg("role"));
}

}  // namespace aktis
