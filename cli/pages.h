// All pages of a list as one document: what the first one says beside the list holds for all.
#pragma once

#include <boost/json/serialize.hpp>
#include <string>

#include "cli/client.h"
#include "cli/documents.h"

namespace tutti::cli {

inline Document get_pages(Client& client, const std::string& path, const std::string& list) {
  Document all = client.get(path + "?page_size=500");
  std::string token = text_of(as_object(all.tree), "next_page_token");
  if (token.empty()) return all;
  auto& object = all.tree.as_object();
  while (!token.empty()) {
    const Document page = client.get(path + "?page_size=500&page_token=" + token);
    const auto& items = array_of(as_object(page.tree), list);
    for (const auto& item : items) object[list].as_array().push_back(item);
    token = items.empty() ? "" : text_of(as_object(page.tree), "next_page_token");
  }
  object["next_page_token"] = "";
  all.text = boost::json::serialize(all.tree);
  return all;
}

}  // namespace tutti::cli
