// Streams: chunks, events, slow readers, readers that leave.
#include <gtest/gtest.h>

#include <memory>

#include "api/http/sse.h"
#include "test_server.h"

namespace tutti::http::test {
namespace {

using StreamPtr = std::shared_ptr<Stream>;

/// GET /stream and /sse hand their stream to the test.
struct StreamServer {
  explicit StreamServer(StreamOptions options = {}, ServerConfig config = {}, int threads = 1) {
    Router router;
    router.get("/stream", Handler([this, options](Request, Responder responder) {
                 streams.put(responder.stream(200, {{"Content-Type", "text/plain"}}, options));
               }));
    router.get("/sse", Handler([this](Request, Responder responder) { streams.put(responder.sse()); }));
    server = std::make_unique<TestServer>(std::move(router), config, Hooks{}, threads);
  }
  Mailbox<StreamPtr> streams;
  std::unique_ptr<TestServer> server;
};

/// Counts calls of on_close and can be waited for.
std::shared_ptr<Mailbox<int>> watch_close(const StreamPtr& stream) {
  auto closed = std::make_shared<Mailbox<int>>();
  stream->set_on_close([closed] { closed->put(1); });
  return closed;
}

TEST(HttpStreams, ChunksArriveAsTheyAreWritten) {
  StreamServer s;
  auto client = s.server->client();
  EXPECT_EQ(client.open_stream("GET", "/stream").status, 200);
  const auto stream = s.streams.take();
  const auto closed = watch_close(stream);
  for (const std::string part : {"one", "two", "three"}) {
    EXPECT_TRUE(stream->write(part));
    EXPECT_EQ(client.read_chunk(10s), part);
  }
  EXPECT_TRUE(stream->write(""));  // must not end the body
  EXPECT_TRUE(stream->write("last"));
  stream->close();
  EXPECT_FALSE(stream->write("after the end"));
  EXPECT_EQ(client.read_chunk(10s), "last");
  EXPECT_EQ(client.read_chunk(10s), std::nullopt);
  client.close();
  closed->take();
  EXPECT_TRUE(stream->closed());
}

TEST(HttpStreams, EventsAreFramed) {
  StreamServer s;
  auto client = s.server->client();
  const auto head = client.open_stream("GET", "/sse");
  EXPECT_EQ(head.header("Content-Type"), "text/event-stream");
  EXPECT_EQ(head.header("Cache-Control"), "no-store");
  const auto stream = s.streams.take();
  stream->write(sse_event("1", "job", "{\"a\":1}") + sse_comment("x") + sse_event("2", "", "two\nlines"));
  EXPECT_EQ(client.read_event(10s), "id: 1\nevent: job\ndata: {\"a\":1}");
  EXPECT_EQ(client.read_event(10s), "id: 2\ndata: two\ndata: lines");
}

TEST(HttpStreams, HeartbeatIsSentWhileNothingElseIs) {
  StreamOptions options;
  options.heartbeat = 20ms;
  options.heartbeat_text = sse_comment("ping");
  StreamServer s(options);
  auto client = s.server->client();
  client.open_stream("GET", "/stream");
  EXPECT_EQ(client.read_chunk(10s), ": ping\n\n");
  EXPECT_EQ(client.read_chunk(10s), ": ping\n\n");
}

TEST(HttpStreams, SlowReaderIsCutAndMemoryStaysBounded) {
  StreamOptions options;
  options.max_buffer = 256 << 10;
  StreamServer s(options);
  auto socket = s.server->connect();
  socket.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  const auto stream = s.streams.take();
  const auto closed = watch_close(stream);
  // Nobody reads: the kernel's buffers fill, then ours, then the stream is cut. Without the bound this would
  // not end.
  std::size_t accepted = 0;
  const auto until = soon();
  while (stream->write(std::string(16 << 10, 'x')) && std::chrono::steady_clock::now() < until)
    accepted += 16 << 10;
  EXPECT_TRUE(stream->closed());
  closed->take();
  std::string got;
  try {
    got = read_all(socket);
  } catch (const std::runtime_error&) {
    // reset: just as good
  }
  EXPECT_LE(got.size(), accepted + accepted / 100 + 4096);
  EXPECT_FALSE(got.ends_with("0\r\n\r\n")) << "a cut stream must not look complete";
}

TEST(HttpStreams, FastReaderIsNeverCut) {
  StreamServer s({}, {}, 2);
  auto client = s.server->client();
  client.open_stream("GET", "/stream");
  const auto stream = s.streams.take();
  std::size_t got = 0;
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(stream->write(std::string(100'000, 'x')));
    while (got < static_cast<std::size_t>(i + 1) * 100'000) got += client.read_chunk(10s)->size();
  }
  EXPECT_EQ(got, 30'000'000u);
}

TEST(HttpStreams, ReaderThatLeavesIsNoticed) {
  StreamServer s;
  auto client = s.server->client();
  client.open_stream("GET", "/sse");
  const auto stream = s.streams.take();
  const auto closed = watch_close(stream);
  client.close();
  closed->take();
  EXPECT_TRUE(stream->closed());
  EXPECT_FALSE(stream->write("hello?"));
  EXPECT_EQ(closed->size(), 0u) << "on_close comes once";
  const auto again = watch_close(stream);
  again->take();  // set too late: called all the same
}

// A source that is faster than its reader (a log file) writes the next piece when the last one has left.
TEST(HttpStreams, SourceCanWaitUntilThereIsRoom) {
  StreamOptions options;
  options.max_buffer = 64 << 10;
  StreamServer s(options);
  auto client = s.server->client();
  client.open_stream("GET", "/stream");
  const auto stream = s.streams.take();
  auto left = std::make_shared<int>(200);
  auto next = std::make_shared<std::function<void()>>();
  *next = [left, stream, weak = std::weak_ptr(next)] {
    if ((*left)-- == 0) return stream->close();
    stream->write(std::string(60 << 10, 'x'));
    if (const auto self = weak.lock()) stream->when_drained(*self);
  };
  stream->when_drained(*next);  // nothing is waiting: called at once, on the executor
  std::size_t got = 0;
  while (const auto chunk = client.read_chunk(10s)) got += chunk->size();
  EXPECT_EQ(got, 200u * (60 << 10)) << "the buffer holds one piece, so none may come too early";
}

TEST(HttpStreams, LoopThatGoesAwayLeavesNoCycles) {
  auto witness = std::make_shared<int>(0);
  std::weak_ptr<int> alive = witness;
  {
    Loop loop;
    Mailbox<StreamPtr> streams;
    Router router;
    router.get("/stream", Handler([&](Request, Responder responder) { streams.put(responder.sse()); }));
    HttpServer server(loop.context.get_executor(), {}, router);
    server.start();
    HttpClient client("127.0.0.1", server.port());
    client.open_stream("GET", "/stream");
    auto stream = streams.take();
    stream->set_on_close([stream, witness] {});  // owns itself, as handlers do
    witness.reset();
    EXPECT_FALSE(alive.expired());
  }  // the loop stops with the stream open
  EXPECT_TRUE(alive.expired());
}

TEST(HttpStreams, OldVersionGetsTheBodyPlain) {
  StreamServer s;
  auto socket = s.server->connect();
  socket.send("GET /stream HTTP/1.0\r\n\r\n", soon());
  const auto stream = s.streams.take();
  stream->write("plain");
  stream->close();
  const auto answer = read_all(socket);
  EXPECT_TRUE(answer.ends_with("\r\n\r\nplain")) << answer;
  EXPECT_EQ(answer.find("chunked"), std::string::npos);
}

TEST(HttpStreams, HeadOfAStreamEndsAtOnce) {
  StreamServer s;
  auto socket = s.server->connect();
  socket.send("HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  watch_close(s.streams.take())->take();
  EXPECT_TRUE(read_all(socket).ends_with("\r\n\r\n"));
}

TEST(HttpStreams, StopEndsThemProperly) {
  StreamServer s;
  auto client = s.server->client();
  client.open_stream("GET", "/stream");
  const auto stream = s.streams.take();
  stream->write("before");
  std::promise<void> stopped;
  s.server->server().stop([&stopped] { stopped.set_value(); });
  EXPECT_EQ(client.read_chunk(10s), "before");
  EXPECT_EQ(client.read_chunk(10s), std::nullopt);
  client.close();
  EXPECT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
}

TEST(HttpStreams, WritersOnOtherThreadsLoseNothing) {
  StreamServer s({}, {}, 2);
  auto client = s.server->client();
  client.open_stream("GET", "/stream");
  const auto stream = s.streams.take();
  std::vector<std::thread> writers;
  for (int w = 0; w < 4; ++w) {
    writers.emplace_back([&stream, w] {
      for (int i = 0; i < 500; ++i) stream->write(std::string(1, static_cast<char>('a' + w)));
    });
  }
  for (auto& writer : writers) writer.join();
  stream->close();
  std::string body;
  while (const auto chunk = client.read_chunk(10s)) body += *chunk;
  for (int w = 0; w < 4; ++w) EXPECT_EQ(std::count(body.begin(), body.end(), 'a' + w), 500);
}

}  // namespace
}  // namespace tutti::http::test
