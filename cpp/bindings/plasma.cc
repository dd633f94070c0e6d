#include "bindings/plasma.h"

#include <pybind11/stl.h>
#include <unistd.h>

#include <cmath>
#include <memory>
#include <string>
#include <string_view>

#include "plasma/store.h"
#include "plasma/sync_client.h"

namespace py = pybind11;

namespace aktis {
namespace {

using plasma::CreateError;
using plasma::GetStatus;

class PlasmaFullError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
class PlasmaExistsError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
class PlasmaDisconnected : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

template <typename Id>
Id id_from(const py::bytes& raw, const char* what) {
  const auto view = static_cast<std::string_view>(raw);
  if (view.size() != sizeof(Id)) {
    throw py::value_error(std::string(what) + " must have " + std::to_string(sizeof(Id)) + " bytes, got " +
                          std::to_string(view.size()));
  }
  return Id::from_bytes(view.data());
}

template <typename Id>
Id id_or_nil(const py::bytes& raw, const char* what) {
  return static_cast<std::string_view>(raw).empty() ? Id{} : id_from<Id>(raw, what);
}

template <typename Id>
py::bytes to_python(const Id& id) {
  return {reinterpret_cast<const char*>(id.data), sizeof(Id)};
}

wire::TimePoint after(double timeout_s) {
  constexpr double kMaxSeconds = 1e8;
  if (std::isnan(timeout_s) || timeout_s < 0) throw py::value_error("timeout_s must not be negative");
  const std::chrono::duration<double> delay(std::min(timeout_s, kMaxSeconds));
  return wire::Clock::now() + std::chrono::duration_cast<wire::Clock::duration>(delay);
}

// ---- the store ----

py::dict statistics_of(plasma::Store& store) {
  plasma::StoreStatistics now;
  {
    py::gil_scoped_release release;
    now = store.statistics();
  }
  const auto& engine = now.engine;
  py::dict out;
  out["capacity_bytes"] = engine.capacity_bytes;
  out["used_bytes"] = engine.used_bytes;
  out["free_bytes"] = engine.free_bytes;
  out["warm_free_bytes"] = engine.warm_free_bytes;
  out["largest_free_bytes"] = engine.largest_free_bytes;
  out["resident_bytes"] = now.resident_bytes;
  out["slab_bytes"] = engine.slab_bytes;
  out["evictable_bytes"] = engine.evictable_bytes;
  out["creating_objects"] = engine.objects.created;
  out["creating_bytes"] = engine.objects.created_bytes;
  out["sealed_objects"] = engine.objects.sealed;
  out["sealed_bytes"] = engine.objects.sealed_bytes;
  out["deleted_objects"] = engine.objects.deleted;
  out["deleted_bytes"] = engine.objects.deleted_bytes;
  out["pinned_objects"] = engine.objects.pinned;
  out["pinned_bytes"] = engine.objects.pinned_bytes;
  out["clients"] = engine.clients;
  out["waiting_gets"] = engine.waiting_gets;
  out["waiting_creates"] = engine.waiting_creates;
  out["waiting_create_bytes"] = engine.waiting_create_bytes;
  out["creates_total"] = engine.creates;
  out["seals_total"] = engine.seals;
  out["gets_total"] = engine.gets;
  out["releases_total"] = engine.releases;
  out["deletes_total"] = engine.deletes;
  out["aborts_total"] = engine.aborts;
  out["slabs_total"] = engine.slabs;
  out["evictions_total"] = engine.evictions;
  out["evicted_bytes_total"] = engine.evicted_bytes;
  out["allocated_bytes_total"] = engine.allocated_bytes;
  out["full_errors_total"] = engine.full_errors;
  out["protocol_errors_total"] = engine.violations;
  out["refused_connections_total"] = now.refused_connections;
  out["disconnects_total"] = engine.disconnects;
  out["duplicates_total"] = engine.duplicates;
  out["missing_total"] = engine.missing;
  out["epoch"] = now.epoch;
  out["resumed_objects"] = now.resumed_objects;
  out["dropped_slots"] = now.dropped_slots;
  return out;
}

py::list objects_of(plasma::Store& store, std::size_t limit) {
  std::vector<plasma::ObjectInfo> objects;
  {
    py::gil_scoped_release release;
    objects = store.list_objects(limit);
  }
  py::list out;
  for (const auto& object : objects) {
    py::dict entry;
    entry["object_id"] = to_python(object.id);
    entry["owner"] = to_python(object.owner);
    entry["size_bytes"] = object.size_bytes;
    entry["offset"] = object.offset;
    entry["state"] = std::string(plasma::name(object.state));
    entry["pins"] = object.pins;
    entry["creator_pid"] = object.creator_pid;
    entry["primary"] = object.primary;
    entry["created_unix_ns"] = object.created_unix_ns;
    out.append(entry);
  }
  return out;
}

std::unique_ptr<plasma::Store> make_store(const std::string& address, std::uint64_t capacity_bytes,
                                          const std::string& token, const py::bytes& node_id, bool populate,
                                          bool huge_pages, std::uint64_t warm_reserve_bytes,
                                          double idle_release_s, std::uint64_t slab_min_bytes,
                                          std::uint64_t slab_max_bytes, double slab_idle_s,
                                          std::uint32_t create_timeout_ms,
                                          const std::vector<std::uint32_t>& allowed_uids, int arena_fd,
                                          int table_fd) {
  plasma::StoreConfig config;
  config.address = address;
  config.capacity_bytes = capacity_bytes;
  config.token = token;
  config.node = id_or_nil<NodeId>(node_id, "node_id");
  config.huge_pages = huge_pages ? plasma::HugePages::kHugetlb : plasma::HugePages::kNone;
  config.warmth.populate_all = populate;
  config.warmth.reserve_bytes = warm_reserve_bytes;
  config.warmth.idle = std::chrono::milliseconds(static_cast<std::int64_t>(idle_release_s * 1000));
  config.engine.slabs.min_bytes = slab_min_bytes;
  config.engine.slabs.max_bytes = slab_max_bytes;
  config.engine.slab_idle = std::chrono::milliseconds(static_cast<std::int64_t>(slab_idle_s * 1000));
  config.create_timeout_ms = create_timeout_ms;
  config.allowed_uids = allowed_uids;
  config.arena_fd = arena_fd;
  config.table_fd = table_fd;
  return std::make_unique<plasma::Store>(std::move(config));
}

// ---- the client ----

// A buffer over one object; keeps its pin, the client and the mapping for as long as any view lives.
class View {
 public:
  View(std::shared_ptr<plasma::SyncClient> client, const ObjectId& id, plasma::ObjectView view)
      : client_(std::move(client)), mapping_(client_->client().mapping()), id_(id), view_(view) {}
  ~View() {
    py::gil_scoped_release release;
    client_->client().unpin(id_);
    client_.reset();  // may be the last: joins its thread
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;

  py::buffer_info buffer() const {
    return {const_cast<std::byte*>(view_.data.data()),
            1,
            "B",
            1,
            {static_cast<py::ssize_t>(view_.data.size())},
            {py::ssize_t{1}},
            /*readonly=*/true};
  }

 private:
  std::shared_ptr<plasma::SyncClient> client_;
  std::shared_ptr<const void> mapping_;
  const ObjectId id_;
  const plasma::ObjectView view_;
};

class PlasmaClient {
 public:
  PlasmaClient(const std::string& address, const std::string& token, const py::bytes& worker_id) {
    config_.address = address;
    config_.hello.role = wire::Role::kTool;
    config_.hello.sender = id_or_nil<WorkerId>(worker_id, "worker_id");
    if (config_.hello.sender.is_nil()) config_.hello.sender = WorkerId::random();
    config_.hello.token = token;
    config_.hello.pid = static_cast<std::uint32_t>(::getpid());
  }

