// No statement is put together from values: whoever reaches the database sends text that was written here and
// parameters beside it. This reads our own sources and looks at everything that is joined to a piece of SQL,
// and at everything that is given to a function that runs a statement. What is known to be written here as
// well is listed with its reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace tutti {
namespace {

namespace fs = std::filesystem;

struct Token {
  enum class Kind : std::uint8_t {
    text,  // a string literal, without its quotes; neighbours are joined
    word,  // identifier, keyword or number
    sign
  };
  Kind kind;
  std::string value;
  int line;
};

/// Enough of C++: comments, strings (raw ones too), characters, words, signs of one or two characters.
std::vector<Token> tokens_of(const std::string& source) {
  std::vector<Token> out;
  int line = 1;
  const auto is_word = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; };
  const auto add_text = [&](std::string value, int at) {
    if (!out.empty() && out.back().kind == Token::Kind::text)
      out.back().value += value;
    else
      out.push_back({Token::Kind::text, std::move(value), at});
  };
  for (std::size_t i = 0; i < source.size();) {
    const char c = source[i];
    if (c == '\n') ++line;
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      ++i;
    } else if (source.compare(i, 2, "//") == 0) {
      i = std::min(source.find('\n', i), source.size());
    } else if (source.compare(i, 2, "/*") == 0) {
      const auto end = std::min(source.find("*/", i), source.size() - 2);
      line += static_cast<int>(std::count(source.begin() + static_cast<std::ptrdiff_t>(i),
                                          source.begin() + static_cast<std::ptrdiff_t>(end), '\n'));
      i = end + 2;
    } else if (source.compare(i, 2, "R\"") == 0) {
      const auto open = source.find('(', i);
      const auto close = ")" + source.substr(i + 2, open - i - 2) + "\"";
      const auto end = std::min(source.find(close, open), source.size());
      auto value = source.substr(open + 1, end - open - 1);
      const int at = line;
      line += static_cast<int>(std::ranges::count(value, '\n'));
      add_text(std::move(value), at);
      i = end + close.size();
    } else if (c == '"' || c == '\'') {
      if (c == '\'' && i > 0 && std::isdigit(static_cast<unsigned char>(source[i - 1])) != 0) {
        ++i;  // 10'000
        continue;
      }
      std::string value;
      for (++i; i < source.size() && source[i] != c; ++i) {
        if (source[i] == '\\') ++i;
        value += source[i];
      }
      ++i;
      if (c == '"') add_text(std::move(value), line);
    } else if (is_word(c)) {
      std::string value;
      while (i < source.size() && is_word(source[i])) value += source[i++];
      out.push_back({Token::Kind::word, std::move(value), line});
    } else {
      const auto two = source.substr(i, 2);
      const bool pair = two == "+=" || two == "<<" || two == "::" || two == "->";
      out.push_back({Token::Kind::sign, pair ? two : std::string(1, c), line});
      i += pair ? 2 : 1;
    }
  }
  return out;
}

/// The words with which a piece of SQL begins, in capitals; those with a space are followed by a name.
bool is_sql_text(std::string_view text) {
  static constexpr auto kAlone = std::to_array<std::string_view>(
      {"SELECT", "CREATE", "ALTER",     "DROP",        "TRUNCATE",    "LISTEN",     "NOTIFY", "GRANT",
       "REVOKE", "WHERE",  "JOIN",      "ORDER BY",    "GROUP BY",    "HAVING",     "LIMIT",  "OFFSET",
       "VALUES", "UNION",  "RETURNING", "ON CONFLICT", "INSERT INTO", "DELETE FROM"});
  static constexpr auto kWithName =
      std::to_array<std::string_view>({"UPDATE ", "WITH ", "COPY ", "SET ", "AND ", "OR ", "FROM "});
  if (text.ends_with(" = '") || text.ends_with(" IN (")) return true;
  text.remove_prefix(std::min(text.find_first_not_of(" (;"), text.size()));
  const auto is_letter = [&](std::size_t at) {
    return at < text.size() && (std::isalnum(static_cast<unsigned char>(text[at])) != 0 || text[at] == '_');
  };
  for (const auto word : kAlone)
    if (text.starts_with(word) && !is_letter(word.size())) return true;
  for (const auto word : kWithName)
    if (text.starts_with(word) &&
        (is_letter(word.size()) ? std::islower(static_cast<unsigned char>(text[word.size()])) != 0
                                : text.substr(word.size()).starts_with('(')))
      return true;
  return false;
}

bool is_sql(const Token& token) { return token.kind == Token::Kind::text && is_sql_text(token.value); }

