#include "plasma/sync_client.h"

#include <pthread.h>
#include <signal.h>

#include <vector>

namespace aktis::plasma {
namespace {

constexpr std::chrono::microseconds kLinger{500};

}  // namespace

// Answers wait here for the threads that asked; several may wait for one object, each takes a pin.
class SyncClient::Inbox final : public ClientListener {
 public:
  struct Asked {
    const ObjectId id;
    wire::Waiter waiter;
    GetResult result;
  };

  void add(Asked& asked) {
    std::lock_guard lock(mutex_);
    if (!disconnected_.empty()) {
      asked.result = {GetStatus::kDisconnected, {}, disconnected_};
      asked.waiter.complete();
      return;
    }
    waiting_.emplace(asked.id, &asked);
  }
  // Under the lock from the look to the cancelling: another thread may be about to ask.
  void remove(Asked& asked) {
    std::lock_guard lock(mutex_);
    auto [first, last] = waiting_.equal_range(asked.id);
    for (auto entry = first; entry != last; ++entry) {
      if (entry->second != &asked) continue;
      waiting_.erase(entry);
      break;
    }
    if (asked.result.status == GetStatus::kTimeout && waiting_.count(asked.id) == 0) {
      client->cancel_request(asked.id);
    }
  }

  void on_object(const ObjectId& id, ObjectView view) override { answer(id, {GetStatus::kReady, view, ""}); }
  void on_object_lost(const ObjectId& id) override { answer(id, {GetStatus::kLost, {}, ""}); }
  void on_disconnected(const std::string& reason) override {
    std::lock_guard lock(mutex_);
    disconnected_ = reason;
    for (auto& [id, asked] : waiting_) {
      asked->result = {GetStatus::kDisconnected, {}, reason};
      asked->waiter.complete();
    }
    waiting_.clear();
  }
  Client* client = nullptr;  // set once, before the first answer

 private:
  void answer(const ObjectId& id, const GetResult& result) {
    std::lock_guard lock(mutex_);
    auto [first, last] = waiting_.equal_range(id);
    std::size_t takers = 0;
    for (auto entry = first; entry != last; ++entry, ++takers) {
      entry->second->result = result;
      // The answer brought one pin; every further taker needs one of its own.
      if (takers > 0 && result.status == GetStatus::kReady) client->pin(id);
      entry->second->waiter.complete();
    }
    waiting_.erase(first, last);
    if (takers == 0 && result.status == GetStatus::kReady) client->unpin(id);  // gave up meanwhile
  }

  std::mutex mutex_;
  std::unordered_multimap<ObjectId, Asked*, IdHash> waiting_;
  std::string disconnected_;
};

SyncClient::SyncClient(ClientConfig config)
    : baton_(reactor_, kLinger),
      inbox_(std::make_shared<Inbox>()),
      client_(std::make_unique<Client>(reactor_, baton_, std::move(config), inbox_)) {
  inbox_->client = client_.get();
  service_ = std::thread([this] {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    pthread_setname_np(pthread_self(), "plasma-client");
    baton_.serve(stop_, wire::TimePoint::max());
  });
}

SyncClient::~SyncClient() {
  stop_.complete();
  service_.join();
  client_.reset();
  baton_.poll_now();  // the connection's last callback
}

GetResult SyncClient::get(const ObjectId& id, wire::TimePoint deadline) {
  if (auto view = client_->pin_if_mapped(id)) return {GetStatus::kReady, *view, ""};
  Inbox::Asked asked{id, {}, {}};
  inbox_->add(asked);
  client_->request({&id, 1});
  baton_.wait(asked.waiter, deadline);
  inbox_->remove(asked);
  return asked.result;
}

bool SyncClient::contains(const ObjectId& id, wire::TimePoint deadline) {
  Inbox::Asked asked{id, {}, {}};
  inbox_->add(asked);
  client_->request({&id, 1});
  client_->sync(deadline);
  inbox_->remove(asked);
  if (asked.result.status == GetStatus::kReady) client_->unpin(id);
  return asked.result.status == GetStatus::kReady;
}

}  // namespace aktis::plasma
