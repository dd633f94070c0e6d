// A doubly linked list through the elements themselves: O(1) removal without a lookup or an allocation.
// Oldest element first. Not thread-safe.
#pragma once

#include <cstddef>

namespace aktis::plasma {

template <typename T>
struct Link {
  T* previous = nullptr;
  T* next = nullptr;
  bool linked = false;
};

template <typename T, Link<T> T::* Hook>
class IntrusiveList {
 public:
  T* front() const { return first_; }
  static T* next(const T& element) { return (element.*Hook).next; }
  std::size_t size() const { return size_; }

  void push_back(T& element) {
    Link<T>& link = element.*Hook;
    if (link.linked) return;
    link = {.previous = last_, .next = nullptr, .linked = true};
    (last_ != nullptr ? (last_->*Hook).next : first_) = &element;
    last_ = &element;
    ++size_;
  }

  void remove(T& element) {
    Link<T>& link = element.*Hook;
    if (!link.linked) return;
    (link.previous != nullptr ? (link.previous->*Hook).next : first_) = link.next;
    (link.next != nullptr ? (link.next->*Hook).previous : last_) = link.previous;
    link = {};
    --size_;
  }

 private:
  T* first_ = nullptr;
  T* last_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace aktis::plasma
