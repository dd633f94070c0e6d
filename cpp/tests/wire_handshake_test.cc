#include <gtest/gtest.h>

#include "tests/wire_test_support.h"
#include "wire/handshake.h"

namespace aktis::wire {
namespace {

using testing::hello_with;
using testing::policy_with;

TEST(HandshakeTest, HelloSurvivesTheWire) {
  Hello hello = hello_with("a token", Role::kTemplate);
  hello.node = NodeId::random();
  hello.expected_peer = WorkerId::random();
  const auto back = decode_hello(encode_hello(hello));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->major, kProtocolMajor);
  EXPECT_EQ(back->minor, kProtocolMinor);
  EXPECT_EQ(back->role, Role::kTemplate);
  EXPECT_EQ(back->sender, hello.sender);
  EXPECT_EQ(back->node, hello.node);
  EXPECT_EQ(back->expected_peer, hello.expected_peer);
  EXPECT_EQ(back->token, "a token");
  EXPECT_EQ(back->pid, 4711u);
}

TEST(HandshakeTest, EveryCutHelloIsMalformed) {
  const auto bytes = encode_hello(hello_with());
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(decode_hello(std::span(bytes).first(length))) << length;
  }
}

TEST(HandshakeTest, FieldsOfANewerMinorVersionAreIgnored) {
  Hello newer = hello_with();
  newer.minor = 7;
  auto bytes = encode_hello(newer);
  bytes.insert(bytes.end(), 12, std::byte{0xee});
  const auto back = decode_hello(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->minor, 7);
  EXPECT_FALSE(check_hello(*back, policy_with()));
}

TEST(HandshakeTest, MagicAndRoleAreChecked) {
  auto bytes = encode_hello(hello_with());
  bytes[0] ^= std::byte{1};
  EXPECT_FALSE(decode_hello(bytes));
  for (const int role : {0, 7, 255}) {
    EXPECT_FALSE(decode_hello(encode_hello(hello_with("secret", static_cast<Role>(role))))) << role;
  }
}

TEST(HandshakeTest, TokensHaveALimit) {
  EXPECT_THROW(encode_hello(hello_with(std::string(kMaxTokenBytes + 1, 't'))), std::invalid_argument);
  EXPECT_TRUE(decode_hello(encode_hello(hello_with(std::string(kMaxTokenBytes, 't')))));
}

TEST(HandshakeTest, AnotherMajorVersionIsNamedEvenWhenItsLayoutIsUnknown) {
  Hello other = hello_with();
  other.major = 2;
  other.minor = 3;
  auto bytes = encode_hello(other);
  bytes.resize(8);  // magic and version is all that we can know of it
  const auto back = decode_hello(bytes);
  ASSERT_TRUE(back);
  const auto reject = check_hello(*back, policy_with());
  ASSERT_TRUE(reject);
  EXPECT_EQ(reject->code, RejectCode::kVersion);
  EXPECT_NE(reject->message.find("2.3"), std::string::npos);
  EXPECT_NE(reject->message.find("1.0"), std::string::npos);
}

TEST(HandshakeTest, OnlyTheExactTokenIsAccepted) {
  const HandshakePolicy policy = policy_with("secret");
  EXPECT_FALSE(check_hello(hello_with("secret"), policy));
  for (const char* token : {"", "s", "secre", "secret2", "Secret", "secretsecret"}) {
    const auto reject = check_hello(hello_with(token), policy);
    ASSERT_TRUE(reject) << token;
    EXPECT_EQ(reject->code, RejectCode::kToken);
    EXPECT_EQ(reject->message.find("secret"), std::string::npos) << "never show a token";
  }
  EXPECT_FALSE(check_hello(hello_with("anything"), policy_with(""))) << "no token is demanded";
}

TEST(HandshakeTest, TheTokenIsCheckedBeforeAnythingThatTellsWhoWeAre) {
  HandshakePolicy policy = policy_with();
  policy.accepted_roles = {Role::kRaylet};
  Hello hello = hello_with("wrong");
  hello.expected_peer = WorkerId::random();
  EXPECT_EQ(check_hello(hello, policy)->code, RejectCode::kToken);
}

TEST(HandshakeTest, TheExpectedProcessMustBeThisOne) {
  const HandshakePolicy policy = policy_with();
  Hello hello = hello_with();
  hello.expected_peer = policy.self.sender;
  EXPECT_FALSE(check_hello(hello, policy));
  hello.expected_peer = WorkerId::random();
  EXPECT_EQ(check_hello(hello, policy)->code, RejectCode::kWrongPeer);
}

TEST(HandshakeTest, OnlyAcceptedRolesAreWelcome) {
  HandshakePolicy policy = policy_with();
  policy.accepted_roles = {Role::kDriver, Role::kWorker};
  EXPECT_FALSE(check_hello(hello_with("secret", Role::kDriver), policy));
  const auto reject = check_hello(hello_with("secret", Role::kPlasma), policy);
  ASSERT_TRUE(reject);
  EXPECT_EQ(reject->code, RejectCode::kRole);
  EXPECT_NE(reject->message.find("plasma"), std::string::npos);
  EXPECT_NE(reject->message.find("driver, worker"), std::string::npos);
}

TEST(HandshakeTest, OnlyTheRequiredUserIsWelcome) {
  HandshakePolicy policy = policy_with();
  const PeerCredentials peer{true, 10, 1000, 1000};
  EXPECT_FALSE(check_credentials(peer, policy));
  policy.required_uid = 1000;
  EXPECT_FALSE(check_credentials(peer, policy));
  policy.required_uid = 1001;
  EXPECT_TRUE(check_credentials(peer, policy));
}

TEST(HandshakeTest, RejectSurvivesTheWire) {
  const auto back = decode_reject(encode_reject({RejectCode::kWrongPeer, "somebody else"}));
  ASSERT_TRUE(back);
  EXPECT_EQ(back->code, RejectCode::kWrongPeer);
  EXPECT_EQ(back->message, "somebody else");
  const auto cut = decode_reject(encode_reject({RejectCode::kBusy, std::string(5000, 'm')}));
  ASSERT_TRUE(cut);
  EXPECT_EQ(cut->message.size(), 1024u);
  EXPECT_FALSE(decode_reject({}));
  EXPECT_FALSE(decode_reject(encode_reject({static_cast<RejectCode>(99), "?"})));
}

TEST(HandshakeTest, TheClientChecksWhoAnswered) {
  Hello ack = hello_with("");
  EXPECT_FALSE(check_hello_ack(ack, WorkerId{}));
  EXPECT_FALSE(check_hello_ack(ack, ack.sender));
  EXPECT_EQ(check_hello_ack(ack, WorkerId::random())->code, RejectCode::kWrongPeer);
  ack.major = 3;
  EXPECT_EQ(check_hello_ack(ack, ack.sender)->code, RejectCode::kVersion);
}

}  // namespace
}  // namespace aktis::wire