struct Allowed {
  const char* file;
  const char* what;  // as tokens, with a space between them
  const char* why;
};
const Allowed kAllowed[] = {
    {"", "std :: to_string ( params . size ( ) )", "the number of a parameter"},
    {"cli/restore.cpp",
     R"-(( aside_ ? std :: string ( "ALTER SCHEMA " ) + kAside + " RENAME TO public" : "CREATE SCHEMA public" ))-",
     "literals"},
    {"db/pg/pg_reader_jobs.cpp", "table", "half() and half_of() get literals"},
    {"db/pg/pg_reader_jobs.cpp", "ended", "half() gets literals"},
    {"db/pg/pg_reader_jobs.cpp", "conditions", "made of literals and numbers of parameters"},
    {"db/pg/pg_reader_jobs.cpp", "tasks", "likewise"},
    {"db/pg/pg_reader_jobs.cpp", "asked . columns", "likewise"},
    {"db/pg/pg_reader_jobs.cpp", "asked . ids", "likewise"},
    {"db/pg/pg_reader_jobs.cpp", "folded ( asked . tasks , asked . columns )", "likewise"},
    {"db/pg/pg_reader_jobs.cpp", "column", "lambda is() gets literals"},
    {"db/pg/pg_reader_jobs.cpp", "numbers", "numbers of an enum"},
    {"db/pg/pg_reader_jobs.cpp", "column_of ( by )", "a literal for each key"},
    {"db/pg/pg_reader_jobs.cpp", "jobs", "part_of() gets literals"},
    {"db/pg/pg_reader_jobs.cpp", "from", "part_of() gets literals and the conditions"},
    {"db/pg/pg_reader_jobs.cpp", "text", "what the lines above it have made"},
    {"db/pg/pg_reader_jobs.cpp", "text . c_str ( )", "what the lines above it have made"},
    {"db/pg/pg_reader_jobs.cpp", "specs", "a literal, or nothing"},
    {"db/pg/pg_reader.cpp", "column_of ( by )", "a literal for each key"},
    {"db/pg/pg_reader.cpp", "conditions_of ( filter , params )", "literals and numbers of parameters"},
    {"db/pg/pg_reader.cpp", "text . c_str ( )", "what the lines above it have made"},
    {"db/pg/pg_history.cpp", "text . c_str ( )", "literals that the lines above it have chosen"},
    {"db/pg/pg_reader_events.cpp", "tail", "both_histories() gets literals and numbers of parameters"},
    {"db/pg/pg_reader_events.cpp", "both_histories ( \"$2\" )", "of a literal"},
    {"db/pg/pg_reader_events.cpp", "visible", "literals and numbers of parameters"},
    {"db/pg/pg_reader_events.cpp", "limit", "both_histories() gets a literal"},
    {"db/pg/pg_reader_events.cpp", "text . c_str ( )", "what the lines above it have made"},
    {"db/pg/pg_usage.cpp", "std :: to_string ( params . size ( ) - 1 )", "the number of a parameter"},
    {"db/pg/pg_usage.cpp", "where", "columns that are literals, numbers of parameters"},
    {"db/pg/pg_usage.cpp", "groups", "columns of kKeys"},
    {"db/pg/pg_usage.cpp", "order", "columns of kKeys"},
    {"db/pg/pg_usage.cpp", "std :: to_string ( kMaxUsageRows + 2 )", "a number of ours"},
    {"db/pg/pg_usage.cpp", "text . c_str ( )", "statement() has made it of the above"},
    {"db/pg/pg_store.cpp", "text . c_str ( )", "sql() gets literals and lists of columns"},
    {"db/pg/pg_reader.cpp", "limit", "a number of milliseconds of ours"},
    {"db/pg/connection.cpp", "s . sql", "a Statement, judged where it is made"},
    {"db/pg/connection.cpp", "statement . sql", "a Statement, judged where it is made"},
    {"db/pg/connection.cpp", "item . statement . sql", "a Statement, judged where it is made"},
    {"db/pg/connection.cpp", "sql . c_str ( )", "run_script, judged where it is called"},
    {"db/pg/pg_store.cpp", "ms ( o . commit_timeout * 8 / 10 )", "a number of milliseconds of ours"},
    {"db/pg/pg_store.cpp", "ms ( o . leader_idle_timeout )", "a number of milliseconds of ours"},
    {"db/pg/pg_store.cpp", "std :: to_string ( options_ . leadership_wait . count ( ) )", "a number of ours"},
    {"db/embedded/embedded_postgres.cpp", "( quoted ? quoted : \"\" )", "PQescapeIdentifier has quoted it"},
    {"db/migrate/migrate.cpp", "m . sql", "a file of sql/migrations, compiled in"},
};

