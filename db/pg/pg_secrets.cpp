#include "db/pg/pg_secrets.h"

namespace tutti::db {
namespace {

constexpr Statement kPut{"secret_put", R"(
INSERT INTO secret (project, name, ciphertext, nonce, version, updated_by, updated_at)
VALUES ($1::text, $2::text, decode($3::text, 'hex'), decode($4::text, 'hex'), 1, $5::text, $6::timestamptz)
ON CONFLICT (project, name) DO UPDATE SET ciphertext = excluded.ciphertext, nonce = excluded.nonce,
  version = secret.version + 1, updated_by = excluded.updated_by, updated_at = excluded.updated_at
RETURNING version)"};

constexpr Statement kRemove{
    "secret_remove", "DELETE FROM secret WHERE project = $1::text AND name = $2::text RETURNING version"};

constexpr Statement kList{"secret_list", R"(
SELECT project, name, version, updated_by, updated_at FROM secret
WHERE $1::text = '' OR project = $1::text ORDER BY project COLLATE "C", name COLLATE "C" LIMIT 100000)"};

constexpr Statement kFetch{"secret_fetch", R"(
SELECT name, ciphertext, nonce FROM secret WHERE project = $1::text AND name = ANY($2::text[]))"};

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const char c : bytes) {
    const auto b = static_cast<unsigned char>(c);
    out += kDigits[b >> 4];
    out += kDigits[b & 15];
  }
  return out;
}

}  // namespace

std::int64_t PgSecrets::put(const std::string& project, const std::string& name, const SealedSecret& value,
                            const std::string& by, Instant at) {
  Params params;
  params.text(project).text(name).text(hex(value.ciphertext)).text(hex(value.nonce)).text(by).timestamptz(at);
  const Result result = session_.run(kPut, std::move(params));
  return RowReader(result, 0).bigint();
}

bool PgSecrets::remove(const std::string& project, const std::string& name) {
  Params params;
  params.text(project).text(name);
  return session_.run(kRemove, std::move(params)).rows() > 0;
}

std::vector<SecretRow> PgSecrets::list(const std::string& project) {
  Params params;
  params.text(project);
  const Result result = session_.run(kList, std::move(params));
  std::vector<SecretRow> out;
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    SecretRow s;
    s.project = row.text();
    s.name = row.text();
    s.version = row.bigint();
    s.updated_by = row.text();
    s.updated_at = row.timestamptz();
    out.push_back(std::move(s));
  }
  return out;
}

std::map<std::string, SealedSecret> PgSecrets::fetch(const std::string& project,
                                                     const std::vector<std::string>& names) {
  Params params;
  params.text(project).column(names, [](const std::string& n) -> std::string_view { return n; });
  const Result result = session_.run(kFetch, std::move(params));
  std::map<std::string, SealedSecret> out;
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    std::string name = row.text();
    SealedSecret sealed;
    sealed.ciphertext = std::string(row.bytes());
    sealed.nonce = std::string(row.bytes());
    out.emplace(std::move(name), std::move(sealed));
  }
  return out;
}

}  // namespace tutti::db
