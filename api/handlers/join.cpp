// /v1/join-tokens, POST /v1/nodes:join and /v1/node-credentials: how a machine becomes a node. It joins once
// with a token that an admin made, and has its own credential from then on.
#include <boost/json/array.hpp>

#include "api/accounts/accounts.h"
#include "api/handlers/body.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;
using wire::Path;
using wire::SpecReader;

constexpr Duration kDefaultLife = std::chrono::hours(1);

struct JoinTokenBody {
  std::string node;
  int uses = 1;
  Duration life = kDefaultLife;
};
void read_uses(SpecReader& r, const Path& at, const json::value& v, JoinTokenBody& into) {
  if (const auto n = r.integer(at, v, 1, 10'000)) into.uses = static_cast<int>(*n);
}
void read_life(SpecReader& r, const Path& at, const json::value& v, JoinTokenBody& into) {
  if (const auto d = r.duration(at, v, std::chrono::seconds(10))) into.life = *d;
}
constexpr auto kTokenFields = std::to_array<wire::Field<JoinTokenBody>>({
    {"node", read_text<&JoinTokenBody::node, 128>},
    {"uses", read_uses},
    {"expires_in", read_life},
});

struct JoinBody {
  std::string token, node;
};
constexpr auto kJoinFields = std::to_array<wire::Field<JoinBody>>({
    {"token", read_text<&JoinBody::token, 256>},
    {"node", read_text<&JoinBody::node, 128>},
});

json::object view(const JoinTokenRow& row) {
  return {{"id", row.id},
          {"node", row.node.empty() ? json::value(nullptr) : json::value(row.node)},
          {"uses_left", row.uses_left},
          {"created_at", instant_or_null(row.created_at)},
          {"created_by", row.created_by},
          {"expires_at", instant_or_null(row.expires_at)}};
}
json::object view(const NodeCredentialRow& row) {
  return {{"id", row.id},
          {"node", row.node},
          {"created_at", instant_or_null(row.created_at)},
          {"joined_from", row.joined_from},
          {"revoked_at", instant_or_null(row.revoked_at.value_or(Instant{}))}};
}

std::function<void(const Result<Accounts::Nothing>&)> says(const Answer& answer, std::string_view what) {
  return [answer, what](const Result<Accounts::Nothing>& done) {
    if (!done) return answer.fail(done.error());
    answer.json(200, json::object{{what, true}});
  };
}

void list_join_tokens(const ApiPtr& api, const http::Request&, Answer answer) {
  json::array tokens;
  for (const auto& [id, row] : api->services.accounts->join_tokens()) tokens.push_back(view(row));
  answer.json(200, json::object{{"join_tokens", std::move(tokens)}});
}

void make_join_token(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kTokenFields);
  if (!body) return;
  if (!body->node.empty() && body->uses != 1)
    return answer.fail(bad_field("uses", "a join token for one node has one use", "leave uses or node out"));
  api->services.accounts->make_join_token(
      body->node, body->uses, api->backend.now().wall + body->life, identity_of(request).name,
      [api, answer](const Result<NewSecret>& secret) {
        if (!secret) return answer.fail(secret.error());
        auto out = view(api->services.accounts->join_tokens().find(secret->id)->second);
        out["token"] = secret->text;
        answer.json(201, out);
      });
}

void remove_join_token(const ApiPtr& api, const http::Request& request, Answer answer) {
  api->services.accounts->remove_join_token(request.param("id"), says(answer, "removed"));
}

void join(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto body = read_body(api, request, answer, kJoinFields);
  if (!body) return;
  if (!is_user_name(body->node))
    return answer.fail(bad_field("node", "a node's name has 1 to 128 printable bytes"));
  api->services.accounts->join(
      body->token, body->node, address_of(request),
      [answer, node = body->node](const Result<NewSecret>& secret) {
        if (!secret) return answer.fail(secret.error());
        answer.json(201, json::object{{"node", node}, {"id", secret->id}, {"token", secret->text}});
      });
}

void list_credentials(const ApiPtr& api, const http::Request&, Answer answer) {
  json::array credentials;
  for (const auto& [id, row] : api->services.accounts->node_credentials()) credentials.push_back(view(row));
  answer.json(200, json::object{{"node_credentials", std::move(credentials)}});
}

void revoke_credential(const ApiPtr& api, const http::Request& request, Answer answer) {
  api->services.accounts->revoke_node(request.param("id"), says(answer, "revoked"));
}

}  // namespace

void add_join_routes(const Routes& routes) {
  routes.get("/v1/join-tokens", "join_tokens.list", Need::administer, list_join_tokens);
  routes.post("/v1/join-tokens", "join_tokens.create", Need::administer, make_join_token);
  routes.remove("/v1/join-tokens/{id}", "join_tokens.delete", Need::administer, remove_join_token);
  routes.post("/v1/nodes:join", "nodes.join", Need::nothing, join);
  routes.get("/v1/node-credentials", "node_credentials.list", Need::administer, list_credentials);
  routes.remove("/v1/node-credentials/{id}", "node_credentials.revoke", Need::administer, revoke_credential);
}

}  // namespace tutti::api
