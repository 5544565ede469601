// Changes a site in Chromium as its editors do, and looks after each change at the pages as a new visitor sees them.
// node editor.mjs URL MODULES CHROMIUM ARTICLE IMPRINT: MODULES is a folder in which npm has installed package.json, the others
// are the keys of two pages in Wagtail's admin.
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, modules, chromium, article, imprint] = process.argv.slice(2);
const { launch } = (await import(createRequire(join(modules, "package.json")).resolve("puppeteer-core"))).default;
const faults = [];
const browser = await launch({ executablePath: chromium, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

const visitor = await browser.newPage();
await visitor.setCacheEnabled(false);

/** A page as a new visitor sees it, who has nothing in the browser's own cache. */
async function visit(path) {
  const answer = await visitor.goto(`${url}${path}`, { waitUntil: "domcontentloaded" });
  const { "x-cache": cache, "cache-status": why } = answer.headers();
  return { status: answer.status(), cache, why, text: await visitor.evaluate(() => document.body.innerText) };
}

/** Visits a page until it comes from the proxy's cache, so that without a purge the next visitor sees it, too. */
async function keep(path) {
  if ((await visit(path)).cache === "HIT") return;
  const { status, cache, why } = await visit(path);
  if (cache !== "HIT") faults.push(`${path}: ${status} ${cache} (${why}) at the second visit`);
}

/** Makes a change while these pages are kept, and compares what visitors see then: each path with its status, cache and text. */
async function changed(name, change, expected) {
  for (const path of Object.keys(expected)) await keep(path);
  await change();
  for (const [path, wanted] of Object.entries(expected)) {
    const { status, cache, why, text } = await visit(path);
    const seen = `${status} ${cache}: ${text}`;
    if (!seen.startsWith(`${wanted.status ?? 200} ${wanted.cache}`) || !seen.includes(wanted.text)) {
      faults.push(`${name}: ${path} is ${JSON.stringify(seen)} (${why}), not ${JSON.stringify(wanted)}`);
    }
  }
}

const editor = await browser.newPage();
editor.on("dialog", (dialog) => dialog.accept());

/** Fills a form of an admin, and presses its button. */
async function submit(path, fields, button) {
  await editor.goto(`${url}${path}`);
  await editor.evaluate((values) => Object.entries(values).forEach(([id, value]) => { document.getElementById(id).value = value; }), fields);
  await Promise.all([editor.waitForNavigation(), editor.$eval(button, (element) => element.click())]);
}

const edit = (page, text, button) => submit(`/admin/pages/${page}/edit/`, { id_text: text }, button);
const PUBLISH = "[name=action-publish]";

/** Has the site do something, as a script of its pages would. */
const post = (path) => editor.evaluate(async (target) => (await fetch(target, { method: "POST" })).status, path);

try {
  await submit("/django-admin/login/?next=/django-admin/", { id_username: "root", id_password: "p" }, "[type=submit]");
  await changed("a draft", () => edit(article, "draft", ".action-save"), { "/article/": { cache: "MISS", text: "first text" } });
  await changed("publish", () => edit(article, "second text", PUBLISH), {
    "/article/": { cache: "MISS", text: "second text" },
    "/imprint/": { cache: "HIT", text: "first text" },
  });
  await changed("publish what names no tags", () => edit(imprint, "third text", PUBLISH), {
    "/imprint/": { cache: "MISS", text: "third text" },
    "/article/": { cache: "HIT", text: "second text" },
  });
  await changed("save in the admin", () => submit("/django-admin/shop/home/1/change/", { id_title: "loft" }, "[name=_save]"), {
    "/api/homes/": { cache: "MISS", text: "loft" },
    "/api/homes/1/": { cache: "MISS", text: "loft" },
    "/api/homes/2/": { cache: "HIT", text: "villa" },
  });
  await changed("bulk update", () => post("/api/raise/"), {
    "/api/homes/": { cache: "MISS", text: "901" },
    "/api/homes/1/": { cache: "MISS", text: "101" },
    "/api/homes/2/": { cache: "MISS", text: "901" },
    "/article/": { cache: "HIT", text: "second text" },
  });
  await changed("rollback", async () => (await post("/api/fail/")) === 500 || faults.push("rollback: it was none"), {
    "/api/homes/": { cache: "HIT", text: "loft" },
    "/api/homes/1/": { cache: "HIT", text: "101" },
  });
  await changed("unpublish", () => submit(`/admin/pages/${article}/unpublish/`, {}, "form[action*=unpublish] [type=submit]"), {
    "/article/": { status: 404, cache: "BYPASS", text: "" },
  });
} catch (error) {
  faults.push(String(error.stack));
} finally {
  await browser.close();
}
faults.forEach((fault) => console.log(fault));
process.exitCode = faults.length > 0 ? 1 : 0;
