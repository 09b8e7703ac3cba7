#include "scheduler/secrets/secret_vault.h"

#include <algorithm>
#include <new>
#include <optional>
#include <utility>

namespace tutti {
namespace {

/// Of a write: it may have been committed before.
Error trouble(const std::exception_ptr& failure, bool writes) {
  Error e{.code = Errc::internal, .message = "", .hint = "", .field = ""};
  try {
    std::rethrow_exception(failure);
  } catch (const StoreError& error) {
    const bool passes = error.kind == StoreError::unavailable || error.kind == StoreError::in_doubt;
    e.code = passes ? Errc::unavailable : Errc::internal;
    if (writes && error.kind == StoreError::in_doubt) e.code = Errc::in_doubt;
    e.message = std::string("the secrets cannot be reached: ") + error.what();
  } catch (const std::bad_alloc&) {
    e.code = writes ? Errc::in_doubt : Errc::unavailable;
    e.message = writes ? "there was not enough memory for this: it may have happened"
                       : "there was not enough memory for this";
  } catch (const std::exception& error) {
    e.message = error.what();
  }
  return e;
}

Error refusal(Errc code, std::string message, std::string hint = {}) {
  return {.code = code, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

}  // namespace

SecretVault::SecretVault(std::shared_ptr<SecretStore> store, Aside aside, const std::string& master)
    : store_(std::move(store)), aside_(std::move(aside)), box_(std::make_shared<SecretBox>(master)) {}

template <class T>
void SecretVault::ask(std::function<Result<T>(SecretStore&, const SecretBox&)> work, Reply<T> reply,
                      bool writes) {
  auto answer = std::make_shared<std::optional<Result<T>>>();
  aside_(
      [store = store_, box = box_, work = std::move(work), answer] { answer->emplace(work(*store, *box)); },
      [answer, reply = std::move(reply), writes](const std::exception_ptr& failure) {
        if (failure) return reply(trouble(failure, writes));
        reply(std::move(**answer));
      });
}

void SecretVault::list(std::string project, Reply<std::vector<SecretRow>> reply) {
  ask<std::vector<SecretRow>>(
      [project = std::move(project)](SecretStore& store, const SecretBox&) -> Result<std::vector<SecretRow>> {
        return store.list(project);
      },
      std::move(reply));
}

void SecretVault::put(std::string project, std::string name, std::string value, std::string by, Instant at,
                      Reply<SecretRow> reply) {
  ask<SecretRow>(
      [project = std::move(project), name = std::move(name), value = std::move(value), by = std::move(by),
       at](SecretStore& store, const SecretBox& box) -> Result<SecretRow> {
        const auto known = store.list(project);
        if (known.size() >= kMaxSecretsOfProject &&
            std::ranges::find(known, name, &SecretRow::name) == known.end())
          return refusal(Errc::conflict,
                         "project " + project + " has " + std::to_string(known.size()) + " secrets already",
                         "remove those that no job uses any more");
        const auto version = store.put(project, name, box.seal(project, name, value), by, at);
        return SecretRow{project, name, version, by, at};
      },
      std::move(reply), true);
}

void SecretVault::remove(std::string project, std::string name, Reply<bool> reply) {
  ask<bool>([project = std::move(project), name = std::move(name)](
                SecretStore& store, const SecretBox&) -> Result<bool> { return store.remove(project, name); },
            std::move(reply), true);
}

void SecretVault::values(std::string project, std::vector<std::string> names, Reply<Values> reply) {
  ask<Values>(
      [project = std::move(project), names = std::move(names)](SecretStore& store,
                                                               const SecretBox& box) -> Result<Values> {
        const auto sealed = store.fetch(project, names);
        Values out;
        std::size_t bytes = 0;
        for (const auto& name : names) {
          const auto found = sealed.find(name);
          if (found == sealed.end())
            return refusal(Errc::not_found,
                           "secret " + name + " of project " + project + " does not exist any more",
                           "set it again, or submit the job without it");
          auto value = box.open(project, name, found->second);
          if (!value)
            return refusal(
                Errc::not_found,
                "secret " + name + " of project " + project +
                    " cannot be opened: it was sealed with another data/secret than this scheduler's",
                "set it again");
          bytes += value->size();
          if (bytes > kMaxSecretsOfJob)
            return refusal(Errc::too_large, "the secrets of the job have more than " +
                                                std::to_string(kMaxSecretsOfJob) + " bytes together");
          out[name] = *std::move(value);
        }
        return out;
      },
      std::move(reply));
}

}  // namespace tutti
