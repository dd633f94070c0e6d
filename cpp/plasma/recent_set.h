// Remembers keys for a while: bounded in number (the oldest is forgotten first) and in time.
#pragma once

#include <cstddef>
#include <deque>
#include <unordered_map>
#include <utility>

#include "wire/ids.h"
#include "wire/reactor.h"

namespace aktis::plasma {

template <typename Key>
class RecentSet {
 public:
  RecentSet(std::size_t max_keys, wire::Clock::duration lifetime)
      : max_keys_(max_keys), lifetime_(lifetime) {}

  void insert(const Key& key, wire::TimePoint now) {
    expires_[key] = now + lifetime_;
    order_.emplace_back(key, now + lifetime_);
    while (order_.size() > max_keys_ || (!order_.empty() && order_.front().second <= now)) forget_oldest();
  }
  bool contains(const Key& key, wire::TimePoint now) const {
    auto found = expires_.find(key);
    return found != expires_.end() && found->second > now;
  }
  // Whether the key was there; it is not afterwards.
  bool take(const Key& key, wire::TimePoint now) {
    auto found = expires_.find(key);
    if (found == expires_.end()) return false;
    const bool fresh = found->second > now;
    expires_.erase(found);
    return fresh;
  }
  bool empty() const { return expires_.empty(); }

 private:
  void forget_oldest() {
    auto [key, expiry] = order_.front();
    order_.pop_front();
    // A key inserted again later has a younger entry in order_ and must stay.
    if (auto found = expires_.find(key); found != expires_.end() && found->second == expiry)
      expires_.erase(found);
  }

  const std::size_t max_keys_;
  const wire::Clock::duration lifetime_;
  std::unordered_map<Key, wire::TimePoint, IdHash> expires_;
  std::deque<std::pair<Key, wire::TimePoint>> order_;
};

}  // namespace aktis::plasma
