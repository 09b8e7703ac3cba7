// 2,048 nodes of 8 GPUs, 100,000 jobs, ten events a second. Prints what it measures; fails beyond the bounds of docs/console.md.
import { expect, test, type Locator, type Page } from "@playwright/test";
import { makeMock } from "../scripts/mock.mjs";
import { makeServer } from "../scripts/server.mjs";

// The aim is 100 ms; half as much again is left to a browser that draws without a GPU. On a machine that does other things besides: TUTTI_SLACK=3.
const kBound = 150 * Number(process.env["TUTTI_SLACK"] ?? 1);
const round = (ms: number) => `${Math.round(ms)} ms`;
/** The browser's own clock: from each key, click or input to the next picture, and how long the page was blocked meanwhile. */
interface Seen { events: { id: number; ms: number }[]; blocks: number[] }
async function watch(page: Page) {
  await page.evaluate(() => {
    const seen: Seen = { events: [], blocks: [] };
    Object.assign(window, { seen });
    new PerformanceObserver((list) => {
      for (const each of list.getEntries()) seen.events.push({ id: (each as PerformanceEventTiming & { interactionId?: number }).interactionId ?? 0, ms: each.duration });
    }).observe({ type: "event", durationThreshold: 16 } as PerformanceObserverInit);
    new PerformanceObserver((list) => { for (const each of list.getEntries()) seen.blocks.push(each.duration); }).observe({ type: "longtask" });
  });
}
/**
 * Interaction to Next Paint (web.dev/articles/inp): the slowest interaction, one of each 50 left out. `count` is how many there were; those of
 * less than 16 ms are not told by the browser one by one.
 */
function inp(ms: number[], count: number): number {
  return [...ms].sort((a, b) => b - a)[Math.floor(count / 50)] ?? 16;
}
const kAll = new WeakMap<Page, { ms: number[]; count: number }>();
async function take(page: Page, what: string, count: number) {
  await page.waitForTimeout(400);
  const { events, blocks } = await page.evaluate(() => {
    const seen = (window as unknown as { seen: Seen }).seen;
    return { events: seen.events.splice(0), blocks: seen.blocks.splice(0) };
  });
  const longest = new Map<number, number>();
  const others: number[] = []; // a wheel, a pointer that moves: by the definition no interactions
  for (const { id, ms } of events) {
    if (id) longest.set(id, Math.max(ms, longest.get(id) ?? 0));
    else others.push(ms);
  }
  const ms = [...longest.values()];
  const all = kAll.get(page) ?? { ms: [], count: 0 };
  kAll.set(page, all);
  all.ms.push(...ms);
  all.count += count;
  console.log(`${what}${count ? `, ${count} times` : ""}: ${count ? `INP ${round(inp(ms, count))}, slowest ${round(Math.max(16, ...ms))}; ` : ""}${others.length ? `other events at most ${round(Math.max(...others))}; ` : ""}longest block ${blocks.length ? round(Math.max(...blocks)) : "below 50 ms"}`);
}
/** Clicks like a mouse, and waits for the picture: a search for the next element would run in the page, and be measured with it. */
async function tap(page: Page, places: { x: number; y: number }[], times: number) {
  for (let i = 0; i < times; ++i) for (const { x, y } of places) {
    await page.mouse.click(x, y);
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20))));
  }
}
const placeOf = async (each: Locator) => {
  const box = (await each.boundingBox())!;
  return { x: box.x + box.width / 2, y: box.y + box.height / 2 };
};
function expectQuick(page: Page) {
  const { ms, count } = kAll.get(page)!;
  const slowest = Math.max(16, ...ms);
  console.log(`the page, ${count} interactions: INP ${round(inp(ms, count))}, slowest ${round(slowest)}`);
  expect(inp(ms, count), "INP of the page").toBeLessThan(kBound);
  expect(slowest, "the slowest of all").toBeLessThan(2 * kBound);
}

