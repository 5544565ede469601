// Looks at the admin page in Chromium, wide and narrow, light and dark, while a load runs, and prints what is wrong with it.
// node look.mjs URL MODULES CHROMIUM SCREENSHOTS [TOKEN]: MODULES is a folder in which npm has installed package.json.
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, modules, chromium, screenshots, token] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const { launch } = (await import(require.resolve("puppeteer-core"))).default;
const axe = require("axe-core").source;
const faults = [];

/** In CI the first two; CACHEPAGE_LOOKS=4 takes them all. */
const LOOKS = [[1400, "light"], [400, "dark"], [1400, "dark"], [400, "light"]];

/** The text of a tile, and the sum of all requests of the rules. */
const tile = (name) => [...document.querySelectorAll("#tiles dt")].find((term) => term.textContent === name)?.nextSibling.textContent;
const requests = () => [...document.querySelectorAll("#rule-rows tr")].reduce((sum, row) => sum + Number(row.cells[2].textContent.replaceAll(",", "")), 0);

/** The elements that reach beyond the window, or hold more than they show. */
const cut = () => {
  const name = (element) => `${element.tagName.toLowerCase()}#${element.id || element.textContent.slice(0, 30)}`;
  const isCut = (element) => element.getBoundingClientRect().right > innerWidth + 1 ||
    (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== "inline" && element.clientWidth > 0);
  return [...document.querySelectorAll("body *:not(svg *):not(script):not(style)")].filter(isCut).map(name);
};

/** A page of the browser whose errors, and requests elsewhere, are faults. */
async function open(browser, name) {
  const page = await browser.newPage();
  page.on("console", (message) => message.type() === "error" && faults.push(`${name}: console: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`${name}: ${error}`));
  page.on("request", (request) => /^data:/.test(request.url()) || request.url().startsWith(url) || faults.push(`${name}: asks ${request.url()}`));
  return page;
}

async function filled(page) {
  await page.waitForFunction(() => document.querySelectorAll("#hot-rows button").length > 3 && document.querySelector("#chart polygon"));
}

async function lookAt(page, name) {
  await page.goto(url);
  await filled(page);
  const before = await page.evaluate(requests);
  await page.waitForFunction(`(${requests})() > ${before}`);
  const rate = await page.evaluate(tile, "Requests a second");
  if (!(Number(rate?.replaceAll(",", "")) > 0)) faults.push(`${name}: ${rate} requests a second under load`);
  if (!token) {
    const unseen = await page.evaluate(async () => (await (await fetch("/status")).json()).acme.map((one) => `certificate ${one.name}`)
      .filter((text) => !document.querySelector("#part-rows").textContent.includes(text)));
    unseen.forEach((text) => faults.push(`${name}: ${text} is not shown`));
  }
  (await page.evaluate(cut)).forEach((element) => faults.push(`${name}: cut off: ${element}`));
  // Not as a script of the page, whose policy forbids it.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run());
  violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .forEach(({ id, nodes }) => faults.push(`${name}: axe: ${id}: ${nodes.map((node) => node.html).join(" ").slice(0, 300)}`));
  await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true });
}

/** Everything that can be used is reached by Tab, and a page of the list is explained by Enter. */
async function tryKeyboard(page) {
  const reached = new Set();
  const usable = await page.evaluate(() => document.querySelectorAll("button, input").length);
  for (let presses = 0; presses < usable; presses += 1) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.textContent));
  }
  ["page", "url"].filter((wanted) => !reached.has(wanted)).forEach((wanted) => faults.push(`keyboard: ${wanted} is not reached by Tab`));
  await page.focus("#hot-rows button");
  const chosen = await page.evaluate(() => document.activeElement.textContent);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("#explanation dd"));
  const explained = await page.evaluate(() => [document.querySelector("#url").value, document.querySelector("#explanation").textContent]);
  if (explained[0] !== chosen || !explained[1].includes("hit")) faults.push(`keyboard: ${chosen} is explained by ${explained}`);
}

/** Without the token, the page asks for it. */
async function signIn(page) {
  await page.goto(url);
  await page.waitForSelector("#sign-in:not([hidden])");
  await page.type("#token", token);
  await page.keyboard.press("Enter");
  await filled(page);
}

const browser = await launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
try {
  if (token) await signIn(await browser.newPage());
  else {
    for (const [width, scheme] of LOOKS.slice(0, process.env.CACHEPAGE_LOOKS ?? 2)) {
      const name = `${width}-${scheme}`;
      const page = await open(browser, name);
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await lookAt(page, name);
      if (name === "1400-light") await tryKeyboard(page);
      await page.close();
    }
  }
} catch (error) {
  faults.push(String(error));
} finally {
  await browser.close();
}
faults.forEach((fault) => console.log(fault));
process.exitCode = faults.length > 0 ? 1 : 0;
