#include "daemon/config.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <stdexcept>

#include "api/wire/spec_reader.h"
#include "daemon/toml_file.h"

namespace tutti::daemon {
namespace {

std::string kind_wanted(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (option.get_expected_min() == 0 || type.starts_with("BOOLEAN")) return "true or false";
  if (type.starts_with("FLOAT") || type.starts_with("INT") || type.starts_with("UINT"))
    return "a number, without quotes";
  return "a string, in quotes";
}

bool of_kind(const CLI::Option& option, TomlKind kind) {
  const std::string wanted = kind_wanted(option);
  switch (kind) {
    case TomlKind::text: return wanted.starts_with("a string");
    case TomlKind::number: return wanted.starts_with("a number");
    case TomlKind::boolean: return wanted.starts_with("true");
  }
  return false;
}

}  // namespace

std::string variable_of(const std::string& program, const std::string& key) {
  std::string name = program + "_" + key;
  for (char& c : name) c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  return name;
}

std::vector<const CLI::Option*> configurable(const CLI::App& app) {
  std::vector<const CLI::Option*> all;
  for (const auto* option : app.get_options())
    if (option->get_configurable() && !option->get_lnames().empty()) all.push_back(option);
  return all;
}

// CLI11 asks for the items of the file after the command line has been read and before the environment is.
class Configuration::File : public CLI::Config {
 public:
  explicit File(Configuration& owner) : owner_(owner) {}

  std::string to_config(const CLI::App* app, bool, bool, std::string) const override {
    return config_page(*app, owner_.program_);
  }

  std::vector<CLI::ConfigItem> from_config(std::istream& in) const override {
    const auto file = owner_.app_.get_config_ptr()->as<std::string>();
    std::vector<CLI::ConfigItem> items;
    try {
      for (auto& entry : read_toml(in, file)) {
        const std::string where = file + ":" + std::to_string(entry.line);
        const CLI::Option& option = find(entry, where);
        const char* variable = std::getenv(option.get_envname().c_str());
        if (!option.get_envname().empty() && variable != nullptr && *variable != '\0') continue;
        if (option.count() > 0 || entry.values.empty()) continue;
        owner_.from_file_[entry.key] = where;
        CLI::ConfigItem item;
        item.name = entry.key;
        item.inputs = std::move(entry.values);
        items.push_back(std::move(item));
      }
    } catch (const std::runtime_error& e) {
      throw CLI::ConversionError(e.what());
    }
    return items;
  }

