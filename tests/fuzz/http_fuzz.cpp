// A target and a body through the router, and percent-decoding both ways.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "api/http/router.h"

namespace {
tutti::http::Router make_router() {
  using namespace tutti::http;
  Router router;
  const auto echo = [](const Request& r) { return text(200, r.param("id") + r.body); };
  router.get("/v1/jobs/{id}", echo, "one");
  router.post("/v1/jobs/{id}:cancel", echo, "cancel");
  router.get("/files/{path*}", [](const Request& r) { return text(200, r.param("path")); }, "files");
  return router;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tutti::http;
  static const Router router = make_router();
  const std::string input(reinterpret_cast<const char*>(data), size);
  if (auto decoded = percent_decode(input); decoded && percent_decode(percent_encode(*decoded)) != decoded)
    std::abort();
  bool answered = false;
  router.dispatch(Request::make(size % 2 == 0 ? Method::get : Method::post, "/" + input, input),
                  Responder::to([&](Response r) { answered = r.status >= 200 && r.status < 600; }));
  if (!answered) std::abort();
  return 0;
}
