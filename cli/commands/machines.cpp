// Flags of the verbs of nodes, shares and the cluster as a whole.
#include <CLI/Formatter.hpp>
#include <CLI/Validators.hpp>
#include <boost/json/value_from.hpp>
#include <tuple>

#include "cli/access.h"
#include "cli/commands/commands.h"
#include "cli/report.h"

namespace tutti::cli {
namespace {

// Flags that fill the fields of a settings document.
class Settings {
 public:
  Settings(CLI::App* verb, std::shared_ptr<ShareSet> set) : verb_(verb), set_(std::move(set)) {}

  Settings& text(const char* flag, const char* field, const std::string& help) {
    verb_->add_option_function<std::string>(
        flag, [set = set_, field](const std::string& v) { set->body[field] = v; }, help);
    return *this;
  }
  Settings& number(const char* flag, const char* field, const std::string& help) {
    verb_->add_option_function<double>(
        flag,
        [set = set_, field](double v) {
          const auto whole = static_cast<std::int64_t>(v);
          set->body[field] =
              v == static_cast<double>(whole) ? boost::json::value(whole) : boost::json::value(v);
        },
        help);
    return *this;
  }
  Settings& names(const char* flag, const char* field, const std::string& help) {
    verb_
        ->add_option_function<std::vector<std::string>>(
            flag,
            [set = set_, field](const std::vector<std::string>& v) {
              set->body[field] = boost::json::value_from(v);
            },
            help)
        ->delimiter(',');
    return *this;
  }