bool is_allowed(const std::string& file, std::string what) {
  constexpr std::string_view kString = "std :: string ( ";
  if (what.starts_with(kString)) what = what.substr(kString.size(), what.size() - kString.size() - 2);
  const bool one_word = what.find_first_of(" .(") == std::string::npos;
  const bool constant =
      what.size() > 1 && what[0] == 'k' && std::isupper(static_cast<unsigned char>(what[1])) != 0;
  if ((one_word && constant) || (what.starts_with('"') && what.ends_with('"'))) return true;
  return std::ranges::any_of(
      kAllowed, [&](const Allowed& a) { return (*a.file == '\0' || file == a.file) && what == a.what; });
}

std::string text_of(const std::vector<Token>& tokens, std::size_t from, std::size_t to) {
  std::string out;
  for (std::size_t i = from; i < to; ++i) {
    if (!out.empty()) out += ' ';
    out += tokens[i].kind == Token::Kind::text ? "\"" + tokens[i].value + "\"" : tokens[i].value;
  }
  return out;
}

bool is(const Token& token, std::string_view sign) {
  return token.kind == Token::Kind::sign && token.value == sign;
}
bool opens(const Token& t) { return is(t, "(") || is(t, "[") || is(t, "{"); }
bool closes(const Token& t) { return is(t, ")") || is(t, "]") || is(t, "}"); }
bool joins(const Token& t) { return is(t, "+") || is(t, "+=") || is(t, "<<"); }
bool ends(const Token& t) {
  return is(t, ",") || is(t, ";") || is(t, "?") || is(t, ":") || is(t, "=") ||
         (t.kind == Token::Kind::word && t.value == "return");
}

/// Where the operand that begins at `from` ends: at a sign that joins, ends, or closes around it.
std::size_t operand_end(const std::vector<Token>& tokens, std::size_t from) {
  int depth = 0;
  for (auto i = from; i < tokens.size(); ++i) {
    if (depth == 0 && (joins(tokens[i]) || ends(tokens[i]) || closes(tokens[i]))) return i;
    if (opens(tokens[i])) ++depth;
    if (closes(tokens[i])) --depth;
  }
  return tokens.size();
}

/// Where the operand that ends before `to` begins.
std::size_t operand_begin(const std::vector<Token>& tokens, std::size_t to) {
  int depth = 0;
  for (auto i = to; i > 0; --i) {
    const auto& t = tokens[i - 1];
    if (depth == 0 && (joins(t) || ends(t) || opens(t))) return i;
    if (closes(t)) ++depth;
    if (opens(t)) --depth;
  }
  return 0;
}

struct Finding {
  std::string file;
  int line;
  std::string what;
};

/// What is joined to a piece of SQL and is not known to be written here.
void find_joined(const std::string& file, const std::vector<Token>& tokens, std::vector<Finding>& out) {
  const auto judge = [&](std::size_t from, std::size_t to) {
    const auto what = text_of(tokens, from, to);
    if (!is_allowed(file, what)) out.push_back({file, tokens[from].line, what});
  };
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (!is_sql(tokens[i])) continue;
    auto from = i, to = i + 1;
    // The literal may stand in std::string("…").
    if (i >= 2 && is(tokens[i - 1], "(") && tokens[i - 2].value == "string" && to < tokens.size() &&
        is(tokens[to], ")")) {
      from = operand_begin(tokens, to + 1);
      ++to;
    }
    while (to < tokens.size() && joins(tokens[to])) {
      const auto end = operand_end(tokens, to + 1);
      judge(to + 1, end);
      to = end;
    }
    while (from > 1 && joins(tokens[from - 1]) && !is(tokens[from - 1], "+=")) {
      const auto begin = operand_begin(tokens, from - 1);
      judge(begin, from - 1);
      from = begin;
    }
  }
}