  void connect(double timeout_s) {
    const auto deadline = after(timeout_s);
    if (client_) throw std::runtime_error("already connected");
    py::gil_scoped_release release;
    auto client = std::make_shared<plasma::SyncClient>(config_);
    try {
      client->client().connect(deadline);
    } catch (const std::runtime_error& error) {
      throw PlasmaDisconnected(error.what());
    }
    client_ = std::move(client);
  }

  void close() {
    auto client = std::move(client_);
    py::gil_scoped_release release;
    client.reset();
  }

  py::object get(const py::bytes& object_id, double timeout_s) {
    const auto id = id_from<ObjectId>(object_id, "object_id");
    auto client = connected();
    const auto deadline = after(timeout_s);
    plasma::GetResult result;
    {
      py::gil_scoped_release release;
      result = client->get(id, deadline);
    }
    switch (result.status) {
      case GetStatus::kReady:
        return view_of(client, id, result.view);
      case GetStatus::kTimeout:
        return py::none();
      case GetStatus::kLost:
        throw py::key_error("object " + id.hex() + " was deleted, or its creator died before it was sealed");
      case GetStatus::kDisconnected:
        throw PlasmaDisconnected(result.reason);
    }
    return py::none();
  }

  bool contains(const py::bytes& object_id, double timeout_s) {
    const auto id = id_from<ObjectId>(object_id, "object_id");
    auto client = connected();
    const auto deadline = after(timeout_s);
    py::gil_scoped_release release;
    return client->contains(id, deadline);
  }

