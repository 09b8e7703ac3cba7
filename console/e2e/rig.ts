// What the browser tests share: people, requests past the browser, signing in, and an ear for broken rules.
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { expect, type Page } from "@playwright/test";

export const need = (name: string) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; start these tests with npm run e2e`);
  return value;
};
export const kPassword = "a long password of tests";

export async function call<T = Record<string, unknown>>(method: string, path: string, body?: unknown, user?: string): Promise<T> {
  const response = await fetch(need("TUTTI_URL") + path, {
    method,
    headers: { Authorization: `Bearer ${need("TUTTI_TOKEN")}`, ...(body !== undefined ? { "Content-Type": "application/json" } : {}), ...(user ? { "Tutti-User": user } : {}) },
    ...(body !== undefined ? { body: JSON.stringify(body) } : {}),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return (text ? JSON.parse(text) : {}) as T;
}
let made = false;
export async function people() {
  if (made) return;
  made = true;
  for (const [name, roles] of Object.entries({ ada: { "*": "admin" }, olga: { "*": "operator" }, max: { nlp: "member" }, vera: { "*": "viewer" } }))
    await call("POST", "/v1/users", { name, password: kPassword, roles }).catch((error: Error) => { if (!error.message.includes(" 409 ")) throw error; });
  for (const [name, weight] of [["nlp", 2], ["vision", 1]] as const) await call("PUT", `/v1/projects/${name}`, { weight, ...(name === "nlp" ? { max_gpus: 64 } : {}) });
}
export const submit = (spec: Record<string, unknown>, user = "ada") => call<{ id: number }>("POST", "/v1/jobs", spec, user);
export async function until(id: number, ...states: string[]) {
  await expect.poll(async () => (await call<{ state: string }>("GET", `/v1/jobs/${id}`)).state, { timeout: 60_000 }).toMatch(new RegExp(`^(${states.join("|")})$`));
}
/** A GPU of a node falls off the bus. */
export const breakGpu = (node: string, gpu: number, xid = 79) =>
  execFileSync(join(need("TUTTI_BIN"), "tutti-gpu-sim"), ["xid", "--state", join(need("TUTTI_DATA"), "nodes", node, "gpu"), "--gpu", String(gpu), "--xid", String(xid)]);

export async function signIn(page: Page, user: string, to = "") {
  await page.goto(`/console/login?to=${encodeURIComponent("/" + to)}`);
  await page.getByLabel("Name").fill(user);
  await page.getByLabel("Password").fill(kPassword);
  await page.getByRole("button", { name: "Sign in" }).click();
  await expect(page.locator(".shell")).toBeVisible();
}
/** Breaches of the page policy and errors that no one caught. */
export function listen(page: Page): string[] {
  const heard: string[] = [];
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/i.test(message.text()) || (message.type() === "error" && !/Failed to load resource|net::ERR|ERR_/.test(message.text()))) heard.push(message.text());
  });
  page.on("pageerror", (error) => heard.push(error.message));
  return heard;
}

/** A training that saves, resumes, reports progress, and ends after `steps` seconds of its own time. */
export const training = (steps: number) => `
step=0
[ -n "$RESUME_CHECKPOINT" ] && step=$(basename "$RESUME_CHECKPOINT" | sed 's/step-//')
echo "rank $RANK begins at step $step"
while [ "$step" -lt ${steps} ]; do
  step=$((step + 1)); sleep 0.5
  echo "step $step loss 0.$((1000 - step))"
  printf '{"step":%d,"total":${steps},"eta_s":%d,"metrics":{"loss":0.%d,"throughput":%d}}' "$step" $(( (${steps} - step) / 2 )) $((1000 - step)) $((900 + step % 7)) > "$TUTTI_PROGRESS_FILE.tmp" && mv "$TUTTI_PROGRESS_FILE.tmp" "$TUTTI_PROGRESS_FILE"
  if [ "\${RANK:-0}" = 0 ] && [ $((step % 6)) = 0 ]; then
    mkdir -p "$CHECKPOINT_DIR/step-$step"
    head -c 4096 /dev/zero > "$CHECKPOINT_DIR/step-$step/shard-0"
    printf '{"step":%d,"time":%d,"shards":1,"bytes":4096,"epoch":%d}' "$step" "$(date +%s)" "$TUTTI_EPOCH" > "$CHECKPOINT_DIR/step-$step/.c" && mv "$CHECKPOINT_DIR/step-$step/.c" "$CHECKPOINT_DIR/step-$step/COMPLETE.json"
  fi
done
echo done`;
