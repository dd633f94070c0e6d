// A client's leased slabs: objects are cut from them without a message.
//
// Pure bookkeeping: what must be told to the store is appended to the OpWriter given. Guarded by the
// client's lock. One slab is cut from, one is held ready; older ones wait until all that was cut from
// them is sealed or aborted, because the store takes back whatever is unsealed when a slab is closed.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>

#include "plasma/protocol.h"
#include "wire/reactor.h"

namespace aktis::plasma {

class SlabCutter {
 public:
  struct Cut {
    std::uint64_t slab = 0;
    std::uint64_t offset = 0;
  };

  // Room for an object; none when no slab has it.
  std::optional<Cut> cut(std::uint64_t size_bytes, OpWriter& ops);
  // The object was sealed, or aborted (then `ops` gets nothing back of it before the slab is closed).
  void settle(const Cut& cut, OpWriter& ops);

  // How large an object the next slab must hold, if one should be asked for now; call once per message.
  std::optional<std::uint64_t> take_request(std::uint64_t wanted_bytes, wire::TimePoint now);
  void granted(const SlabGrant& grant, wire::TimePoint now, OpWriter& ops);

  // Gives back everything that is not being written.
  void reclaim(OpWriter& ops);

 private:
  struct Lease {
    std::uint64_t slab = 0;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    std::uint64_t used = 0;
    std::uint64_t unsettled = 0;
  };
  static std::optional<Cut> cut_from(std::optional<Lease>& lease, std::uint64_t bytes);
  void retire(std::optional<Lease>& lease, OpWriter& ops);

  std::optional<Lease> current_;
  std::optional<Lease> ready_;
  std::unordered_map<std::uint64_t, Lease> retired_;
  bool asked_ = false;
  wire::TimePoint refused_until_{};
};

}  // namespace aktis::plasma