 private:
  CLI::App* verb_;
  std::shared_ptr<ShareSet> set_;
};

// `set KIND NAME` and `unset KIND NAME`.
Settings add_share(CommandLine& line, CLI::App* set, CLI::App* unset, const std::string& kind,
                   const std::string& what, const std::string& example) {
  const auto o = std::make_shared<ShareSet>();
  const auto dry_run = std::make_shared<bool>(false);
  o->kind = kind;
  CLI::App* remove = line.verb(
      {kind, "remove a " + kind, "unset " + kind + " " + kind + "-a"},
      [o, dry_run](Session& s) { return run_share_remove(s, o->kind, o->name, *dry_run); }, unset);
  remove->add_option(kind, o->name, "its name")->required();
  remove->add_flag("--dry-run", *dry_run, "show what would be removed");
  CLI::App* sub = line.verb(
      {kind, what, "set " + kind + " " + example},
      [o, dry_run](Session& s) { return run_share_set(s, *o, *dry_run); }, set);
  sub->add_option(kind, o->name, "its name")->required();
  sub->add_flag("--dry-run", *dry_run, "show what would be sent");
  return {sub, o};
}

void add_node_changes(CommandLine& line, CLI::App* node) {
  for (const auto& [word, help, example] :
       std::initializer_list<std::tuple<std::string, const char*, const char*>>{
           {"drain", "let nothing new start there", "node drain n3 --reason \"new cable\" --until +2h"},
           {"resume", "let work start there again: you vouch for it", "node resume n3"},
           {"quarantine", "set it aside as bad", "node quarantine n3 --reason \"falls off the bus\""},
           {"repair", "somebody works on it", "node repair n3 --reason \"ticket 123\""},
           {"return", "back from repair, on probation: gangs of several nodes rather go elsewhere",
            "node return n3 --reason \"board changed\""},
           {"retire", "not to be used again", "node retire n3 --reason \"sold\""},
           {"off", "it has no power, you vouch for it: its work starts elsewhere at once",
            "node off n3 --reason \"rack 7 is dark\""},
           {"report", "say that it is bad", "node report n3 --reason \"twice as slow as the others\""}}) {
    const auto o = std::make_shared<NodeChange>();
    o->verb = word;
    CLI::App* sub =
        line.verb({word, help, example}, [o](Session& s) { return run_node_change(s, *o); }, node);
    sub->add_option("node", o->node, "name")->required();
    sub->add_option("--reason", o->reason, "for whoever finds it later")->required(word != "resume");
    if (word == "drain")
      sub->add_option("--until", o->until, "then it takes work again by itself: an instant or +2h");
    sub->add_flag("--dry-run", o->dry_run, "show what would be changed");
  }
}

}  // namespace

void add_shares(CommandLine& line) {
  for (const auto& [noun, what] :
       {std::pair{"queue", "queues: whose nodes they use, quotas, and who holds what"},
        std::pair{"project", "projects: shares, limits, and who holds what"},
        std::pair{"reservation", "reservations of nodes for a time"}}) {
    const std::string list = std::string(noun) + "s";
    line.verb({list, what, list}, [kind = std::string(noun)](Session& s) { return run_shares(s, kind); });
  }
  CLI::App* set = line.noun("set", "set up a queue, project or reservation");
  CLI::App* unset = line.noun("unset", "remove a queue, project or reservation");
  add_share(line, set, unset, "queue", "create or replace a queue", "h100 --quota 16")
      .text("--nodes-of", "nodes_of", "use the nodes of this queue [its own]")
      .number("--quota", "quota_gpus", "GPUs guaranteed [none: it may use all, and lends nothing]")
      .number("--borrow", "borrow_gpus", "at most so many beyond the quota [all that others lend]")
      .number("--lend", "lend_gpus", "at most so many of the quota to others [all]");
  add_share(line, set, unset, "project", "create or replace a project", "nlp --weight 2 --max-gpus 64")
      .text("--parent", "parent", "the project it is part of")
      .number("--weight", "weight", "share among its siblings [1]")
      .number("--max-gpus", "max_gpus", "held at one time, children included [no limit]");
  add_share(line, set, unset, "reservation", "keep nodes for some projects, or for maintenance",
            "upgrade --nodes n1,n2 --from +2h --until +6h")
      .names("--nodes", "nodes", "names, with commas")
      .names("--projects", "projects", "who may use them, with commas [nobody: maintenance]")
      .text("--from", "from", "an instant, +2h or now [now]")
      .text("--until", "until", "an instant or +2h")
      .text("--reason", "reason", "for people");
}

void add_nodes(CommandLine& line) {
  const auto watch = std::make_shared<bool>(false);
  const auto add_watch = [&](CLI::App* verb) {
    verb->add_flag("-w,--watch", *watch, "draw again whenever something changes");
  };
  add_watch(line.verb({"nodes", "the machines", "nodes -o wide"},
                      [watch](Session& s) { return run_nodes(s, *watch); }));
  add_watch(line.verb({"gpus", "every GPU", "gpus"}, [watch](Session& s) { return run_gpus(s, *watch); }));
  CLI::App* node = line.noun("node", "take a machine out, or back in");
  add_node_changes(line, node);
  const auto i = std::make_shared<InspectOptions>();
  CLI::App* inspect = line.verb(
      {"inspect", "run all its checks now", "node inspect n3"},
      [i](Session& s) { return run_inspect(s, *i); }, node);
  inspect->add_option("node", i->node, "name")->required();
  inspect->add_flag("--last", i->last, "show the last report instead");
  const auto f = std::make_shared<FaultOptions>();
  CLI::App* faults = line.verb({"faults", "the fault ledger", "faults --node n3"},
                               [f](Session& s) { return run_faults(s, *f); });
  faults->add_option("--node", f->node, "of this node");
  faults->add_option("--job", f->job, "that hit this job");
  faults->add_option("-n", f->limit, "the last so many [100]")->check(CLI::Range(1, 10'000));
  faults->add_flag("-w,--watch", f->watch, "draw again whenever something changes");
}

void add_cluster(CommandLine& line) {
  const auto watch = std::make_shared<bool>(false);
  CLI::App* cluster = line.verb({"cluster", "the whole in a few lines", "cluster -w"},
                                [watch](Session& s) { return run_cluster(s, *watch); });
  cluster->add_flag("-w,--watch", *watch, "draw again whenever something changes");
  line.local_verb(
      {"version", "of this program and of the server", "version"}, [&line](const Printer& printer) {
        return run_version(printer, line.globals.connection, milliseconds_of(line.globals.timeout));
      });
  const auto u = std::make_shared<UsageOptions>();
  CLI::App* usage =
      line.verb({"usage", "what was used, by whom", "usage --project nlp --since 30d --group-by user"},
                [u](Session& s) { return run_usage(s, *u); });
  usage->add_option("--project", u->project, "of this project");
  usage->add_option("--user", u->user, "of this user");
  usage->add_option("--since", u->since, "from: 30d, 12h ago, or an instant");
  usage->add_option("--until", u->until, "to [now]");
  usage->add_option("--queue", u->queue, "of this queue");
  repeated(usage
               ->add_option("--group-by", u->group_by,
                            "project, user, queue, day, cause; several with commas [project]")
               ->delimiter(',')
               ->check(CLI::IsMember({"project", "user", "queue", "day", "cause"})));
  const auto r = std::make_shared<ReportOptions>();
  CLI::App* report =
      line.verb({"report", "the operators' report of a day", "report --format markdown -o report.md"},
                [r](Session& s) { return run_report(s, *r); });
  report->add_option("--day", r->day, "YYYY-MM-DD, in UTC [yesterday]");
  report->add_option("--format", r->format, "text, markdown or json [text]; of --projects CSV, or json")
      ->check(CLI::IsMember({"text", "markdown", "json"}));
  report->add_flag("--projects", r->projects, "GPU-hours used and lost by project and user instead");
  report->add_option("--since", r->since, "of --projects, instead of a day: 30d, or an instant");
  report->add_option("--until", r->until, "to [now]");
  report->add_option("-o,--file", r->file, "write it there [standard output]");
}

}  // namespace tutti::cli