/// What is run as a statement and is neither a literal nor known to be written here.
void find_run(const std::string& file, const std::vector<Token>& tokens, std::vector<Finding>& out) {
  const auto argument = [&](std::size_t open, int number) {
    auto at = open + 1;
    for (; number > 0 && at < tokens.size(); --number) {
      int depth = 0;
      while (at < tokens.size() && !(depth == 0 && (is(tokens[at], ",") || closes(tokens[at])))) {
        depth += opens(tokens[at]) ? 1 : closes(tokens[at]) ? -1 : 0;
        ++at;
      }
      ++at;
    }
    return at;
  };
  for (std::size_t i = 0; i + 2 < tokens.size(); ++i) {
    const auto& name = tokens[i].value;
    std::size_t at = 0;
    if (tokens[i].kind != Token::Kind::word) continue;
    if ((name == "PQexec" || name == "PQexecParams" || name == "PQsendQuery" ||
         name == "PQsendQueryParams") &&
        is(tokens[i + 1], "("))
      at = argument(i + 1, 1);
    else if ((name == "PQprepare" || name == "PQsendPrepare") && is(tokens[i + 1], "("))
      at = argument(i + 1, 2);
    else if ((name == "exec" || name == "exec0" || name == "exec1" || name == "exec_params" ||
              name == "run_script") &&
             i > 0 && (is(tokens[i - 1], ".") || is(tokens[i - 1], "->")) && is(tokens[i + 1], "("))
      at = argument(i + 1, 0);
    else if (name == "Statement" && is(tokens[i + 1], "{"))
      at = argument(i + 1, 1);
    else if (name == "run" && is(tokens[i + 1], "(") && is(tokens[i + 2], "{"))
      at = argument(i + 2, 1);
    else
      continue;
    const auto end = operand_end(tokens, at);
    const auto what = text_of(tokens, at, end);
    const bool declares = what.starts_with("const ") || what.starts_with("std :: string") || what.empty();
    const bool built = what.starts_with("( std :: string ( \"");  // its operands are judged above
    if (!declares && !built && !is_allowed(file, what)) out.push_back({file, tokens[at].line, what});
  }
}

std::vector<Finding> findings(const std::string& file, const std::string& source) {
  const auto tokens = tokens_of(source);
  std::vector<Finding> out;
  find_joined(file, tokens, out);
  if (file.starts_with("db/")) find_run(file, tokens, out);
  return out;
}

TEST(SqlText, ThisTestFindsWhatItLooksFor) {
  for (const char* bad : {
           R"(run({"", "SELECT a FROM b WHERE c = '" + name + "'"});)",
           R"(tx.exec("DELETE FROM job WHERE name = " + tx.quote(name));)",
           R"(std::string text = std::string("SELECT ") + columns + " FROM job";)",
           R"(text += " AND owner = '" + owner + "'";)",
           R"(text = head + " WHERE id = 1";)",
           R"(out << "SELECT * FROM job WHERE id = " << id;)",
           R"(c.run_script(make_statement(name));)",
           R"(PQexec(c, request.query.c_str());)",
           R"(tx.exec_params(request.body, 1);)",
           R"(run(Statement{"", name.c_str()}, &params);)",
           "auto s = R\"sql(UPDATE job SET a = 1 WHERE b = )sql\" + std::to_string(id);",
       })
    EXPECT_FALSE(findings("db/x.cpp", bad).empty()) << bad;
  for (const char* good : {
           R"(run({"", "SELECT a FROM b WHERE c = $1"});)",
           R"(std::string text = std::string("SELECT ") + kColumns + " FROM job" " WHERE id = $1";)",
           R"(text += " AND owner = $" + std::to_string(params.size()) + "::text";)",
           R"(// tx.exec("SELECT " + name))",
           R"(refuse("job " + name + " is SET to nothing");)",
           R"x(tx.exec_params("INSERT INTO a (b) VALUES ($1)", b);)x",
       })
    EXPECT_TRUE(findings("db/x.cpp", good).empty())
        << good << ": " << findings("db/x.cpp", good).front().what;
}

TEST(SqlText, IsNeverMadeOfValues) {
  const char* root = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(root, nullptr) << "run by ctest";
  int files = 0, statements = 0;
  for (const char* folder : {"api", "cli", "db", "scheduler", "worker", "training"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(root) / folder)) {
      const auto ending = entry.path().extension();
      if (ending != ".cpp" && ending != ".h") continue;
      std::ifstream in(entry.path());
      std::stringstream text;
      text << in.rdbuf();
      const auto file = fs::relative(entry.path(), root).string();
      const auto tokens = tokens_of(text.str());
      // Without a scheduler: a backup, a restore, and whether a configuration's database answers.
      const bool alone = file.starts_with("cli/backup") || file.starts_with("cli/restore") ||
                         file == "scheduler/check_config.cpp";
      if (!file.starts_with("db/") && !alone)
        for (const char* library : {"#include <pqxx", "#include <libpq-fe"})
          EXPECT_EQ(text.str().find(library), std::string::npos)
              << file << ": the database is spoken to in db/ only";
      ++files;
      statements += static_cast<int>(std::ranges::count_if(tokens, is_sql));
      for (const auto& f : findings(file, text.str()))
        ADD_FAILURE() << f.file << ":" << f.line << ": \"" << f.what
                      << "\" becomes part of a statement; make it a parameter ($1), or list it in kAllowed "
                         "with the reason";
    }
  }
  std::cout << "[sql] " << statements << " pieces of SQL in " << files << " files\n";
  EXPECT_GT(statements, 50) << "this test has stopped seeing them";
}

}  // namespace
}  // namespace tutti
