// tutti(1), from the command line itself: a flag that exists is described, and one that is gone is not.
#include <algorithm>

#include "cli/commands/commands.h"

namespace tutti::cli {
namespace {

// Troff takes backslashes, and dots and quotes at the start of a line, for its own; hyphens of flags must
// stay hyphens.
std::string troff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    line_start = c == '\n';
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
  }
  return out;
}

// UTF-8 beyond ASCII as troff writes it, so that the page does not depend on the reader's locale. Terminals
// without UTF-8 have no ellipsis.
std::string ascii(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
    if (length == 1 || i + length > text.size()) {
      out += text[i++];
      continue;
    }
    unsigned code = byte & (0xFFU >> (length + 1));
    for (std::size_t n = 1; n < length; ++n)
      code = code << 6 | (static_cast<unsigned char>(text[i + n]) & 0x3F);
    char name[16] = "...";
    if (code != 0x2026) std::snprintf(name, sizeof name, "\\[u%04X]", code);
    out += name;
    i += length;
  }
  return out;
}

std::string escaped(std::string_view text) { return ascii(troff(text)); }

std::string flag_line(const CLI::Option& option) {
  std::string names;
  for (const auto& name : option.get_snames())
    names += (names.empty() ? "" : ", ") + ("\\fB" + escaped("-" + name) + "\\fR");
  for (const auto& name : option.get_lnames())
    names += (names.empty() ? "" : ", ") + ("\\fB" + escaped("--" + name) + "\\fR");
  if (names.empty())
    names = "\\fI" + escaped(option.get_name()) + "\\fR";
  else if (option.get_items_expected_max() > 0)
    names += " \\fIVALUE\\fR";
  return ".TP\n" + names + "\n" +
         escaped(option.get_description().empty() ? "See above." : option.get_description()) + "\n";
}

std::string flags_of(const CLI::App& app) {
  std::string out;
  for (const CLI::Option* option : app.get_options())
    // Every verb has --help; it is described once.
    if (app.get_parent() == nullptr || option->get_lnames() != std::vector<std::string>{"help"})
      out += flag_line(*option);
  return out;
}

std::string synopsis(const CLI::App& verb) {
  std::string out = "\\fB" + escaped(full_name(verb)) + "\\fR";
  for (const CLI::Option* option : verb.get_options()) {
    if (!option->get_positional()) continue;
    const std::string name = "\\fI" + escaped(option->get_name(true)) + "\\fR" +
                             (option->get_items_expected_max() > 1 ? " ..." : "");
    out += option->get_required() ? " " + name : " [" + name + "]";
  }
  return out;
}

std::string verb_section(const CLI::App& verb) {
  std::string what = verb.get_description();
  if (!what.empty() && what[0] >= 'a' && what[0] <= 'z') what[0] = static_cast<char>(what[0] - 32);
  std::string out = ".SS " + synopsis(verb) + "\n" + escaped(what) + ".\n" + flags_of(verb);
  std::string example = verb.get_footer();
  if (const auto at = example.find("tutti "); at != std::string::npos)
    out += ".PP\nExample:\n.PP\n.EX\n" + escaped(example.substr(at)) + "\n.EE\n";
  return out;
}

constexpr const char* kTail = R"(.SH EXIT STATUS
.TP
.B 0
Done.
.TP
.B 1
The server refused or failed the request.
.TP
.B 2
The command line, or a file named on it, is wrong.
.TP
.B 3
There is no such job, node or attempt.
.TP
.B 4
Refused by policy: not allowed, over a quota, or no good token.
.TP
.B 5
The server cannot be reached.
.PP
With \fB\-\-wait\fR and \fB\-\-follow\fR it is the job's own, 130 when it was cancelled; with \fBexec\fR that of the program.
.SH ENVIRONMENT
.TP
.B TUTTI_SERVER, TUTTI_TOKEN, TUTTI_CA
The server, the token and the certificates to trust, if no flag says otherwise.
.TP
.B TUTTI_CONTEXT
Name of a context, or a file with server and token.
.TP
.B TUTTI_CONFIG
The file that contexts are kept in.
.TP
.B NO_COLOR
If set, nothing is coloured.
.SH FILES
.TP
.I ~/.config/tutti/config.yaml
The contexts, of which one is in use. Made by \fBtutti login\fR and \fBtutti context add\fR.
.SH SEE ALSO
\fBtutti\-checkpoint\fR(1), \fBtutti\-gpu\-sim\fR(1), \fBtutti\-scheduler\fR(8), \fBtutti\-worker\fR(8)
.PP
The package tutti\-doc: /usr/share/doc/tutti\-doc/README.md
)";

}  // namespace

std::string man_page(const CommandLine& line) {
  std::string out = ".TH TUTTI 1 \"\" \"tutti " + client_version() + "\" \"User Commands\"\n";
  out += ".SH NAME\ntutti \\- jobs for GPU training, all together or not at all\n";
  out += ".SH SYNOPSIS\n.B tutti\n[\\fIFLAGS\\fR] \\fIVERB\\fR [\\fIARGUMENTS\\fR]\n";
  out += ".SH DESCRIPTION\nThe command line of Tutti, a scheduler for distributed GPU training. ";
  out +=
      "A job is named by its number or its name; several may be named at once, and \\- reads them from "
      "standard input.\n";
  out += ".SH FLAGS OF ALL VERBS\n" + flags_of(line.app);
  std::string group;
  for (const CLI::App* verb : verbs_of(line.app)) {
    const CLI::App* top = verb;
    while (top->get_parent() != &line.app) top = top->get_parent();
    if (top->get_group() != group) {
      group = top->get_group();
      std::string title = group;
      for (char& c : title) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
      out += ".SH " + escaped(title) + "\n";
    }
    out += verb_section(*verb);
  }
  return out + kTail;
}

}  // namespace tutti::cli
