// Uses the dashboard of a running quickstart in Chromium. Ends with 0 when all is as it should be,
// else says what is not. Pictures of every page are left in $E2E_DIR/shots.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";

const { E2E_DIR: dir, E2E_URL: url, E2E_KEY: key, E2E_CERTCTL: certctl, E2E_DATA: data } = process.env;
const require = createRequire(`${dir}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const shots = `${dir}/shots`;
mkdirSync(shots, { recursive: true });

const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage"],
});

// A visitor with a browser of their own. What the browser complains of is kept in `complaints`.
async function visitor(options = {}) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, ...options });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  const complaints = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
    }
  });
  page.on("pageerror", (error) => complaints.push(`script: ${error}`));
  page.on("requestfailed", (request) => {
    // A page that is left cuts its own requests.
    if (request.failure().errorText !== "net::ERR_ABORTED") {
      complaints.push(`request: ${request.url()} ${request.failure().errorText}`);
    }
  });
  return { context, page, complaints };
}

async function signIn(page, secret) {
  await page.getByLabel("API key").fill(secret);
  const [answer] = await Promise.all([
    page.waitForResponse((r) => r.request().method() === "POST" && r.url().endsWith("/login")),
    page.getByRole("button", { name: "Sign in" }).click(),
  ]);
  return answer;
}

const path = (page) => new URL(page.url()).pathname;

// The page fits its window, no text is cut off, and axe finds nothing.
async function look(page, name) {
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: `${shots}/${name}.png`, fullPage: true });
  const cut = await page.evaluate(() => {
    const wide = document.documentElement;
    const found = [];
    if (wide.scrollWidth > wide.clientWidth) {
      found.push(`the page scrolls sideways: ${wide.scrollWidth} > ${wide.clientWidth}`);
    }
    for (const element of document.body.querySelectorAll("*")) {
      const style = getComputedStyle(element);
      const box = element.getBoundingClientRect();
      // Text for screen readers is one pixel large, the skip link waits outside until it has focus.
      if (box.width <= 1 || box.bottom <= 0 || !element.checkVisibility()) continue;
      const words = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
      const what = () => `<${element.localName}> ${element.textContent.trim().slice(0, 60)}`;
      if (words && (box.right > wide.clientWidth + 1 || box.left < -1)) {
        found.push(`outside the window: ${what()}`);
      }
      const scrolls = ["auto", "scroll"].includes(style.overflowX);
      if (!scrolls && style.overflowX !== "visible" && element.scrollWidth > element.clientWidth + 1) {
        found.push(`cut off: ${what()}`);
      }
    }
    return found;
  });
  assert.deepEqual(cut, [], `${name}: layout`);
  // The page's policy allows no script of ours in the page; the debugger's way is not the page's.
  await page.evaluate(axe);
  const violations = await page.evaluate(async () => {
    const { violations } = await axe.run(document, { resultTypes: ["violations"] });
    return violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html).join(" ")}`);
  });
  assert.deepEqual(violations, [], `${name}: axe`);
}

// What `quickstart` promised is on the page.
async function seesLocalhost(page) {
  const row = page.getByRole("row").filter({ hasText: "localhost" }).filter({ hasText: "local files" });
  await row.waitFor();
  const text = await row.innerText();
  assert.match(text, /\bActive\b/);
  assert.equal(text.match(/confirmed/gi)?.length, 2, `both targets confirmed: ${text}`);
  assert.match(text, /local site/);
}

// A dry run and a test are asked for by their buttons, and what they found comes to the page; `fresh`
// is how a browser without scripts gets it.
async function triesOut(page, fresh) {
  const shows = async (place, what) => {
    const found = page.locator(place, { hasText: what });
    for (let i = 0; fresh && i < 100 && !(await found.count()); i += 1) await fresh();
    await found.first().waitFor();
  };
  await page.getByRole("link", { name: "localhost", exact: true }).click();
  await page.waitForURL("**/certificates/localhost");
  await page.getByRole("heading", { level: 1, name: "localhost" }).waitFor();
  await page.getByRole("button", { name: "Dry run on local site" }).click();
  await shows("article", "is in place already");
  await page.getByRole("navigation").getByRole("link", { name: "Targets" }).click();
  await page.waitForURL("**/targets");
  await page.getByRole("button", { name: "Test local site" }).click();
  await shows("article", "the agent listens on");
  await page.getByRole("navigation").getByRole("link", { name: "Certificates" }).click();
  await page.waitForURL("**/certificates");
}