  py::object put(const py::bytes& object_id, const py::buffer& data, const py::bytes& owner, double timeout_s,
                 bool primary) {
    const py::buffer_info source = data.request();
    if (PyBuffer_IsContiguous(source.view(), 'C') == 0) throw py::value_error("data must be contiguous");
    const auto size = static_cast<std::size_t>(source.size * source.itemsize);
    const auto id = id_from<ObjectId>(object_id, "object_id");
    auto client = connected();
    const auto writable = created(*client, id, size, owner, timeout_s, primary);
    plasma::ObjectView view;
    {
      py::gil_scoped_release release;
      client->client().copy(writable, {static_cast<const std::byte*>(source.ptr), size});
      view = client->client().seal(id);
    }
    return view_of(client, id, view);
  }

  py::memoryview create(const py::bytes& object_id, std::size_t size_bytes, const py::bytes& owner,
                        double timeout_s, bool primary) {
    const auto id = id_from<ObjectId>(object_id, "object_id");
    const auto writable = created(*connected(), id, size_bytes, owner, timeout_s, primary);
    return py::memoryview::from_memory(writable.data(), static_cast<py::ssize_t>(writable.size()));
  }

  py::object seal(const py::bytes& object_id) {
    const auto id = id_from<ObjectId>(object_id, "object_id");
    auto client = connected();
    return view_of(client, id, client->client().seal(id));
  }

  void abort(const py::bytes& object_id) {
    connected()->client().abort(id_from<ObjectId>(object_id, "object_id"));
  }

  void remove(const std::vector<py::bytes>& object_ids) {
    std::vector<ObjectId> ids;
    ids.reserve(object_ids.size());
    for (const auto& raw : object_ids) ids.push_back(id_from<ObjectId>(raw, "object_id"));
    connected()->client().remove(ids);
  }

  bool sync(double timeout_s) {
    auto client = connected();
    const auto deadline = after(timeout_s);
    py::gil_scoped_release release;
    return client->client().sync(deadline);
  }

 private:
  std::shared_ptr<plasma::SyncClient> connected() const {
    if (!client_) throw PlasmaDisconnected("not connected to an object store: call connect() first");
    return client_;
  }

  static py::object view_of(const std::shared_ptr<plasma::SyncClient>& client, const ObjectId& id,
                            plasma::ObjectView view) {
    return py::memoryview(py::cast(std::make_unique<View>(client, id, view)));
  }

  static std::span<std::byte> created(plasma::SyncClient& client, const ObjectId& id, std::size_t size_bytes,
                                      const py::bytes& owner, double timeout_s, bool primary) {
    const auto owner_id = id_or_nil<WorkerId>(owner, "owner");
    const auto deadline = after(timeout_s);
    plasma::CreateResult result;
    {
      py::gil_scoped_release release;
      result = client.client().create(id, size_bytes, owner_id, deadline, primary);
    }
    switch (result.error) {
      case CreateError::kNone:
        return result.writable;
      case CreateError::kTooLarge:
        throw py::value_error(result.message);
      case CreateError::kFull:
        throw PlasmaFullError(result.message);
      case CreateError::kExists:
        throw PlasmaExistsError(result.message);
      case CreateError::kDisconnected:
        throw PlasmaDisconnected(result.message);
    }
    return {};
  }