test("the overview of 2,048 nodes × 8 GPUs", async ({ page }) => {
  const server = makeServer({ handler: makeMock() });
  const base = await server.listen();
  await page.goto(base + "/console/");
  await expect(page.getByRole("application")).toBeVisible();
  await page.goto("about:blank");
  await page.goto(base + "/console/"); // files are in the cache, as for everybody but the first time
  await expect(page.getByRole("application")).toBeVisible();
  const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]!.startTime);
  const there = await page.evaluate(() => performance.now());
  console.log(`first paint ${round(paint)}, map of 16,384 GPUs there after ${round(there)}`);
  expect(paint).toBeLessThan(1000);
  await page.waitForTimeout(1500);
  await watch(page);
  const box = (await page.getByRole("application").boundingBox())!;
  const hover = await page.evaluate(() => {
    const canvas = document.querySelector("canvas")!;
    const box = canvas.getBoundingClientRect();
    let most = 0;
    for (let i = 0; i < 400; ++i) {
      const from = performance.now();
      canvas.dispatchEvent(new PointerEvent("pointermove", { bubbles: true, clientX: box.left + (i * 97) % box.width, clientY: box.top + (i * 61) % Math.min(box.height, 500) }));
      void document.body.offsetHeight;
      most = Math.max(most, performance.now() - from);
    }
    return most;
  });
  console.log(`hover over 400 places, at most ${hover.toFixed(1)} ms each with layout`);
  await page.mouse.move(box.x + 30, box.y + 60);
  await expect(page.locator(".tip")).toBeVisible();
  await take(page, "hover", 0);
  await tap(page, [await placeOf(page.getByRole("button", { name: "job", exact: true })), await placeOf(page.getByRole("button", { name: "state", exact: true }))], 25);
  await take(page, "another colouring", 50);
  await page.getByRole("application").focus();
  await page.keyboard.press("Home");
  for (let i = 0; i < 99; ++i) await page.keyboard.press(i % 5 ? "ArrowRight" : "ArrowDown");
  await take(page, "a step by keyboard", 100);
  expect(hover).toBeLessThan(kBound);
  expectQuick(page);
  await server.close();
});

test("the table of 100,000 jobs", async ({ page }) => {
  test.setTimeout(300_000);
  const server = makeServer({ handler: makeMock() });
  const base = await server.listen();
  const from = Date.now();
  await page.goto(base + "/console/jobs");
  await expect(page.getByRole("row").nth(5)).toBeVisible();
  console.log(`first rows there after ${round(Date.now() - from)}`);
  const wrap = page.getByRole("region", { name: "Jobs", exact: true });
  const loaded = async () => Number(((await page.locator(".table-foot").textContent()) ?? "").match(/([\d,]+) loaded/)?.[1]?.replaceAll(",", "") ?? 0);
  await wrap.hover();
  await watch(page);
  for (let i = 0; i < 30; ++i) await page.mouse.wheel(0, 500);
  await take(page, `scrolling at ${await loaded()} rows`, 0);
  const start = Date.now();
  while ((await loaded()) < 100_000 && Date.now() - start < 200_000) {
    await wrap.evaluate((element) => { element.scrollTop = element.scrollHeight; });
    await page.waitForTimeout(30);
  }
  console.log(`all ${await loaded()} rows loaded by scrolling to the end in ${((Date.now() - start) / 1000).toFixed(1)} s`);
  expect(await loaded()).toBe(100_000);
  await take(page, "loading all", 0);
  await wrap.evaluate((element) => { element.scrollTop = element.scrollHeight / 2; });
  await page.waitForTimeout(300);
  await take(page, "a jump into the middle", 0);
  for (let i = 0; i < 30; ++i) await page.mouse.wheel(0, 500);
  await take(page, "scrolling at 100,000 rows", 0);
  await page.evaluate(() => {
    const touched = new Set<Element>();
    Object.assign(window, { touched });
    new MutationObserver((changes) => { for (const change of changes) { const row = (change.target as Element).closest?.("tbody tr"); if (row && !(change.target as Element).closest("time")) touched.add(row); } }).observe(document.querySelector("tbody")!, { subtree: true, attributes: true, childList: true, characterData: true });
  });
  await page.getByRole("checkbox", { name: /^Select \d/ }).nth(3).check();
  expect(await page.evaluate(() => [...(window as unknown as { touched: Set<Element> }).touched].filter((row) => row.getAttribute("aria-selected") !== null).length), "rows that a choice draws anew").toBeLessThanOrEqual(1);
  await page.getByRole("checkbox", { name: /^Select \d/ }).nth(5).check();
  const boxes = [await placeOf(page.getByRole("checkbox", { name: /^Select \d/ }).nth(3)), await placeOf(page.getByRole("checkbox", { name: /^Select \d/ }).nth(5))];
  await tap(page, boxes, 24);
  await take(page, "selecting a row of 100,000", 50);
  await tap(page, [await placeOf(page.getByRole("checkbox", { name: /^Select the first/ }))], 11);
  await take(page, "selecting the first 1,000", 11);
  const states = page.getByLabel("State", { exact: true });
  await states.focus();
  for (let i = 0; i < 6; ++i) {
    await page.keyboard.press(i % 2 ? "ArrowUp" : "ArrowDown");
    await page.waitForTimeout(250);
  }
  await states.selectOption("running");
  await expect(page.getByRole("row").nth(3)).toContainText("running");
  await expect(page.getByText("selected")).toHaveCount(0);
  await take(page, "another filter, by key", 6);
  await page.getByLabel("Part of the name").pressSequentially("n-97");
  await expect(page.getByRole("row").nth(3)).toContainText("train-97");
  await take(page, "searching for a part of the name, by key", 4);
  const rows = await page.locator("tbody tr").count();
  console.log(`${rows} rows in the page`);
  expect(rows).toBeLessThan(120);
  expectQuick(page);
  await server.close();
});