 private:
  const CLI::Option& find(const TomlEntry& entry, const std::string& where) const {
    const auto options = configurable(owner_.app_);
    for (const auto* option : options) {
      if (option->get_lnames().front() != entry.key) continue;
      if (!of_kind(*option, entry.kind) || (entry.list && option->get_items_expected_max() <= 1))
        throw std::runtime_error(where + ": '" + entry.key + "' must be " + kind_wanted(*option));
      return *option;
    }
    std::vector<std::string_view> names;
    for (const auto* option : options) names.push_back(option->get_lnames().front());
    const auto near = wire::nearest(entry.key, names);
    throw std::runtime_error(where + ": there is no key '" + entry.key + "'" +
                             (near.empty() ? std::string("; --print-config writes all of them")
                                           : "; did you mean '" + std::string(near) + "'?"));
  }
  Configuration& owner_;
};

Configuration::Configuration(CLI::App& app, std::string program) : app_(app), program_(std::move(program)) {
  app.set_config("--config", "",
                 "TOML file whose keys are these flags without --; a flag wins over the environment (" +
                     variable_of(program_, "log-level") + " of --log-level), that over the file");
  app.config_formatter(std::make_shared<File>(*this));
  app.add_flag("--check-config{quick}", check_,
               "says what is wrong with the configuration, and ends: 0 nothing, 1 something that it names, 2 "
               "the configuration itself; =full also asks other machines")
      ->check(CLI::IsMember({"quick", "full"}))
      ->configurable(false);
  app.add_flag_callback(
         "--print-config",
         [this] {
           std::cout << config_page(app_, program_);
           printed_ = true;
           throw CLI::RuntimeError(0);
         },
         "writes all keys as a file for --config, and ends; those that are set stand there uncommented")
      ->configurable(false);
  for (auto* option : app.get_options())
    if (option->get_name() == "--help") option->configurable(false);
}

void Configuration::name_environment() {
  for (const auto* option : configurable(app_)) {
    if (!option->get_envname().empty()) continue;
    auto* mine = app_.get_option("--" + option->get_lnames().front());
    mine->envname(variable_of(program_, option->get_lnames().front()));
    named_.push_back(mine);
  }
}

void Configuration::forget_environment() {
  for (auto* option : named_) option->envname("");
  named_.clear();
}

// CLI11 names the flag; whoever wrote a file wants to know the line.
std::string Configuration::complaint(const CLI::ParseError& error) const {
  std::string text = error.what();
  for (const auto* option : configurable(app_)) {
    const std::string& key = option->get_lnames().front();
    const auto at = text.find("--" + key);
    if (at == std::string::npos) continue;
    const char after = at + key.size() + 2 < text.size() ? text[at + key.size() + 2] : ' ';
    if (after == '-' || std::isalnum(static_cast<unsigned char>(after)) != 0) continue;
    const auto line = from_file_.find(key);
    const std::string variable = variable_of(program_, key);
    if (line != from_file_.end()) return text + " (" + line->second + ")";
    if (option->count() > 0 && std::getenv(variable.c_str()) != nullptr) return text + " (" + variable + ")";
  }
  return text;
}

std::optional<int> Configuration::parse(int argc, const char* const* argv) {
  from_file_.clear();
  name_environment();
  try {
    app_.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    forget_environment();
    if (printed_) return 0;
    if (error.get_exit_code() == 0) return app_.exit(error);
    std::cerr << program_ << ": " << complaint(error) << "\nRun with --help for more information.\n";
    return 2;
  }
}

void Configuration::parse_again(int argc, const char* const* argv) {
  from_file_.clear();
  name_environment();
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    throw std::runtime_error(complaint(error));
  }
}

Configuration::Check Configuration::check() const {
  if (check_.empty()) return Check::none;
  return check_ == "full" ? Check::full : Check::quick;
}

std::map<std::string, std::string> Configuration::values() const {
  std::map<std::string, std::string> all;
  for (const auto* option : configurable(app_)) {
    std::string text;
    for (const auto& value : option->results()) text += (text.empty() ? "" : ",") + value;
    all[option->get_lnames().front()] = option->count() > 0 ? text : option->get_default_str();
  }
  return all;
}

void Findings::look(const std::function<void()>& at) {
  try {
    at();
  } catch (const std::exception& e) {
    problem(e.what());
  }
}

int Findings::finish(const std::string& program) const {
  for (const auto& what : problems_) std::cerr << program << ": " << what << "\n";
  if (problems_.empty()) std::cout << program << ": the configuration is good\n";
  return problems_.empty() ? 0 : 1;
}

std::string first_line_of(const std::string& flag, const std::string& file) {
  std::ifstream in(file);
  std::string line;
  if (!std::getline(in, line) || line.empty())
    throw std::runtime_error(flag + " " + file + ": cannot be read, or is empty");
  return line;
}

void look_at_secret(const std::string& flag, const std::string& file) {
  struct stat found{};
  if (file.empty()) return;
  if (::stat(file.c_str(), &found) != 0)
    throw std::runtime_error(flag + " " + file + ": " + std::strerror(errno));
  if (S_ISREG(found.st_mode) && (found.st_mode & S_IROTH) != 0)
    throw std::runtime_error(flag + " " + file + ": everybody on this machine may read it (chmod o-r)");
}

}  // namespace tutti::daemon
