import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: ".",
  outputDir: "../test-results",
  workers: 1,
  fullyParallel: false,
  retries: 1, // real processes on two cores; what needs the second try is named in the report
  timeout: 90_000,
  expect: { timeout: 12_000 },
  reporter: [["list"]],
  use: {
    ...(process.env["CONSOLE_URL"] ? { baseURL: process.env["CONSOLE_URL"] } : {}),
    viewport: { width: 1440, height: 900 },
    launchOptions: { ...(process.env["CHROMIUM"] ? { executablePath: process.env["CHROMIUM"] } : {}), args: ["--no-sandbox", "--disable-dev-shm-usage"] },
    screenshot: "only-on-failure",
    actionTimeout: 12_000,
    timezoneId: "Europe/Berlin",
  },
  projects: [
    { name: "stories", testMatch: ["stories.spec.ts", "a11y.spec.ts"] },
    { name: "scale", testMatch: "scale.spec.ts" },
    { name: "screenshots", testMatch: "screenshots.spec.ts", timeout: 600_000 },
  ],
});
