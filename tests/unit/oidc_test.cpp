// Tokens of an identity provider, made here with keys of our own: what is taken and what is not.
#include "api/access/oidc.h"

#include <cjose/cjose.h>
#include <gtest/gtest.h>
#include <sodium.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace tutti {
namespace {

namespace json = boost::json;

const Instant kNow{std::chrono::seconds(1'800'000'000)};

struct KeyFree {
  void operator()(cjose_jwk_t* key) const { cjose_jwk_release(key); }
};
using Key = std::unique_ptr<cjose_jwk_t, KeyFree>;

Key make_key(const std::string& kid, bool elliptic) {
  cjose_err error{};
  const std::uint8_t e[] = {1, 0, 1};
  Key key(elliptic ? cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, &error)
                   : cjose_jwk_create_RSA_random(2048, e, sizeof e, &error));
  EXPECT_TRUE(key) << error.message;
  EXPECT_TRUE(cjose_jwk_set_kid(key.get(), kid.data(), kid.size(), &error));
  return key;
}

json::object public_part(const Key& key) {
  cjose_err error{};
  char* text = cjose_jwk_to_json(key.get(), false, &error);
  auto out = json::parse(text).as_object();
  std::free(text);
  return out;
}

std::string sign(const Key& key, const std::string& algorithm, const std::string& kid,
                 const json::object& claims) {
  cjose_err error{};
  cjose_header_t* header = cjose_header_new(&error);
  cjose_header_set(header, "alg", algorithm.c_str(), &error);
  if (!kid.empty()) cjose_header_set(header, "kid", kid.c_str(), &error);
  const std::string plain = json::serialize(claims);
  cjose_jws_t* jws = cjose_jws_sign(key.get(), header, reinterpret_cast<const std::uint8_t*>(plain.data()),
                                    plain.size(), &error);
  cjose_header_release(header);
  EXPECT_NE(jws, nullptr) << error.message;
  if (jws == nullptr) return "";
  const char* text = nullptr;
  EXPECT_TRUE(cjose_jws_export(jws, &text, &error));
  std::string out(text);
  cjose_jws_release(jws);
  return out;
}

std::string base64url(std::string_view text) {
  std::string out(sodium_base64_ENCODED_LEN(text.size(), sodium_base64_VARIANT_URLSAFE_NO_PADDING), '\0');
  sodium_bin2base64(out.data(), out.size(), reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                    sodium_base64_VARIANT_URLSAFE_NO_PADDING);
  out.pop_back();
  return out;
}

class Oidc : public ::testing::Test {
 protected:
  static OidcSettings settings() {
    OidcSettings s;
    s.issuer = "https://id.example";
    s.audience = "tutti";
    s.grants = {{"ml", "nlp", Role::member}, {"ops", "*", Role::operator_}, {"leads", "nlp", Role::admin}};
    return s;
  }
  void SetUp() override { publish({&rsa, &ec}); }
  void publish(const std::vector<const Key*>& keys) {
    json::array list;
    for (const auto* key : keys) list.push_back(public_part(*key));
    ASSERT_TRUE(verifier.set_keys(json::serialize(json::object{{"keys", list}})));
  }
  json::object claims() {
    return {{"iss", "https://id.example"},
            {"aud", json::array{"other", "tutti"}},
            {"sub", "17"},
            {"exp", 1'800'000'600},
            {"preferred_username", "ada"},
            {"groups", json::array{"ml", "cooks"}}};
  }
  std::string refusal(const std::string& jwt) {
    const auto verdict = verifier.verify(jwt, kNow);
    return verdict.identity ? "" : verdict.refusal.error.message;
  }

  static inline const Key rsa = make_key("rsa-1", false), ec = make_key("ec-1", true);
  OidcVerifier verifier{settings()};
};

TEST_F(Oidc, AGoodTokenNamesAUserAndTheirRoles) {
  for (const auto& [key, algorithm, kid] :
       {std::tuple(&rsa, "RS256", "rsa-1"), std::tuple(&rsa, "PS384", "rsa-1"),
        std::tuple(&ec, "ES256", "ec-1")}) {
    const auto verdict = verifier.verify(sign(*key, algorithm, kid, claims()), kNow);
    ASSERT_TRUE(verdict.identity) << algorithm << verdict.refusal.error.message;
    EXPECT_EQ(verdict.identity->name, "ada");
    EXPECT_EQ(verdict.identity->roles.at("nlp"), Role::member);
    EXPECT_EQ(verdict.identity->roles.size(), 1U);
  }
  auto of_many = claims();
  of_many["groups"] = json::array{"ml", "leads", "ops"};
  const auto verdict = verifier.verify(sign(rsa, "RS256", "", of_many), kNow);
  ASSERT_TRUE(verdict.identity);
  EXPECT_EQ(verdict.identity->roles.at("nlp"), Role::admin) << "the best of several";
  EXPECT_EQ(verdict.identity->everywhere(), Role::operator_);
}

TEST_F(Oidc, WhatDoesNotFitIsRefused) {
  const auto with = [&](std::string_view name, json::value value) {
    auto changed = claims();
    if (value.is_null())
      changed.erase(name);
    else
      changed[name] = std::move(value);
    return refusal(sign(rsa, "RS256", "rsa-1", changed));
  };
  EXPECT_NE(with("iss", "https://id.example/"), "") << "to the letter";
  EXPECT_NE(with("iss", nullptr), "");
  EXPECT_NE(with("aud", "other"), "");
  EXPECT_NE(with("aud", nullptr), "");
  EXPECT_EQ(with("aud", "tutti"), "");
  EXPECT_NE(with("exp", nullptr), "") << "no token is for ever";
  EXPECT_NE(with("exp", 1'799'999'900), "");
  EXPECT_EQ(with("exp", 1'799'999'990), "") << "within the leeway of the clocks";
  EXPECT_NE(with("exp", "tomorrow"), "");
  EXPECT_EQ(with("exp", 1'800'000'000 + 24 * 3600), "");
  const auto long_lived = with("exp", 1'800'000'000 + 25 * 3600);
  EXPECT_NE(long_lived.find("24 h"), std::string::npos) << long_lived;
  EXPECT_NE(long_lived.find("--oidc-max-lifetime-hours"), std::string::npos) << long_lived;
  EXPECT_NE(with("nbf", 1'800'000'100), "");
  EXPECT_EQ(with("nbf", 1'800'000'010), "");
  EXPECT_NE(with("preferred_username", nullptr), "");
  EXPECT_NE(with("preferred_username", 7), "");
}

TEST_F(Oidc, SignaturesOfOthersAreRefused) {
  const Key stranger = make_key("rsa-1", false);  // the same key id
  EXPECT_NE(refusal(sign(stranger, "RS256", "rsa-1", claims())), "");
  auto jwt = sign(rsa, "RS256", "rsa-1", claims());
  const auto first = jwt.find('.'), second = jwt.rfind('.');
  auto other = claims();
  other["groups"] = json::array{"ops"};
  EXPECT_NE(refusal(jwt.substr(0, first + 1) + base64url(json::serialize(other)) + jwt.substr(second)), "");
  EXPECT_NE(refusal(jwt.substr(0, second + 1)), "") << "no signature";
}

TEST_F(Oidc, UnsignedAndSymmetricTokensAreRefused) {
  const auto body = base64url(json::serialize(claims()));
  EXPECT_NE(refusal(base64url(R"({"alg":"none"})") + "." + body + "."), "");
  EXPECT_NE(refusal(base64url(R"({"alg":"none","kid":"rsa-1"})") + "." + body + ".AAAA"), "");
  // HS256 with the public key as the shared secret: the classic mistake.
  const std::string secret = json::serialize(public_part(rsa));
  cjose_err error{};
  const Key shared(
      cjose_jwk_create_oct_spec(reinterpret_cast<const std::uint8_t*>(secret.data()), secret.size(), &error));
  EXPECT_NE(refusal(sign(shared, "HS256", "rsa-1", claims())), "");
  EXPECT_NE(refusal("eyJ.x.y"), "");
  EXPECT_NE(refusal(""), "");
}

TEST_F(Oidc, AnUnknownKeyIsWorthFetching) {
  const Key rotated = make_key("rsa-2", false);
  const auto jwt = sign(rotated, "RS256", "rsa-2", claims());
  const auto verdict = verifier.verify(jwt, kNow);
  EXPECT_FALSE(verdict.identity);
  EXPECT_TRUE(verdict.refusal.unknown_key);
  publish({&ec, &rotated});
  EXPECT_EQ(refusal(jwt), "");
  EXPECT_NE(refusal(sign(rsa, "RS256", "rsa-1", claims())), "") << "the old key is out";
  auto expired = claims();
  expired["exp"] = 1;
  EXPECT_FALSE(verifier.verify(sign(rotated, "RS256", "rsa-2", expired), kNow).refusal.unknown_key);
}

TEST_F(Oidc, ABrokenKeySetLeavesTheOldKeys) {
  const auto jwt = sign(rsa, "RS256", "rsa-1", claims());
  for (const auto text :
       {"", "{", "[]", "{}", R"({"keys":7})", R"({"keys":[]})", R"({"keys":[{"kty":"oct","k":"AAAA"}]})",
        R"({"keys":[{"kty":"RSA","n":"!!","e":"AQAB"},7]})"})
    EXPECT_FALSE(verifier.set_keys(text)) << text;
  EXPECT_EQ(refusal(jwt), "");
  auto for_encryption = public_part(rsa);
  for_encryption["use"] = "enc";
  EXPECT_FALSE(verifier.set_keys(json::serialize(json::object{{"keys", json::array{for_encryption}}})));
}

TEST(OidcGrant, IsRead) {
  const auto grant = parse_grant("ml-team=nlp:member");
  ASSERT_TRUE(grant);
  EXPECT_EQ(grant->group, "ml-team");
  EXPECT_EQ(grant->project, "nlp");
  EXPECT_EQ(grant->role, Role::member);
  for (const auto wrong : {"", "a", "a=b", "a:b", "=b:member", "a=:member", "a=b:king", "a=b:none"})
    EXPECT_FALSE(parse_grant(wrong)) << wrong;
}

}  // namespace
}  // namespace tutti
