// The items of a streaming generator as the owner of its task keeps them.
//
// Pure bookkeeping of one stream. The executor sends items in order, each as an object of its own; the
// consumer takes them in order. The object of the next item may exist before the item has come (it is then
// *promised*), so that whoever waits for it waits as for any other object; when the stream ends first, the
// promised object becomes an error that nobody sees, because the consumer asks ended_at() first.
//
// An attempt that is made again sends its items from the beginning: those that are here already are skipped.
// The consumer may let go at any time; what comes afterwards is not kept. Without a limit the executor never
// waits; with one it waits while so many items have not been taken, and is told what has been.
//
// What is kept is bounded in bytes, too: beyond that the executor is told to *pause*, and to go on when half
// of it is taken. That limit is nobody's wish, so it must not keep anybody waiting: it is lifted for good
// when somebody waits for the end of the task without taking the items.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

namespace aktis::core {

class Stream {
 public:
  explicit Stream(std::uint32_t limit) : limit_(limit) {}

  // ---- the producer ----
  enum class Arrival { kNew, kPromised, kKnown, kOutOfOrder };
  // What to do with item `index`: make an object for it, complete the promised one, skip it, or reject it.
  Arrival arrive(std::uint32_t index) {
    if (index > received_) return Arrival::kOutOfOrder;
    if (index < received_ || dropped_) {
      received_ = std::max(received_, index + 1);
      return Arrival::kKnown;
    }
    ++received_;
    return promised_ && index == taken_ ? Arrival::kPromised : Arrival::kNew;
  }
  // The task is over. True: the promised object will not come any more and has to be completed.
  bool end() {
    ended_ = true;
    return promised_ && taken_ == received_;
  }

  // ---- the consumer ----
  bool ended_at_next() const { return ended_ && taken_ == received_; }
  std::uint32_t next() const { return taken_; }
  // True: the next item's object does not exist yet and has to be made.
  bool promise() {
    const bool make = !promised_ && taken_ == received_;
    promised_ = true;
    return make;
  }
  // The next item has come and is handed over. What the executor is to be told, if it waits or soon will.
  std::optional<std::uint32_t> take() {
    ++taken_;
    promised_ = false;
    if (limit_ == 0 || taken_ - told_ < std::max<std::uint32_t>(1, limit_ / 2)) return std::nullopt;
    told_ = taken_;
    return taken_;
  }
  // The consumer is gone: the items from next() to kept_until() are let go, and no other is kept.
  void drop() { dropped_ = true; }
  std::uint32_t kept_until() const {
    return dropped_ ? taken_ : std::max(received_, taken_ + (promised_ ? 1u : 0u));
  }

  // ---- bytes that are kept ----
  // An item came, or was taken, with so many. True: paused() has changed, and the executor is to be told.
  bool came(std::uint64_t bytes, std::uint64_t limit) {
    kept_bytes_ += bytes;
    return set_paused(paused_ || (!lifted_ && kept_bytes_ > limit));
  }
  bool went(std::uint64_t bytes, std::uint64_t limit) {
    kept_bytes_ = taken_ == received_ ? 0 : kept_bytes_ - std::min(kept_bytes_, bytes);
    return set_paused(paused_ && kept_bytes_ > limit / 2);
  }
  bool lift() {
    lifted_ = true;
    return set_paused(false);
  }
  bool paused() const { return paused_; }

  // What an attempt that starts anew has to know: how many items have been taken already, none if it is new.
  std::uint32_t taken() const { return taken_; }
  bool limited() const { return limit_ != 0; }
  bool dropped() const { return dropped_; }
  bool ended() const { return ended_; }
  std::uint32_t received() const { return received_; }

 private:
  bool set_paused(bool paused) { return std::exchange(paused_, paused) != paused; }

  const std::uint32_t limit_;
  std::uint32_t received_ = 0;
  std::uint32_t taken_ = 0;
  std::uint32_t told_ = 0;
  bool promised_ = false;
  bool ended_ = false;
  bool dropped_ = false;
  std::uint64_t kept_bytes_ = 0;  // of items that have come and are not taken
  bool paused_ = false;
  bool lifted_ = false;
};

}  // namespace aktis::core
