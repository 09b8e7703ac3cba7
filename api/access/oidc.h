// Bearer tokens of an identity provider: signed JWTs (RFC 7519) against the provider's keys (JWKS, RFC 7517),
// checked for algorithm, signature, issuer, audience and time. libcjose does the cryptography.
//
// Pure: keys come in as text, the time as an argument. What fetches the keys is scheduler/service/oidc_keys.
// Control thread, not thread-safe.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "api/access/identity.h"
#include "scheduler/model/error.h"
#include "scheduler/model/time.h"

namespace tutti {

struct OidcSettings {
  std::string issuer;    // as in `iss`, to the letter
  std::string audience;  // one of `aud`
  std::string jwks_url;  // "" = as the issuer's discovery document says
  std::string user_claim = "preferred_username";
  std::string roles_claim = "groups";  // a name or a list of names
  struct Grant {
    std::string group, project;
    Role role = Role::none;
  };
  std::vector<Grant> grants;                   // what members of a group may do
  std::string ca_file;                         // "" = the system's
  Duration longest = std::chrono::hours(24);   // that a token may hold; 0 = any
  Duration leeway = std::chrono::seconds(30);  // between our clock and the provider's
  bool on() const { return !issuer.empty(); }
};

/// "ml-team=nlp:member", "ops=*:operator".
Result<OidcSettings::Grant> parse_grant(std::string_view text);

class OidcVerifier {
 public:
  explicit OidcVerifier(OidcSettings settings);
  ~OidcVerifier();

  /// Replaces all keys; keys of kinds we do not know are passed over. An error: the text is no key set, or
  /// holds no key to use, and the old keys stay.
  Result<int> set_keys(std::string_view jwks_json);
  bool has_keys() const { return !keys_.empty(); }

  struct Refusal {
    Error error;
    bool unknown_key = false;  // worth fetching the keys again
  };
  struct Verdict {
    std::optional<Identity> identity;
    Refusal refusal;
  };
  Verdict verify(std::string_view jwt, Instant now) const;

 private:
  struct KeyFree {
    void operator()(void* key) const;
  };
  using Key = std::unique_ptr<void, KeyFree>;
  struct Known {
    std::string algorithm;  // "" = any that fits its kind
    std::string kind;       // RSA, EC
    Key key;
  };

  OidcSettings settings_;
  std::multimap<std::string, Known, std::less<>> keys_;  // by kid
};

/// Three parts of base64url, the first of them a JSON object: worth asking the verifier.
bool looks_like_jwt(std::string_view text);

}  // namespace tutti
