// The files of dist/ as tutti-scheduler serves them, with the same headers, and everything else handed to a real server or to `handler`.
// For tests, screenshots and a look at a build; no part of the product.
import { createReadStream, existsSync, statSync } from "node:fs";
import http from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

export const kPagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";
const kTypes = { ".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".json": "application/json", ".txt": "text/plain; charset=utf-8" };
const dist = fileURLToPath(new URL("../dist", import.meta.url));

export function makeServer({ upstream, handler, folder = dist }) {
  const state = { down: false };
  const sockets = new Set();
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, "http://x");
    const base = { "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin" };
    if (state.down) return void request.socket.destroy();
    if (url.pathname === "/" || url.pathname === "/console") return void response.writeHead(302, { Location: "/console/" }).end();
    if (url.pathname.startsWith("/console/")) {
      const name = normalize(decodeURIComponent(url.pathname.slice(9))).replace(/^(\.\.[/\\])+/, "");
      let path = join(folder, name);
      if (!name || name === "." || !existsSync(path) || !statSync(path).isFile()) {
        if (extname(name) && name.startsWith("assets/")) return void response.writeHead(404, base).end();
        path = join(folder, "index.html");
      }
      const type = kTypes[extname(path)] ?? "application/octet-stream";
      const gzip = existsSync(path + ".gz") && /gzip/.test(request.headers["accept-encoding"] ?? "");
      response.writeHead(200, { ...base, "Content-Type": type, "Cache-Control": name.startsWith("assets/") ? "public, max-age=31536000, immutable" : "no-cache", ...(type.startsWith("text/html") ? { "Content-Security-Policy": kPagePolicy } : {}), ...(gzip ? { "Content-Encoding": "gzip" } : {}) });
      return void createReadStream(gzip ? path + ".gz" : path).pipe(response);
    }
    if (handler) return void handler(request, response, url);
    const target = new URL(upstream);
    const onward = http.request({ host: target.hostname, port: target.port, path: request.url, method: request.method, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
    });
    onward.on("error", () => (response.headersSent ? response.destroy() : response.writeHead(502).end()));
    response.on("close", () => onward.destroy());
    request.pipe(onward);
  });
  server.on("connection", (socket) => {
    if (state.down) return socket.destroy();
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  return {
    listen: (port = 0) => new Promise((done) => server.listen(port, "127.0.0.1", () => done(`http://127.0.0.1:${server.address().port}`))),
    close: () => new Promise((done) => { for (const socket of sockets) socket.destroy(); server.close(done); }),
    /** As if the cable were pulled, and put back. */
    cut() { state.down = true; for (const socket of sockets) socket.destroy(); },
    heal() { state.down = false; },
  };
}
