// Who adds which verbs to the command line: one function per noun. Called by CommandLine.
#pragma once

#include "cli/commands/command_line.h"

namespace tutti::cli {

void add_submit(CommandLine& line);       // submit, sbatch, plan, resubmit
void add_job_lists(CommandLine& line);    // ls, queue
void add_job_views(CommandLine& line);    // show, explain, attempts, checkpoints, events
void add_job_output(CommandLine& line);   // logs, evidence, exec
void add_job_changes(CommandLine& line);  // cancel, hold, release, requeue, update
void add_shares(CommandLine& line);       // queues, projects, reservations, set, unset
void add_nodes(CommandLine& line);        // nodes, gpus, node, faults
void add_cluster(CommandLine& line);      // cluster, version, usage
void add_login(CommandLine& line);        // login, logout, whoami, context, doctor
void add_users(CommandLine& line);        // user, token, join-token, audit
void add_webhooks(CommandLine& line);     // webhook, secret
void add_local(CommandLine& line);        // up, backup, restore, simulate, replay, completion

// Help for the shell: what may stand in place of the last word. One candidate a line, "word<tab>description".
int run_complete(const std::vector<std::string>& words, std::ostream& out);
std::string completion_script(const std::string& shell);
// The manual page, as troff, from the command line itself.
std::string man_page(const CommandLine& line);
// Likewise docs/cli/verbs.md.
std::string reference_page(const CommandLine& line);

}  // namespace tutti::cli