async function withScript() {
  const { context, page, complaints } = await visitor();
  const landing = await page.goto(`${url}/`);
  assert.equal(landing.status(), 200);
  assert.equal(path(page), "/login", "a stranger is asked to sign in");

  const refused = await signIn(page, "ctl_not-the-key");
  assert.equal(refused.status(), 401);
  await page.getByRole("alert").waitFor();
  assert.equal(path(page), "/login");
  assert.ok(!(await page.content()).includes("ctl_not-the-key"), "the key is never shown");
  assert.deepEqual(await context.cookies(), [], "a wrong key brings no cookie");
  // Chromium writes the refusal itself to its console.
  assert.match(complaints.splice(0).join("\n"), /^error: [^\n]* 401 [^\n]*$/);

  await signIn(page, key);
  await page.waitForURL("**/certificates");
  const [cookie] = await context.cookies();
  assert.ok(cookie.name.startsWith("__Host-") && cookie.secure && cookie.httpOnly, "the cookie is guarded");
  await seesLocalhost(page);

  await page.keyboard.press("Tab");
  const first = await page.evaluate(() => document.activeElement.getAttribute("href"));
  assert.equal(first, "#main", "the first stop of the keyboard skips to the content");

  // The page is kept fresh by itself: a renewal shows without a reload.
  await page.evaluate(() => { window.untouched = true; });
  const serial = execFileSync(certctl, ["--data-dir", data, "certs", "renew", "localhost"], { env: {}, encoding: "utf8" })
    .match(/serial (\w+)/)[1];
  await page.getByText(serial).first().waitFor();
  assert.ok(await page.evaluate(() => window.untouched), "the page was not loaded anew");
  await seesLocalhost(page);

  await triesOut(page);

  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/login");
  await context.addCookies([cookie]);
  await page.goto(`${url}/certificates`);
  assert.equal(path(page), "/login", "a session that was ended stays ended");
  assert.deepEqual(complaints, [], "the browser complains of nothing");
  await context.close();
}

async function withoutScript() {
  const { context, page, complaints } = await visitor({ javaScriptEnabled: false });
  await page.goto(`${url}/certificates`);
  assert.equal(path(page), "/login");
  await signIn(page, key);
  await page.waitForURL("**/certificates");
  await seesLocalhost(page);
  await triesOut(page, () => page.getByRole("link", { name: "Refresh" }).click());
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.waitForURL("**/login");
  await page.goto(`${url}/certificates`);
  assert.equal(path(page), "/login");
  assert.deepEqual(complaints, [], "the browser complains of nothing");
  await context.close();
}

async function everyLook() {
  for (const colorScheme of ["light", "dark"]) {
    for (const width of [1280, 360]) {
      const viewport = { width, height: 800 };
      const { context, page, complaints } = await visitor({ colorScheme, viewport });
      await page.goto(`${url}/login`);
      await look(page, `login-${colorScheme}-${width}`);
      await signIn(page, key);
      await page.waitForURL("**/certificates");
      await seesLocalhost(page);
      await look(page, `certificates-${colorScheme}-${width}`);
      await page.getByRole("link", { name: "Agents" }).click();
      await page.getByText("Online", { exact: true }).last().waitFor();
      await look(page, `agents-${colorScheme}-${width}`);
      await page.getByRole("rowheader").getByRole("link").first().click();
      await page.getByRole("heading", { name: "Open jobs" }).waitFor();
      await look(page, `agent-${colorScheme}-${width}`);
      for (const place of ["certificates/localhost", "certificates/localhost/end", "targets", "backups", "storage"]) {
        await page.goto(`${url}/${place}`);
        await page.getByRole("heading", { level: 1 }).waitFor();
        await look(page, `${place.replaceAll("/", "-")}-${colorScheme}-${width}`);
      }
      assert.deepEqual(complaints, [], "the browser complains of nothing");
      await context.close();
    }
  }
}

try {
  for (const part of [withScript, withoutScript, everyLook]) {
    const begun = performance.now();
    await part();
    console.log(`${part.name}: ${Math.round(performance.now() - begun)} ms`);
  }
} finally {
  await browser.close();
}