  plasma::ClientConfig config_;
  std::shared_ptr<plasma::SyncClient> client_;
};

void bind_store(py::module_& module) {
  const auto without_gil = py::call_guard<py::gil_scoped_release>();
  py::class_<plasma::Store>(module, "PlasmaStore")
      .def(py::init(&make_store), py::kw_only(), py::arg("address"), py::arg("capacity_bytes"),
           py::arg("token") = "", py::arg("node_id") = py::bytes(), py::arg("populate") = false,
           py::arg("huge_pages") = false, py::arg("warm_reserve_bytes") = 64u << 20,
           py::arg("idle_release_s") = 10.0, py::arg("slab_min_bytes") = 256u << 10,
           py::arg("slab_max_bytes") = 16u << 20, py::arg("slab_idle_s") = 1.0,
           py::arg("create_timeout_ms") = 10'000, py::arg("allowed_uids") = std::vector<std::uint32_t>(),
           py::arg("arena_fd") = -1, py::arg("table_fd") = -1)
      .def("start", &plasma::Store::start, without_gil)
      .def("stop", &plasma::Store::stop, without_gil)
      .def("statistics", &statistics_of)
      .def("list_objects", &objects_of, py::arg("limit"))
      .def(
          "free_owner",
          [](plasma::Store& store, const py::bytes& owner) {
            const auto id = id_from<WorkerId>(owner, "owner");
            py::gil_scoped_release release;
            return store.free_owner(id);
          },
          py::arg("owner"))
      .def("evict", &plasma::Store::evict, py::arg("bytes"), without_gil)
      .def_property_readonly("address", &plasma::Store::address)
      .def_property_readonly("arena_fd", &plasma::Store::arena_fd)
      .def_property_readonly("table_fd", &plasma::Store::table_fd);
}

void bind_client(py::module_& module) {
  py::class_<View>(module, "_PlasmaView", py::buffer_protocol()).def_buffer(&View::buffer);
  py::class_<PlasmaClient>(module, "PlasmaClient")
      .def(py::init<const std::string&, const std::string&, const py::bytes&>(), py::arg("address"),
           py::kw_only(), py::arg("token") = "", py::arg("worker_id") = py::bytes())
      .def("connect", &PlasmaClient::connect, py::arg("timeout_s") = 5.0)
      .def("close", &PlasmaClient::close)
      .def("put", &PlasmaClient::put, py::arg("object_id"), py::arg("data"), py::kw_only(),
           py::arg("owner") = py::bytes(), py::arg("timeout_s") = 10.0, py::arg("primary") = true)
      .def("create", &PlasmaClient::create, py::arg("object_id"), py::arg("size_bytes"), py::kw_only(),
           py::arg("owner") = py::bytes(), py::arg("timeout_s") = 10.0, py::arg("primary") = true)
      .def("seal", &PlasmaClient::seal, py::arg("object_id"))
      .def("abort", &PlasmaClient::abort, py::arg("object_id"))
      .def("get", &PlasmaClient::get, py::arg("object_id"), py::arg("timeout_s") = 10.0)
      .def("contains", &PlasmaClient::contains, py::arg("object_id"), py::arg("timeout_s") = 10.0)
      .def("delete", &PlasmaClient::remove, py::arg("object_ids"))
      .def("sync", &PlasmaClient::sync, py::arg("timeout_s") = 10.0);
}

}  // namespace

void bind_plasma(py::module_& module) {
  py::register_exception<PlasmaFullError>(module, "PlasmaFullError");
  py::register_exception<PlasmaExistsError>(module, "PlasmaExistsError");
  py::register_exception<PlasmaDisconnected>(module, "PlasmaDisconnectedError", PyExc_ConnectionError);
  bind_store(module);
  bind_client(module);
}

}  // namespace aktis
