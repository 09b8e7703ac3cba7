// Flags of the verbs of people and of what goes in and out: login, contexts, users, tokens, audit, webhooks,
// secrets.
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>

#include "cli/access.h"
#include "cli/commands/commands.h"
#include "cli/doctor.h"
#include "cli/login.h"
#include "cli/support_bundle.h"

namespace tutti::cli {
namespace {

const std::vector<std::string> kScopes = {"read", "submit", "operate", "admin"};

void add_dry_run(CLI::App* verb, bool& dry_run) {
  verb->add_flag("--dry-run", dry_run, "show what would be sent");
}

void add_scopes(CLI::App* verb, std::vector<std::string>& scopes, const std::string& usual) {
  repeated(
      verb->add_option("--scopes", scopes, "of read, submit, operate, admin, with commas [" + usual + "]")
          ->delimiter(',')
          ->check(CLI::IsMember(kScopes)));
}

void add_contexts(CommandLine& line) {
  CLI::App* context = line.noun("context", "the servers you work with");
  line.local_verb({"list", "all of them, and which is in use", "context list"}, run_context_list, context);
  const auto o = std::make_shared<ContextSettings>();
  CLI::App* use = line.local_verb(
      {"use", "use another one", "context use lab"},
      [o](const Printer& p) { return run_context_use(p, o->name); }, context);
  use->add_option("context-name", o->name, "its name")->required();
  CLI::App* add = line.local_verb(
      {"add", "make or change one",
       "context add lab --server https://tutti.lab:7443 --token-file ~/lab.token"},
      [o, &line](const Printer& p) {
        o->server = line.globals.connection.server;
        o->token_file = line.globals.connection.token_file;
        o->ca = line.globals.connection.ca;
        return run_context_add(p, *o);
      },
      context);
  add->add_option("context-name", o->name, "its name")->required();
  add->add_option("--user", o->user, "who one is there, for people");
  add->add_option("--project", o->project, "of jobs whose spec names none");
  add->add_flag("--use", o->use, "and use it from now on");
  CLI::App* remove = line.local_verb(
      {"remove", "forget one, and its token", "context remove lab"},
      [o](const Printer& p) { return run_context_remove(p, o->name); }, context);
  remove->add_option("context-name", o->name, "its name")->required();
}

void add_user(CommandLine& line) {
  CLI::App* user = line.noun("user", "people with an account here");
  line.verb({"list", "all of them, and their roles", "user list"}, run_users, user);
  for (const bool create : {true, false}) {
    const auto o = std::make_shared<UserChange>();
    o->create = create;
    const CommandLine::Text text =
        create ? CommandLine::Text{"add", "add one; asks for a password", "user add ann --role nlp=member"}
               : CommandLine::Text{"set", "change roles, password or whether one may come in",
                                   "user set ann --role nlp=operator --role vision=none"};
    CLI::App* verb = line.verb(text, [o](Session& s) { return run_user_change(s, *o); }, user);
    verb->add_option("user", o->name, "name")->required();
    repeated(
        verb->add_option("--role", o->roles, "PROJECT=ROLE, or ROLE for everywhere; none takes it away"));
    verb->add_flag("--password-stdin", o->password_stdin, "read the password from standard input");
    verb->add_flag("--no-password", o->no_password, "tokens and the identity provider only");
    if (!create) {
      verb->add_flag("--password", o->new_password, "ask for a new password");
      verb->add_flag("--disable", o->disable, "may not come in any more");
      verb->add_flag("--enable", o->enable, "may come in again");
    }
    add_dry_run(verb, o->dry_run);
  }
  struct Removal {
    std::string name;
    bool yes = false, dry_run = false;
  };
  const auto r = std::make_shared<Removal>();
  CLI::App* remove = line.verb(
      {"remove", "remove one, with all tokens", "user remove ann"},
      [r](Session& s) { return run_user_remove(s, r->name, r->yes, r->dry_run); }, user);
  remove->add_option("user", r->name, "name")->required();
  remove->add_flag("-y,--yes", r->yes, "do not ask");
  add_dry_run(remove, r->dry_run);
}

struct Ids {
  std::vector<std::string> ids;
  bool dry_run = false;
};

void add_tokens(CommandLine& line) {
  CLI::App* token = line.noun("token", "what programs log in with");
  const auto user = std::make_shared<std::string>();
  CLI::App* list = line.verb(
      {"list", "yours, or those of another user", "token list"},
      [user](Session& s) { return run_tokens(s, *user); }, token);
  list->add_option("--user", *user, "of this user");
  const auto o = std::make_shared<TokenRequest>();
  CLI::App* create = line.verb(
      {"create", "make one; it is shown once, on standard output",
       "token create ci --scopes read,submit --expires-in 90d"},
      [o](Session& s) { return run_token_create(s, *o); }, token);
  create->add_option("token-name", o->name, "what it is for")->required();
  add_scopes(create, o->scopes, "read,submit");
  create->add_option("--expires-in", o->expires_in, "90d, 12h [30d]");
  create->add_option("--user", o->user, "for this user (admins)");
  add_dry_run(create, o->dry_run);
  const auto r = std::make_shared<Ids>();
  CLI::App* revoke = line.verb(
      {"revoke", "make one useless at once", "token revoke 7"},
      [r](Session& s) { return run_token_revoke(s, r->ids, r->dry_run); }, token);
  revoke->add_option("token", r->ids, "ids")->required();
  add_dry_run(revoke, r->dry_run);
}

void add_join_tokens(CommandLine& line) {
  CLI::App* join = line.noun("join-token", "what a new node comes in with, once");
  line.verb({"list", "those that are good", "join-token list"}, run_join_tokens, join);
  const auto o = std::make_shared<JoinTokenRequest>();
  CLI::App* create = line.verb(
      {"create", "make one; it is shown once, on standard output",
       "join-token create --node n7 --expires-in 1h"},
      [o](Session& s) { return run_join_token_create(s, *o); }, join);
  create->add_option("--node", o->node, "for this node only");
  create->add_option("--uses", o->uses, "so many nodes")->check(CLI::Range(1, 100'000));
  create->add_option("--expires-in", o->expires_in, "1h, 30m");
  add_dry_run(create, o->dry_run);
  const auto r = std::make_shared<Ids>();
  CLI::App* revoke = line.verb(
      {"revoke", "make one useless at once", "join-token revoke 3"},
      [r](Session& s) { return run_join_token_revoke(s, r->ids, r->dry_run); }, join);
  revoke->add_option("token", r->ids, "ids")->required();
  add_dry_run(revoke, r->dry_run);
}

void add_audit(CommandLine& line) {
  const auto o = std::make_shared<AuditOptions>();
  CLI::App* audit = line.verb({"audit", "who changed what, and from where", "audit --who ann --since 7d"},
                              [o](Session& s) { return run_audit(s, *o); });
  audit->add_option("--who", o->who, "by this user");
  audit->add_option("--action", o->action, "of this kind: jobs.cancel");
  audit->add_option("--target", o->target, "to this thing: job 12");
  audit->add_option("--since", o->since, "since: 7d, 12h ago, or an instant");
  audit->add_option("-n", o->limit, "at most so many [100]")->check(CLI::Range(1, 100'000));
}

}  // namespace

void add_login(CommandLine& line) {
  const auto o = std::make_shared<LoginOptions>();
  CLI::App* login = line.verb(
      {"login", "log in to a server, and use it from now on", "login https://tutti.lab:7443 --user ann"},
      [o, &line](Session& s) {
        o->context = line.globals.connection.context;
        return run_login(s, *o);
      });
  login->add_option("url", o->server, "of the server [the one in use]");
  login->add_option("--user", o->user, "user name [asked for]");
  login->add_flag("--password-stdin", o->password_stdin, "read the password from standard input");
  login->add_flag("--token-stdin", o->token_stdin, "log in with a token, read from standard input");
  login->add_option("--project", o->project, "of jobs whose spec names none");
  add_scopes(login, o->scopes, "read,submit,operate");
  login->add_option("--expires-in", o->expires_in, "how long the login is good [30d]");
  login->parse_complete_callback(
      [o, &line] { line.connection = [o, &line] { return login_target(line.globals.connection, *o); }; });

  const auto local = std::make_shared<bool>(false);
  CLI::App* logout = line.verb({"logout", "revoke the token of the context in use, and forget it", "logout"},
                               [local](Session& s) { return run_logout(s, *local); });
  logout->add_flag("--local", *local, "only forget it");
  line.verb({"whoami", "who the server takes you for, and what you may do", "whoami"}, run_whoami);
  const auto from_stdin = std::make_shared<bool>(false);
  CLI::App* password = line.verb({"password", "change yours", "password"},
                                 [from_stdin](Session& s) { return run_password(s, *from_stdin); });
  password->add_flag("--password-stdin", *from_stdin,
                     "read the old one and the new one from standard input, one a line");
  add_contexts(line);
  const auto d = std::make_shared<DoctorOptions>();
  CLI::App* doctor =
      line.local_verb({"doctor", "is this client set up, and the cluster well?",
                       "doctor --machine --db \"host=pg1 dbname=tutti\""},
                      [d, &line](const Printer& printer) {
                        return run_doctor(printer, line.globals.connection,
                                          milliseconds_of(std::min(line.globals.timeout, 10.0)), *d);
                      });
  doctor->add_flag("--machine", d->machine, "also this machine: disks, cgroups, file limits, driver");
  doctor->add_option("--db", d->db,
                     "also this PostgreSQL, by psql: the connection string, without its password");
  doctor->add_option("--data", d->data, "of a scheduler on this machine [/var/lib/tutti]");
  doctor->add_option("--state-dir", d->state_dir, "of a worker on this machine [/var/lib/tutti-worker]");
  doctor->add_flag("--json", d->json, "the same as -o json");
  const auto b = std::make_shared<BundleOptions>();
  CLI::App* bundle =
      line.verb({"support-bundle", "all that helps to find out what is wrong, without secrets, as one file",
                 "support-bundle -o support.tar.gz --db \"host=pg1 dbname=tutti\""},
                [b, &line](Session& s) { return run_support_bundle(s, *b, line.globals.connection); });
  bundle->add_option("-o,--file", b->file, "[support-DATE.tar.gz]; - is standard output");
  bundle->add_option("--db", b->doctor.db,
                     "also statistics of this PostgreSQL, by psql: without its password");
  repeated(bundle->add_option("--log", b->logs, "also the end of this file (may be repeated)"));
  repeated(bundle->add_option("--config", b->configs,
                              "this configuration file, without secrets (may be repeated) [those of the "
                              "programs that run here, and /etc/tutti/*.toml]"));
  bundle->add_option("--data", b->doctor.data, "of a scheduler on this machine [/var/lib/tutti]");
  bundle->add_option("--state-dir", b->doctor.state_dir,
                     "of a worker on this machine [/var/lib/tutti-worker]");
  bundle->add_option("--max-mb", b->most_mb, "of all parts together, before they are packed [64]")
      ->check(CLI::Range(1, 1024));
}

void add_users(CommandLine& line) {
  add_user(line);
  add_tokens(line);
  add_join_tokens(line);
  add_audit(line);
}

void add_webhooks(CommandLine& line) {
  CLI::App* webhook = line.noun("webhook", "URLs that are told what happens");
  line.verb({"list", "all of them", "webhook list"}, run_webhooks, webhook);
  const auto o = std::make_shared<WebhookSet>();
  CLI::App* set = line.verb(
      {"set", "make or replace one",
       "webhook set ops --url https://chat.lab/hook --kind slack --events failed,node_dead"},
      [o](Session& s) { return run_webhook_set(s, *o); }, webhook);
  set->add_option("--url", o->url, "where messages go")->required();
  set->add_option("--kind", o->kind, "json or slack [json]")->check(CLI::IsMember({"json", "slack"}));
  repeated(
      set->add_option("--events", o->events, "which, with commas [those that jobs ask for]")->delimiter(','));
  repeated(
      set->add_option("--projects", o->projects, "only of jobs of these, with commas [all]")->delimiter(','));
  repeated(set->add_option("--set", o->set, "another field: enabled=false (may be repeated)"));
  set->add_flag("--secret", o->secret, "ask for the secret that signs its messages [one is made]");
  set->add_flag("--secret-stdin", o->secret_stdin, "read it from standard input");
  CLI::App* show = line.verb(
      {"show", "one of them", "webhook show ops"}, [o](Session& s) { return run_webhook_show(s, o->name); },
      webhook);
  CLI::App* remove = line.verb(
      {"remove", "remove one", "webhook remove ops"},
      [o](Session& s) { return run_webhook_remove(s, o->name, o->dry_run); }, webhook);
  CLI::App* test = line.verb(
      {"test", "send it a test message", "webhook test ops"},
      [o](Session& s) { return run_webhook_test(s, o->name); }, webhook);
  CLI::App* deliveries = line.verb(
      {"deliveries", "what was sent, and how it went", "webhook deliveries ops"},
      [o](Session& s) { return run_webhook_deliveries(s, o->name); }, webhook);
  for (CLI::App* verb : {set, show, remove, test, deliveries})
    verb->add_option("webhook", o->name, "its name")->required();
  for (CLI::App* verb : {set, remove}) add_dry_run(verb, o->dry_run);

  CLI::App* secret = line.noun("secret", "values that jobs get and nobody reads");
  const auto s = std::make_shared<SecretSet>();
  CLI::App* list = line.verb(
      {"list", "their names", "secret list --project nlp"},
      [s](Session& session) { return run_secrets(session, s->project); }, secret);
  CLI::App* put = line.verb(
      {"set", "set one; the value is asked for, or read from standard input",
       "secret set HF_TOKEN --project nlp < token.txt"},
      [s](Session& session) { return run_secret_set(session, *s); }, secret);
  CLI::App* drop = line.verb(
      {"remove", "remove one", "secret remove HF_TOKEN --project nlp"},
      [s](Session& session) { return run_secret_remove(session, *s); }, secret);
  for (CLI::App* verb : {list, put, drop}) verb->add_option("--project", s->project, "whose jobs may use it");
  for (CLI::App* verb : {put, drop}) {
    verb->add_option("secret", s->name, "its name")->required();
    add_dry_run(verb, s->dry_run);
  }
}

}  // namespace tutti::cli
