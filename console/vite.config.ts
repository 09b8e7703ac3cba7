import { fileURLToPath } from "node:url";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The scheduler serves the pages below /console/ (see API-WANTED.md). In development the API is proxied:
// TUTTI_SERVER=http://127.0.0.1:7070 npm run dev
const server = process.env["TUTTI_SERVER"] ?? "http://127.0.0.1:7070";

export default defineConfig({
  base: "/console/",
  plugins: [react()],
  resolve: { alias: { "@": fileURLToPath(new URL("./src", import.meta.url)) } },
  build: {
    target: ["chrome123", "firefox121", "safari17.5"],
    cssTarget: ["chrome123", "firefox121", "safari17.5"],
    assetsInlineLimit: 0, // nothing inline: the page policy allows our own files only
    modulePreload: { polyfill: false },
    manifest: true,
    chunkSizeWarningLimit: 700,
  },
  server: { proxy: { "/v1": server, "/openapi.json": server, "/readyz": server } },
});
